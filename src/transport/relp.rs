//! Delivers over RELP, rsyslog's protocol with acknowledgements: a record is delivered when the
//! server has said so. [`session`] has the protocol; here it meets a connection, with a task that
//! reads what the server says while records are sent.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::conn::{Conn, Sent};
use super::queue::Queue;
use crate::io::stream::Closer;
use session::Session;

pub mod session;

/// How long a server may take to accept a session.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it may leave all records that wait for an answer without one; as rsyslog's own client.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);
/// How long it may take to say goodbye.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How often it is looked whether the end of the program cuts that short.
const CLOSE_STEP: Duration = Duration::from_millis(5);

/// An open session.
pub(super) struct Line {
    shared: Rc<Shared>,
    /// Frames on their way to be sent; kept for the next ones.
    frames: Cell<Vec<u8>>,
}

/// What the task that reads has to do with the one that sends.
struct Shared {
    conn: Conn,
    session: RefCell<Session>,
    /// Why nothing more will come.
    failure: RefCell<Option<io::Error>>,
    bell: Notify,
}

impl Line {
    /// Opens a session over `conn`.
    pub(super) async fn open(conn: Conn) -> io::Result<Line> {
        let mut first = Vec::new();
        let session = RefCell::new(Session::open(&mut first));
        let (failure, bell) = (RefCell::default(), Notify::new());
        let shared = Rc::new(Shared { conn, session, failure, bell });
        tokio::task::spawn_local(read(Rc::clone(&shared)));
        let line = Line { shared, frames: Cell::new(first) };
        line.flush().await?;
        let open = timeout(OPEN_TIMEOUT, line.until(Session::is_open));
        open.await.unwrap_or_else(|_| Err(no_answer("to the RELP command open", OPEN_TIMEOUT)))?;
        Ok(line)
    }

    /// Something that ends the connection.
    pub(super) fn closer(&self) -> Closer {
        self.shared.conn.closer()
    }

    /// Delivers `queue` until the session fails (`Err`) or the queue is done.
    pub(super) async fn serve(&self, queue: &Queue) -> io::Result<()> {
        let result = self.run(queue).await;
        queue.acknowledged_records(self.shared.session.borrow_mut().take_acknowledged());
        result
    }

    async fn run(&self, queue: &Queue) -> io::Result<()> {
        let mut heard = Instant::now();
        while !queue.is_done() {
            self.check()?;
            let acknowledged = self.shared.session.borrow_mut().take_acknowledged();
            if acknowledged > 0 || !self.shared.session.borrow().is_waiting() {
                heard = Instant::now();
            }
            queue.acknowledged_records(acknowledged);
            if self.fill(queue) {
                // A server that does not even read gives no answer either.
                let sent = timeout(ANSWER_TIMEOUT, self.flush()).await;
                sent.unwrap_or_else(|_| Err(no_answer("to a record", ANSWER_TIMEOUT)))?;
            } else if !queue.is_done() {
                self.rest(queue, heard + ANSWER_TIMEOUT).await?;
            }
        }
        Ok(())
    }

    /// Makes frames of records, as many as may be sent; says whether there are any.
    fn fill(&self, queue: &Queue) -> bool {
        let mut session = self.shared.session.borrow_mut();
        if !session.has_room() {
            return false;
        }
        let mut frames = self.frames.take();
        queue.send_records(|record| {
            session.send(record, &mut frames);
            session.has_room()
        });
        let any = !frames.is_empty();
        self.frames.set(frames);
        any
    }

    /// Sends the frames that were made.
    async fn flush(&self) -> io::Result<()> {
        let Sent { mut bytes, result, .. } = self.shared.conn.send(self.frames.take(), 0).await;
        bytes.clear();
        self.frames.set(bytes);
        // What the server said before it closed tells more than that we cannot write.
        result.or_else(|error| self.check().and(Err(error)))
    }

    /// Waits for answers, until `deadline` if any are due, and for records if they may be sent.
    async fn rest(&self, queue: &Queue, deadline: Instant) -> io::Result<()> {
        let (room, waiting) = {
            let session = self.shared.session.borrow();
            (session.has_room(), session.is_waiting())
        };
        let more = room && queue.may_send() && !queue.is_last();
        tokio::select! {
            biased;
            () = self.shared.bell.notified() => Ok(()),
            () = queue.wait(), if more => Ok(()),
            () = sleep_until(deadline), if waiting => {
                Err(no_answer("to a record", ANSWER_TIMEOUT))
            }
        }
    }

    /// Waits until the session is as `state` says.
    async fn until(&self, state: impl Fn(&Session) -> bool) -> io::Result<()> {
        while !state(&self.shared.session.borrow()) {
            self.check()?;
            self.shared.bell.notified().await;
        }
        Ok(())
    }

    fn check(&self) -> io::Result<()> {
        self.shared.failure.take().map_or(Ok(()), Err)
    }

    /// Ends the session in order, unless the queue is given up.
    pub(super) async fn close(self, queue: &Queue) {
        if !queue.is_given_up() {
            let mut last = Vec::new();
            self.shared.session.borrow_mut().close(&mut last);
            self.frames.set(last);
            // All records are acknowledged: how a server says goodbye changes nothing.
            let _ = unless_given_up(queue, self.say_goodbye()).await;
        }
        self.shared.conn.close().await;
    }

    async fn say_goodbye(&self) -> io::Result<()> {
        self.flush().await?;
        self.until(Session::is_closed).await
    }
}

/// Ends what the reading task waits for, and that task with it.
impl Drop for Line {
    fn drop(&mut self) {
        self.closer().close();
    }
}

/// Takes what the server says, to the end of the connection.
async fn read(shared: Rc<Shared>) {
    let failure = loop {
        match shared.conn.read_beside_sends().await {
            Ok(bytes) if bytes.is_empty() => {
                let text = "the server closed the connection";
                break io::Error::new(io::ErrorKind::ConnectionAborted, text);
            }
            Ok(bytes) => {
                let received = shared.session.borrow_mut().receive(&bytes);
                if let Err(failure) = received {
                    break io::Error::other(failure);
                }
            }
            Err(error) => break error,
        }
        shared.bell.notify_one();
    };
    shared.failure.replace(Some(failure));
    shared.bell.notify_one();
}

fn no_answer(to: &str, limit: Duration) -> io::Error {
    let text = format!("no answer {to} within {} s", limit.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, text)
}

/// Waits for `goodbye` for so long as there is time for one.
async fn unless_given_up(
    queue: &Queue,
    goodbye: impl Future<Output = io::Result<()>>,
) -> io::Result<()> {
    let given_up = async {
        while !queue.is_given_up() {
            sleep(CLOSE_STEP).await;
        }
        Ok(())
    };
    let first = async {
        tokio::select! {
            biased;
            result = goodbye => result,
            result = given_up => result,
        }
    };
    timeout(CLOSE_TIMEOUT, first).await.unwrap_or(Ok(()))
}
