//! Takes up the places that an earlier run of the program has left, and notes those of this one:
//! between a shard's containers and [`super::positions`].

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::Crew;
use super::command::Origin;
use super::follow::{Follower, Unread};
use super::intake::{Intake, Parted};
use super::lane::Lane;
use super::pass::Place;
use crate::doors::mark::Mark;

/// Lanes that go on from the same place, or have none.
type Group = (Option<Arc<Mark>>, Vec<Rc<Lane>>);

/// How soon a place is noted again where there is little to note, and how late where there is much.
const NOTE_SOONEST: Duration = Duration::from_millis(20);
const NOTE_LATEST: Duration = Duration::from_millis(250);
/// How often it is seen to where nothing is read.
const NOTE_IDLE: Duration = Duration::from_secs(1);
/// After a read of so many bytes it is not waited for that.
const MUCH: usize = 64 * 1024;
/// For each place that was noted there is a pause of so long, and for each container that was
/// looked at: more than a hundred times what that takes.
const NOTE_NANOS: u64 = 1_000_000;
const LOOK_NANOS: u64 = 10_000;
/// How long it may take until we have heard of a container that writes, and know who it is.
const HEARSAY_NANOS: u64 = 2_000_000_000;

/// When places are noted: soon after something was read, and more rarely where there is much to
/// note, so that a second of it costs about the same for many containers as for few.
#[derive(Debug, Default)]
pub(super) struct Noting {
    stirred: Cell<bool>,
    bell: Notify,
}

impl Noting {
    /// Something was read, or is known better.
    #[inline]
    pub(super) fn stir(&self) {
        if !self.stirred.replace(true) {
            self.bell.notify_one();
        }
    }

    /// Waits for so long `at_least`, and `at_most` until something is stirred.
    async fn wait(&self, at_least: Duration, at_most: Duration) {
        tokio::time::sleep(at_least).await;
        let rest = at_most.saturating_sub(at_least);
        if !rest.is_zero() {
            let _ = tokio::time::timeout(rest, self.bell.notified()).await;
        }
    }
}

/// What a round had to do.
#[derive(Clone, Copy, Debug, Default)]
struct Work {
    /// Containers that were looked at.
    looked_at: usize,
    /// Places that were noted, and entered.
    places: usize,
}

impl Work {
    /// How long it is until the next round.
    fn pause(self) -> Duration {
        let each = |count: usize, nanos: u64| Duration::from_nanos(nanos * count as u64);
        let cost = each(self.looked_at, LOOK_NANOS) + each(self.places, NOTE_NANOS);
        cost.clamp(NOTE_SOONEST, NOTE_LATEST)
    }
}

/// Notes places as long as the shard is there.
pub(super) fn keep_noting(crew: &Rc<Crew>) {
    if crew.positions.is_none() {
        return;
    }
    let crew = Rc::downgrade(crew);
    tokio::task::spawn_local(async move {
        let mut quiet_for = NOTE_SOONEST;
        loop {
            let Some(crew) = crew.upgrade() else { return };
            let stirred = crew.noting.stirred.take();
            let work = crew.note_positions();
            // What was read may not be in a record yet, and what is may not be delivered.
            let is_quiet = !stirred && work.places == 0;
            quiet_for = if is_quiet { (2 * quiet_for).min(NOTE_IDLE) } else { NOTE_SOONEST };
            crew.noting.wait(work.pause(), quiet_for).await;
        }
    });
}

impl Crew {
    /// Notes how far each container has come, and enters what has been delivered.
    fn note_positions(&self) -> Work {
        let Some(positions) = &self.positions else { return Work::default() };
        let now = self.now();
        let intakes = self.intakes();
        let noted = intakes.iter().filter(|intake| self.note_position(intake)).count();
        let places = noted + self.settle_positions();
        let heard_of = now.saturating_sub(HEARSAY_NANOS).max(self.born());
        positions.all_until(self.index, heard_of);
        positions.wake_writer();
        Work { looked_at: intakes.len(), places }
    }

    /// Enters what has been delivered: returns how many places that were.
    pub(super) fn settle_positions(&self) -> usize {
        let Some(positions) = &self.positions else { return 0 };
        self.lanes.borrow().iter().map(|lane| lane.settle_positions(positions)).sum()
    }

    /// Notes how far a container has come whose log brings more in a moment than a receiver may
    /// take.
    pub(super) fn note_much(&self, intake: &RefCell<Intake>, bytes: usize) {
        if bytes >= MUCH {
            self.note_position(intake);
        }
    }

    /// Notes how far a container has come; `false` if no farther than was noted.
    pub(super) fn note_position(&self, intake: &RefCell<Intake>) -> bool {
        let Some(positions) = &self.positions else { return false };
        let mut intake = intake.borrow_mut();
        let Some(mark) = intake.mark().map(Rc::new) else { return false };
        let since = self.now().saturating_sub(2 * NOTE_LATEST.as_nanos() as u64);
        let Some(id) = intake.feed.id().map(Rc::<str>::from) else { return false };
        let mut all = true;
        for (lane, joining) in intake.feed.lanes_joining() {
            // Whoever is new here has had nothing before.
            positions.begin(&id, lane.name(), &Mark::since(since));
            lane.note_position(&id, &mark, joining);
            all &= joining == [None; 2];
        }
        if all {
            intake.noted(&mark);
        }
        true
    }
}

impl Follower {
    /// The container's lanes are known for the first time: each goes on where an earlier run of the
    /// program has left it. Where there was none, this is where it begins.
    pub(super) fn take_up_positions(&mut self) {
        let crew = Rc::clone(&self.crew);
        let Some(positions) = crew.positions.as_ref().filter(|_| !self.part.is_apart()) else {
            return;
        };
        let mut groups: Vec<Group> = Vec::new();
        let lanes = self.intake.borrow().feed.all_lanes();
        for lane in lanes.into_iter().filter(|lane| !lane.is_for_viewer()) {
            let mark = positions.of(&self.id, lane.name());
            match groups.iter_mut().find(|(known, _)| *known == mark) {
                Some((_, lanes)) => lanes.push(lane),
                None => groups.push((mark, vec![lane])),
            }
        }
        // Who has no place begins as if there were no others.
        groups.sort_by_key(|(mark, _)| mark.is_some());
        // What is read from here on may not be delivered before the program ends.
        let begin = Mark::since(self.beginning());
        for (mark, lanes) in &groups {
            let mark = mark.as_deref().unwrap_or(&begin);
            lanes.iter().for_each(|lane| positions.begin(&self.id, lane.name(), mark));
        }
        positions.settled(&self.id);
        let Some(((mark, _), others)) = groups.split_first() else { return };
        if let Some(mark) = mark {
            self.take_up(mark);
        }
        for (mark, lanes) in others {
            let Some(mark) = mark else { continue };
            let mut intake = self.intake.borrow_mut();
            let mut apart = intake.part(|lane| lanes.iter().any(|one| Rc::ptr_eq(one, lane)));
            apart.tails = mark.tails();
            let place = Some(self.place_at(mark));
            intake.parted.push(Parted { intake: apart, place });
        }
    }

    fn take_up(&mut self, mark: &Mark) {
        self.intake.borrow_mut().tails = mark.tails();
        self.part.taken_up = true;
        self.unread = Unread::Log(Box::new(self.place_at(mark)));
        self.origin = Origin::Started;
    }

    fn place_at(&self, mark: &Mark) -> Place {
        match mark.resume(self.crew.slack()) {
            Some(resume) => Place::after(resume, self.shown.clone()).reaching(Some(mark.at())),
            None => Place::since(mark.at()),
        }
    }

    /// From when on the container's output is wanted, as far as that is a time.
    fn beginning(&self) -> u64 {
        match (&self.unread, self.origin) {
            (Unread::Nothing, Origin::Found) => self.crew.now(),
            (Unread::Nothing, _) => 0,
            (Unread::Log(place), _) => place.begins(),
        }
    }

    /// The program ends and a later run will go on: leaves the place as it is, a line that is not
    /// finished included. `false` if nobody will.
    pub(super) fn leave_position(&mut self) -> bool {
        if self.crew.positions.is_none() || self.is_gone() {
            return false;
        }
        self.intake.borrow().feed.finish_joined();
        self.crew.note_position(&self.intake);
        self.intake.borrow_mut().let_go();
        self.present = None;
        true
    }

    /// The container is gone: there is no place any more.
    pub(super) fn forget_position(&self) {
        let gone = self.is_gone() && !self.part.is_apart();
        if let Some(positions) = self.crew.positions.as_ref().filter(|_| gone) {
            positions.forget(&self.id);
            self.crew.lanes.borrow().iter().for_each(|lane| lane.forget_position(&self.id));
        }
    }

    /// Whether an earlier run of the program has left places.
    pub(super) fn has_positions(&self) -> bool {
        self.crew.positions.as_ref().is_some_and(|positions| positions.is_continued())
    }
}
