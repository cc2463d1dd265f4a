//! What is asked of logchute, and whether it was reached: each target is a figure of named
//! scenarios. All of them are judged from the report alone.
//!
//! What another engine or another tool shows is added with [`Target`]s of its own.

use std::process::Command;

use crate::report::{Report, Row, Target};
use crate::stats::Spread;

/// How a figure is had.
enum From {
    /// CPU of a scenario divided by the relay's.
    Relay(&'static str),
    /// CPU of the one divided by that of the other; both are of one group.
    Other(&'static str, &'static str),
    /// The dearer of the two divided by the cheaper.
    Apart(&'static str, &'static str),
    /// CPU over tls divided by the floor for it.
    Tls,
    /// Peak memory in MiB.
    Memory(&'static str),
    /// Percent of a core.
    Idle(&'static str),
    /// The 99th percentile in milliseconds.
    Latency(&'static str),
    /// CPU of Logspout divided by ours: the more the better.
    Logspout(&'static str),
}

use From::{Apart, Idle, Latency, Logspout, Memory, Other, Relay, Tls};

/// What, how, the least that is good enough, and what would be better.
const TABLE: &[(&str, From, f64, Option<f64>)] = &[
    ("CPU, whole path, format all / relay", Relay("format"), 1.4, Some(1.2)),
    ("CPU, filter 100 % + format / relay", Relay("filter-100"), 2.0, Some(1.6)),
    ("CPU, filter 1 % / relay", Relay("filter-1"), 1.2, Some(1.0)),
    ("CPU, one write per frame / relay", Relay("write"), 1.15, Some(1.05)),
    ("CPU, 16 routes with filters / one", Other("routes-16", "routes-1"), 2.0, Some(1.3)),
    ("CPU, ring and poll apart", Apart("ring", "poll"), 1.1, None),
    (
        "CPU, one shard / two (lines per CPU-second, two / one)",
        Other("shards-1", "shards-2"),
        0.9,
        Some(0.98),
    ),
    ("CPU, tls / floor (plain tcp + openssl speed)", Tls, 1.5, Some(1.2)),
    ("peak memory, 512 busy containers, 2 shards", Memory("busy-512"), 24.0, Some(12.0)),
    ("idle CPU, 512 idle containers", Idle("idle-512"), 0.1, Some(0.02)),
    ("latency at 10,000 lines/s, p99", Latency("latency-10k"), 2.0, Some(0.5)),
    ("CPU, Logspout / logchute, one write per line", Logspout("write"), 25.0, Some(35.0)),
    ("CPU, Logspout / logchute, large writes", Logspout("format"), 150.0, Some(300.0)),
];

/// Every target, measured as far as the report goes. `aes` is how many bytes a second one core
/// encrypts.
pub fn judge(report: &Report, aes: Option<f64>) -> Vec<Target> {
    let judged = TABLE.iter().map(|(what, from, must, goal)| Target {
        what: (*what).to_owned(),
        from: from.described(),
        unit: from.unit().to_owned(),
        measured: from.measured(report, aes),
        must: *must,
        goal: *goal,
        at_least: matches!(from, Logspout(_) | Other("shards-1", _)),
    });
    judged.collect()
}

impl Target {
    /// Whether what was measured is good enough.
    pub fn is_met(&self) -> Option<bool> {
        self.measured.map(|measured| self.meets(measured.median, self.must))
    }

    /// Whether it is as good as one could wish.
    pub fn is_goal(&self) -> Option<bool> {
        Some(self.meets(self.measured?.median, self.goal?))
    }

    fn meets(&self, value: f64, bound: f64) -> bool {
        if self.at_least { value >= bound } else { value <= bound }
    }
}

impl From {
    fn described(&self) -> String {
        match self {
            Relay(name) | Memory(name) | Idle(name) | Latency(name) | Logspout(name) => {
                (*name).to_owned()
            }
            Other(a, b) | Apart(a, b) => format!("{a}, {b}"),
            Tls => "tls, tls-plain".to_owned(),
        }
    }

    fn unit(&self) -> &'static str {
        match self {
            Relay(_) | Other(..) | Apart(..) | Tls | Logspout(_) => "",
            Memory(_) => "MiB",
            Idle(_) => "% of a core",
            Latency(_) => "ms",
        }
    }

    fn measured(&self, report: &Report, aes: Option<f64>) -> Option<Spread> {
        let names = ["logchute", "logchute/ring", "logchute/poll"];
        let ours = |name| names.iter().find_map(|program| report.row(name, program));
        let ratio = |a, b| Spread::of_ratios(&ours(a)?.cpu_runs, &ours(b)?.cpu_runs);
        match self {
            Relay(name) => ours(name)?.ratio_to_relay,
            Other(a, b) => ratio(a, b),
            Apart(a, b) => [ratio(a, b)?, ratio(b, a)?]
                .into_iter()
                .max_by(|x, y| x.median.total_cmp(&y.median)),
            Tls => tls(ours("tls")?, ours("tls-plain")?, aes?),
            Memory(name) => Some(ours(name)?.peak_memory_mib),
            Idle(name) => Some(ours(name)?.cpu_percent),
            Latency(name) => Some(ours(name)?.latency?.p99_us.scaled(0.001)),
            Logspout(name) => {
                let is_logspout = |row: &&Row| row.forwarder.contains("logspout");
                let rows = report.rows.iter().filter(|row| row.scenario == *name);
                let theirs = rows.into_iter().find(is_logspout)?;
                Spread::of_ratios(&theirs.cpu_runs, &ours(name)?.cpu_runs)
            }
        }
    }
}

/// The floor for tls: the same records over plain tcp, and their bytes encrypted as fast as
/// openssl can.
fn tls(tls: &Row, plain: &Row, aes: f64) -> Option<Spread> {
    // Seconds for a million records.
    let encrypting = tls.record_bytes? * 1e6 / aes;
    let floors: Vec<f64> = plain.cpu_runs.iter().map(|cpu| cpu + encrypting).collect();
    Spread::of_ratios(&tls.cpu_runs, &floors)
}

/// Bytes a second that one core of this machine encrypts with AES-256-GCM in records of 16 KiB,
/// as `openssl speed` has it; `None` without openssl.
pub fn aes_speed() -> Option<f64> {
    let args = ["speed", "-mr", "-seconds", "1", "-bytes", "16384", "-evp", "aes-256-gcm"];
    let output = Command::new("openssl").args(args).output().ok()?;
    speed(&String::from_utf8_lossy(&output.stdout))
}

/// `+F:22:AES-256-GCM:4870438912.00`
fn speed(text: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with("+F:"))?;
    line.rsplit(':').next()?.trim().parse().ok().filter(|speed| *speed > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(rows: &[(&str, &str, &[f64])]) -> Report {
        let row = |(scenario, forwarder, cpu): &(&str, &str, &[f64])| Row {
            scenario: (*scenario).to_owned(),
            forwarder: (*forwarder).to_owned(),
            cpu_runs: cpu.to_vec(),
            ratio_to_relay: Spread::of(cpu.iter().copied()),
            record_bytes: Some(200.0),
            ..Row::default()
        };
        Report { rows: rows.iter().map(row).collect(), ..Report::default() }
    }

    fn measured(report: &Report, what: &str) -> Option<f64> {
        let targets = judge(report, Some(1e9));
        let target = targets.iter().find(|target| target.what.contains(what)).unwrap();
        target.measured.map(|spread| spread.median)
    }

    #[test]
    fn figures_come_from_their_scenarios() {
        let report = report(&[
            ("format", "relay", &[1.0]),
            ("format", "logchute", &[0.5, 1.5, 1.3]),
            ("format", "logspout", &[100.0, 300.0, 260.0]),
            ("ring", "logchute", &[2.0]),
            ("poll", "logchute", &[1.0]),
            ("tls", "logchute", &[1.0]),
            ("tls-plain", "logchute", &[0.3]),
        ]);
        assert_eq!(measured(&report, "format all"), Some(1.3));
        assert_eq!(measured(&report, "large writes"), Some(200.0));
        assert_eq!(measured(&report, "apart"), Some(2.0));
        assert_eq!(measured(&report, "tls"), Some(2.0));
        assert_eq!(measured(&report, "16 routes"), None);
    }

    #[test]
    fn more_is_better_where_it_says_so() {
        let target = |at_least, median| Target {
            measured: Some(Spread { median, ..Spread::default() }),
            must: 2.0,
            goal: Some(4.0),
            at_least,
            ..Target::default()
        };
        assert_eq!(
            (target(true, 3.0).is_met(), target(true, 3.0).is_goal()),
            (Some(true), Some(false))
        );
        assert_eq!(
            (target(false, 3.0).is_met(), target(false, 1.0).is_goal()),
            (Some(false), Some(true))
        );
        assert_eq!(Target::default().is_met(), None);
    }

    #[test]
    fn the_speed_that_openssl_tells() {
        let text =
            "+DT:AES-256-GCM:1:16384\n+R:1:AES-256-GCM:1.0\n+F:22:AES-256-GCM:4870438912.00\n";
        assert_eq!(speed(text), Some(4_870_438_912.0));
        assert_eq!(speed("unknown cipher"), None);
    }
}
