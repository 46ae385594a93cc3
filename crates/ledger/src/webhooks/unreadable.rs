//! Deliveries that are handed out and cannot be read.
//!
//! Owns what becomes of them. A damaged one is dropped; one that another node can read, because that
//! node has the key or the release, is due again a little later. Its invariant: no such delivery
//! keeps another one from being handed out.

use crate::Shared;
use crate::error::LedgerError;
use crate::operations::unreadable::again_at;
use crate::rows::{ReadRow, number};
use crate::webhooks::rows::{leased_delivery, next_token};
use crate::webhooks::{
    ClaimedDeliveries, DeliveryKey, DeliveryLease, DeliveryWant, LeasedDelivery,
};
use cloakroom_domain::Timestamp;
use cloakroom_domain::sealer::Sealer;
use cloakroom_domain::webhooks::ReceiverKey;

/// The fate of a delivery that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnreadableFate {
    /// No node can read it.
    Damaged,
    /// Another node may be able to read it.
    Left { due_at: Timestamp },
}

/// A delivery that was handed out and cannot be read.
#[derive(Clone, Debug)]
pub(crate) struct UnreadableDelivery {
    pub(super) lease: DeliveryLease,
    pub(super) fate: UnreadableFate,
    receiver: ReceiverKey,
    why: String,
    attempts: i64,
    refusals: i64,
}

/// A delivery on its way out.
pub(crate) enum HandedDelivery {
    Whole(Box<LeasedDelivery>),
    Unread(Box<UnreadableDelivery>),
}

impl HandedDelivery {
    /// From the row that was in `deliveries_due`, with what could be joined to it.
    pub(crate) fn of(
        row: &impl ReadRow,
        receiver: ReceiverKey,
        sealer: &Sealer,
        now: Timestamp,
    ) -> Result<Self, LedgerError> {
        let (fate, why) = match leased_delivery(row, receiver, sealer) {
            Ok(leased) => return Ok(Self::Whole(Box::new(leased))),
            Err(LedgerError::Damaged(why)) => (UnreadableFate::Damaged, why),
            Err(LedgerError::Sealed(why) | LedgerError::Later(why)) => {
                (UnreadableFate::Left { due_at: again_at(Some(row), now) }, why)
            }
            Err(error) => return Err(error),
        };
        let attempts = number::<i64>(row, "attempts").unwrap_or(0).clamp(0, i64::MAX - 1) + 1;
        let refusals = number::<i64>(row, "refusals").unwrap_or(0).clamp(0, attempts);
        let lease = DeliveryLease {
            delivery: DeliveryKey(number(row, "delivery")?),
            token: next_token(row).unwrap_or(1),
        };
        Ok(Self::Unread(Box::new(UnreadableDelivery {
            lease,
            fate,
            receiver,
            why,
            attempts,
            refusals,
        })))
    }

    pub(crate) fn lease(&self) -> DeliveryLease {
        match self {
            Self::Whole(leased) => leased.lease,
            Self::Unread(unread) => unread.lease,
        }
    }

    /// Attempts with this one, and refusals.
    pub(crate) fn counts(&self) -> (i64, i64) {
        match self {
            Self::Whole(leased) => (leased.attempts.into(), leased.refusals.into()),
            Self::Unread(unread) => (unread.attempts, unread.refusals),
        }
    }

    /// What a claim came to, with what it met and could not read.
    pub(crate) fn sorted(
        want: DeliveryWant,
        handed: Vec<Self>,
        next_due: Option<Timestamp>,
    ) -> ClaimedDeliveries {
        let (mut leased, mut unread) = (Vec::with_capacity(handed.len()), Vec::new());
        for handed in handed {
            match handed {
                Self::Whole(whole) => leased.push(*whole),
                Self::Unread(other) => unread.push(*other),
            }
        }
        ClaimedDeliveries { want, leased, next_due, unread }
    }
}

/// Tells of what could not be read, once its fate is durable.
pub(super) fn tell(shared: &Shared, unread: &[UnreadableDelivery]) {
    for UnreadableDelivery { lease, fate, receiver, why, .. } in unread {
        let (delivery, receiver) = (lease.delivery.0, receiver.0);
        if *fate == UnreadableFate::Damaged {
            count("dropped");
            tracing::error!(
                delivery,
                receiver,
                why,
                "a webhook delivery cannot be read and is dropped"
            );
            continue;
        }
        count("left");
        if let Some(times) = shared.strange.due(&shared.clock) {
            tracing::warn!(
                delivery,
                why,
                times,
                "a webhook delivery is left to a node that can read it; if there is none, give this \
                 one the key or the release that wrote it"
            );
        }
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("cloakroom_unreadable_deliveries_total", "outcome" => outcome).increment(1);
}
