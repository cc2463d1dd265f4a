//! The policies that a fault meets: what a route is told, and what it promises for that.

/// How a route travels to rsyslog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// Syslog over TCP: what the receiver's host acknowledged counts as delivered.
    Tcp,
    /// RELP: what the receiver acknowledged counts as delivered.
    Relp,
}

/// What becomes of lines for which there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    /// None is lost.
    KeepsAll,
    /// Those that are lost are counted, each of them.
    Counts,
}

/// A policy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    /// What the table calls it.
    pub name: &'static str,
    /// How it travels.
    pub door: Door,
    /// The route's options.
    pub options: &'static str,
    /// Where its lines wait and its places are kept, if anywhere but in memory.
    pub keeps: Keeps,
    /// What it promises.
    pub promise: Promise,
}

/// What of a route is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeps {
    /// Nothing: what the program has not delivered ends with it.
    Nothing,
    /// How far each container was delivered (`STATE_DIR`).
    Places,
    /// The lines that wait (`spool`), and the places.
    Lines,
}

/// The route keeps its place in the containers' logs.
pub(crate) const BLOCK: Policy = Policy {
    name: "block",
    door: Door::Tcp,
    options: "&overflow=block",
    keeps: Keeps::Nothing,
    promise: Promise::KeepsAll,
};

/// The same over RELP.
pub(crate) const BLOCK_RELP: Policy = Policy { name: "block, relp", door: Door::Relp, ..BLOCK };

/// The place outlives the program.
pub(crate) const BLOCK_STATE: Policy =
    Policy { name: "block, STATE_DIR", keeps: Keeps::Places, ..BLOCK };

/// The same over RELP.
pub(crate) const BLOCK_STATE_RELP: Policy =
    Policy { name: "block, STATE_DIR, relp", door: Door::Relp, ..BLOCK_STATE };

/// Lines wait on a disk.
pub(crate) const SPOOL: Policy = Policy { name: "spool", keeps: Keeps::Lines, ..BLOCK };

/// The same over RELP.
pub(crate) const SPOOL_RELP: Policy = Policy { name: "spool, relp", door: Door::Relp, ..SPOOL };

/// The oldest lines go.
pub(crate) const DROP_OLDEST: Policy = Policy {
    name: "drop-oldest",
    options: "&overflow=drop-oldest",
    promise: Promise::Counts,
    ..BLOCK
};

/// The newest lines go.
pub(crate) const DROP_NEWEST: Policy =
    Policy { name: "drop-newest", options: "&overflow=drop-newest", ..DROP_OLDEST };

/// The same over RELP.
pub(crate) const DROP_NEWEST_RELP: Policy =
    Policy { name: "drop-newest, relp", door: Door::Relp, ..DROP_NEWEST };
