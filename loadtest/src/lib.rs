//! The load-test harness of logchute: a fake Docker Engine that costs almost nothing, receivers
//! that check what arrives, a bare relay as the floor, and the real `logchute` between them.
//!
//! `main.rs` reads the command line. `catalog` lists the scenarios, `session` plays them all and
//! `run` one of them once, with the program (`forwarder`, `child`) between `engine` and
//! `receivers`. `targets` holds what was measured against what is asked, `report` is what is kept
//! of it all, and `markdown` how it is shown.

pub mod catalog;
pub mod chart;
pub mod child;
pub mod civil;
pub mod cli;
pub mod demo;
pub mod engine;
pub mod forwarder;
pub mod markdown;
pub mod measure;
pub mod numbering;
pub mod real;
pub mod receivers;
pub mod relay;
pub mod report;
pub mod run;
pub mod scenario;
pub mod session;
pub mod stats;
pub mod targets;

/// A line for the user, on standard error; where that is closed there is no one to tell.
pub fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}
