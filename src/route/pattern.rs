//! Regular expressions as Go's `regexp` understands them (RE2 syntax, Perl flavour).
//!
//! Pure. `filter.match`, `MULTILINE_PATTERN` and `SLACK_MESSAGE_FILTER` are written for Go, whose
//! dialect differs from the `regex` crate's in small ways that change which lines match. So the
//! pattern is parsed here, by Go's rules, into `regex-syntax`'s intermediate form, and that is
//! what the `regex` crate runs. Only *whether* a text matches is ever asked, therefore groups do
//! not capture and greediness is dropped.
//!
//! Known differences, all harmless: the Unicode tables are newer than Go 1.19's; short names of
//! scripts (`\p{Grek}`) are taken too; groups may nest 60 deep rather than 1000.

use std::cell::RefCell;
use std::fmt;

use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::hir::{
    Capture, Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind, Look, Repetition,
};

/// Limit of Go for a counted repetition, and for the product of nested ones.
const REPEAT_MAX: u32 = 1000;

/// Groups that may nest. The `regex` crate compiles by recursion: in a debug build, 90 groups
/// overflow a thread's 2 MiB stack.
const DEPTH_MAX: u32 = 60;

/// Memory that the compiled form of one pattern may take, in bytes.
const COMPILED_MAX: usize = 16 << 20;

/// What a thread keeps, in bytes, of the buffer for lines that are not UTF-8.
const SCRATCH_KEPT: usize = 1 << 20;

/// A compiled pattern; shared by the shards.
#[derive(Clone, Debug)]
pub struct Pattern {
    regex: Regex,
    hir: Hir,
    /// Bytes that are not UTF-8 can be part of a match, or prevent one.
    sees_invalid: bool,
}

/// Why a pattern is refused, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternError {
    pattern: String,
    /// Byte offset in the pattern of the part that is wrong.
    at: usize,
    what: String,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PatternError { pattern, at, what } = self;
        write!(f, "bad regular expression {pattern:?} at byte {at}: {what}")
    }
}

impl std::error::Error for PatternError {}

impl Pattern {
    /// Compiles a pattern in Go's syntax.
    pub fn new(pattern: &str) -> Result<Pattern, PatternError> {
        let hir = Parser::new(pattern).parse()?;
        Pattern::from_hir(hir, pattern)
    }

    /// Compiles what was made of `pattern`, which errors name.
    pub(super) fn from_hir(hir: Hir, pattern: &str) -> Result<Pattern, PatternError> {
        let regex = RegexBuilder::new(&hir.to_string())
            .size_limit(COMPILED_MAX)
            .nest_limit(4 * DEPTH_MAX)
            .build()
            .map_err(|error| PatternError {
                pattern: pattern.to_owned(),
                at: 0,
                what: match error {
                    regex::Error::CompiledTooBig(limit) => {
                        format!("needs more than {} MiB compiled; simplify it", limit >> 20)
                    }
                    other => other.to_string().replace('\n', " "),
                },
            })?;
        let sees_invalid = sees_invalid(&hir);
        Ok(Pattern { regex, hir, sees_invalid })
    }

    /// Whether the pattern matches anywhere in `text`. Each byte that is not part of valid UTF-8
    /// counts as one U+FFFD, as in Go; only texts that have such bytes pay for that.
    pub fn is_match(&self, text: &[u8]) -> bool {
        // What matches as it stands also matches with its invalid bytes replaced: no part of a
        // pattern can match such a byte, or look into the middle of a character.
        self.regex.is_match(text)
            || (self.sees_invalid
                && std::str::from_utf8(text).is_err()
                && with_replaced(text, |text| self.regex.is_match(text)))
    }

    /// The parsed pattern.
    pub(super) fn hir(&self) -> &Hir {
        &self.hir
    }

    /// Whether bytes that are not UTF-8 can be part of a match, or prevent one.
    pub(super) fn sees_invalid(&self) -> bool {
        self.sees_invalid
    }
}

/// Calls `f` with `text`, each invalid byte replaced by U+FFFD, in a buffer of this thread.
fn with_replaced<T>(text: &[u8], f: impl FnOnce(&[u8]) -> T) -> T {
    thread_local! {
        static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    let mut buffer = SCRATCH.take();
    buffer.clear();
    for chunk in text.utf8_chunks() {
        buffer.extend_from_slice(chunk.valid().as_bytes());
        for _ in chunk.invalid() {
            buffer.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    let result = f(&buffer);
    buffer.shrink_to(SCRATCH_KEPT);
    SCRATCH.set(buffer);
    result
}

/// Whether U+FFFD can be part of a match of `hir`, or be looked at by it.
fn sees_invalid(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Empty => false,
        HirKind::Look(look) => {
            !matches!(look, Look::Start | Look::End | Look::StartLF | Look::EndLF | Look::WordAscii)
        }
        HirKind::Literal(literal) => {
            std::str::from_utf8(&literal.0).map_or(true, |text| text.contains('\u{fffd}'))
        }
        HirKind::Class(Class::Unicode(class)) => {
            class.ranges().iter().any(|r| r.start() <= '\u{fffd}' && '\u{fffd}' <= r.end())
        }
        HirKind::Class(Class::Bytes(class)) => !class.is_ascii(),
        HirKind::Repetition(repetition) => sees_invalid(&repetition.sub),
        HirKind::Capture(capture) => sees_invalid(&capture.sub),
        HirKind::Concat(subs) | HirKind::Alternation(subs) => subs.iter().any(sees_invalid),
    }
}

/// `i`, `m` and `s` of `(?ims)`; `U` is read but changes nothing that is asked here.
#[derive(Clone, Copy, Default)]
struct Flags {
    fold: bool,
    multi_line: bool,
    dot_newline: bool,
}

/// A part of the pattern that a repetition could apply to.
struct Item {
    hir: Hir,
    /// The largest product of nested counted repetitions inside it.
    repeats: u32,
    /// How deep it nests.
    depth: u32,
}

impl Item {
    fn new(hir: Hir) -> Item {
        Item { hir, repeats: 1, depth: 0 }
    }
}

/// An open group, or the whole pattern: branches between `|`, the last one still growing.
struct Group {
    at: usize,
    /// The flags to go back to at its end.
    flags: Flags,
    branches: Vec<Item>,
    sequence: Vec<Item>,
}

impl Group {
    fn new(at: usize, flags: Flags) -> Group {
        Group { at, flags, branches: Vec::new(), sequence: Vec::new() }
    }

    fn end_branch(&mut self) {
        let items = std::mem::take(&mut self.sequence);
        self.branches.push(combine(items, Hir::concat));
    }

    fn close(mut self) -> Item {
        self.end_branch();
        combine(self.branches, Hir::alternation)
    }
}

fn combine(items: Vec<Item>, with: fn(Vec<Hir>) -> Hir) -> Item {
    let repeats = items.iter().map(|item| item.repeats).max().unwrap_or(1);
    let depth = items.iter().map(|item| item.depth).max().unwrap_or(0);
    Item { hir: with(items.into_iter().map(|item| item.hir).collect()), repeats, depth }
}

struct Parser<'p> {
    pattern: &'p str,
    at: usize,
    flags: Flags,
    /// The pattern itself.
    top: Group,
    /// The open groups, innermost last.
    open: Vec<Group>,
}

type Parsed<T> = Result<T, PatternError>;

impl<'p> Parser<'p> {
    fn new(pattern: &'p str) -> Parser<'p> {
        let flags = Flags::default();
        Parser { pattern, at: 0, flags, top: Group::new(0, flags), open: Vec::new() }
    }

    fn rest(&self) -> &'p str {
        self.pattern.get(self.at..).unwrap_or("")
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn eat(&mut self, text: &str) -> bool {
        let eaten = self.rest().starts_with(text);
        if eaten {
            self.at += text.len();
        }
        eaten
    }

    /// An error about what stands between `from` and here.
    fn error<T>(&self, from: usize, what: &str) -> Parsed<T> {
        let part = self.pattern.get(from..self.at).unwrap_or("");
        let what = if part.is_empty() { what.to_owned() } else { format!("{what}: `{part}`") };
        Err(PatternError {
            pattern: self.pattern.to_owned(),
            at: from,
            what: what.escape_debug().to_string().replace("\\\\", "\\"),
        })
    }

    fn group(&mut self) -> &mut Group {
        self.open.last_mut().unwrap_or(&mut self.top)
    }

    fn push(&mut self, hir: Hir) {
        self.group().sequence.push(Item::new(hir));
    }

    fn push_char(&mut self, c: char) {
        let mut class = ClassUnicode::empty();
        add_range(&mut class, u32::from(c), u32::from(c), self.flags.fold);
        self.push(Hir::class(Class::Unicode(class)));
    }

    fn parse(mut self) -> Parsed<Hir> {
        let mut repeated = false;
        while let Some(c) = self.peek() {
            let from = self.at;
            match c {
                '*' | '+' | '?' => {
                    self.at += 1;
                    let (min, max) = match c {
                        '*' => (0, None),
                        '+' => (1, None),
                        _ => (0, Some(1)),
                    };
                    self.repeat(from, min, max, repeated, false)?;
                    repeated = true;
                }
                '{' => {
                    repeated = match self.counts()? {
                        Some((min, max)) => {
                            self.repeat(from, min, max, repeated, true)?;
                            true
                        }
                        None => {
                            self.at += 1;
                            self.push_char('{');
                            false
                        }
                    };
                }
                _ => {
                    self.atom(c)?;
                    repeated = false;
                }
            }
        }
        if let Some(group) = self.open.pop() {
            return self.error(group.at, "missing closing )");
        }
        Ok(self.top.close().hir)
    }

    /// Anything but a repetition.
    fn atom(&mut self, c: char) -> Parsed<()> {
        let from = self.at;
        self.at += c.len_utf8();
        match c {
            '(' if self.rest().starts_with('?') => self.perl_group(from)?,
            '(' => self.open_group(from)?,
            '|' => self.group().end_branch(),
            ')' => {
                let Some(group) = self.open.pop() else {
                    return self.error(from, "unexpected )");
                };
                self.flags = group.flags;
                let mut item = group.close();
                item.depth += 1;
                self.group().sequence.push(item);
            }
            '^' if self.flags.multi_line => self.push(Hir::look(Look::StartLF)),
            '^' => self.push(Hir::look(Look::Start)),
            '$' if self.flags.multi_line => self.push(Hir::look(Look::EndLF)),
            '$' => self.push(Hir::look(Look::End)),
            '.' => {
                let mut class = ClassUnicode::empty();
                if !self.flags.dot_newline {
                    add_range(&mut class, 0x0a, 0x0a, false);
                }
                negate(&mut class);
                self.push(Hir::class(Class::Unicode(class)));
            }
            '[' => {
                let class = self.class(from)?;
                self.push(Hir::class(Class::Unicode(class)));
            }
            '\\' => self.escaped(from)?,
            _ => self.push_char(c),
        }
        Ok(())
    }

    fn open_group(&mut self, from: usize) -> Parsed<()> {
        if self.open.len() >= DEPTH_MAX as usize {
            return self.error(from, "more than 60 nested groups");
        }
        self.open.push(Group::new(from, self.flags));
        Ok(())
    }

    /// What begins with `(?`: a named group, a group with flags, or flags alone.
    fn perl_group(&mut self, from: usize) -> Parsed<()> {
        if self.rest().len() > 3 && self.eat("?P<") {
            let Some(end) = self.rest().find('>') else {
                self.at = self.pattern.len();
                return self.error(from, "invalid named capture");
            };
            let name = &self.rest()[..end];
            let valid = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            self.at += end + 1;
            if name.is_empty() || !valid {
                return self.error(from, "invalid named capture");
            }
            return self.open_group(from);
        }
        self.at += 1;
        let mut flags = self.flags;
        let (mut on, mut pending) = (true, false);
        while let Some(c) = self.next() {
            match c {
                'i' => flags.fold = on,
                'm' => flags.multi_line = on,
                's' => flags.dot_newline = on,
                'U' => {}
                '-' if on => (on, pending) = (false, true),
                ':' | ')' if !pending => {
                    if c == ':' {
                        self.open_group(from)?;
                    }
                    self.flags = flags;
                    return Ok(());
                }
                _ => break,
            }
            pending &= c == '-';
        }
        self.error(from, "invalid or unsupported Perl syntax")
    }

    /// `{n}`, `{n,}` or `{n,m}`; anything else is a literal `{`.
    fn counts(&mut self) -> Parsed<Option<(u32, Option<u32>)>> {
        let from = self.at;
        let Some((inside, _)) = self.rest()[1..].split_once('}') else { return Ok(None) };
        let (min, max) = match inside.split_once(',') {
            None => (count(inside), count(inside).map(Some)),
            Some((min, "")) => (count(min), Some(None)),
            Some((min, max)) => (count(min), count(max).map(Some)),
        };
        let (Some(min), Some(max)) = (min, max) else { return Ok(None) };
        self.at += inside.len() + 2;
        if min > REPEAT_MAX || max.is_some_and(|max| max > REPEAT_MAX || max < min) {
            return self.error(from, "invalid repeat count");
        }
        Ok(Some((min, max)))
    }

    /// Applies a repetition, which began at `from`, to the item before it.
    fn repeat(
        &mut self,
        from: usize,
        min: u32,
        max: Option<u32>,
        repeated: bool,
        counted: bool,
    ) -> Parsed<()> {
        self.eat("?");
        if repeated {
            return self.error(from, "invalid nested repetition operator");
        }
        let Some(Item { hir, mut repeats, mut depth }) = self.group().sequence.pop() else {
            return self.error(from, "missing argument to repetition operator");
        };
        if counted {
            repeats = match max {
                Some(0) => 1,
                _ => repeats.saturating_mul(max.unwrap_or(min).max(1)),
            };
            if repeats > REPEAT_MAX {
                return self.error(from, "invalid repeat count");
            }
        }
        // The printed form of a bare repetition of a repetition means something else.
        let sub = match hir.kind() {
            HirKind::Repetition(_) => {
                Hir::capture(Capture { index: 1, name: None, sub: Box::new(hir) })
            }
            _ => hir,
        };
        depth += 1;
        if depth > 2 * DEPTH_MAX {
            return self.error(from, "more than 60 nested groups");
        }
        let hir = Hir::repetition(Repetition { min, max, greedy: true, sub: Box::new(sub) });
        self.group().sequence.push(Item { hir, repeats, depth });
        Ok(())
    }

    /// A backslash outside a class; `from` is where it stands.
    fn escaped(&mut self, from: usize) -> Parsed<()> {
        let look = match self.peek() {
            Some('A') => Some(Hir::look(Look::Start)),
            Some('z') => Some(Hir::look(Look::End)),
            Some('b') => Some(Hir::look(Look::WordAscii)),
            Some('B') => Some(not_word_boundary()),
            _ => None,
        };
        if let Some(look) = look {
            self.at += 1;
            self.push(look);
        } else if self.eat("Q") {
            let (quoted, skip) = match self.rest().split_once("\\E") {
                Some((quoted, _)) => (quoted, 2),
                None => (self.rest(), 0),
            };
            quoted.chars().for_each(|c| self.push_char(c));
            self.at += quoted.len() + skip;
        } else if let Some(class) = self.class_escape(from)? {
            self.push(Hir::class(Class::Unicode(class)));
        } else {
            let code = self.char_escape(from)?;
            let mut class = ClassUnicode::empty();
            add_range(&mut class, code, code, self.flags.fold);
            self.push(Hir::class(Class::Unicode(class)));
        }
        Ok(())
    }

    /// `\d \s \w`, `\p{…}` and their negations, if that is what follows the backslash at `from`.
    fn class_escape(&mut self, from: usize) -> Parsed<Option<ClassUnicode>> {
        let Some(c) = self.peek() else { return Ok(None) };
        if matches!(c, 'p' | 'P') {
            self.at += 1;
            return self.unicode_class(from, c == 'P').map(Some);
        }
        let ranges: &[(u8, u8)] = match c.to_ascii_lowercase() {
            'd' => &[(b'0', b'9')],
            's' => &[(b'\t', b'\n'), (0x0c, b'\r'), (b' ', b' ')],
            'w' => &[(b'0', b'9'), (b'A', b'Z'), (b'_', b'_'), (b'a', b'z')],
            _ => return Ok(None),
        };
        self.at += 1;
        Ok(Some(self.ascii_class(ranges, c.is_ascii_uppercase())))
    }

    fn ascii_class(&self, ranges: &[(u8, u8)], negated: bool) -> ClassUnicode {
        let mut class = ClassUnicode::empty();
        for &(low, high) in ranges {
            add_range(&mut class, low.into(), high.into(), self.flags.fold);
        }
        if negated {
            negate(&mut class);
        }
        class
    }

    /// `\pL`, `\p{Greek}`, `\p{^Greek}`, after the `p` or `P`.
    fn unicode_class(&mut self, from: usize, mut negated: bool) -> Parsed<ClassUnicode> {
        let rest = self.rest();
        let name = if let Some(braced) = rest.strip_prefix('{') {
            let Some((name, _)) = braced.split_once('}') else {
                self.at = self.pattern.len();
                return self.error(from, "invalid character class range");
            };
            self.at += name.len() + 2;
            name
        } else {
            self.next();
            &rest[..rest.len() - self.rest().len()]
        };
        let name = name.strip_prefix('^').inspect(|_| negated = !negated).unwrap_or(name);
        let Some(mut class) = unicode_table(name) else {
            return self.error(from, "invalid character class range");
        };
        if self.flags.fold {
            class.case_fold_simple();
        }
        if negated {
            negate(&mut class);
        }
        Ok(class)
    }

    /// A backslash and what names one character, after the backslash at `from`. The answer may
    /// be a surrogate: Go has such code points, but no text does.
    fn char_escape(&mut self, from: usize) -> Parsed<u32> {
        let Some(c) = self.next() else {
            return self.error(self.at, "trailing backslash at end of expression");
        };
        let value = match c {
            'a' => Some(7),
            'f' => Some(0x0c),
            'n' => Some(0x0a),
            'r' => Some(0x0d),
            't' => Some(9),
            'v' => Some(0x0b),
            'x' => self.hex(),
            // One digit other than 0 would be a backreference.
            '1'..='7' if !matches!(self.peek(), Some('0'..='7')) => None,
            '0'..='7' => {
                let mut value = u32::from(c) - 0x30;
                for _ in 0..2 {
                    let Some(digit @ '0'..='7') = self.peek() else { break };
                    self.at += 1;
                    value = value * 8 + u32::from(digit) - 0x30;
                }
                Some(value)
            }
            _ if c.is_ascii() && !c.is_ascii_alphanumeric() => Some(c.into()),
            _ => None,
        };
        match value {
            Some(value) => Ok(value),
            None => self.error(from, "invalid escape sequence"),
        }
    }

    /// Two hexadecimal digits, or any number of them between braces.
    fn hex(&mut self) -> Option<u32> {
        if !self.eat("{") {
            let high = self.next()?.to_digit(16)?;
            return Some(high * 16 + self.next()?.to_digit(16)?);
        }
        let mut value = None;
        loop {
            match self.next()? {
                '}' => return value,
                digit => {
                    let next = value.unwrap_or(0) * 16 + digit.to_digit(16)?;
                    value = Some(next).filter(|&v| v <= u32::from(char::MAX));
                    value?;
                }
            }
        }
    }

    /// A class, after the `[` at `from`.
    fn class(&mut self, from: usize) -> Parsed<ClassUnicode> {
        let negated = self.eat("^");
        let mut class = ClassUnicode::empty();
        let mut first = true;
        while first || !self.eat("]") {
            first = false;
            let here = self.at;
            if let Some(named) = self.posix_class()? {
                class.union(&named);
                continue;
            }
            if self.eat("\\") {
                if let Some(escape) = self.class_escape(here)? {
                    class.union(&escape);
                    continue;
                }
                self.at = here;
            }
            let low = self.class_char(from)?;
            let mut high = low;
            let dash = self.rest().strip_prefix('-');
            if dash.is_some_and(|after| !after.is_empty() && !after.starts_with(']')) {
                self.at += 1;
                high = self.class_char(from)?;
                if high < low {
                    return self.error(here, "invalid character class range");
                }
            }
            add_range(&mut class, low, high, self.flags.fold);
        }
        if negated {
            negate(&mut class);
        }
        Ok(class)
    }

    fn class_char(&mut self, class: usize) -> Parsed<u32> {
        let here = self.at;
        match self.next() {
            Some('\\') => self.char_escape(here),
            Some(c) => Ok(c.into()),
            None => self.error(class, "missing closing ]"),
        }
    }

    /// `[:alpha:]` and the like, inside a class.
    fn posix_class(&mut self) -> Parsed<Option<ClassUnicode>> {
        let from = self.at;
        let Some(inside) = self.rest().strip_prefix("[:") else { return Ok(None) };
        let Some((name, _)) = inside.split_once(":]") else { return Ok(None) };
        self.at += name.len() + 4;
        let (name, negated) = match name.strip_prefix('^') {
            Some(name) => (name, true),
            None => (name, false),
        };
        let ranges: &[(u8, u8)] = match name {
            "alnum" => &[(b'0', b'9'), (b'A', b'Z'), (b'a', b'z')],
            "alpha" => &[(b'A', b'Z'), (b'a', b'z')],
            "ascii" => &[(0, 0x7f)],
            "blank" => &[(b'\t', b'\t'), (b' ', b' ')],
            "cntrl" => &[(0, 0x1f), (0x7f, 0x7f)],
            "digit" => &[(b'0', b'9')],
            "graph" => &[(b'!', b'~')],
            "lower" => &[(b'a', b'z')],
            "print" => &[(b' ', b'~')],
            "punct" => &[(b'!', b'/'), (b':', b'@'), (b'[', b'`'), (b'{', b'~')],
            "space" => &[(b'\t', b'\r'), (b' ', b' ')],
            "upper" => &[(b'A', b'Z')],
            "word" => &[(b'0', b'9'), (b'A', b'Z'), (b'_', b'_'), (b'a', b'z')],
            "xdigit" => &[(b'0', b'9'), (b'A', b'F'), (b'a', b'f')],
            _ => return self.error(from, "invalid character class range"),
        };
        Ok(Some(self.ascii_class(ranges, negated)))
    }
}

/// A count of a repetition: digits without a leading zero. Too big ones are all the same.
fn count(digits: &str) -> Option<u32> {
    let number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let plain = digits == "0" || !digits.starts_with('0');
    (number && plain).then(|| digits.parse().unwrap_or(u32::MAX))
}

/// Adds the code points from `low` to `high`, without surrogates, which no text contains.
fn add_range(class: &mut ClassUnicode, low: u32, high: u32, fold: bool) {
    let low = char::from_u32(low).unwrap_or('\u{e000}');
    let high = char::from_u32(high).unwrap_or('\u{d7ff}');
    if low > high {
        return;
    }
    let mut range = ClassUnicode::new([ClassUnicodeRange::new(low, high)]);
    if fold {
        range.case_fold_simple();
    }
    class.union(&range);
}

/// Negates `class`. The characters on both sides of the surrogates are neighbours, which
/// `ClassUnicode` does not see: left apart, its negation would contain both of them.
fn negate(class: &mut ClassUnicode) {
    let contains = |c: char| class.ranges().iter().any(|r| r.start() <= c && c <= r.end());
    if contains('\u{d7ff}') && contains('\u{e000}') {
        class.push(ClassUnicodeRange::new('\u{d7ff}', '\u{e000}'));
    }
    class.negate();
}

/// Go's `\B`: no boundary of an ASCII word, and not in the middle of a character either. The
/// second part is what the Unicode boundaries are for: one of them holds between any two
/// characters, none of them inside one.
fn not_word_boundary() -> Hir {
    let between =
        Hir::alternation(vec![Hir::look(Look::WordUnicode), Hir::look(Look::WordUnicodeNegate)]);
    Hir::concat(vec![Hir::look(Look::WordAsciiNegate), between])
}

/// The table that Go's `\p{name}` means: a general category or a script, by its exact name.
fn unicode_table(name: &str) -> Option<ClassUnicode> {
    let query = match name {
        "Any" => r"\p{Any}".to_owned(),
        // Go's C has no unassigned code points; surrogates are in no text.
        "C" => r"[\p{Cc}\p{Cf}\p{Co}]".to_owned(),
        "Cs" => return Some(ClassUnicode::empty()),
        "Cc" | "Cf" | "Co" | "L" | "Ll" | "Lm" | "Lo" | "Lt" | "Lu" | "M" | "Mc" | "Me" | "Mn"
        | "N" | "Nd" | "Nl" | "No" | "P" | "Pc" | "Pd" | "Pe" | "Pf" | "Pi" | "Po" | "Ps" | "S"
        | "Sc" | "Sk" | "Sm" | "So" | "Z" | "Zl" | "Zp" | "Zs" => format!(r"\p{{{name}}}"),
        _ if script_spelling(name) => format!(r"\p{{Script={name}}}"),
        _ => return None,
    };
    match regex_syntax::parse(&query).ok()?.into_kind() {
        HirKind::Class(Class::Unicode(class)) => Some(class),
        // A table of a single character.
        HirKind::Literal(literal) => {
            let c = std::str::from_utf8(&literal.0).ok()?.chars().next()?;
            Some(ClassUnicode::new([ClassUnicodeRange::new(c, c)]))
        }
        _ => None,
    }
}

/// Whether `name` is spelled as Go spells scripts: `Greek`, `Old_Italic`, `SignWriting`.
fn script_spelling(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_uppercase)
        && bytes.iter().all(|b| b.is_ascii_alphabetic() || *b == b'_')
        && bytes.windows(2).all(|pair| match pair {
            [a, b] => !(a.is_ascii_uppercase() && b.is_ascii_uppercase()),
            _ => true,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, text: impl AsRef<[u8]>) -> bool {
        Pattern::new(pattern).unwrap().is_match(text.as_ref())
    }

    fn error(pattern: &str) -> String {
        Pattern::new(pattern).unwrap_err().to_string()
    }

    #[test]
    fn errors_name_the_pattern_and_the_place() {
        assert_eq!(
            error(r"ab\h"),
            r#"bad regular expression "ab\\h" at byte 2: invalid escape sequence: `\h`"#
        );
        assert!(
            error("x(?<n>a)").ends_with("at byte 1: invalid or unsupported Perl syntax: `(?<`")
        );
        assert!(error("a(b").contains("at byte 1: missing closing ): `(b`"));
        assert!(error("a)").contains("unexpected )"));
        assert!(error("[\u{a}").contains(r"missing closing ]: `[\n`"));
        assert!(error(r"\p{Nope").contains("invalid character class range"));
        assert!(error("(?P<n").contains("invalid named capture"));
        assert_eq!(error(&"(".repeat(1000)).lines().count(), 1);
        assert!(error(r"\pL{1000}\pL{1000}\pL{1000}").contains("simplify it"));
    }

    #[test]
    fn repetition_applies_to_the_item_before_it_and_to_nothing_else() {
        // The printed form of these would be lazy operators.
        assert!(matches("^(?:a+)?$", ""));
        assert!(matches("^(?:a{2})?$", ""));
        assert!(!matches("^(?:a{2}){2}$", "aaa"));
        // Flags and empty quotations are no items.
        assert!(matches("^a(?i)*b$", "aaB"));
        assert!(matches(r"^a\Q\E*$", "aaa"));
        assert!(matches(r"^a*\Q\E*$", "aaa"));
        assert!(matches(r"^\Qab\E+$", "abbb"));
        assert!(Pattern::new("(|*)").is_err());
        assert!(Pattern::new("a|*").is_err());
        assert!(matches("^(?:^)*a", "a"));
    }

    #[test]
    fn counts_are_limited_also_when_nested() {
        assert!(Pattern::new("(?:a{10}){100}").is_ok());
        assert!(Pattern::new("(?:a{10}){101}").is_err());
        assert!(Pattern::new("(?:a{1000}){0}").is_ok());
        assert!(Pattern::new("(?:a{1000}){1}").is_ok());
        assert!(Pattern::new("(?:a{1000})*").is_ok());
        assert!(matches("^a{01}$", "a{01}"));
        assert!(matches("^a{1,2$", "a{1,2"));
    }

    #[test]
    fn deep_nesting_works_up_to_its_limit() {
        let nested = |depth: usize| format!("{}a{}", "(?:b|".repeat(depth), ")*".repeat(depth));
        assert!(matches(&nested(60), "a"));
        assert!(error(&nested(61)).contains("more than 60 nested groups"));
        // Repetitions nest without groups where an empty quotation stands between them.
        let repeated = |times: usize| format!("a{}", r"*\Q\E".repeat(times));
        assert!(matches(&repeated(120), "a"));
        assert!(error(&repeated(121)).contains("nested"));
        assert!(crate::route::filter::LineFilter::new(Some(&nested(60)), None).is_ok());
    }

    #[test]
    fn flags_hold_to_the_end_of_their_group() {
        assert!(matches("^(?:(?i)a)b$", "Ab"));
        assert!(!matches("^(?:(?i)a)b$", "AB"));
        assert!(matches("^(?i)a|b$", "B"));
        assert!(matches("(?s).", "\n"));
        assert!(matches("(?)a", "a"));
        for bad in ["(?-)a", "(?i-)a", "(?--i)a", "(?i-:a)", "(?-i-s:a)", "(?P=n)", "(?P<n>"] {
            assert!(Pattern::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn case_folding_is_unicode_also_in_perl_classes() {
        assert!(matches(r"(?i)\w", "\u{17f}"));
        assert!(!matches(r"(?i)\W", "\u{212a}"));
        assert!(matches(r"\W", "\u{212a}"));
        assert!(matches(r"(?i)\p{Lu}", "a"));
        assert!(!matches(r"(?i)\P{Lu}", "a"));
        assert!(matches("(?i)[^k]", "x") && !matches("(?i)[^k]", "\u{212a}"));
    }

    #[test]
    fn not_a_boundary_is_never_inside_a_character() {
        assert!(!matches(r"\B", "aéa"));
        assert!(matches(r"\B", "aééa"));
        assert!(!matches(r"\B", b"a\xffa"));
        assert!(matches(r"\B", b"a\xff\xffa"));
        assert!(matches(r"\B", ""));
    }

    #[test]
    fn surrogates_are_in_no_text() {
        assert!(!matches(r"\x{D800}", "\u{d7ff}\u{e000}"));
        assert!(!matches(r"\p{Cs}", b"\xed\xa0\x80"));
        assert!(matches(r"^[\x{D7FF}-\x{E000}]{2}$", "\u{d7ff}\u{e000}"));
        assert!(!matches(r"[\x{D801}-\x{D802}]", "\u{e000}"));
        assert!(!matches(r"[^\x{0}-\x{D7FF}\x{E000}-\x{10FFFF}]", "\u{d7ff}\u{e000}"));
        assert!(matches(r"[^\x{0}-\x{D7FE}\x{E000}-\x{10FFFF}]", "\u{d7ff}"));
    }

    #[test]
    fn unicode_names_are_exact() {
        for good in ["Greek", "Old_Italic", "SignWriting", "Nko", "Linear_A", "C", "Zl"] {
            assert!(Pattern::new(&format!(r"\p{{{good}}}")).is_ok(), "{good}");
        }
        for bad in ["greek", "GREEK", "Letter", "Alphabetic", "", "L l", "Cn", "Script=Greek"] {
            assert!(Pattern::new(&format!(r"\p{{{bad}}}")).is_err(), "{bad}");
        }
        assert!(matches(r"\p{Zl}", "\u{2028}"));
        assert!(!matches(r"\p{C}", "\u{378}"));
    }

    #[test]
    fn invalid_bytes_are_single_characters() {
        assert!(matches("^a.b$", b"a\xffb"));
        assert!(!matches("^a.b$", b"a\xe2\x82b"));
        assert!(matches("^a..b$", b"a\xe2\x82b"));
        assert!(matches(r"\x{FFFD}", b"\xc3"));
        assert!(matches("^[^x]$", b"\xff"));
        assert!(matches("error", b"\xff error \xff"));
        assert!(matches(r"\berror\b", b"\xfferror\xff"));
    }

    /// Pieces of patterns whose meaning Go's dialect and the `regex` crate's share.
    fn shared_piece() -> impl Strategy<Value = String> {
        prop::sample::select(vec![
            "a",
            "b",
            "k",
            "s",
            "é",
            "\u{17f}",
            ".",
            "[ab]",
            "[^a]",
            "[^\\x00-\\x7F]",
            "a*",
            "b+",
            "(?:ab)?",
            "(?:a|b)",
            "^",
            "$",
            "(?-u:\\b)",
            "\\p{Greek}",
            "\\x{FFFD}",
            "(?i)",
            "(?s)",
            "(?m)",
            "|",
            "(a{2,3}|k)",
            "\\.",
            "(?:a+)*",
            "(?:b?){2}",
        ])
        .prop_map(str::to_owned)
    }

    proptest! {
        #[test]
        fn agrees_with_the_regex_crate_where_the_dialects_do(
            pieces in prop::collection::vec(shared_piece(), 0..8),
            text in prop::collection::vec(
                prop::sample::select(vec![
                    &b"a"[..], b"b", b"K", b"s", b"S", b" ", b"\n", b".", b"\xff", b"\xe2\x82",
                    "é".as_bytes(), "É".as_bytes(), "α".as_bytes(), "\u{17f}".as_bytes(),
                    "\u{212a}".as_bytes(),
                ]),
                0..8,
            ),
        ) {
            let theirs = pieces.concat();
            let ours = Pattern::new(&theirs.replace(r"(?-u:\b)", r"\b")).unwrap();
            let text = text.concat();
            // Here the text is replaced as a whole, whatever it contains.
            let mut replaced = String::new();
            for chunk in text.utf8_chunks() {
                replaced.push_str(chunk.valid());
                replaced.extend(chunk.invalid().iter().map(|_| '\u{fffd}'));
            }
            let expect = Regex::new(&theirs).unwrap().is_match(replaced.as_bytes());
            prop_assert_eq!(ours.is_match(&text), expect, "{:?} {:?}", theirs, text);
        }

        #[test]
        fn any_pattern_is_safe(
            pattern in r"[ab(){}\[\]?*+|\\^$.,:<>=!0-9imsUPQEpdwxzkn_\-]{0,16}",
            text: Vec<u8>,
        ) {
            match Pattern::new(&pattern) {
                Ok(pattern) => { pattern.is_match(&text); }
                Err(error) => prop_assert_eq!(error.to_string().lines().count(), 1),
            }
        }
    }
}
