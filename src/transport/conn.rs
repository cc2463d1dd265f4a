//! A byte stream to a peer, with or without TLS: receivers and remote daemons alike.
//!
//! TLS is rustls without its I/O: ciphertext goes through the same [`Stream`] as plain text, so
//! both drivers carry it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection};

use super::{HostPort, StreamTarget, resolve, tls};
use crate::io::Driver;
use crate::io::pool::{Lease, Pool, READ_MAX};
use crate::io::stream::{Closer, Incoming, Stream};
use crate::io::tick::Ticker;

/// Plain text per TLS record (RFC 8446, section 5.1): the unit in which progress is known.
const TLS_RECORD: usize = 16 * 1024;
/// A handshake takes at most this long.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection.
pub struct Conn {
    stream: Stream,
    pool: Rc<Pool>,
    /// Boxed: most connections have none, and there is one for each container.
    tls: Option<Box<Tls>>,
    /// Bytes written in all; over TLS, ciphertext.
    written: Cell<u64>,
}

/// What rustls knows of a connection. Its cells are never borrowed across an await.
struct Tls {
    session: RefCell<ClientConnection>,
    /// Ciphertext that was read and not yet decrypted, from this offset on: rustls decrypts no
    /// more than a little ahead of its reader.
    cipher: RefCell<Option<(Lease, usize)>>,
    /// How much plain text was given to be sent when how much ciphertext was, for each TLS record
    /// that is not known to be acknowledged.
    marks: RefCell<VecDeque<Mark>>,
    /// Plain text that was given to be sent.
    plain: Cell<u64>,
    /// How much of it is acknowledged.
    acknowledged: Cell<u64>,
}

/// Where a TLS record ends, counted from the beginning of the connection.
#[derive(Clone, Copy)]
struct Mark {
    cipher: u64,
    plain: u64,
}

/// How far a write came.
pub struct Sent {
    /// The bytes that were lent.
    pub bytes: Vec<u8>,
    /// How many of them, from the given offset on, the kernel has taken for certain.
    pub taken: usize,
    /// Why not all.
    pub result: io::Result<()>,
}

impl Conn {
    /// Connects to `target`: resolves its name anew, tries each address, shakes hands.
    pub async fn open(driver: Driver, target: &StreamTarget, pool: &Rc<Pool>) -> io::Result<Conn> {
        match target {
            StreamTarget::Unix(path) => {
                let stream = Stream::connect_unix(driver, path).await?;
                Ok(Conn::new(stream, pool, None))
            }
            StreamTarget::Tcp(host) => {
                let stream = connect(driver, host).await?;
                Ok(Conn::new(stream, pool, None))
            }
            StreamTarget::Tls(host, config) => {
                let stream = connect(driver, host).await?;
                let conn = Conn::secure(stream, &host.host, config, pool)?;
                conn.shake_hands().await?;
                Ok(conn)
            }
        }
    }

    fn new(stream: Stream, pool: &Rc<Pool>, tls: Option<Box<Tls>>) -> Conn {
        Conn { stream, pool: Rc::clone(pool), tls, written: Cell::new(0) }
    }

    fn secure(
        stream: Stream,
        host: &str,
        config: &Arc<ClientConfig>,
        pool: &Rc<Pool>,
    ) -> io::Result<Conn> {
        let name = tls::server_name(host).map_err(io::Error::other)?;
        let session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        let tls = Tls {
            session: RefCell::new(session),
            cipher: RefCell::default(),
            marks: RefCell::default(),
            plain: Cell::default(),
            acknowledged: Cell::default(),
        };
        Ok(Conn::new(stream, pool, Some(Box::new(tls))))
    }

    /// The timer ends the handshake by shutting the socket down, never by dropping a read.
    async fn shake_hands(&self) -> io::Result<()> {
        let closer = self.closer();
        let timer = tokio::task::spawn_local(async move {
            tokio::time::sleep(HANDSHAKE_TIMEOUT).await;
            closer.close();
        });
        let result = self.handshake().await;
        let timed_out = timer.is_finished();
        timer.abort();
        match result {
            Err(_) if timed_out => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no TLS handshake within {} s", HANDSHAKE_TIMEOUT.as_secs()),
            )),
            result => result,
        }
    }

    async fn handshake(&self) -> io::Result<()> {
        let Some(tls) = &self.tls else { return Ok(()) };
        loop {
            self.flush_tls(tls).await?;
            if !tls.session.borrow().is_handshaking() {
                return Ok(());
            }
            if !self.read_cipher(tls).await? {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the peer closed the connection during the TLS handshake",
                ));
            }
            let understood = tls.shake();
            if understood.is_err() {
                // The alert tells the peer why; that it may not arrive changes nothing.
                let _ = self.flush_tls(tls).await;
            }
            understood?;
        }
    }

    /// Writes what rustls has to say.
    async fn flush_tls(&self, tls: &Tls) -> io::Result<()> {
        let mut cipher = Vec::new();
        while tls.session.borrow().wants_write() {
            tls.session.borrow_mut().write_tls(&mut cipher)?;
        }
        self.write(cipher, 0).await.result
    }

    /// Waits for ciphertext; `false` at the end of the stream.
    async fn read_cipher(&self, tls: &Tls) -> io::Result<bool> {
        let bytes = self.stream.read(&self.pool).await?;
        let more = !bytes.is_empty();
        tls.cipher.replace(Some((bytes, 0)));
        Ok(more)
    }

    /// Waits for bytes; empty at the end of the stream. Must be awaited to its end.
    pub async fn read(&self) -> io::Result<Lease> {
        self.read_some(READ_MAX).await
    }

    /// As [`Conn::read`], and takes no more than `most` bytes (at least 1 KiB) off a connection
    /// without TLS.
    pub async fn read_some(&self, most: usize) -> io::Result<Lease> {
        let Some(tls) = &self.tls else { return self.stream.read_some(&self.pool, most).await };
        loop {
            let mut plain = self.pool.lease();
            tls.decrypt(&mut plain)?;
            self.flush_tls(tls).await?;
            if !plain.is_empty() || !self.read_cipher(tls).await? {
                return Ok(plain);
            }
        }
    }

    /// As [`Conn::read`], for a connection that another task sends over meanwhile: what TLS has to
    /// say goes out with what is sent next, as two writes at a time would mix.
    pub async fn read_beside_sends(&self) -> io::Result<Lease> {
        let Some(tls) = &self.tls else { return self.stream.read(&self.pool).await };
        loop {
            let mut plain = self.pool.lease();
            tls.decrypt(&mut plain)?;
            if !plain.is_empty() || !self.read_cipher(tls).await? {
                return Ok(plain);
            }
        }
    }

    /// Looks, without waiting, whether the peer is still there; what it sent is let go of.
    ///
    /// # Errors
    /// `ConnectionAborted` where the peer has closed; its alert where it refused us.
    pub fn check_peer(&self) -> io::Result<()> {
        loop {
            match self.stream.incoming(&self.pool)? {
                Incoming::Nothing => return Ok(()),
                Incoming::End => {
                    return Err(io::Error::new(
                        io::ErrorKind::ConnectionAborted,
                        "the peer closed the connection",
                    ));
                }
                Incoming::Bytes(bytes) => self.ignore(bytes)?,
            }
        }
    }

    /// TLS must see what arrives (tickets, alerts); its plain text is of no interest.
    fn ignore(&self, bytes: Lease) -> io::Result<()> {
        let Some(tls) = &self.tls else { return Ok(()) };
        tls.cipher.replace(Some((bytes, 0)));
        while tls.cipher.borrow().is_some() {
            tls.decrypt(&mut self.pool.lease())?;
        }
        Ok(())
    }

    /// Sends `bytes[from..]`, waiting as long as the peer makes it wait.
    pub async fn send(&self, bytes: Vec<u8>, from: usize) -> Sent {
        match &self.tls {
            None => self.write(bytes, from).await,
            Some(tls) => self.send_secure(tls, bytes, from).await,
        }
    }

    /// Writes `bytes[from..]` as they are.
    async fn write(&self, mut bytes: Vec<u8>, from: usize) -> Sent {
        let mut taken = 0;
        while from + taken < bytes.len() {
            let (result, lent) = self.stream.write(bytes, from + taken).await;
            bytes = lent;
            match wrote(result) {
                Ok(n) => {
                    taken += n;
                    self.written.set(self.written.get() + n as u64);
                    self.pool.sent();
                }
                Err(error) => return Sent { bytes, taken, result: Err(error) },
            }
        }
        Sent { bytes, taken, result: Ok(()) }
    }

    /// Encrypts all, then writes.
    async fn send_secure(&self, tls: &Tls, bytes: Vec<u8>, from: usize) -> Sent {
        // Nobody may ask, and the marks of what is acknowledged are of no use.
        self.acknowledged();
        let cipher = match tls.encrypt(&bytes[from..], self.written.get()) {
            Ok(cipher) => cipher,
            Err(error) => return Sent { bytes, taken: 0, result: Err(error) },
        };
        let before = tls.plain.get() - (bytes.len() - from) as u64;
        let result = self.write(cipher, 0).await.result;
        let taken = tls.plain_until(self.written.get()).saturating_sub(before) as usize;
        Sent { bytes, taken, result }
    }

    /// How many of the bytes that were sent the peer's host has acknowledged, all together. They
    /// are in its kernel; that the peer reads them is not said.
    pub fn acknowledged(&self) -> u64 {
        let waiting = self.stream.unacknowledged() as u64;
        let arrived = self.written.get().saturating_sub(waiting);
        self.tls.as_ref().map_or(arrived, |tls| tls.acknowledge(arrived))
    }

    /// Takes note that something of what was sent has arrived.
    pub fn arrived(&self) {
        self.pool.sent();
    }

    /// Says goodbye in TLS' own words; plain streams have none.
    pub async fn close(&self) {
        if let Some(tls) = &self.tls {
            tls.session.borrow_mut().send_close_notify();
            // The records are out; a peer that is gone already needs no goodbye.
            let _ = self.flush_tls(tls).await;
        }
    }

    /// See [`Stream::pause`].
    pub async fn pause(&self, ticker: &Ticker, length: Duration) {
        self.stream.pause(ticker, length).await;
    }

    /// See [`Stream::breathe`].
    pub async fn breathe(&self) {
        self.stream.breathe().await;
    }

    /// Something that can end this connection from elsewhere on the same thread.
    pub fn closer(&self) -> Closer {
        self.stream.closer()
    }
}

async fn connect(driver: Driver, host: &HostPort) -> io::Result<Stream> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in resolve::resolve(host).await? {
        match Stream::connect_tcp(driver, address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// A stream that takes nothing is over.
fn wrote(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        result => result,
    }
}

impl Tls {
    /// Ciphertext of `plain`, whose first byte is to be written when `written` are.
    fn encrypt(&self, plain: &[u8], written: u64) -> io::Result<Vec<u8>> {
        let mut session = self.session.borrow_mut();
        let mut cipher = Vec::with_capacity(plain.len() + plain.len() / 128 + 1024);
        for record in plain.chunks(TLS_RECORD) {
            session.writer().write_all(record)?;
            while session.wants_write() {
                session.write_tls(&mut cipher)?;
            }
            self.plain.set(self.plain.get() + record.len() as u64);
            let mark = Mark { cipher: written + cipher.len() as u64, plain: self.plain.get() };
            self.marks.borrow_mut().push_back(mark);
        }
        Ok(cipher)
    }

    /// Takes note that so much ciphertext has arrived; returns how much plain text that is.
    fn acknowledge(&self, cipher: u64) -> u64 {
        let mut marks = self.marks.borrow_mut();
        while let Some(mark) = marks.front().filter(|mark| mark.cipher <= cipher) {
            self.acknowledged.set(mark.plain);
            marks.pop_front();
        }
        self.acknowledged.get()
    }

    /// How much plain text is in so much ciphertext.
    fn plain_until(&self, cipher: u64) -> u64 {
        let marks = self.marks.borrow();
        let within = marks.partition_point(|mark| mark.cipher <= cipher);
        within.checked_sub(1).map_or(self.acknowledged.get(), |last| marks[last].plain)
    }

    /// Hands the ciphertext at hand to rustls as long as the handshake goes on; what follows is
    /// for [`Conn::read`].
    fn shake(&self) -> io::Result<()> {
        let (mut session, mut cipher) = (self.session.borrow_mut(), self.cipher.borrow_mut());
        while let Some((bytes, from)) = cipher.as_mut().filter(|_| session.is_handshaking()) {
            let mut rest = &bytes[*from..];
            if rest.is_empty() {
                *cipher = None;
                break;
            }
            *from += session.read_tls(&mut rest)?;
            session.process_new_packets().map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Decrypts into `plain` until it is full or the ciphertext at hand is used up.
    ///
    /// # Errors
    /// rustls' own within an [`io::Error`]: see [`tls::explain_io`].
    fn decrypt(&self, plain: &mut Lease) -> io::Result<()> {
        let (mut session, mut cipher) = (self.session.borrow_mut(), self.cipher.borrow_mut());
        loop {
            while !plain.is_full() {
                match session.reader().read(plain.space()) {
                    Ok(0) => break,
                    Ok(n) => plain.fill(n),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
            let Some((bytes, from)) = cipher.as_mut().filter(|_| !plain.is_full()) else {
                return Ok(());
            };
            let mut rest = &bytes[*from..];
            if rest.is_empty() {
                *cipher = None;
                continue;
            }
            *from += session.read_tls(&mut rest)?;
            session.process_new_packets().map_err(io::Error::other)?;
        }
    }
}
