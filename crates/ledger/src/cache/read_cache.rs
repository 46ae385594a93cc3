//! Operations as they were last read, for as long as nothing has changed them.
//!
//! Owns what makes polling cheap where this process is the only one that writes: a
//! waiting client asks for the same operation again and again, and mostly nothing has
//! happened. Its invariant: what is kept is what a read would bring, because every commit
//! lets go of what it touched before anybody is told of it, and a read that began before
//! such a commit keeps nothing.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::Operation;
use cloakroom_domain::OperationId;

/// The most operations that are kept.
const KEPT: usize = 4096;

/// What is known of operations by reading.
#[derive(Debug, Default)]
pub(crate) struct Snapshots(Mutex<CacheSlots>);

#[derive(Debug, Default)]
struct CacheSlots {
    by_id: HashMap<OperationId, CacheSlot>,
    readings: u64,
}

#[derive(Debug)]
enum CacheSlot {
    /// Is being read; the number tells one reading from those before it.
    Reading(u64),
    Known(Box<Operation>),
}

/// A reading that has begun; its result is kept unless the operation changes meanwhile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading(u64);

/// What is known at present.
pub(crate) enum Present {
    Known(Box<Operation>),
    /// Has to be read.
    Unknown(Reading),
}

impl Snapshots {
    /// What is known of an operation; begins a reading where that is nothing.
    pub(crate) fn look(&self, id: OperationId) -> Present {
        let mut slots = self.lock();
        match slots.by_id.get(&id) {
            Some(CacheSlot::Known(operation)) => return Present::Known(operation.clone()),
            Some(CacheSlot::Reading(number)) => return Present::Unknown(Reading(*number)),
            None => {}
        }
        if slots.by_id.len() >= KEPT {
            slots.by_id.clear();
        }
        slots.readings += 1;
        let number = slots.readings;
        slots.by_id.insert(id, CacheSlot::Reading(number));
        Present::Unknown(Reading(number))
    }

    /// Ends a reading.
    pub(crate) fn read(&self, id: OperationId, reading: Reading, found: Option<&Operation>) {
        let mut slots = self.lock();
        let Some(slot) = slots.by_id.get_mut(&id) else { return };
        match (&slot, found) {
            (CacheSlot::Reading(number), Some(found)) if *number == reading.0 => {
                *slot = CacheSlot::Known(Box::new(found.clone()));
            }
            // Two readings at once may straddle a commit; the later state is the truth.
            (CacheSlot::Known(known), Some(found)) if found.sequence > known.sequence => {
                *slot = CacheSlot::Known(Box::new(found.clone()));
            }
            (CacheSlot::Reading(number), None) if *number == reading.0 => {
                slots.by_id.remove(&id);
            }
            _ => {}
        }
    }

    /// These have changed.
    pub(crate) fn forget(&self, ids: impl IntoIterator<Item = OperationId>) {
        let mut slots = self.lock();
        for id in ids {
            slots.by_id.remove(&id);
        }
    }

    /// Anything may have changed.
    pub(crate) fn forget_all(&self) {
        self.lock().by_id.clear();
    }

    fn lock(&self) -> MutexGuard<'_, CacheSlots> {
        // Each change leaves the map whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
