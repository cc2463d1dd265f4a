//! (transport/link)
