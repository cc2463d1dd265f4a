//! Joining lines, by marks of any kind or by those that a language's stack traces give: as lists of
//! lines do it, and never more than the limits.
//!
//! Input: a byte for the limit of bytes and one for that of lines (0 stands for one that nothing
//! reaches), one for the separator, and one that says who marks: 0 to 5 a preset, else each line's
//! own first byte does. Then the lines; one that begins with a zero byte comes after a flush.

#![no_main]

use libfuzzer_sys::fuzz_target;
use logchute::lines::group::naive::{self, Line};
use logchute::lines::group::{Joint, Mark};
use logchute::lines::trace::{Preset, Tracer};

const MARKS: [Mark; 8] = [
    Mark::More,
    Mark::First,
    Mark::Perhaps,
    Mark::Last,
    Mark::Alone,
    Mark::More,
    Mark::Perhaps,
    Mark::More,
];
const SEPARATORS: [&[u8]; 4] = [b"\n", b" ", b"\r\n", b"a"];

fuzz_target!(|data: &[u8]| {
    let [bytes_max, lines_max, separator, who, rest @ ..] = data else { return };
    let limit = |byte: u8| if byte == 0 { 1 << 20 } else { usize::from(byte) };
    let joint = Joint {
        separator: SEPARATORS[usize::from(*separator) % SEPARATORS.len()].into(),
        bytes_max: limit(*bytes_max),
        lines_max: limit(*lines_max) as u64,
    };
    let mut tracer = Preset::ALL.get(usize::from(*who)).map(|preset| Tracer::new(*preset));
    let (mut lines, mut flushes) = (Vec::<Line>::new(), Vec::new());
    for (number, line) in rest.split(|&byte| byte == b'\n').enumerate() {
        let (flush, line) = match line {
            [0, line @ ..] => (true, line),
            line => (false, line),
        };
        if flush {
            flushes.push(number);
        }
        let (mark, text) = match &mut tracer {
            Some(tracer) => (tracer.mark(line), line),
            None => {
                let first = line.first().copied().unwrap_or_default();
                let mark = MARKS[usize::from(first) % MARKS.len()];
                (mark, line.get(1..).unwrap_or_default())
            }
        };
        lines.push((text.to_vec(), mark));
    }
    naive::compare(&lines, &joint, &flushes);
});
