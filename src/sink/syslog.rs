//! `syslog`: RFC 5424 and RFC 3164 records, byte for byte as Logspout writes them by default.
//!
//! Pure. The priority, the names and the structured data are rendered once a container; per
//! line only the time and the line vary. RFC 3164 records carry an RFC 3339 time, as Logspout's
//! do, and every record ends with a newline, in a datagram and behind an octet count too.
//!
//! Where Logspout's head could not be parsed, ours differs: an empty host name or tag is `-`
//! (RFC 5424, section 6), a control character in one is `_`, and so is white space in a host name.
//! A space in a tag stays, as recorded from Logspout: it can only come from the route's options.

use super::templates::{self, Field, Head, Shape, Templates};
use super::{Built, Prefix, Reader, Sink, SinkSpec, field, records, target};
use crate::buffer::Outbox;
use crate::config::{Framing, Precision, Settings, SyslogFormat, SyslogSettings};
use crate::docker::Source;
use crate::docker::inspect::Container;
use crate::lines::blocks::Blocks;
use crate::route::RouteSpec;
use crate::stamp::Stamp;
use crate::transport::{DatagramTarget, Delivery, StreamTarget};

/// `syslog://`: over `udp` (the default), `tcp`, `tls` or `unix`. Options, which win over the
/// settings: `syslog.format`, `syslog.framing`, `syslog.structured_data` (or Logspout's
/// `structured_data`), `append_tag`, and the templates `syslog.priority`, `syslog.timestamp`,
/// `syslog.hostname`, `syslog.tag`, `syslog.pid` and `syslog.data`; an empty one counts as not
/// given.
pub const SPEC: SinkSpec = SinkSpec { scheme: "syslog", build };

/// RFC 5424, section 6: the longest HOSTNAME, APP-NAME and PROCID. Counted in characters, as by
/// Logspout.
const HOSTNAME_MAX: usize = 255;
const APP_NAME_MAX: usize = 48;
const PROCID_MAX: usize = 128;
/// RFC 3164, section 4.1.3: the longest TAG. Logspout shortens nothing else of that format.
const TAG_MAX: usize = 32;
/// RFC 5424, section 6: a field without a value.
const NIL: &str = "-";

/// What a receiver takes less of than its protocol allows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The longest HOSTNAME of an RFC 5424 record, in characters.
    pub hostname_max: usize,
    /// The longest record, in bytes.
    pub record_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { hostname_max: HOSTNAME_MAX, record_max: usize::MAX }
    }
}

struct Syslog {
    format: SyslogFormat,
    framing: Framing,
    /// What stands between the brackets of STRUCTURED-DATA; empty for `-`.
    structured_data: String,
    append_tag: String,
    precision: Precision,
    /// The HOSTNAME of every container, where the host's own is known.
    host_hostname: Option<String>,
    limits: Limits,
    /// Where any field is a template: all of them.
    templates: Option<Templates>,
}

impl Sink for Syslog {
    fn prefix(&self, container: &Container, source: Source) -> Prefix {
        if let Some(templates) = &self.templates {
            return self.templated(templates.bind(container, source));
        }
        // Facility user (1), severity informational (6), error (3) or notice (5): RFC 5424,
        // section 6.2.1.
        let priority = match source {
            Source::Stdout | Source::Stats => 14,
            Source::Stderr => 11,
            Source::Events => 13,
        };
        let tag = format!("{}{}", container.name, self.append_tag);
        let (before, after) = self.parts(&Head {
            priority: &priority.to_string(),
            hostname: self.host_hostname.as_deref().unwrap_or(&container.hostname),
            tag: &tag,
            pid: &container.pid.to_string(),
            structured_data: &self.structured_data,
        });
        Prefix {
            before_time: before.into_bytes().into(),
            after_time: after.into_bytes().into(),
            ..Prefix::default()
        }
    }

    fn reads_answers(&self) -> bool {
        self.templates.is_some()
    }

    fn record_max(&self) -> usize {
        self.limits.record_max
    }

    fn reader(&self) -> Reader {
        Reader::People
    }

    fn encode(&self, prefix: &Prefix, stamp: &Stamp, lines: Blocks<'_>, out: &mut Outbox) -> u64 {
        let (before, after) = (&prefix.before_time, &prefix.after_time);
        if !prefix.templates.is_empty() {
            let counted = self.framing == Framing::OctetCounted;
            let parts = |head: &Head<'_>| self.parts(head);
            let input = (stamp, self.precision, lines);
            let bound = &prefix.templates;
            return templates::encode(bound, before, after, parts, counted, input, out);
        }
        let micros = stamp.rfc3339_micros();
        let time: &[u8] = match self.precision {
            Precision::Seconds => stamp.rfc3339(),
            Precision::Micros => &micros,
        };
        let head: [&[u8]; 3] = [&prefix.before_time, time, &prefix.after_time];
        match self.framing {
            Framing::Traditional => records::plain(head, lines, out),
            Framing::OctetCounted => records::octet_counted(head, lines, out),
        }
    }
}

impl Syslog {
    /// What is before the time, and what is between it and the message.
    fn parts(&self, head: &Head<'_>) -> (String, String) {
        let Head { priority, pid, .. } = head;
        let (host, tag) = (field::word(head.hostname), field::printable(head.tag));
        let (priority, pid) = (field::printable(priority), field::printable(pid));
        // From a template it may have what a container's label has.
        let data = field::printable(head.structured_data);
        match self.format {
            SyslogFormat::Rfc5424 => {
                let host = or_nil(field::cut(&host, self.limits.hostname_max));
                let tag = or_nil(field::cut(&tag, APP_NAME_MAX));
                let pid = or_nil(field::cut(&pid, PROCID_MAX));
                let data = match &*data {
                    "" => NIL.to_owned(),
                    elements => format!("[{elements}]"),
                };
                (format!("<{priority}>1 "), format!(" {host} {tag} {pid} - {data} "))
            }
            SyslogFormat::Rfc3164 => {
                let tag = or_nil(field::cut(&tag, TAG_MAX));
                let host = or_nil(&host);
                (format!("<{priority}>"), format!(" {host} {tag}[{pid}]: "))
            }
        }
    }

    fn templated(&self, shape: Shape) -> Prefix {
        let (head, templates) = match shape {
            Shape::Open(templates) => return Prefix { templates, ..Prefix::default() },
            Shape::Fixed { head, rest } => (head, rest),
        };
        let [priority, hostname, tag, pid, structured_data] = &head;
        let (before, after) = self.parts(&Head { priority, hostname, tag, pid, structured_data });
        Prefix {
            before_time: before.into_bytes().into(),
            after_time: after.into_bytes().into(),
            templates,
            ..Prefix::default()
        }
    }
}

fn or_nil(field: &str) -> &str {
    if field.is_empty() { NIL } else { field }
}

fn build(spec: &RouteSpec, settings: &Settings) -> Result<Built, String> {
    over(target::delivery(spec, settings)?, spec, settings)
}

/// Builds the sink for records that travel so.
pub(super) fn over(
    delivery: Delivery,
    spec: &RouteSpec,
    settings: &Settings,
) -> Result<Built, String> {
    limited(delivery, spec, settings, Limits::default())
}

/// The route of a service that takes syslog's records, each ended by a newline: `spec` with the
/// service's own options where it does not say otherwise, whatever the settings of other routes.
///
/// # Errors
/// It asks for octet counting.
pub(super) fn preset(spec: &RouteSpec, options: &[(&str, &str)]) -> Result<RouteSpec, String> {
    if spec.given("syslog.framing").is_some_and(|framing| framing != "traditional") {
        return Err(format!(
            "bad syslog.framing in route {}: {} takes records that end with a newline; leave it \
             out",
            spec.id,
            spec.sink()
        ));
    }
    let mut spec = spec.clone();
    for (name, value) in [("syslog.framing", "traditional")].iter().chain(options) {
        if spec.given(name).is_none() {
            spec.options.retain(|(given, _)| given != name);
            spec.options.push(((*name).to_owned(), (*value).to_owned()));
        }
    }
    Ok(spec)
}

/// The same as [`over`], for a receiver with limits of its own.
pub(super) fn limited(
    delivery: Delivery,
    spec: &RouteSpec,
    settings: &Settings,
    limits: Limits,
) -> Result<Built, String> {
    let defaults = &settings.syslog;
    let (framing, delivery) = framing(spec, defaults.framing, delivery)?;
    let structured_data = spec
        .given("syslog.structured_data")
        .or_else(|| spec.given("structured_data"))
        .unwrap_or(&defaults.structured_data);
    let append_tag = spec.given("append_tag").unwrap_or_default();
    let host_hostname = defaults.host_hostname.as_deref().filter(|name| !name.is_empty());
    for (name, text) in [
        ("structured_data", structured_data),
        ("append_tag", append_tag),
        ("/etc/host_hostname", host_hostname.unwrap_or_default()),
    ] {
        if !is_template(text) {
            check_text(spec, name, text)?;
        }
    }
    let text = |field| template_of(spec, defaults, field, structured_data, append_tag);
    let with_templates = Field::ALL.into_iter().any(|field| match text(field) {
        Some(text) if matches!(field, Field::Tag | Field::StructuredData) => {
            is_template(&text) || given_field(spec, defaults, field).is_some()
        }
        Some(text) => field != Field::Hostname || is_template(&text) || host_hostname.is_none(),
        None => false,
    });
    let templates = if with_templates {
        let compiled = Templates::new(text);
        Some(compiled.map_err(|error| {
            let error = error.to_string();
            format!("bad SYSLOG setting of route {}: {}", spec.id, field::printable(&error))
        })?)
    } else {
        None
    };
    let format = format_of(spec, defaults.format)?;
    let precision = precision_of(spec, defaults.precision, (format, &delivery))?;
    let sink = Syslog {
        format,
        framing,
        structured_data: structured_data.to_owned(),
        append_tag: append_tag.to_owned(),
        precision,
        host_hostname: host_hostname.map(str::to_owned),
        limits,
        templates,
    };
    Ok(Built::new(sink, delivery))
}

fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("%{")
}

/// What the route's options or the settings say of a field that Logspout has a variable for.
fn given_field(spec: &RouteSpec, defaults: &SyslogSettings, field: Field) -> Option<String> {
    let name = format!("syslog.{}", field.name());
    let text = spec.given(&name).or(defaults.template(field.name()))?;
    Some(text.to_owned())
}

/// The template of a field, if it has one that is not the default. The host's own name wins over
/// `SYSLOG_HOSTNAME`, and `SYSLOG_TAG` over `append_tag`, as in Logspout.
fn template_of(
    spec: &RouteSpec,
    defaults: &SyslogSettings,
    field: Field,
    structured_data: &str,
    append_tag: &str,
) -> Option<String> {
    let host = defaults.host_hostname.as_deref().filter(|name| !name.is_empty());
    match (field, given_field(spec, defaults, field)) {
        (Field::Hostname, _) if host.is_some() => host.map(str::to_owned),
        (Field::StructuredData, _) => {
            (!structured_data.is_empty()).then(|| structured_data.to_owned())
        }
        (Field::Tag, None) if !append_tag.is_empty() => {
            let brace_free = append_tag.contains("%{") && !append_tag.contains("{{");
            let name = if brace_free { "%{.ContainerName}" } else { "{{.ContainerName}}" };
            Some(format!("{name}{append_tag}"))
        }
        (_, given) => given,
    }
}

fn format_of(spec: &RouteSpec, default: SyslogFormat) -> Result<SyslogFormat, String> {
    match spec.given("syslog.format") {
        None => Ok(default),
        Some("rfc5424") => Ok(SyslogFormat::Rfc5424),
        Some("rfc3164") => Ok(SyslogFormat::Rfc3164),
        Some(other) => Err(format!(
            "bad syslog.format: {other:?} in route {}; use rfc5424 or rfc3164",
            spec.id
        )),
    }
}

/// Logspout writes whole seconds, and has no RELP: there the format may be had in full.
fn precision_of(
    spec: &RouteSpec,
    default: Option<Precision>,
    record: (SyslogFormat, &Delivery),
) -> Result<Precision, String> {
    let given = spec.given("syslog.precision").map(|text| {
        text.parse().map_err(|fix| format!("syslog.precision: {text:?} of route {} {fix}", spec.id))
    });
    Ok(given.transpose()?.or(default).unwrap_or(match record {
        (SyslogFormat::Rfc5424, Delivery::Relp(_)) => Precision::Micros,
        _ => Precision::Seconds,
    }))
}

/// Octet counting is for plain streams only: the setting has no effect on datagrams, as in
/// Logspout, nor on RELP, which has a framing of its own, while a route that asks for it over these
/// is refused. A socket in the file system is used as a stream where the route itself asks for
/// octet counting; else it may turn out to be either, and the newline alone, which both can do
/// with, ends a record.
fn framing(
    spec: &RouteSpec,
    default: Framing,
    delivery: Delivery,
) -> Result<(Framing, Delivery), String> {
    let asked = match spec.given("syslog.framing") {
        None => None,
        Some("traditional") => Some(Framing::Traditional),
        Some("octet-counted") => Some(Framing::OctetCounted),
        Some(other) => {
            return Err(format!(
                "bad syslog.framing: {other:?} in route {}; use traditional or octet-counted",
                spec.id
            ));
        }
    };
    match (delivery, asked) {
        (Delivery::Datagram(DatagramTarget::Udp(_)), Some(Framing::OctetCounted)) => Err(format!(
            "bad syslog.framing: \"octet-counted\" over udp in route {}; use tcp, tls or unix",
            spec.id
        )),
        (Delivery::Relp(_), Some(Framing::OctetCounted)) => Err(format!(
            "bad syslog.framing: \"octet-counted\" over RELP, which has its own, in route {}; \
             leave it out",
            spec.id
        )),
        (Delivery::Datagram(DatagramTarget::Unix(path)), Some(Framing::OctetCounted)) => {
            Ok((Framing::OctetCounted, Delivery::Stream(StreamTarget::Unix(path))))
        }
        (Delivery::Stream(target), asked) => {
            Ok((asked.unwrap_or(default), Delivery::Stream(target)))
        }
        (other, _) => Ok((Framing::Traditional, other)),
    }
}

/// Refuses text that would not come out as its writer meant it: a control character would end the
/// record or be replaced.
fn check_text(spec: &RouteSpec, name: &str, text: &str) -> Result<(), String> {
    if !text.contains(char::is_control) {
        return Ok(());
    }
    let fix = "remove the control character (a newline or the like)";
    Err(format!("bad {name}: {text:?} in route {}; {fix}", spec.id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Budget;
    use crate::sink::testing::{self, TIME};
    use crate::transport::HostPort;
    use proptest::prelude::*;
    use std::sync::Arc;
    use std::time::UNIX_EPOCH;

    fn container(hostname: &str, name: &str) -> Container {
        let (hostname, name) = (hostname.to_owned(), name.to_owned());
        Container { hostname, name, pid: 42, ..Container::default() }
    }

    fn syslog(format: SyslogFormat, framing: Framing) -> Syslog {
        Syslog {
            format,
            framing,
            precision: Precision::Seconds,
            structured_data: String::new(),
            append_tag: String::new(),
            host_hostname: None,
            limits: Limits::default(),
            templates: None,
        }
    }

    fn record(sink: &dyn Sink, container: &Container, line: &[u8]) -> Vec<u8> {
        testing::encode(sink, &sink.prefix(container, Source::Stdout), line).concat()
    }

    fn built(transport: &str, options: &[(&str, &str)]) -> Result<Built, String> {
        let address = if transport == "unix" { "/dev/log" } else { "host:514" };
        let authority = testing::authority();
        let tls = testing::trusting(authority.path());
        let settings = Settings { tls, ..Settings::default() };
        build(&testing::route("syslog", Some(transport), address, options), &settings)
    }

    fn head(options: &[(&str, &str)]) -> String {
        let built = built("tcp", options).unwrap_or_else(|error| panic!("{error}"));
        let record = record(&*built.sink, &container("host", "web"), b"x\n");
        String::from_utf8(record).unwrap().replace(TIME, "T")
    }

    fn refusal(transport: &str, options: &[(&str, &str)]) -> String {
        built(transport, options).err().unwrap_or_default()
    }

    /// The parts of an RFC 5424 record, read by its grammar (section 6) without the encoder's help.
    fn parse(record: &str) -> Option<[&str; 8]> {
        let (priority, rest) = record.strip_prefix('<')?.split_once(">1 ")?;
        let mut words = rest.splitn(6, ' ');
        let [time, host, tag, pid, id] = [(); 5].map(|()| words.next().unwrap_or_default());
        let rest = words.next()?;
        let mut end = usize::from(rest.starts_with('-'));
        while rest[end..].starts_with('[') {
            let (mut quoted, mut escaped) = (false, false);
            end += 1 + rest[end..].find(|c| {
                let ends = c == ']' && !quoted;
                quoted ^= c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            })?;
        }
        let (data, message) = rest.split_at_checked(end).filter(|(data, _)| !data.is_empty())?;
        Some([priority, time, host, tag, pid, id, data, message.strip_prefix(' ')?])
    }

    /// With a template or without, which make the same priority of a source.
    #[test]
    fn a_source_has_its_severity() {
        let options: [&[(&str, &str)]; 2] = [&[], &[("syslog.tag", "{{.ContainerName}}")]];
        for options in options {
            let built = built("tcp", options).unwrap_or_else(|error| panic!("{error}"));
            let priorities = Source::ALL.map(|source| {
                let prefix = built.sink.prefix(&container("host", "web"), source);
                let record = testing::encode(&*built.sink, &prefix, b"x\n").concat();
                String::from_utf8_lossy(&record).split('>').next().unwrap().to_owned()
            });
            assert_eq!(priorities, ["<14", "<11", "<14", "<13"], "{options:?}");
        }
    }

    #[test]
    fn an_empty_field_is_nil() {
        let nobody = Container::default();
        let record_of = |format| record(&syslog(format, Framing::Traditional), &nobody, b"\n");
        let expected = format!("<14>1 {TIME} - - 0 - - \n");
        assert_eq!(record_of(SyslogFormat::Rfc5424), expected.as_bytes());
        let expected = format!("<14>{TIME} - -[0]: \n");
        assert_eq!(record_of(SyslogFormat::Rfc3164), expected.as_bytes());
    }

    #[test]
    fn the_host_name_wins_and_only_rfc5424_shortens_it() {
        let mut sink = syslog(SyslogFormat::Rfc3164, Framing::Traditional);
        let host = "é".repeat(300);
        sink.host_hostname = Some(host.clone());
        let text = record(&sink, &container("other", "web"), b"x\n");
        assert_eq!(text, format!("<14>{TIME} {host} web[42]: x\n").into_bytes());
        sink.format = SyslogFormat::Rfc5424;
        let text = record(&sink, &container("other", "web"), b"x\n");
        let host = "é".repeat(255);
        assert_eq!(text, format!("<14>1 {TIME} {host} web 42 - - x\n").into_bytes());
    }

    #[test]
    fn names_cannot_forge_a_record() {
        let sink = syslog(SyslogFormat::Rfc5424, Framing::Traditional);
        let text = record(&sink, &container("a b\n<11>1", "c\nd\0"), b"x\n");
        assert_eq!(text, format!("<14>1 {TIME} a_b_<11>1 c_d_ 42 - - x\n").into_bytes());
    }

    #[test]
    fn a_template_cannot_forge_a_record_either() {
        let options = [
            ("append_tag", "%{.Source}\n<11>1"),
            ("structured_data", "a@1 b=\"{{.Container.Name}}\n\""),
        ];
        let built = built("tcp", &options).unwrap_or_else(|error| panic!("{error}"));
        let records = testing::encode(
            &*built.sink,
            &built.sink.prefix(&container("h", "w\nx"), Source::Stdout),
            b"x\n",
        );
        assert_eq!(records.concat().iter().filter(|&&byte| byte == b'\n').count(), 1);
    }

    #[test]
    fn options_win_over_settings() {
        assert_eq!(head(&[]), "<14>1 T host web 42 - - x\n");
        assert_eq!(head(&[("syslog.format", "rfc3164")]), "<14>T host web[42]: x\n");
        assert_eq!(head(&[("append_tag", ".db")]), "<14>1 T host web.db 42 - - x\n");
        assert_eq!(head(&[("structured_data", "a@1 b=\"c\"")]), {
            "<14>1 T host web 42 - [a@1 b=\"c\"] x\n"
        });
        let both = [("structured_data", "a@1"), ("syslog.structured_data", "b@2")];
        assert_eq!(head(&both), "<14>1 T host web 42 - [b@2] x\n");
        // The count is of the real time, 19 characters longer than `T`.
        assert_eq!(head(&[("syslog.framing", "octet-counted")]), {
            "45 <14>1 T host web 42 - - x\n"
        });
        let mut settings = Settings::default();
        settings.syslog.format = SyslogFormat::Rfc3164;
        settings.syslog.framing = Framing::OctetCounted;
        settings.syslog.structured_data = "env@1".to_owned();
        settings.syslog.host_hostname = Some(String::new());
        let options = [("syslog.format", "rfc5424"), ("syslog.framing", "traditional")];
        let spec = testing::route("syslog", Some("tcp"), "h:1", &options);
        let sink =
            build(&spec, &settings).map(|built| built.sink).unwrap_or_else(|e| panic!("{e}"));
        let expected = format!("<14>1 {TIME} host web 42 - [env@1] x\n");
        assert_eq!(record(&*sink, &container("host", "web"), b"x\n"), expected.as_bytes());
    }

    #[test]
    fn transports_and_what_framing_means_there() {
        let host = || HostPort { host: "host".to_owned(), port: 514 };
        let counted = [("syslog.framing", "octet-counted")];
        let delivery = |transport, options: &[(&str, &str)]| {
            built(transport, options).map(|built| built.delivery)
        };
        let udp = DatagramTarget::Udp(host());
        assert!(matches!(delivery("udp", &[]), Ok(Delivery::Datagram(to)) if to == udp));
        let tcp = delivery("tcp", &counted);
        assert!(matches!(tcp, Ok(Delivery::Stream(StreamTarget::Tcp(to))) if to == host()));
        let tls = delivery("tls", &counted);
        assert!(matches!(tls, Ok(Delivery::Stream(StreamTarget::Tls(to, _))) if to == host()));
        let unix = DatagramTarget::Unix("/dev/log".into());
        assert!(matches!(delivery("unix", &[]), Ok(Delivery::Datagram(to)) if to == unix));
        let stream = delivery("unix", &counted);
        assert!(matches!(stream, Ok(Delivery::Stream(StreamTarget::Unix(_)))));
        assert!(refusal("udp", &counted).contains("over udp in route 0; use tcp, tls or unix"));
    }

    #[test]
    fn the_setting_for_streams_leaves_datagrams_alone() {
        let mut settings = Settings::default();
        settings.syslog.framing = Framing::OctetCounted;
        for (transport, address) in [("udp", "host:514"), ("unix", "/dev/log")] {
            let spec = testing::route("syslog", Some(transport), address, &[]);
            let built = build(&spec, &settings).unwrap_or_else(|error| panic!("{error}"));
            assert!(record(&*built.sink, &container("h", "w"), b"x\n").starts_with(b"<14>1 "));
            assert!(matches!(built.delivery, Delivery::Datagram(_)));
        }
    }

    #[test]
    fn the_time_is_as_fine_as_is_asked_for() {
        let micros = TIME.replace('Z', ".000000Z");
        for (transport, option, time) in
            [("tcp", "", TIME), ("tcp", "micros", &*micros), ("udp", "seconds", TIME)]
        {
            for (name, text, tag, message) in [
                ("x", "", "web", "line"),
                ("syslog.data", "{{.Timestamp}}", "web", TIME),
                ("syslog.tag", "{{.Data}}", "line", "line"),
            ] {
                let options = [("syslog.precision", option), (name, text)];
                let built = built(transport, &options).unwrap_or_else(|error| panic!("{error}"));
                let record = record(&*built.sink, &container("host", "web"), b"line\n");
                let expected = format!("<14>1 {time} host {tag} 42 - - {message}\n");
                assert_eq!(String::from_utf8_lossy(&record), expected, "{option} {name}");
            }
        }
        // The user's own template is the user's.
        let options = [("syslog.precision", "micros"), ("syslog.timestamp", "{{.Time.Unix}}")];
        let built = built("tcp", &options).unwrap_or_else(|error| panic!("{error}"));
        let record = record(&*built.sink, &container("host", "web"), b"line\n");
        assert!(record.starts_with(b"<14>1 0 host web "), "{}", record.escape_ascii());
    }

    /// Structured data holds the tokens of some receivers.
    #[test]
    fn a_failing_template_of_structured_data_is_not_quoted() {
        let options = [("structured_data", "{{index .Container.Args \"token@41058\"}}")];
        let built = built("tcp", &options).unwrap_or_else(|error| panic!("{error}"));
        let prefix = built.sink.prefix(&container("host", "web"), Source::Stdout);
        let mut out = Outbox::new(Arc::new(Budget::new(1 << 20, 1)), usize::MAX);
        built.sink.encode(&prefix, &Stamp::new(UNIX_EPOCH), Blocks::whole(b"x\n"), &mut out);
        let complaint = out.take_complaint().unwrap_or_default();
        assert!(complaint.starts_with("template: structured_data:1:"), "{complaint}");
        assert!(complaint.contains("not shown") && !complaint.contains("token"), "{complaint}");
    }

    #[test]
    fn refusals_name_the_value_and_the_fix() {
        for (transport, options, error) in [
            ("pigeon", &[][..], "bad transport: \"pigeon\" in route 0; use one of udp, tcp, tls"),
            (
                "tcp",
                &[("syslog.format", "rfc1")],
                "bad syslog.format: \"rfc1\" in route 0; use rfc",
            ),
            (
                "tcp",
                &[("syslog.precision", "ms")],
                "syslog.precision: \"ms\" of route 0 is not a precision; write seconds or micros",
            ),
            (
                "tcp",
                &[("syslog.framing", "odd")],
                "bad syslog.framing: \"odd\" in route 0; use tra",
            ),
            (
                "tcp",
                &[("append_tag", "{{.Data")],
                "bad SYSLOG setting of route 0: template: tag:1: unclosed action",
            ),
            (
                "tcp",
                &[("structured_data", "{{token@41058}}")],
                "bad SYSLOG setting of route 0: template: structured_data:1: a mistake (not shown",
            ),
            (
                "tcp",
                &[("structured_data", "a\nb")],
                "bad structured_data: \"a\\nb\" in route 0; rem",
            ),
        ] {
            let refusal = refusal(transport, options);
            assert!(refusal.starts_with(error), "{refusal}");
        }
        let spec = testing::route("syslog", Some("unix"), "dev/log", &[]);
        let error = build(&spec, &Settings::default()).err().unwrap_or_default();
        assert!(error.contains("syslog+unix:///dev/log"), "{error}");
    }

    /// One record the obvious way: every step spelled out, for every line anew.
    fn naive(sink: &Syslog, container: &Container, source: Source, line: &[u8]) -> Vec<u8> {
        let clean = |text: &str, spaces: bool, max: usize| -> String {
            let replace = |c: char| c.is_control() || !spaces && c.is_whitespace();
            let text: String =
                text.chars().map(|c| if replace(c) { '_' } else { c }).take(max).collect();
            if text.is_empty() { "-".to_owned() } else { text }
        };
        let level = if source == Source::Stderr { 3 } else { 6 };
        let (tag, host) = (format!("{}{}", container.name, sink.append_tag), &container.hostname);
        let (pri, pid) = (8 + level, container.pid);
        let data = match &*sink.structured_data {
            "" => "-".to_owned(),
            elements => format!("[{elements}]"),
        };
        let head = match sink.format {
            SyslogFormat::Rfc5424 => {
                let (host, tag) = (clean(host, false, 255), clean(&tag, true, 48));
                format!("<{pri}>1 {TIME} {host} {tag} {pid} - {data} ")
            }
            SyslogFormat::Rfc3164 => {
                let (host, tag) = (clean(host, false, usize::MAX), clean(&tag, true, 32));
                format!("<{pri}>{TIME} {host} {tag}[{pid}]: ")
            }
        };
        let record = [head.as_bytes(), line, b"\n"].concat();
        let count = match sink.framing {
            Framing::Traditional => String::new(),
            Framing::OctetCounted => format!("{} ", record.len()),
        };
        [count.into_bytes(), record].concat()
    }

    fn line() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>().prop_filter("newline", |&byte| byte != b'\n'), 0..200)
    }

    /// Elements without their outer brackets: quotes hold anything, `"`, `\` and `]` escaped.
    const STRUCTURED_DATA: &str =
        r#"[a-z]{1,5}@[0-9]( [a-z]{1,3}="([^"\]\\\pC]|\\["\]\\])*"){0,3}"#;

    proptest! {
        #[test]
        fn as_the_naive_way(
            (hostname, name) in any::<(String, String)>(),
            append_tag in "\\PC{0,8}",
            (old, counted, stderr) in any::<(bool, bool, bool)>(),
            lines in prop::collection::vec(line(), 0..20),
        ) {
            let mut sink = syslog(
                if old { SyslogFormat::Rfc3164 } else { SyslogFormat::Rfc5424 },
                if counted { Framing::OctetCounted } else { Framing::Traditional },
            );
            sink.append_tag = append_tag;
            let container = container(&hostname, &name);
            let source = if stderr { Source::Stderr } else { Source::Stdout };
            let text: Vec<u8> = lines.iter().flat_map(|l| [l, &b"\n"[..]].concat()).collect();
            let records = testing::encode(&sink, &sink.prefix(&container, source), &text);
            let naive: Vec<_> = lines.iter().map(|l| naive(&sink, &container, source, l)).collect();
            prop_assert_eq!(records, naive);
        }

        #[test]
        fn what_is_written_can_be_read_back(
            hostname in any::<String>(),
            name in "\\PC{0,60}".prop_map(|name| name.replace(char::is_whitespace, "")),
            data in prop::option::of(STRUCTURED_DATA),
            line in "\\PC{0,100}",
        ) {
            let mut sink = syslog(SyslogFormat::Rfc5424, Framing::Traditional);
            let written = data.as_ref().map_or(NIL.to_owned(), |data| format!("[{data}]"));
            sink.structured_data = data.unwrap_or_default();
            let message = format!("{line}\n");
            let record = record(&sink, &container(&hostname, &name), message.as_bytes());
            let record = String::from_utf8(record).unwrap();
            let host: String = field::word(&hostname).chars().take(255).collect();
            let tag: String = name.chars().take(48).collect();
            prop_assert_eq!(parse(&record), Some([
                "14", TIME, or_nil(&host), or_nil(&tag), "42", "-", &written, &message,
            ]));
        }
    }
}
