//! Receivers, keys and deliveries, from the rows that hold them.

use std::time::Duration;

use bytes::Bytes;

use crate::error::LedgerError;
use crate::rows::{
    ReadRow, damaged, exactly, id, maybe_id, maybe_number, maybe_sealed, maybe_text, maybe_time,
    number, octets, text, time,
};
use crate::webhooks::compression::unpacked;
use crate::webhooks::model::{
    AttemptRecord, Cause, Delivery, DeliveryEnd, DeliveryKey, DeliveryLease, DeliveryState,
    DisabledFor, Format, KeyKind, LeasedDelivery, PublishedKey, Receiver, StoredKey, Subscription,
    SubscriptionId, SubscriptionSettings, SubscriptionState,
};
use crate::webhooks::subscribers::{Filter, KnownReceiver, ReceiverStanding};
use cloakroom_domain::Principal;
use cloakroom_domain::sealer::{SealContext, SealedValue, Sealer};
use cloakroom_domain::webhooks::{Callback, ReceiverKey, Topic, Topics};

/// Texts of a list as they are stored: none of them has a line break.
const SEPARATOR: &str = "\n";

/// A list as it is stored; none where it is empty.
pub(crate) fn joined(texts: &[String]) -> Option<String> {
    (!texts.is_empty()).then(|| texts.join(SEPARATOR))
}

/// A stored list.
pub(crate) fn split(text: Option<&str>) -> Vec<String> {
    text.map(|text| text.split(SEPARATOR).map(str::to_owned).collect()).unwrap_or_default()
}

/// The columns of a receiver.
macro_rules! receiver_columns {
    () => {
        "receiver, kind, principal, url, created_at, changed_at, changed, state, disabled_at, disabled_for, \
         failing_since, complained, id, events, routes, tags, headers, description, format, asks, retired_at, edited, \
         allowed_rate"
    };
}
pub(crate) use receiver_columns;

fn octets_of(row: &impl ReadRow, column: &str) -> Result<Option<Bytes>, LedgerError> {
    Ok(row.octets(column)?.map(Bytes::copy_from_slice))
}

fn principal(row: &impl ReadRow) -> Result<Principal, LedgerError> {
    Ok(Principal::named(octets(row, "principal")?))
}

pub(super) fn receiver_key(row: &impl ReadRow) -> Result<ReceiverKey, LedgerError> {
    number(row, "receiver").map(ReceiverKey)
}

pub(super) fn format(row: &impl ReadRow) -> Result<Format, LedgerError> {
    let name = text(row, "format")?;
    Format::named(name).ok_or_else(|| damaged(format!("unknown format {name}")))
}

/// A subscription.
pub(crate) fn subscription(row: &impl ReadRow) -> Result<Subscription, LedgerError> {
    let id = exactly(row, "id")?.ok_or_else(|| damaged("a subscription without an id"))?;
    Ok(Subscription {
        receiver: receiver_key(row)?,
        id: SubscriptionId::from_bytes(id),
        principal: principal(row)?,
        settings: SubscriptionSettings {
            url: text(row, "url")?.to_owned(),
            topics: Topics::of_bits(number(row, "events")?),
            routes: split(row.text("routes")?),
            tags: split(row.text("tags")?),
            headers: octets_of(row, "headers")?,
            description: maybe_text(row, "description")?,
            format: format(row)?,
        },
        state: state(row)?,
        asks: number::<i64>(row, "asks")? == 1,
        allowed_rate: maybe_number(row, "allowed_rate")?,
        failing_since: maybe_time(row, "failing_since")?,
        created_at: time(row, "created_at")?,
        changed_at: time(row, "changed_at")?,
        changed: number(row, "changed")?,
        edited: number(row, "edited")?,
    })
}

fn state(row: &impl ReadRow) -> Result<SubscriptionState, LedgerError> {
    Ok(match text(row, "state")? {
        "active" => SubscriptionState::Active,
        "unverified" => SubscriptionState::Unverified,
        "disabled" => {
            let why = text(row, "disabled_for")?;
            let why = DisabledFor::named(why);
            let why = why.ok_or_else(|| damaged("disabled for an unknown reason"))?;
            SubscriptionState::Disabled { at: time(row, "disabled_at")?, why }
        }
        other => return Err(damaged(format!("unknown state {other}"))),
    })
}

/// The events that a subscription gets.
pub(super) fn filter(row: &impl ReadRow) -> Result<Filter, LedgerError> {
    Ok(Filter {
        topics: Topics::of_bits(number(row, "events")?),
        routes: split(row.text("routes")?),
        tags: split(row.text("tags")?),
    })
}

/// Whether deliveries to a receiver go out.
pub(super) fn standing(row: &impl ReadRow) -> Result<ReceiverStanding, LedgerError> {
    Ok(match text(row, "state")? {
        "deleted" => ReceiverStanding::Deleted,
        // As good as gone: nothing refers to it.
        "active" if row.number("retired_at")?.is_some() => ReceiverStanding::Deleted,
        "active" => ReceiverStanding::Active,
        _ => ReceiverStanding::Holds,
    })
}

/// What is remembered of a receiver.
pub(crate) fn known(row: &impl ReadRow) -> Result<KnownReceiver, LedgerError> {
    let subscribes = text(row, "kind")? == "subscription";
    Ok(KnownReceiver {
        receiver: receiver_key(row)?,
        changed: number(row, "changed")?,
        principal: principal(row)?,
        filter: subscribes.then(|| filter(row)).transpose()?,
        standing: standing(row)?,
        failing_since: maybe_time(row, "failing_since")?,
        complained: number::<i64>(row, "complained")? == 1,
        format: format(row)?,
        allowed_rate: maybe_number(row, "allowed_rate")?,
    })
}

/// A receiver, without its keys.
pub(crate) fn receiver(row: &impl ReadRow) -> Result<Receiver, LedgerError> {
    Ok(Receiver {
        key: receiver_key(row)?,
        subscription: exactly(row, "id")?.map(SubscriptionId::from_bytes),
        principal: principal(row)?,
        url: text(row, "url")?.to_owned(),
        headers: octets_of(row, "headers")?,
        active: text(row, "state")? == "active",
        changed: number(row, "changed")?,
        keys: Vec::new(),
    })
}

/// A key that messages are signed with.
pub(crate) fn signing_key(row: &impl ReadRow) -> Result<StoredKey, LedgerError> {
    let kind = text(row, "kind")?;
    Ok(StoredKey {
        number: number(row, "key")?,
        kind: KeyKind::named(kind).ok_or_else(|| damaged(format!("unknown kind {kind}")))?,
        sealed: Bytes::copy_from_slice(octets(row, "secret")?),
        made_at: time(row, "made_at")?,
        retires_at: maybe_time(row, "retires_at")?,
    })
}

/// A key whose public half anybody may know.
pub(crate) fn published_key(row: &impl ReadRow) -> Result<PublishedKey, LedgerError> {
    Ok(PublishedKey {
        key: signing_key(row)?,
        principal: principal(row)?,
        subscription: exactly(row, "id")?.map(SubscriptionId::from_bytes),
    })
}

/// Where the callbacks of an operation go.
pub(crate) fn callback(
    row: &impl ReadRow,
    sealer: &Sealer,
) -> Result<Option<Callback>, LedgerError> {
    let Some(receiver) = maybe_number(row, "callback_receiver")? else { return Ok(None) };
    let place = SealContext::of_operation(SealedValue::Callback, id(row, "id")?);
    let url = maybe_sealed(row, "callback_url", place, sealer)?;
    Ok(Some(Callback {
        receiver: ReceiverKey(receiver),
        url: url.ok_or_else(|| damaged("a callback that goes nowhere"))?,
        topics: Topics::of_bits(number(row, "callback_events")?),
    }))
}

/// The columns of a delivery that is handed out.
macro_rules! leased_columns {
    () => {
        "r.changed, v.url, v.deadline_at, coalesce(v.format, r.format) AS format, m.message AS number, m.name, m.event, \
         m.at, m.packing, m.body"
    };
}
pub(crate) use leased_columns;

pub(super) fn topic(row: &impl ReadRow) -> Result<Topic, LedgerError> {
    text(row, "event")?.parse().map_err(damaged)
}

/// The place of a message's body.
pub(super) fn message_place(message: i64) -> SealContext {
    SealContext::in_row(SealedValue::Message, message)
}

/// The place of where a delivery goes.
pub(super) fn url_place(delivery: i64) -> SealContext {
    SealContext::in_row(SealedValue::Delivery, delivery)
}

/// Where a delivery goes, where its receiver does not say that.
pub(super) fn delivery_url(
    row: &impl ReadRow,
    sealer: &Sealer,
) -> Result<Option<String>, LedgerError> {
    maybe_sealed(row, "url", url_place(number(row, "delivery")?), sealer)
}

/// The last token from which a next one is counted up. Where a damaged row has a later one, the next
/// starts from here: a token need only differ from the one before it.
const LAST_TOKEN: i64 = i64::MAX / 2;

/// The token of a delivery that is handed out, from its row in `deliveries_due`.
pub(super) fn next_token(row: &impl ReadRow) -> Result<i64, LedgerError> {
    Ok(number::<i64>(row, "token")?.min(LAST_TOKEN) + 1)
}

/// A delivery that is handed out, as the row says that was in `deliveries_due`.
pub(crate) fn leased_delivery(
    row: &impl ReadRow,
    receiver: ReceiverKey,
    sealer: &Sealer,
) -> Result<LeasedDelivery, LedgerError> {
    let delivery = DeliveryKey(number(row, "delivery")?);
    let body = sealer.opened(message_place(number(row, "number")?), octets(row, "body")?)?;
    Ok(LeasedDelivery {
        lease: DeliveryLease { delivery, token: next_token(row)? },
        receiver,
        receiver_changed: number(row, "changed")?,
        url: delivery_url(row, sealer)?,
        message: text(row, "name")?.into(),
        topic: topic(row)?,
        at: time(row, "at")?,
        body: unpacked(maybe_number(row, "packing")?, &body)?,
        format: format(row)?,
        attempts: number::<u32>(row, "attempts")?
            .checked_add(1)
            .ok_or_else(|| damaged("its attempts cannot be counted any further"))?,
        refusals: number(row, "refusals")?,
        deadline_at: time(row, "deadline_at")?,
    })
}

/// The columns of a delivery that is shown, from whichever table has its state.
macro_rules! deliveries {
    () => {
        "SELECT v.delivery, v.url, v.cause, v.created_at, m.name, m.event, o.id AS operation, d.due_at, s.since, h.held_at, \
         e.state, e.ended_at, coalesce(d.attempts, s.attempts, h.attempts, e.attempts) AS attempts \
         FROM deliveries v JOIN messages m ON m.message = v.message LEFT JOIN operations o ON o.seq = m.seq \
         LEFT JOIN deliveries_due d ON d.delivery = v.delivery LEFT JOIN deliveries_sending s ON s.delivery = v.delivery \
         LEFT JOIN deliveries_held h ON h.delivery = v.delivery LEFT JOIN deliveries_ended e ON e.delivery = v.delivery"
    };
}
pub(crate) use deliveries;

/// A delivery as it stands, without its log.
pub(crate) fn delivery(row: &impl ReadRow, sealer: &Sealer) -> Result<Delivery, LedgerError> {
    let cause = text(row, "cause")?;
    Ok(Delivery {
        key: DeliveryKey(number(row, "delivery")?),
        url: delivery_url(row, sealer)?,
        message: text(row, "name")?.to_owned(),
        topic: topic(row)?,
        operation: maybe_id(row, "operation")?,
        cause: Cause::named(cause).ok_or_else(|| damaged(format!("unknown cause {cause}")))?,
        created_at: time(row, "created_at")?,
        state: delivery_state(row)?,
        attempts: number(row, "attempts")?,
        log: Vec::new(),
    })
}

fn delivery_state(row: &impl ReadRow) -> Result<DeliveryState, LedgerError> {
    if let Some(at) = maybe_time(row, "due_at")? {
        return Ok(DeliveryState::Due { at });
    }
    if let Some(since) = maybe_time(row, "since")? {
        return Ok(DeliveryState::Sending { since });
    }
    if let Some(since) = maybe_time(row, "held_at")? {
        return Ok(DeliveryState::Held { since });
    }
    let how = joined_state(row)?.ok_or_else(|| damaged("a delivery that is nowhere"))?;
    Ok(DeliveryState::Ended { how, at: time(row, "ended_at")? })
}

/// How a delivery ended, from a joined row; none where it has not.
pub(crate) fn joined_state(row: &impl ReadRow) -> Result<Option<DeliveryEnd>, LedgerError> {
    let Some(how) = row.text("state")? else { return Ok(None) };
    DeliveryEnd::named(how).map(Some).ok_or_else(|| damaged(format!("unknown end {how}")))
}

/// One attempt.
pub(crate) fn attempt(row: &impl ReadRow) -> Result<AttemptRecord, LedgerError> {
    Ok(AttemptRecord {
        number: number(row, "number")?,
        at: time(row, "at")?,
        took: Duration::from_micros(number::<u64>(row, "took_us")?),
        status: maybe_number(row, "status")?,
        code: maybe_text(row, "code")?,
        next_at: maybe_time(row, "next_at")?,
    })
}
