//! TLS: rustls' configuration from the settings, and its errors in words that name the fix.
//!
//! Reads certificate and key files, once, at start. Whoever moves the bytes is elsewhere
//! ([`super::conn`]). No key, no line of a PEM file and no session data is ever shown.

use std::fmt::Display;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, SupportedKxGroup, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    AlertDescription, CertificateError, CipherSuite, ClientConfig, Error, InconsistentKeys,
    InvalidMessage, PeerIncompatible, RootCertStore,
};

use crate::config::TlsSettings;
use crate::stamp::Stamp;

/// The largest PEM file that is read; the authorities of a system are some 200 KiB.
const PEM_MAX: u64 = 16 << 20;

const CA_CERTS: &str = "LOGSPOUT_TLS_CA_CERTS";
const CLIENT_CERT: &str = "LOGSPOUT_TLS_CLIENT_CERT";
const CLIENT_KEY: &str = "LOGSPOUT_TLS_CLIENT_KEY";
const DOCKER_CERTS: &str = "DOCKER_CERT_PATH";

/// The suites that are offered under `LOGSPOUT_TLS_HARDENING`: forward secrecy (ECDHE) and
/// authenticated encryption (AES-GCM, ChaCha20-Poly1305) only.
const HARDENED_SUITES: &[CipherSuite] = &[
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
];

/// The groups of the hardened profile, in Logspout's order. It has P-521 too, after X25519, which
/// *ring* does not implement.
const HARDENED_GROUPS: &[&dyn SupportedKxGroup] =
    &[ring::kx_group::X25519, ring::kx_group::SECP384R1, ring::kx_group::SECP256R1];

/// The configuration for receivers: TLS 1.2 and 1.3.
///
/// Trusted are the system's authorities (those of `SSL_CERT_FILE` and `SSL_CERT_DIR` where these
/// are set), unless they are disabled, and those of `ca_certs`. The client certificate is sent
/// to a receiver that asks for one; as in Logspout, half of a pair is not used (but warned of).
/// Hardening never widens what is offered: the defaults of rustls know no weak suite, so that
/// it only fixes the list.
///
/// An error is one line that names the setting, the file and the fix. Where nobody would be
/// trusted, that is an error too.
pub fn client_config(tls: &TlsSettings) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let system = match tls.disable_system_roots {
        true => "LOGSPOUT_TLS_DISABLE_SYSTEM_ROOTS is set".to_owned(),
        false => add_system_roots(&mut roots),
    };
    for path in &tls.ca_certs {
        add_authorities(&mut roots, CA_CERTS, path)?;
    }
    if roots.is_empty() {
        return Err(format!(
            "no authority to trust, so no TLS receiver could be: {system}; \
             set {CA_CERTS} to a PEM file with the authority of the receiver"
        ));
    }
    let provider = if tls.hardening { hardened() } else { ring::default_provider() };
    let pair = match (&tls.client_cert, &tls.client_key) {
        (Some(cert), Some(key)) => {
            Some(client_pair((CLIENT_CERT, cert), (CLIENT_KEY, key), &provider)?)
        }
        (None, None) => None,
        _ => {
            tracing::warn!(
                "no client certificate is sent: {CLIENT_CERT} and {CLIENT_KEY} work together only; \
                 set both or neither"
            );
            None
        }
    };
    configure(provider, roots, pair)
}

/// The configuration for the daemon (`DOCKER_TLS_VERIFY`): trusts the authorities of `ca` alone
/// and presents `cert` with `key`. As with go-dockerclient, both of these may be missing (a
/// daemon need not ask for them); `ca` may not, for then nothing would be verified.
///
/// An error is one line that names the file and the fix.
pub fn docker_config(ca: &Path, cert: &Path, key: &Path) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    add_authorities(&mut roots, DOCKER_CERTS, ca)?;
    let provider = ring::default_provider();
    let missing = |path: &Path| matches!(path.try_exists(), Ok(false));
    let pair = match missing(cert) && missing(key) {
        true => None,
        false => Some(client_pair((DOCKER_CERTS, cert), (DOCKER_CERTS, key), &provider)?),
    };
    configure(provider, roots, pair)
}

/// The name that the certificate must have and that is sent as SNI (addresses are not, RFC 6066
/// section 3). A trailing dot and the zone of an IPv6 address are no part of it.
pub fn server_name(host: &str) -> Result<ServerName<'static>, String> {
    let address = host.split('%').next().unwrap_or_default();
    if let Ok(address) = address.parse::<IpAddr>() {
        return Ok(ServerName::from(address));
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    ServerName::try_from(name.to_owned()).map_err(|_| {
        format!(
            "bad host name {host:?} for TLS: use a DNS name (letters, digits, - and .; \
             other characters in their xn-- form) or an IP address"
        )
    })
}

fn configure(
    provider: CryptoProvider,
    roots: RootCertStore,
    pair: Option<CertifiedKey>,
) -> Result<Arc<ClientConfig>, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?
        .with_root_certificates(roots);
    let mut config = match pair {
        Some(pair) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair))),
        None => builder.with_no_client_auth(),
    };
    // Connections are few and long: a full handshake each time is cheap, and always verifies.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn hardened() -> CryptoProvider {
    let mut provider = ring::default_provider();
    provider.cipher_suites.retain(|suite| HARDENED_SUITES.contains(&suite.suite()));
    provider.cipher_suites.sort_by_key(|suite| {
        HARDENED_SUITES.iter().position(|hardened| *hardened == suite.suite())
    });
    provider.kx_groups = HARDENED_GROUPS.to_vec();
    provider
}

/// Adds the system's authorities; returns what to say if there are none.
fn add_system_roots(roots: &mut RootCertStore) -> String {
    let found = rustls_native_certs::load_native_certs();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
    let errors = errors.join(", ");
    if added > 0 && !errors.is_empty() {
        tracing::warn!("some of the system's certificate authorities cannot be used: {errors}");
    }
    match errors.is_empty() {
        true => "the system has no certificate authorities".to_owned(),
        false => format!("the system's certificate authorities cannot be used ({errors})"),
    }
}

fn add_authorities(roots: &mut RootCertStore, setting: &str, path: &Path) -> Result<(), String> {
    let certs = read_pem::<CertificateDer<'static>>(setting, path, "certificate")?;
    let (added, ignored) = roots.add_parsable_certificates(certs);
    if added == 0 {
        return Err(format!(
            "{setting}: no certificate in {path:?} can be read; give an authority's X.509 \
             certificate in PEM form"
        ));
    }
    if ignored > 0 {
        tracing::warn!("{setting}: {ignored} certificates in {path:?} cannot be read, {added} can");
    }
    Ok(())
}

/// A certificate chain and its key: (setting, file) each. Keys are PKCS#1, PKCS#8 or SEC1.
fn client_pair(
    (cert_setting, cert): (&str, &Path),
    (key_setting, key): (&str, &Path),
    provider: &CryptoProvider,
) -> Result<CertifiedKey, String> {
    let chain = read_pem::<CertificateDer<'static>>(cert_setting, cert, "certificate")?;
    let keys = read_pem::<PrivateKeyDer<'static>>(key_setting, key, "unencrypted private key")?;
    let signer = keys.into_iter().next().and_then(|key| {
        // The error's own text says less than ours.
        provider.key_provider.load_private_key(key).ok()
    });
    let Some(signer) = signer else {
        return Err(format!(
            "{key_setting}: the private key in {key:?} cannot be used; give one that is RSA (2048 \
             bits or more), ECDSA (P-256 or P-384) or Ed25519"
        ));
    };
    let pair = CertifiedKey::new(chain, signer);
    match pair.keys_match() {
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => Err(format!(
            "{cert_setting}, {key_setting}: the private key in {key:?} does not belong to the \
             (first) certificate in {cert:?}; give the two files of one pair"
        )),
        Err(Error::InvalidCertificate(CertificateError::BadEncoding)) => Err(format!(
            "{cert_setting}: the certificate in {cert:?} is damaged; give an X.509 certificate in \
             PEM form"
        )),
        // Certificates that rustls would not verify (X.509 version 1) can be presented all the
        // same: judging them is the other side's business.
        _ => Ok(pair),
    }
}

/// The bytes of a regular file of a sensible size: a device or a pipe may never end.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let about = fs::metadata(path)?;
    // Reading a directory fails by itself, and says so.
    if !about.is_dir() && (!about.is_file() || about.len() > PEM_MAX) {
        let what = format!("it is not a regular file of at most {} MiB", PEM_MAX >> 20);
        return Err(io::Error::other(what));
    }
    fs::read(path)
}

/// Every `what` of a PEM file, at least one.
fn read_pem<T: PemObject>(setting: &str, path: &Path, what: &str) -> Result<Vec<T>, String> {
    let text = read_file(path).map_err(|error| {
        format!("{setting}: cannot read {path:?}: {error}; give a PEM file that logchute may read")
    })?;
    // The PEM error is not shown: it may quote the line, and the line may be a key.
    let items: Vec<T> = T::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(|_| {
        format!("{setting}: {path:?} is damaged (not valid PEM); give a PEM file with the {what}")
    })?;
    if items.is_empty() {
        return Err(format!("{setting}: {path:?} has no {what}; give a PEM file with one"));
    }
    Ok(items)
}

/// On whose side of the settings the fix of a TLS problem lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A receiver: `LOGSPOUT_TLS_*`, and the route.
    Receiver,
    /// The daemon: `DOCKER_CERT_PATH`, `DOCKER_HOST`.
    Daemon,
    /// A webhook: `LOGSPOUT_TLS_*`, and its URL.
    Webhook,
}

impl Peer {
    fn authorities(self) -> &'static str {
        match self {
            Peer::Receiver | Peer::Webhook => {
                "add the PEM file of that authority to LOGSPOUT_TLS_CA_CERTS"
            }
            Peer::Daemon => "put that authority into ca.pem in DOCKER_CERT_PATH",
        }
    }

    fn client_pair(self) -> &'static str {
        match self {
            Peer::Receiver | Peer::Webhook => {
                "LOGSPOUT_TLS_CLIENT_CERT and LOGSPOUT_TLS_CLIENT_KEY"
            }
            Peer::Daemon => "cert.pem and key.pem in DOCKER_CERT_PATH",
        }
    }

    fn plain_text(self) -> &'static str {
        match self {
            Peer::Receiver => "use its TLS port, or tcp instead of tls in the route",
            Peer::Webhook => "give its https address",
            Peer::Daemon => {
                "use its TLS port (mostly 2376) in DOCKER_HOST, or no DOCKER_TLS_VERIFY"
            }
        }
    }
}

/// As [`explain`], for what comes out of reading and writing: a TLS error within, an end of the
/// stream in the middle of the handshake, or any other I/O error.
pub fn explain_io(error: &io::Error, host: &str, peer: Peer) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match (inner, error.kind()) {
        (Some(tls), _) => explain(tls, host, peer),
        (None, io::ErrorKind::UnexpectedEof) => format!(
            "{host} closed the connection during the TLS handshake; is it a TLS port? If not, {}",
            peer.plain_text()
        ),
        _ => error.to_string(),
    }
}

/// A TLS error in one line that names the problem and the fix. `host` is the name or address
/// that was connected to.
///
/// With TLS 1.3 a server may refuse the client certificate (or its absence) only after the
/// handshake: errors of the first reads belong here as well.
pub fn explain(error: &Error, host: &str, peer: Peer) -> String {
    match error {
        Error::InvalidCertificate(error) => bad_certificate(error, host, peer),
        Error::AlertReceived(alert) => refused(*alert, host, peer),
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType
            | InvalidMessage::UnknownProtocolVersion
            | InvalidMessage::MessageTooLarge,
        ) => {
            format!("{host} answers, but not in TLS; {}", peer.plain_text())
        }
        Error::PeerIncompatible(why) => nothing_in_common(why, host),
        Error::NoCertificatesPresented => format!("{host} sent no certificate; give it one"),
        other => format!("TLS with {host} failed: {other}"),
    }
}

fn nothing_in_common(why: &PeerIncompatible, host: &str) -> String {
    format!(
        "{host} and logchute have no TLS settings in common ({why:?}); it must allow TLS 1.2 or \
         1.3 with ECDHE (X25519, P-256 or P-384) and AES-GCM or ChaCha20-Poly1305"
    )
}

/// What a fatal alert of the server means (RFC 8446 section 6.2).
fn refused(alert: AlertDescription, host: &str, peer: Peer) -> String {
    use AlertDescription as A;
    let pair = peer.client_pair();
    match alert {
        A::CertificateRequired | A::NoCertificate => {
            format!("{host} asks for a client certificate; set {pair}")
        }
        A::BadCertificate
        | A::UnsupportedCertificate
        | A::CertificateRevoked
        | A::CertificateExpired
        | A::CertificateUnknown
        | A::UnknownCA
        | A::AccessDenied => format!(
            "{host} does not accept our client certificate (alert {alert:?}); see that {pair} are \
             set, valid, and issued by an authority that it trusts"
        ),
        A::HandshakeFailure => format!(
            "{host} ended the TLS handshake (alert {alert:?}): it asks for a client certificate \
             ({pair}), or it has no cipher suite in common with logchute (ECDHE with AES-GCM or \
             ChaCha20-Poly1305)"
        ),
        A::ProtocolVersion | A::InsufficientSecurity => format!(
            "{host} allows none of our TLS settings (alert {alert:?}); it must allow TLS 1.2 or \
             1.3 with ECDHE and AES-GCM or ChaCha20-Poly1305"
        ),
        A::UnrecognisedName => format!(
            "{host} has no certificate for this name (alert {alert:?}); connect by a name that it \
             has one for"
        ),
        _ => format!("{host} ended the TLS connection (alert {alert:?})"),
    }
}

fn bad_certificate(error: &CertificateError, host: &str, peer: Peer) -> String {
    use CertificateError as C;
    let which = format!("the certificate of {host}");
    match error {
        C::UnknownIssuer => format!(
            "{which} is not from a trusted authority; {} (or have the server send its \
             intermediate certificates)",
            peer.authorities()
        ),
        C::BadSignature => format!(
            "{which} was not signed by the trusted authority of that name; {}",
            peer.authorities()
        ),
        C::NotValidForName => wrong_name(&which, host, &[]),
        C::NotValidForNameContext { presented, .. } => wrong_name(&which, host, presented),
        C::Expired => format!("{which} (or of its issuer) has expired; renew it"),
        C::ExpiredContext { time, not_after } => format!(
            "{which} (or of its issuer) expired at {}, and it is {} now; renew it",
            when(*not_after),
            when(*time)
        ),
        C::NotValidYet => format!("{which} (or of its issuer) is not valid yet; check the clocks"),
        C::NotValidYetContext { time, not_before } => format!(
            "{which} (or of its issuer) is not valid before {}, and it is {} now; check the clocks",
            when(*not_before),
            when(*time)
        ),
        C::Revoked => format!("{which} was revoked; give the server another one"),
        C::InvalidPurpose | C::InvalidPurposeContext { .. } => format!(
            "{which} is not for a server; have it reissued with the extended key usage serverAuth"
        ),
        C::Other(other) => unusual(&other.0, &which),
        other => format!("{which} cannot be verified ({other:?}); have it reissued"),
    }
}

/// Errors that rustls only passes on, known by webpki's name for them.
fn unusual(error: &dyn Display, which: &str) -> String {
    match error.to_string().as_str() {
        "CaUsedAsEndEntity" => format!(
            "{which} is an authority's (CA:TRUE), which must not stand for a server; have it \
             reissued with CA:FALSE, as openssl does with -addext basicConstraints=CA:FALSE"
        ),
        "UnsupportedCertVersion" => {
            format!("{which} is of X.509 version 1; have it reissued in version 3, with its names")
        }
        other => format!("{which} cannot be verified ({}); have it reissued", plain(other)),
    }
}

/// How many names of a certificate are shown.
const NAMES_SHOWN: usize = 8;

/// `presented` is webpki's `DnsName("a.example")`, `IpAddress(127.0.0.1)` and the like.
fn wrong_name(which: &str, host: &str, presented: &[String]) -> String {
    if presented.is_empty() {
        return format!(
            "{which} names no host at all (subjectAltName); have it reissued with the name {host}"
        );
    }
    let mut names: Vec<String> =
        presented.iter().take(NAMES_SHOWN).map(|name| plain(inner_name(name))).collect();
    if presented.len() > NAMES_SHOWN {
        names.push(format!("{} more", presented.len() - NAMES_SHOWN));
    }
    format!(
        "{which} is not for that name but for {}; connect by one of these, or have it reissued \
         with the name {host}",
        names.join(", ")
    )
}

fn inner_name(name: &str) -> &str {
    let inner = name.split_once('(').map_or(name, |(_, inner)| inner);
    inner.trim_end_matches(')').trim_matches('"')
}

/// Text of another's making, without what could disturb a terminal or a log.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}

fn when(time: UnixTime) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(time.as_secs())).unwrap_or(UNIX_EPOCH);
    String::from_utf8_lossy(Stamp::new(time).rfc3339()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses() {
        let name = |host| server_name(host).map(|name| name.to_str().into_owned());
        assert_eq!(name("logs.example.com").as_deref(), Ok("logs.example.com"));
        assert_eq!(name("logs.example.com.").as_deref(), Ok("logs.example.com"));
        assert_eq!(name("my_host").as_deref(), Ok("my_host"));
        assert_eq!(name("192.0.2.1").as_deref(), Ok("192.0.2.1"));
        assert!(matches!(server_name("::1"), Ok(ServerName::IpAddress(_))));
        assert_eq!(server_name("fe80::1%eth0"), server_name("fe80::1"));
        for bad in ["", ".", "a..b", "b\u{fc}cher.example", "a b", "192.0.2.256"] {
            let error = server_name(bad).unwrap_err();
            assert!(error.contains(&format!("{bad:?}")) && error.contains("xn--"), "{error}");
        }
    }

    /// rustls may learn weaker suites and other groups; the hardened list must not.
    #[test]
    fn the_hardened_profile_is_exact() {
        let provider = hardened();
        let suites: Vec<CipherSuite> = provider.cipher_suites.iter().map(|s| s.suite()).collect();
        assert_eq!(suites, HARDENED_SUITES);
        let groups: Vec<_> = provider.kx_groups.iter().map(|group| group.name()).collect();
        use rustls::NamedGroup::{X25519, secp256r1, secp384r1};
        assert_eq!(groups, [X25519, secp384r1, secp256r1]);
    }

    #[test]
    fn a_certificate_cannot_write_to_the_terminal() {
        let names: Vec<String> =
            (0..20).map(|n| format!("DnsName(\"\u{1b}[31m{n}\r\nfake\")")).collect();
        let text = wrong_name("the certificate of x", "x", &names);
        assert!(!text.contains(char::is_control), "{text:?}");
        assert!(text.contains("?[31m7??fake, 12 more;"), "{text}");
    }

    #[test]
    fn alerts_point_to_the_right_settings() {
        let text = |alert, peer| explain(&Error::AlertReceived(alert), "db", peer);
        let required = AlertDescription::CertificateRequired;
        assert!(text(required, Peer::Receiver).contains("set LOGSPOUT_TLS_CLIENT_CERT and"));
        assert!(text(required, Peer::Daemon).contains("set cert.pem and key.pem in DOCKER_CERT"));
        let unknown = text(AlertDescription::UnknownCA, Peer::Receiver);
        assert!(unknown.contains("does not accept our client certificate"), "{unknown}");
        let version = text(AlertDescription::ProtocolVersion, Peer::Receiver);
        assert!(version.contains("TLS 1.2 or 1.3"), "{version}");
        let other = text(AlertDescription::InternalError, Peer::Receiver);
        assert_eq!(other, "db ended the TLS connection (alert InternalError)");
    }

    #[test]
    fn other_io_errors_stay_as_they_are() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(explain_io(&refused, "db", Peer::Receiver), refused.to_string());
    }
}
