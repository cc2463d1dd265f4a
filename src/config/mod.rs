//! Every setting: read once at start, from flags and the environment, into types.
//!
//! [`table`] is the one list of settings, from which `--help` and the README's reference are
//! made. [`Settings`] is what the rest of the program sees.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::route::RouteSpec;

pub mod env;
pub mod load;
pub mod table;

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
    /// The HTTP listener.
    pub http: HttpSettings,
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

/// How records are told apart on a byte stream (RFC 6587).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// Each record ends with a newline (non-transparent framing).
    #[default]
    Traditional,
    /// Each record begins with its length (octet counting).
    OctetCounted,
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

/// The HTTP listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpSettings {
    /// Where to listen.
    pub address: SocketAddr,
    /// The user asked for this address: failing to get it is an error rather than a warning.
    pub asked: bool,
}
