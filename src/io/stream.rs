//! A connected byte stream, TCP or Unix, on either driver.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, recv, send};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::unix::AsyncFd;
use tokio_uring::buf::BoundedBuf;

use super::Driver;
use super::fd::watched;
use super::pool::{Lease, Pool};

/// What an io_uring read takes at most: it pins a buffer of its own for as long as the socket is
/// silent. Whatever else has arrived is then taken without waiting, into the shared buffer.
const RING_READ: usize = 4 * 1024;
/// Connecting takes at most this long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A peer that vanished without a word is noticed after about a minute of silence.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// A connected byte stream. Dropping it shuts it down, so that an io_uring read that is still
/// armed ends and the peer sees the end.
pub struct Stream {
    socket: Socket,
    fd: RawFd,
    shut: Rc<Cell<bool>>,
}

/// Reading and writing do not ask for the address family: TCP and Unix share one variant each.
enum Socket {
    /// The wrapper's name means nothing; beside it the small buffer of the next read.
    Ring(tokio_uring::net::UnixStream, RefCell<Vec<u8>>),
    Poll(AsyncFd<OwnedFd>),
}

/// What a look at the receiving side of a stream found, without waiting.
#[derive(Debug)]
pub enum Incoming {
    /// Nothing.
    Nothing,
    /// Bytes.
    Bytes(Lease),
    /// The peer will send no more.
    End,
}

impl Stream {
    /// Connects to `address` over TCP.
    pub async fn connect_tcp(driver: Driver, address: SocketAddr) -> io::Result<Stream> {
        let stream = within(tokio::net::TcpStream::connect(address)).await?;
        stream.set_nodelay(true)?;
        let keepalive =
            TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
        SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
        Stream::new(driver, stream.into_std()?.into())
    }

    /// Connects to the socket at `path`.
    pub async fn connect_unix(driver: Driver, path: &Path) -> io::Result<Stream> {
        let stream = within(tokio::net::UnixStream::connect(path)).await?;
        Stream::new(driver, stream.into_std()?.into())
    }

    /// A connected, non-blocking socket becomes a stream of this driver.
    fn new(driver: Driver, socket: OwnedFd) -> io::Result<Stream> {
        let fd = socket.as_raw_fd();
        let socket = match driver {
            Driver::Poll => Socket::Poll(watched(socket)?),
            Driver::Ring => {
                let stream = std::os::unix::net::UnixStream::from(socket);
                // On a non-blocking socket io_uring would answer EAGAIN rather than wait.
                stream.set_nonblocking(false)?;
                let stream = tokio_uring::net::UnixStream::from_std(stream);
                Socket::Ring(stream, RefCell::default())
            }
        };
        Ok(Stream { socket, fd, shut: Rc::default() })
    }

    /// Waits for bytes and takes all that fit one buffer; empty at the end of the stream.
    /// Must be awaited to its end: see the module's traps. At most one read at a time.
    pub async fn read(&self, pool: &Rc<Pool>) -> io::Result<Lease> {
        let (stream, small) = match &self.socket {
            Socket::Ring(stream, small) => (stream, small),
            Socket::Poll(fd) => return self.read_when_ready(fd, pool).await,
        };
        let mut bytes = small.take();
        bytes.clear();
        bytes.reserve_exact(RING_READ);
        let (result, bytes) = stream.read(bytes).await;
        let mut lease = pool.lease();
        let n = lease.put(&bytes[..*result.as_ref().unwrap_or(&0)]);
        small.replace(bytes);
        result?;
        if n >= RING_READ
            && let Ok(more) = recv(self.fd, lease.space(), MsgFlags::MSG_DONTWAIT)
        {
            // An end or an error that hides behind these bytes shows at the next read.
            lease.fill(more);
        }
        Ok(lease)
    }

    async fn read_when_ready(&self, fd: &AsyncFd<OwnedFd>, pool: &Rc<Pool>) -> io::Result<Lease> {
        loop {
            let mut ready = fd.readable().await?;
            let mut lease = pool.lease();
            let read =
                ready.try_io(|fd| Ok(recv(fd.as_raw_fd(), lease.space(), MsgFlags::empty())?));
            match read {
                Ok(Ok(n)) => {
                    if (1..lease.space().len()).contains(&n) {
                        // All that there was: saves the read that would find nothing. An end of
                        // the stream that came with it is remembered all the same.
                        ready.clear_ready();
                    }
                    lease.fill(n);
                    return Ok(lease);
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }

    /// Takes what has arrived, without waiting.
    pub fn incoming(&self, pool: &Rc<Pool>) -> io::Result<Incoming> {
        let mut lease = pool.lease();
        match recv(self.fd, lease.space(), MsgFlags::MSG_DONTWAIT) {
            Ok(0) => Ok(Incoming::End),
            Ok(n) => {
                lease.fill(n);
                Ok(Incoming::Bytes(lease))
            }
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => Ok(Incoming::Nothing),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes some of `bytes[from..]`, waiting until the kernel takes any; gives `bytes` back.
    pub async fn write(&self, bytes: Vec<u8>, from: usize) -> (io::Result<usize>, Vec<u8>) {
        match &self.socket {
            Socket::Ring(stream, _) => {
                // A write through the ring is done no sooner than the next turn of the loop, in
                // which other streams bring more than one write takes. So it is for waiting only.
                match send_some(self.fd, &bytes[from..]) {
                    Err(error) if is_momentary(&error) => {
                        let (result, slice) = stream.write(bytes.slice(from..)).submit().await;
                        (result, slice.into_inner())
                    }
                    result => (result, bytes),
                }
            }
            Socket::Poll(fd) => (write_when_ready(fd, &bytes[from..]).await, bytes),
        }
    }

    /// Lets other tasks run after a read, so that one busy stream cannot keep the shard to itself.
    /// On the ring each read waits for its completion anyway (and yielding would stall the ring).
    pub async fn breathe(&self) {
        if matches!(self.socket, Socket::Poll(_)) {
            tokio::task::yield_now().await;
        }
    }

    /// Something that can end this stream from elsewhere on the same thread.
    pub fn closer(&self) -> Closer {
        Closer { fd: self.fd, shut: Rc::clone(&self.shut) }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.closer().close();
    }
}

/// Ends a [`Stream`]: what waits on it wakes and finds the end. Harmless after the stream is gone.
#[derive(Clone, Debug)]
pub struct Closer {
    fd: RawFd,
    /// Set when the stream was shut down, at the latest when it was dropped: from then on the
    /// descriptor's number may belong to someone else.
    shut: Rc<Cell<bool>>,
}

impl Closer {
    /// Whether the stream was shut down.
    pub fn is_closed(&self) -> bool {
        self.shut.get()
    }

    /// How many written bytes the peer has not acknowledged (TCP) or read (Unix); 0 after the
    /// stream was shut down.
    pub fn unsent(&self) -> usize {
        if self.shut.get() { 0 } else { super::fd::unsent(self.fd) }
    }

    /// Shuts both directions down.
    pub fn close(&self) {
        if !self.shut.replace(true) {
            // ENOTCONN where the peer was faster: then there is nothing to end.
            let _ = nix::sys::socket::shutdown(self.fd, nix::sys::socket::Shutdown::Both);
        }
    }
}

async fn within<T>(connect: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(CONNECT_TIMEOUT, connect).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()),
        )),
    }
}

fn is_momentary(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Writes what the kernel takes without waiting.
fn send_some(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(send(fd, bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL)?)
}

async fn write_when_ready(fd: &AsyncFd<OwnedFd>, bytes: &[u8]) -> io::Result<usize> {
    loop {
        let mut ready = fd.writable().await?;
        let written = ready.try_io(|fd| send_some(fd.as_raw_fd(), bytes));
        match written {
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(result) => return result,
            Err(_would_block) => {}
        }
    }
}
