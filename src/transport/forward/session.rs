//! A session of the forward protocol as its client sees it: which messages were sent, and which are
//! acknowledged (github.com/fluent/fluentd/wiki, Forward-Protocol-Specification-v1).
//!
//! Pure: records and the server's bytes in, messages and what they mean out. A message is
//! PackedForward, `[tag, bin(entries), {"size": n, "chunk": id}]`, of consecutive records of one
//! tag, and is answered by `{"ack": id}`. Where there is a shared key, HELO, PING and PONG come
//! first. Whatever is out of the ordinary ends the session: what was not acknowledged has to be
//! sent again over another.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::gzip::Gzip;
use super::login::digits;
use super::{Login, Terms};
use crate::msgpack::{self, Bad, Reader, put_array, put_bin_head, put_map, put_str, put_uint};
use crate::transport::dialogue::Dialogue;

/// Messages without an acknowledgement, at most.
pub const WINDOW: usize = 512;
/// Bytes of their records, at most, unless one record alone has more.
pub const WINDOW_BYTES: usize = 1 << 20;
/// Bytes of entries of one message, at most, unless one record alone has more.
pub const MESSAGE_MAX: usize = 64 * 1024;
/// Bytes of random numbers that a session needs: a salt, and what its messages are called.
pub const RANDOM: usize = SALT + NAME;
const SALT: usize = 16;
const NAME: usize = 8;
/// Bytes of a message's name: sixteen bytes in base64.
const ID: usize = 24;
/// Records that are made messages at a time.
const FILL_MAX: usize = 128 * 1024;
/// Bytes that are compressed before others have their turn, and what beginning a message counts.
const SLICE: usize = 16 * 1024;
const MESSAGE_COST: usize = 4 * 1024;
/// What the server says at a time, at most: its values have some hundred bytes.
const SAID_MAX: usize = 64 * 1024;
/// Of what a server says in its own words, at most so many characters are repeated.
const SHOWN_MAX: usize = 80;

/// Why a session is over: one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// What came is not of the protocol.
    NotForward,
    /// The server asks for a shared key, and we have none.
    KeyAsked,
    /// It asks for a user name, and we have none.
    UserAsked,
    /// It does not take our key, or our user.
    Refused(String),
    /// It does not know the shared key.
    Impostor,
    /// It acknowledged a message that was not sent, or is acknowledged already.
    Unknown(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::NotForward => f.write_str("what the server says is not the forward protocol"),
            Failure::KeyAsked => {
                f.write_str("the server asks for a shared key; set FLUENT_SHARED_KEY")
            }
            Failure::UserAsked => {
                f.write_str("the server asks for a user; set FLUENT_USERNAME and FLUENT_PASSWORD")
            }
            Failure::Refused(why) => write!(
                f,
                "the server refused us: {why}; look at FLUENT_SHARED_KEY, FLUENT_USERNAME and \
                 FLUENT_PASSWORD"
            ),
            Failure::Impostor => f.write_str(
                "the server does not know the shared key; look at FLUENT_SHARED_KEY and at the \
                 address of the route",
            ),
            Failure::Unknown(id) => {
                write!(f, "the server acknowledged chunk {id}, which waits for no answer")
            }
        }
    }
}

impl std::error::Error for Failure {}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// The server is to say HELO.
    Greeting,
    /// It is to answer our PING, in which its nonce was used.
    Checking {
        nonce: Vec<u8>,
    },
    Open,
}

/// A message without an acknowledgement.
#[derive(Debug)]
struct Message {
    id: [u8; ID],
    records: u32,
    /// Bytes of these.
    bytes: usize,
    /// Where they are, until they are packed: the tag behind its length, then the entries.
    place: Range<usize>,
    /// The bytes of the session up to its end, once it is packed.
    end: u64,
    acknowledged: bool,
}

/// The client's side of a session.
pub struct Session {
    terms: Arc<Terms>,
    state: State,
    salt: String,
    name: [u8; NAME],
    /// How many messages there were.
    named: u64,
    /// What is to be said in reply to the server.
    said: Vec<u8>,
    /// Those without an acknowledgement, oldest first.
    messages: VecDeque<Message>,
    /// The last so many of them are not packed yet.
    unpacked: usize,
    /// The sum of their bytes.
    bytes: usize,
    /// The records of those that are not packed.
    plain: Vec<u8>,
    gzip: Option<Box<Gzip>>,
    /// What has come of the message that is being compressed.
    squeezed: Vec<u8>,
    /// Bytes of the session so far.
    written: u64,
    /// Records acknowledged, all before them too, and not yet fetched.
    acknowledged: usize,
    /// The beginning of a value of the server's.
    begun: Vec<u8>,
}

impl Session {
    /// A session; `random` is different for each, and nobody can guess it.
    pub fn new(terms: Arc<Terms>, random: [u8; RANDOM]) -> Session {
        let (salt, name) = random.split_at(SALT);
        let mut own = [0; NAME];
        own.copy_from_slice(name);
        let state = if terms.login.is_some() { State::Greeting } else { State::Open };
        Session {
            state,
            salt: digits(salt),
            name: own,
            named: 0,
            said: Vec::new(),
            messages: VecDeque::new(),
            unpacked: 0,
            bytes: 0,
            plain: Vec::new(),
            gzip: terms.gzip.then(|| Box::new(Gzip::new())),
            squeezed: Vec::new(),
            written: 0,
            acknowledged: 0,
            begun: Vec::new(),
            terms,
        }
    }
}

impl Dialogue for Session {
    type Failure = Failure;

    fn is_open(&self) -> bool {
        self.state == State::Open
    }

    fn has_room(&self) -> bool {
        self.is_open()
            && self.messages.len() < WINDOW
            && self.bytes < WINDOW_BYTES
            && self.plain.len() < FILL_MAX
    }

    fn is_waiting(&self) -> bool {
        !self.messages.is_empty()
    }

    fn patience(&self) -> Option<Duration> {
        self.terms.acks.then_some(self.terms.ack_timeout)
    }

    fn awaited(&self) -> &'static str {
        match self.state {
            State::Greeting => "HELO, which a server with a shared key begins with,",
            State::Checking { .. } => "answer to the shared key",
            State::Open => "acknowledgement",
        }
    }

    /// A record is the length of its tag, the tag, the entry; [`Dialogue::pack`] has to follow.
    fn send(&mut self, record: &[u8], _out: &mut Vec<u8>) {
        let head = tag_end(record);
        self.bytes += record.len();
        let plain = &mut self.plain;
        if let Some(last) = self.messages.back_mut().filter(|_| self.unpacked > 0)
            && plain[last.place.start..].starts_with(&record[..head])
            && last.place.len() + record.len() <= MESSAGE_MAX
        {
            plain.extend_from_slice(&record[head..]);
            last.place.end = plain.len();
            last.records += 1;
            last.bytes += record.len();
            return;
        }
        let start = plain.len();
        plain.extend_from_slice(record);
        let place = start..plain.len();
        let id = id(self.name, self.named);
        let (bytes, end) = (record.len(), 0);
        let message = Message { id, records: 1, bytes, place, end, acknowledged: false };
        self.messages.push_back(message);
        self.named += 1;
        self.unpacked += 1;
    }

    fn pack(&mut self, out: &mut Vec<u8>) -> bool {
        let mut work = 0;
        while self.unpacked > 0 {
            if work >= SLICE {
                return true;
            }
            let index = self.messages.len() - self.unpacked;
            let message = &mut self.messages[index];
            let record = &self.plain[message.place.clone()];
            let (tag, entries) = record.split_at(tag_end(record));
            let mut body = entries;
            if let Some(gzip) = &mut self.gzip {
                work += MESSAGE_COST + entries.len().min(SLICE);
                if !gzip.go_on(entries, SLICE, &mut self.squeezed) {
                    return true;
                }
                body = &self.squeezed;
            }
            let begin = out.len();
            let chunk = self.terms.acks.then_some(&message.id);
            put_message(&tag[1..], body, message.records, chunk, self.gzip.is_some(), out);
            self.written += (out.len() - begin) as u64;
            message.end = self.written;
            self.squeezed.clear();
            self.unpacked -= 1;
        }
        self.plain.clear();
        false
    }

    fn reply(&mut self, out: &mut Vec<u8>) {
        self.written += self.said.len() as u64;
        out.append(&mut self.said);
    }

    /// The protocol has no last words: the connection just ends.
    fn close(&mut self, _out: &mut Vec<u8>) {}

    fn is_closed(&self) -> bool {
        true
    }

    fn take_acknowledged(&mut self) -> usize {
        std::mem::take(&mut self.acknowledged)
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let mut begun = std::mem::take(&mut self.begun);
        begun.extend_from_slice(bytes);
        let mut rest = &begun[..];
        while !rest.is_empty() {
            let mut reader = Reader::new(rest);
            match reader.skip() {
                Ok(()) => {}
                Err(Bad::Short) if rest.len() <= SAID_MAX && may_begin(rest[0]) => break,
                Err(_) => return Err(Failure::NotForward),
            }
            let len = rest.len() - reader.rest().len();
            self.take_value(&rest[..len])?;
            rest = &rest[len..];
        }
        let done = begun.len() - rest.len();
        begun.drain(..done);
        self.begun = begun;
        Ok(())
    }

    fn arrived(&mut self, bytes: u64) {
        let packed = self.messages.len() - self.unpacked;
        let messages = self.messages.iter_mut().take(packed);
        messages.take_while(|m| m.end <= bytes).for_each(|m| m.acknowledged = true);
        self.settle();
    }
}

impl Session {
    fn take_value(&mut self, value: &[u8]) -> Result<(), Failure> {
        let state = self.state.clone();
        let taken = match state {
            State::Open if value.first().is_some_and(|kind| !is_array(*kind)) => self.ack(value),
            State::Open => match Hello::read(value) {
                Ok(_) => Ok(Err(Failure::KeyAsked)),
                Err(bad) => Err(bad),
            },
            State::Greeting => Hello::read(value).map(|hello| self.greeted(&hello)),
            State::Checking { nonce } => Pong::read(value).map(|pong| self.checked(&pong, &nonce)),
        };
        taken.unwrap_or(Err(Failure::NotForward))
    }

    fn greeted(&mut self, hello: &Hello<'_>) -> Result<(), Failure> {
        let Some(login) = &self.terms.login else { return Err(Failure::KeyAsked) };
        if !hello.auth.is_empty() && login.username.is_empty() {
            return Err(Failure::UserAsked);
        }
        login.put_ping(&self.salt, hello.nonce, hello.auth, &mut self.said);
        self.state = State::Checking { nonce: hello.nonce.to_vec() };
        Ok(())
    }

    fn checked(&mut self, pong: &Pong<'_>, nonce: &[u8]) -> Result<(), Failure> {
        if !pong.welcome {
            return Err(Failure::Refused(shown(pong.reason)));
        }
        let knows = |login: &Login| login.is_known(&self.salt, nonce, pong.hostname, pong.digest);
        if !self.terms.login.as_ref().is_some_and(knows) {
            return Err(Failure::Impostor);
        }
        self.state = State::Open;
        Ok(())
    }

    /// An acknowledgement; others of a map's pairs mean nothing.
    fn ack(&mut self, value: &[u8]) -> Result<Result<(), Failure>, Bad> {
        let mut reader = Reader::new(value);
        let mut acknowledged = None;
        for _ in 0..reader.map()? {
            match reader.text()? {
                b"ack" => acknowledged = Some(reader.text()?),
                _ => reader.skip()?,
            }
        }
        let id = acknowledged.ok_or(Bad::Other)?;
        let packed = self.messages.len() - self.unpacked;
        let mut messages = self.messages.iter_mut().take(packed);
        let found = messages.find(|message| message.id == id && !message.acknowledged);
        let Some(message) = found.filter(|_| self.terms.acks) else {
            return Ok(Err(Failure::Unknown(shown(id))));
        };
        message.acknowledged = true;
        self.settle();
        Ok(Ok(()))
    }

    /// Lets go of the oldest messages, as far as they are acknowledged.
    fn settle(&mut self) {
        while self.messages.front().is_some_and(|message| message.acknowledged) {
            if let Some(message) = self.messages.pop_front() {
                self.bytes -= message.bytes;
                self.acknowledged += message.records as usize;
            }
        }
    }
}

/// Where the tag of a record ends.
fn tag_end(record: &[u8]) -> usize {
    let len = record.first().map_or(0, |len| 1 + usize::from(*len));
    len.min(record.len())
}

/// What message number `number` of a session is called.
fn id(name: [u8; NAME], number: u64) -> [u8; ID] {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = u128::from(u64::from_be_bytes(name)) << 64 | u128::from(number);
    let mut id = [b'='; ID];
    // 21 digits of six bits, and one of the two that are left.
    for (at, digit) in id.iter_mut().enumerate().take(21) {
        *digit = DIGITS[(bits >> (122 - 6 * at)) as usize & 63];
    }
    id[21] = DIGITS[(bits << 4) as usize & 63];
    id
}

fn put_message(
    tag: &[u8],
    body: &[u8],
    records: u32,
    chunk: Option<&[u8; ID]>,
    gzip: bool,
    out: &mut Vec<u8>,
) {
    out.reserve(tag.len() + body.len() + 3 * msgpack::HEAD_MAX + 80);
    put_array(3, out);
    put_str(tag, out);
    put_bin_head(body.len(), out);
    out.extend_from_slice(body);
    put_map(1 + usize::from(chunk.is_some()) + usize::from(gzip), out);
    put_str(b"size", out);
    put_uint(u64::from(records), out);
    if let Some(id) = chunk {
        put_str(b"chunk", out);
        put_str(id, out);
    }
    if gzip {
        put_str(b"compressed", out);
        put_str(b"gzip", out);
    }
}

/// Text of the server's for an error.
fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(SHOWN_MAX).collect()
}

fn is_array(kind: u8) -> bool {
    matches!(kind, 0x90..=0x9f | 0xdc | 0xdd)
}

/// Whether a value of the server's may begin so: they are maps and arrays.
fn may_begin(kind: u8) -> bool {
    is_array(kind) || matches!(kind, 0x80..=0x8f | 0xde | 0xdf)
}

struct Hello<'a> {
    nonce: &'a [u8],
    /// The salt of the user's password, if a user is asked for.
    auth: &'a [u8],
}

struct Pong<'a> {
    welcome: bool,
    reason: &'a [u8],
    hostname: &'a [u8],
    digest: &'a [u8],
}

impl<'a> Hello<'a> {
    /// `["HELO", {"nonce": …, "auth": …, "keepalive": …}]`
    fn read(value: &'a [u8]) -> Result<Hello<'a>, Bad> {
        let mut reader = Reader::new(value);
        if reader.array()? != 2 || reader.text()? != b"HELO" {
            return Err(Bad::Other);
        }
        let mut hello = Hello { nonce: &[], auth: &[] };
        for _ in 0..reader.map()? {
            match reader.text()? {
                b"nonce" => hello.nonce = reader.text()?,
                b"auth" => hello.auth = reader.text()?,
                _ => reader.skip()?,
            }
        }
        Ok(hello)
    }
}

impl<'a> Pong<'a> {
    /// `["PONG", welcome, reason, hostname, digest]`
    fn read(value: &'a [u8]) -> Result<Pong<'a>, Bad> {
        let mut reader = Reader::new(value);
        if reader.array()? != 5 || reader.text()? != b"PONG" {
            return Err(Bad::Other);
        }
        Ok(Pong {
            welcome: reader.boolean()?,
            reason: reader.text()?,
            hostname: reader.text()?,
            digest: reader.text()?,
        })
    }
}

/// For tests and the fuzzer alone.
#[cfg(any(test, fuzzing))]
pub mod naive {
    use super::{MESSAGE_MAX, Session, WINDOW, WINDOW_BYTES};

    /// A record: its tag behind the length of that, and the entry.
    pub fn record(tag: &str, entry: &[u8]) -> Vec<u8> {
        [&[tag.len() as u8], tag.as_bytes(), entry].concat()
    }

    /// Panics unless the books of `session` are right.
    pub fn audit(session: &Session) {
        let messages = &session.messages;
        assert!(messages.len() <= WINDOW && session.unpacked <= messages.len());
        let bytes = || messages.iter().map(|message| message.bytes);
        assert_eq!(session.bytes, bytes().sum::<usize>());
        let last = bytes().next_back().unwrap_or(0).max(MESSAGE_MAX);
        assert!(session.bytes < WINDOW_BYTES + last);
        assert!(messages.front().is_none_or(|message| !message.acknowledged));
        let packed = messages.iter().take(messages.len() - session.unpacked);
        assert!(packed.map(|message| message.end).is_sorted());
    }
}

#[cfg(test)]
mod tests;
