//! The patterns of `filter.name` and `filter.labels`: Go's `path.Match`, bit for bit.
//!
//! Pure. Logspout's users write these patterns, so their meaning is Go's and not a shell's: `*`
//! and `?` stop at `/`, a class does not, and a malformed pattern is refused whatever the name.
//! A pattern is checked and taken apart once; matching then allocates nothing and takes at most
//! (length of the pattern) x (length of the name) steps.

use std::fmt;

/// A pattern, checked and ready to match.
///
/// | in the pattern | matches |
/// | --- | --- |
/// | `*` | any text without `/`, also none |
/// | `?` | one character other than `/` |
/// | `[a-z]`, `[^a-z]` | one character in, or not in, the class; `/` too |
/// | `\c` | the character `c`, inside a class as well |
/// | anything else | itself |
///
/// A byte that is not UTF-8 counts as one character, U+FFFD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    chunks: Vec<Chunk>,
}

/// What stands between two stars.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Chunk {
    /// One or more stars come before it.
    star: bool,
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Byte(u8),
    AnyChar,
    Class { negated: bool, ranges: Vec<(char, char)> },
}

/// Why a pattern is malformed, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GlobError {
    pattern: String,
    /// Byte offset in the pattern.
    at: usize,
    what: &'static str,
}

impl fmt::Display for GlobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed pattern {:?} at byte {}: {}", self.pattern, self.at, self.what)
    }
}

impl std::error::Error for GlobError {}

impl Glob {
    /// Checks `pattern` and takes it apart.
    pub fn new(pattern: &str) -> Result<Glob, GlobError> {
        Parser { pattern, at: 0 }.chunks().map(|chunks| Glob { chunks })
    }

    /// Whether the whole of `name` matches.
    pub fn matches(&self, name: impl AsRef<[u8]>) -> bool {
        let mut name = name.as_ref();
        let last = self.chunks.len().saturating_sub(1);
        for (i, chunk) in self.chunks.iter().enumerate() {
            match chunk.find(name, i == last) {
                Some(rest) => name = rest,
                None => return false,
            }
        }
        name.is_empty()
    }
}

impl Chunk {
    /// What is left of `name` behind the first place where this chunk matches; the last chunk
    /// has to match up to the end.
    fn find<'n>(&self, name: &'n [u8], last: bool) -> Option<&'n [u8]> {
        if self.star && self.steps.is_empty() {
            return if name.contains(&b'/') { None } else { Some(&[]) };
        }
        let mut at = name;
        loop {
            match self.strip(at) {
                Some(rest) if !last || rest.is_empty() => return Some(rest),
                _ => {}
            }
            match at {
                [skipped, rest @ ..] if self.star && *skipped != b'/' => at = rest,
                _ => return None,
            }
        }
    }

    /// What is left of `name` if it begins with this chunk.
    fn strip<'n>(&self, mut name: &'n [u8]) -> Option<&'n [u8]> {
        for step in &self.steps {
            let (&first, rest) = name.split_first()?;
            name = match step {
                Step::Byte(byte) if *byte == first => rest,
                Step::AnyChar if first != b'/' => first_char(name).1,
                Step::Class { negated, ranges } => {
                    let (c, rest) = first_char(name);
                    let inside = ranges.iter().any(|&(low, high)| low <= c && c <= high);
                    if inside == *negated {
                        return None;
                    }
                    rest
                }
                _ => return None,
            };
        }
        Some(name)
    }
}

/// The first character of `text`, which is not empty, and what follows it.
fn first_char(text: &[u8]) -> (char, &[u8]) {
    let (head, _) = text.split_at(text.len().min(4));
    let valid = match std::str::from_utf8(head) {
        Ok(valid) => valid,
        Err(e) => std::str::from_utf8(&head[..e.valid_up_to()]).unwrap_or_default(),
    };
    match valid.chars().next() {
        Some(c) => (c, &text[c.len_utf8()..]),
        None => (char::REPLACEMENT_CHARACTER, &text[1.min(text.len())..]),
    }
}

struct Parser<'p> {
    pattern: &'p str,
    at: usize,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.pattern[self.at..]
    }

    fn error<T>(&self, what: &'static str) -> Result<T, GlobError> {
        Err(GlobError { pattern: self.pattern.to_owned(), at: self.at, what })
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest().chars().next()?;
        self.at += c.len_utf8();
        Some(c)
    }

    /// Steps over `c` if it is next.
    fn eat(&mut self, c: char) -> bool {
        let eaten = self.rest().starts_with(c);
        if eaten {
            self.at += c.len_utf8();
        }
        eaten
    }

    fn chunks(mut self) -> Result<Vec<Chunk>, GlobError> {
        let mut chunks = Vec::new();
        while !self.rest().is_empty() {
            let mut star = false;
            while self.eat('*') {
                star = true;
            }
            let steps = self.steps()?;
            chunks.push(Chunk { star, steps });
        }
        Ok(chunks)
    }

    /// The steps up to the next star.
    fn steps(&mut self) -> Result<Vec<Step>, GlobError> {
        let mut steps = Vec::new();
        while !self.rest().starts_with('*') {
            let Some(c) = self.next() else { break };
            match c {
                '?' => steps.push(Step::AnyChar),
                '[' => steps.push(self.class()?),
                _ => {
                    let literal = if c == '\\' { self.next() } else { Some(c) };
                    let Some(literal) = literal else {
                        return self.error("nothing follows the last backslash");
                    };
                    let mut utf8 = [0; 4];
                    steps.extend(literal.encode_utf8(&mut utf8).bytes().map(Step::Byte));
                }
            }
        }
        Ok(steps)
    }

    fn class(&mut self) -> Result<Step, GlobError> {
        let negated = self.eat('^');
        let mut ranges = Vec::new();
        loop {
            if !ranges.is_empty() && self.eat(']') {
                return Ok(Step::Class { negated, ranges });
            }
            let low = self.class_char()?;
            let high = if self.eat('-') { self.class_char()? } else { low };
            ranges.push((low, high));
        }
    }

    fn class_char(&mut self) -> Result<char, GlobError> {
        if self.rest().starts_with(['-', ']']) {
            return self.error("- and ] need a backslash in a class");
        }
        self.eat('\\');
        match self.next() {
            Some(c) if !self.rest().is_empty() => Ok(c),
            _ => self.error("missing ]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The pattern's meaning by plain backtracking. Where a class takes a `/`, Go's answer is
    /// that of the first place where each chunk fits, which backtracking does not know about.
    fn oracle(chunks: &[Piece], name: &[u8]) -> bool {
        let Some((first, rest)) = chunks.split_first() else { return name.is_empty() };
        match first {
            Piece::Star => {
                let end = name.iter().position(|&b| b == b'/').unwrap_or(name.len());
                (0..=end).any(|skip| oracle(rest, &name[skip..]))
            }
            Piece::One(step) => {
                let chunk = Chunk { star: false, steps: vec![step.clone()] };
                chunk.strip(name).is_some_and(|name| oracle(rest, name))
            }
        }
    }

    enum Piece {
        Star,
        One(Step),
    }

    fn takes_slash(step: &Step) -> bool {
        let chunk = Chunk { star: false, steps: vec![step.clone()] };
        matches!(step, Step::Class { .. }) && chunk.strip(b"/").is_some()
    }

    fn flat(glob: &Glob) -> Vec<Piece> {
        let mut out = Vec::new();
        for chunk in &glob.chunks {
            out.extend(chunk.star.then_some(Piece::Star));
            out.extend(chunk.steps.iter().cloned().map(Piece::One));
        }
        out
    }

    proptest! {
        #[test]
        fn agrees_with_backtracking(
            pattern in "[ab/*?\\[\\]^é-]{0,8}",
            name in "[ab/é-]{0,10}",
        ) {
            if let Ok(glob) = Glob::new(&pattern)
                && !glob.chunks.iter().flat_map(|c| &c.steps).any(takes_slash)
            {
                prop_assert_eq!(glob.matches(&name), oracle(&flat(&glob), name.as_bytes()));
            }
        }

        #[test]
        fn any_pattern_and_name_is_safe(pattern in ".*", name: Vec<u8>) {
            if let Ok(glob) = Glob::new(&pattern) {
                glob.matches(&name);
            }
        }
    }

    #[test]
    fn a_class_takes_a_slash_at_the_first_place_that_fits() {
        assert!(Glob::new("a[^b]c").unwrap().matches("a/c"));
        assert!(!Glob::new("*[^a]*/c").unwrap().matches("b/b/c"));
    }

    #[test]
    fn invalid_bytes_are_single_characters() {
        let one = Glob::new("a?b").unwrap();
        assert!(one.matches(b"a\xffb"));
        assert!(!one.matches(b"a\xe2\x82b"));
        assert!(Glob::new("[\u{fffd}]").unwrap().matches(b"\xff"));
    }

    #[test]
    fn many_stars_stay_cheap() {
        let glob = Glob::new(&format!("{}b", "a*".repeat(200))).unwrap();
        assert!(!glob.matches("a".repeat(5000)));
    }

    #[test]
    fn errors_name_the_place() {
        let error = Glob::new("shop_[a-").unwrap_err().to_string();
        assert_eq!(error, r#"malformed pattern "shop_[a-" at byte 8: missing ]"#);
    }
}
