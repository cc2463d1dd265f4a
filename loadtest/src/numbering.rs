//! How lines are numbered, so that whoever receives some of them can tell what is missing.
//!
//! A line is of class 0, or of class k if it holds a word that route k looks for. Lines are
//! numbered within their container and class: a route that lets one class pass sees the numbers
//! 0, 1, 2 ... of it, and one that lets everything pass sees those of every class. Everything
//! follows from the place of a line in its container's stream by arithmetic. Pure.

use crate::scenario::{Filter, Hits};

/// What stands in every line, followed by [`Number`] as `CCCC:KK:SSSSSSSS`, hexadecimal.
pub const MARK: &[u8; 4] = b"@lt=";
/// Bytes of a mark with its number.
pub const MARKED: usize = MARK.len() + 16;

/// For each class from 1 the words that its route looks for; the first of them is in the lines.
/// None is part of another, nor of the rest of the lines.
pub const WORDS: [[&str; 4]; 16] = [
    ["error", "panic", "fatal", "denied"],
    ["Warning", "degraded", "throttled", "saturated"],
    ["Timeout", "expired", "deadline", "unanswered"],
    ["REFUSED", "forbidden", "unauthorized", "blocked"],
    ["Exception", "traceback", "unhandled", "uncaught"],
    ["corrupt", "checksum", "truncated", "malformed"],
    ["Overflow", "exhausted", "quota", "limit"],
    ["deadlock", "livelock", "starved", "contention"],
    ["Segfault", "sigabrt", "coredump", "backtrace"],
    ["missing", "notfound", "unknown", "absent"],
    ["ROLLBACK", "conflict", "serialization", "stale"],
    ["Rejected", "invalid", "unexpected", "mismatch"],
    ["failover", "unreachable", "partition", "quorum"],
    ["Shutdown", "sigterm", "evicted", "killed"],
    ["upgrade", "migration", "schema", "obsolete"],
    ["Audit", "privilege", "sudo", "escalation"],
];

/// Which line it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number {
    /// Index of the container.
    pub container: u16,
    /// Class of the line.
    pub class: u8,
    /// Its place among the lines of this class, from 0.
    pub sequence: u32,
}

impl Number {
    /// Reads `CCCC:KK:SSSSSSSS`; `None` if it is not of this form.
    pub fn parse(text: &[u8]) -> Option<Number> {
        let [container @ .., b':', k, l, b':', _, _, _, _, _, _, _, _] = text else { return None };
        let sequence = hex(&text[text.len() - 8..])?;
        Some(Number {
            container: u16::try_from(hex(container)?).ok().filter(|_| container.len() == 4)?,
            class: u8::try_from(hex(&[*k, *l])?).ok()?,
            sequence,
        })
    }

    /// Writes what [`Number::parse`] reads.
    pub fn write(self, text: &mut [u8; 16]) {
        *text = *b"0000:00:00000000";
        text[0..2].copy_from_slice(&HEX[usize::from(self.container >> 8)]);
        text[2..4].copy_from_slice(&HEX[usize::from(self.container & 0xFF)]);
        text[5..7].copy_from_slice(&HEX[usize::from(self.class)]);
        for (pair, byte) in text[8..].chunks_exact_mut(2).zip(self.sequence.to_be_bytes()) {
            pair.copy_from_slice(&HEX[usize::from(byte)]);
        }
    }
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value: u32, digit| {
        let digit = VALUE[usize::from(*digit)];
        (digit < 16).then_some(value << 4 | u32::from(digit))
    })
}

/// The two digits of each byte.
static HEX: [[u8; 2]; 256] = {
    let (mut table, digits) = ([[0; 2]; 256], *b"0123456789abcdef");
    let mut byte = 0;
    while byte < 256 {
        table[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    table
};

/// The value of each digit; 16 for what is none.
static VALUE: [u8; 256] = {
    let mut table = [16; 256];
    let mut value = 0;
    while value < 16 {
        table[HEX[value][1] as usize] = value as u8;
        value += 1;
    }
    table
};

/// Class and sequence number of each line of a container, and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbering {
    every: u64,
    classes: u64,
}

impl Numbering {
    /// Of every `hits.every` lines the first is of class 1, the second of class 2, and so on.
    pub fn new(hits: Hits) -> Numbering {
        let every = u64::from(hits.every.max(1));
        let classes = if hits.every == 0 { 0 } else { u64::from(hits.classes) };
        Numbering { every, classes: classes.min(every) }
    }

    /// Class and sequence number of a line, which is counted from 0.
    pub fn of(&self, line: u64) -> (u8, u32) {
        let (round, place) = (line / self.every, line % self.every);
        if place < self.classes {
            return (place as u8 + 1, round as u32);
        }
        (0, (round * (self.every - self.classes) + place - self.classes) as u32)
    }

    /// The line of this class and number.
    pub fn line(&self, class: u8, sequence: u32) -> u64 {
        let sequence = u64::from(sequence);
        if class > 0 {
            return sequence * self.every + u64::from(class) - 1;
        }
        let others = (self.every - self.classes).max(1);
        sequence / others * self.every + self.classes + sequence % others
    }

    /// How many of a container's first `lines` lines are of this class.
    pub fn count(&self, class: u8, lines: u64) -> u64 {
        let (rounds, rest) = (lines / self.every, lines % self.every);
        if class > 0 {
            let is_there = u64::from(class) <= self.classes;
            return if is_there { rounds + u64::from(rest >= u64::from(class)) } else { 0 };
        }
        rounds * (self.every - self.classes) + rest.saturating_sub(self.classes)
    }

    /// The classes that there are.
    pub fn classes(&self) -> impl Iterator<Item = u8> + use<> {
        let first = u8::from(self.every == self.classes);
        first..=self.classes as u8
    }

    /// The part of all lines that a filter lets through.
    pub fn part(&self, filter: Filter) -> f64 {
        match filter {
            Filter::None => 1.0,
            Filter::Words(_) | Filter::DotStarError if self.classes == 0 => 0.0,
            Filter::Words(_) | Filter::DotStarError => 1.0 / self.every as f64,
        }
    }
}

impl Filter {
    /// Whether lines of a class pass.
    pub fn passes(self, class: u8) -> bool {
        match self {
            Filter::None => true,
            Filter::Words(mine) => class == mine,
            Filter::DotStarError => class == 1,
        }
    }

    /// The regular expression, for `filter.match`.
    pub fn expression(self) -> Option<String> {
        match self {
            Filter::None => None,
            Filter::Words(class) => {
                let words = WORDS[usize::from(class.clamp(1, 16)) - 1];
                Some(format!("(?i){}", words.join("|")))
            }
            Filter::DotStarError => Some(".*error".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_number_reads_as_it_was_written() {
        let number = Number { container: 0x1a2, class: 16, sequence: 0xdead_beef };
        let mut text = [0; 16];
        number.write(&mut text);
        assert_eq!(&text, b"01a2:10:deadbeef");
        assert_eq!(Number::parse(&text), Some(number));
        for bad in
            ["", "01a2:10:deadbee", "01a2:10:deadbeeg", "01a2-10:deadbeef", "1a2:10:deadbeef"]
        {
            assert_eq!(Number::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn arithmetic_is_counting(every in 0u32..40, classes in 0u8..17, lines in 0u64..400) {
            let numbering = Numbering::new(Hits { every, classes });
            let mut counts = [0u64; 17];
            for line in 0..lines {
                let (class, sequence) = numbering.of(line);
                prop_assert_eq!(u64::from(sequence), counts[usize::from(class)]);
                prop_assert_eq!(numbering.line(class, sequence), line);
                prop_assert!(numbering.classes().any(|known| known == class));
                counts[usize::from(class)] += 1;
            }
            for class in 0..=16 {
                prop_assert_eq!(numbering.count(class, lines), counts[usize::from(class)]);
            }
        }
    }

    #[test]
    fn no_word_is_part_of_another() {
        let words: Vec<String> = WORDS.iter().flatten().map(|w| w.to_lowercase()).collect();
        for (at, word) in words.iter().enumerate() {
            let others = words.iter().enumerate().filter(|(other, _)| *other != at);
            assert!(others.into_iter().all(|(_, other)| !other.contains(word.as_str())), "{word}");
        }
    }
}
