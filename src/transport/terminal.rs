//! (transport/terminal)
