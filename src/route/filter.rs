//! Which lines a route keeps: `filter.match` and `filter.exclude`.
//!
//! Pure. A block of whole lines is searched at once for literals that every matching line has to
//! contain; only lines with such a literal pay for the regular expression, and where the literals
//! are all there is to the pattern, no line does. The prefilter may never lose a line that the
//! plain expression would match: the tests compare the two.

use std::ops::Range;

use aho_corasick::packed;
use aho_corasick::{AhoCorasick, Span};
use memchr::{memchr, memchr_iter, memmem, memrchr};
use regex_syntax::hir::literal::{Extractor, Seq};
use regex_syntax::hir::{Class, Hir, HirKind, Look, Repetition};

use super::pattern::{Pattern, PatternError};

/// The filter of a route; immutable, shared by the shards.
#[derive(Debug, Default)]
pub struct LineFilter {
    matching: Option<Matcher>,
    exclude: Option<Matcher>,
}

/// What became of the lines of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Lines handed to `keep`.
    pub kept: u64,
    /// Lines left out.
    pub filtered: u64,
}

impl LineFilter {
    /// A line is kept if `matching` matches somewhere in it (or is not given) and `exclude` does
    /// not. Both are in Go's syntax; they see the line without its `\n`. The error is one line
    /// and names the option.
    pub fn new(matching: Option<&str>, exclude: Option<&str>) -> Result<LineFilter, String> {
        let compile = |option: &str, pattern: Option<&str>| {
            let compiled = pattern.map(Matcher::new).transpose();
            compiled.map_err(|error| format!("{option}: {error}"))
        };
        Ok(LineFilter {
            matching: compile("filter.match", matching)?,
            exclude: compile("filter.exclude", exclude)?,
        })
    }

    /// Whether every line is kept.
    pub fn keeps_all(&self) -> bool {
        let all = |matcher: &Matcher| matches!(matcher.plan, Plan::Always);
        let none = |matcher: &Matcher| matches!(matcher.plan, Plan::Never);
        self.matching.as_ref().is_none_or(all) && self.exclude.as_ref().is_none_or(none)
    }

    /// Hands the lines of `block` that are kept to `keep`, as the longest possible runs of
    /// consecutive lines. `block` is whole lines, each ended by `\n`; should the last `\n` be
    /// missing, what follows the last one counts as a line.
    pub fn each_kept(&self, block: &[u8], keep: &mut impl FnMut(&[u8])) -> Kept {
        let lines = count_lines(block);
        let kept = match (&self.matching, &self.exclude) {
            (None, None) => {
                if !block.is_empty() {
                    keep(block);
                }
                lines
            }
            (Some(matching), None) => matching.each_matching(block, keep),
            (None, Some(exclude)) => lines - exclude.each_other(block, keep),
            (Some(matching), Some(exclude)) => {
                let mut excluded = 0;
                let matched = matching.each_matching(block, &mut |run: &[u8]| {
                    excluded += exclude.each_other(run, keep);
                });
                matched - excluded
            }
        };
        Kept { kept, filtered: lines - kept }
    }
}

/// Lines in `block`; bytes behind the last `\n` are one too.
fn count_lines(block: &[u8]) -> u64 {
    let ended = memchr_iter(b'\n', block).count() as u64;
    ended + u64::from(block.last().is_some_and(|&b| b != b'\n'))
}

/// A pattern and the cheapest way to find the lines that it matches.
#[derive(Debug)]
struct Matcher {
    plan: Plan,
}

#[derive(Debug)]
enum Plan {
    /// No line matches.
    Never,
    /// Every line matches.
    Always,
    /// A line matches if, and only if, it contains one of the literals.
    Literals(Needle),
    /// A line that matches contains one of the literals.
    Candidates(Needle, Pattern),
    /// Nothing can be said beforehand.
    EachLine(Pattern),
}

impl Matcher {
    fn new(pattern: &str) -> Result<Matcher, PatternError> {
        let whole = Pattern::new(pattern)?;
        let hir = trim(whole.hir(), Sides { left: true, right: true });
        let looks = !hir.properties().look_set().is_empty();
        let plan = match hir.properties().minimum_len() {
            None => Plan::Never,
            Some(0) if !looks => Plan::Always,
            _ => {
                let pattern = Pattern::from_hir(hir, pattern)?;
                match literals(&pattern) {
                    Some(found) if found.literals.is_empty() => Plan::Never,
                    Some(found) => match Needle::new(found.literals) {
                        Some((needle, true)) if found.exact => Plan::Literals(needle),
                        Some((needle, _)) => Plan::Candidates(needle, pattern),
                        None => Plan::EachLine(pattern),
                    },
                    None => Plan::EachLine(pattern),
                }
            }
        };
        Ok(Matcher { plan })
    }

    /// The first line at or behind `from`, where a line begins, that matches: its place in
    /// `block`, `\n` included.
    fn next_line(&self, block: &[u8], from: usize) -> Option<Range<usize>> {
        let mut at = from;
        while at < block.len() {
            let line = match &self.plan {
                Plan::Never => return None,
                Plan::Always => at..block.len(),
                Plan::Literals(needle) => line_around(block, at, needle.find(block, at)?),
                Plan::Candidates(needle, pattern) => {
                    let line = line_around(block, at, needle.find(block, at)?);
                    if !pattern.is_match(content(block, &line)) {
                        at = line.end;
                        continue;
                    }
                    line
                }
                Plan::EachLine(pattern) => {
                    let line = line_around(block, at, at);
                    if !pattern.is_match(content(block, &line)) {
                        at = line.end;
                        continue;
                    }
                    line
                }
            };
            return Some(line);
        }
        None
    }

    /// Hands the runs of matching lines to `keep`; says how many lines they have.
    fn each_matching(&self, block: &[u8], keep: &mut impl FnMut(&[u8])) -> u64 {
        if let Plan::Always = self.plan {
            if !block.is_empty() {
                keep(block);
            }
            return count_lines(block);
        }
        let (mut run, mut lines) = (0..0, 0);
        while let Some(line) = self.next_line(block, run.end) {
            lines += 1;
            if line.start == run.end {
                run.end = line.end;
            } else {
                hand_over(block, run, keep);
                run = line;
            }
        }
        hand_over(block, run, keep);
        lines
    }

    /// Hands the runs of lines that do not match to `keep`; says how many lines do match.
    fn each_other(&self, block: &[u8], keep: &mut impl FnMut(&[u8])) -> u64 {
        if let Plan::Always = self.plan {
            return count_lines(block);
        }
        let (mut at, mut start, mut lines) = (0, 0, 0);
        while let Some(line) = self.next_line(block, at) {
            lines += 1;
            hand_over(block, start..line.start, keep);
            (at, start) = (line.end, line.end);
        }
        hand_over(block, start..block.len(), keep);
        lines
    }
}

fn hand_over(block: &[u8], run: Range<usize>, keep: &mut impl FnMut(&[u8])) {
    if let (false, Some(run)) = (run.is_empty(), block.get(run)) {
        keep(run);
    }
}

/// The line of `block` that contains the byte at `hit`, its `\n` included; a line begins at
/// `from`, and `from <= hit < block.len()`.
fn line_around(block: &[u8], from: usize, hit: usize) -> Range<usize> {
    let start = memrchr(b'\n', &block[from..hit]).map_or(from, |n| from + n + 1);
    let end = memchr(b'\n', &block[hit..]).map_or(block.len(), |n| hit + n + 1);
    start..end
}

/// The bytes of a line without its `\n`.
fn content<'b>(block: &'b [u8], line: &Range<usize>) -> &'b [u8] {
    let line = &block[line.clone()];
    line.strip_suffix(b"\n").unwrap_or(line)
}

/// Finds the first of some literals.
#[derive(Debug)]
enum Needle {
    One(Box<memmem::Finder<'static>>),
    Packed(Box<packed::Searcher>),
    Automaton(Box<AhoCorasick>),
}

/// Patterns that the packed searcher takes before it switches to its slower variant.
const PACKED_SLIM: usize = 32;
/// Patterns that it takes at all.
const PACKED_MAX: usize = 64;
/// Bytes of each pattern that its first, vectorised step looks at.
const PACKED_PREFIX: usize = 3;
/// Bytes of a literal beyond which more of them would not tell more lines apart.
const PACKED_LONGEST: usize = 8;

impl Needle {
    /// The fastest searcher for `literals`, and whether it looks for all of their bytes rather
    /// than for their beginnings.
    fn new(literals: Vec<Vec<u8>>) -> Option<(Needle, bool)> {
        let literals = minimal(literals);
        if let [literal] = literals.as_slice() {
            let finder = memmem::Finder::new(literal).into_owned();
            return Some((Needle::One(Box::new(finder)), true));
        }
        if literals.len() <= PACKED_SLIM
            && let Some(searcher) = packed_searcher(&literals)
        {
            return Some((Needle::Packed(Box::new(searcher)), true));
        }
        let common = common_prefix(&literals);
        if common.len() >= PACKED_PREFIX {
            let finder = memmem::Finder::new(common).into_owned();
            return Some((Needle::One(Box::new(finder)), false));
        }
        let cut = |length: usize| {
            let cut = literals.iter().map(|literal| literal[..literal.len().min(length)].to_vec());
            minimal(cut.collect())
        };
        // The longest beginnings that are few enough; the shortest may be more.
        let lengths = (PACKED_PREFIX..=PACKED_LONGEST).rev();
        let short = lengths.map(cut).find(|short| short.len() <= PACKED_SLIM);
        let short = short.unwrap_or_else(|| cut(PACKED_PREFIX));
        if short.len() <= PACKED_MAX
            && let Some(searcher) = packed_searcher(&short)
        {
            return Some((Needle::Packed(Box::new(searcher)), false));
        }
        let automaton = AhoCorasick::new(&literals).ok()?;
        Some((Needle::Automaton(Box::new(automaton)), true))
    }

    /// Where the first hit at or behind `at` begins; `at <= block.len()`.
    fn find(&self, block: &[u8], at: usize) -> Option<usize> {
        match self {
            Needle::One(finder) => finder.find(&block[at..]).map(|n| at + n),
            Needle::Packed(searcher) => {
                searcher.find_in(block, Span::from(at..block.len())).map(|hit| hit.start())
            }
            Needle::Automaton(automaton) => {
                automaton.find(aho_corasick::Input::new(block).range(at..)).map(|hit| hit.start())
            }
        }
    }
}

/// Drops each literal that contains another one: whoever contains it contains the other.
fn minimal(mut literals: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    literals.sort_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
    let mut kept: Vec<Vec<u8>> = Vec::new();
    for literal in literals {
        if !kept.iter().any(|k| memmem::find(&literal, k).is_some()) {
            kept.push(literal);
        }
    }
    kept
}

/// What all of `literals` begin with.
fn common_prefix(literals: &[Vec<u8>]) -> &[u8] {
    let Some((first, others)) = literals.split_first() else { return &[] };
    let mut length = first.len();
    for other in others {
        length = first.iter().zip(other).take(length).take_while(|(a, b)| a == b).count();
    }
    &first[..length]
}

/// The packed (Teddy) searcher, where the machine has one.
///
/// It sorts patterns into 8 buckets, and gives a pattern the bucket of an earlier one whose first
/// bytes have the same low halves, as the case variants of a word have. A new word's bucket
/// follows from its position, so if all variants of one word came before the next word, all
/// words could share one bucket, which then hits nearly everywhere. Therefore one variant of
/// each word comes first, then the second ones, and so on.
fn packed_searcher(literals: &[Vec<u8>]) -> Option<packed::Searcher> {
    let mut words: Vec<(Vec<u8>, Vec<&[u8]>)> = Vec::new();
    for literal in literals {
        let prefix = &literal[..literal.len().min(PACKED_PREFIX)];
        let key: Vec<u8> = prefix.iter().map(|b| b & 0xf).collect();
        match words.iter_mut().find(|(k, _)| *k == key) {
            Some((_, variants)) => variants.push(literal),
            None => words.push((key, vec![literal])),
        }
    }
    let mut builder = packed::Config::new().builder();
    let most = words.iter().map(|(_, variants)| variants.len()).max().unwrap_or(0);
    for round in 0..most {
        builder.extend(words.iter().filter_map(|(_, variants)| variants.get(round)));
    }
    builder.build()
}

/// Literals one of which every match contains.
struct Literals {
    literals: Vec<Vec<u8>>,
    /// And whatever contains one of them matches.
    exact: bool,
}

/// Longest literal that is told from a longer one when choosing.
const SELECTIVE: usize = 4;
/// Parts of a concatenation that are tried as the beginning of the literals.
const STARTS_MAX: usize = 16;

/// The literals that `pattern` requires; `None` where there are none worth searching for.
fn literals(pattern: &Pattern) -> Option<Literals> {
    let hir = pattern.hir();
    let whole = Extractor::new().extract(hir);
    // The extractor takes looks for empty strings.
    let exact = whole.is_exact() && hir.properties().look_set().is_empty();
    let seq = if exact { whole } else { required(hir)? };
    let mut literals: Vec<Vec<u8>> =
        seq.literals()?.iter().map(|literal| literal.as_bytes().to_vec()).collect();
    if exact {
        // No line contains one; a block does.
        literals.retain(|literal| !literal.contains(&b'\n'));
    }
    // A byte that is not UTF-8 counts as U+FFFD, whose own bytes are then not there to be found.
    let found_as_is = !pattern.sees_invalid() || literals.iter().all(|l| l.is_ascii());
    found_as_is.then_some(Literals { literals, exact })
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
    (shortest > 2 || shortest == 2 && count <= PACKED_SLIM).then_some(seq)
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The lines of `block` that the plain expressions keep.
    fn naive(matching: Option<&Pattern>, exclude: Option<&Pattern>, block: &[u8]) -> Vec<Vec<u8>> {
        block
            .split_inclusive(|&b| b == b'\n')
            .filter(|line| {
                let line = line.strip_suffix(b"\n").unwrap_or(line);
                matching.is_none_or(|p| p.is_match(line))
                    && !exclude.is_some_and(|p| p.is_match(line))
            })
            .map(<[u8]>::to_vec)
            .collect()
    }

    /// Runs the filter and the oracle on a block and compares runs, lines and counts.
    fn compare(matching: Option<&str>, exclude: Option<&str>, block: &[u8]) {
        let filter = LineFilter::new(matching, exclude).unwrap();
        let mut runs: Vec<Vec<u8>> = Vec::new();
        let counts = filter.each_kept(block, &mut |run: &[u8]| runs.push(run.to_vec()));
        let plain = |p: Option<&str>| p.map(|p| Pattern::new(p).unwrap());
        let lines = naive(plain(matching).as_ref(), plain(exclude).as_ref(), block);
        let what = format!("{matching:?} {exclude:?} {:?}", String::from_utf8_lossy(block));
        assert_eq!(runs.concat(), lines.concat(), "{what}");
        assert_eq!(counts.kept, lines.len() as u64, "{what}");
        assert_eq!(counts.kept + counts.filtered, count_lines(block), "{what}");
        assert!(runs.iter().all(|run| !run.is_empty()), "{what}");
        assert!(runs.len() as u64 <= counts.filtered + 1, "runs are not the longest: {what}");
    }

    fn plan(pattern: &str) -> &'static str {
        match Matcher::new(pattern).unwrap().plan {
            Plan::Never => "never",
            Plan::Always => "always",
            Plan::Literals(Needle::One(_)) => "one literal",
            Plan::Literals(_) => "literals",
            Plan::Candidates(Needle::One(_), _) => "one candidate",
            Plan::Candidates(Needle::Packed(_), _) => "candidates",
            Plan::Candidates(Needle::Automaton(_), _) => "many candidates",
            Plan::EachLine(_) => "each line",
        }
    }

    #[test]
    fn the_cheapest_plan_is_chosen() {
        let cases = [
            ("error", "one literal"),
            (".*error", "one literal"),
            ("^.*error.*$", "one literal"),
            (".*?(?:error).+?", "one candidate"),
            ("error|warn", "literals"),
            ("(?i)error|warn|fatal|panic", "candidates"),
            ("(?i).*(error|warn|fatal|panic).*", "candidates"),
            ("level=(error|fatal)", "literals"),
            (r"\d+ms timeout", "literals"),
            (r"\w+: timeout", "one candidate"),
            (r"\berror\b", "one candidate"),
            ("^ERROR", "one candidate"),
            (r"\d{3}", "each line"),
            ("x", "one literal"),
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
        assert_eq!(plan(&words.join("|")), "many candidates");
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
        let kept = filter.each_kept(block, &mut |run: &[u8]| runs.push(run.to_vec()));
        assert_eq!(runs, [&b"a\nca\n"[..], b"ac\n", b"a\n"]);
        assert_eq!(kept, Kept { kept: 4, filtered: 2 });
    }

    #[test]
    fn a_common_prefix_is_common_to_all() {
        let literals = ["abcd", "abx", "abcde"].map(|l| l.as_bytes().to_vec());
        assert_eq!(common_prefix(&literals), b"ab");
        assert_eq!(common_prefix(&[]), b"");
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

    fn piece() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
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
        ])
    }

    fn line_piece() -> impl Strategy<Value = &'static [u8]> {
        prop::sample::select(vec![
            &b"a"[..],
            b"b",
            b"k",
            b"K",
            b"s",
            b"S",
            b"err",
            b"ERR",
            b"Warn",
            b"warn",
            b" ",
            b"\r",
            b"\n",
            b"\n",
            b"\n",
            b"\xff",
            b"\xe2\x84",
            b"\xef\xbf",
            b"\xef\xbf\xbd",
            b"\xc5\xbf",
            b"\xe2\x84\xaa",
            b"\xc3\xa9",
            b"\xc3\x89",
        ])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1500))]

        #[test]
        fn the_prefilter_loses_and_adds_nothing(
            matching in prop::option::of(prop::collection::vec(piece(), 0..6)),
            exclude in prop::option::of(prop::collection::vec(piece(), 1..5)),
            block in prop::collection::vec(line_piece(), 0..60),
        ) {
            let valid = |pieces: Option<Vec<&str>>| {
                pieces.map(|p| p.concat()).filter(|p| Pattern::new(p).is_ok())
            };
            let (matching, exclude) = (valid(matching), valid(exclude));
            compare(matching.as_deref(), exclude.as_deref(), &block.concat());
        }
    }
}
