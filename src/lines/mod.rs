//! From frames to lines, and from lines to groups of them.

pub mod blocks;
pub mod group;
pub mod split;
pub mod trace;
