//! The syslog encoder: a naive receiver finds each record again, and an independent parser of
//! RFC 5424 (`syslog_loose`) each of its fields.

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
use logchute::sink;
use logchute::stamp::Stamp;
use logchute_fuzz::{check_message, drain, octet_counted};
use syslog_loose::{Message, ProcId, Protocol, SyslogFacility, SyslogSeverity, Variant};

#[derive(Arbitrary, Debug)]
struct Case<'a> {
    options: u8,
    pid: u32,
    nanos: u64,
    name: String,
    hostname: String,
    append_tag: &'a str,
    elements: Vec<Element<'a>>,
    lines: &'a [u8],
}

impl Case<'_> {
    /// As high as Linux goes (`PID_MAX_LIMIT`).
    fn pid(&self) -> u32 {
        self.pid % (1 << 22)
    }
}

/// An element of structured data: an id, and a parameter.
#[derive(Arbitrary, Debug)]
struct Element<'a> {
    id: u16,
    name: u16,
    value: &'a str,
}

static SETTINGS: LazyLock<Settings> = LazyLock::new(Settings::default);

fuzz_target!(|case: Case<'_>| check(&case));

fn check(case: &Case<'_>) {
    let flag = |bit: u8| case.options >> bit & 1 == 1;
    let (rfc3164, counted, stderr, cut) = (flag(0), flag(1), flag(2), flag(3));
    let elements = if rfc3164 { &[][..] } else { &case.elements[..case.elements.len().min(4)] };
    let source = if stderr { Source::Stderr } else { Source::Stdout };
    let container = Container {
        name: case.name.clone(),
        hostname: case.hostname.clone(),
        pid: u64::from(case.pid()),
        ..Container::default()
    };
    let sink = match sink::build(&route(case, elements, rfc3164, counted), &SETTINGS) {
        Ok(built) => built.sink,
        Err(error) => return check_message(&error),
    };
    let mut lines = case.lines.to_vec();
    if !lines.is_empty() && !cut {
        lines.push(b'\n');
    }
    let mut out = Outbox::new(Arc::new(Budget::new(1 << 20, 1)), usize::MAX);
    let mut stamp = Stamp::new(std::time::UNIX_EPOCH);
    stamp.set_nanos(case.nanos);
    let count =
        sink.encode(&sink.prefix(&container, source), &stamp, Blocks::whole(&lines), &mut out);

    let stream = drain(&mut out).concat();
    let records = if counted {
        octet_counted(&stream)
    } else {
        stream.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect()
    };
    let expected: Vec<&[u8]> = lines.split_inclusive(|&byte| byte == b'\n').collect();
    assert_eq!((records.len(), count as usize), (expected.len(), expected.len()));
    // What a template makes of it is another target's matter.
    let is_template = |text: &str| text.contains("{{") || text.contains("%{");
    if is_template(case.append_tag) || elements.iter().any(|element| is_template(element.value)) {
        return;
    }
    let tag = format!("{}{}", case.name, case.append_tag).replace(char::is_control, "_");
    let host = case.hostname.replace(|c: char| c.is_control() || c.is_whitespace(), "_");
    let (host, tag) = match rfc3164 {
        true => (or_nil(&host, usize::MAX), or_nil(&tag, 32)),
        false => (or_nil(&host, 255), or_nil(&tag, 48)),
    };
    // The parser ends a field at any white space, and at a colon if that is its last character.
    let parser_can = |field: &str| !field.contains(char::is_whitespace) && !field.ends_with(':');
    for (record, line) in records.iter().zip(expected) {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let record = record.strip_suffix(b"\n").expect("every record ends with a newline");
        let time = str::from_utf8(stamp.rfc3339()).expect("ASCII");
        if rfc3164 {
            let (priority, pid) = (if stderr { 11 } else { 14 }, case.pid());
            let head = format!("<{priority}>{time} {host} {tag}[{pid}]: ");
            assert_eq!(record, [head.as_bytes(), line].concat());
        } else if parser_can(&host) && parser_can(&tag) {
            let text = String::from_utf8_lossy(record);
            let message = syslog_loose::parse_message(&text, Variant::RFC5424);
            fields(case, &message, elements, stderr);
            assert_eq!(message.hostname.unwrap_or("-"), host);
            assert_eq!(message.appname.unwrap_or("-"), tag);
            // The parser drops white space at the edges; the record itself must not.
            assert_eq!(message.msg.trim(), String::from_utf8_lossy(line).trim());
            assert!(record.ends_with(&[b" ", line].concat()));
        }
    }
}

/// All but the names and the text.
fn fields(case: &Case<'_>, message: &Message<&str>, elements: &[Element<'_>], stderr: bool) {
    let severity = if stderr { SyslogSeverity::SEV_ERR } else { SyslogSeverity::SEV_INFO };
    assert_eq!(message.protocol, Protocol::RFC5424(1));
    assert_eq!(message.facility, Some(SyslogFacility::LOG_USER));
    assert_eq!(message.severity, Some(severity));
    let seconds = message.timestamp.map(|time| time.timestamp());
    assert_eq!(seconds, i64::try_from(case.nanos / 1_000_000_000).ok());
    assert_eq!(message.procid, Some(ProcId::PID(case.pid() as i32)));
    assert_eq!(message.msgid, None);
    assert_eq!(message.structured_data.len(), elements.len());
    for (read, element) in message.structured_data.iter().zip(elements) {
        assert_eq!(read.id, format!("id{}@{}", element.id, element.id));
        let params: Vec<(String, String)> =
            read.params().map(|(name, value)| (name.to_string(), value.clone())).collect();
        assert_eq!(params, [(format!("p{}", element.name), element.value.to_owned())]);
    }
}

fn route(case: &Case<'_>, elements: &[Element<'_>], rfc3164: bool, counted: bool) -> RouteSpec {
    // As RFC 5424, 6.3.3 wants values escaped; the outer brackets are the encoder's.
    let escaped =
        |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace(']', "\\]");
    let elements = elements
        .iter()
        .map(|Element { id, name, value }| format!("id{id}@{id} p{name}=\"{}\"", escaped(value)));
    let options = [
        ("syslog.format", if rfc3164 { "rfc3164" } else { "rfc5424" }.to_owned()),
        ("syslog.framing", if counted { "octet-counted" } else { "traditional" }.to_owned()),
        ("append_tag", case.append_tag.to_owned()),
        ("structured_data", elements.collect::<Vec<_>>().join("][")),
    ];
    RouteSpec {
        id: "0".to_owned(),
        adapter: "syslog".to_owned(),
        transport: Some("tcp".to_owned()),
        address: "localhost:514".to_owned(),
        selector: Selector::default(),
        options: options.map(|(name, value)| (name.to_owned(), value)).into(),
    }
}

/// The first characters of a field, or the sign for an empty one.
fn or_nil(field: &str, most: usize) -> String {
    if field.is_empty() { "-".to_owned() } else { field.chars().take(most).collect() }
}
