//! Seconds since 1970 as a date and time of day, UTC. Pure.

use std::fmt;

/// A moment; shown as `2006-01-02T15:04:05`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    date: [u64; 3],
    time: [u64; 3],
}

impl Civil {
    /// By the proleptic Gregorian calendar, for years up to 9999.
    pub fn of(seconds: u64) -> Civil {
        let (days, rest) = (seconds / 86_400, seconds % 86_400);
        // Years are counted from March, so that the leap day is the last of its year; 719 468
        // days lie between 0000-03-01 and 1970-01-01, 146 097 in 400 years.
        let days = days + 719_468;
        let (era, day) = (days / 146_097, days % 146_097);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let (day, month) = (day - (153 * month + 2) / 5 + 1, (month + 2) % 12 + 1);
        let year = era * 400 + year + u64::from(month <= 2);
        Civil { date: [year, month, day], time: [rest / 3600, rest / 60 % 60, rest % 60] }
    }
}

impl fmt::Display for Civil {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([year, month, day], [hour, minute, second]) = (self.date, self.time);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_399, "2000-02-28T23:59:59"),
            (951_782_400, "2000-02-29T00:00:00"),
            (951_868_800, "2000-03-01T00:00:00"),
            (1_714_979_289, "2024-05-06T07:08:09"),
            (4_107_542_400, "2100-03-01T00:00:00"),
        ] {
            assert_eq!(Civil::of(seconds).to_string(), text);
        }
    }
}
