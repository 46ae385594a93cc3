//! Who is told of an event, in the transaction that the event belongs to.
//!
//! Owns the step from an event to its message and its deliveries. Its invariant: either
//! all of it is durable or nothing, and the same event always makes a message of the same
//! name. Up to [`AT_ONCE`] receivers are given it at once, the others by a fan-out.

use super::heads::DeliveryLane;
use super::rows::{joined, known, receiver_columns};
use super::sql::{Announced, Given, Numbered, Runs, Table, Told, one, table};
use super::subscribers::{Index, Matching};
use super::verbs::{Cause, DeliveryKey, Message, Scribe};
use crate::domain::delivery::{DEADLINE, ReceiverKey, Topic};
use crate::domain::{Principal, Timestamp};
use crate::ledger::error::LedgerError;
use crate::ledger::rows::{maybe_text, number};
use crate::ledger::verbs::Subject;

/// So many deliveries are made in the transaction of the event itself.
pub(in crate::ledger) const AT_ONCE: usize = 16;

pub(in crate::ledger) static MESSAGES: Table = table!(
    "messages",
    "message, seq, sequence, name, event, at, body",
    "nnnttno",
    "?, ?, ?, ?, ?, ?, ?"
);
pub(in crate::ledger) static DELIVERIES: Table = table!(
    "deliveries",
    "delivery, message, receiver, url, cause, created_at, deadline_at",
    "nnnttnn",
    "?, ?, ?, ?, ?, ?, ?"
);
pub(in crate::ledger) static DUE: Table = table!(
    "deliveries_due",
    "delivery, receiver, again, due_at, attempts, refusals, token",
    "nnnnnnn",
    "?, ?, ?, ?, ?, ?, ?"
);
pub(in crate::ledger) static HELD: Table =
    table!("deliveries_held", "delivery, receiver, held_at, attempts", "nnnn", "?, ?, ?, ?");
pub(in crate::ledger) static FAN_OUTS: Table = table!(
    "fan_outs",
    "message, principal, event, route, tags, behind, last, due_at",
    "nonttnnn",
    "?, ?, ?, ?, ?, ?, ?, ?"
);
const VERSION: &str = "SELECT version, public_base FROM webhooks";
const CHANGED: &str = concat!("SELECT ", receiver_columns!(), " FROM receivers WHERE changed > $1");

/// What came to be due, for those who send.
pub(in crate::ledger) type NewlyDue = Vec<(DeliveryLane, Timestamp)>;

/// Brings what is remembered of receivers up to date.
pub(in crate::ledger) async fn refresh<W: Runs + ?Sized>(
    writing: &mut W,
) -> Result<(), LedgerError> {
    let subscribers = writing.subscribers();
    let known_version = subscribers.index().version;
    if writing.version() == Some(known_version) {
        return Ok(());
    }
    let Some(row) = one(writing, VERSION, Given::none()).await? else { return Ok(()) };
    let (version, base) = (number(&row, "version")?, maybe_text(&row, "public_base")?);
    if version == known_version {
        return Ok(());
    }
    let rows = writing.rows(CHANGED.into(), Given::number(known_version)).await?;
    subscribers.learn(version, base, rows.iter().map(known).collect::<Result<_, _>>()?);
    Ok(())
}

/// Gives what happened in this transaction to those who are to be told.
pub(in crate::ledger) async fn announce<W: Runs + ?Sized>(
    writing: &mut W,
    scribe: &dyn Scribe,
) -> Result<NewlyDue, LedgerError> {
    let mut told = writing.told();
    if told.is_empty() || writing.is_alone() {
        return Ok(Vec::new());
    }
    refresh(writing).await?;
    let index = writing.subscribers().index();
    told.retain(|told| index.wants(told.topic));
    if told.is_empty() {
        return Ok(Vec::new());
    }
    let mut seqs: Vec<_> = told.iter().map(|told| told.seq).collect();
    seqs.sort_unstable();
    seqs.dedup();
    // What happened first has the lower numbers, whatever wrote it first.
    told.sort_by_key(|told| (told.at, told.seq, told.sequence));
    let mut operations = writing.operations(&seqs).await?;
    operations.sort_unstable_by_key(|announced| announced.seq);
    let mut letters = Vec::new();
    for told in told {
        let found = operations.binary_search_by_key(&told.seq, |announced| announced.seq);
        let Some(about) = found.ok().and_then(|place| operations.get(place)) else { continue };
        letters.extend(letter(&index, scribe, about, told));
    }
    post(writing, letters).await
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
}

fn letter(index: &Index, scribe: &dyn Scribe, about: &Announced, told: Told) -> Option<Letter> {
    let Told { seq, sequence, topic, at } = told;
    let operation = &about.operation;
    // The gateway's own jobs are nobody's business.
    if matches!(operation.subject, Subject::Task(_)) {
        return None;
    }
    let callback = about.callback.as_ref().filter(|callback| callback.topics.has(topic));
    let most = AT_ONCE - usize::from(callback.is_some());
    let matching = index.matching(&operation.principal, most, |filter| {
        filter.takes(topic, &operation.route, &operation.tags)
    });
    if matching.first.is_empty() && callback.is_none() {
        return None;
    }
    let base = index.public_base.as_deref();
    let message = scribe.about_operation(topic, operation, sequence, at, base);
    let fan = matching.more_up_to.map(|_| Fan {
        principal: operation.principal.clone(),
        route: Some(operation.route.clone()),
        tags: operation.tags.clone(),
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
pub(super) async fn post<W: Runs + ?Sized>(
    writing: &mut W,
    letters: Vec<Letter>,
) -> Result<NewlyDue, LedgerError> {
    if letters.is_empty() {
        return Ok(Vec::new());
    }
    write(writing, letters).await.map(|(newly, _)| newly)
}

/// The same for one message to one receiver; says which delivery it became.
pub(super) async fn post_one<W: Runs + ?Sized>(
    writing: &mut W,
    letter: Letter,
) -> Result<(NewlyDue, Option<DeliveryKey>), LedgerError> {
    let (newly, made) = write(writing, vec![letter]).await?;
    Ok((newly, made.first().copied()))
}

async fn write<W: Runs + ?Sized>(
    writing: &mut W,
    letters: Vec<Letter>,
) -> Result<(NewlyDue, Vec<DeliveryKey>), LedgerError> {
    let numbers = writing.numbers(Numbered::Messages, letters.len()).await?;
    let (mut messages, mut drafts, mut fan_outs) = (Vec::new(), Vec::new(), Vec::new());
    for (letter, message) in letters.into_iter().zip(numbers) {
        let draft = |receiver, url, holds| Draft {
            message,
            receiver,
            url,
            holds,
            cause: letter.cause,
            at: letter.at,
        };
        let first = letter.matching.first.iter();
        drafts.extend(first.map(|(receiver, holds)| draft(*receiver, None, *holds)));
        if let Some((receiver, url)) = letter.callback {
            drafts.push(draft(receiver, Some(url), false));
        }
        if let (Some(fan), Some(last)) = (letter.fan, letter.matching.more_up_to) {
            let behind = letter.matching.first.last().map_or(0, |(receiver, _)| receiver.0);
            let topics: crate::domain::delivery::Topics = [letter.topic].into_iter().collect();
            fan_outs.push(
                Given::number(message)
                    .octets(fan.principal.as_bytes().to_vec())
                    .and(topics.bits())
                    .text(fan.route)
                    .text(joined(&fan.tags))
                    .and(behind)
                    .and(last.0)
                    .at(letter.at),
            );
        }
        let (seq, sequence) = letter.about.unzip();
        messages.push(
            Given::number(message)
                .and(seq)
                .and(sequence.map(i64::from))
                .text(letter.message.name)
                .text(letter.topic.as_str().to_owned())
                .at(letter.at)
                .octets(letter.message.body.to_vec()),
        );
    }
    writing.put(&MESSAGES, messages).await?;
    writing.put(&FAN_OUTS, fan_outs).await?;
    make(writing, drafts).await
}

/// A delivery that is to be made.
pub(super) struct Draft {
    pub(super) message: i64,
    pub(super) receiver: ReceiverKey,
    pub(super) url: Option<String>,
    /// It is held instead of being sent.
    pub(super) holds: bool,
    pub(super) cause: Cause,
    pub(super) at: Timestamp,
}

/// Makes deliveries of messages that are written; says their numbers, in their order here.
pub(super) async fn make<W: Runs + ?Sized>(
    writing: &mut W,
    drafts: Vec<Draft>,
) -> Result<(NewlyDue, Vec<DeliveryKey>), LedgerError> {
    if drafts.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let numbers = writing.numbers(Numbered::Deliveries, drafts.len()).await?;
    let (mut rows, mut due, mut held) = (Vec::new(), Vec::new(), Vec::new());
    let mut newly = Vec::new();
    for (draft, delivery) in drafts.into_iter().zip(&numbers) {
        let Draft { message, receiver, url, holds, cause, at } = draft;
        rows.push(
            Given::number(*delivery)
                .and(message)
                .and(receiver.0)
                .text(url)
                .text(cause.as_str().to_owned())
                .at(at)
                .at(at + DEADLINE),
        );
        if holds {
            held.push(Given::number(*delivery).and(receiver.0).at(at).and(0));
        } else {
            due.push(Given::number(*delivery).and(receiver.0).and(0).at(at).and(0).and(0).and(0));
            newly.push((DeliveryLane { receiver, again: false }, at));
        }
    }
    writing.put(&DELIVERIES, rows).await?;
    writing.put(&DUE, due).await?;
    writing.put(&HELD, held).await?;
    Ok((newly, numbers.into_iter().map(DeliveryKey).collect()))
}
