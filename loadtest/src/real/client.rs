//! What logchute is compared with on a real engine, as a process of its own: a client that reads
//! as soon as there is something to read, and either writes the bytes on as they are (the relay)
//! or throws them away (the reader).
//!
//! It says `ready` on standard output once its streams are open and `done` at their end, then
//! stays until its standard input ends, so that its CPU time can be asked for.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// What a read takes at most.
const BUFFER: usize = 256 * 1024;
/// The longest head of an answer.
const HEAD_MAX: usize = 16 * 1024;

/// A container's stream, and where it goes.
struct Stream {
    from: UnixStream,
    to: Option<TcpStream>,
}

/// With `tcp` relays the attach streams of containers `ids`, each over a connection of its own;
/// without reads their logs to the end.
///
/// # Errors
/// If the engine refuses, or a connection fails.
pub fn run(docker: &Path, tcp: Option<SocketAddr>, ids: &[String]) -> io::Result<()> {
    let open = |id: &String| match tcp {
        Some(address) => {
            let path = format!("/containers/{id}/attach?stream=1&stdout=1&stderr=1");
            let upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n";
            let from = ask(docker, &format!("POST {path}"), upgrade)?;
            Ok(Stream { from, to: Some(TcpStream::connect(address)?) })
        }
        None => {
            // As logchute asks: with the time of each message.
            let path = format!("/containers/{id}/logs?stdout=1&stderr=1&timestamps=1");
            let from = ask(docker, &format!("GET {path}"), "Connection: close\r\n")?;
            Ok(Stream { from, to: None })
        }
    };
    let mut streams = ids.iter().map(open).collect::<io::Result<Vec<Stream>>>()?;
    say("ready")?;
    carry(&mut streams)?;
    say("done")?;
    io::copy(&mut io::stdin(), &mut io::sink()).map(drop)
}

fn say(word: &str) -> io::Result<()> {
    let mut stdout = io::stdout();
    writeln!(stdout, "{word}")?;
    stdout.flush()
}

/// Reads every stream to its end.
fn carry(streams: &mut [Stream]) -> io::Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    for (index, stream) in streams.iter().enumerate() {
        stream.from.set_nonblocking(true)?;
        epoll.add(&stream.from, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?;
    }
    let mut open = streams.len();
    let (mut events, mut buffer) = ([EpollEvent::empty(); 64], vec![0; BUFFER]);
    while open > 0 {
        let ready = epoll.wait(&mut events, EpollTimeout::NONE)?;
        for event in &events[..ready] {
            let stream = &mut streams[event.data() as usize];
            let count = stream.from.read(&mut buffer)?;
            if count == 0 {
                epoll.delete(&stream.from)?;
                open -= 1;
            } else if let Some(to) = &mut stream.to {
                to.write_all(&buffer[..count])?;
            }
        }
    }
    Ok(())
}

/// A connection whose answer has begun: the next bytes are its body.
fn ask(docker: &Path, what: &str, fields: &str) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(docker)?;
    write!(stream, "{what} HTTP/1.1\r\nHost: docker\r\n{fields}\r\n")?;
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD_MAX {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    match head.split(' ').nth(1) {
        Some("101" | "200") => Ok(stream),
        _ => Err(io::Error::other(format!("{what}: {}", head.lines().next().unwrap_or_default()))),
    }
}
