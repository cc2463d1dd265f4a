//! What the line filter costs: a block of 64 KiB of 124-byte lines, of which none, one in a
//! hundred or every second one matches, through the prefilter and through the plain expression
//! line by line.
//!
//! The throughput column counts lines: 100 Mitem/s is 10 ns per line.

use std::fmt;

use divan::Bencher;
use divan::counter::ItemsCount;

use logchute::route::filter::LineFilter;
use logchute::route::pattern::Pattern;

/// Bytes of a line, its `\n` included.
const LINE: usize = 124;
const BLOCK: usize = 64 * 1024;

const PATTERNS: [&str; 5] = [
    "error",
    ".*error",
    "(?i)error|warn|fatal|panic",
    r"(?i)\b(error|warn|fatal|panic)\b",
    r"status=5\d\d",
];

/// How many lines match.
#[derive(Clone, Copy)]
enum Hits {
    Never,
    Rare,
    Common,
}

/// One thing to measure.
#[derive(Clone, Copy)]
struct Case {
    pattern: &'static str,
    hits: Hits,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hits = match self.hits {
            Hits::Never => "never",
            Hits::Rare => "rare",
            Hits::Common => "common",
        };
        write!(f, "{hits:6} {}", self.pattern)
    }
}

fn cases() -> impl Iterator<Item = Case> {
    let hits = [Hits::Never, Hits::Rare, Hits::Common];
    PATTERNS.into_iter().flat_map(move |pattern| hits.map(|hits| Case { pattern, hits }))
}

/// Lines of a made-up service; the same ones each time.
fn block(hits: Hits) -> Vec<u8> {
    const WORDS: [&str; 24] = [
        "request",
        "served",
        "from",
        "cache",
        "upstream",
        "10.0.3.17",
        "GET",
        "/api/v1/items",
        "user=4711",
        "duration=12ms",
        "INFO",
        "worker",
        "Scheduled",
        "job",
        "finished",
        "queue",
        "param",
        "wait",
        "session",
        "erased",
        "family",
        "retry=0",
        "bytes=20480",
        "trace=9f3c21ab",
    ];
    let mut seed: u32 = 1;
    let mut block = Vec::new();
    for n in 0..BLOCK / LINE {
        let hit = match hits {
            Hits::Never => false,
            Hits::Rare => n % 100 == 50,
            Hits::Common => n % 2 == 0,
        };
        let mut line = "2024-05-01T12:00:00.123Z ".to_owned();
        while line.len() < LINE {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            line.push_str(WORDS[(seed >> 16) as usize % WORDS.len()]);
            line.push(' ');
            if hit && line.len() < LINE - 40 {
                line.push_str("error status=500 ");
            }
        }
        line.truncate(LINE - 1);
        block.extend_from_slice(line.as_bytes());
        block.push(b'\n');
    }
    block
}

#[divan::bench(args = cases())]
fn prefilter(bencher: Bencher<'_, '_>, case: Case) {
    let block = block(case.hits);
    let filter = LineFilter::new(Some(case.pattern), None).expect("a good pattern");
    bencher.counter(ItemsCount::new(block.len() / LINE)).bench_local(|| {
        let mut bytes = 0;
        filter.each_kept(divan::black_box(&block), &mut |run: &[u8]| bytes += run.len());
        bytes
    });
}

#[divan::bench(args = cases())]
fn line_by_line(bencher: Bencher<'_, '_>, case: Case) {
    let block = block(case.hits);
    let pattern = Pattern::new(case.pattern).expect("a good pattern");
    bencher.counter(ItemsCount::new(block.len() / LINE)).bench_local(|| {
        let lines = divan::black_box(&block).split_inclusive(|&b| b == b'\n');
        let kept = lines.filter(|line| pattern.is_match(line.strip_suffix(b"\n").unwrap_or(line)));
        kept.map(<[u8]>::len).sum::<usize>()
    });
}

fn main() {
    divan::main();
}
