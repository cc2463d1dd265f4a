//! One run: engine, receivers and one program for one scenario, and what was seen of them.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::child::{Running, Setup};
use crate::engine::Engine;
use crate::engine::pump::{Pump, Received, Spent};
use crate::forwarder::{Forwarder, Places};
use crate::measure::{CpuClock, peak_memory_mib};
use crate::numbering::Numbering;
use crate::receivers::{Identity, Inbox, Receiver};
use crate::report::{Checked, Counted};
use crate::scenario::{Filter, Pace, Receiver as Kind, Scenario};

/// How long a program may take until it follows every container.
const READY: Duration = Duration::from_secs(20);
/// How long to wait for lines that are on their way after nothing came any more: a slow program
/// may have megabytes before it in which its filter finds nothing.
const PATIENCE: Duration = Duration::from_secs(5);
/// Below this part of lines the receivers' progress says nothing about the forwarder's.
const PART_LEAST: f64 = 0.001;

/// What one run showed.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Wall time between the two looks, in seconds.
    pub seconds: f64,
    /// Lines sent in that time.
    pub lines: u64,
    /// Bytes of these lines.
    pub bytes: u64,
    /// CPU seconds of the program in that time.
    pub cpu: f64,
    /// Peak of resident memory, in MiB.
    pub memory: f64,
    /// CPU seconds of the engine's thread for each line, over the whole run.
    pub source_cpu_per_line: f64,
    /// At fixed rates: how long lines took, and how late they were written; nanoseconds.
    pub latency: Option<(Histogram<u64>, Histogram<u64>)>,
    /// What receivers that check lines saw.
    pub checked: Option<Checked>,
    /// Bytes that came, and lines.
    pub came: (u64, u64),
    /// Requests at webhooks.
    pub requests: u64,
    /// Records that were no records.
    pub malformed: u64,
    /// Times that nothing came for long.
    pub stalls: u64,
    /// What logchute counted.
    pub counted: Option<Counted>,
}

/// Why there is no sample.
#[derive(Debug)]
pub enum Failure {
    /// The program does not know an adapter that the scenario needs.
    Unknown(String),
    /// Anything else.
    Broken(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Unknown(why) => write!(f, "this logchute cannot do it: {why}"),
            Failure::Broken(why) => f.write_str(why),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Broken(error.to_string())
    }
}

/// Plays a scenario once with one program.
///
/// # Errors
/// If anything cannot be started, or the program ends too early.
pub fn play(
    scenario: &Scenario,
    forwarder: &Forwarder,
    logchute: &Path,
    identity: &Identity,
) -> Result<Sample, Failure> {
    let source = &scenario.source;
    let pump = Pump::new(source);
    let engine = Engine::start(source.containers, source.door, Arc::clone(&pump))?;
    let receivers = receivers(scenario, forwarder, &pump, identity)?;
    identity.write(&engine.folder().join("ca.pem"))?;
    let addresses: Vec<SocketAddr> = receivers.iter().map(|r| r.address).collect();
    let places = Places {
        docker: engine.url(),
        docker_tcp: engine.tcp_url(),
        tcp: addresses[0].to_string(),
    };
    let setup = Setup {
        logchute,
        socket: &engine.socket(),
        places: &places,
        receivers: &addresses,
        folder: engine.folder(),
    };
    let mut program = Running::start(forwarder, scenario, &setup)?;
    wait_until_ready(&mut program, &pump, usize::from(source.containers))?;
    let inboxes: Vec<Arc<Inbox>> = receivers.iter().map(|r| Arc::clone(&r.inbox)).collect();
    let received = received(scenario, forwarder, &pump, inboxes.clone());
    let writer = {
        let pump = Arc::clone(&pump);
        std::thread::spawn(move || pump.run(&*received))
    };
    let looks = look_twice(scenario, &pump, &program, &inboxes);
    pump.stop();
    let spent =
        writer.join().map_err(|_| Failure::Broken("the engine's thread ended".into()))??;
    let (before, after) = looks.map_err(|error| died(&mut program, &error))?;
    wait_for_the_rest(scenario, &pump, &receivers);
    if *forwarder == Forwarder::Relay && inboxes[0].bytes() != pump.wire_bytes() {
        let (sent, came) = (pump.wire_bytes(), inboxes[0].bytes());
        return Err(Failure::Broken(format!("of {sent} bytes {came} came: no floor")));
    }
    let memory = peak_memory_mib(program.pid()).map_err(|error| died(&mut program, &error))?;
    let counted = program.counted();
    program.end();
    if let Some(account) = program.unaccounted() {
        return Err(Failure::Broken(format!("lines are in none of logchute's counts: {account}")));
    }
    Ok(sample(scenario, (&before, &after), (spent, memory, counted), &pump, &inboxes))
}

/// For each route the receiver at its end; one for programs that know only one.
fn receivers(
    scenario: &Scenario,
    forwarder: &Forwarder,
    pump: &Arc<Pump>,
    identity: &Identity,
) -> io::Result<Vec<Receiver>> {
    let source = &scenario.source;
    let lines = |filter| Inbox::of_lines(pump, source.containers, source.hits, filter);
    match forwarder {
        Forwarder::Relay => {
            // Its reads cut lines where it is behind, and lines of several containers share the
            // connection; at a fixed rate it is not, and its latency is the floor.
            let inbox = match source.pace {
                Pace::Rate(_) => lines(Filter::None)?,
                Pace::Saturated | Pace::Silent => Inbox::of_bytes(),
            };
            Ok(vec![Receiver::start(Kind::Tcp, inbox, identity)?])
        }
        Forwarder::Other(_) => {
            Ok(vec![Receiver::start(Kind::Tcp, lines(Filter::None)?, identity)?])
        }
        Forwarder::Logchute(_) => {
            let routes = scenario.forward.routes.iter();
            routes
                .map(|r| Receiver::start(r.receiver, inbox(r.receiver, lines(r.filter)?), identity))
                .collect()
        }
    }
}

/// At a webhook lines are folded and summed up: they are not to be checked one by one.
fn inbox(kind: Kind, of_lines: Arc<Inbox>) -> Arc<Inbox> {
    if matches!(kind, Kind::Slack | Kind::Dead) { Inbox::of_bytes() } else { of_lines }
}

fn wait_until_ready(program: &mut Running, pump: &Pump, containers: usize) -> Result<(), Failure> {
    let until = Instant::now() + READY;
    while pump.opened() < containers {
        if let Some(status) = program.ended() {
            let words = program.last_words();
            return Err(match words.contains("bad adapter") {
                true => Failure::Unknown(words),
                false => Failure::Broken(format!("ended at start with {status}: {words}")),
            });
        }
        if Instant::now() >= until {
            let (opened, words) = (pump.opened(), program.last_words());
            let seconds = READY.as_secs();
            return Err(Failure::Broken(format!(
                "follows {opened} of {containers} containers after {seconds} s: {words}"
            )));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn died(program: &mut Running, error: &io::Error) -> Failure {
    let (ended, words) = (program.ended(), program.last_words());
    Failure::Broken(format!("ended while it ran ({ended:?}): {error}: {words}"))
}

/// How many of the lines sent have been received, judged from what receivers count.
fn received(
    scenario: &Scenario,
    forwarder: &Forwarder,
    pump: &Arc<Pump>,
    inboxes: Vec<Arc<Inbox>>,
) -> Box<Received> {
    if *forwarder == Forwarder::Relay {
        let pump = Arc::clone(pump);
        return Box::new(move || {
            let (sent, wire) = (pump.sent_lines(), pump.wire_bytes().max(1));
            let came: u64 = inboxes.iter().map(|inbox| inbox.bytes()).sum();
            (came as f64 * (sent as f64 / wire as f64)) as u64
        });
    }
    let numbering = Numbering::new(scenario.source.hits);
    let parts = scenario.forward.routes.iter().filter(|route| is_checked(route.receiver));
    let part: f64 = match forwarder {
        Forwarder::Other(_) => 1.0,
        _ => parts.map(|route| numbering.part(route.filter)).sum(),
    };
    if part < PART_LEAST {
        return Box::new(|| u64::MAX / 2);
    }
    Box::new(move || {
        let came: u64 = inboxes.iter().map(|inbox| inbox.lines()).sum();
        (came as f64 / part) as u64
    })
}

fn is_checked(kind: Kind) -> bool {
    !matches!(kind, Kind::Slack | Kind::Dead)
}

/// Everything that grows, at one moment.
struct Look {
    at: Instant,
    cpu: Duration,
    lines: u64,
    bytes: u64,
}

/// Warms up for a quarter of the time, and measures the rest.
fn look_twice(
    scenario: &Scenario,
    pump: &Pump,
    program: &Running,
    inboxes: &[Arc<Inbox>],
) -> io::Result<(Look, Look)> {
    let clock = CpuClock::of(program.pid())?;
    let look = || -> io::Result<Look> {
        let (lines, bytes) = (pump.sent_lines(), pump.sent_bytes());
        Ok(Look { at: Instant::now(), cpu: clock.now()?, lines, bytes })
    };
    std::thread::sleep(scenario.time / 4);
    inboxes.iter().for_each(|inbox| inbox.start_clock());
    let before = look()?;
    std::thread::sleep(scenario.time);
    Ok((before, look()?))
}

/// Until every line has come that should, or nothing comes any more.
fn wait_for_the_rest(scenario: &Scenario, pump: &Pump, receivers: &[Receiver]) {
    let sent = pump.sent();
    let complete = |receiver: &Receiver| {
        let checked = receiver.inbox.checked(scenario.source.hits, &sent);
        let bytes = || receiver.inbox.bytes() == pump.wire_bytes();
        match receiver.kind {
            Kind::Dead => true,
            // What is held back there to be summed up is not waited for.
            Kind::Slack => receiver.inbox.messages() > 0,
            _ => checked.map_or_else(bytes, |checked| checked.lost == 0),
        }
    };
    let came = || receivers.iter().map(|receiver| receiver.inbox.bytes()).sum::<u64>();
    let (mut last, mut since) = (came(), Instant::now());
    while since.elapsed() < PATIENCE && !receivers.iter().all(complete) {
        std::thread::sleep(Duration::from_millis(5));
        let now = came();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
}

fn sample(
    scenario: &Scenario,
    (before, after): (&Look, &Look),
    (spent, memory, counted): (Spent, f64, Option<Counted>),
    pump: &Pump,
    inboxes: &[Arc<Inbox>],
) -> Sample {
    let hits = scenario.source.hits;
    let sent = pump.sent();
    let checked: Vec<Checked> =
        inboxes.iter().filter_map(|inbox| inbox.checked(hits, &sent)).collect();
    let latencies = inboxes.iter().find_map(|inbox| inbox.latency());
    let is_timed = matches!(scenario.source.pace, Pace::Rate(_));
    Sample {
        seconds: after.at.duration_since(before.at).as_secs_f64(),
        lines: after.lines - before.lines,
        bytes: after.bytes - before.bytes,
        cpu: (after.cpu - before.cpu).as_secs_f64(),
        memory,
        source_cpu_per_line: spent.cpu / pump.sent_lines().max(1) as f64,
        latency: latencies.filter(|_| is_timed).map(|latency| (latency, spent.late)),
        checked: checked.into_iter().reduce(Checked::plus),
        came: (
            inboxes.iter().map(|inbox| inbox.bytes()).sum(),
            inboxes.iter().map(|inbox| inbox.lines()).sum(),
        ),
        requests: inboxes.iter().map(|inbox| inbox.messages()).sum(),
        malformed: inboxes.iter().map(|inbox| inbox.malformed()).sum(),
        stalls: pump.stalls(),
        counted,
    }
}
