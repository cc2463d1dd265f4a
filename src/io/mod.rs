//! The only contact with the operating system's sockets: two drivers behind one enum.
//!
//! [`Driver::Ring`] waits through io_uring (tokio-uring), [`Driver::Poll`] through epoll (tokio).
//! Which one is chosen once, at start, by trying; everything above sees [`stream::Stream`] and
//! never asks which it is.
//!
//! Traps that the code here avoids (each was measured on this crate's versions):
//! * a dropped io_uring read stays armed and swallows the next bytes: a read is never raced
//!   against a timer; it is ended by shutting the socket down;
//! * `Runtime::new` leaks descriptors where the ring is forbidden: [`choose`] builds a bare ring
//!   first;
//! * on a ring thread nothing is submitted while tasks merely yield: none does so more than a few
//!   times.

pub mod clock;
pub mod doze;
pub mod pace;
pub mod pool;
#[cfg(test)]
pub(crate) mod sim;
pub mod stream;
pub mod tick;

use std::future::Future;
use std::io;

use crate::config::IoChoice;

/// How a shard waits for its sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// io_uring.
    Ring,
    /// epoll.
    Poll,
    /// Neither: see [`sim`].
    #[cfg(test)]
    Simulated,
}

impl Driver {
    /// The name that settings, banner and metrics use.
    pub fn name(self) -> &'static str {
        match self {
            Driver::Ring => "ring",
            Driver::Poll => "poll",
            #[cfg(test)]
            Driver::Simulated => "simulated",
        }
    }
}

/// A driver, and why it was chosen.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The driver.
    pub driver: Driver,
    /// For the banner, e.g. `io_uring is not permitted here (EPERM)`.
    pub reason: String,
}

/// Why `auto` takes epoll. io_uring would have to be the cheaper one by itself to be chosen; here
/// its completions come through epoll too (tokio-uring), and each read of it costs a turn of both:
/// up to 40 % more CPU a line was measured without READ_WAIT, and about as much with it, from one
/// container that floods to 64 quiet ones.
const POLL_IS_BETTER: &str = "it takes less CPU than io_uring";

/// Submission queue entries of each ring; more reads than that may be in flight.
const RING_ENTRIES: u32 = 256;

/// Chooses the driver for `shards` threads. `Err` only where the ring was asked for and refused.
pub fn choose(asked: IoChoice, shards: usize) -> Result<Choice, String> {
    if asked == IoChoice::Poll {
        return Ok(Choice { driver: Driver::Poll, reason: "asked for".into() });
    }
    if asked == IoChoice::Auto {
        return Ok(Choice { driver: Driver::Poll, reason: POLL_IS_BETTER.into() });
    }
    match probe(shards) {
        Ok(()) => Ok(Choice { driver: Driver::Ring, reason: "asked for".into() }),
        Err(refusal) => Err(format!(
            "LOGCHUTE_IO=ring: {refusal}; allow io_uring (seccomp profile, \
             kernel.io_uring_disabled, locked memory) or use LOGCHUTE_IO=auto"
        )),
    }
}

/// Tries what the shards will do: as many rings as there are shards, then one operation on one.
fn probe(shards: usize) -> Result<(), String> {
    let refused = |error: io::Error| {
        let hint = match error.raw_os_error() {
            Some(nix::libc::EPERM | nix::libc::EACCES) => " (a seccomp profile forbids it)",
            Some(nix::libc::ENOSYS) => " (the kernel or a seccomp profile has none)",
            Some(nix::libc::ENOMEM) => " (not enough locked memory)",
            _ => "",
        };
        format!("io_uring is refused: {error}{hint}")
    };
    let mut rings = Vec::with_capacity(shards);
    for _ in 0..shards {
        rings.push(tokio_uring::uring_builder().build(RING_ENTRIES).map_err(refused)?);
    }
    drop(rings);
    let runtime = ring_runtime().map_err(refused)?;
    runtime.block_on(tokio_uring::no_op()).map_err(refused)
}

fn ring_runtime() -> io::Result<tokio_uring::Runtime> {
    tokio_uring::Runtime::new(tokio_uring::builder().entries(RING_ENTRIES))
}

/// Runs `future`, and the local tasks that it spawns, on this thread until it ends.
///
/// # Errors
/// Where the operating system refuses the ring or the epoll instance.
pub fn block_on<F: Future>(driver: Driver, future: F) -> io::Result<F::Output> {
    match driver {
        Driver::Ring => Ok(ring_runtime()?.block_on(future)),
        Driver::Poll => {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            let runtime = builder.on_thread_park(doze::before_wait).enable_all().build()?;
            let output = tokio::task::LocalSet::new().block_on(&runtime, future);
            // Not dropped: that would wait for threads that wait for a name server.
            runtime.shutdown_background();
            Ok(output)
        }
        // Its clock stands still but for what the simulation does, which has a runtime for that.
        #[cfg(test)]
        Driver::Simulated => Err(io::ErrorKind::Unsupported.into()),
    }
}
