//! The seam and the resume against a small simulated daemon (`support/doors.rs`), one seed after
//! the other.

#[path = "support/doors.rs"]
mod doors;

use doors::{Chance, Family, Tally};

fn head(seed: u64, family: Family) -> Result<Tally, String> {
    doors::head(64 << 20, &mut Chance::new(&[], seed), family)
}

/// Room for a few lines, or for half a long one: attaches are let go.
fn tight_head(seed: u64, family: Family) -> Result<Tally, String> {
    let limit = if family == Family::Long { 100_000 } else { 40 + seed as usize % 400 };
    doors::head(limit, &mut Chance::new(&[], seed), family)
}

fn resume(seed: u64, family: Family) -> Result<Tally, String> {
    doors::resume(4 << 20, &mut Chance::new(&[], seed), family)
}

/// Room for a few lines, or for half a long one: what is in doubt is passed over.
fn tight_resume(seed: u64, family: Family) -> Result<Tally, String> {
    let room = if family == Family::Long { 100_000 } else { 40 + seed as usize % 400 };
    doors::resume(room, &mut Chance::new(&[], seed), family)
}

/// How many seeds each family gets; `SEAM_SEEDS` asks for more.
fn seeds() -> u64 {
    std::env::var("SEAM_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(100)
}

/// The first seed; `SEAM_FIRST` asks for another.
fn first() -> u64 {
    std::env::var("SEAM_FIRST").ok().and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn all(name: &str, run: fn(u64, Family) -> Result<Tally, String>) {
    let mut failures = Vec::new();
    for family in Family::ALL {
        let mut sum = Tally::default();
        for seed in first()..first() + seeds() {
            match run(seed, family) {
                Ok(tally) => {
                    sum.renewed += tally.renewed;
                    sum.unsure += tally.unsure;
                    sum.duplicates += tally.duplicates;
                }
                Err(failure) => failures.push(format!("seed {seed} {failure}")),
            }
        }
        let Tally { renewed, unsure, duplicates } = sum;
        println!("{name} {family:?}: {renewed} let go, {unsure} unsure, {duplicates} twice");
    }
    let first = failures.iter().take(8).cloned().collect::<Vec<_>>().join("\n");
    assert!(failures.is_empty(), "{} failures:\n{first}", failures.len());
}

#[test]
fn a_head_from_the_log_joins_attach() {
    all("head", head);
}

#[test]
fn a_head_that_does_not_fit_is_read_from_the_log() {
    all("tight head", tight_head);
}

#[test]
fn a_cut_attach_is_resumed() {
    all("resume", resume);
}

#[test]
fn a_cut_attach_is_resumed_though_what_is_in_doubt_does_not_fit() {
    all("tight resume", tight_resume);
}
