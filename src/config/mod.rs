//! Every setting: read once at start, from flags and the environment, into types.
//!
//! [`table`] is the one list of settings, from which `--help` and the README's reference are
//! made; [`cli`] reads the arguments, [`env`] the environment, [`value`] the texts of both;
//! [`load`] puts it all together. [`Settings`] is what the rest of the program sees.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::buffer::Overflow;
use crate::route::RouteSpec;
pub use multiline::MultilineSettings;

pub mod cli;
pub mod env;
pub mod load;
pub mod logentries;
pub mod multiline;
pub mod table;
pub mod value;
pub mod wget;

/// Smallest and largest `MAX_LINE`, in bytes.
pub const MAX_LINE_RANGE: (u64, u64) = (1 << 10, 64 << 20);
/// Smallest and largest `BUFFER`, in bytes.
pub const BUFFER_RANGE: (u64, u64) = (64 << 10, 64 << 30);
/// Smallest and largest `SPOOL_MAX`, in bytes.
pub const SPOOL_RANGE: (u64, u64) = (1 << 20, 1 << 50);
/// Largest `SHARDS`.
pub const SHARDS_MAX: u64 = 256;

/// What is wrong with the configuration: one line that names the setting, its value (unless that
/// may hold a secret) and the fix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl ConfigError {
    /// An error with this text; control characters become spaces, so that it is one line.
    pub fn new(text: impl AsRef<str>) -> ConfigError {
        let plain = |c: char| if c.is_control() { ' ' } else { c };
        ConfigError(text.as_ref().chars().map(plain).collect())
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// What the program was told to do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How to reach the daemon.
    pub docker: DockerSettings,
    /// Which containers are followed, and from where.
    pub follow: FollowSettings,
    /// The routes, in the order given; one console route where none was given.
    pub routes: Vec<RouteSpec>,
    /// Whether a route was given.
    pub routes_given: bool,
    /// `RAW_FORMAT`, if it is given.
    pub raw_format: Option<String>,
    /// Defaults of syslog routes.
    pub syslog: SyslogSettings,
    /// Defaults of Slack routes.
    pub slack: SlackSettings,
    /// Defaults of routes to other webhooks.
    pub webhook: WebhookSettings,
    /// Defaults of fluent routes.
    pub fluent: FluentSettings,
    /// Defaults of routes that deliver in batches over HTTP, and of some other receivers.
    pub batch: BatchSettings,
    /// Proxies on the way to webhooks and receivers of batches.
    pub proxy: ProxySettings,
    /// Defaults of `multiline+` routes.
    pub multiline: MultilineSettings,
    /// TLS to receivers.
    pub tls: TlsSettings,
    /// Memory of each route, in bytes (`BUFFER`).
    pub buffer: usize,
    /// What happens when that is used up (`OVERFLOW`).
    pub overflow: Overflow,
    /// Where routes keep what their memory has no room for (`SPOOL_DIR`); `None`: nowhere.
    pub spool_dir: Option<PathBuf>,
    /// How much each of them may keep there, in bytes (`SPOOL_MAX`).
    pub spool_max: u64,
    /// Whether records are sent again that were not acknowledged (`RESEND`).
    pub resend: bool,
    /// By which clock lines are stamped (`TIMESTAMP`).
    pub timestamp: Timestamp,
    /// Longest line in bytes; a longer one is cut into marked parts (`MAX_LINE`).
    pub max_line: usize,
    /// A stream that was silent for so long is asked about (`INACTIVITY_TIMEOUT`).
    pub silence: Duration,
    /// A busy stream is read after a pause of at most so long (`READ_WAIT`).
    pub read_wait: Duration,
    /// A line of stats stands for so long (`STATS_INTERVAL`).
    pub stats_interval: Duration,
    /// `STATS_FORMAT`, if it is given.
    pub stats_format: Option<String>,
    /// `EVENTS_FORMAT`, if it is given.
    pub events_format: Option<String>,
    /// Shard threads (`SHARDS`); at least 1.
    pub shards: usize,
    /// The I/O driver asked for (`LOGCHUTE_IO`).
    pub io: IoChoice,
    /// The HTTP listener; `None` where it is switched off.
    pub http: Option<HttpSettings>,
    /// What clients of the listener may do.
    pub api: ApiSettings,
    /// Where it is kept how far lines are delivered (`STATE_DIR`).
    pub state_dir: Option<PathBuf>,
    /// How long to go on delivering after SIGTERM (`DRAIN_TIMEOUT`).
    pub drain_timeout: Duration,
}

/// `DOCKER_HOST` and its companions, as go-dockerclient reads them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DockerSettings {
    /// `DOCKER_HOST`; `None` looks for the usual sockets.
    pub host: Option<String>,
    /// `DOCKER_TLS_VERIFY` is set and not empty: TLS with client certificates.
    pub tls_verify: bool,
    /// `DOCKER_CERT_PATH`: where `ca.pem`, `cert.pem` and `key.pem` are.
    pub cert_path: Option<PathBuf>,
    /// `DOCKER_API_VERSION`: use this version rather than negotiating one.
    pub api_version: Option<String>,
}

/// Which containers are followed, and from where.
#[derive(Clone, Debug, PartialEq)]
pub struct FollowSettings {
    /// `ALLOW_TTY`: follow containers that have a terminal.
    pub allow_tty: bool,
    /// `BACKLOG`: also send what containers found at start have written before.
    pub backlog: bool,
    /// `TAIL`: at most so many lines of backlog; `None` for all.
    pub tail: Option<u64>,
    /// `EXCLUDE_LABELS`, `EXCLUDE_LABEL`: containers with one of these labels are not followed.
    pub exclude_labels: Vec<ExcludeLabel>,
    /// `LOG_DRIVERS`: log drivers whose containers are followed; `None` for every driver.
    pub log_drivers: Option<Vec<String>>,
    /// `FOLLOW_SELF`: follow logchute's own container too.
    pub follow_self: bool,
}

/// One entry of `EXCLUDE_LABELS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExcludeLabel {
    /// The label's key.
    pub key: String,
    /// Its value, compared without regard to case; a lone key means `true`.
    pub value: String,
}

impl Settings {
    /// The memory of one route in bytes: its own option `buffer`, or what holds for all.
    pub fn buffer_of(&self, route: &RouteSpec) -> Result<usize, ConfigError> {
        let Some(text) = route.option("buffer") else { return Ok(self.buffer) };
        let (least, most) = BUFFER_RANGE;
        value::size_within(text, least, most)
            .map_err(|fix| ConfigError::new(format!("route {}: buffer={text:?} {fix}", route.id)))
    }

    /// What happens when the memory of one route is used up: its own option `overflow`, or what
    /// holds for all.
    pub fn overflow_of(&self, route: &RouteSpec) -> Result<Overflow, ConfigError> {
        let Some(text) = route.option("overflow") else { return Ok(self.overflow) };
        text.parse()
            .map_err(|fix| ConfigError::new(format!("route {}: overflow={text:?} {fix}", route.id)))
    }

    /// Where one route keeps what its memory has no room for, and how much of it: its own options
    /// `spool` and `spool.max`, or what holds for all.
    pub fn spool_of(&self, route: &RouteSpec) -> Result<Option<(PathBuf, u64)>, ConfigError> {
        let wrong = |option: &str, text: &str, fix: String| {
            ConfigError::new(format!("route {}: {option}={text:?} {fix}", route.id))
        };
        let folder = match route.option("spool") {
            Some(text) => spool_dir(text).map_err(|fix| wrong("spool", text, fix))?,
            None => self.spool_dir.clone(),
        };
        let max = match route.option("spool.max") {
            Some(text) => spool_max(text).map_err(|fix| wrong("spool.max", text, fix))?,
            None => self.spool_max,
        };
        Ok(folder.map(|folder| (folder, max)))
    }

    /// Whether one route sends again what was not acknowledged: its own option `resend`, or what
    /// holds for all.
    pub fn resend_of(&self, route: &RouteSpec) -> Result<bool, ConfigError> {
        let Some(text) = route.option("resend") else { return Ok(self.resend) };
        value::boolean(text)
            .map_err(|fix| ConfigError::new(format!("route {}: resend={text:?} {fix}", route.id)))
    }
}

/// The folder of spools; `None`: there are none.
fn spool_dir(text: &str) -> Result<Option<PathBuf>, String> {
    match text {
        "off" => Ok(None),
        _ if text.starts_with('/') => Ok(Some(PathBuf::from(text))),
        _ => Err("is no absolute path; write /PATH/OF/A/FOLDER, or off".to_string()),
    }
}

/// How much a spool may hold.
fn spool_max(text: &str) -> Result<u64, String> {
    let (least, most) = SPOOL_RANGE;
    value::size_within(text, least, most).map(|size| size as u64)
}

/// Defaults of syslog routes (`SYSLOG_*`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyslogSettings {
    /// `SYSLOG_FORMAT`.
    pub format: SyslogFormat,
    /// `SYSLOG_TCP_FRAMING`.
    pub framing: Framing,
    /// `SYSLOG_PRECISION`, if it is given.
    pub precision: Option<Precision>,
    /// `SYSLOG_STRUCTURED_DATA`: what stands between the brackets; empty for `-`.
    pub structured_data: String,
    /// The templates of the other fields that are given, by Logspout's name of the field: `tag` for
    /// `SYSLOG_TAG`.
    pub templates: BTreeMap<&'static str, String>,
    /// The text of `/etc/host_hostname`, without surrounding white space, if it has any.
    pub host_hostname: Option<String>,
}

/// Defaults of Slack routes (`SLACK_*`); `None` where nothing is given.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SlackSettings {
    /// `SLACK_WEBHOOK_URL`: the whole URL, or its path. A secret.
    pub webhook_url: Option<String>,
    /// `SLACK_MESSAGE_FILTER`.
    pub message_filter: Option<String>,
    /// `SLACK_*_TEMPLATE`.
    pub templates: MessageTemplates,
    /// `SLACK_BLOCKS`: Block Kit rather than attachments.
    pub blocks: bool,
    /// The variables of the environment, for templates, less those of logchute's own secrets. May
    /// hold others'.
    pub environment: BTreeMap<String, String>,
}

/// Shows nothing secret.
impl fmt::Debug for SlackSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlackSettings")
            .field("message_filter", &self.message_filter)
            .field("templates", &self.templates)
            .field("blocks", &self.blocks)
            .finish_non_exhaustive()
    }
}

/// The templates of a message's parts; `None` where nothing is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageTemplates {
    /// `…_TITLE_TEMPLATE`.
    pub title: Option<String>,
    /// `…_MESSAGE_TEMPLATE`.
    pub message: Option<String>,
    /// `…_LINK_TEMPLATE`.
    pub link: Option<String>,
    /// `…_COLOR_TEMPLATE`.
    pub color: Option<String>,
}

/// Defaults of routes to other webhooks (`WEBHOOK_*`), as given: each route's sink reads what it
/// needs, from its own options first.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct WebhookSettings {
    /// What is given, by the name of the option that wins over it. May hold secrets.
    pub given: BTreeMap<&'static str, String>,
    /// `WEBHOOK_*_TEMPLATE`.
    pub templates: MessageTemplates,
}

/// Shows nothing secret.
impl fmt::Debug for WebhookSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookSettings")
            .field("given", &self.given.keys())
            .field("templates", &self.templates)
            .finish()
    }
}

/// Defaults of routes that deliver in batches over HTTP (`BATCH_*` and those of each receiver), and
/// those to Logentries and Logstash, as given: each route's sink reads what it needs, from its own
/// options first.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct BatchSettings {
    /// What is given, by the name of the option that wins over it. May hold secrets.
    pub given: BTreeMap<&'static str, String>,
}

/// Shows nothing secret.
impl fmt::Debug for BatchSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchSettings").field("given", &self.given.keys()).finish()
    }
}

/// Defaults of fluent routes (`FLUENT_*`), as given; a route's own options win.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct FluentSettings {
    /// What is given, by the name of the option that wins over it. Holds the shared key.
    pub given: BTreeMap<&'static str, String>,
}

/// Shows nothing secret.
impl fmt::Debug for FluentSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FluentSettings").field("given", &self.given.keys()).finish()
    }
}

/// `HTTPS_PROXY` and its companions, as given; an upper-case name wins over a lower-case one.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ProxySettings {
    /// `HTTPS_PROXY`. May hold a password.
    pub https: Option<String>,
    /// `HTTP_PROXY`. May hold a password.
    pub http: Option<String>,
    /// `NO_PROXY`.
    pub except: String,
}

/// Shows nothing secret.
impl fmt::Debug for ProxySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxySettings").field("except", &self.except).finish_non_exhaustive()
    }
}

impl SyslogSettings {
    /// The template of a field, if it is given.
    pub fn template(&self, field: &str) -> Option<&str> {
        self.templates.get(field).map(String::as_str)
    }
}

/// The message format of syslog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyslogFormat {
    /// RFC 5424.
    #[default]
    Rfc5424,
    /// RFC 3164, with an RFC 3339 time as Logspout writes it.
    Rfc3164,
}

impl FromStr for SyslogFormat {
    /// The end of a sentence that begins with the setting and the value.
    type Err = String;

    fn from_str(text: &str) -> Result<SyslogFormat, String> {
        match text.to_ascii_lowercase().as_str() {
            "rfc5424" => Ok(SyslogFormat::Rfc5424),
            "rfc3164" => Ok(SyslogFormat::Rfc3164),
            _ => Err("is not a syslog format; write rfc5424 or rfc3164".to_string()),
        }
    }
}

/// How records are told apart on a byte stream (RFC 6587).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// Each record ends with a newline (non-transparent framing).
    #[default]
    Traditional,
    /// Each record begins with its length (octet counting).
    OctetCounted,
}

impl FromStr for Framing {
    /// The end of a sentence that begins with the setting and the value.
    type Err = String;

    fn from_str(text: &str) -> Result<Framing, String> {
        match text.to_ascii_lowercase().as_str() {
            "traditional" => Ok(Framing::Traditional),
            "octet-counted" => Ok(Framing::OctetCounted),
            _ => Err("is not a framing; write traditional or octet-counted".to_string()),
        }
    }
}

/// How finely syslog's TIMESTAMP is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Whole seconds, as Logspout.
    Seconds,
    /// Six digits behind the point.
    Micros,
}

impl FromStr for Precision {
    /// The end of a sentence that begins with the setting and the value.
    type Err = String;

    fn from_str(text: &str) -> Result<Precision, String> {
        match text.to_ascii_lowercase().as_str() {
            "seconds" => Ok(Precision::Seconds),
            "micros" => Ok(Precision::Micros),
            _ => Err("is not a precision; write seconds or micros".to_string()),
        }
    }
}

/// By which clock lines are stamped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Timestamp {
    /// Ours, when a line is read; of one that comes out of the daemon's log, what ours showed when
    /// the daemon got it.
    #[default]
    Receive,
    /// The daemon's, for both, as far as it is known.
    Daemon,
}

impl FromStr for Timestamp {
    /// The end of a sentence that begins with the setting and the value.
    type Err = String;

    fn from_str(text: &str) -> Result<Timestamp, String> {
        match text.to_ascii_lowercase().as_str() {
            "receive" => Ok(Timestamp::Receive),
            "daemon" => Ok(Timestamp::Daemon),
            _ => Err("names no clock; write receive or daemon".to_string()),
        }
    }
}

/// `LOGSPOUT_TLS_*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// Trust only `ca_certs`, not the system's authorities.
    pub disable_system_roots: bool,
    /// PEM files with further authorities.
    pub ca_certs: Vec<PathBuf>,
    /// PEM file with the client certificate chain.
    pub client_cert: Option<PathBuf>,
    /// PEM file with the client's private key.
    pub client_key: Option<PathBuf>,
    /// Only the suites and curves of Logspout's hardened profile.
    pub hardening: bool,
}

/// The I/O driver asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoChoice {
    /// The one that was measured to be better: epoll.
    #[default]
    Auto,
    /// io_uring, or refuse to start.
    Ring,
    /// epoll.
    Poll,
}

impl FromStr for IoChoice {
    /// The end of a sentence that begins with the setting and the value.
    type Err = String;

    fn from_str(text: &str) -> Result<IoChoice, String> {
        match text.to_ascii_lowercase().as_str() {
            "auto" => Ok(IoChoice::Auto),
            "ring" => Ok(IoChoice::Ring),
            "poll" => Ok(IoChoice::Poll),
            _ => Err("is not a driver; write ring, poll or auto".to_string()),
        }
    }
}

/// The HTTP listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpSettings {
    /// Where to listen.
    pub address: SocketAddr,
    /// The user asked for this address: failing to get it is an error rather than a warning.
    pub asked: bool,
}

/// What clients of the HTTP listener may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiSettings {
    /// `HTTP_TOKEN`: who shows it may see lines, and see and change routes; nobody else may.
    pub token: Option<Token>,
    /// `ROUTES_API`; `None` decides by the listener's address and the token.
    pub routes: Option<RoutesApi>,
    /// `ROUTESPATH`: where routes made over HTTP are kept, if there is such a directory.
    pub routes_path: PathBuf,
    /// It was given: that the directory is missing is worth a warning.
    pub routes_path_given: bool,
}

/// What clients may do with `/routes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoutesApi {
    /// See and change routes.
    Open,
    /// See them.
    Read,
    /// Nothing.
    Off,
}

impl FromStr for RoutesApi {
    /// The end of a sentence that begins with the setting and the value.
    type Err = String;

    fn from_str(text: &str) -> Result<RoutesApi, String> {
        match text.to_ascii_lowercase().as_str() {
            "open" => Ok(RoutesApi::Open),
            "read" => Ok(RoutesApi::Read),
            "off" => Ok(RoutesApi::Off),
            _ => Err("is no such permission; write open, read or off".to_string()),
        }
    }
}

/// `HTTP_TOKEN`, which is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The token itself, for comparing.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl FromStr for Token {
    /// The end of a sentence that begins with the setting.
    type Err = String;

    fn from_str(text: &str) -> Result<Token, String> {
        match text.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(Token(text.to_string())),
            false => {
                Err("has a space or a character that is not ASCII; write letters and digits, \
                          e.g. what openssl rand -hex 16 prints"
                    .to_string())
            }
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests;
