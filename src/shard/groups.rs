//! The lines that a `multiline+` route has joined on one shard and not written yet: a [`Slot`] for
//! each container and source, and the timer that ends what nothing goes on with.
//!
//! Composes `lines::group` with the route's rule and sink. Lives on one shard thread. The timer
//! runs only while something waits; it counts in eighths of MULTILINE_FLUSH_AFTER, so that no clock
//! is read for a line.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;

use super::lane::Lane;
#[cfg(test)]
use crate::io::sim::{self, Planted};
use crate::lines::blocks::Blocks;
use crate::lines::group::{Group, Grouper};
use crate::route::multiline::{JoinedFilter, Marker, Multiline};
use crate::sink::Prefix;
use crate::stamp::Stamp;

/// A group goes out when its age is more than so many ticks of the timer.
const AGE: u64 = 8;
/// What the runtime's timer can tell.
const TICK_LEAST: Duration = Duration::from_millis(1);
/// Memory that is kept for groups to come: so many pieces, of at most so many bytes.
const SPARE_MAX: usize = 64;
const SPARE_BYTES: usize = 16 * 1024;

/// How a route joins lines, and what becomes of them.
pub struct Joining {
    /// Which lines, and how.
    pub multiline: Multiline,
    /// Which joined texts are kept.
    pub filter: JoinedFilter,
    /// Bytes that may wait on a shard; with more, the group that was last added to goes out.
    pub held_max: usize,
}

/// The groups of one route on one shard.
#[derive(Default)]
pub struct Groups {
    waiting: RefCell<Vec<Rc<Slot>>>,
    /// Bytes in `waiting`, and lines.
    held: Cell<usize>,
    lines: Cell<u64>,
    /// Ticks of the timer.
    now: Cell<u64>,
    bell: Notify,
    spare: RefCell<Vec<Vec<u8>>>,
}

/// The group of one container and source, for one route.
pub struct Slot(RefCell<State>);

struct State {
    grouper: Grouper,
    marker: Marker,
    prefix: Prefix,
    /// The time of the group that is written.
    stamp: Stamp,
    /// It is among [`Groups::waiting`].
    waits: bool,
    /// Groups that were written.
    written: u64,
}

impl Slot {
    /// One without a group; its records will begin with `prefix`.
    pub fn new(prefix: Prefix) -> Rc<Slot> {
        Rc::new(Slot(RefCell::new(State {
            grouper: Grouper::default(),
            marker: Marker::default(),
            prefix,
            stamp: Stamp::new(SystemTime::UNIX_EPOCH),
            waits: false,
            written: 0,
        })))
    }

    /// How many groups were written before the one that waits in it, if one does.
    pub fn waits_behind(&self) -> Option<u64> {
        let state = self.0.borrow();
        (!state.grouper.is_empty()).then_some(state.written)
    }

    /// What its records begin with from now on.
    pub fn set_prefix(&self, prefix: Prefix) {
        self.0.borrow_mut().prefix = prefix;
    }
}

impl Groups {
    /// Takes lines of the container and source of `slot`, which came at `stamp`; what is complete
    /// by that is written to `lane`.
    pub fn take(
        &self,
        lane: &Lane,
        joining: &Joining,
        slot: &Rc<Slot>,
        stamp: &Stamp,
        lines: Blocks<'_>,
    ) {
        let Multiline { rule, joint, .. } = &joining.multiline;
        let mut state = slot.0.borrow_mut();
        let State { grouper, marker, prefix, stamp: at, waits, written } = &mut *state;
        let before = (grouper.lines(), grouper.pending());
        if grouper.is_empty() {
            grouper.lend(self.spare.borrow_mut().pop().unwrap_or_default());
        }
        let time = (stamp.nanos(), self.now.get());
        let mut write = |group: Group<'_>| {
            *written += 1;
            write(lane, joining, prefix, at, group);
        };
        for line in lines.lines_inclusive() {
            grouper.push(line, marker.mark(rule, line), time, joint, &mut write);
        }
        if self.held.get() - before.1 + grouper.pending() > joining.held_max {
            grouper.cut(joint, &mut write);
        }
        self.settle(lane, grouper, before);
        if !grouper.is_empty() && !std::mem::replace(waits, true) {
            let mut waiting = self.waiting.borrow_mut();
            if waiting.is_empty() {
                self.bell.notify_one();
            }
            waiting.push(Rc::clone(slot));
        }
    }

    /// Nothing more will come of the container: what there is of it goes out.
    pub fn finish(&self, lane: &Lane, joining: &Joining, slot: &Slot) {
        let mut state = slot.0.borrow_mut();
        self.flush(lane, joining, &mut state);
        state.marker.forget();
    }

    /// All that waits goes out.
    pub fn finish_all(&self, lane: &Lane, joining: &Joining) {
        for slot in self.waiting.take() {
            let mut state = slot.0.borrow_mut();
            self.flush(lane, joining, &mut state);
            state.waits = false;
        }
    }

    fn flush(&self, lane: &Lane, joining: &Joining, state: &mut State) {
        let State { grouper, prefix, stamp, written, .. } = state;
        let before = (grouper.lines(), grouper.pending());
        let mut write = |group: Group<'_>| {
            *written += 1;
            write(lane, joining, prefix, stamp, group);
        };
        grouper.flush(&joining.multiline.joint, &mut write);
        self.settle(lane, grouper, before);
    }

    /// Keeps the books after a change of a group that had so many lines and bytes `before`.
    fn settle(&self, lane: &Lane, grouper: &mut Grouper, (lines, bytes): (u64, usize)) {
        self.held.set(self.held.get() - bytes + grouper.pending());
        self.lines.set(self.lines.get() - lines + grouper.lines());
        let counters = &lane.queue.counters;
        counters.joining_lines.set(self.lines.get());
        counters.joining_bytes.set(self.held.get() as u64);
        let Some(memory) = grouper.give_back() else { return };
        let mut spare = self.spare.borrow_mut();
        if memory.capacity() <= SPARE_BYTES && spare.len() < SPARE_MAX {
            spare.push(memory);
        }
    }

    /// An eighth of MULTILINE_FLUSH_AFTER has passed: what is old enough goes out.
    pub fn tick(&self, lane: &Lane, joining: &Joining) {
        let (now, age) = (self.now.get() + 1, AGE);
        self.now.set(now);
        #[cfg(test)]
        let age = if sim::planted(Planted::HastyGroups) { 0 } else { age };
        self.waiting.borrow_mut().retain(|slot| {
            let mut state = slot.0.borrow_mut();
            if state.grouper.is_due(now, age) {
                #[cfg(test)]
                if sim::planted(Planted::GroupTwice) {
                    let State { grouper, prefix, stamp, .. } = &mut *state;
                    let mut again = |group: Group<'_>| write(lane, joining, prefix, stamp, group);
                    grouper.clone().flush(&joining.multiline.joint, &mut again);
                }
                self.flush(lane, joining, &mut state);
            }
            state.waits = !state.grouper.is_empty();
            state.waits
        });
    }

    /// The lane is gone: its timer is to see that.
    pub fn ring(&self) {
        self.bell.notify_one();
    }
}

fn write(lane: &Lane, joining: &Joining, prefix: &Prefix, stamp: &mut Stamp, group: Group<'_>) {
    let kept = joining.filter.keeps(group.text.strip_suffix(b"\n").unwrap_or(group.text));
    stamp.set_nanos(group.at);
    lane.write_group(prefix, stamp, group, kept);
}

/// Ends the groups of `lane` that are old enough, for as long as it is there. It sleeps while
/// nothing waits.
pub async fn keep_time(lane: Weak<Lane>) {
    while let Some((groups, tick)) = lane.upgrade().and_then(|lane| lane.groups()) {
        if groups.waiting.borrow().is_empty() {
            groups.bell.notified().await;
            continue;
        }
        tokio::time::sleep(tick).await;
        if let Some(lane) = lane.upgrade() {
            lane.tick_groups();
        }
    }
}

impl Joining {
    /// How often the timer looks.
    pub fn tick(&self) -> Duration {
        (self.multiline.flush_after / AGE as u32).max(TICK_LEAST)
    }
}
