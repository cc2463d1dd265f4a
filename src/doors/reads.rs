//! When an attach stream was read, and how long what it brought may have waited for that.
//!
//! A read that takes all there is has what was written just before it. One that does not may have
//! what has waited: but no longer than since the stream was last read empty, and no more can wait
//! than fits between the daemon and us. What was read so many bytes earlier had left before the
//! last byte came.
//!
//! Pure: no I/O, no clock. Times are nanoseconds since 1970 by the daemon's clock.

use std::time::Duration;

/// What fits between the daemon and us is told by marks, so many parts of it apart.
const PARTS: u64 = 4;
/// Behind the oldest of so many marks, all that fits was read.
const MARKS: usize = PARTS as usize + 1;

/// The reads of one attach stream.
#[derive(Clone, Debug, Default)]
pub struct Reads {
    /// So many bytes fit between the daemon and us, at most.
    room: u64,
    /// The last read.
    at: u64,
    /// The last read that took all there was, or when the attach was in place.
    empty_at: u64,
    /// The last reads that lie apart by a part of `room`, oldest first; 0 where there were none.
    marks: [u64; MARKS],
    /// So many bytes were read since the last of them.
    behind: u64,
}

impl Reads {
    /// Of an attach that is in place `at` this time; `room`: see [`Reads::lag`].
    pub fn new(room: u64, at: u64) -> Reads {
        Reads { room, at, empty_at: at, ..Reads::default() }
    }

    /// A read `at` this time has brought `bytes`; `all`: it took what there was.
    pub fn note(&mut self, at: u64, bytes: usize, all: bool) {
        self.at = at;
        if all {
            *self = Reads::new(self.room, at);
            return;
        }
        self.behind += bytes as u64;
        if self.behind >= self.room.div_ceil(PARTS) {
            self.marks.rotate_left(1);
            (self.marks[MARKS - 1], self.behind) = (at, 0);
        }
    }

    /// The last read.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// What was read last has waited no longer than this for it, where no more than `room` bytes
    /// can wait between the daemon and us.
    pub fn lag(&self) -> Duration {
        Duration::from_nanos(self.at.saturating_sub(self.empty_at.max(self.marks[0])))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_is_bounded_by_what_can_be_on_its_way() {
        let mut reads = Reads::new(1000, 100);
        reads.note(200, 40, true);
        assert_eq!((reads.at(), reads.lag()), (200, Duration::ZERO));
        // A second behind, and never empty.
        for at in 1..=4 {
            reads.note(at * 1000, 250, false);
            assert_eq!(reads.lag(), Duration::from_nanos(at * 1000 - 200));
        }
        reads.note(5000, 250, false);
        reads.note(6000, 250, false);
        assert_eq!(reads.lag(), Duration::from_nanos(4000), "what came in six reads, less two");
        reads.note(7000, 1, true);
        assert_eq!(reads.lag(), Duration::ZERO);
    }

    proptest! {
        /// Against a queue of that room, byte by byte.
        #[test]
        fn nothing_waits_longer(
            room in 1u64..60,
            steps in prop::collection::vec((0usize..40, 0usize..40), 0..80),
        ) {
            let mut reads = Reads::new(room, 0);
            let mut waiting = VecDeque::new();
            for (now, (come, go)) in (1u64..).zip(steps) {
                let free = room as usize - waiting.len();
                waiting.extend(std::iter::repeat_n(now, come.min(free)));
                let gone: Vec<u64> = waiting.drain(..go.min(waiting.len())).collect();
                let Some(came) = gone.last() else { continue };
                let all = waiting.is_empty();
                reads.note(now, gone.len(), all);
                // A read that takes all is made as soon as there is something.
                prop_assert!(all || reads.lag() >= Duration::from_nanos(now - came));
            }
        }
    }
}
