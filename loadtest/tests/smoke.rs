//! The harness from end to end: a second of lines through the relay, logchute and another program,
//! and the report that comes of it.

use std::path::Path;
use std::process::Command;

use loadtest::report::{Report, Row};

const LOADTEST: &str = env!("CARGO_BIN_EXE_loadtest");

/// Plays scenarios once, and reads the report.
fn play(args: &[&str]) -> (Report, String) {
    let out = tempfile::tempdir().unwrap();
    let mut command = Command::new(LOADTEST);
    command.args(["--quick", "--runs", "1", "--out"]).arg(out.path()).args(args);
    // Tests of the whole workspace have built it: with other features of what both depend on than
    // a build of it alone, which would take its time here.
    let logchute = Path::new(LOADTEST).with_file_name("logchute");
    if logchute.exists() && !args.contains(&"--logchute") {
        command.arg("--logchute").arg(logchute);
    }
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
    let json = std::fs::read(out.path().join("report.json")).unwrap();
    let markdown = std::fs::read_to_string(out.path().join("report.md")).unwrap();
    assert!(markdown.contains("## Throughput and CPU"), "{markdown}");
    (serde_json::from_slice(&json).unwrap(), stderr)
}

fn row<'a>(report: &'a Report, scenario: &str, forwarder: &str) -> &'a Row {
    let row = report.row(scenario, forwarder);
    row.unwrap_or_else(|| panic!("{scenario} {forwarder}: {:?}", report.skipped))
}

#[test]
fn every_line_arrives_and_every_figure_is_there() {
    // The relay once more, as a program that was named: its bytes hold the numbers of lines.
    let other = format!(
        "A=b sh -c 'exec {LOADTEST} relay --docker ${{DOCKER_HOST#unix://}} --tcp {{tcp}}'"
    );
    let (report, stderr) = play(&["--scenario", "format", "--forwarder", &other]);
    assert!(report.skipped.is_empty(), "{:?}", report.skipped);
    for forwarder in ["relay", "logchute", "sh"] {
        let row = row(&report, "format", forwarder);
        assert!(row.lines_per_second.median > 1000.0, "{row:?}");
        assert!(row.cpu_s_per_million_lines.unwrap().median > 0.0, "{row:?}");
        assert!(row.peak_memory_mib.median > 0.5, "{row:?}");
    }
    let ours = row(&report, "format", "logchute");
    let checked = ours.checked.unwrap();
    assert!(checked.expected > 1000, "{checked:?}");
    assert_eq!((checked.delivered, checked.lost), (checked.expected, 0), "{stderr}");
    assert_eq!((checked.duplicated, checked.reordered, ours.malformed), (0, 0, 0));
    // More may have come by the time that logchute was asked.
    let counted = ours.counted.unwrap();
    assert_eq!((counted.delivered, counted.dropped), (checked.delivered, 0));
    assert!(ours.ratio_to_relay.unwrap().median > 0.0);
    let target = report.targets.iter().find(|target| target.from == "format").unwrap();
    assert_eq!(target.measured, ours.ratio_to_relay);
}

#[test]
fn filters_and_latency() {
    let (report, stderr) = play(&["--scenario", "routes-4", "--scenario", "latency-10k"]);
    for scenario in ["routes-4", "latency-10k"] {
        let ours = row(&report, scenario, "logchute");
        let checked = ours.checked.unwrap();
        assert!(checked.expected > 100 && checked.lost == 0, "{scenario}: {checked:?} {stderr}");
        assert_eq!(ours.malformed, 0, "{scenario}");
    }
    let latency = row(&report, "latency-10k", "logchute").latency.unwrap();
    assert!(latency.p50_us.median > 1.0, "{latency:?}");
    assert!(latency.p50_us.median <= latency.p99_us.median, "{latency:?}");
}

#[test]
fn what_cannot_be_played_is_told() {
    let (report, stderr) = play(&["--scenario", "format", "--logchute", "/bin/false"]);
    assert!(report.row("format", "relay").is_some());
    assert_eq!(report.skipped.len(), 1, "{:?}", report.skipped);
    assert!(stderr.contains("FAILED: format logchute"), "{stderr}");
    let output = Command::new(LOADTEST).args(["--scenario", "nothing"]).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("no scenario is called nothing"));
}
