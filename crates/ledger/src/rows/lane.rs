//! The numbers of lanes.
//!
//! A lane has a row and its number. Its quarantine has no row of its own: its number is
//! the lane's, negative.

use std::time::Duration;

use crate::error::LedgerError;
use crate::model::{Deadline, LanePlace, Overdue};
use crate::rows::{ReadRow, maybe_time, number};
use cloakroom_domain::Timestamp;
use cloakroom_domain::operation::{Counts, Lane};

/// The number of a lane, where `of` knows those that have rows.
pub(crate) fn numbered(lane: &Lane, of: impl FnOnce(&Lane) -> Option<i64>) -> Option<i64> {
    if !lane.quarantine {
        return of(lane);
    }
    of(&Lane { quarantine: false, ..lane.clone() }).map(|number| -number)
}

/// The lane of a number, where `of` knows those that have rows.
pub(crate) fn named(number: i64, of: impl FnOnce(i64) -> Option<Lane>) -> Option<Lane> {
    let lane = of(number.abs())?;
    Some(if number < 0 { lane.quarantined() } else { lane })
}

/// Lanes with their numbers, and the quarantines that go with them.
pub(crate) fn with_quarantines<'a>(
    lanes: impl Iterator<Item = (&'a i64, &'a Lane)>,
) -> Vec<(i64, Lane)> {
    let mut all = Vec::new();
    for (number, lane) in lanes {
        all.push((*number, lane.clone()));
        all.push((-number, lane.quarantined()));
    }
    all
}

/// Where an operation of that lane lies with these counts.
pub(crate) const fn home(number: i64, counts: Counts) -> i64 {
    if counts.is_quarantined() { -number.abs() } else { number }
}

/// How far ahead a look at a lane tells of deadlines: longer than the pause between two looks.
const SOON: Duration = Duration::from_mins(2);

/// What a look at a lane came to, from the rows that it saw in their order, of which those have a
/// `late` above 0 that are past their deadline at `now`.
pub(crate) fn overdue<R: ReadRow>(
    rows: &[R],
    looked_at: usize,
    now: Timestamp,
) -> Result<Overdue, LedgerError> {
    let mut overdue = Overdue::default();
    for row in rows {
        let seq = number(row, "seq")?;
        if number::<i64>(row, "late")? > 0 {
            overdue.seqs.push(seq);
        } else if let Ok(Some(at)) = maybe_time(row, "deadline_at")
            && at <= now + SOON
        {
            overdue.soon.push(Deadline::new(at, seq));
        }
        overdue.next = Some(LanePlace { due_at: number(row, "due_at")?, seq });
    }
    if rows.len() < looked_at {
        overdue.next = None;
    }
    Ok(overdue)
}
