//! What the shard tells the task that follows a container, and how it ends its connections.

use std::cell::{Cell, RefCell};
use std::time::Instant;

use tokio::sync::Notify;

use super::command::Signal;
use crate::io::stream::Closer;

/// One container's letter box, on its shard's thread.
#[derive(Default)]
pub struct Mailbox {
    bell: Notify,
    started: Cell<bool>,
    stirred: Cell<bool>,
    destroyed: Cell<bool>,
    stopping: Cell<bool>,
    name: RefCell<Option<String>>,
    closers: RefCell<Vec<Closer>>,
}

impl Mailbox {
    /// Leaves a signal.
    pub fn signal(&self, signal: Signal) {
        match signal {
            Signal::Started => self.started.set(true),
            Signal::Unpaused => {}
            Signal::Renamed(name) | Signal::Check(name) if name.is_empty() => {}
            Signal::Renamed(name) | Signal::Check(name) => *self.name.borrow_mut() = Some(name),
            Signal::Destroyed => self.destroyed.set(true),
        }
        self.stirred.set(true);
        self.bell.notify_one();
    }

    /// Wakes the container's task.
    pub fn ring(&self) {
        self.bell.notify_one();
    }

    /// The program stops: nothing more is read.
    pub fn stop(&self) {
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

    /// Whether a signal came since the last call.
    pub fn take_stirred(&self) -> bool {
        self.stirred.take()
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

    /// Notes what ends a connection of this container; ends it at once if the program stops.
    pub fn opened(&self, closer: Closer) {
        if self.stopping.get() {
            closer.close();
        }
        let mut closers = self.closers.borrow_mut();
        closers.retain(|closer| !closer.is_closed());
        closers.push(closer);
    }

    /// Ends the container's connections.
    pub fn close_all(&self) {
        for closer in self.closers.borrow_mut().drain(..) {
            closer.close();
        }
    }
}
