//! Tells a container that writes nothing from a stream that hangs: by asking the daemon, never by
//! time alone.
//!
//! What is between the daemon and us may stand still, or may have forgotten the connection without
//! a word. So a stream that was silent for a while is asked about: is there a line in the log that
//! should have come long ago? Or, where the daemon told of the container's end: does it still run?
//! If the stream hangs it is let go of, and opened again as any that broke; the log fills the gap.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::backlog::Backlog;
use super::follow::{Attached, Follower};
use crate::docker::Source;
use crate::docker::request::LogsQuery;
use crate::doors::resume::{LAG, Tail};
use crate::io::clock;
use crate::transport::daemon::DaemonError;

/// Questions of a shard lie apart by at least this part of the time that a stream may be silent,
/// however many are: one a second, where that is a minute.
const TURNS_A_SILENCE: u32 = 60;
/// What is in the log for longer should have come.
pub(super) const UNDER_WAY: Duration = Duration::from_secs(2);
/// The end of a container that was told of for longer should have ended its stream.
const END_UNDER_WAY: Duration = Duration::from_secs(5);
/// A line that was logged came by attach at most this long after its stamp.
pub(super) const ARRIVAL: Duration = Duration::from_millis(250);

/// When a shard may ask, whichever of its streams it is about.
pub(super) struct Turns {
    /// How long a stream is silent before it is asked about.
    pub(super) silence: Duration,
    next: Cell<Instant>,
}

impl Turns {
    pub(super) fn new(silence: Duration, now: Instant) -> Turns {
        Turns { silence, next: Cell::new(now) }
    }

    /// The next turn that nobody has.
    pub(super) fn take(&self, now: Instant) -> Instant {
        let turn = self.next.get().max(now);
        self.next.set(turn + self.silence / TURNS_A_SILENCE);
        turn
    }
}

/// The watch over one attach stream.
pub(super) struct Vigil {
    /// When to look again.
    at: Instant,
    /// That is its turn to ask.
    turn: bool,
    /// The daemon told of the container's end.
    ended: bool,
    /// When the stream was last known to work, and the first time of a line that has not come
    /// since: of a container that goes on writing, the newest line is always a new one.
    missing: Option<(u64, u64)>,
}

/// When a stream is known to have worked: nanoseconds since 1970, daemon's clock.
struct Working {
    /// Its last read.
    live_until: u64,
    attached_at: u64,
    /// How far our idea of the daemon's clock may be off.
    slack: Duration,
}

impl Working {
    /// Whether the log's newest line should have come and has not; `tail`: what came last of its
    /// source. Where text and time leave that open it is taken to have come.
    fn lacks(&self, tail: &Tail, stamp: u64, message: &[u8]) -> bool {
        let Working { live_until, attached_at, slack } = *self;
        let came_since = if tail.last() > attached_at { live_until } else { attached_at };
        let surely_new = stamp > came_since.saturating_add(nanos(LAG + slack));
        // What came later of this source would have been logged behind it: it came last, or not
        // at all. Lines repeat, so that it is not enough if the same was among what came.
        let lacks = if stamp > live_until { !tail.ends_with(message) } else { tail.lacks(message) };
        surely_new || lacks
    }
}

/// What the log says of a stream.
enum Finding {
    /// Nothing is missing.
    Silent,
    /// A line of this time has not come; it may still be under way.
    Missing(u64),
    /// The log cannot be read.
    Unknown,
}

impl Vigil {
    /// Over a stream that was just opened.
    pub(super) fn new(turns: &Turns, now: Instant) -> Vigil {
        Vigil { at: now + turns.silence, turn: false, ended: false, missing: None }
    }

    /// When to look again.
    pub(super) fn at(&self) -> Instant {
        self.at
    }

    fn rest(&mut self, until: Instant) {
        (self.at, self.turn) = (until, false);
    }
}

impl Follower {
    /// Looks after a live stream, if it is time to.
    pub(super) async fn keep_vigil(&mut self, vigil: &mut Vigil, attached: Attached) {
        let (now, silence) = (clock::now(), self.crew.asking.silence);
        if !vigil.ended && self.end_was_told(attached) {
            vigil.ended = true;
            vigil.rest(vigil.at.min(now + END_UNDER_WAY.min(silence)));
        }
        if now < vigil.at || self.intake.borrow().ended().is_some() {
            return;
        }
        let live_until = self.live_until();
        if vigil.ended {
            vigil.rest(now + silence);
            // The stream may have shown since that it is not its run which has ended.
            vigil.ended = self.end_was_told(attached);
            if vigil.ended && self.run_is_over().await {
                self.hang_up(live_until, "although its container has ended");
            }
            return;
        }
        let quiet = Duration::from_nanos(self.crew.now().saturating_sub(live_until));
        if quiet < silence || self.is_logless() {
            return vigil.rest(now + silence.saturating_sub(quiet).max(silence / TURNS_A_SILENCE));
        }
        if !std::mem::replace(&mut vigil.turn, true) {
            vigil.at = self.crew.asking.take(now);
            if vigil.at > now {
                return;
            }
        }
        match self.compare_with_log(live_until, attached.attached_at).await {
            Finding::Missing(stamp) => {
                let known = vigil.missing.filter(|(since, _)| *since == live_until);
                let first = known.map_or(stamp, |(_, first)| first);
                vigil.missing = Some((live_until, first));
                let patience = UNDER_WAY.min(silence);
                if first.saturating_add(nanos(patience + self.crew.slack())) < self.crew.now() {
                    self.hang_up(live_until, "although its log goes on");
                }
                vigil.rest(clock::now() + patience);
            }
            Finding::Silent | Finding::Unknown => vigil.rest(clock::now() + silence),
        }
    }

    /// When the stream was last known to work: nanoseconds since 1970, daemon's clock.
    fn live_until(&self) -> u64 {
        self.intake.borrow().read_until()
    }

    /// Whether the daemon told of the end of the run that is attached.
    fn end_was_told(&self, attached: Attached) -> bool {
        self.earliest_death(attached).is_some_and(|since| self.mail.death_since(since).is_some())
    }

    /// Whether the container does not run any more, or another time.
    async fn run_is_over(&self) -> bool {
        self.inspect().await.is_ok_and(|seen| !self.is_this_run(&seen))
    }

    /// Whether the log's newest line should have come and has not, by a stream that was opened at
    /// `attached_at`. It may be older than the last read: what was on its way when the stream began
    /// to hang is lost, and the container may have written nothing since.
    async fn compare_with_log(&self, live_until: u64, attached_at: u64) -> Finding {
        let daemon = self.crew.daemon();
        let since = attached_at.min(live_until).saturating_add(1);
        let query = LogsQuery { since: Some(since), until: None, tail: Some(1), follow: false };
        let request = daemon.api.logs(&self.id, &query);
        let answer = match daemon.ask(&request, |closer| self.mail.asked(closer)).await {
            Ok(answer) => answer,
            Err(DaemonError::Refused { status: 500 | 501, .. }) => return Finding::Unknown,
            Err(_) => return Finding::Silent,
        };
        let (slack, mut newest, mut missing) = (self.crew.slack(), 0, false);
        let mut log = Backlog::new(self.container.tty);
        let mut see = |source: Source, stamp: u64, message: &[u8]| {
            let tail = &self.intake.borrow().tails[source as usize];
            let working = Working { live_until, attached_at, slack };
            (newest, missing) = (stamp, working.lacks(tail, stamp, message));
        };
        if log.push(&answer.body, &mut see).is_err() {
            return Finding::Unknown;
        }
        log.finish(&mut see);
        if newest >= since && missing { Finding::Missing(newest) } else { Finding::Silent }
    }

    /// Lets go of a stream that hangs, unless it has brought something meanwhile, or ended.
    fn hang_up(&mut self, live_until: u64, why: &str) {
        if self.live_until() != live_until || self.intake.borrow().ended().is_some() {
            return;
        }
        tracing::warn!(container = self.container.name, "its stream hangs, {why}: opening another");
        self.crew.counters.hung.add(1);
        self.intake.borrow_mut().hang(live_until);
        self.mail.detach();
    }
}

/// In nanoseconds.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// A stream that was opened at 1000 ms and brought its last bytes at 2000 ms: whether it lacks
    /// a line that is stamped at `stamp` ms.
    fn lacks(came: &[u8], stamp: u64, message: &[u8]) -> bool {
        let mut tail = Tail::new();
        tail.note(came, 2000 * MS);
        let (live_until, attached_at) = (2000 * MS, 1000 * MS);
        Working { live_until, attached_at, slack: Duration::ZERO }.lacks(&tail, stamp * MS, message)
    }

    #[test]
    fn what_was_logged_after_the_last_read_came_last_or_did_not_come() {
        assert!(!lacks(b"zero\none\ntwo\n", 2100, b"two\n"));
        assert!(!lacks(b"zero\none\ntwo\nzer", 2100, b"two\n"), "the log lags");
        assert!(lacks(b"zero\none\ntwo\n", 2100, b"three\n"));
        // Lines that repeat, of which some more were written while the stream hung.
        assert!(lacks(b"zero\none\ntwo\n", 2100, b"zero\n"));
        assert!(lacks(b"tick\ntick\n", 2151, b"tick\n"), "so late no line that came is stamped");
        assert!(!lacks(b"tick\ntick\n", 2149, b"tick\n"), "neither text nor time tells");
        // What was read since tells nothing of the order of what came before.
        assert!(!lacks(b"zero\none\ntwo\n", 1999, b"zero\n"));
        assert!(lacks(b"zero\none\ntwo\n", 1999, b"three\n"));
    }

    /// Hundreds of silent containers cost a question a second.
    #[test]
    fn turns_lie_apart_and_do_not_pile_up() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let turns = Turns::new(60 * second, now);
        let given: Vec<Instant> = (0..512).map(|_| turns.take(now)).collect();
        assert_eq!((given[0], given[511]), (now, now + 511 * second));
        assert!(given.windows(2).all(|pair| pair[1] - pair[0] == second));
        // After a quiet time they are not all had at once.
        let later = now + 10_000 * second;
        assert_eq!((turns.take(later), turns.take(later)), (later, later + second));
    }
}
