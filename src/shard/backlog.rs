//! Reads the `logs` door: from the body of its answer to messages with their times.
//!
//! Pure. A message is one frame of the answer; a terminal's log has no frames and is split by its
//! times ([`TtyLogs`]).

use crate::docker::Source;
use crate::docker::frame::{Corrupt, Demux, Piece};
use crate::docker::logs::{TtyLogs, parse_message};

use super::intake::note;

/// Of a terminal's message that never ends, at most so much is kept back.
const CARRY_MAX: usize = 64 * 1024;

/// No engine's message is longer than a few tens of KiB; what claims to be goes on in parts.
const MESSAGE_MAX: usize = 1024 * 1024;

/// One pass over a container's log.
pub struct Backlog {
    form: Form,
    /// What the daemon said of itself in between.
    pub complaint: Option<String>,
    /// Messages without a time of their own; they get the time of the one before.
    pub untimed: u64,
    last: u64,
}

enum Form {
    /// Beside the demultiplexer the message that is cut by the end of what was read.
    Framed(Demux, Vec<u8>),
    /// Beside the splitter the message that it has given the pieces of.
    Tty(TtyLogs, Vec<u8>),
}

impl Backlog {
    /// A pass over the log of a container with or without a terminal.
    pub fn new(tty: bool) -> Backlog {
        let form = match tty {
            true => Form::Tty(TtyLogs::default(), Vec::new()),
            false => Form::Framed(Demux::framed(), Vec::new()),
        };
        Backlog { form, complaint: None, untimed: 0, last: 0 }
    }

    /// Bytes of the answer's body; calls `each` with every message that they complete: its
    /// source, its time in nanoseconds since 1970, its bytes.
    ///
    /// # Errors
    /// A frame header that is none.
    pub fn push(
        &mut self,
        bytes: &[u8],
        each: &mut impl FnMut(Source, u64, &[u8]),
    ) -> Result<(), Corrupt> {
        let (complaint, untimed, last) = (&mut self.complaint, &mut self.untimed, &mut self.last);
        let mut message = |source: Source, whole: &[u8]| {
            let (nanos, content) = parse_message(whole).unwrap_or_else(|| {
                *untimed += 1;
                (*last, whole)
            });
            *last = nanos;
            each(source, nanos, content);
        };
        match &mut self.form {
            Form::Framed(demux, carry) => demux.push(bytes, |piece| match piece {
                Piece::Output { source, bytes, frame_end: true } if carry.is_empty() => {
                    message(source, bytes);
                }
                Piece::Output { source, bytes, frame_end } => {
                    carry.extend_from_slice(bytes);
                    if frame_end || carry.len() > MESSAGE_MAX {
                        message(source, carry);
                        carry.clear();
                    }
                }
                Piece::SystemError { bytes, .. } => note(complaint, bytes),
            }),
            Form::Tty(splitter, carry) => {
                splitter.push(bytes, |piece| {
                    if piece.first && !carry.is_empty() {
                        each(Source::Stdout, *last, carry);
                        carry.clear();
                    }
                    *untimed += u64::from(piece.first && piece.nanos.is_none());
                    *last = piece.nanos.unwrap_or(*last);
                    carry.extend_from_slice(piece.content);
                    if piece.content.last() == Some(&b'\n') || carry.len() > CARRY_MAX {
                        each(Source::Stdout, *last, carry);
                        carry.clear();
                    }
                });
                Ok(())
            }
        }
    }

    /// The answer has ended: a message that a terminal left without a newline is one.
    pub fn finish(&mut self, each: &mut impl FnMut(Source, u64, &[u8])) {
        if let Form::Tty(splitter, carry) = &mut self.form {
            splitter.finish(|piece| carry.extend_from_slice(piece.content));
            if !carry.is_empty() {
                each(Source::Stdout, self.last, carry);
                carry.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame that claims to have 4 GiB is not kept whole.
    #[test]
    fn an_endless_message_goes_on_in_parts() {
        let mut log = Backlog::new(false);
        let (mut parts, mut bytes) = (0, 0);
        let mut each = |_: Source, _: u64, part: &[u8]| {
            parts += 1;
            bytes += part.len();
        };
        log.push(&[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], &mut each).unwrap();
        log.push(b"2024-05-06T07:08:09.123456789Z begins ", &mut each).unwrap();
        for _ in 0..100 {
            log.push(&[b'x'; 64 * 1024], &mut each).unwrap();
        }
        let Form::Framed(_, carry) = &log.form else { panic!("framed") };
        assert!(carry.capacity() < 4 * MESSAGE_MAX, "{}", carry.capacity());
        let carried = carry.len();
        assert_eq!(bytes + carried, 100 * 64 * 1024 + "begins ".len());
        assert!(parts > 4, "{parts}");
    }
}
