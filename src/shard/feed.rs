//! THE loop: the way of one container's bytes through its shard, on one page.
//!
//! read → demux → split → verdict → encode; what the socket gave goes in, records come out in the
//! lanes' outboxes. Composes the stages and decides nothing itself; never waits.

use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use super::lane::{Lane, count_lines};
use crate::docker::Source;
use crate::docker::frame::{Corrupt, Demux, Piece};
use crate::docker::inspect::Container;
use crate::lines::split::Splitter;
use crate::metrics::ShardCounters;
use crate::sink::Prefix;
use crate::stamp::Stamp;

/// The lanes that take a container, and what their records of it have in common.
struct Binding {
    lane: Rc<Lane>,
    prefixes: [Option<Prefix>; 2],
}

/// Everything between a container's bytes and the outboxes.
pub struct Feed {
    splitters: [Splitter; 2],
    router: Router,
}

/// What happens to whole lines.
struct Router {
    bindings: Vec<Binding>,
    stamp: Stamp,
    counters: Arc<ShardCounters>,
}

impl Feed {
    /// A feed that goes nowhere until it is bound.
    pub fn new(max_line: usize, counters: Arc<ShardCounters>) -> Feed {
        Feed {
            splitters: [Splitter::new(max_line), Splitter::new(max_line)],
            router: Router {
                bindings: Vec::new(),
                stamp: Stamp::new(SystemTime::UNIX_EPOCH),
                counters,
            },
        }
    }

    /// Says which container this is (again, when its name changed): renders what every record of
    /// it has in common, for each lane that takes it.
    pub fn bind(&mut self, container: &Container, lanes: &[Rc<Lane>]) {
        self.router.bindings = lanes
            .iter()
            .filter_map(|lane| {
                let prefixes = lane.bind(container)?;
                Some(Binding { lane: Rc::clone(lane), prefixes })
            })
            .collect();
    }

    /// Bytes of an attach stream, as they were read at `now`. The output of the container goes its
    /// way; what the daemon says of itself (frame type 3) goes to `complaint`.
    ///
    /// # Errors
    /// A header that is none; what came before it is on its way.
    pub fn read(
        &mut self,
        demux: &mut Demux,
        bytes: &[u8],
        now: SystemTime,
        complaint: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Corrupt> {
        self.router.stamp.set(now);
        let (splitters, router) = (&mut self.splitters, &mut self.router);
        demux.push(bytes, |piece| match piece {
            Piece::Output { source, bytes, .. } => {
                splitters[source as usize].push(bytes, &mut |lines| router.take(source, lines));
            }
            Piece::SystemError(text) => complaint(text),
        })
    }

    /// Bytes of one source whose time the daemon gave (nanoseconds since 1970).
    pub fn write_at(&mut self, source: Source, bytes: &[u8], nanos: u64) {
        self.router.stamp.set_nanos(nanos);
        let router = &mut self.router;
        self.splitters[source as usize].push(bytes, &mut |lines| router.take(source, lines));
    }

    /// The container has ended: an unterminated last line is a line.
    pub fn finish(&mut self) {
        let router = &mut self.router;
        for source in Source::ALL {
            self.splitters[source as usize].finish(&mut |lines| router.take(source, lines));
        }
    }
}

impl Router {
    #[inline]
    fn take(&mut self, source: Source, lines: &[u8]) {
        let count = count_lines(lines);
        self.counters.received_lines.add(count);
        self.counters.received_bytes.add(lines.len() as u64);
        for binding in &self.bindings {
            if let Some(prefix) = &binding.prefixes[source as usize] {
                binding.lane.take(prefix, &self.stamp, lines, count);
            }
        }
    }
}
