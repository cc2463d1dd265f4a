//! When a busy stream is read next: after a pause in which bytes gather, so that one wake-up finds
//! many lines. A daemon writes small pieces, and what a wake-up costs on both sides is far more
//! than what the few lines in it cost.
//!
//! Pure: how much each read brought and when goes in, how long to pause comes out. A stream that
//! brings less than two pieces in a pause is not busy, and is read as soon as it has anything.

use std::time::{Duration, Instant};

/// The socket of a stream never fills up in a pause: a pause is no longer than it takes to bring
/// this much, or two pieces. A Unix socket holds some 200 KiB, but of pieces of one line each only
/// some 36 KiB, because each costs the kernel several hundred bytes beside its own.
const GATHER_LEAST: usize = 16 * 1024;
/// The same, however large the pieces are.
const GATHER_MOST: usize = 64 * 1024;
/// A shorter pause costs more than it saves.
const PAUSE_LEAST: Duration = Duration::from_micros(100);
/// Pauses in a row that may bring less than two pieces.
const THIN_MOST: u32 = 2;
/// In a pause that brings fewer pieces, half as long is long enough.
const PIECES_MANY: usize = 8;
/// Every so many pauses a read goes without, which shows anew how large a piece is.
const PROBE_EVERY: u32 = 256;

/// How one stream is read.
#[derive(Debug)]
pub struct Pace {
    limit: Duration,
    last: Option<Instant>,
    /// Time between reads that nothing held up, smoothed.
    gap: Duration,
    /// What such a read brings, in bytes, smoothed.
    piece: usize,
    /// The last answer was a pause.
    paused: bool,
    thin: u32,
    pauses: u32,
}

impl Pace {
    /// A stream that is not busy. No pause is longer than `limit`; zero means none at all.
    pub fn new(limit: Duration) -> Pace {
        Pace { limit, last: None, gap: limit, piece: 0, paused: false, thin: 0, pauses: 0 }
    }

    /// A read brought `bytes` at `now`; `None` says to read on as soon as there is more, else how
    /// long to pause before.
    pub fn next(&mut self, bytes: usize, now: Instant) -> Option<Duration> {
        if self.limit < PAUSE_LEAST {
            return None;
        }
        let last = self.last.replace(now).unwrap_or(now);
        let elapsed = now.saturating_duration_since(last);
        let few = if std::mem::take(&mut self.paused) {
            self.gathered(bytes)
        } else {
            self.gap = (self.gap * 3 + elapsed.min(self.limit)) / 4;
            self.piece = if self.piece == 0 { bytes } else { (self.piece * 3 + bytes) / 4 };
            true
        };
        if self.gap > self.limit / 2 || self.is_probe() {
            return None;
        }
        let wanted = if few { self.limit / 2 } else { self.limit };
        let pause = wanted.min(self.until_gathered(bytes, elapsed));
        self.paused = pause >= PAUSE_LEAST;
        self.pauses += u32::from(self.paused);
        self.paused.then_some(pause)
    }

    /// A pause brought so much. Returns whether that was few pieces.
    fn gathered(&mut self, bytes: usize) -> bool {
        self.thin = if bytes < 2 * self.piece { self.thin + 1 } else { 0 };
        if self.thin > THIN_MOST {
            // Not busy any more.
            (self.thin, self.gap, self.piece) = (0, self.limit, 0);
        }
        bytes < PIECES_MANY * self.piece
    }

    fn is_probe(&mut self) -> bool {
        let due = self.pauses >= PROBE_EVERY;
        if due {
            self.pauses = 0;
        }
        due
    }

    /// How long it takes to bring what may gather, if it goes on as fast as in the last read.
    fn until_gathered(&self, bytes: usize, elapsed: Duration) -> Duration {
        let gather = (2 * self.piece).clamp(GATHER_LEAST, GATHER_MOST);
        let nanos = elapsed.as_nanos() * gather as u128 / bytes.max(1) as u128;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: Duration = Duration::from_micros(500);

    /// What a wake-up and its read take.
    const TURN: Duration = Duration::from_micros(5);

    /// A source that writes `piece` bytes each `every`, read for one second: reads, bytes, most
    /// bytes found at once, longest time that a byte waited.
    fn read_for_a_second(piece: usize, every: Duration) -> (usize, usize, usize, Duration) {
        let start = Instant::now();
        let mut pace = Pace::new(LIMIT);
        let (mut now, mut taken, mut reads) = (Duration::ZERO, 0, 0);
        let (mut most, mut longest) = (0, Duration::ZERO);
        let mut pause = None;
        while now < Duration::from_secs(1) {
            let written = |now: Duration| (now.as_nanos() / every.as_nanos()) as usize;
            let due = every * u32::try_from(taken + 1).unwrap();
            now = match pause {
                Some(pause) => now + pause,
                None => now.max(due),
            } + TURN;
            let found = written(now) - taken;
            if found > 0 {
                longest = longest.max(now - due);
            } else {
                // A pause in vain: reading goes on when there is something.
                now = due + TURN;
            }
            let found = written(now) - taken;
            (taken, reads, most) = (taken + found, reads + 1, most.max(found * piece));
            pause = pace.next(found * piece, start + now);
        }
        (reads, taken * piece, most, longest)
    }

    #[test]
    fn a_quiet_stream_is_read_at_once() {
        for every in [Duration::from_micros(300), Duration::from_millis(1), LIMIT * 1000] {
            let (_, _, _, longest) = read_for_a_second(132, every);
            assert_eq!(longest, TURN, "{every:?}");
        }
    }

    #[test]
    fn ten_thousand_lines_a_second_wait_half_the_limit() {
        let (reads, _, _, longest) = read_for_a_second(132, Duration::from_micros(100));
        assert!((1000..=4500).contains(&reads), "{reads}");
        assert!(longest <= LIMIT / 2 + TURN * 2, "{longest:?}");
    }

    #[test]
    fn the_lines_of_a_busy_stream_gather() {
        let (reads, _, most, longest) = read_for_a_second(132, Duration::from_micros(6));
        assert!((1900..=2500).contains(&reads), "{reads}");
        assert!(most < 16 * 1024, "{most}");
        assert!(longest <= LIMIT + TURN * 2, "{longest:?}");
    }

    #[test]
    fn a_stream_that_fills_its_socket_is_not_held_up() {
        // 130 MB/s in lines of their own: the socket would be full after a quarter of a ms.
        let (_, _, most, _) = read_for_a_second(132, Duration::from_micros(1));
        assert!(most <= GATHER_LEAST + GATHER_LEAST / 8, "{most}");
        let mut pace = Pace::new(LIMIT);
        let start = Instant::now();
        for n in 0..1000 {
            let now = start + Duration::from_micros(40) * n;
            assert_eq!(pace.next(256 * 1024, now), None);
        }
    }

    #[test]
    fn zero_switches_it_off() {
        let (mut pace, start) = (Pace::new(Duration::ZERO), Instant::now());
        for n in 0..1000 {
            assert_eq!(pace.next(132, start + Duration::from_micros(n)), None);
        }
    }

    proptest! {
        /// Whatever comes and when, no pause is longer than the limit, and none is offered to a
        /// stream whose last three reads by itself were further apart than that.
        #[test]
        fn pauses_are_bounded(
            limit in 0u64..10_000,
            reads in prop::collection::vec((0usize..300_000, 0u64..2_000_000), 1..400),
        ) {
            let limit = Duration::from_micros(limit);
            let (mut pace, mut now) = (Pace::new(limit), Instant::now());
            let (mut slow, mut paused) = (0, false);
            for (bytes, nanos) in reads {
                now += Duration::from_nanos(nanos);
                let is_slow = !paused && Duration::from_nanos(nanos) >= limit;
                slow = if is_slow { slow + 1 } else { 0 };
                let pause = pace.next(bytes, now);
                paused = pause.is_some();
                prop_assert!(pause.is_none_or(|pause| pause >= PAUSE_LEAST && pause <= limit));
                prop_assert!(!paused || slow < 3);
            }
        }

        /// Any steady source: a byte waits no longer than the limit, what gathers fits a socket,
        /// and there are never more reads than without pauses.
        #[test]
        fn steady_sources_gather_in_time(piece in 20usize..40_000, every in 1_000u64..2_000_000) {
            let every = Duration::from_nanos(every);
            let (reads, bytes, most, longest) = read_for_a_second(piece, every);
            prop_assert!(longest <= LIMIT + TURN * 2, "{longest:?}");
            prop_assert!(reads <= bytes / piece + 1);
            let rate = piece as f64 / every.as_secs_f64();
            let unavoidable = rate * (TURN * 2 + PAUSE_LEAST).as_secs_f64();
            prop_assert!(
                (most as f64) < (GATHER_MOST + 2 * piece) as f64 + unavoidable,
                "{most} at once"
            );
        }
    }
}
