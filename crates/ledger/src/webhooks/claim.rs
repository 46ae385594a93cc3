//! The claim of due deliveries.

use async_trait::async_trait;

use crate::commit::transaction::{Transaction, on_either};
use crate::commit::verb::{Grouping, Surroundings, Verb};
use crate::error::LedgerError;
use crate::webhooks::model::{ClaimedDeliveries, DeliveryWant};
use crate::webhooks::sql::SqlTransaction;
use cloakroom_domain::Timestamp;

/// Hands out due deliveries; its outputs are in the order of the wants.
pub(crate) struct ClaimDeliveries {
    pub(crate) wants: Vec<DeliveryWant>,
    pub(crate) now: Timestamp,
}

#[async_trait]
impl Verb for ClaimDeliveries {
    type Output = Vec<ClaimedDeliveries>;

    fn grouping(&self, is_shared: bool) -> Grouping {
        // A single statement changes nothing that others in its transaction go by; where others
        // write too, it is better off by itself all the same.
        if is_shared { Grouping::First } else { Grouping::Together }
    }

    fn is_single(&self) -> bool {
        true
    }

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        _around: &mut Surroundings<'_>,
    ) -> Result<Self::Output, LedgerError> {
        on_either!(transaction, writing => writing.claim_deliveries(&self.wants, self.now).await)
    }
}
