//! The program: reads the command line, sets up logging, and hands over to the library.
//! It alone writes to the terminal and decides the exit code.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use logchute::admin::probe;
use logchute::config::cli::{self, Command, EXIT_CONFIG, EXIT_FAILURE, EXIT_OK};
use logchute::config::env::ProcessEnv;
use logchute::config::load::{Loaded, LogSettings};
use logchute::config::table;
use logchute::config::wget::Page;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long `logchute health` and `wget` wait for the whole answer.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    let code = match cli::parse(std::env::args_os(), &ProcessEnv) {
        Ok(command) => execute(command),
        Err(error) => {
            complain(&error.to_string());
            EXIT_CONFIG
        }
    };
    ExitCode::from(code)
}

fn execute(command: Command) -> u8 {
    match command {
        Command::Print { text, code } => print(&text, code),
        Command::Settings => print(&table::text(), EXIT_OK),
        Command::Health(http) => probed(probe::health(http.address, HEALTH_TIMEOUT)),
        Command::Spider(Page { host, port, path }) => {
            probed(probe::spider(&host, port, &path, HEALTH_TIMEOUT))
        }
        Command::Run(loaded) => run(loaded),
        Command::Check(loaded) => check(loaded),
        Command::SlackTest(loaded) => slack_test(loaded),
    }
}

/// `logchute health`, and the image's `wget`.
fn probed(answer: Result<(), String>) -> u8 {
    match answer {
        Ok(()) => EXIT_OK,
        Err(reason) => {
            complain(&reason);
            EXIT_FAILURE
        }
    }
}

/// `logchute [ROUTE_URI]...`
fn run(loaded: Loaded) -> u8 {
    start_log(&loaded);
    outcome(logchute::control::run::run(loaded.settings))
}

/// `logchute check`
fn check(loaded: Loaded) -> u8 {
    start_log(&loaded);
    outcome(logchute::control::run::check(loaded.settings))
}

/// `logchute slack-test`
fn slack_test(loaded: Loaded) -> u8 {
    start_log(&loaded);
    outcome(logchute::control::slack_test::slack_test(&loaded.settings))
}

/// Bad configuration is said whatever the log lets through.
fn outcome(code: Result<u8, String>) -> u8 {
    code.unwrap_or_else(|error| {
        complain(&error);
        EXIT_CONFIG
    })
}

/// Opens the log, and says what the user should know of the configuration.
fn start_log(loaded: &Loaded) {
    open_log(&loaded.log);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    for note in &loaded.notes {
        tracing::debug!("{note}");
    }
}

fn open_log(log: &LogSettings) {
    tracing_subscriber::fmt()
        // The filter was checked when it was loaded.
        .with_env_filter(tracing_subscriber::EnvFilter::new(&log.filter))
        .with_writer(std::io::stderr)
        .with_ansi(log.color && std::io::stderr().is_terminal())
        .with_target(false)
        // Otherwise a line that cannot be written is reported with `eprintln!`, which panics.
        .log_internal_errors(false)
        .init();
}

/// A reader that has gone away (`logchute settings | head`) is no failure.
fn print(text: &str, code: u8) -> u8 {
    let _ = std::io::stdout().write_all(text.as_bytes());
    code
}

/// One line on stderr; where that is closed there is no one to tell.
fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "logchute: {text}");
}
