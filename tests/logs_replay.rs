//! What clients of Logspout's `/logs` were recorded to be shown (`tests/conformance/http.jsonl`,
//! the cases `logs-*`), replayed on the real program over a scripted engine.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

mod support;

use support::client::Client;
use support::engine::Engine;
use support::logchute::{Logchute, Setup};
use support::replay::{self, SETTLE, end, list, same, text};
use support::{readable, say, wait_until};

/// Cases of the corpus that begin with `logs-`.
const CASES: usize = 31;

/// Recorded without any answer, for Logspout sends it with the first line; and, of the second one,
/// for it compares the whole list with the source.
const SILENT: [&str; 2] = ["logs-name-no-match", "logs-sources-both"];
/// What the second of them is meant to show.
const BOTH_SOURCES: &str = "         shop_db|db out\n         shop_db|db err\n        \
                            shop_app|app out\n            cron|cron out\n        \
                            shop_app|app err\n         shop_db|db again\n";

struct Replay<'a> {
    case: &'a Value,
    engine: Engine,
    program: Logchute,
    /// Ids of the containers that are to be followed from the beginning.
    followed: Vec<&'a str>,
}

impl<'a> Replay<'a> {
    fn start(case: &'a Value) -> Replay<'a> {
        let engine = replay::engine(case);
        let setup = Setup::new("auto").engine(Some(&engine.host())).env("SHARDS", "1");
        let setup = replay::configured(setup, case, str::to_owned);
        // Without a route lines go to standard output too, which nobody reads.
        let program = setup.start();
        let excluded = text(&case["env"]["EXCLUDE_LABEL"]).split_once(':');
        let late: Vec<&str> = list(&case["late"]).iter().map(text).collect();
        let is_followed = |inspect: &&Value| {
            let config = &inspect["Config"];
            let out = excluded.is_some_and(|(key, value)| config["Labels"][key] == value);
            !out && config["Tty"] != true && !late.contains(&text(&inspect["Id"]))
        };
        let followed = list(&case["containers"]).iter().filter(is_followed);
        let followed = followed.map(|inspect| text(&inspect["Id"])).collect();
        Replay { case, engine, program, followed }
    }

    fn run(mut self) -> Result<(), String> {
        replay::wait_followed(&self.engine, &self.followed)?;
        for (number, step) in list(&self.case["steps"]).iter().enumerate() {
            self.step(step).map_err(|error| format!("step {number}: {error}"))?;
        }
        end(&mut self.program).map(drop)
    }

    fn step(&self, step: &Value) -> Result<(), String> {
        let (request, expected) = (&step["request"], &step["response"]);
        let headers = request["headers"].as_object().into_iter().flatten();
        let headers: Vec<_> = headers.map(|(name, value)| (name.as_str(), text(value))).collect();
        let path = text(&request["path"]);
        let client = Client::ask(self.program.http(), text(&request["method"]), path, &headers);
        let silent = expected["status"].is_null();
        let status = expected["status"].as_u64().unwrap_or(200);
        same("status", &json!(client.status()), &json!(status))?;
        if !silent {
            for (header, key) in [
                ("content-type", "content_type"),
                ("x-content-type-options", "x_content_type_options"),
                ("sec-websocket-accept", "websocket_accept"),
            ] {
                same(header, &json!(client.header(header)), &expected[key])?;
            }
            let chunked = client.header("transfer-encoding") == Some("chunked");
            same("chunked", &json!(chunked), &json!(expected["chunked"] == true))?;
        }
        if !list(&step["frames"]).is_empty() {
            std::thread::sleep(SETTLE);
            let followed = list(&self.case["containers"]).iter().map(|inspect| &inspect["Id"]);
            let followed: Vec<&Value> = followed
                .filter(|id| self.followed.contains(&text(id)) || self.is_late(id))
                .collect();
            let part = json!({
                "expect": {"log_streams_opened": followed},
                "late": self.case["late"], "frames": step["frames"],
            });
            replay::play(&self.engine, &part)?;
        }
        if expected["messages_json"].is_array() {
            self.compare_messages(&client, expected)
        } else {
            self.compare_body(&client, expected)
        }
    }

    fn is_late(&self, id: &Value) -> bool {
        list(&self.case["late"]).contains(id)
    }

    fn compare_body(&self, client: &Client, expected: &Value) -> Result<(), String> {
        let body = match (text(&self.case["name"]), &expected["body_base64"]) {
            ("logs-sources-both", _) => BOTH_SOURCES.into(),
            (_, Value::String(body)) => BASE64.decode(body).unwrap(),
            _ => text(&expected["body"]).into(),
        };
        wait_until(Duration::from_secs(8), || client.body().0.len() >= body.len());
        // Time for what should not come.
        std::thread::sleep(Duration::from_millis(150));
        let (shown, ended) = client.body();
        let shown = timeless(&shown);
        if shown != timeless(&body) {
            let (body, shown) = (readable(&body), readable(&shown));
            return Err(format!("\n  expected {body}\n  received {shown}"));
        }
        if expected["ended"].is_boolean() {
            return same("ended", &json!(ended), &expected["ended"]);
        }
        Ok(())
    }

    fn compare_messages(&self, client: &Client, expected: &Value) -> Result<(), String> {
        let messages = list(&expected["messages_json"]);
        wait_until(Duration::from_secs(8), || client.frames().len() >= messages.len());
        std::thread::sleep(Duration::from_millis(150));
        let frames = client.frames();
        // Each is whole (0x80), and of this kind.
        for (first, _) in &frames {
            same("opcode", &json!([first & 0x7f]), &expected["opcodes"])?;
        }
        let texts = frames.iter().map(|(_, bytes)| timeless(bytes));
        let texts: Vec<String> = texts.map(|b| String::from_utf8(b).unwrap()).collect();
        if expected["messages"].is_array() {
            same("messages", &json!(texts), &expected["messages"])?;
        }
        let parsed = texts.iter().map(|text| serde_json::from_str(text).unwrap_or_default());
        same("messages", &Value::Array(parsed.collect()), &expected["messages_json"])
    }
}

/// With the corpus' placeholder for the time of each line, if that is as Go writes it.
fn timeless(bytes: &[u8]) -> Vec<u8> {
    let time = r#"(?-u)"Time": "\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,8}[1-9])?Z""#;
    let time = regex::bytes::Regex::new(time).unwrap();
    time.replace_all(bytes, &b"\"Time\": \"@TIME@\""[..]).into_owned()
}

#[test]
fn clients_are_shown_what_logspout_showed_them() {
    let corpus = include_str!("conformance/http.jsonl");
    let cases = replay::cases(corpus, CASES, |name| name.starts_with("logs-"));
    let name = |case: &Value| text(&case["name"]).to_owned();
    let failed = replay::failures(&cases, name, |case| Replay::start(case).run());
    let (passed, silent) = (cases.len() - failed.len(), SILENT.len());
    say(&format!("/logs: {passed} passed of {CASES}, of those {silent} against what is meant"));
    replay::assert_none(&failed);
}
