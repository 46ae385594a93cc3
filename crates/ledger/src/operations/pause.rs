//! Paused queues.

use async_trait::async_trait;

use crate::commit::transaction::{Transaction, on_either};
use crate::commit::verb::{Surroundings, Verb};
use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::model::Pausing;
use crate::rows::text;
use crate::state::Shared;
use crate::store::Batch;
use crate::webhooks::sql::{Params, SqlReader, SqlTransaction, one};

statements! {
    const PAUSED: &str = r"
        INSERT INTO paused_queues (queue, paused_at)
        VALUES ($1, $2)
        ON CONFLICT (queue) DO NOTHING
        RETURNING queue";

    const ALL: &str = r"SELECT queue FROM paused_queues";
    const RESUMED: &str = r"DELETE FROM paused_queues WHERE queue = $1 RETURNING queue";
}

/// Pauses a queue or resumes it; its output is false if it was so before.
pub(crate) struct Pause {
    /// Which queue, and which of both.
    pub(crate) wish: Pausing,
}

#[async_trait]
impl Verb for Pause {
    type Output = bool;

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        _around: &mut Surroundings<'_>,
    ) -> Result<bool, LedgerError> {
        on_either!(transaction, writing => pause(&mut **writing, &self.wish).await)
    }

    fn announce(&self, _output: &bool, shared: &Shared) {
        shared.paused.set(&self.wish.queue, self.wish.paused);
        shared.work.notify_one();
    }
}

async fn pause(writing: &mut impl SqlTransaction, wish: &Pausing) -> Result<bool, LedgerError> {
    let queue = Params::none().text(wish.queue.clone());
    let changed = if wish.paused {
        one(writing, PAUSED, queue.at(wish.at)).await?
    } else {
        one(writing, RESUMED, queue).await?
    };
    Ok(changed.is_some())
}

/// The queues that are paused.
pub(crate) async fn paused(reader: &impl SqlReader) -> Batch<String> {
    let rows = reader.ask(ALL.into(), Params::none()).await?;
    rows.iter().map(|row| Ok(text(row, "queue")?.to_owned())).collect()
}
