//! Two ways to do the same work, run by turns.

use std::time::{Duration, Instant};

/// The least that the work can cost, and ours.
pub(crate) struct Contest<'a> {
    pub(crate) name: &'a str,
    /// What the floor does.
    pub(crate) against: &'a str,
    pub(crate) floor: &'a mut dyn FnMut(),
    pub(crate) ours: &'a mut dyn FnMut(),
}

/// Runs contests and prints a line for each.
pub(crate) struct Race {
    filter: Option<String>,
    bytes: u64,
}

/// Every contest takes about so long, and at least `FEWEST` turns.
const PATIENCE: Duration = Duration::from_secs(3);
const FEWEST: usize = 5;

impl Race {
    /// `bytes` are what each run works through. Arguments with a dash are cargo's.
    pub(crate) fn from_arguments(bytes: u64) -> Race {
        let mut arguments = std::env::args().skip(1);
        let filter = arguments.find(|argument| !argument.starts_with('-'));
        println!(
            "{:<34} {:>10} {:>10} {:>10} {:>7}  floor",
            "", "ours", "MB/s", "floor", "ratio"
        );
        Race { filter, bytes }
    }

    /// Runs one contest, unless it was not asked for.
    pub(crate) fn run(&self, contest: Contest<'_>) {
        let Contest {
            name,
            against,
            floor,
            ours,
        } = contest;
        if !self.filter.as_ref().is_none_or(|part| name.contains(part)) {
            return;
        }
        // The first turn fills the page cache.
        let _ = (timed(floor), timed(ours));
        let (mut floors, mut times) = (Vec::new(), Vec::new());
        let began = Instant::now();
        while times.len() < FEWEST || began.elapsed() < PATIENCE {
            floors.push(timed(floor));
            times.push(timed(ours));
        }
        let (floor, ours) = (median(floors), median(times));
        println!(
            "{name:<34} {:>8.2}ms {:>10.0} {:>8.2}ms {:>7.2}  {against}",
            milliseconds(ours),
            self.bytes as f64 / 1e6 / ours.as_secs_f64(),
            milliseconds(floor),
            ours.as_secs_f64() / floor.as_secs_f64(),
        );
    }
}

fn timed(work: &mut dyn FnMut()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
