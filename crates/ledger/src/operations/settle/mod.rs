//! Settlement: how the ends of attempts are committed with all their effects.

pub(crate) mod postgres;
pub(crate) mod sqlite;

use crate::commit::effects::Effects;
use crate::commit::transaction::{Transaction, by_backend};
use crate::error::{LedgerError, StaleLease};
use crate::model::{SettledAs, Settlement};

/// Commits the ends of attempts with all their effects: one fate for each, in their order.
pub(crate) async fn settle(
    transaction: &mut Transaction,
    batch: &[Settlement],
    effects: &mut Effects,
) -> Result<Vec<Result<SettledAs, StaleLease>>, LedgerError> {
    by_backend!(transaction, settle(batch, effects))
}
