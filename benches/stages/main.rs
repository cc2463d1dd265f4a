//! What a line costs at each stage of its way, and on the whole of it: in time, and in
//! instructions.
//!
//! `cargo bench --bench stages` measures time; `-- encode` one stage, `-- 'path.*4 words'` some
//! cases. Items are lines (100 Mitem/s is 10 ns a line), bytes are those that go in. Names say the
//! mean length of a line, how lines come (one a frame, 61 a frame, cut by frames), the format, and
//! which share of the lines the filter keeps. `--test` runs each case once.
//!
//! `cargo bench --bench stages -- instructions` counts instructions a line by callgrind, compares
//! them with `benches/instructions.json` and fails where one rose by more than 3 %; `--record`
//! writes that file anew, to be committed with what changed the counts. See [`instructions`].

mod cases;
mod corpus;
mod instructions;

use std::process::ExitCode;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};

use cases::{Case, Stage, cases};
use corpus::READ;

/// Bytes of lines in a timed pass: so many that a CPU does not learn them by heart.
const TIMED: usize = if cfg!(debug_assertions) { READ } else { 32 * READ };

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.split_first() {
        Some((first, rest)) if first == "instructions" => instructions::main(rest),
        Some((first, rest)) if first == instructions::CHILD => instructions::child(rest),
        _ => {
            divan::main();
            ExitCode::SUCCESS
        }
    }
}

fn time(bencher: Bencher<'_, '_>, case: &Case) {
    let mut pass = case.pass(TIMED);
    // The second pass is as the thousandth: all buffers are there.
    pass.run();
    bencher
        .counter(ItemsCount::new(pass.lines))
        .counter(BytesCount::new(pass.bytes))
        .bench_local(|| pass.run());
}

#[divan::bench(args = cases(Stage::Demux))]
fn demux(bencher: Bencher<'_, '_>, case: &Case) {
    time(bencher, case);
}

#[divan::bench(args = cases(Stage::Split))]
fn split(bencher: Bencher<'_, '_>, case: &Case) {
    time(bencher, case);
}

#[divan::bench(args = cases(Stage::DemuxSplit))]
fn demux_and_split(bencher: Bencher<'_, '_>, case: &Case) {
    time(bencher, case);
}

#[divan::bench(args = cases(Stage::Filter))]
fn filter(bencher: Bencher<'_, '_>, case: &Case) {
    time(bencher, case);
}

#[divan::bench(args = cases(Stage::Encode))]
fn encode(bencher: Bencher<'_, '_>, case: &Case) {
    time(bencher, case);
}

#[divan::bench(args = cases(Stage::Path))]
fn path(bencher: Bencher<'_, '_>, case: &Case) {
    time(bencher, case);
}
