//! `tests/conformance/slack.jsonl` through the real program: the recorded environment, containers
//! and frames over a scripted engine, and the requests at a webhook on loopback compared.
//!
//! Where more lines wait than the webhook takes messages, we put them together: then the lines are
//! compared, not the messages.

use std::time::Duration;

use serde_json::{Value, json};

mod support;

use support::engine::Engine;
use support::logchute::Setup;
use support::pki::Pki;
use support::replay::{self, end, list, text};
use support::webhook::{Posted, Reply, Webhook};
use support::{say, wait_until};

/// How many cases the file has.
const CASES: usize = 63;
/// Its last line waits to be joined with others, until the program ends.
const JOINED: (&str, &str) = ("multiline", "END");
/// Where we differ from the adapter on purpose, and how.
const ESCAPED: [&str; 2] = ["lines-quotes-and-markup", "lines-slack-markup-not-escaped"];
const CUT: &str = "lines-long-line";
const CUT_AT: usize = 8_000;
/// The same text twice: once with its count, or the second time later and with its count.
const FOLDED: [&str; 2] = ["template-message-missing-label", "template-message-range-labels"];
/// Recorded as silently doing nothing; meant is a refusal at start.
const REFUSED: [&str; 3] =
    ["http-scheme-is-not-absolute", "filter-invalid-regex", "filter-lookahead-unsupported"];
const SLASHLESS: &str = "webhook-url-without-leading-slash";

struct Replay<'a> {
    case: &'a Value,
    pki: Pki,
    hook: Webhook,
    engine: Engine,
}

/// An attachment, as far as it means something: `null` counts as absent.
fn plain(attachment: &Value) -> Value {
    let members = attachment.as_object().into_iter().flatten();
    Value::Object(
        members
            .filter(|(_, value)| !value.is_null())
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect(),
    )
}

/// The lines of attachments by what stands above them, in order, each once.
fn by_title(attachments: &[Value]) -> Vec<(Value, String)> {
    let mut all: Vec<(Value, String)> = Vec::new();
    for attachment in attachments {
        let mut head = attachment.clone();
        let body = text(&head["text"]).to_owned();
        head["text"] = Value::Null;
        match all.iter_mut().find(|(known, _)| *known == head) {
            Some((_, lines)) => *lines = format!("{lines}\n{body}"),
            None => all.push((head, body)),
        }
    }
    all.sort_by_key(|(head, _)| head.to_string());
    all
}

/// Whether the two equal messages that are expected came, folded.
fn compare_folded(expected: &[Value], received: &[Value]) -> Result<(), String> {
    let body = text(&expected[0]["text"]);
    let (twice, again) =
        (format!("{} (2 times)", body.trim_end()), format!("{} (once more)", body.trim_end()));
    let texts: Vec<&str> = received.iter().map(|attachment| text(&attachment["text"])).collect();
    let equal = expected == [&expected[0]; 2].map(Value::clone);
    if equal && (texts == [&twice] || texts == [body, &again]) {
        return Ok(());
    }
    Err(format!("\n  expected {body:?} twice\n  received {texts:?}"))
}

impl<'a> Replay<'a> {
    fn new(case: &'a Value) -> Replay<'a> {
        let pki = Pki::new();
        let replies: Vec<Reply> = list(&case["answers"])
            .iter()
            .map(|status| Reply::Answer(status.as_u64().unwrap() as u16, "", "no"))
            .collect();
        let hook = Webhook::new(&pki, &replies);
        Replay { case, pki, hook, engine: replay::engine(case) }
    }

    fn name(&self) -> &str {
        text(&self.case["name"])
    }

    fn filled(&self, text: &str) -> String {
        let ca = self.pki.ca().display().to_string();
        text.replace("@CA@", &ca).replace("@SINK0@", &self.hook.place())
    }

    fn setup(&self) -> Setup {
        let setup = Setup::new("auto").engine(Some(&self.engine.host())).env("SHARDS", "1");
        replay::configured(setup, self.case, |text| self.filled(text))
    }

    fn run(&self) -> Result<(), String> {
        let refused = self.case["expect"]["refused"].as_bool().unwrap_or(false);
        if refused || REFUSED.contains(&self.name()) {
            return self.must_refuse();
        }
        let mut program = self.setup().start();
        let tty = |id: &str| {
            list(&self.case["containers"]).iter().any(|inspect| {
                inspect["Id"] == id && inspect["Config"]["Tty"].as_bool().unwrap_or(false)
            })
        };
        let allowed = self.case["env"]["ALLOW_TTY"] == "true";
        let mut followed = replay::ids(self.case);
        followed.retain(|id| allowed || !tty(id));
        replay::wait_followed(&self.engine, &followed)?;
        replay::play(&self.engine, self.case)?;
        let expected = self.expected();
        let lines = |attachments: &[Value]| {
            attachments.iter().map(|a| text(&a["text"]).lines().count().max(1)).sum::<usize>()
        };
        wait_until(Duration::from_secs(8), || lines(&self.received()) >= lines(&expected));
        // Time for what should not come.
        std::thread::sleep(Duration::from_millis(150));
        let joined = (self.name() == JOINED.0).then(|| self.compare(&expected)).transpose();
        let said = end(&mut program)?;
        let mut expected = expected;
        if self.name() == JOINED.0 {
            let last = json!({"color": "danger", "title": "/proj_web_1", "text": JOINED.1});
            expected.push(last);
        }
        let outcome = joined.and_then(|_| self.compare(&expected));
        outcome.map_err(|error| format!("{error}\n  it said: {said}"))
    }

    /// Nothing is asked of the webhook either.
    fn must_refuse(&self) -> Result<(), String> {
        let said = replay::refusal(self.setup(), &self.engine)?;
        match self.hook.connections() {
            0 => Ok(()),
            connections => Err(format!("it refused after {connections} connections: {said}")),
        }
    }

    /// The attachments that should arrive.
    fn expected(&self) -> Vec<Value> {
        if self.name() == SLASHLESS {
            return vec![
                json!({"color": "danger", "title": "/proj_web_1", "text": "disk is full"}),
            ];
        }
        let requests = list(&self.case["expect"]["requests"]).iter();
        let mut expected: Vec<Value> =
            requests.flat_map(|request| list(&request["body"]["attachments"])).map(plain).collect();
        for attachment in &mut expected {
            let body = text(&attachment["text"]).to_owned();
            if ESCAPED.contains(&self.name()) {
                let body = body.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
                attachment["text"] = body.into();
            } else if self.name() == CUT {
                attachment["text"] = format!("{}…", &body[..CUT_AT - 1]).into();
            }
        }
        expected
    }

    /// What the webhook has got; of a message that it refused (429) the next try counts.
    fn requests(&self) -> Vec<Posted> {
        self.hook.posted().into_iter().filter(|posted| posted.status != 429).collect()
    }

    fn received(&self) -> Vec<Value> {
        self.requests().iter().flat_map(Posted::attachments).collect()
    }

    fn compare(&self, expected: &[Value]) -> Result<(), String> {
        let received = self.received();
        let path = match self.name() {
            SLASHLESS => "/services/T/B",
            _ => text(&self.case["expect"]["requests"][0]["path"]),
        };
        for posted in self.requests() {
            let json = posted.head.contains("content-type: application/json");
            if posted.method != "POST" || posted.path != path || !json {
                return Err(format!(
                    "a request {} {}\n{}",
                    posted.method, posted.path, posted.head
                ));
            }
        }
        if FOLDED.contains(&self.name()) {
            return compare_folded(expected, &received);
        }
        let apart = received.len() == expected.len();
        let equal = match apart && list(&self.case["argv"]).len() < 2 {
            true => received == expected,
            false => by_title(&received) == by_title(expected),
        };
        if equal {
            Ok(())
        } else {
            Err(format!("\n  expected {expected:?}\n  received {received:?}"))
        }
    }
}

#[test]
fn the_recorded_messages_are_reproduced() {
    let cases = replay::cases(include_str!("conformance/slack.jsonl"), CASES, |_| true);
    let name = |case: &Value| text(&case["name"]).to_owned();
    let failed = replay::failures(&cases, name, |case| Replay::new(case).run());
    let passed = cases.len() - failed.len();
    say(&format!(
        "slack: {passed} passed of {CASES}, of those \
         against what is meant: {} escaped, {} folded, 1 cut, {} refused at start",
        ESCAPED.len(),
        FOLDED.len(),
        REFUSED.len()
    ));
    replay::assert_none(&failed);
}
