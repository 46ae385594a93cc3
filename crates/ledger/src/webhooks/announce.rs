//! The announcement of an event to its receivers, in the transaction that the event belongs to.
//!
//! Owns the step from an event to its message and its deliveries. Its invariant: either
//! all of it is durable or nothing, and the same event always makes a message of the same
//! name. Up to [`AT_ONCE`] receivers are given it at once, the others by a fan-out. What
//! this node can send at once is handed out as it is made, and never becomes due.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::heads::DeliveryLane;
use super::index::Index;
use super::packing::Packed;
use super::rows::{joined, known, message_place, receiver_columns, url_place};
use super::sql::{
    IdSequence, OperationSnapshot, Params, PendingEvent, SqlReader, SqlTransaction, Table, one,
    table,
};
use super::subscribers::{Matching, Subscribers};
use super::verbs::{Cause, DeliveryKey, DeliveryLease, Format, LeasedDelivery, Message, Scribe};
use crate::commit::handoff::{Outbox, Space};
use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::rows::{ReadRow, maybe_text, number};
use crate::verbs::Subject;
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

/// What came to be due, for those who send.
pub(crate) type NewlyDue = Vec<(DeliveryLane, Timestamp)>;

/// What an announcement comes to once it is durable.
#[derive(Default)]
pub(crate) struct Announcement {
    pub(crate) newly: NewlyDue,
    pub(crate) handed: Vec<Handed>,
    /// Whether there are receivers that only a fan-out gives it to.
    pub(crate) fans: bool,
}

/// A delivery that was handed out as it was made, and who keeps space for it.
pub(crate) struct Handed {
    pub(crate) space: Box<dyn Space>,
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
    scribe: &dyn Scribe,
    outbox: Option<&dyn Outbox>,
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
    let mut letters = Vec::new();
    for told in told {
        let found = operations.binary_search_by_key(&told.seq, |announced| announced.seq);
        let Some(about) = found.ok().and_then(|place| operations.get(place)) else { continue };
        letters.extend(letter(&index, scribe, about, told));
    }
    if letters.is_empty() {
        return Ok(Announcement::default());
    }
    let fans = letters.iter().any(|letter| letter.fan.is_some());
    let Made { newly, handed, .. } = write(writing, letters, outbox).await?;
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

/// A message and whom it goes to.
pub(super) struct Letter {
    pub(super) about: Option<(i64, u32)>,
    pub(super) topic: Topic,
    pub(super) at: Timestamp,
    pub(super) message: Message,
    pub(super) cause: Cause,
    pub(super) matching: Matching,
    /// Whom it goes to besides, and where.
    pub(super) callback: Option<(ReceiverKey, String)>,
    /// What the others are told by who also want it.
    pub(super) fan: Option<Fan>,
}

/// What a fan-out has to know.
pub(super) struct Fan {
    pub(super) principal: Principal,
    pub(super) route: Option<String>,
    pub(super) tags: Vec<String>,
    /// The version of receivers that those were found by who are told at once.
    pub(super) version: i64,
}

fn letter(
    index: &Index,
    scribe: &dyn Scribe,
    about: &OperationSnapshot,
    told: PendingEvent,
) -> Option<Letter> {
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
    let message = scribe.about_operation(topic, operation, sequence, at, base);
    let fan = matching.more_up_to.map(|_| Fan {
        principal: operation.principal.clone(),
        route: Some(operation.route.clone()),
        tags: operation.tags.clone(),
        version: index.version,
    });
    Some(Letter {
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
    letters: Vec<Letter>,
) -> Result<NewlyDue, LedgerError> {
    if letters.is_empty() {
        return Ok(Vec::new());
    }
    write(writing, letters, None).await.map(|made| made.newly)
}

/// The same for one message to one receiver; says which delivery it became.
pub(super) async fn post_one<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    letter: Letter,
) -> Result<(NewlyDue, Option<DeliveryKey>), LedgerError> {
    let Made { newly, numbers, .. } = write(writing, vec![letter], None).await?;
    Ok((newly, numbers.first().copied()))
}

async fn write<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    letters: Vec<Letter>,
    outbox: Option<&dyn Outbox>,
) -> Result<Made, LedgerError> {
    let numbers = writing.numbers(IdSequence::Messages, letters.len()).await?;
    let (mut messages, mut drafts, mut fan_outs) = (Vec::new(), Vec::new(), Vec::new());
    for (letter, message) in letters.into_iter().zip(numbers) {
        let sent = Arc::new(Sent::of(&letter));
        let draft = |receiver, url, holds, format| Draft {
            sent: Some(Arc::clone(&sent)),
            message,
            receiver,
            url,
            holds,
            format,
            cause: letter.cause,
            at: letter.at,
        };
        let first = letter.matching.first.iter();
        drafts.extend(first.map(|one| draft(one.receiver, None, one.holds, one.format)));
        if let Some((receiver, url)) = letter.callback {
            drafts.push(draft(receiver, Some(url), false, Format::Standard));
        }
        if let (Some(fan), Some(last)) = (letter.fan, letter.matching.more_up_to) {
            let behind = letter.matching.first.last().map_or(0, |one| one.receiver.0);
            let topics: cloakroom_domain::webhooks::Topics = [letter.topic].into_iter().collect();
            fan_outs.push(
                Params::number(message)
                    .octets(fan.principal.as_bytes().to_vec())
                    .and(topics.bits())
                    .text(fan.route)
                    .text(joined(&fan.tags))
                    .and(behind)
                    .and(last.0)
                    .at(letter.at)
                    .and(fan.version),
            );
        }
        let (seq, sequence) = letter.about.unzip();
        let body = Packed::of(&letter.message.body);
        let octets = writing.sealer().octets(message_place(message), body.octets)?;
        messages.push(
            Params::number(message)
                .and(seq)
                .and(sequence.map(i64::from))
                .text(letter.message.name)
                .text(letter.topic.as_str().to_owned())
                .at(letter.at)
                .and(body.how)
                .octets(octets),
        );
    }
    writing.put(&MESSAGES, messages).await?;
    writing.put(&FAN_OUTS, fan_outs).await?;
    make(writing, drafts, outbox).await
}

/// What is sent.
pub(super) struct Sent {
    name: Arc<str>,
    topic: Topic,
    at: Timestamp,
    body: Bytes,
}

impl Sent {
    fn of(letter: &Letter) -> Self {
        let Letter { topic, at, message, .. } = letter;
        Self {
            name: message.name.as_str().into(),
            topic: *topic,
            at: *at,
            body: message.body.clone(),
        }
    }
}

/// A delivery that is to be made.
pub(super) struct Draft {
    /// What is sent, where that is at hand.
    pub(super) sent: Option<Arc<Sent>>,
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

/// What making deliveries came to.
#[derive(Default)]
pub(super) struct Made {
    pub(super) newly: NewlyDue,
    /// Their numbers, in the order of the drafts.
    pub(super) numbers: Vec<DeliveryKey>,
    pub(super) handed: Vec<Handed>,
}

/// The rows of deliveries that are made.
#[derive(Default)]
struct Rows {
    all: Vec<Params>,
    due: Vec<Params>,
    sending: Vec<Params>,
    held: Vec<Params>,
}

/// Makes deliveries of messages that are written. What the outbox has space for is handed
/// out at once.
pub(super) async fn make<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    drafts: Vec<Draft>,
    outbox: Option<&dyn Outbox>,
) -> Result<Made, LedgerError> {
    if drafts.is_empty() {
        return Ok(Made::default());
    }
    let numbers = writing.numbers(IdSequence::Deliveries, drafts.len()).await?;
    let (mut rows, mut made) = (Rows::default(), Made::default());
    let (index, node, sealer) = (writing.subscribers().index(), writing.node(), writing.sealer());
    for (draft, delivery) in drafts.into_iter().zip(numbers) {
        let Draft { message, receiver, holds, format, cause, at, .. } = draft;
        made.numbers.push(DeliveryKey(delivery));
        let url = draft.url.as_deref().map(|url| sealer.text(url_place(delivery), url));
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
        } else if let Some(handed) = outbox.and_then(|to| hand(to, &index, draft, delivery)) {
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
fn hand(outbox: &dyn Outbox, index: &Index, draft: Draft, delivery: i64) -> Option<Handed> {
    let Draft { sent, receiver, url, format, at, .. } = draft;
    let (sent, known) = (sent?, index.known(receiver)?);
    let mut space = outbox.reserve(receiver)?;
    let lease = DeliveryLease { delivery: DeliveryKey(delivery), token: FIRST_TOKEN };
    space.expect(lease);
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
    Some(Handed { space, delivery })
}
