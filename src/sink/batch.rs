//! What the sinks have in common that deliver in batches over HTTP: where they lead, how large a
//! batch is, and the JSON object that a line becomes.
//!
//! Pure but for the PEM files that TLS needs.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use super::json::{self, Time};
use super::options::Options;
use super::{Prefix, Sink};
use crate::buffer::Outbox;
use crate::config::{BatchSettings, Settings, value};
use crate::docker::Source;
use crate::docker::inspect::Container;
use crate::lines::blocks::Blocks;
use crate::route::RouteSpec;
use crate::stamp::Stamp;
use crate::transport::Delivery;
use crate::transport::batch::plan::Limits;
use crate::transport::batch::{Answers, Framing, Target};
use crate::transport::http::{self, Endpoint, Manner};

/// The size of a batch, uncompressed: what Sumo Logic asks for, and all others take.
const BYTES: usize = 1_000_000;
const BYTES_RANGE: (u64, u64) = (1 << 10, 64 << 20);
/// How long a line waits for others.
const WAIT: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How long a receiver may take to read a batch and answer.
const TIMEOUT: Duration = Duration::from_secs(60);
const TIMEOUT_LEAST: Duration = Duration::from_millis(100);
/// What is read of an answer that is looked at for its words alone.
pub(super) const WORDS_MAX: usize = 1024;

/// How a receiver takes batches.
pub(super) struct Form {
    pub(super) method: Method,
    pub(super) content_type: HeaderValue,
    pub(super) headers: HeaderMap,
    pub(super) framing: Framing,
    pub(super) answers: Answers,
    /// Most bytes of an answer that are read.
    pub(super) answer_max: usize,
    /// Most records of a batch.
    pub(super) records_max: usize,
    /// Whether it takes compressed bodies.
    pub(super) gzip: bool,
    /// The variable that says where it is.
    pub(super) setting: &'static str,
}

impl Form {
    /// Records as lines, of which the answer's status says all.
    pub(super) fn lines(content_type: &'static str, setting: &'static str) -> Form {
        Form {
            method: Method::POST,
            content_type: HeaderValue::from_static(content_type),
            headers: HeaderMap::new(),
            framing: Framing::Lines,
            answers: Answers::Whole,
            answer_max: WORDS_MAX,
            records_max: usize::MAX,
            gzip: true,
            setting,
        }
    }
}

/// The options of a batch route.
pub(super) fn options<'a>(spec: &'a RouteSpec, settings: &'a BatchSettings) -> Options<'a> {
    Options { spec, given: &settings.given }
}

/// Batches to `url`, which `option` held.
pub(super) fn delivery(
    options: &Options<'_>,
    option: &str,
    url: &str,
    form: Form,
    settings: &Settings,
) -> Result<Delivery, String> {
    let size = |text: &str| value::size_within(text, BYTES_RANGE.0, BYTES_RANGE.1);
    let limits = Limits {
        bytes: options.read("batch.size", BYTES, size)?,
        records: form.records_max,
        wait: options.read("batch.wait", WAIT, |text| {
            within(text, Duration::ZERO, WAIT_MAX, "is not a wait; write e.g. 500ms, at most 60s")
        })?,
    };
    let fix = "is not a time; write e.g. 30s, at least 100ms";
    let timeout = |text: &str| within(text, TIMEOUT_LEAST, Duration::MAX, fix);
    let manner = Manner {
        method: form.method,
        content_type: form.content_type,
        headers: form.headers,
        answer_timeout: options.read("batch.timeout", TIMEOUT, timeout)?,
        answer_max: form.answer_max,
    };
    let gzip = options.read("batch.gzip", form.gzip, value::boolean)?;
    let tls = options.tls(url, settings)?;
    let endpoint = Endpoint::parse(url, tls, manner)
        .map_err(|error| options.bad(option, &error))?
        .through(&settings.proxy)?;
    let (framing, answers, setting) = (form.framing, form.answers, form.setting);
    let target = Target { endpoint, limits, framing, gzip, answers, setting };
    Ok(Delivery::Batch(Arc::new(target)))
}

fn within(text: &str, least: Duration, most: Duration, fix: &str) -> Result<Duration, String> {
    let time = value::duration(text).ok().filter(|time| (least..=most).contains(time));
    time.ok_or_else(|| fix.to_owned())
}

/// Adds the header that `option` holds, if it holds any.
pub(super) fn header(
    options: &Options<'_>,
    option: &str,
    name: &'static str,
    headers: &mut HeaderMap,
) -> Result<(), String> {
    if let Some(text) = options.get(option) {
        let value = http::header_value(text).map_err(|fix| options.bad(option, &fix))?;
        headers.insert(HeaderName::from_static(name), value);
    }
    Ok(())
}

/// Lines as JSON objects, one a line.
pub(super) struct Objects {
    describe: Describe,
    /// What stands before each object.
    before: Before,
}

/// What stands before an object, on a line of its own.
pub(super) enum Before {
    Nothing,
    /// The same each time.
    Text(Box<[u8]>),
    /// A text with parts of the time in it.
    Dated(Box<[Piece]>),
}

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    /// So much of the time in RFC 3339: from the first byte to the second.
    Time(usize, usize),
}

/// The longest text before an object.
pub(super) const BEFORE_MAX: usize = 320;

/// What an object says besides the line and its time.
pub(super) struct Describe {
    /// The member with the time.
    pub(super) time: &'static str,
    /// The members that tell of a container and source.
    pub(super) members: fn(&Container, Source) -> Map<String, Value>,
    /// Which labels of the container are told, see [`labels`].
    labels: Labels,
    /// The name of this machine.
    host: Option<String>,
}

/// Which labels are told.
enum Labels {
    None,
    All,
    Some(Vec<String>),
}

impl Objects {
    pub(super) fn new(
        options: &Options<'_>,
        settings: &Settings,
        time: &'static str,
        members: fn(&Container, Source) -> Map<String, Value>,
        before: Before,
    ) -> Objects {
        let labels = match value::list(options.get("batch.labels").unwrap_or_default(), ',') {
            names if names.is_empty() => Labels::None,
            names if names.contains(&"*") => Labels::All,
            names => Labels::Some(names.into_iter().map(str::to_owned).collect()),
        };
        let host = settings.syslog.host_hostname.clone().filter(|host| !host.is_empty());
        Objects { describe: Describe { time, members, labels, host }, before }
    }
}

/// What most receivers get.
pub(super) fn members(container: &Container, source: Source) -> Map<String, Value> {
    let Container { id, name, image, hostname, .. } = container;
    let mut members = Map::new();
    let told = json!({"id": id, "name": name, "image": image, "hostname": hostname});
    members.insert("container".to_owned(), told);
    members.insert("source".to_owned(), source.name().into());
    members
}

impl Describe {
    fn labels_of(&self, container: &Container) -> Option<Value> {
        let told = |name: &String| match &self.labels {
            Labels::None => false,
            Labels::All => true,
            Labels::Some(names) => names.contains(name),
        };
        let labels = container.labels.iter().filter(|(name, _)| told(name));
        let labels: Map<String, Value> =
            labels.map(|(name, text)| (name.clone(), text.as_str().into())).collect();
        (!labels.is_empty()).then(|| labels.into())
    }

    fn prefix(&self, container: &Container, source: Source) -> Prefix {
        let mut members = (self.members)(container, source);
        if let Some(labels) = self.labels_of(container)
            && let Some(Value::Object(told)) = members.get_mut("container")
        {
            told.insert("labels".to_owned(), labels);
        }
        if let Some(host) = &self.host {
            members.insert("host".to_owned(), host.as_str().into());
        }
        let text = Value::Object(members).to_string();
        // Without its last brace, for what comes next.
        let before = format!("{},\"{}\":", &text[..text.len() - 1], self.time);
        let after: &[u8] = match source {
            Source::Stdout | Source::Stderr => b",\"message\":\"",
            Source::Stats => b",\"stats\":",
            Source::Events => b",\"event\":",
        };
        let (before_time, after_time) = (before.into_bytes().into(), after.into());
        Prefix { before_time, after_time, ..Prefix::default() }
    }
}

impl Before {
    fn render<'a>(&'a self, stamp: &Stamp, room: &'a mut Room) -> &'a [u8] {
        match self {
            Before::Nothing => &[],
            Before::Text(text) => text,
            Before::Dated(pieces) => {
                let mut at = 0;
                for piece in pieces {
                    let bytes = match piece {
                        Piece::Text(text) => text.as_bytes(),
                        Piece::Time(from, to) => &stamp.rfc3339()[*from..*to],
                    };
                    room[at..at + bytes.len()].copy_from_slice(bytes);
                    at += bytes.len();
                }
                &room[..at]
            }
        }
    }
}

type Room = [u8; BEFORE_MAX];

impl Sink for Objects {
    fn prefix(&self, container: &Container, source: Source) -> Prefix {
        self.describe.prefix(container, source)
    }

    fn encode(&self, prefix: &Prefix, stamp: &Stamp, lines: Blocks<'_>, out: &mut Outbox) -> u64 {
        let mut room: Room = [0; BEFORE_MAX];
        let before = self.before.render(stamp, &mut room);
        json::objects(before, prefix, Time::Rfc3339, b"}", stamp, lines, out)
    }
}

#[cfg(test)]
pub(super) mod testing {
    use serde_json::Value;

    use super::super::{Built, testing};
    use super::*;

    /// A container with labels.
    pub(in crate::sink) fn container() -> Container {
        let labels = [("team".to_owned(), "blue".to_owned()), ("tier".to_owned(), "1".to_owned())];
        Container {
            id: "3eda".into(),
            name: "web".into(),
            image: "nginx".into(),
            hostname: "inside".into(),
            labels: labels.into(),
            ..Container::default()
        }
    }

    /// Settings with these given, and nothing else.
    pub(in crate::sink) fn settings(given: &[(&'static str, &str)]) -> Settings {
        let given = given.iter().map(|&(name, text)| (name, text.to_owned())).collect();
        Settings { batch: BatchSettings { given }, ..Settings::default() }
    }

    /// The JSON that these lines of the source become, a value a line.
    pub(in crate::sink) fn values(built: &Built, source: Source, lines: &[u8]) -> Vec<Value> {
        let prefix = built.sink.prefix(&container(), source);
        let records = testing::encode(&*built.sink, &prefix, lines).concat();
        assert_eq!(records.last(), Some(&b'\n'));
        let lines = records.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }

    /// Where it delivers to, and how.
    pub(in crate::sink) fn target(built: &Built) -> &Target {
        let Delivery::Batch(target) = &built.delivery else { panic!("no batches") };
        target
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::route;
    use super::*;

    fn read(options: &[(&str, &str)]) -> Result<Limits, String> {
        let spec = route("https", Some("json"), "h", options);
        let settings = testing::settings(&[("batch.wait", "2s")]);
        let options = super::options(&spec, &settings.batch);
        let form = Form::lines("text/plain", "JSON_URL");
        let built = delivery(&options, "json.url", "http://h/", form, &settings)?;
        let Delivery::Batch(target) = built else { panic!("no batches") };
        Ok(target.limits)
    }

    #[test]
    fn limits_are_the_routes_or_the_settings_or_usual() {
        let limits = read(&[]).unwrap();
        assert_eq!((limits.bytes, limits.wait), (BYTES, Duration::from_secs(2)));
        let limits = read(&[("batch.size", "10KiB"), ("batch.wait", "0s")]).unwrap();
        assert_eq!((limits.bytes, limits.wait), (10 * 1024, Duration::ZERO));
        for (option, text, why) in [
            ("batch.size", "1", "batch.size of route 0: \"1\" is "),
            ("batch.wait", "61s", "batch.wait of route 0: \"61s\" is not a wait; write e.g. 500ms"),
            (
                "batch.timeout",
                "1ms",
                "batch.timeout of route 0: \"1ms\" is not a time; write e.g. 30s",
            ),
            ("batch.gzip", "maybe", "batch.gzip of route 0: \"maybe\" is "),
        ] {
            let error = read(&[(option, text)]).unwrap_err();
            assert!(error.starts_with(why), "{error}");
        }
    }
}
