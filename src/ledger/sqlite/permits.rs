//! Dividing limits among the nodes: the only one that has the file gets all.

use super::Writing;
use crate::domain::Timestamp;
use crate::ledger::permits::{Asking, Divided, Part, decide};
use crate::ledger::store::Batch;

const PARTS: &str = "SELECT p.kind, p.name, p.incarnation, p.most, p.holds, p.needs, p.used, p.since, \
     CASE WHEN n.incarnation IS NULL OR n.ended_at IS NOT NULL THEN 1 ELSE 0 END AS gone \
     FROM permits p LEFT JOIN nodes n ON n.incarnation = p.incarnation \
     WHERE p.kind = ? AND p.name = ? AND p.incarnation <> 0";
const GONE: &str = "DELETE FROM permits WHERE kind = ? AND name = ? AND incarnation = ?";
const KEPT: &str = "INSERT OR REPLACE INTO permits (kind, name, incarnation, most, holds, needs, used, since) \
     VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
/// What is free when a node ends.
pub(super) const LEFT: &str = "DELETE FROM permits WHERE incarnation = ?";

pub(super) fn divide(writing: &mut Writing, asking: &Asking, now: Timestamp) -> Batch<Divided> {
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
