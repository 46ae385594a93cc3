//! The paused queues, as this process last saw them.
//!
//! Owns what acceptance and dispatch consult on every request, so that neither asks the
//! database. Where others write too, it is looked up again every second.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The names of the paused queues.
#[derive(Debug, Default)]
pub(crate) struct Paused {
    queues: Mutex<HashSet<String>>,
    // Most ledgers have none: then no lock is taken and no name is hashed.
    any: AtomicBool,
}

impl Paused {
    /// Whether nothing of the queue is begun.
    pub(crate) fn contains(&self, queue: &str) -> bool {
        self.any.load(Ordering::Acquire) && self.lock().contains(queue)
    }

    /// These are paused, and no others. Whether one of those before is not any more.
    pub(crate) fn replace(&self, queues: impl IntoIterator<Item = String>) -> bool {
        let mut known = self.lock();
        let now: HashSet<String> = queues.into_iter().collect();
        let resumed = known.iter().any(|queue| !now.contains(queue));
        *known = now;
        self.any.store(!known.is_empty(), Ordering::Release);
        resumed
    }

    /// One was paused or resumed.
    pub(crate) fn set(&self, queue: &str, paused: bool) {
        let mut known = self.lock();
        if paused {
            known.insert(queue.to_owned());
        } else {
            known.remove(queue);
        }
        self.any.store(!known.is_empty(), Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        // Each change leaves the set whole.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_looks_again_sees_what_others_resumed() {
        let paused = Paused::default();
        assert!(!paused.contains("a"));
        paused.set("a", true);
        assert!(paused.contains("a") && !paused.contains("b"));
        assert!(paused.replace(["b".to_owned()]), "a was resumed");
        assert!(!paused.contains("a") && paused.contains("b"));
        assert!(!paused.replace(["a".to_owned(), "b".to_owned()]));
        paused.set("a", false);
        paused.set("b", false);
        assert!(!paused.contains("b"));
    }
}
