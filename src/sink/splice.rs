//! Lines that are JSON themselves: is this one, and what are its members?
//!
//! Pure, and allocates nothing: whether a line is JSON is asked of every line of a route that wants
//! to know. What is taken for JSON can be put into a record as it stands, whoever reads that: it is
//! valid (RFC 8259), nests no deeper than [`DEPTH_MAX`], and has neither half of a surrogate pair
//! in an escape nor a number that is infinite for a computer, which many decoders refuse.

use memchr::{memchr, memchr2};

/// Objects and lists that may be around a value: fewer than any receiver allows.
const DEPTH_MAX: usize = 64;

/// A number of so many characters and no exponent is one for all.
const DIGITS_SAFE: usize = 300;

/// The JSON value that `line` is, without white space around it; `None` if it is none.
pub(super) fn value(line: &[u8]) -> Option<&[u8]> {
    let line = trim(line);
    let mut scan = Scan { text: line, at: 0 };
    scan.value(0)?;
    (scan.at == line.len() && str::from_utf8(line).is_ok()).then_some(line)
}

/// The same, of objects alone.
pub(super) fn object(line: &[u8]) -> Option<&[u8]> {
    match trim(line).first() {
        Some(b'{') => value(line),
        _ => None,
    }
}

/// The members of an object that [`object`] gave: each name with its quotes, as it is written, and
/// the value.
pub(super) fn members(object: &[u8]) -> Members<'_> {
    Members { scan: Scan { text: object, at: 1 } }
}

/// See [`members`].
pub(super) struct Members<'a> {
    scan: Scan<'a>,
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let scan = &mut self.scan;
        scan.space();
        if scan.peek() == Some(b',') {
            scan.at += 1;
            scan.space();
        }
        let (text, from) = (scan.text, scan.at);
        scan.string()?;
        let name = &text[from..scan.at];
        scan.space();
        scan.byte(b':')?;
        scan.space();
        let from = scan.at;
        scan.value(0)?;
        Some((name, &text[from..scan.at]))
    }
}

/// Whether two names, with their quotes, are the same one: they may be written with escapes.
pub(super) fn same_name(a: &[u8], b: &[u8]) -> bool {
    let plain = |name| memchr(b'\\', name).is_none();
    match plain(a) && plain(b) {
        true => a == b,
        false => match (decoded(a), decoded(b)) {
            (Some(a), Some(b)) => a == b,
            _ => false,
        },
    }
}

fn decoded(name: &[u8]) -> Option<String> {
    serde_json::from_slice(name).ok()
}

/// Appends JSON without the line breaks that it has between its tokens, where a line was joined
/// from several. In strings there are none.
pub(super) fn put(json: &[u8], record: &mut Vec<u8>) {
    let mut rest = json;
    while let Some(at) = memchr2(b'\n', b'\r', rest) {
        record.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
    }
    record.extend_from_slice(rest);
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn trim(mut line: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = line
        && is_space(*first)
    {
        line = rest;
    }
    while let [rest @ .., last] = line
        && is_space(*last)
    {
        line = rest;
    }
    line
}

/// A place in a text. Each method goes over what it is called after, or says that it is not there.
struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn byte(&mut self, wanted: u8) -> Option<()> {
        (self.peek()? == wanted).then(|| self.at += 1)
    }

    fn space(&mut self) {
        while self.peek().is_some_and(is_space) {
            self.at += 1;
        }
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.text[self.at..].starts_with(word).then(|| self.at += word.len())
    }

    /// A value inside of `depth` others.
    fn value(&mut self, depth: usize) -> Option<()> {
        match self.peek()? {
            b'{' | b'[' if depth == DEPTH_MAX => None,
            b'{' => self.list(b'}', |scan| {
                scan.string()?;
                scan.space();
                scan.byte(b':')?;
                scan.space();
                scan.value(depth + 1)
            }),
            b'[' => self.list(b']', |scan| scan.value(depth + 1)),
            b'"' => self.string(),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => self.number(),
        }
    }

    /// What stands between brackets, of which the first is next and `end` the last.
    fn list(&mut self, end: u8, item: impl Fn(&mut Self) -> Option<()>) -> Option<()> {
        self.at += 1;
        self.space();
        if self.byte(end).is_some() {
            return Some(());
        }
        loop {
            item(self)?;
            self.space();
            if self.byte(end).is_some() {
                return Some(());
            }
            self.byte(b',')?;
            self.space();
        }
    }

    fn string(&mut self) -> Option<()> {
        self.byte(b'"')?;
        loop {
            let rest = self.text.get(self.at..)?;
            self.at += rest.iter().position(|&byte| matches!(byte, b'"' | b'\\' | 0..=0x1f))?;
            match self.peek()? {
                b'"' => return self.byte(b'"'),
                b'\\' => self.escape()?,
                _ => return None,
            }
        }
    }

    fn escape(&mut self) -> Option<()> {
        self.at += 1;
        match self.peek()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {
                self.at += 1;
                Some(())
            }
            _ => match self.unit()? {
                // RFC 8259, section 7: characters beyond U+FFFF are two units.
                0xd800..=0xdbff => {
                    self.byte(b'\\')?;
                    matches!(self.unit()?, 0xdc00..=0xdfff).then_some(())
                }
                0xdc00..=0xdfff => None,
                _ => Some(()),
            },
        }
    }

    /// `uXXXX`, behind its backslash.
    fn unit(&mut self) -> Option<u32> {
        self.byte(b'u')?;
        let digits = self.text.get(self.at..self.at + 4)?;
        self.at += 4;
        digits.iter().try_fold(0, |unit, &digit| Some(unit * 16 + char::from(digit).to_digit(16)?))
    }

    fn number(&mut self) -> Option<()> {
        let from = self.at;
        let _ = self.byte(b'-');
        if self.byte(b'0').is_none() {
            self.digits()?;
        }
        if self.byte(b'.').is_some() {
            self.digits()?;
        }
        let mut is_large = self.at - from > DIGITS_SAFE;
        if self.peek().is_some_and(|byte| matches!(byte, b'e' | b'E')) {
            self.at += 1;
            if self.peek().is_some_and(|byte| matches!(byte, b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
            is_large = true;
        }
        let number = || str::from_utf8(&self.text[from..self.at]).ok()?.parse::<f64>().ok();
        (!is_large || number()?.is_finite()).then_some(())
    }

    fn digits(&mut self) -> Option<()> {
        let count = self.text[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        (count > 0).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    #[test]
    fn what_is_json() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        for (line, is_json) in [
            ("{}", true),
            (" {\"a\" : [ 1 , -0.5e+3,true,null ] ,\"b\":{\"c\":\"\\u00e9\\n\"}}\r", true),
            ("{\"a\":1,}", false),
            ("{\"a\" 1}", false),
            ("{a:1}", false),
            ("{\"a\":1} x", false),
            ("", false),
            ("  ", false),
            ("0", true),
            ("01", false),
            ("-", false),
            ("1.", false),
            ("1e308", true),
            ("-1E+309", false),
            ("1e-999", true),
            (&"9".repeat(400), false),
            ("2024-01-01", false),
            ("[INFO] x", false),
            ("truely", false),
            ("\"a\tb\"", false),
            ("\"\\x\"", false),
            ("\"\\ud83d\\ude00\"", true),
            ("\"\\ud83d\"", false),
            ("\"\\ude00\\ud83d\"", false),
            (&nested(DEPTH_MAX), true),
            (&nested(DEPTH_MAX + 1), false),
            (&"[".repeat(100_000), false),
        ] {
            assert_eq!(value(line.as_bytes()).is_some(), is_json, "{line}");
        }
        assert_eq!(value(b"\"\xff\""), None);
        assert_eq!(object(b"[{}]"), None);
        assert_eq!(object(b"\t{} "), Some(&b"{}"[..]));
    }

    #[test]
    fn members_are_as_they_were_written() {
        let text = br#"{ "a" :[1, {"b":2}] ,"\u0062":"}," }"#;
        let all: Vec<_> = members(object(text).unwrap()).collect();
        let expected: [(&[u8], &[u8]); 2] =
            [(b"\"a\"", b"[1, {\"b\":2}]"), (b"\"\\u0062\"", b"\"},\"")];
        assert_eq!(all, expected);
        assert_eq!(members(b"{}").count(), 0);
        assert!(same_name(all[1].0, b"\"b\"") && !same_name(all[0].0, b"\"b\""));
    }

    #[test]
    fn breaks_between_tokens_go() {
        let mut record = Vec::new();
        put(b"{\r\n \"a\\n\": 1,\n\n\"b\":2}", &mut record);
        assert_eq!(record, b"{ \"a\\n\": 1,\"b\":2}");
    }

    fn json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            any::<bool>().prop_map(|truth| truth.to_string()),
            any::<i64>().prop_map(|number| number.to_string()),
            "-?(0|[1-9][0-9]{0,5})(\\.[0-9]{1,3})?([eE][+-]?[0-9])?",
            "\\PC{0,8}".prop_map(|text| Value::from(text).to_string()),
            "\"(\\\\u[0-9a-f]{4}|\\\\[\"/bfnrt]|[a-z])*\"",
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let member = ("[ \n]?", "[a-c\\\\]{0,2}", inner.clone())
                .prop_map(|(space, name, value)| format!("{space}{}:{value}", Value::from(name)));
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(|all| format!("[{}]", all.join(", "))),
                prop::collection::vec(member, 0..4)
                    .prop_map(|all| format!("{{{}}}", all.join(","))),
            ]
        })
    }

    fn is_value(line: &[u8]) -> bool {
        serde_json::from_slice::<Value>(line).is_ok()
    }

    proptest! {
        #[test]
        fn as_the_naive_way(
            text in json(),
            (at, byte) in any::<(prop::sample::Index, u8)>(),
        ) {
            let line = text.as_bytes();
            prop_assert_eq!(value(line).is_some(), is_value(line), "{}", text);
            let mut broken = text.into_bytes();
            let at = at.index(broken.len());
            broken[at] = byte;
            prop_assert_eq!(value(&broken).is_some(), is_value(&broken), "{:?}", broken);
        }

        #[test]
        fn members_are_those_of_the_object(text in json()) {
            let Some(object) = object(text.as_bytes()) else { return Ok(()) };
            let mut found = serde_json::Map::new();
            for (name, value) in members(object) {
                let value: Value = serde_json::from_slice(value).unwrap();
                found.insert(decoded(name).unwrap(), value);
            }
            let expected: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(Value::Object(found), expected);
        }
    }
}
