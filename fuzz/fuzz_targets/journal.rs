//! The files in STATE_DIR under arbitrary damage: what is read of a journal are the first records that
//! were written there, whatever became of the rest, and never a panic.
//!
//! Input: a byte that says which. For the journal: how many places are damaged (0 to 3), so often two
//! bytes for the place and one for what is there then, and the records' texts, a line each. Else: the
//! whole file, a line, and the journal behind it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use logchute::shard::journal::{record, records};
use logchute::shard::positions::Positions;

const GENERATION: u64 = 7;
/// Of the journal that was there before.
const EARLIER: u64 = 6;

fuzz_target!(|data: &[u8]| match data {
    [0..=99, data @ ..] => damage(data),
    [_, data @ ..] => read(data),
    [] => {}
});

fn damage(data: &[u8]) {
    let Some((&places, rest)) = data.split_first() else { return };
    let Some((damage, texts)) = rest.split_at_checked(usize::from(places % 4) * 3) else {
        return;
    };
    let Ok(texts) = str::from_utf8(texts) else { return };
    let texts: Vec<&str> = texts.split('\n').collect();
    let write = |generation| texts.iter().flat_map(move |text| record(generation, text));
    let mut journal: Vec<u8> = write(GENERATION).collect();
    // What is behind it is older.
    journal.extend(write(EARLIER));
    assert!(records(&journal, GENERATION).eq(texts.iter().copied()));
    for place in damage.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([place[0], place[1]])) % journal.len();
        journal[at] = place[2];
    }
    let read: Vec<&str> = records(&journal, GENERATION).collect();
    assert!(texts.starts_with(&read));
    let torn = &journal[..journal.len() / 2];
    assert!(texts.starts_with(&records(torn, GENERATION).collect::<Vec<_>>()));
}

fn read(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (whole, journal) = data.split_at(end);
    let Ok(whole) = str::from_utf8(whole) else { return };
    let Ok(positions) = Positions::parse(whole, journal.get(1..).unwrap_or_default(), u64::MAX)
    else {
        return;
    };
    if let Some(mark) = positions.of("c", "r") {
        mark.tails();
    }
}
