//! What a scenario is: the containers and their lines, how they come, and where they go. Pure
//! description; `catalog` lists them, `run` plays them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One thing to measure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scenario {
    /// Short, of `[a-z0-9-]`: what `--scenario` and the targets name it by.
    pub name: String,
    /// What it shows, in a few words.
    pub title: String,
    /// Scenarios of the same group are played in turn, so that they can be compared.
    pub group: String,
    /// What comes from the engine.
    pub source: Source,
    /// What logchute does with it.
    pub forward: Forward,
    /// Time that is measured, after a warm-up of a quarter of it.
    pub time: Duration,
    /// Whether `--quick` plays it.
    pub quick: bool,
    /// Whether it is played without `--full`.
    pub usual: bool,
}

/// The containers and what they write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// How many containers write.
    pub containers: u16,
    /// Mean length of a line in bytes, its newline included.
    pub line: u32,
    /// How lines lie in frames.
    pub frames: Frames,
    /// How fast they come.
    pub pace: Pace,
    /// Which of the lines hold a word that a filter looks for.
    pub hits: Hits,
    /// The door of the engine that works.
    pub door: Door,
}

/// How lines lie in the frames of the stream, and frames in the `write()`s of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Frames {
    /// Each line has a frame, many frames come with one write.
    Line,
    /// Each line has a frame, each frame has a write.
    Write,
    /// So many lines share a frame.
    Lines(u16),
    /// Frames of so many bytes, which cut lines anywhere.
    Cut(u32),
}

/// How fast lines come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pace {
    /// As fast as they are received at the other end, so that no forwarder has to drop any.
    Saturated,
    /// So many lines a second, all containers together, each at its own time.
    Rate(u32),
    /// None.
    Silent,
}

/// Which lines a filter lets through. Class k of lines (from 1) holds a word of route k.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hits {
    /// Of so many lines of a container one is of each class; 0: no line is.
    pub every: u32,
    /// How many classes there are; not more than `every`.
    pub classes: u8,
}

impl Hits {
    /// No line is of interest to a filter.
    pub const NONE: Hits = Hits { every: 0, classes: 0 };
}

/// A door of the Docker API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Door {
    /// `POST /containers/ID/attach`, `GET /containers/ID/logs`.
    Both,
    /// `GET /containers/ID/logs?follow=1` alone: attach is refused, as by proxies.
    Logs,
}

/// What logchute is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forward {
    /// Its routes; none for a scenario that only looks at the engine's side.
    pub routes: Vec<Route>,
    /// Threads that carry lines.
    pub shards: u8,
    /// I/O driver: `auto`, `ring` or `poll`.
    pub io: String,
}

/// A route and the receiver at its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Who listens.
    pub receiver: Receiver,
    /// Which lines pass.
    pub filter: Filter,
}

/// A receiver of this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Receiver {
    /// Syslog over tcp, newline-ended.
    Tcp,
    /// Syslog over tcp, octet-counted.
    OctetCounted,
    /// Syslog over udp.
    Udp,
    /// Syslog over tls, newline-ended.
    Tls,
    /// A Slack webhook over https.
    Slack,
    /// Nobody: the port is closed.
    Dead,
}

/// Which lines a route lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Filter {
    /// All.
    None,
    /// `filter.match` of four words, any case: those of class k.
    Words(u8),
    /// `filter.match=.*error`: those of class 1.
    DotStarError,
}
