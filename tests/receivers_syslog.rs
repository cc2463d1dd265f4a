//! Real rsyslog and syslog-ng as receivers, over every door of theirs; stopped, frozen and
//! started again in the middle. Lines come from a scripted engine: what is tested is delivery.

use std::time::{Duration, Instant};

mod support;

use support::checker::{Account, Run, Totals};
use support::docker::Docker;
use support::engine::{Engine, Stream, inspect};
use support::logchute::{Logchute, Setup};
use support::pki::Pki;
use support::receivers::{StreamSink, free_port};
use support::rig::{in_parallel, pattern};
use support::syslogd::{Door, Kind, Syslogd};
use support::{by_turns, full, say, side_by_side, some_drivers};

const ID: &str = "3edafbdfe8dbd1349ef2c5ae783545a50a2502d1886b231de6aae0f6d4bf417d";

const KINDS: [Kind; 2] = [Kind::Rsyslog, Kind::SyslogNg];

/// Does `test` with each kind of receiver, through each of the doors, so many `at_once`.
fn on_each(doors: &[Door], at_once: usize, test: impl Fn(Kind, &str, Door) + Sync) {
    let ways = |kind| doors.iter().map(move |&door| (kind, door));
    let all: Vec<_> = KINDS.into_iter().flat_map(ways).collect();
    side_by_side(at_once, &by_turns(&all), |&(io, (kind, door))| test(kind, io, door));
}

/// The program with a syslog route to `door` of `receiver`.
fn route(io: &str, receiver: &Syslogd, door: Door, pki: &Pki, filter: &str) -> Setup {
    let framing = if door.counted() { "octet-counted" } else { "traditional" };
    // By name for TLS, so that the certificate's name is checked.
    let host = if door.transport() == "tls" { "localhost" } else { "127.0.0.1" };
    let port = receiver.address(door).port();
    Setup::new(io)
        .env("SYSLOG_TCP_FRAMING", framing)
        .env("LOGSPOUT_TLS_CA_CERTS", &pki.ca().display().to_string())
        .arg(&format!("syslog+{}://{host}:{port}{filter}", door.transport()))
}

/// The program with a RELP route to `receiver`.
fn relp_route(io: &str, receiver: &Syslogd, tls: bool, pki: &Pki) -> Setup {
    let port = receiver.relp_address(tls).port();
    let host = if tls { "relp+tls://localhost" } else { "relp://127.0.0.1" };
    Setup::new(io)
        .env("LOGSPOUT_TLS_CA_CERTS", &pki.ca().display().to_string())
        .env("LOGSPOUT_TLS_CLIENT_CERT", &pki.client_cert().display().to_string())
        .env("LOGSPOUT_TLS_CLIENT_KEY", &pki.client_key().display().to_string())
        .arg(&format!("{host}:{port}"))
}

/// A scripted engine with one container, and the program following it.
fn follow(setup: Setup) -> (Engine, Logchute) {
    let engine = Engine::new();
    engine.add(inspect(ID, "web"), true);
    let program = setup.engine(Some(&engine.host())).start();
    assert!(engine.wait_followed(&[ID], Duration::from_secs(10)), "{}", program.stderr());
    (engine, program)
}

fn line(n: u64) -> Vec<u8> {
    let padding = b"abcdefghijklmnopqrstuvwxyz0123456789".iter().cycle();
    let mut line = format!("@web {n:08} ").into_bytes();
    line.extend(padding.take(63 - line.len()));
    line.push(b'\n');
    line
}

/// Writes lines `from..=to` at `rate` a second, every tenth to standard error.
fn write_lines(engine: &Engine, from: u64, to: u64, rate: u64) {
    let begun = Instant::now();
    for (i, n) in (from..=to).enumerate() {
        let stream = if n.is_multiple_of(10) { Stream::Err } else { Stream::Out };
        engine.write(ID, stream, &line(n));
        let due = Duration::from_micros(1_000_000 * (i as u64 + 1) / rate);
        if due > begun.elapsed() + Duration::from_millis(5) {
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
        }
    }
}

fn totals(records: &[u8], count: u64) -> Totals {
    let mut account = Account::default();
    account.expect("@web", Run { stderr_every: 10, ..Run::of(count) });
    account.take_lines(records);
    account.totals()
}

#[test]
fn every_door_of_rsyslog_and_syslog_ng_gets_every_line() {
    let pki = Pki::new();
    for kind in KINDS {
        let Some(mut receiver) = Syslogd::start(kind, &pki) else { continue };
        for (io, door) in by_turns(&Door::ALL) {
            let before = receiver.records().len();
            let count = if door == Door::Udp { 2000 } else { 20_000 };
            let (engine, mut program) = follow(route(io, &receiver, door, &pki, ""));
            let rate = if door == Door::Udp { 20_000 } else { 1_000_000 };
            write_lines(&engine, 1, count, rate);
            let have = memchr::memchr_iter(b'\n', &receiver.records()[..before]).count();
            receiver.wait_for(have + count as usize, Duration::from_secs(5));
            let ended = program.stop();
            let totals = totals(&receiver.records()[before..], count);
            say(&format!("{kind:?} {door:?} ({io}): {totals}"));
            assert!(totals.perfect(), "{kind:?} {door:?} ({io}): {totals}: {}", ended.stderr);
            assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        }
        // A receiver takes the header for what it is only if it is well-formed.
        let first = receiver.records();
        let first = String::from_utf8_lossy(first.split(|&b| b == b'\n').next().unwrap_or(b""));
        assert!(first.starts_with("<14>1 20"), "{kind:?}: {first}");
        let rest = " 3edafbdfe8db web 4242 - - @web 00000001 abc";
        assert!(first.contains(rest), "{kind:?}: {first}");
        receiver.stop();
    }
}

#[test]
fn rsyslog_gets_every_line_over_relp_once() {
    let pki = Pki::new();
    let Some(receiver) = Syslogd::start_relp(&pki) else { return };
    for (io, tls) in by_turns(&[false, true]) {
        let before = receiver.records().len();
        let count = 20_000;
        let (engine, mut program) = follow(relp_route(io, &receiver, tls, &pki));
        let begun = Instant::now();
        write_lines(&engine, 1, count, 1_000_000);
        // What is delivered is in the receiver's file already.
        let delivered = || program.metric("logchute_lines_delivered") as u64 == count;
        let all = support::wait_until(Duration::from_secs(20), delivered);
        let took = begun.elapsed();
        let totals = totals(&receiver.records()[before..], count);
        let ended = program.stop();
        say(&format!("rsyslog over RELP, TLS {tls} ({io}): {totals} in {took:?}"));
        assert!(all && totals.perfect(), "TLS {tls} ({io}): {totals}: {}", ended.stderr);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }
    let first = receiver.records();
    let first = String::from_utf8_lossy(first.split(|&b| b == b'\n').next().unwrap_or(b""));
    assert!(first.starts_with("<14>1 20") && first.contains(" web 4242 - - @web 0"), "{first}");
}

/// What befalls the receiver in the middle.
#[derive(Clone, Copy, Debug)]
enum Blow {
    /// It is stopped in order, and started again.
    Stopped,
    /// It is killed, and started again.
    Killed,
    /// It stands still for a while.
    Frozen,
}

#[test]
fn nothing_is_lost_over_relp_whatever_befalls_the_receiver() {
    let pki = Pki::new();
    let blows = [(Blow::Stopped, true), (Blow::Killed, false), (Blow::Frozen, false)];
    side_by_side(3, &by_turns(&blows), |&(io, (blow, tls))| relp_through(blow, tls, io, &pki));
}

fn relp_through(blow: Blow, tls: bool, io: &str, pki: &Pki) {
    let Some(mut receiver) = Syslogd::start_relp(pki) else { return };
    let (engine, mut program) = follow(relp_route(io, &receiver, tls, pki));
    let (rate, count) = (5000, 10_000);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_lines(&engine, 1, count, rate));
        std::thread::sleep(Duration::from_millis(700));
        match blow {
            Blow::Stopped => receiver.stop(),
            Blow::Killed => receiver.kill(),
            Blow::Frozen => receiver.freeze(),
        }
        std::thread::sleep(Duration::from_millis(500));
        match blow {
            Blow::Stopped | Blow::Killed => receiver.launch(),
            Blow::Frozen => receiver.thaw(),
        }
        writer.join().unwrap();
    });
    let delivered = || program.metric("logchute_lines_delivered") as u64 == count;
    let all = support::wait_until(Duration::from_secs(20), delivered);
    let resent = program.metric("logchute_lines_resent") as u64;
    let totals = totals(&receiver.records(), count);
    let ended = program.stop();
    say(&format!("rsyslog {blow:?} over RELP, TLS {tls} ({io}): {totals}, {resent} sent again"));
    let Totals { lost, duplicated, reordered, damaged, unknown, .. } = totals;
    assert!(all, "{blow:?} ({io}): not all is delivered: {}", ended.stderr);
    assert_eq!((lost, reordered, unknown), (0, 0, 0), "{blow:?} ({io}): {totals}");
    // The kill may tear the line that is being written.
    assert!(damaged <= 1 && duplicated <= resent, "{blow:?} ({io}): {totals}, {resent} again");
    assert!(resent <= 128, "{blow:?} ({io}): more than the window: {resent}");
}

/// Frozen (SIGSTOP) and thawed, the receiver keeps its connection: nothing at all may be lost.
#[test]
fn a_frozen_receiver_gets_everything_when_it_thaws() {
    let pki = Pki::new();
    on_each(&[Door::Tcp, Door::Tls], 2, |kind, io, door| {
        let Some(mut receiver) = Syslogd::start(kind, &pki) else { return };
        let (engine, mut program) = follow(route(io, &receiver, door, &pki, ""));
        write_lines(&engine, 1, 5000, 10_000);
        receiver.freeze();
        write_lines(&engine, 5001, 60_000, 1_000_000);
        std::thread::sleep(Duration::from_secs(1));
        receiver.thaw();
        write_lines(&engine, 60_001, 65_000, 10_000);
        receiver.wait_for(65_000, Duration::from_secs(10));
        program.stop();
        let totals = totals(&receiver.records(), 65_000);
        say(&format!("{kind:?} {door:?} frozen ({io}): {totals}"));
        assert!(totals.perfect(), "{kind:?} {door:?} ({io}): {totals}");
    });
}

/// Stopped for a while under steady lines, and started again. What the receiver's kernel took and
/// the receiver never read is beyond anyone's reach: of the rest, nothing may be missing.
#[test]
fn a_receiver_that_is_stopped_and_started_misses_nothing_that_fits_the_buffer() {
    let pki = Pki::new();
    on_each(&[Door::Tcp, Door::Tls, Door::TcpCounted], 6, |kind, io, door| {
        let Some(first) = stop_and_start(&pki, kind, door, io) else { return };
        // Once in some forty times the receiver accepts after its restart and then reads
        // nothing: our kernel still holds what it was sent. Twice in a row it is us.
        let again = || stop_and_start(&pki, kind, door, io).expect("installed");
        let outcome = if first.is_good() { first } else { again() };
        assert!(outcome.is_good(), "{kind:?} {door:?} ({io}): {}", outcome.said);
    });
}

/// What became of the lines of one stop and start.
struct Outcome {
    totals: Totals,
    /// Lines that the receiver may have taken with it.
    in_flight: u64,
    /// Lines that were sent again.
    resent: u64,
    said: String,
}

impl Outcome {
    fn is_good(&self) -> bool {
        let Totals { lost, duplicated, reordered, damaged, unknown, .. } = self.totals;
        lost <= self.in_flight
            && duplicated <= self.resent
            && damaged <= 1
            && unknown <= 1
            && reordered == 0
    }
}

/// `None` where the receiver is not installed.
fn stop_and_start(pki: &Pki, kind: Kind, door: Door, io: &str) -> Option<Outcome> {
    let (rate, away) = if full() { (5000, 20) } else { (5000, 3) };
    let count = rate * (away + 4);
    let mut receiver = Syslogd::start(kind, pki)?;
    let (engine, mut program) = follow(route(io, &receiver, door, pki, ""));
    let ending = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_lines(&engine, 1, count, rate));
        std::thread::sleep(Duration::from_secs(2));
        let begun = Instant::now();
        receiver.stop();
        let ending = begun.elapsed();
        std::thread::sleep(Duration::from_secs(away));
        receiver.launch();
        writer.join().unwrap();
        ending
    });
    receiver.wait_for(count as usize, Duration::from_secs(10));
    let resent = program.metric("logchute_lines_resent") as u64;
    let ended = program.stop();
    let totals = totals(&receiver.records(), count);
    say(&format!(
        "{kind:?} {door:?} away for {away} s, ending in {ending:?} ({io}): {totals}, {resent} sent \
         again"
    ));
    // While it ends, its kernel goes on taking what it never reads.
    let in_flight = (rate as f64 * (ending.as_secs_f64() + 0.1)) as u64;
    let said = format!("{totals}: {}", ended.stderr);
    Some(Outcome { totals, in_flight, resent, said })
}

/// Killed while it is busy, the receiver takes with it what its kernel had and it did not read;
/// what our kernel still had is sent again.
#[test]
fn what_a_killed_receiver_did_not_acknowledge_is_sent_again() {
    let pki = Pki::new();
    side_by_side(2, &by_turns(&["off", "on"]), |(io, resend)| kill_under_load(resend, io, &pki));
}

/// Kills rsyslog, if it is installed, while our kernel holds bytes that it has not acknowledged.
fn kill_under_load(resend: &str, io: &str, pki: &Pki) {
    let count = 80_000;
    let Some(mut receiver) = Syslogd::start(Kind::Rsyslog, pki) else { return };
    let (engine, mut program) =
        follow(route(io, &receiver, Door::Tcp, pki, "").env("RESEND", resend));
    let unacknowledged = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_lines(&engine, 1, count, 100_000));
        std::thread::sleep(Duration::from_millis(200));
        receiver.freeze();
        let unacknowledged = both_kernels_full(receiver.address(Door::Tcp).port());
        receiver.kill();
        receiver.launch();
        writer.join().unwrap();
        unacknowledged
    });
    receiver.wait_for(count as usize, Duration::from_secs(1));
    let resent = program.metric("logchute_lines_resent") as u64;
    let delivered = |what: &str| program.metric(&format!("logchute_{what}_delivered"));
    let mean = delivered("bytes") / delivered("lines");
    let ended = program.stop();
    let totals = totals(&receiver.records(), count);
    say(&format!(
        "rsyslog killed, RESEND={resend} ({io}): {totals}, {resent} sent again, {unacknowledged} \
         bytes were not acknowledged"
    ));
    let Totals { duplicated, reordered, damaged, unknown, lost, .. } = totals;
    assert!(duplicated <= resent && reordered == 0, "{totals}: {}", ended.stderr);
    assert!(damaged + unknown <= 2, "{totals}: {}", ended.stderr);
    // The receiver's kernel may have taken some of it yet before the end.
    let covers = |records: u64| 2.0 * records as f64 * mean >= unacknowledged as f64;
    if resend == "on" {
        assert!(covers(resent), "{resent} of {mean} bytes, of {unacknowledged}");
    } else {
        assert!(resent == 0 && covers(lost), "{totals}: {resent} sent again");
    }
}

/// Waits until nothing moves any more to `port` of this host, and says how many bytes of the
/// connection to it were not acknowledged then, as SIOCOUTQ counts them.
fn both_kernels_full(port: u16) -> u64 {
    let mut before = 0;
    let full = support::wait_until(Duration::from_secs(10), || {
        let now = unacknowledged(port);
        let stands = now > 0 && now == std::mem::replace(&mut before, now);
        std::thread::sleep(Duration::from_millis(300));
        stands
    });
    assert!(full, "the receiver's kernel takes all there is");
    before
}

/// What all connections to `port` hold unacknowledged, by the kernel's table (proc(5)).
fn unacknowledged(port: u16) -> u64 {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let peer = format!(":{port:04X}");
    let rows = table.lines().map(|row| row.split_ascii_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row.len() > 4 && row[2].ends_with(&peer))
        .filter_map(|row| u64::from_str_radix(row[4].split(':').next()?, 16).ok())
        .sum()
}

/// A receiver that is down at start delays nothing, and gets everything once it is there.
#[test]
fn a_receiver_that_is_down_at_start_delays_nothing_else() {
    let pki = Pki::new();
    for io in some_drivers() {
        let Some(mut receiver) = Syslogd::start(Kind::Rsyslog, &pki) else { return };
        receiver.stop();
        let other = StreamSink::tcp();
        let setup = route(io, &receiver, Door::Tcp, &pki, "")
            .arg(&format!("raw+tcp://{}", other.address()))
            .arg(&format!("raw+tcp://127.0.0.1:{}", free_port()));
        let (engine, mut program) = follow(setup);
        write_lines(&engine, 1, 1000, 1_000_000);
        let quick = support::wait_until(Duration::from_secs(3), || other.newlines() == 1000);
        assert!(quick, "{io}: {} lines: {}", other.newlines(), program.stderr());
        receiver.launch();
        receiver.wait_for(1000, Duration::from_secs(10));
        let ended = program.stop();
        let totals = totals(&receiver.records(), 1000);
        assert!(totals.perfect(), "{io}: {totals}: {}", ended.stderr);
    }
}

/// Containers' own write times, alone and beside a receiver that never reads.
#[test]
fn a_receiver_that_never_reads_delays_no_container() {
    let Some(docker) = Docker::of_host() else { return };
    let lines = if full() { 1_000_000 } else { 200_000 };
    let slowest = |name: &str| {
        let args = ["timed", &lines.to_string(), "--bytes", "100", "--sleep-first", "500"];
        // A log that is kept small: what is measured is the way through attach.
        let small = ["--log-opt", "max-size=1m", "--log-opt", "max-file=2"];
        let begun = Instant::now();
        let container = docker.start(name, &small, &args);
        assert_eq!(container.wait(Duration::from_secs(120)), Some(0), "it does not end");
        let told = container.last_line();
        let us = told.split_whitespace().nth(3).and_then(|n| n.parse::<u64>().ok());
        (us.unwrap_or_else(|| panic!("no time in {told:?}")), begun.elapsed())
    };
    let (alone, alone_for) = slowest("lct-unread");
    for (io, overflow) in by_turns(&["block", "drop-oldest"]) {
        let sink = StreamSink::never_reads();
        let filter = pattern("lct-unread");
        let route = format!("raw+tcp://{}?filter.name={filter}", sink.address());
        let setup = Setup::new(io).engine(None).env("BUFFER", "1MiB").env("OVERFLOW", overflow);
        let mut program = setup.arg(&route).start();
        let (beside, beside_for) = slowest("lct-unread");
        say(&format!(
            "slowest write of {lines}: {alone} us alone ({alone_for:?} in all), {beside} us with \
             a receiver that never reads ({beside_for:?}), {overflow} ({io})"
        ));
        // A container that has to wait for the route would stand still for good, or for most of
        // the time if somebody gave up waiting; a program that gets no processor delays it, too.
        let limit = Duration::from_secs(2).max(beside_for / 2).as_micros();
        assert!(u128::from(beside) < limit, "{io}: {beside} us, alone {alone} us");
        assert!(sink.connections() >= 1, "{io}: the route never connected");
        let dropped = program.metric("logchute_lines_dropped");
        let counted = (dropped > 0.0) == (overflow == "drop-oldest");
        assert!(counted, "{io}, {overflow}: {dropped} dropped: {}", program.metrics());
        let ended = program.stop();
        assert_ne!(ended.code, None, "{}", ended.stderr);
    }
}

/// Real containers to real rsyslog, over TCP and TLS, started while the program runs.
#[test]
fn busy_containers_reach_rsyslog_over_tcp_and_tls() {
    let Some(docker) = Docker::of_host() else { return };
    let pki = Pki::new();
    let (containers, lines) = if full() { (20, 100_000u64) } else { (6, 5000) };
    for (io, door) in by_turns(&[Door::Tcp, Door::Tls]) {
        let Some(receiver) = Syslogd::start(Kind::Rsyslog, &pki) else { return };
        let filter = format!("?filter.name={}", pattern("lct-rsyslog"));
        // The containers together may write faster than rsyslog takes: room for the difference.
        let setup = route(io, &receiver, door, &pki, &filter).env("SHARDS", "2");
        let setup = if full() { setup.env("BUFFER", "512MiB") } else { setup };
        let mut program = setup.engine(None).start();
        let prefixes: Vec<String> = (0..containers).map(|i| format!("@rs{i}")).collect();
        let _containers = in_parallel(containers, |i| {
            let lines = lines.to_string();
            let args = ["lines", &lines, "--prefix", &prefixes[i], "--stderr-every", "10"];
            docker.start("lct-rsyslog", &[], &args)
        });
        receiver.wait_for(containers * lines as usize, Duration::from_secs(10));
        let ended = program.stop();
        let mut account = Account::default();
        for prefix in &prefixes {
            account.expect(prefix, Run { stderr_every: 10, ..Run::of(lines) });
        }
        account.take_lines(&receiver.records());
        let totals = account.totals();
        say(&format!("{containers} containers to rsyslog, {door:?} ({io}): {totals}"));
        assert!(totals.perfect(), "{door:?} ({io}): {totals}: {}", ended.stderr);
    }
}
