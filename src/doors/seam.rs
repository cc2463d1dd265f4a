//! The seam between the two doors of Docker: where `logs` ends and `attach` goes on.
//!
//! `attach` gives a container's bytes from some moment on, even from the middle of a line, and
//! without times. `logs` gives what came before, in messages with the daemon's timestamps, and
//! lags behind. After an attach got in place the driver reads `logs` and delivers every message
//! at once, while a [`Seam`] holds what attach brings. The seam finds the place in the log where
//! the attach bytes begin; what is left of them then continues the log without loss, without
//! duplicates, and in the middle of a line if need be.
//!
//! For each source, `S` are the bytes that were delivered from the log and `A` those that attach
//! brought, both in the projection of [`overlap`]. The *start* is the place in `S` where `A`
//! begins. What is known of it:
//!
//! * **Content.** `S` from the start on and `A` agree as far as both reach.
//! * **Not before the request.** The log stamps a line after it was sent to attach, so a line
//!   stamped before the attach request cannot be in `A`. (The parts of a line of more than 16 KiB
//!   share the stamp of the first; the later ones may well be in `A`.)
//! * **What attach brought is in the log, after a while.** A pass that begins [`SeamConfig::lag`]
//!   after a line arrived by attach has that line.
//! * **What is in the log comes by attach, after a while**: [`SeamConfig::arrival`].
//!
//! As long as several starts are possible, the seam reads and waits. When it may wait no longer it
//! takes the *last* one, the smallest overlap: lines may then come twice, but none is lost, and
//! the verdict is [`Verdict::Unsure`].
//!
//! Pure: it does no I/O and reads no clock. `now` and timestamps are nanoseconds since 1970 by
//! the daemon's clock, as well as the driver knows it; `now` never goes back.

use std::collections::VecDeque;
use std::time::Duration;

use super::overlap;
use crate::docker::Source;

/// What Docker cuts a long line into: a message without its `\n` and at least this long is
/// continued by the next one. Bytes.
const PART: usize = 16 * 1024;

/// Longest run of non-ASCII bytes at the end of the log that is paired with attach, in bytes.
const RUN_LIMIT: usize = 64 * 1024;

/// Attach bytes that arrived within this time of each other count as arrived together. Nanos.
const MARK_NANOS: u64 = 10_000_000;

/// While waiting for attach, the bytes are compared again at most this often, or when they have
/// doubled. Nanos.
const LOOK_NANOS: u64 = 20_000_000;

/// What grows beyond so many bytes gets all the room it may ever need: pages that nobody touches
/// cost nothing, and a copy of twice the size costs both.
const LARGE: usize = 1 << 20;

/// The waits before further passes.
const BACKOFF_MILLIS: [u64; 5] = [5, 20, 50, 100, 200];

/// When the attach was made, and how patient the seam is.
#[derive(Clone, Debug)]
pub struct SeamConfig {
    /// Just before the attach request was sent. Nanoseconds since 1970, daemon's clock.
    pub requested_at: u64,
    /// When the head of the answer had come: the attach was in place by then. Same clock.
    pub attached_at: u64,
    /// How far `requested_at` may be off from the clock that stamps the log.
    pub slack: Duration,
    /// A line is in the log at most this long after attach brought it (measured: 100 ms).
    pub lag: Duration,
    /// A line comes by attach at most this long after a pass showed it.
    pub arrival: Duration,
    /// How long to wait for certainty after the first pass that could have given it.
    pub patience: Duration,
    /// Limit of the bytes that are held: what attach brought, and the log's text that may overlap
    /// with it, both sources together. It should hold twice what the container writes in `lag` and
    /// two passes.
    pub limit: usize,
}

impl SeamConfig {
    /// A configuration with the default waits.
    pub fn new(requested_at: u64, attached_at: u64, slack: Duration, limit: usize) -> SeamConfig {
        SeamConfig {
            requested_at,
            attached_at,
            slack,
            lag: Duration::from_millis(150),
            arrival: Duration::from_millis(250),
            patience: Duration::from_secs(3),
            limit,
        }
    }
}

/// What is to be held does not fit [`SeamConfig::limit`]; nothing is held any more. The driver lets
/// the attach go, reads on in `logs`, attaches anew and calls [`Seam::renew`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// What the driver does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Wait this long, then run another `logs` pass from the cursor.
    ReadOn {
        /// The wait before the pass.
        after: Duration,
    },
    /// Attach is behind the log: [`Seam::poll`] when it has brought more, or after this time.
    WaitAttach {
        /// The longest wait.
        at_most: Duration,
    },
    /// The place is known: go on with [`Seam::rest`], then with attach.
    Joined,
    /// As `Joined`, but the place is a guess: some lines may come twice. To be counted.
    Unsure,
}

/// What is left to deliver of the held attach bytes of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest<'a> {
    /// The log ended with a line whose `\n` it omitted: deliver one before `bytes`, and if
    /// `bytes` is empty before what attach brings next.
    pub newline_first: bool,
    /// The attach bytes that the log has not delivered.
    pub bytes: &'a [u8],
}

/// The attach bytes of one source.
#[derive(Debug, Default)]
struct Live {
    raw: Vec<u8>,
    /// Projected length of `raw`, and of its whole lines.
    len: usize,
    lines: usize,
    /// (first arrival, last arrival, `lines` then), ascending.
    marks: VecDeque<(u64, u64, usize)>,
    /// When the last of it arrived.
    last: u64,
    /// A projected prefix that the last whole pass must have had, and the running pass will.
    covered: usize,
    covering: usize,
    /// It is all, non-ASCII bytes included, and no more will come.
    covered_all: bool,
    covering_all: bool,
}

impl Live {
    fn push(&mut self, bytes: &[u8], now: u64) {
        if let Some(newline) = memchr::memrchr(b'\n', bytes) {
            self.lines = self.len + overlap::projected_len(&bytes[..=newline]);
            match self.marks.back_mut() {
                Some((first, last, lines)) if now.saturating_sub(*first) < MARK_NANOS => {
                    (*last, *lines) = (now, self.lines);
                }
                _ => self.marks.push_back((now, now, self.lines)),
            }
        }
        self.raw.extend_from_slice(bytes);
        self.len += overlap::projected_len(bytes);
        self.last = now;
    }

    /// A pass begins that has all that arrived until `known`.
    fn cover(&mut self, known: u64, all: bool) {
        while let Some(&(_, last, lines)) = self.marks.front()
            && last <= known
        {
            self.covering = lines;
            self.marks.pop_front();
        }
        if all {
            self.covering = self.len;
        }
        self.covering_all = all;
    }

    /// Whether the log must have a whole line of these; the first may be the rest of one.
    fn covers_a_line(&self) -> bool {
        memchr::memchr_iter(b'\n', self.begin(self.covered)).nth(1).is_some()
    }

    /// The first bytes, those whose projection has a length of at most `len`.
    fn begin(&self, len: usize) -> &[u8] {
        &self.raw[..overlap::behind_ascii(&self.raw, len)]
    }
}

/// The delivered messages of one source.
#[derive(Debug, Default)]
struct Log {
    /// Projected length of all that was delivered.
    seen: u64,
    /// The end of it, from `from` on: what may be in the attach bytes too.
    kept: Vec<u8>,
    /// `None`: nothing yet may be in the attach bytes.
    from: Option<u64>,
    /// `from` is a further part of a line; what follows that line decides whether it holds.
    provisional: bool,
    /// Timestamp of the last message, its length, and whether it lacked its `\n`.
    last: Option<(u64, usize)>,
    open: bool,
    /// The non-ASCII bytes at the very end.
    run: Vec<u8>,
    /// All before this must have come by attach; the same for a later place and time.
    settled: u64,
    unsettled: Option<(u64, u64)>,
}

impl Log {
    /// Takes a message; `true` if a `\n` belongs before it. It may be in the attach bytes if it
    /// is stamped at or after `bound`; with `None` that is of no interest any more.
    fn push(&mut self, ts: u64, bytes: &[u8], bound: Option<u64>) -> bool {
        let same_stamp = self.last.is_some_and(|(last, _)| last == ts);
        let continues = self.open && same_stamp;
        let newline_first = self.open && !same_stamp;
        if newline_first {
            self.append(b"\n");
        }
        if let Some(bound) = bound {
            // The first message may be a further part: what came before it was not for us.
            self.bound(ts, continues || self.last.is_none(), bound);
        }
        self.append(bytes);
        // An empty message is the last part of an open line, without its `\n`, or nothing at all.
        self.open = bytes.last().map_or(self.open && !newline_first, |last| *last != b'\n');
        self.last = Some((ts, bytes.len()));
        newline_first
    }

    /// Moves `from` by the stamp of the message that comes next.
    fn bound(&mut self, ts: u64, continues: bool, bound: u64) {
        // A clock that was set back says nothing any more about before and after.
        let stepped = self.last.is_some_and(|(last, _)| ts < last);
        if ts >= bound || stepped {
            self.from.get_or_insert(self.seen);
            self.provisional = false;
        } else if continues {
            self.provisional |= self.from.is_none();
            self.from.get_or_insert(self.seen);
        } else if self.provisional {
            self.forget();
        }
    }

    fn forget(&mut self) {
        (self.from, self.provisional) = (None, false);
        self.kept = Vec::new();
    }

    /// The same place in the log, and nothing known of attach.
    fn renew(&mut self) -> Log {
        let run = std::mem::take(&mut self.run);
        Log { last: self.last, open: self.open, run, ..Log::default() }
    }

    fn append(&mut self, bytes: &[u8]) {
        self.seen += overlap::projected_len(bytes) as u64;
        if self.from.is_some() {
            overlap::project(bytes, &mut self.kept);
        }
        match bytes.iter().rposition(u8::is_ascii) {
            Some(ascii) => {
                self.run.clear();
                self.run.extend_from_slice(&bytes[ascii + 1..]);
            }
            // A run that is cut short pairs with nothing, and so drops nothing of attach.
            None if self.run.len() + bytes.len() > RUN_LIMIT => self.run.clear(),
            None => self.run.extend_from_slice(bytes),
        }
    }

    fn pass_ended(&mut self, now: u64) {
        self.unsettled.get_or_insert((self.seen, now));
    }

    /// Moves `settled` on: what a pass had shown `arrival` ago must have come by attach.
    fn settle(&mut self, now: u64, arrival: u64, last_pass: u64) {
        while let Some((place, shown)) = self.unsettled {
            if now < shown.saturating_add(arrival) {
                return;
            }
            self.settled = place;
            self.unsettled = (place < self.seen).then_some((self.seen, last_pass));
        }
    }

    /// It ends with a line that is finished, but whose `\n` the log omitted.
    fn lacks_newline(&self) -> bool {
        self.open && self.last.is_some_and(|(_, len)| len < PART)
    }
}

/// The possible starts under some conditions.
struct Starts {
    count: usize,
    last: u64,
}

/// What all sources have in common when a verdict is due.
struct Moment {
    now: u64,
    /// [`SeamConfig::arrival`].
    arrival: u64,
    /// A whole pass began late enough to have all that came before the attach.
    sure: bool,
    /// The patience has ended.
    late: bool,
    /// The room for attach bytes is running out.
    pressed: bool,
    /// Attach will bring no more.
    ended: bool,
    /// When attach bytes are given up that the log has shown.
    overdue: u64,
}

/// What one source needs.
enum Step {
    Read,
    /// Until this time.
    Wait(u64),
    Done,
}

#[derive(Debug, Default)]
struct Side {
    live: Live,
    log: Log,
    /// The start, once decided: a place in the log's projection.
    start: Option<u64>,
    unsure: bool,
}

impl Side {
    /// The starts that content allows, and `accept`.
    fn starts(&self, accept: impl Fn(u64) -> bool) -> Starts {
        let from = self.log.from.unwrap_or(self.log.seen);
        let begin = self.live.begin(self.log.kept.len());
        let pattern = begin.iter().copied().filter(u8::is_ascii);
        let mut starts = Starts { count: 0, last: 0 };
        overlap::alignments(pattern, &self.log.kept, |at| {
            let place = from + at as u64;
            if accept(place) {
                starts = Starts { count: starts.count + 1, last: place };
            }
        });
        starts
    }

    fn step(&mut self, at: &Moment) -> Step {
        let possible = if self.start.is_none() { self.decide(at) } else { 1 };
        let shown = match self.start {
            Some(start) => start + self.live.len as u64 >= self.log.seen || at.ended,
            None => return self.undecided(at, possible),
        };
        if shown {
            Step::Done
        } else if at.now >= at.overdue {
            self.unsure = true;
            Step::Done
        } else {
            Step::Wait(at.overdue)
        }
    }

    fn undecided(&self, at: &Moment, possible: usize) -> Step {
        match self.log.unsettled {
            // The log has all of attach: only attach itself can tell.
            Some((_, shown)) if at.sure && possible > 1 && self.live.covered == self.live.len => {
                Step::Wait(shown.saturating_add(at.arrival))
            }
            _ => Step::Read,
        }
    }

    /// Decides on the start if it can, and says how many are possible.
    fn decide(&mut self, at: &Moment) -> usize {
        if !at.sure {
            return 0;
        }
        let (covered, len) = (self.live.covered as u64, self.live.len as u64);
        // The log may yet owe the `\n` of its last line.
        let owes = self.log.open && covered <= self.live.lines as u64;
        let end = self.log.seen + u64::from(owes);
        let settled = if at.ended { 0 } else { self.log.settled };
        let starts = self.starts(|start| start + covered <= end && start + len >= settled);
        let attach_is_empty = self.live.raw.is_empty();
        if starts.count == 1 && (covered > 0 || attach_is_empty) {
            self.start = Some(starts.last);
        } else if at.ended && self.live.covered_all && starts.count > 0 {
            self.start = Some(starts.last); // the log has all of it, whichever start it is
        } else if starts.count > 0 && (at.late || (at.pressed && self.live.covers_a_line())) {
            self.start = Some(starts.last);
            self.unsure = true;
        } else if at.late {
            self.start = Some(self.log.seen); // the log lost lines, or lags for seconds
            self.unsure = true;
        }
        if self.start.is_some() {
            self.log.forget();
        }
        starts.count
    }

    fn rest(&self, ended: bool) -> Rest<'_> {
        let start = self.start.unwrap_or(self.log.seen);
        let taken = usize::try_from(self.log.seen.saturating_sub(start)).unwrap_or(usize::MAX);
        if taken == 0 {
            let mut bytes = &self.live.raw[..];
            if self.live.covered_all && !self.unsure && !self.log.run.is_empty() {
                // Nothing but these bytes can be in both, and the log has all that attach had.
                let ascii = bytes.iter().position(u8::is_ascii).unwrap_or(bytes.len());
                bytes = &bytes[ascii..];
            }
            let continues = bytes.first() == Some(&b'\n') || (bytes.is_empty() && ended);
            let newline_first = self.log.lacks_newline() && !continues;
            return Rest { newline_first, bytes };
        }
        if taken > self.live.len {
            return Rest { newline_first: false, bytes: &[] };
        }
        let (_, rest) = self.live.raw.split_at(overlap::behind_ascii(&self.live.raw, taken));
        let (same, _) = overlap::pair(rest, &self.log.run);
        Rest { newline_first: false, bytes: rest.get(same..).unwrap_or_default() }
    }
}

/// The state of one container's hand-over from `logs` to `attach`; see the module.
///
/// The driver's loop: [`Seam::attach`] with whatever comes, at any time; [`Seam::pass_begins`],
/// [`Seam::logged`] for each message it delivers, [`Seam::pass_ended`]; then as the [`Verdict`]
/// says. After `Joined` or `Unsure` it delivers [`Seam::rest`] of both sources and drops the seam.
#[derive(Debug)]
pub struct Seam {
    config: SeamConfig,
    sides: [Side; 2],
    ended_at: Option<u64>,
    /// When the running pass began; when the last whole one ended.
    pass: Option<u64>,
    last_pass: u64,
    sure: bool,
    /// Until when certainty is awaited; known after the first pass that could give it.
    patient_until: Option<u64>,
    passes: usize,
    /// More was to be held than may be.
    full: bool,
    /// The last verdict, when it was found, when it ends, and with how many attach bytes.
    verdict: Verdict,
    looked_at: u64,
    until: u64,
    looked_len: usize,
}

impl Seam {
    /// A seam for an attach that is in place; the first pass is due at once.
    pub fn new(config: SeamConfig) -> Seam {
        let now = config.attached_at;
        Seam {
            config,
            sides: Default::default(),
            ended_at: None,
            pass: None,
            last_pass: now,
            sure: false,
            patient_until: None,
            passes: 0,
            full: false,
            verdict: Verdict::ReadOn { after: Duration::ZERO },
            looked_at: now,
            until: now,
            looked_len: 0,
        }
    }

    /// Another attach took the place of the first: what the first brought is dropped, and the
    /// log goes on where it was. Not during a pass.
    pub fn renew(&mut self, config: SeamConfig) {
        let logs = self.sides.each_mut().map(|side| side.log.renew());
        *self = Seam::new(config);
        for (side, log) in self.sides.iter_mut().zip(logs) {
            side.log = log;
        }
    }

    /// Holds what attach brought.
    ///
    /// # Errors
    /// [`Full`]: see [`Seam::let_go`].
    pub fn attach(&mut self, source: Source, bytes: &[u8], now: u64) -> Result<(), Full> {
        if self.full || self.size().saturating_add(bytes.len()) > self.config.limit {
            self.let_go();
            return Err(Full);
        }
        let live = &mut self.sides[source as usize].live;
        grow(&mut live.raw, bytes.len(), self.config.limit);
        live.push(bytes, now);
        Ok(())
    }

    /// Lets go of all that is held: it cannot join any more before it is renewed. It still takes
    /// messages.
    pub fn let_go(&mut self) {
        self.full = true;
        for side in &mut self.sides {
            side.live = Live::default();
            side.log.forget();
        }
    }

    /// Whether more was to be held than may be: by attach, or by the log.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// The container's output has ended (not just the connection: then the driver starts anew).
    pub fn attach_ended(&mut self, now: u64) {
        self.ended_at.get_or_insert(now);
        self.until = now; // a final answer is worth another look
    }

    /// A `logs` pass is requested now.
    pub fn pass_begins(&mut self, now: u64) {
        self.pass = Some(now);
        let known = now.saturating_sub(nanos(self.config.lag));
        let all = self.ended_at.is_some_and(|ended| ended <= known);
        for side in &mut self.sides {
            side.live.covering = side.live.covered;
            side.live.cover(known, all);
        }
    }

    /// A message of a pass that the driver delivers, an empty one too; `true` if it must deliver
    /// a `\n` before it, because the log omitted that of the line before (20.10's `local` driver
    /// does after a line of more than 16 KiB, and a container may have ended within a line).
    #[must_use]
    pub fn logged(&mut self, source: Source, ts: u64, bytes: &[u8]) -> bool {
        let bound = self.config.requested_at.saturating_sub(nanos(self.config.slack));
        let side = &mut self.sides[source as usize];
        let before = side.log.seen;
        grow(&mut side.log.kept, bytes.len(), self.config.limit);
        let wanted = side.start.is_none() && !self.full;
        let newline_first = side.log.push(ts, bytes, wanted.then_some(bound));
        // That `\n` was written before the attach if the attach begins behind it.
        if newline_first && side.start == Some(before) && side.live.raw.first() != Some(&b'\n') {
            side.start = Some(before + 1);
        }
        if self.size() > self.config.limit {
            self.let_go();
        }
        newline_first
    }

    /// The pass was read to its end.
    pub fn pass_ended(&mut self, now: u64) -> Verdict {
        let known = self.pass.take().unwrap_or(0).saturating_sub(nanos(self.config.lag));
        self.sure |= known >= self.config.attached_at;
        self.last_pass = now;
        for side in &mut self.sides {
            side.live.covered = side.live.covering;
            side.live.covered_all = side.live.covering_all;
            side.log.pass_ended(now);
        }
        if self.sure {
            let patience = nanos(self.config.patience);
            self.patient_until.get_or_insert(now.saturating_add(patience));
        }
        self.look(now)
    }

    /// The pass broke off: what was delivered is, but it proves nothing about the rest.
    pub fn pass_broken(&mut self, now: u64) -> Verdict {
        self.pass = None;
        self.look(now)
    }

    /// The verdict at this time; cheap as long as nothing can have changed. During a pass, the
    /// pass is to be read on.
    pub fn poll(&mut self, now: u64) -> Verdict {
        if self.pass.is_some() {
            return Verdict::ReadOn { after: Duration::ZERO };
        }
        match self.verdict {
            Verdict::Joined | Verdict::Unsure => self.verdict,
            Verdict::ReadOn { .. } => {
                Verdict::ReadOn { after: Duration::from_nanos(self.until.saturating_sub(now)) }
            }
            Verdict::WaitAttach { .. } => {
                let grown = self.held() > self.looked_len;
                let again = self.looked_at.saturating_add(LOOK_NANOS);
                let doubled = grown && self.held() >= self.looked_len.saturating_mul(2);
                if now >= self.until || doubled || (grown && now >= again) {
                    return self.look(now);
                }
                let until = if grown { self.until.min(again) } else { self.until };
                Verdict::WaitAttach { at_most: Duration::from_nanos(until - now) }
            }
        }
    }

    /// What of `source` is left to deliver; meaningful after `Joined` or `Unsure`.
    pub fn rest(&self, source: Source) -> Rest<'_> {
        self.sides[source as usize].rest(self.ended_at.is_some())
    }

    /// All the attach bytes of `source` that are held, for where there is no log to join.
    pub fn held_bytes(&self, source: Source) -> &[u8] {
        &self.sides[source as usize].live.raw
    }

    /// When the last attach bytes of `source` arrived that are held, if any are.
    pub fn arrived(&self, source: Source) -> Option<u64> {
        let live = &self.sides[source as usize].live;
        (!live.raw.is_empty()).then_some(live.last)
    }

    /// The attach bytes that are held, both sources.
    pub fn held(&self) -> usize {
        self.sides.iter().map(|side| side.live.raw.len()).sum()
    }

    /// All the bytes that are held: those of attach, and of the log.
    pub fn size(&self) -> usize {
        self.held() + self.sides.iter().map(|side| side.log.kept.len()).sum::<usize>()
    }

    fn look(&mut self, now: u64) -> Verdict {
        let held = self.held();
        let moment = Moment {
            now,
            arrival: nanos(self.config.arrival),
            sure: self.sure,
            late: self.patient_until.is_some_and(|until| now >= until),
            pressed: self.size() > self.config.limit / 2,
            ended: self.ended_at.is_some(),
            overdue: self.last_pass.saturating_add(nanos(self.config.patience)),
        };
        let (mut read, mut wait) = (false, None::<u64>);
        for side in &mut self.sides {
            side.log.settle(now, moment.arrival, self.last_pass);
            match side.step(&moment) {
                Step::Done => {}
                Step::Read => read = true,
                Step::Wait(until) => wait = Some(wait.unwrap_or(until).min(until)),
            }
        }
        (self.looked_at, self.looked_len) = (now, held);
        self.verdict = match wait {
            _ if read => self.read_on(now),
            Some(until) => {
                self.until = until;
                Verdict::WaitAttach { at_most: Duration::from_nanos(until.saturating_sub(now)) }
            }
            None if self.sides.iter().any(|side| side.unsure) => Verdict::Unsure,
            None => Verdict::Joined,
        };
        self.verdict
    }

    /// Before a pass can be sure, wait for that; then ever longer.
    fn read_on(&mut self, now: u64) -> Verdict {
        let sure_from = self.config.attached_at.saturating_add(nanos(self.config.lag));
        self.until = if self.sure {
            let millis = BACKOFF_MILLIS[self.passes.min(BACKOFF_MILLIS.len() - 1)];
            self.passes += 1;
            now.saturating_add(millis * 1_000_000)
        } else {
            sure_from.max(now)
        };
        Verdict::ReadOn { after: Duration::from_nanos(self.until - now) }
    }
}

/// Makes room for `more` in what may have a length of `limit`.
fn grow(bytes: &mut Vec<u8>, more: usize, limit: usize) {
    let len = bytes.len() + more;
    if len > bytes.capacity() && len > LARGE {
        bytes.reserve_exact(limit.max(len) - bytes.len());
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    //! Single situations; `tests/seam.rs` has the simulated daemon.

    use super::*;

    const MS: u64 = 1_000_000;
    const OUT: Source = Source::Stdout;

    /// Times are milliseconds after the attach request, which got in place at once.
    fn at(millis: u64) -> u64 {
        1_000_000_000 * MS + millis * MS
    }

    fn seam(limit: usize) -> Seam {
        Seam::new(SeamConfig::new(at(0), at(0), Duration::from_millis(5), limit))
    }

    fn pass(seam: &mut Seam, begin: u64, messages: &[(u64, &str)]) -> Verdict {
        seam.pass_begins(at(begin));
        for (ts, bytes) in messages {
            assert!(!seam.logged(OUT, *ts, bytes.as_bytes()));
        }
        seam.pass_ended(at(begin + 1))
    }

    fn millis(verdict: Verdict) -> Option<u128> {
        match verdict {
            Verdict::ReadOn { after } => Some(after.as_millis()),
            _ => None,
        }
    }

    fn rest(seam: &Seam) -> (bool, &[u8]) {
        let rest = seam.rest(OUT);
        (rest.newline_first, rest.bytes)
    }

    #[test]
    fn a_quiet_container_joins_at_the_first_sure_pass() {
        let mut seam = seam(1000);
        let old = at(0) - 3_600_000 * MS;
        assert_eq!(millis(pass(&mut seam, 1, &[(old, "a\n"), (old, "a\n")])), Some(148));
        assert_eq!(millis(seam.poll(at(100))), Some(50));
        assert_eq!(pass(&mut seam, 150, &[]), Verdict::Joined);
        assert_eq!(rest(&seam), (false, &b""[..]));
    }

    #[test]
    fn a_line_before_the_request_is_not_the_same_line_after_it() {
        let mut seam = seam(1000);
        pass(&mut seam, 1, &[(at(0) - 6 * MS, "x\n")]);
        assert!(seam.attach(OUT, b"x\n", at(120)).is_ok());
        // The log does not have the second yet: the first one must not be taken for it.
        assert!(millis(pass(&mut seam, 151, &[])).is_some());
        assert!(seam.attach(OUT, b"y\n", at(152)).is_ok());
        assert_eq!(
            pass(&mut seam, 400, &[(at(121), "x\n")]),
            Verdict::ReadOn { after: Duration::from_millis(20) }
        );
        assert_eq!(pass(&mut seam, 420, &[(at(130), "y\n")]), Verdict::Joined);
        assert_eq!(rest(&seam), (false, &b""[..]));
    }

    #[test]
    fn attach_may_be_behind_the_log() {
        let mut seam = seam(1000);
        pass(&mut seam, 1, &[(at(1), "1\n")]);
        let verdict = pass(&mut seam, 151, &[(at(100), "2\n"), (at(140), "3\n")]);
        // The first pass showed a line at 2 ms; it has 250 ms to come.
        assert_eq!(verdict, Verdict::WaitAttach { at_most: Duration::from_millis(100) });
        assert!(seam.attach(OUT, b"\n", at(160)).is_ok());
        assert!(seam.attach(OUT, b"3\n4", at(160)).is_ok());
        let verdict = seam.poll(at(160));
        assert!(millis(verdict).is_some(), "a line must be covered: {verdict:?}");
        assert_eq!(pass(&mut seam, 311, &[]), Verdict::Joined);
        assert_eq!(rest(&seam), (false, &b"4"[..]));
    }

    #[test]
    fn what_the_log_showed_and_attach_never_brought_was_before() {
        let mut seam = seam(1000);
        let verdict = pass(&mut seam, 151, &[(at(1), "1\n")]);
        assert_eq!(verdict, Verdict::WaitAttach { at_most: Duration::from_millis(250) });
        assert_eq!(seam.poll(at(402)), Verdict::Joined);
    }

    #[test]
    fn patience_ends_in_duplicates_not_in_loss() {
        let mut seam = seam(1000);
        assert!(seam.attach(OUT, b"lost by the log\n", at(1)).is_ok());
        let (mut now, mut verdict) = (1, pass(&mut seam, 1, &[(at(1), "other\n")]));
        while let Some(after) = millis(verdict) {
            now += 1 + after as u64;
            verdict = pass(&mut seam, now, &[]);
            assert!(now < 4000);
        }
        assert_eq!(verdict, Verdict::Unsure);
        assert!(now > 3000);
        assert_eq!(rest(&seam), (false, &b"lost by the log\n"[..]));
    }

    #[test]
    fn a_broken_pass_proves_nothing() {
        let mut seam = seam(1000);
        seam.pass_begins(at(200));
        assert!(millis(seam.poll(at(200))).is_some());
        assert!(millis(seam.pass_broken(at(201))).is_some());
        assert_eq!(pass(&mut seam, 202, &[]), Verdict::Joined);
    }

    #[test]
    fn too_much_is_refused_whole() {
        let mut seam = seam(4);
        assert_eq!(seam.attach(OUT, b"abc", at(1)), Ok(()));
        assert_eq!(seam.attach(Source::Stderr, b"de", at(1)), Err(Full));
        assert_eq!(seam.attach(OUT, b"f", at(1)), Err(Full));
        assert_eq!((seam.size(), rest(&seam)), (0, (false, &b""[..])));
        seam.renew(SeamConfig::new(at(9), at(9), Duration::ZERO, 4));
        assert_eq!(seam.held(), 0);
    }

    #[test]
    fn the_log_that_is_kept_is_bounded() {
        let mut seam = seam(100);
        assert!(seam.attach(OUT, b"0123456789\n", at(1)).is_ok());
        seam.pass_begins(at(1));
        for line in 0..10_000 {
            assert!(!seam.logged(OUT, at(1), b"0123456789\n"));
            let (full, size) = if line < 8 { (false, 11 * (line + 2)) } else { (true, 0) };
            assert_eq!((seam.is_full(), seam.size()), (full, size), "{line}");
        }
    }

    /// 20.10's `local` driver omits the `\n` of a line that it cut.
    #[test]
    fn an_omitted_newline_is_made_up_for() {
        let part = "p".repeat(PART);
        let log = [(at(0) - 900 * MS, &part[..]), (at(0) - 900 * MS, "end")];
        let mut joined = seam(100_000);
        pass(&mut joined, 1, &log);
        assert!(matches!(pass(&mut joined, 151, &[]), Verdict::WaitAttach { .. }));
        assert_eq!(joined.poll(at(252)), Verdict::Joined);
        assert_eq!(rest(&joined), (true, &b""[..]));

        let mut cut = seam(100_000);
        pass(&mut cut, 1, &log);
        assert!(cut.attach(OUT, b"d\nnext\n", at(2)).is_ok());
        cut.pass_begins(at(160));
        assert!(cut.logged(OUT, at(3), b"next\n"), "the log goes on with another line");
        assert_eq!(cut.pass_ended(at(161)), Verdict::Joined);
        assert_eq!(rest(&cut), (false, &b""[..]));

        let mut ended = seam(100_000);
        pass(&mut ended, 1, &log);
        assert!(ended.attach(OUT, b"end\n", at(2)).is_ok());
        ended.attach_ended(at(3));
        assert_eq!(pass(&mut ended, 160, &[]), Verdict::Joined);
        assert_eq!(rest(&ended), (false, &b"\n"[..]));
    }

    #[test]
    fn a_boundary_between_non_ascii_bytes() {
        let mut seam = seam(1000);
        assert!(seam.attach(OUT, b"a\nb\xff\xfe\xfd", at(1)).is_ok());
        seam.attach_ended(at(2));
        let verdict = pass(&mut seam, 160, &[(at(1), "a\n"), (at(2), "b\u{fffd}\u{fffd}")]);
        assert_eq!(verdict, Verdict::Joined);
        assert_eq!(rest(&seam), (false, &b"\xfd"[..]));
    }

    /// The same line for ever: no content can tell, so time does, and the verdict says so.
    #[test]
    fn a_container_that_repeats_itself_for_ever() {
        let mut seam = seam(1 << 20);
        let (mut verdict, mut passes) = (Verdict::ReadOn { after: Duration::ZERO }, 0);
        let mut next = 0;
        for now in 0..5000 {
            assert!(seam.attach(OUT, b"x\n", at(now)).is_ok());
            if now != next {
                continue;
            }
            seam.pass_begins(at(now));
            for line in passes..now.saturating_sub(50) {
                assert!(!seam.logged(OUT, at(line + 50), b"x\n"));
            }
            passes = passes.max(now.saturating_sub(50));
            verdict = seam.pass_ended(at(now));
            match millis(verdict) {
                Some(after) => next = now + 1 + after as u64,
                None => break,
            }
        }
        assert_eq!(verdict, Verdict::Unsure);
        let (attached, again) = (next + 1, rest(&seam).1.len() as u64 / 2);
        let twice = again + passes - attached;
        // The log is 50 lines behind, the seam assumes 150, and arrivals count in tens.
        assert!(twice <= 111, "{twice}");
    }
}
