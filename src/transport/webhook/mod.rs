//! Delivers over HTTP or HTTPS to a webhook: one message a request, one request at a time.
//!
//! A webhook takes one message a second, which is far less than a shard may have. So the shards do
//! not deliver themselves: they hand whole chunks to a [`Desk`] and get them back at once, and on
//! a thread of its own ([`serve`]) the records go into the route's [`Digest`], which holds a
//! bounded number of them, whatever comes: the first lines as they are, of the others how many
//! they were. While a request is under way, or a pause, the digest goes on taking. So a shard
//! never waits for a webhook, nor does a chunk, and memory is bounded however long it lasts.
//!
//! [`courier`] takes from a desk and sends; [`pace`] says when a request may be sent and what its
//! answer means, [`super::http`] sends it. Routes to the same URL with the same headers share these
//! two.

mod courier;
mod pace;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};
use hyper::Method;
use hyper::header::{HeaderMap, HeaderValue};
use tokio::sync::Notify;

pub use self::courier::{Station, serve, try_once};
use self::pace::Answer;
use super::http::{self, Client, Endpoint};
use super::queue::Queue;
use crate::buffer::Chunk;
use crate::config::{ProxySettings, SHARDS_MAX};

/// For the whole answer, once connected.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// Most bytes of an answer's body that are looked at: Slack's are one word.
const ANSWER_MAX: usize = 1024;
/// The longest word that is repeated to the user.
const WORD_MAX: usize = 40;

/// Where a webhook is.
#[derive(Clone, Debug)]
pub struct Webhook {
    endpoint: Endpoint,
    every: Duration,
    burst: u32,
    setting: &'static str,
    talkative: bool,
}

/// How a webhook wants to be asked.
#[derive(Clone, Debug)]
pub struct Manner {
    /// POST, mostly.
    pub method: Method,
    /// Of the body.
    pub content_type: HeaderValue,
    /// Further headers, see [`http::headers`].
    pub headers: HeaderMap,
    /// One message so often, in the long run.
    pub every: Duration,
    /// So many messages at once, after a quiet time; at least 1.
    pub burst: u32,
    /// The variable that holds the URL, for messages.
    pub setting: &'static str,
    /// Whether more of an answer than one word is repeated to the user, less what is secret.
    pub talkative: bool,
}

impl Manner {
    /// As Slack wants it: JSON, one message a second, short bursts allowed.
    pub fn slack() -> Manner {
        Manner {
            method: Method::POST,
            content_type: HeaderValue::from_static("application/json"),
            headers: HeaderMap::new(),
            every: Duration::from_secs(1),
            burst: 5,
            setting: "SLACK_WEBHOOK_URL",
            talkative: false,
        }
    }
}

impl Webhook {
    /// The webhook at `url`; see [`Endpoint::parse`].
    ///
    /// # Errors
    /// As that.
    pub fn parse(
        url: &str,
        tls: Option<Arc<rustls::ClientConfig>>,
        manner: Manner,
    ) -> Result<Webhook, String> {
        let Manner { every, burst, setting, talkative, method, content_type, headers } = manner;
        let manner = http::Manner {
            method,
            content_type,
            headers,
            answer_timeout: ANSWER_TIMEOUT,
            answer_max: ANSWER_MAX,
        };
        let endpoint = Endpoint::parse(url, tls, manner)?;
        Ok(Webhook { endpoint, every, burst, setting, talkative })
    }

    /// The same, through the proxy that it needs, if any.
    ///
    /// # Errors
    /// As [`http::Proxy::choose`].
    pub fn through(self, settings: &ProxySettings) -> Result<Webhook, String> {
        Ok(Webhook { endpoint: self.endpoint.through(settings)?, ..self })
    }

    /// Sends a message.
    async fn post(&self, client: &mut Client, body: &[u8]) -> Result<Answer, String> {
        let body = Bytes::copy_from_slice(body);
        let answer = client.send(&self.endpoint, &body, false).await?;
        let http::Answer { status, retry_after, .. } = answer;
        let word = word(&answer.body);
        let text = match self.talkative && word.is_empty() && status >= 300 {
            true => self.endpoint.cleaned(&answer.body),
            false => String::new(),
        };
        Ok(Answer { status, retry_after, word, text, setting: self.setting })
    }
}

/// One of Slack's one-word answers; empty for anything else.
fn word(body: &[u8]) -> String {
    let word = body.trim_ascii();
    let is_word = word.len() <= WORD_MAX && word.iter().all(|b| matches!(b, b'a'..=b'z' | b'_'));
    if is_word { String::from_utf8_lossy(word).into_owned() } else { String::new() }
}

/// `HOST:PORT`, nothing of the path.
impl fmt::Display for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.endpoint.fmt(f)
    }
}

/// Makes messages of a route's records. What it holds is bounded, whatever is added.
pub trait Digest: Send {
    /// Takes a record.
    fn add(&mut self, record: &[u8], now: Instant);

    /// When there is something to send: a time that may be past; `None` if nothing is held. With
    /// `last`, no more records will come, and what is held need not wait for others.
    fn due(&self, last: bool) -> Option<Instant>;

    /// Puts a message together of what is held, and empties the digest of that; `body` is
    /// cleared first.
    fn compose(&mut self, now: Instant, body: &mut Vec<u8>) -> Contents;

    /// Lets go of all that is held; returns how many lines that were.
    fn discard(&mut self) -> u64;
}

/// What a message stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Lines, of which...
    pub lines: u64,
    /// ... so many are not shown, only counted.
    pub summed_up: u64,
    /// Lines that were cut since the last message.
    pub cut: u64,
    /// Lines for which a template failed since the last message.
    pub failed: u64,
}

/// Where the shards leave a route's records for its webhook.
pub struct Desk {
    webhook: Webhook,
    new_digest: Box<dyn Fn() -> Box<dyn Digest> + Send + Sync>,
    sender: Sender<Parcel>,
    receiver: Receiver<Parcel>,
    /// Rung when a parcel was left.
    bell: Notify,
}

/// A chunk on its way to the digest, and back. Whoever takes it out of its place is the one who
/// counts its records.
struct Parcel(Arc<Tray>);

#[derive(Default)]
struct Tray {
    /// Not unpacked yet.
    full: Mutex<Option<Chunk>>,
    /// Unpacked.
    empty: Mutex<Option<Chunk>>,
    bell: Notify,
}

fn lift(place: &Mutex<Option<Chunk>>) -> Option<Chunk> {
    place.lock().unwrap_or_else(PoisonError::into_inner).take()
}

fn lay(place: &Mutex<Option<Chunk>>, chunk: Chunk) {
    *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(chunk);
}

impl Parcel {
    /// Hands each record to `each`, unless the shard has taken them back.
    fn unpack(&self, mut each: impl FnMut(&[u8])) -> Option<Unpacked<'_>> {
        let mut chunk = lift(&self.0.full)?;
        chunk.pending_records().for_each(&mut each);
        let bytes = chunk.pending().len();
        chunk.deliver(bytes);
        Some(Unpacked { tray: &self.0, chunk })
    }
}

/// A chunk whose records are in the digest.
struct Unpacked<'a> {
    tray: &'a Tray,
    chunk: Chunk,
}

impl Unpacked<'_> {
    /// Gives the chunk back: from now on its records count as held here.
    fn give_back(self) {
        lay(&self.tray.empty, self.chunk);
        self.tray.bell.notify_one();
    }
}

impl Desk {
    /// A desk before `webhook`, for records that `new_digest`'s digests understand.
    pub fn new(
        webhook: Webhook,
        new_digest: impl Fn() -> Box<dyn Digest> + Send + Sync + 'static,
    ) -> Desk {
        // Each shard has one parcel on its way at a time.
        let (sender, receiver) = bounded(SHARDS_MAX as usize);
        Desk { webhook, new_digest: Box::new(new_digest), sender, receiver, bell: Notify::new() }
    }

    /// Where the messages go.
    pub fn webhook(&self) -> &Webhook {
        &self.webhook
    }

    /// An empty digest for the route's records.
    pub fn digest(&self) -> Box<dyn Digest> {
        (self.new_digest)()
    }
}

/// A shard's side: hands `queue` over, chunk by chunk, until it is done.
pub async fn hand_over(desk: &Desk, queue: &Queue) {
    let tray = Arc::new(Tray::default());
    while !queue.is_done() {
        let Some(chunk) = queue.take() else {
            queue.wait().await;
            continue;
        };
        lay(&tray.full, chunk);
        if desk.sender.try_send(Parcel(Arc::clone(&tray))).is_ok() {
            desk.bell.notify_one();
        }
        queue.put_back(fetch(&tray, queue).await);
    }
}

/// Waits for the chunk to come back; takes it back if the queue is given up before anybody has
/// looked at it.
async fn fetch(tray: &Tray, queue: &Queue) -> Chunk {
    loop {
        if let Some(chunk) = lift(&tray.empty) {
            return chunk;
        }
        if !queue.is_given_up() {
            tokio::select! {
                () = tray.bell.notified() => {}
                () = queue.until_given_up() => {}
            }
        } else if let Some(chunk) = lift(&tray.full) {
            return chunk;
        } else {
            tray.bell.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::{Budget, Outbox};

    #[test]
    fn only_a_word_of_an_answer_is_kept() {
        assert_eq!(word(b"no_service"), "no_service");
        assert_eq!(word(b" invalid_payload\r\n"), "invalid_payload");
        for text in ["", "ok ok", "/services/T0/B0/abc", "<html>", "ABC", &"a".repeat(41)] {
            assert_eq!(word(text.as_bytes()), "", "{text}");
        }
    }

    /// Where the thread of the webhooks never came to look, the shard counts what it had handed
    /// over; where it did, the shard does not.
    #[test]
    fn what_is_handed_over_is_counted_by_one_of_the_two() {
        for seen in [false, true] {
            let webhook = Webhook::parse("http://h/a", None, Manner::slack()).unwrap();
            let desk = Desk::new(webhook, || unreachable!("nobody asks for a digest"));
            let mut outbox = Outbox::new(Arc::new(Budget::new(1 << 20, 1)), usize::MAX);
            for _ in 0..3 {
                outbox.begin(1).push(b'x');
                outbox.finish();
            }
            let queue = Queue::new("slack".to_owned(), outbox, Arc::default());
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let at_the_end = async {
                    tokio::task::yield_now().await;
                    let mut records = 0;
                    if seen {
                        let parcel = desk.receiver.try_recv().unwrap();
                        parcel.unpack(|_| records += 1).unwrap().give_back();
                        assert_eq!(records, 3);
                    }
                    queue.give_up();
                };
                tokio::join!(hand_over(&desk, &queue), at_the_end);
            });
            let left = if seen { 0 } else { 3 };
            assert_eq!(queue.counters.held_lines.get(), left);
            assert_eq!(queue.abandon(), left);
            assert_eq!(queue.counters.held_lines.get(), 0);
            let late = desk.receiver.try_recv();
            assert!(late.is_err() || late.is_ok_and(|parcel| parcel.unpack(|_| ()).is_none()));
        }
    }
}
