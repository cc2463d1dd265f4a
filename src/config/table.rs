//! (config/table)
