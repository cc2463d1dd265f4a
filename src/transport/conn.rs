//! (transport/conn)
