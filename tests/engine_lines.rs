//! Every line of every container, from a real Docker Engine: 0 lost, 0 duplicated, in order.
//!
//! Reduced sizes; `LOGCHUTE_TEST_FULL=1` runs the full ones.

use std::time::Duration;

mod support;

use support::checker::{Run, Totals};
use support::rig::{Rig, in_parallel, on_some_driver};
use support::{full, readable, say, wait_until};

const LONG: Duration = Duration::from_secs(60);

fn assert_perfect(what: &str, io: &str, totals: &Totals) {
    say(&format!("{what} ({io}): {totals}"));
    assert!(totals.perfect(), "{what} ({io}): {totals}");
}

#[test]
fn containers_that_run_when_it_starts_and_containers_that_start_later() {
    on_some_driver(|docker, io| {
        let name = "lct-both";
        let args = |prefix| ["lines", "3000", "--prefix", prefix, "--stderr-every", "3"];
        let mut before = args("@before").to_vec();
        before.extend(["--sleep-first", "6000"]);
        let _before = docker.start(name, &[], &before);
        let rig = Rig::start(docker, name, io, &[]);
        let _after = rig.run(&[], &args("@after"));
        let run = Run { stderr_every: 3, ..Run::of(3000) };
        // The one that runs already is silent for a while: time to see all of it.
        assert!(rig.wait_for(6000, LONG), "{} lines came", rig.sink.newlines());
        let totals = rig.account(&[("@before".into(), run), ("@after".into(), run)]);
        assert_perfect("running before and started after", io, &totals);
    });
}

#[test]
fn stop_start_restart_rename_pause() {
    on_some_driver(|docker, io| {
        let rig = Rig::start(docker, "lct-moves", io, &[("LOGCHUTE_LOG", "logchute=debug")]);
        // Each run writes the same 500 lines, and then waits to be stopped.
        let args = ["lines", "500", "--prefix", "@moves", "--sleep-last", "600000"];
        let container = rig.run(&[], &args);
        let came = |runs: usize| {
            let before = rig.sink.newlines();
            let came = rig.wait_for(runs * 500, LONG);
            let after = rig.sink.newlines();
            assert!(
                came,
                "run {runs} ({io}): {before} lines, then {after}\n{}",
                rig.program.stderr()
            );
        };
        came(1);
        container.stop();
        container.start();
        came(2);
        container.restart();
        came(3);
        container.pause();
        container.unpause();
        container.rename(&format!("{}-again", container.name));
        container.restart();
        came(4);
        std::thread::sleep(Duration::from_millis(300));
        let all = rig.received();
        let once: Vec<u8> = all[..all.len() / 4].to_vec();
        assert_eq!(memchr::memchr_iter(b'\n', &once).count(), 500);
        assert!(all == once.repeat(4), "the four runs differ, or lines came twice");
        // Renamed out of the route's filter: from then on its lines are not wanted.
        container.rename(&format!("elsewhere-{}", container.name));
        std::thread::sleep(Duration::from_millis(500));
        container.restart();
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(rig.received().len(), all.len(), "renamed out of the filter, still routed");
    });
}

#[test]
fn a_terminal_is_followed_when_allowed() {
    on_some_driver(|docker, io| {
        for (allow, lines) in [("true", 200), ("false", 0)] {
            let rig = Rig::start(docker, "lct-tty", io, &[("ALLOW_TTY", allow)]);
            let _terminal = rig.run(&["-t"], &["lines", "200", "--prefix", "@tty"]);
            let limit = if lines > 0 { LONG } else { Duration::from_secs(2) };
            rig.wait_for(200, limit);
            let received = rig.received();
            assert_eq!(memchr::memmem::find_iter(&received, b"\r\n").count(), lines);
            assert_eq!(memchr::memchr_iter(b'\n', &received).count(), lines, "{io}");
        }
    });
}

#[test]
fn a_container_without_a_log_is_followed_with_every_driver_allowed() {
    on_some_driver(|docker, io| {
        let rig = Rig::start(docker, "lct-none", io, &[("LOG_DRIVERS", "all")]);
        // Attach is its only door: lines from before attach is in place are nowhere to be had.
        let args = ["lines", "2000", "--prefix", "@none", "--sleep-first", "1500"];
        let _silent = rig.run(&["--log-driver", "none"], &args);
        assert!(rig.wait_for(2000, LONG), "{} lines came", rig.sink.newlines());
        let totals = rig.account(&[("@none".into(), Run::of(2000))]);
        assert_perfect("log driver none", io, &totals);
    });
}

#[test]
fn a_driver_that_is_not_listed_is_not_followed() {
    on_some_driver(|docker, io| {
        let rig = Rig::start(docker, "lct-unlisted", io, &[("LOG_DRIVERS", "local")]);
        let totals = {
            let _json = rig.run(&[], &["lines", "50", "--prefix", "@json", "--sleep-last", "2000"]);
            let local = ["--log-driver", "local"];
            let _local = rig.run(&local, &["lines", "50", "--prefix", "@local"]);
            assert!(rig.wait_for(50, LONG));
            std::thread::sleep(Duration::from_secs(1));
            rig.account(&[("@local".into(), Run::of(50))])
        };
        assert_perfect("only the driver local", io, &totals);
    });
}

#[test]
fn very_short_containers_are_delivered_whole() {
    let count = if full() { 200 } else { 20 };
    on_some_driver(|docker, io| {
        let rig = Rig::start(docker, "lct-short", io, &[]);
        let prefixes: Vec<String> = (0..count).map(|i| format!("@short{i}")).collect();
        let _containers = in_parallel(count, |i| {
            let options = ["--stderr-every", "4", "--bytes", "40"];
            let mut args = vec!["lines", "10", "--prefix", &prefixes[i]];
            args.extend(options);
            rig.run(&[], &args)
        });
        let run = Run { stderr_every: 4, bytes: 40, ..Run::of(10) };
        let expected: Vec<_> = prefixes.iter().map(|p| (p.clone(), run)).collect();
        let totals = rig.account(&expected);
        assert_perfect(&format!("{count} containers of 10 lines"), io, &totals);
    });
}

#[test]
fn fifty_containers_at_once() {
    on_some_driver(|docker, io| {
        let rig = Rig::start(docker, "lct-fifty", io, &[("SHARDS", "1")]);
        let lines = if full() { 20_000 } else { 1000 };
        let prefixes: Vec<String> = (0..50).map(|i| format!("@c{i:02}")).collect();
        let _containers = in_parallel(50, |i| {
            let lines = lines.to_string();
            let mut args = vec!["lines", &lines, "--prefix", &prefixes[i]];
            args.extend(["--stderr-every", "5", "--sleep-first", "500"]);
            rig.run(&[], &args)
        });
        let run = Run { stderr_every: 5, ..Run::of(lines) };
        let expected: Vec<_> = prefixes.iter().map(|p| (p.clone(), run)).collect();
        assert_perfect("50 containers at once", io, &rig.account(&expected));
    });
}

#[test]
fn long_lines_and_binary_bytes_come_through_unchanged() {
    on_some_driver(|docker, io| {
        let max_line = [("MAX_LINE", "4MiB")];
        for bytes in [20_000usize, 2_000_000] {
            let rig = Rig::start(docker, "lct-long", io, &max_line);
            let before = rig.sink.total();
            let _long = rig.run(&[], &["long", &bytes.to_string()]);
            let came = wait_until(LONG, || rig.sink.total() >= before + bytes);
            let received = rig.received();
            assert!(came && received.len() == bytes, "{} of {bytes} bytes", received.len());
            let pattern = b"abcdefghijklmnopqrstuvwxyz0123456789".iter().cycle();
            assert!(received[..bytes - 1].iter().eq(pattern.take(bytes - 1)), "{io}: damaged");
        }
        let rig = Rig::start(docker, "lct-binary", io, &[]);
        // json-file would keep U+FFFD for what is not UTF-8, and lines may come from the log.
        let _binary = rig.run(&["--log-driver", "local"], &["binary"]);
        let mut expected = b"before\n".to_vec();
        expected.extend((0..=255u8).filter(|&b| b != b'\n'));
        expected.extend_from_slice(b"\nafter\n");
        rig.wait_for(3, LONG);
        let received = rig.received();
        assert!(received == expected, "{io}: {}", readable(&received));
    });
}

#[test]
fn a_line_beyond_max_line_is_cut_and_counted_not_lost() {
    on_some_driver(|docker, io| {
        let rig = Rig::start(docker, "lct-cut", io, &[("MAX_LINE", "64KiB")]);
        let before = rig.sink.total();
        let _long = rig.run(&[], &["long", "1000000"]);
        let came = wait_until(LONG, || rig.sink.total() >= before + 1_000_000);
        assert!(came, "{} bytes", rig.sink.total() - before);
        assert_eq!(rig.program.metric("logchute_cut_lines"), 1.0, "{}", rig.program.metrics());
        let received = rig.received();
        let lines: Vec<_> = received.split_inclusive(|&b| b == b'\n').collect();
        assert!(lines.len() >= 1_000_000 / 65_536, "{} parts", lines.len());
        // The parts bear marks; what the line itself said is all there.
        assert!(received.len() >= 1_000_000 && lines.iter().all(|l| l.len() <= 65_536 + 100));
    });
}

#[test]
fn an_unfinished_last_line_is_delivered_at_the_end() {
    on_some_driver(|docker, io| {
        let rig = Rig::start(docker, "lct-last", io, &[]);
        let args = ["lines", "10", "--prefix", "@last", "--unterminated"];
        let _container = rig.run(&[], &args);
        assert!(rig.wait_for(10, LONG), "{} lines", rig.sink.newlines());
        assert_perfect("unterminated", io, &rig.account(&[("@last".into(), Run::of(10))]));
    });
}

#[test]
fn a_log_that_rotates_all_the_while_loses_nothing() {
    let lines: u64 = if full() { 1_000_000 } else { 100_000 };
    on_some_driver(|docker, io| {
        let rig = Rig::start(docker, "lct-rotate", io, &[]);
        let rotating = ["--log-opt", "max-size=100k", "--log-opt", "max-file=2"];
        let options = ["--log-driver", "json-file"].into_iter().chain(rotating);
        let lines_text = lines.to_string();
        // The lines of the first moments are in the log still when attach is in place.
        let args = ["lines", &lines_text, "--prefix", "@rotate", "--sleep-first", "1000"];
        let _container = rig.run(&options.collect::<Vec<_>>(), &args);
        let totals = rig.account(&[("@rotate".into(), Run::of(lines))]);
        assert_perfect("rotating log", io, &totals);
    });
}

/// Many containers, numbered lines, started while the program runs, over several shards.
#[test]
fn twenty_busy_containers_over_all_shards() {
    let (containers, lines) = if full() { (20, 100_000u64) } else { (10, 10_000) };
    on_some_driver(|docker, io| {
        let rig = Rig::start(docker, "lct-busy", io, &[("SHARDS", "2")]);
        let prefixes: Vec<String> = (0..containers).map(|i| format!("@busy{i}")).collect();
        let _containers = in_parallel(containers, |i| {
            let lines = lines.to_string();
            rig.run(&[], &["lines", &lines, "--prefix", &prefixes[i], "--stderr-every", "10"])
        });
        let run = Run { stderr_every: 10, ..Run::of(lines) };
        let expected: Vec<_> = prefixes.iter().map(|p| (p.clone(), run)).collect();
        assert_perfect("busy containers", io, &rig.account(&expected));
    });
}
