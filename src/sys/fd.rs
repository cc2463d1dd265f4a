//! What descriptors are asked without a safe wrapper.

use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::rc::Rc;

use tokio::io::unix::AsyncFd;

/// A descriptor whose readiness can be awaited, until what is returned is dropped. It must be
/// non-blocking.
///
/// # Errors
/// Where epoll refuses the descriptor.
#[allow(unsafe_code)]
pub fn watched(socket: Rc<OwnedFd>) -> io::Result<AsyncFd<Rc<OwnedFd>>> {
    // SAFETY: an `OwnedFd` owns its descriptor, which stays open and the same until it is
    // dropped, and `as_raw_fd` returns it every time; the `AsyncFd` owns a share of it.
    let registered = unsafe { AsyncFd::register(socket) };
    registered.map_err(io::Error::from)
}

/// Bytes in the send queue of a socket: for TCP those that the peer's host has not acknowledged,
/// for a Unix stream those that it has not read, and what the kernel needs to hold them. 0 where
/// the kernel does not say.
#[allow(unsafe_code)]
pub fn unsent(socket: RawFd) -> usize {
    let mut bytes: nix::libc::c_int = 0;
    // SAFETY: TIOCOUTQ writes one `int` to the given address, which outlives the call; on a number
    // that is no open socket it fails and writes nothing.
    let done = unsafe { nix::libc::ioctl(socket, nix::libc::TIOCOUTQ, &raw mut bytes) };
    if done == 0 { usize::try_from(bytes).unwrap_or(0) } else { 0 }
}
