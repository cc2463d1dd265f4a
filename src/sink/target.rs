//! Where a route leads: its transport and address, checked once, when the route is built.
//!
//! Pure but for the PEM files that TLS needs. No name is resolved and nothing is contacted.

use std::net::Ipv6Addr;
use std::path::PathBuf;

use crate::config::Settings;
use crate::route::RouteSpec;
use crate::transport::{DatagramTarget, Delivery, HostPort, StreamTarget};

use tls_shim as tls;

/// Stands in for `crate::transport::tls` until that module is there; it trusts nobody.
mod tls_shim {
    use std::sync::Arc;

    pub(super) fn client_config(
        _settings: &crate::config::TlsSettings,
    ) -> Result<Arc<rustls::ClientConfig>, String> {
        let nobody = rustls::RootCertStore::empty();
        let config = rustls::ClientConfig::builder();
        Ok(Arc::new(config.with_root_certificates(nobody).with_no_client_auth()))
    }
}

/// The longest path of a unix socket: `sun_path` has 108 bytes, the last of them NUL (unix(7)).
const UNIX_PATH_MAX: usize = 107;

/// Where the records of `spec` go: `udp` where the route names no transport, as in Logspout.
///
/// A name that does not resolve or a receiver that is down is no error here: the link keeps
/// trying. An address without a port is one, as in Logspout.
pub(super) fn delivery(spec: &RouteSpec, settings: &Settings) -> Result<Delivery, String> {
    let transport = spec.transport.as_deref().unwrap_or("udp");
    Ok(match transport {
        "udp" => Delivery::Datagram(DatagramTarget::Udp(host_port(spec)?)),
        "tcp" => Delivery::Stream(StreamTarget::Tcp(host_port(spec)?)),
        "tls" => {
            let address = host_port(spec)?;
            let config = tls::client_config(&settings.tls)
                .map_err(|error| format!("no TLS for route {}: {error}", spec.id))?;
            Delivery::Stream(StreamTarget::Tls(address, config))
        }
        "unix" => Delivery::Datagram(DatagramTarget::Unix(socket_path(spec)?)),
        other => return Err(bad_transport(spec, other, "use one of udp, tcp, tls, unix")),
    })
}

/// What to say of a transport that the adapter does not have; `fix` is what to do instead.
pub(super) fn bad_transport(spec: &RouteSpec, transport: &str, fix: &str) -> String {
    format!("bad transport: {transport:?} in route {}; {fix}", spec.id)
}

fn host_port(spec: &RouteSpec) -> Result<HostPort, String> {
    parse_host_port(&spec.address).map_err(|fix| {
        let transport = spec.transport.as_deref().unwrap_or("udp");
        format!("bad {transport} address: {:?} in route {}; {fix}", spec.address, spec.id)
    })
}

/// Reads `host:port` or `[IPv6]:port`; an empty host is this machine, as for Go's `net.Dial`.
/// An error is the advice what to write instead.
fn parse_host_port(address: &str) -> Result<HostPort, &'static str> {
    let Some((host, port)) = address.rsplit_once(':') else {
        return Err("write host:port, for syslog usually host:514");
    };
    let host = match host.strip_prefix('[') {
        Some(rest) => {
            let host = rest.strip_suffix(']').ok_or("write [IPv6 address]:port")?;
            let numeric = host.split_once('%').map_or(host, |(numeric, _zone)| numeric);
            numeric.parse::<Ipv6Addr>().map_err(|_| "write [IPv6 address]:port")?;
            host
        }
        None if address.parse::<Ipv6Addr>().is_ok() || host.contains(':') => {
            return Err("write an IPv6 address in brackets: [::1]:514");
        }
        None if host.is_empty() => "localhost",
        None => host,
    };
    if host.chars().any(|c| c.is_whitespace() || c.is_control() || "/[]@".contains(c)) {
        return Err("write host:port, with a host name or an IP address as host");
    }
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    match port.parse() {
        Ok(port) if digits && port > 0 => Ok(HostPort { host: host.to_owned(), port }),
        _ => Err("write host:port, with a port from 1 to 65535"),
    }
}

fn socket_path(spec: &RouteSpec) -> Result<PathBuf, String> {
    let path = spec.address.as_str();
    if path.starts_with('/') && path.len() <= UNIX_PATH_MAX && !path.contains('\0') {
        return Ok(PathBuf::from(path));
    }
    Err(format!(
        "bad unix address: {path:?} in route {}; write three slashes and then the path of the \
         socket, at most {UNIX_PATH_MAX} bytes, as in {}+unix:///dev/log",
        spec.id, spec.adapter
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(address: &str) -> Option<(String, u16)> {
        parse_host_port(address).ok().map(|at| (at.host, at.port))
    }

    #[test]
    fn addresses() {
        for (address, host, port) in [
            ("logs.example.org:514", "logs.example.org", 514),
            ("10.0.0.1:65535", "10.0.0.1", 65535),
            ("[::1]:514", "::1", 514),
            ("[fe80::1%eth0]:1", "fe80::1%eth0", 1),
            (":514", "localhost", 514),
        ] {
            assert_eq!(parsed(address), Some((host.to_owned(), port)), "{address}");
        }
    }

    #[test]
    fn bad_addresses_come_with_advice() {
        for (address, advice) in [
            ("", "host:port"),
            ("logs.example.org", "host:514"),
            ("logs.example.org:", "1 to 65535"),
            ("host:0", "1 to 65535"),
            ("host:+5", "1 to 65535"),
            ("host:65536", "1 to 65535"),
            ("host:syslog", "1 to 65535"),
            ("::1:514", "brackets"),
            ("::1", "brackets"),
            ("[::1]", "[IPv6 address]:port"),
            ("[::1:514", "[IPv6 address]:port"),
            ("[host]:514", "[IPv6 address]:port"),
            ("ho st:514", "host name"),
            ("host:514/path:1", "brackets"),
            ("host/path:1", "host name"),
            ("user@host:1", "host name"),
        ] {
            let error = parse_host_port(address).expect_err(address);
            assert!(error.contains(advice), "{address}: {error}");
        }
    }
}
