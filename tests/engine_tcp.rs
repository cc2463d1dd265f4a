//! The engine over TCP, plain and with TLS client certificates: a proxy on loopback stands before
//! the engine of this host, as `dockerd -H tcp://` with and without `--tlsverify` would.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use support::checker::Run;
use support::docker::Docker;
use support::pki::Pki;
use support::rig::Rig;
use support::{drivers, say, wait_until};

const LONG: Duration = Duration::from_secs(60);
const SOCKET: &str = "/var/run/docker.sock";
/// How long one direction of a proxied connection is waited for before the other has its turn.
const TURN: Duration = Duration::from_millis(1);

/// Passes connections on to the engine for as long as the test's process lives; returns its port.
fn proxy(tls: Option<Arc<ServerConfig>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let tls = tls.clone();
            std::thread::spawn(move || {
                client.set_read_timeout(Some(TURN)).unwrap();
                match tls {
                    None => pass(client),
                    Some(config) => {
                        pass(StreamOwned::new(ServerConnection::new(config).unwrap(), client));
                    }
                }
            });
        }
    });
    port
}

/// A proxy of which connections can be made to stand still.
#[derive(Clone, Default)]
struct Standing {
    connections: Arc<AtomicUsize>,
    /// Those of attach that have a smaller number carry nothing any more, and do not end.
    still: Arc<AtomicUsize>,
}

impl Standing {
    /// Passes connections on for as long as the test's process lives; returns its port.
    fn serve(&self) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let proxy = self.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (proxy, number) = (proxy.clone(), proxy.connections.fetch_add(1, SeqCst));
                std::thread::spawn(move || proxy.pass(client, number));
            }
        });
        port
    }

    fn stand_still(&self) {
        self.still.store(self.connections.load(SeqCst), SeqCst);
    }

    fn pass(&self, mut client: TcpStream, number: usize) {
        client.set_read_timeout(Some(TURN)).unwrap();
        let mut engine = UnixStream::connect(SOCKET).unwrap();
        engine.set_read_timeout(Some(TURN)).unwrap();
        let mut buffer = vec![0; 64 * 1024];
        let mut attach = false;
        loop {
            buffer.fill(0);
            if !carry(&mut client, &mut engine, &mut buffer) {
                break;
            }
            attach |= memchr::memmem::find(&buffer, b"/attach?").is_some();
            while attach && number < self.still.load(SeqCst) {
                std::thread::sleep(Duration::from_millis(50));
            }
            if !carry(&mut engine, &mut client, &mut buffer) {
                break;
            }
        }
        let _ = engine.shutdown(Shutdown::Both);
    }
}

/// Carries bytes both ways until one side ends.
fn pass(mut client: impl Read + Write) {
    let mut engine = UnixStream::connect(SOCKET).unwrap();
    engine.set_read_timeout(Some(TURN)).unwrap();
    let mut buffer = vec![0; 256 * 1024];
    while carry(&mut client, &mut engine, &mut buffer)
        && carry(&mut engine, &mut client, &mut buffer)
    {}
    let _ = engine.shutdown(Shutdown::Both);
}

/// One read and what it gave written on; whether there may be more.
fn carry(from: &mut impl Read, to: &mut impl Write, buffer: &mut [u8]) -> bool {
    match from.read(buffer) {
        Ok(0) => false,
        Ok(n) => to.write_all(&buffer[..n]).is_ok(),
        Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

fn with_client_certificates(pki: &Pki) -> Arc<ServerConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(pki.ca()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let chain = CertificateDer::pem_file_iter(pki.server_cert()).unwrap();
    let chain: Vec<_> = chain.map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(pki.server_key()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(chain, key)
        .unwrap();
    Arc::new(config)
}

/// A folder as `DOCKER_CERT_PATH` names one.
fn cert_path(pki: &Pki) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (from, to) in
        [(pki.ca(), "ca.pem"), (pki.client_cert(), "cert.pem"), (pki.client_key(), "key.pem")]
    {
        std::fs::copy(from, folder.path().join(to)).unwrap();
    }
    folder
}

fn lines_come(docker: &Docker, io: &str, what: &str, env: &[(&str, &str)]) {
    let rig = Rig::start(docker, &format!("lct-{what}"), io, env);
    let run = Run { stderr_every: 5, ..Run::of(5000) };
    let args = ["lines", "5000", "--prefix", "@tcp", "--stderr-every", "5"];
    let _container = rig.run(&[], &args);
    let totals = rig.account(&[("@tcp".into(), run)]);
    assert!(totals.perfect(), "{what} ({io}): {totals}");
}

#[test]
fn an_engine_over_tcp() {
    let Some(docker) = Docker::of_host() else { return };
    let host = format!("tcp://127.0.0.1:{}", proxy(None));
    for io in drivers() {
        lines_come(&docker, io, "tcp", &[("DOCKER_HOST", &host)]);
    }
}

/// A proxy between the engine and us stands still, and ends no connection.
#[test]
fn an_attach_through_a_proxy_that_stands_still_is_opened_again() {
    let Some(docker) = Docker::of_host() else { return };
    for io in drivers() {
        let proxy = Standing::default();
        let host = format!("tcp://127.0.0.1:{}", proxy.serve());
        let env = [("DOCKER_HOST", &*host), ("INACTIVITY_TIMEOUT", "500ms")];
        let rig = Rig::start(&docker, "lct-still", io, &env);
        let container = rig.run(&[], &["tick", "20", "--prefix", "@still"]);
        assert!(rig.wait_for(50, LONG), "{}", rig.program.stderr());
        proxy.stand_still();
        let found = wait_until(LONG, || rig.program.metric("logchute_hung_streams") >= 1.0);
        assert!(found, "{}", rig.program.stderr());
        let before = rig.sink.newlines();
        assert!(rig.wait_for(before + 100, LONG), "{}", rig.program.stderr());
        drop(container);
        std::thread::sleep(Duration::from_secs(1));
        let received = String::from_utf8(rig.received()).unwrap();
        let numbers = received.lines().filter_map(|line| line.split(' ').nth(1)?.parse().ok());
        let totals = rig.account(&[("@still".into(), Run::of(numbers.max().unwrap()))]);
        // Where the daemon's clock is known to two seconds, a line at the seam may come twice.
        say(&format!("a proxy that stands still ({io}): {totals}"));
        assert!(totals.lost == 0 && totals.gaps.is_empty() && totals.duplicated <= 2, "{totals}");
    }
}

#[test]
fn an_engine_over_tls_with_client_certificates() {
    let Some(docker) = Docker::of_host() else { return };
    let pki = Pki::new();
    let host = format!("tcp://localhost:{}", proxy(Some(with_client_certificates(&pki))));
    let folder = cert_path(&pki);
    let path = folder.path().to_str().unwrap();
    for io in drivers() {
        let env = [("DOCKER_HOST", &*host), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", path)];
        lines_come(&docker, io, "tls", &env);
    }
}
