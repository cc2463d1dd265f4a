//! Lines that belong together: some begin with a tab and go on with the one before. A route that
//! joins them shows each group whole, unless it grew too long, came too slowly, or its stream was
//! read anew in between.

use std::collections::{BTreeMap, BTreeSet};

use super::chance::mix;
use super::daemon::LineId;
use super::ledger::{PERIOD, repeats, text};
use super::scenario::Scenario;
use super::world::{MS, SECOND};

/// What stands between joined lines; no line has it.
pub(super) const SEPARATOR: u8 = b'|';
/// MULTILINE_MAX_LINES: low enough to be reached.
pub(super) const LINES_MAX: usize = 8;
/// A group of so many bytes may be in parts: less than MULTILINE_MAX_BYTES.
const BYTES_MAX: usize = 128 << 10;
/// A group that took so long to be written may be in parts: MULTILINE_FLUSH_AFTER, less what the way
/// of its lines may take more or less.
const SLOW: u64 = 400 * MS;
/// So long after a stream was read anew, or from the log, lines may come late; and so long before it
/// those come that it cuts.
const AFTER: u64 = 3 * SECOND;
const BEFORE: u64 = SECOND;

/// Whether a line goes on with the one before it.
pub(super) fn goes_on(scenario: &Scenario, (container, source, number): LineId) -> bool {
    let hash = mix(!number ^ mix((container * 2 + source) as u64));
    let repeated = !number.is_multiple_of(PERIOD);
    let goes_on = if repeats(scenario, container) { repeated } else { !hash.is_multiple_of(4) };
    scenario.joined && number > 0 && goes_on
}

/// The line that begins what goes out as one with `id`.
pub(super) fn first_of(scenario: &Scenario, route: usize, id: LineId) -> LineId {
    let mut first = id;
    while scenario.joins(route) && goes_on(scenario, first) {
        first.2 -= 1;
    }
    first
}

/// What joined lines came by.
#[derive(Default)]
pub(super) struct Streams {
    /// When the daemon took the end of each line.
    taken: BTreeMap<LineId, u64>,
    /// From when to when each container's log was read, or its stream began or ended.
    troubled: BTreeMap<usize, Vec<(u64, u64)>>,
    /// Connections that a container is read by: which, since when, and whether what they bring may
    /// come late: that of its log, or of a stream that hangs.
    open: BTreeMap<usize, (usize, u64, bool)>,
}

impl Streams {
    /// The daemon has taken the end of a line.
    pub(super) fn taken(&mut self, line: LineId, now: u64) {
        self.taken.insert(line, now);
    }

    /// A connection brings what a container writes, or its log.
    pub(super) fn begins(&mut self, conn: usize, container: usize, log: bool, now: u64) {
        self.troubled.entry(container).or_default().push((now, now));
        self.open.insert(conn, (container, now, log));
    }

    /// A connection brings nothing any more; the program will know that some time.
    pub(super) fn hangs(&mut self, conn: usize, now: u64) {
        if let Some((container, since, log)) = self.open.get_mut(&conn)
            && !std::mem::replace(log, true)
        {
            *since = now;
            self.troubled.entry(*container).or_default().push((now, now));
        }
    }

    /// The program has done with a connection.
    pub(super) fn ends(&mut self, conn: usize, now: u64) {
        if let Some((container, since, log)) = self.open.remove(&conn) {
            let from = if log { since } else { now };
            self.troubled.entry(container).or_default().push((from, now));
        }
    }

    /// Whether a stream was as it was from one line of a container to another, and until they
    /// arrived: what could not be read at once is read from the log, as slowly as receivers take it.
    fn is_calm(&self, (first, last, until): Parted) -> bool {
        let at = |line| self.taken.get(&line).copied();
        let (Some(first_at), Some(last_at)) = (at(first), at(last)) else { return false };
        let troubled = self.troubled.get(&first.0).into_iter().flatten().copied();
        let reading =
            self.open.values().filter(|(container, _, log)| *container == first.0 && *log);
        let mut all = troubled.chain(reading.map(|(_, since, _)| (*since, u64::MAX - AFTER)));
        let until = until.max(last_at + BEFORE);
        last_at - first_at < SLOW && !all.any(|(from, to)| from <= until && first_at <= to + AFTER)
    }
}

/// The first line of a record, the first line of the one that goes on with its group, and when that
/// arrived.
type Parted = (LineId, LineId, u64);

/// The records of joined lines that a receiver got.
#[derive(Default)]
pub(super) struct Joined {
    /// Records of which something had come before.
    pub(super) doubled: u64,
    /// First line, last line and number of lines of the newest record of each source.
    newest: BTreeMap<(usize, usize), (LineId, LineId, usize)>,
    /// Groups that came in parts.
    parted: Vec<Parted>,
    /// Lines that follow each other in a record and do not in what was written.
    strange: Vec<(LineId, LineId)>,
    wrong: Vec<String>,
}

impl Joined {
    /// A record has come now, of these lines, each with whether it came before; those that are not whole
    /// are none.
    pub(super) fn take(
        &mut self,
        scenario: &Scenario,
        lines: Vec<Option<(LineId, bool)>>,
        now: u64,
    ) {
        if lines.len() > LINES_MAX {
            self.wrong.push(format!("{} lines in a record", lines.len()));
        }
        let again = lines.iter().flatten().any(|(_, again)| *again);
        self.doubled += u64::from(again);
        for pair in lines.windows(2) {
            let Some((next, _)) = pair[1] else { continue };
            if !goes_on(scenario, next) {
                self.wrong.push(format!("line {next:?} was joined to the one before"));
            }
            if let Some((line, _)) = pair[0]
                && !follows(scenario, line, next)
            {
                self.strange.push((line, next));
            }
        }
        let ends = (lines.first().copied().flatten(), lines.last().copied().flatten());
        let (Some((first, _)), Some((last, _))) = ends else { return };
        let before = self.newest.insert((first.0, first.1), (first, last, lines.len()));
        if let Some((begin, end, count)) = before
            && !again
            && !repeats(scenario, first.0)
            && goes_on(scenario, first)
            && follows(scenario, end, first)
            && count < LINES_MAX
            && bytes(scenario, begin, first) < BYTES_MAX
        {
            self.parted.push((begin, first, now));
        }
    }

    /// What is wrong with the records. Where lines may have been lost or read again it is not
    /// `sure` that each follows the one before it.
    pub(super) fn check(
        &self,
        scenario: &Scenario,
        streams: &Streams,
        torn: &BTreeSet<LineId>,
        sure: bool,
    ) -> Vec<String> {
        let mut complaints = self.wrong.clone();
        let parted = self.parted.iter().filter(|parted| streams.is_calm(**parted));
        complaints
            .extend(parted.map(|(first, next, _)| format!("{next:?} was parted from {first:?}")));
        let is_torn = |line: &LineId| torn.iter().any(|torn| (torn.0, torn.1) == (line.0, line.1));
        let strange = self.strange.iter().filter(|(line, next)| {
            let repeated = repeats(scenario, line.0);
            (line.0, line.1) != (next.0, next.1) || sure && !is_torn(line) && !repeated
        });
        complaints.extend(strange.map(|(line, next)| format!("{next:?} was joined to {line:?}")));
        complaints
    }
}

fn follows(scenario: &Scenario, line: LineId, next: LineId) -> bool {
    let number = line.2 + 1;
    let number = if repeats(scenario, line.0) { number % PERIOD } else { number };
    (line.0, line.1, number) == next
}

/// How many bytes the lines from `first` to `last` have.
fn bytes(scenario: &Scenario, first: LineId, last: LineId) -> usize {
    let (container, source, _) = first;
    (first.2..=last.2).map(|number| text(scenario, (container, source, number)).len() + 2).sum()
}
