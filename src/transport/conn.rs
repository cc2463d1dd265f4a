//! A byte stream to a peer, with or without TLS: receivers and remote daemons alike.
//!
//! TLS is rustls without its I/O: ciphertext goes through the same [`Stream`] as plain text, so
//! both drivers carry it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection};

use super::{HostPort, StreamTarget, resolve, tls};
use crate::io::Driver;
use crate::io::pool::{Lease, Pool};
use crate::io::stream::{Closer, Incoming, Stream};

/// Plain text per TLS record (RFC 8446, section 5.1): the unit in which progress is known.
const TLS_RECORD: usize = 16 * 1024;
/// A handshake takes at most this long.
const HANDSHAKE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// A connection.
pub struct Conn {
    stream: Stream,
    pool: Rc<Pool>,
    tls: Option<Tls>,
}

/// What rustls knows of a connection. Its cells are never borrowed across an await.
struct Tls {
    session: RefCell<ClientConnection>,
    /// Ciphertext that was read and not yet decrypted, from this offset on: rustls decrypts no
    /// more than a little ahead of its reader.
    cipher: RefCell<Option<(Lease, usize)>>,
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
                Ok(Conn { stream, pool: Rc::clone(pool), tls: None })
            }
            StreamTarget::Tcp(host) => {
                let stream = connect(driver, host).await?;
                Ok(Conn { stream, pool: Rc::clone(pool), tls: None })
            }
            StreamTarget::Tls(host, config) => {
                let stream = connect(driver, host).await?;
                let conn = Conn::secure(stream, &host.host, config, pool)?;
                conn.shake_hands().await?;
                Ok(conn)
            }
        }
    }

    fn secure(
        stream: Stream,
        host: &str,
        config: &Arc<ClientConfig>,
        pool: &Rc<Pool>,
    ) -> io::Result<Conn> {
        let name = tls::server_name(host).map_err(io::Error::other)?;
        let session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        let tls = Tls { session: RefCell::new(session), cipher: RefCell::default() };
        Ok(Conn { stream, pool: Rc::clone(pool), tls: Some(tls) })
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
        let mut from = 0;
        while from < cipher.len() {
            let (result, bytes) = self.stream.write(cipher, from).await;
            cipher = bytes;
            from += wrote(result)?;
        }
        Ok(())
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
        let Some(tls) = &self.tls else { return self.stream.read(&self.pool).await };
        loop {
            let mut plain = self.pool.lease();
            tls.decrypt(&mut plain)?;
            self.flush_tls(tls).await?;
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
            None => self.send_plain(bytes, from).await,
            Some(tls) => self.send_secure(tls, bytes, from).await,
        }
    }

    async fn send_plain(&self, mut bytes: Vec<u8>, from: usize) -> Sent {
        let mut taken = 0;
        while from + taken < bytes.len() {
            let (result, lent) = self.stream.write(bytes, from + taken).await;
            bytes = lent;
            match wrote(result) {
                Ok(n) => taken += n,
                Err(error) => return Sent { bytes, taken, result: Err(error) },
            }
        }
        Sent { bytes, taken, result: Ok(()) }
    }

    /// Encrypts all, then writes; `marks` says which plain text is out when how much of the
    /// ciphertext is.
    async fn send_secure(&self, tls: &Tls, bytes: Vec<u8>, from: usize) -> Sent {
        let encrypted = encrypt(&mut tls.session.borrow_mut(), &bytes[from..]);
        let (mut cipher, mut marks) = match encrypted {
            Ok(encrypted) => encrypted,
            Err(error) => return Sent { bytes, taken: 0, result: Err(error) },
        };
        let (mut written, mut taken) = (0, 0);
        while written < cipher.len() {
            let (result, lent) = self.stream.write(cipher, written).await;
            cipher = lent;
            match wrote(result) {
                Ok(n) => written += n,
                Err(error) => return Sent { bytes, taken, result: Err(error) },
            }
            while marks.front().is_some_and(|&(end, _)| end <= written) {
                taken = marks.pop_front().map_or(taken, |(_, plain)| plain);
            }
        }
        Sent { bytes, taken, result: Ok(()) }
    }

    /// Says goodbye in TLS' own words; plain streams have none.
    pub async fn close(self) {
        if let Some(tls) = &self.tls {
            tls.session.borrow_mut().send_close_notify();
            // The records are out; a peer that is gone already needs no goodbye.
            let _ = self.flush_tls(tls).await;
        }
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

/// Ciphertext of `plain`, and marks `(end in ciphertext, end in plain)` per TLS record.
type Encrypted = (Vec<u8>, VecDeque<(usize, usize)>);

fn encrypt(tls: &mut ClientConnection, plain: &[u8]) -> io::Result<Encrypted> {
    let mut cipher = Vec::with_capacity(plain.len() + plain.len() / 128 + 1024);
    let mut marks = VecDeque::new();
    let mut done = 0;
    for record in plain.chunks(TLS_RECORD) {
        tls.writer().write_all(record)?;
        while tls.wants_write() {
            tls.write_tls(&mut cipher)?;
        }
        done += record.len();
        marks.push_back((cipher.len(), done));
    }
    Ok((cipher, marks))
}
