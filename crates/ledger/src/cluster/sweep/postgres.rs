//! The sweep on PostgreSQL, and the counts of lanes.

use crate::cache::counters::{Counter, Elsewhere, Glimpse, Part, Place, Recount};
use crate::cluster::limits::shares::stored;
use crate::db::postgres::Postgres;
use crate::db::postgres::arrays::Values;
use crate::db::postgres::transaction::PgTransaction;
use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::operations::prune::postgres::erase_pieces;
use crate::operations::reconcile::findings::{
    BATCH, BODIES, OLDEST_ATTEMPT, OWN_UNUSED, Sweep, Swept, abandoned, stray, unused,
};
use crate::rows::{maybe_number, number, time};
use cloakroom_domain::drift::ReportedDepth;
use cloakroom_domain::operation::Lane;
use cloakroom_domain::reconcile::Discrepancy;

/// Nodes of which nothing is expected any more: `$1` since when they are silent, `$2` those
/// that are dead.
macro_rules! gone {
    ($of:literal) => {
        concat!(
            "NOT EXISTS (SELECT 1 FROM nodes n WHERE n.incarnation = ",
            $of,
            r"
            AND NOT (greatest(n.beat_at, n.started_at, coalesce(n.ended_at, 0)) < $1
                AND (n.ended_at IS NOT NULL OR n.incarnation = ANY ($2))))"
        )
    };
}

macro_rules! elsewhere {
    ($column:literal) => {
        concat!(
            r"SELECT coalesce(sum(",
            $column,
            "), 0)::bigint AS depth, coalesce(sum(",
            $column,
            r") FILTER (WHERE incarnation = 0), 0)::bigint AS nobodys FROM counters
                WHERE lane = $1 AND incarnation <> $2"
        )
    };
}

/// Octets that are stored for operations of these lanes which have not ended, and of no more than
/// so many. Their rows are looked up one by one, for the reason that `places` tells; those that run
/// are found by their nodes, from the time on that each node told last.
macro_rules! stored_octets {
    ($lanes:literal, $most:literal) => {
        concat!(
            r"(SELECT coalesce(sum(o.octets), 0)::bigint FROM (SELECT seq FROM ready
                WHERE lane = ANY (",
            $lanes,
            r") UNION ALL SELECT u.seq FROM nodes n CROSS JOIN LATERAL (
                    SELECT seq, lane
                    FROM running
                    WHERE node = n.incarnation AND since >= n.owned_since
                    ORDER BY since
                    OFFSET 0
                ) AS u WHERE u.lane = ANY (",
            $lanes,
            ") UNION ALL SELECT seq FROM waiting WHERE lane = ANY (",
            $lanes,
            ") AND due_at IS NOT NULL UNION ALL SELECT seq FROM waiting WHERE lane = ANY (",
            $lanes,
            ") AND serial_digest IS NOT NULL LIMIT ",
            $most,
            r") AS u CROSS JOIN LATERAL (SELECT octets
            FROM operations
            WHERE seq = u.seq
            LIMIT 1) AS o)"
        )
    };
}

/// Rows and counts of one moment: a row for each node that beats, and one for all others.
macro_rules! glimpse {
    ($column:literal, $counted:expr) => {
        concat!(
            r"SELECT n.incarnation, n.beat, n.beat_at, coalesce(c.",
            $column,
            r", 0) AS depth, 0::bigint AS nobodys, 0::bigint AS counted FROM nodes n
                LEFT JOIN counters c ON c.lane = $1 AND c.incarnation = n.incarnation
                WHERE n.ended_at IS NULL AND n.incarnation <> $2 UNION ALL SELECT NULL,
                NULL, NULL, coalesce(sum(c.",
            $column,
            "), 0)::bigint, coalesce(sum(c.",
            $column,
            ") FILTER (WHERE c.incarnation = 0), 0)::bigint, ",
            $counted,
            r"
            FROM counters c
            LEFT JOIN nodes n ON n.incarnation = c.incarnation AND n.ended_at IS NULL
            WHERE c.lane = $1 AND c.incarnation <> $2 AND n.incarnation IS NULL"
        )
    };
}

statements! {
    const FOLD: &str = concat!(
        r"WITH gone AS (DELETE FROM counters c WHERE c.incarnation <> 0 AND ",
        gone!("c.incarnation"),
        r"
        RETURNING c.lane, c.depth, c.behind, c.started, c.stored)
            INSERT INTO counters (lane, incarnation, depth, behind, started, stored)
            SELECT lane, 0, sum(depth)::bigint, sum(behind)::bigint, sum(started)::bigint,
            sum(stored)::bigint FROM gone GROUP BY lane ORDER BY lane ON CONFLICT (lane,
            incarnation) DO UPDATE SET depth = counters.depth + EXCLUDED.depth,
            behind = counters.behind + EXCLUDED.behind,
            started = counters.started + EXCLUDED.started,
            stored = counters.stored + EXCLUDED.stored"
    );

    const PERMITS: &str = concat!(r"DELETE FROM permits p WHERE p.incarnation <> 0 AND ", gone!("p.incarnation"));

    const UNUSED: &str = concat!(
        r"
        SELECT p.body
        FROM pieces p
        LEFT JOIN requests q ON q.body_key = p.body
        LEFT JOIN results r ON r.body_key = p.body
        WHERE p.body > $3
            AND p.body <= $4
            AND p.number = 0
            AND q.seq IS NULL
            AND r.seq IS NULL
            AND ",
        gone!("p.node")
    );

    const HELD: &str = r"
        SELECT o.id
        FROM running u
        JOIN operations o ON o.seq = u.seq
        WHERE u.node = ANY ($1)";

    const ELSEWHERE: &str = concat!(elsewhere!("depth"));
    const ELSEWHERE_BEHIND: &str = concat!(elsewhere!("behind"));
    const ELSEWHERE_STORED: &str = concat!(elsewhere!("stored"));

    const COUNT_UP_TO: &str = r"
        SELECT count(*) AS depth
        FROM (
            SELECT 1
            FROM (
                SELECT lane
                FROM ready
                WHERE lane = ANY ($1)
                UNION ALL
                SELECT lane
                FROM waiting
                WHERE lane = ANY ($1) AND serial_digest IS NOT NULL
            ) AS queued
            LIMIT $2
        ) AS r";

    const STORED: &str = concat!(r"SELECT ", stored_octets!("$1", "ALL"), " AS stored");

    const GLIMPSE: &str = concat!(glimpse!(
        "depth",
        "(SELECT count(*) FROM (SELECT 1 FROM ready WHERE lane = $1 LIMIT $3) AS r)"
    ));

    const GLIMPSE_BEHIND: &str = concat!(glimpse!(
        "behind",
        r"(
            SELECT count(*)
            FROM (
                SELECT 1 FROM waiting WHERE lane = $1 AND serial_digest IS NOT NULL LIMIT $3
            ) AS r
        )"
    ));

    const GLIMPSE_STORED: &str = concat!(glimpse!("stored", stored_octets!("ARRAY[$1::bigint, -$1::bigint]", "$3")));

    const COUNT: &str = r"
        SELECT due_at, seq, counted
        FROM (
            SELECT due_at, seq, row_number() OVER (ORDER BY due_at, seq) AS counted
            FROM ready
            WHERE lane = $1 AND (due_at, seq) > ($2, $3)
            ORDER BY due_at, seq
            LIMIT $4
        ) AS w
        ORDER BY counted DESC
        LIMIT 1";

    const COUNT_BEHIND: &str = r"
        SELECT due_at, seq, counted
        FROM (
            SELECT 0::bigint AS due_at, seq, row_number() OVER (ORDER BY seq) AS counted
            FROM waiting
            WHERE lane = $1 AND serial_digest IS NOT NULL AND seq > $3
            ORDER BY seq
            LIMIT $4
        ) AS w
        WHERE $2::bigint <= w.due_at
        ORDER BY counted DESC
        LIMIT 1";

    /// Locks what is corrected, so that two who correct it do so one after the other.
    const LOCK: &str = r"
        INSERT INTO counters (lane, incarnation, depth, started)
        VALUES ($1, 0, 0, 0)
        ON CONFLICT (lane, incarnation) DO UPDATE SET depth = counters.depth";

    const CORRECT: &str = r"
        UPDATE counters
        SET depth = depth + $2
        WHERE lane = $1 AND incarnation = 0 AND depth = $3";

    const CORRECT_BEHIND: &str = r"
        UPDATE counters
        SET behind = behind + $2
        WHERE lane = $1 AND incarnation = 0 AND behind = $3";

    const CORRECT_STORED: &str = r"
        UPDATE counters
        SET stored = stored + $2
        WHERE lane = $1 AND incarnation = 0 AND stored = $3";
}

/// How many rows of a lane are counted together.
const COUNTED_TOGETHER: i64 = 20_000;

/// Sees to one batch of it.
pub(crate) async fn sweep(
    writing: &mut PgTransaction,
    sweep: &Sweep,
) -> Result<Swept, LedgerError> {
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
    let mut bodies: Vec<i64> =
        rows.iter().map(|row| number(row, "body")).collect::<Result<_, _>>()?;
    bodies.extend(own_unused(writing, sweep, (behind, last)).await?);
    swept.strays.extend(bodies.iter().copied().map(unused));
    if sweep.repair {
        erase_pieces(writing, bodies).await?;
    }
    swept.next = (number::<i64>(&row, "looked_at")? >= BATCH).then_some(last);
    Ok(swept)
}

/// Bodies between these two that this node wrote and abandoned.
async fn own_unused(
    writing: &mut PgTransaction,
    sweep: &Sweep,
    (behind, last): (i64, i64),
) -> Result<Vec<i64>, LedgerError> {
    let me = writing.book.incarnation;
    let values = Values::default().with(behind).with(last).with(me);
    let rows = writing.rows(OWN_UNUSED, values.with(sweep.silent_since.as_micros())).await?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let oldest = writing.row(OLDEST_ATTEMPT, Values::default().with(me)).await?;
    let oldest = oldest.map_or(Ok(None), |row| maybe_number(&row, "since"))?;
    abandoned(&rows, oldest)
}

/// What the others have counted in a part of a lane.
pub(crate) async fn counted_elsewhere(
    reader: &Postgres,
    (lane, part): &Counter,
) -> Result<Option<Elsewhere>, LedgerError> {
    let Postgres { pool, book, .. } = reader;
    let values = Values::default().with(book.number(lane)?).with(book.incarnation);
    let sql = of(*part, [ELSEWHERE, ELSEWHERE_BEHIND, ELSEWHERE_STORED]);
    let rows = pool.read(sql, values.finish()?).await?;
    let seen =
        |row| Ok(Elsewhere { depth: number(row, "depth")?, nobodys: number(row, "nobodys")? });
    rows.first().map(seen).transpose()
}

/// The statement of a part, of those for each in the order of [`Part::ALL`].
const fn of(part: Part, [ready, behind_keys, stored]: [&'static str; 3]) -> &'static str {
    match part {
        Part::Ready => ready,
        Part::BehindKeys => behind_keys,
        Part::Stored => stored,
    }
}

/// Counts the rows of some lanes, up to so many.
pub(crate) async fn count_up_to(
    reader: &Postgres,
    lanes: &[Lane],
    most: u64,
) -> Result<u64, LedgerError> {
    let Postgres { pool, book, .. } = reader;
    let numbers: Vec<_> = lanes.iter().map(|lane| book.number(lane)).collect::<Result<_, _>>()?;
    let values = Values::default().with(numbers).with(stored(most));
    let rows = pool.read(COUNT_UP_TO, values.finish()?).await?;
    rows.first().map_or(Ok(0), |row| number(row, "depth"))
}

/// Octets that are stored for what has not ended in some lanes.
pub(crate) async fn stored_in(reader: &Postgres, lanes: &[Lane]) -> Result<u64, LedgerError> {
    let Postgres { pool, book, .. } = reader;
    let numbers: Vec<_> = lanes.iter().map(|lane| book.number(lane)).collect::<Result<_, _>>()?;
    let numbers: Vec<_> = numbers.into_iter().flat_map(|number: i64| [number, -number]).collect();
    let rows = pool.read(STORED, Values::default().with(numbers).finish()?).await?;
    rows.first().map_or(Ok(0), |row| number(row, "stored"))
}

/// A part of a lane at this moment; none if it is deeper than that.
pub(crate) async fn glimpse(
    reader: &Postgres,
    (lane, part): &Counter,
    most: u64,
) -> Result<Option<Glimpse>, LedgerError> {
    let Postgres { pool, book, .. } = reader;
    let values = Values::default().with(book.number(lane)?).with(book.incarnation);
    let sql = of(*part, [GLIMPSE, GLIMPSE_BEHIND, GLIMPSE_STORED]);
    let rows = pool.read(sql, values.with(stored(most)).finish()?).await?;
    let mut glimpse = Glimpse { rows: 0, settled: 0, nobodys: 0, told: Vec::new() };
    for row in &rows {
        let depth = number(row, "depth")?;
        if let Some(node) = maybe_number(row, "incarnation")? {
            let (beat, at) = (number(row, "beat")?, time(row, "beat_at")?);
            glimpse.told.push(ReportedDepth { node, beat, at, depth });
        } else {
            glimpse.settled = depth;
            glimpse.nobodys = number(row, "nobodys")?;
            glimpse.rows = number(row, "counted")?;
        }
    }
    let is_whole = *part == Part::Stored || glimpse.rows < stored(most);
    Ok(is_whole.then_some(glimpse))
}

/// Counts the next rows of a part of a lane.
pub(crate) async fn count_some(
    reader: &Postgres,
    (lane, part): &Counter,
    (due_at, seq): Place,
) -> Result<(i64, Option<Place>), LedgerError> {
    let Postgres { pool, book, .. } = reader;
    let sql = match part {
        Part::Ready => COUNT,
        Part::BehindKeys => COUNT_BEHIND,
        Part::Stored => {
            let octets = stored_in(reader, std::slice::from_ref(lane)).await?;
            return Ok((stored(octets), None));
        }
    };
    let values = Values::default().with(book.number(lane)?).with(due_at).with(seq);
    let rows = pool.read(sql, values.with(COUNTED_TOGETHER).finish()?).await?;
    let Some(row) = rows.first() else { return Ok((0, None)) };
    let counted = number(row, "counted")?;
    let last = (number(row, "due_at")?, number(row, "seq")?);
    Ok((counted, (counted >= COUNTED_TOGETHER).then_some(last)))
}

/// Corrects what is counted in a part of a lane, unless another node has corrected it since.
pub(crate) async fn recount(
    writing: &mut PgTransaction,
    recount: &Recount,
) -> Result<(), LedgerError> {
    let (lane, part) = &recount.counter;
    let place = writing.book.number(lane)?;
    writing.run(LOCK, Values::default().with(place)).await?;
    let values = Values::default().with(place).with(recount.by).with(recount.nobodys);
    writing.run(of(*part, [CORRECT, CORRECT_BEHIND, CORRECT_STORED]), values).await
}
