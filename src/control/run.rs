//! The program from start to end: shards, HTTP side, the watch over the daemon, and the orderly
//! stop.

use std::sync::Arc;
use std::time::Instant;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch as watch_channel;

use super::book::{self, Book, Found};
use super::build::{self, DaemonAddress};
use super::failure::{catch_panics, failed, failure};
use super::fleet::Fleet;
use super::registry::{Order, Registry};
use super::routes::Routes;
use super::sight::{DaemonState, Sight};
use super::state::{self, Keeper, State};
use super::viewers::Viewers;
use super::watch::{self, Dispatch};
use super::{limits, own};
use crate::admin::access::{Access, Permission};
use crate::admin::{self, View};
use crate::config::cli::{EXIT_FAILURE, EXIT_OK};
use crate::config::{ApiSettings, HttpSettings, RoutesApi, Settings};
use crate::io::pool::Pool;
use crate::io::{self, Driver};
use crate::shard::command::Command;
use crate::shard::lane::Route;
use crate::shard::positions::Positions;
use crate::transport::daemon::Daemon;
use crate::transport::terminal;

/// Runs until a signal comes or a shard dies; returns the exit code.
///
/// # Errors
/// One line about what is wrong with the configuration; nothing was contacted.
pub fn run(mut settings: Settings) -> Result<u8, String> {
    let daemon = build::daemon(&settings)?;
    let found = book::find(&mut settings)?;
    let routes = found.build(&settings)?;
    let state = settings.state_dir.as_deref().map(state::open).transpose()?;
    let choice = io::choose(settings.io, settings.shards)?;
    tracing::info!(
        "logchute {}: {} shards on {} ({}), daemon at {}",
        env!("CARGO_PKG_VERSION"),
        settings.shards,
        choice.driver.name(),
        choice.reason,
        daemon.display
    );
    for route in &routes {
        tracing::info!("route {}", route.display);
        route.open_spool()?;
    }
    if let Some(notice) = build::no_engine(&settings, &daemon) {
        tracing::warn!("{notice}");
    }
    catch_panics();
    limits::raise_descriptors();
    let parts = Parts { found, daemon, routes, state, driver: choice.driver };
    match io::block_on(Driver::Poll, serve(settings, parts)) {
        Ok(code) => Ok(code),
        Err(error) => {
            tracing::error!("no epoll instance to be had: {error}");
            Ok(EXIT_FAILURE)
        }
    }
}

/// `logchute check`: is the configuration good, and the daemon there? Returns the exit code.
///
/// # Errors
/// As [`run`].
pub fn check(mut settings: Settings) -> Result<u8, String> {
    let daemon = build::daemon(&settings)?;
    let routes = book::find(&mut settings)?.build(&settings)?;
    let choice = io::choose(settings.io, settings.shards)?;
    tracing::info!("configuration is good: {} routes", routes.len());
    tracing::info!("driver {} ({})", choice.driver.name(), choice.reason);
    let asked = settings.docker.api_version.clone();
    let answered =
        io::block_on(Driver::Poll, async { watch::ask(client(&daemon), asked.as_deref()).await });
    match answered {
        Ok(Ok(greeting)) => {
            let version = greeting.api.version.map_or("unversioned".into(), |v| v.to_string());
            tracing::info!("daemon at {} answers, API {version}", daemon.display);
            return Ok(EXIT_OK);
        }
        Ok(Err(error)) => tracing::error!("daemon at {}: {error}", daemon.display),
        Err(error) => tracing::error!("no epoll instance to be had: {error}"),
    }
    Ok(EXIT_FAILURE)
}

fn client(address: &DaemonAddress) -> Daemon {
    Daemon {
        driver: Driver::Poll,
        pool: Pool::new(),
        target: address.target.clone(),
        api: Arc::clone(&address.greeting.api),
    }
}

/// What the program is made of, before anything runs.
struct Parts {
    found: Found,
    daemon: DaemonAddress,
    routes: Vec<Arc<Route>>,
    /// How far an earlier run came, and the files that say so.
    state: Option<State>,
    driver: Driver,
}

/// Serves until the end; returns the exit code.
async fn serve(settings: Settings, parts: Parts) -> u8 {
    let Parts { found, daemon, routes, state, driver } = parts;
    let positions = state.as_ref().map(|state| Arc::clone(&state.positions));
    let fleet = Fleet::start(&settings, &daemon, &routes, positions.as_ref(), driver);
    let fleet = Arc::new(fleet);
    let keeper = match state.map(Keeper::start).transpose() {
        Ok(keeper) => keeper,
        Err(error) => {
            tracing::error!("no thread for STATE_DIR: {error}");
            return EXIT_FAILURE;
        }
    };
    let patience = settings.drain_timeout;
    let routes = Arc::new(Routes::new(Arc::clone(&fleet), &routes, patience));
    let daemon_state = Arc::new(DaemonState::default());
    let settings = Arc::new(settings);
    match listen(settings.http).await {
        Ok(None) => {}
        Ok(Some(listener)) => {
            let settings = Arc::clone(&settings);
            let viewers =
                Viewers::new(Arc::clone(&settings), Arc::clone(&fleet), Arc::clone(&routes));
            let view = Sight {
                driver,
                fleet: Arc::clone(&fleet),
                viewers: Arc::new(viewers),
                daemon: Arc::clone(&daemon_state),
                access: access(&settings),
                book: Arc::new(Book::new(settings, found, Arc::clone(&routes))),
                routes: Arc::clone(&routes),
            };
            let view: Arc<dyn View> = Arc::new(view);
            tokio::task::spawn_local(admin::serve(listener, view, std::future::pending()));
        }
        Err(reason) => {
            tracing::error!("{reason}");
            return EXIT_FAILURE;
        }
    }
    let mut registry = Registry::new(settings.shards, own_container(&settings));
    let wishes = routes.wishes();
    let mut dispatch = Dispatcher { fleet: &fleet, daemon: &daemon_state, wishes, positions };
    let asked = settings.docker.api_version.clone();
    let reason = tokio::select! {
        () = watch::watch(client(&daemon), asked, &mut registry, &mut dispatch) => {
            "the watch over the daemon ended".to_owned()
        }
        () = fleet.keep_sending() => "no command can be sent".to_owned(),
        reason = end() => reason,
    };
    match failure() {
        Some(failure) => tracing::error!("{failure}"),
        None => tracing::info!("{reason}: stopping"),
    }
    let deadline = Instant::now() + patience;
    let undelivered = fleet.stop(patience).await.zip(routes.stop(deadline).await);
    let rest = if keeper.is_some() { "; the next run reads them again" } else { "" };
    if let Some(keeper) = keeper {
        keeper.finish();
    }
    routes.say_totals();
    match undelivered {
        Some((0, 0)) => {}
        Some((records, lines)) => {
            tracing::warn!("{} lines were not delivered in time{rest}", records + lines);
        }
        None => tracing::error!("a shard did not stop in time: its lines are lost"),
    }
    if failure().is_none() && undelivered == Some((0, 0)) { EXIT_OK } else { EXIT_FAILURE }
}

/// Waits for a reason to stop.
async fn end() -> String {
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hang_up)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
        signal(SignalKind::hangup()),
    ) else {
        return "no signals to be had".into();
    };
    let reason = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
        _ = hang_up.recv() => "SIGHUP",
        () = failed() => "failure",
        () = terminal::closed() => "standard output is closed",
    };
    reason.into()
}

struct Dispatcher<'a> {
    fleet: &'a Fleet,
    daemon: &'a DaemonState,
    wishes: watch_channel::Receiver<bool>,
    positions: Option<Arc<Positions>>,
}

impl Dispatch for Dispatcher<'_> {
    fn send(&mut self, (shard, command): Order) {
        self.fleet.send(shard, command);
    }

    fn send_all(&mut self, command: &Command) {
        self.fleet.send_all(command);
    }

    fn received(&self) -> Vec<u64> {
        self.fleet.counters.iter().map(|counters| counters.received_bytes.get()).collect()
    }

    fn connected(&mut self, connected: bool) {
        self.daemon.set(connected);
    }

    fn wishes(&self) -> watch_channel::Receiver<bool> {
        self.wishes.clone()
    }

    fn positions(&self) -> Option<&Positions> {
        self.positions.as_deref()
    }
}

async fn listen(http: Option<HttpSettings>) -> Result<Option<TcpListener>, String> {
    let Some(http) = http else { return Ok(None) };
    match TcpListener::bind(http.address).await {
        Ok(listener) => {
            tracing::info!("http on {}", http.address);
            Ok(Some(listener))
        }
        Err(error) if http.asked => {
            Err(format!("cannot listen on {}: {error}; choose another --http", http.address))
        }
        Err(error) => {
            tracing::warn!("no /health and /metrics: cannot listen on {}: {error}", http.address);
            Ok(None)
        }
    }
}

/// Who may do what over HTTP; says so where that may be a surprise.
fn access(settings: &Settings) -> Access {
    let ApiSettings { token, routes, .. } = &settings.api;
    let address = settings.http.map(|http| http.address);
    let local = address.is_some_and(|address| address.ip().to_canonical().is_loopback());
    let asked = routes.map(|routes| match routes {
        RoutesApi::Open => Permission::Change,
        RoutesApi::Read => Permission::See,
        RoutesApi::Off => Permission::Nothing,
    });
    let token = token.as_ref().map(|token| token.reveal().to_owned());
    let access = Access::new(token, local, asked);
    if access.is_open() {
        let changing = match access.permission() {
            Permission::Change => "and can send them elsewhere (/routes, by ROUTES_API=open)",
            _ => "changing routes is off; ROUTES_API=open would let everybody",
        };
        tracing::warn!(
            "http without HTTP_TOKEN: whoever reaches the port sees all lines (/logs); {changing}"
        );
    }
    access
}

fn own_container(settings: &Settings) -> Option<String> {
    if settings.follow.follow_self {
        return None;
    }
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    own::container_id(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
}
