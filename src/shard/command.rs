//! What control tells a shard.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::docker::request::Api;

/// An order for a shard.
#[derive(Clone, Debug)]
pub enum Command {
    /// The daemon speaks this version of its API (said first, and after each reconnect).
    Daemon(Arc<Api>),
    /// Follow a container from now on, until it is destroyed.
    Follow {
        /// Its full id.
        id: String,
        /// Its name without the slash, as the event or list gave it.
        name: String,
        /// Its labels, as far as the event or list gave them.
        labels: BTreeMap<String, String>,
        /// How it came to be known.
        origin: Origin,
    },
    /// Something happened to a container that the shard follows.
    Signal {
        /// Its full id.
        id: String,
        /// What happened.
        signal: Signal,
    },
    /// Stop reading, deliver what is held for at most this long, end.
    Stop(Duration),
}

/// How a container came to be known, which says where its output is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was there when logchute started: from now on, or with its backlog if that is asked for.
    Found,
    /// It was created and has not started: all of its output.
    Created,
    /// It started, and was not known before: all of the output of this run.
    Started,
}

/// What happened to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// It started (again).
    Started,
    /// It goes on after a pause.
    Unpaused,
    /// It has another name.
    Renamed(String),
    /// It is gone.
    Destroyed,
    /// Events may have been missed; this is its name now.
    Check(String),
}
