//! A webhook of our own on loopback: HTTPS, or HTTP, which keeps every request and answers as it is
//! told, or misbehaves.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use super::http::Raw;
use super::pki::Pki;
use super::receivers::server_config;

/// What a webhook answers, or does instead.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// A status, further header lines, and a body.
    Answer(u16, &'static str, &'static str),
    /// Nothing: the connection is reset.
    Reset,
    /// Nothing, for ever.
    Hang,
    /// Half of an answer, then the end.
    Half,
    /// 200, and then the connection is closed without a word about it.
    OkAndClose,
    /// The request is taken, and the connection reset before it is said.
    TakeAndReset,
    /// A status and a body that depends on the request.
    Told(u16, String),
}

/// 200, as Slack says it.
pub(crate) const OK: Reply = Reply::Answer(200, "", "ok");

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Posted {
    /// When its last byte came.
    pub at: Instant,
    /// `POST`.
    pub method: String,
    /// The path, as sent.
    pub path: String,
    /// The head's lines in lower case.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
    /// What was answered; 0 for none.
    pub status: u16,
}

impl Posted {
    /// The body, which must be JSON.
    pub(crate) fn json(&self) -> Value {
        let shown = || super::readable(&self.body);
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", shown()))
    }

    /// The attachments of the body.
    pub(crate) fn attachments(&self) -> Vec<Value> {
        self.json()["attachments"].as_array().cloned().unwrap_or_default()
    }

    /// The texts of the attachments.
    pub(crate) fn texts(&self) -> Vec<String> {
        let text = |a: &Value| a["text"].as_str().unwrap_or_default().to_owned();
        self.attachments().iter().map(text).collect()
    }
}

/// Says what to answer.
type Judge = Box<dyn Fn(&Posted) -> Reply + Send + Sync>;

#[derive(Default)]
struct Shared {
    down: AtomicBool,
    posted: Mutex<Vec<Posted>>,
    /// Answers to come, the next first.
    replies: Mutex<std::collections::VecDeque<Reply>>,
    /// What is answered once these are used up.
    otherwise: Mutex<Option<Reply>>,
    /// Answers 429 to whatever comes sooner than this after the last message that was taken.
    every: Mutex<Option<Duration>>,
    taken: Mutex<Option<Instant>>,
    /// All there were; those that were reset are gone, for only the last one to close resets.
    sockets: Mutex<Vec<Option<TcpStream>>>,
    /// Requests that were under way at the same time, at most.
    at_once: Mutex<(usize, usize)>,
    /// Answers each request, in place of all that is said above; requests are not kept then.
    judge: std::sync::OnceLock<Judge>,
    /// Bytes are read a few at a time, with pauses.
    slow: AtomicBool,
}

/// A webhook.
pub(crate) struct Webhook {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl Webhook {
    /// A webhook that answers `replies` in turn, and then 200.
    pub(crate) fn new(pki: &Pki, replies: &[Reply]) -> Webhook {
        Webhook::on(bind(), pki, replies)
    }

    /// The same on a listener that is there.
    pub(crate) fn on(listener: TcpListener, pki: &Pki, replies: &[Reply]) -> Webhook {
        Webhook::with(listener, Some(server_config(pki, false)), replies)
    }

    /// A webhook without TLS.
    pub(crate) fn plain(replies: &[Reply]) -> Webhook {
        Webhook::with(bind(), None, replies)
    }

    fn with(
        listener: TcpListener,
        config: Option<Arc<ServerConfig>>,
        replies: &[Reply],
    ) -> Webhook {
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let shared = Arc::new(Shared::default());
        shared.replies.lock().unwrap().extend(replies.iter().cloned());
        let serving = Arc::clone(&shared);
        let accepting = std::thread::spawn(move || {
            while !serving.down.load(Ordering::SeqCst) {
                match listener.accept() {
                    Ok((socket, _)) => serve(&serving, socket, config.clone()),
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        });
        Webhook { address, shared, accepting: Some(accepting) }
    }

    /// A webhook without TLS that answers what `judge` says. It keeps no requests.
    pub(crate) fn judging(judge: impl Fn(&Posted) -> Reply + Send + Sync + 'static) -> Webhook {
        let webhook = Webhook::with(bind(), None, &[]);
        let _ = webhook.shared.judge.set(Box::new(judge));
        webhook
    }

    /// Reads requests slowly, or no more.
    pub(crate) fn read_slowly(&self, slow: bool) {
        self.shared.slow.store(slow, Ordering::SeqCst);
    }

    /// What it answers once the replies it was made with are used up.
    pub(crate) fn otherwise(&self, reply: Reply) {
        *self.shared.otherwise.lock().unwrap() = Some(reply);
    }

    /// Takes one message in so long a time, and answers 429 with `Retry-After: 1` to the others.
    pub(crate) fn take_one_every(&self, time: Duration) {
        *self.shared.every.lock().unwrap() = Some(time);
    }

    /// `localhost:PORT`, for which its certificate is.
    pub(crate) fn place(&self) -> String {
        format!("localhost:{}", self.address.port())
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Every request, in order.
    pub(crate) fn posted(&self) -> Vec<Posted> {
        self.shared.posted.lock().unwrap().clone()
    }

    /// The requests that were answered with 200.
    pub(crate) fn taken(&self) -> Vec<Posted> {
        self.posted().into_iter().filter(|posted| posted.status == 200).collect()
    }

    /// The texts of all attachments that were taken.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.taken().iter().flat_map(Posted::texts).collect()
    }

    /// Connections made so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.sockets.lock().unwrap().len()
    }

    /// The most requests that were under way at the same time.
    pub(crate) fn most_at_once(&self) -> usize {
        self.shared.at_once.lock().unwrap().1
    }

    /// Closes every connection, and goes on listening.
    pub(crate) fn close_connections(&self) {
        for socket in self.shared.sockets.lock().unwrap().iter().flatten() {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

fn bind() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.shared.down.store(true, Ordering::SeqCst);
        self.close_connections();
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn serve(shared: &Arc<Shared>, socket: TcpStream, config: Option<Arc<ServerConfig>>) {
    let _ = socket.set_nonblocking(false);
    let _ = socket.set_nodelay(true);
    shared.sockets.lock().unwrap().push(socket.try_clone().ok());
    let shared = Arc::clone(shared);
    std::thread::spawn(move || {
        // A client that goes away in the middle is no error of ours.
        let _ = greet(&shared, socket, config);
    });
}

fn greet(shared: &Shared, socket: TcpStream, config: Option<Arc<ServerConfig>>) -> io::Result<()> {
    let plain = socket.try_clone()?;
    match config {
        Some(config) => {
            let tls = ServerConnection::new(config).map_err(io::Error::other)?;
            converse(shared, StreamOwned::new(tls, socket), &plain)
        }
        None => converse(shared, socket, &plain),
    }
}

fn converse(shared: &Shared, mut stream: impl Read + Write, plain: &TcpStream) -> io::Result<()> {
    while let Some(mut posted) = read_request(&mut Paced { stream: &mut stream, shared })? {
        let mut at_once = shared.at_once.lock().unwrap();
        at_once.0 += 1;
        at_once.1 = at_once.1.max(at_once.0);
        drop(at_once);
        let judge = shared.judge.get();
        let reply = judge.map_or_else(|| shared.reply(posted.at), |judge| judge(&posted));
        if let Reply::Answer(status, ..) = reply {
            posted.status = status;
        }
        if let Reply::OkAndClose | Reply::TakeAndReset = reply {
            posted.status = 200;
        }
        if judge.is_none() {
            shared.posted.lock().unwrap().push(posted);
        }
        let goes_on = answer(&mut stream, plain, &reply, shared);
        shared.at_once.lock().unwrap().0 -= 1;
        if !goes_on? {
            return Ok(());
        }
    }
    Ok(())
}

impl Shared {
    fn reply(&self, now: Instant) -> Reply {
        if let Some(reply) = self.replies.lock().unwrap().pop_front() {
            return reply;
        }
        let mut taken = self.taken.lock().unwrap();
        let every = *self.every.lock().unwrap();
        if let (Some(every), Some(last)) = (every, *taken)
            && now - last < every
        {
            return Reply::Answer(429, "Retry-After: 1\r\n", "rate_limited");
        }
        *taken = Some(now);
        self.otherwise.lock().unwrap().clone().unwrap_or(OK)
    }
}

/// Whether the connection is good for another request.
fn answer(
    stream: &mut impl Write,
    plain: &TcpStream,
    reply: &Reply,
    shared: &Shared,
) -> io::Result<bool> {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    match reply {
        Reply::Answer(status, headers, body) => {
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
            )?;
            stream.flush()?;
            return Ok(true);
        }
        Reply::Told(status, body) => {
            let length = body.len();
            write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{body}")?;
            stream.flush()?;
            return Ok(true);
        }
        Reply::Reset | Reply::TakeAndReset => {
            // Unread bytes, or this, make the kernel reset rather than close.
            let _ = socket2::SockRef::from(plain).set_linger(Some(Duration::ZERO));
            let peer = plain.peer_addr()?;
            for place in shared.sockets.lock().unwrap().iter_mut() {
                place.take_if(|socket| socket.peer_addr().is_ok_and(|other| other == peer));
            }
        }
        Reply::Hang => {
            while !shared.down.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Reply::Half => {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 2")?;
            stream.flush()?;
        }
        Reply::OkAndClose => {
            stream.write_all(ok.as_bytes())?;
            stream.flush()?;
        }
    }
    if !matches!(reply, Reply::Reset | Reply::TakeAndReset) {
        let _ = plain.shutdown(Shutdown::Both);
    }
    Ok(false)
}

/// A stream that is read slowly where that is asked for.
struct Paced<'a, S> {
    stream: &'a mut S,
    shared: &'a Shared,
}

impl<S: Read> Read for Paced<'_, S> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if bytes.len() > 1 && self.shared.slow.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(20));
            let most = bytes.len().min(4096);
            return self.stream.read(&mut bytes[..most]);
        }
        self.stream.read(bytes)
    }
}

fn read_request(stream: &mut impl Read) -> io::Result<Option<Posted>> {
    let posted = |Raw { method, target: path, head, body }| Posted {
        at: Instant::now(),
        method,
        path,
        head,
        body,
        status: 0,
    };
    Ok(Raw::read(stream)?.map(posted))
}
