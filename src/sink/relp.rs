//! `relp`: the records of `syslog`, over rsyslog's protocol with acknowledgements.
//!
//! Pure. The newline that ends a record is not a part of it there: it ends its frame.

use super::{Built, SinkSpec, syslog, target};
use crate::config::Settings;
use crate::route::RouteSpec;
use crate::transport::Delivery;

/// `relp://` over TCP, `relp+tls://` over TLS. Options and settings are those of `syslog`, but for
/// the framing.
pub const SPEC: SinkSpec = SinkSpec { scheme: "relp", build };

/// The port of rsyslog's examples: none is assigned to RELP.
const PORT: u16 = 2514;

fn build(spec: &RouteSpec, settings: &Settings) -> Result<Built, String> {
    let target = target::stream(spec, settings, PORT)?;
    syslog::over(Delivery::Relp(target), spec, settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::Source;
    use crate::docker::inspect::Container;
    use crate::sink::testing::{self, TIME};
    use crate::transport::{HostPort, StreamTarget};

    fn built(
        transport: Option<&str>,
        address: &str,
        options: &[(&str, &str)],
    ) -> Result<Built, String> {
        build(&testing::route("relp", transport, address, options), &Settings::default())
    }

    #[test]
    fn it_leads_where_the_route_says_at_the_usual_port() {
        for (address, host, port) in [
            ("logs", "logs", 2514),
            ("logs:20514", "logs", 20514),
            ("[::1]", "::1", 2514),
            ("[::1]:99", "::1", 99),
        ] {
            let Ok(Delivery::Relp(StreamTarget::Tcp(to))) =
                built(None, address, &[]).map(|built| built.delivery)
            else {
                panic!("{address}");
            };
            assert_eq!(to, HostPort { host: host.to_owned(), port });
        }
    }

    #[test]
    fn what_it_does_not_have_is_refused() {
        let refusal = |transport, address, options: &[(&str, &str)]| {
            built(transport, address, options).err().unwrap_or_default()
        };
        assert_eq!(
            refusal(Some("udp"), "logs:2514", &[]),
            "bad transport: \"udp\" in route 0; use relp:// or relp+tls://"
        );
        assert!(
            refusal(None, "", &[]).contains("the port is missing"),
            "{}",
            refusal(None, "", &[])
        );
        let refused = refusal(None, "logs", &[("syslog.framing", "octet-counted")]);
        assert!(refused.contains("over RELP, which has its own"), "{refused}");
    }

    #[test]
    fn records_are_those_of_syslog_whatever_their_framing_is() {
        let mut settings = Settings::default();
        settings.syslog.framing = crate::config::Framing::OctetCounted;
        let spec = testing::route("relp", None, "logs", &[("append_tag", "x")]);
        let sink = build(&spec, &settings).unwrap_or_else(|error| panic!("{error}")).sink;
        let container =
            Container { name: "web".into(), hostname: "h".into(), ..Container::default() };
        let prefix = sink.prefix(&container, Source::Stderr);
        let time = TIME.replace('Z', ".000000Z");
        let expected = format!("<11>1 {time} h webx 0 - - a\n");
        assert_eq!(testing::encode(&*sink, &prefix, b"a\n").concat(), expected.as_bytes());
    }
}
