//! No line costs an allocation: a million of them go through the in-memory way, and through a
//! shard from socket to socket, and what is allocated meanwhile is counted.
//!
//! The allocator counts for the threads that ask for it alone, so that the other end of a socket
//! may be in the same process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use logchute::config::cli::{self, Command};
use logchute::config::env::MapEnv;
use logchute::config::{IoChoice, Settings};
use logchute::control::build;
use logchute::docker::frame::Demux;
use logchute::docker::inspect::Container;
use logchute::io::{self, Driver};
use logchute::metrics::ShardCounters;
use logchute::shard::command::{Command as Order, Origin};
use logchute::shard::feed::Feed;
use logchute::shard::lane::{Lane, Route};
use logchute::shard::{self, Setup};

mod support;

use support::engine::{Engine, Stream, frame, inspect};
use support::{drivers, say, skipped, wait_until};

/// What is measured.
const LINES: u64 = 1_000_000;
/// The most allocations that so many lines may cost: all there is room for is what depends on
/// time (timers, reconnects), not on lines.
const ALLOWED: u64 = 200;
const READ: usize = 256 * 1024;
/// Lines that the source writes at once, and how far it may be ahead of the slowest receiver.
const PART: u64 = 10_000;
const AHEAD: u64 = 100_000;

thread_local! {
    static COUNTED: Cell<bool> = const { Cell::new(false) };
}

/// Allocations, reallocations included, of threads that are counted.
static COUNT: AtomicU64 = AtomicU64::new(0);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count() {
    // A thread that is ending has no such variable any more.
    if COUNTED.try_with(Cell::get).unwrap_or(false) {
        COUNT.fetch_add(1, Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator as it came.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps to the contract of `GlobalAlloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as above; `place` came from `System`.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above; `place` came from `System`.
        unsafe { System.realloc(place, layout, size) }
    }
}

/// One measurement at a time: there is one count.
fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A hundred lines of about 124 bytes, one of them with the word that a route looks for.
fn lines() -> Vec<Vec<u8>> {
    let line = |number: usize| {
        let word = if number == 42 { "needle" } else { "hay" };
        let mut line = format!("line {number} {word} ").into_bytes();
        line.resize(80 + number * 37 % 90, b'x');
        line.push(b'\n');
        line
    };
    (0..100).map(line).collect()
}

/// The lines in frames of one line, from both sources in turn, again and again: so many lines.
fn stream(count: usize) -> Vec<u8> {
    let lines = lines();
    let frames = lines.iter().cycle().take(count).enumerate().map(|(number, line)| {
        frame(if number % 10 == 9 { Stream::Err } else { Stream::Out }, line)
    });
    frames.collect::<Vec<_>>().concat()
}

/// The settings of a program that was started with these variables and routes.
fn settings(env: &[(&str, &str)], routes: &[String]) -> Settings {
    let args = ["logchute".to_owned()].into_iter().chain(routes.iter().cloned());
    let Ok(Command::Run(loaded)) = cli::parse(args.map(Into::into), &MapEnv::new(env)) else {
        panic!("bad routes: {routes:?}");
    };
    loaded.settings
}

/// Routes of every kind that a stream can have.
fn route_uris(port: u16) -> Vec<String> {
    let options = [
        "syslog+tcp://HOST",
        "syslog+tcp://HOST?syslog.framing=octet-counted&filter.sources=stderr",
        "syslog+tcp://HOST?filter.match=needle&syslog.format=rfc3164",
        "raw+tcp://HOST?filter.exclude=(%3Fi)needle|haystack|pin",
        "raw+tcp://HOST?filter.match=l[i-o]ne [0-9]%2B needle",
    ];
    options.map(|uri| uri.replace("HOST", &format!("127.0.0.1:{port}"))).to_vec()
}

/// Of so many lines, those that a route takes: every tenth line is from standard error.
fn share(route: &Route, lines: u64) -> u64 {
    if route.display.contains("stderr") { lines / 10 } else { lines }
}

/// Whether a route is done with that many of the source's lines.
fn is_out(route: &Route, lines: u64) -> bool {
    let counters = &route.counters[0];
    counters.filtered_lines.get() + counters.delivered_lines.get() >= share(route, lines)
}

/// Every line that a route received is accounted for, and none was lost.
fn check_account(route: &Route, lines: u64) {
    let counters = &route.counters[0];
    let (filtered, delivered) = (counters.filtered_lines.get(), counters.delivered_lines.get());
    assert_eq!(filtered + delivered, counters.received_lines.get(), "{}", route.display);
    assert_eq!(counters.received_lines.get(), share(route, lines), "{}", route.display);
}

#[test]
fn the_count_counts() {
    let _alone = alone();
    let before = COUNT.load(Relaxed);
    let mut uncounted = vec![0; 10];
    COUNTED.set(true);
    let mut counted = std::hint::black_box(vec![1; 10]);
    counted.reserve_exact(1000);
    COUNTED.set(false);
    uncounted.append(&mut counted);
    assert_eq!((COUNT.load(Relaxed) - before, uncounted.len()), (2, 20));
}

#[test]
fn the_way_through_memory_allocates_nothing() {
    let _alone = alone();
    let routes = build::routes(&settings(&[("SHARDS", "1")], &route_uris(9))).unwrap();
    let lanes: Vec<Rc<Lane>> = routes.iter().map(|route| Rc::new(Lane::new(route, 0).0)).collect();
    let mut feed = Feed::new(1 << 20, Arc::new(ShardCounters::default()));
    feed.bind(&Container { name: "web".into(), ..Container::default() }, &lanes);
    let (mut demux, mut tails, mut complaint) = (Demux::framed(), Default::default(), None);
    let stream = stream(LINES as usize / 10);
    let mut pass = || {
        for read in stream.chunks(READ) {
            feed.read(&mut demux, read, SystemTime::now(), &mut tails, &mut complaint).unwrap();
            for lane in &lanes {
                while let Some(mut chunk) = lane.queue.take() {
                    let bytes = chunk.pending().len();
                    lane.queue.delivered(chunk.deliver(bytes), bytes);
                    lane.queue.put_back(chunk);
                }
            }
        }
    };
    pass();
    let before = COUNT.load(Relaxed);
    COUNTED.set(true);
    (0..10).for_each(|_| pass());
    COUNTED.set(false);
    let allocations = COUNT.load(Relaxed) - before;
    say(&format!("memory: {allocations} allocations for {LINES} lines and {} routes", lanes.len()));
    routes.iter().for_each(|route| check_account(route, LINES + LINES / 10));
    assert_eq!(allocations, 0);
}

const ID: &str = "c0ffee000000c0ffee000000c0ffee000000c0ffee000000c0ffee000000c0ff";

/// Takes every connection and reads it to its end.
fn drain() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for socket in listener.incoming().take(route_uris(0).len()) {
            let mut socket = socket.unwrap();
            std::thread::spawn(move || {
                let mut chunk = vec![0; READ];
                while matches!(socket.read(&mut chunk), Ok(n) if n > 0) {}
            });
        }
    });
    port
}

fn through_a_shard(driver: Driver) -> u64 {
    let engine = Engine::new();
    engine.add(inspect(ID, "web"), true);
    let host = engine.host();
    let env = [("SHARDS", "1"), ("DOCKER_HOST", host.as_str()), ("BUFFER", "64MiB")];
    let settings = settings(&env, &route_uris(drain()));
    let daemon = build::daemon(&settings).unwrap();
    let routes = build::routes(&settings).unwrap();
    let (orders, commands) = crossbeam_channel::bounded(8);
    let bell = Arc::new(tokio::sync::Notify::new());
    let setup = Setup {
        index: 0,
        driver,
        daemon: daemon.target,
        greeting: daemon.greeting,
        routes: routes.clone(),
        follow: settings.follow,
        max_line: settings.max_line,
        counters: Arc::default(),
        commands,
        bell: Arc::clone(&bell),
    };
    let thread = std::thread::spawn(move || {
        COUNTED.set(true);
        let mut undelivered = None;
        shard::run(setup, |records| undelivered = Some(records)).unwrap();
        COUNTED.set(false);
        undelivered
    });
    let container = Container { id: ID.into(), name: "web".into(), ..Container::default() };
    orders.send(Order::Follow { container, origin: Origin::Found }).unwrap();
    bell.notify_one();
    assert!(wait_until(Duration::from_secs(20), || engine.attached(ID) > 0));

    let part = stream(PART as usize);
    let mut sent = 0;
    let mut send = |count: u64| {
        // Never so far ahead that a buffer could fill up, however slow the machine.
        for (number, _) in (0..count / PART).enumerate() {
            part.chunks(READ).for_each(|bytes| engine.send_raw(ID, bytes));
            sent += PART;
            let ahead = if number as u64 == count / PART - 1 { 0 } else { AHEAD };
            let out = wait_until(Duration::from_secs(60), || {
                routes.iter().all(|route| is_out(route, sent.saturating_sub(ahead)))
            });
            let counters = || routes.iter().map(|route| &route.counters[0]).collect::<Vec<_>>();
            assert!(out, "{:?}", counters());
        }
        routes.iter().for_each(|route| check_account(route, sent));
    };
    send(200_000);
    let before = COUNT.load(Relaxed);
    send(LINES);
    let allocations = COUNT.load(Relaxed) - before;
    orders.send(Order::Stop(Duration::from_secs(5))).unwrap();
    bell.notify_one();
    assert_eq!(thread.join().unwrap(), Some(0));
    allocations
}

#[test]
fn the_way_from_socket_to_socket_allocates_nothing_per_line() {
    let _alone = alone();
    for name in drivers() {
        let asked = if name == "ring" { IoChoice::Ring } else { IoChoice::Poll };
        let driver = match io::choose(asked, 1) {
            Ok(choice) => choice.driver,
            Err(why) => {
                skipped(&why);
                continue;
            }
        };
        let allocations = through_a_shard(driver);
        say(&format!("shard, {name}: {allocations} allocations for {LINES} lines"));
        assert!(allocations <= ALLOWED, "{name}: {allocations}");
    }
}
