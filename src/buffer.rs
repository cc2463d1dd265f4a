//! The outbox: where a route's records wait for the wire, in chunks of fixed size.
//!
//! One outbox per route and shard; the route's budget is shared by its shards. Encoders append
//! records at the back, the link takes whole chunks from the front. When the budget is used up the
//! oldest records go, and are counted, or whoever writes is asked to stop ([`Overflow`]). Nothing
//! is allocated per record: chunks are reused.
//!
//! What a connection took stays until the receiver's side has acknowledged it ([`Outbox::sent`]),
//! charged like the rest; where the connection ends before, it is sent again first
//! ([`Outbox::rewind`]).
//!
//! With a spool, what is above the memory that an outbox may always have goes to the disk, and
//! comes back in its turn ([`shelf`]).
//!
//! Indices of a [`Chunk`]: `ends[i]` is where record `i` ends in `bytes`, and the next begins;
//! `ends` rises, and its last entry is `bytes.len()`. Neither grows beyond its first capacity.

use std::collections::VecDeque;
use std::ops::{AddAssign, SubAssign};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use shelf::Shelf;

pub mod shelf;

/// Largest chunk: what one write takes at most (64-256 KiB pay, see docs/ARCHITECTURE.md).
pub const CHUNK_MAX: usize = 128 * 1024;
/// Smallest chunk, however small the route's buffer.
pub const CHUNK_MIN: usize = 4 * 1024;
/// An outbox that holds more is behind.
const BEHIND: usize = 2 * CHUNK_MAX;
/// Empty chunks that are kept for reuse rather than given back, besides as many as were sent and
/// not acknowledged at a time lately.
const SPARE_MAX: usize = 4;
/// Of those, at most so many count.
const SENT_SPARE_MAX: usize = 8;
/// A chunk is small that has at most this part of its room in use.
const SMALL_SHARE: usize = 4;
/// A chunk is full at one record for so many bytes of room, so that the places of very short
/// records take no more than a quarter of the memory that the budget counts.
const RECORD_LEAST: usize = 16;

/// What happens when the budget of a route is used up (`overflow`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// Nothing is dropped: whoever writes stops, and goes on from there when there is room.
    #[default]
    Block,
    /// The oldest records are dropped.
    DropOldest,
    /// Lines that come are dropped until there is room.
    DropNewest,
}

impl FromStr for Overflow {
    /// The end of a sentence that begins with the setting and the value.
    type Err = String;

    fn from_str(text: &str) -> Result<Overflow, String> {
        match text.to_ascii_lowercase().as_str() {
            "block" => Ok(Overflow::Block),
            "drop-oldest" => Ok(Overflow::DropOldest),
            "drop-newest" => Ok(Overflow::DropNewest),
            _ => Err("is no such policy; write block, drop-oldest or drop-newest".to_string()),
        }
    }
}

/// The memory of one route, shared by its outboxes (one a shard).
///
/// Each outbox may always hold its `floor`; what is above is taken from a common pool, so that one
/// busy shard can use nearly all of it and none can starve another.
#[derive(Debug)]
pub struct Budget {
    floor: usize,
    pool: AtomicUsize,
}

impl Budget {
    /// `limit` bytes for `shards` outboxes.
    pub fn new(limit: usize, shards: usize) -> Budget {
        let floor = limit / (2 * shards.max(1));
        let pool = limit - floor * shards.max(1);
        Budget { floor, pool: AtomicUsize::new(pool) }
    }

    /// The size of chunk that suits this budget: at least eight fit an outbox's floor.
    pub fn chunk_size(&self) -> usize {
        (self.floor / 8).clamp(CHUNK_MIN, CHUNK_MAX)
    }

    /// Grants `more` bytes to an outbox that holds `held`, or nothing.
    fn grow(&self, held: usize, more: usize) -> bool {
        let from_pool = (held + more).saturating_sub(self.floor) - held.saturating_sub(self.floor);
        self.pool.fetch_update(Relaxed, Relaxed, |pool| pool.checked_sub(from_pool)).is_ok()
    }

    /// Whether an outbox that holds `held` bytes would be granted `more` now.
    fn grants(&self, held: usize, more: usize) -> bool {
        let from_pool = (held + more).saturating_sub(self.floor) - held.saturating_sub(self.floor);
        from_pool <= self.pool.load(Relaxed)
    }

    /// Takes back `less` of the `held` bytes of an outbox.
    fn shrink(&self, held: usize, less: usize) {
        let to_pool = held.saturating_sub(self.floor) - (held - less).saturating_sub(self.floor);
        self.pool.fetch_add(to_pool, Relaxed);
    }
}

/// Records one after the other, and where each ends.
#[derive(Debug, Default)]
pub struct Chunk {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    /// Records before this one are delivered.
    first: usize,
    /// Records before this one were sent over the present connection.
    sent: usize,
    /// Records before this one were sent over an earlier connection, which broke.
    again: usize,
    /// Bytes that may be written before the chunk is sealed.
    room: usize,
    /// Bytes charged to the budget: `room`, or 0 where the budget had to be overdrawn.
    charged: usize,
    /// Of records that came from the spool: the place of the first of all there. Where that was
    /// delivered by an earlier run it may be below 0, and is wrapped.
    place: Option<u64>,
    /// Of these, those before this one are known there to be delivered.
    told: usize,
    /// The budget was overdrawn for it, because there is room in the spool.
    lent: bool,
}

impl Chunk {
    /// An empty one that nothing is charged for.
    pub(crate) fn with_room(room: usize) -> Chunk {
        Chunk {
            bytes: Vec::with_capacity(room),
            ends: Vec::with_capacity(room / RECORD_LEAST + 1),
            room,
            ..Chunk::default()
        }
    }

    /// Fills an empty chunk with records from the spool, which end at `ends` and of which the first
    /// `delivered` are; `place` is that of the first of all.
    pub fn fill(
        &mut self,
        bytes: &[u8],
        ends: impl ExactSizeIterator<Item = u32>,
        delivered: usize,
        place: u64,
    ) {
        self.clear();
        if bytes.len() > self.room {
            self.room = bytes.len();
            self.bytes = Vec::with_capacity(self.room);
        }
        self.bytes.extend_from_slice(bytes);
        self.ends.extend(ends);
        (self.first, self.told) = (delivered, delivered);
        self.place = Some(place);
    }

    /// Where the records that are not yet delivered end in [`Chunk::pending`].
    pub fn pending_ends(&self) -> impl Iterator<Item = u32> {
        let start = self.start_of(self.first) as u32;
        self.ends[self.first..].iter().map(move |end| end - start)
    }

    /// How many of the records that are not yet delivered, from the first on, were sent before.
    pub fn sent_before(&self) -> u32 {
        self.again.max(self.sent).saturating_sub(self.first) as u32
    }

    /// Says how many of all records, from the first on, were sent before.
    pub fn set_sent_before(&mut self, records: u32) {
        self.again = (records as usize).min(self.ends.len());
    }

    /// Whether the records are in the spool as long as they are not delivered.
    pub fn is_spooled(&self) -> bool {
        self.place.is_some()
    }

    /// The bytes of the records that are not yet delivered.
    pub fn pending(&self) -> &[u8] {
        &self.bytes[self.start_of(self.first)..]
    }

    /// How many bytes those are; known even while they are lent.
    fn pending_len(&self) -> usize {
        self.start_of(self.ends.len()) - self.start_of(self.first)
    }

    /// The records that are not yet delivered, one by one.
    pub fn pending_records(&self) -> impl Iterator<Item = &[u8]> {
        (self.first..self.ends.len())
            .map(|index| &self.bytes[self.start_of(index)..self.ends[index] as usize])
    }

    /// Number of records that are not yet delivered.
    pub fn records(&self) -> usize {
        self.ends.len() - self.first
    }

    /// Marks the oldest `records` of those that are not yet delivered as delivered.
    pub fn deliver_records(&mut self, records: usize) {
        self.first = (self.first + records).min(self.ends.len());
    }

    /// Marks the records that lie wholly in the first `taken` bytes of [`Chunk::pending`] as
    /// delivered; returns how many they are. A record that was taken in part is sent again whole.
    pub fn deliver(&mut self, taken: usize) -> usize {
        let upto = self.start_of(self.first) + taken;
        let first = self.ends.partition_point(|&end| end as usize <= upto);
        let delivered = first - self.first;
        self.first = first;
        delivered
    }

    /// Lends the bytes to an operation that needs to own them; see [`Chunk::restore`].
    /// Returns them with the offset of the first pending byte.
    pub fn lend(&mut self) -> (Vec<u8>, usize) {
        let start = self.start_of(self.first);
        (std::mem::take(&mut self.bytes), start)
    }

    /// Takes back what [`Chunk::lend`] lent.
    pub fn restore(&mut self, bytes: Vec<u8>) {
        self.bytes = bytes;
    }

    /// Takes note that the first `taken` bytes of [`Chunk::pending`] were sent; returns how many
    /// whole records of these were sent before.
    fn note_sent(&mut self, taken: usize) -> usize {
        let upto = self.start_of(self.first) + taken;
        self.sent = self.ends.partition_point(|&end| end as usize <= upto);
        self.sent.min(self.again).saturating_sub(self.first)
    }

    /// Whether this chunk, all of which was sent, has room for `other`, of which the same is true.
    fn has_room_for(&self, other: &Chunk) -> bool {
        let places = self.ends.capacity() - self.ends.len();
        !self.is_spooled()
            && self.bytes.len() + other.pending_len() <= self.room
            && other.records() <= places
    }

    /// Appends what is pending of `other`; all of it was sent.
    fn append(&mut self, other: &Chunk) {
        let (start, moved) = (other.start_of(other.first), self.bytes.len());
        self.bytes.extend_from_slice(other.pending());
        let ends = &other.ends[other.first..];
        self.ends.extend(ends.iter().map(|&end| (end as usize - start + moved) as u32));
        self.sent = self.ends.len();
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        (self.first, self.sent, self.again) = (0, 0, 0);
        (self.place, self.told, self.lent) = (None, 0, false);
    }

    fn start_of(&self, index: usize) -> usize {
        if index == 0 { 0 } else { self.ends[index - 1] as usize }
    }
}

/// The open chunk of an outbox. Whoever appends a record to `bytes` appends its end to `ends`, and
/// neither grows beyond the capacity that it has.
pub struct Open<'a> {
    /// The records.
    pub bytes: &'a mut Vec<u8>,
    /// Where each ends.
    pub ends: &'a mut Vec<u32>,
}

/// What an outbox had to let go of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Records dropped, oldest first, because the budget was used up.
    pub dropped_records: u64,
    /// Their bytes.
    pub dropped_bytes: u64,
    /// Records cut because they were longer than the outbox allows.
    pub cut_records: u64,
    /// Lines that gave no record, because a template failed.
    pub failed_lines: u64,
    /// Lines that gave a record although a template failed: something else stands in its place.
    pub patched_lines: u64,
    /// Lines of which a template made nothing.
    pub empty_lines: u64,
}

/// How much waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Records.
    pub records: usize,
    /// Their bytes.
    pub bytes: usize,
}

impl Held {
    /// What is pending of a chunk.
    pub fn of(chunk: &Chunk) -> Held {
        Held { records: chunk.records(), bytes: chunk.pending_len() }
    }
}

impl AddAssign for Held {
    fn add_assign(&mut self, more: Held) {
        self.records += more.records;
        self.bytes += more.bytes;
    }
}

impl SubAssign for Held {
    fn sub_assign(&mut self, less: Held) {
        self.records -= less.records;
        self.bytes -= less.bytes;
    }
}

/// The records of one route on one shard that are not yet delivered.
#[derive(Debug)]
pub struct Outbox {
    open: Chunk,
    sealed: VecDeque<Chunk>,
    /// Older than all that is sealed: it was taken before, or comes from the spool.
    front: VecDeque<Chunk>,
    shelf: Option<Box<Shelf>>,
    /// What was sent and is not acknowledged, oldest first. Only the last chunk may have records
    /// that were not sent.
    sent: VecDeque<Chunk>,
    /// Memory of `sent`.
    sent_room: usize,
    /// The most chunks that were in `sent` since [`Outbox::trim`].
    sent_most: usize,
    /// Bytes acknowledged of the oldest record of `sent`, which has more.
    part: usize,
    spare: Vec<Chunk>,
    chunk_size: usize,
    record_max: usize,
    /// Records of the chunks that were ever closed.
    closed: u64,
    /// Bytes charged to the budget: those of `open`, `sealed`, `sent` and of chunks taken.
    held: usize,
    budget: Arc<Budget>,
    overflow: Overflow,
    /// The budget was overdrawn since [`Outbox::take_overdrawn`], rather than records dropped.
    overdrawn: bool,
    losses: Losses,
    /// The first error since the last [`Outbox::take_complaint`].
    complaint: Option<String>,
}

impl Outbox {
    /// An empty outbox. A record longer than `record_max` bytes is cut at a character boundary
    /// (datagrams); streams pass `usize::MAX`.
    pub fn new(budget: Arc<Budget>, record_max: usize) -> Outbox {
        Outbox {
            open: Chunk::default(),
            sealed: VecDeque::new(),
            front: VecDeque::new(),
            shelf: None,
            sent: VecDeque::new(),
            sent_room: 0,
            sent_most: 0,
            part: 0,
            spare: Vec::new(),
            chunk_size: budget.chunk_size(),
            record_max,
            closed: 0,
            held: 0,
            budget,
            overflow: Overflow::DropOldest,
            overdrawn: false,
            losses: Losses::default(),
            complaint: None,
        }
    }

    /// The same, with another policy. Where that is not to drop the oldest records, the budget is
    /// overdrawn by those who go on writing: see [`Outbox::take_overdrawn`].
    pub fn overflowing(self, overflow: Overflow) -> Outbox {
        Outbox { overflow, ..self }
    }

    /// Begins a record of at most `len_max` bytes: the caller appends it to what is returned,
    /// writes nothing else there, and then calls [`Outbox::finish`].
    #[inline]
    pub fn begin(&mut self, len_max: usize) -> &mut Vec<u8> {
        let Chunk { bytes, ends, room, .. } = &self.open;
        if bytes.len() + len_max > *room || ends.len() == ends.capacity() {
            self.open_another(len_max);
        }
        &mut self.open.bytes
    }

    /// Whether a record may be too long for this outbox; see [`Outbox::new`].
    pub fn cuts_records(&self) -> bool {
        self.record_max != usize::MAX
    }

    /// The longest record; see [`Outbox::new`].
    pub fn record_max(&self) -> usize {
        self.record_max
    }

    /// What is open for writing: for encoders that append many records at once, to outboxes that
    /// cut none.
    #[inline]
    pub fn open(&mut self) -> Open<'_> {
        Open { bytes: &mut self.open.bytes, ends: &mut self.open.ends }
    }

    /// Ends the record that [`Outbox::begin`] began.
    #[inline]
    pub fn finish(&mut self) {
        let start = self.open.start_of(self.open.ends.len());
        if self.open.bytes.len() - start > self.record_max {
            self.cut(start);
        }
        self.open.ends.push(self.open.bytes.len() as u32);
    }

    /// Notes that a template failed for a line, and whether the line is lost by that.
    #[cold]
    pub fn note_failure(&mut self, error: &dyn std::fmt::Display, lost: bool) {
        let count =
            if lost { &mut self.losses.failed_lines } else { &mut self.losses.patched_lines };
        *count += 1;
        self.complaint.get_or_insert_with(|| error.to_string());
    }

    /// Notes that a line's record would be empty, and is not there.
    pub fn note_empty(&mut self) {
        self.losses.empty_lines += 1;
    }

    /// Notes that a line was cut so that its record is not too long: by an encoder that has to
    /// close what it opened.
    pub fn note_cut(&mut self) {
        self.losses.cut_records += 1;
    }

    /// Why a template failed, once since the last call.
    pub fn take_complaint(&mut self) -> Option<String> {
        self.complaint.take()
    }

    /// Takes the oldest records for writing. They stay charged until [`Outbox::recycle`] or
    /// [`Outbox::put_back`] gets the chunk again.
    pub fn take(&mut self) -> Option<Chunk> {
        let chunk = self.front.pop_front();
        if chunk.is_some() || self.awaits_spool() {
            return chunk;
        }
        self.sealed.pop_front().or_else(|| (self.open.records() > 0).then(|| self.take_open()))
    }

    fn take_open(&mut self) -> Chunk {
        let open = std::mem::take(&mut self.open);
        self.closed += open.ends.len() as u64;
        open
    }

    /// What is in the open chunk, and how many records there were in those before it: while that
    /// number stands and nobody takes anything, all else that is held stays as it is.
    #[inline]
    pub fn newest(&self) -> (Held, u64) {
        (Held::of(&self.open), self.closed)
    }

    /// What is held, sent or not, but for a chunk that was taken, and what is in the spool.
    pub fn contents(&self) -> Held {
        let chunks = self.sent.iter().chain(&self.front).chain(&self.sealed).chain([&self.open]);
        let mut all = Held { records: self.records_in_writing(), bytes: 0 };
        chunks.filter(|chunk| !chunk.is_spooled()).for_each(|chunk| all += Held::of(chunk));
        all
    }

    /// Whether more is held than the budget grants in any case: time to write less.
    pub fn is_pressed(&self) -> bool {
        self.held > self.budget.floor
    }

    /// Whether enough is held that sending it comes before adding to it.
    pub fn is_behind(&self) -> bool {
        self.held > self.sent_room + BEHIND.min(self.budget.floor / 2)
    }

    /// Whether the next chunk would push out the oldest.
    pub fn is_full(&self) -> bool {
        !self.budget.grants(self.held, self.chunk_size) && !self.may_lend()
    }

    /// Whether whoever had to stop may go on: much of the memory is free, also where the outboxes
    /// of other shards have used up the pool. What was overdrawn is in no book: if they went on as
    /// soon as there is some room, it would grow each time.
    pub fn has_room(&self) -> bool {
        !self.is_pressed() && self.budget.grants(self.held, self.budget.floor / 2)
    }

    /// How many records were ever appended.
    pub fn appended(&self) -> u64 {
        self.closed + self.open.ends.len() as u64
    }

    /// How many records, to the last one, begin with the first that would be lost with the memory
    /// of this program; `in_hand` are those of a chunk that was taken and is not in the spool.
    pub fn at_risk(&self, in_hand: usize) -> usize {
        let chunks = self.sent.iter().chain(&self.front).chain(&self.sealed).chain([&self.open]);
        let memory = chunks.filter(|chunk| !chunk.is_spooled());
        memory.map(Chunk::records).sum::<usize>() + in_hand + self.at_risk_behind(in_hand > 0)
    }

    /// Whether there is nothing to take.
    pub fn is_empty(&self) -> bool {
        let later = self.awaits_spool() || self.sealed.is_empty() && self.open.records() == 0;
        self.front.is_empty() && later
    }

    /// Takes a chunk back whose records were all delivered or given up.
    pub fn recycle(&mut self, mut chunk: Chunk) {
        if let Some(shelf) = &mut self.shelf {
            shelf.recycled(&mut chunk);
        }
        self.budget.shrink(self.held, chunk.charged);
        self.held -= chunk.charged;
        if self.spare.len() < self.spare_max() && chunk.room == self.chunk_size {
            chunk.clear();
            self.spare.push(chunk);
        }
    }

    fn spare_max(&self) -> usize {
        SPARE_MAX + self.sent_most.min(SENT_SPARE_MAX)
    }

    /// Gives back memory that was kept for busier times.
    pub fn trim(&mut self) {
        self.sent_most = self.sent.len();
        self.spare.truncate(self.spare_max());
    }

    /// Takes a chunk back whose pending records are to be sent first, next time.
    pub fn put_back(&mut self, mut chunk: Chunk) {
        if chunk.records() > 0 {
            if let Some(shelf) = &mut self.shelf {
                shelf.note(&mut chunk);
            }
            self.front.push_front(chunk);
        } else {
            self.recycle(chunk);
        }
    }

    /// Whether more may be sent before what was sent is acknowledged: half of what this outbox
    /// may always hold, so that there is room for new records whatever the receiver does.
    pub fn may_send(&self) -> bool {
        self.sent_room < self.window()
    }

    fn window(&self) -> usize {
        (self.budget.floor / 2).max(1)
    }

    /// Whether anything was sent and is not acknowledged.
    pub fn has_sent(&self) -> bool {
        !self.sent.is_empty()
    }

    /// Takes a chunk back of which a connection has taken the first `taken` pending bytes: it stays
    /// until they are acknowledged. If not all of it was taken the connection has ended, and
    /// [`Outbox::rewind`] is to follow. Returns how many of its records were sent before.
    pub fn sent(&mut self, mut chunk: Chunk, taken: usize) -> usize {
        let again = chunk.note_sent(taken);
        let small = chunk.pending_len() <= chunk.room / SMALL_SHARE;
        let whole = chunk.sent == chunk.ends.len();
        // Where so much waits the link is a long one, or its receiver stands still: small chunks
        // are put together, so that it is records that fill the memory.
        let joins = small && whole && self.sent_room >= self.window() / 2 && !chunk.is_spooled();
        match self.sent.back_mut().filter(|last| joins && last.has_room_for(&chunk)) {
            Some(last) => {
                last.append(&chunk);
                self.recycle(chunk);
            }
            None => self.keep_sent(chunk),
        }
        again
    }

    /// The next record to be sent, where records are sent one by one, and whether it was sent
    /// before. It counts as sent. `None` where there is no other, or no more may be sent.
    pub fn send_next(&mut self) -> Option<(&[u8], bool)> {
        self.send_next_if(|_| true)
    }

    /// The same, if it `fits`; otherwise it stays where it is.
    pub fn send_next_if(&mut self, fits: impl FnOnce(&[u8]) -> bool) -> Option<(&[u8], bool)> {
        if self.sent.back().is_none_or(|last| last.sent == last.ends.len()) {
            if !self.may_send() {
                return None;
            }
            let mut chunk = self.take()?;
            chunk.sent = chunk.first;
            self.keep_sent(chunk);
        }
        let chunk = self.sent.back_mut()?;
        let index = chunk.sent;
        let record = &chunk.bytes[chunk.start_of(index)..chunk.start_of(index + 1)];
        if !fits(record) {
            return None;
        }
        chunk.sent += 1;
        Some((record, index < chunk.again))
    }

    /// Whether [`Outbox::send_next`] has nothing to give: neither from a chunk of which some
    /// records were sent, nor from another.
    pub fn is_all_sent(&self) -> bool {
        self.is_empty() && self.sent.back().is_none_or(|last| last.sent == last.ends.len())
    }

    /// The records that were sent and are not acknowledged, oldest first.
    pub fn sent_records(&self) -> impl Iterator<Item = &[u8]> {
        self.sent.iter().flat_map(|chunk| {
            (chunk.first..chunk.sent)
                .map(|index| &chunk.bytes[chunk.start_of(index)..chunk.start_of(index + 1)])
        })
    }

    /// Whether `bytes` wait to be sent, or as many as may be sent at a time, or there is no more
    /// room, or what comes next is in the spool: nothing is gained by waiting for more.
    pub fn has_batch(&self, bytes: usize) -> bool {
        let most = bytes.min(self.window());
        self.awaits_spool() || self.is_full() || self.contents().bytes >= most
    }

    /// The receiver's side has acknowledged `bytes` more of what was sent. Returns how many records
    /// are delivered by that, and their bytes.
    pub fn acknowledge(&mut self, bytes: usize) -> (usize, usize) {
        let mut left = self.part + bytes;
        let delivered = self.settle(|chunk| {
            let before = chunk.pending_len();
            chunk.deliver(left);
            left -= before - chunk.pending_len();
        });
        self.part = if self.sent.is_empty() { 0 } else { left };
        delivered
    }

    /// The receiver has acknowledged the oldest `records` of what was sent. Returns their bytes.
    pub fn acknowledge_records(&mut self, records: usize) -> usize {
        let mut left = records;
        let (_, bytes) = self.settle(|chunk| {
            let delivered = left.min(chunk.sent - chunk.first);
            chunk.first += delivered;
            left -= delivered;
        });
        bytes
    }

    /// Lets `deliver` mark records of sent chunks as delivered, as long as that is all of a chunk.
    /// Returns how many records were, and their bytes.
    fn settle(&mut self, mut deliver: impl FnMut(&mut Chunk)) -> (usize, usize) {
        let mut settled = Held::default();
        while let Some(chunk) = self.sent.front_mut() {
            settled += Held::of(chunk);
            deliver(chunk);
            settled -= Held::of(chunk);
            if chunk.records() > 0 {
                if let Some(shelf) = &mut self.shelf {
                    shelf.note(chunk);
                }
                break;
            }
            if let Some(chunk) = self.sent.pop_front() {
                self.sent_room -= chunk.room;
                self.recycle(chunk);
            }
        }
        (settled.records, settled.bytes)
    }

    /// The connection has ended: what was sent over it and not acknowledged comes first, next
    /// time, from the beginning of a record on.
    pub fn rewind(&mut self) {
        (self.part, self.sent_room) = (0, 0);
        while let Some(mut chunk) = self.sent.pop_back() {
            chunk.again = chunk.again.max(chunk.sent);
            self.put_back(chunk);
        }
    }

    fn keep_sent(&mut self, chunk: Chunk) {
        self.sent_room += chunk.room;
        self.sent.push_back(chunk);
        self.sent_most = self.sent_most.max(self.sent.len());
    }

    /// Drops everything that is held, counted as dropped; returns the number of records. What is in
    /// the spool stays there.
    pub fn abandon(&mut self) -> u64 {
        let before = self.losses.dropped_records;
        self.seal();
        self.rewind();
        self.leave_spooled();
        while self.drop_oldest() {}
        let in_doubt = self.shelf.as_ref().map_or(0, |shelf| shelf.in_doubt());
        self.losses.dropped_records += in_doubt as u64;
        self.losses.dropped_records - before
    }

    /// Whether anything is to be told: losses, or that the budget was overdrawn.
    #[inline]
    pub fn has_news(&self) -> bool {
        let Losses { dropped_records, cut_records, .. } = self.losses;
        let Losses { failed_lines, patched_lines, empty_lines, .. } = self.losses;
        let losses = dropped_records | cut_records | failed_lines | patched_lines | empty_lines;
        losses | u64::from(self.overdrawn) > 0
    }

    /// Whether the budget was overdrawn since the last call: whoever writes should stop.
    pub fn take_overdrawn(&mut self) -> bool {
        std::mem::take(&mut self.overdrawn)
    }

    /// Drops the oldest records until there is room for a chunk.
    pub fn make_room(&mut self) {
        while self.is_full() && self.drop_oldest() {}
    }

    /// What was let go of since the last call.
    pub fn take_losses(&mut self) -> Losses {
        std::mem::take(&mut self.losses)
    }

    /// Shortens the open record to `record_max`, at a character boundary, its final newline kept.
    #[cold]
    fn cut(&mut self, start: usize) {
        let bytes = &mut self.open.bytes;
        let newline = bytes.last() == Some(&b'\n');
        let mut end = start + self.record_max - usize::from(newline);
        // A UTF-8 character has at most three continuation bytes; more is not UTF-8 anyway.
        for _ in 0..3 {
            if end > start && bytes[end] & 0xC0 == 0x80 {
                end -= 1;
            }
        }
        bytes.truncate(end);
        if newline {
            bytes.push(b'\n');
        }
        self.losses.cut_records += 1;
    }

    /// Seals the open chunk and opens one with room for `len_max` bytes, dropping the oldest
    /// chunks as far as the budget asks for it, if they may be dropped. What the link has taken
    /// cannot be: where that alone uses the budget up, it is overdrawn by this one chunk. It is
    /// overdrawn by some, too, where the spool takes them next.
    #[cold]
    fn open_another(&mut self, len_max: usize) {
        self.seal();
        let room = self.chunk_size.max(len_max);
        let mut granted = self.budget.grow(self.held, room);
        let lent = !granted && self.lend(room);
        match self.overflow {
            _ if lent => {}
            Overflow::DropOldest => {
                while !granted && self.drop_oldest() {
                    granted = self.budget.grow(self.held, room);
                }
            }
            Overflow::Block | Overflow::DropNewest => self.overdrawn |= !granted,
        }
        let charged = if granted { room } else { 0 };
        self.held += charged;
        let mut chunk = match self.spare.pop() {
            Some(spare) if spare.room == room => spare,
            _ => Chunk::with_room(room),
        };
        (chunk.charged, chunk.lent) = (charged, lent);
        self.open = chunk;
    }

    fn seal(&mut self) {
        let open = self.take_open();
        if open.records() > 0 {
            self.sealed.push_back(open);
        } else {
            self.recycle(open);
        }
    }

    fn drop_oldest(&mut self) -> bool {
        // What is in the spool stays: to drop it would be little help.
        let droppable = self.front.front().is_some_and(|chunk| !chunk.is_spooled());
        let chunk = if droppable { self.front.pop_front() } else { self.pop_sealed() };
        let Some(chunk) = chunk else { return false };
        let dropped = Held::of(&chunk);
        self.losses.dropped_records += dropped.records as u64;
        self.losses.dropped_bytes += dropped.bytes as u64;
        self.recycle(chunk);
        true
    }
}

/// What the budget's books have to say, added up plainly. In test and fuzz builds only.
#[cfg(any(test, fuzzing))]
pub mod naive {
    use super::{Budget, Chunk, Held, Outbox, Relaxed};

    /// Panics unless the books of a budget of `limit` bytes are right: `outboxes` are all that
    /// share it, each with the chunk that was taken from it and not yet given back.
    pub fn audit(budget: &Budget, limit: usize, outboxes: &[(&Outbox, Option<&Chunk>)]) {
        let (mut from_pool, mut charged_in_all) = (0, 0);
        for (outbox, taken) in outboxes {
            let mine = outbox.front.iter().chain(&outbox.sealed).chain(&outbox.sent);
            let mine = mine.chain([&outbox.open]);
            // Two that the link has sent or gave back, and one that had no room meanwhile.
            let overdrawn = mine.clone().filter(|chunk| chunk.charged == 0 && chunk.room > 0);
            assert!(overdrawn.count() <= 3, "overdrawn by more than the link has taken");
            let sent_room: usize = outbox.sent.iter().map(|chunk| chunk.room).sum();
            assert_eq!(outbox.sent_room, sent_room, "the memory of what was sent");
            let mut contents = Held::default();
            mine.clone().for_each(|chunk| contents += Held::of(chunk));
            assert_eq!(outbox.contents(), contents, "what is held");
            let chunks: Vec<&Chunk> = mine.chain(*taken).collect();
            let charged: usize = chunks.iter().map(|chunk| chunk.charged).sum();
            assert_eq!(outbox.held, charged, "held is what its chunks were charged");
            charged_in_all += charged;
            from_pool += charged.saturating_sub(budget.floor);
            for chunk in chunks.iter().filter(|chunk| chunk.charged > 0) {
                assert_eq!(chunk.charged, chunk.room, "all of a chunk or nothing is charged");
            }
            for chunk in chunks {
                assert!(chunk.bytes.len() <= chunk.room, "a chunk grew beyond its room");
                assert_eq!(chunk.ends.last().map_or(0, |&end| end as usize), chunk.bytes.len());
            }
        }
        let pool = limit - budget.floor * outboxes.len();
        assert_eq!(budget.pool.load(Relaxed) + from_pool, pool, "the pool gets all of it back");
        assert!(charged_in_all <= limit, "the budget is exceeded");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(outbox: &mut Outbox, record: &[u8]) {
        outbox.begin(record.len()).extend_from_slice(record);
        outbox.finish();
    }

    fn drain(outbox: &mut Outbox) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        while let Some(chunk) = outbox.take() {
            records.extend(chunk.pending_records().map(<[u8]>::to_vec));
            outbox.recycle(chunk);
        }
        records
    }

    #[test]
    fn records_come_out_in_order() {
        let mut outbox = Outbox::new(Arc::new(Budget::new(1 << 20, 1)), usize::MAX);
        let records: Vec<Vec<u8>> =
            (0..20_000).map(|n| format!("record {n}\n").into_bytes()).collect();
        for record in &records {
            put(&mut outbox, record);
        }
        assert_eq!(drain(&mut outbox), records);
        assert_eq!(outbox.take_losses(), Losses::default());
    }

    /// A batch may end within a chunk: what is behind it there is not forgotten.
    #[test]
    fn a_part_of_a_chunk_may_be_sent() {
        let mut outbox = Outbox::new(Arc::new(Budget::new(1 << 20, 1)), usize::MAX);
        let records: Vec<Vec<u8>> = (0..10).map(|n| format!("{n}\n").into_bytes()).collect();
        records.iter().for_each(|record| put(&mut outbox, record));
        let mut taken = 0;
        while outbox.send_next_if(|record| record != b"6\n").is_some() {
            taken += 1;
        }
        assert_eq!((taken, outbox.is_empty(), outbox.is_all_sent()), (6, true, false));
        assert!(outbox.sent_records().eq(&records[..6]) && outbox.has_batch(20));
        assert_eq!(outbox.acknowledge_records(6), 12);
        assert_eq!(outbox.sent_records().count(), 0);
        while outbox.send_next().is_some() {}
        assert!(outbox.is_all_sent() && outbox.sent_records().eq(&records[6..]));
        outbox.rewind();
        assert!(!outbox.is_all_sent() && !outbox.has_batch(9) && outbox.has_batch(8));
        assert_eq!(drain(&mut outbox), records[6..]);
    }

    #[test]
    fn the_oldest_go_and_are_counted() {
        let budget = Arc::new(Budget::new(64 * 1024, 1));
        let mut outbox = Outbox::new(Arc::clone(&budget), usize::MAX);
        for n in 0..10_000 {
            put(&mut outbox, format!("{n:020}").as_bytes());
        }
        let losses = outbox.take_losses();
        let kept = drain(&mut outbox);
        assert_eq!(losses.dropped_records as usize + kept.len(), 10_000);
        assert_eq!(losses.dropped_bytes, losses.dropped_records * 20);
        assert!(kept.len() * 20 > 32 * 1024 && kept.len() * 20 <= 64 * 1024, "{}", kept.len());
        assert_eq!(kept.last().unwrap(), format!("{:020}", 9_999).as_bytes());
    }

    #[test]
    fn budget_is_whole_again_when_all_is_delivered() {
        let budget = Arc::new(Budget::new(256 * 1024, 2));
        let pool = budget.pool.load(Relaxed);
        let mut one = Outbox::new(Arc::clone(&budget), usize::MAX);
        let mut two = Outbox::new(Arc::clone(&budget), usize::MAX);
        for n in 0..50_000 {
            put(&mut one, format!("{n:020}").as_bytes());
            put(&mut two, &vec![b'x'; n % 9000]);
        }
        assert!(budget.pool.load(Relaxed) < CHUNK_MIN * 2);
        drain(&mut one);
        two.abandon();
        assert_eq!((one.held, two.held), (0, 0));
        assert_eq!(budget.pool.load(Relaxed), pool);
    }

    #[test]
    fn a_record_larger_than_the_buffer_passes() {
        let mut outbox = Outbox::new(Arc::new(Budget::new(64 * 1024, 1)), usize::MAX);
        put(&mut outbox, b"small");
        put(&mut outbox, &vec![b'x'; 1 << 20]);
        put(&mut outbox, b"last");
        let records = drain(&mut outbox);
        assert_eq!(records.last().unwrap(), b"last");
        assert_eq!(records.len() as u64 + outbox.take_losses().dropped_records, 3);
        assert!(records.iter().any(|r| r.len() == 1 << 20));
    }

    #[test]
    fn the_places_of_short_records_are_bounded_too() {
        let mut outbox = Outbox::new(Arc::new(Budget::new(256 * 1024, 1)), usize::MAX);
        for _ in 0..1_000_000 {
            put(&mut outbox, b"\n");
        }
        let (mut records, mut places) = (0, 0);
        while let Some(chunk) = outbox.take() {
            records += chunk.records();
            places += chunk.ends.capacity() * size_of::<u32>();
            outbox.recycle(chunk);
        }
        assert_eq!(records as u64 + outbox.take_losses().dropped_records, 1_000_000);
        assert!(places <= 256 * 1024 / 3, "{places}");
    }

    #[test]
    fn a_chunk_put_back_goes_on_at_a_record_boundary() {
        let mut outbox = Outbox::new(Arc::new(Budget::new(1 << 20, 1)), usize::MAX);
        for record in ["one\n", "two\n", "three\n"] {
            put(&mut outbox, record.as_bytes());
        }
        let mut chunk = outbox.take().unwrap();
        assert_eq!(chunk.deliver(6), 1);
        outbox.put_back(chunk);
        let mut chunk = outbox.take().unwrap();
        assert_eq!(chunk.pending(), b"two\nthree\n");
        assert_eq!(chunk.deliver(10), 2);
        assert_eq!(chunk.records(), 0);
        outbox.put_back(chunk);
        assert!(outbox.is_empty());
    }

    /// Takes a chunk and has all of it sent.
    fn send(outbox: &mut Outbox) -> usize {
        let chunk = outbox.take().unwrap();
        let all = chunk.pending().len();
        outbox.sent(chunk, all)
    }

    #[test]
    fn what_is_acknowledged_is_delivered_in_whole_records() {
        let mut outbox = Outbox::new(Arc::new(Budget::new(1 << 20, 1)), usize::MAX);
        for record in ["one\n", "two\n", "three\n"] {
            put(&mut outbox, record.as_bytes());
        }
        assert_eq!(send(&mut outbox), 0);
        put(&mut outbox, b"four\n");
        assert_eq!(send(&mut outbox), 0);
        assert!(outbox.is_empty() && outbox.has_sent());
        assert_eq!(outbox.acknowledge(3), (0, 0));
        assert_eq!(outbox.acknowledge(3), (1, 4));
        assert_eq!(outbox.acknowledge(2), (1, 4));
        assert_eq!(outbox.acknowledge(10), (1, 6));
        assert_eq!(outbox.acknowledge(1), (1, 5));
        assert!(!outbox.has_sent() && outbox.held == 0);
    }

    #[test]
    fn what_is_not_acknowledged_is_sent_again_first_and_counted() {
        let mut outbox = Outbox::new(Arc::new(Budget::new(1 << 20, 1)), usize::MAX);
        for record in ["one\n", "two\n", "three\n"] {
            put(&mut outbox, record.as_bytes());
        }
        send(&mut outbox);
        put(&mut outbox, b"four\nfive\n");
        assert_eq!(outbox.acknowledge(7), (1, 4));
        let chunk = outbox.take().unwrap();
        // The connection breaks in the middle of it.
        assert_eq!(outbox.sent(chunk, 3), 0);
        outbox.rewind();
        put(&mut outbox, b"six\n");
        // Two of these had been sent, and "four" had not, as a whole.
        assert_eq!(send(&mut outbox), 2);
        assert_eq!(send(&mut outbox), 0);
        outbox.rewind();
        assert_eq!(outbox.take().unwrap().pending(), b"two\nthree\n");
        assert_eq!(outbox.take().unwrap().pending(), b"four\nfive\n");
        assert_eq!(outbox.take().unwrap().pending(), b"six\n");
    }

    #[test]
    fn records_are_sent_and_acknowledged_one_by_one() {
        let mut outbox = Outbox::new(Arc::new(Budget::new(1 << 20, 1)), usize::MAX);
        put(&mut outbox, b"one\n");
        put(&mut outbox, b"two\n");
        assert_eq!(outbox.send_next(), Some((&b"one\n"[..], false)));
        put(&mut outbox, b"three\n");
        assert_eq!(outbox.send_next(), Some((&b"two\n"[..], false)));
        assert_eq!(outbox.acknowledge_records(1), 4);
        assert_eq!(outbox.send_next(), Some((&b"three\n"[..], false)));
        assert_eq!(outbox.send_next(), None);
        outbox.rewind();
        assert_eq!(outbox.send_next(), Some((&b"two\n"[..], true)));
        assert_eq!(outbox.acknowledge_records(1), 4);
        assert_eq!(outbox.abandon(), 1);
        assert!(!outbox.has_sent() && outbox.is_empty() && outbox.held == 0);
    }

    /// Where another shard has the pool, what is overdrawn would grow with each pause that ends.
    #[test]
    fn there_is_room_again_when_much_is_free_whoever_has_the_pool() {
        let budget = Arc::new(Budget::new(256 * 1024, 2));
        let greedy = &mut Outbox::new(Arc::clone(&budget), usize::MAX).overflowing(Overflow::Block);
        let other = &mut Outbox::new(Arc::clone(&budget), usize::MAX).overflowing(Overflow::Block);
        for outbox in [&mut *greedy, &mut *other] {
            while !outbox.take_overdrawn() {
                put(outbox, &[b'x'; 1000]);
            }
            assert!(!outbox.has_room());
        }
        let chunk = other.take().unwrap();
        other.recycle(chunk);
        assert!(!other.is_pressed() && !other.has_room(), "one chunk is not much");
        drain(other);
        assert!(other.has_room());
    }

    #[test]
    fn what_waits_to_be_acknowledged_is_bounded_and_put_together() {
        let budget = Arc::new(Budget::new(1 << 20, 1));
        let mut outbox = Outbox::new(Arc::clone(&budget), usize::MAX);
        let mut sent = 0;
        while outbox.may_send() {
            put(&mut outbox, format!("{sent:099}\n").as_bytes());
            send(&mut outbox);
            sent += 1;
        }
        // Four chunks of 64 KiB: two of one record each, and then two of many.
        assert_eq!(outbox.sent.len(), 4);
        assert!((600..1400).contains(&sent), "{sent}");
        assert!(!outbox.is_behind(), "there is nothing to send");
        assert_eq!(outbox.acknowledge(sent * 100), (sent, sent * 100));
        assert_eq!((outbox.held, outbox.sent_room), (0, 0));
    }

    #[test]
    fn chunks_that_were_sent_are_kept_for_the_next_until_it_is_quiet() {
        let mut outbox = Outbox::new(Arc::new(Budget::new(16 << 20, 1)), usize::MAX);
        for _ in 0..10 {
            put(&mut outbox, &[b'x'; CHUNK_MAX / 2]);
            send(&mut outbox);
        }
        outbox.acknowledge(10 * CHUNK_MAX / 2);
        assert_eq!(outbox.spare.len(), 10);
        outbox.trim();
        assert_eq!(outbox.spare.len(), SPARE_MAX);
    }

    #[test]
    fn datagrams_are_cut_at_a_character() {
        let mut outbox = Outbox::new(Arc::new(Budget::new(1 << 20, 1)), 8);
        put(&mut outbox, b"1234567\n");
        put(&mut outbox, "12345\u{20ac}\n".as_bytes());
        put(&mut outbox, b"123456789");
        assert_eq!(drain(&mut outbox), [&b"1234567\n"[..], b"12345\n", b"12345678"]);
        assert_eq!(outbox.take_losses().cut_records, 2);
    }
}
