//! Which lines go where: a route's URI ([`uri`]) or JSON ([`json`]), the containers it selects
//! ([`select`]), the lines it keeps ([`filter`]; [`verdict`] judges for all routes at once) and
//! joins ([`multiline`]).
//!
//! Pure; knows containers and lines, not sinks or sockets.

mod arrange;
pub mod filter;
pub mod glob;
pub mod json;
pub mod multiline;
pub mod pattern;
mod scan;
pub mod select;
pub mod uri;
pub mod verdict;
mod words;

use crate::docker::Source;

/// A route as the user wrote it: parsed, not yet built.
///
/// Shape: `[multiline+]ADAPTER[+TRANSPORT]://ADDRESS[?filter.…=…&OPTION=…]`.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteSpec {
    /// Names the route in metrics and messages: `0`, `1` … in the order given.
    pub id: String,
    /// `syslog`, `raw`, `console` …, behind `multiline+` where lines are to be joined.
    pub adapter: String,
    /// `tcp`, `udp`, `tls`, `unix`; `None` where the URI names none.
    pub transport: Option<String>,
    /// `host:port`, or a path for `unix`.
    pub address: String,
    /// The containers and sources it takes.
    pub selector: Selector,
    /// Every other query parameter, first value of each name, in the order given.
    pub options: Vec<(String, String)>,
}

/// What an adapter begins with where lines are to be joined.
const MULTILINE: &str = "multiline+";

impl RouteSpec {
    /// What the adapter writes, whether lines are joined or not.
    pub fn sink(&self) -> &str {
        self.adapter.strip_prefix(MULTILINE).unwrap_or(&self.adapter)
    }

    /// Whether lines that belong together are to be joined.
    pub fn is_multiline(&self) -> bool {
        self.adapter.starts_with(MULTILINE)
    }

    /// The value of option `name`, if the URI gave it.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The same; an empty value counts as not given.
    pub fn given(&self, name: &str) -> Option<&str> {
        self.option(name).filter(|value| !value.is_empty())
    }
}

/// `filter.id`, `filter.name`, `filter.sources` and `filter.labels` of a route; empty means all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selector {
    /// A prefix of the container id; empty takes every container.
    pub id: String,
    /// A `path.Match` pattern for the name; empty takes every container.
    pub name: String,
    /// Source names as given; empty takes what containers write.
    pub sources: Vec<String>,
    /// `key:pattern`, all of which must hold; a lone `key` asks for its presence.
    pub labels: Vec<String>,
}

impl Selector {
    /// Whether the route wants lines of `source`.
    pub fn takes_source(&self, source: Source) -> bool {
        let named = self.sources.iter().any(|s| s == source.name());
        named || (self.sources.is_empty() && source.is_output())
    }
}
