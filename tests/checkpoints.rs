//! What a restart of the program costs with `STATE_DIR`: a scripted engine that goes on while the
//! program is away, and an account of every line.

use std::time::Duration;

mod support;

use logchute::shard::positions::Positions;
use support::checker::Totals;
use support::engine::{Stream, inspect};
use support::logchute::Logchute;
use support::receivers::StreamSink;
use support::scene::{ID, OTHER, SOON, Scene};
use support::{on_each_driver, say, wait_until};
use tempfile::TempDir;

/// A scene whose program keeps its places in a folder of its own.
fn scene(io: &str, options: &[&str]) -> (Scene, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(io, options);
    scene.setup = scene.setup.env("STATE_DIR", &folder.path().display().to_string());
    (scene, folder)
}

fn stop(mut program: Logchute) -> String {
    let ended = program.stop();
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    ended.stderr
}

/// What the files say now.
fn book(folder: &TempDir) -> String {
    let path = |name: &str| folder.path().join(name);
    let read = || {
        // A journal that is about the next whole file says nothing of this one.
        let whole = std::fs::read_to_string(path("positions.json")).ok()?;
        let journal = std::fs::read(path("positions.journal")).unwrap_or_default();
        Some(format!("{:?}", Positions::parse(&whole, &journal, 0).unwrap()))
    };
    read().unwrap_or_default()
}

/// An orderly restart: neither lost nor doubled, whatever happened meanwhile.
#[test]
fn an_orderly_restart_costs_nothing() {
    on_each_driver(|io| {
        let (scene, _folder) = scene(io, &["", "?filter.match=@"]);
        let program = scene.start();
        scene.write(ID, "@web", 1, 1000);
        (0..2).for_each(|sink| scene.wait(sink, 1000, &program));
        stop(program);
        scene.write(ID, "@web", 1001, 2000);
        // One container comes and goes in the meantime; the other is in its next run.
        scene.engine.add(inspect(OTHER, "other"), false);
        scene.engine.start(OTHER, Some(78));
        scene.write(OTHER, "@other", 1, 500);
        scene.engine.die(OTHER);
        scene.engine.die(ID);
        scene.engine.start(ID, Some(79));
        scene.write(ID, "@web", 2001, 2500);
        let program = scene.start();
        scene.write(ID, "@web", 2501, 3000);
        (0..2).for_each(|sink| scene.wait(sink, 3500, &program));
        let said = stop(program);
        // Once more, with nothing to do.
        stop(scene.start());
        for sink in 0..2 {
            let totals = scene.totals(sink, &[("@web", 3000), ("@other", 500)]);
            assert!(totals.perfect(), "{io}, receiver {sink}: {totals}: {said}");
        }
    });
}

/// What could not be delivered at the end is read from the logs again.
#[test]
fn what_was_held_at_the_end_is_delivered_after_the_restart() {
    on_each_driver(|io| {
        let (mut scene, _folder) = scene(io, &["", ""]);
        scene.setup = scene.setup.env("DRAIN_TIMEOUT", "300ms");
        let program = scene.start();
        scene.write(ID, "@web", 1, 300);
        scene.wait(0, 300, &program);
        scene.wait(1, 300, &program);
        // Soon after that there is a place behind these lines, the first ones.
        std::thread::sleep(Duration::from_millis(500));
        scene.sinks[1].down();
        scene.write(ID, "@web", 301, 3000);
        scene.wait(0, 3000, &program);
        stop(program);
        scene.sinks[1].up();
        let program = scene.start();
        scene.wait(1, 3000, &program);
        let said = stop(program);
        for sink in 0..2 {
            let totals = scene.totals(sink, &[("@web", 3000)]);
            assert!(totals.perfect(), "{io}, receiver {sink}: {totals}: {said}");
        }
    });
}

/// What an unknown container wrote while the program was away, and was read and not delivered by
/// the next run, is read by the one after it.
#[test]
fn lines_of_new_containers_wait_for_a_receiver_over_several_runs() {
    on_each_driver(|io| {
        let (mut scene, folder) = scene(io, &[""]);
        scene.setup = scene.setup.env("DRAIN_TIMEOUT", "300ms");
        let program = scene.start();
        scene.write(ID, "@web", 1, 100);
        scene.wait(0, 100, &program);
        stop(program);
        scene.sinks[0].down();
        scene.engine.add(inspect(OTHER, "other"), false);
        scene.engine.start(OTHER, Some(78));
        scene.write(OTHER, "@other", 1, 500);
        // Longer ago than the span in which the program may still get to hear of containers.
        std::thread::sleep(Duration::from_secs(1));
        let program = scene.start();
        let taken = || program.metric("logchute_lines_received") as u64 == 500;
        assert!(wait_until(SOON, taken), "{}", program.stderr());
        assert!(wait_until(SOON, || book(&folder).contains(OTHER)), "{}", program.stderr());
        stop(program);
        scene.sinks[0].up();
        let program = scene.start();
        scene.wait(0, 600, &program);
        let said = stop(program);
        let totals = scene.totals(0, &[("@web", 100), ("@other", 500)]);
        assert!(totals.perfect(), "{io}: {totals}: {said}");
    });
}

/// A container that is gone has no next run: its last line is a line.
#[test]
fn a_container_that_is_gone_before_that_is_told_gives_its_last_line() {
    on_each_driver(|io| {
        let (scene, folder) = scene(io, &[""]);
        let program = scene.start();
        scene.engine.add(inspect(OTHER, "other"), false);
        scene.engine.start(OTHER, Some(78));
        assert!(scene.engine.wait_followed(&[OTHER], SOON), "{}", program.stderr());
        scene.engine.write(OTHER, Stream::Out, b"@other has no end");
        assert!(wait_until(SOON, || book(&folder).contains(OTHER)), "{}", program.stderr());
        scene.engine.vanish(OTHER);
        scene.wait(0, 1, &program);
        assert_eq!(scene.sinks[0].received().concat(), b"@other has no end\n");
        assert!(wait_until(SOON, || !book(&folder).contains(OTHER)), "{}", book(&folder));
        stop(program);
    });
}

/// Nor does its place come back when its last lines are delivered.
#[test]
fn a_container_that_is_removed_is_forgotten_for_good() {
    on_each_driver(|io| {
        let (mut scene, folder) = scene(io, &[""]);
        let program = scene.start();
        scene.sinks[0].down();
        scene.engine.add(inspect(OTHER, "other"), false);
        scene.engine.start(OTHER, Some(78));
        assert!(scene.engine.wait_followed(&[OTHER], SOON), "{}", program.stderr());
        scene.write(OTHER, "@other", 1, 10);
        assert!(wait_until(SOON, || book(&folder).contains(OTHER)), "{}", program.stderr());
        // Its place is noted many times a second, and waits for the receiver.
        std::thread::sleep(Duration::from_millis(500));
        scene.engine.die(OTHER);
        scene.engine.destroy(OTHER);
        assert!(wait_until(SOON, || !book(&folder).contains(OTHER)), "{}", book(&folder));
        scene.sinks[0].up();
        scene.wait(0, 10, &program);
        stop(program);
        assert!(!book(&folder).contains(OTHER), "{io}: {}", book(&folder));
    });
}

/// Lines that are being joined are part of no place: of a container that never pauses there is a
/// place all the same, and an orderly end gives out what is joined by then.
#[test]
fn a_route_that_joins_lines_has_places_too() {
    on_each_driver(|io| {
        let (mut scene, folder) = scene(io, &[]);
        let sink = StreamSink::tcp();
        let uri = format!("multiline+raw+tcp://{}", sink.address());
        scene.setup = scene.setup.arg(&uri).env("MULTILINE_PATTERN", "^@");
        scene.sinks.push(sink);
        let program = scene.start();
        let noted = std::thread::scope(|scope| {
            scope.spawn(|| scene.write_paced(ID, "@web", 400, 100));
            wait_until(Duration::from_millis(3500), || book(&folder).contains("@web"))
        });
        assert!(noted, "no place in 3.5 s ({io}): {}", book(&folder));
        stop(program);
        let program = scene.start();
        scene.write_line(ID, "@web", 401);
        scene.wait(0, 401, &program);
        let said = stop(program);
        let totals = scene.totals(0, &[("@web", 401)]);
        assert!(totals.perfect(), "{io}: {totals}: {said}");
    });
}

/// Routes that only their secrets tell apart, or nothing, have places of their own.
#[test]
fn routes_that_look_alike_have_places_of_their_own() {
    let (mut scene, folder) = scene("poll", &[""]);
    scene.setup = scene.setup.arg(&format!("raw+tcp://{}", scene.sinks[0].address()));
    let program = scene.start();
    scene.write(ID, "@web", 1, 10);
    scene.wait(0, 20, &program);
    stop(program);
    let whole = std::fs::read_to_string(folder.path().join("positions.json")).unwrap();
    let whole: serde_json::Value = serde_json::from_str(&whole).unwrap();
    assert_eq!(whole["containers"][ID].as_object().unwrap().len(), 2, "{whole}");
}

/// A program that is killed loses nothing, and sends again what came in its last moments at most:
/// some hundredths of a second, and what it waits for a processor that it shares with other tests.
#[test]
fn a_program_that_is_killed_loses_nothing() {
    on_each_driver(|io| {
        let (scene, _folder) = scene(io, &[""]);
        let mut program = scene.start();
        let lines = 24_000;
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| scene.write_paced(ID, "@web", lines, 3000));
            for pause in [4000, 2000] {
                std::thread::sleep(Duration::from_millis(pause));
                program.kill();
                std::thread::sleep(Duration::from_millis(300));
                program = scene.start();
            }
            writer.join().unwrap();
        });
        let last = format!("@web {lines:08} ");
        let has_last = || scene.sinks[0].received().concat();
        let all = || memchr::memmem::find(&has_last(), last.as_bytes()).is_some();
        assert!(wait_until(SOON, all), "{}", program.stderr());
        stop(program);
        let totals = scene.totals(0, &[("@web", lines)]);
        say(&format!("killed twice ({io}): {totals}"));
        let Totals { lost, damaged, unknown, duplicated, .. } = totals;
        // A line that was being written when the program was killed has no end.
        assert!((lost, unknown) == (0, 0) && damaged <= 2, "{io}: {totals}");
        assert!(duplicated < 2 * 1200, "{io}: {totals}");
    });
}

/// What is delivered of what was written meanwhile is noted at once, too: a program that is killed
/// again and again, soon after each start, sends little again.
#[test]
fn a_program_that_lives_briefly_notes_what_it_delivers() {
    on_each_driver(|io| {
        let (scene, _folder) = scene(io, &[""]);
        let (runs, lines) = (5, 2000);
        for run in 1..=runs {
            let mut program = scene.start();
            scene.write(ID, "@web", (run - 1) * lines + 1, run * lines - lines / 2);
            scene.wait(0, run * lines - lines / 2, &program);
            std::thread::sleep(Duration::from_millis(200));
            program.kill();
            scene.write(ID, "@web", run * lines - lines / 2 + 1, run * lines);
        }
        let program = scene.start();
        scene.wait(0, runs * lines, &program);
        let said = stop(program);
        let totals = scene.totals(0, &[("@web", runs * lines)]);
        assert!(totals.perfect(), "{io}: {totals}: {said}");
    });
}
