//! A place in a container's output that outlives the program: how far lines were delivered.
//!
//! A mark has the end of the last whole line of each source and when it came; a later run of the
//! program finds its place in the log by that, as after a lost connection ([`super::resume`]).
//!
//! Pure: it does no I/O and reads no clock. Times are nanoseconds since 1970.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::resume::{Resume, ResumeConfig, Tail};
use crate::docker::Source;

/// Bytes of each source's end that are kept, to be recognised by: so many, and what is before them
/// in their line. Of lines that are longer it is often the beginning that tells them apart.
pub(super) const TEXT: usize = 512;

/// How far the lines of a container were delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Where nothing was delivered: where to begin.
    since: u64,
    /// How much longer than usual the last bytes may have waited to be read, in nanoseconds.
    lag: u64,
    /// The end of stdout and stderr.
    ends: [End; 2],
}

/// The end of one source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct End {
    /// When it came.
    at: u64,
    /// Each byte as the character of its number: JSON has no bytes.
    text: String,
}

impl Mark {
    /// Before all that is written at or after `since`.
    pub fn since(since: u64) -> Mark {
        Mark { since, ..Mark::default() }
    }

    /// Behind the whole lines of `tails`, whose last bytes are of lines that have no end yet:
    /// `unfinished` bytes of each. `lag`: see [`ResumeConfig::arrival`], beyond what is usual.
    /// `None` where such a line is longer than what the tail remembers.
    pub fn behind(tails: &[Tail; 2], unfinished: [usize; 2], lag: Duration) -> Option<Mark> {
        let lag = u64::try_from(lag.as_nanos()).unwrap_or(u64::MAX);
        let mut mark = Mark { lag, ..Mark::default() };
        for source in Source::OUTPUTS {
            let (tail, unfinished) = (&tails[source as usize], unfinished[source as usize]);
            let bytes = tail.bytes();
            let whole = bytes.len().checked_sub(unfinished)?;
            if whole == 0 && unfinished > 0 {
                return None;
            }
            let before = &bytes[..whole.saturating_sub(TEXT)];
            let begin = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
            let text = bytes[begin..whole].iter().map(|&byte| char::from(byte)).collect();
            mark.ends[source as usize] = End { at: tail.last(), text };
        }
        Some(mark)
    }

    /// The tails as they were, as far as they are kept.
    pub fn tails(&self) -> [Tail; 2] {
        self.ends.each_ref().map(|end| {
            // What is no byte is none of ours: the file was edited.
            let bytes: Vec<u8> = end.text.chars().filter_map(|c| u8::try_from(c).ok()).collect();
            let mut tail = Tail::new();
            if !bytes.is_empty() {
                tail.note(&bytes, end.at);
            }
            tail
        })
    }

    /// When the last of it came, or where to begin.
    pub fn at(&self) -> u64 {
        self.ends.iter().map(|end| end.at).fold(self.since, u64::max)
    }

    /// What finds the place in the log; `None` where nothing was delivered before it, so that it
    /// is at [`Mark::at`]. `slack`: see [`ResumeConfig`].
    pub fn resume(&self, slack: Duration) -> Option<Resume> {
        let tails = self.tails();
        if self.ends.iter().all(|end| end.text.is_empty()) {
            return None;
        }
        let mut config = ResumeConfig::new(self.at(), slack);
        config.arrival += Duration::from_nanos(self.lag);
        Some(Resume::new(tails.each_ref(), config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn tails(out: &[u8], err: &[u8]) -> [Tail; 2] {
        let mut tails = [Tail::new(), Tail::new()];
        for (tail, bytes) in tails.iter_mut().zip([out, err]) {
            if !bytes.is_empty() {
                tail.note(bytes, 5 * SECOND);
            }
        }
        tails
    }

    #[test]
    fn a_mark_survives_being_written_down() {
        let all: Vec<u8> = (0..=255).chain([b'\n']).collect();
        let lag = Duration::from_millis(3);
        let mark = Mark::behind(&tails(&all, b"one\n"), [0, 0], lag).unwrap();
        let text = serde_json::to_string(&mark).unwrap();
        let read: Mark = serde_json::from_str(&text).unwrap();
        assert_eq!(read, mark);
        let [out, err] = read.tails();
        assert_eq!((out.bytes(), err.bytes()), (all, b"one\n".to_vec()));
        assert_eq!((read.at(), out.last()), (5 * SECOND, 5 * SECOND));
    }

    #[test]
    fn it_is_behind_the_last_whole_line() {
        let of = |text: &[u8], unfinished| {
            Mark::behind(&tails(text, b""), [unfinished, 0], Duration::ZERO)
        };
        assert_eq!(of(b"one\ntwo", 3).unwrap().tails()[0].bytes(), b"one\n");
        assert_eq!(of(b"two", 3), None, "nothing tells where that line begins");
        assert_eq!(of(b"two", 4), None);
        let lines: Vec<u8> = (0..999).flat_map(|n| format!("{n:09}\n").into_bytes()).collect();
        assert_eq!(of(&lines, 0).unwrap().tails()[0].bytes(), lines[lines.len() - 520..]);
    }

    /// Lines that end alike within the same moment.
    #[test]
    fn a_long_line_is_recognised_by_its_beginning() {
        let line = |n: usize| format!("{n:04} {}\n", "x".repeat(1000)).into_bytes();
        let lines = |from, to| (from..to).flat_map(line).collect::<Vec<u8>>();
        let mark = Mark::behind(&tails(&lines(0, 8), b""), [0, 0], Duration::ZERO).unwrap();
        assert_eq!(mark.tails()[0].bytes(), line(7));
        let mut resume = mark.resume(Duration::ZERO).unwrap();
        let mut given = Vec::new();
        resume.pass_begins(100 * SECOND);
        for n in 0..20 {
            let at = 5 * SECOND - 10 + n as u64;
            resume.logged(Source::Stdout, at, &line(n), &mut |r| given.extend_from_slice(r.bytes));
        }
        resume.pass_ended(&mut |replay| given.extend_from_slice(replay.bytes));
        assert!(given == lines(8, 20), "{} bytes", given.len());
    }

    #[test]
    fn where_nothing_was_delivered_it_is_a_time() {
        let mark = Mark::since(7 * SECOND);
        assert!(mark.resume(Duration::ZERO).is_none());
        assert_eq!(mark.at(), 7 * SECOND);
    }

    /// The log shows what was delivered once more, and what comes after it: only that is given on.
    #[test]
    fn a_log_goes_on_behind_it() {
        let mark = Mark::behind(&tails(b"one\ntwo\nthr", b""), [3, 0], Duration::ZERO).unwrap();
        let mut resume = mark.resume(Duration::ZERO).unwrap();
        let mut given = Vec::new();
        resume.pass_begins(100 * SECOND);
        let messages = [(4, "one\n"), (5, "two\n"), (5, "three\n"), (6, "four\n")];
        for (at, text) in messages {
            resume.logged(Source::Stdout, at * SECOND, text.as_bytes(), &mut |replay| {
                given.extend_from_slice(replay.bytes);
            });
        }
        resume.pass_ended(&mut |replay| given.extend_from_slice(replay.bytes));
        assert_eq!(String::from_utf8_lossy(&given), "three\nfour\n");
    }
}
