//! The doors' joins, driven as `tests/seam.rs` drives them, by bytes rather than by seeds: no line
//! is lost, and none comes twice where lines can be told apart.
//!
//! Input: which join (see below), which kind of lines, and what decides everything else.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/support/doors.rs"]
#[allow(dead_code, reason = "the counts are for the tests")]
mod doors;

use doors::{Chance, Family};

fuzz_target!(|data: &[u8]| {
    let [join, family, bytes @ ..] = data else { return };
    let family = Family::ALL[usize::from(*family) % Family::ALL.len()];
    // What the bytes are too few for differs from input to input too.
    let seed = bytes.iter().fold(0, |seed: u64, &byte| seed.wrapping_mul(257) ^ u64::from(byte));
    let chance = &mut Chance::new(bytes, seed);
    let tight = if family == Family::Long { 100_000 } else { 40 + chance.below(400) as usize };
    let outcome = match join % 4 {
        0 => doors::head(64 << 20, chance, family),
        1 => doors::head(tight, chance, family),
        2 => doors::resume(4 << 20, chance, family),
        _ => doors::resume(tight, chance, family),
    };
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
});
