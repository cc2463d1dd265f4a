//! `syslog`: RFC 5424 and RFC 3164 records, byte for byte as Logspout writes them by default.
//!
//! Pure. The priority, the names and the structured data are rendered once a container; per
//! line only the time and the line vary. RFC 3164 records carry an RFC 3339 time, as Logspout's
//! do, and every record ends with a newline, in a datagram and behind an octet count too.
//!
//! Where Logspout's head could not be parsed, ours differs: an empty host name or tag is `-`
//! (RFC 5424, section 6), a control character in one is `_`, and so is white space in a host name.
//! A space in a tag stays, as recorded from Logspout: it can only come from the route's own options.

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
