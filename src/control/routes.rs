//! The routes that lines are carried for: they may come and go while the program runs.
//!
//! A route is one `Arc`: two routes that say the same are two. Adding and removing are commands to
//! every shard, obeyed between two reads. May be called from any task of the control thread.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::fleet::Fleet;
use super::webhooks::{Posting, Webhooks};
use crate::admin::metrics::RouteSnapshot;
use crate::admin::ready::{LinkState, RouteState};
use crate::docker::Source;
use crate::metrics::RouteTotals;
use crate::route::json::Account;
use crate::shard::command::{Closing, Command, Rest};
use crate::shard::lane::Route;
use crate::transport::Delivery;

/// For whom a route is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// For a receiver: metrics and the log tell of it.
    Receiver,
    /// For one who looks on for a while: nobody else is told of it.
    Viewer,
}

/// All routes, and those who carry lines for them.
pub struct Routes {
    fleet: Arc<Fleet>,
    webhooks: Webhooks,
    /// What a route that is removed may take to deliver what it holds.
    patience: Duration,
    entries: Mutex<Vec<Entry>>,
    /// Whether one of them wants events.
    wishes: watch::Sender<bool>,
}

struct Entry {
    route: Arc<Route>,
    purpose: Purpose,
    posting: Option<Posting>,
    /// It was removed, and what it holds is being delivered.
    leaving: bool,
}

impl Routes {
    /// Begins with `routes`, which the shards of `fleet` have been started with.
    pub(super) fn new(fleet: Arc<Fleet>, routes: &[Arc<Route>], patience: Duration) -> Routes {
        let webhooks = Webhooks::default();
        let entries = routes.iter().map(|route| Entry {
            posting: webhooks.open(route),
            route: Arc::clone(route),
            purpose: Purpose::Receiver,
            leaving: false,
        });
        let entries = Mutex::new(entries.collect());
        let wishes = watch::Sender::new(false);
        let routes = Routes { fleet, webhooks, patience, entries, wishes };
        routes.tell_wishes(&routes.entries());
        routes
    }

    /// Whether a route wants events, and when that changes.
    pub(super) fn wishes(&self) -> watch::Receiver<bool> {
        self.wishes.subscribe()
    }

    fn tell_wishes(&self, entries: &[Entry]) {
        let wants =
            |entry: &Entry| !entry.leaving && entry.route.selection.takes_source(Source::Events);
        let wanted = entries.iter().any(wants);
        self.wishes.send_if_modified(|before| std::mem::replace(before, wanted) != wanted);
    }

    /// Never held across an await.
    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries lines for `route` too, from now on. It is told from others by the `Arc`.
    pub fn add(&self, route: Route, purpose: Purpose) -> Arc<Route> {
        let route = self.enter(route, purpose);
        self.fleet.send_all(&Command::Open(Arc::clone(&route)));
        route
    }

    /// Carries lines for `route` instead of `before`, which is removed: each line goes to one of
    /// the two.
    pub fn replace(self: &Arc<Self>, before: &Arc<Route>, route: Route) -> Arc<Route> {
        let route = self.enter(route, Purpose::Receiver);
        match self.begin_end(before) {
            Some(closing) => {
                self.fleet.send_all(&Command::Replace(closing, Arc::clone(&route)));
            }
            None => self.fleet.send_all(&Command::Open(Arc::clone(&route))),
        }
        route
    }

    /// Carries no lines for `route` any more. A receiver's route delivers what it holds, for as
    /// long as the program itself would at its end; a viewer's is dropped with it. Does not wait:
    /// a task sees to the rest. Nothing happens if it was removed before.
    pub fn remove(self: &Arc<Self>, route: &Arc<Route>) {
        if let Some(closing) = self.begin_end(route) {
            self.fleet.send_all(&Command::Close(closing));
        }
    }

    fn enter(&self, route: Route, purpose: Purpose) -> Arc<Route> {
        let route = Arc::new(route);
        let posting = self.webhooks.open(&route);
        if purpose == Purpose::Receiver {
            tracing::info!("route {} added", route.display);
        }
        let entry = Entry { route: Arc::clone(&route), purpose, posting, leaving: false };
        let mut entries = self.entries();
        entries.push(entry);
        self.tell_wishes(&entries);
        route
    }

    /// Begins to remove a route; what is returned has to go to the shards.
    fn begin_end(self: &Arc<Self>, route: &Arc<Route>) -> Option<Closing> {
        let (rest, posting) = {
            let mut entries = self.entries();
            let here = |entry: &&mut Entry| Arc::ptr_eq(&entry.route, route) && !entry.leaving;
            let entry = entries.iter_mut().find(here)?;
            entry.leaving = true;
            let rest = match entry.purpose {
                Purpose::Receiver => Rest::Deliver(self.patience),
                Purpose::Viewer => Rest::Discard,
            };
            let posting = entry.posting.clone();
            self.tell_wishes(&entries);
            (rest, posting)
        };
        let (done, mut all_done) = mpsc::channel::<Infallible>(1);
        let (routes, leaving) = (Arc::clone(self), Arc::clone(route));
        let deadline = Instant::now() + self.patience;
        tokio::spawn(async move {
            // Nothing is ever sent: this ends when the last shard has let go.
            all_done.recv().await;
            if let Some(posting) = posting {
                posting.stop(deadline).await;
            }
            if let Rest::Deliver(_) = rest {
                tracing::info!("route {} removed: {}", leaving.display, totals(&leaving));
            }
            routes.entries().retain(|entry| !Arc::ptr_eq(&entry.route, &leaving));
        });
        Some(Closing { route: Arc::clone(route), rest, done })
    }

    /// Whether something of `route` is left on a shard.
    pub(super) fn carries(&self, route: &Arc<Route>) -> bool {
        self.entries().iter().any(|entry| Arc::ptr_eq(&entry.route, route))
    }

    /// The receivers' routes, in the order in which they came.
    pub fn list(&self) -> Vec<Arc<Route>> {
        let entries = self.entries();
        let listed = |entry: &&Entry| entry.purpose == Purpose::Receiver && !entry.leaving;
        entries.iter().filter(listed).map(|entry| Arc::clone(&entry.route)).collect()
    }

    /// What the receivers' routes did so far.
    pub fn snapshots(&self) -> Vec<RouteSnapshot> {
        let snapshot = |route: &Arc<Route>| RouteSnapshot {
            labels: route.labels.clone(),
            totals: totals(route),
        };
        self.list().iter().map(snapshot).collect()
    }

    /// How the receivers' routes are.
    pub fn states(&self) -> Vec<RouteState> {
        self.list().iter().map(|route| state(route)).collect()
    }

    /// The shards have handed over everything: has the webhooks deliver it, until `deadline`.
    /// Returns how many lines were not delivered; `None` if a webhook does not say.
    pub(super) async fn stop(&self, deadline: Instant) -> Option<u64> {
        let mut stopping = JoinSet::new();
        for posting in self.entries().iter().filter_map(|entry| entry.posting.clone()) {
            stopping.spawn(posting.stop(deadline));
        }
        let mut undelivered = Some(0);
        while let Some(lines) = stopping.join_next().await {
            undelivered = undelivered.zip(lines.ok().flatten()).map(|(sum, lines)| sum + lines);
        }
        undelivered
    }

    /// The last word: what became of the lines.
    pub(super) fn say_totals(&self) {
        for entry in self.entries().iter().filter(|entry| entry.purpose == Purpose::Receiver) {
            tracing::info!("route {}: {}", entry.route.display, totals(&entry.route));
        }
    }
}

/// The same, as `/routes` shows it.
pub(super) fn account(route: &Route) -> Account {
    let totals = totals(route);
    Account {
        received: totals.received_lines,
        found: totals.spool_found,
        filtered: totals.filtered_lines,
        joined: totals.joined_lines,
        delivered: totals.delivered_lines,
        dropped: totals.drops().into(),
        held: totals.held(),
        held_bytes: totals.held_bytes,
    }
}

/// What became of a route's lines so far.
fn totals(route: &Route) -> RouteTotals {
    let mut totals = RouteTotals::default();
    route.counters.iter().for_each(|counters| totals.add(counters));
    totals
}

fn state(route: &Route) -> RouteState {
    // One that is down on one shard is down for the containers there.
    let troubles = route.counters.iter().filter_map(|counters| counters.trouble.get());
    let trouble = troubles.min_by_key(|(since, _)| *since);
    let connected = route.counters.iter().any(|counters| counters.connected.get() > 0);
    let link = match (&trouble, &route.delivery) {
        (Some(_), _) => LinkState::Down,
        // Its connection is closed when it was idle for a while.
        (None, Delivery::Webhook(_) | Delivery::Batch(_)) => LinkState::Connected,
        (None, _) if connected => LinkState::Connected,
        (None, _) => LinkState::Connecting,
    };
    let totals = totals(route);
    RouteState {
        route: route.labels.id.clone(),
        uri: route.display.clone(),
        state: link,
        down_seconds: trouble.as_ref().map(|(since, _)| since.elapsed().as_secs()),
        reason: trouble.map(|(_, reason)| reason),
        received: totals.received_lines,
        found: totals.spool_found,
        filtered: totals.filtered_lines,
        joined: totals.joined_lines,
        delivered: totals.delivered_lines,
        dropped: totals.dropped(),
        held: totals.held(),
    }
}
