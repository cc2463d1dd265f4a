//! The HTTP side: `/health` and `/metrics`, for people and their monitoring.
//!
//! Runs on the control thread; sees the rest of the program through [`View`] alone, and never
//! waits for it. Clients are not trusted: headers, connections and times are limited, and a
//! client that dawdles holds up nobody else.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, LOCATION, X_CONTENT_TYPE_OPTIONS};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

pub mod metrics;
mod path;
pub mod probe;

/// Request line and headers, in bytes; beyond it the answer is 431.
const HEADER_MAX: usize = 16 * 1024;
/// What hyper may buffer for one connection: the headers and some body.
const BUFFER_MAX: usize = 2 * HEADER_MAX;
/// A request's body is read up to here and thrown away, so that closing cannot tear the answer.
const BODY_MAX: usize = 64 * 1024;
/// Open connections; one more closes the oldest.
const CONNECTIONS_MAX: usize = 64;
/// For the headers of a request to arrive, the first or the next: also the idle timeout.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// For a request's body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// After which a connection is closed when the request in hand is answered.
const LIFETIME: Duration = Duration::from_secs(60);
/// For that answer to be taken.
const FAREWELL: Duration = Duration::from_secs(10);
/// Pause after a failure to accept (no file descriptors left, most likely).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

/// What the HTTP side may see of the program. Both calls must return at once: they run on the
/// control thread.
pub trait View: Send + Sync {
    /// Whether logchute does its work; if not, why, in one line without secrets.
    fn health(&self) -> Result<(), String>;

    /// Appends all metrics, as [`metrics::render`] writes them.
    fn metrics(&self, out: &mut String);
}

type Answer = Response<Full<Bytes>>;

/// Serves until `stop` is ready, then closes everything, answers under way included.
pub async fn serve(listener: TcpListener, view: Arc<dyn View>, stop: impl Future<Output = ()>) {
    let mut stop = pin!(stop);
    let mut clients = Clients::default();
    loop {
        match poll_fn(|cx| next(cx, &listener, stop.as_mut(), &mut clients)).await {
            Next::Stop => return,
            Next::Client(Ok(stream)) => clients.add(stream, Arc::clone(&view)),
            Next::Client(Err(error)) => {
                tracing::debug!("http: cannot accept: {error}");
                if timeout(ACCEPT_PAUSE, stop.as_mut()).await.is_ok() {
                    return;
                }
            }
        }
    }
}

enum Next {
    Stop,
    Client(io::Result<TcpStream>),
}

fn next(
    cx: &mut Context<'_>,
    listener: &TcpListener,
    stop: Pin<&mut impl Future<Output = ()>>,
    clients: &mut Clients,
) -> Poll<Next> {
    if stop.poll(cx).is_ready() {
        return Poll::Ready(Next::Stop);
    }
    clients.reap(cx);
    listener.poll_accept(cx).map(|accepted| Next::Client(accepted.map(|(stream, _)| stream)))
}

/// The connections that are open. Dropping it closes them.
#[derive(Default)]
struct Clients {
    tasks: JoinSet<()>,
    /// Oldest first; those that ended are taken out when they come to the front.
    ages: VecDeque<AbortHandle>,
}

impl Clients {
    fn add(&mut self, stream: TcpStream, view: Arc<dyn View>) {
        if self.tasks.len() >= CONNECTIONS_MAX
            && let Some(oldest) = self.ages.pop_front()
        {
            oldest.abort();
        }
        let handle = self.tasks.spawn(connection(stream, view));
        self.ages.push_back(handle);
    }

    /// Forgets connections that ended.
    fn reap(&mut self, cx: &mut Context<'_>) {
        let mut reaped = false;
        while let Poll::Ready(Some(_)) = self.tasks.poll_join_next(cx) {
            reaped = true;
        }
        if reaped {
            self.ages.retain(|handle| !handle.is_finished());
        }
    }
}

/// One client, from its first byte to its last.
async fn connection(stream: TcpStream, view: Arc<dyn View>) {
    let service = hyper::service::service_fn(move |request| respond(request, Arc::clone(&view)));
    let mut connection = pin!(
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_header_size(HEADER_MAX)
            .max_buf_size(BUFFER_MAX)
            .serve_connection(TokioIo::new(stream), service)
    );
    // What goes wrong on a connection is its client's affair.
    if timeout(LIFETIME, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(FAREWELL, connection).await;
    }
}

async fn respond(request: Request<Incoming>, view: Arc<dyn View>) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    let _ = timeout(BODY_TIMEOUT, Limited::new(body, BODY_MAX).collect()).await;
    Ok(answer(&head.method, head.uri.path(), head.uri.query(), &*view))
}

/// What Logspout answers, and `/metrics`.
fn answer(method: &Method, path: &str, query: Option<&str>, view: &dyn View) -> Answer {
    let clean = path::clean(path);
    if clean != path {
        return redirect(method, &clean, query);
    }
    match path {
        "/health" => health(view),
        "/metrics" if method == Method::GET || method == Method::HEAD => {
            let mut text = String::new();
            view.metrics(&mut text);
            plain(StatusCode::OK, metrics::CONTENT_TYPE, text)
        }
        "/metrics" => {
            let text = "Method Not Allowed\n".to_string();
            let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, TEXT, text);
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            answer
        }
        _ => {
            let mut answer = plain(StatusCode::NOT_FOUND, TEXT, "404 page not found\n".into());
            answer
                .headers_mut()
                .insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            answer
        }
    }
}

/// Logspout's answer while all is well; it knows no other.
fn health(view: &dyn View) -> Answer {
    match view.health() {
        Ok(()) => plain(StatusCode::OK, TEXT, "Healthy!\n".to_string()),
        Err(why) => plain(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("Not healthy: {why}\n")),
    }
}

/// As Go's `ServeMux` redirects a path that is not clean; the body is for `GET` alone.
fn redirect(method: &Method, path: &str, query: Option<&str>) -> Answer {
    let target = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_string(),
    };
    let with_body = method == Method::GET || method == Method::HEAD;
    let text = if with_body {
        format!("<a href=\"{}\">Moved Permanently</a>.\n\n", path::escape_html(&target))
    } else {
        String::new()
    };
    let mut answer = plain(StatusCode::MOVED_PERMANENTLY, HTML, text);
    if !with_body {
        answer.headers_mut().remove(CONTENT_TYPE);
    }
    // A URI that hyper took holds nothing that a header may not hold.
    if let Ok(location) = HeaderValue::from_str(&target) {
        answer.headers_mut().insert(LOCATION, location);
    }
    answer
}

fn plain(status: StatusCode, content_type: &'static str, text: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

#[cfg(test)]
mod tests;
