//! The gateway's own jobs, as the engine carries them out.

use futures_util::future::BoxFuture;

use crate::engine::{Job, Jobs, Step, Stepped};
use crate::webhooks::{REPLAY, Replay, ReplayStepped};
use cloakroom_ledger::{Ledger, LedgerError};

/// The queue that jobs lie in.
pub(super) const QUEUE: &str = "default";

/// Every job there is.
pub(super) fn jobs(ledger: &Ledger) -> Jobs {
    Jobs::default().with(REPLAY, Replay::of(ledger.clone()))
}

impl Job for Replay {
    fn step<'a>(&'a self, step: Step<'a>) -> BoxFuture<'a, Result<Stepped, LedgerError>> {
        Box::pin(async move {
            let Step { arguments, cursor, accepted_at, now } = step;
            Ok(match Self::step(self, arguments, cursor, accepted_at, now).await? {
                ReplayStepped::Done { result } => Stepped::Done { result },
                ReplayStepped::Refused { result } => Stepped::Refused { status: 422, result },
                ReplayStepped::More { cursor, replayed } => Stepped::More {
                    cursor,
                    percent: None,
                    message: Some(format!("{replayed} deliveries go out once more")),
                },
            })
        })
    }
}
