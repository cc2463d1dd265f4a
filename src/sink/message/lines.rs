//! Lines as messages for programs: as they came, with what is known of their container, as JSON or
//! as a template of the user's makes it, filled in once a message.
//!
//! Pure. A record has the line and a number for its container, whose description is kept aside as
//! long as lines of it may come ([`Containers`]): a message is made long after, on another thread.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use serde::de::IgnoredAny;
use serde_json::{Value as Json, json};

use super::digest::{Body, Group, Limits, Parts, Shown};
use super::{LINE_BYTES_MAX, first_bytes};
use crate::buffer::Outbox;
use crate::docker::Source;
use crate::docker::inspect::Container;
use crate::lines::blocks::Blocks;
use crate::sink::{Prefix, Reader, Sink};
use crate::stamp::Stamp;
use crate::template::{Context, Error, Line, Moment, Place, Summary, Template};

/// Containers that are gone and still remembered, for their last lines.
const GONE_MAX: usize = 64;

/// The containers whose lines may be on their way.
#[derive(Default)]
pub(in crate::sink) struct Containers {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    next: u64,
    documents: BTreeMap<u64, Arc<Json>>,
}

impl Containers {
    /// Notes a container, and forgets those that nobody but us holds; returns its number.
    fn enter(&self, document: Arc<Json>) -> u64 {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = known.documents.iter().filter(|(_, document)| Arc::strong_count(document) == 1);
        let gone: Vec<u64> = gone.map(|(number, _)| *number).collect();
        for number in &gone[..gone.len().saturating_sub(GONE_MAX)] {
            known.documents.remove(number);
        }
        let number = known.next;
        known.next += 1;
        known.documents.insert(number, document);
        number
    }

    fn get(&self, number: &str) -> Option<Arc<Json>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.documents.get(&number.parse().ok()?).cloned()
    }
}

/// The sink of a route whose messages hold the lines as they came. A record's colour is the source,
/// its title the container's name, its link the container's number.
pub(in crate::sink) struct Lines(pub Arc<Containers>);

impl Sink for Lines {
    fn reads_answers(&self) -> bool {
        true
    }

    fn reader(&self) -> Reader {
        Reader::Either
    }

    fn prefix(&self, container: &Container, source: Source) -> Prefix {
        let document = Arc::new(container.document());
        let number = self.0.enter(Arc::clone(&document));
        Prefix {
            before_time: format!("{} {number}", source.name()).into_bytes().into(),
            after_time: container.name.as_bytes().into(),
            document: Some(document),
            ..Prefix::default()
        }
    }

    fn encode(&self, prefix: &Prefix, stamp: &Stamp, lines: Blocks<'_>, out: &mut Outbox) -> u64 {
        let head = String::from_utf8_lossy(&prefix.before_time);
        let (source, number) = head.split_once(' ').unwrap_or_default();
        let name = String::from_utf8_lossy(&prefix.after_time);
        let mut count = 0;
        for line in lines.lines() {
            let text = String::from_utf8_lossy(first_bytes(line, LINE_BYTES_MAX));
            let parts = Parts {
                color: source,
                title: &super::digest::cut(&name, LINES.title),
                link: number,
                text: &text,
                time: stamp.nanos(),
                failed: false,
            };
            parts.write(out.begin(parts.len_max()));
            out.finish();
            count += 1;
        }
        count
    }
}

/// For programs: more lines than a person would read.
const LINES: Limits = Limits {
    text: 8_000,
    title: 500,
    link: 20,
    group: 50_000,
    message: 100_000,
    groups: 50,
    lines: 100,
};
/// A message of its own for each container and source.
const FILLED: Limits = Limits { message: 9_000, group: 8_000, lines: 10, ..LINES };

/// One JSON object a message: how many lines it stands for, and the first ones.
pub(in crate::sink) struct JsonLines(pub Arc<Containers>);

impl Body for JsonLines {
    fn limits(&self) -> &'static Limits {
        &LINES
    }

    fn keep(&self, head: &[&str; 3]) -> Option<Arc<Json>> {
        self.0.get(head[2])
    }

    fn write(&self, groups: &[Group], beyond: u64, body: &mut Vec<u8>) -> bool {
        let count: u64 = groups.iter().map(Group::lines).sum();
        let more: u64 = groups.iter().map(|group| group.more).sum();
        let lines: Vec<Json> = groups.iter().flat_map(described).collect();
        let message = json!({"count": count + beyond, "more": more + beyond, "lines": lines});
        // Writing to memory does not fail.
        let _ = serde_json::to_writer(body, &message);
        true
    }
}

/// The lines of a group, each as an object.
fn described(group: &Group) -> Vec<Json> {
    let [source, name, _] = &group.head;
    let mut common = json!({"container": name, "source": source});
    if let Some(document) = &group.kept {
        let texts = [
            ("id", document["Id"].as_str().unwrap_or_default()),
            ("image", document["Config"]["Image"].as_str().unwrap_or_default()),
            ("service", Place::Service.of(document)),
            ("stack", Place::Stack.of(document)),
            ("task", Place::Task.of(document)),
            ("node", Place::Node.of(document)),
        ];
        for (name, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
            common[name] = text.into();
        }
    }
    let described = group.shown.iter().map(|shown| {
        let mut line = common.clone();
        line["time"] = Moment::from_nanos(shown.time).rfc3339().into();
        line["line"] = match source.as_str() {
            // What is an object already, unless it was too long to be kept whole.
            "stats" | "events" => serde_json::from_str(&shown.text).ok(),
            _ => None,
        }
        .unwrap_or_else(|| shown.text.as_str().into());
        line["times"] = shown.times.into();
        line
    });
    described.collect()
}

/// What a template of the user's makes of the lines of one container and source.
pub(in crate::sink) struct Filled {
    template: Template,
    environment: Arc<BTreeMap<String, String>>,
    /// What is written where the template fails.
    instead: JsonLines,
    route: String,
    /// A failing template was said.
    said: AtomicBool,
}

impl Filled {
    pub(in crate::sink) fn new(
        template: Template,
        environment: &BTreeMap<String, String>,
        containers: Arc<Containers>,
        route: &str,
    ) -> Filled {
        let (instead, said) = (JsonLines(containers), AtomicBool::new(false));
        let environment = Arc::new(environment.clone());
        Filled { template, environment, instead, route: route.to_owned(), said }
    }

    /// Whether the message of a sample line is JSON, as far as can be told: a template may need
    /// what a real container has.
    pub(in crate::sink) fn gives_json(&self) -> bool {
        let text = "a \"sample\" of a \\ line,\tand more".to_owned();
        let line = Shown { text, times: 1, time: 0, again: false };
        let mut body = Vec::new();
        let filled = self.fill(&Group::new(["stdout", "sample", ""], None, line), 0, &mut body);
        filled.is_err() || serde_json::from_slice::<IgnoredAny>(&body).is_ok()
    }

    /// Appends what the template gives for the lines of a group, and `beyond` others.
    fn fill(&self, group: &Group, beyond: u64, body: &mut Vec<u8>) -> Result<(), Error> {
        let [source, name, _] = &group.head;
        // A container that is gone for long has its name left.
        let unknown = || Arc::new(json!({"Name": format!("/{name}")}));
        let document = group.kept.clone().unwrap_or_else(unknown);
        let known = Source::ALL.into_iter().find(|known| known.name() == source);
        let source = known.unwrap_or(Source::Stdout).name();
        let mut text = group.text();
        if beyond > 0 {
            let _ = write!(text, "\n{beyond} more of other containers");
        }
        let summary = Summary {
            count: group.lines() + beyond,
            more: group.more + beyond,
            lines: group.shown.iter().map(|shown| shown.text.clone()).collect(),
            text,
        };
        let context = Context::webhook(document, source, Arc::clone(&self.environment), summary);
        let first = group.shown.first();
        let mut stamp = Stamp::new(UNIX_EPOCH);
        stamp.set_nanos(first.map_or(0, |shown| shown.time));
        let line = Line::new(first.map_or(b"", |shown| shown.text.as_bytes()), &stamp);
        self.template.evaluate(&context, &line, body)
    }
}

impl Body for Filled {
    fn limits(&self) -> &'static Limits {
        &FILLED
    }

    fn alone(&self) -> bool {
        true
    }

    fn keep(&self, head: &[&str; 3]) -> Option<Arc<Json>> {
        self.instead.keep(head)
    }

    fn write(&self, groups: &[Group], beyond: u64, body: &mut Vec<u8>) -> bool {
        let begin = body.len();
        let Some(group) = groups.first() else { return self.instead.write(groups, beyond, body) };
        let Err(error) = self.fill(group, beyond, body) else { return true };
        if !self.said.swap(true, Relaxed) {
            tracing::warn!(
                route = self.route,
                "WEBHOOK_BODY fails, and what the preset json gives is sent instead; said once, \
                 counted always: {error}"
            );
        }
        body.truncate(begin);
        self.instead.write(groups, beyond, body);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_forgotten_when_they_are_gone_for_long() {
        let containers = Containers::default();
        let held: Vec<Arc<Json>> = (0..10).map(|n| Arc::new(json!({"Id": n}))).collect();
        let numbers: Vec<u64> = held.iter().map(|d| containers.enter(Arc::clone(d))).collect();
        let last = (0..1000).map(|n| containers.enter(Arc::new(json!(n)))).last().unwrap();
        let count = containers.known.lock().unwrap().documents.len();
        assert!(count <= held.len() + GONE_MAX + 1, "{count}");
        for (number, document) in numbers.iter().zip(&held) {
            assert_eq!(containers.get(&number.to_string()).as_ref(), Some(document));
        }
        // The last words of those that went a moment ago find them.
        assert_eq!(containers.get(&last.to_string()), Some(Arc::new(json!(999))));
        assert_eq!(containers.get("10"), None);
        assert_eq!(containers.get("no number"), None);
    }
}
