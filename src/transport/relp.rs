//! RELP, rsyslog's protocol with acknowledgements: [`session`] has the protocol,
//! [`super::answered`] a connection for it.

use std::io;

use super::answered::Line;
use super::conn::Conn;
use session::Session;

pub mod session;

/// Opens a session over `conn`.
pub(super) async fn open(conn: Conn) -> io::Result<Line<Session>> {
    let mut first = Vec::new();
    let session = Session::open(&mut first);
    Line::open(conn, session, first).await
}
