//! When a webhook may be asked next, and what an answer means: the rate, the pauses, the end.
//!
//! Pure: the caller says what came and what time it is, and seeds the jitter. Sources: Slack's
//! rate limits (one message a second, short bursts allowed, 429 with `Retry-After`) and its list
//! of errors of incoming webhooks; RFC 9110, section 10.2.3, for `Retry-After`.

use std::fmt;
use std::time::{Duration, Instant};

use crate::transport::link::{Jitter, SAY_EVERY};

/// The pause after an answer 429 without `Retry-After`, and the shortest one.
const SLOW_MIN: Duration = Duration::from_secs(1);
/// The longest pause before the first retry; it doubles from then on.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// The longest pause between tries: how late it is noticed that the webhook works again.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// The longest `Retry-After` that is obeyed; more is a mistake of the other side.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);
/// A webhook that is gone is tried again so late, at first and at most.
const DEAD_MIN: Duration = Duration::from_secs(30);
const DEAD_MAX: Duration = Duration::from_secs(60 * 60);

/// What came back of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// HTTP status.
    pub(super) status: u16,
    /// `Retry-After`.
    pub(super) retry_after: Option<Duration>,
    /// The body, if it is one of Slack's one-word answers (`no_service`); else empty.
    pub(super) word: String,
    /// What else may be repeated of the body: nothing that is a secret.
    pub(super) text: String,
    /// The variable that holds the URL.
    pub(super) setting: &'static str,
}

/// What to do with the message that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It arrived.
    Delivered,
    /// It will never be taken.
    Refused,
    /// Send it again, once [`Pace::next`] allows it.
    Again,
}

/// What the user should hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// It does not work, and is tried again.
    Failing {
        /// Why, the last time.
        reason: String,
        /// Failures since all was well.
        failures: u32,
    },
    /// It works again.
    Recovered {
        /// Failures since all was well.
        failures: u32,
    },
    /// The other side asked for a pause.
    Slowed(Duration),
    /// This message was refused; others may not be.
    Refused(String),
    /// There is no such webhook (any more).
    Dead(String),
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Failing { reason, failures: 1 } => {
                write!(f, "webhook: {reason}; lines are held, trying until it works")
            }
            Notice::Failing { reason, failures } => {
                write!(f, "webhook: still failing after {failures} tries: {reason}")
            }
            Notice::Recovered { failures } => {
                write!(f, "webhook works again, failures: {failures}")
            }
            Notice::Slowed(pause) => {
                let pause = pause.as_secs();
                write!(f, "webhook asks for a pause of {pause} s; lines are held and put together")
            }
            Notice::Refused(reason) => write!(f, "webhook refuses a message: {reason}"),
            Notice::Dead(reason) => {
                write!(f, "webhook is gone: {reason}; its lines are dropped, and counted")
            }
        }
    }
}

/// The pace of one webhook.
#[derive(Debug)]
pub(super) struct Pace {
    /// One message so often, in the long run.
    every: Duration,
    /// So many at once, after a quiet time.
    burst: u32,
    /// When the bucket is full again.
    full_at: Option<Instant>,
    /// Nothing before this time, whatever the bucket holds.
    not_before: Option<Instant>,
    /// Failures since all was well.
    failures: u32,
    /// Answers in a row that say that the webhook is gone, and until when that is believed.
    dead: u32,
    dead_until: Option<Instant>,
    said_failing: Option<Instant>,
    said_slowed: Option<Instant>,
    said_refused: Option<Instant>,
    notice: Option<Notice>,
    jitter: Jitter,
}

impl Pace {
    /// A webhook that was not asked yet.
    pub(super) fn new(seed: u64, every: Duration, burst: u32) -> Pace {
        Pace {
            every,
            burst: burst.max(1),
            full_at: None,
            not_before: None,
            failures: 0,
            dead: 0,
            dead_until: None,
            said_failing: None,
            said_slowed: None,
            said_refused: None,
            notice: None,
            jitter: Jitter::new(seed),
        }
    }

    /// The time from which on a request may be sent: `now` or later.
    pub(super) fn next(&self, now: Instant) -> Instant {
        let bucket = self.full_at.and_then(|full| full.checked_sub(self.spare()));
        [bucket, self.not_before].into_iter().flatten().fold(now, Instant::max)
    }

    /// What a full bucket has beyond one message, in time.
    fn spare(&self) -> Duration {
        self.every.saturating_mul(self.burst - 1)
    }

    /// Whether lines are of no use: the webhook is gone, and it is not time to try it again.
    pub(super) fn is_dead(&self, now: Instant) -> bool {
        self.dead_until.is_some_and(|until| now < until)
    }

    /// A request is sent now: takes a token out of the bucket.
    pub(super) fn sent(&mut self, now: Instant) {
        self.full_at = Some(self.full_at.map_or(now, |full| full.max(now)) + self.every);
    }

    /// What to tell the user, once; ask after each [`Pace::judge`].
    pub(super) fn notice(&mut self) -> Option<Notice> {
        self.notice.take()
    }

    /// Takes note of an answer, or of why there is none.
    pub(super) fn judge(&mut self, answer: &Result<Answer, String>, now: Instant) -> Verdict {
        let answer = match answer {
            Ok(answer) => answer,
            Err(reason) => return self.fail(reason.clone(), None, now),
        };
        match (answer.status, answer.word.as_str()) {
            (200..=299, _) => {
                self.alive();
                if std::mem::take(&mut self.said_failing).is_some() {
                    self.notice = Some(Notice::Recovered { failures: self.failures });
                }
                self.failures = 0;
                Verdict::Delivered
            }
            (429, _) => self.slow(answer.retry_after, now),
            (408 | 425 | 500..=599, _) => self.fail(answer.to_string(), answer.retry_after, now),
            (301..=308 | 401 | 403 | 404 | 410, _) | (_, "no_service" | "no_team") => {
                self.die(answer.to_string(), now)
            }
            _ => {
                self.alive();
                if is_due(self.said_refused, now) {
                    self.said_refused = Some(now);
                    self.notice = Some(Notice::Refused(answer.to_string()));
                }
                Verdict::Refused
            }
        }
    }

    /// It answered like one that is there.
    fn alive(&mut self) {
        self.dead = 0;
        self.dead_until = None;
    }

    fn fail(&mut self, reason: String, asked: Option<Duration>, now: Instant) -> Verdict {
        self.failures = self.failures.saturating_add(1);
        let doublings = self.failures.saturating_sub(1).min(16);
        let most = BACKOFF_MIN.saturating_mul(1 << doublings).min(BACKOFF_MAX);
        let pause = self.jitter.half_to_all(most).max(asked.unwrap_or_default());
        self.not_before = Some(now + pause.min(RETRY_AFTER_MAX));
        if is_due(self.said_failing, now) {
            self.said_failing = Some(now);
            self.notice = Some(Notice::Failing { reason, failures: self.failures });
        }
        Verdict::Again
    }

    /// The bucket is empty after that: the other side counts on its own, and knows better.
    fn slow(&mut self, asked: Option<Duration>, now: Instant) -> Verdict {
        self.alive();
        let pause = asked.unwrap_or(SLOW_MIN).clamp(SLOW_MIN, RETRY_AFTER_MAX);
        self.not_before = Some(now + pause);
        self.full_at = self.full_at.max(Some(now + pause + self.spare()));
        if is_due(self.said_slowed, now) {
            self.said_slowed = Some(now);
            self.notice = Some(Notice::Slowed(pause));
        }
        Verdict::Again
    }

    /// One such answer costs the message that it answers. It is believed from the second one in a
    /// row on: then lines are dropped without asking, for longer and longer.
    fn die(&mut self, reason: String, now: Instant) -> Verdict {
        if self.dead == 0 {
            self.notice = Some(Notice::Dead(reason));
        } else {
            let doublings = (self.dead - 1).min(16);
            self.dead_until = Some(now + DEAD_MIN.saturating_mul(1 << doublings).min(DEAD_MAX));
        }
        self.dead = self.dead.saturating_add(1);
        Verdict::Refused
    }
}

fn is_due(said: Option<Instant>, now: Instant) -> bool {
    said.is_none_or(|said| now.saturating_duration_since(said) >= SAY_EVERY)
}

/// In words for the user: what it says, and what that means.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "answer {}", self.status)?;
        if !self.word.is_empty() {
            write!(f, " {}", self.word)?;
        }
        if !self.text.is_empty() {
            write!(f, ", {:?}", self.text)?;
        }
        let meaning = match (self.word.as_str(), self.status) {
            ("no_service" | "no_service_id" | "no_team", _) => {
                "the webhook was removed or disabled, or its URL is not whole; make a new one"
            }
            ("invalid_token", _) => "the webhook's URL is not whole or outdated; make a new one",
            (
                "channel_not_found" | "channel_is_archived" | "posting_to_general_channel_denied",
                _,
            ) => "its channel is gone, archived or closed to it; make one for another channel",
            ("action_prohibited" | "team_disabled", _) => {
                "the workspace does not allow it; ask its administrators"
            }
            ("invalid_payload", _) => "it does not understand the message; see the templates",
            (_, 301..=308) => "it leads elsewhere, which is not followed; give the final URL",
            (_, 401 | 403) => {
                return write!(
                    f,
                    ": it is forbidden; see that {} is whole and valid",
                    self.setting
                );
            }
            (_, 404 | 410) => {
                let setting = self.setting;
                return write!(f, ": no webhook is there; see that {setting} is whole and valid");
            }
            (_, 413) => "the message is too long for it",
            _ => return Ok(()),
        };
        write!(f, ": {meaning}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EVERY: Duration = Duration::from_secs(1);
    const BURST: u32 = 5;

    fn said(status: u16, retry_after: Option<Duration>, word: &str) -> Answer {
        let (text, setting) = (String::new(), "WEBHOOK_URL");
        Answer { status, retry_after, word: word.to_owned(), text, setting }
    }

    fn answer(status: u16) -> Result<Answer, String> {
        Ok(said(status, None, ""))
    }

    fn after(status: u16, secs: u64) -> Result<Answer, String> {
        let retry_after = Some(Duration::from_secs(secs));
        Ok(said(status, retry_after, ""))
    }

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_burst_and_then_one_a_second() {
        let mut pace = Pace::new(1, EVERY, BURST);
        let start = Instant::now();
        let mut now = start;
        let mut times = Vec::new();
        for _ in 0..8 {
            now = pace.next(now);
            pace.sent(now);
            assert_eq!(pace.judge(&answer(200), now), Verdict::Delivered);
            times.push((now - start).as_secs());
        }
        assert_eq!(times, [0, 0, 0, 0, 0, 1, 2, 3]);
        // After a quiet time all tokens are back, and no more than all.
        now += secs(60);
        for _ in 0..BURST {
            assert_eq!(pace.next(now), now);
            pace.sent(now);
        }
        assert_eq!(pace.next(now), now + EVERY);
    }

    #[test]
    fn retry_after_is_obeyed_and_empties_the_bucket() {
        let mut pace = Pace::new(1, EVERY, BURST);
        let now = Instant::now();
        pace.sent(now);
        assert_eq!(pace.judge(&after(429, 7), now), Verdict::Again);
        assert_eq!(pace.notice(), Some(Notice::Slowed(secs(7))));
        assert_eq!(pace.next(now), now + secs(7));
        let now = now + secs(7);
        pace.sent(now);
        assert_eq!(pace.judge(&answer(200), now), Verdict::Delivered);
        assert_eq!(pace.next(now), now + EVERY);
        // Without the header, and with a mad one.
        assert_eq!(pace.judge(&answer(429), now), Verdict::Again);
        assert_eq!(pace.next(now), now + EVERY);
        assert_eq!(pace.judge(&after(429, u64::MAX / 4), now), Verdict::Again);
        assert_eq!(pace.next(now), now + RETRY_AFTER_MAX);
        let now = now + RETRY_AFTER_MAX;
        assert_eq!(pace.judge(&after(429, 0), now), Verdict::Again);
        assert_eq!(pace.next(now), now + EVERY);
    }

    #[test]
    fn failures_back_off_and_are_said_now_and_then() {
        let mut pace = Pace::new(3, EVERY, BURST);
        let start = Instant::now();
        let mut now = start;
        let mut said = 0;
        let mut pauses = Vec::new();
        for round in 0..20 {
            let failure = if round % 2 == 0 { Err("reset".to_owned()) } else { answer(503) };
            assert_eq!(pace.judge(&failure, now), Verdict::Again);
            said += u64::from(pace.notice().is_some());
            let next = pace.next(now);
            pauses.push(next - now);
            now = next;
        }
        assert!(pauses[0] >= BACKOFF_MIN / 2 && pauses[0] <= BACKOFF_MIN, "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= BACKOFF_MAX), "{pauses:?}");
        assert!(pauses[19] >= BACKOFF_MAX / 2, "{pauses:?}");
        assert!(said >= 2 && said <= 1 + (now - start).as_secs() / SAY_EVERY.as_secs());
        assert_eq!(pace.judge(&answer(200), now), Verdict::Delivered);
        assert_eq!(pace.notice(), Some(Notice::Recovered { failures: 20 }));
        assert_eq!(pace.judge(&after(503, 30), now), Verdict::Again);
        assert_eq!(pace.next(now), now + secs(30));
    }

    #[test]
    fn a_webhook_that_is_gone_is_said_once_and_tried_rarely() {
        let mut pace = Pace::new(1, EVERY, BURST);
        let mut now = Instant::now();
        assert_eq!(pace.judge(&answer(404), now), Verdict::Refused);
        assert!(matches!(pace.notice(), Some(Notice::Dead(_))));
        // It may have been a slip.
        assert!(!pace.is_dead(now));
        for (status, pause) in [(403, 30), (410, 60), (302, 120)] {
            assert_eq!(pace.judge(&answer(status), now), Verdict::Refused);
            assert_eq!(pace.notice(), None);
            assert!(pace.is_dead(now + secs(pause) - Duration::from_millis(1)));
            now += secs(pause);
            assert!(!pace.is_dead(now));
        }
        assert_eq!(pace.judge(&answer(200), now), Verdict::Delivered);
        let no_service = said(400, None, "no_service");
        assert_eq!(pace.judge(&Ok(no_service), now), Verdict::Refused);
        let Some(Notice::Dead(reason)) = pace.notice() else { panic!("not said") };
        assert!(reason.contains("400 no_service: the webhook was removed"), "{reason}");
    }

    #[test]
    fn what_one_message_did_is_not_held_against_the_next() {
        let mut pace = Pace::new(1, EVERY, BURST);
        let now = Instant::now();
        assert_eq!(pace.judge(&answer(400), now), Verdict::Refused);
        assert!(matches!(pace.notice(), Some(Notice::Refused(_))));
        assert_eq!(pace.judge(&answer(413), now), Verdict::Refused);
        assert_eq!(pace.notice(), None);
        assert!(!pace.is_dead(now) && pace.next(now) == now);
    }

    proptest! {
        /// Whatever the other side answers: never more than the burst and the rate, and never a
        /// pause longer than the longest.
        #[test]
        fn never_too_fast_and_never_forever(
            steps in proptest::collection::vec((0u64..5000, 0u16..7, 0u64..100), 1..100),
            every in prop::sample::select(vec![1u64, 250, 1000, 90_000]),
            burst in 1u32..8,
        ) {
            let mut pace = Pace::new(9, Duration::from_millis(every), burst);
            let mut now = Instant::now();
            let mut sent: Vec<Instant> = Vec::new();
            for (wait, what, header) in steps {
                now = pace.next(now + Duration::from_millis(wait));
                pace.sent(now);
                sent.push(now);
                let statuses = [200, 429, 500, 404, 400, 302];
                let answer = match statuses.get(usize::from(what)) {
                    Some(&status) => after(status, header),
                    None => Err("reset".to_owned()),
                };
                pace.judge(&answer, now);
                prop_assert!(pace.next(now) - now <= RETRY_AFTER_MAX);
            }
            for (index, first) in sent.iter().enumerate() {
                for (more, last) in sent[index..].iter().enumerate() {
                    let time = (*last - *first).as_millis() as u64;
                    prop_assert!((more as u64) < time / every + u64::from(burst));
                }
            }
        }
    }
}
