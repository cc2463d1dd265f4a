//! What becomes of the bytes of one container's attach stream, by the phase it is in: kept until
//! it is known who the container is, held until the seam to the `logs` door is found, or passed
//! on as they come.
//!
//! Never waits: the reader of the stream and the flow of the container both come in here.

use std::time::{Duration, SystemTime};

use super::feed::Feed;
use crate::docker::Source;
use crate::docker::frame::{Demux, Piece};
use crate::doors::resume::Tail;
use crate::doors::seam::{Seam, SeamConfig};

/// Most bytes that are held of one container's attach stream, in any phase. A busy container
/// fills it in about 0.1 s; then the attach is let go of, and the daemon's files serve as buffer.
pub const HELD_MAX: usize = 8 * 1024 * 1024;

/// Where a container's attach bytes go.
pub struct Intake {
    /// The way of the lines.
    pub feed: Feed,
    /// The end of what was delivered, by which a later attach finds its place in the log.
    pub tails: [Tail; 2],
    phase: Phase,
    /// Which attach this is about: the reader of an earlier one may still be at its end.
    attach: u64,
    ended: Option<Ended>,
    complaint: Option<String>,
}

enum Phase {
    /// No attach, or its bytes are of no use.
    Closed,
    /// Attached; not known yet whether there are frames.
    Unknown(Vec<u8>),
    /// Attached; the place where it begins is being looked for. `true`: a terminal.
    Joining(Demux, Box<Seam>, bool),
    /// Attached, and everything before is delivered.
    Live(Demux),
}

/// How an attach stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The daemon ended it, or the connection broke: what that means, inspect knows.
    Eof,
    /// More came than may be held.
    Full,
    /// It made no sense; what was said of it.
    Corrupt(String),
}

impl Intake {
    /// An intake without a stream.
    pub fn new(feed: Feed) -> Intake {
        Intake {
            feed,
            tails: Default::default(),
            phase: Phase::Closed,
            attach: 0,
            ended: None,
            complaint: None,
        }
    }

    /// An attach is in place; its bytes come under the number that is returned. A seam that was
    /// being looked for goes on with it: see [`Seam::renew`].
    pub fn opened(&mut self) -> u64 {
        match &mut self.phase {
            Phase::Joining(frames, _, tty) => *frames = demux(*tty),
            phase => *phase = Phase::Unknown(Vec::new()),
        }
        self.ended = None;
        self.attach += 1;
        self.attach
    }

    /// The attach is let go of; what it held is not wanted.
    pub fn let_go(&mut self) {
        self.phase = Phase::Closed;
        self.attach += 1;
    }

    /// Bytes of attach number `attach`, read at `now`; `false` if no more of them are wanted.
    #[inline]
    pub fn take(&mut self, attach: u64, bytes: &[u8], now: SystemTime) -> bool {
        if attach != self.attach {
            return false;
        }
        let taken = self.take_current(bytes, now);
        if let Err(ended) = taken {
            self.ended = Some(ended);
            return false;
        }
        true
    }

    #[inline]
    fn take_current(&mut self, bytes: &[u8], now: SystemTime) -> Result<(), Ended> {
        if let Phase::Live(demux) = &mut self.phase {
            let taken = self.feed.read(demux, bytes, now, &mut self.tails, &mut self.complaint);
            return taken.map_err(|corrupt| Ended::Corrupt(corrupt.to_string()));
        }
        self.hold(bytes, nanos(now))
    }

    fn hold(&mut self, bytes: &[u8], now: u64) -> Result<(), Ended> {
        match &mut self.phase {
            // Nobody waits for them any more.
            Phase::Closed | Phase::Live(_) => Err(Ended::Eof),
            Phase::Unknown(held) => {
                if held.len() + bytes.len() > HELD_MAX {
                    return Err(Ended::Full);
                }
                held.extend_from_slice(bytes);
                Ok(())
            }
            Phase::Joining(demux, seam, _) => {
                hold_in_seam(demux, seam, bytes, now, &mut self.complaint)
            }
        }
    }

    /// Attach number `attach` has ended.
    pub fn end(&mut self, attach: u64) {
        if attach == self.attach {
            self.ended.get_or_insert(Ended::Eof);
        }
    }

    /// Whether bytes go their way as they come.
    pub fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Live(_))
    }

    /// Whether an attach is in place that has brought nothing yet, nor ended.
    pub fn is_silent(&self) -> bool {
        self.ended.is_none() && matches!(&self.phase, Phase::Unknown(held) if held.is_empty())
    }

    /// Whether what is held begins like a frame: the best guess where nobody knows any more.
    pub fn looks_framed(&self) -> bool {
        matches!(&self.phase, Phase::Unknown(held) if matches!(held[..], [0..=3, 0, 0, 0, ..]))
    }

    /// The container has ended: an unterminated last line is a line.
    pub fn finish(&mut self) {
        self.feed.finish();
    }

    /// How the attach stream ended, if it has.
    pub fn ended(&self) -> Option<&Ended> {
        self.ended.as_ref()
    }

    /// What the daemon said of itself on the stream, once.
    pub fn take_complaint(&mut self) -> Option<String> {
        self.complaint.take()
    }

    /// Everything that came before the attach is delivered, or not wanted: go live.
    pub fn go_live(&mut self, tty: bool) {
        let Phase::Unknown(held) = &mut self.phase else { return };
        let held = std::mem::take(held);
        self.phase = Phase::Live(demux(tty));
        if let Err(ended) = self.take_current(&held, SystemTime::now()) {
            self.ended = Some(ended);
        }
    }

    /// What the log has is to be delivered first: hold what comes, and look for the seam.
    pub fn join(&mut self, tty: bool, config: SeamConfig) {
        let now = nanos(SystemTime::now());
        let held = match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Unknown(held) => held,
            _ => Vec::new(),
        };
        let (mut demux, mut seam) = (demux(tty), Box::new(Seam::new(config)));
        match hold_in_seam(&mut demux, &mut seam, &held, now, &mut self.complaint) {
            Ok(()) => self.phase = Phase::Joining(demux, seam, tty),
            Err(ended) => self.ended = Some(ended),
        }
    }

    /// The seam that is being looked for.
    pub fn seam(&mut self) -> Option<&mut Seam> {
        match &mut self.phase {
            Phase::Joining(_, seam, _) => Some(seam),
            _ => None,
        }
    }

    /// The seam was found: deliver what the log has not, and go live.
    pub fn joined(&mut self, now: SystemTime) {
        match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Joining(demux, seam, _) => {
                self.phase = Phase::Live(demux);
                for source in Source::ALL {
                    let rest = seam.rest(source);
                    if rest.newline_first {
                        self.deliver(source, b"\n", nanos(now));
                    }
                    self.deliver(source, rest.bytes, nanos(now));
                }
            }
            other => self.phase = other,
        }
    }

    /// There is no log to join: deliver all that is held, and go live.
    pub fn skip_seam(&mut self, now: SystemTime) {
        if let Phase::Joining(demux, seam, _) = std::mem::replace(&mut self.phase, Phase::Closed) {
            self.phase = Phase::Live(demux);
            for source in Source::ALL {
                self.deliver(source, seam.held_bytes(source), nanos(now));
            }
        }
    }

    /// Bytes of one source, with their time (nanoseconds since 1970).
    pub fn deliver(&mut self, source: Source, bytes: &[u8], at: u64) {
        self.tails[source as usize].note(bytes, at);
        self.feed.write_at(source, bytes, at);
    }
}

fn hold_in_seam(
    demux: &mut Demux,
    seam: &mut Seam,
    bytes: &[u8],
    now: u64,
    complaint: &mut Option<String>,
) -> Result<(), Ended> {
    let mut full = false;
    let pushed = demux.push(bytes, |piece| match piece {
        Piece::Output { source, bytes, .. } => full |= seam.attach(source, bytes, now).is_err(),
        Piece::SystemError { bytes, .. } => note(complaint, bytes),
    });
    match pushed {
        Ok(()) if full => Err(Ended::Full),
        Ok(()) => Ok(()),
        Err(corrupt) => Err(Ended::Corrupt(corrupt.to_string())),
    }
}

/// Keeps what the daemon says of itself (frame type 3), as far as a message needs it.
pub fn note(complaint: &mut Option<String>, text: &[u8]) {
    const ENOUGH: usize = 500;
    let said = complaint.get_or_insert_default();
    if said.len() < ENOUGH {
        said.extend(String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).take(ENOUGH));
    }
}

fn demux(tty: bool) -> Demux {
    if tty { Demux::tty() } else { Demux::framed() }
}

/// Nanoseconds since 1970.
pub fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
