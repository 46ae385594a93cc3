//! Large bodies, written in chunks before the write that refers to them.

use async_trait::async_trait;
use bytes::Bytes;

use cloakroom_domain::Timestamp;
use cloakroom_domain::operation::BodyKey;
use cloakroom_domain::pruning::MOST_OCTETS;

use crate::commit::transaction::Transaction;
use crate::commit::verb::{Surroundings, Verb};
use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::model::Piece;
use crate::rows;
use crate::webhooks::sql::{Params, SqlReader, ask_one};

statements! {
    const PIECE: &str = r"SELECT octets FROM pieces WHERE body = $1 AND number = $2";
}

/// Writes chunks of large bodies.
pub(crate) struct WriteChunks {
    /// The chunks.
    pub(crate) chunks: Vec<Piece>,
    /// Now.
    pub(crate) now: Timestamp,
}

#[async_trait]
impl Verb for WriteChunks {
    type Output = ();

    fn octets(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.octets.len() as u64).sum()
    }

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        _around: &mut Surroundings<'_>,
    ) -> Result<Self::Output, LedgerError> {
        match transaction {
            Transaction::Sqlite(writing) => {
                crate::operations::accept::sqlite::stash(writing, &self.chunks, self.now)
            }
            Transaction::Postgres(writing) => {
                crate::operations::accept::postgres::stash(writing, &self.chunks, self.now).await
            }
        }
    }
}

/// Deletes the chunks of a body, if no row refers to it.
pub(crate) struct DiscardBody {
    /// The body.
    pub(crate) body: BodyKey,
}

#[async_trait]
impl Verb for DiscardBody {
    type Output = ();

    fn octets(&self) -> u64 {
        // As much as goes at once.
        MOST_OCTETS
    }

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        _around: &mut Surroundings<'_>,
    ) -> Result<Self::Output, LedgerError> {
        match transaction {
            Transaction::Sqlite(writing) => {
                crate::operations::prune::sqlite::erase_pieces(writing, self.body.0)
            }
            Transaction::Postgres(writing) => {
                crate::operations::prune::postgres::erase_pieces(writing, vec![self.body.0]).await
            }
        }
    }
}

/// One chunk of a large body.
pub(crate) async fn chunk(
    reader: &impl SqlReader,
    body: BodyKey,
    number: u32,
) -> Result<Option<Bytes>, LedgerError> {
    let params = Params::number(body.0).and(i64::from(number));
    let row = ask_one(reader, PIECE, params).await?;
    row.as_ref().map(|row| rows::piece(row, body, number, reader.sealer())).transpose()
}
