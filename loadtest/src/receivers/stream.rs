//! Receivers of byte streams: records that end with a newline, or begin with their length
//! (RFC 6587, 3.4.1).

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Inbox;
use super::check::Scanner;
use crate::numbering::Number;

/// What a read takes at most.
pub(crate) const BUFFER: usize = 256 * 1024;
/// Digits of a length; records are not that large.
const DIGITS_MAX: usize = 8;

/// Accepts connections, each served by a thread of its own.
pub(crate) fn listen(
    inbox: &Arc<Inbox>,
    serve: impl Fn(TcpStream, &Inbox) -> io::Result<()> + Clone + Send + 'static,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let inbox = Arc::clone(inbox);
    std::thread::spawn(move || {
        while let Ok((socket, _)) = listener.accept() {
            if inbox.is_closing() {
                return;
            }
            let (inbox, serve) = (Arc::clone(&inbox), serve.clone());
            // A connection that breaks shows in the lines that are missing.
            std::thread::spawn(move || drop(serve(socket, &inbox)));
        }
    });
    Ok(address)
}

/// Reads to the end of a stream, looking for numbers of lines wherever they stand.
pub(crate) fn scan(socket: TcpStream, inbox: &Inbox) -> io::Result<()> {
    scan_all(socket, inbox)
}

/// As [`scan`], of anything that can be read.
pub(crate) fn scan_all(from: impl Read, inbox: &Inbox) -> io::Result<()> {
    let scanner = Scanner::default();
    read_to_end(from, inbox, |bytes, each| Ok(scanner.scan(bytes, each)))
}

/// Reads to the end of a stream of octet-counted records.
pub(super) fn scan_counted(socket: TcpStream, inbox: &Inbox) -> io::Result<()> {
    let scanner = Scanner::default();
    read_to_end(socket, inbox, |bytes, each| {
        let mut at = 0;
        while let Some((record, length)) = counted(&bytes[at..])? {
            scanner.scan(record, &mut *each);
            at += length;
        }
        Ok(at)
    })
}

/// Shows `scan` what has come, which says how much of it is done with; the rest is shown again
/// with what comes next.
fn read_to_end(
    mut from: impl Read,
    inbox: &Inbox,
    mut scan: impl FnMut(&[u8], &mut dyn FnMut(Number)) -> Result<usize, Malformed>,
) -> io::Result<()> {
    let (mut buffer, mut held) = (vec![0; BUFFER], 0);
    loop {
        let count = from.read(&mut buffer[held..])?;
        if count == 0 {
            return Ok(());
        }
        let filled = held + count;
        let Ok(rest) = inbox.take(count, |each| scan(&buffer[..filled], each)) else {
            inbox.malformed.fetch_add(1, Ordering::Relaxed);
            return Err(io::ErrorKind::InvalidData.into());
        };
        buffer.copy_within(rest..filled, 0);
        held = filled - rest;
    }
}

/// What is no octet-counted record.
#[derive(Debug, PartialEq, Eq)]
struct Malformed;

/// The record at the beginning, and its length with the digits before it; `None` if it is not
/// whole yet.
fn counted(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, Malformed> {
    let digits = bytes.iter().take(DIGITS_MAX).take_while(|byte| byte.is_ascii_digit()).count();
    match bytes.get(digits) {
        None if digits < DIGITS_MAX => return Ok(None),
        Some(b' ') if digits > 0 && bytes[0] != b'0' => {}
        _ => return Err(Malformed),
    }
    let length = bytes[..digits].iter().fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
    if length > BUFFER / 2 {
        return Err(Malformed);
    }
    let record = bytes.get(digits + 1..digits + 1 + length);
    Ok(record.map(|record| (record, digits + 1 + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octet_counts() {
        assert_eq!(counted(b""), Ok(None));
        assert_eq!(counted(b"1"), Ok(None));
        assert_eq!(counted(b"12 short"), Ok(None));
        assert_eq!(counted(b"3 abc5 later"), Ok(Some((&b"abc"[..], 5))));
        for bad in [&b" 3"[..], b"03 abc", b"x", b"3abc", b"12345678", b"9999999 x"] {
            assert_eq!(counted(bad), Err(Malformed), "{bad:?}");
        }
    }
}
