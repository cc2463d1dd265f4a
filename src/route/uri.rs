//! (route/uri)
