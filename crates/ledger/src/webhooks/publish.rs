//! The announcement of an event to its receivers, in the transaction that the event belongs to.
//!
//! Owns the step from an event to its message and its deliveries. Its invariant: either
//! all of it is durable or nothing, and the same event always makes a message of the same
//! name. Up to [`AT_ONCE`] receivers are given it at once, the others by a fan-out. What
//! this node can send at once is handed out as it is made, and never becomes due.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::commit::handoff::{DeliverySlot, DeliverySlots};
use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::model::Subject;
use crate::rows::{ReadRow, maybe_text, number};
use crate::webhooks::compression::CompressedBody;
use crate::webhooks::due_index::DeliveryLane;
use crate::webhooks::model::{
    Cause, DeliveryKey, DeliveryLease, Format, LeasedDelivery, Message, MessageRenderer,
};
use crate::webhooks::rows::{joined, known, message_place, receiver_columns, url_place};
use crate::webhooks::sql::{
    IdSequence, OperationSnapshot, Params, PendingEvent, SqlReader, SqlTransaction, Table, one,
    table,
};
use crate::webhooks::subscribers::{Recipients, Subscribers};
use crate::webhooks::subscription_index::SubscriptionIndex;
use cloakroom_domain::webhooks::{DEADLINE, ReceiverKey, Topic};
use cloakroom_domain::{Principal, Timestamp};

statements! {
    pub(crate) static MESSAGES: Table = table!(
        "messages",
        "message, seq, sequence, name, event, at, packing, body",
        "nnctwnco",
        "?, ?, ?, ?, ?, ?, ?, ?"
    );

    pub(crate) static DELIVERIES: Table = table!(
        "deliveries",
        "delivery, message, receiver, url, cause, created_at, deadline_at, format",
        "nnnTwnnw",
        "?, ?, ?, ?, ?, ?, ?, ?"
    );

    pub(crate) static DUE: Table = table!(
        "deliveries_due",
        "delivery, receiver, again, due_at, attempts, refusals, token",
        "nncnccc",
        "?, ?, ?, ?, ?, ?, ?"
    );

    pub(crate) static SENDING: Table = table!(
        "deliveries_sending",
        "delivery, receiver, node, since, attempts, refusals, token",
        "nncnccc",
        "?, ?, ?, ?, ?, ?, ?"
    );

    pub(crate) static HELD: Table = table!("deliveries_held", "delivery, receiver, held_at, attempts", "nnnn", "?, ?, ?, ?");

    pub(crate) static FAN_OUTS: Table = table!(
        "fan_outs",
        "message, principal, event, route, tags, behind, last, due_at, version",
        "nonttnnnn",
        "?, ?, ?, ?, ?, ?, ?, ?, ?"
    );

    const VERSION: &str = r"SELECT version FROM webhooks";

    /// With the version as of the same moment; without a receiver where none has changed.
    const CHANGED: &str = concat!(
        r"SELECT version, public_base, ",
        receiver_columns!(),
        r"
        FROM webhooks
        LEFT JOIN receivers ON changed > $1"
    );
}

/// So many deliveries are made in the transaction of the event itself.
pub(crate) const AT_ONCE: usize = 16;

/// The deliveries that became due: lanes and times.
pub(crate) type NewlyDue = Vec<(DeliveryLane, Timestamp)>;

/// The effects of an announcement once it is durable.
#[derive(Default)]
pub(crate) struct Announcement {
    pub(crate) newly: NewlyDue,
    pub(crate) handed: Vec<HandedOffDelivery>,
    /// Whether there are receivers that only a fan-out gives it to.
    pub(crate) fans: bool,
}

/// A delivery that was handed out as it was made, and who keeps space for it.
pub(crate) struct HandedOffDelivery {
    pub(crate) slot: Box<dyn DeliverySlot>,
    pub(crate) delivery: LeasedDelivery,
}

/// Brings what is remembered of receivers up to date.
pub(crate) async fn refresh<W: SqlTransaction + ?Sized>(
    writing: &mut W,
) -> Result<(), LedgerError> {
    let subscribers = writing.subscribers();
    let known_version = subscribers.index().version;
    if writing.version() == Some(known_version) {
        return Ok(());
    }
    let Some(row) = one(writing, VERSION, Params::none()).await? else { return Ok(()) };
    if number::<i64>(&row, "version")? == known_version {
        return Ok(());
    }
    let rows = writing.rows(CHANGED.into(), Params::number(known_version)).await?;
    take_in(&subscribers, &rows)
}

/// The same by reading, for those who write nothing.
pub(crate) async fn look<A: SqlReader + ?Sized>(asking: &A) -> Result<(), LedgerError> {
    let subscribers = asking.subscribers();
    let rows = asking.ask(CHANGED.into(), Params::number(subscribers.index().version)).await?;
    take_in(subscribers, &rows)
}

fn take_in(subscribers: &Subscribers, rows: &[impl ReadRow]) -> Result<(), LedgerError> {
    let Some(row) = rows.first() else { return Ok(()) };
    let (version, base) = (number(row, "version")?, maybe_text(row, "public_base")?);
    let mut changed = Vec::with_capacity(rows.len());
    for row in rows {
        if row.number("receiver")?.is_some() {
            changed.push(known(row)?);
        }
    }
    subscribers.learn(version, base, changed);
    Ok(())
}

/// Gives what happened in this transaction to those who are to be told.
pub(crate) async fn announce<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    renderer: &dyn MessageRenderer,
    delivery_slots: Option<&dyn DeliverySlots>,
) -> Result<Announcement, LedgerError> {
    let mut told = writing.told();
    if told.is_empty() || writing.is_alone() {
        return Ok(Announcement::default());
    }
    let makes_callbacks = writing.makes_callbacks();
    if !makes_callbacks {
        refresh(writing).await?;
    }
    let index = writing.subscribers().index();
    told.retain(|told| makes_callbacks || index.wants(told.topic));
    if told.is_empty() {
        return Ok(Announcement::default());
    }
    let mut operations = about(writing, &told).await?;
    // What happened first has the lower numbers, whatever wrote it first.
    told.sort_by_key(|told| (told.at, told.seq, told.sequence));
    operations.sort_unstable_by_key(|announced| announced.seq);
    let mut outgoing = Vec::new();
    for told in told {
        let found = operations.binary_search_by_key(&told.seq, |announced| announced.seq);
        let Some(about) = found.ok().and_then(|place| operations.get(place)) else { continue };
        outgoing.extend(outgoing_message(&index, renderer, about, told));
    }
    if outgoing.is_empty() {
        return Ok(Announcement::default());
    }
    let fans = outgoing.iter().any(|outgoing_message| outgoing_message.fan.is_some());
    let InsertedDeliveries { newly, handed, .. } = write(writing, outgoing, delivery_slots).await?;
    Ok(Announcement { newly, handed, fans })
}

/// The operations that something is told of, in no order. One that has ended is told of as it
/// stood then, unless more has come to be of it since.
async fn about<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    told: &[PendingEvent],
) -> Result<Vec<OperationSnapshot>, LedgerError> {
    let mut latest = BTreeMap::new();
    for PendingEvent { seq, sequence, .. } in told {
        let known = latest.entry(*seq).or_insert(*sequence);
        *known = (*known).max(*sequence);
    }
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for (seq, sequence) in latest {
        match writing.ended(seq).filter(|ended| ended.operation.sequence >= sequence) {
            Some(ended) => known.push(ended),
            None => unknown.push(seq),
        }
    }
    if !unknown.is_empty() {
        known.extend(writing.operations(&unknown).await?);
    }
    Ok(known)
}

/// A message with its receivers.
pub(super) struct OutgoingMessage {
    pub(super) about: Option<(i64, u32)>,
    pub(super) topic: Topic,
    pub(super) at: Timestamp,
    pub(super) message: Message,
    pub(super) cause: Cause,
    pub(super) matching: Recipients,
    /// The callback that it goes to besides: its receiver and URL.
    pub(super) callback: Option<(ReceiverKey, String)>,
    /// What the others are told by who also want it.
    pub(super) fan: Option<FanOut>,
}

/// The parameters of a fan-out.
pub(super) struct FanOut {
    pub(super) principal: Principal,
    pub(super) route: Option<String>,
    pub(super) tags: Vec<String>,
    /// The version of receivers that those were found by who are told at once.
    pub(super) version: i64,
}

fn outgoing_message(
    index: &SubscriptionIndex,
    renderer: &dyn MessageRenderer,
    about: &OperationSnapshot,
    told: PendingEvent,
) -> Option<OutgoingMessage> {
    let PendingEvent { seq, sequence, topic, at } = told;
    let operation = &about.operation;
    // No receiver is told of the gateway's own jobs.
    if matches!(operation.subject, Subject::Task(_)) {
        return None;
    }
    let callback = about.callback.as_ref().filter(|callback| callback.topics.has(topic));
    let most = AT_ONCE - usize::from(callback.is_some());
    let (principal, route, tags) = (&operation.principal, &operation.route, &operation.tags);
    let matching = index.matching(principal, most, topic, route, tags);
    if matching.first.is_empty() && callback.is_none() {
        return None;
    }
    let base = index.public_base.as_deref();
    let message = renderer.about_operation(topic, operation, sequence, at, base);
    let fan = matching.more_up_to.map(|_| FanOut {
        principal: operation.principal.clone(),
        route: Some(operation.route.clone()),
        tags: operation.tags.clone(),
        version: index.version,
    });
    Some(OutgoingMessage {
        about: Some((seq, sequence)),
        topic,
        at,
        message,
        cause: Cause::Event,
        callback: callback.map(|callback| (callback.receiver, callback.url.clone())),
        matching,
        fan,
    })
}

/// Writes messages down, and a delivery for each of those they go to at once.
pub(super) async fn post<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    outgoing: Vec<OutgoingMessage>,
) -> Result<NewlyDue, LedgerError> {
    if outgoing.is_empty() {
        return Ok(Vec::new());
    }
    write(writing, outgoing, None).await.map(|made| made.newly)
}

/// The same for one message to one receiver; says which delivery it became.
pub(super) async fn post_one<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    outgoing_message: OutgoingMessage,
) -> Result<(NewlyDue, Option<DeliveryKey>), LedgerError> {
    let InsertedDeliveries { newly, numbers, .. } =
        write(writing, vec![outgoing_message], None).await?;
    Ok((newly, numbers.first().copied()))
}

async fn write<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    outgoing: Vec<OutgoingMessage>,
    delivery_slots: Option<&dyn DeliverySlots>,
) -> Result<InsertedDeliveries, LedgerError> {
    let numbers = writing.numbers(IdSequence::Messages, outgoing.len()).await?;
    let (mut messages, mut new_deliveries, mut fan_outs) = (Vec::new(), Vec::new(), Vec::new());
    for (outgoing_message, message) in outgoing.into_iter().zip(numbers) {
        let sent = Arc::new(MessageContent::of(&outgoing_message));
        let new_delivery = |receiver, url, holds, format| NewDelivery {
            sent: Some(Arc::clone(&sent)),
            message,
            receiver,
            url,
            holds,
            format,
            cause: outgoing_message.cause,
            at: outgoing_message.at,
        };
        let first = outgoing_message.matching.first.iter();
        new_deliveries
            .extend(first.map(|one| new_delivery(one.receiver, None, one.holds, one.format)));
        if let Some((receiver, url)) = outgoing_message.callback {
            new_deliveries.push(new_delivery(receiver, Some(url), false, Format::Standard));
        }
        if let (Some(fan), Some(last)) =
            (outgoing_message.fan, outgoing_message.matching.more_up_to)
        {
            let behind = outgoing_message.matching.first.last().map_or(0, |one| one.receiver.0);
            let topics: cloakroom_domain::webhooks::Topics =
                [outgoing_message.topic].into_iter().collect();
            fan_outs.push(
                Params::number(message)
                    .octets(fan.principal.as_bytes().to_vec())
                    .and(topics.bits())
                    .text(fan.route)
                    .text(joined(&fan.tags))
                    .and(behind)
                    .and(last.0)
                    .at(outgoing_message.at)
                    .and(fan.version),
            );
        }
        let (seq, sequence) = outgoing_message.about.unzip();
        let body = CompressedBody::of(&outgoing_message.message.body);
        let octets = writing.sealer().octets(message_place(message), body.octets)?;
        messages.push(
            Params::number(message)
                .and(seq)
                .and(sequence.map(i64::from))
                .text(outgoing_message.message.name)
                .text(outgoing_message.topic.as_str().to_owned())
                .at(outgoing_message.at)
                .and(body.how)
                .octets(octets),
        );
    }
    writing.put(&MESSAGES, messages).await?;
    writing.put(&FAN_OUTS, fan_outs).await?;
    make(writing, new_deliveries, delivery_slots).await
}

/// The body.
pub(super) struct MessageContent {
    name: Arc<str>,
    topic: Topic,
    at: Timestamp,
    body: Bytes,
}

impl MessageContent {
    fn of(outgoing_message: &OutgoingMessage) -> Self {
        let OutgoingMessage { topic, at, message, .. } = outgoing_message;
        Self {
            name: message.name.as_str().into(),
            topic: *topic,
            at: *at,
            body: message.body.clone(),
        }
    }
}

/// A delivery that is to be made.
pub(super) struct NewDelivery {
    /// What is sent, where that is at hand.
    pub(super) sent: Option<Arc<MessageContent>>,
    pub(super) message: i64,
    pub(super) receiver: ReceiverKey,
    pub(super) url: Option<String>,
    /// It is held instead of being sent.
    pub(super) holds: bool,
    /// How it is wrapped, however its receiver wants others by then.
    pub(super) format: Format,
    pub(super) cause: Cause,
    pub(super) at: Timestamp,
}

/// The deliveries that were inserted.
#[derive(Default)]
pub(super) struct InsertedDeliveries {
    pub(super) newly: NewlyDue,
    /// Their numbers, in the order of the new deliveries.
    pub(super) numbers: Vec<DeliveryKey>,
    pub(super) handed: Vec<HandedOffDelivery>,
}

/// The rows of deliveries that are made.
#[derive(Default)]
struct NewDeliveryRows {
    all: Vec<Params>,
    due: Vec<Params>,
    sending: Vec<Params>,
    held: Vec<Params>,
}

/// Makes deliveries of messages that are written. What the delivery slots have space for is handed
/// out at once.
pub(super) async fn make<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    new_deliveries: Vec<NewDelivery>,
    delivery_slots: Option<&dyn DeliverySlots>,
) -> Result<InsertedDeliveries, LedgerError> {
    if new_deliveries.is_empty() {
        return Ok(InsertedDeliveries::default());
    }
    let numbers = writing.numbers(IdSequence::Deliveries, new_deliveries.len()).await?;
    let (mut rows, mut made) = (NewDeliveryRows::default(), InsertedDeliveries::default());
    let (index, node, sealer) = (writing.subscribers().index(), writing.node(), writing.sealer());
    for (new_delivery, delivery) in new_deliveries.into_iter().zip(numbers) {
        let NewDelivery { message, receiver, holds, format, cause, at, .. } = new_delivery;
        made.numbers.push(DeliveryKey(delivery));
        let url = new_delivery.url.as_deref().map(|url| sealer.text(url_place(delivery), url));
        let url = url.transpose()?;
        rows.all.push(
            Params::number(delivery)
                .and(message)
                .and(receiver.0)
                .text(url)
                .text(cause.as_str().to_owned())
                .at(at)
                .at(at + DEADLINE)
                .text(format.as_str().to_owned()),
        );
        let row = Params::number(delivery).and(receiver.0);
        if holds {
            rows.held.push(row.at(at).and(0));
        } else if let Some(handed) =
            delivery_slots.and_then(|to| hand(to, &index, new_delivery, delivery))
        {
            rows.sending.push(row.and(node).at(at).and(1).and(0).and(FIRST_TOKEN));
            made.handed.push(handed);
        } else {
            rows.due.push(row.and(0).at(at).and(0).and(0).and(0));
            made.newly.push((DeliveryLane { receiver, again: false }, at));
        }
    }
    writing.put(&DELIVERIES, rows.all).await?;
    writing.put(&DUE, rows.due).await?;
    writing.put(&SENDING, rows.sending).await?;
    writing.put(&HELD, rows.held).await?;
    Ok(made)
}

/// The token of a delivery's first lease.
const FIRST_TOKEN: i64 = 1;

/// Hands a delivery out, if there is space for it and what is needed is at hand.
fn hand(
    delivery_slots: &dyn DeliverySlots,
    index: &SubscriptionIndex,
    new_delivery: NewDelivery,
    delivery: i64,
) -> Option<HandedOffDelivery> {
    let NewDelivery { sent, receiver, url, format, at, .. } = new_delivery;
    let (sent, known) = (sent?, index.known(receiver)?);
    let mut slot = delivery_slots.reserve(receiver)?;
    let lease = DeliveryLease { delivery: DeliveryKey(delivery), token: FIRST_TOKEN };
    slot.expect(lease);
    let delivery = LeasedDelivery {
        lease,
        receiver,
        receiver_changed: known.changed,
        url,
        message: Arc::clone(&sent.name),
        topic: sent.topic,
        at: sent.at,
        body: sent.body.clone(),
        format,
        attempts: 1,
        refusals: 0,
        deadline_at: at + DEADLINE,
    };
    Some(HandedOffDelivery { slot, delivery })
}
