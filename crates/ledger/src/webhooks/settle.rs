//! The settlement of deliveries, and of those that a node has lost.
//!
//! Its invariant: a delivery has exactly one row among those that are due, sent, held and
//! ended; a node that was overtaken changes nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;

use crate::commit::transaction::{Transaction, on_either};
use crate::commit::verb::{Grouping, Surroundings, Verb};
use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::rows::{as_micros, number, text};
use crate::webhooks::due_index::DeliveryLane;
use crate::webhooks::model::{
    AttemptRecord, AttemptSettlement, DeliveryEnd, DeliveryKey, DeliveryLease, DeliverySettled,
    DeliverySettlement, DisabledFor, MessageRenderer, Subscription,
};
use crate::webhooks::publish::{DUE, HELD, NewlyDue, refresh};
use crate::webhooks::rows::{receiver_columns, subscription, topic};
use crate::webhooks::sql::{
    Params, ReclaimedDelivery, Sql, SqlTransaction, Table, locking, one, run, table,
};
use crate::webhooks::subscribers::ReceiverStanding;
use crate::webhooks::subscription_index::SubscriptionIndex;
use crate::webhooks::subscriptions::{disable, next_version, tell};
use crate::webhooks::unreadable::{UnreadableDelivery, UnreadableFate};
use cloakroom_domain::Timestamp;
use cloakroom_domain::webhooks::{DeliveryDecision, HOPELESS, ReceiverKey, ScheduleEnd, Topic};

statements! {
    pub(crate) static ENDED: Table = table!(
        "deliveries_ended",
        "delivery, state, ended_at, attempts, at, took_us, status, code",
        "nwncnncT",
        "?, ?, ?, ?, ?, ?, ?, ?"
    );

    pub(crate) static ATTEMPTS: Table = table!(
        "delivery_attempts",
        "delivery, number, at, took_us, status, code, next_at",
        "ncnncTN",
        "?, ?, ?, ?, ?, ?, ?"
    );

    const FAILS: &str = r"
        UPDATE receivers
        SET failing_since = $1, changed = $2
        WHERE receiver = $3 AND failing_since IS NULL";

    /// It is said to have recovered once it has taken what it was complained about for.
    const TAKES: &str = r"
        UPDATE receivers
        SET failing_since = NULL, changed = $1
        WHERE receiver = $2 AND failing_since IS NOT NULL AND state <> 'deleted'";

    const RECOVERS: &str = concat!(
        r"
        UPDATE receivers
        SET failing_since = NULL, complained = 0, changed = $1
        WHERE receiver = $2 AND (failing_since IS NOT NULL OR complained = 1)
            AND state <> 'deleted'
        RETURNING ",
        receiver_columns!()
    );

    const COMPLAINED: &str = concat!(
        r"
        UPDATE receivers
        SET complained = 1, changed = $1
        WHERE receiver = $2 AND kind = 'subscription' AND state <> 'deleted'
        RETURNING ",
        receiver_columns!()
    );

    const FOUND: &str = concat!(
        r"SELECT ",
        receiver_columns!(),
        r"
        FROM receivers
        WHERE receiver = $1 AND kind = 'subscription' AND state <> 'deleted'"
    );

    const STRAYS: Sql = locking!(
        r"
        SELECT delivery, token
        FROM deliveries_sending
        WHERE node = $1
        ORDER BY delivery
        LIMIT $2"
    );

    const STATE: &str = r"SELECT state FROM receivers WHERE receiver = $1";

    const HELD_BACK: &str = r"
        DELETE FROM deliveries_due
        WHERE delivery IN (SELECT delivery
            FROM deliveries_due
            WHERE receiver = $1
            ORDER BY again, due_at, delivery
            LIMIT $2)
        RETURNING delivery, attempts";

    const MESSAGE: &str = r"
        SELECT m.name, m.event
        FROM deliveries v
        JOIN messages m ON m.message = v.message
        WHERE v.delivery = $1";

    const LATE: &str = r"
        DELETE FROM deliveries_due
        WHERE delivery IN (SELECT d.delivery
            FROM deliveries_due d
            JOIN deliveries v ON v.delivery = d.delivery
            WHERE d.receiver = $1 AND d.again = $2 AND d.due_at <= $3 AND v.deadline_at <= $4
            ORDER BY d.due_at, d.delivery
            LIMIT $5)
        RETURNING delivery, attempts";
}

/// Settles what was delivered, where nothing is to be written down about receivers because of that.
/// Its output is none where it is not as simple: nothing was changed then.
pub(crate) struct SettleDelivered {
    pub(crate) batch: Arc<[DeliverySettlement]>,
}

#[async_trait]
impl Verb for SettleDelivered {
    type Output = Option<Vec<DeliverySettled>>;

    fn grouping(&self, is_shared: bool) -> Grouping {
        // A single statement changes nothing that others in its transaction go by; where others
        // write too, it is better off by itself all the same.
        if is_shared { Grouping::First } else { Grouping::Together }
    }

    fn is_single(&self) -> bool {
        true
    }

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        _around: &mut Surroundings<'_>,
    ) -> Result<Self::Output, LedgerError> {
        on_either!(transaction, writing => settle_delivered(&mut **writing, &self.batch).await)
    }
}

async fn settle_delivered<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    batch: &[DeliverySettlement],
) -> Result<Option<Vec<DeliverySettled>>, LedgerError> {
    if !writing.is_alone() {
        refresh(writing).await?;
    }
    let index = writing.subscribers().index();
    let recovers = |settlement: &DeliverySettlement| {
        let known = settlement.attempt().and_then(|attempt| index.known(attempt.receiver));
        known.is_some_and(|known| known.failing_since.is_some() || known.complained)
    };
    if batch.iter().any(recovers) {
        return Ok(None);
    }
    let Some(taken) = writing.take_delivered(batch, index.version).await? else {
        return Ok(None);
    };
    let taken: HashSet<_> = taken.into_iter().collect();
    let how = |settlement: &DeliverySettlement| match taken.contains(&settlement.lease().delivery) {
        true => DeliverySettled::Done,
        false => DeliverySettled::Stale,
    };
    Ok(Some(batch.iter().map(how).collect()))
}

/// Settles a batch of deliveries; its outputs are in the order of the batch.
pub(crate) struct SettleDeliveries {
    pub(crate) batch: Arc<[DeliverySettlement]>,
}

#[async_trait]
impl Verb for SettleDeliveries {
    type Output = Vec<DeliverySettled>;

    fn grouping(&self, _is_shared: bool) -> Grouping {
        Grouping::First
    }

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        around: &mut Surroundings<'_>,
    ) -> Result<Self::Output, LedgerError> {
        let (output, newly) = on_either!(transaction, writing => settle(&mut **writing, &self.batch, around.renderer).await)?;
        around.effects.due.extend(newly);
        Ok(output)
    }
}

/// The rows that the settlements of a batch write, by table.
#[derive(Default)]
struct DeliveryRows {
    due: Vec<Params>,
    ended: Vec<Params>,
    attempts: Vec<Params>,
    newly: NewlyDue,
    receivers: BTreeMap<ReceiverKey, ReceiverReport>,
}

/// The way in which a receiver failed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ReceiverFailure {
    Fails,
    /// It wants no more.
    Gone,
}

/// The attempts of a batch to one receiver, summed up.
#[derive(Default)]
struct ReceiverReport {
    took: bool,
    /// The worst that it did not take anything with.
    failed: Option<ReceiverFailure>,
    /// Whether any of it was about an operation. Deliveries about webhooks themselves make no
    /// further events.
    speaks: bool,
    /// Messages about operations that were given up.
    given_up: Vec<String>,
}

async fn settle<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    batch: &[DeliverySettlement],
    renderer: Option<&dyn MessageRenderer>,
) -> Result<(Vec<DeliverySettled>, NewlyDue), LedgerError> {
    refresh(writing).await?;
    let index = writing.subscribers().index();
    let leases: Vec<_> = batch.iter().map(DeliverySettlement::lease).collect();
    let taken = writing.take_sending(&leases).await?;
    let taken: HashMap<_, _> = taken.into_iter().map(|taken| (taken.lease, taken)).collect();
    let mut ends = DeliveryRows::default();
    let settled = batch.iter().map(|settlement| match taken.get(&settlement.lease()) {
        Some(taken) => {
            ends.add(settlement, taken);
            DeliverySettled::Done
        }
        None => DeliverySettled::Stale,
    });
    let settled = settled.collect();
    let DeliveryRows { due, ended, attempts, mut newly, receivers } = ends;
    writing.put(&DUE, due).await?;
    writing.put(&ENDED, ended).await?;
    writing.put(&ATTEMPTS, attempts).await?;
    let at = batch.iter().filter_map(|it| it.attempt()).map(|attempt| attempt.at).max();
    let marked: Vec<_> = receivers
        .into_iter()
        .filter(|(receiver, seen)| seen.matters(*receiver, &index, at))
        .collect();
    if let (Some(at), false) = (at, marked.is_empty()) {
        let version = next_version(writing).await?;
        for (receiver, seen) in marked {
            let mark = ReceiverUpdate { receiver, version, at };
            newly.extend(mark.write(writing, &seen, &index, renderer).await?);
        }
    }
    Ok((settled, newly))
}

impl DeliveryRows {
    fn add(&mut self, settlement: &DeliverySettlement, taken: &ReclaimedDelivery) {
        let attempt = match settlement {
            DeliverySettlement::Attempted(attempt) => attempt,
            DeliverySettlement::Returned { due_at, .. } => return self.back(taken, *due_at),
        };
        let (delivery, record) = (attempt.lease.delivery, &attempt.record);
        let seen = self.receivers.entry(attempt.receiver).or_default();
        seen.speaks |= attempt.topic.is_of_operation();
        match attempt.decision {
            DeliveryDecision::Again { due_at, refusals } => {
                self.attempts.push(attempt_row(delivery, record));
                seen.fails(ReceiverFailure::Fails);
                self.again(taken, due_at, taken.attempts, i64::from(refusals));
            }
            DeliveryDecision::Over(ended) => {
                seen.over(ended, attempt);
                self.ended.push(end_with(delivery, ended.into(), attempt.at, record));
            }
        }
    }

    /// Makes due again what was not sent: its attempt does not count.
    fn back(&mut self, taken: &ReclaimedDelivery, due_at: Timestamp) {
        self.again(taken, due_at, taken.attempts.saturating_sub(1).max(0), taken.refusals);
    }

    fn again(
        &mut self,
        taken: &ReclaimedDelivery,
        due_at: Timestamp,
        attempts: i64,
        refusals: i64,
    ) {
        let (delivery, again) = (taken.lease.delivery, attempts > 0);
        let refusals = refusals.min(attempts);
        let row = Params::number(delivery.0).and(taken.receiver.0).and(i64::from(again)).at(due_at);
        self.due.push(row.and(attempts).and(refusals).and(taken.lease.token));
        self.newly.push((DeliveryLane { receiver: taken.receiver, again }, due_at));
    }
}

impl ReceiverReport {
    fn over(&mut self, ended: ScheduleEnd, attempt: &AttemptSettlement) {
        match ended {
            ScheduleEnd::Delivered => self.took = true,
            ScheduleEnd::Gone => self.fails(ReceiverFailure::Gone),
            ScheduleEnd::Exhausted => {
                self.fails(ReceiverFailure::Fails);
                if attempt.topic.is_of_operation() {
                    self.given_up.push(attempt.message.to_string());
                }
            }
        }
    }

    fn fails(&mut self, how: ReceiverFailure) {
        self.failed = self.failed.max(Some(how));
    }

    fn is_gone(&self) -> bool {
        self.failed == Some(ReceiverFailure::Gone)
    }

    /// Whether anything has to be written down about the receiver.
    fn matters(
        &self,
        receiver: ReceiverKey,
        index: &SubscriptionIndex,
        at: Option<Timestamp>,
    ) -> bool {
        let Some(known) = index.known(receiver) else { return false };
        let ends = self.is_gone() || !self.given_up.is_empty();
        let hopeless = self.is_hopeless(known.failing_since, at);
        let complained = known.complained && self.speaks;
        let recovers = self.took && (known.failing_since.is_some() || complained);
        let begins = self.failed.is_some() && !self.took && known.failing_since.is_none();
        ends || recovers || begins || (hopeless && known.standing == ReceiverStanding::Active)
    }

    fn is_hopeless(&self, failing_since: Option<Timestamp>, at: Option<Timestamp>) -> bool {
        let long = failing_since.zip(at).is_some_and(|(since, at)| since + HOPELESS <= at);
        long && self.failed.is_some() && !self.took
    }
}

/// An update of a receiver's row.
struct ReceiverUpdate {
    receiver: ReceiverKey,
    version: i64,
    at: Timestamp,
}

impl ReceiverUpdate {
    async fn write<W: SqlTransaction + ?Sized>(
        &self,
        writing: &mut W,
        seen: &ReceiverReport,
        index: &SubscriptionIndex,
        renderer: Option<&dyn MessageRenderer>,
    ) -> Result<NewlyDue, LedgerError> {
        let mut newly = Vec::new();
        let renderer = renderer.filter(|_| seen.speaks);
        let known = index.known(self.receiver);
        for message in &seen.given_up {
            let given = Params::number(self.version).and(self.receiver.0);
            if let Some(row) = one(writing, COMPLAINED, given).await? {
                let about = subscription(&row)?;
                let delivery = Some(message.as_str());
                newly.extend(
                    tell(writing, Topic::Exhausted, &about, delivery, self.at, renderer).await?,
                );
            }
        }
        let is_subscription = known.is_some_and(|known| known.filter.is_some());
        if seen.is_gone() && is_subscription {
            newly.extend(self.disable(writing, DisabledFor::Gone, renderer).await?);
            return Ok(newly);
        }
        if seen.took {
            let given = Params::number(self.version).and(self.receiver.0);
            if !seen.speaks {
                run(writing, TAKES, given).await?;
                return Ok(newly);
            }
            let row = one(writing, RECOVERS, given).await?;
            let complained = known.is_some_and(|known| known.complained);
            if let (Some(row), true, true) = (row, complained, is_subscription) {
                let about = subscription(&row)?;
                newly.extend(
                    tell(writing, Topic::Recovered, &about, None, self.at, renderer).await?,
                );
            }
            return Ok(newly);
        }
        let given = Params::none().at(self.at).and(self.version).and(self.receiver.0);
        run(writing, FAILS, given).await?;
        let since = known.and_then(|known| known.failing_since);
        if seen.is_hopeless(since, Some(self.at)) && is_subscription {
            newly.extend(self.disable(writing, DisabledFor::Failing, renderer).await?);
        }
        Ok(newly)
    }

    async fn disable<W: SqlTransaction + ?Sized>(
        &self,
        writing: &mut W,
        why: DisabledFor,
        renderer: Option<&dyn MessageRenderer>,
    ) -> Result<NewlyDue, LedgerError> {
        let row = one(writing, FOUND, Params::number(self.receiver.0)).await?;
        let Some(was) = row.as_ref().map(subscription).transpose()? else { return Ok(Vec::new()) };
        let was: Subscription = was;
        disable(writing, was, why, self.version, self.at, renderer).await.map(|(_, newly)| newly)
    }
}

impl From<ScheduleEnd> for DeliveryEnd {
    fn from(ended: ScheduleEnd) -> Self {
        match ended {
            ScheduleEnd::Delivered => Self::Delivered,
            ScheduleEnd::Exhausted => Self::Exhausted,
            ScheduleEnd::Gone => Self::Gone,
        }
    }
}

/// The end of a delivery without another attempt.
pub(super) fn end(delivery: DeliveryKey, how: DeliveryEnd, at: Timestamp, attempts: i64) -> Params {
    let row = Params::number(delivery.0).text(how.as_str().to_owned()).at(at).and(attempts);
    row.and(None).and(None).and(None).text(None)
}

/// The end of a delivery by what came of an attempt, which is its last.
pub(crate) fn end_with(
    delivery: DeliveryKey,
    how: DeliveryEnd,
    at: Timestamp,
    last: &AttemptRecord,
) -> Params {
    Params::number(delivery.0)
        .text(how.as_str().to_owned())
        .at(at)
        .and(i64::from(last.number))
        .at(last.at)
        .and(as_micros(last.took))
        .and(last.status.map(i64::from))
        .text(last.code.clone())
}

/// An attempt that another one follows.
fn attempt_row(delivery: DeliveryKey, record: &AttemptRecord) -> Params {
    Params::number(delivery.0)
        .and(i64::from(record.number))
        .at(record.at)
        .and(as_micros(record.took))
        .and(record.status.map(i64::from))
        .text(record.code.clone())
        .and(record.next_at.map(Timestamp::as_micros))
}

/// Makes due again what a node held that is gone: its attempts were cut off, and do not count. Its
/// output is how many there were.
pub(crate) struct ReclaimDeliveries {
    /// The incarnation of that node.
    pub(crate) node: i64,
    pub(crate) limit: usize,
    pub(crate) now: Timestamp,
}

#[async_trait]
impl Verb for ReclaimDeliveries {
    type Output = usize;

    fn grouping(&self, _is_shared: bool) -> Grouping {
        Grouping::First
    }

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        around: &mut Surroundings<'_>,
    ) -> Result<Self::Output, LedgerError> {
        let (output, newly) = on_either!(transaction, writing => reclaim(&mut **writing, self.node, self.limit, self.now).await)?;
        around.effects.due.extend(newly);
        Ok(output)
    }
}

async fn reclaim<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    node: i64,
    limit: usize,
    now: Timestamp,
) -> Result<(usize, NewlyDue), LedgerError> {
    let rows = writing.rows(STRAYS, Params::number(node).and(limit as i64)).await?;
    let lease = |row| {
        let delivery = DeliveryKey(number(row, "delivery")?);
        Ok::<_, LedgerError>(DeliveryLease { delivery, token: number(row, "token")? })
    };
    let leases = rows.iter().map(lease).collect::<Result<Vec<_>, _>>()?;
    let mut ends = DeliveryRows::default();
    for taken in writing.take_sending(&leases).await? {
        ends.again(&taken, now, taken.attempts, taken.refusals.saturating_add(1));
    }
    writing.put(&DUE, ends.due).await?;
    Ok((leases.len(), ends.newly))
}

/// Ends deliveries that were handed out and are damaged, and makes due again what another node may be
/// able to read.
pub(crate) struct SettleUnreadable {
    pub(crate) unread: Arc<[UnreadableDelivery]>,
    pub(crate) now: Timestamp,
}

#[async_trait]
impl Verb for SettleUnreadable {
    type Output = ();

    fn grouping(&self, _is_shared: bool) -> Grouping {
        Grouping::First
    }

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        around: &mut Surroundings<'_>,
    ) -> Result<Self::Output, LedgerError> {
        let newly = on_either!(transaction, writing => settle_unreadable(&mut **writing, &self.unread, self.now).await)?;
        around.effects.due.extend(newly);
        Ok(())
    }
}

async fn settle_unreadable<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    unread: &[UnreadableDelivery],
    now: Timestamp,
) -> Result<NewlyDue, LedgerError> {
    let leases: Vec<_> = unread.iter().map(|unread| unread.lease).collect();
    let mut ends = DeliveryRows::default();
    for taken in writing.take_sending(&leases).await? {
        let fate = unread.iter().find(|unread| unread.lease == taken.lease).map(|it| it.fate);
        match fate {
            Some(UnreadableFate::Left { due_at }) => ends.back(&taken, due_at),
            Some(UnreadableFate::Damaged) | None => {
                // Nothing that is shown counts further.
                let attempts = taken.attempts.saturating_sub(1).min(u32::MAX.into());
                let delivery = taken.lease.delivery;
                ends.ended.push(end(delivery, DeliveryEnd::Dropped, now, attempts));
            }
        }
    }
    writing.put(&DUE, ends.due).await?;
    writing.put(&ENDED, ends.ended).await?;
    Ok(ends.newly)
}

/// Moves what is due for a receiver that takes nothing to where it is held, or drops it if the receiver
/// is gone. Its output is how many there were; there may be more.
pub(crate) struct HoldDeliveries {
    pub(crate) receiver: ReceiverKey,
    pub(crate) limit: usize,
    pub(crate) now: Timestamp,
}

#[async_trait]
impl Verb for HoldDeliveries {
    type Output = usize;

    fn grouping(&self, _is_shared: bool) -> Grouping {
        Grouping::First
    }

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        _around: &mut Surroundings<'_>,
    ) -> Result<Self::Output, LedgerError> {
        on_either!(transaction, writing => hold(&mut **writing, self.receiver, self.limit, self.now).await)
    }
}

async fn hold<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    receiver: ReceiverKey,
    limit: usize,
    now: Timestamp,
) -> Result<usize, LedgerError> {
    let state = one(writing, STATE, Params::number(receiver.0)).await?;
    let state = state.map(|row| crate::rows::maybe_text(&row, "state")).transpose()?;
    let state = state.flatten().unwrap_or_else(|| "deleted".to_owned());
    if state == "active" {
        return Ok(0);
    }
    let rows = writing.rows(HELD_BACK.into(), Params::number(receiver.0).and(limit as i64)).await?;
    let (mut held, mut ended) = (Vec::new(), Vec::new());
    for row in &rows {
        let (delivery, attempts) =
            (DeliveryKey(number(row, "delivery")?), number(row, "attempts")?);
        if state == "deleted" {
            ended.push(end(delivery, DeliveryEnd::Dropped, now, attempts));
        } else {
            held.push(Params::number(delivery.0).and(receiver.0).at(now).and(attempts));
        }
    }
    writing.put(&HELD, held).await?;
    writing.put(&ENDED, ended).await?;
    Ok(rows.len())
}

/// Ends what has been due in a lane beyond its deadline, and tells of it. Its output names the messages.
pub(crate) struct ExpireDeliveries {
    pub(crate) lane: DeliveryLane,
    pub(crate) limit: usize,
    pub(crate) now: Timestamp,
}

#[async_trait]
impl Verb for ExpireDeliveries {
    type Output = Vec<String>;

    fn grouping(&self, _is_shared: bool) -> Grouping {
        Grouping::First
    }

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        around: &mut Surroundings<'_>,
    ) -> Result<Self::Output, LedgerError> {
        let (output, newly) = on_either!(transaction, writing => expire(&mut **writing, self.lane, self.limit, self.now, around.renderer).await)?;
        around.effects.due.extend(newly);
        Ok(output)
    }
}

async fn expire<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    lane: DeliveryLane,
    limit: usize,
    now: Timestamp,
    renderer: Option<&dyn MessageRenderer>,
) -> Result<(Vec<String>, NewlyDue), LedgerError> {
    refresh(writing).await?;
    let index = writing.subscribers().index();
    let given = Params::number(lane.receiver.0).and(i64::from(lane.again)).at(now).at(now);
    let rows = writing.rows(LATE.into(), given.and(limit as i64)).await?;
    let (mut ended, mut messages) = (Vec::new(), Vec::new());
    let mut seen =
        ReceiverReport { failed: Some(ReceiverFailure::Fails), ..ReceiverReport::default() };
    for row in &rows {
        let delivery = DeliveryKey(number(row, "delivery")?);
        ended.push(end(delivery, DeliveryEnd::Exhausted, now, number(row, "attempts")?));
        let about = one(writing, MESSAGE, Params::number(delivery.0)).await?;
        // A delivery whose message cannot be read ends all the same.
        let message = about.as_ref().and_then(|row| text(row, "name").ok()).unwrap_or_default();
        if about.as_ref().is_some_and(|row| topic(row).is_ok_and(Topic::is_of_operation)) {
            seen.speaks = true;
            seen.given_up.push(message.to_owned());
        }
        messages.push(message.to_owned());
    }
    writing.put(&ENDED, ended).await?;
    let mut newly = Vec::new();
    if seen.matters(lane.receiver, &index, Some(now)) && !messages.is_empty() {
        let version = next_version(writing).await?;
        let mark = ReceiverUpdate { receiver: lane.receiver, version, at: now };
        newly = mark.write(writing, &seen, &index, renderer).await?;
    }
    Ok((messages, newly))
}
