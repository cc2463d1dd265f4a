//! What the fake engine answers to questions: as Docker Engine 20.10 does (API 1.41), with what
//! forwarders read of it. Pure.

use serde_json::{Value, json};

/// What a client wants to know or have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// `/_ping`
    Ping,
    /// `/version`
    Version,
    /// `/info`
    Info,
    /// `/containers/json`
    List,
    /// `/containers/ID/json`, of the container with this index.
    Inspect(u16),
    /// `/events`
    Events,
    /// `/containers/ID/attach`
    Attach {
        /// Index of the container.
        container: u16,
        /// An answer 101 is asked for.
        upgrade: bool,
    },
    /// `/containers/ID/logs`
    Logs {
        /// Index of the container.
        container: u16,
        /// What is written from now on is asked for.
        follow: bool,
        /// So is the time of each message.
        timestamps: bool,
    },
    /// A container that is not there.
    NoSuch,
    /// Anything else.
    Other,
}

/// Reads the head of a request, of an engine with so many containers.
pub fn ask(head: &str, containers: u16) -> Ask {
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let flag = |name: &str| {
        let mut values = query.split('&').filter_map(|pair| pair.split_once('='));
        values.any(|(key, value)| key == name && matches!(value, "1" | "true"))
    };
    let index = |name: &str| index_of(name).filter(|index| *index < containers);
    match (method, &segments(path)[..]) {
        ("GET" | "HEAD", ["_ping"]) => Ask::Ping,
        ("GET", ["version"]) => Ask::Version,
        ("GET", ["info"]) => Ask::Info,
        ("GET", ["events"]) => Ask::Events,
        ("GET", ["containers", "json"]) => Ask::List,
        ("GET", ["containers", name, "json"]) => index(name).map_or(Ask::NoSuch, Ask::Inspect),
        ("POST", ["containers", name, "attach"]) => index(name).map_or(Ask::NoSuch, |container| {
            let upgrade = head.to_ascii_lowercase().contains("\r\nupgrade:");
            Ask::Attach { container, upgrade }
        }),
        ("GET", ["containers", name, "logs"]) => index(name).map_or(Ask::NoSuch, |container| {
            Ask::Logs { container, follow: flag("follow"), timestamps: flag("timestamps") }
        }),
        _ => Ask::Other,
    }
}

/// The parts of a path, without the version at its beginning.
fn segments(path: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let versioned = parts[0].strip_prefix('v').is_some_and(|v| v.starts_with(char::is_numeric));
    if versioned && parts.len() > 1 {
        parts.remove(0);
    }
    parts
}

/// The id of a container.
pub fn id(container: u16) -> String {
    format!("{container:04x}{}", "5eed".repeat(15))
}

/// The name of a container.
pub fn name(container: u16) -> String {
    format!("talker-{container:04x}")
}

fn index_of(name_or_id: &str) -> Option<u16> {
    let digits = name_or_id.strip_prefix("talker-").or_else(|| {
        let is_id = name_or_id.len() >= 12 && id(0)[4..].starts_with(name_or_id.get(4..)?);
        is_id.then_some(&name_or_id[..4])
    })?;
    u16::from_str_radix(digits, 16).ok()
}

/// The answer to a question of an engine with so many containers; `None` for what is a stream.
pub fn answer(ask: Ask, containers: u16) -> Option<Vec<u8>> {
    Some(match ask {
        Ask::Ping => response(200, "text/plain; charset=utf-8", b"OK"),
        Ask::Version => ok(&json!({"Version": "20.10.24", "ApiVersion": "1.41",
            "MinAPIVersion": "1.12", "Os": "linux", "Arch": "amd64"})),
        Ask::Info => ok(&json!({"ID": "fake", "Name": "fake", "Containers": containers,
            "ContainersRunning": containers, "ServerVersion": "20.10.24",
            "OperatingSystem": "fake", "OSType": "linux", "LoggingDriver": "json-file"})),
        Ask::List => ok(&(0..containers).map(listed).collect()),
        Ask::Inspect(container) => ok(&inspect(container)),
        Ask::NoSuch => error(404, "No such container"),
        Ask::Other => error(404, "page not found"),
        Ask::Events | Ask::Attach { .. } | Ask::Logs { .. } => return None,
    })
}

fn listed(container: u16) -> Value {
    json!({"Id": id(container), "Names": [format!("/{}", name(container))], "Image": "talker:1",
        "ImageID": "sha256:0", "Command": "talk", "Labels": {}, "State": "running",
        "Status": "Up 2 hours", "Created": 1_714_979_289})
}

fn inspect(container: u16) -> Value {
    let id = id(container);
    json!({
        "Id": id, "Created": "2024-05-06T07:08:09.123456789Z", "Path": "talk", "Args": [],
        "State": {"Status": "running", "Running": true, "Paused": false, "Restarting": false,
            "OOMKilled": false, "Dead": false, "Pid": 4242, "ExitCode": 0, "Error": "",
            "StartedAt": "2024-05-06T07:08:10.5Z", "FinishedAt": "0001-01-01T00:00:00Z"},
        "Image": "sha256:0", "Name": format!("/{}", name(container)), "RestartCount": 0,
        "HostConfig": {"LogConfig": {"Type": "json-file", "Config": {}}},
        "Config": {"Hostname": id[..12], "Tty": false, "Env": [], "Cmd": ["talk"],
            "Image": "talker:1", "Labels": {}},
    })
}

fn ok(body: &Value) -> Vec<u8> {
    response(200, "application/json", format!("{body}\n").as_bytes())
}

/// A refusal, as the engine words them.
pub fn error(status: u16, message: &str) -> Vec<u8> {
    let body = json!({ "message": message });
    response(status, "application/json", format!("{body}\n").as_bytes())
}

fn response(status: u16, content_type: &str, body: &[u8]) -> Vec<u8> {
    let mut response = format!(
        "HTTP/1.1 {status} Scripted\r\nApi-Version: 1.41\r\nServer: Docker/20.10.24 (linux)\r\n\
         Content-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    response.extend_from_slice(body);
    response
}

/// What an attach stream begins with.
pub fn attached(upgrade: bool) -> &'static [u8] {
    if upgrade {
        b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n\
          Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    } else {
        b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"
    }
}

/// What the answers that never end begin with: events, and logs that are followed.
pub const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\n\
    Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
/// The whole answer where there is no log so far.
pub const NO_LOG: &[u8] = b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 0\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions() {
        let containers = 3;
        let two = id(2);
        for (request, expected) in [
            ("HEAD /_ping HTTP/1.1".to_owned(), Ask::Ping),
            ("GET /v1.41/containers/json?all=1 HTTP/1.1".to_owned(), Ask::List),
            (format!("GET /containers/{two}/json HTTP/1.1"), Ask::Inspect(2)),
            (format!("GET /v1.24/containers/{}/json HTTP/1.1", &two[..12]), Ask::Inspect(2)),
            ("GET /containers/talker-0001/json HTTP/1.1".to_owned(), Ask::Inspect(1)),
            ("GET /containers/talker-0003/json HTTP/1.1".to_owned(), Ask::NoSuch),
            ("GET /containers/nobody/json HTTP/1.1".to_owned(), Ask::NoSuch),
            (
                format!("POST /v1.41/containers/{two}/attach?stream=1 HTTP/1.1\r\nUpgrade: tcp"),
                Ask::Attach { container: 2, upgrade: true },
            ),
            (
                format!("GET /containers/{two}/logs?stdout=1&follow=true&timestamps=0 HTTP/1.1"),
                Ask::Logs { container: 2, follow: true, timestamps: false },
            ),
            ("DELETE /containers/json HTTP/1.1".to_owned(), Ask::Other),
        ] {
            assert_eq!(ask(&request, containers), expected, "{request}");
        }
    }

    #[test]
    fn ids_differ_at_their_beginning() {
        let ids: std::collections::BTreeSet<_> = (0..512).map(|c| id(c)[..12].to_owned()).collect();
        assert_eq!(ids.len(), 512);
        assert_eq!(id(511).len(), 64);
    }
}
