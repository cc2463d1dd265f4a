//! Which shard gets a container that comes to be known. Pure.
//!
//! A container stays where it is: its order would be lost on the way. So load is evened out by
//! where new ones go, and by bytes rather than by number, for one container may write more than
//! hundreds of others.

use std::time::{Duration, Instant};

/// Measured over less time, a rate says little.
const MEASURE_LEAST: Duration = Duration::from_secs(1);
/// Shards that carry so many bytes a second more than another are still its equals: about two
/// percent of what a core can do.
const EQUAL_BYTES: u64 = 8 * 1024 * 1024;

/// What a shard has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Containers that it follows.
    pub containers: u64,
    /// Those of them that came since `rate` was measured.
    pub fresh: u64,
    /// Bytes a second that it took from containers, lately.
    pub rate: u64,
}

/// The shard for a new container: of those that are about as busy as the least busy one, the one
/// with the fewest containers. 0 where there are no shards.
///
/// A container that came since the last measurement counts as an average one: many may come at
/// once, and are not all to go to the same shard.
pub fn place(loads: &[Load]) -> usize {
    let rate: u64 = loads.iter().map(|load| load.rate).sum();
    let measured: u64 = loads.iter().map(|load| load.containers.saturating_sub(load.fresh)).sum();
    let each = rate / measured.max(1);
    let expected = |load: &Load| load.rate.saturating_add(load.fresh.saturating_mul(each));
    let least = loads.iter().map(expected).min().unwrap_or(0);
    let share = rate / (loads.len() as u64).max(1);
    let equal_up_to = least.saturating_add((share / 4).max(EQUAL_BYTES));
    let equals = loads.iter().enumerate().filter(|(_, load)| expected(load) <= equal_up_to);
    equals.min_by_key(|(_, load)| load.containers).map_or(0, |(shard, _)| shard)
}

/// Makes rates of byte counts.
#[derive(Debug, Default)]
pub struct Meter {
    last: Option<(Instant, Vec<u64>)>,
}

impl Meter {
    /// Each shard's bytes since it began, as of `now`. Returns bytes a second since the last
    /// measurement, if that is long enough ago to say something.
    pub fn measure(&mut self, totals: Vec<u64>, now: Instant) -> Option<Vec<u64>> {
        let Some((then, before)) = &self.last else {
            self.last = Some((now, totals));
            return None;
        };
        let elapsed = now.saturating_duration_since(*then);
        if elapsed < MEASURE_LEAST {
            return None;
        }
        let rate = |(now, before): (&u64, &u64)| {
            let bytes = u128::from(now.saturating_sub(*before)) * 1000;
            u64::try_from(bytes / elapsed.as_millis()).unwrap_or(u64::MAX)
        };
        let rates = totals.iter().zip(before).map(rate).collect();
        self.last = Some((now, totals));
        Some(rates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MB: u64 = 1_000_000;

    fn load(containers: u64, fresh: u64, rate: u64) -> Load {
        Load { containers, fresh, rate }
    }

    #[test]
    fn bytes_count_more_than_containers() {
        assert_eq!(place(&[load(1, 0, 300 * MB), load(200, 0, MB)]), 1);
        assert_eq!(place(&[load(200, 0, MB), load(1, 0, 300 * MB), load(201, 0, 0)]), 0);
    }

    #[test]
    fn small_differences_do_not_count() {
        assert_eq!(place(&[load(3, 0, 7 * MB), load(4, 0, 0)]), 0);
        assert_eq!(place(&[load(3, 0, 400 * MB), load(4, 0, 390 * MB)]), 0);
    }

    #[test]
    fn many_at_once_are_spread() {
        let mut loads = [load(1, 0, 100 * MB), load(1, 0, 0)];
        for _ in 0..40 {
            let shard = place(&loads);
            loads[shard].containers += 1;
            loads[shard].fresh += 1;
        }
        // The busy shard is two average containers ahead, and the slack a quarter of its share.
        assert!(loads[0].fresh >= 15 && loads[1].fresh > loads[0].fresh, "{loads:?}");
    }

    #[test]
    fn rates_are_those_since_the_last_measurement() {
        let (mut meter, start) = (Meter::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(meter.measure(vec![100, 0], at(0)), None);
        assert_eq!(meter.measure(vec![200, 0], at(999)), None);
        assert_eq!(meter.measure(vec![4100, 500], at(2000)), Some(vec![2000, 250]));
        assert_eq!(meter.measure(vec![4100, 1500], at(3000)), Some(vec![0, 1000]));
    }

    proptest! {
        /// No shard that is clearly busier than another gets the container, and among equals none
        /// with more containers.
        #[test]
        fn the_choice_is_fair(
            loads in prop::collection::vec((0u64..1000, 0u64..1000, 0u64..1 << 40), 1..20),
        ) {
            let loads: Vec<Load> =
                loads.iter().map(|&(all, fresh, rate)| load(all, fresh.min(all), rate)).collect();
            let chosen = loads[place(&loads)];
            if loads.iter().all(|load| load.fresh == 0) {
                let least = loads.iter().map(|load| load.rate).min().unwrap();
                let share = loads.iter().map(|load| load.rate).sum::<u64>() / loads.len() as u64;
                prop_assert!(chosen.rate <= least + (share / 4).max(EQUAL_BYTES));
            }
            for other in &loads {
                let idler = other.rate <= chosen.rate && other.fresh <= chosen.fresh;
                prop_assert!(!(idler && other.containers < chosen.containers), "{other:?}");
            }
        }
    }
}
