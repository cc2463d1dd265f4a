//! Go's ways with text: what is printable, `strconv.Quote` and its inverse, UTF-8 that may be
//! broken.
//!
//! Pure.

/// The first character of `bytes` and its length, `None` where it is no UTF-8; such a byte counts
/// as one character, as in Go. `bytes` is not empty.
pub(super) fn decode(bytes: &[u8]) -> (Option<char>, usize) {
    let len = match bytes[0] {
        0..0x80 => return (Some(char::from(bytes[0])), 1),
        0xc2..0xe0 => 2,
        0xe0..0xf0 => 3,
        0xf0..0xf5 => 4,
        _ => return (None, 1),
    };
    let text = bytes.get(..len).and_then(|bytes| std::str::from_utf8(bytes).ok());
    match text.and_then(|text| text.chars().next()) {
        Some(c) => (Some(c), len),
        None => (None, 1),
    }
}

/// The characters of `bytes`: where each begins, what it is ([`decode`]), and its bytes.
pub(super) fn chars(bytes: &[u8]) -> impl Iterator<Item = (usize, Option<char>, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
        let (c, len) = decode(rest);
        at += len;
        Some((at - len, c, &rest[..len]))
    })
}

/// Go's `unicode.IsPrint`: letters, marks, numbers, punctuation, symbols and the ASCII space.
pub(super) fn is_print(c: char) -> bool {
    if c.is_ascii() {
        return (' '..='~').contains(&c);
    }
    // What the standard library would escape is not printable. A mark that joins the character
    // before it is escaped only at the beginning of a text.
    let mut text = [b'a'; 5];
    let len = 1 + c.encode_utf8(&mut text[1..]).len();
    let text = std::str::from_utf8(&text[..len]).unwrap_or_default();
    text.escape_debug().nth(1) == Some(c)
}

/// Go's `strconv.Quote`, or with `ascii` its `QuoteToASCII`.
pub(super) fn quote(bytes: &[u8], ascii: bool) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for (_, c, raw) in chars(bytes) {
        match c {
            Some(c) => escape(&mut out, c, '"', ascii),
            None => out.push_str(&format!("\\x{:02x}", raw[0])),
        }
    }
    out.push('"');
    out
}

/// Go's `strconv.QuoteRune`, or with `ascii` its `QuoteRuneToASCII`.
pub(super) fn quote_char(c: char, ascii: bool) -> String {
    let mut out = String::from('\'');
    escape(&mut out, c, '\'', ascii);
    out.push('\'');
    out
}

fn escape(out: &mut String, c: char, quote: char, ascii: bool) {
    match c {
        c if c == quote || c == '\\' => out.extend(['\\', c]),
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x0b' => out.push_str("\\v"),
        c if (c.is_ascii() || !ascii) && is_print(c) => out.push(c),
        c if c.is_ascii() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
        c if u32::from(c) < 0x1_0000 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
        c => out.push_str(&format!("\\U{:08x}", u32::from(c))),
    }
}

/// Go's `strconv.CanBackquote`: whether a raw string can hold it.
pub(super) fn can_backquote(bytes: &[u8]) -> bool {
    chars(bytes).all(|(_, c, _)| {
        c.is_some_and(|c| c != '\u{feff}' && c != '`' && c != '\x7f' && (c >= ' ' || c == '\t'))
    })
}

/// The value of a Go string literal with its quotes, as `strconv.Unquote` gives it; `None` if it
/// is not one.
pub(super) fn unquote(literal: &str) -> Option<Vec<u8>> {
    let quote = literal.chars().next()?;
    let inner = literal.strip_prefix(quote)?.strip_suffix(quote)?;
    if quote == '`' {
        return Some(inner.bytes().filter(|&byte| byte != b'\r').collect());
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while !rest.is_empty() {
        let (unit, after) = unquote_char(rest, quote)?;
        match unit {
            Unit::Byte(byte) => out.push(byte),
            Unit::Char(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
        rest = after;
    }
    Some(out)
}

/// What an element of a literal stands for.
pub(super) enum Unit {
    /// A byte, written `\x41` or `\101`.
    Byte(u8),
    /// A character.
    Char(char),
}

/// The first element of the inside of a literal, and what is behind it.
pub(super) fn unquote_char(text: &str, quote: char) -> Option<(Unit, &str)> {
    let mut chars = text.chars();
    let c = chars.next()?;
    if c == quote || c == '\n' {
        return None;
    }
    if c != '\\' {
        return Some((Unit::Char(c), chars.as_str()));
    }
    let escape = chars.next()?;
    let rest = chars.as_str();
    let numeric = |rest: &'_ str, digits: usize, radix: u32| {
        let digits = rest.get(..digits)?;
        let all = digits.chars().all(|c| c.is_digit(radix));
        all.then(|| u32::from_str_radix(digits, radix).ok()).flatten()
    };
    let simple = |c: char| Some((Unit::Char(c), rest));
    match escape {
        'a' => simple('\x07'),
        'b' => simple('\x08'),
        'f' => simple('\x0c'),
        'n' => simple('\n'),
        'r' => simple('\r'),
        't' => simple('\t'),
        'v' => simple('\x0b'),
        '\\' => simple('\\'),
        '\'' | '"' if escape == quote => simple(escape),
        'x' => Some((Unit::Byte(numeric(rest, 2, 16)? as u8), &rest[2..])),
        'u' => Some((Unit::Char(char::from_u32(numeric(rest, 4, 16)?)?), &rest[4..])),
        'U' => Some((Unit::Char(char::from_u32(numeric(rest, 8, 16)?)?), &rest[8..])),
        '0'..='7' => {
            let digits = &text[1..];
            let value = u8::try_from(numeric(digits, 3, 8)?).ok()?;
            Some((Unit::Byte(value), &digits[3..]))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_as_in_go() {
        for c in ['a', '~', ' ', 'é', '日', '🚀', '\u{301}', '\u{fffd}'] {
            assert!(is_print(c), "{c:?}");
        }
        for c in ['\n', '\x7f', '\u{85}', '\u{a0}', '\u{ad}', '\u{2028}', '\u{200b}', '\u{e000}'] {
            assert!(!is_print(c), "{c:?}");
        }
    }

    #[test]
    fn quotes_come_back() {
        for bytes in
            [&b"plain"[..], b"\"\\\n\t\x07\x00\x7f", b"\xff\xc3(", "é日🚀\u{2028}".as_bytes()]
        {
            for ascii in [false, true] {
                assert_eq!(unquote(&quote(bytes, ascii)).as_deref(), Some(bytes));
            }
        }
        assert_eq!(quote(b"\xff\x01\xe2\x80\xa8", false), r#""\xff\x01\u2028""#);
        for literal in [r#""\z""#, r#""\x4""#, r#""\400""#, r#""\ud800""#, r#""\x+1""#, "\""] {
            assert_eq!(unquote(literal), None, "{literal}");
        }
    }

    #[test]
    fn broken_utf8_counts_byte_by_byte() {
        let decoded: Vec<_> = chars(b"a\xff\xc3(\xed\xa0\x80").map(|(_, c, _)| c).collect();
        assert_eq!(decoded, [Some('a'), None, None, Some('('), None, None, None]);
    }
}
