//! The spool: a scripted engine, the real program, receivers that are away, disks that are full, and
//! an account of every line. What the files have in them is the business of `spool::segment`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};

mod support;

use support::checker::Totals;
use support::engine::inspect;
use support::logchute::{Logchute, end};
use support::pki::Pki;
use support::process::is_root;
use support::receivers::StreamSink;
use support::scene::{self, ID, LINE, OTHER, SOON};
use support::syslogd::Syslogd;
use support::{on_each_driver, say, skipped, wait_until};

/// Lines that memory has room for, about, in these tests.
const BUFFER: u64 = 64 * 1024 / LINE as u64;

/// The containers `web` and `db`, a receiver, and a folder for spools.
struct Scene {
    stage: scene::Scene,
    sink: StreamSink,
    folder: tempfile::TempDir,
}

impl Scene {
    fn new(io: &str) -> Scene {
        let stage = scene::Scene::new(io, &[]);
        stage.engine.add(inspect(OTHER, "db"), true);
        Scene { stage, sink: StreamSink::tcp(), folder: tempfile::tempdir().unwrap() }
    }

    fn spool(&self) -> PathBuf {
        self.folder.path().join("spool")
    }

    /// Starts the program with a route to the receiver, with its spool and these further options.
    fn start(&self, options: &str, env: &[(&str, &str)]) -> Logchute {
        self.start_to(&format!("raw+tcp://{}", self.sink.address()), options, env)
    }

    fn start_to(&self, receiver: &str, options: &str, env: &[(&str, &str)]) -> Logchute {
        let uri = format!("{receiver}?spool={}{options}", self.spool().display());
        let mut setup = self.stage.setup.clone().arg(&uri);
        for (name, value) in env {
            setup = setup.env(name, value);
        }
        let attaches = || [ID, OTHER].map(|id| self.stage.engine.attaches(id));
        let before = attaches();
        let program = setup.start();
        // The streams of one that was killed may be there yet.
        let anew = || attaches().iter().zip(before).all(|(now, before)| *now > before);
        assert!(wait_until(SOON, anew), "not attached: {}", program.stderr());
        let followed = self.stage.engine.wait_followed(&[ID, OTHER], SOON);
        assert!(followed, "not followed: {}", program.stderr());
        program
    }

    fn wait(&self, lines: u64, program: &Logchute) {
        let all = wait_until(SOON, || self.sink.newlines() as u64 >= lines);
        let has = self.sink.newlines();
        assert!(all, "{has} of {lines} came: {}\n{}", program.stderr(), figures(program));
    }

    /// What became of lines `1..=lines` of each container.
    fn totals(&self, containers: &[(&str, u64)]) -> Totals {
        scene::totals(&self.sink.received().concat(), containers)
    }

    /// The files of all spools.
    fn files(&self) -> Vec<PathBuf> {
        let folders = std::fs::read_dir(self.spool()).unwrap().map(|folder| folder.unwrap().path());
        let files = folders.flat_map(|folder| std::fs::read_dir(folder).unwrap());
        files.map(|file| file.unwrap().path()).collect()
    }
}

/// The metrics that matter here.
fn figures(program: &Logchute) -> String {
    let text = program.metrics();
    let wanted =
        |line: &&str| line.starts_with("logchute_lines_") || line.starts_with("logchute_spool_");
    let lines: Vec<&str> =
        text.lines().filter(wanted).filter(|line| !line.ends_with(" 0")).collect();
    lines.join("\n")
}

/// Waits until metric `name` is at least `least`.
fn wait_metric(program: &Logchute, name: &str, least: u64) {
    let there = wait_until(SOON, || program.metric(name) as u64 >= least);
    assert!(there, "{name} < {least}: {}\n{}", program.stderr(), figures(program));
}

/// Every line that was received or found is delivered, dropped or held, and those held are at least
/// those in the spool.
fn assert_accounts(program: &Logchute) {
    let of = |name: &str| program.metric(&format!("logchute_{name}")) as u64;
    let came = of("lines_received") + of("spool_found");
    let gone = of("lines_delivered") + of("lines_filtered") + of("lines_dropped");
    assert!(came >= gone, "{}", figures(program));
    assert!(came - gone >= of("spool_records"), "{}", figures(program));
}

#[test]
fn ten_times_the_buffer_waits_on_the_disk_and_comes_in_order() {
    on_each_driver(|io| {
        let mut scene = Scene::new(io);
        let program = scene.start("", &[]);
        scene.stage.write(ID, "@web", 1, 100);
        scene.wait(100, &program);
        scene.sink.down();
        let last = 100 + 10 * BUFFER;
        scene.stage.write(ID, "@web", 101, last);
        wait_metric(&program, "logchute_lines_received", last);
        wait_metric(&program, "logchute_spool_records", 9 * BUFFER);
        assert_accounts(&program);
        assert_eq!(program.metric("logchute_containers_behind"), 0.0, "memory was no matter");
        scene.sink.up();
        // Lines go on coming meanwhile.
        scene.stage.write(ID, "@web", last + 1, last + BUFFER);
        scene.wait(last + BUFFER, &program);
        let none = || program.metric("logchute_spool_records") as u64 == 0;
        assert!(wait_until(SOON, none), "{}", figures(&program));
        assert_eq!(program.metric("logchute_spool_bytes"), 0.0);
        let [written, read] = ["written", "read"]
            .map(|what| program.metric(&format!("logchute_spool_{what}")) as u64);
        assert!(written == read && written >= 9 * BUFFER, "{written} {read}");
        assert_accounts(&program);
        let said = end(program);
        let totals = scene.totals(&[("@web", last + BUFFER)]);
        assert!(totals.perfect(), "{io}: {totals}: {said}");
        let left = scene.files();
        assert!(left.len() == 1 && left[0].ends_with("lock"), "{left:?}");
    });
}

/// Killed while the spool is being filled, and again while it is being emptied.
#[test]
fn what_is_in_the_spool_survives_a_kill() {
    on_each_driver(|io| {
        let mut scene = Scene::new(io);
        scene.sink.down();
        let mut program = scene.start("", &[]);
        let last = 10 * BUFFER;
        scene.stage.write(ID, "@web", 1, last);
        wait_metric(&program, "logchute_lines_received", last);
        let spooled = || {
            let [written, held] =
                ["written", "records"].map(|what| format!("logchute_spool_{what}"));
            (program.metric(&written) as u64, program.metric(&held) as u64)
        };
        assert!(wait_until(SOON, || spooled().0 >= 9 * BUFFER), "{}", figures(&program));
        // Nothing was delivered, so what was written are the first lines.
        let (kept, _) = spooled();
        program.process.kill();
        // The receiver takes a part, and the program is killed again.
        scene.sink.up();
        let mut program = scene.start("", &[]);
        assert_eq!(program.metric("logchute_spool_found") as u64, kept);
        assert!(program.stderr().contains(&format!("holds {kept} lines")), "{}", program.stderr());
        assert!(wait_until(SOON, || scene.sink.newlines() as u64 > kept / 3));
        program.process.kill();
        let before = scene.sink.newlines() as u64;
        let program = scene.start("", &[]);
        let found = program.metric("logchute_spool_found") as u64;
        // New lines come behind the old ones, though nothing keeps them waiting for the disk.
        scene.stage.write(ID, "@web", kept + 1, kept + 100);
        wait_metric(&program, "logchute_lines_delivered", found + 100);
        let said = end(program);
        let totals = scene.totals(&[("@web", kept + 100)]);
        assert_eq!((totals.lost, totals.damaged, totals.unknown), (0, 0, 0), "{totals}: {said}");
        // What was not acknowledged at the kill: as much as is sent ahead of it.
        let twice = (before + found).saturating_sub(kept);
        assert!(totals.duplicated <= twice, "{totals}, {twice}");
        assert!(totals.duplicated <= BUFFER / 2, "{totals}");
    });
}

/// With places (`STATE_DIR`) what was in memory at a kill is read from the log again, and what was in
/// the spool need not be.
#[test]
fn with_places_a_kill_costs_no_line() {
    on_each_driver(|io| {
        let mut scene = Scene::new(io);
        let state = scene.folder.path().join("state");
        std::fs::create_dir(&state).unwrap();
        let env = [("STATE_DIR", state.to_str().unwrap())];
        let mut program = scene.start("", &env);
        scene.stage.write(ID, "@web", 1, 100);
        scene.wait(100, &program);
        scene.sink.down();
        let last = 100 + 10 * BUFFER;
        for part in 0..5 {
            scene.stage.write(ID, "@web", 101 + part * 2 * BUFFER, 100 + (part + 1) * 2 * BUFFER);
            // Places are noted now and then, between reads.
            std::thread::sleep(Duration::from_millis(260));
        }
        wait_metric(&program, "logchute_spool_records", 8 * BUFFER);
        std::thread::sleep(Duration::from_millis(600));
        program.process.kill();
        scene.sink.up();
        let program = scene.start("", &env);
        let came = || scene.totals(&[("@web", last)]).lost == 0;
        assert!(wait_until(SOON, came), "{}\n{}", program.stderr(), figures(&program));
        let said = end(program);
        let totals = scene.totals(&[("@web", last)]);
        say(&format!("spool, killed, with places ({io}): {totals}"));
        assert_eq!((totals.lost, totals.damaged, totals.unknown), (0, 0, 0), "{totals}: {said}");
        assert_eq!(totals.reordered, 0, "{totals}: {said}");
    });
}

/// Ended in order with a spool of two shards and lines in memory, begun again with one.
#[test]
fn nothing_is_lost_or_doubled_over_an_orderly_end() {
    on_each_driver(|io| {
        let mut scene = Scene::new(io);
        let two = [("SHARDS", "2"), ("DRAIN_TIMEOUT", "100ms")];
        let program = scene.start("", &two);
        scene.stage.write(ID, "@web", 1, 50);
        scene.stage.write(OTHER, "@db", 1, 50);
        scene.wait(100, &program);
        scene.sink.down();
        scene.stage.write(ID, "@web", 51, 5 * BUFFER);
        scene.stage.write(OTHER, "@db", 51, 60);
        wait_metric(&program, "logchute_lines_received", 5 * BUFFER + 60);
        let said = end(program);
        let held = 5 * BUFFER - 50 + 10;
        assert!(
            said.contains(&format!(" 0 dropped + {held} held ({held} kept in the spool)")),
            "{said}"
        );
        // Again without a receiver: what is kept stays, and what comes is added.
        let program = scene.start("&buffer=128KiB", &two);
        assert_eq!(program.metric("logchute_spool_found") as u64, held, "{}", program.stderr());
        scene.stage.write(ID, "@web", 5 * BUFFER + 1, 6 * BUFFER);
        scene.stage.write(OTHER, "@db", 61, 70);
        wait_metric(&program, "logchute_lines_received", BUFFER + 10);
        assert_accounts(&program);
        let said = end(program);
        let held = held + BUFFER + 10;
        assert!(said.contains(&format!(" ({held} kept in the spool)")), "{said}");
        scene.sink.up();
        let program = scene.start("", &[]);
        scene.stage.write(ID, "@web", 6 * BUFFER + 1, 7 * BUFFER);
        scene.stage.write(OTHER, "@db", 71, 80);
        scene.wait(7 * BUFFER + 80, &program);
        let said = end(program);
        let totals = scene.totals(&[("@web", 7 * BUFFER), ("@db", 80)]);
        assert!(totals.perfect(), "{io}: {totals}: {said}");
        assert!(!said.contains("kept in the spool"), "{said}");
    });
}

/// rsyslog, which acknowledges each record, is away from the beginning to the end of one run and at
/// the beginning of the next.
#[test]
fn over_relp_what_waited_on_the_disk_comes_once() {
    let pki = Pki::new();
    on_each_driver(|io| {
        let Some(mut receiver) = Syslogd::start_relp(&pki) else { return };
        let relp = format!("relp://{}", receiver.relp_address(false));
        receiver.stop();
        let scene = Scene::new(io);
        let program = scene.start_to(&relp, "", &[("DRAIN_TIMEOUT", "100ms")]);
        let last = 10 * BUFFER;
        scene.stage.write(ID, "@web", 1, last / 2);
        wait_metric(&program, "logchute_lines_received", last / 2);
        end(program);
        let program = scene.start_to(&relp, "", &[]);
        scene.stage.write(ID, "@web", last / 2 + 1, last);
        wait_metric(&program, "logchute_lines_received", last / 2);
        receiver.launch();
        wait_metric(&program, "logchute_lines_delivered", last);
        let said = end(program);
        let totals = scene::totals(&receiver.records(), &[("@web", last)]);
        assert!(totals.perfect(), "{io}: {totals}: {said}");
    });
}

/// A bit of an older segment flips while nobody looks: its records are lost and counted, all others
/// come.
#[test]
fn a_damaged_file_costs_what_is_damaged_and_that_is_counted() {
    on_each_driver(|io| {
        let mut scene = Scene::new(io);
        scene.sink.down();
        let program = scene.start("&spool.max=1MiB", &[("DRAIN_TIMEOUT", "0s")]);
        let last = 7 * BUFFER;
        scene.stage.write(ID, "@web", 1, last);
        wait_metric(&program, "logchute_lines_received", last);
        end(program);
        let mut segments = scene.files();
        segments.retain(|path| path.extension().is_some_and(|end| end == "segment"));
        segments.sort();
        assert!(segments.len() > 3, "{segments:?}");
        let mut bytes = std::fs::read(&segments[1]).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&segments[1], bytes).unwrap();
        scene.sink.up();
        let program = scene.start("", &[]);
        let dropped = || program.metric("logchute_lines_dropped") as u64;
        let settled = || program.metric("logchute_lines_delivered") as u64 + dropped();
        assert!(wait_until(SOON, || settled() == last), "{}", figures(&program));
        let dropped = dropped();
        let said = end(program);
        assert!(said.contains("checksum"), "{said}");
        assert!(said.contains(&format!("{dropped} lines are damaged, and lost")), "{said}");
        let totals = scene.totals(&[("@web", last)]);
        assert_eq!((totals.lost, totals.damaged, totals.duplicated), (dropped, 0, 0), "{totals}");
        assert!(dropped > 0 && dropped < BUFFER, "{totals}");
        assert_eq!(totals.reordered, 0);
    });
}

/// A file system of so many bytes at `folder`, for this thread and what it starts alone: it is gone
/// with them.
fn small_disk(folder: &Path, bytes: usize) -> bool {
    if !is_root() || unshare(CloneFlags::CLONE_NEWNS).is_err() {
        return false;
    }
    std::fs::create_dir_all(folder).unwrap();
    let size = format!("size={bytes}");
    let mount = |args: &[&str], at: &Path| {
        Command::new("mount").args(args).arg(at).status().is_ok_and(|status| status.success())
    };
    mount(&["--make-rprivate"], Path::new("/"))
        && mount(&["-t", "tmpfs", "-o", &size, "spool"], folder)
}

/// On a thread of its own, for its mount namespace is.
fn with_small_disk(io: &str, policy: &str, test: impl Fn(&mut Scene, Logchute) + Sync) {
    std::thread::scope(|scope| {
        let run = || {
            let mut scene = Scene::new(io);
            if !small_disk(&scene.spool(), 512 * 1024) {
                return skipped("root, for a disk that is full");
            }
            let program = scene.start(&format!("&overflow={policy}"), &[]);
            test(&mut scene, program);
        };
        scope.spawn(run).join().unwrap();
    });
}

#[test]
fn a_full_disk_is_said_and_counted_and_used_again() {
    on_each_driver(|io| {
        with_small_disk(io, "drop-oldest", |scene, program| {
            scene.sink.down();
            let last = 20 * BUFFER;
            scene.stage.write(ID, "@web", 1, last);
            wait_metric(&program, "logchute_lines_received", last);
            wait_metric(&program, "logchute_spool_errors", 1);
            let dropped = program.metric("logchute_lines_dropped") as u64;
            // 512 KiB and the memory is what there is room for.
            assert!(dropped >= 20 * BUFFER - 10 * BUFFER, "{dropped}: {}", figures(&program));
            assert_accounts(&program);
            scene.sink.up();
            scene.wait(last - dropped, &program);
            // There is room again: when it is known that all is delivered, the files are gone.
            let empty = || program.metric("logchute_spool_bytes") as u64 == 0;
            assert!(wait_until(SOON, empty), "{}", figures(&program));
            let written = program.metric("logchute_spool_written") as u64;
            scene.sink.down();
            scene.stage.write(ID, "@web", last + 1, last + 4 * BUFFER);
            wait_metric(&program, "logchute_spool_written", written + 2 * BUFFER);
            scene.sink.up();
            scene.wait(last + 4 * BUFFER - dropped, &program);
            let said = end(program);
            let totals = scene.totals(&[("@web", last + 4 * BUFFER)]);
            assert_eq!((totals.lost, totals.damaged), (dropped, 0), "{io}: {totals}: {said}");
            assert_eq!(totals.reordered, 0, "{totals}");
            for what in ["cannot write: No space left on device", "takes lines again"] {
                assert!(said.contains(what), "{said}");
            }
        });
    });
}

#[test]
fn two_programs_do_not_share_a_spool() {
    let scene = Scene::new("poll");
    let _one = scene.start("", &[]);
    let uri = format!("raw+tcp://{}?spool={}", scene.sink.address(), scene.spool().display());
    let mut other = scene.stage.setup.clone().arg(&uri).no_wait().start();
    let ended = other.wait(SOON).unwrap();
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    let spool = format!("spool {}/raw+tcp-127.0.0.1", scene.spool().display());
    assert!(
        ended.stderr.contains(&spool) && ended.stderr.contains("is in use"),
        "{}",
        ended.stderr
    );
}

/// How fast a spool is read, against lines that come by memory alone.
#[test]
fn a_spool_is_replayed_at_about_line_rate() {
    let mut scene = Scene::new("poll");
    let program = scene.start("", &[]);
    let (direct, last) = (20_000, 80_000);
    let rate = |lines: u64, since: Instant| lines as f64 / since.elapsed().as_secs_f64();
    let started = Instant::now();
    scene.stage.write(ID, "@web", 1, direct);
    scene.wait(direct, &program);
    let directly = rate(direct, started);
    scene.sink.down();
    scene.stage.write(ID, "@web", direct + 1, last);
    wait_metric(&program, "logchute_lines_received", last);
    let held = program.metric("logchute_spool_records") as u64;
    assert!(held > (last - direct) / 2, "{held}");
    scene.sink.up();
    assert!(wait_until(SOON, || scene.sink.newlines() as u64 > direct), "{}", program.stderr());
    let started = Instant::now();
    scene.wait(last, &program);
    let replayed = rate(last - direct, started);
    say(&format!(
        "spool: {held} lines of {LINE} bytes replayed at {replayed:.0} lines/s; directly, as fast as \
         the test writes, {directly:.0} lines/s"
    ));
    end(program);
    let totals = scene.totals(&[("@web", last)]);
    assert!(totals.perfect(), "{totals}");
}
