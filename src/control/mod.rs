//! Those who command: which containers are followed, by which shard, and when it all ends.
//!
//! Runs beside the shards, on the main thread; speaks to them over bounded channels and never
//! touches a line.

mod book;
pub mod build;
pub mod chronicle;
mod failure;
mod fleet;
pub mod limits;
pub mod own;
pub mod placement;
pub mod registry;
pub mod routes;
pub mod run;
mod sight;
pub mod slack_test;
pub(crate) mod state;
mod store;
mod viewers;
pub mod watch;
mod webhooks;
