//! No line costs an allocation: a quarter of a million go through the in-memory way, and through a
//! shard from socket to socket, and what is allocated meanwhile is counted.
//!
//! The allocator counts for the threads that ask for it alone, so that the other end of a socket
//! may be in the same process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use logchute::buffer::{Budget, Outbox};
use logchute::config::Settings;
use logchute::control::build;
use logchute::docker::Source;
use logchute::docker::frame::Demux;
use logchute::docker::inspect::Container;
use logchute::io::Driver;
use logchute::lines::blocks::Blocks;
use logchute::metrics::ShardCounters;
use logchute::route::{RouteSpec, Selector};
use logchute::shard::feed::Feed;
use logchute::shard::lane::{Lane, Route};
use logchute::sink::Built;
use logchute::sink::viewer::{Form, sink};
use logchute::stamp::Stamp;
use logchute::transport::Delivery;
use logchute::transport::viewer;

mod support;

use support::engine::{Stream, frame};
use support::shard::{ID, Shard, settings, with_drivers};
use support::{say, wait_until};

/// What is measured.
const LINES: u64 = 250_000;
/// The most allocations that so many lines may cost: all there is room for is what depends on
/// time (timers, reconnects), not on lines.
const ALLOWED: u64 = 200;
const READ: usize = 256 * 1024;
/// Lines that the source writes at once, and how far it may be ahead of the slowest receiver.
const PART: u64 = 10_000;
const AHEAD: u64 = 100_000;

thread_local! {
    /// What counts the allocations of this thread, if anything does.
    static COUNTED: Cell<Option<&'static Counter>> = const { Cell::new(None) };
}

/// Allocations, reallocations included: each measurement has its own, and they may go on side by
/// side.
type Counter = AtomicU64;

fn counter() -> &'static Counter {
    Box::leak(Box::default())
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count() {
    // A thread that is ending has no such variable any more.
    if let Ok(Some(counter)) = COUNTED.try_with(Cell::get) {
        counter.fetch_add(1, Relaxed);
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

/// Routes of every kind that a stream can have.
fn route_uris(port: u16) -> Vec<String> {
    let options = [
        "syslog+tcp://HOST",
        "syslog+tcp://HOST?syslog.framing=octet-counted&filter.sources=stderr",
        "syslog+tcp://HOST?filter.match=needle&syslog.format=rfc3164",
        "raw+tcp://HOST?filter.exclude=(%3Fi)needle|haystack|pin",
        "raw+tcp://HOST?filter.match=l[i-o]ne [0-9]%2B needle",
        "fluent://HOST?fluent.ack=off&fluent.labels=team",
    ];
    options.map(|uri| uri.replace("HOST", &format!("127.0.0.1:{port}"))).to_vec()
}

/// A route to a client of `/logs`.
fn looking_on(form: Form, settings: &Settings) -> Arc<Route> {
    let delivery = Delivery::Viewer(Arc::new(viewer::way().0));
    let built = Built { sink: sink(form), delivery, needs: Vec::new() };
    let options = vec![("buffer".to_owned(), "1MiB".to_owned())];
    let spec = RouteSpec { options, selector: Selector::default(), ..settings.routes[0].clone() };
    Arc::new(build::added_with(&spec, built, settings).unwrap())
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
    let counter = counter();
    let mut uncounted = vec![0; 10];
    COUNTED.set(Some(counter));
    let mut counted = std::hint::black_box(vec![1; 10]);
    counted.reserve_exact(1000);
    COUNTED.set(None);
    uncounted.append(&mut counted);
    assert_eq!((counter.load(Relaxed), uncounted.len()), (2, 20));
}

/// Carries the lines through memory, so many bytes a read; the records of all routes but `deaf` are
/// taken after each. Then `account` checks each route's books. Returns the allocations, those of
/// the first hundred thousand lines not counted.
fn through_memory(
    routes: &[Arc<Route>],
    deaf: Option<&Arc<Route>>,
    read: usize,
    account: impl Fn(&Route, u64),
) -> u64 {
    let lane = |route: &Arc<Route>| Rc::new(Lane::new(route, 0, &Rc::default()).0);
    let taken: Vec<Rc<Lane>> = routes.iter().map(lane).collect();
    let lanes: Vec<Rc<Lane>> = taken.iter().cloned().chain(deaf.map(lane)).collect();
    let mut feed = Feed::new(1 << 20, Rc::default(), Arc::new(ShardCounters::default()));
    feed.bind(&web(), &lanes);
    let (mut demux, mut tails, mut complaint) = (Demux::framed(), Default::default(), None);
    let stream = stream(LINES as usize / 10);
    let mut pass = || {
        for read in stream.chunks(read) {
            feed.read(&mut demux, read, SystemTime::now(), &mut tails, &mut complaint).unwrap();
            for lane in &taken {
                while let Some(mut chunk) = lane.queue.take() {
                    let bytes = chunk.pending().len();
                    lane.queue.delivered(chunk.deliver(bytes), bytes);
                    lane.queue.put_back(chunk);
                }
            }
        }
    };
    pass();
    let counter = counter();
    COUNTED.set(Some(counter));
    (0..10).for_each(|_| pass());
    COUNTED.set(None);
    let allocations = counter.load(Relaxed);
    say(&format!("memory: {allocations} allocations for {LINES} lines and {} routes", lanes.len()));
    routes.iter().for_each(|route| account(route, LINES + LINES / 10));
    allocations
}

/// The routes of `uris`, for one shard.
fn routes(env: &[(&str, &str)], uris: &[String]) -> Vec<Arc<Route>> {
    build::routes(&settings(&[&[("SHARDS", "1")], env].concat(), uris)).unwrap()
}

fn web() -> Container {
    let labels = [("team".to_owned(), "blue".to_owned()), ("tier".to_owned(), "front".to_owned())];
    Container { name: "web".into(), labels: labels.into(), ..Container::default() }
}

#[test]
fn the_way_through_memory_allocates_nothing() {
    assert_eq!(through_memory(&routes(&[], &route_uris(9)), None, READ, check_account), 0);
}

#[test]
fn templates_allocate_nothing() {
    let json = "{\"container\":{{toJSON .Container.Name}},\"labels\":\
                {{toJSON .Container.Config.Labels}},\"message\":{{toJSON .Data}}}\n";
    let uris = ["raw+tcp://127.0.0.1:9".to_owned()];
    let routes = routes(&[("RAW_FORMAT", json)], &uris);
    assert_eq!(through_memory(&routes, None, READ, check_account), 0);
}

#[test]
fn documents_allocate_nothing() {
    let options = [
        "http+json://HOST?batch.labels=*",
        "elasticsearch+http://HOST?elasticsearch.index=logs-%25Y.%25m.%25d",
        "loggly+http://HOST?loggly.token=a&filter.sources=stderr",
        "sumo+http://HOST/a?sumo.format=text",
        "logstash+tcp://HOST?logstash.tags=a",
        "logentries://HOST?logentries.token=t&logentries.json=on",
        "papertrail+tcp://HOST",
    ];
    let uris = options.map(|uri| uri.replace("HOST", "127.0.0.1:9")).to_vec();
    // Few enough lines for the chunks that an outbox keeps: documents are longer than lines.
    assert_eq!(through_memory(&routes(&[], &uris), None, READ / 8, check_account), 0);
}

/// Nor do lines that are objects, taken apart and put together.
#[test]
fn lines_that_are_json_allocate_nothing() {
    let line = b"{\"level\":\"info\",\"n\":[1,{\"a\":1e3}],\"docker\":null,\"text\":\"\\u00e9\"}\n";
    let lines = line.repeat(100);
    for uri in ["logstash+tcp://HOST", "logentries://HOST?logentries.token=t&logentries.json=on"] {
        let routes = routes(&[], &[uri.replace("HOST", "127.0.0.1:9")]);
        let prefix = routes[0].sink.prefix(&web(), Source::Stdout);
        let mut out = Outbox::new(Arc::new(Budget::new(1 << 20, 1)), usize::MAX);
        let stamp = Stamp::new(SystemTime::now());
        let mut pass = || {
            let count = routes[0].sink.encode(&prefix, &stamp, Blocks::whole(&lines), &mut out);
            while let Some(chunk) = out.take() {
                out.recycle(chunk);
            }
            count
        };
        (0..100).for_each(|_| assert_eq!(pass(), 100));
        let counter = counter();
        COUNTED.set(Some(counter));
        (0..1_000).for_each(|_| assert_eq!(pass(), 100));
        COUNTED.set(None);
        assert_eq!(counter.load(Relaxed), 0, "{uri}");
    }
}

/// Groups of up to 16 KiB, which is the memory that is kept for the next ones.
#[test]
fn joining_lines_allocates_nothing() {
    let options = [
        "raw+tcp://HOST?multiline.pattern=line%20[0-9]%20&multiline.match=first",
        "syslog+tcp://HOST?multiline.pattern=[2468]%20hay&multiline.match=nonfirst",
        "syslog+tcp://HOST?multiline.preset=java&filter.match=hay&syslog.framing=octet-counted",
        "raw+tcp://HOST?multiline.preset=go&filter.sources=stderr",
    ];
    let uris = options.map(|uri| format!("multiline+{}", uri.replace("HOST", "127.0.0.1:9")));
    let routes = routes(&[("BUFFER", "64MiB")], &uris);
    let allocations = through_memory(&routes, None, READ, |route, lines| {
        let counters = &route.counters[0];
        let done = counters.filtered_lines.get() + counters.delivered_lines.get();
        let pending = counters.received_lines.get() - done - counters.joined_lines.get();
        // What is complete is out: of each source at most one group waits, counted as one more.
        assert!(pending <= 200, "{}: {pending} lines are not accounted for", route.display);
        assert_eq!(counters.received_lines.get(), share(route, lines), "{}", route.display);
        let joined = counters.joined_lines.get();
        assert_eq!(joined > 0, route.display.contains("pattern"), "{}: {joined}", route.display);
        assert_eq!(counters.cut_groups.get(), 0);
    });
    assert_eq!(allocations, 0);
}

#[test]
fn who_looks_on_costs_no_allocation_either() {
    let settings = settings(&[("SHARDS", "1")], &route_uris(9));
    let forms = [Form::Raw, Form::Named { colors: true }, Form::Json];
    let routes = forms.map(|form| looking_on(form, &settings));
    let deaf = looking_on(Form::Json, &settings);
    // Few enough lines for the chunks that an outbox keeps.
    assert_eq!(through_memory(&routes, Some(&deaf), READ / 8, check_account), 0);
    let left_out = deaf.counters[0].dropped_buffer_full.get();
    assert!(left_out > LINES, "{left_out} of what it did not take");
}

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
    let (counter, uris) = (counter(), route_uris(drain()));
    let counted = || COUNTED.set(Some(counter));
    let shard = Shard::start(driver, &[("BUFFER", "64MiB")], &uris, counted);
    let routes = &shard.routes;
    let part = stream(PART as usize);
    let mut sent = 0;
    let mut send = |count: u64| {
        // Never so far ahead that a buffer could fill up, however slow the machine.
        for (number, _) in (0..count / PART).enumerate() {
            part.chunks(READ).for_each(|bytes| shard.engine.send_raw(ID, bytes));
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
    let before = counter.load(Relaxed);
    send(LINES);
    let allocations = counter.load(Relaxed) - before;
    assert_eq!(shard.stop(Duration::from_secs(5)), Some(0));
    allocations
}

#[test]
fn the_way_from_socket_to_socket_allocates_nothing_per_line() {
    with_drivers(|name, driver| {
        let allocations = through_a_shard(driver);
        say(&format!("shard, {name}: {allocations} allocations for {LINES} lines"));
        assert!(allocations <= ALLOWED, "{name}: {allocations}");
    });
}
