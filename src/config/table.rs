//! The one list of settings. Everything that names a setting is made from it: the arguments, the
//! `--help` text, `logchute settings` and the README's reference. Pure: text out, nothing read.
//!
//! A new setting is a row here, and the line in [`super::load`] that reads it. A default is
//! written once, here: the loader parses this very text where nothing else was given.

use std::fmt::Write as _;

/// One setting: what it is called in each place where it can be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The environment variable.
    pub env: Option<&'static str>,
    /// The long flag, without its dashes; only the most used settings have one.
    pub flag: Option<&'static str>,
    /// The option of a route URI, for what can be set per route.
    pub option: Option<&'static str>,
    /// What it takes.
    pub value: Value,
    /// The text that applies where nothing is given, or words that say what happens then.
    pub default: &'static str,
    /// What it does, in one line.
    pub meaning: &'static str,
    /// Where the reference lists it.
    pub group: Group,
    /// The value may hold a token: it is never printed.
    pub secret: bool,
}

/// What a setting takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text, shown under this placeholder.
    Text(&'static str),
    /// `true` or `false`; a flag given without a value means `true`.
    Switch,
}

impl Value {
    /// What stands for the value in help texts.
    pub fn placeholder(self) -> &'static str {
        match self {
            Value::Text(placeholder) => placeholder,
            Value::Switch => "BOOL",
        }
    }
}

/// A chapter of the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Where lines go.
    Routes,
    /// How to reach the daemon.
    Docker,
    /// Which containers are followed.
    Containers,
    /// Memory, threads, time.
    Resources,
    /// Defaults of syslog routes.
    Syslog,
    /// TLS to receivers.
    Tls,
    /// The HTTP listener and logchute's own log.
    Operation,
    /// Variables of Logspout that have no effect in this version.
    Unsupported,
}

impl Group {
    /// Every group, in the order of the reference.
    pub const ALL: [Group; 8] = [
        Group::Routes,
        Group::Docker,
        Group::Containers,
        Group::Resources,
        Group::Syslog,
        Group::Tls,
        Group::Operation,
        Group::Unsupported,
    ];

    /// The chapter's heading.
    pub fn title(self) -> &'static str {
        match self {
            Group::Routes => "Routes",
            Group::Docker => "Docker daemon",
            Group::Containers => "Containers",
            Group::Resources => "Memory, threads, time",
            Group::Syslog => "Syslog",
            Group::Tls => "TLS to receivers",
            Group::Operation => "HTTP listener and log",
            Group::Unsupported => "Accepted with a warning, not used yet",
        }
    }
}

impl Setting {
    const fn new(group: Group, value: Value, default: &'static str, meaning: &'static str) -> Self {
        let (env, flag, option) = (None, None, None);
        Setting { env, flag, option, value, default, meaning, group, secret: false }
    }

    const fn env(mut self, name: &'static str) -> Setting {
        self.env = Some(name);
        self
    }

    const fn flag(mut self, name: &'static str) -> Setting {
        self.flag = Some(name);
        self
    }

    const fn option(mut self, name: &'static str) -> Setting {
        self.option = Some(name);
        self
    }

    const fn secret(mut self) -> Setting {
        self.secret = true;
        self
    }

    /// A variable of Logspout that has no effect yet. All count as secret: nothing of their
    /// values is of interest, and some hold tokens.
    const fn unsupported(name: &'static str, meaning: &'static str) -> Setting {
        Setting::new(Group::Unsupported, Value::Text("TEXT"), "", meaning).env(name).secret()
    }
}

/// Switches of Logspout, which knows `true` to the letter and nothing else.
pub(super) static LOGSPOUT_SWITCHES: &[&Setting] =
    &[&BACKLOG, &ALLOW_TTY, &TLS_DISABLE_SYSTEM_ROOTS, &TLS_HARDENING];

/// Names each row, so that the loader cannot misspell one, and lists them all.
macro_rules! table {
    ($($name:ident = $row:expr;)*) => {
        $(pub(super) const $name: Setting = $row;)*

        /// Every setting, in the order of the reference.
        pub static SETTINGS: &[Setting] = &[$($name),*];
    };
}

use Group::{Containers, Docker, Operation, Resources, Routes, Syslog, Tls};
use Value::{Switch, Text};

#[rustfmt::skip] // One row is one setting: rustfmt would spread each over eight lines.
table! {
    ROUTE_URIS = Setting::new(Routes, Text("ROUTE_URI,..."), "console://",
        "routes, where none is given as an argument: a comma list; `$NAME` is expanded")
        .env("ROUTE_URIS").secret();
    FILTER_ID = Setting::new(Routes, Text("ID"), "every container",
        "only the container whose id begins so").option("filter.id");
    FILTER_NAME = Setting::new(Routes, Text("GLOB"), "every container",
        "only containers whose name matches: `*`, `?`, `[a-z]`").option("filter.name");
    FILTER_SOURCES = Setting::new(Routes, Text("SOURCE,..."), "stdout,stderr",
        "only lines of these sources").option("filter.sources");
    FILTER_LABELS = Setting::new(Routes, Text("KEY:GLOB,..."), "every container",
        "only containers that have all these labels; a lone key asks for its presence")
        .option("filter.labels");
    FILTER_MATCH = Setting::new(Routes, Text("REGEX"), "every line",
        "only lines that the expression matches").option("filter.match");
    FILTER_EXCLUDE = Setting::new(Routes, Text("REGEX"), "no line",
        "not the lines that the expression matches").option("filter.exclude");

    DOCKER_HOST = Setting::new(Docker, Text("URL"), "a usual socket",
        "where the daemon is: unix://PATH or tcp://HOST:PORT")
        .env("DOCKER_HOST").flag("docker-host");
    DOCKER_TLS_VERIFY = Setting::new(Docker, Text("ANY"), "no TLS",
        "any value: TLS with client certificates to a tcp:// daemon").env("DOCKER_TLS_VERIFY");
    DOCKER_CERT_PATH = Setting::new(Docker, Text("DIR"), "~/.docker",
        "where ca.pem, cert.pem and key.pem are").env("DOCKER_CERT_PATH");
    DOCKER_API_VERSION = Setting::new(Docker, Text("VERSION"), "negotiated",
        "the API version to use, such as 1.43").env("DOCKER_API_VERSION");

    BACKLOG = Setting::new(Containers, Switch, "false",
        "also send what running containers have written before")
        .env("BACKLOG").flag("backlog");
    TAIL = Setting::new(Containers, Text("LINES"), "all",
        "at most so many lines of backlog for each container").env("TAIL").flag("tail");
    ALLOW_TTY = Setting::new(Containers, Switch, "false",
        "follow containers that have a terminal (docker run -t)")
        .env("ALLOW_TTY").flag("allow-tty");
    EXCLUDE_LABELS = Setting::new(Containers, Text("KEY:VALUE;..."), "none excluded",
        "do not follow containers with one of these labels; a lone key means `KEY:true`")
        .env("EXCLUDE_LABELS");
    EXCLUDE_LABEL = Setting::new(Containers, Text("KEY:VALUE;..."), "none excluded",
        "as EXCLUDE_LABELS, read where that is not set").env("EXCLUDE_LABEL");
    LOG_DRIVERS = Setting::new(Containers, Text("NAME,..."), "json-file,local,journald,db",
        "log drivers to follow, or `all`").env("LOG_DRIVERS").flag("log-drivers");
    FOLLOW_SELF = Setting::new(Containers, Switch, "false",
        "follow logchute's own container too: beware of loops")
        .env("FOLLOW_SELF").flag("follow-self");

    MAX_LINE = Setting::new(Resources, Text("SIZE"), "1MiB",
        "cut longer lines into marked parts; 1KiB to 64MiB").env("MAX_LINE").flag("max-line");
    BUFFER = Setting::new(Resources, Text("SIZE"), "16MiB",
        "memory of a route; if full, the oldest lines go; min 64KiB")
        .env("BUFFER").flag("buffer").option("buffer");
    SHARDS = Setting::new(Resources, Text("COUNT"), "auto",
        "threads that carry lines, 1 to 256; auto: one per core").env("SHARDS").flag("shards");
    IO = Setting::new(Resources, Text("DRIVER"), "auto",
        "ring (io_uring), poll (epoll), or auto: ring where it works")
        .env("LOGCHUTE_IO").flag("io");
    DRAIN_TIMEOUT = Setting::new(Resources, Text("TIME"), "5s",
        "how long to go on delivering after SIGTERM; 24h at most")
        .env("DRAIN_TIMEOUT").flag("drain-timeout");
    RETRY_COUNT = Setting::new(Resources, Text("COUNT"), "10",
        "accepted and checked; has no effect: reconnecting never ends").env("RETRY_COUNT");
    INACTIVITY_TIMEOUT = Setting::new(Resources, Text("TIME"), "0",
        "accepted and checked; has no effect: quiet streams need no restart")
        .env("INACTIVITY_TIMEOUT");

    SYSLOG_FORMAT = Setting::new(Syslog, Text("FORMAT"), "rfc5424",
        "rfc5424 or rfc3164").env("SYSLOG_FORMAT").option("syslog.format");
    SYSLOG_TCP_FRAMING = Setting::new(Syslog, Text("FRAMING"), "traditional",
        "on byte streams: traditional (newline) or octet-counted")
        .env("SYSLOG_TCP_FRAMING").option("syslog.framing");
    SYSLOG_STRUCTURED_DATA = Setting::new(Syslog, Text("TEXT"), "-",
        "what stands between the brackets of STRUCTURED-DATA")
        .env("SYSLOG_STRUCTURED_DATA").option("structured_data").secret();
    APPEND_TAG = Setting::new(Syslog, Text("TEXT"), "nothing",
        "what the tag has after the container's name").option("append_tag");

    TLS_DISABLE_SYSTEM_ROOTS = Setting::new(Tls, Switch, "false",
        "trust only LOGSPOUT_TLS_CA_CERTS").env("LOGSPOUT_TLS_DISABLE_SYSTEM_ROOTS");
    TLS_CA_CERTS = Setting::new(Tls, Text("FILE,..."), "none",
        "PEM files with further authorities").env("LOGSPOUT_TLS_CA_CERTS");
    TLS_CLIENT_CERT = Setting::new(Tls, Text("FILE"), "none",
        "PEM file with the client certificate; needs the key too")
        .env("LOGSPOUT_TLS_CLIENT_CERT");
    TLS_CLIENT_KEY = Setting::new(Tls, Text("FILE"), "none",
        "PEM file with the client's private key").env("LOGSPOUT_TLS_CLIENT_KEY");
    TLS_HARDENING = Setting::new(Tls, Switch, "false",
        "only strong suites and curves").env("LOGSPOUT_TLS_HARDENING");

    HTTP = Setting::new(Operation, Text("ADDR:PORT"), "127.0.0.1:8080",
        "where /health and /metrics are, or `off`").flag("http");
    HTTP_BIND_ADDRESS = Setting::new(Operation, Text("ADDR"), "0.0.0.0 if a port is set",
        "the address to listen on, or `off`").env("HTTP_BIND_ADDRESS");
    PORT = Setting::new(Operation, Text("PORT"), "8080", "the port to listen on").env("PORT");
    HTTP_PORT = Setting::new(Operation, Text("PORT"), "8080",
        "as PORT, read where that is not set").env("HTTP_PORT");
    LOG = Setting::new(Operation, Text("FILTER"), "info",
        "own log, on stderr: off, error, warn, info, debug, or more finely")
        .env("LOGCHUTE_LOG").flag("log");
    DEBUG = Setting::new(Operation, Text("ANY"), "not set",
        "any value: as LOGCHUTE_LOG=debug, read where that is not set").env("DEBUG");
    NO_COLOR = Setting::new(Operation, Text("ANY"), "not set",
        "any value: no colours, on a terminal either").env("NO_COLOR");

    RAW_FORMAT = Setting::unsupported("RAW_FORMAT", "template of raw records");
    SYSLOG_PRIORITY = Setting::unsupported("SYSLOG_PRIORITY", "template of PRI");
    SYSLOG_TIMESTAMP = Setting::unsupported("SYSLOG_TIMESTAMP", "template of TIMESTAMP");
    SYSLOG_HOSTNAME = Setting::unsupported("SYSLOG_HOSTNAME", "template of HOSTNAME");
    SYSLOG_TAG = Setting::unsupported("SYSLOG_TAG", "template of the tag");
    SYSLOG_PID = Setting::unsupported("SYSLOG_PID", "template of PROCID");
    SYSLOG_DATA = Setting::unsupported("SYSLOG_DATA", "template of MSG");
    MULTILINE_ENABLE_DEFAULT =
        Setting::unsupported("MULTILINE_ENABLE_DEFAULT", "whether lines are joined");
    MULTILINE_PATTERN = Setting::unsupported("MULTILINE_PATTERN", "which lines are joined");
    MULTILINE_MATCH = Setting::unsupported("MULTILINE_MATCH", "what the pattern marks");
    MULTILINE_FLUSH_AFTER = Setting::unsupported("MULTILINE_FLUSH_AFTER", "how long to wait");
    MULTILINE_SEPARATOR = Setting::unsupported("MULTILINE_SEPARATOR", "what joins lines");
    SLACK_WEBHOOK_URL = Setting::unsupported("SLACK_WEBHOOK_URL", "where Slack listens");
    SLACK_MESSAGE_FILTER = Setting::unsupported("SLACK_MESSAGE_FILTER", "lines for Slack");
    SLACK_TITLE_TEMPLATE = Setting::unsupported("SLACK_TITLE_TEMPLATE", "title for Slack");
    SLACK_MESSAGE_TEMPLATE = Setting::unsupported("SLACK_MESSAGE_TEMPLATE", "text for Slack");
    SLACK_LINK_TEMPLATE = Setting::unsupported("SLACK_LINK_TEMPLATE", "link for Slack");
    SLACK_COLOR_TEMPLATE = Setting::unsupported("SLACK_COLOR_TEMPLATE", "colour for Slack");
    ROUTESPATH = Setting::unsupported("ROUTESPATH", "where routes made over HTTP are kept");
}

/// The settings of one group.
pub fn of_group(group: Group) -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(move |setting| setting.group == group)
}

/// The table as text for a terminal: a line of names and default, and one of meaning.
pub fn text() -> String {
    let mut out = String::new();
    for group in Group::ALL {
        let _ = writeln!(out, "{}:", group.title());
        for setting in of_group(group) {
            let _ = writeln!(out, "  {}{}", names(setting).join(", "), default_note(setting));
            let _ = writeln!(out, "      {}", setting.meaning);
        }
        out.push('\n');
    }
    out.push_str("A flag wins over its variable; an empty variable counts as not set.\n");
    out
}

/// The table as Markdown, one table a group: the section between the README's markers.
pub fn markdown() -> String {
    let mut out = String::new();
    for group in Group::ALL {
        let _ = writeln!(out, "### {}\n", group.title());
        if group == Group::Unsupported {
            out.push_str("| variable | meaning |\n| --- | --- |\n");
        } else {
            out.push_str("| variable | flag | URI option | value | default | meaning |\n");
            out.push_str("| --- | --- | --- | --- | --- | --- |\n");
        }
        for setting in of_group(group) {
            out.push_str(&markdown_row(setting));
        }
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

fn markdown_row(setting: &Setting) -> String {
    let code = |name: Option<&str>, dashes: &str| match name {
        Some(name) => format!("`{dashes}{name}`"),
        None => String::new(),
    };
    let env = code(setting.env, "");
    if setting.group == Group::Unsupported {
        return format!("| {env} | {} |\n", setting.meaning);
    }
    format!(
        "| {env} | {} | {} | `{}` | {} | {} |\n",
        code(setting.flag, "--"),
        code(setting.option, ""),
        setting.value.placeholder(),
        setting.default,
        setting.meaning
    )
}

/// Each name of a setting, with its placeholder, as one would write it.
fn names(setting: &Setting) -> Vec<String> {
    let value = setting.value.placeholder();
    let forms = [
        setting.env.map(|name| format!("{name}={value}")),
        setting.flag.map(|name| format!("--{name}={value}")),
        setting.option.map(|name| format!("?{name}={value}")),
    ];
    forms.into_iter().flatten().collect()
}

fn default_note(setting: &Setting) -> String {
    if setting.default.is_empty() { String::new() } else { format!(" [{}]", setting.default) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const BEGIN: &str = "<!-- settings:begin -->\n";
    const END: &str = "<!-- settings:end -->";

    #[test]
    fn names_are_unique_and_every_row_has_one() {
        let mut seen = HashSet::new();
        for setting in SETTINGS {
            let names = [
                setting.env.map(str::to_string),
                setting.flag.map(|f| format!("--{f}")),
                setting.option.map(|o| format!("?{o}")),
            ];
            assert!(names.iter().any(Option::is_some), "{setting:?}");
            for name in names.into_iter().flatten() {
                assert!(seen.insert(name.clone()), "{name} is there twice");
            }
        }
    }

    #[test]
    fn cells_hold_nothing_that_breaks_a_table() {
        for setting in SETTINGS {
            for cell in [setting.default, setting.meaning, setting.value.placeholder()] {
                assert!(!cell.contains(['|', '\n', '<']), "{setting:?}");
            }
            assert!(!setting.meaning.is_empty() && setting.meaning.len() <= 90, "{setting:?}");
        }
    }

    #[test]
    fn every_group_has_rows_and_is_shown() {
        let (text, markdown) = (text(), markdown());
        for group in Group::ALL {
            assert!(of_group(group).count() > 0, "{group:?}");
            assert!(text.contains(group.title()) && markdown.contains(group.title()));
        }
        for setting in SETTINGS {
            for name in [setting.env, setting.flag, setting.option].into_iter().flatten() {
                assert!(text.contains(name) && markdown.contains(name), "{name}");
            }
        }
    }

    /// `UPDATE_EXPECT=1 cargo test` writes the section anew.
    #[test]
    fn readme_shows_this_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
        let readme = std::fs::read_to_string(path).unwrap();
        let begin = readme.find(BEGIN).expect("README.md has the begin marker") + BEGIN.len();
        let end = readme.find(END).expect("README.md has the end marker");
        let expected = format!("\n{}\n", markdown());
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            let text = format!("{}{expected}{}", &readme[..begin], &readme[end..]);
            std::fs::write(path, text).unwrap();
            return;
        }
        assert!(
            readme[begin..end] == expected,
            "README.md's settings are not those of the table: run UPDATE_EXPECT=1 cargo test"
        );
    }
}
