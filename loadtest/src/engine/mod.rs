//! A fake Docker Engine: answers as much of the API as forwarders ask for, and has containers
//! that write pre-rendered lines. Nearly all it spends is the kernel's copy into the socket.
//!
//! Questions are answered by a thread for each connection; streams go to the one thread of
//! [`pump`], which writes to all of them.

pub mod answers;
pub mod block;
pub mod pump;

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use answers::Ask;
use block::Wrap;
use pump::{Pump, Stream};

use crate::scenario::Door;

/// The longest head of a request.
const HEAD_MAX: usize = 16 * 1024;

/// The engine, until it is dropped.
pub struct Engine {
    folder: tempfile::TempDir,
    tcp: SocketAddr,
    stop: Arc<AtomicBool>,
    accepting: Vec<JoinHandle<()>>,
}

/// What a connection needs to know.
struct Served {
    containers: u16,
    door: Door,
    pump: Arc<Pump>,
}

impl Engine {
    /// An engine with so many containers, whose streams go to `pump`.
    ///
    /// # Errors
    /// If the socket cannot be made.
    pub fn start(containers: u16, door: Door, pump: Arc<Pump>) -> io::Result<Engine> {
        let folder = tempfile::Builder::new().prefix("loadtest-").tempdir()?;
        let unix = UnixListener::bind(folder.path().join("docker.sock"))?;
        let by_tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let tcp = by_tcp.local_addr()?;
        let served = Arc::new(Served { containers, door, pump });
        let stop = Arc::new(AtomicBool::new(false));
        let accepting = vec![
            accept(&served, &stop, move || Ok(Connection::Unix(unix.accept()?.0))),
            accept(&served, &stop, move || Ok(Connection::Tcp(by_tcp.accept()?.0))),
        ];
        Ok(Engine { folder, tcp, stop, accepting })
    }

    /// Where its socket is.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    /// A folder that lives as long as the engine, for whatever a run needs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its URL, for `DOCKER_HOST`.
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Its URL over tcp.
    pub fn tcp_url(&self) -> String {
        format!("tcp://{}", self.tcp)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes those who wait for a client.
        let woken =
            [UnixStream::connect(self.socket()).is_ok(), TcpStream::connect(self.tcp).is_ok()];
        for (thread, woken) in self.accepting.drain(..).zip(woken) {
            if woken {
                let _ = thread.join();
            }
        }
    }
}

fn accept(
    served: &Arc<Served>,
    stop: &Arc<AtomicBool>,
    next: impl Fn() -> io::Result<Connection> + Send + 'static,
) -> JoinHandle<()> {
    let (served, stop) = (Arc::clone(served), Arc::clone(stop));
    std::thread::spawn(move || {
        loop {
            let connection = next();
            if stop.load(Ordering::SeqCst) {
                return;
            }
            let served = Arc::clone(&served);
            match connection {
                // A client that goes away in the middle of a question is no concern of ours.
                Ok(connection) => drop(std::thread::spawn(move || serve(connection, &served))),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    })
}

enum Connection {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Connection::Unix(socket) => socket.read(buffer),
            Connection::Tcp(socket) => socket.read(buffer),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Connection::Unix(socket) => socket.write_all(bytes),
            Connection::Tcp(socket) => socket.write_all(bytes),
        }
    }

    fn end(&self) -> io::Result<()> {
        match self {
            Connection::Unix(socket) => socket.shutdown(Shutdown::Both),
            Connection::Tcp(socket) => socket.shutdown(Shutdown::Both),
        }
    }

    fn into_descriptor(self) -> OwnedFd {
        match self {
            Connection::Unix(socket) => socket.into(),
            Connection::Tcp(socket) => socket.into(),
        }
    }

    /// The head of the next request; `None` at the end.
    fn head(&mut self) -> io::Result<Option<String>> {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() == HEAD_MAX || self.read(&mut byte)? == 0 {
                return Ok(None);
            }
            head.push(byte[0]);
        }
        Ok(Some(String::from_utf8_lossy(&head).into_owned()))
    }
}

/// Answers the questions of one connection, until it becomes a stream or ends.
fn serve(mut connection: Connection, served: &Served) -> io::Result<()> {
    while let Some(head) = connection.head()? {
        let ask = answers::ask(&head, served.containers);
        if let Some(answer) = answers::answer(ask, served.containers) {
            connection.write(&answer)?;
            if head.to_ascii_lowercase().contains("\r\nconnection: close") {
                return connection.end();
            }
            continue;
        }
        let (container, wrap) = match ask {
            Ask::Attach { .. } if served.door == Door::Logs => {
                connection.write(&answers::error(403, "attach is not allowed here"))?;
                continue;
            }
            Ask::Attach { container, upgrade } => {
                connection.write(answers::attached(upgrade))?;
                (container, Wrap::Bare)
            }
            Ask::Logs { container, follow: true, timestamps } => {
                connection.write(answers::CHUNKED)?;
                (container, Wrap::Chunked { timestamps })
            }
            Ask::Logs { .. } => {
                connection.write(answers::NO_LOG)?;
                continue;
            }
            // Nothing ever happens here; the client ends it.
            _ => {
                connection.write(answers::CHUNKED)?;
                return until_closed(&mut connection);
            }
        };
        served.pump.add(Stream::new(connection.into_descriptor(), container, wrap)?);
        break;
    }
    Ok(())
}

fn until_closed(connection: &mut Connection) -> io::Result<()> {
    let mut sink = [0; 64];
    while connection.read(&mut sink)? > 0 {}
    Ok(())
}
