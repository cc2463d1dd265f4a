//! (transport/tls)
