//! Plays a case of the corpus (`tests/conformance/README.md`) on a scripted engine: what the replays
//! of all its files share.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use regex::Regex;
use serde_json::Value;

use super::engine::{Engine, Stream};
use super::logchute::{Logchute, Setup};
use super::pki::Pki;
use super::receivers::{StreamSink, UdpSink, free_port};
use super::side_by_side;

/// Cases that run at a time: each waits most of its time.
const AT_ONCE: usize = 8;

/// From an answer until every shard knows of the route, on a machine with much to do.
pub(crate) const SETTLE: Duration = Duration::from_millis(300);

/// A text; empty if it is none.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A list; empty if it is none.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The cases of `corpus` whose names `is_here` takes, which must be `count`; of those the ones that
/// are asked for.
pub(crate) fn cases(corpus: &str, count: usize, is_here: impl Fn(&str) -> bool) -> Vec<Value> {
    let cases = corpus.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut cases: Vec<Value> = cases.filter(|case| is_here(text(&case["name"]))).collect();
    assert_eq!(cases.len(), count);
    cases.retain(|case| is_asked_for(text(&case["name"])));
    cases
}

/// Whether the case of this name is to run: all are, unless `LOGCHUTE_TEST_CASE` is set to an
/// expression.
pub(crate) fn is_asked_for(name: &str) -> bool {
    let only = std::env::var("LOGCHUTE_TEST_CASE").unwrap_or_default();
    Regex::new(&only).unwrap().is_match(name)
}

/// Runs each case, a few at a time; what was wrong with those that failed, behind their `name`. A
/// panic in one is its failure, not that of all.
pub(crate) fn failures<C: Sync>(
    cases: &[C],
    name: impl Fn(&C) -> String + Sync,
    run: impl Fn(&C) -> Result<(), String> + Sync,
) -> Vec<String> {
    let failed = |case: &C| {
        let outcome = catch_unwind(AssertUnwindSafe(|| run(case)));
        let outcome = outcome.unwrap_or_else(|panic| {
            let said = panic.downcast_ref::<String>().cloned();
            let said = said.or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(said.unwrap_or_else(|| "a panic".into()))
        });
        outcome.err().map(|error| format!("{}: {error}", name(case)))
    };
    side_by_side(AT_ONCE, cases, failed).into_iter().flatten().collect()
}

/// Panics with what was wrong, if anything was.
pub(crate) fn assert_none(failed: &[String]) {
    assert!(failed.is_empty(), "{} failed:\n\n{}", failed.len(), failed.join("\n\n"));
}

/// Whether an answer's field is what was recorded.
pub(crate) fn same(what: &str, received: &Value, expected: &Value) -> Result<(), String> {
    match received == expected {
        true => Ok(()),
        false => Err(format!("{what}:\n  expected {expected}\n  received {received}")),
    }
}

/// Where lines of a case go.
pub(crate) enum Sink {
    /// UDP.
    Udp(UdpSink),
    /// TCP or TLS.
    Stream(StreamSink),
    /// A port on which nobody listens.
    Closed(u16),
}

impl Sink {
    /// Of the kind that the corpus calls so.
    pub(crate) fn new(kind: &str, pki: &Pki) -> Sink {
        match kind {
            "udp" => Sink::Udp(UdpSink::new()),
            "tcp" => Sink::Stream(StreamSink::tcp()),
            "tls" => Sink::Stream(StreamSink::tls(pki, false)),
            "tls-client" => Sink::Stream(StreamSink::tls(pki, true)),
            "closed" => Sink::Closed(free_port()),
            other => panic!("no such sink: {other}"),
        }
    }

    /// Its port on loopback.
    pub(crate) fn port(&self) -> u16 {
        match self {
            Sink::Udp(sink) => sink.address().port(),
            Sink::Stream(sink) => sink.address().port(),
            Sink::Closed(port) => *port,
        }
    }

    /// What came: datagrams, or the bytes of all connections as one.
    pub(crate) fn received(&self) -> Vec<Vec<u8>> {
        match self {
            Sink::Udp(sink) => sink.received(),
            Sink::Stream(sink) => vec![sink.received().concat()],
            Sink::Closed(_) => Vec::new(),
        }
    }
}

/// An engine with the containers of `case`.
pub(crate) fn engine(case: &Value) -> Engine {
    let engine = Engine::new();
    let late: Vec<&str> = list(&case["late"]).iter().map(text).collect();
    for inspect in list(&case["containers"]) {
        engine.add(inspect.clone(), !late.contains(&text(&inspect["Id"])));
    }
    engine
}

/// The ids of its containers.
pub(crate) fn ids(case: &Value) -> Vec<&str> {
    list(&case["containers"]).iter().map(|inspect| text(&inspect["Id"])).collect()
}

/// `setup` with the environment and the routes of `case`, their placeholders `filled`.
pub(crate) fn configured(mut setup: Setup, case: &Value, filled: impl Fn(&str) -> String) -> Setup {
    for (name, value) in case["env"].as_object().into_iter().flatten() {
        setup = setup.env(name, &filled(text(value)));
    }
    let uris: Vec<&str> = list(&case["argv"]).iter().map(text).collect();
    if uris.is_empty() { setup } else { setup.arg(&filled(&uris.join(","))) }
}

/// Wrong configuration: exit code 2, and nothing contacted. The reason that it gave.
pub(crate) fn refusal(setup: Setup, engine: &Engine) -> Result<String, String> {
    let mut program = setup.no_wait().start();
    let Some(ended) = program.wait(Duration::from_secs(20)) else {
        return Err("it runs, but should have refused".into());
    };
    if ended.code != Some(2) || ended.stderr.trim().is_empty() {
        return Err(format!("should have refused with code 2 and a reason: {ended:?}"));
    }
    match engine.requests().len() {
        0 => Ok(ended.stderr),
        requests => Err(format!("it refused only after {requests} requests to the daemon")),
    }
}

/// Sends the frames and events, with the pauses that make their order certain.
pub(crate) fn play(engine: &Engine, case: &Value) -> Result<(), String> {
    let followed = list(&case["expect"]["log_streams_opened"]).iter().map(text);
    let followed: Vec<&str> = followed.collect();
    let late: Vec<&str> = list(&case["late"]).iter().map(text).collect();
    let from_start = followed.iter().copied().filter(|id| !late.contains(id));
    wait_followed(engine, &from_start.collect::<Vec<_>>())?;
    let mut before = ("", "");
    for frame in list(&case["frames"]) {
        let id = text(&frame["container"]);
        let now = (id, text(&frame["stream"]));
        if before != now && !before.0.is_empty() {
            std::thread::sleep(Duration::from_millis(50));
        }
        before = now;
        match text(&frame["event"]) {
            "" => {
                let stream = if now.1 == "stderr" { Stream::Err } else { Stream::Out };
                engine.write(id, stream, &BASE64.decode(text(&frame["data"])).unwrap());
                continue;
            }
            "start" => {
                engine.start(id, frame["pid"].as_i64());
                if followed.contains(&id) {
                    wait_followed(engine, &[id])?;
                }
            }
            "die" => engine.die(id),
            "rename" => engine.rename(id, text(&frame["name"])),
            other => return Err(format!("the corpus has an event {other}")),
        }
        std::thread::sleep(Duration::from_millis(150));
    }
    Ok(())
}

/// Waits until the program is attached to all of these.
pub(crate) fn wait_followed(engine: &Engine, ids: &[&str]) -> Result<(), String> {
    if engine.wait_followed(ids, Duration::from_secs(20)) {
        return Ok(());
    }
    Err(format!("not attached to all of {ids:?} in 20 s"))
}

/// Ends the program; what it said. A panic or an exit code other than 0 is a failure.
pub(crate) fn end(program: &mut Logchute) -> Result<String, String> {
    let ended = program.stop();
    if ended.code != Some(0) || ended.stderr.contains("panicked") {
        return Err(format!("it ended badly: {ended:?}"));
    }
    Ok(ended.stderr)
}
