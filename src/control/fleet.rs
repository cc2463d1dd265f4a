//! The shards as control sees them: starts their threads, sends them commands, stops them.
//!
//! Commands may come from any task of the control thread; what a busy shard has no room for waits
//! here, in order, and is sent again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use tokio::sync::Notify;

use super::build::DaemonAddress;
use super::failure::fail;
use crate::config::Settings;
use crate::io::Driver;
use crate::metrics::ShardCounters;
use crate::shard::command::Command;
use crate::shard::hold::Hold;
use crate::shard::lane::Route;
use crate::shard::positions::Positions;
use crate::shard::roster::Roster;
use crate::shard::{self, Setup};
use crate::transport::link::Warner;

/// Commands that a shard may be behind; more wait on our side.
const COMMANDS_AHEAD: usize = 1024;
/// With so many commands waiting, no events are added.
const EVENTS_WAITING_MAX: usize = 4096;
/// How often commands that waited are sent again, while there are any.
const TICK: Duration = Duration::from_millis(100);
/// Beyond the drain timeout, for the shards to report.
pub(super) const REPORT_GRACE: Duration = Duration::from_secs(2);

/// All shards.
pub(super) struct Fleet {
    shards: Mutex<Vec<Shard>>,
    /// What each has counted.
    pub(super) counters: Vec<Arc<ShardCounters>>,
    /// Whom they read.
    pub(super) roster: Arc<Roster>,
    reports: Receiver<u64>,
    reported: Arc<Notify>,
    /// Rung when a command waits.
    crowded: Notify,
}

struct Shard {
    commands: Sender<Command>,
    bell: Arc<Notify>,
    /// Commands that did not fit the channel; as many as there are containers and routes, at most,
    /// and [`EVENTS_WAITING_MAX`].
    waiting: VecDeque<Command>,
    /// Events that nobody was told of.
    left_out: Warner,
}

impl Fleet {
    /// Starts the threads.
    pub(super) fn start(
        settings: &Settings,
        daemon: &DaemonAddress,
        routes: &[Arc<Route>],
        positions: Option<&Arc<Positions>>,
        driver: Driver,
    ) -> Fleet {
        let (report, reports) = bounded(settings.shards);
        let reported = Arc::new(Notify::new());
        let counters: Vec<Arc<ShardCounters>> =
            (0..settings.shards).map(|_| Arc::default()).collect();
        let (roster, hold) = (Arc::<Roster>::default(), Arc::<Hold>::default());
        let start = |(index, counters): (usize, &Arc<ShardCounters>)| {
            let (commands, inbox) = bounded(COMMANDS_AHEAD);
            let bell = Arc::new(Notify::new());
            let setup = Setup {
                index,
                driver,
                daemon: daemon.target.clone(),
                greeting: daemon.greeting.clone(),
                routes: routes.to_vec(),
                follow: settings.follow.clone(),
                timestamp: settings.timestamp,
                silence: settings.silence,
                stats_interval: settings.stats_interval,
                hold: Arc::clone(&hold),
                roster: Arc::clone(&roster),
                positions: positions.cloned(),
                max_line: settings.max_line,
                read_wait: settings.read_wait,
                counters: Arc::clone(counters),
                commands: inbox,
                bell: Arc::clone(&bell),
            };
            spawn(setup, report.clone(), Arc::clone(&reported));
            Shard { commands, bell, waiting: VecDeque::new(), left_out: Warner::default() }
        };
        let shards = Mutex::new(counters.iter().enumerate().map(start).collect());
        Fleet { shards, counters, roster, reports, reported, crowded: Notify::new() }
    }

    /// Never held across an await.
    fn shards(&self) -> MutexGuard<'_, Vec<Shard>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One command for one shard.
    pub(super) fn send(&self, shard: usize, command: Command) {
        let shard = &mut self.shards()[shard];
        if matches!(command, Command::Event(_)) && shard.waiting.len() >= EVENTS_WAITING_MAX {
            if let Some(sum) = shard.left_out.due(Instant::now(), 1) {
                tracing::warn!("a shard is too busy: {sum} events are not told to routes");
            }
            return;
        }
        self.send_to(shard, command);
    }

    /// One command for every shard.
    pub(super) fn send_all(&self, command: &Command) {
        self.shards().iter_mut().for_each(|shard| self.send_to(shard, command.clone()));
    }

    fn send_to(&self, shard: &mut Shard, command: Command) {
        shard.waiting.push_back(command);
        shard.send_waiting();
        if !shard.waiting.is_empty() {
            self.crowded.notify_one();
        }
    }

    /// Sends what waits for room, as soon as there is some. Does not end.
    pub(super) async fn keep_sending(&self) {
        loop {
            self.crowded.notified().await;
            while self.send_waiting() {
                tokio::time::sleep(TICK).await;
            }
        }
    }

    /// Sends what there is room for; whether some of it still waits.
    fn send_waiting(&self) -> bool {
        let mut shards = self.shards();
        shards.iter_mut().for_each(Shard::send_waiting);
        shards.iter().any(|shard| !shard.waiting.is_empty())
    }

    /// Tells the shards to stop, delivering what they hold for at most `patience`, and waits for
    /// their reports: how many records were not delivered, or `None` if a shard did not answer in
    /// time.
    pub(super) async fn stop(&self, patience: Duration) -> Option<u64> {
        let deadline = Instant::now() + patience + REPORT_GRACE;
        self.shards().iter_mut().for_each(|shard| shard.waiting.clear());
        self.send_all(&Command::Stop(patience));
        let (mut undelivered, mut answers) = (0, 0);
        while answers < self.counters.len() {
            while let Ok(records) = self.reports.try_recv() {
                undelivered += records;
                answers += 1;
            }
            self.send_waiting();
            if answers < self.counters.len() {
                if Instant::now() >= deadline {
                    return None;
                }
                let _ = tokio::time::timeout(TICK, self.reported.notified()).await;
            }
        }
        Some(undelivered)
    }
}

impl Shard {
    /// Sends what there is room for.
    fn send_waiting(&mut self) {
        while let Some(command) = self.waiting.pop_front() {
            match self.commands.try_send(command) {
                Ok(()) => {}
                Err(TrySendError::Full(command)) => {
                    self.waiting.push_front(command);
                    break;
                }
                // The shard died; that is said elsewhere.
                Err(TrySendError::Disconnected(_)) => self.waiting.clear(),
            }
        }
        self.bell.notify_one();
    }
}

fn spawn(setup: Setup, report: Sender<u64>, reported: Arc<Notify>) {
    let name = format!("shard-{}", setup.index);
    let spawned = std::thread::Builder::new().name(name.clone()).spawn(move || {
        let outcome = shard::run(setup, |undelivered| {
            let _ = report.send(undelivered);
            reported.notify_one();
        });
        if let Err(error) = outcome {
            fail(format!("{name} cannot start: {error}"));
        }
    });
    if let Err(error) = spawned {
        fail(format!("no thread for a shard: {error}; lower SHARDS"));
    }
}
