//! One part of a walk: which values are read, and how they are replaced.
//!
//! Its invariant: a value is replaced only while it is what was read.

use crate::db::statements::statements;
#[cfg(test)]
use crate::db::statements::{Backend, Texts};
use crate::error::LedgerError;
use crate::operations::reseal::{ResealCursor, Resealed};
use crate::rows::{ReadRow, exactly, id, number, octets, text};
use crate::webhooks::SubscriptionId;
use crate::webhooks::sql::{Params, SqlTransaction, one};
use cloakroom_domain::sealer::{SealContext, SealedValue, Sealer};
use cloakroom_domain::sealing::SealingError;
use cloakroom_domain::webhooks::secret_storage::{self, SecretOwner};
use cloakroom_domain::{OperationId, Principal};

macro_rules! slot {
    ($table:literal, $column:literal, $what:ident, $by:ident, $more:literal) => {
        Slot {
            what: SealedValue::$what,
            by: By::$by,
            read: concat!(
                r"SELECT t.seq, o.id, t.",
                $column,
                " AS value FROM ",
                $table,
                " t JOIN operations o ON o.seq = t.seq WHERE t.seq > $1 AND t.seq <= $2 AND t.",
                $column,
                " IS NOT NULL",
                $more
            ),
            write: concat!(
                r"UPDATE ",
                $table,
                " SET ",
                $column,
                " = $1 WHERE seq = $2 AND ",
                $column,
                " = $3 RETURNING seq"
            ),
        }
    };
}

statements! {
    /// Columns of octets. Those that are sealed with the key that seals are not read.
    static OCTETS_OF: [Slot; 6] = [
        slot!("requests", "fields", Fields, Id, " AND substr(t.fields, 1, 6) <> $3"),
        slot!("requests", "body", Body, Id, " AND substr(t.body, 1, 6) <> $3"),
        slot!("credentials", "fields", Credentials, Id, " AND substr(t.fields, 1, 6) <> $3"),
        slot!("results", "fields", AnswerFields, Row, " AND substr(t.fields, 1, 6) <> $3"),
        slot!("results", "body", AnswerBody, Row, " AND substr(t.body, 1, 6) <> $3"),
        slot!("waiting", "continuation", Continuation, Row, " AND substr(t.continuation, 1, 6) <> $3"),
    ];

    /// Columns of texts.
    static TEXTS_OF: [Slot; 6] = [
        slot!("operations", "target", Query, Id, ""),
        slot!("operations", "upstream_key", UpstreamKey, Id, ""),
        slot!("operations", "callback_url", Callback, Id, ""),
        slot!("outcomes", "created_location", Created, Row, ""),
        slot!("verdicts", "location", Verdict, Row, ""),
        slot!("verdicts", "note", Verdict, Row, ""),
    ];

    /// What is said of progress moves from table to table with its operation: one statement sees it in
    /// exactly one of them.
    const PROGRESS: &str = r"
        SELECT CAST(0 AS BIGINT) AS place, seq, message AS value
        FROM ready
        WHERE seq > $1 AND seq <= $2 AND message IS NOT NULL
        UNION ALL
        SELECT CAST(1 AS BIGINT), seq, message
        FROM running
        WHERE seq > $1 AND seq <= $2 AND message IS NOT NULL
        UNION ALL
        SELECT CAST(2 AS BIGINT), seq, message
        FROM waiting
        WHERE seq > $1 AND seq <= $2 AND message IS NOT NULL
        UNION ALL
        SELECT CAST(3 AS BIGINT), seq, message
        FROM outcomes
        WHERE seq > $1 AND seq <= $2 AND message IS NOT NULL";

    const PROGRESS_WRITTEN: [&str; 4] = [
        r"UPDATE ready SET message = $1 WHERE seq = $2 AND message = $3 RETURNING seq",
        r"UPDATE running SET message = $1 WHERE seq = $2 AND message = $3 RETURNING seq",
        r"UPDATE waiting SET message = $1 WHERE seq = $2 AND message = $3 RETURNING seq",
        r"UPDATE outcomes SET message = $1 WHERE seq = $2 AND message = $3 RETURNING seq",
    ];

    const EVENTS: &str = r"
        SELECT seq, sequence, message AS value
        FROM events
        WHERE seq > $1 AND seq <= $2 AND message IS NOT NULL";

    const EVENT_WRITTEN: &str = r"
        UPDATE events
        SET message = $1
        WHERE seq = $2 AND sequence = $3 AND message = $4
        RETURNING seq";

    /// The next operations, with the octets of what is in their rows.
    const WINDOW: &str = r"
        SELECT o.seq, CAST(coalesce(q.body_length, 0) + coalesce(x.body_length,
            0) AS BIGINT) AS octets
        FROM operations o
        LEFT JOIN requests q ON q.seq = o.seq AND q.body_key IS NULL
        LEFT JOIN results x ON x.seq = o.seq AND x.body_key IS NULL
        WHERE o.seq > $1
        ORDER BY o.seq
        LIMIT $2";

    const PIECES_READ: &str = r"
        SELECT body, number, CASE WHEN substr(octets, 1, 6) <> $1 THEN octets END AS value
        FROM pieces
        WHERE body > $2 OR (body = $3 AND number > $4)
        ORDER BY body, number
        LIMIT $5";

    const PIECE_WRITTEN: &str = r"UPDATE pieces SET octets = $1 WHERE body = $2 AND number = $3 RETURNING number";

    const MESSAGES_READ: &str = r"
        SELECT message AS number, CASE WHEN substr(body, 1, 6) <> $1 THEN body END AS value
        FROM messages
        WHERE message > $2
        ORDER BY message
        LIMIT $3";

    const MESSAGE_WRITTEN: &str = r"UPDATE messages SET body = $1 WHERE message = $2 RETURNING message";

    const DELIVERIES_READ: &str = r"
        SELECT delivery AS number, url AS value
        FROM deliveries
        WHERE delivery > $1
        ORDER BY delivery
        LIMIT $2";

    const DELIVERY_WRITTEN: &str = r"UPDATE deliveries SET url = $1 WHERE delivery = $2 RETURNING delivery";

    const RECEIVERS_READ: &str = r"
        SELECT receiver AS number, id, headers AS value
        FROM receivers
        WHERE receiver > $1
        ORDER BY receiver
        LIMIT $2";

    /// A change of headers takes place meanwhile or is waited for: the old ones are replaced only.
    const HEADERS_WRITTEN: &str = r"
        UPDATE receivers
        SET headers = $1
        WHERE receiver = $2 AND headers = $3
        RETURNING receiver";

    const KEYS_READ: &str = r"
        SELECT k.key AS number, r.id, k.principal, k.secret AS value
        FROM signing_keys k
        LEFT JOIN receivers r ON r.receiver = k.receiver
        WHERE k.key > $1
        ORDER BY k.key
        LIMIT $2";

    const KEY_WRITTEN: &str = r"UPDATE signing_keys SET secret = $1 WHERE key = $2 AND secret = $3 RETURNING key";
}

/// The most rows that are looked at together, and about how many octets of bodies: the settlement
/// of one of them waits for all of them.
const ROWS: i64 = 64;
const OCTETS: i64 = 2 * 1024 * 1024;
/// The most pieces that are looked at together: each may have 256 KiB.
const PIECES: i64 = 8;

/// Whose place a value of an operation is named by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Id,
    Row,
}

#[cfg(test)]
impl Texts for Slot {
    fn texts(&self, _backend: Backend) -> Vec<String> {
        vec![self.read.to_owned(), self.write.to_owned()]
    }
}

/// A column of values that belong to operations.
struct Slot {
    what: SealedValue,
    by: By,
    read: &'static str,
    write: &'static str,
}

/// One part of a walk.
pub(crate) async fn step<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    cursor: ResealCursor,
) -> Result<Resealed, LedgerError> {
    let Some(prefix) = writing.sealer().current_prefix() else { return Ok(Resealed::default()) };
    let prefix = prefix.to_vec();
    let mut resealed = Resealed::default();
    let last = match cursor {
        ResealCursor::Operations(behind) => {
            operations(writing, behind, &prefix, &mut resealed).await?.map(ResealCursor::Operations)
        }
        ResealCursor::Pieces(body, part) => {
            pieces(writing, (body, part), prefix, &mut resealed).await?
        }
        ResealCursor::Messages(behind) => {
            messages(writing, behind, prefix, &mut resealed).await?.map(ResealCursor::Messages)
        }
        ResealCursor::Deliveries(behind) => {
            deliveries(writing, behind, &mut resealed).await?.map(ResealCursor::Deliveries)
        }
        ResealCursor::Receivers(behind) => {
            receivers(writing, behind, &mut resealed).await?.map(ResealCursor::Receivers)
        }
        ResealCursor::Keys(behind) => {
            keys(writing, behind, &mut resealed).await?.map(ResealCursor::Keys)
        }
    };
    resealed.next = last.or(cursor.next_stage());
    Ok(resealed)
}

/// The next operations with all that belongs to them; the row of the last.
async fn operations<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    behind: i64,
    prefix: &[u8],
    resealed: &mut Resealed,
) -> Result<Option<i64>, LedgerError> {
    let rows = writing.rows(WINDOW.into(), Params::number(behind).and(ROWS)).await?;
    let (mut last, mut sum) = (None, 0);
    for row in &rows {
        last = Some(number(row, "seq")?);
        resealed.looked_at += 1;
        sum += number::<i64>(row, "octets")?;
        if sum > OCTETS {
            break;
        }
    }
    let Some(last) = last else { return Ok(None) };
    let window = || Params::number(behind).and(last);
    for slot in &OCTETS_OF {
        let given = window().octets(prefix.to_vec());
        let rows = writing.rows(slot.read.into(), given).await?;
        for row in &rows {
            let (seq, id, stored) = (number(row, "seq")?, id(row, "id")?, octets(row, "value")?);
            let anew = writing.sealer().resealed(slot.place(seq, id), stored);
            let anew = resealed.note(id, anew);
            if let Some(anew) = anew {
                let given = Params::none().octets(anew).and(seq).octets(stored.to_vec());
                resealed.replaced(one(writing, slot.write, given).await?.is_some());
            }
        }
    }
    for slot in &TEXTS_OF {
        let rows = writing.rows(slot.read.into(), window()).await?;
        for row in &rows {
            let (seq, id, stored) = (number(row, "seq")?, id(row, "id")?, text(row, "value")?);
            let anew = slot.text(writing.sealer(), seq, id, stored);
            let anew = resealed.note(id, anew);
            if let Some(anew) = anew {
                let given = Params::none().text(anew).and(seq).text(stored.to_owned());
                resealed.replaced(one(writing, slot.write, given).await?.is_some());
            }
        }
    }
    progress(writing, window(), resealed).await?;
    Ok(Some(last))
}

impl Slot {
    fn place(&self, seq: i64, id: OperationId) -> SealContext {
        match self.by {
            By::Id => SealContext::of_operation(self.what, id),
            By::Row => SealContext::in_row(self.what, seq),
        }
    }

    fn text(
        &self,
        sealer: &Sealer,
        seq: i64,
        id: OperationId,
        stored: &str,
    ) -> Result<Option<String>, SealingError> {
        match self.what {
            SealedValue::Query => sealer.resealed_target(id, stored),
            _ => sealer.resealed_text(self.place(seq, id), stored),
        }
    }
}

/// What is said of the progress of operations, and in their timelines.
async fn progress<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    window: Params,
    resealed: &mut Resealed,
) -> Result<(), LedgerError> {
    for row in &writing.rows(PROGRESS.into(), window.clone()).await? {
        let (seq, place, stored) =
            (number(row, "seq")?, number::<usize>(row, "place")?, text(row, "value")?);
        let anew =
            writing.sealer().resealed_text(SealContext::in_row(SealedValue::Progress, seq), stored);
        if let (Some(anew), Some(write)) =
            (resealed.note(seq, anew), PROGRESS_WRITTEN.get(place).copied())
        {
            let given = Params::none().text(anew).and(seq).text(stored.to_owned());
            resealed.replaced(one(writing, write, given).await?.is_some());
        }
    }
    for row in &writing.rows(EVENTS.into(), window).await? {
        let (seq, sequence, stored) =
            (number(row, "seq")?, number::<i64>(row, "sequence")?, text(row, "value")?);
        let anew =
            writing.sealer().resealed_text(SealContext::in_row(SealedValue::Progress, seq), stored);
        let anew = resealed.note(seq, anew);
        if let Some(anew) = anew {
            let given = Params::none().text(anew).and(seq).and(sequence).text(stored.to_owned());
            resealed.replaced(one(writing, EVENT_WRITTEN, given).await?.is_some());
        }
    }
    Ok(())
}

async fn pieces<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    behind: (i64, u32),
    prefix: Vec<u8>,
    resealed: &mut Resealed,
) -> Result<Option<ResealCursor>, LedgerError> {
    let (body, part) = behind;
    let given = Params::none().octets(prefix).and(body).and(body).and(i64::from(part)).and(PIECES);
    let mut last = None;
    for row in &writing.rows(PIECES_READ.into(), given).await? {
        let (body, part) = (number(row, "body")?, number::<u32>(row, "number")?);
        last = Some(ResealCursor::Pieces(body, part));
        resealed.looked_at += 1;
        let Some(stored) = row.octets("value")? else { continue };
        let anew =
            writing.sealer().resealed(SealContext::in_part(SealedValue::Piece, body, part), stored);
        let anew = resealed.note(format_args!("piece {part} of body {body}"), anew);
        if let Some(anew) = anew {
            let given = Params::none().octets(anew).and(body).and(i64::from(part));
            resealed.replaced(one(writing, PIECE_WRITTEN, given).await?.is_some());
        }
    }
    Ok(last)
}

async fn messages<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    behind: i64,
    prefix: Vec<u8>,
    resealed: &mut Resealed,
) -> Result<Option<i64>, LedgerError> {
    let given = Params::none().octets(prefix).and(behind).and(ROWS);
    let mut last = None;
    for row in &writing.rows(MESSAGES_READ.into(), given).await? {
        let message = number(row, "number")?;
        last = Some(message);
        resealed.looked_at += 1;
        let Some(stored) = row.octets("value")? else { continue };
        let anew =
            writing.sealer().resealed(SealContext::in_row(SealedValue::Message, message), stored);
        let anew = resealed.note(format_args!("message {message}"), anew);
        if let Some(anew) = anew {
            let given = Params::none().octets(anew).and(message);
            resealed.replaced(one(writing, MESSAGE_WRITTEN, given).await?.is_some());
        }
    }
    Ok(last)
}

async fn deliveries<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    behind: i64,
    resealed: &mut Resealed,
) -> Result<Option<i64>, LedgerError> {
    let mut last = None;
    for row in &writing.rows(DELIVERIES_READ.into(), Params::number(behind).and(ROWS)).await? {
        let delivery = number(row, "number")?;
        last = Some(delivery);
        resealed.looked_at += 1;
        let Some(stored) = row.text("value")? else { continue };
        let anew = writing
            .sealer()
            .resealed_text(SealContext::in_row(SealedValue::Delivery, delivery), stored);
        let anew = resealed.note(format_args!("delivery {delivery}"), anew);
        if let Some(anew) = anew {
            let given = Params::none().text(anew).and(delivery);
            resealed.replaced(one(writing, DELIVERY_WRITTEN, given).await?.is_some());
        }
    }
    Ok(last)
}

async fn receivers<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    behind: i64,
    resealed: &mut Resealed,
) -> Result<Option<i64>, LedgerError> {
    let mut last = None;
    for row in &writing.rows(RECEIVERS_READ.into(), Params::number(behind).and(ROWS)).await? {
        let receiver = number(row, "number")?;
        last = Some(receiver);
        resealed.looked_at += 1;
        let (Some(stored), Some(id)) = (row.octets("value")?, subscription(row)?) else { continue };
        let whose = SecretOwner::Subscription(&id);
        let keyring = writing.sealer().keyring();
        let anew = secret_storage::resealed_fields(keyring, whose, stored, rand::random());
        let anew = resealed.note(format_args!("subscription {id}"), anew);
        if let Some(anew) = anew {
            let given = Params::none().octets(anew).and(receiver).octets(stored.to_vec());
            resealed.replaced(one(writing, HEADERS_WRITTEN, given).await?.is_some());
        }
    }
    Ok(last)
}

fn subscription(row: &impl ReadRow) -> Result<Option<SubscriptionId>, LedgerError> {
    Ok(exactly(row, "id")?.map(SubscriptionId::from_bytes))
}

async fn keys<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    behind: i64,
    resealed: &mut Resealed,
) -> Result<Option<i64>, LedgerError> {
    let mut last = None;
    for row in &writing.rows(KEYS_READ.into(), Params::number(behind).and(ROWS)).await? {
        let key = number(row, "number")?;
        last = Some(key);
        resealed.looked_at += 1;
        let stored = octets(row, "value")?;
        let (id, principal) = (subscription(row)?, row.octets("principal")?.map(Principal::named));
        let whose = match (&id, &principal) {
            (Some(id), _) => SecretOwner::Subscription(id),
            (None, Some(principal)) => SecretOwner::Callbacks(principal),
            (None, None) => continue,
        };
        let keyring = writing.sealer().keyring();
        let anew = secret_storage::resealed_key(keyring, whose, stored, rand::random());
        let anew = resealed.note(format_args!("signing key {key}"), anew);
        if let Some(anew) = anew {
            let given = Params::none().octets(anew).and(key).octets(stored.to_vec());
            resealed.replaced(one(writing, KEY_WRITTEN, given).await?.is_some());
        }
    }
    Ok(last)
}
