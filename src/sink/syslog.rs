//! `syslog`: RFC 5424 and RFC 3164 records, byte for byte as Logspout writes them by default.
//!
//! Pure. The priority, the names and the structured data are rendered once a container; per
//! line only the time and the line vary. RFC 3164 records carry an RFC 3339 time, as Logspout's
//! do, and every record ends with a newline, in a datagram and behind an octet count too.
//!
//! Where Logspout's head could not be parsed, ours differs: an empty host name or tag is `-`
//! (RFC 5424, section 6), a control character in one is `_`, and so is white space in a host name.
//! A space in a tag stays, as recorded from Logspout: it can only come from the route's options.

use std::sync::Arc;

use super::{Built, Prefix, Sink, SinkSpec, field, records, target};
use crate::buffer::Outbox;
use crate::config::{Framing, Settings, SyslogFormat};
use crate::docker::Source;
use crate::docker::inspect::Container;
use crate::route::RouteSpec;
use crate::stamp::Stamp;
use crate::transport::{DatagramTarget, Delivery, StreamTarget};

/// `syslog://`: over `udp` (the default), `tcp`, `tls` or `unix`. Options, which win over the
/// settings: `syslog.format`, `syslog.framing`, `syslog.structured_data` (or Logspout's
/// `structured_data`) and `append_tag`; an empty one counts as not given.
pub const SPEC: SinkSpec = SinkSpec { scheme: "syslog", build };

/// RFC 5424, section 6: the longest HOSTNAME and APP-NAME. Counted in characters, as by Logspout.
const HOSTNAME_MAX: usize = 255;
const APP_NAME_MAX: usize = 48;
/// RFC 3164, section 4.1.3: the longest TAG. Logspout shortens nothing else of that format.
const TAG_MAX: usize = 32;
/// RFC 5424, section 6: a field without a value.
const NIL: &str = "-";

struct Syslog {
    format: SyslogFormat,
    framing: Framing,
    /// STRUCTURED-DATA as it is written: `-`, or elements in brackets.
    structured_data: String,
    append_tag: String,
    /// The HOSTNAME of every container, where the host's own is known.
    host_hostname: Option<String>,
}

impl Sink for Syslog {
    fn prefix(&self, container: &Container, source: Source) -> Prefix {
        // Facility user (1), severity informational (6) or error (3): RFC 5424, section 6.2.1.
        let priority = match source {
            Source::Stdout => 14,
            Source::Stderr => 11,
        };
        let host = field::word(self.host_hostname.as_deref().unwrap_or(&container.hostname));
        let tag = format!("{}{}", container.name, self.append_tag);
        let tag = field::printable(&tag);
        let pid = container.pid;
        let (before, after) = match self.format {
            SyslogFormat::Rfc5424 => {
                let host = or_nil(field::cut(&host, HOSTNAME_MAX));
                let tag = or_nil(field::cut(&tag, APP_NAME_MAX));
                let data = &self.structured_data;
                (format!("<{priority}>1 "), format!(" {host} {tag} {pid} - {data} "))
            }
            SyslogFormat::Rfc3164 => {
                let tag = or_nil(field::cut(&tag, TAG_MAX));
                let host = or_nil(&host);
                (format!("<{priority}>"), format!(" {host} {tag}[{pid}]: "))
            }
        };
        Prefix { before_time: before.into_bytes().into(), after_time: after.into_bytes().into() }
    }

    fn encode(&self, prefix: &Prefix, stamp: &Stamp, lines: &[u8], out: &mut Outbox) {
        let head: [&[u8]; 3] = [&prefix.before_time, stamp.rfc3339(), &prefix.after_time];
        match self.framing {
            Framing::Traditional => records::plain(head, lines, out),
            Framing::OctetCounted => records::octet_counted(head, lines, out),
        }
    }
}

fn or_nil(field: &str) -> &str {
    if field.is_empty() { NIL } else { field }
}

fn build(spec: &RouteSpec, settings: &Settings) -> Result<Built, String> {
    let defaults = &settings.syslog;
    let delivery = target::delivery(spec, settings)?;
    let (framing, delivery) = framing(spec, defaults.framing, delivery)?;
    let structured_data = given(spec, "syslog.structured_data")
        .or_else(|| given(spec, "structured_data"))
        .unwrap_or(&defaults.structured_data);
    let append_tag = given(spec, "append_tag").unwrap_or_default();
    let host_hostname = defaults.host_hostname.as_deref().filter(|name| !name.is_empty());
    for (name, text) in [
        ("structured_data", structured_data),
        ("append_tag", append_tag),
        ("/etc/host_hostname", host_hostname.unwrap_or_default()),
    ] {
        check_text(spec, name, text)?;
    }
    let sink = Syslog {
        format: format_of(spec, defaults.format)?,
        framing,
        structured_data: match structured_data {
            "" => NIL.to_owned(),
            elements => format!("[{elements}]"),
        },
        append_tag: append_tag.to_owned(),
        host_hostname: host_hostname.map(str::to_owned),
    };
    Ok(Built { sink: Arc::new(sink), delivery })
}

/// The value of an option, an empty one counting as not given, as in Logspout.
fn given<'a>(spec: &'a RouteSpec, name: &str) -> Option<&'a str> {
    spec.option(name).filter(|value| !value.is_empty())
}

fn format_of(spec: &RouteSpec, default: SyslogFormat) -> Result<SyslogFormat, String> {
    match given(spec, "syslog.format") {
        None => Ok(default),
        Some("rfc5424") => Ok(SyslogFormat::Rfc5424),
        Some("rfc3164") => Ok(SyslogFormat::Rfc3164),
        Some(other) => Err(format!(
            "bad syslog.format: {other:?} in route {}; use rfc5424 or rfc3164",
            spec.id
        )),
    }
}

/// Octet counting is for streams only: the setting has no effect on datagrams, as in Logspout,
/// while a route that asks for it over `udp` is refused. A socket in the file system is used as a
/// stream where the route itself asks for octet counting; else it may turn out to be either, and
/// the newline alone, which both can do with, ends a record.
fn framing(
    spec: &RouteSpec,
    default: Framing,
    delivery: Delivery,
) -> Result<(Framing, Delivery), String> {
    let asked = match given(spec, "syslog.framing") {
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
        (Delivery::Datagram(DatagramTarget::Unix(path)), Some(Framing::OctetCounted)) => {
            Ok((Framing::OctetCounted, Delivery::Stream(StreamTarget::Unix(path))))
        }
        (Delivery::Stream(target), asked) => {
            Ok((asked.unwrap_or(default), Delivery::Stream(target)))
        }
        (other, _) => Ok((Framing::Traditional, other)),
    }
}

/// Refuses text that would not come out as its writer meant it: a template, which Logspout would
/// fill in, or a control character, which would end the record or be replaced.
fn check_text(spec: &RouteSpec, name: &str, text: &str) -> Result<(), String> {
    let fix = if text.contains("{{") {
        "templates are not supported, write plain text"
    } else if text.contains(char::is_control) {
        "remove the control character (a newline or the like)"
    } else {
        return Ok(());
    };
    Err(format!("bad {name}: {text:?} in route {}; {fix}", spec.id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::testing::{self, TIME};
    use crate::transport::HostPort;
    use proptest::prelude::*;

    fn container(hostname: &str, name: &str) -> Container {
        let (hostname, name) = (hostname.to_owned(), name.to_owned());
        Container { hostname, name, pid: 42, ..Container::default() }
    }

    fn syslog(format: SyslogFormat, framing: Framing) -> Syslog {
        Syslog {
            format,
            framing,
            structured_data: NIL.to_owned(),
            append_tag: String::new(),
            host_hostname: None,
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
                &[("syslog.framing", "odd")],
                "bad syslog.framing: \"odd\" in route 0; use tra",
            ),
            (
                "tcp",
                &[("append_tag", "{{.Data}}")],
                "bad append_tag: \"{{.Data}}\" in route 0; temp",
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
        let (pri, pid, data) = (8 + level, container.pid, &sink.structured_data);
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
            sink.structured_data = data.map_or(NIL.to_owned(), |data| format!("[{data}]"));
            let message = format!("{line}\n");
            let record = record(&sink, &container(&hostname, &name), message.as_bytes());
            let record = String::from_utf8(record).unwrap();
            let host: String = field::word(&hostname).chars().take(255).collect();
            let tag: String = name.chars().take(48).collect();
            prop_assert_eq!(parse(&record), Some([
                "14", TIME, or_nil(&host), or_nil(&tag), "42", "-", &sink.structured_data, &message,
            ]));
        }
    }
}
