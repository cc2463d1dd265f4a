//! One container's life on its shard: through which door its output is read, when, and from where.
//!
//! A container that was just created is attached before it is known who it is, for each
//! millisecond counts; any other when `inspect` says that it runs. Where output may have been
//! written before the attach was in place, the `logs` door is read until the seam between the two
//! is found. A stream that ends while its container runs is opened again, and the log fills the
//! gap.
//!
//! A task of its own reads the attach stream all the while: no container ever waits for us.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Crew;
use super::behind::Part;
use super::command::Origin;
use super::intake::{Ended, Intake};
use super::mail::Mailbox;
use super::overdue::{Asked, Awaited};
use super::pass::{LastRun, PassError, Place};
use super::roster::Present;
use super::vigil::{ARRIVAL, Vigil, nanos};
use crate::docker::Source;
use crate::docker::inspect::{Container, State, ignored};
use crate::doors::cursor::Cursor;
use crate::doors::resume::{Resume, ResumeConfig};
use crate::doors::seam::{SeamConfig, Verdict};
use crate::io::clock;
use crate::io::pool::READ_MAX;
#[cfg(test)]
use crate::io::sim::{self, Planted};
use crate::io::stream::Closer;
use crate::transport::daemon::{DaemonError, Streaming};
use crate::transport::link::{Event, Link, Notice};

/// An attach to a container that does not run is not tried again sooner.
const PARKED_LEAST: Duration = Duration::from_secs(1);
/// How long an event may take that ends a passing state, before it is looked for.
const RECHECK: Duration = Duration::from_secs(5);
/// A log that grows and is followed is asked for again at most so often: some daemons and proxies
/// end the answer at once.
const LOG_AGAIN: Duration = Duration::from_secs(1);
/// Far enough ahead that no more patience is left.
const END_OF_PATIENCE_NANOS: u64 = 3_600_000_000_000;
/// How long after the end of a run, as inspect tells it, the end of its stream may be seen and
/// still be taken for the end of that run, rather than of one before: our clocks may differ.
const SEEN_LATE_NANOS: u64 = 50_000_000;

/// What came by attach is in the log after this time at the latest (measured: 100 ms).
const LOG_LAG: Duration = Duration::from_millis(200);
/// A pass over the log that takes no longer leaves little for attach to bring meanwhile.
const NEAR: Duration = Duration::from_millis(100);
/// A read of less has taken all that there was: a full socket of the daemon's has more (208 KiB).
const DRAINED: usize = READ_MAX / 2;
/// The log driver that keeps nothing.
const UNREADABLE: &str = "none";
/// How long the event of a container's end may take that was sent before that of its next start.
const HEARSAY: Duration = Duration::from_millis(250);

/// A container that is on this shard.
pub struct Follower {
    pub(super) crew: Rc<Crew>,
    pub(super) id: String,
    pub(super) mail: Rc<Mailbox>,
    pub(super) intake: Rc<RefCell<Intake>>,
    pub(super) origin: Origin,
    /// Of one that was there before us: since when it was tried in vain to read it.
    wanted_since: Option<u64>,
    /// Who it is, as far as it is known.
    pub(super) container: Container,
    /// Inspect has said who it is.
    known: bool,
    /// Which run the attach belongs to: its `StartedAt`.
    pub(super) run: Option<u64>,
    /// The daemon cannot read its log: attach is its only door.
    logless: bool,
    /// How often in turn the daemon failed to read it.
    pub(super) log_failures: Cell<u32>,
    /// How often in turn a pass over it was given up of which nothing came.
    pub(super) overdue: Cell<u32>,
    pub(super) unread: Unread,
    /// How far passes over the log came before the attach went live.
    pub(super) shown: Cursor,
    /// Paces attempts that fail.
    pace: Link,
    /// While it runs: that it is being read.
    pub(super) present: Option<Present>,
    /// What part of the container's lanes it serves.
    pub(super) part: Part,
}

/// What of a container's output has not been taken, apart from what comes by attach.
pub(super) enum Unread {
    /// Nothing: it did not run, or is not wanted.
    Nothing,
    /// What the log has from this place on.
    Log(Box<Place>),
}

/// An attach that is in place. Times are nanoseconds since 1970 by the daemon's clock.
#[derive(Clone, Copy)]
pub(super) struct Attached {
    requested_at: u64,
    pub(super) attached_at: u64,
}

/// What to do after a round.
enum Next {
    /// Another round at once.
    Again,
    /// Another round when something happens to the container.
    Wait,
    /// The same, or after a while: it is in a state that should not last.
    Recheck,
    /// Another round after a pause, or when something happens.
    Retry(String),
    /// The same; the daemon is away, which is said elsewhere, once for all containers.
    Away(String),
    /// Another round when there is room for its lines.
    Blocked,
    /// The container is gone, or not to be followed.
    Over,
}

impl From<DaemonError> for Next {
    fn from(error: DaemonError) -> Next {
        match &error {
            DaemonError::Unreachable(_) => Next::Away(error.to_string()),
            _ => Next::Retry(error.to_string()),
        }
    }
}

impl From<PassError> for Next {
    fn from(error: PassError) -> Next {
        match error {
            PassError::Gone => Next::Over,
            PassError::Unreadable(why) | PassError::Broken(why) => Next::Retry(why),
            PassError::Blocked => Next::Blocked,
        }
    }
}

impl Follower {
    /// A follower of the container that `container` describes as far as it is known.
    pub fn new(
        crew: Rc<Crew>,
        container: Container,
        origin: Origin,
        mail: Rc<Mailbox>,
        intake: Rc<RefCell<Intake>>,
    ) -> Follower {
        let now = crew.now();
        let unread = match origin {
            Origin::Found if crew.follow.backlog => {
                Unread::Log(Box::new(Place::backlog(crew.follow.tail, now)))
            }
            Origin::Found => Unread::Nothing,
            Origin::Created | Origin::Started => Unread::Log(Box::new(Place::since(0))),
        };
        Follower {
            id: container.id.clone(),
            pace: Link::new(now),
            intake,
            present: None,
            known: false,
            run: None,
            logless: false,
            log_failures: Cell::new(0),
            overdue: Cell::new(0),
            shown: Cursor::new(),
            crew,
            mail,
            origin,
            wanted_since: None,
            container,
            unread,
            part: Part::main(),
        }
    }

    /// Another follower of the same container, from `unread` on.
    pub(super) fn twin(
        &self,
        mail: Rc<Mailbox>,
        intake: Rc<RefCell<Intake>>,
        unread: Unread,
    ) -> Follower {
        let (crew, container) = (Rc::clone(&self.crew), self.container.clone());
        Follower {
            known: self.known,
            run: self.run,
            unread,
            shown: self.shown.clone(),
            ..Follower::new(crew, container, Origin::Started, mail, intake)
        }
    }

    /// Follows until the container is gone or the program stops.
    pub async fn run(mut self) {
        let ended = matches!(self.container.state, State::Exited | State::Gone);
        if self.origin == Origin::Found && ended && self.has_positions() {
            // There may be many, and of most of them there is nothing to read.
            self.until_there_is_room().await;
        } else if self.origin == Origin::Found && ended {
            // Nothing to read, until it is started: whatever it writes from then on. That may have
            // been before the list was taken, which is told of after it, but not before us.
            self.wants_all_since(self.crew.born());
            self.sleep().await;
        }
        while !self.mail.is_stopping() {
            if !self.mail.wait_by(&mut self.pace).await {
                continue;
            }
            let begun = self.crew.now();
            let next = self.round().await;
            if self.mail.is_stopping() {
                break;
            }
            self.mail.close_all();
            let blocked = matches!(next, Next::Blocked);
            let fails = blocked || matches!(next, Next::Recheck | Next::Retry(_) | Next::Away(_));
            if self.mail.is_destroyed() && (fails || matches!(next, Next::Wait)) {
                break;
            }
            self.intake.borrow_mut().let_go();
            if fails && self.origin == Origin::Found && self.is_read() {
                self.wanted_since.get_or_insert(begun);
            }
            if let Next::Over = next {
                break;
            }
            self.follow_parted();
            self.pause(next).await;
        }
        if !self.leave_position() {
            self.give_out();
        }
        self.end_behind();
        self.part.end_turn();
        self.end_parted().await;
        self.forget_position();
    }

    /// Between two rounds.
    async fn pause(&mut self, next: Next) {
        let now = clock::now();
        if !matches!(next, Next::Blocked) {
            self.part.end_turn();
        }
        let is_away = matches!(next, Next::Away(_));
        match next {
            Next::Retry(reason) | Next::Away(reason) => {
                self.pace.handle(Event::Failed(reason), now);
            }
            Next::Again | Next::Over => self.pace.handle(Event::Connected, now),
            Next::Wait => {
                self.pace.handle(Event::Connected, now);
                self.sleep().await;
            }
            Next::Recheck => {
                self.pace.handle(Event::Connected, now);
                self.mail.wait(Some(now + RECHECK)).await;
            }
            Next::Blocked => {
                self.pace.handle(Event::Connected, now);
                self.note_behind();
                self.until_there_is_room().await;
            }
        }
        self.attend();
        match self.pace.notice() {
            Some(lasting @ Notice::StillDown { .. }) if !is_away => {
                tracing::warn!(container = self.container.name, "{lasting}");
            }
            Some(passing) => tracing::debug!(container = self.container.name, "{passing}"),
            None => {}
        }
    }

    /// Waits until there is a reason to look at a container that has ended.
    async fn sleep(&mut self) {
        while !self.mail.is_stopping() && !self.mail.take_stirred() && !self.is_superfluous() {
            self.wait(None).await;
        }
    }

    /// Nothing more will be read: what is held goes out.
    fn give_out(&mut self) {
        self.force_seam();
        let mut intake = self.intake.borrow_mut();
        intake.joined(clock::wall());
        if self.known {
            intake.go_live(self.container.tty);
        }
        intake.finish();
        self.present = None;
        // The reader may be about to bring more, and nothing delivers that any more.
        intake.let_go();
    }

    /// One attach from its request to its end, and what the log has before it.
    async fn round(&mut self) -> Next {
        if self.is_superfluous() {
            return Next::Over;
        }
        if self.is_blocked() {
            return Next::Blocked;
        }
        // Before its first start, each millisecond counts. Later the log has what attach misses,
        // and an attach to a container that is not running costs an Engine before 27.0 a
        // descriptor for ever if the container does not run again.
        let early = self.logless || (self.origin == Origin::Created && !self.known);
        let inspected_at = self.crew.now();
        let (mut attached, seen) = self.attach_and_inspect(early).await;
        let seen = match seen {
            Ok(seen) => seen,
            Err(error) if error.status() == Some(404) => return self.vanished(attached).await,
            Err(error) => return error.into(),
        };
        if let Some(reason) = ignored(&seen, &self.crew.follow) {
            tracing::debug!(container = seen.name, "not followed: {reason}");
            return Next::Over;
        }
        let mut since = self.wanted_since.take();
        if self.origin == Origin::Found && seen.started_at >= Some(self.crew.born()) {
            // It only seems to have been there before us: it started while we did, and may have run
            // more than once since then.
            let begin = Place::begin_of_run(&seen).min(self.crew.born());
            since = Some(since.unwrap_or(begin).min(begin));
        }
        since.into_iter().for_each(|since| self.wants_all_since(since));
        self.identify(seen);
        if attached.is_none() && self.is_running() {
            if let Err(next) = self.come_near().await {
                return next;
            }
            attached = Some(self.attach().await);
            if self.mail.has_started() {
                if let Err(next) = self.look_again().await {
                    return next; // or it may have ended before it was attached
                }
                let other_run = self.container.started_at != self.run;
                if other_run && self.origin == Origin::Found && self.is_read() {
                    self.wants_all_since(inspected_at); // it may have ended, too
                }
            }
        }
        let result = match attached {
            None => self.read_what_is_left(inspected_at).await,
            Some(Ok(attached)) => self.read_on_from(attached).await,
            Some(Err(error)) => self.without_attach(error).await,
        };
        match result {
            Ok(next) | Err(next) => next,
        }
    }

    /// Reads the log of a container that is far behind, until it is not any more: what attach
    /// brings meanwhile would have to be held. Each pass has what was written during the one before
    /// it; when they do not become shorter any more, no further one helps.
    async fn come_near(&mut self) -> Result<(), Next> {
        if self.part.is_far() {
            self.read_near().await?;
        }
        self.part.taken_up = false;
        Ok(())
    }

    /// The same, however far it is.
    async fn read_near(&mut self) -> Result<(), Next> {
        let mut before = Duration::MAX;
        while !self.mail.is_stopping() {
            let begun = clock::now();
            match self.pass(false).await {
                Ok(()) => {}
                // What that means is for those to say who join.
                Err(PassError::Gone | PassError::Unreadable(_)) => break,
                Err(error) => return Err(error.into()),
            }
            self.attend();
            let took = clock::now().saturating_duration_since(begun);
            if took < NEAR || took > before / 2 {
                break;
            }
            before = took;
        }
        Ok(())
    }

    /// Asks who it is, and sends the attach request before that if it is to be `early`.
    ///
    /// Neither waits for the other's answer: where the start of a container holds both up, it may
    /// be gone a few milliseconds later, and its log with it.
    async fn attach_and_inspect(
        &self,
        early: bool,
    ) -> (Option<Result<Attached, DaemonError>>, Result<Container, DaemonError>) {
        if !early {
            return (None, self.inspect().await);
        }
        let (attached, seen) = tokio::join!(self.attach(), self.inspect());
        let seen = match seen {
            // It may have started before the attach was in place.
            Ok(seen) if !seen.is_running() && self.is_fresh(&seen) => self.inspect().await,
            seen => seen,
        };
        (Some(attached), seen)
    }

    /// It does not run, as was asked at `inspected_at`, and is not attached: its log may have what
    /// was missed.
    async fn read_what_is_left(&mut self, inspected_at: u64) -> Result<Next, Next> {
        if self.origin == Origin::Found && self.is_read() {
            // By the time of the answer it may have been started.
            self.wants_all_since(inspected_at);
        } else {
            if !self.is_fresh(&self.container) {
                self.read_log().await?;
            }
            self.origin = Origin::Started;
        }
        Ok(Next::Wait)
    }

    /// Whether nothing is to be read of its log.
    fn is_read(&self) -> bool {
        matches!(self.unread, Unread::Nothing)
    }

    fn wants_all_since(&mut self, nanos: u64) {
        self.unread = Unread::Log(Box::new(Place::since(nanos)));
        self.origin = Origin::Started;
    }

    /// The attach is in place: brings what was before it, goes live, and stays until it ends.
    async fn read_on_from(&mut self, attached: Attached) -> Result<Next, Next> {
        let (since, mut live) = (clock::now(), attached);
        // It has ended, and its log is complete. What an attach brings that was in place before
        // that is of the same run, also what is still on its way.
        let ended = !self.is_running() && !self.is_fresh(&self.container);
        let asked_at = Duration::from_nanos(attached.requested_at) + self.crew.slack();
        let finished_at = self.container.finished_at.map(Duration::from_nanos);
        let parked = finished_at.is_none_or(|finished_at| finished_at <= asked_at);
        if ended && parked && self.intake.borrow().is_silent() {
            self.read_log().await?;
        }
        if !self.is_running() && self.is_fresh(&self.container) {
            self.until_it_runs().await?;
            live.attached_at = self.crew.now();
        } else if let Unread::Log(_) = self.unread {
            let joined = self.join(attached).await;
            self.part.aside = None;
            joined?;
        } else if self.origin == Origin::Found {
            // What was written before is not wanted, whatever becomes of this attach.
            self.shown.raise(attached.requested_at);
        }
        if self.is_overfull() && !self.intake.borrow().unreadable {
            if let Unread::Nothing = self.unread {
                self.wants_all_since(attached.requested_at);
            }
            return Ok(Next::Again); // the log has it
        }
        self.note_overfull(attached);
        self.intake.borrow_mut().go_live(self.container.tty);
        self.unread = Unread::Nothing;
        self.note_caught_up();
        self.pace.handle(Event::Connected, clock::now());
        self.origin = Origin::Started;
        if self.intake.borrow().ended().is_none() {
            self.until_it_ends(live).await;
        }
        self.after_the_end(attached, since).await
    }

    /// Whether more came by attach than may be held, before it could go on its way.
    fn is_overfull(&self) -> bool {
        let intake = self.intake.borrow();
        !intake.is_live() && matches!(intake.ended(), Some(Ended::Full { .. }))
    }

    /// Where there is no log, what did not fit is lost.
    fn note_overfull(&self, attached: Attached) {
        if self.is_overfull() {
            let why = "more came at once than may be held, and no log has it";
            self.note_gap(attached.requested_at, self.crew.now(), why);
        }
    }

    /// Whether nothing of a container that does not run can have been missed: it never ran, or
    /// its last run was read to its end.
    fn is_fresh(&self, container: &Container) -> bool {
        match &self.unread {
            Unread::Nothing => true,
            Unread::Log(place) => container.started_at.is_none() || place.is_clean(container),
        }
    }

    /// The attach was refused, or the daemon is away.
    async fn without_attach(&mut self, error: DaemonError) -> Result<Next, Next> {
        match error.status() {
            // Paused, or between two runs: an event will tell when there is more.
            Some(409) => Ok(Next::Recheck),
            // A proxy that lets nothing but GET pass: the other door alone must do.
            Some(403 | 405 | 501) => self.read_log_alone(&error).await,
            Some(404) => Ok(self.not_to_be_found()),
            // Inspect was answered: it is not the daemon that is away, and nobody else says this.
            _ => Err(Next::Retry(error.to_string())),
        }
    }

    /// Reads a log as it grows, where attach is not to be had.
    async fn read_log_alone(&mut self, refusal: &DaemonError) -> Result<Next, Next> {
        if !self.crew.said_alone.replace(true) {
            tracing::warn!("attach is not possible ({refusal}); reading logs instead");
        }
        if let Unread::Nothing = self.unread {
            self.unread = Unread::Log(Box::new(Place::since(self.crew.now())));
        }
        self.origin = Origin::Started;
        self.pace.handle(Event::Connected, clock::now());
        while !self.mail.is_stopping() {
            let (running, again) = (self.is_running(), clock::now() + LOG_AGAIN);
            self.intake.borrow_mut().rested = None;
            if running {
                // Such a pass lasts as long as the container: others may catch up meanwhile.
                self.note_caught_up();
            }
            match self.pass(running).await {
                Ok(()) => {}
                Err(PassError::Gone) => return Ok(Next::Over),
                Err(PassError::Unreadable(why)) => {
                    tracing::warn!(container = self.container.name, "not followed: {why}");
                    return Ok(Next::Over);
                }
                Err(error) => return Ok(error.into()),
            }
            self.note_caught_up();
            self.look_again().await?;
            let same_run = self.container.started_at == self.run;
            match (running, self.is_running()) {
                // It has ended: its log is complete now.
                (true, false) if same_run => {}
                (true, true) if same_run => {
                    while clock::now() < again && !self.mail.is_stopping() {
                        self.mail.wait(Some(again)).await;
                        self.attend();
                    }
                }
                (_, false) if same_run => {
                    self.finish();
                    return Ok(Next::Wait);
                }
                // The pass may have brought some of that run, up to within a line.
                _ => return Ok(Next::Again),
            }
        }
        Ok(Next::Over)
    }

    /// Waits for a container that is not running to start; its first lines are held until it is
    /// known as what they are to be sent (its process id is part of that).
    ///
    /// That it has started, and ended again, is also looked for when a list asks to: events may
    /// not be told, and a stream that hangs brings nothing.
    async fn until_it_runs(&mut self) -> Result<(), Next> {
        loop {
            while self.intake.borrow().is_silent()
                && !self.mail.take_started()
                && !self.mail.take_stirred()
            {
                if self.mail.is_stopping() || self.mail.is_destroyed() {
                    return Err(Next::Over);
                }
                self.mail.wait(None).await;
                self.attend();
            }
            match self.inspect().await {
                Ok(seen) if !seen.is_running() && !self.is_fresh(&seen) => {
                    self.identify(seen);
                    if self.intake.borrow().is_silent() {
                        return Err(Next::Again); // the log has what it wrote
                    }
                }
                Ok(seen) => self.identify(seen),
                // The lines are there, and go out under what is known.
                Err(error) => tracing::debug!(container = self.container.name, "{error}"),
            }
            // A start that was told of late may be that of a run which has been read.
            if self.is_running() || !self.intake.borrow().is_silent() {
                return Ok(());
            }
        }
    }

    /// Stays until the attach stream ends. A start that is told of meanwhile is that of the run
    /// which is attached, if that began before the attach was in place, or the run before had
    /// ended before it was asked for. Else the end of the stream is on its way, and the log has
    /// what the new run writes.
    async fn until_it_ends(&mut self, attached: Attached) {
        let slack = self.crew.slack();
        let is_attached = |seen: &Container| {
            let before = |at: Option<u64>, limit: u64| {
                at.is_none_or(|at| Duration::from_nanos(at) <= Duration::from_nanos(limit) + slack)
            };
            before(seen.started_at, attached.attached_at)
                || before(seen.finished_at, attached.requested_at)
        };
        let mut vigil = Vigil::new(&self.crew.asking, clock::now());
        while self.intake.borrow().ended().is_none() && !self.mail.is_stopping() {
            self.wait(Some(vigil.at())).await;
            self.follow_parted();
            if self.is_superfluous() {
                return;
            }
            self.mail.take_stirred();
            if self.intake.borrow().ended().is_none()
                && self.mail.take_started()
                && let Ok(seen) = self.inspect().await
                && is_attached(&seen)
            {
                self.identify(seen);
            }
            self.keep_vigil(&mut vigil, attached).await;
        }
    }

    /// The live stream has ended: what has become of the container?
    async fn after_the_end(&mut self, attached: Attached, since: Instant) -> Result<Next, Next> {
        // A question may have been waited for since then, and what was written meanwhile is unread.
        let now = self.crew.now();
        let ended_at = self.intake.borrow().ended_at().unwrap_or(now);
        self.note_end(ended_at);
        if self.mail.is_stopping() || self.is_superfluous() {
            return Ok(Next::Over);
        }
        match self.intake.borrow().ended() {
            Some(Ended::Blocked) => return Ok(Next::Blocked),
            // Its log has what else it wrote, also if it has ended.
            Some(Ended::Full { .. }) => return Ok(Next::Again),
            Some(Ended::Hung { .. }) => {
                self.crew.counters.reattached.add(1);
                return Ok(Next::Retry("its stream hangs".into()));
            }
            _ => {}
        }
        self.look_again().await?;
        if self.is_running() && self.brought_more_than_the_run_before() {
            self.run = self.container.started_at;
        }
        if self.is_running() && self.container.started_at == self.run {
            self.crew.counters.reattached.add(1);
            return Ok(Next::Retry("its stream ended although it runs".into()));
        }
        if self.container.started_at == self.run && !self.is_read_to_its_end() {
            return Ok(Next::Again); // its log has the rest
        }
        let died_at = self.death(attached, ended_at).await;
        let last = self.last_run(died_at);
        if self.is_in_doubt(attached, last.as_ref()) {
            // The text of what came tells its place in the log, also within a line.
            return Ok(Next::Again);
        }
        self.finish();
        self.set_clean(last);
        let parked = self.logless
            && !self.container.auto_remove
            && self.container.state == State::Exited
            && clock::now() - since >= PARKED_LEAST;
        Ok(if parked || self.is_running() { Next::Again } else { Next::Wait })
    }

    /// Of a container that runs: whether its stream brought something long after the end of the run
    /// before. Where that ended while attach was asked for, nothing else tells which is attached.
    fn brought_more_than_the_run_before(&self) -> bool {
        let intake = self.intake.borrow();
        let late = nanos(ARRIVAL + self.crew.slack() + intake.lag());
        let is_after = |at: u64| intake.read_until() > at.saturating_add(late);
        self.container.finished_at.is_some_and(is_after)
    }

    /// Earlier ends are not that of the run that is attached: it was begun or attached later, or
    /// goes on to write long after.
    pub(super) fn earliest_death(&self, attached: Attached) -> Option<u64> {
        let intake = self.intake.borrow();
        let slack = self.crew.slack();
        let before = |at: u64, time: Duration| at.saturating_sub(nanos(time + slack));
        let asked_at = before(attached.requested_at, Duration::ZERO);
        let wrote_at = before(intake.read_until(), ARRIVAL + intake.lag());
        Some(self.run?.max(asked_at).max(wrote_at))
    }

    /// Whether `seen` is the run that is attached, and goes on.
    pub(super) fn is_this_run(&self, seen: &Container) -> bool {
        seen.is_running() && seen.started_at == self.run
    }

    /// Whether the daemon cannot read its log.
    pub(super) fn is_logless(&self) -> bool {
        self.logless
    }

    /// When the run ended whose stream ended at `ended_at`, as the daemon told, if the container
    /// has run again since: inspect no longer knows. The event was sent before that of the start,
    /// but may still be on its way.
    async fn death(&self, attached: Attached, ended_at: u64) -> Option<u64> {
        if self.container.started_at == self.run {
            return None;
        }
        let earliest = self.earliest_death(attached)?;
        let latest = self.container.started_at?.min(ended_at.saturating_add(SEEN_LATE_NANOS));
        let patient_until = clock::now() + HEARSAY;
        loop {
            if let Some(died) = self.mail.death_since(earliest) {
                // Inspect tells of that end too, unless there were others since.
                let is_that = |at: &u64| *at <= died.saturating_add(SEEN_LATE_NANOS);
                let finished_at = self.container.finished_at.filter(is_that).unwrap_or(0);
                return (died <= latest && self.is_read_to(finished_at)).then_some(died);
            }
            if clock::now() >= patient_until || self.mail.is_stopping() {
                return None;
            }
            self.mail.wait(Some(patient_until)).await;
        }
    }

    /// The run whose stream has ended, unless another one may have ended since.
    fn last_run(&self, died_at: Option<u64>) -> Option<LastRun> {
        if let Some(finished_at) = died_at {
            return Some(LastRun { started_at: self.run, finished_at, told: true });
        }
        let finished_at = self.container.finished_at?;
        let started_at = if self.is_running() { self.run } else { self.container.started_at };
        let is_that = started_at == self.run && !self.is_running();
        (is_that || self.is_read_to_its_end()).then_some(LastRun {
            started_at,
            finished_at,
            told: false,
        })
    }

    /// Whether it is not known of a container that has run again which run the stream was of, or
    /// that it brought that to its end; `last` is the run that it seems to have been. Where no log
    /// can be read that is of no interest.
    fn is_in_doubt(&self, attached: Attached, last: Option<&LastRun>) -> bool {
        if self.logless {
            return false;
        }
        let Some(last) = last else { return self.is_running() };
        let delivered = self.intake.borrow().reached();
        let ran_again = self.container.started_at != last.started_at;
        ran_again && last.may_be_before_attach(attached.attached_at, delivered)
    }

    /// Whether the stream ended because the run did that inspect tells the end of.
    fn is_read_to_its_end(&self) -> bool {
        self.container.finished_at.is_none_or(|at| self.is_read_to(at))
    }

    /// Whether the stream brought all of a run that ended at `finished_at`. A daemon ends the
    /// stream after that (22 ms or more were seen), or little before where the machine is so busy
    /// that the end of the process is noticed late: one that ended earlier was cut, and the
    /// container may have written more. Where it has no log that is of no interest.
    fn is_read_to(&self, finished_at: u64) -> bool {
        let intake = self.intake.borrow();
        let slack = nanos(self.crew.slack()).saturating_add(SEEN_LATE_NANOS);
        let finished_at = finished_at.saturating_sub(slack);
        intake.is_whole_since(finished_at) || self.logless || intake.unreadable
    }

    /// The delivered bytes end here; a later attach goes on from this place in the log.
    fn note_end(&mut self, ended_at: u64) {
        let intake = self.intake.borrow();
        let live_until = match intake.ended() {
            // It may have stood still for a while before it broke.
            Some(Ended::Eof | Ended::Corrupt(_)) => Some(intake.read_until().min(ended_at)),
            Some(Ended::Hung { live_until }) => Some(*live_until),
            _ => None,
        };
        if let Some(live_until) = live_until {
            let mut config = ResumeConfig::new(live_until, self.crew.slack());
            config.arrival += intake.lag();
            let [stdout, stderr] = &intake.tails;
            let resume = Resume::new([stdout, stderr], config);
            let place = Place::after(resume, self.shown.clone()).reaching(intake.reached());
            self.unread = Unread::Log(Box::new(place));
        } else {
            self.unread = Unread::Log(Box::new(self.place_behind(&intake)));
        }
        #[cfg(test)]
        if sim::planted(Planted::NoResume) {
            self.unread = Unread::Nothing;
        }
        if let Some(Ended::Corrupt(what)) = intake.ended() {
            self.note_corrupt(what);
        }
    }

    fn note_logless(&mut self, why: &str) {
        self.logless = true;
        self.intake.borrow_mut().unreadable = true;
        tracing::debug!(container = self.container.name, "no log to read: {why}");
    }

    fn note_corrupt(&self, what: &str) {
        self.crew.counters.corrupt_streams.add(1);
        tracing::warn!(container = self.container.name, "stream closed: {what}");
    }

    /// The container was removed before its log was read as far as `until`.
    fn note_removed(&self, until: u64) {
        let intake = self.intake.borrow();
        let place = match &self.unread {
            Unread::Log(place) => place.cursor().since(&Source::OUTPUTS),
            Unread::Nothing => None,
        };
        let from = place.or(self.run).unwrap_or(until).max(intake.read_until());
        if intake.feed.has_lanes() && from < until {
            self.note_gap(from, until, "it was removed before they could be read");
        }
    }

    /// Reads the log until it joins what attach brings.
    async fn join(&mut self, attached: Attached) -> Result<(), Next> {
        let config = self.seam_config(attached);
        self.intake.borrow_mut().join(self.container.tty, config);
        loop {
            match self.pass(false).await {
                Ok(()) => {}
                Err(PassError::Gone) => {
                    self.note_removed(attached.attached_at);
                    self.crew.counters.unsure_seams.add(1);
                    self.force_seam();
                }
                Err(PassError::Unreadable(why)) => {
                    self.note_logless(&why);
                    self.intake.borrow_mut().skip_seam(clock::wall());
                }
                Err(error) => return Err(error.into()),
            }
            self.follow_parted();
            if self.is_seam_closed().await? {
                if let Unread::Log(place) = &self.unread {
                    self.shown = place.cursor();
                }
                self.unread = Unread::Nothing;
                return Ok(());
            }
        }
    }

    /// Waits as the seam asks; `true` when attach may go on, `false` when the log is to be read
    /// on first.
    async fn is_seam_closed(&mut self) -> Result<bool, Next> {
        let mut ended = false;
        loop {
            if self.mail.is_stopping() {
                self.force_seam();
            } else if self.is_blocked() {
                return Err(Next::Blocked);
            }
            let stream = self.intake.borrow().ended().cloned();
            match stream {
                Some(Ended::Full { held }) if !self.mail.is_stopping() => {
                    self.attach_again(held).await?;
                    return Ok(false);
                }
                // What it brought before is in the log.
                Some(Ended::Corrupt(what)) => {
                    self.note_corrupt(&what);
                    return Err(Next::Retry(format!("stream closed: {what}")));
                }
                Some(Ended::Eof) if !ended => {
                    self.output_has_ended().await?;
                    ended = true;
                }
                _ => {}
            }
            let now = self.crew.now();
            let verdict = self.intake.borrow_mut().seam().map(|seam| seam.poll(now));
            #[cfg(test)]
            let verdict = match sim::planted(Planted::HastySeam) {
                true => verdict.map(|_| Verdict::Joined),
                false => verdict,
            };
            let pause = match verdict {
                None => return Ok(true),
                Some(Verdict::Joined) => return self.close_seam(),
                Some(Verdict::Unsure) => {
                    tracing::debug!(
                        container = self.container.name,
                        "where log and attach join is a guess"
                    );
                    self.crew.counters.unsure_seams.add(1);
                    return self.close_seam();
                }
                Some(Verdict::ReadOn { after }) if after.is_zero() => return Ok(false),
                Some(Verdict::ReadOn { after }) => after,
                Some(Verdict::WaitAttach { at_most }) => at_most,
            };
            self.mail.wait(Some(clock::now() + pause)).await;
            self.attend();
        }
    }

    fn seam_config(&self, attached: Attached) -> SeamConfig {
        let Attached { requested_at, attached_at } = attached;
        SeamConfig::new(requested_at, attached_at, self.crew.slack(), self.crew.hold.most())
    }

    /// More came than may be held, which was so much: the attach is let go of. When it is this
    /// one's turn to hold more, and the log has been read on, a new one takes its place.
    async fn attach_again(&mut self, held: usize) -> Result<(), Next> {
        tracing::debug!(container = self.container.name, "{held} bytes were let go of");
        self.mail.detach();
        self.part.aside = None;
        self.note_behind();
        self.until_it_may_hold(held).await;
        self.look_again().await?;
        if !self.is_running() || self.container.started_at != self.run {
            return Err(Next::Again);
        }
        self.read_near().await?;
        let attached = self.attach().await?;
        let config = self.seam_config(attached);
        if let Some(seam) = self.intake.borrow_mut().seam() {
            seam.renew(config);
        }
        Ok(())
    }

    fn close_seam(&mut self) -> Result<bool, Next> {
        self.finish_place()?;
        tracing::debug!(container = self.container.name, "log and attach are joined");
        self.intake.borrow_mut().joined(clock::wall());
        Ok(true)
    }

    /// The attach ended before it was joined: has the container's output, or just the connection?
    async fn output_has_ended(&mut self) -> Result<(), Next> {
        match self.look_again().await {
            Ok(()) if self.is_running() && self.container.started_at == self.run => {
                return Err(Next::Retry("its stream ended although it runs".into()));
            }
            Ok(()) | Err(Next::Over) => {}
            Err(next) => return Err(next),
        }
        let now = self.crew.now();
        if let Some(seam) = self.intake.borrow_mut().seam() {
            seam.attach_ended(now);
        }
        Ok(())
    }

    /// No log will tell any more: joins with what there is.
    fn force_seam(&mut self) {
        let later = self.crew.now() + END_OF_PATIENCE_NANOS;
        if let Some(seam) = self.intake.borrow_mut().seam() {
            seam.attach_ended(later);
            for at in [later, later + END_OF_PATIENCE_NANOS] {
                seam.pass_begins(at);
                let _ = seam.pass_ended(at);
            }
        }
    }

    /// Reads what the log has of a container that has ended, without looking for a seam.
    async fn read_log(&mut self) -> Result<(), Next> {
        let run = self.container.started_at;
        match self.last_passes().await {
            Ok(()) => {}
            Err(PassError::Gone) => {
                self.note_removed(self.crew.now());
                return Err(Next::Over);
            }
            Err(PassError::Unreadable(why)) => {
                self.note_logless(&why);
            }
            Err(error) => return Err(error.into()),
        }
        self.look_again().await?;
        if self.is_running() || self.container.started_at != run {
            return Ok(()); // the log may have some of the next run too
        }
        let last = self.container.finished_at.or(run);
        let run = |finished_at| LastRun { started_at: run, finished_at, told: false };
        self.set_clean(last.map(run));
        self.note_caught_up();
        self.finish();
        Ok(())
    }

    /// All that the run `last` wrote is read, if that is known of any.
    fn set_clean(&mut self, last: Option<LastRun>) {
        if let Unread::Log(place) = &mut self.unread {
            place.set_clean(last);
            self.intake.borrow_mut().rested = last.and_then(|last| last.started_at);
        }
    }

    /// Reads the log of a container that has ended to its end; if need be once more, when it has
    /// all that was delivered before the end.
    async fn last_passes(&mut self) -> Result<(), PassError> {
        self.pass(false).await?;
        if !matches!(&self.unread, Unread::Log(place) if place.holds_back()) {
            return Ok(());
        }
        tokio::time::sleep(LOG_LAG).await;
        self.pass(false).await?;
        self.finish_place()
    }

    /// The log will not tell more: what is held back for want of certainty goes out.
    fn finish_place(&mut self) -> Result<(), PassError> {
        match &mut self.unread {
            Unread::Log(place) => place.finish(&mut self.intake.borrow_mut()),
            Unread::Nothing => Ok(()),
        }
    }

    /// Runs one pass over the log, from the place where the last one ended.
    async fn pass(&mut self, follow: bool) -> Result<(), PassError> {
        if self.container.auto_remove && !self.is_running() {
            // It is being removed, and asking for its log could make that fail: the daemon opens
            // the log of a container that has ended anew, in the folder that it is deleting.
            return Err(PassError::Gone);
        }
        let mut place = match std::mem::replace(&mut self.unread, Unread::Nothing) {
            Unread::Log(place) => place,
            Unread::Nothing => return Ok(()),
        };
        place.run_again(&self.container);
        let pass = super::pass::read(self, &mut place, self.container.tty, follow);
        let result = Box::pin(pass).await;
        self.unread = Unread::Log(place);
        result
    }

    /// It was gone before anyone could ask who it was: what attach brought goes out under what
    /// its event said.
    async fn vanished(&mut self, attached: Option<Result<Attached, DaemonError>>) -> Next {
        let Some(Ok(attached)) = attached else { return self.not_to_be_found() };
        self.until_it_ends(attached).await;
        self.note_overfull(attached);
        if !self.known {
            self.container.tty = !self.intake.borrow().looks_framed();
            if ignored(&self.container, &self.crew.follow).is_some() {
                return Next::Over;
            }
            self.intake.borrow_mut().feed.bind(&self.container, &self.crew.lanes.borrow());
        }
        self.intake.borrow_mut().go_live(self.container.tty);
        Next::Over
    }

    /// The daemon tells of a container before it can be asked for it: it is gone when the daemon
    /// says so, or when a list lacks it.
    fn not_to_be_found(&self) -> Next {
        match self.mail.is_destroyed() {
            true => Next::Over,
            false => Next::Retry("the daemon does not know it".into()),
        }
    }

    /// Sends the attach request; a task of its own reads what comes.
    async fn attach(&self) -> Result<Attached, DaemonError> {
        let requested_at = self.crew.now();
        let daemon = self.crew.daemon();
        let request = daemon.api.attach(&self.id);
        let awaited = Awaited::new(Asked::Attach);
        let began = |closer: Closer| {
            awaited.begins(&closer);
            self.mail.attached(closer);
        };
        let answer = self.watched(&awaited, daemon.stream(&request, began));
        let stream = Box::pin(answer).await?;
        let attach = self.intake.borrow_mut().opened(self.crew.room_between());
        let (crew, intake) = (Rc::clone(&self.crew), Rc::clone(&self.intake));
        let reader = read_attach(stream, attach, crew, intake, Rc::clone(&self.mail));
        tokio::task::spawn_local(reader);
        Ok(Attached { requested_at, attached_at: self.crew.now() })
    }

    pub(super) async fn inspect(&self) -> Result<Container, DaemonError> {
        Box::pin(self.crew.inspect(&self.id, &self.mail)).await
    }

    /// Asks again what the container is doing.
    async fn look_again(&mut self) -> Result<(), Next> {
        match self.inspect().await {
            Ok(seen) => {
                // What its lines are sent under stays as it was when it was attached.
                self.container.state = seen.state;
                self.container.started_at = seen.started_at;
                self.container.finished_at = seen.finished_at;
                Ok(())
            }
            Err(error) if error.status() == Some(404) => Err(Next::Over),
            Err(error) => Err(error.into()),
        }
    }

    /// Says what its lines are sent under.
    fn identify(&mut self, mut seen: Container) {
        let lanes = self.crew.lanes.borrow();
        if !lanes.iter().any(|lane| lane.reads_answers()) {
            seen.answer = None;
        }
        self.intake.borrow_mut().feed.bind(&seen, &lanes);
        drop(lanes);
        let first = !self.known;
        self.run = seen.started_at;
        self.intake.borrow_mut().unreadable |= seen.log_driver == UNREADABLE;
        self.container = seen;
        self.known = true;
        // Taken out before it is entered again.
        self.present = None;
        if self.is_running() && !self.part.is_apart() {
            self.present = Some(self.crew.roster.enter(&self.id, self.crew.index));
        }
        if first {
            self.take_up_positions();
            self.follow_parted();
        }
    }

    /// Its output has ended.
    fn finish(&mut self) {
        self.intake.borrow_mut().finish();
        self.present = None;
    }

    /// Takes note of a new name.
    pub(super) fn attend(&mut self) {
        if let Some(name) = self.mail.take_name()
            && name != self.container.name
        {
            self.container.name.clone_from(&name);
            self.intake.borrow_mut().feed.rename(name, &self.crew.lanes.borrow());
        }
        if let Some(complaint) = self.intake.borrow_mut().take_complaint() {
            tracing::warn!(container = self.container.name, "the daemon says: {complaint}");
        }
    }

    fn is_running(&self) -> bool {
        self.container.is_running()
    }
}

/// Reads attach number `attach` to its end, whatever becomes of its bytes.
async fn read_attach(
    mut stream: Streaming,
    attach: u64,
    crew: Rc<Crew>,
    intake: Rc<RefCell<Intake>>,
    mail: Rc<Mailbox>,
) {
    let mut pace = crew.pace();
    loop {
        let (mut wanted, mut read) = (true, 0);
        let more = stream
            .next(&mut |bytes| {
                read += bytes.len();
                let mut intake = intake.borrow_mut();
                wanted &= intake.take(attach, bytes, clock::wall());
            })
            .await;
        if !wanted || !matches!(more, Ok(true)) {
            intake.borrow_mut().end(attach, crew.now(), more.is_err());
            break;
        }
        intake.borrow_mut().note_read(attach, read, read < DRAINED, clock::wall());
        if intake.borrow().needs_attention() {
            mail.ring();
        }
        crew.rest(&stream, &mut pace, read).await;
    }
    drop(stream);
    mail.ring();
}
