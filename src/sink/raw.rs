//! `raw`: a line as it is, and its newline. What Logspout's default `RAW_FORMAT` writes.
//!
//! Pure. The adapters `tcp`, `udp` and `tls` are this one over that transport.

use std::sync::Arc;

use super::{Built, Prefix, Sink, SinkSpec, records, target};
use crate::buffer::Outbox;
use crate::config::Settings;
use crate::docker::Source;
use crate::docker::inspect::Container;
use crate::route::RouteSpec;
use crate::stamp::Stamp;

/// `raw://`: over `udp` (the default), `tcp`, `tls` or `unix`.
pub const SPEC: SinkSpec = SinkSpec { scheme: "raw", build };

struct Raw;

impl Sink for Raw {
    fn prefix(&self, _container: &Container, _source: Source) -> Prefix {
        Prefix::default()
    }

    fn encode(&self, _prefix: &Prefix, _stamp: &Stamp, lines: &[u8], out: &mut Outbox) -> u64 {
        records::plain([&[]; 3], lines, out)
    }
}

fn build(spec: &RouteSpec, settings: &Settings) -> Result<Built, String> {
    Ok(Built { sink: Arc::new(Raw), delivery: target::delivery(spec, settings)? })
}
