//! Signals by name, as images name the one that stops them.

/// The number of a signal, by its name with or without `SIG`, or as a number itself.
pub(crate) fn number(signal: &str) -> Option<i32> {
    let name = signal.strip_prefix("SIG").unwrap_or(signal);
    let named = NAMES.iter().find(|(known, _)| *known == name);
    let (first, last) = REAL_TIME;
    let counted = |text: &str, sign| match text {
        "" => Some(0),
        text => text.strip_prefix(sign)?.parse::<i32>().ok(),
    };
    let found = if let Some((_, number)) = named {
        Some(*number)
    } else if let Some(rest) = name.strip_prefix("RTMIN") {
        counted(rest, '+').map(|above| first + above)
    } else if let Some(rest) = name.strip_prefix("RTMAX") {
        counted(rest, '-').map(|below| last - below)
    } else {
        name.parse().ok()
    };
    found.filter(|number| (1..=last).contains(number))
}

/// The real-time signals that the C library leaves to programs.
const REAL_TIME: (i32, i32) = (34, 64);

/// Signals that may ask a process to end; systemd's is a real-time one.
const NAMES: [(&str, i32); 15] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("TRAP", 5),
    ("ABRT", 6),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("CONT", 18),
    ("WINCH", 28),
    ("PWR", 30),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_numbers() {
        for (signal, expected) in [
            ("SIGTERM", Some(15)),
            ("QUIT", Some(3)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMIN", Some(34)),
            ("SIGRTMAX-1", Some(63)),
            ("SIGRTMIN+40", None),
            ("SIGRTMIN3", None),
            ("0", None),
            ("SIGX", None),
        ] {
            assert_eq!(number(signal), expected, "{signal}");
        }
    }
}
