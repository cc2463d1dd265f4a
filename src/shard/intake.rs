//! What becomes of the bytes of one container's attach stream, by the phase it is in: kept until
//! it is known who the container is, held until the seam to the `logs` door is found, or passed
//! on as they come.
//!
//! Never waits: the reader of the stream and the flow of the container both come in here.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::feed::Feed;
use super::hold::{Hold, Share};
use super::lane::Lane;
use super::pass::Place;
use crate::docker::Source;
use crate::docker::frame::{Demux, Piece};
use crate::doors::mark::Mark;
use crate::doors::reads::Reads;
use crate::doors::resume::Tail;
use crate::doors::seam::{Seam, SeamConfig};
use crate::io::clock;

/// Where a container's attach bytes go.
pub struct Intake {
    /// The way of the lines.
    pub feed: Feed,
    /// The end of what was delivered, by which a later attach finds its place in the log.
    pub tails: [Tail; 2],
    /// Lanes that were full while others had room, for whoever follows them apart.
    pub parted: Vec<Parted>,
    /// The run that was read to its end, by its `StartedAt`, and no other since.
    pub rested: Option<u64>,
    /// The container's log cannot be read: what a full lane has no room for is lost.
    pub unreadable: bool,
    phase: Phase,
    hold: Arc<Hold>,
    /// The reads of what was delivered, and of what is held. By the daemon's clock.
    reads: Reads,
    held_reads: Reads,
    /// When the first and the last of what is held was read.
    held: Option<(SystemTime, SystemTime)>,
    /// What came before anybody knew whose it is counts as read when the last of it was: so much
    /// of it was earlier at most.
    spread: Duration,
    /// When the place was reached that was noted last.
    noted: u64,
    /// Which attach this is about: the reader of an earlier one may still be at its end.
    attach: u64,
    ended: Option<Ended>,
    ended_at: u64,
    /// The connection broke: what was on its way is lost.
    broken: bool,
    complaint: Option<String>,
}

/// What a container brings to lanes that were full while others had room.
pub struct Parted {
    /// It has no stream.
    pub intake: Intake,
    /// How far the log was read for it; `None`: it is behind the end of what a stream brought.
    pub place: Option<Place>,
}

enum Phase {
    /// No attach, or its bytes are of no use.
    Closed,
    /// Attached; not known yet whether there are frames.
    Unknown(Vec<u8>, Share),
    /// Attached; the place where it begins is being looked for. `true`: a terminal.
    Joining(Demux, Box<Seam>, bool, Share),
    /// Attached, and everything before is delivered.
    Live(Demux),
}

/// How an attach stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The daemon ended it, or the connection broke: what that means, inspect knows.
    Eof,
    /// More came than may be held: it was let go of, and the log has what it held.
    Full {
        /// So much, in bytes.
        held: usize,
    },
    /// No lane has room: it was let go of, and the log has what comes.
    Blocked,
    /// It brought nothing any more although there was something, from this time on (nanoseconds
    /// since 1970): it was let go of.
    Hung {
        /// When it last worked.
        live_until: u64,
    },
    /// It made no sense; what was said of it.
    Corrupt(String),
}

impl Intake {
    /// An intake without a stream.
    pub fn new(feed: Feed, hold: Arc<Hold>) -> Intake {
        Intake {
            feed,
            tails: Default::default(),
            parted: Vec::new(),
            rested: None,
            unreadable: false,
            phase: Phase::Closed,
            hold,
            reads: Reads::default(),
            held_reads: Reads::default(),
            held: None,
            spread: Duration::ZERO,
            noted: 0,
            attach: 0,
            ended: None,
            ended_at: 0,
            broken: false,
            complaint: None,
        }
    }

    /// How many of its lanes are full and ask to wait, and how many there are. None asks for that
    /// where the log cannot be read later.
    #[inline]
    pub fn full_lanes(&self) -> (usize, usize) {
        let (full, lanes) = self.feed.full_lanes();
        (if self.unreadable { 0 } else { full }, lanes)
    }

    /// Parts with those lanes: what the container brings from here on, or for a log that is
    /// being read from `place` on, is brought to them by another.
    pub fn part_with_full(&mut self, place: Option<Place>) {
        let intake = self.part(|lane| lane.queue.is_full());
        self.parted.push(Parted { intake, place });
    }

    /// Parts with the lanes that `goes` picks: an intake for them that is at the same place.
    pub fn part(&mut self, goes: impl Fn(&Rc<Lane>) -> bool) -> Intake {
        Intake {
            tails: self.tails.clone(),
            reads: self.reads.clone(),
            spread: self.spread,
            ..Intake::new(self.feed.split_off(goes), Arc::clone(&self.hold))
        }
    }

    /// The place behind the last whole line; `None` if it is the one that was noted last, or there
    /// is none to be found again.
    pub fn mark(&self) -> Option<Mark> {
        let at = self.reached().unwrap_or(0);
        let [Some(stdout), Some(stderr)] = self.feed.unfinished() else { return None };
        let lag = if self.is_live() { self.lag() } else { Duration::ZERO };
        let mark = (at != self.noted).then(|| Mark::behind(&self.tails, [stdout, stderr], lag));
        mark.flatten()
    }

    /// All lanes have noted this place.
    pub fn noted(&mut self, mark: &Mark) {
        self.noted = mark.at();
    }

    /// A read of attach number `attach` has brought `bytes`; `all`: it took what there was.
    pub fn note_read(&mut self, attach: u64, bytes: usize, all: bool, now: SystemTime) {
        if attach != self.attach {
            return;
        }
        let at = self.feed.at(now);
        // What is only held does not count: it is read again if it must be let go of.
        let reads = if self.is_live() { &mut self.reads } else { &mut self.held_reads };
        reads.note(at, bytes, all);
    }

    /// When the last of what was delivered came, in nanoseconds since 1970; `None` if nothing was.
    pub fn reached(&self) -> Option<u64> {
        self.tails.iter().map(Tail::last).max().filter(|&last| last > 0)
    }

    /// When the attach was last read, in nanoseconds since 1970.
    pub fn read_until(&self) -> u64 {
        self.reads.at()
    }

    /// How much longer than usual what is delivered may have waited, before it was read or held.
    pub fn lag(&self) -> Duration {
        self.spread + self.reads.lag()
    }

    /// Whether the lanes of both have got the same: both have read one run to its end, or the
    /// streams of both are live, ended with the same bytes, and have been silent since
    /// `quiet_since` (nanoseconds since 1970).
    pub fn is_level_with(&self, other: &Intake, quiet_since: u64) -> bool {
        let rested = self.rested.is_some() && self.rested == other.rested;
        let live = |intake: &Intake| {
            intake.is_live() && intake.ended.is_none() && intake.reads.at() < quiet_since
        };
        let tails = || self.tails.iter().zip(&other.tails).all(|(a, b)| a.ends_like(b));
        rested || live(self) && live(other) && tails() && self.feed.is_level_with(&other.feed)
    }

    /// An attach is in place; its bytes come under the number that is returned. A seam that was
    /// being looked for goes on with it: see [`Seam::renew`]. No more than `room` bytes fit between
    /// the daemon and us.
    pub fn opened(&mut self, room: u64) -> u64 {
        match &mut self.phase {
            Phase::Joining(frames, _, tty, _) => *frames = demux(*tty),
            phase => {
                *phase = Phase::Unknown(Vec::new(), self.hold.share());
                self.held = None;
            }
        }
        (self.ended, self.ended_at, self.broken) = (None, 0, false);
        self.rested = None;
        self.spread = Duration::ZERO;
        // What came before is behind another place, and is of no interest to this one.
        self.reads = Reads::new(room, self.feed.at(clock::wall()));
        self.held_reads = self.reads.clone();
        self.attach += 1;
        self.attach
    }

    /// The attach is let go of since it has brought nothing any more from `live_until` on.
    pub fn hang(&mut self, live_until: u64) {
        self.ended = Some(Ended::Hung { live_until });
        self.let_go();
    }

    /// The attach is let go of; what it held is not wanted.
    pub fn let_go(&mut self) {
        self.phase = Phase::Closed;
        self.attach += 1;
    }

    /// Bytes of attach number `attach`, read at `now`; `false` if no more of them are wanted.
    #[inline]
    pub fn take(&mut self, attach: u64, bytes: &[u8], now: SystemTime) -> bool {
        if attach != self.attach {
            return false;
        }
        let taken = self.take_current(bytes, now);
        if let Err(ended) = taken {
            self.ended = Some(ended);
            return false;
        }
        true
    }

    #[inline]
    fn take_current(&mut self, bytes: &[u8], now: SystemTime) -> Result<(), Ended> {
        if self.feed.full_lanes().0 > 0 {
            self.meet_full_lanes()?;
        }
        if let Phase::Live(demux) = &mut self.phase {
            let taken = self.feed.read(demux, bytes, now, &mut self.tails, &mut self.complaint);
            return taken.map_err(|corrupt| Ended::Corrupt(corrupt.to_string()));
        }
        self.held = Some((self.held.map_or(now, |(first, _)| first), now));
        self.hold(bytes, self.feed.at(now))
    }

    /// Some lanes have no room for what comes.
    #[cold]
    fn meet_full_lanes(&mut self) -> Result<(), Ended> {
        match self.full_lanes() {
            (0, _) => self.feed.make_room(),
            _ if !self.is_live() => {}
            (full, lanes) if full == lanes => return Err(Ended::Blocked),
            _ => self.part_with_full(None),
        }
        Ok(())
    }

    fn hold(&mut self, bytes: &[u8], now: u64) -> Result<(), Ended> {
        match &mut self.phase {
            // Nobody waits for them any more.
            Phase::Closed | Phase::Live(_) => Err(Ended::Eof),
            Phase::Unknown(held, share) => {
                let size = held.len() + bytes.len();
                if self.unreadable && size <= self.hold.most() {
                    share.must_set(size);
                } else if !share.set(size) {
                    return Err(Ended::Full { held: held.len() });
                }
                held.extend_from_slice(bytes);
                Ok(())
            }
            Phase::Joining(demux, seam, _, share) => {
                let taken = hold_in_seam(demux, seam, bytes, now, &mut self.complaint);
                taken.and(share_seam(seam, share, self.unreadable))
            }
        }
    }

    /// A message of the log that is delivered; `None` if no seam is being looked for, otherwise
    /// see [`Seam::logged`].
    pub fn logged(&mut self, source: Source, ts: u64, bytes: &[u8]) -> Option<bool> {
        let Phase::Joining(_, seam, _, share) = &mut self.phase else { return None };
        let (was_full, held) = (seam.is_full(), seam.size());
        let newline_first = seam.logged(source, ts, bytes);
        let shared = share_seam(seam, share, self.unreadable);
        if shared.is_err() || seam.is_full() && !was_full {
            self.ended = Some(Ended::Full { held });
            self.attach += 1; // who reads it is to stop
        }
        Some(newline_first)
    }

    /// Attach number `attach` has ended at `now`; `broken`: not in an orderly way.
    pub fn end(&mut self, attach: u64, now: u64, broken: bool) {
        if attach == self.attach {
            self.ended.get_or_insert(Ended::Eof);
            (self.ended_at, self.broken) = (now, broken);
        }
    }

    /// Whether the stream ended in an orderly way, and at or after this time (nanoseconds since
    /// 1970): a container that ended then has written all of it.
    pub fn is_whole_since(&self, finished_at: u64) -> bool {
        !self.broken && self.ended_at >= finished_at
    }

    /// When the attach stream ended, if it has: nanoseconds since 1970 by the daemon's clock.
    pub fn ended_at(&self) -> Option<u64> {
        self.ended.is_some().then_some(self.ended_at).filter(|at| *at > 0)
    }

    /// Whether bytes go their way as they come.
    pub fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Live(_))
    }

    /// Whether what was read is to be looked at by whoever follows the container.
    pub fn needs_attention(&self) -> bool {
        !self.is_live() || !self.parted.is_empty()
    }

    /// Whether an attach is in place that has brought nothing yet, nor ended.
    pub fn is_silent(&self) -> bool {
        self.ended.is_none() && matches!(&self.phase, Phase::Unknown(held, _) if held.is_empty())
    }

    /// Whether what is held begins like a frame: the best guess where nobody knows any more.
    pub fn looks_framed(&self) -> bool {
        matches!(&self.phase, Phase::Unknown(held, _) if matches!(held[..], [0..=3, 0, 0, 0, ..]))
    }

    /// The container has ended: an unterminated last line is a line.
    pub fn finish(&mut self) {
        self.feed.finish();
    }

    /// How the attach stream ended, if it has.
    pub fn ended(&self) -> Option<&Ended> {
        self.ended.as_ref()
    }

    /// What the daemon said of itself on the stream, once.
    pub fn take_complaint(&mut self) -> Option<String> {
        self.complaint.take()
    }

    /// Everything that came before the attach is delivered, or not wanted: go live.
    pub fn go_live(&mut self, tty: bool) {
        let Phase::Unknown(held, _) = &mut self.phase else { return };
        let held = std::mem::take(held);
        self.phase = Phase::Live(demux(tty));
        // They are as old as that: what came since has its own time.
        let now = clock::wall();
        let until = self.held.map_or(now, |(_, last)| last);
        self.spread = self.held_for();
        self.take_held_reads();
        if let Err(ended) = self.take_current(&held, until) {
            self.ended = Some(ended);
        }
    }

    /// What the log has is to be delivered first: hold what comes, and look for the seam.
    pub fn join(&mut self, tty: bool, config: SeamConfig) {
        let now = self.feed.at(clock::wall());
        let (held, mut share) = match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Unknown(held, share) => (held, share),
            _ => (Vec::new(), self.hold.share()),
        };
        self.spread = self.held_for();
        let (mut demux, mut seam) = (demux(tty), Box::new(Seam::new(config)));
        let taken = hold_in_seam(&mut demux, &mut seam, &held, now, &mut self.complaint);
        let shared = share_seam(&mut seam, &mut share, self.unreadable);
        self.ended = self.ended.take().or(taken.and(shared).err());
        self.phase = Phase::Joining(demux, seam, tty, share);
    }

    /// The seam that is being looked for.
    pub fn seam(&mut self) -> Option<&mut Seam> {
        match &mut self.phase {
            Phase::Joining(_, seam, ..) => Some(seam),
            _ => None,
        }
    }

    /// How long what is held lay apart when it was read.
    fn held_for(&self) -> Duration {
        let apart = self.held.and_then(|(first, last)| last.duration_since(first).ok());
        apart.unwrap_or_default()
    }

    /// The seam was found: deliver what the log has not, and go live.
    pub fn joined(&mut self, now: SystemTime) {
        let now = self.feed.at(now);
        match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Joining(demux, seam, _, _share) => {
                self.phase = Phase::Live(demux);
                for source in Source::OUTPUTS {
                    let rest = seam.rest(source);
                    let at = seam.arrived(source).unwrap_or(now);
                    if rest.newline_first {
                        self.deliver(source, b"\n", at);
                    }
                    self.deliver(source, rest.bytes, at);
                }
                self.take_held_reads();
            }
            other => self.phase = other,
        }
    }

    /// There is no log to join: deliver all that is held, and go live.
    pub fn skip_seam(&mut self, now: SystemTime) {
        let now = self.feed.at(now);
        let phase = std::mem::replace(&mut self.phase, Phase::Closed);
        if let Phase::Joining(demux, seam, _, _share) = phase {
            self.phase = Phase::Live(demux);
            for source in Source::OUTPUTS {
                let at = seam.arrived(source).unwrap_or(now);
                self.deliver(source, seam.held_bytes(source), at);
            }
            self.take_held_reads();
        }
    }

    /// What was held is delivered: that the attach was known to work then counts.
    fn take_held_reads(&mut self) {
        self.reads = std::mem::take(&mut self.held_reads);
        self.held = None;
    }

    /// Bytes of one source, with their time (nanoseconds since 1970).
    pub fn deliver(&mut self, source: Source, bytes: &[u8], at: u64) {
        self.tails[source as usize].note(bytes, at);
        self.feed.write_at(source, bytes, at);
    }
}

fn hold_in_seam(
    demux: &mut Demux,
    seam: &mut Seam,
    bytes: &[u8],
    now: u64,
    complaint: &mut Option<String>,
) -> Result<(), Ended> {
    let (mut full, held) = (false, seam.size());
    let pushed = demux.push(bytes, |piece| match piece {
        Piece::Output { source, bytes, .. } => full |= seam.attach(source, bytes, now).is_err(),
        Piece::SystemError { bytes, .. } => note(complaint, bytes),
    });
    match pushed {
        Ok(()) if full => Err(Ended::Full { held }),
        Ok(()) => Ok(()),
        Err(corrupt) => Err(Ended::Corrupt(corrupt.to_string())),
    }
}

/// Counts what the seam holds, or has it let go of that. Where there is no log to read it from
/// (`must`) there is room for it.
fn share_seam(seam: &mut Seam, share: &mut Share, must: bool) -> Result<(), Ended> {
    let held = seam.size();
    if must {
        share.must_set(held);
    } else if !share.set(held) {
        seam.let_go();
        share.must_set(0);
        return Err(Ended::Full { held });
    }
    Ok(())
}

/// Keeps what the daemon says of itself (frame type 3), as far as a message needs it.
pub fn note(complaint: &mut Option<String>, text: &[u8]) {
    const ENOUGH: usize = 500;
    let said = complaint.get_or_insert_default();
    if said.len() < ENOUGH {
        said.extend(String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).take(ENOUGH));
    }
}

fn demux(tty: bool) -> Demux {
    if tty { Demux::tty() } else { Demux::framed() }
}

/// Nanoseconds since 1970.
pub fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    const ROOM: u64 = 1 << 20;

    fn intake(hold: &Arc<Hold>) -> Intake {
        Intake::new(Feed::new(1024, Rc::default(), Arc::default()), Arc::clone(hold))
    }

    /// An attach that is being joined, and its number.
    fn joining(hold: &Arc<Hold>) -> (Intake, u64) {
        let mut intake = intake(hold);
        let attach = intake.opened(ROOM);
        let now = nanos(clock::wall());
        intake.join(true, SeamConfig::new(now, now, Duration::ZERO, hold.most()));
        (intake, attach)
    }

    #[test]
    fn a_hundred_containers_hold_no_more_together_than_one_may() {
        const OWN: usize = 16 << 10;
        let hold = Arc::new(Hold::new(8 << 20));
        let mut all: Vec<(Intake, u64)> = (0..100).map(|_| joining(&hold)).collect();
        let (mut most, line) = (0, [b'x'; 4096]);
        for _ in 0..256 {
            for (intake, attach) in &mut all {
                intake.take(*attach, &line, clock::wall());
                intake.logged(Source::Stdout, nanos(clock::wall()), &line[..1000]);
                most = most.max(hold.held());
            }
        }
        assert!((7 << 20..=(8 << 20) + 100 * OWN).contains(&most), "{most}");
        let full = |(intake, _): &(Intake, u64)| matches!(intake.ended(), Some(Ended::Full { .. }));
        let let_go = all.iter().filter(|one| full(one)).count();
        assert!((90..100).contains(&let_go), "{let_go}");
        all.iter_mut().for_each(|(intake, _)| intake.let_go());
        assert_eq!(hold.held(), 0);
    }

    #[test]
    fn a_log_that_shows_more_than_may_be_held_ends_the_attach() {
        let hold = Arc::new(Hold::new(4096));
        let (mut intake, attach) = joining(&hold);
        assert!(intake.take(attach, b"a line\n", clock::wall()));
        let (line, later) = ([&[b'x'; 999], &b"\n"[..]].concat(), nanos(clock::wall()));
        for _ in 0..5 {
            assert_eq!(intake.logged(Source::Stdout, later, &line), Some(false));
        }
        assert!(matches!(intake.ended(), Some(Ended::Full { held: 4007 })), "{:?}", intake.ended());
        assert!(!intake.take(attach, b"another\n", clock::wall()));
        assert_eq!(hold.held(), 0);
    }

    /// What cannot be read again is let go of last.
    #[test]
    fn without_a_log_others_do_not_matter() {
        let hold = Arc::new(Hold::new(4096));
        let mut other = hold.share();
        other.must_set(4096);
        let mut intake = intake(&hold);
        intake.unreadable = true;
        let attach = intake.opened(ROOM);
        assert!(intake.take(attach, &[b'x'; 4096], clock::wall()));
        assert!(!intake.take(attach, b"x", clock::wall()));
        assert_eq!(hold.held(), 8192);
        intake.go_live(true);
        assert_eq!(hold.held(), 4096);
    }
}
