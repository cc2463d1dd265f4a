//! Counters. Each is written by one thread alone and read by the HTTP side.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A counter with one writer: adding is a load and a store, without a locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the thread that owns the counter may call this.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed) + n, Relaxed);
    }

    /// Sets a gauge. Only the thread that owns it may call this.
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What one route did on one shard. Every line that a route's selector takes is `received`, and
/// then `filtered`, `delivered`, dropped for one of the reasons, or still held.
#[derive(Debug, Default)]
pub struct RouteCounters {
    /// Lines whose container and source the route takes.
    pub received_lines: Counter,
    /// Their bytes, newlines included.
    pub received_bytes: Counter,
    /// Lines that `filter.match` or `filter.exclude` kept out.
    pub filtered_lines: Counter,
    /// Records that the receiver's side of the connection has taken.
    pub delivered_lines: Counter,
    /// Their bytes on the wire, before encryption.
    pub delivered_bytes: Counter,
    /// Records dropped, oldest first, because the route's buffer was full.
    pub dropped_buffer_full: Counter,
    /// Records that the receiver's side refused for good (a datagram that cannot be sent).
    pub dropped_refused: Counter,
    /// Records that were still held when logchute stopped.
    pub dropped_at_exit: Counter,
    /// Records cut to fit a datagram.
    pub cut_records: Counter,
    /// Connections made after the first.
    pub reconnects: Counter,
    /// 1 while connected.
    pub connected: Counter,
}

/// What one shard did, whatever the route.
#[derive(Debug, Default)]
pub struct ShardCounters {
    /// Lines taken from containers.
    pub received_lines: Counter,
    /// Their bytes, newlines included.
    pub received_bytes: Counter,
    /// Lines longer than `MAX_LINE`, cut into parts.
    pub cut_lines: Counter,
    /// Streams closed because a frame header was corrupt.
    pub corrupt_streams: Counter,
    /// Streams opened again while their container ran.
    pub reattached: Counter,
    /// Times that two doors' bytes could not be joined for certain.
    pub unsure_seams: Counter,
    /// Containers followed now.
    pub containers: Counter,
}
