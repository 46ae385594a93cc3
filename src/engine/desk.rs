//! Where the ledger hands new operations over.
//!
//! Owns the refusal of what must not start at once: while draining or without a confirmed
//! beat, in a queue that is paused or another node's, for an upstream that is down or not
//! configured, beyond a limit, or ahead of others who wait for the same slot.

use std::sync::{Arc, Weak};

use super::holdings::Asked;
use super::permits::{Permit, Purpose};
use super::{Shared, executor};
use cloakroom_domain::operation::Lane;
use cloakroom_ledger::{Desk, Leased, Reservation};

/// The engine's desk. It holds the engine weakly: the ledger keeps the desk, and the
/// engine the ledger, so otherwise neither would ever end.
pub(super) struct EngineDesk(pub(super) Weak<Shared>);

struct Slot {
    shared: Arc<Shared>,
    permit: Permit,
    asked: Asked,
}

impl Desk for EngineDesk {
    fn reserve(&self, lane: &Lane, overtakes: bool) -> Option<Box<dyn Reservation>> {
        let shared = self.0.upgrade()?;
        // Whoever is overtaken there waits for as long as a token takes to come, not a slot.
        if overtakes && shared.permits.has_rate(lane) {
            return None;
        }
        let asked = shared.holdings.ask();
        let begins = shared.pulse.may_begin() && shared.is_claimed(lane);
        if shared.tasks.is_draining() || !begins {
            return None;
        }
        let purpose = if lane.express { Purpose::OnTheLine } else { Purpose::HandedOver };
        let permit = shared.permits.take(lane, purpose, shared.clock.now());
        if permit.is_err() {
            // A part of it was out for a moment, which others may have been refused.
            shared.permits.given_up();
        }
        let permit = permit.ok()?;
        Some(Box::new(Slot { shared, permit, asked }))
    }
}

impl Reservation for Slot {
    fn start(self: Box<Self>, leased: Leased) {
        let Self { shared, permit, asked } = *self;
        executor::start(&shared, leased, Some(permit));
        drop(asked);
    }
}
