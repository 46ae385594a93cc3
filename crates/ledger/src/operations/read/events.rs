//! The timeline of an operation.

use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::page::Listed;
use crate::rows::{self, events, number, time};
use crate::webhooks::sql::{Params, SqlReader, ask_one};
use cloakroom_domain::OperationId;
use cloakroom_domain::operation::Event;

statements! {
    const ACCEPTED_AT: &str = r"SELECT accepted_at FROM operations WHERE id = $1";

    const EVENTS: &str = concat!(
        r"SELECT ",
        events!(),
        r"
        FROM events e
        WHERE e.seq = (SELECT seq FROM operations WHERE id = $1) AND e.sequence > $2
        ORDER BY e.sequence
        LIMIT $3"
    );
}

/// The events behind number `after`, at most `limit`. The acceptance is the first, and has no row.
pub(crate) async fn events(
    reader: &impl SqlReader,
    id: OperationId,
    after: u32,
    limit: u32,
) -> Result<Listed<Event, u32>, LedgerError> {
    let accepted = ask_one(reader, ACCEPTED_AT, Params::id(id)).await?;
    let Some(accepted) = accepted else { return Ok(Listed::none()) };
    let first = Event::accepted(time(&accepted, "accepted_at")?);
    let first = (after < 1 && limit > 0).then_some(first);
    let limit = limit - u32::from(first.is_some());
    let params = Params::id(id).and(i64::from(after)).and(i64::from(limit));
    let rows = reader.ask(EVENTS.into(), params).await?;
    let place = |row: &_| number(row, "sequence");
    let read = |row: &_| rows::event(row, reader.sealer());
    let listed = Listed::of(&rows, limit as usize, place, read)?;
    Ok(match first {
        Some(first) => listed.behind(first, 1),
        None => listed,
    })
}
