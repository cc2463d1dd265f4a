//! The client side of `/health`, for `logchute health` and for the image's `wget`: an image without
//! a shell has no `curl`.
//! Plain TCP on the standard library; runs before any runtime.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// The status line must come within so many bytes.
const HEAD_MAX: usize = 8 * 1024;
/// Header lines that are looked at; the listener sends four.
const HEADERS_MAX: usize = 32;

/// Asks the logchute that listens on `listener` whether it is well, within `limit` in all.
/// The error is one line.
pub fn health(listener: SocketAddr, limit: Duration) -> Result<(), String> {
    let address = reachable(listener);
    match ask(address, &address.to_string(), "/health", Instant::now() + limit) {
        Ok(200) => Ok(()),
        Ok(status) => Err(format!("health: {address} answers with status {status}")),
        Err(error) => Err(format!("health: no answer from {address}: {error}")),
    }
}

/// Whether the page `path` of `host` is there, within `limit` in all once the host's name is
/// resolved: the first address that answers decides. The error is one line.
pub fn spider(host: &str, port: u16, path: &str, limit: Duration) -> Result<(), String> {
    let deadline = Instant::now() + limit;
    let addresses = (host, port).to_socket_addrs();
    let mut why = "its name has no address".to_owned();
    for address in addresses.map_err(|error| format!("wget: {host}: {error}"))? {
        match ask(address, &format!("{host}:{port}"), path, deadline) {
            Ok(200..=299) => return Ok(()),
            Ok(status) => return Err(format!("wget: {host}:{port} answers with status {status}")),
            Err(error) => why = error.to_string(),
        }
    }
    Err(format!("wget: no answer from {host}:{port}: {why}"))
}

/// Where a listener on every interface can be reached from here.
fn reachable(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listener.port())
}

fn ask(address: SocketAddr, host: &str, path: &str, deadline: Instant) -> io::Result<u16> {
    let mut stream = TcpStream::connect_timeout(&address, left(deadline)?)?;
    stream.set_write_timeout(Some(left(deadline)?))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while head.len() < HEAD_MAX {
        stream.set_read_timeout(Some(left(deadline)?))?;
        let count = match stream.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(too_late()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        head.extend(buffer.iter().take(count));
        if let Some(status) = status_of(&head)? {
            return Ok(status);
        }
        if count == 0 {
            break;
        }
    }
    Err(io::Error::other("not a whole HTTP answer"))
}

/// The status of an HTTP answer, once its head is there.
fn status_of(head: &[u8]) -> io::Result<Option<u16>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut headers);
    match answer.parse(head) {
        Ok(httparse::Status::Complete(_)) => Ok(answer.code),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(error) => Err(io::Error::other(format!("not an HTTP answer ({error})"))),
    }
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(too_late()) } else { Ok(left) }
}

fn too_late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "timed out")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    /// A listener that answers its one client with `pieces`, a little apart, and then closes.
    fn answering(pieces: &'static [&'static [u8]]) -> (SocketAddr, thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            let _ = client.read(&mut request).unwrap();
            for piece in pieces {
                let _ = client.write_all(piece);
                thread::sleep(Duration::from_millis(20));
            }
        });
        (address, server)
    }

    fn outcome(pieces: &'static [&'static [u8]]) -> Result<(), String> {
        let (address, server) = answering(pieces);
        let outcome = health(address, Duration::from_secs(3));
        server.join().unwrap();
        outcome
    }

    #[test]
    fn the_status_decides() {
        assert_eq!(outcome(&[b"HTTP/1.1 200 OK\r\n\r\nHealthy!\n"]), Ok(()));
        assert_eq!(outcome(&[b"HTTP/1.1 2", b"00 OK\r\nA: b\r\n", b"\r\n"]), Ok(()));
        let sick = outcome(&[b"HTTP/1.1 503 Service Unavailable\r\n\r\n"]).unwrap_err();
        assert!(sick.ends_with("answers with status 503"), "{sick}");
    }

    #[test]
    fn a_page_is_there_or_not() {
        let asked = |pieces| {
            let (address, server) = answering(pieces);
            let outcome = spider("localhost", address.port(), "/x", Duration::from_secs(3));
            server.join().unwrap();
            outcome
        };
        assert_eq!(asked(&[b"HTTP/1.1 204 No Content\r\n\r\n"]), Ok(()));
        let missing = asked(&[b"HTTP/1.1 404 Not Found\r\n\r\n"]).unwrap_err();
        assert!(missing.ends_with("answers with status 404"), "{missing}");
    }

    #[test]
    fn what_is_no_answer() {
        const CASES: [&[&[u8]]; 4] =
            [&[], &[b"SSH-2.0-x\r\n"], &[b"HTTP/1.1 200 OK\r\n"], &[&[b'x'; 9000]]];
        for pieces in CASES {
            assert!(outcome(pieces).unwrap_err().contains("no answer from 127.0.0.1:"));
        }
    }

    #[test]
    fn silence_ends_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let begun = Instant::now();
        let limit = Duration::from_millis(200);
        let error = health(listener.local_addr().unwrap(), limit).unwrap_err();
        assert!(error.ends_with("timed out"), "{error}");
        assert!(begun.elapsed() >= limit && begun.elapsed() < limit * 10);
    }

    #[test]
    fn nobody_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        assert!(health(address, Duration::from_secs(3)).unwrap_err().contains("refused"));
    }

    #[test]
    fn every_interface_is_reached_by_loopback() {
        for (listener, expected) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("10.1.2.3:80", "10.1.2.3:80"),
        ] {
            assert_eq!(reachable(listener.parse().unwrap()), expected.parse().unwrap());
        }
    }
}
