//! A network and a wall clock that are only made up: what a thread's sockets and clocks are while
//! it runs the simulation (`tests/sim`). Built into the library's own tests alone.
//!
//! Also the faults that are planted on purpose, to see that the simulation finds them.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Waker;
use std::time::{Instant, SystemTime};

/// Where a connection leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// TCP.
    Tcp(SocketAddr),
    /// A socket in a file system that nobody has.
    Unix(PathBuf),
}

/// Our end of a connection. What cannot be done yet is `WouldBlock`; then the waker, if one is
/// given, is woken when it is worth another try.
pub(crate) trait Pipe {
    /// Reads some; 0 is the end.
    fn read(&self, space: &mut [u8], waker: Option<&Waker>) -> io::Result<usize>;
    /// Writes some.
    fn write(&self, bytes: &[u8], waker: Option<&Waker>) -> io::Result<usize>;
    /// See [`super::stream::Stream::unacknowledged`].
    fn unacknowledged(&self) -> usize;
    /// Shuts both directions down.
    fn shut(&self);
}

/// A connection that is being made.
pub(crate) type Connecting = Pin<Box<dyn Future<Output = io::Result<Rc<dyn Pipe>>>>>;

/// What connections are made over.
pub(crate) trait Network {
    /// Connects.
    fn connect(&self, to: Address) -> Connecting;
}

/// A fault that is in the program only while it is planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Planted {
    /// When a connection ends, what was sent and not acknowledged is not sent again.
    NothingAgain,
    /// Of a connection that has ended, more counts as acknowledged than is: a record's worth.
    OneTooMany,
    /// After an attach stream was cut, the log is not asked for what it missed.
    NoResume,
    /// Log and attach are joined at once, wherever the log is at the time.
    HastySeam,
    /// Over RELP an answer counts for the oldest record without one, whichever it is for.
    OtherAnswer,
    /// Joined lines whose time is over go out, and stay to go out again.
    GroupTwice,
    /// Joined lines go out as soon as the timer looks.
    HastyGroups,
    /// The first record of each chunk that comes back from a spool is missing.
    SpoolSkips,
}

thread_local! {
    static NETWORK: RefCell<Option<Rc<dyn Network>>> = const { RefCell::new(None) };
    static WALL: Cell<Option<(Instant, SystemTime)>> = const { Cell::new(None) };
    static PLANTED: Cell<Option<Planted>> = const { Cell::new(None) };
}

/// From now on this thread's connections go over `network`, and its wall clock shows `wall` and
/// goes on with the runtime's clock.
pub(crate) fn enter(network: Rc<dyn Network>, wall: SystemTime, planted: Option<Planted>) {
    NETWORK.set(Some(network));
    WALL.set(Some((super::clock::now(), wall)));
    PLANTED.set(planted);
}

/// The thread's sockets and clocks are real again.
pub(crate) fn leave() {
    NETWORK.set(None);
    WALL.set(None);
    PLANTED.set(None);
}

/// Whether the thread's time is made up.
pub(super) fn is_entered() -> bool {
    WALL.get().is_some()
}

/// The wall clock, if it is made up.
pub(super) fn wall() -> Option<SystemTime> {
    WALL.get().map(|(since, wall)| wall + (super::clock::now() - since))
}

/// Connects.
pub(super) async fn connect(to: Address) -> io::Result<Rc<dyn Pipe>> {
    let network = NETWORK.with_borrow(Clone::clone);
    let network = network.ok_or_else(|| io::Error::other("no network was made up"))?;
    network.connect(to).await
}

/// Whether this fault is in the program now.
pub(crate) fn planted(fault: Planted) -> bool {
    PLANTED.get() == Some(fault)
}
