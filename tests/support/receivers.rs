//! Receivers of our own on loopback: they keep every byte and can misbehave on request.

use std::io::{self, Read};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::pki::{CLIENT_NAME, Pki};
use super::wait_until;

/// What a stream receiver does with a connection.
#[derive(Clone)]
enum Manner {
    Read,
    NeverRead,
    Tls(Arc<ServerConfig>),
}

/// What a TLS receiver saw of its peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsSeen {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: String,
    /// The client certificate's common name, if it is that of the test's [`Pki`].
    pub client: Option<String>,
}

#[derive(Default)]
struct Connection {
    bytes: Vec<u8>,
    socket: Option<TcpStream>,
    ended: bool,
    tls: Option<TlsSeen>,
    error: Option<String>,
}

#[derive(Default)]
struct Shared {
    down: AtomicBool,
    connections: Mutex<Vec<Connection>>,
}

/// A TCP or TLS receiver of any number of connections.
pub(crate) struct StreamSink {
    address: SocketAddr,
    manner: Manner,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl StreamSink {
    /// A TCP receiver.
    pub(crate) fn tcp() -> StreamSink {
        StreamSink::new(Manner::Read)
    }

    /// A TCP receiver that accepts and never reads.
    pub(crate) fn never_reads() -> StreamSink {
        StreamSink::new(Manner::NeverRead)
    }

    /// A TLS receiver; with `ask_client`, one that asks for a client certificate.
    pub(crate) fn tls(pki: &Pki, ask_client: bool) -> StreamSink {
        StreamSink::new(Manner::Tls(server_config(pki, ask_client)))
    }

    fn new(manner: Manner) -> StreamSink {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::default();
        let mut sink = StreamSink { address, manner, shared, accepting: None };
        sink.accept(listener);
        sink
    }

    fn accept(&mut self, listener: TcpListener) {
        listener.set_nonblocking(true).unwrap();
        self.shared.down.store(false, Ordering::SeqCst);
        let (shared, manner) = (Arc::clone(&self.shared), self.manner.clone());
        self.accepting = Some(std::thread::spawn(move || {
            while !shared.down.load(Ordering::SeqCst) {
                match listener.accept() {
                    Ok((socket, _)) => serve(&shared, socket, manner.clone()),
                    Err(_) => std::thread::sleep(Duration::from_millis(3)),
                }
            }
        }));
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the listener and every connection: what a receiver's restart begins with.
    pub(crate) fn down(&mut self) {
        self.shared.down.store(true, Ordering::SeqCst);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        self.close_connections();
    }

    /// Listens again, on the same port.
    pub(crate) fn up(&mut self) {
        let mut listener = None;
        wait_until(Duration::from_secs(5), || {
            listener = TcpListener::bind(self.address).ok();
            listener.is_some()
        });
        self.accept(listener.unwrap_or_else(|| panic!("{} is taken", self.address)));
    }

    /// Closes every connection and goes on listening.
    pub(crate) fn close_connections(&self) {
        for connection in self.shared.connections.lock().unwrap().iter_mut() {
            if let Some(socket) = connection.socket.take() {
                let _ = socket.shutdown(Shutdown::Both);
            }
        }
    }

    /// Connections made so far, those that ended included.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.lock().unwrap().len()
    }

    /// Connections whose peer has closed them, or that broke.
    pub(crate) fn ended(&self) -> usize {
        self.shared.connections.lock().unwrap().iter().filter(|c| c.ended).count()
    }

    /// The bytes of each connection, in the order of their being accepted.
    pub(crate) fn received(&self) -> Vec<Vec<u8>> {
        self.shared.connections.lock().unwrap().iter().map(|c| c.bytes.clone()).collect()
    }

    /// How many bytes came in all.
    pub(crate) fn total(&self) -> usize {
        self.shared.connections.lock().unwrap().iter().map(|c| c.bytes.len()).sum()
    }

    /// How many newlines came in all.
    pub(crate) fn newlines(&self) -> usize {
        let connections = self.shared.connections.lock().unwrap();
        connections.iter().map(|c| memchr::memchr_iter(b'\n', &c.bytes).count()).sum()
    }

    /// What was seen of the peers that finished a TLS handshake.
    pub(crate) fn tls_seen(&self) -> Vec<TlsSeen> {
        self.shared.connections.lock().unwrap().iter().filter_map(|c| c.tls.clone()).collect()
    }

    /// Errors of connections (handshakes that failed, resets).
    pub(crate) fn errors(&self) -> Vec<String> {
        self.shared.connections.lock().unwrap().iter().filter_map(|c| c.error.clone()).collect()
    }
}

impl Drop for StreamSink {
    fn drop(&mut self) {
        self.down();
    }
}

fn serve(shared: &Arc<Shared>, socket: TcpStream, manner: Manner) {
    let _ = socket.set_nonblocking(false);
    let mut connections = shared.connections.lock().unwrap();
    let index = connections.len();
    connections.push(Connection { socket: socket.try_clone().ok(), ..Connection::default() });
    drop(connections);
    let shared = Arc::clone(shared);
    std::thread::spawn(move || {
        let result = match manner {
            Manner::NeverRead => Ok(()),
            Manner::Read => read_all(&shared, index, socket),
            Manner::Tls(config) => read_tls(&shared, index, socket, config),
        };
        let mut connections = shared.connections.lock().unwrap();
        if let Err(error) = result {
            connections[index].error = Some(error.to_string());
        }
        connections[index].ended = true;
    });
}

fn read_all(shared: &Shared, index: usize, mut from: impl Read) -> io::Result<()> {
    let mut chunk = vec![0; 256 * 1024];
    loop {
        let n = from.read(&mut chunk)?;
        if n == 0 {
            return Ok(());
        }
        shared.connections.lock().unwrap()[index].bytes.extend_from_slice(&chunk[..n]);
    }
}

fn read_tls(
    shared: &Shared,
    index: usize,
    mut socket: TcpStream,
    config: Arc<ServerConfig>,
) -> io::Result<()> {
    let mut tls = ServerConnection::new(config).map_err(io::Error::other)?;
    while tls.is_handshaking() {
        tls.complete_io(&mut socket)?;
    }
    let version = match tls.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "?",
    };
    // The one name it can be is looked for in the certificate's bytes: no X.509 parser needed.
    let named = |cert: &CertificateDer<'_>| {
        memchr::memmem::find(cert.as_ref(), CLIENT_NAME.as_bytes()).is_some()
    };
    let client = tls
        .peer_certificates()
        .and_then(|chain| chain.first())
        .map(|cert| if named(cert) { CLIENT_NAME.to_owned() } else { "another name".to_owned() });
    shared.connections.lock().unwrap()[index].tls =
        Some(TlsSeen { version: version.into(), client });
    read_all(shared, index, StreamOwned::new(tls, socket))
}

/// How the server of `pki` speaks TLS.
pub(crate) fn server_config(pki: &Pki, ask_client: bool) -> Arc<ServerConfig> {
    let certs = CertificateDer::pem_file_iter(pki.server_cert()).unwrap();
    let certs = certs.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(pki.server_key()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = if ask_client {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(pki.ca()).unwrap()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        builder.with_client_cert_verifier(verifier.unwrap())
    } else {
        builder.with_no_client_auth()
    };
    Arc::new(builder.with_single_cert(certs, key).unwrap())
}

/// A UDP receiver.
pub(crate) struct UdpSink {
    address: SocketAddr,
    done: Arc<AtomicBool>,
    datagrams: Arc<Mutex<Vec<Vec<u8>>>>,
    reader: Option<JoinHandle<()>>,
}

impl UdpSink {
    /// Binds a free port and begins to receive.
    pub(crate) fn new() -> UdpSink {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        // As much as the host allows: a test must not lose what it is about to count.
        let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(8 << 20);
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let address = socket.local_addr().unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let datagrams = Arc::new(Mutex::new(Vec::new()));
        let (stop, kept) = (Arc::clone(&done), Arc::clone(&datagrams));
        let reader = std::thread::spawn(move || {
            let mut datagram = vec![0; 1 << 16];
            while !stop.load(Ordering::SeqCst) {
                if let Ok(n) = socket.recv(&mut datagram) {
                    kept.lock().unwrap().push(datagram[..n].to_vec());
                }
            }
        });
        UdpSink { address, done, datagrams, reader: Some(reader) }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The datagrams, in the order received.
    pub(crate) fn received(&self) -> Vec<Vec<u8>> {
        self.datagrams.lock().unwrap().clone()
    }
}

impl Drop for UdpSink {
    fn drop(&mut self) {
        self.done.store(true, Ordering::SeqCst);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// A port of loopback on which nothing listens, neither TCP nor UDP, and which no other test gets
/// while this process lives.
///
/// It lies below the range that the kernel takes outgoing connections' ports from. An abstract
/// unix socket of its number is what reserves it among test processes.
pub(crate) fn free_port() -> u16 {
    static RESERVED: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());
    let mut reserved = RESERVED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    for port in 20_000..32_000 {
        let name = UnixAddr::from_abstract_name(format!("logchute-test-port-{port}")).unwrap();
        let Ok(reservation) = UnixListener::bind_addr(&name) else { continue };
        let place = (Ipv4Addr::LOCALHOST, port);
        let free = TcpListener::bind(place).is_ok() && UdpSocket::bind(place).is_ok();
        // A port that something else has is kept too: it need not be tried again.
        reserved.push(reservation);
        if free {
            return port;
        }
    }
    panic!("no port of 20000 to 31999 is free");
}
