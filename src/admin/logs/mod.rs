//! `/logs`: the lines of containers, as they come, to whoever looks on.
//!
//! [`request`] says what is asked for, [`show`] answers: by [`body`] over plain HTTP, by [`socket`]
//! over a websocket; [`patience`] judges clients that take nothing. Nothing here waits for a
//! client: one that is slow is left out from where its lines come from.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use crate::sink::viewer::{Form, Reader, notice};
use crate::stamp::Stamp;
use crate::transport::viewer::{Exit, Gauge, Parcel};

pub(super) mod body;
pub(super) mod patience;
pub mod request;
pub(super) mod show;
pub(super) mod socket;

use patience::Patience;

/// Clients that look on at the same time; one more is answered 503.
pub const CLIENTS_MAX: usize = 256;

/// How often it is looked whether a client takes anything.
const JUDGE_EVERY: Duration = Duration::from_secs(30);

/// Objects are put together for so many bytes at a time.
const LOT: usize = 64 * 1024;

/// Why nothing is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// What is asked for makes no sense, in one line.
    Bad(String),
    /// No container of this id is being read.
    Unknown,
    /// [`CLIENTS_MAX`] clients look on.
    TooMany,
}

/// What one client is shown. Dropping it ends that.
pub struct Look {
    exit: Exit,
    form: Form,
    /// Records that are to be made objects of.
    compact: Option<Compact>,
    /// How often the client asked for more.
    taken: Arc<AtomicU64>,
    _leave: Box<dyn Any + Send>,
}

/// Records as they came, and how many of them were handed on.
struct Compact {
    records: Lot,
    done: usize,
    reader: Reader,
}

impl Compact {
    /// The next objects; `None` when all were handed on.
    fn next(&mut self) -> Option<Lot> {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        while bytes.len() < LOT && self.done < self.records.ends.len() {
            self.reader.object(self.records.record(self.done), &mut bytes);
            ends.push(bytes.len());
            self.done += 1;
        }
        (!ends.is_empty()).then(|| Lot { bytes: bytes.into(), ends: ends.into() })
    }
}

/// Records that belong together.
pub(super) struct Lot {
    bytes: Bytes,
    /// The offset behind each.
    ends: Box<[usize]>,
}

impl Lot {
    fn record(&self, index: usize) -> Bytes {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.bytes.slice(start..self.ends[index])
    }

    /// The records one by one.
    pub(super) fn records(&self) -> impl Iterator<Item = Bytes> + '_ {
        (0..self.ends.len()).map(|index| self.record(index))
    }
}

/// Tells whether a client takes what it is shown.
pub(super) struct Watch {
    gauge: Gauge,
    taken: Arc<AtomicU64>,
}

impl Look {
    /// What comes out of `exit`, whose records have this form. `leave` is dropped with it.
    pub fn new(exit: Exit, form: Form, leave: Box<dyn Any + Send>) -> Look {
        Look { exit, form, compact: None, taken: Arc::default(), _leave: leave }
    }

    fn watch(&self) -> Watch {
        Watch { gauge: self.exit.gauge(), taken: Arc::clone(&self.taken) }
    }

    /// What comes next; `None` at the end.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Lot>> {
        self.taken.fetch_add(1, Relaxed);
        if let Some(lot) = self.compact.as_mut().and_then(Compact::next) {
            return Poll::Ready(Some(lot));
        }
        self.compact = None;
        Poll::Ready(match ready!(self.exit.poll_next(cx)) {
            Some(Parcel::Records { bytes, ends }) if self.form == Form::Json => {
                let records = Lot { bytes, ends };
                let compact = Compact { records, done: 0, reader: Reader::default() };
                self.compact.insert(compact).next()
            }
            Some(Parcel::Records { bytes, ends }) => Some(Lot { bytes, ends }),
            Some(Parcel::LeftOut(lines)) => {
                let said = notice(self.form, lines, &Stamp::new(SystemTime::now()));
                Some(Lot { ends: [said.len()].into(), bytes: said.into() })
            }
            Some(Parcel::End) | None => None,
        })
    }
}

impl Watch {
    /// Waits until the client takes nothing any more: see [`Patience`].
    pub(super) async fn until_patience_is_over(self) {
        let mut patience = Patience::new(Instant::now());
        loop {
            tokio::time::sleep(JUDGE_EVERY).await;
            let taken = self.taken.load(Relaxed);
            if patience.is_over(taken, self.gauge.is_waiting(), Instant::now()) {
                return;
            }
        }
    }
}
