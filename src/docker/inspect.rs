//! What `GET /containers/{id}/json` and `GET /containers/json?all=1` say of a container.
//!
//! Pure: JSON in, facts out. The facts that a route or a sink may use are copied out once, when
//! the container is attached; the JSON is not kept.

use std::collections::BTreeMap;

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
}
