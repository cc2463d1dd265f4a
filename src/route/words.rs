//! Words: the strings that a pattern asks for, with letters of either case where it does not care.
//!
//! Pure. `(?i)exception` is 512 strings and one word; whoever looks for words need not know more.

use std::collections::BTreeSet;

use regex_syntax::hir::{Class, Hir, HirKind};

/// Most words that a pattern is taken apart into.
const WORDS_MAX: usize = 64;
/// Most characters of a class that is taken apart.
const CLASS_MAX: usize = 8;
/// What tells a lower-case ASCII letter from the upper-case one.
const CASE: u8 = 0x20;

/// A string of bytes, some of which may be ASCII letters that stand for both cases.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Word {
    /// The bytes, a letter of either case in lower case.
    bytes: Vec<u8>,
    /// For each byte: [`CASE`] for a letter of either case, else 0.
    folds: Vec<u8>,
}

impl Word {
    /// The bytes, with letters of either case in lower case.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether any letter stands for both cases.
    pub(super) fn folds(&self) -> bool {
        self.folds.contains(&CASE)
    }

    /// The bytes that may stand at `index`: one, or a letter in both cases.
    pub(super) fn at(&self, index: usize) -> Option<[u8; 2]> {
        let (byte, fold) = (*self.bytes.get(index)?, *self.folds.get(index)?);
        Some([byte, byte & !fold])
    }

    /// Whether `text` begins with the word.
    #[inline]
    pub(super) fn begins(&self, text: &[u8]) -> bool {
        let Some(text) = text.get(..self.bytes.len()) else { return false };
        let bytes = self.bytes.iter().zip(&self.folds).zip(text);
        bytes.fold(true, |same, ((byte, fold), text)| same & (text | fold == *byte))
    }

    /// What words have in common that differ in letters of which there is a second lower case:
    /// `ſ` beside `s`, and the Kelvin sign beside `k`.
    pub(super) fn skeleton(&self) -> Vec<u8> {
        let (mut plain, mut rest) = (Vec::new(), &self.bytes[..]);
        while let Some((&first, after)) = rest.split_first() {
            let (byte, after) = match rest {
                [0xc5, 0xbf, after @ ..] => (b's', after),
                [0xe2, 0x84, 0xaa, after @ ..] => (b'k', after),
                _ => (first, after),
            };
            plain.push(byte);
            rest = after;
        }
        plain
    }

    /// The first bytes of the word, `length` at most.
    pub(super) fn cut(&self, length: usize) -> Word {
        let length = length.min(self.bytes.len());
        Word { bytes: self.bytes[..length].to_vec(), folds: self.folds[..length].to_vec() }
    }

    /// Whether every string that contains this word contains `other`.
    fn contains(&self, other: &Word) -> bool {
        let covers = |at: usize| {
            let mine = self.bytes[at..].iter().zip(&self.folds[at..]);
            mine.zip(other.bytes.iter().zip(&other.folds))
                .all(|((byte, fold), (b, f))| byte | f == *b && fold & !f == 0)
        };
        (0..=self.bytes.len().saturating_sub(other.bytes.len()))
            .any(|at| other.bytes.len() <= self.bytes.len() && covers(at))
    }

    fn push(&mut self, byte: u8, fold: u8) {
        self.bytes.push(byte);
        self.folds.push(fold);
    }

    fn literal(bytes: &[u8]) -> Word {
        Word { bytes: bytes.to_vec(), folds: vec![0; bytes.len()] }
    }

    fn append(&mut self, other: &Word) {
        self.bytes.extend_from_slice(&other.bytes);
        self.folds.extend_from_slice(&other.folds);
    }
}

/// The words of which a string that matches the whole of `hir` is one; `None` where that cannot be
/// said, or they are too many.
pub(super) fn exact(hir: &Hir) -> Option<Vec<Word>> {
    let words = match hir.kind() {
        HirKind::Empty => vec![Word::default()],
        HirKind::Literal(literal) => vec![Word::literal(&literal.0)],
        HirKind::Class(class) => of_class(class)?,
        HirKind::Capture(capture) => exact(&capture.sub)?,
        HirKind::Alternation(subs) => {
            let words: Option<Vec<Vec<Word>>> = subs.iter().map(exact).collect();
            words?.concat()
        }
        HirKind::Concat(subs) => {
            let mut words = vec![Word::default()];
            for sub in subs {
                words = product(&words, &exact(sub)?)?;
            }
            words
        }
        HirKind::Look(_) | HirKind::Repetition(_) => return None,
    };
    (words.len() <= WORDS_MAX).then_some(words)
}

fn product(begins: &[Word], ends: &[Word]) -> Option<Vec<Word>> {
    (begins.len() * ends.len() <= WORDS_MAX).then(|| {
        let both = begins.iter().flat_map(|begin| ends.iter().map(move |end| (begin, end)));
        both.map(|(begin, end)| {
            let mut word = begin.clone();
            word.append(end);
            word
        })
        .collect()
    })
}

/// The characters of a class, both cases of an ASCII letter as one word.
fn of_class(class: &Class) -> Option<Vec<Word>> {
    let mut strings = Vec::new();
    match class {
        Class::Unicode(class) => {
            for range in class.ranges() {
                if range.len() > CLASS_MAX {
                    return None;
                }
                let characters = range.start()..=range.end();
                strings.extend(characters.map(|c| c.encode_utf8(&mut [0; 4]).as_bytes().to_vec()));
            }
        }
        Class::Bytes(class) => {
            for range in class.ranges() {
                if range.len() > CLASS_MAX {
                    return None;
                }
                strings.extend((range.start()..=range.end()).map(|byte| vec![byte]));
            }
        }
    }
    (strings.len() <= CLASS_MAX).then(|| folded(strings))
}

/// The words that stand for just these strings: where all spellings of one are there that differ
/// in the case of ASCII letters, they are one word.
pub(super) fn folded(mut strings: Vec<Vec<u8>>) -> Vec<Word> {
    strings.sort_by_cached_key(|string| (string.to_ascii_lowercase(), string.clone()));
    strings.dedup();
    let mut words = Vec::new();
    for same in strings.chunk_by(|a, b| a.eq_ignore_ascii_case(b)) {
        let first = &same[0];
        let varies = |at: usize| same.iter().any(|string| string[at] != first[at]);
        let varying = (0..first.len()).filter(|&at| varies(at)).count();
        if u32::try_from(varying).ok().and_then(|n| 1_usize.checked_shl(n)) == Some(same.len()) {
            let mut word = Word::default();
            for (at, byte) in first.iter().enumerate() {
                let fold = if varies(at) { CASE } else { 0 };
                word.push(byte | fold, fold);
            }
            words.push(word);
        } else {
            words.extend(same.iter().map(|string| Word::literal(string)));
        }
    }
    words
}

/// How many words these are if spellings with a second lower case do not count.
pub(super) fn count<'w>(words: impl Iterator<Item = &'w Word>) -> usize {
    words.map(Word::skeleton).collect::<BTreeSet<_>>().len()
}

/// Drops each word that contains another one: whoever contains it contains the other.
pub(super) fn minimal(mut words: Vec<Word>) -> Vec<Word> {
    words.sort_by(|a, b| a.bytes.len().cmp(&b.bytes.len()).then_with(|| a.cmp(b)));
    let mut kept: Vec<Word> = Vec::new();
    for word in words {
        if !kept.iter().any(|other| word.contains(other)) {
            kept.push(word);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(pattern: &str) -> Option<Vec<String>> {
        let hir = regex_syntax::parse(pattern).unwrap();
        let words = minimal(exact(&hir)?);
        let spell = |word: &Word| {
            let letters = word.bytes.iter().zip(&word.folds);
            let spelled = letters.flat_map(|(&byte, &fold)| match fold {
                0 => vec![byte],
                _ => vec![b'[', byte, b']'],
            });
            String::from_utf8(spelled.collect()).unwrap()
        };
        Some(words.iter().map(spell).collect())
    }

    #[test]
    fn patterns_and_their_words() {
        let words = |pattern| spelled(pattern).unwrap_or_default();
        assert_eq!(words("error"), ["error"]);
        assert_eq!(words("(?i)Error!"), ["[e][r][r][o][r]!"]);
        assert_eq!(
            words("(?i)exception|timeout"),
            ["[t][i][m][e][o][u][t]", "[e][x][c][e][p][t][i][o][n]"]
        );
        // The Kelvin sign is a k to whoever does not care for case.
        assert_eq!(words("(?i)ok"), ["[o][k]", "[o]\u{212a}"]);
        assert_eq!(words("a[bc]d"), ["abd", "acd"]);
        assert_eq!(words("(err|warn): "), ["err: ", "warn: "]);
        assert_eq!(words("error|err"), ["err"]);
        assert_eq!(words("(?i)err|xERROR"), ["[e][r][r]"]);
        assert_eq!(words("err|(?i)error"), ["err", "[e][r][r][o][r]"]);
        assert_eq!(spelled("[a-z]x"), None);
        assert_eq!(spelled("a+"), None);
    }

    #[test]
    fn only_complete_spellings_are_one_word() {
        let strings = |list: &[&str]| list.iter().map(|s| s.as_bytes().to_vec()).collect();
        assert_eq!(folded(strings(&["ab", "aB", "Ab", "AB"])).len(), 1);
        assert_eq!(folded(strings(&["ab", "aB", "Ab"])).len(), 3);
        assert_eq!(folded(strings(&["ab", "aB"])).len(), 1);
        assert_eq!(folded(strings(&["ab", "AB"])).len(), 2);
        assert_eq!(folded(strings(&["a", "b", "@", "`"])).len(), 4);
    }

    #[test]
    fn a_word_is_recognised() {
        let [word] = &folded(vec![b"a{".to_vec(), b"A{".to_vec()])[..] else { panic!() };
        assert!(word.begins(b"a{") && word.begins(b"A{x"));
        assert!(!word.begins(b"a[") && !word.begins(b"a") && !word.begins(b"!{"));
        assert_eq!(word.at(0), Some([b'a', b'A']));
        assert_eq!(word.at(1), Some([b'{', b'{']));
        assert_eq!(word.at(2), None);
    }

    #[test]
    fn second_lower_cases_do_not_count() {
        let hir = regex_syntax::parse("(?i)desks|disk").unwrap();
        let words = exact(&hir).unwrap();
        assert_eq!((words.len(), count(words.iter())), (12, 2));
    }
}
