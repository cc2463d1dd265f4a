//! What Logspout's HTTP side was recorded to answer (`tests/conformance/http.jsonl`, all but the
//! cases `logs-*`, which `logs_replay.rs` has), replayed on the real program over a scripted
//! engine: `/health`, `/routes`, and what is kept under `ROUTESPATH`.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use regex::Regex;
use serde_json::{Value, json};

mod support;

use support::engine::Engine;
use support::http::{self, Answer};
use support::logchute::{Logchute, Setup};
use support::pki::Pki;
use support::replay::{self, SETTLE, Sink, end, list, same, text};
use support::{readable, say, wait_until};

/// Cases of the corpus that do not begin with `logs-`.
const CASES: usize = 41;

/// What a sink has got, with the corpus' placeholder for times.
fn received(sink: &Sink) -> Vec<Vec<u8>> {
    let time = r"(?-u)(<\d{1,3}>(?:1 )?)\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ";
    let time = regex::bytes::Regex::new(time).unwrap();
    let received = sink.received();
    received.iter().map(|r| time.replace_all(r, &b"$1@TIME@"[..]).into_owned()).collect()
}

struct Replay<'a> {
    case: &'a Value,
    engine: Engine,
    sinks: Vec<Sink>,
    dir: tempfile::TempDir,
    /// The id that the program made up.
    id: String,
}

impl<'a> Replay<'a> {
    fn new(case: &'a Value) -> Replay<'a> {
        let engine = replay::engine(case);
        let pki = Pki::new();
        let sinks = list(&case["sinks"]).iter().map(|kind| Sink::new(text(kind), &pki)).collect();
        let dir = tempfile::Builder::new().prefix("lct-routes-").tempdir().unwrap();
        let replay = Replay { case, engine, sinks, dir, id: String::new() };
        for (name, content) in replay.files("routes_dir") {
            std::fs::write(replay.dir.path().join(name), content).unwrap();
        }
        replay
    }

    /// `text` with the corpus' placeholders filled in.
    fn filled(&self, text: &str) -> String {
        let mut text = text.replace("@ROUTES_DIR@", &self.dir.path().display().to_string());
        for (i, sink) in self.sinks.iter().enumerate() {
            text = text.replace(&format!("@SINK{i}@"), &format!("127.0.0.1:{}", sink.port()));
        }
        if self.id.is_empty() { text } else { text.replace("@ID0@", &self.id) }
    }

    fn files(&self, key: &str) -> BTreeMap<String, String> {
        let files = self.case[key].as_object().into_iter().flatten();
        files.map(|(name, content)| (name.clone(), self.filled(text(content)))).collect()
    }

    fn setup(&self) -> Setup {
        let setup = Setup::new("auto").engine(Some(&self.engine.host())).env("SHARDS", "2");
        let setup = setup.env("ROUTESPATH", "/there-is-no-such-directory");
        replay::configured(setup, self.case, |text| self.filled(text))
    }

    fn run(mut self) -> Result<(), String> {
        if self.case["refused"] == true {
            return self.must_refuse();
        }
        let mut program = self.start()?;
        for (number, step) in list(&self.case["steps"]).iter().enumerate() {
            if step["restart"] == true {
                end(&mut program)?;
                program = self.start()?;
            }
            self.step(&program, step).map_err(|error| format!("step {number}: {error}"))?;
        }
        self.compare_sinks().map_err(|error| format!("{error}\n{}", program.stderr()))?;
        end(&mut program)?;
        self.compare_files()
    }

    fn start(&self) -> Result<Logchute, String> {
        let program = self.setup().start();
        let attached = replay::wait_followed(&self.engine, &replay::ids(self.case));
        attached.map(|()| program)
    }

    /// Logspout's exit code is 1.
    fn must_refuse(&self) -> Result<(), String> {
        let said = replay::refusal(self.setup(), &self.engine)?;
        let about = text(&self.case["error"]).split(':').next().unwrap();
        match said.contains(about) {
            true => Ok(()),
            false => Err(format!("it should have refused for {about:?}: {said}")),
        }
    }

    fn step(&mut self, program: &Logchute, step: &Value) -> Result<(), String> {
        let (request, expected) = (&step["request"], &step["response"]);
        if request.is_object() {
            let path = self.filled(text(&request["path"]));
            let body = self.filled(text(&request["body"]));
            let answer = http::ask(program.http(), text(&request["method"]), &path, &[], &body);
            let answer = answer.map_err(|error| format!("no answer: {error}"))?;
            self.compare(answer, expected)?;
        }
        if !list(&step["frames"]).is_empty() {
            std::thread::sleep(SETTLE);
            let part = json!({"frames": step["frames"]});
            replay::play(&self.engine, &part)?;
            std::thread::sleep(SETTLE);
        }
        Ok(())
    }

    fn compare(&mut self, answer: Answer, expected: &Value) -> Result<(), String> {
        if self.case["known_bug"] == true {
            // A receiver that is down is no reason to refuse its route.
            return same("status", &json!(answer.status), &json!(201));
        }
        same("status", &json!(answer.status), &expected["status"])?;
        for (header, key) in [
            ("content-type", "content_type"),
            ("x-content-type-options", "x_content_type_options"),
            ("location", "location"),
        ] {
            same(header, &json!(answer.header(header)), &expected[key])?;
        }
        if answer.status == 405 && answer.header("allow").is_none() {
            return Err("405 without Allow".into());
        }
        if self.id.is_empty() && expected.to_string().contains("@ID0@") {
            let json: Value = serde_json::from_str(&answer.body).unwrap_or_default();
            let made_up = Regex::new("^[0-9a-f]{12}$").unwrap();
            let ids = if json.is_array() { list(&json) } else { std::slice::from_ref(&json) };
            let mut ids = ids.iter().map(|route| text(&route["id"]));
            let id = ids.find(|id| made_up.is_match(id));
            self.id = id.ok_or("no id was made up")?.to_owned();
        }
        if expected["body_json"].is_array() || expected["body_json"].is_object() {
            let wanted: Value =
                serde_json::from_str(&self.filled(&expected["body_json"].to_string())).unwrap();
            let json: Value = serde_json::from_str(&answer.body).unwrap_or_default();
            same("body", &json, &wanted)?;
        }
        match &expected["body"] {
            Value::String(body) => self.compare_body(&answer.body, &self.filled(body)),
            _ => Ok(()),
        }
    }

    fn compare_body(&self, body: &str, expected: &str) -> Result<(), String> {
        // What follows is Go's wording, or ours, which also says what to write instead.
        let alike = ["Bad request: ", "Bad route: bad adapter: ", "Bad route: bad transport: "];
        if alike.iter().any(|start| expected.starts_with(start) && body.starts_with(start)) {
            return same("lines", &json!(body.lines().count()), &json!(1));
        }
        same("body", &json!(body), &json!(expected))
    }

    fn compare_sinks(&self) -> Result<(), String> {
        for expected in list(&self.case["sinks_received"]) {
            let sink = &self.sinks[expected["sink"].as_u64().unwrap() as usize];
            let messages = list(&expected["messages_base64"]).iter().map(text);
            let messages: Vec<Vec<u8>> = messages.map(|m| BASE64.decode(m).unwrap()).collect();
            let wanted = match sink {
                Sink::Stream(_) => vec![messages.concat()],
                Sink::Udp(_) | Sink::Closed(_) => messages,
            };
            let came = wait_until(Duration::from_secs(10), || received(sink) == wanted);
            // Time for what should not come.
            std::thread::sleep(Duration::from_millis(100));
            if !came || received(sink) != wanted {
                let show =
                    |all: &[Vec<u8>]| all.iter().map(|m| readable(m)).collect::<Vec<_>>().join(" ");
                let (wanted, received) = (show(&wanted), show(&received(sink)));
                return Err(format!("sink:\n  expected {wanted}\n  received {received}"));
            }
        }
        Ok(())
    }

    fn compare_files(&self) -> Result<(), String> {
        if !self.case["routes_dir_after"].is_object() {
            return Ok(());
        }
        let entries = std::fs::read_dir(self.dir.path()).unwrap();
        let paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        let content = |path: &PathBuf| std::fs::read_to_string(path).unwrap();
        let files: BTreeMap<_, _> = paths.iter().map(|path| (name(path), content(path))).collect();
        same("files", &json!(files), &json!(self.files("routes_dir_after")))?;
        let before = self.files("routes_dir");
        let new = paths.iter().filter(|path| !before.contains_key(&name(path)));
        let mode = |path: &PathBuf| path.metadata().unwrap().permissions().mode() & 0o777;
        let modes: Vec<String> = new.map(|path| format!("{:#o}", mode(path))).collect();
        let wanted: Vec<&str> = list(&self.case["new_file_modes"]).iter().map(text).collect();
        same("modes", &json!(modes), &json!(wanted))
    }
}

#[test]
fn answers_are_those_that_logspout_gave() {
    let corpus = include_str!("conformance/http.jsonl");
    let cases = replay::cases(corpus, CASES, |name| !name.starts_with("logs-"));
    let name = |case: &Value| text(&case["name"]).to_owned();
    let failed = replay::failures(&cases, name, |case| Replay::new(case).run());
    say(&format!("http: {} passed of {CASES}", cases.len() - failed.len()));
    replay::assert_none(&failed);
}
