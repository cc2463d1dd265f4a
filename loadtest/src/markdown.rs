//! The report as text: tables whose columns are aligned, for the terminal and for `report.md`
//! alike. Pure.

use std::fmt::Write;

use crate::civil::Civil;
use crate::report::{Report, Row, Target};
use crate::stats::Spread;

/// The whole report.
pub fn render(report: &Report) -> String {
    let mut text = String::from("# Load test of logchute\n\n");
    let machine = &report.machine;
    let _ = writeln!(
        text,
        "logchute {}, {} UTC, {} runs in {:.0} s. {}, {} cores, {} MiB, Linux {}.\n\n\
         Figures are medians of the runs, which programs took in turn; in brackets the least and \
         the most.\nCPU is user and system time of the program alone.\n",
        report.version,
        Civil::of(report.begun_at),
        report.runs,
        report.seconds,
        machine.cpu,
        machine.cores,
        machine.memory_mib,
        machine.kernel
    );
    for note in &report.notes {
        let _ = writeln!(text, "{note}.\n");
    }
    text.push_str(&tables(report));
    text
}

/// Its tables alone.
pub fn tables(report: &Report) -> String {
    let mut text = String::new();
    let mut section = |title: &str, head: &[&str], rows: Vec<Vec<String>>| {
        if !rows.is_empty() {
            let _ = writeln!(text, "## {title}\n\n{}", table(head, &rows));
        }
    };
    let rows = || report.rows.iter();
    let talks = |row: &&Row| row.cpu_s_per_million_lines.is_some();
    section("Throughput and CPU", COST, rows().filter(talks).map(cost).collect());
    section("Idle", IDLE, rows().filter(|row| !talks(row)).map(idle).collect());
    section("Latency", LATENCY, rows().filter_map(latency).collect());
    section("What arrived", ARRIVED, rows().filter_map(arrived).collect());
    let judged = report.targets.iter().filter(|target| target.measured.is_some());
    section("Targets", TARGET, judged.map(target).collect());
    let skipped = report.skipped.iter().map(|s| vec![s.what.clone(), s.why.replace('|', "/")]);
    section("Not measured", &["what", "why"], skipped.collect());
    let open = report.targets.iter().filter(|target| target.measured.is_none());
    let open: Vec<&str> = open.map(|target| target.what.as_str()).collect();
    if !open.is_empty() {
        let _ = writeln!(text, "Not judged: {}.", open.join("; "));
    }
    text
}

const COST: &[&str] = &[
    "scenario",
    "program",
    "lines/s",
    "MB/s",
    "CPU-s/M lines",
    "/ relay",
    "peak MiB",
    "source CPU-s/M",
];

fn cost(row: &Row) -> Vec<String> {
    vec![
        row.scenario.clone(),
        row.forwarder.clone(),
        thousands(row.lines_per_second.median),
        format!("{:.0}", row.mb_per_second.median),
        row.cpu_s_per_million_lines.map_or(String::new(), |cpu| spread(cpu, 4)),
        row.ratio_to_relay.map_or(String::new(), |ratio| spread(ratio, 2)),
        format!("{:.1}", row.peak_memory_mib.median),
        row.source_cpu_s_per_million_lines.map_or(String::new(), |cpu| digits(cpu.median, 4)),
    ]
}

const IDLE: &[&str] = &["scenario", "program", "% of a core", "peak MiB"];

fn idle(row: &Row) -> Vec<String> {
    let memory = format!("{:.1}", row.peak_memory_mib.median);
    vec![row.scenario.clone(), row.forwarder.clone(), spread(row.cpu_percent, 3), memory]
}

const LATENCY: &[&str] =
    &["scenario", "program", "p50 µs", "p99 µs", "p99.9 µs", "of it source p99 µs", "% of a core"];

fn latency(row: &Row) -> Option<Vec<String>> {
    let latency = row.latency?;
    Some(vec![
        row.scenario.clone(),
        row.forwarder.clone(),
        spread(latency.p50_us, 0),
        spread(latency.p99_us, 0),
        spread(latency.p999_us, 0),
        spread(latency.source_late_p99_us, 0),
        digits(row.cpu_percent.median, 1),
    ])
}

const ARRIVED: &[&str] = &[
    "scenario",
    "program",
    "expected",
    "delivered",
    "lost",
    "again",
    "out of order",
    "malformed",
    "stalls",
    "requests",
    "counted: dropped",
];

fn arrived(row: &Row) -> Option<Vec<String>> {
    let checked = row.checked;
    if checked.is_none() && row.requests == 0 && row.counted.is_none() {
        return None;
    }
    let count = |of: fn(crate::report::Checked) -> u64| {
        checked.map_or(String::new(), |checked| thousands(of(checked) as f64))
    };
    Some(vec![
        row.scenario.clone(),
        row.forwarder.clone(),
        count(|c| c.expected),
        count(|c| c.delivered),
        count(|c| c.lost),
        count(|c| c.duplicated),
        count(|c| c.reordered),
        row.malformed.to_string(),
        row.stalls.to_string(),
        row.requests.to_string(),
        row.counted.map_or(String::new(), |counted| thousands(counted.dropped as f64)),
    ])
}

const TARGET: &[&str] = &["what", "from", "measured", "must", "goal", "reached"];

fn target(target: &Target) -> Vec<String> {
    let sign = if target.at_least { "≥" } else { "≤" };
    let bound = |bound: f64| format!("{sign} {bound} {}", target.unit).trim_end().to_owned();
    vec![
        target.what.clone(),
        target.from.clone(),
        target.measured.map_or(String::new(), |measured| spread(measured, 3)),
        bound(target.must),
        target.goal.map_or(String::new(), bound),
        match (target.is_met(), target.is_goal()) {
            (_, Some(true)) => "goal".to_owned(),
            (Some(true), _) => "yes".to_owned(),
            (Some(false), _) => "NO".to_owned(),
            (None, _) => String::new(),
        },
    ]
}

/// The median, and in brackets the ends.
fn spread(spread: Spread, precision: usize) -> String {
    let [median, min, max] =
        [spread.median, spread.min, spread.max].map(|value| digits(value, precision));
    if min == max { median } else { format!("{median} ({min}..{max})") }
}

fn digits(value: f64, precision: usize) -> String {
    format!("{value:.precision$}")
}

/// A whole number in groups of three digits.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A table of Markdown whose columns are as wide as their widest cell.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let wide = |text: &str| text.chars().count();
    let widths: Vec<usize> = head
        .iter()
        .enumerate()
        .map(|(at, title)| {
            rows.iter().map(|row| wide(&row[at])).max().unwrap_or(0).max(wide(title))
        })
        .collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("| {} |\n", padded.collect::<Vec<_>>().join(" | "))
    };
    let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    let mut text = line(head.to_vec());
    text.push_str(&line(rules.iter().map(String::as_str).collect()));
    for row in rows {
        text.push_str(&line(row.iter().map(String::as_str).collect()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = vec![vec!["a".to_owned(), "µµµ".to_owned()]];
        assert_eq!(table(&["one", "b"], &rows), "| one | b   |\n| --- | --- |\n| a   | µµµ |\n");
    }

    #[test]
    fn figures() {
        let some = Spread { median: 1.25, min: 1.0, max: 2.0 };
        assert_eq!(spread(some, 2), "1.25 (1.00..2.00)");
        assert_eq!(spread(Spread { median: 0.1, min: 0.1, max: 0.1 }, 1), "0.1");
        assert_eq!(thousands(1_234_567.4), "1,234,567");
        assert_eq!(thousands(123.0), "123");
    }

    #[test]
    fn a_report_shows_what_there_is() {
        let target = Target { what: "speed".to_owned(), must: 2.0, ..Target::default() };
        let row = Row { scenario: "idle".to_owned(), ..Row::default() };
        let report = Report { rows: vec![row], targets: vec![target], ..Report::default() };
        let text = render(&report);
        assert!(text.contains("## Idle") && text.contains("Not judged: speed."), "{text}");
        assert!(!text.contains("## Latency") && !text.contains("## Not measured"), "{text}");
    }
}
