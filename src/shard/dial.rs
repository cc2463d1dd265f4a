//! By which clock a line's time is, and that the times of one stream do not go back.
//!
//! Pure. When bytes came is kept by the daemon's clock as far as it is known, since its log is
//! stamped by it; what a record shows is by the clock that `TIMESTAMP` names.

use std::cell::Cell;
use std::time::SystemTime;

use super::command::Clock;
use super::intake::nanos;
use crate::config::Timestamp;
use crate::docker::Source;

/// A clock that was set back by more was wrong before: its times are believed. In nanoseconds.
const BACK_MOST: u64 = 24 * 3_600_000_000_000;

/// The two clocks, shared by all containers of a shard.
#[derive(Debug)]
pub struct Dial {
    by: Timestamp,
    clock: Cell<Clock>,
}

impl Dial {
    /// One that shows times as `by` says.
    pub fn new(by: Timestamp, clock: Clock) -> Dial {
        Dial { by, clock: Cell::new(clock) }
    }

    /// The daemon has said again how its clock goes.
    pub fn set(&self, clock: Clock) {
        self.clock.set(clock);
    }

    /// What the daemon's clock shows when ours shows `now`; nanoseconds since 1970.
    pub fn at(&self, now: SystemTime) -> u64 {
        self.clock.get().at(nanos(now))
    }

    /// What a record shows of something that was `at` this time of the daemon's.
    pub fn shown(&self, at: u64) -> u64 {
        match self.by {
            Timestamp::Receive => at.saturating_add_signed(self.clock.get().ahead.wrapping_neg()),
            Timestamp::Daemon => at,
        }
    }
}

/// The times that a container's lines were last shown under, by source.
#[derive(Clone, Copy, Debug, Default)]
pub struct Floor([u64; 2]);

impl Floor {
    /// The time of lines of one source that would show `at`.
    pub fn of(self, source: Source, at: u64) -> u64 {
        not_before(self.0[source as usize], at)
    }

    /// The same, for lines of either source.
    pub fn of_both(self, at: u64) -> u64 {
        let [stdout, stderr] = self.0;
        not_before(stdout.max(stderr), at)
    }

    /// Lines of `source` are shown under `at`, which this has given.
    pub fn raise(&mut self, source: Source, at: u64) {
        self.0[source as usize] = at;
    }

    /// The times of both are past.
    pub fn raise_to(&mut self, other: Floor) {
        self.0 = [0, 1].map(|source| self.0[source].max(other.0[source]));
    }
}

fn not_before(last: u64, at: u64) -> u64 {
    if at < last && last - at <= BACK_MOST { last } else { at }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_record_shows_one_clock_whichever_door_it_came_by() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let clock = Clock { ahead: -7 * SECOND as i64, slack: Duration::from_secs(2) };
        let dials = [Timestamp::Receive, Timestamp::Daemon].map(|by| Dial::new(by, clock));
        // Read now, by attach; stamped now, in the log.
        for (dial, shown) in dials.iter().zip([1000, 993]) {
            assert_eq!((dial.at(now), dial.shown(993 * SECOND)), (993 * SECOND, shown * SECOND));
            dial.set(Clock::OURS);
            assert_eq!(dial.shown(dial.at(now)), 1000 * SECOND);
        }
        assert_eq!(Dial::new(Timestamp::Receive, clock).shown(u64::MAX), u64::MAX);
    }

    #[test]
    fn the_times_of_one_stream_do_not_go_back() {
        let mut floor = Floor::default();
        for (at, shown) in [(50, 50), (40, 50), (60, 60), (59, 60)] {
            let given = floor.of(Source::Stdout, at * SECOND);
            assert_eq!(given, shown * SECOND);
            floor.raise(Source::Stdout, given);
        }
        // The other one has times of its own, unless both come in one read.
        assert_eq!(floor.of(Source::Stderr, 10), 10);
        assert_eq!(floor.of_both(10), 60 * SECOND);
        // A clock that was years ahead does not hold the lines there.
        floor.raise(Source::Stdout, 2 * BACK_MOST);
        assert_eq!(floor.of(Source::Stdout, BACK_MOST), 2 * BACK_MOST);
        assert_eq!(floor.of(Source::Stdout, BACK_MOST - 1), BACK_MOST - 1);
    }
}
