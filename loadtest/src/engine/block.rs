//! Blocks of the stream of a container, rendered once: only numbers and the words that filters
//! look for are written anew for each use, in place. One block serves all containers. Pure.

use crate::numbering::{MARK, MARKED, Number, Numbering, WORDS};
use crate::scenario::{Frames, Hits};

/// A block is about so large, and holds at least [`LINES_LEAST`] lines.
const BLOCK: usize = 64 * 1024;
const LINES_LEAST: usize = 8;
/// So many different blocks are used in turn: a processor learns the lengths of some hundred lines
/// that come again and again, and then looks faster than it is.
pub const VARIANTS: u64 = 8;
/// Bytes for the word that filters look for.
const SLOT: usize = 12;
const QUIET: &[u8; SLOT] = b"served      ";
/// The shortest line: mark, number, word, newline.
const LINE_LEAST: usize = MARKED + 1 + SLOT + 1;
/// What a frame begins with: stream, three zeros, length. See "Stream format" in the Engine API.
const HEADER: usize = 8;
/// `2006-01-02T15:04:05.999999999Z` and a blank.
pub const STAMP: usize = 31;

/// What is around the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrap {
    /// Nothing, as the attach door has it.
    Bare,
    /// Each frame is a chunk of the HTTP answer, as the logs door has it; with the time in front
    /// of each message on demand.
    Chunked {
        /// Whether the time was asked for.
        timestamps: bool,
    },
}

/// A place at which a write may end: after a whole frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Bytes of the block up to here.
    pub end: usize,
    /// Lines that are whole up to here.
    pub lines: usize,
}

/// A piece of a stream that begins and ends with a whole line.
pub struct Block {
    bytes: Vec<u8>,
    /// Where the number of each line stands.
    numbers: Vec<usize>,
    /// Where the time of each message stands.
    stamps: Vec<usize>,
    /// The class whose word each line holds.
    classes: Vec<u8>,
    cuts: Vec<Cut>,
    payload: usize,
    numbering: Numbering,
    /// For whom it was numbered last.
    current: Option<(u16, u64)>,
}

impl Block {
    /// Renders a block of lines of `mean` bytes. Variants differ in the order of their lines'
    /// lengths, and in their text.
    pub fn new(mean: u32, frames: Frames, hits: Hits, wrap: Wrap, variant: u64) -> Block {
        let lines = lines(mean as usize, variant);
        let mut block = Block {
            bytes: Vec::new(),
            numbers: Vec::new(),
            stamps: Vec::new(),
            classes: vec![0; lines.len()],
            cuts: Vec::new(),
            payload: lines.iter().map(Vec::len).sum(),
            numbering: Numbering::new(hits),
            current: None,
        };
        let mut done = 0;
        for (payload, lines) in payloads(&lines, frames) {
            done += lines;
            block.push(&payload, wrap);
            block.cuts.push(Cut { end: block.bytes.len(), lines: done });
        }
        block.numbers = memchr::memmem::find_iter(&block.bytes, MARK).map(|at| at + 4).collect();
        block
    }

    fn push(&mut self, payload: &[u8], wrap: Wrap) {
        let stamp = if wrap == (Wrap::Chunked { timestamps: true }) { STAMP } else { 0 };
        let message = stamp + payload.len();
        if wrap != Wrap::Bare {
            self.bytes.extend_from_slice(format!("{:x}\r\n", HEADER + message).as_bytes());
        }
        self.bytes.extend_from_slice(&[1, 0, 0, 0]);
        self.bytes.extend_from_slice(&(message as u32).to_be_bytes());
        if stamp > 0 {
            self.stamps.push(self.bytes.len());
            self.bytes.extend_from_slice(&[b' '; STAMP]);
        }
        self.bytes.extend_from_slice(payload);
        if wrap != Wrap::Bare {
            self.bytes.extend_from_slice(b"\r\n");
        }
    }

    /// Makes it the piece of `container` that begins with line `first`; `stamp` is the time of
    /// its messages.
    pub fn number(&mut self, container: u16, first: u64, stamp: &[u8; STAMP]) {
        if self.current.replace((container, first)) == Some((container, first)) {
            return;
        }
        for (index, at) in self.numbers.iter().enumerate() {
            let (class, sequence) = self.numbering.of(first + index as u64);
            let Some(text) = self.bytes[*at..].first_chunk_mut() else { continue };
            Number { container, class, sequence }.write(text);
            if std::mem::replace(&mut self.classes[index], class) != class {
                let word = *at + 17;
                self.bytes[word..word + SLOT].copy_from_slice(&slot(class));
            }
        }
        for at in &self.stamps {
            self.bytes[*at..*at + STAMP].copy_from_slice(stamp);
        }
    }

    /// As it goes over the wire.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its frames' ends, in order.
    pub fn cuts(&self) -> &[Cut] {
        &self.cuts
    }

    /// How many lines it has.
    pub fn lines(&self) -> usize {
        self.numbers.len()
    }

    /// Bytes of its lines, newlines included.
    pub fn payload(&self) -> usize {
        self.payload
    }
}

/// The word of a class, padded.
fn slot(class: u8) -> [u8; SLOT] {
    let Some(words) = usize::from(class).checked_sub(1).and_then(|at| WORDS.get(at)) else {
        return *QUIET;
    };
    let mut slot = [b' '; SLOT];
    for (place, byte) in slot.iter_mut().zip(words[0].bytes()) {
        *place = byte;
    }
    slot
}

/// Lines of half to one and a half times the mean length, evenly spread, shuffled by a fixed
/// xorshift: the same in every run.
fn lines(mean: usize, variant: u64) -> Vec<Vec<u8>> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64.rotate_left(variant as u32);
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize % below
    };
    let count = (BLOCK / mean.max(1)).max(LINES_LEAST);
    let least = (mean / 2).max(LINE_LEAST);
    let span = 2 * mean.saturating_sub(least);
    let mut lengths: Vec<usize> =
        (0..count).map(|at| least + (2 * at + 1) * span / (2 * count)).collect();
    for at in (1..count).rev() {
        lengths.swap(at, random(at + 1));
    }
    let words = ["GET", "/api/v1/items", "status=200", "took", "12ms", "user", "INFO", "cache"];
    let mut line = |len: usize| {
        let mut line = MARK.to_vec();
        line.extend_from_slice(b"0000:00:00000000 ");
        line.extend_from_slice(QUIET);
        while line.len() < len - 1 {
            line.push(b' ');
            line.extend_from_slice(words[random(words.len())].as_bytes());
        }
        line.truncate(len - 1);
        line.push(b'\n');
        line
    };
    lengths.into_iter().map(&mut line).collect()
}

/// What each frame holds, and how many lines end in it.
fn payloads(lines: &[Vec<u8>], frames: Frames) -> Vec<(Vec<u8>, usize)> {
    let per_frame = match frames {
        Frames::Line | Frames::Write => 1,
        Frames::Lines(count) => usize::from(count.max(1)),
        Frames::Cut(size) => return cut(lines, size as usize),
    };
    lines.chunks(per_frame).map(|lines| (lines.concat(), lines.len())).collect()
}

/// Frames of `size` bytes, or a few more where that would cut what is written anew in place.
fn cut(lines: &[Vec<u8>], size: usize) -> Vec<(Vec<u8>, usize)> {
    let (mut frames, mut frame, mut ends) = (Vec::new(), Vec::new(), 0);
    for line in lines {
        let mut rest = line.as_slice();
        while !rest.is_empty() {
            let begun = line.len() - rest.len();
            let room = size.saturating_sub(frame.len()).max(1);
            let whole = (LINE_LEAST - 1).saturating_sub(begun);
            let (now, later) = rest.split_at(room.max(whole).min(rest.len()));
            frame.extend_from_slice(now);
            rest = later;
            ends += usize::from(rest.is_empty());
            if frame.len() >= size {
                frames.push((std::mem::take(&mut frame), std::mem::take(&mut ends)));
            }
        }
    }
    if !frame.is_empty() {
        frames.push((frame, ends));
    }
    frames
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIME: &[u8; STAMP] = b"2026-01-02T03:04:05.000000006Z ";

    /// What a client reads: chunks, frames, times and lines told apart step by step.
    fn read(block: &Block, wrap: Wrap) -> (Vec<usize>, Vec<u8>) {
        let (mut rest, mut sizes, mut text) = (block.bytes(), Vec::new(), Vec::new());
        while !rest.is_empty() {
            let mut chunk = rest.len();
            if wrap != Wrap::Bare {
                let end = rest.windows(2).position(|two| two == b"\r\n").unwrap();
                let size = std::str::from_utf8(&rest[..end]).unwrap();
                chunk = usize::from_str_radix(size, 16).unwrap();
                rest = &rest[end + 2..];
            }
            assert_eq!(rest[..4], [1, 0, 0, 0]);
            let size = u32::from_be_bytes(rest[4..8].try_into().unwrap()) as usize;
            let mut payload = &rest[8..8 + size];
            rest = &rest[8 + size..];
            if wrap != Wrap::Bare {
                assert_eq!(chunk, 8 + size);
                rest = rest.strip_prefix(b"\r\n").unwrap();
            }
            if wrap == (Wrap::Chunked { timestamps: true }) {
                payload = payload.strip_prefix(TIME).unwrap();
            }
            sizes.push(payload.len());
            text.extend_from_slice(payload);
        }
        (sizes, text)
    }

    proptest! {
        #[test]
        fn a_block_is_what_the_naive_way_writes(
            mean in 40u32..600, shape in 0..4, every in 0u32..5, size in 1u32..700,
            wrap in 0..3, first in 0u64..1_000_000,
        ) {
            let lines = Frames::Lines(size as u16);
            let frames = [Frames::Line, Frames::Write, lines, Frames::Cut(size)][shape as usize];
            let wrap = [Wrap::Bare, Wrap::Chunked { timestamps: false },
                Wrap::Chunked { timestamps: true }][wrap as usize];
            let wrap = if let Frames::Cut(_) = frames { Wrap::Bare } else { wrap };
            let hits = Hits { every, classes: every.min(3) as u8 };
            let mut block = Block::new(mean, frames, hits, wrap, first % VARIANTS);
            block.number(9, 77, TIME); // what was there before does not show
            block.number(0x1ff, first, TIME);
            let (sizes, text) = read(&block, wrap);
            prop_assert_eq!(text.len(), block.payload());
            prop_assert_eq!(sizes.len(), block.cuts().len());
            let last = block.cuts().last().unwrap();
            prop_assert_eq!(*last, Cut { end: block.bytes().len(), lines: block.lines() });
            let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
            prop_assert_eq!(lines.len(), block.lines());
            for (index, line) in lines.iter().enumerate() {
                let (class, sequence) = Numbering::new(hits).of(first + index as u64);
                let word = class.checked_sub(1).map_or("served", |at| WORDS[usize::from(at)][0]);
                let head = format!("@lt=01ff:{class:02x}:{sequence:08x} {word:12}");
                prop_assert!(line.starts_with(head.as_bytes()), "{:?}", line);
                prop_assert!(line.ends_with(b"\n"));
            }
            let ends: Vec<usize> = text.iter().enumerate().filter(|(_, b)| **b == b'\n')
                .map(|(at, _)| at + 1).collect();
            let mut read = 0;
            for (size, cut) in sizes.iter().zip(block.cuts()) {
                read += size;
                prop_assert_eq!(ends.iter().filter(|end| **end <= read).count(), cut.lines);
            }
        }
    }

    #[test]
    fn the_mean_is_about_what_was_asked_for() {
        for mean in [60, 124, 500, 8192] {
            let block = Block::new(mean, Frames::Line, Hits::NONE, Wrap::Bare, 3);
            let is = block.payload() as f64 / block.lines() as f64;
            assert!((is / f64::from(mean) - 1.0).abs() < 0.02, "{mean}: {is}");
        }
    }

    #[test]
    fn quiet_lines_hold_no_word_that_a_filter_looks_for() {
        let mut block = Block::new(500, Frames::Line, Hits::NONE, Wrap::Bare, 3);
        block.number(0, 0, TIME);
        let text = String::from_utf8_lossy(block.bytes()).to_lowercase();
        for word in WORDS.iter().flatten() {
            assert!(!text.contains(&word.to_lowercase()), "{word}");
        }
    }
}
