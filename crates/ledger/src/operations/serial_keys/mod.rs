//! Serial keys: releasing the operations that wait for one.

pub(crate) mod postgres;
pub(crate) mod sqlite;

use async_trait::async_trait;

use cloakroom_domain::Timestamp;

use crate::commit::transaction::{Transaction, by_backend};
use crate::commit::verb::{Grouping, Surroundings, Verb};
use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::model::{KeyInUse, KeyListing, SerialName, Unblocked};
use crate::page::Listed;
use crate::rows;
use crate::store::{Store, read_by_backend};
use crate::webhooks::sql::{Params, SqlReader};

macro_rules! keys {
    ($from:literal) => {
        concat!(
            r"
            SELECT k.digest, o.id AS holder, coalesce(b.serial_key,
                o.serial_key) AS key_text, coalesce(b.upstream, l.upstream) AS upstream,
                b.operation AS blocked_by, b.blocked_at, (
                SELECT count(*)
                FROM (
                    SELECT 1
                    FROM waiting w
                    WHERE w.serial_digest = k.digest AND w.turn_at IS NULL
                    UNION ALL
                    SELECT 1
                    FROM waiting w
                    WHERE w.serial_digest = k.digest AND w.turn_at IS NOT NULL
                    LIMIT 1000
                ) AS counted
            ) AS waiting ",
            $from,
            r"
            LEFT JOIN operations o ON o.seq = k.seq
            LEFT JOIN lanes l ON l.lane = o.lane
            WHERE k.digest > $1
            ORDER BY k.digest
            LIMIT $2"
        )
    };
}

statements! {
    const ALL: &str = keys!("FROM serial_keys k LEFT JOIN blocked_keys b ON b.digest = k.digest AND b.seq = k.seq");
    const ONLY_BLOCKED: &str = keys!("FROM blocked_keys b JOIN serial_keys k ON k.digest = b.digest AND k.seq = b.seq");
}

/// Releases operations whose delay is over: each to `ready` where its serial key is free and its
/// turn has come, and behind the key's holder otherwise. Its output is how many delays were over.
pub(crate) struct ReleaseDelayed {
    /// How many at most.
    pub(crate) limit: usize,
    /// Now.
    pub(crate) now: Timestamp,
}

#[async_trait]
impl Verb for ReleaseDelayed {
    type Output = usize;

    fn grouping(&self, _is_shared: bool) -> Grouping {
        Grouping::Last
    }

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        around: &mut Surroundings<'_>,
    ) -> Result<Self::Output, LedgerError> {
        by_backend!(transaction, release_delayed(self.limit, self.now, around.effects))
    }
}

/// Releases the next operation of a serial key that a failure blocks.
pub(crate) struct Release {
    /// The key.
    pub(crate) name: SerialName,
    /// Now.
    pub(crate) now: Timestamp,
}

#[async_trait]
impl Verb for Release {
    type Output = Unblocked;

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        around: &mut Surroundings<'_>,
    ) -> Result<Self::Output, LedgerError> {
        by_backend!(transaction, unblock(self.name, self.now, around.effects))
    }
}

/// Whether the delay of an operation with a serial key is over.
pub(crate) async fn is_delay_over(store: &Store, now: Timestamp) -> Result<bool, LedgerError> {
    read_by_backend!(store, is_delay_over(now))
}

/// Serial keys that operations hold, in the order of their names.
pub(crate) async fn keys(
    reader: &impl SqlReader,
    listing: KeyListing,
) -> Result<Listed<KeyInUse, SerialName>, LedgerError> {
    let sql = if listing.blocked { ONLY_BLOCKED } else { ALL };
    let after = listing.after.map_or_else(Vec::new, |SerialName(digest)| digest.to_vec());
    let params = Params::none().octets(after).and(listing.limit as i64);
    let rows = reader.ask(sql.into(), params).await?;
    Listed::of(&rows, listing.limit, rows::key_name, rows::key_in_use)
}
