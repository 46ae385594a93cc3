//! The statements of the reconciliation.

use std::collections::BTreeSet;

use crate::commit::effects::{Effects, Recounted};
use crate::db::sqlite::SqliteTransaction;
use crate::db::sqlite::rows::{exactly, maybe_number, maybe_time, number};
use crate::db::sqlite::writer::Row;
use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::model::SerialName;
use crate::operations::finish::sqlite::{go_next, promote};
use crate::operations::prune::sqlite::erase_pieces;
use crate::operations::reconcile::findings::{
    self as ask, BATCH, Cursor, Step, Stepped, Sweep, Swept,
};
use cloakroom_domain::Timestamp;
use cloakroom_domain::reconcile::{Discrepancy, OrphanRow};

statements! {
    /// What runs alone in a lane has its number below zero.
    const COUNTS: &str = r"
        SELECT (SELECT count(*) FROM ready WHERE lane = ?1) AS depth, (
            SELECT count(*) FROM waiting WHERE lane = ?1 AND serial_digest IS NOT NULL
        ) AS behind, (
            SELECT coalesce(sum(o.octets), 0)
            FROM (
                SELECT seq
                FROM ready
                WHERE lane IN (?1, -?1)
                UNION ALL
                SELECT seq
                FROM running
                WHERE lane IN (?1, -?1)
                UNION ALL
                SELECT seq
                FROM waiting
                WHERE lane IN (?1, -?1)
            ) AS u
            JOIN operations o ON o.seq = u.seq
        ) AS stored";
}

pub(crate) fn reconcile(
    writing: &mut SqliteTransaction,
    step: Step,
    effects: &mut Effects,
) -> Result<Stepped, LedgerError> {
    match step.cursor {
        Cursor::Operations(after) => operations(writing, after, step, effects),
        Cursor::Keys(after) => keys(writing, after, step, effects),
    }
}

fn operations(
    writing: &mut SqliteTransaction,
    after: i64,
    step: Step,
    effects: &mut Effects,
) -> Result<Stepped, LedgerError> {
    let window = pair(writing, ask::WINDOW, (after, BATCH))?.into_iter().next();
    let looked_at: i64 = window.as_ref().map_or(Ok(0), |row| number(row, "looked_at"))?;
    let is_last = looked_at < BATCH;
    let last = window.filter(|_| !is_last).map(|row| number(&row, "last")).transpose()?;
    let range = (after, last.unwrap_or(i64::MAX));
    let (mut strays, mut lanes) = (Vec::new(), BTreeSet::new());
    for row in pair(writing, ask::STATES, range)? {
        let stray = ask::misplaced(&row)?;
        if step.repair && stray.kind == Discrepancy::EndedAndLive {
            let seq: i64 = number(&row, "seq")?;
            for (table, sql) in ask::LIVE {
                let gone = writing.writer.all(sql, |values| {
                    values.put(seq);
                })?;
                touch(table, &gone, &mut lanes, effects)?;
            }
        }
        strays.push(stray);
    }
    for row in pair(writing, ask::UNFREED, range)? {
        strays.push(ask::stray(Discrepancy::NeverFreed, &row)?);
        if step.repair {
            let (due_at, seq): (i64, i64) = (number(&row, "expires_at")?, number(&row, "seq")?);
            writing.writer.run(ask::FREE_LATER, |values| {
                values.put(due_at).put(seq);
            })?;
        }
    }
    for (sql, kind) in
        [(ask::NOWHERE, Discrepancy::RunsNowhere), (ask::UNKNOWN, Discrepancy::Unknown)]
    {
        for row in pair(writing, sql, range)? {
            strays.push(ask::stray(kind, &row)?);
        }
    }
    laneless(writing, (range, step.repair), &mut lanes, &mut strays, effects)?;
    without_operation(writing, (range, step.repair), &mut lanes, &mut strays, effects)?;
    recount(writing, lanes, effects)?;
    waiting(writing, range, step, effects, &mut strays)?;
    let next = last.map_or(Cursor::Keys(None), Cursor::Operations);
    Ok(Stepped { strays, looked_at: looked_at.unsigned_abs(), next: Some(next) })
}

fn laneless(
    writing: &mut SqliteTransaction,
    (range, repair): ((i64, i64), bool),
    lanes: &mut BTreeSet<i64>,
    strays: &mut Vec<OrphanRow>,
    effects: &mut Effects,
) -> Result<(), LedgerError> {
    for row in pair(writing, ask::LANELESS, range)? {
        let (stray, seq, mended) = ask::laneless(&row)?;
        strays.push(stray);
        let Some(lane) = mended.filter(|_| repair) else { continue };
        for sql in ask::INTO_LANE {
            pair(writing, sql, (lane, seq))?;
        }
        lanes.insert(lane);
        if let Some(due_at) = maybe_time(&row, "due_at")? {
            effects.found_again.push((writing.book.lane(lane)?, due_at));
        }
        effects.waits = true;
    }
    Ok(())
}

fn without_operation(
    writing: &mut SqliteTransaction,
    (range, repair): ((i64, i64), bool),
    lanes: &mut BTreeSet<i64>,
    strays: &mut Vec<OrphanRow>,
    effects: &mut Effects,
) -> Result<(), LedgerError> {
    for (table, count, gone) in ask::TABLES {
        let row = pair(writing, count, range)?.into_iter().next();
        let found: u64 = row.map_or(Ok(0), |row| number(&row, "strays"))?;
        strays.extend(ask::rows_of(table, found));
        if repair && found > 0 {
            let gone = pair(writing, gone, range)?;
            touch(table, &gone, lanes, effects)?;
        }
    }
    Ok(())
}

/// Remembers the lanes of rows that a repair has deleted from this table, if they are counted.
fn touch(
    table: &str,
    gone: &[Row],
    lanes: &mut BTreeSet<i64>,
    effects: &mut Effects,
) -> Result<(), LedgerError> {
    if ["ready", "running", "waiting"].contains(&table) {
        for row in gone {
            lanes.insert(number(row, "lane")?);
        }
    }
    if table == "waiting" {
        effects.waiting -= gone.len() as i64;
    }
    Ok(())
}

/// Counts lanes from which a repair has deleted rows: it is not known whether they were counted.
fn recount(
    writing: &mut SqliteTransaction,
    lanes: BTreeSet<i64>,
    effects: &mut Effects,
) -> Result<(), LedgerError> {
    for place in lanes {
        // A lane that is unknown is not counted.
        let Ok(lane) = writing.book.lane(place) else { continue };
        let row = writing.writer.one(COUNTS, |values| {
            values.put(place);
        })?;
        if let Some(row) = row {
            let (depth, behind) = (number(&row, "depth")?, number(&row, "behind")?);
            effects.recounted.push(Recounted {
                lane,
                depth,
                behind,
                stored: number(&row, "stored")?,
            });
        }
    }
    Ok(())
}

fn waiting(
    writing: &mut SqliteTransaction,
    range: (i64, i64),
    step: Step,
    effects: &mut Effects,
    strays: &mut Vec<OrphanRow>,
) -> Result<(), LedgerError> {
    let mut freed = Vec::new();
    let found = writing.writer.all(ask::WAITING, |values| {
        values.put(range.0).put(range.1).put(step.now.as_micros());
    })?;
    for row in found {
        strays.push(ask::stray(Discrepancy::WaitsForNothing, &row)?);
        let digest: [u8; 16] = exactly(&row, "digest")?.unwrap_or_default();
        if step.repair && !freed.contains(&digest) {
            freed.push(digest);
            go_next(writing, digest, step.now, effects)?;
        }
    }
    Ok(())
}

fn keys(
    writing: &mut SqliteTransaction,
    after: Option<[u8; 16]>,
    step: Step,
    effects: &mut Effects,
) -> Result<Stepped, LedgerError> {
    let rows = writing.writer.all(ask::KEYS, |values| {
        values.put(after.map_or_else(Vec::new, |digest| digest.to_vec())).put(BATCH);
    })?;
    let (mut strays, mut last) = (Vec::new(), None);
    for row in &rows {
        let digest: [u8; 16] = exactly(row, "digest")?.unwrap_or_default();
        last = Some(digest);
        if number::<i64>(row, "stuck")? == 0 {
            continue;
        }
        let name = SerialName(digest).to_string();
        strays.push(OrphanRow { kind: Discrepancy::WithoutHolder, name });
        if step.repair {
            let_go(writing, number(row, "seq")?, digest, step.now, effects)?;
        }
    }
    let more = rows.len() as i64 >= BATCH;
    Ok(Stepped {
        strays,
        looked_at: 0,
        next: last.filter(|_| more).map(|last| Cursor::Keys(Some(last))),
    })
}

fn let_go(
    writing: &mut SqliteTransaction,
    holder: i64,
    digest: [u8; 16],
    now: Timestamp,
    effects: &mut Effects,
) -> Result<(), LedgerError> {
    promote(writing, holder, digest, now, effects).map(drop)
}

fn pair(
    writing: &mut SqliteTransaction,
    sql: &'static str,
    range: (i64, i64),
) -> Result<Vec<Row>, LedgerError> {
    writing.writer.all(sql, |values| {
        values.put(range.0).put(range.1);
    })
}

/// Sees to pieces that this start wrote and abandoned; those of former starts went when the file
/// was opened.
pub(crate) fn sweep(writing: &mut SqliteTransaction, sweep: &Sweep) -> Result<Swept, LedgerError> {
    let mut swept = Swept::default();
    let behind = sweep.behind.unwrap_or(i64::MIN);
    let Some(row) = pair(writing, ask::BODIES, (behind, BATCH))?.into_iter().next() else {
        return Ok(swept);
    };
    let Some(last) = maybe_number::<i64>(&row, "last")? else { return Ok(swept) };
    let bodies = own_unused(writing, sweep, (behind, last))?;
    swept.strays.extend(bodies.iter().copied().map(ask::unused));
    if sweep.repair {
        for body in bodies {
            erase_pieces(writing, body)?;
        }
    }
    swept.next = (number::<i64>(&row, "looked_at")? >= BATCH).then_some(last);
    Ok(swept)
}

/// Bodies between these two that this start wrote and abandoned.
fn own_unused(
    writing: &mut SqliteTransaction,
    sweep: &Sweep,
    (behind, last): (i64, i64),
) -> Result<Vec<i64>, LedgerError> {
    let me = writing.book.incarnation;
    let rows = writing.writer.all(ask::OWN_UNUSED, |values| {
        values.put(behind).put(last).put(me).put(sweep.silent_since.as_micros());
    })?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let oldest = writing.writer.one(ask::OLDEST_ATTEMPT, |values| {
        values.put(me);
    })?;
    let oldest = oldest.map_or(Ok(None), |row| maybe_number(&row, "since"))?;
    ask::abandoned(&rows, oldest)
}
