//! Where the shard leaves a route's records and its link takes them: an outbox with a bell.
//!
//! Lives on one shard thread; nothing here is shared with another.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Notify;

use super::link::Warner;
use crate::buffer::{Chunk, Outbox};
use crate::io::stream::Closer;
use crate::metrics::RouteCounters;

/// One route's records on one shard.
pub struct Queue {
    /// What users call the route, without secrets.
    pub name: String,
    /// Its counters on this shard.
    pub counters: Arc<RouteCounters>,
    outbox: RefCell<Outbox>,
    bell: Notify,
    rung: Cell<bool>,
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
            closed: Cell::new(false),
            given_up: Cell::new(false),
            closer: RefCell::default(),
            dropped: RefCell::default(),
        }
    }

    /// Lets `fill` append records, then wakes the link if it sleeps.
    #[inline]
    pub fn append(&self, fill: impl FnOnce(&mut Outbox)) {
        let mut outbox = self.outbox.borrow_mut();
        fill(&mut outbox);
        let losses = outbox.take_losses();
        drop(outbox);
        if losses.cut_records > 0 {
            self.counters.cut_records.add(losses.cut_records);
        }
        if losses.dropped_records > 0 {
            self.lost(losses.dropped_records);
        }
        if !self.rung.replace(true) {
            self.bell.notify_one();
        }
    }

    #[cold]
    fn lost(&self, records: u64) {
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

    /// The oldest records, if there are any.
    pub fn take(&self) -> Option<Chunk> {
        self.rung.set(false);
        self.outbox.borrow_mut().take()
    }

    /// Whether the outbox fills up although the receiver is connected.
    pub fn is_pressed(&self) -> bool {
        self.counters.connected.get() == 1 && self.outbox.borrow().is_pressed()
    }

    /// Gives a chunk back whose records were delivered or given up.
    pub fn recycle(&self, chunk: Chunk) {
        self.outbox.borrow_mut().recycle(chunk);
    }

    /// Gives a chunk back whose remaining records go first next time.
    pub fn put_back(&self, chunk: Chunk) {
        self.outbox.borrow_mut().put_back(chunk);
    }

    /// Waits until there may be something to take, or the queue is closed.
    pub async fn wait(&self) {
        if self.outbox.borrow().is_empty() && !self.closed.get() {
            self.bell.notified().await;
        }
    }

    /// Waits until `until`, or until there is nothing left to do.
    pub async fn rest(&self, until: Instant) {
        while !self.is_done() && Instant::now() < until {
            // The bell of new records means nothing here.
            let _ = tokio::time::timeout_at(until.into(), self.bell.notified()).await;
        }
    }

    /// No more records will come: the link ends when all are delivered.
    pub fn close(&self) {
        self.closed.set(true);
        self.bell.notify_one();
    }

    /// Whether [`Queue::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.closed.get()
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

    /// Drops what is left, counted; returns how many records that were.
    pub fn abandon(&self) -> u64 {
        let mut outbox = self.outbox.borrow_mut();
        let left = outbox.abandon();
        outbox.take_losses();
        self.counters.dropped_at_exit.add(left);
        left
    }

    /// Drops the records of a chunk that the receiver's side refuses for good, counted.
    pub fn refused(&self, records: usize) {
        self.counters.dropped_refused.add(records as u64);
    }

    /// Counts `records` of `bytes` as delivered.
    pub fn delivered(&self, records: usize, bytes: usize) {
        self.counters.delivered_lines.add(records as u64);
        self.counters.delivered_bytes.add(bytes as u64);
    }
}
