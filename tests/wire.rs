//! `tests/conformance/wire.jsonl` through the real program: the recorded routes, environment,
//! containers and frames over a scripted engine, and the bytes at real sockets compared.
//!
//! Left out, for good: a case in which both streams of a container share a group.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use regex::bytes::Regex;
use serde_json::Value;

mod support;

use support::engine::Engine;
use support::logchute::Setup;
use support::pki::Pki;
use support::receivers::TlsSeen;
use support::replay::{self, Sink, end, list, text};
use support::{drivers, process, readable, say, wait_until};

/// Containers that Logspout followed although they were excluded: a bug.
const EXCLUDED: [(&str, &[&str]); 3] = [
    ("exclude-labels-bare-list", &["/a", "/b"]),
    ("exclude-labels-bare-after-valued", &["/b"]),
    ("exclude-label-value-with-colon", &["/a"]),
];
/// Its `{{.Hostname}}` is the text of a template there, which is a bug; meant is what it gives.
const HOSTNAME: (&str, &str, &str) =
    ("template-tag-hostname-method", "{{.Container.Config.Hostname}}", "lab-host");

/// Its groups have lines of both streams.
const SHARED: &str = "multiline-streams-share-a-group";

/// Longest payload of a UDP datagram over IPv4.
const MAX_DATAGRAM: usize = 65_507;

struct Case(Value);

impl Case {
    fn all() -> Vec<Case> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/wire.jsonl");
        let text = std::fs::read_to_string(&path).unwrap();
        let cases = text.lines().map(|line| Case(serde_json::from_str(line).unwrap()));
        cases.map(Case::meant).collect()
    }

    /// The case, where it waits for streams that are not opened here as it should be.
    fn meant(mut self) -> Case {
        let Some((_, names)) = EXCLUDED.iter().find(|(case, _)| *case == self.name()) else {
            return self;
        };
        let excluded = |inspect: &&Value| names.contains(&text(&inspect["Name"]));
        let ids: Vec<Value> = list(&self.0["containers"])
            .iter()
            .filter(excluded)
            .map(|inspect| inspect["Id"].clone())
            .collect();
        let opened = self.0["expect"]["log_streams_opened"].as_array_mut().unwrap();
        opened.retain(|id| !ids.contains(id));
        self
    }

    /// What stands for `@TIME@`.
    fn time(&self) -> Regex {
        let pattern = match text(&self.0["time_layout"]) {
            "" => r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ",
            "2006-01-02T15:04:05.999999999Z07:00" => r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z",
            "Jan _2 15:04:05" => r"[A-Z][a-z]{2} [ 1-3]\d \d\d:\d\d:\d\d",
            "Mon, 02 Jan 2006 15:04:05 MST" => {
                r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d UTC"
            }
            "unix" => r"\d{10}",
            "unixnano" => r"\d{19}",
            other => panic!("the corpus has a layout {other}"),
        };
        Regex::new(&format!("^(?-u:{pattern})")).unwrap()
    }

    fn name(&self) -> &str {
        text(&self.0["name"])
    }

    fn uris(&self) -> Vec<&str> {
        list(&self.0["argv"]).iter().map(text).collect()
    }

    fn is(&self, flag: &str) -> bool {
        self.0[flag].as_bool().unwrap_or(false)
    }

    fn files(&self) -> Vec<(&str, &str)> {
        let files = self.0["files"].as_object().into_iter().flatten();
        files.map(|(path, content)| (path.as_str(), text(content))).collect()
    }

    /// Whether lines for sink `index` wait to be joined with others when all is sent.
    fn is_pending(&self, index: usize) -> bool {
        let sink = format!("@SINK{index}@");
        let joins = |uri: &&str| uri.starts_with("multiline+") && uri.contains(&sink);
        let ended = list(&self.0["frames"]).iter().any(|frame| frame["event"] == "die");
        self.is("pending") && !ended && self.uris().iter().any(joins)
    }

    /// Why the case is not for this program, or not for this host.
    fn left_out(&self) -> Option<&'static str> {
        if self.name() == SHARED {
            return Some("attach does not keep the order of two streams");
        }
        (!self.files().is_empty() && !process::is_root())
            .then_some("its /etc/host_hostname needs a mount namespace, that is root")
    }
}

/// Host and port: a name for TLS, so that the certificate's name is checked too.
fn place(sink: &Sink) -> String {
    let stream = matches!(sink, Sink::Stream(_));
    format!("{}:{}", if stream { "localhost" } else { "127.0.0.1" }, sink.port())
}

/// What a sink should get.
struct Expected {
    /// Datagrams, or all bytes as one.
    messages: Vec<Vec<u8>>,
    datagrams: bool,
    /// What stands for `@TIME@` in them.
    time: Regex,
}

impl Expected {
    /// Of sink `index`, from the record of what Logspout sent or, where that was a bug, from what
    /// is meant.
    fn of(case: &Case, index: usize) -> Expected {
        let expect = &case.0["expect"];
        let mut places = std::iter::once(expect).chain(list(&expect["also"]));
        let place = places.find(|p| p["sink"].as_u64() == Some(index as u64));
        let intended = &case.0["intended_messages_base64"];
        // In the case whose recordings differ, this is what every destination is to get.
        let here = index == 0 || expect["varies"].as_bool().unwrap_or(false);
        let messages = if here && intended.is_array() {
            intended
        } else {
            place.map_or(&Value::Null, |p| &p["messages_base64"])
        };
        let meant = |message: Vec<u8>| {
            let (name, wrong, right) = HOSTNAME;
            let text = String::from_utf8_lossy(&message);
            if case.name() == name { text.replace(wrong, right).into_bytes() } else { message }
        };
        let messages: Vec<Vec<u8>> =
            list(messages).iter().map(|m| meant(BASE64.decode(text(m)).unwrap())).collect();
        let datagrams = text(&case.0["sinks"][index]) == "udp";
        let messages = if datagrams { messages } else { vec![messages.concat()] };
        Expected { messages, datagrams, time: case.time() }
    }

    /// What came, with `@TIME@` where a time is and one is expected.
    fn received(&self, sink: &Sink) -> Vec<Vec<u8>> {
        let received = sink.received().into_iter().enumerate();
        let expected = |at: usize| self.messages.get(at).map_or(&[][..], Vec::as_slice);
        received.map(|(at, bytes)| without_times(&bytes, expected(at), &self.time)).collect()
    }

    /// Whether as much has come as is expected, right or wrong.
    fn has_come(&self, sink: &Sink) -> bool {
        let received = self.received(sink);
        let len = |messages: &[Vec<u8>]| messages.iter().map(Vec::len).sum::<usize>();
        match self.datagrams {
            true => received.len() >= self.messages.len(),
            false => len(&received) >= len(&self.messages),
        }
    }

    /// With `more`, what waited to be joined with others has come besides.
    fn compare(&self, sink: &Sink, more: bool) -> Result<(), String> {
        let mut received = self.received(sink);
        if more {
            let bytes = |messages: &[Vec<u8>]| messages.concat().len();
            if bytes(&received) <= bytes(&self.messages) {
                return Err("nothing came of what waited to be joined with others".into());
            }
            received.truncate(self.messages.len());
            if let ([all], false) = (&mut received[..], self.datagrams) {
                all.truncate(bytes(&self.messages));
            }
        }
        if !self.datagrams {
            let (expected, received) = (self.messages.concat(), received.concat());
            let equal = expected == received;
            return if equal { Ok(()) } else { Err(difference(&expected, &received)) };
        }
        if self.messages == received {
            return Ok(());
        }
        let show =
            |all: &[Vec<u8>]| all.iter().map(|m| readable(m)).collect::<Vec<_>>().join("\n    ");
        let (want, got) = (show(&self.messages), show(&received));
        Err(format!("\n  datagrams expected:\n    {want}\n  received:\n    {got}"))
    }
}

/// Both byte strings, from a little before the place where they part.
fn difference(expected: &[u8], received: &[u8]) -> String {
    let same = expected.iter().zip(received).take_while(|(a, b)| a == b).count();
    let from = same.saturating_sub(60);
    format!(
        "\n  expected {} bytes, received {}, alike up to {same}; from {from}\n  expected: {}\n  \
         received: {}",
        expected.len(),
        received.len(),
        readable(&expected[from..]),
        readable(&received[from.min(received.len())..])
    )
}

/// `bytes` as far as they are as `expected`, with `@TIME@` where that has it and they have a time;
/// from where they differ on as they are.
fn without_times(bytes: &[u8], expected: &[u8], time: &Regex) -> Vec<u8> {
    const TIME: &[u8] = b"@TIME@";
    let (mut out, mut rest, mut expected) = (Vec::new(), bytes, expected);
    while let Some(at) = memchr::memmem::find(expected, TIME) {
        let Some(after) = rest.strip_prefix(&expected[..at]) else { break };
        let Some(found) = time.find(after) else { break };
        out.extend_from_slice(&expected[..at + TIME.len()]);
        (rest, expected) = (&after[found.end()..], &expected[at + TIME.len()..]);
    }
    out.extend_from_slice(rest);
    out
}

/// A line too long for a datagram: Logspout sends nothing of it, we send what fits (and count it).
fn compare_cut(case: &Case, sink: &Sink) -> Result<(), String> {
    let frames = list(&case.0["frames"]).iter();
    let sent: Vec<u8> = frames.flat_map(|f| BASE64.decode(text(&f["data"])).unwrap()).collect();
    let lines: Vec<&[u8]> = sent.split_inclusive(|&b| b == b'\n').collect();
    let received = sink.received();
    let lengths: Vec<usize> = received.iter().map(Vec::len).collect();
    let ([first, long, last], [one, cut, three]) = (&lines[..], &received[..]) else {
        return Err(format!("datagrams of {lengths:?} bytes, expected three"));
    };
    let ends_well = cut.strip_suffix(b"\n").is_some_and(|text| long.starts_with(text));
    let full = (MAX_DATAGRAM - 3..=MAX_DATAGRAM).contains(&cut.len());
    if (*first, *last) == (one, three) && ends_well && full {
        return Ok(());
    }
    Err(format!("datagrams of {lengths:?} bytes; the second ends with {}", readable(cut)))
}

struct Replay<'a> {
    case: &'a Case,
    pki: Pki,
    engine: Engine,
    sinks: Vec<Sink>,
    etc: tempfile::TempDir,
}

impl<'a> Replay<'a> {
    fn new(case: &'a Case) -> Replay<'a> {
        let pki = Pki::new();
        let engine = replay::engine(&case.0);
        let sinks = list(&case.0["sinks"]).iter().map(|kind| Sink::new(text(kind), &pki));
        let sinks = sinks.collect();
        let etc = tempfile::Builder::new().prefix("lct-etc-").tempdir().unwrap();
        Replay { case, pki, engine, sinks, etc }
    }

    /// `text` with the corpus' placeholders filled in.
    fn filled(&self, text: &str) -> String {
        let missing = self.pki.folder().join("there-is-no-such-file.pem");
        let files = [
            ("@CA@", self.pki.ca()),
            ("@OTHER_CA@", self.pki.other_ca()),
            ("@CLIENT_CERT@", self.pki.client_cert()),
            ("@CLIENT_KEY@", self.pki.client_key()),
            ("@MISSING@", missing),
        ];
        let mut text = text.to_owned();
        for (name, path) in files {
            text = text.replace(name, &path.display().to_string());
        }
        for (i, sink) in self.sinks.iter().enumerate() {
            text = text.replace(&format!("@SINK{i}@"), &place(sink));
        }
        text
    }

    fn setup(&self, io: &str) -> Setup {
        let setup = Setup::new(io).engine(Some(&self.engine.host())).env("SHARDS", "1");
        let mut setup = replay::configured(setup, &self.case.0, |text| self.filled(text));
        for (path, content) in self.case.files() {
            let name = path.strip_prefix("/etc/").unwrap_or_else(|| panic!("a file {path}"));
            std::fs::write(self.etc.path().join(name), content).unwrap();
            setup = setup.etc(self.etc.path());
        }
        setup
    }

    fn run(&self, io: &str) -> Result<(), String> {
        let refused = self.case.0["expect"]["refused"].as_bool().unwrap_or(false);
        match (refused, self.case.is("known_bug")) {
            (true, false) => replay::refusal(self.setup(io), &self.engine).map(drop),
            (true, true) => self.must_go_on(io),
            (false, _) => self.must_deliver(io),
        }
    }

    /// A destination that is down or not trusted: it runs, and says so.
    fn must_go_on(&self, io: &str) -> Result<(), String> {
        let mut program = self.setup(io).start();
        let port = self.sinks[0].port().to_string();
        wait_until(Duration::from_secs(5), || program.stderr().contains(&port));
        std::thread::sleep(Duration::from_millis(300));
        if let Some(status) = program.process.ended() {
            return Err(format!("it ended: {status}: {}", program.stderr()));
        }
        let ended = program.stop();
        if ended.code != Some(0) || !ended.stderr.contains(&port) {
            return Err(format!("should run, and name the destination (:{port}): {ended:?}"));
        }
        Ok(())
    }

    fn must_deliver(&self, io: &str) -> Result<(), String> {
        let mut program = self.setup(io).start();
        replay::play(&self.engine, &self.case.0)?;
        let expected: Vec<Expected> =
            (0..self.sinks.len()).map(|i| Expected::of(self.case, i)).collect();
        let pairs = || expected.iter().zip(&self.sinks);
        let limit = Duration::from_secs(4);
        wait_until(limit, || pairs().all(|(expected, sink)| expected.has_come(sink)));
        // Time for what should not come.
        std::thread::sleep(Duration::from_millis(100));
        let outcome = self.compare(&expected, false);
        let said = end(&mut program)?;
        let outcome = outcome.and_then(|()| self.compare(&expected, true));
        outcome.map_err(|e| format!("{e}\n  it said: {said}"))
    }

    /// What came, before the program is ended or after its `end`.
    fn compare(&self, expected: &[Expected], end: bool) -> Result<(), String> {
        if self.case.name() == "lines-100k-udp-too-big-for-a-datagram" {
            return compare_cut(self.case, &self.sinks[0]);
        }
        for (i, (expected, sink)) in expected.iter().zip(&self.sinks).enumerate() {
            let more = end && self.case.is_pending(i);
            expected.compare(sink, more).map_err(|e| format!("sink {i}: {e}"))?;
        }
        let tls = &self.case.0["expect"]["tls"];
        if let (Sink::Stream(sink), true) = (&self.sinks[0], tls.is_object()) {
            let version = text(&tls["version"]).to_owned();
            let client = tls["client_cn"].as_str().map(str::to_owned);
            let want = vec![TlsSeen { version, client }];
            let seen = sink.tls_seen();
            if seen != want {
                return Err(format!("TLS: expected {want:?}, saw {seen:?}"));
            }
        }
        Ok(())
    }
}

#[test]
fn the_recorded_wire_is_reproduced_on_both_drivers() {
    let mut left_out: BTreeMap<&str, usize> = BTreeMap::new();
    let (all, mut eligible) = (Case::all(), Vec::new());
    for case in all.iter().filter(|case| replay::is_asked_for(case.name())) {
        match case.left_out() {
            Some(reason) => *left_out.entry(reason).or_default() += 1,
            None => eligible.push(case),
        }
    }
    assert!(!eligible.is_empty(), "no case of {} is eligible", all.len());
    let mut failures = Vec::new();
    for io in drivers() {
        let name = |case: &&Case| format!("{} ({io})", case.name());
        let failed = replay::failures(&eligible, name, |case| Replay::new(case).run(io));
        let (passed, out) = (eligible.len() - failed.len(), left_out.values().sum::<usize>());
        let of = eligible.len();
        say(&format!("wire, {io}: {passed} passed of {of} eligible, {out} left out {left_out:?}"));
        failures.extend(failed);
    }
    replay::assert_none(&failures);
}
