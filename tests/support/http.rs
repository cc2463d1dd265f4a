//! The least of HTTP/1.1 that the scripted engine and the tests' own requests need.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A request's head, taken apart.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// `GET`, `POST` …
    pub method: String,
    /// The path without a version prefix (`/v1.41`), as sent otherwise.
    pub path: String,
    /// The query's parameters in the order sent, undecoded but for `%2C`-like escapes.
    pub query: Vec<(String, String)>,
    /// The lines of the head, in lower case.
    pub head: String,
}

impl Request {
    /// The first value of query parameter `name`; empty if there is none.
    pub(crate) fn param(&self, name: &str) -> &str {
        self.query.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }

    /// Whether a query parameter is `1` or `true`.
    pub(crate) fn flag(&self, name: &str) -> bool {
        matches!(self.param(name), "1" | "true")
    }

    /// Reads one request, and drops its body; `None` at the end of the connection.
    pub(crate) fn read(stream: &mut impl Read) -> io::Result<Option<Request>> {
        let Some(Raw { method, target, head, .. }) = Raw::read(stream)? else { return Ok(None) };
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let query = query.split('&').filter(|p| !p.is_empty()).map(parameter).collect();
        Ok(Some(Request { method, path: unversioned(path).to_owned(), query, head }))
    }
}

/// A request as it came.
pub(crate) struct Raw {
    /// `GET`.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The head's lines in lower case.
    pub head: String,
    /// As long as `Content-Length` says.
    pub body: Vec<u8>,
}

impl Raw {
    /// Reads one request; `None` at the end of the connection.
    pub(crate) fn read(stream: &mut impl Read) -> io::Result<Option<Raw>> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read(&mut byte)? == 0 {
                return Ok(None);
            }
            head.push(byte[0]);
        }
        let text = String::from_utf8_lossy(&head).into_owned();
        let mut words = text.lines().next().unwrap_or_default().split(' ');
        let method = words.next().unwrap_or_default().to_owned();
        let target = words.next().unwrap_or_default().to_owned();
        let head = text.to_ascii_lowercase();
        let length = head.lines().find_map(|l| l.strip_prefix("content-length:"));
        let mut body = vec![0; length.and_then(|l| l.trim().parse().ok()).unwrap_or(0)];
        stream.read_exact(&mut body)?;
        Ok(Some(Raw { method, target, head, body }))
    }
}

fn unversioned(path: &str) -> &str {
    let rest = path.strip_prefix("/v1.").map(|rest| rest.trim_start_matches(|c| c != '/'));
    rest.filter(|r| r.starts_with('/')).unwrap_or(path)
}

fn parameter(pair: &str) -> (String, String) {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    (decoded(name), decoded(value))
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|h| std::str::from_utf8(h).ok());
        match (first, hex.and_then(|h| u8::from_str_radix(h, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            (&byte, _) => {
                bytes.push(if byte == b'+' { b' ' } else { byte });
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// An answer, taken apart.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// Its status.
    pub status: u16,
    /// The head as it came.
    pub head: String,
    /// The body, whole.
    pub body: String,
}

impl Answer {
    /// A header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// Asks by a connection of its own, and waits for the whole answer.
pub(crate) fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let headers: String = headers.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
    let status = status.ok_or_else(|| io::Error::other("no status line"))?;
    let body = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        dechunked(body)
    } else {
        body.to_owned()
    };
    Ok(Answer { status, head: head.to_owned(), body })
}

/// Status and body of `GET path`, by a connection of its own.
pub(crate) fn get(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    ask(address, "GET", path, &[], "").map(|answer| (answer.status, answer.body))
}

fn dechunked(mut body: &str) -> String {
    let mut out = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        let Some(chunk) = rest.get(..size).filter(|_| size > 0) else { break };
        out.push_str(chunk);
        body = rest.get(size + 2..).unwrap_or_default();
    }
    out
}
