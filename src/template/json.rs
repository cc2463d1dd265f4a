//! Values as Go's `encoding/json` writes them: what `toJSON` gives.
//!
//! Pure. [`escape`] is on the path of every line of a template with `{{toJSON .Data}}`.

use super::OUTPUT_MAX;
use super::moment::TIME_JSON;
use super::print::{Overflow, exponent};
use super::schema::Type;
use super::text;
use super::value::{Struct, Value};
use crate::sys::simd::{Avx2, Vector, WIDTH};

/// Appends `value` as JSON.
pub(super) fn write(value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), Overflow> {
    if out.len() > OUTPUT_MAX {
        return Err(Overflow);
    }
    match value {
        Value::None | Value::Nil | Value::NilPointer(_) => out.extend_from_slice(b"null"),
        Value::Bool(truth) => out.extend_from_slice(if *truth { b"true" } else { b"false" }),
        Value::Int(number, _) => out.extend_from_slice(number.to_string().as_bytes()),
        Value::Uint(number, _) => out.extend_from_slice(number.to_string().as_bytes()),
        Value::Float(number) => out.extend_from_slice(float(*number).as_bytes()),
        Value::Text(text) => quoted(text, out),
        Value::Port(text) => quoted(text.as_bytes(), out),
        Value::Time(time) => time.format(TIME_JSON, out),
        Value::List(list) if list.is_nil() => out.extend_from_slice(b"null"),
        Value::List(list) => {
            out.push(b'[');
            for (at, value) in list.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write(&value, out)?;
            }
            out.push(b']');
        }
        Value::Map(map) if map.is_nil() => out.extend_from_slice(b"null"),
        Value::Map(map) => members(map.iter(), out)?,
        Value::Struct(fields) => members(shown(fields), out)?,
        // The evaluator takes these apart, or does not let them come here.
        Value::Object(_) | Value::Part(_) | Value::LineTime => {}
    }
    Ok(())
}

/// Appends an object.
pub(super) fn members<'k, 'v>(
    members: impl Iterator<Item = (&'k str, Value<'v>)>,
    out: &mut Vec<u8>,
) -> Result<(), Overflow> {
    out.push(b'{');
    for (at, (key, value)) in members.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        quoted(key.as_bytes(), out);
        out.push(b':');
        write(&value, out)?;
    }
    out.push(b'}');
    Ok(())
}

/// The fields that JSON shows.
fn shown<'s, 'v>(fields: &'s Struct<'v>) -> impl Iterator<Item = (&'static str, Value<'v>)> + 's {
    fields.ty.fields.iter().filter_map(|field| {
        let value = fields.field(field);
        // A struct is never empty for `omitempty`.
        let never_empty = matches!(field.ty, Type::Struct(_) | Type::Time | Type::Array(..));
        let empty = field.omit_empty && !never_empty && is_empty(&value);
        (!empty).then_some((field.json, value))
    })
}

/// Whether `omitempty` leaves it out: a pointer is empty only if it is nil.
fn is_empty(value: &Value<'_>) -> bool {
    !matches!(value, Value::Struct(_)) && !value.is_true()
}

/// The shortest form; with an exponent only for very small and very large numbers.
fn float(number: f64) -> String {
    let size = number.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let shortest = format!("{number:e}");
        let digits = shortest.split_once('e').map_or(1, |(mantissa, _)| mantissa.len());
        let places = digits.saturating_sub(if number < 0.0 { 3 } else { 2 });
        // e-09 is written e-9.
        return exponent(number, places).replace("e-0", "e-");
    }
    format!("{number}")
}

/// Appends `bytes` as a JSON string.
pub(super) fn quoted(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    escape(bytes, out);
    out.push(b'"');
}

/// Whether a byte may stay as it is whatever is beside it. Go escapes `<`, `>` and `&` too, for
/// HTML; what is not ASCII has to be checked. Without branches, so that a block of bytes compiles
/// to vector instructions.
const fn is_plain(byte: u8) -> bool {
    (byte.wrapping_sub(0x20) < 0x60)
        // `"` is 0x22 and `&` 0x26; `<` is 0x3c and `>` 0x3e.
        & (byte | 0x04 != b'&')
        & (byte | 0x02 != b'>')
        & (byte != b'\\')
}

fn are_plain<const N: usize>(block: &[u8; N]) -> bool {
    block.iter().fold(true, |all, byte| all & is_plain(*byte))
}

/// How many of the first bytes are plain. Those behind the last whole block are looked at together
/// with as many before them, all of which are plain.
fn plain_run(bytes: &[u8]) -> usize {
    const BLOCK: usize = 32;
    let blocks = bytes.as_chunks::<BLOCK>().0.iter();
    let at = BLOCK * blocks.take_while(|block| are_plain(block)).count();
    if bytes.len() - at < BLOCK && bytes.last_chunk::<BLOCK>().is_some_and(are_plain) {
        return bytes.len();
    }
    at + plain_words(bytes, at)
}

/// How many bytes are plain from `at` on, before which all are.
fn plain_words(bytes: &[u8], at: usize) -> usize {
    const WORD: usize = size_of::<u64>();
    let first =
        |word: &[u8; WORD]| specials(u64::from_le_bytes(*word)).trailing_zeros() as usize / 8;
    let (words, rest) = bytes[at..].as_chunks::<WORD>();
    for (number, word) in words.iter().enumerate() {
        let first = first(word);
        if first < WORD {
            return number * WORD + first;
        }
    }
    let end = words.len() * WORD;
    match bytes.last_chunk::<WORD>() {
        Some(last) => end + (first(last) + rest.len()).saturating_sub(WORD),
        None => end + rest.iter().take_while(|byte| is_plain(**byte)).count(),
    }
}

/// The top bit of each byte that is not plain, up to the first such byte; above that, of some more.
const fn specials(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    /// The top bit of each byte of `word` that is zero; above the first, of others too.
    const fn zeros(word: u64) -> u64 {
        word.wrapping_sub(ONES) & !word
    }
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    let quote_or_and = zeros((word | (ONES * 0x04)) ^ (ONES * b'&' as u64));
    let less_or_greater = zeros((word | (ONES * 0x02)) ^ (ONES * b'>' as u64));
    let backslash = zeros(word ^ (ONES * b'\\' as u64));
    (word | control | quote_or_and | less_or_greater | backslash) & (ONES * 0x80)
}

/// Appends the inside of a JSON string: escaped as Go does, `<`, `>`, `&`, U+2028 and U+2029 too,
/// and U+FFFD for what is not UTF-8.
pub fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    match Avx2::detect() {
        Some(avx2) => avx2.run(
            #[inline(always)]
            || by_vectors(avx2, bytes, out),
        ),
        None => by_runs(bytes, out),
    }
}

/// Copies and looks for special characters in one go, as far as there are whole vectors.
#[inline(always)]
fn by_vectors(avx2: Avx2, bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len());
    let specials = Specials::new(avx2);
    let mut rest = bytes;
    while rest.len() >= WIDTH {
        rest = &rest[avx2.append_before(rest, |vector| specials.places(vector), out)..];
        match rest.first() {
            // Nothing special, but no room.
            Some(&byte) if is_plain(byte) => break,
            Some(byte) if byte.is_ascii() => {
                special(Some(char::from(*byte)), out);
                rest = &rest[1..];
            }
            Some(_) => rest = not_ascii(rest, out),
            None => return,
        }
    }
    match bytes.last_chunk() {
        Some(vector) if rest.len() < WIDTH => {
            // The places of the rest alone.
            let places = u64::from(specials.places(avx2.load(vector))) >> (WIDTH - rest.len());
            by_places(places, rest, out);
        }
        _ => by_runs(rest, out),
    }
}

/// The same, where it is known which of the bytes are special.
#[inline(always)]
fn by_places(mut places: u64, mut rest: &[u8], out: &mut Vec<u8>) {
    loop {
        let plain = rest.len().min(places.trailing_zeros() as usize);
        out.extend_from_slice(&rest[..plain]);
        rest = &rest[plain..];
        match rest.first() {
            Some(byte) if byte.is_ascii() => special(Some(char::from(*byte)), out),
            Some(_) => return by_runs(rest, out),
            None => return,
        }
        rest = &rest[1..];
        places >>= plain + 1;
    }
}

/// Appends the first character of `bytes`, which is not ASCII; returns what follows it.
#[inline(never)]
fn not_ascii<'b>(bytes: &'b [u8], out: &mut Vec<u8>) -> &'b [u8] {
    let (c, len) = text::decode(bytes);
    match c {
        Some(c) if !matches!(c, '\u{2028}' | '\u{2029}') => out.extend_from_slice(&bytes[..len]),
        c => special(c, out),
    }
    &bytes[len..]
}

/// What [`is_plain`] says, for vectors.
struct Specials {
    avx2: Avx2,
    /// By its low half, the one special byte above the space with that half, but for the backslash.
    table: Vector,
    backslash: Vector,
    space: Vector,
}

impl Specials {
    #[inline(always)]
    fn new(avx2: Avx2) -> Specials {
        let mut table = [0; 16];
        for byte in *b"\"&<>" {
            table[usize::from(byte & 0xf)] = byte;
        }
        let (backslash, space) = (avx2.splat(b'\\'), avx2.splat(b' '));
        Specials { avx2, table: avx2.twice(&table), backslash, space }
    }

    /// The places of bytes that are not plain.
    #[inline(always)]
    fn places(&self, vector: Vector) -> u32 {
        let Specials { avx2, table, backslash, space } = *self;
        // With a sign, what is not ASCII is below the space too.
        avx2.equal(avx2.look_up(table, vector), vector)
            | avx2.equal(vector, backslash)
            | avx2.below(vector, space)
    }
}

/// The same, piece by piece: what is between special characters is copied as one.
fn by_runs(bytes: &[u8], out: &mut Vec<u8>) {
    let (mut copied, mut at) = (0, 0);
    loop {
        at += plain_run(&bytes[at..]);
        if at == bytes.len() {
            break;
        }
        let (c, len) = text::decode(&bytes[at..]);
        if !c.is_some_and(|c| !c.is_ascii() && !matches!(c, '\u{2028}' | '\u{2029}')) {
            out.extend_from_slice(&bytes[copied..at]);
            special(c, out);
            copied = at + len;
        }
        at += len;
    }
    out.extend_from_slice(&bytes[copied..]);
}

/// A character that does not stand for itself, or a byte that is no character.
fn special(c: Option<char>, out: &mut Vec<u8>) {
    match c {
        None => out.extend_from_slice(b"\\ufffd"),
        Some(c @ ('"' | '\\')) => out.extend_from_slice(&[b'\\', c as u8]),
        Some('\n') => out.extend_from_slice(b"\\n"),
        Some('\r') => out.extend_from_slice(b"\\r"),
        Some('\t') => out.extend_from_slice(b"\\t"),
        Some('\u{2028}') => out.extend_from_slice(b"\\u2028"),
        Some('\u{2029}') => out.extend_from_slice(b"\\u2029"),
        Some(c) => {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            let byte = c as u8;
            let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&digits);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// One character after the other.
    fn naive(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for (_, c, raw) in text::chars(bytes) {
            match c {
                Some(c) if c >= ' ' && !"\"\\<>&\u{2028}\u{2029}".contains(c) => {
                    out.extend_from_slice(raw);
                }
                c => special(c, &mut out),
            }
        }
        out
    }

    #[test]
    fn which_bytes_are_plain() {
        let special = |byte: u8| !(0x20..0x80).contains(&byte) || b"\"\\<>&".contains(&byte);
        assert!((0..=u8::MAX).all(|byte| is_plain(byte) != special(byte)));
        // Wherever the one byte is that is not, in however many.
        for len in 0..100 {
            assert_eq!(plain_run(&vec![b'a'; len]), len);
            for at in 0..len {
                let mut bytes = vec![b'a'; len];
                bytes[at] = b'<';
                assert_eq!(plain_run(&bytes), at, "of {len}");
            }
        }
    }

    proptest! {
        #[test]
        fn as_the_naive_way(
            parts in prop::collection::vec(
                prop_oneof![
                    "[ -~]{0,40}".prop_map(String::into_bytes),
                    any::<String>().prop_map(String::into_bytes),
                    any::<Vec<u8>>(),
                    Just("\u{2028}é\u{2029}<>&\"\\\n\r\t\x01".as_bytes().to_vec()),
                ],
                0..6,
            ),
        ) {
            let bytes = parts.concat();
            let mut out = Vec::new();
            by_runs(&bytes, &mut out);
            prop_assert_eq!(&out, &naive(&bytes));
            let mut again = Vec::new();
            escape(&bytes, &mut again);
            prop_assert_eq!(&out, &again);
            let text = format!("\"{}\"", String::from_utf8(out).unwrap());
            let read: String = serde_json::from_str(&text).unwrap();
            let lossy: String =
                text::chars(&bytes).map(|(_, c, _)| c.unwrap_or('\u{fffd}')).collect();
            prop_assert_eq!(read, lossy);
        }
    }

    #[test]
    fn floats() {
        let values = [2.5, 4.0, -0.0, 1e21, 1e20, 1e-7, 1e-6, -1.25e-9, 123456789.0, 1.5e300];
        let texts = values.map(float);
        let expected = [
            "2.5",
            "4",
            "-0",
            "1e+21",
            "100000000000000000000",
            "1e-7",
            "0.000001",
            "-1.25e-9",
            "123456789",
            "1.5e+300",
        ];
        assert_eq!(texts, expected);
    }
}
