//! How records travel: where a receiver is, and the machine that keeps the way to it open.
//!
//! [`link`] is a pure state machine (connect, backoff, give time); [`tls`] makes rustls'
//! configuration from the settings; [`conn`] is a byte stream with or without TLS; [`stream`],
//! [`datagram`] and [`terminal`] move an outbox's chunks.

use std::path::PathBuf;
use std::sync::Arc;

pub mod conn;
pub mod datagram;
pub mod link;
pub mod queue;
pub mod resolve;
pub mod stream;
pub mod terminal;
pub mod tls;

/// The largest payload of a UDP datagram over IPv4: 65,535 less the IP and UDP headers.
pub const UDP_PAYLOAD_MAX: usize = 65_507;

/// How the records of a route travel.
#[derive(Clone)]
pub enum Delivery {
    /// To the terminal: the program's standard output.
    Terminal,
    /// Over a byte stream.
    Stream(StreamTarget),
    /// One record per datagram.
    Datagram(DatagramTarget),
}

/// Where a byte stream leads. Names are resolved again at each connect.
#[derive(Clone)]
pub enum StreamTarget {
    /// TCP to `host:port`.
    Tcp(HostPort),
    /// TLS over TCP to `host:port`; the name is checked against the certificate and sent as SNI.
    Tls(HostPort, Arc<rustls::ClientConfig>),
    /// A stream socket in the file system.
    Unix(PathBuf),
}

/// Where datagrams go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatagramTarget {
    /// UDP to `host:port`.
    Udp(HostPort),
    /// A datagram socket in the file system, such as `/dev/log`; where it turns out to be a
    /// stream socket, a stream is used.
    Unix(PathBuf),
}

/// A host name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// The host, without the brackets of an IPv6 address.
    pub host: String,
    /// The port.
    pub port: u16,
}
