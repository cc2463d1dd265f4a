//! A scripted engine with a container, the real program with small buffers, and receivers that can
//! be away: what the tests of policies and of restarts share.

use std::time::{Duration, Instant};

use super::checker::{Account, PADDING, Run, Totals};
use super::engine::{Engine, Stream, inspect};
use super::logchute::{Logchute, Setup};
use super::receivers::StreamSink;
use super::wait_until;

/// The container that is there from the beginning, `web`.
pub(crate) const ID: &str = "3edafbdfe8dbd1349ef2c5ae783545a50a2502d1886b231de6aae0f6d4bf417d";
/// One that a test may add.
pub(crate) const OTHER: &str = "a0ea45656f24a0ea45656f24a0ea45656f24a0ea45656f24a0ea45656f24a0ea";
/// How long anything may take on a slow machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// Bytes of a line, its newline included.
pub(crate) const LINE: usize = 100;

pub(crate) struct Scene {
    /// The daemon.
    pub engine: Engine,
    /// The receivers.
    pub sinks: Vec<StreamSink>,
    /// How the program is started.
    pub setup: Setup,
}

impl Scene {
    /// As many receivers as `options`, which are those of the routes to them. Each route has room
    /// for some 600 lines.
    pub(crate) fn new(io: &str, options: &[&str]) -> Scene {
        let engine = Engine::new();
        engine.add(inspect(ID, "web"), true);
        let sinks: Vec<_> = options.iter().map(|_| StreamSink::tcp()).collect();
        let mut setup = Setup::new(io).engine(Some(&engine.host()));
        setup = setup.env("SHARDS", "1").env("BUFFER", "64KiB").env("DRAIN_TIMEOUT", "20s");
        for (sink, options) in sinks.iter().zip(options) {
            setup = setup.arg(&format!("raw+tcp://{}{options}", sink.address()));
        }
        Scene { engine, sinks, setup }
    }

    /// Starts the program and waits until it follows `web`.
    pub(crate) fn start(&self) -> Logchute {
        let program = self.setup.start();
        assert!(self.engine.wait_followed(&[ID], SOON), "not followed: {}", program.stderr());
        program
    }

    /// Writes lines `from..=to` of a container, every tenth to standard error, in bursts that a
    /// socket takes.
    pub(crate) fn write(&self, id: &str, prefix: &str, from: u64, to: u64) {
        for n in from..=to {
            self.write_line(id, prefix, n);
            if n.is_multiple_of(100) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// Writes lines `1..=count`, so many a second.
    pub(crate) fn write_paced(&self, id: &str, prefix: &str, count: u64, rate: u64) {
        let begun = Instant::now();
        for n in 1..=count {
            let due = begun + Duration::from_secs_f64(n as f64 / rate as f64);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            self.write_line(id, prefix, n);
        }
    }

    /// Writes line `n` of a container.
    pub(crate) fn write_line(&self, id: &str, prefix: &str, n: u64) {
        let stream = if n.is_multiple_of(10) { Stream::Err } else { Stream::Out };
        let mut line = format!("{prefix} {n:08} ").into_bytes();
        line.extend(PADDING.iter().cycle().take(LINE - 1 - line.len()));
        line.push(b'\n');
        self.engine.write(id, stream, &line);
    }

    /// Waits until receiver number `sink` has so many lines.
    pub(crate) fn wait(&self, sink: usize, lines: u64, program: &Logchute) {
        let all = wait_until(SOON, || self.sinks[sink].newlines() as u64 >= lines);
        let has = self.sinks[sink].newlines();
        assert!(all, "receiver {sink} has {has} of {lines}: {}", program.stderr());
    }

    /// What became of the lines `1..=lines` of each container at receiver number `sink`.
    pub(crate) fn totals(&self, sink: usize, containers: &[(&str, u64)]) -> Totals {
        totals(&self.sinks[sink].received().concat(), containers)
    }
}

/// What `received` comes to, of lines `1..=lines` of each container.
pub(crate) fn totals(received: &[u8], containers: &[(&str, u64)]) -> Totals {
    let mut account = Account::default();
    for &(prefix, count) in containers {
        account.expect(prefix, Run { first: 1, count, bytes: LINE, stderr_every: 10 });
    }
    account.take_lines(received);
    account.totals()
}
