//! A receiver of byte streams over TLS, with a certificate of its own making.

use std::io;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::{Inbox, stream};

/// A certificate for `localhost` and 127.0.0.1 that nobody trusts but who is told to.
pub struct Identity {
    server: Arc<ServerConfig>,
    pem: String,
}

impl Identity {
    /// Makes one; it signs itself.
    ///
    /// # Errors
    /// If there is no randomness, or the key does not fit.
    pub fn new() -> io::Result<Identity> {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(names).map_err(io::Error::other)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .map_err(io::Error::other)?;
        Ok(Identity { server: Arc::new(server), pem: cert.pem() })
    }

    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// Writes the certificate, for those who are to trust it.
    ///
    /// # Errors
    /// Those of writing a file.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        std::fs::write(file, &self.pem)
    }
}

/// The decrypted side of a connection that was just accepted.
pub(crate) fn accept(
    socket: TcpStream,
    config: &Arc<ServerConfig>,
) -> io::Result<StreamOwned<ServerConnection, TcpStream>> {
    let connection = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    Ok(StreamOwned::new(connection, socket))
}

/// As `stream::scan`, after decryption.
pub(super) fn scan(socket: TcpStream, inbox: &Inbox, config: &Arc<ServerConfig>) -> io::Result<()> {
    stream::scan_all(accept(socket, config)?, inbox)
}
