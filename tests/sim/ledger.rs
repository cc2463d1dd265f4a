//! What was written and what arrived: each line has a number, so that lost, doubled, reordered and
//! damaged ones are known exactly. Of joined lines ([`super::joined`]) also what belongs together.

use std::collections::{BTreeMap, BTreeSet};

use super::chance::mix;
use super::daemon::{Daemon, LineId};
use super::joined::{self, Joined};
use super::scenario::Scenario;
use crate::metrics::RouteTotals;

/// Of a container that repeats itself, a line is the same as that so many lines later.
pub(super) const PERIOD: u64 = 3;

/// What a route's receiver got.
#[derive(Default)]
struct Arrived {
    /// How often each line came.
    seen: BTreeMap<LineId, u64>,
    /// By run of the program: which lines came, and the newest of each source. Order holds within a
    /// run. One that was killed is followed by one that goes on from an older place: what was
    /// dropped behind that, or never read, comes for the first time then, behind newer lines.
    came: BTreeSet<(u64, LineId)>,
    newest: BTreeMap<(u64, usize, usize), LineId>,
    /// What came of sources that repeat themselves.
    repeated: BTreeMap<(usize, usize), Vec<u64>>,
    disorder: Vec<String>,
    /// Records that are no line.
    strays: Vec<Vec<u8>>,
    /// Lines that the receiver's kernel had acknowledged when it was killed.
    never_read: BTreeSet<LineId>,
    never_read_repeated: u64,
    /// Records that the receiver has answered for (RELP).
    answered: u64,
    /// What was done that its protocol forbids.
    wrong: Vec<String>,
    joined: Joined,
}

/// The account.
pub(super) struct Ledger {
    scenario: Scenario,
    arrived: Vec<Arrived>,
    wanted_from: BTreeMap<(usize, usize), u64>,
    torn: BTreeSet<LineId>,
    rotated: BTreeSet<LineId>,
    /// What happened to the streams that joined lines come by.
    pub(super) streams: joined::Streams,
}

/// What a seed showed beside complaints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    /// Lines that were to arrive, over all routes.
    pub(super) wanted: u64,
    /// Of these, those that did.
    pub(super) arrived: u64,
    /// Those that came again.
    pub(super) doubled: u64,
    /// Lines that a receiver was killed with, after its kernel had acknowledged them.
    pub(super) never_read: u64,
    /// Lines that were rotated out of the log before they were read.
    pub(super) rotated: u64,
    /// Lines that were dropped, and counted.
    pub(super) dropped: u64,
    /// Seams that were a guess.
    pub(super) unsure: u64,
    /// Gaps that were said.
    pub(super) gaps: u64,
    /// Times that the program was killed.
    pub(super) crashes: u64,
}

/// Whether a container's lines repeat.
pub(super) fn repeats(scenario: &Scenario, container: usize) -> bool {
    scenario.repeats && container % 2 == 1
}

/// A line's text, without its newline.
pub(super) fn text(scenario: &Scenario, (container, source, number): LineId) -> String {
    if repeats(scenario, container) {
        return format!("@{container}.{source}.{} again even", number % PERIOD);
    }
    let hash = mix(number ^ mix((container * 2 + source) as u64));
    let parity = if hash.is_multiple_of(2) { "even" } else { "odd" };
    let length = match hash >> 8 & 0xff {
        0 => scenario.long,
        1..16 => 400,
        other => other as usize / 4,
    };
    // Each place of a long line looks different: where it is cut its end is found by its text.
    let letter = |at| char::from(b'a' + (mix(hash ^ at) % 26) as u8);
    let filler: String = (0..length as u64).map(letter).collect();
    format!("@{container}.{source}.{number} {parity} {filler}")
}

/// A line as its container writes it, without its newline.
pub(super) fn written(scenario: &Scenario, id: LineId) -> String {
    let indent = if joined::goes_on(scenario, id) { "\t" } else { "" };
    format!("{indent}{}", text(scenario, id))
}

fn id_of(record: &[u8]) -> Option<(LineId, &str)> {
    let record = std::str::from_utf8(record).ok()?;
    let text = record[record.find('@')?..].trim_end_matches('\r');
    let mut numbers = text[1..].split(' ').next()?.split('.');
    let mut number = || numbers.next()?.parse::<u64>().ok();
    let id = (number()? as usize, number()? as usize, number()?);
    Some((id, text))
}

impl Ledger {
    /// An account for so many routes.
    pub(super) fn new(routes: usize, scenario: Scenario) -> Ledger {
        Ledger {
            scenario,
            arrived: (0..routes).map(|_| Arrived::default()).collect(),
            wanted_from: BTreeMap::new(),
            torn: BTreeSet::new(),
            rotated: BTreeSet::new(),
            streams: joined::Streams::default(),
        }
    }

    /// A record of this run of the program has been read by the receiver of `route`, now.
    pub(super) fn received(&mut self, route: usize, run: u64, record: &[u8], now: u64) {
        let arrived = &mut self.arrived[route];
        if !self.scenario.joins(route) {
            arrived.take(run, record, &self.scenario);
            return;
        }
        let lines: Vec<&[u8]> = record.split(|byte| *byte == joined::SEPARATOR).collect();
        let ids = lines.iter().map(|line| arrived.take(run, line, &self.scenario)).collect();
        arrived.joined.take(&self.scenario, ids, now);
    }

    /// A record was acknowledged by the kernel of a receiver that will never read it.
    pub(super) fn never_read(&mut self, route: usize, record: &[u8]) {
        let lines = record.split(|byte| *byte == joined::SEPARATOR);
        for (id, text) in lines.filter_map(id_of) {
            match text.contains(" again ") {
                true => self.arrived[route].never_read_repeated += 1,
                false => drop(self.arrived[route].never_read.insert(id)),
            }
        }
    }

    /// The receiver of `route` answers for a record that it has stored.
    pub(super) fn answered(&mut self, route: usize) {
        self.arrived[route].answered += 1;
    }

    /// The program has done what the protocol of `route` forbids.
    pub(super) fn wrong(&mut self, route: usize, what: &str) {
        self.arrived[route].wrong.push(format!("route {route}: {what}"));
    }

    /// The lines of a source before this one are not asked for.
    pub(super) fn wanted_from(&mut self, (container, source, number): LineId) {
        self.wanted_from.insert((container, source), number);
    }

    /// A line may arrive in parts, or a part of it only.
    pub(super) fn torn(&mut self, line: LineId) {
        self.torn.insert(line);
    }

    /// A line has left the log.
    pub(super) fn rotated(&mut self, line: LineId) {
        self.rotated.insert(line);
    }

    /// Compares what arrived on a route with what was written; `totals` is what the program says
    /// of it.
    pub(super) fn check(
        &self,
        route: usize,
        daemon: &Daemon,
        totals: &RouteTotals,
        sum: &mut Sum,
    ) -> Vec<String> {
        let (arrived, scenario) = (&self.arrived[route], &self.scenario);
        // Where the log lost lines before they were read, the seam is a guess, and is said to be.
        let guessed = sum.unsure > 0 && !self.rotated.is_empty();
        let mut complaints = arrived.wrong.clone();
        let (said, answered) = (totals.delivered_lines, arrived.answered);
        if scenario.relp[route] && said > answered {
            complaints.push(format!("route {route}: {said} delivered, {answered} answered"));
        }
        if !guessed {
            // What was in memory when the program was killed comes behind what was in the spool.
            let spooled = scenario.spool > 0 && sum.crashes > 0;
            let in_order = !(scenario.relp[route] && scenario.any_order || spooled);
            complaints.extend(arrived.disorder.iter().filter(|_| in_order).cloned());
            complaints.extend(arrived.check_strays(route, &self.torn, scenario));
        }
        let (mut lost, mut unread) = (Vec::new(), Vec::new());
        let (mut doubled, mut twice) = (0, Vec::new());
        for (container, c) in daemon.containers.iter().enumerate() {
            for source in 0..2 {
                let from = self.wanted_from.get(&(container, source)).copied().unwrap_or(0);
                let wanted = (from..c.next[source]).map(|number| (container, source, number));
                if repeats(scenario, container) {
                    let wanted = wanted.count() as u64;
                    let kept = totals.dropped() == 0 && !guessed;
                    let lost = self.check_repeated(route, (container, source), wanted, sum);
                    complaints.extend(lost.filter(|_| kept));
                    continue;
                }
                for line in wanted.filter(|&id| scenario.keeps(route, &text(scenario, id))) {
                    sum.wanted += 1;
                    let seen = arrived.seen.get(&line).copied().unwrap_or(0);
                    sum.arrived += seen.min(1);
                    doubled += seen.saturating_sub(1);
                    if seen > 1 {
                        twice.push(line);
                    }
                    if seen > 0 || self.torn.contains(&line) {
                        continue;
                    }
                    match arrived.never_read.contains(&line) {
                        true => sum.never_read += 1,
                        false if self.rotated.contains(&line) => unread.push(line),
                        false => lost.push(line),
                    }
                }
            }
        }
        sum.doubled += doubled;
        let dropped = totals.dropped();
        let sure = !guessed && self.rotated.is_empty() && sum.unsure + sum.crashes == 0;
        complaints.extend(arrived.joined.check(scenario, &self.streams, &self.torn, sure));
        sum.rotated += unread.len() as u64;
        if !unread.is_empty() && dropped == 0 && sum.unsure + sum.gaps == 0 {
            let (n, some) = (unread.len(), &unread[..unread.len().min(10)]);
            complaints.push(format!("{n} lines left the log unread, and nothing said: {some:?}"));
        }
        sum.dropped += dropped;
        let records: BTreeSet<LineId> =
            lost.iter().map(|id| joined::first_of(scenario, route, *id)).collect();
        if records.len() as u64 > dropped {
            let (n, some) = (lost.len(), &lost[..lost.len().min(10)]);
            complaints.push(format!("route {route}: {n} lines lost, {dropped} dropped: {some:?}"));
        }
        // What was delivered before a crash and not written down is read again.
        if scenario.joins(route) {
            doubled = arrived.joined.doubled;
        }
        if doubled > totals.resent_lines && sum.unsure + sum.crashes == 0 {
            let resent = totals.resent_lines;
            let some = &twice[..twice.len().min(10)];
            complaints.push(format!(
                "route {route}: {doubled} came again, {resent} sent again: {some:?}"
            ));
        }
        complaints
    }

    /// Of lines that repeat only their number and their order tell.
    fn check_repeated(
        &self,
        route: usize,
        source: (usize, usize),
        wanted: u64,
        sum: &mut Sum,
    ) -> Option<String> {
        let arrived = &self.arrived[route];
        let lines = arrived.repeated.get(&source).map_or(&[][..], Vec::as_slice);
        let n = lines.len() as u64;
        sum.wanted += wanted;
        sum.arrived += n.min(wanted);
        let excused = arrived.never_read_repeated
            + self.torn.iter().filter(|id| (id.0, id.1) == source).count() as u64
            + self.rotated.iter().filter(|id| (id.0, id.1) == source).count() as u64;
        (n + excused < wanted).then(|| {
            format!("route {route}: of {wanted} lines of {source:?}, {n} came (repeating)")
        })
    }
}

impl Arrived {
    /// Takes a line of a run of the program. Returns which one it is, if it is whole, and whether it
    /// came before.
    fn take(&mut self, run: u64, record: &[u8], scenario: &Scenario) -> Option<(LineId, bool)> {
        let whole = id_of(record).filter(|&(id, found)| found == text(scenario, id));
        let Some((id, text)) = whole else {
            self.strays.push(record.to_vec());
            return None;
        };
        let source = (id.0, id.1);
        if text.contains(" again ") {
            self.repeated.entry(source).or_default().push(id.2);
            return Some((id, false));
        }
        let times = self.seen.entry(id).or_default();
        *times += 1;
        let before = *times > 1;
        if !self.came.insert((run, id)) {
            return Some((id, before));
        }
        let newest = self.newest.insert((run, source.0, source.1), id);
        if newest.is_some_and(|newest| newest > id) {
            self.disorder.push(format!("line {id:?} came after {newest:?} in run {run}"));
        }
        Some((id, before))
    }

    /// Records that are no line are parts of one that may be torn.
    fn check_strays(
        &self,
        route: usize,
        torn: &BTreeSet<LineId>,
        scenario: &Scenario,
    ) -> Vec<String> {
        let texts: Vec<String> = torn.iter().map(|id| written(scenario, *id)).collect();
        let is_part = |record: &[u8]| {
            let record = String::from_utf8_lossy(record);
            let part = record.rsplit(" - - ").next().unwrap_or_default();
            // In the log of a terminal nothing tells the time of a message from the text before.
            let timed = part.find("2023-11-").map(|at| (&part[..at], part.get(at + 31..)));
            let (one, other) = timed.unwrap_or((part, None));
            let is_in = |part: &str| {
                let part = part.trim_end_matches('\r'); // a terminal's; a line may be torn behind it
                texts.iter().any(|text| text.contains(part))
            };
            is_in(one) && other.is_none_or(is_in)
        };
        let strange = self.strays.iter().filter(|record| !is_part(record));
        strange.map(|record| format!("route {route}: no line: {}", shown(record))).collect()
    }
}

impl std::ops::Add for Sum {
    type Output = Sum;

    fn add(self, other: Sum) -> Sum {
        Sum {
            wanted: self.wanted + other.wanted,
            arrived: self.arrived + other.arrived,
            doubled: self.doubled + other.doubled,
            never_read: self.never_read + other.never_read,
            rotated: self.rotated + other.rotated,
            dropped: self.dropped + other.dropped,
            unsure: self.unsure + other.unsure,
            gaps: self.gaps + other.gaps,
            crashes: self.crashes + other.crashes,
        }
    }
}

/// A record for a message: its ends and its length.
fn shown(record: &[u8]) -> String {
    let edge = record.len().min(60);
    let (head, tail) = (&record[..edge], &record[record.len() - edge.min(30)..]);
    format!("{} … {} ({} bytes)", head.escape_ascii(), tail.escape_ascii(), record.len())
}
