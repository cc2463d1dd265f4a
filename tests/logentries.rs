//! Receivers of documents and of syslog with a token, as the program serves them: Logentries by
//! docker-logentries' own command line, Logstash, Papertrail, Loggly. The other side is a socket of
//! the test's own and serde_json, or a real rsyslog.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

mod support;

use serde_json::{Value, json};
use support::docker::Docker;
use support::engine::{Engine, Stream, inspect};
use support::logchute::{Logchute, Setup, end};
use support::pki::Pki;
use support::receivers::{StreamSink, UdpSink};
use support::scene::{ID, SOON};
use support::syslogd::{Door, Syslogd};
use support::{on_each_driver, readable, wait_until};

const TOKEN: &str = "2bfbea1e-10c3-4419-bdad-7e6435882e1f";

/// A record of a token input: its token, and its object.
type Record = (String, Value);

/// The records of what came over one connection, each of which ended with a newline.
fn records(bytes: &[u8]) -> Vec<Record> {
    let text = std::str::from_utf8(bytes).unwrap_or_else(|_| panic!("{}", readable(bytes)));
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole
        .split('\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            let (token, object) = line.split_once(' ').unwrap_or_else(|| panic!("{line}"));
            let object = serde_json::from_str(object).unwrap_or_else(|e| panic!("{e}: {line}"));
            (token.to_owned(), object)
        })
        .collect()
}

fn all_records(sink: &StreamSink) -> Vec<Record> {
    sink.received().iter().flat_map(|bytes| records(bytes)).collect()
}

/// The same of lines alone; of records, stats and events have no line.
fn lines(sink: &StreamSink) -> Vec<Record> {
    all_records(sink).into_iter().filter(|(_, record)| record.get("line").is_some()).collect()
}

fn words(mut setup: Setup, line: &str) -> Setup {
    for word in line.split(' ') {
        setup = setup.arg(word);
    }
    setup
}

/// A scripted engine with the container `web`, and the program following it.
fn follow(setup: Setup, env: &[&str]) -> (Engine, Logchute) {
    let engine = Engine::new();
    let mut web = inspect(ID, "web");
    web["Config"]["Env"] = json!(env);
    web["Config"]["Labels"] = json!({"com.example.team": "shop"});
    engine.add(web, true);
    let program = setup.engine(Some(&engine.host())).start();
    assert!(engine.wait_followed(&[ID], SOON), "{}", program.stderr());
    (engine, program)
}

fn trusting(setup: Setup, pki: &Pki) -> Setup {
    setup
        .env("LOGSPOUT_TLS_DISABLE_SYSTEM_ROOTS", "true")
        .env("LOGSPOUT_TLS_CA_CERTS", &pki.ca().display().to_string())
}

fn now_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

#[test]
fn the_command_of_docker_logentries_carries_a_real_engine() {
    let Some(docker) = Docker::of_host() else { return };
    let pki = Pki::new();
    on_each_driver(|io| {
        let sink = StreamSink::tls(&pki, false);
        let prefix = format!("lct-le-{io}");
        let setup = trusting(Setup::new(io).engine(docker.host().as_deref()), &pki);
        let line = format!(
            "logentries -t {TOKEN} -j -a host=web1 -s --server localhost --port {} \
             --matchByName ^/{prefix} --skipByName {prefix}-skipped",
            sink.address().port()
        );
        let begun = now_millis();
        let program = words(setup, &line).start();
        let follows = || {
            let _canary = docker.start(&prefix, &[], &["lines", "1", "--prefix", "@canary"]);
            let came = || lines(&sink).iter().any(|(_, r)| r["line"] != Value::Null);
            wait_until(Duration::from_secs(3), came)
        };
        assert!((0..5).any(|_| follows()), "{}", program.stderr());
        let object = r#"{"level":"info","n":[1,null]}"#;
        let plain = docker.start(&prefix, &[], &["lines", "50", "--prefix", "@plain"]);
        let json = docker.start(&prefix, &[], &["repeat", object, "20"]);
        let skipped = docker.start(&format!("{prefix}-skipped"), &[], &["lines", "5"]);
        let of = |name: &str| -> Vec<Value> {
            let records = lines(&sink).into_iter().map(|(_, record)| record);
            records.filter(|record| record["name"] == *name).collect()
        };
        let all = || of(&plain.name).len() >= 50 && of(&json.name).len() >= 20;
        assert!(wait_until(SOON, all), "{}", program.stderr());
        let id = plain.inspect("{{.Id}}").trim().to_owned();
        let image = plain.inspect("{{.Config.Image}}").trim().to_owned();
        for (number, record) in of(&plain.name).iter().enumerate() {
            let line = record["line"].as_str().unwrap();
            assert!(line.starts_with(&format!("@plain {:08} ", number + 1)), "{line}");
            let time = record["time"].as_u64().unwrap();
            assert!((begun..=now_millis()).contains(&time), "{record}");
            let expected = json!({
                "v": 0, "id": &id[..12], "long_id": id, "image": image, "name": plain.name,
                "host": "web1", "time": time, "line": line,
            });
            assert_eq!(*record, expected);
        }
        let parsed: Value = serde_json::from_str(object).unwrap();
        assert!(of(&json.name).iter().all(|record| record["line"] == parsed));
        assert_eq!((of(&json.name).len(), of(&plain.name).len()), (20, 50));
        assert!(of(&skipped.name).is_empty());
        assert!(all_records(&sink).iter().all(|(token, _)| token == TOKEN));
        let said = end(program);
        assert!(!said.contains(TOKEN), "{said}");
    });
}

#[test]
fn usage_and_refusals_are_told_apart_by_their_exit_codes() {
    for (line, code, said) in [
        ("logentries --help", 1, ""),
        ("logentries", 1, ""),
        (
            "logentries -t sEcReT --matchByName (?!a)",
            2,
            "filter.name.regex: \"(?!a)\": look-around",
        ),
        ("logentries -t sEcReT --bad", 2, "--bad: is not an option"),
        (
            "logentries://?logentries.token=sEcReT&filter.sources=stats&logentries.json=x",
            2,
            "neither",
        ),
        ("insightops://?logentries.token=sEcReT", 2, "logentries.region=eu"),
    ] {
        let mut program = words(Setup::new("poll"), line).no_wait().start();
        let ended = program.wait(SOON).unwrap_or_else(|| panic!("{line} goes on"));
        assert_eq!(ended.code, Some(code), "{line}: {}", ended.stderr);
        assert!(ended.stderr.contains(said), "{line}: {}", ended.stderr);
        assert!(!ended.stderr.contains("sEcReT"), "{}", ended.stderr);
    }
}

/// Lines `@NNNN` of which each must have come, in their order within a connection.
fn check_numbers(sink: &StreamSink, count: usize) {
    let mut came: BTreeMap<usize, usize> = BTreeMap::new();
    for connection in sink.received() {
        let mut last = 0;
        for (_, record) in records(&connection) {
            let line = record["line"].as_str().unwrap();
            let number = line.strip_prefix('@').unwrap().parse().unwrap();
            assert!(number > last, "{number} behind {last}");
            last = number;
            *came.entry(number).or_default() += 1;
        }
    }
    let missing: Vec<_> = (1..=count).filter(|number| !came.contains_key(number)).collect();
    assert!(missing.is_empty(), "missing: {missing:?}");
    let twice = came.values().filter(|&&times| times > 1).count();
    assert!(twice < count, "all of them came twice");
}

#[test]
fn lines_outlive_a_receiver_that_refuses_and_resets() {
    let pki = Pki::new();
    on_each_driver(|io| {
        for tls in [false, true] {
            let mut sink = if tls { StreamSink::tls(&pki, false) } else { StreamSink::tcp() };
            let address = sink.address();
            sink.down();
            let plus = if tls { "+tls" } else { "" };
            let uri = format!("logentries{plus}://localhost:{}?x=", address.port());
            let setup = trusting(Setup::new(io), &pki).env("SHARDS", "1");
            let setup = setup.env("LOGENTRIES_TOKEN", TOKEN).arg(&uri);
            let (engine, program) = follow(setup, &[]);
            let write = |from: usize, to: usize| {
                for number in from..=to {
                    engine.write(ID, Stream::Out, format!("@{number:04}\n").as_bytes());
                }
            };
            write(1, 200);
            std::thread::sleep(Duration::from_millis(300));
            sink.up();
            let has = |count: usize| {
                wait_until(SOON, || {
                    let last = format!("@{count:04}");
                    lines(&sink).iter().any(|(_, record)| record["line"] == *last)
                })
            };
            assert!(has(200), "{}", program.stderr());
            sink.close_connections();
            write(201, 400);
            assert!(has(400), "{}", program.stderr());
            sink.down();
            write(401, 600);
            sink.up();
            let has = wait_until(SOON, || {
                lines(&sink).iter().any(|(_, record)| record["line"] == "@0600")
            });
            assert!(has, "{}", program.stderr());
            check_numbers(&sink, 600);
            let said = end(program);
            assert!(!said.contains(TOKEN), "{said}");
        }
    });
}

#[test]
fn a_receiver_that_hangs_or_cannot_be_trusted_holds_lines_and_is_said() {
    let pki = Pki::new();
    let (hangs, stranger) = (StreamSink::never_reads(), StreamSink::tls(&pki, false));
    let setup = Setup::new("poll")
        .env("SHARDS", "1")
        .env("BUFFER", "64KiB")
        .env("OVERFLOW", "drop-oldest")
        .env("DRAIN_TIMEOUT", "1s")
        .env("LOGSPOUT_TLS_DISABLE_SYSTEM_ROOTS", "true")
        .env("LOGSPOUT_TLS_CA_CERTS", &pki.other_ca().display().to_string())
        .env("LOGENTRIES_LOGSTOKEN", TOKEN)
        .arg(&format!("logentries://{}", hangs.address()))
        .arg(&format!("logentries+tls://localhost:{}", stranger.address().port()));
    let (engine, mut program) = follow(setup, &[]);
    let text = "x".repeat(1_000);
    for _ in 0..2_000 {
        engine.write(ID, Stream::Out, format!("{text}\n").as_bytes());
    }
    // Neither holds up the container, nor the other.
    let dropped = || program.metric("logchute_lines_dropped") >= 1_800.0;
    assert!(wait_until(SOON, dropped), "{}", program.metrics());
    let said = |what: &str| wait_until(SOON, || program.stderr().contains(what));
    assert!(said("certificate"), "{}", program.stderr());
    assert_eq!(stranger.total(), 0);
    let ended = program.stop();
    assert!(ended.stderr.contains("dropped") && !ended.stderr.contains(TOKEN), "{}", ended.stderr);
}

#[test]
fn empty_lines_are_counted_and_a_token_from_a_file_is_not_shown() {
    let sink = StreamSink::tcp();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{TOKEN}\n")).unwrap();
    let uri = format!(
        "logentries://{}?logentries.add=host%3Dh1%2Cenv%3Dprod&logentries.json=on&buffer=1MiB",
        sink.address()
    );
    let setup = Setup::new("poll")
        .env("LOGENTRIES_TOKEN_FILE", &file.path().display().to_string())
        .env("SHARDS", "1")
        .arg(&uri);
    let (engine, program) = follow(setup, &[]);
    engine.write(ID, Stream::Err, b"\n{\"a\":{\"b\":1}}\n\n\xff{\n");
    assert!(wait_until(SOON, || sink.newlines() == 2), "{}", program.stderr());
    let records = lines(&sink);
    assert_eq!(records[0].1["line"], json!({"a": {"b": 1}}));
    assert_eq!(records[1].1["line"], "\u{fffd}{");
    for (token, record) in &records {
        assert_eq!(
            (&**token, &record["host"], &record["env"]),
            (TOKEN, &json!("h1"), &json!("prod"))
        );
        assert_eq!(record["id"], ID[..12]);
    }
    assert!(wait_until(SOON, || program.metric("logchute_lines_filtered") == 2.0));
    assert_eq!(program.metric("logchute_lines_received"), 4.0);
    let said = end(program);
    assert!(!said.contains(TOKEN), "{said}");
}

#[test]
fn logstash_gets_objects_over_datagrams_and_streams() {
    let pki = Pki::new();
    let (udp, tcp, tls) = (UdpSink::new(), StreamSink::tcp(), StreamSink::tls(&pki, false));
    let setup = trusting(Setup::new("poll"), &pki)
        .env("SHARDS", "1")
        .env("LOGSTASH_FIELDS", "env=prod")
        .env("DOCKER_LABELS", "yes")
        .arg(&format!("logstash://{}", udp.address()))
        .arg(&format!("logstash+tcp://{}", tcp.address()))
        .arg(&format!("logstash+tls://localhost:{}", tls.address().port()));
    let (engine, program) = follow(setup, &["LOGSTASH_TAGS=docker,production"]);
    engine.write(ID, Stream::Out, b"plain \"text\" \x01\n");
    engine.write(ID, Stream::Err, b"{\"message\":\"m\",\"level\":3,\"docker\":\"mine\"}\n");
    let streams = || tcp.newlines() == 2 && tls.newlines() == 2;
    assert!(wait_until(SOON, || streams() && udp.received().len() == 2), "{}", program.stderr());
    let datagrams = udp.received().concat();
    for bytes in [datagrams, tcp.received().concat(), tls.received().concat()] {
        let mut records: Vec<Value> = bytes
            .split_inclusive(|&byte| byte == b'\n')
            .map(|record| serde_json::from_slice(record).unwrap())
            .collect();
        for record in &mut records {
            let time = record.as_object_mut().unwrap().remove("@timestamp").unwrap();
            let time = time.as_str().unwrap();
            assert!(time.len() == 27 && time.starts_with("20") && time.ends_with('Z'), "{time}");
        }
        let record = |stream: &str, more: Value| {
            let mut record = json!({
                "docker": {
                    "name": "/web", "id": ID, "image": "test:1", "hostname": &ID[..12],
                    "labels": {"com_example_team": "shop"},
                },
                "stream": stream, "tags": ["docker", "production"], "env": "prod",
            });
            record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            record
        };
        // Two sources of a container have no order among each other.
        records.sort_by_key(|record| record["stream"] == "stderr");
        let expected = [
            record("stdout", json!({"message": "plain \"text\" \u{1}"})),
            record("stderr", json!({"message": "m", "level": 3})),
        ];
        assert_eq!(records, expected);
    }
    end(program);
}

#[test]
fn rsyslog_reads_what_papertrail_and_loggly_get() {
    let pki = Pki::new();
    let Some(mut receiver) = Syslogd::start_reading(&pki) else { return };
    for door in [Door::Udp, Door::Tcp, Door::Tls] {
        let transport = door.transport();
        let port = receiver.address(door).port();
        let before = receiver.records().len();
        // Settings of other syslog routes, which do not hold for these.
        let setup = trusting(Setup::new("poll"), &pki)
            .env("SHARDS", "1")
            .env("SYSLOG_TCP_FRAMING", "octet-counted")
            .env("SYSLOG_FORMAT", "rfc3164")
            .env("LOGGLY_TOKEN", TOKEN)
            .env("LOGGLY_TAGS", "docker,a.b")
            .arg(&format!("loggly+{transport}://localhost:{port}"))
            .arg(&format!("papertrail+{transport}://localhost:{port}"));
        let (engine, program) = follow(setup, &[]);
        let long = "é".repeat(2_000);
        engine.write(ID, Stream::Err, format!("hello ]\n{long}\n").as_bytes());
        let had = receiver.records()[..before].iter().filter(|&&byte| byte == b'\n').count();
        assert!(receiver.wait_for(had + 4, Duration::from_secs(5)), "{}", program.stderr());
        let text = String::from_utf8(receiver.records().split_off(before)).unwrap();
        let id = &ID[..12];
        let element = format!("[{TOKEN}@41058 tag=\"docker\" tag=\"a.b\"]");
        for data in [&*element, "-"] {
            let begin = format!("{data}|{id}|web|");
            let of: Vec<_> = text.lines().filter_map(|line| line.strip_prefix(&begin)).collect();
            assert_eq!((of.len(), of[0]), (2, "hello ]"), "{transport}: {text}");
            // Of the text, what is left behind the head in 1,024 bytes.
            let is_cut = transport == "udp" && data == "-";
            assert_eq!(of[1].len() < 1_024, is_cut, "{transport}: {}", of[1].len());
            assert!(of[1].chars().all(|c| c == 'é') && of[1].len() > 900, "{transport}: {text}");
        }
        let cut = if transport == "udp" { 1.0 } else { 0.0 };
        assert_eq!(program.metric("logchute_cut_records"), cut, "{}", program.metrics());
        let said = end(program);
        assert!(!said.contains(TOKEN), "{said}");
    }
    receiver.stop();
}

#[test]
fn stats_and_events_of_a_real_engine_have_tokens_and_members_of_their_own() {
    let Some(docker) = Docker::of_host() else { return };
    let sink = StreamSink::tcp();
    let setup = Setup::new("poll").engine(docker.host().as_deref()).env("SHARDS", "1");
    let line = format!(
        "logentries -l logs -k stats -e events -i 2 -a host=web1 --server 127.0.0.1 --port {} \
         --matchByName ^/lct-lese",
        sink.address().port()
    );
    let program = words(setup, &line).start();
    let ticking = docker.start("lct-lese", &[], &["tick", "200"]);
    let of = |token: &str| -> Vec<Value> {
        let records = all_records(&sink).into_iter();
        let of = records.filter(|(own, record)| own == token && record["name"] == *ticking.name);
        of.map(|(_, record)| record).collect()
    };
    let all = || !of("logs").is_empty() && !of("stats").is_empty();
    assert!(wait_until(SOON, all), "{}: {:?}", program.stderr(), all_records(&sink));
    ticking.stop();
    let died = || of("events").iter().any(|event| event["type"] == "die");
    assert!(wait_until(SOON, died), "{}: {:?}", program.stderr(), of("events"));
    let id = ticking.inspect("{{.Id}}").trim().to_owned();
    let image = ticking.inspect("{{.Config.Image}}").trim().to_owned();
    for stats in of("stats") {
        let expected = json!({
            "v": 0, "id": &id[..12], "image": image, "name": ticking.name, "host": "web1",
            "stats": stats["stats"],
        });
        assert_eq!(stats, expected);
        assert!(stats["stats"]["cpu_percent"].is_number(), "{stats}");
        assert!(stats["stats"]["memory_bytes"].as_u64().is_some_and(|bytes| bytes > 0));
    }
    let event = |kind: &str| of("events").into_iter().find(|event| event["type"] == kind);
    let begun = event("start").unwrap_or_else(|| panic!("{:?}", of("events")));
    let expected = json!({
        "id": id, "type": "start", "image": image, "name": ticking.name, "host": "web1",
        "time": begun["time"],
    });
    assert_eq!(begun, expected);
    assert!(event("die").is_some_and(|event| event["exit_code"].is_number()));
    // One that chooses containers is told of nothing else.
    let others = all_records(&sink).into_iter().filter(|(token, _)| token == "events");
    let names: Vec<Value> = others.map(|(_, event)| event["name"].clone()).collect();
    assert!(names.iter().all(|name| name.as_str().unwrap().starts_with("lct-lese")), "{names:?}");
    end(program);
}
