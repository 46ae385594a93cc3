//! The beats of this node, and what they bring of the others.

use std::sync::Arc;

use super::batch::Values;
use super::pool::Pool;
use super::writing::Writing;
use crate::domain::Timestamp;
use crate::ledger::error::LedgerError;
use crate::ledger::fleet::{Beaten, NodeRow, Vitals};
use crate::ledger::rows::{as_micros, damaged, node, number, owned, sign, time as instant};
use crate::ledger::store::Batch;

/// Differs from SQLite because nodes are to agree on the time: each samples the server's.
const BEAT: &str = "UPDATE nodes SET name = $1, role = $2, queues = $3, slots = $4, running = $5, fingerprint = $6, \
     lease_us = $7, beat_at = $8, beat = beat + 1, ended_at = NULL WHERE incarnation = $9 \
     RETURNING beat, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS sampled";
/// The server's time, for whoever has not beaten yet.
pub(super) const TIME: &str =
    "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS sampled";
const OTHERS: &str = "SELECT n.incarnation, n.beat, n.lease_us, n.ended_at, \
     CASE WHEN h.node IS NULL THEN 0 ELSE 1 END::bigint AS holds FROM nodes n \
     LEFT JOIN (SELECT DISTINCT node FROM running) h ON h.node = n.incarnation \
     WHERE n.incarnation <> $1 AND (n.ended_at IS NULL OR h.node IS NOT NULL)";
const OWNED: &str = "SELECT seq, token, taken_over, cancel FROM running WHERE node = $1";
const LEFT: &str = "UPDATE nodes SET ended_at = $1, running = 0 WHERE incarnation = $2";

pub(super) async fn beat(
    writing: &mut Writing,
    vitals: &Vitals,
    now: Timestamp,
) -> Result<Beaten, LedgerError> {
    let incarnation = writing.book.incarnation;
    let values = Values::default()
        .with(vitals.name.clone())
        .with(vitals.role.as_str())
        .with(vitals.queues.join(","))
        .with(i64::from(vitals.slots))
        .with(i64::from(vitals.running))
        .with(vitals.fingerprint.clone())
        .with(as_micros(vitals.lease))
        .with(now.as_micros())
        .with(incarnation);
    let row = writing.row(BEAT, values).await?;
    let row = row.ok_or_else(|| damaged("this node is not in the ledger"))?;
    let others = writing.rows(OTHERS, Values::default().with(incarnation)).await?;
    let held = writing.rows(OWNED, Values::default().with(incarnation)).await?;
    Ok(Beaten {
        beat: number(&row, "beat")?,
        time: Some(instant(&row, "sampled")?),
        others: others.iter().map(sign).collect::<Result<_, _>>()?,
        held: held.iter().map(owned).collect::<Result<_, _>>()?,
    })
}

pub(super) async fn leave(writing: &mut Writing, now: Timestamp) -> Result<(), LedgerError> {
    let values = Values::default().with(now.as_micros()).with(writing.book.incarnation);
    writing.run(LEFT, values).await
}

pub(super) async fn time(pool: &Arc<Pool>) -> Result<Timestamp, LedgerError> {
    let rows = pool.read(TIME, Values::default().finish()?).await?;
    let row = rows.first().ok_or_else(|| damaged("the server has no time"))?;
    instant(row, "sampled")
}

pub(super) async fn list(pool: &Arc<Pool>) -> Batch<NodeRow> {
    let all = "SELECT * FROM nodes ORDER BY incarnation DESC LIMIT 1000";
    let rows = pool.read(all, Values::default().finish()?).await?;
    rows.iter().map(node).collect()
}
