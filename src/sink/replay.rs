//! The sinks against what Logspout really wrote: `tests/conformance/wire.jsonl`.
//!
//! Frames become lines the plain way here, routes are read just as far as these cases need it, and
//! cases that test other stages (filters, `$` expansion) are left to the replay of the whole
//! program, as are those with templates and multiline groups.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::testing::{self, TIME};
use crate::buffer::{Budget, Losses, Outbox};
use crate::config::{Framing, Settings, SyslogFormat};
use crate::docker::Source;
use crate::docker::inspect::Container;
use crate::route::RouteSpec;
use crate::stamp::Stamp;
use crate::transport::{Delivery, UDP_PAYLOAD_MAX};

/// How many cases of the file are replayed here, and how many of them are refusals. A case that
/// is skipped by mistake is a failure.
const REPLAYED: usize = 82;
const REFUSED: usize = 3;
/// Logspout drops what is too long for a datagram; we cut it.
const TOO_LONG: &str = "lines-100k-udp-too-big-for-a-datagram";

const TEMPLATES: [&str; 6] = ["PRIORITY", "TIMESTAMP", "TAG", "PID", "DATA", "HOSTNAME"];

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_default()
}

fn list<'a>(value: &'a Value, member: &str) -> &'a [Value] {
    value[member].as_array().map_or(&[], Vec::as_slice)
}

fn routes(case: &Value) -> Vec<&str> {
    match list(case, "argv") {
        [] => text(&case["env"], "ROUTE_URIS").split(',').collect(),
        argv => argv.iter().filter_map(Value::as_str).collect(),
    }
}

fn is_for_here(case: &Value) -> bool {
    let env = &case["env"];
    let set = |name: &str| !text(env, name).is_empty();
    let syslog = routes(case).iter().any(|uri| uri.starts_with("syslog"));
    let format = text(env, "RAW_FORMAT");
    let templates = !["", "{{.Data}}\n"].contains(&format)
        || syslog && TEMPLATES.iter().any(|name| set(&format!("SYSLOG_{name}")))
        || text(env, "SYSLOG_STRUCTURED_DATA").contains("{{")
        || text(&case["files"], "/etc/host_hostname").contains("{{");
    let others = |uri: &&str| {
        ["multiline", "filter.", "$", "%7B%7B", "slack"].iter().any(|part| uri.contains(part))
    };
    !templates && !routes(case).iter().any(others)
}

/// `ADAPTER[+TRANSPORT]://…[?OPTION=VALUE&…]`, for the URIs of the corpus.
fn route(uri: &str) -> RouteSpec {
    let (scheme, rest) = uri.split_once("://").unwrap();
    let (adapter, transport) = match scheme.split_once('+') {
        Some((adapter, transport)) => (adapter, Some(transport)),
        None if ["tcp", "udp", "tls"].contains(&scheme) => ("raw", Some(scheme)),
        None => (scheme, None),
    };
    let mut route = testing::route(adapter, transport, "localhost:514", &[]);
    let query = rest.split_once('?').map_or("", |(_, query)| query);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap();
        route.options.push((name.to_owned(), decoded(value)));
    }
    route
}

fn decoded(value: &str) -> String {
    let mut parts = value.split('%');
    let mut out = parts.next().unwrap_or_default().replace('+', " ");
    for part in parts {
        out.push(char::from(u8::from_str_radix(&part[..2], 16).unwrap()));
        out.push_str(&part[2..].replace('+', " "));
    }
    out
}

fn settings(case: &Value, ca: &Path) -> Settings {
    let mut settings = Settings { tls: testing::trusting(ca), ..Settings::default() };
    let env = &case["env"];
    if text(env, "SYSLOG_FORMAT") == "rfc3164" {
        settings.syslog.format = SyslogFormat::Rfc3164;
    }
    if text(env, "SYSLOG_TCP_FRAMING") == "octet-counted" {
        settings.syslog.framing = Framing::OctetCounted;
    }
    settings.syslog.structured_data = text(env, "SYSLOG_STRUCTURED_DATA").to_owned();
    let host = text(&case["files"], "/etc/host_hostname").trim();
    settings.syslog.host_hostname = (!host.is_empty()).then(|| host.to_owned());
    settings
}

fn container(inspect: &Value) -> Container {
    Container {
        id: text(inspect, "Id").to_owned(),
        name: text(inspect, "Name").trim_start_matches('/').to_owned(),
        hostname: text(&inspect["Config"], "Hostname").to_owned(),
        pid: inspect["State"]["Pid"].as_u64().unwrap_or_default(),
        ..Container::default()
    }
}

/// Calls `line` with each block of whole lines, in the order of the frames.
fn each_block(case: &Value, mut block: impl FnMut(&Container, Source, &[u8])) {
    let mut containers: BTreeMap<&str, Container> =
        list(case, "containers").iter().map(|c| (text(c, "Id"), container(c))).collect();
    let mut carries: BTreeMap<(&str, Source), Vec<u8>> = BTreeMap::new();
    for frame in list(case, "frames") {
        let id = text(frame, "container");
        let container = containers.get_mut(id).unwrap();
        match text(frame, "event") {
            "" => {}
            "rename" => container.name = text(frame, "name").trim_start_matches('/').to_owned(),
            "start" => container.pid = frame["pid"].as_u64().unwrap_or(container.pid),
            "die" => {
                for source in Source::ALL {
                    let rest = carries.remove(&(id, source)).unwrap_or_default();
                    block(container, source, &rest);
                }
            }
            other => panic!("unknown event {other}"),
        }
        let stderr = text(frame, "stream") == "stderr";
        let source = if stderr { Source::Stderr } else { Source::Stdout };
        let carry = carries.entry((id, source)).or_default();
        carry.extend(STANDARD.decode(text(frame, "data")).unwrap());
        let whole = carry.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<u8> = carry.drain(..whole).collect();
        block(container, source, &lines);
    }
}

fn expected(case: &Value, sink: usize) -> Vec<Vec<u8>> {
    let expect = &case["expect"];
    let also = list(expect, "also");
    let entry =
        std::iter::once(expect).chain(also).find(|e| e["sink"].as_u64() == Some(sink as u64));
    let recorded = entry.map_or(&[][..], |entry| list(entry, "messages_base64"));
    let messages = match list(case, "intended_messages_base64") {
        intended if sink == 0 && !intended.is_empty() => intended,
        _ => recorded,
    };
    let decode = |message: &Value| {
        let bytes = STANDARD.decode(message.as_str().unwrap()).unwrap();
        let at = bytes.windows(6).position(|window| window == b"@TIME@");
        match at {
            Some(at) => [&bytes[..at], TIME.as_bytes(), &bytes[at + 6..]].concat(),
            None => bytes,
        }
    };
    messages.iter().map(decode).collect()
}

/// What the route sends, and whether as datagrams.
fn sent(case: &Value, uri: &str, ca: &Path) -> (Vec<Vec<u8>>, bool) {
    let built =
        super::build(&route(uri), &settings(case, ca)).unwrap_or_else(|error| panic!("{error}"));
    let datagrams = matches!(built.delivery, Delivery::Datagram(_));
    let record_max = if datagrams { UDP_PAYLOAD_MAX } else { usize::MAX };
    let mut out = Outbox::new(Arc::new(Budget::new(16 << 20, 1)), record_max);
    each_block(case, |container, source, lines| {
        let prefix = built.sink.prefix(container, source);
        built.sink.encode(&prefix, &Stamp::new(UNIX_EPOCH), lines, &mut out);
    });
    let (records, losses) = testing::drain(&mut out);
    let cut_records = u64::from(text(case, "name") == TOO_LONG);
    assert_eq!(losses, Losses { cut_records, ..Losses::default() });
    (records, datagrams)
}

fn replay(case: &Value, ca: &Path) {
    let name = text(case, "name");
    for uri in routes(case) {
        let sink = uri.split_once("@SINK").unwrap().1.split_once('@').unwrap().0;
        let expected = expected(case, sink.parse().unwrap());
        let (mut records, datagrams) = sent(case, uri, ca);
        if name == TOO_LONG {
            assert_eq!(records.remove(1).len(), UDP_PAYLOAD_MAX);
        }
        match datagrams {
            true => assert!(records == expected, "{name}: {uri}"),
            false => assert!(records.concat() == expected.concat(), "{name}: {uri}"),
        }
    }
}

#[test]
fn as_logspout() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/wire.jsonl");
    let corpus = std::fs::read_to_string(path).unwrap();
    let ca = testing::authority();
    let (mut replayed, mut refused) = (0, 0);
    for line in corpus.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        if !is_for_here(&case) {
            continue;
        }
        if case["expect"]["refused"] != true {
            replay(&case, ca.path());
            replayed += 1;
        } else if text(&case["expect"], "error").starts_with("bad ") {
            let uri = routes(&case)[0];
            assert!(super::build(&route(uri), &settings(&case, ca.path())).is_err(), "{uri}");
            refused += 1;
        }
    }
    assert_eq!((replayed, refused), (REPLAYED, REFUSED));
}
