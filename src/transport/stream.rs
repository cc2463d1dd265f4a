//! Delivers over a byte stream: many records a write, and after a reconnect first what the kernel
//! had not taken, from a record boundary on.

use std::io;
use std::time::{Duration, Instant};

use super::conn::Conn;
use super::link::{Action, Event, Link};
use super::queue::Queue;
use super::{Shore, StreamTarget};
use crate::buffer::Chunk;

/// How often an idle connection is looked at, so that its end is known before the next record.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often it is looked whether the peer has everything, at the end.
const SETTLE_STEP: Duration = Duration::from_millis(5);

/// Delivers `queue` to `target` until it is done.
pub async fn deliver(shore: &Shore, target: &StreamTarget, queue: &Queue) {
    if !shore.eager {
        queue.wait().await;
    }
    let mut link = Link::new(shore.seed);
    let mut conn = None;
    let mut opened = 0u64;
    let mut now = Instant::now();
    while !queue.is_done() {
        match (link.poll(now), conn.take()) {
            (Action::Ready, Some(open)) => match serve(&open, queue).await {
                Ok(()) => {
                    settle(&open, queue).await;
                    open.close().await;
                }
                Err(error) => link.handle(Event::Failed(target.explain(&error)), Instant::now()),
            },
            (Action::Wait(until), _) => {
                now = queue.pause(until).await;
                continue;
            }
            (Action::Connect | Action::Ready, _) => {
                match Conn::open(shore.driver, target, &shore.pool).await {
                    Ok(open) => {
                        queue.connected(Some(open.closer()));
                        queue.counters.reconnects.add(u64::from(opened > 0));
                        opened += 1;
                        conn = Some(open);
                        link.handle(Event::Connected, Instant::now());
                    }
                    Err(error) => {
                        link.handle(Event::Failed(target.explain(&error)), Instant::now())
                    }
                }
            }
        }
        if conn.is_none() {
            queue.connected(None);
        }
        super::say(&mut link, queue);
        now = Instant::now();
    }
}

/// Delivers over an open connection until it fails (`Err`) or the queue is done.
async fn serve(conn: &Conn, queue: &Queue) -> io::Result<()> {
    while !queue.is_done() {
        let Some(mut chunk) = queue.take() else {
            if tokio::time::timeout(LOOK_EVERY, queue.wait()).await.is_err() {
                conn.check_peer()?;
            }
            continue;
        };
        let result = match conn.check_peer() {
            Ok(()) => send(conn, &mut chunk, queue).await,
            closed => closed,
        };
        queue.put_back(chunk);
        result?;
    }
    Ok(())
}

/// Waits until the peer's host has acknowledged everything. Until then it is in our kernel alone,
/// and goes with it where a container's network ends with its last process; and to close while
/// something from the peer is unread (TLS tickets) would reset the connection and discard it.
async fn settle(conn: &Conn, queue: &Queue) {
    let closer = conn.closer();
    while closer.unsent() > 0 && !queue.is_given_up() && conn.check_peer().is_ok() {
        tokio::time::sleep(SETTLE_STEP).await;
    }
}

async fn send(conn: &Conn, chunk: &mut Chunk, queue: &Queue) -> io::Result<()> {
    let before = chunk.pending().len();
    let (bytes, from) = chunk.lend();
    let sent = conn.send(bytes, from).await;
    chunk.restore(sent.bytes);
    let records = chunk.deliver(sent.taken);
    queue.delivered(records, before - chunk.pending().len());
    sent.result
}
