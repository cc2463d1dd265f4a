//! Numbers for names, in the order in which they appear: what colours are chosen by.
//!
//! Pure. Asked when a container is attached or writes its first line, not per line.

use std::collections::VecDeque;

/// Names whose number is remembered while others come and go.
const REMEMBERED: usize = 256;

/// The numbers that were given.
#[derive(Debug, Default)]
pub(super) struct Palette {
    /// Names and their numbers, the latest last.
    given: VecDeque<(String, usize)>,
    next: usize,
}

impl Palette {
    /// The number of `name`: 0 for the first, and one more for each other.
    pub(super) fn number(&mut self, name: &str) -> usize {
        if let Some((_, number)) = self.given.iter().find(|(known, _)| known == name) {
            return *number;
        }
        let number = self.next;
        self.next = number.wrapping_add(1);
        if self.given.len() == REMEMBERED {
            self.given.pop_front();
        }
        self.given.push_back((name.to_owned(), number));
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_number_while_it_is_remembered() {
        let mut palette = Palette::default();
        for name in ["a", "b", "a", "c"] {
            palette.number(name);
        }
        assert_eq!([palette.number("a"), palette.number("b"), palette.number("c")], [0, 1, 2]);
        for other in 0..2 * REMEMBERED {
            assert_eq!(palette.number(&format!("other {other}")), 3 + other);
        }
        assert_eq!(palette.given.len(), REMEMBERED);
        assert_eq!(palette.number("a"), 3 + 2 * REMEMBERED);
    }
}
