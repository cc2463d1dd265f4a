//! The tests' receivers, tested with a plain client: one that loses bytes would prove nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

mod support;

use support::pki::Pki;
use support::receivers::{StreamSink, UdpSink};
use support::syslogd::{Door, Kind, Syslogd};
use support::wait_until;

const SOON: Duration = Duration::from_secs(5);

/// A TLS connection that trusts the test's authority, and only that.
fn tls(pki: &Pki, to: SocketAddr) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(pki.ca()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = ClientConnection::new(config.into(), "localhost".try_into().unwrap());
    StreamOwned::new(client.unwrap(), TcpStream::connect(to).unwrap())
}

#[test]
fn our_own_receivers_keep_every_byte() {
    let mut tcp = StreamSink::tcp();
    let mut first = TcpStream::connect(tcp.address()).unwrap();
    first.write_all(b"one\n").unwrap();
    assert!(wait_until(SOON, || tcp.newlines() == 1));
    tcp.down();
    assert!(matches!(first.read(&mut [0]), Ok(0) | Err(_)), "the connection has ended");
    assert!(TcpStream::connect(tcp.address()).is_err());
    tcp.up();
    TcpStream::connect(tcp.address()).unwrap().write_all(b"two\n").unwrap();
    assert!(wait_until(SOON, || tcp.newlines() == 2));
    assert_eq!(tcp.received(), [b"one\n".to_vec(), b"two\n".to_vec()]);

    let udp = UdpSink::new();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for datagram in [&b"a"[..], b"", b"bc\n"] {
        socket.send_to(datagram, udp.address()).unwrap();
    }
    assert!(wait_until(SOON, || udp.received().len() == 3));
    assert_eq!(udp.received(), [b"a".to_vec(), Vec::new(), b"bc\n".to_vec()]);
}

#[test]
fn our_own_tls_receiver_shows_its_certificate() {
    let pki = Pki::new();
    let sink = StreamSink::tls(&pki, false);
    let mut stream = tls(&pki, sink.address());
    stream.write_all(b"secret\n").unwrap();
    stream.flush().unwrap();
    assert!(wait_until(SOON, || sink.newlines() == 1), "{:?}", sink.errors());
    assert_eq!(sink.tls_seen()[0].version, "TLSv1.3");
    assert_eq!(sink.tls_seen()[0].client, None);
}

#[test]
fn a_receiver_that_never_reads_accepts_and_takes_little() {
    let sink = StreamSink::never_reads();
    let mut stream = TcpStream::connect(sink.address()).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let block = vec![b'x'; 1 << 20];
    assert!((0..64).any(|_| stream.write_all(&block).is_err()), "64 MiB were taken");
    assert_eq!((sink.connections(), sink.total()), (1, 0));
}

#[test]
fn rsyslog_and_syslog_ng_write_down_what_comes_through_each_door() {
    let pki = Pki::new();
    for kind in [Kind::Rsyslog, Kind::SyslogNg] {
        let Some(mut receiver) = Syslogd::start(kind, &pki) else { continue };
        let mut expected = Vec::new();
        let mut send = |receiver: &Syslogd, door: Door, text: &str| {
            let record = format!("<14>1 2024-05-06T07:08:09Z host app 1 - - {door:?} {text}\n");
            let framed = format!("{} {record}", record.len());
            let bytes = if door.counted() { &framed } else { &record };
            let to = receiver.address(door);
            match door.transport() {
                "udp" => {
                    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                    socket.send_to(bytes.as_bytes(), to).map(drop)
                }
                "tcp" => TcpStream::connect(to).unwrap().write_all(bytes.as_bytes()),
                _ => {
                    let mut stream = tls(&pki, to);
                    let sent = stream.write_all(bytes.as_bytes()).and_then(|()| stream.flush());
                    stream.conn.send_close_notify();
                    sent.and_then(|()| stream.flush())
                }
            }
            .unwrap();
            expected.push(record);
            let came = receiver.wait_for(expected.len(), SOON);
            let records = String::from_utf8_lossy(&receiver.records()).into_owned();
            assert!(came, "{kind:?} {door:?}: {records:?}: {}", receiver.stderr());
            assert_eq!(records, expected.concat(), "{kind:?} {door:?}");
        };
        for door in Door::ALL {
            send(&receiver, door, "before");
        }
        receiver.stop();
        assert!(TcpStream::connect(receiver.address(Door::Tcp)).is_err());
        receiver.launch();
        send(&receiver, Door::Tcp, "after the stop");
        receiver.kill();
        receiver.launch();
        send(&receiver, Door::TlsCounted, "after the kill");

        receiver.freeze();
        let count = receiver.count();
        let text = b"<14>1 2024-05-06T07:08:09Z host app 1 - - frozen\n";
        TcpStream::connect(receiver.address(Door::Tcp)).unwrap().write_all(text).unwrap();
        assert!(!receiver.wait_for(count + 1, Duration::from_millis(300)), "it is not frozen");
        receiver.thaw();
        assert!(receiver.wait_for(count + 1, SOON), "{kind:?} does not thaw");
    }
}
