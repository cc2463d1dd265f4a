//! `papertrail`: records of `syslog`, within the limits of SolarWinds Papertrail.
//!
//! Pure.

use super::syslog::{self, Limits};
use super::{Built, SinkSpec, target};
use crate::config::Settings;
use crate::route::RouteSpec;
use crate::transport::Delivery;

/// `papertrail://HOST:PORT`, as the account's log destination says: over `tls` (the default),
/// `tcp` or `udp`. Options are those of `syslog`, but for the framing: records end with a newline.
pub const SPEC: SinkSpec = SinkSpec { scheme: "papertrail", build };

/// Papertrail's own limits: of a message over TCP and UDP, in bytes, and of a host's name. Longer
/// ones it would cut itself, or not take.
const TCP_MAX: usize = 100_000;
const UDP_MAX: usize = 1_024;
const HOSTNAME_MAX: usize = 120;

fn build(spec: &RouteSpec, settings: &Settings) -> Result<Built, String> {
    let transport = spec.transport.as_deref().unwrap_or("tls");
    let record_max = match transport {
        "tls" | "tcp" => TCP_MAX,
        "udp" => UDP_MAX,
        other => return Err(target::bad_transport(spec, other, "use one of tls, tcp, udp")),
    };
    let spec = RouteSpec { transport: Some(transport.to_owned()), ..spec.clone() };
    let spec = syslog::preset(&spec, &[("syslog.format", "rfc5424")])?;
    let delivery: Delivery = target::delivery(&spec, settings)?;
    syslog::limited(delivery, &spec, settings, Limits { hostname_max: HOSTNAME_MAX, record_max })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::{Budget, Outbox};
    use crate::config::SyslogFormat;
    use crate::docker::Source;
    use crate::docker::inspect::Container;
    use crate::lines::blocks::Blocks;
    use crate::sink::testing::{self, TIME};
    use crate::stamp::Stamp;
    use crate::transport::{DatagramTarget, StreamTarget};
    use std::sync::Arc;
    use std::time::UNIX_EPOCH;

    fn built(transport: Option<&str>, options: &[(&str, &str)]) -> Result<Built, String> {
        let authority = testing::authority();
        let mut settings =
            Settings { tls: testing::trusting(authority.path()), ..Settings::default() };
        // What holds for other routes does not for these.
        settings.syslog.format = SyslogFormat::Rfc3164;
        settings.syslog.framing = crate::config::Framing::OctetCounted;
        build(&testing::route("papertrail", transport, "logs7.example:1234", options), &settings)
    }

    #[test]
    fn records_have_the_limits_of_their_transport() {
        for (transport, most) in [("tcp", 100_000), ("udp", 1_024)] {
            let built = built(Some(transport), &[]).unwrap_or_else(|error| panic!("{error}"));
            let record_max = built.sink.record_max().min(built.delivery.record_max());
            let hostname = "h".repeat(200);
            let container = Container { hostname, name: "web".into(), ..Container::default() };
            let prefix = built.sink.prefix(&container, Source::Stderr);
            let mut out = Outbox::new(Arc::new(Budget::new(4 << 20, 1)), record_max);
            let lines = format!("short\n{}\n", "\u{e9}".repeat(60_000));
            let stamp = Stamp::new(UNIX_EPOCH);
            built.sink.encode(&prefix, &stamp, Blocks::whole(lines.as_bytes()), &mut out);
            let (records, losses) = testing::drain(&mut out);
            let head = format!("<11>1 {TIME} {} web 0 - - ", "h".repeat(120));
            assert_eq!(records[0], format!("{head}short\n").into_bytes());
            let long = std::str::from_utf8(&records[1]).unwrap();
            assert!(long.len() > most - 2 && long.len() <= most && long.ends_with("\u{e9}\n"));
            assert_eq!(losses.cut_records, 1);
        }
    }

    #[test]
    fn tls_is_the_usual_way() {
        let delivery = |transport| built(transport, &[]).map(|built| built.delivery);
        assert!(matches!(delivery(None), Ok(Delivery::Stream(StreamTarget::Tls(..)))));
        assert!(matches!(delivery(Some("tcp")), Ok(Delivery::Stream(StreamTarget::Tcp(_)))));
        assert!(matches!(delivery(Some("udp")), Ok(Delivery::Datagram(DatagramTarget::Udp(_)))));
        let refused = delivery(Some("unix")).err().unwrap_or_default();
        assert!(refused.contains("use one of tls, tcp, udp"), "{refused}");
        let counted = built(Some("tcp"), &[("syslog.framing", "octet-counted")]);
        let refused = counted.err().unwrap_or_default();
        assert!(
            refused.contains("syslog.framing") && refused.contains("leave it out"),
            "{refused}"
        );
    }
}
