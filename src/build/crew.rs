//! The crew: what the builds of one command have in common while it runs.
//!
//! Builds that go on side by side share one number of threads, read each base image once, and agree
//! on what a tag means. None of it outlives the command, and none of it decides about bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::build::bases::Base;
use crate::build::error::BuildError;
use crate::oci::{Digest, Platform};
use crate::spec::ImageSource;
use crate::store::Store;

/// Those who work on the builds of one command.
///
/// A build takes a seat, which is a thread of its own, and is lent more for as long as others do
/// not need them: nobody waits for a helper, so no two builds wait for each other.
#[derive(Debug)]
pub struct Crew {
    jobs: NonZeroUsize,
    free: Mutex<usize>,
    freed: Condvar,
    bases: Mutex<BTreeMap<BaseId, Slot>>,
    /// The keys of commands whose results were made by this crew.
    made: Mutex<BTreeSet<Digest>>,
}

/// What makes two base images one: the store that they are in, what names them, the folder that
/// this is relative to, and the platform.
pub(crate) type BaseId = (PathBuf, ImageSource, PathBuf, Platform);

/// A base image, once somebody has read it; held by whoever does.
type Slot = Arc<Mutex<Option<Arc<Base>>>>;

/// A seat, or helpers; dropping it makes room for others.
#[derive(Debug)]
pub(crate) struct Hands<'a> {
    crew: &'a Crew,
    count: usize,
}

impl Crew {
    /// A crew that works with so many threads in all.
    pub fn of(jobs: NonZeroUsize) -> Crew {
        Crew {
            jobs,
            free: Mutex::new(jobs.get()),
            freed: Condvar::new(),
            bases: Mutex::default(),
            made: Mutex::default(),
        }
    }

    /// Waits for a seat, which a build keeps until it is done.
    pub(crate) fn seat(&self) -> Hands<'_> {
        let mut free = lock(&self.free);
        while *free == 0 {
            free = self
                .freed
                .wait(free)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *free -= 1;
        Hands {
            crew: self,
            count: 1,
        }
    }

    /// As many helpers as are free now, at most `most`.
    pub(crate) fn helpers(&self, most: usize) -> Hands<'_> {
        let mut free = lock(&self.free);
        let count = most.min(*free);
        *free -= count;
        Hands { crew: self, count }
    }

    /// Helpers for work that as many threads can do as there are.
    pub(crate) fn all_hands(&self) -> Hands<'_> {
        self.helpers(self.jobs.get() - 1)
    }

    /// How many threads there are in all.
    pub(crate) fn jobs(&self) -> usize {
        self.jobs.get()
    }

    /// A base image: the one that a build of this crew has read, else what `import` gives. Others
    /// who want the same one wait for it.
    pub(crate) fn base(
        &self,
        id: BaseId,
        store: &Store,
        import: impl FnOnce() -> Result<Base, BuildError>,
    ) -> Result<Arc<Base>, BuildError> {
        let slot = Arc::clone(lock(&self.bases).entry(id).or_default());
        let mut known = lock(&slot);
        if let Some(base) = &*known
            && is_in_store(base, store)?
        {
            return Ok(Arc::clone(base));
        }
        let base = Arc::new(import()?);
        *known = Some(Arc::clone(&base));
        Ok(base)
    }

    /// Notes that the result of a command was made just now.
    pub(crate) fn has_made(&self, key: Digest) {
        lock(&self.made).insert(key);
    }

    /// Whether a result is no older than the crew.
    pub(crate) fn made(&self, key: &Digest) -> bool {
        lock(&self.made).contains(key)
    }
}

impl Hands<'_> {
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// These, and whoever asked for them.
    pub(crate) fn and_me(&self) -> NonZeroUsize {
        NonZeroUsize::MIN.saturating_add(self.count)
    }
}

impl Drop for Hands<'_> {
    fn drop(&mut self) {
        *lock(&self.crew.free) += self.count;
        self.crew.freed.notify_all();
    }
}

/// Between two builds nobody may have used the store, so that it could be cleaned.
fn is_in_store(base: &Base, store: &Store) -> Result<bool, BuildError> {
    for layer in &base.layers {
        if !store.contains_blob(&layer.blob.digest)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A panic in another thread must not end in a second one here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn there_are_never_more_threads_than_were_allowed() {
        for jobs in [1, 2, 5] {
            let crew = Crew::of(NonZeroUsize::new(jobs).unwrap());
            let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
            std::thread::scope(|scope| {
                for _ in 0..6 {
                    scope.spawn(|| {
                        for _ in 0..50 {
                            let _seat = crew.seat();
                            let helpers = crew.all_hands();
                            let mine = helpers.and_me().get();
                            let sum = now.fetch_add(mine, Ordering::SeqCst) + mine;
                            most.fetch_max(sum, Ordering::SeqCst);
                            std::thread::yield_now();
                            now.fetch_sub(mine, Ordering::SeqCst);
                        }
                    });
                }
            });
            assert!(most.load(Ordering::SeqCst) <= jobs);
            assert_eq!(*lock(&crew.free), jobs);
        }
    }

    #[test]
    fn who_is_alone_has_all_hands() {
        let crew = Crew::of(NonZeroUsize::new(4).unwrap());
        let seat = crew.seat();
        assert_eq!(crew.all_hands().and_me().get(), 4);
        let other = crew.seat();
        assert_eq!(crew.all_hands().and_me().get(), 3);
        assert_eq!(crew.helpers(1).count(), 1);
        drop((seat, other));
        // Whoever only looks has no seat, and all hands are still no more than there are.
        assert_eq!(crew.all_hands().and_me().get(), 4);
    }
}
