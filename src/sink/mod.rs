//! What a receiver understands: one file a sink, one table of them all, [`SINKS`].
//!
//! Pure: lines in, records into the [`Outbox`]. A sink renders what depends on a container and
//! source alone once, when the container is attached ([`Sink::prefix`]); per line only the time
//! and the line itself vary.

use std::sync::{Arc, OnceLock};

use serde_json::Value as Json;

use crate::buffer::Outbox;
use crate::config::Settings;
use crate::docker::Source;
use crate::docker::inspect::Container;
use crate::lines::blocks::Blocks;
use crate::route::RouteSpec;
use crate::stamp::Stamp;
use crate::template::Bound;
use crate::transport::Delivery;

mod batch;
pub mod console;
pub mod elasticsearch;
mod field;
pub mod fluent;
mod json;
pub mod json_http;
pub mod logentries;
pub mod loggly;
mod loggly_syslog;
pub mod logstash;
mod message;
mod msgpack;
mod options;
mod palette;
pub mod papertrail;
pub mod raw;
pub mod readable;
mod records;
pub mod relp;
pub mod slack;
mod splice;
pub mod sumo;
pub mod syslog;
mod target;
mod templates;
pub mod viewer;
pub mod webhook;

#[cfg(test)]
mod replay;
#[cfg(test)]
mod testing;

/// Who reads the records of a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// A program that relies on it that a line which is an object stays one.
    Program,
    /// Whoever: an object stays one unless the route asks for text.
    Either,
    /// People: they get text unless the route asks for the object.
    People,
}

/// Writes lines as records of one receiver's format.
pub trait Sink: Send + Sync {
    /// What every record of this container and source has in common.
    fn prefix(&self, container: &Container, source: Source) -> Prefix;

    /// Whether [`Sink::prefix`] looks at [`Container::answer`].
    fn reads_answers(&self) -> bool {
        false
    }

    /// The longest record that the receiver takes, in bytes: a longer one is cut, and counted.
    fn record_max(&self) -> usize {
        usize::MAX
    }

    /// Who reads its records, which decides what becomes of lines that are JSON objects (stats and
    /// events): see [`readable`].
    fn reader(&self) -> Reader {
        Reader::Program
    }

    /// Appends one record per line; returns how many lines that were (the encoder looks at every
    /// line's end anyway: nobody else need count). The bytes of a line are passed on as they are,
    /// `\r` and invalid UTF-8 included, and the newlines of a joined one
    /// ([`Blocks::joined`]), which is one record.
    fn encode(&self, prefix: &Prefix, stamp: &Stamp, lines: Blocks<'_>, out: &mut Outbox) -> u64;
}

/// The parts of a record that are the same for every line of a container and source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefix {
    /// What comes before the time.
    pub before_time: Box<[u8]>,
    /// What comes between the time and the line.
    pub after_time: Box<[u8]>,
    /// The sink's templates for this container and source, in an order of the sink's own.
    pub templates: Box<[Bound]>,
    /// The container's number among those that have written, for a sink that counts them.
    pub number: OnceLock<usize>,
    /// The names, with their quotes, of members that a line's own must not stand beside.
    pub members: Box<[String]>,
    /// The container as templates see it, for sinks whose records refer to it.
    pub document: Option<Arc<Json>>,
}

/// A sink, ready for use, and how its records travel.
pub struct Built {
    /// The encoder, shared by the shards.
    pub sink: Arc<dyn Sink>,
    /// Where its records go.
    pub delivery: Delivery,
    /// What a line must match to be of use to the sink, besides what the route's options say.
    pub needs: Vec<Need>,
}

impl Built {
    /// A sink that takes every line.
    fn new(sink: impl Sink + 'static, delivery: Delivery) -> Built {
        Built { sink: Arc::new(sink), delivery, needs: Vec::new() }
    }
}

/// An expression of the sink's own that lines must match.
pub struct Need {
    /// Who asks for it: how an error about it begins.
    pub name: &'static str,
    /// The expression, in the syntax of `filter.match`.
    pub pattern: String,
}

/// A kind of sink: the name in a route URI and how to build it.
pub struct SinkSpec {
    /// The adapter's name: what stands before `+` or `://`.
    pub scheme: &'static str,
    /// Builds the sink, or says in one line which value is wrong and what to write instead.
    pub build: fn(&RouteSpec, &Settings) -> Result<Built, String>,
}

/// Every sink there is. The transports' own names (`tcp`, `udp`, `tls`) mean `raw` over them.
pub const SINKS: &[SinkSpec] = &[
    console::SPEC,
    elasticsearch::SPEC,
    fluent::SPEC,
    json_http::HTTP,
    json_http::HTTPS,
    logentries::INSIGHT,
    logentries::SPEC,
    loggly::SPEC,
    logstash::SPEC,
    papertrail::SPEC,
    raw::SPEC,
    relp::SPEC,
    slack::SPEC,
    sumo::SPEC,
    syslog::SPEC,
    webhook::SPEC,
];

/// Builds the sink of a route.
pub fn build(spec: &RouteSpec, settings: &Settings) -> Result<Built, String> {
    let known = SINKS.iter().find(|sink| sink.scheme == spec.sink());
    let Some(sink) = known else {
        let names: Vec<&str> = SINKS.iter().map(|sink| sink.scheme).collect();
        return Err(format!(
            "bad adapter: {:?} in route {}; use one of {}",
            spec.adapter,
            spec.id,
            names.join(", ")
        ));
    };
    (sink.build)(spec, settings)
}
