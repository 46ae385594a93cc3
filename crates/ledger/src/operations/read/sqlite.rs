//! Reading: each statement sees one moment, so an operation is always in one state.

use std::collections::HashMap;

use bytes::Bytes;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Sqlite};

use crate::error::LedgerError;
use crate::listed::{Listed, readable};
use crate::operations::capacity::{STANDING, Standing};
use crate::sqlite::Book;
use crate::sqlite::batch::{Among, Values};
use crate::sqlite::open::trouble;
use crate::sqlite::readers::Readers;
use crate::sqlite::rows::{
    self, events, get, id, maybe_id, maybe_time, number, operation, operations, origins, places,
    promises,
};
use crate::store::Batch;
use crate::verbs::{KeptAnswer, LaneDepth, LanePlace, Listing, Operation, Overdue, Page, Promised};
use cloakroom_domain::operation::{BodyKey, Event, IdempotencyClaim, Lane, Status};
use cloakroom_domain::sealer::Sealer;
use cloakroom_domain::{OperationId, Timestamp};

static FIND: Among = Among::new(concat!(operations!(), places!(), " WHERE o.id IN"));

pub(crate) async fn find(
    readers: &Readers,
    sealer: &Sealer,
    ids: &[OperationId],
) -> Batch<Option<Operation>> {
    let rows = FIND.fetch(&mut *readers.acquire().await?, ids).await?;
    let mut found = HashMap::with_capacity(rows.len());
    for row in &rows {
        let operation = operation(row, sealer)?;
        found.insert(operation.id, operation);
    }
    // The same id may be asked for twice in one batch.
    Ok(ids.iter().map(|id| found.get(id).cloned()).collect())
}

async fn one(
    readers: &Readers,
    sql: &'static str,
    id: OperationId,
) -> Result<Option<SqliteRow>, LedgerError> {
    let query = sqlx::query(sql).bind(id.as_bytes().to_vec());
    query.fetch_optional(&mut *readers.acquire().await?).await.map_err(trouble)
}

pub(crate) async fn answer(
    readers: &Readers,
    sealer: &Sealer,
    id: OperationId,
) -> Result<Option<KeptAnswer>, LedgerError> {
    let row = one(
        readers,
        "SELECT q.seq, x.response_status, x.response_framing, x.created_location, q.fields, q.body, q.body_key, q.body_length, \
         (SELECT count(*) FROM pieces WHERE body = q.body_key) AS pieces FROM operations o \
         JOIN outcomes x ON x.seq = o.seq JOIN results q ON q.seq = o.seq WHERE o.id = ?",
        id,
    )
    .await?;
    row.as_ref().map(|row| rows::answer(row, sealer)).transpose()
}

pub(crate) async fn promised(
    readers: &Readers,
    sealer: &Sealer,
    id: OperationId,
) -> Result<Option<Promised>, LedgerError> {
    let row = one(
        readers,
        concat!(
            "SELECT ",
            promises!(),
            ", q.fields, NULL AS credentials, q.body, q.body_key, q.body_length \
             FROM operations o LEFT JOIN requests q ON q.seq = o.seq WHERE o.id = ?"
        ),
        id,
    )
    .await?;
    row.as_ref().map_or(Ok(None), |row| rows::promised(row, sealer))
}

/// Whom a key stands for.
pub(crate) async fn standing(
    readers: &Readers,
    claim: &IdempotencyClaim,
) -> Result<Option<Standing>, LedgerError> {
    let query = sqlx::query(STANDING).bind(claim.digest.to_vec());
    let row = query.fetch_optional(&mut *readers.acquire().await?).await.map_err(trouble)?;
    row.as_ref().map(Standing::read).transpose()
}

pub(crate) async fn events(
    readers: &Readers,
    sealer: &Sealer,
    id: OperationId,
    after: u32,
    limit: u32,
) -> Result<Listed<Event, u32>, LedgerError> {
    let accepted = one(readers, "SELECT accepted_at FROM operations WHERE id = ?", id).await?;
    let Some(accepted) = accepted else { return Ok(Listed::none()) };
    let first = Event::accepted(rows::time(&accepted, "accepted_at")?);
    let first = (after < 1 && limit > 0).then_some(first);
    let limit = limit - u32::from(first.is_some());
    let rows = sqlx::query(concat!(
        "SELECT ",
        events!(),
        " FROM events e WHERE e.seq = (SELECT seq FROM operations WHERE id = ?) AND e.sequence > ? \
         ORDER BY e.sequence LIMIT ?"
    ))
    .bind(id.as_bytes().to_vec())
    .bind(after)
    .bind(limit)
    .fetch_all(&mut *readers.acquire().await?)
    .await
    .map_err(trouble)?;
    let place = |row: &_| number(row, "sequence");
    let listed = Listed::of(&rows, limit as usize, place, |row| rows::event(row, sealer))?;
    Ok(match first {
        Some(first) => listed.behind(first, 1),
        None => listed,
    })
}

/// How many operations one page looks at, so that a filter that fits nothing does not
/// walk the whole ledger.
const LOOKED_AT: i64 = 5_000;

pub(crate) async fn list(
    readers: &Readers,
    sealer: &Sealer,
    listing: &Listing,
) -> Result<Page, LedgerError> {
    let mut connection = readers.acquire().await?;
    let (found, looked_to) = candidates(&mut connection, listing).await?;
    let is_full = found.len() >= listing.limit;
    let (candidates, nameless) = readable(&found, |row| id(row, "id"))?;
    let rows = FIND.fetch(&mut connection, &candidates).await?;
    let (mut operations, mut unread) = readable(&rows, |row| operation(row, sealer))?;
    unread.extend(nameless);
    operations.sort_unstable_by_key(|operation| std::cmp::Reverse(operation.id));
    let next = if is_full { candidates.last().copied() } else { looked_to };
    Ok(Page { operations, next, unread })
}

/// The rows with the ids of a page, newest first, and how far it looked if there is more behind.
async fn candidates(
    connection: &mut SqliteConnection,
    listing: &Listing,
) -> Result<(Vec<SqliteRow>, Option<OperationId>), LedgerError> {
    let (mut filter, mut values) = (String::new(), Values::default());
    let upper = listing.before.map_or([0xff; 16], |before| *before.as_bytes());
    values.put(upper.to_vec()).put(LOOKED_AT);
    let mut and = |clause: &str| {
        filter.push_str(" AND ");
        filter.push_str(clause);
    };
    if let Some(principal) = &listing.principal {
        and("o.principal = ?");
        values.put(principal.as_bytes().to_vec());
    }
    if let Some(route) = &listing.route {
        and("o.route = ?");
        values.put(route.clone());
    }
    if let Some(queue) = &listing.queue {
        and("o.lane IN (SELECT lane FROM lanes WHERE queue = ?)");
        values.put(queue.clone());
    }
    if let Some(tag) = &listing.tag {
        and("EXISTS (SELECT 1 FROM tags t WHERE t.tag = ? AND t.seq = o.seq)");
        values.put(tag.clone());
    }
    if listing.unknown {
        and(
            "EXISTS (SELECT 1 FROM outcomes WHERE seq = o.seq AND error_code = 'outcome-unknown') \
             AND NOT EXISTS (SELECT 1 FROM verdicts WHERE seq = o.seq)",
        );
    }
    if let Some(since) = listing.since {
        and("o.accepted_at >= ?");
        values.put(since.as_micros());
    }
    if let Some(until) = listing.until {
        and("o.accepted_at < ?");
        values.put(until.as_micros());
    }
    if let Some(status) = listing.status {
        and(match status {
            Status::Queued => {
                "(EXISTS (SELECT 1 FROM ready WHERE seq = o.seq) \
                 OR EXISTS (SELECT 1 FROM waiting WHERE seq = o.seq AND delayed_until IS NOT NULL))"
            }
            Status::Running => "EXISTS (SELECT 1 FROM running WHERE seq = o.seq)",
            Status::Waiting => {
                "EXISTS (SELECT 1 FROM waiting WHERE seq = o.seq AND delayed_until IS NULL)"
            }
            Status::Succeeded => {
                "EXISTS (SELECT 1 FROM outcomes WHERE seq = o.seq AND state = 'succeeded')"
            }
            Status::Failed => {
                "EXISTS (SELECT 1 FROM outcomes WHERE seq = o.seq AND state = 'failed')"
            }
            Status::Canceled => {
                "EXISTS (SELECT 1 FROM outcomes WHERE seq = o.seq AND state = 'canceled')"
            }
        });
    }
    values.put(listing.limit as i64);
    let sql = format!(
        "WITH looked AS MATERIALIZED (SELECT seq, id, principal, route, lane, accepted_at FROM operations WHERE id < ? ORDER BY id DESC LIMIT ?) \
         SELECT id, (SELECT min(id) FROM looked) AS last, (SELECT count(*) FROM looked) AS looked_at \
         FROM (SELECT o.id FROM looked o WHERE 1{filter} ORDER BY o.id DESC LIMIT ?) \
         UNION ALL SELECT NULL, (SELECT min(id) FROM looked), (SELECT count(*) FROM looked)"
    );
    let query =
        sqlx::query_with::<Sqlite, _>(AssertSqlSafe(sql), values.finish()?).persistent(false);
    let mut found = query.fetch_all(connection).await.map_err(trouble)?;
    let Some(end) = found.pop() else { return Ok((Vec::new(), None)) };
    let more = get::<i64>(&end, "looked_at")? >= LOOKED_AT;
    let looked_to = if more { rows::maybe_id(&end, "last").unwrap_or_default() } else { None };
    Ok((found, looked_to))
}

/// Those below an operation, level by level, and no more than are shown: the limit stands inside,
/// for the whole and for the children of each, because SQLite notes all that a step brings.
pub(crate) const DESCENDANTS: &str = "WITH RECURSIVE below (id) AS (\
     SELECT id FROM (SELECT id FROM operations WHERE parent = ?1 ORDER BY id LIMIT ?2) \
     UNION SELECT o.id FROM below b JOIN operations o \
     ON o.id IN (SELECT c.id FROM operations c WHERE c.parent = b.id ORDER BY c.id LIMIT ?2) LIMIT ?2) \
     SELECT id FROM below ORDER BY id";

pub(crate) async fn descendants(
    readers: &Readers,
    sealer: &Sealer,
    of: OperationId,
    limit: u32,
) -> Result<Listed<Operation, OperationId>, LedgerError> {
    let rows = sqlx::query(DESCENDANTS)
        .bind(of.as_bytes().to_vec())
        .bind(limit)
        .fetch_all(&mut *readers.acquire().await?)
        .await
        .map_err(trouble)?;
    let ids = rows.iter().map(|row| id(row, "id")).collect::<Result<Vec<_>, _>>()?;
    let mut rows = FIND.fetch(&mut *readers.acquire().await?, &ids).await?;
    rows.sort_by_cached_key(|row| maybe_id(row, "id").ok().flatten());
    Listed::of(&rows, limit as usize, |row| id(row, "id"), |row| operation(row, sealer))
}

pub(crate) async fn piece(
    readers: &Readers,
    sealer: &Sealer,
    body: BodyKey,
    number: u32,
) -> Result<Option<Bytes>, LedgerError> {
    let row = sqlx::query("SELECT octets FROM pieces WHERE body = ? AND number = ?")
        .bind(body.0)
        .bind(number)
        .fetch_optional(&mut *readers.acquire().await?)
        .await
        .map_err(trouble)?;
    row.as_ref().map(|row| rows::piece(row, body, number, sealer)).transpose()
}

/// The queues that are paused.
pub(crate) async fn paused(readers: &Readers) -> Batch<String> {
    let rows = sqlx::query("SELECT queue FROM paused_queues")
        .fetch_all(&mut *readers.acquire().await?)
        .await
        .map_err(trouble)?;
    rows.iter().map(|row| get(row, "queue")).collect()
}

const BEHIND_KEYS: &str = "SELECT lane, count(*) AS behind FROM waiting \
     WHERE serial_digest IS NOT NULL GROUP BY lane";

/// Octets that are stored for what has not ended, by lane; what runs alone counts in its own lane.
const STORED: &str = "SELECT abs(u.lane) AS lane, CAST(min(total(o.octets), 9e18) AS INTEGER) AS stored FROM (SELECT seq, lane FROM ready \
     UNION ALL SELECT seq, lane FROM running UNION ALL SELECT seq, lane FROM waiting) AS u \
     JOIN operations o ON o.seq = u.seq GROUP BY abs(u.lane)";

pub(crate) async fn depths(readers: &Readers, book: &Book) -> Batch<LaneDepth> {
    let rows = sqlx::query(
        "SELECT lane, count(*) AS depth, min(due_at) AS oldest FROM ready GROUP BY lane",
    )
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

pub(crate) async fn waiting(readers: &Readers) -> Result<u64, LedgerError> {
    let row = sqlx::query("SELECT count(*) AS waiting FROM waiting")
        .fetch_one(&mut *readers.acquire_for_long().await?)
        .await
        .map_err(trouble)?;
    get::<i64>(&row, "waiting").map(i64::unsigned_abs)
}

/// A time that cannot be read holds up none that can.
const OLDEST_DUE: &str = "SELECT due_at FROM ready WHERE lane = ? AND due_at <= 9223372036854775807 \
     ORDER BY due_at, seq LIMIT 1";

pub(crate) async fn oldest_due(
    readers: &Readers,
    book: &Book,
    lanes: &[Lane],
) -> Batch<Option<Timestamp>> {
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

const OVERDUE: &str = "SELECT r.seq, r.due_at, CAST(CASE WHEN o.deadline_at <= ?4 THEN 1 ELSE 0 END AS INTEGER) AS late \
     FROM ready r JOIN operations o ON o.seq = r.seq WHERE r.lane = ?1 AND (r.due_at, r.seq) > (?2, ?3) AND r.due_at <= 9223372036854775807 \
     ORDER BY r.due_at, r.seq LIMIT ?5";

pub(crate) async fn overdue(
    readers: &Readers,
    book: &Book,
    lane: &Lane,
    (from, look_at): (LanePlace, usize),
    now: Timestamp,
) -> Result<Overdue, LedgerError> {
    let query = sqlx::query(OVERDUE).bind(book.number(lane)?).bind(from.due_at).bind(from.seq);
    let query = query.bind(now.as_micros()).bind(look_at as i64);
    let rows = query.fetch_all(&mut *readers.acquire().await?).await.map_err(trouble)?;
    rows::overdue(&rows, look_at)
}
