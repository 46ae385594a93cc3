//! Maintenance: reconciling, and sealing anew.

use crate::Ledger;
use crate::cluster::SweepOnce;
use crate::error::LedgerError;
use crate::model::{KeyListing, SerialName};
use crate::operations::Reconcile;
use crate::operations::reconcile::findings::{BATCH, Cursor, SILENCE, Step, Sweep};
use crate::operations::reseal::{ResealCursor, ResealOnce, Resealed};
use crate::operations::sealing_keys::ForgetKeys;
use cloakroom_domain::Timestamp;
use cloakroom_domain::reconcile::{Discrepancy, DiscrepancyReport, OrphanRow};
use cloakroom_domain::sealing::KeyId;

impl Ledger {
    /// Looks through the whole ledger for what does not add up, and repairs what is safe
    /// if told to. Running twice at once does no harm.
    pub async fn reconcile(
        &self,
        repair: bool,
        now: Timestamp,
    ) -> Result<DiscrepancyReport, LedgerError> {
        let mut report = DiscrepancyReport { repaired: repair, ..DiscrepancyReport::default() };
        let mut next = Some(Cursor::Operations(0));
        while let Some(cursor) = next {
            let step = Step { cursor, repair, now };
            let stepped = self.submit(Reconcile { step }).await?;
            report.add(stepped.strays);
            report.looked_at += stepped.looked_at;
            next = stepped.next;
        }
        self.sweep(&mut report, now).await?;
        self.recount(&mut report).await?;
        let mut listing = KeyListing { blocked: true, after: None, limit: BATCH as usize };
        loop {
            let keys = self.keys(listing).await?;
            let stray =
                |name: SerialName| OrphanRow { kind: Discrepancy::Blocked, name: name.to_string() };
            report.add(keys.iter().map(|key| stray(key.name)));
            match keys.next() {
                Some(next) => listing.after = Some(next),
                None => return Ok(report),
            }
        }
    }

    /// Sees to what nodes have left that are gone.
    async fn sweep(
        &self,
        report: &mut DiscrepancyReport,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let dead = self.shared.dead().iter().map(|dead| dead.incarnation).collect();
        let (silent_since, repair) = (now - SILENCE, report.repaired);
        let mut sweep = Sweep { behind: None, dead, silent_since, repair };
        loop {
            let swept = self.submit(SweepOnce { sweep: sweep.clone() }).await?;
            report.add(swept.strays);
            match swept.next {
                Some(next) => sweep.behind = Some(next),
                None => return Ok(()),
            }
        }
    }
}

impl Ledger {
    /// Seals the next of a walk with the key that seals; a few, so that others go on.
    pub async fn reseal(&self, cursor: ResealCursor) -> Result<Resealed, LedgerError> {
        let resealed = self.submit(ResealOnce { cursor }).await?;
        if resealed.resealed > 0 {
            self.shared.snapshots.forget_all();
        }
        Ok(resealed)
    }
}

impl Ledger {
    /// Forgets keys that nothing lies under, after a walk that began then and found nothing.
    /// Brings those that other nodes still seal with, or did too short a time ago.
    pub async fn forget_keys(&self, began: Timestamp) -> Result<Vec<KeyId>, LedgerError> {
        self.submit(ForgetKeys { began }).await
    }
}
