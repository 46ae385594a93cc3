//! What nodes have left that are gone, and what is counted in lanes.

use std::sync::Arc;

use super::batch::Values;
use super::book::Book;
use super::pool::Pool;
use super::prune::erase_pieces;
use super::writing::Writing;
use crate::domain::operation::Lane;
use crate::domain::reconcile::{Discrepancy, Stray};
use crate::ledger::error::LedgerError;
use crate::ledger::reconcile::{BATCH, Place, Sweep, Swept, stray};
use crate::ledger::rows::{maybe_number, number};

/// How many rows of a lane are counted together.
const COUNTED_TOGETHER: i64 = 20_000;

/// Nodes of which nothing is expected any more: `$1` since when they are silent, `$2` those
/// that are dead.
macro_rules! gone {
    ($of:literal) => {
        concat!(
            "NOT EXISTS (SELECT 1 FROM nodes n WHERE n.incarnation = ",
            $of,
            " AND NOT (greatest(n.beat_at, n.started_at, coalesce(n.ended_at, 0)) < $1 \
             AND (n.ended_at IS NOT NULL OR n.incarnation = ANY ($2))))"
        )
    };
}

const FOLD: &str = concat!(
    "WITH gone AS (DELETE FROM counters c WHERE c.incarnation <> 0 AND ",
    gone!("c.incarnation"),
    " RETURNING c.lane, c.depth, c.started) \
     INSERT INTO counters (lane, incarnation, depth, started) \
     SELECT lane, 0, sum(depth)::bigint, sum(started)::bigint FROM gone GROUP BY lane ORDER BY lane \
     ON CONFLICT (lane, incarnation) DO UPDATE SET depth = counters.depth + EXCLUDED.depth, \
     started = counters.started + EXCLUDED.started"
);
const PERMITS: &str =
    concat!("DELETE FROM permits p WHERE p.incarnation <> 0 AND ", gone!("p.incarnation"));
const BODIES: &str = "SELECT max(b.body) AS last, count(*) AS looked_at FROM \
     (SELECT body FROM pieces WHERE number = 0 AND body > $1 ORDER BY body LIMIT $2) AS b";
const UNUSED: &str = concat!(
    "SELECT p.body FROM pieces p LEFT JOIN requests q ON q.body_key = p.body \
     LEFT JOIN results r ON r.body_key = p.body WHERE p.body > $3 AND p.body <= $4 AND p.number = 0 \
     AND p.node IS NOT NULL AND q.seq IS NULL AND r.seq IS NULL AND ",
    gone!("p.node")
);
const HELD: &str =
    "SELECT o.id FROM running u JOIN operations o ON o.seq = u.seq WHERE u.node = ANY ($1)";
const ELSEWHERE: &str = "SELECT coalesce(sum(depth), 0)::bigint AS depth FROM counters \
     WHERE lane = $1 AND incarnation <> $2";
const COUNT: &str = "SELECT due_at, seq, counted FROM (SELECT due_at, seq, \
     row_number() OVER (ORDER BY due_at, seq) AS counted FROM ready \
     WHERE lane = $1 AND (due_at, seq) > ($2, $3) ORDER BY due_at, seq LIMIT $4) AS w \
     ORDER BY counted DESC LIMIT 1";
/// Locks what is corrected, so that two who correct it do so one after the other.
const LOCK: &str = "INSERT INTO counters (lane, incarnation, depth, started) VALUES ($1, 0, 0, 0) \
     ON CONFLICT (lane, incarnation) DO UPDATE SET depth = counters.depth";
const CORRECT: &str = "UPDATE counters SET depth = depth + $2 WHERE lane = $1 AND incarnation = 0 \
     AND (SELECT sum(c.depth)::bigint FROM counters c WHERE c.lane = $1 AND c.incarnation <> $3) = $4";

/// Sees to one batch of it.
pub(super) async fn sweep(writing: &mut Writing, sweep: &Sweep) -> Result<Swept, LedgerError> {
    let mut swept = Swept::default();
    let gone = || Values::default().with(sweep.silent_since.as_micros()).with(sweep.dead.clone());
    if sweep.behind.is_none() {
        for row in writing.rows(HELD, Values::default().with(sweep.dead.clone())).await? {
            swept.strays.push(stray(Discrepancy::HeldByDead, &row)?);
        }
        if sweep.repair {
            writing.run(FOLD, gone()).await?;
            writing.run(PERMITS, gone()).await?;
        }
    }
    let behind = sweep.behind.unwrap_or(i64::MIN);
    let Some(row) = writing.row(BODIES, Values::default().with(behind).with(BATCH)).await? else {
        return Ok(swept);
    };
    let Some(last) = maybe_number::<i64>(&row, "last")? else { return Ok(swept) };
    let rows = writing.rows(UNUSED, gone().with(behind).with(last)).await?;
    let bodies: Vec<i64> = rows.iter().map(|row| number(row, "body")).collect::<Result<_, _>>()?;
    let named = |body: &i64| Stray { kind: Discrepancy::UnusedPieces, name: body.to_string() };
    swept.strays.extend(bodies.iter().map(named));
    if sweep.repair {
        erase_pieces(writing, bodies).await?;
    }
    swept.next = (number::<i64>(&row, "looked_at")? >= BATCH).then_some(last);
    Ok(swept)
}

/// What the others have counted in a lane.
pub(super) async fn counted_elsewhere(
    pool: &Arc<Pool>,
    book: &Book,
    lane: &Lane,
) -> Result<Option<i64>, LedgerError> {
    let values = Values::default().with(book.number(lane)?).with(book.incarnation);
    let rows = pool.read(ELSEWHERE, values.finish()?).await?;
    rows.first().map(|row| number(row, "depth")).transpose()
}

/// Counts the next rows of a lane.
pub(super) async fn count_some(
    pool: &Arc<Pool>,
    book: &Book,
    lane: &Lane,
    (due_at, seq): Place,
) -> Result<(i64, Option<Place>), LedgerError> {
    let values = Values::default().with(book.number(lane)?).with(due_at).with(seq);
    let rows = pool.read(COUNT, values.with(COUNTED_TOGETHER).finish()?).await?;
    let Some(row) = rows.first() else { return Ok((0, None)) };
    let counted = number(row, "counted")?;
    let last = (number(row, "due_at")?, number(row, "seq")?);
    Ok((counted, (counted >= COUNTED_TOGETHER).then_some(last)))
}

/// Corrects what is counted in a lane, unless others have counted since.
pub(super) async fn recount(
    writing: &mut Writing,
    lane: &Lane,
    by: i64,
    seen_elsewhere: i64,
) -> Result<(), LedgerError> {
    let (place, node) = (writing.book.number(lane)?, writing.book.incarnation);
    writing.run(LOCK, Values::default().with(place)).await?;
    let values = Values::default().with(place).with(by).with(node).with(seen_elsewhere);
    writing.run(CORRECT, values).await
}
