//! The division of limits on SQLite: the only node that has the file gets all.

use crate::cluster::limits::shares::{Asking, Divided, LimitName, Part, decide};
use crate::db::sqlite::SqliteTransaction;
use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::store::Batch;
use cloakroom_domain::Timestamp;

statements! {
    const PARTS: &str = r"
        SELECT p.kind, p.name, p.incarnation, p.most, p.holds, p.needs, p.used, p.since,
            CASE WHEN n.incarnation IS NULL
            OR n.ended_at IS NOT NULL THEN 1 ELSE 0 END AS gone
        FROM permits p
        LEFT JOIN nodes n ON n.incarnation = p.incarnation
        WHERE p.kind = ? AND p.name = ? AND p.incarnation <> 0";

    const GONE: &str = r"DELETE FROM permits WHERE kind = ? AND name = ? AND incarnation = ?";

    const KEPT: &str = r"
        INSERT OR REPLACE INTO permits (kind, name, incarnation, most, holds, needs, used,
                since)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?)";

    /// What is free when a node ends.
    pub(crate) const LEFT: &str = r"DELETE FROM permits WHERE incarnation = ?";

    /// The row of no node says when the bucket was empty, as the last of all has told.
    const KEPT_EMPTIED: &str = r"
        INSERT INTO permits (kind, name, incarnation, most, holds, needs, used, since)
        VALUES (?, ?, 0, 0, 0, 0, 0, ?)
        ON CONFLICT (kind, name, incarnation) DO UPDATE SET since = max(since,
            excluded.since)";

    /// Differs from PostgreSQL because no node waits for a lease to be over: what a start used
    /// that was killed just now counts as all of it.
    pub(crate) const USED_UP: &str = r"
        UPDATE permits
        SET since = ?
        WHERE incarnation = 0
            AND EXISTS (SELECT 1 FROM nodes WHERE ended_at IS NULL AND incarnation <> ?)";
}

/// Writes down when buckets would have been empty.
pub(crate) fn keep_emptied(
    writing: &mut SqliteTransaction,
    emptied: &[(LimitName, Timestamp)],
) -> Result<(), LedgerError> {
    writing.writer.each(KEPT_EMPTIED, emptied, |(of, since), values| {
        values.put(of.kind.as_str()).put(&*of.name).put(since.as_micros());
    })?;
    Ok(())
}

pub(crate) fn divide(
    writing: &mut SqliteTransaction,
    asking: &Asking,
    now: Timestamp,
) -> Batch<Divided> {
    let node = writing.book.incarnation;
    let rows = writing.writer.all_of_each(PARTS, &asking.asked, |asked, values| {
        values.put(asked.of.kind.as_str()).put(&*asked.of.name);
    })?;
    let parts: Vec<_> = rows.iter().map(Part::read).collect::<Result<_, _>>()?;
    let (gone, there): (Vec<_>, Vec<_>) =
        parts.into_iter().partition(|part| part.gone && part.stake.node != node);
    writing.writer.each(GONE, &gone, |part, values| {
        values.put(part.of.kind.as_str()).put(&*part.of.name).put(part.stake.node);
    })?;
    let (answers, mine): (Vec<_>, Vec<_>) =
        decide(&asking.asked, &there, node, now).into_iter().unzip();
    writing.writer.each(KEPT, &mine, |part, values| part.put(values))?;
    Ok(answers)
}
