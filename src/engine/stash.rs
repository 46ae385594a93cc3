//! Pieces of an answer in the ledger, and that they go when the answer is not kept.
//!
//! Owns the pieces of one body until a settlement refers to them. Its invariant: however
//! reading ends (whole, broken, too late, called off), no piece is left behind that
//! nothing refers to. A killed process leaves some; the next start sweeps those.

use super::Shared;
use super::insist::insist;
use cloakroom_domain::operation::{Body, BodyKey};
use cloakroom_ledger::{LedgerError, Piece};

/// The pieces of a body that is being read.
pub(super) struct Stash<'a> {
    shared: &'a Shared,
    key: BodyKey,
    begun: bool,
}

impl<'a> Stash<'a> {
    /// For pieces under this name.
    pub(super) const fn under(shared: &'a Shared, key: BodyKey) -> Self {
        Self { shared, key, begun: false }
    }

    /// Writes a piece down, as soon as the ledger takes it.
    pub(super) async fn put(&mut self, piece: Piece) -> Result<(), LedgerError> {
        self.begun = true;
        insist(self.shared, || self.shared.ledger.stash(vec![piece.clone()])).await
    }

    /// The body is whole: whoever settles the attempt answers for the pieces now.
    pub(super) fn hand_on(mut self) {
        self.begun = false;
    }
}

impl Drop for Stash<'_> {
    fn drop(&mut self) {
        if self.begun {
            discard(self.shared, self.key);
        }
    }
}

/// Lets go of a body that was whole and is not kept.
pub(super) fn let_go(shared: &Shared, body: &Body) {
    if let Body::Chunked { key, .. } = body {
        discard(shared, *key);
    }
}

fn discard(shared: &Shared, key: BodyKey) {
    let ledger = shared.ledger.clone();
    shared.tasks.spawn_until_cut(async move {
        if let Err(error) = ledger.discard(key).await {
            tracing::debug!(%error, "pieces of an answer stay until the next start");
        }
    });
}
