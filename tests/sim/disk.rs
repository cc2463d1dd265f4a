//! The simulated disk of spools: their files are real ones in a folder of the seed's, but what is
//! written may find the disk full, take long, or be cut in the middle by the end of the program.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::world::{MS, World};
use crate::io::sim::{self, Planted};
use crate::spool::disk::simulated::Disk;

/// What may befall the disk.
#[derive(Default)]
pub(super) struct Troubles {
    /// It takes nothing before this time.
    pub(super) full_until: u64,
    /// It does nothing before this time.
    pub(super) hangs_until: u64,
    /// The program is killed in the middle of the next write, for so long.
    pub(super) tears: Option<u64>,
    /// That has happened: nothing changes any more before the next start.
    pub(super) dead: bool,
}

/// The disk as the program sees it.
pub(super) struct Platter(pub(super) Rc<RefCell<World>>);

impl Disk for Platter {
    fn takes(&self, len: usize) -> usize {
        let mut world = self.0.borrow_mut();
        world.catch_up();
        let some = world.chance.below(len as u64 + 1) as usize;
        world.note("disk", len as u64, some as u64);
        if world.disk_troubles.dead {
            return 0;
        }
        if let Some(pause) = world.disk_troubles.tears.take() {
            world.note("killed while it writes", 0, 0);
            (world.disk_troubles.dead, world.crash) = (true, Some(pause));
            world.after(0, |_| {});
            return some;
        }
        if world.disk_troubles.full_until > world.now {
            some.min(len.saturating_sub(1))
        } else {
            len
        }
    }

    fn lives(&self) -> bool {
        !self.0.borrow().disk_troubles.dead
    }

    fn pause(&self) -> Duration {
        let mut world = self.0.borrow_mut();
        world.catch_up();
        let most = if world.chance.one_in(20) { 50 * MS } else { MS };
        let hangs = world.disk_troubles.hangs_until.saturating_sub(world.now);
        Duration::from_nanos(hangs + world.chance.below(most))
    }

    fn skips(&self) -> bool {
        sim::planted(Planted::SpoolSkips)
    }
}
