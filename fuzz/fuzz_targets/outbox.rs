//! Two outboxes that share a budget, under arbitrary operations, against a list of records: order
//! is kept, what is dropped is the oldest and is counted, what was sent and not acknowledged comes
//! again, and the budget's books are right.

#![no_main]

use std::collections::VecDeque;
use std::sync::Arc;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use logchute::buffer::{Budget, Chunk, Outbox, naive::audit};

#[derive(Arbitrary, Debug)]
struct Case {
    limit: u8,
    /// The longest record; 0 stands for one that none reaches.
    record_max: u8,
    ops: Vec<(bool, Op)>,
}

#[derive(Arbitrary, Debug)]
enum Op {
    /// Some records of so many times 16 bytes, with so many bytes more room asked for.
    Put {
        count: u8,
        size: u8,
        more: u8,
    },
    /// One record of so many times 512 bytes.
    PutLarge(u8),
    /// The link takes a chunk.
    Take,
    /// So many 256ths of what it has taken are delivered.
    Deliver(u8),
    /// It gives the chunk back, to go on with.
    PutBack,
    /// It gives the chunk back, done with.
    Recycle,
    /// It gives the chunk back, of which a connection has taken so many 256ths; which ends the
    /// connection, if that is not all.
    Sent(u8),
    /// So many 256ths of what was sent are acknowledged.
    Acknowledge(u8),
    /// The connection ends.
    Rewind,
    Abandon,
}

fuzz_target!(|case: Case| {
    let limit = (64 + usize::from(case.limit) / 2) << 10;
    let budget = Arc::new(Budget::new(limit, 2));
    let record_max =
        if case.record_max == 0 { usize::MAX } else { 8 + usize::from(case.record_max) };
    let mut sides = [Side::new(&budget, record_max), Side::new(&budget, record_max)];
    for (second, op) in case.ops.iter().take(64) {
        sides[usize::from(*second)].apply(op);
        audit(&budget, limit, &sides.each_ref().map(|side| (&side.outbox, side.hand.as_ref())));
    }
    sides.iter_mut().for_each(Side::drain);
    audit(&budget, limit, &sides.each_ref().map(|side| (&side.outbox, None)));
});

/// An outbox, and what should be in it.
struct Side {
    outbox: Outbox,
    record_max: usize,
    /// The chunk that the link has taken.
    hand: Option<Chunk>,
    /// Its records that are not delivered.
    in_hand: usize,
    /// Records that were sent and are not acknowledged.
    sent: usize,
    /// Bytes acknowledged of the first of them.
    part: usize,
    /// The first number that was never sent as a whole.
    unsent: u64,
    /// The numbers and lengths of records that were put, oldest first: those sent, then those in
    /// hand, then the others.
    records: VecDeque<(u64, usize)>,
    put: u64,
}

impl Side {
    fn new(budget: &Arc<Budget>, record_max: usize) -> Side {
        let outbox = Outbox::new(Arc::clone(budget), record_max);
        let records = VecDeque::new();
        let (in_hand, sent, part, unsent, put) = (0, 0, 0, 0, 0);
        Side { outbox, record_max, hand: None, in_hand, sent, part, unsent, records, put }
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Put { count, size, more } => {
                (0..=count % 8).for_each(|_| self.put(usize::from(size) * 16, usize::from(more)));
            }
            Op::PutLarge(size) => self.put(usize::from(size) << 9, 0),
            Op::Take if self.hand.is_none() && self.outbox.may_send() => self.take(),
            Op::Take => {}
            Op::Deliver(share) => self.deliver(usize::from(share)),
            Op::PutBack => self.give_back(true),
            Op::Recycle => self.give_back(false),
            Op::Sent(share) => self.sent(usize::from(share)),
            Op::Acknowledge(share) => self.acknowledge(usize::from(share)),
            Op::Rewind => self.rewind(),
            Op::Abandon => self.abandon(),
        }
        let untouched = self.records.len() - self.in_hand - self.sent;
        assert_eq!(self.outbox.is_empty(), untouched == 0);
        assert_eq!(self.outbox.has_sent(), self.sent > 0);
    }

    /// A record that says its number, then two-byte characters, then a newline.
    fn put(&mut self, size: usize, more: usize) {
        let number = self.put.to_le_bytes();
        let text = size.saturating_sub(number.len() + 1) / 2;
        let len = number.len() + 2 * text + 1;
        let out = self.outbox.begin(len + more);
        out.extend_from_slice(&number);
        out.extend_from_slice("é".repeat(text).as_bytes());
        out.push(b'\n');
        self.outbox.finish();
        // Shortened by whole characters.
        let fits = self.record_max.saturating_sub(number.len() + 1) / 2;
        self.records.push_back((self.put, number.len() + 2 * text.min(fits) + 1));
        self.put += 1;
        let losses = self.outbox.take_losses();
        assert_eq!(losses.cut_records, u64::from(text > fits));
        self.drop(losses.dropped_records, losses.dropped_bytes);
    }

    /// The oldest that are not in hand are gone.
    fn drop(&mut self, records: u64, bytes: u64) {
        let kept = self.sent + self.in_hand;
        let gone = self.records.drain(kept..kept + records as usize);
        assert_eq!(gone.map(|(_, len)| len as u64).sum::<u64>(), bytes);
    }

    fn take(&mut self) {
        self.hand = self.outbox.take();
        self.in_hand = self.hand.as_ref().map_or(0, Chunk::records);
        assert!(self.hand.is_none() || self.in_hand > 0, "an empty chunk");
        self.check_hand();
    }

    fn check_hand(&self) {
        let Some(chunk) = &self.hand else { return };
        assert_eq!(chunk.records(), self.in_hand);
        let mut bytes = 0;
        let mine = self.records.iter().skip(self.sent);
        for (record, (number, len)) in chunk.pending_records().zip(mine) {
            assert_eq!((&record[..8], record.len()), (&number.to_le_bytes()[..], *len));
            assert!(str::from_utf8(&record[8..]).is_ok_and(|text| text.ends_with('\n')));
            bytes += len;
        }
        assert_eq!(chunk.pending().len(), bytes);
    }

    fn deliver(&mut self, share: usize) {
        let Some(chunk) = &mut self.hand else { return };
        // Lent as to a write, which takes a part.
        let (bytes, from) = chunk.lend();
        let mut left = (bytes.len() - from) * share / 255;
        chunk.restore(bytes);
        let delivered = chunk.deliver(left);
        for _ in 0..delivered {
            let (_, len) = self.records.remove(self.sent).expect("what is delivered was put");
            left -= len;
            self.in_hand -= 1;
        }
        let next = self.records.get(self.sent);
        assert!(self.in_hand == 0 || left < next.unwrap().1, "a record is left out");
        self.check_hand();
    }

    fn sent(&mut self, share: usize) {
        let Some(chunk) = self.hand.take() else { return };
        if chunk.records() == 0 {
            return self.outbox.recycle(chunk);
        }
        let all = chunk.pending().len();
        let taken = all * share / 255;
        let again = self.outbox.sent(chunk, taken);
        let (mut left, mut expected) = (taken, 0);
        for (number, len) in self.records.iter().skip(self.sent).take(self.in_hand) {
            if *len > left {
                break;
            }
            left -= len;
            expected += usize::from(*number < self.unsent);
            self.unsent = self.unsent.max(number + 1);
        }
        assert_eq!(again, expected, "sent again");
        self.sent += std::mem::take(&mut self.in_hand);
        if taken < all {
            self.rewind();
        }
    }

    fn acknowledge(&mut self, share: usize) {
        let all: usize = self.records.iter().take(self.sent).map(|(_, len)| len).sum();
        let bytes = (all - self.part) * share / 255;
        let (records, delivered) = self.outbox.acknowledge(bytes);
        self.part += bytes;
        let gone = self.records.drain(..records).map(|(_, len)| len).sum::<usize>();
        assert_eq!(gone, delivered);
        self.sent -= records;
        self.part -= delivered;
        assert!(self.part == 0 || self.part < self.records[0].1, "a record is left out");
    }

    fn rewind(&mut self) {
        self.give_back(true);
        self.outbox.rewind();
        (self.sent, self.part) = (0, 0);
    }

    fn give_back(&mut self, go_on: bool) {
        let Some(chunk) = self.hand.take() else { return };
        if go_on {
            self.outbox.put_back(chunk);
        } else {
            self.outbox.recycle(chunk);
            self.records.drain(self.sent..self.sent + self.in_hand);
        }
        self.in_hand = 0;
    }

    fn abandon(&mut self) {
        // Of a chunk in hand its task would be ended: here it stays, and comes first again.
        self.rewind();
        let gone = self.outbox.abandon();
        let losses = self.outbox.take_losses();
        assert_eq!(losses.dropped_records, gone);
        self.drop(gone, losses.dropped_bytes);
        assert_eq!(self.records.len(), self.in_hand);
    }

    fn drain(&mut self) {
        self.rewind();
        while !self.outbox.is_empty() {
            self.take();
            self.deliver(255);
            assert_eq!(self.in_hand, 0);
            self.give_back(false);
        }
        assert!(self.records.is_empty(), "{} records are lost", self.records.len());
        assert!(self.outbox.take().is_none());
    }
}
