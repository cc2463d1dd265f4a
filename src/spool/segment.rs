//! The format of a spool's files. Pure: bytes in, bytes out.
//!
//! A segment is a header and then frames, one for each chunk of records, in the order in which they
//! came. All numbers are little-endian:
//!
//! | header | bytes | | frame | bytes |
//! | --- | --- | --- | --- | --- |
//! | `LCSPOOL\n` | 8 | | number of its first record | 8 |
//! | version, 1 | 4 | | how many records | 4 |
//! | route | 8 | | how many of these, from the first on, were sent before | 4 |
//! | number of its first record | 8 | | how many bytes they have | 4 |
//! | CRC-32 of the above | 4 | | CRC-32 of the body | 4 |
//! | | | | CRC-32 of the above | 4 |
//! | | | | body: where each record ends, 4 each; the records | |
//!
//! Records are numbered throughout a log, so what is missing between two frames is known to the
//! record, whatever became of the bytes in between. The checksums of a frame begin with the route,
//! so that no frame of another route's file is taken for one of this.

use crc32fast::Hasher;

/// The only version there is.
pub const VERSION: u32 = 1;
/// Bytes of a segment's header.
pub const HEADER_LEN: usize = 32;
/// Bytes of a frame before its body.
pub const HEAD_LEN: usize = 28;

const MAGIC: &[u8; 8] = b"LCSPOOL\n";
/// Bytes of a place in the body.
const END_LEN: usize = 4;
/// Bytes of a mark: number, checksum.
pub const MARK_LEN: usize = 12;

/// What a segment begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whose records these are.
    pub route: u64,
    /// The number of its first record.
    pub first: u64,
}

/// Why a file is no segment of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// It is too short for a header, or the header is damaged.
    Damaged,
    /// Another version of the program wrote it.
    Version(u32),
}

impl Header {
    /// Its bytes.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.route.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.first.to_le_bytes());
        let sum = crc32fast::hash(&bytes[..28]);
        bytes[28..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// The header that `bytes` begin with.
    ///
    /// # Errors
    /// Where there is none that this version knows.
    pub fn decode(bytes: &[u8]) -> Result<Header, Foreign> {
        let bytes = bytes.get(..HEADER_LEN).ok_or(Foreign::Damaged)?;
        let sum = crc32fast::hash(&bytes[..28]);
        if &bytes[..8] != MAGIC || number4(&bytes[28..]) != sum {
            return Err(Foreign::Damaged);
        }
        match number4(&bytes[8..]) {
            VERSION => Ok(Header { route: number8(&bytes[12..]), first: number8(&bytes[20..]) }),
            other => Err(Foreign::Version(other)),
        }
    }
}

/// What a frame begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The number of its first record.
    pub first: u64,
    /// How many records it has.
    pub records: u32,
    /// How many of these, from the first on, were sent before, over a connection that broke.
    pub again: u32,
    /// How many bytes they have.
    pub bytes: u32,
    sum: u32,
}

/// What lies at a place in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A frame with this head, all of which is there.
    Frame(Head),
    /// Nothing: the segment ends here.
    End,
    /// The beginning of a frame that was not written to its end.
    Torn,
    /// Something else: where the next frame begins is not known.
    Broken,
}

/// Says what lies at a place of a segment of `route` that has `left` bytes from there on; `bytes`
/// are these, [`HEAD_LEN`] of them or as many as there are.
pub fn next(bytes: &[u8], left: u64, route: u64) -> Next {
    if left == 0 {
        return Next::End;
    }
    let Some(bytes) = bytes.get(..HEAD_LEN) else { return Next::Torn };
    if number4(&bytes[24..]) != sum(route, &bytes[..24]) {
        return Next::Broken;
    }
    let head = Head {
        first: number8(bytes),
        records: number4(&bytes[8..]),
        again: number4(&bytes[12..]),
        bytes: number4(&bytes[16..]),
        sum: number4(&bytes[20..]),
    };
    let is_sane = head.records > 0 && head.first.checked_add(u64::from(head.records)).is_some();
    match head.frame_len() <= left {
        _ if !is_sane => Next::Broken,
        true => Next::Frame(head),
        false => Next::Torn,
    }
}

impl Head {
    /// Bytes of the frame's body.
    pub fn body_len(&self) -> u64 {
        u64::from(self.records) * END_LEN as u64 + u64::from(self.bytes)
    }

    /// Bytes of the frame.
    pub fn frame_len(&self) -> u64 {
        HEAD_LEN as u64 + self.body_len()
    }

    /// The number of the record behind its last.
    pub fn end(&self) -> u64 {
        self.first + u64::from(self.records)
    }

    /// The records of `body`; `None` if it is damaged.
    pub fn open<'a>(&self, body: &'a [u8], route: u64) -> Option<Records<'a>> {
        if body.len() as u64 != self.body_len() || sum(route, body) != self.sum {
            return None;
        }
        let (ends, bytes) = body.split_at(self.records as usize * END_LEN);
        let records = Records { ends, bytes };
        // Held by the checksum, unless somebody has made a frame by hand.
        let rises = records.ends().is_sorted() && records.ends().last() == Some(self.bytes);
        rises.then_some(records)
    }
}

/// The records of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Records<'a> {
    ends: &'a [u8],
    /// All of them, one after the other.
    pub bytes: &'a [u8],
}

impl<'a> Records<'a> {
    /// Where each ends in the bytes.
    pub fn ends(&self) -> impl ExactSizeIterator<Item = u32> + 'a {
        self.ends.chunks_exact(END_LEN).map(number4)
    }
}

/// Appends a frame of the records in `bytes`, which end at `ends`, to `out`: there is at least one.
/// The first `again` of them were sent before.
pub fn write_frame(
    out: &mut Vec<u8>,
    route: u64,
    first: u64,
    again: u32,
    bytes: &[u8],
    ends: impl Iterator<Item = u32>,
) {
    let start = out.len();
    out.resize(start + HEAD_LEN, 0);
    ends.for_each(|end| out.extend_from_slice(&end.to_le_bytes()));
    let records = (out.len() - start - HEAD_LEN) / END_LEN;
    out.extend_from_slice(bytes);
    let (head, body) = out[start..].split_at_mut(HEAD_LEN);
    head[..8].copy_from_slice(&first.to_le_bytes());
    head[8..12].copy_from_slice(&(records as u32).to_le_bytes());
    head[12..16].copy_from_slice(&again.to_le_bytes());
    head[16..20].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
    head[20..24].copy_from_slice(&sum(route, body).to_le_bytes());
    let sum = sum(route, &head[..24]);
    head[24..].copy_from_slice(&sum.to_le_bytes());
}

/// The mark of a log, up to which its records are delivered: two places in a file are written in
/// turn, so that one is whole whenever the program ends.
pub fn mark(number: u64, route: u64) -> [u8; MARK_LEN] {
    let mut bytes = [0; MARK_LEN];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    let sum = sum(route, &bytes[..8]);
    bytes[8..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// The latest mark in such a file; 0 if there is none.
pub fn latest_mark(bytes: &[u8], route: u64) -> u64 {
    let whole = bytes.chunks_exact(MARK_LEN).filter(|at| number4(&at[8..]) == sum(route, &at[..8]));
    whole.map(number8).max().unwrap_or(0)
}

fn sum(route: u64, bytes: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&route.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

fn number4(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn number8(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Reads a segment as it lies in memory. In test and fuzz builds only.
#[cfg(any(test, fuzzing))]
pub mod naive {
    use super::{HEAD_LEN, HEADER_LEN, Header, Next, next};

    /// The records of a segment of `route` with their numbers, as far as it is whole, and whether
    /// that is to its end. Frames whose body alone is damaged are left out.
    pub fn read(segment: &[u8], route: u64) -> (Vec<(u64, Vec<u8>)>, bool) {
        let mut records = Vec::new();
        match Header::decode(segment) {
            Ok(header) if header.route == route => {}
            _ => return (records, false),
        }
        let mut rest = &segment[HEADER_LEN..];
        loop {
            match next(&rest[..rest.len().min(HEAD_LEN)], rest.len() as u64, route) {
                Next::Frame(head) => {
                    let (frame, behind) = rest.split_at(head.frame_len() as usize);
                    rest = behind;
                    let Some(found) = head.open(&frame[HEAD_LEN..], route) else { continue };
                    let mut start = 0;
                    for (number, end) in (head.first..).zip(found.ends()) {
                        records.push((number, found.bytes[start..end as usize].to_vec()));
                        start = end as usize;
                    }
                }
                Next::End => return (records, true),
                Next::Torn | Next::Broken => return (records, false),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    const ROUTE: u64 = 0xFEED;

    /// A segment of these frames, and where each of them ends.
    fn segment(first: u64, frames: &[Vec<Vec<u8>>]) -> (Vec<u8>, Vec<usize>) {
        let mut out = Header { route: ROUTE, first }.encode().to_vec();
        let (mut number, mut places) = (first, Vec::new());
        for records in frames {
            let ends = records.iter().scan(0, |end, record| {
                *end += record.len() as u32;
                Some(*end)
            });
            write_frame(&mut out, ROUTE, number, 1, &records.concat(), ends);
            number += records.len() as u64;
            places.push(out.len());
        }
        (out, places)
    }

    fn numbered(first: u64, frames: &[Vec<Vec<u8>>]) -> Vec<(u64, Vec<u8>)> {
        (first..).zip(frames.concat()).collect()
    }

    fn some_frames() -> Vec<Vec<Vec<u8>>> {
        let record = |n: usize| format!("record {n}\n").into_bytes();
        vec![(0..3).map(record).collect(), vec![Vec::new()], (3..9).map(record).collect()]
    }

    #[test]
    fn a_segment_torn_at_any_byte_gives_what_was_whole() {
        let frames = some_frames();
        let (bytes, places) = segment(7, &frames);
        let all = numbered(7, &frames);
        for len in 0..bytes.len() {
            let (records, whole) = naive::read(&bytes[..len], ROUTE);
            let frames_whole = places.iter().filter(|&&place| place <= len).count();
            let expected: usize = frames[..frames_whole].iter().map(Vec::len).sum();
            assert_eq!(records, all[..expected], "at {len}");
            let ends_so = len == HEADER_LEN || places.contains(&len);
            assert_eq!(whole, ends_so, "at {len}");
        }
        assert_eq!(naive::read(&bytes, ROUTE), (all, true));
    }

    #[test]
    fn a_flipped_bit_anywhere_gives_no_wrong_record() {
        let frames = some_frames();
        let (bytes, _) = segment(7, &frames);
        let all = numbered(7, &frames);
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let (records, _) = naive::read(&bytes, ROUTE);
            assert!(records.len() < all.len(), "bit {bit} is not noticed");
            assert!(records.iter().all(|record| all.contains(record)), "bit {bit}");
            assert!(records.is_sorted_by_key(|(number, _)| *number), "bit {bit}");
        }
    }

    #[test]
    fn a_damaged_body_costs_its_own_frame_alone() {
        let frames = some_frames();
        let (mut bytes, places) = segment(0, &frames);
        bytes[places[0] - 1] ^= 1;
        let (records, whole) = naive::read(&bytes, ROUTE);
        assert_eq!(records, numbered(0, &frames)[3..]);
        assert!(whole);
    }

    #[test]
    fn another_route_and_another_version_are_told() {
        let (mut bytes, _) = segment(0, &some_frames());
        assert_eq!(naive::read(&bytes, ROUTE + 1), (Vec::new(), false));
        bytes[8] = 9;
        let sum = crc32fast::hash(&bytes[..28]);
        bytes[28..32].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(Header::decode(&bytes), Err(Foreign::Version(9)));
        assert_eq!(Header::decode(b"LCSPOOL\n"), Err(Foreign::Damaged));
    }

    #[test]
    fn the_latest_whole_mark_counts() {
        let two = |one: u64, other: u64| [mark(one, ROUTE), mark(other, ROUTE)].concat();
        assert_eq!(latest_mark(&two(4, 9), ROUTE), 9);
        assert_eq!(latest_mark(&two(9, 4), ROUTE), 9);
        assert_eq!(latest_mark(&[], ROUTE), 0);
        assert_eq!(latest_mark(&two(4, 9), ROUTE + 1), 0);
        for byte in MARK_LEN..2 * MARK_LEN {
            let mut bytes = two(4, 9);
            bytes[byte] ^= 1;
            assert_eq!(latest_mark(&bytes, ROUTE), 4);
            assert_eq!(latest_mark(&bytes[..byte], ROUTE), 4);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            first in 0..u64::MAX / 2,
            frames in vec(vec(vec(any::<u8>(), 0..20), 1..9), 0..9),
        ) {
            let (bytes, _) = segment(first, &frames);
            prop_assert_eq!(naive::read(&bytes, ROUTE), (numbered(first, &frames), true));
        }

        #[test]
        fn damage_of_any_kind_gives_no_wrong_record(
            frames in vec(vec(vec(any::<u8>(), 0..20), 1..9), 1..9),
            damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            cut in any::<prop::sample::Index>(),
        ) {
            let (mut bytes, _) = segment(0, &frames);
            let all = numbered(0, &frames);
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.truncate(cut.index(bytes.len()) + 1);
            let (records, _) = naive::read(&bytes, ROUTE);
            prop_assert!(records.iter().all(|(at, record)| all[*at as usize].1 == *record));
            prop_assert!(records.is_sorted_by_key(|(number, _)| *number));
        }
    }
}
