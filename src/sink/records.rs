//! From lines to records: the one loop that every line sink runs.
//!
//! Pure, and the hot path of every route: it allocates nothing (the outbox's chunks are made
//! ahead), looks at a line's bytes only to find its end, and copies them once.

use memchr::memchr;

use crate::buffer::Outbox;

/// Decimal digits of the largest `usize`, and the space behind them.
const COUNT_MAX: usize = 21;

/// Appends one record per line: the parts of `head`, then the line with its newline.
///
/// `lines` is whole lines, each ended by `\n`; a last one that lacks it gets one.
pub(super) fn plain(head: [&[u8]; 3], lines: &[u8], out: &mut Outbox) {
    records::<false>(head, lines, out);
}

/// As [`plain`], each record with its length and a space before it (RFC 6587, 3.4.1).
///
/// The length counts the newline, as Logspout's does.
pub(super) fn octet_counted(head: [&[u8]; 3], lines: &[u8], out: &mut Outbox) {
    records::<true>(head, lines, out);
}

/// Within a chunk only the first head is put together from its parts; the others are copies of it,
/// one `memcpy` rather than three. `head_at` says where in the chunk that first head is.
fn records<const COUNTED: bool>(head: [&[u8]; 3], lines: &[u8], out: &mut Outbox) {
    let head_len = head[0].len() + head[1].len() + head[2].len();
    let count_max = if COUNTED { COUNT_MAX } else { 0 };
    let mut head_at = None;
    let mut rest = lines;
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
    }
}

/// Appends `count` in decimal, and a space.
fn put_count(record: &mut Vec<u8>, mut count: usize) {
    let mut text = [b' '; COUNT_MAX];
    let mut first = COUNT_MAX - 1;
    for (at, digit) in text.iter_mut().enumerate().take(COUNT_MAX - 1).rev() {
        *digit = b'0' + (count % 10) as u8;
        count /= 10;
        first = at;
        if count == 0 {
            break;
        }
    }
    record.extend_from_slice(text.get(first..).unwrap_or_default());
}
