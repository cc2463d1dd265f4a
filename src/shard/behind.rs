//! What becomes of a container whose lines a route has no room for (`overflow=block`): its place is
//! kept, and its log is read on from there when there is room again.
//!
//! Where no lane of a container has room, its attach stream is let go of: the daemon's files are
//! the buffer. Where some have, those that are full get a follower of their own, so that the others
//! go on; it brings what they have missed, then what comes, and hands its lanes back where both
//! are at the same place. Decides nothing about doors and seams: that is [`super::follow`]'s.

use std::cell::RefCell;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::follow::{Follower, Unread};
use super::intake::{Intake, Parted};
use super::mail::Mailbox;
use super::pass::Place;
use crate::doors::resume::{Resume, ResumeConfig};
use crate::io::clock;
use crate::stamp::Stamp;

/// Containers of a shard that come back from their logs at a time: each that does reads as fast as
/// its receivers take, and the others would only fill the memory.
pub(super) const CATCHING_UP_MAX: usize = 4;
/// Containers of a shard that look for the end of what was delivered at a time, and how long others
/// wait for that at most.
pub(super) const RESUMING_MAX: usize = 4;
const RESUME_SOON: Duration = Duration::from_secs(1);
/// How often a follower of lanes that fell behind looks whether it is at the same place as the
/// container's main one.
const REUNITE_EVERY: Duration = Duration::from_millis(250);
/// Both streams have brought the same for so long nothing: the daemon hands each piece to all who
/// are attached, within milliseconds.
const QUIET_NANOS: u64 = 200_000_000;

/// A follower's part in its container.
pub(super) struct Part {
    /// Of a follower of lanes that fell behind: the intake of the container's main one.
    pub(super) main: Option<Weak<RefCell<Intake>>>,
    /// The followers of lanes that fell behind.
    apart: RefCell<Vec<tokio::task::JoinHandle<()>>>,
    /// The permission to catch up, until that is done.
    turn: Option<tokio::sync::OwnedSemaphorePermit>,
    /// What it may hold while it is joined, of those who had to let go of that.
    pub(super) aside: Option<tokio::sync::OwnedSemaphorePermit>,
    /// It goes on where an earlier run of the program was, and has read nothing since.
    pub(super) taken_up: bool,
    /// Since when there is output that was not read, for want of room: nanoseconds since 1970.
    pub(super) behind: Option<u64>,
}

impl Part {
    /// The part of a container's first follower.
    pub(super) fn main() -> Part {
        Part {
            main: None,
            apart: RefCell::default(),
            turn: None,
            aside: None,
            taken_up: false,
            behind: None,
        }
    }

    fn apart(main: Weak<RefCell<Intake>>, behind: u64) -> Part {
        Part { main: Some(main), behind: Some(behind), ..Part::main() }
    }

    /// Whether there may be much in the log that was not read.
    pub(super) fn is_far(&self) -> bool {
        self.taken_up || self.behind.is_some()
    }

    /// Others may catch up, whether it is done or has to wait for something else.
    pub(super) fn end_turn(&mut self) {
        self.turn = None;
    }

    /// Whether this is a follower of lanes that fell behind.
    pub(super) fn is_apart(&self) -> bool {
        self.main.is_some()
    }
}

impl Follower {
    /// Whether no lane has room that the container's lines go to.
    pub(super) fn is_blocked(&self) -> bool {
        let (full, lanes) = self.intake.borrow().full_lanes();
        full > 0 && full == lanes
    }

    /// The container's lines wait in its log from now on.
    pub(super) fn note_behind(&mut self) {
        if self.part.behind.is_none() {
            tracing::debug!(container = self.container.name, "waits in its log for room");
            self.part.behind = Some(self.crew.now());
            self.crew.behind(true);
        }
    }

    /// All that was written is read.
    pub(super) fn note_caught_up(&mut self) {
        self.part.end_turn();
        if self.part.behind.take().is_some() {
            tracing::debug!(container = self.container.name, "has caught up");
            self.crew.behind(false);
        }
    }

    /// Nothing more will be read. What the lanes had no room for is lost if the container is gone,
    /// and its log with it, or if nobody will know how far we came.
    pub(super) fn end_behind(&mut self) {
        let Some(since) = self.part.behind.take() else { return };
        self.crew.behind(false);
        if !self.intake.borrow().feed.has_lanes() {
            return;
        }
        if self.is_gone() {
            self.note_gap(since, self.crew.now(), "it was removed while it waited for room");
        } else if self.crew.positions.is_none() {
            let why =
                "logchute ended while it waited for room; with STATE_DIR it would go on there";
            self.note_gap(since, self.crew.now(), why);
        }
    }

    /// Lines are lost that were written in this time (nanoseconds since 1970).
    pub(super) fn note_gap(&self, from: u64, to: u64, why: &str) {
        self.crew.counters.gaps.add(1);
        let (mut begin, mut end) = (Stamp::new(UNIX_EPOCH), Stamp::new(UNIX_EPOCH));
        begin.set_nanos(from);
        end.set_nanos(to);
        let [begin, end] = [&begin, &end].map(|at| String::from_utf8_lossy(at.rfc3339()));
        let container = &self.container.name;
        tracing::warn!(container, "lines of the time from {begin} to {end} may be lost: {why}");
    }

    /// Waits for room, and for the turn to catch up.
    pub(super) async fn until_there_is_room(&mut self) {
        let turns = Arc::clone(&self.crew.turns);
        while !self.is_over() {
            let room = Rc::clone(&self.crew.room);
            let room = room.wait();
            if self.is_blocked() {
                self.part.end_turn();
                tokio::select! {
                    biased;
                    () = room => {}
                    () = self.mail.wait(None) => {}
                }
            } else if self.part.turn.is_some() {
                return;
            } else {
                tokio::select! {
                    biased;
                    turn = Arc::clone(&turns).acquire_owned() => self.part.turn = turn.ok(),
                    () = self.mail.wait(None) => {}
                }
            }
            self.attend();
        }
    }

    /// Waits until it may hold so much again as it had to let go of, and more.
    pub(super) async fn until_it_may_hold(&mut self, held: usize) {
        let hold = Arc::clone(&self.crew.hold);
        let mut room = pin!(hold.wait(held));
        while !self.is_over() {
            tokio::select! {
                aside = &mut room => {
                    self.part.aside = aside;
                    return;
                }
                () = self.mail.wait(None) => {}
            }
            self.attend();
        }
    }

    /// Waits for the turn to look for the end of what was delivered in the log, which may hold much
    /// of it back; not for long, as another's log may hang.
    pub(super) async fn turn_to_resume(&self) -> Option<tokio::sync::OwnedSemaphorePermit> {
        let turn = Arc::clone(&self.crew.resuming).acquire_owned();
        tokio::time::timeout(RESUME_SOON, turn).await.ok()?.ok()
    }

    /// Of a follower that has come to its end: whether the container has, and not the program. The
    /// event that says so may still be on its way.
    pub(super) fn is_gone(&self) -> bool {
        self.mail.is_destroyed() || !self.mail.is_stopping()
    }

    fn is_over(&self) -> bool {
        self.mail.is_stopping() || self.mail.is_destroyed()
    }

    /// Follows the lanes apart that were full while others had room.
    pub(super) fn follow_parted(&self) {
        loop {
            let parted = self.intake.borrow_mut().parted.pop();
            let Some(Parted { intake, place }) = parted else { return };
            let place = place.unwrap_or_else(|| self.place_behind(&intake));
            self.follow_apart(intake, place);
        }
    }

    /// The place in the log behind what a live stream has brought to `intake`.
    pub(super) fn place_behind(&self, intake: &Intake) -> Place {
        let Some(reached) = intake.reached() else {
            // Nothing was delivered: it is where the attach began, or what was read before that.
            return Place::on_from(self.shown.clone());
        };
        let [stdout, stderr] = &intake.tails;
        let read_until = intake.read_until().max(reached);
        let mut config = ResumeConfig::new(read_until, self.crew.slack());
        config.arrival += intake.lag();
        let place = Place::after(Resume::new([stdout, stderr], config), self.shown.clone());
        place.reaching(intake.reached())
    }

    fn follow_apart(&self, intake: Intake, place: Place) {
        let main = self.part.main.clone().unwrap_or_else(|| Rc::downgrade(&self.intake));
        let intake = Rc::new(RefCell::new(intake));
        self.crew.feeds(&intake);
        let mail = Rc::new(Mailbox::default());
        self.mail.forward_to(&mail);
        let mut follower = self.twin(mail, intake, Unread::Log(Box::new(place)));
        follower.part = Part::apart(main, self.crew.now());
        self.crew.behind(true);
        let mut apart = self.part.apart.borrow_mut();
        apart.retain(|task| !task.is_finished());
        apart.push(tokio::task::spawn_local(follower.run()));
    }

    /// The lanes that fell behind are followed to their ends, too.
    pub(super) async fn end_parted(&mut self) {
        self.follow_parted();
        for task in self.part.apart.take() {
            let _ = task.await;
        }
    }

    /// Waits for something to happen, or until `until`; a follower of lanes that fell behind also
    /// for a moment in which it can hand them back.
    pub(super) async fn wait(&mut self, until: Option<Instant>) {
        let reunite = self.part.is_apart().then(|| clock::now() + REUNITE_EVERY);
        self.mail.wait(reunite.into_iter().chain(until).min()).await;
        self.attend();
        self.reunite();
    }

    /// Whether there is nothing to follow for: the lanes were handed back, or closed.
    pub(super) fn is_superfluous(&self) -> bool {
        self.part.is_apart() && !self.intake.borrow().feed.has_lanes()
    }

    /// Hands the lanes back if the container's main follower is at the same place.
    fn reunite(&mut self) {
        let Some(main) = self.part.main.as_ref().and_then(Weak::upgrade) else { return };
        let quiet_since = self.crew.now().saturating_sub(QUIET_NANOS);
        let (mut main, mut mine) = (main.borrow_mut(), self.intake.borrow_mut());
        if mine.feed.has_lanes() && mine.is_level_with(&main, quiet_since) {
            main.feed.reunite(&mut mine.feed);
            tracing::debug!(container = self.container.name, "its routes are level again");
        }
    }
}
