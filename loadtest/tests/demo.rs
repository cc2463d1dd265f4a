//! The demo from end to end: everything that is to be seen is seen, and a Ctrl-C ends it in order.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const LOADTEST: &str = env!("CARGO_BIN_EXE_loadtest");

fn demo(args: &[&str]) -> Child {
    let mut command = Command::new(LOADTEST);
    command.arg("demo").args(args).stdout(Stdio::piped()).stdin(Stdio::null());
    let logchute = Path::new(LOADTEST).with_file_name("logchute");
    // Otherwise the demo builds it.
    if logchute.exists() {
        command.arg("--logchute").arg(logchute);
    }
    command.spawn().unwrap()
}

#[test]
fn every_receiver_shows_what_it_gets() {
    let output = demo(&["--seconds", "5"]).wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    let shown = |pane: &str, part: &str| {
        let begin = format!("{pane:>8} │ ");
        text.lines().any(|line| line.starts_with(&begin) && line.contains(part))
    };
    for (pane, part) in [
        ("console", "web     | 10.0.3.10 - - ["),
        ("console", "db      | "),
        ("console", "worker  | Traceback (most recent call last):"),
        ("console", "backup  | backup of shop is complete"),
        ("syslog", " 5f0c1a7be9d2 web 4242 - - 10.0.3.10 - - ["),
        ("syslog", "<11>1 "),
        ("syslog", " backup 4711 - - backup of shop begins"),
        ("slack", "┌─ /worker"),
        ("slack", "│  ERROR mail 1043 failed: connection to smtp.example.com:25 refused"),
        ("slack", "└─ danger"),
        ("logchute", "route console://"),
    ] {
        assert!(shown(pane, part), "{pane} does not show {part:?}:\n{text}");
    }
    assert!(!shown("slack", "Traceback") && !shown("slack", "INFO"), "{text}");
    // logchute's totals, of each route.
    let totals: Vec<_> = text.lines().filter(|line| line.contains(" lines received = ")).collect();
    assert_eq!(totals.len(), 3, "{text}");
    assert!(totals.iter().all(|total| total.ends_with(" 0 dropped + 0 held")), "{totals:?}");
}

#[test]
fn ctrl_c_ends_it_with_totals() {
    let mut demo = demo(&[]);
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.by_ref().any(|line| line.contains("└─ danger")), "no message for Slack");
    kill(Pid::from_raw(demo.id() as i32), Signal::SIGINT).unwrap();
    let rest: Vec<String> = lines.collect();
    assert!(demo.wait().unwrap().success(), "{rest:?}");
    let totals = rest.iter().filter(|line| line.contains(" lines received = ")).count();
    assert_eq!(totals, 3, "{rest:?}");
}
