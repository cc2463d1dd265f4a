//! From lines to records: the one loop that every line sink runs.
//!
//! Pure, and the hot path of every route: it allocates nothing (the outbox's chunks are made
//! ahead), looks at a line's bytes only to find its end, and copies them once.

use memchr::memchr;

use crate::buffer::Outbox;

/// Decimal digits of the largest `usize`, and the space behind them.
const COUNT_MAX: usize = 21;

/// Appends one record per line: the parts of `head`, then the line with its newline. Returns how
/// many lines there were.
///
/// `lines` is whole lines, each ended by `\n`; a last one that lacks it gets one.
pub(super) fn plain(head: [&[u8]; 3], lines: &[u8], out: &mut Outbox) -> u64 {
    records::<false>(head, lines, out)
}

/// As [`plain`], each record with its length and a space before it (RFC 6587, 3.4.1).
///
/// The length counts the newline, as Logspout's does.
pub(super) fn octet_counted(head: [&[u8]; 3], lines: &[u8], out: &mut Outbox) -> u64 {
    records::<true>(head, lines, out)
}

/// Within a chunk only the first head is put together from its parts; the others are copies of it,
/// one `memcpy` rather than three. `head_at` says where in the chunk that first head is.
fn records<const COUNTED: bool>(head: [&[u8]; 3], lines: &[u8], out: &mut Outbox) -> u64 {
    let head_len = head[0].len() + head[1].len() + head[2].len();
    let count_max = if COUNTED { COUNT_MAX } else { 0 };
    let mut head_at = None;
    let (mut rest, mut count) = (lines, 0);
    while !rest.is_empty() {
        let end = memchr(b'\n', rest);
        let (line, after) = rest.split_at(end.map_or(rest.len(), |at| at + 1));
        rest = after;
        let len = head_len + line.len() + usize::from(end.is_none());
        let record = out.begin(count_max + len);
        // Between the records of a block a chunk is only ever exchanged for an empty one.
        if record.is_empty() {
            head_at = None;
        }
        if COUNTED {
            put_count(record, len);
        }
        match head_at {
            Some(at) => record.extend_from_within(at..at + head_len),
            None => {
                head_at = Some(record.len());
                head.iter().for_each(|part| record.extend_from_slice(part));
            }
        }
        record.extend_from_slice(line);
        if end.is_none() {
            record.push(b'\n');
        }
        out.finish();
        count += 1;
    }
    count
}

/// Appends `count` in decimal, and a space. Most records have 100 to 999 bytes, and theirs is
/// copied as one word.
fn put_count(record: &mut Vec<u8>, mut count: usize) {
    let digit = |value: usize| b'0' + (value % 10) as u8;
    if (100..1000).contains(&count) {
        return record.extend_from_slice(&[
            digit(count / 100),
            digit(count / 10),
            digit(count),
            b' ',
        ]);
    }
    // Stays in the array: no `usize` has more than COUNT_MAX - 1 digits.
    let mut text = [b' '; COUNT_MAX];
    let mut first = COUNT_MAX - 1;
    loop {
        first -= 1;
        text[first] = digit(count);
        count /= 10;
        if count == 0 {
            break;
        }
    }
    record.extend_from_slice(&text[first..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::{Budget, Losses};
    use crate::sink::testing;
    use proptest::prelude::*;
    use std::sync::Arc;

    /// The records of an outbox, which must have lost nothing.
    fn drain(out: &mut Outbox) -> Vec<Vec<u8>> {
        let (records, losses) = testing::drain(out);
        assert_eq!(losses, Losses::default());
        records
    }

    #[test]
    fn counts() {
        for count in (0..2000).chain([9999, 10_000, 102_454, usize::MAX]) {
            let mut record = Vec::new();
            put_count(&mut record, count);
            assert_eq!(record, format!("{count} ").as_bytes());
        }
    }

    #[test]
    fn a_line_without_its_newline_gets_one() {
        let mut out = Outbox::new(Arc::new(Budget::new(1 << 20, 1)), usize::MAX);
        assert_eq!(plain([b"<", b"", b">"], b"one\n\ntwo", &mut out), 3);
        assert_eq!(octet_counted([b"", b"h", b""], b"three", &mut out), 1);
        assert_eq!(plain([b"", b"", b""], b"", &mut out), 0);
        assert_eq!(drain(&mut out), [&b"<>one\n"[..], b"<>\n", b"<>two\n", b"7 hthree\n"]);
    }

    proptest! {
        /// The naive way, on enough lines to fill several chunks (16 KiB here), two blocks long.
        #[test]
        fn as_the_naive_way(
            head in any::<[Vec<u8>; 3]>(),
            lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..200),
            counted in any::<bool>(),
        ) {
            let mut out = Outbox::new(Arc::new(Budget::new(256 * 1024, 1)), usize::MAX);
            let mut expected = Vec::new();
            let head = [&head[0][..], &head[1], &head[2]];
            for block in lines.chunks(150) {
                let mut text = Vec::new();
                for line in block {
                    let line: Vec<u8> = line.iter().copied().filter(|&b| b != b'\n').collect();
                    let record = [&head.concat(), &line[..], b"\n"].concat();
                    let count = if counted { format!("{} ", record.len()) } else { String::new() };
                    expected.push([count.as_bytes(), &record].concat());
                    text.extend_from_slice(&line);
                    text.push(b'\n');
                }
                let lines = match counted {
                    true => octet_counted(head, &text, &mut out),
                    false => plain(head, &text, &mut out),
                };
                prop_assert_eq!(lines, block.len() as u64);
            }
            prop_assert_eq!(drain(&mut out), expected);
        }
    }
}
