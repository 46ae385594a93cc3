//! Where the ledger hands new operations over.
//!
//! Owns the refusal of what must not start at once: while draining or without a confirmed
//! beat, in a queue that is paused or another node's, for an upstream that is down or not
//! configured, beyond a limit, or ahead of others who wait for the same slot.

use std::sync::{Arc, Weak};

use super::in_flight::PendingClaim;
use super::permits::{Permit, PermitPurpose};
use super::{EngineContext, executor};
use cloakroom_domain::operation::Lane;
use cloakroom_ledger::{Desk, Leased, Reservation};

/// The engine's desk. It holds the engine weakly: the ledger keeps the desk, and the
/// engine the ledger, so otherwise neither would ever end.
pub(super) struct EngineSlotProvider(pub(super) Weak<EngineContext>);

struct ReservedSlot {
    engine: Arc<EngineContext>,
    permit: Permit,
    claiming: PendingClaim,
}

impl Desk for EngineSlotProvider {
    fn reserve(&self, lane: &Lane, overtakes: bool) -> Option<Box<dyn Reservation>> {
        let engine = self.0.upgrade()?;
        // Whoever is overtaken there waits for as long as a token takes to come, not a slot.
        if overtakes && engine.permits.has_rate(lane) {
            return None;
        }
        let claiming = engine.in_flight.begin_claim();
        let begins = engine.node_lease.may_begin() && engine.is_claimed(lane);
        if engine.tasks.is_draining() || !begins {
            return None;
        }
        let purpose = if lane.express { PermitPurpose::Express } else { PermitPurpose::Handoff };
        let permit = engine.permits.take(lane, purpose, engine.clock.now());
        if permit.is_err() {
            // A part of it was out for a moment, which others may have been refused.
            engine.permits.wake_waiting();
        }
        let permit = permit.ok()?;
        Some(Box::new(ReservedSlot { engine, permit, claiming }))
    }
}

impl Reservation for ReservedSlot {
    fn start(self: Box<Self>, leased: Leased) {
        let Self { engine, permit, claiming } = *self;
        executor::start(&engine, leased, Some(permit));
        drop(claiming);
    }
}
