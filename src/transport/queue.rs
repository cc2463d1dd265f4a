//! Where the shard leaves a route's records and its link takes them: an outbox with a bell, and
//! maybe with a spool, whose thread is told here what the outbox orders.
//!
//! Lives on one shard thread; nothing here is shared with another. A record that comes in here
//! leaves by one of the counters (`delivered`, `dropped` for a reason), and is `held` until then.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::link::Warner;
use crate::buffer::{Chunk, Held, Losses, Outbox, Overflow};
use crate::io::clock;
use crate::io::stream::Closer;
use crate::metrics::RouteCounters;
use crate::spool::Berth;

/// The longest pause between attempts once no more records will come.
const LAST_CHANCE: Duration = Duration::from_millis(500);

/// After this time a spool that refused records is tried again.
const SPOOL_AGAIN: Duration = Duration::from_secs(1);

/// What a queue does whose receiver may be as slow as it likes: lines that come while the outbox is
/// full are not even written, until all of it was taken.
#[derive(Debug, Default)]
struct Gate {
    shut: Cell<bool>,
    /// Lines left out behind what is held, that the receiver has not been told of.
    left_out: Cell<u64>,
    /// Lines dropped before what is held, ditto.
    dropped: Cell<u64>,
}

/// What a queue does that asks for a pause when its outbox is full (`overflow=block`).
#[derive(Debug)]
struct Brake {
    full: Cell<bool>,
    room: Rc<Room>,
}

/// The full queues of a shard, and who waits for room in them.
#[derive(Debug, Default)]
pub struct Room {
    /// Queues that are full.
    full: Cell<usize>,
    bell: Notify,
}

impl Room {
    /// Whether a queue is full, of those that ask for a pause then.
    #[inline]
    pub fn is_short(&self) -> bool {
        self.full.get() > 0
    }

    /// Waits until a queue has room again, or is gone: from the call on, not from the first poll.
    pub fn wait(&self) -> Notified<'_> {
        self.bell.notified()
    }

    /// Wakes whoever waits for room, for another reason.
    pub fn ring(&self) {
        self.bell.notify_waiters();
    }

    fn set(&self, full: bool) {
        let others = self.full.get();
        self.full.set(if full { others + 1 } else { others.saturating_sub(1) });
        if !full {
            self.bell.notify_waiters();
        }
    }
}

/// One route's records on one shard.
pub struct Queue {
    /// What users call the route, without secrets.
    pub name: String,
    /// Its counters on this shard.
    pub counters: Arc<RouteCounters>,
    outbox: RefCell<Outbox>,
    bell: Notify,
    rung: Cell<bool>,
    /// What of the chunk that the link has taken it has not yet reported on.
    in_hand: Cell<Held>,
    /// What was held beside the open chunk when it was last told, and the records in closed ones.
    told: Cell<(Held, u64)>,
    /// What was left was let go of, and counted: nothing counts any more.
    settled: Cell<bool>,
    closed: Cell<bool>,
    given_up: Cell<bool>,
    closer: RefCell<Option<Closer>>,
    dropped: RefCell<Warner>,
    failed: RefCell<Warner>,
    waited: RefCell<Warner>,
    left_out: RefCell<Warner>,
    gate: Option<Gate>,
    brake: Option<Brake>,
    newest_go: bool,
    resend: bool,
    spool: Option<Spooling>,
}

/// A queue's way to its spool.
struct Spooling {
    berth: Berth,
    /// Rung when answers of the spool have been taken in.
    tended: Notify,
    /// When to try again to write.
    again: Cell<Option<Instant>>,
}

impl Queue {
    /// A queue around `outbox`.
    pub fn new(name: String, outbox: Outbox, counters: Arc<RouteCounters>) -> Queue {
        Queue {
            name,
            counters,
            outbox: RefCell::new(outbox),
            bell: Notify::new(),
            rung: Cell::new(false),
            in_hand: Cell::default(),
            told: Cell::default(),
            settled: Cell::new(false),
            closed: Cell::new(false),
            given_up: Cell::new(false),
            closer: RefCell::default(),
            dropped: RefCell::default(),
            failed: RefCell::default(),
            waited: RefCell::default(),
            left_out: RefCell::default(),
            gate: None,
            brake: None,
            newest_go: false,
            resend: true,
            spool: None,
        }
    }

    /// A queue whose outbox has a spool: [`Queue::tend_spool`] is to be run beside it.
    pub fn spooling(self, berth: Berth) -> Queue {
        let spool = Spooling { berth, tended: Notify::new(), again: Cell::new(None) };
        Queue { spool: Some(spool), ..self }
    }

    /// Has the spool do what the outbox orders, and the outbox know what was done, as long as there
    /// is one.
    pub async fn tend_spool(&self) {
        let Some(spool) = &self.spool else { return };
        self.tend();
        loop {
            let answered = spool.berth.answered();
            match spool.again.get() {
                None => answered.await,
                Some(again) if tokio::time::timeout_at(again.into(), answered).await.is_ok() => {}
                Some(_) => {
                    spool.again.set(None);
                    self.outbox.borrow_mut().write_again();
                }
            }
            self.tend();
            self.look_for_room();
            spool.tended.notify_one();
        }
    }

    /// Takes in what the spool answered, and passes on what the outbox orders.
    fn tend(&self) {
        let Some(spool) = &self.spool else { return };
        let (mut outbox, mut answered) = (self.outbox.borrow_mut(), false);
        while let Some((answer, unread)) = spool.berth.answer() {
            outbox.answered(answer, unread);
            answered = true;
        }
        while let Some(order) = outbox.next_order() {
            spool.berth.order(order);
        }
        if outbox.spool_rests() && spool.again.get().is_none() {
            spool.again.set(Some(clock::now() + SPOOL_AGAIN));
        }
        self.tell_held(&outbox);
        drop(outbox);
        if answered {
            self.bell.notify_one();
        }
    }

    /// Gives what is left to the spool, until `deadline` at the latest. To be called when nobody
    /// takes anything any more.
    pub async fn keep(&self, deadline: Instant) {
        let Some(spool) = &self.spool else { return };
        self.outbox.borrow_mut().keep();
        self.tend();
        while !self.outbox.borrow().is_kept() {
            if tokio::time::timeout_at(deadline.into(), spool.tended.notified()).await.is_err() {
                return;
            }
        }
    }

    /// Whether no more will come than can be taken now.
    pub fn is_last(&self) -> bool {
        self.closed.get() && !self.outbox.borrow().awaits_spool()
    }

    /// With `false`, a queue whose records are delivered once our own kernel has taken them.
    pub fn resending(self, resend: bool) -> Queue {
        Queue { resend, ..self }
    }

    /// Whether records are sent again that the peer's host has not acknowledged.
    pub fn resends(&self) -> bool {
        self.resend
    }

    /// A queue that does as `overflow` says when its outbox, which has the same policy, is full.
    pub fn overflowing(self, overflow: Overflow, room: &Rc<Room>) -> Queue {
        let brake = || Brake { full: Cell::new(false), room: Rc::clone(room) };
        let brake = (overflow == Overflow::Block).then(brake);
        Queue { brake, newest_go: overflow == Overflow::DropNewest, ..self }
    }

    /// Whether whoever writes should stop, and go on from there when there is room.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.brake.as_ref().is_some_and(|brake| brake.full.get())
    }

    /// Makes room by dropping the oldest records, for lines that cannot be read again later.
    pub fn make_room(&self) {
        let mut outbox = self.outbox.borrow_mut();
        outbox.make_room();
        self.tell_held(&outbox);
        if outbox.has_news() {
            self.tell(&mut outbox);
        }
        drop(outbox);
        self.look_for_room();
    }

    /// Records have gone on their way: there may be room for others.
    fn moved(&self) {
        self.tend();
        self.tell_held(&self.outbox.borrow());
        self.look_for_room();
    }

    /// Takes note of room that has come about.
    fn look_for_room(&self) {
        let Some(brake) = &self.brake else { return };
        let ends = self.closed.get() || self.given_up.get();
        if brake.full.get() && (ends || self.outbox.borrow().has_room()) {
            brake.full.set(false);
            brake.room.set(false);
        }
    }

    fn note_full(&self) {
        if let Some(brake) = &self.brake
            && !self.closed.get()
            && !brake.full.replace(true)
        {
            brake.room.set(true);
            if self.waited.borrow_mut().due(clock::now(), 1).is_some() {
                tracing::warn!(
                    route = self.name,
                    "memory is full: the containers' logs are read on when the receiver takes \
                     lines again (overflow=block, see BUFFER)"
                );
            }
        }
    }

    /// A queue for a receiver that nothing waits for, and of which nothing is said: see
    /// [`Queue::admits`].
    pub fn gated(self) -> Queue {
        Queue { gate: Some(Gate::default()), ..self }
    }

    /// Whether lines are to be written: always, unless the queue is full and is gated, or drops the
    /// newest.
    #[inline]
    pub fn admits(&self) -> bool {
        if self.newest_go {
            let outbox = self.outbox.borrow();
            return !outbox.is_full() || outbox.is_empty() && !outbox.awaits_spool();
        }
        self.gate.as_ref().is_none_or(|gate| {
            if !gate.shut.get() {
                let outbox = self.outbox.borrow();
                // What is empty would never be found to have been taken.
                gate.shut.set(outbox.is_full() && !outbox.is_empty());
            }
            !gate.shut.get()
        })
    }

    /// Whether there is room for a line without any other giving way, whatever the policy.
    pub fn has_room(&self) -> bool {
        let outbox = self.outbox.borrow();
        !self.is_full() && (!outbox.is_full() || outbox.is_empty() && !outbox.awaits_spool())
    }

    /// Counts a line of stats for which there was no room.
    pub fn leave_out_stats(&self) {
        if self.gate.is_some() {
            return self.leave_out(1);
        }
        self.counters.dropped_buffer_full.add(1);
        if let Some(sum) = self.left_out.borrow_mut().due(clock::now(), 1) {
            tracing::warn!(
                route = self.name,
                "buffer full: left out {sum} lines of stats; the receiver is too slow or away"
            );
        }
    }

    /// Counts `lines` that were not admitted.
    pub fn leave_out(&self, lines: u64) {
        self.counters.dropped_buffer_full.add(lines);
        match &self.gate {
            Some(gate) => gate.left_out.set(gate.left_out.get() + lines),
            None => self.say_losses(lines),
        }
    }

    /// How many lines were dropped before those that are taken next, if the receiver is to be told.
    pub fn dropped_before(&self) -> Option<u64> {
        Some(self.gate.as_ref()?.dropped.take()).filter(|lines| *lines > 0)
    }

    /// Admits lines again, once all of the outbox was taken. Returns how many were left out behind
    /// those, if any were.
    pub fn reopen(&self) -> Option<u64> {
        let gate = self.gate.as_ref()?;
        gate.shut.set(false);
        Some(gate.left_out.take()).filter(|lines| *lines > 0)
    }

    /// Lets `fill` append records, then wakes the link if it sleeps and there are any. Returns
    /// what `fill` returned.
    #[inline]
    pub fn append<T>(&self, fill: impl FnOnce(&mut Outbox) -> T) -> T {
        let mut outbox = self.outbox.borrow_mut();
        let result = fill(&mut outbox);
        if outbox.has_news() {
            self.tell(&mut outbox);
        }
        self.tell_more_held(&outbox);
        if !self.rung.get() && !outbox.is_empty() {
            self.rung.set(true);
            self.bell.notify_one();
        }
        if outbox.wants_spool() {
            drop(outbox);
            self.tend();
        }
        result
    }

    #[cold]
    fn tell(&self, outbox: &mut Outbox) {
        if outbox.take_overdrawn() {
            self.note_full();
        }
        self.lost(outbox.take_losses(), outbox.take_complaint());
    }

    fn lost(&self, losses: Losses, complaint: Option<String>) {
        self.counters.cut_records.add(losses.cut_records);
        self.counters.filtered_lines.add(losses.empty_lines);
        self.counters.dropped_template.add(losses.failed_lines);
        self.counters.template_errors.add(losses.failed_lines + losses.patched_lines);
        if let Some(complaint) = complaint {
            let failed = losses.failed_lines + losses.patched_lines;
            if let Some(sum) = self.failed.borrow_mut().due(clock::now(), failed) {
                tracing::warn!(route = self.name, "template failed for {sum} lines: {complaint}");
            }
        }
        let records = losses.dropped_records;
        if records == 0 {
            return;
        }
        self.counters.dropped_buffer_full.add(records);
        match &self.gate {
            Some(gate) => gate.dropped.set(gate.dropped.get() + records),
            None => self.say_losses(records),
        }
    }

    /// Says what was dropped and not said yet, `records` more among it, if it is time to. To be
    /// called now and then: after a burst nobody else says how much it was in the end.
    pub fn say_losses(&self, records: u64) {
        if let Some(sum) = self.dropped.borrow_mut().due(clock::now(), records) {
            tracing::warn!(
                route = self.name,
                "buffer full: dropped {} {sum} lines; the receiver is too slow or away (see BUFFER \
                 and OVERFLOW)",
                if self.newest_go { "the newest" } else { "the oldest" },
            );
        }
    }

    /// The oldest records, if there are any. One chunk at a time: what becomes of its records is
    /// said by [`Queue::delivered`] and [`Queue::refused`], and then it is put back.
    pub fn take(&self) -> Option<Chunk> {
        self.rung.set(false);
        let chunk = self.outbox.borrow_mut().take();
        // What is in the spool is counted there, and not lost if it stays in the link's hands.
        let own = chunk.as_ref().filter(|chunk| !chunk.is_spooled());
        self.in_hand.set(own.map(Held::of).unwrap_or_default());
        self.tend();
        chunk
    }

    /// The same as [`Queue::tell_held`], after records were appended and nothing else was done:
    /// as a rule only the open chunk has more than before.
    #[inline]
    fn tell_more_held(&self, outbox: &Outbox) {
        let (mut held, closed) = outbox.newest();
        let (others, before) = self.told.get();
        if closed != before {
            return self.tell_held(outbox);
        }
        held += others;
        self.counters.held_lines.set(held.records as u64);
        self.counters.held_bytes.set(held.bytes as u64);
    }

    /// Says how much is held, in the outbox and in the link's hand.
    fn tell_held(&self, outbox: &Outbox) {
        let mut held = outbox.contents();
        held += self.in_hand.get();
        let (newest, closed) = outbox.newest();
        let mut others = held;
        others -= newest;
        self.told.set((others, closed));
        self.counters.held_lines.set(held.records as u64);
        self.counters.held_bytes.set(held.bytes as u64);
    }

    /// The link gives back what it had in hand, `chunk`, for `keep` to put where it belongs.
    fn take_back<T>(&self, chunk: Chunk, keep: impl FnOnce(&mut Outbox, Chunk) -> T) -> Option<T> {
        let mut outbox = self.outbox.borrow_mut();
        self.in_hand.take();
        let kept = match self.settled.get() {
            false => Some(keep(&mut outbox, chunk)),
            // Too late: its records are counted.
            true => {
                outbox.recycle(chunk);
                None
            }
        };
        self.tell_held(&outbox);
        kept
    }

    /// Whether more may be sent before what was sent is acknowledged.
    pub fn may_send(&self) -> bool {
        self.outbox.borrow().may_send()
    }

    /// How many records there were so far.
    pub fn appended(&self) -> u64 {
        self.outbox.borrow().appended()
    }

    /// How many of these, from the first on, are delivered or lost, or safe in the spool.
    pub fn gone(&self) -> u64 {
        let outbox = self.outbox.borrow();
        outbox.appended().saturating_sub(outbox.at_risk(self.in_hand.get().records) as u64)
    }

    /// Whether anything was sent and is not acknowledged.
    pub fn has_sent(&self) -> bool {
        self.outbox.borrow().has_sent()
    }

    /// Gives back the chunk in hand, of which a connection has taken the first `taken` bytes, until
    /// they are acknowledged.
    pub fn sent(&self, chunk: Chunk, taken: usize) {
        let again = self.take_back(chunk, |outbox, chunk| outbox.sent(chunk, taken));
        self.counters.resent_lines.add(again.unwrap_or_default() as u64);
        self.moved();
    }

    /// Hands the next records to `write`, which sends them, as long as that returns `true`. They
    /// stay until they are acknowledged.
    pub fn send_records(&self, mut write: impl FnMut(&[u8]) -> bool) {
        self.rung.set(false);
        let mut outbox = self.outbox.borrow_mut();
        while let Some((record, again)) = outbox.send_next() {
            self.counters.resent_lines.add(u64::from(again));
            if !write(record) {
                break;
            }
        }
        drop(outbox);
        self.tend();
    }

    /// Takes the next records for a batch, as long as each `fits`; returns how many those are. They
    /// stay until they are acknowledged or refused.
    pub fn take_batch(&self, mut fits: impl FnMut(&[u8]) -> bool) -> usize {
        self.rung.set(false);
        let mut outbox = self.outbox.borrow_mut();
        let (mut records, mut resent) = (0, 0);
        while let Some((_, again)) = outbox.send_next_if(&mut fits) {
            resent += u64::from(again);
            records += 1;
        }
        drop(outbox);
        self.counters.resent_lines.add(resent);
        self.tend();
        records
    }

    /// Shows the records that were sent and are not acknowledged, oldest first, as long as `look`
    /// says `true`.
    pub fn look_at_sent(&self, look: impl FnMut(&[u8]) -> bool) {
        let _ = self.outbox.borrow().sent_records().all(look);
    }

    /// Whether there is nothing to take now.
    pub fn is_empty(&self) -> bool {
        self.outbox.borrow().is_all_sent()
    }

    /// Whether the next records have to be read from the spool.
    pub fn awaits_spool(&self) -> bool {
        self.outbox.borrow().awaits_spool()
    }

    /// Whether a batch of `bytes` need not wait for more records.
    pub fn has_batch(&self, bytes: usize) -> bool {
        self.is_last() || self.outbox.borrow().has_batch(bytes)
    }

    /// `bytes` more of what was sent are acknowledged.
    pub fn acknowledged(&self, bytes: usize) {
        let (records, bytes) = self.outbox.borrow_mut().acknowledge(bytes);
        self.count_delivered(records, bytes);
        self.moved();
    }

    /// So many more records of those that were sent are acknowledged.
    pub fn acknowledged_records(&self, records: usize) {
        let bytes = self.outbox.borrow_mut().acknowledge_records(records);
        self.count_delivered(records, bytes);
        self.moved();
    }

    /// So many more records of those that were sent were refused for good by the receiver.
    pub fn refused_records(&self, records: usize) {
        self.outbox.borrow_mut().acknowledge_records(records);
        self.counters.dropped_refused.add(records as u64);
        self.moved();
    }

    /// The connection has ended: what was sent and is not acknowledged comes first, next time.
    pub fn rewind(&self) {
        self.outbox.borrow_mut().rewind();
    }

    /// Gives back memory that was kept for busier times.
    pub fn trim(&self) {
        self.outbox.borrow_mut().trim();
    }

    /// Whether the outbox fills up although the receiver is connected.
    pub fn is_pressed(&self) -> bool {
        self.counters.connected.get() == 1 && self.outbox.borrow().is_pressed()
    }

    /// Whether much waits that the link could be sending, if it were its turn.
    pub fn is_due(&self) -> bool {
        self.counters.connected.get() == 1 && self.outbox.borrow().is_behind()
    }

    /// Gives a chunk back; records that remain in it go first next time.
    pub fn put_back(&self, chunk: Chunk) {
        self.take_back(chunk, Outbox::put_back);
        self.moved();
    }

    /// Waits until there may be something to take, or the queue is closed.
    pub async fn wait(&self) {
        if self.is_empty() && !self.is_last() {
            self.bell.notified().await;
        }
    }

    /// Sits out a pause of the link: until `until`, or until the queue is given up. A queue that
    /// is being closed has no time for that: it ends the pause, and any later one is short.
    /// Returns the time to go on with, by which the pause is over.
    pub async fn pause(&self, until: Instant) -> Instant {
        let closed = self.closed.get();
        let end = if closed { until.min(clock::now() + LAST_CHANCE) } else { until };
        while !self.given_up.get() && self.closed.get() == closed && clock::now() < end {
            // The bell of new records means nothing here.
            let _ = tokio::time::timeout_at(end.into(), self.bell.notified()).await;
        }
        if self.closed.get() { until } else { clock::now() }
    }

    /// Waits until the queue is given up.
    pub async fn until_given_up(&self) {
        while !self.given_up.get() {
            self.bell.notified().await;
        }
    }

    /// No more records will come: the link ends when all are delivered.
    pub fn close(&self) {
        self.closed.set(true);
        self.bell.notify_one();
        self.look_for_room();
    }

    /// Whether [`Queue::give_up`] was called.
    pub fn is_given_up(&self) -> bool {
        self.given_up.get()
    }

    /// Whether the link has nothing left to do.
    pub fn is_done(&self) -> bool {
        let outbox = self.outbox.borrow();
        let is_spent = || outbox.is_empty() && !outbox.awaits_spool() && !outbox.has_sent();
        self.given_up.get() || self.closed.get() && is_spent()
    }

    /// Says how the link's connection can be ended from here; see [`Queue::give_up`].
    pub fn connected(&self, closer: Option<Closer>) {
        self.counters.connected.set(u64::from(closer.is_some()));
        *self.closer.borrow_mut() = closer;
    }

    /// Ends the link, whatever it is waiting for. It puts back what it could not deliver.
    pub fn give_up(&self) {
        self.given_up.set(true);
        if let Some(closer) = self.closer.take() {
            closer.close();
        }
        self.bell.notify_one();
        self.look_for_room();
    }

    /// Drops what is left, counted; returns how many records that were. What a link has in its
    /// hands that did not come to its end belongs to them, whatever becomes of it later.
    pub fn abandon(&self) -> u64 {
        let left = self.let_go();
        self.counters.dropped_at_exit.add(left);
        left
    }

    /// The same, for records that nobody wants any more: they are no loss.
    pub fn discard(&self) {
        self.counters.dropped_unwanted.add(self.let_go());
    }

    fn let_go(&self) -> u64 {
        if self.settled.replace(true) {
            return 0;
        }
        let mut outbox = self.outbox.borrow_mut();
        let left = outbox.abandon() + self.in_hand.take().records as u64;
        outbox.take_losses();
        self.tell_held(&outbox);
        left
    }

    /// Counts `records` of the chunk in hand, of `bytes`, as refused for good by the receiver's
    /// side.
    pub fn refused(&self, records: usize, bytes: usize) {
        if self.leaves_hand(records, bytes) {
            self.counters.dropped_refused.add(records as u64);
        }
    }

    /// Counts `records` of the chunk in hand, of `bytes` on the wire, as delivered.
    pub fn delivered(&self, records: usize, bytes: usize) {
        if self.leaves_hand(records, bytes) {
            self.count_delivered(records, bytes);
        }
    }

    /// `false` if that was counted already: see [`Queue::abandon`].
    fn leaves_hand(&self, records: usize, bytes: usize) -> bool {
        let Held { records: had, bytes: long } = self.in_hand.get();
        let left = Held { records: had.saturating_sub(records), bytes: long.saturating_sub(bytes) };
        self.in_hand.set(left);
        self.tell_held(&self.outbox.borrow());
        !self.settled.get()
    }

    fn count_delivered(&self, records: usize, bytes: usize) {
        self.counters.delivered_lines.add(records as u64);
        self.counters.delivered_bytes.add(bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Budget;

    fn queue(records: usize) -> Queue {
        let outbox = Outbox::new(Arc::new(Budget::new(1 << 20, 1)), usize::MAX);
        let queue = Queue::new("test".to_owned(), outbox, Arc::default());
        queue.append(|outbox| {
            for _ in 0..records {
                outbox.begin(4).extend_from_slice(b"abc\n");
                outbox.finish();
            }
        });
        queue
    }

    fn held(queue: &Queue) -> (u64, u64) {
        (queue.counters.held_lines.get(), queue.counters.held_bytes.get())
    }

    #[test]
    fn what_is_held_is_told_wherever_it_is() {
        let queue = queue(5);
        assert_eq!(held(&queue), (5, 20));
        let mut chunk = queue.take().unwrap();
        assert_eq!(held(&queue), (5, 20));
        queue.delivered(chunk.deliver(4), 4);
        chunk.deliver_records(1);
        queue.refused(1, 4);
        assert_eq!(held(&queue), (3, 12));
        queue.sent(chunk, 8);
        assert_eq!(held(&queue), (3, 12));
        queue.acknowledged(5);
        assert_eq!(held(&queue), (2, 8));
        queue.rewind();
        assert_eq!(queue.abandon(), 2);
        assert_eq!(held(&queue), (0, 0));
    }

    /// A write that nothing ends may come back when all is over.
    #[test]
    fn what_was_counted_as_lost_is_not_delivered_afterwards() {
        let queue = queue(3);
        let mut chunk = queue.take().unwrap();
        assert_eq!(queue.abandon(), 3);
        queue.delivered(chunk.deliver(4), 4);
        queue.refused(1, 4);
        queue.put_back(chunk);
        let counters = &queue.counters;
        assert_eq!((counters.delivered_lines.get(), counters.dropped_refused.get()), (0, 0));
        assert_eq!((counters.dropped_at_exit.get(), queue.abandon()), (3, 0));
        assert_eq!(held(&queue), (0, 0));
    }
}
