//! Where a route leads: its transport and address, checked once, when the route is built.
//!
//! Pure but for the PEM files that TLS needs. No name is resolved and nothing is contacted.

use std::path::PathBuf;

use crate::config::Settings;
use crate::route::RouteSpec;
use crate::transport::{DatagramTarget, Delivery, HostPort, StreamTarget, tls};

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
        "tls" => Delivery::Stream(secured(host_port(spec)?, spec, settings)?),
        "unix" => Delivery::Datagram(DatagramTarget::Unix(socket_path(spec)?)),
        other => return Err(bad_transport(spec, other, "use one of udp, tcp, tls, unix")),
    })
}

/// Where the records of `spec` go whose receiver answers over a stream: `tcp` where the route names
/// no transport, `port` where it names none.
pub(super) fn stream(
    spec: &RouteSpec,
    settings: &Settings,
    port: u16,
) -> Result<StreamTarget, String> {
    let address = || host_or_port(spec, port);
    match spec.transport.as_deref() {
        None | Some("tcp") => Ok(StreamTarget::Tcp(address()?)),
        Some("tls") => secured(address()?, spec, settings),
        Some(other) => {
            let fix = format!("use {0}:// or {0}+tls://", spec.adapter);
            Err(bad_transport(spec, other, &fix))
        }
    }
}

/// TLS to `address`.
pub(super) fn secured(
    address: HostPort,
    spec: &RouteSpec,
    settings: &Settings,
) -> Result<StreamTarget, String> {
    let config = tls::client_config(&settings.tls)
        .map_err(|error| format!("no TLS for route {}: {error}", spec.id))?;
    Ok(StreamTarget::Tls(address, config))
}

/// What to say of a transport that the adapter does not have; `fix` is what to do instead.
pub(super) fn bad_transport(spec: &RouteSpec, transport: &str, fix: &str) -> String {
    format!("bad transport: {transport:?} in route {}; {fix}", spec.id)
}

fn host_port(spec: &RouteSpec) -> Result<HostPort, String> {
    HostPort::parse(&spec.address).map_err(|error| format!("route {}: {error}", spec.id))
}

/// The same, of an adapter with a usual port.
pub(super) fn host_or_port(spec: &RouteSpec, usual: u16) -> Result<HostPort, String> {
    let address = spec.address.as_str();
    let without = !address.is_empty() && (address.ends_with(']') || !address.contains(':'));
    if !without {
        return host_port(spec);
    }
    let whole = RouteSpec { address: format!("{address}:{usual}"), ..spec.clone() };
    host_port(&whole)
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
