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
//! answer means, [`client`] sends it. Routes to the same URL with the same headers share these
//! two.

mod client;
mod courier;
mod pace;
mod proxy;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use hyper::Method;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::PathAndQuery;
use tokio::sync::Notify;

pub use self::courier::{Station, serve, try_once};
pub use self::proxy::Proxy;
use super::HostPort;
use super::queue::Queue;
use crate::buffer::Chunk;
use crate::config::{ProxySettings, SHARDS_MAX};

/// The ports of a webhook that names none.
const HTTP: u16 = 80;
const HTTPS: u16 = 443;
/// Headers that a request has anyway, or that would break it.
const OURS: [&str; 6] =
    ["host", "content-length", "content-type", "transfer-encoding", "connection", "upgrade"];

/// Where a webhook is.
#[derive(Clone)]
pub struct Webhook {
    host: HostPort,
    path: Secret,
    /// `None`: without TLS.
    tls: Option<Arc<rustls::ClientConfig>>,
    proxy: Option<Proxy>,
    manner: Manner,
}

/// How a webhook wants to be asked.
#[derive(Clone, Debug)]
pub struct Manner {
    /// POST, mostly.
    pub method: Method,
    /// Of the body.
    pub content_type: HeaderValue,
    /// Further headers, see [`headers`].
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

/// Reads a header, `Content-Type` for one.
///
/// # Errors
/// The end of a sentence; without the value.
pub fn header_value(text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(text)
        .map_err(|_| "has a character that no header has; write it without".to_owned())
}

/// Reads further headers, `NAME: VALUE` a line.
///
/// # Errors
/// The end of a sentence: which line is wrong, and what to write instead; without the line.
pub fn headers(text: &str) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    for (at, line) in lines {
        let bad = |what: &str| format!("has {what} in line {}; write NAME: VALUE", at + 1);
        let (name, value) = line.split_once(':').ok_or_else(|| bad("no colon"))?;
        let name: HeaderName = name.trim().parse().map_err(|_| bad("no name of a header"))?;
        if OURS.contains(&name.as_str()) {
            return Err(format!("has {name}, which is not for it to set; leave it out"));
        }
        let mut value = header_value(value.trim()).map_err(|_| bad("a bad value"))?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

/// Reads a method.
///
/// # Errors
/// The end of a sentence.
pub fn method(text: &str) -> Result<Method, String> {
    match text.to_ascii_uppercase().as_str() {
        "POST" => Ok(Method::POST),
        "PUT" => Ok(Method::PUT),
        "PATCH" => Ok(Method::PATCH),
        _ => Err("is no method that brings something; write POST, PUT or PATCH".to_owned()),
    }
}

/// A text that is not shown.
#[derive(Clone, PartialEq, Eq)]
struct Secret(String);

impl Secret {
    fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Webhook {
    /// The webhook at `url`, which is `https://HOST[:PORT][/PATH]`, or `http://` without `tls`.
    /// Its path is what makes it secret.
    ///
    /// # Errors
    /// What is wrong with the URL, and what to write instead; without its path.
    pub fn parse(
        url: &str,
        tls: Option<Arc<rustls::ClientConfig>>,
        manner: Manner,
    ) -> Result<Webhook, String> {
        let (scheme, port) = if tls.is_some() { ("https", HTTPS) } else { ("http", HTTP) };
        let fix = format!("write {scheme}://HOST/PATH");
        let rest = url.strip_prefix(scheme).and_then(|rest| rest.strip_prefix("://"));
        let Some(rest) = rest else {
            return Err(format!("is no {scheme} URL; {fix}"));
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        // The error's own text may hold the path.
        PathAndQuery::try_from(&path)
            .map_err(|_| format!("has a character in its path that no URL has; {fix}"))?;
        let with_port = match authority.rsplit_once(':') {
            Some((_, port)) if !port.ends_with(']') => authority.to_owned(),
            _ => format!("{authority}:{port}"),
        };
        let host = match authority.split(':').next() {
            Some("") => return Err(format!("names no host; {fix}")),
            _ => HostPort::parse(&with_port)?,
        };
        Ok(Webhook { host, path: Secret(path), tls, proxy: None, manner })
    }

    /// The same, through the proxy that it needs, if any.
    ///
    /// # Errors
    /// As [`Proxy::choose`].
    pub fn through(mut self, settings: &ProxySettings) -> Result<Webhook, String> {
        self.proxy = Proxy::choose(settings, &self.host, self.tls.is_some())?;
        Ok(self)
    }

    /// What the `Host` header holds.
    fn authority(&self) -> String {
        let text = self.host.to_string();
        let port = format!(":{}", if self.tls.is_some() { HTTPS } else { HTTP });
        text.strip_suffix(&port).unwrap_or(&text).to_owned()
    }

    /// Whether both are one to whoever answers: what holds for the one holds for the other. Headers
    /// say who asks.
    fn is_same(&self, other: &Webhook) -> bool {
        let (tls, headers) = (self.tls.is_some(), &self.manner.headers);
        (&self.host, &self.path) == (&other.host, &other.path)
            && (tls, headers) == (other.tls.is_some(), &other.manner.headers)
    }
}

/// `HOST:PORT`, nothing of the path.
impl fmt::Display for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.host.fmt(f)
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
    fn who_shows_other_headers_is_somebody_else() {
        let webhook = |url: &str, header: &str| {
            let manner = Manner { headers: headers(header).unwrap(), ..Manner::slack() };
            Webhook::parse(url, None, manner).unwrap()
        };
        let one = webhook("http://h/a", "Authorization: x");
        assert!(one.is_same(&webhook("http://h:80/a", "authorization:x")));
        for (url, header) in [
            ("http://h/b", "Authorization: x"),
            ("http://i/a", "Authorization: x"),
            ("http://h/a", "Authorization: y"),
            ("http://h/a", ""),
        ] {
            assert!(!one.is_same(&webhook(url, header)), "{url} {header}");
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
