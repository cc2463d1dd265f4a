//! What the shard tells the task that follows a container, and how it ends its connections.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::time::Instant;

use tokio::sync::Notify;

use super::command::Signal;
use crate::io::clock;
use crate::io::stream::Closer;
use crate::transport::link::{Action, Link};

/// Ends of runs that are kept: of a container that goes on crashing, while nobody can look at it.
const DEATHS_MAX: usize = 64;

/// One container's letter box, on its shard's thread.
#[derive(Default)]
pub struct Mailbox {
    bell: Notify,
    started: Cell<bool>,
    /// When its runs ended, oldest first.
    deaths: RefCell<VecDeque<u64>>,
    stirred: Cell<bool>,
    destroyed: Cell<bool>,
    stopping: Cell<bool>,
    name: RefCell<Option<String>>,
    /// What ends the attach stream, and what ends questions and reading the log.
    attach: RefCell<Option<Closer>>,
    asked: RefCell<Vec<Closer>>,
    /// Who is to hear the same.
    others: RefCell<Vec<Weak<Mailbox>>>,
}

impl Mailbox {
    /// From now on `other` gets the same signals, and is told to stop as this one is.
    pub fn forward_to(&self, other: &Rc<Mailbox>) {
        if self.stopping.get() {
            other.stop();
        }
        other.destroyed.set(self.destroyed.get());
        let mut others = self.others.borrow_mut();
        others.retain(|other| other.strong_count() > 0);
        others.push(Rc::downgrade(other));
    }

    fn others(&self) -> Vec<Rc<Mailbox>> {
        self.others.borrow().iter().filter_map(Weak::upgrade).collect()
    }

    /// Leaves a signal.
    pub fn signal(&self, signal: Signal) {
        self.others().iter().for_each(|other| other.signal(signal.clone()));
        match signal {
            Signal::Started => self.started.set(true),
            Signal::Died(at) => return self.died(at),
            Signal::Unpaused => {}
            Signal::Renamed(name) => return self.renamed(name),
            Signal::Check { name, look: false } => return self.renamed(name),
            Signal::Check { name, look: true } => self.renamed(name),
            Signal::Destroyed => self.destroyed.set(true),
        }
        self.stirred.set(true);
        self.bell.notify_one();
    }

    /// Nothing to look at: the end of the stream tells the same, and a start will be told of.
    fn died(&self, at: u64) {
        let mut deaths = self.deaths.borrow_mut();
        if deaths.len() == DEATHS_MAX {
            deaths.pop_front();
        }
        deaths.push_back(at);
        self.bell.notify_one();
    }

    /// The first end of a run at or after `started_at`; earlier ones are forgotten.
    pub fn death_since(&self, started_at: u64) -> Option<u64> {
        let mut deaths = self.deaths.borrow_mut();
        while deaths.front().is_some_and(|&at| at < started_at) {
            deaths.pop_front();
        }
        deaths.front().copied()
    }

    fn renamed(&self, name: String) {
        if !name.is_empty() {
            *self.name.borrow_mut() = Some(name);
            self.bell.notify_one();
        }
    }

    /// Wakes the container's task.
    pub fn ring(&self) {
        self.bell.notify_one();
    }

    /// The container is gone for long: ends what is still open, and has its tasks see to it.
    pub fn let_go(&self) {
        self.others().iter().for_each(|other| other.let_go());
        self.detach();
        self.ring();
    }

    /// The program stops: nothing more is read.
    pub fn stop(&self) {
        self.others().iter().for_each(|other| other.stop());
        self.stopping.set(true);
        self.close_all();
        self.bell.notify_one();
    }

    /// Whether the program stops.
    pub fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Whether the container is gone.
    pub fn is_destroyed(&self) -> bool {
        self.destroyed.get()
    }

    /// Whether a signal came since the last call that is worth a look at the container.
    pub fn take_stirred(&self) -> bool {
        self.stirred.take()
    }

    /// Whether the container started since [`Mailbox::take_started`] said so.
    pub fn has_started(&self) -> bool {
        self.started.get()
    }

    /// Whether the container started since the last call.
    pub fn take_started(&self) -> bool {
        self.started.take()
    }

    /// The container's new name, once.
    pub fn take_name(&self) -> Option<String> {
        self.name.take()
    }

    /// Waits until something happens, or until `until`.
    pub async fn wait(&self, until: Option<Instant>) {
        match until {
            // Too late or in time, the caller looks at what there is.
            Some(until) => {
                let _ = tokio::time::timeout_at(until.into(), self.bell.notified()).await;
            }
            None => self.bell.notified().await,
        }
    }

    /// Waits as `pace` says before another attempt, or until something happens; `false`: `pace` is
    /// to be asked again, as time alone is for it to judge. It has to know that an attempt begins.
    pub async fn wait_by(&self, pace: &mut Link) -> bool {
        let Action::Wait(until) = pace.poll(clock::now()) else { return true };
        self.wait(Some(until)).await;
        self.take_stirred()
    }

    /// Notes what ends the attach stream; ends it at once if the program stops.
    pub fn attached(&self, closer: Closer) {
        self.end_if_stopping(&closer);
        self.attach.replace(Some(closer));
    }

    /// Notes what ends a question or a pass over the log; ends it at once if the program stops.
    pub fn asked(&self, closer: Closer) {
        self.end_if_stopping(&closer);
        let mut asked = self.asked.borrow_mut();
        asked.retain(|closer| !closer.is_closed());
        asked.push(closer);
    }

    fn end_if_stopping(&self, closer: &Closer) {
        if self.stopping.get() {
            closer.close();
        }
    }

    /// Ends the attach stream.
    pub fn detach(&self) {
        if let Some(closer) = self.attach.take() {
            closer.close();
        }
    }

    /// Ends the container's connections.
    pub fn close_all(&self) {
        self.detach();
        for closer in self.asked.borrow_mut().drain(..) {
            closer.close();
        }
    }
}
