//! Times: seconds since 1970 become RFC 3339, as the image spec writes them.
//!
//! There is no clock here and no time zone: the one time of an image is handed in, and it is UTC.

use crate::image::error::ImageError;

/// The last second that four digits of a year can say: 9999-12-31T23:59:59Z.
const LAST: u64 = 253_402_300_799;

/// `epoch`, in seconds since 1970, as `YYYY-MM-DDThh:mm:ssZ` (RFC 3339, section 5.6).
///
/// # Errors
/// [`ImageError::Epoch`] beyond the year 9999, which RFC 3339 cannot say.
pub fn rfc3339(epoch: u64) -> Result<String, ImageError> {
    if epoch > LAST {
        return Err(ImageError::Epoch(epoch));
    }
    let (days, second) = (epoch / 86_400, epoch % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    Ok(format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"
    ))
}

/// The Gregorian date that is so many days after 1970-01-01.
///
/// Years are counted from March, so that the leap day is the last day of its year; 400 such years
/// always have 146,097 days.
fn date(days: u64) -> (u64, u64, u64) {
    const DAYS_TO_1970: u64 = 719_468;
    let days = days + DAYS_TO_1970;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let leap_days = day_of_era / 1460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March have 31, 30, 31, 30, 31 days, and so on: 153 in five.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let (month, next_year) = match month_from_march {
        0..=9 => (month_from_march + 3, 0),
        _ => (month_from_march - 9, 1),
    };
    (400 * era + year_of_era + next_year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_moments() {
        for (epoch, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_000_000_000, "2001-09-09T01:46:40Z"),
            (1_709_164_799, "2024-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (LAST, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(epoch).unwrap(), text);
        }
        assert!(rfc3339(LAST + 1).is_err());
    }

    /// The calendar by counting, day for day.
    #[test]
    fn four_centuries_day_by_day() {
        let leap = |year: u64| {
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
        };
        let mut days = 0;
        for year in 1970..2371 {
            let february = if leap(year) { 29 } else { 28 };
            for (month, length) in (1..).zip([31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
            {
                for day in 1..=length {
                    assert_eq!(date(days), (year, month, day));
                    days += 1;
                }
            }
        }
    }

    proptest! {
        #[test]
        fn texts_sort_like_times(a in 0..=LAST, b in 0..=LAST) {
            prop_assert_eq!(a.cmp(&b), rfc3339(a).unwrap().cmp(&rfc3339(b).unwrap()));
        }
    }
}
