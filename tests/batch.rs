//! Batches over HTTP, with receivers of our own that misbehave: no line is lost, what comes twice
//! is counted, order is kept for each container, and memory is bounded. Bodies are read by other
//! code than writes them: unpacked and parsed anew.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

mod support;

use support::engine::{Engine, Stream, inspect};
use support::limits::peak;
use support::logchute::{Ended, Logchute, Setup};
use support::pki::Pki;
use support::webhook::{OK, Posted, Reply, Webhook};
use support::{drivers, full, on_each_driver, say, side_by_side, wait_until};

const LONG: Duration = Duration::from_secs(30);
/// What must never be shown.
const SECRET: &str = "sEcReTpAtH";
const NAMES: [&str; 3] = ["web", "db", "cache"];

fn id(name: &str) -> String {
    format!("{:0<64}", name.bytes().map(|b| format!("{b:x}")).collect::<String>())
}

/// An engine with three containers, and the program.
struct Scene {
    engine: Engine,
    program: Logchute,
    written: BTreeMap<&'static str, usize>,
}

impl Scene {
    fn new(io: &str, routes: &[String], change: impl FnOnce(Setup) -> Setup) -> Scene {
        let engine = Engine::new();
        NAMES.iter().for_each(|name| engine.add(inspect(&id(name), name), true));
        let setup = Setup::new(io).engine(Some(&engine.host())).env("SHARDS", "2");
        let setup = setup.env("BATCH_WAIT", "50ms");
        let setup = routes.iter().fold(setup, |setup, route| setup.arg(route));
        let program = change(setup).start();
        let ids = NAMES.map(id);
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        assert!(engine.wait_followed(&ids, LONG), "{}", program.stderr());
        Scene { engine, program, written: BTreeMap::new() }
    }

    /// Each container writes so many numbered lines more.
    fn write(&mut self, count: usize) {
        for name in NAMES {
            let from = self.written.entry(name).or_default();
            let text: String = (*from..*from + count).map(|n| format!("{name} {n}\n")).collect();
            *from += count;
            self.engine.write(&id(name), Stream::Out, text.as_bytes());
        }
    }

    fn metric(&self, name: &str) -> u64 {
        self.program.metric(name) as u64
    }

    /// Waits until so many lines were delivered or dropped.
    fn wait_gone(&self, count: usize) {
        let gone = || {
            self.metric("logchute_lines_delivered") + self.metric("logchute_lines_dropped")
                == count as u64
        };
        let page = || self.program.metrics();
        assert!(wait_until(LONG, gone), "{}\n{}", page(), self.program.stderr());
    }

    /// Ends the program in order: nothing secret was said.
    fn end(mut self) -> Ended {
        assert!(!self.program.metrics().contains(SECRET), "{}", self.program.metrics());
        let ended = self.program.stop();
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        assert!(!ended.stderr.contains(SECRET), "{}", ended.stderr);
        ended
    }
}

/// A body as the program wrote it before it was compressed.
fn body(posted: &Posted) -> Vec<u8> {
    if !posted.head.contains("content-encoding: gzip") {
        return posted.body.clone();
    }
    let mut body = Vec::new();
    flate2::read::MultiGzDecoder::new(&*posted.body).read_to_end(&mut body).unwrap();
    body
}

/// The objects of a body: lines, or an array of them.
fn objects(posted: &Posted) -> Vec<Value> {
    let body = body(posted);
    if body.starts_with(b"[") {
        return serde_json::from_slice(&body).unwrap();
    }
    assert_eq!(body.last(), Some(&b'\n'), "{}", support::readable(&body));
    let lines = body.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

/// The numbers of the lines in objects, by container, in their order.
fn numbers(objects: &[Value]) -> BTreeMap<String, Vec<usize>> {
    let mut numbers: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for object in objects.iter().filter(|object| object.get("create").is_none()) {
        let message = object["message"].as_str().unwrap();
        let (name, number) = message.split(' ').next_tuple();
        assert_eq!(object["container"]["name"], *name);
        numbers.entry(name.to_owned()).or_default().push(number.parse().unwrap());
    }
    numbers
}

/// The first two words of a line.
trait Words<'a> {
    fn next_tuple(self) -> (&'a str, &'a str);
}

impl<'a, I: Iterator<Item = &'a str>> Words<'a> for I {
    fn next_tuple(mut self) -> (&'a str, &'a str) {
        (self.next().unwrap(), self.next().unwrap())
    }
}

/// What was taken, all in all.
fn taken(receiver: &Webhook) -> Vec<Value> {
    receiver.taken().iter().flat_map(objects).collect()
}

/// Panics unless each container's lines are there once, in order.
fn assert_whole(numbers: &BTreeMap<String, Vec<usize>>, count: usize, context: &str) {
    for name in NAMES {
        let got = &numbers[name];
        assert!(got.iter().copied().eq(0..count), "{name}: {got:?}\n{context}");
    }
}

/// Routes to a receiver, one of each kind, and what it says to a body that it takes.
fn route(kind: &str, place: &str) -> String {
    match kind {
        "sumo" => format!("sumo+http://{place}/receiver/v1/http/{SECRET}"),
        "loggly" => format!("loggly+http://{place}?loggly.token={SECRET}"),
        "elasticsearch" => {
            format!("elasticsearch+http://{place}?elasticsearch.api_key={SECRET}")
        }
        _ => format!("http+json://{place}/{SECRET}"),
    }
}

fn plain(replies: &[Reply]) -> (Webhook, String) {
    let receiver = Webhook::plain(replies);
    let place = receiver.place();
    (receiver, place)
}

#[test]
fn what_the_receiver_does_wrong_costs_no_line() {
    use Reply::*;
    let faults: [(&str, Reply, &str); 9] = [
        ("reset", Reset, "lines are held, trying until it works"),
        ("hang", Hang, "does not answer within 1 s"),
        ("half", Half, "in the middle of its answer"),
        ("503", Answer(503, "", "busy now"), "answer 503, \"busy now\""),
        ("429", Answer(429, "Retry-After: 1\r\n", ""), "answer 429: it asks for less at a time"),
        ("408", Answer(408, "", ""), "answer 408"),
        ("401", Answer(401, "", ""), "answer 401: it does not let us in; see JSON_URL"),
        ("404", Answer(404, "", SECRET), "nothing takes records there; see JSON_URL"),
        ("302", Answer(302, "Location: /x\r\n", ""), "leads elsewhere"),
    ];
    let cases: Vec<(&str, &(&str, Reply, &str))> =
        drivers().into_iter().flat_map(|io| faults.iter().map(move |fault| (io, fault))).collect();
    side_by_side(6, &cases, |(io, (name, fault, why))| {
        let (receiver, place) = plain(&[OK, fault.clone(), fault.clone()]);
        let route = format!("{}?batch.timeout=1s", route("json", &place));
        // One shard, so that a request that fails is followed by the next try.
        let mut scene = Scene::new(io, &[route], |setup| setup.env("SHARDS", "1"));
        for round in 1..=4 {
            scene.write(50);
            wait_until(Duration::from_millis(300), || receiver.posted().len() > round);
        }
        scene.wait_gone(600);
        let context = format!("{name}, {io}: {}", scene.program.stderr());
        assert_whole(&numbers(&taken(&receiver)), 200, &context);
        let again = scene.metric("logchute_lines_resent");
        assert!(again > 0, "{context}");
        let posted = receiver.posted();
        // Those that were not taken came again.
        let lost: usize = posted.iter().filter(|p| p.status != 200).map(|p| objects(p).len()).sum();
        assert!(again >= lost as u64 && lost > 0, "{again} of {lost}: {context}");
        if *name == "429" {
            let at = posted.iter().position(|posted| posted.status == 429).unwrap();
            let pause = posted[at + 1].at - posted[at].at;
            assert!(pause >= Duration::from_millis(950), "{pause:?}: {context}");
        }
        assert_eq!(scene.metric("logchute_lines_dropped"), 0);
        let said = scene.end().stderr;
        assert!(said.contains(why), "{why}: {said}");
    });
}

/// Who took a batch and could not say so gets it again: that is counted.
#[test]
fn what_comes_twice_is_counted() {
    on_each_driver(|io| {
        let (receiver, place) = plain(&[Reply::TakeAndReset]);
        let mut scene = Scene::new(io, &[route("json", &place)], |setup| setup);
        scene.write(100);
        scene.wait_gone(300);
        let numbers = numbers(&taken(&receiver));
        let all: usize = numbers.values().map(Vec::len).sum();
        let again = scene.metric("logchute_lines_resent");
        assert!(again > 0 && all as u64 - 300 <= again, "{all} {again}");
        for name in NAMES {
            let mut once = numbers[name].clone();
            once.sort_unstable();
            once.dedup();
            assert!(once.iter().copied().eq(0..100), "{once:?}");
        }
        scene.end();
    });
}

#[test]
fn what_is_refused_is_dropped_counted_and_said() {
    on_each_driver(|io| {
        let words = "no such field sEcReTpAtH";
        let (receiver, place) = plain(&[OK, Reply::Answer(400, "", words)]);
        // One shard, so that the second request is known.
        let one = |setup: Setup| setup.env("SHARDS", "1");
        let mut scene = Scene::new(io, &[route("json", &place)], one);
        for round in 1..=3 {
            scene.write(10);
            scene.wait_gone(30 * round);
        }
        assert_eq!(scene.metric("logchute_lines_delivered") as usize, taken(&receiver).len());
        let refused = receiver.posted().iter().filter(|posted| posted.status == 400).count();
        assert_eq!(refused, 1);
        let lost = 90 - taken(&receiver).len() as u64;
        assert_eq!(scene.metric("logchute_lines_dropped"), lost);
        assert!(lost > 0 && scene.program.metrics().contains("reason=\"refused\""));
        let said = scene.end().stderr;
        let expected = format!("refused {lost} lines, which are dropped: answer 400, \"no such");
        assert!(said.contains(&expected), "{expected}: {said}");
    });
}

/// A receiver with a limit of its own: batches become smaller, and a line that is too long by
/// itself is dropped.
#[test]
fn what_is_too_large_is_halved() {
    on_each_driver(|io| {
        let got = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&got);
        let receiver = Webhook::judging(move |posted| {
            if body(posted).len() > 3000 {
                return Reply::Answer(413, "", "");
            }
            kept.lock().unwrap().extend(objects(posted));
            OK
        });
        let mut scene = Scene::new(io, &[route("json", &receiver.place())], |setup| setup);
        scene.write(100);
        let long = format!("web {}\n", "x".repeat(5000));
        scene.engine.write(&id("web"), Stream::Out, long.as_bytes());
        scene.write(100);
        scene.wait_gone(601);
        assert_eq!(scene.metric("logchute_lines_dropped"), 1);
        assert_whole(&numbers(&got.lock().unwrap()), 200, &scene.program.stderr());
        let said = scene.end().stderr;
        assert!(said.contains("refused 1 lines, which are dropped: answer 413"), "{said}");
        assert!(said.contains("bytes are tried"), "{said}");
    });
}

/// Each document has its own outcome: those that were taken do not come again, those that were
/// refused are dropped, and those that were to come again do, in their order.
#[test]
fn documents_have_their_own_outcomes() {
    on_each_driver(|io| {
        let got: Arc<Mutex<(Vec<Value>, u64)>> = Arc::default();
        let kept = Arc::clone(&got);
        let receiver = Webhook::judging(move |posted| {
            assert!(posted.path.starts_with("/logs-docker-default/_bulk?filter_path="));
            assert!(posted.head.contains("authorization: apikey"));
            let objects = objects(posted);
            let mut kept = kept.lock().unwrap();
            kept.1 += 1;
            let first = kept.1 <= 2;
            let items: Vec<Value> = objects
                .chunks(2)
                .map(|pair| {
                    assert_eq!(pair[0], json!({"create": {}}));
                    let number = pair[1]["message"].as_str().unwrap().rsplit(' ').next().unwrap();
                    let error = json!({"type": "some_exception", "reason": "why not"});
                    match number.parse::<usize>().unwrap() {
                        n if n % 10 == 3 => json!({"create": {"status": 400, "error": error}}),
                        n if n % 10 == 7 && first => json!({"create": {"status": 429}}),
                        _ => {
                            kept.0.push(pair[1].clone());
                            json!({"create": {"status": 201}})
                        }
                    }
                })
                .collect();
            Reply::Told(200, json!({"errors": true, "items": items}).to_string())
        });
        let route = route("elasticsearch", &receiver.place());
        let mut scene = Scene::new(io, &[route], |setup| setup);
        scene.write(100);
        scene.wait_gone(300);
        assert_eq!(scene.metric("logchute_lines_dropped"), 30);
        let numbers = numbers(&got.lock().unwrap().0);
        for name in NAMES {
            let mut got = numbers[name].clone();
            // Those that came again are in order among themselves.
            assert!(got.iter().filter(|n| **n % 10 == 7).is_sorted(), "{got:?}");
            assert!(got.iter().filter(|n| **n % 10 != 7).is_sorted(), "{got:?}");
            got.sort_unstable();
            assert!(got.iter().copied().eq((0..100).filter(|n| n % 10 != 3)), "{got:?}");
        }
        assert!(scene.metric("logchute_lines_resent") >= 10);
        let said = scene.end().stderr;
        assert!(said.contains("400 some_exception: why not"), "{said}");
        assert!(said.contains("records were not taken: 429"), "{said}");
    });
}

#[test]
fn a_receiver_that_reads_slowly_gets_all() {
    on_each_driver(|io| {
        let (receiver, place) = plain(&[]);
        receiver.read_slowly(true);
        let route = format!("{}?batch.gzip=off&batch.size=64KiB", route("json", &place));
        let mut scene = Scene::new(io, &[route], |setup| setup);
        scene.write(400);
        std::thread::sleep(Duration::from_secs(1));
        receiver.read_slowly(false);
        scene.wait_gone(1200);
        assert_whole(&numbers(&taken(&receiver)), 400, &scene.program.stderr());
        assert!(receiver.posted().iter().all(|posted| body(posted).len() <= 64 << 10));
        scene.end();
    });
}

/// A receiver that stands still costs a route its BUFFER and one body a shard, whatever comes.
#[test]
fn a_receiver_that_hangs_costs_no_more_memory_than_it_may() {
    on_each_driver(|io| {
        let (receiver, place) = plain(&[]);
        receiver.otherwise(Reply::Hang);
        let route = format!("{}?overflow=drop-oldest", route("json", &place));
        let small = |setup: Setup| setup.env("BUFFER", "1MiB").env("DRAIN_TIMEOUT", "1s");
        let scene = Scene::new(io, &[route], small);
        let before = peak(scene.program.process.pid());
        let text = format!("{}\n", "x".repeat(199)).repeat(500);
        for _ in 0..100 {
            NAMES.iter().for_each(|n| scene.engine.write(&id(n), Stream::Out, text.as_bytes()));
        }
        let all = || scene.metric("logchute_lines_received") == 150_000;
        assert!(wait_until(LONG, all), "{}", scene.program.stderr());
        let more = peak(scene.program.process.pid()) - before;
        assert!(more < 12 << 20, "{} KiB more for 30 MB of lines", more >> 10);
        assert!(scene.metric("logchute_lines_dropped") > 100_000);
        assert_eq!(scene.metric("logchute_lines_delivered"), 0);
        // Ends in time: the account says what became of all.
        scene.end();
    });
}

/// The certificate is checked, and what is wrong with it is said; a proxy and TLS are those of the
/// webhooks, and are tested there.
#[test]
fn certificates_are_checked() {
    let pki = Pki::new();
    on_each_driver(|io| {
        let receiver = Webhook::new(&pki, &[]);
        let route = format!("https+json://{}/{SECRET}?json.framing=array", receiver.place());
        let with = |ca: std::path::PathBuf| {
            move |setup: Setup| {
                let setup = setup.env("LOGSPOUT_TLS_DISABLE_SYSTEM_ROOTS", "true");
                setup.env("LOGSPOUT_TLS_CA_CERTS", ca.to_str().unwrap()).env("DRAIN_TIMEOUT", "1s")
            }
        };
        let mut stranger = Scene::new(io, std::slice::from_ref(&route), with(pki.other_ca()));
        stranger.write(1);
        let said = || stranger.program.stderr();
        assert!(wait_until(LONG, || said().contains("certificate")), "{}", said());
        assert!(receiver.posted().is_empty());
        stranger.end();
        let mut scene = Scene::new(io, &[route], with(pki.ca()));
        scene.write(20);
        scene.wait_gone(60);
        assert_whole(&numbers(&taken(&receiver)), 20, &scene.program.stderr());
        let posted = receiver.taken();
        assert!(body(&posted[0]).starts_with(b"[{"));
        assert!(posted[0].head.contains("content-type: application/json"), "{}", posted[0].head);
        scene.end();
    });
}

/// What waits for others goes at once when the program ends.
#[test]
fn the_last_batch_goes_out_at_the_end() {
    on_each_driver(|io| {
        let (receiver, place) = plain(&[]);
        let late = |setup: Setup| setup.env("BATCH_WAIT", "60s");
        let mut scene = Scene::new(io, &[route("sumo", &place)], late);
        scene.write(10);
        assert!(wait_until(LONG, || scene.metric("logchute_lines_received") == 30));
        assert!(receiver.posted().is_empty());
        let began = Instant::now();
        scene.end();
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        assert_whole(&numbers(&taken(&receiver)), 10, "");
    });
}

/// While the receiver is away lines go to the spool; when it is back, all come, once and in order,
/// also those that an earlier run of the program left there.
#[test]
fn a_spool_keeps_what_a_receiver_that_is_away_does_not_take() {
    on_each_driver(|io| {
        let folder = tempfile::tempdir().unwrap();
        let (receiver, place) = plain(&[]);
        receiver.otherwise(Reply::Answer(503, "", ""));
        let spool = |setup: Setup| {
            let setup = setup.env("SPOOL_DIR", folder.path().to_str().unwrap());
            setup.env("BUFFER", "64KiB").env("DRAIN_TIMEOUT", "1s")
        };
        let mut scene = Scene::new(io, &[route("loggly", &place)], spool);
        scene.write(1000);
        let spooled = || scene.metric("logchute_spool_records") > 0;
        assert!(wait_until(LONG, spooled), "{}", scene.program.metrics());
        let said = scene.end().stderr;
        receiver.otherwise(OK);
        let scene = Scene::new(io, &[route("loggly", &place)], spool);
        scene.wait_gone(3000);
        assert_whole(&numbers(&taken(&receiver)), 1000, &said);
        scene.end();
    });
}

/// After `kill -9` everything that was not acknowledged comes, with the help of `STATE_DIR`.
#[test]
fn a_killed_program_loses_nothing_that_was_not_acknowledged() {
    on_each_driver(|io| {
        let folder = tempfile::tempdir().unwrap();
        let (receiver, place) = plain(&[OK, OK, Reply::Hang]);
        let state = |setup: Setup| {
            setup.env("STATE_DIR", folder.path().to_str().unwrap()).env("SHARDS", "1")
        };
        let mut scene = Scene::new(io, &[route("json", &place)], state);
        let rounds = 8;
        for round in 1..=rounds {
            scene.write(20);
            wait_until(Duration::from_millis(100), || receiver.posted().len() > round);
        }
        assert!(wait_until(LONG, || receiver.posted().len() == 3));
        scene.program.kill();
        let engine = scene.engine;
        drop(scene.program);
        receiver.close_connections();
        let setup = Setup::new(io).engine(Some(&engine.host())).env("BATCH_WAIT", "50ms");
        let mut program = state(setup).arg(&route("json", &place)).start();
        let all = |numbers: &BTreeMap<String, Vec<usize>>| {
            NAMES.iter().all(|name| {
                let got = numbers.get(*name).cloned().unwrap_or_default();
                (0..20 * rounds).all(|n| got.contains(&n))
            })
        };
        let done = wait_until(LONG, || all(&numbers(&taken(&receiver))));
        assert!(done, "{:?}\n{}", numbers(&taken(&receiver)), program.stderr());
        program.stop();
    });
}

/// What a receiver of the large test has seen.
#[derive(Default)]
struct Seen {
    requests: AtomicU64,
    refusals: AtomicU64,
    /// The next number of each container, and how many came twice.
    next: Mutex<(BTreeMap<String, u64>, u64)>,
}

impl Seen {
    /// Takes a body in; panics where a line is missing or out of order.
    fn take(&self, posted: &Posted) {
        let body = body(posted);
        let mut next = self.next.lock().unwrap();
        let (next, twice) = &mut *next;
        for line in body.split(|&byte| byte == b'\n').filter(|line| line.starts_with(b"{\"cont")) {
            let object: Object<'_> = serde_json::from_slice(line).unwrap();
            let (name, number) = object.message.split(' ').next_tuple();
            let number: u64 = number.parse().unwrap();
            let expected = next.entry(name.to_owned()).or_default();
            if number == *expected {
                *expected += 1;
            } else {
                assert!(number < *expected, "{name}: {number} where {expected} was to come");
                *twice += 1;
            }
        }
    }

    fn counted(&self) -> u64 {
        self.next.lock().unwrap().0.values().sum()
    }
}

#[derive(serde::Deserialize)]
struct Object<'a> {
    message: &'a str,
}

/// A receiver that says 429 or 503 to one request in twenty.
fn moody(seen: &Arc<Seen>) -> Webhook {
    let seen = Arc::clone(seen);
    Webhook::judging(move |posted| {
        let number = seen.requests.fetch_add(1, SeqCst) + 1;
        if number.is_multiple_of(20) {
            seen.refusals.fetch_add(1, SeqCst);
            let status = if number.is_multiple_of(40) { 503 } else { 429 };
            return Reply::Answer(status, "", "");
        }
        seen.take(posted);
        Reply::Told(200, json!({"errors": false}).to_string())
    })
}

/// Sumo, Loggly and Elasticsearch under 50,000 lines a second for a minute, with one answer in
/// twenty a refusal: nothing is lost, nothing is out of order, memory is bounded. In CI less, and
/// with smaller batches, so that there are as many answers.
#[test]
fn receivers_that_refuse_now_and_then_get_all_in_order() {
    let (rate, secs, size) = if full() { (50_000, 60, "1000kB") } else { (3_000, 3, "16KiB") };
    let kinds = ["sumo", "loggly", "elasticsearch"];
    for io in drivers() {
        let seen: Vec<Arc<Seen>> = kinds.iter().map(|_| Arc::default()).collect();
        let receivers: Vec<Webhook> = seen.iter().map(moody).collect();
        let routes = kinds.iter().zip(&receivers);
        let routes: Vec<String> = routes.map(|(kind, to)| route(kind, &to.place())).collect();
        let scene = Scene::new(io, &routes, |setup| {
            setup.env("BATCH_SIZE", size).env("BUFFER", "16MiB").env("DRAIN_TIMEOUT", "30s")
        });
        let began = Instant::now();
        let mut numbers = [0_u64; NAMES.len()];
        let steps = secs * 20;
        for step in 1..=steps {
            for (name, number) in NAMES.iter().zip(&mut numbers) {
                let until = (rate * step / 20) as u64 / NAMES.len() as u64;
                let pad = "some text as it is in logs, of the usual length of about 150 bytes";
                let lines: String =
                    (*number..until).map(|n| format!("{name} {n} {pad} {pad}\n")).collect();
                *number = until;
                scene.engine.write(&id(name), Stream::Out, lines.as_bytes());
            }
            let due = began + Duration::from_millis(50) * step as u32;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let all: u64 = numbers.iter().sum();
        let came = || seen.iter().all(|seen| seen.counted() == all);
        let in_time = wait_until(Duration::from_secs(120), came);
        let counts: Vec<u64> = seen.iter().map(|seen| seen.counted()).collect();
        assert!(in_time, "{counts:?} of {all}: {}", scene.program.stderr());
        let took = began.elapsed().as_secs_f64();
        let memory = peak(scene.program.process.pid()) >> 20;
        scene.wait_gone(3 * all as usize);
        assert_eq!(scene.metric("logchute_lines_dropped"), 0);
        let again = scene.metric("logchute_lines_resent");
        let twice: u64 = seen.iter().map(|seen| seen.next.lock().unwrap().1).sum();
        assert!(twice <= again, "{twice} came twice, {again} were counted");
        for seen in &seen {
            let (requests, refusals) = (seen.requests.load(SeqCst), seen.refusals.load(SeqCst));
            assert!(refusals > 0 && requests > 20, "{requests} {refusals}");
        }
        let requests: Vec<u64> = seen.iter().map(|seen| seen.requests.load(SeqCst)).collect();
        say(&format!(
            "batches over {io}: {all} lines to each of {kinds:?} in {took:.1} s, requests \
             {requests:?}, sent again {again}, came twice {twice}, peak of {memory} MiB"
        ));
        // Three routes with their BUFFER, and for each shard a body, plain and compressed.
        assert!(memory < 3 * 16 + 2 * 3 * 2 + 60, "{memory} MiB");
        scene.end();
    }
}
