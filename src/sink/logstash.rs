//! `logstash`: JSON lines for Logstash's `json_lines` and `json` codecs, with the members of
//! looplab/logspout-logstash, and the line's time.
//!
//! Pure. A line that is a JSON object is not quoted: its members become the record's, as there.
//! Where both have a member of one name, the record keeps its own, but for `message` and the time,
//! which the line knows better.

use serde_json::{Map, Value, json};

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

/// `logstash://`: over `udp` (the default, as in Logspout's adapter), `tcp`, `tls` or `unix`.
/// Options, which win over the settings: `logstash.tags`, `logstash.fields`, `logstash.labels`,
/// `logstash.json`.
pub const SPEC: SinkSpec = SinkSpec { scheme: "logstash", build };

/// What ends the head of a record whose line is text.
const MESSAGE: &str = ",\"message\":\"";
const TIMESTAMP: &str = "@timestamp";
/// Members that each record has, or may have, besides the fields.
const OWN: [&str; 7] = [TIMESTAMP, "docker", "stream", "tags", "message", "stats", "event"];
const TAIL: &[u8] = b"}";

struct Logstash {
    tags: Vec<String>,
    fields: Vec<(String, String)>,
    labels: bool,
    /// Whether lines that are objects become members.
    merges: bool,
}

impl Sink for Logstash {
    fn prefix(&self, container: &Container, source: Source) -> Prefix {
        let given = |name: &str| {
            container.env.iter().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))
        };
        let tags = given("LOGSTASH_TAGS").map_or_else(|| self.tags.clone(), tags);
        let fields = given("LOGSTASH_FIELDS").map_or_else(|| self.fields.clone(), lenient);
        let mut members = vec![
            ("docker".to_owned(), self.docker(container)),
            ("stream".to_owned(), source.name().into()),
            ("tags".to_owned(), tags.into()),
        ];
        members.extend(fields.into_iter().map(|(name, value)| (name, value.into())));
        let mut after = String::new();
        for (name, value) in &members {
            after.push_str(&format!(",{}:{value}", quoted(name)));
        }
        after.push_str(match source {
            Source::Stdout | Source::Stderr => MESSAGE,
            Source::Stats => ",\"stats\":",
            Source::Events => ",\"event\":",
        });
        Prefix {
            before_time: format!("{{{}:", quoted(TIMESTAMP)).into_bytes().into(),
            after_time: after.into_bytes().into(),
            members: members.iter().map(|(name, _)| quoted(name)).collect(),
            ..Prefix::default()
        }
    }

    fn encode(&self, prefix: &Prefix, stamp: &Stamp, lines: Blocks<'_>, out: &mut Outbox) -> u64 {
        if !self.merges || !prefix.after_time.ends_with(MESSAGE.as_bytes()) {
            return json::objects(&[], prefix, Time::Rfc3339, TAIL, stamp, lines, out);
        }
        let mut room = [0; TIME_MAX];
        let frame = Frame::new(prefix, Time::Rfc3339.render(stamp, &mut room), TAIL);
        let mut count = 0;
        for line in lines.lines() {
            // Cut, it would be no object any more.
            let object = splice::object(line);
            match object.filter(|object| frame.around() + object.len() <= out.record_max()) {
                Some(object) => merge(&frame, &prefix.members, object, out),
                None => frame.put(line, out),
            }
            count += 1;
        }
        count
    }
}

impl Logstash {
    fn docker(&self, container: &Container) -> Value {
        let mut docker = json!({
            "name": format!("/{}", container.name),
            "id": container.id,
            "image": container.image,
            "hostname": container.hostname,
        });
        if self.labels {
            // Elasticsearch would take each dot for another level.
            let labels = container.labels.iter();
            let labels: Map<String, Value> =
                labels.map(|(key, value)| (key.replace('.', "_"), value.as_str().into())).collect();
            docker["labels"] = labels.into();
        }
        docker
    }
}

/// Appends the record of a line that is an object: the head's members, and those of the line that
/// are not among them.
fn merge(frame: &Frame<'_>, own: &[String], object: &[u8], out: &mut Outbox) {
    let is_time = |name: &[u8]| splice::same_name(name, b"\"@timestamp\"");
    let record = out.begin(frame.around() + object.len());
    let head = &frame.after[..frame.after.len() - MESSAGE.len()];
    if splice::members(object).any(|(name, _)| is_time(name)) {
        record.push(b'{');
        record.extend_from_slice(&head[1..]);
    } else {
        record.extend_from_slice(frame.before);
        record.extend_from_slice(frame.time);
        record.extend_from_slice(head);
    }
    for (name, value) in splice::members(object) {
        if own.iter().any(|own| splice::same_name(name, own.as_bytes())) {
            continue;
        }
        record.push(b',');
        record.extend_from_slice(name);
        record.push(b':');
        splice::put(value, record);
    }
    record.extend_from_slice(b"}\n");
    out.finish();
}

fn quoted(name: &str) -> String {
    Value::from(name).to_string()
}

fn tags(text: &str) -> Vec<String> {
    value::list(text, ',').into_iter().map(str::to_owned).collect()
}

/// One `NAME=VALUE`, if it can be a member besides those that each record has.
fn field(entry: &str) -> Option<(String, String)> {
    let (name, value) = entry.split_once('=')?;
    let name = name.trim();
    (!name.is_empty() && !OWN.contains(&name)).then(|| (name.to_owned(), value.to_owned()))
}

/// The fields that a container's own variable asks for, of which those are left out that cannot be.
fn lenient(text: &str) -> Vec<(String, String)> {
    unique(value::list(text, ',').into_iter().filter_map(field))
}

/// The last of each name counts.
fn unique(fields: impl Iterator<Item = (String, String)>) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    for (name, value) in fields {
        all.retain(|(other, _)| *other != name);
        all.push((name, value));
    }
    all
}

fn build(spec: &RouteSpec, settings: &Settings) -> Result<Built, String> {
    let delivery = target::delivery(spec, settings)?;
    let options = Options { spec, given: &settings.batch.given };
    let given = |option| options.get(option).unwrap_or_default();
    let fields = value::list(given("logstash.fields"), ',').into_iter().map(|entry| {
        field(entry).ok_or_else(|| {
            format!(
                "logstash.fields of route {}: {entry:?} is no field; write NAME=VALUE, with \
                 another name than {}",
                spec.id,
                OWN.join(", ")
            )
        })
    });
    let merges = options.switch("logstash.json", true)?;
    let labels = given("logstash.labels");
    let sink = Logstash {
        tags: tags(given("logstash.tags")),
        fields: unique(fields.collect::<Result<Vec<_>, _>>()?.into_iter()),
        // Any text means yes in Logspout's adapter; who writes no means no.
        labels: !labels.is_empty() && value::boolean(labels).unwrap_or(true),
        merges,
    };
    Ok(Built::new(sink, delivery))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Budget;
    use crate::sink::testing;
    use proptest::prelude::*;
    use std::sync::Arc;
    use std::time::{Duration, UNIX_EPOCH};

    fn built(transport: &str, options: &[(&str, &str)]) -> Result<Built, String> {
        let spec = testing::route("logstash", Some(transport), "host:5000", options);
        build(&spec, &Settings::default())
    }

    fn container(env: &[&str]) -> Container {
        Container {
            id: "12ab".repeat(16),
            name: "web".to_owned(),
            image: "shop/web:1".to_owned(),
            hostname: "h\"1".to_owned(),
            labels: [("a.b", "x.y"), ("c", "")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            env: env.iter().map(|&entry| entry.to_owned()).collect(),
            ..Container::default()
        }
    }

    fn records(
        options: &[(&str, &str)],
        env: &[&str],
        source: Source,
        lines: Blocks<'_>,
    ) -> Vec<Value> {
        let sink = built("tcp", options).unwrap_or_else(|error| panic!("{error}")).sink;
        let prefix = sink.prefix(&container(env), source);
        let mut out = Outbox::new(Arc::new(Budget::new(4 << 20, 1)), usize::MAX);
        let stamp = Stamp::new(UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456));
        sink.encode(&prefix, &stamp, lines, &mut out);
        let (records, _) = testing::drain(&mut out);
        let read = |record: &Vec<u8>| {
            assert!(record.iter().filter(|&&b| b == b'\n').count() == 1 && record.ends_with(b"\n"));
            serde_json::from_slice(record).unwrap()
        };
        records.iter().map(read).collect()
    }

    fn expected(source: &str, more: Value) -> Value {
        let mut all = json!({
            "@timestamp": "2023-11-14T22:13:20.123456Z",
            "docker": {"name": "/web", "id": "12ab".repeat(16), "image": "shop/web:1",
                       "hostname": "h\"1"},
            "stream": source, "tags": [],
        });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    }

    #[test]
    fn a_line_is_the_message_and_an_object_is_members() {
        let text = b"plain \"text\"\n\n[1]\n {\"level\":\"info\",\"message\":\"m\",\"tags\":[9],\n";
        let mut lines = text.to_vec();
        lines.extend(b"{\"level\":\"info\",\"message\":\"m\",\"tags\":[9],\"doc\\u006ber\":1}\r\n");
        lines.extend(b"{\"@timestamp\":\"2020\",\"a\":{\"b\":null}}\n{}\n");
        let records = records(&[], &[], Source::Stderr, Blocks::whole(&lines));
        let expected = [
            json!({"message": "plain \"text\""}),
            json!({"message": ""}),
            json!({"message": "[1]"}),
            json!({"message": " {\"level\":\"info\",\"message\":\"m\",\"tags\":[9],"}),
            json!({"level": "info", "message": "m"}),
            json!({"@timestamp": "2020", "a": {"b": null}}),
            json!({}),
        ]
        .map(|more| expected("stderr", more));
        assert_eq!(records, expected);
    }

    #[test]
    fn tags_and_fields_are_the_containers_or_the_routes() {
        let options = [
            ("logstash.tags", "a, b"),
            ("logstash.fields", "env=prod=1,x=\"y\",env=dev"),
            ("logstash.labels", "1"),
        ];
        let one = |env: &[&str]| {
            records(&options, env, Source::Stdout, Blocks::whole(b"{\"env\":1}\nx\n"))
        };
        for record in one(&["OTHER_LOGSTASH_TAGS=z"]) {
            assert_eq!(record["tags"], json!(["a", "b"]));
            assert_eq!((&record["env"], &record["x"]), (&json!("dev"), &json!("\"y\"")));
            assert_eq!(record["docker"]["labels"], json!({"a_b": "x.y", "c": ""}));
        }
        // What a container asks for and no record can have is left out.
        for record in one(&["LOGSTASH_TAGS=own", "LOGSTASH_FIELDS=f=1,bad,docker=2,=3"]) {
            assert_eq!((&record["tags"], &record["f"]), (&json!(["own"]), &json!("1")));
            assert!(record["docker"].is_object() && record.get("x").is_none());
        }
        let off = [("logstash.json", "off"), ("logstash.labels", "no")];
        let plain = records(&off, &[], Source::Stdout, Blocks::whole(b"{\"a\":1}\n"));
        assert_eq!(plain, [expected("stdout", json!({"message": "{\"a\":1}"}))]);
    }

    #[test]
    fn stats_and_events_are_embedded() {
        for (source, name, member) in
            [(Source::Stats, "stats", "stats"), (Source::Events, "events", "event")]
        {
            let records = records(&[], &[], source, Blocks::whole(b"{\"a\":{\"tags\":1}}\n"));
            let expected = expected(name, json!({ member: {"a": {"tags": 1}} }));
            assert_eq!(records, [expected]);
        }
    }

    #[test]
    fn a_joined_line_is_one_record() {
        let text = Blocks::joined(b"{\n  \"a\": \"b\",\r\n  \"c\": [\n1]\n}\n");
        let records = records(&[], &[], Source::Stdout, text);
        assert_eq!(records, [expected("stdout", json!({"a": "b", "c": [1]}))]);
    }

    #[test]
    fn what_no_datagram_holds_is_cut_text() {
        let sink = built("udp", &[]).unwrap_or_else(|error| panic!("{error}")).sink;
        let prefix = sink.prefix(&container(&[]), Source::Stdout);
        let line = format!("{{\"a\":\"{}\"}}\n", "x".repeat(70_000));
        let mut out = Outbox::new(Arc::new(Budget::new(4 << 20, 1)), 65_507);
        let lines = Blocks::whole(line.as_bytes());
        sink.encode(&prefix, &Stamp::new(UNIX_EPOCH), lines, &mut out);
        let (records, losses) = testing::drain(&mut out);
        let record: Value = serde_json::from_slice(&records[0]).unwrap();
        assert_eq!((records[0].len(), losses.cut_records), (65_507, 1));
        assert!(record["message"].as_str().is_some_and(|text| line.starts_with(text)));
    }

    #[test]
    fn refusals_name_the_value_and_the_fix() {
        for (options, error) in [
            (("logstash.fields", "a=1,b"), "logstash.fields of route 0: \"b\" is no field; write"),
            (("logstash.fields", "docker=1"), "logstash.fields of route 0: \"docker=1\" is no"),
            (("logstash.json", "si"), "logstash.json of route 0: \"si\" is neither true nor false"),
        ] {
            let refusal = built("tcp", &[options]).err().unwrap_or_default();
            assert!(refusal.starts_with(error), "{refusal}");
        }
        assert!(built("https", &[]).err().unwrap_or_default().starts_with("bad transport"));
    }

    proptest! {
        #[test]
        fn whatever_comes_each_record_is_a_line_of_json(
            lines in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(any::<u8>(), 0..60),
                    "[{\\[]\"(a|tags|@timestamp|docker)\":[\"0-9a-f\\\\u{}\\[\\],:]{0,20}\\}"
                        .prop_map(String::into_bytes),
                ],
                1..6,
            ),
            joined in any::<bool>(),
        ) {
            let own = |byte: &u8| joined || *byte != b'\n';
            let lines: Vec<Vec<u8>> =
                lines.into_iter().map(|line| line.into_iter().filter(own).collect()).collect();
            let text: Vec<u8> = lines.iter().flat_map(|l| [l, &b"\n"[..]].concat()).collect();
            let blocks = if joined { Blocks::joined(&text) } else { Blocks::whole(&text) };
            let records = records(&[("logstash.tags", "t")], &[], Source::Stdout, blocks);
            prop_assert_eq!(records.len(), if joined { 1 } else { lines.len() });
            for (record, line) in records.iter().zip(&lines) {
                prop_assert_eq!(&record["tags"], &json!(["t"]));
                let object = serde_json::from_slice::<Map<String, Value>>(line);
                if let (Ok(mut expected), false) = (object, joined) {
                    expected.entry(TIMESTAMP).or_insert_with(|| record[TIMESTAMP].clone());
                    for (name, value) in ["docker", "stream", "tags"].map(|n| (n, &record[n])) {
                        expected.insert(name.to_owned(), value.clone());
                    }
                    prop_assert_eq!(record, &Value::Object(expected));
                }
            }
        }
    }
}
