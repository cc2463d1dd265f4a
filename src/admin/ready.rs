//! `/ready`: whether lines come in and can go out, as JSON that names what is not so. Pure.

use hyper::StatusCode;
use serde::Serialize;

use super::answer::{Answer, JSON, plain};

/// Whether lines come in and can go out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// All of it is well.
    pub ready: bool,
    /// The daemon.
    pub docker: Docker,
    /// The routes.
    pub routes: Vec<RouteState>,
}

/// The daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Docker {
    /// Its events come, and its containers are known.
    pub connected: bool,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RouteState {
    /// What metrics call it.
    pub route: String,
    /// Where it leads, without secrets.
    pub uri: String,
    /// Whether its receiver is reached.
    pub state: LinkState,
    /// For how many seconds it has not been.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub down_seconds: Option<u64>,
    /// Why it is not, as of the last attempt, without secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Lines whose container and source the route takes.
    pub received: u64,
    /// Those that an earlier run of the program had left in its spool.
    #[serde(skip_serializing_if = "is_zero")]
    pub found: u64,
    /// Of all these, those that its filters kept out.
    pub filtered: u64,
    /// Those that became part of the record of a line before them.
    #[serde(skip_serializing_if = "is_zero")]
    pub joined: u64,
    /// Those that the receiver's side has taken.
    pub delivered: u64,
    /// Those that were dropped, for any reason.
    pub dropped: u64,
    /// Those that wait.
    pub held: u64,
}

/// Most routes join nothing, nor find anything, and then there is nothing to say.
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Whether a receiver is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    /// It is; over UDP: nobody said that it is not.
    Connected,
    /// The first attempt is under way.
    Connecting,
    /// It is not, and is tried again and again.
    Down,
}

impl Readiness {
    /// All is well where the daemon is connected and every route's receiver reached.
    pub fn new(connected: bool, routes: Vec<RouteState>) -> Readiness {
        let reached = routes.iter().all(|route| route.state == LinkState::Connected);
        Readiness { ready: connected && reached, docker: Docker { connected }, routes }
    }
}

/// 200 if all is well, else 503; the body is the same.
pub(super) fn answer(readiness: &Readiness) -> Answer {
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    // Texts and numbers can always be written.
    let text = serde_json::to_string_pretty(readiness).unwrap_or_default();
    plain(status, JSON, text + "\n")
}
