//! Reading a log for the first time: had it been rotated past the place where that begins?
//!
//! Of a place that is only a time nothing is known by which it could be found again. But a log
//! that was rotated is full, as far as that goes; and if its first message is from after the
//! place, lines between may be missing. It is said to be so where it may be: a container that was
//! silent until then and wrote as much at once looks the same.
//!
//! Pure: no I/O, no clock. Times are nanoseconds since 1970 by the daemon's clock.

use super::cursor::Rotated;

/// A message costs so much in the log beside its text, at most: braces, names, a time.
const MESSAGE: u64 = 90;
/// How far the stamps of a run's lines may lie outside the times that inspect tells of it.
const OUTSIDE_NANOS: u64 = 50_000_000;
/// Of a log of one file, which is emptied when it is full, nobody knows how full it was. It is
/// taken to be rotated where a container is heard of so long after it has started.
const LATE_NANOS: u64 = 2_000_000_000;

/// The first pass over a log, from a time on.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Everything from here on is wanted; 0: all that the container wrote.
    since: u64,
    asked: Option<Asked>,
    first: Option<u64>,
    /// What was there when it was asked for takes so many bytes, about.
    size: u64,
}

/// What is known when the log is first asked for.
#[derive(Clone, Copy, Debug)]
struct Asked {
    at: u64,
    /// When the run that is read began.
    run: u64,
    /// See [`crate::docker::inspect::Container::log_full`].
    full: Option<u64>,
}

impl Opening {
    /// From `since` on.
    pub fn new(since: u64) -> Opening {
        Opening { since, asked: None, first: None, size: 0 }
    }

    /// A pass is asked for at `at`, of a container that was started at `run` and whose log, once it
    /// was rotated, has so many bytes when it is `full`.
    pub fn pass_begins(&mut self, at: u64, run: u64, full: Option<u64>) {
        // An earlier pass that showed nothing tells nothing of what came since.
        if self.first.is_none() {
            self.asked = Some(Asked { at, run, full });
        }
    }

    /// Whether nothing more is to be learned.
    pub fn is_over(&self, ts: u64) -> bool {
        self.asked.is_none_or(|asked| asked.full.is_none() || ts > asked.at)
    }

    /// A message that the log shows; returns what may be missing before the first one, as soon as
    /// that is known.
    pub fn logged(&mut self, ts: u64, len: usize) -> Option<Rotated> {
        let Asked { at, run, full } = self.asked?;
        let first = *self.first.get_or_insert(ts);
        self.size = self.size.saturating_add(len as u64 * 5 / 4 + MESSAGE);
        // From a place on there may have been more than one run.
        let from = if self.since == 0 { run } else { self.since };
        let full = full.filter(|full| self.size >= *full)?;
        let is_late = self.since == 0 && at > from.saturating_add(LATE_NANOS);
        let begins_later = self.since == 0 || first > from.saturating_add(OUTSIDE_NANOS);
        let may_be = if full == 0 { is_late } else { begins_later };
        may_be.then(|| Rotated { from: from.min(first), to: first })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// What is said of a log of so many messages, the first at `first` seconds.
    fn said(since: u64, run: u64, full: Option<u64>, first: u64, messages: u64) -> Option<u64> {
        let mut opening = Opening::new(since * SECOND);
        opening.pass_begins(100 * SECOND, run * SECOND, full);
        let mut all = (0..messages).map(|n| first * SECOND + n);
        let found = all.find_map(|ts| opening.logged(ts, 100).map(|rotated| rotated.from));
        found.map(|from| from / SECOND)
    }

    #[test]
    fn a_log_that_is_full_and_begins_later_was_rotated() {
        assert_eq!(said(0, 10, Some(10_000), 20, 100), Some(10));
        assert_eq!(said(0, 10, Some(10_000), 20, 40), None, "there is room");
        assert_eq!(said(0, 10, None, 20, 100), None, "it is not rotated");
        assert_eq!(said(30, 10, Some(10_000), 40, 100), Some(30));
        assert_eq!(said(30, 10, Some(10_000), 30, 100), None, "the place is in it");
        assert_eq!(said(30, 39, Some(10_000), 39, 100), Some(30), "there was a run before");
        // More than one run.
        assert_eq!(said(0, 50, Some(10_000), 20, 100), Some(20));
    }

    #[test]
    fn a_log_of_one_file_is_doubted_where_it_is_read_late() {
        assert_eq!(said(0, 10, Some(0), 20, 1), Some(10));
        assert_eq!(said(0, 99, Some(0), 99, 1), None);
        assert_eq!(said(30, 10, Some(0), 40, 1), None);
    }

    #[test]
    fn what_is_written_later_does_not_fill_it() {
        let mut opening = Opening::new(0);
        assert!(opening.is_over(1), "nothing was asked for");
        opening.pass_begins(3, 1, None);
        opening.pass_begins(5, 1, Some(200));
        assert!(!opening.is_over(5) && opening.is_over(6));
        assert_eq!(opening.logged(4, 1), None);
        opening.pass_begins(9, 1, None);
        assert!(
            !opening.is_over(5) && opening.is_over(6),
            "the first that showed something counts"
        );
    }
}
