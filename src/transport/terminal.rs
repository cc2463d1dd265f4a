//! Delivers to the program's standard output, which may be as slow as a reader with a pager:
//! writing happens on a thread that may wait, while the shard goes on.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::queue::Queue;

/// Set when standard output has no reader any more (`logchute | head`).
static CLOSED: AtomicBool = AtomicBool::new(false);

/// Whether standard output has no reader any more.
pub fn is_closed() -> bool {
    CLOSED.load(Relaxed)
}

/// Writes `queue` to standard output until it is done.
pub async fn deliver(queue: &Queue) {
    queue.counters.connected.set(1);
    while !queue.is_done() {
        let Some(mut chunk) = queue.take() else {
            queue.wait().await;
            continue;
        };
        let pending = chunk.pending().len();
        let (bytes, from) = chunk.lend();
        let written = tokio::task::spawn_blocking(move || {
            let mut out = io::stdout().lock();
            let result = out.write_all(&bytes[from..]).and_then(|()| out.flush());
            (result, bytes)
        });
        let Ok((result, bytes)) = written.await else { return };
        chunk.restore(bytes);
        match result {
            Ok(()) => {
                let records = chunk.deliver(pending);
                queue.delivered(records, pending);
            }
            Err(error) => {
                queue.refused(chunk.records());
                if !CLOSED.swap(true, Relaxed) {
                    tracing::warn!(route = queue.name, "standard output: {error}");
                }
            }
        }
        queue.recycle(chunk);
    }
    queue.counters.connected.set(0);
}
