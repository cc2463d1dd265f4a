//! A webhook over https: takes every request, says `ok`, and counts.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustls::ServerConfig;

use super::check::Scanner;
use super::{Inbox, tls};

/// The largest request that is taken.
pub(crate) const REQUEST_MAX: usize = 4 * 1024 * 1024;
/// What Slack answers.
pub(crate) const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok";

/// Answers the requests of one connection.
pub(super) fn serve(
    socket: TcpStream,
    inbox: &Inbox,
    config: &Arc<ServerConfig>,
) -> io::Result<()> {
    let mut stream = tls::accept(socket, config)?;
    let (scanner, mut held, mut buffer) = (Scanner::default(), Vec::new(), vec![0; 64 * 1024]);
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 || held.len() > REQUEST_MAX {
            return Ok(());
        }
        held.extend_from_slice(&buffer[..count]);
        while let Some(length) = request(&held) {
            inbox.take(length, |each| scanner.scan(&held[..length], each));
            inbox.messages.fetch_add(1, Ordering::Relaxed);
            held.drain(..length);
            stream.write_all(ANSWER)?;
        }
    }
}

/// Bytes of the request at the beginning, if it is whole. Its body has a `Content-Length`.
pub(crate) fn request(bytes: &[u8]) -> Option<usize> {
    let head = memchr::memmem::find(bytes, b"\r\n\r\n")? + 4;
    let fields = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let body = fields.lines().find_map(|line| line.strip_prefix("content-length:"));
    let body: usize = body.map_or(Some(0), |body| body.trim().parse().ok())?;
    head.checked_add(body).filter(|length| *length <= bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_whole_with_its_last_byte() {
        let text = b"POST /x HTTP/1.1\r\ncontent-LENGTH: 3\r\n\r\nabcPOST";
        let length = text.len() - 4;
        assert_eq!(request(text), Some(length));
        assert_eq!(request(&text[..length - 1]), None);
        assert_eq!(request(b"GET / HTTP/1.1\r\n\r\n"), Some(18));
        assert_eq!(request(b"GET / HTTP/1.1\r\n"), None);
    }
}
