//! A shard: one thread that owns its containers from the socket to the wire.
//!
//! [`feed`] is the way of the lines. Around it: [`follow`] decides for each container through
//! which door it is read, [`intake`] what becomes of the bytes, [`pass`] and [`backlog`] read the
//! log, [`lane`] is a route's share of the shard. No lock is taken and nothing is allocated per
//! line; other threads are heard between reads, through bounded channels.

pub mod backlog;
pub mod command;
pub mod feed;
pub mod follow;
pub mod intake;
pub mod lane;
pub mod mail;
pub mod pass;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::Receiver;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::config::FollowSettings;
use crate::docker::inspect::Container;
use crate::io::Driver;
use crate::io::pool::Pool;
use crate::metrics::ShardCounters;
use crate::transport::daemon::Daemon;
use crate::transport::link::SAY_EVERY;
use crate::transport::{Shore, StreamTarget};
use command::{Command, Greeting, Signal};
use feed::Feed;
use follow::Follower;
use intake::{Intake, nanos};
use lane::{Lane, Route};
use mail::Mailbox;

/// A destroyed container's stream ends by itself, unless it never ran: then we end it.
const DESTROYED_GRACE: Duration = Duration::from_secs(2);
/// After a delivery was given up it gets this long to put back what it has.
const GIVE_UP_GRACE: Duration = Duration::from_millis(500);

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
    /// All routes.
    pub routes: Vec<Arc<Route>>,
    /// Which containers are followed.
    pub follow: FollowSettings,
    /// Longest line.
    pub max_line: usize,
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
    max_line: usize,
    following: Cell<u64>,
    born: u64,
    /// It was said that attach is refused.
    said_alone: Cell<bool>,
    /// Which containers are followed.
    pub follow: FollowSettings,
    /// The routes' shares of this shard.
    pub lanes: Vec<Rc<Lane>>,
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

    /// The time by the daemon's clock as far as it is known, in nanoseconds since 1970.
    pub fn now(&self) -> u64 {
        self.greeting.borrow().clock.at(nanos(SystemTime::now()))
    }

    /// When the shard began, by the daemon's clock: what starts later is new.
    pub fn born(&self) -> u64 {
        self.greeting.borrow().clock.at(self.born)
    }

    /// How far [`Crew::now`] may be off.
    pub fn slack(&self) -> Duration {
        self.greeting.borrow().clock.slack
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
    deliveries: Vec<JoinHandle<()>>,
    followers: HashMap<String, (Rc<Mailbox>, JoinHandle<()>)>,
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

async fn serve(setup: Setup) -> u64 {
    let mut shard = Shard::new(&setup);
    loop {
        match setup.commands.try_recv() {
            Ok(Command::Daemon(greeting)) => *shard.crew.greeting.borrow_mut() = greeting,
            Ok(Command::Follow { container, origin }) => shard.follow(container, origin),
            Ok(Command::Signal { id, signal }) => shard.signal(&id, signal),
            Ok(Command::Stop(patience)) => return shard.stop(Instant::now() + patience).await,
            Err(crossbeam_channel::TryRecvError::Empty) => setup.bell.notified().await,
            // Control is gone: so is everything.
            Err(crossbeam_channel::TryRecvError::Disconnected) => return 0,
        }
    }
}

/// Has what the lanes dropped said while nothing more is dropped, until the shard ends.
fn say_losses(lanes: &[Rc<Lane>]) {
    let lanes = lanes.to_vec();
    tokio::task::spawn_local(async move {
        loop {
            tokio::time::sleep(SAY_EVERY / 4).await;
            lanes.iter().for_each(|lane| lane.queue.say_losses(0));
        }
    });
}

impl Shard {
    fn new(setup: &Setup) -> Shard {
        let pool = Pool::new();
        let mut deliveries = Vec::new();
        let mut lanes = Vec::new();
        for (number, route) in setup.routes.iter().enumerate() {
            let (lane, delivery) = Lane::new(route, setup.index);
            let seed = nanos(SystemTime::now()) ^ ((setup.index << 16) + number) as u64;
            let shore = Shore {
                driver: setup.driver,
                pool: Rc::clone(&pool),
                seed,
                eager: setup.index == 0,
            };
            deliveries.push(tokio::task::spawn_local(delivery.run(shore)));
            lanes.push(Rc::new(lane));
        }
        say_losses(&lanes);
        let crew = Crew {
            driver: setup.driver,
            pool,
            target: setup.daemon.clone(),
            greeting: RefCell::new(setup.greeting.clone()),
            max_line: setup.max_line,
            following: Cell::new(0),
            born: nanos(SystemTime::now()),
            said_alone: Cell::new(false),
            follow: setup.follow.clone(),
            lanes,
            counters: Arc::clone(&setup.counters),
        };
        Shard { crew: Rc::new(crew), deliveries, followers: HashMap::new() }
    }

    fn follow(&mut self, container: Container, origin: command::Origin) {
        let mail = Rc::new(Mailbox::default());
        let id = container.id.clone();
        let feed = Feed::new(self.crew.max_line, Arc::clone(&self.crew.counters));
        let crew = Rc::clone(&self.crew);
        let follower =
            Follower::new(Rc::clone(&crew), container, origin, Rc::clone(&mail), Intake::new(feed));
        let task = tokio::task::spawn_local(async move {
            crew.followed(true);
            follower.run().await;
            crew.followed(false);
        });
        self.followers.insert(id, (mail, task));
    }

    fn signal(&mut self, id: &str, signal: Signal) {
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
                mail.detach();
                mail.ring();
            });
        }
    }

    /// Stops reading, then delivers what is held, until `deadline` at the latest.
    async fn stop(self, deadline: Instant) -> u64 {
        for (mail, _) in self.followers.values() {
            mail.stop();
        }
        for (_, task) in self.followers.into_values() {
            let _ = tokio::time::timeout_at(deadline.into(), task).await;
        }
        let queues = || self.crew.lanes.iter().map(|lane| &lane.queue);
        queues().for_each(|queue| queue.close());
        let mut deliveries = self.deliveries;
        for delivery in &mut deliveries {
            let _ = tokio::time::timeout_at(deadline.into(), delivery).await;
        }
        queues().for_each(|queue| queue.give_up());
        let grace = Instant::now() + GIVE_UP_GRACE;
        for delivery in deliveries.iter_mut().filter(|delivery| !delivery.is_finished()) {
            let _ = tokio::time::timeout_at(grace.into(), delivery).await;
        }
        queues().map(|queue| queue.abandon()).sum()
    }
}
