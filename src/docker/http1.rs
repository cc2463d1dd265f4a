//! (docker/http1)
