//! Two doors to the same lines: where `logs` ends and `attach` goes on.
//!
//! [`cursor`] tells messages of the log that were taken from new ones, [`seam`] finds where the
//! attach bytes begin in the log, [`resume`] where the delivered bytes end in it; [`overlap`] is
//! what both compare with; [`reads`] how late attach was read; [`opening`] whether a log was
//! rotated before it was read; [`mark`] is a place that is written down. Pure: no I/O, no clock.

pub mod cursor;
pub mod mark;
pub mod opening;
mod overlap;
pub mod reads;
pub mod resume;
pub mod seam;
