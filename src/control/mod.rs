//! Those who command: which containers are followed, by which shard, and when it all ends.
//!
//! Runs beside the shards, on the main thread; speaks to them over bounded channels and never
//! touches a line.

pub mod build;
pub mod limits;
pub mod own;
pub mod registry;
pub mod run;
pub mod watch;
