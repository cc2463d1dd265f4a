//! What the `logs` door (`GET /containers/{id}/logs?timestamps=1`) writes: messages, each with
//! the time at which the daemon took it from the container.
//!
//! Pure: bytes in, views out; nothing is copied but a time that is cut by the end of a read.
//!
//! Without a terminal, every frame ([`crate::docker::frame`]) holds one message, `TIME SP
//! CONTENT`: [`parse_message`]. With one, the messages follow each other without frames:
//! [`TtyLogs`]. CONTENT ends with a newline, except where the daemon cut a longer line
//! ([`PART_LEN`]) or the container's output ended without one: see [`Parts`].

use memchr::memchr;

use crate::docker::time::{FIXED_LEN, RFC3339_MAX, rfc3339, rfc3339_fixed};

/// The daemon cuts a line that is longer into messages of so many bytes without a newline, all of
/// one time; the last of them is shorter and ends the line.
pub const PART_LEN: usize = 16 * 1024;

/// Splits a message into its time, in nanoseconds since 1970, and its content.
///
/// `None` if no time stands before it: an error of the daemon's in the middle of the stream, or
/// a corrupt log file. The caller counts it and may pass the whole as content.
#[inline]
pub fn parse_message(message: &[u8]) -> Option<(u64, &[u8])> {
    // What the Docker Engine writes; Podman has offsets and shorter fractions.
    if let Some((time, [b' ', content @ ..])) = message.split_first_chunk::<FIXED_LEN>()
        && let Some(nanos) = rfc3339_fixed(time)
    {
        return Some((nanos, content));
    }
    parse_any_message(message)
}

/// [`parse_message`] for every form of RFC 3339.
fn parse_any_message(message: &[u8]) -> Option<(u64, &[u8])> {
    let head = message.get(..=RFC3339_MAX).unwrap_or(message);
    let (time, rest) = message.split_at_checked(memchr(b' ', head)?)?;
    Some((rfc3339(time)?, rest.get(1..)?))
}

/// Says where the line splitter must be told that a line has ended although its newline is
/// missing. One for each container and source.
///
/// The parts of a cut line share their time, and simply continue: the splitter joins them. But
/// the last part has no newline on Docker 20.10 with the `local` driver (or the cache that stands
/// in for drivers that cannot be read), nor has the last line of a container that ended within
/// it. So a message of another time begins another line, whatever was before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// The time of the line that has not ended yet.
    open: Option<u64>,
}

impl Parts {
    /// Takes note of a message, or a piece of one; says whether a newline is missing before it.
    #[inline]
    pub fn newline_before(&mut self, nanos: u64, content: &[u8]) -> bool {
        let missing = self.open.is_some_and(|open| open != nanos);
        match content.last() {
            Some(b'\n') => self.open = None,
            Some(_) => self.open = Some(nanos),
            // An empty last part leaves its line open, and an empty line begins none.
            None if missing => self.open = None,
            None => {}
        }
        missing
    }
}

/// A message of a terminal's log, or a piece of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TtyPiece<'a> {
    /// The message's time in nanoseconds since 1970; `None` if none stands before it, which the
    /// caller counts when `first` is set.
    pub nanos: Option<u64>,
    /// The message begins with this piece.
    pub first: bool,
    /// Its bytes. A newline at the end ends the message.
    pub content: &'a [u8],
}

/// Splits a terminal's log, which has no frames, into messages: `TIME SP CONTENT` each.
///
/// A message ends with its newline, or after [`PART_LEN`] bytes if a time follows there. (A
/// line that the daemon left without a newline at another length runs on into the next time,
/// which then is part of it: nothing tells such a time from the container's own output.)
#[derive(Clone, Debug)]
pub struct TtyLogs {
    at: At,
    /// What may become a time, in its first `head_len` bytes.
    head: [u8; HEAD_MAX],
    head_len: usize,
    /// The current message's time.
    nanos: Option<u64>,
    /// Nothing of the current message was given yet.
    first: bool,
}

/// Where in the log the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// In the time that begins a message.
    Time,
    /// In the content, at least 1 byte before [`PART_LEN`].
    Content { left: usize },
    /// Behind [`PART_LEN`] bytes of content: in the next message's time, if it is one.
    Boundary,
    /// In the content behind [`PART_LEN`] bytes: a line that was not cut.
    Beyond,
}

/// A time and the space behind it.
const HEAD_MAX: usize = RFC3339_MAX + 1;

impl Default for TtyLogs {
    fn default() -> TtyLogs {
        TtyLogs { at: At::Time, head: [0; HEAD_MAX], head_len: 0, nanos: None, first: true }
    }
}

impl TtyLogs {
    /// Takes the next piece of the stream, cut anywhere, and calls `each` with every message or
    /// piece of one in it. All bytes are given at once, but for a time that is not yet complete.
    pub fn push(&mut self, mut input: &[u8], mut each: impl FnMut(TtyPiece<'_>)) {
        while !input.is_empty() {
            input = match self.at {
                At::Time | At::Boundary => self.time(input, &mut each),
                At::Content { left } => self.content(input, left, &mut each),
                At::Beyond => self.content(input, usize::MAX, &mut each),
            };
        }
    }

    /// Ends the stream: bytes that were to become a time are given as content. The next piece
    /// begins another stream.
    pub fn finish(&mut self, mut each: impl FnMut(TtyPiece<'_>)) {
        if self.head_len > 0 {
            self.settle(None, &mut each);
        }
        *self = TtyLogs::default();
    }

    /// Collects a time; returns what is behind it.
    fn time<'a>(&mut self, input: &'a [u8], each: &mut impl FnMut(TtyPiece<'_>)) -> &'a [u8] {
        for (used, &byte) in input.iter().enumerate() {
            if let Some(place) = self.head.get_mut(self.head_len) {
                *place = byte;
                self.head_len += 1;
            }
            if byte == b' ' || byte == b'\n' || self.head_len == HEAD_MAX {
                let nanos = self.head.get(..self.head_len).and_then(parse_message);
                self.settle(nanos.map(|(nanos, _)| nanos), each);
                return input.get(used + 1..).unwrap_or_default();
            }
        }
        &[]
    }

    /// Decides what the collected bytes are: with `nanos`, the time of the next message.
    fn settle(&mut self, nanos: Option<u64>, each: &mut impl FnMut(TtyPiece<'_>)) {
        let (head, head_len) = (self.head, std::mem::take(&mut self.head_len));
        if nanos.is_some() || self.at == At::Time {
            (self.nanos, self.first) = (nanos, true);
            self.at = At::Content { left: PART_LEN };
        } else {
            self.at = At::Beyond;
        }
        if nanos.is_none() {
            // At most HEAD_MAX bytes, with a newline at most at their end: one piece takes all.
            let left = if self.at == At::Beyond { usize::MAX } else { PART_LEN };
            self.content(head.get(..head_len).unwrap_or_default(), left, each);
        }
    }

    /// Gives the content up to its newline, but at most `left` bytes; returns what is behind it.
    fn content<'a>(
        &mut self,
        input: &'a [u8],
        left: usize,
        each: &mut impl FnMut(TtyPiece<'_>),
    ) -> &'a [u8] {
        let bounded = input.get(..left).unwrap_or(input);
        let newline = memchr(b'\n', bounded);
        let end = newline.map_or(bounded.len(), |at| at + 1);
        let (content, rest) = input.split_at_checked(end).unwrap_or((input, &[]));
        each(TtyPiece { nanos: self.nanos, first: std::mem::take(&mut self.first), content });
        self.at = match self.at {
            _ if newline.is_some() => At::Time,
            At::Beyond => At::Beyond,
            _ if end == left => At::Boundary,
            _ => At::Content { left: left - end },
        };
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NANOS: u64 = 1_714_979_289_123_456_789;

    #[test]
    fn messages() {
        let split = |message: &'static str| parse_message(message.as_bytes());
        for (message, content) in [
            ("2024-05-06T07:08:09.123456789Z hello\n", "hello\n"),
            ("2024-05-06T07:08:09.123456789Z ", ""),
            ("2024-05-06T07:08:09.123456789Z  two spaces", " two spaces"),
            ("2024-05-06T09:08:09.123456789+02:00 hello\n", "hello\n"),
        ] {
            assert_eq!(split(message), Some((NANOS, content.as_bytes())), "{message}");
        }
        let short = split("2024-05-06T09:08:09.12+02:00 x");
        assert_eq!(short, Some((1_714_979_289_120_000_000, &b"x"[..])));
        for message in [
            "",
            " ",
            "hello world",
            "2024-05-06T07:08:09.123456789Z",
            "2024-05-06T07:08:09.123456789Zx",
            "2024-05-06T07:08:09.123456789X hello",
            "2024-05-06T09:08:09.123456789+02:00x y",
            "Error grabbing logs: unexpected EOF",
        ] {
            assert_eq!(split(message), None, "{message}");
        }
    }

    #[test]
    fn parts_of_a_line() {
        let mut parts = Parts::default();
        let mut feed = |nanos, content: &[u8]| parts.newline_before(nanos, content);
        assert!(!feed(1, b"whole\n"));
        assert!(!feed(2, b"part"));
        assert!(!feed(2, b"part"));
        assert!(!feed(2, b"last\n"));
        assert!(!feed(3, b"part"));
        assert!(!feed(3, b"last without newline"));
        assert!(feed(4, b"whole\n"));
        assert!(!feed(5, b"part"));
        assert!(!feed(5, b""));
        assert!(feed(6, b"next"));
        assert!(feed(7, b"next, ended at once\n"));
        assert!(!feed(8, b"open"));
        assert!(feed(9, b""));
        assert!(!feed(10, b"\n"));
    }

    /// Feeds `stream` cut at `cuts`, joins the pieces of each message.
    fn messages_of(stream: &[u8], cuts: &[usize]) -> Vec<(Option<u64>, Vec<u8>)> {
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
        ends.push(stream.len());
        ends.sort_unstable();
        let (mut logs, mut at) = (TtyLogs::default(), 0);
        let mut messages: Vec<(Option<u64>, Vec<u8>)> = Vec::new();
        let mut each = |piece: TtyPiece<'_>| {
            assert!(!piece.content.is_empty());
            if piece.first {
                messages.push((piece.nanos, Vec::new()));
            }
            let message = messages.last_mut().unwrap();
            assert_eq!(message.0, piece.nanos);
            assert!(!message.1.ends_with(b"\n"));
            message.1.extend_from_slice(piece.content);
        };
        for end in ends {
            logs.push(&stream[at..end], &mut each);
            at = end;
        }
        logs.finish(each);
        messages
    }

    fn text(nanos: u64) -> String {
        let mut stamp = crate::stamp::Stamp::new(std::time::UNIX_EPOCH);
        stamp.set_nanos(nanos);
        let seconds = std::str::from_utf8(stamp.rfc3339()).unwrap();
        format!("{}.{:09}Z ", seconds.trim_end_matches('Z'), nanos % 1_000_000_000)
    }

    #[test]
    fn a_terminals_log() {
        let line = |nanos, content: &[u8]| (Some(nanos), content.to_vec());
        let time = text(NANOS);
        let stream = format!("{time}$ ls\r\n{time}\r\n{time}{time}own time\r\n{time}$ ");
        let expect = [
            line(NANOS, b"$ ls\r\n"),
            line(NANOS, b"\r\n"),
            line(NANOS, format!("{time}own time\r\n").as_bytes()),
            line(NANOS, b"$ "),
        ];
        assert_eq!(messages_of(stream.as_bytes(), &[]), expect);
    }

    #[test]
    fn what_has_no_time_is_content() {
        let time = text(NANOS);
        let stream = format!("Error grabbing logs: EOF\n{time}a\n\n{}\n{time}", "x".repeat(50));
        let expect = [
            (None, b"Error grabbing logs: EOF\n".to_vec()),
            (Some(NANOS), b"a\n".to_vec()),
            (None, b"\n".to_vec()),
            (None, format!("{}\n", "x".repeat(50)).into_bytes()),
        ];
        assert_eq!(messages_of(stream.as_bytes(), &[]), expect);
        let cut = messages_of(b"2024-05-06T07:0", &[]);
        assert_eq!(cut, [(None, b"2024-05-06T07:0".to_vec())]);
    }

    #[test]
    fn a_long_line_that_was_not_cut_is_one_message() {
        let line = "x".repeat(3 * PART_LEN) + "\n";
        let stream = format!("{}{line}", text(NANOS));
        assert_eq!(messages_of(stream.as_bytes(), &[]), [(Some(NANOS), line.into_bytes())]);
    }

    /// A time and a content.
    type Timed = (Option<u64>, Vec<u8>);

    /// The log as the daemon writes it: longer lines in parts, all of one time.
    fn written(lines: &[(u64, Vec<u8>)]) -> (Vec<u8>, Vec<Timed>) {
        let (mut stream, mut messages) = (Vec::new(), Vec::new());
        for (nanos, line) in lines {
            let mut rest = line.as_slice();
            while rest.len() >= PART_LEN {
                let (part, more) = rest.split_at(PART_LEN);
                messages.push((Some(*nanos), part.to_vec()));
                rest = more;
            }
            messages.push((Some(*nanos), [rest, b"\n"].concat()));
        }
        for (nanos, content) in &messages {
            stream.extend_from_slice(text(nanos.unwrap()).as_bytes());
            stream.extend_from_slice(content);
        }
        (stream, messages)
    }

    prop_compose! {
        fn line()(
            nanos in any::<u64>(),
            length in prop_oneof![
                8 => 0usize..80,
                1 => PART_LEN - 40..PART_LEN + 40,
                1 => 2 * PART_LEN - 2..2 * PART_LEN + 2,
            ],
            own in prop::sample::select(vec!["x", "\r", "2024-05-06T07:08:09.123456789Z ", "\0"]),
        ) -> (u64, Vec<u8>) {
            (nanos, own.bytes().cycle().take(length).collect())
        }
    }

    proptest! {
        #[test]
        fn fast_path_is_the_general_one(
            nanos in any::<u64>(),
            content in prop::collection::vec(any::<u8>(), 0..8),
            at in any::<prop::sample::Index>(),
            byte in prop::option::of(any::<u8>()),
        ) {
            let mut message = [text(nanos).into_bytes(), content.clone()].concat();
            prop_assert_eq!(parse_message(&message), Some((nanos, content.as_slice())));
            if let Some(byte) = byte {
                let at = at.index(message.len());
                message[at] = byte;
            }
            prop_assert_eq!(parse_message(&message), parse_any_message(&message));
        }

        #[test]
        fn the_daemons_messages_come_back(
            lines in prop::collection::vec(line(), 0..6),
            cuts in prop::collection::vec(any::<usize>(), 0..12),
        ) {
            let (stream, messages) = written(&lines);
            prop_assert_eq!(messages_of(&stream, &cuts), messages);
        }

        #[test]
        fn cuts_at_the_borders_do_not_matter(lines in prop::collection::vec(line(), 1..3)) {
            let (stream, messages) = written(&lines);
            for around in [31, PART_LEN, PART_LEN + 31, 2 * PART_LEN + 62] {
                let cuts: Vec<usize> = (around.saturating_sub(33)..around + 33).collect();
                prop_assert_eq!(&messages_of(&stream, &cuts), &messages);
            }
        }

        /// Also where it is wrong, nothing is lost and the cuts do not matter.
        #[test]
        fn garbage_is_kept(
            lines in prop::collection::vec(line(), 0..4),
            wrong in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..9),
            cuts in prop::collection::vec(any::<usize>(), 0..12),
        ) {
            let (mut stream, _) = written(&lines);
            for (at, byte) in wrong {
                if !stream.is_empty() {
                    let at = at.index(stream.len());
                    stream[at] = byte;
                }
            }
            let messages = messages_of(&stream, &[]);
            prop_assert_eq!(&messages_of(&stream, &cuts), &messages);
            let times = messages.iter().filter(|(nanos, _)| nanos.is_some()).count();
            let content: usize = messages.iter().map(|(_, content)| content.len()).sum();
            // A time of another length than 30 bytes may come about; a lone last one has none.
            prop_assert!(content + times * HEAD_MAX + HEAD_MAX >= stream.len());
            prop_assert!(content <= stream.len());
        }
    }
}
