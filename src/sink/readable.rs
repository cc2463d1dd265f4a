//! Lines of stats and events as text for people: what a template makes of the JSON object that such
//! a line is. Sinks whose records are for programs pass the object on.
//!
//! Pure. Filters have seen the object; only what is written is another. These lines are few, so
//! their templates are evaluated as they come.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use serde_json::Value as Json;

use super::{Built, Reader, field};
use crate::config::Settings;
use crate::docker::Source;
use crate::route::RouteSpec;
use crate::stamp::Stamp;
use crate::template::{Context, Error, Functions, Line, Template};

/// `cpu 12.5% mem 61.2 MiB / 256 MiB (23.9%) net 1.2 kB / 3 kB blk 0 B / 8.2 kB pids 5`
const STATS: &str = "cpu {{printf \"%.1f\" .cpu_percent}}% mem {{bytes .memory_bytes}} / \
    {{bytes .memory_limit_bytes}} ({{printf \"%.1f\" .memory_percent}}%) \
    net {{size .network_rx_bytes}} / {{size .network_tx_bytes}} \
    blk {{size .block_read_bytes}} / {{size .block_write_bytes}} pids {{.pids}}";

/// `container die web (image nginx) exit code 3`
const EVENTS: &str = "{{.type}} {{.action}} {{if .name}}{{.name}}{{else}}{{.id}}{{end}}\
    {{if .image}} (image {{.image}}){{end}}{{with .signal}} signal {{.}}{{end}}\
    {{if eq (printf \"%T\" .exit_code) \"int\"}} exit code {{.exit_code}}{{end}}\
    {{if .reconciled}} (seen late){{end}}";

/// Instead of a template: the object as it is.
const JSON: &str = "json";

/// How a route writes lines that are JSON objects.
#[derive(Clone, Debug, Default)]
pub struct Readable {
    stats: Option<Template>,
    events: Option<Template>,
}

impl Readable {
    /// As the route's options `stats.format` and `events.format` say. For the sinks that people
    /// read, else the settings decide, and else the defaults.
    ///
    /// # Errors
    /// One line that names the option, the route and what is wrong, in Go's words; or that the sink
    /// has no use for text.
    pub fn new(spec: &RouteSpec, built: &Built, settings: &Settings) -> Result<Readable, String> {
        let reader = built.sink.reader();
        let template = |name: &str, own: Option<&str>, shared: Option<&str>, default| {
            let shared = (reader == Reader::People).then_some(shared.unwrap_or(default));
            let Some(text) = own.or(shared).filter(|text| !text.eq_ignore_ascii_case(JSON)) else {
                return Ok(None);
            };
            if reader == Reader::Program {
                let (adapter, id) = (&spec.adapter, &spec.id);
                return Err(format!(
                    "bad {name}.format of route {id}: {adapter} sends objects; leave it out"
                ));
            }
            let compiled = Template::compile(name, text, Functions::WithSizes);
            compiled.map(Some).map_err(|error| {
                let error = error.to_string();
                format!(
                    "bad {name}.format of route {}: {}; see Go's text/template, or write json",
                    spec.id,
                    field::printable(&error)
                )
            })
        };
        let (stats, events) = (spec.given("stats.format"), spec.given("events.format"));
        Ok(Readable {
            stats: template("stats", stats, settings.stats_format.as_deref(), STATS)?,
            events: template("events", events, settings.events_format.as_deref(), EVENTS)?,
        })
    }

    /// What is written of an object, without a newline at its end. Where the template fails it is
    /// the object, and why.
    pub fn text<'a>(&self, source: Source, object: &'a [u8]) -> (Cow<'a, [u8]>, Option<Error>) {
        let template = match source {
            Source::Stats => &self.stats,
            Source::Events => &self.events,
            Source::Stdout | Source::Stderr => &None,
        };
        let Some(template) = template else { return (object.into(), None) };
        // It is what logchute has written itself.
        let value: Json = serde_json::from_slice(object).unwrap_or_default();
        let (context, stamp) = (Context::value(Arc::new(value)), Stamp::new(UNIX_EPOCH));
        let mut text = Vec::new();
        match template.evaluate(&context, &Line::new(object, &stamp), &mut text) {
            Ok(()) => {
                text.truncate(text.trim_ascii_end().len());
                (text.into(), None)
            }
            Err(error) => (object.into(), Some(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::{self, testing};

    const STATS_LINE: &[u8] = br#"{"time":"2026-11-22T16:25:09Z","id":"a","name":"web",
        "cpu_percent":12.50,"cpus":2,"memory_bytes":64172851,"memory_limit_bytes":268435456,
        "memory_percent":23.91,"pids":5,"network_rx_bytes":1234,"network_tx_bytes":3000,
        "block_read_bytes":0,"block_write_bytes":999960}"#;

    fn readable(
        adapter: &str,
        options: &[(&str, &str)],
        settings: &Settings,
    ) -> Result<Readable, String> {
        let transport = (adapter != "console").then_some("tcp");
        let address = if adapter == "console" { "" } else { "host:514" };
        let spec = testing::route(adapter, transport, address, options);
        Readable::new(&spec, &sink::build(&spec, settings)?, settings)
    }

    fn text(adapter: &str, options: &[(&str, &str)], source: Source, object: &[u8]) -> String {
        let readable = readable(adapter, options, &Settings::default()).unwrap();
        let (text, error) = readable.text(source, object);
        assert!(error.is_none(), "{error:?}");
        String::from_utf8(text.into_owned()).unwrap()
    }

    #[test]
    fn people_get_text_and_programs_the_object() {
        let expected =
            "cpu 12.5% mem 61.2 MiB / 256 MiB (23.9%) net 1.2 kB / 3 kB blk 0 B / 1 MB pids 5";
        for adapter in ["console", "syslog", "relp"] {
            let adapter = if adapter == "relp" { "syslog" } else { adapter };
            assert_eq!(text(adapter, &[], Source::Stats, STATS_LINE), expected);
        }
        let object = String::from_utf8_lossy(STATS_LINE);
        assert_eq!(text("raw", &[], Source::Stats, STATS_LINE), object);
        assert_eq!(text("console", &[("stats.format", "JSON")], Source::Stats, STATS_LINE), object);
        // Who asks for text gets it of any sink; what is no object is left alone.
        let own = [("stats.format", "{{.name}} {{.pids}}\n")];
        assert_eq!(text("raw", &own, Source::Stats, STATS_LINE), "web 5");
        assert_eq!(text("raw", &own, Source::Stdout, b"{}"), "{}");
    }

    #[test]
    fn events_in_words() {
        let said = |object: &str| text("console", &[], Source::Events, object.as_bytes());
        let die = r#"{"type":"container","action":"die","id":"e","name":"web","image":"nginx",
            "exit_code":3}"#;
        assert_eq!(said(die), "container die web (image nginx) exit code 3");
        let die = die.replace('3', "0").replace("\"exit", "\"reconciled\":true,\"exit");
        assert_eq!(said(&die), "container die web (image nginx) exit code 0 (seen late)");
        let kill = r#"{"type":"container","action":"kill","id":"e","name":"web","image":"",
            "signal":"15"}"#;
        assert_eq!(said(kill), "container kill web signal 15");
        let volume = r#"{"type":"volume","action":"mount","id":"data","name":"","image":""}"#;
        assert_eq!(said(volume), "volume mount data");
    }

    #[test]
    fn a_template_that_fails_leaves_the_object() {
        let options = [("events.format", "{{bytes .name}}")];
        let readable = readable("console", &options, &Settings::default()).unwrap();
        let (text, error) = readable.text(Source::Events, b"{\"name\":\"web\"}");
        assert_eq!(&*text, b"{\"name\":\"web\"}");
        assert!(error.unwrap().to_string().contains("a size of type string"));
    }

    #[test]
    fn settings_are_for_people_alone_and_mistakes_are_said() {
        let settings =
            Settings { stats_format: Some("{{.pids}}".to_owned()), ..Settings::default() };
        let of = |adapter| readable(adapter, &[], &settings).unwrap();
        assert_eq!(&*of("console").text(Source::Stats, STATS_LINE).0, b"5");
        assert_eq!(&*of("raw").text(Source::Stats, STATS_LINE).0, STATS_LINE);
        let bad = readable("raw", &[("events.format", "{{if}}")], &settings).unwrap_err();
        assert!(bad.starts_with("bad events.format of route 0: template: events:1: "), "{bad}");
        // What takes objects is not given text.
        let refused = |format| {
            let spec = testing::route("http", Some("json"), "h", &[("stats.format", format)]);
            Readable::new(&spec, &sink::build(&spec, &settings).unwrap(), &settings).err()
        };
        assert!(refused("{{.pids}}").is_some_and(|error| error.contains("leave it out")));
        assert_eq!(refused("json"), None);
    }
}
