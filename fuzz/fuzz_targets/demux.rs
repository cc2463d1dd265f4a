//! The demultiplexer, fed arbitrary bytes cut anywhere, does as the naive one.
//!
//! Input: a count, so many sizes of pieces (one byte each), and the stream.

#![no_main]

use libfuzzer_sys::fuzz_target;
use logchute::docker::frame::naive;

fuzz_target!(|data: &[u8]| {
    let Some((&count, rest)) = data.split_first() else { return };
    let (sizes, stream) = rest.split_at(rest.len().min(count as usize));
    naive::compare(stream, sizes);
});
