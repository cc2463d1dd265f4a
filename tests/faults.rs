//! What holds when things go wrong: each fault against each policy, with a real engine and a real
//! rsyslog. `docs/RELIABILITY.md` has the table, which `LOGCHUTE_TEST_FULL=1` prints.
//!
//! Reduced sizes; `LOGCHUTE_TEST_FULL=1` runs the full ones.

mod faults {
    mod host;
    pub(crate) mod policy;
    pub(crate) mod row;
    pub(crate) mod trial;
}
mod support;

use std::time::{Duration, Instant, SystemTime};

use faults::policy::{
    BLOCK, BLOCK_RELP, BLOCK_STATE, BLOCK_STATE_RELP, DROP_NEWEST, DROP_NEWEST_RELP, DROP_OLDEST,
    Policy, SPOOL, SPOOL_RELP,
};
use faults::row::judge;
use faults::trial::{Load, Stage, Trial, away};
use support::docker::{Docker, SecondDaemon};
use support::limits::SmallDisk;
use support::pki::Pki;
use support::relay::Way;
use support::{full, say, side_by_side, skipped, sockets, wait_until};

/// How long anything may take that is not measured.
const LONG: Duration = Duration::from_secs(60);

/// How often a connection is cut.
fn cuts() -> u32 {
    if full() { 50 } else { 5 }
}

/// How many policies meet a fault at the same time.
const AT_ONCE: usize = 3;

/// The policies that meet the faults.
fn policies() -> &'static [Policy] {
    const ALL: [Policy; 7] =
        [BLOCK, BLOCK_RELP, DROP_OLDEST, DROP_NEWEST, DROP_NEWEST_RELP, SPOOL, SPOOL_RELP];
    // Short of time, those that differ most.
    if full() { &ALL } else { &ALL[..3] }
}

/// Those that go on after the program's own end.
fn keeping() -> &'static [Policy] {
    const ALL: [Policy; 4] = [BLOCK_STATE, BLOCK_STATE_RELP, SPOOL, SPOOL_RELP];
    if full() { &ALL } else { &ALL[..2] }
}

/// Lets `fault` happen to each of the policies, and judges what became of the lines.
fn try_each(name: &str, way: Option<Way>, fault: impl Fn(&mut Trial) + Sync) {
    let Some(docker) = Docker::of_host() else { return };
    let pki = Pki::new();
    // Before the fault, as long as it lasts, and after it.
    let load = Load::steady(away().as_secs() + if full() { 10 } else { 3 });
    let stage = Stage { docker: &docker, pki: &pki, load, way, disk: None };
    let rows = side_by_side(AT_ONCE, policies(), |&policy| {
        let mut trial = Trial::begin(&stage, policy)?;
        fault(&mut trial);
        Some(trial.finish())
    });
    judge(name, rows);
}

/// Does without the receiver for a while, however that is done.
fn without(trial: &mut Trial, end: impl FnOnce(&mut Trial), begin: impl FnOnce(&mut Trial)) {
    let since = Instant::now();
    end(trial);
    std::thread::sleep(away().saturating_sub(since.elapsed()));
    begin(trial);
    trial.away += since.elapsed();
}

/// At full size alone: at a small one `receivers_syslog` has the same.
#[test]
fn rsyslog_is_stopped_and_started() {
    if !full() {
        return;
    }
    try_each("rsyslog stopped and started", None, |trial| {
        let end = |trial: &mut Trial| {
            trial.receiver.stop();
            trial.note_taken();
            trial.ends += 1;
        };
        without(trial, end, |trial| trial.receiver.launch());
    });
}

#[test]
fn rsyslog_is_killed_and_started() {
    try_each("rsyslog killed and started", None, |trial| {
        let end = |trial: &mut Trial| {
            trial.receiver.kill();
            trial.note_taken();
            trial.ends += 1;
        };
        without(trial, end, |trial| trial.receiver.launch());
    });
}

/// At full size alone, as before.
#[test]
fn rsyslog_stands_still_and_goes_on() {
    if !full() {
        return;
    }
    try_each("rsyslog frozen and thawed", None, |trial| {
        without(trial, |trial| trial.receiver.freeze(), |trial| trial.receiver.thaw());
    });
}

/// By the kernel, or where it cannot, by a relay on the way.
#[test]
fn connections_are_cut() {
    let direct = Way { delay: Duration::ZERO, stall_every: 0, stall: Duration::ZERO };
    let way = (!sockets::can_be_ended()).then_some(direct);
    try_each("connections cut", way, |trial| {
        for _ in 0..cuts() {
            std::thread::sleep(away() / cuts());
            // There may be no connection for the moment.
            match &trial.relay {
                Some(relay) => relay.cut(),
                None => drop(sockets::end_those_to(trial.address())),
            }
        }
        let reconnects = trial.program.metric("logchute_reconnects") as u64;
        assert!(reconnects > 0, "nothing was cut: {}", trial.program.stderr());
        trial.ends += reconnects;
    });
}

/// A slow way, on which one piece in a hundred takes as long as one that was lost and sent again.
/// At full size alone, for want of time.
#[test]
fn the_way_to_rsyslog_is_slow() {
    if !full() {
        return;
    }
    let way = Way {
        delay: Duration::from_millis(50),
        stall_every: 100,
        stall: Duration::from_millis(200),
    };
    try_each("a way of 50 ms, 1 % lost", Some(way), |trial| {
        std::thread::sleep(away());
        trial.away += away();
    });
}

/// The daemon is stopped and killed, and comes back, while containers that live on write as fast as
/// they can into logs that rotate.
#[test]
fn the_engine_restarts() {
    let Some(mut second) = SecondDaemon::start(true) else { return };
    let pki = Pki::new();
    let options = &["--log-opt", "max-size=1m", "--log-opt", "max-file=1000"];
    let (lines, rate) = if full() { (400_000, 0) } else { (120_000, 20_000) };
    let load = Load { talkers: 1, lines, rate, bytes: 200, options };
    let engine = second.docker.clone();
    let stage = Stage { docker: &engine, pki: &pki, load, way: None, disk: None };
    let trials = side_by_side(4, policies(), |&policy| Trial::begin(&stage, policy));
    let mut trials: Vec<Trial> = trials.into_iter().flatten().collect();
    let since = Instant::now();
    second.stop();
    second.launch();
    std::thread::sleep(Duration::from_secs(1));
    second.kill();
    second.launch();
    let away = since.elapsed();
    for trial in &mut trials {
        trial.away = away;
        trial.ends += 2;
        trial.daemon_restarted = true;
    }
    let rows = trials.into_iter().map(|trial| Some(trial.finish())).collect();
    judge("engine stopped and killed, full speed, rotating logs", rows);
}

/// Killed (SIGKILL) at random moments, also while it starts: what is kept on disk is where it goes on.
#[test]
fn logchute_is_killed_at_random_moments() {
    let Some(docker) = Docker::of_host() else { return };
    let pki = Pki::new();
    let (kills, longest) = if full() { (50u64, 2000) } else { (3, 1200) };
    let seed = seed();
    let seconds = kills * longest / 2000 + 4;
    let stage =
        Stage { docker: &docker, pki: &pki, load: Load::steady(seconds), way: None, disk: None };
    let rows = side_by_side(AT_ONCE, keeping(), |&policy| {
        let mut random = seed;
        let mut trial = Trial::begin(&stage, policy)?;
        for left in (0..kills).rev() {
            let alive = Duration::from_millis(below(&mut random, longest));
            trial.watch(alive);
            trial.kill_and_start(left == 0);
        }
        trial.ends += kills;
        Some(trial.finish())
    });
    say(&format!("logchute killed {kills} times, LOGCHUTE_TEST_SEED={seed}"));
    judge("logchute killed", rows);
}

/// The disk of `STATE_DIR` is full for a while: it is said, lines go on, and once there is room the
/// places are kept again.
#[test]
fn the_disk_of_the_places_is_full() {
    let Some(docker) = Docker::of_host() else { return };
    let Some(disk) = SmallDisk::of(1 << 20) else { return skipped("the right to mount a tmpfs") };
    let pki = Pki::new();
    let (load, disk_at) = (Load::steady(away().as_secs() + 5), Some(disk.path()));
    let stage = Stage { docker: &docker, pki: &pki, load, way: None, disk: disk_at };
    let Some(mut trial) = Trial::begin(&stage, BLOCK_STATE) else { return };
    let filler = disk.path().join("filler");
    let full = std::fs::write(&filler, vec![0; 2 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull, "{full}");
    let why = "cannot write";
    let said = wait_until(LONG, || trial.program.stderr().contains(why));
    assert!(said, "it does not say so: {}", trial.program.stderr());
    std::thread::sleep(away());
    assert_eq!(trial.program.stderr().matches(why).count(), 1, "{}", trial.program.stderr());
    std::fs::remove_file(&filler).unwrap();
    trial.watch(Duration::from_secs(3));
    trial.kill_and_start(true);
    judge("disk of STATE_DIR full, then killed", vec![Some(trial.finish())]);
}

/// What the random moments follow from: printed, and taken from the environment.
fn seed() -> u64 {
    let given = std::env::var("LOGCHUTE_TEST_SEED").ok();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    given.map_or(now.as_nanos() as u64, |seed| seed.parse().expect("LOGCHUTE_TEST_SEED"))
}

/// The next random number below `limit` (an LCG's upper bits, which is enough for a moment).
fn below(state: &mut u64, limit: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % limit
}
