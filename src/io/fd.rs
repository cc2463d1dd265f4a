//! Registers an owned descriptor with epoll: the one place with `unsafe`.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// A descriptor whose readiness can be awaited. Its socket must be non-blocking.
///
/// # Errors
/// Where epoll refuses the descriptor.
#[allow(unsafe_code)]
pub fn watched(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` owns its descriptor, which stays open and the same until it is
    // dropped, and `as_raw_fd` returns it every time; the `AsyncFd` takes the ownership over.
    let registered = unsafe { AsyncFd::register(socket) };
    registered.map_err(io::Error::from)
}
