//! What is said to receivers that answer, as the client sees it: [`super::relp`] and
//! [`super::forward`] have the protocols, [`super::answered`] a connection for either.
//!
//! Pure: records and bytes in, bytes and what they mean out.

use std::error::Error;
use std::time::Duration;

/// The client's side of a session: records and the server's bytes in, the client's bytes out, and
/// how many records are answered. Whatever is out of the ordinary ends it: what was not answered
/// has to be sent again over another.
pub trait Dialogue {
    /// Why a session is over: one line.
    type Failure: Error + Send + Sync + 'static;

    /// Whether the server has taken the session.
    fn is_open(&self) -> bool;

    /// Whether a record may be sent now.
    fn has_room(&self) -> bool;

    /// Whether records wait for an answer.
    fn is_waiting(&self) -> bool;

    /// How long the server may leave all of them without one; `None`: it gives no answers, and what
    /// its host has is told by [`Dialogue::arrived`].
    fn patience(&self) -> Option<Duration>;

    /// What the server has to say next, for an error.
    fn awaited(&self) -> &'static str;

    /// Takes a record to be sent. Only if there is [room](Dialogue::has_room).
    fn send(&mut self, record: &[u8], out: &mut Vec<u8>);

    /// Goes on making messages of the records that were taken, for a fraction of a millisecond;
    /// whether there is more to do.
    fn pack(&mut self, _out: &mut Vec<u8>) -> bool {
        false
    }

    /// Appends what there is to say in reply to the server.
    fn reply(&mut self, _out: &mut Vec<u8>) {}

    /// Appends the last words: nothing more may be sent.
    fn close(&mut self, out: &mut Vec<u8>);

    /// Whether the server has answered them.
    fn is_closed(&self) -> bool;

    /// How many more records the server has taken, in the order they were sent, since the last
    /// call.
    fn take_acknowledged(&mut self) -> usize;

    /// Takes what the server sent.
    ///
    /// # Errors
    /// Why the session is over.
    fn receive(&mut self, bytes: &[u8]) -> Result<(), Self::Failure>;

    /// The peer's host has so many of the session's bytes.
    fn arrived(&mut self, _bytes: u64) {}
}
