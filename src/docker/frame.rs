//! (docker/frame)
