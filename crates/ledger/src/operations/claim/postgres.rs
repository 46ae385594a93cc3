//! The claim of operations: moves their rows, and makes the leases.

use crate::db::statements::statements;
use crate::operations::settle::postgres as settle;
use std::collections::HashMap;

use sqlx::postgres::PgRow;

use crate::cluster::fleet::Dead;
use crate::cluster::fleet::LeaseKey;
use crate::commit::effects::Effects;
use crate::db::postgres::arrays::{Statement, Values};
use crate::db::postgres::transaction::PgTransaction;
use crate::db::postgres::watermarks::Shelf;
use crate::error::LedgerError;
use crate::model::{Claimed, Held, Leased, Want};
use crate::operations::settle::postgres::{OUTLIVED, READY, RUNNING};
use crate::operations::unreadable::{self, Handed, ROUNDS, Read, Unread, Use, again_at};
use crate::rows::{
    BindRow, ReadyRow, RunState, RunningRow, carried, continuation, maybe_number, maybe_time,
    number, ready_row, running_row, waiting_row,
};
use crate::store::Batch;
use crate::webhooks::sql::PendingEvent;
use cloakroom_domain::Timestamp;
use cloakroom_domain::operation::{Counts, EventKind, Lane};
use cloakroom_domain::webhooks::Topic;

macro_rules! work {
    () => {
        r"o.id, o.octets, o.accepted_at, o.route, o.method, o.target, o.task, o.delivery,
                o.timeout_us, o.deadline_at, o.form, o.retry_attempts, o.retry_min_us,
                o.retry_max_us, o.wait_us, o.on_failure, o.recheck, o.success,
                o.retry_statuses, o.upstream_key, o.serial_digest, o.client_reference,
                q.fields, q.body, q.body_key, q.body_length, (SELECT count(*) FROM pieces
                WHERE body = q.body_key) AS pieces, c.fields AS credentials"
    };
}

/// The credentials of an operation, which go when it ends; looked up as its place is.
macro_rules! credentials {
    ($of:literal) => {
        concat!(
            " LEFT JOIN LATERAL (SELECT fields FROM credentials WHERE seq = ",
            $of,
            " LIMIT 1) AS c ON true"
        )
    };
}

statements! {
    /// Differs from SQLite because others claim too, and because each statement is a round
    /// trip: what another one is taking is passed over, all lanes are asked at once, none is
    /// walked from its very beginning, and one statement takes, begins and reads. None of its
    /// parts sees what another one changes, so what is taken is left out of what comes next.
    /// What is past its deadline is taken to be ended, and does not begin, nor does what has counted
    /// further than anything can be counted. What runs already is damage: its row in the lane goes, and
    /// it is not begun a second time. Nothing is taken where receivers are no longer as was relied on.
    const CLAIMED: &str = concat!(
        r"
        WITH taken AS (DELETE FROM ready WHERE seq = ANY (ARRAY (
            SELECT r.seq
            FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[]) AS want (lane, most, low)
            CROSS JOIN LATERAL (
                SELECT seq
                FROM ready
                WHERE lane = want.lane AND due_at >= want.low AND due_at <= $4
                ORDER BY due_at, seq
                LIMIT want.most
                FOR UPDATE SKIP LOCKED
            ) AS r
            WHERE $7::bigint IS NULL OR (SELECT version FROM webhooks) = $7
        )) RETURNING ",
        ready_row!(""),
        "), timed AS (SELECT ",
        ready_row!("taken."),
        r", CASE WHEN o.deadline_at <= $4
            OR greatest(taken.attempts, taken.sequence) > 2147483647 THEN 0::bigint
                ELSE 1::bigint END AS begins,
            CASE WHEN u.seq IS NULL THEN 0::bigint ELSE 1::bigint END AS runs
        FROM taken
        LEFT JOIN LATERAL (SELECT deadline_at FROM operations WHERE seq = taken.seq
            LIMIT 1) AS o ON true
        LEFT JOIN LATERAL (SELECT seq FROM running WHERE seq = taken.seq
            LIMIT 1) AS u ON true), begun AS (INSERT INTO running (seq, lane, node, since,
            attempts, resumes, rescues, refusals, contact, last_try, token, sequence,
            started_at, percent, message)
        SELECT seq, lane, $5, $8, attempts + begins, resumes, rescues, refusals, contact,
            last_try, least(token, 4611686018427387903) + 1, sequence + begins, CASE begins
            WHEN 1 THEN coalesce(started_at, $4) ELSE started_at END, percent, message
        FROM timed
        WHERE runs = 0), told AS (INSERT INTO events (seq, sequence, at, kind, attempt)
        SELECT seq, sequence + 1, $4, $6, attempts + 1
        FROM timed
        WHERE begins = 1 AND runs = 0) SELECT want.lane AS wanted, (SELECT version
        FROM webhooks) AS version, head.due_at AS next_due, t.seq, t.due_at, t.attempts,
            t.resumes, t.rescues, t.refusals, t.contact, t.last_try, t.token, t.sequence,
            t.started_at, t.percent, t.message, t.begins, t.runs, ",
        work!(),
        r"
        FROM UNNEST($1::bigint[], $3::bigint[]) AS want (lane, low)
        LEFT JOIN LATERAL (
            SELECT due_at
            FROM ready
            WHERE lane = want.lane
                AND due_at >= want.low
                AND seq NOT IN (SELECT seq FROM taken)
            ORDER BY due_at, seq
            LIMIT 1
        ) AS head ON true
        LEFT JOIN timed t ON t.lane = want.lane
        LEFT JOIN operations o ON o.seq = t.seq
        LEFT JOIN requests q ON q.seq = t.seq",
        credentials!("t.seq")
    );

    pub(crate) const HEADS: &str = r"
        SELECT want.lane, head.due_at
        FROM UNNEST($1::bigint[], $2::bigint[]) AS want (lane, low)
        LEFT JOIN LATERAL (
            SELECT due_at
            FROM ready
            WHERE lane = want.lane AND due_at >= want.low
            ORDER BY due_at, seq
            LIMIT 1
        ) AS head ON true";

    const WORK: &str = concat!(
        r"SELECT o.seq, ",
        work!(),
        " FROM operations o LEFT JOIN requests q ON q.seq = o.seq",
        credentials!("o.seq"),
        " WHERE o.seq = ANY ($1)"
    );

    const WAITING: &str = concat!(
        r"
        UPDATE waiting
        SET token = least(token, 4611686018427387903) + 1, due_at = $1
        WHERE seq = ANY (ARRAY (
            SELECT r.seq
            FROM UNNEST($3::bigint[], $4::bigint[], $5::bigint[]) AS want (lane, most, low)
            CROSS JOIN LATERAL (
                SELECT seq
                FROM waiting
                WHERE lane = want.lane AND due_at >= want.low AND due_at <= $2
                ORDER BY due_at, seq
                LIMIT want.most
                FOR UPDATE SKIP LOCKED
            ) AS r
        ))
        RETURNING ",
        waiting_row!("")
    );

    const OVERDUE: &str = concat!(
        r"
        UPDATE waiting
        SET token = least(token, 4611686018427387903) + 1, deadline_at = $1
        WHERE seq = ANY (ARRAY (
            SELECT seq
            FROM waiting
            WHERE deadline_at >= $4 AND deadline_at <= $2
            ORDER BY deadline_at, seq
            LIMIT $3
            FOR UPDATE SKIP LOCKED
        ))
        RETURNING ",
        waiting_row!("")
    );

    /// Differs from SQLite because who counts as dead may come back: its row is locked, so that
    /// it either has beaten before, and keeps all, or beats after, and finds nothing left. What a node
    /// owns is found in the index of owners, from the time on that the node itself told last.
    const ORPHANS: &str = concat!(
        r"
        WITH gone AS MATERIALIZED (
            SELECT n.incarnation, n.owned_since
            FROM nodes n
            JOIN UNNEST($3::bigint[], $5::bigint[]) AS dead (incarnation, beat)
                ON n.incarnation = dead.incarnation
            WHERE dead.beat IS NULL OR n.beat = dead.beat
            ORDER BY n.incarnation
            FOR UPDATE OF n
        ) UPDATE running
        SET token = least(token, 4611686018427387903) + 1, node = $1, since = $2,
            taken_over = 1
        WHERE seq = ANY (ARRAY (
            SELECT theirs.seq
            FROM gone
            CROSS JOIN LATERAL (
                SELECT seq
                FROM running
                WHERE node = gone.incarnation AND since >= gone.owned_since
                ORDER BY since
                LIMIT $4
                FOR UPDATE SKIP LOCKED
            ) AS theirs
            LIMIT $4
        ))
        RETURNING ",
        running_row!("")
    );

    /// Writes down that nodes own nothing, as they last beat; those stay as they are of which something
    /// is left that another transaction holds.
    const CLEARED: &str = r"
        UPDATE nodes AS n
        SET cleared = n.beat
        FROM UNNEST($1::bigint[], $2::bigint[]) AS dead (incarnation, beat)
        WHERE n.incarnation = dead.incarnation
            AND (dead.beat IS NULL OR n.beat = dead.beat)
            AND NOT EXISTS (
            SELECT 1
            FROM running u
            WHERE u.node = n.incarnation AND u.since >= n.owned_since
        )";

    const RECLAIMED: &str = concat!(
        r"
        UPDATE running
        SET token = least(token, 4611686018427387903) + 1, since = $2,
            taken_over = greatest(taken_over, $5)
        WHERE seq = ANY (ARRAY (
            SELECT mine.seq
            FROM UNNEST($3::bigint[], $4::bigint[]) AS lost (seq, token)
            CROSS JOIN LATERAL (
                SELECT seq
                FROM running
                WHERE seq = lost.seq AND token = lost.token AND node = $1
                LIMIT 1
                FOR UPDATE
            ) AS mine
        ))
        RETURNING ",
        running_row!("")
    );

    const EXPIRED: &str = concat!(
        r"
        DELETE FROM ready
        WHERE seq = ANY (ARRAY (
            SELECT held.seq
            FROM UNNEST($1::bigint[]) AS late (seq)
            CROSS JOIN LATERAL (
                SELECT seq
                FROM ready
                WHERE seq = late.seq AND lane = $2
                LIMIT 1
                FOR UPDATE SKIP LOCKED
            ) AS held
        ))
        RETURNING ",
        ready_row!(""),
        r", coalesce((SELECT 1::bigint FROM running WHERE running.seq = ready.seq LIMIT 1), 0)
            AS runs"
    );

    static RUNNING_GONE: Statement = Statement::among(r"DELETE FROM running WHERE seq = ANY");

    /// What began by the statement that took it, and is to be ended without an attempt.
    const UNBEGUN: &str = r"
        UPDATE running
        SET attempts = attempts - 1, sequence = sequence - 1, started_at = CASE
            WHEN attempts = 1 THEN NULL ELSE started_at END
        WHERE seq = ANY ($1::bigint[])";
}

pub(crate) async fn claim(
    writing: &mut PgTransaction,
    wants: &[Want],
    now: Timestamp,
    effects: &mut Effects,
) -> Batch<Claimed> {
    if wants.is_empty() {
        return Ok(Vec::new());
    }
    let lanes: Vec<_> =
        wants.iter().map(|want| writing.book.number(&want.lane)).collect::<Result<_, _>>()?;
    let mut hands: HashMap<i64, Hand> = HashMap::new();
    for _ in 0..ROUNDS {
        let limits: Vec<_> = wants
            .iter()
            .zip(&lanes)
            .map(|(want, lane)| {
                let held = hands.get(lane).map_or(0, |hand| hand.leased.len());
                want.limit.saturating_sub(held) as i64
            })
            .collect();
        let mut rows = taken(writing, &limits, &lanes, now).await?;
        let version = rows.first().map_or(Ok(None), |row| maybe_number(row, "version"))?;
        if writing.relies_on().is_some_and(|relied_on| version != Some(relied_on)) {
            writing.turn_back().await?;
            rows = taken(writing, &limits, &lanes, now).await?;
        }
        sort_by_due(&mut rows)?;
        let passed = hand(writing, &rows, &mut hands, now)?;
        if passed.is_empty() {
            break;
        }
        // More may be due behind what was passed over.
        passed.see_to(writing, effects).await?;
    }
    let claimed = |(want, number): (&Want, i64)| {
        let Hand { leased, next_due } = hands.remove(&number).unwrap_or_default();
        Claimed { lane: want.lane.clone(), leased, next_due }
    };
    Ok(wants.iter().zip(lanes).map(claimed).collect())
}

/// What is handed out of a lane.
#[derive(Default)]
struct Hand {
    leased: Vec<Leased>,
    next_due: Option<Timestamp>,
}

/// What was taken and is not handed out.
#[derive(Default)]
struct Overlooked {
    /// Those that began by being taken, with the numbers of the events that say so.
    begun: Vec<(i64, i64)>,
    ends: Vec<(Lane, Unread)>,
    left: Vec<(ReadyRow, String)>,
    /// The lanes of those that run already, and left them.
    twins: Vec<Lane>,
}

impl Overlooked {
    fn is_empty(&self) -> bool {
        self.ends.is_empty() && self.left.is_empty() && self.twins.is_empty()
    }

    /// Ends what is damaged, and puts back what another node may be able to read. What ran already
    /// left its lane with the statement that took it.
    async fn see_to(
        self,
        writing: &mut PgTransaction,
        effects: &mut Effects,
    ) -> Result<(), LedgerError> {
        if writing.alone {
            // What was taken is durable by now. A claim that is alone commits with its one statement,
            // and no statement can tell what cannot be read; a transaction for each claim would cost
            // all of them two round trips. In between the operation is this node's, so that no claim
            // takes it again; if its end does not become durable, beats find it, and it ends when it
            // is reclaimed, or taken over.
            writing.turn_back().await?;
        }
        let Self { begun, ends, left, twins } = self;
        effects.unqueued.extend(twins);
        writing.script.add(&OUTLIVED, &begun, |(seq, sequence), cells| {
            cells.number(*seq).number(*sequence);
        });
        let (left, why): (Vec<_>, Vec<_>) = left.into_iter().unzip();
        let places: Vec<_> = left.iter().map(|row| row.seq).collect();
        writing.script.add_numbers(&RUNNING_GONE, &places).add(&READY, &left, ReadyRow::put);
        effects.left.extend(places.into_iter().zip(why));
        let ending = |seq: &i64| ends.iter().any(|(_, unread)| unread.place() == *seq);
        let unbegun: Vec<_> = begun.iter().map(|(seq, _)| *seq).filter(ending).collect();
        if !unbegun.is_empty() {
            writing.run(UNBEGUN, Values::default().with(unbegun)).await?;
        }
        let (lanes, ends): (Vec<_>, Vec<_>) = ends.into_iter().unzip();
        effects.unqueued.extend(lanes);
        end(writing, &ends, effects).await
    }
}

/// Hands out what was taken; what is not handed out is returned.
fn hand(
    writing: &mut PgTransaction,
    rows: &[PgRow],
    hands: &mut HashMap<i64, Hand>,
    now: Timestamp,
) -> Result<Overlooked, LedgerError> {
    let mut passed = Overlooked::default();
    for row in rows {
        let place = number(row, "wanted")?;
        let hand = hands.entry(place).or_default();
        hand.next_due = sooner(maybe_time(row, "next_due")?, put_off_to(&passed, place));
        let Some(due_at) = maybe_time(row, "due_at")? else { continue };
        writing.book.marks.taken(place, due_at, now);
        let (lane, seq) = (writing.lane(place)?, number(row, "seq")?);
        if runs(row)? {
            unreadable::tell_of_twin(seq);
            passed.twins.push(lane);
            continue;
        }
        let begins = number::<i64>(row, "begins")? > 0;
        let (before, damage) = Handed::state(row);
        let carried = match begins {
            true => before.clone().begun(now),
            false => before.clone().handed_out(),
        };
        let (sequence, used) = (carried.sequence, if begins { Use::Carry } else { Use::Expire });
        let handed = Handed { damage, ..handed(seq, lane.clone(), carried, before.counts, used) };
        let read = handed.read(Some(row), &writing.book.sealer, now)?;
        let unknown = match &read {
            Read::Whole(leased) if begins => writing.book.tasks.unknown(leased),
            _ => None,
        };
        match (read, unknown) {
            (Read::Whole(leased), None) => {
                if begins {
                    writing.told.push(PendingEvent {
                        seq,
                        sequence,
                        topic: Topic::Started,
                        at: now,
                    });
                }
                hand.leased.push(*leased);
                continue;
            }
            (Read::Ends(unread), None) => passed.ends.push((lane, *unread)),
            (Read::Left(why), _) | (_, Some(why)) => {
                let due_at = again_at(Some(row), now);
                let carried = before.handed_out();
                passed.left.push((ReadyRow { seq, lane: place, due_at, carried }, why));
                hand.next_due = sooner(hand.next_due, Some(due_at));
            }
        }
        if begins {
            passed.begun.push((seq, i64::from(sequence)));
        }
    }
    Ok(passed)
}

/// Whether what was taken out of a lane runs already.
fn runs(row: &PgRow) -> Result<bool, LedgerError> {
    Ok(number::<i64>(row, "runs")? > 0)
}

/// When the first of a lane is due that was put off.
fn put_off_to(passed: &Overlooked, lane: i64) -> Option<Timestamp> {
    passed.left.iter().filter(|(row, _)| row.lane == lane).map(|(row, _)| row.due_at).min()
}

fn sooner(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

/// Ends what was handed out and cannot be read.
async fn end(
    writing: &mut PgTransaction,
    ends: &[Unread],
    effects: &mut Effects,
) -> Result<(), LedgerError> {
    let settlements: Vec<_> = ends.iter().map(|unread| unread.settlement.clone()).collect();
    writing.lock(settlements.iter().filter_map(|it| it.lease.serial).collect()).await?;
    settle::settle(writing, &settlements, effects).await?;
    ends.iter().for_each(|unread| unread.noted(effects));
    Ok(())
}

/// Takes what is due in these lanes, which have these numbers.
async fn taken(
    writing: &mut PgTransaction,
    limits: &[i64],
    lanes: &[i64],
    now: Timestamp,
) -> Batch<PgRow> {
    let lows = writing.book.marks.of(lanes);
    let values = Values::default().with(lanes.to_vec()).with(limits.to_vec()).with(lows);
    let values = values.with(now.as_micros()).with(writing.book.incarnation);
    let values = values.with(EventKind::Started.as_str()).with(writing.relies_on());
    let since = writing.book.property.since(Some(now));
    writing.rows(CLAIMED, values.with(since)).await
}

/// Sorts what was taken by when it was due; a lane of which nothing was has no time.
fn sort_by_due(rows: &mut Vec<PgRow>) -> Result<(), LedgerError> {
    let mut keyed = Vec::with_capacity(rows.len());
    for row in rows.drain(..) {
        keyed.push(((maybe_time(&row, "due_at")?, maybe_number::<i64>(&row, "seq")?), row));
    }
    keyed.sort_unstable_by_key(|(key, _)| *key);
    rows.extend(keyed.into_iter().map(|(_, row)| row));
    Ok(())
}

/// When the next of each lane is due.
pub(crate) fn heads(rows: &[PgRow]) -> Result<HashMap<i64, Option<Timestamp>>, LedgerError> {
    rows.iter().map(|row| Ok((number(row, "lane")?, maybe_time(row, "due_at")?))).collect()
}

/// An operation that is handed out to run, of which nothing else is known.
fn handed(seq: i64, lane: Lane, carried: RunState, before: Counts, used: Use) -> Handed {
    let (held, continuation, cancel_asked) = (Held::Running, Ok(None), false);
    Handed { seq, lane, carried, before, held, continuation, cancel_asked, damage: None, used }
}

/// What these are to do, by their places.
async fn works(
    writing: &mut PgTransaction,
    seqs: Vec<i64>,
) -> Result<HashMap<i64, PgRow>, LedgerError> {
    let rows = writing.rows(WORK, Values::default().with(seqs)).await?;
    rows.into_iter().map(|row| Ok((number(&row, "seq")?, row))).collect()
}

/// Reads the work of operations and makes their leases, in the order given, of those that
/// can be read.
async fn hand_out(
    writing: &mut PgTransaction,
    outs: Vec<Handed>,
    now: Timestamp,
    effects: &mut Effects,
) -> Batch<Leased> {
    if outs.is_empty() {
        return Ok(Vec::new());
    }
    let works = works(writing, outs.iter().map(|out| out.seq).collect()).await?;
    let (mut leases, mut ends) = (Vec::with_capacity(outs.len()), Vec::new());
    for out in outs {
        let seq = out.seq;
        match out.read(works.get(&seq), &writing.book.sealer, now)? {
            Read::Whole(leased) => leases.push(*leased),
            Read::Ends(unread) => ends.push(*unread),
            Read::Left(why) => effects.left.push((seq, why)),
        }
    }
    end(writing, &ends, effects).await?;
    Ok(leases)
}

pub(crate) async fn claim_waiting(
    writing: &mut PgTransaction,
    wants: &[Want],
    now: Timestamp,
    visible_again: Timestamp,
    effects: &mut Effects,
) -> Batch<Leased> {
    let lanes: Vec<_> =
        wants.iter().map(|want| writing.book.number(&want.lane)).collect::<Result<_, _>>()?;
    let limits: Vec<_> = wants.iter().map(|want| want.limit as i64).collect();
    let begin = |lane: &i64| writing.book.marks.begin(Shelf::Followed(*lane), now);
    let lows: Vec<_> = lanes.iter().map(begin).collect();
    let values = Values::default().with(visible_again.as_micros()).with(now.as_micros());
    let values = values.with(lanes.clone()).with(limits).with(lows);
    let rows = writing.rows(WAITING, values).await?;
    let mut taken: HashMap<i64, usize> = HashMap::new();
    for row in &rows {
        *taken.entry(number(row, "lane")?).or_default() += 1;
    }
    for (want, lane) in wants.iter().zip(lanes) {
        if taken.get(&lane).is_none_or(|taken| *taken < want.limit) {
            writing.book.marks.emptied(Shelf::Followed(lane), now);
        }
    }
    held(writing, &rows, (Held::Waiting, Use::Carry), now, effects).await
}

pub(crate) async fn claim_overdue(
    writing: &mut PgTransaction,
    limit: usize,
    now: Timestamp,
    visible_again: Timestamp,
    effects: &mut Effects,
) -> Batch<Leased> {
    let values = Values::default().with(visible_again.as_micros()).with(now.as_micros());
    let low = writing.book.marks.begin(Shelf::Deadlines, now);
    let rows = writing.rows(OVERDUE, values.with(limit as i64).with(low)).await?;
    if rows.len() < limit {
        writing.book.marks.emptied(Shelf::Deadlines, now);
    }
    held(writing, &rows, (Held::Waiting, Use::Expire), now, effects).await
}

pub(crate) async fn claim_orphans(
    writing: &mut PgTransaction,
    dead: &[Dead],
    limit: usize,
    now: Timestamp,
    effects: &mut Effects,
) -> Batch<Leased> {
    if dead.is_empty() {
        return Ok(Vec::new());
    }
    let (incarnations, beats): (Vec<_>, Vec<_>) =
        dead.iter().map(|dead| (dead.incarnation, dead.beat)).unzip();
    // None that is handed out means that there are no more, so those that cannot be read are no end.
    for _ in 0..ROUNDS {
        let values = Values::default()
            .with(writing.book.incarnation)
            .with(writing.book.property.since(Some(now)))
            .with(incarnations.clone())
            .with(limit as i64)
            .with(beats.clone());
        let rows = writing.rows(ORPHANS, values).await?;
        if rows.is_empty() {
            writing.run(CLEARED, Values::default().with(incarnations).with(beats)).await?;
            break;
        }
        let leased = held(writing, &rows, (Held::Running, Use::Rescue), now, effects).await?;
        if !leased.is_empty() {
            return Ok(leased);
        }
    }
    Ok(Vec::new())
}

pub(crate) async fn reclaim(
    writing: &mut PgTransaction,
    lost: &[LeaseKey],
    begun: bool,
    now: Timestamp,
    effects: &mut Effects,
) -> Batch<Leased> {
    if lost.is_empty() {
        return Ok(Vec::new());
    }
    let (seqs, tokens): (Vec<_>, Vec<_>) = lost.iter().map(|key| (key.seq, key.token)).unzip();
    let node = writing.book.incarnation;
    let since = writing.book.property.since(Some(now));
    let values = Values::default().with(node).with(since).with(seqs).with(tokens);
    let rows = writing.rows(RECLAIMED, values.with(i64::from(begun))).await?;
    held(writing, &rows, (Held::Running, Use::Rescue), now, effects).await
}

/// Hands out rows that stay in their table.
async fn held(
    writing: &mut PgTransaction,
    rows: &[PgRow],
    (held, used): (Held, Use),
    now: Timestamp,
    effects: &mut Effects,
) -> Batch<Leased> {
    let lanes: Result<Vec<i64>, _> = rows.iter().map(|row| number(row, "lane")).collect();
    writing.learn_lanes(lanes?).await?;
    let mut outs = Vec::with_capacity(rows.len());
    for row in rows {
        let (continuation, cancel_asked) = match held {
            Held::Waiting => (continuation(row, &writing.book.sealer), false),
            Held::Running => (Ok(None), number::<i64>(row, "cancel")? > 0),
        };
        let (carried, damage) = Handed::state(row);
        let (lane, before) = match writing.lane(number(row, "lane")?) {
            Ok(lane) => (lane, carried.counts),
            // It stays for `reconcile` and holds up no other.
            Err(error) => {
                effects.left.push((number(row, "seq")?, error.to_string()));
                continue;
            }
        };
        let out = handed(number(row, "seq")?, lane, carried, before, used);
        outs.push(Handed { held, continuation, cancel_asked, damage, ..out });
    }
    hand_out(writing, outs, now, effects).await
}

pub(crate) async fn claim_expired(
    writing: &mut PgTransaction,
    lane: &Lane,
    seqs: &[i64],
    now: Timestamp,
    effects: &mut Effects,
) -> Batch<Leased> {
    let (number_of, node) = (writing.book.number(lane)?, writing.book.incarnation);
    let values = Values::default().with(seqs.to_vec()).with(number_of);
    let rows = writing.rows(EXPIRED, values).await?;
    let since = Timestamp::from_micros(writing.book.property.since(Some(now)));
    let mut running = Vec::with_capacity(rows.len());
    let mut outs = Vec::with_capacity(rows.len());
    for row in &rows {
        if runs(row)? {
            unreadable::tell_of_twin(number(row, "seq")?);
            effects.unqueued.push(lane.clone());
            continue;
        }
        let (before, damage) = Handed::state(row);
        let (seq, carried) = (number(row, "seq")?, before.clone().handed_out());
        let out = handed(seq, lane.clone(), carried.clone(), before.counts, Use::Expire);
        outs.push(Handed { damage, ..out });
        running.push(RunningRow { seq, lane: number_of, node, since, carried });
    }
    writing.script.add(&RUNNING, &running, RunningRow::put);
    let before = effects.unread.len();
    let leased = hand_out(writing, outs, now, effects).await?;
    effects.unqueued.extend((before..effects.unread.len()).map(|_| lane.clone()));
    Ok(leased)
}
