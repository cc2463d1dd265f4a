//! What a line costs on its way through the pure stages, from a chunk that was read.
//!
//! `cargo bench --bench path`; `-- --test` runs each once, as a smoke test. One iteration is one
//! chunk of about 256 KiB (what a read brings); items are lines, so ns/line = 1000 / (Mitem/s).
//! Bytes are those on the wire, headers included. Memory in use is shown where a stage allocates.

use divan::counter::{BytesCount, ItemsCount};
use divan::{AllocProfiler, Bencher, black_box};

use logchute::docker::Source;
use logchute::docker::frame::{Demux, Piece};
use logchute::lines::split::Splitter;

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

/// Mean bytes of a line, `\n` included: the span of common logs.
const LINE: [usize; 3] = [59, 124, 516];
const CHUNK: usize = 256 * 1024;
/// The largest frame that the Docker Engine writes.
const FRAME: usize = 32 * 1024;
const MAX_LINE: usize = 1024 * 1024;

fn main() {
    divan::main();
}

/// A chunk of the attach stream.
struct Corpus {
    stream: Vec<u8>,
    lines: usize,
}

impl Corpus {
    /// One line a frame, as a line-wise writer on a quiet host and the logs door give it.
    fn line_frames(mean: usize) -> Corpus {
        let lines = lines(mean);
        let mut stream = Vec::new();
        for line in &lines {
            push_frame(&mut stream, line);
        }
        Corpus { stream, lines: lines.len() }
    }

    /// Frames of 32 KiB that cut lines anywhere, as a program that writes in blocks gives it.
    fn block_frames(mean: usize) -> Corpus {
        let lines = lines(mean);
        let mut stream = Vec::new();
        for payload in lines.concat().chunks(FRAME) {
            push_frame(&mut stream, payload);
        }
        Corpus { stream, lines: lines.len() }
    }

    fn bench(&self, bencher: Bencher<'_, '_>, mut pass: impl FnMut(&[u8])) {
        bencher
            .counter(ItemsCount::new(self.lines))
            .counter(BytesCount::new(self.stream.len()))
            .bench_local(|| pass(black_box(&self.stream)));
    }
}

fn push_frame(stream: &mut Vec<u8>, payload: &[u8]) {
    stream.extend_from_slice(&[1, 0, 0, 0]);
    stream.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    stream.extend_from_slice(payload);
}

/// A chunk's worth of lines of words, half to one and a half times as long as `mean`, by a fixed
/// xorshift: the same in every run, and no two lengths in a row that a CPU could learn.
fn lines(mean: usize) -> Vec<Vec<u8>> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    let words = ["GET", "/api/v1/items", "status=200", "took", "12ms", "user", "INFO", "cache"];
    let mut make = |_| {
        let len = mean / 2 + random() % (mean + 1);
        let mut line = Vec::with_capacity(len);
        while line.len() < len {
            line.extend_from_slice(words[random() % words.len()].as_bytes());
            line.push(b' ');
        }
        line.truncate(len - 1);
        line.push(b'\n');
        line
    };
    (0..CHUNK / mean).map(&mut make).collect()
}

fn demux_only(corpus: &Corpus, bencher: Bencher<'_, '_>) {
    let mut demux = Demux::framed();
    corpus.bench(bencher, |input| {
        let each = |piece| {
            if let Piece::Output { bytes, .. } = piece {
                black_box(bytes);
            }
        };
        demux.push(input, each).expect("the corpus is well-formed");
    });
}

fn demux_and_split(corpus: &Corpus, bencher: Bencher<'_, '_>) {
    let mut demux = Demux::framed();
    let mut splitters = Source::ALL.map(|_| Splitter::new(MAX_LINE));
    corpus.bench(bencher, |input| {
        let each = |piece| {
            if let Piece::Output { source, bytes, .. } = piece {
                splitters[source as usize].push(bytes, &mut |block| {
                    black_box(block);
                });
            }
        };
        demux.push(input, each).expect("the corpus is well-formed");
    });
}

#[divan::bench(args = LINE)]
fn demux_line_frames(bencher: Bencher<'_, '_>, mean: usize) {
    demux_only(&Corpus::line_frames(mean), bencher);
}

#[divan::bench(args = LINE)]
fn demux_block_frames(bencher: Bencher<'_, '_>, mean: usize) {
    demux_only(&Corpus::block_frames(mean), bencher);
}

#[divan::bench(args = LINE)]
fn split_line_frames(bencher: Bencher<'_, '_>, mean: usize) {
    demux_and_split(&Corpus::line_frames(mean), bencher);
}

#[divan::bench(args = LINE)]
fn split_block_frames(bencher: Bencher<'_, '_>, mean: usize) {
    demux_and_split(&Corpus::block_frames(mean), bencher);
}
