//! What containers use: for each container of the shard whose stats a route wants, the stream of
//! its samples, opened with each run and ended with it.
//!
//! The daemon sends a sample a second, and goes on sending empty ones for a container that has
//! stopped; a stream that brings none for [`SILENCE`] is asked about, and opened again if the
//! container runs. A task of its own reads the stream and puts the samples together
//! ([`crate::docker::stats`]); what an interval gives goes to the lanes by [`super::side`].

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Crew;
use super::command::{Origin, Signal};
use super::mail::Mailbox;
use crate::docker::events::EventLines;
use crate::docker::inspect::{Container, State, is_unwanted};
use crate::docker::stats::{Meter, Usage, parse_sample};
use crate::io::clock;
use crate::io::stream::Closer;
use crate::transport::daemon::{DaemonError, Streaming};
use crate::transport::link::{Event, Link, Notice, Warner};

/// A stream that has brought no sample for so long is asked about: one should come each second.
const SILENCE: Duration = Duration::from_secs(10);
/// How long the daemon may take to begin a stream.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(60);

/// All containers of a shard, as far as their stats are concerned.
pub(super) struct Samplers {
    crew: Rc<Crew>,
    interval: Duration,
    known: BTreeMap<String, Known>,
}

/// A container.
struct Known {
    /// As far as events and lists tell of it.
    container: Container,
    /// Whether it runs, ditto; a task that is begun finds out.
    runs: bool,
    /// Where its task hears of it, while a route wants its stats.
    mail: Option<Rc<Mailbox>>,
}

impl Samplers {
    /// None yet. A line stands for `interval`.
    pub(super) fn new(crew: Rc<Crew>, interval: Duration) -> Samplers {
        Samplers { crew, interval, known: BTreeMap::new() }
    }

    /// There is another container.
    pub(super) fn follow(&mut self, container: &Container, origin: Origin) {
        let ended = matches!(container.state, State::Exited | State::Gone);
        let runs = origin != Origin::Created && !ended;
        let known = Known { container: container.clone(), runs, mail: None };
        self.known.insert(container.id.clone(), known);
        self.look_at(&container.id);
    }

    /// Something happened to one.
    pub(super) fn signal(&mut self, id: &str, signal: &Signal) {
        let Some(known) = self.known.get_mut(id) else { return };
        match signal {
            Signal::Started => known.runs = true,
            Signal::Died(_) => known.runs = false,
            Signal::Check { look, .. } => known.runs |= look,
            Signal::Unpaused | Signal::Renamed(_) | Signal::Destroyed => {}
        }
        if let Some(mail) = &known.mail {
            mail.signal(signal.clone());
        }
        match signal {
            Signal::Destroyed => {
                if let Some(mail) = self.known.remove(id).and_then(|known| known.mail) {
                    mail.stop();
                }
            }
            Signal::Renamed(name) | Signal::Check { name, .. }
                if !name.is_empty() && *name != known.container.name =>
            {
                known.container.name.clone_from(name);
                self.look_at(id);
            }
            _ => {}
        }
    }

    /// Routes have come or gone.
    pub(super) fn look(&mut self) {
        let ids: Vec<String> = self.known.keys().cloned().collect();
        ids.iter().for_each(|id| self.look_at(id));
    }

    /// Begins or ends what a container needs for the routes that there are.
    fn look_at(&mut self, id: &str) {
        let Some(known) = self.known.get_mut(id) else { return };
        let (wanted, _) = self.crew.wants_stats(&known.container);
        match (&known.mail, wanted) {
            (Some(mail), true) => mail.ring(),
            (Some(mail), false) => {
                mail.stop();
                known.mail = None;
            }
            (None, true) => {
                let mail = Rc::new(Mailbox::default());
                let sampler = Sampler {
                    crew: Rc::clone(&self.crew),
                    interval: self.interval,
                    mail: Rc::clone(&mail),
                    container: Rc::new(RefCell::new(known.container.clone())),
                    pace: Link::new(self.crew.now()),
                    over: None,
                };
                tokio::task::spawn_local(sampler.run(known.runs));
                known.mail = Some(mail);
            }
            (None, false) => {}
        }
    }

    /// Ends all of it.
    pub(super) fn stop(&mut self) {
        std::mem::take(&mut self.known).into_values().filter_map(|known| known.mail).for_each(
            |mail| {
                mail.stop();
            },
        );
    }
}

/// The stats of one container.
struct Sampler {
    crew: Rc<Crew>,
    interval: Duration,
    mail: Rc<Mailbox>,
    /// As its lines are sent.
    container: Rc<RefCell<Container>>,
    /// Paces attempts that fail.
    pace: Link,
    /// The run that has ended, by its `StartedAt`.
    over: Option<u64>,
}

/// What to do after a round.
enum Next {
    /// Another round at once.
    Again,
    /// Another round when something happens to the container.
    Wait,
    /// Another round after a pause, or when something happens.
    Retry(String),
    /// The container is not to be followed.
    Over,
}

impl From<DaemonError> for Next {
    fn from(error: DaemonError) -> Next {
        Next::Retry(error.to_string())
    }
}

impl Sampler {
    /// Runs until the container is gone, or nobody wants its stats, or the program stops.
    async fn run(mut self, runs: bool) {
        if !runs {
            self.sleep().await;
        }
        while !self.mail.is_stopping() {
            if !self.mail.wait_by(&mut self.pace).await {
                continue;
            }
            let next = self.round().await.unwrap_or_else(|next| next);
            self.mail.close_all();
            let now = clock::now();
            match next {
                Next::Over => return,
                Next::Again => self.pace.handle(Event::Connected, now),
                Next::Retry(reason) => self.pace.handle(Event::Failed(reason), now),
                Next::Wait => {
                    self.pace.handle(Event::Connected, now);
                    self.sleep().await;
                }
            }
            let container = self.container.borrow();
            match self.pace.notice() {
                Some(lasting @ Notice::StillDown { .. }) => {
                    tracing::warn!(container = container.name, "stats: {lasting}");
                }
                Some(passing) => tracing::debug!(container = container.name, "stats: {passing}"),
                None => {}
            }
        }
    }

    /// Waits until there is a reason to look at a container that does not run.
    async fn sleep(&self) {
        while !self.mail.is_stopping() && !self.mail.take_stirred() {
            self.mail.wait(None).await;
        }
    }

    /// One stream from its request to its end.
    async fn round(&mut self) -> Result<Next, Next> {
        let seen = self.inspect().await?;
        if is_unwanted(&seen, &self.crew.follow) {
            return Ok(Next::Over);
        }
        let (run, runs) = (seen.started_at, seen.is_running());
        *self.container.borrow_mut() = seen;
        match runs {
            false => return Ok(Next::Wait),
            // The daemon told of its end and does not know of it yet.
            true if run.is_some() && run == self.over => {
                return Ok(Next::Retry("it has ended and runs".into()));
            }
            true => {}
        }
        let stream = self.open().await?;
        self.pace.handle(Event::Connected, clock::now());
        let gauge = Rc::new(Gauge::new(self));
        let reader = read(stream, Rc::clone(&gauge), Rc::clone(&self.mail));
        tokio::task::spawn_local(reader);
        let next = self.until_it_ends(&gauge, run).await;
        self.mail.detach();
        gauge.finish();
        next
    }

    async fn open(&self) -> Result<Streaming, DaemonError> {
        let daemon = self.crew.daemon();
        let id = self.container.borrow().id.clone();
        let request = daemon.api.stats(&id);
        let mut timer = None;
        let began = |closer: Closer| {
            self.mail.attached(closer.clone());
            timer = Some(tokio::task::spawn_local(async move {
                tokio::time::sleep(BEGIN_TIMEOUT).await;
                closer.close();
            }));
        };
        let stream = daemon.stream(&request, began).await;
        timer.inspect(|timer| timer.abort());
        stream
    }

    /// Looks after a stream.
    async fn until_it_ends(&mut self, gauge: &Gauge, run: Option<u64>) -> Result<Next, Next> {
        loop {
            let due = gauge.heard.get() + SILENCE;
            self.mail.wait(Some(due)).await;
            self.attend().await;
            if self.mail.is_stopping() {
                return Ok(Next::Over);
            }
            if run.is_some_and(|run| self.mail.death_since(run).is_some()) {
                self.over = run;
                return Ok(Next::Again);
            }
            match gauge.ended.get() {
                Some(End::Stopped) => {
                    return Ok(Next::Retry("no more samples of its run".into()));
                }
                Some(End::Broken) => return Ok(Next::Retry("the stream of samples ended".into())),
                None if clock::now() < gauge.heard.get() + SILENCE => continue,
                None => {}
            }
            let seen = self.inspect().await?;
            if !seen.is_running() || seen.started_at != run {
                return Ok(Next::Again);
            }
            if seen.state == State::Running && clock::now() >= gauge.heard.get() + SILENCE {
                self.crew.counters.hung.add(1);
                let name = &self.container.borrow().name;
                tracing::warn!(
                    container = name,
                    "its stats hang, although it runs: asking for them again"
                );
                return Ok(Next::Retry("its stats hang".into()));
            }
            // Frozen, it may have none.
            gauge.heard.set(clock::now());
        }
    }

    /// Takes note of a new name, and asks for what a route that has come needs to know.
    async fn attend(&self) {
        if let Some(name) = self.mail.take_name() {
            self.container.borrow_mut().name = name;
        }
        let lacks_answer = {
            let container = self.container.borrow();
            container.answer.is_none() && self.crew.wants_stats(&container).1
        };
        if lacks_answer
            && !self.mail.is_stopping()
            && let Ok(seen) = self.inspect().await
        {
            self.container.borrow_mut().answer = seen.answer;
        }
    }

    async fn inspect(&self) -> Result<Container, DaemonError> {
        let id = self.container.borrow().id.clone();
        let mut seen = self.crew.inspect(&id, &self.mail).await?;
        if !self.crew.wants_stats(&seen).1 {
            seen.answer = None;
        }
        Ok(seen)
    }
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The daemon has no more samples: the container has stopped.
    Stopped,
    /// The connection broke.
    Broken,
}

/// What has come of one stream.
struct Gauge {
    crew: Rc<Crew>,
    container: Rc<RefCell<Container>>,
    mail: Rc<Mailbox>,
    meter: RefCell<Meter>,
    /// When the last sample came, or the stream was opened.
    heard: Cell<Instant>,
    ended: Cell<Option<End>>,
    /// Nothing of it counts any more.
    over: Cell<bool>,
    unread: RefCell<Warner>,
}

impl Gauge {
    fn new(sampler: &Sampler) -> Gauge {
        Gauge {
            crew: Rc::clone(&sampler.crew),
            container: Rc::clone(&sampler.container),
            mail: Rc::clone(&sampler.mail),
            meter: RefCell::new(Meter::new(sampler.interval)),
            heard: Cell::new(clock::now()),
            ended: Cell::new(None),
            over: Cell::new(false),
            unread: RefCell::default(),
        }
    }

    /// A line of the stream.
    fn take(&self, line: &[u8]) {
        if self.over.get() || self.ended.get().is_some() {
            return;
        }
        match parse_sample(line) {
            Ok(Some(sample)) => {
                self.heard.set(clock::now());
                let usage = self.meter.borrow_mut().add(sample);
                usage.iter().for_each(|usage| self.tell(usage));
            }
            Ok(None) => self.ended.set(Some(End::Stopped)),
            Err(error) => {
                if let Some(sum) = self.unread.borrow_mut().due(clock::now(), 1) {
                    let name = &self.container.borrow().name;
                    tracing::warn!(
                        container = name,
                        "samples that cannot be read: {sum}, the last: {error}"
                    );
                }
            }
        }
    }

    /// Tells what is left of an interval, unless nobody wants it any more.
    fn finish(&self) {
        self.over.set(true);
        if !self.mail.is_stopping() || self.mail.is_destroyed() {
            let usage = self.meter.borrow_mut().finish();
            usage.iter().for_each(|usage| self.tell(usage));
        }
    }

    fn tell(&self, usage: &Usage) {
        self.crew.tell_usage(&self.container.borrow(), usage);
    }
}

/// Reads a stream to its end.
async fn read(mut stream: Streaming, gauge: Rc<Gauge>, mail: Rc<Mailbox>) {
    let mut lines = EventLines::default();
    loop {
        let mut whole = true;
        let mut take = |piece: &[u8]| whole &= lines.push(piece, |line| gauge.take(line)).is_ok();
        let more = matches!(stream.next(&mut take).await, Ok(true));
        if !more || !whole || gauge.ended.get().is_some() || gauge.over.get() {
            break;
        }
    }
    drop(stream);
    gauge.ended.set(Some(gauge.ended.get().unwrap_or(End::Broken)));
    mail.ring();
}
