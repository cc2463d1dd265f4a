//! Splits what a container writes into blocks of whole lines: views wherever possible.
//!
//! Pure. The only bytes that are copied are those of a line that the end of a piece cuts (once)
//! and those of a line that is longer than the limit. Memory of one [`Splitter`]: nothing until a
//! line is cut; then at most `max_line` bytes and a mark, and [`KEEP`] bytes between long lines.
//!
//! The oracle that unit tests, property tests and the fuzz target `split` compare with is in
//! `naive`; it exists in test and fuzz builds only (`--cfg fuzzing`, which cargo-fuzz sets too).

use memchr::{memchr, memrchr};

/// Stands at the end of every part but the last of a line that was too long, before the `\n`.
///
/// Whoever reads the lines of one container and source gets the line back by taking each part
/// without this mark and without its `\n`, together with the next part.
pub const CONTINUES: &[u8] = b" [logchute: line continues]";

/// Bytes of memory that a splitter keeps for the next cut line after a long one.
pub const KEEP: usize = 8 * 1024;

/// The splitter of one container and source.
///
/// A block that it hands out is one or more whole lines, each ended by `\n` and at most
/// `max_line` bytes long without it, [`CONTINUES`] excepted. Bytes are handed out verbatim, `\r`,
/// NUL and invalid UTF-8 included.
#[derive(Clone, Debug)]
pub struct Splitter {
    /// The line that has no end yet; at most `max_line` bytes between pushes.
    carry: Vec<u8>,
    max_line: usize,
    /// Whether the line that goes on is one of which parts have been handed out (and counted).
    in_parts: bool,
    cut_lines: u64,
}

impl Splitter {
    /// `max_line`: the most bytes of a line before its `\n`; at least 1, and 0 is taken as 1.
    pub fn new(max_line: usize) -> Splitter {
        Splitter { carry: Vec::new(), max_line: max_line.max(1), in_parts: false, cut_lines: 0 }
    }

    /// How many bytes there are of a line that has no end yet; `None` where parts of it were handed
    /// out.
    pub fn unfinished(&self) -> Option<usize> {
        (!self.in_parts).then_some(self.carry.len())
    }

    /// Whether `other` holds the same beginning of a line.
    pub fn is_level_with(&self, other: &Splitter) -> bool {
        (self.in_parts, &self.carry) == (other.in_parts, &other.carry)
    }

    /// Hands out the lines that end in `piece`, which is the next bytes of the stream, in blocks.
    ///
    /// A line of more than `max_line` bytes is handed out in parts, each as soon as it is known
    /// not to be the last and ended by [`CONTINUES`]. It is cut before a character of UTF-8 where
    /// there is one to be found in the last 4 bytes, so a part may be 3 bytes short of the limit.
    #[inline]
    pub fn push(&mut self, piece: &[u8], out: &mut impl FnMut(&[u8])) {
        if self.passes(piece) {
            return out(piece);
        }
        self.push_cut(piece, out);
    }

    /// Whether `piece`, if it were pushed now, would be handed out as it is: one line or many,
    /// nothing before and nothing after. The usual case by far; then it need not be pushed.
    #[inline]
    pub fn passes(&self, piece: &[u8]) -> bool {
        self.carry.is_empty() && piece.len() <= self.max_line && piece.last() == Some(&b'\n')
    }

    /// Hands out the unterminated last line, if there is one, with a `\n` of our own.
    pub fn finish(&mut self, out: &mut impl FnMut(&[u8])) {
        if !self.carry.is_empty() {
            self.end_carried(&[], out);
            self.give_back();
        }
    }

    /// Whether all that was pushed has been handed out.
    pub fn is_empty(&self) -> bool {
        self.carry.is_empty()
    }

    /// How many bytes wait for the end of their line; at most `max_line`.
    pub fn pending(&self) -> usize {
        self.carry.len()
    }

    /// How many lines have been cut since this was last asked; each line counts once, when its
    /// first part is handed out.
    pub fn take_cut_lines(&mut self) -> u64 {
        std::mem::take(&mut self.cut_lines)
    }

    fn push_cut(&mut self, piece: &[u8], out: &mut impl FnMut(&[u8])) {
        let rest = if self.carry.is_empty() { piece } else { self.resume(piece, out) };
        self.whole_lines(rest, out);
        self.give_back();
    }

    /// Goes on with the carried line; returns what follows in `piece`: the next line, or the rest
    /// of this one where its parts have used up the carry. Either way the carry is empty then,
    /// unless `piece` is used up.
    fn resume<'a>(&mut self, piece: &'a [u8], out: &mut impl FnMut(&[u8])) -> &'a [u8] {
        let end = memchr(b'\n', piece);
        let (mut line, after) = piece.split_at(end.unwrap_or(piece.len()));
        while self.carry.len() + line.len() > self.max_line {
            line = self.carried_part(line, out);
            if self.carry.is_empty() {
                // `line` is what `piece` still holds of it: the rest needs no carry.
                return &piece[piece.len() - after.len() - line.len()..];
            }
        }
        if end.is_none() {
            self.carry_on(line);
            return &[];
        }
        self.end_carried(line, out);
        after.get(1..).unwrap_or_default()
    }

    /// Hands out the first part of the line that is the carry and then `line`, together longer
    /// than `max_line`; returns what remains of `line`. What remains of the carry stays there.
    fn carried_part<'a>(&mut self, line: &'a [u8], out: &mut impl FnMut(&[u8])) -> &'a [u8] {
        let before = self.carry.len();
        self.carry_on(&line[..self.max_line + 1 - before]);
        let cut = cut_point(&self.carry);
        self.carry.truncate(cut.max(before));
        let left = self.carry.len() - cut;
        self.carry_on(CONTINUES);
        self.carry_on(b"\n");
        // The mark goes before what is left, of which there are at most 3 bytes.
        self.carry[cut..].rotate_left(left);
        let part = self.carry.len() - left;
        self.count_part();
        out(&self.carry[..part]);
        self.carry.drain(..part);
        &line[cut.saturating_sub(before)..]
    }

    /// Hands out the carried line, which ends with `end`.
    fn end_carried(&mut self, end: &[u8], out: &mut impl FnMut(&[u8])) {
        self.carry_on(end);
        self.carry_on(b"\n");
        out(&self.carry);
        self.carry.clear();
        self.in_parts = false;
    }

    /// Hands out the lines of `piece` as views, in blocks as long as can be, and carries what is
    /// after the last. The carry is empty before, or `piece` is.
    fn whole_lines(&mut self, piece: &[u8], out: &mut impl FnMut(&[u8])) {
        // Lines from `block` to `at` are of good length and not yet handed out.
        let (mut block, mut at) = (0, 0);
        while piece.len() - at > self.max_line {
            // Any line that ends in this window is short enough.
            let window = &piece[at..=at + self.max_line];
            if let Some(last) = memrchr(b'\n', window) {
                self.in_parts = false;
                at += last + 1;
                continue;
            }
            if block < at {
                out(&piece[block..at]);
            }
            let (part, _) = window.split_at(cut_point(window));
            self.carry_on(part);
            self.carry_on(CONTINUES);
            self.carry_on(b"\n");
            self.count_part();
            out(&self.carry);
            self.carry.clear();
            at += part.len();
            block = at;
        }
        if let Some(last) = memrchr(b'\n', &piece[at..]) {
            self.in_parts = false;
            at += last + 1;
        }
        if block < at {
            out(&piece[block..at]);
        }
        self.carry_on(&piece[at..]);
    }

    /// Counts the line, with its first part only.
    fn count_part(&mut self) {
        self.cut_lines += u64::from(!self.in_parts);
        self.in_parts = true;
    }

    /// Appends to the carry. It grows by doubling, but not beyond what a part may take.
    fn carry_on(&mut self, bytes: &[u8]) {
        let len = self.carry.len() + bytes.len();
        if len > self.carry.capacity() {
            let most = self.max_line.saturating_add(CONTINUES.len() + 1);
            let capacity = (self.carry.capacity() * 2).clamp(64, 64.max(most)).max(len);
            self.carry.reserve_exact(capacity - self.carry.len());
        }
        self.carry.extend_from_slice(bytes);
    }

    /// Gives back the memory of a long line once it is gone.
    fn give_back(&mut self) {
        if self.carry.capacity() > KEEP && self.carry.len() <= KEEP {
            self.carry.shrink_to(KEEP);
        }
    }
}

/// Where to cut a line of which `window` is the first `max_line + 1` bytes: before the last
/// character of UTF-8 that begins in its last 4 bytes, or else at the limit. Never 0.
fn cut_point(window: &[u8]) -> usize {
    let full = window.len() - 1;
    let continues = |&byte: &u8| byte & 0b1100_0000 == 0b1000_0000;
    let back = window.iter().rev().take(4).take_while(|byte| continues(byte)).count();
    if back > 3 || back >= full { full } else { full - back }
}

/// The slow, obviously right way, and the comparison with it. In test and fuzz builds only.
#[cfg(any(test, fuzzing))]
pub mod naive {
    use super::{CONTINUES, Splitter};
    use crate::docker::frame::naive::cut;

    /// All lines of a stream, byte by byte.
    #[derive(Debug, Default)]
    pub struct Lines {
        /// The lines that were handed out, each with its `\n`.
        pub out: Vec<u8>,
        /// The line that has no end yet.
        pub line: Vec<u8>,
        /// How many lines were cut.
        pub cut_lines: u64,
        in_parts: bool,
    }

    impl Lines {
        /// Takes the next byte.
        pub fn push(&mut self, byte: u8, max_line: usize) {
            if byte == b'\n' {
                self.out.append(&mut self.line);
                self.out.push(b'\n');
                self.in_parts = false;
                return;
            }
            self.line.push(byte);
            if self.line.len() <= max_line {
                return;
            }
            let begins_character = |at: &usize| !(0x80..0xC0).contains(&self.line[*at]);
            let lowest = max_line.saturating_sub(3).max(1);
            let at = (lowest..=max_line).rev().find(begins_character).unwrap_or(max_line);
            self.out.extend(self.line.drain(..at));
            self.out.extend_from_slice(CONTINUES);
            self.out.push(b'\n');
            if !self.in_parts {
                self.cut_lines += 1;
            }
            self.in_parts = true;
        }
    }

    /// Panics unless [`Splitter`], fed `stream` in pieces of the given sizes, does as [`Lines`].
    pub fn compare(stream: &[u8], sizes: &[u8], max_line: usize) {
        let mut expected = Lines::default();
        stream.iter().for_each(|&byte| expected.push(byte, max_line));

        let mut got = Vec::new();
        let mut take = |block: &[u8]| {
            assert_eq!(block.last(), Some(&b'\n'), "a block that does not end with a line");
            got.extend_from_slice(block);
        };
        let mut splitter = Splitter::new(max_line);
        for piece in cut(stream, sizes) {
            splitter.push(piece, &mut take);
            assert!(splitter.pending() <= max_line);
            assert!(splitter.carry.capacity() <= (max_line + CONTINUES.len() + 1).max(64));
        }
        assert_eq!(splitter.carry, expected.line);
        assert_eq!(splitter.take_cut_lines(), expected.cut_lines);
        splitter.finish(&mut take);
        assert!(splitter.is_empty());
        assert_eq!(splitter.take_cut_lines(), 0);
        if !expected.line.is_empty() {
            expected.push(b'\n', max_line);
        }
        assert_eq!(got, expected.out);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The blocks that come out, as text, and the splitter after it.
    fn split(max_line: usize, pieces: &[&str]) -> (Vec<String>, Splitter) {
        let mut splitter = Splitter::new(max_line);
        let mut blocks = Vec::new();
        let mut take = |block: &[u8]| blocks.push(String::from_utf8_lossy(block).into_owned());
        for piece in pieces {
            splitter.push(piece.as_bytes(), &mut take);
        }
        (blocks, splitter)
    }

    #[test]
    fn whole_lines_are_one_view_of_the_piece() {
        let mut splitter = Splitter::new(64);
        for (piece, lines) in [(&b"a\nb\r\n\n"[..], 6), (b"c\n", 2), (b"d\nrest", 2)] {
            let mut views = Vec::new();
            splitter.push(piece, &mut |block| views.push((block.as_ptr(), block.len())));
            assert_eq!(views, [(piece.as_ptr(), lines)]);
        }
        assert_eq!(splitter.pending(), 4);
    }

    #[test]
    fn a_splitter_that_never_cuts_allocates_nothing() {
        let (blocks, splitter) = split(64, &["a\n", "", "b\nc\n"]);
        assert_eq!(blocks, ["a\n", "b\nc\n"]);
        assert_eq!(splitter.carry.capacity(), 0);
    }

    #[test]
    fn a_line_cut_by_pieces_comes_out_once_whole() {
        let (blocks, splitter) = split(64, &["a\nbe", "", "gin", " end\nc\nd"]);
        assert_eq!(blocks, ["a\n", "begin end\n", "c\n"]);
        assert_eq!((splitter.pending(), splitter.is_empty()), (1, false));
    }

    #[test]
    fn the_last_line_gets_its_newline_at_the_end() {
        let (mut blocks, mut splitter) = split(64, &["a\nrest"]);
        let mut take = |block: &[u8]| blocks.push(String::from_utf8_lossy(block).into_owned());
        splitter.finish(&mut take);
        splitter.finish(&mut take);
        assert_eq!(blocks, ["a\n", "rest\n"]);
        assert!(splitter.is_empty());
    }

    #[test]
    fn a_line_of_exactly_the_limit_is_not_cut() {
        for pieces in [&["abcd\nabcd\n"][..], &["ab", "cd\nabc", "d\n"], &["abcd", "\nabcd", "\n"]]
        {
            let (blocks, mut splitter) = split(4, pieces);
            assert_eq!(blocks.concat(), "abcd\nabcd\n");
            assert_eq!(splitter.take_cut_lines(), 0);
        }
    }

    #[test]
    fn a_longer_line_is_cut_into_marked_parts_and_counted_once() {
        let text = "ok\nabcdefghij\nok\nabcde";
        let expected = "ok\nabcd [logchute: line continues]\nefgh [logchute: line continues]\n\
                        ij\nok\nabcd [logchute: line continues]\n";
        for at in 0..=text.len() {
            let (blocks, mut splitter) = split(4, &[&text[..at], &text[at..]]);
            assert_eq!(blocks.concat(), expected, "cut at {at}");
            assert_eq!(splitter.take_cut_lines(), 2, "cut at {at}");
            assert_eq!(splitter.take_cut_lines(), 0);
            assert_eq!(splitter.pending(), 1);
        }
    }

    #[test]
    fn a_part_goes_out_as_soon_as_it_is_full() {
        assert_eq!(split(4, &["abcd"]).0, [""; 0]);
        assert_eq!(split(4, &["abcd", "e"]).0, ["abcd [logchute: line continues]\n"]);
        assert_eq!(split(4, &["abcde"]).0, ["abcd [logchute: line continues]\n"]);
    }

    #[test]
    fn characters_stay_whole() {
        let expected = "a€ [logchute: line continues]\n€b [logchute: line continues]\n😀\n";
        let text = "a€€b😀\n".as_bytes();
        for at in 0..=text.len() {
            let mut splitter = Splitter::new(6);
            let mut all = Vec::new();
            splitter.push(&text[..at], &mut |block| all.extend_from_slice(block));
            splitter.push(&text[at..], &mut |block| all.extend_from_slice(block));
            assert_eq!(String::from_utf8_lossy(&all), expected, "cut at {at}");
        }
        // A character longer than the limit, and bytes that are no character, are cut all the same.
        naive::compare("😀😀\n".as_bytes(), &[3, 2], 1);
        naive::compare(&[0x80; 40], &[3, 2, 9], 7);
    }

    #[test]
    fn the_memory_of_a_long_line_is_given_back() {
        let long = "x".repeat(1 << 20);
        let (_, splitter) = split(1 << 20, &["a", &long[1..]]);
        assert_eq!(splitter.pending(), 1 << 20);
        assert!(splitter.carry.capacity() <= (1 << 20) + CONTINUES.len() + 1);

        let (blocks, splitter) = split(1 << 20, &["a", &long[1..], "\nb"]);
        assert_eq!(blocks.concat().len(), (1 << 20) + 1);
        assert!((1..=KEEP).contains(&splitter.carry.capacity()));

        let (_, mut splitter) = split(1 << 20, &["a", &long[1..]]);
        splitter.finish(&mut |_| ());
        assert!(splitter.carry.capacity() <= KEEP);
    }

    #[test]
    fn a_limit_of_nothing_is_a_limit_of_one() {
        let (blocks, _) = split(0, &["ab\n"]);
        assert_eq!(blocks.concat(), "a [logchute: line continues]\nb\n");
    }

    proptest! {
        #[test]
        fn lines_cut_anywhere_are_as_the_naive_way_splits_them(
            stream in prop::collection::vec(
                prop_oneof![
                    2 => Just(vec![b'\n']),
                    4 => prop::collection::vec(any::<u8>(), 1..6),
                    4 => "[a-z€😀é]{1,12}".prop_map(String::into_bytes),
                    1 => prop::collection::vec(0x80u8..0xC0, 1..9),
                ],
                0..40,
            ),
            sizes in prop::collection::vec(0u8..40, 0..40),
            max_line in prop_oneof![1usize..24, Just(200usize), Just(1 << 20)],
        ) {
            naive::compare(&stream.concat(), &sizes, max_line);
        }
    }
}
