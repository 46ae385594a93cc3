//! The fan-out: delivers a message to more receivers than fit into the transaction of its event.
//!
//! Its invariant: a subscription is told, or not, by what it wanted when the event happened,
//! and what comes to one that stood disabled then is held, as for those that were told at once.
//! Each change of a subscription records its former state ([`remember`]) in its own transaction, so
//! that state is read together with the subscription and never before it.

use std::time::Duration;

use async_trait::async_trait;

use crate::commit::transaction::{Transaction, on_either};
use crate::commit::verb::{Grouping, Surroundings, Verb};
use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::rows::{ReadRow, maybe_number, maybe_text, number, octets, text, time};
use crate::webhooks::model::Cause;
use crate::webhooks::publish::{NewDelivery, NewlyDue, make};
use crate::webhooks::rows::{filter, format, receiver_key, split, standing};
use crate::webhooks::sql::{Params, Sql, SqlTransaction, locking, one, run};
use crate::webhooks::subscribers::ReceiverStanding;
use cloakroom_domain::Timestamp;
use cloakroom_domain::webhooks::{ReceiverKey, Topics};

statements! {
    const NEXT: Sql = locking!(
        r"
        SELECT message, principal, event, route, tags, behind, last, due_at, version
        FROM fan_outs
        ORDER BY message
        LIMIT 1"
    );

    /// Each as it stood at a version: before the first change after that, or as it stands.
    const RECEIVERS: &str = r"
        SELECT r.receiver, r.kind, r.state, r.retired_at,
            coalesce(f.state, r.state) AS state_then, coalesce(f.events, r.events) AS events,
            CASE WHEN f.until IS NULL THEN r.routes ELSE f.routes END AS routes,
            CASE WHEN f.until IS NULL THEN r.tags ELSE f.tags END AS tags,
            coalesce(f.format, r.format) AS format
        FROM receivers r
        LEFT JOIN former_receivers f ON f.receiver = r.receiver
            AND f.until = (SELECT min(n.until)
            FROM former_receivers n
            WHERE n.receiver = r.receiver AND n.until > $1)
        WHERE r.principal = $2 AND r.receiver > $3 AND r.receiver <= $4
        ORDER BY r.receiver
        LIMIT $5";

    const FURTHER: &str = r"UPDATE fan_outs SET behind = $1 WHERE message = $2";

    const DONE: &str = r"DELETE FROM fan_outs WHERE message = $1";

    const REMEMBER: &str = r"
        INSERT INTO former_receivers (receiver, until, changed_at, state, events, routes, tags,
            format)
        SELECT receiver, $1, $2, state, events, routes, tags, format
        FROM receivers
        WHERE receiver = $3";

    const FORGET: &str = r"
        DELETE FROM former_receivers
        WHERE until IN (SELECT until
            FROM former_receivers
            WHERE until <= coalesce((SELECT min(version) FROM fan_outs),
                (SELECT version FROM webhooks))
            ORDER BY until
            LIMIT $1) AND changed_at < $2
        RETURNING until";
}

/// Receivers that one step looks at.
const AT_A_TIME: i64 = 500;
/// How long it is remembered at least how a subscription stood before a change: no transaction
/// is under way for so long, and so none comes with a fan-out by an older version.
const REMEMBERED: Duration = Duration::from_hours(1);

/// One step of the oldest fan-out; its output is false where there is none.
pub(crate) struct FanOutOnce;

#[async_trait]
impl Verb for FanOutOnce {
    type Output = bool;

    fn grouping(&self, _is_shared: bool) -> Grouping {
        Grouping::First
    }

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        around: &mut Surroundings<'_>,
    ) -> Result<bool, LedgerError> {
        let stepped = on_either!(transaction, writing => fan_out(&mut **writing).await)?;
        let is_there = stepped.is_some();
        around.effects.due.extend(stepped.unwrap_or_default());
        Ok(is_there)
    }
}

/// One step of the oldest fan-out; none where there is nothing to do.
async fn fan_out<W: SqlTransaction + ?Sized>(
    writing: &mut W,
) -> Result<Option<NewlyDue>, LedgerError> {
    let Some(row) = one(writing, NEXT, Params::none()).await? else { return Ok(None) };
    let message: i64 = number(&row, "message")?;
    let topics = Topics::of_bits(number(&row, "event")?);
    let route = maybe_text(&row, "route")?.unwrap_or_default();
    let tags = split(row.text("tags")?);
    let at = time(&row, "due_at")?;
    let given = Params::none()
        .and(maybe_number::<i64>(&row, "version")?)
        .octets(octets(&row, "principal")?.to_vec())
        .and(number::<i64>(&row, "behind")?)
        .and(number::<i64>(&row, "last")?)
        .and(AT_A_TIME);
    let rows = writing.rows(RECEIVERS.into(), given).await?;
    let mut new_deliveries = Vec::new();
    let mut behind = None;
    for row in &rows {
        let receiver = receiver_key(row)?;
        behind = Some(receiver);
        let Some(holds) = holds(row)? else { continue };
        let filter = filter(row)?;
        if topics.iter().any(|topic| filter.takes(topic, &route, &tags)) {
            let (url, cause, format) = (None, Cause::Event, format(row)?);
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
    }
    let newly = make(writing, new_deliveries, None).await?.newly;
    match behind.filter(|_| rows.len() as i64 == AT_A_TIME) {
        Some(ReceiverKey(behind)) => {
            run(writing, FURTHER, Params::number(behind).and(message)).await?;
        }
        None => run(writing, DONE, Params::number(message)).await?,
    }
    Ok(Some(newly))
}

/// Whether what comes to a subscription is held: it stood so at the event, or does by now.
/// None where nothing comes to it.
fn holds(row: &impl ReadRow) -> Result<Option<bool>, LedgerError> {
    let now = standing(row)?;
    if now == ReceiverStanding::Deleted || text(row, "kind")? != "subscription" {
        return Ok(None);
    }
    Ok(Some(now == ReceiverStanding::Holds || text(row, "state_then")? != "active"))
}

/// Writes down how a subscription stands that is about to be changed.
pub(super) async fn remember<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    receiver: ReceiverKey,
    version: i64,
    at: Timestamp,
) -> Result<(), LedgerError> {
    run(writing, REMEMBER, Params::number(version).at(at).and(receiver.0)).await
}

/// Forgets, of at most so many, how subscriptions stood before changes that no fan-out can be
/// older than. Says how many there were.
pub(super) async fn forget<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    limit: usize,
    now: Timestamp,
) -> Result<usize, LedgerError> {
    let given = Params::number(limit as i64).at(now - REMEMBERED);
    Ok(writing.rows(FORGET.into(), given).await?.len())
}
