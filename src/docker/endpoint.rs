//! Where the daemon is: `DOCKER_HOST` and its companions, read as go-dockerclient reads them, and
//! the usual sockets where it is not set.
//!
//! Pure: the environment and the file system are closures of the caller's.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::config::DockerSettings;

/// The socket of a Docker Engine as it is installed.
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// Linux has room for 108 bytes in `sockaddr_un`, the last of which is zero.
const SOCKET_PATH_MAX: usize = 107;

/// The ports that Docker documents for `tcp://` without a port.
const PLAIN_PORT: u16 = 2375;
const TLS_PORT: u16 = 2376;

/// How to reach a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A Unix domain socket.
    Unix(PathBuf),
    /// HTTP.
    Tcp {
        /// A name or address, an IPv6 address without brackets.
        host: String,
        /// Its port.
        port: u16,
        /// What stands before every path: empty, or `/base` without a slash at its end.
        base_path: String,
    },
    /// HTTP over TLS.
    Tls {
        /// A name or address, an IPv6 address without brackets; the certificate must be for it.
        host: String,
        /// Its port.
        port: u16,
        /// What stands before every path: empty, or `/base` without a slash at its end.
        base_path: String,
        /// The PEM files; `None` trusts the system's authorities and shows no certificate.
        files: Option<TlsFiles>,
    },
}

/// The PEM files of `DOCKER_CERT_PATH`. They are not known to exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// `ca.pem`: the authorities of the daemon's certificate.
    pub ca: PathBuf,
    /// `cert.pem`: the client's certificate chain.
    pub cert: PathBuf,
    /// `key.pem`: the client's private key.
    pub key: PathBuf,
}

impl Endpoint {
    /// The value of the `Host` field. A socket has no host name; `docker` stands for it, as an
    /// empty one is refused by some servers.
    pub fn host_header(&self) -> String {
        match self {
            Endpoint::Unix(_) => "docker".into(),
            Endpoint::Tcp { host, port, .. } | Endpoint::Tls { host, port, .. } => {
                authority(host, *port)
            }
        }
    }

    /// What stands before every path; empty for a socket.
    pub fn base_path(&self) -> &str {
        match self {
            Endpoint::Unix(_) => "",
            Endpoint::Tcp { base_path, .. } | Endpoint::Tls { base_path, .. } => base_path,
        }
    }
}

impl fmt::Display for Endpoint {
    /// As `DOCKER_HOST` would name it; TLS shows as `https`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "unix://{}", path.display()),
            Endpoint::Tcp { host, port, base_path } => {
                write!(f, "tcp://{}{base_path}", authority(host, *port))
            }
            Endpoint::Tls { host, port, base_path, .. } => {
                write!(f, "https://{}{base_path}", authority(host, *port))
            }
        }
    }
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The endpoint that `settings` names, or the first socket of [`candidates`] that exists, or else
/// Docker's own. `env` looks up `HOME` and `XDG_RUNTIME_DIR`.
///
/// TLS is used if `DOCKER_TLS_VERIFY` is set or the scheme is `https`, never on a socket.
///
/// # Errors
/// A message for the user, which names the value and the fix.
pub fn endpoint(
    settings: &DockerSettings,
    env: &dyn Fn(&str) -> Option<String>,
    exists: &dyn Fn(&Path) -> bool,
) -> Result<Endpoint, String> {
    let Some(host) = settings.host.as_deref().filter(|host| !host.is_empty()) else {
        let found = candidates(env).into_iter().find(|path| exists(path));
        return Ok(Endpoint::Unix(found.unwrap_or_else(|| DEFAULT_SOCKET.into())));
    };
    let (scheme, address) = host.split_once("://").unwrap_or(("tcp", host));
    let default_port = match (scheme, settings.tls_verify) {
        ("unix", _) => return unix(address),
        ("tcp", false) => PLAIN_PORT,
        ("tcp", true) => TLS_PORT,
        ("http", false) => 80,
        ("http" | "https", _) => 443,
        _ => return Err(unsupported(scheme)),
    };
    let (host, port, base_path) = network(address, default_port)?;
    if !settings.tls_verify && scheme != "https" {
        return Ok(Endpoint::Tcp { host, port, base_path });
    }
    let files = tls_files(settings, env)?;
    Ok(Endpoint::Tls { host, port, base_path, files })
}

/// The sockets to look for where `DOCKER_HOST` is not set, the likeliest first: Docker, rootless
/// Docker, Podman, rootless Podman, and where Logspout's image wants it mounted.
pub fn candidates(env: &dyn Fn(&str) -> Option<String>) -> Vec<PathBuf> {
    let runtime = env("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    let in_runtime = |name: &str| runtime.as_ref().map(|directory| directory.join(name));
    [
        Some(DEFAULT_SOCKET.into()),
        in_runtime("docker.sock"),
        Some("/run/podman/podman.sock".into()),
        in_runtime("podman/podman.sock"),
        Some("/tmp/docker.sock".into()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The scheme alone is shown: an `ssh` address may hold a password.
fn unsupported(scheme: &str) -> String {
    let fix = "use unix://PATH, tcp://HOST:PORT or https://HOST:PORT";
    match scheme {
        "ssh" => {
            "DOCKER_HOST: ssh:// is not supported: forward the daemon's socket (ssh -L) and use \
             unix://PATH"
                .to_string()
        }
        "npipe" => format!("DOCKER_HOST: npipe:// is for Windows: {fix}"),
        _ => format!("DOCKER_HOST: the scheme {scheme:?} is unknown: {fix}"),
    }
}

fn unix(path: &str) -> Result<Endpoint, String> {
    let shown = format!("unix://{path}");
    // Control characters would forge lines of the log, where the address is shown as it is.
    if path.is_empty() || path.contains(char::is_control) {
        return Err(format!(
            "DOCKER_HOST {shown:?} names no socket: write unix://{DEFAULT_SOCKET}"
        ));
    }
    if path.len() > SOCKET_PATH_MAX {
        return Err(format!(
            "DOCKER_HOST {shown:?}: the path is longer than {SOCKET_PATH_MAX} bytes, the most that \
             a socket's may be: write unix://{DEFAULT_SOCKET}"
        ));
    }
    Ok(Endpoint::Unix(path.into()))
}

/// `HOST[:PORT][/BASE]`.
fn network(address: &str, default_port: u16) -> Result<(String, u16, String), String> {
    if address.contains('@') {
        return Err("DOCKER_HOST: a user name or password in the address is not supported: \
                    remove what stands before the @"
            .into());
    }
    let invalid = |why: &str, fix: &str| format!("DOCKER_HOST {address:?}: {why}: {fix}");
    let (authority, base_path) = match address.find('/') {
        Some(slash) => address.split_at(slash),
        None => (address, ""),
    };
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&byte);
    if !address.bytes().all(plain) {
        return Err(invalid("it is no address", "write tcp://HOST:PORT"));
    }
    let (host, port) = host_and_port(authority).ok_or_else(|| {
        invalid("it is no HOST:PORT", "write tcp://HOST:PORT, an IPv6 address in brackets")
    })?;
    if host.is_empty() {
        let fix = match base_path {
            "" => "write tcp://HOST:PORT".to_owned(),
            path => format!("write tcp://HOST:PORT, or unix://{path} for a socket"),
        };
        return Err(invalid("it names no host", &fix));
    }
    let port = match port.map(|digits| (digits, digits.parse())) {
        None => default_port,
        Some((digits, Ok(port))) if port > 0 && !digits.starts_with('+') => port,
        Some(_) => return Err(invalid("its port is not in 1 to 65535", "write tcp://HOST:PORT")),
    };
    Ok((host.into(), port, base_path.trim_end_matches('/').into()))
}

/// `HOST`, `HOST:PORT`, `[IPV6]` or `[IPV6]:PORT`.
fn host_and_port(authority: &str) -> Option<(&str, Option<&str>)> {
    if let Some(bracketed) = authority.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) };
        return Some((host, port));
    }
    match authority.split_once(':') {
        None => Some((authority, None)),
        Some((_, port)) if port.contains(':') => None,
        Some((host, port)) => Some((host, Some(port))),
    }
}

/// `DOCKER_CERT_PATH`, or `~/.docker` if TLS was asked for by `DOCKER_TLS_VERIFY`.
fn tls_files(
    settings: &DockerSettings,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<TlsFiles>, String> {
    let given = settings.cert_path.clone().filter(|path| !path.as_os_str().is_empty());
    let directory = match given {
        Some(directory) => directory,
        None if !settings.tls_verify => return Ok(None),
        None => env("HOME")
            .filter(|home| !home.is_empty())
            .map(|home| Path::new(&home).join(".docker"))
            .ok_or(
                "DOCKER_TLS_VERIFY is set, but neither DOCKER_CERT_PATH nor HOME: set \
                    DOCKER_CERT_PATH to the directory of ca.pem, cert.pem and key.pem",
            )?,
    };
    Ok(Some(TlsFiles {
        ca: directory.join("ca.pem"),
        cert: directory.join("cert.pem"),
        key: directory.join("key.pem"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(_: &str) -> Option<String> {
        None
    }

    fn settings(host: &str, tls_verify: bool) -> DockerSettings {
        DockerSettings { host: Some(host.into()), tls_verify, ..DockerSettings::default() }
    }

    fn read(host: &str) -> Result<Endpoint, String> {
        endpoint(&settings(host, false), &none, &|_| false)
    }

    fn tcp(host: &str, port: u16, base_path: &str) -> Endpoint {
        Endpoint::Tcp { host: host.into(), port, base_path: base_path.into() }
    }

    #[test]
    fn forms_of_docker_host() {
        for (host, expect) in [
            ("unix:///var/run/docker.sock", Endpoint::Unix("/var/run/docker.sock".into())),
            ("unix://run/docker.sock", Endpoint::Unix("run/docker.sock".into())),
            ("tcp://10.0.0.1:2375", tcp("10.0.0.1", 2375, "")),
            ("tcp://proxy:8080/", tcp("proxy", 8080, "")),
            ("tcp://proxy:8080/docker/api/", tcp("proxy", 8080, "/docker/api")),
            ("tcp://proxy", tcp("proxy", 2375, "")),
            ("http://proxy", tcp("proxy", 80, "")),
            ("http://proxy:8080", tcp("proxy", 8080, "")),
            ("proxy:2375", tcp("proxy", 2375, "")),
            ("proxy", tcp("proxy", 2375, "")),
            ("tcp://[::1]:2375/x", tcp("::1", 2375, "/x")),
            ("tcp://[fe80::1]", tcp("fe80::1", 2375, "")),
        ] {
            assert_eq!(read(host), Ok(expect), "{host}");
        }
    }

    #[test]
    fn refusals_name_the_fix() {
        for (host, part) in [
            ("npipe:////./pipe/docker_engine", "unix://PATH"),
            ("ssh://me:secret@host", "ssh -L"),
            ("fd://", "tcp://HOST:PORT"),
            ("unix://", "unix:///var/run/docker.sock"),
            ("unix:///run/\n\u{1b}[31mdocker.sock", "names no socket"),
            (&format!("unix:///{}", "x".repeat(107)), "longer than 107 bytes"),
            ("/var/run/docker.sock", "unix:///var/run/docker.sock"),
            ("tcp://", "tcp://HOST:PORT"),
            ("tcp://:2375", "names no host"),
            ("tcp://host:0", "1 to 65535"),
            ("tcp://host:65536", "1 to 65535"),
            ("tcp://host:+80", "1 to 65535"),
            ("tcp://host:", "1 to 65535"),
            ("tcp://::1:2375", "brackets"),
            ("tcp://[::1", "brackets"),
            ("tcp://[::1]2375", "brackets"),
            ("tcp://[host]:2375", "brackets"),
            ("tcp://host:2375/a?b", "no address"),
            ("tcp://host:2375/a b", "no address"),
            ("tcp://host:2375/\r\nX: y", "no address"),
            ("tcp://me:secret@host:2375", "before the @"),
        ] {
            let error = read(host).unwrap_err();
            assert!(error.starts_with("DOCKER_HOST") && error.contains(part), "{host}: {error}");
            assert!(!error.contains("secret") && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn tls_by_docker_tls_verify() {
        let home = |name: &str| (name == "HOME").then(|| "/home/me".to_owned());
        let tls = |host: &str| endpoint(&settings(host, true), &home, &|_| false).unwrap();
        let directory = |path: &str| {
            let file = |name: &str| PathBuf::from(path).join(name);
            Some(TlsFiles { ca: file("ca.pem"), cert: file("cert.pem"), key: file("key.pem") })
        };
        for (host, port) in [
            ("tcp://h", 2376),
            ("h:1", 1),
            ("http://h", 443),
            ("https://h:2", 2),
            ("https://h", 443),
        ] {
            let files = directory("/home/me/.docker");
            let expect = Endpoint::Tls { host: "h".into(), port, base_path: String::new(), files };
            assert_eq!(tls(host), expect, "{host}");
        }
        assert_eq!(tls("unix:///s"), Endpoint::Unix("/s".into()));
        let given = DockerSettings { cert_path: Some("/certs".into()), ..settings("h:1/b", true) };
        let expect = Endpoint::Tls {
            host: "h".into(),
            port: 1,
            base_path: "/b".into(),
            files: directory("/certs"),
        };
        assert_eq!(endpoint(&given, &none, &|_| false), Ok(expect));
        let error = endpoint(&settings("h:1", true), &none, &|_| false).unwrap_err();
        assert!(error.contains("DOCKER_CERT_PATH"), "{error}");
    }

    #[test]
    fn https_without_docker_tls_verify_trusts_the_system() {
        let expect =
            Endpoint::Tls { host: "h".into(), port: 443, base_path: String::new(), files: None };
        assert_eq!(read("https://h"), Ok(expect));
    }

    #[test]
    fn the_usual_sockets_in_order() {
        let env = |name: &str| (name == "XDG_RUNTIME_DIR").then(|| "/run/user/7".to_owned());
        let order = [
            "/var/run/docker.sock",
            "/run/user/7/docker.sock",
            "/run/podman/podman.sock",
            "/run/user/7/podman/podman.sock",
            "/tmp/docker.sock",
        ];
        assert_eq!(candidates(&env), order.map(PathBuf::from));
        assert_eq!(candidates(&none).len(), 3);
        let relative = |_: &str| Some("run".to_owned());
        assert_eq!(candidates(&relative).len(), 3);
        for host in [None, Some(String::new())] {
            let settings = DockerSettings { host, tls_verify: true, ..DockerSettings::default() };
            for (index, path) in order.iter().enumerate() {
                let exists = |p: &Path| order[index..].iter().any(|o| Path::new(o) == p);
                let expect = Ok(Endpoint::Unix(path.into()));
                assert_eq!(endpoint(&settings, &env, &exists), expect);
            }
            let expect = Ok(Endpoint::Unix("/var/run/docker.sock".into()));
            assert_eq!(endpoint(&settings, &env, &|_| false), expect);
        }
    }

    #[test]
    fn shown_as_docker_host() {
        for host in ["unix:///run/x.sock", "tcp://h:1", "tcp://[::1]:2/base", "https://h:3"] {
            assert_eq!(read(host).unwrap().to_string(), host);
        }
        assert_eq!(read("unix:///s").unwrap().host_header(), "docker");
        assert_eq!(read("tcp://[::1]:2/base").unwrap().host_header(), "[::1]:2");
        assert_eq!(read("https://h:3/b").unwrap().base_path(), "/b");
    }
}
