//! (route/filter)
