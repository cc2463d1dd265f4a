//! Read buffers, shared by all sockets of a shard.
//!
//! A socket borrows a buffer only while there are bytes in it to look at, so hundreds of idle
//! sockets cost nothing and the bytes of a busy shard stay in the same few cache lines.

use std::cell::{Cell, OnceCell, RefCell};
use std::ops::Deref;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// Size of a read buffer: one read takes at most this much.
pub const READ_MAX: usize = 256 * 1024;

/// What a read brings that is much: a stream that brought as much the last time waits for what was
/// read to be sent, one that brought less gives way a few times.
const MUCH: usize = 4 * 1024;
const GIVE_WAY_MOST: u32 = 4;
/// So long a stream waits at most before it is read: no container is to wait for a receiver.
const WAIT: Duration = Duration::from_millis(1);
/// What is sent at a time makes room for the reads of so many streams.
const READS_A_SEND: usize = 4;
/// Buffers that are kept while nobody uses them: more are in use at a time only when many streams
/// begin at once.
const SPARE_MAX: usize = 4;

/// The buffers of one shard that nobody uses at the moment, and who comes before them.
#[derive(Default)]
pub struct Pool {
    spare: RefCell<Vec<Vec<u8>>>,
    others_first: OnceCell<Box<dyn Fn() -> bool>>,
    /// Rings when something was sent.
    bell: Notify,
    /// How often something was sent.
    sends: Cell<u64>,
    /// How often it had been when it was last waited for in vain.
    in_vain: Cell<Option<u64>>,
}

impl Pool {
    /// An empty pool; buffers are made when first needed.
    pub fn new() -> Rc<Pool> {
        Rc::default()
    }

    /// Has reads give way to those that send what was read, whenever `others_first` says so. Can be
    /// said once.
    pub fn give_way_if(&self, others_first: impl Fn() -> bool + 'static) {
        let _ = self.others_first.set(Box::new(others_first));
    }

    /// Something was sent of what was read.
    pub fn sent(&self) {
        self.sends.set(self.sends.get() + 1);
        for _ in 0..READS_A_SEND {
            self.bell.notify_one();
        }
    }

    /// To be awaited before a stream is read that brought `last` bytes the last time: gives way
    /// while it is time to, for a bounded time. When hundreds of streams have bytes at once, what
    /// they bring would not fit the outboxes before those who empty them had their turn, or were
    /// told that their sockets take more. A receiver that takes nothing keeps nobody.
    pub async fn turn(&self, last: usize) {
        let Some(others_first) = self.others_first.get() else { return };
        if last >= MUCH {
            return self.wait_while(others_first).await;
        }
        for _ in 0..GIVE_WAY_MOST {
            if !others_first() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn wait_while(&self, others_first: &dyn Fn() -> bool) {
        let (before, until) = (self.sends.get(), Instant::now() + WAIT);
        while others_first() && self.in_vain.get() != Some(self.sends.get()) {
            if timeout_at(until, self.bell.notified()).await.is_err() {
                if self.sends.get() == before {
                    self.in_vain.set(Some(before));
                }
                return;
            }
        }
    }

    /// A buffer of [`READ_MAX`] bytes with unspecified content, given back when dropped.
    pub fn lease(self: &Rc<Pool>) -> Lease {
        let buffer = self.spare.borrow_mut().pop().unwrap_or_else(|| vec![0; READ_MAX]);
        Lease { buffer, filled: 0, pool: Rc::clone(self) }
    }
}

/// A read buffer on loan, and how much of it is filled; derefs to the filled part.
pub struct Lease {
    buffer: Vec<u8>,
    filled: usize,
    pool: Rc<Pool>,
}

impl Lease {
    /// The part that may still be filled.
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.buffer[self.filled..]
    }

    /// Says that `n` more bytes of [`Lease::space`] were filled.
    pub fn fill(&mut self, n: usize) {
        self.filled = (self.filled + n).min(self.buffer.len());
    }

    /// Copies in as much of `bytes` as there is space for; returns how much.
    pub fn put(&mut self, bytes: &[u8]) -> usize {
        let space = self.space();
        let n = bytes.len().min(space.len());
        space[..n].copy_from_slice(&bytes[..n]);
        self.fill(n);
        n
    }

    /// Whether no space is left.
    pub fn is_full(&self) -> bool {
        self.filled == self.buffer.len()
    }
}

impl Deref for Lease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut spare = self.pool.spare.borrow_mut();
        if spare.len() < SPARE_MAX {
            spare.push(std::mem::take(&mut self.buffer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{Driver, block_on};

    /// A pool whose senders are busy until they were asked `busy` times, and how often they were.
    fn pool(busy: usize) -> (Rc<Pool>, Rc<Cell<usize>>) {
        let (pool, asked) = (Pool::new(), Rc::new(Cell::new(0)));
        let count = Rc::clone(&asked);
        pool.give_way_if(move || {
            count.set(count.get() + 1);
            count.get() <= busy
        });
        (pool, asked)
    }

    #[test]
    fn a_stream_that_brings_little_gives_way_a_few_times() {
        for (busy, asks) in [(0, 1), (2, 3), (1000, GIVE_WAY_MOST as usize)] {
            let (pool, asked) = pool(busy);
            block_on(Driver::Poll, pool.turn(MUCH - 1)).unwrap();
            assert_eq!(asked.get(), asks);
        }
    }

    #[test]
    fn one_that_brings_much_waits_until_enough_was_sent() {
        let (pool, asked) = pool(10);
        let sender = async {
            while asked.get() < 10 {
                pool.sent();
                tokio::task::yield_now().await;
            }
            pool.sent();
        };
        let both = async { tokio::join!(pool.turn(MUCH), sender) };
        block_on(Driver::Poll, both).unwrap();
        assert_eq!(asked.get(), 11);
    }

    #[test]
    fn a_receiver_that_takes_nothing_keeps_nobody_for_long() {
        let (pool, _) = pool(usize::MAX);
        let begun = Instant::now();
        let waited = block_on(Driver::Poll, async {
            pool.turn(MUCH).await;
            let waited = begun.elapsed();
            for _ in 0..1000 {
                pool.turn(MUCH).await;
            }
            waited
        });
        assert!(waited.unwrap() >= WAIT);
        assert!(begun.elapsed() < WAIT * 500, "it is waited once");
    }

    #[test]
    fn nor_does_one_that_takes_little() {
        let (pool, _) = pool(usize::MAX);
        let begun = Instant::now();
        let sender = async {
            while begun.elapsed() < WAIT * 100 {
                pool.sent();
                tokio::task::yield_now().await;
            }
        };
        block_on(Driver::Poll, async {
            tokio::select! {
                biased;
                () = pool.turn(MUCH) => {}
                () = sender => panic!("a stream that may be read is not"),
            }
        })
        .unwrap();
    }
}
