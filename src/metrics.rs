//! Counters. Each is written by one thread alone and read by the HTTP side.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

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

/// Why a receiver is not reached, while that is so. Written when something fails or works again,
/// which a backoff keeps rare.
#[derive(Debug, Default)]
pub struct Trouble(Mutex<Option<(Instant, String)>>);

impl Trouble {
    fn inner(&self) -> MutexGuard<'_, Option<(Instant, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of the latest reason, in one line without secrets; `None`: all is well.
    pub fn set(&self, reason: Option<&str>) {
        let mut inner = self.inner();
        *inner = reason.map(|reason| {
            let since = inner.as_ref().map_or_else(Instant::now, |(since, _)| *since);
            (since, reason.to_owned())
        });
    }

    /// Since when the receiver has not been reached, and the latest reason.
    pub fn get(&self) -> Option<(Instant, String)> {
        self.inner().clone()
    }
}

/// What one route did on one shard. Every line that a route's selector takes is `received`, and
/// then `filtered`, `joined`, `delivered`, dropped for one of the reasons, or still held: see
/// [`RouteTotals::missing`].
#[derive(Debug, Default)]
pub struct RouteCounters {
    /// Lines whose container and source the route takes.
    pub received_lines: Counter,
    /// Their bytes, newlines included.
    pub received_bytes: Counter,
    /// Lines that `filter.match` or `filter.exclude` kept out, or of which a template made nothing.
    pub filtered_lines: Counter,
    /// Lines that became part of the record of a line before them.
    pub joined_lines: Counter,
    /// Times that a group of lines reached a limit and went on as another.
    pub cut_groups: Counter,
    /// Records that the receiver has acknowledged, or its side of the connection has taken.
    pub delivered_lines: Counter,
    /// Their bytes on the wire, before encryption.
    pub delivered_bytes: Counter,
    /// Records sent again, because the connection ended before they were acknowledged: the receiver
    /// may have them twice.
    pub resent_lines: Counter,
    /// Records dropped, oldest first, because the route's buffer was full.
    pub dropped_buffer_full: Counter,
    /// Records that the receiver's side refused for good (a datagram that cannot be sent).
    pub dropped_refused: Counter,
    /// Records that were still held when logchute stopped.
    pub dropped_at_exit: Counter,
    /// Lines for which a template failed, and that gave no record.
    pub dropped_template: Counter,
    /// Records that were damaged in the spool.
    pub dropped_spool: Counter,
    /// Records that were in the spool at start.
    pub spool_found: Counter,
    /// Records written to the spool.
    pub spool_written: Counter,
    /// Records read from it.
    pub spool_read: Counter,
    /// Times that the spool's disk failed.
    pub spool_errors: Counter,
    /// Records in the spool that are not delivered.
    pub spool_records: Counter,
    /// Bytes of the spool's files.
    pub spool_bytes: Counter,
    /// Records for one who looked on, and left before they could be handed over: no loss.
    pub dropped_unwanted: Counter,
    /// Records that wait, or are sent and not acknowledged (a gauge).
    pub held_lines: Counter,
    /// Their bytes.
    pub held_bytes: Counter,
    /// Lines that wait for others to be joined with (a gauge).
    pub joining_lines: Counter,
    /// Their bytes.
    pub joining_bytes: Counter,
    /// Of the lines delivered, those that a message does not show but counts.
    pub summed_up_lines: Counter,
    /// Records cut to fit a datagram or message.
    pub cut_records: Counter,
    /// All lines for which a template failed: something else stands for what it would give, or
    /// they gave no record.
    pub template_errors: Counter,
    /// Connections made after the first.
    pub reconnects: Counter,
    /// 1 while connected.
    pub connected: Counter,
    /// Why it is not.
    pub trouble: Trouble,
}

/// What metrics call a route, and where it leads; nothing of it is secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteLabels {
    /// Its id.
    pub id: String,
    /// Its adapter.
    pub adapter: String,
    /// Its transport; empty where it names none.
    pub transport: String,
    /// Its address.
    pub address: String,
}

/// What the [`RouteCounters`] of one route held, all shards together, by the same names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteTotals {
    pub(crate) received_lines: u64,
    pub(crate) received_bytes: u64,
    pub(crate) filtered_lines: u64,
    pub(crate) joined_lines: u64,
    pub(crate) cut_groups: u64,
    pub(crate) delivered_lines: u64,
    pub(crate) delivered_bytes: u64,
    pub(crate) resent_lines: u64,
    pub(crate) dropped_buffer_full: u64,
    pub(crate) dropped_refused: u64,
    pub(crate) dropped_at_exit: u64,
    pub(crate) dropped_template: u64,
    pub(crate) dropped_spool: u64,
    pub(crate) spool_found: u64,
    pub(crate) spool_written: u64,
    pub(crate) spool_read: u64,
    pub(crate) spool_errors: u64,
    pub(crate) spool_records: u64,
    pub(crate) spool_bytes: u64,
    pub(crate) dropped_unwanted: u64,
    pub(crate) held_lines: u64,
    pub(crate) held_bytes: u64,
    pub(crate) summed_up_lines: u64,
    pub(crate) cut_records: u64,
    pub(crate) template_errors: u64,
    pub(crate) reconnects: u64,
    pub(crate) connected: u64,
}

impl RouteTotals {
    /// Adds what the route did on one shard.
    pub fn add(&mut self, counters: &RouteCounters) {
        self.received_lines += counters.received_lines.get();
        self.received_bytes += counters.received_bytes.get();
        self.filtered_lines += counters.filtered_lines.get();
        self.joined_lines += counters.joined_lines.get();
        self.cut_groups += counters.cut_groups.get();
        self.delivered_lines += counters.delivered_lines.get();
        self.delivered_bytes += counters.delivered_bytes.get();
        self.resent_lines += counters.resent_lines.get();
        self.dropped_buffer_full += counters.dropped_buffer_full.get();
        self.dropped_refused += counters.dropped_refused.get();
        self.dropped_at_exit += counters.dropped_at_exit.get();
        self.dropped_template += counters.dropped_template.get();
        self.dropped_spool += counters.dropped_spool.get();
        self.spool_found += counters.spool_found.get();
        self.spool_written += counters.spool_written.get();
        self.spool_read += counters.spool_read.get();
        self.spool_errors += counters.spool_errors.get();
        self.spool_records += counters.spool_records.get();
        self.spool_bytes += counters.spool_bytes.get();
        self.dropped_unwanted += counters.dropped_unwanted.get();
        self.held_lines += counters.held_lines.get() + counters.joining_lines.get();
        self.held_bytes += counters.held_bytes.get() + counters.joining_bytes.get();
        self.summed_up_lines += counters.summed_up_lines.get();
        self.cut_records += counters.cut_records.get();
        self.template_errors += counters.template_errors.get();
        self.reconnects += counters.reconnects.get();
        self.connected += counters.connected.get();
    }

    /// The reasons for which records are lost, as metrics call them, and how many were.
    pub fn drops(&self) -> [(&'static str, u64); 5] {
        [
            ("buffer_full", self.dropped_buffer_full),
            ("refused", self.dropped_refused),
            ("at_exit", self.dropped_at_exit),
            ("template", self.dropped_template),
            ("spool", self.dropped_spool),
        ]
    }

    /// Records dropped, for any reason.
    pub fn dropped(&self) -> u64 {
        self.drops().iter().map(|(_, count)| count).sum::<u64>() + self.dropped_unwanted
    }

    /// Lines that wait, in memory or in the spool.
    pub fn held(&self) -> u64 {
        self.held_lines + self.spool_records
    }

    /// Lines of which nobody knows what became of them: 0 whenever nothing is under way. Each
    /// counter is read by itself, so while lines flow it may be anything.
    ///
    /// received = filtered + joined + delivered + dropped + held + missing
    pub fn missing(&self) -> i64 {
        let settled = self.filtered_lines + self.joined_lines + self.delivered_lines;
        let known = settled + self.dropped() + self.held();
        (self.received_lines + self.spool_found).wrapping_sub(known) as i64
    }
}

/// What became of the route's lines, in words.
impl fmt::Display for RouteTotals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RouteTotals { received_lines, filtered_lines, joined_lines, .. } = self;
        write!(f, "{received_lines} lines received")?;
        if self.spool_found > 0 {
            write!(f, " + {} found in the spool", self.spool_found)?;
        }
        write!(f, " = {filtered_lines} filtered + ")?;
        write!(f, "{joined_lines} joined to others + {} delivered + ", self.delivered_lines)?;
        write!(f, "{} dropped", self.dropped())?;
        let mut before = " (";
        for (reason, count) in self.drops().iter().filter(|(_, count)| *count > 0) {
            write!(f, "{before}{} {count}", reason.replace('_', " "))?;
            before = ", ";
        }
        let close = if before == ", " { ")" } else { "" };
        write!(f, "{close} + {} held", self.held())?;
        if self.spool_records > 0 {
            write!(f, " ({} kept in the spool)", self.spool_records)?;
        }
        match self.missing() {
            0 => Ok(()),
            missing => write!(f, " + {missing} that nobody accounts for: please report this"),
        }
    }
}

/// What one shard did, whatever the route.
#[derive(Debug, Default)]
pub struct ShardCounters {
    /// Lines taken from containers.
    pub received_lines: Counter,
    /// Their bytes, newlines included.
    pub received_bytes: Counter,
    /// Of these lines, those that no route takes.
    pub unrouted_lines: Counter,
    /// Lines longer than `MAX_LINE`, cut into parts.
    pub cut_lines: Counter,
    /// Streams closed because a frame header was corrupt.
    pub corrupt_streams: Counter,
    /// Streams opened again while their container ran.
    pub reattached: Counter,
    /// Containers whose output waits in their logs until a route has room (a gauge).
    pub behind: Counter,
    /// Times that lines were lost, or may have been, that no route has received: the log that was
    /// to be read on had gone on without us, or was gone.
    pub gaps: Counter,
    /// Streams, and other answers, that hung: the daemon had something that they did not bring.
    pub hung: Counter,
    /// Times that two doors' bytes could not be joined for certain.
    pub unsure_seams: Counter,
    /// Containers followed now.
    pub containers: Counter,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_in_one_term() {
        let counters = RouteCounters::default();
        counters.received_lines.add(25);
        counters.joined_lines.add(9);
        counters.filtered_lines.add(1);
        counters.delivered_lines.add(2);
        counters.dropped_buffer_full.add(3);
        counters.dropped_at_exit.add(1);
        counters.held_lines.set(5);
        counters.joining_lines.set(4);
        let mut totals = RouteTotals::default();
        totals.add(&counters);
        totals.add(&counters);
        assert_eq!((totals.dropped(), totals.held_lines, totals.missing()), (8, 18, 0));
        let said = "50 lines received = 2 filtered + 18 joined to others + 4 delivered + 8 dropped \
                    (buffer full 6, at exit 2) + 18 held";
        assert_eq!(totals.to_string(), said);
        counters.delivered_lines.add(2);
        totals.add(&counters);
        assert_eq!(totals.missing(), -2);
        assert!(totals.to_string().ends_with("+ -2 that nobody accounts for: please report this"));
        assert!(RouteTotals::default().to_string().ends_with("+ 0 dropped + 0 held"));
    }
}
