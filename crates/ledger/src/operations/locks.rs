//! The locks that a group of writes takes before its verbs run.

use crate::db::postgres::PgTransaction;
use crate::error::LedgerError;
use crate::model::{Acceptance, Settlement};
use crate::operations::accept::postgres as accept;
use crate::webhooks::postgres::begins_are_told;

/// Takes the locks of a group on PostgreSQL, in one order.
pub(crate) async fn prepare(
    writing: &mut PgTransaction,
    settlements: &[Settlement],
    acceptances: &[Acceptance],
    alone: bool,
) -> Result<(), LedgerError> {
    let needs_places = accept::needs_places(acceptances);
    if settlements.is_empty() && !needs_places {
        let index = writing.book.subscribers.index();
        let alone = alone && !accept::makes_callbacks(acceptances);
        if alone && !begins_are_told(&index, acceptances) {
            writing.go_alone(index.version);
        }
        return Ok(());
    }
    // Of those that would go on too: one that was called off ends.
    let held = settlements.iter().filter_map(|settlement| settlement.lease.serial);
    let digests = held.chain(accept::serial_digests(acceptances)).collect();
    let places = if needs_places { acceptances.len() } else { 0 };
    writing.prepare(digests, places).await
}
