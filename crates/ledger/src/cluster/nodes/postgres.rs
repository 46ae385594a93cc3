//! The beats of this node, and what they bring of the others.

use crate::cluster::fleet::{Beaten, Counted, Owned, Vitals};
use crate::cluster::limits::postgres as permits;
use crate::cluster::limits::shares::{Leaving, stored as number_of};
use crate::db::postgres::Postgres;
use crate::db::postgres::arrays::Values;
use crate::db::postgres::owned_rows::ON_ITS_WAY;
use crate::db::postgres::transaction::PgTransaction;
use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::rows::{as_micros, damaged, number, owned, sign, time as instant};
use crate::store::Batch;
use cloakroom_domain::Timestamp;

statements! {
    /// Differs from SQLite because nodes are to agree on the time: each samples the server's.
    const BEAT: &str = r"
        UPDATE nodes
        SET name = $1, role = $2, queues = $3, slots = $4, running = $5, fingerprint = $6,
            lease_us = $7, beat_at = $8, beat = beat + 1, ended_at = NULL, owned_since = $10
        WHERE incarnation = $9
        RETURNING beat, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS sampled";

    /// The server's time, for a node that has not beaten yet.
    pub(crate) const TIME: &str = r"SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS sampled";

    /// Differs from SQLite because an old snapshot keeps what has ended in the index, and a beat must
    /// not walk past it. A node counts as an owner until a takeover has found that it owns nothing.
    /// Only a row that was then on its way may have come since, and that one is as young as the
    /// node's last beat.
    const OTHERS: &str = r"
        SELECT s.incarnation, s.beat, s.lease_us, s.ended_at, s.holds
        FROM (
            SELECT n.incarnation, n.beat, n.lease_us, n.ended_at, CASE
                WHEN n.cleared IS DISTINCT FROM n.beat THEN 1 ELSE (
                SELECT count(*)
                FROM (
                    SELECT seq
                    FROM running
                    WHERE node = n.incarnation AND since >= n.beat_at - $2
                    ORDER BY since
                    LIMIT 1
                ) AS late
            ) END::bigint AS holds
            FROM nodes n
            WHERE n.incarnation <> $1
        ) AS s
        WHERE s.ended_at IS NULL OR s.holds > 0";

    /// Differs from SQLite for the same reason: what is as young as the last beat is looked for, and
    /// what was known then is looked up.
    const OWNED: &str = r"
        SELECT seq, token, taken_over, cancel, since
        FROM running
        WHERE node = $1 AND since >= $2
        UNION ALL
        SELECT u.seq, u.token, u.taken_over, u.cancel, u.since
        FROM UNNEST($3::bigint[]) AS known (seq)
        CROSS JOIN LATERAL (
            SELECT seq, token, taken_over, cancel, since
            FROM running
            WHERE seq = known.seq AND node = $1 AND since < $2
            LIMIT 1
        ) AS u";

    const LEFT: &str = r"UPDATE nodes SET ended_at = $1, running = 0 WHERE incarnation = $2";

    /// Absolute figures, so that telling them twice does no harm.
    const COUNTED: &str = r"
        INSERT INTO counters (lane, incarnation, depth, behind, started, stored)
        SELECT c.lane, $1, c.depth, c.behind, c.started, c.stored
        FROM UNNEST($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[],
            $6::bigint[]) AS c (lane, depth, behind, started, stored)
        ON CONFLICT (lane, incarnation) DO UPDATE SET depth = EXCLUDED.depth,
            behind = EXCLUDED.behind, started = EXCLUDED.started, stored = EXCLUDED.stored";

    const ELSEWHERE: &str = r"
        SELECT lane, sum(depth)::bigint AS depth, sum(behind)::bigint AS behind,
            sum(started)::bigint AS started, sum(stored)::bigint AS stored
        FROM counters
        WHERE incarnation <> $1
        GROUP BY lane";

    const UNCOUNTED: &str = r"DELETE FROM counters WHERE incarnation = $1";

    const NOBODYS: &str = r"
        INSERT INTO counters (lane, incarnation, depth, behind, started, stored)
        SELECT c.lane, 0, c.depth, c.behind, c.started, c.stored
        FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[],
            $5::bigint[]) AS c (lane, depth, behind, started, stored)
        ORDER BY c.lane
        ON CONFLICT (lane, incarnation) DO UPDATE
            SET depth = counters.depth + EXCLUDED.depth,
            behind = counters.behind + EXCLUDED.behind,
            started = counters.started + EXCLUDED.started,
            stored = counters.stored + EXCLUDED.stored";
}

pub(crate) async fn beat(
    writing: &mut PgTransaction,
    vitals: &Vitals,
    counted: &[Counted],
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
        .with(incarnation)
        .with(writing.book.property.oldest());
    let row = writing.row(BEAT, values).await?;
    let row = row.ok_or_else(|| damaged("this node is not in the ledger"))?;
    let late = as_micros(ON_ITS_WAY);
    let others = writing.rows(OTHERS, Values::default().with(incarnation).with(late)).await?;
    let held = owned_by(writing, incarnation, now).await?;
    if !counted.is_empty() {
        let (lanes, [depths, behind, started, stored]) = columns(writing, counted)?;
        let values = Values::default().with(incarnation).with(lanes).with(depths);
        writing.run(COUNTED, values.with(behind).with(started).with(stored)).await?;
    }
    let elsewhere = elsewhere(writing, incarnation).await?;
    Ok(Beaten {
        beat: number(&row, "beat")?,
        time: Some(instant(&row, "sampled")?),
        others: others.iter().map(sign).collect::<Result<_, _>>()?,
        held,
        elsewhere,
    })
}

/// What this node owns.
async fn owned_by(writing: &mut PgTransaction, incarnation: i64, now: Timestamp) -> Batch<Owned> {
    let (low, known) = writing.book.property.question();
    let values = Values::default().with(incarnation).with(low).with(known);
    let rows = writing.rows(OWNED, values).await?;
    let seen: Result<_, LedgerError> =
        rows.iter().map(|row| Ok((number(row, "seq")?, number(row, "since")?))).collect();
    writing.book.property.seen(seen?, now);
    rows.iter().map(owned).collect()
}

/// What all others have counted, those that are gone included.
async fn elsewhere(writing: &mut PgTransaction, incarnation: i64) -> Batch<Counted> {
    let rows = writing.rows(ELSEWHERE, Values::default().with(incarnation)).await?;
    let lanes: Result<Vec<i64>, _> = rows.iter().map(|row| number(row, "lane")).collect();
    writing.learn_lanes(lanes?).await?;
    let counted = |row| {
        Ok(Counted {
            lane: writing.lane(number(row, "lane")?)?,
            depth: number(row, "depth")?,
            behind: number(row, "behind")?,
            started: number(row, "started")?,
            stored: number(row, "stored")?,
        })
    };
    rows.iter().map(counted).collect()
}

/// Lanes, and what was counted in each: depth, behind keys, started, stored.
type Columns = (Vec<i64>, [Vec<i64>; 4]);

fn columns(writing: &PgTransaction, counted: &[Counted]) -> Result<Columns, LedgerError> {
    let mut columns = Columns::default();
    for Counted { lane, depth, behind, started, stored } in counted {
        columns.0.push(writing.book.number(lane)?);
        let counts = [*depth, *behind, number_of(*started), *stored];
        columns.1.iter_mut().zip(counts).for_each(|(column, count)| column.push(count));
    }
    Ok(columns)
}

pub(crate) async fn leave(
    writing: &mut PgTransaction,
    leaving: &Leaving,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let incarnation = writing.book.incarnation;
    permits::keep_emptied(writing, &leaving.emptied).await?;
    writing.run(LEFT, Values::default().with(now.as_micros()).with(incarnation)).await?;
    writing.run(permits::LEFT, Values::default().with(incarnation)).await?;
    writing.run(UNCOUNTED, Values::default().with(incarnation)).await?;
    let (lanes, [depths, behind, started, stored]) = columns(writing, &leaving.counted)?;
    let values = Values::default().with(lanes).with(depths);
    writing.run(NOBODYS, values.with(behind).with(started).with(stored)).await
}

/// The time of the server.
pub(crate) async fn time(reader: &Postgres) -> Result<Timestamp, LedgerError> {
    let rows = reader.pool.read(TIME, Values::default().finish()?).await?;
    let row = rows.first().ok_or_else(|| damaged("the server has no time"))?;
    instant(row, "sampled")
}
