//! What may be held of containers' output, by all shards together, while what came before it is
//! read from their logs; and who waits for room.
//!
//! A container that finds none lets go of what it holds: its log has that, too. It then waits
//! until twice as much can be set aside for it, in the order in which they came, so that many slow
//! containers are joined at a time, and one that writes fast at last has all the room for itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most bytes that are held. A container that writes 10 MB/s needs about half of it.
const HELD_MAX: usize = 8 << 20;
/// What is set aside is counted in so many parts of the whole.
const PARTS: u32 = 128;
/// Each container may hold this part of the whole whatever the others do: what the most of them
/// write until they are joined.
const OWN_PART: usize = 512;

/// What is held, in bytes.
pub struct Hold {
    most: usize,
    held: AtomicUsize,
    aside: Arc<Semaphore>,
}

impl Default for Hold {
    fn default() -> Hold {
        Hold::new(HELD_MAX)
    }
}

impl Hold {
    /// Room for so many bytes, and for a few of each container beside.
    pub fn new(most: usize) -> Hold {
        let aside = Arc::new(Semaphore::new(PARTS as usize));
        Hold { most, held: AtomicUsize::new(0), aside }
    }

    /// The room for all, which one alone may use: bytes.
    pub fn most(&self) -> usize {
        self.most
    }

    /// How much of it is used: bytes.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// A container's share, of which nothing is used.
    pub fn share(self: &Arc<Hold>) -> Share {
        Share { hold: Arc::clone(self), bytes: 0 }
    }

    /// Waits until twice these bytes can be set aside, for who had to let go of them.
    pub async fn wait(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let parts = bytes.saturating_mul(2 * PARTS as usize) / self.most.max(1);
        let parts = u32::try_from(parts).unwrap_or(PARTS).clamp(1, PARTS);
        Arc::clone(&self.aside).acquire_many_owned(parts).await.ok()
    }
}

/// What one container holds; given back when dropped.
pub struct Share {
    hold: Arc<Hold>,
    bytes: usize,
}

impl Share {
    /// It holds so many bytes now; `false`, and nothing changes, if there is no room for them.
    /// Shards that ask at the very same time may each get the last of it, by a read each.
    pub fn set(&mut self, bytes: usize) -> bool {
        let most = self.hold.most;
        let others = self.hold.held().saturating_sub(self.bytes);
        let fits = others.saturating_add(bytes) <= most || bytes <= most / OWN_PART;
        if fits {
            self.must_set(bytes);
        }
        fits
    }

    /// The same, of what cannot be read again: there is room for it.
    pub fn must_set(&mut self, bytes: usize) {
        self.hold.held.fetch_add(bytes, Ordering::Relaxed);
        self.hold.held.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.must_set(0);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn all_together_hold_no_more_than_the_whole_and_a_few_of_each() {
        let hold = Arc::new(Hold::new(512 * 100));
        let mut shares: Vec<Share> = (0..100).map(|_| hold.share()).collect();
        for bytes in [100, 300, 512, 1000, 700, 5000] {
            for share in &mut shares {
                let fits = share.set(bytes);
                assert!(fits || bytes > 100);
                assert!(hold.held() <= 512 * 100 + 100 * 100, "{}", hold.held());
            }
        }
        assert!(hold.held() > 512 * 90);
        shares[0].must_set(512 * 100);
        assert!(!shares[1].set(101) && shares[1].set(100));
        drop(shares);
        assert_eq!(hold.held(), 0);
    }

    #[test]
    fn twice_as_much_is_set_aside_in_the_order_of_those_who_wait() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let hold = Hold::new(512 * 100);
            let soon = |bytes| tokio::time::timeout(Duration::from_millis(5), hold.wait(bytes));
            let small = soon(0).await.unwrap();
            assert!(soon(usize::MAX).await.is_err(), "a part of it is set aside");
            let half = soon(512 * 25).await.unwrap();
            assert!(soon(512 * 25).await.is_err());
            drop(small);
            let other = soon(512 * 25).await.unwrap();
            drop((half, other));
            assert!(soon(512 * 50).await.is_ok());
        });
    }
}
