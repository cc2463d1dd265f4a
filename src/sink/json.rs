//! Records that are JSON objects, one a line: what the receivers of documents have in common.
//!
//! Pure, and allocates nothing per line. What belongs to the container is rendered once, ahead of
//! the time and the line, which come last:
//!
//! ```text
//! {"container":{…},"time":"2026-11-22T16:00:00.000000Z","message":"the line"}
//! [before_time           ]                             [after_time]        [tail]
//! ```

use super::Prefix;
use crate::buffer::Outbox;
use crate::lines::blocks::Blocks;
use crate::stamp::{MICROS_LEN, Stamp};
use crate::template::escape_json;

/// The most bytes that a byte becomes inside a JSON string: `\u0000`.
const ESCAPE_MAX: usize = 6;

/// Room for any time.
pub(super) const TIME_MAX: usize = MICROS_LEN + 2;

/// How a record shows its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Time {
    /// Not at all.
    Absent,
    /// RFC 3339 in UTC with microseconds, as a string.
    Rfc3339,
    /// Milliseconds since 1970, as a number.
    Millis,
}

/// Appends an object for each line, behind `head`, and a newline behind each; returns how many
/// lines that were.
///
/// See [`Frame::put`] for what becomes of a line.
pub(super) fn objects(
    head: &[u8],
    prefix: &Prefix,
    time: Time,
    tail: &[u8],
    stamp: &Stamp,
    lines: Blocks<'_>,
    out: &mut Outbox,
) -> u64 {
    let mut room = [0; TIME_MAX];
    let frame = Frame { head, ..Frame::new(prefix, time.render(stamp, &mut room), tail) };
    let mut count = 0;
    for line in lines.lines() {
        frame.put(line, out);
        count += 1;
    }
    count
}

/// What the objects of several lines have around these.
#[derive(Clone, Copy)]
pub(super) struct Frame<'a> {
    /// What is no part of the object, and comes ahead of it.
    pub head: &'a [u8],
    /// What comes before the time.
    pub before: &'a [u8],
    /// The time, as [`Time::render`] gave it.
    pub time: &'a [u8],
    /// What comes between the time and the line.
    pub after: &'a [u8],
    /// What closes the object, behind the line (and its quote).
    pub tail: &'a [u8],
}

impl<'a> Frame<'a> {
    pub(super) fn new(prefix: &'a Prefix, time: &'a [u8], tail: &'a [u8]) -> Frame<'a> {
        Frame { head: &[], before: &prefix.before_time, time, after: &prefix.after_time, tail }
    }

    /// How long a record is, less its line.
    pub(super) fn around(&self) -> usize {
        let object = self.before.len() + self.time.len() + self.after.len() + 1 + self.tail.len();
        self.head.len() + object + 1
    }

    /// Whether lines become the inside of a string: the prefix ends with its quote.
    pub(super) fn is_text(&self) -> bool {
        self.after.last() == Some(&b'"')
    }

    /// Appends the object of `line`, and a newline.
    ///
    /// As text it is escaped, with U+FFFD for each byte that is not UTF-8, and cut where the record
    /// would be too long for `out`. Where it is no text it is JSON already (stats and events are)
    /// and is passed on as it is.
    #[inline]
    pub(super) fn put(&self, line: &[u8], out: &mut Outbox) {
        let record_max = out.record_max();
        let record = out.begin(self.around() + ESCAPE_MAX * line.len());
        let start = record.len();
        record.extend_from_slice(self.head);
        record.extend_from_slice(self.before);
        record.extend_from_slice(self.time);
        record.extend_from_slice(self.after);
        let mut is_cut = false;
        if self.is_text() {
            let text = record.len();
            escape_json(line, record);
            let most = record_max.saturating_sub(self.tail.len() + 2);
            if record.len() - start > most {
                is_cut = shorten(record, text, start + most);
            }
            record.push(b'"');
        } else {
            record.extend_from_slice(line);
        }
        record.extend_from_slice(self.tail);
        record.push(b'\n');
        out.finish();
        if is_cut {
            out.note_cut();
        }
    }
}

/// Cuts the inside of a JSON string, which begins at `text`, so that it ends at `end` at the
/// latest, and between two characters. `false` where nothing was left to cut.
#[cold]
fn shorten(record: &mut Vec<u8>, text: usize, end: usize) -> bool {
    let mut at = text;
    while let Some(&first) = record.get(at) {
        let len = match first {
            b'\\' if record.get(at + 1) == Some(&b'u') => ESCAPE_MAX,
            b'\\' => 2,
            0..=0x7f => 1,
            0xf0.. => 4,
            0xe0.. => 3,
            _ => 2,
        };
        if at + len > end {
            break;
        }
        at += len;
    }
    let is_cut = at < record.len();
    record.truncate(at);
    is_cut
}

impl Time {
    /// The time of `stamp` as JSON.
    pub(super) fn render<'a>(self, stamp: &Stamp, room: &'a mut [u8; TIME_MAX]) -> &'a [u8] {
        match self {
            Time::Absent => &[],
            Time::Rfc3339 => {
                room.fill(b'"');
                room[1..=MICROS_LEN].copy_from_slice(&stamp.rfc3339_micros());
                room
            }
            Time::Millis => decimal(stamp.nanos() / 1_000_000, room),
        }
    }
}

/// The digits of `number`, at the end of `room`.
fn decimal(mut number: u64, room: &mut [u8]) -> &[u8] {
    let mut at = room.len();
    loop {
        at -= 1;
        room[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &room[at..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Budget;
    use crate::sink::testing;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::sync::Arc;
    use std::time::{Duration, UNIX_EPOCH};

    fn records(time: Time, key: &str, lines: &[u8]) -> Vec<Vec<u8>> {
        let (before, comma) = match time {
            Time::Absent => ("{\"n\":1", ","),
            _ => ("{\"n\":1,\"t\":", ","),
        };
        let prefix = Prefix {
            before_time: before.as_bytes().into(),
            after_time: format!("{comma}{key}").into_bytes().into(),
            ..Prefix::default()
        };
        let stamp = Stamp::new(UNIX_EPOCH + Duration::from_nanos(1_700_000_000_123_456_789));
        let mut out = Outbox::new(Arc::new(Budget::new(4 << 20, 1)), usize::MAX);
        objects(&[], &prefix, time, b"}", &stamp, Blocks::whole(lines), &mut out);
        testing::drain(&mut out).0
    }

    #[test]
    fn a_line_is_a_string_and_json_is_itself() {
        let text = records(Time::Rfc3339, "\"m\":\"", b"a \"b\"\\\r\n\n").concat();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "{\"n\":1,\"t\":\"2023-11-14T22:13:20.123456Z\",\"m\":\"a \\\"b\\\"\\\\\\r\"}\n\
             {\"n\":1,\"t\":\"2023-11-14T22:13:20.123456Z\",\"m\":\"\"}\n"
        );
        let object = records(Time::Millis, "\"m\":", b"{\"a\":[1]}\n").concat();
        assert_eq!(object, b"{\"n\":1,\"t\":1700000000123,\"m\":{\"a\":[1]}}\n");
        let timeless = records(Time::Absent, "\"m\":", b"{}\n").concat();
        assert_eq!(timeless, b"{\"n\":1,\"m\":{}}\n");
    }

    #[test]
    fn numbers_have_all_their_digits() {
        for number in [0, 7, 10, 999, 1_000, u64::MAX] {
            assert_eq!(decimal(number, &mut [0; 20]), number.to_string().as_bytes());
        }
    }

    #[test]
    fn what_is_too_long_is_cut_and_still_an_object() {
        let prefix = Prefix {
            before_time: b"{"[..].into(),
            after_time: b"\"m\":\""[..].into(),
            ..Prefix::default()
        };
        let text = "a\u{1}\\\u{e9}\u{20ac}\u{1f600}".repeat(3);
        let frame = Frame::new(&prefix, b"", b"}");
        for record_max in frame.around()..frame.around() + 80 {
            let mut out = Outbox::new(Arc::new(Budget::new(1 << 20, 1)), record_max);
            frame.put(text.as_bytes(), &mut out);
            let (records, losses) = testing::drain(&mut out);
            let value: Value = serde_json::from_slice(&records[0]).unwrap();
            let cut = value["m"].as_str().unwrap();
            assert!(records[0].len() <= record_max && text.starts_with(cut), "{cut}");
            // No more than one character is missing that would have had room.
            assert!(cut == text || records[0].len() + ESCAPE_MAX > record_max, "{cut}");
            assert_eq!(losses.cut_records, u64::from(cut != text));
        }
    }

    proptest! {
        #[test]
        fn whatever_is_written_can_be_read(
            lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 1..8),
        ) {
            let lines: Vec<Vec<u8>> = lines
                .into_iter()
                .map(|line| line.into_iter().filter(|byte| *byte != b'\n').collect())
                .collect();
            let text: Vec<u8> = lines.iter().flat_map(|l| [l, &b"\n"[..]].concat()).collect();
            let records = records(Time::Millis, "\"m\":\"", &text);
            prop_assert_eq!(records.len(), lines.len());
            for (record, line) in records.iter().zip(&lines) {
                prop_assert_eq!(record.last(), Some(&b'\n'));
                let value: Value = serde_json::from_slice(record).unwrap();
                let line = String::from_utf8_lossy(line);
                // Bytes that belong to one broken character may be told apart.
                let same = |text: &str| text.replace('\u{fffd}', "");
                prop_assert_eq!(&value["t"], &json!(1_700_000_000_123_u64));
                prop_assert_eq!(same(value["m"].as_str().unwrap()), same(&line));
            }
        }
    }
}
