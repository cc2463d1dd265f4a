//! Go's `time.Time` as templates see it: a moment with a fixed zone, and its layouts.
//!
//! Pure: no clock, no zone database. Calendar: proleptic Gregorian, years 0 to 9999.

use crate::stamp::civil_from_days;

const DAY: i64 = 86_400;

/// The layout of `Time.String`, where there is no monotonic reading.
pub(super) const TIME_STRING: &[u8] = b"2006-01-02 15:04:05.999999999 -0700 MST";
/// Go's `time.RFC3339`, the layout of `.Timestamp`.
pub(super) const TIME_RFC3339: &[u8] = b"2006-01-02T15:04:05Z07:00";
/// A moment as JSON: `time.RFC3339Nano` in quotes.
pub(super) const TIME_JSON: &[u8] = b"\"2006-01-02T15:04:05.999999999Z07:00\"";

/// A moment, to the nanosecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Whole seconds since 1970-01-01T00:00:00Z; negative before.
    seconds: i64,
    /// Less than 1e9.
    nanos: u32,
    /// Seconds east of Greenwich; `None` is UTC, by name.
    offset: Option<i32>,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// The name of a month, counted from 1.
pub(super) fn month_name(month: i64) -> &'static str {
    usize::try_from(month - 1).ok().and_then(|at| MONTHS.get(at)).copied().unwrap_or_default()
}

/// The name of a day of the week, counted from 0, Sunday.
pub(super) fn weekday_name(day: i64) -> &'static str {
    usize::try_from(day).ok().and_then(|at| WEEKDAYS.get(at)).copied().unwrap_or_default()
}

impl Moment {
    /// Go's zero `time.Time`: the first second of year 1.
    pub const ZERO: Moment = Moment { seconds: -62_135_596_800, nanos: 0, offset: None };

    /// Nanoseconds since 1970, UTC.
    pub fn from_nanos(nanos: u64) -> Moment {
        let seconds = i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX);
        Moment { seconds, nanos: (nanos % 1_000_000_000) as u32, offset: None }
    }

    /// Reads RFC 3339 with an optional fraction of up to nine digits; `None` if it is not that.
    pub fn parse(text: &str) -> Option<Moment> {
        let number = |range: std::ops::Range<usize>| {
            let digits = text.get(range)?;
            digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<i64>().ok()).flatten()
        };
        let sign = |at: usize, signs: &[u8]| {
            text.as_bytes().get(at).is_some_and(|byte| signs.contains(byte))
        };
        let shaped = sign(4, b"-") && sign(7, b"-") && sign(10, b"Tt") && sign(13, b":");
        let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
        let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
        let valid = (1..=12).contains(&month) && (1..=31).contains(&day);
        if !shaped || !sign(16, b":") || !valid || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let rest = text.get(19..)?;
        let (nanos, zone) = match rest.strip_prefix('.') {
            None => (0, rest),
            Some(rest) => {
                let end = rest.find(|c: char| !c.is_ascii_digit())?;
                let padded = format!("{:0<9}", rest.get(..end)?);
                (padded.get(..9)?.parse().ok()?, rest.get(end..)?)
            }
        };
        let offset = offset_of(zone)?;
        let days = days_from_civil(year, month, day);
        let seconds = days * DAY + hour * 3600 + minute * 60 + second;
        let seconds = seconds - i64::from(offset.unwrap_or_default());
        Some(Moment { seconds, nanos, offset })
    }

    /// As RFC 3339, with as many digits of the second as it has.
    pub fn rfc3339(self) -> String {
        let mut text = Vec::new();
        self.format(b"2006-01-02T15:04:05.999999999Z07:00", &mut text);
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The same moment in UTC.
    pub(super) fn utc(self) -> Moment {
        Moment { offset: None, ..self }
    }

    pub(super) fn is_zero(self) -> bool {
        self.utc() == Moment::ZERO
    }

    /// Whole seconds and nanoseconds since 1970, for comparing.
    pub(super) fn instant(self) -> (i64, u32) {
        (self.seconds, self.nanos)
    }

    /// Since 1970, in units of `per_second`.
    pub(super) fn since_epoch(self, per_second: i64) -> i64 {
        let part = i64::from(self.nanos) / (1_000_000_000 / per_second);
        self.seconds.wrapping_mul(per_second).wrapping_add(part)
    }

    fn offset_seconds(self) -> i64 {
        i64::from(self.offset.unwrap_or_default())
    }

    /// What the clock and calendar of its zone show.
    pub(super) fn parts(self) -> Parts {
        let local = self.seconds.saturating_add(self.offset_seconds());
        let days = local.div_euclid(DAY);
        let of_day = local.rem_euclid(DAY);
        let (year, month, day) = civil_from_days(days);
        let (month, day) = (month as i64, day as i64);
        Parts {
            year,
            month,
            day,
            hour: of_day / 3600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
            nanosecond: i64::from(self.nanos),
            // 1970-01-01 was a Thursday.
            weekday: (days + 4).rem_euclid(7),
            year_day: days - days_from_civil(year, 1, 1) + 1,
        }
    }

    /// Go's `Time.String`.
    pub(super) fn string(self) -> Vec<u8> {
        let mut out = Vec::new();
        self.format(TIME_STRING, &mut out);
        out
    }

    /// Go's `Time.Format`: appends the moment as `layout` shows the reference time,
    /// `Mon Jan 2 15:04:05 MST 2006`.
    pub(super) fn format(self, layout: &[u8], out: &mut Vec<u8>) {
        let parts = self.parts();
        let mut rest = layout;
        while !rest.is_empty() {
            match element(rest) {
                Some((element, len)) => {
                    self.put(&parts, element, out);
                    rest = &rest[len..];
                }
                None => {
                    out.push(rest[0]);
                    rest = &rest[1..];
                }
            }
        }
    }

    fn put(self, parts: &Parts, element: Element, out: &mut Vec<u8>) {
        let hour12 = match parts.hour % 12 {
            0 => 12,
            hour => hour,
        };
        let (month, day) = (month_name(parts.month), weekday_name(parts.weekday));
        match element {
            Element::LongMonth => out.extend_from_slice(month.as_bytes()),
            Element::Month => out.extend_from_slice(&month.as_bytes()[..3]),
            Element::LongWeekday => out.extend_from_slice(day.as_bytes()),
            Element::Weekday => out.extend_from_slice(&day.as_bytes()[..3]),
            Element::NumMonth(pad) => pad.put(parts.month, out),
            Element::Day(pad) => pad.put(parts.day, out),
            Element::YearDay(pad) => pad.put(parts.year_day, out),
            Element::Hour => Pad::Zero(2).put(parts.hour, out),
            Element::Hour12(pad) => pad.put(hour12, out),
            Element::Minute(pad) => pad.put(parts.minute, out),
            Element::Second(pad) => pad.put(parts.second, out),
            Element::LongYear => Pad::Zero(4).put(parts.year, out),
            Element::Year => Pad::Zero(2).put(parts.year.rem_euclid(100), out),
            Element::Half { upper } => out.extend_from_slice(match (parts.hour >= 12, upper) {
                (true, true) => b"PM",
                (false, true) => b"AM",
                (true, false) => b"pm",
                (false, false) => b"am",
            }),
            Element::ZoneName if self.offset.is_none() => out.extend_from_slice(b"UTC"),
            Element::ZoneName => self.put_offset(Zone::PLAIN, out),
            Element::Offset(zone) => self.put_offset(zone, out),
            Element::Fraction { separator, digits, trim } => {
                put_fraction(parts.nanosecond, separator, digits, trim, out);
            }
        }
    }

    fn put_offset(self, zone: Zone, out: &mut Vec<u8>) {
        let offset = self.offset_seconds();
        if zone.z && offset == 0 {
            return out.push(b'Z');
        }
        out.push(if offset / 60 < 0 { b'-' } else { b'+' });
        let colon = |out: &mut Vec<u8>| {
            if zone.colon {
                out.push(b':');
            }
        };
        let minutes = (offset / 60).abs();
        Pad::Zero(2).put(minutes / 60, out);
        if zone.minutes {
            colon(out);
            Pad::Zero(2).put(minutes % 60, out);
        }
        if zone.seconds {
            colon(out);
            Pad::Zero(2).put(offset.abs() % 60, out);
        }
    }
}

/// The fields of a moment in its zone.
pub(super) struct Parts {
    pub year: i64,
    /// From 1.
    pub month: i64,
    /// From 1.
    pub day: i64,
    pub hour: i64,
    pub minute: i64,
    pub second: i64,
    pub nanosecond: i64,
    /// From 0, Sunday.
    pub weekday: i64,
    /// From 1.
    pub year_day: i64,
}

/// `Z`, or `±hh:mm`.
fn offset_of(zone: &str) -> Option<Option<i32>> {
    if zone == "Z" || zone == "z" {
        return Some(None);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = zone.strip_prefix(['+', '-'])?.split_once(':')?;
    let two = |digits: &str| {
        let valid = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        valid.then(|| digits.parse::<i32>().ok()).flatten()
    };
    let seconds = sign * (two(hours)? * 3600 + two(minutes)? * 60);
    // Go calls an offset of nothing UTC.
    Some((seconds != 0).then_some(seconds))
}

/// Days since 1970-01-01, the inverse of [`civil_from_days`].
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// How a number is filled up to its width.
#[derive(Clone, Copy)]
enum Pad {
    None,
    Zero(usize),
    Space(usize),
}

impl Pad {
    fn put(self, value: i64, out: &mut Vec<u8>) {
        let (filling, width) = match self {
            Pad::None => (b' ', 0),
            Pad::Zero(width) => (b'0', width),
            Pad::Space(width) => (b' ', width),
        };
        if value < 0 {
            out.push(b'-');
        }
        // No `i64` has more digits, and no width is larger.
        let mut text = [filling; 20];
        let mut first = text.len();
        let mut rest = value.unsigned_abs();
        loop {
            first -= 1;
            text[first] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        out.extend_from_slice(&text[first.min(text.len() - width)..]);
    }
}

/// How an offset from UTC is written.
#[derive(Clone, Copy)]
struct Zone {
    /// `Z` for UTC.
    z: bool,
    colon: bool,
    minutes: bool,
    seconds: bool,
}

impl Zone {
    const PLAIN: Zone = Zone { z: false, colon: false, minutes: true, seconds: false };
}

/// What a part of a layout stands for.
#[derive(Clone, Copy)]
enum Element {
    LongMonth,
    Month,
    NumMonth(Pad),
    LongWeekday,
    Weekday,
    Day(Pad),
    YearDay(Pad),
    Hour,
    Hour12(Pad),
    Minute(Pad),
    Second(Pad),
    LongYear,
    Year,
    Half { upper: bool },
    ZoneName,
    Offset(Zone),
    Fraction { separator: u8, digits: usize, trim: bool },
}

/// The element at the beginning of `layout`, and its length; `None` if a literal byte is there.
fn element(layout: &[u8]) -> Option<(Element, usize)> {
    let begins = |text: &str| layout.starts_with(text.as_bytes());
    let word = |len: usize| !layout.get(len).is_some_and(u8::is_ascii_lowercase);
    let found = match layout[0] {
        b'J' if begins("January") => (Element::LongMonth, 7),
        b'J' if begins("Jan") && word(3) => (Element::Month, 3),
        b'M' if begins("Monday") => (Element::LongWeekday, 6),
        b'M' if begins("Mon") && word(3) => (Element::Weekday, 3),
        b'M' if begins("MST") => (Element::ZoneName, 3),
        b'0' => match layout.get(1)? {
            b'1' => (Element::NumMonth(Pad::Zero(2)), 2),
            b'2' => (Element::Day(Pad::Zero(2)), 2),
            b'3' => (Element::Hour12(Pad::Zero(2)), 2),
            b'4' => (Element::Minute(Pad::Zero(2)), 2),
            b'5' => (Element::Second(Pad::Zero(2)), 2),
            b'6' => (Element::Year, 2),
            b'0' if begins("002") => (Element::YearDay(Pad::Zero(3)), 3),
            _ => return None,
        },
        b'1' if begins("15") => (Element::Hour, 2),
        b'1' => (Element::NumMonth(Pad::None), 1),
        b'2' if begins("2006") => (Element::LongYear, 4),
        b'2' => (Element::Day(Pad::None), 1),
        // In `_2006` the underscore is one.
        b'_' if begins("_2") && !begins("_2006") => (Element::Day(Pad::Space(2)), 2),
        b'_' if begins("__2") => (Element::YearDay(Pad::Space(3)), 3),
        b'3' => (Element::Hour12(Pad::None), 1),
        b'4' => (Element::Minute(Pad::None), 1),
        b'5' => (Element::Second(Pad::None), 1),
        b'P' if begins("PM") => (Element::Half { upper: true }, 2),
        b'p' if begins("pm") => (Element::Half { upper: false }, 2),
        b'-' | b'Z' => return offset_element(layout),
        b'.' | b',' => return fraction_element(layout),
        _ => return None,
    };
    Some(found)
}

fn offset_element(layout: &[u8]) -> Option<(Element, usize)> {
    let z = layout[0] == b'Z';
    let forms: [(&[u8], bool, bool, bool); 5] = [
        (b"070000", false, true, true),
        (b"07:00:00", true, true, true),
        (b"0700", false, true, false),
        (b"07:00", true, true, false),
        (b"07", false, false, false),
    ];
    let (form, colon, minutes, seconds) =
        forms.into_iter().find(|(form, ..)| layout[1..].starts_with(form))?;
    Some((Element::Offset(Zone { z, colon, minutes, seconds }), 1 + form.len()))
}

/// `.000`, `,000`, `.999` or `,999`, with any number of digits but no other digit behind them.
fn fraction_element(layout: &[u8]) -> Option<(Element, usize)> {
    let digit = *layout.get(1).filter(|digit| matches!(digit, b'0' | b'9'))?;
    let digits = layout[1..].iter().take_while(|byte| **byte == digit).count();
    if layout.get(1 + digits).is_some_and(u8::is_ascii_digit) {
        return None;
    }
    let trim = digit == b'9';
    Some((Element::Fraction { separator: layout[0], digits, trim }, 1 + digits))
}

fn put_fraction(nanos: i64, separator: u8, digits: usize, trim: bool, out: &mut Vec<u8>) {
    let begin = out.len();
    out.push(separator);
    Pad::Zero(9).put(nanos, out);
    out.truncate(begin + 1 + digits.min(9));
    while trim && out.last() == Some(&b'0') {
        out.pop();
    }
    if out.len() == begin + 1 {
        out.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(time: &str, layout: &str) -> String {
        let mut out = Vec::new();
        Moment::parse(time).unwrap().format(layout.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn layouts_not_in_the_corpus() {
        let time = "2024-05-06T07:08:09.120-07:30";
        for (layout, expected) in [
            ("Z0700 Z07 Z070000 Z07:00:00", "-0730 -07 -073000 -07:30:00"),
            ("-07 -070000 -07:00:00", "-07 -073000 -07:30:00"),
            ("_2006 __2 _2 January Janu Monday Mond", "_2024 127  6 May Janu Monday Mond"),
            (".00 .0000 .999 .9 .09 ,99", ".12 .1200 .12 .1 .09 ,12"),
            ("MST pm 1 01", "-0730 am 5 05"),
        ] {
            assert_eq!(shown(time, layout), expected);
        }
        assert_eq!(shown("2024-01-01T00:00:00+00:00", "MST Z07:00"), "UTC Z");
        assert_eq!(Moment::parse("0001-01-01T00:00:00Z"), Some(Moment::ZERO));
        for bad in [
            "",
            "2024-05-06",
            "2024-05-06T07:08:09",
            "2024-13-06T07:08:09Z",
            "2024-05-06T07:08:09.Z1",
            "2024-05-06T07:08:09+5:30",
            "+024-05-06T07:08:09Z",
        ] {
            assert_eq!(Moment::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(nanos in any::<u64>()) {
            let moment = Moment::from_nanos(nanos);
            let mut text = Vec::new();
            moment.format(b"2006-01-02T15:04:05.999999999Z07:00", &mut text);
            let text = String::from_utf8(text).unwrap();
            prop_assert_eq!(Moment::parse(&text), Some(moment));
        }

        #[test]
        fn nothing_makes_it_panic(text in any::<String>(), layout in any::<Vec<u8>>()) {
            let moment = Moment::parse(&text).unwrap_or(Moment::ZERO);
            moment.format(&layout, &mut Vec::new());
        }
    }
}
