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
use super::pool::{Lease, Pool, READ_MAX};
use super::tick::Ticker;
use crate::sys::fd::watched;

/// What an io_uring read takes at most: it pins a buffer of its own for as long as the socket is
/// silent. Whatever else has arrived is then taken without waiting, into the shared buffer.
const RING_READ: usize = 1024;
/// Connecting takes at most this long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A peer that vanished without a word is noticed after about a minute of silence.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// So many bytes may wait in our kernel that it has not sent over TCP, about: more would wait with
/// us instead. What it has sent is limited by the connection's own window.
const UNSENT_MAX: u32 = 128 * 1024;

/// A connected byte stream. Dropping it shuts it down, so that an io_uring read that is still
/// armed ends and the peer sees the end.
pub struct Stream {
    socket: Socket,
    fd: RawFd,
    shut: Rc<Cell<bool>>,
    /// The next read looks before it waits.
    paused: Cell<bool>,
    /// How much the last read took.
    last: Cell<usize>,
}

/// Reading and writing do not ask for the address family: TCP and Unix share one variant each.
enum Socket {
    /// The wrapper's name means nothing; beside it the small buffer of the next read.
    Ring(tokio_uring::net::UnixStream, RefCell<Vec<u8>>),
    Poll(Watch),
    #[cfg(test)]
    Simulated(Rc<dyn super::sim::Pipe>),
}

/// A socket that epoll watches, unless it is not to be woken for.
struct Watch {
    socket: Rc<OwnedFd>,
    watched: RefCell<Option<Rc<Watched>>>,
}

type Watched = AsyncFd<Rc<OwnedFd>>;

impl Watch {
    /// What waits for the socket, as soon as it is asked for.
    fn get(&self) -> io::Result<Rc<Watched>> {
        let mut kept = self.watched.borrow_mut();
        let watched = match kept.take() {
            Some(watched) => watched,
            None => Rc::new(watched(Rc::clone(&self.socket))?),
        };
        Ok(Rc::clone(kept.insert(watched)))
    }

    /// From now on nothing that happens to the socket wakes the shard, until it is waited for
    /// again: epoll reports each piece that arrives, whether or not anyone waits.
    fn look_away(&self) {
        self.watched.take();
    }
}

/// What a look at the receiving side of a stream found, without waiting.
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
        #[cfg(test)]
        if driver == Driver::Simulated {
            return Stream::simulated(super::sim::Address::Tcp(address)).await;
        }
        let stream = within(tokio::net::TcpStream::connect(address)).await?;
        stream.set_nodelay(true)?;
        let keepalive =
            TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
        let socket = SockRef::from(&stream);
        socket.set_tcp_keepalive(&keepalive)?;
        socket.set_tcp_notsent_lowat(UNSENT_MAX)?;
        Stream::new(driver, stream.into_std()?.into())
    }

    /// Connects to the socket at `path`.
    pub async fn connect_unix(driver: Driver, path: &Path) -> io::Result<Stream> {
        #[cfg(test)]
        if driver == Driver::Simulated {
            return Stream::simulated(super::sim::Address::Unix(path.to_owned())).await;
        }
        let stream = within(tokio::net::UnixStream::connect(path)).await?;
        Stream::new(driver, stream.into_std()?.into())
    }

    /// A connected, non-blocking socket becomes a stream of this driver.
    fn new(driver: Driver, socket: OwnedFd) -> io::Result<Stream> {
        let fd = socket.as_raw_fd();
        let socket = match driver {
            Driver::Poll => {
                let socket = Rc::new(socket);
                let watched = Rc::new(watched(Rc::clone(&socket))?);
                Socket::Poll(Watch { socket, watched: RefCell::new(Some(watched)) })
            }
            Driver::Ring => {
                let stream = std::os::unix::net::UnixStream::from(socket);
                // On a non-blocking socket io_uring would answer EAGAIN rather than wait.
                stream.set_nonblocking(false)?;
                let stream = tokio_uring::net::UnixStream::from_std(stream);
                Socket::Ring(stream, RefCell::default())
            }
            #[cfg(test)]
            Driver::Simulated => return Err(io::ErrorKind::Unsupported.into()),
        };
        Ok(Stream::of(socket, fd))
    }

    fn of(socket: Socket, fd: RawFd) -> Stream {
        Stream { socket, fd, shut: Rc::default(), paused: Cell::default(), last: Cell::default() }
    }

    /// Waits for bytes and takes all that fit one buffer; empty at the end of the stream.
    /// Must be awaited to its end: see the module's traps. At most one read at a time.
    pub async fn read(&self, pool: &Rc<Pool>) -> io::Result<Lease> {
        self.read_some(pool, READ_MAX).await
    }

    /// As [`Stream::read`], and takes no more than `most` bytes, which are at least 1 KiB.
    pub async fn read_some(&self, pool: &Rc<Pool>, most: usize) -> io::Result<Lease> {
        if self.paused.take() {
            pool.turn(self.last.get()).await;
            match self.incoming(pool)? {
                Incoming::Bytes(bytes) => return Ok(self.noted(bytes)),
                Incoming::End => return Ok(pool.lease()),
                Incoming::Nothing => {}
            }
        }
        let lease = match &self.socket {
            Socket::Ring(stream, small) => self.read_by_ring(stream, small, pool, most).await?,
            Socket::Poll(watch) => {
                let watched = watch.get()?;
                read_when_ready(&watched, pool, self.last.get(), most).await?
            }
            #[cfg(test)]
            Socket::Simulated(pipe) => {
                simulated::read(&**pipe, pool, self.last.get(), most).await?
            }
        };
        Ok(self.noted(lease))
    }

    fn noted(&self, lease: Lease) -> Lease {
        self.last.set(lease.len());
        super::doze::note(lease.len());
        lease
    }

    async fn read_by_ring(
        &self,
        stream: &tokio_uring::net::UnixStream,
        small: &RefCell<Vec<u8>>,
        pool: &Rc<Pool>,
        most: usize,
    ) -> io::Result<Lease> {
        let mut bytes = small.take();
        bytes.clear();
        bytes.reserve_exact(RING_READ);
        let (result, bytes) = stream.read(bytes).await;
        pool.turn(self.last.get()).await;
        let mut lease = pool.lease();
        let n = lease.put(&bytes[..*result.as_ref().unwrap_or(&0)]);
        small.replace(bytes);
        result?;
        if n >= RING_READ
            && let Ok(more) = recv(self.fd, &mut lease.space()[..most - n], MsgFlags::MSG_DONTWAIT)
        {
            // An end or an error that hides behind these bytes shows at the next read.
            lease.fill(more);
        }
        Ok(lease)
    }

    /// Lets bytes gather for `length` at most: nothing that arrives wakes the shard, and the next
    /// read takes what there is. To be called between reads, and may be dropped.
    pub async fn pause(&self, ticker: &Ticker, length: Duration) {
        if let Socket::Poll(watch) = &self.socket {
            watch.look_away();
        }
        self.paused.set(true);
        ticker.pause(length).await;
    }

    /// Takes what has arrived, without waiting.
    pub fn incoming(&self, pool: &Rc<Pool>) -> io::Result<Incoming> {
        let mut lease = pool.lease();
        #[cfg(test)]
        if let Socket::Simulated(pipe) = &self.socket {
            return simulated::incoming(&**pipe, lease);
        }
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
            Socket::Poll(watch) => match watch.get() {
                Ok(watched) => (write_when_ready(&watched, &bytes[from..]).await, bytes),
                Err(error) => (Err(error), bytes),
            },
            #[cfg(test)]
            Socket::Simulated(pipe) => (simulated::write(&**pipe, &bytes[from..]).await, bytes),
        }
    }

    /// How many written bytes the peer's host has not acknowledged (TCP), or the peer has not read
    /// (Unix, rounded up); also of a stream that was shut down.
    pub fn unacknowledged(&self) -> usize {
        #[cfg(test)]
        if let Socket::Simulated(pipe) = &self.socket {
            return pipe.unacknowledged();
        }
        crate::sys::fd::unsent(self.fd)
    }

    /// Lets other tasks run after a read that left more to be read, so that one busy stream cannot
    /// keep the shard to itself: it gets one buffer a turn, as the others do.
    /// On the ring each read waits for its completion anyway (and yielding would stall the ring).
    pub async fn breathe(&self) {
        if !matches!(self.socket, Socket::Ring(..)) && self.last.get() == READ_MAX {
            tokio::task::yield_now().await;
        }
    }

    /// Something that can end this stream from elsewhere on the same thread.
    pub fn closer(&self) -> Closer {
        Closer {
            fd: self.fd,
            shut: Rc::clone(&self.shut),
            #[cfg(test)]
            simulated: match &self.socket {
                Socket::Simulated(pipe) => Some(simulated::End(Rc::clone(pipe))),
                _ => None,
            },
        }
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
    #[cfg(test)]
    simulated: Option<simulated::End>,
}

impl Closer {
    /// Whether the stream was shut down.
    pub fn is_closed(&self) -> bool {
        self.shut.get()
    }

    /// How many written bytes the peer has not acknowledged (TCP) or read (Unix); 0 after the
    /// stream was shut down.
    pub fn unsent(&self) -> usize {
        #[cfg(test)]
        if let (Some(end), false) = (&self.simulated, self.shut.get()) {
            return end.0.unacknowledged();
        }
        if self.shut.get() { 0 } else { crate::sys::fd::unsent(self.fd) }
    }

    /// Shuts both directions down.
    pub fn close(&self) {
        if !self.shut.replace(true) {
            #[cfg(test)]
            if let Some(end) = &self.simulated {
                return end.0.shut();
            }
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

async fn read_when_ready(
    fd: &Watched,
    pool: &Rc<Pool>,
    last: usize,
    most: usize,
) -> io::Result<Lease> {
    loop {
        let mut ready = fd.readable().await?;
        pool.turn(last).await;
        let mut lease = pool.lease();
        let space = &mut lease.space()[..most];
        let read = ready.try_io(|fd| Ok(recv(fd.as_raw_fd(), space, MsgFlags::empty())?));
        match read {
            Ok(Ok(n)) => {
                if (1..most).contains(&n) {
                    // All that there was: saves the read that would find nothing. An end of the
                    // stream that came with it is remembered all the same.
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

async fn write_when_ready(fd: &Watched, bytes: &[u8]) -> io::Result<usize> {
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

/// The same over connections that are only made up: see [`super::sim`].
#[cfg(test)]
mod simulated {
    use std::fmt;
    use std::future::poll_fn;
    use std::task::{Poll, Waker};

    use super::super::sim::{Address, Pipe, connect};
    use super::*;

    impl Stream {
        pub(super) async fn simulated(to: Address) -> io::Result<Stream> {
            let pipe = within(connect(to)).await?;
            Ok(Stream::of(Socket::Simulated(pipe), -1))
        }
    }

    /// What ends a connection.
    #[derive(Clone)]
    pub(super) struct End(pub(super) Rc<dyn Pipe>);

    impl fmt::Debug for End {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("simulated")
        }
    }

    pub(super) async fn read(
        pipe: &dyn Pipe,
        pool: &Rc<Pool>,
        last: usize,
        most: usize,
    ) -> io::Result<Lease> {
        pool.turn(last).await;
        let mut lease = pool.lease();
        let n = when_ready(|waker| pipe.read(&mut lease.space()[..most], Some(waker))).await?;
        lease.fill(n);
        Ok(lease)
    }

    pub(super) fn incoming(pipe: &dyn Pipe, mut lease: Lease) -> io::Result<Incoming> {
        match pipe.read(lease.space(), None) {
            Ok(0) => Ok(Incoming::End),
            Ok(n) => {
                lease.fill(n);
                Ok(Incoming::Bytes(lease))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Incoming::Nothing),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn write(pipe: &dyn Pipe, bytes: &[u8]) -> io::Result<usize> {
        when_ready(|waker| pipe.write(bytes, Some(waker))).await
    }

    async fn when_ready(mut attempt: impl FnMut(&Waker) -> io::Result<usize>) -> io::Result<usize> {
        poll_fn(|context| match attempt(context.waker()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            done => Poll::Ready(done),
        })
        .await
    }
}
