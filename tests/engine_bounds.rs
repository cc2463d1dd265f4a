//! What goes wrong for long must not cost much: how often a daemon that refuses is asked, and how
//! long the program takes to end. A scripted engine and the real program.

use std::io::Read;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

mod support;

use support::checker::{Account, PADDING, Run};
use support::engine::{Ask, Engine, Fault, Stream, inspect};
use support::limits::peak;
use support::logchute::{Logchute, Setup};
use support::receivers::StreamSink;
use support::{on_each_driver, wait_until};

const ID: &str = "3edafbdfe8dbd1349ef2c5ae783545a50a2502d1886b231de6aae0f6d4bf417d";
const SOON: Duration = Duration::from_secs(10);

fn engine() -> Engine {
    let engine = Engine::new();
    engine.add(inspect(ID, "web"), true);
    engine
}

fn setup(io: &str, engine: &Engine) -> Setup {
    Setup::new(io).engine(Some(&engine.host())).env("SHARDS", "1")
}

fn end(mut program: Logchute) -> String {
    let ended = program.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended.stderr
}

/// Where attach is forbidden the log is read instead; here its answer ends at once.
#[test]
fn a_log_that_is_read_alone_is_not_asked_for_without_a_pause() {
    on_each_driver(|io| {
        let (engine, sink) = (engine(), StreamSink::tcp());
        engine.fault(Ask::Attach, Some(Fault::Status(403, "attach is forbidden here")));
        let program = setup(io, &engine).arg(&format!("raw+tcp://{}", sink.address())).start();
        assert!(wait_until(SOON, || engine.asked(Ask::Logs) > 0), "{}", program.stderr());
        let asked = engine.asked(Ask::Logs);
        std::thread::sleep(Duration::from_millis(2500));
        let often = engine.asked(Ask::Logs) - asked;
        assert!((1..=3).contains(&often), "{io}: {often} times in 2.5 s");
        engine.write(ID, Stream::Out, b"a line\nanother\n");
        assert!(wait_until(SOON, || sink.newlines() == 2), "{}", program.stderr());
        end(program);
    });
}

#[test]
fn a_container_that_cannot_be_inspected_is_asked_for_ever_less_often() {
    on_each_driver(|io| {
        let engine = engine();
        engine.fault(Ask::Inspect, Some(Fault::Status(500, "it cannot be told")));
        let program = setup(io, &engine).start();
        assert!(wait_until(SOON, || engine.asked(Ask::Inspect) > 0), "{}", program.stderr());
        std::thread::sleep(Duration::from_secs(3));
        // Pauses of at least 50, 100, 200, 400, 800, 1600 ms.
        let often = engine.asked(Ask::Inspect);
        assert!((4..=7).contains(&often), "{io}: {often} times in 3 s");
        end(program);
    });
}

/// What is read up to the end is delivered, what comes after it is not read.
#[test]
fn a_stop_amid_lines_loses_none_that_was_read() {
    on_each_driver(|io| {
        for round in 0..4 {
            let (engine, sink) = (engine(), StreamSink::tcp());
            let program = setup(io, &engine).arg(&format!("raw+tcp://{}", sink.address())).start();
            assert!(engine.wait_followed(&[ID], SOON), "{}", program.stderr());
            let over = AtomicBool::new(false);
            let said = std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !over.load(Relaxed) {
                        engine.write(ID, Stream::Out, &b"some line\n".repeat(100));
                    }
                });
                std::thread::sleep(Duration::from_millis(200 + 7 * round));
                let said = end(program);
                over.store(true, Relaxed);
                said
            });
            assert!(said.contains(" 0 dropped"), "{io}: {said}");
        }
    });
}

/// Nothing is held for a receiver that is away: there is nothing to wait for.
#[test]
fn a_receiver_that_is_away_does_not_hold_up_the_end() {
    on_each_driver(|io| {
        let (engine, mut sink) = (engine(), StreamSink::tcp());
        let route = format!("raw+tcp://{}", sink.address());
        sink.down();
        let program = setup(io, &engine).arg(&route).start();
        // By now the pauses between attempts are of 0.8 s at least.
        std::thread::sleep(Duration::from_secs(2));
        let begun = Instant::now();
        end(program);
        assert!(begun.elapsed() < Duration::from_millis(300), "{io}: {:?}", begun.elapsed());
    });
}

/// A pager that is not scrolled takes nothing, and a write to it cannot be called back.
#[test]
fn a_terminal_that_takes_no_more_does_not_hold_up_the_end() {
    on_each_driver(|io| {
        let engine = engine();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let setup = setup(io, &engine).env("DRAIN_TIMEOUT", "1s").arg("console://");
        let mut program = setup.start_with(Stdio::from(writer));
        assert!(engine.wait_followed(&[ID], SOON), "{}", program.stderr());
        for _ in 0..10 {
            engine.write(ID, Stream::Out, &b"some line\n".repeat(5000));
        }
        std::thread::sleep(Duration::from_millis(300));
        let begun = Instant::now();
        let ended = program.stop();
        assert!(begun.elapsed() < Duration::from_millis(2500), "{io}: {:?}", begun.elapsed());
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert!(ended.stderr.contains("lines were not delivered"), "{}", ended.stderr);
        let mut taken = Vec::new();
        reader.read_to_end(&mut taken).unwrap();
        assert!(taken.starts_with(b"web"), "{} bytes", taken.len());
    });
}

/// Logs that hang while containers write more than may be held of all of them: their streams are let
/// go of, and all comes from the logs.
#[test]
fn containers_that_write_at_once_while_their_logs_hang_have_a_bound_together() {
    const LINES: u64 = 512;
    const BYTES: usize = 1024;
    on_each_driver(|io| {
        let (mut engine, sink) = (Engine::new(), StreamSink::tcp());
        let ids: Vec<String> = (0..60).map(|n| format!("{n:02}{}", "b".repeat(62))).collect();
        let mut account = Account::default();
        for id in &ids {
            engine.add(inspect(id, &id[..2]), true);
            let run = Run { first: 1, count: LINES, bytes: BYTES, stderr_every: 0 };
            account.expect(&format!("@{}", &id[..2]), run);
        }
        engine.fault(Ask::Logs, Some(Fault::Hang));
        let route = format!("raw+tcp://{}", sink.address());
        let program = setup(io, &engine).env("BACKLOG", "true").arg(&route).start();
        let all: Vec<&str> = ids.iter().map(String::as_str).collect();
        assert!(engine.wait_followed(&all, SOON), "{}", program.stderr());
        let before = peak(program.process.pid());
        for id in &ids {
            let text: Vec<u8> = (1..=LINES).flat_map(|n| line(&id[..2], n, BYTES)).collect();
            engine.write(id, Stream::Out, &text);
        }
        let let_go = || ids.iter().filter(|id| engine.attached(id) == 0).count();
        assert!(wait_until(SOON, || let_go() > 40), "{}: {}", let_go(), program.stderr());
        let most = before + (8 << 20) + (4 << 20);
        let in_all = peak(program.process.pid());
        assert!(in_all <= most, "{io}: {in_all} bytes, {before} before");
        engine.fault(Ask::Logs, None);
        engine.go_down();
        engine.up();
        let lines = ids.len() * LINES as usize;
        wait_until(6 * SOON, || sink.newlines() >= lines);
        end(program);
        account.take_lines(&sink.received().concat());
        assert!(account.totals().perfect(), "{io}: {}", account.totals());
    });
}

/// A line as the account wants it.
fn line(prefix: &str, n: u64, bytes: usize) -> Vec<u8> {
    let mut line = format!("@{prefix} {n:08} ").into_bytes();
    line.extend(PADDING.iter().cycle().take(bytes - line.len() - 1));
    line.push(b'\n');
    line
}
