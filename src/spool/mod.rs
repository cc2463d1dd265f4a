//! A route's spool: records that its memory has no room for wait on the disk, in their order, also
//! while the program does not run.
//!
//! [`segment`] is the format of the files and [`log`] the books of a log, both pure; [`volume`] has
//! the files, which [`disk`] changes, and [`keeper`] is the thread of a spool, which alone waits
//! for the disk. Shards order and are answered through a [`Berth`]; what is ordered when is
//! [`crate::buffer::shelf`]'s.
//!
//! A spool is a folder of its own. Each run of the program writes logs of its own, one a shard;
//! those of earlier runs are only read, and deleted when they are delivered.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::{fmt, io};

use tokio::sync::Notify;

use crate::buffer::shelf::{Answer, Order};
use crate::metrics::RouteCounters;

pub(crate) mod disk;
mod keeper;
pub mod lock;
pub mod log;
pub mod segment;
mod volume;

/// Characters of a route that its folder's name begins with.
const READABLE: usize = 60;

/// Where a spool is and how much it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The folder of all spools.
    pub folder: PathBuf,
    /// Bytes on the disk, at most.
    pub max: u64,
}

/// Which route it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// What messages call the route.
    pub name: String,
    /// What makes it the same route in another run; tells nothing secret.
    pub identity: String,
    /// The readable part of the folder's name.
    pub readable: String,
}

/// The spool of one route.
pub struct Spool {
    name: String,
    folder: PathBuf,
    /// The route in a number: what files begin with.
    route: u64,
    max: u64,
    counters: Arc<RouteCounters>,
    trays: Vec<Tray>,
    worker: OnceLock<Thread>,
    /// Rung instead of waking the thread where there is none.
    #[cfg(test)]
    rung: Notify,
    /// Records of earlier runs, at start.
    found: AtomicU64,
}

/// Where a shard and the spool's thread leave things for each other.
#[derive(Default)]
struct Tray {
    papers: Mutex<Papers>,
    /// Rung when there is an answer.
    bell: Notify,
    /// Records of earlier runs are delivered, or not this shard's to wait for.
    go: AtomicBool,
}

/// Bounded by what an outbox orders before it has an answer.
#[derive(Default)]
struct Papers {
    orders: VecDeque<Order>,
    answers: VecDeque<(Answer, u64)>,
}

impl Tray {
    fn papers(&self) -> MutexGuard<'_, Papers> {
        self.papers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, answer: Answer, unread: u64) {
        self.papers().answers.push_back((answer, unread));
        self.bell.notify_one();
    }
}

impl fmt::Debug for Spool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spool {}", self.folder.display())
    }
}

impl Spool {
    /// The spool of `owner` at `place`, for so many shards; nobody else writes to `counters`.
    /// Nothing is touched before [`Spool::open`].
    pub fn new(
        place: &Place,
        owner: &Owner,
        shards: usize,
        counters: &Arc<RouteCounters>,
    ) -> Arc<Spool> {
        let route = fingerprint(owner.identity.as_bytes());
        let readable = owner.readable.chars().take(READABLE);
        let plain = |c: char| if c.is_ascii_alphanumeric() || "+.".contains(c) { c } else { '-' };
        let readable: String = readable.map(plain).collect();
        Arc::new(Spool {
            name: owner.name.clone(),
            folder: place.folder.join(format!("{readable}-{route:016x}")),
            route,
            max: place.max,
            counters: Arc::clone(counters),
            trays: (0..shards).map(|_| Tray::default()).collect(),
            worker: OnceLock::new(),
            #[cfg(test)]
            rung: Notify::new(),
            found: AtomicU64::new(0),
        })
    }

    /// Opens the folder, which is made if it is not there, and starts the thread. Waits for the
    /// disk. To be called once, before any shard has a [`Berth`].
    ///
    /// # Errors
    /// One line that names the folder and the fix.
    pub fn open(self: &Arc<Self>) -> Result<(), String> {
        let opened = keeper::open(self);
        opened.map_err(|error| {
            let fix = match error.kind() {
                io::ErrorKind::Other => "", // one of ours, which names its own
                _ => "; choose another folder (spool=, SPOOL_DIR), or let the program write there",
            };
            format!("route {}: spool {}: {error}{fix}", self.name, self.shown())
        })
    }

    fn shown(&self) -> std::path::Display<'_> {
        self.folder.display()
    }

    /// Closes a spool that was opened for a route that no shard was told of.
    pub fn close(&self) {
        for tray in &self.trays {
            tray.papers().orders.push_back(Order::Close);
        }
        self.wake();
    }

    fn wake(&self) {
        #[cfg(test)]
        self.rung.notify_one();
        if let Some(worker) = self.worker.get() {
            worker.unpark();
        }
    }
}

/// A shard's end of a spool.
#[derive(Debug)]
pub struct Berth {
    spool: Arc<Spool>,
    shard: usize,
}

impl Berth {
    /// That of shard `shard`.
    pub fn new(spool: &Arc<Spool>, shard: usize) -> Berth {
        Berth { spool: Arc::clone(spool), shard }
    }

    /// Records of earlier runs that this shard is to deliver, and whether it has to wait for
    /// another one that does so: their order holds whatever shard a container is on now.
    pub fn found(&self) -> (u64, bool) {
        let found = self.spool.found.load(SeqCst);
        match self.shard {
            0 => (found, false),
            _ => (0, !self.tray().go.load(SeqCst)),
        }
    }

    fn tray(&self) -> &Tray {
        &self.spool.trays[self.shard]
    }

    /// Has the spool do something; does not wait.
    pub fn order(&self, order: Order) {
        self.tray().papers().orders.push_back(order);
        self.spool.wake();
    }

    /// The next answer, and how many records are unread by then.
    pub fn answer(&self) -> Option<(Answer, u64)> {
        self.tray().papers().answers.pop_front()
    }

    /// Waits until there may be answers.
    pub async fn answered(&self) {
        self.tray().bell.notified().await;
    }
}

/// A number that stays the same from version to version (FNV-1a).
fn fingerprint(text: &[u8]) -> u64 {
    text.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
    })
}
