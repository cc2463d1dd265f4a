//! From lines to records: the one loop that every line sink runs.
//!
//! Pure, and the hot path of every route: it allocates nothing (the outbox's chunks are made
//! ahead), looks at a line's bytes only to find its end, and copies them once. Where the CPU has
//! AVX2 both are one step (`fused`); `simple` does the same record by record, for other CPUs, for
//! datagrams, and for the few records that do not fit the fast way.

use memchr::memchr;

use crate::buffer::{Open, Outbox};
use crate::lines::blocks::Blocks;
use crate::sys::simd::{Avx2, WIDTH};

/// Decimal digits of the largest `usize`, and the space behind them.
const COUNT_MAX: usize = 21;
/// The count of nearly all records, three digits, and the space behind it.
const COUNT: &[u8; 4] = b"000 ";
/// The longest head that the fast way takes, its count included: a multiple of [`WIDTH`].
const HEAD_MAX: usize = 256;
/// Vectors of a short head.
const SHORT: usize = 4;

/// Appends one record per line: the parts of `head`, then the line with its newline. Returns how
/// many lines there were. A last line that lacks its newline gets one.
pub(super) fn plain(head: [&[u8]; 3], lines: Blocks<'_>, out: &mut Outbox) -> u64 {
    records::<false>(head, lines, out)
}

/// As [`plain`], each record with its length and a space before it (RFC 6587, 3.4.1).
///
/// The length counts the newline, as Logspout's does.
pub(super) fn octet_counted(head: [&[u8]; 3], lines: Blocks<'_>, out: &mut Outbox) -> u64 {
    records::<true>(head, lines, out)
}

/// As [`plain`], with `tail` between each line and its newline. For people's eyes: one record after
/// the other is fast enough for them.
pub(super) fn tailed(head: [&[u8]; 3], tail: &[u8], lines: Blocks<'_>, out: &mut Outbox) -> u64 {
    let around = head.iter().map(|part| part.len()).sum::<usize>() + tail.len() + 1;
    let mut count = 0;
    for block in lines.iter() {
        let mut rest = block;
        while !rest.is_empty() {
            let end = memchr(b'\n', rest).unwrap_or(rest.len());
            let record = out.begin(around + end);
            for part in [head[0], head[1], head[2], &rest[..end], tail, b"\n"] {
                record.extend_from_slice(part);
            }
            out.finish();
            rest = rest.get(end + 1..).unwrap_or_default();
            count += 1;
        }
    }
    count
}

/// Appends one whole record, with its newline; with its length before it if that is `counted`.
pub(super) fn put(whole: &[u8], counted: bool, out: &mut Outbox) {
    let count_max = if counted { COUNT_MAX } else { 0 };
    let record = out.begin(count_max + whole.len());
    if counted {
        put_count(record, whole.len());
    }
    record.extend_from_slice(whole);
    out.finish();
}

fn records<const COUNTED: bool>(head: [&[u8]; 3], lines: Blocks<'_>, out: &mut Outbox) -> u64 {
    if lines.is_joined() {
        return joined::<COUNTED>(head, lines, out);
    }
    match (Avx2::detect(), Head::new::<COUNTED>(head)) {
        (Some(avx2), Some(padded)) if !out.cuts_records() => {
            fused::<COUNTED>(avx2, head, &padded, lines, out)
        }
        _ => lines.iter().map(|block| simple::<COUNTED>(head, block, out)).sum(),
    }
}

/// One record for each text, whatever newlines it has.
fn joined<const COUNTED: bool>(head: [&[u8]; 3], lines: Blocks<'_>, out: &mut Outbox) -> u64 {
    let count_max = if COUNTED { COUNT_MAX } else { 0 };
    let mut count = 0;
    for text in lines.lines() {
        let len = head.iter().map(|part| part.len()).sum::<usize>() + text.len() + 1;
        let record = out.begin(count_max + len);
        if COUNTED {
            put_count(record, len);
        }
        head.iter().for_each(|part| record.extend_from_slice(part));
        record.extend_from_slice(text);
        record.push(b'\n');
        out.finish();
        count += 1;
    }
    count
}

/// One record after the other. Within a chunk only the first head is put together from its parts;
/// the others are copies of it, one `memcpy` rather than three. `head_at` says where in the chunk
/// that first head is.
fn simple<const COUNTED: bool>(head: [&[u8]; 3], lines: &[u8], out: &mut Outbox) -> u64 {
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

/// What every record of a call begins with, followed by bytes that mean nothing, so that it can be
/// copied in whole vectors.
struct Head {
    bytes: [u8; HEAD_MAX],
    len: usize,
}

impl Head {
    fn new<const COUNTED: bool>(parts: [&[u8]; 3]) -> Option<Head> {
        let count: &[u8] = if COUNTED { COUNT } else { b"" };
        let mut head = Head { bytes: [0; HEAD_MAX], len: 0 };
        for part in [count, parts[0], parts[1], parts[2]] {
            head.bytes.get_mut(head.len..head.len + part.len())?.copy_from_slice(part);
            head.len += part.len();
        }
        Some(head)
    }

    /// Appends the head, if there is room. Nearly all fit four vectors, and a number that is known
    /// when this is compiled needs no loop.
    #[inline(always)]
    fn append(&self, avx2: Avx2, to: &mut Vec<u8>) -> bool {
        let vectors = self.bytes.as_chunks().0;
        if self.len <= SHORT * WIDTH {
            avx2.append(&vectors[..SHORT], self.len, to)
        } else {
            avx2.append(vectors, self.len, to)
        }
    }
}

/// As [`simple`] for each block, copying and looking for the newline in one go.
fn fused<const COUNTED: bool>(
    avx2: Avx2,
    parts: [&[u8]; 3],
    head: &Head,
    lines: Blocks<'_>,
    out: &mut Outbox,
) -> u64 {
    let (mut at, mut count) = (At::default(), 0);
    loop {
        // Taken out of the outbox, so that the loop has their lengths in registers.
        let Open { bytes, ends } = out.open();
        let mut open = (std::mem::take(bytes), std::mem::take(ends));
        let before = open.1.len();
        (at, open) = avx2.run(
            #[inline(always)]
            || fast::<COUNTED>(avx2, head, lines, at, open),
        );
        count += (open.1.len() - before) as u64;
        (*bytes, *ends) = open;
        // What the fast way did not take is one record for the other.
        let Some(place) = lines.place(at.block) else { return count };
        let line = &lines.buffer()[at.byte..place.end];
        let line = &line[..memchr(b'\n', line).map_or(line.len(), |end| end + 1)];
        count += simple::<COUNTED>(parts, line, out);
        at.byte += line.len();
    }
}

/// Where an encoder is: in which block, and at which byte of the buffer if that is behind the
/// block's beginning.
#[derive(Clone, Copy, Default)]
struct At {
    block: usize,
    byte: usize,
}

/// Writes records, up to the end of `lines` or to one that is not for this way: see [`record`].
#[inline(always)]
fn fast<const COUNTED: bool>(
    avx2: Avx2,
    head: &Head,
    lines: Blocks<'_>,
    mut at: At,
    (mut bytes, mut ends): (Vec<u8>, Vec<u32>),
) -> (At, (Vec<u8>, Vec<u32>)) {
    while let Some(place) = lines.place(at.block) {
        at.byte = at.byte.max(place.start);
        while at.byte < place.end {
            let line = &lines.buffer()[at.byte..];
            let most = place.end - at.byte;
            if ends.len() == ends.capacity() {
                return (at, (bytes, ends));
            }
            let Some(len) = record::<COUNTED>(avx2, head, line, most, &mut bytes) else {
                return (at, (bytes, ends));
            };
            at.byte += len;
            ends.push(bytes.len() as u32);
        }
        at.block += 1;
    }
    (at, (bytes, ends))
}

/// Writes the record of the line that `text` begins with, and says how long that is. `None`, and
/// nothing written, where a step would go over the end of `text` or of the chunk, the line is
/// longer than `most`, or the count has not the usual number of digits.
#[inline(always)]
fn record<const COUNTED: bool>(
    avx2: Avx2,
    head: &Head,
    text: &[u8],
    most: usize,
    bytes: &mut Vec<u8>,
) -> Option<usize> {
    let start = bytes.len();
    if !head.append(avx2, bytes) {
        return None;
    }
    let line = avx2.append_until(text, b'\n', bytes).filter(|&line| line <= most);
    let counted = if COUNTED { COUNT.len() } else { 0 };
    let len = bytes.len() - start - counted;
    if line.is_none() || COUNTED && !(100..1000).contains(&len) {
        bytes.truncate(start);
        return None;
    }
    if COUNTED {
        bytes[start..start + counted].copy_from_slice(&three_digits(len));
    }
    line
}

/// `count`, which has three digits, in decimal, and a space.
#[inline(always)]
fn three_digits(count: usize) -> [u8; 4] {
    let digit = |value: usize| b'0' + (value % 10) as u8;
    [digit(count / 100), digit(count / 10), digit(count), b' ']
}

/// Appends `count` in decimal, and a space. Most records have 100 to 999 bytes, and theirs is
/// copied as one word.
fn put_count(record: &mut Vec<u8>, mut count: usize) {
    if (100..1000).contains(&count) {
        return record.extend_from_slice(&three_digits(count));
    }
    // Stays in the array: no `usize` has more than COUNT_MAX - 1 digits.
    let mut text = [b' '; COUNT_MAX];
    let mut first = COUNT_MAX - 1;
    loop {
        first -= 1;
        text[first] = b'0' + (count % 10) as u8;
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
    use crate::lines::blocks::Place;
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
        let whole = Blocks::whole;
        assert_eq!(plain([b"<", b"", b">"], whole(b"one\n\ntwo"), &mut out), 3);
        assert_eq!(octet_counted([b"", b"h", b""], whole(b"three"), &mut out), 1);
        assert_eq!(plain([b"", b"", b""], whole(b""), &mut out), 0);
        assert_eq!(drain(&mut out), [&b"<>one\n"[..], b"<>\n", b"<>two\n", b"7 hthree\n"]);
        assert_eq!(tailed([b"(", b"", b""], b")", whole(b"\na\r\nb"), &mut out), 3);
        assert_eq!(drain(&mut out), [&b"()\n"[..], b"(a\r)\n", b"(b)\n"]);
    }

    #[test]
    fn a_joined_line_is_one_record() {
        let mut out = Outbox::new(Arc::new(Budget::new(1 << 20, 1)), usize::MAX);
        let joined = Blocks::joined(b"one\n\ttwo\n");
        assert_eq!(plain([b"<", b"", b">"], joined, &mut out), 1);
        assert_eq!(octet_counted([b"", b"h", b""], joined, &mut out), 1);
        assert_eq!(drain(&mut out), [&b"<>one\n\ttwo\n"[..], b"10 hone\n\ttwo\n"]);
    }

    /// How a test has records written.
    #[derive(Clone, Copy, Debug)]
    enum Way {
        Plain,
        OctetCounted,
        Simple,
        SimpleCounted,
    }

    impl Way {
        fn write(self, head: [&[u8]; 3], lines: Blocks<'_>, out: &mut Outbox) -> u64 {
            match self {
                Way::Plain => plain(head, lines, out),
                Way::OctetCounted => octet_counted(head, lines, out),
                Way::Simple => lines.iter().map(|b| simple::<false>(head, b, out)).sum(),
                Way::SimpleCounted => lines.iter().map(|b| simple::<true>(head, b, out)).sum(),
            }
        }

        fn counts(self) -> bool {
            matches!(self, Way::OctetCounted | Way::SimpleCounted)
        }
    }

    proptest! {
        /// The naive way, on enough lines to fill several chunks (16 KiB here). A block has up to
        /// 20 lines, and something that is no line before it.
        #[test]
        fn as_the_naive_way(
            head in prop::collection::vec(any::<u8>(), 0..300),
            parts in (0..300_usize, 0..300_usize),
            lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..200),
            (a_block, gap, way) in (
                1..20_usize,
                prop::collection::vec(any::<u8>(), 0..20),
                prop::sample::select(
                    vec![Way::Plain, Way::OctetCounted, Way::Simple, Way::SimpleCounted],
                ),
            ),
        ) {
            let mut out = Outbox::new(Arc::new(Budget::new(256 * 1024, 1)), usize::MAX);
            let (mut expected, mut text, mut places) = (Vec::new(), Vec::new(), Vec::new());
            for block in lines.chunks(a_block) {
                text.extend_from_slice(&gap);
                let start = text.len();
                for line in block {
                    let line: Vec<u8> = line.iter().copied().filter(|&b| b != b'\n').collect();
                    let record = [&head, &line[..], b"\n"].concat();
                    let counted = way.counts();
                    let count = if counted { format!("{} ", record.len()) } else { String::new() };
                    expected.push([count.as_bytes(), &record].concat());
                    text.extend_from_slice(&line);
                    text.push(b'\n');
                }
                places.push(Place::new(start..text.len()));
            }
            let (first, rest) = head.split_at(parts.0.min(head.len()));
            let (second, third) = rest.split_at(parts.1.min(rest.len()));
            let len = places.iter().map(|place| place.end() - place.start()).sum();
            let blocks = Blocks::new(&text, &places, len);
            let written = way.write([first, second, third], blocks, &mut out);
            prop_assert_eq!(written, lines.len() as u64);
            prop_assert_eq!(drain(&mut out), expected);
        }
    }
}
