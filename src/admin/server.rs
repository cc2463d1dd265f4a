//! The listener and its connections: limits on what a client may send, how long it may take, and
//! how many there may be.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::Request;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet, yield_now};
use tokio::time::timeout;

use super::answer::Answer;
use super::logs::{self, Look, Watch};
use super::{View, router};

/// Request line and headers, in bytes; beyond it the answer is 431.
pub(super) const HEADER_MAX: usize = 16 * 1024;
/// What hyper may buffer for one connection: the headers and some body.
const BUFFER_MAX: usize = 2 * HEADER_MAX;
/// A request's body is read up to here, also where it is thrown away: closing cannot tear the
/// answer then.
pub(super) const BODY_MAX: usize = 64 * 1024;
/// Open connections, streams apart; one more closes the oldest.
const CONNECTIONS_MAX: usize = 64;
/// For the headers of a request to arrive, the first or the next: also the idle timeout.
pub(super) const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// For a request's body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// After which a connection is closed when the request in hand is answered; a stream goes on.
const LIFETIME: Duration = Duration::from_secs(60);
/// For that answer to be taken.
const FAREWELL: Duration = Duration::from_secs(10);
/// Pause after a failure to accept (no file descriptors left, most likely).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the kernel may hold of an answer: enough for any network, and a bound for those who take
/// nothing.
const SEND_BUFFER: usize = 256 * 1024;
/// A client that looks on and says nothing is asked so often whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Serves until `stop` is ready, then closes everything, answers under way included.
pub async fn serve(listener: TcpListener, view: Arc<dyn View>, stop: impl Future<Output = ()>) {
    let mut stop = pin!(stop);
    let mut clients = Clients::default();
    loop {
        match poll_fn(|cx| next(cx, &listener, stop.as_mut(), &mut clients)).await {
            Next::Stop => return,
            Next::Client(Ok(stream)) => {
                clients.add(stream, Arc::clone(&view));
                // What it asks for has most likely come too: where many come at once, those that
                // came first are served before there are too many.
                yield_now().await;
            }
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
    /// Oldest first, streams apart; those that ended are taken out now and then.
    ages: VecDeque<(AbortHandle, Arc<Stay>)>,
}

impl Clients {
    fn add(&mut self, stream: TcpStream, view: Arc<dyn View>) {
        self.ages.retain(|(handle, stay)| !handle.is_finished() && !stay.streams.load(Relaxed));
        if self.ages.len() >= CONNECTIONS_MAX
            && let Some((oldest, _)) = self.ages.pop_front()
        {
            oldest.abort();
        }
        let stay = Arc::<Stay>::default();
        let handle = self.tasks.spawn(connection(stream, view, Arc::clone(&stay)));
        self.ages.push_back((handle, stay));
    }

    /// Forgets connections that ended.
    fn reap(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(_)) = self.tasks.poll_join_next(cx) {}
    }
}

/// What a connection knows of its last answer that takes longer than others.
#[derive(Default)]
pub(super) struct Stay {
    streams: AtomicBool,
    long: Mutex<Option<Long>>,
}

pub(super) enum Long {
    /// A body that goes on.
    Body(Watch),
    /// A websocket, once hyper lets go of the connection.
    Socket(OnUpgrade, Look),
}

impl Stay {
    pub(super) fn set(&self, long: Long) {
        self.streams.store(true, Relaxed);
        *self.long.lock().unwrap_or_else(PoisonError::into_inner) = Some(long);
    }

    fn take(&self) -> Option<Long> {
        self.long.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// One client, from its first byte to its last.
async fn connection(stream: TcpStream, view: Arc<dyn View>, stay: Arc<Stay>) {
    set_up(&stream);
    let service = hyper::service::service_fn(|request| {
        let (view, stay) = (Arc::clone(&view), Arc::clone(&stay));
        async move { Ok::<_, Infallible>(respond(request, &*view, &stay).await) }
    });
    let mut connection = pin!(
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_header_size(HEADER_MAX)
            .max_buf_size(BUFFER_MAX)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
    );
    // What goes wrong on a connection is its client's affair.
    if timeout(LIFETIME, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let ended = timeout(FAREWELL, connection.as_mut()).await;
        if let (Err(_), Some(Long::Body(watch))) = (ended, stay.take()) {
            tokio::select! {
                _ = connection.as_mut() => {}
                () = watch.until_patience_is_over() => {}
            }
        }
    }
    if let Some(Long::Socket(upgrade, look)) = stay.take() {
        logs::socket::serve(upgrade, look).await;
    }
}

/// A socket that refuses any of this works all the same.
fn set_up(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    let _ = socket.set_tcp_keepalive(&keepalive);
    let _ = socket.set_send_buffer_size(SEND_BUFFER);
    let _ = stream.set_nodelay(true);
}

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoBody {
    /// It is longer than [`BODY_MAX`].
    TooLong,
    /// It did not arrive, or not in time.
    Broken,
}

async fn respond(request: Request<Incoming>, view: &dyn View, stay: &Stay) -> Answer {
    let (head, body) = request.into_parts();
    let body = match timeout(BODY_TIMEOUT, Limited::new(body, BODY_MAX).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(NoBody::TooLong),
        Ok(Err(_)) | Err(_) => Err(NoBody::Broken),
    };
    router::answer(head, body, view, stay).await
}
