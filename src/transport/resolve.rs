//! (transport/resolve)
