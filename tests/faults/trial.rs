//! One policy in the face of one fault: real containers, the program, a real rsyslog, and beside
//! them a container that the program does not follow, whose writes tell what the machine is worth.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::policy::{Door, Keeps, Policy};
use super::row::{Counted, Row};
use crate::support::checker::{Account, Run, Totals};
use crate::support::docker::{Container, Docker};
use crate::support::limits::peak;
use crate::support::logchute::{Logchute, Setup};
use crate::support::pki::Pki;
use crate::support::relay::{Relay, Way};
use crate::support::rig::pattern;
use crate::support::syslogd::{self, Syslogd};
use crate::support::{full, wait_until};

/// How long anything may take that is not measured.
const LONG: Duration = Duration::from_secs(120);
/// How long nothing may move before it counts as standing still.
const STILL: Duration = Duration::from_secs(40);
/// The memory of a route.
const BUFFER: u64 = 1 << 20;
/// How old what a program has noted of its deliveries is at most: a few hundredths of a second, and
/// what a program that is not optimized waits for a processor that it shares; more where all tests
/// share it.
fn lately() -> Duration {
    Duration::from_millis(if full() { 300 } else { 1000 })
}
/// So long after a program's end nothing of what it has sent is on its way any more, if nothing came.
const ARRIVED: Duration = Duration::from_millis(200);
/// How long before a daemon's end what it wrote may not be known to be in its log.
const UNLOGGED: Duration = Duration::from_secs(2);
/// What a daemon holds of a container's output before its log has it: one pipe to each reader, and
/// the container's own.
const PIPE: u64 = (1 << 20) + (128 << 10);
/// The label that tells the containers of a trial from those of others.
const LABEL: &str = "lct-trial";
/// Trials of a process, at most.
const TRIALS: u64 = 99;
/// The label of containers that no trial follows, but another program of the tests.
pub(crate) const OF_NO_TRIAL: &str = "lct-trial=99";

/// What the containers of a trial write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Containers.
    pub talkers: usize,
    /// Lines of each.
    pub lines: u64,
    /// Lines a second; 0 for as many as it can.
    pub rate: u64,
    /// Length of each, newline included.
    pub bytes: usize,
    /// Further options of `docker create`.
    pub options: &'static [&'static str],
}

impl Load {
    /// Steady lines of so many seconds: 3 MB/s, so that a second of a receiver's absence is more
    /// than route, daemon and sockets can hold together.
    pub(crate) fn steady(seconds: u64) -> Load {
        let rate = 3000;
        // The daemon's own default may be to keep little.
        let options = &["--log-opt", "max-size=1g"];
        Load { talkers: 1, lines: rate * seconds, rate, bytes: 1000, options }
    }

    /// What `talker` is told, for the container of `prefix`.
    fn args(&self, prefix: &str) -> Vec<String> {
        let numbers = ["--rate", "--bytes", "--sleep-first"];
        let values = [self.rate, self.bytes as u64, 500];
        let options = numbers.into_iter().zip(values);
        let options = options.flat_map(|(name, value)| [name.to_owned(), value.to_string()]);
        let begin = ["timed".to_owned(), self.lines.to_string()];
        let prefix = ["--prefix".to_owned(), prefix.to_owned()];
        begin.into_iter().chain(prefix).chain(options).collect()
    }
}

/// How long a receiver is away: longer than it takes until containers would be held up.
pub(crate) fn away() -> Duration {
    Duration::from_secs(if full() { 10 } else { 3 })
}

/// What a trial takes place on.
#[derive(Clone, Copy)]
pub(crate) struct Stage<'a> {
    /// The engine.
    pub docker: &'a Docker,
    /// The receiver's certificates.
    pub pki: &'a Pki,
    /// What the containers write.
    pub load: Load,
    /// The way to the receiver, if not the direct one.
    pub way: Option<Way>,
    /// Where the program keeps what is to be kept, if not in a folder with room for it.
    pub disk: Option<&'a Path>,
}

/// A trial that has begun.
pub(crate) struct Trial {
    /// What is tried.
    pub policy: Policy,
    /// Where the lines go.
    pub receiver: Syslogd,
    /// The program.
    pub program: Logchute,
    /// How it is started.
    pub setup: Setup,
    /// What stands between the two, if anything.
    pub relay: Option<Relay>,
    /// Lines that the receiver took with it.
    pub taken: u64,
    /// Lines that may come again and are counted by nobody.
    pub uncounted: u64,
    /// How long the receiver took nothing.
    pub away: Duration,
    /// How often the connection to the receiver ended.
    pub ends: u64,
    /// The daemon ended in the middle: what it lost on the way to its log is beyond reach.
    pub daemon_restarted: bool,
    /// The program ended in the middle: what it counted is gone.
    pub ended: bool,
    _folder: tempfile::TempDir,
    docker: Docker,
    load: Load,
    begun: Instant,
    /// When how many records had come.
    came: VecDeque<(Instant, u64)>,
    names: String,
    talkers: Vec<Container>,
    twin: Container,
    peak_before: u64,
}

/// The number of a trial, from which its names are made.
fn number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    assert!(n < TRIALS);
    n
}

/// Follow the containers of trial `n`, and none of the others: neither waits for the other.
fn follow_only(n: u64) -> String {
    let others = (0..=TRIALS).filter(|&other| other != n).map(|other| format!("{LABEL}:{other};"));
    others.collect::<String>() + &format!("{LABEL}:none")
}

fn address(receiver: &Syslogd, door: Door) -> SocketAddr {
    match door {
        Door::Tcp => receiver.address(syslogd::Door::Tcp),
        Door::Relp => receiver.relp_address(false),
    }
}

impl Trial {
    /// Starts everything and waits until lines come; `None` where rsyslog is not installed.
    pub(crate) fn begin(stage: &Stage<'_>, policy: Policy) -> Option<Trial> {
        let Stage { docker, pki, load, way, disk } = *stage;
        let n = number();
        let receiver = Syslogd::start_relp(pki)?;
        let there = address(&receiver, policy.door);
        let relay = way.map(|way| Relay::to(there, way));
        let address = relay.as_ref().map_or(there, Relay::address);
        let scheme = if policy.door == Door::Tcp { "syslog+tcp" } else { "relp" };
        let names = format!("lct-fault{n}");
        let mut route = format!("{scheme}://{address}?filter.name={}", pattern(&names));
        let mut setup = Setup::new("auto")
            .engine(docker.host().as_deref())
            // One connection carries everything in order.
            .env("SHARDS", "1")
            .env("BUFFER", &BUFFER.to_string())
            .env("EXCLUDE_LABELS", &follow_only(n));
        let folder = tempfile::Builder::new().prefix("lct-fault-").tempdir().unwrap();
        let path = |name: &str| disk.unwrap_or(folder.path()).join(name).display().to_string();
        if policy.keeps != Keeps::Nothing {
            setup = setup.env("STATE_DIR", &path("state"));
        }
        if policy.keeps == Keeps::Lines {
            route = format!("{route}&spool={}", path("spool"));
        }
        let setup = setup.arg(&(route + policy.options));
        let program = setup.start();
        let ours = format!("{LABEL}={n}");
        let options = [&["--label", ours.as_str()], load.options].concat();
        let start = |prefix: &str, options: &[&str]| {
            let args = load.args(prefix);
            docker.start(&names, options, &args.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let none = format!("{LABEL}=none");
        let twin = start("@twin", &[&["--label", none.as_str()], load.options].concat());
        let prefixes = (0..load.talkers).map(|i| format!("@f{n}t{i}"));
        let talkers = prefixes.map(|prefix| start(&prefix, &options)).collect();
        let mut trial = Trial {
            policy,
            receiver,
            program,
            setup,
            relay,
            taken: 0,
            uncounted: 0,
            away: Duration::ZERO,
            ends: 0,
            daemon_restarted: false,
            ended: false,
            _folder: folder,
            docker: docker.clone(),
            load,
            begun: Instant::now(),
            came: VecDeque::from([(Instant::now(), 0)]),
            names: format!("@f{n}t"),
            talkers,
            twin,
            peak_before: 0,
        };
        let came = wait_until(LONG, || trial.receiver.count() > 500);
        assert!(came, "{}: no lines come: {}", policy.name, trial.program.stderr());
        trial.peak_before = peak(trial.program.process.pid());
        Some(trial)
    }

    /// Where the receiver listens.
    pub(crate) fn address(&self) -> SocketAddr {
        address(&self.receiver, self.policy.door)
    }

    /// What the program counts now.
    pub(crate) fn counted(&self) -> Counted {
        Counted::of(&self.program.metrics())
    }

    /// Waits for so long, and takes note of what comes.
    pub(crate) fn watch(&mut self, wait: Duration) {
        let begun = Instant::now();
        loop {
            let now = Instant::now();
            self.came.push_back((now, self.receiver.count() as u64));
            while self.came.get(1).is_some_and(|(at, _)| now - *at > lately()) {
                self.came.pop_front();
            }
            if begun.elapsed() >= wait {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills the program and starts it again; returns at once, or when it answers. What came in the
    /// last moments before that, [`lately`], and what was on its way may come again.
    pub(crate) fn kill_and_start(&mut self, wait: bool) {
        self.ended = true;
        let before = self.came.front().map_or(0, |(_, count)| *count);
        self.program.process.kill();
        let mut came = self.receiver.count();
        loop {
            std::thread::sleep(ARRIVED);
            let earlier = std::mem::replace(&mut came, self.receiver.count());
            if earlier == came {
                break;
            }
        }
        self.uncounted += came as u64 - before;
        let setup = self.setup.clone();
        let setup = if wait { setup } else { setup.no_wait() };
        self.program = setup.start();
    }

    /// To be called while the receiver is down: what it had acknowledged and is not in its file
    /// is beyond the reach of anyone else.
    pub(crate) fn note_taken(&mut self) {
        let mut before = None;
        wait_until(LONG, || {
            let now = Some(self.counted().delivered);
            std::thread::sleep(Duration::from_millis(300));
            now == std::mem::replace(&mut before, now)
        });
        self.taken += before.unwrap_or(0).saturating_sub(self.receiver.count() as u64);
    }

    /// Waits until all is said and done, ends the program, and says what was seen.
    pub(crate) fn finish(mut self) -> Row {
        for container in self.talkers.iter().chain([&self.twin]) {
            let code = container.wait(LONG);
            // One that ended while its daemon was away has no code that anybody knows.
            let unknown = self.daemon_restarted && code == Some(255);
            assert!(unknown || code == Some(0), "{} ends with {code:?}", container.name);
        }
        let begun_for = self.begun.elapsed();
        let mut unlogged = 0;
        if self.daemon_restarted {
            let logs = self.talkers.iter().map(|container| self.docker.logs(&container.id).0);
            unlogged = self.totals(&logs.collect::<Vec<_>>().concat()).lost;
        }
        self.settle(unlogged);
        let counted = (!self.ended).then(|| self.counted());
        if self.daemon_restarted {
            // What attach had brought and the log has not cannot be looked for in it: what was
            // written in the last moments is read again.
            let guesses = self.program.metric("logchute_unsure_seams") as u64;
            let mean = self.load.lines as f64 / begun_for.as_secs_f64();
            let rate = mean.max(self.load.rate as f64);
            let moments = (rate * UNLOGGED.as_secs_f64()) as u64;
            self.uncounted += guesses * (moments + PIPE / self.load.bytes as u64);
        }
        let peak = (self.peak_before, peak(self.program.process.pid()));
        let ended = self.program.stop();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        let all = self.talkers.len() * (self.load.lines as usize + 1);
        self.receiver.wait_for(all, Duration::from_secs(2));
        self.receiver.stop();
        let told = |container: &Container| {
            let line = container.last_line();
            let us = line.split("slowest write ").nth(1).and_then(|l| l.split(' ').next());
            let us = us.and_then(|us| us.parse().ok());
            Duration::from_micros(us.unwrap_or_else(|| panic!("no time in {line:?}")))
        };
        Row {
            policy: self.policy,
            totals: self.totals(&self.receiver.records()),
            counted,
            taken: self.taken,
            unlogged,
            uncounted: self.uncounted,
            slowest: self.talkers.iter().map(told).max().unwrap_or_default(),
            slowest_alone: told(&self.twin),
            ends: self.ends,
            away: self.away,
            peak,
            buffer: BUFFER,
            bytes: self.load.bytes as u64,
            said: ended.stderr,
        }
    }

    /// Waits until nothing moves any more: all is delivered or dropped, or it stands still.
    fn settle(&self, unlogged: u64) {
        let all = self.talkers.len() as u64 * (self.load.lines + 1) - unlogged;
        let (mut last, mut since) = ((0, Counted::default()), Instant::now());
        loop {
            let now = (self.receiver.count(), self.counted());
            if !self.ended && now.1.received >= all && now.1.settled() {
                return;
            }
            if now != last {
                (last, since) = (now, Instant::now());
            }
            if since.elapsed() > STILL
                || (self.ended && self.totals(&self.receiver.records()).lost == 0)
            {
                return;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// What came, against what was written; the line in which a talker tells its time is one.
    fn totals(&self, records: &[u8]) -> Totals {
        let mut account = Account::default();
        for i in 0..self.talkers.len() {
            let run = Run { bytes: self.load.bytes, ..Run::of(self.load.lines) };
            account.expect(&format!("{}{i}", self.names), run);
        }
        let mut told = vec![0u64; self.talkers.len()];
        for record in records.split_inclusive(|&b| b == b'\n') {
            let tells = memchr::memmem::find(record, b" slowest write ").is_some();
            let whose = |i: &usize| {
                let prefix = format!("{}{i} slowest", self.names);
                memchr::memmem::find(record, prefix.as_bytes()).is_some()
            };
            match (0..told.len()).find(|i| tells && whose(i)) {
                Some(i) => told[i] += 1,
                None => account.take(record),
            }
        }
        let mut totals = account.totals();
        totals.expected += told.len() as u64;
        totals.lost += told.iter().filter(|&&times| times == 0).count() as u64;
        totals.duplicated += told.iter().map(|&times| times.max(1) - 1).sum::<u64>();
        totals
    }
}
