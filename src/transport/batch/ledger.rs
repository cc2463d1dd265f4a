//! Which records of a batch are settled. They leave the outbox from the oldest on, so one that is
//! not settled keeps those behind it there.
//!
//! Pure. Records are told by their place, 0 for the oldest that is not acknowledged.

use std::collections::VecDeque;

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver has it.
    Delivered,
    /// The receiver will never take it.
    Refused,
    /// It is to be sent again.
    Again,
}

/// Records that follow each other and had the same outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Which: not [`Outcome::Again`].
    pub outcome: Outcome,
    /// How many; at least 1.
    pub records: usize,
}

/// The records of a batch.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Each record's outcome; `Again` of those that were not sent yet, too.
    outcomes: VecDeque<Outcome>,
}

impl Ledger {
    /// Adds so many records behind the others.
    pub fn add(&mut self, records: usize) {
        self.outcomes.extend((0..records).map(|_| Outcome::Again));
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.outcomes.is_empty()
    }

    /// Forgets all records.
    pub fn clear(&mut self) {
        self.outcomes.clear();
    }

    /// Whether the record at this place is to be sent.
    pub fn waits(&self, at: usize) -> bool {
        self.outcomes.get(at) == Some(&Outcome::Again)
    }

    /// Whether some records are settled, and others before them are not.
    pub fn has_gaps(&self) -> bool {
        self.outcomes.iter().any(|outcome| *outcome != Outcome::Again)
    }

    /// Takes note of what became of the records that wait, from the oldest on.
    pub fn settle(&mut self, outcomes: impl Iterator<Item = Outcome>) {
        let waiting = self.outcomes.iter_mut().filter(|outcome| **outcome == Outcome::Again);
        for (waiting, outcome) in waiting.zip(outcomes) {
            *waiting = outcome;
        }
    }

    /// Takes the oldest records out that are settled and had the same outcome.
    pub fn next_run(&mut self) -> Option<Run> {
        let outcome = *self.outcomes.front().filter(|first| **first != Outcome::Again)?;
        let records = self.outcomes.iter().take_while(|other| **other == outcome).count();
        self.outcomes.drain(..records);
        Some(Run { outcome, records })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Outcome::{Again, Delivered, Refused};
    use super::*;

    #[test]
    fn records_leave_in_their_order() {
        let mut ledger = Ledger::default();
        ledger.add(5);
        ledger.settle([Delivered, Refused, Again, Delivered].into_iter());
        assert!(ledger.has_gaps() && !ledger.waits(1) && ledger.waits(2) && ledger.waits(4));
        assert_eq!(ledger.next_run(), Some(Run { outcome: Delivered, records: 1 }));
        assert_eq!(ledger.next_run(), Some(Run { outcome: Refused, records: 1 }));
        assert_eq!(ledger.next_run(), None);
        // Those that wait are the third and the fifth.
        ledger.settle([Delivered, Again].into_iter());
        assert_eq!(ledger.next_run(), Some(Run { outcome: Delivered, records: 2 }));
        assert!(!ledger.has_gaps() && ledger.waits(0) && !ledger.waits(1));
        ledger.settle([Refused].into_iter());
        assert_eq!(ledger.next_run(), Some(Run { outcome: Refused, records: 1 }));
        assert!(ledger.is_empty() && !ledger.waits(0));
    }

    proptest! {
        /// A receiver that says whatever it likes, told naively: each record that it was sent
        /// has its last word, and nothing leaves before an older one.
        #[test]
        fn each_record_has_the_last_word_said_of_it(
            count in 1_usize..40,
            answers in prop::collection::vec(prop::collection::vec(0_u8..3, 0..40), 1..20),
        ) {
            let mut ledger = Ledger::default();
            ledger.add(count);
            let mut naive = vec![Again; count];
            let mut left = Vec::new();
            for answer in answers {
                let words: Vec<Outcome> =
                    answer.iter().map(|&n| [Delivered, Refused, Again][usize::from(n)]).collect();
                let waiting: Vec<usize> = (0..count).filter(|&at| naive[at] == Again).collect();
                let gone = left.len();
                let waits = |at: &usize| ledger.waits(at - gone);
                let seen: Vec<usize> = (gone..count).filter(waits).collect();
                prop_assert_eq!(&seen, &waiting);
                waiting.iter().zip(&words).for_each(|(&at, word)| naive[at] = *word);
                ledger.settle(words.into_iter());
                while let Some(run) = ledger.next_run() {
                    prop_assert!(run.records > 0);
                    left.extend((0..run.records).map(|_| run.outcome));
                }
                let settled = naive.iter().take_while(|outcome| **outcome != Again).count();
                prop_assert_eq!(&left[..], &naive[..settled]);
            }
        }
    }
}
