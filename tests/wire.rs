//! `tests/conformance/wire.jsonl` through the real program: the recorded routes, environment,
//! containers and frames over a scripted engine, and the bytes at real sockets compared.
//!
//! Left out: cases that need templates, multiline, or a setting whose only use is a template.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use regex::bytes::Regex;
use serde_json::Value;

mod support;

use support::engine::{Engine, Stream};
use support::logchute::{Logchute, Setup};
use support::pki::Pki;
use support::receivers::{StreamSink, TlsSeen, UdpSink, free_port};
use support::{drivers, process, readable, say, wait_until};

/// Settings that hold templates and have no use without them.
const TEMPLATE_SETTINGS: [&str; 7] = [
    "RAW_FORMAT",
    "SYSLOG_PRIORITY",
    "SYSLOG_TIMESTAMP",
    "SYSLOG_HOSTNAME",
    "SYSLOG_TAG",
    "SYSLOG_PID",
    "SYSLOG_DATA",
];

/// Longest payload of a UDP datagram over IPv4.
const MAX_DATAGRAM: usize = 65_507;

struct Case(Value);

impl Case {
    fn all() -> Vec<Case> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/wire.jsonl");
        let text = std::fs::read_to_string(&path).unwrap();
        text.lines().map(|line| Case(serde_json::from_str(line).unwrap())).collect()
    }

    fn name(&self) -> &str {
        text(&self.0["name"])
    }

    fn env(&self) -> impl Iterator<Item = (&str, &str)> {
        let env = self.0["env"].as_object().into_iter().flatten();
        env.map(|(name, value)| (name.as_str(), text(value)))
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

    /// Why the case is not for this program, or not for this host.
    fn left_out(&self) -> Option<&'static str> {
        let uris = self.uris().join(",");
        let mut texts: Vec<&str> = self.env().map(|(_, v)| v).collect();
        texts.extend(self.files().iter().map(|(_, content)| *content));
        let all = format!("{}\n{uris}", texts.join("\n"));
        if all.contains("multiline+") || all.contains("+multiline") {
            return Some("multiline");
        }
        if self.env().any(|(n, v)| TEMPLATE_SETTINGS.contains(&n) && !v.is_empty()) {
            return Some("a template setting");
        }
        if all.contains("{{") || all.to_ascii_lowercase().contains("%7b%7b") {
            return Some("a template");
        }
        (!self.files().is_empty() && !process::is_root())
            .then_some("its /etc/host_hostname needs a mount namespace, that is root")
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

enum Sink {
    Udp(UdpSink),
    Stream(StreamSink),
    Closed(u16),
}

impl Sink {
    fn new(kind: &str, pki: &Pki) -> Sink {
        match kind {
            "udp" => Sink::Udp(UdpSink::new()),
            "tcp" => Sink::Stream(StreamSink::tcp()),
            "tls" => Sink::Stream(StreamSink::tls(pki, false)),
            "tls-client" => Sink::Stream(StreamSink::tls(pki, true)),
            "closed" => Sink::Closed(free_port()),
            other => panic!("no such sink: {other}"),
        }
    }

    fn port(&self) -> u16 {
        match self {
            Sink::Udp(sink) => sink.address().port(),
            Sink::Stream(sink) => sink.address().port(),
            Sink::Closed(port) => *port,
        }
    }

    /// Host and port: a name for TLS, so that the certificate's name is checked too.
    fn place(&self) -> String {
        let tls = matches!(self, Sink::Stream(_));
        format!("{}:{}", if tls { "localhost" } else { "127.0.0.1" }, self.port())
    }

    /// What came: datagrams, or the bytes of all connections as one.
    fn received(&self) -> Vec<Vec<u8>> {
        match self {
            Sink::Udp(sink) => sink.received(),
            Sink::Stream(sink) => vec![sink.received().concat()],
            Sink::Closed(_) => Vec::new(),
        }
    }
}

/// What a sink should get.
enum Expected {
    Datagrams(Vec<Vec<u8>>),
    Bytes(Vec<u8>),
}

impl Expected {
    /// Of sink `index`, from the record of what Logspout sent or, where that was a bug, from what
    /// is meant.
    fn of(case: &Case, index: usize) -> Expected {
        let expect = &case.0["expect"];
        let mut places = std::iter::once(expect).chain(list(&expect["also"]));
        let place = places.find(|p| p["sink"].as_u64() == Some(index as u64));
        let intended = &case.0["intended_messages_base64"];
        let messages = if index == 0 && intended.is_array() {
            intended
        } else {
            place.map_or(&Value::Null, |p| &p["messages_base64"])
        };
        let messages: Vec<Vec<u8>> =
            list(messages).iter().map(|m| BASE64.decode(text(m)).unwrap()).collect();
        match text(&case.0["sinks"][index]) {
            "udp" => Expected::Datagrams(messages),
            _ => Expected::Bytes(messages.concat()),
        }
    }

    /// Whether as much has come as is expected, right or wrong.
    fn has_come(&self, sink: &Sink) -> bool {
        let received = sink.received();
        match self {
            Expected::Datagrams(messages) => received.len() >= messages.len(),
            Expected::Bytes(bytes) => {
                received.iter().map(|r| without_times(r).len()).sum::<usize>() >= bytes.len()
            }
        }
    }

    fn compare(&self, sink: &Sink) -> Result<(), String> {
        let received: Vec<_> = sink.received().iter().map(|r| without_times(r)).collect();
        match self {
            Expected::Datagrams(messages) if *messages == received => Ok(()),
            Expected::Datagrams(messages) => {
                let show = |all: &[Vec<u8>]| {
                    all.iter().map(|m| readable(m)).collect::<Vec<_>>().join("\n    ")
                };
                let (want, got) = (show(messages), show(&received));
                Err(format!("\n  datagrams expected:\n    {want}\n  received:\n    {got}"))
            }
            Expected::Bytes(bytes) if *bytes == received.concat() => Ok(()),
            Expected::Bytes(bytes) => Err(difference(bytes, &received.concat())),
        }
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

/// `bytes` with the time of each record as the corpus writes it.
fn without_times(bytes: &[u8]) -> Vec<u8> {
    let pattern = r"(?-u)(<\d{1,3}>(?:1 )?)\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ";
    let time = Regex::new(pattern).unwrap();
    time.replace_all(bytes, &b"$1@TIME@"[..]).into_owned()
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
        let engine = Engine::new();
        let late: Vec<&str> = list(&case.0["late"]).iter().map(text).collect();
        for inspect in list(&case.0["containers"]) {
            engine.add(inspect.clone(), !late.contains(&text(&inspect["Id"])));
        }
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
            text = text.replace(&format!("@SINK{i}@"), &sink.place());
        }
        text
    }

    fn setup(&self, io: &str) -> Setup {
        let mut setup = Setup::new(io).engine(Some(&self.engine.host())).env("SHARDS", "1");
        for (name, value) in self.case.env() {
            setup = setup.env(name, &self.filled(value));
        }
        let uris = self.case.uris();
        if !uris.is_empty() {
            setup = setup.arg(&self.filled(&uris.join(",")));
        }
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
            (true, false) => self.must_refuse(io),
            (true, true) => self.must_go_on(io),
            (false, _) => self.must_deliver(io),
        }
    }

    /// Wrong configuration: one line, exit code 2, and nothing contacted.
    fn must_refuse(&self, io: &str) -> Result<(), String> {
        let mut program = self.setup(io).no_wait().start();
        let Some(ended) = program.wait(Duration::from_secs(10)) else {
            return Err("it runs, but should have refused".into());
        };
        if ended.code != Some(2) || ended.stderr.trim().is_empty() {
            return Err(format!("should have refused with code 2 and a reason: {ended:?}"));
        }
        let requests = self.engine.requests().len();
        if requests > 0 {
            return Err(format!("it refused only after {requests} requests to the daemon"));
        }
        Ok(())
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
        self.play()?;
        let expected: Vec<Expected> =
            (0..self.sinks.len()).map(|i| Expected::of(self.case, i)).collect();
        let pairs = || expected.iter().zip(&self.sinks);
        let limit = Duration::from_secs(4);
        wait_until(limit, || pairs().all(|(expected, sink)| expected.has_come(sink)));
        // Time for what should not come.
        std::thread::sleep(Duration::from_millis(100));
        let outcome = self.compare(&expected);
        let said = end(&mut program)?;
        let outcome = outcome.and_then(|()| self.compare(&expected));
        outcome.map_err(|e| format!("{e}\n  it said: {said}"))
    }

    fn compare(&self, expected: &[Expected]) -> Result<(), String> {
        if self.case.name() == "lines-100k-udp-too-big-for-a-datagram" {
            return compare_cut(self.case, &self.sinks[0]);
        }
        for (i, (expected, sink)) in expected.iter().zip(&self.sinks).enumerate() {
            expected.compare(sink).map_err(|e| format!("sink {i}: {e}"))?;
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

    /// Sends the frames and events, with the pauses that make their order certain.
    fn play(&self) -> Result<(), String> {
        let followed = list(&self.case.0["expect"]["log_streams_opened"]).iter().map(text);
        let followed: Vec<&str> = followed.collect();
        let late: Vec<&str> = list(&self.case.0["late"]).iter().map(text).collect();
        let from_start = followed.iter().copied().filter(|id| !late.contains(id));
        self.wait_followed(&from_start.collect::<Vec<_>>())?;
        let mut before = ("", "");
        for frame in list(&self.case.0["frames"]) {
            let id = text(&frame["container"]);
            let now = (id, text(&frame["stream"]));
            if before != now && !before.0.is_empty() {
                std::thread::sleep(Duration::from_millis(20));
            }
            before = now;
            match text(&frame["event"]) {
                "" => {
                    let stream = if now.1 == "stderr" { Stream::Err } else { Stream::Out };
                    self.engine.write(id, stream, &BASE64.decode(text(&frame["data"])).unwrap());
                    continue;
                }
                "start" => {
                    self.engine.start(id, frame["pid"].as_i64());
                    if followed.contains(&id) {
                        self.wait_followed(&[id])?;
                    }
                }
                "die" => self.engine.die(id),
                "rename" => self.engine.rename(id, text(&frame["name"])),
                other => return Err(format!("the corpus has an event {other}")),
            }
            std::thread::sleep(Duration::from_millis(150));
        }
        Ok(())
    }

    fn wait_followed(&self, ids: &[&str]) -> Result<(), String> {
        if self.engine.wait_followed(ids, Duration::from_secs(10)) {
            return Ok(());
        }
        Err(format!("not attached to all of {ids:?} in 10 s"))
    }
}

/// Ends the program; what it said. A panic or an exit code other than 0 is a failure.
fn end(program: &mut Logchute) -> Result<String, String> {
    let ended = program.stop();
    if ended.code != Some(0) || ended.stderr.contains("panicked") {
        return Err(format!("it ended badly: {ended:?}"));
    }
    Ok(ended.stderr)
}

/// Runs one case; a panic in it is its failure, not that of the whole test.
fn replay(case: &Case, io: &str) -> Result<(), String> {
    let run = std::panic::AssertUnwindSafe(|| Replay::new(case).run(io));
    std::panic::catch_unwind(run).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        Err(said.or(panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default())
    })
}

#[test]
fn the_recorded_wire_is_reproduced_on_both_drivers() {
    const AT_ONCE: usize = 4;
    let only = std::env::var("LOGCHUTE_TEST_CASE").unwrap_or_default();
    let mut left_out: BTreeMap<&str, usize> = BTreeMap::new();
    let (all, mut eligible) = (Case::all(), Vec::new());
    for case in all.iter().filter(|c| c.name().contains(&only)) {
        match case.left_out() {
            Some(reason) => *left_out.entry(reason).or_default() += 1,
            None => eligible.push(case),
        }
    }
    assert!(!eligible.is_empty(), "no case of {} is eligible", all.len());
    let mut failures = Vec::new();
    for io in drivers() {
        let queue = Mutex::new(VecDeque::from_iter(eligible.iter().copied()));
        let failed = Mutex::new(Vec::new());
        let next = || queue.lock().unwrap().pop_front();
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    while let Some(case) = next() {
                        if let Err(error) = replay(case, io) {
                            failed.lock().unwrap().push(format!("{} ({io}): {error}", case.name()));
                        }
                    }
                });
            }
        });
        let failed = failed.into_inner().unwrap();
        let (passed, out) = (eligible.len() - failed.len(), left_out.values().sum::<usize>());
        let of = eligible.len();
        say(&format!("wire, {io}: {passed} passed of {of} eligible, {out} left out {left_out:?}"));
        failures.extend(failed);
    }
    assert!(failures.is_empty(), "{} failed:\n\n{}", failures.len(), failures.join("\n\n"));
}
