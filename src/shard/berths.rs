//! The routes' places on a shard: each has a lane, and a task that delivers what waits in it.
//!
//! Routes come and go while lines flow. The feeds of the containers are told at once, on the
//! shard's own thread: so always between two reads, and no line is cut, lost or doubled for a
//! route that stays. Sees to deliveries alone; what a line goes through is [`super::feed`]'s.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio::time::timeout_at;

use super::command::{Closing, Rest};
use super::intake::{Intake, nanos};
use super::lane::{Lane, Route};
use super::mail::Mailbox;
use super::positions::Positions;
use super::{Crew, groups};
use crate::io::clock;
use crate::transport::Shore;
use crate::transport::link::SAY_EVERY;
use crate::transport::queue::Queue;

/// After a delivery was given up it gets this long to put back what it has.
const GIVE_UP_GRACE: Duration = Duration::from_millis(500);

/// What a spool gets at the end to keep what is held.
const KEEP_GRACE: Duration = Duration::from_millis(1000);

/// What a viewer gets at the end to take what is held.
const VIEWER_GRACE: Duration = Duration::from_millis(200);

/// All places of a shard.
pub(super) struct Berths {
    crew: Rc<Crew>,
    /// Routes that were opened so far.
    opened: u64,
    open: Vec<Berth>,
    /// Those that were closed and still have records, with how many will not be delivered.
    leaving: Vec<(Rc<Queue>, JoinHandle<u64>)>,
    /// Ends questions to the daemon that are under way when the shard stops.
    questions: Rc<Mailbox>,
}

/// A route's place.
struct Berth {
    lane: Rc<Lane>,
    positions: Option<Arc<Positions>>,
    delivery: JoinHandle<()>,
}

impl Berths {
    /// No places yet.
    pub(super) fn new(crew: Rc<Crew>) -> Berths {
        let lanes = Rc::clone(&crew.lanes);
        crew.pool.give_way_if(move || lanes.borrow().iter().any(|lane| lane.queue.is_due()));
        say_losses(Rc::clone(&crew.lanes));
        Berths { crew, opened: 0, open: Vec::new(), leaving: Vec::new(), questions: Rc::default() }
    }

    /// Carries lines for `route` too, from now on.
    pub(super) fn open(&mut self, route: &Arc<Route>) {
        let lane = self.moor(route);
        let unanswered = self.lead_to(&lane);
        if unanswered.is_empty() {
            return lane.end_if_nobody_writes();
        }
        let asking = Asking::new(self, unanswered, lane);
        tokio::task::spawn_local(asking.open(None));
    }

    /// Carries no lines for a route any more; lets go of `done` when nothing of it is left here.
    pub(super) fn close(&mut self, Closing { route, rest, done }: Closing) {
        let Some(berth) = self.unmoor(&route) else { return };
        self.close_for(&berth.lane, |_| true);
        self.leave(berth, async move |berth| {
            let left = berth.end(rest).await;
            drop(done);
            left
        });
    }

    /// Carries lines for `route` instead of the one of `closing`: each line goes to one of the two,
    /// those of a container that has to be asked for first to the one that was there.
    pub(super) fn replace(&mut self, closing: Closing, route: &Arc<Route>) {
        let lane = self.moor(route);
        let unanswered = self.lead_to(&lane);
        if unanswered.is_empty() {
            self.close(closing);
            return lane.end_if_nobody_writes();
        }
        let asking = Asking::new(self, unanswered.clone(), lane);
        let Closing { route: before, rest, done } = closing;
        let Some(berth) = self.unmoor(&before) else {
            tokio::task::spawn_local(asking.open(None));
            return;
        };
        let waits = |intake: &Weak<_>| unanswered.iter().any(|other| other.ptr_eq(intake));
        self.close_for(&berth.lane, |intake| !waits(intake));
        self.leave(berth, async move |berth| {
            asking.open(Some(&berth.lane)).await;
            let left = berth.end(rest).await;
            drop(done);
            left
        });
    }

    /// Makes a place for `route`; no lines go there yet but those of containers that come later.
    fn moor(&mut self, route: &Arc<Route>) -> Rc<Lane> {
        let (lane, delivery) = Lane::new(route, self.crew.index, &self.crew.room);
        let lane = Rc::new(lane.told_apart(&self.crew.lanes.borrow()));
        let shore = Shore {
            driver: self.crew.driver,
            pool: Rc::clone(&self.crew.pool),
            seed: nanos(clock::wall()) ^ (((self.crew.index as u64) << 16) + self.opened),
            eager: self.crew.index == 0,
        };
        self.opened += 1;
        let delivery = tokio::task::spawn_local(delivery.run(shore));
        tokio::task::spawn_local(groups::keep_time(Rc::downgrade(&lane)));
        if route.spool.is_some() {
            let queue = Rc::clone(&lane.queue);
            tokio::task::spawn_local(async move { queue.tend_spool().await });
        }
        let positions = self.crew.positions.clone();
        self.open.push(Berth { lane: Rc::clone(&lane), positions, delivery });
        self.crew.lanes.borrow_mut().push(Rc::clone(&lane));
        lane
    }

    /// No more lines go to `lane` of the containers that `is_meant` picks.
    fn close_for(&self, lane: &Rc<Lane>, is_meant: impl Fn(&Weak<RefCell<Intake>>) -> bool) {
        let intakes = self.crew.intakes.borrow();
        for intake in intakes.iter().filter(|i| is_meant(i)).filter_map(Weak::upgrade) {
            let mut intake = intake.borrow_mut();
            let Intake { feed, parted, .. } = &mut *intake;
            let parted = parted.iter_mut().map(|parted| &mut parted.intake.feed);
            std::iter::once(feed).chain(parted).for_each(|feed| feed.close(lane));
        }
    }

    /// Opens `lane` for all containers but those that are returned: these have to be asked for.
    fn lead_to(&self, lane: &Rc<Lane>) -> Vec<Weak<RefCell<Intake>>> {
        let mut unanswered = Vec::new();
        for weak in &*self.crew.intakes.borrow() {
            let Some(intake) = weak.upgrade() else { continue };
            let feed = &mut intake.borrow_mut().feed;
            match feed.lacks_answer() {
                Some(_) if lane.reads_answers() => unanswered.push(Weak::clone(weak)),
                _ => feed.open(lane),
            }
        }
        // Where all others are full, there is room now.
        self.crew.room.ring();
        unanswered
    }

    /// Takes a route's place away, if it has one; lines of containers that are there still go to
    /// its lane.
    fn unmoor(&mut self, route: &Arc<Route>) -> Option<Berth> {
        let at = self.open.iter().position(|berth| berth.lane.is_of(route))?;
        let mut berth = self.open.remove(at);
        if let Some(positions) = berth.positions.take() {
            positions.forget_route(berth.lane.name());
        }
        self.crew.lanes.borrow_mut().retain(|lane| !Rc::ptr_eq(lane, &berth.lane));
        Some(berth)
    }

    /// Has `end` see to what a place still has.
    fn leave(&mut self, berth: Berth, end: impl AsyncFnOnce(Berth) -> u64 + 'static) {
        self.leaving.retain(|(_, left)| !left.is_finished());
        let queue = Rc::clone(&berth.lane.queue);
        let left = tokio::task::spawn_local(async move { end(berth).await });
        self.leaving.push((queue, left));
    }

    /// Delivers what is held, until `deadline` at the latest; returns how many records were not.
    pub(super) async fn stop(self, deadline: Instant) -> u64 {
        self.questions.stop();
        // Those who follow have ended, or had their time: what they still bring is not received.
        self.open.iter().for_each(|berth| self.close_for(&berth.lane, |_| true));
        let mut leaving = self.leaving;
        for berth in self.open {
            let queue = Rc::clone(&berth.lane.queue);
            leaving.push((queue, tokio::task::spawn_local(berth.deliver(deadline))));
        }
        let mut undelivered = 0;
        for (queue, mut left) in leaving {
            let in_time = timeout_at(deadline.into(), &mut left).await;
            let left = match in_time {
                Ok(left) => left,
                Err(_) => {
                    queue.give_up();
                    left.await
                }
            };
            undelivered += left.unwrap_or(0);
        }
        undelivered
    }
}

impl Berth {
    /// Ends as `rest` says; returns how many records were lost.
    async fn end(self, rest: Rest) -> u64 {
        match rest {
            Rest::Deliver(patience) => self.deliver(clock::now() + patience).await,
            Rest::Discard => self.discard().await,
        }
    }

    /// Ends when everything is delivered, soon after `deadline` at the latest; returns how many
    /// records were not.
    async fn deliver(mut self, deadline: Instant) -> u64 {
        let queue = Rc::clone(&self.lane.queue);
        self.lane.finish_groups();
        queue.close();
        if self.lane.is_for_viewer() {
            // Nothing waits for who looks on, and what they do not take is no loss.
            let soon = deadline.min(clock::now() + VIEWER_GRACE);
            let _ = timeout_at(soon.into(), &mut self.delivery).await;
            return self.discard().await;
        }
        let _ = timeout_at(deadline.into(), &mut self.delivery).await;
        let (lane, positions) = (Rc::clone(&self.lane), self.positions.clone());
        self.give_up().await;
        queue.keep(clock::now() + KEEP_GRACE).await;
        if let Some(positions) = positions {
            // What is abandoned now is where the next run of the program begins.
            lane.close_positions(&positions);
        }
        queue.abandon()
    }

    /// Ends at once; nothing that is left counts as lost.
    async fn discard(self) -> u64 {
        let queue = Rc::clone(&self.lane.queue);
        self.give_up().await;
        queue.discard();
        0
    }

    async fn give_up(mut self) {
        if !self.delivery.is_finished() {
            self.lane.queue.give_up();
            let grace = clock::now() + GIVE_UP_GRACE;
            let _ = timeout_at(grace.into(), &mut self.delivery).await;
        }
    }
}

/// Has what the lanes dropped said while nothing more is dropped, until the shard ends.
fn say_losses(lanes: Rc<RefCell<Vec<Rc<Lane>>>>) {
    tokio::task::spawn_local(async move {
        loop {
            tokio::time::sleep(SAY_EVERY / 4).await;
            lanes.borrow().iter().for_each(|lane| lane.queue.say_losses(0));
        }
    });
}

/// Opens a lane whose records may show anything that the daemon says of a container, for containers
/// of which that was not kept: it is asked for first.
struct Asking {
    crew: Rc<Crew>,
    questions: Rc<Mailbox>,
    intakes: Vec<Weak<RefCell<Intake>>>,
    lane: Rc<Lane>,
}

impl Asking {
    fn new(berths: &Berths, intakes: Vec<Weak<RefCell<Intake>>>, lane: Rc<Lane>) -> Asking {
        let (crew, questions) = (Rc::clone(&berths.crew), Rc::clone(&berths.questions));
        Asking { crew, questions, intakes, lane }
    }

    /// Opens the lane for one container after the other, and closes the one that was there
    /// `before`.
    async fn open(self, before: Option<&Rc<Lane>>) {
        for weak in &self.intakes {
            let Some(intake) = weak.upgrade() else { continue };
            self.ask(&intake).await;
            let feed = &mut intake.borrow_mut().feed;
            if let Some(before) = before {
                feed.close(before);
            }
            if !self.is_closed() {
                feed.open(&self.lane);
            }
        }
        if !self.is_closed() {
            self.lane.end_if_nobody_writes();
        }
    }

    /// Asks for what `intake` lacks, if anybody wants that yet.
    async fn ask(&self, intake: &RefCell<Intake>) {
        let id = intake.borrow().feed.lacks_answer().map(str::to_owned);
        let Some(id) = id.filter(|_| !self.is_closed()) else { return };
        let daemon = self.crew.daemon();
        let question = daemon.api.inspect(&id);
        match daemon.ask(&question, |closer| self.questions.asked(closer)).await {
            Ok(answer) => intake.borrow_mut().feed.set_answer(answer.body.into()),
            // Its lines go out under what is known of it.
            Err(error) => tracing::debug!(container = id, "cannot be asked for: {error}"),
        }
    }

    /// Whether the lane was closed meanwhile.
    fn is_closed(&self) -> bool {
        !self.crew.lanes.borrow().iter().any(|open| Rc::ptr_eq(open, &self.lane))
    }
}
