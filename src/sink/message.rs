//! Lines as messages for people: what Slack and its likes show, with a title, a link, a text and a
//! colour, each of them a template.
//!
//! Pure. At append time a line becomes a record of the four parts ([`digest::Parts`]), escaped as
//! the receiver wants it: only here it is known what the line brought and what the templates'
//! author wrote. The JSON is written where it is delivered ([`digest`], [`body`]), since of a flood
//! most lines are only counted: what a shard does for a line is to fill in the templates, and what
//! waits is bounded there, not by the shards.
//!
//! What a line itself says is escaped, so that it cannot mention everybody or show a link that
//! leads elsewhere; what a template's author wrote is markup and stays.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::{Prefix, Reader, Sink, field};
use crate::buffer::Outbox;
use crate::config::MessageTemplates;
use crate::docker::Source;
use crate::docker::inspect::Container;
use crate::lines::blocks::Blocks;
use crate::route::RouteSpec;
use crate::stamp::Stamp;
use crate::template::{Bound, Context, Error, Functions, Line, Origin, Template};
use digest::{Limits, Parts};

pub(super) mod body;
pub(super) mod digest;
pub(super) mod lines;

/// Bytes of a line that are looked at: more characters than any message shows.
const LINE_BYTES_MAX: usize = 4 * (body::SLACK.text + 1);

/// What the receiver takes for markup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Slack's: `&`, `<` and `>` are written as entities.
    Slack,
    /// Slack's, and `@channel` and the like mention everybody.
    Mattermost,
    /// Text stands between fences, titles between back quotes.
    Discord,
    /// Nothing is markup.
    Plain,
}

/// What a part is to the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Title,
    Text,
    /// No text: nothing in it is markup.
    Value,
}

/// One part of a message: how it is made, and what stands for it where its template fails.
struct Part {
    /// The end of the variable that sets its template, behind `SLACK_` or the like, and in lower
    /// case of the option that wins over it.
    setting: &'static str,
    /// What the adapter calls it in errors.
    name: &'static str,
    default: &'static str,
    /// What the settings give.
    given: fn(&MessageTemplates) -> Option<&str>,
    /// Where it fails; `None` for the line.
    fallback: Option<&'static str>,
    kind: Kind,
}

/// In the order of [`Prefix::templates`].
const PARTS: [Part; 4] = [
    Part {
        setting: "COLOR_TEMPLATE",
        name: "color",
        given: |templates| templates.color.as_deref(),
        default: "danger",
        fallback: Some("danger"),
        kind: Kind::Value,
    },
    Part {
        setting: "TITLE_TEMPLATE",
        name: "title",
        given: |templates| templates.title.as_deref(),
        default: "{{ .Message.Container.Name}}",
        fallback: Some("[ALERT] Logspout"),
        kind: Kind::Title,
    },
    Part {
        setting: "LINK_TEMPLATE",
        name: "link",
        given: |templates| templates.link.as_deref(),
        default: "",
        fallback: Some(""),
        kind: Kind::Value,
    },
    Part {
        setting: "MESSAGE_TEMPLATE",
        name: "message",
        given: |templates| templates.message.as_deref(),
        default: "{{ .Message.Data}}",
        fallback: None,
        kind: Kind::Text,
    },
];

/// Whose settings and options a route has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Family {
    /// Before the name of a variable: `SLACK_`.
    pub variable: &'static str,
    /// Before the name of an option: `slack.`.
    pub option: &'static str,
}

/// The sink of a route whose messages have four parts.
pub(super) struct Messages {
    templates: [Template; 4],
    /// Whether the templates may ask for more than every container is known by.
    asks: bool,
    dialect: Dialect,
    limits: &'static Limits,
    environment: Arc<BTreeMap<String, String>>,
    route: String,
    /// A failing template was said.
    said: AtomicBool,
}

impl Sink for Messages {
    fn reads_answers(&self) -> bool {
        self.asks
    }

    fn prefix(&self, container: &Container, source: Source) -> Prefix {
        let environment = Arc::clone(&self.environment);
        let context = Context::slack(Arc::new(container.document()), source.name(), environment);
        let templates = self.templates.iter().map(|template| template.bind(&context));
        Prefix { templates: templates.collect(), ..Prefix::default() }
    }

    fn reader(&self) -> Reader {
        Reader::People
    }

    fn encode(&self, prefix: &Prefix, stamp: &Stamp, lines: Blocks<'_>, out: &mut Outbox) -> u64 {
        let mut scratch: [Vec<u8>; 4] = Default::default();
        let mut count = 0;
        for line in lines.lines() {
            let line = Line::new(first_bytes(line, LINE_BYTES_MAX), stamp);
            let mut failed = false;
            for ((part, bound), text) in PARTS.iter().zip(&prefix.templates).zip(&mut scratch) {
                if count > 0 && bound.constant().is_some() {
                    // It is there from the line before.
                    continue;
                }
                text.clear();
                if let Err(error) = part.fill(self.dialect, bound, &line, text) {
                    self.say(&error);
                    failed = true;
                }
            }
            let [color, title, link, text] = scratch.each_ref().map(|t| String::from_utf8_lossy(t));
            let parts = Parts {
                color: field::cut(&color, digest::COLOR_MAX),
                title: &digest::cut(&title, self.limits.title),
                link: whole(&link, self.limits.link),
                text: &text,
                time: stamp.nanos(),
                failed,
            };
            parts.write(out.begin(parts.len_max()));
            out.finish();
            count += 1;
        }
        count
    }
}

impl Messages {
    /// The sink of a route whose templates are named after `family`.
    ///
    /// # Errors
    /// Which template cannot be read, in Go's words.
    pub(super) fn new(
        spec: &RouteSpec,
        family: Family,
        templates: &MessageTemplates,
        environment: &BTreeMap<String, String>,
        (dialect, limits): (Dialect, &'static Limits),
    ) -> Result<Messages, String> {
        let mut asks = false;
        let mut compile = |part: &Part| {
            let option = format!("{}{}", family.option, part.setting.to_ascii_lowercase());
            let text = spec.given(&option).or((part.given)(templates));
            asks |= text.is_some();
            let text = text.unwrap_or(part.default);
            Template::compile(part.name, text, Functions::Predefined).map_err(|error| {
                let (variable, id) = (format!("{}{}", family.variable, part.setting), &spec.id);
                format!("{variable} of route {id}: {error}; see Go's text/template")
            })
        };
        let [color, title, link, text] = &PARTS;
        let templates = [compile(color)?, compile(title)?, compile(link)?, compile(text)?];
        Ok(Messages {
            templates,
            asks,
            dialect,
            limits,
            environment: Arc::new(environment.clone()),
            route: spec.id.clone(),
            said: AtomicBool::new(false),
        })
    }

    /// Says the first failure of a template; all of them are counted where they are delivered.
    fn say(&self, error: &Error) {
        if !self.said.swap(true, Relaxed) {
            tracing::warn!(
                route = self.route,
                "a template fails, and something else stands for what it would give; said once, \
                 counted always: {error}"
            );
        }
    }
}

impl Part {
    /// Appends what the template gives for `line`, or what stands for it.
    fn fill(
        &self,
        dialect: Dialect,
        bound: &Bound,
        line: &Line<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let put = |origin, piece: &[u8], out: &mut Vec<u8>| match (dialect, self.kind) {
            (Dialect::Discord, Kind::Text) => fence(piece, out),
            (Dialect::Discord, Kind::Title) => code(piece, out),
            (Dialect::Plain | Dialect::Discord, _) => out.extend_from_slice(piece),
            (Dialect::Slack | Dialect::Mattermost, _) => match origin {
                Origin::Constant => out.extend_from_slice(piece),
                Origin::Line => escape(piece, false, dialect, out),
                Origin::Computed => escape(piece, true, dialect, out),
            },
        };
        let filled = match self.kind {
            Kind::Value => bound.render(line, out),
            _ => bound.render_pieces(line, &mut |origin, piece| put(origin, piece, out)),
        };
        filled.inspect_err(|_| {
            out.clear();
            match self.fallback {
                Some(fallback) => out.extend_from_slice(fallback.as_bytes()),
                None => put(Origin::Line, line.data, out),
            }
        })
    }
}

/// Between the two characters of what would be markup: it is not seen.
const ZERO_WIDTH: &str = "\u{200b}";

/// Appends `text` with `&`, `<` and `>` as the entities that Slack wants. With `leniently`, an
/// entity in it stays one: a function such as `html` has been at work.
fn escape(text: &[u8], leniently: bool, dialect: Dialect, out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'&' | b'<' | b'>' | b'@')) {
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain);
        rest = &special[1..];
        match special[0] {
            b'&' if leniently && is_entity(special) => out.push(b'&'),
            b'&' => out.extend_from_slice(b"&amp;"),
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            byte => {
                out.push(byte);
                if dialect == Dialect::Mattermost && mentions_all(rest) {
                    out.extend_from_slice(ZERO_WIDTH.as_bytes());
                }
            }
        }
    }
    out.extend_from_slice(rest);
}

/// Whether `text` begins with an entity that Go's `html` writes.
fn is_entity(text: &[u8]) -> bool {
    [&b"&amp;"[..], b"&lt;", b"&gt;", b"&#34;", b"&#39;"].iter().any(|e| text.starts_with(e))
}

/// Whether Mattermost would call everybody, with an `@` before `text`.
fn mentions_all(text: &[u8]) -> bool {
    let begins = |name: &str| {
        text.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()))
    };
    ["all", "channel", "here"].into_iter().any(begins)
}

/// Appends text that stands between fences of back quotes, which nothing in it may end.
fn fence(text: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        if byte == b'`' && out.last() == Some(&b'`') {
            out.extend_from_slice(ZERO_WIDTH.as_bytes());
        }
        out.push(byte);
    }
}

/// Appends text that stands between two back quotes, on one line.
fn code(text: &[u8], out: &mut Vec<u8>) {
    out.extend(text.iter().map(|&byte| match byte {
        b'`' => b'\'',
        b'\n' | b'\r' => b' ',
        _ => byte,
    }));
}

/// At most `max` bytes of `text`, cut where a character begins.
fn first_bytes(text: &[u8], max: usize) -> &[u8] {
    let Some(cut) = text.get(..max) else { return text };
    // A UTF-8 character has at most three continuation bytes; more is not UTF-8 anyway.
    let end = (max.saturating_sub(3)..=max)
        .rev()
        .find(|&at| text.get(at).is_none_or(|byte| byte & 0xC0 != 0x80));
    &cut[..end.unwrap_or(max)]
}

/// `text` if it has at most `max` characters, else nothing.
fn whole(text: &str, max: usize) -> &str {
    if text.chars().nth(max).is_none() { text } else { "" }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_line_is_cut_where_a_character_begins(text in "[aé日😀]{0,20}", max in 0usize..60) {
            let cut = first_bytes(text.as_bytes(), max);
            let cut = std::str::from_utf8(cut).unwrap();
            prop_assert!(text.starts_with(cut));
            prop_assert!(cut.len() == text.len() || cut.len() + 3 >= max && cut.len() <= max);
        }

        /// Read back as Slack does, the line is what it was.
        #[test]
        fn escaping_can_be_undone(text in any::<String>()) {
            let mut escaped = Vec::new();
            escape(text.as_bytes(), false, Dialect::Slack, &mut escaped);
            let escaped = String::from_utf8(escaped).unwrap();
            prop_assert!(!escaped.contains(['<', '>']));
            let read = escaped.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
            prop_assert_eq!(read, text);
        }
    }
}
