//! Receivers at the end of routes. They take what comes as fast as it comes, count it, and look
//! at nothing but the numbers of lines, so that they are no bottleneck.

pub mod check;
mod datagram;
pub(crate) mod http;
pub(crate) mod stream;
pub(crate) mod tls;

pub use tls::Identity;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use hdrhistogram::Histogram;

use crate::engine::pump::Pump;
use crate::numbering::{Number, Numbering};
use crate::report::Checked;
use crate::scenario::{Filter, Hits, Receiver as Kind};
use check::Checker;

/// What a receiver does with what it gets.
pub struct Inbox {
    /// Lines that came, bytes that came: for those who wait.
    lines: AtomicU64,
    bytes: AtomicU64,
    /// Whole requests of a webhook.
    messages: AtomicU64,
    /// Records that are not framed as they should be.
    malformed: AtomicU64,
    seen: Mutex<Seen>,
    closing: AtomicBool,
}

/// What needs a lock: taken once for each read.
struct Seen {
    /// `None` where bytes alone are counted.
    checker: Option<Checker>,
    clock: Option<Clock>,
}

/// Measures how long lines took.
struct Clock {
    pump: Arc<Pump>,
    numbering: Numbering,
    /// Lines that were due earlier belong to the warm-up.
    since: Option<Instant>,
    histogram: Histogram<u64>,
}

impl Clock {
    fn take(&mut self, number: Number, now: Instant) {
        let line = self.numbering.line(number.class, number.sequence);
        let due = self.pump.due(number.container, line);
        if let (Some(due), Some(since)) = (due, self.since)
            && due >= since
        {
            let nanos = now.saturating_duration_since(due).as_nanos() as u64;
            self.histogram.saturating_record(nanos);
        }
    }
}

impl Inbox {
    fn new(seen: Seen) -> Arc<Inbox> {
        Arc::new(Inbox {
            lines: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            messages: AtomicU64::new(0),
            malformed: AtomicU64::new(0),
            seen: Mutex::new(seen),
            closing: AtomicBool::new(false),
        })
    }

    /// Counts bytes, for programs whose output is not looked at.
    pub fn of_bytes() -> Arc<Inbox> {
        Inbox::new(Seen { checker: None, clock: None })
    }

    /// Checks the lines that pass `filter`; the times of lines are those of `pump`.
    ///
    /// # Errors
    /// If there is no memory for the histogram.
    pub fn of_lines(
        pump: &Arc<Pump>,
        containers: u16,
        hits: Hits,
        filter: Filter,
    ) -> io::Result<Arc<Inbox>> {
        let clock = Clock {
            pump: Arc::clone(pump),
            numbering: Numbering::new(hits),
            since: None,
            histogram: crate::stats::nanoseconds()?,
        };
        let checker = Some(Checker::new(containers, filter));
        Ok(Inbox::new(Seen { checker, clock: Some(clock) }))
    }

    /// Checks all lines of so many containers, without a look at when they came.
    pub fn of_numbers(containers: u16) -> Arc<Inbox> {
        let checker = Some(Checker::new(containers, Filter::None));
        Inbox::new(Seen { checker, clock: None })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of what one read brought: `scan` calls back with the number of each line.
    fn take<T>(&self, bytes: usize, scan: impl FnOnce(&mut dyn FnMut(Number)) -> T) -> T {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let mut seen = self.seen();
        let Seen { checker, clock } = &mut *seen;
        let Some(checker) = checker else { return scan(&mut |_| {}) };
        let now = Instant::now();
        let result = scan(&mut |number| {
            checker.take(number);
            if let Some(clock) = clock {
                clock.take(number, now);
            }
        });
        self.lines.store(checker.delivered(), Ordering::Relaxed);
        result
    }

    /// From now on it is measured how long lines take that are due from now on.
    pub fn start_clock(&self) {
        if let Some(clock) = &mut self.seen().clock {
            clock.since = Some(Instant::now());
        }
    }

    /// How long lines took, in nanoseconds.
    pub fn latency(&self) -> Option<Histogram<u64>> {
        self.seen().clock.as_ref().map(|clock| clock.histogram.clone())
    }

    /// Different lines that came so far.
    pub fn lines(&self) -> u64 {
        self.lines.load(Ordering::Relaxed)
    }

    /// Bytes that came so far, after decryption.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Requests that came so far, of a webhook.
    pub fn messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    /// Records that were not framed as they should be, and lines that should not have come.
    pub fn malformed(&self) -> u64 {
        let foreign = self.seen().checker.as_ref().map_or(0, Checker::foreign);
        self.malformed.load(Ordering::Relaxed) + foreign
    }

    /// What became of the lines sent; `None` where bytes alone are counted.
    pub fn checked(&self, hits: Hits, sent: &[u64]) -> Option<Checked> {
        self.seen().checker.as_ref().map(|checker| checker.result(hits, sent))
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }
}

/// A receiver that listens until it is dropped.
pub struct Receiver {
    /// Where it listens.
    pub address: SocketAddr,
    /// What came.
    pub inbox: Arc<Inbox>,
    /// What it speaks.
    pub kind: Kind,
}

impl Receiver {
    /// Listens on a free port of loopback.
    ///
    /// # Errors
    /// If no socket can be had.
    pub fn start(kind: Kind, inbox: Arc<Inbox>, identity: &Identity) -> io::Result<Receiver> {
        let address = match kind {
            Kind::Udp => datagram::listen(&inbox)?,
            Kind::Tcp => stream::listen(&inbox, stream::scan)?,
            Kind::OctetCounted => stream::listen(&inbox, stream::scan_counted)?,
            Kind::Tls => {
                let config = identity.server();
                stream::listen(&inbox, move |socket, inbox| tls::scan(socket, inbox, &config))?
            }
            Kind::Slack => {
                let config = identity.server();
                stream::listen(&inbox, move |socket, inbox| http::serve(socket, inbox, &config))?
            }
            // A port that was free a moment ago: connecting is refused.
            Kind::Dead => std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?,
        };
        Ok(Receiver { address, inbox, kind })
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.inbox.closing.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for a connection; a connection's own thread ends with it.
        if !matches!(self.kind, Kind::Udp | Kind::Dead) {
            let _ = TcpStream::connect(self.address);
        }
    }
}
