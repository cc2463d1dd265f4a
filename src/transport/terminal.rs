//! Delivers to the program's standard output, which may be as slow as a reader with a pager:
//! writing happens on a thread that may wait, while the shard goes on.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use tokio::sync::Notify;

use super::queue::Queue;

/// Set when standard output has no reader any more (`logchute | head`).
static CLOSED: AtomicBool = AtomicBool::new(false);
static CLOSED_BELL: Notify = Notify::const_new();

/// How long to wait before writing again to an output that someone else made non-blocking.
const NAP: Duration = Duration::from_millis(10);

/// Waits until standard output has no reader any more. One caller at a time is told.
pub async fn closed() {
    CLOSED_BELL.notified().await;
}

/// Writes `queue` to standard output until it is done.
pub async fn deliver(queue: &Queue) {
    let writer = match Writer::start() {
        Ok(writer) => writer,
        Err(error) => return fail(queue, &error),
    };
    queue.counters.connected.set(1);
    while !queue.is_done() {
        let Some(mut chunk) = queue.take() else {
            queue.wait().await;
            continue;
        };
        let before = chunk.pending().len();
        let (bytes, from) = chunk.lend();
        let Some(written) = writer.write(bytes, from).await else { break };
        chunk.restore(written.bytes);
        let records = chunk.deliver(written.taken);
        queue.delivered(records, before - chunk.pending().len());
        if let Err(error) = written.result {
            let left = chunk.pending().len();
            queue.refused(chunk.deliver(left), left);
            fail(queue, &error);
        }
        queue.put_back(chunk);
    }
    queue.counters.connected.set(0);
}

/// Says once that standard output is of no use any more; the program ends for it.
fn fail(queue: &Queue, error: &io::Error) {
    if !CLOSED.swap(true, Relaxed) {
        tracing::warn!(route = queue.name, "standard output: {error}");
        CLOSED_BELL.notify_one();
    }
}

/// A thread that writes to standard output, one block of bytes at a time.
///
/// It is a thread of its own, not one of the runtime's, which would be waited for at the end,
/// while a reader that takes nothing any more may keep it forever.
struct Writer {
    jobs: Sender<(Vec<u8>, usize)>,
    done: Receiver<Written>,
    bell: Arc<Notify>,
}

/// What became of a block.
struct Written {
    bytes: Vec<u8>,
    /// How many bytes were written.
    taken: usize,
    result: io::Result<()>,
}

impl Writer {
    fn start() -> io::Result<Writer> {
        // Past the buffer of `Stdout`: what is written here is whole blocks.
        let out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let (jobs, inbox) = bounded::<(Vec<u8>, usize)>(1);
        let (outbox, done) = bounded(1);
        let bell = Arc::new(Notify::new());
        let ring = Arc::clone(&bell);
        std::thread::Builder::new().name("console".into()).spawn(move || {
            for (bytes, from) in inbox {
                let (taken, result) = write(&out, &bytes[from..]);
                if outbox.send(Written { bytes, taken, result }).is_err() {
                    return;
                }
                ring.notify_one();
            }
        })?;
        Ok(Writer { jobs, done, bell })
    }

    /// Writes `bytes[from..]`; `None` if the thread is no more.
    async fn write(&self, bytes: Vec<u8>, from: usize) -> Option<Written> {
        self.jobs.send((bytes, from)).ok()?;
        loop {
            match self.done.try_recv() {
                Ok(written) => return Some(written),
                Err(TryRecvError::Empty) => self.bell.notified().await,
                Err(TryRecvError::Disconnected) => return None,
            }
        }
    }
}

/// Writes all, as one piece among those of other shards; returns how much was taken.
fn write(mut out: &File, bytes: &[u8]) -> (usize, io::Result<()>) {
    let _alone = io::stdout().lock();
    let mut taken = 0;
    while taken < bytes.len() {
        match out.write(&bytes[taken..]) {
            Ok(0) => return (taken, Err(ErrorKind::WriteZero.into())),
            Ok(n) => taken += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(NAP),
            Err(error) => return (taken, Err(error)),
        }
    }
    (taken, Ok(()))
}
