//! The time of a record, rendered at most once a second.
//!
//! Pure: the caller says what time it is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Length of an RFC 3339 time in whole seconds, UTC: `2024-05-06T07:08:09Z`.
pub const RFC3339_LEN: usize = 20;

/// Length of the same with microseconds: `2024-05-06T07:08:09.123456Z`.
pub const MICROS_LEN: usize = RFC3339_LEN + 7;

/// A moment, with its RFC 3339 text kept until the second changes.
#[derive(Clone, Debug)]
pub struct Stamp {
    since_epoch: Duration,
    text: [u8; RFC3339_LEN],
}

impl Stamp {
    /// A stamp for `now`.
    pub fn new(now: SystemTime) -> Stamp {
        let mut stamp = Stamp { since_epoch: Duration::MAX, text: [0; RFC3339_LEN] };
        stamp.set(now);
        stamp
    }

    /// Moves the stamp to `now`; the text is rendered again only if the second changed.
    pub fn set(&mut self, now: SystemTime) {
        self.set_since_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
    }

    /// As [`Stamp::set`], for a time that the daemon gave: nanoseconds since 1970.
    pub fn set_nanos(&mut self, nanos: u64) {
        self.set_since_epoch(Duration::from_nanos(nanos));
    }

    fn set_since_epoch(&mut self, since_epoch: Duration) {
        if since_epoch.as_secs() != self.since_epoch.as_secs() {
            self.text = rfc3339(since_epoch.as_secs());
        }
        self.since_epoch = since_epoch;
    }

    /// Whole seconds, UTC, `Z`: what Logspout's `{{.Timestamp}}` gives under `TZ=UTC`.
    pub fn rfc3339(&self) -> &[u8; RFC3339_LEN] {
        &self.text
    }

    /// With microseconds, UTC, `Z`: RFC 5424, section 6.2.3, allows no more than that.
    pub fn rfc3339_micros(&self) -> [u8; MICROS_LEN] {
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        let whole = RFC3339_LEN - 1;
        text[..whole].copy_from_slice(&self.text[..whole]);
        put(&mut text[whole + 1..MICROS_LEN - 1], u64::from(self.since_epoch.subsec_micros()));
        text
    }

    /// Nanoseconds since 1970.
    pub fn nanos(&self) -> u64 {
        u64::try_from(self.since_epoch.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Renders `secs` since 1970. Years beyond 9999 have no RFC 3339 form and show as 9999.
fn rfc3339(secs: u64) -> [u8; RFC3339_LEN] {
    const LAST: u64 = 253_402_300_799; // 9999-12-31T23:59:59Z
    let secs = secs.min(LAST);
    let (year, month, day) = civil_from_days((secs / 86_400) as i64);
    let of_day = secs % 86_400;
    let mut text = *b"0000-00-00T00:00:00Z";
    put(&mut text[0..4], year as u64);
    put(&mut text[5..7], month);
    put(&mut text[8..10], day);
    put(&mut text[11..13], of_day / 3600);
    put(&mut text[14..16], of_day / 60 % 60);
    put(&mut text[17..19], of_day % 60);
    text
}

fn put(digits: &mut [u8], mut value: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Days since 1970-01-01 to (year, month, day) of the proleptic Gregorian calendar.
/// Years are counted from March, so that the leap day is the last of its year.
pub fn civil_from_days(days: i64) -> (i64, u64, u64) {
    let days = days.saturating_add(719_468); // since 0000-03-01
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097) as u64;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era as i64 + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(secs: u64) -> String {
        String::from_utf8(rfc3339(secs).to_vec()).unwrap()
    }

    #[test]
    fn known_moments() {
        assert_eq!(text(0), "1970-01-01T00:00:00Z");
        assert_eq!(text(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(text(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(text(951_868_800), "2000-03-01T00:00:00Z");
        assert_eq!(text(1_714_979_289), "2024-05-06T07:08:09Z");
        assert_eq!(text(4_107_542_400), "2100-03-01T00:00:00Z");
        assert_eq!(text(u64::MAX), "9999-12-31T23:59:59Z");
        assert_eq!(civil_from_days(-719_162), (1, 1, 1));
    }

    /// The naive calendar: one day after the other.
    #[test]
    fn every_day_of_four_centuries() {
        let (mut year, mut month, mut day) = (1970_i64, 1, 1);
        for days in 0..146_097_i64 {
            assert_eq!(civil_from_days(days), (year, month, day));
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = match month {
                2 => 28 + u64::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > length {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
    }

    #[test]
    fn text_follows_the_second() {
        let mut stamp = Stamp::new(UNIX_EPOCH);
        stamp.set_nanos(1_714_979_289_999_999_999);
        assert_eq!(stamp.rfc3339(), b"2024-05-06T07:08:09Z");
        assert_eq!(&stamp.rfc3339_micros(), b"2024-05-06T07:08:09.999999Z");
        stamp.set_nanos(1_714_979_290_000_000_000);
        assert_eq!(stamp.rfc3339(), b"2024-05-06T07:08:10Z");
        assert_eq!(&stamp.rfc3339_micros(), b"2024-05-06T07:08:10.000000Z");
        assert_eq!(stamp.nanos(), 1_714_979_290_000_000_000);
    }
}
