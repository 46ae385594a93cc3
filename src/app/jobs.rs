//! The gateway's own jobs, registered with the engine.

use futures_util::future::BoxFuture;

use crate::engine::{Job, JobStep, JobStepResult, Jobs};
use crate::webhooks::{REPLAY, ReplayJob, ReplayProgress};
use cloakroom_ledger::{Ledger, LedgerError};

/// The queue that jobs lie in.
pub(super) const QUEUE: &str = "default";

/// Every job there is.
pub(super) fn jobs(ledger: &Ledger) -> Jobs {
    Jobs::default().with(REPLAY, ReplayJob::of(ledger.clone()))
}

impl Job for ReplayJob {
    fn step<'a>(&'a self, step: JobStep<'a>) -> BoxFuture<'a, Result<JobStepResult, LedgerError>> {
        Box::pin(async move {
            let JobStep { arguments, cursor, accepted_at, now } = step;
            Ok(match Self::step(self, arguments, cursor, accepted_at, now).await? {
                ReplayProgress::Done { result } => JobStepResult::Done { result },
                ReplayProgress::Refused { result } => {
                    JobStepResult::Refused { status: 422, result }
                }
                ReplayProgress::More { cursor, replayed } => JobStepResult::More {
                    cursor,
                    percent: None,
                    message: Some(format!("{replayed} deliveries go out once more")),
                },
            })
        })
    }
}
