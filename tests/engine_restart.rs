//! The daemon goes away in the middle and comes back: a second daemon of our own, restarted.

use std::time::Duration;

mod support;

use support::checker::{Run, Totals};
use support::docker::{Container, SecondDaemon};
use support::rig::Rig;
use support::{full, say, some_drivers, wait_until};

const LONG: Duration = Duration::from_secs(60);

/// A rig on the second daemon, with a container that writes a line each millisecond.
fn begin(second: &SecondDaemon, io: &str, lines: u64) -> (Rig, Container) {
    let rig = Rig::start(&second.docker, "lct-restart", io, &[]);
    let (lines, every) = (lines.to_string(), ["--delay-us", "1000", "--sleep-first", "1000"]);
    let mut args = vec!["lines", &lines, "--prefix", "@live"];
    args.extend(every);
    let container = rig.run(&[], &args);
    assert!(rig.wait_for(500, LONG), "{} lines", rig.sink.newlines());
    (rig, container)
}

/// With live-restore the container lives on, and the daemon's file has what attach missed.
#[test]
fn the_daemon_restarts_and_its_containers_live_on() {
    for io in some_drivers() {
        let Some(mut second) = SecondDaemon::start(true) else { return };
        let lines = if full() { 60_000 } else { 12_000 };
        let (rig, container) = begin(&second, io, lines);
        second.stop();
        std::thread::sleep(Duration::from_secs(2));
        second.launch();
        assert_eq!(container.wait(Duration::from_secs(150)), Some(0));
        // What the daemon itself lost on its way to the log is beyond reach; and where that is what
        // we had last, nothing but the time says how far we came.
        let (logged, _) = second.docker.logs(&container.id);
        let logged = memchr::memchr_iter(b'\n', &logged).count() as u64;
        let totals = rig.account(&[("@live".into(), Run::of(lines))]);
        say(&format!("daemon restarted, live-restore ({io}): {totals}; {logged} in its log"));
        let duplicated = if logged < lines { 0 } else { totals.duplicated };
        let beyond = Totals { lost: 0, duplicated, gaps: Vec::new(), ..totals.clone() };
        assert!(totals.lost <= lines - logged && beyond.perfect(), "{io}: {totals}");
    }
}

/// Without live-restore the daemon takes its containers along; it is followed again afterwards.
#[test]
fn the_daemon_restarts_and_is_followed_again() {
    for io in some_drivers() {
        let Some(mut second) = SecondDaemon::start(false) else { return };
        let (rig, first) = begin(&second, io, 1_000_000);
        for kill in [false, true] {
            if kill {
                second.kill();
            } else {
                second.stop();
            }
            std::thread::sleep(Duration::from_secs(2));
            second.launch();
        }
        let before = rig.received();
        let of_first = memchr::memmem::find_iter(&before, b"@live ").count() as u64;
        assert!(of_first >= 500);
        let _second = rig.run(&[], &["lines", "2000", "--prefix", "@again"]);
        let again = || memchr::memmem::find_iter(&rig.received(), b"@again ").count() == 2000;
        assert!(wait_until(LONG, again), "after the restart: {}", rig.program.stderr());
        drop(first);
        // What the first wrote until its daemon took it along is there once, without a gap.
        let totals =
            rig.account(&[("@live".into(), Run::of(of_first)), ("@again".into(), Run::of(2000))]);
        say(&format!("daemon restarted and killed ({io}): {totals}"));
        assert!(totals.perfect(), "{io}: {totals}");
    }
}
