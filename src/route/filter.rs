//! Which lines a route keeps: `filter.match` and `filter.exclude`.
//!
//! Pure. A pattern is taken apart into words that every matching line has to contain; they are
//! looked for in many lines at once (see [`super::scan`]), and only lines with one of them pay for
//! the regular expression. Where the words are all there is to the pattern, no line does. The
//! words may never lose a line that the plain expression would match: the tests and the fuzz target
//! `filter` compare the two (`naive`).

use std::ops::Range;
use std::sync::Arc;

use regex_syntax::hir::literal::{Extractor, Seq};
use regex_syntax::hir::{Class, Hir, HirKind, Look, Repetition};

use super::pattern::{Pattern, PatternError};
use super::scan::{Patterns, Scan, TEDDY_SHORTEST, TEDDY_WORDS};
use super::words::{self, Word};
use crate::lines::blocks::Blocks;

/// The filter of a route; immutable, shared by the shards.
#[derive(Clone, Debug, Default)]
pub struct LineFilter {
    matching: Option<Arc<Matcher>>,
    /// What a line has to match beside that.
    also: Vec<Arc<Matcher>>,
    exclude: Option<Arc<Matcher>>,
}

/// Which lines a filter keeps, when its first matcher has judged them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Those that match `filter.match`, `filter.exclude` permitting.
    Hits,
    /// Those that do not match `filter.exclude`.
    Others,
}

impl LineFilter {
    /// A line is kept if `matching` matches somewhere in it (or is not given) and `exclude` does
    /// not. Both are in Go's syntax; they see the line without its `\n`. The error is one line
    /// and names the option.
    pub fn new(matching: Option<&str>, exclude: Option<&str>) -> Result<LineFilter, String> {
        let compile = |option: &str, pattern: Option<&str>| {
            let compiled = pattern.map(|pattern| Matcher::new(pattern).map(Arc::new)).transpose();
            compiled.map_err(|error| format!("{option}: {error}"))
        };
        let mut filter = LineFilter {
            matching: compile("filter.match", matching)?,
            also: Vec::new(),
            exclude: compile("filter.exclude", exclude)?,
        };
        // What makes no difference is not looked for.
        filter.matching.take_if(|matcher| matches!(**matcher, Matcher::Always));
        filter.exclude.take_if(|matcher| matches!(**matcher, Matcher::Never));
        Ok(filter)
    }

    /// The same, of whose lines only those are kept that `pattern` matches too. The error is one
    /// line and begins with `name`.
    pub fn and(mut self, name: &str, pattern: &str) -> Result<LineFilter, String> {
        let matcher = Matcher::new(pattern).map_err(|error| format!("{name}: {error}"))?;
        match (&self.matching, matcher) {
            (_, Matcher::Always) => {}
            (None, matcher) => self.matching = Some(Arc::new(matcher)),
            (Some(_), matcher) => self.also.push(Arc::new(matcher)),
        }
        Ok(self)
    }

    /// Whether every line is kept.
    pub fn keeps_all(&self) -> bool {
        self.matching.is_none() && self.exclude.is_none()
    }

    /// Hands `keep` the places of the lines of `block` that are kept, as the longest possible runs
    /// of consecutive lines. `block` is whole lines, each ended by `\n`; should the last `\n` be
    /// missing, what follows the last one counts as a line.
    ///
    /// This is for one filter; those of all routes are judged together by [`super::verdict`].
    pub fn each_kept(&self, block: &[u8], keep: &mut impl FnMut(Range<usize>)) {
        match (&self.matching, &self.exclude) {
            (None, None) => hand_over(0..block.len(), keep),
            (None, Some(exclude)) => exclude.each_other(block, keep),
            (Some(matching), _) => {
                matching.each_matching(block, &mut |run| self.keep_hits(block, run, keep));
            }
        }
    }

    /// The words to be looked for first; `None` where there are none, or they are better looked
    /// for alone.
    pub(super) fn words(&self) -> Option<&[Word]> {
        let Matcher::Words { words, .. } = &**self.first()? else { return None };
        let short = words.iter().any(|word| word.bytes().len() < TEDDY_SHORTEST);
        (!short && words::count(words.iter()) <= TEDDY_WORDS).then_some(words)
    }

    fn first(&self) -> Option<&Arc<Matcher>> {
        self.matching.as_ref().or(self.exclude.as_ref())
    }

    /// Whether any line that has one of the words is kept, and no other.
    pub(super) fn keeps_words(&self) -> bool {
        let exact = |m: &Arc<Matcher>| matches!(**m, Matcher::Words { pattern: None, .. });
        let alone = self.also.is_empty() && self.exclude.is_none();
        alone && self.matching.as_ref().is_some_and(exact)
    }

    /// What becomes of lines that match where one of the words was found.
    pub(super) fn part(&self) -> Part {
        if self.matching.is_some() { Part::Hits } else { Part::Others }
    }

    /// Whether a line, in which one of the words is, matches.
    #[inline]
    pub(super) fn has_hit(&self, line: &[u8]) -> bool {
        self.first().is_some_and(|matcher| matcher.confirms(line))
    }

    /// Hands over what is kept of consecutive lines that match `filter.match`.
    #[inline]
    pub(super) fn keep_hits(
        &self,
        buffer: &[u8],
        run: Range<usize>,
        keep: &mut impl FnMut(Range<usize>),
    ) {
        if self.also.is_empty() && self.exclude.is_none() {
            hand_over(run, keep);
        } else {
            keep_rest(&self.also, self.exclude.as_deref(), buffer, run, keep);
        }
    }
}

/// Hands over those of some consecutive lines that all of `also` match, and `exclude` does not.
/// Each matcher sees only what those before it have left.
fn keep_rest(
    also: &[Arc<Matcher>],
    exclude: Option<&Matcher>,
    buffer: &[u8],
    run: Range<usize>,
    keep: &mut dyn FnMut(Range<usize>),
) {
    let of = |part: Range<usize>| run.start + part.start..run.start + part.end;
    match (also, exclude) {
        ([first, others @ ..], _) => {
            first.each_matching(&buffer[run.clone()], &mut |part: Range<usize>| {
                keep_rest(others, exclude, buffer, of(part), keep);
            });
        }
        ([], Some(exclude)) => {
            exclude.each_other(&buffer[run.clone()], &mut |part: Range<usize>| keep(of(part)));
        }
        ([], None) => hand_over(run, &mut |run| keep(run)),
    }
}

/// A pattern, in the cheapest way to find the lines that it matches.
#[derive(Debug)]
enum Matcher {
    /// No line matches.
    Never,
    /// Every line matches.
    Always,
    /// A line that matches contains one of the words, and if there is no pattern, any line that
    /// contains one matches.
    Words { words: Vec<Word>, scan: Scan, pattern: Option<Pattern> },
    /// Nothing can be said beforehand.
    EachLine(Pattern),
}

impl Matcher {
    fn new(pattern: &str) -> Result<Matcher, PatternError> {
        let whole = Pattern::new(pattern)?;
        let hir = trim(whole.hir(), Sides { left: true, right: true });
        let looks = !hir.properties().look_set().is_empty();
        match hir.properties().minimum_len() {
            None => return Ok(Matcher::Never),
            Some(0) if !looks => return Ok(Matcher::Always),
            _ => {}
        }
        let pattern = Pattern::from_hir(hir, pattern)?;
        let Some((words, exact)) = required_words(&pattern) else {
            return Ok(Matcher::EachLine(pattern));
        };
        if words.is_empty() {
            return Ok(Matcher::Never);
        }
        let alone: Vec<(Word, Patterns)> = words.iter().map(|word| (word.clone(), 1)).collect();
        Ok(match Scan::new(&alone) {
            Some(scan) => Matcher::Words { words, scan, pattern: (!exact).then_some(pattern) },
            None => Matcher::EachLine(pattern),
        })
    }

    /// Whether a line in which one of the words is matches.
    #[inline]
    fn confirms(&self, line: &[u8]) -> bool {
        match self {
            Matcher::Words { pattern: None, .. } | Matcher::Always => true,
            Matcher::Words { pattern: Some(pattern), .. } | Matcher::EachLine(pattern) => {
                pattern.is_match(line.strip_suffix(b"\n").unwrap_or(line))
            }
            Matcher::Never => false,
        }
    }

    /// Calls `on` with the place of each line of `block` that matches, in their order.
    fn each_line(&self, block: &[u8], on: &mut impl FnMut(Range<usize>)) {
        match self {
            Matcher::Never => {}
            Matcher::Words { scan, .. } => {
                scan.each_line(Blocks::whole(block), 1, |_, line: Range<usize>| {
                    if self.confirms(&block[line.clone()]) {
                        on(line);
                    }
                });
            }
            Matcher::Always | Matcher::EachLine(_) => {
                let mut start = 0;
                for line in block.split_inclusive(|&byte| byte == b'\n') {
                    if self.confirms(line) {
                        on(start..start + line.len());
                    }
                    start += line.len();
                }
            }
        }
    }

    /// Hands over the runs of lines that match.
    fn each_matching(&self, block: &[u8], keep: &mut impl FnMut(Range<usize>)) {
        let mut run = 0..0;
        self.each_line(block, &mut |line| {
            if line.start != run.end {
                hand_over(std::mem::replace(&mut run, line.start..line.start), keep);
            }
            run.end = line.end;
        });
        hand_over(run, keep);
    }

    /// Hands over the runs of lines that do not match.
    fn each_other(&self, block: &[u8], keep: &mut impl FnMut(Range<usize>)) {
        let mut start = 0;
        self.each_line(block, &mut |line| {
            hand_over(start..line.start, keep);
            start = line.end;
        });
        hand_over(start..block.len(), keep);
    }
}

fn hand_over(run: Range<usize>, keep: &mut impl FnMut(Range<usize>)) {
    if !run.is_empty() {
        keep(run);
    }
}

/// Bytes of a word beyond which more of them would not tell more lines apart, and below which too
/// few lines would be told apart.
const CUT: std::ops::RangeInclusive<usize> = 3..=8;

/// Words one of which every line that matches `pattern` contains, and whether every line that
/// contains one matches. `None` where there are none worth looking for.
fn required_words(pattern: &Pattern) -> Option<(Vec<Word>, bool)> {
    let (mut words, mut exact) = match words::exact(pattern.hir()) {
        Some(words) => (words, true),
        None => literals(pattern.hir())?,
    };
    if exact {
        // No line contains one; a block does.
        words.retain(|word| !word.bytes().contains(&b'\n'));
    }
    // A byte that is not UTF-8 counts as U+FFFD, whose own bytes are then not there to be found.
    let found_as_is = !pattern.sees_invalid() || words.iter().all(|word| word.bytes().is_ascii());
    words = words::minimal(words);
    if words::count(words.iter()) > TEDDY_WORDS {
        // The longest beginnings that are few enough.
        let cut = |length| words::minimal(words.iter().map(|word| word.cut(length)).collect());
        if let Some(short) =
            CUT.rev().map(cut).find(|short| words::count(short.iter()) <= TEDDY_WORDS)
        {
            (words, exact) = (short, false);
        }
    }
    found_as_is.then_some((words, exact))
}

/// Longest literal that is told from a longer one when choosing.
const SELECTIVE: usize = 4;
/// Literals of two bytes of which so many are too many: one of them is everywhere.
const LITERALS_MANY: usize = 32;
/// Parts of a concatenation that are tried as the beginning of the literals.
const STARTS_MAX: usize = 16;

/// Words one of which every match of `hir` contains, and whether they are all there is to it.
fn literals(hir: &Hir) -> Option<(Vec<Word>, bool)> {
    let whole = Extractor::new().extract(hir);
    // The extractor takes looks for empty strings.
    let exact = whole.is_exact() && hir.properties().look_set().is_empty();
    let seq = if exact { whole } else { required(hir)? };
    let literals = seq.literals()?.iter().map(|literal| literal.as_bytes().to_vec());
    Some((words::folded(literals.collect()), exact))
}

/// The most selective literals that every match of `hir` contains.
fn required(hir: &Hir) -> Option<Seq> {
    let mut best = selective(Extractor::new().extract(hir));
    let mut offer = |other: Option<Seq>| {
        if rank(&other) > rank(&best) {
            best = other;
        }
    };
    match hir.kind() {
        HirKind::Concat(subs) => {
            for start in 1..subs.len().min(STARTS_MAX) {
                let tail = Hir::concat(subs[start..].to_vec());
                offer(selective(Extractor::new().extract(&tail)));
            }
            subs.iter().for_each(|sub| offer(required(sub)));
        }
        HirKind::Alternation(subs) => {
            let mut all = Some(Seq::empty());
            for sub in subs {
                all = all.zip(required(sub)).map(|(mut all, mut one)| {
                    all.union(&mut one);
                    all
                });
            }
            offer(all.and_then(selective));
        }
        HirKind::Repetition(repetition) if repetition.min > 0 => offer(required(&repetition.sub)),
        HirKind::Capture(capture) => offer(required(&capture.sub)),
        _ => {}
    }
    best
}

/// The sequence, if a search for it is likely to skip lines: single bytes are everywhere, and so
/// is one of very many pairs.
fn selective(seq: Seq) -> Option<Seq> {
    let (shortest, count) = (seq.min_literal_len()?, seq.len()?);
    (shortest > 2 || shortest == 2 && count <= LITERALS_MANY).then_some(seq)
}

/// Longer literals are rarer; fewer literals are faster.
fn rank(seq: &Option<Seq>) -> Option<(usize, std::cmp::Reverse<usize>)> {
    let seq = seq.as_ref()?;
    let length = seq.min_literal_len()?.min(SELECTIVE);
    seq.len().map(|count| (length, std::cmp::Reverse(count)))
}

/// The sides on which a part of a pattern stands at its edge.
#[derive(Clone, Copy)]
struct Sides {
    left: bool,
    right: bool,
}

/// The pattern without what makes no difference to whether a line (without `\n`) matches
/// somewhere: optional parts at its edges, such as `.*`. What is left has better literals and
/// needs less of each line.
fn trim(hir: &Hir, at: Sides) -> Hir {
    match hir.kind() {
        HirKind::Repetition(rep) if at.left || at.right => match rep.min {
            0 => Hir::empty(),
            1 => trim(&rep.sub, at),
            n => Hir::repetition(Repetition { max: Some(n), ..rep.clone() }),
        },
        HirKind::Capture(capture) => trim(&capture.sub, at),
        HirKind::Alternation(subs) => {
            Hir::alternation(subs.iter().map(|sub| trim(sub, at)).collect())
        }
        HirKind::Concat(subs) => trim_concat(subs, at),
        _ => hir.clone(),
    }
}

fn trim_concat(mut subs: &[Hir], at: Sides) -> Hir {
    let (mut first, mut last) = (None, None);
    while at.left && first.is_none() {
        match subs {
            [edge, any, rest @ ..] if is_start(edge) && is_anything(any) => subs = rest,
            [edge, rest @ ..] => {
                let alone = rest.is_empty();
                let edge = trim(edge, Sides { left: true, right: at.right && alone });
                first = Some(edge).filter(|edge| *edge.kind() != HirKind::Empty);
                subs = rest;
            }
            [] => break,
        }
    }
    while at.right && last.is_none() {
        match subs {
            [rest @ .., any, edge] if is_end(edge) && is_anything(any) => subs = rest,
            [rest @ .., edge] => {
                let alone = rest.is_empty() && first.is_none();
                let edge = trim(edge, Sides { left: at.left && alone, right: true });
                last = Some(edge).filter(|edge| *edge.kind() != HirKind::Empty);
                subs = rest;
            }
            [] => break,
        }
    }
    let subs: Vec<Hir> = first.into_iter().chain(subs.iter().cloned()).chain(last).collect();
    match subs.as_slice() {
        // Every line has a beginning and an end.
        [edge] if at.left && at.right && (is_start(edge) || is_end(edge)) => Hir::empty(),
        _ => Hir::concat(subs),
    }
}

fn is_start(hir: &Hir) -> bool {
    matches!(hir.kind(), HirKind::Look(Look::Start | Look::StartLF))
}

fn is_end(hir: &Hir) -> bool {
    matches!(hir.kind(), HirKind::Look(Look::End | Look::EndLF))
}

/// Whether `hir` is `.*`: any number of any characters that a line may have.
fn is_anything(hir: &Hir) -> bool {
    let HirKind::Repetition(Repetition { min: 0, max: None, sub, .. }) = hir.kind() else {
        return false;
    };
    let HirKind::Class(Class::Unicode(class)) = sub.kind() else { return false };
    let mut missing = class.clone();
    missing.negate();
    missing.ranges().iter().all(|range| range.start() == '\n' && range.end() == '\n')
}

/// The plain expressions, line by line, and the comparison with them. In test and fuzz builds only.
#[cfg(any(test, fuzzing))]
pub mod naive {
    use std::ops::Range;

    use super::{LineFilter, Pattern};
    use crate::lines::blocks::{Blocks, Place};
    use crate::route::verdict::Verdicts;

    /// What arbitrary expressions are made of.
    pub const PIECES: &[&str] = &[
        "a",
        "k",
        "s",
        "err",
        "warn",
        "é",
        "\u{17f}",
        ".",
        ".*",
        ".*?",
        ".+",
        "[ks]",
        "[^a]",
        r"\s",
        r"\S",
        r"\w",
        r"\W",
        r"\b",
        r"\B",
        "^",
        "$",
        "(?i)",
        "(?m)",
        "(?s)",
        "|",
        "(?:a|k)",
        "(?:err|warn|)",
        "(err)+",
        "(?:k{2,3})?",
        r"\n",
        r"\x{FFFD}",
        "(^.*a|k)",
        "(a|.*)",
        "ab",
        "[[:upper:]]",
        "(?:(?i)k|err)",
        "a{2}",
        "a*",
        "^a*",
        "^[^k]*",
        "[^k]*$",
        "(?:ka*|s)",
        "(?:s|a*k)",
        "a{2,}",
    ];

    /// What arbitrary blocks are made of.
    pub const WORDS: &[&[u8]] = &[
        b"\n",
        b"a",
        b"b",
        b"k",
        b"K",
        b"s",
        b"S",
        b"err",
        b"ERR",
        b"Warn",
        b"\n",
        b"warn",
        b" ",
        b"\r",
        b"\xff",
        b"\xe2\x84",
        b"\xef\xbf",
        b"\xef\xbf\xbd",
        b"\xc5\xbf",
        b"\xe2\x84\xaa",
        b"\xc3\xa9",
        b"\xc3\x89",
    ];

    /// A filter, and the expressions that it is made of.
    #[derive(Debug)]
    pub struct Twins {
        filter: LineFilter,
        verdicts: Verdicts,
        matching: Option<Pattern>,
        exclude: Option<Pattern>,
    }

    impl Twins {
        /// Compiles both; they have to agree on whether that is possible.
        pub fn new(matching: Option<&str>, exclude: Option<&str>) -> Result<Twins, String> {
            let plain = |p: Option<&str>| p.map(Pattern::new).transpose();
            let filter = LineFilter::new(matching, exclude);
            match (plain(matching), plain(exclude)) {
                (Ok(matching), Ok(exclude)) => {
                    let filter = filter?;
                    let verdicts = Verdicts::new(&[Some(filter.clone())]);
                    Ok(Twins { filter, verdicts, matching, exclude })
                }
                _ => Err(filter.expect_err("what is no expression makes no filter")),
            }
        }

        fn keeps(&self, line: &[u8]) -> bool {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            self.matching.as_ref().is_none_or(|p| p.is_match(line))
                && !self.exclude.as_ref().is_some_and(|p| p.is_match(line))
        }

        /// Panics unless both keep the same lines of `block`, in the longest possible runs, alone
        /// and as one of all routes.
        pub fn compare(&self, block: &[u8]) {
            let mut runs: Vec<Range<usize>> = Vec::new();
            self.filter.each_kept(block, &mut |run| runs.push(run));
            let mut judged: Vec<Range<usize>> = Vec::new();
            let wanted = self.verdicts.wanted(|_| true);
            self.verdicts.judge(Blocks::whole(block), &wanted, &mut |_, places: &[Place]| {
                judged.extend(places.iter().map(|place| place.start()..place.end()));
            });
            let all: Vec<&[u8]> = block.split_inclusive(|&b| b == b'\n').collect();
            let kept: Vec<&[u8]> = all.iter().copied().filter(|line| self.keeps(line)).collect();
            let what = || format!("{self:?} {:?}", String::from_utf8_lossy(block));
            let text: Vec<&[u8]> = runs.iter().map(|run| &block[run.clone()]).collect();
            assert_eq!(text.concat(), kept.concat(), "{}", what());
            assert_eq!(runs, judged, "{}", what());
            assert!(runs.iter().all(|run| !run.is_empty()), "{}", what());
            let filtered = all.len() - kept.len();
            assert!(runs.len() <= filtered + 1, "not the longest: {}", what());
            if self.filter.keeps_all() {
                assert_eq!(filtered, 0, "{}", what());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::select;

    fn compare(matching: Option<&str>, exclude: Option<&str>, block: &[u8]) {
        naive::Twins::new(matching, exclude).unwrap().compare(block);
    }

    fn plan(pattern: &str) -> &'static str {
        match Matcher::new(pattern).unwrap() {
            Matcher::Never => "never",
            Matcher::Always => "always",
            Matcher::Words { words, .. } if words.len() > TEDDY_WORDS => "many words",
            Matcher::Words { pattern: None, .. } => "words",
            Matcher::Words { pattern: Some(_), .. } => "candidates",
            Matcher::EachLine(_) => "each line",
        }
    }

    #[test]
    fn the_cheapest_plan_is_chosen() {
        let cases = [
            ("error", "words"),
            (".*error", "words"),
            ("^.*error.*$", "words"),
            (".*?(?:error).+?", "candidates"),
            ("error|warn", "words"),
            ("(?i)error|warn|fatal|panic", "words"),
            ("(?i)exception|timed? out", "candidates"),
            ("(?i)exception|timed out", "words"),
            ("(?i).*(error|warn|fatal|panic).*", "words"),
            ("level=(error|fatal)", "words"),
            (r"\d+ms timeout", "words"),
            (r"\w+: timeout", "candidates"),
            (r"\berror\b", "candidates"),
            ("^ERROR", "candidates"),
            (r"\d{3}", "each line"),
            ("x", "words"),
            (".*", "always"),
            ("", "always"),
            ("^.*$", "always"),
            ("(error)?", "always"),
            ("error|", "always"),
            ("a\\nb", "never"),
            ("[^\\x{0}-\\x{10FFFF}]", "never"),
            ("\u{fffd}", "each line"),
        ];
        for (pattern, expect) in cases {
            assert_eq!(plan(pattern), expect, "{pattern}");
        }
        let words: Vec<String> =
            ('a'..='z').flat_map(|a| ('a'..='z').map(move |b| format!("{a}{b}{a}{b}"))).collect();
        assert_eq!(plan(&words.join("|")), "many words");
        let words: Vec<String> = ('a'..='z')
            .flat_map(|a| ["one", "two", "six"].map(|end| format!("common{a}{end}")))
            .collect();
        assert_eq!(plan(&words.join("|")), "candidates");
    }

    #[test]
    fn what_keeps_everything_says_so() {
        let keeps_all = |m, x| LineFilter::new(m, x).unwrap().keeps_all();
        assert!(keeps_all(None, None));
        assert!(keeps_all(Some(".*?"), None));
        assert!(keeps_all(None, Some("\n")));
        assert!(!keeps_all(Some("x"), None));
        assert!(!keeps_all(None, Some("x")));
        assert!(!keeps_all(None, Some("")));
    }

    #[test]
    fn errors_name_the_option() {
        let error = LineFilter::new(Some("a"), Some("(")).unwrap_err();
        assert!(error.starts_with("filter.exclude: bad regular expression \"(\""), "{error}");
        assert!(LineFilter::new(Some("("), None).unwrap_err().starts_with("filter.match: "));
    }

    #[test]
    fn runs_are_as_long_as_possible() {
        let filter = LineFilter::new(Some("a"), Some("ab")).unwrap();
        let mut runs = Vec::new();
        let block = b"a\nca\nab\nac\nb\na\n";
        filter.each_kept(block, &mut |run| runs.push(&block[run]));
        assert_eq!(runs, [&b"a\nca\n"[..], b"ac\n", b"a\n"]);
    }

    #[test]
    fn only_the_edges_of_a_pattern_are_trimmed() {
        for pattern in ["(?:ka*|s)err", "err(?:ka*|s)", "(?:s|a*k)err", "err(?:s|a*k)", "ka+err"] {
            compare(Some(pattern), None, b"kaerr\nkerr\nerrak\nerrk\nkaaerraak\nserrs\n");
        }
        compare(Some("(?:^.*^|k)a"), None, b"ba\na\nka\n");
        compare(Some("a(?:$.*$|k)"), None, b"ab\na\nak\n");
    }

    #[test]
    fn traps() {
        let block = "KELVIN \u{212a}\nwarn\u{17f}\nWARNS\nk\n\n\na\nb\nerror\r\nERROR".as_bytes();
        for pattern in [
            "(?i)k",
            "(?i)warns",
            "a\nb",
            "a\\sb",
            "^$",
            "$",
            "^",
            r"\B",
            r"\b",
            "error$",
            "error\\r$",
            "(?m)^b$",
            "(?s)a.b",
            "(?i)error|warn|fatal|panic",
            "\\x{FFFD}",
            "(?i)ERROR$",
            "[^a]",
            "(?i)\u{17f}",
            "(?:^.*K|w)",
            "(?:x|^.*)$",
        ] {
            compare(Some(pattern), None, block);
            compare(None, Some(pattern), block);
            let mut broken = block.to_vec();
            broken.extend_from_slice(b"\n\xff\nk\xe2\x84\nwarn\xc5\nerr\xffor\n\xefa");
            compare(Some(pattern), None, &broken);
            compare(Some("a|r"), Some(pattern), &broken);
        }
    }

    #[test]
    fn every_pattern_of_the_corpus_keeps_its_lines() {
        use base64::Engine;
        let corpus = include_str!("../../tests/conformance/regex.jsonl");
        let cases: Vec<serde_json::Value> =
            corpus.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let mut block = Vec::new();
        for case in &cases {
            match case["text_base64"].as_str() {
                Some(text) => {
                    block.extend(base64::engine::general_purpose::STANDARD.decode(text).unwrap())
                }
                None => block.extend_from_slice(case["text"].as_str().unwrap().as_bytes()),
            }
            block.push(b'\n');
        }
        let good = cases.iter().filter(|case| case["expect"] != "error");
        let patterns: Vec<&str> = good.map(|case| case["pattern"].as_str().unwrap()).collect();
        assert!(patterns.len() > 150);
        for pair in patterns.windows(2) {
            compare(Some(pair[0]), None, &block);
            compare(None, Some(pair[0]), &block);
            compare(Some(pair[0]), Some(pair[1]), &block);
        }
    }

    #[test]
    fn what_else_a_line_must_match() {
        let filter = LineFilter::new(Some("a"), Some("x")).unwrap();
        let filter = filter.and("ALSO", "b$").and_then(|filter| filter.and("ALL", ".*")).unwrap();
        let kept = |filter: &LineFilter, block: &[u8]| {
            let mut kept = Vec::new();
            filter.each_kept(block, &mut |run| kept.extend_from_slice(&block[run]));
            kept
        };
        assert_eq!(kept(&filter, b"ab\nb\na\nacb\n\nxab\nab"), b"ab\nacb\nab");
        let alone = LineFilter::default().and("ALSO", ".").unwrap();
        assert!(!alone.keeps_all());
        assert_eq!(kept(&alone, b"\n\xff\n\r\n\n"), b"\xff\n\r\n");
        assert!(LineFilter::default().and("ALL", ".*").unwrap().keeps_all());
        assert!(LineFilter::default().and("ALSO", "(").unwrap_err().starts_with("ALSO: "));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1500))]

        #[test]
        fn the_prefilter_loses_and_adds_nothing(
            matching in prop::option::of(prop::collection::vec(select(naive::PIECES), 0..6)),
            exclude in prop::option::of(prop::collection::vec(select(naive::PIECES), 1..5)),
            block in prop::collection::vec(select(naive::WORDS), 0..60),
        ) {
            let valid = |pieces: Option<Vec<&str>>| {
                pieces.map(|p| p.concat()).filter(|p| Pattern::new(p).is_ok())
            };
            let (matching, exclude) = (valid(matching), valid(exclude));
            compare(matching.as_deref(), exclude.as_deref(), &block.concat());
        }
    }
}
