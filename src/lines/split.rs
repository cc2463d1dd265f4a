//! (lines/split)
