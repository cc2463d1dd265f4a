//! `loggly` over syslog: records of `syslog` with the customer token where Loggly looks for it.
//!
//! Pure.

use super::options::Options;
use super::syslog::{self, Limits};
use super::{Built, loggly, target};
use crate::config::Settings;
use crate::route::RouteSpec;

const HOST: &str = "logs-01.loggly.com";
const PORT: u16 = 514;
const TLS_PORT: u16 = 6514;
/// Loggly's number as an enterprise (IANA): RFC 5424, section 6.3.2.
const ENTERPRISE: &str = "41058";
/// The largest event that Loggly takes, in bytes.
const EVENT_MAX: usize = 1_000_000;

/// Builds a route over syslog, `loggly+tls://`, `loggly+tcp://` or `loggly+udp://`; without a host
/// to logs-01.loggly.com. Options are those of `syslog`, but for its format, framing and structured
/// data, and `loggly.token` and `loggly.tags`, which win over the settings.
///
/// # Errors
/// One line that names the setting and the fix, without the token.
pub(super) fn build(spec: &RouteSpec, settings: &Settings) -> Result<Built, String> {
    let port = match spec.transport.as_deref() {
        None | Some("tls") => TLS_PORT,
        Some("tcp" | "udp") => PORT,
        Some(other) => {
            let fix = "use loggly+tls://, loggly+tcp:// or loggly+udp://";
            return Err(target::bad_transport(spec, other, fix));
        }
    };
    if spec.given("syslog.format").is_some_and(|format| format != "rfc5424") {
        return Err(format!(
            "bad syslog.format in route {}: Loggly finds the token in records of RFC 5424 alone; \
             leave it out",
            spec.id
        ));
    }
    let structured_data = element(&Options { spec, given: &settings.batch.given })?;
    let transport = spec.transport.clone().unwrap_or_else(|| "tls".to_owned());
    let given = if spec.address.is_empty() { HOST } else { &spec.address };
    let mut spec = RouteSpec {
        transport: Some(transport),
        address: given.to_owned(),
        ..syslog::preset(spec, &[("syslog.format", "rfc5424")])?
    };
    let address = target::host_or_port(&spec, port)?;
    let bracketed = address.host.contains(':');
    let (open, close) = if bracketed { ("[", "]") } else { ("", "") };
    spec.address = format!("{open}{}{close}:{}", address.host, address.port);
    spec.options.retain(|(name, _)| !name.ends_with("structured_data"));
    spec.options.push(("syslog.structured_data".to_owned(), structured_data));
    let delivery = target::delivery(&spec, settings)?;
    let limits = Limits { record_max: EVENT_MAX, ..Limits::default() };
    syslog::limited(delivery, &spec, settings, limits)
}

/// The element that tells Loggly whose the record is, without its brackets. Neither part has a
/// character that would have to be escaped (RFC 5424, section 6.3.3).
fn element(options: &Options<'_>) -> Result<String, String> {
    let tags = loggly::tags(options)?.into_iter().map(|tag| format!(" tag=\"{tag}\""));
    Ok(format!("{}@{ENTERPRISE}{}", loggly::token(options)?, tags.collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::Source;
    use crate::docker::inspect::Container;
    use crate::sink::testing::{self, TIME};
    use crate::transport::{Delivery, HostPort, StreamTarget};

    const TOKEN: &str = "0a1b2c3d-sEcReT";

    fn built(transport: &str, address: &str, options: &[(&str, &str)]) -> Result<Built, String> {
        let authority = testing::authority();
        let tls = testing::trusting(authority.path());
        let mut settings = Settings { tls, ..Settings::default() };
        settings.syslog.structured_data = "other@1".to_owned();
        settings.batch.given.insert("loggly.token", TOKEN.to_owned());
        build(&testing::route("loggly", Some(transport), address, options), &settings)
    }

    #[test]
    fn records_begin_with_the_token_and_the_tags() {
        let record = |options: &[(&str, &str)]| {
            let built = built("tcp", "", options).unwrap_or_else(|error| panic!("{error}"));
            let container = Container { name: "web".into(), ..Container::default() };
            let prefix = built.sink.prefix(&container, Source::Stdout);
            String::from_utf8(testing::encode(&*built.sink, &prefix, b"x\n").concat()).unwrap()
        };
        let expected = |data: &str| format!("<14>1 {TIME} - web 0 - [{data}] x\n");
        assert_eq!(record(&[]), expected(&format!("{TOKEN}@41058 tag=\"logchute\"")));
        let options = [("loggly.token", "own"), ("loggly.tags", "a, b.c")];
        assert_eq!(record(&options), expected("own@41058 tag=\"a\" tag=\"b.c\""));
    }

    #[test]
    fn it_leads_to_loggly_unless_told_otherwise() {
        for (transport, address, host, port) in [
            ("tcp", "", HOST, 514),
            ("tcp", "relay", "relay", 514),
            ("tcp", "[::1]:99", "::1", 99),
            ("tls", "", HOST, 6514),
        ] {
            let delivery = built(transport, address, &[]).map(|built| built.delivery);
            let (Ok(Delivery::Stream(StreamTarget::Tcp(to)))
            | Ok(Delivery::Stream(StreamTarget::Tls(to, _)))) = delivery
            else {
                panic!("{transport} {address}");
            };
            assert_eq!(to, HostPort { host: host.to_owned(), port });
        }
    }

    #[test]
    fn refusals_show_no_token() {
        for (transport, options, error) in [
            (
                "tcp",
                &[("loggly.token", "sEcReT@41058")][..],
                "loggly.token of route 0: is no token",
            ),
            ("tcp", &[("loggly.tags", "a\nb")], "loggly.tags of route 0: is no list of tags"),
            ("tcp", &[("syslog.format", "rfc3164")], "leave it out"),
            ("tcp", &[("syslog.framing", "octet-counted")], "leave it out"),
            ("unix", &[], "use loggly+tls://"),
        ] {
            let refusal = built(transport, "", options).err().unwrap_or_default();
            assert!(refusal.contains(error) && !refusal.contains("sEcReT"), "{refusal}");
        }
        let spec = testing::route("loggly", Some("tls"), "", &[]);
        let refusal = build(&spec, &Settings::default()).err().unwrap_or_default();
        assert!(refusal.contains("LOGGLY_TOKEN of route 0: is not set"), "{refusal}");
    }
}
