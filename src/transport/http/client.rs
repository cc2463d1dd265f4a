//! One connection to one [`Endpoint`]: HTTP/1.1, mostly over TLS, one request at a time.
//!
//! hyper speaks HTTP, rustls TLS, tokio's epoll moves the bytes, whatever driver the shards use.
//! Redirects are not followed. No error that comes out of here holds the endpoint's path or
//! headers.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{
    CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderMap, PROXY_AUTHORIZATION, RETRY_AFTER, USER_AGENT,
};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use super::{Endpoint, proxy};
use crate::docker::time::imf_fixdate;
use crate::io::clock;
use crate::metrics::RouteCounters;
use crate::transport::{resolve, tls};

/// For resolving, connecting and the TLS handshake together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that was idle for so long is not trusted any more: what lies in between may have
/// forgotten it without a word.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// Most bytes of an answer's body that are looked at for its words.
const WORDS_MAX: usize = 1024;
/// The longest text that is repeated to the user.
const TEXT_MAX: usize = 120;
/// A part of a secret that is shorter than this is no secret by itself.
const PART_MIN: usize = 4;
/// Who is so long, and one word, may be a secret that we do not know.
const TOKEN_MIN: usize = 24;

/// What came back of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `Retry-After`.
    pub retry_after: Option<Duration>,
    /// The body's first bytes, as many as the endpoint's manner says; they may repeat secrets.
    pub body: Bytes,
    /// Whether there was more of it.
    pub is_cut: bool,
}

/// What sends requests to one endpoint.
pub struct Client {
    connection: Option<Connection>,
    /// Connections made so far.
    connects: u64,
    /// Requests that were sent twice so far.
    repeats: u64,
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
    pub fn new(counters: Arc<RouteCounters>) -> Client {
        Client { connection: None, connects: 0, repeats: 0, counters }
    }

    /// How many requests were sent a second time so far, since the connection turned out to be
    /// closed.
    pub fn repeats(&self) -> u64 {
        self.repeats
    }

    /// Connects, if need be.
    ///
    /// # Errors
    /// Why not, in one line.
    pub async fn connect(&mut self, endpoint: &Endpoint) -> Result<(), String> {
        let usable = |connection: &Connection| {
            !connection.sender.is_closed()
                && clock::now().saturating_duration_since(connection.last_used) < IDLE_MAX
        };
        if self.connection.as_ref().is_some_and(usable) {
            return Ok(());
        }
        self.connection = None;
        let host = &endpoint.host;
        let opening = open(endpoint, &self.counters);
        let opened =
            within(CONNECT_TIMEOUT, || format!("{host} cannot be reached"), opening).await?;
        self.connection = Some(opened);
        self.counters.reconnects.add(u64::from(self.connects > 0));
        self.connects += 1;
        Ok(())
    }

    /// Sends `body`, which is compressed if it is `gzipped`, and waits for the answer.
    ///
    /// A connection that the other side closed while it was idle fails only when it is used: then
    /// the request goes out once more, over a new one.
    ///
    /// # Errors
    /// Why there is no answer, in one line. The body may have arrived all the same.
    pub async fn send(
        &mut self,
        endpoint: &Endpoint,
        body: &Bytes,
        gzipped: bool,
    ) -> Result<Answer, String> {
        loop {
            let before = self.connects;
            self.connect(endpoint).await?;
            let fresh = self.connects > before;
            match self.ask(endpoint, body.clone(), gzipped).await {
                Err(Failure::Closed(_)) if !fresh => self.repeats += 1,
                Err(Failure::Closed(reason) | Failure::Other(reason)) => return Err(reason),
                Ok(answer) => return Ok(answer),
            }
        }
    }

    async fn ask(
        &mut self,
        endpoint: &Endpoint,
        body: Bytes,
        gzipped: bool,
    ) -> Result<Answer, Failure> {
        // Put back only after a whole answer: nothing else is known to be in step.
        let Some(mut connection) = self.connection.take() else {
            return Err(Failure::Closed("the connection is closed".to_owned()));
        };
        let request = request(endpoint, body, gzipped).map_err(Failure::Other)?;
        let mut closed = false;
        let exchange = async {
            let began = match connection.sender.ready().await {
                Ok(()) => connection.sender.send_request(request).await,
                Err(error) => Err(error),
            };
            let answer = match began {
                Ok(response) => read(response, endpoint).await,
                Err(error) => {
                    closed = error.is_canceled() || error.is_closed() || is_reset(&error);
                    Err(error)
                }
            };
            answer.map_err(|error| explain(&error, endpoint))
        };
        let (host, limit) = (&endpoint.host, endpoint.manner.answer_timeout);
        let answer = within(limit, || format!("{host} does not answer"), exchange).await;
        match answer {
            Ok(answer) => {
                connection.last_used = clock::now();
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
    let late = |_| Err(format!("{} within {} s", what(), limit.as_secs_f64()));
    tokio::time::timeout(limit, step).await.unwrap_or_else(late)
}

/// Resolves anew, tries each address, shakes hands.
async fn open(endpoint: &Endpoint, counters: &Arc<RouteCounters>) -> Result<Connection, String> {
    let host = &endpoint.host.host;
    let stream = dial(endpoint).await.map_err(|error| {
        format!("cannot reach {}: {}", endpoint.host, tls::explain_io(&error, host, PEER))
    })?;
    let shaken = handshake(TokioIo::new(stream)).await;
    let (sender, connection) = shaken.map_err(|error| explain(&error, endpoint))?;
    let counted = Counted::new(counters);
    let task = tokio::task::spawn_local(async move {
        // Its errors come out at the sender.
        let _ = connection.await;
        drop(counted);
    });
    Ok(Connection { sender, last_used: clock::now(), task: task.abort_handle() })
}

const PEER: tls::Peer = tls::Peer::Webhook;

/// Bytes to an endpoint, whatever carries them.
trait Carrier: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Carrier for T {}

async fn dial(endpoint: &Endpoint) -> io::Result<Box<dyn Carrier>> {
    let Some(tls) = &endpoint.tls else { return Ok(Box::new(dial_first(endpoint).await?)) };
    let name = tls::server_name(&endpoint.host.host).map_err(io::Error::other)?;
    let tls = TlsConnector::from(Arc::clone(tls));
    let stream = dial_first(endpoint).await?;
    Ok(match &endpoint.proxy {
        Some(proxy) => {
            let tunnel = proxy::tunnel(stream, proxy, &endpoint.host).await?;
            Box::new(tls.connect(name, tunnel).await?)
        }
        None => Box::new(tls.connect(name, stream).await?),
    })
}

/// Connects to the endpoint, or to the proxy before it: tries each address.
async fn dial_first(endpoint: &Endpoint) -> io::Result<TcpStream> {
    let failed = |error: io::Error| match &endpoint.proxy {
        Some(proxy) => io::Error::new(error.kind(), format!("{proxy} cannot be reached: {error}")),
        None => error,
    };
    let host = endpoint.proxy.as_ref().map_or(&endpoint.host, |proxy| &proxy.at);
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

fn request(
    endpoint: &Endpoint,
    body: Bytes,
    gzipped: bool,
) -> Result<Request<Full<Bytes>>, String> {
    let (path, manner) = (endpoint.path.reveal(), &endpoint.manner);
    // Without TLS a proxy is asked for the page itself (RFC 9112, section 3.2.2).
    let proxy = endpoint.proxy.as_ref().filter(|_| endpoint.tls.is_none());
    let uri = match proxy {
        Some(_) => format!("http://{}{path}", endpoint.authority()),
        None => path.to_owned(),
    };
    let mut request = Request::builder()
        .method(manner.method.clone())
        .uri(uri)
        .header(HOST, endpoint.authority())
        .header(CONTENT_TYPE, &manner.content_type);
    if !manner.headers.contains_key(USER_AGENT) {
        request = request.header(USER_AGENT, concat!("logchute/", env!("CARGO_PKG_VERSION")));
    }
    if gzipped {
        request = request.header(CONTENT_ENCODING, "gzip");
    }
    if let Some(authorization) = proxy.and_then(|proxy| proxy.authorization.as_ref()) {
        request = request.header(PROXY_AUTHORIZATION, authorization);
    }
    for (name, value) in &manner.headers {
        request = request.header(name, value);
    }
    request
        .body(Full::new(body))
        // The error's own text may hold the path.
        .map_err(|_| "the request cannot be put together".to_owned())
}

/// Reads the whole answer, however long, so that the connection can be used again; of a body
/// without an end the time limit makes one.
async fn read(response: Response<Incoming>, endpoint: &Endpoint) -> hyper::Result<Answer> {
    let status = response.status().as_u16();
    let retry_after = retry_after(response.headers(), clock::wall());
    let mut body = response.into_body();
    let (mut bytes, mut is_cut) = (BytesMut::new(), false);
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            let room = endpoint.manner.answer_max - bytes.len();
            is_cut |= data.len() > room;
            bytes.extend_from_slice(&data[..data.len().min(room)]);
        }
    }
    Ok(Answer { status, retry_after, body: bytes.freeze(), is_cut })
}

/// What of an endpoint's path and headers must not be repeated: its parts, in lower case.
pub(super) fn secrets(endpoint: &Endpoint) -> Vec<String> {
    let headers = endpoint.manner.headers.values();
    let headers = headers.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let texts = headers.chain([endpoint.path.reveal().to_owned()]);
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
pub(super) fn cleaned(body: &[u8], secrets: &[String]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(WORDS_MAX)]);
    if text.trim_start().starts_with('<') {
        return String::new();
    }
    // Half a word could be half a secret, which nobody knows by that.
    let whole = if body.len() < WORDS_MAX { text.len() } else { text.rfind(' ').unwrap_or(0) };
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
fn explain(error: &hyper::Error, endpoint: &Endpoint) -> String {
    let host = &endpoint.host;
    let cut = || format!("{host} closed the connection in the middle of its answer");
    match io_error(error) {
        // The handshake of TLS is over: this is the end of an answer that has not all come.
        Some(error) if error.kind() == io::ErrorKind::UnexpectedEof => cut(),
        Some(error) => format!("{host}: {}", tls::explain_io(error, &host.host, PEER)),
        None if error.is_incomplete_message() => cut(),
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
}
