//! What former incarnations of this gateway held when they ended.
//!
//! Owns the first thing that an engine does: end those attempts as lost, so that what may
//! be repeated is repeated at once, and the rest says that its outcome is unknown.

use std::time::Duration;

use futures_util::future::join_all;

use super::Shared;
use super::ending::{self, Ended};
use crate::domain::operation::{ErrorCode, Next, Outcome};
use crate::ledger::{Dead, Leased};

/// How many are taken over together.
const BATCH: usize = 256;
const BACK_OFF: Duration = Duration::from_secs(1);

/// Takes all over, or as many as there are before the tasks drain.
pub(super) async fn run(shared: &Shared) {
    let (mut taken, mut unknown) = (0, 0);
    let dead: Vec<_> = shared
        .ledger
        .dead_at_open()
        .into_iter()
        .map(|incarnation| Dead { incarnation, beat: None })
        .collect();
    while !shared.tasks.is_draining() {
        match shared.ledger.claim_orphans(dead.clone(), BATCH, shared.clock.now()).await {
            Ok(orphans) if orphans.is_empty() => break,
            Ok(orphans) => {
                taken += orphans.len();
                let ends = join_all(orphans.iter().map(|orphan| end(shared, orphan))).await;
                unknown += ends.iter().filter(|next| is_unknown(next)).count();
            }
            Err(error) => {
                tracing::warn!(%error, "nothing could be taken over; trying again in a second");
                shared.pause(BACK_OFF).await;
            }
        }
    }
    tell(taken, unknown);
}

fn tell(taken: usize, unknown: usize) {
    let rescued = taken - unknown;
    if unknown > 0 {
        tracing::warn!(
            rescued,
            unknown,
            "took over what ran when the gateway ended; see those whose outcome is unknown with \
             `cloakroom ops list --status failed`"
        );
    } else if taken > 0 {
        tracing::info!(rescued, unknown, "took over what ran when the gateway ended");
    }
}

fn is_unknown(next: &Next) -> bool {
    matches!(next, Next::Failed(failure) if failure.code == ErrorCode::OutcomeUnknown)
}

async fn end(shared: &Shared, orphan: &Leased) -> Next {
    let outcome = if orphan.cancel_asked { Outcome::Canceled } else { Outcome::Lost };
    ending::commit(shared, orphan, Ended::of(outcome)).await
}
