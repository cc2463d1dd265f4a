//! A RELP session as its client sees it: which frames were sent, and which are answered.
//!
//! Pure: records and the server's bytes in, frames and what they mean out. A frame is
//! `txnr SP command SP datalen [SP data] LF`; the session is opened by the first, each record is a
//! `syslog` frame, and each is answered by an `rsp` of the same number. Whatever is out of the
//! ordinary ends the session: what was not answered has to be sent again over another.

use std::collections::VecDeque;
use std::fmt;
use std::io::Write as _;
use std::time::Duration;

#[cfg(test)]
use crate::io::sim::{self, Planted};
use crate::transport::dialogue::Dialogue;

/// How long a server may leave all records that wait for an answer without one; as rsyslog's own
/// client.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);
/// Frames without an answer, at most. As librelp's.
pub const WINDOW: usize = 128;
/// Bytes of these, at most, unless one frame alone has more.
pub const WINDOW_BYTES: usize = 1 << 20;
/// The largest number of a frame; 1 follows.
const TXNR_MAX: u32 = 999_999_999;
/// The number of what the server says unasked.
const UNASKED: u32 = 0;
/// The longest command.
const COMMAND_MAX: usize = 32;
/// The longest data of an answer: those that servers give have some hundred bytes.
const DATA_MAX: usize = 64 * 1024;
/// Of what a server says in its own words, at most so many characters are repeated.
const SHOWN_MAX: usize = 80;
/// What the client can do. Version 0 is what every server knows; 1 says no more.
const OFFERS: &str = concat!(
    "relp_version=0\nrelp_software=logchute,",
    env!("CARGO_PKG_VERSION"),
    "\ncommands=syslog"
);

/// Why a session is over: one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// What came is no frame.
    NotRelp,
    /// The server does not want the session.
    Refused(String),
    /// The server did not take a record.
    RecordRefused(String),
    /// It answered a frame that was not sent, or is answered already.
    Unknown(u32),
    /// It sent a command that a server does not send.
    Command(String),
    /// It speaks a version that came later.
    Version(String),
    /// It takes other commands than `syslog`.
    NoSyslog,
    /// It closes the session.
    Closed,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::NotRelp => f.write_str("what the server says is not RELP"),
            Failure::Refused(why) => write!(f, "the server refused the RELP session: {why}"),
            Failure::RecordRefused(why) => write!(f, "the server refused a record: {why}"),
            Failure::Unknown(txnr) => {
                write!(f, "the server answered frame {txnr}, which waits for no answer")
            }
            Failure::Command(command) => {
                write!(f, "the server sent the RELP command {command}, which is not a server's")
            }
            Failure::Version(version) => write!(f, "the server speaks version {version} of RELP"),
            Failure::NoSyslog => f.write_str("the server does not take the RELP command syslog"),
            Failure::Closed => f.write_str("the server closed the RELP session"),
        }
    }
}

impl std::error::Error for Failure {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The first frame waits for its answer.
    Opening,
    Open,
    /// The last frame, of this number, waits for its answer.
    Closing(u32),
    Closed,
}

/// The client's side of a session.
#[derive(Debug)]
pub struct Session {
    state: State,
    /// The number of the next frame.
    next: u32,
    /// The number of the oldest frame without an answer, if there is one.
    oldest: u32,
    /// Bytes of each frame from the oldest without an answer on.
    lens: VecDeque<u32>,
    /// Their sum.
    bytes: usize,
    /// Which of them are answered: the lowest bit is the oldest's.
    answered: u128,
    /// Records answered, all before them too, and not yet fetched.
    acknowledged: usize,
    /// The beginning of a frame of the server's.
    begun: Vec<u8>,
}

impl Session {
    /// A session whose first frame was appended to `out`.
    pub fn open(out: &mut Vec<u8>) -> Session {
        put_frame(1, "open", OFFERS.as_bytes(), out);
        Session {
            state: State::Opening,
            next: 2,
            oldest: 2,
            lens: VecDeque::with_capacity(WINDOW),
            bytes: 0,
            answered: 0,
            acknowledged: 0,
            begun: Vec::new(),
        }
    }
}

impl Dialogue for Session {
    type Failure = Failure;

    fn is_open(&self) -> bool {
        self.state == State::Open
    }

    fn has_room(&self) -> bool {
        self.is_open() && self.lens.len() < WINDOW && self.bytes < WINDOW_BYTES
    }

    fn is_waiting(&self) -> bool {
        !self.lens.is_empty()
    }

    fn patience(&self) -> Option<Duration> {
        Some(ANSWER_TIMEOUT)
    }

    fn awaited(&self) -> &'static str {
        match self.is_open() {
            true => "answer to a record",
            false => "answer to the RELP command open",
        }
    }

    /// The final newline of a record is that of its frame.
    fn send(&mut self, record: &[u8], out: &mut Vec<u8>) {
        let data = record.strip_suffix(b"\n").unwrap_or(record);
        let before = out.len();
        put_frame(self.take_number(), "syslog", data, out);
        let len = out.len() - before;
        self.lens.push_back(u32::try_from(len).unwrap_or(u32::MAX));
        self.bytes += len;
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        let txnr = self.take_number();
        put_frame(txnr, "close", &[], out);
        self.state = State::Closing(txnr);
    }

    fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    fn take_acknowledged(&mut self) -> usize {
        std::mem::take(&mut self.acknowledged)
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let mut begun = std::mem::take(&mut self.begun);
        let mut rest = bytes;
        if !begun.is_empty() {
            begun.extend_from_slice(bytes);
            rest = &begun;
        }
        while let Some((frame, len)) = Frame::parse(rest)? {
            self.take_frame(&frame)?;
            rest = &rest[len..];
        }
        self.begun = rest.to_vec();
        Ok(())
    }
}

impl Session {
    fn take_number(&mut self) -> u32 {
        let txnr = self.next;
        self.next = after(txnr);
        txnr
    }

    fn take_frame(&mut self, frame: &Frame<'_>) -> Result<(), Failure> {
        match (frame.command, self.state) {
            (b"serverclose", _) => Err(Failure::Closed),
            (b"rsp", State::Opening) if frame.txnr == 1 => self.opened(frame.data),
            (b"rsp", State::Closing(txnr)) if frame.txnr == txnr => {
                self.state = State::Closed;
                Ok(())
            }
            (b"rsp", _) => self.answered(frame.txnr, frame.data),
            (command, _) => Err(Failure::Command(shown(command))),
        }
    }

    fn opened(&mut self, data: &[u8]) -> Result<(), Failure> {
        let offers = accepted(data).map_err(Failure::Refused)?;
        for offer in offers.split(|&b| b == b'\n') {
            let mut parts = offer.splitn(2, |&b| b == b'=');
            let (name, value) = (parts.next(), parts.next().unwrap_or_default());
            match name {
                Some(b"relp_version") if !matches!(value, b"0" | b"1") => {
                    return Err(Failure::Version(shown(value)));
                }
                Some(b"commands") if !value.split(|&b| b == b',').any(|name| name == b"syslog") => {
                    return Err(Failure::NoSyslog);
                }
                _ => {}
            }
        }
        self.state = State::Open;
        Ok(())
    }

    fn answered(&mut self, txnr: u32, data: &[u8]) -> Result<(), Failure> {
        let index = distance(self.oldest, txnr);
        let bit = u128::from(index < self.lens.len()).checked_shl(index as u32).unwrap_or(0);
        if txnr == UNASKED || bit == 0 || self.answered & bit != 0 {
            return Err(Failure::Unknown(txnr));
        }
        accepted(data).map_err(Failure::RecordRefused)?;
        #[cfg(test)]
        let bit = if sim::planted(Planted::OtherAnswer) { self.answered + 1 } else { bit };
        self.answered |= bit;
        while self.answered & 1 == 1 {
            self.answered >>= 1;
            self.oldest = after(self.oldest);
            self.bytes -= self.lens.pop_front().map_or(0, |len| len as usize);
            self.acknowledged += 1;
        }
        Ok(())
    }
}

/// The number after `txnr`.
fn after(txnr: u32) -> u32 {
    if txnr == TXNR_MAX { 1 } else { txnr + 1 }
}

/// How many frames after `from` the frame `to` was numbered.
fn distance(from: u32, to: u32) -> usize {
    ((to + TXNR_MAX - from) % TXNR_MAX) as usize
}

fn put_frame(txnr: u32, command: &str, data: &[u8], out: &mut Vec<u8>) {
    out.reserve(COMMAND_MAX + data.len());
    // Writing to a vector does not fail.
    let _ = write!(out, "{txnr} {command} {}", data.len());
    if !data.is_empty() {
        out.push(b' ');
        out.extend_from_slice(data);
    }
    out.push(b'\n');
}

/// What follows the first line of an answer that says yes.
///
/// # Errors
/// The first line of one that says no.
fn accepted(data: &[u8]) -> Result<&[u8], String> {
    let end = data.iter().position(|&b| b == b'\n').unwrap_or(data.len());
    let (line, rest) = data.split_at(end);
    match line.strip_prefix(b"200") {
        Some([] | [b' ', ..]) => Ok(rest.strip_prefix(b"\n").unwrap_or(rest)),
        _ => Err(shown(line)),
    }
}

/// Text of the server's for an error.
fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(SHOWN_MAX).collect()
}

/// A frame of the server's.
#[derive(Debug, PartialEq, Eq)]
struct Frame<'a> {
    txnr: u32,
    command: &'a [u8],
    data: &'a [u8],
}

impl Frame<'_> {
    /// The frame that `bytes` begin with, and its length; `None` if there is more to come of it.
    fn parse(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, Failure> {
        let Some((txnr, at)) = number(bytes, 0)? else { return Ok(None) };
        let Some(at) = expect(bytes, at, b' ')? else { return Ok(None) };
        let letters = bytes[at..].iter().take_while(|b| b.is_ascii_alphabetic()).count();
        let command = &bytes[at..at + letters];
        if letters > COMMAND_MAX || letters == 0 && at < bytes.len() {
            return Err(Failure::NotRelp);
        }
        let Some(at) = expect(bytes, at + letters, b' ')? else { return Ok(None) };
        let Some((len, mut at)) = number(bytes, at)? else { return Ok(None) };
        let len = len as usize;
        if len > DATA_MAX {
            return Err(Failure::NotRelp);
        }
        // Without data there is no space before it; some servers write one.
        if len > 0 || bytes.get(at) == Some(&b' ') {
            let Some(behind) = expect(bytes, at, b' ')? else { return Ok(None) };
            at = behind;
        }
        let Some(data) = bytes.get(at..at + len) else { return Ok(None) };
        let Some(at) = expect(bytes, at + len, b'\n')? else { return Ok(None) };
        Ok(Some((Frame { txnr, command, data }, at)))
    }
}

/// The number of one to nine digits at `at`, and what is behind it; `None` if there may be more.
fn number(bytes: &[u8], at: usize) -> Result<Option<(u32, usize)>, Failure> {
    let digits = bytes[at..].iter().take_while(|b| b.is_ascii_digit()).count();
    let end = at + digits;
    if digits > 9 || digits == 0 && at < bytes.len() {
        return Err(Failure::NotRelp);
    }
    if end == bytes.len() {
        return Ok(None);
    }
    let value = bytes[at..end].iter().fold(0, |value, b| value * 10 + u32::from(b - b'0'));
    Ok(Some((value, end)))
}

/// What is behind the byte at `at`, which must be `byte`; `None` if it has not come.
fn expect(bytes: &[u8], at: usize, byte: u8) -> Result<Option<usize>, Failure> {
    match bytes.get(at) {
        None => Ok(None),
        Some(&have) if have == byte => Ok(Some(at + 1)),
        Some(_) => Err(Failure::NotRelp),
    }
}

/// A server, told naively. In test and fuzz builds only.
#[cfg(any(test, fuzzing))]
pub mod naive {
    use super::{Dialogue, Session, WINDOW};

    /// What a server made of a client's bytes: number, command and data of each frame.
    pub type Frames = Vec<(u32, String, Vec<u8>)>;

    /// Reads whole frames.
    ///
    /// # Panics
    /// Where the bytes are none.
    pub fn read(mut bytes: &[u8]) -> Frames {
        let mut frames = Vec::new();
        let word = |bytes: &[u8]| {
            let end = bytes.iter().position(|b| b" \n".contains(b)).expect("the end of a word");
            let word = String::from_utf8(bytes[..end].to_vec()).expect("ASCII");
            (word, end)
        };
        while !bytes.is_empty() {
            let (txnr, end) = word(bytes);
            bytes = &bytes[end + 1..];
            let (command, end) = word(bytes);
            bytes = &bytes[end + 1..];
            let (len, end) = word(bytes);
            let len: usize = len.parse().expect("a length");
            bytes = &bytes[end + usize::from(len > 0)..];
            let (data, rest) = bytes.split_at(len);
            bytes = rest.strip_prefix(b"\n").expect("the end of a frame");
            frames.push((txnr.parse().expect("a number"), command, data.to_vec()));
        }
        frames
    }

    /// An answer.
    pub fn answer(txnr: u32, text: &str) -> Vec<u8> {
        format!("{txnr} rsp {} {text}\n", text.len()).into_bytes()
    }

    /// A session that a server took.
    pub fn opened() -> Session {
        let mut session = Session::open(&mut Vec::new());
        let yes = "200 OK\nrelp_version=0\nrelp_software=naive\ncommands=syslog";
        session.receive(&answer(1, yes)).expect("a server's yes");
        session
    }

    /// The same, when the number of its next frame is `txnr`.
    pub fn opened_at(txnr: u32) -> Session {
        let session = opened();
        Session { next: txnr, oldest: txnr, ..session }
    }

    /// Panics unless its books are right.
    pub fn audit(session: &Session) {
        assert!(session.lens.len() <= WINDOW);
        assert_eq!(session.bytes, session.lens.iter().map(|&len| len as usize).sum::<usize>());
        assert_eq!(session.answered & 1, 0, "the oldest is not answered");
        assert!(session.answered.checked_shr(session.lens.len() as u32).unwrap_or(0) == 0);
    }
}

#[cfg(test)]
mod tests {
    use super::naive::{answer, audit, opened, opened_at, read};
    use super::*;

    fn send(session: &mut Session, records: &[&str]) -> naive::Frames {
        let mut out = Vec::new();
        records.iter().for_each(|record| session.send(record.as_bytes(), &mut out));
        audit(session);
        read(&out)
    }

    #[test]
    fn a_session_from_open_to_close() {
        let mut out = Vec::new();
        let mut session = Session::open(&mut out);
        let frames = read(&out);
        assert_eq!((frames[0].0, &*frames[0].1), (1, "open"));
        assert!(frames[0].2.starts_with(b"relp_version=0\n") && !session.has_room());
        session.receive(&answer(1, "200 OK\nrelp_version=1\ncommands=eventlog,syslog")).unwrap();
        assert!(session.is_open() && session.has_room());
        let frames = send(&mut session, &["one\n", "two\nlines\n", "\n"]);
        let syslog = |txnr, data: &str| (txnr, "syslog".to_owned(), data.as_bytes().to_vec());
        assert_eq!(frames, [syslog(2, "one"), syslog(3, "two\nlines"), syslog(4, "")]);
        session.receive(&answer(2, "200 OK")).unwrap();
        assert_eq!((session.take_acknowledged(), session.is_waiting()), (1, true));
        session.receive(&[answer(3, "200"), answer(4, "200 OK")].concat()).unwrap();
        assert_eq!((session.take_acknowledged(), session.is_waiting()), (2, false));
        let mut out = Vec::new();
        session.close(&mut out);
        assert_eq!(out, b"5 close 0\n");
        session.receive(b"5 rsp 0\n").unwrap();
        assert!(session.is_closed());
    }

    #[test]
    fn answers_may_be_torn_and_out_of_turn() {
        let mut session = opened();
        send(&mut session, &["a\n", "b\n", "c\n"]);
        for byte in [answer(4, "200 OK"), answer(3, "200 OK")].concat() {
            session.receive(&[byte]).unwrap();
            audit(&session);
        }
        assert_eq!(session.take_acknowledged(), 0);
        session.receive(&answer(2, "200 OK")).unwrap();
        assert_eq!(session.take_acknowledged(), 3);
    }

    #[test]
    fn the_window_is_bounded_in_frames_and_bytes() {
        let mut session = opened();
        for _ in 0..WINDOW {
            assert!(session.has_room());
            send(&mut session, &["x\n"]);
        }
        assert!(!session.has_room());
        session.receive(&answer(2, "200 OK")).unwrap();
        assert!(session.has_room());
        let mut session = opened();
        send(&mut session, &[&"x".repeat(WINDOW_BYTES)]);
        assert!(!session.has_room());
    }

    #[test]
    fn numbers_begin_anew_behind_the_last() {
        let mut session = opened_at(TXNR_MAX - 1);
        let numbers: Vec<u32> =
            send(&mut session, &["a", "b", "c", "d"]).iter().map(|frame| frame.0).collect();
        assert_eq!(numbers, [TXNR_MAX - 1, TXNR_MAX, 1, 2]);
        for number in numbers {
            session.receive(&answer(number, "200 OK")).unwrap();
        }
        assert_eq!(session.take_acknowledged(), 4);
        assert_eq!(session.receive(&answer(3, "200 OK")), Err(Failure::Unknown(3)));
    }

    #[test]
    fn what_is_out_of_the_ordinary_ends_the_session() {
        let failure = |bytes: &[u8]| {
            let mut session = opened();
            send(&mut session, &["a\n", "b\n"]);
            session.receive(bytes).expect_err("a failure").to_string()
        };
        assert_eq!(
            failure(&answer(2, "500 disk\tfull\nmore")),
            "the server refused a record: 500 disk full"
        );
        for (txnr, text) in [(1, "200 OK"), (4, "200 OK"), (0, "200 OK"), (999_999_999, "500 no")] {
            let expected = format!("the server answered frame {txnr}, which waits for no answer");
            assert_eq!(failure(&answer(txnr, text)), expected);
        }
        let twice = [answer(3, "200 OK"), answer(3, "200 OK")].concat();
        assert_eq!(failure(&twice), "the server answered frame 3, which waits for no answer");
        assert_eq!(failure(b"0 serverclose 0\n"), "the server closed the RELP session");
        let expected = "the server sent the RELP command open, which is not a server's";
        assert_eq!(failure(b"7 open 0\n"), expected);
        for nonsense in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"\n",
            b" ",
            b"2  ",
            b"2 rsp x",
            b"2 rsp 6 200 OKx",
            b"2 rsp 6\n",
            b"2 rsp 99999999 ",
            b"1234567890",
            b"2 rsp 0x",
            b"2 abcdefghijklmnopqrstuvwxyzabcdefghi",
        ] {
            assert_eq!(failure(nonsense), "what the server says is not RELP", "{nonsense:?}");
        }
    }

    #[test]
    fn a_server_that_cannot_take_records_is_told_apart() {
        let failure = |text: &str| {
            let mut session = Session::open(&mut Vec::new());
            session.receive(&answer(1, text)).expect_err("a failure").to_string()
        };
        assert_eq!(
            failure("500 required command not supported by client"),
            "the server refused the RELP session: 500 required command not supported by client"
        );
        assert_eq!(failure(""), "the server refused the RELP session: ");
        assert_eq!(failure("200 OK\nrelp_version=2"), "the server speaks version 2 of RELP");
        let expected = "the server does not take the RELP command syslog";
        assert_eq!(failure("200 OK\nrelp_version=0\ncommands=eventlog"), expected);
        let mut session = Session::open(&mut Vec::new());
        assert_eq!(session.receive(&answer(2, "200 OK")), Err(Failure::Unknown(2)));
    }
}
