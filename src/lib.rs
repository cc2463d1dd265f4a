//! logchute: every line of every container of a Docker host, routed to where it belongs.
//!
//! The way of a line, top to bottom; each stage knows only the output types of those above it:
//!
//! | stage | module | in → out |
//! | --- | --- | --- |
//! | read | [`io`] | socket → bytes in a buffer that the shard owns |
//! | demux | [`docker`] | bytes → frames (views into that buffer) |
//! | split | [`lines`] | frames → blocks of whole lines (views, or the bounded carry) |
//! | verdict | [`route`] | blocks → runs of lines that a route wants |
//! | encode | [`sink`] | runs → records in the route's [`buffer::Outbox`] |
//! | deliver | [`transport`] | outbox → receiver |
//!
//! What a route's memory has no room for waits in its [`spool`], if it has one.
//!
//! [`shard`] alone composes the stages. [`control`] decides which container is read by which
//! shard; [`admin`] shows what happens. [`config`] is read once, at start.
//! Stages are pure: bytes (and `now`) in, values out; they never wait and never touch the OS.

pub mod admin;
pub mod buffer;
pub mod config;
pub mod control;
pub mod docker;
pub mod doors;
pub mod io;
pub mod lines;
pub mod metrics;
pub mod msgpack;
pub mod route;
pub mod shard;
pub mod sink;
pub mod spool;
pub mod stamp;
pub mod sys;
pub mod template;
pub mod transport;

/// The whole program without threads and sockets: inside the library, so that what only it needs
/// is not in what is shipped.
#[cfg(test)]
#[path = "../tests/sim/mod.rs"]
mod sim;
