//! The format of the places' journal: what has changed since the whole of them was written.
//!
//! A record is a line: eight hexadecimal digits, a space, a text without newlines. The digits are
//! the checksum of text and generation; that is a number which the whole file has, too, so that no
//! record counts but beside the file that it is about: the journal is written over from its
//! beginning, and behind the last record there may be anything.
//!
//! Pure: bytes in, bytes out.

use crc32fast::Hasher;

/// Digits of a checksum.
const SUM: usize = 8;

/// A record of `text`, which has no newline, in the journal of `generation`.
pub fn record(generation: u64, text: &str) -> Vec<u8> {
    format!("{:0SUM$x} {text}\n", sum(generation, text.as_bytes())).into_bytes()
}

/// The texts of the records at the beginning of `journal`, up to the first that is not whole or is
/// not of `generation`.
pub fn records(journal: &[u8], generation: u64) -> impl Iterator<Item = &str> {
    let lines = journal.split_inclusive(|byte| *byte == b'\n');
    lines.map_while(move |line| {
        let (digits, text) = line.strip_suffix(b"\n")?.split_at_checked(SUM)?;
        let text = text.strip_prefix(b" ")?;
        let is_whole = format!("{:0SUM$x}", sum(generation, text)).as_bytes() == digits;
        std::str::from_utf8(text).ok().filter(|_| is_whole)
    })
}

fn sum(generation: u64, text: &[u8]) -> u32 {
    let mut sum = Hasher::new();
    sum.update(&generation.to_le_bytes());
    sum.update(text);
    sum.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXTS: [&str; 3] = ["{\"a\":1}", "", "ÿ three"];

    fn journal() -> Vec<u8> {
        TEXTS.iter().flat_map(|text| record(7, text)).collect()
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let whole = journal();
        assert_eq!(records(&whole, 7).collect::<Vec<_>>(), TEXTS);
        assert_eq!(records(&whole, 8).count(), 0, "of another file");
        // Behind what was written last is what was there before.
        let earlier: Vec<u8> = (0..9).flat_map(|_| record(6, "before")).collect();
        for cut in 0..earlier.len() {
            let over = [&whole, &earlier[cut..]].concat();
            assert_eq!(records(&over, 7).collect::<Vec<_>>(), TEXTS, "{cut}");
        }
    }

    #[test]
    fn a_torn_end_is_left_out() {
        let whole = journal();
        for end in 0..=whole.len() {
            let read: Vec<&str> = records(&whole[..end], 7).collect();
            let lines = whole[..end].iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(read, TEXTS[..lines], "{end}");
        }
    }

    #[test]
    fn a_flipped_bit_ends_it_before_its_record() {
        let whole = journal();
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let before = whole[..bit / 8].iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(records(&damaged, 7).collect::<Vec<_>>(), TEXTS[..before], "{bit}");
        }
    }
}
