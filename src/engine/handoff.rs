//! Hand-off: the ledger gives a new operation straight to this node.
//!
//! Owns the refusals: while draining; without a valid node lease; in a queue that is paused or that
//! another node works on; for an upstream that is down or not configured; beyond a limit; and ahead of
//! operations that wait for the same slot.

use std::sync::{Arc, Weak};

use super::in_flight::PendingClaim;
use super::permits::{Permit, PermitPurpose};
use super::{EngineContext, executor};
use cloakroom_domain::operation::Lane;
use cloakroom_ledger::{Desk, Leased, Reservation};

/// The slots of the engine. It refers to the engine weakly: the ledger keeps this provider, and
/// the engine keeps the ledger, so otherwise neither would ever end.
pub(super) struct EngineSlotProvider(pub(super) Weak<EngineContext>);

struct ReservedSlot {
    engine: Arc<EngineContext>,
    permit: Permit,
    claiming: PendingClaim,
}

impl Desk for EngineSlotProvider {
    fn reserve(&self, lane: &Lane, overtakes: bool) -> Option<Box<dyn Reservation>> {
        let engine = self.0.upgrade()?;
        // There an overtaken operation waits for a token, which may take long, not for a slot.
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
