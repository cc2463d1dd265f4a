//! Carries a route's messages from its desk to the webhook, and counts what became of the lines.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tokio::sync::{Mutex, Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use super::pace::{Pace, Verdict};
use super::{Desk, Digest, Webhook};
use crate::metrics::RouteCounters;
use crate::transport::http::Client;

/// A route that delivers to a webhook.
pub struct Station {
    /// What users call the route, without secrets.
    pub name: String,
    /// Where its records come in.
    pub desk: Arc<Desk>,
    /// What this thread counts for it.
    pub counters: Arc<RouteCounters>,
    /// Tells it when no more records will come, and until when to deliver what is held.
    pub stopping: watch::Receiver<Option<Instant>>,
    /// Where it says how many lines were not delivered then.
    pub undelivered: watch::Sender<Option<u64>>,
}

/// Delivers what comes to the desks of `stations`, each until it is stopped; ends when there are
/// none and no more can come. Must run on a thread of its own, within a `LocalSet`.
pub async fn serve(mut stations: mpsc::UnboundedReceiver<Station>) {
    let mut lines: Vec<(Webhook, Weak<Mutex<Line>>)> = Vec::new();
    let (mut couriers, mut number) = (JoinSet::new(), 0);
    while let Some(station) = stations.recv().await {
        lines.retain(|(_, line)| line.strong_count() > 0);
        let webhook = station.desk.webhook();
        let known = lines.iter().find(|(other, _)| other.endpoint.is_same(&webhook.endpoint));
        let line = known.and_then(|(_, line)| line.upgrade()).unwrap_or_else(|| {
            let line = Rc::new(Mutex::new(Line::new(&station, number)));
            lines.push((webhook.clone(), Rc::downgrade(&line)));
            line
        });
        number += 1;
        couriers.spawn_local(Courier::new(station, line).run());
        while couriers.try_join_next().is_some() {}
    }
    while couriers.join_next().await.is_some() {}
}

/// Sends one message, once; returns what the webhook says.
///
/// # Errors
/// Why it did not arrive, in one line without secrets.
pub async fn try_once(webhook: &Webhook, body: &[u8]) -> Result<String, String> {
    let mut client = Client::new(Arc::default());
    let answer = webhook.post(&mut client, body).await?;
    if (200..300).contains(&answer.status) {
        Ok(answer.to_string())
    } else {
        Err(answer.to_string())
    }
}

/// The way to one webhook, for all routes to it: one request at a time.
struct Line {
    pace: Pace,
    client: Client,
}

impl Line {
    /// The connection counts as that of the first route that uses it, whose pace holds for all.
    fn new(station: &Station, number: u64) -> Line {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let seed = now.as_nanos() as u64 ^ (number << 16);
        let webhook = station.desk.webhook();
        let pace = Pace::new(seed, webhook.every, webhook.burst);
        Line { pace, client: Client::new(Arc::clone(&station.counters)) }
    }
}

/// Serves one desk. Its cells are never borrowed across an await.
struct Courier {
    station: Station,
    digest: RefCell<Box<dyn Digest>>,
    /// Rung when the digest has got more.
    fresh: Notify,
    /// Lines in the digest, and their bytes as they came.
    held: Cell<(u64, u64)>,
    /// Lines of the message that is under way.
    under_way: Cell<u64>,
    line: Rc<Mutex<Line>>,
}

impl Courier {
    fn new(station: Station, line: Rc<Mutex<Line>>) -> Courier {
        let digest = RefCell::new(station.desk.digest());
        let (fresh, held, under_way) = (Notify::new(), Cell::default(), Cell::default());
        Courier { station, digest, fresh, held, under_way, line }
    }

    async fn run(self) {
        tokio::select! {
            () = self.take_in() => {}
            () = self.send_out() => {}
            () = self.deadline() => {}
        }
        self.unpack();
        let left = self.under_way.take() + self.discard();
        self.station.counters.dropped_at_exit.add(left);
        self.tell_held();
        self.station.undelivered.send_replace(Some(left));
    }

    /// Takes what comes to the desk, whatever the webhook does. Does not end.
    async fn take_in(&self) {
        loop {
            self.unpack();
            tokio::task::yield_now().await;
            self.station.desk.bell.notified().await;
        }
    }

    /// Takes what is on the desk now.
    fn unpack(&self) {
        let receiver = &self.station.desk.receiver;
        let now = Instant::now();
        let mut digest = self.digest.borrow_mut();
        for parcel in receiver.try_iter().take(receiver.len()) {
            let (mut lines, mut bytes) = self.held.get();
            let unpacked = parcel.unpack(|record| {
                digest.add(record, now);
                (lines, bytes) = (lines + 1, bytes + record.len() as u64);
            });
            self.held.set((lines, bytes));
            self.tell_held();
            if let Some(unpacked) = unpacked {
                unpacked.give_back();
                self.fresh.notify_one();
            }
        }
    }

    /// `lines` have left the digest: of their bytes nothing is known but how many all have.
    fn leave(&self, lines: u64) {
        let (held, bytes) = self.held.get();
        let rest = held.saturating_sub(lines);
        let share = u128::from(bytes) * u128::from(rest) / u128::from(held.max(1));
        self.held.set((rest, share as u64));
    }

    fn discard(&self) -> u64 {
        let lines = self.digest.borrow_mut().discard();
        self.leave(lines);
        lines
    }

    /// Says how much is held. A message that is under way counts by its lines alone.
    fn tell_held(&self) {
        let (lines, bytes) = self.held.get();
        self.station.counters.held_lines.set(lines + self.under_way.get());
        self.station.counters.held_bytes.set(bytes);
    }

    /// Sends what the digest holds, until no more will come.
    async fn send_out(&self) {
        let mut stopping = self.station.stopping.clone();
        tokio::select! {
            () = self.greet() => {}
            _ = stopping.wait_for(Option::is_some) => {}
        }
        let mut body = Vec::new();
        while self.until_due().await {
            let mut line = self.line.lock().await;
            if line.pace.is_dead(Instant::now()) {
                let lines = self.discard();
                self.refused(lines);
                continue;
            }
            sleep_until(line.pace.next(Instant::now()).into()).await;
            // As late as possible: what came meanwhile goes along.
            self.unpack();
            let contents = self.digest.borrow_mut().compose(Instant::now(), &mut body);
            self.under_way.set(contents.lines);
            self.leave(contents.lines);
            self.station.counters.cut_records.add(contents.cut);
            self.station.counters.template_errors.add(contents.failed);
            let verdict = self.post(&mut line, &body).await;
            self.under_way.set(0);
            self.tell_held();
            match verdict {
                Verdict::Delivered => {
                    let counters = &self.station.counters;
                    counters.delivered_lines.add(contents.lines);
                    counters.delivered_bytes.add(body.len() as u64);
                    counters.summed_up_lines.add(contents.summed_up);
                }
                Verdict::Refused | Verdict::Again => self.refused(contents.lines),
            }
        }
    }

    /// Connects before there is something to say, as soon as that is possible: whoever mistyped the
    /// host learns it at start, and `/ready` does not say for ever what is not so any more.
    async fn greet(&self) {
        loop {
            let mut line = self.line.lock().await;
            sleep_until(line.pace.next(Instant::now()).into()).await;
            let connected = line.client.connect(&self.station.desk.webhook().endpoint).await;
            self.station.counters.trouble.set(connected.as_ref().err().map(String::as_str));
            let Err(reason) = connected else { return };
            line.pace.judge(&Err(reason), Instant::now());
            self.say(&mut line);
        }
    }

    /// Sends `body` until it arrives or is refused for good, as fast as the webhook allows.
    async fn post(&self, line: &mut Line, body: &[u8]) -> Verdict {
        loop {
            sleep_until(line.pace.next(Instant::now()).into()).await;
            line.pace.sent(Instant::now());
            let answer = self.station.desk.webhook().post(&mut line.client, body).await;
            let verdict = line.pace.judge(&answer, Instant::now());
            let dead = line.pace.is_dead(Instant::now());
            match &answer {
                Err(reason) => self.station.counters.trouble.set(Some(reason)),
                Ok(answer) if dead || verdict == Verdict::Again && answer.status != 429 => {
                    self.station.counters.trouble.set(Some(&answer.to_string()));
                }
                Ok(_) => self.station.counters.trouble.set(None),
            }
            self.say(line);
            if verdict != Verdict::Again {
                return verdict;
            }
        }
    }

    fn say(&self, line: &mut Line) {
        if let Some(notice) = line.pace.notice() {
            tracing::warn!(route = self.station.name, "{notice}");
        }
    }

    fn refused(&self, lines: u64) {
        self.station.counters.dropped_refused.add(lines);
        self.tell_held();
    }

    /// Waits until there is something to send; `false` if nothing will be any more.
    async fn until_due(&self) -> bool {
        let mut stopping = self.station.stopping.clone();
        loop {
            let last = stopping.borrow_and_update().is_some();
            if last {
                self.unpack();
            }
            let due = self.digest.borrow().due(last);
            match due {
                Some(at) if at <= Instant::now() => return true,
                None if last => return false,
                due => {
                    let pause = async {
                        match due {
                            Some(at) => sleep_until(at.into()).await,
                            None => std::future::pending().await,
                        }
                    };
                    self.until_news(&mut stopping, pause).await;
                }
            }
        }
    }

    async fn until_news(
        &self,
        stopping: &mut watch::Receiver<Option<Instant>>,
        pause: impl Future<Output = ()>,
    ) {
        tokio::select! {
            () = pause => {}
            () = self.fresh.notified() => {}
            // An error: whoever could stop us is gone, and with him those who bring records.
            _ = stopping.changed() => {}
        }
    }

    /// Waits until delivering has to end.
    async fn deadline(&self) {
        let mut stopping = self.station.stopping.clone();
        let deadline = match stopping.wait_for(Option::is_some).await {
            Ok(deadline) => *deadline,
            Err(_) => None,
        };
        if let Some(deadline) = deadline {
            sleep_until(deadline.into()).await;
        }
    }
}
