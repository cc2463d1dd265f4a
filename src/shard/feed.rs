//! THE loop: the way of one container's bytes through its shard, on one page.
//!
//! read → demux → split → verdict → encode; what the socket gave goes in, records come out in the
//! lanes' outboxes. Composes the stages and decides nothing itself; never waits.

use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use super::intake::note;
use super::lane::{Lane, count_lines};
use crate::docker::Source;
use crate::docker::frame::{Corrupt, Demux, Piece};
use crate::docker::inspect::Container;
use crate::doors::resume::{TAIL, Tail};
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
    /// way, its end into `tails`; what the daemon says of itself (frame type 3) into `complaint`.
    ///
    /// # Errors
    /// A header that is none; what came before it is on its way.
    pub fn read(
        &mut self,
        demux: &mut Demux,
        bytes: &[u8],
        now: SystemTime,
        tails: &mut [Tail; 2],
        complaint: &mut Option<String>,
    ) -> Result<(), Corrupt> {
        self.router.stamp.set(now);
        let (splitters, router) = (&mut self.splitters, &mut self.router);
        let mut ends = Ends::new(bytes);
        let pushed = demux.push(bytes, |piece| match piece {
            Piece::Output { source, bytes, .. } => {
                splitters[source as usize].push(bytes, &mut |lines| router.take(source, lines));
                ends.see(source, bytes, tails, router.stamp.nanos());
            }
            Piece::SystemError { bytes, .. } => note(complaint, bytes),
        });
        ends.finish(tails, router.stamp.nanos());
        self.count_cut_lines();
        pushed
    }

    fn count_cut_lines(&mut self) {
        for splitter in &mut self.splitters {
            self.router.counters.cut_lines.add(splitter.take_cut_lines());
        }
    }

    /// Bytes of one source whose time the daemon gave (nanoseconds since 1970).
    pub fn write_at(&mut self, source: Source, bytes: &[u8], nanos: u64) {
        self.router.stamp.set_nanos(nanos);
        let router = &mut self.router;
        self.splitters[source as usize].push(bytes, &mut |lines| router.take(source, lines));
        self.count_cut_lines();
    }

    /// How much the lanes have delivered whose outboxes are filling up while their receivers take
    /// what they get; `None` if there are no such lanes. Who can wait, should, until it rises.
    pub fn pressed(&self) -> Option<u64> {
        let pressed = self.router.bindings.iter().filter(|binding| binding.lane.queue.is_pressed());
        pressed
            .map(|binding| binding.lane.queue.counters.delivered_bytes.get())
            .reduce(|a, b| a + b)
    }

    /// The container has ended: an unterminated last line is a line.
    pub fn finish(&mut self) {
        let router = &mut self.router;
        for source in Source::ALL {
            self.splitters[source as usize].finish(&mut |lines| router.take(source, lines));
        }
    }
}

/// Notes the last bytes of each source in a read, without looking at all the others: a piece
/// before the read's last few KiB matters only if no other of its source follows.
struct Ends<'a> {
    /// Where the end of the read begins, as an address.
    from: usize,
    /// The last piece of each source before that.
    early: [Option<&'a [u8]>; 2],
}

impl<'a> Ends<'a> {
    fn new(read: &[u8]) -> Ends<'a> {
        let end = read.as_ptr_range().end as usize;
        Ends { from: end - read.len().min(2 * TAIL), early: [None; 2] }
    }

    #[inline]
    fn see(&mut self, source: Source, piece: &'a [u8], tails: &mut [Tail; 2], at: u64) {
        if (piece.as_ptr() as usize) < self.from {
            self.early[source as usize] = Some(piece);
        } else {
            self.note_early(source, tails, at);
            tails[source as usize].note(piece, at);
        }
    }

    #[inline]
    fn note_early(&mut self, source: Source, tails: &mut [Tail; 2], at: u64) {
        if let Some(piece) = self.early[source as usize].take() {
            // What was before this piece was passed over.
            tails[source as usize].forget();
            tails[source as usize].note(piece, at);
        }
    }

    fn finish(mut self, tails: &mut [Tail; 2], at: u64) {
        for source in Source::ALL {
            self.note_early(source, tails, at);
        }
    }
}

impl Router {
    #[inline]
    fn take(&mut self, source: Source, lines: &[u8]) {
        let mut count = None;
        for binding in &self.bindings {
            if let Some(prefix) = &binding.prefixes[source as usize] {
                count = Some(binding.lane.take(prefix, &self.stamp, lines));
            }
        }
        // Whoever took the lines has counted them.
        let count = count.unwrap_or_else(|| count_lines(lines));
        self.counters.received_lines.add(count);
        self.counters.received_bytes.add(lines.len() as u64);
    }
}
