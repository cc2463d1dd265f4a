//! (docker/endpoint)
