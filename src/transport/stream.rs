//! (transport/stream)
