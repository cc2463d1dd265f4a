//! `raw`: a line as it is, and its newline. What Logspout's default `RAW_FORMAT` writes; with
//! another one, what the template makes of it.
//!
//! Pure. The adapters `tcp`, `udp` and `tls` are this one over that transport.

use std::sync::Arc;

use super::{Built, Prefix, Reader, Sink, SinkSpec, field, records, target};
use crate::buffer::Outbox;
use crate::config::Settings;
use crate::docker::Source;
use crate::docker::inspect::Container;
use crate::lines::blocks::Blocks;
use crate::route::RouteSpec;
use crate::stamp::Stamp;
use crate::template::{Bound, Context, Functions, Line, Template};

/// `raw://`: over `udp` (the default), `tcp`, `tls` or `unix`. Option, which wins over the
/// setting: `raw.format`; an empty one counts as not given.
pub const SPEC: SinkSpec = SinkSpec { scheme: "raw", build };

/// The template that needs none.
const PLAIN: &str = "{{.Data}}\n";

pub(super) struct Raw;

impl Sink for Raw {
    fn prefix(&self, _container: &Container, _source: Source) -> Prefix {
        Prefix::default()
    }

    fn reader(&self) -> Reader {
        Reader::Either
    }

    fn encode(&self, _prefix: &Prefix, _stamp: &Stamp, lines: Blocks<'_>, out: &mut Outbox) -> u64 {
        records::plain([&[]; 3], lines, out)
    }
}

/// Records that a template makes, one a line.
struct Formatted {
    template: Template,
}

impl Sink for Formatted {
    fn prefix(&self, container: &Container, source: Source) -> Prefix {
        let context = Context::raw(Arc::new(container.document()), source.name());
        Prefix { templates: [self.template.bind(&context)].into(), ..Prefix::default() }
    }

    fn reads_answers(&self) -> bool {
        true
    }

    fn reader(&self) -> Reader {
        Reader::Either
    }

    fn encode(&self, prefix: &Prefix, stamp: &Stamp, lines: Blocks<'_>, out: &mut Outbox) -> u64 {
        let Some(template) = prefix.templates.first() else { return 0 };
        let mut scratch = Vec::new();
        let mut count = 0;
        let any = Line::new(&[], stamp);
        for line in lines.lines() {
            render(template, &any.with(line), &mut scratch, out);
            count += 1;
        }
        count
    }
}

/// Appends the record of a line. Where its length is not known before, it is made in `scratch`.
fn render(template: &Bound, line: &Line<'_>, scratch: &mut Vec<u8>, out: &mut Outbox) {
    if let Some(len_max) = template.len_max(line.data.len()) {
        let record = out.begin(len_max);
        let begin = record.len();
        let rendered = template.render(line, record);
        let empty = record.len() == begin;
        if let Err(error) = rendered {
            record.truncate(begin);
            return out.note_failure(&error, true);
        }
        return finish(empty, out);
    }
    scratch.clear();
    if let Err(error) = template.render(line, scratch) {
        return out.note_failure(&error, true);
    }
    out.begin(scratch.len()).extend_from_slice(scratch);
    finish(scratch.is_empty(), out);
}

/// Ends a record. An empty one is a datagram without bytes, as from Logspout; in a stream it is
/// nothing.
fn finish(empty: bool, out: &mut Outbox) {
    if empty && !out.cuts_records() {
        out.note_empty();
    } else {
        out.finish();
    }
}

fn build(spec: &RouteSpec, settings: &Settings) -> Result<Built, String> {
    let delivery = target::delivery(spec, settings)?;
    let given = spec.given("raw.format");
    let text = given.or(settings.raw_format.as_deref()).unwrap_or(PLAIN);
    if text == PLAIN {
        return Ok(Built::new(Raw, delivery));
    }
    let template = Template::compile("raw", text, Functions::WithToJson).map_err(|error| {
        let error = error.to_string();
        format!("bad RAW_FORMAT of route {}: {}", spec.id, field::printable(&error))
    })?;
    Ok(Built::new(Formatted { template }, delivery))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::testing;

    fn records(transport: &str, format: &str, lines: &[u8]) -> Vec<String> {
        let options = [("raw.format", format)];
        let spec = testing::route("raw", Some(transport), "host:514", &options);
        let sink = build(&spec, &Settings::default()).map(|built| built.sink);
        let sink = sink.unwrap_or_else(|error| panic!("{error}"));
        let container = Container { name: "web".to_owned(), ..Container::default() };
        let prefix = sink.prefix(&container, Source::Stderr);
        let records = testing::encode(&*sink, &prefix, lines);
        records.into_iter().map(|record| String::from_utf8(record).unwrap()).collect()
    }

    #[test]
    fn a_record_is_what_the_template_makes() {
        let format =
            "{\"c\":{{toJSON .Container.Name}},\"s\":\"{{.Source}}\",\"m\":{{toJSON .Data}}}\n";
        assert_eq!(
            records("tcp", format, b"a \"b\"\n\n"),
            [
                "{\"c\":\"/web\",\"s\":\"stderr\",\"m\":\"a \\\"b\\\"\"}\n",
                "{\"c\":\"/web\",\"s\":\"stderr\",\"m\":\"\"}\n",
            ]
        );
        let format = "%{.Time.Format \"2006\"} %{len .Data}|";
        assert_eq!(records("udp", format, b"abc\nde\n"), ["1970 3|", "1970 2|"]);
    }

    #[test]
    fn a_line_that_fails_or_gives_nothing_leaves_the_others_alone() {
        let format = "{{if eq .Data \"bad\"}}x{{index .Container.Config.Env 9}}{{end}}{{.Data}}|";
        assert_eq!(records("tcp", format, b"a\nbad\nb\n"), ["a|", "b|"]);
        let format = "{{.Data}}{{if false}}{{end}}";
        assert_eq!(records("tcp", format, b"a\n\nb\n"), ["a", "b"]);
    }

    #[test]
    fn a_template_that_cannot_be_read_is_refused() {
        let spec = testing::route("raw", None, "host:514", &[]);
        let settings = Settings { raw_format: Some("{{if}}".to_owned()), ..Settings::default() };
        let error = build(&spec, &settings).err();
        let expected = "bad RAW_FORMAT of route 0: template: raw:1: missing value for if";
        assert_eq!(error.as_deref(), Some(expected));
    }
}
