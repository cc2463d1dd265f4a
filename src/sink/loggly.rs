//! `loggly`: lines as JSON events, for Loggly's bulk endpoint; over syslog: see
//! [`super::loggly_syslog`].
//!
//! Pure but for the PEM files that TLS needs. Source: Loggly's documentation of HTTP/S bulk
//! endpoints: events on a line each, 5 MB a request, 1 MB an event.

use super::batch::{self, Before, Form, Objects};
use super::options::Options;
use super::{Built, SinkSpec, loggly_syslog, target};
use crate::config::Settings;
use crate::route::RouteSpec;

/// `loggly+https://[HOST]`, with `LOGGLY_TOKEN` and `LOGGLY_TAGS`; `loggly+tls://`, `loggly+tcp://`
/// and `loggly+udp://` are syslog, with the same. Options named as the variables
/// (`loggly.tags`) win over these.
pub const SPEC: SinkSpec = SinkSpec { scheme: "loggly", build };

const HOST: &str = "logs-01.loggly.com";
const FIX: &str = "write loggly+https:// (or over syslog loggly+tls://) and set LOGGLY_TOKEN";
/// Loggly counts a key with this name as the time of an event.
const TIME: &str = "timestamp";

fn build(spec: &RouteSpec, settings: &Settings) -> Result<Built, String> {
    let scheme = match spec.transport.as_deref() {
        None | Some("https") => "https",
        Some("http") => "http",
        Some("tls" | "tcp" | "udp") => return loggly_syslog::build(spec, settings),
        Some(other) => return Err(target::bad_transport(spec, other, FIX)),
    };
    let options = batch::options(spec, &settings.batch);
    let host = if spec.address.is_empty() { HOST } else { &spec.address };
    let url = match spec.address.contains('/') || options.own("loggly.url").is_some() {
        true => options.url("loggly.url", scheme, FIX)?,
        false => format!("{scheme}://{host}{}", path(&options)?),
    };
    let form = Form::lines("text/plain", "LOGGLY_TOKEN");
    let delivery = batch::delivery(&options, "loggly.url", &url, form, settings)?;
    let sink = Objects::new(&options, settings, TIME, batch::members, Before::Nothing);
    Ok(Built::new(sink, delivery))
}

/// `/bulk/TOKEN/tag/TAGS/`.
fn path(options: &Options<'_>) -> Result<String, String> {
    Ok(format!("/bulk/{}/tag/{}/", token(options)?, tags(options)?.join(",")))
}

/// The customer token.
pub(super) fn token<'a>(options: &Options<'a>) -> Result<&'a str, String> {
    let Some(token) = options.get("loggly.token").map(str::trim) else {
        let fix = "is not set; give the customer token of your account";
        return Err(options.bad("loggly.token", fix));
    };
    if token.is_empty() || !token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        let fix = "is no token: it has letters, digits and - alone";
        return Err(options.bad("loggly.token", fix));
    }
    Ok(token)
}

/// The tags of all events.
pub(super) fn tags<'a>(options: &Options<'a>) -> Result<Vec<&'a str>, String> {
    let tags = options.get("loggly.tags").unwrap_or("logchute");
    let good = |tag: &str| {
        let known = |b: u8| b.is_ascii_alphanumeric() || b"-_.*".contains(&b);
        tag.len() <= 64
            && tag.starts_with(|c: char| c.is_ascii_alphanumeric())
            && tag.bytes().all(known)
    };
    let tags: Vec<&str> = tags.split(',').map(str::trim).collect();
    if !tags.iter().all(|tag| good(tag)) {
        let fix = "is no list of tags: letters, digits, - _ and . with commas in between";
        return Err(options.bad("loggly.tags", fix));
    }
    Ok(tags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::Source;
    use crate::sink::batch::testing::{settings, target, values};
    use crate::sink::testing;

    fn built(address: &str, options: &[(&str, &str)]) -> Result<Built, String> {
        build(&testing::route("loggly", Some("http"), address, options), &settings(&[]))
    }

    #[test]
    fn events_are_objects() {
        let token = [("loggly.token", "ab-12")];
        let built = built("", &token).unwrap();
        assert_eq!(target(&built).endpoint.to_string(), "logs-01.loggly.com:80");
        let got = values(&built, Source::Stdout, b"a\n");
        assert_eq!(got[0]["timestamp"], "1970-01-01T00:00:00.000000Z");
        assert_eq!(got[0]["message"], "a");
    }

    #[test]
    fn the_path_has_token_and_tags() {
        let of = |options: &[(&str, &str)]| {
            let spec = testing::route("loggly", None, "", options);
            path(&batch::options(&spec, &settings(&[]).batch))
        };
        assert_eq!(of(&[("loggly.token", "ab-12")]).as_deref(), Ok("/bulk/ab-12/tag/logchute/"));
        let tags = [("loggly.token", "ab-12"), ("loggly.tags", "web, blue")];
        assert_eq!(of(&tags).as_deref(), Ok("/bulk/ab-12/tag/web,blue/"));
        for (options, why) in [
            (&[][..], "LOGGLY_TOKEN of route 0: is not set"),
            (&[("loggly.token", "sEcReT/x")], "loggly.token of route 0: is no token"),
            (&[("loggly.token", "a"), ("loggly.tags", "a/b")], "loggly.tags of route 0: "),
            (&[("loggly.token", "a"), ("loggly.tags", "a,,b")], "loggly.tags of route 0: "),
        ] {
            let error = of(options).unwrap_err();
            assert!(error.starts_with(why) && !error.contains("sEcReT"), "{error}");
        }
        let whole = built("h", &[("loggly.url", "/bulk/x/tag/y/")]).unwrap();
        assert_eq!(target(&whole).endpoint.to_string(), "h:80");
    }
}
