//! Read buffers, shared by all sockets of a shard.
//!
//! A socket borrows a buffer only while there are bytes in it to look at, so hundreds of idle
//! sockets cost nothing and the bytes of a busy shard stay in the same few cache lines.

use std::cell::RefCell;
use std::ops::Deref;
use std::rc::Rc;

/// Size of a read buffer: one read takes at most this much.
pub const READ_MAX: usize = 256 * 1024;

/// The buffers of one shard that nobody uses at the moment.
#[derive(Debug, Default)]
pub struct Pool(RefCell<Vec<Vec<u8>>>);

impl Pool {
    /// An empty pool; buffers are made when first needed.
    pub fn new() -> Rc<Pool> {
        Rc::default()
    }

    /// A buffer of [`READ_MAX`] bytes with unspecified content, given back when dropped.
    pub fn lease(self: &Rc<Pool>) -> Lease {
        let buffer = self.0.borrow_mut().pop().unwrap_or_else(|| vec![0; READ_MAX]);
        Lease { buffer, filled: 0, pool: Rc::clone(self) }
    }
}

/// A read buffer on loan, and how much of it is filled; derefs to the filled part.
#[derive(Debug)]
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
        self.pool.0.borrow_mut().push(std::mem::take(&mut self.buffer));
    }
}
