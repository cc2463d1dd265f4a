//! Both doors to a container's lines, and a daemon that misbehaves: a scripted engine, the real
//! program, and an account of every line.

use std::time::Duration;

mod support;

use support::checker::{Account, Run, Totals};
use support::engine::{Ask, Engine, Fault, LOGS_HEAD, Stream, inspect};
use support::logchute::{Logchute, Setup};
use support::receivers::StreamSink;
use support::{full, on_each_driver, wait_until};

const ID: &str = "3edafbdfe8dbd1349ef2c5ae783545a50a2502d1886b231de6aae0f6d4bf417d";
const SOON: Duration = Duration::from_secs(10);

/// A scripted engine, the program with a raw TCP route, and what comes out of it.
struct Scene {
    engine: Engine,
    sink: StreamSink,
    setup: Setup,
}

/// Hands lines `from..=to` to `put`, every tenth for standard error.
fn lines(from: u64, to: u64, put: impl Fn(Stream, &[u8])) {
    for n in from..=to {
        let stream = if n.is_multiple_of(10) { Stream::Err } else { Stream::Out };
        put(stream, format!("@web {n:08} abcdefgh\n").as_bytes());
    }
}

impl Scene {
    fn new(io: &str) -> Scene {
        let (engine, sink) = (Engine::new(), StreamSink::tcp());
        let route = format!("raw+tcp://{}", sink.address());
        let setup = Setup::new(io).engine(Some(&engine.host())).env("SHARDS", "1").arg(&route);
        Scene { engine, sink, setup }
    }

    /// A scene with one running container, which has the lines `1..=written` behind it.
    fn with_container(io: &str, written: u64) -> Scene {
        let scene = Scene::new(io);
        scene.engine.add(inspect(ID, "web"), true);
        scene.write(1, written);
        scene
    }

    fn start(&self) -> Logchute {
        let program = self.setup.start();
        let ids: Vec<&str> = if self.engine.knows(ID) { vec![ID] } else { Vec::new() };
        assert!(self.engine.wait_followed(&ids, SOON), "not followed: {}", program.stderr());
        program
    }

    /// Lines `from..=to`, every tenth to standard error.
    fn write(&self, from: u64, to: u64) {
        lines(from, to, |stream, line| self.engine.write(ID, stream, line));
    }

    /// The same, in the log alone.
    fn log(&self, from: u64, to: u64) {
        lines(from, to, |stream, line| self.engine.log(ID, stream, line));
    }

    /// Waits for `lines` lines, ends the program, and takes the account of `first..first + lines`.
    fn account(&self, mut program: Logchute, first: u64, lines: u64) -> (Totals, String) {
        wait_until(SOON, || self.sink.newlines() >= lines as usize);
        std::thread::sleep(Duration::from_millis(200));
        let ended = program.stop();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        wait_until(Duration::from_millis(500), || self.sink.newlines() >= lines as usize);
        let mut account = Account::default();
        account.expect("@web", Run { first, count: lines, bytes: 23, stderr_every: 10 });
        account.take_lines(&self.sink.received().concat());
        (account.totals(), ended.stderr)
    }

    /// The same, where each of them must have come, once and in order. Returns what was said.
    #[track_caller]
    fn all_came(&self, io: &str, program: Logchute, first: u64, lines: u64) -> String {
        let (totals, said) = self.account(program, first, lines);
        assert!(totals.perfect(), "{io}: {totals}: {said}");
        said
    }
}

#[test]
fn what_was_written_before_comes_with_backlog_and_only_then() {
    on_each_driver(|io| {
        for (env, first) in [
            (&[("BACKLOG", "true")][..], 1),
            (&[("BACKLOG", "true"), ("TAIL", "5")], 96),
            (&[("BACKLOG", "true"), ("TAIL", "all")], 1),
            (&[("BACKLOG", "true"), ("TAIL", "0")], 101),
            (&[("BACKLOG", "false")], 101),
            (&[], 101),
        ] {
            let mut scene = Scene::with_container(io, 100);
            for (name, value) in env {
                scene.setup = scene.setup.env(name, value);
            }
            let program = scene.start();
            // No pause: the live lines come while the log is still being asked for.
            scene.write(101, 150);
            let (totals, said) = scene.account(program, first, 151 - first);
            assert!(totals.perfect(), "{env:?} ({io}): {totals}: {said}");
        }
    });
}

#[test]
fn the_head_of_a_container_that_starts_is_in_the_log_and_comes_first() {
    on_each_driver(|io| {
        let scene = Scene::new(io);
        let program = scene.start();
        scene.engine.add(inspect(ID, "late"), false);
        // The first lines are written before the event, as they are by real daemons.
        scene.write(1, 20);
        scene.engine.start(ID, Some(77));
        scene.write(21, 40);
        assert!(scene.engine.wait_followed(&[ID], SOON), "{}", program.stderr());
        scene.write(41, 60);
        scene.all_came(io, program, 1, 60);
    });
}

#[test]
fn a_container_that_is_gone_before_anyone_could_attach() {
    on_each_driver(|io| {
        let scene = Scene::new(io);
        let program = scene.start();
        scene.engine.add(inspect(ID, "brief"), false);
        scene.write(1, 10);
        scene.engine.start(ID, Some(77));
        scene.engine.die(ID);
        scene.all_came(io, program, 1, 10);
    });
}

/// The daemon tells of a container that is being created before it can be asked for it.
#[test]
fn a_container_that_is_told_of_before_it_is_known() {
    on_each_driver(|io| {
        let scene = Scene::new(io);
        let program = scene.start();
        let unknown = Some(Fault::Status(404, "no such container"));
        scene.engine.fault(Ask::Attach, unknown.clone());
        scene.engine.fault(Ask::Inspect, unknown);
        scene.engine.add(inspect(ID, "early"), false);
        scene.engine.event(ID, "create", &[]);
        assert!(wait_until(SOON, || scene.engine.asked(Ask::Attach) > 0), "{}", program.stderr());
        std::thread::sleep(Duration::from_millis(100));
        scene.engine.fault(Ask::Attach, None);
        scene.engine.fault(Ask::Inspect, None);
        scene.engine.start(ID, Some(77));
        assert!(scene.engine.wait_followed(&[ID], SOON), "{}", program.stderr());
        scene.write(1, 40);
        scene.all_came(io, program, 1, 40);
    });
}

#[test]
fn an_attach_stream_that_ends_is_opened_again_without_a_gap() {
    on_each_driver(|io| {
        let scene = Scene::with_container(io, 0);
        let program = scene.start();
        scene.write(1, 100);
        wait_until(SOON, || scene.sink.newlines() >= 100);
        scene.engine.detach(ID);
        scene.write(101, 150);
        assert!(wait_until(SOON, || scene.engine.attaches(ID) >= 2), "{}", program.stderr());
        assert!(scene.engine.wait_followed(&[ID], SOON));
        scene.write(151, 200);
        scene.all_came(io, program, 1, 200);
        let attaches = scene.engine.attaches(ID);
        assert!(attaches < 5, "{attaches} attach requests: a retry without a pause");
    });
}

/// What is between the daemon and us stands still: only the log has what the container writes.
#[test]
fn a_stream_that_hangs_is_found_out_and_opened_again_without_a_gap() {
    on_each_driver(|io| {
        let mut scene = Scene::with_container(io, 0);
        scene.setup = scene.setup.env("INACTIVITY_TIMEOUT", "300ms");
        let program = scene.start();
        scene.write(1, 100);
        assert!(wait_until(SOON, || scene.sink.newlines() >= 100));
        scene.log(101, 150);
        assert!(wait_until(SOON, || scene.sink.newlines() >= 150), "{}", program.stderr());
        assert!(scene.engine.wait_followed(&[ID], SOON));
        assert_eq!(program.metric("logchute_hung_streams"), 1.0);
        scene.write(151, 200);
        let said = scene.all_came(io, program, 1, 200);
        assert!(said.contains("hangs"), "{said}");
        assert_eq!(scene.engine.attaches(ID), 2);
    });
}

/// The answer to attach never begins, although the daemon answers everything else.
#[test]
fn an_attach_that_is_not_answered_is_asked_for_again() {
    on_each_driver(|io| {
        let mut scene = Scene::with_container(io, 0);
        scene.setup = scene.setup.env("INACTIVITY_TIMEOUT", "300ms");
        scene.engine.fault(Ask::Attach, Some(Fault::Hang));
        let program = scene.setup.start();
        let asked = || scene.engine.asked(Ask::Attach) == 1;
        assert!(wait_until(SOON, asked), "{}", program.stderr());
        scene.engine.fault(Ask::Attach, None);
        scene.write(1, 50);
        assert!(scene.engine.wait_followed(&[ID], SOON), "{}", program.stderr());
        assert_eq!(program.metric("logchute_hung_streams"), 1.0);
        scene.write(51, 100);
        let said = scene.all_came(io, program, 1, 100);
        assert!(said.contains("attach hangs"), "{said}");
    });
}

/// An answer of the `logs` door that stops: before its head, behind it, in a line, before its end.
#[test]
fn a_pass_over_the_log_that_hangs_is_made_again_from_its_place() {
    on_each_driver(|io| {
        for stalls_at in [0, LOGS_HEAD.len(), 5000, usize::MAX] {
            let mut scene = Scene::with_container(io, 200);
            scene.setup = scene.setup.env("INACTIVITY_TIMEOUT", "200ms").env("BACKLOG", "true");
            scene.engine.fault(Ask::Logs, Some(Fault::Stall(stalls_at)));
            let program = scene.start();
            assert!(wait_until(SOON, || scene.engine.asked(Ask::Logs) >= 1));
            scene.engine.fault(Ask::Logs, None);
            scene.write(201, 250);
            assert!(wait_until(SOON, || scene.sink.newlines() >= 250), "{}", program.stderr());
            assert_eq!(program.metric("logchute_hung_streams"), 1.0);
            let (totals, said) = scene.account(program, 1, 250);
            assert!(totals.perfect(), "{io}, {stalls_at}: {totals}: {said}");
        }
    });
}

/// A daemon that looks for our place for longer than a stream may be silent gets the time.
#[test]
fn a_pass_over_a_long_log_gets_more_time_each_time() {
    on_each_driver(|io| {
        let mut scene = Scene::with_container(io, 20);
        scene.setup = scene.setup.env("INACTIVITY_TIMEOUT", "100ms").env("BACKLOG", "true");
        scene.engine.fault(Ask::Logs, Some(Fault::Stall(LOGS_HEAD.len())));
        let begun = std::time::Instant::now();
        let program = scene.start();
        let passes = || {
            let requests = scene.engine.requests();
            requests
                .iter()
                .filter(|r| r.path.ends_with("/logs") && r.param("tail").is_empty())
                .count()
        };
        assert!(wait_until(SOON, || passes() >= 4), "{}", program.stderr());
        // 0.5 s, 1 s, 2 s, and each time a while until it is asked again.
        let took = begun.elapsed();
        assert!(took > Duration::from_millis(3500), "{io}: {took:?}");
        scene.engine.fault(Ask::Logs, None);
        scene.write(21, 40);
        scene.all_came(io, program, 1, 40);
    });
}

/// Where attach is refused the log is followed: what hangs is told from what is silent.
#[test]
fn a_log_that_is_followed_and_hangs_is_opened_again_without_a_gap() {
    on_each_driver(|io| {
        let mut scene = Scene::with_container(io, 0);
        scene.setup = scene.setup.env("INACTIVITY_TIMEOUT", "200ms");
        scene.engine.fault(Ask::Attach, Some(Fault::Status(403, "only GET here")));
        let program = scene.setup.start();
        let followed = || {
            let requests = scene.engine.requests();
            requests.iter().filter(|r| r.param("follow") == "1").count()
        };
        assert!(wait_until(SOON, || followed() >= 1), "{}", program.stderr());
        scene.engine.fault(Ask::Logs, Some(Fault::Stall(usize::MAX)));
        scene.write(1, 50);
        assert!(wait_until(SOON, || scene.sink.newlines() >= 50), "{}", program.stderr());
        // Silent for long, and left alone.
        let (before, asked) = (followed(), scene.engine.asked(Ask::Logs));
        assert!(wait_until(SOON, || scene.engine.asked(Ask::Logs) >= asked + 5));
        assert_eq!((followed(), program.metric("logchute_hung_streams")), (before, 0.0));
        scene.engine.fault(Ask::Logs, None);
        scene.write(51, 100);
        assert!(wait_until(SOON, || scene.sink.newlines() >= 100), "{}", program.stderr());
        assert_eq!(program.metric("logchute_hung_streams"), 1.0);
        let said = scene.all_came(io, program, 1, 100);
        assert!(said.contains("reading its log hangs"), "{said}");
    });
}

/// The same, and it is the end of the container that does not come.
#[test]
fn a_log_that_is_followed_beyond_the_end_of_its_container_is_let_go_of() {
    on_each_driver(|io| {
        let mut scene = Scene::with_container(io, 0);
        scene.setup = scene.setup.env("INACTIVITY_TIMEOUT", "200ms");
        scene.engine.fault(Ask::Attach, Some(Fault::Status(403, "only GET here")));
        scene.engine.fault(Ask::Logs, Some(Fault::Stall(usize::MAX)));
        scene.write(1, 10);
        let program = scene.setup.start();
        assert!(wait_until(SOON, || scene.engine.asked(Ask::Logs) >= 1), "{}", program.stderr());
        scene.engine.fault(Ask::Logs, None);
        scene.engine.end(ID);
        scene.engine.tell_of_death(ID);
        let hung = || program.metric("logchute_hung_streams") == 1.0;
        assert!(wait_until(SOON, hung), "{}", program.stderr());
        scene.engine.start(ID, Some(4343));
        scene.write(11, 20);
        let said = scene.all_came(io, program, 11, 10);
        assert!(said.contains("although its container has ended"), "{said}");
    });
}

/// The connection for events stands still. The list of the minute shows what it did not tell; the
/// daemon, asked for what it has told, that it hangs. At full size alone, for it takes that minute;
/// the simulation has the same.
#[test]
fn an_event_stream_that_hangs_is_opened_again() {
    if !full() {
        return;
    }
    on_each_driver(|io| {
        let scene = Scene::with_container(io, 0);
        let program = scene.start();
        scene.engine.hush();
        scene.engine.die(ID);
        std::thread::sleep(Duration::from_millis(500));
        scene.engine.start(ID, Some(4343));
        scene.write(1, 10);
        scene.engine.die(ID);
        let limit = Duration::from_secs(80);
        assert!(wait_until(limit, || scene.sink.newlines() >= 10), "{}", program.stderr());
        scene.engine.start(ID, Some(4344));
        assert!(scene.engine.wait_followed(&[ID], SOON), "{}", program.stderr());
        scene.write(11, 20);
        let said = scene.all_came(io, program, 1, 20);
        assert!(said.contains("its event stream hangs"), "{said}");
    });
}

/// A container that writes nothing is asked about again and again, and left alone.
#[test]
fn a_silent_container_is_told_from_a_stream_that_hangs() {
    on_each_driver(|io| {
        let mut scene = Scene::with_container(io, 20);
        scene.setup = scene.setup.env("INACTIVITY_TIMEOUT", "100ms");
        let mut program = scene.start();
        let asked = scene.engine.asked(Ask::Logs);
        assert!(wait_until(SOON, || scene.engine.asked(Ask::Logs) >= asked + 10));
        // Neither is one whose log cannot be read, or about whom nothing is said.
        for fault in [Fault::Status(501, "no log"), Fault::Garbage, Fault::Close, Fault::NotJson] {
            scene.engine.fault(Ask::Logs, Some(fault));
            let asked = scene.engine.asked(Ask::Logs);
            assert!(wait_until(SOON, || scene.engine.asked(Ask::Logs) >= asked + 2));
        }
        assert_eq!((scene.engine.attaches(ID), program.metric("logchute_hung_streams")), (1, 0.0));
        assert_eq!(program.stop().code, Some(0));
    });
}

/// The container ends, and starts again, and its stream does not hear of it.
#[test]
fn a_stream_that_outlives_its_container_is_let_go_of() {
    on_each_driver(|io| {
        let mut scene = Scene::with_container(io, 0);
        scene.setup = scene.setup.env("INACTIVITY_TIMEOUT", "300ms");
        let program = scene.start();
        scene.write(1, 20);
        assert!(wait_until(SOON, || scene.sink.newlines() >= 20));
        scene.log(21, 30);
        scene.engine.end(ID);
        scene.engine.tell_of_death(ID);
        assert!(wait_until(SOON, || scene.sink.newlines() >= 30), "{}", program.stderr());
        scene.engine.start(ID, Some(4343));
        assert!(wait_until(SOON, || scene.engine.attaches(ID) == 2), "{}", program.stderr());
        scene.write(31, 40);
        scene.all_came(io, program, 1, 40);
    });
}

/// A busy daemon starts a container again, and tells of it, long before it gets to end the stream
/// of the run before.
#[test]
fn a_stream_whose_end_comes_long_after_the_next_run_began() {
    on_each_driver(|io| {
        let scene = Scene::with_container(io, 0);
        let program = scene.start();
        scene.write(1, 10);
        assert!(wait_until(SOON, || scene.sink.newlines() >= 10));
        scene.engine.end(ID);
        std::thread::sleep(Duration::from_millis(100));
        scene.engine.start(ID, Some(4343));
        scene.log(11, 20);
        std::thread::sleep(Duration::from_secs(2));
        scene.engine.detach(ID);
        assert!(scene.engine.wait_followed(&[ID], SOON), "{}", program.stderr());
        scene.write(21, 30);
        scene.all_came(io, program, 1, 30);
    });
}

/// The same, and by then the next run has ended too, and another one has begun.
#[test]
fn a_run_that_comes_and_goes_before_the_stream_of_the_one_before_ends() {
    on_each_driver(|io| {
        let scene = Scene::with_container(io, 0);
        let program = scene.start();
        scene.write(1, 10);
        assert!(wait_until(SOON, || scene.sink.newlines() >= 10));
        scene.engine.end(ID);
        scene.engine.tell_of_death(ID);
        std::thread::sleep(Duration::from_millis(100));
        scene.engine.start(ID, Some(4343));
        scene.log(11, 15);
        scene.engine.end(ID);
        scene.engine.tell_of_death(ID);
        scene.engine.start(ID, Some(4344));
        scene.log(16, 20);
        scene.engine.detach(ID);
        assert!(scene.engine.wait_followed(&[ID], SOON), "{}", program.stderr());
        scene.write(21, 30);
        scene.all_came(io, program, 1, 30);
    });
}

#[test]
fn a_corrupt_frame_header_closes_that_one_stream_and_is_counted() {
    on_each_driver(|io| {
        let scene = Scene::with_container(io, 0);
        let other = "8407fb7ab7ca1800ec9f9dd45b781d97d7160b413542a64b074f98029fca633c";
        scene.engine.add(inspect(other, "other"), true);
        let program = scene.start();
        assert!(scene.engine.wait_followed(&[ID, other], SOON));
        scene.write(1, 50);
        wait_until(SOON, || scene.sink.newlines() >= 50);
        scene.engine.send_raw(ID, &[9, 1, 2, 3, 0xff, 0xff, 0xff, 0xff, b'x', b'\n']);
        assert!(wait_until(SOON, || scene.engine.attaches(ID) >= 2), "{}", program.stderr());
        assert!(scene.engine.wait_followed(&[ID], SOON));
        scene.write(51, 100);
        wait_until(SOON, || scene.sink.newlines() >= 100);
        assert_eq!(program.metric("logchute_corrupt_streams"), 1.0, "{}", program.metrics());
        assert_eq!(scene.engine.attaches(other), 1, "the other stream was touched");
        scene.all_came(io, program, 1, 100);
    });
}

#[test]
fn a_daemon_that_goes_away_and_comes_back() {
    on_each_driver(|io| {
        let mut scene = Scene::with_container(io, 0);
        let program = scene.start();
        scene.write(1, 100);
        wait_until(SOON, || scene.sink.newlines() >= 100);
        scene.engine.go_down();
        std::thread::sleep(Duration::from_millis(700));
        scene.write(101, 140);
        scene.engine.up();
        let limit = Duration::from_secs(20);
        assert!(scene.engine.wait_followed(&[ID], limit), "{}", program.stderr());
        scene.write(141, 200);
        let said = scene.all_came(io, program, 1, 200);
        assert!(said.contains("docker"), "the daemon's absence is worth a word: {said}");
    });
}

#[test]
fn a_start_event_of_a_container_that_is_already_gone() {
    on_each_driver(|io| {
        let scene = Scene::with_container(io, 0);
        let program = scene.start();
        let gone = "8407fb7ab7ca1800ec9f9dd45b781d97d7160b413542a64b074f98029fca633c";
        scene.engine.add(inspect(gone, "gone"), false);
        scene.engine.start(gone, None);
        scene.engine.destroy(gone);
        scene.write(1, 50);
        scene.all_came(io, program, 1, 50);
    });
}

#[test]
fn three_hundred_start_events_at_once() {
    on_each_driver(|io| {
        let scene = Scene::new(io);
        let mut program = scene.start();
        let ids: Vec<String> = (0..300).map(|n| format!("{n:012x}{}", "a".repeat(52))).collect();
        for (n, id) in ids.iter().enumerate() {
            scene.engine.add(inspect(id, &format!("many{n}")), false);
            scene.engine.write(id, Stream::Out, format!("@many{n} 00000001 abc\n").as_bytes());
        }
        ids.iter().for_each(|id| scene.engine.start(id, None));
        wait_until(Duration::from_secs(20), || scene.sink.newlines() >= 300);
        std::thread::sleep(Duration::from_millis(300));
        let ended = program.stop();
        let mut account = Account::default();
        for n in 0..300 {
            let bytes = format!("@many{n} 00000001 abc\n").len();
            account.expect(&format!("@many{n}"), Run { bytes, ..Run::of(1) });
        }
        account.take_lines(&scene.sink.received().concat());
        let totals = account.totals();
        assert!(totals.perfect(), "{io}: {totals}: {}", ended.stderr);
    });
}

/// Each bad answer at start: the program says so, keeps trying, and is well once the daemon is.
#[test]
fn a_daemon_that_answers_badly_is_told_of_and_asked_again() {
    let said_with = [
        (Ask::Ping, Fault::Garbage, ""),
        (Ask::Ping, Fault::Close, ""),
        (Ask::List, Fault::Status(500, "the disk is full"), "the disk is full"),
        (Ask::List, Fault::NotJson, ""),
        (Ask::List, Fault::Half, ""),
        (Ask::Events, Fault::Status(403, "events are forbidden here"), "events are forbidden here"),
        (Ask::Events, Fault::Garbage, ""),
        (Ask::Inspect, Fault::Status(500, "cannot inspect"), ""),
        (Ask::Inspect, Fault::NotJson, ""),
        (Ask::Attach, Fault::Status(409, "the container is paused"), ""),
        (Ask::Attach, Fault::Garbage, ""),
        (Ask::Logs, Fault::Status(501, "driver does not support reading"), ""),
    ];
    on_each_driver(|io| {
        for (ask, fault, words) in said_with.clone() {
            let mut scene = Scene::with_container(io, 20);
            scene.setup = scene.setup.env("BACKLOG", "true");
            scene.engine.fault(ask, Some(fault.clone()));
            let mut program = scene.setup.start();
            let asked = wait_until(SOON, || scene.engine.asked(ask) >= 1);
            assert!(asked, "{ask:?} {fault:?} ({io}): never asked: {}", program.stderr());
            let said = || program.stderr();
            let tells = wait_until(SOON, || !said().is_empty() && said().contains(words));
            assert!(tells, "{ask:?} {fault:?} ({io}): said only {:?}", said());
            let begun = scene.engine.asked(ask);
            std::thread::sleep(Duration::from_millis(500));
            let rate = scene.engine.asked(ask) - begun;
            assert!(rate < 20, "{ask:?} {fault:?}: {rate} tries in half a second");
            assert!(program.process.ended().is_none(), "{ask:?} {fault:?}: {}", program.stderr());
            scene.engine.fault(ask, None);
            let limit = Duration::from_secs(30);
            let followed = scene.engine.wait_followed(&[ID], limit);
            assert!(followed, "{ask:?} {fault:?} ({io}): {}", program.stderr());
            scene.write(21, 60);
            // Where the log cannot be read, its lines are beyond reach; live ones are not.
            let first = if ask == Ask::Logs { 21 } else { 1 };
            let limit = Duration::from_secs(15);
            wait_until(limit, || scene.sink.newlines() as u64 > 60 - first);
            if ask == Ask::Logs {
                let live = scene.sink.received().concat();
                assert!(memchr::memmem::find(&live, b"@web 00000060").is_some(), "{live:?}");
                program.stop();
                continue;
            }
            let (totals, said) = scene.account(program, first, 61 - first);
            assert!(totals.perfect(), "{ask:?} {fault:?} ({io}): {totals}: {said}");
        }
    });
}

/// SIGTERM while a receiver is down: it ends in time, and says what was not delivered.
#[test]
fn what_cannot_be_delivered_at_the_end_is_said() {
    on_each_driver(|io| {
        let mut scene = Scene::with_container(io, 0);
        scene.setup = scene.setup.env("DRAIN_TIMEOUT", "1s");
        scene.sink.down();
        let mut program = scene.start();
        scene.write(1, 50);
        std::thread::sleep(Duration::from_millis(500));
        let begun = std::time::Instant::now();
        let ended = program.stop();
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert!(ended.stderr.contains("50"), "50 lines were lost: {}", ended.stderr);
    });
}

/// Without a daemon at start the program waits for one.
#[test]
fn a_daemon_that_is_not_there_at_start() {
    on_each_driver(|io| {
        let mut scene = Scene::with_container(io, 0);
        scene.engine.go_down();
        let mut program = scene.setup.start();
        std::thread::sleep(Duration::from_secs(1));
        assert!(program.process.ended().is_none(), "{}", program.stderr());
        assert!(program.stderr().contains("docker.sock"), "{}", program.stderr());
        scene.engine.up();
        assert!(scene.engine.wait_followed(&[ID], Duration::from_secs(20)));
        scene.write(1, 50);
        scene.all_came(io, program, 1, 50);
    });
}

/// The attach stream turns to nonsense before the log was joined to it.
#[test]
fn a_corrupt_frame_header_while_log_and_attach_are_being_joined() {
    on_each_driver(|io| {
        let mut scene = Scene::with_container(io, 50);
        scene.setup = scene.setup.env("BACKLOG", "true");
        let program = scene.start();
        scene.write(51, 60);
        scene.engine.send_raw(ID, &[9, 1, 2, 3, 0xff, 0xff, 0xff, 0xff, b'x', b'\n']);
        scene.write(61, 70);
        assert!(wait_until(SOON, || scene.engine.attaches(ID) >= 2), "{}", program.stderr());
        assert!(scene.engine.wait_followed(&[ID], SOON));
        scene.write(71, 100);
        wait_until(SOON, || scene.sink.newlines() >= 100);
        assert_eq!(program.metric("logchute_corrupt_streams"), 1.0, "{}", program.metrics());
        scene.all_came(io, program, 1, 100);
    });
}

/// Ids of `count` running containers of the engine.
fn many(engine: &Engine, count: usize) -> Vec<String> {
    let ids: Vec<String> = (0..count).map(|n| format!("{n:012x}{}", "b".repeat(52))).collect();
    for (n, id) in ids.iter().enumerate() {
        engine.add(inspect(id, &format!("many{n}")), true);
    }
    ids
}

/// A proxy that lets only GET pass, and logs that end at once although they are to be followed.
#[test]
fn where_attach_is_refused_logs_are_read_at_a_bearable_pace() {
    on_each_driver(|io| {
        for tty in [false, true] {
            let mut scene = Scene::new(io);
            scene.setup = scene.setup.env("ALLOW_TTY", "true");
            let mut web = inspect(ID, "web");
            web["Config"]["Tty"] = tty.into();
            scene.engine.add(web, true);
            many(&scene.engine, 4);
            scene.engine.fault(Ask::Attach, Some(Fault::Status(403, "only GET here")));
            let program = scene.setup.start();
            assert!(wait_until(SOON, || scene.engine.asked(Ask::Logs) >= 5), "never asked");
            (1..=50).for_each(|n| {
                let line = format!("@web {n:08} abcdefgh\n");
                scene.engine.write(ID, Stream::Out, line.as_bytes());
            });
            let begun = scene.engine.asked(Ask::Logs);
            std::thread::sleep(Duration::from_secs(2));
            let rate = scene.engine.asked(Ask::Logs) - begun;
            assert!(rate < 5 * 20, "{rate} passes over five logs in two seconds");
            wait_until(SOON, || scene.sink.newlines() >= 50);
            let said = program.stderr();
            assert_eq!(said.matches("attach is not possible").count(), 1, "{said}");
            let mut account = Account::default();
            account.expect("@web", Run { bytes: 23, ..Run::of(50) });
            account.take_lines(&scene.sink.received().concat());
            let totals = account.totals();
            assert!(totals.perfect(), "{io}, tty {tty}: {totals}: {}", program.stderr());
        }
    });
}

#[test]
fn a_question_without_an_answer_does_not_hold_up_the_end() {
    on_each_driver(|io| {
        let scene = Scene::with_container(io, 0);
        scene.engine.fault(Ask::Inspect, Some(Fault::Hang));
        let mut program = scene.setup.start();
        assert!(wait_until(SOON, || scene.engine.asked(Ask::Inspect) >= 1));
        let begun = std::time::Instant::now();
        let ended = program.stop();
        assert!(begun.elapsed() < Duration::from_secs(2), "{io}: {:?}", begun.elapsed());
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    });
}

#[test]
fn hundreds_of_containers_at_start_do_not_overrun_the_daemons_socket() {
    on_each_driver(|io| {
        let mut scene = Scene::new(io);
        scene.setup = scene.setup.env("LOGCHUTE_LOG", "debug");
        let ids = many(&scene.engine, 300);
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let mut program = scene.setup.start();
        assert!(scene.engine.wait_followed(&ids, SOON), "{io}: {}", program.stderr());
        let attaches: usize = ids.iter().map(|id| scene.engine.attaches(id)).sum();
        let said = program.stop().stderr;
        assert!(!said.contains("cannot be reached"), "{io}: {said}");
        assert_eq!(attaches, 300, "{io}");
    });
}

/// Long enough for every container to find that it goes on failing.
#[test]
fn a_daemon_that_is_away_is_not_said_for_every_container() {
    let mut scene = Scene::new("poll");
    let ids = many(&scene.engine, 40);
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let program = scene.setup.start();
    assert!(scene.engine.wait_followed(&ids, SOON), "{}", program.stderr());
    let before = program.stderr().lines().count();
    scene.engine.go_down();
    std::thread::sleep(Duration::from_secs(14));
    let said = program.stderr();
    let lines = said.lines().count() - before;
    assert!((1..10).contains(&lines), "{lines} lines: {said}");
    scene.engine.up();
    assert!(scene.engine.wait_followed(&ids, Duration::from_secs(20)), "{}", program.stderr());
}

/// A container that ended long ago is not attached, list after list; one that starts is.
#[test]
fn containers_that_have_ended_are_let_sleep() {
    on_each_driver(|io| {
        let mut scene = Scene::new(io);
        let mut old = inspect(ID, "old");
        old["State"]["Status"] = "exited".into();
        old["State"]["Running"] = false.into();
        old["State"]["Pid"] = 0.into();
        old["State"]["FinishedAt"] = "2024-05-06T08:00:00Z".into();
        scene.engine.add(old, true);
        let program = scene.setup.start();
        assert!(wait_until(SOON, || scene.engine.asked(Ask::List) > 0));
        std::thread::sleep(Duration::from_millis(300));
        scene.engine.go_down();
        scene.engine.up();
        assert!(wait_until(SOON, || scene.engine.asked(Ask::Inspect) > 0), "{}", program.stderr());
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(scene.engine.attaches(ID), 0, "attached for nothing");
        scene.write(1, 10);
        scene.engine.start(ID, Some(5));
        assert!(scene.engine.wait_followed(&[ID], SOON), "{}", program.stderr());
        scene.write(11, 40);
        scene.all_came(io, program, 1, 40);
    });
}

/// An attach to a container that does not run costs older engines a descriptor for ever.
#[test]
fn a_container_that_has_ended_is_attached_when_it_runs_again_and_not_before() {
    on_each_driver(|io| {
        let scene = Scene::with_container(io, 0);
        let program = scene.start();
        scene.write(1, 10);
        assert!(wait_until(SOON, || scene.sink.newlines() >= 10));
        // As long as a container usually runs.
        std::thread::sleep(Duration::from_millis(1200));
        scene.engine.die(ID);
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(scene.engine.attaches(ID), 1, "{io}: attached although it has ended");
        scene.write(11, 20);
        scene.engine.start(ID, Some(4343));
        assert!(scene.engine.wait_followed(&[ID], SOON), "{}", program.stderr());
        scene.write(21, 30);
        scene.all_came(io, program, 1, 30);
    });
}
