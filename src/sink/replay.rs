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
use crate::lines::blocks::Blocks;
use crate::route::RouteSpec;
use crate::sink::templates::Field;
use crate::stamp::Stamp;
use crate::template::{Context, Functions, Line, Template};
use crate::transport::{Delivery, UDP_PAYLOAD_MAX};

/// How many cases of the file are replayed here, and how many of them are refusals. A case that
/// is skipped by mistake is a failure.
const REPLAYED: usize = 149;
const REFUSED: usize = 5;
/// Logspout drops what is too long for a datagram; we cut it.
const TOO_LONG: &str = "lines-100k-udp-too-big-for-a-datagram";
/// `{{.Hostname}}` is the host name, not its template.
const HOSTNAME_METHOD: &str = "template-tag-hostname-method";
/// Its template fails for a line, which is lost.
const FAILS: &str = "raw-format-fails-for-one-line";

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
    let others =
        |uri: &&str| ["multiline", "filter.", "$", "slack"].iter().any(|part| uri.contains(part));
    let excluded =
        ["EXCLUDE_LABEL", "EXCLUDE_LABELS"].iter().any(|name| case["env"][name] != Value::Null);
    let name = text(case, "name");
    !excluded
        && !name.starts_with("exclude-")
        && !name.starts_with("tty-")
        && !routes(case).iter().any(others)
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
    let given = |name: &str| Some(text(env, name).to_owned()).filter(|text| !text.is_empty());
    settings.raw_format = given("RAW_FORMAT");
    for field in Field::ALL.iter().filter(|field| **field != Field::StructuredData) {
        let name = format!("SYSLOG_{}", field.name().to_uppercase());
        settings.syslog.templates.extend(given(&name).map(|text| (field.name(), text)));
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
        answer: Some(inspect.to_string().into_bytes().into()),
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
                for source in Source::OUTPUTS {
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
    let time = time_of(case);
    let decode = |message: &Value| {
        let bytes = STANDARD.decode(message.as_str().unwrap()).unwrap();
        let mut parts = Vec::new();
        let mut rest = &bytes[..];
        while let Some(at) = rest.windows(6).position(|window| window == b"@TIME@") {
            parts.extend([&rest[..at], &time]);
            rest = &rest[at + 6..];
        }
        parts.push(rest);
        parts.concat()
    };
    messages.iter().map(decode).collect()
}

/// The time of the case's records, 1970, in its layout.
fn time_of(case: &Value) -> Vec<u8> {
    let format = match text(case, "time_layout") {
        "" => return TIME.as_bytes().to_vec(),
        "unix" => "{{.Time.Unix}}".to_owned(),
        "unixnano" => "{{.Time.UnixNano}}".to_owned(),
        layout => format!("{{{{.Time.Format `{layout}`}}}}"),
    };
    let template = Template::compile("time", &format, Functions::Predefined).unwrap();
    let mut time = Vec::new();
    let context = Context::raw(Arc::default(), "stdout");
    template.evaluate(&context, &Line::new(b"", &Stamp::new(UNIX_EPOCH)), &mut time).unwrap();
    time
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
        built.sink.encode(&prefix, &Stamp::new(UNIX_EPOCH), Blocks::whole(lines), &mut out);
    });
    let (records, losses) = testing::drain(&mut out);
    let cut_records = u64::from(text(case, "name") == TOO_LONG);
    let failed_lines = u64::from(text(case, "name") == FAILS);
    assert_eq!(losses, Losses { cut_records, failed_lines, ..Losses::default() });
    (records, datagrams)
}

fn replay(case: &Value, ca: &Path) {
    let name = text(case, "name");
    for uri in routes(case) {
        let sink = uri.split_once("@SINK").unwrap().1.split_once('@').unwrap().0;
        let mut expected = expected(case, sink.parse().unwrap());
        let (mut records, datagrams) = sent(case, uri, ca);
        if name == HOSTNAME_METHOD {
            let text = |record: &mut Vec<u8>| String::from_utf8(std::mem::take(record)).unwrap();
            for record in &mut expected {
                *record = text(record).replace("{{.Container.Config.Hostname}}", "lab-host").into();
            }
        }
        if name == TOO_LONG {
            assert_eq!(records.remove(1).len(), UDP_PAYLOAD_MAX);
        }
        match datagrams {
            true => assert!(
                records == expected,
                "{name}: {uri}: {:?}",
                records.first().map(|r| String::from_utf8_lossy(r).into_owned())
            ),
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
        } else if ["bad ", "template: "]
            .iter()
            .any(|e| text(&case["expect"], "error").starts_with(e))
        {
            let uri = routes(&case)[0];
            assert!(super::build(&route(uri), &settings(&case, ca.path())).is_err(), "{uri}");
            refused += 1;
        }
    }
    assert_eq!((replayed, refused), (REPLAYED, REFUSED));
}
