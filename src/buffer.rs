//! The outbox: where a route's records wait for the wire, in chunks of fixed size.
//!
//! One outbox per route and shard; the route's budget is shared by its shards. Encoders append
//! records at the back, the link takes whole chunks from the front. When the budget is used up the
//! oldest records go, and are counted. Nothing is allocated per record: chunks are reused.
//!
//! Indices of a [`Chunk`]: `ends[i]` is where record `i` ends in `bytes`, and the next begins;
//! `ends` rises, and its last entry is `bytes.len()`. Neither grows beyond its first capacity.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Largest chunk: what one write takes at most (64-256 KiB pay, see docs/ARCHITECTURE.md).
pub const CHUNK_MAX: usize = 128 * 1024;
/// Smallest chunk, however small the route's buffer.
pub const CHUNK_MIN: usize = 4 * 1024;
/// Empty chunks that are kept for reuse rather than given back.
const SPARE_MAX: usize = 4;
/// A chunk is full at one record for so many bytes of room, so that the places of very short
/// records take no more than a quarter of the memory that the budget counts.
const RECORD_LEAST: usize = 16;

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
    /// Bytes that may be written before the chunk is sealed.
    room: usize,
    /// Bytes charged to the budget: `room`, or 0 where the budget had to be overdrawn.
    charged: usize,
}

impl Chunk {
    /// The bytes of the records that are not yet delivered.
    pub fn pending(&self) -> &[u8] {
        &self.bytes[self.start_of(self.first)..]
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

    fn start_of(&self, index: usize) -> usize {
        if index == 0 { 0 } else { self.ends[index - 1] as usize }
    }
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
}

/// The records of one route on one shard that are not yet delivered.
#[derive(Debug)]
pub struct Outbox {
    open: Chunk,
    sealed: VecDeque<Chunk>,
    spare: Vec<Chunk>,
    chunk_size: usize,
    record_max: usize,
    /// Bytes charged to the budget: those of `open`, `sealed` and of chunks taken.
    held: usize,
    budget: Arc<Budget>,
    losses: Losses,
}

impl Outbox {
    /// An empty outbox. A record longer than `record_max` bytes is cut at a character boundary
    /// (datagrams); streams pass `usize::MAX`.
    pub fn new(budget: Arc<Budget>, record_max: usize) -> Outbox {
        Outbox {
            open: Chunk::default(),
            sealed: VecDeque::new(),
            spare: Vec::new(),
            chunk_size: budget.chunk_size(),
            record_max,
            held: 0,
            budget,
            losses: Losses::default(),
        }
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

    /// Ends the record that [`Outbox::begin`] began.
    #[inline]
    pub fn finish(&mut self) {
        let start = self.open.start_of(self.open.ends.len());
        if self.open.bytes.len() - start > self.record_max {
            self.cut(start);
        }
        self.open.ends.push(self.open.bytes.len() as u32);
    }

    /// Takes the oldest records for writing. They stay charged until [`Outbox::recycle`] or
    /// [`Outbox::put_back`] gets the chunk again.
    pub fn take(&mut self) -> Option<Chunk> {
        self.sealed
            .pop_front()
            .or_else(|| (self.open.records() > 0).then(|| std::mem::take(&mut self.open)))
    }

    /// Whether more is held than the budget grants in any case: time to write less.
    pub fn is_pressed(&self) -> bool {
        self.held > self.budget.floor
    }

    /// Whether there is nothing to take.
    pub fn is_empty(&self) -> bool {
        self.sealed.is_empty() && self.open.records() == 0
    }

    /// Takes a chunk back whose records were all delivered or given up.
    pub fn recycle(&mut self, mut chunk: Chunk) {
        self.budget.shrink(self.held, chunk.charged);
        self.held -= chunk.charged;
        if self.spare.len() < SPARE_MAX && chunk.room == self.chunk_size {
            chunk.bytes.clear();
            chunk.ends.clear();
            chunk.first = 0;
            self.spare.push(chunk);
        }
    }

    /// Takes a chunk back whose pending records are to be sent first, next time.
    pub fn put_back(&mut self, chunk: Chunk) {
        if chunk.records() > 0 {
            self.sealed.push_front(chunk);
        } else {
            self.recycle(chunk);
        }
    }

    /// Drops everything that is held, counted as dropped; returns the number of records.
    pub fn abandon(&mut self) -> u64 {
        let before = self.losses.dropped_records;
        self.seal();
        while self.drop_oldest() {}
        self.losses.dropped_records - before
    }

    /// Whether anything was let go of since [`Outbox::take_losses`].
    #[inline]
    pub fn has_losses(&self) -> bool {
        self.losses.dropped_records | self.losses.cut_records > 0
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
    /// chunks as far as the budget asks for it. What the link has taken cannot be dropped: where
    /// that alone uses the budget up, it is overdrawn by this one chunk.
    #[cold]
    fn open_another(&mut self, len_max: usize) {
        self.seal();
        let room = self.chunk_size.max(len_max);
        let mut granted = self.budget.grow(self.held, room);
        while !granted && self.drop_oldest() {
            granted = self.budget.grow(self.held, room);
        }
        let charged = if granted { room } else { 0 };
        self.held += charged;
        let mut chunk = match self.spare.pop() {
            Some(spare) if spare.room == room => spare,
            _ => Chunk {
                bytes: Vec::with_capacity(room),
                ends: Vec::with_capacity(room / RECORD_LEAST + 1),
                room,
                ..Chunk::default()
            },
        };
        chunk.charged = charged;
        self.open = chunk;
    }

    fn seal(&mut self) {
        let open = std::mem::take(&mut self.open);
        if open.records() > 0 {
            self.sealed.push_back(open);
        } else {
            self.recycle(open);
        }
    }

    fn drop_oldest(&mut self) -> bool {
        let Some(chunk) = self.sealed.pop_front() else { return false };
        self.losses.dropped_records += chunk.records() as u64;
        self.losses.dropped_bytes += chunk.pending().len() as u64;
        self.recycle(chunk);
        true
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
