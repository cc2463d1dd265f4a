//! A shard on a thread of its own, over a scripted engine with one container.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use logchute::config::cli::{self, Command};
use logchute::config::env::MapEnv;
use logchute::config::{IoChoice, Settings};
use logchute::control::build;
use logchute::docker::inspect::Container;
use logchute::io::{self, Driver};
use logchute::metrics::RouteTotals;
use logchute::shard::command::{Clock, Command as Order, Greeting, Origin};
use logchute::shard::lane::Route;
use logchute::shard::{self, Setup};

use super::engine::{Engine, inspect};
use super::{drivers, skipped, wait_until};

/// The id of the container, whose name is `web`.
pub(crate) const ID: &str = "c0ffee000000c0ffee000000c0ffee000000c0ffee000000c0ffee000000c0ff";

/// The settings of a program that was started with these variables and routes.
pub(crate) fn settings(env: &[(&str, &str)], routes: &[String]) -> Settings {
    let args = ["logchute".to_owned()].into_iter().chain(routes.iter().cloned());
    let Ok(Command::Run(loaded)) = cli::parse(args.map(Into::into), &MapEnv::new(env)) else {
        panic!("bad routes: {routes:?}");
    };
    loaded.settings
}

/// What a shard without routes is given, and where it is told what to do.
pub(crate) fn setup(
    settings: &Settings,
    driver: Driver,
) -> (Setup, crossbeam_channel::Sender<Order>) {
    let daemon = build::daemon(settings).unwrap();
    let (orders, commands) = crossbeam_channel::unbounded();
    let setup = Setup {
        index: 0,
        driver,
        daemon: daemon.target,
        greeting: daemon.greeting,
        routes: Vec::new(),
        follow: settings.follow.clone(),
        timestamp: settings.timestamp,
        silence: settings.silence,
        stats_interval: settings.stats_interval,
        max_line: settings.max_line,
        read_wait: settings.read_wait,
        counters: Arc::default(),
        hold: Arc::default(),
        roster: Arc::default(),
        positions: None,
        commands,
        bell: Arc::default(),
    };
    (setup, orders)
}

/// Runs `test` with each driver that this machine has, and its name.
pub(crate) fn with_drivers(mut test: impl FnMut(&str, Driver)) {
    for name in drivers() {
        let asked = if name == "ring" { IoChoice::Ring } else { IoChoice::Poll };
        match io::choose(asked, 1) {
            Ok(choice) => test(name, choice.driver),
            Err(why) => skipped(&why),
        }
    }
}

/// A shard that follows the container `web`.
pub(crate) struct Shard {
    /// Its daemon.
    pub engine: Engine,
    /// What it was started with.
    pub settings: Settings,
    /// The routes that it has from the beginning.
    pub routes: Vec<Arc<Route>>,
    orders: crossbeam_channel::Sender<Order>,
    bell: Arc<tokio::sync::Notify>,
    thread: JoinHandle<Option<u64>>,
}

impl Shard {
    /// Starts it with these variables and routes and waits until it follows the container. Its
    /// thread calls `begun` first.
    pub(crate) fn start(
        driver: Driver,
        env: &[(&str, &str)],
        routes: &[String],
        begun: impl FnOnce() + Send + 'static,
    ) -> Shard {
        Shard::start_beside(Clock::OURS, driver, env, routes, begun)
    }

    /// The same, beside a daemon with this clock.
    pub(crate) fn start_beside(
        clock: Clock,
        driver: Driver,
        env: &[(&str, &str)],
        routes: &[String],
        begun: impl FnOnce() + Send + 'static,
    ) -> Shard {
        let engine = Engine::new();
        engine.set_clock(clock.ahead);
        engine.add(inspect(ID, "web"), true);
        let host = engine.host();
        let env = [&[("SHARDS", "1"), ("DOCKER_HOST", &*host)], env].concat();
        let settings = settings(&env, routes);
        let routes = build::routes(&settings).unwrap();
        let (setup, orders) = setup(&settings, driver);
        let greeting = Greeting { clock, ..setup.greeting };
        let setup = Setup { greeting, routes: routes.clone(), ..setup };
        let bell = Arc::clone(&setup.bell);
        let thread = std::thread::spawn(move || {
            begun();
            let mut undelivered = None;
            shard::run(setup, |records| undelivered = Some(records)).unwrap();
            undelivered
        });
        let shard = Shard { engine, settings, routes, orders, bell, thread };
        let container = Container { id: ID.into(), name: "web".into(), ..Container::default() };
        shard.order(Order::Follow { container, origin: Origin::Found });
        assert!(wait_until(Duration::from_secs(60), || shard.engine.attached(ID) > 0));
        shard
    }

    /// Tells it to do something.
    pub(crate) fn order(&self, order: Order) {
        self.orders.send(order).unwrap();
        self.bell.notify_one();
    }

    /// Ends it, with so much time for what it holds: how many records were not delivered. Each line
    /// that a route of the beginning received must be in one of its counts.
    pub(crate) fn stop(self, drain: Duration) -> Option<u64> {
        self.order(Order::Stop(drain));
        let undelivered = self.thread.join().unwrap();
        self.routes.iter().for_each(|route| check_account(route));
        undelivered
    }
}

/// Panics unless every line that a route has received, of which nothing is left, is in one of its
/// counts.
pub(crate) fn check_account(route: &Route) {
    let mut totals = RouteTotals::default();
    route.counters.iter().for_each(|counters| totals.add(counters));
    assert_eq!((totals.held(), totals.missing()), (0, 0), "{}: {totals}", route.display);
}
