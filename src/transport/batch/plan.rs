//! When a batch is full, and what an answer means for its records.
//!
//! Pure: `now` is an argument. Sources: RFC 9110, section 15, for the statuses; the receivers' own
//! words for 429 and 413.

use std::time::{Duration, Instant};

use super::Answers;
use super::bulk::{self, Items};
use crate::transport::http::Answer;

/// After a batch was too large for the receiver, batches are tried to be twice as large as then
/// after so long a time.
const GROW_AFTER: Duration = Duration::from_secs(60);
/// The longest `Retry-After` that is obeyed; more is a mistake of the other side.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);

/// When a batch is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of its records, uncompressed. A record that is longer is a batch of its own.
    pub bytes: usize,
    /// Records.
    pub records: usize,
    /// How long its first record waits for others.
    pub wait: Duration,
}

/// How large batches are: as the limits say, or less for a while where the receiver takes less.
#[derive(Debug)]
pub struct Plan {
    limits: Limits,
    bytes: usize,
    /// When a batch was too large, or it was last tried whether that is over.
    shrunk: Option<Instant>,
}

/// A batch that fills up.
#[derive(Debug)]
pub struct Filling {
    bytes: usize,
    records: usize,
    is_empty: bool,
    is_full: bool,
}

impl Filling {
    /// Whether a record of so many bytes is a part of the batch. The first one always is.
    pub fn take(&mut self, len: usize) -> bool {
        if self.is_full || !self.is_empty && len > self.bytes {
            self.is_full = true;
            return false;
        }
        self.is_empty = false;
        self.bytes = self.bytes.saturating_sub(len);
        self.records -= 1;
        self.is_full = self.bytes == 0 || self.records == 0;
        true
    }

    /// Whether the batch takes no more.
    pub fn is_full(&self) -> bool {
        self.is_full
    }
}

impl Plan {
    /// Batches within `limits`.
    pub fn new(limits: Limits) -> Plan {
        let limits = Limits { records: limits.records.max(1), ..limits };
        Plan { limits, bytes: limits.bytes, shrunk: None }
    }

    /// Bytes of a batch that is full.
    pub fn bytes_max(&mut self, now: Instant) -> usize {
        if let Some(shrunk) = self.shrunk
            && now.saturating_duration_since(shrunk) >= GROW_AFTER
        {
            self.bytes = self.bytes.saturating_mul(2).min(self.limits.bytes);
            self.shrunk = (self.bytes < self.limits.bytes).then_some(now);
        }
        self.bytes
    }

    /// An empty batch.
    pub fn fill(&mut self, now: Instant) -> Filling {
        let bytes = self.bytes_max(now);
        Filling { bytes, records: self.limits.records, is_empty: true, is_full: false }
    }

    /// The receiver has said that `records` of `bytes` are too much for it: batches are half as
    /// large from now on. `false` where it was one record, which is too long by itself.
    pub fn too_large(&mut self, bytes: usize, records: usize, now: Instant) -> bool {
        if records > 1 {
            (self.bytes, self.shrunk) = ((bytes / 2).max(1), Some(now));
        }
        records > 1
    }
}

/// What is to be done with the records of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver has them.
    Delivered,
    /// It will never take them.
    Refused {
        /// What it says.
        reason: String,
    },
    /// They are too much at once.
    TooLarge {
        /// What it says.
        reason: String,
    },
    /// They are to be sent again.
    Again {
        /// Why.
        reason: String,
        /// Not before that time is over: the receiver asks for it.
        pause: Option<Duration>,
    },
    /// It has said of each what became of it.
    Items {
        /// In the order of the records.
        items: Items,
        /// As in [`Verdict::Again`].
        pause: Option<Duration>,
    },
}

/// What a status says of what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// It was taken.
    Taken,
    /// It was not, and may be later: the receiver is busy or down, does not know us, or is not
    /// there. Who mends a token or a path wants the lines that came meanwhile.
    Later,
    /// It was too much.
    TooLarge,
    /// It will never be taken as it is.
    Never,
}

/// What a status means.
pub fn meaning(status: u16) -> Meaning {
    match status {
        200..=299 => Meaning::Taken,
        413 => Meaning::TooLarge,
        // Who sends, where to, and when: nothing of these is the fault of a record.
        401..=408 | 410 | 415 | 421 | 423 | 425 | 429 => Meaning::Later,
        400..=499 => Meaning::Never,
        // Redirects are not followed.
        _ => Meaning::Later,
    }
}

/// What an answer, or why there is none, means for the `records` of a request. `words` are those of
/// an answer's body that may be shown, and `setting` is the variable that tells where the receiver
/// is.
pub fn judge(
    answer: Result<Answer, String>,
    records: usize,
    answers: Answers,
    setting: &str,
    words: impl Fn(&[u8]) -> String,
) -> Verdict {
    let answer = match answer {
        Ok(answer) => answer,
        Err(reason) => return Verdict::Again { reason, pause: None },
    };
    let pause = answer.retry_after.map(|pause| pause.min(RETRY_AFTER_MAX));
    let meaning = meaning(answer.status);
    if meaning == Meaning::Taken {
        return match answers {
            Answers::Whole => Verdict::Delivered,
            Answers::Bulk => of_items(&answer, records, pause),
        };
    }
    let reason = explain(answer.status, &words(&answer.body), setting);
    match meaning {
        Meaning::TooLarge => Verdict::TooLarge { reason },
        Meaning::Never => Verdict::Refused { reason },
        Meaning::Taken | Meaning::Later => Verdict::Again { reason, pause },
    }
}

fn of_items(answer: &Answer, records: usize, pause: Option<Duration>) -> Verdict {
    if answer.is_cut {
        let reason = "the answer to a batch is too long to be read".to_owned();
        return match records {
            1 => Verdict::Again { reason, pause },
            _ => Verdict::TooLarge { reason },
        };
    }
    match bulk::read(&answer.body, records) {
        Ok(None) => Verdict::Delivered,
        Ok(Some(items)) => Verdict::Items { items, pause },
        Err(why) => {
            let status = answer.status;
            Verdict::Again { reason: format!("answer {status}, {why}"), pause }
        }
    }
}

/// A refusal in one line, which names the fix if there is one.
fn explain(status: u16, words: &str, setting: &str) -> String {
    let mut text = format!("answer {status}");
    if !words.is_empty() {
        text.push_str(&format!(", {words:?}"));
    }
    let meaning = match status {
        300..=399 => "it leads elsewhere, which is not followed; give the final address",
        401 | 403 => return format!("{text}: it does not let us in; see {setting}"),
        404 | 405 | 410 => return format!("{text}: nothing takes records there; see {setting}"),
        407 => "the proxy wants a user and a password",
        413 => "too large for it; see BATCH_SIZE",
        415 => "it does not know this kind of body; try batch.gzip=off",
        429 => "it asks for less at a time",
        _ => return text,
    };
    format!("{text}: {meaning}")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits { bytes: 1000, records: 10, wait: Duration::from_secs(1) };

    fn taken(plan: &mut Plan, lens: &[usize], now: Instant) -> usize {
        let mut filling = plan.fill(now);
        let count = lens.iter().take_while(|&&len| filling.take(len)).count();
        assert_eq!(filling.is_full(), count < lens.len() || filling.bytes == 0);
        count
    }

    #[test]
    fn a_batch_is_full_by_bytes_or_records() {
        let (mut plan, now) = (Plan::new(LIMITS), Instant::now());
        assert_eq!(taken(&mut plan, &[400, 400, 400], now), 2);
        assert_eq!(taken(&mut plan, &[500, 500, 1], now), 2);
        assert_eq!(taken(&mut plan, &[1; 20], now), 10);
        // Whatever is first is taken: it will not become shorter.
        assert_eq!(taken(&mut plan, &[5000, 1], now), 1);
        assert_eq!(taken(&mut plan, &[1, 5000, 1], now), 1);
    }

    #[test]
    fn what_is_too_large_is_halved_and_grows_again() {
        let (mut plan, mut now) = (Plan::new(LIMITS), Instant::now());
        assert!(plan.too_large(1000, 10, now) && plan.too_large(480, 4, now));
        assert_eq!(plan.bytes_max(now), 240);
        assert!(!plan.too_large(240, 1, now), "one record cannot be halved");
        for expected in [480, 960, 1000, 1000] {
            assert_eq!(
                plan.bytes_max(now + GROW_AFTER - Duration::from_millis(1)),
                expected.min(plan.bytes)
            );
            now += GROW_AFTER;
            assert_eq!(plan.bytes_max(now), expected);
        }
        assert!(plan.too_large(2, 2, now) && plan.too_large(1, 2, now));
        assert_eq!(plan.bytes_max(now), 1);
    }

    fn answered(status: u16, body: &'static str, answers: Answers) -> Verdict {
        let retry_after = Some(Duration::from_secs(7));
        let body = Bytes::from_static(body.as_bytes());
        let answer = Answer { status, retry_after, body, is_cut: false };
        judge(Ok(answer), 2, answers, "SUMO_URL", |body| String::from_utf8_lossy(body).into())
    }

    #[test]
    fn answers_mean_what_they_say() {
        let pause = Some(Duration::from_secs(7));
        assert_eq!(answered(204, "", Answers::Whole), Verdict::Delivered);
        let reason = "answer 400, \"no \\\"json\\\"\"".to_owned();
        assert_eq!(answered(400, "no \"json\"", Answers::Whole), Verdict::Refused { reason });
        let reason = "answer 503".to_owned();
        assert_eq!(answered(503, "", Answers::Bulk), Verdict::Again { reason, pause });
        let reason = "answer 401: it does not let us in; see SUMO_URL".to_owned();
        assert_eq!(answered(401, "", Answers::Whole), Verdict::Again { reason, pause });
        let reason = "answer 413: too large for it; see BATCH_SIZE".to_owned();
        assert_eq!(answered(413, "", Answers::Whole), Verdict::TooLarge { reason });
        let reset = judge(Err("reset".to_owned()), 2, Answers::Whole, "", |_| String::new());
        assert_eq!(reset, Verdict::Again { reason: "reset".to_owned(), pause: None });
        let Verdict::Again { reason, .. } = answered(200, "<html>", Answers::Bulk) else {
            panic!("taken")
        };
        assert!(reason.starts_with("answer 200, "), "{reason}");
        let long = Answer { status: 200, retry_after: None, body: Bytes::new(), is_cut: true };
        let too_long = judge(Ok(long), 2, Answers::Bulk, "", |_| String::new());
        assert!(matches!(too_long, Verdict::TooLarge { .. }), "{too_long:?}");
    }

    #[test]
    fn a_mad_pause_is_bounded() {
        let retry_after = Some(Duration::from_secs(u64::MAX));
        let answer = Answer { status: 429, retry_after, body: Bytes::new(), is_cut: false };
        let verdict = judge(Ok(answer), 1, Answers::Whole, "", |_| String::new());
        let Verdict::Again { pause, .. } = verdict else { panic!("{verdict:?}") };
        assert_eq!(pause, Some(RETRY_AFTER_MAX));
    }

    #[test]
    fn no_status_loses_records_but_those_that_say_so() {
        for status in [200, 201, 204, 299] {
            assert_eq!(meaning(status), Meaning::Taken);
        }
        for status in [100, 301, 307, 401, 403, 404, 408, 410, 429, 500, 502, 503, 599, 999] {
            assert_eq!(meaning(status), Meaning::Later, "{status}");
        }
        for status in [400, 409, 414, 422, 499] {
            assert_eq!(meaning(status), Meaning::Never, "{status}");
        }
    }

    proptest! {
        /// Whatever a receiver with a limit of its own is sent, everything that it can take
        /// arrives, in order, and no request is larger than the settings say but for one long
        /// record.
        #[test]
        fn a_receiver_with_a_limit_gets_all_it_can_take(
            lens in prop::collection::vec(1_usize..3000, 1..60),
            most in 1_usize..4000,
        ) {
            let (mut plan, now) = (Plan::new(LIMITS), Instant::now());
            let (mut at, mut requests) = (0, 0);
            let (mut got, mut refused) = (Vec::<usize>::new(), Vec::<usize>::new());
            while at < lens.len() {
                let mut filling = plan.fill(now);
                let batch: Vec<usize> = (at..lens.len())
                    .take_while(|&n| filling.take(lens[n]))
                    .collect();
                let bytes: usize = batch.iter().map(|&n| lens[n]).sum();
                prop_assert!(batch.len() == 1 || bytes <= LIMITS.bytes);
                requests += 1;
                prop_assert!(requests <= lens.len() * 14, "it does not end");
                if bytes <= most {
                    got.extend(&batch);
                } else if plan.too_large(bytes, batch.len(), now) {
                    continue;
                } else {
                    refused.extend(&batch);
                }
                at += batch.len();
            }
            let fits = |n: &usize| lens[*n] <= most;
            prop_assert_eq!(got, (0..lens.len()).filter(fits).collect::<Vec<_>>());
            prop_assert!(refused.iter().all(|n| !fits(n)));
        }
    }
}
