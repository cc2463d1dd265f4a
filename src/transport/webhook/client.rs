//! One connection to one webhook: HTTP/1.1, mostly over TLS, one request at a time.
//!
//! hyper speaks HTTP, rustls TLS, tokio's epoll moves the bytes, whatever driver the shards use.
//! Redirects are not followed. No error that comes out of here holds the webhook's path or headers.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, PROXY_AUTHORIZATION, RETRY_AFTER, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use super::pace::Answer;
use super::{Webhook, proxy};
use crate::docker::time::imf_fixdate;
use crate::metrics::RouteCounters;
use crate::transport::{resolve, tls};

/// For resolving, connecting and the TLS handshake together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For the whole answer, once connected.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// A connection that was idle for so long is not trusted any more: what lies in between may have
/// forgotten it without a word.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// Most bytes of an answer's body that are looked at: Slack's are one word.
const BODY_MAX: usize = 1024;
/// The longest word that is repeated to the user, and the longest text.
const WORD_MAX: usize = 40;
const TEXT_MAX: usize = 120;
/// A part of a secret that is shorter than this is no secret by itself.
const PART_MIN: usize = 4;
/// Who is so long, and one word, may be a secret that we do not know.
const TOKEN_MIN: usize = 24;

/// What sends requests to one webhook.
pub(super) struct Client {
    connection: Option<Connection>,
    /// Connections made so far.
    connects: u64,
    counters: Arc<RouteCounters>,
}

/// An open connection; dropping it closes it, whatever is under way.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    last_used: Instant,
    task: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Counts a connection as long as it is open.
struct Counted(Arc<RouteCounters>);

impl Counted {
    fn new(counters: &Arc<RouteCounters>) -> Counted {
        counters.connected.set(counters.connected.get() + 1);
        Counted(Arc::clone(counters))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connected.set(self.0.connected.get().saturating_sub(1));
    }
}

impl Client {
    /// A client that counts its connections in `counters`.
    pub(super) fn new(counters: Arc<RouteCounters>) -> Client {
        Client { connection: None, connects: 0, counters }
    }

    /// Connects, if need be.
    ///
    /// # Errors
    /// Why not, in one line.
    pub(super) async fn connect(&mut self, webhook: &Webhook) -> Result<(), String> {
        let usable = |connection: &Connection| {
            !connection.sender.is_closed() && connection.last_used.elapsed() < IDLE_MAX
        };
        if self.connection.as_ref().is_some_and(usable) {
            return Ok(());
        }
        self.connection = None;
        let host = &webhook.host;
        let opening = open(webhook, &self.counters);
        let opened =
            within(CONNECT_TIMEOUT, || format!("{host} cannot be reached"), opening).await?;
        self.connection = Some(opened);
        self.counters.reconnects.add(u64::from(self.connects > 0));
        self.connects += 1;
        Ok(())
    }

    /// Sends `body` and waits for the answer.
    ///
    /// A connection that the other side closed while it was idle fails only when it is used: then
    /// the request goes out once more, over a new one.
    ///
    /// # Errors
    /// Why there is no answer, in one line. The message may have arrived all the same.
    pub(super) async fn post(&mut self, webhook: &Webhook, body: &[u8]) -> Result<Answer, String> {
        loop {
            let before = self.connects;
            self.connect(webhook).await?;
            let fresh = self.connects > before;
            match self.ask(webhook, body).await {
                Err(Failure::Closed(_)) if !fresh => {}
                Err(Failure::Closed(reason) | Failure::Other(reason)) => return Err(reason),
                Ok(answer) => return Ok(answer),
            }
        }
    }

    async fn ask(&mut self, webhook: &Webhook, body: &[u8]) -> Result<Answer, Failure> {
        // Put back only after a whole answer: nothing else is known to be in step.
        let Some(mut connection) = self.connection.take() else {
            return Err(Failure::Closed("the connection is closed".to_owned()));
        };
        let request = request(webhook, body).map_err(Failure::Other)?;
        let mut closed = false;
        let exchange = async {
            let began = match connection.sender.ready().await {
                Ok(()) => connection.sender.send_request(request).await,
                Err(error) => Err(error),
            };
            let answer = match began {
                Ok(response) => read(response, webhook).await,
                Err(error) => {
                    closed = error.is_canceled() || error.is_closed() || is_reset(&error);
                    Err(error)
                }
            };
            answer.map_err(|error| explain(&error, webhook))
        };
        let host = &webhook.host;
        let answer = within(ANSWER_TIMEOUT, || format!("{host} does not answer"), exchange).await;
        match answer {
            Ok(answer) => {
                connection.last_used = Instant::now();
                self.connection = Some(connection);
                Ok(answer)
            }
            Err(reason) if closed => Err(Failure::Closed(reason)),
            Err(reason) => Err(Failure::Other(reason)),
        }
    }
}

/// Why there was no answer.
enum Failure {
    /// The connection ended before the answer began.
    Closed(String),
    Other(String),
}

async fn within<T>(
    limit: Duration,
    what: impl FnOnce() -> String,
    step: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    let late = |_| Err(format!("{} within {} s", what(), limit.as_secs()));
    tokio::time::timeout(limit, step).await.unwrap_or_else(late)
}

/// Resolves anew, tries each address, shakes hands.
async fn open(webhook: &Webhook, counters: &Arc<RouteCounters>) -> Result<Connection, String> {
    let host = &webhook.host.host;
    let stream = dial(webhook).await.map_err(|error| {
        format!("cannot reach {}: {}", webhook.host, tls::explain_io(&error, host, PEER))
    })?;
    let shaken = handshake(TokioIo::new(stream)).await;
    let (sender, connection) = shaken.map_err(|error| explain(&error, webhook))?;
    let counted = Counted::new(counters);
    let task = tokio::task::spawn_local(async move {
        // Its errors come out at the sender.
        let _ = connection.await;
        drop(counted);
    });
    Ok(Connection { sender, last_used: Instant::now(), task: task.abort_handle() })
}

const PEER: tls::Peer = tls::Peer::Webhook;

/// Bytes to a webhook, whatever carries them.
trait Carrier: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Carrier for T {}

async fn dial(webhook: &Webhook) -> io::Result<Box<dyn Carrier>> {
    let Some(tls) = &webhook.tls else { return Ok(Box::new(dial_first(webhook).await?)) };
    let name = tls::server_name(&webhook.host.host).map_err(io::Error::other)?;
    let tls = TlsConnector::from(Arc::clone(tls));
    let stream = dial_first(webhook).await?;
    Ok(match &webhook.proxy {
        Some(proxy) => {
            let tunnel = proxy::tunnel(stream, proxy, &webhook.host).await?;
            Box::new(tls.connect(name, tunnel).await?)
        }
        None => Box::new(tls.connect(name, stream).await?),
    })
}

/// Connects to the webhook, or to the proxy before it: tries each address.
async fn dial_first(webhook: &Webhook) -> io::Result<TcpStream> {
    let failed = |error: io::Error| match &webhook.proxy {
        Some(proxy) => io::Error::new(error.kind(), format!("{proxy} cannot be reached: {error}")),
        None => error,
    };
    let host = webhook.proxy.as_ref().map_or(&webhook.host, |proxy| &proxy.at);
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in resolve::resolve(host).await.map_err(failed)? {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => failure = error,
        }
    }
    Err(failed(failure))
}

fn request(webhook: &Webhook, body: &[u8]) -> Result<Request<Full<Bytes>>, String> {
    let (path, manner) = (webhook.path.reveal(), &webhook.manner);
    // Without TLS a proxy is asked for the page itself (RFC 9112, section 3.2.2).
    let proxy = webhook.proxy.as_ref().filter(|_| webhook.tls.is_none());
    let uri = match proxy {
        Some(_) => format!("http://{}{path}", webhook.authority()),
        None => path.to_owned(),
    };
    let mut request = Request::builder()
        .method(manner.method.clone())
        .uri(uri)
        .header(HOST, webhook.authority())
        .header(CONTENT_TYPE, &manner.content_type);
    if !manner.headers.contains_key(USER_AGENT) {
        request = request.header(USER_AGENT, concat!("logchute/", env!("CARGO_PKG_VERSION")));
    }
    if let Some(authorization) = proxy.and_then(|proxy| proxy.authorization.as_ref()) {
        request = request.header(PROXY_AUTHORIZATION, authorization);
    }
    for (name, value) in &manner.headers {
        request = request.header(name, value);
    }
    request
        .body(Full::new(Bytes::copy_from_slice(body)))
        // The error's own text may hold the path.
        .map_err(|_| "the request cannot be put together".to_owned())
}

/// Reads the whole answer, however long, so that the connection can be used again; of a body
/// without an end the time limit makes one.
async fn read(response: Response<Incoming>, webhook: &Webhook) -> hyper::Result<Answer> {
    let status = response.status().as_u16();
    let retry_after = retry_after(response.headers(), SystemTime::now());
    let mut body = response.into_body();
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data()
            && bytes.len() < BODY_MAX
        {
            bytes.extend_from_slice(&data[..data.len().min(BODY_MAX)]);
        }
    }
    let word = word(&bytes);
    let text = match webhook.manner.talkative && word.is_empty() && status >= 300 {
        true => cleaned(&bytes, &secrets(webhook)),
        false => String::new(),
    };
    Ok(Answer { status, retry_after, word, text, setting: webhook.manner.setting })
}

/// What of a webhook's path and headers must not be repeated: its parts, in lower case.
fn secrets(webhook: &Webhook) -> Vec<String> {
    let headers = webhook.manner.headers.values();
    let headers = headers.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let texts = headers.chain([webhook.path.reveal().to_owned()]);
    texts
        .flat_map(|text| {
            let parts = text.split(|c: char| !c.is_ascii_alphanumeric());
            parts.map(str::to_ascii_lowercase).collect::<Vec<_>>()
        })
        .filter(|part| part.len() >= PART_MIN)
        .collect()
}

/// The first words of an answer's body, on one line. A word that may hold one of `secrets`, or be
/// one that we do not know, is `***`; pages for people are left out.
fn cleaned(body: &[u8], secrets: &[String]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(BODY_MAX)]);
    if text.trim_start().starts_with('<') {
        return String::new();
    }
    // Half a word could be half a secret, which nobody knows by that.
    let whole = if body.len() < BODY_MAX { text.len() } else { text.rfind(' ').unwrap_or(0) };
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let text: String = text[..whole].chars().map(plain).collect();
    let hidden = |word: &str| {
        let bare = word.to_ascii_lowercase();
        let runs = word.split(|c: char| !c.is_ascii_alphanumeric());
        let token = runs.map(str::len).max().is_some_and(|len| len >= TOKEN_MIN);
        token || secrets.iter().any(|secret| bare.contains(secret.as_str()))
    };
    let words = text.split_whitespace().map(|word| if hidden(word) { "***" } else { word });
    let text = words.collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(TEXT_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(secs) = text.parse() {
        return Some(Duration::from_secs(secs));
    }
    let date = SystemTime::UNIX_EPOCH + Duration::from_secs(imf_fixdate(text.as_bytes())?);
    Some(date.duration_since(now).unwrap_or_default())
}

/// One of Slack's one-word answers; empty for anything else.
fn word(body: &[u8]) -> String {
    let word = body.trim_ascii();
    let is_word = word.len() <= WORD_MAX && word.iter().all(|b| matches!(b, b'a'..=b'z' | b'_'));
    if is_word { String::from_utf8_lossy(word).into_owned() } else { String::new() }
}

fn is_reset(error: &hyper::Error) -> bool {
    let broken = |kind| {
        matches!(
            kind,
            io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionAborted
        )
    };
    error.is_incomplete_message() || io_error(error).is_some_and(|error| broken(error.kind()))
}

fn io_error(error: &hyper::Error) -> Option<&io::Error> {
    std::error::Error::source(error)?.downcast_ref()
}

/// hyper's errors know nothing of the request but what step of it failed.
fn explain(error: &hyper::Error, webhook: &Webhook) -> String {
    let host = &webhook.host;
    match io_error(error) {
        Some(error) => format!("{host}: {}", tls::explain_io(error, &host.host, PEER)),
        None if error.is_incomplete_message() => {
            format!("{host} closed the connection in the middle of its answer")
        }
        None => format!("{host}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_770);
        for (text, secs) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(text));
            assert_eq!(retry_after(&headers, at), secs.map(Duration::from_secs), "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), at), None);
    }

    /// Servers like to repeat the path, which is the secret.
    #[test]
    fn what_is_repeated_of_an_answer_holds_no_secret() {
        let secrets = ["webhooks", "s3cret", "bearer", "abcd"].map(str::to_owned);
        let cleaned = |body: &str| cleaned(body.as_bytes(), &secrets);
        assert_eq!(cleaned("{\"message\": \"Bad\r\n body\"}"), "{\"message\": \"Bad body\"}");
        assert_eq!(cleaned("no /api/WebHooks/S3cret here"), "no *** here");
        assert_eq!(cleaned("sent:Bearer%20abcd!"), "***");
        let token = "x".repeat(TOKEN_MIN);
        assert_eq!(cleaned(&format!("key={token}: bad \u{1b}[31m")), "*** bad [31m");
        assert_eq!(cleaned(" <html>404</html>"), "");
        let long = cleaned(&"é ".repeat(10_000));
        assert_eq!(long.chars().count(), TEXT_MAX + 3);
    }

    #[test]
    fn only_a_word_of_an_answer_is_kept() {
        assert_eq!(word(b"no_service"), "no_service");
        assert_eq!(word(b" invalid_payload\r\n"), "invalid_payload");
        for text in ["", "ok ok", "/services/T0/B0/abc", "<html>", "ABC", &"a".repeat(41)] {
            assert_eq!(word(text.as_bytes()), "", "{text}");
        }
    }
}
