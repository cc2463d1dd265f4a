//! The way of lines that no container wrote: stats and events, JSON objects that logchute makes.
//!
//! They are few, so nothing is kept ready for them: each is offered to the lanes that are open, and
//! what its record has in common with others is rendered as it comes. The way of the containers'
//! output ([`super::feed`]) knows nothing of them.

use std::time::UNIX_EPOCH;

use super::Crew;
use super::lane::Side;
use crate::docker::Source;
use crate::docker::events::Happening;
use crate::docker::inspect::Container;
use crate::docker::stats::Usage;
use crate::stamp::Stamp;

impl Crew {
    /// Something happened.
    pub(super) fn tell_event(&self, happening: &Happening) {
        let (subject, is_container) = (happening.subject(), happening.is_of_container());
        let line = || happening.line();
        self.tell(Source::Events, &subject, is_container, happening.time_nanos, line);
    }

    /// A container has used something.
    pub(super) fn tell_usage(&self, container: &Container, usage: &Usage) {
        self.tell(Source::Stats, container, true, usage.at(), || usage.line(container));
    }

    /// Whether a route wants stats of the container, and whether that is one whose records may show
    /// anything that the daemon says of it.
    pub(super) fn wants_stats(&self, container: &Container) -> (bool, bool) {
        let lanes = self.lanes.borrow();
        let mut wanting = lanes.iter().filter(|lane| lane.wants(Source::Stats, container, true));
        let first = wanting.next();
        let reads = |lane: &_| std::rc::Rc::<super::lane::Lane>::as_ref(lane).reads_answers();
        (first.is_some(), first.is_some_and(reads) || wanting.any(reads))
    }

    /// Offers a line to the lanes; `nanos` is its time by the daemon's clock.
    fn tell(
        &self,
        source: Source,
        subject: &Container,
        is_container: bool,
        nanos: u64,
        object: impl FnOnce() -> String,
    ) {
        let lanes = self.lanes.borrow();
        let mut wanting =
            lanes.iter().filter(|lane| lane.wants(source, subject, is_container)).peekable();
        if wanting.peek().is_none() {
            return;
        }
        let mut line = object();
        line.push('\n');
        let mut stamp = Stamp::new(UNIX_EPOCH);
        stamp.set_nanos(self.dial.shown(nanos));
        let side = Side { source, subject, stamp: &stamp, line: line.as_bytes() };
        wanting.for_each(|lane| lane.take_side(&side));
    }
}
