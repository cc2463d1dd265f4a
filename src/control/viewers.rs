//! Those who look on: for each client of `/logs` a route of its own, for as long as it stays.
//!
//! Runs on the control thread.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;

use super::build;
use super::fleet::Fleet;
use super::routes::{Purpose, Routes};
use crate::admin::logs::request::Wish;
use crate::admin::logs::{CLIENTS_MAX, Look, Refusal};
use crate::admin::metrics::LogClients;
use crate::config::Settings;
use crate::metrics::RouteCounters;
use crate::route::select::Selection;
use crate::route::{RouteSpec, Selector};
use crate::shard::lane::Route;
use crate::sink::{Built, viewer};
use crate::transport::Delivery;
use crate::transport::viewer::way;

/// What is held for one client at most, besides a few chunks on their way: some thousand lines, so
/// that a burst is shown whole to whoever is not slow.
const BUFFER: &str = "1MiB";

/// All clients.
pub(super) struct Viewers {
    settings: Arc<Settings>,
    fleet: Arc<Fleet>,
    routes: Arc<Routes>,
    state: Mutex<State>,
    /// Held while a client's expressions are compiled: of all cores, clients get one for that.
    compiling: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct State {
    open: Vec<Arc<Route>>,
    /// Those that have left, and whose lines are still being put away.
    leaving: Vec<Arc<Route>>,
    /// What those were shown and not shown that are gone.
    before: LogClients,
}

/// Ends what a client is shown.
struct Leave {
    viewers: Arc<Viewers>,
    route: Arc<Route>,
}

impl Viewers {
    /// Nobody yet.
    pub(super) fn new(settings: Arc<Settings>, fleet: Arc<Fleet>, routes: Arc<Routes>) -> Viewers {
        Viewers { settings, fleet, routes, state: Mutex::default(), compiling: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows a client the lines that it asks for, from now on.
    ///
    /// # Errors
    /// Why it is shown none.
    pub(super) async fn look_on(self: Arc<Self>, wish: Wish) -> Result<Look, Refusal> {
        let Wish { one, mut selector, form, matching, exclude } = wish;
        let mut only_on = None;
        if one {
            let (id, shard) = self.fleet.roster.find(&selector.id).ok_or(Refusal::Unknown)?;
            (selector.id, only_on) = (id, Some(shard));
        }
        self.check_room()?;
        if let Some(wrong) = Selection::new(&selector).1.into_iter().next() {
            return Err(Refusal::Bad(wrong));
        }
        let (entrance, exit) = way();
        let delivery = Delivery::Viewer(Arc::new(entrance));
        let built = Built { sink: viewer::sink(form), delivery, needs: Vec::new() };
        let mut route = self.build(spec(selector, matching, exclude), built).await?;
        // Others may have come meanwhile.
        self.check_room()?;
        route.only_on = only_on;
        let route = self.routes.add(route, Purpose::Viewer);
        self.state().open.push(Arc::clone(&route));
        let leave = Leave { viewers: self, route };
        Ok(Look::new(exit, form, Box::new(leave)))
    }

    fn check_room(&self) -> Result<(), Refusal> {
        match self.state().open.len() < CLIENTS_MAX {
            true => Ok(()),
            false => Err(Refusal::TooMany),
        }
    }

    /// The client chooses the expressions, and one may take a second to compile: not on the control
    /// thread.
    async fn build(&self, spec: RouteSpec, built: Built) -> Result<Route, Refusal> {
        let settings = Arc::clone(&self.settings);
        let compiles = |name: &str| spec.option(name).is_some();
        let alone = match compiles("filter.match") || compiles("filter.exclude") {
            true => Some(Arc::clone(&self.compiling).lock_owned().await),
            false => None,
        };
        let building = tokio::task::spawn_blocking(move || {
            // Also where the client goes away.
            let _alone = alone;
            build::added_with(&spec, built, &settings)
        });
        let route = building.await.map_err(|error| error.to_string()).flatten();
        route.map_err(Refusal::Bad)
    }

    /// Adds up what those were shown of whom nothing is left.
    fn settle(&self, state: &mut State) {
        let State { leaving, before, .. } = state;
        leaving.retain(|route| {
            let carried = self.routes.carries(route);
            if !carried {
                add(before, route);
            }
            carried
        });
    }

    /// How many there are, and what all of them, those that have left too, were shown and not
    /// shown.
    pub(super) fn snapshot(&self) -> LogClients {
        let mut state = self.state();
        self.settle(&mut state);
        let mut sum = state.before;
        state.open.iter().chain(&state.leaving).for_each(|route| add(&mut sum, route));
        LogClients { now: state.open.len() as u64, ..sum }
    }
}

/// The route of a client.
fn spec(selector: Selector, matching: Option<String>, exclude: Option<String>) -> RouteSpec {
    let options = [
        ("buffer", Some(BUFFER.to_owned())),
        ("filter.match", matching),
        ("filter.exclude", exclude),
    ];
    let given = options.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    RouteSpec {
        id: "/logs".to_owned(),
        adapter: "logs".to_owned(),
        transport: None,
        address: String::new(),
        selector,
        options: given.collect(),
    }
}

fn add(to: &mut LogClients, route: &Route) {
    let sum = |pick: fn(&RouteCounters) -> u64| {
        route.counters.iter().map(|counters| pick(counters)).sum::<u64>()
    };
    to.shown_lines += sum(|counters| counters.delivered_lines.get());
    to.left_out_lines += sum(|counters| counters.dropped_buffer_full.get());
    to.unwanted_lines += sum(|counters| counters.dropped_unwanted.get());
}

impl Drop for Leave {
    fn drop(&mut self) {
        let mut state = self.viewers.state();
        state.open.retain(|open| !Arc::ptr_eq(open, &self.route));
        self.viewers.settle(&mut state);
        state.leaving.push(Arc::clone(&self.route));
        drop(state);
        // Without a runtime the program is at its end, and so are the shards.
        if Handle::try_current().is_ok() {
            self.viewers.routes.remove(&self.route);
        }
    }
}
