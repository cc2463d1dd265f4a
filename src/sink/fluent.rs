//! `fluent`: records of Fluentd's forward protocol, with the fields that Docker's own fluentd
//! driver gives them.
//!
//! Pure, and allocates nothing per line. A record of the outbox is the tag behind its length (one
//! byte), and then the entry, as MessagePack (github.com/fluent/fluentd/wiki,
//! Forward-Protocol-Specification-v1): `transport::forward` puts those of one tag together to
//! messages.
//!
//! ```text
//! len tag [ EventTime, { container_id, container_name, source, log: "the line" } ]
//! [before_time     ]   [after_time                                 ]
//! ```
//!
//! `log` is a string whatever bytes the line has, as Docker's driver has it: its receivers know no
//! other kind. Of lines that are objects (stats, events) the members take the place of `log`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::options::Options;
use super::{Built, Prefix, Sink, SinkSpec, field, msgpack as json, target};
use crate::buffer::Outbox;
use crate::config::{Settings, value};
use crate::docker::Source;
use crate::docker::inspect::Container;
use crate::lines::blocks::Blocks;
use crate::msgpack::{
    EVENT_TIME, HEAD_MAX, MAP32, put_array, put_map, put_map32, put_str, put_str_head, set_count,
};
use crate::route::RouteSpec;
use crate::stamp::Stamp;
use crate::template::{Bound, Context, Functions, Line, Template};
use crate::transport::{Delivery, forward};

/// `fluent://` over TCP, `fluent+tls://` over TLS. Options, which win over the settings:
/// `fluent.tag` and the others of the table; an empty one counts as not given.
pub const SPEC: SinkSpec = SinkSpec { scheme: "fluent", build };

/// Fluentd's port.
const PORT: u16 = 24224;
/// What is ours in a record of a line that is an object.
const OURS: [&str; 3] = ["container_id", "container_name", "source"];
/// Of labels and variables of a container, at most so many.
const EXTRA_MAX: usize = 1000;
/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

struct Fluent {
    /// `None`: the short id.
    tag: Option<Template>,
    labels: Pick,
    env: Pick,
}

/// Which labels or variables of a container are shown.
#[derive(Debug, PartialEq, Eq)]
enum Pick {
    All,
    Named(Vec<String>),
}

impl Pick {
    fn new(text: &str) -> Pick {
        match text {
            "*" | "all" => Pick::All,
            _ => Pick::Named(value::list(text, ',').into_iter().map(str::to_owned).collect()),
        }
    }

    fn takes(&self, name: &str) -> bool {
        match self {
            Pick::All => true,
            Pick::Named(names) => names.iter().any(|given| given == name),
        }
    }
}

impl Sink for Fluent {
    fn prefix(&self, container: &Container, source: Source) -> Prefix {
        let template = self.tag.as_ref().map(|template| {
            let document = Arc::new(container.document());
            template.bind(&Context::syslog(document, source.name(), &container.hostname))
        });
        let constant = template.as_ref().and_then(Bound::constant).unwrap_or_default();
        let mut before = Vec::new();
        put_tag(constant, container.short_id(), &mut before);
        Prefix {
            before_time: before.into(),
            after_time: self.members(container, source).into(),
            templates: template
                .filter(|template| template.constant().is_none())
                .into_iter()
                .collect(),
            ..Prefix::default()
        }
    }

    fn reads_answers(&self) -> bool {
        self.tag.is_some()
    }

    fn encode(&self, prefix: &Prefix, stamp: &Stamp, lines: Blocks<'_>, out: &mut Outbox) -> u64 {
        let (time, after) = (event_time(stamp.nanos()), &*prefix.after_time);
        let any = Line::new(&[], stamp);
        let mut own_tag = Vec::new();
        let mut count = 0;
        for line in lines.lines() {
            let mut before = &*prefix.before_time;
            if let Some(template) = prefix.templates.first() {
                before = tag_of(template, &any.with(line), before, &mut own_tag, out);
            }
            let around = before.len() + time.len() + after.len() + HEAD_MAX + json::AROUND;
            let is_object = after.first() == Some(&MAP32);
            let growth = if is_object { json::GROWTH } else { 1 };
            let record = out.begin(around + growth * line.len());
            record.extend_from_slice(before);
            record.extend_from_slice(&time);
            let at = record.len();
            record.extend_from_slice(after);
            if is_object {
                put_object(line, at, record);
            } else {
                put_str_head(line.len(), record);
                record.extend_from_slice(line);
            }
            out.finish();
            count += 1;
        }
        count
    }
}

impl Fluent {
    /// The head of a record, and its members but for the line. Of a line that is an object, the
    /// count is one that can be written over; of others, the name of the line comes last.
    fn members(&self, container: &Container, source: Source) -> Vec<u8> {
        let name = format!("/{}", container.name);
        let ours = [&*container.id, &*name, source.name()];
        let extra = self.extra(container);
        let count = ours.len() + extra.len();
        let mut out = Vec::new();
        match source.is_output() {
            true => put_map(count + 1, &mut out),
            false => put_map32(count as u32, &mut out),
        }
        let pairs = OURS.into_iter().zip(ours).chain(extra);
        for text in pairs.flat_map(|(name, value)| [name, value]) {
            put_str(text.as_bytes(), &mut out);
        }
        if source.is_output() {
            put_str(b"log", &mut out);
        }
        out
    }

    /// The labels and variables that were asked for. Variables win, as with Docker's drivers; our
    /// own fields stay what they are.
    fn extra<'a>(&self, container: &'a Container) -> BTreeMap<&'a str, &'a str> {
        let labels = container.labels.iter().map(|(name, value)| (&**name, &**value));
        let labels = labels.filter(|(name, _)| self.labels.takes(name));
        let env = container.env.iter().filter_map(|pair| pair.split_once('='));
        let all = labels.chain(env.filter(|(name, _)| self.env.takes(name)));
        let free = all.filter(|(name, _)| !OURS.contains(name) && *name != "log");
        free.collect::<BTreeMap<_, _>>().into_iter().take(EXTRA_MAX).collect()
    }
}

/// Appends the tag behind its length, and the head of an entry up to its time. Where `tag` gives
/// nothing, `default` is the tag.
fn put_tag(tag: &[u8], default: &str, out: &mut Vec<u8>) {
    let tag = String::from_utf8_lossy(tag);
    let tag = field::printable(if tag.is_empty() { default } else { &tag });
    let mut len = tag.len().min(usize::from(u8::MAX));
    while !tag.is_char_boundary(len) {
        len -= 1;
    }
    out.push(len as u8);
    out.extend_from_slice(&tag.as_bytes()[..len]);
    put_array(2, out);
    out.extend_from_slice(&EVENT_TIME);
}

/// What a record begins with whose tag depends on its line: in `room`, or `default` where the
/// template fails or gives nothing.
fn tag_of<'a>(
    template: &Bound,
    line: &Line<'_>,
    default: &'a [u8],
    room: &'a mut Vec<u8>,
    out: &mut Outbox,
) -> &'a [u8] {
    let mut tag = Vec::new();
    if let Err(error) = template.render(line, &mut tag) {
        out.note_failure(&error, false);
        return default;
    }
    if tag.is_empty() {
        return default;
    }
    room.clear();
    put_tag(&tag, "", room);
    room
}

/// Nanoseconds since 1970 as Fluentd has them: seconds, nanoseconds.
fn event_time(nanos: u64) -> [u8; 8] {
    let (seconds, nanos) = ((nanos / SECOND) as u32, (nanos % SECOND) as u32);
    (u64::from(seconds) << 32 | u64::from(nanos)).to_be_bytes()
}

/// Appends the members of the object that a line is, and counts them in the head at `at`. What is
/// no object after all is the text of a line.
fn put_object(line: &[u8], at: usize, record: &mut Vec<u8>) {
    let count = [1, 2, 3, 4].map(|digit| record[at + digit]);
    let more = json::members(line, &OURS, record).unwrap_or_else(|| {
        put_str(b"log", record);
        put_str(line, record);
        1
    });
    set_count(record, at, u32::from_be_bytes(count) + more);
}

fn build(spec: &RouteSpec, settings: &Settings) -> Result<Built, String> {
    let target = target::stream(spec, settings, PORT)?;
    let options = Options { spec, given: &settings.fluent.given };
    let tag = options.get("fluent.tag").map(|text| {
        Template::compile("fluent.tag", text, Functions::WithToJson)
            .map_err(|error| options.bad("fluent.tag", &field::printable(&error.to_string())))
    });
    let pick = |name: &str| Pick::new(options.get(name).unwrap_or_default());
    let (labels, env) = (pick("fluent.labels"), pick("fluent.env"));
    let sink = Fluent { tag: tag.transpose()?, labels, env };
    let terms = terms(&options, settings.syslog.host_hostname.as_deref())?;
    Ok(Built::new(sink, Delivery::Forward(target, Arc::new(terms))))
}

/// How to speak to the server; `host` is the name of this machine, if it is known.
fn terms(options: &Options<'_>, host: Option<&str>) -> Result<forward::Terms, String> {
    let login = options.get("fluent.shared_key").map(|shared_key| {
        let text = |name: &str| options.get(name).unwrap_or_default().to_owned();
        let hostname = options.get("fluent.self_hostname").or(host);
        forward::Login {
            shared_key: shared_key.to_owned(),
            username: text("fluent.username"),
            password: text("fluent.password"),
            hostname: hostname.unwrap_or(env!("CARGO_PKG_NAME")).to_owned(),
        }
    });
    let user = options.get("fluent.username").or(options.get("fluent.password"));
    if login.is_none() && user.is_some() {
        let what = "is not given, and a server asks for it before it asks for a user; set it";
        return Err(options.bad("fluent.shared_key", what));
    }
    let patience = |text: &str| match value::duration(text)? {
        Duration::ZERO => Err("is 0, which no server can keep; write e.g. 90s".to_owned()),
        time => Ok(time),
    };
    Ok(forward::Terms {
        login,
        acks: options.read("fluent.ack", true, value::boolean)?,
        gzip: options.read("fluent.gzip", false, value::boolean)?,
        ack_timeout: options.read("fluent.ack_timeout", forward::ACK_TIMEOUT, patience)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::testing;
    use crate::transport::StreamTarget;
    use proptest::prelude::*;
    use rmpv::Value;
    use serde_json::{Value as Json, json};
    use std::time::UNIX_EPOCH;

    const NANOS: u64 = 1_700_000_000_123_456_789;

    fn container() -> Container {
        Container {
            id: "3edafbdfe8dbd1349ef2c5ae783545a50a2502d1886b231de6aae0f6d4bf417d".into(),
            name: "web".into(),
            labels: [("tier", "front"), ("log", "x"), ("both", "l")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            env: ["A=1", "both=e", "SECRET=s"].map(str::to_owned).into(),
            ..Container::default()
        }
    }

    fn refusal(transport: Option<&str>, address: &str, options: &[(&str, &str)]) -> String {
        let spec = testing::route("fluent", transport, address, options);
        build(&spec, &Settings::default()).err().unwrap_or_default()
    }

    /// Tag and entry of each line.
    fn entries(
        options: &[(&str, &str)],
        source: Source,
        lines: Blocks<'_>,
    ) -> Vec<(String, Value)> {
        let spec = testing::route("fluent", None, "logs", options);
        let sink =
            build(&spec, &Settings::default()).unwrap_or_else(|error| panic!("{error}")).sink;
        let prefix = sink.prefix(&container(), source);
        let budget = Arc::new(crate::buffer::Budget::new(4 << 20, 1));
        let mut out = Outbox::new(budget, usize::MAX);
        let stamp = Stamp::new(UNIX_EPOCH + Duration::from_nanos(NANOS));
        let count = sink.encode(&prefix, &stamp, lines, &mut out);
        let records = testing::drain(&mut out).0;
        assert_eq!(count as usize, records.len());
        let entry = |record: Vec<u8>| {
            let (tag, mut rest) = record[1..].split_at(usize::from(record[0]));
            let entry = rmpv::decode::read_value(&mut rest).unwrap();
            assert!(rest.is_empty());
            (String::from_utf8(tag.to_vec()).unwrap(), entry)
        };
        records.into_iter().map(entry).collect()
    }

    /// The record of an entry, whose time must be right.
    fn fields(entry: &Value) -> &[(Value, Value)] {
        let [time, record] = &entry.as_array().unwrap()[..] else { panic!("{entry}") };
        let bytes = [1_700_000_000_u32.to_be_bytes(), 123_456_789_u32.to_be_bytes()].concat();
        assert_eq!(time, &Value::Ext(0, bytes));
        record.as_map().unwrap()
    }

    fn as_json(entry: &Value) -> Json {
        serde_json::from_str(&Value::Map(fields(entry).to_vec()).to_string()).unwrap()
    }

    #[test]
    fn a_record_is_that_of_dockers_driver() {
        let lines = Blocks::whole(b"one \"line\"\r\n\n");
        let entries = entries(&[], Source::Stderr, lines);
        let record = |log: &str| {
            json!({"container_id": container().id, "container_name": "/web", "source": "stderr",
                   "log": log})
        };
        assert_eq!(entries[0].0, "3edafbdfe8db");
        let shown = fields(&entries[0].1).iter().map(|(name, _)| name.as_str().unwrap());
        let names: Vec<&str> = shown.collect();
        assert_eq!(names, ["container_id", "container_name", "source", "log"]);
        assert_eq!(fields(&entries[0].1)[3].1.as_str(), Some("one \"line\"\r"));
        assert_eq!(as_json(&entries[1].1), record(""));
        let joined = super::tests::entries(&[], Source::Stdout, Blocks::joined(b"one\n\ttwo\n"));
        assert_eq!(fields(&joined[0].1)[3].1.as_str(), Some("one\n\ttwo"));
    }

    #[test]
    fn labels_and_variables_are_fields_on_request() {
        let options = [("fluent.labels", "tier, both"), ("fluent.env", "A,both")];
        let some = entries(&options, Source::Stdout, Blocks::whole(b"x\n"));
        let expected = json!({"container_id": container().id, "container_name": "/web",
            "source": "stdout", "log": "x", "tier": "front", "both": "e", "A": "1"});
        assert_eq!(as_json(&some[0].1), expected);
        let all = entries(&[("fluent.labels", "all")], Source::Stdout, Blocks::whole(b"x\n"));
        assert_eq!(fields(&all[0].1).len(), 6, "our own fields stay what they are");
    }

    #[test]
    fn a_tag_is_what_its_template_makes() {
        let tag = |text: &str, lines: &[u8]| -> Vec<String> {
            let options = [("fluent.tag", text)];
            let entries = entries(&options, Source::Stdout, Blocks::whole(lines));
            entries.into_iter().map(|(tag, _)| tag).collect()
        };
        assert_eq!(tag("docker.{{.ContainerName}}.{{.Source}}", b"a\n"), ["docker.web.stdout"]);
        assert_eq!(tag("a\nb", b"a\n"), ["a_b"]);
        assert_eq!(tag("{{.Data}}", b"a\n\nb\xff\n"), ["a", "3edafbdfe8db", "b\u{fffd}"]);
        assert_eq!(tag("{{index .Container.Config.Env 9}}{{.Data}}", b"a\n"), ["3edafbdfe8db"]);
        assert_eq!(tag(&"é".repeat(200), b"a\n"), ["é".repeat(127)]);
        assert_eq!(tag("{{if false}}x{{end}}", b"a\n"), ["3edafbdfe8db"]);
        let refused = refusal(None, "logs", &[("fluent.tag", "{{")]);
        assert!(refused.starts_with("fluent.tag of route 0: template: fluent.tag:1"), "{refused}");
    }

    #[test]
    fn the_members_of_an_object_become_fields() {
        let line = b"{\"cpu\":1.5,\"source\":\"mine\",\"net\":{\"rx\":[1,-2]}}\nno object\n";
        let entries = entries(&[("fluent.labels", "tier")], Source::Stats, Blocks::whole(line));
        let ours = |more: Json| {
            let mut all = json!({"container_id": container().id, "container_name": "/web",
                                 "source": "stats", "tier": "front"});
            all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            all
        };
        let [(_, first), (_, second)] = &entries[..] else { panic!("two entries") };
        assert_eq!(as_json(first), ours(json!({"cpu": 1.5, "net": {"rx": [1, -2]}})));
        assert_eq!(as_json(second), ours(json!({"log": "no object"})));
    }

    #[test]
    fn what_it_cannot_do_is_refused() {
        let expected = "bad transport: \"udp\" in route 0; use fluent:// or fluent+tls://";
        assert_eq!(refusal(Some("udp"), "logs", &[]), expected);
        let expected =
            "fluent.gzip of route 0: \"x\" is neither true nor false; write true or false";
        assert_eq!(refusal(None, "logs", &[("fluent.gzip", "x")]), expected);
        let refused = refusal(None, "logs", &[("fluent.password", "hunter2")]);
        assert!(refused.starts_with("FLUENT_SHARED_KEY of route 0: is not given"), "{refused}");
        assert!(!refused.contains("hunter2"), "{refused}");
        let refused = refusal(None, "logs", &[("fluent.ack_timeout", "0")]);
        assert!(refused.starts_with("fluent.ack_timeout of route 0: \"0\" is 0"), "{refused}");
    }

    #[test]
    fn it_leads_to_fluentds_port() {
        let spec = testing::route("fluent", None, "logs", &[]);
        let built = build(&spec, &Settings::default()).map(|built| built.delivery);
        let Ok(Delivery::Forward(StreamTarget::Tcp(to), terms)) = built else { panic!("TCP") };
        assert_eq!((&*to.host, to.port), ("logs", 24224));
        assert!(terms.acks && !terms.gzip && terms.login.is_none());
    }

    proptest! {
        /// Any bytes of a line come out of another decoder as they went in.
        #[test]
        fn any_line_is_its_log(
            lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 1..50),
            long in 0_usize..70_000,
        ) {
            let mut lines: Vec<Vec<u8>> = lines
                .into_iter()
                .map(|line| line.into_iter().filter(|byte| *byte != b'\n').collect())
                .collect();
            lines.push(vec![b'x'; long]);
            let text: Vec<u8> =
                lines.iter().flat_map(|line| [line, &b"\n"[..]].concat()).collect();
            let entries = entries(&[], Source::Stdout, Blocks::whole(&text));
            prop_assert_eq!(entries.len(), lines.len());
            for ((_, entry), line) in entries.iter().zip(&lines) {
                let (name, log) = &fields(entry)[3];
                prop_assert_eq!(name.as_str(), Some("log"));
                let Value::String(log) = log else { panic!("{log}") };
                prop_assert_eq!(log.as_bytes(), &line[..]);
            }
        }
    }
}
