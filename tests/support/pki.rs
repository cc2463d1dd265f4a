//! Keys and certificates for TLS receivers, made for one test and written to its folder.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// The common name of the client certificate.
pub(crate) const CLIENT_NAME: &str = "logspout-client";

/// Whom a server that stands in for Slack is taken for.
pub(crate) const SLACK: &str = "hooks.slack.com";

/// A name that no resolver knows: only a proxy finds it.
pub(crate) const AFAR: &str = "hooks.test";

/// PEM files in a temporary folder.
pub(crate) struct Pki {
    folder: tempfile::TempDir,
}

impl Pki {
    /// Makes an authority with a server's and a client's certificate, and another authority.
    pub(crate) fn new() -> Pki {
        let folder = tempfile::Builder::new().prefix("lct-pki-").tempdir().unwrap();
        let write = |name: &str, text: String| {
            std::fs::write(folder.path().join(name), text).unwrap();
        };
        let (ca, ca_pem) = authority("logchute test authority");
        write("ca.pem", ca_pem);
        write("other-ca.pem", authority("another authority").1);
        let names = ["localhost", "127.0.0.1", SLACK, AFAR].map(str::to_owned);
        for (name, common_name, names) in
            [("server", "localhost", &names[..]), ("client", CLIENT_NAME, &[])]
        {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(names).unwrap();
            params.distinguished_name.push(DnType::CommonName, common_name);
            write(&format!("{name}.pem"), params.signed_by(&key, &ca).unwrap().pem());
            write(&format!("{name}.key"), key.serialize_pem());
        }
        Pki { folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder, for files that go with it.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The authority of server and client.
    pub(crate) fn ca(&self) -> PathBuf {
        self.file("ca.pem")
    }

    /// An authority that signed neither.
    pub(crate) fn other_ca(&self) -> PathBuf {
        self.file("other-ca.pem")
    }

    /// The server's certificate, for `localhost`, `127.0.0.1`, [`SLACK`] and [`AFAR`].
    pub(crate) fn server_cert(&self) -> PathBuf {
        self.file("server.pem")
    }

    /// The server's key.
    pub(crate) fn server_key(&self) -> PathBuf {
        self.file("server.key")
    }

    /// The client's certificate, for [`CLIENT_NAME`].
    pub(crate) fn client_cert(&self) -> PathBuf {
        self.file("client.pem")
    }

    /// The client's key.
    pub(crate) fn client_key(&self) -> PathBuf {
        self.file("client.key")
    }
}

fn authority(name: &str) -> (Issuer<'static, KeyPair>, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let pem = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), pem)
}
