//! `http+json`, `https+json`: lines as JSON objects for any receiver that takes them over HTTP.
//!
//! Pure but for the PEM files that TLS needs. How they travel is in [`crate::transport::batch`].

use hyper::header::HeaderValue;

use super::batch::{self, Before, Form, Objects};
use super::{Built, SinkSpec, target};
use crate::config::Settings;
use crate::route::RouteSpec;
use crate::transport::batch::Framing;
use crate::transport::http;

/// `http+json://HOST[:PORT][/PATH]`. Options named as the variables (`json.framing`) win over
/// these.
pub const HTTP: SinkSpec = SinkSpec { scheme: "http", build };
/// The same over TLS.
pub const HTTPS: SinkSpec = SinkSpec { scheme: "https", build };

const FIX: &str = "write http+json://HOST/PATH or https+json://HOST/PATH";

fn build(spec: &RouteSpec, settings: &Settings) -> Result<Built, String> {
    if spec.transport.as_deref() != Some("json") {
        let given = spec.transport.as_deref().unwrap_or_default();
        return Err(target::bad_transport(spec, given, FIX));
    }
    let options = batch::options(spec, &settings.batch);
    let url = options.url("json.url", spec.sink(), FIX)?;
    let framing = options.read("json.framing", Framing::Lines, |text| match text {
        "ndjson" => Ok(Framing::Lines),
        "array" => Ok(Framing::Array),
        _ => Err("is no framing; write ndjson or array".to_owned()),
    })?;
    let content_type = HeaderValue::from_static(match framing {
        Framing::Lines => "application/x-ndjson",
        Framing::Array => "application/json",
    });
    let usual = Form::lines("application/x-ndjson", "JSON_URL");
    let form = Form {
        method: options.read("json.method", usual.method.clone(), http::method)?,
        content_type: options.read("json.content_type", content_type, http::header_value)?,
        headers: options.read("json.headers", usual.headers.clone(), http::headers)?,
        framing,
        ..usual
    };
    let delivery = batch::delivery(&options, "json.url", &url, form, settings)?;
    let sink = Objects::new(&options, settings, "time", batch::members, Before::Nothing);
    Ok(Built::new(sink, delivery))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::docker::Source;
    use crate::sink::batch::testing::{container, settings, target, values};
    use crate::sink::testing::{self, TIME};

    fn built(address: &str, options: &[(&str, &str)]) -> Result<Built, String> {
        build(&testing::route("http", Some("json"), address, options), &settings(&[]))
    }

    #[test]
    fn a_line_is_an_object() {
        let time = TIME.replace('Z', ".000000Z");
        let got = values(&built("h", &[]).unwrap(), Source::Stderr, b"a \"b\"\n\n");
        let object = |message: &str| {
            json!({
                "container": {"id": "3eda", "name": "web", "image": "nginx", "hostname": "inside"},
                "source": "stderr", "time": time, "message": message,
            })
        };
        assert_eq!(got, [object("a \"b\""), object("")]);
        let stats = values(&built("h", &[]).unwrap(), Source::Stats, b"{\"cpu\":1}\n");
        assert_eq!(
            (&stats[0]["stats"], &stats[0]["source"]),
            (&json!({"cpu": 1}), &json!("stats"))
        );
        let event = values(&built("h", &[]).unwrap(), Source::Events, b"{\"a\":1}\n");
        assert_eq!((&event[0]["event"], event[0].get("message")), (&json!({"a": 1}), None));
    }

    #[test]
    fn labels_and_the_host_are_told_on_request() {
        let labels = |options: &[(&str, &str)]| {
            values(&built("h", options).unwrap(), Source::Stdout, b"a\n")[0]["container"]["labels"]
                .clone()
        };
        assert_eq!(labels(&[]), json!(null));
        assert_eq!(labels(&[("batch.labels", "team, other")]), json!({"team": "blue"}));
        assert_eq!(labels(&[("batch.labels", "*")]), json!({"team": "blue", "tier": "1"}));
        let mut settings = settings(&[]);
        settings.syslog.host_hostname = Some("machine".to_owned());
        let built = build(&testing::route("http", Some("json"), "h", &[]), &settings).unwrap();
        assert_eq!(values(&built, Source::Stdout, b"a\n")[0]["host"], "machine");
        assert_eq!(container().name, "web");
    }

    #[test]
    fn it_leads_where_the_route_says_and_as_it_says() {
        let plain = built("logs:8080", &[]).unwrap();
        assert_eq!(target(&plain).endpoint.to_string(), "logs:8080");
        assert!(target(&plain).gzip && target(&plain).framing == Framing::Lines);
        let other = built("logs", &[("json.framing", "array"), ("batch.gzip", "off")]).unwrap();
        assert_eq!(target(&other).endpoint.to_string(), "logs:80");
        assert!(!target(&other).gzip && target(&other).framing == Framing::Array);
    }

    #[test]
    fn mistakes_are_said_without_what_is_secret() {
        for (address, options, why) in [
            ("", &[][..], "JSON_URL of route 0: is not whole"),
            ("h", &[("json.url", "ftp://sEcReT")], "is neither an https nor an http URL"),
            ("h", &[("json.framing", "xml")], "json.framing of route 0: \"xml\" is no framing"),
            ("h", &[("json.method", "GET")], "json.method of route 0: \"GET\" "),
            ("h", &[("json.headers", "sEcReT")], "json.headers of route 0: the value has no colon"),
        ] {
            let error = built(address, options).err().unwrap();
            assert!(error.contains(why) && !error.contains("sEcReT"), "{error}");
        }
        let route = testing::route("http", Some("tcp"), "h", &[]);
        let error = build(&route, &settings(&[])).err().unwrap();
        assert_eq!(error, format!("bad transport: \"tcp\" in route 0; {FIX}"));
    }
}
