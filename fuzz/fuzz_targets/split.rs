//! The splitter, fed arbitrary bytes cut anywhere, does as the naive one, with any limit.
//!
//! Input: the limit (0 stands for one that no line reaches), a count, so many sizes of pieces (one
//! byte each), and what the container wrote.

#![no_main]

use libfuzzer_sys::fuzz_target;
use logchute::lines::split::naive;

fuzz_target!(|data: &[u8]| {
    let [limit, count, rest @ ..] = data else { return };
    let max_line = if *limit == 0 { 1 << 20 } else { usize::from(*limit) };
    let (sizes, stream) = rest.split_at(rest.len().min(usize::from(*count)));
    naive::compare(stream, sizes, max_line);
});
