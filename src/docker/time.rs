//! The two ways in which a daemon writes a moment: RFC 3339 (JSON, the `logs` door) and the
//! HTTP `Date` header.
//!
//! Pure: text in, numbers since 1970 out. [`rfc3339_fixed`] runs once per line of a backlog.

use std::time::UNIX_EPOCH;

use crate::stamp::Stamp;

const NANOS: u64 = 1_000_000_000;

/// Length of the layout that [`rfc3339_fixed`] reads: `2024-05-06T07:08:09.123456789Z`.
pub const FIXED_LEN: usize = 30;

/// Longest RFC 3339 time with at most nine fraction digits: [`FIXED_LEN`] with an offset for `Z`.
pub const RFC3339_MAX: usize = FIXED_LEN - 1 + "+01:00".len();

/// Nanoseconds since 1970 of an RFC 3339 time (section 5.6): one to nine fraction digits or
/// none, `Z` or an offset, `t` and `z` in either case.
///
/// `None` for anything else, for times before 1970 (the daemon's zero time
/// `0001-01-01T00:00:00Z` is one), after 2554 (where 64 bits end) and for leap seconds, which no
/// daemon writes.
pub fn rfc3339(text: &[u8]) -> Option<u64> {
    let (date_time, rest) = text.split_at_checked(19)?;
    let at = |index: usize| date_time.get(index).copied();
    let separators = [at(4)?, at(7)?, at(10)?.to_ascii_uppercase(), at(13)?, at(16)?];
    if separators != *b"--T::" {
        return None;
    }
    let field = |from: usize, to: usize| number(date_time.get(from..to)?);
    let seconds = seconds_since_epoch(
        [field(0, 4)?, field(5, 7)?, field(8, 10)?],
        [field(11, 13)?, field(14, 16)?, field(17, 19)?],
    )?;
    let (nanos, zone) = fraction(rest)?;
    let seconds = u64::try_from(seconds - offset(zone)?).ok()?;
    seconds.checked_mul(NANOS)?.checked_add(nanos)
}

/// As [`rfc3339`], for the one layout that the Docker Engine writes before each message of the
/// `logs` door: nine fraction digits and `Z`. Cheap; `None` for every other layout.
#[inline]
pub fn rfc3339_fixed(text: &[u8; FIXED_LEN]) -> Option<u64> {
    let separators =
        [text[4], text[7], text[10], text[13], text[16], text[19], text[FIXED_LEN - 1]];
    if separators != *b"--T::.Z" {
        return None;
    }
    // All digits are checked at once, at the end: one branch instead of 23.
    let mut largest = 0;
    let mut field = |from: usize, to: usize| {
        text[from..to].iter().fold(0u64, |value, byte| {
            let digit = byte.wrapping_sub(b'0');
            largest = digit.max(largest);
            value * 10 + u64::from(digit)
        })
    };
    let date = [field(0, 4), field(5, 7), field(8, 10)];
    let time = [field(11, 13), field(14, 16), field(17, 19)];
    let nanos = field(20, FIXED_LEN - 1);
    if largest > 9 {
        return None;
    }
    let seconds = u64::try_from(seconds_since_epoch(date, time)?).ok()?;
    seconds.checked_mul(NANOS)?.checked_add(nanos)
}

/// Seconds since 1970 of an HTTP date in the form that is generated today, RFC 9110 section
/// 5.6.7: `Sun, 06 Nov 1994 08:49:37 GMT`. The name of the day is not checked. `None` for the
/// obsolete forms and for times before 1970.
pub fn imf_fixdate(text: &[u8]) -> Option<u64> {
    const MONTHS: [&[u8]; 12] = [
        b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov",
        b"Dec",
    ];
    let text: &[u8; 29] = text.try_into().ok()?;
    let separators = [text[3], text[4], text[7], text[11], text[16], text[19], text[22]];
    if separators != *b",    ::" || text[25..] != *b" GMT" {
        return None;
    }
    let month = MONTHS.iter().zip(1..).find(|(name, _)| ***name == text[8..11])?.1;
    let date = [number(&text[12..16])?, month, number(&text[5..7])?];
    let time = [number(&text[17..19])?, number(&text[20..22])?, number(&text[23..25])?];
    u64::try_from(seconds_since_epoch(date, time)?).ok()
}

/// Nanoseconds since 1970 in the form that `since` and `until` of the Engine API take:
/// `sec.nnnnnnnnn`. (A shorter fraction would be padded on the right by the daemon.)
pub fn seconds_dot_nanos(nanos: u64) -> String {
    format!("{}.{:09}", nanos / NANOS, nanos % NANOS)
}

/// RFC 3339 in UTC with nine digits behind the point, as the daemon writes times itself.
pub fn rfc3339_nanos(nanos: u64) -> String {
    let mut stamp = Stamp::new(UNIX_EPOCH);
    stamp.set_nanos(nanos);
    let seconds = String::from_utf8_lossy(stamp.rfc3339());
    format!("{}.{:09}Z", seconds.trim_end_matches('Z'), nanos % NANOS)
}

/// `digits` as a number; `None` if there are none, other bytes, or more than fit.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 18 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0')))
}

/// Splits `.fraction` off: its nanoseconds, and the rest.
fn fraction(text: &[u8]) -> Option<(u64, &[u8])> {
    let Some((b'.', text)) = text.split_first() else { return Some((0, text)) };
    let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, zone) = text.split_at_checked(length)?;
    let missing = 9u32.checked_sub(u32::try_from(length).ok()?)?;
    Some((number(digits)? * 10u64.pow(missing), zone))
}

/// The offset from UTC in seconds: `Z` or `+01:00`.
fn offset(zone: &[u8]) -> Option<i64> {
    let (sign, hour, minute) = match *zone {
        [b'Z' | b'z'] => return Some(0),
        [b'+', h1, h2, b':', m1, m2] => (1, number(&[h1, h2])?, number(&[m1, m2])?),
        [b'-', h1, h2, b':', m1, m2] => (-1, number(&[h1, h2])?, number(&[m1, m2])?),
        _ => return None,
    };
    (hour < 24 && minute < 60).then_some(sign * (hour * 3600 + minute * 60) as i64)
}

/// Seconds since 1970 of `[year, month, day]` and `[hour, minute, second]` in UTC; `None` if
/// there is no such moment. Years are those of four digits.
#[inline]
fn seconds_since_epoch(date: [u64; 3], time: [u64; 3]) -> Option<i64> {
    let ([year, month, day], [hour, minute, second]) = (date, time);
    let valid = year <= 9999
        && (1..=12).contains(&month)
        && day >= 1
        && day <= days_in_month(year, month)
        && hour < 24
        && minute < 60
        && second < 60;
    let of_day = hour * 3600 + minute * 60 + second;
    valid.then(|| days_since_epoch(year, month, day) * 86_400 + of_day as i64)
}

#[inline]
fn days_in_month(year: u64, month: u64) -> u64 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => {
            29
        }
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar. Years are counted from
/// March, so that the leap day is the last of its year, and from 400 years (146,097 days) before
/// year 0, so that none is negative.
#[inline]
fn days_since_epoch(year: u64, month: u64, day: u64) -> i64 {
    const EPOCH: i64 = 719_468 + 146_097; // days from there to 1970-01-01
    let years = year + 400 - u64::from(month <= 2);
    let months = (month + 9) % 12; // since March
    let leap_days = years / 4 - years / 100 + years / 400;
    (years * 365 + leap_days + (153 * months + 2) / 5 + day - 1) as i64 - EPOCH
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FIXED: &[u8] = b"2024-05-06T07:08:09.123456789Z";

    #[test]
    fn known_moments() {
        for (text, nanos) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T01:00:00+01:00", 0),
            ("2024-05-06T07:08:09.123456789Z", 1_714_979_289_123_456_789),
            ("2024-05-06T09:38:09.123456789+02:30", 1_714_979_289_123_456_789),
            ("2024-05-05T23:08:09.1-08:00", 1_714_979_289_100_000_000),
            ("2024-05-06t07:08:09z", 1_714_979_289_000_000_000),
            ("2000-02-29T00:00:00Z", 951_782_400_000_000_000),
            ("2554-07-21T23:34:33.709551615Z", u64::MAX),
        ] {
            assert_eq!(rfc3339(text.as_bytes()), Some(nanos), "{text}");
        }
    }

    #[test]
    fn no_moments() {
        for text in [
            "",
            "0001-01-01T00:00:00Z",
            "0000-01-01T00:00:00+23:59",
            "1970-01-01T00:59:59+01:00",
            "1969-12-31T23:59:59.999999999Z",
            "2554-07-21T23:34:33.709551616Z",
            "9999-12-31T23:59:59Z",
            "2023-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-00-01T00:00:00Z",
            "2024-01-00T00:00:00Z",
            "2024-04-31T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:60:00Z",
            "2024-01-01T00:00:60Z",
            "2024-01-01T00:00:00",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00.1234567890Z",
            "2024-01-01T00:00:00+24:00",
            "2024-01-01T00:00:00+0100",
            "2024-01-01T00:00:00Zx",
            "2024-01-01 00:00:00Z",
            "+024-01-01T00:00:00Z",
        ] {
            assert_eq!(rfc3339(text.as_bytes()), None, "{text}");
        }
    }

    /// The naive calendar: one day after the other, four centuries and more.
    #[test]
    fn every_day_until_2400() {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..157_054 {
            let text = format!("{year:04}-{month:02}-{day:02}T00:00:00Z");
            let nanos = (days * 86_400u64).checked_mul(NANOS);
            assert_eq!(rfc3339(text.as_bytes()), nanos, "{text}");
            let leap = year % 400 == 0 || (year % 4 == 0 && year % 100 != 0);
            let lengths = [31, 28 + u64::from(leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            day += 1;
            if day > lengths[month - 1] {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
        assert_eq!((year, month, day), (2400, 1, 1));
    }

    #[test]
    fn http_dates() {
        assert_eq!(imf_fixdate(b"Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(imf_fixdate(b"Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        for text in [
            "Wed, 31 Dec 1969 23:59:59 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Sun, 31 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT ",
            "",
        ] {
            assert_eq!(imf_fixdate(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn seconds_for_queries_have_nine_fraction_digits() {
        assert_eq!(seconds_dot_nanos(0), "0.000000000");
        assert_eq!(seconds_dot_nanos(1_714_979_289_000_000_070), "1714979289.000000070");
        assert_eq!(seconds_dot_nanos(u64::MAX), "18446744073.709551615");
    }

    proptest! {
        /// The fast path is the general parser on its layout, also where one byte is off.
        #[test]
        fn fast_path_is_the_general_parser(
            fields in prop::array::uniform6(0u32..100),
            century in 0u32..100,
            nanos in 0u32..1_000_000_000,
            at in 0usize..FIXED_LEN,
            other in prop::option::of(any::<u8>()),
        ) {
            let [year, month, day, hour, minute, second] = fields;
            let (month, day) = (month % 14, day % 33);
            let (hour, minute, second) = (hour % 26, minute % 62, second % 62);
            let text = format!(
                "{century:02}{year:02}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}\
                 .{nanos:09}Z"
            );
            let mut text: [u8; FIXED_LEN] = text.into_bytes().try_into().unwrap();
            if let Some(other) = other {
                text[at] = other;
            }
            let lower = text[10] == b't' || text[FIXED_LEN - 1] == b'z';
            let expect = rfc3339(&text).filter(|_| !lower && text[19] == b'.');
            // An offset in place of the last digits is no fixed layout.
            let expect = expect.filter(|_| text[FIXED_LEN - 1] == b'Z');
            prop_assert_eq!(rfc3339_fixed(&text), expect);
        }

        #[test]
        fn any_nanosecond_comes_back(nanos in any::<u64>(), offset in -1439i64..1440) {
            let mut stamp = crate::stamp::Stamp::new(std::time::UNIX_EPOCH);
            stamp.set_nanos(nanos);
            let whole = std::str::from_utf8(stamp.rfc3339()).unwrap().trim_end_matches('Z');
            let text = format!("{whole}.{:09}Z", nanos % NANOS);
            prop_assert_eq!(rfc3339(text.as_bytes()), Some(nanos));
            prop_assert_eq!(rfc3339_fixed(text.as_bytes().try_into().unwrap()), Some(nanos));
            let (sign, minutes) = (if offset < 0 { '-' } else { '+' }, offset.abs());
            let text = format!("{whole}{sign}{:02}:{:02}", minutes / 60, minutes % 60);
            let seconds = (nanos / NANOS) as i64 - offset * 60;
            let expect = u64::try_from(seconds).ok().and_then(|s| s.checked_mul(NANOS));
            prop_assert_eq!(rfc3339(text.as_bytes()), expect);
        }

        #[test]
        fn nothing_makes_it_panic(text in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = (rfc3339(&text), imf_fixdate(&text));
        }

        #[test]
        fn broken_fixed_times_are_none(at in 0usize..FIXED_LEN, byte in 0x80u8..) {
            let mut text: [u8; FIXED_LEN] = FIXED.try_into().unwrap();
            text[at] = byte;
            prop_assert_eq!(rfc3339_fixed(&text), None);
        }
    }
}
