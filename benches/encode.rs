//! What encoding costs, per line: each sink on blocks of lines of 59, 124 and 516 bytes.
//!
//! `cargo bench --bench encode`; items are lines. Blocks are 64 KiB, as a read gives them;
//! `one_line` is the other end: blocks of one line, from a container that writes each on its own.
//! The lines of one round are many and their lengths vary, so that no branch predictor learns them.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use logchute::buffer::{Budget, Outbox};
use logchute::config::Settings;
use logchute::docker::Source;
use logchute::docker::inspect::Container;
use logchute::route::RouteSpec;
use logchute::sink::{self, Sink};
use logchute::stamp::Stamp;

const BLOCK: usize = 64 * 1024;
const BLOCKS: usize = 32;

fn main() {
    divan::main();
}

/// A sink as the route `adapter[+transport]://address?option=value` has it.
fn sink(adapter: &str, transport: &str, option: (&str, &str)) -> Arc<dyn Sink> {
    let spec = RouteSpec {
        id: "0".to_owned(),
        adapter: adapter.to_owned(),
        transport: (!transport.is_empty()).then(|| transport.to_owned()),
        address: if transport.is_empty() { "" } else { "localhost:514" }.to_owned(),
        selector: logchute::route::Selector::default(),
        options: vec![(option.0.to_owned(), option.1.to_owned())],
    };
    sink::build(&spec, &Settings::default())
        .map(|built| built.sink)
        .unwrap_or_else(|error| panic!("{error}"))
}

/// `count` lines whose lengths are spread around `len` (newline included).
fn lines(len: usize, count: usize, random: &mut u64) -> Vec<u8> {
    let mut block = Vec::new();
    for _ in 0..count {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        let length = len - len / 4 + (*random % (len as u64 / 2)) as usize;
        block.extend((1..length).map(|at| b'a' + (at % 26) as u8));
        block.push(b'\n');
    }
    block
}

fn encode(bencher: Bencher<'_, '_>, sink: &dyn Sink, len: usize, one_line: bool) {
    let container = Container {
        id: "0123456789abcdef".repeat(4),
        name: "shop_web_1".to_owned(),
        hostname: "0123456789ab".to_owned(),
        pid: 4242,
        ..Container::default()
    };
    let prefix = sink.prefix(&container, Source::Stdout);
    let stamp = Stamp::new(UNIX_EPOCH);
    let mut random = 0x2545_F491_4F6C_DD1D;
    let texts: Vec<Vec<u8>> = (0..BLOCKS).map(|_| lines(len, BLOCK / len, &mut random)).collect();
    let blocks: Vec<&[u8]> = match one_line {
        true => texts.iter().flat_map(|text| text.split_inclusive(|&b| b == b'\n')).collect(),
        false => texts.iter().map(Vec::as_slice).collect(),
    };
    let mut out = Outbox::new(Arc::new(Budget::new(16 << 20, 1)), usize::MAX);
    let items = ItemsCount::new(BLOCKS * (BLOCK / len));
    let bytes = BytesCount::new(texts.iter().map(Vec::len).sum::<usize>());
    bencher.counter(items).counter(bytes).bench_local(|| {
        for some in blocks.chunks(blocks.len() / BLOCKS) {
            for block in some {
                sink.encode(&prefix, &stamp, divan::black_box(block), &mut out);
            }
            while let Some(chunk) = out.take() {
                divan::black_box(chunk.pending());
                out.recycle(chunk);
            }
        }
    });
}

const LENGTHS: [usize; 3] = [59, 124, 516];

#[divan::bench(args = LENGTHS)]
fn rfc5424(bencher: Bencher<'_, '_>, len: usize) {
    encode(bencher, &*sink("syslog", "tcp", ("", "")), len, false);
}

#[divan::bench(args = LENGTHS)]
fn rfc5424_octet_counted(bencher: Bencher<'_, '_>, len: usize) {
    encode(bencher, &*sink("syslog", "tcp", ("syslog.framing", "octet-counted")), len, false);
}

#[divan::bench(args = LENGTHS)]
fn rfc5424_one_line(bencher: Bencher<'_, '_>, len: usize) {
    encode(bencher, &*sink("syslog", "tcp", ("", "")), len, true);
}

#[divan::bench(args = LENGTHS)]
fn rfc3164(bencher: Bencher<'_, '_>, len: usize) {
    encode(bencher, &*sink("syslog", "tcp", ("syslog.format", "rfc3164")), len, false);
}

#[divan::bench(args = LENGTHS)]
fn raw(bencher: Bencher<'_, '_>, len: usize) {
    encode(bencher, &*sink("raw", "tcp", ("", "")), len, false);
}

#[divan::bench(args = LENGTHS)]
fn console(bencher: Bencher<'_, '_>, len: usize) {
    encode(bencher, &*sink("console", "", ("colors", "on")), len, false);
}
