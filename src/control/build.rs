//! From settings to parts that are ready for use, before anything is contacted.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::buffer::Budget;
use crate::config::Settings;
use crate::docker::endpoint::{Endpoint, endpoint};
use crate::docker::request::Api;
use crate::metrics::{RouteCounters, RouteLabels};
use crate::route::RouteSpec;
use crate::route::filter::LineFilter;
use crate::route::multiline::JoinedFilter;
use crate::route::select::Selection;
use crate::route::uri::{display, open_address};
use crate::route::verdict::Verdicts;
use crate::shard::command::{Clock, Greeting};
use crate::shard::groups::Joining;
use crate::shard::lane::{Judge, Route};
use crate::sink::readable::Readable;
use crate::sink::{self, Built};
use crate::spool::{Owner, Place, Spool};
use crate::transport::{Delivery, HostPort, StreamTarget, tls};

/// Of a route's BUFFER, what may wait on its shards to be joined: one byte in so many, and at least
/// one group a shard.
const JOINED_SHARE: usize = 4;

/// Options that say how records are held, not which they are: a route that changes them stays the
/// same to its spool.
const HOLDING: [&str; 5] = ["buffer", "overflow", "resend", "spool", "spool.max"];

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

/// What to tell someone whose machine has no engine, as far as that can be told before it is
/// contacted: the setting names none, and none of the usual sockets is there.
pub fn no_engine(settings: &Settings, daemon: &DaemonAddress) -> Option<String> {
    let StreamTarget::Unix(socket) = &daemon.target else { return None };
    if settings.docker.host.as_ref().is_some_and(|host| !host.is_empty()) || socket.exists() {
        return None;
    }
    let from_source = std::env::current_exe().is_ok_and(|program| is_checkout(&program));
    let demo = if from_source {
        "; to see logchute at work without one: cargo run --release -p loadtest -- demo"
    } else {
        ""
    };
    Some(format!(
        "no Docker engine here: {} does not exist; waits for it; set DOCKER_HOST if the daemon is \
         elsewhere{demo}",
        socket.display()
    ))
}

/// Whether a program lies where cargo builds it, in a folder with the source of the demo.
fn is_checkout(program: &Path) -> bool {
    program.ancestors().any(|folder| folder.join("loadtest/Cargo.toml").exists())
}

/// Builds every route.
///
/// # Errors
/// One line that names the route, the value and the fix.
pub fn routes(settings: &Settings) -> Result<Vec<Arc<Route>>, String> {
    try_routes(settings).map_err(|(_, what)| what)
}

/// The same; an error has the number of the route, too.
pub(super) fn try_routes(settings: &Settings) -> Result<Vec<Arc<Route>>, (usize, String)> {
    let built = |(number, spec): (usize, &RouteSpec)| {
        let built = sink::build(spec, settings).and_then(|sink| route(spec, sink, settings));
        built.map_err(|what| (number, what))
    };
    let routes = settings.routes.iter().enumerate().map(built);
    let (mut routes, filters): (Vec<Route>, Vec<Option<LineFilter>>) =
        routes.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
    let verdicts = Arc::new(Verdicts::new(&filters));
    for (number, filter) in filters.iter().enumerate() {
        let judge = filter.as_ref().map(|_| Judge { verdicts: Arc::clone(&verdicts), number });
        routes[number].judge = judge;
    }
    Ok(routes.into_iter().map(Arc::new).collect())
}

/// Builds a route that comes while others are there.
///
/// # Errors
/// As [`routes`].
pub fn added(spec: &RouteSpec, settings: &Settings) -> Result<Route, String> {
    added_with(spec, sink::build(spec, settings)?, settings)
}

/// The same, for one whose sink no adapter names: of a viewer.
///
/// # Errors
/// As [`routes`].
pub fn added_with(spec: &RouteSpec, sink: Built, settings: &Settings) -> Result<Route, String> {
    let (mut route, filter) = route(spec, sink, settings)?;
    if filter.is_some() {
        // The others' words are looked for already, in a pass that is not changed for this.
        route.judge = Some(Judge { verdicts: Arc::new(Verdicts::new(&[filter])), number: 0 });
    }
    Ok(route)
}

/// A route, and which lines it keeps if it does not keep all.
fn route(
    spec: &RouteSpec,
    built: Built,
    settings: &Settings,
) -> Result<(Route, Option<LineFilter>), String> {
    let named = |error: String| format!("route {}: {error}", spec.id);
    let (selection, warnings) = Selection::of(spec).map_err(named)?;
    let readable = Readable::new(spec, &built, settings)?;
    for warning in warnings {
        tracing::warn!(route = spec.id, "{warning}");
    }
    let (matching, exclude) = (spec.option("filter.match"), spec.option("filter.exclude"));
    let mut filter = LineFilter::new(matching, exclude).map_err(named)?;
    for need in &built.needs {
        filter = filter.and(need.name, &need.pattern).map_err(named)?;
    }
    let buffer = settings.buffer_of(spec).map_err(|error| error.to_string())?;
    let overflow = settings.overflow_of(spec).map_err(|error| error.to_string())?;
    let resend = settings.resend_of(spec).map_err(|error| error.to_string())?;
    let multiline = settings.multiline_of(spec).map_err(|error| error.to_string())?;
    let joining = multiline.map(|multiline| {
        let needs = built.needs.iter().map(|need| need.pattern.as_str());
        let matching: Vec<&str> = matching.into_iter().chain(needs).collect();
        let filter = JoinedFilter::new(&matching, exclude).map_err(|e| named(e.to_string()))?;
        let share = buffer / JOINED_SHARE / settings.shards.max(1);
        let held_max = share.max(multiline.joint.bytes_max);
        Ok::<Joining, String>(Joining { multiline, filter, held_max })
    });
    // The last one is for what the shards do not do themselves.
    let counters: Vec<_> = (0..=settings.shards).map(|_| Arc::<RouteCounters>::default()).collect();
    let spool = match spool_place(spec, &built.delivery, settings)? {
        Some(place) => {
            let own = &counters[settings.shards];
            Some(Spool::new(&place, &owner(spec), settings.shards, own))
        }
        None => None,
    };
    let route = Route {
        display: display(spec),
        labels: labels(spec),
        selection,
        judge: None,
        joining: joining.transpose()?,
        sink: built.sink,
        readable,
        delivery: built.delivery,
        overflow,
        spool,
        resend,
        budget: Arc::new(Budget::new(buffer, settings.shards)),
        only_on: None,
        counters,
    };
    Ok((route, (!filter.keeps_all()).then_some(filter)))
}

/// Where a route has its spool, if it has one.
fn spool_place(
    spec: &RouteSpec,
    delivery: &Delivery,
    settings: &Settings,
) -> Result<Option<Place>, String> {
    let place = settings.spool_of(spec).map_err(|error| error.to_string())?;
    let Some((folder, max)) = place else { return Ok(None) };
    match spec.option("spool") {
        _ if delivery.may_be_spooled() => Ok(Some(Place { folder, max })),
        None => Ok(None),
        Some(text) => Err(format!(
            "route {}: spool={text:?} is not for {} routes, but for those over TCP, TLS, UDP, RELP \
             or a Unix socket; leave it out",
            spec.id, spec.adapter
        )),
    }
}

/// Whose a spool is.
fn owner(spec: &RouteSpec) -> Owner {
    let mut identity = spec.clone();
    identity.options.retain(|(name, _)| !HOLDING.contains(&name.as_str()));
    let RouteLabels { adapter, transport, address, .. } = labels(spec);
    let plus = if transport.is_empty() { "" } else { "+" };
    Owner {
        name: display(spec),
        identity: display(&identity),
        readable: format!("{adapter}{plus}{transport}-{address}"),
    }
}

/// What metrics call a route: of its address neither the user before an `@` nor a query.
fn labels(spec: &RouteSpec) -> RouteLabels {
    let address = open_address(&spec.adapter, &spec.address);
    let address = address.split('?').next().unwrap_or_default();
    let address = address.rsplit('@').next().unwrap_or_default();
    RouteLabels {
        id: spec.id.clone(),
        adapter: spec.adapter.clone(),
        transport: spec.transport.clone().unwrap_or_default(),
        address: address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(host: Option<&str>, socket: &Path) -> Option<String> {
        let mut settings = Settings::default();
        settings.docker.host = host.map(str::to_owned);
        let mut address = daemon(&settings).unwrap();
        address.target = StreamTarget::Unix(socket.to_owned());
        no_engine(&settings, &address)
    }

    #[test]
    fn a_machine_without_an_engine_is_told_of_the_demo() {
        let missing = Path::new("/nowhere/docker.sock");
        // Tests are run from a checkout.
        for host in [None, Some("")] {
            let notice = notice(host, missing).unwrap();
            assert!(notice.contains("/nowhere/docker.sock does not exist"), "{notice}");
            assert!(notice.ends_with("cargo run --release -p loadtest -- demo"), "{notice}");
        }
        // Who names a daemon knows what they want; what is there may answer.
        assert_eq!(notice(Some("unix:///nowhere/docker.sock"), missing), None);
        assert_eq!(notice(None, Path::new("/")), None);
    }

    #[test]
    fn labels_hold_no_secret() {
        let of = |adapter: &str, address: &str| {
            let (adapter, address) = (adapter.to_owned(), address.to_owned());
            let spec = Settings::default().routes.remove(0);
            labels(&RouteSpec { adapter, address, ..spec }).address
        };
        assert_eq!(of("syslog", "user:pass@logs:514?token=abc"), "logs:514");
        assert_eq!(of("multiline+webhook", "hooks:443/s3cret"), "hooks:443/***");
        assert_eq!(of("raw", "/dev/log"), "/dev/log");
    }

    #[test]
    fn an_installed_program_has_no_demo() {
        assert!(!is_checkout(Path::new("/usr/local/bin/logchute")));
        let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/release/logchute");
        assert!(is_checkout(&built));
    }

    #[test]
    fn a_spool_is_for_routes_to_receivers_that_can_be_away() {
        let of = |adapter: &str, transport: Option<&str>, options: &[(&str, &str)]| {
            let mut settings = Settings { spool_dir: Some("/all".into()), ..Settings::default() };
            let spec = &mut settings.routes[0];
            spec.adapter = adapter.to_owned();
            spec.transport = transport.map(str::to_owned);
            spec.address = if adapter == "console" { "" } else { "host:1" }.to_owned();
            let owned = options.iter().map(|(name, text)| (name.to_string(), text.to_string()));
            spec.options = owned.collect();
            routes(&settings).map(|routes| format!("{:?}", routes[0].spool))
        };
        let own = of("raw", Some("tcp"), &[("spool", "/own")]).unwrap();
        assert!(own.starts_with("Some(spool /own/raw+tcp-host-1-"), "{own}");
        // What says how lines are held leaves the folder the same, what says which they are not.
        let held =
            [("spool", "/own"), ("spool.max", "2MiB"), ("buffer", "1MiB"), ("resend", "off")];
        assert_eq!(of("raw", Some("tcp"), &held), Ok(own.clone()));
        let fewer = of("raw", Some("tcp"), &[("spool", "/own"), ("filter.match", "x")]).unwrap();
        assert!(fewer != own && fewer.starts_with("Some(spool /own/raw+tcp-host-1-"), "{fewer}");
        assert!(of("syslog", Some("udp"), &[]).unwrap().starts_with("Some(spool /all/"));
        assert_eq!(of("raw", Some("tcp"), &[("spool", "off")]), Ok("None".to_owned()));
        assert_eq!(of("console", None, &[]), Ok("None".to_owned()));
        let refused = of("console", None, &[("spool", "/own")]).unwrap_err();
        assert!(refused.contains("spool=\"/own\" is not for console routes"), "{refused}");
        let refused = of("webhook", Some("http"), &[("spool", "/own")]).unwrap_err();
        assert!(refused.contains("is not for webhook routes"), "{refused}");
    }
}
