//! (config/load)
