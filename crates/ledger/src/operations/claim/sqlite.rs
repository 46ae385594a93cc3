//! The claim of operations: moves their rows, and makes the leases.

use crate::db::statements::statements;
use crate::operations::settle::sqlite as settle;
use crate::rows::ReadRow;
use std::collections::HashMap;

use crate::cluster::fleet::Dead;
use crate::cluster::fleet::LeaseKey;
use crate::commit::effects::Effects;
use crate::db::sqlite::SqliteTransaction;
use crate::db::sqlite::rows::{
    RunState, carried, continuation, maybe_time, number, ready_row, running_row, time, waiting_row,
};
use crate::db::sqlite::writer::Row;
use crate::error::LedgerError;
use crate::model::{Claimed, Held, Leased, Want};
use crate::operations::settle::sqlite::{EventRow, READY_GONE, RUNNING, RunningRow};
use crate::operations::unreadable::{self, Handed, ROUNDS, Read, Unread, Use, again_at};
use crate::store::Batch;
use cloakroom_domain::Timestamp;
use cloakroom_domain::operation::{Continuation, Counts, Lane};

statements! {
    const WORK: &str = r"
        SELECT o.seq, o.id, o.octets, o.accepted_at, o.route, o.method, o.target, o.task,
            o.delivery, o.timeout_us, o.deadline_at, o.form, o.retry_attempts,
            o.retry_min_us, o.retry_max_us, o.wait_us, o.on_failure, o.recheck, o.success,
            o.retry_statuses, o.upstream_key, o.serial_digest, o.client_reference, q.fields,
            q.body, q.body_key, q.body_length, (SELECT count(*) FROM pieces
            WHERE body = q.body_key) AS pieces, c.fields AS credentials
        FROM operations o
        LEFT JOIN requests q ON q.seq = o.seq
        LEFT JOIN credentials c ON c.seq = o.seq
        WHERE o.seq = ?";

    const DUE: &str = r"
        SELECT seq, attempts, resumes, rescues, refusals, contact, last_try, token,
            sequence, started_at, percent, message, EXISTS (SELECT 1 FROM running u
            WHERE u.seq = ready.seq) AS runs
        FROM ready
        WHERE lane = ? AND due_at <= ?
        ORDER BY due_at, seq
        LIMIT ?";

    const TWIN_GONE: &str = r"DELETE FROM ready WHERE seq = ?";
    const PUT_OFF: &str = r"UPDATE ready SET due_at = ? WHERE seq = ?";

    const NEXT_DUE: &str = r"
        SELECT due_at
        FROM ready
        WHERE lane = ? AND due_at <= 9223372036854775807
        ORDER BY due_at, seq
        LIMIT 1";

    const FOLLOWED: &str = concat!(
        r"
        UPDATE waiting
        SET token = min(token, 4611686018427387903) + 1, due_at = ?
        WHERE seq IN (
            SELECT seq
            FROM waiting
            WHERE lane = ? AND due_at <= ?
            ORDER BY due_at, seq
            LIMIT ?
        )
        RETURNING ",
        waiting_row!("")
    );

    const OVERDUE: &str = concat!(
        r"
        UPDATE waiting
        SET token = min(token, 4611686018427387903) + 1, deadline_at = ?
        WHERE seq IN (
            SELECT seq FROM waiting WHERE deadline_at <= ? ORDER BY deadline_at, seq LIMIT ?
        )
        RETURNING ",
        waiting_row!("")
    );

    const ORPHANS: &str = concat!(
        r"
        UPDATE running
        SET token = min(token, 4611686018427387903) + 1, node = ?, since = ?, taken_over = 1
        WHERE seq IN (
            SELECT seq
            FROM running
            WHERE node IN (SELECT value FROM json_each(?))
            ORDER BY seq
            LIMIT ?
        )
        RETURNING ",
        running_row!("")
    );

    const RECLAIMED: &str = concat!(
        r"
        UPDATE running
        SET token = min(token, 4611686018427387903) + 1, since = ?,
            taken_over = max(taken_over, ?)
        WHERE seq = ? AND token = ? AND node = ?
        RETURNING ",
        running_row!("")
    );

    const READY: &str = concat!(
        r"SELECT ",
        ready_row!(""),
        r", EXISTS (SELECT 1 FROM running u WHERE u.seq = ready.seq) AS runs
        FROM ready
        WHERE seq = ? AND lane = ?"
    );
}

/// What is at hand of an operation on its way out.
struct Out {
    lane: Lane,
    carried: RunState,
    damage: Option<String>,
    held: Held,
    continuation: Result<Option<Continuation>, LedgerError>,
    cancel_asked: bool,
}

pub(crate) fn claim(
    writing: &mut SqliteTransaction,
    wants: &[Want],
    now: Timestamp,
    effects: &mut Effects,
) -> Batch<Claimed> {
    let mut claimed = Vec::with_capacity(wants.len());
    for want in wants {
        let lane = writing.book.number(&want.lane)?;
        let mut leased = Vec::new();
        for _ in 0..ROUNDS {
            let before = effects.passed_over() + effects.unqueued.len();
            let most = want.limit.saturating_sub(leased.len());
            let rows = writing.writer.all(DUE, |values| {
                values.put(lane).put(now.as_micros()).put(most as i64);
            })?;
            let rows = without_twins(writing, rows, &want.lane, effects)?;
            leased.extend(begin(writing, &rows, &want.lane, Use::Carry, now, effects)?);
            // More may be due where some were passed over, or come to be so by their end.
            let after = effects.passed_over() + effects.unqueued.len();
            if after == before || leased.len() >= want.limit {
                break;
            }
        }
        let next_due = next_due(writing, lane)?;
        claimed.push(Claimed { lane: want.lane.clone(), leased, next_due });
    }
    Ok(claimed)
}

/// Those that do not run already. The row of a lane is removed of one that does, so that it holds up
/// no other.
fn without_twins(
    writing: &mut SqliteTransaction,
    mut ready: Vec<Row>,
    lane: &Lane,
    effects: &mut Effects,
) -> Batch<Row> {
    let runs = |row: &Row| row.flag("runs");
    let twins = ready.iter().map(|row| Ok((runs(row)?, number::<i64>(row, "seq")?)));
    let twins = twins.collect::<Result<Vec<_>, LedgerError>>()?;
    if twins.iter().all(|(runs, _)| !runs) {
        return Ok(ready);
    }
    for (_, seq) in twins.iter().filter(|(runs, _)| *runs) {
        unreadable::tell_of_twin(*seq);
        writing.writer.run(TWIN_GONE, |values| {
            values.put(*seq);
        })?;
        effects.unqueued.push(lane.clone());
    }
    let mut twins = twins.into_iter();
    ready.retain(|_| twins.next().is_none_or(|(runs, _)| !runs));
    Ok(ready)
}

/// Moves ready rows to running: as the next attempt of each, or to be ended where its deadline has
/// passed. What is left to another node stays, and is due later.
fn begin(
    writing: &mut SqliteTransaction,
    ready: &[Row],
    lane: &Lane,
    used: Use,
    now: Timestamp,
    effects: &mut Effects,
) -> Batch<Leased> {
    let seqs = ready.iter().map(|row| number(row, "seq")).collect::<Result<Vec<i64>, _>>()?;
    let works = works(writing, &seqs)?;
    let mut taken = Claim { lane: writing.book.number(lane)?, at: now, ..Claim::default() };
    for (seq, row) in seqs.into_iter().zip(ready) {
        let work = works.get(&seq);
        let (before, damage) = Handed::state(row);
        let late = work.and_then(|work| time(work, "deadline_at").ok()).is_some_and(|at| at <= now);
        let used = if late { Use::Expire } else { used };
        let only_ends = used == Use::Expire || damage.is_some();
        let handed = before.clone().handed_out();
        let carried = if only_ends { handed.clone() } else { before.clone().begun(now) };
        let out = Out { damage, ..out(lane, carried.clone()) };
        let read = out.handed(seq, before.counts, used).read(work, &writing.book.sealer, now)?;
        let unknown = match &read {
            Read::Whole(leased) if !only_ends => writing.book.tasks.unknown(leased),
            _ => None,
        };
        match (read, unknown) {
            (Read::Left(why), _) | (_, Some(why)) => {
                taken.left.push((seq, again_at(work, now)));
                effects.left.push((seq, why));
            }
            (Read::Whole(leased), None) => taken.hand(writing, seq, carried, !only_ends, *leased),
            (Read::Ends(unread), None) => {
                let row = taken.row(writing, seq, handed);
                taken.running.push(row);
                taken.ends.push(*unread);
                effects.unqueued.push(lane.clone());
            }
        }
    }
    run(writing, &taken.running, &taken.events)?;
    put_off(writing, &taken.left)?;
    end(writing, &taken.ends, effects)?;
    Ok(taken.leased)
}

/// What is taken out of a lane.
#[derive(Default)]
struct Claim {
    lane: i64,
    at: Timestamp,
    running: Vec<RunningRow>,
    events: Vec<EventRow>,
    leased: Vec<Leased>,
    ends: Vec<Unread>,
    left: Vec<(i64, Timestamp)>,
}

impl Claim {
    fn row(&self, writing: &SqliteTransaction, seq: i64, carried: RunState) -> RunningRow {
        let (lane, node, since) = (self.lane, writing.book.incarnation, self.at);
        RunningRow { seq, lane, node, since, carried }
    }

    fn hand(
        &mut self,
        writing: &SqliteTransaction,
        seq: i64,
        carried: RunState,
        begins: bool,
        leased: Leased,
    ) {
        let row = self.row(writing, seq, carried);
        if begins {
            self.events.push(row.started());
        }
        self.running.push(row);
        self.leased.push(leased);
    }
}

/// Leaves these for later.
fn put_off(writing: &mut SqliteTransaction, left: &[(i64, Timestamp)]) -> Result<(), LedgerError> {
    let sql = PUT_OFF;
    writing.writer.each(sql, left, |(seq, due_at), values| {
        values.put(due_at.as_micros()).put(seq);
    })?;
    Ok(())
}

/// Ends what was handed out and cannot be read.
fn end(
    writing: &mut SqliteTransaction,
    ends: &[Unread],
    effects: &mut Effects,
) -> Result<(), LedgerError> {
    let settlements: Vec<_> = ends.iter().map(|unread| unread.settlement.clone()).collect();
    settle::settle(writing, &settlements, effects)?;
    ends.iter().for_each(|unread| unread.noted(effects));
    Ok(())
}

/// Moves rows from ready to running.
fn run(
    writing: &mut SqliteTransaction,
    running: &[RunningRow],
    events: &[EventRow],
) -> Result<(), LedgerError> {
    let writer = &mut writing.writer;
    writer.each(READY_GONE, running, |row, values| {
        values.put(row.seq);
    })?;
    writer.each(RUNNING, running, |row, values| row.put(values))?;
    writer.events(events)
}

fn out(lane: &Lane, carried: RunState) -> Out {
    Out {
        lane: lane.clone(),
        carried,
        damage: None,
        held: Held::Running,
        continuation: Ok(None),
        cancel_asked: false,
    }
}

impl Out {
    fn handed(self, seq: i64, before: Counts, used: Use) -> Handed {
        let Self { lane, carried, damage, held, continuation, cancel_asked } = self;
        Handed { seq, lane, carried, before, held, continuation, cancel_asked, damage, used }
    }
}

fn next_due(writing: &mut SqliteTransaction, lane: i64) -> Result<Option<Timestamp>, LedgerError> {
    let row = writing.writer.one(NEXT_DUE, |values| {
        values.put(lane);
    })?;
    row.as_ref().map_or(Ok(None), |row| maybe_time(row, "due_at"))
}

/// What these operations are to do, by their places.
fn works(writing: &mut SqliteTransaction, seqs: &[i64]) -> Result<HashMap<i64, Row>, LedgerError> {
    let rows = writing.writer.all_of_each(WORK, seqs, |seq, values| {
        values.put(seq);
    })?;
    rows.into_iter().map(|row| Ok((number(&row, "seq")?, row))).collect()
}

/// Reads the work of operations that stay in their table and makes their leases, in the order
/// given.
fn hand_out(
    writing: &mut SqliteTransaction,
    outs: Vec<(i64, Out)>,
    used: Use,
    now: Timestamp,
    effects: &mut Effects,
) -> Batch<Leased> {
    let seqs: Vec<_> = outs.iter().map(|(seq, _)| *seq).collect();
    let works = works(writing, &seqs)?;
    let (mut leased, mut ends) = (Vec::with_capacity(outs.len()), Vec::new());
    for (seq, out) in outs {
        let before = out.carried.counts;
        match out.handed(seq, before, used).read(works.get(&seq), &writing.book.sealer, now)? {
            Read::Whole(whole) => leased.push(*whole),
            Read::Ends(unread) => ends.push(*unread),
            Read::Left(why) => effects.left.push((seq, why)),
        }
    }
    end(writing, &ends, effects)?;
    Ok(leased)
}

pub(crate) fn claim_waiting(
    writing: &mut SqliteTransaction,
    wants: &[Want],
    now: Timestamp,
    visible_again: Timestamp,
    effects: &mut Effects,
) -> Batch<Leased> {
    let mut rows = Vec::new();
    for want in wants {
        let lane = writing.book.number(&want.lane)?;
        rows.extend(writing.writer.all(FOLLOWED, |values| {
            values.put(visible_again.as_micros()).put(lane);
            values.put(now.as_micros()).put(want.limit as i64);
        })?);
    }
    waiting(writing, &rows, Use::Carry, now, effects)
}

pub(crate) fn claim_overdue(
    writing: &mut SqliteTransaction,
    limit: usize,
    now: Timestamp,
    visible_again: Timestamp,
    effects: &mut Effects,
) -> Batch<Leased> {
    let rows = writing.writer.all(OVERDUE, |values| {
        values.put(visible_again.as_micros()).put(now.as_micros()).put(limit as i64);
    })?;
    waiting(writing, &rows, Use::Expire, now, effects)
}

/// The lane of an operation. Where it does not exist, the operation stays for `reconcile` and holds
/// up no other.
fn lane_of(
    writing: &SqliteTransaction,
    row: &Row,
    effects: &mut Effects,
) -> Result<Option<Lane>, LedgerError> {
    let lane = writing.book.lane(number(row, "lane")?);
    if let Err(error) = &lane {
        effects.left.push((number(row, "seq")?, error.to_string()));
    }
    Ok(lane.ok())
}

/// Makes the leases of rows that stay in `waiting`.
fn waiting(
    writing: &mut SqliteTransaction,
    rows: &[Row],
    used: Use,
    now: Timestamp,
    effects: &mut Effects,
) -> Batch<Leased> {
    let mut outs = Vec::with_capacity(rows.len());
    for row in rows {
        let Some(lane) = lane_of(writing, row, effects)? else { continue };
        let (carried, damage) = Handed::state(row);
        let continuation = continuation(row, &writing.book.sealer);
        let out = Out { damage, held: Held::Waiting, continuation, ..out(&lane, carried) };
        outs.push((number(row, "seq")?, out));
    }
    hand_out(writing, outs, used, now, effects)
}

pub(crate) fn claim_orphans(
    writing: &mut SqliteTransaction,
    dead: &[Dead],
    limit: usize,
    now: Timestamp,
    effects: &mut Effects,
) -> Batch<Leased> {
    let node = writing.book.incarnation;
    let dead: Vec<_> = dead.iter().map(|dead| dead.incarnation).collect();
    let dead = format!("{dead:?}");
    // None that is handed out means that there are no more, so those that cannot be read are no end.
    for _ in 0..ROUNDS {
        let rows = writing.writer.all(ORPHANS, |values| {
            values.put(node).put(now.as_micros()).put(&dead).put(limit as i64);
        })?;
        let leased = still_running(writing, &rows, now, effects)?;
        if rows.is_empty() || !leased.is_empty() {
            return Ok(leased);
        }
    }
    Ok(Vec::new())
}

pub(crate) fn reclaim(
    writing: &mut SqliteTransaction,
    lost: &[LeaseKey],
    begun: bool,
    now: Timestamp,
    effects: &mut Effects,
) -> Batch<Leased> {
    let node = writing.book.incarnation;
    let rows = writing.writer.all_of_each(RECLAIMED, lost, |key, values| {
        values.put(now.as_micros()).put(i64::from(begun));
        values.put(key.seq).put(key.token).put(node);
    })?;
    still_running(writing, &rows, now, effects)
}

/// Hands out rows that stay where they are.
fn still_running(
    writing: &mut SqliteTransaction,
    rows: &[Row],
    now: Timestamp,
    effects: &mut Effects,
) -> Batch<Leased> {
    let mut outs = Vec::with_capacity(rows.len());
    for row in rows {
        let Some(lane) = lane_of(writing, row, effects)? else { continue };
        let (carried, damage) = Handed::state(row);
        let cancel_asked = number::<i64>(row, "cancel")? > 0;
        outs.push((number(row, "seq")?, Out { damage, cancel_asked, ..out(&lane, carried) }));
    }
    hand_out(writing, outs, Use::Rescue, now, effects)
}

pub(crate) fn claim_expired(
    writing: &mut SqliteTransaction,
    lane: &Lane,
    seqs: &[i64],
    now: Timestamp,
    effects: &mut Effects,
) -> Batch<Leased> {
    let place = writing.book.number(lane)?;
    let rows = writing.writer.all_of_each(READY, seqs, |seq, values| {
        values.put(seq).put(place);
    })?;
    let rows = without_twins(writing, rows, lane, effects)?;
    begin(writing, &rows, lane, Use::Expire, now, effects)
}
