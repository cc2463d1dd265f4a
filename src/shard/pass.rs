//! One pass over a container's log through the `logs` door, and the place where the next goes on.

use std::cell::RefCell;
use std::time::Duration;

use super::backlog::Backlog;
use super::follow::Follower;
use super::intake::Intake;
use super::overdue::{Asked, Awaited};
use crate::docker::Source;
use crate::docker::inspect::Container;
use crate::docker::logs::Parts;
use crate::docker::request::LogsQuery;
use crate::doors::cursor::{Cursor, Rotated};
use crate::doors::opening::Opening;
use crate::doors::resume::{Replay, Resume};
use crate::io::clock;
use crate::io::stream::Closer;
use crate::transport::daemon::{DaemonError, Streaming};

/// How far a container's log has been read.
#[derive(Clone)]
pub struct Place {
    cursor: Cursor,
    parts: [Parts; 2],
    /// Finds the end of what attach delivered before; `None` where nothing was.
    resume: Option<Resume>,
    /// It is found, and counted if it was a guess.
    resumed: bool,
    /// Of the first pass: at most so many lines, and when it was asked for.
    tail: Option<(u64, u64)>,
    /// The last run, if all of it was taken: nothing is unread until the container runs again.
    clean: Option<LastRun>,
    /// How far earlier passes came: what they have shown is not read again.
    shown: Cursor,
    /// All that was written up to this time was taken, and some of it: if the log has no message so
    /// old any more, those after it may be missing too. To be looked at before the next pass.
    reaches: Option<u64>,
    /// That was looked for.
    looked: bool,
    /// Nothing is known of it but a time, and its log was not read.
    opening: Option<Opening>,
    /// That it was rotated before that, until it is said.
    rotated: Option<Rotated>,
}

/// A run of a container, as inspect tells it: nanoseconds since 1970, daemon's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastRun {
    /// `StartedAt`.
    pub started_at: Option<u64>,
    /// `FinishedAt`, or if that is `told` the time of the event of its end: behind the last of its
    /// lines, and before the first of the next run.
    pub finished_at: u64,
    /// The daemon told of its end.
    pub told: bool,
}

impl LastRun {
    /// Whether an attach that was in place at `attached_at` may have been to a later run, where the
    /// last of what was delivered came at `delivered`: this run ended while attach was asked for,
    /// and something came after that. A daemon attaches to a container that does not run, too, and
    /// brings what it writes when it is started again.
    pub fn may_be_before_attach(&self, attached_at: u64, delivered: Option<u64>) -> bool {
        self.finished_at <= attached_at && delivered > Some(self.finished_at)
    }
}

/// How far the stamps of a run's lines may lie outside the times that inspect tells of it: 1.4 ms
/// were seen.
const OUTSIDE_NANOS: u64 = 50_000_000;

/// Where runs came and went in between, the next one is not begun so soon after the end of another.
const BEHIND_NANOS: u64 = 10_000_000;

/// The pauses while receivers catch up.
const EASE: Duration = Duration::from_millis(2);
/// A pass that no lane has room for is given up after so long.
const ROOM_SOON: Duration = Duration::from_secs(5);
/// A receiver that took nothing for so long is not waited for.
const EASE_MAX: Duration = Duration::from_secs(1);

/// What became of lines that are not in the log any more.
const ROTATED: &str = "its log has been rotated past them";

/// So often in turn a daemon may fail to read a log before it is taken for one that it cannot read.
const LOG_FAILURES: u32 = 5;

/// Why a pass did not come to the end of the log.
pub enum PassError {
    /// The container is gone, and its log with it.
    Gone,
    /// The daemon cannot read this log; its words.
    Unreadable(String),
    /// The connection broke.
    Broken(String),
    /// No lane has room for more.
    Blocked,
}

impl Place {
    /// Before the newest `tail` lines, or all of them, as they are `now`.
    pub fn backlog(tail: Option<u64>, now: u64) -> Place {
        Place { tail: tail.map(|lines| (lines, now)), opening: None, ..Place::since(0) }
    }

    /// Before the first message at or after `nanos` (since 1970, daemon's clock).
    pub fn since(nanos: u64) -> Place {
        Place {
            cursor: Cursor::at(nanos),
            parts: Default::default(),
            resume: None,
            resumed: false,
            tail: None,
            clean: None,
            shown: Cursor::new(),
            reaches: None,
            looked: false,
            opening: Some(Opening::new(nanos)),
            rotated: None,
        }
    }

    /// Behind what earlier passes have shown.
    pub fn on_from(shown: Cursor) -> Place {
        let opening = shown.is_before_all().then(|| Opening::new(shown.begins()));
        Place { cursor: shown.clone(), shown, opening, ..Place::since(0) }
    }

    /// The same, where all that was written up to this time (nanoseconds since 1970, daemon's
    /// clock) was taken, and some of it; `None` where nothing was.
    pub fn reaching(self, until: Option<u64>) -> Place {
        let opening = until.is_none().then(|| Opening::new(self.begins()));
        Place { reaches: until, opening, ..self }
    }

    /// Behind what attach delivered after passes that came as far as `shown`.
    pub fn after(resume: Resume, shown: Cursor) -> Place {
        let since = resume.since();
        Place { resume: Some(resume), shown, opening: None, ..Place::since(since) }
    }

    /// No message before this time is missing (nanoseconds since 1970, daemon's clock).
    pub fn begins(&self) -> u64 {
        self.cursor.begins()
    }

    /// How far it has come.
    pub fn cursor(&self) -> Cursor {
        self.cursor.clone()
    }

    /// Says that the run `last` has ended and all of it was taken.
    pub fn set_clean(&mut self, last: Option<LastRun>) {
        self.clean = last;
    }

    /// Whether nothing is unread of a container that does not run.
    pub fn is_clean(&self, container: &Container) -> bool {
        self.clean.is_some_and(|last| last.started_at == container.started_at)
    }

    /// Before all of the run that inspect shows: nanoseconds since 1970, daemon's clock.
    pub fn begin_of_run(container: &Container) -> u64 {
        container.started_at.unwrap_or(0).saturating_sub(OUTSIDE_NANOS)
    }

    /// The container may have run again. Then what is unread begins between the end of the last
    /// run and the start of the one after it: no need to look for the end of what was delivered,
    /// and no doubt where a container writes the same lines each time it starts.
    pub fn run_again(&mut self, container: &Container) {
        let Some(last) = self.clean else { return };
        let Some(started) = container.started_at.filter(|_| !self.is_clean(container)) else {
            return;
        };
        let half = started.saturating_sub(last.finished_at) / 2;
        let border = match container.finished_at {
            _ if last.told => last.finished_at,
            // No other run ended since: this is the one after it. Of a busy engine its first lines
            // were stamped 66 ms before `StartedAt`, and none was written between the runs.
            Some(finished) if finished == last.finished_at => started - half,
            _ => last.finished_at.saturating_add(half.min(BEHIND_NANOS)),
        };
        let mut cursor = std::mem::take(&mut self.shown);
        cursor.raise(border);
        *self = Place { cursor, ..Place::since(border) };
    }

    /// What to ask the daemon for.
    fn query(&self, sources: &[Source], follow: bool) -> LogsQuery {
        // Without an end the newest lines could be newer than the first that attach brings.
        let (tail, until) = self.tail.unzip();
        LogsQuery { since: self.cursor.since(sources), until, tail, follow }
    }

    /// Hands a message on if it was not delivered before.
    fn take(&mut self, source: Source, ts: u64, bytes: &[u8], intake: &mut Intake) {
        if !self.cursor.accept(source, ts) {
            return;
        }
        if let Some(opening) = &mut self.opening {
            let over = opening.is_over(ts);
            self.rotated = opening.logged(ts, bytes.len()).filter(|_| !over);
            if over || self.rotated.is_some() {
                self.opening = None;
            }
        }
        let parts = &mut self.parts;
        match &mut self.resume {
            Some(resume) => {
                resume.logged(source, ts, bytes, &mut |replay| deliver(&replay, parts, intake));
            }
            None => {
                let replay = Replay { source, ts, newline_first: false, bytes };
                deliver(&replay, parts, intake);
            }
        }
    }

    /// Says what may be missing, if the log was rotated past what was taken.
    fn tell_rotated(&mut self, follower: &Follower) {
        if let Some(Rotated { from, to }) = self.cursor.take_rotated().or(self.rotated.take()) {
            follower.note_gap(from, to, ROTATED);
        }
    }

    /// Whether messages are held back, because the last delivered ones may not be in the log yet.
    pub fn holds_back(&self) -> bool {
        self.resume.as_ref().is_some_and(|resume| !resume.is_decided())
    }

    /// No pass will show more: hands on what is held back, unless it is to be read once more.
    pub fn finish(&mut self, intake: &mut Intake) -> Result<(), PassError> {
        let parts = &mut self.parts;
        if let Some(resume) = &mut self.resume {
            resume.finish(&mut |replay| deliver(&replay, parts, intake));
        }
        self.is_read()
    }

    /// Whether what a pass has shown need not be read once more, since it was too much to be held
    /// until the end of what attach had delivered was found.
    fn is_read(&self) -> Result<(), PassError> {
        match self.resume.as_ref().is_some_and(Resume::wants_again) {
            true => Err(PassError::Broken("what came last is not in it: once more".to_owned())),
            false => Ok(()),
        }
    }

    /// Goes back to what is to be read once more.
    fn begin_again(&mut self) {
        let Some(resume) = &mut self.resume else { return };
        let since = resume.since();
        for source in resume.begins_again() {
            self.cursor.go_back(source, since);
            self.parts[source as usize] = Parts::default();
            self.looked = false;
        }
    }

    /// The pass was read to its end. Returns for how many sources it was a guess in this pass
    /// where the delivered lines end.
    fn end_pass(&mut self, intake: &mut Intake) -> u64 {
        self.cursor.end_pass();
        let parts = &mut self.parts;
        let mut guesses = 0;
        if let Some(resume) = &mut self.resume {
            resume.pass_ended(&mut |replay| deliver(&replay, parts, intake));
            if resume.is_decided() && !std::mem::replace(&mut self.resumed, true) {
                let unsure = Source::OUTPUTS.into_iter().filter(|&source| resume.is_unsure(source));
                guesses = unsure.count() as u64;
            }
        }
        // Lines that were left out because of the limit stay left out.
        if let Some((_, asked_at)) = self.tail.take()
            && self.cursor.since(&Source::OUTPUTS).is_none()
        {
            self.cursor = Cursor::at(asked_at);
        }
        guesses
    }
}

fn deliver(replay: &Replay<'_>, parts: &mut [Parts; 2], intake: &mut Intake) {
    let Replay { source, ts, newline_first, bytes } = *replay;
    let omitted = parts[source as usize].newline_before(ts, bytes);
    let omitted = intake.logged(source, ts, bytes).unwrap_or(omitted);
    if newline_first || omitted {
        intake.deliver(source, b"\n", ts);
    }
    intake.deliver(source, bytes, ts);
}

/// Reads from `place` to the end of the log; with `follow` until the container stops. One that is
/// to be read once more is broken off.
pub async fn read(
    follower: &Follower,
    place: &mut Place,
    tty: bool,
    follow: bool,
) -> Result<(), PassError> {
    let sources: &[Source] = if tty { &[Source::Stdout] } else { &Source::OUTPUTS };
    place.begin_again();
    if let Some(reached) = place.reaches.filter(|_| !place.looked) {
        look_for_gap(follower, reached, tty).await?;
        place.looked = true;
    }
    let _turn = if place.holds_back() { follower.turn_to_resume().await } else { None };
    let query = place.query(sources, follow);
    let awaited = Awaited::new(Asked::log(&query));
    let answer = read_answer(&query, place, tty, follower, &awaited);
    follower.watched(&awaited, answer).await
}

async fn read_answer(
    query: &LogsQuery,
    place: &mut Place,
    tty: bool,
    follower: &Follower,
    awaited: &Awaited,
) -> Result<(), PassError> {
    let began = follower.crew.now();
    let stream = open(query, follower, awaited).await?;
    follower.log_failures.set(0);
    place.cursor.begin_pass();
    if let Some(opening) = &mut place.opening {
        let run = Place::begin_of_run(&follower.container);
        opening.pass_begins(began, run, follower.container.log_full);
    }
    if let Some(resume) = &mut place.resume {
        resume.pass_begins(began);
    }
    if let Some(seam) = follower.intake.borrow_mut().seam() {
        seam.pass_begins(began);
    }
    let result = read_messages(stream, place, tty, follower, awaited).await;
    let now = follower.crew.now();
    let mut intake = follower.intake.borrow_mut();
    let result = result.and_then(|()| {
        follower.overdue.set(0);
        follower.crew.counters.unsure_seams.add(place.end_pass(&mut intake));
        place.is_read()
    });
    match &result {
        Ok(()) => {
            if let Some(seam) = intake.seam() {
                let _ = seam.pass_ended(now);
            }
        }
        Err(_) => {
            if let Some(seam) = intake.seam() {
                let _ = seam.pass_broken(now);
            }
        }
    }
    result
}

/// Asks for the log.
async fn open(
    query: &LogsQuery,
    follower: &Follower,
    awaited: &Awaited,
) -> Result<Streaming, PassError> {
    let daemon = follower.crew.daemon();
    let request = daemon.api.logs(&follower.id, query);
    let began = |closer: Closer| {
        awaited.begins(&closer);
        follower.mail.asked(closer);
    };
    let stream = daemon.stream(&request, began).await;
    awaited.has_head();
    stream.map_err(|error| follower.refused(error))
}

/// Says what is missing if the log begins later than at `reached`, because it has been rotated.
async fn look_for_gap(follower: &Follower, reached: u64, tty: bool) -> Result<(), PassError> {
    let all = LogsQuery { since: None, until: None, tail: None, follow: false };
    let awaited = Awaited::new(Asked::log(&all));
    let oldest = oldest(&all, follower, tty, &awaited);
    match follower.watched(&awaited, oldest).await? {
        Some(oldest) if oldest > reached => {
            follower.note_gap(reached, oldest, ROTATED);
        }
        _ => {}
    }
    Ok(())
}

/// When the oldest message of the log was written, if it has any.
async fn oldest(
    all: &LogsQuery,
    follower: &Follower,
    tty: bool,
    awaited: &Awaited,
) -> Result<Option<u64>, PassError> {
    let (mut stream, mut log) = (open(all, follower, awaited).await?, Backlog::new(tty));
    let mut oldest = None;
    loop {
        awaited.waits();
        let more = stream
            .next(&mut |bytes| {
                let _ = log.push(bytes, &mut |_, ts, _| {
                    oldest.get_or_insert(ts);
                });
            })
            .await;
        if oldest.is_some() || !more.map_err(|error| follower.refused(error))? {
            return Ok(oldest);
        }
    }
}

async fn read_messages(
    mut stream: Streaming,
    place: &mut Place,
    tty: bool,
    follower: &Follower,
    awaited: &Awaited,
) -> Result<(), PassError> {
    let (crew, intake) = (&follower.crew, &*follower.intake);
    let (mut log, mut pace) = (Backlog::new(tty), crew.pace());
    let mut held_back = crew.hold.share();
    let mut patient = true;
    loop {
        let (mut corrupt, mut read) = (None, 0);
        awaited.waits();
        let more = stream
            .next(&mut |bytes| {
                read += bytes.len();
                let mut intake = intake.borrow_mut();
                let pushed = log.push(bytes, &mut |source, ts, text| {
                    awaited.brought(ts);
                    place.take(source, ts, text, &mut intake);
                });
                corrupt = corrupt.take().or(pushed.err());
            })
            .await;
        awaited.came();
        place.is_read()?;
        place.tell_rotated(follower);
        held_back.must_set(place.resume.as_ref().map_or(0, Resume::held));
        if let Some(error) = corrupt {
            return Err(PassError::Broken(error.to_string()));
        }
        if !more.map_err(|error| follower.refused(error))? {
            break;
        }
        let full = intake.borrow().full_lanes();
        match full {
            (0, _) => {}
            (full, lanes) if full == lanes && !has_room_soon(follower).await => {
                return Err(PassError::Blocked);
            }
            (full, lanes) if full == lanes => {}
            _ => {
                intake.borrow_mut().part_with_full(Some(place.clone()));
                // One that follows may not end for years.
                follower.follow_parted();
            }
        }
        crew.note_much(intake, read);
        crew.rest(&stream, &mut pace, read).await;
        patient = patient && ease(intake).await;
    }
    let mut intake = intake.borrow_mut();
    log.finish(&mut |source, ts, text| place.take(source, ts, text, &mut intake));
    place.tell_rotated(follower);
    match log.complaint {
        // In-band: the daemon met an error while it read.
        Some(words) => Err(PassError::Broken(format!("the daemon says: {words}"))),
        None => Ok(()),
    }
}

/// Waits a while for room where no lane has any: the daemon would have to look for our place again.
async fn has_room_soon(follower: &Follower) -> bool {
    let until = clock::now() + ROOM_SOON;
    let room = &follower.crew.room;
    while follower.is_blocked() && !follower.mail.is_stopping() {
        let more = room.wait();
        if tokio::time::timeout_at(until.into(), more).await.is_err() {
            return false;
        }
    }
    !follower.mail.is_stopping()
}

/// A log can wait, unlike a container: reads no faster than the receivers take. `false` once one
/// takes nothing any more; the others are not to suffer from it.
async fn ease(intake: &RefCell<Intake>) -> bool {
    let mut since = clock::now();
    let mut delivered = 0;
    loop {
        let Some(now_delivered) = intake.borrow().feed.pressed() else { return true };
        if now_delivered != delivered {
            (delivered, since) = (now_delivered, clock::now());
        } else if clock::now() - since > EASE_MAX {
            return false;
        }
        tokio::time::sleep(EASE).await;
    }
}

impl Follower {
    /// What a refusal means. That a log was not read once may pass: there is no other way to what
    /// was written before the attach.
    fn refused(&self, error: DaemonError) -> PassError {
        let failures = self.log_failures.get() + 1;
        match error.status() {
            Some(404 | 409) => PassError::Gone,
            // A proxy whose daemon is away.
            Some(502..=504) => PassError::Broken(error.to_string()),
            Some(500) if failures < LOG_FAILURES => {
                self.log_failures.set(failures);
                PassError::Broken(error.to_string())
            }
            Some(_) => PassError::Unreadable(error.to_string()),
            None => PassError::Broken(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run that ended while attach was asked for, and the next one soon after: either may be the
    /// one that was attached.
    #[test]
    fn what_came_after_a_run_may_be_the_next_ones() {
        let last = LastRun { started_at: Some(10), finished_at: 67, told: true };
        assert!(last.may_be_before_attach(88, Some(293)));
        assert!(!last.may_be_before_attach(66, Some(293)), "it was attached while it ran");
        assert!(!last.may_be_before_attach(88, Some(60)), "nothing came after it");
        assert!(!last.may_be_before_attach(88, None));
    }

    /// A busy engine says late that a run has begun: its lines are already in the log.
    #[test]
    fn the_next_run_begins_well_before_it_is_said_to() {
        const SECOND: u64 = 1_000_000_000;
        let first = LastRun { started_at: Some(SECOND), finished_at: 3 * SECOND, told: false };
        let mut place = Place::since(0);
        place.set_clean(Some(first));
        let (started_at, finished_at) = (Some(5 * SECOND), Some(3 * SECOND));
        place.run_again(&Container { started_at, finished_at, ..Container::default() });
        assert_eq!(place.begins(), 4 * SECOND);
        assert!(place.clean.is_none());
    }
}
