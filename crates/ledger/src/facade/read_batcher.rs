//! Reads in groups: callers that ask for operations while a read is in flight share the
//! next one.
//!
//! Owns the queue of questions. Polls are by far the most frequent requests, and a
//! statement about thirty operations costs little more than one about a single one.
//! Nothing waits for a timer, and every answer is read after its question was asked.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::error::LedgerError;
use crate::model::Operation;
use crate::operations::read;
use crate::state::Shared;
use crate::store::on_store;
use cloakroom_domain::OperationId;

/// The most operations in one statement.
const GROUP: usize = 64;
/// Questions that wait; more make their askers wait.
const QUEUE: usize = 4096;

pub(crate) struct PendingRead {
    id: OperationId,
    tell: oneshot::Sender<Result<Option<Operation>, LedgerError>>,
}

/// Takes questions in.
pub(crate) type ReadBatcher = mpsc::Sender<PendingRead>;

pub(crate) fn queue() -> (ReadBatcher, mpsc::Receiver<PendingRead>) {
    mpsc::channel(QUEUE)
}

/// Asks for one operation.
pub(crate) async fn find(
    questions: &ReadBatcher,
    id: OperationId,
) -> Result<Option<Operation>, LedgerError> {
    let gone = || LedgerError::Unavailable("the gateway is stopping".to_owned());
    let (tell, told) = oneshot::channel();
    questions.send(PendingRead { id, tell }).await.map_err(|_| gone())?;
    told.await.map_err(|_| gone())?
}

/// Answers until the last caller is gone.
pub(crate) async fn run(shared: Arc<Shared>, mut questions: mpsc::Receiver<PendingRead>) {
    let mut group = Vec::with_capacity(GROUP);
    while questions.recv_many(&mut group, GROUP).await > 0 {
        let ids: Vec<_> = group.iter().map(|question| question.id).collect();
        let found = found(&shared, &ids).await;
        for (question, answer) in group.drain(..).zip(found) {
            // The caller may have gone away.
            let _ = question.tell.send(answer);
        }
    }
}

/// What is found of each of these. One that cannot be read fails alone.
async fn found(
    shared: &Shared,
    ids: &[OperationId],
) -> Vec<Result<Option<Operation>, LedgerError>> {
    let error = match on_store!(&shared.store, reader => read::find(reader, ids).await) {
        Ok(operations) => return operations.into_iter().map(Ok).collect(),
        Err(error) => error,
    };
    if ids.len() == 1 || !error.is_about_a_row() {
        return ids.iter().map(|_| Err(error.clone())).collect();
    }
    let mut each = Vec::with_capacity(ids.len());
    for id in ids {
        let found = on_store!(&shared.store, reader => read::find(reader, &[*id]).await);
        each.push(found.map(|found| found.into_iter().next().flatten()));
    }
    each
}
