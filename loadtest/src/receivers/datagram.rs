//! A receiver of datagrams, many with each system call.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg, setsockopt, sockopt};

use super::Inbox;
use super::check::Scanner;

/// Datagrams that one call takes at most, and the longest of them.
const MANY: usize = 64;
const LONGEST: usize = 64 * 1024;
/// What the kernel holds for us: a pause of the scheduler must not cost a datagram.
const HELD: usize = 64 * 1024 * 1024;
/// How long to wait after a call that brought fewer. On loopback the sender pays for waking the
/// receiver, which no sender does to a receiver on another host.
const NAP: Duration = Duration::from_micros(500);
/// How often it is looked at whether the run is over.
const TICK: Duration = Duration::from_millis(100);

/// Takes datagrams until the inbox closes.
pub(super) fn listen(inbox: &Arc<Inbox>) -> io::Result<SocketAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_read_timeout(Some(TICK))?;
    // Beyond the system's limit for root alone; others get as much as there is.
    if setsockopt(&socket, sockopt::RcvBufForce, &HELD).is_err() {
        setsockopt(&socket, sockopt::RcvBuf, &HELD)?;
    }
    let address = socket.local_addr()?;
    let inbox = Arc::clone(inbox);
    std::thread::spawn(move || receive(&socket, &inbox));
    Ok(address)
}

fn receive(socket: &UdpSocket, inbox: &Inbox) -> nix::Result<()> {
    let scanner = Scanner::default();
    let mut buffers = vec![vec![0; LONGEST]; MANY];
    let mut headers = MultiHeaders::<()>::preallocate(MANY, None);
    while !inbox.is_closing() {
        let lengths: Vec<usize> = {
            let mut slices: Vec<_> =
                buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
            let flags = MsgFlags::MSG_WAITFORONE;
            match recvmmsg(socket.as_raw_fd(), &mut headers, slices.iter_mut(), flags, None) {
                Ok(messages) => messages.map(|message| message.bytes).collect(),
                Err(nix::Error::EAGAIN | nix::Error::EINTR) => continue,
                Err(error) => return Err(error),
            }
        };
        inbox.take(lengths.iter().sum(), |each| {
            for (buffer, length) in buffers.iter().zip(&lengths) {
                scanner.scan(&buffer[..*length], &mut *each);
            }
        });
        if lengths.len() < MANY {
            std::thread::sleep(NAP);
        }
    }
    Ok(())
}
