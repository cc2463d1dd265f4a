//! The program: reads the command line, has the scenarios played, and writes the report. It alone
//! decides the exit code.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Instant, SystemTime};

use clap::Parser;
use loadtest::cli::{Cli, Command, Engine, RunArgs};
use loadtest::forwarder::{Forwarder, Other};
use loadtest::report::Report;
use loadtest::session::Session;
use loadtest::{catalog, chart, child, demo, markdown, measure, real, relay, say, targets};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Some(Command::Relay { docker, tcp }) => {
            relay::run(&docker, tcp).map_err(|error| error.to_string())
        }
        Some(Command::Child { command }) => Err(child::become_program(&command)),
        Some(Command::Demo(args)) => demo::run(&args),
        Some(Command::RealClient { docker, tcp, containers }) => {
            real::client::run(&docker, tcp, &containers).map_err(|error| error.to_string())
        }
        None if cli.run.list => list(&cli.run),
        None if cli.run.engine == Engine::Real => run_real(&cli.run),
        None => run(&cli.run),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("loadtest: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn list(args: &RunArgs) -> Result<(), String> {
    let show = |(name, title): (&str, &str)| format!("{name:22} {title}\n");
    let scenarios = catalog::chosen(args);
    let fake = || scenarios.iter().map(|s| show((&s.name, &s.title))).collect::<String>();
    let is_real = args.engine == Engine::Real;
    print(&if is_real { real::scenarios().map(show).collect() } else { fake() });
    Ok(())
}

/// Plays what was chosen, and writes the report.
fn run(args: &RunArgs) -> Result<(), String> {
    warn_of_debug();
    let scenarios = catalog::chosen(args);
    if scenarios.is_empty() {
        let globs = args.scenario.join(" ");
        return Err(format!("no scenario is called {globs}; --full --list shows them all"));
    }
    let begun = Instant::now();
    let forwarders = forwarders(args)?;
    let (logchute, runs) = (logchute(args)?, runs(args));
    let session =
        Session { scenarios: &scenarios, forwarders: &forwarders, runs, logchute: &logchute };
    let (rows, skipped) = session.play().map_err(|error| error.to_string())?;
    let mut report = Report { rows, skipped, ..new_report(args, begun) };
    report.targets = targets::judge(&report, targets::aes_speed());
    publish(&report, args)
}

/// The same on a real engine.
fn run_real(args: &RunArgs) -> Result<(), String> {
    warn_of_debug();
    let begun = Instant::now();
    let globs = args.scenario.clone();
    let plan = real::Plan {
        logchute: logchute(args)?,
        variants: args.setting.clone(),
        runs: runs(args),
        lines: args.lines.unwrap_or(match (args.quick, args.full) {
            (true, _) => 200_000,
            (_, true) => 2_000_000,
            _ => 1_000_000,
        }),
        wanted: Box::new(move |name| {
            globs.is_empty() || globs.iter().any(|glob| catalog::matches(glob, name))
        }),
    };
    let real::Outcome { rows, targets, skipped, notes } = real::play(&plan)?;
    publish(&Report { rows, targets, skipped, notes, ..new_report(args, begun) }, args)
}

fn warn_of_debug() {
    if cfg!(debug_assertions) {
        say("loadtest: built without optimisation: figures mean nothing (cargo run --release)");
    }
}

/// The one to measure.
fn logchute(args: &RunArgs) -> Result<PathBuf, String> {
    args.logchute.clone().map_or_else(child::build_logchute, Ok)
}

fn runs(args: &RunArgs) -> u32 {
    args.runs.unwrap_or(if args.full { 5 } else { 3 })
}

/// Without figures.
fn new_report(args: &RunArgs, begun: Instant) -> Report {
    let begun_at = SystemTime::now() - begun.elapsed();
    Report {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        begun_at: begun_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs(),
        seconds: begun.elapsed().as_secs_f64(),
        runs: runs(args),
        machine: measure::machine(),
        ..Report::default()
    }
}

/// Shows it, and writes the files.
fn publish(report: &Report, args: &RunArgs) -> Result<(), String> {
    print(&format!("{}\n", markdown::tables(report)));
    write(report, args).map_err(|error| format!("{}: {error}", args.out.display()))
}

/// The relay, logchute (with each driver, if that is asked for), and what else was named.
fn forwarders(args: &RunArgs) -> Result<Vec<Forwarder>, String> {
    let drivers: &[_] = if args.drivers { &[Some("ring"), Some("poll")] } else { &[None] };
    let ours = drivers.iter().map(|io| Forwarder::Logchute(*io));
    let mut forwarders: Vec<Forwarder> = std::iter::once(Forwarder::Relay).chain(ours).collect();
    for text in &args.forwarder {
        forwarders.push(Forwarder::Other(Other::parse(text)?));
    }
    Ok(forwarders)
}

fn write(report: &Report, args: &RunArgs) -> std::io::Result<()> {
    std::fs::create_dir_all(&args.out)?;
    std::fs::write(args.out.join("report.json"), serde_json::to_vec_pretty(report)?)?;
    std::fs::write(args.out.join("report.md"), markdown::render(report))?;
    let svg = chart::svg(report);
    std::fs::write(args.out.join("chart.svg"), &svg)?;
    std::fs::write(args.out.join("chart.png"), chart::png(&svg).map_err(std::io::Error::other)?)?;
    let files = "report.json, report.md, chart.svg and chart.png";
    say(&format!("{files} are in {}", args.out.display()));
    Ok(())
}

/// A reader that has gone away (`loadtest | head`) is no failure.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
