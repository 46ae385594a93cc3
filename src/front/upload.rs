//! Pieces of a request's body in the ledger, until an operation refers to them.
//!
//! Owns their removal. Its invariant: however a request ends before its operation is written
//! down (refused, gone, dropped half way), none of its pieces stays. A killed process leaves
//! some; the ledger sweeps those.

use crate::domain::operation::BodyKey;
use crate::ledger::Ledger;
use crate::lifecycle::Tasks;

/// The pieces of a body that no operation refers to yet.
pub(super) struct Upload {
    key: BodyKey,
    ledger: Ledger,
    tasks: Tasks,
    is_referred_to: bool,
}

impl Upload {
    /// For the pieces under this name.
    pub(super) fn under(key: BodyKey, ledger: &Ledger, tasks: &Tasks) -> Self {
        Self { key, ledger: ledger.clone(), tasks: tasks.clone(), is_referred_to: false }
    }

    /// The operation has been written down with its body.
    pub(super) fn hand_on(mut self) {
        self.is_referred_to = true;
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.is_referred_to {
            return;
        }
        let (ledger, key) = (self.ledger.clone(), self.key);
        self.tasks.spawn_until_cut(async move {
            if let Err(error) = ledger.discard(key).await {
                tracing::debug!(%error, "pieces of a request stay until the ledger is swept");
            }
        });
    }
}
