//! What the tests of the sinks share: routes, settings and encoded records.

use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use super::{Prefix, Sink};
use crate::buffer::{Budget, Losses, Outbox};
use crate::config::TlsSettings;
use crate::lines::blocks::Blocks;
use crate::route::{RouteSpec, Selector};
use crate::stamp::Stamp;

/// The time of every record: 1970.
pub(super) const TIME: &str = "1970-01-01T00:00:00Z";

pub(super) fn route(
    adapter: &str,
    transport: Option<&str>,
    address: &str,
    options: &[(&str, &str)],
) -> RouteSpec {
    RouteSpec {
        id: "0".to_owned(),
        adapter: adapter.to_owned(),
        transport: transport.map(str::to_owned),
        address: address.to_owned(),
        selector: Selector::default(),
        options: options.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect(),
    }
}

/// A PEM file with an authority made up for one test, removed when dropped.
pub(super) fn authority() -> tempfile::NamedTempFile {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), certificate.pem()).unwrap();
    file
}

/// Settings for TLS that trust `authority` alone, whatever the machine of the test trusts.
pub(super) fn trusting(authority: &Path) -> TlsSettings {
    let ca_certs = vec![authority.to_owned()];
    TlsSettings { disable_system_roots: true, ca_certs, ..TlsSettings::default() }
}

/// The records of `lines` at [`TIME`].
pub(super) fn encode(sink: &dyn Sink, prefix: &Prefix, lines: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Outbox::new(Arc::new(Budget::new(4 << 20, 1)), usize::MAX);
    sink.encode(prefix, &Stamp::new(UNIX_EPOCH), Blocks::whole(lines), &mut out);
    drain(&mut out).0
}

/// Takes all records of `out`, and what it lost.
pub(super) fn drain(out: &mut Outbox) -> (Vec<Vec<u8>>, Losses) {
    let mut records = Vec::new();
    while let Some(chunk) = out.take() {
        records.extend(chunk.pending_records().map(<[u8]>::to_vec));
        out.recycle(chunk);
    }
    (records, out.take_losses())
}
