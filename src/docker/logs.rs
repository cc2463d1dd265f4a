//! (docker/logs)
