//! Reading: each statement sees one moment, so an operation is always in one state.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use sqlx::postgres::PgRow;

use crate::error::LedgerError;
use crate::listed::{Listed, readable};
use crate::operations::capacity::{STANDING, Standing};
use crate::operations::claim::postgres::{HEADS, heads};
use crate::postgres::batch::{Values, storable};
use crate::postgres::book::Book;
use crate::postgres::places::places;
use crate::postgres::pool::Pool;
use crate::rows::{
    self, carried, events, id, maybe_id, number, operation, operations, origins, promises, text,
    time,
};
use crate::store::Batch;
use crate::verbs::{KeptAnswer, LaneDepth, LanePlace, Listing, Operation, Overdue, Page, Promised};
use cloakroom_domain::operation::{BodyKey, Event, IdempotencyClaim, Lane, Status};
use cloakroom_domain::sealer::Sealer;
use cloakroom_domain::{OperationId, Timestamp};

const FIND: &str = concat!(operations!(), places!(), " WHERE o.id = ANY ($1)");

fn octets(id: OperationId) -> Vec<u8> {
    id.as_bytes().to_vec()
}

pub(crate) async fn find(
    pool: &Arc<Pool>,
    sealer: &Sealer,
    ids: &[OperationId],
) -> Batch<Option<Operation>> {
    let rows = rows_of(pool, ids).await?;
    let mut found = HashMap::with_capacity(rows.len());
    for row in &rows {
        let operation = operation(row, sealer)?;
        found.insert(operation.id, operation);
    }
    // The same id may be asked for twice in one batch.
    Ok(ids.iter().map(|id| found.get(id).cloned()).collect())
}

async fn rows_of(pool: &Arc<Pool>, ids: &[OperationId]) -> Batch<PgRow> {
    let wanted: Vec<_> = ids.iter().copied().map(octets).collect();
    pool.read(FIND, Values::default().with(wanted).finish()?).await
}

async fn one(
    pool: &Arc<Pool>,
    sql: &'static str,
    id: OperationId,
) -> Result<Option<PgRow>, LedgerError> {
    let rows = pool.read(sql, Values::default().with(octets(id)).finish()?).await?;
    Ok(rows.into_iter().next())
}

pub(crate) async fn answer(
    pool: &Arc<Pool>,
    sealer: &Sealer,
    id: OperationId,
) -> Result<Option<KeptAnswer>, LedgerError> {
    let row = one(
        pool,
        "SELECT q.seq, x.response_status, x.response_framing, x.created_location, q.fields, q.body, q.body_key, q.body_length, \
         (SELECT count(*) FROM pieces WHERE body = q.body_key) AS pieces FROM operations o \
         JOIN outcomes x ON x.seq = o.seq JOIN results q ON q.seq = o.seq WHERE o.id = $1",
        id,
    )
    .await?;
    row.as_ref().map(|row| rows::answer(row, sealer)).transpose()
}

pub(crate) async fn promised(
    pool: &Arc<Pool>,
    sealer: &Sealer,
    id: OperationId,
) -> Result<Option<Promised>, LedgerError> {
    let row = one(
        pool,
        concat!(
            "SELECT ",
            promises!(),
            ", q.fields, NULL::bytea AS credentials, q.body, q.body_key, q.body_length \
             FROM operations o LEFT JOIN requests q ON q.seq = o.seq WHERE o.id = $1"
        ),
        id,
    )
    .await?;
    row.as_ref().map_or(Ok(None), |row| rows::promised(row, sealer))
}

/// Whom a key stands for.
pub(crate) async fn standing(
    pool: &Arc<Pool>,
    claim: &IdempotencyClaim,
) -> Result<Option<Standing>, LedgerError> {
    let values = Values::default().with(claim.digest.to_vec());
    let rows = pool.read(STANDING, values.finish()?).await?;
    rows.first().map(Standing::read).transpose()
}

pub(crate) async fn events(
    pool: &Arc<Pool>,
    sealer: &Sealer,
    id: OperationId,
    after: u32,
    limit: u32,
) -> Result<Listed<Event, u32>, LedgerError> {
    let accepted = one(pool, "SELECT accepted_at FROM operations WHERE id = $1", id).await?;
    let Some(accepted) = accepted else { return Ok(Listed::none()) };
    let first = Event::accepted(time(&accepted, "accepted_at")?);
    let first = (after < 1 && limit > 0).then_some(first);
    let limit = limit - u32::from(first.is_some());
    let values = Values::default()
        .with(octets(id))
        .with(i64::from(after))
        .with(i64::from(limit))
        .finish()?;
    let told = pool
        .read(
            concat!(
                "SELECT ",
                events!(),
                " FROM events e WHERE e.seq = (SELECT seq FROM operations WHERE id = $1) AND e.sequence > $2 \
                 ORDER BY e.sequence LIMIT $3"
            ),
            values,
        )
        .await?;
    let place = |row: &_| number(row, "sequence");
    let listed = Listed::of(&told, limit as usize, place, |row| rows::event(row, sealer))?;
    Ok(match first {
        Some(first) => listed.behind(first, 1),
        None => listed,
    })
}

/// How many operations one page looks at, so that a filter that fits nothing does not
/// walk the whole ledger.
const LOOKED_AT: i64 = 5_000;

/// Differs from SQLite because a plan is kept for the statement: a filter that is not
/// asked for is NULL, and the text is always the same.
const LIST: &str = "WITH looked AS MATERIALIZED \
     (SELECT seq, id, principal, route, lane, accepted_at FROM operations WHERE id < $1 ORDER BY id DESC LIMIT $2) \
     (SELECT o.id, NULL::bytea AS last, NULL::bigint AS looked_at FROM looked o \
     WHERE ($3::bytea IS NULL OR o.principal = $3) AND ($4::text IS NULL OR o.route = $4) \
     AND ($5::text IS NULL OR o.lane IN (SELECT lane FROM lanes WHERE queue = $5)) \
     AND ($6::text IS NULL OR EXISTS (SELECT 1 FROM tags t WHERE t.tag = $6 AND t.seq = o.seq)) \
     AND ($7::bigint IS NULL OR o.accepted_at >= $7) AND ($8::bigint IS NULL OR o.accepted_at < $8) \
     AND CASE $9::text WHEN 'queued' THEN EXISTS (SELECT 1 FROM ready WHERE seq = o.seq) \
     OR EXISTS (SELECT 1 FROM waiting WHERE seq = o.seq AND delayed_until IS NOT NULL) \
     WHEN 'running' THEN EXISTS (SELECT 1 FROM running WHERE seq = o.seq) \
     WHEN 'waiting' THEN EXISTS (SELECT 1 FROM waiting WHERE seq = o.seq AND delayed_until IS NULL) \
     ELSE $9 IS NULL OR EXISTS (SELECT 1 FROM outcomes WHERE seq = o.seq AND state = $9) END \
     AND (NOT $11::boolean OR EXISTS (SELECT 1 FROM outcomes WHERE seq = o.seq AND error_code = 'outcome-unknown') \
     AND NOT EXISTS (SELECT 1 FROM verdicts WHERE seq = o.seq)) \
     ORDER BY o.id DESC LIMIT $10) \
     UNION ALL SELECT NULL, (SELECT id FROM looked ORDER BY id LIMIT 1), (SELECT count(*) FROM looked)";

pub(crate) async fn list(
    pool: &Arc<Pool>,
    sealer: &Sealer,
    listing: &Listing,
) -> Result<Page, LedgerError> {
    let (candidates, looked_to) = candidates(pool, listing).await?;
    let rows = rows_of(pool, &candidates).await?;
    let (mut operations, unread) = readable(&rows, |row| operation(row, sealer))?;
    operations.sort_unstable_by_key(|operation| std::cmp::Reverse(operation.id));
    let full = candidates.len() >= listing.limit;
    let next = if full { candidates.last().copied() } else { looked_to };
    Ok(Page { operations, next, unread })
}

/// The ids of a page, newest first, and how far it looked if there is more behind.
async fn candidates(
    pool: &Arc<Pool>,
    listing: &Listing,
) -> Result<(Vec<OperationId>, Option<OperationId>), LedgerError> {
    let upper = listing.before.map_or([0xff; 16], |before| *before.as_bytes());
    let values = Values::default()
        .with(upper.to_vec())
        .with(LOOKED_AT)
        .with(listing.principal.as_ref().map(|principal| principal.as_bytes().to_vec()))
        .with(listing.route.clone().map(storable))
        .with(listing.queue.clone().map(storable))
        .with(listing.tag.clone().map(storable))
        .with(listing.since.map(Timestamp::as_micros))
        .with(listing.until.map(Timestamp::as_micros))
        .with(listing.status.map(Status::as_str))
        .with(listing.limit as i64)
        .with(listing.unknown);
    let (mut ids, mut looked_to) = (Vec::new(), None);
    for row in &pool.read(LIST, values.finish()?).await? {
        match maybe_id(row, "id")? {
            Some(id) => ids.push(id),
            None if number::<i64>(row, "looked_at")? >= LOOKED_AT => {
                looked_to = maybe_id(row, "last")?;
            }
            None => {}
        }
    }
    ids.sort_unstable_by_key(|id| std::cmp::Reverse(*id));
    Ok((ids, looked_to))
}

/// Those below an operation, level by level, and no more than are shown. The server goes on with the
/// recursion only as far as rows are asked for.
pub(crate) const DESCENDANTS: &str = "WITH RECURSIVE below (id) AS (\
     SELECT id FROM operations WHERE parent = $1 \
     UNION SELECT o.id FROM below b JOIN operations o ON o.parent = b.id) \
     SELECT shown.id FROM (SELECT id FROM below LIMIT $2) AS shown ORDER BY shown.id";

pub(crate) async fn descendants(
    pool: &Arc<Pool>,
    sealer: &Sealer,
    of: OperationId,
    limit: u32,
) -> Result<Listed<Operation, OperationId>, LedgerError> {
    let values = Values::default().with(octets(of)).with(i64::from(limit)).finish()?;
    let rows = pool.read(DESCENDANTS, values).await?;
    let ids = rows.iter().map(|row| id(row, "id")).collect::<Result<Vec<_>, _>>()?;
    let mut rows = rows_of(pool, &ids).await?;
    rows.sort_by_cached_key(|row| maybe_id(row, "id").ok().flatten());
    Listed::of(&rows, limit as usize, |row| id(row, "id"), |row| operation(row, sealer))
}

pub(crate) async fn piece(
    pool: &Arc<Pool>,
    sealer: &Sealer,
    body: BodyKey,
    number: u32,
) -> Result<Option<Bytes>, LedgerError> {
    let rows = pool
        .read(
            "SELECT octets FROM pieces WHERE body = $1 AND number = $2",
            Values::default().with(body.0).with(i64::from(number)).finish()?,
        )
        .await?;
    rows.first().map(|row| rows::piece(row, body, number, sealer)).transpose()
}

/// The queues that are paused.
pub(crate) async fn paused(pool: &Arc<Pool>) -> Batch<String> {
    let rows = pool.read("SELECT queue FROM paused_queues", Values::default().finish()?).await?;
    rows.iter().map(|row| Ok(text(row, "queue")?.to_owned())).collect()
}

/// What lies in lanes, and is stored for them, by their rows.
macro_rules! rows_of_lanes {
    () => {
        "(SELECT lane, count(*) AS depth, 0 AS behind, 0 AS stored FROM ready GROUP BY lane UNION ALL \
         SELECT lane, 0, count(*), 0 FROM waiting WHERE serial_digest IS NOT NULL GROUP BY lane UNION ALL \
         SELECT abs(u.lane), 0, 0, sum(o.octets) FROM (SELECT seq, lane FROM ready UNION ALL \
         SELECT seq, lane FROM running UNION ALL SELECT seq, lane FROM waiting) AS u \
         JOIN operations o ON o.seq = u.seq GROUP BY abs(u.lane)) AS counted"
    };
}

/// Differs from SQLite because the nodes keep count.
const COUNTED: &str = "SELECT lane, sum(depth)::bigint AS depth, sum(behind)::bigint AS behind, \
     sum(stored)::bigint AS stored FROM counters GROUP BY lane";
macro_rules! first_count {
    ($unless:literal) => {
        concat!(
            "INSERT INTO counters (lane, incarnation, depth, behind, started, stored) \
             SELECT lane, 0, sum(depth)::bigint, sum(behind)::bigint, 0, sum(stored)::bigint FROM ",
            rows_of_lanes!(),
            $unless,
            " GROUP BY lane ORDER BY lane ON CONFLICT DO NOTHING"
        )
    };
}
/// The first count of a ledger that no node works on.
pub(crate) const FIRST_COUNT: &str = first_count!("");
/// Rows are counted only where no node has begun to. Another one that beats, as it does before it
/// accepts anything, may have counted what it has not told yet.
const FIRST_COUNT_ALONE: &str = first_count!(
    " WHERE NOT EXISTS (SELECT 1 FROM nodes WHERE incarnation <> $1 AND ended_at IS NULL AND beat > 0)"
);
/// Until those nodes tell, or are found dead.
const ROWS: &str = concat!(
    "SELECT lane, sum(depth)::bigint AS depth, sum(behind)::bigint AS behind, \
     sum(stored)::bigint AS stored FROM ",
    rows_of_lanes!(),
    " GROUP BY lane"
);

pub(crate) async fn depths(pool: &Arc<Pool>, book: &Book) -> Batch<LaneDepth> {
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
    let heads = oldest_due(pool, book, &lanes).await?;
    let depth = |((number, lane), oldest_due): ((i64, Lane), Option<Timestamp>)| {
        let (depth, behind, stored) = counted.get(&number).copied().unwrap_or_default();
        let claimable = u64::try_from(depth).unwrap_or(0);
        let depth = claimable + u64::try_from(behind).unwrap_or(0);
        let stored = u64::try_from(stored).unwrap_or(0);
        LaneDepth { lane, depth, claimable, oldest_due, stored }
    };
    Ok(all.into_iter().zip(heads).map(depth).collect())
}

pub(crate) async fn waiting(pool: &Arc<Pool>) -> Result<u64, LedgerError> {
    let rows =
        pool.read("SELECT count(*) AS waiting FROM waiting", Values::default().finish()?).await?;
    rows.first().map_or(Ok(0), |row| number(row, "waiting"))
}

pub(crate) async fn oldest_due(
    pool: &Arc<Pool>,
    book: &Book,
    lanes: &[Lane],
) -> Batch<Option<Timestamp>> {
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

/// Differs from SQLite because only here others write: the number of the latest event of
/// each operation, which rises with whatever happens to it.
const SEQUENCES: &str = concat!(
    "SELECT o.id, coalesce(x.sequence, u.sequence, r.sequence, w.sequence) AS sequence \
     FROM operations o LEFT JOIN outcomes x ON x.seq = o.seq",
    places!(),
    " WHERE o.id = ANY ($1)"
);

pub(crate) async fn sequences(pool: &Arc<Pool>, ids: &[OperationId]) -> Batch<(OperationId, u32)> {
    let wanted: Vec<_> = ids.iter().copied().map(octets).collect();
    let rows = pool.read(SEQUENCES, Values::default().with(wanted).finish()?).await?;
    rows.iter().map(|row| Ok((id(row, "id")?, number(row, "sequence")?))).collect()
}

const CALLED_OFF: &str = "SELECT o.id FROM running u CROSS JOIN LATERAL \
     (SELECT id FROM operations WHERE seq = u.seq LIMIT 1) AS o WHERE u.node = $1 AND u.cancel > 0";

pub(crate) async fn called_off(pool: &Arc<Pool>, book: &Book) -> Batch<OperationId> {
    let values = Values::default().with(book.incarnation).finish()?;
    let rows = pool.read(CALLED_OFF, values).await?;
    rows.iter().map(|row| id(row, "id")).collect()
}

/// Each operation is looked up by its key: see `places`.
const OVERDUE: &str = "SELECT r.seq, r.due_at, CASE WHEN o.deadline_at <= $4 THEN 1 ELSE 0 END::bigint AS late \
     FROM (SELECT seq, due_at FROM ready WHERE lane = $1 AND (due_at, seq) > ($2, $3) \
     ORDER BY due_at, seq LIMIT $5) AS r JOIN operations o ON o.seq = r.seq ORDER BY r.due_at, r.seq";

pub(crate) async fn overdue(
    pool: &Arc<Pool>,
    book: &Book,
    lane: &Lane,
    (from, look_at): (LanePlace, usize),
    now: Timestamp,
) -> Result<Overdue, LedgerError> {
    let values = Values::default().with(book.number(lane)?).with(from.due_at).with(from.seq);
    let values = values.with(now.as_micros()).with(look_at as i64);
    rows::overdue(&pool.read(OVERDUE, values.finish()?).await?, look_at)
}
