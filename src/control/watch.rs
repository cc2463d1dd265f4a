//! Keeps an eye on the daemon: connects, listens to its events, lists its containers, and begins
//! anew whenever the daemon goes away - for as long as it takes.
//!
//! The order matters: events are subscribed to first and the list is taken after, so that nothing
//! that happens in between is missed; the registry reconciles the two.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::registry::{Order, Registry};
use crate::docker::events::{EventLines, parse_event};
use crate::docker::inspect::parse_list;
use crate::docker::request::{Api, negotiate};
use crate::shard::command::Command;
use crate::transport::daemon::{Daemon, DaemonError};
use crate::transport::link::{Action, Event, Link};

/// Between lists while all is well: what events have missed is noticed this late at most.
const LIST_EVERY: Duration = Duration::from_secs(60);

/// Takes orders on their way to the shards.
pub trait Dispatch {
    /// One order for one shard.
    fn send(&mut self, order: Order);
    /// One command for every shard.
    fn send_all(&mut self, command: Command);
}

/// Watches until the task is dropped.
pub async fn watch(
    mut daemon: Daemon,
    asked_version: Option<String>,
    registry: &mut Registry,
    dispatch: &mut dyn Dispatch,
    seed: u64,
) {
    let mut link = Link::new(seed);
    loop {
        match link.poll(Instant::now()) {
            Action::Wait(until) => tokio::time::sleep_until(until.into()).await,
            Action::Ready | Action::Connect => {
                let mut up = || link.handle(Event::Connected, Instant::now());
                let watched =
                    watch_once(&mut daemon, asked_version.as_deref(), registry, dispatch, &mut up)
                        .await;
                let reason = match watched {
                    Ok(()) => "the daemon ended its event stream".to_owned(),
                    Err(error) => error.to_string(),
                };
                link.handle(Event::Failed(reason), Instant::now());
            }
        }
        if let Some(notice) = link.notice() {
            tracing::warn!("docker: {notice}");
        }
    }
}

/// Asks the daemon which version of its API to speak.
///
/// # Errors
/// Where it cannot be reached or speaks no version that logchute does.
pub async fn negotiate_api(daemon: &Daemon, asked: Option<&str>) -> Result<Api, DaemonError> {
    let server = match daemon.ask(&daemon.api.unversioned().ping()).await {
        Ok(answer) => answer.head.api_version,
        // Some proxies hide /_ping; the unversioned paths work with every engine.
        Err(DaemonError::Refused { .. }) => None,
        Err(error) => return Err(error),
    };
    let version = negotiate(server.as_deref(), asked).map_err(DaemonError::Nonsense)?;
    Ok(daemon.api.with_version(version))
}
