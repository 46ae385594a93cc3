//! The verdict of a person on an unknown outcome, on PostgreSQL.

use crate::db::postgres::arrays::{Values, storable};
use crate::db::postgres::transaction::PgTransaction;
use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::model::Judged;
use crate::rows::{EventRow, ReadRow, number, stored_verdict};
use cloakroom_domain::OperationId;
use cloakroom_domain::operation::Verdict;

statements! {
    /// Differs from SQLite because two people may find out at the same time.
    const OUTCOME: &str = r"
        SELECT x.seq, x.sequence, x.attempts, x.error_code
        FROM outcomes x
        JOIN operations o ON o.seq = x.seq
        WHERE o.id = $1
        FOR UPDATE OF x";

    const GIVEN: &str = r"
        INSERT INTO verdicts (seq, at, happened, location, note)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (seq) DO UPDATE SET at = EXCLUDED.at, happened = EXCLUDED.happened,
            location = EXCLUDED.location, note = EXCLUDED.note";

    const COUNTED: &str = r"UPDATE outcomes SET sequence = $2 WHERE seq = $1";
}

pub(crate) async fn judge(
    writing: &mut PgTransaction,
    id: OperationId,
    verdict: &Verdict,
) -> Result<Judged, LedgerError> {
    let values = Values::default().with(id.as_bytes().to_vec());
    let Some(row) = writing.row(OUTCOME, values).await? else { return Ok(Judged::NotUnknown) };
    if row.text("error_code")? != Some("outcome-unknown") {
        return Ok(Judged::NotUnknown);
    }
    let (seq, sequence): (i64, u32) = (number(&row, "seq")?, number(&row, "sequence")?);
    let [location, note] = stored_verdict(verdict, seq, &writing.book.sealer)?;
    let values = Values::default()
        .with(seq)
        .with(verdict.at.as_micros())
        .with(verdict.happened)
        .with(location.map(storable))
        .with(note.map(storable));
    writing.run(GIVEN, values).await?;
    let values = Values::default().with(seq).with(i64::from(sequence + 1));
    writing.run(COUNTED, values).await?;
    let (attempts, sealer) = (number(&row, "attempts")?, &writing.book.sealer);
    let event = EventRow::reconciled(seq, sequence + 1, attempts, verdict, sealer)?;
    writing.events(&[event]);
    Ok(Judged::Given)
}
