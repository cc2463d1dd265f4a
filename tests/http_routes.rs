//! `/routes`, `/ready` and who may use them, on the real program: what the recordings of Logspout do
//! not cover, for it has none of it, or is wrong.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use serde_json::{Value, json};

mod support;

use support::engine::{Engine, Stream, inspect};
use support::http::{Answer, ask};
use support::logchute::{Logchute, Setup};
use support::pki::Pki;
use support::receivers::{StreamSink, free_port};
use support::wait_until;
use support::webhook::Webhook;

const ID: &str = "3edafbdfe8dbd1349ef2c5ae783545a50a2502d1886b231de6aae0f6d4bf417d";
const LONG: Duration = Duration::from_secs(60);

/// An engine with one container `web`, and the program.
struct Scene {
    engine: Engine,
    program: Logchute,
}

impl Scene {
    fn new(change: impl Fn(Setup) -> Setup) -> Scene {
        let engine = Engine::new();
        engine.add(inspect(ID, "web"), true);
        let setup = Setup::new("auto").engine(Some(&engine.host())).env("SHARDS", "2");
        let program = change(setup.env("ROUTESPATH", "/there-is-no-such-directory")).start();
        assert!(engine.wait_followed(&[ID], LONG), "{}", program.stderr());
        Scene { engine, program }
    }

    fn write(&self, text: &str) {
        self.engine.write(ID, Stream::Out, text.as_bytes());
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        ask(self.program.http(), method, path, &[], body).unwrap()
    }

    fn post(&self, body: &Value) -> Answer {
        self.ask("POST", "/routes", &body.to_string())
    }

    /// Makes a raw route over TCP.
    fn lead_to(&self, id: &str, receiver: SocketAddr) {
        let address = receiver.to_string();
        let answer = self.post(&json!({"id": id, "adapter": "raw+tcp", "address": address}));
        assert_eq!(answer.status, 201, "{}", answer.body);
    }

    /// The body of `/ready`, and whether its status says the same.
    fn ready(&self) -> Value {
        let answer = self.ask("GET", "/ready", "");
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(answer.status, if body["ready"] == true { 200 } else { 503 });
        body
    }

    fn end(mut self) -> String {
        let ended = self.program.stop();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        ended.stderr
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn two_hundred_routes_over_http_beside_one_that_stays() {
    let (staying, passing) = (StreamSink::tcp(), StreamSink::tcp());
    let constant = format!("syslog+tcp://{}", staying.address());
    let scene = Scene::new(|setup| setup.arg(&constant));
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(SeqCst) {
                scene.write(&format!("{}\n", written.fetch_add(1, SeqCst)));
            }
        });
        for round in 0..100 {
            let mut ids = Vec::new();
            for part in ["a", "b"] {
                let filter = if round % 3 == 0 { "5$" } else { "" };
                let answer = scene.post(&json!({
                    "adapter": "raw+tcp", "address": passing.address().to_string(),
                    "filter_sources": ["stdout"], "options": {"filter.match": filter, "x": part},
                }));
                assert_eq!(answer.status, 201, "{}", answer.body);
                let route: Value = serde_json::from_str(&answer.body).unwrap();
                ids.push(route["id"].as_str().unwrap().to_owned());
            }
            for id in ids {
                assert_eq!(scene.ask("DELETE", &format!("/routes/{id}"), "").status, 200);
            }
        }
        stop.store(true, SeqCst);
    });
    let all = written.load(SeqCst);
    assert!(wait_until(LONG, || staying.newlines() as u64 == all), "{}", staying.newlines());
    let received = String::from_utf8(staying.received().concat()).unwrap();
    let numbers = received.lines().map(|line| line.rsplit(' ').next().unwrap().parse().unwrap());
    assert_eq!(numbers.collect::<Vec<u64>>(), (0..all).collect::<Vec<_>>());
    assert!(wait_until(LONG, || passing.ended() == passing.connections()));
    // What went over the others came in order, and each line once.
    for bytes in passing.received() {
        let text = String::from_utf8(bytes).unwrap();
        let numbers: Vec<u64> = text.lines().map(|line| line.parse().unwrap()).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    }
    let metrics = scene.program.metrics();
    let routes = metrics.lines().filter(|line| line.starts_with("logchute_route_info{")).count();
    assert_eq!(routes, 1, "{metrics}");
    assert!(passing.newlines() > 0);
    let removed = || scene.program.stderr().matches(" removed: ").count();
    assert!(wait_until(LONG, || removed() == 200), "{}", removed());
    scene.end();
}

#[test]
fn a_route_that_goes_closes_its_connection_and_one_that_is_replaced_too() {
    let (one, other) = (StreamSink::tcp(), StreamSink::tcp());
    let scene = Scene::new(|setup| setup);
    scene.lead_to("r", one.address());
    assert!(wait_until(LONG, || one.connections() == 1));
    let number = AtomicU64::new(0);
    let write = || scene.write(&format!("{}\n", number.fetch_add(1, SeqCst)));
    assert!(wait_until(LONG, || {
        write();
        one.newlines() > 10
    }));
    scene.lead_to("r", other.address());
    assert!(wait_until(LONG, || {
        write();
        other.newlines() > 10
    }));
    assert!(wait_until(LONG, || one.ended() == one.connections()), "{}", one.connections());
    assert_eq!(scene.ask("DELETE", "/routes/r", "").status, 200);
    assert!(wait_until(LONG, || other.ended() == other.connections()));
    assert_eq!(scene.ask("DELETE", "/routes/r", "").status, 404);
    // Every line went to the one or the other, in order.
    let received = [one.received().concat(), other.received().concat()].concat();
    let text = String::from_utf8(received).unwrap();
    let numbers: Vec<u64> = text.lines().map(|line| line.parse().unwrap()).collect();
    let first = numbers[0];
    assert_eq!(numbers, (first..first + numbers.len() as u64).collect::<Vec<_>>());
    scene.end();
}

#[test]
fn a_receiver_that_is_down_is_said_until_it_is_there() {
    let mut receiver = StreamSink::tcp();
    receiver.down();
    let scene = Scene::new(|setup| setup);
    assert_eq!(scene.ready()["docker"]["connected"], true);
    let answer = scene.post(&json!({
        "id": "late", "adapter": "syslog+tcp", "address": receiver.address().to_string(),
        "options": {"structured_data": "sEcReT@1 a=\"b\""},
    }));
    assert_eq!(answer.status, 201, "{}", answer.body);
    let state = |scene: &Scene| {
        let ready = scene.ready();
        assert!(!ready.to_string().contains("sEcReT"), "{ready}");
        let routes = ready["routes"].as_array().unwrap().clone();
        (ready["ready"] == true, routes.into_iter().find(|r| r["route"] == "late").unwrap())
    };
    assert!(wait_until(LONG, || state(&scene).1["state"] == "down"));
    let (ready, route) = state(&scene);
    assert!(!ready && route["reason"].as_str().unwrap().contains("refused"), "{route}");
    assert!(route["down_seconds"].is_u64());
    assert!(wait_until(LONG, || {
        scene.write("x\n");
        state(&scene).1["held"].as_u64() > Some(0)
    }));
    receiver.up();
    assert!(wait_until(LONG, || state(&scene).0), "{:?}", state(&scene));
    assert!(wait_until(LONG, || state(&scene).1["held"] == 0));
    let (_, route) = state(&scene);
    assert_eq!((&route["state"], &route["reason"]), (&json!("connected"), &Value::Null));
    scene.end();
}

#[test]
fn a_daemon_that_is_away_is_said() {
    let mut scene = Scene::new(|setup| setup);
    assert!(wait_until(LONG, || scene.ready()["ready"] == true));
    scene.engine.go_down();
    assert!(wait_until(LONG, || scene.ready()["docker"]["connected"] == false));
    assert_eq!(scene.ask("GET", "/health", "").status, 200);
    scene.engine.up();
    assert!(wait_until(LONG, || scene.ready()["ready"] == true));
    scene.end();
}

/// Asked for `lines`, a route tells what became of them; metrics tell the same.
#[test]
fn a_route_tells_what_became_of_its_lines() {
    let (taking, silent) = (StreamSink::tcp(), free_port());
    let scene = Scene::new(|setup| {
        let multiline = "multiline.pattern=^more&multiline.match=nonfirst";
        let all = format!("raw+tcp://{}?filter.exclude=skip", taking.address());
        let away = format!("multiline+raw+tcp://127.0.0.1:{silent}?{multiline}");
        let setup = setup.env("MULTILINE_FLUSH_AFTER", "3600000").env("DRAIN_TIMEOUT", "100ms");
        setup.arg(&all).arg(&away)
    });
    scene.write("one\nskip\nhead\nmore\nmore\n");
    assert!(wait_until(LONG, || scene.program.metric("logchute_lines_delivered") == 4.0));
    let counted = scene.ask("GET", "/routes?lines", "").body;
    let routes: Vec<Value> = serde_json::from_str(&counted).unwrap();
    let account = |adapter: &str| {
        let route = routes.iter().find(|route| route["adapter"] == adapter).unwrap();
        let mut lines = route["lines"].clone();
        let dropped = lines["dropped"].as_object().unwrap();
        lines["dropped"] = dropped.values().flat_map(Value::as_u64).sum::<u64>().into();
        lines
    };
    let delivered = json!({"received": 5, "found": 0, "filtered": 1, "joined": 0, "delivered": 4, "dropped": 0,
                           "held": 0, "held_bytes": 0});
    assert_eq!(account("raw+tcp"), delivered);
    // Two records, and three lines that more may follow.
    let held = json!({"received": 5, "found": 0, "filtered": 0, "joined": 0, "delivered": 0, "dropped": 0,
                      "held": 5, "held_bytes": "one\nskip\nhead\nmore\nmore".len()});
    assert_eq!(account("multiline+raw+tcp"), held);
    assert_eq!(scene.program.metric("logchute_lines_held"), 5.0);
    assert_eq!(scene.program.metric("logchute_bytes_held"), 23.0);
    assert!(!scene.ask("GET", "/routes", "").body.contains("lines"));
    let Scene { mut program, .. } = scene;
    let said = program.stop().stderr;
    let account = ": 5 lines received = 0 filtered + 2 joined to others + 0 delivered + 3 dropped \
                   (at exit 3) + 0 held";
    assert!(said.contains(account), "{said}");
}

/// A line that no route takes is read all the same, and counted.
#[test]
fn lines_without_a_route_are_counted() {
    let sink = StreamSink::tcp();
    let route = format!("raw+tcp://{}?filter.sources=stderr", sink.address());
    let scene = Scene::new(|setup| setup.arg(&route));
    scene.write("one\ntwo\n");
    scene.engine.write(ID, Stream::Err, b"three\n");
    assert!(wait_until(LONG, || sink.newlines() == 1));
    assert_eq!(scene.program.metric("logchute_shard_lines_unrouted"), 2.0);
    assert_eq!(scene.program.metric("logchute_shard_lines_received"), 3.0);
    scene.end();
}

#[test]
fn ids_do_not_lead_out_of_their_directory() {
    let top = tempfile::tempdir().unwrap();
    let dir = top.path().join("routes");
    std::fs::create_dir(&dir).unwrap();
    let scene = Scene::new(|setup| setup.env("ROUTESPATH", dir.to_str().unwrap()));
    let route = |id: &str| json!({"id": id, "adapter": "raw+udp", "address": "127.0.0.1:9"});
    let (absolute, long) = (dir.join("x").display().to_string(), "x".repeat(300));
    for id in ["../x", "..", ".", ".x", "a/../../x", &absolute, "x\0", "x\n", &long] {
        let answer = scene.post(&route(id));
        assert_eq!(answer.status, 400, "{id:?}");
        assert!(answer.body.starts_with("Bad route: bad id: it "), "{}", answer.body);
    }
    for id in ["%2e%2e%2fx", "a b", "\u{fc}"] {
        assert_eq!(scene.post(&route(id)).status, 201, "{id}");
    }
    assert_eq!(names(&dir), ["%2e%2e%2fx.json", "a b.json", "\u{fc}.json"]);
    assert_eq!(names(top.path()), ["routes"]);
    for (path, status) in [("%2e%2e%2fx", 404), ("%252e%252e%252fx", 200), ("%C3%BC", 200)] {
        let answer = scene.ask("DELETE", &format!("/routes/{path}"), "");
        assert_eq!(answer.status, status, "{path}");
    }
    assert_eq!(names(&dir), ["a b.json"]);
    scene.end();
}

#[test]
fn what_was_left_half_written_or_is_no_route_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let good = "{\"adapter\": \"raw+udp\", \"address\": \"127.0.0.1:9\", \"id\": \"good\"}";
    for (name, text) in [
        (".half.json.tmp", "{\"id\": \"half\", \"adap"),
        ("broken.json", "{\"adapter\": \"sEcReT"),
        ("elsewhere.json", "{\"id\": \"../x\", \"adapter\": \"raw\", \"address\": \"a:1\"}"),
        ("good.json", good),
        ("notes.txt", "{}"),
    ] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let scene = Scene::new(|setup| setup.env("ROUTESPATH", path));
    let listed: Value = serde_json::from_str(&scene.ask("GET", "/routes", "").body).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(listed[0]["id"], "good");
    // The next file of that name is whole again.
    let answer = scene.post(&json!({"id": "broken", "adapter": "raw", "address": "127.0.0.1:9"}));
    assert_eq!(answer.status, 201);
    assert_eq!(names(dir.path()), ["broken.json", "elsewhere.json", "good.json", "notes.txt"]);
    let said = scene.end();
    assert!(said.contains("elsewhere.json: has no effect: bad id"), "{said}");
    assert!(said.contains("broken.json: is no route and has no effect: unexpected EOF"), "{said}");
    assert!(!said.contains("sEcReT"), "{said}");
    let scene = Scene::new(|setup| setup.env("ROUTESPATH", path));
    assert_eq!(scene.ask("GET", "/routes/broken", "").status, 200);
    scene.end();
}

/// A file is named by whoever writes it, and is not overwritten by another route of that name.
#[test]
fn a_route_does_not_take_the_file_of_another() {
    let dir = tempfile::tempdir().unwrap();
    let route = |id: &str| json!({"id": id, "adapter": "raw", "address": "127.0.0.1:9"});
    std::fs::write(dir.path().join("x.json"), route("y").to_string()).unwrap();
    let scene = Scene::new(|setup| setup.env("ROUTESPATH", dir.path().to_str().unwrap()));
    let refused = scene.post(&route("x"));
    assert_eq!(refused.status, 400);
    assert!(refused.body.contains("x.json is the file of the route \"y\""), "{}", refused.body);
    // It moves to a file of its own name when it is written.
    assert_eq!(scene.post(&route("y")).status, 201);
    assert_eq!(names(dir.path()), ["y.json"]);
    assert_eq!(scene.post(&route("x")).status, 201);
    assert_eq!(names(dir.path()), ["x.json", "y.json"]);
    scene.end();
}

#[test]
fn a_route_that_cannot_be_kept_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let scene = Scene::new(|setup| setup.env("ROUTESPATH", dir.path().to_str().unwrap()));
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::remove_dir(dir.path()).unwrap();
    let answer = scene.post(&json!({"id": "r", "adapter": "raw", "address": "127.0.0.1:9"}));
    assert_eq!(answer.status, 500, "{}", answer.body);
    assert_eq!(scene.ask("GET", "/routes/r", "").status, 404);
    scene.end();
}

#[test]
fn the_token_protects_lines_and_routes_and_nothing_else() {
    let scene = Scene::new(|setup| setup.env("HTTP_TOKEN", "s3cret-s3cret"));
    let with = |method: &str, path: &str, token: &str, body: &str| {
        let header = format!("Bearer {token}");
        ask(scene.program.http(), method, path, &[("Authorization", &header)], body).unwrap()
    };
    let route = json!({"id": "r", "adapter": "raw", "address": "127.0.0.1:9"}).to_string();
    for path in ["/health", "/ready", "/metrics"] {
        assert_ne!(scene.ask("GET", path, "").status, 401, "{path}");
    }
    for (method, path) in [
        ("GET", "/routes"),
        ("POST", "/routes"),
        ("GET", "/routes/r"),
        ("DELETE", "/routes/r"),
        ("GET", "/logs"),
        ("GET", "/logs/name:web"),
    ] {
        let missing = scene.ask(method, path, &route);
        assert_eq!(missing.status, 401, "{method} {path}");
        assert!(missing.header("www-authenticate").unwrap().starts_with("Bearer"));
        assert_eq!(with(method, path, "s3cret-s3creT", &route).status, 401, "{method} {path}");
    }
    assert_eq!(with("POST", "/routes", "s3cret-s3cret", &route).status, 201);
    assert_eq!(scene.ask("GET", "/routes/r?token=s3cret-s3cret", "").status, 200);
    assert_eq!(scene.ask("DELETE", "/routes/r?token=s3cret-s3cret", "").status, 401);
    assert_eq!(with("DELETE", "/routes/r", "s3cret-s3cret", "").status, 200);
    assert!(!scene.end().contains("s3cret"));
}

#[test]
fn who_is_not_on_loopback_needs_a_token_to_change_routes() {
    let everywhere = |setup: Setup| setup.listen("0.0.0.0");
    let route = json!({
        "id": "r", "adapter": "syslog", "address": "127.0.0.1:9",
        "options": {"structured_data": "sEcReT@1"},
    });
    let given = "syslog://127.0.0.1:9?structured_data=sEcReT@1";
    let scene = Scene::new(|setup| everywhere(setup).arg(given));
    let refused = scene.post(&route);
    assert_eq!(refused.status, 403);
    assert!(refused.body.contains("HTTP_TOKEN") && refused.body.contains("ROUTES_API=open"));
    let listed = scene.ask("GET", "/routes", "");
    assert_eq!(listed.status, 200);
    assert!(listed.body.contains("***") && !listed.body.contains("sEcReT"), "{}", listed.body);
    assert_eq!(scene.ask("DELETE", "/routes/x", "").status, 403);
    let said = scene.end();
    assert!(said.contains("http without HTTP_TOKEN") && said.contains("changing routes is off"));

    let scene = Scene::new(|setup| everywhere(setup).env("ROUTES_API", "open"));
    assert_eq!(scene.post(&route).status, 201);
    assert!(scene.end().contains("by ROUTES_API=open"));

    let scene = Scene::new(|setup| setup.env("ROUTES_API", "off"));
    assert_eq!((scene.ask("GET", "/routes", "").status, scene.post(&route).status), (403, 403));
    let said = scene.end();
    assert!(!said.contains("http without HTTP_TOKEN"), "{said}");
}

#[test]
fn a_webhook_that_comes_later_is_served_and_never_shown() {
    let pki = Pki::new();
    let hook = Webhook::new(&pki, &[]);
    let scene = Scene::new(|setup| setup.env("LOGSPOUT_TLS_CA_CERTS", pki.ca().to_str().unwrap()));
    let address = format!("{}/services/sEcReT", hook.place());
    let answer = scene.post(&json!({
        "id": "s", "adapter": "slack", "address": hook.place(),
        "options": {"slack.webhook_url": format!("https://{address}")},
    }));
    assert_eq!(answer.status, 201, "{}", answer.body);
    assert!(!answer.body.contains("sEcReT"), "{}", answer.body);
    assert!(!scene.ask("GET", "/routes", "").body.contains("sEcReT"));
    let other = scene.post(&json!({"id": "w", "adapter": "webhook+https", "address": address}));
    assert_eq!(other.status, 201, "{}", other.body);
    for path in ["/routes", "/routes/w", "/ready", "/metrics"] {
        let shown = scene.ask("GET", path, "").body;
        assert!(shown.contains(hook.place().as_str()), "{path}: {shown}");
        assert!(!shown.contains("sEcReT"), "{path}: {shown}");
    }
    assert_eq!(scene.ask("DELETE", "/routes/w", "").status, 200);
    // What was shown is not taken for what is meant.
    let shown = scene.ask("GET", "/routes/s", "").body;
    let again = scene.ask("POST", "/routes", &shown);
    assert_eq!(again.status, 400);
    assert!(again.body.starts_with("Bad route: *** stands for a secret"), "{}", again.body);
    let arrived = wait_until(LONG, || {
        scene.write("hello\n");
        std::thread::sleep(Duration::from_millis(50));
        !hook.taken().is_empty()
    });
    assert!(arrived, "{}", scene.program.stderr());
    assert!(wait_until(LONG, || scene.ready()["ready"] == true), "{}", scene.ready());
    assert_eq!(scene.ask("DELETE", "/routes/s", "").status, 200);
    assert!(wait_until(LONG, || scene.program.stderr().contains(" removed: ")));
    // Another one, on the same thread.
    scene.write("nobody hears this\n");
    let taken = hook.taken().len();
    scene.post(&json!({
        "id": "t", "adapter": "slack", "address": hook.place(),
        "options": {"slack.webhook_url": format!("https://{address}")},
    }));
    assert!(wait_until(LONG, || {
        scene.write("again\n");
        std::thread::sleep(Duration::from_millis(50));
        hook.taken().len() > taken
    }));
    let said = scene.end();
    assert!(!said.contains("sEcReT"), "{said}");
}
