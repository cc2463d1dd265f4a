//! (docker/request)
