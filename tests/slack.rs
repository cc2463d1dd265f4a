//! Slack routes of the real program, from a scripted engine to a webhook on loopback over HTTPS:
//! each answer, each failure, a flood; and what is counted then.

use std::time::{Duration, Instant};

mod support;

use support::engine::{Engine, Stream, inspect};
use support::logchute::{Logchute, Setup};
use support::pki::Pki;
use support::receivers::StreamSink;
use support::webhook::{OK, Posted, Reply, Webhook};
use support::{drivers, full, say, side_by_side, wait_until};

const ID: &str = "3edafbdfe8dbd1349ef2c5ae783545a50a2502d1886b231de6aae0f6d4bf417d";
/// What must never be shown.
const SECRET: &str = "sEcReTpAtH";
const LONG: Duration = Duration::from_secs(20);

/// A webhook, an engine with one container `web`, and the program between them.
struct Scene {
    hook: Webhook,
    engine: Engine,
    program: Logchute,
    _pki: Pki,
}

impl Scene {
    fn new(replies: &[Reply]) -> Scene {
        Scene::with("auto", replies, |setup, hook| setup.arg(&route(hook)))
    }

    fn with(io: &str, replies: &[Reply], change: impl Fn(Setup, &Webhook) -> Setup) -> Scene {
        let pki = Pki::new();
        let hook = Webhook::new(&pki, replies);
        let engine = Engine::new();
        engine.add(inspect(ID, "web"), true);
        let program = change(setup(io, &engine, &pki), &hook).start();
        assert!(engine.wait_followed(&[ID], LONG), "{}", program.stderr());
        Scene { hook, engine, program, _pki: pki }
    }

    fn write(&self, lines: &str) {
        self.engine.write(ID, Stream::Out, lines.as_bytes());
    }

    fn metric(&self, name: &str) -> u64 {
        self.program.metric(name) as u64
    }

    fn wait_taken(&self, count: usize) -> Vec<Posted> {
        wait_until(LONG, || self.hook.taken().len() >= count);
        let taken = self.hook.taken();
        assert!(taken.len() >= count, "{taken:?}\n{}", self.program.stderr());
        taken
    }

    /// Ends the program: code 0, every line accounted for, nothing secret said.
    fn end(mut self) -> String {
        self.check_counts();
        let ended = self.program.stop();
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        assert!(!ended.stderr.contains(SECRET), "{}", ended.stderr);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended.stderr
    }

    /// Waits until nothing is held, and checks that the counts add up.
    fn check_counts(&self) {
        let counts = || {
            ["received", "filtered", "delivered", "dropped"]
                .map(|what| self.metric(&format!("logchute_lines_{what}")))
        };
        let all = wait_until(LONG, || {
            let [received, filtered, delivered, dropped] = counts();
            received == filtered + delivered + dropped
        });
        assert!(all, "{:?}\n{}", counts(), self.program.stderr());
        assert!(!self.program.metrics().contains(SECRET));
    }
}

fn setup(io: &str, engine: &Engine, pki: &Pki) -> Setup {
    Setup::new(io)
        .engine(Some(&engine.host()))
        .env("SHARDS", "2")
        .env("LOGCHUTE_LOG", "debug")
        .env("LOGSPOUT_TLS_CA_CERTS", &pki.ca().display().to_string())
        .env("LOGSPOUT_TLS_DISABLE_SYSTEM_ROOTS", "true")
        .env("SLACK_WEBHOOK_URL", &format!("/services/T0/B0/{SECRET}"))
}

fn route(hook: &Webhook) -> String {
    format!("slack://{}", hook.place())
}

#[test]
fn a_line_becomes_a_message_on_both_drivers() {
    for io in drivers() {
        let scene = Scene::with(io, &[], |setup, hook| setup.arg(&route(hook)));
        scene.write("disk <full> & \"more\" \u{1b}[31m\n\n");
        let taken = scene.wait_taken(1);
        let posted = &taken[0];
        assert_eq!(
            (posted.method.as_str(), posted.path.as_str()),
            ("POST", &*format!("/services/T0/B0/{SECRET}"))
        );
        assert!(posted.head.contains("content-type: application/json"), "{}", posted.head);
        assert!(posted.head.contains(&format!("host: {}", scene.hook.place())), "{}", posted.head);
        let expected = serde_json::json!({"attachments": [{
            "color": "danger", "title": "/web",
            "text": "disk &lt;full&gt; &amp; \"more\" \u{1b}[31m",
        }]});
        assert_eq!(posted.json(), expected);
        // The empty line is no message, and is counted.
        assert_eq!(scene.metric("logchute_lines_filtered"), 1);
        scene.end();
    }
}

#[test]
fn what_waits_is_put_together_and_repeats_are_folded() {
    let scene = Scene::new(&[]);
    scene.write("first\n");
    scene.wait_taken(1);
    let many: String = (0..200).map(|n| format!("line {n}\n")).collect();
    // The same again, within the window.
    scene.write(&format!("first\n{many}first\n"));
    let texts = || scene.hook.texts().join("\n");
    assert!(wait_until(LONG, || texts().contains("first (2 more times)")), "{}", texts());
    let texts = texts();
    assert!(texts.contains("line 0\n") && texts.contains(" more like this"), "{texts}");
    let shown = texts.lines().filter(|line| line.starts_with("line ")).count();
    let summed_up: u64 = texts
        .lines()
        .filter_map(|line| line.strip_suffix(" more like this")?.parse::<u64>().ok())
        .sum();
    assert_eq!(shown as u64 + summed_up, 200, "{texts}");
    wait_until(LONG, || scene.metric("logchute_lines_delivered") == 203);
    assert_eq!(scene.metric("logchute_lines_delivered"), 203);
    // The 200 less those shown, and one of the two repeats.
    assert_eq!(scene.metric("logchute_lines_summed_up"), summed_up + 1);
    assert!(scene.hook.taken().len() <= 8, "{}", scene.hook.taken().len());
    scene.end();
}

#[test]
fn a_message_that_did_not_arrive_is_sent_again() {
    let limited = Reply::Answer(429, "Retry-After: 2\r\n", "rate_limited");
    let replies = [limited, Reply::Answer(500, "", "oops"), Reply::Reset, Reply::Half];
    side_by_side(replies.len(), &replies, |reply| {
        let scene = Scene::new(std::slice::from_ref(reply));
        let start = Instant::now();
        scene.write("one\n");
        let taken = scene.wait_taken(1);
        assert_eq!(scene.hook.texts(), ["one"], "{reply:?}");
        let waited = taken[0].at - start;
        if matches!(reply, Reply::Answer(429, ..)) {
            assert!(waited >= Duration::from_millis(1900), "{reply:?}: {waited:?}");
        }
        scene.write("two\n");
        scene.wait_taken(2);
        assert_eq!(scene.hook.texts(), ["one", "two"]);
        assert_eq!(scene.hook.most_at_once(), 1);
        let said = scene.end();
        // A connection that ends early may have been idle for too long: no reason for alarm.
        if let Reply::Answer(..) = reply {
            assert!(said.contains("lines are held"), "{reply:?}: {said}");
        }
    });
}

/// A webhook that takes requests and never answers holds nobody up.
#[test]
fn a_webhook_that_hangs_is_given_up_and_harms_no_other_route() {
    let other = StreamSink::tcp();
    let scene = Scene::with("auto", &[Reply::Hang], |setup, hook| {
        setup.arg(&route(hook)).arg(&format!("raw+tcp://{}", other.address()))
    });
    scene.write("one\n");
    assert!(wait_until(LONG, || scene.hook.posted().len() == 1));
    for n in 0..50 {
        scene.write(&format!("line {n}\n"));
    }
    assert!(wait_until(Duration::from_secs(2), || other.newlines() == 51));
    // One request at a time: the next one goes out only when this one is given up.
    assert_eq!(scene.hook.posted().len(), 1);
    let taken = {
        wait_until(Duration::from_secs(40), || scene.hook.taken().len() >= 2);
        scene.hook.taken()
    };
    assert_eq!(taken[0].texts(), ["one"], "{taken:?}");
    let said = scene.end();
    assert!(said.contains("does not answer within 15 s"), "{said}");
}

#[test]
fn an_idle_connection_that_was_closed_costs_nothing() {
    let scene = Scene::new(&[Reply::OkAndClose]);
    scene.write("one\n");
    scene.wait_taken(1);
    scene.write("two\n");
    scene.wait_taken(2);
    assert_eq!(scene.metric("logchute_route_connections"), 1);
    scene.hook.close_connections();
    assert!(wait_until(LONG, || scene.metric("logchute_route_connections") == 0));
    scene.write("three\n");
    scene.wait_taken(3);
    assert_eq!(scene.hook.texts(), ["one", "two", "three"]);
    let said = scene.end();
    assert!(!said.contains("WARN"), "{said}");
}

/// A host that swallows every packet does not hold up the end.
#[test]
fn a_webhook_that_cannot_be_reached_does_not_hold_up_the_end() {
    let (pki, engine) = (Pki::new(), Engine::new());
    // A listener whose queue is full: whoever connects waits.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket2::SockRef::from(&listener).listen(0).unwrap();
    let place = listener.local_addr().unwrap();
    let _queued: Vec<_> = (0..3)
        .filter_map(|_| {
            std::net::TcpStream::connect_timeout(&place, Duration::from_millis(200)).ok()
        })
        .collect();
    let mut program = setup("auto", &engine, &pki).arg(&format!("slack://{place}")).start();
    let start = Instant::now();
    assert_eq!(program.stop().code, Some(0));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn a_dead_webhook_is_said_once_and_its_lines_counted() {
    for (status, word) in
        [(404, "no_service"), (403, "invalid_token"), (410, "channel_is_archived")]
    {
        let scene = Scene::new(&[]);
        scene.hook.otherwise(Reply::Answer(status, "", word));
        for n in 1..=20 {
            scene.write(&format!("line {n}\n"));
            wait_until(LONG, || scene.metric("logchute_lines_dropped") == n);
        }
        assert_eq!(scene.metric("logchute_lines_dropped"), 20);
        assert!(scene.program.metrics().contains("reason=\"refused\"} 20"));
        // Twice it was asked: the first answer might have been a slip.
        assert_eq!(scene.hook.posted().len(), 2);
        let said = scene.end();
        assert_eq!(said.matches("webhook is gone").count(), 1, "{said}");
        assert!(said.contains(&format!("{status} {word}: ")), "{said}");
    }
}

#[test]
fn a_refused_message_does_not_stop_the_next() {
    // Servers like to repeat the path in their error pages.
    let page = "<p>bad request to /services/T0/B0/sEcReTpAtH</p>";
    let scene = Scene::new(&[Reply::Answer(400, "", page), OK]);
    scene.write("one\n");
    assert!(wait_until(LONG, || scene.metric("logchute_lines_dropped") == 1));
    scene.write("two\n");
    scene.wait_taken(1);
    assert_eq!(scene.hook.texts(), ["two"]);
    let said = scene.end();
    assert!(said.contains("webhook refuses a message: answer 400"), "{said}");
}

#[test]
fn at_the_end_what_is_held_is_delivered_or_counted() {
    let scene = Scene::new(&[]);
    let lines: String = (0..300).map(|n| format!("line {n}\n")).collect();
    scene.write(&lines);
    assert!(wait_until(LONG, || scene.metric("logchute_lines_received") == 300));
    // No wait: what is held goes out while the program ends.
    let Scene { hook, mut program, .. } = scene;
    let ended = program.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let said = "300 lines received = 0 filtered + 0 joined to others + 300 delivered";
    assert!(ended.stderr.contains(said), "{ended:?}");
    assert!(!hook.texts().is_empty());

    let scene =
        Scene::with("auto", &[], |setup, hook| setup.arg(&route(hook)).env("DRAIN_TIMEOUT", "1s"));
    scene.hook.otherwise(Reply::Answer(503, "Retry-After: 60\r\n", ""));
    scene.write("one\n");
    assert!(wait_until(LONG, || scene.hook.posted().len() == 1));
    scene.write("two\nthree\n");
    assert!(wait_until(LONG, || scene.metric("logchute_lines_received") == 3));
    let Scene { mut program, .. } = scene;
    let ended = program.stop();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains(" + 0 delivered + 3 dropped (at exit 3) + 0 held"));
    assert!(ended.stderr.contains("3 lines were not delivered in time"), "{}", ended.stderr);
}

/// One message on the very way of a line, and in clear words what came back.
#[test]
fn slack_test_says_what_came_back() {
    let pki = Pki::new();
    let run = |hook: &Webhook, route: &str| {
        // No engine is needed.
        let setup = Setup::new("auto")
            .env("LOGSPOUT_TLS_CA_CERTS", &pki.ca().display().to_string())
            .env("LOGCHUTE_LOG", "debug")
            .env("SLACK_WEBHOOK_URL", &format!("https://{}/services/{SECRET}", hook.place()))
            .env("SLACK_TITLE_TEMPLATE", "%{.Message.Container.Name} on %{.Env.TZ}");
        let mut program = setup.arg("slack-test").arg(route).no_wait().start();
        let ended = program.wait(LONG).unwrap();
        assert!(!ended.stderr.contains(SECRET), "{}", ended.stderr);
        ended
    };
    let hook = Webhook::new(&pki, &[]);
    let ended = run(&hook, "slack://");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("has taken the message (answer 200 ok)"), "{}", ended.stderr);
    let attachment = &hook.taken()[0].attachments()[0];
    assert_eq!(attachment["title"], "/logchute-slack-test on UTC");
    assert!(attachment["text"].as_str().unwrap().contains("the webhook works"));

    let hook = Webhook::new(&pki, &[Reply::Answer(404, "", "no_service")]);
    let ended = run(&hook, "slack://,console://");
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let words = "has not taken the message: answer 404 no_service: the webhook was removed";
    assert!(ended.stderr.contains(words), "{}", ended.stderr);
    assert_eq!(hook.posted().len(), 1);

    let ended = run(&hook, "console://");
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("no route leads to Slack"), "{}", ended.stderr);
}

/// What cannot be reached or is not trusted is said at start, before there is a line.
#[test]
fn a_webhook_that_is_not_trusted_is_said_at_start() {
    let (pki, other) = (Pki::new(), Pki::new());
    let hook = Webhook::new(&other, &[]);
    let engine = Engine::new();
    let mut program = setup("auto", &engine, &pki).arg(&route(&hook)).start();
    let said = || program.stderr();
    let words = "add the PEM file of that authority to LOGSPOUT_TLS_CA_CERTS";
    assert!(wait_until(LONG, || said().contains(words)), "{}", said());
    assert!(said().contains("lines are held") && !said().contains(SECRET), "{}", said());
    assert_eq!(program.stop().code, Some(0));
}

/// What a flood did besides Slack.
#[derive(Default)]
struct Poured {
    took: Duration,
    /// How late the other route had the lines of a step, at most.
    behind: Duration,
}

/// Writes `lines` lines, 10,000 a second, and sees that `other` has each step at once.
fn pour(scene: &Scene, other: &StreamSink, lines: u64) -> Poured {
    const STEP: u64 = 500;
    let start = Instant::now();
    let mut poured = Poured::default();
    for step in 0..lines / STEP {
        scene.write(&errors(step * STEP, STEP));
        let now = Instant::now();
        let count = ((step + 1) * STEP) as usize;
        assert!(wait_until(LONG, || other.newlines() >= count), "step {step}");
        poured.behind = poured.behind.max(now.elapsed());
        let due = Duration::from_millis(50 * (step + 1));
        std::thread::sleep(due.saturating_sub(start.elapsed()));
    }
    poured.took = start.elapsed();
    poured
}

/// Writes `lines` lines without a pause; returns how many a second `other` had of them.
fn rush(scene: &Scene, other: &StreamSink, lines: u64) -> u64 {
    const STEP: u64 = 1000;
    let before = other.newlines();
    let steps: Vec<String> = (0..lines / STEP).map(|n| errors(n * STEP, STEP)).collect();
    let start = Instant::now();
    for step in &steps {
        scene.write(step);
    }
    assert!(wait_until(2 * LONG, || other.newlines() - before >= lines as usize));
    (lines as f64 / start.elapsed().as_secs_f64()) as u64
}

/// Lines that the filter takes.
fn errors(first: u64, count: u64) -> String {
    (first..first + count).map(|n| format!("error {n:06} of the flood\n")).collect()
}

/// Waits until every line has gone its way; how many messages hold, shown or counted.
fn accounted(scene: &Scene) -> u64 {
    scene.check_counts();
    let texts = scene.hook.texts();
    let counts = texts.iter().flat_map(|text| text.lines()).map(|line| {
        let more = line.strip_suffix(" more like this");
        more.map_or(1, |count| count.parse::<u64>().unwrap())
    });
    counts.sum()
}

/// 100,000 lines in 10 s, or 20,000 in 2 s, to a webhook that takes one message a second, beside a
/// syslog route; then as many as fast as they go.
#[test]
fn a_flood() {
    let lines = if full() { 100_000 } else { 20_000 };
    let rushed = if full() { 1_000_000 } else { 100_000 };
    let other = StreamSink::tcp();
    let syslog = format!("syslog+tcp://{}", other.address());
    let alone = Scene::with("auto", &[], |setup, _| setup.arg(&syslog));
    let alone_behind = pour(&alone, &other, lines / 5).behind;
    let alone_rate = rush(&alone, &other, rushed);
    alone.end();

    let other = StreamSink::tcp();
    let syslog = format!("syslog+tcp://{}", other.address());
    let scene = Scene::with("auto", &[], |setup, hook| {
        setup.arg(&format!("{}?slack.message_filter=error", route(hook))).arg(&syslog)
    });
    scene.hook.take_one_every(Duration::from_secs(1));
    let before = memory(&scene.program, "VmRSS:");
    let Poured { took, behind } = pour(&scene, &other, lines);
    let said = || format!("{}\n{}", scene.hook.texts().join("\n"), scene.program.stderr());
    assert_eq!(accounted(&scene), lines, "what the messages say does not add up:\n{}", said());
    let most = memory(&scene.program, "VmHWM:");
    let taken = scene.hook.taken();
    let gaps = taken.windows(2).map(|pair| pair[1].at - pair[0].at).min().unwrap_or_default();
    // Both routes have all.
    assert_eq!(scene.metric("logchute_lines_delivered"), 2 * lines);
    assert_eq!(scene.metric("logchute_lines_dropped"), 0);
    say(&format!(
        "flood: {lines} lines in {:.1} s: {} messages, {} answers 429, {lines} lines accounted \
         for, of these {} summed up; resident {before} kB before, {most} kB at most; the syslog \
         route was at most {} ms behind ({} ms without a Slack route)",
        took.as_secs_f64(),
        taken.len(),
        scene.hook.posted().len() - taken.len(),
        scene.metric("logchute_lines_summed_up"),
        behind.as_millis(),
        alone_behind.as_millis()
    ));
    assert!(gaps >= Duration::from_millis(900), "{gaps:?}");
    assert!(taken.len() as u64 <= took.as_secs() + 5, "{}", taken.len());
    assert!(most - before < 16 * 1024, "{before} kB, then {most} kB");
    let rate = rush(&scene, &other, rushed);
    let dropped = scene.metric("logchute_lines_dropped");
    assert_eq!(accounted(&scene) + dropped, lines + rushed);
    say(&format!(
        "rush: {rushed} lines as fast as they go: the syslog route has {rate} a second, {alone_rate} \
         without a Slack route; {dropped} of Slack's were dropped; resident {} kB at most",
        memory(&scene.program, "VmHWM:")
    ));
    scene.end();
}

/// What the kernel says of the program's memory, in kB.
fn memory(program: &Logchute, what: &str) -> u64 {
    let status = format!("/proc/{}/status", program.process.pid());
    let text = std::fs::read_to_string(status).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(what)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
