//! The statements of the reconciliation.

use sqlx::postgres::PgRow;

use crate::commit::effects::Effects;
use crate::db::postgres::arrays::Values;
use crate::db::postgres::transaction::PgTransaction;
use crate::error::LedgerError;
use crate::model::SerialName;
use crate::operations::finish::postgres::go_next;
use crate::operations::reconcile::findings::{self as ask, BATCH, Cursor, Step, Stepped};
use crate::rows::{exactly, maybe_time, number};
use cloakroom_domain::Timestamp;
use cloakroom_domain::reconcile::{Discrepancy, OrphanRow};

pub(crate) async fn reconcile(
    writing: &mut PgTransaction,
    step: Step,
    effects: &mut Effects,
) -> Result<Stepped, LedgerError> {
    match step.cursor {
        Cursor::Operations(after) => operations(writing, after, step, effects).await,
        Cursor::Keys(after) => keys(writing, after, step, effects).await,
    }
}

async fn operations(
    writing: &mut PgTransaction,
    after: i64,
    step: Step,
    effects: &mut Effects,
) -> Result<Stepped, LedgerError> {
    let window = pair(writing, ask::WINDOW, (after, BATCH)).await?.into_iter().next();
    let looked_at: i64 = window.as_ref().map_or(Ok(0), |row| number(row, "looked_at"))?;
    let is_last = looked_at < BATCH;
    let last = window.filter(|_| !is_last).map(|row| number(&row, "last")).transpose()?;
    let range = (after, last.unwrap_or(i64::MAX));
    let mut strays = Vec::new();
    for row in pair(writing, ask::STATES, range).await? {
        let stray = ask::misplaced(&row)?;
        if step.repair && stray.kind == Discrepancy::EndedAndLive {
            let seq: i64 = number(&row, "seq")?;
            for (_, sql) in ask::LIVE {
                writing.run(sql, Values::default().with(seq)).await?;
            }
        }
        strays.push(stray);
    }
    for row in pair(writing, ask::UNFREED, range).await? {
        strays.push(ask::stray(Discrepancy::NeverFreed, &row)?);
        if step.repair {
            let (due_at, seq): (i64, i64) = (number(&row, "expires_at")?, number(&row, "seq")?);
            writing.run(ask::FREE_LATER, Values::default().with(due_at).with(seq)).await?;
        }
    }
    for (sql, kind) in
        [(ask::NOWHERE, Discrepancy::RunsNowhere), (ask::UNKNOWN, Discrepancy::Unknown)]
    {
        for row in pair(writing, sql, range).await? {
            strays.push(ask::stray(kind, &row)?);
        }
    }
    laneless(writing, (range, step.repair), &mut strays, effects).await?;
    without_operation(writing, range, step.repair, &mut strays).await?;
    waiting(writing, range, step, effects, &mut strays).await?;
    let next = last.map_or(Cursor::Keys(None), Cursor::Operations);
    Ok(Stepped { strays, looked_at: looked_at.unsigned_abs(), next: Some(next) })
}

async fn laneless(
    writing: &mut PgTransaction,
    (range, repair): ((i64, i64), bool),
    strays: &mut Vec<OrphanRow>,
    effects: &mut Effects,
) -> Result<(), LedgerError> {
    for row in pair(writing, ask::LANELESS, range).await? {
        let (stray, seq, mended) = ask::laneless(&row)?;
        strays.push(stray);
        let Some(lane) = mended.filter(|_| repair) else { continue };
        for sql in ask::INTO_LANE {
            writing.run(sql, Values::default().with(lane).with(seq)).await?;
        }
        writing.learn_lanes([lane]).await?;
        if let Some(due_at) = maybe_time(&row, "due_at")? {
            effects.found_again.push((writing.lane(lane)?, due_at));
        }
        effects.waits = true;
    }
    Ok(())
}

async fn without_operation(
    writing: &mut PgTransaction,
    range: (i64, i64),
    repair: bool,
    strays: &mut Vec<OrphanRow>,
) -> Result<(), LedgerError> {
    for (table, count, gone) in ask::TABLES {
        let row = pair(writing, count, range).await?.into_iter().next();
        let found: u64 = row.map_or(Ok(0), |row| number(&row, "strays"))?;
        strays.extend(ask::rows_of(table, found));
        if repair && found > 0 {
            writing.run(gone, Values::default().with(range.0).with(range.1)).await?;
        }
    }
    Ok(())
}

async fn waiting(
    writing: &mut PgTransaction,
    range: (i64, i64),
    step: Step,
    effects: &mut Effects,
    strays: &mut Vec<OrphanRow>,
) -> Result<(), LedgerError> {
    let mut freed = Vec::new();
    let values = Values::default().with(range.0).with(range.1).with(step.now.as_micros());
    for row in writing.rows(ask::WAITING, values).await? {
        strays.push(ask::stray(Discrepancy::WaitsForNothing, &row)?);
        let digest: [u8; 16] = exactly(&row, "digest")?.unwrap_or_default();
        if step.repair && !freed.contains(&digest) {
            freed.push(digest);
            let_go(writing, 0, digest, step.now, effects).await?;
        }
    }
    Ok(())
}

async fn keys(
    writing: &mut PgTransaction,
    after: Option<[u8; 16]>,
    step: Step,
    effects: &mut Effects,
) -> Result<Stepped, LedgerError> {
    let values =
        Values::default().with(after.map_or_else(Vec::new, |digest| digest.to_vec())).with(BATCH);
    let rows = writing.rows(ask::KEYS, values).await?;
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
            let_go(writing, number(row, "seq")?, digest, step.now, effects).await?;
        }
    }
    let more = rows.len() as i64 >= BATCH;
    Ok(Stepped {
        strays,
        looked_at: 0,
        next: last.filter(|_| more).map(|last| Cursor::Keys(Some(last))),
    })
}

async fn let_go(
    writing: &mut PgTransaction,
    holder: i64,
    digest: [u8; 16],
    now: Timestamp,
    effects: &mut Effects,
) -> Result<(), LedgerError> {
    writing.lock(vec![digest]).await?;
    // Differs from SQLite because another node may have seen to it meanwhile.
    if holder == 0 && writing.is_free(digest) || holder != 0 && writing.release(digest, holder) {
        go_next(writing, &[(digest, now)], effects).await?;
    }
    Ok(())
}

async fn pair(
    writing: &mut PgTransaction,
    sql: &'static str,
    range: (i64, i64),
) -> Result<Vec<PgRow>, LedgerError> {
    writing.rows(sql, Values::default().with(range.0).with(range.1)).await
}
