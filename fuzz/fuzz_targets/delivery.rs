//! A route's records from the shard to the receiver and its counters, while the connection breaks
//! and comes back: each record is delivered once, in order, or refused or dropped and counted so;
//! what was cut by the end of a connection, or not acknowledged before it, is sent again whole.

#![no_main]

use std::collections::VecDeque;
use std::sync::Arc;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use logchute::buffer::{Budget, Chunk, Outbox};
use logchute::metrics::RouteCounters;
use logchute::transport::queue::Queue;

#[derive(Arbitrary, Debug)]
enum Op {
    /// The shard appends some records of about so many times 32 bytes.
    Append { count: u8, size: u8 },
    /// The link takes a chunk, unless it has one.
    Take,
    /// So many 256ths of it are taken for good.
    Send(u8),
    /// A connection takes so many 256ths of it; which ends it, if that is not all.
    Stream(u8),
    /// So many 256ths of what connections have taken are acknowledged.
    Acknowledge(u8),
    /// The connection ends.
    Break,
    /// The receiver's side refuses the first record of it for good.
    Refuse,
    /// The connection ends, or the chunk is done.
    PutBack,
    /// The link's task is ended with the chunk in its hands, and everything is given up.
    GiveUp,
}

fuzz_target!(|ops: Vec<Op>| {
    let counters = Arc::new(RouteCounters::default());
    let outbox = Outbox::new(Arc::new(Budget::new(64 << 10, 1)), usize::MAX);
    let mut route = Route {
        queue: Queue::new("fuzz".to_owned(), outbox, Arc::clone(&counters)),
        appended: 0,
        hand: None,
        sent: VecDeque::new(),
        part: 0,
        next: 0,
        received: 0,
        refused: 0,
    };
    for op in ops.iter().take(64) {
        route.apply(op);
        if matches!(op, Op::GiveUp) {
            break; // what comes back later is not counted
        }
    }
    route.apply(&Op::Break);
    route.queue.close();
    while !route.queue.is_done() {
        route.apply(&Op::Take);
        route.apply(&Op::Send(255));
        route.apply(&Op::PutBack);
    }
    assert_eq!(counters.delivered_lines.get(), route.received);
    assert_eq!(counters.dropped_refused.get(), route.refused);
    let dropped = counters.dropped_buffer_full.get() + counters.dropped_at_exit.get();
    assert_eq!(route.received + route.refused + dropped, route.appended, "{counters:?}");
});

fn number_of(record: &[u8]) -> u64 {
    let (number, _) = record.split_first_chunk().expect("records begin with a number");
    u64::from_le_bytes(*number)
}

struct Route {
    queue: Queue,
    appended: u64,
    hand: Option<Chunk>,
    /// Numbers and lengths of records that were sent and are not acknowledged.
    sent: VecDeque<(u64, usize)>,
    /// Bytes acknowledged of the first of them.
    part: usize,
    /// The lowest number that may still come to the receiver.
    next: u64,
    received: u64,
    refused: u64,
}

impl Route {
    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Append { count, size } => {
                (0..=count % 8).for_each(|_| self.append(usize::from(size) * 32));
            }
            Op::Take if self.hand.is_none() && self.queue.may_send() => {
                self.hand = self.queue.take();
            }
            Op::Take => {}
            // A queue is for one or the other.
            Op::Send(share) | Op::Stream(share) if self.queue.has_sent() => {
                self.stream(usize::from(share));
            }
            Op::Send(share) => self.send(usize::from(share)),
            Op::Stream(share) => self.stream(usize::from(share)),
            Op::Acknowledge(share) => self.acknowledge(usize::from(share)),
            Op::Break => self.end(),
            Op::Refuse if self.queue.has_sent() => {}
            Op::Refuse => self.refuse(),
            Op::PutBack => self.hand.take().into_iter().for_each(|c| self.queue.put_back(c)),
            Op::GiveUp => {
                self.hand = None;
                self.queue.abandon();
                (self.sent, self.part) = (VecDeque::new(), 0);
            }
        }
    }

    fn append(&mut self, size: usize) {
        let number = self.appended.to_le_bytes();
        self.queue.append(|outbox| {
            let out = outbox.begin(number.len() + size);
            out.extend_from_slice(&number);
            out.resize(out.len() + size, b'x');
            outbox.finish();
        });
        self.appended += 1;
    }

    /// What `transport::stream` does with what a write has taken.
    fn send(&mut self, share: usize) {
        let Some(mut chunk) = self.hand.take() else { return };
        let before = chunk.pending().len();
        let taken = before * share / 255;
        let (mut end, mut numbers) = (0, Vec::new());
        for record in chunk.pending_records() {
            end += record.len();
            if end > taken {
                break;
            }
            numbers.push(number_of(record));
        }
        numbers.into_iter().for_each(|number| self.receive(number));
        let records = chunk.deliver(taken);
        self.queue.delivered(records, before - chunk.pending().len());
        self.hand = Some(chunk);
    }

    fn stream(&mut self, share: usize) {
        let Some(chunk) = self.hand.take() else { return };
        if chunk.records() == 0 {
            return self.queue.put_back(chunk);
        }
        self.sent.extend(chunk.pending_records().map(|record| (number_of(record), record.len())));
        let all = chunk.pending().len();
        self.queue.sent(chunk, all * share / 255);
        if share < 255 {
            self.end();
        }
    }

    fn acknowledge(&mut self, share: usize) {
        let all: usize = self.sent.iter().map(|(_, len)| len).sum();
        let bytes = (all - self.part) * share / 255;
        self.queue.acknowledged(bytes);
        self.part += bytes;
        while let Some(&(number, len)) = self.sent.front().filter(|(_, len)| *len <= self.part) {
            self.part -= len;
            self.receive(number);
            self.sent.pop_front();
        }
    }

    fn end(&mut self) {
        self.hand.take().into_iter().for_each(|chunk| self.queue.put_back(chunk));
        self.queue.rewind();
        (self.sent, self.part) = (VecDeque::new(), 0);
    }

    fn receive(&mut self, number: u64) {
        assert!((self.next..self.appended).contains(&number), "twice, or out of order");
        self.next = number + 1;
        self.received += 1;
    }

    fn refuse(&mut self) {
        let Some(chunk) = &mut self.hand else { return };
        let len = chunk.pending_records().next().map_or(0, <[u8]>::len);
        let refused = chunk.deliver(len);
        self.queue.refused(refused, len);
        self.refused += refused as u64;
    }
}
