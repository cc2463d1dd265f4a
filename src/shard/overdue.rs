//! Tells an answer that takes its time from one that hangs: the head of an attach, and all that
//! the `logs` door says. By asking the daemon, never by time alone.
//!
//! Where the log is long a daemon may look for our place for minutes before it has anything to
//! say, and a log that is followed may have nothing to say for years. So what was silent for a
//! while is asked about: does the daemon answer the same question, asked for one line alone? Then
//! a head should have come long ago, and of an answer that has begun to bring lines the next line
//! or the end; of one that is followed only a line that the log has and that has not come. What
//! hangs is let go of and asked for anew, from our place on. Where nothing of the log came in time,
//! the next pass gets twice the time.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::backlog::Backlog;
use super::follow::Follower;
use super::vigil::UNDER_WAY;
use crate::docker::inspect::parse_inspect;
use crate::docker::request::LogsQuery;
use crate::io::clock;
use crate::io::stream::Closer;
use crate::transport::daemon::{Answer, DaemonError};

/// A daemon may look for our place in a log for so many times the time that a stream may be silent.
const SEARCH: u32 = 5;
/// The time for a log is doubled so often at most: to three and a half days, where a stream may be
/// silent for a minute.
const DOUBLED_MAX: u32 = 10;

/// What was asked of the daemon.
pub(super) enum Asked {
    /// To attach; its head alone is waited for here.
    Attach,
    /// For the log from this time on: nanoseconds since 1970.
    Log {
        /// `None`: from its begin on.
        since: Option<u64>,
        /// It goes on with what is written.
        follow: bool,
    },
}

impl Asked {
    /// What a pass over the log asks for.
    pub(super) fn log(query: &LogsQuery) -> Asked {
        // What is asked for up to a time comes to an end.
        Asked::Log { since: query.since, follow: query.follow && query.until.is_none() }
    }

    fn shown(&self) -> &'static str {
        match self {
            Asked::Attach => "the answer to attach",
            Asked::Log { .. } => "reading its log",
        }
    }
}

/// How far an answer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its head is waited for.
    Head,
    /// Its first line is: the daemon may be looking for it.
    Search,
    /// It brings lines.
    Lines,
}

/// An answer that is waited for.
pub(super) struct Awaited {
    asked: Asked,
    stage: Cell<Stage>,
    /// Ends the connection, and that of a question about it.
    closer: RefCell<Option<Closer>>,
    question: RefCell<Option<Closer>>,
    /// Since when the daemon is waited for; `None` while it is us who are busy.
    since: Cell<Option<Instant>>,
    /// The time of the newest line that came.
    newest: Cell<Option<u64>>,
    over: Cell<bool>,
    bell: Notify,
}

impl Awaited {
    /// An answer to what is about to be asked.
    pub(super) fn new(asked: Asked) -> Awaited {
        Awaited {
            asked,
            stage: Cell::new(Stage::Head),
            closer: RefCell::default(),
            question: RefCell::default(),
            since: Cell::default(),
            newest: Cell::default(),
            over: Cell::default(),
            bell: Notify::new(),
        }
    }

    /// It is asked for, over the connection that `closer` ends.
    pub(super) fn begins(&self, closer: &Closer) {
        self.closer.replace(Some(closer.clone()));
        self.since.set(Some(clock::now()));
    }

    /// Its head has come.
    pub(super) fn has_head(&self) {
        self.stage.set(Stage::Search);
        self.since.set(None);
    }

    /// More of it is waited for.
    pub(super) fn waits(&self) {
        self.since.set(Some(clock::now()));
    }

    /// It has come: there are other things to do.
    pub(super) fn came(&self) {
        self.since.set(None);
    }

    /// A line of this time came with it.
    #[inline]
    pub(super) fn brought(&self, stamp: u64) {
        self.stage.set(Stage::Lines);
        self.newest.set(self.newest.get().max(Some(stamp)));
    }

    /// Nothing of it is waited for any more.
    fn end(&self) {
        self.over.set(true);
        self.bell.notify_one();
        if let Some(question) = self.question.take() {
            question.close();
        }
    }

    /// Waits until `at`; `false` if it is over before that.
    async fn lasts_until(&self, at: Instant) -> bool {
        while !self.over.get() && clock::now() < at {
            let _ = tokio::time::timeout_at(at.into(), self.bell.notified()).await;
        }
        !self.over.get()
    }
}

/// What the daemon says of an answer that is waited for.
enum Finding {
    /// It should have come, or may still be under way.
    Missing,
    /// It may be silent, or nobody knows.
    Silent,
    /// The container that it follows has ended, and it has not.
    Ended,
}

impl Follower {
    /// Has `answer` come, which tells `awaited` of itself, and looks after it meanwhile.
    pub(super) async fn watched<T>(&self, awaited: &Awaited, answer: impl Future<Output = T>) -> T {
        let answer = async {
            let answer = answer.await;
            awaited.end();
            answer
        };
        // Neither is dropped half way: both read.
        tokio::join!(answer, self.look_after(awaited)).0
    }

    async fn look_after(&self, awaited: &Awaited) {
        let silence = self.crew.asking.silence;
        let mut at = clock::now() + silence;
        // Which wait it was about, and when the daemon first said that something is missing.
        let mut missing = None;
        while awaited.lasts_until(at).await {
            let now = clock::now();
            let since = awaited.since.get().unwrap_or(now);
            let due = since + self.patience_for(awaited);
            if now < due {
                at = due.min(now + silence);
                continue;
            }
            if !awaited.lasts_until(self.crew.asking.take(now)).await {
                return;
            }
            let finding = self.ask_about(awaited).await;
            let now = clock::now();
            at = now + silence;
            if awaited.over.get() || awaited.since.get() != Some(since) {
                continue; // something has come meanwhile
            }
            match finding {
                Finding::Silent => {}
                Finding::Ended => {
                    return self.let_go_of(awaited, "although its container has ended");
                }
                Finding::Missing => {
                    let known = missing.filter(|(wait, _)| *wait == since);
                    let first = known.map_or(now, |(_, first)| first);
                    missing = Some((since, first));
                    let under_way = UNDER_WAY.min(silence);
                    if now >= first + under_way {
                        return self.let_go_of(awaited, "although others are answered");
                    }
                    at = now + under_way;
                }
            }
        }
    }

    /// How long the next of it may be waited for before it is asked about.
    fn patience_for(&self, awaited: &Awaited) -> Duration {
        let silence = self.crew.asking.silence;
        let doubled = 1 << self.overdue.get().min(DOUBLED_MAX);
        match (&awaited.asked, awaited.stage.get()) {
            (Asked::Attach, _) | (_, Stage::Lines) => silence,
            (_, Stage::Head) => silence * doubled,
            (_, Stage::Search) => silence * SEARCH * doubled,
        }
    }

    async fn ask_about(&self, awaited: &Awaited) -> Finding {
        let api = self.crew.daemon().api;
        let Asked::Log { since, follow } = awaited.asked else {
            return match self.ask_beside(awaited, &api.inspect(&self.id)).await {
                Ok(_) | Err(DaemonError::Refused { status: 404, .. }) => Finding::Missing,
                Err(_) => Finding::Silent,
            };
        };
        let since = awaited.newest.get().map(|newest| newest.saturating_add(1)).or(since);
        let query = LogsQuery { since, until: None, tail: Some(1), follow: false };
        let answer = match self.ask_beside(awaited, &api.logs(&self.id, &query)).await {
            Ok(answer) => answer,
            // It is gone.
            Err(DaemonError::Refused { status: 404 | 409, .. }) => return Finding::Missing,
            Err(_) => return Finding::Silent,
        };
        if !follow || self.has_line(&answer.body, since) {
            return Finding::Missing;
        }
        let told = self.run.is_some_and(|run| self.mail.death_since(run).is_some());
        if !told {
            return Finding::Silent;
        }
        match self.ask_beside(awaited, &api.inspect(&self.id)).await.map(|a| parse_inspect(&a.body))
        {
            Ok(Ok(seen)) if !self.is_this_run(&seen) => Finding::Ended,
            _ => Finding::Silent,
        }
    }

    /// Whether an answer of the `logs` door has a line of this time or later.
    fn has_line(&self, body: &[u8], since: Option<u64>) -> bool {
        let (mut log, mut newest) = (Backlog::new(self.container.tty), None);
        let pushed = log.push(body, &mut |_, stamp, _| newest = newest.max(Some(stamp)));
        log.finish(&mut |_, stamp, _| newest = newest.max(Some(stamp)));
        pushed.is_ok() && newest.is_some() && newest >= since
    }

    /// Asks something else, for as long as the answer itself is waited for.
    async fn ask_beside(&self, awaited: &Awaited, request: &[u8]) -> Result<Answer, DaemonError> {
        let began = |closer: Closer| {
            if awaited.over.get() {
                closer.close();
            }
            awaited.question.replace(Some(closer.clone()));
            self.mail.asked(closer);
        };
        self.crew.daemon().ask(request, began).await
    }

    /// Ends an answer that hangs.
    fn let_go_of(&self, awaited: &Awaited, why: &str) {
        let (what, container) = (awaited.asked.shown(), &self.container.name);
        tracing::warn!(container, "{what} hangs, {why}: asking again");
        self.crew.counters.hung.add(1);
        if matches!(awaited.asked, Asked::Log { .. }) && awaited.stage.get() != Stage::Lines {
            self.overdue.set(self.overdue.get() + 1);
        }
        if let Some(closer) = awaited.closer.take() {
            closer.close();
        }
    }
}
