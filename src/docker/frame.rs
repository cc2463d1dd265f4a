//! Demultiplexes the stream of the attach and logs doors: bytes in, views of payloads out.
//!
//! Pure, no copy, no allocation: a frame may be as long as its length field can say and be cut
//! anywhere, since a payload is never held, only handed out as far as it is there. The one thing
//! that is carried from input to input is the begin of a cut header, at most 7 bytes.
//!
//! The oracle that unit tests, property tests and the fuzz target `demux` compare with is in
//! `naive`; it exists in test and fuzz builds only (`--cfg fuzzing`, which cargo-fuzz sets too).

use std::fmt;

use super::Source;

/// Bytes of a frame header: type, three zero bytes, length of the payload (32 bit, big endian).
pub const HEADER: usize = 8;

/// A view of a payload, or of the part of it that the input holds.
///
/// Every frame ends with exactly one piece whose `frame_end` is true; a frame without payload is
/// one such piece with no bytes. All other pieces have bytes. A TTY's stream has no frames, so
/// there `frame_end` is always false.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// What the container wrote.
    Output {
        /// Which of its outputs it wrote to.
        source: Source,
        /// The bytes, verbatim.
        bytes: &'a [u8],
        /// Whether the frame ends here.
        frame_end: bool,
    },
    /// What the daemon says about this stream (type 3, "systemerr"): never a line of the container.
    SystemError {
        /// The daemon's text, or a part of it.
        bytes: &'a [u8],
        /// Whether the frame ends here.
        frame_end: bool,
    },
}

/// A header that no engine writes: its type is above 3, or its padding is not zero.
///
/// Where it stands there is no next frame to be found: the stream has to be opened anew. A likely
/// cause is a stream without headers (a TTY's) that is read as if it had them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt {
    /// The eight bytes that stand where a header should.
    pub header: [u8; HEADER],
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("corrupt frame header")?;
        for byte in self.header {
            write!(f, " {byte:02x}")?;
        }
        f.write_str(": expected a type of 00-03, then 00 00 00 and a length")
    }
}

impl std::error::Error for Corrupt {}

/// The demultiplexer of one attach or logs stream.
#[derive(Clone, Debug)]
pub struct Demux {
    state: State,
}

/// What the next byte of input is.
#[derive(Clone, Debug)]
enum State {
    /// Output of a TTY: there are no headers.
    Tty,
    /// Byte `have` of a header, the first of which are in `header`; `have < HEADER`.
    Header { header: [u8; HEADER], have: usize },
    /// A byte of a payload of which `left` bytes are to come; `left > 0`.
    Payload { channel: Channel, left: u32 },
    /// Nothing that could be understood.
    Broken(Corrupt),
}

const BETWEEN_FRAMES: State = State::Header { header: [0; HEADER], have: 0 };

/// The type field of a header.
#[derive(Clone, Copy, Debug)]
enum Channel {
    Output(Source),
    SystemError,
}

impl Channel {
    #[inline]
    fn piece(self, bytes: &[u8], frame_end: bool) -> Piece<'_> {
        match self {
            Channel::Output(source) => Piece::Output { source, bytes, frame_end },
            Channel::SystemError => Piece::SystemError { bytes, frame_end },
        }
    }
}

impl Demux {
    /// For a stream of frames: both doors of a container without a TTY.
    pub fn framed() -> Demux {
        Demux { state: BETWEEN_FRAMES }
    }

    /// For a stream without headers: both doors of a container with a TTY (`Config.Tty`; the
    /// Content-Type does not tell). All of it is standard output.
    pub fn tty() -> Demux {
        Demux { state: State::Tty }
    }

    /// The payloads that `input`, the next bytes of the stream, holds, in their order. They are to
    /// be taken to the end, [`Pieces::finish`] included: what is not taken is lost.
    #[inline]
    pub fn pieces<'d, 'a>(&'d mut self, input: &'a [u8]) -> Pieces<'d, 'a> {
        let mut pieces = Pieces { demux: self, rest: input, first: None };
        if !matches!(pieces.demux.state, State::Header { have: 0, .. }) {
            pieces.resume();
        }
        pieces
    }

    /// Hands out the payloads of [`Demux::pieces`].
    ///
    /// # Errors
    /// See [`Pieces::finish`].
    pub fn push<'a>(
        &mut self,
        input: &'a [u8],
        mut each: impl FnMut(Piece<'a>),
    ) -> Result<(), Corrupt> {
        let mut pieces = self.pieces(input);
        while let Some(piece) = pieces.next() {
            each(piece);
        }
        pieces.finish()
    }

    /// Whether the stream may end here: not inside a frame, and always true for a TTY's.
    pub fn is_between_frames(&self) -> bool {
        match self.state {
            State::Tty | State::Header { have: 0, .. } => true,
            State::Header { .. } | State::Payload { .. } | State::Broken(_) => false,
        }
    }

    /// As [`parse`]; what is no header breaks the stream.
    fn parse(&mut self, header: &[u8; HEADER]) -> Option<(Channel, u32)> {
        let parsed = parse(header);
        if parsed.is_none() {
            self.state = State::Broken(Corrupt { header: *header });
        }
        parsed
    }
}

/// What one input holds of a stream; see [`Demux::pieces`].
#[derive(Debug)]
pub struct Pieces<'d, 'a> {
    demux: &'d mut Demux,
    /// What follows `first`. Unless it is empty it begins with a header, and the state is
    /// `BETWEEN_FRAMES`.
    rest: &'a [u8],
    /// The end of what the input before left unfinished.
    first: Option<Piece<'a>>,
}

impl<'a> Pieces<'_, 'a> {
    /// The next piece. Not an `Iterator`, whose users would forget [`Pieces::finish`].
    #[expect(clippy::should_implement_trait)]
    #[inline(always)]
    pub fn next(&mut self) -> Option<Piece<'a>> {
        if let Some((header, after)) = self.rest.split_first_chunk()
            && self.first.is_none()
            && let Some((channel, len)) = parse(header)
            && let Some((bytes, rest)) = after.split_at_checked(len as usize)
        {
            self.rest = rest;
            return Some(channel.piece(bytes, true));
        }
        self.edge()
    }

    /// Everything but a whole frame: the first piece, the last one, and a header that is none.
    #[inline(never)]
    fn edge(&mut self) -> Option<Piece<'a>> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let rest = std::mem::take(&mut self.rest);
        let Some((header, after)) = rest.split_first_chunk() else {
            if !rest.is_empty() {
                let mut header = [0; HEADER];
                header.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
                self.demux.state = State::Header { header, have: rest.len() };
            }
            return None;
        };
        let (channel, len) = self.demux.parse(header)?;
        self.payload(channel, len, after)
    }

    /// Deals with what the input before left unfinished.
    fn resume(&mut self) {
        let input = std::mem::take(&mut self.rest);
        match std::mem::replace(&mut self.demux.state, BETWEEN_FRAMES) {
            State::Header { mut header, have } => {
                let (more, rest) = input.split_at(input.len().min(HEADER - have));
                header[have..have + more.len()].copy_from_slice(more);
                if have + more.len() < HEADER {
                    self.demux.state = State::Header { header, have: have + more.len() };
                } else if let Some((channel, len)) = self.demux.parse(&header) {
                    self.first = self.payload(channel, len, rest);
                }
            }
            State::Payload { channel, left } => self.first = self.payload(channel, left, input),
            State::Tty => {
                self.demux.state = State::Tty;
                let all = Channel::Output(Source::Stdout).piece(input, false);
                self.first = (!input.is_empty()).then_some(all);
            }
            State::Broken(corrupt) => self.demux.state = State::Broken(corrupt),
        }
    }

    /// As much of a payload of `len` bytes as is there; what follows it is the rest. The state is
    /// and remains `BETWEEN_FRAMES` where the payload is whole.
    fn payload(&mut self, channel: Channel, len: u32, input: &'a [u8]) -> Option<Piece<'a>> {
        if let Some((bytes, rest)) = input.split_at_checked(len as usize) {
            self.rest = rest;
            return Some(channel.piece(bytes, true));
        }
        // The input is shorter than `len`, so its length fits.
        self.demux.state = State::Payload { channel, left: len - input.len() as u32 };
        (!input.is_empty()).then(|| channel.piece(input, false))
    }

    /// To be called when there are no more pieces.
    ///
    /// # Errors
    /// A header that is none; what came before it has been handed out. Every further input fails
    /// with the same error.
    pub fn finish(self) -> Result<(), Corrupt> {
        match self.demux.state {
            State::Broken(corrupt) => Err(corrupt),
            _ => Ok(()),
        }
    }
}

/// Reads a whole header: the channel and the length of the payload; `None` if it is none.
/// Type 0 (an echoed standard input) counts as standard output.
#[inline]
fn parse(header: &[u8; HEADER]) -> Option<(Channel, u32)> {
    let [kind, pad2, pad1, pad0, len3, len2, len1, len0] = *header;
    // With its padding, which is zero, the type is a number of 32 bits: one comparison.
    let channel = match u32::from_le_bytes([kind, pad2, pad1, pad0]) {
        0 | 1 => Channel::Output(Source::Stdout),
        2 => Channel::Output(Source::Stderr),
        3 => Channel::SystemError,
        _ => return None,
    };
    Some((channel, u32::from_be_bytes([len3, len2, len1, len0])))
}

/// The slow, obviously right way, and the comparison with it. In test and fuzz builds only.
#[cfg(any(test, fuzzing))]
pub mod naive {
    use super::{Corrupt, Demux, Piece};

    /// A frame, or what there is of the last one.
    #[derive(Debug, Default, PartialEq, Eq)]
    pub struct Frame {
        /// The name of where it came from: `stdout`, `stderr` or `systemerr`.
        pub channel: &'static str,
        /// Its bytes.
        pub payload: Vec<u8>,
        /// Whether its end has been seen.
        pub ended: bool,
    }

    /// All frames of a whole stream, up to its end or a corrupt header.
    pub fn frames(stream: &[u8]) -> (Vec<Frame>, Result<(), Corrupt>) {
        let mut frames = Vec::new();
        let mut at = 0;
        while at + 8 <= stream.len() {
            let header = &stream[at..at + 8];
            if header[0] > 3 || header[1] != 0 || header[2] != 0 || header[3] != 0 {
                let header = header.try_into().expect("eight bytes");
                return (frames, Err(Corrupt { header }));
            }
            let channel = ["stdout", "stdout", "stderr", "systemerr"][header[0] as usize];
            let len = header[4..].iter().fold(0, |len, &byte| len * 256 + byte as usize);
            at += 8;
            let end = stream.len().min(at + len);
            let ended = end == at + len;
            if ended || end > at {
                frames.push(Frame { channel, payload: stream[at..end].to_vec(), ended });
            }
            at = end;
        }
        (frames, Ok(()))
    }

    /// Cuts `bytes` into pieces of the given sizes, 0 included; what is left is the last piece.
    pub fn cut<'a>(bytes: &'a [u8], sizes: &[u8]) -> Vec<&'a [u8]> {
        let mut rest = bytes;
        let mut pieces = Vec::new();
        for &size in sizes {
            let (piece, after) = rest.split_at(rest.len().min(size as usize));
            pieces.push(piece);
            rest = after;
        }
        pieces.push(rest);
        pieces
    }

    /// Panics unless [`Demux`], fed `stream` in pieces of the given sizes, does as [`frames`].
    pub fn compare(stream: &[u8], sizes: &[u8]) {
        let mut demux = Demux::framed();
        let mut got: Vec<Frame> = Vec::new();
        let mut result = Ok(());
        for input in cut(stream, sizes) {
            let before = result;
            result = demux.push(input, |piece| {
                assert_eq!(before, Ok(()), "a piece after an error");
                gather(&mut got, piece);
            });
            assert!(before.is_ok() || result == before, "the error does not last");
        }
        let (expected, outcome) = frames(stream);
        assert_eq!(got, expected);
        assert_eq!(result, outcome);
        assert_eq!(demux.is_between_frames(), outcome.is_ok() && ends_whole(stream, &expected));
    }

    /// Whether the bytes of these frames, all of which have to be whole, are all of the stream.
    fn ends_whole(stream: &[u8], frames: &[Frame]) -> bool {
        let bytes: usize = frames.iter().map(|frame| 8 + frame.payload.len()).sum();
        frames.iter().all(|frame| frame.ended) && bytes == stream.len()
    }

    fn gather(frames: &mut Vec<Frame>, piece: Piece<'_>) {
        let (channel, bytes, frame_end) = match piece {
            Piece::Output { source, bytes, frame_end } => (source.name(), bytes, frame_end),
            Piece::SystemError { bytes, frame_end } => ("systemerr", bytes, frame_end),
        };
        assert!(frame_end || !bytes.is_empty(), "a piece without bytes inside a frame");
        if frames.last().is_none_or(|frame| frame.ended) {
            frames.push(Frame { channel, ..Frame::default() });
        }
        let frame = frames.last_mut().expect("there is one now");
        assert_eq!(frame.channel, channel, "a frame changes its channel");
        frame.payload.extend_from_slice(bytes);
        frame.ended = frame_end;
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use proptest::prelude::*;

    use super::*;

    fn encode(frames: &[(u8, Vec<u8>)]) -> Vec<u8> {
        let mut stream = Vec::new();
        for (kind, payload) in frames {
            stream.extend_from_slice(&[*kind, 0, 0, 0]);
            stream.extend_from_slice(&(payload.len() as u32).to_be_bytes());
            stream.extend_from_slice(payload);
        }
        stream
    }

    fn pieces<'a>(demux: &mut Demux, input: &'a [u8]) -> Vec<Piece<'a>> {
        let mut pieces = Vec::new();
        demux.push(input, |piece| pieces.push(piece)).expect("no corrupt header");
        pieces
    }

    #[test]
    fn types_map_to_sources_and_system_errors_stay_apart() {
        let stream = encode(&[
            (0, b"in".to_vec()),
            (1, b"out".to_vec()),
            (2, b"err".to_vec()),
            (3, b"daemon".to_vec()),
        ]);
        let output = |source, bytes| Piece::Output { source, bytes, frame_end: true };
        assert_eq!(
            pieces(&mut Demux::framed(), &stream),
            [
                output(Source::Stdout, &b"in"[..]),
                output(Source::Stdout, b"out"),
                output(Source::Stderr, b"err"),
                Piece::SystemError { bytes: b"daemon", frame_end: true },
            ]
        );
    }

    #[test]
    fn pieces_are_views_of_the_input() {
        let stream = encode(&[(1, b"no copy".to_vec())]);
        match pieces(&mut Demux::framed(), &stream)[..] {
            [Piece::Output { bytes, .. }] => assert_eq!(bytes.as_ptr(), stream[8..].as_ptr()),
            ref other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_frame_without_payload_is_one_empty_end() {
        let stream = encode(&[(2, vec![]), (1, b"x".to_vec())]);
        let mut demux = Demux::framed();
        let empty = Piece::Output { source: Source::Stderr, bytes: &[], frame_end: true };
        assert_eq!(pieces(&mut demux, &stream[..8]), [empty]);
        assert!(demux.is_between_frames());
        assert_eq!(pieces(&mut demux, &stream[8..]).len(), 1);
    }

    #[test]
    fn the_longest_payload_is_streamed() {
        let mut demux = Demux::framed();
        assert_eq!(pieces(&mut demux, &[1, 0, 0, 0, 255, 255, 255, 255]), []);
        let part = vec![b'x'; 1 << 20];
        let mut left = u64::from(u32::MAX);
        while left > 0 {
            let input = &part[..part.len().min(left as usize)];
            left -= input.len() as u64;
            let view = Piece::Output { source: Source::Stdout, bytes: input, frame_end: left == 0 };
            assert_eq!(pieces(&mut demux, input), [view]);
        }
        assert!(demux.is_between_frames());
    }

    #[test]
    fn a_tty_has_no_frames() {
        let mut demux = Demux::tty();
        let raw = b"\x01\0\0\0\0\0\0\x01a\r\n";
        assert_eq!(
            pieces(&mut demux, raw),
            [Piece::Output { source: Source::Stdout, bytes: raw, frame_end: false }]
        );
        assert_eq!(pieces(&mut demux, b""), []);
        assert!(demux.is_between_frames());
    }

    #[test]
    fn a_corrupt_header_ends_the_stream_after_what_stands_before_it() {
        for header in [*b"\x04\0\0\0\0\0\0\x01", *b"\x01\0\0\x01\0\0\0\x01", *b"HTTP/1.1"] {
            let mut stream = encode(&[(1, b"before".to_vec())]);
            stream.extend_from_slice(&header);
            stream.extend_from_slice(&encode(&[(1, b"after".to_vec())]));
            let mut demux = Demux::framed();
            let mut count = 0;
            assert_eq!(demux.push(&stream, |_| count += 1), Err(Corrupt { header }));
            assert_eq!(count, 1);
            assert!(!demux.is_between_frames());
            assert_eq!(demux.push(&[], |_| count += 1), Err(Corrupt { header }));
            assert_eq!(count, 1);
        }
        assert_eq!(
            Corrupt { header: *b"HTTP/1.1" }.to_string(),
            "corrupt frame header 48 54 54 50 2f 31 2e 31: \
             expected a type of 00-03, then 00 00 00 and a length"
        );
    }

    /// So many frames of any type, each with less than `longest` bytes.
    fn frames(longest: usize, count: Range<usize>) -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
        prop::collection::vec((0u8..4, prop::collection::vec(any::<u8>(), 0..longest)), count)
    }

    proptest! {
        #[test]
        fn frames_cut_anywhere_are_as_the_naive_way_reads_them(
            frames in frames(40, 0..12),
            sizes in prop::collection::vec(0u8..24, 0..40),
            truncate in 0usize..20,
        ) {
            let stream = encode(&frames);
            naive::compare(&stream[..stream.len().saturating_sub(truncate)], &sizes);
        }

        #[test]
        fn damaged_frames_are_as_the_naive_way_reads_them(
            frames in frames(9, 1..9),
            sizes in prop::collection::vec(0u8..12, 0..40),
            place in any::<prop::sample::Index>(),
            value in 0u8..6,
        ) {
            let mut stream = encode(&frames);
            let place = place.index(stream.len());
            stream[place] = value;
            naive::compare(&stream, &sizes);
        }
    }
}
