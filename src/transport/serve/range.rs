//! Ranges: which part of a blob a client wants. RFC 9110, section 14.

use std::ops::Range;

/// What is sent of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Everything.
    Whole,
    /// These bytes, at least one.
    Part(Range<u64>),
    /// Bytes that the blob does not have.
    Nothing,
}

/// What a `Range` header wants of a blob of `size` bytes. One that is malformed, and one with
/// several ranges, is as if it were not there, which the RFC allows.
pub(crate) fn wanted(header: &str, size: u64) -> Wanted {
    let ranges = header
        .split_once('=')
        .filter(|(unit, _)| unit.trim().eq_ignore_ascii_case("bytes"));
    let bounds = ranges.and_then(|(_, ranges)| ranges.trim().split_once('-'));
    let Some((first, last)) = bounds else {
        return Wanted::Whole;
    };
    let (first, last) = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => (first, last),
        (Some(first), None) if last.is_empty() => (first, u64::MAX),
        // The last bytes.
        (None, Some(0)) if first.is_empty() => return Wanted::Nothing,
        (None, Some(count)) if first.is_empty() => (size.saturating_sub(count), u64::MAX),
        _ => return Wanted::Whole,
    };
    match first < size {
        true => Wanted::Part(first..last.saturating_add(1).min(size)),
        false => Wanted::Nothing,
    }
}

/// Digits and nothing else; a number that is too large is as good as the largest.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_what_the_rfc_says() {
        let huge = "9".repeat(40);
        for (header, size, expected) in [
            ("bytes=0-", 10, Wanted::Part(0..10)),
            ("bytes=0-0", 10, Wanted::Part(0..1)),
            ("bytes=3-5", 10, Wanted::Part(3..6)),
            ("Bytes = 3-5", 10, Wanted::Part(3..6)),
            ("bytes=3-99", 10, Wanted::Part(3..10)),
            ("bytes=9-", 10, Wanted::Part(9..10)),
            ("bytes=-4", 10, Wanted::Part(6..10)),
            ("bytes=-99", 10, Wanted::Part(0..10)),
            (&format!("bytes=2-{huge}"), 10, Wanted::Part(2..10)),
            ("bytes=10-", 10, Wanted::Nothing),
            (&format!("bytes={huge}-"), 10, Wanted::Nothing),
            (
                &format!("bytes={}-{0}", u64::MAX),
                u64::MAX,
                Wanted::Nothing,
            ),
            ("bytes=-0", 10, Wanted::Nothing),
            ("bytes=0-", 0, Wanted::Nothing),
            ("bytes=-5", 0, Wanted::Nothing),
            ("bytes=5-3", 10, Wanted::Whole),
            ("bytes=0-1,4-5", 10, Wanted::Whole),
            ("bytes=-", 10, Wanted::Whole),
            ("bytes=+1-2", 10, Wanted::Whole),
            ("bytes=1", 10, Wanted::Whole),
            ("lines=1-2", 10, Wanted::Whole),
            ("", 10, Wanted::Whole),
        ] {
            assert_eq!(wanted(header, size), expected, "{header}");
        }
    }
}
