//! Several runs of the same thing as one figure: the median, and how far the runs are apart.

use std::io;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The median of several runs with the least and the most of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The middle one; of an even number the mean of the two in the middle.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of the values of all runs, in any order; `None` without any.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => (values[middle - 1] + values[middle]) / 2.0,
            _ => values[middle],
        };
        Some(Spread { median, min, max })
    }

    /// In another unit.
    pub fn scaled(self, factor: f64) -> Spread {
        let Spread { median, min, max } = self;
        Spread { median: median * factor, min: min * factor, max: max * factor }
    }

    /// Each run of `a` divided by the run of `b` that was played beside it; `None` unless both
    /// have runs in which `b` is not zero.
    pub fn of_ratios(a: &[f64], b: &[f64]) -> Option<Spread> {
        let pairs = a.iter().zip(b).filter(|(_, b)| **b > 0.0);
        Spread::of(pairs.map(|(a, b)| a / b))
    }
}

/// The longest time that is told from a longer one, in nanoseconds.
const LONGEST: u64 = 60_000_000_000;

/// A histogram of times of up to a minute in nanoseconds, to three digits. Its bounds are fixed:
/// one that grows by itself takes `saturating_record` for the bound it has just then.
///
/// # Errors
/// Never; the bounds are good.
pub fn nanoseconds() -> io::Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, LONGEST, 3).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(values: &[f64]) -> Option<(f64, f64, f64)> {
        Spread::of(values.iter().copied()).map(|s| (s.min, s.median, s.max))
    }

    #[test]
    fn the_middle_and_the_ends() {
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[4.0]), Some((4.0, 4.0, 4.0)));
        assert_eq!(spread(&[9.0, 1.0, 2.0]), Some((1.0, 2.0, 9.0)));
        assert_eq!(spread(&[4.0, 1.0, 3.0, 2.0]), Some((1.0, 2.5, 4.0)));
    }

    #[test]
    fn long_times_are_told_apart() {
        let mut histogram = nanoseconds().unwrap();
        for nanos in [0, 1_000, 2_000_000, 3_000_000_000, u64::MAX] {
            histogram.saturating_record(nanos);
        }
        assert_eq!(histogram.value_at_quantile(0.6) / 1000, 2000);
        assert!(histogram.max() >= LONGEST);
    }

    #[test]
    fn ratios_are_taken_run_by_run() {
        // The machine was slower in the second run, for both.
        let ratios = Spread::of_ratios(&[2.0, 8.0, 3.0], &[1.0, 4.0, 2.0]);
        assert_eq!(ratios.map(|s| (s.min, s.median, s.max)), Some((1.5, 2.0, 2.0)));
        assert_eq!(Spread::of_ratios(&[1.0], &[0.0]), None);
    }
}
