//! `elasticsearch`: lines as documents, for the bulk API of Elasticsearch and OpenSearch.
//!
//! Pure but for the PEM files that TLS needs. A record is an action and its document, a line each.
//! The action is `create`, without an id: the only one that data streams take, and good for
//! indices. Source: Elasticsearch's bulk API, index naming and data stream naming; fields as in the
//! Elastic Common Schema where that has them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, HeaderMap};
use serde_json::{Map, Value, json};

use super::batch::{self, BEFORE_MAX, Before, Form, Objects, Piece};
use super::options::Options;
use super::{Built, SinkSpec, target};
use crate::config::Settings;
use crate::docker::Source;
use crate::docker::inspect::Container;
use crate::route::RouteSpec;
use crate::transport::batch::Answers;
use crate::transport::http;

/// `elasticsearch+https://HOST[:PORT][/PREFIX]`, or `elasticsearch+http://`; `elasticsearch://`
/// alone leads to `ELASTICSEARCH_URL`. Options named as the
/// variables (`elasticsearch.index`) win over these.
pub const SPEC: SinkSpec = SinkSpec { scheme: "elasticsearch", build };

const PORT: u16 = 9200;
const FIX: &str = "write elasticsearch+http://HOST:9200 or elasticsearch+https://HOST:9200";
/// A data stream that the index templates of Elasticsearch know (`logs-*-*`).
const INDEX: &str = "logs-docker-default";
/// Bytes of an index name.
const INDEX_MAX: usize = 255;
/// What is asked for of an answer: what the documents became is all there in 25 bytes each.
const FILTER: &str = "filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason";
/// Most documents of a batch, and of its answer.
const RECORDS_MAX: usize = 5000;
const ANSWER_MAX: usize = 4 << 20;

fn build(spec: &RouteSpec, settings: &Settings) -> Result<Built, String> {
    let scheme = match spec.transport.as_deref() {
        None | Some("https") => "https",
        Some("http") => "http",
        Some(other) => return Err(target::bad_transport(spec, other, FIX)),
    };
    let address = &spec.address;
    let (host, _) = address.split_at(address.find('/').unwrap_or(address.len()));
    let with_port = match host.is_empty() || !host.ends_with(']') && host.contains(':') {
        true => address.clone(),
        false => format!("{host}:{PORT}{}", &address[host.len()..]),
    };
    let at = RouteSpec { address: with_port, ..spec.clone() };
    let options = batch::options(&at, &settings.batch);
    let base = options.url("elasticsearch.url", scheme, FIX)?;
    let pieces = options.read("elasticsearch.index", vec![Piece::Text(INDEX.to_owned())], index)?;
    let (path, before) = match pieces.as_slice() {
        [Piece::Text(index)] => {
            (format!("{index}/_bulk"), Before::Text(br#"{"create":{}}"#[..].into()))
        }
        _ => ("_bulk".to_owned(), Before::Dated(action(pieces))),
    };
    let before = ended(before);
    let url = format!("{}/{path}?{FILTER}", base.trim_end_matches('/'));
    let form = Form {
        headers: authorization(&options)?,
        answers: Answers::Bulk,
        answer_max: ANSWER_MAX,
        records_max: RECORDS_MAX,
        ..Form::lines("application/x-ndjson", "ELASTICSEARCH_URL")
    };
    let delivery = batch::delivery(&options, "elasticsearch.url", &url, form, settings)?;
    let sink = Objects::new(&options, settings, "@timestamp", members, before);
    Ok(Built::new(sink, delivery))
}

/// The action that names an index, of which `pieces` are the name.
fn action(pieces: Vec<Piece>) -> Box<[Piece]> {
    let text = |text: &str| Piece::Text(text.to_owned());
    let before = [text(r#"{"create":{"_index":""#)];
    before.into_iter().chain(pieces).chain([text(r#""}}"#)]).collect()
}

/// With a newline at its end.
fn ended(before: Before) -> Before {
    match before {
        Before::Nothing => Before::Nothing,
        Before::Text(text) => Before::Text([&*text, b"\n"].concat().into()),
        Before::Dated(pieces) => {
            let newline = Piece::Text("\n".to_owned());
            Before::Dated(pieces.into_iter().chain([newline]).collect())
        }
    }
}

/// The name of an index, with `%Y`, `%m`, `%d` and `%H` for parts of a line's time.
fn index(text: &str) -> Result<Vec<Piece>, String> {
    let bad = |what: &str| Err(format!("{what}; write e.g. logs-web-prod or logs-%Y.%m.%d"));
    let (mut pieces, mut plain) = (Vec::new(), String::new());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c == '%' {
            let (from, to) = match rest.next() {
                Some('Y') => (0, 4),
                Some('m') => (5, 7),
                Some('d') => (8, 10),
                Some('H') => (11, 13),
                _ => return bad("has a % before something else than Y, m, d or H"),
            };
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(Piece::Time(from, to));
        } else if !c.is_ascii()
            || c.is_ascii_uppercase()
            || c.is_ascii_control()
            || r#"\/*?"<>| ,#:"#.contains(c)
        {
            return bad("has a character that no index has");
        } else {
            plain.push(c);
        }
    }
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    // What stands around it has less than 40 bytes.
    const _: () = assert!(INDEX_MAX + 40 <= BEFORE_MAX);
    let len: usize = pieces
        .iter()
        .map(|piece| match piece {
            Piece::Text(text) => text.len(),
            Piece::Time(from, to) => to - from,
        })
        .sum();
    if len == 0 || len > INDEX_MAX || text.starts_with(['-', '_', '+', '.']) {
        return bad("is no name of an index: it is empty, too long, or begins with - _ + or .");
    }
    Ok(pieces)
}

/// An API key, or a user and a password.
fn authorization(options: &Options<'_>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let key = options.get("elasticsearch.api_key").map(str::trim);
    let user = options.get("elasticsearch.user");
    let text = match (key, user) {
        (Some(_), Some(_)) => {
            let fix = "is given, and a user too; leave out one of them";
            return Err(options.bad("elasticsearch.api_key", fix));
        }
        (Some(key), None) => format!("ApiKey {key}"),
        (None, Some(user)) => {
            let password = options.get("elasticsearch.password").unwrap_or_default();
            format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
        }
        (None, None) => return Ok(headers),
    };
    let mut value =
        http::header_value(&text).map_err(|fix| options.bad("elasticsearch.api_key", &fix))?;
    value.set_sensitive(true);
    headers.insert(AUTHORIZATION, value);
    Ok(headers)
}

/// What a document says of its container, as the Elastic Common Schema calls it.
fn members(container: &Container, source: Source) -> Map<String, Value> {
    let Container { id, name, image, hostname, .. } = container;
    let mut members = Map::new();
    let told = json!({"id": id, "name": name, "image": {"name": image}, "hostname": hostname});
    members.insert("container".to_owned(), told);
    members.insert("stream".to_owned(), source.name().into());
    members
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::batch::testing::{settings, target, values};
    use crate::sink::testing;

    fn built(address: &str, options: &[(&str, &str)]) -> Result<Built, String> {
        build(&testing::route("elasticsearch", Some("http"), address, options), &settings(&[]))
    }

    #[test]
    fn a_document_stands_behind_its_action() {
        let got = values(&built("es", &[]).unwrap(), Source::Stdout, b"a\nb\n");
        let document = |message: &str| {
            json!({
                "@timestamp": "1970-01-01T00:00:00.000000Z", "message": message, "stream": "stdout",
                "container": {
                    "id": "3eda", "name": "web", "image": {"name": "nginx"}, "hostname": "inside",
                },
            })
        };
        let create = json!({"create": {}});
        assert_eq!(got, [create.clone(), document("a"), create, document("b")]);
        let dated = built("es", &[("elasticsearch.index", "logs-%Y.%m.%d-%H")]).unwrap();
        let got = values(&dated, Source::Stdout, b"a\n");
        assert_eq!(got[0], json!({"create": {"_index": "logs-1970.01.01-00"}}));
    }

    #[test]
    fn it_leads_to_the_usual_port() {
        for (address, place) in
            [("es", "es:9200"), ("es:80", "es:80"), ("[::1]", "[::1]:9200"), ("es/x", "es:9200")]
        {
            let built = built(address, &[]).unwrap();
            assert_eq!(target(&built).endpoint.to_string(), place);
            assert_eq!((target(&built).answers, target(&built).gzip), (Answers::Bulk, true));
        }
    }

    #[test]
    fn names_of_indices_are_checked() {
        assert_eq!(index("logs-a_b.c"), Ok(vec![Piece::Text("logs-a_b.c".to_owned())]));
        for text in ["", "Logs", "a b", "a/b", "a%", "a%y", "_a", "-a", "a,b", "é", "a\"b"] {
            assert!(index(text).is_err(), "{text}");
        }
        assert!(index(&"a".repeat(255)).is_ok() && index(&"a".repeat(256)).is_err());
        let longest = format!("{}%Y", "a".repeat(251));
        let built = built("es", &[("elasticsearch.index", &longest)]).unwrap();
        values(&built, Source::Stdout, b"a\n");
    }

    #[test]
    fn mistakes_are_said_without_what_is_secret() {
        let both = [("elasticsearch.api_key", "sEcReT"), ("elasticsearch.user", "x")];
        for (address, options, why) in [
            ("", &[][..], "ELASTICSEARCH_URL of route 0: is not whole"),
            ("h", &both, "elasticsearch.api_key of route 0: is given, and a user too"),
            ("h", &[("elasticsearch.api_key", "sEcReT\n")], ""),
            ("h", &[("elasticsearch.api_key", "a\nsEcReT")], "has a character that no header has"),
            (
                "h",
                &[("elasticsearch.index", "A")],
                "elasticsearch.index of route 0: \"A\" has a char",
            ),
        ] {
            let error = built(address, options).err().unwrap_or_default();
            assert!(error.contains(why) && !error.contains("sEcReT"), "{error}");
        }
        let route = testing::route("elasticsearch", Some("tcp"), "h", &[]);
        assert!(build(&route, &settings(&[])).err().unwrap().contains("elasticsearch+https://"));
    }
}
