//! One route on one shard: what it wants, how it writes it, where the records wait.

use std::rc::Rc;
use std::sync::Arc;

use crate::admin::metrics::RouteSnapshot;
use crate::docker::Source;
use crate::docker::inspect::Container;
use crate::metrics::RouteCounters;
use crate::route::filter::LineFilter;
use crate::route::select::Selection;
use crate::sink::{Prefix, Sink};
use crate::stamp::Stamp;
use crate::transport::queue::Queue;
use crate::transport::{Delivery, DeliveryTask};

/// A route that is ready for use, shared by all shards.
pub struct Route {
    /// For messages: the URI without its secrets.
    pub display: String,
    /// What metrics say of it, the counters apart.
    pub snapshot: RouteSnapshot,
    /// Which containers and sources it takes.
    pub selection: Selection,
    /// Which lines it keeps; `None` keeps all.
    pub filter: Option<LineFilter>,
    /// How it writes them.
    pub sink: Arc<dyn Sink>,
    /// How they travel.
    pub delivery: Delivery,
    /// Its memory, shared by its outboxes.
    pub budget: Arc<crate::buffer::Budget>,
    /// What it did, a set of counters a shard.
    pub counters: Vec<Arc<RouteCounters>>,
}

/// A route's share of one shard.
pub struct Lane {
    route: Arc<Route>,
    /// Where its records wait for the link.
    pub queue: Rc<Queue>,
}

impl Lane {
    /// The share of shard `shard` in `route`, and the task that delivers its records.
    pub fn new(route: &Arc<Route>, shard: usize) -> (Lane, DeliveryTask) {
        let counters = Arc::clone(&route.counters[shard]);
        let outbox =
            crate::buffer::Outbox::new(Arc::clone(&route.budget), route.delivery.record_max());
        let queue = Rc::new(Queue::new(route.display.clone(), outbox, counters));
        let task = DeliveryTask { delivery: route.delivery.clone(), queue: Rc::clone(&queue) };
        (Lane { route: Arc::clone(route), queue }, task)
    }

    /// What the route has to do with a container: `None` if it does not take it.
    pub fn bind(&self, container: &Container) -> Option<[Option<Prefix>; 2]> {
        self.route.selection.takes(container).then(|| {
            Source::ALL.map(|source| {
                let wanted = self.route.selection.takes_source(source);
                wanted.then(|| self.route.sink.prefix(container, source))
            })
        })
    }

    /// Takes a block of whole lines: judges them, and writes those that are kept. Returns how many
    /// lines the block has.
    #[inline]
    pub fn take(&self, prefix: &Prefix, stamp: &Stamp, lines: &[u8]) -> u64 {
        let counters = &self.queue.counters;
        let sink = &self.route.sink;
        let received = self.queue.append(|outbox| match &self.route.filter {
            None => sink.encode(prefix, stamp, lines, outbox),
            Some(filter) => {
                let judged = filter.each_kept(lines, &mut |run| {
                    sink.encode(prefix, stamp, run, outbox);
                });
                counters.filtered_lines.add(judged.filtered);
                judged.kept + judged.filtered
            }
        });
        counters.received_lines.add(received);
        counters.received_bytes.add(lines.len() as u64);
        received
    }
}

/// How many lines a block holds.
pub fn count_lines(block: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', block).count() as u64
}
