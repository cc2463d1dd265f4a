//! The daemon's times: arbitrary text, and every nanosecond, against a plain calendar.
//!
//! Input: a text.

#![no_main]

use libfuzzer_sys::fuzz_target;
use logchute::docker::time::{FIXED_LEN, imf_fixdate, rfc3339, rfc3339_fixed, seconds_dot_nanos};

const NANOS: i128 = 1_000_000_000;

fuzz_target!(|data: &[u8]| {
    let got = rfc3339(data);
    assert_eq!(got, plain(data).and_then(|nanos| u64::try_from(nanos).ok()));
    if let Ok(fixed) = <&[u8; FIXED_LEN]>::try_from(data) {
        let layout = fixed[10] == b'T' && fixed[19] == b'.' && fixed[FIXED_LEN - 1] == b'Z';
        assert_eq!(rfc3339_fixed(fixed), got.filter(|_| layout));
    }
    if let Some(seconds) = imf_fixdate(data) {
        // The name of the day may be anything.
        let text = str::from_utf8(&data[4..]).expect("a date is ASCII");
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov"];
        let month = months.iter().position(|name| *name == &text[4..7]).unwrap_or(11) + 1;
        let (year, day, time) = (&text[8..12], &text[1..3], &text[13..21]);
        let same = format!("{year}-{month:02}-{day}T{time}Z");
        assert_eq!(plain(same.as_bytes()), Some(i128::from(seconds) * NANOS));
    }
    if let Some((bytes, _)) = data.split_first_chunk::<8>() {
        let nanos = u64::from_le_bytes(*bytes);
        let text = seconds_dot_nanos(nanos);
        let (seconds, fraction) = text.split_once('.').expect("a point");
        assert_eq!(fraction.len(), 9);
        let value = |digits: &str| digits.parse::<i128>().expect("digits");
        assert_eq!(value(seconds) * NANOS + value(fraction), i128::from(nanos));
    }
});

/// RFC 3339, section 5.6, in nanoseconds since 1970: field by field, year by year.
fn plain(text: &[u8]) -> Option<i128> {
    let text = str::from_utf8(text).ok().filter(|text| text.is_ascii())?;
    let (date, rest) = text.split_once(['T', 't'])?;
    let at = rest.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = rest.split_at(at);
    let [year, month, day] = fields(date, '-', [4, 2, 2])?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = fields(time, ':', [2, 2, 2])?;
    if !(1..=9).contains(&fraction.len()) || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanos: i128 = format!("{fraction:0<9}").parse().ok()?;
    let offset = match zone {
        "Z" | "z" => 0,
        _ if zone.starts_with(['Z', 'z']) => return None,
        _ => {
            let (hour, minute) = zone[1..].split_once(':')?;
            let [hour] = fields(hour, ':', [2])?;
            let [minute] = fields(minute, ':', [2])?;
            if hour > 23 || minute > 59 {
                return None;
            }
            (hour * 60 + minute) * if zone.starts_with('-') { -60 } else { 60 }
        }
    };
    let leap = |year: i128| i128::from(year % 4 == 0 && year % 100 != 0 || year % 400 == 0);
    let months = [31, 28 + leap(year), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = *months.get(usize::try_from(month).ok()?.checked_sub(1)?)?;
    if day < 1 || day > length || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut days = (1970..year).map(|year| 365 + leap(year)).sum::<i128>();
    days -= (year..1970).map(|year| 365 + leap(year)).sum::<i128>();
    days += months[..month as usize - 1].iter().sum::<i128>() + day - 1;
    let seconds = (days * 24 + hour) * 3600 + minute * 60 + second - offset;
    Some(seconds * NANOS + nanos).filter(|nanos| *nanos >= 0)
}

/// Numbers of so many digits, and nothing else.
fn fields<const N: usize>(text: &str, separator: char, lengths: [usize; N]) -> Option<[i128; N]> {
    let mut parts = text.split(separator);
    let mut numbers = [0; N];
    for (number, length) in numbers.iter_mut().zip(lengths) {
        let part = parts.next()?;
        if part.len() != length || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}
