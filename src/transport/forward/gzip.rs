//! One gzip member after the other (RFC 1952), in slices: a shard has other things to do as well.
//!
//! Pure. The compressor's tables (some hundred KiB) are made once and used again.

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// The head of a member: deflate, no name, no time, made on an unknown system.
const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// Room that is made for what comes of a slice.
const ROOM: usize = 4096;

/// Writes members.
pub(super) struct Gzip {
    deflate: Compress,
    crc: Crc,
    /// Of the member: how many bytes were taken.
    taken: usize,
}

impl Gzip {
    pub(super) fn new() -> Gzip {
        // The fastest that still finds what repeats in logs.
        Gzip { deflate: Compress::new(Compression::fast(), false), crc: Crc::new(), taken: 0 }
    }

    /// Appends to `out` what comes of the next `most` bytes of `plain`, which is the same until its
    /// member is complete; whether it is.
    pub(super) fn go_on(&mut self, plain: &[u8], most: usize, out: &mut Vec<u8>) -> bool {
        if self.taken == 0 {
            out.extend_from_slice(&HEAD);
        }
        let end = plain.len().min(self.taken + most);
        let slice = &plain[self.taken..end];
        let is_last = end == plain.len();
        self.crc.update(slice);
        self.taken = end;
        self.squeeze(slice, is_last, out);
        if is_last {
            out.extend_from_slice(&self.crc.sum().to_le_bytes());
            out.extend_from_slice(&self.crc.amount().to_le_bytes());
            self.deflate.reset();
            self.crc.reset();
            self.taken = 0;
        }
        is_last
    }

    fn squeeze(&mut self, mut slice: &[u8], is_last: bool, out: &mut Vec<u8>) {
        let flush = if is_last { FlushCompress::Finish } else { FlushCompress::None };
        loop {
            out.reserve(ROOM);
            let before = self.deflate.total_in();
            // Compressing fails for nothing that it is given.
            let Ok(status) = self.deflate.compress_vec(slice, out, flush) else { return };
            slice = &slice[(self.deflate.total_in() - before) as usize..];
            let is_done = slice.is_empty() && out.len() < out.capacity();
            if status == Status::StreamEnd || !is_last && is_done {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Read as _;

    proptest! {
        /// What another reader of gzip makes of it, whatever the slices; one after the other.
        #[test]
        fn members_are_read_as_they_were_written(
            texts in prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 0..3000), 1_usize..50, 1_usize..5000),
                1..4,
            ),
        ) {
            let mut gzip = Gzip::new();
            for (text, times, slice) in texts {
                let text = text.repeat(times);
                let (mut member, mut steps) = (Vec::new(), 1);
                while !gzip.go_on(&text, slice, &mut member) {
                    steps += 1;
                }
                prop_assert_eq!(steps, text.len().div_ceil(slice).max(1));
                let mut read = Vec::new();
                flate2::read::GzDecoder::new(&member[..]).read_to_end(&mut read).unwrap();
                prop_assert!(read == text);
            }
        }
    }
}
