//! Delivers over a byte stream: many records a write, and after a reconnect first what was not
//! acknowledged, from a record boundary on.
//!
//! Records are delivered when the peer's host has acknowledged their bytes, which its kernel and
//! ours know of each other. Nobody is told when that happens, so it is asked for: after each write,
//! and now and then while something waits. With `resend=off` it is our kernel's word that counts.
//! Where the receiver answers ([`super::relp`], [`super::forward`]) it is the receiver's own.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::conn::{Conn, Sent};
use super::link::{Action, Event, Link};
use super::queue::Queue;
use super::{Shore, StreamTarget, answered, forward, relp};
use crate::io::clock;
#[cfg(test)]
use crate::io::sim::{self, Planted};
use crate::io::stream::Closer;

/// How often an idle connection is looked at, so that its end is known before the next record.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often it is looked whether the peer has everything, at the end.
pub(super) const SETTLE_STEP: Duration = Duration::from_millis(5);
/// The same while nothing else is to be done, from pause to pause twice as long. Hosts that have
/// nothing to say acknowledge after 40 ms.
pub(super) const LEISURE: (Duration, Duration) =
    (Duration::from_millis(50), Duration::from_secs(1));
/// The same while nothing more may be sent.
pub(super) const HASTE: (Duration, Duration) =
    (Duration::from_millis(1), Duration::from_millis(100));

/// How long a peer that sends no more may acknowledge nothing: longer than it takes a host that has
/// nothing to say.
const LINGER: Duration = Duration::from_millis(100);

/// What is spoken over the stream.
#[derive(Clone, Copy)]
pub enum Protocol<'a> {
    /// One record after the other, and no answers.
    Plain,
    /// RELP: each record is answered.
    Relp,
    /// Fluentd's forward protocol: messages of many records, which are answered.
    Forward(&'a Arc<forward::Terms>),
}

/// Delivers `queue` to `target` until it is done.
pub async fn deliver(shore: &Shore, target: &StreamTarget, protocol: Protocol<'_>, queue: &Queue) {
    if !shore.eager {
        queue.wait().await;
    }
    let mut link = Link::new(shore.seed);
    let mut line = None;
    let mut opened = 0u64;
    let mut now = clock::now();
    while !queue.is_done() {
        match (link.poll(now), line.take()) {
            (Action::Ready, Some(open)) => match Line::serve(&open, queue).await {
                Ok(()) => open.close(queue).await,
                Err(error) => link.handle(Event::Failed(target.explain(&error)), clock::now()),
            },
            (Action::Wait(until), _) => {
                now = queue.pause(until).await;
                continue;
            }
            (Action::Connect | Action::Ready, _) => match Line::open(shore, target, protocol).await
            {
                Ok(open) => {
                    queue.connected(Some(open.closer()));
                    queue.counters.reconnects.add(u64::from(opened > 0));
                    opened += 1;
                    line = Some(open);
                    link.handle(Event::Connected, clock::now());
                }
                Err(error) => link.handle(Event::Failed(target.explain(&error)), clock::now()),
            },
        }
        if line.is_none() {
            queue.connected(None);
        }
        super::say(&mut link, queue);
        now = clock::now();
    }
}

/// A connection, ready for records.
enum Line {
    Plain(Conn),
    Relp(answered::Line<relp::session::Session>),
    Forward(answered::Line<forward::session::Session>),
}

impl Line {
    async fn open(
        shore: &Shore,
        target: &StreamTarget,
        protocol: Protocol<'_>,
    ) -> io::Result<Line> {
        let conn = Conn::open(shore.driver, target, &shore.pool).await?;
        Ok(match protocol {
            Protocol::Plain => Line::Plain(conn),
            Protocol::Relp => Line::Relp(relp::open(conn).await?),
            Protocol::Forward(terms) => Line::Forward(forward::open(conn, terms).await?),
        })
    }

    fn closer(&self) -> Closer {
        match self {
            Line::Plain(conn) => conn.closer(),
            Line::Relp(line) => line.closer(),
            Line::Forward(line) => line.closer(),
        }
    }

    /// Delivers until the connection fails (`Err`) or the queue is done.
    async fn serve(&self, queue: &Queue) -> io::Result<()> {
        let result = match self {
            Line::Plain(conn) => {
                let mut sender = Sender::new(conn, queue);
                let result = sender.run().await;
                sender.note();
                if result.as_ref().is_err_and(is_end) {
                    sender.linger().await;
                }
                result
            }
            Line::Relp(line) => line.serve(queue).await,
            Line::Forward(line) => line.serve(queue).await,
        };
        #[cfg(test)]
        if sim::planted(Planted::NothingAgain) {
            queue.acknowledged(usize::MAX / 2);
        }
        queue.rewind();
        result
    }

    /// Ends a connection that has nothing left to deliver.
    async fn close(self, queue: &Queue) {
        match self {
            Line::Plain(conn) => {
                settle(&conn, queue).await;
                conn.close().await;
            }
            Line::Relp(line) => line.close(queue).await,
            Line::Forward(line) => line.close(queue).await,
        }
    }
}

/// Waits until the peer's host has acknowledged everything, TLS' own words among it. Until then it
/// is in our kernel alone, and goes with it where a container's network ends with its last process;
/// and to close while something from the peer is unread (TLS tickets) would reset the connection
/// and discard it.
async fn settle(conn: &Conn, queue: &Queue) {
    let closer = conn.closer();
    while closer.unsent() > 0 && !queue.is_given_up() && conn.check_peer().is_ok() {
        tokio::time::sleep(SETTLE_STEP).await;
    }
}

/// Whether this is the end of what the peer sends, rather than a failure.
fn is_end(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionAborted
}

/// Sends over one connection.
struct Sender<'a> {
    conn: &'a Conn,
    queue: &'a Queue,
    /// Bytes of records that our kernel has taken.
    taken: u64,
    /// Of these, those that are known to be acknowledged, or count as such.
    known: u64,
    /// How long it was waited for more of these the last time, in vain.
    waited: Duration,
}

impl<'a> Sender<'a> {
    fn new(conn: &'a Conn, queue: &'a Queue) -> Sender<'a> {
        Sender { conn, queue, taken: 0, known: 0, waited: Duration::ZERO }
    }

    async fn run(&mut self) -> io::Result<()> {
        while !self.queue.is_done() {
            if self.queue.may_send() {
                self.send().await?;
            } else {
                self.wait(HASTE).await?;
            }
        }
        Ok(())
    }

    /// Sends the oldest chunk; waits for one if there is none.
    async fn send(&mut self) -> io::Result<()> {
        let Some(mut chunk) = self.queue.take() else { return self.rest().await };
        if let Err(closed) = self.conn.check_peer() {
            self.queue.put_back(chunk);
            return Err(closed);
        }
        let (bytes, from) = chunk.lend();
        let Sent { bytes, taken, result } = self.conn.send(bytes, from).await;
        chunk.restore(bytes);
        self.queue.sent(chunk, taken);
        self.taken += taken as u64;
        self.note();
        result
    }

    /// Waits for records, and meanwhile for what was sent to be acknowledged.
    async fn rest(&mut self) -> io::Result<()> {
        if !self.queue.has_sent() {
            if tokio::time::timeout(LOOK_EVERY, self.queue.wait()).await.is_err() {
                self.queue.trim();
                self.conn.check_peer()?;
            }
            return Ok(());
        }
        if self.queue.is_last() {
            return self.wait((SETTLE_STEP, SETTLE_STEP)).await;
        }
        let pause = self.pause(LEISURE);
        if tokio::time::timeout(pause, self.queue.wait()).await.is_ok() {
            return Ok(());
        }
        self.look(pause)
    }

    /// Waits for what was sent to be acknowledged, from `range.0` to `range.1`.
    async fn wait(&mut self, range: (Duration, Duration)) -> io::Result<()> {
        let pause = self.pause(range);
        tokio::time::sleep(pause).await;
        self.look(pause)
    }

    /// Waits, when the peer sends no more, for what was sent to arrive, as long as it goes on doing
    /// so: the peer may still read. Where it does not, its host soon resets the connection.
    async fn linger(&mut self) {
        let mut moved = clock::now();
        while self.queue.has_sent() && !self.queue.is_given_up() && clock::now() - moved < LINGER {
            tokio::time::sleep(SETTLE_STEP).await;
            let closed = self.conn.check_peer();
            if self.note() {
                moved = clock::now();
            }
            if !closed.is_err_and(|error| is_end(&error)) {
                return;
            }
        }
    }

    fn pause(&self, (least, most): (Duration, Duration)) -> Duration {
        (self.waited * 2).clamp(least, most)
    }

    /// Looks, after such a pause, what was acknowledged meanwhile, and if nothing was whether the
    /// peer is still there.
    fn look(&mut self, pause: Duration) -> io::Result<()> {
        if !self.note() {
            self.waited = pause;
            self.conn.check_peer()?;
        }
        Ok(())
    }

    /// Counts what is acknowledged; says whether anything was that was not before.
    fn note(&mut self) -> bool {
        let known = if self.queue.resends() { self.conn.acknowledged() } else { self.taken };
        #[cfg(test)]
        let known = match sim::planted(Planted::OneTooMany) {
            true => self.taken.min(known + 100),
            false => known,
        };
        let more = known.saturating_sub(self.known);
        if more > 0 {
            self.known = known;
            self.waited = Duration::ZERO;
            self.queue.acknowledged(more as usize);
            self.conn.arrived();
        }
        more > 0
    }
}
