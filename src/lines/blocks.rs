//! Blocks of whole lines, as they lie in a buffer: what the stages behind the splitter work on.
//!
//! Pure. A read brings many frames, and each is a block or more; handing them on together lets a
//! filter look through the whole read at once, and an encoder stay in its loop.

use std::ops::Range;

use memchr::{memchr, memchr_iter};

use crate::sys::simd::Avx2;

/// What usually lies between two blocks: the header of a frame.
const HEADER: usize = 8;

/// Where a block lies in its buffer: the offset of its first byte, and of the byte behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    start: u32,
    end: u32,
}

impl Place {
    /// The place of `range`; buffers have less than 4 GiB.
    #[inline]
    pub fn new(range: Range<usize>) -> Place {
        Place { start: range.start as u32, end: range.end as u32 }
    }

    /// The offset of the first byte.
    #[inline]
    pub fn start(self) -> usize {
        self.start as usize
    }

    /// The offset behind the last byte.
    #[inline]
    pub fn end(self) -> usize {
        self.end as usize
    }
}

/// The place of a block that is its whole buffer, whatever its length.
const WHOLE: &[Place] = &[Place { start: 0, end: u32::MAX }];

/// Whole lines of one container and source, in their order.
///
/// Each place is one or more whole lines of `bytes`, each ended by `\n`; places rise and do not
/// overlap. What lies between them (headers of frames) is nobody's line.
#[derive(Clone, Copy, Debug)]
pub struct Blocks<'a> {
    bytes: &'a [u8],
    places: &'a [Place],
    len: usize,
    /// All of it is one line, whatever newlines it has.
    joined: bool,
}

impl<'a> Blocks<'a> {
    /// The blocks of `bytes` at `places`, which have `len` bytes together.
    #[inline]
    pub fn new(bytes: &'a [u8], places: &'a [Place], len: usize) -> Blocks<'a> {
        Blocks { bytes, places, len, joined: false }
    }

    /// One block: all of `bytes`, which is whole lines.
    pub fn whole(bytes: &'a [u8]) -> Blocks<'a> {
        let places = if bytes.is_empty() { &[] } else { WHOLE };
        Blocks { bytes, places, len: bytes.len(), joined: false }
    }

    /// One line that was joined from several: all of `bytes`, of which the last is `\n`. The other
    /// newlines belong to its text.
    pub fn joined(bytes: &'a [u8]) -> Blocks<'a> {
        Blocks { joined: true, ..Blocks::whole(bytes) }
    }

    /// Whether this is one line that may have newlines in its text; see [`Blocks::joined`].
    #[inline]
    pub fn is_joined(&self) -> bool {
        self.joined
    }

    /// The buffer that the blocks lie in, and what lies between them.
    #[inline]
    pub fn buffer(&self) -> &'a [u8] {
        self.bytes
    }

    /// From where to where the blocks lie.
    pub fn span(&self) -> Range<usize> {
        match self.places {
            [] => 0..0,
            [first, .., last] => first.start()..last.end().min(self.bytes.len()),
            [only] => only.start()..only.end().min(self.bytes.len()),
        }
    }

    /// Where block number `index` lies, if there are so many.
    #[inline]
    pub fn place(&self, index: usize) -> Option<Range<usize>> {
        let place = self.places.get(index)?;
        Some(place.start()..place.end().min(self.bytes.len()))
    }

    /// Where the blocks lie, in their order.
    #[inline]
    pub fn places(&self) -> impl Iterator<Item = Range<usize>> + use<'a> {
        let len = self.bytes.len();
        self.places.iter().map(move |place| place.start()..place.end().min(len))
    }

    /// The blocks, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let bytes = self.bytes;
        self.places().map(move |place| &bytes[place])
    }

    /// The lines, in their order, without their newlines.
    #[inline]
    pub fn lines(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.lines_inclusive().map(|line| line.strip_suffix(b"\n").unwrap_or(line))
    }

    /// The lines, in their order, each with its newline.
    #[inline]
    pub fn lines_inclusive(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (mut blocks, joined) = (self.iter(), self.joined);
        let mut rest: &[u8] = &[];
        std::iter::from_fn(move || {
            while rest.is_empty() {
                rest = blocks.next()?;
            }
            let end = if joined { None } else { memchr(b'\n', rest) };
            let (line, after) = rest.split_at(end.map_or(rest.len(), |end| end + 1));
            rest = after;
            Some(line)
        })
    }

    /// How many bytes the blocks have.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no lines.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// How many lines the blocks have. All of the buffer is looked through in one go, which is
    /// much faster than block by block; what lies between the blocks is taken off again.
    pub fn count_lines(&self) -> u64 {
        let span = self.span();
        let (mut end, mut between) = (span.start, 0);
        for place in self.places() {
            between += newlines_between(&self.bytes[end..place.start]);
            end = place.end;
        }
        (newlines(&self.bytes[span]) - between) as u64
    }
}

/// How many newlines there are in many bytes.
fn newlines(bytes: &[u8]) -> usize {
    match Avx2::detect() {
        Some(avx2) => avx2.run(
            #[inline(always)]
            || avx2.count(b'\n', bytes),
        ),
        None => memchr_iter(b'\n', bytes).count(),
    }
}

/// How many newlines there are in what lies between two blocks: hardly ever any.
#[inline(always)]
fn newlines_between(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 0xff;
    match <[u8; HEADER]>::try_from(bytes).map(u64::from_le_bytes) {
        // A newline is a zero byte here; and if there is one, taking one of each byte borrows.
        Ok(header) => {
            let newline = header ^ (ONES * b'\n' as u64);
            match newline.wrapping_sub(ONES) & !newline & (ONES * 0x80) {
                0 => 0,
                _ => few_newlines(bytes),
            }
        }
        Err(_) => few_newlines(bytes),
    }
}

#[inline(never)]
fn few_newlines(bytes: &[u8]) -> usize {
    memchr_iter(b'\n', bytes).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_joined_line_keeps_its_newlines() {
        let joined = Blocks::joined(b"a\n\tb\n\n");
        assert_eq!(joined.lines().collect::<Vec<_>>(), [b"a\n\tb\n"]);
        assert!(joined.is_joined() && !Blocks::whole(b"a\n").is_joined());
        assert_eq!(Blocks::joined(b"").lines().count(), 0);
    }

    proptest! {
        #[test]
        fn lines_are_counted_and_nothing_between(
            blocks in prop::collection::vec(("[\n\t]{0,12}", "[a\n]{0,40}\n"), 0..20),
        ) {
            let (mut bytes, mut places, mut lines) = (String::new(), Vec::new(), 0);
            for (between, block) in &blocks {
                bytes += between;
                places.push(Place::new(bytes.len()..bytes.len() + block.len()));
                bytes += block;
                lines += block.matches('\n').count() as u64;
            }
            let len = blocks.iter().map(|(_, block)| block.len()).sum();
            let blocks = Blocks::new(bytes.as_bytes(), &places, len);
            prop_assert_eq!(blocks.count_lines(), lines);
            prop_assert_eq!(blocks.iter().map(<[u8]>::len).sum::<usize>(), blocks.len());
        }
    }
}
