//! The account of numbered lines: what came, against what the talker wrote.
//!
//! A talker's line is `@PREFIX NNNNNNNN PADDING`. For each prefix and stream the account tells
//! how many lines were lost, came twice, came before their turn, or came damaged.

use std::collections::HashMap;
use std::fmt;

/// What the talker's padding repeats (`tests/programs/talker.rs`).
pub(crate) const PADDING: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// What one talker was asked to write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// Number of the first line.
    pub first: u64,
    /// How many lines.
    pub count: u64,
    /// Length of each, newline included.
    pub bytes: usize,
    /// Every so many lines go to standard error; 0 for none.
    pub stderr_every: u64,
}

impl Run {
    /// `count` lines from 1 on, of the talker's default length, all to standard output.
    pub(crate) fn of(count: u64) -> Run {
        Run { first: 1, count, bytes: 64, stderr_every: 0 }
    }

    fn stream(&self, n: u64) -> usize {
        usize::from(self.stderr_every > 0 && n.is_multiple_of(self.stderr_every))
    }
}

struct Seen {
    run: Run,
    times: Vec<u8>,
    latest: [u64; 2],
    reordered: u64,
}

/// The account. Feed it every record received, in the order received.
#[derive(Default)]
pub(crate) struct Account {
    seen: HashMap<String, Seen>,
    damaged: u64,
    unknown: u64,
    sample: Option<String>,
}

/// What the account comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Lines the talkers wrote.
    pub expected: u64,
    /// Of these, lines that never came.
    pub lost: u64,
    /// Lines that came again.
    pub duplicated: u64,
    /// Lines that came after one with a higher number of the same container and stream.
    pub reordered: u64,
    /// Lines of a known prefix whose text or number is wrong.
    pub damaged: u64,
    /// Lines that no talker of the account wrote.
    pub unknown: u64,
    /// The first damaged or unknown line.
    pub sample: Option<String>,
    /// The first few losses, as `PREFIX FROM-TO`.
    pub gaps: Vec<String>,
}

impl Totals {
    /// Whether every line came once, whole and in its turn.
    pub(crate) fn perfect(&self) -> bool {
        self.lost + self.duplicated + self.reordered + self.damaged + self.unknown == 0
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals { expected, lost, duplicated, reordered, damaged, unknown, sample, gaps } = self;
        write!(f, "{expected} lines: {lost} lost, {duplicated} duplicated, ")?;
        write!(f, "{reordered} reordered, {damaged} damaged, {unknown} unknown")?;
        if !gaps.is_empty() {
            write!(f, "; gaps {gaps:?}")?;
        }
        sample.as_ref().map_or(Ok(()), |s| write!(f, "; first odd line {s}"))
    }
}

impl Account {
    /// Expects the lines of `run` under `prefix`.
    pub(crate) fn expect(&mut self, prefix: &str, run: Run) {
        let times = vec![0; run.count as usize];
        let seen = Seen { run, times, latest: [0; 2], reordered: 0 };
        assert!(self.seen.insert(prefix.to_owned(), seen).is_none(), "{prefix} expected twice");
    }

    /// Takes one record, with or without its newline and whatever stands before the `@`.
    pub(crate) fn take(&mut self, record: &[u8]) {
        let record = record.strip_suffix(b"\n").unwrap_or(record);
        let at = memchr::memchr(b'@', record).unwrap_or(record.len());
        match self.book(&record[at..]) {
            Booked::Well => return,
            Booked::Damaged => self.damaged += 1,
            Booked::Unknown => self.unknown += 1,
        }
        self.sample.get_or_insert_with(|| super::readable(record));
    }

    /// Takes every line of `text`; a last one without a newline too.
    pub(crate) fn take_lines(&mut self, text: &[u8]) {
        for line in text.split_inclusive(|&b| b == b'\n') {
            self.take(line);
        }
    }

    fn book(&mut self, line: &[u8]) -> Booked {
        let mut parts = line.splitn(3, |&b| b == b' ');
        let prefix = parts.next().and_then(|p| std::str::from_utf8(p).ok());
        let Some(seen) = prefix.and_then(|p| self.seen.get_mut(p)) else { return Booked::Unknown };
        let number = parts.next().and_then(|n| std::str::from_utf8(n).ok());
        let Some(n) = number.and_then(|n| n.parse::<u64>().ok()) else { return Booked::Damaged };
        let padding = parts.next().unwrap_or_default();
        let pattern = PADDING.iter().cycle().take(padding.len());
        if line.len() + 1 != seen.run.bytes || !padding.iter().eq(pattern) {
            return Booked::Damaged;
        }
        let index = n.wrapping_sub(seen.run.first) as usize;
        let Some(times) = seen.times.get_mut(index) else { return Booked::Damaged };
        *times = times.saturating_add(1);
        let latest = &mut seen.latest[seen.run.stream(n)];
        if *times == 1 && n < *latest {
            seen.reordered += 1;
        }
        *latest = n.max(*latest);
        Booked::Well
    }

    /// Whether every expected line has come at least once.
    pub(crate) fn complete(&self) -> bool {
        self.seen.values().all(|s| s.times.iter().all(|&t| t > 0))
    }

    /// What it comes to so far.
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals {
            damaged: self.damaged,
            unknown: self.unknown,
            sample: self.sample.clone(),
            ..Totals::default()
        };
        for (prefix, seen) in &self.seen {
            totals.expected += seen.run.count;
            totals.reordered += seen.reordered;
            totals.duplicated += seen.times.iter().map(|&t| u64::from(t.max(1) - 1)).sum::<u64>();
            totals.lost += seen.times.iter().filter(|&&t| t == 0).count() as u64;
            note_gaps(prefix, seen, &mut totals.gaps);
        }
        totals
    }
}

enum Booked {
    Well,
    Damaged,
    Unknown,
}

fn note_gaps(prefix: &str, seen: &Seen, gaps: &mut Vec<String>) {
    let mut begin = None;
    for (i, &times) in seen.times.iter().chain(&[1]).enumerate() {
        match (times, begin) {
            (0, None) => begin = Some(i),
            (1.., Some(from)) if gaps.len() < 8 => {
                let first = seen.run.first;
                gaps.push(format!("{prefix} {}-{}", first + from as u64, first + i as u64 - 1));
                begin = None;
            }
            (1.., _) => begin = None,
            _ => {}
        }
    }
}
