//! The command line of docker-logentries: `logchute logentries -t TOKEN -j -a host=web1` is a route
//! and a few settings.
//!
//! Pure: arguments in, what they mean to logchute out. Flags are read as its `minimist` reads them:
//! a value follows as the next word or behind `=`, switches may stand together (`-js`), `--no-`
//! turns one off. What it takes and does not know is refused here.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use super::ConfigError;
use super::cli::{CliArgs, Command};
use super::env::Env;
use super::load::{self, Loaded};
use super::table::{FILE_SUFFIX, SETTINGS, Value};
use super::value::{self, escaped};
use crate::route::uri::encoded;

/// The first word of such a command line.
pub const NAME: &str = "logentries";

/// docker-logentries exits so after its usage, asked for or not.
const EXIT_USAGE: u8 = 1;

const USAGE: &str = "\
Usage: logchute logentries [-l LOGSTOKEN] [-k STATSTOKEN] [-e EVENTSTOKEN]
                           [-t TOKEN] [--secure] [--json]
                           [--no-newline] [--no-stats] [--no-logs] [--no-dockerEvents]
                           [-i STATSINTERVAL] [-a KEY=VALUE]
                           [--matchByImage REGEXP] [--matchByName REGEXP]
                           [--skipByImage REGEXP] [--skipByName REGEXP]
                           [--server HOSTNAME] [--port PORT]
                           [--help]
The command line of docker-logentries, as a route of logchute: the same tokens, variables and
records. One token is needed: -t, or those for logs (-l), stats (-k) and events (-e), or
LOGENTRIES_TOKEN and its companions. STATSINTERVAL is in seconds, 30 if not given; HOSTNAME is
data.logentries.com, PORT 80, and 443 with TLS (-s, --secure). -j, --json: lines that are JSON are
sent as such. Names begin with a slash for a REGEXP. Flags of logchute may follow.
";

/// A flag of docker-logentries.
struct Flag {
    long: &'static str,
    short: Option<char>,
    takes: Takes,
}

#[derive(Clone, Copy, PartialEq)]
enum Takes {
    /// A value; the last one counts.
    Text,
    /// The same, and each counts.
    Texts,
    /// None, or `true` or `false`.
    Switch,
}

const FLAGS: &[Flag] = &[
    Flag { long: "token", short: Some('t'), takes: Takes::Text },
    Flag { long: "logstoken", short: Some('l'), takes: Takes::Text },
    Flag { long: "statstoken", short: Some('k'), takes: Takes::Text },
    Flag { long: "eventstoken", short: Some('e'), takes: Takes::Text },
    Flag { long: "statsinterval", short: Some('i'), takes: Takes::Text },
    Flag { long: "add", short: Some('a'), takes: Takes::Texts },
    Flag { long: "server", short: None, takes: Takes::Text },
    Flag { long: "port", short: None, takes: Takes::Text },
    Flag { long: "matchByName", short: None, takes: Takes::Text },
    Flag { long: "matchByImage", short: None, takes: Takes::Text },
    Flag { long: "skipByName", short: None, takes: Takes::Text },
    Flag { long: "skipByImage", short: None, takes: Takes::Text },
    Flag { long: "secure", short: Some('s'), takes: Takes::Switch },
    Flag { long: "json", short: Some('j'), takes: Takes::Switch },
    Flag { long: "newline", short: Some('n'), takes: Takes::Switch },
    Flag { long: "stats", short: None, takes: Takes::Switch },
    Flag { long: "logs", short: None, takes: Takes::Switch },
    Flag { long: "dockerEvents", short: None, takes: Takes::Switch },
    Flag { long: "help", short: Some('h'), takes: Takes::Switch },
];

/// What a route calls the flags that choose containers.
const FILTERS: [(&str, &str); 4] = [
    ("matchByName", "filter.name.regex"),
    ("matchByImage", "filter.image.regex"),
    ("skipByName", "filter.skip.name.regex"),
    ("skipByImage", "filter.skip.image.regex"),
];

/// Each kind of record: the switch that turns it off, the flag of its own token, its sources.
const KINDS: [(&str, &str, &str); 3] = [
    ("logs", "logstoken", "stdout,stderr"),
    ("stats", "statstoken", "stats"),
    ("dockerEvents", "eventstoken", "events"),
];

/// Seconds between stats where nobody says otherwise.
const STATS_INTERVAL: &str = "30";

/// Reads the words behind [`NAME`], and what they leave to the environment.
///
/// # Errors
/// What cannot be read or cannot be done, in one line without tokens.
pub fn parse(words: &[String], env: &dyn Env) -> Result<Command, ConfigError> {
    let given = Given::read(words)?;
    let has_token = |flag: &str| -> Result<bool, ConfigError> {
        let variable = format!("LOGENTRIES_{}", flag.to_ascii_uppercase());
        let in_file = format!("{variable}{FILE_SUFFIX}");
        let told = env.get(&variable)?.is_some() || env.get(&in_file)?.is_some();
        Ok(told || given.flag(flag).is_some())
    };
    let any = has_token("token")?;
    let mut sources = Vec::new();
    let mut tokens = false;
    for (switch, token, names) in KINDS {
        let has = any || has_token(token)?;
        tokens |= has;
        if has && given.switch(switch, true) {
            sources.push(names);
        }
    }
    if given.switch("help", false) || !tokens {
        return Ok(Command::Print { text: USAGE.to_owned(), code: EXIT_USAGE });
    }
    if sources.is_empty() {
        return Err(wrong("all that there are tokens for is turned off; leave out a --no-..."));
    }
    let routes = vec![given.route(&sources)?];
    let env = Overlay { under: env, over: given.settings()? };
    let cli = CliArgs::new(given.ours.clone(), routes);
    load::load(&cli, &env).map(|loaded| Command::Run(given.warned(loaded)))
}

/// A command line, taken apart.
#[derive(Default)]
struct Given {
    texts: Vec<(&'static str, String)>,
    switches: Vec<(&'static str, bool)>,
    /// Flags of logchute itself.
    ours: Vec<(&'static str, String)>,
}

impl Given {
    fn read(words: &[String]) -> Result<Given, ConfigError> {
        let mut given = Given::default();
        let mut rest = words.iter().peekable();
        while let Some(word) = rest.next() {
            if let Some(long) = word.strip_prefix("--") {
                given.long(long, &mut rest)?;
            } else if let Some(short) = word.strip_prefix('-').filter(|short| !short.is_empty()) {
                given.short(short, &mut rest)?;
            } else {
                // It may be a token whose flag is missing.
                return Err(wrong("a word is no option; see logchute logentries --help"));
            }
        }
        Ok(given)
    }

    fn long<'w>(&mut self, word: &str, rest: &mut Words<'w>) -> Result<(), ConfigError> {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        if let Some(flag) = FLAGS.iter().find(|flag| flag.long == name) {
            return self.set(flag, value, rest);
        }
        let switch = |flag: &&Flag| flag.takes == Takes::Switch;
        let off = name.strip_prefix("no-");
        if let Some(flag) = FLAGS.iter().filter(switch).find(|flag| off == Some(flag.long)) {
            self.switches.push((flag.long, false));
            return Ok(());
        }
        let ours = SETTINGS.iter().find(|setting| setting.flag == Some(name));
        if let Some((flag, setting)) = ours.and_then(|ours| Some((ours.flag?, ours))) {
            let value = match (value, setting.value) {
                (Some(value), _) => value,
                (None, Value::Switch) => "true",
                (None, Value::Text(_)) => next(name, rest)?,
            };
            self.ours.push((flag, value.to_owned()));
            return Ok(());
        }
        Err(wrong(&match name {
            "containersTokensFilepath" => "--containersTokensFilepath: is not known; give each \
                image a route of its own, with filter.image.regex=^IMAGE: and logentries.token"
                .to_owned(),
            _ => format!("--{name}: is not an option; see logchute logentries --help"),
        }))
    }

    /// Letters behind one dash: switches, of which the last may be a flag with a value.
    fn short<'w>(&mut self, letters: &'w str, rest: &mut Words<'w>) -> Result<(), ConfigError> {
        for (at, letter) in letters.char_indices() {
            let flag = FLAGS.iter().find(|flag| flag.short == Some(letter)).ok_or_else(|| {
                wrong(&format!("-{letter}: is not an option; see logchute logentries --help"))
            })?;
            let behind = &letters[at + letter.len_utf8()..];
            let value = behind
                .strip_prefix('=')
                .or((flag.takes != Takes::Switch && !behind.is_empty()).then_some(behind));
            if value.is_some() || behind.is_empty() {
                return self.set(flag, value, rest);
            }
            self.switches.push((flag.long, true));
        }
        Ok(())
    }

    fn set<'w>(
        &mut self,
        flag: &Flag,
        value: Option<&str>,
        rest: &mut Words<'w>,
    ) -> Result<(), ConfigError> {
        let is_truth = |word: &&String| matches!(word.as_str(), "true" | "false");
        if flag.takes == Takes::Switch {
            let truth =
                value.or_else(|| rest.next_if(is_truth).map(String::as_str)).unwrap_or("true");
            let truth = value::boolean(truth)
                .map_err(|fix| wrong(&format!("--{}: the value {fix}", flag.long)))?;
            self.switches.push((flag.long, truth));
            return Ok(());
        }
        let value = match value {
            Some(value) => value,
            None => next(flag.long, rest)?,
        };
        if flag.takes == Takes::Text {
            self.texts.retain(|(name, _)| *name != flag.long);
        }
        self.texts.push((flag.long, value.to_owned()));
        Ok(())
    }

    /// The value of a flag; an empty one counts as not given.
    fn flag(&self, flag: &str) -> Option<&str> {
        let given = self.texts.iter().find(|(name, _)| *name == flag);
        given.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    fn switch(&self, flag: &str, usual: bool) -> bool {
        let given = self.switches.iter().rfind(|(name, _)| *name == flag);
        given.map_or(usual, |(_, truth)| *truth)
    }

    /// The route that carries all of it, as a URI.
    fn route(&self, sources: &[&str]) -> Result<String, ConfigError> {
        let secure = self.switch("secure", false);
        let port = match self.flag("port") {
            Some(text) => Some(text.parse::<u16>().map_err(|_| {
                wrong(&format!("--port: {text:?} is no port; write a number, such as 80 or 443"))
            })?),
            None => None,
        };
        let server = self.flag("server").or(port.and(Some("data.logentries.com")));
        let server = server.map_or(Ok(String::new()), host)?;
        let port = port.map_or(String::new(), |port| format!(":{port}"));
        let mut options = vec![("filter.sources", sources.join(","))];
        for (flag, option) in FILTERS {
            options.extend(self.flag(flag).map(|regex| (option, regex.to_owned())));
        }
        for (flag, option) in [
            ("token", "logentries.token"),
            ("logstoken", "logentries.logstoken"),
            ("statstoken", "logentries.statstoken"),
            ("eventstoken", "logentries.eventstoken"),
        ] {
            options.extend(self.flag(flag).map(|token| (option, token.to_owned())));
        }
        if self.switch("json", false) {
            options.push(("logentries.json", "true".to_owned()));
        }
        let added = self.texts.iter().filter(|(flag, _)| *flag == "add");
        let added: Vec<String> = added.map(|(_, entry)| escaped(entry)).collect();
        if !added.is_empty() {
            options.push(("logentries.add", added.join(",")));
        }
        let options: Vec<String> =
            options.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let tls = if secure { "+tls" } else { "" };
        Ok(format!("logentries{tls}://{server}{port}?{}", options.join("&")))
    }

    /// Settings that make logchute carry what docker-logentries carries: lines of each container,
    /// whatever its log driver and with a terminal too. What the environment has wins.
    fn settings(&self) -> Result<BTreeMap<&'static str, Override>, ConfigError> {
        let mut settings = BTreeMap::from([
            ("ALLOW_TTY", Override { text: "true".to_owned(), wins: false }),
            ("LOG_DRIVERS", Override { text: "all".to_owned(), wins: false }),
        ]);
        let seconds = self.flag("statsinterval");
        let text = seconds.unwrap_or(STATS_INTERVAL);
        if !text.parse::<u32>().is_ok_and(|seconds| seconds > 0) {
            return Err(wrong(&format!(
                "--statsinterval: {text:?} is no number of seconds; write e.g. 30"
            )));
        }
        let text = format!("{text}s");
        settings.insert("STATS_INTERVAL", Override { text, wins: seconds.is_some() });
        Ok(settings)
    }

    fn warned(&self, mut loaded: Loaded) -> Loaded {
        if !self.switch("newline", true) {
            loaded
                .warnings
                .push("--no-newline has no effect: each line is a record of its own".to_owned());
        }
        if !self.switch("secure", false) {
            loaded.warnings.push(
                "tokens and lines go over the network as they are, as with docker-logentries; \
                 give -s for TLS"
                    .to_owned(),
            );
        }
        loaded
    }
}

type Words<'w> = std::iter::Peekable<std::slice::Iter<'w, String>>;

/// What a flag makes of a setting.
struct Override {
    text: String,
    /// Also where the environment has it.
    wins: bool,
}

/// The environment, and what a command line puts over or under it.
struct Overlay<'e> {
    under: &'e dyn Env,
    over: BTreeMap<&'static str, Override>,
}

impl Env for Overlay<'_> {
    fn get(&self, name: &str) -> Result<Option<String>, ConfigError> {
        let over = self.over.get(name);
        let text = || over.map(|over| over.text.clone());
        match over {
            Some(over) if over.wins => Ok(text()),
            _ => Ok(self.under.get(name)?.or_else(text)),
        }
    }

    fn all(&self) -> BTreeMap<String, String> {
        self.under.all()
    }

    fn host_hostname(&self) -> Result<Option<Vec<u8>>, ConfigError> {
        self.under.host_hostname()
    }

    fn file(&self, path: &str) -> Result<Vec<u8>, String> {
        self.under.file(path)
    }
}

/// The word that follows as the value of a flag.
fn next<'w>(flag: &str, rest: &mut Words<'w>) -> Result<&'w str, ConfigError> {
    let next = rest.next_if(|word| !word.starts_with('-') || *word == "-");
    next.map(String::as_str).ok_or_else(|| wrong(&format!("--{flag}: lacks its value")))
}

/// A host as a URI has it: an IPv6 address stands in brackets.
fn host(server: &str) -> Result<String, ConfigError> {
    let bare = server.trim_matches(['[', ']']);
    if bare.parse::<Ipv6Addr>().is_ok() {
        return Ok(format!("[{bare}]"));
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    match !server.is_empty() && server.chars().all(is_name) {
        true => Ok(server.to_owned()),
        false => Err(wrong(&format!(
            "--server: {} is no host name or address; its port goes into --port",
            value::shown(server)
        ))),
    }
}

fn wrong(what: &str) -> ConfigError {
    ConfigError::new(format!("{NAME}: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::env::MapEnv;
    use crate::route::RouteSpec;
    use crate::route::uri::display;

    fn parsed(line: &[&str], env: &[(&str, &str)]) -> Result<Command, String> {
        let words: Vec<String> = line.iter().map(|&word| word.to_owned()).collect();
        parse(&words, &MapEnv::new(env)).map_err(|error| error.to_string())
    }

    fn loaded(line: &[&str], env: &[(&str, &str)]) -> Loaded {
        match parsed(line, env) {
            Ok(Command::Run(loaded)) => loaded,
            other => panic!("{line:?}: {other:?}"),
        }
    }

    fn route(line: &[&str], env: &[(&str, &str)]) -> RouteSpec {
        let mut routes = loaded(line, env).settings.routes;
        assert_eq!(routes.len(), 1);
        routes.remove(0)
    }

    fn shown(line: &[&str], env: &[(&str, &str)]) -> String {
        display(&route(line, env))
    }

    const ALL: &str = "filter.sources=stdout%2Cstderr%2Cstats%2Cevents";

    #[test]
    fn the_commands_of_its_readme_run() {
        let container = ["-t", "T1", "-j", "-a", "host=web1"];
        assert_eq!(
            shown(&container, &[]),
            format!(
                "logentries://?{ALL}&logentries.token=***&logentries.json=true\
                 &logentries.add=host%3Dweb1"
            )
        );
        let three = route(&["-l", "L", "-k", "K", "-e", "E", "-j", "-a", "host=h"], &[]);
        assert_eq!(three.selector.sources, ["stdout", "stderr", "stats", "events"]);
        for (option, token) in [("logstoken", "L"), ("statstoken", "K"), ("eventstoken", "E")] {
            assert_eq!(three.option(&format!("logentries.{option}")), Some(token));
        }
        let quiet = ["--no-stats", "--no-dockerEvents"];
        let filtered = [
            "--matchByName",
            "^/(web|db)$",
            "--skipByImage=a,b%",
            "--matchByImage",
            "x y",
            "--token=$T",
        ];
        let route = route(&[&quiet[..], &filtered].concat(), &[("T", "expanded")]);
        assert_eq!(route.selector.sources, ["stdout", "stderr"]);
        for (option, value) in [
            ("filter.name.regex", "^/(web|db)$"),
            ("filter.skip.image.regex", "a,b%"),
            ("filter.image.regex", "x y"),
            ("logentries.token", "$T"),
        ] {
            assert_eq!(route.option(option), Some(value), "{option}");
        }
    }

    #[test]
    fn a_source_is_carried_if_there_is_a_token_for_it() {
        let sources = |line: &[&str], env: &[(&str, &str)]| route(line, env).selector.sources;
        assert_eq!(sources(&["-k", "K"], &[]), ["stats"]);
        assert_eq!(sources(&[], &[("LOGENTRIES_EVENTSTOKEN", "E")]), ["events"]);
        assert_eq!(sources(&["--no-logs"], &[("LOGENTRIES_TOKEN", "T")]), ["stats", "events"]);
        let env = MapEnv::new(&[("LOGENTRIES_LOGSTOKEN_FILE", "/t")]).with_file("/t", b"L\n");
        let Ok(Command::Run(loaded)) = parse(&[], &env) else { panic!() };
        assert_eq!(loaded.settings.routes[0].selector.sources, ["stdout", "stderr"]);
        let given = loaded.settings.batch.given;
        assert_eq!(given.get("logentries.logstoken").map(String::as_str), Some("L"));
        let off = parsed(&["-l", "L", "--no-logs"], &[]).unwrap_err();
        assert!(off.contains("leave out a --no-"), "{off}");
    }

    #[test]
    fn server_and_port() {
        for (line, begin) in [
            (&["--secure"][..], "logentries+tls://?"),
            (&["-sj"], "logentries+tls://?"),
            (&["-s", "--no-secure"], "logentries://?"),
            (&["--server", "relay"], "logentries://relay?"),
            (&["--port", "514"], "logentries://data.logentries.com:514?"),
            (&["-js", "--server=::1", "--port=1"], "logentries+tls://[::1]:1?"),
        ] {
            let shown = shown(&[line, &["-t", "T"]].concat(), &[]);
            assert!(shown.starts_with(begin), "{shown}");
        }
    }

    #[test]
    fn words_are_read_as_minimist_reads_them() {
        let option = |line: &[&str], option: &str| {
            route(&[line, &["--token", "T"]].concat(), &[]).option(option).map(str::to_owned)
        };
        assert_eq!(option(&["-a=k=v"], "logentries.add").as_deref(), Some("k=v"));
        let twice = option(&["-a", "k=a,b", "--add", "l=m=n"], "logentries.add");
        assert_eq!(twice.as_deref(), Some("k=a\\,b,l=m=n"));
        assert_eq!(option(&["--json", "false"], "logentries.json"), None);
        assert_eq!(option(&["--no-json"], "logentries.json"), None);
        assert_eq!(option(&["--json=true"], "logentries.json").as_deref(), Some("true"));
        assert_eq!(option(&["-t", "first"], "logentries.token").as_deref(), Some("T"));
        assert_eq!(option(&["-jn"], "logentries.json").as_deref(), Some("true"));
    }

    #[test]
    fn other_settings_are_those_of_docker_logentries() {
        let follow = |line: &[&str], env: &[(&str, &str)]| {
            let follow = loaded(&[line, &["-t", "T"]].concat(), env).settings.follow;
            (follow.allow_tty, follow.log_drivers)
        };
        assert_eq!(follow(&[], &[]), (true, None));
        let local = Some(vec!["local".to_owned()]);
        assert_eq!(follow(&[], &[("LOG_DRIVERS", "local")]), (true, local.clone()));
        assert_eq!(follow(&["--log-drivers", "local", "--backlog"], &[]), (true, local));
        let interval = |line: &[&str], env: &[(&str, &str)]| {
            let words: Vec<String> = line.iter().map(|&word| word.to_owned()).collect();
            let under = MapEnv::new(env);
            let over = Given::read(&words).unwrap().settings().unwrap();
            Overlay { under: &under, over }.get("STATS_INTERVAL").unwrap().unwrap()
        };
        assert_eq!(interval(&[], &[]), "30s");
        assert_eq!(interval(&[], &[("STATS_INTERVAL", "7s")]), "7s");
        assert_eq!(interval(&["-i5"], &[("STATS_INTERVAL", "7s")]), "5s");
    }

    #[test]
    fn what_has_no_effect_or_no_cover_is_said() {
        let warnings = |line: &[&str]| loaded(&[line, &["-t", "T"]].concat(), &[]).warnings;
        assert_eq!(warnings(&["-s"]), Vec::<String>::new());
        let both = warnings(&["--no-newline"]);
        assert!(both[0].contains("--no-newline has no effect"), "{both:?}");
        assert!(both[1].contains("give -s for TLS"), "{both:?}");
    }

    #[test]
    fn usage_is_printed_as_there() {
        for line in [&[][..], &["-j"], &["--help"], &["-t", "T", "--help"], &["-t="]] {
            let Ok(Command::Print { text, code: 1 }) = parsed(line, &[]) else {
                panic!("{line:?}");
            };
            assert!(text.contains("--matchByName REGEXP"));
        }
    }

    #[test]
    fn refusals_name_the_flag_and_no_token() {
        for (line, why) in [
            (&["sEcReT"][..], "a word is no option"),
            (&["-t", "-j"], "--token: lacks its value"),
            (&["--tokn", "sEcReT"], "--tokn: is not an option"),
            (&["--tokn=sEcReT"], "--tokn: is not an option"),
            (&["-x"], "-x: is not an option"),
            (&["-t", "sEcReT", "--port", "http"], "--port: \"http\" is no port"),
            (&["-t", "sEcReT", "-i", "0"], "\"0\" is no number of seconds"),
            (&["-t", "sEcReT", "--server", "relay:80"], "\"relay:80\" is no host name"),
            (&["--json=perhaps"], "--json: the value is neither true nor false"),
            (&["--containersTokensFilepath", "/x.json"], "filter.image.regex=^IMAGE:"),
            (&["-t", "sEcReT", "--shards", "x"], "--shards: \"x\" is not a number"),
        ] {
            let error = parsed(line, &[]).unwrap_err();
            assert!(error.contains(why) && !error.contains("sEcReT"), "{line:?}: {error}");
        }
    }
}
