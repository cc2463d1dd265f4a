//! From frames to lines.

pub mod split;
