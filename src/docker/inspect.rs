//! What `GET /containers/{id}/json` and `GET /containers/json?all=1` say of a container.
//!
//! Pure: JSON in, facts out. The facts that a route or a sink may use are copied out once, when
//! the container is attached; the JSON is not kept. [`ignored`] says from these facts and the
//! settings whether a container is followed at all.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::{ExcludeLabel, FollowSettings};
use crate::docker::time::rfc3339;

/// One container, as its inspect answer describes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Container {
    /// The full id, 64 hexadecimal digits.
    pub id: String,
    /// The name without its leading slash.
    pub name: String,
    /// `Config.Image`: the image as the container's maker wrote it.
    pub image: String,
    /// `Config.Hostname`.
    pub hostname: String,
    /// `Config.Labels`.
    pub labels: BTreeMap<String, String>,
    /// `Config.Env`, `KEY=value` each.
    pub env: Vec<String>,
    /// `Config.Tty`: the streams have no frame headers.
    pub tty: bool,
    /// `HostConfig.LogConfig.Type`, e.g. `json-file`; empty where the daemon does not say.
    pub log_driver: String,
    /// What its log has at least once the daemon has thrown the oldest of it away, in bytes, by
    /// `HostConfig.LogConfig.Config`: all its files but one. `None` where it is never thrown away,
    /// or nobody knows.
    pub log_full: Option<u64>,
    /// `HostConfig.AutoRemove` (`--rm`).
    pub auto_remove: bool,
    /// `State.Pid`; 0 while it does not run.
    pub pid: u64,
    /// `State.Status`, reduced to what matters here.
    pub state: State,
    /// `State.StartedAt` in nanoseconds since 1970; `None` if it never started.
    pub started_at: Option<u64>,
    /// `State.FinishedAt` in nanoseconds since 1970: the end of the previous run, kept by the
    /// daemon while the container runs again; `None` if it never ended.
    pub finished_at: Option<u64>,
    /// The whole answer, kept only where a route's templates may ask for any of it: see
    /// [`Container::document`].
    pub answer: Option<Arc<[u8]>>,
}

/// `State.Status` of the Engine API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Created, never started.
    #[default]
    Created,
    /// Running (and not paused).
    Running,
    /// Running, frozen by `docker pause`.
    Paused,
    /// Ended, to be started again by its restart policy.
    Restarting,
    /// Ended.
    Exited,
    /// Being removed, or dead.
    Gone,
}

impl Container {
    /// The 12 digits that `docker ps` shows.
    pub fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }

    /// Whether a run of it has begun and not ended; it may be paused.
    pub fn is_running(&self) -> bool {
        matches!(self.state, State::Running | State::Paused)
    }

    /// The container as templates see it: the daemon's answer under the current name. Without the
    /// answer, as much of it as is known here.
    pub fn document(&self) -> Value {
        let answer = self.answer.as_deref().and_then(|json| serde_json::from_slice(json).ok());
        let mut document: Value = answer.unwrap_or_else(|| {
            json!({
                "Id": self.id,
                "Config": {
                    "Hostname": self.hostname, "Image": self.image, "Labels": self.labels,
                    "Env": self.env, "Tty": self.tty,
                },
                "HostConfig": {
                    "LogConfig": {"Type": self.log_driver}, "AutoRemove": self.auto_remove,
                },
                "State": {"Pid": self.pid},
            })
        });
        document["Name"] = format!("/{}", self.name).into();
        document
    }
}

/// One container, as the list shows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listed {
    /// The full id.
    pub id: String,
    /// The name without its leading slash; empty where the daemon gives none.
    pub name: String,
    /// What it is doing; [`State::Running`] where the daemon does not say.
    pub state: State,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The image, as the list shows it.
    pub image: String,
    /// Of one that has ended: its exit code, if the daemon says it.
    pub exit_code: Option<i64>,
}

/// Why an answer of the daemon could not be read. It shows the place, never the content, which
/// may hold a container's secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JsonError {
    /// It is no JSON, or ends too early.
    Syntax {
        /// Where, counted from 1.
        line: usize,
        /// Where in the line, in bytes.
        column: usize,
    },
    /// It is JSON of another shape.
    Shape {
        /// Where, counted from 1.
        line: usize,
        /// Where in the line, in bytes.
        column: usize,
    },
    /// It speaks of a container without an id.
    NoId,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JsonError::Syntax { line, column } => {
                write!(f, "the daemon's answer is broken JSON (line {line}, column {column})")
            }
            JsonError::Shape { line, column } => write!(
                f,
                "the daemon's answer has an unexpected JSON value (line {line}, column {column})"
            ),
            JsonError::NoId => f.write_str("the daemon's answer names a container without an id"),
        }
    }
}

impl std::error::Error for JsonError {}

impl From<serde_json::Error> for JsonError {
    fn from(error: serde_json::Error) -> JsonError {
        let (line, column) = (error.line(), error.column());
        match error.classify() {
            serde_json::error::Category::Data => JsonError::Shape { line, column },
            _ => JsonError::Syntax { line, column },
        }
    }
}

/// A map of the Engine API: absent, `null`, and with values that may be `null`.
pub(super) type JsonMap = Option<BTreeMap<String, Option<String>>>;

/// The map with every `null` as an empty one.
pub(super) fn filled(map: JsonMap) -> BTreeMap<String, String> {
    let pairs = map.unwrap_or_default().into_iter();
    pairs.map(|(key, value)| (key, value.unwrap_or_default())).collect()
}

/// `GET /containers/{id}/json`. Every member may be absent or `null`, as Podman's are at times.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawContainer {
    id: Option<String>,
    name: Option<String>,
    config: Option<RawConfig>,
    host_config: Option<RawHostConfig>,
    state: Option<RawState>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawConfig {
    hostname: Option<String>,
    image: Option<String>,
    labels: JsonMap,
    env: Option<Vec<String>>,
    tty: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawHostConfig {
    log_config: Option<RawLogConfig>,
    auto_remove: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawLogConfig {
    r#type: Option<String>,
    config: Option<Value>,
}

impl RawLogConfig {
    /// See [`Container::log_full`]; the defaults are those of the drivers `json-file` and `local`.
    fn full(&self) -> Option<u64> {
        let option = |name| self.config.as_ref()?.get(name)?.as_str();
        let (size, files) = match self.r#type.as_deref() {
            Some("json-file") => (None, 1),
            Some("local") => (Some(20_000_000), 5),
            _ => return None,
        };
        let size = option("max-size").and_then(decimal_size).or(size).filter(|size| *size > 0)?;
        let files = option("max-file").and_then(|text| text.parse().ok()).unwrap_or(files);
        Some(size.saturating_mul(u64::saturating_sub(files, 1)))
    }
}

/// A size as the daemon's log drivers read it: `10m` is ten million bytes.
fn decimal_size(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let text = text.strip_suffix('b').unwrap_or(&text);
    let unit = text.chars().next_back().and_then(|unit| "kmgtp".find(unit));
    let digits = if unit.is_some() { &text[..text.len() - 1] } else { text };
    let number: f64 = digits.trim().parse().ok()?;
    let size = number * 1000f64.powi(unit.map_or(0, |unit| unit as i32 + 1));
    (size.is_finite() && size >= 0.0).then_some(size as u64)
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawState {
    status: Option<String>,
    running: Option<bool>,
    paused: Option<bool>,
    restarting: Option<bool>,
    dead: Option<bool>,
    pid: Option<i64>,
    started_at: Option<String>,
    finished_at: Option<String>,
}

/// One element of `GET /containers/json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawListed {
    id: Option<String>,
    names: Option<Vec<String>>,
    state: Option<String>,
    status: Option<String>,
    labels: JsonMap,
    image: Option<String>,
}

/// Parses the answer to `GET /containers/{id}/json`.
///
/// # Errors
/// If it is not JSON of the documented shape, or has no `Id`.
pub fn parse_inspect(json: &[u8]) -> Result<Container, JsonError> {
    let raw: RawContainer = serde_json::from_slice(json)?;
    let config = raw.config.unwrap_or_default();
    let host_config = raw.host_config.unwrap_or_default();
    let state = raw.state.unwrap_or_default();
    let moment = |text: &Option<String>| rfc3339(text.as_deref()?.as_bytes());
    Ok(Container {
        id: some_id(raw.id)?,
        name: without_slash(raw.name.as_deref().unwrap_or_default()),
        image: config.image.unwrap_or_default(),
        hostname: config.hostname.unwrap_or_default(),
        labels: filled(config.labels),
        env: config.env.unwrap_or_default(),
        tty: config.tty.unwrap_or_default(),
        log_full: host_config.log_config.as_ref().and_then(RawLogConfig::full),
        log_driver: host_config.log_config.and_then(|log| log.r#type).unwrap_or_default(),
        auto_remove: host_config.auto_remove.unwrap_or_default(),
        pid: state.pid.and_then(|pid| u64::try_from(pid).ok()).unwrap_or_default(),
        state: state.reduced(),
        started_at: moment(&state.started_at),
        finished_at: moment(&state.finished_at),
        answer: None,
    })
}

/// Parses the answer to `GET /containers/json`.
///
/// # Errors
/// If it is not JSON of the documented shape, or a container has no `Id`.
pub fn parse_list(json: &[u8]) -> Result<Vec<Listed>, JsonError> {
    let raw: Option<Vec<RawListed>> = serde_json::from_slice(json)?;
    raw.unwrap_or_default().into_iter().map(RawListed::listed).collect()
}

/// The id, which must be there.
pub(super) fn some_id(id: Option<String>) -> Result<String, JsonError> {
    id.filter(|id| !id.is_empty()).ok_or(JsonError::NoId)
}

/// A name as Docker writes it, without the slash at its beginning.
pub(super) fn without_slash(name: &str) -> String {
    name.strip_prefix('/').unwrap_or(name).to_owned()
}

impl RawListed {
    fn listed(self) -> Result<Listed, JsonError> {
        let names = self.names.unwrap_or_default();
        // A legacy link adds `/other/alias` to the names of its target.
        let own = names.iter().find(|name| !name.trim_start_matches('/').contains('/'));
        let name = own.or(names.first()).map(|name| without_slash(name));
        let state = self.state.as_deref().and_then(state_of);
        let up = |status: &String| status.is_empty() || status.starts_with("Up");
        let exit_code = self.status.as_deref().and_then(exit_code);
        Ok(Listed {
            id: some_id(self.id)?,
            name: name.unwrap_or_default(),
            state: state.unwrap_or(match self.status {
                Some(status) if !up(&status) => State::Exited,
                _ => State::Running,
            }),
            labels: filled(self.labels),
            image: self.image.unwrap_or_default(),
            exit_code,
        })
    }
}

/// The code in a status for people: `Exited (137) 2 minutes ago`.
fn exit_code(status: &str) -> Option<i64> {
    status.strip_prefix("Exited (")?.split_once(')')?.0.parse().ok()
}

impl RawState {
    /// `Status` if it is known, else what the flags say.
    fn reduced(&self) -> State {
        let started = self.started_at.as_deref().is_some_and(|t| rfc3339(t.as_bytes()).is_some());
        let known = self.status.as_deref().and_then(state_of);
        known.unwrap_or(match self {
            RawState { dead: Some(true), .. } => State::Gone,
            RawState { paused: Some(true), .. } => State::Paused,
            RawState { restarting: Some(true), .. } => State::Restarting,
            RawState { running: Some(true), .. } => State::Running,
            _ if started => State::Exited,
            _ => State::Created,
        })
    }
}

/// The states of Docker (`container.State`) and of Podman (`define.ContainerStatus`).
fn state_of(status: &str) -> Option<State> {
    Some(match status {
        "created" | "configured" | "initialized" => State::Created,
        "running" | "stopping" => State::Running,
        "paused" => State::Paused,
        "restarting" => State::Restarting,
        "exited" | "stopped" => State::Exited,
        "removing" | "dead" => State::Gone,
        _ => return None,
    })
}

/// Why a container is not followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// Its environment holds `LOGSPOUT=ignore`.
    Environment,
    /// It has a label that `EXCLUDE_LABELS` names.
    Label {
        /// The label's key.
        key: String,
        /// Its value, as the container has it.
        value: String,
    },
    /// It has a terminal, and `ALLOW_TTY` is not set.
    Tty,
    /// Its log driver is not one of `LOG_DRIVERS`.
    LogDriver(String),
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ignored::Environment => f.write_str("its environment says LOGSPOUT=ignore"),
            Ignored::Label { key, value } => {
                write!(f, "EXCLUDE_LABELS excludes its label {key}={value}")
            }
            Ignored::Tty => f.write_str("it has a terminal (ALLOW_TTY=true follows it)"),
            Ignored::LogDriver(driver) => write!(
                f,
                "its log driver is {driver} (LOG_DRIVERS={driver} or LOG_DRIVERS=all follows it)"
            ),
        }
    }
}

/// Whether the settings keep logchute from following `container`, and why; the reasons are
/// looked at in Logspout's order. Whether it is logchute's own container is not looked at.
pub fn ignored(container: &Container, follow: &FollowSettings) -> Option<Ignored> {
    if container.env.iter().any(|variable| asks_to_be_ignored(variable)) {
        return Some(Ignored::Environment);
    }
    let excluded = follow.exclude_labels.iter().find_map(|entry| excludes(entry, container));
    if excluded.is_some() {
        return excluded;
    }
    if container.tty && !follow.allow_tty {
        return Some(Ignored::Tty);
    }
    let driver = &container.log_driver;
    let followed = follow.log_drivers.as_ref().is_none_or(|drivers| drivers.contains(driver));
    (!followed && !driver.is_empty()).then(|| Ignored::LogDriver(driver.clone()))
}

/// Whether the container's maker or the settings want nothing at all of it, whatever its output is:
/// of the reasons of [`ignored`] the first two.
pub fn is_unwanted(container: &Container, follow: &FollowSettings) -> bool {
    let env = container.env.iter().any(|variable| asks_to_be_ignored(variable));
    env || follow.exclude_labels.iter().any(|entry| excludes(entry, container).is_some())
}

fn asks_to_be_ignored(variable: &str) -> bool {
    let value = variable.strip_prefix("LOGSPOUT=");
    value.is_some_and(|value| value.eq_ignore_ascii_case("ignore"))
}

fn excludes(entry: &ExcludeLabel, container: &Container) -> Option<Ignored> {
    let value = container.labels.get(&entry.key)?;
    value
        .eq_ignore_ascii_case(&entry.value)
        .then(|| Ignored::Label { key: entry.key.clone(), value: value.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "3edafbdfe8dbd1349ef2c5ae783545a50a2502d1886b231de6aae0f6d4bf417d";

    fn answer() -> Value {
        json!({
            "Id": ID,
            "Created": "2024-05-06T07:08:09.123456789Z",
            "Path": "/bin/sh",
            "Args": ["-c", "run"],
            "State": {
                "Status": "running", "Running": true, "Paused": false, "Restarting": false,
                "OOMKilled": false, "Dead": false, "Pid": 4242, "ExitCode": 0, "Error": "",
                "StartedAt": "2024-05-06T07:08:09.5Z", "FinishedAt": "0001-01-01T00:00:00Z",
            },
            "Image": "sha256:bd41",
            "Name": "/web",
            "RestartCount": 0,
            "HostConfig": {"LogConfig": {"Type": "json-file", "Config": {}}, "AutoRemove": true},
            "Config": {
                "Hostname": "3edafbdfe8db", "User": "", "Tty": true, "Env": ["A=b", "C="],
                "Image": "alpine:3.18", "Labels": {"k": "v"},
            },
        })
    }

    fn inspect(answer: &Value) -> Container {
        parse_inspect(answer.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn an_inspect_answer() {
        let expect = Container {
            id: ID.into(),
            name: "web".into(),
            image: "alpine:3.18".into(),
            hostname: "3edafbdfe8db".into(),
            labels: BTreeMap::from([("k".into(), "v".into())]),
            env: vec!["A=b".into(), "C=".into()],
            tty: true,
            log_driver: "json-file".into(),
            log_full: None,
            auto_remove: true,
            pid: 4242,
            state: State::Running,
            started_at: Some(1_714_979_289_500_000_000),
            finished_at: None,
            answer: None,
        };
        assert_eq!(inspect(&answer()), expect);
        assert_eq!(expect.short_id(), "3edafbdfe8db");
    }

    #[test]
    fn templates_see_the_answer_under_the_current_name() {
        let mut container = inspect(&answer());
        container.name = "renamed".into();
        let known = container.document();
        assert_eq!(known["Name"], "/renamed");
        assert_eq!(known["Config"]["Labels"]["k"], "v");
        container.answer = Some(answer().to_string().into_bytes().into());
        let mut expected = answer();
        expected["Name"] = "/renamed".into();
        assert_eq!(container.document(), expected);
    }

    #[test]
    fn absent_and_null_members_are_empty() {
        let bare = Container { id: ID.into(), ..Container::default() };
        assert_eq!(inspect(&json!({"Id": ID})), bare);
        let nulls =
            json!({"Id": ID, "Name": null, "Config": null, "HostConfig": null, "State": null});
        assert_eq!(inspect(&nulls), bare);
        let inner = json!({
            "Id": ID,
            "Config": {"Hostname": null, "Image": null, "Labels": null, "Env": null, "Tty": null},
            "HostConfig": {"LogConfig": {"Type": null}, "AutoRemove": null},
            "State": {"Status": null, "Running": null, "Pid": -1, "StartedAt": null},
        });
        assert_eq!(inspect(&inner), bare);
        let label =
            json!({"Id": ID, "Config": {"Labels": {"k": null}}, "HostConfig": {"LogConfig": null}});
        assert_eq!(inspect(&label).labels, BTreeMap::from([("k".into(), String::new())]));
    }

    #[test]
    fn times_with_an_offset() {
        let mut answer = answer();
        answer["State"]["StartedAt"] = "2024-05-06T09:08:09.5+02:00".into();
        answer["State"]["FinishedAt"] = "2024-05-06T09:08:10+02:00".into();
        let container = inspect(&answer);
        assert_eq!(container.started_at, Some(1_714_979_289_500_000_000));
        assert_eq!(container.finished_at, Some(1_714_979_290_000_000_000));
    }

    #[test]
    fn states() {
        let started = "2024-05-06T07:08:09Z";
        for (state, expect) in [
            (json!({"Status": "created"}), State::Created),
            (json!({"Status": "running", "Running": true}), State::Running),
            (json!({"Status": "paused", "Running": true, "Paused": true}), State::Paused),
            (json!({"Status": "restarting", "Running": true}), State::Restarting),
            (json!({"Status": "exited", "StartedAt": started}), State::Exited),
            (json!({"Status": "removing", "Running": true}), State::Gone),
            (json!({"Status": "dead"}), State::Gone),
            (json!({"Status": "initialized"}), State::Created),
            (json!({"Status": "stopping", "Running": true}), State::Running),
            (json!({"Status": "stopped"}), State::Exited),
            (json!({"Status": "brandnew", "Running": true}), State::Running),
            (json!({"Running": true, "Paused": true}), State::Paused),
            (json!({"Running": true, "Restarting": true}), State::Restarting),
            (json!({"Dead": true}), State::Gone),
            (json!({"Running": false, "StartedAt": started}), State::Exited),
            (json!({"Running": false, "StartedAt": "0001-01-01T00:00:00Z"}), State::Created),
        ] {
            assert_eq!(inspect(&json!({"Id": ID, "State": state})).state, expect, "{state}");
        }
    }

    #[test]
    fn a_list() {
        let list = json!([
            {"Id": "a", "Names": ["/db/alias", "/web"], "State": "paused", "Labels": {"k": "v"},
                "Image": "nginx"},
            {"Id": "b", "Names": ["db"], "State": "dead", "Labels": null},
            {"Id": "c", "Names": null, "State": "new", "Status": "Exited (137) 2 days ago"},
            {"Id": "d", "Names": ["/x/y"], "Status": "Up 2 days"},
            {"Id": "e"},
        ]);
        let listed = |id: &str, name: &str, state, labels: &[(&str, &str)]| Listed {
            id: id.into(),
            name: name.into(),
            state,
            labels: labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
            ..Listed::default()
        };
        let ended = Listed { exit_code: Some(137), ..listed("c", "", State::Exited, &[]) };
        let expect = [
            Listed { image: "nginx".into(), ..listed("a", "web", State::Paused, &[("k", "v")]) },
            listed("b", "db", State::Gone, &[]),
            ended,
            listed("d", "x/y", State::Running, &[]),
            listed("e", "", State::Running, &[]),
        ];
        assert_eq!(parse_list(list.to_string().as_bytes()).unwrap(), expect);
        assert_eq!(parse_list(b"[]"), Ok(vec![]));
        assert_eq!(parse_list(b"null"), Ok(vec![]));
    }

    #[test]
    fn errors_name_the_place_and_no_content() {
        let shape = parse_inspect(br#"{"Id":"a","Config":{"Env":"PASSWORD=secret"}}"#).unwrap_err();
        assert_eq!(shape, JsonError::Shape { line: 1, column: 43 });
        assert!(!shape.to_string().contains("secret"), "{shape}");
        let syntax = parse_inspect(b"{\n\"Id\": ").unwrap_err();
        assert_eq!(syntax, JsonError::Syntax { line: 2, column: 6 });
        assert_eq!(parse_inspect(b"{}"), Err(JsonError::NoId));
        assert_eq!(parse_list(br#"[{"Id":""}]"#), Err(JsonError::NoId));
        assert!(matches!(parse_list(b"<html>"), Err(JsonError::Syntax { .. })));
    }

    fn follow() -> FollowSettings {
        let drivers = ["json-file", "local", "journald", "db"];
        FollowSettings {
            allow_tty: false,
            backlog: false,
            tail: None,
            exclude_labels: vec![],
            log_drivers: Some(drivers.map(String::from).to_vec()),
            follow_self: false,
        }
    }

    fn label(key: &str, value: &str) -> ExcludeLabel {
        ExcludeLabel { key: key.into(), value: value.into() }
    }

    #[test]
    fn logspout_ignore() {
        for (variable, expect) in [
            ("LOGSPOUT=ignore", true),
            ("LOGSPOUT=IgNoRe", true),
            ("logspout=ignore", false),
            ("LOGSPOUT=ignore=x", false),
            ("LOGSPOUT= ignore", false),
            ("LOGSPOUT", false),
            ("LOGSPOUT_X=ignore", false),
            ("XLOGSPOUT=ignore", false),
        ] {
            let env = vec!["A=1".into(), variable.into()];
            let container = Container { env, ..Container::default() };
            let expect = expect.then_some(Ignored::Environment);
            assert_eq!(ignored(&container, &follow()), expect, "{variable}");
        }
    }

    #[test]
    fn excluded_labels() {
        let entries = vec![label("env", "DEV"), label("quiet", "true"), label("url", "http:80")];
        let follow = FollowSettings { exclude_labels: entries, ..follow() };
        for (key, value, expect) in [
            ("env", "dev", true),
            ("env", "prod", false),
            ("env", "", false),
            ("ENV", "dev", false),
            ("quiet", "True", true),
            ("url", "http:80", true),
            ("other", "true", false),
        ] {
            let labels = BTreeMap::from([(key.into(), value.into())]);
            let container = Container { labels, ..Container::default() };
            let expect = expect.then(|| Ignored::Label { key: key.into(), value: value.into() });
            assert_eq!(ignored(&container, &follow), expect, "{key}={value}");
        }
    }

    #[test]
    fn terminals_and_drivers() {
        let tty = Container { tty: true, ..Container::default() };
        assert_eq!(ignored(&tty, &follow()), Some(Ignored::Tty));
        assert_eq!(ignored(&tty, &FollowSettings { allow_tty: true, ..follow() }), None);
        let with = |driver: &str| Container { log_driver: driver.into(), ..Container::default() };
        assert_eq!(ignored(&with("local"), &follow()), None);
        assert_eq!(ignored(&with(""), &follow()), None);
        let none = ignored(&with("none"), &follow()).unwrap();
        assert_eq!(none, Ignored::LogDriver("none".into()));
        assert!(none.to_string().contains("LOG_DRIVERS=none"), "{none}");
        let every = FollowSettings { log_drivers: None, ..follow() };
        assert_eq!(ignored(&with("none"), &every), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(at in 0usize..900, byte in any::<u8>(), cut in 0usize..900) {
            let mut json = answer().to_string().into_bytes();
            if let Some(place) = json.get_mut(at) {
                *place = byte;
            }
            let _ = parse_inspect(json.get(..cut).unwrap_or(&json));
            let _ = parse_list(&json);
        }
    }

    #[test]
    fn a_log_that_is_rotated_is_so_full() {
        let full = |driver: &str, config: Value| {
            let log = json!({"Type": driver, "Config": config});
            inspect(&json!({"Id": ID, "HostConfig": {"LogConfig": log}})).log_full
        };
        assert_eq!(full("json-file", json!({})), None, "it grows for ever");
        assert_eq!(full("json-file", json!({"max-size": "-1"})), None);
        assert_eq!(full("json-file", json!({"max-size": "10m"})), Some(0), "one file");
        let three = json!({"max-size": "10m", "max-file": "3"});
        assert_eq!(full("json-file", three.clone()), Some(20_000_000));
        assert_eq!(full("local", json!(null)), Some(80_000_000));
        assert_eq!(full("local", json!({"max-size": "1.5KB", "max-file": "2"})), Some(1500));
        assert_eq!(full("journald", three), None);
        assert_eq!(full("json-file", json!({"max-size": 5, "max-file": "x"})), None);
        for (text, size) in [("100", Some(100)), ("2 g", Some(2_000_000_000)), ("k", None)] {
            assert_eq!(decimal_size(text), size, "{text}");
        }
    }
}
