//! From a shard to a client of `/logs`: records are copied off the shard as far as the client takes
//! them. One that takes little is left out from (see [`Queue::admits`]); nothing ever waits for it.
//!
//! Touches no socket: what comes out of the [`Exit`] is the HTTP side's to send.

use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::queue::Queue;
use crate::buffer::Chunk;

/// Parcels on the way, of all shards together; each is a chunk of the route's budget at most.
const PARCELS: usize = 4;

/// What comes from a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parcel {
    /// Records, one after the other, and where each ends.
    Records {
        /// Their bytes.
        bytes: Bytes,
        /// The offset behind each.
        ends: Box<[usize]>,
    },
    /// So many lines were left out here, because the client was too slow.
    LeftOut(u64),
    /// Nothing more will come.
    End,
}

/// The shards' end of the way to one client.
#[derive(Debug)]
pub struct Entrance {
    parcels: mpsc::Sender<Parcel>,
}

/// The client's end.
#[derive(Debug)]
pub struct Exit {
    parcels: mpsc::Receiver<Parcel>,
    gauge: Gauge,
    ended: bool,
}

/// Says whether something waits for the client to take it.
#[derive(Clone, Debug)]
pub struct Gauge {
    parcels: mpsc::WeakSender<Parcel>,
}

/// A way to a client.
pub fn way() -> (Entrance, Exit) {
    let (sender, receiver) = mpsc::channel(PARCELS);
    let gauge = Gauge { parcels: sender.downgrade() };
    (Entrance { parcels: sender }, Exit { parcels: receiver, gauge, ended: false })
}

impl Exit {
    /// What tells whether the client takes what comes.
    pub fn gauge(&self) -> Gauge {
        self.gauge.clone()
    }

    /// The next parcel that is not the end; `None` at the end.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Parcel>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.parcels.poll_recv(cx).map(|parcel| {
            let parcel = parcel.filter(|parcel| *parcel != Parcel::End);
            self.ended = parcel.is_none();
            parcel
        })
    }

    /// As [`Exit::poll_next`]; may be dropped, and nothing is lost.
    pub async fn next(&mut self) -> Option<Parcel> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }
}

impl Gauge {
    /// Whether parcels wait.
    pub fn is_waiting(&self) -> bool {
        self.parcels.upgrade().is_some_and(|parcels| parcels.capacity() < parcels.max_capacity())
    }
}

impl Parcel {
    fn of(chunk: &Chunk) -> Parcel {
        let ends = chunk.pending_records().scan(0, |end, record| {
            *end += record.len();
            Some(*end)
        });
        Parcel::Records { ends: ends.collect(), bytes: Bytes::copy_from_slice(chunk.pending()) }
    }
}

/// A shard's side: hands `queue` over until it is done, or the client is gone.
pub async fn hand_over(entrance: &Entrance, queue: &Queue) {
    loop {
        let room = tokio::select! {
            room = entrance.parcels.reserve() => room,
            () = queue.until_given_up() => break,
        };
        let Ok(room) = room else { return };
        if let Some(lines) = queue.dropped_before() {
            room.send(Parcel::LeftOut(lines));
        } else if let Some(mut chunk) = queue.take() {
            room.send(Parcel::of(&chunk));
            let bytes = chunk.pending().len();
            let records = chunk.deliver(bytes);
            queue.delivered(records, bytes);
            queue.put_back(chunk);
        } else if let Some(lines) = queue.reopen() {
            room.send(Parcel::LeftOut(lines));
        } else if queue.is_done() {
            room.send(Parcel::End);
            return;
        } else {
            drop(room);
            queue.wait().await;
        }
    }
    // A client that has taken everything so far need not wait to be told.
    let _ = entrance.parcels.try_send(Parcel::End);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::{Budget, Outbox};
    use std::rc::Rc;
    use std::sync::Arc;
    use tokio::task::{LocalSet, yield_now};

    const RECORD: usize = 1000;
    /// The budget of one shard; its chunks have 4 KiB.
    const LIMIT: usize = 64 * 1024;

    fn queue() -> Rc<Queue> {
        let outbox = Outbox::new(Arc::new(Budget::new(LIMIT, 1)), usize::MAX);
        Rc::new(Queue::new("/logs".to_owned(), outbox, Arc::default()).gated())
    }

    /// A line comes; whether it was written.
    fn line(queue: &Queue, number: usize) -> bool {
        let admitted = queue.admits();
        match admitted {
            true => queue.append(|out| {
                let record = out.begin(RECORD);
                record.extend_from_slice(format!("{number:0>999}\n").as_bytes());
                out.finish();
            }),
            false => queue.leave_out(1),
        }
        admitted
    }

    fn numbers(parcel: &Parcel) -> Vec<usize> {
        let Parcel::Records { bytes, ends } = parcel else { return Vec::new() };
        let mut start = 0;
        let records = ends.iter().map(|&end| {
            let record = &bytes[std::mem::replace(&mut start, end)..end];
            std::str::from_utf8(record).unwrap().trim().parse().unwrap()
        });
        records.collect()
    }

    fn run(test: impl AsyncFnOnce()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, test());
    }

    #[test]
    fn a_client_that_takes_all_gets_all_and_the_end() {
        run(async || {
            let (queue, (entrance, mut exit)) = (queue(), way());
            let shard = {
                let queue = Rc::clone(&queue);
                tokio::task::spawn_local(async move { hand_over(&entrance, &queue).await })
            };
            let mut got = Vec::new();
            for number in 0..500 {
                assert!(line(&queue, number), "{number}");
                if number % 3 == 0 {
                    got.extend(numbers(&exit.next().await.unwrap()));
                }
            }
            queue.close();
            while let Some(parcel) = exit.next().await {
                got.extend(numbers(&parcel));
            }
            assert_eq!(got, (0..500).collect::<Vec<_>>());
            assert_eq!(exit.next().await, None);
            shard.await.unwrap();
            assert_eq!(queue.counters.delivered_lines.get(), 500);
            assert_eq!(queue.counters.dropped_buffer_full.get(), 0);
        });
    }

    #[test]
    fn a_slow_client_is_left_out_from_and_told_where_and_how_much() {
        run(async || {
            let (queue, (entrance, mut exit)) = (queue(), way());
            let gauge = exit.gauge();
            let shared = Rc::clone(&queue);
            tokio::task::spawn_local(async move { hand_over(&entrance, &shared).await });
            assert!(!gauge.is_waiting());
            let (mut came, mut written) = (0, Vec::new());
            for _ in 0..300 {
                written.extend(line(&queue, came).then_some(came));
                came += 1;
                yield_now().await;
            }
            assert!(gauge.is_waiting());
            assert!(written.len() < 120 && written == (0..written.len()).collect::<Vec<_>>());
            // What was written before comes whole and in order, then the gap is told, once.
            let mut got = Vec::new();
            let told = loop {
                match exit.next().await.unwrap() {
                    Parcel::LeftOut(lines) => break lines,
                    records => got.extend(numbers(&records)),
                }
            };
            assert_eq!(got, written);
            assert_eq!(told, (came - written.len()) as u64);
            assert_eq!(queue.counters.dropped_buffer_full.get(), told);
            // It has caught up: lines are written again.
            assert!(line(&queue, came));
            assert_eq!(numbers(&exit.next().await.unwrap()), [came]);
            assert!(!gauge.is_waiting());
        });
    }

    #[test]
    fn one_flood_pushes_the_oldest_out_and_that_is_told_too() {
        run(async || {
            let (queue, (entrance, mut exit)) = (queue(), way());
            queue.append(|out| {
                for number in 0..200 {
                    out.begin(RECORD).extend_from_slice(format!("{number:0>999}\n").as_bytes());
                    out.finish();
                }
            });
            let shared = Rc::clone(&queue);
            tokio::task::spawn_local(async move { hand_over(&entrance, &shared).await });
            let Some(Parcel::LeftOut(told)) = exit.next().await else { panic!("not told first") };
            let (told, mut got) = (told as usize, Vec::new());
            while got.last() != Some(&199) {
                got.extend(numbers(&exit.next().await.unwrap()));
            }
            assert_eq!(got, (told..200).collect::<Vec<_>>());
            assert!(told > 100, "{told}");
        });
    }

    #[test]
    fn neither_a_client_that_is_gone_nor_one_that_takes_nothing_holds_up_the_end() {
        run(async || {
            let (queue_a, (entrance_a, exit)) = (queue(), way());
            drop(exit);
            hand_over(&entrance_a, &queue_a).await;
            let (queue_b, (entrance_b, mut exit)) = (queue(), way());
            for number in 0..40 {
                line(&queue_b, number);
            }
            let shared = Rc::clone(&queue_b);
            let shard =
                tokio::task::spawn_local(async move { hand_over(&entrance_b, &shared).await });
            yield_now().await;
            queue_b.give_up();
            shard.await.unwrap();
            while exit.next().await.is_some() {}
        });
    }
}
