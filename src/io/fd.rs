//! Descriptors: what they are asked without a safe wrapper, the one place with `unsafe`; and that
//! there are enough of them.

use std::io;
use std::os::fd::{OwnedFd, RawFd};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
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

/// Bytes in the send queue of a socket: for TCP those that the peer has not acknowledged, for a
/// Unix stream those that it has not read. 0 where the kernel does not say.
#[allow(unsafe_code)]
pub fn unsent(socket: RawFd) -> usize {
    let mut bytes: nix::libc::c_int = 0;
    // SAFETY: TIOCOUTQ writes one `int` to the given address, which outlives the call; on a number
    // that is no open socket it fails and writes nothing.
    let done = unsafe { nix::libc::ioctl(socket, nix::libc::TIOCOUTQ, &raw mut bytes) };
    if done == 0 { usize::try_from(bytes).unwrap_or(0) } else { 0 }
}

/// Lets this process have as many descriptors as it may: each container takes one for as long as
/// it is followed, and the soft limit is often 1024. What is refused stays as it is.
pub fn raise_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        // For the time in between: still far more than the other tests of this process need.
        setrlimit(Resource::RLIMIT_NOFILE, hard.min(512), hard).unwrap();
        raise_limit();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (hard, hard));
    }
}
