//! A real engine, the program and a raw TCP receiver, put together: what most tests begin with.

use std::time::{Duration, Instant};

use super::checker::{Account, Run, Totals};
use super::docker::{Container, Docker};
use super::logchute::{Logchute, Setup};
use super::receivers::StreamSink;
use super::{side_by_side, some_drivers, wait_until};

/// The prefix of the line that shows that the program follows the engine.
const CANARY: &str = "@canary";

/// Containers whose names begin with `prefix` are routed to `sink`, one raw line each.
pub(crate) struct Rig {
    /// The engine.
    pub docker: Docker,
    /// The names of this rig's containers begin so.
    pub prefix: String,
    /// Where lines come out.
    pub sink: StreamSink,
    /// The program.
    pub program: Logchute,
}

impl Rig {
    /// Starts the program with one shard, so that one connection carries everything in order.
    pub(crate) fn start(docker: &Docker, prefix: &str, io: &str, env: &[(&str, &str)]) -> Rig {
        Rig::start_with("raw+tcp", docker, prefix, io, env)
    }

    /// The same, with another adapter and transport.
    pub(crate) fn start_with(
        scheme: &str,
        docker: &Docker,
        prefix: &str,
        io: &str,
        env: &[(&str, &str)],
    ) -> Rig {
        let sink = StreamSink::tcp();
        let route = format!("{scheme}://{}?filter.name={}", sink.address(), pattern(prefix));
        let mut setup = Setup::new(io).engine(docker.host().as_deref()).env("SHARDS", "1");
        for (name, value) in env {
            setup = setup.env(name, value);
        }
        let program = setup.arg(&route).start();
        let rig = Rig { docker: docker.clone(), prefix: prefix.to_owned(), sink, program };
        rig.see_canary();
        rig
    }

    /// Runs a container of one line until the line comes: from then on nothing may be missed.
    fn see_canary(&self) {
        let args = ["lines", "1", "--prefix", CANARY];
        // A log driver that every test lets logchute follow.
        let _canary = self.docker.start(&self.prefix, &["--log-driver", "local"], &args);
        let came = wait_until(Duration::from_secs(20), || self.sink.newlines() > 0);
        assert!(came, "the first line does not come: {}", self.program.stderr());
    }

    /// A container of this rig, started.
    pub(crate) fn run(&self, options: &[&str], args: &[&str]) -> Container {
        self.docker.start(&self.prefix, options, args)
    }

    /// Everything received but the canary, connection after connection.
    pub(crate) fn received(&self) -> Vec<u8> {
        let all = self.sink.received().concat();
        let lines = all.split_inclusive(|&b| b == b'\n');
        lines.filter(|l| !l.starts_with(CANARY.as_bytes())).collect::<Vec<_>>().concat()
    }

    /// Waits until `newlines` have come besides the canary's; whether they did.
    pub(crate) fn wait_for(&self, newlines: usize, limit: Duration) -> bool {
        wait_until(limit, || self.sink.newlines() > newlines)
    }

    /// Waits until what `expected` says has come (or nothing more does for 3 s), ends the program
    /// and takes the account.
    pub(crate) fn account(mut self, expected: &[(String, Run)]) -> Totals {
        let count: u64 = expected.iter().map(|(_, run)| run.count).sum();
        let (mut last, mut since) = (0, Instant::now());
        while !self.wait_for(count as usize, Duration::from_millis(300)) {
            let now = self.sink.total();
            if now > last {
                (last, since) = (now, Instant::now());
            }
            if since.elapsed() > Duration::from_secs(3) {
                break;
            }
        }
        self.end();
        let mut account = Account::default();
        for (prefix, run) in expected {
            account.expect(prefix, *run);
        }
        account.take_lines(&self.received());
        account.totals()
    }

    /// Ends the program by SIGTERM: code 0 and no panic.
    pub(crate) fn end(&mut self) {
        let ended = self.program.stop();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        // What the program wrote last may not have been read yet.
        let mut last = usize::MAX;
        wait_until(Duration::from_secs(5), || {
            let before = std::mem::replace(&mut last, self.sink.total());
            std::thread::sleep(Duration::from_millis(50));
            before == last
        });
    }
}

/// `test` with a real engine, on one driver after the other: the engine has enough to do.
pub(crate) fn on_some_driver(test: impl Fn(&Docker, &str)) {
    let Some(docker) = Docker::of_host() else { return };
    for io in some_drivers() {
        test(&docker, io);
    }
}

/// The `filter.name` that takes the containers that [`Docker::create`] names after `prefix`.
pub(crate) fn pattern(prefix: &str) -> String {
    format!("{prefix}-{}-*", std::process::id())
}

/// Runs `work` for each of `0..count`, a few at a time, and gives the results in order: the docker
/// tool takes its time, mostly waiting.
pub(crate) fn in_parallel<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    side_by_side(8, &(0..count).collect::<Vec<_>>(), |&i| work(i))
}
