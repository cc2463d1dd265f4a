//! Which lines came: lost, duplicated, reordered, told from their numbers. Pure.

use std::collections::BTreeMap;

use crate::numbering::{MARK, MARKED, Number, Numbering};
use crate::report::Checked;
use crate::scenario::{Filter, Hits};

/// Classes of lines, 0 to 16.
const CLASSES: usize = 17;

/// Checks the lines of one route.
pub struct Checker {
    filter: Filter,
    containers: usize,
    /// For each container and class the number that comes next.
    next: Vec<u32>,
    /// For each of them the numbers left out so far: the first of a range, and its end.
    gaps: BTreeMap<usize, BTreeMap<u32, u32>>,
    counts: Checked,
    /// Lines that no filter should have let pass, or of nobody.
    foreign: u64,
}

impl Checker {
    /// For the lines of so many containers that pass `filter`.
    pub fn new(containers: u16, filter: Filter) -> Checker {
        let containers = usize::from(containers);
        Checker {
            filter,
            containers,
            next: vec![0; containers * CLASSES],
            gaps: BTreeMap::new(),
            counts: Checked::default(),
            foreign: 0,
        }
    }

    /// Takes note of a line.
    pub fn take(&mut self, number: Number) {
        let (container, class) = (usize::from(number.container), usize::from(number.class));
        if container >= self.containers || class >= CLASSES || !self.filter.passes(number.class) {
            self.foreign += 1;
            return;
        }
        let key = container * CLASSES + class;
        let next = &mut self.next[key];
        if number.sequence == *next {
            *next += 1;
            self.counts.delivered += 1;
        } else if number.sequence > *next {
            self.gaps.entry(key).or_default().insert(*next, number.sequence);
            *next = number.sequence + 1;
            self.counts.delivered += 1;
        } else {
            self.take_late(key, number.sequence);
        }
    }

    /// A line whose turn is over: it was missed until now, or came before.
    fn take_late(&mut self, key: usize, sequence: u32) {
        let gaps = self.gaps.entry(key).or_default();
        let gap = gaps.range(..=sequence).next_back().map(|(start, end)| (*start, *end));
        let Some((start, end)) = gap.filter(|(_, end)| sequence < *end) else {
            self.counts.duplicated += 1;
            return;
        };
        gaps.remove(&start);
        if start < sequence {
            gaps.insert(start, sequence);
        }
        if sequence + 1 < end {
            gaps.insert(sequence + 1, end);
        }
        self.counts.delivered += 1;
        self.counts.reordered += 1;
    }

    /// Lines that came so far, each once.
    pub fn delivered(&self) -> u64 {
        self.counts.delivered
    }

    /// Lines that should never have come.
    pub fn foreign(&self) -> u64 {
        self.foreign
    }

    /// The result, if `sent` lines of each container were sent. A line that was counted as sent
    /// too late, and came, is expected too.
    pub fn result(&self, hits: Hits, sent: &[u64]) -> Checked {
        let numbering = Numbering::new(hits);
        let classes: Vec<u8> = numbering.classes().filter(|c| self.filter.passes(*c)).collect();
        let mut expected = 0;
        for (container, lines) in sent.iter().enumerate() {
            for class in &classes {
                let next = self.next[container * CLASSES + usize::from(*class)];
                expected += numbering.count(*class, *lines).max(u64::from(next));
            }
        }
        let lost = expected.saturating_sub(self.counts.delivered);
        Checked { expected, lost, ..self.counts }
    }
}

/// Finds the numbers of lines in a stream of records, however it is cut.
pub struct Scanner {
    finder: memchr::memmem::Finder<'static>,
}

impl Default for Scanner {
    fn default() -> Scanner {
        Scanner { finder: memchr::memmem::Finder::new(MARK) }
    }
}

impl Scanner {
    /// Calls `each` with the numbers in `bytes`. Returns where the next bytes have to go on: what
    /// stands from there may be the beginning of a mark.
    pub fn scan(&self, bytes: &[u8], mut each: impl FnMut(Number)) -> usize {
        let mut at = 0;
        while let Some(found) = self.finder.find(&bytes[at..]) {
            let start = at + found;
            let Some(text) = bytes.get(start + MARK.len()..start + MARKED) else { return start };
            match Number::parse(text) {
                Some(number) => {
                    each(number);
                    at = start + MARKED;
                }
                None => at = start + MARK.len(),
            }
        }
        at.max(bytes.len().saturating_sub(MARK.len() - 1))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn number(container: u16, sequence: u32) -> Number {
        Number { container, class: 0, sequence }
    }

    fn check(numbers: &[u32], sent: u64) -> Checked {
        let mut checker = Checker::new(1, Filter::None);
        numbers.iter().for_each(|sequence| checker.take(number(0, *sequence)));
        checker.result(Hits::NONE, &[sent])
    }

    #[test]
    fn each_fault_is_told_apart() {
        let checked = |expected, delivered, lost, duplicated, reordered| Checked {
            expected,
            delivered,
            lost,
            duplicated,
            reordered,
        };
        assert_eq!(check(&[0, 1, 2], 3), checked(3, 3, 0, 0, 0));
        assert_eq!(check(&[0, 2], 4), checked(4, 2, 2, 0, 0));
        assert_eq!(check(&[0, 1, 1, 0, 2], 3), checked(3, 3, 0, 2, 0));
        assert_eq!(check(&[3, 1, 0, 2, 1], 4), checked(4, 4, 0, 1, 3));
    }

    #[test]
    fn only_what_the_filter_lets_pass_is_expected() {
        let hits = Hits { every: 10, classes: 2 };
        let mut checker = Checker::new(2, Filter::Words(2));
        for (container, class, sequence) in [(0, 2, 0), (1, 2, 0), (1, 2, 1), (1, 1, 0), (2, 2, 0)]
        {
            checker.take(Number { container, class, sequence });
        }
        assert_eq!(checker.foreign(), 2);
        let result = checker.result(hits, &[11, 12]);
        assert_eq!((result.expected, result.delivered, result.lost), (3, 3, 0));
    }

    proptest! {
        #[test]
        fn the_checker_agrees_with_a_set(numbers in prop::collection::vec(0u32..30, 0..60)) {
            let (mut seen, mut duplicated, mut reordered) = (BTreeSet::new(), 0, 0);
            for number in &numbers {
                let late = seen.last().is_some_and(|last| number < last);
                let fresh = seen.insert(*number);
                duplicated += u64::from(!fresh);
                reordered += u64::from(fresh && late);
            }
            let result = check(&numbers, 30);
            prop_assert_eq!(result.delivered, seen.len() as u64);
            prop_assert_eq!((result.duplicated, result.reordered), (duplicated, reordered));
            prop_assert_eq!(result.lost, 30 - seen.len() as u64);
        }

        #[test]
        fn cuts_do_not_hide_a_line(cuts in prop::collection::vec(1usize..40, 1..30)) {
            let mut text = Vec::new();
            for sequence in 0..9 {
                let mut digits = [0; 16];
                number(7, sequence).write(&mut digits);
                text.extend_from_slice(b"<14>1 @lt @lt=00 - ");
                text.extend_from_slice(MARK);
                text.extend_from_slice(&digits);
                text.extend_from_slice(b" text\n");
            }
            let (mut held, mut seen) = (Vec::new(), Vec::new());
            let mut rest = text.as_slice();
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                held.extend_from_slice(now);
                let from = Scanner::default().scan(&held, |number| seen.push(number.sequence));
                held.drain(..from);
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(seen, (0..9).collect::<Vec<u32>>());
        }
    }
}
