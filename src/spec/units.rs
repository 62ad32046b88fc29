//! Numbers with units: durations (`1m30s`) and sizes (`64MiB`). A number without a unit would be
//! guessed at, so it is an error; only a size may be plain bytes.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::spec::error::ValueError;

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(pub u64);

/// Reads a duration as Docker and Go write it: numbers with `h`, `m`, `s` and `ms`, the larger
/// unit first.
///
/// # Errors
/// Another text, a zero with no unit, or more than the 292 years that an image can say.
pub fn parse_duration(text: &str) -> Result<Duration, ValueError> {
    let invalid = || {
        ValueError::new(format!("{text:?} is no duration"))
            .help("write numbers with h, m, s or ms, the larger unit first, such as 30s or 1m30s")
    };
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(
            ValueError::new(format!("duration {text:?} has no unit")).help(format!(
                "write {text}s for seconds or {text}ms for milliseconds"
            )),
        );
    }
    let (mut rest, mut millis, mut last_unit) = (text, 0u64, u64::MAX);
    while !rest.is_empty() {
        let (number, behind) = split_number(rest).ok_or_else(invalid)?;
        let unit_end = behind
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(behind.len());
        let unit = match &behind[..unit_end] {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1_000,
            "ms" => 1,
            _ => return Err(invalid()),
        };
        if unit >= last_unit {
            return Err(invalid());
        }
        last_unit = unit;
        millis = number
            .checked_mul(unit)
            .and_then(|more| millis.checked_add(more))
            .filter(|millis| *millis <= MOST_MILLIS)
            .ok_or_else(|| {
                ValueError::new(format!("{text:?} is longer than 292 years"))
                    .help("that is the most an image can say")
            })?;
        rest = &behind[unit_end..];
    }
    if text.is_empty() {
        return Err(invalid());
    }
    Ok(Duration::from_millis(millis))
}

/// Images say durations in nanoseconds, as signed 64-bit numbers.
const MOST_MILLIS: u64 = i64::MAX as u64 / 1_000_000;

/// Digits at the front, and what is behind them.
fn split_number(text: &str) -> Option<(u64, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

const SIZE_UNITS: [(&str, u64); 10] = [
    ("", 1),
    ("B", 1),
    ("kB", 1000),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

impl FromStr for ByteSize {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<ByteSize, ValueError> {
        let invalid = || {
            ValueError::new(format!("{text:?} is no size"))
                .help("write bytes, or a whole number with kB, MB, GB, KiB, MiB, GiB or TiB")
        };
        let (number, unit) = split_number(text).ok_or_else(invalid)?;
        let unit = unit.trim_start_matches(' ');
        let Some((_, factor)) = SIZE_UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(match unit {
                "k" | "K" | "m" | "M" | "g" | "G" => {
                    let unit = unit.to_ascii_uppercase();
                    ValueError::new(format!("size {text:?} may be decimal or binary")).help(
                        format!("write {number}{unit}iB (powers of 1024) or {number}{unit}B (powers of 1000)"),
                    )
                }
                _ => invalid(),
            });
        };
        number.checked_mul(*factor).map(ByteSize).ok_or_else(|| {
            ValueError::new(format!("size {text:?} does not fit into 64 bits"))
                .help("write a smaller size")
        })
    }
}

/// In the largest binary unit that leaves no rest.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, factor): &&(&str, u64)| {
            self.0 != 0 && factor.is_power_of_two() && self.0.is_multiple_of(*factor)
        };
        let unit = SIZE_UNITS.iter().rfind(fits);
        let (name, factor) = unit.copied().unwrap_or(("B", 1));
        write!(f, "{}{name}", self.0 / factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("30s", 30_000),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("1h", 3_600_000),
            ("1h2m3s4ms", 3_723_004),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)));
        }
        for (text, why) in [
            ("30", "write 30s"),
            ("", "no duration"),
            ("s", "no duration"),
            ("1.5s", "no duration"),
            ("1s1m", "no duration"),
            ("1s1s", "no duration"),
            ("-1s", "no duration"),
            ("1d", "no duration"),
            ("30 s", "no duration"),
            ("9999999999999h", "292 years"),
            ("99999999999999999999h", "no duration"),
        ] {
            let error = parse_duration(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("200MB", 200_000_000),
            ("64MiB", 64 << 20),
            ("64 MiB", 64 << 20),
            ("1kB", 1000),
            ("1GiB", 1 << 30),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)));
        }
        for (text, why) in [
            ("64m", "write 64MiB"),
            ("", "no size"),
            ("MB", "no size"),
            ("1.5GB", "no size"),
            ("-1", "no size"),
            ("99999999TiB", "64 bits"),
        ] {
            let error = text.parse::<ByteSize>().unwrap_err().to_string();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn sizes_round_trip(bytes: u64) {
            prop_assert_eq!(ByteSize(bytes).to_string().parse(), Ok(ByteSize(bytes)));
        }

        #[test]
        fn parsing_never_panics(text in "[0-9hmsé.]{0,24}|\\PC{0,8}") {
            let _ = (parse_duration(&text), text.parse::<ByteSize>());
        }
    }
}
