//! The simulated network: connections with send and receive buffers, delays, partial reads and
//! writes, acknowledgements that arrive late, resets and silence.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::task::Waker;

use super::world::{MS, World};
use crate::io::sim::{Address, Connecting, Network, Pipe};

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Daemon,
    Receiver(usize),
}

/// How a connection ends for the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The peer sends no more.
    Fin,
    Reset,
}

/// A connection of the program.
pub(super) struct Conn {
    pub(super) peer: Peer,
    /// Which run of the program opened it.
    pub(super) run: u64,
    /// What the program wrote and has not arrived.
    wire: VecDeque<u8>,
    written: u64,
    pub(super) arrived: u64,
    /// As far as the program's host knows.
    pub(super) acked: u64,
    /// What arrived, and the peer has not read.
    pub(super) inbox: VecDeque<u8>,
    arriving: bool,
    /// What the program may read.
    ready: VecDeque<u8>,
    /// What is on its way to it, and when the last of that arrives.
    pub(super) coming: usize,
    last_comes: u64,
    end: Option<End>,
    /// The program has shut it down; the peer was told.
    shut: bool,
    eof_told: bool,
    /// The peer has closed it.
    pub(super) gone: bool,
    /// Nothing that the peer sends comes any more, nor that it has closed it.
    pub(super) hangs: bool,
    /// Nothing arrives before this time.
    pub(super) held_until: u64,
    /// Records that arrived and that nobody will read, with where each ends.
    pub(super) unread: Vec<(u64, Vec<u8>)>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    send_max: u64,
    receive_max: usize,
}

impl Conn {
    fn new(peer: Peer, run: u64, send_max: u64, receive_max: usize) -> Conn {
        Conn {
            peer,
            run,
            wire: VecDeque::new(),
            written: 0,
            arrived: 0,
            acked: 0,
            inbox: VecDeque::new(),
            arriving: false,
            ready: VecDeque::new(),
            coming: 0,
            last_comes: 0,
            end: None,
            shut: false,
            eof_told: false,
            gone: false,
            hangs: false,
            held_until: 0,
            unread: Vec::new(),
            reader: None,
            writer: None,
            send_max,
            receive_max,
        }
    }

    /// Whether it is of use to both ends.
    pub(super) fn is_open(&self) -> bool {
        self.end.is_none() && !self.shut && !self.gone
    }

    fn wake(&mut self) {
        let wakers = [self.reader.take(), self.writer.take()];
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

impl World {
    fn open(&mut self, peer: Peer) -> usize {
        let (send_max, receive_max) = match peer {
            Peer::Daemon => (1 << 20, 1 << 20),
            Peer::Receiver(_) => self.daemon.scenario.windows,
        };
        self.conns.push(Conn::new(peer, self.run, send_max, receive_max));
        let number = self.conns.len() - 1;
        self.note("open", number as u64, matches!(peer, Peer::Daemon).into());
        if let Peer::Receiver(receiver) = peer {
            self.receivers[receiver].accept(number);
        }
        number
    }

    /// A time that something takes on the network.
    fn latency(&mut self) -> u64 {
        match self.chance.below(8) {
            0 => 0,
            1..=5 => self.chance.below(MS),
            6 => self.chance.below(5 * MS),
            _ => self.chance.below(20 * MS),
        }
    }

    /// The peer sends `bytes`, `delay` later.
    pub(super) fn send(&mut self, number: usize, bytes: Vec<u8>, delay: u64) {
        if self.conns[number].hangs {
            return;
        }
        let at = self.comes_at(number, delay);
        self.conns[number].coming += bytes.len();
        self.at(at, move |world| {
            let conn = &mut world.conns[number];
            conn.coming -= bytes.len();
            if conn.end.is_none() && !conn.shut {
                conn.ready.extend(&bytes);
                conn.wake();
            }
        });
    }

    /// What the peer sends now arrives after what it sent before.
    fn comes_at(&mut self, number: usize, delay: u64) -> u64 {
        let latency = self.latency();
        let conn = &mut self.conns[number];
        let at = (self.now + delay + latency).max(conn.last_comes).max(conn.held_until);
        conn.last_comes = at;
        at
    }

    /// The peer has closed the connection: what comes to it is answered by a reset.
    pub(super) fn close_by_peer(&mut self, number: usize, end: End) {
        if self.conns[number].hangs || std::mem::replace(&mut self.conns[number].gone, true) {
            return;
        }
        let at = self.comes_at(number, 0);
        self.at(at, move |world| world.ended(number, end));
        self.carry(number);
    }

    /// The program's host hears that the connection has ended.
    fn ended(&mut self, number: usize, end: End) {
        self.note("ended", number as u64, u64::from(end == End::Reset));
        let conn = &mut self.conns[number];
        if conn.end == Some(End::Reset) {
            return;
        }
        conn.end = Some(end);
        if end == End::Reset {
            conn.wire.clear();
            let acked = conn.acked;
            let unread = std::mem::take(&mut conn.unread);
            if let Peer::Receiver(receiver) = conn.peer {
                // The kernel said that it has them, and nobody can know better.
                let known = unread.into_iter().filter(|(end, _)| *end <= acked);
                known.for_each(|(_, record)| self.ledger.never_read(receiver, &record));
            }
        }
        self.conns[number].wake();
    }

    /// Something between the two resets the connection: what has arrived is read, nothing else.
    pub(super) fn reset(&mut self, number: usize) {
        self.note("reset", number as u64, 0);
        match self.conns[number].peer {
            Peer::Receiver(receiver) => self.read_rest(receiver, number, true),
            Peer::Daemon => self.daemon_eof(number),
        }
        self.conns[number].gone = true;
        self.ended(number, End::Reset);
    }

    /// What is between the two stands still: nothing more of what the peer says comes.
    pub(super) fn hang(&mut self, number: usize) {
        self.note("hangs", number as u64, 0);
        self.conns[number].hangs = true;
        self.ledger.streams.hangs(number, self.now);
    }

    /// The next of what the program wrote arrives some time.
    pub(super) fn carry(&mut self, number: usize) {
        let latency = self.latency();
        let conn = &mut self.conns[number];
        if conn.arriving || conn.wire.is_empty() && (!conn.shut || conn.eof_told) {
            return;
        }
        if !conn.wire.is_empty() && conn.inbox.len() >= conn.receive_max && !conn.gone {
            return; // until the peer reads
        }
        conn.arriving = true;
        let at = (self.now + latency).max(conn.held_until);
        self.at(at, move |world| world.arrive(number));
    }

    fn arrive(&mut self, number: usize) {
        let share = self.chance.from(1, 4);
        let conn = &mut self.conns[number];
        conn.arriving = false;
        if conn.end == Some(End::Reset) {
            return;
        }
        if conn.held_until > self.now {
            return self.carry(number);
        }
        if conn.gone && !conn.wire.is_empty() {
            let at = self.comes_at(number, 0);
            return self.at(at, move |world| world.ended(number, End::Reset));
        }
        if conn.wire.is_empty() {
            conn.eof_told = true;
            self.note("eof", number as u64, 0);
            return match self.conns[number].peer {
                Peer::Daemon => self.daemon_eof(number),
                Peer::Receiver(receiver) => self.read_rest(receiver, number, false),
            };
        }
        let room = conn.receive_max.saturating_sub(conn.inbox.len()) as u64;
        let most = (conn.wire.len() as u64).min(room.max(1));
        let n = (most / share).clamp(1, 64 * 1024) as usize;
        let Conn { wire, inbox, .. } = conn;
        inbox.extend(wire.drain(..n));
        conn.arrived += n as u64;
        let arrived = conn.arrived;
        self.note("arrive", number as u64, n as u64);
        self.acknowledge(number, arrived);
        match self.conns[number].peer {
            Peer::Daemon => self.daemon_readable(number),
            Peer::Receiver(receiver) => self.readable(receiver),
        }
        self.carry(number);
    }

    fn acknowledge(&mut self, number: usize, arrived: u64) {
        let at = (self.now + self.latency()).max(self.conns[number].held_until);
        self.at(at, move |world| {
            let conn = &mut world.conns[number];
            if conn.held_until > world.now {
                return world.acknowledge(number, arrived);
            }
            if conn.end != Some(End::Reset) && conn.acked < arrived {
                conn.acked = arrived;
                conn.wake();
            }
        });
    }
}

/// The program's end of connection `number`.
struct Near {
    world: Rc<RefCell<World>>,
    number: usize,
}

impl Pipe for Near {
    fn read(&self, space: &mut [u8], waker: Option<&Waker>) -> io::Result<usize> {
        let mut world = self.world.borrow_mut();
        world.catch_up();
        let cut = world.chance.from(1, 6) as usize;
        let conn = &mut world.conns[self.number];
        if conn.shut {
            return Ok(0);
        }
        if conn.ready.is_empty() {
            return match conn.end {
                Some(End::Fin) => Ok(0),
                Some(End::Reset) => Err(io::ErrorKind::ConnectionReset.into()),
                None => {
                    conn.reader = waker.cloned().or(conn.reader.take());
                    Err(io::ErrorKind::WouldBlock.into())
                }
            };
        }
        // One in six reads takes less than there is.
        let most = conn.ready.len().min(space.len());
        let n = if cut == 1 { most.div_ceil(2) } else { most };
        for (to, from) in space.iter_mut().zip(conn.ready.drain(..n)) {
            *to = from;
        }
        world.note("read", self.number as u64, n as u64);
        Ok(n)
    }

    fn write(&self, bytes: &[u8], waker: Option<&Waker>) -> io::Result<usize> {
        let mut world = self.world.borrow_mut();
        world.catch_up();
        let cut = world.chance.from(1, 4);
        let conn = &mut world.conns[self.number];
        if conn.shut {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if conn.end == Some(End::Reset) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let room = conn.send_max.saturating_sub(conn.written - conn.acked) as usize;
        if room == 0 {
            conn.writer = waker.cloned();
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let most = bytes.len().min(room);
        let n = if cut == 1 { most.div_ceil(3) } else { most };
        conn.wire.extend(&bytes[..n]);
        conn.written += n as u64;
        world.note("write", self.number as u64, n as u64);
        world.carry(self.number);
        Ok(n)
    }

    fn unacknowledged(&self) -> usize {
        let world = self.world.borrow();
        let conn = &world.conns[self.number];
        (conn.written - conn.acked) as usize
    }

    fn shut(&self) {
        let mut world = self.world.borrow_mut();
        world.catch_up();
        world.note("shut", self.number as u64, 0);
        world.conns[self.number].shut = true;
        let now = world.now;
        world.ledger.streams.ends(self.number, now);
        world.conns[self.number].wake();
        world.carry(self.number);
    }
}

/// The network as the program sees it.
pub(super) struct Lan(pub(super) Rc<RefCell<World>>);

impl Network for Lan {
    fn connect(&self, to: Address) -> Connecting {
        let world = Rc::clone(&self.0);
        Box::pin(async move {
            let (latency, peer) = {
                let mut world = world.borrow_mut();
                world.catch_up();
                let peer = match to {
                    Address::Unix(_) => Peer::Daemon,
                    Address::Tcp(address) => Peer::Receiver(usize::from(address.port()) - 1),
                };
                (world.latency(), peer)
            };
            tokio::time::sleep(std::time::Duration::from_nanos(latency)).await;
            let answers = |world: &World| match peer {
                Peer::Receiver(receiver) => world.receivers[receiver].cut_until <= world.now,
                Peer::Daemon => true,
            };
            while !answers(&world.borrow()) {
                tokio::time::sleep(std::time::Duration::from_millis(500)).await;
                world.borrow_mut().catch_up();
            }
            let mut open = world.borrow_mut();
            open.catch_up();
            let listens = match peer {
                Peer::Daemon => !open.daemon.down,
                Peer::Receiver(receiver) => open.receivers[receiver].up,
            };
            if !listens {
                open.note("refused", latency, 0);
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let number = open.open(peer);
            drop(open);
            Ok(Rc::new(Near { world, number }) as Rc<dyn Pipe>)
        })
    }
}
