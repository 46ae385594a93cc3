//! The keys that seal values of the ledger.
//!
//! Owns the check at the start: a node that cannot open what lies in the ledger does not begin. Its
//! invariant: a key is forgotten only after a whole walk found nothing under it, begun when no node
//! sealed with it any more.

use async_trait::async_trait;

use crate::commit::transaction::{Transaction, on_either};
use crate::commit::verb::{Grouping, Surroundings, Verb};
use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::rows::{ReadRow, damaged, exactly};
use crate::webhooks::sql::{Params, SqlTransaction, run};
use cloakroom_domain::Timestamp;
use cloakroom_domain::sealing::{KeyId, Keyring};

statements! {
    /// Every key.
    pub(crate) const KEYS: &str = r"SELECT id FROM sealing_keys ORDER BY id";

    /// A node begins to seal with a key.
    pub(crate) const USED: &str = r"
        INSERT INTO sealing_keys (id, used_at)
        VALUES ($1, $2)
        ON CONFLICT (id) DO UPDATE SET used_at = excluded.used_at";

    /// A node without a sign of life for four leases seals nothing more.
    const FORGOTTEN: &str = r"
        DELETE FROM sealing_keys
        WHERE id <> $1 AND used_at < $2 AND NOT EXISTS (
            SELECT 1
            FROM nodes n
            WHERE n.sealing_key = sealing_keys.id
                AND n.incarnation <> $3
                AND n.beat_at + 4 * n.lease_us >= $4
                AND (n.ended_at IS NULL OR n.ended_at >= $5)
        )";
}

/// The keys in these rows.
pub(crate) fn ids(rows: &[impl ReadRow]) -> Result<Vec<KeyId>, LedgerError> {
    let id = |row| exactly(row, "id")?.ok_or_else(|| damaged("a key without an id"));
    rows.iter().map(|row| id(row).map(KeyId::from_octets)).collect()
}

/// The ids of those that are missing, for people; none where all are there.
pub(crate) fn missing(keyring: &Keyring, needed: &[KeyId]) -> Option<String> {
    let missing = needed.iter().filter(|id| !keyring.has(**id)).map(KeyId::to_string);
    let missing: Vec<_> = missing.collect();
    (!missing.is_empty()).then(|| missing.join(", "))
}

/// Forgets keys that nothing lies under, after a walk that began then and found nothing. Its output
/// is those that are left beside the one that seals.
pub(crate) struct ForgetKeys {
    pub(crate) began: Timestamp,
}

#[async_trait]
impl Verb for ForgetKeys {
    type Output = Vec<KeyId>;

    fn grouping(&self, _is_shared: bool) -> Grouping {
        Grouping::First
    }

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        _around: &mut Surroundings<'_>,
    ) -> Result<Self::Output, LedgerError> {
        on_either!(transaction, writing => forget(&mut **writing, self.began).await)
    }
}

async fn forget<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    began: Timestamp,
) -> Result<Vec<KeyId>, LedgerError> {
    let Some(current) = writing.sealer().keyring().current() else { return Ok(Vec::new()) };
    let given = Params::none().octets(current.as_octets().to_vec()).at(began);
    let given = given.and(writing.node()).at(began).at(began);
    run(writing, FORGOTTEN, given).await?;
    let mut left = ids(&writing.rows(KEYS.into(), Params::none()).await?)?;
    left.retain(|id| *id != current);
    Ok(left)
}
