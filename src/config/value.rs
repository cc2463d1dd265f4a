//! Values as people write them: booleans, sizes, durations, numbers, lists. Pure: text in, a value
//! out, or what is wrong with the text and what to write instead.
//!
//! Errors read as the end of a sentence that begins with the setting and the value:
//! `BUFFER: "12 apples"` *is not a size; write e.g. 16MiB*.

use std::time::Duration;

const KIB: u64 = 1024;
/// The longest time that makes sense in a setting; also keeps arithmetic far from overflow.
const TIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Of a value that is shown in an error, at most so many characters.
const SHOWN_MAX: usize = 80;

/// A value in an error: in quotes, and no more of it than helps.
pub fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// `true` or `false`; also `1`, `0`, `yes`, `no`, `on`, `off`, in any case.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("is neither true nor false; write true or false".to_string()),
    }
}

/// Logspout's own switches: `true` to the letter; what else may mean it (`1`, `TRUE` …) is false
/// there, and people's set-ups may rest on that.
pub fn logspout_switch(text: &str) -> Result<bool, String> {
    boolean(text).map(|_| text == "true")
}

/// As [`boolean`], and what Go's `ParseBool` takes besides: `t` and `f`.
pub fn go_boolean(text: &str) -> Result<bool, String> {
    match text {
        "t" | "T" => Ok(true),
        "f" | "F" => Ok(false),
        _ => boolean(text),
    }
}

/// A number of bytes: digits and `k`, `m` or `g`, with or without `B` or `iB`. As in
/// `docker run --memory`, all of them are powers of 1024.
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || "is not a size; write e.g. 16MiB, 64k or 1048576".to_string();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => KIB,
        "m" | "mb" | "mib" => KIB * KIB,
        "g" | "gb" | "gib" => KIB * KIB * KIB,
        _ => return Err(wrong()),
    };
    if number.is_empty() {
        return Err(wrong());
    }
    // Digits alone can only fail by being too many.
    let number: Option<u64> = number.parse().ok();
    number
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(|| "is too large a size; write e.g. 16MiB".to_string())
}

/// A size from `least` to `most` bytes, both of which must be whole KiB.
pub fn size_within(text: &str, least: u64, most: u64) -> Result<usize, String> {
    let size = size(text)?;
    if size < least {
        return Err(format!("is too small; write at least {}", show_size(least)));
    }
    if size > most {
        return Err(format!("is too large; write at most {}", show_size(most)));
    }
    usize::try_from(size).map_err(|_| "is more than this machine can address".to_string())
}

fn show_size(bytes: u64) -> String {
    for (unit, factor) in [("GiB", KIB * KIB * KIB), ("MiB", KIB * KIB)] {
        if bytes.is_multiple_of(factor) {
            return format!("{}{unit}", bytes / factor);
        }
    }
    format!("{}KiB", bytes / KIB)
}

/// A Go duration (`5s`, `500ms`, `1m30s`, `1.5h`) or plain seconds (`5`); at most 24 hours.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "is not a time; write e.g. 5s, 500ms or 1m30s".to_string();
    if text.is_empty() {
        return Err(wrong());
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return capped(text.parse().ok().map(Duration::from_secs));
    }
    let mut rest = text;
    let mut total = Some(Duration::ZERO);
    while !rest.is_empty() {
        let (part, after) = term(rest).ok_or_else(wrong)?;
        total = total.zip(part).and_then(|(total, part)| total.checked_add(part));
        rest = after;
    }
    capped(total)
}

/// `None` stands for a time too long to be counted.
fn capped(time: Option<Duration>) -> Result<Duration, String> {
    time.filter(|&time| time <= TIME_MAX)
        .ok_or_else(|| "is too long a time; write at most 24h".to_string())
}

/// One term of a Go duration, such as `1.5h`: its value (`None` if it overflows) and what follows.
/// Digits beyond nanoseconds count for nothing.
fn term(text: &str) -> Option<(Option<Duration>, &str)> {
    let whole_len = text.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = text.split_at(whole_len);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(rest.bytes().take_while(u8::is_ascii_digit).count()),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let unit_len = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_len);
    let nanos: u64 = match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60 * 1_000_000_000,
        "h" => 3_600 * 1_000_000_000,
        _ => return None,
    };
    let whole: Option<u64> = if whole.is_empty() { Some(0) } else { whole.parse().ok() };
    let part = whole
        .and_then(|whole| whole.checked_mul(nanos))
        .and_then(|value| value.checked_add(fraction_of(fraction, nanos)))
        .map(Duration::from_nanos);
    Some((part, rest))
}

/// `0.FRACTION` of `nanos`, rounded down; `fraction` is digits only.
fn fraction_of(fraction: &str, nanos: u64) -> u64 {
    let mut value = 0;
    let mut scale: u64 = 1;
    // Fifteen digits times an hour in nanoseconds stay within 128 bits by far.
    for digit in fraction.bytes().take(15) {
        value = value * 10 + u128::from(digit - b'0');
        scale *= 10;
    }
    u64::try_from(value * u128::from(nanos) / u128::from(scale)).unwrap_or(0)
}

/// A whole number from `least` to `most`.
pub fn number_within(text: &str, least: u64, most: u64) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("is not a number from {least} to {most}; write one"))
}

/// A rate, `COUNT/TIME`, such as `5/s`, `30/m` or `2/10s`: how long each one takes of its time;
/// 1 ms at least, 24 hours at most.
pub fn rate(text: &str) -> Result<Duration, String> {
    let wrong = || "is not a rate; write e.g. 1/s, 30/m or 2/10s".to_string();
    let (count, time) = text.split_once('/').ok_or_else(wrong)?;
    let count: u32 = count.parse().ok().filter(|&count| count > 0).ok_or_else(wrong)?;
    let bare = time.bytes().next().is_some_and(|byte| !byte.is_ascii_digit() && byte != b'.');
    let time = duration(&if bare { format!("1{time}") } else { time.to_string() });
    let every = time.map_err(|_| wrong())? / count;
    if every < Duration::from_millis(1) {
        return Err("is too fast a rate; write at most 1000/s".to_string());
    }
    Ok(every)
}

/// The entries of a list, without white space around them; empty ones count for nothing.
pub fn list(text: &str, separator: char) -> Vec<&str> {
    text.split(separator).map(str::trim).filter(|entry| !entry.is_empty()).collect()
}

/// `NAME=VALUE,...`: the names, without white space around them, and the values. A comma or
/// backslash in one of them has a backslash before it ([`escaped`]); empty entries count for
/// nothing.
pub fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut entries = vec![String::new()];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, entries.last_mut()) {
            ('\\', Some(entry)) => entry.extend(chars.next()),
            (',', _) | (_, None) => entries.push(String::new()),
            (c, Some(entry)) => entry.push(c),
        }
    }
    let entries = entries.iter().filter(|entry| !entry.trim().is_empty());
    let pair = |entry: &String| {
        let split = entry.split_once('=').map(|(name, value)| (name.trim(), value));
        let split = split.filter(|(name, _)| !name.is_empty());
        let (name, value) = split.ok_or(format!("{entry:?} is no pair; write NAME=VALUE"))?;
        Ok((name.to_string(), value.to_string()))
    };
    entries.map(pair).collect()
}

/// `text` as a part of what [`pairs`] reads.
pub fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace(',', "\\,")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn logspout_switches() {
        for (text, value) in [("true", true), ("TRUE", false), ("1", false), ("false", false)] {
            assert_eq!(logspout_switch(text), Ok(value), "{text}");
        }
        assert!(logspout_switch("perhaps").is_err());
    }

    #[test]
    fn booleans() {
        for text in ["true", "TRUE", "True", "1", "yes", "on"] {
            assert_eq!(boolean(text), Ok(true), "{text}");
        }
        for text in ["false", "False", "0", "NO", "off"] {
            assert_eq!(boolean(text), Ok(false), "{text}");
        }
        for text in ["", "t", "ja", "2", "true ", "truefalse"] {
            assert!(boolean(text).is_err(), "{text}");
        }
    }

    #[test]
    fn booleans_of_go() {
        for (text, value) in [("T", true), ("t", true), ("f", false), ("1", true), ("no", false)] {
            assert_eq!(go_boolean(text), Ok(value), "{text}");
        }
        assert!(go_boolean("perhaps").is_err());
    }

    #[test]
    fn sizes() {
        let cases = [
            ("0", 0),
            ("1048576", 1 << 20),
            ("64k", 64 << 10),
            ("64K", 64 << 10),
            ("64 KiB", 64 << 10),
            ("16MiB", 16 << 20),
            ("16MB", 16 << 20),
            ("16m", 16 << 20),
            ("2g", 2 << 30),
            ("7B", 7),
        ];
        for (text, bytes) in cases {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "k", "-1", "+1", "1.5m", "1 0", "16 MiB x", "16T", "\u{661}", "0x10"] {
            assert!(size(text).unwrap_err().starts_with("is not a size"), "{text}");
        }
        for text in ["18446744073709551616", "18446744073709551615k", "99999999999g"] {
            assert!(size(text).unwrap_err().starts_with("is too large"), "{text}");
        }
    }

    #[test]
    fn size_bounds_are_named() {
        assert_eq!(size_within("64k", 64 << 10, 1 << 30), Ok(64 << 10));
        assert_eq!(size_within("1g", 64 << 10, 1 << 30), Ok(1 << 30));
        let small = size_within("65535", 64 << 10, 1 << 30).unwrap_err();
        assert_eq!(small, "is too small; write at least 64KiB");
        let large = size_within("1073741825", 64 << 10, 1 << 30).unwrap_err();
        assert_eq!(large, "is too large; write at most 1GiB");
    }

    #[test]
    fn durations() {
        let cases = [
            ("0", 0),
            ("5", 5_000_000_000),
            ("5s", 5_000_000_000),
            ("500ms", 500_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("24h", 86_400_000_000_000),
            ("3us4\u{b5}s5\u{3bc}s6ns", 12_006),
            ("0.0000000019s", 1),
        ];
        for (text, nanos) in cases {
            assert_eq!(duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
        for text in ["", "often", "s", ".", ".s", "5x", "5s3", "-5s", "5 s", "1h 2m", "1d", "1..5s"]
        {
            assert!(duration(text).unwrap_err().starts_with("is not a time"), "{text}");
        }
        for text in ["24h1ns", "86401", "99999999999999999999", "99999999999999999999h", "9e9"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates() {
        for (text, millis) in [
            ("1/s", 1000),
            ("5/s", 200),
            ("30/m", 2000),
            ("2/10s", 5000),
            ("1000/s", 1),
            ("1/1.5s", 1500),
            ("1/h", 3_600_000),
        ] {
            assert_eq!(rate(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "1", "/s", "0/s", "-1/s", "1/", "1/day", "x/s", "1/s/s", "1/48h"] {
            assert!(rate(text).unwrap_err().starts_with("is not a rate"), "{text}");
        }
        for text in ["1001/s", "1/0", "1/0s", "99999/s"] {
            assert!(rate(text).unwrap_err().starts_with("is too fast"), "{text}");
        }
    }

    #[test]
    fn numbers_and_lists() {
        assert_eq!(number_within("7", 1, 256), Ok(7));
        for text in ["0", "257", "", "x", "-1", "1.0"] {
            assert!(number_within(text, 1, 256).unwrap_err().contains("from 1 to 256"));
        }
        assert_eq!(list(" a;b ;;c ", ';'), ["a", "b", "c"]);
        assert!(list(" ;; ", ';').is_empty());
    }

    #[test]
    fn pairs_have_names() {
        let all = pairs(" a = b=c,, \\,x\\\\=,").unwrap();
        let owned = |(n, v): (&str, &str)| (n.to_string(), v.to_string());
        assert_eq!(all, [("a", " b=c"), (",x\\", "")].map(owned));
        for text in ["a", "=b", "a=b, =c"] {
            assert!(pairs(text).unwrap_err().contains("write NAME=VALUE"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn escaped_pairs_are_read(
            all in prop::collection::vec(("[a-z,\\\\]{0,4}x", "\\PC{0,8}"), 0..4),
        ) {
            let text: Vec<_> = all.iter().map(|(n, v)| escaped(&format!("{n}={v}"))).collect();
            prop_assert_eq!(pairs(&text.join(",")), Ok(all));
        }

        #[test]
        fn whole_terms_add_up(h in 0u64..20, m in 0u64..100, s in 0u64..1000, ms in 0u64..10_000) {
            let text = format!("{h}h{m}m{s}s{ms}ms");
            let millis = ((h * 60 + m) * 60 + s) * 1000 + ms;
            prop_assert_eq!(duration(&text), Ok(Duration::from_millis(millis)));
        }

        #[test]
        fn fractions_are_exact(whole in 0u64..80_000, nanos in 0u32..1_000_000_000) {
            let expected = Duration::new(whole, nanos);
            prop_assert_eq!(duration(&format!("{whole}.{nanos:09}s")), Ok(expected));
        }

        #[test]
        fn anything_is_answered(text in "\\PC{0,12}|[0-9.hmsnuk]{0,24}") {
            let _ = (boolean(&text), size(&text), duration(&text), number_within(&text, 0, 9));
        }
    }
}
