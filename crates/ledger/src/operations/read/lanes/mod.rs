//! The contents of lanes, by their rows.

pub(crate) mod postgres;
pub(crate) mod sqlite;

use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::model::{LaneDepth, LanePlace, Overdue};
use crate::rows::number;
use crate::store::{Batch, Store, read_by_backend};
use crate::webhooks::sql::{Params, SqlReader};
use cloakroom_domain::Timestamp;
use cloakroom_domain::operation::Lane;

statements! {
    const COUNT_WAITING: &str = r"SELECT count(*) AS waiting FROM waiting";
}

/// How many operations wait. Counts rows: for the start only.
pub(crate) async fn count_waiting(reader: &impl SqlReader) -> Result<u64, LedgerError> {
    let rows = reader.ask_for_long(COUNT_WAITING.into(), Params::none()).await?;
    rows.first().map_or(Ok(0), |row| number(row, "waiting"))
}

/// Every known lane with how much lies in it. May walk whole lanes: for the start only.
pub(crate) async fn depths(store: &Store) -> Batch<LaneDepth> {
    read_by_backend!(store, depths())
}

/// When the oldest operation of each of these lanes is due.
pub(crate) async fn oldest_due(store: &Store, lanes: &[Lane]) -> Batch<Option<Timestamp>> {
    read_by_backend!(store, oldest_due(lanes))
}

/// What lies in a lane past its deadline, among so many operations from that place on.
pub(crate) async fn overdue(
    store: &Store,
    lane: &Lane,
    from: LanePlace,
    look_at: usize,
    now: Timestamp,
) -> Result<Overdue, LedgerError> {
    read_by_backend!(store, overdue(lane, (from, look_at), now))
}
