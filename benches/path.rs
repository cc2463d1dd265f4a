//! What a line costs on its way through the pure stages, from a chunk that was read.
//!
//! `cargo bench --bench path`; `-- --test` runs each once, as a smoke test. One iteration is one
//! chunk of about 256 KiB (what a read brings); items are lines, so ns/line = 1000 / (Mitem/s).
//! Bytes are those on the wire, headers included. Memory in use is shown where a stage allocates.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use divan::counter::{BytesCount, ItemsCount};
use divan::{AllocProfiler, Bencher, black_box};

use logchute::config::cli::{self, Command};
use logchute::config::env::MapEnv;
use logchute::control::build;
use logchute::docker::Source;
use logchute::docker::frame::{Demux, Piece};
use logchute::docker::inspect::Container;
use logchute::doors::resume::Tail;
use logchute::lines::split::Splitter;
use logchute::metrics::ShardCounters;
use logchute::shard::feed::Feed;
use logchute::shard::lane::Lane;

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
        let lines = lines(mean, CHUNK);
        let mut stream = Vec::new();
        for line in &lines {
            push_frame(&mut stream, line);
        }
        Corpus { stream, lines: lines.len() }
    }

    /// Frames of 32 KiB that cut lines anywhere, as a program that writes in blocks gives it.
    fn block_frames(mean: usize) -> Corpus {
        let lines = lines(mean, CHUNK);
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

/// So many bytes of lines of words, half to one and a half times as long as `mean`, by a fixed
/// xorshift: the same in every run, and no two lengths in a row that a CPU could learn.
fn lines(mean: usize, bytes: usize) -> Vec<Vec<u8>> {
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
    (0..bytes / mean).map(&mut make).collect()
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

/// Lines of a frame of a line-wise writer under load, as measured on a real engine.
const BATCH: usize = 61;
/// The words that routes look for; each is in one line of a hundred of [`Hits::Rare`].
const RARE: [&str; 16] = [
    "alpha", "bravo", "charlie", "delta", "foxtrot", "golf", "hotel", "india", "juliett", "kilo",
    "lima", "november", "oscar", "papa", "quebec", "romeo",
];

/// What the routes of one feed keep, and how the lines come.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    lines_a_frame: usize,
    filter: Filter,
}

#[derive(Clone, Copy)]
enum Filter {
    /// One route without.
    None,
    /// One route with four words, which one line of a hundred has.
    Rare,
    /// One route with four words, one of which every line has.
    Every,
    /// Sixteen routes with a word each, which one line of a hundred has.
    Sixteen,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} lines a frame", self.name, self.lines_a_frame)
    }
}

fn cases() -> impl Iterator<Item = Case> {
    let named = [
        ("no filter", Filter::None),
        ("4 words 1 %", Filter::Rare),
        ("4 words 100 %", Filter::Every),
        ("16 routes 1 %", Filter::Sixteen),
    ];
    named.into_iter().flat_map(|(name, filter)| {
        [1, BATCH].map(|lines_a_frame| Case { name, lines_a_frame, filter })
    })
}

/// The routes of a case, as a user would write them.
fn routes(filter: Filter) -> Vec<String> {
    let route = |filter: &str| format!("syslog+tcp://127.0.0.1:9{filter}");
    match filter {
        Filter::None => vec![route("")],
        Filter::Rare => vec![route("?filter.match=(%3Fi)delta|zulu|yankee|xray")],
        Filter::Every => vec![route("?filter.match=(%3Fi)took|zulu|yankee|xray")],
        Filter::Sixteen => {
            RARE.iter().map(|word| route(&format!("?filter.match={word}"))).collect()
        }
    }
}

/// Their shares of the only shard.
fn lanes(filter: Filter) -> Vec<Rc<Lane>> {
    let args = ["logchute".to_owned()].into_iter().chain(routes(filter));
    let env = MapEnv::new(&[("SHARDS", "1")]);
    let command = cli::parse(args.map(Into::into), &env).expect("the routes are good");
    let Command::Run(loaded) = command else { panic!("routes alone mean: run") };
    let routes = build::routes(&loaded.settings).expect("the routes are good");
    routes.iter().map(|route| Rc::new(Lane::new(route, 0).0)).collect()
}

/// Reads of one round. A recent CPU learns the lengths of the lines of one alone by heart.
const READS: usize = 32;

/// Lines for all reads, each with "took", every hundredth with each of the rare words in its turn.
fn marked_lines() -> Vec<Vec<u8>> {
    let mut lines = lines(124, READS * CHUNK);
    for (number, line) in lines.iter_mut().enumerate() {
        let mark = match RARE.get(number % 100) {
            Some(word) => format!("took {word} "),
            None => "took ".to_owned(),
        };
        let len = mark.len().min(line.len() - 1);
        line[..len].copy_from_slice(&mark.as_bytes()[..len]);
    }
    lines
}

/// The in-memory way of one container, and what it carries between reads.
struct Way {
    feed: Feed,
    lanes: Vec<Rc<Lane>>,
    demux: Demux,
    tails: [Tail; 2],
    complaint: Option<String>,
}

impl Way {
    fn new(filter: Filter) -> Way {
        let lanes = lanes(filter);
        let mut feed = Feed::new(MAX_LINE, Arc::new(ShardCounters::default()));
        feed.bind(&Container { name: "shop_web_1".into(), ..Container::default() }, &lanes);
        let (demux, tails, complaint) = (Demux::framed(), Default::default(), None);
        Way { feed, lanes, demux, tails, complaint }
    }

    /// Never inlined, so that it can be told apart in a profile:
    /// `valgrind --tool=callgrind --toggle-collect='*Way::pass*' path-… --test "no filter, 1 l"`.
    #[inline(never)]
    fn pass(&mut self, stream: &[u8]) {
        let Way { feed, lanes, demux, tails, complaint } = self;
        for input in stream.chunks(CHUNK) {
            let read = feed.read(demux, input, UNIX_EPOCH, tails, complaint);
            read.expect("the corpus is well-formed");
            for lane in &*lanes {
                while let Some(mut chunk) = lane.queue.take() {
                    lane.queue.delivered(chunk.records(), black_box(chunk.pending()).len());
                    let sent = chunk.pending().len();
                    chunk.deliver(sent);
                    lane.queue.put_back(chunk);
                }
            }
        }
    }
}

/// From the bytes of a read to records that are taken from the outbox: all of a line's way but
/// the system calls.
#[divan::bench(args = cases())]
fn feed(bencher: Bencher<'_, '_>, case: Case) {
    let lines = marked_lines();
    let mut stream = Vec::new();
    for some in lines.chunks(case.lines_a_frame) {
        push_frame(&mut stream, &some.concat());
    }
    let mut way = Way::new(case.filter);
    let corpus = Corpus { stream, lines: lines.len() };
    // The second pass is as the thousandth: all buffers are there.
    way.pass(&corpus.stream);
    corpus.bench(bencher, |input| way.pass(input));
}
