//! The floor: attaches to every container and writes the bytes out as they come, unparsed. One
//! thread, one buffer, epoll: what a forwarder cannot do without, and nothing else.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use serde_json::Value;

/// What a read takes at most.
const BUFFER: usize = 256 * 1024;

/// Relays until the engine has gone.
///
/// # Errors
/// If engine or receiver cannot be reached, or the receiver goes away.
pub fn run(docker: &Path, tcp: SocketAddr) -> io::Result<()> {
    let mut receiver = TcpStream::connect(tcp)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut streams = Vec::new();
    for id in list(docker)? {
        let stream = attach(docker, &id)?;
        epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, streams.len() as u64))?;
        streams.push(Some(stream));
    }
    let (mut buffer, mut open) = (vec![0; BUFFER], streams.len());
    let mut events = [EpollEvent::empty(); 64];
    while open > 0 {
        let ready = match epoll.wait(&mut events, EpollTimeout::NONE) {
            Err(nix::Error::EINTR) => continue,
            ready => ready?,
        };
        for event in &events[..ready] {
            let Some(stream) = streams.get_mut(event.data() as usize) else { continue };
            let Some(socket) = stream else { continue };
            let count = socket.read(&mut buffer)?;
            receiver.write_all(&buffer[..count])?;
            if count == 0 {
                epoll.delete(&*socket)?;
                *stream = None;
                open -= 1;
            }
        }
    }
    Ok(())
}

/// The ids of all running containers.
fn list(docker: &Path) -> io::Result<Vec<String>> {
    let mut socket = UnixStream::connect(docker)?;
    socket
        .write_all(b"GET /containers/json HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let list: Vec<Value> = serde_json::from_str(body)?;
    Ok(list.iter().filter_map(|entry| Some(entry["Id"].as_str()?.to_owned())).collect())
}

/// The stream of a container, at its first frame.
fn attach(docker: &Path, id: &str) -> io::Result<UnixStream> {
    let mut socket = UnixStream::connect(docker)?;
    write!(
        socket,
        "POST /containers/{id}/attach?stream=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: docker\r\n\
         Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"
    )?;
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    match head.starts_with(b"HTTP/1.1 101") {
        true => Ok(socket),
        false => Err(io::Error::other(String::from_utf8_lossy(&head).into_owned())),
    }
}
