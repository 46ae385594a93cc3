//! The beats of the one node that has the file, which is the only one to see them.

use crate::cluster::fleet::{Beaten, Vitals};
use crate::cluster::limits::shares::Leaving;
use crate::cluster::limits::sqlite as permits;
use crate::db::sqlite::SqliteTransaction;
use crate::db::sqlite::rows::{damaged, number, owned, put_vitals, sign};
use crate::db::statements::statements;
use crate::error::LedgerError;
use cloakroom_domain::Timestamp;

statements! {
    const BEAT: &str = r"
        UPDATE nodes
        SET name = ?, role = ?, queues = ?, slots = ?, running = ?, fingerprint = ?,
            lease_us = ?, beat_at = ?, beat = beat + 1, ended_at = NULL
        WHERE incarnation = ?
        RETURNING beat";

    const OTHERS: &str = r"
        SELECT n.incarnation, n.beat, n.lease_us, n.ended_at, EXISTS (SELECT 1
            FROM running r WHERE r.node = n.incarnation) AS holds
        FROM nodes n
        WHERE n.incarnation <> ?
            AND (n.ended_at IS NULL OR EXISTS (SELECT 1 FROM running r
                WHERE r.node = n.incarnation))";

    const HELD: &str = r"SELECT seq, token, taken_over, cancel FROM running WHERE node = ?";
    const LEFT: &str = r"UPDATE nodes SET ended_at = ?, running = 0 WHERE incarnation = ?";
}

pub(crate) fn beat(
    writing: &mut SqliteTransaction,
    vitals: &Vitals,
    now: Timestamp,
) -> Result<Beaten, LedgerError> {
    let incarnation = writing.book.incarnation;
    let writer = &mut writing.writer;
    let row = writer.one(BEAT, |values| {
        put_vitals(vitals, values);
        values.put(now.as_micros()).put(incarnation);
    })?;
    let row = row.ok_or_else(|| damaged("this node is not in the ledger"))?;
    let others = writer.all(OTHERS, |values| {
        values.put(incarnation);
    })?;
    let held = writer.all(HELD, |values| {
        values.put(incarnation);
    })?;
    Ok(Beaten {
        beat: number(&row, "beat")?,
        time: None,
        others: others.iter().map(sign).collect::<Result<_, _>>()?,
        held: held.iter().map(owned).collect::<Result<_, _>>()?,
        // Differs from PostgreSQL because no other process counts: each start counts rows.
        elsewhere: Vec::new(),
    })
}

pub(crate) fn leave(
    writing: &mut SqliteTransaction,
    leaving: &Leaving,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let incarnation = writing.book.incarnation;
    permits::keep_emptied(writing, &leaving.emptied)?;
    let left = LEFT;
    writing.writer.run(left, |values| {
        values.put(now.as_micros()).put(incarnation);
    })?;
    writing
        .writer
        .run(permits::LEFT, |values| {
            values.put(incarnation);
        })
        .map(drop)
}
