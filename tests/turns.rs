//! One container that floods beside many that say little, all on one shard: the others are not
//! slowed down by more than a fair share. A scripted engine, the real program, real sockets.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

mod support;

use support::engine::{Engine, Stream, frame, inspect};
use support::logchute::Setup;
use support::{drivers, say};

const FLOOD: &str = "f100d000d8dbd1349ef2c5ae783545a50a2502d1886b231de6aae0f6d4bf417d";
const QUIET: usize = 20;
/// Between two lines of the quiet containers together: a hundred lines a second of each.
const EVERY: Duration = Duration::from_micros(10_000 / QUIET as u64);
const LINES: usize = 4000;
/// How much of the flood may be read while a line of another waits, in the median: a turn or two,
/// and what the kernel holds meanwhile. Time would tell more of the machine than of the program.
const PASSED_MOST: u64 = 4 * 1024 * 1024;

fn quiet_id(number: usize) -> String {
    format!("{:064x}", number + 1)
}

/// How long a line was on its way, and how many bytes of the flood were taken meanwhile.
type Delay = (Duration, u64);

/// What a line says: when it was written and how far the flood was.
struct Clock {
    base: Instant,
    flooded: AtomicU64,
}

impl Clock {
    fn line(&self) -> String {
        format!("{} {}\n", self.base.elapsed().as_nanos(), self.flooded.load(Relaxed))
    }

    fn read(&self, line: &str) -> Delay {
        let (nanos, flooded) = line.trim().split_once(' ').unwrap();
        let written = Duration::from_nanos(nanos.parse().unwrap());
        let passed = self.flooded.load(Relaxed) - flooded.parse::<u64>().unwrap();
        (self.base.elapsed().saturating_sub(written), passed)
    }
}

/// A receiver that notes how long each line was on its way.
fn receiver(clock: &Arc<Clock>) -> (u16, Receiver<Delay>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, delays) = channel();
    let clock = Arc::clone(clock);
    std::thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        for line in BufReader::new(socket).lines() {
            if sender.send(clock.read(&line.unwrap())).is_err() {
                return;
            }
        }
    });
    (port, delays)
}

/// A receiver that takes everything.
fn drain() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let _ = std::io::copy(&mut socket, &mut std::io::sink());
    });
    port
}

/// Writes [`LINES`] lines to the quiet containers in turn; returns the delays, each sorted.
fn delays(
    quiet: &mut [UnixStream],
    clock: &Clock,
    arrived: &Receiver<Delay>,
) -> (Vec<Duration>, Vec<u64>) {
    let began = Instant::now();
    for number in 0..LINES {
        let due = EVERY * u32::try_from(number).unwrap();
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        let frame = frame(Stream::Out, clock.line().as_bytes());
        quiet[number % QUIET].write_all(&frame).unwrap();
    }
    let next = |_| arrived.recv_timeout(Duration::from_secs(20)).expect("every line arrives");
    let (mut times, mut passed): (Vec<Duration>, Vec<u64>) = (0..LINES).map(next).unzip();
    times.sort();
    passed.sort();
    (times, passed)
}

fn percentile<T: Copy>(sorted: &[T], percent: usize) -> T {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

fn beside_a_flood(io: &str) {
    let engine = Engine::new();
    engine.add(inspect(FLOOD, "flood"), true);
    (0..QUIET).for_each(|n| engine.add(inspect(&quiet_id(n), &format!("quiet-{n}")), true));
    let clock = Arc::new(Clock { base: Instant::now(), flooded: AtomicU64::new(0) });
    let (port, arrived) = receiver(&clock);
    let program = Setup::new(io)
        .engine(Some(&engine.host()))
        .env("SHARDS", "1")
        .arg(&format!("raw+tcp://127.0.0.1:{port}?filter.name=quiet-*"))
        .arg(&format!("syslog+tcp://127.0.0.1:{}?filter.name=flood", drain()))
        .start();
    let ids: Vec<String> = (0..QUIET).map(quiet_id).chain([FLOOD.to_owned()]).collect();
    let all: Vec<&str> = ids.iter().map(String::as_str).collect();
    assert!(engine.wait_followed(&all, Duration::from_secs(20)), "{}", program.stderr());
    let mut sockets: Vec<UnixStream> =
        ids.iter().map(|id| engine.attached_sockets(id).remove(0)).collect();
    let mut flood = sockets.pop().unwrap();

    let (alone, _) = delays(&mut sockets, &clock, &arrived);
    let over = AtomicBool::new(false);
    let (beside, passed) = std::thread::scope(|scope| {
        scope.spawn(|| {
            let lines = format!("{}\n", "x".repeat(116)).repeat(500);
            let frames = frame(Stream::Out, lines.as_bytes());
            while !over.load(Relaxed) {
                flood.write_all(&frames).unwrap();
                clock.flooded.fetch_add(frames.len() as u64, Relaxed);
            }
        });
        let beside = delays(&mut sockets, &clock, &arrived);
        over.store(true, Relaxed);
        beside
    });
    let [p50, p99] = [50, 99].map(|percent| percentile(&beside, percent));
    let [passed, flooded] = [percentile(&passed, 50), clock.flooded.load(Relaxed)];
    say(&format!(
        "{io}: p50 {:?} p99 {:?}; beside a flood of {} MB p50 {p50:?} p99 {p99:?}, {passed} bytes \
         of it meanwhile",
        percentile(&alone, 50),
        percentile(&alone, 99),
        flooded / 1_000_000,
    ));
    assert!(flooded > 2 * PASSED_MOST, "no flood: {flooded} bytes");
    assert!(passed < PASSED_MOST, "{io}: {passed} bytes of a flood came first");
}

#[test]
fn a_flood_does_not_slow_the_others_on_its_shard() {
    drivers().into_iter().for_each(beside_a_flood);
}
