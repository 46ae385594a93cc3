//! Reconciliation: finds faults batch by batch, and repairs those that are safe to repair.
//!
//! Owns the questions that both engines ask alike. Its invariant: each question sees one
//! moment, so that what is on its way from state to state is never taken for a stray; and
//! what is repaired is looked at again in the transaction that repairs it.

use std::time::Duration;

use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::rows::{ReadRow, id, maybe_id, maybe_number, number};
use cloakroom_domain::Timestamp;
use cloakroom_domain::reconcile::{Discrepancy, OrphanRow};

macro_rules! without_operation {
    ($($table:literal $returning:literal),*) => {
        [$((
            $table,
            concat!(r"SELECT count(*) AS strays FROM ", $table, r"
            AS t
            LEFT JOIN operations o ON o.seq = t.seq
            WHERE t.seq > $1 AND t.seq <= $2 AND o.seq IS NULL"),
            concat!(r"DELETE FROM ", $table, r"
            WHERE seq > $1
                AND seq <= $2
                AND NOT EXISTS (SELECT 1 FROM operations o WHERE o.seq = ", $table, ".seq) RETURNING ", $returning),
        )),*]
    };
}

statements! {
    /// The end of a batch: how many operations it has, and the place of the last.
    pub(crate) const WINDOW: &str = r"
        SELECT max(w.seq) AS last, count(*) AS looked_at
        FROM (SELECT seq FROM operations WHERE seq > $1 ORDER BY seq LIMIT $2) AS w";

    /// Operations that are not in exactly one state.
    pub(crate) const STATES: &str = r"
        SELECT s.seq, s.id, s.live, s.ended
        FROM (
            SELECT o.seq, o.id, CAST((CASE WHEN r.seq IS NULL THEN 0 ELSE 1 END) + (CASE
                WHEN u.seq IS NULL THEN 0 ELSE 1 END) + (CASE WHEN w.seq IS NULL THEN 0
                ELSE 1 END) AS BIGINT) AS live, CAST(CASE WHEN x.seq IS NULL THEN 0
                ELSE 1 END AS BIGINT) AS ended
            FROM operations o
            LEFT JOIN ready r ON r.seq = o.seq
            LEFT JOIN running u ON u.seq = o.seq
            LEFT JOIN waiting w ON w.seq = o.seq
            LEFT JOIN outcomes x ON x.seq = o.seq
            WHERE o.seq > $1 AND o.seq <= $2
        ) AS s
        WHERE s.live + s.ended <> 1";

    /// Outcomes that are not going to be freed.
    pub(crate) const UNFREED: &str = r"
        SELECT x.seq, x.expires_at, o.id
        FROM outcomes x
        JOIN operations o ON o.seq = x.seq
        LEFT JOIN expiries e ON e.due_at = x.expires_at AND e.seq = x.seq
        WHERE x.seq > $1 AND x.seq <= $2 AND x.freed_at IS NULL AND e.seq IS NULL";

    pub(crate) const FREE_LATER: &str = r"
        INSERT INTO expiries (due_at, seq, kind)
        VALUES ($1, $2, 'result')
        ON CONFLICT DO NOTHING";

    /// What runs on nodes that never were.
    pub(crate) const NOWHERE: &str = r"
        SELECT o.id
        FROM running u
        JOIN operations o ON o.seq = u.seq
        LEFT JOIN nodes n ON n.incarnation = u.node
        WHERE u.seq > $1 AND u.seq <= $2 AND n.incarnation IS NULL";

    /// Operations whose lane does not exist, as their own row or that of their state says, and the lane
    /// that the other one names. What runs alone in a lane has its number below zero.
    pub(crate) const LANELESS: &str = r"
        SELECT s.seq, s.id, s.due_at, coalesce(s.home, (SELECT lane FROM lanes
            WHERE lane = abs(s.held))) AS mended
        FROM (
            SELECT o.seq, o.id, (SELECT due_at FROM ready WHERE seq = o.seq) AS due_at,
                (SELECT lane FROM lanes WHERE lane = o.lane) AS home, coalesce((SELECT lane
                FROM ready WHERE seq = o.seq), (SELECT lane FROM running WHERE seq = o.seq),
                (SELECT lane FROM waiting WHERE seq = o.seq)) AS held
            FROM operations o
            WHERE o.seq > $1 AND o.seq <= $2
        ) AS s
        WHERE s.home IS NULL
            OR s.held IS NOT NULL
            AND (SELECT lane FROM lanes WHERE lane = abs(s.held)) IS NULL";

    /// Puts an operation into the lane that it is known to be of.
    pub(crate) const INTO_LANE: [&str; 4] = [
        r"UPDATE operations SET lane = $1 WHERE seq = $2",
        r"UPDATE ready SET lane = $1 WHERE seq = $2 AND abs(lane) <> $1",
        r"UPDATE running SET lane = $1 WHERE seq = $2 AND abs(lane) <> $1",
        r"UPDATE waiting SET lane = $1 WHERE seq = $2 AND abs(lane) <> $1",
    ];

    /// Unknown outcomes without a verdict.
    pub(crate) const UNKNOWN: &str = r"
        SELECT o.id
        FROM outcomes x
        JOIN operations o ON o.seq = x.seq
        LEFT JOIN verdicts v ON v.seq = x.seq
        WHERE x.seq > $1
            AND x.seq <= $2
            AND x.error_code = 'outcome-unknown'
            AND v.seq IS NULL";

    /// Operations that wait for a key that no operation holds, and that no look is about to give it to.
    pub(crate) const WAITING: &str = r"
        SELECT o.id, w.serial_digest AS digest
        FROM waiting w
        JOIN operations o ON o.seq = w.seq
        LEFT JOIN serial_keys k ON k.digest = w.serial_digest
        WHERE w.seq > $1
            AND w.seq <= $2
            AND w.serial_digest IS NOT NULL
            AND k.digest IS NULL
            AND w.delayed_until IS NULL
            AND NOT EXISTS (
            SELECT 1
            FROM waiting d
            WHERE d.serial_digest = w.serial_digest
                AND d.turn_at <= $3
                AND d.delayed_until IS NOT NULL
        )
        ORDER BY w.seq";

    /// The next keys, and whether their holders can let go of them.
    pub(crate) const KEYS: &str = r"
        SELECT k.digest, k.seq, CAST(CASE WHEN b.digest IS NULL AND k.seq <> 0
            AND (x.seq IS NOT NULL OR o.seq IS NULL) THEN 1 ELSE 0 END AS BIGINT) AS stuck
        FROM serial_keys k
        LEFT JOIN blocked_keys b ON b.digest = k.digest AND b.seq = k.seq
        LEFT JOIN operations o ON o.seq = k.seq
        LEFT JOIN outcomes x ON x.seq = k.seq
        WHERE k.digest > $1
        ORDER BY k.digest
        LIMIT $2";

    /// The next bodies that are in pieces, and the last of them.
    pub(crate) const BODIES: &str = r"
        SELECT max(b.body) AS last, count(*) AS looked_at
        FROM (
            SELECT body FROM pieces WHERE number = 0 AND body > $1 ORDER BY body LIMIT $2
        ) AS b";

    /// Of those, bodies that this node wrote some time ago and that nothing refers to.
    pub(crate) const OWN_UNUSED: &str = r"
        SELECT p.body, p.written_at
        FROM pieces p
        LEFT JOIN requests q ON q.body_key = p.body
        LEFT JOIN results r ON r.body_key = p.body
        WHERE p.body > $1
            AND p.body <= $2
            AND p.number = 0
            AND p.node = $3
            AND p.written_at < $4
            AND q.seq IS NULL
            AND r.seq IS NULL";

    /// Since when the longest of a node's attempts runs: it may still be reading its answer.
    pub(crate) const OLDEST_ATTEMPT: &str = r"SELECT min(since) AS since FROM running WHERE node = $1";

    /// Tables of what belongs to an operation: their names, and how rows without one are
    /// counted and deleted.
    pub(crate) const TABLES: [(&str, &str, &str); 9] = without_operation!(
        "requests" "seq",
        "results" "seq",
        "credentials" "seq",
        "verdicts" "seq",
        "events" "seq",
        "ready" "lane",
        "running" "lane",
        "waiting" "lane",
        "outcomes" "seq"
    );

    /// Tables that an operation which has ended has no row in.
    pub(crate) const LIVE: [(&str, &str); 3] = [
        ("ready", r"DELETE FROM ready WHERE seq = $1 RETURNING lane"),
        ("running", r"DELETE FROM running WHERE seq = $1 RETURNING lane"),
        ("waiting", r"DELETE FROM waiting WHERE seq = $1 RETURNING lane"),
    ];
}

/// How long a node that has ended or is dead is waited for before what it left is seen to:
/// it may be finishing what its clients wait for.
pub(crate) const SILENCE: Duration = Duration::from_hours(1);

/// How many operations or keys are looked at together: no write waits long behind it.
pub(crate) const BATCH: i64 = 250;

/// Where a look goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cursor {
    /// Behind the operation in this place.
    Operations(i64),
    /// Behind the key of this name; at the first of all where there is none.
    Keys(Option<[u8; 16]>),
}

/// What is looked at next, and whether it is repaired.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) cursor: Cursor,
    pub(crate) repair: bool,
    pub(crate) now: Timestamp,
}

/// A look at what nodes have left that are gone.
#[derive(Clone, Debug)]
pub(crate) struct Sweep {
    /// Behind this body; at the first of all where there is none.
    pub(crate) behind: Option<i64>,
    /// Nodes that have not ended and are dead.
    pub(crate) dead: Vec<i64>,
    /// Who has given no sign since then, and has ended or is dead, is gone. No upload began before
    /// then and still goes on.
    pub(crate) silent_since: Timestamp,
    pub(crate) repair: bool,
}

/// What one such look came to.
#[derive(Debug, Default)]
pub(crate) struct Swept {
    pub(crate) strays: Vec<OrphanRow>,
    /// The body to go on behind.
    pub(crate) next: Option<i64>,
}

/// What one step came to.
#[derive(Debug, Default)]
pub(crate) struct Stepped {
    pub(crate) strays: Vec<OrphanRow>,
    pub(crate) looked_at: u64,
    pub(crate) next: Option<Cursor>,
}

/// Those of [`OWN_UNUSED`] that no attempt can still be writing, which runs since `oldest`.
pub(crate) fn abandoned<R: ReadRow>(
    rows: &[R],
    oldest: Option<i64>,
) -> Result<Vec<i64>, LedgerError> {
    let mut bodies = Vec::with_capacity(rows.len());
    for row in rows {
        let written_at: i64 = number(row, "written_at")?;
        if oldest.is_none_or(|since| written_at < since) {
            bodies.push(number(row, "body")?);
        }
    }
    Ok(bodies)
}

/// A body whose pieces nothing refers to.
pub(crate) fn unused(body: i64) -> OrphanRow {
    OrphanRow { kind: Discrepancy::UnusedPieces, name: body.to_string() }
}

/// An operation that is not in exactly one state.
pub(crate) fn misplaced(row: &impl ReadRow) -> Result<OrphanRow, LedgerError> {
    let kind = match (number::<i64>(row, "live")?, number::<i64>(row, "ended")?) {
        (0, 0) => Discrepancy::InNoState,
        (_, 0) => Discrepancy::InTwoStates,
        _ => Discrepancy::EndedAndLive,
    };
    Ok(OrphanRow { kind, name: id(row, "id")?.to_string() })
}

/// An operation whose lane does not exist, its place, and the lane that it is known to be of.
pub(crate) fn laneless(row: &impl ReadRow) -> Result<(OrphanRow, i64, Option<i64>), LedgerError> {
    let mended = maybe_number(row, "mended")?;
    let kind = if mended.is_some() { Discrepancy::Mislaid } else { Discrepancy::InNoLane };
    Ok((stray(kind, row)?, number(row, "seq")?, mended))
}

/// An operation of that kind.
pub(crate) fn stray(kind: Discrepancy, row: &impl ReadRow) -> Result<OrphanRow, LedgerError> {
    let name = maybe_id(row, "id")?.map(|id| id.to_string()).unwrap_or_default();
    Ok(OrphanRow { kind, name })
}

/// Rows of a table without an operation.
pub(crate) fn rows_of(table: &str, count: u64) -> impl Iterator<Item = OrphanRow> {
    let name = table.to_owned();
    let kind = Discrepancy::WithoutOperation;
    (0..count).map(move |_| OrphanRow { kind, name: name.clone() })
}
