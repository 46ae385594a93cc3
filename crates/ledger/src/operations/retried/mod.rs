//! Chains of repeats by hand: which of their operations stand in the way of one more.
//!
//! Owns what is asked of the ledger about a chain, which both engines ask. The rule: whatever
//! repeats the operation itself, or one that it repeats, directly or through others, and has
//! not failed and was not canceled. Its asker sees to it that nothing joins the chain meanwhile.

use crate::db::statements::statements;

pub(crate) mod postgres;
pub(crate) mod sqlite;

use cloakroom_domain::OperationId;

statements! {
    /// An operation and those that it repeats, up to the first of the chain.
    pub(crate) const FORMER: &str = r"
        WITH RECURSIVE up (id, retry_of) AS (
            SELECT id, retry_of
            FROM operations
            WHERE id = $1
            UNION
            SELECT o.id, o.retry_of
            FROM up
            JOIN operations o ON o.id = up.retry_of
        )
        SELECT id
        FROM up";

    /// The newest operation of its chain that stands in the way of repeating one.
    pub(crate) const STANDING: &str = r"
        WITH RECURSIVE up (id, retry_of) AS (
            SELECT id, retry_of
            FROM operations
            WHERE id = $1
            UNION
            SELECT o.id, o.retry_of
            FROM up
            JOIN operations o ON o.id = up.retry_of
        ), down (seq, id) AS (
            SELECT o.seq, o.id
            FROM up
            JOIN operations o ON o.retry_of = up.id
            UNION
            SELECT o.seq, o.id
            FROM down
            JOIN operations o ON o.retry_of = down.id
        )
        SELECT down.id
        FROM down
        WHERE down.id NOT IN (SELECT id FROM up)
            AND coalesce((SELECT x.state FROM outcomes x WHERE x.seq = down.seq),
                'succeeded') = 'succeeded'
        ORDER BY down.seq DESC
        LIMIT 1";
}

/// The first operation of a chain; `of` itself where it repeats none that is still there. Ids
/// begin with their time.
pub(crate) fn origin(former: &[OperationId], of: OperationId) -> OperationId {
    former.iter().copied().min().unwrap_or(of)
}
