//! The program under simulation: its shards and its watch over the daemon, as tasks of one thread
//! on the simulated network.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use tokio::sync::{Notify, watch as watch_channel};
use tokio::task::{JoinHandle, LocalSet};

use super::scenario::Scenario;
use crate::config::Settings;
use crate::config::cli::{self, Command as Asked};
use crate::config::env::MapEnv;
use crate::control::build;
use crate::control::registry::{Order, Registry};
use crate::control::watch::{Dispatch, watch};
use crate::docker::Source;
use crate::io::Driver;
use crate::io::pool::Pool;
use crate::metrics::{RouteTotals, ShardCounters};
use crate::shard::command::Command;
use crate::shard::hold::Hold;
use crate::shard::lane::Route;
use crate::shard::positions::Positions;
use crate::shard::{Setup, serve};
use crate::transport::daemon::Daemon;

/// What a program counted, also after its end.
pub(super) struct Counted {
    routes: Vec<Arc<Route>>,
    shards: Vec<Arc<ShardCounters>>,
}

/// A running program.
pub(super) struct Program {
    /// What it counts.
    pub(super) counted: Counted,
    /// How far it has come, for the file in its `STATE_DIR`.
    pub(super) positions: Option<Arc<Positions>>,
    orders: Orders,
    /// How many records each shard could not deliver, once it has ended.
    reports: Rc<RefCell<Vec<u64>>>,
    /// All its tasks: it is gone at once where this is aborted.
    tasks: JoinHandle<()>,
}

/// The way of commands to the shards.
#[derive(Clone)]
struct Orders {
    shards: Vec<(Sender<Command>, Arc<Notify>)>,
    counters: Vec<Arc<ShardCounters>>,
    positions: Option<Arc<Positions>>,
    wants_events: bool,
}

impl Dispatch for Orders {
    fn send(&mut self, (shard, command): Order) {
        let (commands, bell) = &self.shards[shard];
        let _ = commands.send(command);
        bell.notify_one();
    }

    fn send_all(&mut self, command: &Command) {
        (0..self.shards.len()).for_each(|shard| self.send((shard, command.clone())));
    }

    fn received(&self) -> Vec<u64> {
        self.counters.iter().map(|counters| counters.received_bytes.get()).collect()
    }

    fn connected(&mut self, _connected: bool) {}

    fn wishes(&self) -> watch_channel::Receiver<bool> {
        // The routes stay as they are.
        watch_channel::channel(self.wants_events).1
    }

    fn positions(&self) -> Option<&Positions> {
        self.positions.as_deref()
    }
}

fn settings(scenario: &Scenario, folder: &Path) -> Settings {
    let args = ["logchute".to_owned()].into_iter().chain(scenario.arguments());
    let env = scenario.environment(&folder.to_string_lossy());
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, &**value)).collect();
    match cli::parse(args.map(Into::into), &MapEnv::new(&env)) {
        Ok(Asked::Run(loaded)) => loaded.settings,
        _ => panic!("bad settings: {scenario:?}"),
    }
}

impl Program {
    /// Starts it, with what an earlier run has left if it has a `STATE_DIR`. Its spools are in
    /// `folder`.
    pub(super) fn start(
        scenario: &Scenario,
        positions: Option<Arc<Positions>>,
        folder: &Path,
    ) -> Program {
        let settings = settings(scenario, folder);
        let routes = build::routes(&settings).expect("the routes are good");
        let daemon = build::daemon(&settings).expect("the daemon's address is good");
        let counters: Vec<Arc<ShardCounters>> =
            (0..settings.shards).map(|_| Arc::default()).collect();
        let (tasks, reports) = (LocalSet::new(), Rc::<RefCell<Vec<u64>>>::default());
        let mut shards = Vec::new();
        let within = tasks.enter();
        routes.iter().for_each(|route| route.open_spool().expect("the spool can be opened"));
        drop(within);
        let hold = Arc::new(Hold::new(scenario.hold));
        for (index, counters) in counters.iter().enumerate() {
            let (sender, commands) = crossbeam_channel::unbounded();
            let bell = Arc::new(Notify::new());
            let setup = Setup {
                index,
                driver: Driver::Simulated,
                daemon: daemon.target.clone(),
                greeting: daemon.greeting.clone(),
                routes: routes.clone(),
                follow: settings.follow.clone(),
                hold: Arc::clone(&hold),
                roster: Arc::default(),
                positions: positions.clone(),
                max_line: settings.max_line,
                read_wait: settings.read_wait,
                timestamp: settings.timestamp,
                silence: settings.silence,
                stats_interval: settings.stats_interval,
                counters: Arc::clone(counters),
                commands,
                bell: Arc::clone(&bell),
            };
            shards.push((sender, bell));
            let reports = Rc::clone(&reports);
            tasks.spawn_local(async move {
                let undelivered = serve(setup).await;
                reports.borrow_mut().push(undelivered);
            });
        }
        let wants_events = routes.iter().any(|r| r.selection.takes_source(Source::Events));
        let (counted, known) = (counters.clone(), positions.clone());
        let orders = Orders { shards, counters: counted, positions: known, wants_events };
        let client = Daemon {
            driver: Driver::Simulated,
            pool: Pool::new(),
            target: daemon.target,
            api: daemon.greeting.api,
        };
        let mut dispatch = orders.clone();
        tasks.spawn_local(async move {
            let mut registry = Registry::new(settings.shards, None);
            watch(client, None, &mut registry, &mut dispatch).await;
        });
        let tasks = tokio::task::spawn_local(tasks);
        let counted = Counted { routes, shards: counters };
        Program { counted, positions, orders, reports, tasks }
    }

    /// Tells it to stop, delivering for so long.
    pub(super) fn stop(&mut self, patience: Duration) {
        self.orders.send_all(&Command::Stop(patience));
    }

    /// Whether all of it has stopped, and how many records were not delivered then.
    pub(super) fn stopped(&self) -> Option<u64> {
        let reports = self.reports.borrow();
        (reports.len() == self.counted.shards.len()).then(|| reports.iter().sum())
    }

    /// Ends it in the midst of whatever it does.
    pub(super) async fn kill(self) -> Counted {
        self.tasks.abort();
        let _ = self.tasks.await;
        self.counted
    }
}

impl Counted {
    /// What it counted for a route.
    pub(super) fn totals(&self, route: usize) -> RouteTotals {
        let mut totals = RouteTotals::default();
        self.add_to(route, &mut totals);
        totals
    }

    /// Adds what it counted for a route.
    pub(super) fn add_to(&self, route: usize, totals: &mut RouteTotals) {
        self.routes[route].counters.iter().for_each(|counters| totals.add(counters));
    }

    /// What it counted on each shard for each route, for a message.
    pub(super) fn shown(&self) -> String {
        let all = self.routes.iter().map(|route| &route.counters);
        format!("{:?}", all.collect::<Vec<_>>())
    }

    /// How often it said that lines may be lost.
    pub(super) fn gaps(&self) -> u64 {
        self.shards.iter().map(|counters| counters.gaps.get()).sum()
    }

    /// How often it was a guess where log and attach join.
    pub(super) fn unsure(&self) -> u64 {
        self.shards.iter().map(|counters| counters.unsure_seams.get()).sum()
    }
}
