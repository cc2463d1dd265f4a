//! What the filters of all routes say of the lines of a container, in as few passes as can be.
//!
//! Pure. Whatever the number of routes, a read is looked through once for the words of all of
//! them (as long as they are not too many for one pass); a route's own work begins where one of
//! its words was found.

use std::ops::Range;

use super::filter::{LineFilter, Part};
use super::scan::{Patterns, Scan, TEDDY_WORDS};
use super::words::{self, Word};
use crate::lines::blocks::{Blocks, Place};

/// Places that are handed over together, at most.
const TOGETHER: usize = 128;
/// Routes that share a pass at most: a bit each.
const PASS_ROUTES: usize = Patterns::BITS as usize;

/// The filters of all routes, by the number of the route.
#[derive(Debug, Default)]
pub struct Verdicts {
    passes: Vec<Pass>,
    /// Routes whose filter has no words to look for, and those that no pass could take.
    alone: Vec<(usize, LineFilter)>,
}

/// Routes whose words are looked for together.
#[derive(Debug)]
struct Pass {
    scan: Scan,
    /// Each with the number of its route.
    filters: Vec<(usize, LineFilter)>,
    /// Those that keep whatever has one of their words, and nothing else.
    plain: Patterns,
}

/// Some of the routes: which of them take a container's lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// For each pass.
    shared: Vec<Patterns>,
    /// Of those alone.
    alone: Vec<bool>,
}

impl Verdicts {
    /// For routes with these filters; `None` for a route without, which is never asked about.
    pub fn new(filters: &[Option<LineFilter>]) -> Verdicts {
        let mut verdicts = Verdicts::default();
        let (mut words, mut together) = (Vec::new(), Vec::new());
        for (route, filter) in filters.iter().enumerate() {
            let Some(filter) = filter else { continue };
            let Some(found) = filter.words() else {
                verdicts.alone.push((route, filter.clone()));
                continue;
            };
            let both = words.iter().map(|(word, _)| word).chain(found);
            let full = together.len() == PASS_ROUTES || words::count(both) > TEDDY_WORDS;
            if full && !together.is_empty() {
                verdicts.add_pass(std::mem::take(&mut words), std::mem::take(&mut together));
            }
            let bit: Patterns = 1 << together.len();
            words.extend(found.iter().map(|word| (word.clone(), bit)));
            together.push((route, filter.clone()));
        }
        if !together.is_empty() {
            verdicts.add_pass(words, together);
        }
        verdicts
    }

    fn add_pass(&mut self, words: Vec<(Word, Patterns)>, filters: Vec<(usize, LineFilter)>) {
        match Scan::new(&merged(words)) {
            Some(scan) => self.passes.push(Pass::new(scan, filters)),
            None => self.alone.extend(filters),
        }
    }

    /// Those routes of which `takes` is true.
    pub fn wanted(&self, takes: impl Fn(usize) -> bool) -> Wanted {
        let of_pass = |pass: &Pass| {
            let bits = pass.filters.iter().enumerate();
            bits.fold(0, |all, (bit, (route, _))| all | Patterns::from(takes(*route)) << bit)
        };
        Wanted {
            shared: self.passes.iter().map(of_pass).collect(),
            alone: self.alone.iter().map(|(route, _)| takes(*route)).collect(),
        }
    }

    /// Hands `keep` the places of the lines that each of the `wanted` routes keeps, in their order
    /// for each route, consecutive lines together; some places at once.
    pub fn judge(
        &self,
        lines: Blocks<'_>,
        wanted: &Wanted,
        keep: &mut impl FnMut(usize, &[Place]),
    ) {
        for (pass, &wanted) in self.passes.iter().zip(&wanted.shared) {
            if wanted != 0 {
                pass.judge(lines, wanted, keep);
            }
        }
        for ((route, filter), _) in self.alone.iter().zip(&wanted.alone).filter(|(_, w)| **w) {
            for place in lines.places() {
                let start = place.start;
                filter.each_kept(&lines.buffer()[place], &mut |kept: Range<usize>| {
                    keep(*route, &[Place::new(start + kept.start..start + kept.end)]);
                });
            }
        }
    }
}

/// Each word once, with all the patterns it belongs to.
fn merged(mut words: Vec<(Word, Patterns)>) -> Vec<(Word, Patterns)> {
    words.sort();
    words.dedup_by(|word, before| {
        let same = word.0 == before.0;
        before.1 |= if same { word.1 } else { 0 };
        same
    });
    words
}

impl Pass {
    fn new(scan: Scan, filters: Vec<(usize, LineFilter)>) -> Pass {
        let plain = filters.iter().enumerate();
        let plain =
            plain.fold(0, |all, (bit, (_, f))| all | Patterns::from(f.keeps_words()) << bit);
        Pass { scan, filters, plain }
    }

    fn judge(&self, lines: Blocks<'_>, wanted: Patterns, keep: &mut impl FnMut(usize, &[Place])) {
        if wanted.is_power_of_two() && wanted & self.plain != 0 {
            return self.judge_one(lines, wanted, keep);
        }
        let mut runs = [Run::default(); PASS_ROUTES];
        self.scan.each_line(
            lines,
            wanted,
            #[inline(never)]
            |patterns, line| {
                for bit in bits(patterns) {
                    let (route, filter) = &self.filters[bit];
                    if self.plain & 1 << bit != 0 {
                        if let Some(kept) = runs[bit].go_on(&line) {
                            keep(*route, &[kept]);
                        }
                    } else if filter.has_hit(&lines.buffer()[line.clone()]) {
                        let mut keep = |place| keep(*route, &[place]);
                        runs[bit].line(lines, line.clone(), filter, &mut keep);
                    }
                }
            },
        );
        for bit in bits(wanted) {
            let (route, filter) = &self.filters[bit];
            runs[bit].end(lines, filter, &mut |place| keep(*route, &[place]));
        }
    }

    /// For one route that keeps whatever has one of its words, and nothing else: most have no other
    /// filter, and for it a line with a hit costs little more than to find it.
    fn judge_one(
        &self,
        lines: Blocks<'_>,
        wanted: Patterns,
        keep: &mut impl FnMut(usize, &[Place]),
    ) {
        let Some((route, _)) = self.filters.get(wanted.trailing_zeros() as usize) else { return };
        let mut run = Run::default();
        let (mut places, mut len) = ([Place::default(); TOGETHER], 0);
        self.scan.each_line(lines, wanted, |_, line| {
            if let Some(kept) = run.go_on(&line) {
                places[len % TOGETHER] = kept;
                len += 1;
                if len == TOGETHER {
                    keep(*route, &places);
                    len = 0;
                }
            }
        });
        keep(*route, &places[..len]);
        if run.start < run.end {
            keep(*route, &[Place::new(run.start..run.end)]);
        }
    }
}

/// The numbers of the bits that are set, in their order.
#[inline(always)]
fn bits(mut patterns: Patterns) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = patterns.trailing_zeros();
        patterns &= patterns.wrapping_sub(1);
        (bit < Patterns::BITS).then_some(bit as usize)
    })
}

/// What of a route's lines is kept and not handed over yet.
#[derive(Clone, Copy, Default)]
struct Run {
    /// Of the lines with a hit: the last consecutive ones. Of those without: from the end of the
    /// last line with a hit, in this block or a later one.
    start: usize,
    end: usize,
    block: usize,
}

impl Run {
    /// A line that is kept, and every other one that is: returns the run that ended before it.
    #[inline(always)]
    fn go_on(&mut self, line: &Range<usize>) -> Option<Place> {
        let (start, end) = (self.start, std::mem::replace(&mut self.end, line.end));
        if end == line.start {
            return None;
        }
        self.start = line.start;
        (start < end).then(|| Place::new(start..end))
    }

    /// A line with a hit.
    #[inline]
    fn line(
        &mut self,
        lines: Blocks<'_>,
        line: Range<usize>,
        filter: &LineFilter,
        keep: &mut impl FnMut(Place),
    ) {
        match filter.part() {
            Part::Hits if line.start == self.end => self.end = line.end,
            Part::Hits => {
                self.hits(lines, filter, keep);
                (self.start, self.end) = (line.start, line.end);
            }
            Part::Others => {
                self.others_before(lines, line.start, keep);
                self.start = line.end;
            }
        }
    }

    /// There are no more lines.
    #[inline]
    fn end(&mut self, lines: Blocks<'_>, filter: &LineFilter, keep: &mut impl FnMut(Place)) {
        match filter.part() {
            Part::Hits => self.hits(lines, filter, keep),
            Part::Others => self.others_before(lines, usize::MAX, keep),
        }
    }

    fn hits(&self, lines: Blocks<'_>, filter: &LineFilter, keep: &mut impl FnMut(Place)) {
        filter.keep_hits(lines.buffer(), self.start..self.end, &mut |kept| keep(Place::new(kept)));
    }

    /// Hands over the lines from `self.start` up to `end`.
    fn others_before(&mut self, lines: Blocks<'_>, end: usize, keep: &mut impl FnMut(Place)) {
        while let Some(place) = lines.place(self.block) {
            let (from, upto) = (place.start.max(self.start), place.end.min(end));
            if from < upto {
                keep(Place::new(from..upto));
            }
            if end < place.end {
                break;
            }
            self.block += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::pattern::Pattern;
    use proptest::prelude::*;

    /// What a route keeps, line by line with the plain expressions.
    fn naive(filter: (Option<&str>, Option<&str>), lines: Blocks<'_>) -> Vec<u8> {
        let [matching, exclude] =
            [filter.0, filter.1].map(|pattern| pattern.map(|p| Pattern::new(p).unwrap()));
        let mut kept = Vec::new();
        for line in lines.iter().flat_map(|block| block.split_inclusive(|&b| b == b'\n')) {
            let text = line.strip_suffix(b"\n").unwrap_or(line);
            if matching.as_ref().is_none_or(|p| p.is_match(text))
                && !exclude.as_ref().is_some_and(|p| p.is_match(text))
            {
                kept.extend_from_slice(line);
            }
        }
        kept
    }

    const PATTERNS: &[&str] = &[
        "ab",
        "(?i)ab|bca",
        "a.*c",
        "^a",
        "[ab]c",
        "(?i)bac$",
        "b{2}",
        "a|bb",
        "",
        "x",
        ".*cab.*",
        "(?i)k",
        "c",
    ];

    proptest! {
        #[test]
        fn as_route_by_route(
            filters in prop::collection::vec(
                (
                    prop::option::of(prop::sample::select(PATTERNS)),
                    prop::option::of(prop::sample::select(PATTERNS)),
                    any::<bool>(),
                ),
                1..80,
            ),
            text in prop::collection::vec(("[abcABCkK]{0,40}", "[abc]{0,9}", any::<bool>()), 0..30),
        ) {
            let (mut bytes, mut places, mut start) = (String::new(), Vec::new(), 0);
            for (line, between, ends_block) in text {
                bytes += &line;
                bytes.push('\n');
                if ends_block {
                    places.push(Place::new(start..bytes.len()));
                    bytes += &between;
                    start = bytes.len();
                }
            }
            let len = places.iter().map(|place| place.end() - place.start()).sum();
            let lines = Blocks::new(bytes.as_bytes(), &places, len);
            let compiled: Vec<Option<LineFilter>> = filters
                .iter()
                .map(|(m, e, _)| Some(LineFilter::new(*m, *e).unwrap()))
                .collect();
            let verdicts = Verdicts::new(&compiled);
            let wanted = verdicts.wanted(|route| filters[route].2);
            let mut kept = vec![Vec::new(); filters.len()];
            verdicts.judge(lines, &wanted, &mut |route, places: &[Place]| {
                for place in places {
                    kept[route].extend_from_slice(&bytes.as_bytes()[place.start()..place.end()]);
                }
            });
            for ((matching, exclude, takes), kept) in filters.into_iter().zip(kept) {
                let expected = if takes { naive((matching, exclude), lines) } else { Vec::new() };
                prop_assert_eq!(kept, expected, "{:?} {:?}", matching, exclude);
            }
        }
    }
}
