//! A TCP relay of our own on loopback: the slow and unsteady way to a receiver, where the kernel has
//! no netem. It holds bytes back, stalls now and then, and breaks its connections on request.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Pieces that are on their way in one direction of a connection, at most: a window.
const ON_THE_WAY: usize = 64;
/// A piece, at most.
const PIECE: usize = 16 * 1024;

/// How long bytes take.
#[derive(Clone, Copy)]
pub(crate) struct Way {
    /// From here to there, and the same back.
    pub delay: Duration,
    /// Every so many pieces ...
    pub stall_every: usize,
    /// ... one takes so much longer, as one that was lost and sent again.
    pub stall: Duration,
}

#[derive(Default)]
struct Shared {
    down: AtomicBool,
    pieces: AtomicUsize,
    sockets: Mutex<Vec<TcpStream>>,
}

/// The relay.
pub(crate) struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl Relay {
    /// A relay to `receiver`.
    pub(crate) fn to(receiver: SocketAddr, way: Way) -> Relay {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        let accepting = std::thread::spawn(move || {
            while !serving.down.load(Ordering::SeqCst) {
                match listener.accept() {
                    // A receiver that is not there is none of the relay's business.
                    Ok((client, _)) => drop(connect(&serving, client, receiver, way)),
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        });
        Relay { address, shared, accepting: Some(accepting) }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks every connection, with what is on its way.
    pub(crate) fn cut(&self) {
        for socket in self.shared.sockets.lock().unwrap().drain(..) {
            // Closed with a reset, not in order.
            let _ = socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO));
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.down.store(true, Ordering::SeqCst);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        self.cut();
    }
}

fn connect(
    shared: &Arc<Shared>,
    client: TcpStream,
    receiver: SocketAddr,
    way: Way,
) -> io::Result<()> {
    client.set_nonblocking(false)?;
    let server = TcpStream::connect(receiver)?;
    for (from, to) in [(&client, &server), (&server, &client)] {
        to.set_nodelay(true)?;
        shared.sockets.lock().unwrap().push(from.try_clone()?);
        let (from, to) = (from.try_clone()?, to.try_clone()?);
        let shared = Arc::clone(shared);
        let (sender, pieces) = mpsc::sync_channel(ON_THE_WAY);
        // Each ends when its side of the connection does: an end is no error here.
        std::thread::spawn(move || drop(take(from, &sender)));
        std::thread::spawn(move || drop(hand_on(&shared, to, &pieces, way)));
    }
    Ok(())
}

/// Takes pieces from one end, with the time at which they came.
fn take(mut from: TcpStream, pieces: &mpsc::SyncSender<(Instant, Vec<u8>)>) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    while let n @ 1.. = from.read(&mut piece)? {
        let sent = pieces.send((Instant::now(), piece[..n].to_vec()));
        sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
    }
    Ok(())
}

/// Hands pieces to the other end when their time has come.
fn hand_on(
    shared: &Shared,
    mut to: TcpStream,
    pieces: &mpsc::Receiver<(Instant, Vec<u8>)>,
    way: Way,
) -> io::Result<()> {
    for (came, piece) in pieces {
        let count = shared.pieces.fetch_add(1, Ordering::Relaxed) + 1;
        let stalls = way.stall_every > 0 && count.is_multiple_of(way.stall_every);
        let due = came + way.delay + if stalls { way.stall } else { Duration::ZERO };
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        to.write_all(&piece)?;
    }
    to.shutdown(Shutdown::Write)
}
