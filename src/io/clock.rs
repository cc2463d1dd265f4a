//! The two clocks of whoever waits for sockets: no other place in `io`, `transport` and `shard`
//! reads one (webhooks aside, which have a thread of their own), so that a simulation can have its
//! own.

use std::time::{Instant, SystemTime};

/// The monotonic clock: the one that the runtime's timers go by.
#[inline]
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The wall clock.
#[inline]
pub fn wall() -> SystemTime {
    #[cfg(test)]
    if let Some(wall) = super::sim::wall() {
        return wall;
    }
    SystemTime::now()
}
