//! Delivers one record per datagram, many datagrams per system call.
//!
//! Datagrams promise nothing; what the kernel does say is heeded: a full socket is waited for, a
//! record that it will never take is counted and passed over, and where the peer's host answers
//! that nobody listens, the records are held as for a lost connection.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};
use socket2::SockRef;
use tokio::io::unix::AsyncFd;

use super::link::{Action, Event, Link};
use super::queue::Queue;
use super::{DatagramTarget, Shore, StreamTarget, resolve, stream};
use crate::buffer::Chunk;
use crate::io::fd::watched;

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
    while !queue.is_done() {
        match (link.poll(Instant::now()), socket.take()) {
            (Action::Ready, Some(open)) => match serve(open, queue, opened > 1).await {
                Ok(()) => continue, // time to resolve again, or done
                Err(error) => link.handle(Event::Failed(error.to_string()), Instant::now()),
            },
            (Action::Wait(until), _) => queue.rest(until).await,
            (Action::Connect | Action::Ready, _) => match connect(target).await {
                Ok(open) => {
                    queue.counters.connected.set(1);
                    queue.counters.reconnects.add(u64::from(opened > 0));
                    opened += 1;
                    socket = Some(open);
                    link.handle(Event::Connected, Instant::now());
                }
                Err(error) if error.raw_os_error() == Some(nix::libc::EPROTOTYPE) => {
                    if let DatagramTarget::Unix(path) = target {
                        let target = StreamTarget::Unix(path.clone());
                        return stream::deliver(shore, &target, queue).await;
                    }
                    link.handle(Event::Failed(error.to_string()), Instant::now());
                }
                Err(error) => link.handle(Event::Failed(error.to_string()), Instant::now()),
            },
        }
        super::say(&mut link, queue);
    }
    queue.counters.connected.set(0);
}

async fn connect(target: &DatagramTarget) -> io::Result<AsyncFd<OwnedFd>> {
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
    watched(socket)
}

/// Sends until the socket fails (`Err`), the queue is done or the name should be looked up again.
async fn serve(socket: AsyncFd<OwnedFd>, queue: &Queue, again: bool) -> io::Result<()> {
    let until = Instant::now() + RESOLVE_EVERY;
    let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, None);
    let mut probe = again;
    while !queue.is_done() && Instant::now() < until {
        let Some(mut chunk) = queue.take() else {
            let _ = tokio::time::timeout_at(until.into(), queue.wait()).await;
            continue;
        };
        while chunk.records() > 0 {
            let batch = if probe { 1 } else { BATCH };
            let result = send(&socket, &mut headers, &mut chunk, batch, queue).await;
            if let Err(error) = result {
                queue.put_back(chunk);
                return Err(error);
            }
            if std::mem::take(&mut probe) {
                tokio::time::sleep(ANSWER_TIME).await;
            }
        }
        queue.recycle(chunk);
    }
    Ok(())
}

/// Sends the first `batch` pending records of `chunk`, or as many as the socket takes.
async fn send(
    socket: &AsyncFd<OwnedFd>,
    headers: &mut MultiHeaders<SockaddrStorage>,
    chunk: &mut Chunk,
    batch: usize,
    queue: &Queue,
) -> io::Result<()> {
    let mut ready = socket.writable().await?;
    let slices: Vec<[IoSlice<'_>; 1]> =
        chunk.pending_records().take(batch).map(|record| [IoSlice::new(record)]).collect();
    let addresses = [None; BATCH];
    let sent = ready.try_io(|fd| {
        let sent = sendmmsg(
            fd.as_raw_fd(),
            headers,
            &slices,
            &addresses[..slices.len()],
            [],
            MsgFlags::empty(),
        )?;
        Ok(sent.count())
    });
    match sent {
        Err(_would_block) => Ok(()),
        Ok(Ok(count)) => {
            let bytes = chunk.pending_records().take(count).map(<[u8]>::len).sum();
            let records = chunk.deliver(bytes);
            queue.delivered(records, bytes);
            Ok(())
        }
        Ok(Err(error)) if error.raw_os_error() == Some(nix::libc::EMSGSIZE) => {
            let bytes = chunk.pending_records().take(1).map(<[u8]>::len).sum();
            queue.refused(chunk.deliver(bytes));
            Ok(())
        }
        Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        Ok(Err(error)) => Err(error),
    }
}
