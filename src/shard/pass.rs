//! One pass over a container's log through the `logs` door, and the place where the next goes on.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use super::backlog::Backlog;
use super::follow::Follower;
use super::intake::Intake;
use crate::docker::Source;
use crate::docker::inspect::Container;
use crate::docker::logs::Parts;
use crate::docker::request::LogsQuery;
use crate::doors::cursor::Cursor;
use crate::doors::resume::{Replay, Resume};
use crate::transport::daemon::{DaemonError, Streaming};

/// How far a container's log has been read.
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
}

/// A run of a container, as inspect tells it: nanoseconds since 1970, daemon's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastRun {
    /// `StartedAt`.
    pub started_at: Option<u64>,
    /// `FinishedAt`.
    pub finished_at: u64,
}

/// How far the stamps of a run's lines may lie outside the times that inspect tells of it: 1.4 ms
/// were seen.
const OUTSIDE_NANOS: u64 = 50_000_000;

/// The pauses while receivers catch up.
const EASE: Duration = Duration::from_millis(2);
/// A receiver that took nothing for so long is not waited for.
const EASE_MAX: Duration = Duration::from_secs(1);

/// Why a pass did not come to the end of the log.
pub enum PassError {
    /// The container is gone, and its log with it.
    Gone,
    /// The daemon cannot read this log; its words.
    Unreadable(String),
    /// The connection broke.
    Broken(String),
}

impl Place {
    /// Before the newest `tail` lines, or all of them, as they are `now`.
    pub fn backlog(tail: Option<u64>, now: u64) -> Place {
        Place { tail: tail.map(|lines| (lines, now)), ..Place::since(0) }
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
        }
    }

    /// Behind what attach delivered after passes that came as far as `shown`.
    pub fn after(resume: Resume, shown: Cursor) -> Place {
        let since = resume.since();
        Place { resume: Some(resume), shown, ..Place::since(since) }
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

    /// Before all of the run that inspect shows.
    pub fn this_run(container: &Container) -> Place {
        let started = container.started_at.unwrap_or(0);
        Place::since(started.saturating_sub(OUTSIDE_NANOS))
    }

    /// The container may have run again. Then what is unread begins between the end of the last
    /// run and the start of the one after it: no need to look for the end of what was delivered,
    /// and no doubt where a container writes the same lines each time it starts.
    pub fn run_again(&mut self, container: &Container) {
        let Some(last) = self.clean else { return };
        let Some(started) = container.started_at.filter(|_| !self.is_clean(container)) else {
            return;
        };
        let half = (started.saturating_sub(last.finished_at) / 2).min(OUTSIDE_NANOS);
        let border = match container.finished_at {
            // No other run ended since: this is the one after it.
            Some(finished) if finished == last.finished_at => started - half,
            _ => last.finished_at.saturating_add(half),
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

    /// The pass was read to its end. Returns for how many sources it was a guess in this pass
    /// where the delivered lines end.
    fn end_pass(&mut self, intake: &mut Intake) -> u64 {
        self.cursor.end_pass();
        let parts = &mut self.parts;
        let mut guesses = 0;
        if let Some(resume) = &mut self.resume {
            resume.pass_ended(&mut |replay| deliver(&replay, parts, intake));
            if resume.is_decided() && !std::mem::replace(&mut self.resumed, true) {
                let unsure = Source::ALL.into_iter().filter(|&source| resume.is_unsure(source));
                guesses = unsure.count() as u64;
            }
        }
        // Lines that were left out because of the limit stay left out.
        if let Some((_, asked_at)) = self.tail.take()
            && self.cursor.since(&Source::ALL).is_none()
        {
            self.cursor = Cursor::at(asked_at);
        }
        guesses
    }
}

fn deliver(replay: &Replay<'_>, parts: &mut [Parts; 2], intake: &mut Intake) {
    let Replay { source, ts, newline_first, bytes } = *replay;
    let omitted = parts[source as usize].newline_before(ts, bytes);
    let omitted = match intake.seam() {
        Some(seam) => seam.logged(source, ts, bytes),
        None => omitted,
    };
    if newline_first || omitted {
        intake.deliver(source, b"\n", ts);
    }
    intake.deliver(source, bytes, ts);
}

/// Reads from `place` to the end of the log; with `follow` until the container stops.
pub async fn read(
    follower: &Follower,
    place: &mut Place,
    tty: bool,
    follow: bool,
) -> Result<(), PassError> {
    let sources: &[Source] = if tty { &[Source::Stdout] } else { &Source::ALL };
    let daemon = follower.crew.daemon();
    let request = daemon.api.logs(&follower.id, &place.query(sources, follow));
    let began = follower.crew.now();
    let answer = daemon.stream(&request, |closer| follower.mail.asked(closer)).await;
    let stream = answer.map_err(refused)?;
    place.cursor.begin_pass();
    if let Some(resume) = &mut place.resume {
        resume.pass_begins(began);
    }
    if let Some(seam) = follower.intake.borrow_mut().seam() {
        seam.pass_begins(began);
    }
    let result = read_messages(stream, place, tty, &follower.intake).await;
    let now = follower.crew.now();
    let mut intake = follower.intake.borrow_mut();
    match &result {
        Ok(()) => {
            follower.crew.counters.unsure_seams.add(place.end_pass(&mut intake));
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

async fn read_messages(
    mut stream: Streaming,
    place: &mut Place,
    tty: bool,
    intake: &RefCell<Intake>,
) -> Result<(), PassError> {
    let mut log = Backlog::new(tty);
    let mut patient = true;
    loop {
        let mut corrupt = None;
        let more = stream
            .next(&mut |bytes| {
                let mut intake = intake.borrow_mut();
                let pushed = log.push(bytes, &mut |source, ts, text| {
                    place.take(source, ts, text, &mut intake);
                });
                corrupt = corrupt.take().or(pushed.err());
            })
            .await;
        if let Some(error) = corrupt {
            return Err(PassError::Broken(error.to_string()));
        }
        if !more.map_err(refused)? {
            break;
        }
        stream.breathe().await;
        patient = patient && ease(intake).await;
    }
    let mut intake = intake.borrow_mut();
    log.finish(&mut |source, ts, text| place.take(source, ts, text, &mut intake));
    match log.complaint {
        // In-band: the daemon met an error while it read.
        Some(words) => Err(PassError::Broken(format!("the daemon says: {words}"))),
        None => Ok(()),
    }
}

/// A log can wait, unlike a container: reads no faster than the receivers take. `false` once one
/// takes nothing any more; the others are not to suffer from it.
async fn ease(intake: &RefCell<Intake>) -> bool {
    let mut since = Instant::now();
    let mut delivered = 0;
    loop {
        let Some(now_delivered) = intake.borrow().feed.pressed() else { return true };
        if now_delivered != delivered {
            (delivered, since) = (now_delivered, Instant::now());
        } else if since.elapsed() > EASE_MAX {
            return false;
        }
        tokio::time::sleep(EASE).await;
    }
}

fn refused(error: DaemonError) -> PassError {
    match error.status() {
        Some(404 | 409) => PassError::Gone,
        // A proxy whose daemon is away.
        Some(502..=504) => PassError::Broken(error.to_string()),
        Some(_) => PassError::Unreadable(error.to_string()),
        None => PassError::Broken(error.to_string()),
    }
}
