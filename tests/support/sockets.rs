//! Connections that the kernel ends in the middle (`ss -K`): to both ends it is as if the network
//! had broken. Needs root, and a kernel with `CONFIG_INET_DIAG_DESTROY`.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;

/// Whether this kernel ends connections for us: tried with one of our own.
pub(crate) fn can_be_ended() -> bool {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let _client = TcpStream::connect(address).unwrap();
    end_those_to(address)
}

/// Ends the connections to `server`, at the client's end; whether there was one.
pub(crate) fn end_those_to(server: SocketAddr) -> bool {
    let state = ["-H", "-K", "-t", "-n", "state", "established", "dst"];
    let output = Command::new("ss").args(state).arg(server.to_string()).output();
    // It shows those that it ended.
    output.is_ok_and(|output| output.status.success() && !output.stdout.is_empty())
}
