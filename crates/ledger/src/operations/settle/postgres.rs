//! The settlement of attempts.

use crate::db::statements::statements;
use crate::operations::finish::postgres as finish;
use std::collections::HashMap;

use sqlx::postgres::PgRow;

use crate::commit::effects::Effects;
use crate::db::postgres::arrays::{Statement, Values};
use crate::db::postgres::catalog::Book;
use crate::db::postgres::lookups::latest;
use crate::db::postgres::transaction::PgTransaction;
use crate::db::postgres::watermarks::Shelf;
use crate::error::{LedgerError, StaleLease};
use crate::model::{Held, SettledAs, Settlement};
use crate::operations::ends::{Ends, Finish, LeasedRow};
use crate::rows::{
    BindRow, EventRow, ReadyRow, WaitingRow, carried, number, origins, ready_twin, running_row,
    standing_at, waiting_row,
};
use crate::store::Batch;
use crate::webhooks::rows::callback;
use crate::webhooks::sql::{OperationSnapshot, PendingEvent};
use cloakroom_domain::operation::outlived_by;

statements! {
    pub(crate) static READY: Statement = Statement::insert_or(
        r"INSERT INTO ready",
        r"seq, lane, due_at, attempts, resumes, rescues, refusals, contact, last_try, token,
            sequence, started_at, percent, message",
        "ncnccccccccnNT",
        ready_twin!(),
    );

    pub(crate) static RUNNING: Statement = Statement::insert(
        r"INSERT INTO running",
        r"seq, lane, node, since, attempts, resumes, rescues, refusals, contact, last_try,
            token, sequence, started_at, percent, message",
        "nnnnnnnnnnnnnNT",
    );

    pub(crate) static EVENTS: Statement = Statement::insert(
        r"INSERT INTO events",
        "seq, sequence, at, kind, attempt, status, code, next_at, percent, message",
        "ncnwccTNNT",
    );

    /// Events that give way to later ones; each is looked up by its place.
    pub(crate) static OUTLIVED: Statement = Statement::reading(
        r"DELETE FROM events WHERE ctid = ANY (ARRAY (SELECT old.ctid FROM (",
        "nn",
        r"AS gone (seq, sequence)) AS gone CROSS JOIN LATERAL (SELECT ctid
        FROM events
        WHERE seq = gone.seq AND sequence = gone.sequence
        LIMIT 1) AS old))",
    );

    static WAITING: Statement = Statement::insert(
        r"INSERT INTO waiting",
        r"seq, lane, waiting_for, due_at, version, continuation, attempts, resumes, rescues,
            refusals, contact, last_try, token, sequence, started_at, percent, message",
        "nntnnonnnnnnnnnNT",
    );

    /// Differs from SQLite because others write too: rows are locked in the order of the leases
    /// before they are touched, and a row that another one has just taken is none.
    const RUNNING_TAKEN: &str = concat!(
        r"DELETE FROM running WHERE seq = ANY (ARRAY (",
        latest!("running"),
        ")) RETURNING ",
        running_row!("")
    );

    /// The same with what each was accepted as: a receiver that is told of its end is told that, too,
    /// and another statement would be another round trip.
    const RUNNING_TAKEN_TO_TELL: &str = concat!(
        r"WITH taken AS (DELETE FROM running WHERE seq = ANY (ARRAY (",
        latest!("running"),
        ")) RETURNING ",
        running_row!(""),
        ") SELECT ",
        running_row!("t."),
        ", ",
        origins!(),
        " FROM taken t JOIN operations o ON o.seq = t.seq"
    );

    const WAITING_TAKEN: &str = concat!(
        r"DELETE FROM waiting WHERE seq = ANY (ARRAY (",
        latest!("waiting"),
        ")) RETURNING 0::bigint AS cancel, ",
        waiting_row!("")
    );
}

pub(crate) async fn settle(
    writing: &mut PgTransaction,
    batch: &[Settlement],
    effects: &mut Effects,
) -> Batch<Result<SettledAs, StaleLease>> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    let tells = writing.book.subscribers.index().wants_ends();
    let mut found = HashMap::new();
    take(writing, batch, Held::Running, tells, &mut found).await?;
    take(writing, batch, Held::Waiting, tells, &mut found).await?;
    writing.learn_lanes(found.values().map(|(found, _)| found.lane())).await?;
    let mut ends = Ends::default();
    let mut settled = Vec::with_capacity(batch.len());
    for settlement in batch {
        let Some((found, origin)) = found.remove(&(settlement.lease.seq, settlement.lease.token))
        else {
            settled.push(Err(StaleLease));
            continue;
        };
        let (number, before) = (found.lane(), ends.finished.len());
        let lane = |number| writing.lane(number);
        settled.push(Ok(ends.add(settlement, found, lane, effects, &writing.book.sealer)?));
        if let (Some(finish), Some(row)) = (ends.finished.get(before), origin) {
            // No receiver is told of an operation that cannot be read.
            if let Ok(ended) = ended(&writing.book, finish, number, &row) {
                writing.ended.insert(finish.seq, ended);
            }
        }
    }
    for row in &ends.waiting {
        writing.book.marks.put(Shelf::Followed(row.lane), row.due_at);
    }
    writing.script.add(&READY, &ends.ready, ReadyRow::put).add(
        &WAITING,
        &ends.waiting,
        WaitingRow::put,
    );
    writing.events(&ends.events);
    finish::finish(writing, ends.finished, effects).await?;
    Ok(settled)
}

/// How one stands that has ended.
fn ended(
    book: &Book,
    finish: &Finish,
    lane: i64,
    row: &PgRow,
) -> Result<OperationSnapshot, LedgerError> {
    let lane = book.lane(lane)?;
    let Book { retention, sealer, .. } = book;
    let standing = finish.standing(finish.at + retention.result, sealer)?;
    let operation = standing_at(row, &lane.queue, &lane.upstream, standing, sealer)?;
    Ok(OperationSnapshot { seq: finish.seq, operation, callback: callback(row, sealer)? })
}

/// By place and token, what was found, and the row of what it was accepted as, where that is
/// to be told.
type TakenRows = HashMap<(i64, i64), (LeasedRow, Option<PgRow>)>;

/// Takes the rows of those settlements whose lease is the latest.
async fn take(
    writing: &mut PgTransaction,
    batch: &[Settlement],
    held: Held,
    tells: bool,
    taken: &mut TakenRows,
) -> Result<(), LedgerError> {
    let mut leases: Vec<_> = batch
        .iter()
        .filter(|settlement| settlement.lease.held == held)
        .map(|settlement| (settlement.lease.seq, settlement.lease.token))
        .collect();
    if leases.is_empty() {
        return Ok(());
    }
    leases.sort_unstable();
    let (seqs, tokens): (Vec<_>, Vec<_>) = leases.into_iter().unzip();
    let sql = match held {
        Held::Running if tells => RUNNING_TAKEN_TO_TELL,
        Held::Running => RUNNING_TAKEN,
        Held::Waiting => WAITING_TAKEN,
    };
    for row in writing.rows(sql, Values::default().with(seqs).with(tokens)).await? {
        let key = (number(&row, "seq")?, number(&row, "token")?);
        let found = LeasedRow::of(&row, held)?;
        taken.insert(key, (found, (tells && held == Held::Running).then_some(row)));
    }
    Ok(())
}

impl PgTransaction {
    /// Puts events into timelines.
    pub(crate) fn events(&mut self, events: &[EventRow]) {
        self.told.extend(events.iter().filter_map(PendingEvent::of));
        self.script.add(&EVENTS, events, EventRow::put);
        let numbers = |event: &EventRow| {
            let seq = event.seq;
            outlived_by(event.sequence).into_iter().flatten().map(move |number| (seq, number))
        };
        let outlived: Vec<_> = events.iter().flat_map(numbers).collect();
        self.script.add(&OUTLIVED, &outlived, |(seq, sequence), cells| {
            cells.number(*seq).number(i64::from(*sequence));
        });
    }
}
