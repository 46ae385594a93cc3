//! This node's part of the limits that all nodes of the ledger share.
//!
//! Owns when it asks for more and gives back: at its start; with each beat while others are
//! there; when something is refused that they may have, or when they want what it has, but
//! seldom more often than ten times a second. Who is alone asks once. Its invariant: what
//! is used was granted before, and what is given back is not used any more. It must not
//! know how a limit is divided.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Shared;
use super::nodes::{self, Findings};
use cloakroom_domain::fleet::BEATS_A_LEASE;
use cloakroom_ledger::{Divided, LedgerError};

/// The least time between two asks.
const SPARING: Duration = Duration::from_millis(100);

/// What the last answer leaves to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Outlook {
    /// How soon to ask again by itself, if at all before the next beat.
    again: Option<Duration>,
    /// More is held than may be used: it is given back as it becomes free.
    in_debt: bool,
}

impl Outlook {
    /// What these shares leave to be done, after an outlook that had not changed until now.
    /// Whoever is owed something asks ever more seldom.
    fn after(self, divided: &[Divided], longest: Duration) -> Self {
        let mut shares = divided.iter().map(|divided| divided.share);
        let in_debt = shares.clone().any(|share| share.holds > share.may);
        let owed = shares.any(|share| share.owed);
        let again = (in_debt || owed).then(|| match self.again {
            Some(before) => (before * 2).min(longest),
            None => SPARING,
        });
        Self { again, in_debt }
    }
}

/// Asks whenever there is a reason to, until nothing runs here any more.
pub(super) async fn run(shared: Arc<Shared>, mut beaten: watch::Receiver<Findings>) {
    let longest = shared.settings.node.lease / BEATS_A_LEASE;
    let (mut outlook, mut fresh) = (Outlook::default(), true);
    loop {
        match ask(&shared, fresh, outlook, longest).await {
            Ok(after) => (outlook, fresh) = (after, false),
            Err(error) => {
                tracing::debug!(%error, "could not ask for permits; trying again");
                outlook.again = Some(longest);
            }
        }
        tokio::select! {
            () = nodes::over(&shared) => return,
            () = shared.clock.sleep(SPARING) => {}
        }
        tokio::select! {
            () = nodes::over(&shared) => return,
            heard = reason(&shared, &mut beaten, outlook) => if heard { outlook.again = None },
        }
    }
}

/// Completes when there is a reason to ask. Whether it is news.
async fn reason(shared: &Shared, beaten: &mut watch::Receiver<Findings>, outlook: Outlook) -> bool {
    let by_itself = async {
        match outlook.again {
            Some(again) => shared.clock.sleep(again.saturating_sub(SPARING)).await,
            None => std::future::pending().await,
        }
    };
    let beat = async {
        while beaten.changed().await.is_ok() {
            let company = beaten.borrow_and_update().company;
            if company || outlook.in_debt || !shared.permits.is_whole() {
                return;
            }
        }
        std::future::pending::<()>().await;
    };
    let short = async {
        shared.permits.short().await;
        // It may have been before the last answer.
        while shared.permits.is_whole() {
            shared.permits.short().await;
        }
    };
    tokio::select! {
        () = by_itself => false,
        () = beat => true,
        () = short => true,
        () = shared.ledger.permits_stirred() => true,
    }
}

/// Asks once, and takes what is granted.
async fn ask(
    shared: &Shared,
    fresh: bool,
    outlook: Outlook,
    longest: Duration,
) -> Result<Outlook, LedgerError> {
    let now = shared.clock.now();
    metrics::counter!("cloakroom_permits_asked_total").increment(1);
    let stakes = shared.permits.stakes(now);
    let divided = shared.ledger.divide(stakes.asked.clone(), now).await?;
    // After it was granted: who has left since says so first.
    let emptied = if fresh { Some(shared.ledger.emptied(now).await?) } else { None };
    shared.permits.grant(&stakes, &divided, emptied.as_ref(), shared.clock.now());
    Ok(outlook.after(&divided, longest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloakroom_domain::Timestamp;
    use cloakroom_domain::division::{Kind, Share};
    use cloakroom_ledger::LimitName;

    const LONGEST: Duration = Duration::from_secs(3);

    fn divided(may: u64, holds: u64, owed: bool) -> [Divided; 1] {
        let since = Timestamp::EPOCH;
        let share = Share { limit: 9, may, holds, since, owed, stirs: false, alone: false };
        [Divided { of: LimitName { kind: Kind::QueueInFlight, name: "q".into() }, share }]
    }

    #[test]
    fn who_is_owed_asks_again_soon_and_then_ever_more_seldom() {
        let mut outlook = Outlook::default();
        let mut pauses = Vec::new();
        for _ in 0..7 {
            outlook = outlook.after(&divided(1, 1, true), LONGEST);
            pauses.push(outlook.again.unwrap().as_millis());
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3000, 3000]);
        assert_eq!(outlook.after(&divided(9, 9, false), LONGEST), Outlook::default());
    }

    #[test]
    fn who_holds_more_than_it_may_use_comes_back_to_give_it() {
        let outlook = Outlook::default().after(&divided(1, 2, false), LONGEST);
        assert!(outlook.in_debt && outlook.again == Some(SPARING));
    }
}
