//! From settings to parts that are ready for use, before anything is contacted.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::admin::metrics::RouteSnapshot;
use crate::buffer::Budget;
use crate::config::Settings;
use crate::docker::endpoint::{Endpoint, endpoint};
use crate::docker::request::Api;
use crate::metrics::RouteCounters;
use crate::route::RouteSpec;
use crate::route::filter::LineFilter;
use crate::route::select::Selection;
use crate::route::uri::display;
use crate::shard::command::{Clock, Greeting};
use crate::shard::lane::Route;
use crate::sink;
use crate::transport::{HostPort, StreamTarget, tls};

/// Where the daemon is, and how to speak to it until it has said more.
pub struct DaemonAddress {
    /// For messages.
    pub display: String,
    /// Where to connect.
    pub target: StreamTarget,
    /// The first greeting: no API version, our own clock.
    pub greeting: Greeting,
}

/// Finds the daemon's address.
///
/// # Errors
/// One line that names the setting, its value and the fix.
pub fn daemon(settings: &Settings) -> Result<DaemonAddress, String> {
    let env = |name: &str| std::env::var(name).ok();
    let endpoint = endpoint(&settings.docker, &env, &Path::exists)?;
    let target = match &endpoint {
        Endpoint::Unix(path) => StreamTarget::Unix(path.clone()),
        Endpoint::Tcp { host, port, .. } => {
            StreamTarget::Tcp(HostPort { host: host.clone(), port: *port })
        }
        Endpoint::Tls { host, port, files, .. } => {
            let config = match files {
                Some(files) => tls::docker_config(&files.ca, &files.cert, &files.key)?,
                None => tls::client_config(&crate::config::TlsSettings::default())?,
            };
            StreamTarget::Tls(HostPort { host: host.clone(), port: *port }, config)
        }
    };
    let api = Arc::new(Api::new(&endpoint, None));
    let clock = match &endpoint {
        Endpoint::Unix(_) => Clock::OURS,
        _ => Clock { slack: Duration::from_secs(2), ..Clock::OURS },
    };
    let greeting = Greeting { api, clock };
    Ok(DaemonAddress { display: endpoint.to_string(), target, greeting })
}

/// Builds every route.
///
/// # Errors
/// One line that names the route, the value and the fix.
pub fn routes(settings: &Settings) -> Result<Vec<Arc<Route>>, String> {
    settings.routes.iter().map(|spec| route(spec, settings).map(Arc::new)).collect()
}

fn route(spec: &RouteSpec, settings: &Settings) -> Result<Route, String> {
    let built = sink::build(spec, settings)?;
    let (selection, warnings) = Selection::new(&spec.selector);
    for warning in warnings {
        tracing::warn!(route = spec.id, "{warning}");
    }
    let filter = LineFilter::new(spec.option("filter.match"), spec.option("filter.exclude"))
        .map_err(|error| format!("route {}: {error}", spec.id))?;
    let buffer = settings.buffer_of(spec).map_err(|error| error.to_string())?;
    let counters = (0..settings.shards).map(|_| Arc::<RouteCounters>::default()).collect();
    Ok(Route {
        display: display(spec),
        snapshot: RouteSnapshot::new(spec),
        selection,
        filter: (!filter.keeps_all()).then_some(filter),
        sink: built.sink,
        delivery: built.delivery,
        budget: Arc::new(Budget::new(buffer, settings.shards)),
        counters,
    })
}
