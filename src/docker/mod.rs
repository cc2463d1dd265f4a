//! The Docker Engine API, by hand: requests as bytes, answers parsed by pure functions.
//!
//! Nothing here reads a socket or a clock. [`frame`] demultiplexes the attach and logs streams,
//! [`http1`] parses answers, [`inspect`], [`events`] and [`stats`] their JSON, [`logs`] the
//! timestamps that the `logs` door writes before each message, [`time`] reads them, [`endpoint`]
//! says where the daemon is.

pub mod endpoint;
pub mod events;
pub mod frame;
pub mod http1;
pub mod inspect;
pub mod logs;
pub mod request;
pub mod stats;
pub mod time;

/// Which of a container's outputs a byte came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// Standard output; also everything a TTY container writes.
    Stdout = 0,
    /// Standard error.
    Stderr = 1,
    /// What the container used: lines that are made of the daemon's stats, each a JSON object.
    Stats = 2,
    /// What the daemon did: lines that are made of its events, each a JSON object.
    Events = 3,
}

impl Source {
    /// Every source, in the order of their discriminants: `Source::ALL[s as usize] == s`.
    pub const ALL: [Source; 4] = [Source::Stdout, Source::Stderr, Source::Stats, Source::Events];

    /// What containers write, which is all that the attach and logs doors carry; in the order of
    /// their discriminants, which are less than 2.
    pub const OUTPUTS: [Source; 2] = [Source::Stdout, Source::Stderr];

    /// Whether containers write it: the others are lines that logchute makes.
    pub fn is_output(self) -> bool {
        matches!(self, Source::Stdout | Source::Stderr)
    }

    /// The name that `filter.sources` and the JSON output use.
    pub fn name(self) -> &'static str {
        match self {
            Source::Stdout => "stdout",
            Source::Stderr => "stderr",
            Source::Stats => "stats",
            Source::Events => "events",
        }
    }
}
