//! How far a container's `logs` have been read, so that the next pass goes on there.
//!
//! The daemon's `since` is inclusive and many messages may share one timestamp (the 16 KiB parts
//! of a long line always do), so a timestamp alone says nothing: the messages that had it are
//! counted too. stdout and stderr are stamped by different writers and stand unsorted beside each
//! other in the log, so each has a place of its own.
//!
//! Pure: no I/O, no clock. Timestamps are nanoseconds since 1970 by the daemon's clock.

use crate::docker::Source;

/// A source that has been silent while the other went on would hold `since` back, and each pass
/// would read the other's messages again. It is moved up to this long before the other's last
/// message: far longer than any message takes from its stamp to the file.
const STRAGGLER_NANOS: u64 = 10_000_000_000;

/// The place of one source: the messages before `ts` were taken, and `taken` of those at `ts`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    ts: u64,
    taken: u64,
}

/// The state of the running pass for one source.
#[derive(Clone, Copy, Debug, Default)]
struct Pass {
    /// The place was passed: everything that follows is new, whatever its timestamp.
    beyond: bool,
    /// Messages at the timestamp of the place that this pass has shown so far.
    at_place: u64,
}

/// A time in which messages may be missing, because the log has been rotated past the last that
/// was taken: from that one to the first that there is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// The time of the message that was taken last.
    pub from: u64,
    /// That of the first new one.
    pub to: u64,
}

/// Tells the messages of a `logs` pass that were taken before from the new ones.
#[derive(Clone, Debug, Default)]
pub struct Cursor {
    places: [Place; 2],
    passes: [Pass; 2],
    /// Which source gave the message that was taken last, in the order of the log: where that is in
    /// the log, all that was not taken is.
    last: Option<Source>,
    /// The running pass has not shown a new message.
    looks: bool,
    /// A source was moved back: what was taken last tells nothing in the next pass.
    moved: bool,
    rotated: Option<Rotated>,
}

impl Cursor {
    /// A cursor before every message.
    pub fn new() -> Cursor {
        Cursor::default()
    }

    /// A cursor before the first message at or after `ts`.
    pub fn at(ts: u64) -> Cursor {
        Cursor { places: [Place { ts, taken: 0 }; 2], ..Cursor::default() }
    }

    /// Moves each source that is before `ts` to the first message at or after it.
    pub fn raise(&mut self, ts: u64) {
        for place in self.places.iter_mut().filter(|place| place.ts < ts) {
            *place = Place { ts, taken: 0 };
        }
    }

    /// Moves one source back to before the first message at or after `ts`: it is read once more.
    pub fn go_back(&mut self, source: Source, ts: u64) {
        self.places[source as usize] = Place { ts, taken: 0 };
        self.moved = true;
    }

    /// Whether no message was taken.
    pub fn is_before_all(&self) -> bool {
        self.last.is_none()
    }

    /// No message before this time is missing.
    pub fn begins(&self) -> u64 {
        self.places[0].ts.min(self.places[1].ts)
    }

    /// What the next pass asks for as `since`: the place of the source that is furthest behind
    /// among `sources`; `None` is the start of the log.
    pub fn since(&self, sources: &[Source]) -> Option<u64> {
        let places = sources.iter().map(|&source| self.places[source as usize].ts);
        places.min().filter(|&ts| ts > 0)
    }

    /// A pass from [`Cursor::since`] begins: its messages come in the daemon's order.
    pub fn begin_pass(&mut self) {
        self.passes = [Pass::default(); 2];
        self.looks = !std::mem::take(&mut self.moved);
    }

    /// Whether this pass has begun behind what was taken before: the log has been rotated since.
    /// Told once.
    pub fn take_rotated(&mut self) -> Option<Rotated> {
        self.rotated.take()
    }

    /// The pass shows its first new message: what was taken last was shown before it, unless it
    /// is not in the log any more.
    fn look_for_last(&mut self, to: u64) {
        let Some(last) = self.last else { return };
        let (place, pass) = (self.places[last as usize], self.passes[last as usize]);
        if pass.at_place < place.taken {
            self.rotated = Some(Rotated { from: place.ts, to });
        }
    }

    /// Whether this message of the pass is new; it then counts as taken.
    ///
    /// Once a source has given a new message, all that follow in this pass are new: a wall clock
    /// that was set back must not cost lines. (A later pass may show lines from before such a
    /// step a second time.)
    pub fn accept(&mut self, source: Source, ts: u64) -> bool {
        let place = &mut self.places[source as usize];
        let pass = &mut self.passes[source as usize];
        if !pass.beyond {
            pass.at_place += u64::from(ts == place.ts);
            if ts < place.ts || (ts == place.ts && pass.at_place <= place.taken) {
                return false;
            }
            pass.beyond = true;
            if std::mem::take(&mut self.looks) {
                self.look_for_last(ts);
            }
        }
        self.last = Some(source);
        let place = &mut self.places[source as usize];
        if ts != place.ts {
            *place = Place { ts, taken: 0 };
        }
        place.taken += 1;
        true
    }

    /// The pass was read to its end: a source that gave nothing is moved up behind the other.
    /// A pass that broke off must not call this.
    pub fn end_pass(&mut self) {
        let [a, b] = self.places.map(|place| place.ts);
        let floor = a.max(b).saturating_sub(STRAGGLER_NANOS);
        self.raise(floor);
    }

    /// Back to before every message: the log was replaced, or is wanted again.
    pub fn reset(&mut self) {
        *self = Cursor::new();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OUT: Source = Source::Stdout;
    const ERR: Source = Source::Stderr;

    fn pass(cursor: &mut Cursor, log: &[(Source, u64)]) -> Vec<usize> {
        let since = cursor.since(&Source::OUTPUTS).unwrap_or(0);
        cursor.begin_pass();
        let shown = log.iter().enumerate().filter(|(_, (_, ts))| *ts >= since);
        let taken = shown.filter(|(_, (source, ts))| cursor.accept(*source, *ts));
        let taken = taken.map(|(index, _)| index).collect();
        cursor.end_pass();
        taken
    }

    #[test]
    fn parts_that_share_a_timestamp_are_told_apart() {
        let mut cursor = Cursor::new();
        let mut log = vec![(OUT, 5), (OUT, 7), (OUT, 7)];
        assert_eq!(pass(&mut cursor, &log), [0, 1, 2]);
        assert_eq!(cursor.since(&[OUT]), Some(7));
        log.extend([(OUT, 7), (OUT, 8)]);
        assert_eq!(pass(&mut cursor, &log), [3, 4]);
        assert_eq!(pass(&mut cursor, &log), [] as [usize; 0]);
    }

    #[test]
    fn a_clock_set_back_inside_a_pass_costs_nothing() {
        let mut cursor = Cursor::at(10);
        assert_eq!(pass(&mut cursor, &[(OUT, 11), (OUT, 3), (OUT, 4)]), [0]);
        cursor.begin_pass(); // a reader that does not filter
        assert!(!cursor.accept(OUT, 10));
        assert!(!cursor.accept(OUT, 11));
        assert!(cursor.accept(OUT, 12));
        assert!(cursor.accept(OUT, 3));
        assert!(cursor.accept(OUT, 4));
        assert_eq!(cursor.since(&[OUT]), Some(4));
    }

    /// What was taken last is in the log, or it was rotated.
    #[test]
    fn a_log_that_was_rotated_is_noticed() {
        let log = [(OUT, 5), (ERR, 6), (OUT, 7), (OUT, 7), (OUT, 8), (ERR, 9)];
        let from = |first: usize, taken: usize| {
            let mut cursor = Cursor::new();
            assert!(cursor.is_before_all());
            pass(&mut cursor, &log[..taken]);
            assert_eq!((cursor.take_rotated(), cursor.is_before_all()), (None, false));
            pass(&mut cursor, &log[first..]);
            let said = cursor.take_rotated();
            assert_eq!(cursor.take_rotated(), None, "told once");
            said.map(|Rotated { from, to }| (from, to))
        };
        assert_eq!(from(0, 2), None);
        assert_eq!(from(1, 2), None, "what was taken last is the oldest");
        assert_eq!(from(2, 2), Some((6, 7)));
        assert_eq!(from(4, 2), Some((6, 8)));
        assert_eq!(from(3, 4), Some((7, 8)), "one of two at that time is gone");
        assert_eq!(from(5, 6), None, "nothing new");
        // Where the other source came in between, that counts which came last.
        assert_eq!(from(1, 1), Some((5, 6)));
        assert_eq!(from(5, 5), Some((8, 9)));
    }

    #[test]
    fn one_source_is_read_once_more() {
        let mut cursor = Cursor::new();
        let log = [(OUT, 5), (ERR, 6), (OUT, 7), (ERR, 7)];
        assert_eq!(pass(&mut cursor, &log), [0, 1, 2, 3]);
        cursor.go_back(OUT, 6);
        assert_eq!(cursor.since(&Source::OUTPUTS), Some(6));
        assert_eq!(pass(&mut cursor, &log), [2]);
        assert_eq!(cursor.take_rotated(), None);
    }

    #[test]
    fn a_silent_source_does_not_hold_the_pass_back() {
        let mut cursor = Cursor::new();
        let late = 100 * STRAGGLER_NANOS;
        assert_eq!(pass(&mut cursor, &[(OUT, 1), (OUT, late)]), [0, 1]);
        assert_eq!(cursor.since(&Source::OUTPUTS), Some(late - STRAGGLER_NANOS));
        assert!(cursor.accept(ERR, late - STRAGGLER_NANOS));
        cursor.reset();
        assert_eq!(cursor.since(&Source::OUTPUTS), None);
    }

    proptest! {
        /// A log that grows between passes is taken whole, each message once.
        #[test]
        fn every_message_once(
            steps in prop::collection::vec((any::<bool>(), 0u64..2, 0u64..2), 0..60),
            ends in prop::collection::vec(0usize..60, 0..6),
        ) {
            let mut clocks = [1u64; 2];
            let log: Vec<(Source, u64)> = steps.iter().map(|(err, step, jump)| {
                let source = if *err { ERR } else { OUT };
                clocks[source as usize] += step + jump * 3;
                (source, clocks[source as usize])
            }).collect();
            let mut ends = ends;
            ends.sort_unstable();
            ends.push(log.len());
            let mut cursor = Cursor::new();
            let mut taken = Vec::new();
            for end in ends {
                taken.extend(pass(&mut cursor, &log[..end.min(log.len())]));
            }
            prop_assert_eq!(taken, (0..log.len()).collect::<Vec<_>>());
        }
    }
}
