//! The writer of a large response body into the ledger.
//!
//! Owns the chunks of one body until a settlement refers to them. Its invariant: however reading ends
//! (complete, broken off, too late, canceled), no chunk stays behind that no settlement refers to. A
//! killed process leaves some; the next start removes them.

use super::EngineContext;
use super::ledger_write;
use cloakroom_domain::operation::{BodyKey, OperationBody};
use cloakroom_ledger::{LedgerError, Piece};

/// The chunks of a body that is being read.
pub(super) struct BodyWriter<'a> {
    engine: &'a EngineContext,
    key: BodyKey,
    has_chunks: bool,
}

impl<'a> BodyWriter<'a> {
    /// A writer of chunks under this key.
    pub(super) const fn new(engine: &'a EngineContext, key: BodyKey) -> Self {
        Self { engine, key, has_chunks: false }
    }

    /// Writes a chunk, as soon as the ledger takes it.
    pub(super) async fn write(&mut self, piece: Piece) -> Result<(), LedgerError> {
        self.has_chunks = true;
        ledger_write::write(self.engine, || self.engine.ledger.stash(vec![piece.clone()])).await
    }

    /// Keeps the chunks: the body is complete, and the settlement refers to them.
    pub(super) fn keep(mut self) {
        self.has_chunks = false;
    }
}

impl Drop for BodyWriter<'_> {
    fn drop(&mut self) {
        if self.has_chunks {
            discard_chunks(self.engine, self.key);
        }
    }
}

/// Discards a complete body that is not kept.
pub(super) fn discard_body(engine: &EngineContext, body: &OperationBody) {
    if let OperationBody::Chunked { key, .. } = body {
        discard_chunks(engine, *key);
    }
}

fn discard_chunks(engine: &EngineContext, key: BodyKey) {
    let ledger = engine.ledger.clone();
    engine.tasks.spawn_until_cut(async move {
        if let Err(error) = ledger.discard(key).await {
            tracing::debug!(%error, "pieces of an answer delay_leave until the next start");
        }
    });
}
