//! One container's life on its shard: which door its output is read through, when, and from where.
//!
//! Attach first, ask later: for a container that is about to start each millisecond counts, so
//! the attach request goes out before it is known who the container is. Only then inspect, and
//! where output may have been written before the attach was in place, the `logs` door, until the
//! seam between the two is found. A stream that ends while its container runs is opened again,
//! and the log fills the gap.
//!
//! A task of its own reads the attach stream all the while: no container ever waits for us.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use super::backlog::Backlog;
use super::intake::{Ended, HELD_MAX, Intake, nanos};
use super::mail::Mailbox;
use super::{Crew, command::Origin};
use crate::docker::inspect::{Container, State, ignored, parse_inspect};
use crate::docker::request::LogsQuery;
use crate::docker::Source;
use crate::doors::cursor::Cursor;
use crate::doors::resume::Resume;
use crate::doors::seam::{Seam, SeamConfig, Verdict};
use crate::io::stream::Closer;
use crate::transport::daemon::{DaemonError, Streaming};
use crate::transport::link::{Action, Event, Link};

/// A container that is on this shard.
pub struct Follower {
    crew: Rc<Crew>,
    id: String,
    origin: Origin,
    mail: Rc<Mailbox>,
    intake: Rc<RefCell<Intake>>,
    /// Who it is, once inspect has said so.
    container: Option<Container>,
    unread: Unread,
    /// Paces attempts that fail.
    pace: Link,
}

/// What of a container's output has not been taken yet, apart from what comes by attach.
enum Unread {
    /// Nothing.
    Nothing,
    /// The newest lines of the log, as many as `TAIL` says.
    Backlog,
    /// The log from this time on (nanoseconds since 1970); 0 is all of it.
    Since(u64),
    /// What the log has beyond the end of what was delivered.
    AfterTails,
}

/// What to do after a round.
enum Next {
    /// Another round at once.
    Again,
    /// Another round when something happens to the container.
    Wait,
    /// Another round after a pause, or when something happens.
    Retry(String),
    /// The container is gone, or not to be followed.
    Over,
}
