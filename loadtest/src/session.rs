//! A session: every chosen scenario with every program, in turn, and the rows that come of it.
//!
//! Scenarios of a group are played round by round, and within a round program after program: what
//! slows the machine for a while slows all of them.

use std::collections::BTreeMap;
use std::path::Path;

use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};

use crate::forwarder::Forwarder;
use crate::receivers::Identity;
use crate::report::{Checked, Counted, Latency, Row, Skipped};
use crate::run::{self, Failure, Sample};
use crate::scenario::{Pace, Scenario};
use crate::stats::Spread;

/// What is played.
pub struct Session<'a> {
    /// The scenarios, those of a group together.
    pub scenarios: &'a [Scenario],
    /// The programs; the relay first.
    pub forwarders: &'a [Forwarder],
    /// Rounds.
    pub runs: u32,
    /// The `logchute` to measure.
    pub logchute: &'a Path,
}

/// The samples of each scenario (by index) and forwarder (by index), in the order of rounds.
type Samples = BTreeMap<(usize, usize), Vec<Sample>>;

/// A progress bar of so many plays.
pub(crate) fn bar(plays: u64) -> ProgressBar {
    let bar = ProgressBar::new(plays);
    let style = ProgressStyle::with_template("{elapsed:>4} [{wide_bar}] {pos}/{len} {msg:32}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(std::time::Duration::from_secs(1));
    bar
}

impl Session<'_> {
    /// Plays everything. What fails is left out and told.
    ///
    /// # Errors
    /// If no certificate can be made.
    pub fn play(&self) -> std::io::Result<(Vec<Row>, Vec<Skipped>)> {
        let identity = Identity::new()?;
        let (mut samples, mut skipped) = (Samples::new(), Vec::new());
        let bar = self.bar();
        let (mut from, mut rows) = (0, Vec::new());
        for group in self.scenarios.chunk_by(|a, b| a.group == b.group) {
            for _ in 0..self.runs {
                for (index, scenario) in (from..).zip(group) {
                    self.round(index, scenario, &identity, &bar, &mut samples, &mut skipped);
                }
            }
            for (index, scenario) in (from..).zip(group) {
                rows.extend(self.rows(index, scenario, &samples));
            }
            from += group.len();
        }
        bar.finish_and_clear();
        Ok((rows, skipped))
    }

    fn bar(&self) -> ProgressBar {
        let plays = self.scenarios.iter().flat_map(|s| self.forwarders.iter().filter(|f| f.can(s)));
        bar(plays.count() as u64 * u64::from(self.runs))
    }

    /// Each program once.
    fn round(
        &self,
        index: usize,
        scenario: &Scenario,
        identity: &Identity,
        bar: &ProgressBar,
        samples: &mut Samples,
        skipped: &mut Vec<Skipped>,
    ) {
        for (number, forwarder) in self.forwarders.iter().enumerate() {
            if !forwarder.can(scenario) {
                continue;
            }
            bar.set_message(format!("{} {}", scenario.name, forwarder.name()));
            let what = format!("{} {}", scenario.name, forwarder.name());
            // What failed once is not tried again.
            if !skipped.iter().any(|skipped| skipped.what == what) {
                match run::play(scenario, forwarder, self.logchute, identity) {
                    Ok(sample) => samples.entry((index, number)).or_default().push(sample),
                    Err(failure) => {
                        let loud = matches!(failure, Failure::Unknown(_));
                        let mark = if loud { "SKIPPED" } else { "FAILED" };
                        bar.suspend(|| crate::say(&format!("{mark}: {what}: {failure}")));
                        skipped.push(Skipped { what, why: failure.to_string() });
                    }
                }
            }
            bar.inc(1);
        }
    }

    fn rows(&self, index: usize, scenario: &Scenario, samples: &Samples) -> Vec<Row> {
        let of = |number| samples.get(&(index, number)).map_or(&[][..], Vec::as_slice);
        let relay = self.forwarders.iter().position(|f| *f == Forwarder::Relay).map_or(&[][..], of);
        let rows = self.forwarders.iter().enumerate().filter(|(number, _)| !of(*number).is_empty());
        rows.map(|(number, forwarder)| row(scenario, forwarder, of(number), relay)).collect()
    }
}

/// CPU seconds for a million lines.
fn cpu_per_million(sample: &Sample) -> f64 {
    sample.cpu * 1e6 / sample.lines.max(1) as f64
}

fn row(scenario: &Scenario, forwarder: &Forwarder, samples: &[Sample], relay: &[Sample]) -> Row {
    let spread = |of: fn(&Sample) -> f64| Spread::of(samples.iter().map(of)).unwrap_or_default();
    let cpu: Vec<f64> = samples.iter().map(cpu_per_million).collect();
    let floor: Vec<f64> = relay.iter().map(cpu_per_million).collect();
    let talks = scenario.source.pace != Pace::Silent;
    let sum = |of: fn(&Sample) -> u64| samples.iter().map(of).sum::<u64>();
    let (bytes, lines) = (sum(|s| s.came.0), sum(|s| s.came.1));
    Row {
        scenario: scenario.name.clone(),
        title: scenario.title.clone(),
        forwarder: forwarder.name(),
        lines_per_second: spread(|s| s.lines as f64 / s.seconds),
        mb_per_second: spread(|s| s.bytes as f64 / s.seconds / 1e6),
        cpu_s_per_million_lines: Spread::of(cpu.iter().copied()).filter(|_| talks),
        ratio_to_relay: Spread::of_ratios(&cpu, &floor)
            .filter(|_| talks && *forwarder != Forwarder::Relay),
        cpu_runs: if talks { cpu } else { Vec::new() },
        cpu_percent: spread(|s| s.cpu / s.seconds * 100.0),
        peak_memory_mib: spread(|s| s.memory),
        latency: latency(samples),
        checked: samples.iter().filter_map(|s| s.checked).reduce(Checked::plus),
        record_bytes: (lines > 0).then(|| bytes as f64 / lines as f64),
        requests: sum(|s| s.requests),
        malformed: sum(|s| s.malformed),
        stalls: sum(|s| s.stalls),
        counted: samples.iter().filter_map(|s| s.counted).reduce(Counted::plus),
        source_cpu_s_per_million_lines: talks.then(|| spread(|s| s.source_cpu_per_line * 1e6)),
    }
}

fn latency(samples: &[Sample]) -> Option<Latency> {
    let timed: Vec<_> = samples.iter().filter_map(|sample| sample.latency.as_ref()).collect();
    let micros = |histogram: &Histogram<u64>, q| histogram.value_at_quantile(q) as f64 / 1000.0;
    let of = |q| Spread::of(timed.iter().map(|(latency, _)| micros(latency, q)));
    Some(Latency {
        p50_us: of(0.5)?,
        p99_us: of(0.99)?,
        p999_us: of(0.999)?,
        source_late_p99_us: Spread::of(timed.iter().map(|(_, late)| micros(late, 0.99)))?,
    })
}
