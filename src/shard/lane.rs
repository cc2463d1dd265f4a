//! One route on one shard: what it wants, how it writes it, where the records wait.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::groups::{Groups, Joining, Slot};
use super::positions::{Joining as Joined, Ledger, Positions};
use crate::buffer::{Budget, Outbox, Overflow};
use crate::docker::Source;
use crate::docker::inspect::Container;
use crate::doors::mark::Mark;
use crate::lines::blocks::{Blocks, Place};
use crate::lines::group::Group;
use crate::metrics::{RouteCounters, RouteLabels};
use crate::route::select::Selection;
use crate::route::verdict::Verdicts;
use crate::sink::readable::Readable;
use crate::sink::{Prefix, Sink};
use crate::spool::{self, Spool};
use crate::stamp::Stamp;
use crate::transport::queue::{Queue, Room};
use crate::transport::{Delivery, DeliveryTask};

/// Runs of lines that are kept until they are written, about. More are only seen where lines are
/// very short and every other one is kept.
const KEPT_MAX: usize = 4096;

/// What was kept of the lines at hand.
#[derive(Default)]
struct Kept {
    places: Vec<Place>,
    /// Bytes at those places.
    bytes: usize,
    /// Lines that have been written already.
    lines: u64,
}

/// A route that is ready for use, shared by all shards.
pub struct Route {
    /// For messages: the URI without its secrets.
    pub display: String,
    /// What metrics call it.
    pub labels: RouteLabels,
    /// Which containers and sources it takes.
    pub selection: Selection,
    /// Which lines it keeps; `None` keeps all.
    pub judge: Option<Judge>,
    /// Which lines it joins, and which of what it joined it keeps; `None` joins none.
    pub joining: Option<Joining>,
    /// How it writes them.
    pub sink: Arc<dyn Sink>,
    /// What it writes of lines that are JSON objects.
    pub readable: Readable,
    /// How they travel.
    pub delivery: Delivery,
    /// What happens when its memory is used up.
    pub overflow: Overflow,
    /// Where records wait that its memory has no room for.
    pub spool: Option<Arc<Spool>>,
    /// Whether it sends again what was not acknowledged.
    pub resend: bool,
    /// Its memory, shared by its outboxes.
    pub budget: Arc<Budget>,
    /// For a viewer of one container, with whose end it ends: the shard that reads it.
    pub only_on: Option<usize>,
    /// What it did: a set of counters a shard, and one for the thread of the webhooks.
    pub counters: Vec<Arc<RouteCounters>>,
}

/// A line that no container wrote: see [`super::side`].
pub struct Side<'a> {
    /// Stats or events.
    pub source: Source,
    /// What it tells of, as sinks see it.
    pub subject: &'a Container,
    /// Its time.
    pub stamp: &'a Stamp,
    /// A JSON object and a newline.
    pub line: &'a [u8],
}

/// Who judges lines for a route with a filter.
pub struct Judge {
    /// The filters of all routes.
    pub verdicts: Arc<Verdicts>,
    /// The number of the route among them.
    pub number: usize,
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "route {}", self.display)
    }
}

impl Route {
    /// Opens its spool, if it has one: before any shard is told of the route. Waits for the disk.
    ///
    /// # Errors
    /// One line that names the route and the fix.
    pub fn open_spool(&self) -> Result<(), String> {
        self.spool.as_ref().map_or(Ok(()), Spool::open)
    }
}

/// A route's share of one shard.
pub struct Lane {
    route: Arc<Route>,
    kept: RefCell<Kept>,
    groups: Rc<Groups>,
    ledger: RefCell<Ledger>,
    /// What its places are entered under.
    name: String,
    /// Where its records wait for the link.
    pub queue: Rc<Queue>,
    /// Whether it ends with the one container that it is for, which is on this shard.
    ends: bool,
    /// Whether a container was bound to it.
    bound: Cell<bool>,
}

impl Lane {
    /// The share of shard `shard` in `route`, and the task that delivers its records. `room` is
    /// where the shard looks for full queues.
    pub fn new(route: &Arc<Route>, shard: usize, room: &Rc<Room>) -> (Lane, DeliveryTask) {
        let counters = Arc::clone(&route.counters[shard]);
        let record_max = route.delivery.record_max().min(route.sink.record_max());
        let outbox = Outbox::new(Arc::clone(&route.budget), record_max);
        let viewed = route.delivery.is_for_viewer();
        let overflow = if viewed { Overflow::DropOldest } else { route.overflow };
        let berth = route.spool.as_ref().map(|spool| spool::Berth::new(spool, shard));
        let outbox = outbox.overflowing(overflow);
        let outbox = match &berth {
            Some(berth) => {
                let (found, held_back) = berth.found();
                outbox.with_spool(found, held_back)
            }
            None => outbox,
        };
        let queue = Queue::new(route.display.clone(), outbox, counters).resending(route.resend);
        let queue = if viewed { queue.gated() } else { queue.overflowing(overflow, room) };
        let queue = Rc::new(match berth {
            Some(berth) => queue.spooling(berth),
            None => queue,
        });
        let task = DeliveryTask { delivery: route.delivery.clone(), queue: Rc::clone(&queue) };
        let lane = Lane {
            route: Arc::clone(route),
            kept: RefCell::default(),
            groups: Rc::default(),
            ledger: RefCell::default(),
            name: route.display.clone(),
            queue,
            ends: route.only_on == Some(shard),
            bound: Cell::new(false),
        };
        (lane, task)
    }

    /// What the route has to do with a container: `None` if it does not take it.
    pub fn bind(&self, container: &Container) -> Option<[Option<Prefix>; 2]> {
        self.route.selection.takes(container).then(|| {
            self.bound.set(true);
            Source::OUTPUTS.map(|source| {
                let wanted = self.route.selection.takes_source(source);
                wanted.then(|| self.route.sink.prefix(container, source))
            })
        })
    }

    /// What its places are entered under: what the route is called, without secrets, and a number
    /// if there are others that are called the same.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same lane under a name that none of `others` has.
    pub fn told_apart(mut self, others: &[Rc<Lane>]) -> Lane {
        let display = self.route.display.clone();
        let numbered = (2..).map(|number| format!("{display} #{number}"));
        let mut names = std::iter::once(display.clone()).chain(numbered);
        let name = names.find(|name| others.iter().all(|other| other.name != *name));
        self.name = name.unwrap_or(display);
        self
    }

    /// All lines of container `id` before `mark` are in the outbox, or have left it, but for those
    /// that are being joined.
    pub fn note_position(&self, id: &Rc<str>, mark: &Rc<Mark>, joining: Joined) {
        self.ledger.borrow_mut().note_joining(id, self.queue.appended(), mark, joining);
    }

    /// Container `id` is gone.
    pub fn forget_position(&self, id: &str) {
        self.ledger.borrow_mut().forget(id);
    }

    /// Enters what has been delivered, for the last time: what is left is abandoned.
    pub fn close_positions(&self, positions: &Positions) {
        let tell = |id: &str, mark: &Mark| positions.set(id, self.name(), mark);
        self.ledger.borrow_mut().close(self.queue.gone(), tell);
    }

    /// Enters what has been delivered: returns how many places that were.
    pub fn settle_positions(&self, positions: &Positions) -> usize {
        let mut entered = 0;
        self.ledger.borrow_mut().settle(self.queue.gone(), |id, mark| {
            positions.set(id, self.name(), mark);
            entered += 1;
        });
        entered
    }

    /// Whether it is the share of this very route.
    pub fn is_of(&self, route: &Arc<Route>) -> bool {
        Arc::ptr_eq(&self.route, route)
    }

    /// The output of a container that is bound to it has ended.
    pub fn container_ended(&self) {
        if self.ends {
            self.queue.close();
        }
    }

    /// All containers were bound to it that are there: if none has the id that it is for, it has
    /// come too late.
    pub fn end_if_nobody_writes(&self) {
        if !self.bound.get() {
            self.container_ended();
        }
    }

    /// Whether it is for one who looks on, and may be as slow as they like.
    pub fn is_for_viewer(&self) -> bool {
        self.route.delivery.is_for_viewer()
    }

    /// Who judges lines for this lane, if not all are kept.
    pub fn judge(&self) -> Option<&Judge> {
        self.route.judge.as_ref()
    }

    /// Whether its records may need more of a container than [`Container`] says by itself.
    pub fn reads_answers(&self) -> bool {
        self.route.sink.reads_answers()
    }

    /// Whether the lines of a container are joined: then they come by [`Lane::join`].
    pub fn joins(&self, container: &Container) -> bool {
        self.route.joining.as_ref().is_some_and(|joining| joining.multiline.joins(container))
    }

    /// Joins `lines`, which are `count`, with those before, and writes what is complete.
    pub fn join(&self, slot: &Rc<Slot>, stamp: &Stamp, lines: Blocks<'_>, count: u64) {
        self.received(count, lines.len());
        if let Some(joining) = &self.route.joining {
            self.groups.take(self, joining, slot, stamp, lines);
        }
    }

    /// Writes the lines that were joined and are not written yet.
    pub fn finish_group(&self, slot: &Slot) {
        if let Some(joining) = &self.route.joining {
            self.groups.finish(self, joining, slot);
        }
    }

    /// The same, for all containers: no more lines will come.
    pub fn finish_groups(&self) {
        if let Some(joining) = &self.route.joining {
            self.groups.finish_all(self, joining);
        }
    }

    /// Writes those that have waited long enough; see [`super::groups::keep_time`].
    pub fn tick_groups(&self) {
        if let Some(joining) = &self.route.joining {
            self.groups.tick(self, joining);
        }
    }

    /// What waits, and how often to look at it; `None` if lines are not joined.
    pub fn groups(&self) -> Option<(Rc<Groups>, Duration)> {
        let joining = self.route.joining.as_ref()?;
        Some((Rc::clone(&self.groups), joining.tick()))
    }

    /// Writes a group, if it is to be kept.
    pub fn write_group(&self, prefix: &Prefix, stamp: &Stamp, group: Group<'_>, kept: bool) {
        let counters = &self.queue.counters;
        counters.joined_lines.add(group.lines - 1);
        counters.cut_groups.add(u64::from(group.cut));
        if kept {
            self.write(prefix, stamp, Blocks::joined(group.text), Some(1));
        } else {
            counters.filtered_lines.add(1);
        }
    }

    /// Writes all of `lines`, which are `count` if that is known; returns how many they are.
    pub fn take(
        &self,
        prefix: &Prefix,
        stamp: &Stamp,
        lines: Blocks<'_>,
        count: Option<u64>,
    ) -> u64 {
        let received = self.write(prefix, stamp, lines, count);
        self.received(received, lines.len());
        received
    }

    /// Whether the route takes lines of `source` that tell of `subject`, which is a container or
    /// one of the other things that the daemon has.
    pub fn wants(&self, source: Source, subject: &Container, is_container: bool) -> bool {
        let selection = &self.route.selection;
        let takes_it = || match is_container {
            true => selection.takes(subject),
            false => selection.takes_others(),
        };
        selection.takes_source(source) && takes_it()
    }

    /// Writes a line that no container wrote, if the route keeps it. It is never joined to others.
    /// Where there is no room, a line of stats is left out, for the next one is sure to come; one
    /// of events takes the place of the oldest, as what no log has.
    pub fn take_side(&self, side: &Side<'_>) {
        self.received(1, side.line.len());
        let filtered = || self.queue.counters.filtered_lines.add(1);
        if !self.keeps(side.line) {
            return filtered();
        }
        match side.source {
            Source::Stats if !self.queue.has_room() => return self.queue.leave_out_stats(),
            Source::Events if self.queue.is_full() => self.queue.make_room(),
            _ => {}
        }
        let object = side.line.strip_suffix(b"\n").unwrap_or(side.line);
        let (text, error) = self.route.readable.text(side.source, object);
        if text.is_empty() {
            return filtered();
        }
        if let Some(error) = error {
            self.queue.append(|outbox| outbox.note_failure(&error, false));
        }
        let prefix = self.route.sink.prefix(side.subject, side.source);
        let text = [&*text, b"\n"].concat();
        self.write(&prefix, side.stamp, Blocks::joined(&text), Some(1));
    }

    /// Whether the route's expressions keep a line, with its newline.
    fn keeps(&self, line: &[u8]) -> bool {
        let Some(Judge { verdicts, number }) = self.judge() else { return true };
        let mut kept = false;
        let wanted = verdicts.wanted(|route| route == *number);
        let mut see = |_: usize, places: &[Place]| kept |= !places.is_empty();
        verdicts.judge(Blocks::whole(line), &wanted, &mut see);
        kept
    }

    /// Keeps the lines at `places`, to be written by [`Lane::take_kept`]; `false` if they should be
    /// written now.
    #[inline]
    pub fn keep(&self, places: &[Place]) -> bool {
        let mut kept = self.kept.borrow_mut();
        kept.places.extend_from_slice(places);
        kept.bytes += places.iter().map(|place| place.end() - place.start()).sum::<usize>();
        kept.places.len() < KEPT_MAX
    }

    /// Writes those of `lines` that were kept.
    pub fn write_kept(&self, prefix: &Prefix, stamp: &Stamp, lines: Blocks<'_>) {
        let mut kept = self.kept.borrow_mut();
        if !kept.places.is_empty() {
            let chosen = Blocks::new(lines.buffer(), &kept.places, kept.bytes);
            kept.lines += self.write(prefix, stamp, chosen, None);
            kept.places.clear();
            kept.bytes = 0;
        }
    }

    /// Writes those of `lines`, which are `count`, that were kept, and counts the others.
    pub fn take_kept(&self, prefix: &Prefix, stamp: &Stamp, lines: Blocks<'_>, count: u64) {
        self.write_kept(prefix, stamp, lines);
        let written = std::mem::take(&mut self.kept.borrow_mut().lines);
        self.queue.counters.filtered_lines.add(count - written);
        self.received(count, lines.len());
    }

    fn write(&self, prefix: &Prefix, stamp: &Stamp, lines: Blocks<'_>, count: Option<u64>) -> u64 {
        if !self.queue.admits() {
            let count = count.unwrap_or_else(|| lines.count_lines());
            self.queue.leave_out(count);
            return count;
        }
        self.queue.append(|outbox| self.route.sink.encode(prefix, stamp, lines, outbox))
    }

    fn received(&self, lines: u64, bytes: usize) {
        self.queue.counters.received_lines.add(lines);
        self.queue.counters.received_bytes.add(bytes as u64);
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.groups.ring();
    }
}
