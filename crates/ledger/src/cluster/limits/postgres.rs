//! The division of limits on PostgreSQL.

use crate::cluster::limits::shares::{Asking, Divided, LimitName, Part, decide, stored};
use crate::db::postgres::Postgres;
use crate::db::postgres::arrays::Values;
use crate::db::postgres::transaction::PgTransaction;
use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::rows::{damaged, number, text};
use crate::store::Batch;
use cloakroom_domain::Timestamp;

statements! {
    /// Differs from SQLite because others divide too: each limit has a row to lock, which is
    /// made where there is none. Sorted, so that no two wait for each other.
    const LOCK: &str = r"
        INSERT INTO permits (kind, name, incarnation, most, holds, needs, used, since)
        SELECT k.kind, k.name, 0, 0, 0, 0, 0, 0
        FROM UNNEST($1::text[], $2::text[]) AS k (kind, name)
        ORDER BY k.kind, k.name
        ON CONFLICT (kind, name, incarnation) DO UPDATE SET since = permits.since";

    /// A node that is dead keeps its part if it has beaten since.
    const PARTS: &str = r"
        SELECT p.kind, p.name, p.incarnation, p.most, p.holds, p.needs, p.used, p.since,
            CASE WHEN n.incarnation IS NULL
            OR n.ended_at IS NOT NULL
            OR d.incarnation IS NOT NULL THEN 1 ELSE 0 END::bigint AS gone
        FROM UNNEST($1::text[], $2::text[]) AS k (kind, name)
        JOIN permits p ON p.kind = k.kind AND p.name = k.name
        LEFT JOIN nodes n ON n.incarnation = p.incarnation
        LEFT JOIN UNNEST($3::bigint[], $4::bigint[]) AS d (incarnation, beat)
            ON d.incarnation = p.incarnation
            AND (d.beat IS NULL OR d.beat = n.beat)
        WHERE p.incarnation <> 0";

    const GONE: &str = r"
        DELETE FROM permits p USING UNNEST($1::text[], $2::text[], $3::bigint[]) AS g (kind,
            name, incarnation)
        WHERE p.kind = g.kind AND p.name = g.name AND p.incarnation = g.incarnation";

    const KEPT: &str = r"
        INSERT INTO permits (kind, name, incarnation, most, holds, needs, used, since)
        SELECT *
        FROM UNNEST($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[],
            $6::bigint[], $7::bigint[], $8::bigint[])
        ON CONFLICT (kind, name, incarnation) DO UPDATE SET most = EXCLUDED.most,
            holds = EXCLUDED.holds, needs = EXCLUDED.needs, used = EXCLUDED.used,
            since = EXCLUDED.since";

    const USED: &str = r"
        SELECT p.kind, p.name, sum(p.used)::bigint AS used
        FROM permits p
        JOIN nodes n ON n.incarnation = p.incarnation
        WHERE p.incarnation <> $1 AND n.ended_at IS NULL
        GROUP BY p.kind, p.name";

    /// What is free when a node ends.
    pub(crate) const LEFT: &str = r"DELETE FROM permits WHERE incarnation = $1";

    /// The row of no node says when the bucket was empty, as the last of all has told.
    const KEPT_EMPTIED: &str = r"
        INSERT INTO permits (kind, name, incarnation, most, holds, needs, used, since)
        SELECT k.kind, k.name, 0, 0, 0, 0, 0, k.since
        FROM UNNEST($1::text[], $2::text[], $3::bigint[]) AS k (kind, name, since)
        ORDER BY k.kind, k.name
        ON CONFLICT (kind, name, incarnation) DO UPDATE SET since = greatest(permits.since,
            EXCLUDED.since)";
}

pub(crate) async fn divide(
    writing: &mut PgTransaction,
    asking: &Asking,
    now: Timestamp,
) -> Batch<Divided> {
    let (kinds, names): (Vec<_>, Vec<_>) = asking.asked.iter().map(|it| words(&it.of)).unzip();
    let keys = || Values::default().with(kinds.clone()).with(names.clone());
    writing.run(LOCK, keys()).await?;
    let (dead, beats): (Vec<_>, Vec<_>) =
        asking.dead.iter().map(|dead| (dead.incarnation, dead.beat)).unzip();
    let rows = writing.rows(PARTS, keys().with(dead).with(beats)).await?;
    let parts: Vec<_> = rows.iter().map(Part::read).collect::<Result<_, _>>()?;
    let node = writing.book.incarnation;
    // A node that asks is there, whatever others think.
    let (gone, there): (Vec<_>, Vec<_>) =
        parts.into_iter().partition(|part| part.gone && part.stake.node != node);
    bury(writing, &gone).await?;
    let (answers, mine): (Vec<_>, Vec<_>) =
        decide(&asking.asked, &there, node, now).into_iter().unzip();
    keep(writing, &mine).await?;
    Ok(answers)
}

fn words(of: &LimitName) -> (String, String) {
    (of.kind.as_str().to_owned(), of.name.to_string())
}

async fn bury(writing: &mut PgTransaction, gone: &[Part]) -> Result<(), LedgerError> {
    if gone.is_empty() {
        return Ok(());
    }
    let (kinds, names): (Vec<_>, Vec<_>) = gone.iter().map(|part| words(&part.of)).unzip();
    let nodes: Vec<_> = gone.iter().map(|part| part.stake.node).collect();
    writing.run(GONE, Values::default().with(kinds).with(names).with(nodes)).await
}

async fn keep(writing: &mut PgTransaction, mine: &[Part]) -> Result<(), LedgerError> {
    let (kinds, names): (Vec<_>, Vec<_>) = mine.iter().map(|part| words(&part.of)).unzip();
    let of = |column: fn(&Part) -> i64| mine.iter().map(column).collect::<Vec<_>>();
    let values = Values::default()
        .with(kinds)
        .with(names)
        .with(of(|part| part.stake.node))
        .with(of(|part| stored(part.stake.limit)))
        .with(of(|part| stored(part.stake.holds)))
        .with(of(|part| stored(part.stake.needs)))
        .with(of(|part| stored(part.used)))
        .with(of(|part| part.stake.since.as_micros()));
    writing.run(KEPT, values).await
}

/// Writes down when buckets would have been empty. It comes before this node's own rows, as
/// in dividing.
pub(crate) async fn keep_emptied(
    writing: &mut PgTransaction,
    emptied: &[(LimitName, Timestamp)],
) -> Result<(), LedgerError> {
    if emptied.is_empty() {
        return Ok(());
    }
    let (kinds, names): (Vec<_>, Vec<_>) = emptied.iter().map(|(of, _)| words(of)).unzip();
    let since: Vec<_> = emptied.iter().map(|(_, since)| since.as_micros()).collect();
    writing.run(KEPT_EMPTIED, Values::default().with(kinds).with(names).with(since)).await
}

/// Attempts that run on other nodes.
pub(crate) async fn used(reader: &Postgres) -> Batch<(LimitName, u64)> {
    let node = reader.book.incarnation;
    let rows = reader.pool.read(USED, Values::default().with(node).finish()?).await?;
    let used = |row| {
        let kind = text(row, "kind")?.parse().map_err(damaged)?;
        Ok((LimitName { kind, name: text(row, "name")?.into() }, number(row, "used")?))
    };
    rows.iter().map(used).collect()
}
