//! What is kept of a session of measurements: `report.json` is these types as they are.
//!
//! Units are in the names. A row is one program in one scenario.

use serde::{Deserialize, Serialize};

use crate::stats::Spread;

/// A session of measurements.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Version of logchute, as its package says.
    pub version: String,
    /// Seconds since 1970 when it began.
    pub begun_at: u64,
    /// How long it took.
    pub seconds: f64,
    /// Runs of each scenario.
    pub runs: u32,
    /// What the reader of the figures should know beside the machine.
    #[serde(default)]
    pub notes: Vec<String>,
    /// What it ran on.
    pub machine: Machine,
    /// One row for each program in each scenario, in the order they were played.
    pub rows: Vec<Row>,
    /// What was asked for, and whether it was reached.
    pub targets: Vec<Target>,
    /// What was not played or not measured, and why.
    pub skipped: Vec<Skipped>,
}

/// What was measured on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Model of the processor.
    pub cpu: String,
    /// How many of them this program may use.
    pub cores: usize,
    /// Release of the kernel.
    pub kernel: String,
    /// Memory in MiB.
    pub memory_mib: u64,
}

/// One program in one scenario. Spreads are over the runs; counts are their sums.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Name of the scenario.
    pub scenario: String,
    /// What the scenario shows.
    pub title: String,
    /// `relay`, `logchute`, or the name of another program.
    pub forwarder: String,
    /// Lines a second that came from the engine while it was measured.
    pub lines_per_second: Spread,
    /// Bytes of lines (without frame headers) in MB (10^6) a second.
    pub mb_per_second: Spread,
    /// CPU seconds (user and system) of the program for a million lines from the engine; `None`
    /// where the containers are silent.
    pub cpu_s_per_million_lines: Option<Spread>,
    /// The same of each run, in the order they were played.
    pub cpu_runs: Vec<f64>,
    /// The same divided by that of the relay in the same round.
    pub ratio_to_relay: Option<Spread>,
    /// CPU of the program in percent of one core.
    pub cpu_percent: Spread,
    /// Peak of its resident memory (`VmHWM`) in MiB.
    pub peak_memory_mib: Spread,
    /// From when a line was due to be written to when it was received; at fixed rates only.
    pub latency: Option<Latency>,
    /// What receivers that check lines saw; `None` where bytes alone are counted.
    pub checked: Option<Checked>,
    /// Mean length in bytes of what came for each line that came, after decryption.
    pub record_bytes: Option<f64>,
    /// Requests that came, at webhooks; a request may tell of many lines.
    pub requests: u64,
    /// Records that were not framed as they should be, or should not have come.
    pub malformed: u64,
    /// Times that nothing came for so long that what was on its way was given up.
    pub stalls: u64,
    /// What logchute counted itself.
    pub counted: Option<Counted>,
    /// CPU seconds of the fake engine for a million lines, for the record: no program's cost.
    pub source_cpu_s_per_million_lines: Option<Spread>,
}

/// Latency in microseconds; each is the median over the runs, with its spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Half of the lines are faster.
    pub p50_us: Spread,
    /// 99 of 100 lines are faster.
    pub p99_us: Spread,
    /// 999 of 1000 lines are faster.
    pub p999_us: Spread,
    /// How late the fake engine itself wrote, which is part of the above: 99 of 100 writes.
    pub source_late_p99_us: Spread,
}

/// What became of the lines, over all runs and receivers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// Lines that should have come.
    pub expected: u64,
    /// Different lines that came.
    pub delivered: u64,
    /// Lines that never came.
    pub lost: u64,
    /// Lines that came again.
    pub duplicated: u64,
    /// Lines that came after a later one of the same container.
    pub reordered: u64,
}

/// Counters of logchute's `/metrics`, over all runs, routes and shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Lines that routes took from containers.
    pub received: u64,
    /// Of them, those that a filter kept out.
    pub filtered: u64,
    /// Of them, those that receivers took.
    pub delivered: u64,
    /// Of them, those dropped for any reason.
    pub dropped: u64,
}

/// Something that was asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// What is measured.
    pub what: String,
    /// From which scenarios, and how.
    pub from: String,
    /// Unit of the figures; empty for ratios.
    pub unit: String,
    /// What was measured; `None` if it was not.
    pub measured: Option<Spread>,
    /// The most (or, if `at_least`, the least) that is good enough.
    pub must: f64,
    /// What would be better still.
    pub goal: Option<f64>,
    /// Larger is better.
    pub at_least: bool,
}

/// Something that was not measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Name of the scenario, and of the program if only that was left out.
    pub what: String,
    /// Why.
    pub why: String,
}

impl Checked {
    /// Both together.
    pub fn plus(self, other: Checked) -> Checked {
        Checked {
            expected: self.expected + other.expected,
            delivered: self.delivered + other.delivered,
            lost: self.lost + other.lost,
            duplicated: self.duplicated + other.duplicated,
            reordered: self.reordered + other.reordered,
        }
    }
}

impl Counted {
    /// Both together.
    pub fn plus(self, other: Counted) -> Counted {
        Counted {
            received: self.received + other.received,
            filtered: self.filtered + other.filtered,
            delivered: self.delivered + other.delivered,
            dropped: self.dropped + other.dropped,
        }
    }
}

impl Report {
    /// The row of a program in a scenario.
    pub fn row(&self, scenario: &str, forwarder: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.scenario == scenario && row.forwarder == forwarder)
    }
}
