//! What is measured: the table of all cases, and how one of them is run.
//!
//! A case is plain data; [`Case::pass`] makes the input and whatever carries state, and
//! [`Pass::run`] sends the whole input through the stage once.

use std::fmt;
use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use logchute::buffer::{Budget, Outbox};
use logchute::config::cli::{self, Command};
use logchute::config::env::MapEnv;
use logchute::control::build;
use logchute::docker::Source;
use logchute::docker::frame::{Demux, Piece};
use logchute::docker::inspect::Container;
use logchute::doors::resume::Tail;
use logchute::lines::blocks::{Blocks, Place};
use logchute::lines::split::Splitter;
use logchute::metrics::ShardCounters;
use logchute::route::filter::LineFilter;
use logchute::route::verdict::Verdicts;
use logchute::shard::feed::Feed;
use logchute::shard::lane::{Lane, Route};
use logchute::stamp::Stamp;

use crate::corpus::{LEVEL, Lines, Marks, READ, ROUTE_WORDS, Shape};

/// Blocks that a feed hands on together.
const BATCH: usize = 128;
const MAX_LINE: usize = 1024 * 1024;
/// The mean length of a line where it is not what the cases differ in.
const USUAL: usize = 124;
/// Mean lengths of lines: the span of common logs, and traces.
const LENGTHS: [usize; 4] = [60, USUAL, 500, 8192];
const SHAPES: [Shape; 3] = [Shape::Line, Shape::Batch, Shape::Cut];

/// A part of a line's way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Demux,
    Split,
    DemuxSplit,
    Filter,
    Encode,
    /// From the bytes of a read to records that are taken from the outbox: all but system calls.
    Path,
}

impl Stage {
    pub(crate) const ALL: [Stage; 6] =
        [Stage::Demux, Stage::Split, Stage::DemuxSplit, Stage::Filter, Stage::Encode, Stage::Path];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Stage::Demux => "demux",
            Stage::Split => "split",
            Stage::DemuxSplit => "demux+split",
            Stage::Filter => "filter",
            Stage::Encode => "encode",
            Stage::Path => "path",
        }
    }
}

/// What a route keeps.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Filter {
    name: &'static str,
    /// `None` keeps everything.
    pattern: Option<&'static str>,
    /// What a line has that is kept.
    hit: &'static str,
}

const NO_FILTER: Filter = Filter { name: "no filter", pattern: None, hit: "" };
const LITERAL: Filter = Filter { name: "error", pattern: Some("error"), hit: "error" };
const ANY_LITERAL: Filter = Filter { name: ".*error", pattern: Some(".*error"), hit: "error" };
const FOUR_WORDS: Filter =
    Filter { name: "4 words", pattern: Some("(?i)error|warn|fatal|panic"), hit: LEVEL };
/// Literals find the candidates, the expression decides.
const DIGITS: Filter =
    Filter { name: "status=5xx", pattern: Some(r"status=5\d\d"), hit: "status=503" };
/// Each route looks for its own word, or for four of its own in any case.
const ROUTE_WORD: Filter = Filter { name: "a word each", pattern: None, hit: "" };
const ROUTE_FOUR: Filter = Filter { name: "4 words each", pattern: None, hit: "" };

/// Lines of a hundred that are kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hits {
    Never,
    Rare,
    Every,
}

const HITS: [Hits; 3] = [Hits::Never, Hits::Rare, Hits::Every];

/// A record as many write it: who, with which labels, and what.
const JSON: &str = "{\"container\":{{toJSON .Container.Name}},\
                    \"labels\":{{toJSON .Container.Config.Labels}},\
                    \"message\":{{toJSON .Data}}}\n";

/// One thing to measure.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) stage: Stage,
    mean: usize,
    shape: Shape,
    sink: &'static str,
    filter: Filter,
    hits: Hits,
    routes: usize,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = match self.shape {
            Shape::Line => "line frames",
            Shape::Batch => "61-line frames",
            Shape::Cut => "cut lines",
        };
        write!(f, "{} B {shape}", self.mean)?;
        if matches!(self.stage, Stage::Encode | Stage::Path) {
            write!(f, ", {}", self.sink)?;
        }
        if matches!(self.stage, Stage::Filter | Stage::Path) {
            write!(f, ", {}", self.filter.name)?;
            if self.filter != NO_FILTER {
                let hits = match self.hits {
                    Hits::Never => 0,
                    Hits::Rare => 1,
                    Hits::Every => 100,
                };
                write!(f, " {hits} %")?;
            }
        }
        if self.routes > 1 {
            write!(f, ", {} routes", self.routes)?;
        }
        Ok(())
    }
}

/// The cases of one stage.
pub(crate) fn cases(stage: Stage) -> Vec<Case> {
    let usual = Case {
        stage,
        mean: USUAL,
        shape: Shape::Line,
        sink: "rfc5424",
        filter: NO_FILTER,
        hits: Hits::Never,
        routes: 1,
    };
    let mut cases: Vec<Case> = LENGTHS.map(|mean| Case { mean, ..usual }).to_vec();
    match stage {
        Stage::Demux | Stage::DemuxSplit => {
            cases.extend([Shape::Batch, Shape::Cut].map(|shape| Case { shape, ..usual }));
        }
        Stage::Split => {
            cases = vec![usual, Case { shape: Shape::Batch, ..usual }];
            cases.extend(LENGTHS.map(|mean| Case { mean, shape: Shape::Cut, ..usual }));
        }
        Stage::Filter => {
            cases = filters(usual, Shape::Batch);
            cases.extend(filters(usual, Shape::Line));
            let lengths = LENGTHS.into_iter().filter(|mean| *mean != USUAL);
            let words = Case { shape: Shape::Batch, filter: FOUR_WORDS, ..usual };
            cases.extend(lengths.map(|mean| Case { mean, hits: Hits::Rare, ..words }));
        }
        Stage::Encode => {
            cases.extend(sinks(usual));
            let lines = ["json", "fluent", "logstash", "logentries", "papertrail"];
            cases.extend(works(usual, &lines));
            cases.extend(works(usual, &["http+json", "elasticsearch", "loggly", "sumo"]));
        }
        Stage::Path => {
            cases.extend(sinks(usual));
            cases.extend(works(usual, &["json", "multiline", "multiline java", "multiline go"]));
            for shape in [Shape::Line, Shape::Batch] {
                cases.extend(filters(usual, shape).into_iter().filter(|c| c.filter != NO_FILTER));
                for (filter, routes) in [(ROUTE_WORD, 4), (ROUTE_WORD, 16), (ROUTE_FOUR, 16)] {
                    cases.push(Case { shape, filter, hits: Hits::Rare, routes, ..usual });
                }
            }
            cases.push(Case { routes: 4, ..usual });
        }
    }
    cases
}

/// Every filter at every share of hits.
fn filters(usual: Case, shape: Shape) -> Vec<Case> {
    let mut cases = vec![Case { shape, ..usual }];
    for filter in [LITERAL, ANY_LITERAL, FOUR_WORDS, DIGITS] {
        cases.extend(HITS.map(|hits| Case { shape, filter, hits, ..usual }));
    }
    cases
}

/// Every sink, in every shape but the one that is among the lengths.
fn sinks(usual: Case) -> Vec<Case> {
    let mut cases = Vec::new();
    for sink in ["rfc5424", "octet-counted", "rfc3164", "raw", "console"] {
        let shapes = SHAPES.into_iter().filter(|s| sink != "rfc5424" || *s != Shape::Line);
        // Blocks that a splitter makes of cut lines are much as those of many lines a frame.
        let shapes = shapes.filter(|s| sink == "rfc5424" || *s != Shape::Cut);
        cases.extend(shapes.map(|shape| Case { sink, shape, ..usual }));
    }
    cases
}

/// What costs more than copying a line: a template, an encoding of another kind, an object, a limit,
/// and joining what belongs together (nothing here does, so each line is one by itself).
fn works(usual: Case, sinks: &[&'static str]) -> Vec<Case> {
    let each = |sink: &&'static str| {
        [Shape::Line, Shape::Batch].map(|shape| Case { sink, shape, ..usual })
    };
    sinks.iter().flat_map(each).collect()
}

/// The input of a case, and what runs it.
pub(crate) struct Pass {
    /// Lines of the input.
    pub(crate) lines: usize,
    /// Bytes of the input: on the wire where the case begins there, else of the lines.
    pub(crate) bytes: usize,
    stage: Box<dyn FnMut()>,
}

impl Pass {
    /// Sends the whole input through the stage.
    pub(crate) fn run(&mut self) {
        (self.stage)();
    }
}

impl Case {
    /// Gets ready to run, with about `bytes` bytes of lines.
    pub(crate) fn pass(&self, bytes: usize) -> Pass {
        let marks = match (self.hits, self.filter) {
            (_, ROUTE_WORD | ROUTE_FOUR) => Marks::RouteWords,
            (Hits::Never, _) => Marks::Never,
            (Hits::Rare, filter) => Marks::Rare(filter.hit),
            (Hits::Every, filter) => Marks::Every(filter.hit),
        };
        let lines = Lines::new(self.mean, marks, bytes);
        let (stream, pieces) = (lines.stream(self.shape), lines.pieces(self.shape));
        let wire = stream.len();
        let (bytes, stage): (usize, Box<dyn FnMut()>) = match self.stage {
            Stage::Demux => (wire, demux(stream)),
            Stage::Split => (bytes_of(&pieces), split(pieces)),
            Stage::DemuxSplit => (wire, demux_and_split(stream)),
            Stage::Filter => (bytes_of(&pieces), self.filter_only(blocks(&pieces))),
            Stage::Encode => (bytes_of(&pieces), self.encode(blocks(&pieces))),
            Stage::Path => (wire, self.path(stream)),
        };
        Pass { lines: lines.count(), bytes, stage }
    }

    fn filter_only(&self, blocks: Vec<Vec<u8>>) -> Box<dyn FnMut()> {
        let filter = LineFilter::new(self.filter.pattern, None).expect("a good pattern");
        let verdicts = Verdicts::new(&[Some(filter)]);
        let wanted = verdicts.wanted(|_| true);
        in_batches(&blocks, move |batch, _| {
            verdicts.judge(batch, &wanted, &mut |_, kept| {
                black_box(kept);
            });
        })
    }

    fn encode(&self, blocks: Vec<Vec<u8>>) -> Box<dyn FnMut()> {
        let routes = self.routes();
        let sink = Arc::clone(&routes[0].sink);
        let prefix = sink.prefix(&container(), Source::Stdout);
        let stamp = Stamp::new(UNIX_EPOCH);
        let mut out = Outbox::new(Arc::new(Budget::new(64 << 20, 1)), usize::MAX);
        in_batches(&blocks, move |batch, ends_read| {
            sink.encode(&prefix, &stamp, batch, &mut out);
            if ends_read {
                drain(&mut out);
            }
        })
    }

    fn path(&self, stream: Vec<u8>) -> Box<dyn FnMut()> {
        let lanes = self
            .routes()
            .iter()
            .map(|route| Rc::new(Lane::new(route, 0, &Rc::default()).0))
            .collect();
        let mut way = Way::new(lanes);
        Box::new(move || way.pass(&stream))
    }

    /// The routes, built as the program does from what a user writes.
    fn routes(&self) -> Vec<Arc<Route>> {
        let route = |pattern: Option<&str>| {
            let base = match self.sink {
                "rfc5424" => "syslog+tcp://127.0.0.1:9?syslog.format=rfc5424",
                "octet-counted" => "syslog+tcp://127.0.0.1:9?syslog.framing=octet-counted",
                "rfc3164" => "syslog+tcp://127.0.0.1:9?syslog.format=rfc3164",
                "raw" => "raw+tcp://127.0.0.1:9?",
                "console" => "console://?colors=on",
                "json" => {
                    let option = format!("raw.format={}", escaped(JSON));
                    return format!("raw+tcp://127.0.0.1:9?{option}");
                }
                "fluent" => "fluent://127.0.0.1:9?",
                "http+json" => "http+json://127.0.0.1:9?",
                "elasticsearch" => {
                    let index = escaped("logs-%Y.%m.%d");
                    return format!("elasticsearch+http://127.0.0.1:9?elasticsearch.index={index}");
                }
                "loggly" => "loggly+http://127.0.0.1:9?loggly.token=a",
                "sumo" => "sumo+http://127.0.0.1:9/a?",
                // Both look whether a line is JSON itself.
                "logstash" => "logstash+tcp://127.0.0.1:9?",
                "logentries" => "logentries://127.0.0.1:9?logentries.token=t&logentries.json=on",
                "papertrail" => "papertrail+tcp://127.0.0.1:9?",
                "multiline" => "multiline+raw+tcp://127.0.0.1:9?",
                "multiline java" => "multiline+raw+tcp://127.0.0.1:9?multiline.preset=java",
                "multiline go" => "multiline+raw+tcp://127.0.0.1:9?multiline.preset=go",
                other => panic!("no such sink: {other}"),
            };
            let filter = pattern.map(|pattern| format!("&filter.match={}", escaped(pattern)));
            base.to_owned() + &filter.unwrap_or_default()
        };
        let pattern = |number: usize| match self.filter {
            ROUTE_WORD => Some(ROUTE_WORDS[number][0].to_owned()),
            ROUTE_FOUR => Some(format!("(?i){}", ROUTE_WORDS[number].join("|"))),
            Filter { pattern, .. } => pattern.map(str::to_owned),
        };
        let uris = (0..self.routes).map(|number| route(pattern(number).as_deref()));
        let args = ["logchute".to_owned()].into_iter().chain(uris);
        let env = MapEnv::new(&[("SHARDS", "1")]);
        let command = cli::parse(args.map(Into::into), &env);
        let Ok(Command::Run(loaded)) = command else { panic!("bad routes of {self}") };
        build::routes(&loaded.settings).unwrap_or_else(|error| panic!("{self}: {error}"))
    }
}

/// As it has to be written in a URI.
fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn bytes_of(pieces: &[Vec<u8>]) -> usize {
    pieces.iter().map(Vec::len).sum()
}

fn container() -> Container {
    let labels = ["com.docker.compose.project", "com.docker.compose.service", "tier"];
    let labels = labels.map(|name| (name.to_owned(), "shop_web".to_owned()));
    Container {
        labels: labels.into(),
        id: "0123456789abcdef".repeat(4),
        name: "shop_web_1".to_owned(),
        hostname: "0123456789ab".to_owned(),
        pid: 4242,
        ..Container::default()
    }
}

fn drain(out: &mut Outbox) {
    while let Some(chunk) = out.take() {
        black_box(chunk.pending());
        out.recycle(chunk);
    }
}

/// Hands the blocks on as a feed does, and says which batches are the last of as much as a read.
fn in_batches(
    blocks: &[Vec<u8>],
    mut stage: impl FnMut(Blocks<'_>, bool) + 'static,
) -> Box<dyn FnMut()> {
    let text = blocks.concat();
    let ends = blocks.iter().scan(0, |end, block| {
        *end += block.len();
        Some(Place::new(*end - block.len()..*end))
    });
    let places: Vec<Place> = ends.collect();
    Box::new(move || {
        let mut taken = 0;
        for batch in places.chunks(BATCH) {
            let (from, end) = (batch[0].start(), batch[batch.len() - 1].end());
            taken += end - from;
            let ends_read = taken >= READ || end == text.len();
            stage(Blocks::new(black_box(&text), batch, end - from), ends_read);
            taken = if ends_read { 0 } else { taken };
        }
    })
}

/// The blocks of whole lines that the splitter makes of what is in the frames.
fn blocks(pieces: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut splitter = Splitter::new(MAX_LINE);
    let mut blocks = Vec::new();
    for piece in pieces {
        splitter.push(piece, &mut |block| blocks.push(block.to_vec()));
    }
    blocks
}

fn demux(stream: Vec<u8>) -> Box<dyn FnMut()> {
    let mut demux = Demux::framed();
    Box::new(move || {
        for read in stream.chunks(READ) {
            let mut pieces = demux.pieces(black_box(read));
            while let Some(piece) = pieces.next() {
                black_box(piece);
            }
            pieces.finish().expect("the corpus is well-formed");
        }
    })
}

fn split(pieces: Vec<Vec<u8>>) -> Box<dyn FnMut()> {
    let mut splitter = Splitter::new(MAX_LINE);
    Box::new(move || {
        for piece in &pieces {
            split_piece(&mut splitter, black_box(piece));
        }
    })
}

/// As a feed does it.
#[inline]
fn split_piece(splitter: &mut Splitter, piece: &[u8]) {
    if splitter.passes(piece) {
        black_box(piece);
    } else {
        splitter.push(piece, &mut |block| {
            black_box(block);
        });
    }
}

fn demux_and_split(stream: Vec<u8>) -> Box<dyn FnMut()> {
    let mut demux = Demux::framed();
    let mut splitters = Source::OUTPUTS.map(|_| Splitter::new(MAX_LINE));
    Box::new(move || {
        for read in stream.chunks(READ) {
            let mut pieces = demux.pieces(black_box(read));
            while let Some(piece) = pieces.next() {
                if let Piece::Output { source, bytes, .. } = piece {
                    split_piece(&mut splitters[source as usize], bytes);
                }
            }
            pieces.finish().expect("the corpus is well-formed");
        }
    })
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
    fn new(lanes: Vec<Rc<Lane>>) -> Way {
        let mut feed = Feed::new(MAX_LINE, Rc::default(), Arc::new(ShardCounters::default()));
        feed.bind(&container(), &lanes);
        let (demux, tails, complaint) = (Demux::framed(), Default::default(), None);
        Way { feed, lanes, demux, tails, complaint }
    }

    fn pass(&mut self, stream: &[u8]) {
        let Way { feed, lanes, demux, tails, complaint } = self;
        for input in stream.chunks(READ) {
            let read = feed.read(demux, black_box(input), UNIX_EPOCH, tails, complaint);
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
