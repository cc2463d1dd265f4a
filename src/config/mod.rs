//! Every setting: read once at start, from flags and the environment, into types.
//!
//! [`table`] is the one list of settings, from which `--help` and the README's reference are
//! made; [`cli`] reads the arguments, [`env`] the environment, [`value`] the texts of both;
//! [`load`] puts it all together. [`Settings`] is what the rest of the program sees.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::route::RouteSpec;

pub mod cli;
pub mod env;
pub mod load;
pub mod table;
pub mod value;

/// Smallest and largest `MAX_LINE`, in bytes.
pub const MAX_LINE_RANGE: (u64, u64) = (1 << 10, 64 << 20);
/// Smallest and largest `BUFFER`, in bytes.
pub const BUFFER_RANGE: (u64, u64) = (64 << 10, 64 << 30);
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
    /// Defaults of syslog routes.
    pub syslog: SyslogSettings,
    /// TLS to receivers.
    pub tls: TlsSettings,
    /// Memory of each route, in bytes (`BUFFER`).
    pub buffer: usize,
    /// Longest line in bytes; a longer one is cut into marked parts (`MAX_LINE`).
    pub max_line: usize,
    /// Shard threads (`SHARDS`); at least 1.
    pub shards: usize,
    /// The I/O driver asked for (`LOGCHUTE_IO`).
    pub io: IoChoice,
    /// The HTTP listener; `None` where it is switched off.
    pub http: Option<HttpSettings>,
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
}

/// Defaults of syslog routes (`SYSLOG_*`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyslogSettings {
    /// `SYSLOG_FORMAT`.
    pub format: SyslogFormat,
    /// `SYSLOG_TCP_FRAMING`.
    pub framing: Framing,
    /// `SYSLOG_STRUCTURED_DATA`: what stands between the brackets; empty for `-`.
    pub structured_data: String,
    /// The text of `/etc/host_hostname`, without surrounding white space, if it has any.
    pub host_hostname: Option<String>,
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
    /// io_uring where it works, else epoll.
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

#[cfg(test)]
mod tests;
