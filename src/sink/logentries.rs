//! `logentries` and `insightops`: `TOKEN {…}` lines for Rapid7's token inputs, with the members
//! that docker-logentries gives its records.
//!
//! Pure, but for the host's name, which is looked up when a route is built. The token decides which
//! log of the account a record lands in: lines, stats and events may have one each.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::json::{self, Frame, TIME_MAX, Time};
use super::options::Options;
use super::{Built, Prefix, Sink, SinkSpec, splice, target};
use crate::buffer::Outbox;
use crate::config::{Settings, value};
use crate::docker::Source;
use crate::docker::inspect::Container;
use crate::lines::blocks::Blocks;
use crate::route::RouteSpec;
use crate::stamp::Stamp;
use crate::transport::{Delivery, StreamTarget};

/// `logentries://` over TCP, `logentries+tls://` over TLS; without a host to data.logentries.com.
/// Options, which win over the settings: `logentries.token`, `logentries.logstoken`,
/// `logentries.statstoken`, `logentries.eventstoken`, `logentries.json`, `logentries.add`,
/// `logentries.region`.
pub const SPEC: SinkSpec = SinkSpec { scheme: "logentries", build };

/// The same, whose usual host is that of a region.
pub const INSIGHT: SinkSpec = SinkSpec { scheme: "insightops", build };

/// The host of accounts that have no region, and its ports (80, 514 and 10000 are the same).
const HOST: &str = "data.logentries.com";
const PORT: u16 = 80;
const TLS_PORT: u16 = 443;
/// What follows the region in the name of its host.
const REGION_HOST: &str = "data.logs.insight.rapid7.com";

/// Where the name of this machine, or of the container that logchute runs in, is told.
const HOSTNAME: &str = "/proc/sys/kernel/hostname";

/// Members that say what happened and when: nothing may be put in their place.
const FIXED: [&str; 3] = ["time", "line", "stats"];
const TAIL: &[u8] = b"}";

struct Logentries {
    /// By source; empty for those that the route does not take.
    tokens: [String; Source::ALL.len()],
    /// Members of every record.
    added: Vec<(String, String)>,
    /// Whether lines that are JSON are not quoted.
    parses: bool,
}

impl Sink for Logentries {
    fn prefix(&self, container: &Container, source: Source) -> Prefix {
        let token = &self.tokens[source as usize];
        if source == Source::Events {
            let added = self.added.iter().map(|(k, v)| (k.clone(), v.as_str().into()));
            return Prefix {
                before_time: format!("{token} ").into_bytes().into(),
                document: Some(Arc::new(Value::Object(added.collect()))),
                ..Prefix::default()
            };
        }
        let mut members: Vec<(&str, Value)> =
            vec![("v", 0.into()), ("id", container.short_id().into())];
        if source.is_output() {
            members.push(("long_id", container.id.as_str().into()));
        }
        members.push(("image", container.image.as_str().into()));
        members.push(("name", container.name.as_str().into()));
        for (name, value) in &self.added {
            match members.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) => *known = value.as_str().into(),
                None => members.push((name, value.as_str().into())),
            }
        }
        let members: Vec<String> =
            members.iter().map(|(name, value)| format!("{}:{value}", Value::from(*name))).collect();
        let members = members.join(",");
        let (before, after) = if source.is_output() {
            (format!("{token} {{{members},\"time\":"), ",\"line\":\"")
        } else {
            (format!("{token} {{{members}"), ",\"stats\":")
        };
        Prefix {
            before_time: before.into_bytes().into(),
            after_time: after.as_bytes().into(),
            ..Prefix::default()
        }
    }

    fn encode(&self, prefix: &Prefix, stamp: &Stamp, lines: Blocks<'_>, out: &mut Outbox) -> u64 {
        if let Some(Value::Object(added)) = prefix.document.as_deref() {
            return events(&prefix.before_time, added, stamp, lines, out);
        }
        let mut room = [0; TIME_MAX];
        let frame = Frame::new(prefix, Time::Millis.render(stamp, &mut room), TAIL);
        if !frame.is_text() {
            return json::objects(&[], prefix, Time::Absent, TAIL, stamp, lines, out);
        }
        let mut count = 0;
        for line in lines.lines() {
            count += 1;
            if line.is_empty() {
                out.note_empty();
                continue;
            }
            match splice::value(line).filter(|_| self.parses) {
                Some(value) => embed(&frame, value, out),
                None => frame.put(line, out),
            }
        }
        count
    }
}

/// Appends the record of a line that is JSON.
fn embed(frame: &Frame<'_>, value: &[u8], out: &mut Outbox) {
    let record = out.begin(frame.around() + value.len());
    record.extend_from_slice(frame.before);
    record.extend_from_slice(frame.time);
    // All but the quote.
    record.extend_from_slice(&frame.after[..frame.after.len() - 1]);
    splice::put(value, record);
    record.extend_from_slice(TAIL);
    record.push(b'\n');
    out.finish();
}

/// Appends a record for each event: few, so that they are taken apart.
fn events(
    head: &[u8],
    added: &Map<String, Value>,
    stamp: &Stamp,
    lines: Blocks<'_>,
    out: &mut Outbox,
) -> u64 {
    let mut count = 0;
    for line in lines.lines() {
        let mut text = Value::Object(event(line, added, stamp)).to_string();
        text.push('\n');
        let record = out.begin(head.len() + text.len());
        record.extend_from_slice(head);
        record.extend_from_slice(text.as_bytes());
        out.finish();
        count += 1;
    }
    count
}

/// What docker-logentries calls what a line of the source `events` has, and what it leaves out
/// under the names that it has there.
fn event(line: &[u8], added: &Map<String, Value>, stamp: &Stamp) -> Map<String, Value> {
    let event: Map<String, Value> = serde_json::from_slice(line).unwrap_or_default();
    let mut record = Map::new();
    for (name, known) in [
        ("id", "id"),
        ("type", "action"),
        ("image", "image"),
        ("name", "name"),
        ("host", "image"),
        ("exit_code", "exit_code"),
        ("signal", "signal"),
    ] {
        if let Some(value) = event.get(known) {
            record.insert(name.to_owned(), value.clone());
        }
    }
    record.extend(added.clone());
    record.insert("time".to_owned(), (stamp.nanos() / 1_000_000).into());
    record
}

fn build(spec: &RouteSpec, settings: &Settings) -> Result<Built, String> {
    let options = Options { spec, given: &settings.batch.given };
    let sink = Logentries {
        tokens: tokens(&options)?,
        added: match options.get("logentries.add") {
            Some(text) => added(text).map_err(|what| format!("route {}: {what}", spec.id))?,
            None => vec![("host".to_owned(), hostname(settings))],
        },
        parses: options.switch("logentries.json", false)?,
    };
    Ok(Built::new(sink, delivery(&options, settings)?))
}

/// The token of each source that the route takes.
fn tokens(options: &Options<'_>) -> Result<[String; Source::ALL.len()], String> {
    let spec = options.spec;
    let mut tokens = [const { String::new() }; Source::ALL.len()];
    for source in Source::ALL.into_iter().filter(|&source| spec.selector.takes_source(source)) {
        let own = match source {
            Source::Stdout | Source::Stderr => "logentries.logstoken",
            Source::Stats => "logentries.statstoken",
            Source::Events => "logentries.eventstoken",
        };
        let any = || options.get("logentries.token");
        let token = options.get(own).or_else(any).unwrap_or_default();
        let variable = own.to_ascii_uppercase().replace('.', "_");
        if token.is_empty() {
            return Err(format!(
                "route {}: no token for {}; set LOGENTRIES_TOKEN or {variable}, or leave this \
                 source out with filter.sources",
                spec.id,
                source.name()
            ));
        }
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!(
                "route {}: {variable}: the token has a space or a character that is not ASCII; \
                 write it as Logentries shows it",
                spec.id
            ));
        }
        token.clone_into(&mut tokens[source as usize]);
    }
    Ok(tokens)
}

/// The members that every record is to have.
fn added(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut all: Vec<(String, String)> = Vec::new();
    for (name, value) in value::pairs(text).map_err(|what| format!("logentries.add: {what}"))? {
        if FIXED.contains(&&*name) {
            return Err(format!(
                "logentries.add: {name:?} is what a record tells; write another name"
            ));
        }
        all.retain(|(known, _)| *known != name);
        all.push((name, value));
    }
    Ok(all)
}

/// The host's name if it was told, as for syslog; else that of the machine or container that this
/// is.
fn hostname(settings: &Settings) -> String {
    let told = settings.syslog.host_hostname.as_deref().filter(|name| !name.is_empty());
    told.map(str::to_owned)
        .unwrap_or_else(|| std::fs::read_to_string(HOSTNAME).unwrap_or_default().trim().to_owned())
}

fn delivery(options: &Options<'_>, settings: &Settings) -> Result<Delivery, String> {
    let spec = options.spec;
    let port = match spec.transport.as_deref() {
        None | Some("tcp") => PORT,
        Some("tls") => TLS_PORT,
        Some(other) => {
            let fix = format!("use {0}:// or {0}+tls://", spec.adapter);
            return Err(target::bad_transport(spec, other, &fix));
        }
    };
    let usual = usual_host(options)?;
    let address = if spec.address.is_empty() { usual } else { spec.address.clone() };
    let address = target::host_or_port(&RouteSpec { address, ..spec.clone() }, port)?;
    Ok(Delivery::Stream(match port {
        TLS_PORT => target::secured(address, spec, settings)?,
        _ => StreamTarget::Tcp(address),
    }))
}

/// Where a route leads that names no host.
fn usual_host(options: &Options<'_>) -> Result<String, String> {
    let spec = options.spec;
    match options.get("logentries.region") {
        Some(region) if region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') => {
            Ok(format!("{region}.{REGION_HOST}"))
        }
        Some(region) => Err(format!(
            "route {}: logentries.region={region:?} is no region; write e.g. eu or us",
            spec.id
        )),
        None if spec.sink() == SPEC.scheme => Ok(HOST.to_owned()),
        None if !spec.address.is_empty() => Ok(String::new()),
        None => Err(format!(
            "route {}: no region; write insightops://?logentries.region=eu (or us, …), or set \
             LOGENTRIES_REGION",
            spec.id
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::{Budget, Losses};
    use crate::sink::testing;
    use crate::transport::HostPort;
    use proptest::prelude::*;
    use serde_json::json;
    use std::time::{Duration, UNIX_EPOCH};

    const TOKEN: &str = "2b1d-sEcReT";

    fn built(
        adapter: &str,
        transport: Option<&str>,
        address: &str,
        options: &[(&str, &str)],
    ) -> Result<Built, String> {
        let authority = testing::authority();
        let tls = testing::trusting(authority.path());
        let mut spec = testing::route(adapter, transport, address, options);
        let sources = spec.option("sources").map(str::to_owned).unwrap_or_default();
        let named = sources.split(',').filter(|name| !name.is_empty());
        spec.selector.sources = named.map(str::to_owned).collect();
        build(&spec, &Settings { tls, ..Settings::default() })
    }

    fn container() -> Container {
        Container {
            id: "12ab34cd".repeat(8),
            name: "we\"b".to_owned(),
            image: "shop/web:1".to_owned(),
            ..Container::default()
        }
    }

    /// The records of lines, each as its token and its object; and what was lost.
    fn records(
        options: &[(&str, &str)],
        source: Source,
        lines: Blocks<'_>,
    ) -> (Vec<(String, Value)>, Losses) {
        let built = built("logentries", None, "", options);
        let sink = built.unwrap_or_else(|error| panic!("{error}")).sink;
        let prefix = sink.prefix(&container(), source);
        let mut out = Outbox::new(Arc::new(Budget::new(4 << 20, 1)), usize::MAX);
        let stamp = Stamp::new(UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456));
        sink.encode(&prefix, &stamp, lines, &mut out);
        let (records, losses) = testing::drain(&mut out);
        let read = |record: Vec<u8>| {
            assert!(record.iter().filter(|&&b| b == b'\n').count() == 1 && record.ends_with(b"\n"));
            let record = String::from_utf8(record).unwrap();
            let (token, object) = record.split_once(' ').unwrap();
            (token.to_owned(), serde_json::from_str(object).unwrap())
        };
        (records.into_iter().map(read).collect(), losses)
    }

    fn log(line: Value) -> (String, Value) {
        let object = json!({
            "v": 0, "id": "12ab34cd12ab", "long_id": "12ab34cd".repeat(8), "image": "shop/web:1",
            "name": "we\"b", "host": "h1", "time": 1_700_000_000_123_u64, "line": line,
        });
        (TOKEN.to_owned(), object)
    }

    const PLAIN: [(&str, &str); 2] = [("logentries.token", TOKEN), ("logentries.add", "host=h1")];
    const PARSED: [(&str, &str); 3] = [PLAIN[0], PLAIN[1], ("logentries.json", "on")];

    #[test]
    fn a_line_is_text_or_the_json_that_it_is() {
        let lines = b"a \"b\"\n\n{\"c\":[1]}\n7\n";
        let (plain, losses) = records(&PLAIN, Source::Stdout, Blocks::whole(lines));
        let expected = ["a \"b\"", "{\"c\":[1]}", "7"].map(|line| log(line.into()));
        assert_eq!(plain, expected);
        assert_eq!(losses, Losses { empty_lines: 1, ..Losses::default() });
        let (parsed, losses) = records(&PARSED, Source::Stderr, Blocks::whole(lines));
        assert_eq!(parsed, [log(json!("a \"b\"")), log(json!({"c": [1]})), log(json!(7))]);
        assert_eq!(losses.empty_lines, 1);
        let joined = Blocks::joined(b"{\n\"c\":\n[1]}\n");
        assert_eq!(records(&PARSED, Source::Stdout, joined).0, [log(json!({"c": [1]}))]);
    }

    #[test]
    fn members_are_in_the_order_of_docker_logentries() {
        let sink = built("logentries", None, "", &PLAIN).unwrap_or_else(|e| panic!("{e}")).sink;
        let record = testing::encode(&*sink, &sink.prefix(&container(), Source::Stdout), b"x\n");
        let expected = format!(
            "{TOKEN} {{\"v\":0,\"id\":\"12ab34cd12ab\",\"long_id\":\"{}\",\
             \"image\":\"shop/web:1\",\"name\":\"we\\\"b\",\"host\":\"h1\",\"time\":0,\
             \"line\":\"x\"}}\n",
            "12ab34cd".repeat(8)
        );
        assert_eq!(record, [expected.into_bytes()]);
    }

    #[test]
    fn each_source_has_its_token_and_its_members() {
        let options = [
            ("logentries.logstoken", "logs"),
            ("logentries.statstoken", "stats"),
            ("logentries.token", "any"),
            ("logentries.add", "host=h1,a\\,b=c=d,name=n"),
            ("sources", "stdout,stats,events"),
        ];
        let all = |source, line: &str| {
            let (records, losses) = records(&options, source, Blocks::whole(line.as_bytes()));
            assert_eq!((records.len(), losses), (1, Losses::default()));
            records.into_iter().next().unwrap()
        };
        let (token, record) = all(Source::Stdout, "x\n");
        assert_eq!(
            (&*token, &record["name"], &record["a,b"]),
            ("logs", &json!("n"), &json!("c=d"))
        );
        let stats = json!({
            "v": 0, "id": "12ab34cd12ab", "image": "shop/web:1", "name": "n", "host": "h1",
            "a,b": "c=d", "stats": {"cpu_percent": 1.5},
        });
        let record = all(Source::Stats, "{\"cpu_percent\":1.5}\n");
        assert_eq!(record, ("stats".to_owned(), stats));
        let line = "{\"time\":\"2026-11-22T16:00:00Z\",\"type\":\"container\",\"action\":\"die\",\
                    \"id\":\"12ab\",\"name\":\"web\",\"image\":\"shop/web:1\",\"exit_code\":3,\
                    \"attributes\":{\"a\":\"b\"}}\n";
        let event = json!({
            "id": "12ab", "type": "die", "image": "shop/web:1", "name": "n", "host": "h1",
            "a,b": "c=d", "exit_code": 3, "time": 1_700_000_000_123_u64,
        });
        assert_eq!(all(Source::Events, line), ("any".to_owned(), event));
    }

    #[test]
    fn the_usual_name_of_the_host_is_the_one_that_was_told() {
        let mut settings = Settings::default();
        let host = |settings: &Settings| {
            let spec = testing::route("logentries", None, "", &PLAIN[..1]);
            let sink = build(&spec, settings).unwrap_or_else(|error| panic!("{error}")).sink;
            let prefix = sink.prefix(&container(), Source::Stdout);
            let head = String::from_utf8(prefix.before_time.to_vec()).unwrap();
            head.split("\"host\":").nth(1).unwrap().to_owned()
        };
        let own = std::fs::read_to_string(HOSTNAME).unwrap();
        assert_eq!(host(&settings), format!("\"{}\",\"time\":", own.trim()));
        settings.syslog.host_hostname = Some("docker1".to_owned());
        assert_eq!(host(&settings), "\"docker1\",\"time\":");
    }

    #[test]
    fn it_leads_to_the_service_unless_told_otherwise() {
        let eu = ("logentries.region", "eu");
        for (adapter, transport, address, region, host, port) in [
            ("logentries", None, "", None, HOST, 80),
            ("logentries", Some("tcp"), "", None, HOST, 80),
            ("logentries", Some("tls"), "", None, HOST, 443),
            ("logentries", None, "relay:10000", None, "relay", 10000),
            ("logentries", Some("tls"), "relay", None, "relay", 443),
            ("logentries", None, "", Some(eu), "eu.data.logs.insight.rapid7.com", 80),
            ("insightops", Some("tls"), "", Some(eu), "eu.data.logs.insight.rapid7.com", 443),
            ("insightops", None, "relay", None, "relay", 80),
        ] {
            let options: Vec<_> = PLAIN.into_iter().chain(region).collect();
            let delivery = built(adapter, transport, address, &options).map(|b| b.delivery);
            let (Ok(Delivery::Stream(StreamTarget::Tcp(to)))
            | Ok(Delivery::Stream(StreamTarget::Tls(to, _)))) = delivery
            else {
                panic!("{adapter} {transport:?} {address}");
            };
            assert_eq!(to, HostPort { host: host.to_owned(), port });
        }
    }

    #[test]
    fn refusals_name_the_setting_and_the_fix() {
        let token = PLAIN[0];
        for (adapter, transport, options, error) in [
            (
                "logentries",
                None,
                vec![],
                "no token for stdout; set LOGENTRIES_TOKEN or \
                                          LOGENTRIES_LOGSTOKEN, or leave",
            ),
            (
                "logentries",
                None,
                vec![("logentries.logstoken", TOKEN), ("sources", "stdout,stats")],
                "no token for stats; set LOGENTRIES_TOKEN or LOGENTRIES_STATSTOKEN",
            ),
            ("logentries", None, vec![("logentries.token", "a sEcReT")], "the token has a space"),
            ("logentries", None, vec![token, ("logentries.add", "x")], "\"x\" is no pair; write"),
            ("logentries", None, vec![token, ("logentries.add", "=x")], "\"=x\" is no pair"),
            ("logentries", None, vec![token, ("logentries.add", "line=x")], "write another name"),
            ("logentries", None, vec![token, ("logentries.json", "x")], "neither true nor false"),
            ("logentries", None, vec![token, ("logentries.region", "a/b")], "is no region; write"),
            ("logentries", Some("udp"), vec![token], "use logentries:// or logentries+tls://"),
            ("insightops", None, vec![token], "write insightops://?logentries.region=eu"),
        ] {
            let refusal = built(adapter, transport, "", &options).err().unwrap_or_default();
            assert!(refusal.contains(error) && !refusal.contains("sEcReT"), "{refusal}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_each_record_is_a_token_and_an_object(
            lines in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(any::<u8>(), 0..60),
                    "[\\[{\" ]{0,2}[0-9a-f:,\\]}\" truenl\\\\-]{0,12}".prop_map(String::into_bytes),
                ],
                1..6,
            ),
            (parses, joined) in any::<(bool, bool)>(),
        ) {
            let own = |byte: &u8| joined || *byte != b'\n';
            let lines: Vec<Vec<u8>> =
                lines.into_iter().map(|line| line.into_iter().filter(own).collect()).collect();
            let text: Vec<u8> = lines.iter().flat_map(|l| [l, &b"\n"[..]].concat()).collect();
            let blocks = if joined { Blocks::joined(&text) } else { Blocks::whole(&text) };
            let options = if parses { &PARSED[..] } else { &PLAIN[..] };
            let (records, losses) = records(options, Source::Stdout, blocks);
            let count = if joined { 1 } else { lines.len() };
            prop_assert_eq!(records.len() as u64 + losses.empty_lines, count as u64);
            let shown = lines.iter().filter(|line| !line.is_empty());
            if !joined {
                for ((_, record), line) in records.iter().zip(shown) {
                    let json: Option<Value> = serde_json::from_slice(line).ok();
                    match json.filter(|_| parses) {
                        Some(json) => prop_assert_eq!(&record["line"], &json),
                        None => prop_assert!(record["line"].is_string()),
                    }
                }
            }
        }
    }
}
