//! The end of an operation: its outcome, its result, what is erased, and who goes next.

use crate::commit::effects::Effects;
use crate::db::sqlite::SqliteTransaction;
use crate::db::sqlite::rows::{
    RunState, carried, id, next_of_key, number, time, waited, waiting_row,
};
use crate::db::statements::statements;
use crate::error::LedgerError;
pub(crate) use crate::operations::ends::Finish;
use crate::operations::prune::sqlite as prune;
use crate::operations::serial_keys::sqlite as serial;
use crate::operations::settle::sqlite::{EventRow, READY, ReadyRow};
use cloakroom_domain::operation::{EventKind, OperationBody};
use cloakroom_domain::{OperationId, Timestamp};

statements! {
    const OUTCOMES: &str = r"
        INSERT INTO outcomes (seq, state, finished_at, expires_at, freed_at, attempts,
            resumes, rescues, refusals, contact, last_try, sequence, started_at, percent,
            message, response_status, response_framing, created_location, error_code,
            error_cause, error_status)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

    const RESULTS: &str = r"
        INSERT INTO results (seq, fields, body, body_key, body_length)
        VALUES (?, ?, ?, ?, ?)";

    const EXPIRIES: &str = r"INSERT INTO expiries (due_at, seq, kind) VALUES (?, ?, ?)";
    const CREDENTIALS_GONE: &str = r"DELETE FROM credentials WHERE seq = ?";
    const KEY_RELEASED: &str = r"DELETE FROM serial_keys WHERE digest = ? AND seq = ?";

    const NEXT_OF_KEY: &str = concat!(
        r"SELECT ",
        waiting_row!("w."),
        r", w.delayed_until, o.id, o.due_at AS not_before
        FROM waiting w
        JOIN operations o ON o.seq = w.seq
        WHERE w.seq IN (",
        next_of_key!("?1", "?2"),
        ") ORDER BY coalesce(w.turn_at, o.accepted_at), w.seq LIMIT 1"
    );

    const WAITING_GONE: &str = r"DELETE FROM waiting WHERE seq = ?";
    const KEY_TAKEN: &str = r"INSERT INTO serial_keys (digest, seq) VALUES (?, ?)";
}

/// Writes the ends of these operations down, and lets those go that wait for them.
pub(crate) fn finish(
    writing: &mut SqliteTransaction,
    finished: &[Finish],
    effects: &mut Effects,
) -> Result<(), LedgerError> {
    write(writing, finished)?;
    for finish in finished {
        if finish.freed {
            prune::erase_bodies(writing, finish.seq)?;
            // Its result was never written, so nothing refers to the pieces.
            if let Some(OperationBody::Chunked { key, .. }) =
                finish.answer.as_ref().map(|kept| &kept.body)
            {
                prune::erase_pieces(writing, key.0)?;
            }
        }
        if let Some(digest) = finish.serial {
            if finish.blocks {
                serial::block(writing, finish.seq, finish.at)?;
            } else {
                promote(writing, finish.seq, digest, finish.at, effects)?;
            }
        }
    }
    Ok(())
}

fn write(writing: &mut SqliteTransaction, finished: &[Finish]) -> Result<(), LedgerError> {
    let (writer, retention) = (&mut writing.writer, writing.book.retention);
    let stored = |finish: &Finish| finish.stored(&writing.book.sealer);
    let stored = finished.iter().map(stored).collect::<Result<Vec<_>, _>>()?;
    let ends: Vec<_> = finished.iter().zip(&stored).collect();
    let kept = ends.iter().filter(|(finish, _)| !finish.freed);
    let kept: Vec<_> =
        kept.filter_map(|(finish, stored)| Some((finish.seq, stored.as_ref()?))).collect();
    writer.each(OUTCOMES, &ends, |(finish, stored), values| {
        finish.put(stored.as_ref(), finish.at + retention.result, values);
    })?;
    writer.each(RESULTS, &kept, |(seq, answer), values| {
        answer.body.put(values.put(seq).put(&*answer.fields));
    })?;
    writer.each(EXPIRIES, finished, |finish, values| {
        let (after, kind) = match finish.freed {
            true => (retention.operation, "operation"),
            false => (retention.result, "result"),
        };
        values.put((finish.at + after).as_micros()).put(finish.seq).put(kind);
    })?;
    let unheld: Vec<_> = finished.iter().filter(|finish| finish.frees_key).collect();
    writer.each(prune::KEY_GONE, &unheld, |finish, values| {
        values.put(finish.seq);
    })?;
    writer.each(CREDENTIALS_GONE, finished, |finish, values| {
        values.put(finish.seq);
    })?;
    Ok(())
}

/// Lets the next operation of a serial key go, if the one that ended held it.
pub(crate) fn promote(
    writing: &mut SqliteTransaction,
    ended: i64,
    digest: [u8; 16],
    now: Timestamp,
    effects: &mut Effects,
) -> Result<Option<OperationId>, LedgerError> {
    let released = writing.writer.run(KEY_RELEASED, |values| {
        values.put(digest).put(ended);
    })?;
    if released == 0 {
        return Ok(None);
    }
    go_next(writing, digest, now, effects)
}

/// Gives a serial key that no operation holds to the first one that waits for it.
pub(crate) fn go_next(
    writing: &mut SqliteTransaction,
    digest: [u8; 16],
    now: Timestamp,
    effects: &mut Effects,
) -> Result<Option<OperationId>, LedgerError> {
    let next = writing.writer.one(NEXT_OF_KEY, |values| {
        values.put(digest).put(now.as_micros());
    })?;
    let Some(next) = next else { return Ok(None) };
    let (seq, lane) = (number(&next, "seq")?, number(&next, "lane")?);
    let due_at = time(&next, "not_before")?.max(now);
    let mut carried = RunState::of(&next).unwrap_or_else(|_| RunState::salvaged(&next));
    let told = waited(&next)?.then_some(EventKind::Released);
    carried.sequence += u32::from(told.is_some());
    let event = told.map(|kind| EventRow::plain(seq, carried.sequence, now, kind));
    effects.ready.push((writing.book.lane(lane)?, due_at));
    effects.waiting -= 1;
    effects.unkeyed.push(writing.book.lane(lane)?);
    let released = id(&next, "id")?;
    effects.released.push(released);
    let writer = &mut writing.writer;
    writer.run(WAITING_GONE, |values| {
        values.put(seq);
    })?;
    writer.run(KEY_TAKEN, |values| {
        values.put(digest).put(seq);
    })?;
    let ready = ReadyRow { seq, lane, due_at, carried };
    writer.run(READY, |values| ready.put(values))?;
    writer.events(event.as_slice())?;
    Ok(Some(released))
}
