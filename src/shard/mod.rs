//! A shard: one thread that owns its containers from the socket to the wire.
//!
//! [`feed`] is the way of the lines. Around it: [`follow`] decides for each container through
//! which door it is read, [`intake`] what becomes of the bytes, [`pass`] and [`backlog`] read the
//! log, [`hold`] bounds what is held meanwhile, [`behind`] waits for room, [`checkpoint`] and
//! [`positions`] note how far all has come, for a [`journal`]. [`lane`] is a route's share of the
//! shard, [`groups`] the lines that it joins, [`berths`] has routes come and go, [`roster`] tells
//! others who is being read, [`dial`] by which clock a line's time is, [`vigil`] finds streams that
//! hang, [`overdue`] answers that do. [`sampler`] has what containers use, and [`side`] is the way
//! of what no container wrote. No lock is taken and nothing is allocated per line; other threads
//! are heard between reads, through bounded channels.

pub mod backlog;
mod behind;
mod berths;
mod checkpoint;
pub mod command;
pub mod dial;
pub mod feed;
pub mod follow;
pub mod groups;
pub mod hold;
pub mod intake;
pub mod journal;
pub mod lane;
pub mod mail;
mod overdue;
pub mod pass;
pub mod positions;
pub mod roster;
mod sampler;
mod side;
mod vigil;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;

use crate::config::{FollowSettings, Timestamp};
use crate::docker::inspect::{Container, parse_inspect};
use crate::io::pace::Pace;
use crate::io::pool::Pool;
use crate::io::tick::Ticker;
use crate::io::{Driver, clock, doze};
use crate::metrics::ShardCounters;
use crate::transport::StreamTarget;
use crate::transport::daemon::{Daemon, DaemonError, Streaming};
use crate::transport::queue::Room;
use behind::{CATCHING_UP_MAX, RESUMING_MAX};
use berths::Berths;
use command::{Command, Greeting, Signal};
use dial::Dial;
use feed::Feed;
use follow::Follower;
use hold::Hold;
use intake::{Intake, nanos};
use lane::{Lane, Route};
use mail::Mailbox;
use positions::Positions;
use roster::Roster;
use sampler::Samplers;

/// A destroyed container's stream ends by itself, unless it never ran: then we end it.
const DESTROYED_GRACE: Duration = Duration::from_secs(2);
/// Pauses of busy streams end on a grid, so that they end together: so many times in READ_WAIT.
const PAUSES_A_WAIT: u32 = 8;

/// What a shard thread is given.
pub struct Setup {
    /// Its number, from 0.
    pub index: usize,
    /// How it waits for sockets.
    pub driver: Driver,
    /// Where the daemon is.
    pub daemon: StreamTarget,
    /// How its API is spoken until it has said more.
    pub greeting: Greeting,
    /// The routes that are there from the beginning.
    pub routes: Vec<Arc<Route>>,
    /// Which containers are followed.
    pub follow: FollowSettings,
    /// By which clock lines are stamped.
    pub timestamp: Timestamp,
    /// A stream that was silent for so long is asked about.
    pub silence: Duration,
    /// A line of stats stands for so long.
    pub stats_interval: Duration,
    /// What all shards may hold of what comes while logs are read.
    pub hold: Arc<Hold>,
    /// Where it tells whom it reads.
    pub roster: Arc<Roster>,
    /// Where it enters how far it has come, and finds how far earlier runs came.
    pub positions: Option<Arc<Positions>>,
    /// Longest line.
    pub max_line: usize,
    /// A busy stream is read after a pause of at most so long.
    pub read_wait: Duration,
    /// Its counters.
    pub counters: Arc<ShardCounters>,
    /// What control tells it.
    pub commands: Receiver<Command>,
    /// Rung after a command was sent.
    pub bell: Arc<Notify>,
}

/// What the followers of a shard share.
pub struct Crew {
    driver: Driver,
    pool: Rc<Pool>,
    target: StreamTarget,
    greeting: RefCell<Greeting>,
    dial: Rc<Dial>,
    asking: vigil::Turns,
    max_line: usize,
    read_wait: Duration,
    /// `None` where there is nothing to pause by.
    ticker: Option<Rc<Ticker>>,
    following: Cell<u64>,
    born: u64,
    /// It was said that attach is refused.
    said_alone: Cell<bool>,
    /// Which containers are followed.
    pub follow: FollowSettings,
    /// The shard's number.
    index: usize,
    hold: Arc<Hold>,
    roster: Arc<Roster>,
    positions: Option<Arc<Positions>>,
    noting: checkpoint::Noting,
    /// Which lanes are full.
    pub room: Rc<Room>,
    /// How many may read on at a time who had to wait for room.
    turns: Arc<Semaphore>,
    /// How many may look for the end of what was delivered at a time.
    resuming: Arc<Semaphore>,
    behind: Cell<u64>,
    /// Where lines come from. Those that are gone are taken out now and then.
    intakes: RefCell<Vec<Weak<RefCell<Intake>>>>,
    /// The open routes' shares of this shard.
    pub lanes: Rc<RefCell<Vec<Rc<Lane>>>>,
    /// The shard's counters.
    pub counters: Arc<ShardCounters>,
}

impl Crew {
    /// How the daemon is reached, as of its last greeting.
    pub fn daemon(&self) -> Daemon {
        Daemon {
            driver: self.driver,
            pool: Rc::clone(&self.pool),
            target: self.target.clone(),
            api: Arc::clone(&self.greeting.borrow().api),
        }
    }

    /// What the daemon says of a container, and its answer.
    async fn inspect(&self, id: &str, mail: &Mailbox) -> Result<Container, DaemonError> {
        let daemon = self.daemon();
        let question = daemon.api.inspect(id);
        let answer = daemon.ask(&question, |closer| mail.asked(closer)).await?;
        let parsed = parse_inspect(&answer.body);
        let mut container = parsed.map_err(|error| DaemonError::Nonsense(error.to_string()))?;
        container.answer = Some(answer.body.into());
        Ok(container)
    }

    /// The time by the daemon's clock as far as it is known, in nanoseconds since 1970.
    pub fn now(&self) -> u64 {
        self.greeting.borrow().clock.at(nanos(clock::wall()))
    }

    /// When the shard began, by the daemon's clock: what starts later is new.
    pub fn born(&self) -> u64 {
        self.greeting.borrow().clock.at(self.born)
    }

    /// How far [`Crew::now`] may be off.
    pub fn slack(&self) -> Duration {
        self.greeting.borrow().clock.slack
    }

    /// No more bytes of a stream fit between the daemon and us. It keeps 1 MB of each (moby
    /// pkg/ioutils `BytesPipe`), and a Unix socket has 208 KiB at most; one of TCP may have 10 MiB.
    fn room_between(&self) -> u64 {
        match self.target {
            StreamTarget::Unix(_) => 2 << 20,
            _ => 16 << 20,
        }
    }

    /// How a stream is read that was just opened.
    pub fn pace(&self) -> Pace {
        Pace::new(if self.ticker.is_some() { self.read_wait } else { Duration::ZERO })
    }

    /// After a read of so many bytes from `stream`: lets more of them gather if it is busy, and
    /// lets others have their turn.
    pub async fn rest(&self, stream: &Streaming, pace: &mut Pace, bytes: usize) {
        self.noting.stir();
        match (pace.next(bytes, clock::now()), &self.ticker) {
            (Some(length), Some(ticker)) => stream.pause(ticker, length).await,
            _ => stream.breathe().await,
        }
    }

    /// Lines of this container go to the routes that are opened later, too.
    fn feeds(&self, intake: &Rc<RefCell<Intake>>) {
        let mut intakes = self.intakes.borrow_mut();
        if intakes.len() == intakes.capacity() {
            intakes.retain(|intake| intake.strong_count() > 0);
        }
        intakes.push(Rc::downgrade(intake));
    }

    fn intakes(&self) -> Vec<Rc<RefCell<Intake>>> {
        self.intakes.borrow().iter().filter_map(Weak::upgrade).collect()
    }

    /// One more, or one less, has output that waits in its log for want of room.
    fn behind(&self, more: bool) {
        let behind = self.behind.get();
        self.behind.set(if more { behind + 1 } else { behind.saturating_sub(1) });
        self.counters.behind.set(self.behind.get());
    }

    fn greet(&self, greeting: Greeting) {
        self.dial.set(greeting.clock);
        *self.greeting.borrow_mut() = greeting;
        self.noting.stir();
    }

    fn followed(&self, more: bool) {
        let following = self.following.get();
        self.following.set(if more { following + 1 } else { following.saturating_sub(1) });
        self.counters.containers.set(self.following.get());
    }
}

/// A shard's containers and deliveries.
struct Shard {
    crew: Rc<Crew>,
    berths: Berths,
    samplers: Samplers,
    /// In an order, so that the stop has one.
    followers: BTreeMap<String, (Rc<Mailbox>, JoinHandle<()>)>,
}

/// Runs a shard on this thread until it is told to stop; `report` gets how many records it could
/// not deliver. The thread may live on after that: nothing ends a write to a terminal that takes
/// no more.
///
/// # Errors
/// Where the operating system refuses the driver.
pub fn run(setup: Setup, report: impl FnOnce(u64)) -> io::Result<()> {
    let driver = setup.driver;
    crate::io::block_on(driver, async { report(serve(setup).await) })
}

/// The same, as a task: also what a simulation runs.
pub(crate) async fn serve(setup: Setup) -> u64 {
    let mut shard = Shard::new(&setup);
    loop {
        match setup.commands.try_recv() {
            Ok(Command::Daemon(greeting)) => shard.crew.greet(greeting),
            Ok(Command::Follow { container, origin }) => shard.follow(container, origin),
            Ok(Command::Signal { id, signal }) => shard.signal(&id, signal),
            Ok(Command::Event(happening)) => shard.crew.tell_event(&happening),
            Ok(Command::Open(route)) => shard.change_routes(|berths| berths.open(&route)),
            Ok(Command::Close(closing)) => shard.change_routes(|berths| berths.close(closing)),
            Ok(Command::Replace(closing, route)) => {
                shard.change_routes(|berths| berths.replace(closing, &route));
            }
            Ok(Command::Stop(patience)) => return shard.stop(clock::now() + patience).await,
            Err(crossbeam_channel::TryRecvError::Empty) => setup.bell.notified().await,
            // Control is gone: so is everything.
            Err(crossbeam_channel::TryRecvError::Disconnected) => return 0,
        }
    }
}

/// What busy streams pause by, if they are to.
fn start_ticker(read_wait: Duration) -> Option<Rc<Ticker>> {
    if read_wait.is_zero() {
        return None;
    }
    let started = Ticker::start(read_wait / PAUSES_A_WAIT);
    started
        .inspect_err(|error| tracing::warn!("no timer, so READ_WAIT has no effect: {error}"))
        .ok()
}

impl Shard {
    fn new(setup: &Setup) -> Shard {
        if setup.driver == Driver::Poll {
            doze::allow(setup.read_wait);
        }
        let crew = Crew {
            driver: setup.driver,
            pool: Pool::new(),
            target: setup.daemon.clone(),
            greeting: RefCell::new(setup.greeting.clone()),
            dial: Rc::new(Dial::new(setup.timestamp, setup.greeting.clock)),
            asking: vigil::Turns::new(setup.silence, clock::now()),
            max_line: setup.max_line,
            read_wait: setup.read_wait,
            ticker: start_ticker(setup.read_wait),
            following: Cell::new(0),
            born: nanos(clock::wall()),
            said_alone: Cell::new(false),
            follow: setup.follow.clone(),
            index: setup.index,
            hold: Arc::clone(&setup.hold),
            roster: Arc::clone(&setup.roster),
            positions: setup.positions.clone(),
            noting: checkpoint::Noting::default(),
            room: Rc::default(),
            turns: Arc::new(Semaphore::new(CATCHING_UP_MAX)),
            resuming: Arc::new(Semaphore::new(RESUMING_MAX)),
            behind: Cell::new(0),
            intakes: RefCell::default(),
            lanes: Rc::default(),
            counters: Arc::clone(&setup.counters),
        };
        let crew = Rc::new(crew);
        checkpoint::keep_noting(&crew);
        let mut berths = Berths::new(Rc::clone(&crew));
        setup.routes.iter().for_each(|route| berths.open(route));
        let samplers = Samplers::new(Rc::clone(&crew), setup.stats_interval);
        Shard { crew, berths, samplers, followers: BTreeMap::new() }
    }

    fn change_routes(&mut self, change: impl FnOnce(&mut Berths)) {
        change(&mut self.berths);
        self.samplers.look();
    }

    fn follow(&mut self, container: Container, origin: command::Origin) {
        self.samplers.follow(&container, origin);
        let mail = Rc::new(Mailbox::default());
        let id = container.id.clone();
        let feed = Feed::new(
            self.crew.max_line,
            Rc::clone(&self.crew.room),
            Arc::clone(&self.crew.counters),
        )
        .timed_by(Rc::clone(&self.crew.dial));
        let intake = Rc::new(RefCell::new(Intake::new(feed, Arc::clone(&self.crew.hold))));
        self.crew.feeds(&intake);
        let crew = Rc::clone(&self.crew);
        let follower = Follower::new(Rc::clone(&crew), container, origin, Rc::clone(&mail), intake);
        let task = tokio::task::spawn_local(async move {
            crew.followed(true);
            follower.run().await;
            crew.followed(false);
        });
        self.followers.insert(id, (mail, task));
    }

    fn signal(&mut self, id: &str, signal: Signal) {
        self.samplers.signal(id, &signal);
        if signal != Signal::Destroyed {
            if let Some((mail, _)) = self.followers.get(id) {
                mail.signal(signal);
            }
            return;
        }
        if let Some((mail, _)) = self.followers.remove(id) {
            mail.signal(signal);
            tokio::task::spawn_local(async move {
                tokio::time::sleep(DESTROYED_GRACE).await;
                mail.let_go();
            });
        }
    }

    /// Stops reading, then delivers what is held, until `deadline` at the latest.
    async fn stop(mut self, deadline: Instant) -> u64 {
        self.samplers.stop();
        for (mail, _) in self.followers.values() {
            mail.stop();
        }
        for (_, task) in self.followers.into_values() {
            let _ = tokio::time::timeout_at(deadline.into(), task).await;
        }
        self.berths.stop(deadline).await
    }
}
