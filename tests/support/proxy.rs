//! An HTTP proxy of our own on loopback: it finds every host on this machine, and keeps the heads of
//! the requests that it got.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

#[derive(Default)]
struct Shared {
    down: AtomicBool,
    heads: Mutex<Vec<String>>,
    sockets: Mutex<Vec<TcpStream>>,
    /// What `Proxy-Authorization` must hold, if anything.
    authorization: Option<String>,
}

/// A proxy.
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl Proxy {
    /// A proxy that lets in who has this in `Proxy-Authorization`, or everybody with `None`.
    pub(crate) fn new(authorization: Option<&str>) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let authorization = authorization.map(str::to_owned);
        let shared = Arc::new(Shared { authorization, ..Shared::default() });
        let serving = Arc::clone(&shared);
        let accepting = std::thread::spawn(move || {
            while !serving.down.load(Ordering::SeqCst) {
                match listener.accept() {
                    Ok((socket, _)) => {
                        let shared = Arc::clone(&serving);
                        // A client that goes away in the middle is no error of ours.
                        std::thread::spawn(move || drop(serve(&shared, socket)));
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        });
        Proxy { address, shared, accepting: Some(accepting) }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn place(&self) -> String {
        self.address.to_string()
    }

    /// The head of every request that it got, as sent.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.shared.heads.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.down.store(true, Ordering::SeqCst);
        for socket in self.shared.sockets.lock().unwrap().iter() {
            let _ = socket.shutdown(Shutdown::Both);
        }
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn serve(shared: &Shared, mut client: TcpStream) -> io::Result<()> {
    client.set_nonblocking(false)?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if client.read(&mut byte)? == 0 {
            return Ok(());
        }
        head.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    shared.heads.lock().unwrap().push(text.clone());
    let given = text.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("proxy-authorization").then(|| value.to_owned())
    });
    if shared.authorization.is_some() && given != shared.authorization {
        let no = "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n";
        return client.write_all(no.as_bytes());
    }
    let mut words = text.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let place = target.trim_start_matches("http://").split('/').next().unwrap_or_default();
    let port = place.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(80);
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    shared.sockets.lock().unwrap().extend([client.try_clone()?, server.try_clone()?]);
    match method {
        "CONNECT" => client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?,
        // The first request of this client goes on as it came.
        _ => server.write_all(&head)?,
    }
    let (mut from, mut to) = (server.try_clone()?, client.try_clone()?);
    std::thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    io::copy(&mut client, &mut server)?;
    server.shutdown(Shutdown::Write)
}
