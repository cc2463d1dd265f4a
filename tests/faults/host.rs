//! Faults of the host rather than of a receiver: descriptors, memory, and an engine whose containers
//! come and go. What a route's policy is hardly matters here: what is looked at is the program.

use std::time::{Duration, Instant};

use super::trial::OF_NO_TRIAL;
use crate::support::checker::Run;
use crate::support::docker::{Docker, SecondDaemon};
use crate::support::limits::{
    MemoryGroup, descriptors_allowed, limit_descriptors, open_descriptors, peak, processor_time,
};
use crate::support::logchute::Setup;
use crate::support::receivers::{StreamSink, free_port};
use crate::support::rig::{Rig, pattern};
use crate::support::{full, say, side_by_side, wait_until};

const LONG: Duration = Duration::from_secs(60);

/// Many containers that are created, write, and are removed, on an engine of our own: all events of
/// it are theirs, and in the end nothing may be left of them.
#[test]
fn containers_are_created_and_removed_in_numbers() {
    let Some(second) = SecondDaemon::start(false) else { return };
    let (count, at_once) = if full() { (1000, 12) } else { (40, 6) };
    let rig = Rig::start(&second.docker, "lct-churn", "auto", &[]);
    let pid = rig.program.process.pid();
    let rest = || rig.program.metric("logchute_containers");
    assert!(wait_until(LONG, || rest() == 0.0), "the first one stays: {}", rig.program.metrics());
    let (descriptors, memory) = (open_descriptors(pid), peak(pid));
    let numbers: Vec<usize> = (0..count).collect();
    let begun = Instant::now();
    let image = second.docker.image();
    side_by_side(at_once, &numbers, |&n| live_once(&second.docker, image.name(), n));
    let took = begun.elapsed();
    let gone = wait_until(LONG, || rest() == 0.0 && open_descriptors(pid) <= descriptors);
    let (left, now) = (rest(), open_descriptors(pid));
    let grown = peak(pid) - memory;
    let expected: Vec<_> = numbers.iter().map(|n| (format!("@churn{n}"), Run::of(20))).collect();
    let said = rig.program.stderr();
    let guesses = rig.program.metric("logchute_unsure_seams");
    let totals = rig.account(&expected);
    say(&format!(
        "{guesses} guesses. {count} containers created and removed in {took:?}: {totals}; {left} followed and {now} \
         descriptors in the end, {descriptors} before; {} KiB more of memory",
        grown / 1024
    ));
    assert!(totals.perfect(), "{totals}: {said}");
    assert!(gone, "{left} are followed, {now} descriptors of {descriptors}");
    assert!(grown < 16 << 20, "{grown} bytes of memory for containers that are gone");
}

/// A container from its creation to its removal.
fn live_once(docker: &Docker, image: &str, n: usize) {
    let pid = std::process::id();
    let label = crate::support::docker::LABEL;
    let body = format!(
        r#"{{"Image": "{image}", "Labels": {{"{label}": "{pid}"}},
            "Cmd": ["lines", "20", "--prefix", "@churn{n}", "--sleep-last", "500"], "HostConfig": {{"NetworkMode": "none"}}}}"#
    );
    let made = docker.api(&format!("POST /containers/create?name=lct-churn-{pid}-c{n}"), &body);
    let id = made.split('"').nth(3).unwrap_or_else(|| panic!("no id: {made}"));
    docker.api(&format!("POST /containers/{id}/start"), "");
    docker.api(&format!("POST /containers/{id}/wait"), "");
    docker.api(&format!("DELETE /containers/{id}"), "");
}

/// No descriptor is left for the containers that come: it is said, nothing spins, and when there is
/// room again the containers are followed, with what they have written in between.
#[test]
fn the_limit_of_open_files_is_reached() {
    let Some(second) = SecondDaemon::start(false) else { return };
    let rig = Rig::start(&second.docker, "lct-files", "auto", &[]);
    let pid = rig.program.process.pid();
    let allowed = descriptors_allowed(pid);
    limit_descriptors(pid, open_descriptors(pid) + 3);
    let lines = if full() { 2000 } else { 600 };
    let args = |i: usize| {
        let text = format!("lines {lines} --delay-us 10000 --prefix @files{i}");
        text.split(' ').map(str::to_owned).collect::<Vec<_>>()
    };
    let numbers: Vec<usize> = (0..10).collect();
    let containers = side_by_side(5, &numbers, |&i| {
        rig.run(&[], &args(i).iter().map(String::as_str).collect::<Vec<_>>())
    });
    let why = "limit of open files";
    let said = wait_until(Duration::from_secs(20), || rig.program.stderr().contains(why));
    assert!(said, "it does not say why: {}", rig.program.stderr());
    // A client that cannot be let in either is no reason to spin.
    let _clients = [(); 3].map(|()| std::net::TcpStream::connect(rig.program.http()));
    let (before, begun) = (processor_time(pid), Instant::now());
    std::thread::sleep(Duration::from_secs(2));
    let (used, took) = (processor_time(pid) - before, begun.elapsed());
    let messages = rig.program.stderr().matches(why).count();
    assert!(used < took / 4, "{used:?} of processor time in {took:?}");
    assert!(messages < 200, "it says so {messages} times");
    limit_descriptors(pid, allowed);
    for container in &containers {
        assert_eq!(container.wait(LONG), Some(0));
    }
    rig.wait_for(lines * containers.len(), Duration::from_secs(40));
    let run = |i: &usize| (format!("@files{i}"), Run::of(lines as u64));
    let runs: Vec<_> = numbers.iter().map(run).collect();
    let said = rig.program.stderr();
    let totals = rig.account(&runs);
    say(&format!(
        "no descriptors left: {totals}; said {messages} times, {used:?} of processor time in {took:?}"
    ));
    assert!(totals.perfect(), "{totals}: {said}");
}

/// Every receiver is away, the containers write as fast as they can, and the program may have no
/// more than 64 MiB: it lives within them, no container waits for it, and the counts hold.
#[test]
fn everything_is_down_in_64_mib() {
    const LIMIT: u64 = 64 << 20;
    /// Containers beside each other, of which one is not followed.
    const TALKERS: [&str; 3] = ["@mem0", "@mem1", "@alone"];
    let Some(docker) = Docker::of_host() else { return };
    let group = MemoryGroup::of(LIMIT);
    let lines = if full() { 300_000 } else { 100_000 };
    let mut late = StreamSink::tcp();
    let away = late.address();
    late.down();
    let mut setup =
        Setup::new("auto").engine(None).env("BUFFER", "2MiB").env("DRAIN_TIMEOUT", "3s");
    if let Some(group) = &group {
        setup = setup.group(group.folder());
    }
    let filter = format!("filter.name={}", pattern("lct-memory"));
    let closed = || format!("127.0.0.1:{}", free_port());
    let deaf = StreamSink::never_reads();
    for route in [
        format!("raw+tcp://{away}"),
        format!("syslog+tcp://{}", closed()),
        format!("syslog+tls://{}", closed()),
        format!("relp://{}", closed()),
        format!("syslog+tcp://{}", deaf.address()),
        format!("webhook+http://{}/x", closed()),
    ] {
        setup = setup.arg(&format!("{route}?{filter}"));
    }
    let mut program = setup.env("EXCLUDE_LABELS", "lct-trial:none").start();
    let pid = program.process.pid();
    let slowest = side_by_side(3, &TALKERS, |prefix| {
        let label = if *prefix == "@alone" { "lct-trial=none" } else { OF_NO_TRIAL };
        let small = ["--log-opt", "max-size=4m", "--log-opt", "max-file=200"];
        let options = [&["--label", label], &small[..]].concat();
        let lines = lines.to_string();
        let args = ["timed", &lines, "--bytes", "200", "--prefix", prefix, "--sleep-first", "500"];
        let container = docker.start("lct-memory", &options, &args);
        assert_eq!(container.wait(3 * LONG), Some(0), "{prefix} does not end");
        let told = container.last_line();
        let us = told.split_whitespace().nth(3).and_then(|us| us.parse().ok());
        let slowest = Duration::from_micros(us.unwrap_or_else(|| panic!("no time in {told:?}")));
        (container, slowest)
    });
    // The containers are there still: their logs have what no route had room for.
    let (containers, slowest): (Vec<_>, Vec<_>) = slowest.into_iter().unzip();
    late.up();
    let all = 2 * lines as usize;
    let came = wait_until(3 * LONG, || late.newlines() >= all || program.process.ended().is_some());
    let alive = program.process.ended().is_none();
    let (most, resident) = (group.as_ref().and_then(MemoryGroup::peak), peak(pid));
    say(&format!(
        "everything down in 64 MiB: {} lines of 200 bytes, longest write {:?} and {:?}, {:?} of a \
         container that is not followed; peak {} KiB resident, {} KiB with page cache",
        2 * lines,
        slowest[0],
        slowest[1],
        slowest[2],
        resident / 1024,
        most.map_or("?".to_owned(), |most| (most / 1024).to_string()),
    ));
    let killed = "the kernel killed it, for memory";
    assert!(alive, "{killed}: {most:?}: {}", program.stderr());
    assert!(came, "{} lines: {}", late.newlines(), program.stderr());
    // Of a group it is the kernel that sees to it.
    assert!(group.is_some() || resident < LIMIT, "{resident} bytes");
    let limit = slowest[2] + Duration::from_secs(2);
    assert!(slowest[..2].iter().all(|&slowest| slowest < limit), "{slowest:?}");
    drop(containers);
    let ended = program.stop();
    assert!(ended.code.is_some() && !ended.stderr.contains("panicked"), "{ended:?}");
}
