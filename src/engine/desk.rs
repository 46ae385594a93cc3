//! Where the ledger hands new operations over.
//!
//! Owns the refusal of what must not start at once: while draining or without a confirmed
//! beat, in a queue that is paused or another node's, for an upstream without a free slot
//! or without configuration.

use std::sync::{Arc, Weak};

use super::permits::{Permit, Purpose};
use super::{Shared, executor};
use crate::domain::operation::Lane;
use crate::ledger::{Desk, Leased, Reservation};

/// The engine's desk. It holds the engine weakly: the ledger keeps the desk, and the
/// engine the ledger, so otherwise neither would ever end.
pub(super) struct EngineDesk(pub(super) Weak<Shared>);

struct Slot {
    shared: Arc<Shared>,
    permit: Permit,
}

impl Desk for EngineDesk {
    fn reserve(&self, lane: &Lane) -> Option<Box<dyn Reservation>> {
        let shared = self.0.upgrade()?;
        let begins = shared.pulse.may_begin() && shared.is_claimed(lane);
        if shared.tasks.is_draining() || !begins {
            return None;
        }
        let permit = shared.permits.take(&lane.upstream, Purpose::First)?;
        Some(Box::new(Slot { shared, permit }))
    }
}

impl Reservation for Slot {
    fn start(self: Box<Self>, leased: Leased) {
        let Self { shared, permit } = *self;
        executor::start(&shared, leased, Some(permit));
    }
}
