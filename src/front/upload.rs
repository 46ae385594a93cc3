//! Uploads: chunks of a request's body in the ledger, until an operation refers to them.
//!
//! Owns their removal. Its invariant: however a request ends before its operation is written
//! down (refused, gone, dropped half way), none of its pieces stays, and pieces that an operation
//! may refer to are never removed. A killed process leaves some; the ledger sweeps those.

use tokio::sync::oneshot;

use cloakroom_domain::operation::{BodyKey, NewOperation};
use cloakroom_ledger::{Accepted, FirstCallback, Ledger, LedgerError};
use cloakroom_runtime::lifecycle::Tasks;

/// The pieces of a body that no operation refers to yet.
pub(super) struct Upload {
    key: BodyKey,
    ledger: Ledger,
    tasks: Tasks,
    may_be_referred_to: bool,
}

impl Upload {
    /// For the pieces under this name.
    pub(super) fn under(key: BodyKey, ledger: &Ledger, tasks: &Tasks) -> Self {
        Self { key, ledger: ledger.clone(), tasks: tasks.clone(), may_be_referred_to: false }
    }

    /// Writes the operation down whose body the pieces are.
    ///
    /// That goes on when the client goes away meanwhile: only its end tells whether there is an
    /// operation that refers to them. An error leaves that open.
    pub(super) async fn accept(
        mut self,
        operation: NewOperation,
        first: Option<FirstCallback>,
    ) -> Result<Accepted, LedgerError> {
        let (tell, told) = oneshot::channel();
        let tasks = self.tasks.clone();
        tasks.spawn_until_cut(async move {
            self.may_be_referred_to = true;
            let accepted = self.ledger.accept_calling_back(operation, first).await;
            self.may_be_referred_to = matches!(accepted, Ok(Accepted::New(_)) | Err(_));
            drop(self);
            // No receiver is left where the client has gone away.
            let _ = tell.send(accepted);
        });
        let stopped = || Err(LedgerError::Unavailable("the gateway is stopping".to_owned()));
        told.await.unwrap_or_else(|_| stopped())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.may_be_referred_to {
            return;
        }
        let (ledger, key) = (self.ledger.clone(), self.key);
        self.tasks.spawn_until_cut(async move {
            if let Err(error) = ledger.discard(key).await {
                tracing::debug!(%error, "chunks of a request body stay until the ledger is swept");
            }
        });
    }
}
