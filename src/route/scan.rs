//! Looks for words of many patterns in many lines, in one pass.
//!
//! Pure. A read is looked through as a whole, headers of frames included; only where a word is
//! found are the ends of its line looked for. On CPUs with AVX2 this is Teddy (Geoffrey Langdale's
//! algorithm) in two steps: 64 places at once are compared with four bytes of each word (six where
//! four tell too little) by the low halves of these bytes, in eight buckets, and of the few vectors
//! with a place that is left the high halves are compared too. Elsewhere, and for words it is not
//! good at, it is the Aho-Corasick automaton of the crate of that name.

use std::ops::Range;

use aho_corasick::{AhoCorasick, Input, MatchKind};
use memchr::{memchr, memrchr};

use super::arrange::arrange;
use super::words::{self, Word};
use crate::lines::blocks::Blocks;
use crate::sys::simd::{Avx2, Vector, WIDTH};

/// Bytes of a word that Teddy looks at, and where by these it stops more often than at so many of
/// all places: two bytes more cost a line of 124 B 24 instructions, a stop about 100.
const SHORT: usize = 4;
const LONG: usize = 6;
const OFTEN: f64 = 0.002;
/// Places that its first step decides together, and the bytes that takes.
const STEP: usize = 2 * WIDTH;
const STEP_BYTES: usize = STEP + LONG - 1;
/// More words are many.
const FEW: usize = 12;
/// Most words for Teddy: with more in its eight buckets it stops nearly everywhere.
pub(super) const TEDDY_WORDS: usize = 32;
/// Most spellings of them.
const TEDDY_ENTRIES: usize = 255;
/// Shortest word that can be one of many for Teddy, and one of few.
pub(super) const TEDDY_SHORTEST: usize = 3;
const TEDDY_SHORTEST_FEW: usize = 2;
const BUCKETS: usize = 8;

/// A set of patterns, a bit each.
pub(super) type Patterns = u64;

/// The words of up to 64 patterns.
#[derive(Debug)]
pub(super) struct Scan {
    finder: Finder,
}

#[derive(Debug)]
enum Finder {
    Teddy(Avx2, Box<Teddy>),
    Automaton(Box<AhoCorasick>, Vec<Entry>),
}

impl Scan {
    /// Looks for `words`, each with the patterns it belongs to. None is empty or contains `\n`.
    /// `None` where that cannot be done.
    pub(super) fn new(words: &[(Word, Patterns)]) -> Option<Scan> {
        let count = words::count(words.iter().map(|(word, _)| word));
        let shortest = words.iter().map(|(word, _)| word.bytes().len()).min().unwrap_or(usize::MAX);
        let least = if count <= FEW { TEDDY_SHORTEST_FEW } else { TEDDY_SHORTEST };
        // Of shorter words too little is looked at to tell places apart.
        let suits = count <= TEDDY_WORDS && words.len() <= TEDDY_ENTRIES && shortest >= least;
        let entries = words.iter().map(Entry::new).collect();
        let finder = match Avx2::detect().filter(|_| suits) {
            Some(avx2) => Finder::Teddy(avx2, Box::new(Teddy::new(entries))),
            None => Finder::Automaton(Box::new(automaton(&entries)?), entries),
        };
        Some(Scan { finder })
    }

    /// Calls `on` for each line of `lines` with words of some of the `wanted` patterns: with those
    /// patterns, and where the line lies in the buffer, its `\n` included. A line may come more
    /// than once, each time with other patterns; lines come in their order. `lines` are blocks of
    /// whole lines; should the last `\n` be missing, what follows the last one is a line.
    #[inline]
    pub(super) fn each_line(
        &self,
        lines: Blocks<'_>,
        wanted: Patterns,
        on: impl FnMut(Patterns, Range<usize>),
    ) {
        if wanted.is_power_of_two() {
            self.each_line_of(Found::<true>::new(lines, wanted), on);
        } else {
            self.each_line_of(Found::<false>::new(lines, wanted), on);
        }
    }

    #[inline]
    fn each_line_of<const ONE: bool>(
        &self,
        found: Found<'_, ONE>,
        on: impl FnMut(Patterns, Range<usize>),
    ) {
        match &self.finder {
            Finder::Teddy(avx2, teddy) => match (teddy.long, teddy.full) {
                (false, SHORT..) if !teddy.others => {
                    by_teddy::<SHORT, SHORT, ONE>(*avx2, teddy, found, on);
                }
                (false, _) => by_teddy::<SHORT, TEDDY_SHORTEST_FEW, ONE>(*avx2, teddy, found, on),
                (true, SHORT..) => by_teddy::<LONG, SHORT, ONE>(*avx2, teddy, found, on),
                (true, _) => by_teddy::<LONG, TEDDY_SHORTEST_FEW, ONE>(*avx2, teddy, found, on),
            },
            Finder::Automaton(automaton, entries) => by_automaton(automaton, entries, found, on),
        }
    }
}

fn by_automaton<const ONE: bool>(
    automaton: &AhoCorasick,
    entries: &[Entry],
    mut found: Found<'_, ONE>,
    mut on: impl FnMut(Patterns, Range<usize>),
) {
    let (text, mut from) = found.text();
    while let Some(candidate) = automaton.find(Input::new(text).range(from..)) {
        let at = candidate.start();
        from = at + 1;
        if !found.go_to(at) {
            continue;
        }
        let begins = entries.iter().filter(|entry| entry.word.begins(&text[at..]));
        let words = begins.fold(0, |patterns, entry| patterns | entry.begin.patterns);
        let Some(hit) = found.undecided(words, at) else { continue };
        if found.is_new(at) {
            let from = found.line_from();
            let start = memrchr(b'\n', &text[from..at]).map_or(from, |at| from + at + 1);
            let end = memchr(b'\n', &text[at..]);
            found.set_line(start..end.map_or(text.len(), |end| at + end + 1));
        }
        if found.decide(hit, &mut on) {
            from = found.line.end;
        }
    }
}

#[inline(never)]
fn by_teddy<const P: usize, const FULL: usize, const ONE: bool>(
    avx2: Avx2,
    teddy: &Teddy,
    mut found: Found<'_, ONE>,
    mut on: impl FnMut(Patterns, Range<usize>),
) {
    let (text, from) = found.text();
    avx2.run(
        #[inline(always)]
        move || {
            let mut candidates = Candidates::<P, FULL>::new(avx2, teddy, text, from);
            while let Some((at, buckets)) = candidates.next() {
                if !found.go_to(at) {
                    continue;
                }
                let words = teddy.words(buckets, text, at, found.block.start);
                let Some(hit) = found.undecided(words, at) else { continue };
                if found.is_new(at) {
                    found.set_line(line_around(avx2, text, at, found.line_from()));
                }
                if found.decide(hit, &mut on) {
                    candidates.skip_to(found.line.end);
                }
            }
        },
    );
}

/// The line of `text` with the byte at `at`; it begins at `from`, where a line begins, or behind
/// it. Where every line has a hit it is the next one, and its end is looked for alone.
#[inline(always)]
fn line_around(avx2: Avx2, text: &[u8], at: usize, from: usize) -> Range<usize> {
    let next = text.get(from..).and_then(|rest| avx2.find(b'\n', rest));
    let end = next.map_or(text.len(), |newline| from + newline + 1);
    if at < end { from..end } else { line_behind(avx2, text, at, end) }
}

/// The same, where that is another line; one ends at `from`.
#[inline(never)]
fn line_behind(avx2: Avx2, text: &[u8], at: usize, from: usize) -> Range<usize> {
    avx2.run(
        #[inline(always)]
        || {
            let start = avx2.rfind(b'\n', &text[..at], from).map_or(from, |newline| newline + 1);
            let end = avx2.find(b'\n', &text[at..]);
            start..end.map_or(text.len(), |newline| at + newline + 1)
        },
    )
}

/// A word, and what is known of it beforehand.
#[derive(Debug)]
struct Entry {
    word: Word,
    /// Where in the word the bytes are that Teddy looks for: at its beginning, where they are rare
    /// if buckets are shared, or at the first byte that is not ASCII. Such bytes are rare, and the
    /// bucket of the words that have one hardly ever stops.
    offset: usize,
    /// The word from there on.
    begin: Begin,
    /// Whether that is all of the word.
    whole: bool,
}

/// Bytes that are compared at once.
const NUMBER: usize = size_of::<u64>();

/// A part of a word in a form that is quickly compared, and the patterns that the word belongs to.
#[derive(Clone, Debug, Default)]
struct Begin {
    /// Eight bytes as a number, little endian; where the word has fewer, 0.
    bytes: u64,
    /// For each of them: what it does not matter whether the text has set.
    folds: u64,
    /// For each of them: whether it is compared at all.
    cares: u64,
    patterns: Patterns,
}

impl Begin {
    fn new(word: &Word, from: usize, patterns: Patterns) -> Begin {
        let number = |byte: &dyn Fn([u8; 2]) -> u8| {
            u64::from_le_bytes(std::array::from_fn(|at| word.at(from + at).map_or(0, byte)))
        };
        Begin {
            bytes: number(&|[lower, _]| lower),
            folds: number(&|[lower, upper]| lower ^ upper),
            cares: number(&|_| u8::MAX),
            patterns,
        }
    }

    /// The patterns if this is in `text`, else none.
    #[inline(always)]
    fn found_in(&self, text: u64) -> Patterns {
        if (text | self.folds) & self.cares == self.bytes { self.patterns } else { 0 }
    }
}

impl Entry {
    fn new((word, patterns): &(Word, Patterns)) -> Entry {
        let offset = word.bytes().iter().position(|b| !b.is_ascii()).unwrap_or(0);
        Entry::at(word.clone(), *patterns, offset)
    }

    fn at(word: Word, patterns: Patterns, offset: usize) -> Entry {
        Entry {
            begin: Begin::new(&word, offset, patterns),
            whole: offset == 0 && word.bytes().len() <= NUMBER,
            offset,
            word,
        }
    }

    /// Whether the word is of ASCII.
    fn is_ascii(&self) -> bool {
        self.word.bytes().is_ascii()
    }

    /// Whether the word is in `text`, its bytes from `offset` on at `at`, and does not begin before
    /// `from`.
    #[inline(never)]
    fn is_at(&self, text: &[u8], at: usize, from: usize) -> bool {
        let start = at.checked_sub(self.offset).filter(|start| *start >= from);
        start.is_some_and(|start| self.word.begins(&text[start..]))
    }
}

/// An automaton that stops wherever one of the words may begin.
fn automaton(entries: &[Entry]) -> Option<AhoCorasick> {
    let folds = entries.iter().any(|entry| entry.word.folds());
    let mut builder = AhoCorasick::builder();
    builder.ascii_case_insensitive(folds).match_kind(MatchKind::LeftmostFirst);
    builder.build(entries.iter().map(|entry| entry.word.bytes())).ok()
}

/// What has been found so far in the order of the text. If only `ONE` pattern is wanted, a line is
/// done with its first word.
struct Found<'a, const ONE: bool> {
    lines: Blocks<'a>,
    /// The first block that ends behind all that was looked at, and the number of the next.
    block: Range<usize>,
    next: usize,
    /// The last line in which a word was found, and the patterns that are done with it.
    line: Range<usize>,
    decided: Patterns,
    wanted: Patterns,
}

impl<'a, const ONE: bool> Found<'a, ONE> {
    fn new(lines: Blocks<'a>, wanted: Patterns) -> Self {
        Found { lines, next: 0, block: 0..0, line: 0..0, decided: 0, wanted }
    }

    /// The buffer as far as it has blocks, and where the first of them begins. Places are those of
    /// the buffer. No word goes over the end of a block, which is the end of a line.
    fn text(&self) -> (&'a [u8], usize) {
        let Range { start, end } = self.lines.span();
        (&self.lines.buffer()[..end], start)
    }

    /// Goes on at the place `at`, which is not before where it was; says whether that is in a
    /// block: between two of them there is no line.
    #[inline(always)]
    fn go_to(&mut self, at: usize) -> bool {
        while self.block.end <= at {
            let Some(block) = self.lines.place(self.next) else { return false };
            self.block = block;
            self.next += 1;
        }
        self.block.start <= at
    }

    /// The patterns of `words`, found at `at`, that are still to be decided for the line.
    #[inline(always)]
    fn undecided(&self, words: Patterns, at: usize) -> Option<Patterns> {
        let decided = if self.is_new(at) { 0 } else { self.decided };
        let hit = words & self.wanted & !decided;
        (hit != 0).then_some(hit)
    }

    /// Whether `at`, which was not skipped, is in another line than what was found last.
    #[inline(always)]
    fn is_new(&self, at: usize) -> bool {
        ONE || at >= self.line.end
    }

    /// Where the line with a new word begins, at the earliest.
    #[inline(always)]
    fn line_from(&self) -> usize {
        self.block.start.max(self.line.end)
    }

    /// A word was found in this line, as far as newlines tell.
    #[inline(always)]
    fn set_line(&mut self, line: Range<usize>) {
        self.line = line.start..line.end.min(self.block.end);
        self.decided = 0;
    }

    /// Reports a hit in the line; says whether it was the last that matters there.
    #[inline(always)]
    fn decide(&mut self, hit: Patterns, on: &mut impl FnMut(Patterns, Range<usize>)) -> bool {
        self.decided |= hit;
        let last = ONE || self.wanted & !self.decided == 0;
        on(hit, self.line.clone());
        last
    }
}

/// Teddy's tables.
#[derive(Debug)]
struct Teddy {
    /// For each byte that it looks at: the buckets with a word of ASCII that may have this low half
    /// there, and those with any word that may have this high half.
    low: [[u8; 16]; LONG],
    high: [[u8; 16]; LONG],
    /// The same by the low half for the bucket of the words that are not ASCII, if there are any;
    /// of the others nothing is known here.
    low_others: [[u8; 16]; LONG],
    buckets: [Vec<Entry>; BUCKETS],
    /// Of a bucket with just one word, which one comparison decides: that word.
    only: [Only; BUCKETS],
    /// Whether there are words that are not ASCII.
    others: bool,
    /// So many bytes have all words of ASCII, at least.
    full: usize,
    /// Whether [`LONG`] bytes are looked at rather than [`SHORT`].
    long: bool,
    /// Whether there are more words than buckets.
    crowded: bool,
}

/// The bucket of words that are not ASCII: its bit is the one that tells their bytes.
const OTHERS: u8 = 0x80;

/// A word by itself, and the set of its bucket alone; the empty set if there is no such word.
#[derive(Debug, Default)]
struct Only {
    begin: Begin,
    buckets: u8,
}

impl Teddy {
    fn new(entries: Vec<Entry>) -> Teddy {
        let crowded = entries.len() > BUCKETS;
        let (ascii, others): (Vec<_>, Vec<_>) = entries.into_iter().partition(Entry::is_ascii);
        let shortest = ascii.iter().map(|entry| entry.word.bytes().len()).min();
        let has_others = !others.is_empty();
        let (buckets, long) = buckets(ascii, others);
        let mut teddy = Teddy {
            low: [[0; 16]; LONG],
            high: [[0; 16]; LONG],
            low_others: [[if has_others { !OTHERS } else { u8::MAX }; 16]; LONG],
            others: has_others,
            full: shortest.unwrap_or(LONG),
            long,
            crowded,
            buckets,
            only: Default::default(),
        };
        for bucket in 0..BUCKETS {
            for entry in &teddy.buckets[bucket] {
                let low = match entry.is_ascii() {
                    true => &mut teddy.low,
                    false => &mut teddy.low_others,
                };
                enter(low, &mut teddy.high, entry, 1 << bucket);
            }
            if let [Entry { begin, whole: true, .. }] = &teddy.buckets[bucket][..] {
                teddy.only[bucket] = Only { begin: begin.clone(), buckets: 1 << bucket };
            }
        }
        teddy
    }

    /// The patterns of words in some buckets, those that have what Teddy looks at in them at `at`
    /// and do not begin before `from`.
    #[inline(always)]
    fn words(&self, buckets: u8, text: &[u8], at: usize, from: usize) -> Patterns {
        let only = &self.only[buckets.trailing_zeros() as usize % BUCKETS];
        match text.get(at..).and_then(<[u8]>::first_chunk) {
            Some(bytes) if only.buckets == buckets => {
                only.begin.found_in(u64::from_le_bytes(*bytes))
            }
            _ => self.any_words(buckets, text, at, from),
        }
    }

    /// The same, where it takes more than one comparison.
    #[inline(never)]
    fn any_words(&self, buckets: u8, text: &[u8], at: usize, from: usize) -> Patterns {
        let bytes = text.get(at..).and_then(<[u8]>::first_chunk);
        let number = bytes.map(|bytes| u64::from_le_bytes(*bytes));
        let (mut buckets, mut found) = (buckets, 0);
        while let Some(entries) = self.buckets.get(buckets.trailing_zeros() as usize) {
            for entry in entries {
                let patterns = number.map_or(entry.begin.patterns, |n| entry.begin.found_in(n));
                let whole = entry.whole && number.is_some();
                if patterns != 0 && (whole || entry.is_at(text, at, from)) {
                    found |= patterns;
                }
            }
            buckets &= buckets - 1;
        }
        found
    }
}

/// Enters the bytes of a word that are looked at into the tables.
fn enter(low: &mut [[u8; 16]; LONG], high: &mut [[u8; 16]; LONG], entry: &Entry, bucket: u8) {
    for at in 0..LONG {
        let (low, high) = (&mut low[at], &mut high[at]);
        match entry.word.at(entry.offset + at) {
            Some(bytes) => {
                for byte in bytes {
                    low[usize::from(byte & 0xf)] |= bucket;
                    high[usize::from(byte >> 4)] |= bucket;
                }
            }
            // The word is shorter: anything may follow.
            None => low.iter_mut().chain(high).for_each(|entry| *entry |= bucket),
        }
    }
}

/// The words of ASCII in buckets, one each if these suffice; the others in one of their own, the
/// last. And whether the longer look at them is needed.
fn buckets(ascii: Vec<Entry>, others: Vec<Entry>) -> ([Vec<Entry>; BUCKETS], bool) {
    let count = BUCKETS - usize::from(!others.is_empty());
    let mut buckets: [Vec<Entry>; BUCKETS] = Default::default();
    let mut long = false;
    if ascii.len() <= count {
        buckets.iter_mut().zip(ascii).for_each(|(bucket, entry)| bucket.push(entry));
    } else {
        let words: Vec<Word> = ascii.iter().map(|entry| entry.word.clone()).collect();
        let (mut places, stops) = arrange::<SHORT>(&words, count);
        long = stops > OFTEN;
        if long {
            (places, _) = arrange::<LONG>(&words, count);
        }
        for (entry, place) in ascii.into_iter().zip(places) {
            let entry = Entry::at(entry.word, entry.begin.patterns, place.offset);
            buckets[place.bucket].push(entry);
        }
    }
    if !others.is_empty() {
        buckets[BUCKETS - 1] = others;
    }
    (buckets, long)
}

/// The places of a text where a word may be, in their order. `P` bytes of each word are looked at,
/// of which all words of ASCII have the first `FULL`. Where these are all, there are no others.
struct Candidates<'a, const P: usize, const FULL: usize> {
    avx2: Avx2,
    teddy: &'a Teddy,
    low: [Vector; P],
    high: [Vector; P],
    /// What of a byte says that it may be the first of a word in the bucket of the others.
    others: Vector,
    text: &'a [u8],
    /// Where the last vector with such places begins, and the first that was not looked at.
    at: usize,
    next: usize,
    /// The places of the last vector that have not been handed out, and the buckets of all.
    left: u32,
    buckets: [u8; WIDTH],
}

impl<'a, const P: usize, const FULL: usize> Candidates<'a, P, FULL> {
    #[inline(always)]
    fn new(avx2: Avx2, teddy: &'a Teddy, text: &'a [u8], next: usize) -> Self {
        let vectors = |tables: &[[u8; 16]; LONG]| {
            let mut vectors = [avx2.splat(0); P];
            for at in 0..P {
                vectors[at] = avx2.twice(&tables[at]);
            }
            vectors
        };
        let (low, high) = (vectors(&teddy.low), vectors(&teddy.high));
        let others = avx2.splat(if teddy.others { OTHERS } else { 0 });
        let buckets = [0; WIDTH];
        Candidates { avx2, teddy, low, high, others, text, at: next, next, left: 0, buckets }
    }

    /// The next place, and the buckets that may have a word there.
    #[inline(always)]
    fn next(&mut self) -> Option<(usize, u8)> {
        while self.left == 0 {
            self.step()?;
        }
        let lane = self.left.trailing_zeros() as usize;
        self.left &= self.left - 1;
        Some((self.at + lane, self.buckets[lane % WIDTH]))
    }

    /// Looks for the next vector with such places; none may be left yet, but not for good.
    #[inline(always)]
    fn step(&mut self) -> Option<()> {
        let mut rest = self.text.get(self.next..)?;
        while let Some(bytes) = rest.first_chunk() {
            if self.look(bytes, self.text.len() - rest.len()) {
                return Some(());
            }
            rest = &rest[STEP..];
        }
        if rest.is_empty() {
            return None;
        }
        // What is looked at may end behind the text.
        let at = self.text.len() - rest.len();
        if !self.look(&padded(rest), at) {
            self.next = at + STEP;
        }
        Some(())
    }

    /// Looks at the places from `at` on; if there are any, those of one vector are to be handed
    /// out.
    #[inline(always)]
    fn look(&mut self, bytes: &[u8; STEP_BYTES], at: usize) -> bool {
        let (avx2, none) = (self.avx2, self.avx2.splat(0));
        let (first, second) = (self.low(bytes, 0), self.low(bytes, WIDTH));
        if avx2.is_zero(avx2.or(first, second)) {
            return false;
        }
        let (before, mut fits) = if avx2.is_zero(first) { (WIDTH, second) } else { (0, first) };
        self.left = !avx2.equal(fits, none);
        // Where buckets have one word each, one place is looked at sooner than a vector.
        if self.teddy.crowded || self.left & (self.left - 1) != 0 {
            fits = avx2.and(fits, self.high(bytes, before));
            self.left = !avx2.equal(fits, none);
        }
        avx2.store(fits, &mut self.buckets);
        (self.at, self.next) = (at + before, at + before + WIDTH);
        true
    }

    /// For each place of a vector, the buckets that it may belong to by the low halves of its
    /// bytes; of the others' bucket just whether its first byte is not ASCII.
    #[inline(always)]
    fn low(&self, bytes: &[u8; STEP_BYTES], from: usize) -> Vector {
        let (avx2, fits) = (self.avx2, |at| self.low_at(bytes, from, at));
        let mut all = avx2.and(avx2.and(fits(0), fits(1)), avx2.and(fits(2), fits(3)));
        for at in SHORT..P {
            all = avx2.and(all, fits(at));
        }
        if FULL == P {
            return all;
        }
        avx2.or(all, avx2.and(self.others, avx2.load(part(bytes, from))))
    }

    #[inline(always)]
    fn low_at(&self, bytes: &[u8; STEP_BYTES], from: usize, at: usize) -> Vector {
        let avx2 = self.avx2;
        let index = avx2.load(part(bytes, from + at));
        // A look-up cares for the low half alone; of what is not ASCII it makes nothing, but
        // behind the end of a word anything may follow.
        let index = if at < FULL { index } else { avx2.and(index, avx2.splat(0x0f)) };
        avx2.look_up(self.low[at], index)
    }

    /// The same by the high halves, and for the others' bucket by both.
    #[inline(always)]
    fn high(&self, bytes: &[u8; STEP_BYTES], from: usize) -> Vector {
        let (avx2, fits) = (self.avx2, |at| self.high_at(bytes, from, at));
        let mut all = avx2.and(avx2.and(fits(0), fits(1)), avx2.and(fits(2), fits(3)));
        for at in SHORT..P {
            all = avx2.and(all, fits(at));
        }
        all
    }

    #[inline(always)]
    fn high_at(&self, bytes: &[u8; STEP_BYTES], from: usize, at: usize) -> Vector {
        let avx2 = self.avx2;
        let bytes = avx2.load(part(bytes, from + at));
        let high = avx2.look_up(self.high[at], avx2.high_halves(bytes));
        if FULL == P {
            return high;
        }
        let low_others = avx2.twice(&self.teddy.low_others[at]);
        avx2.and(high, avx2.look_up(low_others, avx2.and(bytes, avx2.splat(0x0f))))
    }

    /// Goes on at `at`, which is behind the last place.
    #[inline(always)]
    fn skip_to(&mut self, at: usize) {
        (self.left, self.next) = (0, at);
    }
}

/// A vector of bytes; where from is known when this is compiled, or one of two.
#[inline(always)]
fn part(bytes: &[u8; STEP_BYTES], from: usize) -> &[u8; WIDTH] {
    bytes[from..].first_chunk().unwrap_or(&[0; WIDTH])
}

/// The last bytes of a text, with zeros behind them.
#[cold]
#[inline(never)]
fn padded(rest: &[u8]) -> [u8; STEP_BYTES] {
    let mut bytes = [0; STEP_BYTES];
    bytes.iter_mut().zip(rest).for_each(|(to, byte)| *to = *byte);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::blocks::Place;
    use crate::route::words::folded;
    use proptest::prelude::*;

    /// Lines with patterns that have words in them, each line once.
    fn found(scan: &Scan, lines: Blocks<'_>, wanted: Patterns) -> Vec<(Range<usize>, Patterns)> {
        let mut found: Vec<(Range<usize>, Patterns)> = Vec::new();
        scan.each_line(lines, wanted, |patterns, line| match found.last_mut() {
            Some((last, before)) if *last == line => {
                assert_eq!(*before & patterns, 0, "no pattern comes twice");
                *before |= patterns;
            }
            _ => found.push((line, patterns)),
        });
        found
    }

    /// The same, line by line and word by word.
    fn naive(
        words: &[(Word, Patterns)],
        lines: Blocks<'_>,
        wanted: Patterns,
    ) -> Vec<(Range<usize>, Patterns)> {
        let mut found = Vec::new();
        for place in lines.places() {
            let mut start = place.start;
            for line in lines.buffer()[place].split_inclusive(|&b| b == b'\n') {
                let has = |word: &Word| (0..line.len()).any(|at| word.begins(&line[at..]));
                let with = words.iter().filter(|(word, _)| has(word));
                let patterns = with.fold(0, |all, (_, patterns)| all | patterns) & wanted;
                if patterns != 0 {
                    found.push((start..start + line.len(), patterns));
                }
                start += line.len();
            }
        }
        found
    }

    /// As [`Scan::new`], but always the automaton.
    fn with_automaton(words: &[(Word, Patterns)]) -> Scan {
        let entries: Vec<Entry> = words.iter().map(Entry::new).collect();
        let automaton = automaton(&entries).unwrap();
        Scan { finder: Finder::Automaton(Box::new(automaton), entries) }
    }

    #[test]
    fn anything_may_follow_a_word_that_is_shorter_than_what_is_looked_at() {
        let words: Vec<(Word, Patterns)> =
            folded(vec![b"err".to_vec()]).into_iter().map(|word| (word, 1)).collect();
        let text = b"err\xffa\n\nan err\n".repeat(20);
        let lines = Blocks::whole(&text);
        let found = found(&Scan::new(&words).unwrap(), lines, 1);
        assert_eq!(found.len(), 40);
        assert_eq!(found, naive(&words, lines, 1));
    }

    #[test]
    fn words_are_found_up_to_the_last_byte_of_any_length() {
        let words: Vec<(Word, Patterns)> =
            folded(vec![b"bb".to_vec()]).into_iter().map(|word| (word, 1)).collect();
        let scan = Scan::new(&words).unwrap();
        for length in 2..3 * STEP {
            let mut text = vec![b'a'; length];
            text[length - 2..].copy_from_slice(b"bb");
            let lines = Blocks::whole(&text);
            assert_eq!(found(&scan, lines, 1), [(0..length, 1)]);
        }
    }

    /// So many that all buckets are shared, in none of which are words that are not ASCII.
    #[test]
    fn each_of_many_words_is_found() {
        for (count, length) in (9..=TEDDY_WORDS).flat_map(|n| (2..=9).map(move |len| (n, len))) {
            let word = |n: usize| {
                let mut word = vec![b'a' + (n / 8) as u8, b'k' + (n % 8) as u8];
                word.resize(length, b'z');
                word
            };
            let spelled: Vec<Vec<u8>> = (0..count).map(word).collect();
            let words: Vec<(Word, Patterns)> =
                folded(spelled.clone()).into_iter().map(|word| (word, 1)).collect();
            let scan = Scan::new(&words).unwrap();
            for word in &spelled {
                let text = [b"before ", &word[..], b" behind\n"].concat();
                let lines = Blocks::whole(&text);
                assert_eq!(found(&scan, lines, 1), [(0..text.len(), 1)], "{count} {length}");
            }
        }
    }

    /// Few letters, so that words begin and overlap everywhere.
    fn letters(length: Range<usize>) -> impl Strategy<Value = Vec<u8>> {
        let letter = prop::sample::select(b"aAbB\x01\xc5".to_vec());
        prop::collection::vec(letter, length)
    }

    proptest! {
        #[test]
        fn as_line_by_line(
            words in prop::collection::vec((letters(1..6), any::<bool>(), 0..64_u32), 1..60),
            text in prop::collection::vec((letters(0..80), letters(0..12), any::<bool>()), 0..12),
            wanted in any::<u64>(),
        ) {
            let words: Vec<(Word, Patterns)> = words
                .into_iter()
                .flat_map(|(word, folds, pattern)| {
                    let spellings = [word.to_ascii_lowercase(), word.to_ascii_uppercase()];
                    let one = word.len() == 1 && folds;
                    let words = folded(if one { spellings.to_vec() } else { vec![word] });
                    words.into_iter().map(move |word| (word, 1 << pattern))
                })
                .collect();
            // Blocks of lines, with something between them that is no line.
            let (mut bytes, mut places, mut start) = (Vec::new(), Vec::new(), 0);
            for (line, between, ends_block) in text {
                bytes.extend_from_slice(&line);
                bytes.push(b'\n');
                if ends_block {
                    places.push(Place::new(start..bytes.len()));
                    bytes.extend_from_slice(&between);
                    start = bytes.len();
                }
            }
            let len = places.iter().map(|place| place.end() - place.start()).sum();
            let lines = Blocks::new(&bytes, &places, len);
            let expected = naive(&words, lines, wanted);
            prop_assert_eq!(&found(&Scan::new(&words).unwrap(), lines, wanted), &expected);
            prop_assert_eq!(&found(&with_automaton(&words), lines, wanted), &expected);
        }
    }
}
