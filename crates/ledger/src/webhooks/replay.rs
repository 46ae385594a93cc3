//! Replays of deliveries that are over, held or wait for their next attempt; and the deletion of old
//! ones.
//!
//! A replay makes a new delivery of the same message: same name, same octets, in the same form. One
//! that waits for its next attempt stays the same delivery and has it now. Its invariant: of each
//! message only the latest delivery to a receiver is looked at, so a step that is done twice replays
//! nothing twice.

use async_trait::async_trait;

use crate::commit::transaction::{Transaction, on_either};
use crate::commit::verb::{Grouping, Surroundings, Verb};
use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::rows::{ReadRow, maybe_number, maybe_time, number};
use crate::webhooks::due_index::DeliveryLane;
use crate::webhooks::fan_out::forget;
use crate::webhooks::model::{
    Cause, DeliveryEnd, DeliveryKey, DeliverySelection, Format, PrunedDeliveries,
    RedeliveryOutcome, ReplayStep, ReplayStepOutcome,
};
use crate::webhooks::publish::{NewDelivery, NewlyDue, make};
use crate::webhooks::rows::{delivery_url, format, joined_state};
use crate::webhooks::settle::{ENDED, end};
use crate::webhooks::sql::{Params, SqlTransaction, one, run};
use crate::webhooks::subscriptions::next_version;
use cloakroom_domain::Timestamp;
use cloakroom_domain::sealer::Sealer;
use cloakroom_domain::webhooks::{ReceiverKey, Topic};

statements! {
    const CANDIDATES: &str = r"
        SELECT v.delivery, v.message, v.url, m.event, d.due_at, h.attempts AS held, e.state,
            coalesce(v.format,
            (SELECT r.format FROM receivers r WHERE r.receiver = v.receiver)) AS format,
            (SELECT max(p.delivery)
            FROM deliveries p
            WHERE p.message = v.message AND p.receiver = v.receiver) AS latest
        FROM deliveries v
        JOIN messages m ON m.message = v.message
        LEFT JOIN deliveries_due d ON d.delivery = v.delivery
        LEFT JOIN deliveries_held h ON h.delivery = v.delivery
        LEFT JOIN deliveries_ended e ON e.delivery = v.delivery
        WHERE v.receiver = $1 AND v.delivery > $2 AND v.created_at >= $3 AND v.created_at < $4
        ORDER BY v.delivery
        LIMIT $5";

    const ONE: &str = r"
        SELECT v.delivery, v.message, v.url, m.event, d.due_at, h.attempts AS held, e.state,
            coalesce(v.format,
            (SELECT r.format FROM receivers r WHERE r.receiver = v.receiver)) AS format,
            v.delivery AS latest
        FROM deliveries v
        JOIN messages m ON m.message = v.message
        LEFT JOIN deliveries_due d ON d.delivery = v.delivery
        LEFT JOIN deliveries_held h ON h.delivery = v.delivery
        LEFT JOIN deliveries_ended e ON e.delivery = v.delivery
        WHERE v.receiver = $1 AND v.delivery = $2";

    const HASTENED: &str = r"
        UPDATE deliveries_due
        SET due_at = $1
        WHERE delivery = $2 AND due_at > $3
        RETURNING again";

    const HELD_GONE: &str = r"DELETE FROM deliveries_held WHERE delivery = $1 RETURNING attempts";

    const TOO_OLD: &str = r"
        DELETE FROM deliveries_held
        WHERE delivery IN (SELECT delivery FROM deliveries_held WHERE held_at < $1 LIMIT $2)
        RETURNING delivery, attempts";

    const NOBODYS: &str = r"
        DELETE FROM deliveries_held
        WHERE delivery IN (SELECT h.delivery
            FROM receivers r
            JOIN deliveries_held h ON h.receiver = r.receiver
            WHERE r.state = 'deleted'
            LIMIT $1)
        RETURNING delivery, attempts";

    const OVER: &str = r"
        DELETE FROM deliveries_ended
        WHERE delivery IN (SELECT delivery
            FROM deliveries_ended
            WHERE ended_at < $1
            ORDER BY ended_at
            LIMIT $2)
        RETURNING delivery";

    const GONE: &str = r"DELETE FROM deliveries WHERE delivery = $1 RETURNING message";

    const LOG_GONE: &str = r"DELETE FROM delivery_attempts WHERE delivery = $1";

    const MESSAGE_GONE: &str = r"
        DELETE FROM messages
        WHERE message = $1
            AND NOT EXISTS (SELECT 1 FROM deliveries v WHERE v.message = messages.message)
            AND NOT EXISTS (SELECT 1 FROM fan_outs f WHERE f.message = messages.message)";

    const TOMBS: &str = r"
        DELETE FROM receivers
        WHERE state = 'deleted' AND changed_at < $1
            AND NOT EXISTS (SELECT 1 FROM deliveries v WHERE v.receiver = receivers.receiver)";

    const UNUSED: &str = r"
        SELECT receiver
        FROM receivers
        WHERE kind = 'callback' AND retired_at IS NULL AND changed_at < $1
            AND NOT EXISTS (SELECT 1 FROM deliveries v WHERE v.receiver = receivers.receiver)
            AND NOT EXISTS (SELECT 1 FROM operations o WHERE o.callback_receiver =
                receivers.receiver)
        LIMIT $2";

    const RETIRED: &str = r"
        UPDATE receivers
        SET retired_at = $1, changed = $2
        WHERE receiver = $3 AND changed_at < $4";

    const RETIRED_GONE: &str = r"
        DELETE FROM receivers
        WHERE kind = 'callback' AND changed_at < $1 AND retired_at < $2
            AND NOT EXISTS (SELECT 1 FROM deliveries v WHERE v.receiver = receivers.receiver)
            AND NOT EXISTS (SELECT 1 FROM operations o WHERE o.callback_receiver =
                receivers.receiver)";
}

/// A delivery that may go out once more.
struct Candidate {
    delivery: i64,
    message: i64,
    url: Option<String>,
    format: Format,
    due_at: Option<Timestamp>,
    held: Option<i64>,
    end: Option<DeliveryEnd>,
    ping: bool,
    latest: bool,
}

impl Candidate {
    fn of(row: &impl ReadRow, sealer: &Sealer) -> Result<Self, LedgerError> {
        let delivery = number(row, "delivery")?;
        Ok(Self {
            delivery,
            message: number(row, "message")?,
            url: delivery_url(row, sealer)?,
            format: format(row)?,
            due_at: maybe_time(row, "due_at")?,
            held: maybe_number(row, "held")?,
            end: joined_state(row)?,
            ping: row.text("event")? == Some(Topic::Ping.as_str()),
            latest: number::<i64>(row, "latest")? == delivery,
        })
    }

    fn is(&self, select: DeliverySelection, now: Timestamp) -> bool {
        let failed = matches!(self.end, Some(DeliveryEnd::Exhausted | DeliveryEnd::Gone));
        match select {
            DeliverySelection::Pending => self.waits(now),
            DeliverySelection::Held => self.held.is_some(),
            DeliverySelection::Failed => failed,
            DeliverySelection::Delivered => self.end == Some(DeliveryEnd::Delivered),
            DeliverySelection::All => self.waits(now) || self.held.is_some() || self.end.is_some(),
        }
    }

    /// Whether its next attempt is still to come.
    fn waits(&self, now: Timestamp) -> bool {
        self.due_at.is_some_and(|due_at| due_at > now)
    }

    /// A test event that is over is not repeated along with others.
    const fn is_over_ping(&self) -> bool {
        self.ping && self.end.is_some()
    }
}

/// One step of a replay.
pub(crate) struct Replay {
    pub(crate) step: ReplayStep,
}

#[async_trait]
impl Verb for Replay {
    type Output = ReplayStepOutcome;

    fn grouping(&self, _is_shared: bool) -> Grouping {
        Grouping::First
    }

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        around: &mut Surroundings<'_>,
    ) -> Result<Self::Output, LedgerError> {
        let (output, newly) =
            on_either!(transaction, writing => replay(&mut **writing, &self.step).await)?;
        around.effects.due.extend(newly);
        Ok(output)
    }
}

async fn replay<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    step: &ReplayStep,
) -> Result<(ReplayStepOutcome, NewlyDue), LedgerError> {
    let behind = step.after.map_or(0, |after| after.0);
    let given = Params::number(step.receiver.0).and(behind).at(step.since).at(step.until);
    let rows = writing.rows(CANDIDATES.into(), given.and(step.limit as i64)).await?;
    let candidate = |row| Candidate::of(row, writing.sealer());
    let candidates = rows.iter().map(candidate).collect::<Result<Vec<_>, _>>()?;
    let last = candidates.last().map(|candidate| DeliveryKey(candidate.delivery));
    let full = candidates.len() >= step.limit;
    let is_meant = |it: &Candidate| it.latest && !it.is_over_ping() && it.is(step.select, step.at);
    let chosen = candidates.into_iter().filter(is_meant);
    let (newly, going) = again(writing, step.receiver, chosen.collect(), step.at).await?;
    let after = last.filter(|_| full);
    Ok((ReplayStepOutcome { count: going.len() as u64, after }, newly))
}

/// Delivers once more a delivery that is over or held.
pub(crate) struct Redeliver {
    pub(crate) receiver: ReceiverKey,
    pub(crate) delivery: DeliveryKey,
    pub(crate) at: Timestamp,
}

#[async_trait]
impl Verb for Redeliver {
    type Output = RedeliveryOutcome;

    fn grouping(&self, _is_shared: bool) -> Grouping {
        Grouping::First
    }

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        around: &mut Surroundings<'_>,
    ) -> Result<Self::Output, LedgerError> {
        let (output, newly) = on_either!(transaction, writing => redeliver(&mut **writing, self.receiver, self.delivery, self.at).await)?;
        around.effects.due.extend(newly);
        Ok(output)
    }
}

async fn redeliver<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    receiver: ReceiverKey,
    delivery: DeliveryKey,
    at: Timestamp,
) -> Result<(RedeliveryOutcome, NewlyDue), LedgerError> {
    let row = one(writing, ONE, Params::number(receiver.0).and(delivery.0)).await?;
    let Some(row) = row else { return Ok((RedeliveryOutcome::Unknown, Vec::new())) };
    let candidate = Candidate::of(&row, writing.sealer())?;
    if candidate.due_at.is_some() && !candidate.waits(at) {
        return Ok((RedeliveryOutcome::As(delivery), Vec::new()));
    }
    if !candidate.is(DeliverySelection::All, at) {
        return Ok((RedeliveryOutcome::Pending, Vec::new()));
    }
    let (newly, going) = again(writing, receiver, vec![candidate], at).await?;
    Ok((
        going.first().map_or(RedeliveryOutcome::Pending, |going| RedeliveryOutcome::As(*going)),
        newly,
    ))
}

/// Makes a new delivery of each of these; one that was held is held no more, and one that waits for
/// its next attempt has it now. Says as which deliveries they go out.
async fn again<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    receiver: ReceiverKey,
    candidates: Vec<Candidate>,
    at: Timestamp,
) -> Result<(NewlyDue, Vec<DeliveryKey>), LedgerError> {
    let mut new_deliveries = Vec::with_capacity(candidates.len());
    let (mut ended, mut hastened, mut newly) = (Vec::new(), Vec::new(), Vec::new());
    for candidate in candidates {
        if candidate.due_at.is_some() {
            // It may have been handed out meanwhile.
            let given = Params::none().at(at).and(candidate.delivery).at(at);
            if let Some(row) = one(writing, HASTENED, given).await? {
                let lane = DeliveryLane { receiver, again: number::<i64>(&row, "again")? == 1 };
                newly.push((lane, at));
                hastened.push(DeliveryKey(candidate.delivery));
            }
            continue;
        }
        if let Some(attempts) = candidate.held {
            // Another one may be at it.
            let held = one(writing, HELD_GONE, Params::number(candidate.delivery)).await?;
            if held.is_none() {
                continue;
            }
            ended.push(end(DeliveryKey(candidate.delivery), DeliveryEnd::Replayed, at, attempts));
        }
        let Candidate { message, url, format, .. } = candidate;
        let (holds, cause) = (false, Cause::Replay);
        new_deliveries.push(NewDelivery {
            sent: None,
            message,
            receiver,
            url,
            holds,
            format,
            cause,
            at,
        });
    }
    writing.put(&ENDED, ended).await?;
    let made = make(writing, new_deliveries, None).await?;
    newly.extend(made.newly);
    Ok((newly, [hastened, made.numbers].concat()))
}

/// Retires receivers of callbacks that no request has named and nothing has referred to since
/// before `unused`, so that every node forgets them; those that were retired before that as
/// well are gone.
async fn retire<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    limit: usize,
    unused: Timestamp,
    now: Timestamp,
) -> Result<(), LedgerError> {
    run(writing, RETIRED_GONE, Params::none().at(unused).at(unused)).await?;
    let rows = writing.rows(UNUSED.into(), Params::none().at(unused).and(limit as i64)).await?;
    if rows.is_empty() {
        return Ok(());
    }
    let version = next_version(writing).await?;
    for row in &rows {
        let given = Params::none().at(now).and(version).and(number::<i64>(row, "receiver")?);
        run(writing, RETIRED, given.at(unused)).await?;
    }
    Ok(())
}

/// Deletes what has been over since before `over`, and drops what has been held since before `held` or
/// for a receiver that is gone.
pub(crate) struct PruneDeliveries {
    /// At most so many of each.
    pub(crate) limit: usize,
    pub(crate) held: Timestamp,
    pub(crate) over: Timestamp,
    pub(crate) now: Timestamp,
}

#[async_trait]
impl Verb for PruneDeliveries {
    type Output = PrunedDeliveries;

    fn grouping(&self, _is_shared: bool) -> Grouping {
        Grouping::First
    }

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        _around: &mut Surroundings<'_>,
    ) -> Result<Self::Output, LedgerError> {
        on_either!(transaction, writing => prune(&mut **writing, self.limit, self.held, self.over, self.now).await)
    }
}

async fn prune<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    limit: usize,
    held: Timestamp,
    over: Timestamp,
    now: Timestamp,
) -> Result<PrunedDeliveries, LedgerError> {
    let given = Params::none().at(held).and(limit as i64);
    let mut rows = writing.rows(TOO_OLD.into(), given).await?;
    let left = limit.saturating_sub(rows.len());
    rows.extend(writing.rows(NOBODYS.into(), Params::number(left as i64)).await?);
    let mut ended = Vec::new();
    for row in &rows {
        let delivery = DeliveryKey(number(row, "delivery")?);
        ended.push(end(delivery, DeliveryEnd::Dropped, now, number(row, "attempts")?));
    }
    writing.put(&ENDED, ended).await?;
    let gone = writing.rows(OVER.into(), Params::none().at(over).and(limit as i64)).await?;
    if !gone.is_empty() {
        writing.keep_numbers().await?;
    }
    for row in &gone {
        let delivery: i64 = number(row, "delivery")?;
        run(writing, LOG_GONE, Params::number(delivery)).await?;
        if let Some(row) = one(writing, GONE, Params::number(delivery)).await? {
            run(writing, MESSAGE_GONE, Params::number(number(&row, "message")?)).await?;
        }
    }
    let former = forget(writing, limit, now).await?;
    if gone.len() < limit {
        run(writing, TOMBS, Params::none().at(held)).await?;
        retire(writing, limit, held, now).await?;
    }
    Ok(PrunedDeliveries {
        deliveries: gone.len() as u64,
        dropped: rows.len() as u64,
        former: former as u64,
    })
}
