//! The simulated world: what happens when, one event after the other. An event is a closure that
//! changes the world; what the program does to its connections changes it in between.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::chance::{Chance, mix};
use super::daemon::Daemon;
use super::disk::Troubles;
use super::ledger::Ledger;
use super::net::Conn;
use super::receiver::Receiver;
use crate::control::state::Disk;

/// When the world begins, in nanoseconds since 1970.
pub(super) const BASE: u64 = 1_700_000_000_000_000_000;
/// Nanoseconds.
pub(super) const MS: u64 = 1_000_000;
/// Nanoseconds.
pub(super) const SECOND: u64 = 1_000 * MS;

/// The files in `STATE_DIR`.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// The places; `None` where there is no such file.
    pub(super) whole: Option<Vec<u8>>,
    pub(super) journal: Vec<u8>,
    /// What was written of that last.
    last: Range<usize>,
    /// No more of the disk is to be had: the journal may be written over.
    pub(super) full: bool,
}

impl Disk for Rc<RefCell<Files>> {
    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut files = self.borrow_mut();
        if files.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        files.whole = Some(bytes.to_vec());
        Ok(())
    }

    fn write_journal(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut files = self.borrow_mut();
        let (at, end) = (at as usize, at as usize + bytes.len());
        let len = files.journal.len();
        // A full disk takes what there is room for.
        let end = if files.full { end.min(len) } else { end };
        files.journal.resize(len.max(end), 0);
        let taken = end.saturating_sub(at);
        files.journal[at..at + taken].copy_from_slice(&bytes[..taken]);
        files.last = at..at + taken;
        if taken < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

type Action = Box<dyn FnOnce(&mut World)>;

/// Everything but the program.
pub(super) struct World {
    /// What decides.
    pub(super) chance: Chance,
    /// The time of the event that happens, in nanoseconds since the beginning.
    pub(super) now: u64,
    /// So many events happened.
    pub(super) steps: u64,
    /// Follows from everything that happened, in its order.
    pub(super) trace: u64,
    /// What happens is told.
    tell: bool,
    /// The program's connections, by number.
    pub(super) conns: Vec<Conn>,
    pub(super) daemon: Daemon,
    pub(super) receivers: Vec<Receiver>,
    pub(super) ledger: Ledger,
    /// What the program keeps in its `STATE_DIR`.
    pub(super) disk: Rc<RefCell<Files>>,
    pub(super) disk_troubles: Troubles,
    /// The program is to be killed, and to be started again after this time.
    pub(super) crash: Option<u64>,
    /// So many times it was started.
    pub(super) run: u64,
    began: Instant,
    queue: BTreeMap<(u64, u64), Action>,
    serial: u64,
    bell: Rc<Notify>,
}

impl World {
    /// A world that begins now.
    pub(super) fn new(seed: u64, daemon: Daemon, receivers: Vec<Receiver>, tell: bool) -> World {
        World {
            chance: Chance::new(seed),
            now: 0,
            steps: 0,
            trace: seed,
            tell,
            conns: Vec::new(),
            ledger: Ledger::new(receivers.len(), daemon.scenario),
            daemon,
            receivers,
            disk: Rc::default(),
            disk_troubles: Troubles::default(),
            crash: None,
            run: 0,
            began: Instant::now(),
            queue: BTreeMap::new(),
            serial: 0,
            bell: Rc::default(),
        }
    }

    /// What the wall clock shows at the beginning.
    pub(super) fn wall_at_start() -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(BASE)
    }

    /// What it shows now.
    pub(super) fn wall(&self) -> u64 {
        BASE + self.now
    }

    /// The program does something: it is as late as its clock says.
    pub(super) fn catch_up(&mut self) {
        self.now = self.now.max(self.began.elapsed().as_nanos() as u64);
    }

    /// Has `action` happen after so many nanoseconds.
    pub(super) fn after(&mut self, delay: u64, action: impl FnOnce(&mut World) + 'static) {
        self.at(self.now + delay, action);
    }

    /// Has `action` happen at this time.
    pub(super) fn at(&mut self, at: u64, action: impl FnOnce(&mut World) + 'static) {
        self.serial += 1;
        self.queue.insert((at.max(self.now), self.serial), Box::new(action));
        self.bell.notify_one();
    }

    /// The program was killed while it wrote the journal: some of that is not there.
    pub(super) fn tear_journal(&mut self) {
        let mut files = self.disk.borrow_mut();
        let last = files.last.clone();
        let torn = self.chance.below(last.len() as u64 + 1) as usize;
        files.journal[last.end - torn..last.end].fill(0);
    }

    /// Takes note of what happened: `what`, and two numbers that say more.
    pub(super) fn note(&mut self, what: &str, a: u64, b: u64) {
        let hash = what.bytes().fold(self.trace, |hash, byte| mix(hash ^ u64::from(byte)));
        self.trace = mix(hash ^ a.rotate_left(32) ^ b);
        if self.tell {
            println!("{:>14} {what} {a} {b}", self.now);
        }
    }

    /// Says more, if what happens is told.
    pub(super) fn tell_text(&self, text: &str) {
        if self.tell {
            println!("{:>14}    {text}", self.now);
        }
    }

    /// The same of the beginnings of lines.
    pub(super) fn tell_lines(&self, bytes: &[u8]) {
        if self.tell {
            for line in bytes.split(|byte| *byte == b'\n') {
                let text = String::from_utf8_lossy(&line[..line.len().min(60)]).into_owned();
                self.tell_text(text.trim_start_matches(|c: char| c < ' '));
            }
        }
    }

    /// Lets everything happen that is due.
    fn turn(&mut self) {
        let until = self.began.elapsed().as_nanos() as u64;
        while let Some(entry) = self.queue.first_entry()
            && entry.key().0 <= until
        {
            let ((at, _), action) = entry.remove_entry();
            self.now = self.now.max(at);
            self.steps += 1;
            action(self);
        }
        self.now = self.now.max(until);
    }
}

/// Lets the world go on until `end`, or until `done` says so, which is asked each time something
/// happened.
pub(super) async fn go_on(
    world: &Rc<RefCell<World>>,
    end: u64,
    mut done: impl FnMut(&mut World) -> bool,
) {
    let (bell, began) = (Rc::clone(&world.borrow().bell), world.borrow().began);
    loop {
        let next = {
            let mut world = world.borrow_mut();
            world.turn();
            if world.now >= end || done(&mut world) {
                return;
            }
            world.queue.first_key_value().map_or(end, |(&(at, _), _)| at.min(end))
        };
        let next = began + Duration::from_nanos(next);
        let _ = tokio::time::timeout_at(next, bell.notified()).await;
    }
}
