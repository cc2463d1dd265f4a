//! Keeps an eye on the daemon: connects, listens to its events, lists its containers, and begins
//! anew whenever the daemon goes away - for as long as it takes.
//!
//! The order matters: events are subscribed to first and the list is taken after, so that nothing
//! that happens in between is missed; the registry reconciles the two.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::registry::{Order, Registry};
use crate::docker::events::{DockerEvent, EventLines, parse_event};
use crate::docker::inspect::{Listed, parse_list};
use crate::docker::request::{Api, negotiate};
use crate::io::clock;
use crate::shard::command::{Clock, Command, Greeting};
use crate::shard::intake::nanos;
use crate::transport::StreamTarget;
use crate::transport::daemon::{Daemon, DaemonError, Streaming};
use crate::transport::link::{Action, Event, Link, Warner};

/// Between lists while all is well: what events have missed is noticed this late at most.
const LIST_EVERY: Duration = Duration::from_secs(60);

/// An event that the daemon has for longer should have come.
const UNDER_WAY: Duration = Duration::from_secs(5);
/// How long the daemon may take to say which events it has had; one that does not end that answer
/// is not asked again.
const PAST_TIMEOUT: Duration = Duration::from_secs(5);

/// Events that are read before the ones ahead of them are dealt with.
const EVENTS_AHEAD: usize = 4096;

/// How long the daemon may take to begin its event stream; after that it is asked anew.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(60);

/// Takes orders on their way to the shards.
pub trait Dispatch {
    /// One order for one shard.
    fn send(&mut self, order: Order);
    /// One command for every shard.
    fn send_all(&mut self, command: &Command);
    /// Bytes that each shard has taken from containers since it began.
    fn received(&self) -> Vec<u64>;
    /// The daemon is there, or not any more.
    fn connected(&mut self, connected: bool);
}

/// Watches until the task is dropped.
pub async fn watch(
    mut daemon: Daemon,
    asked_version: Option<String>,
    registry: &mut Registry,
    dispatch: &mut dyn Dispatch,
) {
    let mut link = Link::new(nanos(clock::wall()));
    loop {
        match link.poll(clock::now()) {
            Action::Wait(until) => tokio::time::sleep_until(until.into()).await,
            Action::Ready | Action::Connect => {
                let mut up = || link.handle(Event::Connected, clock::now());
                let asked = asked_version.as_deref();
                let watched = watch_once(&mut daemon, asked, registry, dispatch, &mut up).await;
                dispatch.connected(false);
                let reason = match watched {
                    Ok(ended) => ended.to_owned(),
                    Err(error) => error.to_string(),
                };
                link.handle(Event::Failed(reason), clock::now());
            }
        }
        if let Some(notice) = link.notice() {
            tracing::warn!("docker: {notice}");
        }
    }
}

/// One connection to the daemon, from the first question to the end of its events; returns what
/// became of these.
async fn watch_once(
    daemon: &mut Daemon,
    asked_version: Option<&str>,
    registry: &mut Registry,
    dispatch: &mut dyn Dispatch,
    up: &mut dyn FnMut(),
) -> Result<&'static str, DaemonError> {
    let greeting = greet(daemon, asked_version).await?;
    let (api, theirs) = (Arc::clone(&greeting.api), greeting.clock);
    daemon.api = Arc::clone(&api);
    let request = api.events(None, None);
    let stream = tokio::time::timeout(SUBSCRIBE_TIMEOUT, daemon.stream(&request, |_| ()))
        .await
        .map_err(|_| silent())??;
    let (sender, mut events) = mpsc::channel(EVENTS_AHEAD);
    let reader = AbortOnDrop(tokio::task::spawn_local(read_events(stream, sender)));
    dispatch.send_all(&Command::Daemon(greeting));
    let list_now = list(daemon).await?;
    // What happened before the list was taken comes first: a container that was created since the
    // subscription is a new one, not one that was there already.
    while let Ok(event) = events.try_recv() {
        if let Some(order) = event?.and_then(|event| registry.event(event)) {
            dispatch.send(order);
        }
    }
    registry.measure(dispatch.received(), clock::now());
    registry.reconcile(list_now, true).into_iter().for_each(|order| dispatch.send(order));
    up();
    dispatch.connected(true);
    let ended = listen(daemon, theirs, &mut events, registry, dispatch).await;
    drop(reader);
    ended
}

/// Deals with events, and with a list now and then, until the events end or hang.
async fn listen(
    daemon: &Daemon,
    theirs: Clock,
    events: &mut mpsc::Receiver<EventResult>,
    registry: &mut Registry,
    dispatch: &mut dyn Dispatch,
) -> Result<&'static str, DaemonError> {
    // When something came, or later, by the daemon's clock.
    let heard_now = || theirs.at(nanos(clock::wall() + theirs.slack));
    let (mut due, mut heard, mut tells_past) = (clock::now() + LIST_EVERY, heard_now(), true);
    loop {
        match tokio::time::timeout_at(due.into(), events.recv()).await {
            Ok(Some(event)) => {
                heard = heard_now();
                registry.measure(dispatch.received(), clock::now());
                if let Some(order) = event?.and_then(|event| registry.event(event)) {
                    dispatch.send(order);
                }
            }
            Ok(None) => return Ok("the daemon ended its event stream"),
            Err(_quiet) => {}
        }
        if clock::now() >= due {
            let list = list(daemon).await?;
            registry.measure(dispatch.received(), clock::now());
            registry.reconcile(list, false).into_iter().for_each(|order| dispatch.send(order));
            let until = theirs.at(nanos(clock::wall() - UNDER_WAY - theirs.slack));
            if tells_past && heard < until {
                let past = has_events(daemon, heard, until).await;
                tells_past = past.is_some();
                if past == Some(true) && events.is_empty() {
                    return Ok("its event stream hangs");
                }
            }
            due = clock::now() + LIST_EVERY;
        }
    }
}

/// Whether the daemon had something to tell in this time (nanoseconds since 1970, its clock);
/// `None` if it does not say.
async fn has_events(daemon: &Daemon, since: u64, until: u64) -> Option<bool> {
    let request = daemon.api.events(Some(since), Some(until));
    let answer = tokio::time::timeout(PAST_TIMEOUT, daemon.ask(&request, |_| ())).await;
    let answer = answer.ok()?.ok()?;
    Some(!answer.body.trim_ascii().is_empty())
}

/// It took the subscription to its events and said nothing.
fn silent() -> DaemonError {
    let text = format!("no event stream within {} s", SUBSCRIBE_TIMEOUT.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, text).into()
}

/// Ends a task that is not needed any more.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

type EventResult = Result<Option<DockerEvent>, DaemonError>;

/// Reads on while the events before are being dealt with: the daemon drops what a slow listener
/// does not take.
async fn read_events(mut stream: Streaming, sender: mpsc::Sender<EventResult>) {
    let mut lines = EventLines::default();
    let mut unread = Warner::default();
    let mut batch: Vec<EventResult> = Vec::new();
    loop {
        let mut overlong = None;
        let more = stream
            .next(&mut |piece| {
                let pushed =
                    lines.push(piece, |line| batch.push(Ok(understand(line, &mut unread))));
                overlong = overlong.take().or(pushed.err());
            })
            .await;
        if let Some(error) = overlong {
            batch.push(Err(DaemonError::Nonsense(error.to_string())));
        }
        let ended = match more {
            Ok(more) => !more || overlong.is_some(),
            Err(error) => {
                batch.push(Err(error));
                true
            }
        };
        for event in batch.drain(..) {
            if sender.send(event).await.is_err() {
                return;
            }
        }
        if ended {
            return;
        }
    }
}

/// An event that cannot be read is said and passed over: the next list sets things right.
fn understand(line: &[u8], unread: &mut Warner) -> Option<DockerEvent> {
    parse_event(line).unwrap_or_else(|error| {
        if let Some(sum) = unread.due(clock::now(), 1) {
            tracing::warn!("docker: events that cannot be read: {sum}, the last: {error}");
        }
        None
    })
}

async fn list(daemon: &Daemon) -> Result<Vec<Listed>, DaemonError> {
    let answer = daemon.ask(&daemon.api.list(), |_| ()).await?;
    parse_list(&answer.body).map_err(|error| DaemonError::Nonsense(error.to_string()))
}

/// Whether the daemon answers what is asked of it first when lines are carried: its greeting and
/// its containers, in the version of the API that is to be spoken.
///
/// # Errors
/// As [`greet`], or where it refuses that version.
pub async fn ask(mut daemon: Daemon, asked: Option<&str>) -> Result<Greeting, DaemonError> {
    let greeting = greet(&daemon, asked).await?;
    daemon.api = Arc::clone(&greeting.api);
    list(&daemon).await?;
    Ok(greeting)
}

/// Asks the daemon which version of its API to speak, and what time it is.
///
/// # Errors
/// Where it cannot be reached or speaks no version that logchute does.
pub async fn greet(daemon: &Daemon, asked: Option<&str>) -> Result<Greeting, DaemonError> {
    let (server, date) = match daemon.ask(&daemon.api.ping(), |_| ()).await {
        Ok(answer) => (answer.head.api_version, answer.head.date),
        // Some proxies hide /_ping; the unversioned paths work with every engine.
        Err(DaemonError::Refused { .. }) => (None, None),
        Err(error) => return Err(error),
    };
    let clock = match (&daemon.target, date) {
        (StreamTarget::Unix(_), _) => Clock::OURS,
        (_, Some(date)) => Clock::from_date(date, nanos(clock::wall())),
        (_, None) => Clock { slack: Duration::from_secs(2), ..Clock::OURS },
    };
    let version = negotiate(server.as_deref(), asked).map_err(DaemonError::Nonsense)?;
    Ok(Greeting { api: Arc::new(Api { version, ..(*daemon.api).clone() }), clock })
}
