//! `sumo`: lines for an HTTP source of Sumo Logic, as JSON objects or as they are.
//!
//! Pure but for the PEM files that TLS needs. Category, name and host are headers of a request
//! there, so they hold for a route: what tells containers apart is in the objects. Source: Sumo
//! Logic's documentation of HTTP Logs and Metrics Sources.

use super::batch::{self, Before, Form, Objects};
use super::raw::Raw;
use super::{Built, SinkSpec, target};
use crate::config::Settings;
use crate::route::RouteSpec;

/// `sumo+https://HOST/receiver/v1/http/CODE`; `sumo://` alone leads to `SUMO_URL`. Options named as
/// the variables (`sumo.category`) win over these.
pub const SPEC: SinkSpec = SinkSpec { scheme: "sumo", build };

const FIX: &str = "write sumo+https://HOST/receiver/v1/http/CODE, or set SUMO_URL=https://...";

fn build(spec: &RouteSpec, settings: &Settings) -> Result<Built, String> {
    let scheme = match spec.transport.as_deref() {
        None | Some("https") => "https",
        Some("http") => "http",
        Some(other) => return Err(target::bad_transport(spec, other, FIX)),
    };
    let options = batch::options(spec, &settings.batch);
    let url = options.url("sumo.url", scheme, FIX)?;
    let json = options.read("sumo.format", true, |text| match text {
        "json" => Ok(true),
        "text" => Ok(false),
        _ => Err("is no format; write json or text".to_owned()),
    })?;
    let content_type = if json { "application/json" } else { "text/plain" };
    let mut form = Form::lines(content_type, "SUMO_URL");
    for (option, name) in [
        ("sumo.category", "x-sumo-category"),
        ("sumo.name", "x-sumo-name"),
        ("sumo.host", "x-sumo-host"),
    ] {
        batch::header(&options, option, name, &mut form.headers)?;
    }
    let delivery = batch::delivery(&options, "sumo.url", &url, form, settings)?;
    Ok(match json {
        true => {
            let sink =
                Objects::new(&options, settings, "timestamp", batch::members, Before::Nothing);
            Built::new(sink, delivery)
        }
        false => Built::new(Raw, delivery),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::docker::Source;
    use crate::sink::batch::testing::{container, settings, target, values};
    use crate::sink::testing;

    fn built(options: &[(&str, &str)]) -> Result<Built, String> {
        build(&testing::route("sumo", Some("http"), "collectors", options), &settings(&[]))
    }

    #[test]
    fn lines_are_objects_or_text() {
        let got = values(&built(&[]).unwrap(), Source::Stdout, b"a\n");
        assert_eq!(
            (&got[0]["message"], &got[0]["container"]["name"]),
            (&json!("a"), &json!("web"))
        );
        assert_eq!(got[0]["timestamp"], "1970-01-01T00:00:00.000000Z");
        let text = built(&[("sumo.format", "text")]).unwrap();
        let prefix = text.sink.prefix(&container(), Source::Stdout);
        assert_eq!(testing::encode(&*text.sink, &prefix, b"a\nb\n").concat(), b"a\nb\n");
        assert_eq!(target(&text).endpoint.to_string(), "collectors:80");
    }

    #[test]
    fn mistakes_are_said_without_what_is_secret() {
        for (options, why) in [
            (&[("sumo.format", "xml")], "sumo.format of route 0: \"xml\" is no format"),
            (&[("sumo.category", "a\nb")], "sumo.category of route 0: has a character"),
            (&[("sumo.url", "'https://sEcReT'")], "sumo.url of route 0: is in quotes"),
        ] {
            let error = built(options).err().unwrap();
            assert!(error.contains(why) && !error.contains("sEcReT"), "{error}");
        }
    }
}
