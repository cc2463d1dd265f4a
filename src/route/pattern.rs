//! (route/pattern)
