//! The verdict of a person on an unknown outcome, on SQLite.

use crate::db::sqlite::SqliteTransaction;
use crate::db::sqlite::rows::{EventRow, ReadRow, number, stored_verdict};
use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::model::Judged;
use cloakroom_domain::OperationId;
use cloakroom_domain::operation::Verdict;

statements! {
    const OUTCOME: &str = r"
        SELECT x.seq, x.sequence, x.attempts, x.error_code
        FROM outcomes x
        JOIN operations o ON o.seq = x.seq
        WHERE o.id = ?";

    const VERDICT: &str = r"
        INSERT OR REPLACE INTO verdicts (seq, at, happened, location, note)
        VALUES (?, ?, ?, ?, ?)";

    const COUNTED: &str = r"UPDATE outcomes SET sequence = ?2 WHERE seq = ?1";
}

pub(crate) fn judge(
    writing: &mut SqliteTransaction,
    id: OperationId,
    verdict: &Verdict,
) -> Result<Judged, LedgerError> {
    let row = writing.writer.one(OUTCOME, |values| {
        values.put(id.as_bytes());
    })?;
    let Some(row) = row else { return Ok(Judged::NotUnknown) };
    if row.text("error_code")? != Some("outcome-unknown") {
        return Ok(Judged::NotUnknown);
    }
    let (seq, sequence): (i64, u32) = (number(&row, "seq")?, number(&row, "sequence")?);
    let [location, note] = stored_verdict(verdict, seq, &writing.book.sealer)?;
    writing.writer.run(VERDICT, |values| {
        values.put(seq).put(verdict.at.as_micros()).put(verdict.happened);
        values.put(location.as_deref()).put(note.as_deref());
    })?;
    writing.writer.run(COUNTED, |values| {
        values.put(seq).put(sequence + 1);
    })?;
    let (attempts, sealer) = (number(&row, "attempts")?, &writing.book.sealer);
    let event = EventRow::reconciled(seq, sequence + 1, attempts, verdict, sealer)?;
    writing.writer.events(&[event])?;
    Ok(Judged::Given)
}
