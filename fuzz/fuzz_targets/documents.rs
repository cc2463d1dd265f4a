//! Lines that may be JSON themselves, as `logstash` and `logentries` write them: whatever comes, a
//! record is one line, and serde_json reads from it what it reads from the line.

#![no_main]

use std::sync::{Arc, LazyLock};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use logchute::buffer::{Budget, Outbox};
use logchute::config::Settings;
use logchute::docker::Source;
use logchute::docker::inspect::Container;
use logchute::lines::blocks::Blocks;
use logchute::route::{RouteSpec, Selector};
use logchute::sink::{self, Sink};
use logchute::stamp::Stamp;
use logchute::transport::UDP_PAYLOAD_MAX;
use logchute_fuzz::{check_message, drain};
use serde_json::{Map, Value};

#[derive(Arbitrary, Debug)]
struct Case<'a> {
    options: u8,
    name: String,
    env: String,
    added: &'a str,
    lines: &'a [u8],
}

static SETTINGS: LazyLock<Settings> = LazyLock::new(Settings::default);

/// Members of a record that no line changes.
const OWN: [&str; 3] = ["docker", "stream", "tags"];

fuzz_target!(|case: Case<'_>| {
    let flag = |bit: u8| case.options >> bit & 1 == 1;
    let (is_logstash, joined) = (flag(0), flag(1));
    let built = sink::build(&route(&case, is_logstash), &SETTINGS);
    let sink = match built {
        Ok(built) => built.sink,
        Err(error) => return check_message(&error),
    };
    let mut lines = case.lines.to_vec();
    if lines.last() != Some(&b'\n') {
        lines.push(b'\n');
    }
    let blocks = if joined { Blocks::joined(&lines) } else { Blocks::whole(&lines) };
    let records = records(&*sink, &case, blocks);
    let texts: Vec<&[u8]> = blocks.lines().collect();
    // Logentries takes no empty ones.
    let texts = texts.into_iter().filter(|text| is_logstash || !text.is_empty());
    assert_eq!(records.len(), texts.clone().count());
    for (record, text) in records.iter().zip(texts) {
        match is_logstash {
            true => check_members(record, text, !joined),
            false => check_line(record, text),
        }
    }
});

fn route(case: &Case<'_>, is_logstash: bool) -> RouteSpec {
    let options: &[(&str, &str)] = match is_logstash {
        true => &[("logstash.fields", case.added), ("logstash.labels", "on")],
        false => {
            &[("logentries.token", "t"), ("logentries.json", "on"), ("logentries.add", case.added)]
        }
    };
    RouteSpec {
        id: "0".to_owned(),
        adapter: if is_logstash { "logstash" } else { "logentries" }.to_owned(),
        transport: Some("tcp".to_owned()),
        address: "127.0.0.1:9".to_owned(),
        selector: Selector::default(),
        options: options.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect(),
    }
}

/// The objects of the records, each of which is one line.
fn records(sink: &dyn Sink, case: &Case<'_>, lines: Blocks<'_>) -> Vec<Map<String, Value>> {
    let container = Container {
        name: case.name.clone(),
        env: vec![format!("LOGSTASH_FIELDS={}", case.env)],
        labels: [(case.name.clone(), case.env.clone())].into(),
        ..Container::default()
    };
    let record_max = if case.options & 4 == 0 { usize::MAX } else { UDP_PAYLOAD_MAX };
    let mut out = Outbox::new(Arc::new(Budget::new(1 << 20, 1)), record_max);
    let prefix = sink.prefix(&container, Source::Stdout);
    sink.encode(&prefix, &Stamp::new(std::time::UNIX_EPOCH), lines, &mut out);
    let read = |record: Vec<u8>| {
        let (newline, record) = record.split_last().expect("no record is empty");
        assert!(*newline == b'\n' && !record.contains(&b'\n'), "{}", record.escape_ascii());
        let object = record.strip_prefix(b"t ").unwrap_or(record);
        serde_json::from_slice(object).unwrap_or_else(|e| panic!("{e}: {}", record.escape_ascii()))
    };
    drain(&mut out).into_iter().map(read).collect()
}

/// Of Logstash: an object's members are there, and else its text is.
fn check_members(record: &Map<String, Value>, text: &[u8], whole: bool) {
    assert!(OWN.iter().all(|name| record.contains_key(*name)), "{record:?}");
    match serde_json::from_slice::<Map<String, Value>>(text) {
        // What nests deeply is text.
        Ok(members) if !record.get("message").is_some_and(|m| is_text(m, text)) => {
            for (name, value) in &members {
                let kept = record.get(name) == Some(value) || record[name].is_string();
                assert!(kept || OWN.contains(&&**name), "{name}: {record:?}");
            }
        }
        Ok(_) => {}
        Err(_) if whole => assert!(is_text(&record["message"], text), "{record:?}"),
        Err(_) => {}
    }
}

/// Of Logentries: the line is the value that it is, or its text.
fn check_line(record: &Map<String, Value>, text: &[u8]) {
    let line = &record["line"];
    match serde_json::from_slice::<Value>(text) {
        Ok(value) => assert!(*line == value || is_text(line, text), "{record:?}"),
        Err(_) => assert!(is_text(line, text), "{record:?}"),
    }
}

/// Whether `value` is `text`, perhaps cut, with marks for what is not UTF-8.
fn is_text(value: &Value, text: &[u8]) -> bool {
    let plain = |text: &str| text.replace('\u{fffd}', "");
    let text = plain(&String::from_utf8_lossy(text));
    value.as_str().is_some_and(|value| text.starts_with(&plain(value)))
}
