//! (docker/events)
