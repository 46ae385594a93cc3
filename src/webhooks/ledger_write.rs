//! Ledger writes that webhooks repeat until they succeed.
//!
//! Owns which errors end the attempts.

use super::{DeliveryTransport, WebhookState};
use cloakroom_ledger::LedgerError;
use cloakroom_runtime::retry_write;

/// Repeats `write` until the ledger takes it. The attempts end where another one does not help,
/// and where the ledger is away while tasks are being cut: nodes hand out again what a node that
/// is gone has left.
pub(super) async fn write<S: DeliveryTransport, T, F>(
    shared: &WebhookState<S>,
    write: impl Fn() -> F,
) -> Result<T, LedgerError>
where
    F: Future<Output = Result<T, LedgerError>>,
{
    let ends = |error: &LedgerError, is_cutting: bool| match error {
        LedgerError::NotDurable(_)
        | LedgerError::Damaged(_)
        | LedgerError::Sealed(_)
        | LedgerError::Later(_) => true,
        _ => is_cutting,
    };
    retry_write((&shared.clock, &shared.tasks), write, ends).await
}
