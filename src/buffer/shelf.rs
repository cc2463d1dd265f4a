//! What an outbox and its route's spool have to do with each other. Pure: orders out, answers in;
//! `spool` has the disk, and `transport/queue` carries the orders there.
//!
//! From the oldest on, records are: sent, in front (sent before over a connection that broke, or
//! back from the spool), on the shelf (in the spool, or on their way there or back), sealed, open.
//! What is behind the shelf is not taken before the shelf is empty, so the order stays.

use std::collections::VecDeque;

use super::{Chunk, Outbox};

/// Chunks that are read ahead of the link.
const AHEAD: usize = 4;
/// Chunks on their way to the disk at a time.
const WRITING_MAX: usize = 64;

/// What the budget may be overdrawn by for records that are to go to the disk next: what is read at
/// a time, twice, since orders are given between two reads alone.
const LENT_MAX: usize = 512 * 1024;

/// What the spool is to do.
#[derive(Debug)]
pub enum Order {
    /// Append these records. Orders of a generation in which one was refused are all refused.
    Write(Chunk, u64),
    /// Read the next records into this chunk, which is empty.
    Read(Chunk),
    /// Records before this place are delivered, and not needed any more.
    Delivered(u64),
    /// Keep these records before all others of the log: at the end, when it is read no more.
    Before(Chunk),
    /// Nothing more will come.
    Close,
}

/// What the spool has done.
#[derive(Debug)]
pub enum Answer {
    /// The records are kept there; the chunk is not needed any more.
    Written(Chunk),
    /// They are not.
    Refused(Chunk),
    /// Records that were read; none if there were none.
    Read(Chunk),
    /// There is room again, after records were refused.
    Room,
    /// An earlier run's records are delivered: others may go.
    Go,
    /// All is kept that was to be.
    Closed,
}

/// What an outbox knows of its spool.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    /// Chunks on their way to the disk, and what they are charged or lent.
    writing: usize,
    writing_room: usize,
    /// Their records, but for those that are in the spool anyway.
    writing_records: usize,
    /// Orders to read that are not answered.
    reading: usize,
    /// Records in the spool that were not read, by its last answer.
    unread: u64,
    /// Chunks that were refused and are in front of the sealed ones again, while others of their
    /// generation are not back.
    refused: usize,
    generation: u64,
    /// Records of earlier runs, whose places are the first ones.
    found: u64,
    /// Records of this run that are in the spool and not delivered.
    kept: usize,
    /// Nothing is written until [`Outbox::write_again`].
    rests: bool,
    /// One chunk at a time is written: the last one was refused.
    doubts: bool,
    /// Nothing is taken, for records of an earlier run go first, on another shard.
    held_back: bool,
    /// Records up to here are delivered, and the spool has not been told.
    delivered: Option<u64>,
    /// Bytes that the budget was overdrawn by for records that go there.
    lent: usize,
    /// Chunks from the spool that the budget was overdrawn for.
    overdrawn: usize,
    end: Option<End>,
}

/// What is done at the end.
#[derive(Debug, Default)]
struct End {
    /// What is in front of the shelf goes before what is on it.
    before: bool,
    /// What came from the spool and was written anew, up to here.
    anew: Option<u64>,
    /// It does not work.
    given_up: bool,
    /// Nothing more is to be ordered.
    asked: bool,
    /// It was done.
    closed: bool,
}

impl Shelf {
    /// Takes note of how far `chunk` is delivered, if it came from the spool.
    pub(super) fn note(&mut self, chunk: &mut Chunk) {
        if let Some(place) = chunk.place
            && chunk.first > chunk.told
        {
            let upto = place.wrapping_add(chunk.first as u64);
            if upto > self.found {
                self.kept = self.kept.saturating_sub(chunk.first - chunk.told);
            }
            chunk.told = chunk.first;
            self.delivered = Some(upto);
        }
    }

    /// A chunk is given back.
    pub(super) fn recycled(&mut self, chunk: &mut Chunk) {
        self.note(chunk);
        if chunk.place.is_some() && chunk.charged == 0 {
            self.overdrawn -= 1;
        }
        if std::mem::take(&mut chunk.lent) {
            self.lent -= chunk.room;
        }
    }

    /// Whether records are on the shelf: older ones than those that are sealed.
    pub(super) fn holds(&self) -> bool {
        self.held_back || self.writing > 0 || self.reading > 0 || self.unread > 0
    }
}

impl Outbox {
    /// The same, before a spool that holds `unread` records of an earlier run. With `held_back`,
    /// others have such records, which go first.
    pub fn with_spool(self, unread: u64, held_back: bool) -> Outbox {
        let shelf = Shelf { unread, held_back, found: unread, ..Shelf::default() };
        Outbox { shelf: Some(Box::new(shelf)), ..self }
    }

    /// Whether the budget may be overdrawn, because the spool takes what is above it.
    pub(super) fn may_lend(&self) -> bool {
        self.shelf.as_ref().is_some_and(|shelf| !shelf.rests && shelf.lent < LENT_MAX)
    }

    /// Overdraws the budget by `room`, if it may be.
    pub(super) fn lend(&mut self, room: usize) -> bool {
        let may = self.may_lend();
        if let Some(shelf) = self.shelf.as_mut().filter(|_| may) {
            shelf.lent += room;
        }
        may
    }

    /// Whether there are orders for the spool, most likely.
    #[inline]
    pub fn wants_spool(&self) -> bool {
        self.shelf.as_ref().is_some_and(|shelf| !shelf.rests && self.is_above_floor(shelf))
    }

    /// Whether records are in the spool or on their way: there may be more to take later.
    pub fn awaits_spool(&self) -> bool {
        self.shelf.as_ref().is_some_and(|shelf| shelf.holds())
    }

    /// Whether the spool has refused records, and is to be tried again some time later.
    pub fn spool_rests(&self) -> bool {
        self.shelf.as_ref().is_some_and(|shelf| shelf.rests)
    }

    /// Tries again to write.
    pub fn write_again(&mut self) {
        if let Some(shelf) = &mut self.shelf {
            shelf.rests = false;
        }
    }

    /// What the spool is to do next, if anything.
    pub fn next_order(&mut self) -> Option<Order> {
        let shelf = self.shelf.as_mut()?;
        if let Some(place) = shelf.delivered.take() {
            return Some(Order::Delivered(place));
        }
        if shelf.end.is_some() {
            return self.order_at_end();
        }
        self.order_write().or_else(|| self.order_read())
    }

    /// What is above the memory that this outbox may always have goes to the disk, oldest first.
    fn order_write(&mut self) -> Option<Order> {
        if !self.shelf.as_ref().is_some_and(|shelf| self.is_above_floor(shelf)) {
            return None;
        }
        let shelf = self.shelf.as_mut()?;
        let may = !shelf.rests && shelf.writing < if shelf.doubts { 1 } else { WRITING_MAX };
        if !may || shelf.refused > 0 && shelf.writing > 0 {
            return None;
        }
        // With nothing on the shelf, what is in front of it is no other than what is sealed.
        while !shelf.holds() && self.front.back().is_some_and(|chunk| !chunk.is_spooled()) {
            self.front.pop_back().into_iter().for_each(|chunk| self.sealed.push_front(chunk));
        }
        let chunk = self.sealed.pop_front()?;
        Some(shelf.write(chunk))
    }

    /// Whether more is in memory than what this outbox may always have, and is not on its way out.
    fn is_above_floor(&self, shelf: &Shelf) -> bool {
        self.held + shelf.lent - shelf.writing_room > self.budget.floor
    }

    fn order_read(&mut self) -> Option<Order> {
        let shelf = self.shelf.as_mut()?;
        let ahead = shelf.reading + self.front.len();
        if shelf.unread == 0 || shelf.held_back || ahead >= AHEAD {
            return None;
        }
        let granted = self.budget.grow(self.held, self.chunk_size);
        // Whoever goes on writing must not keep those from going that came before.
        if !granted && (ahead > 0 || shelf.overdrawn > 0) {
            return None;
        }
        shelf.reading += 1;
        let mut chunk = self.spare.pop().unwrap_or_else(|| Chunk::with_room(self.chunk_size));
        chunk.charged = if granted { self.chunk_size } else { 0 };
        self.held += chunk.charged;
        Some(Order::Read(chunk))
    }

    /// Takes note of what the spool has done, which has `unread` records now that were not read.
    pub fn answered(&mut self, answer: Answer, unread: u64) {
        let Some(shelf) = &mut self.shelf else { return };
        shelf.unread = unread;
        match answer {
            Answer::Written(chunk) => {
                shelf.written(&chunk);
                shelf.doubts = false;
                shelf.kept += if chunk.is_spooled() { 0 } else { chunk.records() };
                self.recycle_unnoted(chunk);
            }
            Answer::Refused(chunk) => self.refused(chunk),
            Answer::Read(chunk) => self.was_read(chunk),
            Answer::Room => shelf.rests = false,
            Answer::Go => shelf.held_back = false,
            Answer::Closed => {
                if let Some(end) = &mut shelf.end {
                    end.closed = true;
                }
            }
        }
    }

    fn refused(&mut self, chunk: Chunk) {
        let Some(shelf) = &mut self.shelf else { return };
        shelf.written(&chunk);
        (shelf.rests, shelf.doubts) = (true, true);
        if let Some(end) = &mut shelf.end {
            // There is no later.
            end.given_up = true;
            if chunk.place.is_some() {
                return self.recycle_unnoted(chunk);
            }
        }
        self.sealed.insert(shelf.refused.min(self.sealed.len()), chunk);
        shelf.refused += 1;
        if shelf.writing == 0 {
            shelf.refused = 0;
            shelf.generation += 1;
        }
    }

    fn was_read(&mut self, mut chunk: Chunk) {
        let Some(shelf) = &mut self.shelf else { return };
        shelf.reading -= 1;
        if chunk.records() == 0 {
            // All of it was delivered before, or there was nothing.
            chunk.place = None;
            return self.recycle_unnoted(chunk);
        }
        if chunk.charged != chunk.room {
            self.budget.shrink(self.held, chunk.charged);
            self.held -= chunk.charged;
            let granted = self.budget.grow(self.held, chunk.room);
            chunk.charged = if granted { chunk.room } else { 0 };
            self.held += chunk.charged;
        }
        shelf.overdrawn += usize::from(chunk.charged == 0);
        self.front.push_back(chunk);
    }

    /// No more records will come and none will be taken: all that is held goes to the spool, in
    /// order. The orders are to be asked for until [`Outbox::is_kept`].
    pub fn keep(&mut self) {
        self.rewind();
        self.seal();
        if let Some(shelf) = &mut self.shelf {
            shelf.rests = false;
            shelf.end.get_or_insert_default();
        }
    }

    /// Whether the spool has done all that it can.
    pub fn is_kept(&self) -> bool {
        let end = self.shelf.as_ref().and_then(|shelf| shelf.end.as_ref());
        end.is_none_or(|end| end.closed)
    }

    fn order_at_end(&mut self) -> Option<Order> {
        let shelf = self.shelf.as_mut()?;
        let end = shelf.end.as_mut().filter(|end| !end.asked)?;
        if shelf.reading > 0
            || shelf.writing > 0 && (end.given_up || end.before_is_out(&self.front))
        {
            return None;
        }
        if end.given_up {
            end.asked = true;
            return Some(Order::Close);
        }
        // What came from the spool is there yet, unless something is to be kept before it.
        end.before |= self.front.iter().any(|chunk| chunk.place.is_none());
        if end.before {
            let Some(chunk) = self.front.pop_front() else {
                end.before = false;
                return end.anew.take().map(Order::Delivered).or_else(|| self.order_at_end());
            };
            let upto = chunk.place.map(|place| place.wrapping_add(chunk.ends.len() as u64));
            end.anew = end.anew.max(upto);
            return Some(shelf.write_before(chunk));
        }
        while let Some(chunk) = self.front.pop_front() {
            self.recycle_unnoted(chunk);
        }
        self.order_last()
    }

    fn order_last(&mut self) -> Option<Order> {
        let shelf = self.shelf.as_mut()?;
        if let Some(chunk) = self.sealed.pop_front() {
            return Some(shelf.write(chunk));
        }
        if let Some(end) = &mut shelf.end {
            end.asked = true;
        }
        Some(Order::Close)
    }

    /// The oldest sealed chunk.
    pub(super) fn pop_sealed(&mut self) -> Option<Chunk> {
        if let Some(shelf) = &mut self.shelf {
            shelf.refused = shelf.refused.saturating_sub(1);
        }
        self.sealed.pop_front()
    }

    /// Records on their way to the disk, and those of this run in the spool that come behind one in
    /// memory: a place in a log that is before that one is before them, too.
    pub(super) fn at_risk_behind(&self, in_hand: bool) -> usize {
        let Some(shelf) = &self.shelf else { return 0 };
        let mut before = 0;
        let in_memory = |chunk: &Chunk| {
            let next = chunk.place.map(|place| place.wrapping_add(chunk.first as u64));
            let is_kept = next.is_some_and(|next| next >= shelf.found);
            before += if is_kept { chunk.records() } else { 0 };
            !chunk.is_spooled()
        };
        let behind = match in_hand {
            true => shelf.kept,
            false if self.sent.iter().chain(&self.front).any(in_memory) => {
                shelf.kept.saturating_sub(before)
            }
            false => 0,
        };
        shelf.writing_records + behind
    }

    /// Records that are neither in memory of the outbox nor in the spool yet.
    pub(super) fn records_in_writing(&self) -> usize {
        self.shelf.as_ref().map_or(0, |shelf| shelf.writing_records)
    }

    /// Lets go of what is in the spool anyway.
    pub(super) fn leave_spooled(&mut self) {
        for chunk in std::mem::take(&mut self.front) {
            if chunk.is_spooled() {
                self.recycle_unnoted(chunk);
            } else {
                self.front.push_back(chunk);
            }
        }
    }

    /// Takes a chunk back whose records are in the spool, so that what became of them is not said
    /// by this.
    fn recycle_unnoted(&mut self, mut chunk: Chunk) {
        chunk.told = usize::MAX;
        self.recycle(chunk);
    }
}

impl End {
    /// All that goes before the shelf is on its way.
    fn before_is_out(&self, front: &VecDeque<Chunk>) -> bool {
        self.before && front.is_empty()
    }
}

impl Shelf {
    fn write(&mut self, chunk: Chunk) -> Order {
        self.goes_out(&chunk);
        Order::Write(chunk, self.generation)
    }

    fn write_before(&mut self, chunk: Chunk) -> Order {
        self.goes_out(&chunk);
        Order::Before(chunk)
    }

    fn goes_out(&mut self, chunk: &Chunk) {
        self.writing += 1;
        self.writing_room += room_of(chunk);
        self.writing_records += if chunk.is_spooled() { 0 } else { chunk.records() };
    }

    /// `chunk` is back.
    fn written(&mut self, chunk: &Chunk) {
        self.writing -= 1;
        self.writing_room -= room_of(chunk);
        self.writing_records -= if chunk.is_spooled() { 0 } else { chunk.records() };
    }

    /// Records of which it is not known whether they are kept, and never will be.
    pub(super) fn in_doubt(&self) -> usize {
        self.writing_records
    }
}

fn room_of(chunk: &Chunk) -> usize {
    if chunk.lent { chunk.room } else { chunk.charged }
}

/// A spool of vectors, and a link that does what it is told: whatever happens, each record is
/// delivered, dropped and counted, or kept, once and in its turn. In test and fuzz builds only.
#[cfg(any(test, fuzzing))]
pub mod naive {
    use std::collections::VecDeque;
    use std::sync::Arc;
    use std::sync::atomic::Ordering::Relaxed;

    use super::{Answer, Order};
    use crate::buffer::{Budget, Chunk, Outbox, Overflow};

    const LIMIT: usize = 64 * 1024;

    /// What happens to an outbox with a spool.
    #[derive(Clone, Copy, Debug)]
    pub enum Op {
        /// So many records of such a length come.
        Put(u8, u16),
        /// The link sends a chunk, of which this share in 256 parts is taken; what is sent as
        /// datagrams is delivered by that.
        Send(u8),
        /// So many bytes of what was sent are acknowledged.
        Acknowledge(u32),
        /// The connection ends.
        Break,
        /// The spool obeys its oldest order, or refuses it.
        Obey(bool),
        /// It is time to try again.
        Again,
    }

    /// An outbox, and all that is known of its records.
    pub struct Model {
        datagrams: bool,
        outbox: Outbox,
        budget: Arc<Budget>,
        orders: VecDeque<Order>,
        generation: u64,
        /// Records in the spool, from the first ever written on, and those kept before them.
        log: Vec<u64>,
        before: Vec<u64>,
        read: usize,
        delivered_there: usize,
        /// Records sent, with how many bytes each lacks to be acknowledged.
        sent: VecDeque<(u64, usize)>,
        delivered: Vec<u64>,
        next: u64,
        closed: bool,
    }

    fn number(record: &[u8]) -> u64 {
        u64::from_le_bytes(record[..8].try_into().unwrap())
    }

    fn numbers(chunk: &Chunk) -> impl Iterator<Item = u64> {
        chunk.pending_records().map(number)
    }

    impl Model {
        /// Nothing has come yet.
        pub fn new(datagrams: bool) -> Model {
            let budget = Arc::new(Budget::new(LIMIT, 1));
            let outbox = Outbox::new(Arc::clone(&budget), usize::MAX);
            let outbox = outbox.overflowing(Overflow::DropOldest).with_spool(0, false);
            Model {
                datagrams,
                outbox,
                budget,
                orders: VecDeque::new(),
                generation: 0,
                log: Vec::new(),
                before: Vec::new(),
                read: 0,
                delivered_there: 0,
                sent: VecDeque::new(),
                delivered: Vec::new(),
                next: 0,
                closed: false,
            }
        }

        /// Has `op` happen.
        pub fn step(&mut self, op: Op) {
            match op {
                Op::Put(count, len) => {
                    for _ in 0..count % 64 {
                        let len = usize::from(len % 3000) + 8;
                        let record = self.outbox.begin(len);
                        let start = record.len();
                        record.extend_from_slice(&self.next.to_le_bytes());
                        record.resize(start + len, 0);
                        self.outbox.finish();
                        self.next += 1;
                    }
                }
                Op::Send(share) if self.datagrams => self.hand_over(usize::from(share)),
                Op::Send(share) => self.send(usize::from(share)),
                Op::Acknowledge(bytes) => {
                    let all: usize = self.sent.iter().map(|(_, left)| left).sum();
                    self.acknowledge((bytes as usize).min(all));
                }
                Op::Break => {
                    self.outbox.rewind();
                    self.sent.clear();
                }
                Op::Obey(accept) => self.obey(accept),
                Op::Again => self.outbox.write_again(),
            }
            self.pass_on();
            self.check_risk();
        }

        fn hand_over(&mut self, share: usize) {
            let Some(mut chunk) = self.outbox.take() else { return };
            let count = chunk.records() * (share + 1) / 256;
            self.delivered.extend(numbers(&chunk).take(count));
            let bytes = chunk.pending_records().take(count).map(<[u8]>::len).sum();
            chunk.deliver(bytes);
            self.outbox.put_back(chunk);
        }

        fn send(&mut self, share: usize) {
            if !self.outbox.may_send() {
                return;
            }
            let Some(chunk) = self.outbox.take() else { return };
            let taken = chunk.pending().len() * (share + 1) / 256;
            let breaks = taken < chunk.pending().len();
            self.sent.extend(chunk.pending_records().map(|record| (number(record), record.len())));
            self.outbox.sent(chunk, taken);
            if breaks {
                self.outbox.rewind();
                self.sent.clear();
            }
        }

        fn acknowledge(&mut self, bytes: usize) {
            let mut left = bytes;
            while let Some((record, lacks)) = self.sent.front_mut() {
                let more = left.min(*lacks);
                (*lacks, left) = (*lacks - more, left - more);
                if *lacks > 0 {
                    break;
                }
                self.delivered.push(*record);
                self.sent.pop_front();
            }
            self.outbox.acknowledge(bytes);
        }

        /// The first record that is in memory alone is the first at risk, unless some were dropped.
        fn check_risk(&self) {
            let Outbox { sent, front, sealed, open, losses, .. } = &self.outbox;
            let on_the_way = self.orders.iter().filter_map(|order| match order {
                Order::Write(chunk, _) => Some(chunk),
                _ => None,
            });
            let chunks = sent.iter().chain(front).chain(on_the_way).chain(sealed).chain([open]);
            let first = chunks.filter(|chunk| !chunk.is_spooled()).flat_map(numbers).min();
            if losses.dropped_records == 0 {
                let safe = self.next - self.outbox.at_risk(0) as u64;
                assert_eq!(safe, first.unwrap_or(self.next), "records before it are safe");
            }
        }

        fn pass_on(&mut self) {
            while let Some(order) = self.outbox.next_order() {
                self.orders.push_back(order);
            }
            assert!(self.orders.len() < 200, "orders are bounded");
        }

        fn obey(&mut self, accept: bool) {
            let answer = match self.orders.pop_front() {
                None => return,
                Some(Order::Write(chunk, generation)) => {
                    if accept && generation >= self.generation {
                        self.log.extend(numbers(&chunk));
                        Answer::Written(chunk)
                    } else {
                        self.generation = self.generation.max(generation + 1);
                        Answer::Refused(chunk)
                    }
                }
                Some(Order::Before(chunk)) if accept => {
                    self.before.extend(numbers(&chunk));
                    Answer::Written(chunk)
                }
                Some(Order::Before(chunk)) => Answer::Refused(chunk),
                Some(Order::Read(chunk)) => Answer::Read(self.fill(chunk)),
                Some(Order::Delivered(place)) => {
                    assert!(place as usize >= self.delivered_there, "delivery goes back");
                    assert!(place as usize <= self.read, "delivered before it was read");
                    self.delivered_there = place as usize;
                    return;
                }
                Some(Order::Close) => {
                    self.closed = true;
                    Answer::Closed
                }
            };
            self.outbox.answered(answer, (self.log.len() - self.read) as u64);
        }

        /// Records are read some at a time, whatever they were written in.
        fn fill(&mut self, mut chunk: Chunk) -> Chunk {
            let records = &self.log[self.read..(self.read + 5).min(self.log.len())];
            let bytes: Vec<u8> = records.iter().flat_map(|record| record.to_le_bytes()).collect();
            let ends: Vec<u32> = (1..=records.len() as u32).map(|n| n * 8).collect();
            if !records.is_empty() {
                chunk.fill(&bytes, ends.into_iter(), 0, self.read as u64);
            }
            self.read += records.len();
            chunk
        }

        /// Ends it in order, with a disk that takes all or nothing, and adds everything up.
        pub fn end(mut self, accept: bool) {
            self.outbox.keep();
            self.sent.clear();
            self.pass_on();
            while !self.outbox.is_kept() {
                assert!(!self.orders.is_empty(), "the end does not come");
                self.obey(accept);
                self.pass_on();
            }
            assert!(self.closed && self.orders.is_empty());
            self.outbox.abandon();
            let dropped = self.outbox.take_losses().dropped_records;
            let kept = self.before.iter().chain(&self.log[self.delivered_there..]);
            let all: Vec<u64> = self.delivered.iter().chain(kept).copied().collect();
            assert!(all.is_sorted_by(|one, other| one < other), "once and in turn: {all:?}");
            assert_eq!(all.len() as u64 + dropped, self.next, "none is lost unseen");
            assert_eq!(self.outbox.held, 0, "all memory is given back");
            assert_eq!(self.budget.pool.load(Relaxed), LIMIT - self.budget.floor);
            let shelf = self.outbox.shelf.as_ref().unwrap();
            let books = (shelf.writing, shelf.writing_room, shelf.reading, shelf.lent);
            assert_eq!((books, shelf.overdrawn, shelf.in_doubt()), ((0, 0, 0, 0), 0, 0));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::naive::{Model, Op};
    use super::{Answer, Order};
    use crate::buffer::{Budget, Outbox};
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Of the first frame that an earlier run has left, some records may be delivered: those have
    /// no place.
    #[test]
    fn what_an_earlier_run_has_left_may_begin_within_a_frame() {
        let budget = Arc::new(Budget::new(64 * 1024, 1));
        let mut outbox = Outbox::new(budget, usize::MAX).with_spool(1, false);
        let Some(Order::Read(mut chunk)) = outbox.next_order() else { panic!("nothing is read") };
        chunk.fill(b"abcd", [1, 2, 3, 4].into_iter(), 3, 0u64.wrapping_sub(3));
        outbox.answered(Answer::Read(chunk), 0);
        let chunk = outbox.take().unwrap();
        assert_eq!(chunk.pending(), b"d");
        outbox.sent(chunk, 1);
        assert_eq!(outbox.acknowledge(1), (1, 1));
        assert!(matches!(outbox.next_order(), Some(Order::Delivered(1))));
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            3 => (any::<u8>(), any::<u16>()).prop_map(|(count, len)| Op::Put(count, len)),
            2 => prop_oneof![Just(255), any::<u8>()].prop_map(Op::Send),
            2 => (0..40_000u32).prop_map(Op::Acknowledge),
            1 => Just(Op::Break),
            6 => prop::bool::weighted(0.9).prop_map(Op::Obey),
            1 => Just(Op::Again),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn each_record_is_delivered_dropped_or_kept_once_and_in_its_turn(
            ops in vec(op(), 0..200),
            datagrams in any::<bool>(),
            accept in any::<bool>(),
        ) {
            let mut model = Model::new(datagrams);
            ops.into_iter().for_each(|op| model.step(op));
            model.end(accept);
        }
    }
}
