//! Two doors to the same lines: where `logs` ends and `attach` goes on.
//!
//! [`cursor`] tells messages of the log that were taken from new ones, [`seam`] finds where the
//! attach bytes begin in the log, [`resume`] where the delivered bytes end in it; [`overlap`] is
//! what both compare with; [`mark`] is a place that is written down. Pure: no I/O, no clock.

pub mod cursor;
pub mod mark;
mod overlap;
pub mod resume;
pub mod seam;
