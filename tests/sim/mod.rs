//! The whole program without threads, sockets and clocks: shards with followers, doors, feeds,
//! lanes, links and deliveries, and the watch over the daemon, against a simulated daemon, network
//! and receivers. Everything follows from a seed: what the containers write and when they start,
//! which faults come, how long each packet takes. At the end all faults are over and time goes on;
//! then every line is accounted for.
//!
//! A failing seed is printed. `LOGCHUTE_SIM_SEED=n cargo test --lib sim:: -- --nocapture` runs that
//! one and tells its story, `LOGCHUTE_SIM_SECONDS=n` runs as many as there is time for, from
//! `LOGCHUTE_SIM_FIRST` on (`--release` for hours). A seed means a story only to the same source:
//! what the program does decides what comes next.

mod chance;
mod daemon;
mod disk;
mod joined;
mod ledger;
mod net;
mod program;
mod receiver;
mod relp;
mod scenario;
mod world;

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Once};
use std::task::Wake;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::LocalSet;

use crate::control::state::Scribe;
use crate::io::sim::{self, Planted};
use crate::metrics::RouteTotals;
use crate::shard::positions::Positions;
use crate::spool::disk::simulated;
use chance::Chance;
use daemon::Daemon;
use disk::Platter;
use ledger::Sum;
use net::Lan;
use program::{Counted, Program};
use receiver::Receiver;
use scenario::Scenario;
use world::{Files, MS, SECOND, World, go_on};

/// So many seeds are run where no time is asked for: more still find what is not mended yet, about
/// one in some thousands.
const SEEDS: u64 = 60;
/// How long the program may take to stop.
const DRAIN: Duration = Duration::from_secs(5);
/// Beyond that, for its tasks to see it.
const GRACE: u64 = 2 * SECOND;
/// After so many bytes of journal all places are written anew: often enough to see it happen.
const JOURNAL_MIN: u64 = 4 * 1024;
/// How long everything may take to arrive once all is well: the longest pause of a link, an answer
/// that is waited for in vain, the next list, and a slow receiver's backlog.
const SETTLES: u64 = 200 * SECOND;

thread_local! {
    /// Something on this thread has panicked since the seed began.
    static PANICKED: Cell<bool> = const { Cell::new(false) };
}

/// What became of a seed.
#[derive(Debug, Default)]
struct Outcome {
    complaints: Vec<String>,
    steps: u64,
    trace: u64,
    sum: Sum,
}

/// Runs a seed, with a fault that is planted in the program if there is to be one.
fn run(seed: u64, planted: Option<Planted>, tell: bool) -> Outcome {
    watch_for_panics();
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build().unwrap();
    let mut outcome = LocalSet::new().block_on(&runtime, simulate(seed, planted, tell));
    sim::leave();
    simulated::enter(None);
    if PANICKED.get() {
        outcome.complaints.push("a task of the program panicked".to_owned());
    }
    outcome
}

/// A task that panics would otherwise end in silence.
fn watch_for_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICKED.set(true);
            before(panic);
        }));
    });
    PANICKED.set(false);
}

/// A world in which nothing has happened yet, and a folder for spools; from here on the program
/// sees no other.
fn scene(
    seed: u64,
    scenario: Scenario,
    planted: Option<Planted>,
    tell: bool,
) -> (Rc<RefCell<World>>, tempfile::TempDir) {
    let receivers =
        scenario.relp[..scenario.routes].iter().map(|relp| Receiver::new(*relp)).collect();
    let world = World::new(seed, Daemon::new(scenario), receivers, tell);
    let world = Rc::new(RefCell::new(world));
    let (lan, platter) = (Rc::new(Lan(Rc::clone(&world))), Rc::new(Platter(Rc::clone(&world))));
    sim::enter(lan, World::wall_at_start(), planted);
    simulated::enter(Some(platter));
    (world, tempfile::tempdir().expect("a folder for spools"))
}

async fn simulate(seed: u64, planted: Option<Planted>, tell: bool) -> Outcome {
    let scenario = Scenario::drawn(&mut Chance::new(!seed));
    let (world, folder) = scene(seed, scenario, planted, tell);
    world.borrow_mut().prepare();
    // Some of the containers have a past.
    let past = world.borrow_mut().chance.below(400 * MS);
    go_on(&world, past, |_| false).await;
    let (mut program, mut past) = (start(&world, folder.path()), Vec::new());
    let mut complaints = Vec::new();
    loop {
        let done = |world: &mut World| world.crash.is_some() || too_much(&program, world);
        go_on(&world, scenario.lasts + SECOND, done).await;
        let Some(pause) = world.borrow_mut().crash.take() else { break };
        past.push(program.kill().await);
        world.borrow_mut().tear_journal();
        let end = world.borrow().now + pause;
        go_on(&world, end, |_| false).await;
        program = start(&world, folder.path());
    }
    world.borrow_mut().heal();
    let end = world.borrow().now + SETTLES;
    go_on(&world, end, |world| too_much(&program, world)).await;
    if too_much(&program, &world.borrow()) {
        complaints.push(format!("more is held than is allowed: {}", program.counted.shown()));
    }
    complaints.extend(stop(&world, &mut program).await);
    past.push(program.kill().await);
    let mut sum = Sum {
        unsure: past.iter().map(Counted::unsure).sum(),
        gaps: past.iter().map(Counted::gaps).sum(),
        crashes: past.len() as u64 - 1,
        ..Sum::default()
    };
    for route in 0..scenario.routes {
        complaints.extend(account(&past, &world.borrow(), route, &mut sum));
    }
    let world = world.borrow();
    Outcome { complaints, steps: world.steps, trace: world.trace, sum }
}

/// Starts the program with what it finds on the disk; its spools are in `folder`.
fn start(world: &Rc<RefCell<World>>, folder: &Path) -> Program {
    let mut open = world.borrow_mut();
    open.run += 1;
    open.disk_troubles.dead = false;
    let scenario = open.daemon.scenario;
    let (now, disk) = (open.wall(), Rc::clone(&open.disk));
    let files = disk.borrow();
    let whole = files.whole.as_ref().map(|whole| str::from_utf8(whole).expect("it is text"));
    let left = whole.map(|whole| Positions::parse(whole, &files.journal, now));
    if left.is_none() {
        open.program_begins();
    }
    drop(open);
    let left = left.map(|read| read.expect("what was written can be read")).unwrap_or_default();
    let program = Program::start(&scenario, scenario.state.then(|| Arc::new(left)), folder);
    if let Some(positions) = &program.positions {
        let scribe = Scribe::new(Arc::clone(positions), Rc::clone(&disk), JOURNAL_MIN);
        tokio::task::spawn_local(keep(Rc::clone(world), Arc::clone(positions), scribe));
    }
    program
}

/// What wakes the writer of the program's files.
#[derive(Default)]
struct Bell(Notify);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

/// Writes the program's files soon after something has changed, as long as it runs.
async fn keep(
    world: Rc<RefCell<World>>,
    positions: Arc<Positions>,
    mut scribe: Scribe<Rc<RefCell<Files>>>,
) {
    let bell = Arc::<Bell>::default();
    positions.written_by(Arc::clone(&bell).into());
    let positions = Arc::downgrade(&positions);
    loop {
        bell.0.notified().await;
        let mut pause = Duration::from_nanos(world.borrow_mut().chance.below(50 * MS));
        loop {
            tokio::time::sleep(pause).await;
            if positions.strong_count() == 1 {
                // Only the scribe's is left.
                return;
            }
            let open = world.borrow();
            let troubles = &open.disk_troubles;
            open.disk.borrow_mut().full = troubles.dead || troubles.full_until > open.now;
            drop(open);
            match scribe.write() {
                Ok(_) => break,
                Err(_) => pause = Duration::from_millis(500),
            }
        }
    }
}

/// Ends the program; says what is wrong with its end.
async fn stop(world: &Rc<RefCell<World>>, program: &mut Program) -> Option<String> {
    program.stop(DRAIN);
    let limit = world.borrow().now + DRAIN.as_nanos() as u64 + GRACE;
    go_on(world, limit, |_| program.stopped().is_some()).await;
    match program.stopped() {
        Some(0) => None,
        Some(left) => Some(format!("{left} not delivered at the end: {}", program.counted.shown())),
        None => Some(format!("it did not stop within {DRAIN:?}")),
    }
}

/// The account of one route over all runs of the program, of which only the last came to its end.
fn account(past: &[Counted], world: &World, route: usize, sum: &mut Sum) -> Vec<String> {
    let mut totals = RouteTotals::default();
    past.iter().for_each(|run| run.add_to(route, &mut totals));
    let mut complaints = world.ledger.check(route, &world.daemon, &totals, sum);
    let last = past.last().map(|run| run.totals(route)).unwrap_or_default();
    let settled = last.filtered_lines + last.joined_lines + last.delivered_lines;
    if last.received_lines + last.spool_found != settled + last.dropped() {
        complaints.push(format!("route {route}: the account is not even: {last:?}"));
    }
    complaints
}

/// Whether more is held than the routes' memory allows.
fn too_much(program: &Program, world: &World) -> bool {
    /// The shortest line has so many bytes.
    const LEAST: usize = 10;
    let scenario = &world.daemon.scenario;
    let held = (0..scenario.routes).map(|route| program.counted.totals(route).held_lines).max();
    let limit = scenario.buffer + scenario.shards * (128 << 10);
    held.unwrap_or(0) as usize * LEAST > limit
}

/// A number from the environment.
fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value}")))
}

#[test]
fn nothing_is_lost_whatever_happens() {
    if let Some(seed) = asked("LOGCHUTE_SIM_SEED") {
        let log = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).without_time();
        let log = log.with_writer(std::io::stdout).with_ansi(false).finish();
        let outcome = tracing::subscriber::with_default(log, || run(seed, None, true));
        println!("{}", Scenario::drawn(&mut Chance::new(!seed)));
        println!("{:?}", outcome.sum);
        assert!(outcome.complaints.is_empty(), "seed {seed}: {:#?}", outcome.complaints);
        return;
    }
    let seconds = asked("LOGCHUTE_SIM_SECONDS");
    let limit = Duration::from_secs(seconds.unwrap_or(20));
    let most = if seconds.is_some() { u64::MAX } else { SEEDS };
    let (began, mut seeds, mut steps, mut sum) = (Instant::now(), 0, 0, Sum::default());
    let mut failed = Vec::new();
    let first = asked("LOGCHUTE_SIM_FIRST").unwrap_or(1);
    while began.elapsed() < limit && seeds < most {
        let seed = first + seeds;
        let outcome = run(seed, None, false);
        (seeds, steps) = (seeds + 1, steps + outcome.steps);
        sum = sum + outcome.sum;
        if !outcome.complaints.is_empty() {
            println!("seed {seed}: {}", Scenario::drawn(&mut Chance::new(!seed)));
            outcome.complaints.iter().take(5).for_each(|said| println!("    {said:.300}"));
            failed.push(seed);
        }
    }
    let rate = steps as f64 / began.elapsed().as_secs_f64();
    println!("{seeds} seeds, {steps} steps, {rate:.0} steps a second: {sum:?}");
    assert!(failed.is_empty(), "replay one with LOGCHUTE_SIM_SEED: {failed:?}");
}

#[test]
fn a_seed_happens_the_same_way_each_time() {
    for seed in 1..10 {
        let [one, other] = [(); 2].map(|()| run(seed, None, false));
        assert_eq!((one.trace, one.steps, one.sum), (other.trace, other.steps, other.sum));
        assert!(one.steps > 100, "seed {seed} has no world");
    }
}

/// A list shows what an event stream that hangs did not tell; then there is another one.
#[test]
fn an_event_stream_that_hangs_is_opened_again() {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let scenario = Scenario::drawn(&mut Chance::new(1)).in_peace();
        let (world, folder) = scene(1, scenario, None, false);
        let program = start(&world, folder.path());
        let listeners = || world.borrow().daemon.listeners();
        // With nothing to tell it is left alone.
        go_on(&world, 150 * SECOND, |_| false).await;
        let before = listeners();
        assert_eq!(before.len(), 1);
        before.iter().for_each(|conn| world.borrow_mut().hang(*conn));
        go_on(&world, 300 * SECOND, |_| false).await;
        assert_eq!(listeners(), before);
        let index = world.borrow_mut().daemon.add(false);
        world.borrow_mut().tell(index, "create");
        go_on(&world, 400 * SECOND, |_| false).await;
        assert!(listeners().len() == 1 && listeners() != before, "{:?}", listeners());
        program.kill().await;
    });
    sim::leave();
    simulated::enter(None);
}

/// A daemon attaches to a container that has ended meanwhile, too, and brings what its next run
/// writes: its text tells that it was not the first run.
#[test]
fn a_run_that_ends_while_attach_is_asked_for() {
    let drawn = Scenario::drawn(&mut Chance::new(1)).in_peace();
    let plain = Scenario { shards: 1, routes: 1, state: false, no_attach: false, ..drawn };
    let plain = Scenario { repeats: false, joined: false, spool: 0, relp: [false; 2], ..plain };
    let doubt = |millis: &u64| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().start_paused(true).build().unwrap();
        let complaints = LocalSet::new().block_on(&runtime, three_runs(plain, millis * MS));
        sim::leave();
        simulated::enter(None);
        !complaints.is_empty()
    };
    let doubtful: Vec<u64> = (0..150).filter(doubt).collect();
    assert!(doubtful.is_empty(), "if the first run lasts so many milliseconds: {doubtful:?}");
}

/// What a container does.
type Step = fn(&mut World, usize);

/// A container that runs three times: the first run ends so long after the program has begun, the
/// next one begins soon after that.
async fn three_runs(scenario: Scenario, first_lasts: u64) -> Vec<String> {
    let (world, folder) = scene(1, scenario, None, false);
    world.borrow_mut().daemon.slow = 40 * MS;
    let index = world.borrow_mut().daemon.add(false);
    world.borrow_mut().start(index);
    let mut program = start(&world, folder.path());
    let mut at = 0;
    let steps: [(u64, Step); 6] = [
        (first_lasts, World::exit),
        (200 * MS, World::start),
        (5 * MS, World::write_lines),
        (30 * MS, World::exit),
        (400 * MS, World::start),
        (5 * MS, World::write_lines),
    ];
    for (pause, step) in steps {
        at += pause;
        go_on(&world, at, |_| false).await;
        step(&mut world.borrow_mut(), index);
    }
    go_on(&world, at + SETTLES, |_| false).await;
    let mut complaints = Vec::from_iter(stop(&world, &mut program).await);
    let past = [program.kill().await];
    complaints.extend(account(&past, &world.borrow(), 0, &mut Sum::default()));
    complaints
}

/// Faults that are planted in the program are found, each within so many seeds whose scenario may
/// show it.
#[test]
fn planted_faults_are_found() {
    let any: fn(&Scenario) -> bool = |_| true;
    for (planted, shows, within) in [
        (Planted::NothingAgain, any, 20),
        (Planted::OneTooMany, |scenario| !scenario.relp[0], 40),
        (Planted::NoResume, |scenario| !scenario.no_attach, 20),
        (Planted::HastySeam, any, 20),
        (Planted::OtherAnswer, |scenario| scenario.relp[0], 20),
        (Planted::GroupTwice, |scenario| scenario.joined, 20),
        (Planted::HastyGroups, |scenario| scenario.joined && scenario.overflow != "block", 20),
        (Planted::SpoolSkips, |scenario| scenario.spool > 0 && scenario.buffer < 1 << 20, 40),
    ] {
        let complains = |seed, planted| !run(seed, planted, false).complaints.is_empty();
        let found = |seed: &u64| complains(*seed, Some(planted)) && !complains(*seed, None);
        let shows = |seed: &u64| shows(&Scenario::drawn(&mut Chance::new(!seed)));
        let found = (1..).filter(shows).take(within).find(found);
        println!("{planted:?}: seed {found:?}");
        assert!(found.is_some(), "{planted:?} was not found within {within} seeds");
    }
}
