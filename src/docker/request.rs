//! Requests to the daemon as bytes, and which version of its API they speak.
//!
//! Pure: writes bytes, never sends them. Engine API reference: `GET /_ping`,
//! `GET /containers/json`, `GET /containers/{id}/json`, `GET /events`,
//! `POST /containers/{id}/attach`, `GET /containers/{id}/logs`, `GET /containers/{id}/stats`.

use std::fmt;

use crate::docker::endpoint::Endpoint;
use crate::docker::time::seconds_dot_nanos;

/// A version of the Engine API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Before the point.
    pub major: u32,
    /// Behind the point.
    pub minor: u32,
}

impl Version {
    /// The oldest that has what logchute needs (Docker 1.12); Docker 25 and Podman refuse older.
    pub const OLDEST: Version = Version { major: 1, minor: 24 };
    /// The newest that logchute asks for (Docker 25); Docker 29.0 refuses older.
    pub const NEWEST: Version = Version { major: 1, minor: 44 };

    /// Parses `1.41` or `v1.41`.
    pub fn parse(text: &str) -> Option<Version> {
        let (major, minor) = text.strip_prefix('v').unwrap_or(text).split_once('.')?;
        Some(Version { major: number(major)?, minor: number(minor)? })
    }
}

/// `u32::from_str` without its tolerance for a sign.
fn number(digits: &str) -> Option<u32> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The version to speak: `asked` (`DOCKER_API_VERSION`) if it is set and not empty, else the
/// older of `server` (the `Api-Version` of its answer to a ping) and [`Version::NEWEST`].
/// `None`, requests without a version, if the server names none that can be read: scripted
/// engines do not.
///
/// # Errors
/// A message for the user, if `asked` is no version or the server is older than
/// [`Version::OLDEST`].
pub fn negotiate(server: Option<&str>, asked: Option<&str>) -> Result<Option<Version>, String> {
    if let Some(asked) = asked.filter(|asked| !asked.is_empty()) {
        return Version::parse(asked).map(Some).ok_or_else(|| {
            let newest = Version::NEWEST;
            format!(
                "DOCKER_API_VERSION {asked:?} is no API version: write it as {newest}, or \
                     leave it unset to use what the daemon speaks"
            )
        });
    }
    let Some(server) = server.and_then(|server| Version::parse(server.trim())) else {
        return Ok(None);
    };
    if server < Version::OLDEST {
        let oldest = Version::OLDEST;
        return Err(format!(
            "the daemon speaks API {server}, logchute needs {oldest} or newer \
                            (Docker 1.12): upgrade the daemon"
        ));
    }
    Ok(Some(server.min(Version::NEWEST)))
}

/// How the requests to one daemon begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// The version in the path; `None` for paths without one.
    pub version: Option<Version>,
    /// The value of `Host`.
    pub host_header: String,
    /// What stands before every path: empty, or `/base` without a slash at its end.
    pub base_path: String,
}

/// What to ask of the `logs` door. Both times are inclusive, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogsQuery {
    /// Only messages of this time or later.
    pub since: Option<u64>,
    /// Only messages of this time or earlier.
    pub until: Option<u64>,
    /// Only so many messages, the newest; the daemon counts them over both sources.
    pub tail: Option<u64>,
    /// Go on with what is written from now on. A running container only; the daemon ends the
    /// answer at once for others.
    pub follow: bool,
}

/// Whose events are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those of containers.
    Containers,
    /// Those of whatever has any.
    All,
}

impl Api {
    /// For the daemon at `endpoint`.
    pub fn new(endpoint: &Endpoint, version: Option<Version>) -> Api {
        let base_path = endpoint.base_path().to_owned();
        Api { version, host_header: endpoint.host_header(), base_path }
    }

    /// `GET /_ping`. Never versioned: it is what the version is learnt from.
    pub fn ping(&self) -> Vec<u8> {
        let unversioned = Api { version: None, ..self.clone() };
        unversioned.get("/_ping")
    }

    /// `GET /containers/json` of every container, running or not.
    pub fn list(&self) -> Vec<u8> {
        self.get("/containers/json?all=1")
    }

    /// `GET /containers/{id}/json`; `id` may be a name.
    pub fn inspect(&self, id: &str) -> Vec<u8> {
        self.get(&format!("/containers/{}/json", Encoded(id)))
    }

    /// `GET /events`, those since `since` (nanoseconds since 1970, inclusive) that the daemon still
    /// has first. With `until` the answer ends there. The filter names the type alone: with
    /// `health_status` or `exec_*` among them, the daemon takes event names for prefixes.
    pub fn events(&self, scope: Scope, since: Option<u64>, until: Option<u64>) -> Vec<u8> {
        let types = match scope {
            Scope::Containers => r#"{"type":["container"]}"#,
            Scope::All => "{}",
        };
        let (since, until) = (time("since", since), time("until", until));
        self.get(&format!("/events?filters={}{since}{until}", Encoded(types)))
    }

    /// `GET /containers/{id}/stats`: a sample a second, each a JSON object on a line of its own.
    pub fn stats(&self, id: &str) -> Vec<u8> {
        self.get(&format!("/containers/{}/stats?stream=1", Encoded(id)))
    }

    /// `POST /containers/{id}/attach`: both sources from now on, no input. The daemon answers 101
    /// (or 200 through a proxy that knows no upgrade) and the stream follows, framed unless the
    /// container has a terminal.
    pub fn attach(&self, id: &str) -> Vec<u8> {
        let path = format!("/containers/{}/attach?stream=1&stdout=1&stderr=1", Encoded(id));
        let fields = "Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n";
        self.request("POST", &path, fields)
    }

    /// `GET /containers/{id}/logs` of both sources, each message with its time; see
    /// [`crate::docker::logs`] for what comes.
    pub fn logs(&self, id: &str, query: &LogsQuery) -> Vec<u8> {
        let follow = if query.follow { "&follow=1" } else { "" };
        let tail = query.tail.map(|lines| format!("&tail={lines}")).unwrap_or_default();
        self.get(&format!(
            "/containers/{}/logs?stdout=1&stderr=1&timestamps=1{follow}{}{}{tail}",
            Encoded(id),
            time("since", query.since),
            time("until", query.until),
        ))
    }

    /// A request on a connection of its own: the answer may end with the connection.
    fn get(&self, path: &str) -> Vec<u8> {
        self.request("GET", path, "Connection: close\r\n")
    }

    fn request(&self, method: &str, path: &str, fields: &str) -> Vec<u8> {
        let version = self.version.map(|version| format!("/v{version}")).unwrap_or_default();
        let Api { host_header, base_path, .. } = self;
        format!(
            "{method} {base_path}{version}{path} HTTP/1.1\r\nHost: {host_header}\r\n\
             User-Agent: logchute/{}\r\n{fields}\r\n",
            env!("CARGO_PKG_VERSION"),
        )
        .into_bytes()
    }
}

/// `&name=SECONDS.NANOS`, or nothing.
fn time(name: &str, nanos: Option<u64>) -> String {
    nanos.map(|nanos| format!("&{name}={}", seconds_dot_nanos(nanos))).unwrap_or_default()
}

/// Text within a path segment or query value: all but the unreserved characters of RFC 3986
/// section 2.3 percent-encoded, the point too, so that no segment is `..`.
struct Encoded<'a>(&'a str);

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.bytes().try_for_each(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => {
                write!(f, "{}", char::from(byte))
            }
            _ => write!(f, "%{byte:02X}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(version: Option<&str>) -> Api {
        Api {
            version: version.and_then(Version::parse),
            host_header: "docker".into(),
            base_path: String::new(),
        }
    }

    /// The request line and the fields; checks what every request has.
    fn parts(request: Vec<u8>) -> (String, Vec<String>) {
        let text = String::from_utf8(request).unwrap();
        let mut fields = [httparse::EMPTY_HEADER; 16];
        let mut parsed = httparse::Request::new(&mut fields);
        assert_eq!(parsed.parse(text.as_bytes()), Ok(httparse::Status::Complete(text.len())));
        let line = format!("{} {}", parsed.method.unwrap(), parsed.path.unwrap());
        let fields: Vec<String> = parsed
            .headers
            .iter()
            .map(|f| format!("{}: {}", f.name, String::from_utf8_lossy(f.value)))
            .collect();
        assert!(fields.contains(&"Host: docker".to_owned()), "{fields:?}");
        (line, fields)
    }

    #[test]
    fn request_lines() {
        let v41 = api(Some("1.41"));
        let id = "3edafbdfe8db";
        for (request, line) in [
            (v41.ping(), "GET /_ping"),
            (v41.list(), "GET /v1.41/containers/json?all=1"),
            (v41.inspect(id), "GET /v1.41/containers/3edafbdfe8db/json"),
            (api(None).inspect(id), "GET /containers/3edafbdfe8db/json"),
            (
                v41.events(Scope::Containers, None, None),
                "GET /v1.41/events?filters=%7B%22type%22%3A%5B%22container%22%5D%7D",
            ),
            (
                v41.events(Scope::Containers, Some(1_000_000_000), Some(2_000_000_005)),
                "GET /v1.41/events?filters=%7B%22type%22%3A%5B%22container%22%5D%7D\
                 &since=1.000000000&until=2.000000005",
            ),
            (
                v41.attach(id),
                "POST /v1.41/containers/3edafbdfe8db/attach?stream=1&stdout=1&stderr=1",
            ),
            (
                v41.logs(id, &LogsQuery::default()),
                "GET /v1.41/containers/3edafbdfe8db/logs?stdout=1&stderr=1&timestamps=1",
            ),
            (
                v41.logs(
                    id,
                    &LogsQuery {
                        since: Some(1_714_979_289_000_000_070),
                        until: Some(0),
                        tail: Some(100),
                        follow: true,
                    },
                ),
                "GET /v1.41/containers/3edafbdfe8db/logs?stdout=1&stderr=1&timestamps=1&follow=1\
                 &since=1714979289.000000070&until=0.000000000&tail=100",
            ),
        ] {
            assert_eq!(parts(request).0, line);
        }
    }

    #[test]
    fn base_path_comes_first() {
        let api = Api { base_path: "/engine".into(), ..api(Some("v1.24")) };
        assert_eq!(parts(api.ping()).0, "GET /engine/_ping");
        assert_eq!(parts(api.list()).0, "GET /engine/v1.24/containers/json?all=1");
    }

    #[test]
    fn connections() {
        let has = |request: Vec<u8>, field: &str| {
            let (line, fields) = parts(request);
            assert!(fields.iter().any(|f| f == field), "{line}: {fields:?}");
        };
        let api = api(None);
        for request in [
            api.ping(),
            api.list(),
            api.inspect("x"),
            api.events(Scope::All, None, None),
            api.stats("x"),
            api.logs("x", &LogsQuery::default()),
        ] {
            has(request, "Connection: close");
        }
        for field in ["Connection: Upgrade", "Upgrade: tcp", "Content-Length: 0"] {
            has(api.attach("x"), field);
        }
    }

    #[test]
    fn an_id_stays_within_its_segment() {
        let line = |id: &str| parts(api(None).inspect(id)).0;
        assert_eq!(line("my_web-1~x"), "GET /containers/my_web-1~x/json");
        assert_eq!(line(".."), "GET /containers/%2E%2E/json");
        assert_eq!(
            line("a/b?c d\r\nX: \u{e4}%"),
            "GET /containers/a%2Fb%3Fc%20d%0D%0AX%3A%20%C3%A4%25/json"
        );
    }

    #[test]
    fn versions() {
        let version = |minor| Some(Version { major: 1, minor });
        assert_eq!(Version::parse("1.41"), version(41));
        assert_eq!(Version::parse("v1.9"), version(9));
        for text in [
            "",
            "v",
            "1",
            "1.",
            ".41",
            "1.41.0",
            "vv1.41",
            "+1.41",
            "1.4a",
            " 1.41",
            "1.99999999999",
        ] {
            assert_eq!(Version::parse(text), None, "{text:?}");
        }
        assert!(Version::parse("1.9") < Version::parse("1.24"));
        assert_eq!(version(5).unwrap().to_string(), "1.5");
    }

    #[test]
    fn negotiation() {
        let version = |minor| Ok(Some(Version { major: 1, minor }));
        for (server, asked, expect) in [
            (Some("1.41"), None, version(41)),
            (Some("1.41"), Some(""), version(41)),
            (Some("1.55"), None, version(44)),
            (Some("2.0"), None, version(44)),
            (Some("1.24"), None, version(24)),
            (None, None, Ok(None)),
            (Some(""), None, Ok(None)),
            (Some("unknown"), None, Ok(None)),
            (Some("1.41"), Some("v1.30"), version(30)),
            (Some("1.12"), Some("1.12"), version(12)),
            (None, Some("1.50"), version(50)),
        ] {
            assert_eq!(negotiate(server, asked), expect, "{server:?} {asked:?}");
        }
        let error = negotiate(Some("1.41"), Some("latest")).unwrap_err();
        assert!(error.contains("DOCKER_API_VERSION \"latest\"") && error.contains("1.44"));
        let error = negotiate(Some("1.23"), None).unwrap_err();
        assert!(error.contains("1.23") && error.contains("1.24"), "{error}");
    }
}
