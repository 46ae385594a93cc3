//! Subscriptions and their keys: create, change, disable, delete, rotate.
//!
//! Its invariant: every change of a receiver takes the version's row first, so that changes
//! come one after the other and no node that remembers receivers misses one.

use std::time::Duration;

use async_trait::async_trait;

use crate::commit::transaction::{Transaction, on_either};
use crate::commit::verb::{Grouping, Surroundings, Verb};
use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::rows::{damaged, number};
use crate::webhooks::NewCallbacks;
use crate::webhooks::fan_out::remember;
use crate::webhooks::model::{
    Cause, DisabledFor, KeyOwner, KeyRotation, MessageRenderer, NewKey, NewSubscription,
    RedeliveryOutcome, RotationOutcome, SubscribeOutcome, Subscription, SubscriptionChange,
    SubscriptionId, SubscriptionSettings, SubscriptionState, SubscriptionUpdate, UpdateOutcome,
};
use crate::webhooks::publish::{AT_ONCE, FanOut, NewlyDue, OutgoingMessage, post};
use crate::webhooks::rows::{joined, known, receiver_columns, signing_key, subscription};
use crate::webhooks::sql::{Params, SqlTransaction, one, run};
use crate::webhooks::subscribers::{Recipient, Recipients};
use cloakroom_domain::Timestamp;
use cloakroom_domain::webhooks::{ReceiverKey, Topic, Topics};

statements! {
    const NEXT_VERSION: &str = r"UPDATE webhooks SET version = version + 1 RETURNING version";

    const BASE: &str = r"
        UPDATE webhooks
        SET public_base = $1
        WHERE public_base IS NULL OR public_base <> $2";

    const COUNTED: &str = r"
        SELECT count(*) AS there
        FROM receivers
        WHERE principal = $1 AND kind = 'subscription' AND state <> 'deleted'";

    const MADE: &str = concat!(
        r"
        INSERT INTO receivers (kind, principal, url, created_at, changed_at, changed, state,
            id, events, routes, tags, headers, description, format, asks, edited)
        VALUES ('subscription', $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14,
            $15)
        RETURNING ",
        receiver_columns!()
    );

    const FOUND: &str = concat!(
        r"SELECT ",
        receiver_columns!(),
        r"
        FROM receivers
        WHERE id = $1 AND state <> 'deleted'"
    );

    const SET: &str = concat!(
        r"
        UPDATE receivers
        SET url = $1, events = $2, routes = $3, tags = $4, headers = $5, description = $6,
            format = $7, changed = $8, changed_at = $9, edited = $10
        WHERE receiver = $11
        RETURNING ",
        receiver_columns!()
    );

    const ALLOWED: &str = r"UPDATE receivers SET allowed_rate = $1 WHERE receiver = $2";

    const ENABLED: &str = concat!(
        r"
        UPDATE receivers
        SET state = 'active', disabled_at = NULL, disabled_for = NULL, failing_since = NULL,
            changed = $1, changed_at = $2, edited = $3
        WHERE receiver = $4
        RETURNING ",
        receiver_columns!()
    );

    const DISABLED: &str = concat!(
        r"
        UPDATE receivers
        SET state = 'disabled', disabled_at = $1, disabled_for = $2, complained = 1,
            changed = $3, changed_at = $4, edited = $5
        WHERE receiver = $6 AND state <> 'disabled'
        RETURNING ",
        receiver_columns!()
    );

    const DELETED: &str = concat!(
        r"
        UPDATE receivers
        SET state = 'deleted', disabled_at = NULL, disabled_for = NULL, headers = NULL,
            changed = $1, changed_at = $2
        WHERE receiver = $3
        RETURNING ",
        receiver_columns!()
    );

    const OF_PRINCIPAL: &str = concat!(
        r"SELECT ",
        receiver_columns!(),
        r"
        FROM receivers
        WHERE principal = $1 AND kind = 'subscription' AND state <> 'deleted'
            AND (events & $2) <> 0
        ORDER BY receiver
        LIMIT $3"
    );

    const LAST_RECEIVER: &str = r"SELECT max(receiver) AS last FROM receivers WHERE principal = $1";

    pub(super) const CALLBACKS: &str = r"
        SELECT receiver
        FROM receivers
        WHERE principal = $1 AND url = $2 AND kind = 'callback' AND retired_at IS NULL
            AND changed_at > $3";

    const CALLBACKS_USED: &str = r"
        UPDATE receivers
        SET changed = $1, changed_at = $2, retired_at = NULL
        WHERE principal = $3 AND url = $4 AND kind = 'callback'
        RETURNING receiver";

    const CALLBACKS_MADE: &str = r"
        INSERT INTO receivers (kind, principal, url, created_at, changed_at, changed, state,
            events, format)
        VALUES ('callback', $1, $2, $3, $4, $5, 'active', 0, 'standard')
        RETURNING receiver";

    const KEY: &str = r"
        INSERT INTO signing_keys (receiver, principal, kind, secret, made_at)
        VALUES ($1, $2, $3, $4, $5)";

    const KEYS_OF_RECEIVER: &str = r"
        SELECT key, kind, secret, made_at, retires_at
        FROM signing_keys
        WHERE receiver = $1
        ORDER BY key DESC";

    const KEYS_OF_PRINCIPAL: &str = r"
        SELECT key, kind, secret, made_at, retires_at
        FROM signing_keys
        WHERE principal = $1
        ORDER BY key DESC";

    const RETIRES: &str = r"UPDATE signing_keys SET retires_at = $1 WHERE key = $2";

    const KEY_GONE: &str = r"DELETE FROM signing_keys WHERE key = $1";

    const KEYS_GONE: &str = r"DELETE FROM signing_keys WHERE receiver = $1";

    const TOUCHED: &str = r"UPDATE receivers SET changed = $1, edited = $2 WHERE receiver = $3";

    const CALLBACKS_TOUCHED: &str = r"
        UPDATE receivers
        SET changed = $1
        WHERE principal = $2 AND kind = 'callback'";
}

/// Callbacks that were asked for within this time count as asked for now. A node that remembers
/// their receiver asks again after it, and nothing is retired that was asked for within many
/// times as long.
pub const USED: Duration = Duration::from_hours(24);

/// The number of the next change; no other transaction changes a receiver until this is durable.
pub(super) async fn next_version<W: SqlTransaction + ?Sized>(
    writing: &mut W,
) -> Result<i64, LedgerError> {
    let row = one(writing, NEXT_VERSION, Params::none()).await?;
    number(&row.ok_or_else(|| damaged("receivers have no version"))?, "version")
}

/// Makes a subscription, unless the principal has as many as it may.
pub(crate) struct Subscribe {
    pub(crate) new: NewSubscription,
}

#[async_trait]
impl Verb for Subscribe {
    type Output = SubscribeOutcome;

    fn grouping(&self, _is_shared: bool) -> Grouping {
        Grouping::First
    }

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        _around: &mut Surroundings<'_>,
    ) -> Result<Self::Output, LedgerError> {
        on_either!(transaction, writing => subscribe(&mut **writing, &self.new).await)
    }
}

async fn subscribe<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    new: &NewSubscription,
) -> Result<SubscribeOutcome, LedgerError> {
    let version = next_version(writing).await?;
    let principal = new.principal.as_bytes().to_vec();
    let there = one(writing, COUNTED, Params::none().octets(principal.clone())).await?;
    let there: u32 = there.map_or(Ok(0), |row| number(&row, "there"))?;
    if there >= new.most {
        return Ok(SubscribeOutcome::TooMany);
    }
    let base = Params::none().text(new.public_base.clone()).text(new.public_base.clone());
    run(writing, BASE, base).await?;
    let state = if new.asks { "unverified" } else { "active" };
    let SubscriptionSettings { url, topics, routes, tags, headers, description, format } =
        &new.settings;
    let given = Params::none()
        .octets(principal)
        .text(url.clone())
        .at(new.at)
        .at(new.at)
        .and(version)
        .text(state.to_owned())
        .octets(new.id.as_bytes().to_vec())
        .and(topics.bits())
        .text(joined(routes))
        .text(joined(tags))
        .octets(headers.as_ref().map(|headers| headers.to_vec()))
        .text(description.clone())
        .text(format.as_str().to_owned())
        .and(i64::from(new.asks))
        .and(version);
    let row = one(writing, MADE, given).await?;
    let made = subscription(&row.ok_or_else(|| damaged("no subscription was made"))?)?;
    keep_key(writing, &KeyOwner::Receiver(made.receiver), &new.key, new.at).await?;
    Ok(SubscribeOutcome::New(Box::new(made)))
}

/// Changes, disables, enables or deletes a subscription.
pub(crate) struct ChangeSubscription {
    pub(crate) changing: SubscriptionUpdate,
}

#[async_trait]
impl Verb for ChangeSubscription {
    type Output = UpdateOutcome;

    fn grouping(&self, _is_shared: bool) -> Grouping {
        Grouping::First
    }

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        around: &mut Surroundings<'_>,
    ) -> Result<Self::Output, LedgerError> {
        let (output, newly) = on_either!(transaction, writing => change(&mut **writing, &self.changing, around.renderer).await)?;
        around.effects.due.extend(newly);
        Ok(output)
    }
}

async fn change<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    changing: &SubscriptionUpdate,
    renderer: Option<&dyn MessageRenderer>,
) -> Result<(UpdateOutcome, NewlyDue), LedgerError> {
    let nothing = |changed| Ok((changed, Vec::new()));
    let version = next_version(writing).await?;
    let Some(was) = find(writing, changing.id).await? else {
        return nothing(UpdateOutcome::Unknown);
    };
    if changing.principal.as_ref().is_some_and(|principal| *principal != was.principal) {
        return nothing(UpdateOutcome::Unknown);
    }
    if changing.unless_since.is_some_and(|seen| seen != was.edited) {
        return nothing(UpdateOutcome::Meanwhile);
    }
    let (at, receiver) = (changing.at, was.receiver.0);
    if is_told_otherwise(&was, &changing.change) {
        remember(writing, was.receiver, version, at).await?;
    }
    if let SubscriptionChange::Moved(_, allows) | SubscriptionChange::Agreed(allows) =
        &changing.change
    {
        let rate = allows.per_minute.map(i64::from);
        run(writing, ALLOWED, Params::none().and(rate).and(receiver)).await?;
    }
    let (sql, given) = match &changing.change {
        SubscriptionChange::Settings(settings) | SubscriptionChange::Moved(settings, _) => {
            (SET, settings_given(settings).and(version).at(at).and(version).and(receiver))
        }
        SubscriptionChange::Enable | SubscriptionChange::Agreed(_) => {
            (ENABLED, Params::number(version).at(at).and(version).and(receiver))
        }
        SubscriptionChange::Disable(why) => {
            return disable(writing, was, *why, version, at, renderer).await;
        }
        SubscriptionChange::Delete => {
            run(writing, KEYS_GONE, Params::number(receiver)).await?;
            run(writing, DELETED, Params::number(version).at(at).and(receiver)).await?;
            return nothing(UpdateOutcome::Done(Box::new(was)));
        }
    };
    let row = one(writing, sql, given).await?;
    nothing(UpdateOutcome::Done(Box::new(row.as_ref().map_or(Ok(was), subscription)?)))
}

/// Whether a subscription is told of something else after a change, or in another way. One that
/// is deleted is told nothing any more, whatever happened before.
fn is_told_otherwise(was: &Subscription, change: &SubscriptionChange) -> bool {
    let SubscriptionSettings { topics, routes, tags, format, .. } = &was.settings;
    match change {
        SubscriptionChange::Settings(now) | SubscriptionChange::Moved(now, _) => {
            (topics, routes, tags, format) != (&now.topics, &now.routes, &now.tags, &now.format)
        }
        SubscriptionChange::Enable | SubscriptionChange::Agreed(_) => {
            was.state != SubscriptionState::Active
        }
        // Whatever disables it sees to that.
        SubscriptionChange::Disable(_) | SubscriptionChange::Delete => false,
    }
}

async fn find<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    id: SubscriptionId,
) -> Result<Option<Subscription>, LedgerError> {
    let row = one(writing, FOUND, Params::none().octets(id.as_bytes().to_vec())).await?;
    row.as_ref().map(subscription).transpose()
}

fn settings_given(settings: &SubscriptionSettings) -> Params {
    Params::none()
        .text(settings.url.clone())
        .and(settings.topics.bits())
        .text(joined(&settings.routes))
        .text(joined(&settings.tags))
        .octets(settings.headers.as_ref().map(|headers| headers.to_vec()))
        .text(settings.description.clone())
        .text(settings.format.as_str().to_owned())
}

/// Disables a subscription, and tells those who want to know.
pub(super) async fn disable<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    was: Subscription,
    why: DisabledFor,
    version: i64,
    at: Timestamp,
    renderer: Option<&dyn MessageRenderer>,
) -> Result<(UpdateOutcome, NewlyDue), LedgerError> {
    if was.state == SubscriptionState::Active {
        remember(writing, was.receiver, version, at).await?;
    }
    let given = Params::none().at(at).text(why.as_str().to_owned()).and(version).at(at);
    let row = one(writing, DISABLED, given.and(version).and(was.receiver.0)).await?;
    // It was so before.
    let Some(row) = row else { return Ok((UpdateOutcome::Done(Box::new(was)), Vec::new())) };
    let now = subscription(&row)?;
    let newly = tell(writing, Topic::Disabled, &now, None, at, renderer).await?;
    Ok((UpdateOutcome::Done(Box::new(now)), newly))
}

/// Tells a principal's subscriptions something about one of them, which this transaction has
/// changed: its version is the one that they are found by.
pub(super) async fn tell<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    topic: Topic,
    about: &Subscription,
    delivery: Option<&str>,
    at: Timestamp,
    renderer: Option<&dyn MessageRenderer>,
) -> Result<NewlyDue, LedgerError> {
    let Some(renderer) = renderer else { return Ok(Vec::new()) };
    let bits = Topics::from_iter([topic]).bits();
    let principal = about.principal.as_bytes().to_vec();
    let given = Params::none().octets(principal.clone()).and(bits).and(AT_ONCE as i64 + 1);
    let rows = writing.rows(OF_PRINCIPAL.into(), given).await?;
    let mut matching = Recipients::default();
    for row in rows.iter().take(AT_ONCE) {
        matching.first.push(Recipient::of(&known(row)?));
    }
    if matching.first.is_empty() {
        return Ok(Vec::new());
    }
    if rows.len() > AT_ONCE {
        let row = one(writing, LAST_RECEIVER, Params::none().octets(principal)).await?;
        let last = row.map(|row| number(&row, "last")).transpose()?;
        matching.more_up_to = last.map(ReceiverKey);
    }
    let fan = FanOut {
        principal: about.principal.clone(),
        route: None,
        tags: Vec::new(),
        version: about.changed,
    };
    let outgoing_message = OutgoingMessage {
        about: None,
        topic,
        at,
        message: renderer.about_subscription(topic, about, delivery, at),
        cause: Cause::Event,
        matching,
        callback: None,
        fan: Some(fan),
    };
    post(writing, vec![outgoing_message]).await
}

/// Sends a test event to one subscription.
pub(crate) struct SendPing {
    pub(crate) id: SubscriptionId,
    pub(crate) at: Timestamp,
}

#[async_trait]
impl Verb for SendPing {
    type Output = RedeliveryOutcome;

    fn grouping(&self, _is_shared: bool) -> Grouping {
        Grouping::First
    }

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        around: &mut Surroundings<'_>,
    ) -> Result<Self::Output, LedgerError> {
        let (output, newly) = on_either!(transaction, writing => ping(&mut **writing, self.id, self.at, around.renderer).await)?;
        around.effects.due.extend(newly);
        Ok(output)
    }
}

async fn ping<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    id: SubscriptionId,
    at: Timestamp,
    renderer: Option<&dyn MessageRenderer>,
) -> Result<(RedeliveryOutcome, NewlyDue), LedgerError> {
    let (Some(subscription), Some(renderer)) = (find(writing, id).await?, renderer) else {
        return Ok((RedeliveryOutcome::Unknown, Vec::new()));
    };
    let (receiver, format) = (subscription.receiver, subscription.settings.format);
    let to = Recipient { receiver, holds: false, format };
    let outgoing_message = OutgoingMessage {
        about: None,
        topic: Topic::Ping,
        at,
        message: renderer.about_subscription(Topic::Ping, &subscription, None, at),
        cause: Cause::Ping,
        matching: Recipients { first: vec![to], more_up_to: None },
        callback: None,
        fan: None,
    };
    let (newly, made) = crate::webhooks::publish::post_one(writing, outgoing_message).await?;
    Ok((made.map_or(RedeliveryOutcome::Unknown, RedeliveryOutcome::As), newly))
}

/// The receiver of a principal's callbacks to one origin, made where there is none, or none
/// any more. Its keys are made with the first.
pub(super) async fn callback_receiver<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    new: &NewCallbacks,
) -> Result<ReceiverKey, LedgerError> {
    let NewCallbacks { principal, origin, public_base, keys, at } = new;
    let at = *at;
    let owner = principal.as_bytes().to_vec();
    let given = Params::none().octets(owner.clone()).text(origin.clone());
    if let Some(row) = one(writing, CALLBACKS, given.clone().at(at - USED)).await? {
        return number(&row, "receiver").map(ReceiverKey);
    }
    let version = next_version(writing).await?;
    // It was not asked for lately, or another node made it before the version was ours.
    let used = Params::number(version).at(at).octets(owner.clone()).text(origin.clone());
    if let Some(row) = one(writing, CALLBACKS_USED, used).await? {
        return number(&row, "receiver").map(ReceiverKey);
    }
    let base = Params::none().text(public_base.clone()).text(public_base.clone());
    run(writing, BASE, base).await?;
    let row = one(writing, CALLBACKS_MADE, given.at(at).at(at).and(version)).await?;
    let receiver = number(&row.ok_or_else(|| damaged("no receiver was made"))?, "receiver")?;
    let whose = KeyOwner::Callbacks(principal.clone());
    if keys_of(writing, &whose).await?.is_empty() {
        for key in keys {
            keep_key(writing, &whose, key, at).await?;
        }
    }
    Ok(ReceiverKey(receiver))
}

async fn keep_key<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    owner: &KeyOwner,
    key: &NewKey,
    at: Timestamp,
) -> Result<(), LedgerError> {
    let (receiver, principal) = match owner {
        KeyOwner::Receiver(receiver) => (Some(receiver.0), None),
        KeyOwner::Callbacks(principal) => (None, Some(principal.as_bytes().to_vec())),
    };
    let given = Params::none().and(receiver).octets(principal).text(key.kind.as_str().to_owned());
    run(writing, KEY, given.octets(key.sealed.to_vec()).at(at)).await
}

async fn keys_of<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    owner: &KeyOwner,
) -> Result<Vec<crate::webhooks::model::StoredKey>, LedgerError> {
    let (sql, given) = keys_statement(owner);
    writing.rows(sql.into(), given).await?.iter().map(signing_key).collect()
}

/// The statement that brings the keys of an owner, the newest first.
pub(super) fn keys_statement(owner: &KeyOwner) -> (&'static str, Params) {
    match owner {
        KeyOwner::Receiver(receiver) => (KEYS_OF_RECEIVER, Params::number(receiver.0)),
        KeyOwner::Callbacks(principal) => {
            (KEYS_OF_PRINCIPAL, Params::none().octets(principal.as_bytes().to_vec()))
        }
    }
}

/// Adds keys; the former ones sign no longer than the grace, and none longer than it would have.
pub(crate) struct RotateKeys {
    pub(crate) rotation: KeyRotation,
}

#[async_trait]
impl Verb for RotateKeys {
    type Output = RotationOutcome;

    fn grouping(&self, _is_shared: bool) -> Grouping {
        Grouping::First
    }

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        _around: &mut Surroundings<'_>,
    ) -> Result<Self::Output, LedgerError> {
        on_either!(transaction, writing => rotate(&mut **writing, &self.rotation).await)
    }
}

async fn rotate<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    rotation: &KeyRotation,
) -> Result<RotationOutcome, LedgerError> {
    let version = next_version(writing).await?;
    let KeyRotation { owner, keys, beside, grace, most, at } = rotation;
    let former = keys_of(writing, owner).await?;
    let end = *at + *grace;
    let ends = |old: &crate::webhooks::model::StoredKey| {
        let spared = *beside && keys.iter().all(|key| key.kind != old.kind);
        if spared { old.retires_at } else { Some(old.retires_at.map_or(end, |said| said.min(end))) }
    };
    let (over, live): (Vec<_>, Vec<_>) =
        former.iter().partition(|old| ends(old).is_some_and(|end| end <= *at));
    if live.len() + keys.len() > *most {
        return Ok(RotationOutcome::TooMany);
    }
    for old in over {
        run(writing, KEY_GONE, Params::number(old.number)).await?;
    }
    for old in live {
        if let Some(end) = ends(old).filter(|end| old.retires_at != Some(*end)) {
            run(writing, RETIRES, Params::none().at(end).and(old.number)).await?;
        }
    }
    for key in keys {
        keep_key(writing, owner, key, *at).await?;
    }
    match owner {
        KeyOwner::Receiver(receiver) => {
            let given = Params::number(version).and(version).and(receiver.0);
            run(writing, TOUCHED, given).await?;
        }
        KeyOwner::Callbacks(principal) => {
            let given = Params::number(version).octets(principal.as_bytes().to_vec());
            run(writing, CALLBACKS_TOUCHED, given).await?;
        }
    }
    Ok(RotationOutcome::Done)
}
