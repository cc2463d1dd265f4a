//! What the HTTP side sees of the program: [`View`] over the routes, the shards and the daemon.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::book::Book;
use super::failure::failure;
use super::fleet::Fleet;
use super::routes::Routes;
use super::viewers::Viewers;
use crate::admin::access::Access;
use crate::admin::logs::request::Wish;
use crate::admin::logs::{Look, Refusal};
use crate::admin::metrics::{ShardSnapshot, Snapshot, render};
use crate::admin::ready::Readiness;
use crate::admin::{Later, Refused, View};
use crate::io::Driver;
use crate::route::json::Definition;

/// Whether the daemon is there.
#[derive(Debug, Default)]
pub(super) struct DaemonState {
    connected: AtomicBool,
    connects: AtomicU64,
}

impl DaemonState {
    /// Its event stream is open and its containers are known, or not any more.
    pub(super) fn set(&self, connected: bool) {
        self.connected.store(connected, Relaxed);
        self.connects.fetch_add(u64::from(connected), Relaxed);
    }
}

/// The program as the HTTP side sees it.
pub(super) struct Sight {
    pub(super) driver: Driver,
    pub(super) fleet: Arc<Fleet>,
    pub(super) routes: Arc<Routes>,
    pub(super) viewers: Arc<Viewers>,
    pub(super) daemon: Arc<DaemonState>,
    pub(super) book: Arc<Book>,
    pub(super) access: Access,
}

impl View for Sight {
    fn access(&self) -> &Access {
        &self.access
    }

    fn ready(&self) -> Readiness {
        Readiness::new(self.daemon.connected.load(Relaxed), self.routes.states())
    }

    fn routes(&self, counted: bool) -> Vec<Definition> {
        self.book.list(counted)
    }

    fn create_route(&self, route: Definition) -> Later<Result<Definition, Refused>> {
        let book = Arc::clone(&self.book);
        // A task of its own: what was begun is to be done, also where the client goes away.
        let task = tokio::spawn(async move { book.create(route).await });
        Box::pin(async { task.await.unwrap_or_else(|e| Err(Refused::NotKept(e.to_string()))) })
    }

    fn remove_route(&self, id: String) -> Later<bool> {
        let book = Arc::clone(&self.book);
        let task = tokio::spawn(async move { book.remove(&id).await });
        Box::pin(async { task.await.unwrap_or(false) })
    }

    fn health(&self) -> Result<(), String> {
        failure().map_or(Ok(()), |failure| Err(failure.to_owned()))
    }

    fn metrics(&self, out: &mut String) {
        let shards = &self.fleet.counters;
        out.push_str(&render(&Snapshot {
            driver: self.driver.name().to_owned(),
            daemon_connected: self.daemon.connected.load(Relaxed),
            daemon_reconnects: self.daemon.connects.load(Relaxed).saturating_sub(1),
            shards: shards.iter().map(|shard| ShardSnapshot::from(&**shard)).collect(),
            routes: self.routes.snapshots(),
            log_clients: self.viewers.snapshot(),
        }));
    }

    fn look_on(&self, wish: Wish) -> Later<Result<Look, Refusal>> {
        Box::pin(Arc::clone(&self.viewers).look_on(wish))
    }
}
