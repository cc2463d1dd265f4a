//! THE loop: the way of one container's bytes through its shard, on one page.
//!
//! read → demux → split → verdict → encode; what the socket gave goes in, records come out in the
//! lanes' outboxes. Composes the stages and decides nothing itself; never waits.

use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use super::command::Clock;
use super::dial::{Dial, Floor};
use super::groups::Slot;
use super::intake::note;
use super::lane::{Judge, Lane};
use super::positions::Joining;
use crate::config::Timestamp;
use crate::docker::Source;
use crate::docker::frame::{Corrupt, Demux, Piece};
use crate::docker::inspect::Container;
use crate::doors::resume::{TAIL, Tail};
use crate::lines::blocks::{Blocks, Place};
use crate::lines::split::Splitter;
use crate::metrics::ShardCounters;
use crate::route::verdict::{Verdicts, Wanted};
use crate::sink::Prefix;
use crate::stamp::Stamp;
use crate::transport::queue::Room;

/// The lanes that take a container, and what their records of it have in common.
struct Binding {
    lane: Rc<Lane>,
    prefixes: [Option<Prefix>; 2],
}

/// The same, for a lane that joins lines, with what it has joined of each source.
struct Joined {
    lane: Rc<Lane>,
    slots: [Option<Rc<Slot>>; 2],
}

/// Everything between a container's bytes and the outboxes.
pub struct Feed {
    splitters: [Splitter; 2],
    router: Router,
    share: Share,
    dial: Rc<Dial>,
    /// The container as its lines are sent, once that is known.
    container: Option<Container>,
    /// Its output has ended, and it has not been bound again.
    ended: bool,
}

/// Which lanes of the shard a feed serves: a container has one feed for all, and others for those
/// that are behind.
enum Share {
    /// All but these, which have feeds of their own at the time.
    AllBut(Vec<Rc<Lane>>),
    /// These alone.
    Only(Vec<Rc<Lane>>),
}

impl Share {
    fn has(&self, lane: &Rc<Lane>) -> bool {
        let is_it = |other: &Rc<Lane>| Rc::ptr_eq(other, lane);
        match self {
            Share::AllBut(others) => !others.iter().any(is_it),
            Share::Only(lanes) => lanes.iter().any(is_it),
        }
    }

    fn forget(&mut self, lane: &Rc<Lane>) {
        let (Share::AllBut(lanes) | Share::Only(lanes)) = self;
        lanes.retain(|other| !Rc::ptr_eq(other, lane));
    }
}

/// What happens to whole lines.
struct Router {
    /// Those whose routes keep every line.
    open: Vec<Binding>,
    /// Those whose routes have a filter, by what decides for them together.
    filtered: Vec<Filtered>,
    /// Those that join lines.
    joined: Vec<Joined>,
    stamp: Stamp,
    floor: Floor,
    room: Rc<Room>,
    counters: Arc<ShardCounters>,
}

/// The lanes that take a container and whose filters are looked for in one pass.
struct Filtered {
    bindings: Vec<Binding>,
    verdicts: Arc<Verdicts>,
    /// Which routes take each source.
    wanted: [Wanted; 2],
    /// Where the lane of a route is in `bindings`, by the number of the route.
    places: Vec<usize>,
}

impl Feed {
    /// A feed that goes nowhere until it is bound. `room` is where lanes say that they are full.
    pub fn new(max_line: usize, room: Rc<Room>, counters: Arc<ShardCounters>) -> Feed {
        Feed {
            splitters: [Splitter::new(max_line), Splitter::new(max_line)],
            router: Router::new(room, counters),
            share: Share::AllBut(Vec::new()),
            dial: Rc::new(Dial::new(Timestamp::Receive, Clock::OURS)),
            container: None,
            ended: false,
        }
    }

    /// The same, whose times are by these clocks.
    pub fn timed_by(self, dial: Rc<Dial>) -> Feed {
        Feed { dial, ..self }
    }

    /// What the daemon's clock shows when ours shows `now`: nanoseconds since 1970.
    pub fn at(&self, now: SystemTime) -> u64 {
        self.dial.at(now)
    }

    /// How many of its lanes are full, and how many there are. Costs nothing while none of the
    /// shard is.
    #[inline]
    pub fn full_lanes(&self) -> (usize, usize) {
        if !self.router.room.is_short() {
            return (0, 1);
        }
        let full = self.router.lanes().filter(|lane| lane.queue.is_full()).count();
        (full, self.router.lanes().count())
    }

    /// Parts with the lanes that `goes` picks: from here on they have a feed of their own, which
    /// goes on where this one is, with the line that has no end yet and what was joined.
    pub fn split_off(&mut self, goes: impl Fn(&Rc<Lane>) -> bool) -> Feed {
        let room = || Rc::clone(&self.router.room);
        let mut router = Router::new(room(), Arc::default()); // its lines were counted once
        let mut rest = Router::new(room(), Arc::clone(&self.router.counters));
        for binding in self.router.take_bindings() {
            if goes(&binding.lane) { &mut router } else { &mut rest }.add(binding);
        }
        for joined in std::mem::take(&mut self.router.joined) {
            if goes(&joined.lane) { &mut router } else { &mut rest }.joined.push(joined);
        }
        rest.stamp = std::mem::replace(&mut self.router.stamp, Stamp::new(SystemTime::UNIX_EPOCH));
        (rest.floor, router.floor) = (self.router.floor, self.router.floor);
        self.router = rest;
        let lanes: Vec<_> = router.lanes().cloned().collect();
        match &mut self.share {
            Share::AllBut(others) => others.extend(lanes.iter().cloned()),
            Share::Only(mine) => mine.retain(|lane| !goes(lane)),
        }
        Feed {
            splitters: self.splitters.clone(),
            router,
            share: Share::Only(lanes),
            dial: Rc::clone(&self.dial),
            container: self.container.clone(),
            ended: self.ended,
        }
    }

    /// The container's id, once it is known.
    pub fn id(&self) -> Option<&str> {
        self.container.as_ref().map(|container| &*container.id)
    }

    /// All lanes.
    pub fn all_lanes(&self) -> Vec<Rc<Lane>> {
        self.router.lanes().cloned().collect()
    }

    /// All lanes that are not for those who look on, and what each is joining of this container.
    pub fn lanes_joining(&self) -> impl Iterator<Item = (&Rc<Lane>, Joining)> {
        let joining = |lane: &Rc<Lane>| {
            let joined = self.router.joined.iter().find(|joined| Rc::ptr_eq(&joined.lane, lane));
            let waits = |slot: &Option<Rc<Slot>>| slot.as_ref().and_then(|s| s.waits_behind());
            joined.map_or([None; 2], |joined| joined.slots.each_ref().map(waits))
        };
        let lanes = self.router.lanes().filter(|lane| !lane.is_for_viewer());
        lanes.map(move |lane| (lane, joining(lane)))
    }

    /// Writes the lines that were joined: the rest of the container's output is for another.
    pub fn finish_joined(&self) {
        self.router.joined.iter().for_each(Joined::finish);
    }

    /// How many bytes there are of each source's line that has no end yet; `None` where parts of it
    /// were handed on.
    pub fn unfinished(&self) -> [Option<usize>; 2] {
        self.splitters.each_ref().map(Splitter::unfinished)
    }

    /// Takes the lanes of `other` back, which has come to the same place.
    pub fn reunite(&mut self, other: &mut Feed) {
        for binding in other.router.take_bindings() {
            self.share.forget(&binding.lane);
            self.router.add(binding);
        }
        for joined in std::mem::take(&mut other.router.joined) {
            self.share.forget(&joined.lane);
            self.router.joined.push(joined);
        }
        self.router.floor.raise_to(other.router.floor);
        other.share = Share::Only(Vec::new());
    }

    /// Whether both stand within the same line, of each source.
    pub fn is_level_with(&self, other: &Feed) -> bool {
        let sides = self.splitters.iter().zip(&other.splitters);
        sides.into_iter().all(|(mine, others)| mine.is_level_with(others))
    }

    /// Whether any lane takes the container, or took it before it was closed.
    pub fn has_lanes(&self) -> bool {
        self.router.lanes().next().is_some()
    }

    /// Drops the oldest records of the lanes that are full, for lines that cannot be read again.
    pub fn make_room(&self) {
        self.router.lanes().filter(|lane| lane.queue.is_full()).for_each(|l| l.queue.make_room());
    }

    /// Says which container this is (again, when its run changed): renders what every record of
    /// it has in common, for each lane that takes it.
    pub fn bind(&mut self, container: &Container, lanes: &[Rc<Lane>]) {
        (self.router.open, self.router.filtered) = (Vec::new(), Vec::new());
        let lanes = lanes.iter().filter(|lane| self.share.has(lane));
        let bindings = lanes.filter_map(|lane| Binding::new(lane, container));
        let (joined, others): (Vec<_>, Vec<_>) =
            bindings.partition(|binding| binding.lane.joins(container));
        self.router.bind_joined(joined);
        others.into_iter().for_each(|binding| self.router.add(binding));
        self.container = Some(container.clone());
        self.ended = false;
    }

    /// The container has another name from now on.
    pub fn rename(&mut self, name: String, lanes: &[Rc<Lane>]) {
        if let Some(mut container) = self.container.take() {
            container.name = name;
            self.bind(&container, lanes);
        }
    }

    /// The container's id, if the records of a lane that reads answers would lack what an answer
    /// of the daemon says of it.
    pub fn lacks_answer(&self) -> Option<&str> {
        let container = self.container.as_ref()?;
        let opens = matches!(self.share, Share::AllBut(_));
        (opens && container.answer.is_none()).then_some(&container.id)
    }

    /// The daemon's answer about the container, for the lanes that are opened from now on.
    pub fn set_answer(&mut self, answer: Arc<[u8]>) {
        if let Some(container) = &mut self.container {
            container.answer = Some(answer);
        }
    }

    /// From now on lines go to `lane` too, if it takes the container.
    pub fn open(&mut self, lane: &Rc<Lane>) {
        let known = self.router.lanes().any(|known| Rc::ptr_eq(known, lane));
        if let (false, true, Some(container)) = (known, self.share.has(lane), &self.container)
            && let Some(binding) = Binding::new(lane, container)
        {
            match lane.joins(container) {
                true => self.router.joined.push(Joined::new(binding)),
                false => self.router.add(binding),
            }
            if self.ended {
                lane.container_ended();
            }
        }
    }

    /// From now on no lines go to `lane`.
    pub fn close(&mut self, lane: &Rc<Lane>) {
        self.share.forget(lane);
        let is_other = |binding: &Binding| !Rc::ptr_eq(&binding.lane, lane);
        self.router.open.retain(is_other);
        self.router.joined.retain(|joined| {
            let is_other = !Rc::ptr_eq(&joined.lane, lane);
            if !is_other {
                joined.finish();
            }
            is_other
        });
        for mut group in std::mem::take(&mut self.router.filtered) {
            group.bindings.retain(is_other);
            group.bindings.into_iter().for_each(|binding| self.router.add(binding));
        }
    }

    /// Bytes of an attach stream, as they were read at `now`. The output of the container goes its
    /// way, its end into `tails`; what the daemon says of itself (frame type 3) into `complaint`.
    ///
    /// # Errors
    /// A header that is none; what came before it is on its way.
    pub fn read(
        &mut self,
        demux: &mut Demux,
        bytes: &[u8],
        now: SystemTime,
        tails: &mut [Tail; 2],
        complaint: &mut Option<String>,
    ) -> Result<(), Corrupt> {
        let at = self.dial.at(now);
        let (splitters, router) = (&mut self.splitters, &mut self.router);
        router.stamp.set_nanos(router.floor.of_both(self.dial.shown(at)));
        let (mut batch, mut ends) = (Batch::new(bytes), Ends::new(bytes));
        let mut pieces = demux.pieces(bytes);
        while let Some(piece) = pieces.next() {
            match piece {
                Piece::Output { source, bytes, .. } => {
                    let splitter = &mut splitters[source as usize];
                    if splitter.passes(bytes) {
                        batch.add(source, bytes, router);
                    } else {
                        batch.add_cut(source, bytes, splitter, router);
                    }
                    ends.see(source, bytes, tails, at);
                }
                Piece::SystemError { bytes, .. } => note(complaint, bytes),
            }
        }
        let pushed = pieces.finish();
        batch.hand_over(router);
        ends.finish(tails, at);
        self.count_cut_lines();
        pushed
    }

    fn count_cut_lines(&mut self) {
        for splitter in &mut self.splitters {
            self.router.counters.cut_lines.add(splitter.take_cut_lines());
        }
    }

    /// Bytes of one source whose time the daemon gave (nanoseconds since 1970).
    pub fn write_at(&mut self, source: Source, bytes: &[u8], nanos: u64) {
        let router = &mut self.router;
        router.stamp.set_nanos(router.floor.of(source, self.dial.shown(nanos)));
        self.splitters[source as usize]
            .push(bytes, &mut |lines| router.take(source, Blocks::whole(lines)));
        self.count_cut_lines();
    }

    /// How much the lanes have delivered whose outboxes are filling up while their receivers take
    /// what they get; `None` if there are no such lanes. Who can wait, should, until it rises.
    pub fn pressed(&self) -> Option<u64> {
        let pressed = self.router.lanes().filter(|lane| lane.queue.is_pressed());
        pressed.map(|lane| lane.queue.counters.delivered_bytes.get()).reduce(|a, b| a + b)
    }

    /// The container has ended: an unterminated last line is a line, and joined ones are complete.
    pub fn finish(&mut self) {
        let router = &mut self.router;
        for source in Source::OUTPUTS {
            self.splitters[source as usize]
                .finish(&mut |lines| router.take(source, Blocks::whole(lines)));
        }
        router.joined.iter().for_each(Joined::finish);
        self.ended = true;
        self.router.lanes().for_each(|lane| lane.container_ended());
    }
}

/// Blocks that are handed on together, at most: enough that what is done once for all of them
/// weighs nothing, few enough to live on the stack.
const BATCH: usize = 128;

/// Blocks of one source that lie in the same read and have not been handed on.
struct Batch<'a> {
    read: &'a [u8],
    places: [Place; BATCH],
    len: usize,
    bytes: usize,
    source: Source,
}

impl<'a> Batch<'a> {
    fn new(read: &'a [u8]) -> Batch<'a> {
        Batch { read, places: [Place::default(); BATCH], len: 0, bytes: 0, source: Source::Stdout }
    }

    /// Adds a block that lies in the read.
    #[inline(always)]
    fn add(&mut self, source: Source, block: &[u8], router: &mut Router) {
        if self.source != source || self.len == BATCH {
            self.hand_over(router);
            self.source = source;
        }
        let start = block.as_ptr() as usize - self.read.as_ptr() as usize;
        self.places[self.len] = Place::new(start..start + block.len());
        self.len += 1;
        self.bytes += block.len();
    }

    /// Adds what a piece brings that does not begin and end with a line. A line that was cut by
    /// its beginning comes from the splitter's memory: it is handed on at once, behind those that
    /// came before it.
    #[inline(never)]
    fn add_cut(
        &mut self,
        source: Source,
        piece: &[u8],
        splitter: &mut Splitter,
        router: &mut Router,
    ) {
        splitter.push(piece, &mut |block| {
            if self.read.as_ptr_range().contains(&block.as_ptr()) {
                self.add(source, block, router);
            } else {
                self.hand_over(router);
                router.take(source, Blocks::whole(block));
            }
        });
    }

    /// Hands on what there is.
    #[inline(never)]
    fn hand_over(&mut self, router: &mut Router) {
        if self.len > 0 {
            let places = &self.places[..std::mem::take(&mut self.len)];
            let len = std::mem::take(&mut self.bytes);
            router.take(self.source, Blocks::new(self.read, places, len));
        }
    }
}

/// Notes the last bytes of each source in a read, without looking at all the others: a piece
/// before the read's last few KiB matters only if no other of its source follows.
struct Ends<'a> {
    /// Where the end of the read begins, as an address.
    from: usize,
    /// The last piece of each source before that.
    early: [Option<&'a [u8]>; 2],
}

impl<'a> Ends<'a> {
    fn new(read: &[u8]) -> Ends<'a> {
        let end = read.as_ptr_range().end as usize;
        Ends { from: end - read.len().min(2 * TAIL), early: [None; 2] }
    }

    #[inline(always)]
    fn see(&mut self, source: Source, piece: &'a [u8], tails: &mut [Tail; 2], at: u64) {
        if (piece.as_ptr() as usize) < self.from {
            self.early[source as usize] = Some(piece);
        } else {
            self.note(source, piece, tails, at);
        }
    }

    #[inline(never)]
    fn note(&mut self, source: Source, piece: &[u8], tails: &mut [Tail; 2], at: u64) {
        self.note_early(source, tails, at);
        tails[source as usize].note(piece, at);
    }

    fn note_early(&mut self, source: Source, tails: &mut [Tail; 2], at: u64) {
        if let Some(piece) = self.early[source as usize].take() {
            // What was before this piece was passed over.
            tails[source as usize].forget();
            tails[source as usize].note(piece, at);
        }
    }

    fn finish(mut self, tails: &mut [Tail; 2], at: u64) {
        for source in Source::OUTPUTS {
            self.note_early(source, tails, at);
        }
    }
}

impl Binding {
    fn new(lane: &Rc<Lane>, container: &Container) -> Option<Binding> {
        Some(Binding { prefixes: lane.bind(container)?, lane: Rc::clone(lane) })
    }
}

impl Joined {
    fn new(Binding { lane, prefixes }: Binding) -> Joined {
        Joined { lane, slots: prefixes.map(|prefix| prefix.map(Slot::new)) }
    }

    fn rebound(self, prefixes: [Option<Prefix>; 2]) -> Joined {
        for (slot, prefix) in self.slots.iter().zip(prefixes) {
            if let (Some(slot), Some(prefix)) = (slot, prefix) {
                slot.set_prefix(prefix);
            }
        }
        self
    }

    /// Nothing more will come.
    fn finish(&self) {
        self.slots.iter().flatten().for_each(|slot| self.lane.finish_group(slot));
    }
}

impl Filtered {
    fn new(verdicts: &Arc<Verdicts>) -> Filtered {
        Filtered {
            bindings: Vec::new(),
            verdicts: Arc::clone(verdicts),
            wanted: Default::default(),
            places: Vec::new(),
        }
    }

    /// Adds a lane whose route has `number` among those that are decided for together.
    fn add(&mut self, binding: Binding, number: usize) {
        self.places.resize(self.places.len().max(number + 1), usize::MAX);
        self.places[number] = self.bindings.len();
        self.bindings.push(binding);
        self.wanted = Source::OUTPUTS.map(|source| {
            self.verdicts.wanted(|number| {
                let place = self.places.get(number);
                let binding = place.and_then(|&place| self.bindings.get(place));
                binding.is_some_and(|binding| binding.prefixes[source as usize].is_some())
            })
        });
    }

    /// Writes what the routes keep of `lines`, which are `count`.
    /// Whether any route takes them.
    fn take(&self, source: Source, stamp: &Stamp, lines: Blocks<'_>, count: u64) -> bool {
        self.verdicts.judge(lines, &self.wanted[source as usize], &mut |number, places| {
            let binding = &self.bindings[self.places[number]];
            if let (false, Some(prefix)) =
                (binding.lane.keep(places), &binding.prefixes[source as usize])
            {
                binding.lane.write_kept(prefix, stamp, lines);
            }
        });
        let mut routed = false;
        for binding in &self.bindings {
            if let Some(prefix) = &binding.prefixes[source as usize] {
                binding.lane.take_kept(prefix, stamp, lines, count);
                routed = true;
            }
        }
        routed
    }
}

impl Router {
    fn new(room: Rc<Room>, counters: Arc<ShardCounters>) -> Router {
        Router {
            open: Vec::new(),
            filtered: Vec::new(),
            joined: Vec::new(),
            stamp: Stamp::new(SystemTime::UNIX_EPOCH),
            floor: Floor::default(),
            room,
            counters,
        }
    }

    /// Those of the lanes that join nothing.
    fn take_bindings(&mut self) -> impl Iterator<Item = Binding> + use<> {
        let filtered = std::mem::take(&mut self.filtered).into_iter();
        let filtered = filtered.flat_map(|group| group.bindings);
        std::mem::take(&mut self.open).into_iter().chain(filtered)
    }

    fn add(&mut self, binding: Binding) {
        let Some(Judge { verdicts, number }) = binding.lane.judge() else {
            return self.open.push(binding);
        };
        let (verdicts, number) = (Arc::clone(verdicts), *number);
        let known = self.filtered.iter().position(|group| Arc::ptr_eq(&group.verdicts, &verdicts));
        let group = known.unwrap_or_else(|| {
            self.filtered.push(Filtered::new(&verdicts));
            self.filtered.len() - 1
        });
        self.filtered[group].add(binding, number);
    }

    fn lanes(&self) -> impl Iterator<Item = &Rc<Lane>> {
        let filtered = self.filtered.iter().flat_map(|filtered| &filtered.bindings);
        let bindings = self.open.iter().chain(filtered).map(|binding| &binding.lane);
        bindings.chain(self.joined.iter().map(|joined| &joined.lane))
    }

    /// What was joined before goes on under the new prefixes; what nobody wants any more goes out.
    fn bind_joined(&mut self, bindings: Vec<Binding>) {
        let mut before = std::mem::take(&mut self.joined);
        for binding in bindings {
            let known = before.iter().position(|joined| Rc::ptr_eq(&joined.lane, &binding.lane));
            self.joined.push(match known {
                Some(at) => before.swap_remove(at).rebound(binding.prefixes),
                None => Joined::new(binding),
            });
        }
        before.iter().for_each(Joined::finish);
    }

    fn take(&mut self, source: Source, lines: Blocks<'_>) {
        self.floor.raise(source, self.stamp.nanos());
        let mut count = None;
        for binding in &self.open {
            if let Some(prefix) = &binding.prefixes[source as usize] {
                count = Some(binding.lane.take(prefix, &self.stamp, lines, count));
            }
        }
        // Whoever wrote the lines has counted them.
        let mut routed = count.is_some();
        let count = count.unwrap_or_else(|| lines.count_lines());
        for group in &self.filtered {
            routed |= group.take(source, &self.stamp, lines, count);
        }
        for joined in &self.joined {
            if let Some(slot) = &joined.slots[source as usize] {
                joined.lane.join(slot, &self.stamp, lines, count);
                routed = true;
            }
        }
        if !routed {
            self.counters.unrouted_lines.add(count);
        }
        self.counters.received_lines.add(count);
        self.counters.received_bytes.add(lines.len() as u64);
    }
}
