//! `--engine real` on the Docker Engine of this machine, with few lines: every line is accounted
//! for, and nothing is left behind. Without an engine it is skipped, loudly; on CI it fails.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use loadtest::report::Report;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const LOADTEST: &str = env!("CARGO_BIN_EXE_loadtest");

fn docker(args: &[&str]) -> Option<String> {
    let output = Command::new("docker").args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn has_engine() -> bool {
    let is_there = docker(&["version"]).is_some();
    assert!(is_there || std::env::var("CI").as_deref() != Ok("true"), "CI lacks a Docker Engine");
    if !is_there {
        let _ = writeln!(std::io::stderr(), "\n*** SKIPPED: no Docker Engine answers ***\n");
    }
    is_there
}

fn play(out: &Path, args: &[&str]) -> Child {
    let mut command = Command::new(LOADTEST);
    command.args(["--engine", "real", "--runs", "1", "--out"]).arg(out).args(args);
    let logchute = Path::new(LOADTEST).with_file_name("logchute");
    if logchute.exists() {
        command.arg("--logchute").arg(logchute);
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// What a session has on the engine.
fn left(session: u32) -> (String, String) {
    let label = format!("label=logchute-loadtest={session}");
    let image = format!("logchute-loadtest:{session}");
    let containers = docker(&["ps", "-aq", "--filter", &label]).unwrap();
    (containers, docker(&["image", "ls", "-q", &image]).unwrap())
}

#[test]
fn every_line_is_accounted_for_and_nothing_is_left() {
    if !has_engine() {
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let scenarios = ["--scenario", "real-attach-4-linewise", "--scenario", "real-logs-backlog"];
    let session = play(out.path(), &[&scenarios[..], &["--lines", "20000"]].concat());
    let pid = session.id();
    let output = session.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert_eq!(left(pid), (String::new(), String::new()));
    let report = std::fs::read(out.path().join("report.json")).unwrap();
    let report: Report = serde_json::from_slice(&report).unwrap();
    let skipped = report.skipped.iter().filter(|skipped| skipped.what.starts_with("real"));
    assert_eq!(skipped.count(), 0, "{:?}", report.skipped);
    for (scenario, forwarder) in [
        ("real-attach-4-linewise", "relay"),
        ("real-attach-4-linewise", "logchute"),
        ("real-logs-backlog", "logchute"),
    ] {
        let row = report.row(scenario, forwarder).unwrap();
        let checked = row.checked.unwrap();
        assert_eq!((checked.expected, checked.delivered), (20_000, 20_000), "{row:?}");
        assert_eq!((checked.lost, checked.duplicated), (0, 0), "{row:?}");
        assert!(row.cpu_s_per_million_lines.unwrap().median > 0.0, "{row:?}");
    }
    assert!(report.row("real-logs-backlog", "reader").is_some());
    let measured = report.targets.iter().filter(|target| target.measured.is_some()).count();
    assert!(measured >= 2, "{:?}", report.targets);
    assert!(out.path().join("chart.png").exists());
}

#[test]
fn an_interrupted_session_removes_what_it_made() {
    if !has_engine() {
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let mut session = play(out.path(), &["--scenario", "real-attach-1-linewise"]);
    let begun = Instant::now();
    while left(session.id()).0.is_empty() && begun.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(session.try_wait().unwrap().is_none(), "it ended by itself");
    kill(Pid::from_raw(session.id() as i32), Signal::SIGINT).unwrap();
    let pid = session.id();
    let output = session.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && stderr.contains("interrupted"), "{stderr}");
    assert_eq!(left(pid), (String::new(), String::new()));
}
