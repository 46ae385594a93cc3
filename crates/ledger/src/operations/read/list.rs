//! A page of operations, newest first.

use std::cmp::Reverse;

use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::model::{Listing, Page};
use crate::operations::read::find::OperationReader;
use crate::page::readable;
use crate::rows::{ReadRow, id, maybe_id, number, operation};
use crate::webhooks::sql::Params;
use cloakroom_domain::operation::Status;
use cloakroom_domain::{OperationId, Timestamp};

statements! {
    /// A filter that is not asked for is NULL, so that the text is always the same.
    const LIST: &str = r"
        WITH looked AS MATERIALIZED (
            SELECT seq, id, principal, route, lane, accepted_at
            FROM operations
            WHERE id < $1
            ORDER BY id DESC
            LIMIT $2
        )
        SELECT page.id, NULL AS last, NULL AS looked_at
        FROM (
            SELECT o.id
            FROM looked o
            WHERE (o.principal = $3 OR $3 IS NULL)
                AND (o.route = $4 OR $4 IS NULL)
                AND (o.lane IN (SELECT lane FROM lanes WHERE queue = $5) OR $5 IS NULL)
                AND (EXISTS (SELECT 1 FROM tags t WHERE t.tag = $6 AND t.seq = o.seq) OR $6 IS NULL)
                AND (o.accepted_at >= $7 OR $7 IS NULL)
                AND (o.accepted_at < $8 OR $8 IS NULL)
                AND CASE $9
                    WHEN 'queued' THEN EXISTS (SELECT 1 FROM ready WHERE seq = o.seq)
                        OR EXISTS (SELECT 1 FROM waiting WHERE seq = o.seq AND delayed_until IS NOT NULL)
                    WHEN 'running' THEN EXISTS (SELECT 1 FROM running WHERE seq = o.seq)
                    WHEN 'waiting' THEN EXISTS (SELECT 1 FROM waiting WHERE seq = o.seq AND delayed_until IS NULL)
                    ELSE $9 IS NULL OR EXISTS (SELECT 1 FROM outcomes WHERE seq = o.seq AND state = $9)
                END
                AND ($10 = 0
                    OR EXISTS (SELECT 1 FROM outcomes WHERE seq = o.seq AND error_code = 'outcome-unknown')
                    AND NOT EXISTS (SELECT 1 FROM verdicts WHERE seq = o.seq))
            ORDER BY o.id DESC
            LIMIT $11
        ) AS page
        UNION ALL
        SELECT NULL, (SELECT id FROM looked ORDER BY id LIMIT 1), (SELECT count(*) FROM looked)";
}

/// How many operations one page looks at, so that a filter that fits nothing does not
/// walk the whole ledger.
const LOOKED_AT: i64 = 5_000;

/// A page of operations.
pub(crate) async fn list(
    reader: &impl OperationReader,
    listing: &Listing,
) -> Result<Page, LedgerError> {
    let rows = reader.ask(LIST.into(), params(listing)).await?;
    let is_end = |row: &_| matches!(ReadRow::octets(row, "id"), Ok(None));
    let (end, found): (Vec<_>, Vec<_>) = rows.into_iter().partition(is_end);
    let is_full = found.len() >= listing.limit;
    let (mut ids, nameless) = readable(&found, |row| id(row, "id"))?;
    ids.sort_unstable_by_key(|id| Reverse(*id));
    let rows = reader.rows_of(&ids).await?;
    let (mut operations, mut unread) = readable(&rows, |row| operation(row, reader.sealer()))?;
    unread.extend(nameless);
    operations.sort_unstable_by_key(|operation| Reverse(operation.id));
    let next = if is_full { ids.last().copied() } else { looked_to(&end)? };
    Ok(Page { operations, next, unread })
}

/// How far the page looked, if there is more behind.
fn looked_to<R: ReadRow>(end: &[R]) -> Result<Option<OperationId>, LedgerError> {
    let Some(end) = end.first() else { return Ok(None) };
    let is_more = number::<i64>(end, "looked_at")? >= LOOKED_AT;
    Ok(if is_more { maybe_id(end, "last").unwrap_or_default() } else { None })
}

fn params(listing: &Listing) -> Params {
    let upper = listing.before.map_or([0xff; 16], |before| *before.as_bytes());
    Params::none()
        .octets(upper.to_vec())
        .and(LOOKED_AT)
        .octets(listing.principal.as_ref().map(|principal| principal.as_bytes().to_vec()))
        .text(listing.route.clone())
        .text(listing.queue.clone())
        .text(listing.tag.clone())
        .and(listing.since.map(Timestamp::as_micros))
        .and(listing.until.map(Timestamp::as_micros))
        .text(listing.status.map(|status| Status::as_str(status).to_owned()))
        .and(i64::from(listing.unknown))
        .and(listing.limit as i64)
}
