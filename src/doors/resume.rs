//! Going on after a live stream was cut: what did the lines that attach gave us reach to?
//!
//! When an attach ends although its container lives on (the daemon restarted, the connection
//! broke, we let it go on purpose), all that is known of what was delivered are its last bytes and
//! when they came: the [`Tail`]. A `logs` pass from a moment before shows delivered messages
//! first, then lost ones. [`Resume`] finds the border and gives on what lies behind it, to be
//! delivered and to be told to the [`Seam`](super::seam::Seam) of the new attach.
//!
//! Time says what was surely delivered and what surely was not; the messages between are held
//! back, and content decides: the border is where the text of the log agrees with the tail. If
//! there are several such places, because lines repeat, the earliest is taken: lines may then come
//! twice, but none is lost. If there is none, all that was not surely delivered is.
//!
//! Of a container that writes much there may be more in doubt than may be held. Then the tail is
//! looked for in what goes by. If it is not found, the log is read once more, up to the last line
//! before it that was seen, and if there was none time alone decides.
//!
//! Pure: it does no I/O and reads no clock. `now` and timestamps are nanoseconds since 1970 by
//! the daemon's clock, as well as the driver knows it.

use std::time::Duration;

use super::mark::TEXT;
use super::overlap;
use crate::docker::Source;

/// A line is in the log, and stamped, at most this long after attach brought it (measured: 100 ms).
pub const LAG: Duration = Duration::from_millis(150);

/// How many delivered bytes a [`Tail`] remembers.
pub const TAIL: usize = 4096;

/// How much older than what is in doubt the first message of a resuming pass is: text to
/// recognise the border by. Nanos.
const MARGIN_NANOS: u64 = 1_000_000_000;

/// So many of the last delivered lines may be missing in the log.
const LOST_LINES: usize = 16;

/// So many bytes before these have to be there, for a place to be recognised by them.
const RECOGNISED: usize = 64;

/// What a held message costs beside its bytes.
const MESSAGE: usize = size_of::<Message>();

/// The last bytes that were delivered of one source, and when.
#[derive(Clone, Debug, Default)]
pub struct Tail {
    /// Grows to [`TAIL`] bytes, then turns: `at` is where the oldest byte is.
    ring: Vec<u8>,
    at: usize,
    last: u64,
}

impl Tail {
    /// Nothing delivered yet.
    pub fn new() -> Tail {
        Tail::default()
    }

    /// Notes delivered bytes. `at`: when they were read from attach; the timestamp for a message
    /// from the log. Allocates once, at the first call. Where there are none nothing has come then.
    pub fn note(&mut self, bytes: &[u8], at: u64) {
        if bytes.is_empty() {
            return;
        }
        self.last = at;
        let bytes = &bytes[bytes.len().saturating_sub(TAIL)..];
        if self.ring.capacity() == 0 {
            self.ring.reserve_exact(TAIL);
        }
        let (fill, turn) = bytes.split_at(bytes.len().min(TAIL - self.ring.len()));
        self.ring.extend_from_slice(fill);
        let (end, start) = turn.split_at(turn.len().min(TAIL - self.at));
        self.ring[self.at..self.at + end.len()].copy_from_slice(end);
        self.ring[..start.len()].copy_from_slice(start);
        self.at = (self.at + turn.len()) % TAIL;
    }

    /// Forgets what was noted: what comes next does not continue it.
    pub fn forget(&mut self) {
        self.ring.clear();
        self.at = 0;
    }

    /// When the last of it came, or its timestamp.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Whether both end with the same bytes, as far as both remember: how far that is depends on
    /// the reads in which the bytes came.
    pub fn ends_like(&self, other: &Tail) -> bool {
        let (mine, others) = (self.bytes(), other.bytes());
        mine.ends_with(&others) || others.ends_with(&mine)
    }

    /// Whether this message is among what was delivered last, as far as that is remembered.
    pub fn has(&self, message: &[u8]) -> bool {
        let (delivered, end) = (self.projected(), end_of_line(message));
        memchr::memmem::find(&delivered, &end).is_some()
    }

    /// Whether this message is what was delivered last: behind it there is no more than the
    /// begin of a line. Of what is no whole line itself, or longer than what is remembered, it
    /// is only said whether it was delivered.
    pub fn ends_with(&self, message: &[u8]) -> bool {
        let (delivered, end) = (self.projected(), end_of_line(message));
        match memchr::memrchr(b'\n', &delivered) {
            Some(last) if last >= end.len() && message.ends_with(b"\n") => {
                delivered[..last].ends_with(&end)
            }
            _ => self.has(message),
        }
    }

    /// Whether this message is surely not among what was delivered last. Of what is no whole line
    /// that is not said: the log may have a part of a line of which more was delivered.
    pub fn lacks(&self, message: &[u8]) -> bool {
        if !message.ends_with(b"\n") {
            return false;
        }
        let (delivered, end) = (self.projected(), end_of_line(message));
        let whole = &delivered[..memchr::memrchr(b'\n', &delivered).unwrap_or(0)];
        match whole.len() < end.len() {
            true => !end.ends_with(whole),
            false => memchr::memmem::find(&delivered, &end).is_none(),
        }
    }

    fn projected(&self) -> Vec<u8> {
        let mut delivered = Vec::new();
        overlap::project(&self.bytes(), &mut delivered);
        delivered
    }

    /// The bytes, oldest first.
    pub fn bytes(&self) -> Vec<u8> {
        let (new, old) = self.ring.split_at(self.at.min(self.ring.len()));
        [old, new].concat()
    }
}

/// The end of a line without its newline, projected: as much as tells it from others.
fn end_of_line(message: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    overlap::project(message.strip_suffix(b"\n").unwrap_or(message), &mut text);
    text.split_off(text.len() - text.len().min(TAIL / 2))
}

/// How a resume judges time.
#[derive(Clone, Debug)]
pub struct ResumeConfig {
    /// When the old connection was last known to work: its last read of any source, or the
    /// moment of an orderly end. Nanoseconds since 1970, daemon's clock.
    pub live_until: u64,
    /// How far the driver's idea of the daemon's clock may be off.
    pub slack: Duration,
    /// A line is in the log at most this long after attach brought it.
    pub lag: Duration,
    /// A line that was logged came by attach at most this long after its stamp.
    pub arrival: Duration,
    /// Limit of the held messages of each source, in bytes; beyond it what does not have the border
    /// is passed over.
    pub limit: usize,
}

impl ResumeConfig {
    /// A configuration with the default waits and 4 MiB.
    pub fn new(live_until: u64, slack: Duration) -> ResumeConfig {
        ResumeConfig {
            live_until,
            slack,
            lag: LAG,
            arrival: Duration::from_millis(250),
            limit: 4 << 20,
        }
    }
}

/// A message, or the end of one, that was not delivered before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay<'a> {
    /// Which output it belongs to.
    pub source: Source,
    /// Its timestamp.
    pub ts: u64,
    /// Deliver a `\n` before it (besides what `Seam::logged` asks for).
    pub newline_first: bool,
    /// What to deliver. Continues the last delivered bytes, in the middle of a line if need be.
    pub bytes: &'a [u8],
}

/// A held message: its bytes are `raw[..end]` from the end of the one before.
#[derive(Clone, Debug)]
struct Message {
    ts: u64,
    end: usize,
    /// The log omitted the `\n` of the message before.
    newline_first: bool,
}

/// Where the border is, in the projected text of context and held messages.
struct Border {
    at: usize,
    unsure: bool,
    /// The tail ended within a line that was not found again.
    newline_first: bool,
}

/// What a message that is held back asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    /// More messages.
    On,
    /// Room: no more may be held.
    Full,
    /// A decision: neither this message nor one after it was delivered.
    Surely,
}

/// How the border is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sign {
    /// By the tail.
    #[default]
    Tail,
    /// By the lines of the tail that a pass has seen in the log, as it lacks the last ones.
    EarlierLines,
    /// By time alone.
    Time,
}

#[derive(Clone, Debug, Default)]
struct Side {
    /// What was delivered, raw and projected, and when the last of it came.
    raw_tail: Vec<u8>,
    tail: Vec<u8>,
    last: u64,
    /// Where the log begins, for us.
    since: u64,
    /// Messages stamped before this were surely delivered, after this surely not.
    sure_until: u64,
    sure_from: u64,
    /// The end of the surely delivered text, projected; at most twice [`TAIL`].
    context: Vec<u8>,
    raw: Vec<u8>,
    messages: Vec<Message>,
    /// The last message: its stamp, and whether it lacked its `\n`.
    stamp: Option<u64>,
    open: bool,
    /// The clock was set back: stamps say nothing any more.
    stepped: bool,
    sign: Sign,
    /// Messages were passed over: the border is not in them, as far as the tail tells.
    passed: bool,
    /// So much of the tail, up to the end of one of its lines, was seen in the log.
    seen: usize,
    /// The border was not found, and is to be looked for once more in what was passed over.
    again: bool,
    decided: bool,
    unsure: bool,
    /// The next message needs a `\n` before it, unless it has this stamp.
    owed: bool,
    owed_stamp: Option<u64>,
}

impl Side {
    fn new(tail: &Tail, since: u64, config: &ResumeConfig) -> Side {
        let raw_tail = tail.bytes();
        let mut projected = Vec::new();
        overlap::project(&raw_tail, &mut projected);
        let slack = nanos(config.slack);
        Side {
            decided: raw_tail.is_empty(),
            raw_tail,
            tail: projected,
            last: tail.last,
            since,
            sure_until: tail.last.saturating_sub(nanos(config.arrival).saturating_add(slack)),
            sure_from: tail.last.saturating_add(nanos(config.lag)).saturating_add(slack),
            ..Side::default()
        }
    }

    /// Holds a message back.
    fn hold(&mut self, ts: u64, bytes: &[u8], limit: usize) -> Held {
        let same_stamp = self.stamp == Some(ts);
        let newline_first = self.open && !same_stamp;
        let continues = self.open && same_stamp;
        self.stepped |= self.stamp.is_some_and(|last| ts < last);
        self.open = bytes.last().map_or(self.open && same_stamp, |last| *last != b'\n');
        self.stamp = Some(ts);
        // A further part of a long line has the stamp of the first: the line after it decides.
        let delivered = ts < self.sure_until && !self.stepped;
        if delivered && !continues {
            self.release();
            self.note_context(newline_first, bytes);
            return Held::On;
        }
        self.raw.extend_from_slice(bytes);
        self.messages.push(Message { ts, end: self.raw.len(), newline_first });
        // The line after a part tells whether its newline was left out.
        let limit = if self.open { limit.saturating_mul(2) } else { limit };
        match ts > self.sure_from {
            true => Held::Surely,
            false if self.held() >= limit => Held::Full,
            false => Held::On,
        }
    }

    /// What is held takes so many bytes.
    fn held(&self) -> usize {
        self.raw.len().saturating_add(self.messages.len() * MESSAGE)
    }

    /// What was held is no more than text to recognise the border by.
    fn release(&mut self) {
        let (raw, messages) = (std::mem::take(&mut self.raw), std::mem::take(&mut self.messages));
        let mut start = 0;
        for message in messages {
            self.note_context(message.newline_first, &raw[start..message.end]);
            start = message.end;
        }
    }

    fn note_context(&mut self, newline_first: bool, bytes: &[u8]) {
        if newline_first {
            self.context.push(b'\n');
        }
        overlap::project(bytes, &mut self.context);
        if self.context.len() > 2 * TAIL {
            self.context.drain(..self.context.len() - TAIL);
        }
    }

    /// Context and held messages in projection, and where each held message starts in it.
    fn text(&self) -> (Vec<u8>, Vec<usize>) {
        let most = self.context.len() + self.raw.len() + self.messages.len() + 1;
        let (mut text, mut begin) = (Vec::with_capacity(most), 0);
        let mut starts = Vec::with_capacity(self.messages.len());
        text.extend_from_slice(&self.context);
        for message in &self.messages {
            if message.newline_first {
                text.push(b'\n');
            }
            starts.push(text.len());
            overlap::project(&self.raw[begin..message.end], &mut text);
            begin = message.end;
        }
        if self.open && !self.messages.is_empty() {
            text.push(b'\n'); // which the log may yet owe
        }
        (text, starts)
    }

    /// The latest place that time allows: a message that came too late was not delivered, unless
    /// the tail ends within a line, which may be its beginning.
    fn latest(&self, text: &[u8], starts: &[usize]) -> usize {
        match (self.messages.last(), starts.last()) {
            (Some(message), Some(&start))
                if message.ts > self.sure_from && self.raw_tail.last() == Some(&b'\n') =>
            {
                start
            }
            _ => text.len(),
        }
    }

    /// The earliest: what was surely delivered, and the message that the last read completed, for
    /// that was stamped after `sure_until`. It is in the pass unless that began too late.
    fn earliest(&self) -> usize {
        let whole = self.raw_tail.last() == Some(&b'\n');
        self.context.len() + usize::from(whole && self.since <= self.sure_until)
    }

    /// Visits, ascending, the places in `text` where `tail` can end, which is what was delivered.
    fn ends(tail: &[u8], text: &[u8], mut visit: impl FnMut(usize)) {
        // The log begins within the tail, at the start of a line.
        let mut within = Vec::new();
        let begin = &text[..text.len().min(tail.len())];
        overlap::alignments(begin.iter().copied(), tail, |at| {
            let end = tail.len() - at;
            if end <= text.len() && at > 0 && tail[at - 1] == b'\n' {
                within.push(end);
            }
        });
        within.into_iter().rev().for_each(&mut visit);
        if tail.len() > text.len() {
            return;
        }
        // The whole tail is in the log.
        overlap::alignments(tail.iter().copied(), text, |at| {
            if at + tail.len() <= text.len() {
                visit(at + tail.len());
            }
        });
    }

    fn border(&self, text: &[u8], starts: &[usize]) -> Option<Border> {
        match self.sign {
            Sign::Tail => self.border_by_tail(text, starts),
            Sign::EarlierLines => self.border_behind(self.tail.len(), text),
            Sign::Time => Some(self.border_by_time()),
        }
    }

    fn border_by_tail(&self, text: &[u8], starts: &[usize]) -> Option<Border> {
        let (earliest, latest) = (self.earliest(), self.latest(text, starts));
        let (mut chosen, mut unsure) = (None::<usize>, false);
        Side::ends(&self.tail, text, |end| {
            if end < earliest || end > latest {
                return;
            }
            match chosen {
                // The text between either was delivered too, or it repeats what was.
                Some(before) if self.repeats(text, before, end) => unsure = true,
                _ if self.is_end(text, end) => chosen = Some(end),
                _ => {}
            }
        });
        chosen.map(|at| Border { at, unsure, newline_first: false })
    }

    /// Whether the delivered text can end here; [`overlap::alignments`] tells by hashes.
    fn is_end(&self, text: &[u8], end: usize) -> bool {
        let common = end.min(self.tail.len());
        text[..end].ends_with(&self.tail[self.tail.len() - common..])
    }

    /// How much of the tail the log has if it lacks its last lines: a daemon that is stopped has
    /// sent them and not written them. 0: nothing that could be recognised.
    fn seen_in(&self, text: &[u8]) -> usize {
        let ends = memchr::memrchr_iter(b'\n', &self.tail).map(|newline| newline + 1);
        let shorter = ends.filter(|&end| end < self.tail.len()).take(LOST_LINES);
        let mut recognised = shorter.take_while(|&end| end >= RECOGNISED);
        recognised.find(|&end| self.border_behind(end, text).is_some()).unwrap_or(0)
    }

    /// The earliest place where the delivered text can end if the log has no more of it than the
    /// first `end` bytes of the tail.
    fn border_behind(&self, end: usize, text: &[u8]) -> Option<Border> {
        let earlier = &self.tail[..end];
        // Of long lines it is often the beginning that tells them apart.
        let begin = memchr::memrchr(b'\n', &earlier[..end - RECOGNISED]).map_or(0, |at| at + 1);
        let last = memchr::memmem::Finder::new(&earlier[begin..]);
        // What repeats is no sign; and most texts do not have it, which is soon seen.
        if last.find(earlier) != Some(begin) || last.find(text).is_none() {
            return None;
        }
        let mut first = None;
        Side::ends(earlier, text, |at| {
            if at >= self.context.len().max(RECOGNISED) {
                first.get_or_insert(at);
            }
        });
        let newline_first = self.raw_tail.last() != Some(&b'\n');
        first.map(|at| Border { at, unsure: true, newline_first })
    }

    /// What time alone says: all that was not surely delivered is given on.
    fn border_by_time(&self) -> Border {
        let newline_first = self.raw_tail.last() != Some(&b'\n');
        Border { at: self.context.len(), unsure: true, newline_first }
    }

    /// Whether all that is held was delivered, and the last delivered bytes are not in the log
    /// yet, because they belong to a line, or a part of one, that is not finished.
    fn is_ahead(&self, text: &[u8]) -> bool {
        let text = if self.open { text.strip_suffix(b"\n").unwrap_or(text) } else { text };
        let line = memchr::memrchr(b'\n', &self.tail).map_or(0, |newline| newline + 1);
        (line..self.tail.len()).any(|end| {
            let common = end.min(text.len());
            self.tail[end - common..end] == text[text.len() - common..]
        })
    }

    /// Whether the container wrote the text between two possible ends earlier too, so that it may
    /// be new although the tail has it.
    fn repeats(&self, text: &[u8], from: usize, to: usize) -> bool {
        let Some((_, before)) = self.tail.split_last() else { return true };
        if from >= self.tail.len() {
            return true; // the whole tail ends at both
        }
        // So little is all that was delivered: at `to` there would have been more before it.
        if self.tail.len() < TEXT && to > self.tail.len() {
            return true;
        }
        // Of a longer text only the end can have been written twice in the tail.
        let (between, half) = (&text[from..to], &self.tail[self.tail.len() / 2..]);
        let end = if between.len() <= half.len() { between } else { half };
        memchr::memmem::find(before, end).is_some()
    }

    /// Whether the tail may end at several places in what it is the end of.
    fn repeats_itself(&self) -> bool {
        let Some((_, before)) = self.tail.split_last() else { return true };
        memchr::memmem::find(before, &self.tail[self.tail.len() / 2..]).is_some()
    }

    /// No more may be held: decides the border if it is in what is, and passes that over if not.
    fn make_room(&mut self, source: Source, out: &mut impl FnMut(Replay<'_>)) {
        let (text, starts) = self.text();
        let repeats = self.repeats_itself();
        // What comes may have all of the tail where this has but its last bytes, at the log's
        // begin.
        let enough = |at: usize| at >= self.tail.len().min(RECOGNISED) || repeats;
        match self.border(&text, &starts).filter(|border| enough(border.at)) {
            Some(border) => {
                let border = Border { unsure: border.unsure || repeats, ..border };
                self.give_on(&border, (&text, &starts), source, out);
            }
            None => {
                self.seen = self.seen.max(self.seen_in(&text));
                self.passed = true;
                self.release();
            }
        }
    }

    /// Decides the border. Unless it must, it waits for the log to show the line that was delivered
    /// in part.
    fn decide(&mut self, source: Source, must: bool, out: &mut impl FnMut(Replay<'_>)) {
        let (text, starts) = self.text();
        let border = match self.border(&text, &starts) {
            Some(border) => border,
            None if !must && self.is_ahead(&text) => return,
            None => {
                self.seen = self.seen.max(self.seen_in(&text));
                if self.passed {
                    self.again = true;
                    return;
                }
                match self.seen {
                    0 => self.border_by_time(),
                    seen => self.border_behind(seen, &text).expect("it was seen"),
                }
            }
        };
        self.give_on(&border, (&text, &starts), source, out);
    }

    /// From the first pass on once more, by another sign.
    fn begin_again(&mut self) {
        self.sign = if self.seen == 0 { Sign::Time } else { Sign::EarlierLines };
        self.tail.truncate(self.seen);
        (self.seen, self.passed, self.again) = (0, false, false);
        (self.raw, self.messages, self.context) = (Vec::new(), Vec::new(), Vec::new());
        (self.stamp, self.open, self.stepped) = (None, false, false);
    }

    /// Gives on what lies behind the border, in the text of what is held.
    fn give_on(
        &mut self,
        border: &Border,
        (text, starts): (&[u8], &[usize]),
        source: Source,
        out: &mut impl FnMut(Replay<'_>),
    ) {
        let ascii = self.raw_tail.iter().rposition(u8::is_ascii).map_or(0, |at| at + 1);
        // Where another line begins, no text goes on.
        let mut run = if border.newline_first { &[] } else { &self.raw_tail[ascii..] };
        (self.decided, self.unsure) = (true, border.unsure);
        let (mut begin, mut newline_first) = (0, border.newline_first);
        let mut given = false;
        for (message, &start) in self.messages.iter().zip(starts) {
            let bytes = &self.raw[begin..message.end];
            begin = message.end;
            let delivered = border.at.saturating_sub(start);
            let (_, mut rest) = bytes.split_at(overlap::behind_ascii(bytes, delivered));
            if delivered > overlap::projected_len(bytes) {
                continue;
            }
            rest = &rest[overlap::pair(run, rest).1..];
            if rest.is_empty() && !given {
                continue;
            }
            run = &[];
            newline_first |= message.newline_first && border.at < start && !given;
            out(Replay { source, ts: message.ts, newline_first, bytes: rest });
            (given, newline_first) = (true, false);
        }
        // Nothing given: what the next message continues is not known to anybody else.
        let owes = self.open && !self.messages.is_empty() && border.at < text.len();
        self.owed = !given && (newline_first || owes);
        self.owed_stamp = self.stamp.filter(|_| owes);
        (self.raw, self.messages, self.context) = (Vec::new(), Vec::new(), Vec::new());
    }
}

/// The state of one container's return to the log after its attach was cut; see the module.
///
/// The driver runs passes from [`Resume::since`] on and gives each message that its cursor
/// accepts to [`Resume::logged`], and each [`Replay`] to the new seam and to the splitter. It ends
/// a pass here before it ends it at the seam. When [`Resume::is_decided`] this only passes through.
#[derive(Clone, Debug)]
pub struct Resume {
    config: ResumeConfig,
    sides: [Side; 2],
    since: u64,
    pass: u64,
}

impl Resume {
    /// For stdout and stderr, in this order.
    pub fn new(tails: [&Tail; 2], config: ResumeConfig) -> Resume {
        let doubt = nanos(config.arrival).saturating_add(nanos(config.slack));
        let since = config.live_until.saturating_sub(doubt.saturating_add(MARGIN_NANOS));
        let sides = tails.map(|tail| Side::new(tail, since, &config));
        Resume { config, sides, since, pass: 0 }
    }

    /// Where the first pass begins: no message before can be missing.
    ///
    /// A source that was silent needs no earlier begin: had it written, it would have come while
    /// the connection worked.
    pub fn since(&self) -> u64 {
        self.since
    }

    /// A pass is requested now.
    pub fn pass_begins(&mut self, now: u64) {
        self.pass = now;
    }

    /// A message of a pass; `out` gets what is to be delivered: nothing, it, or it and what was
    /// held before it.
    pub fn logged(
        &mut self,
        source: Source,
        ts: u64,
        bytes: &[u8],
        out: &mut impl FnMut(Replay<'_>),
    ) {
        let side = &mut self.sides[source as usize];
        if side.decided {
            let newline_first = side.owed && side.owed_stamp != Some(ts);
            side.owed = false;
            out(Replay { source, ts, newline_first, bytes });
            return;
        }
        if side.again {
            return;
        }
        match side.hold(ts, bytes, self.config.limit) {
            Held::On => {}
            Held::Full => side.make_room(source, out),
            Held::Surely => side.decide(source, true, out),
        }
    }

    /// The sources of which the border was not found in what was passed over: the driver reads
    /// the log from [`Resume::since`] on once more for these, at once and whatever else it may
    /// have read in this pass. Says so once.
    pub fn begins_again(&mut self) -> impl Iterator<Item = Source> {
        let again = Source::OUTPUTS.map(|source| {
            let side = &mut self.sides[source as usize];
            let again = side.again.then_some(source);
            if side.again {
                side.begin_again();
            }
            again
        });
        again.into_iter().flatten()
    }

    /// Whether the log is to be read once more, see [`Resume::begins_again`].
    pub fn wants_again(&self) -> bool {
        self.sides.iter().any(|side| side.again)
    }

    /// The pass was read to its end. If it began late enough to have all that was delivered, the
    /// borders are decided. Only if a line was delivered in part and is not in the log yet, that
    /// of its source is not: what is held then was delivered.
    pub fn pass_ended(&mut self, out: &mut impl FnMut(Replay<'_>)) {
        let known = self.pass.saturating_sub(nanos(self.config.lag));
        for source in Source::OUTPUTS {
            let side = &mut self.sides[source as usize];
            if !side.decided && !side.again && known >= side.last {
                side.decide(source, false, out);
            }
        }
    }

    /// The log has all that there will be: decides what is still held, with what is known, unless
    /// it is to be read once more ([`Resume::wants_again`]). What is held of a source whose log
    /// ends within what was delivered is let go of.
    pub fn finish(&mut self, out: &mut impl FnMut(Replay<'_>)) {
        for source in Source::OUTPUTS {
            let side = &mut self.sides[source as usize];
            if !side.decided && !side.again {
                side.decide(source, false, out);
            }
            if !side.decided && !side.again {
                side.decided = true;
                (side.raw, side.messages) = (Vec::new(), Vec::new());
            }
        }
    }

    /// What is held back takes so many bytes.
    pub fn held(&self) -> usize {
        self.sides.iter().map(Side::held).sum()
    }

    /// Whether nothing is held back any more. When the seam has joined, this is of no interest.
    pub fn is_decided(&self) -> bool {
        self.sides.iter().all(|side| side.decided)
    }

    /// Whether the border of `source` was a guess: some lines may come twice. To be counted.
    pub fn is_unsure(&self, source: Source) -> bool {
        self.sides[source as usize].unsure
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    //! Single situations; `tests/seam.rs` has the simulated daemon.

    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;
    const NOW: u64 = 1_000_000 * MS;
    const OUT: Source = Source::Stdout;

    /// What a resume delivers after `tail` came at `NOW`: (newline first, bytes), and if unsure.
    fn resumed(tail: &str, log: &[(u64, &str)]) -> (Vec<(bool, String)>, bool) {
        let (mut out, mut replays) = (Tail::new(), Vec::new());
        out.note(tail.as_bytes(), NOW);
        let config = ResumeConfig::new(NOW, Duration::from_millis(5));
        let mut resume = Resume::new([&out, &Tail::new()], config);
        let mut replay = |replay: Replay<'_>| {
            let text = String::from_utf8_lossy(replay.bytes).into_owned();
            replays.push((replay.newline_first, text));
        };
        resume.pass_begins(NOW + 500 * MS);
        for (ts, bytes) in log {
            resume.logged(OUT, *ts, bytes.as_bytes(), &mut replay);
        }
        resume.pass_ended(&mut replay);
        (replays, resume.is_unsure(OUT))
    }

    fn line(text: &str) -> (bool, String) {
        (false, text.to_owned())
    }

    /// The log begins within the little that was delivered, which comes once more behind that.
    #[test]
    fn a_container_that_begins_to_repeat_itself() {
        let log = [(0, "1\n"), (140, "2\n"), (140, "0\n"), (140, "1\n"), (400, "2\n")];
        let log = log.map(|(millis, text)| (NOW + millis * MS, text));
        let all = ["2\n", "0\n", "1\n", "2\n"].map(line).to_vec();
        assert_eq!(resumed("0\n1\n", &log), (all, true));
    }

    /// A pass that began too early to have all decides nothing; the end of the log does.
    #[test]
    fn what_is_held_at_the_end_of_the_log_goes_out() {
        let (mut out, mut given) = (Tail::new(), Vec::new());
        out.note(b"1\n2\n", NOW);
        let config = ResumeConfig::new(NOW, Duration::from_millis(5));
        let mut resume = Resume::new([&out, &Tail::new()], config);
        resume.pass_begins(NOW + 10 * MS);
        for (ts, text) in [(NOW - 9 * MS, "1\n"), (NOW, "2\n"), (NOW + MS, "3\n")] {
            resume.logged(OUT, ts, text.as_bytes(), &mut |r| given.extend_from_slice(r.bytes));
        }
        resume.pass_ended(&mut |r| given.extend_from_slice(r.bytes));
        assert!(given.is_empty() && !resume.is_decided());
        resume.finish(&mut |r| given.extend_from_slice(r.bytes));
        assert_eq!((&*given, resume.is_decided()), (&b"3\n"[..], true));
    }

    /// The daemon was stopped before it had written its last line: what is before that tells where
    /// the log goes on. Too little of it is no sign, and time alone decides.
    #[test]
    fn a_last_line_that_the_log_lacks_is_done_without() {
        let long = |n: u64| format!("{n} {}\n", "x".repeat(70));
        let texts: Vec<String> = (1..6).map(long).collect();
        let log = [1, 2, 4, 5].map(|n| (NOW + n * MS, &*texts[n as usize - 1]));
        let tail = texts[..3].concat();
        let after = vec![line(&texts[3]), line(&texts[4])];
        assert_eq!(resumed(&tail, &log), (after, true));
        let short = [(NOW - 9 * MS, "1\n"), (NOW, "2\n"), (NOW + 1, "4\n")];
        assert_eq!(resumed("1\n2\n3\n", &short).0.len(), 3);
    }

    #[test]
    fn goes_on_behind_the_last_delivered_line() {
        let log = [(NOW - 9 * MS, "1\n"), (NOW, "2\n"), (NOW + 1, "3\n"), (NOW + 999 * MS, "4\n")];
        assert_eq!(resumed("0\n1\n2\n", &log), (vec![line("3\n"), line("4\n")], false));
        assert_eq!(resumed("0\n1\n2\n3", &log), (vec![line("\n"), line("4\n")], false));
        assert_eq!(
            resumed("0\n1\n2\n3\n4\n", &log[..3]).0,
            [line("1\n"), line("2\n"), line("3\n")]
        );
    }

    #[test]
    fn goes_on_within_a_line_even_between_non_ascii_bytes() {
        let log = [(NOW, "1\n"), (NOW + 700 * MS, "a\u{fffd}\u{fffd}z\n")];
        assert_eq!(resumed("1\na", &log), (vec![line("\u{fffd}\u{fffd}z\n")], false));
        let (mut out, mut replays) = (Tail::new(), Vec::new());
        out.note(b"1\na\xff", NOW);
        let config = ResumeConfig::new(NOW, Duration::ZERO);
        let mut resume = Resume::new([&out, &Tail::new()], config);
        for (ts, bytes) in log {
            resume.logged(OUT, ts, bytes.as_bytes(), &mut |r| replays.push(r.bytes.to_vec()));
        }
        assert_eq!(replays, ["\u{fffd}z\n".as_bytes()]);
    }

    #[test]
    fn a_repeated_line_comes_again_rather_than_never() {
        let log = [(NOW - 600 * MS, "x\n"), (NOW - 9 * MS, "x\n"), (NOW - 8 * MS, "x\n")];
        assert_eq!(resumed("x\nx\nx\nx\n", &log), (vec![line("x\n")], true));
        // Long before or long after the cut, time alone is enough.
        let log = [(NOW - 600 * MS, "x\n"), (NOW - 9 * MS, "x\n"), (NOW + 600 * MS, "x\n")];
        assert_eq!(resumed("x\nx\nx\nx\n", &log), (vec![line("x\n")], false));
    }

    #[test]
    fn without_a_border_time_decides() {
        let log = [(NOW - 600 * MS, "a\n"), (NOW - 9 * MS, "b\n")];
        assert_eq!(resumed("other\n", &log), (vec![line("b\n")], true));
        assert_eq!(resumed("other\ncut\nwithin", &log), (vec![(true, "b\n".to_owned())], true));
    }

    #[test]
    fn a_line_that_the_log_does_not_have_yet_is_waited_for() {
        assert_eq!(resumed("1\n2\nunfin", &[(NOW - 9 * MS, "2\n")]), (vec![], false));
    }

    /// 20.10's `local` driver omits the `\n` of a line that it cut.
    #[test]
    fn an_omitted_newline_is_made_up_for() {
        let log = [(NOW, "part"), (NOW, "end"), (NOW + 900 * MS, "next\n")];
        assert_eq!(resumed("partend\n", &log), (vec![line("next\n")], false));
        assert_eq!(resumed("partend", &log), (vec![(true, "next\n".to_owned())], false));
        assert_eq!(resumed("parte", &log), (vec![line("nd"), line("next\n")], false));
    }

    /// What a resume that may hold 1,000 bytes delivers of a log that has more in doubt, after
    /// `tail`; how often the log was read, and whether the border was unsure.
    fn resumed_in_a_little_room(tail: &str, log: &[String]) -> (String, usize, bool) {
        let (mut out, mut given, mut passes) = (Tail::new(), Vec::new(), 0);
        out.note(tail.as_bytes(), NOW);
        let config = ResumeConfig { limit: 1000, ..ResumeConfig::new(NOW, Duration::ZERO) };
        let mut resume = Resume::new([&out, &Tail::new()], config);
        loop {
            passes += 1;
            resume.pass_begins(NOW + 500 * MS);
            for (n, line) in log.iter().enumerate() {
                resume.logged(OUT, NOW + n as u64, line.as_bytes(), &mut |replay| {
                    given.extend_from_slice(replay.bytes);
                });
                assert!(resume.held() < 1000);
            }
            resume.pass_ended(&mut |replay| given.extend_from_slice(replay.bytes));
            if resume.begins_again().count() == 0 {
                break;
            }
        }
        assert!(resume.is_decided());
        (String::from_utf8(given).unwrap(), passes, resume.is_unsure(OUT))
    }

    #[test]
    fn what_is_held_is_bounded_and_what_is_passed_over_not_lost() {
        let line = |n: usize| format!("{n} {}\n", "x".repeat(70));
        let log: Vec<String> = (0..200).map(line).collect();
        let of = |tail: &str| resumed_in_a_little_room(tail, &log);
        // The tail is far behind in what is in doubt.
        assert_eq!(of(&log[..151].concat()), (log[151..].concat(), 1, false));
        let within = log[..151].concat();
        let (came, rest) = within.split_at(within.len() - 30);
        assert_eq!(of(came), ([rest, &log[151..].concat()].concat(), 1, false));
        // Its last line is not in the log: what is before that tells.
        let lost = [&log[..151].concat(), "lost\n"].concat();
        assert_eq!(of(&lost), (log[151..].concat(), 2, true));
        // Nothing of it is: time alone tells.
        assert_eq!(of("another\n"), (log.concat(), 2, true));
    }

    #[test]
    fn a_line_that_did_not_come_is_known_as_far_as_lines_are_remembered() {
        let mut tail = Tail::new();
        assert!(!tail.lacks(b"one\n"), "nothing is remembered");
        tail.note(b"one\ntwo\nthr", 1);
        for (message, lacks) in [
            ("one\n", false),
            ("two\n", false),
            ("three\n", true),
            ("zero\n", true),
            // The end of which is what came.
            ("begins earlier and one\ntwo\n", false),
            ("another of that length\n", true),
            // The first part of a long line.
            ("three", false),
        ] {
            assert_eq!(tail.lacks(message.as_bytes()), lacks, "{message}");
        }
        // Of an unfinished line all that is remembered.
        tail.note(&[b'x'; TAIL], 2);
        assert!(!tail.lacks(b"two\n"));
        let long = ["y".repeat(TAIL), "\n".to_owned()].concat();
        tail.note(long.as_bytes(), 3);
        assert!(!tail.lacks(long.as_bytes()) && tail.lacks(b"two\n"));
    }

    proptest! {
        #[test]
        fn a_tail_is_the_end_of_what_was_noted(
            lengths in prop::collection::vec(prop_oneof![0usize..100, 0usize..9000], 0..12),
        ) {
            let (mut tail, mut all) = (Tail::new(), Vec::new());
            for (index, length) in lengths.iter().enumerate() {
                let bytes: Vec<u8> = (0..*length).map(|i| (i * 7 + index) as u8).collect();
                let last = if bytes.is_empty() { tail.last() } else { index as u64 };
                tail.note(&bytes, index as u64);
                prop_assert_eq!(tail.last(), last);
                all.extend(bytes);
                prop_assert_eq!(&tail.bytes()[..], &all[all.len().saturating_sub(TAIL)..]);
            }
        }
    }
}
