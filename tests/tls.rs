//! TLS to receivers and to the daemon, against real rustls servers on loopback: what is trusted,
//! what is refused, and whether the message names the problem and the fix.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use logchute::config::TlsSettings;
use logchute::transport::tls::{
    Peer, client_config, docker_config, explain, explain_io, server_name,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, date_time_ymd,
};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use tempfile::TempDir;

const IO_TIMEOUT: Duration = Duration::from_secs(20);

/// An authority; certificates of its making lie as PEM files in a directory that goes with it.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
}

/// A certificate and its key, as PEM files.
struct Pair {
    cert: PathBuf,
    key: PathBuf,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Authority { issuer, dir: TempDir::new().unwrap() };
        fs::write(authority.ca(), authority.issuer.pem()).unwrap();
        authority
    }

    fn ca(&self) -> PathBuf {
        self.file("ca.pem")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.file(name), text).unwrap();
        self.file(name)
    }

    fn pair(&self, name: &str, params: CertificateParams) -> Pair {
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Pair {
            cert: self.write(&format!("{name}.pem"), &cert.pem()),
            key: self.write(&format!("{name}.key"), &key.serialize_pem()),
        }
    }

    fn server(&self) -> Pair {
        self.pair("server", names(&["localhost", "127.0.0.1"]))
    }

    fn client(&self) -> Pair {
        let mut params = names(&["a-client"]);
        params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ClientAuth);
        self.pair("client", params)
    }

    /// Trusts this authority alone.
    fn settings(&self) -> TlsSettings {
        TlsSettings {
            disable_system_roots: true,
            ca_certs: vec![self.ca()],
            ..TlsSettings::default()
        }
    }
}

fn names(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    CertificateParams::new(names).unwrap()
}

/// What the server insists on.
#[derive(Default)]
struct Rules<'a> {
    tls12_only: bool,
    p256_only: bool,
    client_of: Option<&'a Authority>,
}

fn server_config(pair: &Pair, rules: &Rules<'_>) -> ServerConfig {
    let mut provider = ring::default_provider();
    if rules.p256_only {
        provider.kx_groups = vec![ring::kx_group::SECP256R1];
    }
    let versions = if rules.tls12_only { &[&TLS12][..] } else { &[&TLS12, &TLS13][..] };
    let provider = Arc::new(provider);
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .unwrap();
    let builder = match rules.client_of {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.issuer.der().clone()).unwrap();
            let roots = Arc::new(roots);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let cert = CertificateDer::from_pem_file(&pair.cert).unwrap();
    let key = PrivateKeyDer::from_pem_file(&pair.key).unwrap();
    builder.with_single_cert(vec![cert], key).unwrap()
}

/// Serves one connection; gives the port and the thread, which returns what was seen.
fn serve<T: Send + 'static>(
    talk: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (u16, JoinHandle<T>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(IO_TIMEOUT)).unwrap();
        talk(stream)
    });
    (port, thread)
}

/// What a TLS server saw of a client that got through.
#[derive(Debug, PartialEq)]
struct Seen {
    line: Vec<u8>,
    version: rustls::ProtocolVersion,
    client_cert: bool,
    server_name: Option<String>,
}

fn serve_tls(config: ServerConfig) -> (u16, JoinHandle<io::Result<Seen>>) {
    serve(move |mut stream| {
        let mut tls = ServerConnection::new(Arc::new(config)).unwrap();
        let mut line = vec![0; 6];
        let mut both = rustls::Stream::new(&mut tls, &mut stream);
        both.read_exact(&mut line)?;
        both.write_all(b"taken\n")?;
        tls.send_close_notify();
        tls.complete_io(&mut stream)?;
        Ok(Seen {
            line,
            version: tls.protocol_version().unwrap(),
            client_cert: tls.peer_certificates().is_some(),
            server_name: tls.server_name().map(str::to_owned),
        })
    })
}

/// Connects to `port` under the name `host` and sends a line.
fn send(config: Arc<ClientConfig>, host: &str, port: u16) -> io::Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(IO_TIMEOUT))?;
    let mut tls = ClientConnection::new(config, server_name(host).unwrap()).unwrap();
    let mut both = rustls::Stream::new(&mut tls, &mut stream);
    both.write_all(b"hello\n")?;
    let mut answer = [0; 6];
    both.read_exact(&mut answer)?;
    assert_eq!(&answer, b"taken\n");
    Ok(())
}

fn delivers(settings: &TlsSettings, server: ServerConfig, host: &str) -> Seen {
    let config = client_config(settings).unwrap();
    let (port, thread) = serve_tls(server);
    send(config, host, port).unwrap_or_else(|e| panic!("{}", explain_io(&e, host, Peer::Receiver)));
    let seen = thread.join().unwrap().unwrap();
    assert_eq!(seen.line, b"hello\n");
    seen
}

/// Must fail; returns the explanation.
fn fails(settings: &TlsSettings, server: ServerConfig, host: &str) -> String {
    let config = client_config(settings).unwrap();
    let (port, thread) = serve_tls(server);
    let error = send(config, host, port).unwrap_err();
    assert!(thread.join().unwrap().is_err());
    explain_io(&error, host, Peer::Receiver)
}

#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
    assert!(!text.contains('\n'), "{text}");
}

#[test]
fn a_trusted_receiver_by_name_and_by_address() {
    let authority = Authority::new("authority");
    let server = authority.server();
    let config = || server_config(&server, &Rules::default());
    let seen = delivers(&authority.settings(), config(), "localhost");
    assert_eq!(seen.version, rustls::ProtocolVersion::TLSv1_3);
    assert_eq!(seen.server_name.as_deref(), Some("localhost"));
    assert!(!seen.client_cert);
    assert_eq!(delivers(&authority.settings(), config(), "127.0.0.1").server_name, None);
    let dotted = delivers(&authority.settings(), config(), "localhost.");
    assert_eq!(dotted.server_name.as_deref(), Some("localhost"));
}

#[test]
fn several_files_and_several_authorities_in_one() {
    let (one, two, three) = (Authority::new("1"), Authority::new("2"), Authority::new("3"));
    let both = [&one, &two].map(|authority| authority.issuer.pem()).concat();
    // As exported elsewhere: text around it, and the line ends of another system.
    let both = format!("Bag Attributes\n{both}\n").replace('\n', "\r\n");
    let mut settings = three.settings();
    settings.ca_certs.push(three.write("both.pem", &both));
    for authority in [&one, &two, &three] {
        let server = server_config(&authority.server(), &Rules::default());
        delivers(&settings, server, "localhost");
    }
}

#[test]
fn an_unknown_authority() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let server = theirs.server();
    let config = || server_config(&server, &Rules::default());
    says(
        &fails(&ours.settings(), config(), "localhost"),
        &["localhost", "not from a trusted authority", "LOGSPOUT_TLS_CA_CERTS"],
    );
    // The system's authorities do not know it either.
    let with_system = TlsSettings { disable_system_roots: false, ..ours.settings() };
    says(&fails(&with_system, config(), "localhost"), &["not from a trusted authority"]);
}

#[test]
fn another_authority_of_the_same_name() {
    let (ours, theirs) = (Authority::new("same"), Authority::new("same"));
    let server = server_config(&theirs.server(), &Rules::default());
    says(&fails(&ours.settings(), server, "localhost"), &["LOGSPOUT_TLS_CA_CERTS"]);
}

#[test]
fn a_wrong_name() {
    let authority = Authority::new("authority");
    let elsewhere = authority.pair("elsewhere", names(&["logs.example.com", "192.0.2.7"]));
    let config = || server_config(&elsewhere, &Rules::default());
    for host in ["localhost", "127.0.0.1"] {
        says(
            &fails(&authority.settings(), config(), host),
            &["not for that name but for logs.example.com, 192.0.2.7;", host],
        );
    }
    let nameless = authority.pair("nameless", CertificateParams::default());
    let server = server_config(&nameless, &Rules::default());
    says(&fails(&authority.settings(), server, "localhost"), &["names no host", "subjectAltName"]);
}

#[test]
fn a_certificate_out_of_its_time() {
    let authority = Authority::new("authority");
    let mut params = names(&["localhost"]);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2021, 2, 3);
    let expired = server_config(&authority.pair("expired", params.clone()), &Rules::default());
    says(
        &fails(&authority.settings(), expired, "localhost"),
        &["expired at 2021-02-03T00:00:00Z", "it is 20", "renew it"],
    );
    params.not_before = date_time_ymd(4000, 5, 6);
    params.not_after = date_time_ymd(4001, 1, 1);
    let early = server_config(&authority.pair("early", params), &Rules::default());
    says(
        &fails(&authority.settings(), early, "localhost"),
        &["not valid before 4000-05-06T00:00:00Z", "check the clocks"],
    );
}

#[test]
fn a_certificate_that_is_not_a_servers() {
    let authority = Authority::new("authority");
    let mut params = names(&["localhost"]);
    params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ClientAuth);
    let client = server_config(&authority.pair("no-server", params), &Rules::default());
    says(&fails(&authority.settings(), client, "localhost"), &["not for a server", "serverAuth"]);

    let mut params = names(&["localhost"]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = server_config(&authority.pair("a-ca", params), &Rules::default());
    says(&fails(&authority.settings(), ca, "localhost"), &["CA:TRUE", "CA:FALSE"]);
}

#[test]
fn a_self_signed_server_is_trusted_by_its_own_certificate() {
    let authority = Authority::new("unused");
    let key = KeyPair::generate().unwrap();
    let cert = names(&["localhost"]).self_signed(&key).unwrap();
    let pair = Pair {
        cert: authority.write("self.pem", &cert.pem()),
        key: authority.write("self.key", &key.serialize_pem()),
    };
    let settings = TlsSettings { ca_certs: vec![pair.cert.clone()], ..authority.settings() };
    delivers(&settings, server_config(&pair, &Rules::default()), "localhost");
}

#[test]
fn client_certificates() {
    let authority = Authority::new("authority");
    let (server, client) = (authority.server(), authority.client());
    let stranger = Authority::new("stranger").client_kept();
    let bare = authority.settings();
    let with = |pair: &Pair| TlsSettings {
        client_cert: Some(pair.cert.clone()),
        client_key: Some(pair.key.clone()),
        ..authority.settings()
    };
    for tls12_only in [false, true] {
        let rules = Rules { tls12_only, client_of: Some(&authority), ..Rules::default() };
        let config = || server_config(&server, &rules);
        assert!(delivers(&with(&client), config(), "localhost").client_cert);
        says(
            &fails(&bare, config(), "localhost"),
            &["asks for a client certificate", "LOGSPOUT_TLS_CLIENT_CERT"],
        );
        says(
            &fails(&with(&stranger.0), config(), "localhost"),
            &["does not accept our client certificate", "LOGSPOUT_TLS_CLIENT_CERT"],
        );
    }
    // One that nobody asks for is not sent; nor is half of a pair.
    let config = || server_config(&server, &Rules::default());
    assert!(!delivers(&with(&client), config(), "localhost").client_cert);
    let half = TlsSettings { client_key: None, ..with(&client) };
    assert!(!delivers(&half, config(), "localhost").client_cert);
}

impl Authority {
    /// A client pair, and the authority that keeps its files.
    fn client_kept(self) -> (Pair, Authority) {
        (self.client(), self)
    }
}

/// The same key in PKCS#8 and in SEC1.
#[test]
fn kinds_of_client_keys() {
    let authority = Authority::new("authority");
    let server = authority.server();
    let key = KeyPair::generate().unwrap();
    let cert = names(&["a-client"]).signed_by(&key, &authority.issuer).unwrap();
    // RFC 5208: SEQUENCE { version, algorithm, OCTET STRING { SEC1 } }; for P-256 the string's
    // tag is byte 27, its length byte 28.
    let pkcs8 = key.serialized_der();
    assert_eq!((pkcs8[27], usize::from(pkcs8[28])), (0x04, pkcs8.len() - 29));
    let sec1 = pem("EC PRIVATE KEY", &pkcs8[29..]);
    for text in [key.serialize_pem(), sec1] {
        let settings = TlsSettings {
            client_cert: Some(authority.write("kind.pem", &cert.pem())),
            client_key: Some(authority.write("kind.key", &text)),
            ..authority.settings()
        };
        let rules = Rules { client_of: Some(&authority), ..Rules::default() };
        assert!(delivers(&settings, server_config(&server, &rules), "localhost").client_cert);
    }
}

/// As `openssl x509 -req` made them by default for decades. rustls would not verify it, but
/// whether it is good enough is for the server to say.
const VERSION_1: &str = "-----BEGIN CERTIFICATE-----
MIIBGDCBvwIUZs5Ufe4HJBuJ+ZLaJAErZr5mzi4wCgYIKoZIzj0EAwIwDjEMMAoG
A1UEAwwDb2xkMCAXDTI2MTEyMTIwNTkxMVoYDzIxMjYxMDI4MjA1OTExWjAOMQww
CgYDVQQDDANvbGQwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAASoj3PpJ8WBvyi0
SJKJyDBtC6hHDDNVVtWfQbQLMG8tZruRc6fhNCoPwv+PSgWyrxf8Qqp9hIAeR6lz
1rcd79MTMAoGCCqGSM49BAMCA0gAMEUCIQCzxCcJjZ3496HxIh7rzQFNZtFWun34
NbrjXnLvsjPB3AIgZRFPD2cVpSFd4PVTmS/+HP4PeFYvEwNPL2yn/uUtZvs=
-----END CERTIFICATE-----
";

#[test]
fn a_client_certificate_of_version_1_is_taken() {
    let authority = Authority::new("authority");
    let settings = TlsSettings {
        client_cert: Some(authority.write("old.pem", VERSION_1)),
        client_key: Some(authority.client().key),
        ..authority.settings()
    };
    assert!(client_config(&settings).unwrap().client_auth_cert_resolver.has_certs());

    let der = CertificateDer::from_pem_slice(VERSION_1.as_bytes()).unwrap();
    let error = ParsedCertificate::try_from(&der).err().unwrap();
    says(&explain(&error, "localhost", Peer::Receiver), &["X.509 version 1", "reissued"]);
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::prelude::{BASE64_STANDARD, Engine};
    let text = BASE64_STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

#[test]
fn hardening() {
    let authority = Authority::new("authority");
    let settings = TlsSettings { hardening: true, ..authority.settings() };
    let server = authority.server();
    for (tls12_only, p256_only) in [(false, false), (true, false), (false, true), (true, true)] {
        let rules = Rules { tls12_only, p256_only, client_of: None };
        let seen = delivers(&settings, server_config(&server, &rules), "localhost");
        assert_eq!(seen.version == rustls::ProtocolVersion::TLSv1_2, tls12_only);
    }
}

/// Sends `answer` to whatever it gets first, then closes.
fn plain_server(answer: &'static [u8]) -> (u16, JoinHandle<io::Result<()>>) {
    serve(move |mut stream| {
        let mut hello = [0; 4096];
        assert!(stream.read(&mut hello)? > 0);
        stream.write_all(answer)?;
        stream.shutdown(std::net::Shutdown::Write)?;
        while stream.read(&mut hello).is_ok_and(|n| n > 0) {}
        Ok(())
    })
}

#[test]
fn a_peer_without_tls() {
    let authority = Authority::new("authority");
    let config = client_config(&authority.settings()).unwrap();
    for answer in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"220 ready\r\n", b"<14>1 - - -\n"] {
        let (port, thread) = plain_server(answer);
        let error = send(Arc::clone(&config), "localhost", port).unwrap_err();
        thread.join().unwrap().unwrap();
        says(&explain_io(&error, "localhost", Peer::Receiver), &["not in TLS", "tcp instead"]);
        says(&explain_io(&error, "localhost", Peer::Daemon), &["not in TLS", "DOCKER_TLS_VERIFY"]);
    }
    let (port, thread) = plain_server(b"");
    let error = send(config, "localhost", port).unwrap_err();
    thread.join().unwrap().unwrap();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    says(&explain_io(&error, "localhost", Peer::Receiver), &["closed", "is it a TLS port?"]);
}

#[track_caller]
fn refused(settings: &TlsSettings, parts: &[&str]) {
    says(&client_config(settings).unwrap_err(), parts);
}

#[test]
fn bad_authority_files_are_named() {
    let authority = Authority::new("authority");
    let with = |path: PathBuf| TlsSettings { ca_certs: vec![path], ..authority.settings() };
    let setting = "LOGSPOUT_TLS_CA_CERTS";
    refused(&with(authority.file("none.pem")), &[setting, "none.pem", "No such file", "give"]);
    refused(&with(authority.dir.path().to_owned()), &[setting, "directory"]);
    refused(&with("/dev/zero".into()), &[setting, "/dev/zero", "not a regular file"]);
    let empty = authority.write("empty.pem", "");
    refused(&with(empty), &[setting, "empty.pem", "no certificate"]);
    let text = authority.write("text.pem", "this is no PEM file\n");
    refused(&with(text), &[setting, "text.pem", "no certificate"]);
    let damaged = authority.issuer.pem().replace("-----END", "???\n-----END");
    refused(&with(authority.write("damaged.pem", &damaged)), &[setting, "damaged.pem"]);
    let hollow = authority.write("hollow.pem", &pem("CERTIFICATE", b"no X.509"));
    refused(&with(hollow), &[setting, "hollow.pem", "can be read"]);
    let nobody = TlsSettings { ca_certs: Vec::new(), ..authority.settings() };
    refused(&nobody, &["no authority to trust", "LOGSPOUT_TLS_DISABLE_SYSTEM_ROOTS", setting]);
}

#[test]
fn bad_client_files_are_named_and_not_shown() {
    let authority = Authority::new("authority");
    let (one, two) = (authority.client(), authority.server());
    let with = |cert: &Path, key: &Path| TlsSettings {
        client_cert: Some(cert.to_owned()),
        client_key: Some(key.to_owned()),
        ..authority.settings()
    };
    let both = ["client.pem", "server.key", "LOGSPOUT_TLS_CLIENT_CERT", "LOGSPOUT_TLS_CLIENT_KEY"];
    refused(&with(&one.cert, &two.key), &both);
    refused(&with(&one.cert, &authority.file("no.key")), &["LOGSPOUT_TLS_CLIENT_KEY", "no.key"]);
    refused(&with(&authority.file("no.pem"), &one.key), &["LOGSPOUT_TLS_CLIENT_CERT", "no.pem"]);
    refused(
        &with(&one.cert, &one.cert),
        &["LOGSPOUT_TLS_CLIENT_KEY", "no unencrypted private key"],
    );
    refused(&with(&one.key, &one.key), &["LOGSPOUT_TLS_CLIENT_CERT", "no certificate"]);
    let locked = pem("ENCRYPTED PRIVATE KEY", b"whatever");
    let locked = authority.write("locked.key", &locked);
    refused(&with(&one.cert, &locked), &["locked.key", "no unencrypted private key"]);
    let strange = authority.write("strange.key", &pem("PRIVATE KEY", b"no key"));
    refused(&with(&one.cert, &strange), &["strange.key", "RSA", "P-256", "Ed25519"]);
    let hollow = authority.write("hollow.pem", &pem("CERTIFICATE", b"no X.509"));
    refused(&with(&hollow, &one.key), &["hollow.pem", "damaged"]);

    // A slip of the editor; the message must not quote the line.
    let spoilt = fs::read_to_string(&one.key).unwrap().replace('\n', "!\n");
    let spoilt = authority.write("spoilt.key", &spoilt.replacen("-!", "-", 1));
    let error = client_config(&with(&one.cert, &spoilt)).unwrap_err();
    says(&error, &["spoilt.key"]);
    let key = fs::read_to_string(&one.key).unwrap();
    assert!(key.lines().all(|line| !error.contains(line)), "{error}");
}

#[test]
fn the_daemon() {
    let authority = Authority::new("authority");
    let (server, client) = (authority.server(), authority.client());
    let none = authority.file("none.pem");
    let rules = Rules { client_of: Some(&authority), ..Rules::default() };

    let config = docker_config(&authority.ca(), &client.cert, &client.key).unwrap();
    let (port, thread) = serve_tls(server_config(&server, &rules));
    send(config, "127.0.0.1", port).unwrap();
    assert!(thread.join().unwrap().unwrap().client_cert);

    let config = docker_config(&authority.ca(), &none, &none).unwrap();
    let (port, thread) = serve_tls(server_config(&server, &rules));
    let error = send(config, "127.0.0.1", port).unwrap_err();
    assert!(thread.join().unwrap().is_err());
    says(
        &explain_io(&error, "127.0.0.1", Peer::Daemon),
        &["client certificate", "cert.pem and key.pem in DOCKER_CERT_PATH"],
    );

    let error = |ca: &Path, cert: &Path, key: &Path| docker_config(ca, cert, key).unwrap_err();
    says(&error(&none, &client.cert, &client.key), &["DOCKER_CERT_PATH", "none.pem"]);
    says(&error(&authority.ca(), &client.cert, &none), &["DOCKER_CERT_PATH", "none.pem"]);
    says(&error(&authority.ca(), &client.cert, &server.key), &["client.pem", "server.key"]);
}

const SYSTEM_ROOTS: &str = "LOGCHUTE_TEST_EXPECTS_SYSTEM_ROOTS";

/// `SSL_CERT_FILE` stands for the system's authorities. It is read from the environment, so that
/// this test runs itself again in another one.
#[test]
fn system_roots_by_ssl_cert_file() {
    let settings = TlsSettings::default();
    match std::env::var(SYSTEM_ROOTS).as_deref() {
        Ok("some") => {
            let authority = Path::new(&std::env::var_os("SSL_CERT_FILE").unwrap()).to_owned();
            let (cert, key) = (authority.with_file_name("server.pem"), "server.key");
            let pair = Pair { cert, key: authority.with_file_name(key) };
            delivers(&settings, server_config(&pair, &Rules::default()), "localhost");
        }
        Ok(_) => {
            refused(&settings, &["no authority to trust", "none.pem", "LOGSPOUT_TLS_CA_CERTS"])
        }
        Err(_) => {
            let authority = Authority::new("system");
            authority.server();
            for (expected, file) in [("some", authority.ca()), ("none", authority.file("none.pem"))]
            {
                let status = Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "system_roots_by_ssl_cert_file", "--nocapture"])
                    .env(SYSTEM_ROOTS, expected)
                    .env("SSL_CERT_FILE", file)
                    .env_remove("SSL_CERT_DIR")
                    .status();
                assert!(status.unwrap().success(), "with {expected} authorities");
            }
        }
    }
}
