//! Delivers over HTTP in batches: many records a request, one request at a time, each until the
//! receiver has said that it has them.
//!
//! The records of a batch are in the outbox like those that RELP has sent: they stay there until
//! they are acknowledged, and go back to its front where a request fails. A body is made of them
//! anew for each request, so that a batch costs the memory of one body, and of the same compressed.
//! [`plan`] says when a batch is full and what an answer means, [`ledger`] which of its records are
//! settled, [`bulk`] reads the answers that tell of each; [`super::http`] speaks with the receiver,
//! over tokio's epoll on both drivers.

use std::future::Future;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

use self::ledger::{Ledger, Outcome, Run};
use self::plan::{Plan, Verdict};
use super::Shore;
use super::http::{self, Client, Endpoint};
use super::link::{Action, Event, Link, Notice, Warner};
use super::queue::Queue;
use crate::io::{Driver, clock};

pub mod bulk;
pub mod ledger;
pub mod plan;

/// How long a connection may be idle before memory is given back that was kept for busier times.
const IDLE: Duration = Duration::from_secs(5);
/// While a batch fills up it is looked at again after this time, and then twice as long each time.
const LOOK_FIRST: Duration = Duration::from_millis(10);
/// How long more records from the spool are waited for: it reads a chunk at a time.
const SPOOL_WAIT: Duration = Duration::from_millis(20);
/// Bytes that are compressed at once, before others get their turn: some 0.15 ms.
const SLICE: usize = 64 * 1024;
/// The pause between two slices on a ring, where nothing is submitted before the thread waits.
const REST: Duration = Duration::from_millis(1);

/// Where batches go, and how.
#[derive(Debug)]
pub struct Target {
    /// The receiver.
    pub endpoint: Endpoint,
    /// When a batch is full.
    pub limits: plan::Limits,
    /// What stands between records.
    pub framing: Framing,
    /// Whether bodies are compressed.
    pub gzip: bool,
    /// What the receiver says of a batch.
    pub answers: Answers,
    /// The variable that tells where it is, for messages.
    pub setting: &'static str,
}

/// How records become a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// As they are: each ends with a newline.
    #[default]
    Lines,
    /// A JSON array of them.
    Array,
}

/// What a receiver's answer is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// The whole batch: its status says all.
    Whole,
    /// Each record: Elasticsearch's, see [`bulk`].
    Bulk,
}

impl Framing {
    /// Appends a record to a body.
    pub fn put(self, record: &[u8], body: &mut Vec<u8>) {
        match self {
            Framing::Lines => body.extend_from_slice(record),
            Framing::Array => {
                body.push(if body.is_empty() { b'[' } else { b',' });
                body.extend_from_slice(record.strip_suffix(b"\n").unwrap_or(record));
            }
        }
    }

    /// Ends a body.
    pub fn end(self, body: &mut Vec<u8>) {
        if self == Framing::Array {
            body.push(b']');
        }
    }
}

/// Delivers `queue` to `target` until it is done.
pub async fn deliver(shore: &Shore, target: &Target, queue: &Queue) {
    let mut courier = Courier {
        queue,
        target,
        driver: shore.driver,
        client: Client::new(queue.counters.clone()),
        link: Link::new(shore.seed),
        plan: Plan::new(target.limits),
        ledger: Ledger::default(),
        not_before: None,
        full_at: None,
        refused: Warner::default(),
        why: String::new(),
    };
    courier.run(shore.eager).await;
    // What is not acknowledged is kept by the spool, or counted as dropped.
    queue.rewind();
}

/// Delivers one route's records from one shard.
struct Courier<'a> {
    queue: &'a Queue,
    target: &'a Target,
    driver: Driver,
    client: Client,
    link: Link,
    plan: Plan,
    /// The records that were taken for the batch.
    ledger: Ledger,
    /// The receiver has asked for a pause until then.
    not_before: Option<Instant>,
    /// When the batch is to go out, full or not, if its first record is there.
    full_at: Option<Instant>,
    refused: Warner,
    /// Why records were refused, the last time.
    why: String,
}

impl Courier<'_> {
    async fn run(&mut self, mut greeting: bool) {
        let mut now = clock::now();
        while !self.queue.is_done() {
            if !greeting && self.ledger.is_empty() && !self.gather().await {
                continue;
            }
            now = now.max(clock::now());
            let pause = self.not_before.filter(|&until| now < until);
            let action = pause.map_or_else(|| self.link.poll(now), Action::Wait);
            if let Action::Wait(until) = action {
                now = self.queue.pause(until).await;
                continue;
            }
            if greeting {
                greeting = !self.greet().await;
            } else {
                self.send().await;
            }
            self.say();
            now = clock::now();
        }
    }

    /// Connects before there is something to send, so that an unreachable receiver is said at
    /// start. Says whether that is done with.
    async fn greet(&mut self) -> bool {
        let connecting = self.client.connect(&self.target.endpoint);
        let Some(connected) = unless_given_up(self.queue, connecting).await else { return true };
        let done = connected.is_ok() || !self.queue.is_empty();
        let event = connected.map_or_else(Event::Failed, |()| Event::Connected);
        self.link.handle(event, clock::now());
        done
    }

    /// Waits until there is a batch to be sent: it is full, its first record has waited long
    /// enough, or no more will come. `false` if there is none yet.
    async fn gather(&mut self) -> bool {
        if timeout(IDLE, self.queue.wait()).await.is_err() {
            self.queue.trim();
            self.say_refused(0, "");
            self.queue.wait().await;
        }
        if self.queue.is_empty() {
            return false;
        }
        let (bytes, wait) = (self.plan.bytes_max(clock::now()), self.target.limits.wait);
        let full_at = *self.full_at.get_or_insert_with(|| clock::now() + wait);
        let (mut look, mut now) = (LOOK_FIRST, clock::now());
        while now < full_at && !self.queue.has_batch(bytes) {
            self.queue.pause(full_at.min(now + look)).await;
            look *= 2;
            now = clock::now();
        }
        true
    }

    /// Takes the records of a batch out of the outbox.
    async fn take(&mut self) {
        self.full_at = None;
        let mut filling = self.plan.fill(clock::now());
        loop {
            let records = self.queue.take_batch(|record| filling.take(record.len()));
            self.ledger.add(records);
            // None at all: no more may be sent before what was sent is acknowledged.
            if records == 0 || filling.is_full() || !self.queue.awaits_spool() {
                return;
            }
            if timeout(SPOOL_WAIT, self.queue.wait()).await.is_err() {
                return;
            }
        }
    }

    /// Sends what is to be sent of the batch, and acts on the answer.
    async fn send(&mut self) {
        if self.ledger.is_empty() {
            self.take().await;
        }
        let (body, records) = self.body();
        let len = body.len();
        let before = self.client.repeats();
        let asking = ask(self.target, self.driver, &mut self.client, body);
        let answer = unless_given_up(self.queue, asking).await;
        let repeats = self.client.repeats() - before;
        self.queue.counters.resent_lines.add(repeats * records as u64);
        let Some(answer) = answer else { return };
        let now = clock::now();
        let words = |body: &[u8]| self.target.endpoint.cleaned(body);
        match plan::judge(answer, records, self.target.answers, self.target.setting, words) {
            Verdict::Again { reason, pause } => self.again(records, reason, pause, now),
            Verdict::TooLarge { reason } if self.plan.too_large(len, records, now) => {
                self.link.handle(Event::Connected, now);
                let most = self.plan.bytes_max(now);
                let route = &self.queue.name;
                tracing::warn!(route, "{reason}; batches of at most {most} bytes are tried");
            }
            Verdict::TooLarge { reason } | Verdict::Refused { reason } => {
                self.ledger.settle((0..records).map(|_| Outcome::Refused));
                self.worked(now);
                self.say_refused(records, &reason);
            }
            Verdict::Delivered => {
                self.ledger.settle((0..records).map(|_| Outcome::Delivered));
                self.worked(now);
            }
            Verdict::Items { items, pause } => self.items(&items, pause, now),
        }
    }

    /// The body of the next request, of the batch's records that are not settled, and how many
    /// those are.
    fn body(&mut self) -> (Vec<u8>, usize) {
        let mut filling = self.plan.fill(clock::now());
        let (framing, ledger) = (self.target.framing, &self.ledger);
        let (mut body, mut at, mut records) = (Vec::new(), 0, 0);
        self.queue.look_at_sent(|record| {
            let waits = ledger.waits(at);
            at += 1;
            if waits && filling.take(record.len()) {
                framing.put(record, &mut body);
                records += 1;
            }
            !filling.is_full()
        });
        framing.end(&mut body);
        (body, records)
    }

    /// A request has failed, or that part of it with so many records: they are sent again.
    fn again(&mut self, records: usize, reason: String, pause: Option<Duration>, now: Instant) {
        self.link.handle(Event::Failed(reason), now);
        self.not_before = pause.map(|pause| now + pause);
        if self.ledger.has_gaps() {
            self.queue.counters.resent_lines.add(records as u64);
        } else {
            // There they may go to the spool, or be dropped if that is the policy.
            self.queue.rewind();
            self.ledger.clear();
            self.full_at = Some(now);
        }
    }

    /// The receiver has said of each record what became of it.
    fn items(&mut self, items: &bulk::Items, pause: Option<Duration>, now: Instant) {
        let count = |what| items.outcomes.iter().filter(|outcome| **outcome == what).count();
        let (refused, again) = (count(Outcome::Refused), count(Outcome::Again));
        self.ledger.settle(items.outcomes.iter().copied());
        if again < items.outcomes.len() {
            self.worked(now);
        }
        let words = |text: &str| self.target.endpoint.cleaned(text.as_bytes());
        if refused > 0 {
            let reason = words(&items.refused_words);
            self.say_refused(refused, &reason);
        }
        if again > 0 {
            let (all, why) = (items.outcomes.len(), words(&items.again_words));
            self.again(
                again,
                format!("{again} of {all} records were not taken: {why}"),
                pause,
                now,
            );
        }
    }

    /// The receiver has answered for records: those that are settled from the oldest on leave.
    fn worked(&mut self, now: Instant) {
        while let Some(Run { outcome, records }) = self.ledger.next_run() {
            match outcome {
                Outcome::Refused => self.queue.refused_records(records),
                Outcome::Delivered | Outcome::Again => self.queue.acknowledged_records(records),
            }
        }
        self.not_before = None;
        self.link.handle(Event::Worked, now);
    }

    fn say_refused(&mut self, records: usize, reason: &str) {
        if !reason.is_empty() {
            self.why = reason.to_owned();
        }
        if let Some(sum) = self.refused.due(clock::now(), records as u64) {
            let (route, why) = (&self.queue.name, &self.why);
            tracing::warn!(route, "the receiver refused {sum} lines, which are dropped: {why}");
        }
    }

    fn say(&mut self) {
        let Courier { queue, link, .. } = self;
        queue.counters.trouble.set(link.trouble());
        let route = &queue.name;
        match link.notice() {
            Some(Notice::Down { reason, .. }) => {
                tracing::warn!(route, "{reason}; lines are held, trying until it works");
            }
            Some(still @ Notice::StillDown { .. }) => tracing::warn!(route, "{still}"),
            Some(Notice::Recovered { failures, .. }) => {
                tracing::info!(route, "the receiver takes batches again, failures: {failures}");
            }
            None => {}
        }
    }
}

/// What `request` comes to, unless the queue is given up before. Nothing else may wait for the
/// queue meanwhile.
async fn unless_given_up<T>(queue: &Queue, request: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        result = request => Some(result),
        () = queue.until_given_up() => None,
    }
}

/// Sends a body, compressed if the target wants it so.
async fn ask(
    target: &Target,
    driver: Driver,
    client: &mut Client,
    mut body: Vec<u8>,
) -> Result<http::Answer, String> {
    if target.gzip {
        body = gzipped(&body, driver)
            .await
            .map_err(|error| format!("the body cannot be compressed: {error}"))?;
    }
    client.send(&target.endpoint, &Bytes::from(body), target.gzip).await
}

/// Compresses a body, in slices, so that the shard's other tasks have their turn.
async fn gzipped(body: &[u8], driver: Driver) -> io::Result<Vec<u8>> {
    let mut gzip = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    for slice in body.chunks(SLICE) {
        gzip.write_all(slice)?;
        match driver {
            Driver::Ring => sleep(REST).await,
            _ => yield_now().await,
        }
    }
    gzip.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn records_are_lines_or_elements() {
        let body = |framing: Framing, records: &[&str]| {
            let mut body = Vec::new();
            records.iter().for_each(|record| framing.put(record.as_bytes(), &mut body));
            framing.end(&mut body);
            String::from_utf8(body).unwrap()
        };
        let records = ["{\"a\":1}\n", "{}\n"];
        assert_eq!(body(Framing::Lines, &records), records.concat());
        assert_eq!(body(Framing::Array, &records), "[{\"a\":1},{}]");
        assert_eq!(body(Framing::Array, &records[1..]), "[{}]");
    }

    #[test]
    fn what_is_compressed_is_what_it_was() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for driver in [Driver::Poll, Driver::Ring] {
            let body: Vec<u8> = (0..3 * SLICE + 7).map(|n| (n * n % 251) as u8).collect();
            let packed = runtime.block_on(gzipped(&body, driver)).unwrap();
            let mut unpacked = Vec::new();
            flate2::read::GzDecoder::new(&*packed).read_to_end(&mut unpacked).unwrap();
            assert!(unpacked == body && packed.len() < body.len());
        }
    }
}
