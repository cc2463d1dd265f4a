//! Syslog records whose fields are templates: `SYSLOG_TAG`, `SYSLOG_DATA` and the others.
//!
//! Pure. A route without templates never comes here. Where one fails for a line, the field is what
//! it is by default, and that is counted: the line is not lost.

use std::sync::Arc;

use super::records;
use crate::buffer::Outbox;
use crate::config::Precision;
use crate::docker::Source;
use crate::docker::inspect::Container;
use crate::lines::blocks::Blocks;
use crate::stamp::Stamp;
use crate::template::{Bound, Context, Error, Functions, Line, Template};

/// A field of a record, as an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Priority,
    Timestamp,
    Hostname,
    Tag,
    Pid,
    StructuredData,
    Data,
}

impl Field {
    pub(super) const ALL: [Field; 7] = [
        Field::Priority,
        Field::Timestamp,
        Field::Hostname,
        Field::Tag,
        Field::Pid,
        Field::StructuredData,
        Field::Data,
    ];

    /// As Logspout calls its template, in errors too.
    pub(super) fn name(self) -> &'static str {
        match self {
            Field::Priority => "priority",
            Field::Timestamp => "timestamp",
            Field::Hostname => "hostname",
            Field::Tag => "tag",
            Field::Pid => "pid",
            Field::StructuredData => "structured_data",
            Field::Data => "data",
        }
    }

    /// Logspout's default.
    fn default_text(self) -> &'static str {
        match self {
            Field::Priority => "{{.Priority}}",
            Field::Timestamp => "{{.Timestamp}}",
            Field::Hostname => "{{.Container.Config.Hostname}}",
            Field::Tag => "{{.ContainerName}}",
            Field::Pid => "{{.Container.State.Pid}}",
            Field::StructuredData => "",
            Field::Data => "{{.Data}}",
        }
    }

    /// An error of this field's template, to be shown: structured data may hold a token.
    fn discreet(self, error: Error) -> Error {
        if self == Field::StructuredData { error.unquoted() } else { error }
    }
}

/// The templates of a route's fields, the default ones among them, and what stands in where one
/// fails.
pub(super) struct Templates {
    given: [Template; 7],
    defaults: [Template; 7],
}

/// The texts of the fields before the message, but for the time.
pub(super) struct Head<'a> {
    pub priority: &'a str,
    pub hostname: &'a str,
    pub tag: &'a str,
    pub pid: &'a str,
    pub structured_data: &'a str,
}

/// What a container's records look like before they are rendered.
pub(super) enum Shape {
    /// The head is the same for every line; the time and the message may be templates.
    Fixed { head: [String; 5], rest: Box<[Bound]> },
    /// All fields, and then what stands in for each.
    Open(Box<[Bound]>),
}

impl Templates {
    /// Compiles the texts of those fields that have one.
    ///
    /// # Errors
    /// Which field cannot be read, in the words of [`Template::compile`].
    pub(super) fn new(text: impl Fn(Field) -> Option<String>) -> Result<Templates, Error> {
        let compile = |field: Field, text: &str| {
            Template::compile(field.name(), text, Functions::Predefined)
                .map_err(|error| field.discreet(error))
        };
        let mut given = Vec::new();
        let mut defaults = Vec::new();
        for field in Field::ALL {
            let default = compile(field, field.default_text())?;
            given.push(match text(field) {
                Some(text) => compile(field, &text)?,
                None => default.clone(),
            });
            defaults.push(default);
        }
        let all = |templates: Vec<Template>| -> [Template; 7] {
            let mut templates = templates.into_iter();
            Field::ALL.map(|field| {
                // One was pushed for each field.
                templates.next().unwrap_or_else(|| unreachable!("{field:?}"))
            })
        };
        Ok(Templates { given: all(given), defaults: all(defaults) })
    }

    /// Folds the templates for a container and source.
    pub(super) fn bind(&self, container: &Container, source: Source) -> Shape {
        let document = Arc::new(container.document());
        let context = |hostname: &str| Context::syslog(document.clone(), source.name(), hostname);
        // `.Hostname` is what the host name's template gives; there it is nothing.
        let hostname = self.given[Field::Hostname as usize].bind(&context(""));
        let hostname = hostname.constant().map(String::from_utf8_lossy).unwrap_or_default();
        let context = context(&hostname);
        let bind = |templates: &[Template; 7]| templates.each_ref().map(|t| t.bind(&context));
        let (given, defaults) = (bind(&self.given), bind(&self.defaults));
        let head =
            [Field::Priority, Field::Hostname, Field::Tag, Field::Pid, Field::StructuredData].map(
                |field| {
                    let text = given[field as usize].constant()?;
                    Some(String::from_utf8_lossy(text).into_owned())
                },
            );
        let [time, data] = [Field::Timestamp as usize, Field::Data as usize];
        if let [Some(priority), Some(hostname), Some(tag), Some(pid), Some(structured_data)] = head
        {
            let plain = given[time] == defaults[time] && given[data] == defaults[data];
            let rest = [&given[time], &given[data], &defaults[time], &defaults[data]];
            return Shape::Fixed {
                head: [priority, hostname, tag, pid, structured_data],
                rest: if plain { Box::default() } else { rest.map(Bound::clone).into() },
            };
        }
        Shape::Open(given.into_iter().chain(defaults).collect())
    }
}

/// Appends what a template gives, or what `default` gives where it fails.
fn render(
    template: &Bound,
    default: &Bound,
    line: &Line<'_>,
    record: &mut Vec<u8>,
) -> Result<(), Error> {
    let begin = record.len();
    let rendered = template.render(line, record);
    if rendered.is_err() {
        record.truncate(begin);
        // A default fails for nothing that a daemon would say of a container.
        default.render(line, record)?;
    }
    rendered
}

/// Appends one record per line: its fields as the templates make them. `parts` gives what is
/// before the time and what is between it and the message. Returns how many lines there were.
pub(super) fn encode(
    templates: &[Bound],
    before_time: &[u8],
    after_time: &[u8],
    parts: impl Fn(&Head<'_>) -> (String, String),
    counted: bool,
    (stamp, precision, lines): (&Stamp, Precision, Blocks<'_>),
    out: &mut Outbox,
) -> u64 {
    let mut record = Vec::new();
    let mut count = 0;
    let any = Line::new(&[], stamp);
    let micros = stamp.rfc3339_micros();
    // Of a route whose user has not said what the time looks like. What templates show by
    // `{{.Timestamp}}` is as Logspout has it.
    let plain = |time: &Bound, default: &Bound| {
        (precision == Precision::Micros && time == default).then_some(&micros[..])
    };
    for text in lines.lines() {
        let line = any.with(text);
        record.clear();
        let rendered = match templates {
            [time, data, default_time, default_data] => {
                record.extend_from_slice(before_time);
                let time = match plain(time, default_time) {
                    None => render(time, default_time, &line, &mut record),
                    Some(text) => {
                        record.extend_from_slice(text);
                        Ok(())
                    }
                };
                record.extend_from_slice(after_time);
                time.and(render(data, default_data, &line, &mut record))
            }
            all => {
                let (given, defaults) = all.split_at(all.len() / 2);
                let at = Field::Timestamp as usize;
                let time = given.get(at).zip(defaults.get(at));
                let time = time.and_then(|(time, default)| plain(time, default));
                open((given, defaults), time, &parts, &line, &mut record)
            }
        };
        if let Err(error) = rendered {
            out.note_failure(&error, false);
        }
        record.push(b'\n');
        records::put(&record, counted, out);
        count += 1;
    }
    count
}

/// A record all of whose fields may depend on the line; `given_time` stands for the time, if any.
fn open(
    (given, defaults): (&[Bound], &[Bound]),
    given_time: Option<&[u8]>,
    parts: impl Fn(&Head<'_>) -> (String, String),
    line: &Line<'_>,
    record: &mut Vec<u8>,
) -> Result<(), Error> {
    let mut texts = [const { Vec::new() }; 7];
    let mut result = Ok(());
    for (((field, text), template), default) in
        Field::ALL.into_iter().zip(&mut texts).zip(given).zip(defaults)
    {
        let rendered = render(template, default, line, text);
        result = result.and(rendered.map_err(|error| field.discreet(error)));
    }
    let [priority, time, hostname, tag, pid, structured_data, data] = &texts;
    let shown =
        [priority, hostname, tag, pid, structured_data].map(|text| String::from_utf8_lossy(text));
    let (before, after) = parts(&Head {
        priority: &shown[0],
        hostname: &shown[1],
        tag: &shown[2],
        pid: &shown[3],
        structured_data: &shown[4],
    });
    let time = given_time.unwrap_or(time);
    for part in [before.as_bytes(), time, after.as_bytes(), data] {
        record.extend_from_slice(part);
    }
    result
}
