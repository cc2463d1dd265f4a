//! Routes to any webhook of the real program, from a scripted engine over HTTP and HTTPS to
//! webhooks on loopback, also through a proxy; and settings that come from files.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

mod support;

use support::engine::{Engine, Stream, inspect};
use support::http::ask;
use support::logchute::{Logchute, Setup};
use support::pki::{AFAR, Pki};
use support::proxy::Proxy;
use support::receivers::StreamSink;
use support::webhook::{Posted, Reply, Webhook};
use support::{side_by_side, wait_until};

const ID: &str = "3edafbdfe8dbd1349ef2c5ae783545a50a2502d1886b231de6aae0f6d4bf417d";
/// What must never be shown.
const SECRET: &str = "sEcReTpAtH";
const LONG: Duration = Duration::from_secs(30);

/// An engine with one container `web` of a Swarm service, and the program.
struct Scene {
    engine: Engine,
    program: Logchute,
    _pki: Pki,
}

impl Scene {
    fn new(pki: Pki, change: impl FnOnce(Setup) -> Setup) -> Scene {
        let engine = Engine::new();
        let mut container = inspect(ID, "web");
        container["Config"]["Labels"] = json!({
            "com.docker.swarm.service.name": "shop_web",
            "com.docker.swarm.task.name": "shop_web.1.abc",
            "com.docker.swarm.node.id": "n0de",
            "com.docker.stack.namespace": "shop",
        });
        engine.add(container, true);
        let setup = setup(&pki).engine(Some(&engine.host())).env("SHARDS", "2");
        let program = change(setup).start();
        assert!(engine.wait_followed(&[ID], LONG), "{}", program.stderr());
        Scene { engine, program, _pki: pki }
    }

    fn write(&self, lines: &str) {
        self.engine.write(ID, Stream::Err, lines.as_bytes());
    }

    fn metric(&self, name: &str) -> u64 {
        self.program.metric(name) as u64
    }

    fn wait_taken(&self, hook: &Webhook, count: usize) -> Vec<Posted> {
        wait_until(LONG, || hook.taken().len() >= count);
        let taken = hook.taken();
        assert!(taken.len() >= count, "{taken:?}\n{}", self.program.stderr());
        taken
    }

    /// Ends the program: code 0, every line accounted for, nothing secret said.
    fn end(mut self) -> String {
        let counts = || {
            ["received", "filtered", "delivered", "dropped"]
                .map(|what| self.metric(&format!("logchute_lines_{what}")))
        };
        let routes = self.program.metrics().matches("logchute_lines_filtered_total{").count();
        let all = wait_until(LONG, || {
            let [received, filtered, delivered, dropped] = counts();
            received * routes as u64 == filtered + delivered + dropped
                || received == filtered + delivered + dropped
        });
        assert!(all, "{:?} {routes}\n{}", counts(), self.program.stderr());
        assert!(!self.program.metrics().contains(SECRET));
        let ended = self.program.stop();
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        assert!(!ended.stderr.contains(SECRET), "{}", ended.stderr);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended.stderr
    }
}

fn setup(pki: &Pki) -> Setup {
    Setup::new("auto")
        .env("LOGCHUTE_LOG", "debug")
        .env("LOGSPOUT_TLS_CA_CERTS", &pki.ca().display().to_string())
        .env("LOGSPOUT_TLS_DISABLE_SYSTEM_ROOTS", "true")
}

fn route(hook: &Webhook, options: &str) -> String {
    format!("webhook+https://{}/hook/{SECRET}?{options}", hook.place())
}

/// Each preset and a body of one's own, side by side; headers, method and type.
#[test]
fn every_form_arrives() {
    let pki = Pki::new();
    let hooks: [Webhook; 5] = std::array::from_fn(|_| Webhook::new(&pki, &[]));
    let plain = Webhook::plain(&[]);
    let body = "{\"text\": %{toJSON .Text}, \"who\": \"%{.Message.Service} %{.Message.Node}\"}";
    let scene = Scene::new(pki, |setup| {
        setup
            .env("WEBHOOK_HEADERS", &format!("Authorization: Bearer {SECRET}\nX-Team: blue"))
            .env("WEBHOOK_TITLE_TEMPLATE", "%{.Message.Stack}: %{.Message.Container.Name}")
            .arg(&route(&hooks[0], "webhook.preset=json"))
            .arg(&route(&hooks[1], "webhook.preset=mattermost"))
            .arg(&route(&hooks[2], "webhook.preset=discord"))
            .arg(&route(&hooks[3], "webhook.preset=teams&webhook.method=put"))
            .arg(&route(&hooks[4], "webhook.preset=json&webhook.content_type=text/x"))
            .env("WEBHOOK_BODY", body)
            .arg(&format!("webhook+http://{}/{SECRET}", plain.place()))
    });
    scene.write("say \"hi\" to <b>\n");
    let posted = |hook: &Webhook| scene.wait_taken(hook, 1).remove(0);
    let line = "say \"hi\" to <b>";
    let got = posted(&hooks[0]);
    assert_eq!((&*got.method, &*got.path), ("POST", &*format!("/hook/{SECRET}")));
    for header in
        ["content-type: application/json", "authorization: bearer secretpath", "x-team: blue"]
    {
        assert!(got.head.contains(header), "{}", got.head);
    }
    let object = &got.json()["lines"][0];
    assert_eq!((&object["line"], &object["service"]), (&json!(line), &json!("shop_web")));
    assert_eq!((&object["source"], &object["id"]), (&json!("stderr"), &json!(ID)));
    assert_eq!((&object["task"], &object["node"]), (&json!("shop_web.1.abc"), &json!("n0de")));
    let attachment = &posted(&hooks[1]).attachments()[0];
    assert_eq!(attachment["title"], "shop: /web");
    assert_eq!(attachment["text"], "say \"hi\" to &lt;b&gt;");
    let content = format!("**`shop: /web`**\n```\n{line}\n```");
    assert_eq!(posted(&hooks[2]).json()["content"], content);
    let teams = posted(&hooks[3]);
    assert_eq!(teams.method, "PUT");
    let card = &teams.json()["attachments"][0]["content"]["body"];
    assert_eq!(card[1]["inlines"][0]["text"], line);
    assert!(posted(&hooks[4]).head.contains("content-type: text/x"));
    let expected = json!({"text": line, "who": "shop_web n0de"});
    assert_eq!(posted(&plain).json(), expected);
    let said = scene.end();
    assert!(said.contains("webhook.url=***"), "{said}");
}

#[test]
fn slack_in_blocks() {
    let pki = Pki::new();
    let hook = Webhook::new(&pki, &[]);
    let scene = Scene::new(pki, |setup| {
        setup
            .env("SLACK_BLOCKS", "true")
            .env("SLACK_WEBHOOK_URL", &format!("/{SECRET}"))
            .arg(&format!("slack://{}", hook.place()))
    });
    scene.write("<b>\n");
    let message = scene.wait_taken(&hook, 1)[0].json();
    assert_eq!(message["text"], "/web: &lt;b&gt;");
    let types: Vec<&Value> =
        message["blocks"].as_array().unwrap().iter().map(|block| &block["type"]).collect();
    assert_eq!(types, ["header", "section"]);
    assert_eq!(message["blocks"][1]["text"]["text"], "&lt;b&gt;");
    scene.end();
}

#[test]
fn a_message_that_did_not_arrive_is_sent_again() {
    let limited = Reply::Answer(429, "Retry-After: 2\r\n", "{\"message\": \"slow down\"}");
    let replies = [limited, Reply::Answer(500, "", "oops"), Reply::Reset, Reply::Half];
    side_by_side(replies.len(), &replies, |reply| {
        let hook = Webhook::plain(std::slice::from_ref(reply));
        let scene = Scene::new(Pki::new(), |setup| {
            setup.arg(&format!("webhook+http://{}/{SECRET}", hook.place()))
        });
        let start = Instant::now();
        scene.write("one\n");
        let taken = scene.wait_taken(&hook, 1);
        assert_eq!(taken[0].json()["lines"][0]["line"], "one", "{reply:?}");
        if let Reply::Answer(429, ..) = reply {
            assert!(taken[0].at - start >= Duration::from_millis(1900), "{reply:?}");
        }
        assert_eq!(hook.most_at_once(), 1);
        scene.end();
    });
}

/// One that is away at start, and has got nothing to say to since, is down only until it is there.
#[test]
fn a_webhook_that_comes_up_late_is_ready() {
    let pki = Pki::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = listener.local_addr().unwrap();
    drop(listener);
    let scene = Scene::new(Pki::new(), |setup| {
        let roots = pki.ca().display().to_string();
        let url = format!("webhook+https://localhost:{}/{SECRET}", place.port());
        setup.env("LOGSPOUT_TLS_CA_CERTS", &roots).arg(&url)
    });
    let ready = || ask(scene.program.http(), "GET", "/ready", &[], "").unwrap().body;
    assert!(wait_until(LONG, || ready().contains("\"state\": \"down\"")), "{}", ready());
    let _hook = Webhook::on(TcpListener::bind(place).unwrap(), &pki, &[]);
    assert!(wait_until(LONG, || ready().contains("\"ready\": true")), "{}", ready());
    scene.end();
}

/// A receiver's words are repeated, but nothing that is a secret.
#[test]
fn what_the_receiver_says_of_a_bad_message_is_said() {
    let answer = "{\"message\": \"Cannot POST /hook/sEcReTpAtH: bad\r\n body\", \"code\": 50035}";
    let hook = Webhook::plain(&[Reply::Answer(400, "", answer)]);
    let scene = Scene::new(Pki::new(), |setup| {
        // With a line that has quotes this is no JSON.
        let body = "webhook.body=%7B%22text%22: %22%25%7B.Text%7D%22%7D";
        setup.arg(&format!("webhook+http://{}/hook/{SECRET}?{body}", hook.place()))
    });
    let warning = "WEBHOOK_BODY gives no JSON for a line with quotes in it";
    assert_eq!(scene.program.stderr().matches(warning).count(), 1, "{}", scene.program.stderr());
    scene.write("one\n");
    assert!(wait_until(LONG, || scene.metric("logchute_lines_dropped") == 1));
    scene.write("two\n");
    assert_eq!(scene.wait_taken(&hook, 1)[0].json(), json!({"text": "two"}));
    let said = scene.end();
    let words = "webhook refuses a message: answer 400, \"{\\\"message\\\": \\\"Cannot POST *** bad \
                 body\\\", \\\"code\\\": 50035}\"";
    assert!(said.contains(words), "{said}");
}

#[test]
fn a_dead_webhook_is_said_once_and_its_lines_counted() {
    let hook = Webhook::plain(&[]);
    hook.otherwise(Reply::Answer(404, "", "{\"message\": \"Unknown Webhook\"}"));
    let scene = Scene::new(Pki::new(), |setup| {
        setup.arg(&format!("webhook+http://{}/{SECRET}", hook.place()))
    });
    for n in 1..=5 {
        scene.write(&format!("line {n}\n"));
        assert!(wait_until(LONG, || scene.metric("logchute_lines_dropped") == n));
    }
    assert_eq!(hook.posted().len(), 2);
    let said = scene.end();
    assert_eq!(said.matches("webhook is gone").count(), 1, "{said}");
    let words = "\"{\\\"message\\\": \\\"Unknown Webhook\\\"}\": no webhook is there; see that \
                 WEBHOOK_URL is whole";
    assert!(said.contains(words), "{said}");
}

#[test]
fn the_rate_is_the_users() {
    let hook = Webhook::plain(&[]);
    let scene = Scene::new(Pki::new(), |setup| {
        let options = "webhook.rate=2/s&webhook.burst=1";
        setup.arg(&format!("webhook+http://{}/{SECRET}?{options}", hook.place()))
    });
    for n in 0..40 {
        scene.write(&format!("line {n}\n"));
        std::thread::sleep(Duration::from_millis(50));
    }
    wait_until(LONG, || scene.metric("logchute_lines_delivered") == 40);
    let taken = hook.taken();
    let gaps = taken.windows(2).map(|pair| pair[1].at - pair[0].at).min().unwrap();
    assert!(gaps >= Duration::from_millis(400), "{gaps:?}");
    // At one a second it were three.
    assert!(taken.len() >= 4, "{}", taken.len());
    let count: u64 = taken.iter().map(|posted| posted.json()["count"].as_u64().unwrap()).sum();
    assert_eq!(count, 40);
    scene.end();
}

/// Through a proxy with a password: a tunnel for https, the proxy itself for http.
#[test]
fn a_proxy_is_on_the_way() {
    let pki = Pki::new();
    let (tls, plain, direct) =
        (Webhook::new(&pki, &[]), Webhook::plain(&[]), Webhook::new(&pki, &[]));
    // "user:sEcReTpAtH"
    let proxy = Proxy::new(Some("Basic dXNlcjpzRWNSZVRwQXRI"));
    let url = format!("http://user:{SECRET}@{}", proxy.place());
    let scene = Scene::new(pki, |setup| {
        setup
            .env("HTTPS_PROXY", &url)
            .env("http_proxy", &url)
            .env("SLACK_WEBHOOK_URL", &format!("/{SECRET}"))
            .arg(&format!("slack://{AFAR}:{}", tls.port()))
            .arg(&format!("webhook+http://{AFAR}:{}/{SECRET}", plain.port()))
            // This machine is never asked for through a proxy.
            .arg(&route(&direct, ""))
    });
    scene.write("one\n");
    assert_eq!(scene.wait_taken(&tls, 1)[0].texts(), ["one"]);
    let posted = &scene.wait_taken(&plain, 1)[0];
    assert_eq!(posted.path, format!("http://{AFAR}:{}/{SECRET}", plain.port()));
    assert_eq!(posted.json()["count"], 1);
    scene.wait_taken(&direct, 1);
    let heads = proxy.heads();
    assert_eq!(heads.len(), 2, "{heads:?}");
    let tunnel = heads.iter().find(|head| head.starts_with("CONNECT ")).unwrap();
    assert!(tunnel.starts_with(&format!("CONNECT {AFAR}:{} HTTP/1.1\r\n", tls.port())));
    // The webhook's path is not for the proxy.
    assert!(!tunnel.contains(SECRET), "{tunnel}");
    scene.write("two\n");
    scene.wait_taken(&tls, 2);
    // The same connection.
    assert_eq!(proxy.heads().len(), 2);
    scene.end();
}

#[test]
fn a_proxy_that_refuses_is_said() {
    let pki = Pki::new();
    let hook = Webhook::new(&pki, &[]);
    let proxy = Proxy::new(Some("Basic eDp5"));
    let (engine, away) = (Engine::new(), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let gone = away.local_addr().unwrap();
    drop(away);
    let refused = "answer 407: it wants a user and a password, or others";
    for (place, except, words) in [
        (proxy.place(), "", refused),
        (gone.to_string(), "", "cannot be reached: Connection refused"),
        // Directly, there is no such host.
        (proxy.place(), "hooks.test", "cannot resolve \"hooks.test\""),
    ] {
        let mut program = setup(&pki)
            .engine(Some(&engine.host()))
            .env("HTTPS_PROXY", &format!("http://user:{SECRET}@{place}"))
            .env("NO_PROXY", except)
            .arg(&format!("webhook+https://{AFAR}:{}/{SECRET}", hook.port()))
            .start();
        assert!(wait_until(LONG, || program.stderr().contains(words)), "{}", program.stderr());
        let said = program.stop().stderr;
        let named = format!("the proxy {place} (HTTPS_PROXY)");
        assert!(said.contains(&named) == except.is_empty(), "{said}");
        assert!(!said.contains(SECRET), "{said}");
    }
    let mut program = setup(&pki)
        .env("HTTPS_PROXY", &format!("socks5://user:{SECRET}@h:1"))
        .arg(&format!("webhook+https://{AFAR}/{SECRET}"))
        .no_wait()
        .start();
    let ended = program.wait(LONG).unwrap();
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("HTTPS_PROXY: is no proxy") && !ended.stderr.contains(SECRET));
}

/// Templates and secrets from files, as Swarm and Compose give them.
#[test]
fn settings_come_from_files() {
    let pki = Pki::new();
    let hook = Webhook::new(&pki, &[]);
    let (raw, syslog) = (StreamSink::tcp(), StreamSink::tcp());
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let json = "{\"service\":\"{{.Service}}\",\"line\":{{toJSON .Data}}}\n";
    let url = format!("https://{}/{SECRET}\n", hook.place());
    let scene = Scene::new(pki, |setup| {
        setup
            .env("RAW_FORMAT_FILE", &file("raw", json))
            .env("SYSLOG_TAG_FILE", &file("tag", "%{.Service}/%{.Task}\r\n"))
            .env("SLACK_WEBHOOK_URL_FILE", &file("url", &url))
            .env("SLACK_TITLE_TEMPLATE_FILE", &file("title", "{{.Message.Stack}}!\n"))
            .arg("slack://")
            .arg(&format!("raw+tcp://{}", raw.address()))
            .arg(&format!("syslog+tcp://{}", syslog.address()))
    });
    scene.write("a \"b\"\nc\n");
    assert_eq!(scene.wait_taken(&hook, 1)[0].attachments()[0]["title"], "shop!");
    assert!(wait_until(LONG, || raw.newlines() == 2 && syslog.newlines() == 2));
    // The line break at the end of RAW_FORMAT_FILE is what ends a record.
    let expected = "{\"service\":\"shop_web\",\"line\":\"a \\\"b\\\"\"}\n\
                    {\"service\":\"shop_web\",\"line\":\"c\"}\n";
    assert_eq!(String::from_utf8(raw.received().concat()).unwrap(), expected);
    let text = String::from_utf8(syslog.received().concat()).unwrap();
    assert!(text.contains(" shop_web/shop_web.1.abc 4242 - - c\n"), "{text}");
    scene.end();
    let mut program = setup(&Pki::new())
        .env("RAW_FORMAT_FILE", "/nowhere/format")
        .arg("raw+tcp://h:1")
        .no_wait()
        .start();
    let ended = program.wait(LONG).unwrap();
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    let words = "RAW_FORMAT_FILE: \"/nowhere/format\" cannot be read (No such file";
    assert!(ended.stderr.contains(words), "{}", ended.stderr);
}

#[test]
fn webhook_test_says_what_came_back() {
    let pki = Pki::new();
    let run = |hook: &Webhook| {
        let mut program = setup(&pki).arg("webhook-test").arg(&route(hook, "")).no_wait().start();
        let ended = program.wait(LONG).unwrap();
        assert!(!ended.stderr.contains(SECRET), "{}", ended.stderr);
        ended
    };
    let hook = Webhook::new(&pki, &[]);
    let ended = run(&hook);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("has taken the message (answer 200"), "{}", ended.stderr);
    let line = hook.taken()[0].json()["lines"][0]["line"].clone();
    assert!(line.as_str().unwrap().contains("the webhook works"), "{line}");
    let hook = Webhook::new(&pki, &[Reply::Answer(401, "", "{\"error\": \"who are you?\"}")]);
    let ended = run(&hook);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("who are you?"), "{}", ended.stderr);
}
