//! What stands at the end of the routes: a syslog receiver and a webhook as Slack has them, on
//! loopback. They show what they get.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use super::show::{Pane, Show, cards};
use crate::receivers::{Identity, http, tls};

/// Listens for syslog over tcp, a record a line.
pub(super) fn syslog(show: Show) -> io::Result<SocketAddr> {
    listen(move |socket| {
        for record in BufReader::new(socket).split(b'\n') {
            show.line(Pane::Syslog, &String::from_utf8_lossy(&record?));
        }
        Ok(())
    })
}

/// Listens for messages to a Slack webhook, over TLS.
pub(super) fn slack(identity: &Identity, show: Show) -> io::Result<SocketAddr> {
    let config = identity.server();
    listen(move |socket| {
        let mut stream = tls::accept(socket, &config)?;
        let (mut held, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
        loop {
            let count = stream.read(&mut buffer)?;
            if count == 0 || held.len() > http::REQUEST_MAX {
                return Ok(());
            }
            held.extend_from_slice(&buffer[..count]);
            while let Some(length) = http::request(&held) {
                let request: Vec<u8> = held.drain(..length).collect();
                let body = memchr::memmem::find(&request, b"\r\n\r\n").map_or(0, |at| at + 4);
                show.lines(Pane::Slack, &cards(&request[body..]));
                stream.write_all(http::ANSWER)?;
            }
        }
    })
}

/// Serves each connection by a thread of its own, until the program ends.
fn listen(
    serve: impl Fn(TcpStream) -> io::Result<()> + Clone + Send + 'static,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let serve = serve.clone();
            // A connection that breaks is said by logchute, which is at its other end.
            std::thread::spawn(move || drop(serve(socket)));
        }
    });
    Ok(address)
}
