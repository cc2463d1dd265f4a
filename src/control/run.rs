//! The program from start to end: shards, HTTP side, the watch over the daemon, and the orderly
//! stop.

use std::collections::VecDeque;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use super::build::{self, DaemonAddress};
use super::registry::{Order, Registry};
use super::watch::{self, Dispatch};
use super::{limits, own};
use crate::admin::metrics::{ShardSnapshot, Snapshot, render};
use crate::admin::{self, View};
use crate::config::cli::{EXIT_FAILURE, EXIT_OK};
use crate::config::{HttpSettings, Settings};
use crate::io::pool::Pool;
use crate::io::{self, Driver};
use crate::metrics::ShardCounters;
use crate::shard::command::Command;
use crate::shard::lane::Route;
use crate::shard::{self, Setup};
use crate::transport::daemon::Daemon;
use crate::transport::terminal;

/// Commands that a shard may be behind; more wait on our side.
const COMMANDS_AHEAD: usize = 1024;
/// How often standard output is looked at, and commands that waited are sent again.
const TICK: Duration = Duration::from_millis(100);
/// Beyond the drain timeout, for the shards to report.
const REPORT_GRACE: Duration = Duration::from_secs(2);

/// Why the program has to end, said from anywhere.
static FAILURE: OnceLock<String> = OnceLock::new();
static FAILED: Notify = Notify::const_new();

/// Runs until a signal comes or a shard dies; returns the exit code.
///
/// # Errors
/// One line about what is wrong with the configuration; nothing was contacted.
pub fn run(settings: Settings) -> Result<u8, String> {
    let daemon = build::daemon(&settings)?;
    let routes = build::routes(&settings)?;
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
    }
    std::panic::set_hook(Box::new(|info| fail(panic_message(info))));
    limits::raise_descriptors();
    let program = Program::start(&settings, &daemon, routes, choice.driver);
    match io::block_on(Driver::Poll, program.serve(settings, daemon)) {
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
pub fn check(settings: Settings) -> Result<u8, String> {
    let daemon = build::daemon(&settings)?;
    let routes = build::routes(&settings)?;
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

/// The first failure is the one that counts.
fn fail(reason: String) {
    let _ = FAILURE.set(reason);
    FAILED.notify_one();
}

fn panic_message(info: &PanicHookInfo<'_>) -> String {
    let thread = std::thread::current();
    format!("{} died, which is a bug: {info}", thread.name().unwrap_or("a thread"))
}

/// What runs beside the control thread.
struct Program {
    shards: Vec<ShardHandle>,
    reports: Receiver<u64>,
    reported: Arc<Notify>,
    view: Arc<Counters>,
}

struct ShardHandle {
    commands: Sender<Command>,
    bell: Arc<Notify>,
    /// Commands that did not fit the channel; as many as there are containers, at most.
    waiting: VecDeque<Command>,
}

impl Program {
    fn start(
        settings: &Settings,
        daemon: &DaemonAddress,
        routes: Vec<Arc<Route>>,
        driver: Driver,
    ) -> Program {
        let (report, reports) = bounded(settings.shards);
        let reported = Arc::new(Notify::new());
        let counters: Vec<Arc<ShardCounters>> =
            (0..settings.shards).map(|_| Arc::default()).collect();
        let shards = counters
            .iter()
            .enumerate()
            .map(|(index, counters)| {
                let (commands, inbox) = bounded(COMMANDS_AHEAD);
                let bell = Arc::new(Notify::new());
                let setup = Setup {
                    index,
                    driver,
                    daemon: daemon.target.clone(),
                    greeting: daemon.greeting.clone(),
                    routes: routes.clone(),
                    follow: settings.follow.clone(),
                    max_line: settings.max_line,
                    counters: Arc::clone(counters),
                    commands: inbox,
                    bell: Arc::clone(&bell),
                };
                spawn_shard(setup, report.clone(), Arc::clone(&reported));
                ShardHandle { commands, bell, waiting: VecDeque::new() }
            })
            .collect();
        let view = Arc::new(Counters {
            driver,
            shards: counters,
            routes,
            connected: AtomicBool::new(false),
            connects: AtomicU64::new(0),
        });
        Program { shards, reports, reported, view }
    }

    /// Serves until the end; returns the exit code.
    async fn serve(self, settings: Settings, daemon: DaemonAddress) -> u8 {
        let Program { mut shards, reports, reported, view } = self;
        let http = match listen(settings.http).await {
            Ok(http) => http,
            Err(reason) => {
                tracing::error!("{reason}");
                return EXIT_FAILURE;
            }
        };
        if let Some(listener) = http {
            let view: Arc<dyn View> = Arc::<Counters>::clone(&view);
            tokio::task::spawn_local(admin::serve(listener, view, std::future::pending()));
        }
        let mut registry = Registry::new(settings.shards, own_container(&settings));
        let reason = {
            let mut dispatch = Dispatcher { shards: &mut shards, view: &view };
            let watch = watch::watch(
                client(&daemon),
                settings.docker.api_version.clone(),
                &mut registry,
                &mut dispatch,
            );
            tokio::select! {
                () = watch => "the watch over the daemon ended".to_owned(),
                reason = end() => reason,
            }
        };
        let failed = FAILURE.get();
        match failed {
            Some(failure) => tracing::error!("{failure}"),
            None => tracing::info!("{reason}: stopping"),
        }
        let patience = settings.drain_timeout;
        let undelivered = stop(&mut shards, &reports, &reported, patience).await;
        view.say_totals(undelivered);
        if failed.is_none() && undelivered == Some(0) { EXIT_OK } else { EXIT_FAILURE }
    }
}

fn spawn_shard(setup: Setup, report: Sender<u64>, reported: Arc<Notify>) {
    let name = format!("shard-{}", setup.index);
    let spawned = std::thread::Builder::new().name(name.clone()).spawn(move || {
        let outcome = shard::run(setup, |undelivered| {
            let _ = report.send(undelivered);
            reported.notify_one();
        });
        if let Err(error) = outcome {
            fail(format!("{name} cannot start: {error}"));
        }
    });
    if let Err(error) = spawned {
        fail(format!("no thread for a shard: {error}; lower SHARDS"));
    }
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
    loop {
        tokio::select! {
            _ = terminate.recv() => return "SIGTERM".into(),
            _ = interrupt.recv() => return "SIGINT".into(),
            _ = hang_up.recv() => return "SIGHUP".into(),
            () = FAILED.notified() => return "failure".into(),
            () = tokio::time::sleep(TICK) => {}
        }
        if terminal::is_closed() {
            return "standard output is closed".into();
        }
    }
}

/// Tells the shards to stop and waits for their reports: how many records were not delivered, or
/// `None` if a shard did not answer in time.
async fn stop(
    shards: &mut [ShardHandle],
    reports: &Receiver<u64>,
    reported: &Notify,
    patience: Duration,
) -> Option<u64> {
    let deadline = Instant::now() + patience + REPORT_GRACE;
    for shard in shards.iter_mut() {
        shard.waiting.clear();
        shard.send(Command::Stop(patience));
    }
    let (mut undelivered, mut answers) = (0, 0);
    while answers < shards.len() {
        while let Ok(records) = reports.try_recv() {
            undelivered += records;
            answers += 1;
        }
        shards.iter_mut().for_each(ShardHandle::send_waiting);
        if answers < shards.len() {
            if Instant::now() >= deadline {
                return None;
            }
            let _ = tokio::time::timeout(TICK, reported.notified()).await;
        }
    }
    Some(undelivered)
}

impl ShardHandle {
    fn send(&mut self, command: Command) {
        self.waiting.push_back(command);
        self.send_waiting();
    }

    fn send_waiting(&mut self) {
        while let Some(command) = self.waiting.pop_front() {
            match self.commands.try_send(command) {
                Ok(()) => {}
                Err(TrySendError::Full(command)) => {
                    self.waiting.push_front(command);
                    break;
                }
                // The shard died; that is said elsewhere.
                Err(TrySendError::Disconnected(_)) => return,
            }
        }
        self.bell.notify_one();
    }
}

struct Dispatcher<'a> {
    shards: &'a mut [ShardHandle],
    view: &'a Counters,
}

impl Dispatch for Dispatcher<'_> {
    fn send(&mut self, (shard, command): Order) {
        self.shards[shard].send(command);
    }

    fn send_all(&mut self, command: &Command) {
        self.shards.iter_mut().for_each(|shard| shard.send(command.clone()));
    }

    fn send_waiting(&mut self) {
        self.shards.iter_mut().for_each(ShardHandle::send_waiting);
    }

    fn connected(&mut self, connected: bool) {
        self.view.connected.store(connected, Relaxed);
        self.view.connects.fetch_add(u64::from(connected), Relaxed);
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

fn own_container(settings: &Settings) -> Option<String> {
    if settings.follow.follow_self {
        return None;
    }
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    own::container_id(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
}

/// What the HTTP side sees.
struct Counters {
    driver: Driver,
    shards: Vec<Arc<ShardCounters>>,
    routes: Vec<Arc<Route>>,
    connected: AtomicBool,
    connects: AtomicU64,
}

impl Counters {
    fn snapshot(&self) -> Snapshot {
        let routes = self.routes.iter().map(|route| {
            let mut snapshot = route.snapshot.clone();
            route.counters.iter().for_each(|counters| snapshot.add(counters));
            snapshot
        });
        Snapshot {
            driver: self.driver.name().to_owned(),
            daemon_connected: self.connected.load(Relaxed),
            daemon_reconnects: self.connects.load(Relaxed).saturating_sub(1),
            shards: self.shards.iter().map(|shard| ShardSnapshot::from(&**shard)).collect(),
            routes: routes.collect(),
        }
    }

    /// The last word: what became of the lines.
    fn say_totals(&self, undelivered: Option<u64>) {
        for route in &self.routes {
            let sum = |pick: fn(&crate::metrics::RouteCounters) -> u64| {
                route.counters.iter().map(|counters| pick(counters)).sum::<u64>()
            };
            tracing::info!(
                "route {}: {} lines received, {} filtered, {} delivered, {} dropped",
                route.display,
                sum(|c| c.received_lines.get()),
                sum(|c| c.filtered_lines.get()),
                sum(|c| c.delivered_lines.get()),
                sum(|c| c.dropped_buffer_full.get()
                    + c.dropped_refused.get()
                    + c.dropped_at_exit.get()),
            );
        }
        match undelivered {
            Some(0) => {}
            Some(records) => tracing::warn!("{records} lines were not delivered in time"),
            None => tracing::error!("a shard did not stop in time: its lines are lost"),
        }
    }
}

impl View for Counters {
    fn health(&self) -> Result<(), String> {
        match FAILURE.get() {
            Some(failure) => Err(failure.clone()),
            None => Ok(()),
        }
    }

    fn metrics(&self, out: &mut String) {
        out.push_str(&render(&self.snapshot()));
    }
}
