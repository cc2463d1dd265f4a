//! (route/glob)
