//! `GET /events`: one JSON object a line, cut anywhere.
//!
//! Pure: bytes in, events out. Both forms are read: `status`, `id` and `from` beside the rest
//! (until API 1.51) and `Action` and `Actor` alone (since 1.52), and Podman's names.
//! [`parse_event`] reads what containers are followed by, [`parse_happening`] what routes are told.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use memchr::memchr;
use serde::Deserialize;

use crate::docker::inspect::{
    Container, JsonError, JsonMap, Listed, filled, some_id, without_slash,
};
use crate::docker::time::rfc3339_nanos;

/// Longest event in bytes. Labels make an event long; the daemon bounds them far below.
pub const EVENT_MAX: usize = 1024 * 1024;

/// A line longer than [`EVENT_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventTooLong;

impl fmt::Display for EventTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an event of the daemon is longer than {EVENT_MAX} bytes")
    }
}

impl std::error::Error for EventTooLong {}

/// Splits the event stream into lines. A line that ends in a later piece is carried.
#[derive(Debug, Default)]
pub struct EventLines {
    carry: Vec<u8>,
}

impl EventLines {
    /// Takes the next piece of the stream and calls `each` with every line that it completes,
    /// without line ends and not empty.
    ///
    /// # Errors
    /// If a line is longer than [`EVENT_MAX`]; the lines before it were given. What follows on
    /// the stream is of no use then: subscribe again.
    pub fn push(
        &mut self,
        mut piece: &[u8],
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), EventTooLong> {
        while let Some((line, rest)) =
            memchr(b'\n', piece).and_then(|at| piece.split_at_checked(at))
        {
            if self.carry.is_empty() {
                if line.len() > EVENT_MAX {
                    return Err(EventTooLong);
                }
                give(line, &mut each);
            } else {
                self.keep(line)?;
                give(&self.carry, &mut each);
                self.carry.clear();
            }
            piece = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        self.keep(piece)
    }

    fn keep(&mut self, part: &[u8]) -> Result<(), EventTooLong> {
        if self.carry.len() + part.len() > EVENT_MAX {
            self.carry = Vec::new();
            return Err(EventTooLong);
        }
        self.carry.extend_from_slice(part);
        Ok(())
    }
}

fn give(line: &[u8], each: &mut impl FnMut(&[u8])) {
    let line = line.trim_ascii();
    if !line.is_empty() {
        each(line);
    }
}

/// Something happened to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerEvent {
    /// The container's full id.
    pub id: String,
    /// When, in nanoseconds since 1970 by the daemon's clock; 0 where it does not say.
    pub time_nanos: u64,
    /// What.
    pub action: Action,
    /// The container's name without its leading slash (after a rename the new one); empty where
    /// the daemon does not say.
    pub name: String,
    /// Its labels, as far as the event tells: a label of the name of one of the event's own
    /// attributes (`name`, `image`, `exitCode` …) is not told apart from it. Inspect knows.
    pub labels: BTreeMap<String, String>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It was made.
    Create,
    /// It was started; a restart gives this too.
    Start,
    /// `docker restart`; follows the `Start` of that restart.
    Restart,
    /// It ended.
    Die {
        /// Its exit code, if the daemon says it.
        exit_code: Option<i64>,
    },
    /// It got another name.
    Rename {
        /// The name that it had, without its leading slash.
        old_name: String,
    },
    /// It was removed.
    Destroy,
    /// It was frozen.
    Pause,
    /// It goes on.
    Unpause,
    /// One of its processes was killed for want of memory; it need not have ended.
    Oom,
    /// Its health check changed its mind: `healthy`, `unhealthy` …
    HealthStatus(String),
    /// Its limits were changed.
    Update,
    /// Anything else: `kill`, `stop`, `attach`, `exec_*` …
    Other,
}

/// An event as it comes. Every member may be absent or `null`.
#[derive(Deserialize)]
struct RawEvent {
    #[serde(rename = "Type")]
    kind: Option<String>,
    #[serde(rename = "Action")]
    action: Option<String>,
    #[serde(rename = "Actor")]
    actor: Option<RawActor>,
    /// Podman's alone.
    #[serde(rename = "HealthStatus")]
    health: Option<String>,
    status: Option<String>,
    id: Option<String>,
    from: Option<String>,
    time: Option<i64>,
    #[serde(rename = "timeNano")]
    time_nano: Option<i64>,
}

impl RawEvent {
    fn nanos(&self) -> u64 {
        let seconds = || self.time.unwrap_or_default().saturating_mul(1_000_000_000);
        u64::try_from(self.time_nano.unwrap_or_else(seconds)).unwrap_or_default()
    }
}

#[derive(Default, Deserialize)]
struct RawActor {
    #[serde(rename = "ID")]
    id: Option<String>,
    #[serde(rename = "Attributes")]
    attributes: JsonMap,
}

/// The type of what happens to containers.
const CONTAINER: &str = "container";

/// The attributes that an event adds to the labels: Docker's, then Podman's own.
const ATTRIBUTES: [&str; 9] = [
    "name",
    "image",
    "exitCode",
    "signal",
    "oldName",
    "execID",
    "execDuration",
    "containerExitCode",
    "podId",
];

/// Parses one line of the event stream; `None` if it is not about a container.
///
/// # Errors
/// If it is not JSON of the documented shape, or a container's event has no id.
pub fn parse_event(line: &[u8]) -> Result<Option<DockerEvent>, JsonError> {
    let raw: RawEvent = serde_json::from_slice(line)?;
    if raw.kind.as_deref().is_some_and(|kind| kind != CONTAINER) {
        return Ok(None);
    }
    let time_nanos = raw.nanos();
    let actor = raw.actor.unwrap_or_default();
    let mut labels = filled(actor.attributes);
    let verb = raw.action.or(raw.status).unwrap_or_default();
    let action = action(&verb, raw.health.as_deref(), &labels);
    let name = labels.get("name").map(|name| without_slash(name)).unwrap_or_default();
    labels.retain(|key, _| !ATTRIBUTES.contains(&key.as_str()));
    Ok(Some(DockerEvent {
        id: some_id(actor.id.filter(|id| !id.is_empty()).or(raw.id))?,
        time_nanos,
        action,
        name,
        labels,
    }))
}

fn action(verb: &str, health: Option<&str>, attributes: &BTreeMap<String, String>) -> Action {
    let attribute = |name: &str| attributes.get(name).map(String::as_str);
    match verb {
        "create" => Action::Create,
        "start" => Action::Start,
        "restart" => Action::Restart,
        "die" | "died" => {
            let code = attribute("exitCode").or(attribute("containerExitCode"));
            Action::Die { exit_code: code.and_then(|code| code.parse().ok()) }
        }
        "rename" => {
            Action::Rename { old_name: without_slash(attribute("oldName").unwrap_or_default()) }
        }
        "destroy" | "remove" => Action::Destroy,
        "pause" => Action::Pause,
        "unpause" => Action::Unpause,
        "oom" => Action::Oom,
        "update" => Action::Update,
        _ => match verb.strip_prefix("health_status").map(|rest| rest.strip_prefix(':')) {
            Some(Some(status)) => Action::HealthStatus(status.trim().into()),
            Some(None) if verb == "health_status" => {
                Action::HealthStatus(health.unwrap_or_default().into())
            }
            _ => Action::Other,
        },
    }
}

/// Anything that the daemon tells of, as a line of the source `events`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Happening {
    /// When, in nanoseconds since 1970 by the daemon's clock; 0 where it does not say.
    pub time_nanos: u64,
    /// To what: `container`, `image`, `network`, `volume`, `daemon`, `plugin`, `node`, `service`,
    /// `secret`, `config`.
    pub kind: String,
    /// What, as Docker says it, Podman's words turned into Docker's: `die`, `health_status:
    /// unhealthy`, `exec_start: /bin/sh` …
    pub action: String,
    /// The full id, or what identifies it else.
    pub id: String,
    /// Its name without a leading slash; empty where the daemon does not say.
    pub name: String,
    /// The container's image; empty for anything else.
    pub image: String,
    /// Of `die` alone, if the daemon says it.
    pub exit_code: Option<i64>,
    /// The signal's number, as the daemon says it; of `kill` alone.
    pub signal: Option<String>,
    /// Everything else that the daemon says of it, a container's labels too.
    pub attributes: BTreeMap<String, String>,
    /// The daemon did not tell of it: a list of its containers did.
    pub reconciled: bool,
}

/// Parses one line of the event stream, whatever it is about.
///
/// # Errors
/// If it is not JSON of the documented shape, or a container's event has no id.
pub fn parse_happening(line: &[u8]) -> Result<Happening, JsonError> {
    let raw: RawEvent = serde_json::from_slice(line)?;
    let time_nanos = raw.nanos();
    let kind = raw.kind.unwrap_or_else(|| CONTAINER.to_owned());
    let is_container = kind == CONTAINER;
    let actor = raw.actor.unwrap_or_default();
    let mut attributes = filled(actor.attributes);
    let verb = raw.action.or(raw.status).unwrap_or_default();
    let verb = if is_container { as_docker(verb, raw.health.as_deref()) } else { verb };
    let exit_code = (is_container && verb == "die")
        .then(|| {
            let podman = attributes.remove("containerExitCode");
            attributes.remove("exitCode").or(podman).and_then(|code| code.parse().ok())
        })
        .flatten();
    let signal = (is_container && verb == "kill").then(|| attributes.remove("signal")).flatten();
    let id = actor.id.filter(|id| !id.is_empty()).or(raw.id);
    let image = is_container.then(|| attributes.remove("image").or(raw.from)).flatten();
    let name = attributes.remove("name").map(|name| without_slash(&name));
    Ok(Happening {
        time_nanos,
        id: if is_container { some_id(id)? } else { id.unwrap_or_default() },
        kind,
        action: verb,
        name: name.unwrap_or_default(),
        image: image.unwrap_or_default(),
        exit_code,
        signal,
        attributes,
        reconciled: false,
    })
}

/// What Docker calls what Podman says of a container.
fn as_docker(verb: String, health: Option<&str>) -> String {
    match (&*verb, health) {
        ("died", _) => "die".to_owned(),
        ("remove", _) => "destroy".to_owned(),
        ("health_status", Some(health)) => format!("health_status: {health}"),
        _ => verb,
    }
}

impl Happening {
    /// What a list taken at this time tells of a container, where its event did not come.
    pub fn reconciled(action: &str, listed: &Listed, time_nanos: u64) -> Happening {
        Happening {
            time_nanos,
            kind: CONTAINER.to_owned(),
            action: action.to_owned(),
            id: listed.id.clone(),
            name: listed.name.clone(),
            image: listed.image.clone(),
            exit_code: listed.exit_code.filter(|_| action == "die"),
            signal: None,
            attributes: listed.labels.clone(),
            reconciled: true,
        }
    }

    /// Whether it happened to a container.
    pub fn is_of_container(&self) -> bool {
        self.kind == CONTAINER
    }

    /// What it happened to, as sinks and filters see it: a container as far as the event tells.
    /// Anything else has its name, or its type where it has none, in the place of a container's.
    pub fn subject(&self) -> Container {
        let mut labels = self.attributes.clone();
        labels.retain(|key, _| self.is_of_container() && !ATTRIBUTES.contains(&key.as_str()));
        let name = if self.name.is_empty() { &self.kind } else { &self.name };
        // What Docker calls the host of a container unless it is told otherwise.
        let hostname = self.id.get(..12).filter(|_| self.is_of_container()).unwrap_or_default();
        Container {
            id: self.id.clone(),
            name: name.clone(),
            image: self.image.clone(),
            hostname: hostname.to_owned(),
            labels,
            ..Container::default()
        }
    }

    /// One JSON object without a newline, its members in this order: see the README's "Stats and
    /// events".
    pub fn line(&self) -> String {
        let text = |text: &str| serde_json::Value::from(text).to_string();
        // Writing to a string does not fail.
        let mut line = format!(
            "{{\"time\":\"{}\",\"type\":{},\"action\":{},\"id\":{},\"name\":{},\"image\":{}",
            rfc3339_nanos(self.time_nanos),
            text(&self.kind),
            text(&self.action),
            text(&self.id),
            text(&self.name),
            text(&self.image),
        );
        if let Some(code) = self.exit_code {
            let _ = write!(line, ",\"exit_code\":{code}");
        }
        if let Some(signal) = &self.signal {
            let _ = write!(line, ",\"signal\":{}", text(signal));
        }
        if self.reconciled {
            line.push_str(",\"reconciled\":true");
        }
        let rest =
            self.attributes.iter().map(|(key, value)| format!("{}:{}", text(key), text(value)));
        let _ = write!(line, ",\"attributes\":{{{}}}}}", rest.collect::<Vec<_>>().join(","));
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const ID: &str = "3edafbdfe8dbd1349ef2c5ae783545a50a2502d1886b231de6aae0f6d4bf417d";

    fn event(action: &str, more: &[(&str, &str)]) -> Value {
        let mut attributes = json!({"image": "alpine", "name": "web", "com.example": "x"});
        for (key, value) in more {
            attributes[key] = (*value).into();
        }
        json!({
            "Type": "container",
            "Action": action,
            "Actor": {"ID": ID, "Attributes": attributes},
            "scope": "local",
            "time": 1_714_979_289,
            "timeNano": 1_714_979_289_123_456_789_u64,
        })
    }

    fn parsed(event: &Value) -> DockerEvent {
        parse_event(event.to_string().as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn the_new_form_and_the_old_one() {
        let new = event("start", &[]);
        let mut old = new.clone();
        old["status"] = "start".into();
        old["id"] = ID.into();
        old["from"] = "alpine".into();
        let oldest = json!({"status": "start", "id": ID, "from": "alpine", "time": 1_714_979_289});
        let expect = DockerEvent {
            id: ID.into(),
            time_nanos: 1_714_979_289_123_456_789,
            action: Action::Start,
            name: "web".into(),
            labels: BTreeMap::from([("com.example".into(), "x".into())]),
        };
        assert_eq!(parsed(&new), expect);
        assert_eq!(parsed(&old), expect);
        let expect = DockerEvent {
            time_nanos: 1_714_979_289_000_000_000,
            name: String::new(),
            labels: BTreeMap::new(),
            ..expect
        };
        assert_eq!(parsed(&oldest), expect);
    }

    #[test]
    fn actions() {
        let health = |status: &str| Action::HealthStatus(status.into());
        let old = |name: &str| Action::Rename { old_name: name.into() };
        let die = |exit_code| Action::Die { exit_code };
        for (verb, more, expect) in [
            ("create", ("", ""), Action::Create),
            ("restart", ("", ""), Action::Restart),
            ("die", ("exitCode", "137"), die(Some(137))),
            ("died", ("containerExitCode", "0"), die(Some(0))),
            ("die", ("exitCode", "x"), die(None)),
            ("rename", ("oldName", "/old"), old("old")),
            ("destroy", ("", ""), Action::Destroy),
            ("remove", ("", ""), Action::Destroy),
            ("pause", ("", ""), Action::Pause),
            ("unpause", ("", ""), Action::Unpause),
            ("oom", ("", ""), Action::Oom),
            ("update", ("", ""), Action::Update),
            ("health_status: healthy", ("", ""), health("healthy")),
            ("health_status", ("", ""), health("")),
            ("health_statuses", ("", ""), Action::Other),
            ("exec_start: /bin/sh -c die", ("execID", "1"), Action::Other),
            ("exec_die", ("exitCode", "1"), Action::Other),
            ("kill", ("signal", "15"), Action::Other),
            ("", ("", ""), Action::Other),
        ] {
            let event = parsed(&event(verb, &[more]));
            assert_eq!(event.action, expect, "{verb}");
            let own = event.labels.keys().filter(|key| !key.is_empty()).collect::<Vec<_>>();
            assert_eq!(own, ["com.example"], "{verb}");
        }
        let mut podman = event("health_status", &[]);
        podman["HealthStatus"] = "unhealthy".into();
        assert_eq!(parsed(&podman).action, health("unhealthy"));
    }

    #[test]
    fn of_other_kinds_and_broken_ones() {
        let network = json!({"Type": "network", "Action": "connect", "Actor": {"ID": "x"}});
        assert_eq!(parse_event(network.to_string().as_bytes()), Ok(None));
        assert_eq!(parse_event(br#"{"Type":"container","Actor":null}"#), Err(JsonError::NoId));
        assert!(matches!(parse_event(b"{"), Err(JsonError::Syntax { .. })));
        assert!(matches!(parse_event(b"[1]"), Err(JsonError::Shape { .. })));
        let early = json!({"id": ID, "time": -1, "Actor": {"Attributes": null}});
        assert_eq!(parsed(&early).time_nanos, 0);
    }

    fn happening(event: &Value) -> Happening {
        parse_happening(event.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_line_tells_what_happened_in_this_order() {
        let mut new = event("die", &[("exitCode", "3"), ("execID", "7")]);
        let head = format!(
            "{{\"time\":\"2024-05-06T07:08:09.123456789Z\",\"type\":\"container\",\
             \"action\":\"die\",\"id\":\"{ID}\",\"name\":\"web\",\"image\":\"alpine\","
        );
        let rest = "\"attributes\":{\"com.example\":\"x\",\"execID\":\"7\"}}";
        let expected = format!("{head}\"exit_code\":3,{rest}");
        assert_eq!(happening(&new).line(), expected);
        new["status"] = "die".into();
        new["id"] = ID.into();
        new["from"] = "alpine".into();
        assert_eq!(happening(&new).line(), expected);
        let mut oldest =
            json!({"status": "die", "id": ID, "from": "alpine", "time": 1_714_979_289});
        oldest["Actor"] = json!({"Attributes": {"exitCode": "x", "name": "/a\"b"}});
        let line = happening(&oldest).line();
        assert!(
            line.contains("\"name\":\"a\\\"b\",\"image\":\"alpine\",\"attributes\":{}}"),
            "{line}"
        );
        let kill = happening(&event("kill", &[("signal", "15")])).line();
        assert!(kill.contains(",\"signal\":\"15\",\"attributes\":{"), "{kill}");
        // Of anything else, these are what they are.
        let exec = happening(&event("exec_die", &[("exitCode", "1")]));
        assert_eq!((exec.exit_code, &*exec.attributes["exitCode"]), (None, "1"));
    }

    #[test]
    fn podman_says_the_same_in_other_words() {
        let mut podman = event("health_status", &[]);
        podman["HealthStatus"] = "unhealthy".into();
        assert_eq!(happening(&podman).action, "health_status: unhealthy");
        let died = happening(&event("died", &[("containerExitCode", "0")]));
        assert_eq!((&*died.action, died.exit_code), ("die", Some(0)));
        assert_eq!(happening(&event("remove", &[])).action, "destroy");
        let image = json!({"Type": "image", "Action": "remove", "Actor": {"ID": "nginx:1"}});
        assert_eq!(happening(&image).action, "remove");
    }

    #[test]
    fn other_things_than_containers() {
        let attributes = json!({"container": ID, "name": "bridge", "type": "bridge"});
        let network = happening(&json!({
            "Type": "network", "Action": "connect", "timeNano": 1,
            "Actor": {"ID": "9b1e", "Attributes": attributes},
        }));
        let expected = format!(
            "{{\"time\":\"1970-01-01T00:00:00.000000001Z\",\"type\":\"network\",\
             \"action\":\"connect\",\"id\":\"9b1e\",\"name\":\"bridge\",\"image\":\"\",\
             \"attributes\":{{\"container\":\"{ID}\",\"type\":\"bridge\"}}}}"
        );
        assert_eq!(network.line(), expected);
        assert!(!network.is_of_container() && network.subject().labels.is_empty());
        assert_eq!(network.subject().name, "bridge");
        let daemon = happening(&json!({"Type": "daemon", "Action": "reload", "Actor": null}));
        assert_eq!((&*daemon.subject().name, &*daemon.id), ("daemon", ""));
        assert_eq!(parse_happening(br#"{"Type":"container"}"#), Err(JsonError::NoId));
        let subject = happening(&event("die", &[("exitCode", "1")])).subject();
        let known = parsed(&event("die", &[("exitCode", "1")]));
        assert_eq!((subject.labels, subject.hostname), (known.labels, ID[..12].to_owned()));
    }

    #[test]
    fn what_a_list_tells_is_marked() {
        let listed = Listed {
            id: ID.into(),
            name: "web".into(),
            exit_code: Some(137),
            labels: [("a".to_owned(), "b".to_owned())].into(),
            ..Listed::default()
        };
        let die = Happening::reconciled("die", &listed, 5).line();
        let rest =
            ",\"image\":\"\",\"exit_code\":137,\"reconciled\":true,\"attributes\":{\"a\":\"b\"}}";
        assert!(die.ends_with(rest), "{die}");
        assert_eq!(Happening::reconciled("start", &listed, 5).exit_code, None);
    }

    proptest! {
        /// No label can pass for one of the members that stand before it.
        #[test]
        fn a_line_is_json_whatever_the_labels_say(
            labels in prop::collection::btree_map(any::<String>(), any::<String>(), 0..5),
        ) {
            let mut told = happening(&event("die", &[("exitCode", "0")]));
            told.attributes = labels.clone();
            let line = told.line();
            prop_assert!(!line.contains('\n'));
            let value: Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(&value["attributes"], &json!(labels));
            prop_assert_eq!(&value["exit_code"], &json!(0));
        }
    }

    fn lines_of(pieces: &[&[u8]]) -> Result<Vec<Vec<u8>>, EventTooLong> {
        let (mut lines, mut split) = (Vec::new(), EventLines::default());
        for piece in pieces {
            split.push(piece, |line| lines.push(line.to_vec()))?;
        }
        Ok(lines)
    }

    #[test]
    fn lines_are_bounded() {
        let longest = vec![b'x'; EVENT_MAX];
        let (head, tail) = longest.split_at(1000);
        assert_eq!(lines_of(&[&longest, b"\n"]), Ok(vec![longest.clone()]));
        assert_eq!(lines_of(&[head, tail, b"\r\n"]), Err(EventTooLong));
        assert_eq!(lines_of(&[&longest, b"x"]), Err(EventTooLong));
        assert_eq!(lines_of(&[&[longest.as_slice(), b"x\n"].concat()]), Err(EventTooLong));
    }

    proptest! {
        /// The naive splitter: the whole stream at hand.
        #[test]
        fn cuts_do_not_matter(
            bytes in prop::collection::vec(prop::sample::select(b"ab \r\n\n".to_vec()), 0..60),
            mut cuts in prop::collection::vec(0usize..60, 0..10),
        ) {
            let complete = bytes.iter().rposition(|&b| b == b'\n').unwrap_or(0);
            let expect: Vec<Vec<u8>> = bytes[..complete]
                .split(|&b| b == b'\n')
                .map(|line| line.trim_ascii().to_vec())
                .filter(|line| !line.is_empty())
                .collect();
            cuts.retain(|&cut| cut <= bytes.len());
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
            prop_assert_eq!(lines_of(&pieces), Ok(expect));
        }

        #[test]
        fn no_bytes_make_it_panic(at in 0usize..400, byte in any::<u8>(), cut in 0usize..400) {
            let mut json = event("die", &[("exitCode", "1")]).to_string().into_bytes();
            if let Some(place) = json.get_mut(at) {
                *place = byte;
            }
            let _ = parse_event(json.get(..cut).unwrap_or(&json));
        }
    }
}
