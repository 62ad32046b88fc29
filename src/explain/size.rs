//! Numbers for people: sizes as `12.3 MB`, counts as `12,345`.

use std::fmt;

/// A number of bytes, shown in decimal units with three significant digits, as podman, docker and
/// registries do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A number of things, shown with a comma between thousands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count(pub u64);

const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 1000 {
            return f.pad(&format!("{} B", self.0));
        }
        // Tenths of the unit, rounded half up, in whole numbers: floating point would make
        // 999,950 bytes "1000.0 kB".
        let (mut unit, mut step) = (0, 1000u64);
        let tenths =
            |step: u64| (u128::from(self.0) * 10 + u128::from(step) / 2) / u128::from(step);
        while tenths(step) >= 10_000 && unit + 1 < UNITS.len() {
            unit += 1;
            step *= 1000;
        }
        let tenths = tenths(step);
        f.pad(&format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit]))
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        let mut shown = String::with_capacity(digits.len() * 4 / 3);
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                shown.push(',');
            }
            shown.push(digit);
        }
        f.pad(&shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_counts() {
        for (bytes, shown) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (12_345_678, "12.3 MB"),
            (999_949, "999.9 kB"),
            (999_950, "1.0 MB"),
            (1_000_000_000, "1.0 GB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(Size(bytes).to_string(), shown);
        }
        for (number, shown) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(Count(number).to_string(), shown);
        }
        assert_eq!(format!("[{:>8}]", Size(1500)), "[  1.5 kB]");
    }
}
