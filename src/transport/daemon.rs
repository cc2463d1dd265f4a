//! Requests to the Docker daemon: one connection each, so that none waits for another.

use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::libc::{EMFILE, ENFILE};

use super::StreamTarget;
use super::conn::Conn;
use crate::docker::http1::{self, Body, BodyDecoder, Head};
use crate::docker::request::Api;
use crate::io::pool::Pool;
use crate::io::stream::Closer;
use crate::io::tick::Ticker;
use crate::io::{Driver, clock};

/// Longest answer that is kept whole: the list of some ten thousand containers.
const ANSWER_MAX: usize = 64 * 1024 * 1024;
/// How much is read at a time while the head of an answer is looked for.
const HEAD_READ: usize = 4 * 1024;
/// Longest text of a refusal that is read.
const REFUSAL_MAX: usize = 16 * 1024;
/// How long a question (ping, list, inspect) may take. An engine under load, or one that is busy
/// starting the container in question, needs seconds.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a full queue of the daemon's socket is waited for, and how often it is tried.
const QUEUE_PATIENCE: Duration = Duration::from_secs(5);
const QUEUE_PAUSE: Duration = Duration::from_millis(5);

/// How often it is said that no descriptors are left.
const DESCRIPTORS_SAID: Duration = Duration::from_secs(60);

/// Why the daemon gave no useful answer.
#[derive(Debug)]
pub enum DaemonError {
    /// It said no, in its own words.
    Refused {
        /// HTTP status.
        status: u16,
        /// Its message.
        message: String,
    },
    /// It could not be reached, or went away.
    Unreachable(io::Error),
    /// What came was not an answer.
    Nonsense(String),
}

impl fmt::Display for DaemonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DaemonError::Refused { status, message } => {
                write!(f, "the daemon refused ({status}): {message}")
            }
            DaemonError::Unreachable(error) => write!(f, "the daemon cannot be reached: {error}"),
            DaemonError::Nonsense(what) => write!(f, "not an answer of a Docker daemon: {what}"),
        }
    }
}

impl From<io::Error> for DaemonError {
    fn from(error: io::Error) -> DaemonError {
        DaemonError::Unreachable(error)
    }
}

impl DaemonError {
    /// The HTTP status of a refusal.
    pub fn status(&self) -> Option<u16> {
        match self {
            DaemonError::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// How a thread reaches the daemon.
#[derive(Clone)]
pub struct Daemon {
    /// How the thread waits for sockets.
    pub driver: Driver,
    /// Its read buffers.
    pub pool: Rc<Pool>,
    /// Where the daemon is.
    pub target: StreamTarget,
    /// Which version of its API is spoken.
    pub api: Arc<Api>,
}

/// A whole answer.
pub struct Answer {
    /// Its head.
    pub head: Head,
    /// Its body, unframed.
    pub body: Vec<u8>,
}

/// An answer whose body is read piece by piece.
pub struct Streaming {
    conn: Conn,
    decoder: BodyDecoder,
    /// The head of the answer.
    pub head: Head,
    /// What was read of the body together with the head.
    early: Vec<u8>,
    ended: bool,
}

impl Daemon {
    /// Asks, and reads the whole answer. `began` gets what ends the connection.
    ///
    /// # Errors
    /// See [`DaemonError`]; a status other than 200 is [`DaemonError::Refused`].
    pub async fn ask(
        &self,
        request: &[u8],
        began: impl FnOnce(Closer),
    ) -> Result<Answer, DaemonError> {
        let conn = self.connect().await?;
        began(conn.closer());
        let closer = conn.closer();
        let timer = tokio::task::spawn_local(async move {
            tokio::time::sleep(QUESTION_TIMEOUT).await;
            closer.close();
        });
        let answer = self.ask_over(conn, request).await;
        let timed_out = timer.is_finished();
        timer.abort();
        match answer {
            Err(DaemonError::Unreachable(_)) if timed_out => {
                let text = format!("no answer within {} s", QUESTION_TIMEOUT.as_secs());
                Err(io::Error::new(io::ErrorKind::TimedOut, text).into())
            }
            answer => answer,
        }
    }

    async fn ask_over(&self, conn: Conn, request: &[u8]) -> Result<Answer, DaemonError> {
        let mut streaming = open_over(conn, request).await?;
        let mut body = Vec::new();
        while streaming.next(&mut |piece| body.extend_from_slice(piece)).await? {
            if body.len() > ANSWER_MAX {
                let text = format!("an answer of more than {ANSWER_MAX} bytes");
                return Err(DaemonError::Nonsense(text));
            }
        }
        Ok(Answer { head: streaming.head, body })
    }

    /// Asks for a stream: returns when its head has arrived. `began` gets what ends the
    /// connection, before anything is waited for.
    ///
    /// # Errors
    /// See [`DaemonError`]; a status other than 101 and 200 is [`DaemonError::Refused`].
    pub async fn stream(
        &self,
        request: &[u8],
        began: impl FnOnce(Closer),
    ) -> Result<Streaming, DaemonError> {
        let conn = self.connect().await?;
        began(conn.closer());
        open_over(conn, request).await
    }

    /// Connects. When hundreds of containers are looked at at once, the queue of the daemon's
    /// socket may be full for a moment: EAGAIN, on a Unix socket.
    async fn connect(&self) -> io::Result<Conn> {
        let patient_until = clock::now() + QUEUE_PATIENCE;
        loop {
            match Conn::open(self.driver, &self.target, &self.pool).await {
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock
                        && clock::now() < patient_until =>
                {
                    tokio::time::sleep(QUEUE_PAUSE).await;
                }
                Err(error) if matches!(error.raw_os_error(), Some(EMFILE | ENFILE)) => {
                    say_no_descriptors(&error);
                    return Err(error);
                }
                result => return result,
            }
        }
    }
}

/// That the daemon is away is said by who watches it; that nobody can ask it is said here, once a
/// minute for all containers that wait for it.
fn say_no_descriptors(error: &io::Error) {
    static SAID: Mutex<Option<Instant>> = Mutex::new(None);
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if said.is_none_or(|at| clock::now() >= at + DESCRIPTORS_SAID) {
        *said = Some(clock::now());
        tracing::warn!(
            "{error}: containers wait until they can be followed; each takes a descriptor: raise \
             the limit of open files (ulimit -n, or docker run --ulimit nofile=65536)"
        );
    }
}

async fn open_over(conn: Conn, request: &[u8]) -> Result<Streaming, DaemonError> {
    conn.send(request.to_vec(), 0).await.result?;
    let (head, early) = read_head(&conn).await?;
    let decoder = BodyDecoder::new(head.body);
    let ended = matches!(head.body, Body::None | Body::Length(0));
    let mut streaming = Streaming { conn, decoder, head, early, ended };
    if matches!(streaming.head.status, 101 | 200) {
        return Ok(streaming);
    }
    let mut text = Vec::new();
    let status = streaming.head.status;
    while text.len() < REFUSAL_MAX {
        // What was read of the refusal is enough, however it ends.
        match streaming.next(&mut |piece| text.extend_from_slice(piece)).await {
            Ok(true) => {}
            Ok(false) | Err(_) => break,
        }
    }
    Err(DaemonError::Refused { status, message: http1::error_message(status, &text) })
}

/// Reads the head; returns it with what came after it, which is little: a read buffer for each of
/// hundreds of streams that begin at once would be most of what the program needs.
async fn read_head(conn: &Conn) -> Result<(Head, Vec<u8>), DaemonError> {
    let mut lease = conn.read_some(HEAD_READ).await?;
    loop {
        match http1::parse_head(&lease) {
            Ok(Some((head, length))) => return Ok((head, lease[length..].to_vec())),
            Ok(None) => {}
            Err(error) => return Err(DaemonError::Nonsense(error.to_string())),
        }
        let more = conn.read_some(HEAD_READ).await?;
        if more.is_empty() {
            let text = "the connection ended before an answer came";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text).into());
        }
        if lease.put(&more) < more.len() {
            return Err(DaemonError::Nonsense("a head without end".into()));
        }
    }
}

impl Streaming {
    /// Waits for bytes and hands the body's share of them to `each`; `false` at its end. Must be
    /// awaited to its end; [`Streaming::closer`] ends it early.
    pub async fn next(&mut self, each: &mut impl FnMut(&[u8])) -> Result<bool, DaemonError> {
        if self.ended {
            return Ok(false);
        }
        let early = std::mem::take(&mut self.early);
        let lease;
        let bytes: &[u8] = if early.is_empty() {
            lease = self.conn.read().await?;
            &lease
        } else {
            &early
        };
        if bytes.is_empty() {
            self.ended = true;
            self.decoder.finish().map_err(|e| {
                DaemonError::Unreachable(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    e.to_string(),
                ))
            })?;
            return Ok(false);
        }
        let mut rest = bytes;
        while !rest.is_empty() && !self.ended {
            let decoded = self
                .decoder
                .decode(rest)
                .map_err(|error| DaemonError::Nonsense(error.to_string()))?;
            if !decoded.piece.is_empty() {
                each(decoded.piece);
            }
            rest = &rest[decoded.consumed..];
            self.ended = decoded.done;
        }
        Ok(!self.ended)
    }

    /// See [`Stream::pause`](crate::io::stream::Stream::pause).
    pub async fn pause(&self, ticker: &Ticker, length: Duration) {
        self.conn.pause(ticker, length).await;
    }

    /// Lets other tasks run.
    pub async fn breathe(&self) {
        self.conn.breathe().await;
    }

    /// Something that ends the stream from elsewhere on the same thread.
    pub fn closer(&self) -> Closer {
        self.conn.closer()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use socket2::{Domain, SockAddr, Socket, Type};

    use super::*;

    /// The queue of the socket is full when the question comes; later it is emptied.
    #[test]
    fn a_full_queue_of_the_daemons_socket_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker.sock");
        let address = SockAddr::unix(&path).unwrap();
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&address).unwrap();
        listener.listen(1).unwrap();
        let mut waiting = Vec::new();
        let full = loop {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            match socket.connect(&address) {
                Ok(()) => waiting.push(socket),
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        let others = waiting.len();
        let engine = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            for _ in 0..others {
                listener.accept().unwrap();
            }
            let (mut asker, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            assert!(asker.read(&mut request).unwrap() > 0);
            asker.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK").unwrap();
        });
        let endpoint = crate::docker::endpoint::Endpoint::Unix(path.clone());
        let daemon = Daemon {
            driver: Driver::Poll,
            pool: Pool::new(),
            target: StreamTarget::Unix(path),
            api: Arc::new(Api::new(&endpoint, None)),
        };
        let ask = async { daemon.ask(&daemon.api.ping(), |_| ()).await };
        let answer = crate::io::block_on(Driver::Poll, ask).unwrap();
        assert_eq!(answer.unwrap().body, b"OK");
        engine.join().unwrap();
    }
}
