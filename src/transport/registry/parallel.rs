//! Several things at once, a bounded number of them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Does `work` with every item and gives the results in the order of the items. The first that fails
/// ends the others when they are done with the item at hand.
pub(crate) fn each<T: Sync, R: Send, E: Send>(
    items: &[T],
    parallel: usize,
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    let first_error = Mutex::new(None);
    let work = || {
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(place) else {
                return;
            };
            match work(item) {
                Ok(result) => {
                    if let Ok(mut done) = done.lock() {
                        done.push((place, result));
                    }
                }
                Err(error) => {
                    next.store(items.len(), Ordering::Relaxed);
                    if let Ok(mut first) = first_error.lock() {
                        first.get_or_insert(error);
                    }
                }
            }
        }
    };
    match parallel.min(items.len()) {
        0 => {}
        1 => work(),
        threads => thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        }),
    }
    if let Ok(Some(error)) = first_error.into_inner() {
        return Err(error);
    }
    let mut done = done.into_inner().unwrap_or_default();
    done.sort_by_key(|(place, _)| *place);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_the_first_error_ends_it() {
        let items: Vec<u32> = (0..50).collect();
        for parallel in [1, 4, 80] {
            let doubled = each(&items, parallel, |item| Ok::<_, u32>(item * 2)).unwrap();
            assert_eq!(
                doubled,
                items.iter().map(|item| item * 2).collect::<Vec<_>>()
            );
            let wrong = |item: &u32| if *item < 3 { Err(*item) } else { Ok(()) };
            assert!(each(&items, parallel, wrong).unwrap_err() < 3);
        }
        let done = AtomicUsize::new(0);
        let first_only = |_: &u32| Err::<(), usize>(done.fetch_add(1, Ordering::Relaxed));
        assert_eq!(each(&items, 1, first_only), Err(0));
        assert_eq!(done.into_inner(), 1);
        assert_eq!(each(&[], 4, |_: &u32| Ok::<u32, ()>(1)), Ok(Vec::new()));
    }
}
