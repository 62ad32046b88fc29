//! Patience: how long a server may take, how often it is asked again, and when.

use std::time::{Duration, Instant};

/// How long to wait for a server and how often to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patience {
    /// Until a name is resolved, and until a connection is there.
    pub connect: Duration,
    /// Until the headers of an answer are there.
    pub answer: Duration,
    /// Between two arrivals of bytes.
    pub idle: Duration,
    /// The slowest server that is waited for, in bytes a second, over a whole body.
    pub slowest: u64,
    /// What every body gets on top of that: names, handshakes and slow starts are in it.
    pub grace: Duration,
    /// How often a request is made, all in all. At least 1.
    pub attempts: u32,
    /// The pause before the second attempt; each further one is twice as long.
    pub pause: Duration,
    /// The longest pause, also where a server asks for a longer one: then the answer is final.
    pub longest_pause: Duration,
    /// What the jitter of pauses is drawn from, so that many runners do not come back at once; the
    /// same seed makes the same pauses.
    pub seed: u64,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            connect: Duration::from_secs(15),
            answer: Duration::from_secs(60),
            idle: Duration::from_secs(30),
            slowest: 32 << 10,
            grace: Duration::from_secs(120),
            attempts: 5,
            pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(60),
            seed: 0,
        }
    }
}

impl Patience {
    /// When a body of `size` bytes must be there, if it is begun now.
    pub(crate) fn deadline(&self, size: u64) -> Instant {
        let slowest = Duration::from_secs(size / self.slowest.max(1));
        // A year is for ever, and no instant overflows by it.
        Instant::now() + self.grace + slowest.min(Duration::from_secs(365 * 24 * 3600))
    }

    /// How long to wait before attempt `attempt` (2 is the first that is waited for); `None` if
    /// there is none, or if the server asks for a longer pause than is waited.
    pub(crate) fn pause_before(&self, attempt: u32, asked: Option<Duration>) -> Option<Duration> {
        if attempt > self.attempts {
            return None;
        }
        if let Some(asked) = asked {
            return (asked <= self.longest_pause).then_some(asked);
        }
        let doubled = self
            .pause
            .saturating_mul(1 << attempt.saturating_sub(2).min(16));
        let pause = doubled.min(self.longest_pause);
        // Between a half and the whole of it.
        let share = mixed(self.seed ^ u64::from(attempt)) % 512;
        Some(pause / 2 + pause.mul_f64(share as f64 / 1024.0))
    }
}

/// What `Retry-After` asks for: seconds, or a time, which is compared with the `Date` of the same
/// answer because nothing here knows the time. RFC 9110, section 10.2.3.
pub(crate) fn retry_after(value: &str, date: Option<&str>) -> Option<Duration> {
    let value = value.trim();
    if value.bytes().all(|byte| byte.is_ascii_digit()) {
        return value.parse().ok().map(Duration::from_secs);
    }
    let seconds = http_date(value)?.saturating_sub(http_date(date?)?);
    Some(Duration::from_secs(seconds))
}

/// Seconds since 1970 of `Sun, 06 Nov 1994 08:49:37 GMT`. RFC 9110, section 5.6.7.
fn http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let mut words = text.split_once(", ")?.1.split(' ');
    let day: u64 = words
        .next()?
        .parse()
        .ok()
        .filter(|day| (1..=31).contains(day))?;
    let name = words.next()?;
    let month = MONTHS.iter().position(|month| *month == name)? as u64;
    let year: u64 = words
        .next()?
        .parse()
        .ok()
        .filter(|year| (1970..=9999).contains(year))?;
    let mut clock = words
        .next()?
        .splitn(3, ':')
        .map(|part| part.parse::<u64>().ok());
    let seconds = clock.next()?? * 3600 + clock.next()?? * 60 + clock.next()??;
    // Days since 1970, counting years from March so that a leap day comes last.
    let (year, month) = match month {
        0 | 1 => (year - 1, month + 10),
        _ => (year, month - 2),
    };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 306 + 5) / 10 + day - 1;
    Some((days - 719_468) * 86_400 + seconds)
}

/// SplitMix64: good enough to spread pauses.
fn mixed(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_end_and_repeat() {
        let patience = Patience::default();
        let pauses: Vec<_> = (2..=6).map(|n| patience.pause_before(n, None)).collect();
        for (number, pause) in pauses[..4].iter().enumerate() {
            let most = patience.pause * (1 << number);
            let pause = pause.unwrap();
            assert!(pause >= most / 2 && pause <= most, "{pause:?} of {most:?}");
        }
        assert_eq!(pauses[4], None);
        assert_eq!(pauses[0], patience.pause_before(2, None));
        let other = Patience {
            seed: 1,
            ..patience.clone()
        };
        assert_ne!(pauses[0], other.pause_before(2, None));
        let asked = Duration::from_secs(7);
        assert_eq!(patience.pause_before(2, Some(asked)), Some(asked));
        assert_eq!(patience.pause_before(2, Some(asked * 100)), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_time() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        for (value, seconds) in [
            ("3", Some(3)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Sun, 06 Nov 1994 08:49:07 GMT", Some(0)),
            ("Mon, 07 Nov 1994 08:49:37 GMT", Some(86_400)),
            ("soon", None),
            ("99999999999999999999999", None),
            ("-1", None),
        ] {
            let found = retry_after(value, Some(date)).map(|pause| pause.as_secs());
            assert_eq!(found, seconds, "{value}");
        }
        assert_eq!(http_date(date), Some(784_111_777));
        assert_eq!(
            http_date("Thu, 29 Feb 2024 00:00:00 GMT"),
            Some(1_709_164_800)
        );
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:50:07 GMT", None), None);
    }
}
