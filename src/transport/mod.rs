//! How records travel: where a receiver is, and the machine that keeps the way to it open.
//!
//! [`link`] is a pure state machine (connect, backoff, give time); [`tls`] makes rustls'
//! configuration from the settings; [`conn`] is a byte stream with or without TLS, [`daemon`] the
//! requests to the daemon over one; [`stream`], [`datagram`] and [`terminal`] move the chunks of a
//! [`queue`] to the receiver ([`relp`], [`forward`] and [`batch`] to one that answers), [`webhook`]
//! to a thread of its own, which takes its time, and [`viewer`] to the HTTP side, whose clients may
//! take none. [`http`] is a client for those that are asked over HTTP.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use crate::io::Driver;
use crate::io::pool::Pool;
use stream::Protocol;

mod answered;
pub mod batch;
pub mod conn;
pub mod daemon;
pub mod datagram;
pub mod dialogue;
pub mod forward;
pub mod http;
pub mod link;
pub mod queue;
pub mod relp;
pub mod resolve;
pub mod stream;
pub mod terminal;
pub mod tls;
pub mod viewer;
pub mod webhook;

/// The largest payload of a UDP datagram over IPv4: 65,535 less the IP and UDP headers.
pub const UDP_PAYLOAD_MAX: usize = 65_507;

/// How the records of a route travel.
#[derive(Clone)]
pub enum Delivery {
    /// To the terminal: the program's standard output.
    Terminal,
    /// Over a byte stream.
    Stream(StreamTarget),
    /// Over a byte stream, to a receiver that answers each record: RELP.
    Relp(StreamTarget),
    /// The same, over Fluentd's forward protocol.
    Forward(StreamTarget, Arc<forward::Terms>),
    /// One record per datagram.
    Datagram(DatagramTarget),
    /// Many a request, over HTTP.
    Batch(Arc<batch::Target>),
    /// Put together to messages for a webhook, elsewhere.
    Webhook(Arc<webhook::Desk>),
    /// To a client of `/logs`, by the HTTP side.
    Viewer(Arc<viewer::Entrance>),
}

impl Delivery {
    /// The longest record that may be sent, in bytes.
    pub fn record_max(&self) -> usize {
        match self {
            Delivery::Datagram(_) => UDP_PAYLOAD_MAX,
            Delivery::Terminal
            | Delivery::Stream(_)
            | Delivery::Relp(_)
            | Delivery::Batch(_)
            | Delivery::Forward(..)
            | Delivery::Webhook(_)
            | Delivery::Viewer(_) => usize::MAX,
        }
    }

    /// Whether records may wait on the disk on their way.
    pub fn may_be_spooled(&self) -> bool {
        match self {
            Delivery::Stream(_)
            | Delivery::Relp(_)
            | Delivery::Forward(..)
            | Delivery::Batch(_)
            | Delivery::Datagram(_) => true,
            Delivery::Terminal | Delivery::Webhook(_) | Delivery::Viewer(_) => false,
        }
    }

    /// Whether records are left out rather than waited with: who looks on holds up nobody.
    pub fn is_for_viewer(&self) -> bool {
        matches!(self, Delivery::Viewer(_))
    }
}

/// The delivery of one route's records on one shard.
pub struct DeliveryTask {
    /// How they travel.
    pub delivery: Delivery,
    /// Where they wait.
    pub queue: Rc<queue::Queue>,
}

/// What a delivery needs of its shard.
#[derive(Clone)]
pub struct Shore {
    /// How the shard waits for sockets.
    pub driver: Driver,
    /// Its read buffers.
    pub pool: Rc<Pool>,
    /// Makes the pauses of links differ.
    pub seed: u64,
    /// Connect at once, rather than with the first record: one shard does, so that an
    /// unreachable receiver is said at start.
    pub eager: bool,
}

impl DeliveryTask {
    /// Delivers until the queue is closed and empty, or given up.
    pub async fn run(self, shore: Shore) {
        let queue = &*self.queue;
        match self.delivery {
            Delivery::Terminal => terminal::deliver(queue).await,
            Delivery::Stream(to) => stream::deliver(&shore, &to, Protocol::Plain, queue).await,
            Delivery::Relp(to) => stream::deliver(&shore, &to, Protocol::Relp, queue).await,
            Delivery::Forward(to, terms) => {
                stream::deliver(&shore, &to, Protocol::Forward(&terms), queue).await;
            }
            Delivery::Datagram(to) => datagram::deliver(&shore, &to, queue).await,
            Delivery::Batch(to) => batch::deliver(&shore, &to, queue).await,
            Delivery::Webhook(desk) => webhook::hand_over(&desk, queue).await,
            Delivery::Viewer(entrance) => viewer::hand_over(&entrance, queue).await,
        }
    }
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

impl StreamTarget {
    /// An error of a connection to this receiver, in one line that names the fix if there is one.
    pub fn explain(&self, error: &std::io::Error) -> String {
        match self {
            StreamTarget::Tls(host, _) => tls::explain_io(error, &host.host, tls::Peer::Receiver),
            StreamTarget::Tcp(_) | StreamTarget::Unix(_) => error.to_string(),
        }
    }
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

/// Tells the user what there is to tell of a link.
fn say(link: &mut link::Link, queue: &queue::Queue) {
    queue.counters.trouble.set(link.trouble());
    match link.notice() {
        Some(recovered @ link::Notice::Recovered { .. }) => {
            tracing::info!(route = queue.name, "{recovered}");
        }
        Some(trouble) => tracing::warn!(route = queue.name, "{trouble}"),
        None => {}
    }
}
