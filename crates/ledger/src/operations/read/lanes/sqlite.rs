//! The contents of lanes, on SQLite.

use std::collections::HashMap;

use sqlx::sqlite::SqliteRow;

use crate::db::sqlite::Sqlite;
use crate::db::sqlite::open::trouble;
use crate::db::sqlite::rows::{self, get, maybe_time};
use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::model::{LaneDepth, LanePlace, Overdue};
use crate::store::Batch;
use cloakroom_domain::Timestamp;
use cloakroom_domain::operation::Lane;

statements! {
    const DEPTHS: &str = r"SELECT lane, count(*) AS depth, min(due_at) AS oldest FROM ready GROUP BY lane";

    const BEHIND_KEYS: &str = r"
        SELECT lane, count(*) AS behind
        FROM waiting
        WHERE serial_digest IS NOT NULL
        GROUP BY lane";

    /// Octets that are stored for what has not ended, by lane; what runs alone counts in its own lane.
    const STORED: &str = r"
        SELECT abs(u.lane) AS lane, CAST(min(total(o.octets), 9e18) AS INTEGER) AS stored
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
        GROUP BY abs(u.lane)";

    /// A time that cannot be read holds up none that can.
    const OLDEST_DUE: &str = r"
        SELECT due_at
        FROM ready
        WHERE lane = ? AND due_at <= 9223372036854775807
        ORDER BY due_at, seq
        LIMIT 1";

    const OVERDUE: &str = r"
        SELECT r.seq, r.due_at, o.deadline_at, CAST(CASE WHEN o.deadline_at <= ?4 THEN 1
            ELSE 0 END AS INTEGER) AS late
        FROM ready r
        JOIN operations o ON o.seq = r.seq
        WHERE r.lane = ?1
            AND (r.due_at, r.seq) > (?2, ?3)
            AND r.due_at <= 9223372036854775807
        ORDER BY r.due_at, r.seq
        LIMIT ?5";
}

pub(crate) async fn depths(reader: &Sqlite) -> Batch<LaneDepth> {
    let Sqlite { readers, book, .. } = reader;
    let rows = sqlx::query(DEPTHS)
        .fetch_all(&mut *readers.acquire_for_long().await?)
        .await
        .map_err(trouble)?;
    let empty = |(number, lane)| (number, empty_lane(lane));
    let lanes = rows::with_quarantines(book.lanes.iter());
    let mut depths: HashMap<_, _> = lanes.into_iter().map(empty).collect();
    // Rows in a lane that cannot be read count in none; `reconcile` finds them.
    let lane_of = |row: &SqliteRow| get::<i64>(row, "lane").ok();
    for row in &rows {
        if let Some(known) = lane_of(row).and_then(|lane| depths.get_mut(&lane)) {
            known.depth = get::<i64>(row, "depth")?.unsigned_abs();
            known.claimable = known.depth;
            known.oldest_due = maybe_time(row, "oldest").unwrap_or_default();
        }
    }
    let behind = sqlx::query(BEHIND_KEYS).fetch_all(&mut *readers.acquire_for_long().await?).await;
    for row in &behind.map_err(trouble)? {
        if let Some(known) = lane_of(row).and_then(|lane| depths.get_mut(&lane)) {
            known.depth += get::<i64>(row, "behind")?.unsigned_abs();
        }
    }
    let stored = sqlx::query(STORED).fetch_all(&mut *readers.acquire_for_long().await?).await;
    for row in &stored.map_err(trouble)? {
        if let Some(known) = lane_of(row).and_then(|lane| depths.get_mut(&lane)) {
            known.stored = get::<i64>(row, "stored")?.unsigned_abs();
        }
    }
    Ok(depths.into_values().collect())
}

const fn empty_lane(lane: Lane) -> LaneDepth {
    LaneDepth { lane, depth: 0, claimable: 0, oldest_due: None, stored: 0 }
}

pub(crate) async fn oldest_due(reader: &Sqlite, lanes: &[Lane]) -> Batch<Option<Timestamp>> {
    let Sqlite { readers, book, .. } = reader;
    let mut connection = readers.acquire().await?;
    let mut oldest = Vec::with_capacity(lanes.len());
    for lane in lanes {
        let row = sqlx::query(OLDEST_DUE)
            .bind(book.number(lane)?)
            .fetch_optional(&mut *connection)
            .await
            .map_err(trouble)?;
        oldest.push(row.as_ref().map_or(Ok(None), |row| maybe_time(row, "due_at"))?);
    }
    Ok(oldest)
}

pub(crate) async fn overdue(
    reader: &Sqlite,
    lane: &Lane,
    (from, look_at): (LanePlace, usize),
    now: Timestamp,
) -> Result<Overdue, LedgerError> {
    let Sqlite { readers, book, .. } = reader;
    let query = sqlx::query(OVERDUE).bind(book.number(lane)?).bind(from.due_at).bind(from.seq);
    let query = query.bind(now.as_micros()).bind(look_at as i64);
    let rows = query.fetch_all(&mut *readers.acquire().await?).await.map_err(trouble)?;
    rows::overdue(&rows, look_at, now)
}
