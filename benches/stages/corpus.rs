//! Lines as services write them, made up and the same in every run, and the streams and blocks
//! that carry them.
//!
//! Lengths are skewed, a quarter to three times the mean, so that no branch predictor learns
//! them. The words have beginnings in common with what filters look for (`server`, `wait`,
//! `pane`), and no line has what it is not asked to have.

use std::ops::Range;

use logchute::docker::frame::HEADER;

/// What a read brings at most.
pub(crate) const READ: usize = 256 * 1024;
/// Lines of a frame of a line-wise writer under load, as measured on a real engine.
const BATCH: usize = 61;
/// The largest frame that the Docker Engine writes.
const FRAME: usize = 32 * 1024;

/// What routes look for in the cases with several routes: the first word each, or all four. The
/// first are in some lines, the others in none.
pub(crate) const ROUTE_WORDS: [[&str; 4]; 16] = [
    ["alpha", "denied", "traceback", "oom-killed"],
    ["bravo", "degraded", "throttled", "saturated"],
    ["charlie", "expired", "deadline", "unanswered"],
    ["delta", "forbidden", "unauthorized", "blocked"],
    ["foxtrot", "exception", "unhandled", "uncaught"],
    ["golf", "checksum", "truncated", "malformed"],
    ["hotel", "exhausted", "quota", "overflow"],
    ["india", "livelock", "starved", "contention"],
    ["juliett", "sigabrt", "coredump", "segfault"],
    ["kilo", "notfound", "unknown", "absent"],
    ["lima", "conflict", "serialization", "stale"],
    ["november", "invalid", "unexpected", "mismatch"],
    ["oscar", "unreachable", "partition", "quorum"],
    ["papa", "sigterm", "evicted", "shutdown"],
    ["quebec", "migration", "schema", "obsolete"],
    ["romeo", "privilege", "sudo", "escalation"],
];
/// Levels, as different programs write them.
const LEVELS: [&str; 10] =
    ["error", "Error", "ERROR", "warn", "WARN", "Warn", "fatal", "FATAL", "panic", "PANIC"];
const WORDS: [&str; 48] = [
    "request",
    "served",
    "from",
    "cache",
    "upstream",
    "10.0.3.17",
    "GET",
    "/api/v1/items",
    "user=4711",
    "duration=12ms",
    "worker",
    "Scheduled",
    "job",
    "finished",
    "queue",
    "param",
    "wait",
    "session",
    "erased",
    "family",
    "retry=0",
    "bytes=20480",
    "trace=9f3c21ab",
    "server",
    "pane",
    "walked",
    "fast",
    "POST",
    "/login?next=%2Fhome",
    "status=204",
    "status=404",
    "db",
    "connection",
    "pool",
    "size=16",
    "idle=3",
    "took",
    "0.0031",
    "s",
    "{\"id\":",
    "\"a81c\"}",
    "commit",
    "rows=118",
    "peer",
    "192.168.14.250:43822",
    "closed",
    "ok",
    "the",
];

/// Which lines have something that a filter looks for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marks {
    /// No line.
    Never,
    /// One line of a hundred, at random, has the text; `LEVEL` stands for any of [`LEVELS`].
    Rare(&'static str),
    /// Every line has the text.
    Every(&'static str),
    /// The first word of each of [`ROUTE_WORDS`] is in one line of a hundred, at random.
    RouteWords,
}

/// Stands for a level in [`Marks`].
pub(crate) const LEVEL: &str = "LEVEL";

/// How lines are written, and so how frames cut them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One line a frame: a quiet container, and the logs door.
    Line,
    /// 61 lines a frame: a line-wise writer under load.
    Batch,
    /// Frames of 32 KiB that cut lines anywhere: a program that writes in blocks.
    Cut,
}

/// A sequence by xorshift: the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // The low bits are the weakest.
        (self.0 >> 16) as usize % limit.max(1)
    }

    fn one_of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }
}

/// Lines, one after the other.
pub(crate) struct Lines {
    text: Vec<u8>,
    /// Where each line ends in `text`, its `\n` included.
    ends: Vec<usize>,
}

impl Lines {
    /// About `bytes` bytes of lines whose mean length is about `mean`, `\n` included.
    pub(crate) fn new(mean: usize, marks: Marks, bytes: usize) -> Lines {
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        let mut lines = Lines { text: Vec::with_capacity(bytes + 4 * mean), ends: Vec::new() };
        while lines.text.len() < bytes {
            push_line(&mut lines.text, mean, marks, &mut random);
            lines.ends.push(lines.text.len());
        }
        lines
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.ends.len()
    }

    /// What is in each frame, as parts of the text.
    fn payloads(&self, shape: Shape) -> Vec<Range<usize>> {
        let ends: Vec<usize> = match shape {
            Shape::Line => self.ends.clone(),
            Shape::Batch => {
                self.ends.chunks(BATCH).filter_map(|ends| ends.last().copied()).collect()
            }
            Shape::Cut => {
                let len = self.text.len();
                (FRAME..len).step_by(FRAME).chain([len]).collect()
            }
        };
        let starts = [0].into_iter().chain(ends.iter().copied());
        starts.zip(ends.iter().copied()).map(|(start, end)| start..end).collect()
    }

    /// The payloads of the frames.
    pub(crate) fn pieces(&self, shape: Shape) -> Vec<Vec<u8>> {
        self.payloads(shape).into_iter().map(|part| self.text[part].to_vec()).collect()
    }

    /// The stream of the attach door: standard output, framed.
    pub(crate) fn stream(&self, shape: Shape) -> Vec<u8> {
        let payloads = self.payloads(shape);
        let mut stream = Vec::with_capacity(self.text.len() + HEADER * payloads.len());
        for part in payloads {
            stream.extend_from_slice(&[1, 0, 0, 0]);
            stream.extend_from_slice(&(part.len() as u32).to_be_bytes());
            stream.extend_from_slice(&self.text[part]);
        }
        stream
    }
}

/// Appends one line: a time, a level, words, and what `marks` wants somewhere among them.
fn push_line(text: &mut Vec<u8>, mean: usize, marks: Marks, random: &mut Random) {
    let start = text.len();
    // The mean of the product of two numbers below 1 is a quarter.
    let len = mean / 4 + random.below(1024) * random.below(1024) * 3 * mean / (1024 * 1024);
    let time = (random.below(60), random.below(1000));
    text.extend_from_slice(format!("12:07:{:02}.{:03} INFO ", time.0, time.1).as_bytes());
    let head = text.len() - start;
    let before_mark = start + head + random.below(len.saturating_sub(head + 10));
    while text.len() < before_mark {
        push_word(text, random.one_of(&WORDS));
    }
    for word in wanted(marks, random) {
        push_word(text, word);
    }
    let end = text.len().max(start + len);
    while text.len() < end {
        push_word(text, random.one_of(&WORDS));
    }
    text.truncate(end - 1);
    text.push(b'\n');
}

fn push_word(text: &mut Vec<u8>, word: &str) {
    text.extend_from_slice(word.as_bytes());
    text.push(b' ');
}

/// What one line has to have.
fn wanted(marks: Marks, random: &mut Random) -> Vec<&'static str> {
    let word = match marks {
        Marks::Never => return Vec::new(),
        Marks::RouteWords => {
            let first = ROUTE_WORDS.into_iter().map(|[first, ..]| first);
            return first.filter(|_| random.below(100) == 0).collect();
        }
        Marks::Rare(_) if random.below(100) != 0 => return Vec::new(),
        Marks::Rare(word) | Marks::Every(word) => word,
    };
    vec![if word == LEVEL { random.one_of(&LEVELS) } else { word }]
}
