//! The contents of lanes, on PostgreSQL.

use std::collections::HashMap;

use crate::db::postgres::Postgres;
use crate::db::postgres::arrays::Values;
use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::model::{LaneDepth, LanePlace, Overdue};
use crate::operations::claim::postgres::{HEADS, heads};
use crate::rows::{self, number};
use crate::store::Batch;
use cloakroom_domain::Timestamp;
use cloakroom_domain::operation::Lane;

/// What lies in lanes, and is stored for them, by their rows.
macro_rules! rows_of_lanes {
    () => {
        r"(
                SELECT lane, count(*) AS depth, 0 AS behind, 0 AS stored
                FROM ready
                GROUP BY lane
                UNION ALL
                SELECT lane, 0, count(*), 0
                FROM waiting
                WHERE serial_digest IS NOT NULL
                GROUP BY lane
                UNION ALL
                SELECT abs(u.lane), 0, 0, sum(o.octets)
                FROM (
                    SELECT seq, lane
                    FROM ready
                    UNION ALL
                    SELECT seq, lane
                    FROM running
                    UNION ALL
                    SELECT seq, lane
                    FROM waiting
                ) AS u
                JOIN operations o ON o.seq = u.seq
                GROUP BY abs(u.lane)
            ) AS counted"
    };
}

macro_rules! first_count {
    ($unless:literal) => {
        concat!(
            r"
            INSERT INTO counters (lane, incarnation, depth, behind, started, stored)
            SELECT lane, 0, sum(depth)::bigint, sum(behind)::bigint, 0, sum(stored)::bigint
            FROM ",
            rows_of_lanes!(),
            $unless,
            " GROUP BY lane ORDER BY lane ON CONFLICT DO NOTHING"
        )
    };
}

statements! {
    /// Differs from SQLite because the nodes keep count.
    const COUNTED: &str = r"
        SELECT lane, sum(depth)::bigint AS depth, sum(behind)::bigint AS behind,
            sum(stored)::bigint AS stored
        FROM counters
        GROUP BY lane";

    /// The first count of a ledger that no node works on.
    pub(crate) const FIRST_COUNT: &str = first_count!("");

    /// Rows are counted only where no node has begun to. Another one that beats, as it does before it
    /// accepts anything, may have counted what it has not told yet.
    const FIRST_COUNT_ALONE: &str = first_count!(
        r"
        WHERE NOT EXISTS (
            SELECT 1 FROM nodes WHERE incarnation <> $1 AND ended_at IS NULL AND beat > 0
        )"
    );

    /// Until those nodes tell, or are found dead.
    const ROWS: &str = concat!(
        r"
        SELECT lane, sum(depth)::bigint AS depth, sum(behind)::bigint AS behind,
            sum(stored)::bigint AS stored
        FROM ",
        rows_of_lanes!(),
        " GROUP BY lane"
    );

    /// Each operation is looked up by its key: see `places`.
    const OVERDUE: &str = r"
        SELECT r.seq, r.due_at, o.deadline_at, CASE WHEN o.deadline_at <= $4 THEN 1
            ELSE 0 END::bigint AS late
        FROM (
            SELECT seq, due_at
            FROM ready
            WHERE lane = $1 AND (due_at, seq) > ($2, $3)
            ORDER BY due_at, seq
            LIMIT $5
        ) AS r
        JOIN operations o ON o.seq = r.seq
        ORDER BY r.due_at, r.seq";
}

pub(crate) async fn depths(reader: &Postgres) -> Batch<LaneDepth> {
    let Postgres { pool, book, .. } = reader;
    let mut rows = pool.read(COUNTED, Values::default().finish()?).await?;
    if rows.is_empty() {
        pool.read(FIRST_COUNT_ALONE, Values::default().with(book.incarnation).finish()?).await?;
        rows = pool.read(COUNTED, Values::default().finish()?).await?;
    }
    if rows.is_empty() {
        rows = pool.read(ROWS, Values::default().finish()?).await?;
    }
    let mut counted = HashMap::new();
    for row in &rows {
        let (depth, behind): (i64, i64) = (number(row, "depth")?, number(row, "behind")?);
        counted.insert(number::<i64>(row, "lane")?, (depth, behind, number::<i64>(row, "stored")?));
    }
    let all = book.all();
    let lanes: Vec<_> = all.iter().map(|(_, lane)| lane.clone()).collect();
    let heads = oldest_due(reader, &lanes).await?;
    let depth = |((number, lane), oldest_due): ((i64, Lane), Option<Timestamp>)| {
        let (depth, behind, stored) = counted.get(&number).copied().unwrap_or_default();
        let claimable = u64::try_from(depth).unwrap_or(0);
        let depth = claimable + u64::try_from(behind).unwrap_or(0);
        let stored = u64::try_from(stored).unwrap_or(0);
        LaneDepth { lane, depth, claimable, oldest_due, stored }
    };
    Ok(all.into_iter().zip(heads).map(depth).collect())
}

pub(crate) async fn oldest_due(reader: &Postgres, lanes: &[Lane]) -> Batch<Option<Timestamp>> {
    let Postgres { pool, book, .. } = reader;
    let numbers: Vec<_> = lanes.iter().map(|lane| book.number(lane)).collect::<Result<_, _>>()?;
    let slowly = book.marks.is_due();
    let lows = if slowly { vec![i64::MIN; numbers.len()] } else { book.marks.of(&numbers) };
    let values = Values::default().with(numbers.clone()).with(lows);
    let heads = heads(&pool.read(HEADS, values.finish()?).await?)?;
    if slowly {
        let found = heads.iter().filter_map(|(lane, head)| Some((*lane, (*head)?)));
        found.for_each(|(lane, head)| book.marks.found(lane, head));
    }
    Ok(numbers.iter().map(|number| heads.get(number).copied().flatten()).collect())
}

pub(crate) async fn overdue(
    reader: &Postgres,
    lane: &Lane,
    (from, look_at): (LanePlace, usize),
    now: Timestamp,
) -> Result<Overdue, LedgerError> {
    let Postgres { pool, book, .. } = reader;
    let values = Values::default().with(book.number(lane)?).with(from.due_at).with(from.seq);
    let values = values.with(now.as_micros()).with(look_at as i64);
    rows::overdue(&pool.read(OVERDUE, values.finish()?).await?, look_at, now)
}
