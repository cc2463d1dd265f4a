//! (transport/datagram)
