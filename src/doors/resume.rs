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
//! Pure: it does no I/O and reads no clock. `now` and timestamps are nanoseconds since 1970 by
//! the daemon's clock, as well as the driver knows it.

use std::time::Duration;

use super::overlap;
use crate::docker::Source;

/// How many delivered bytes a [`Tail`] remembers.
pub const TAIL: usize = 4096;

/// How much older than what is in doubt the first message of a resuming pass is: text to
/// recognise the border by. Nanos.
const MARGIN_NANOS: u64 = 1_000_000_000;

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
    /// from the log. Allocates once, at the first call.
    pub fn note(&mut self, bytes: &[u8], at: u64) {
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

    /// The bytes, oldest first.
    fn bytes(&self) -> Vec<u8> {
        let (new, old) = self.ring.split_at(self.at.min(self.ring.len()));
        [old, new].concat()
    }
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
    /// Limit of the held messages of each source, in bytes; beyond it the border is decided with
    /// what there is.
    pub limit: usize,
}

impl ResumeConfig {
    /// A configuration with the default waits and 4 MiB.
    pub fn new(live_until: u64, slack: Duration) -> ResumeConfig {
        ResumeConfig {
            live_until,
            slack,
            lag: Duration::from_millis(150),
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
#[derive(Debug)]
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

#[derive(Debug, Default)]
struct Side {
    /// What was delivered, raw and projected, and when the last of it came.
    raw_tail: Vec<u8>,
    tail: Vec<u8>,
    last: u64,
    /// Messages stamped before this were surely delivered, after this surely not.
    sure_until: u64,
    sure_from: u64,
    /// The end of the surely delivered text, projected; at most twice [`TAIL`].
    context: Vec<u8>,
    raw: Vec<u8>,
    messages: Vec<Message>,
    /// The last message: its stamp and length, and whether it lacked its `\n`.
    stamp: Option<(u64, usize)>,
    open: bool,
    /// The clock was set back: stamps say nothing any more.
    stepped: bool,
    decided: bool,
    unsure: bool,
    /// The next message needs a `\n` before it, unless it has this stamp.
    owed: bool,
    owed_stamp: Option<u64>,
}

impl Side {
    fn new(tail: &Tail, config: &ResumeConfig) -> Side {
        let raw_tail = tail.bytes();
        let mut projected = Vec::new();
        overlap::project(&raw_tail, &mut projected);
        let slack = nanos(config.slack);
        Side {
            decided: raw_tail.is_empty(),
            raw_tail,
            tail: projected,
            last: tail.last,
            sure_until: tail.last.saturating_sub(nanos(config.arrival).saturating_add(slack)),
            sure_from: tail.last.saturating_add(nanos(config.lag)).saturating_add(slack),
            ..Side::default()
        }
    }

    /// Holds a message back; `true` if the border must be decided now.
    fn hold(&mut self, ts: u64, bytes: &[u8], limit: usize) -> bool {
        let same_stamp = self.stamp.is_some_and(|(last, _)| last == ts);
        let newline_first = self.open && !same_stamp;
        let continues = self.open && same_stamp;
        self.stepped |= self.stamp.is_some_and(|(last, _)| ts < last);
        if !bytes.is_empty() {
            self.stamp = Some((ts, bytes.len()));
            self.open = bytes.last() != Some(&b'\n');
        }
        // A further part of a long line has the stamp of the first: the line after it decides.
        let delivered = ts < self.sure_until && !self.stepped;
        if delivered && !continues {
            self.release();
            self.note_context(newline_first, bytes);
            return false;
        }
        self.raw.extend_from_slice(bytes);
        self.messages.push(Message { ts, end: self.raw.len(), newline_first });
        let held = self.raw.len().saturating_add(self.messages.len() * MESSAGE);
        ts > self.sure_from || held >= limit
    }

    /// What was held were parts of a line that was surely delivered.
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
        let (mut text, mut starts, mut begin) = (self.context.clone(), Vec::new(), 0);
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

    /// Visits, ascending, the places in `text` where the delivered text can end.
    fn ends(&self, text: &[u8], mut visit: impl FnMut(usize)) {
        let tail = &self.tail;
        // The log begins within the tail, at the start of a line.
        let mut within = Vec::new();
        overlap::alignments(&text[..text.len().min(tail.len())], tail, |at| {
            let end = tail.len() - at;
            if end <= text.len() && at > 0 && tail[at - 1] == b'\n' {
                within.push(end);
            }
        });
        within.into_iter().rev().for_each(&mut visit);
        // The whole tail is in the log.
        overlap::alignments(tail, text, |at| {
            if at + tail.len() <= text.len() {
                visit(at + tail.len());
            }
        });
    }

    fn border(&self, text: &[u8], starts: &[usize]) -> Border {
        let latest = self.latest(text, starts);
        let (mut chosen, mut unsure) = (None::<usize>, false);
        self.ends(text, |end| {
            if end < self.context.len() || end > latest {
                return;
            }
            match chosen {
                // The text between either was delivered too, or it repeats what was.
                Some(before) if self.repeats(&text[before..end]) => unsure = true,
                _ => chosen = Some(end),
            }
        });
        let Some(at) = chosen else {
            let newline_first = self.raw_tail.last() != Some(&b'\n');
            return Border { at: self.context.len(), unsure: true, newline_first };
        };
        // Nothing that may have been delivered is in the tail: only time says that it was not.
        unsure |= at == 0 && self.messages.first().is_some_and(|first| first.ts <= self.sure_from);
        Border { at, unsure, newline_first: false }
    }

    /// Whether the container wrote `text` before the end of the tail.
    fn repeats(&self, text: &[u8]) -> bool {
        match self.tail.split_last() {
            Some((_, before)) => text.len() > before.len() || finds(before, text),
            None => true,
        }
    }

    /// Decides the border and gives on what lies behind it.
    fn decide(&mut self, source: Source, out: &mut impl FnMut(Replay<'_>)) {
        let (text, starts) = self.text();
        let border = self.border(&text, &starts);
        let ascii = self.raw_tail.iter().rposition(u8::is_ascii).map_or(0, |at| at + 1);
        let mut run = &self.raw_tail[ascii..];
        (self.decided, self.unsure) = (true, border.unsure);
        let (mut begin, mut newline_first) = (0, border.newline_first);
        let mut given = false;
        for (message, &start) in self.messages.iter().zip(&starts) {
            let bytes = &self.raw[begin..message.end];
            begin = message.end;
            let delivered = border.at.saturating_sub(start);
            let (_, mut rest) = bytes.split_at(overlap::behind_ascii(bytes, delivered));
            if delivered > 0 && delivered > overlap::projected_len(bytes) {
                continue;
            }
            rest = &rest[overlap::pair(run, rest).1..];
            if rest.is_empty() {
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
        self.owed_stamp = self.stamp.map(|(ts, _)| ts).filter(|_| owes);
        (self.raw, self.messages, self.context) = (Vec::new(), Vec::new(), Vec::new());
    }
}

/// The state of one container's return to the log after its attach was cut; see the module.
///
/// The driver runs passes from [`Resume::since`] on and gives each message that its cursor
/// accepts to [`Resume::logged`], and each [`Replay`] to the new seam and to the splitter. It ends
/// a pass here before it ends it at the seam. When [`Resume::is_decided`] this only passes through.
#[derive(Debug)]
pub struct Resume {
    config: ResumeConfig,
    sides: [Side; 2],
    pass: u64,
}

impl Resume {
    /// For stdout and stderr, in this order.
    pub fn new(tails: [&Tail; 2], config: ResumeConfig) -> Resume {
        let sides = tails.map(|tail| Side::new(tail, &config));
        Resume { config, sides, pass: 0 }
    }

    /// Where the first pass begins: no message before can be missing.
    ///
    /// A source that was silent needs no earlier begin: had it written, it would have come while
    /// the connection worked.
    pub fn since(&self) -> u64 {
        let doubt = nanos(self.config.arrival).saturating_add(nanos(self.config.slack));
        self.config.live_until.saturating_sub(doubt.saturating_add(MARGIN_NANOS))
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
        } else if side.hold(ts, bytes, self.config.limit) {
            side.decide(source, out);
        }
    }

    /// The pass was read to its end. If it began late enough to have all that was delivered, the
    /// borders are decided.
    pub fn pass_ended(&mut self, out: &mut impl FnMut(Replay<'_>)) {
        let known = self.pass.saturating_sub(nanos(self.config.lag));
        for source in Source::ALL {
            let side = &mut self.sides[source as usize];
            if !side.decided && known >= side.last {
                side.decide(source, out);
            }
        }
    }

    /// Whether nothing is held back any more.
    pub fn is_decided(&self) -> bool {
        self.sides.iter().all(|side| side.decided)
    }

    /// Whether the border of `source` was a guess: some lines may come twice. To be counted.
    pub fn is_unsure(&self, source: Source) -> bool {
        self.sides[source as usize].unsure
    }
}

fn finds(haystack: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(haystack, needle).is_some()
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
