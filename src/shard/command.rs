//! What control tells a shard.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::lane::Route;
use crate::docker::events::Happening;
use crate::docker::inspect::Container;
use crate::docker::request::Api;

/// An order for a shard.
#[derive(Clone, Debug)]
pub enum Command {
    /// The daemon is there (said first, and after each reconnect).
    Daemon(Greeting),
    /// Follow a container from now on, until it is destroyed.
    Follow {
        /// What the event or list said of it: id, name, labels.
        container: Container,
        /// How it came to be known.
        origin: Origin,
    },
    /// Something happened to a container that the shard follows.
    Signal {
        /// Its full id.
        id: String,
        /// What happened.
        signal: Signal,
    },
    /// Something happened, to be told to the routes that want events: to one shard, so that their
    /// order is kept.
    Event(Arc<Happening>),
    /// Carry lines for this route too, from now on.
    Open(Arc<Route>),
    /// Carry none for this one any more.
    Close(Closing),
    /// Carry lines for this route instead of the other: each line goes to one of the two.
    Replace(Closing, Arc<Route>),
    /// Stop reading, deliver what is held for at most this long, end.
    Stop(Duration),
}

/// The end of a route.
#[derive(Clone, Debug)]
pub struct Closing {
    /// The very route that was opened, not one like it.
    pub route: Arc<Route>,
    /// What becomes of the records that it holds.
    pub rest: Rest,
    /// Let go of when that has happened.
    pub done: mpsc::Sender<Infallible>,
}

/// What becomes of the records that a route holds when it is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// They are delivered, for at most this long; what is left then is lost, and counted.
    Deliver(Duration),
    /// Nobody wants them any more: they are no loss.
    Discard,
}

/// What the daemon said of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Greeting {
    /// How its API is spoken.
    pub api: Arc<Api>,
    /// How its clock goes.
    pub clock: Clock,
}

/// The daemon's clock beside ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// What it is ahead of ours, in nanoseconds.
    pub ahead: i64,
    /// How far that may be off.
    pub slack: Duration,
}

impl Clock {
    /// The daemon runs on this machine, so its clock is ours.
    pub const OURS: Clock = Clock { ahead: 0, slack: Duration::from_millis(5) };

    /// From the `Date` of an answer, in seconds since 1970, that came at `now` (nanoseconds since
    /// 1970). It tells whole seconds; so a clock that seems right is taken for right.
    pub fn from_date(date: u64, now: u64) -> Clock {
        const SECOND: i64 = 1_000_000_000;
        let date = i64::try_from(date).unwrap_or(0).saturating_mul(SECOND);
        let ahead = date.saturating_sub(i64::try_from(now).unwrap_or(i64::MAX));
        let ahead = if (-2 * SECOND..=SECOND).contains(&ahead) { 0 } else { ahead + SECOND / 2 };
        Clock { ahead, slack: Duration::from_secs(2) }
    }

    /// What the daemon's clock shows when ours shows `now`, in nanoseconds since 1970.
    pub fn at(&self, now: u64) -> u64 {
        now.saturating_add_signed(self.ahead)
    }
}

/// How a container came to be known, which says where its output is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was there when logchute started: from now on, or with its backlog if that is asked for.
    Found,
    /// It was created and has not started: all of its output.
    Created,
    /// It started, and was not known before: all of its output.
    Started,
}

/// What happened to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// It started (again).
    Started,
    /// It ended, at this time by the daemon's clock (nanoseconds since 1970): all that it wrote is
    /// stamped earlier, and all that its next run writes later.
    Died(u64),
    /// It goes on after a pause.
    Unpaused,
    /// It has another name.
    Renamed(String),
    /// It is gone.
    Destroyed,
    /// It was listed.
    Check {
        /// Its name.
        name: String,
        /// A start may have been missed: to be looked at, if it is not being read.
        look: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_seems_right_is_taken_for_right() {
        const SECOND: u64 = 1_000_000_000;
        let now = 1_700_000_000 * SECOND + 999_000_000;
        assert_eq!(Clock::from_date(1_700_000_000, now).at(now), now);
        assert_eq!(Clock::from_date(1_700_000_001, now).at(now), now);
        let behind = Clock::from_date(1_699_999_000, now).at(now);
        assert!(now - behind > 999 * SECOND && now - behind < 1002 * SECOND);
        let ahead = Clock::from_date(1_700_001_000, now).at(now);
        assert!(ahead - now > 998 * SECOND && ahead - now < 1002 * SECOND);
        assert_eq!(Clock::from_date(u64::MAX, now).slack, Duration::from_secs(2));
    }
}
