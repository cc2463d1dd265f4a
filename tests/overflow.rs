//! What becomes of lines that a route has no room for, by its policy: a scripted engine, the real
//! program, receivers that are away, and an account of every line.

use serde_json::json;

mod support;

use support::engine::inspect;
use support::http::ask;
use support::logchute::{Logchute, end};
use support::receivers::StreamSink;
use support::scene::{ID, OTHER, SOON, Scene};
use support::{on_each_driver, wait_until};

/// Waits until so many containers wait in their logs.
fn wait_behind(program: &Logchute, containers: u64) {
    let behind = || program.metric("logchute_containers_behind") as u64 == containers;
    assert!(wait_until(SOON, behind), "not {containers} behind: {}", program.stderr());
}

/// Whether every line is delivered or dropped that was received.
fn nothing_held(program: &Logchute) -> bool {
    let [received, delivered, dropped] = ["received", "delivered", "dropped"]
        .map(|what| program.metric(&format!("logchute_lines_{what}")) as u64);
    received == delivered + dropped
}

#[test]
fn a_receiver_that_is_away_costs_no_line_and_holds_nobody_up() {
    on_each_driver(|io| {
        let mut scene = Scene::new(io, &[""]);
        let program = scene.start();
        scene.write(ID, "@web", 1, 100);
        scene.wait(0, 100, &program);
        scene.sinks[0].down();
        scene.write(ID, "@web", 101, 5000);
        wait_behind(&program, 1);
        // Nobody reads the stream, so nobody may be attached to it.
        assert!(wait_until(SOON, || scene.engine.attached(ID) == 0));
        scene.write(ID, "@web", 5001, 8000);
        assert_eq!(program.metric("logchute_lines_dropped"), 0.0);
        scene.sinks[0].up();
        scene.wait(0, 8000, &program);
        wait_behind(&program, 0);
        assert!(scene.engine.wait_followed(&[ID], SOON), "{}", program.stderr());
        scene.write(ID, "@web", 8001, 9000);
        scene.wait(0, 9000, &program);
        let said = end(program);
        let totals = scene.totals(0, &[("@web", 9000)]);
        assert!(totals.perfect(), "{io}: {totals}: {said}");
        assert!(said.contains("overflow=block"), "{said}");
    });
}

/// Two routes, one of them away: the other misses nothing and waits for nothing; afterwards one
/// stream serves both again.
#[test]
fn a_route_that_is_full_is_no_concern_of_the_others() {
    on_each_driver(|io| {
        let mut scene = Scene::new(io, &["", "?filter.match=@web"]);
        let program = scene.start();
        scene.sinks[0].down();
        scene.write(ID, "@web", 1, 5000);
        scene.wait(1, 5000, &program);
        wait_behind(&program, 1);
        assert_eq!(scene.engine.attached(ID), 1);
        scene.sinks[0].up();
        scene.wait(0, 5000, &program);
        wait_behind(&program, 0);
        scene.write(ID, "@web", 5001, 6000);
        let one = || scene.engine.attached(ID) == 1;
        assert!(wait_until(SOON, one), "not level again: {}", program.stderr());
        scene.write(ID, "@web", 6001, 7000);
        for sink in 0..2 {
            scene.wait(sink, 7000, &program);
        }
        let said = end(program);
        for sink in 0..2 {
            let totals = scene.totals(sink, &[("@web", 7000)]);
            assert!(totals.perfect(), "{io}, receiver {sink}: {totals}: {said}");
        }
    });
}

/// What happens to containers meanwhile: one ends, one restarts, one is new.
#[test]
fn containers_that_come_and_go_while_a_route_is_full_are_read_from_their_logs() {
    on_each_driver(|io| {
        let mut scene = Scene::new(io, &["", "?filter.match=@"]);
        let program = scene.start();
        scene.sinks[0].down();
        scene.write(ID, "@web", 1, 3000);
        wait_behind(&program, 1);
        scene.engine.die(ID);
        scene.engine.add(inspect(OTHER, "other"), false);
        scene.engine.start(OTHER, Some(78));
        scene.write(OTHER, "@other", 1, 2000);
        scene.engine.die(OTHER);
        scene.engine.start(ID, Some(79));
        assert!(scene.engine.wait_followed(&[ID], SOON), "{}", program.stderr());
        scene.write(ID, "@web", 3001, 4000);
        scene.wait(1, 6000, &program);
        scene.sinks[0].up();
        scene.wait(0, 6000, &program);
        wait_behind(&program, 0);
        let said = end(program);
        for sink in 0..2 {
            let totals = scene.totals(sink, &[("@web", 4000), ("@other", 2000)]);
            assert!(totals.perfect(), "{io}, receiver {sink}: {totals}: {said}");
        }
    });
}

/// The log of a container that is removed goes with it: that is a loss, and is said.
#[test]
fn a_container_that_is_removed_while_a_route_is_full_leaves_a_gap() {
    on_each_driver(|io| {
        let mut scene = Scene::new(io, &[""]);
        let program = scene.start();
        scene.sinks[0].down();
        scene.write(ID, "@web", 1, 3000);
        wait_behind(&program, 1);
        scene.engine.die(ID);
        scene.engine.destroy(ID);
        let gap = || program.metric("logchute_gaps") as u64 == 1;
        assert!(wait_until(SOON, gap), "no gap: {}", program.stderr());
        wait_behind(&program, 0);
        scene.sinks[0].up();
        let said = end(program);
        assert!(said.contains("may be lost: it was removed while it waited for room"), "{said}");
        let totals = scene.totals(0, &[("@web", 3000)]);
        assert!(totals.lost > 0 && totals.duplicated + totals.reordered == 0, "{io}: {totals}");
    });
}

/// Lines that the daemon has thrown away by the time there is room are lost, which is said with the
/// time that they are of; and where it has not, nothing is said.
#[test]
fn a_log_that_is_rotated_while_a_route_is_full_leaves_a_gap_that_is_said() {
    on_each_driver(|io| {
        for (kept, gaps) in [(1000, 1), (9000, 0)] {
            let mut scene = Scene::new(io, &[""]);
            let program = scene.start();
            scene.write(ID, "@web", 1, 100);
            scene.wait(0, 100, &program);
            scene.sinks[0].down();
            scene.write(ID, "@web", 101, 8000);
            wait_behind(&program, 1);
            scene.engine.rotate(ID, kept);
            scene.sinks[0].up();
            wait_behind(&program, 0);
            let last = || scene.sinks[0].received().concat();
            let all = || memchr::memmem::find(&last(), b"@web 00008000 ").is_some();
            assert!(wait_until(SOON, all), "{}", program.stderr());
            assert_eq!(program.metric("logchute_gaps"), f64::from(gaps), "{}", program.stderr());
            let said = end(program);
            assert_eq!(said.matches("its log has been rotated").count(), gaps as usize, "{said}");
            let totals = scene.totals(0, &[("@web", 8000)]);
            let lost = totals.lost > 1000 && totals.gaps.len() == gaps as usize;
            assert!(lost || gaps == 0 && totals.perfect(), "{io}: {totals}: {said}");
            assert!(totals.duplicated + totals.reordered == 0, "{io}: {totals}: {said}");
        }
    });
}

/// The same where it is the log that was being read when the route became full.
#[test]
fn a_log_that_is_rotated_while_its_reading_rests_leaves_a_gap_that_is_said() {
    on_each_driver(|io| {
        let mut scene = Scene::new(io, &[""]);
        let program = scene.start();
        scene.sinks[0].down();
        scene.engine.add(inspect(OTHER, "other"), false);
        scene.write(OTHER, "@other", 1, 5000);
        scene.engine.start(OTHER, Some(78));
        wait_behind(&program, 1);
        scene.engine.rotate(OTHER, 500);
        scene.sinks[0].up();
        wait_behind(&program, 0);
        assert_eq!(program.metric("logchute_gaps"), 1.0, "{}", program.stderr());
        assert!(end(program).contains("its log has been rotated"), "{io}");
    });
}

/// Where no log can be read later, the oldest lines go; so they do where that was asked for.
#[test]
fn the_oldest_go_where_nothing_can_be_read_again_and_where_that_was_asked_for() {
    on_each_driver(|io| {
        for (driver, option) in [("none", ""), ("json-file", "?overflow=drop-oldest")] {
            let mut scene = Scene::new(io, &[option]);
            let mut container = inspect(OTHER, "other");
            container["HostConfig"]["LogConfig"]["Type"] = json!(driver);
            scene.engine.add(container, true);
            scene.setup = scene.setup.env("LOG_DRIVERS", "all");
            let program = scene.start();
            assert!(scene.engine.wait_followed(&[OTHER], SOON), "{}", program.stderr());
            scene.sinks[0].down();
            scene.write(OTHER, "@other", 1, 5000);
            let taken = || program.metric("logchute_lines_received") as u64 == 5000;
            assert!(wait_until(SOON, taken), "{}", program.stderr());
            assert_eq!(scene.engine.attached(OTHER), 1);
            scene.sinks[0].up();
            assert!(wait_until(SOON, || nothing_held(&program)), "{}", program.stderr());
            let dropped = program.metric("logchute_lines_dropped") as u64;
            let said = end(program);
            let totals = scene.totals(0, &[("@other", 5000)]);
            assert!(dropped > 1000 && totals.lost == dropped, "{driver} ({io}): {totals}: {said}");
            let newest = totals.gaps.iter().all(|gap| !gap.ends_with("-5000"));
            assert!(newest && totals.duplicated + totals.reordered == 0, "{driver}: {totals}");
            assert!(said.contains("dropped the oldest"), "{said}");
        }
    });
}

#[test]
fn the_newest_go_where_that_was_asked_for() {
    on_each_driver(|io| {
        let mut scene = Scene::new(io, &["?overflow=drop-newest"]);
        let program = scene.start();
        scene.sinks[0].down();
        scene.write(ID, "@web", 1, 5000);
        let taken = || program.metric("logchute_lines_received") as u64 == 5000;
        assert!(wait_until(SOON, taken), "{}", program.stderr());
        scene.sinks[0].up();
        assert!(wait_until(SOON, || nothing_held(&program)), "{}", program.stderr());
        let dropped = program.metric("logchute_lines_dropped") as u64;
        let said = end(program);
        let totals = scene.totals(0, &[("@web", 5000)]);
        assert!(dropped > 1000 && totals.lost == dropped, "{io}: {totals}: {said}");
        let oldest = totals.gaps.iter().all(|gap| !gap.contains(" 1-"));
        assert!(oldest && totals.duplicated + totals.reordered == 0, "{io}: {totals}");
        assert!(said.contains("dropped the newest"), "{said}");
    });
}

/// A container that was there before us and has said nothing yet: what it wrote before we came is
/// wanted no more than if its route had room.
#[test]
fn a_silent_container_that_was_there_is_read_from_our_beginning_on() {
    on_each_driver(|io| {
        let mut scene = Scene::new(io, &[""]);
        scene.engine.add(inspect(OTHER, "other"), true);
        scene.write(OTHER, "@other", 1, 500);
        let program = scene.start();
        assert!(scene.engine.wait_followed(&[ID, OTHER], SOON), "{}", program.stderr());
        scene.sinks[0].down();
        scene.write(ID, "@web", 1, 3000);
        wait_behind(&program, 1);
        scene.write(OTHER, "@other", 501, 600);
        wait_behind(&program, 2);
        scene.sinks[0].up();
        wait_behind(&program, 0);
        scene.wait(0, 3100, &program);
        let said = end(program);
        let all = scene.sinks[0].received().concat();
        let old = memchr::memmem::find_iter(&all, b"@other 00000").count();
        assert_eq!(old, 100, "{io}: {said}");
    });
}

/// A route that is opened while all others are full gets lines at once.
#[test]
fn a_route_that_comes_while_all_others_are_full_waits_for_none() {
    on_each_driver(|io| {
        let mut scene = Scene::new(io, &[""]);
        scene.setup =
            scene.setup.env("ROUTES_API", "open").env("ROUTESPATH", "/there-is-no-such-directory");
        let program = scene.start();
        scene.sinks[0].down();
        scene.write(ID, "@web", 1, 3000);
        wait_behind(&program, 1);
        let late = StreamSink::tcp();
        let address = late.address().to_string();
        let route = json!({"id": "late", "adapter": "raw+tcp", "address": address}).to_string();
        let answer = ask(program.http(), "POST", "/routes", &[], &route).unwrap();
        assert_eq!(answer.status, 201, "{}", answer.body);
        assert!(scene.engine.wait_followed(&[ID], SOON), "{}", program.stderr());
        scene.write(ID, "@web", 3001, 3100);
        let has = || memchr::memmem::find(&late.received().concat(), b"@web 00003100 ").is_some();
        assert!(wait_until(SOON, has), "{}", program.stderr());
        scene.sinks[0].up();
        scene.wait(0, 3100, &program);
        end(program);
        assert!(scene.totals(0, &[("@web", 3100)]).perfect());
    });
}
