//! Fluentd's forward protocol, to Fluentd, Fluent Bit and those that speak it: [`session`] has the
//! protocol, [`login`] the shared key, [`super::answered`] a connection for it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};

use super::answered::Line;
use super::conn::Conn;
pub use login::Login;
use session::{RANDOM, Session};

mod gzip;
pub mod login;
pub mod session;

/// How long a server may leave all messages that wait for an answer without one, where nothing else
/// is said.
pub const ACK_TIMEOUT: Duration = Duration::from_secs(90);

/// How to speak to a server.
pub struct Terms {
    /// What to say to one that asks for a shared key.
    pub login: Option<Login>,
    /// Messages are to be acknowledged; else what the peer's host has is delivered.
    pub acks: bool,
    /// Records are compressed.
    pub gzip: bool,
    /// How long a server may leave all messages without an answer.
    pub ack_timeout: Duration,
}

/// Opens a session over `conn`.
pub(super) async fn open(conn: Conn, terms: &Arc<Terms>) -> io::Result<Line<Session>> {
    let mut random = [0; RANDOM];
    SystemRandom::new()
        .fill(&mut random)
        .map_err(|_| io::Error::other("the operating system gives no random numbers"))?;
    Line::open(conn, Session::new(Arc::clone(terms), random), Vec::new()).await
}
