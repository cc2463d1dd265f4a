//! `--engine real`: what logchute costs on a real Docker Engine, beside the daemon itself and
//! beside clients that do less. The containers are started for it and removed.
//!
//! Here no program can be held back: the daemon is slower than any of them. So a run has a fixed
//! number of lines, and what counts is CPU time between the first line and the last.

pub mod client;
mod docker;
mod measure;
mod unframed;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use docker::{Docker, Image};
use indicatif::ProgressBar;
use measure::{Run, Session};

use crate::report::{Checked, Row, Skipped, Target};
use crate::session::bar;
use crate::stats::Spread;

/// Bytes of a line, its newline included.
const LINE: u32 = 124;

/// What to measure, and how often.
pub struct Plan {
    /// The `logchute` to measure.
    pub logchute: PathBuf,
    /// Settings of logchute that are measured against its defaults, as `NAME=VALUE`; may be none.
    pub variants: Vec<String>,
    /// Runs of each program in each scenario.
    pub runs: u32,
    /// Lines of a run, all containers together.
    pub lines: u64,
    /// Whether a scenario of this name is asked for.
    pub wanted: Box<dyn Fn(&str) -> bool>,
}

/// What came of it, as it goes into the report.
#[derive(Debug, Default)]
pub struct Outcome {
    /// One for each program in each scenario.
    pub rows: Vec<Row>,
    /// What is asked for.
    pub targets: Vec<Target>,
    /// What could not be measured.
    pub skipped: Vec<Skipped>,
    /// What the reader of the figures should know: the engine, and who else was on it.
    pub notes: Vec<String>,
}

/// One thing to measure.
struct Case {
    name: &'static str,
    title: &'static str,
    containers: u16,
    /// One `write()` a line at the source.
    linewise: bool,
    door: Door,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Door {
    /// Lines are read as they are written.
    Attach,
    /// Lines that were written before are read.
    Backlog,
}

const CASES: &[Case] = &[
    Case {
        name: "real-attach-1-linewise",
        title: "Docker Engine, attach, 1 container, one write a line",
        containers: 1,
        linewise: true,
        door: Door::Attach,
    },
    Case {
        name: "real-attach-4-linewise",
        title: "Docker Engine, attach, 4 containers, one write a line",
        containers: 4,
        linewise: true,
        door: Door::Attach,
    },
    Case {
        name: "real-attach-1-large",
        title: "Docker Engine, attach, 1 container, large writes",
        containers: 1,
        linewise: false,
        door: Door::Attach,
    },
    Case {
        name: "real-attach-4-large",
        title: "Docker Engine, attach, 4 containers, large writes",
        containers: 4,
        linewise: false,
        door: Door::Attach,
    },
    Case {
        name: "real-logs-backlog",
        title: "Docker Engine, logs, backlog of 1 container",
        containers: 1,
        linewise: false,
        door: Door::Backlog,
    },
];

/// Who is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Program {
    /// Reads attach as soon as it can, and writes the bytes on.
    Relay,
    /// Reads logs as soon as it can, and does nothing.
    Reader,
    /// The product, perhaps with a further setting.
    Logchute(Option<String>),
}

impl Program {
    fn name(&self) -> String {
        match self {
            Program::Relay => "relay".to_owned(),
            Program::Reader => "reader".to_owned(),
            Program::Logchute(None) => "logchute".to_owned(),
            Program::Logchute(Some(setting)) => format!("logchute, {setting}"),
        }
    }
}

/// What can be measured: names, and what they show.
pub fn scenarios() -> impl Iterator<Item = (&'static str, &'static str)> {
    CASES.iter().map(|case| (case.name, case.title))
}

/// Measures, and shows how far it is.
///
/// # Errors
/// If there is no engine to measure, or SIGINT or SIGTERM came.
pub fn play(plan: &Plan) -> Result<Outcome, String> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(|e| e.to_string())?;
    }
    let docker = Docker::find()?;
    let mut outcome = Outcome { notes: notes(&docker), ..Outcome::default() };
    if let Err(why) = &docker.daemon {
        let what = "CPU time of the daemon".to_owned();
        outcome.skipped.push(Skipped { what, why: why.clone() });
    }
    let image = docker.image()?;
    let session = Session { docker: &docker, plan, stop: &stop };
    let cases: Vec<&Case> = CASES.iter().filter(|case| (plan.wanted)(case.name)).collect();
    // Of each the floor, logchute, and its variants.
    let plays = cases.len() * (2 + plan.variants.len()) * plan.runs as usize;
    let bar = bar(plays as u64);
    for case in cases {
        match rounds(&session, &image, case, &bar) {
            Ok(rows) => outcome.rows.extend(rows),
            Err(why) if stop.load(Ordering::SeqCst) => return Err(why),
            Err(why) => outcome.skipped.push(Skipped { what: case.name.to_owned(), why }),
        }
    }
    bar.finish_and_clear();
    outcome.targets = targets(&outcome.rows);
    Ok(outcome)
}

fn notes(docker: &Docker) -> Vec<String> {
    let mut notes = vec![format!("Docker Engine {}", docker.version)];
    let others = docker.others();
    if others > 0 {
        notes.push(format!(
            "{others} other containers were running: logchute reads them too, and the daemon's \
             work for them is in its figures"
        ));
    }
    notes
}

/// Plays all programs in turn, in a different order each time, and sums up.
fn rounds(
    session: &Session<'_>,
    image: &Image<'_>,
    case: &Case,
    bar: &ProgressBar,
) -> Result<Vec<Row>, String> {
    let floor = if case.door == Door::Attach { Program::Relay } else { Program::Reader };
    let settings = session.plan.variants.iter().cloned().map(Some);
    let logchutes = std::iter::once(None).chain(settings).map(Program::Logchute);
    let programs: Vec<Program> = std::iter::once(floor).chain(logchutes).collect();
    let backlog = match case.door {
        Door::Attach => None,
        Door::Backlog => Some(session.prepare(image, case)?),
    };
    let mut runs: Vec<Vec<Run>> = programs.iter().map(|_| Vec::new()).collect();
    for round in 0..session.plan.runs as usize {
        for place in 0..programs.len() {
            let at = (place + round) % programs.len();
            bar.set_message(format!("{}: {}", case.name, programs[at].name()));
            let run = match &backlog {
                None => session.attach(image, case, &programs[at]),
                Some(containers) => session.backlog(containers, case, &programs[at]),
            };
            let name = programs[at].name();
            runs[at].push(run.map_err(|error| format!("{name}: {error}"))?);
            bar.inc(1);
        }
    }
    let rows = programs.iter().zip(&runs).map(|(program, own)| row(case, program, own, &runs[0]));
    Ok(rows.collect())
}

fn row(case: &Case, program: &Program, runs: &[Run], floor: &[Run]) -> Row {
    let spread = |figure: &dyn Fn(&Run) -> f64| Spread::of(runs.iter().map(figure));
    let cpu: Vec<f64> = runs.iter().map(|run| run.cpu / run.million()).collect();
    let floor: Vec<f64> = floor.iter().map(|run| run.cpu / run.million()).collect();
    let daemon = runs.iter().filter_map(|run| Some(run.daemon? / run.million()));
    let checked = runs.iter().filter_map(|run| run.checked).reduce(Checked::plus);
    Row {
        scenario: case.name.to_owned(),
        title: case.title.to_owned(),
        forwarder: program.name(),
        lines_per_second: spread(&|run| run.lines as f64 / run.seconds).unwrap_or_default(),
        mb_per_second: spread(&|run| run.lines as f64 * f64::from(LINE) / 1e6 / run.seconds)
            .unwrap_or_default(),
        cpu_s_per_million_lines: Spread::of(cpu.iter().copied()),
        ratio_to_relay: Spread::of_ratios(&cpu, &floor),
        cpu_percent: spread(&|run| 100.0 * run.cpu / run.seconds).unwrap_or_default(),
        peak_memory_mib: spread(&|run| run.memory_mib).unwrap_or_default(),
        source_cpu_s_per_million_lines: Spread::of(daemon),
        checked,
        cpu_runs: cpu,
        ..Row::default()
    }
}

/// What is asked for on a real engine, of the rows there are.
fn targets(rows: &[Row]) -> Vec<Target> {
    let mut targets = Vec::new();
    let own = rows.iter().filter(|row| row.forwarder.starts_with("logchute"));
    for row in own {
        let from = format!("{}: {}", row.scenario, row.forwarder);
        let target = |what: &str, measured, must, goal| Target {
            what: what.to_owned(),
            from: from.clone(),
            measured,
            must,
            goal: Some(goal),
            ..Target::default()
        };
        if row.scenario == "real-logs-backlog" {
            let what = "real engine, backlog by logs: CPU / a client's that only reads";
            targets.push(target(what, row.ratio_to_relay, 0.5, 0.25));
            continue;
        }
        let what = "real engine, attach: CPU / a bare relay's that reads as soon as it can";
        targets.push(target(what, row.ratio_to_relay, 1.0, 0.6));
        if row.scenario.starts_with("real-attach-4") {
            let daemon = row.source_cpu_s_per_million_lines.map(|spread| spread.median);
            let share = row.cpu_s_per_million_lines.zip(daemon.filter(|daemon| *daemon > 0.0));
            let what = "real engine, attach, 4 containers at full speed: CPU / the daemon's";
            let share = share.map(|(cpu, daemon)| Spread {
                median: cpu.median / daemon,
                min: cpu.min / daemon,
                max: cpu.max / daemon,
            });
            targets.push(target(what, share, 0.10, 0.05));
        }
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(cpu: f64, daemon: Option<f64>) -> Run {
        let checked =
            Checked { expected: 500_000, delivered: 499_999, lost: 1, ..Checked::default() };
        let lines = 500_000;
        Run { lines, seconds: 2.0, cpu, daemon, memory_mib: 5.0, checked: Some(checked) }
    }

    #[test]
    fn rows_are_medians_and_ratios_are_taken_round_by_round() {
        let floor = [run(0.1, None), run(0.2, None), run(0.4, None)];
        let own = [run(0.05, Some(1.0)), run(0.3, Some(2.0)), run(0.2, Some(3.0))];
        let row = row(&CASES[1], &Program::Logchute(None), &own, &floor);
        assert_eq!(row.lines_per_second.median, 250_000.0);
        assert_eq!(row.mb_per_second.median, 31.0);
        assert_eq!(row.cpu_s_per_million_lines.unwrap().median, 0.4);
        assert_eq!(row.source_cpu_s_per_million_lines.unwrap().median, 4.0);
        let ratio = row.ratio_to_relay.unwrap();
        assert!((ratio.median - 0.5).abs() < 1e-9 && (ratio.max - 1.5).abs() < 1e-9, "{ratio:?}");
        assert_eq!(row.checked.unwrap().lost, 3);
        let targets = targets(&[row]);
        assert_eq!(targets.len(), 2);
        assert_eq!(targets[1].measured.unwrap().median, 0.1);
    }

    #[test]
    fn a_daemon_that_cannot_be_seen_has_no_share() {
        let runs = [run(0.1, None)];
        let row = row(&CASES[3], &Program::Logchute(None), &runs, &runs);
        assert_eq!(targets(&[row])[1].measured, None);
    }
}
