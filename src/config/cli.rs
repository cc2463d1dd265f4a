//! The command line: arguments in, a [`Command`] out. Made from [`super::table`]; prints nothing
//! and ends nothing: that is for `main` to do.

use std::ffi::OsString;
use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction};

use super::env::Env;
use super::load::{self, Loaded};
use super::table::{SETTINGS, Setting, Value};
use super::{ConfigError, HttpSettings, logentries, wget};

/// Exit code: done, or stopped by a signal with everything delivered.
pub const EXIT_OK: u8 = 0;
/// Exit code: something failed while running.
pub const EXIT_FAILURE: u8 = 1;
/// Exit code: the configuration is wrong; nothing was contacted.
pub const EXIT_CONFIG: u8 = 2;

/// Name of the argument that takes routes, and a command as its first word.
const WORDS: &str = "ROUTE_URI";

const USAGE: &str = "\
logchute [OPTIONS] [ROUTE_URI]...
       logchute check | slack-test [OPTIONS] [ROUTE_URI]...
       logchute logentries [FLAGS OF docker-logentries]
       logchute health | settings";

const AFTER_HELP: &str = "\
Routes: ADAPTER[+TRANSPORT]://ADDRESS[?OPTION=VALUE&...], e.g. syslog+tcp://logs:514

Commands:
  check       check the configuration and that the daemon answers, then exit
  slack-test  send one message to each webhook, say what came back, then exit; webhook-test too
  logentries  carry what docker-logentries carries: see logchute logentries --help
  health      ask the listener of a running logchute for /health (for HEALTHCHECK)
  settings    print every setting: variables, flags, options of routes

Exit codes:
  0  done; stopped by SIGTERM or SIGINT with every line delivered
  1  failure: daemon or listener not reachable, address taken, a thread died
  2  bad configuration; nothing was contacted";

/// What the command line asks for.
#[derive(Clone, Debug)]
pub enum Command {
    /// Carry lines until a signal comes.
    Run(Loaded),
    /// Check that what was configured can work.
    Check(Loaded),
    /// Send one message over each route to Slack or another webhook.
    SlackTest(Loaded),
    /// Ask the listener that these settings describe.
    Health(HttpSettings),
    /// Ask whether this page is there.
    Spider(wget::Page),
    /// Print [`super::table::text`].
    Settings,
    /// Print this on standard output and exit with this code.
    Print {
        /// What to print.
        text: String,
        /// The exit code.
        code: u8,
    },
}

/// The words of a command line, not yet read as settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CliArgs {
    flags: Vec<(&'static str, String)>,
    /// Route URIs, or comma lists of them.
    pub routes: Vec<String>,
}

impl CliArgs {
    /// Flags with their values, and routes.
    pub(super) fn new(flags: Vec<(&'static str, String)>, routes: Vec<String>) -> CliArgs {
        CliArgs { flags, routes }
    }

    /// The value given for `--flag`; an empty one counts as not given.
    pub fn flag(&self, flag: &str) -> Option<&str> {
        let given = self.flags.iter().find(|(name, _)| *name == flag);
        given.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }
}

/// Reads a command line (the program's name first) and what it leaves to the environment.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    env: &dyn Env,
) -> Result<Command, ConfigError> {
    let args: Vec<OsString> = args.into_iter().collect();
    if args.first().is_some_and(|name| Path::new(name).file_name() == Some(wget::NAME.as_ref())) {
        let words: Vec<_> = args[1..].iter().map(|word| word.to_string_lossy()).collect();
        return wget::parse(words.iter().map(|word| &**word)).map(Command::Spider);
    }
    if args.get(1).is_some_and(|word| word == logentries::NAME) {
        let words: Vec<_> = args[2..].iter().map(|w| w.to_string_lossy().into_owned()).collect();
        return logentries::parse(&words, env);
    }
    let matches = match command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => return answer(&error),
    };
    let with_routes = |routes, cli: CliArgs| load::load(&CliArgs { routes, ..cli }, env);
    let mut cli = CliArgs::default();
    for flag in SETTINGS.iter().filter_map(|setting| setting.flag) {
        if let Some(value) = matches.get_one::<String>(flag) {
            cli.flags.push((flag, value.clone()));
        }
    }
    let mut words = matches.get_many::<String>(WORDS).unwrap_or_default().cloned();
    let first = words.next();
    let rest: Vec<String> = words.collect();
    match first.as_deref() {
        Some("check") => with_routes(rest, cli).map(Command::Check),
        Some("slack-test" | "webhook-test") => with_routes(rest, cli).map(Command::SlackTest),
        Some("health") => alone("health", &rest).and_then(|()| health(&cli, env)),
        Some("settings") => alone("settings", &rest).map(|()| Command::Settings),
        _ => {
            let routes = first.into_iter().chain(rest).collect();
            with_routes(routes, cli).map(Command::Run)
        }
    }
}

fn alone(command: &str, rest: &[String]) -> Result<(), ConfigError> {
    if rest.is_empty() {
        return Ok(());
    }
    Err(ConfigError::new(format!("{command}: takes no route; leave out what follows it")))
}

fn health(cli: &CliArgs, env: &dyn Env) -> Result<Command, ConfigError> {
    match load::load_http(cli, env)? {
        Some(http) => Ok(Command::Health(http)),
        None => Err(ConfigError::new(
            "health: the HTTP listener is switched off; give --http ADDR:PORT",
        )),
    }
}

/// What to do about a command line that clap did not take, `--help` and `--version` included.
fn answer(error: &clap::Error) -> Result<Command, ConfigError> {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            Ok(Command::Print { text: error.to_string(), code: EXIT_OK })
        }
        _ => Err(ConfigError::new(one_line(error))),
    }
}

/// clap's errors have several paragraphs; this is what they say. Values are left out: they might
/// be secret.
fn one_line(error: &clap::Error) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => texts.first().cloned(),
        _ => None,
    };
    let Some(argument) = context(ContextKind::InvalidArg) else {
        return format!("arguments: {}; see logchute --help", error.kind());
    };
    let complaint = match error.kind() {
        ErrorKind::UnknownArgument => "is not an option",
        ErrorKind::InvalidValue | ErrorKind::TooFewValues => "lacks its value",
        ErrorKind::ArgumentConflict => "is there twice",
        _ => "cannot be read",
    };
    match context(ContextKind::SuggestedArg) {
        Some(similar) => format!("{argument}: {complaint}; did you mean {similar}?"),
        None => format!("{argument}: {complaint}; see logchute --help"),
    }
}

/// The command line as clap sees it.
fn command() -> clap::Command {
    let words = Arg::new(WORDS)
        .action(ArgAction::Append)
        .help("where lines go; several routes are separate arguments or a comma list [console://]");
    let help = Arg::new("help").short('h').long("help").action(ArgAction::Help);
    let version = Arg::new("version").short('V').long("version").action(ArgAction::Version);
    clap::Command::new("logchute")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Routes every line of every container of a Docker host to where it belongs.")
        .override_usage(USAGE)
        .after_help(AFTER_HELP)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args(SETTINGS.iter().filter_map(argument))
        .args([help.help("print this"), version.help("print the version"), words])
}

fn argument(setting: &Setting) -> Option<Arg> {
    let flag = setting.flag?;
    let arg = Arg::new(flag)
        .long(flag)
        .value_name(setting.value.placeholder())
        .help(format!("{} [{}]", setting.meaning, setting.default));
    Some(match setting.value {
        Value::Text(_) => arg,
        Value::Switch => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
    })
}
