//! (route/select)
