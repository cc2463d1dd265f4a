//! Takes up the places that an earlier run of the program has left, and notes those of this one:
//! between a shard's containers and [`super::positions`].

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::Crew;
use super::command::Origin;
use super::follow::{Follower, Unread};
use super::intake::{Intake, Parted};
use super::lane::Lane;
use super::pass::Place;
use super::positions::NOTE_EVERY;
use crate::doors::mark::Mark;

/// Lanes that go on from the same place, or have none.
type Group = (Option<Arc<Mark>>, Vec<Rc<Lane>>);

/// How long it may take until we have heard of a container that writes, and know who it is.
const HEARSAY_NANOS: u64 = 2_000_000_000;

/// Notes places as long as the shard is there.
pub(super) fn keep_noting(crew: &Rc<Crew>) {
    if crew.positions.is_none() {
        return;
    }
    let crew = Rc::downgrade(crew);
    tokio::task::spawn_local(async move {
        loop {
            tokio::time::sleep(NOTE_EVERY).await;
            let Some(crew) = crew.upgrade() else { return };
            crew.note_positions();
        }
    });
}

impl Crew {
    /// Notes how far each container has come, and enters what has been delivered.
    fn note_positions(&self) {
        let Some(positions) = &self.positions else { return };
        let now = self.now();
        for intake in self.intakes() {
            self.note_position(&intake);
        }
        self.settle_positions();
        let heard_of = now.saturating_sub(HEARSAY_NANOS).max(self.born());
        positions.all_until(self.index, heard_of);
    }

    /// Enters what has been delivered.
    pub(super) fn settle_positions(&self) {
        let Some(positions) = &self.positions else { return };
        self.lanes.borrow().iter().for_each(|lane| lane.settle_positions(positions));
    }

    /// Notes how far a container has come.
    pub(super) fn note_position(&self, intake: &RefCell<Intake>) {
        let Some(positions) = &self.positions else { return };
        let mut intake = intake.borrow_mut();
        let Some(mark) = intake.mark().map(Rc::new) else { return };
        let since = self.now().saturating_sub(2 * NOTE_EVERY.as_nanos() as u64);
        let Some(id) = intake.feed.id().map(Rc::<str>::from) else { return };
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
            _ => 0,
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
