//! Delivers to receivers that answer: a record is delivered when the receiver has said so. What is
//! said is a [`Dialogue`], pure; here it meets a connection, with a task that reads what the server
//! says while records are sent.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::conn::{Conn, Sent};
use super::dialogue::Dialogue;
use super::queue::Queue;
use super::stream::{HASTE, LEISURE, SETTLE_STEP};
use crate::io::stream::Closer;

/// How long a server may take to accept a session.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it may take to say goodbye.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How often it is looked whether the end of the program cuts that short.
const CLOSE_STEP: Duration = Duration::from_millis(5);

/// An open session.
pub(super) struct Line<D> {
    shared: Rc<Shared<D>>,
    /// Bytes on their way to be sent; kept for the next ones.
    bytes: Cell<Vec<u8>>,
    /// How many our kernel has taken.
    taken: Cell<u64>,
    /// How long it was waited the last time for some to arrive, in vain.
    waited: Cell<Duration>,
}

/// What the task that reads has to do with the one that sends.
struct Shared<D> {
    conn: Conn,
    session: RefCell<D>,
    /// Why nothing more will come.
    failure: RefCell<Option<io::Error>>,
    bell: Notify,
}

impl<D: Dialogue + 'static> Line<D> {
    /// Opens `session` over `conn`, beginning with the bytes `first`.
    pub(super) async fn open(conn: Conn, session: D, first: Vec<u8>) -> io::Result<Line<D>> {
        let session = RefCell::new(session);
        let (failure, bell) = (RefCell::default(), Notify::new());
        let shared = Rc::new(Shared { conn, session, failure, bell });
        tokio::task::spawn_local(read(Rc::clone(&shared)));
        let bytes = Cell::new(first);
        let line = Line { shared, bytes, taken: Cell::default(), waited: Cell::default() };
        let open = timeout(OPEN_TIMEOUT, line.until(D::is_open)).await;
        open.unwrap_or_else(|_| Err(line.silence(OPEN_TIMEOUT)))?;
        Ok(line)
    }

    /// Something that ends the connection.
    pub(super) fn closer(&self) -> Closer {
        self.shared.conn.closer()
    }

    /// Delivers `queue` until the session fails (`Err`) or the queue is done.
    pub(super) async fn serve(&self, queue: &Queue) -> io::Result<()> {
        let result = self.run(queue).await;
        self.look(queue);
        queue.acknowledged_records(self.shared.session.borrow_mut().take_acknowledged());
        result
    }

    async fn run(&self, queue: &Queue) -> io::Result<()> {
        let patience = self.shared.session.borrow().patience();
        let mut heard = Instant::now();
        while !queue.is_done() {
            self.check()?;
            self.look(queue);
            let acknowledged = self.shared.session.borrow_mut().take_acknowledged();
            if acknowledged > 0 || !self.shared.session.borrow().is_waiting() {
                heard = Instant::now();
                self.waited.take();
            }
            queue.acknowledged_records(acknowledged);
            if self.fill(queue) {
                self.pack().await;
                match patience {
                    None => self.flush().await?,
                    // A server that does not even read gives no answer either.
                    Some(limit) => {
                        let sent = timeout(limit, self.flush()).await;
                        sent.unwrap_or_else(|_| Err(self.silence(limit)))?;
                    }
                }
            } else if !queue.is_done() {
                self.rest(queue, heard, patience).await?;
            }
        }
        Ok(())
    }

    /// Takes records, as many as may be sent; says whether there are any.
    fn fill(&self, queue: &Queue) -> bool {
        let mut session = self.shared.session.borrow_mut();
        if !session.has_room() {
            return false;
        }
        let (mut bytes, mut any) = (self.bytes.take(), false);
        queue.send_records(|record| {
            session.send(record, &mut bytes);
            any = true;
            session.has_room()
        });
        self.bytes.set(bytes);
        any
    }

    /// Makes messages of what was taken, giving way to the others of the thread in between. That is
    /// bounded by what [`Line::fill`] takes.
    async fn pack(&self) {
        loop {
            let mut bytes = self.bytes.take();
            let more = self.shared.session.borrow_mut().pack(&mut bytes);
            self.bytes.set(bytes);
            if !more {
                return;
            }
            yield_now().await;
        }
    }

    /// Sends the bytes that were made.
    async fn flush(&self) -> io::Result<()> {
        let Sent { mut bytes, taken, result } = self.shared.conn.send(self.bytes.take(), 0).await;
        self.taken.set(self.taken.get() + taken as u64);
        bytes.clear();
        self.bytes.set(bytes);
        // What the server said before it closed tells more than that we cannot write.
        result.or_else(|error| self.check().and(Err(error)))
    }

    /// Looks what has arrived, of a session in which that is all there is to know.
    fn look(&self, queue: &Queue) {
        let mut session = self.shared.session.borrow_mut();
        if session.patience().is_none() && session.is_waiting() {
            let resends = queue.resends();
            session.arrived(if resends {
                self.shared.conn.acknowledged()
            } else {
                self.taken.get()
            });
            self.shared.conn.arrived();
        }
    }

    /// Waits for answers, `patience` long if any are due, and for records if they may be sent.
    async fn rest(
        &self,
        queue: &Queue,
        heard: Instant,
        patience: Option<Duration>,
    ) -> io::Result<()> {
        let (room, waiting) = {
            let session = self.shared.session.borrow();
            (session.has_room(), session.is_waiting())
        };
        let more = room && queue.may_send() && !queue.is_last();
        let deadline = match patience {
            Some(limit) => heard + limit,
            None => Instant::now() + self.pause(more, queue),
        };
        tokio::select! {
            biased;
            () = self.shared.bell.notified() => Ok(()),
            () = queue.wait(), if more => Ok(()),
            () = sleep_until(deadline), if waiting => {
                patience.map_or(Ok(()), |limit| Err(self.silence(limit)))
            }
        }
    }

    /// How long to wait before it is looked again what has arrived, as over plain TCP.
    fn pause(&self, more: bool, queue: &Queue) -> Duration {
        let (least, most) = if more { LEISURE } else { HASTE };
        let most = if queue.is_last() { SETTLE_STEP } else { most };
        let pause = (self.waited.get() * 2).clamp(least.min(most), most);
        self.waited.set(pause);
        pause
    }

    /// Replies to the server until the session is as `state` says.
    async fn until(&self, state: impl Fn(&D) -> bool) -> io::Result<()> {
        loop {
            let mut bytes = self.bytes.take();
            self.shared.session.borrow_mut().reply(&mut bytes);
            let any = !bytes.is_empty();
            self.bytes.set(bytes);
            if any {
                self.flush().await?;
            }
            if state(&self.shared.session.borrow()) {
                return Ok(());
            }
            self.check()?;
            self.shared.bell.notified().await;
        }
    }

    fn check(&self) -> io::Result<()> {
        self.shared.failure.take().map_or(Ok(()), Err)
    }

    fn silence(&self, limit: Duration) -> io::Error {
        let awaited = self.shared.session.borrow().awaited();
        let text = format!("no {awaited} within {} s", limit.as_secs_f32());
        io::Error::new(io::ErrorKind::TimedOut, text)
    }

    /// Ends the session in order, unless the queue is given up.
    pub(super) async fn close(self, queue: &Queue) {
        if !queue.is_given_up() {
            let mut last = Vec::new();
            self.shared.session.borrow_mut().close(&mut last);
            self.bytes.set(last);
            // All records are acknowledged: how a server says goodbye changes nothing.
            let _ = unless_given_up(queue, self.until(D::is_closed)).await;
        }
        self.shared.conn.close().await;
    }
}

/// Ends what the reading task waits for, and that task with it.
impl<D> Drop for Line<D> {
    fn drop(&mut self) {
        self.shared.conn.closer().close();
    }
}

/// Takes what the server says, to the end of the connection.
async fn read<D: Dialogue>(shared: Rc<Shared<D>>) {
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
