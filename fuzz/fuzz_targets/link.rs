//! The link under arbitrary events at arbitrary times: never two attempts at once, none before its
//! pause has passed, and in the end there is one.
//!
//! Input: a seed for the jitter (8 bytes), and then two bytes each: how long later, and what.

#![no_main]

use libfuzzer_sys::fuzz_target;
use logchute::transport::link::naive::{Op, walk};

fuzz_target!(|data: &[u8]| {
    let Some((seed, rest)) = data.split_first_chunk::<8>() else { return };
    let ops = rest.chunks_exact(2).map(|pair| {
        let later = u64::from(pair[0]);
        let milliseconds = [0, 1, 10, 30, 160][usize::from(pair[1] / 4) % 5] * later;
        let ops = [Op::Poll, Op::Poll, Op::Connected, Op::Failed, Op::Worked];
        let op = ops[usize::from(pair[1]) % ops.len()];
        (milliseconds, op)
    });
    walk(u64::from_le_bytes(*seed), ops);
});
