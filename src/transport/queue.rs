//! Where the shard leaves a route's records and its link takes them: an outbox with a bell.
//!
//! Lives on one shard thread; nothing here is shared with another.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::link::Warner;
use crate::buffer::{Chunk, Losses, Outbox};
use crate::io::stream::Closer;
use crate::metrics::RouteCounters;

/// The longest pause between attempts once no more records will come.
const LAST_CHANCE: Duration = Duration::from_millis(500);

/// One route's records on one shard.
pub struct Queue {
    /// What users call the route, without secrets.
    pub name: String,
    /// Its counters on this shard.
    pub counters: Arc<RouteCounters>,
    outbox: RefCell<Outbox>,
    bell: Notify,
    rung: Cell<bool>,
    /// Records of the chunk that the link has taken and not yet reported on.
    in_hand: Cell<usize>,
    closed: Cell<bool>,
    given_up: Cell<bool>,
    closer: RefCell<Option<Closer>>,
    dropped: RefCell<Warner>,
}

impl Queue {
    /// A queue around `outbox`.
    pub fn new(name: String, outbox: Outbox, counters: Arc<RouteCounters>) -> Queue {
        Queue {
            name,
            counters,
            outbox: RefCell::new(outbox),
            bell: Notify::new(),
            rung: Cell::new(false),
            in_hand: Cell::new(0),
            closed: Cell::new(false),
            given_up: Cell::new(false),
            closer: RefCell::default(),
            dropped: RefCell::default(),
        }
    }

    /// Lets `fill` append records, then wakes the link if it sleeps and there are any. Returns
    /// what `fill` returned.
    #[inline]
    pub fn append<T>(&self, fill: impl FnOnce(&mut Outbox) -> T) -> T {
        let mut outbox = self.outbox.borrow_mut();
        let result = fill(&mut outbox);
        if outbox.has_losses() {
            self.lost(outbox.take_losses());
        }
        if !self.rung.get() && !outbox.is_empty() {
            self.rung.set(true);
            self.bell.notify_one();
        }
        result
    }

    #[cold]
    fn lost(&self, losses: Losses) {
        self.counters.cut_records.add(losses.cut_records);
        let records = losses.dropped_records;
        if records == 0 {
            return;
        }
        self.counters.dropped_buffer_full.add(records);
        self.say_losses(records);
    }

    /// Says what was dropped and not said yet, `records` more among it, if it is time to. To be
    /// called now and then: after a burst nobody else says how much it was in the end.
    pub fn say_losses(&self, records: u64) {
        if let Some(sum) = self.dropped.borrow_mut().due(Instant::now(), records) {
            tracing::warn!(
                route = self.name,
                "buffer full: dropped the oldest {sum} lines; the receiver is too slow or away \
                 (see BUFFER)"
            );
        }
    }

    /// The oldest records, if there are any. One chunk at a time: what becomes of its records is
    /// said by [`Queue::delivered`] and [`Queue::refused`], and then it is put back.
    pub fn take(&self) -> Option<Chunk> {
        self.rung.set(false);
        let chunk = self.outbox.borrow_mut().take();
        self.in_hand.set(chunk.as_ref().map_or(0, Chunk::records));
        chunk
    }

    /// Whether the outbox fills up although the receiver is connected.
    pub fn is_pressed(&self) -> bool {
        self.counters.connected.get() == 1 && self.outbox.borrow().is_pressed()
    }

    /// Gives a chunk back; records that remain in it go first next time.
    pub fn put_back(&self, chunk: Chunk) {
        self.in_hand.set(0);
        self.outbox.borrow_mut().put_back(chunk);
    }

    /// Waits until there may be something to take, or the queue is closed.
    pub async fn wait(&self) {
        if self.outbox.borrow().is_empty() && !self.closed.get() {
            self.bell.notified().await;
        }
    }

    /// Sits out a pause of the link: until `until`, or until the queue is given up. A queue that
    /// is being closed has no time for that: it ends the pause, and any later one is short.
    /// Returns the time to go on with, by which the pause is over.
    pub async fn pause(&self, until: Instant) -> Instant {
        let closed = self.closed.get();
        let end = if closed { until.min(Instant::now() + LAST_CHANCE) } else { until };
        while !self.given_up.get() && self.closed.get() == closed && Instant::now() < end {
            // The bell of new records means nothing here.
            let _ = tokio::time::timeout_at(end.into(), self.bell.notified()).await;
        }
        if self.closed.get() { until } else { Instant::now() }
    }

    /// Waits until the queue is given up.
    pub async fn until_given_up(&self) {
        while !self.given_up.get() {
            self.bell.notified().await;
        }
    }

    /// No more records will come: the link ends when all are delivered.
    pub fn close(&self) {
        self.closed.set(true);
        self.bell.notify_one();
    }

    /// Whether [`Queue::give_up`] was called.
    pub fn is_given_up(&self) -> bool {
        self.given_up.get()
    }

    /// Whether the link has nothing left to do.
    pub fn is_done(&self) -> bool {
        self.given_up.get() || self.closed.get() && self.outbox.borrow().is_empty()
    }

    /// Says how the link's connection can be ended from here; see [`Queue::give_up`].
    pub fn connected(&self, closer: Option<Closer>) {
        self.counters.connected.set(u64::from(closer.is_some()));
        *self.closer.borrow_mut() = closer;
    }

    /// Ends the link, whatever it is waiting for. It puts back what it could not deliver.
    pub fn give_up(&self) {
        self.given_up.set(true);
        if let Some(closer) = self.closer.take() {
            closer.close();
        }
        self.bell.notify_one();
    }

    /// Drops what is left, counted; returns how many records that were. What a link has in its
    /// hands that did not come to its end belongs to them.
    pub fn abandon(&self) -> u64 {
        let mut outbox = self.outbox.borrow_mut();
        let left = outbox.abandon() + self.in_hand.take() as u64;
        outbox.take_losses();
        self.counters.dropped_at_exit.add(left);
        left
    }

    /// Counts `records` of the chunk in hand as refused for good by the receiver's side.
    pub fn refused(&self, records: usize) {
        self.in_hand.set(self.in_hand.get().saturating_sub(records));
        self.counters.dropped_refused.add(records as u64);
    }

    /// Counts `records` of the chunk in hand, of `bytes` on the wire, as delivered.
    pub fn delivered(&self, records: usize, bytes: usize) {
        self.in_hand.set(self.in_hand.get().saturating_sub(records));
        self.counters.delivered_lines.add(records as u64);
        self.counters.delivered_bytes.add(bytes as u64);
    }
}
