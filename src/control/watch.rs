//! Keeps an eye on the daemon: connects, listens to its events, lists its containers, and begins
//! anew whenever the daemon goes away - for as long as it takes.
//!
//! The order matters: events are subscribed to first and the list is taken after, so that nothing
//! that happens in between is missed; the registry reconciles the two. Where routes want events,
//! those of everything the daemon has are subscribed to, else those of containers; what routes are
//! told is for the [`chronicle`](super::chronicle) to say.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::chronicle::{Chronicle, hash};
use super::registry::{Order, Registry};
use crate::docker::events::{DockerEvent, EventLines, Happening, parse_event, parse_happening};
use crate::docker::inspect::{JsonError, Listed, parse_list};
use crate::docker::request::{Api, Scope, negotiate};
use crate::io::clock;
use crate::shard::command::{Clock, Command, Greeting};
use crate::shard::intake::nanos;
use crate::shard::positions::Positions;
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
    /// Whether a route wants events.
    fn wishes(&self) -> watch::Receiver<bool>;
    /// Where it is entered how far the containers have come, if it is.
    fn positions(&self) -> Option<&Positions>;
}

/// Watches until the task is dropped.
pub async fn watch(
    daemon: Daemon,
    asked_version: Option<String>,
    registry: &mut Registry,
    dispatch: &mut dyn Dispatch,
) {
    let mut link = Link::new(nanos(clock::wall()));
    let wishes = dispatch.wishes();
    let mut watch = Watch { daemon, registry, dispatch, wishes, chronicle: None };
    loop {
        match link.poll(clock::now()) {
            Action::Wait(until) => tokio::time::sleep_until(until.into()).await,
            Action::Ready | Action::Connect => {
                let mut up = || link.handle(Event::Connected, clock::now());
                let watched = watch.once(asked_version.as_deref(), &mut up).await;
                watch.dispatch.connected(false);
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

/// What is known of the daemon from one connection to the next.
struct Watch<'a> {
    daemon: Daemon,
    registry: &'a mut Registry,
    dispatch: &'a mut dyn Dispatch,
    wishes: watch::Receiver<bool>,
    /// While a route wants events.
    chronicle: Option<Chronicle>,
}

/// The event stream, read by a task of its own that ends with it.
struct Subscription {
    scope: Scope,
    events: mpsc::Receiver<EventResult>,
    _reader: AbortOnDrop,
}

/// A list, and before when it was asked for (nanoseconds since 1970, the daemon's clock).
struct Asked {
    at: u64,
    list: Vec<Listed>,
}

/// Why [`Watch::listen`] returned.
enum Heard {
    /// What became of the stream.
    Ended(&'static str),
    /// A route wants events and none did, or the other way round.
    OtherWishes,
}

impl Watch<'_> {
    /// One connection to the daemon, from the first question to the end of its events; returns what
    /// became of these.
    async fn once(
        &mut self,
        asked_version: Option<&str>,
        up: &mut dyn FnMut(),
    ) -> Result<&'static str, DaemonError> {
        let greeting = greet(&self.daemon, asked_version).await?;
        let theirs = greeting.clock;
        self.daemon.api = Arc::clone(&greeting.api);
        let mut subscription = self.subscribe().await?;
        self.dispatch.send_all(&Command::Daemon(greeting));
        let list = self.list(theirs).await?;
        // What happened since the subscription comes first: a container that was created since then
        // is a new one, not one that was there already.
        self.hear_all(&mut subscription)?;
        self.reconcile(list, true, theirs);
        up();
        self.dispatch.connected(true);
        loop {
            match self.listen(theirs, &mut subscription).await? {
                Heard::Ended(what) => return Ok(what),
                Heard::OtherWishes => {
                    // Until the new one stands, the old one brings what containers do.
                    let other = self.subscribe().await?;
                    self.hear_all(&mut subscription)?;
                    subscription = other;
                    let list = self.list(theirs).await?;
                    self.hear_all(&mut subscription)?;
                    self.reconcile(list, false, theirs);
                }
            }
        }
    }

    /// Asks for the events that are wanted now.
    async fn subscribe(&mut self) -> Result<Subscription, DaemonError> {
        let scope = if *self.wishes.borrow_and_update() { Scope::All } else { Scope::Containers };
        let since = match scope {
            Scope::All => self.chronicle.get_or_insert_default().begin(),
            Scope::Containers => {
                self.chronicle = None;
                None
            }
        };
        let request = self.daemon.api.events(scope, since, None);
        let stream = self.daemon.stream(&request, |_| ());
        let stream = tokio::time::timeout(SUBSCRIBE_TIMEOUT, stream).await;
        let stream = stream.map_err(|_| silent())??;
        let (sender, events) = mpsc::channel(EVENTS_AHEAD);
        let reader = tokio::task::spawn_local(read_events(stream, scope, sender));
        Ok(Subscription { scope, events, _reader: AbortOnDrop(reader) })
    }

    /// Deals with the events that have come.
    fn hear_all(&mut self, subscription: &mut Subscription) -> Result<(), DaemonError> {
        while let Ok(event) = subscription.events.try_recv() {
            self.hear(event?);
        }
        Ok(())
    }

    fn hear(&mut self, Told { event, happening }: Told) {
        if let (Some((hash, happening)), Some(chronicle)) = (happening, &mut self.chronicle) {
            let Some(happening) = chronicle.event(hash, happening) else { return };
            self.tell(happening);
        }
        if let Some(order) = event.and_then(|event| self.registry.event(event)) {
            self.order(order);
        }
    }

    /// Sends an order; a container that is to be followed is heard of from now on.
    fn order(&mut self, order: Order) {
        let positions = self.dispatch.positions();
        if let (Some(positions), Command::Follow { container, .. }) = (positions, &order.1) {
            positions.heard_of(&container.id);
        }
        self.dispatch.send(order);
    }

    /// Tells the routes: by one shard, so that the order is kept.
    fn tell(&mut self, happening: Happening) {
        self.dispatch.send((0, Command::Event(Arc::new(happening))));
    }

    /// Asks for a list of the containers.
    async fn list(&mut self, theirs: Clock) -> Result<Asked, DaemonError> {
        self.registry.asks_for_list();
        if let Some(chronicle) = &mut self.chronicle {
            chronicle.asks_for_list();
        }
        let at = theirs.at(nanos(clock::wall() - theirs.slack));
        Ok(Asked { at, list: list(&self.daemon).await? })
    }

    /// Deals with a list; `blind`: there were no events for a while.
    fn reconcile(&mut self, Asked { at, list }: Asked, blind: bool, theirs: Clock) {
        if let Some(chronicle) = &mut self.chronicle {
            chronicle.list(&list, theirs.at(nanos(clock::wall())), clock::now());
        }
        self.registry.measure(self.dispatch.received(), clock::now());
        self.registry.reconcile(list, blind).into_iter().for_each(|order| self.order(order));
        if let Some(positions) = self.dispatch.positions() {
            positions.listed(at);
        }
    }

    /// Deals with events, and with a list now and then, until the events end or hang, or others are
    /// wanted.
    async fn listen(
        &mut self,
        theirs: Clock,
        subscription: &mut Subscription,
    ) -> Result<Heard, DaemonError> {
        // When something came, or later, by the daemon's clock.
        let heard_now = || theirs.at(nanos(clock::wall() + theirs.slack));
        let (mut due, mut heard, mut tells_past) = (clock::now() + LIST_EVERY, heard_now(), true);
        loop {
            let doubt = self.chronicle.as_ref().and_then(Chronicle::due);
            let next = doubt.map_or(due, |doubt| doubt.min(due));
            let event = tokio::select! {
                biased;
                event = tokio::time::timeout_at(next.into(), subscription.events.recv()) => event,
                () = changed(&mut self.wishes) => return Ok(Heard::OtherWishes),
            };
            match event {
                Ok(Some(event)) => {
                    heard = heard_now();
                    self.registry.measure(self.dispatch.received(), clock::now());
                    self.hear(event?);
                }
                Ok(None) => return Ok(Heard::Ended("the daemon ended its event stream")),
                Err(_quiet) => {}
            }
            let overdue = self.chronicle.as_mut().map(|known| known.overdue(clock::now()));
            overdue.into_iter().flatten().for_each(|happening| self.tell(happening));
            if clock::now() >= due {
                let list = self.list(theirs).await?;
                self.reconcile(list, false, theirs);
                let until = theirs.at(nanos(clock::wall() - UNDER_WAY - theirs.slack));
                if tells_past && heard < until {
                    let past = has_events(&self.daemon, subscription.scope, heard, until).await;
                    tells_past = past.is_some();
                    if past == Some(true) && subscription.events.is_empty() {
                        return Ok(Heard::Ended("its event stream hangs"));
                    }
                }
                due = clock::now() + LIST_EVERY;
            }
        }
    }
}

/// Waits until a route wants events and none did, or the other way round.
async fn changed(wishes: &mut watch::Receiver<bool>) {
    if wishes.changed().await.is_err() {
        // The routes stay as they are.
        std::future::pending::<()>().await;
    }
}

/// Whether the daemon had something to tell in this time (nanoseconds since 1970, its clock);
/// `None` if it does not say.
async fn has_events(daemon: &Daemon, scope: Scope, since: u64, until: u64) -> Option<bool> {
    let request = daemon.api.events(scope, Some(since), Some(until));
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

/// One event: as the registry wants it, if it is a container's, and as routes do, if one wants any.
#[derive(Default)]
struct Told {
    event: Option<DockerEvent>,
    happening: Option<(u64, Happening)>,
}

type EventResult = Result<Told, DaemonError>;

/// Reads on while the events before are being dealt with: the daemon drops what a slow listener
/// does not take.
async fn read_events(mut stream: Streaming, scope: Scope, sender: mpsc::Sender<EventResult>) {
    let mut lines = EventLines::default();
    let mut unread = Warner::default();
    let mut batch: Vec<EventResult> = Vec::new();
    loop {
        let mut overlong = None;
        let more = stream
            .next(&mut |piece| {
                let pushed =
                    lines.push(piece, |line| batch.push(Ok(understand(line, scope, &mut unread))));
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
fn understand(line: &[u8], scope: Scope, unread: &mut Warner) -> Told {
    let read = || -> Result<Told, JsonError> {
        let happening = match scope {
            Scope::Containers => None,
            Scope::All => Some((hash(line), parse_happening(line)?)),
        };
        Ok(Told { event: parse_event(line)?, happening })
    };
    read().unwrap_or_else(|error| {
        if let Some(sum) = unread.due(clock::now(), 1) {
            tracing::warn!("docker: events that cannot be read: {sum}, the last: {error}");
        }
        Told::default()
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
