//! The way of one route to its receiver on one shard: when to connect, and what to say of it.
//!
//! Pure: the caller says what happened and what time it is, and seeds the jitter. The link never
//! gives up, and never connects more often than its backoff allows.

use std::fmt;
use std::time::{Duration, Instant};

/// The longest pause before the first retry.
pub const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// The longest pause ever: how long a receiver that came back may stay unnoticed.
pub const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A connection that lasted so long was a good one: the backoff starts anew after it.
///
/// Only time counts. A receiver that accepts and then closes at once takes data too (its kernel
/// does), and must not be stormed for it.
pub const STABLE_AFTER: Duration = Duration::from_secs(5);
/// An attempt that reported nothing for so long has failed: resolving, all addresses, TLS.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);
/// The same thing is said at most so often.
pub const SAY_EVERY: Duration = Duration::from_secs(10);

/// What the I/O side reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The connection stands; over TLS: the handshake is done.
    Connected,
    /// A receiver that answers has said that it took something: the backoff starts anew, however
    /// short a time the connection stands.
    Worked,
    /// The attempt failed or the connection ended; one line that says why.
    Failed(String),
}

/// What the I/O side does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Connect now. Said once for an attempt, which begins with it.
    Connect,
    /// Nothing before this time, unless an event comes. While an attempt runs it is the time to
    /// give it up.
    Wait(Instant),
    /// The connection stands: deliver.
    Ready,
}

/// What the user should hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The first failure after all was well.
    Down {
        /// Whether a connection was lost, rather than none made.
        lost: bool,
        /// Why.
        reason: String,
    },
    /// It goes on failing.
    StillDown {
        /// Why, the last time.
        reason: String,
        /// Failures since all was well.
        failures: u64,
        /// Time since the first of them.
        since: Duration,
    },
    /// Connected again.
    Recovered {
        /// Failures since all was well.
        failures: u64,
        /// Time since the first of them.
        after: Duration,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Down { lost: true, reason } => {
                write!(f, "connection lost: {reason}; connecting again until it works")
            }
            Notice::Down { lost: false, reason } => {
                write!(f, "cannot connect: {reason}; trying until it works")
            }
            Notice::StillDown { reason, failures, since } => {
                let since = since.as_secs();
                write!(f, "still failing after {failures} attempts in {since} s: {reason}")
            }
            Notice::Recovered { failures, after } => {
                let (failures, after) = (plural(*failures, "failure"), after.as_secs_f64());
                write!(f, "connected again after {failures} in {after:.1} s")
            }
        }
    }
}

fn plural(n: u64, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// One route's way to its receiver.
#[derive(Debug)]
pub struct Link {
    state: State,
    trouble: Option<Trouble>,
    /// When a failure was last said.
    said: Option<Instant>,
    /// The user was last told that the receiver is not reached.
    said_down: bool,
    /// The receiver took something since the last failure.
    worked: bool,
    notice: Option<Notice>,
    jitter: Jitter,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Idle,
    Connecting { since: Instant },
    Up { since: Instant },
    Waiting { until: Instant },
}

/// Failures since the last connection that was a good one.
#[derive(Debug)]
struct Trouble {
    since: Instant,
    failures: u64,
    /// The latest.
    reason: String,
}

impl Link {
    /// A link that wants to connect. Links with different seeds do not retry in step.
    pub fn new(seed: u64) -> Link {
        Link {
            state: State::Idle,
            trouble: None,
            said: None,
            said_down: false,
            worked: false,
            notice: None,
            jitter: Jitter(seed),
        }
    }

    /// What to do now.
    pub fn poll(&mut self, now: Instant) -> Action {
        if let State::Connecting { since } = self.state
            && now >= since + ATTEMPT_TIMEOUT
        {
            let reason = format!("no answer within {} s", ATTEMPT_TIMEOUT.as_secs());
            self.failed(reason, now);
        }
        match self.state {
            State::Up { .. } => Action::Ready,
            State::Connecting { since } => Action::Wait(since + ATTEMPT_TIMEOUT),
            State::Waiting { until } if now < until => Action::Wait(until),
            State::Waiting { .. } | State::Idle => {
                self.state = State::Connecting { since: now };
                Action::Connect
            }
        }
    }

    /// Takes note of what happened. What the link knows already changes nothing.
    pub fn handle(&mut self, event: Event, now: Instant) {
        match event {
            Event::Connected => self.connected(now),
            Event::Worked => {
                self.connected(now);
                (self.trouble, self.worked) = (None, true);
            }
            Event::Failed(reason) => self.failed(reason, now),
        }
    }

    /// What to tell the user, once. Ask after each [`Link::handle`] and [`Link::poll`]: a later
    /// notice takes the place of one that was not fetched.
    pub fn notice(&mut self) -> Option<Notice> {
        self.notice.take()
    }

    /// Why there is no connection, if the last attempt failed or the last connection broke.
    pub fn trouble(&self) -> Option<&str> {
        let is_up = matches!(self.state, State::Up { .. });
        self.trouble.as_ref().filter(|_| !is_up).map(|trouble| &*trouble.reason)
    }

    fn connected(&mut self, now: Instant) {
        if matches!(self.state, State::Up { .. }) {
            return;
        }
        self.state = State::Up { since: now };
        if std::mem::take(&mut self.said_down)
            && let Some(trouble) = &self.trouble
        {
            let after = now.saturating_duration_since(trouble.since);
            self.notice = Some(Notice::Recovered { failures: trouble.failures, after });
        }
    }

    fn failed(&mut self, reason: String, now: Instant) {
        let lost = match self.state {
            State::Waiting { .. } => return,
            State::Up { since } => {
                if now.saturating_duration_since(since) >= STABLE_AFTER {
                    self.trouble = None;
                }
                true
            }
            State::Idle | State::Connecting { .. } => false,
        };
        let new = || Trouble { since: now, failures: 0, reason: String::new() };
        let trouble = self.trouble.get_or_insert_with(new);
        trouble.failures += 1;
        trouble.reason.clone_from(&reason);
        self.state = State::Waiting { until: now + self.jitter.pause(trouble.failures) };

        let (failures, since) = (trouble.failures, now.saturating_duration_since(trouble.since));
        // Who refuses now and then, and takes the rest, is not said to be down each time.
        let quiet = std::mem::take(&mut self.worked) && !is_due(self.said, now);
        if failures == 1 && !quiet {
            self.say(Notice::Down { lost, reason }, now);
        } else if failures > 1 && is_due(self.said, now) {
            self.say(Notice::StillDown { reason, failures, since }, now);
        }
    }

    fn say(&mut self, notice: Notice, now: Instant) {
        self.notice = Some(notice);
        self.said = Some(now);
        self.said_down = true;
    }
}

fn is_due(said: Option<Instant>, now: Instant) -> bool {
    said.is_none_or(|said| now.saturating_duration_since(said) >= SAY_EVERY)
}

/// The longest pause after so many failures in a row: doubles from [`BACKOFF_MIN`] to
/// [`BACKOFF_MAX`].
fn pause_max(failures: u64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16) as u32;
    BACKOFF_MIN.saturating_mul(1 << doublings).min(BACKOFF_MAX)
}

/// Random numbers that need not be good, only different from link to link (SplitMix64).
#[derive(Debug)]
pub struct Jitter(u64);

impl Jitter {
    /// Different seeds give different pauses.
    pub fn new(seed: u64) -> Jitter {
        Jitter(seed)
    }

    /// Equal jitter: between half and all of the longest pause.
    fn pause(&mut self, failures: u64) -> Duration {
        self.half_to_all(pause_max(failures))
    }

    /// Between half of `most` and all of it.
    pub fn half_to_all(&mut self, most: Duration) -> Duration {
        let half = most / 2;
        half + half.mul_f64(self.next() as f64 / u64::MAX as f64)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// Sums up what would be said too often, such as "the buffer is full, dropped n lines".
#[derive(Debug, Default)]
pub struct Warner {
    said: Option<Instant>,
    unsaid: u64,
}

impl Warner {
    /// Adds `n`; returns the sum of what was not said yet if it is time to say it: at once for
    /// the first time, then at most every 10 s. Call it with 0 now and then, so that the rest
    /// is said too.
    pub fn due(&mut self, now: Instant, n: u64) -> Option<u64> {
        self.unsaid = self.unsaid.saturating_add(n);
        if self.unsaid == 0 || !is_due(self.said, now) {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

/// What a link may do, told naively from its history. In test and fuzz builds only.
#[cfg(any(test, fuzzing))]
pub mod naive {
    use std::time::{Duration, Instant};

    use super::{
        ATTEMPT_TIMEOUT, Action, BACKOFF_MAX, BACKOFF_MIN, Event, Link, Notice, SAY_EVERY,
        STABLE_AFTER,
    };

    /// What happens to a link.
    #[derive(Clone, Copy, Debug)]
    pub enum Op {
        /// It is asked what to do.
        Poll,
        /// It hears that the connection stands.
        Connected,
        /// It hears that the receiver took something.
        Worked,
        /// It hears of a failure.
        Failed,
    }

    /// How many failures in a row there were, when the last one was, and what the user was told.
    #[derive(Debug, Default)]
    struct Model {
        up_since: Option<Instant>,
        attempt_since: Option<Instant>,
        failed_at: Option<Instant>,
        in_a_row: u64,
        told_down: bool,
        told_at: Option<Instant>,
    }

    impl Model {
        fn fail(&mut self, now: Instant) {
            let waiting = self.up_since.or(self.attempt_since).is_none();
            if waiting && self.failed_at.is_some() {
                return;
            }
            if self.up_since.is_some_and(|since| now - since >= STABLE_AFTER) {
                self.in_a_row = 0;
            }
            (self.up_since, self.attempt_since) = (None, None);
            (self.failed_at, self.in_a_row) = (Some(now), self.in_a_row + 1);
        }

        fn earliest(&self) -> Option<Instant> {
            let ceiling = (1..self.in_a_row).fold(BACKOFF_MIN, |d, _| (d * 2).min(BACKOFF_MAX));
            self.failed_at.map(|at| at + ceiling / 2)
        }

        fn poll(&mut self, link: &mut Link, now: Instant) {
            if self.attempt_since.is_some_and(|at| now >= at + ATTEMPT_TIMEOUT) {
                self.fail(now);
            }
            match link.poll(now) {
                Action::Ready => assert!(self.up_since.is_some()),
                Action::Wait(until) => {
                    assert!(self.up_since.is_none());
                    assert!(until > now && until <= now + ATTEMPT_TIMEOUT);
                }
                Action::Connect => {
                    assert!(self.up_since.is_none());
                    assert!(self.attempt_since.is_none(), "two attempts at once");
                    assert!(self.earliest().is_none_or(|at| now >= at), "too early");
                    self.attempt_since = Some(now);
                }
            }
        }

        fn hear(&mut self, notice: Option<Notice>, now: Instant) {
            match notice {
                None => {}
                Some(Notice::Recovered { .. }) => {
                    assert!(self.told_down);
                    self.told_down = false;
                }
                Some(Notice::Down { .. }) => {
                    assert_eq!(self.in_a_row, 1);
                    (self.told_down, self.told_at) = (true, Some(now));
                }
                Some(Notice::StillDown { .. }) => {
                    assert!(self.told_at.is_some_and(|at| now - at >= SAY_EVERY));
                    (self.told_down, self.told_at) = (true, Some(now));
                }
            }
            assert!(self.up_since.is_none() || !self.told_down);
        }
    }

    /// Panics unless a link to which all this happens, each after so many milliseconds, connects
    /// never early, never twice at once and in the end, and tells the user so.
    pub fn walk(seed: u64, ops: impl IntoIterator<Item = (u64, Op)>) {
        let (mut link, mut model) = (Link::new(seed), Model::default());
        let mut now = Instant::now();
        for (step, op) in ops {
            now += Duration::from_millis(step);
            match op {
                Op::Connected => {
                    link.handle(Event::Connected, now);
                    model.up_since.get_or_insert(now);
                    model.attempt_since = None;
                }
                Op::Worked => {
                    link.handle(Event::Worked, now);
                    model.up_since.get_or_insert(now);
                    (model.attempt_since, model.in_a_row) = (None, 0);
                }
                Op::Failed => {
                    link.handle(Event::Failed("refused".to_owned()), now);
                    model.fail(now);
                }
                Op::Poll => model.poll(&mut link, now),
            }
            model.hear(link.notice(), now);
        }
        // Whatever came before, it connects soon.
        link.handle(Event::Failed("refused".to_owned()), now);
        assert!(until_connect(&mut link, now) - now <= BACKOFF_MAX, "stuck");
    }

    /// Lets the link wait until it connects; returns when that is.
    pub(super) fn until_connect(link: &mut Link, mut now: Instant) -> Instant {
        for _ in 0..3 {
            match link.poll(now) {
                Action::Connect => return now,
                Action::Wait(until) => now = until,
                Action::Ready => panic!("ready"),
            }
        }
        panic!("no attempt")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::naive::{self, Op, until_connect};
    use super::*;

    fn failed() -> Event {
        Event::Failed("refused".to_owned())
    }

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn the_pause_doubles_up_to_a_bound() {
        let pauses: Vec<u128> = (1..10).map(|n| pause_max(n).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(pause_max(u64::MAX), BACKOFF_MAX);
        let mut jitter = Jitter(7);
        let (mut least, mut most) = (secs(99), secs(0));
        for _ in 0..1000 {
            let pause = jitter.pause(8);
            (least, most) = (least.min(pause), most.max(pause));
        }
        assert!(secs(5) <= least && least < Duration::from_millis(5200), "{least:?}");
        assert!(Duration::from_millis(9800) < most && most <= secs(10), "{most:?}");
    }

    #[test]
    fn a_good_connection_makes_the_next_retry_quick() {
        let mut link = Link::new(1);
        let mut now = Instant::now();
        for _ in 0..20 {
            now = until_connect(&mut link, now);
            link.handle(failed(), now);
        }
        now = until_connect(&mut link, now);
        link.handle(Event::Connected, now);
        assert_eq!(link.poll(now), Action::Ready);
        now += STABLE_AFTER;
        link.handle(failed(), now);
        assert!(until_connect(&mut link, now) - now <= BACKOFF_MIN);
    }

    #[test]
    fn a_receiver_that_closes_at_once_is_not_stormed() {
        let mut link = Link::new(2);
        let start = Instant::now();
        let mut now = start;
        let mut notices = Vec::new();
        let mut attempts = 0;
        while now < start + secs(120) {
            now = until_connect(&mut link, now);
            attempts += 1;
            link.handle(Event::Connected, now);
            notices.extend(link.notice());
            now += Duration::from_millis(1);
            link.handle(failed(), now);
            notices.extend(link.notice());
        }
        assert!((12..=32).contains(&attempts), "{attempts}");
        assert!((4..=26).contains(&notices.len()), "{notices:?}");
    }

    #[test]
    fn an_attempt_that_says_nothing_is_given_up() {
        let mut link = Link::new(3);
        let now = Instant::now();
        assert_eq!(link.poll(now), Action::Connect);
        let Action::Wait(deadline) = link.poll(now) else { panic!() };
        assert_eq!(deadline, now + ATTEMPT_TIMEOUT);
        assert!(matches!(link.poll(deadline), Action::Wait(until) if until > deadline));
        let notice = link.notice().unwrap().to_string();
        assert_eq!(notice, "cannot connect: no answer within 30 s; trying until it works");
        until_connect(&mut link, deadline);
    }

    #[test]
    fn the_user_hears_the_first_failure_then_now_and_then_then_the_recovery() {
        let mut link = Link::new(4);
        let start = Instant::now();
        let mut now = start;
        let mut heard = Vec::new();
        while now < start + secs(25) {
            now = until_connect(&mut link, now);
            link.handle(failed(), now);
            heard.extend(link.notice().map(|n| (now - start, n)));
        }
        assert_eq!(heard[0].1, Notice::Down { lost: false, reason: "refused".to_owned() });
        assert!((2..=3).contains(&heard.len()), "{heard:?}");
        assert!(matches!(heard[1].1, Notice::StillDown { failures: 6.., .. }), "{heard:?}");

        now = until_connect(&mut link, now);
        link.handle(Event::Connected, now);
        let Some(Notice::Recovered { failures, after }) = link.notice() else { panic!() };
        assert!(failures >= 8 && after == now - start);
        now += secs(60);
        link.handle(failed(), now);
        assert_eq!(
            link.notice().unwrap().to_string(),
            "connection lost: refused; connecting again until it works"
        );
        now = until_connect(&mut link, now);
        link.handle(Event::Connected, now);
        let text = link.notice().unwrap().to_string();
        assert!(text.starts_with("connected again after 1 failure in 0.1 s"), "{text}");
    }

    #[test]
    fn a_first_connection_is_no_news() {
        let mut link = Link::new(5);
        let now = Instant::now();
        assert_eq!(link.poll(now), Action::Connect);
        link.handle(Event::Connected, now);
        assert_eq!(link.notice(), None);
    }

    fn ops() -> impl Strategy<Value = Vec<(u64, Op)>> {
        let op =
            prop_oneof![Just(Op::Poll), Just(Op::Connected), Just(Op::Worked), Just(Op::Failed)];
        let step = prop_oneof![Just(0), 1..300_u64, 300..8000_u64, 8000..40_000_u64];
        proptest::collection::vec((step, op), 0..200)
    }

    proptest! {
        #[test]
        fn never_early_never_stuck(seed: u64, ops in ops()) {
            naive::walk(seed, ops);
        }

        #[test]
        fn the_warner_loses_nothing(
            steps in proptest::collection::vec((0..20_000_u64, 0..5_u64), 0..100)
        ) {
            let mut warner = Warner::default();
            let mut now = Instant::now();
            let (mut added, mut said, mut last) = (0, 0, None::<Instant>);
            for (step, n) in steps {
                now += Duration::from_millis(step);
                added += n;
                if let Some(sum) = warner.due(now, n) {
                    prop_assert!(sum > 0);
                    prop_assert!(last.is_none_or(|at| now - at >= SAY_EVERY));
                    last = Some(now);
                    said += sum;
                }
            }
            said += warner.due(now + SAY_EVERY, 0).unwrap_or_default();
            prop_assert_eq!(said, added);
        }
    }

    #[test]
    fn the_warner_speaks_at_once() {
        let mut warner = Warner::default();
        let now = Instant::now();
        assert_eq!(warner.due(now, 0), None);
        assert_eq!(warner.due(now, 3), Some(3));
        assert_eq!(warner.due(now + secs(9), 4), None);
        assert_eq!(warner.due(now + secs(10), 5), Some(9));
        assert_eq!(warner.due(now + secs(60), 0), None);
    }
}
