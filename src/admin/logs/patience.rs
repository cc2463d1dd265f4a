//! How long a client may take nothing although there is something for it. Pure.

use std::time::{Duration, Instant};

/// After which it is taken for gone.
pub(in crate::admin) const STALL_MAX: Duration = Duration::from_secs(300);

/// Judges one client, now and then.
#[derive(Debug)]
pub(in crate::admin) struct Patience {
    taken: u64,
    since: Instant,
}

impl Patience {
    /// For a client that came at `now`.
    pub(in crate::admin) fn new(now: Instant) -> Patience {
        Patience { taken: 0, since: now }
    }

    /// Whether patience is at its end: for [`STALL_MAX`] something has been `waiting` and the
    /// number of what it has `taken` has stayed the same.
    pub(in crate::admin) fn is_over(&mut self, taken: u64, waiting: bool, now: Instant) -> bool {
        if taken != self.taken || !waiting {
            (self.taken, self.since) = (taken, now);
        }
        now.saturating_duration_since(self.since) >= STALL_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_who_take_nothing_of_what_there_is_are_given_up() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut patience = Patience::new(start);
        // Quiet containers, for hours.
        assert!(!patience.is_over(0, false, at(10_000)));
        assert!(!patience.is_over(0, true, at(10_030)));
        assert!(!patience.is_over(0, true, at(10_299)));
        // It takes something, however little.
        assert!(!patience.is_over(1, true, at(10_299)));
        assert!(!patience.is_over(1, true, at(10_598)));
        assert!(patience.is_over(1, true, at(10_599)));
        // It has taken all there was.
        assert!(!patience.is_over(1, false, at(10_600)));
    }
}
