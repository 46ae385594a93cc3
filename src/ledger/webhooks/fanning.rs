//! Giving a message to more receivers than fit into the transaction of its event.

use super::announce::{Draft, NewlyDue, make};
use super::rows::{known, receiver_columns, split};
use super::sql::{Given, Runs, locking, one, run};
use super::subscribers::Standing;
use super::verbs::Cause;
use crate::domain::delivery::{ReceiverKey, Topics};
use crate::ledger::error::LedgerError;
use crate::ledger::rows::{Stored, maybe_text, number, octets, time};

/// Receivers that one step looks at.
const AT_A_TIME: i64 = 500;

const NEXT: super::sql::Sql = locking!(
    "SELECT message, principal, event, route, tags, behind, last, due_at FROM fan_outs ORDER BY message LIMIT 1"
);
const RECEIVERS: &str = concat!(
    "SELECT ",
    receiver_columns!(),
    " FROM receivers WHERE principal = $1 AND receiver > $2 AND receiver <= $3 ORDER BY receiver LIMIT $4"
);
const FURTHER: &str = "UPDATE fan_outs SET behind = $1 WHERE message = $2";
const DONE: &str = "DELETE FROM fan_outs WHERE message = $1";

/// One step of the oldest fan-out; none where there is nothing to do.
pub(super) async fn fan_out<W: Runs + ?Sized>(
    writing: &mut W,
) -> Result<Option<NewlyDue>, LedgerError> {
    let Some(row) = one(writing, NEXT, Given::none()).await? else { return Ok(None) };
    let message: i64 = number(&row, "message")?;
    let topics = Topics::of_bits(number(&row, "event")?);
    let route = maybe_text(&row, "route")?.unwrap_or_default();
    let tags = split(row.text("tags")?);
    let at = time(&row, "due_at")?;
    let given = Given::none()
        .octets(octets(&row, "principal")?.to_vec())
        .and(number::<i64>(&row, "behind")?)
        .and(number::<i64>(&row, "last")?)
        .and(AT_A_TIME);
    let rows = writing.rows(RECEIVERS.into(), given).await?;
    let mut drafts = Vec::new();
    let mut behind = None;
    for row in &rows {
        let known = known(row)?;
        behind = Some(known.receiver);
        let takes = |topic| known.filter.as_ref().is_some_and(|f| f.takes(topic, &route, &tags));
        if known.standing != Standing::Deleted && topics.iter().any(takes) {
            let holds = known.standing == Standing::Holds;
            let receiver = known.receiver;
            let cause = Cause::Event;
            let format = known.format;
            let url = None;
            drafts.push(Draft { sent: None, message, receiver, url, holds, format, cause, at });
        }
    }
    let newly = make(writing, drafts, None).await?.newly;
    match behind.filter(|_| rows.len() as i64 == AT_A_TIME) {
        Some(ReceiverKey(behind)) => {
            run(writing, FURTHER, Given::number(behind).and(message)).await?;
        }
        None => run(writing, DONE, Given::number(message)).await?,
    }
    Ok(Some(newly))
}
