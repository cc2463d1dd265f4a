//! Delivers one record per datagram, many datagrams per system call.
//!
//! Datagrams promise nothing; what the kernel does say is heeded: a full socket is waited for, a
//! record that it will never take is counted and passed over, and where the peer's host answers
//! that nobody listens, the records are held as for a lost connection.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};
use socket2::SockRef;
use tokio::io::unix::AsyncFd;

use super::link::{Action, Event, Link};
use super::queue::Queue;
use super::stream::Protocol;
use super::{DatagramTarget, Shore, StreamTarget, resolve, stream};
use crate::buffer::Chunk;
use crate::io::clock;
use crate::sys::fd::watched;

/// Datagrams per system call.
const BATCH: usize = 64;
/// Send buffer of the socket, as Logspout's.
const SEND_BUFFER: usize = 1 << 20;
/// Names are resolved again this often, since no connection ends when an address changes.
const RESOLVE_EVERY: Duration = Duration::from_secs(60);
/// How long the answer "nobody listens" may take to arrive from a host nearby.
const ANSWER_TIME: Duration = Duration::from_millis(20);

/// Delivers `queue` to `target` until it is done.
pub async fn deliver(shore: &Shore, target: &DatagramTarget, queue: &Queue) {
    if !shore.eager {
        queue.wait().await;
    }
    let mut link = Link::new(shore.seed);
    let mut socket = None;
    let mut opened = 0u64;
    let mut now = clock::now();
    while !queue.is_done() {
        match (link.poll(now), socket.take()) {
            (Action::Ready, Some(open)) => match serve(&open, queue).await {
                // Time to look the name up again; where that fails, the old address will do.
                Ok(()) if !queue.is_done() => {
                    socket = Some(connect(target).await.map_or(open, Socket::trusted));
                }
                Ok(()) => {}
                Err(error) => link.handle(Event::Failed(error.to_string()), clock::now()),
            },
            (Action::Wait(until), _) => {
                now = queue.pause(until).await;
                continue;
            }
            (Action::Connect | Action::Ready, _) => match connect(target).await {
                Ok(open) => {
                    queue.counters.reconnects.add(u64::from(opened > 0));
                    opened += 1;
                    socket = Some(open);
                    link.handle(Event::Connected, clock::now());
                }
                Err(error) if error.raw_os_error() == Some(nix::libc::EPROTOTYPE) => {
                    if let DatagramTarget::Unix(path) = target {
                        let target = StreamTarget::Unix(path.clone());
                        return stream::deliver(shore, &target, Protocol::Plain, queue).await;
                    }
                    link.handle(Event::Failed(error.to_string()), clock::now());
                }
                Err(error) => link.handle(Event::Failed(error.to_string()), clock::now()),
            },
        }
        queue.counters.connected.set(u64::from(socket.is_some()));
        super::say(&mut link, queue);
        now = clock::now();
    }
    queue.counters.connected.set(0);
}

/// A connected socket.
struct Socket {
    fd: AsyncFd<Rc<OwnedFd>>,
    /// Whether the peer's host may answer, later, that nobody listens.
    answers: bool,
    /// Whether that is to be found out before more is sent.
    doubt: Cell<bool>,
}

impl Socket {
    /// The same, of a peer that is known to be there.
    fn trusted(self) -> Socket {
        self.doubt.set(false);
        self
    }
}

async fn connect(target: &DatagramTarget) -> io::Result<Socket> {
    let answers = matches!(target, DatagramTarget::Udp(_));
    let socket: OwnedFd = match target {
        DatagramTarget::Unix(path) => {
            let socket = std::os::unix::net::UnixDatagram::unbound()?;
            socket.connect(path)?;
            socket.set_nonblocking(true)?;
            socket.into()
        }
        DatagramTarget::Udp(host) => {
            let addresses = resolve::resolve(host).await?;
            let v6 = addresses.first().is_some_and(|address| address.is_ipv6());
            let any = if v6 { "[::]:0" } else { "0.0.0.0:0" };
            let socket = std::net::UdpSocket::bind(any)?;
            socket.connect(&addresses[..])?;
            socket.set_nonblocking(true)?;
            socket.into()
        }
    };
    SockRef::from(&socket).set_send_buffer_size(SEND_BUFFER)?;
    Ok(Socket { fd: watched(Rc::new(socket))?, answers, doubt: Cell::new(answers) })
}

/// Sends until the socket fails (`Err`), the queue is done or the name should be looked up again.
async fn serve(socket: &Socket, queue: &Queue) -> io::Result<()> {
    let until = clock::now() + RESOLVE_EVERY;
    let mut headers = MultiHeaders::preallocate(BATCH, None);
    while !queue.is_done() && clock::now() < until {
        let Some(mut chunk) = queue.take() else {
            let _ = tokio::time::timeout_at(until.into(), queue.wait()).await;
            continue;
        };
        let result = send_all(socket, &mut headers, &mut chunk, queue).await;
        queue.put_back(chunk);
        result?;
    }
    Ok(())
}

/// Sends the pending records of `chunk`.
///
/// Where nobody listens, the peer's host says so after a datagram was sent, and the next system
/// call fails for it; within a batch that shows only as a batch cut short. So where that is in
/// doubt (a new connection, a batch cut short) a single record is sent, and counts as delivered
/// only if no such answer comes in the time that one takes.
async fn send_all(
    socket: &Socket,
    headers: &mut MultiHeaders<SockaddrStorage>,
    chunk: &mut Chunk,
    queue: &Queue,
) -> io::Result<()> {
    while chunk.records() > 0 {
        let mut ready = tokio::select! {
            biased;
            ready = socket.fd.writable() => ready?,
            () = queue.until_given_up() => return Ok(()),
        };
        let doubt = socket.doubt.take();
        let batch = chunk.records().min(if doubt { 1 } else { BATCH });
        let sent = ready.try_io(|fd| send(fd.as_raw_fd(), headers, chunk, batch));
        drop(ready);
        match sent {
            Err(_would_block) => {}
            Ok(Ok(count)) => {
                if doubt {
                    tokio::time::sleep(ANSWER_TIME).await;
                    if let Some(error) = SockRef::from(&socket.fd).take_error()? {
                        return Err(error);
                    }
                }
                let bytes = chunk.pending_records().take(count).map(<[u8]>::len).sum();
                // By their number: a datagram may be empty.
                chunk.deliver_records(count);
                queue.delivered(count, bytes);
                socket.doubt.set(socket.answers && count < batch);
            }
            Ok(Err(error)) if error.raw_os_error() == Some(nix::libc::EMSGSIZE) => {
                let bytes = chunk.pending_records().take(1).map(<[u8]>::len).sum();
                chunk.deliver_records(1);
                queue.refused(1, bytes);
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(Err(error)) => return Err(error),
        }
    }
    Ok(())
}

/// Sends the first `batch` pending records of `chunk`, at most [`BATCH`]; returns how many the
/// socket has taken.
fn send(
    fd: RawFd,
    headers: &mut MultiHeaders<SockaddrStorage>,
    chunk: &Chunk,
    batch: usize,
) -> io::Result<usize> {
    let mut slices = [[IoSlice::new(&[])]; BATCH];
    for (slice, record) in slices.iter_mut().zip(chunk.pending_records()) {
        *slice = [IoSlice::new(record)];
    }
    let slices = &slices[..batch];
    let addresses = [None; BATCH];
    let sent = sendmmsg(fd, headers, slices, &addresses[..batch], [], MsgFlags::empty())?;
    Ok(sent.count())
}
