//! A client of answers that go on: it reads on a thread of its own, as fast as a test wants it to,
//! and shows what came so far. Of HTTP and websockets it knows the least that tests need.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::wait_until;

/// How long an answer may take to begin.
const HEAD_WAIT: Duration = Duration::from_secs(10);

/// The headers of a websocket's handshake, its key the one of RFC 6455.
pub(crate) const HANDSHAKE: &[(&str, &str)] = &[
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Origin", "http://localhost"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

#[derive(Default)]
struct Seen {
    bytes: Vec<u8>,
    ended: bool,
}

/// A connection on which something was asked.
pub(crate) struct Client {
    socket: TcpStream,
    seen: Arc<Mutex<Seen>>,
    /// Where the body begins, once the head is whole.
    body_at: usize,
    /// The head of the answer.
    pub head: String,
}

impl Client {
    /// Asks with `method` for `path`; returns when the head of the answer has come.
    pub(crate) fn ask(
        address: SocketAddr,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Client {
        let mut client = Client::send(address, method, path, headers);
        client.read_on();
        client.wait_for_head();
        client
    }

    /// As [`Client::ask`] with `GET`, and reads nothing.
    pub(crate) fn deaf(address: SocketAddr, path: &str) -> Client {
        Client::send(address, "GET", path, &[])
    }

    fn send(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> Client {
        let mut socket = TcpStream::connect(address).unwrap();
        let lines: String = headers.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
        write!(socket, "{method} {path} HTTP/1.1\r\nHost: {address}\r\n{lines}\r\n").unwrap();
        Client { socket, seen: Arc::default(), body_at: 0, head: String::new() }
    }

    /// From now on reads what comes.
    pub(crate) fn read_on(&self) {
        let (mut socket, seen) = (self.socket.try_clone().unwrap(), Arc::clone(&self.seen));
        std::thread::spawn(move || {
            let mut piece = vec![0; 64 * 1024];
            while let Ok(n @ 1..) = socket.read(&mut piece) {
                seen.lock().unwrap().bytes.extend_from_slice(&piece[..n]);
            }
            seen.lock().unwrap().ended = true;
        });
    }

    /// Waits until the head has come.
    pub(crate) fn wait_for_head(&mut self) {
        let end = |bytes: &[u8]| memchr::memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4);
        let whole = wait_until(HEAD_WAIT, || {
            let seen = self.seen.lock().unwrap();
            end(&seen.bytes).is_some() || seen.ended
        });
        let seen = self.seen.lock().unwrap();
        assert!(whole, "no head: {}", super::readable(&seen.bytes));
        self.body_at = end(&seen.bytes).unwrap_or(seen.bytes.len());
        self.head = String::from_utf8_lossy(&seen.bytes[..self.body_at]).into_owned();
    }

    /// The status of the answer.
    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// A header of the answer.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// What followed the head so far, as it came.
    pub(crate) fn raw(&self) -> Vec<u8> {
        self.seen.lock().unwrap().bytes[self.body_at..].to_vec()
    }

    /// The body so far, and whether it has ended.
    pub(crate) fn body(&self) -> (Vec<u8>, bool) {
        let raw = self.raw();
        if self.header("transfer-encoding") != Some("chunked") {
            return (raw, self.seen.lock().unwrap().ended);
        }
        let (mut body, mut rest) = (Vec::new(), &raw[..]);
        while let Some(at) = memchr::memmem::find(rest, b"\r\n") {
            let size = std::str::from_utf8(&rest[..at]).unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            if size == 0 {
                return (body, true);
            }
            let chunk = &rest[at + 2..];
            body.extend_from_slice(&chunk[..size.min(chunk.len())]);
            rest = chunk.get(size + 2..).unwrap_or_default();
        }
        (body, false)
    }

    /// The body so far as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body().0).into_owned()
    }

    /// The frames of a websocket so far: their first byte, and what they carry.
    pub(crate) fn frames(&self) -> Vec<(u8, Vec<u8>)> {
        let raw = self.raw();
        let (mut frames, mut rest) = (Vec::new(), &raw[..]);
        while let [first, length, ..] = *rest {
            assert!(length < 128, "a server does not mask");
            let (skip, length) = match length {
                126 => (4, rest.get(2..4).map_or(usize::MAX, number)),
                127 => (10, rest.get(2..10).map_or(usize::MAX, number)),
                short => (2, usize::from(short)),
            };
            let Some(payload) = rest.get(skip..).and_then(|rest| rest.get(..length)) else { break };
            frames.push((first, payload.to_vec()));
            rest = &rest[skip + length..];
        }
        frames
    }

    /// Whether the connection has been closed by the other side.
    pub(crate) fn is_closed(&self) -> bool {
        self.seen.lock().unwrap().ended
    }

    /// Sends bytes as they are.
    pub(crate) fn say(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

/// It leaves: also the thread that reads.
impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}
