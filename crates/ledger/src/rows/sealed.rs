//! Values of requests and answers as they are stored.
//!
//! Owns which values are sealed, and the place that each is sealed for. Its invariant: what is put
//! in here is read by the functions beside it alone.

use bytes::Bytes;

use crate::error::LedgerError;
use crate::model::{KeptAnswer, Piece, ProgressReport};
use crate::rows::{BindRow, ReadRow, damaged, id, maybe_number, number, text};
use cloakroom_domain::operation::{
    BodyKey, Continuation, NewOperation, OperationBody, Request, Verdict, Work,
};
use cloakroom_domain::sealer::{SealContext, SealedValue, Sealer};
use cloakroom_domain::{Fields, OperationId};

/// A body as it is stored: its octets, or the name of its pieces.
#[derive(Debug)]
pub(crate) struct StoredBody {
    octets: Option<Bytes>,
    key: Option<i64>,
    length: u64,
}

impl StoredBody {
    fn of(body: &OperationBody, place: SealContext, sealer: &Sealer) -> Result<Self, LedgerError> {
        let (octets, key) = match body {
            OperationBody::Inline(octets) => (Some(sealer.bytes(place, octets)?), None),
            OperationBody::Chunked { key, .. } => (None, Some(key.0)),
        };
        Ok(Self { octets, key, length: body.length() })
    }

    /// Whether its octets in the ledger are as many as it has.
    pub(crate) fn is_as_long_as_stored(&self) -> bool {
        self.octets.as_ref().is_some_and(|octets| octets.len() as u64 == self.length)
    }

    /// Puts its three columns.
    pub(crate) fn put(&self, cells: &mut impl BindRow) {
        cells.octets(self.octets.as_deref().map(<[u8]>::to_vec)).number(self.key);
        cells.number(self.length as i64);
    }
}

/// What is stored of a new operation and not to be read by others.
#[derive(Debug)]
pub(crate) struct StoredWork {
    pub(crate) target: Option<String>,
    pub(crate) upstream_key: Option<String>,
    pub(crate) callback_url: Option<String>,
    pub(crate) fields: Vec<u8>,
    pub(crate) body: StoredBody,
    pub(crate) credentials: Option<Vec<u8>>,
}

impl StoredWork {
    /// Of an operation whose callbacks go to that URL.
    pub(crate) fn of(
        operation: &NewOperation,
        callback_url: Option<&str>,
        sealer: &Sealer,
    ) -> Result<Self, LedgerError> {
        let id = operation.id;
        let text = |what, plain: Option<&str>| {
            plain.map(|plain| sealer.text(SealContext::of_operation(what, id), plain)).transpose()
        };
        let (target, fields, body, credentials) = match &operation.work {
            Work::Call(request) => (
                Some(sealer.target(id, &request.target)?),
                request.fields.encode(),
                &request.body,
                credentials(request, id, sealer)?,
            ),
            Work::Task { arguments, .. } => {
                (None, Vec::new(), &OperationBody::Inline(arguments.clone()), None)
            }
        };
        Ok(Self {
            target,
            upstream_key: text(SealedValue::UpstreamKey, operation.upstream_key.as_deref())?,
            callback_url: text(SealedValue::Callback, callback_url)?,
            fields: sealer.octets(SealContext::of_operation(SealedValue::Fields, id), fields)?,
            body: StoredBody::of(body, SealContext::of_operation(SealedValue::Body, id), sealer)?,
            credentials,
        })
    }
}

fn credentials(
    request: &Request,
    id: OperationId,
    sealer: &Sealer,
) -> Result<Option<Vec<u8>>, LedgerError> {
    if request.credentials.is_empty() {
        return Ok(None);
    }
    let place = SealContext::of_operation(SealedValue::Credentials, id);
    Ok(Some(sealer.octets(place, request.credentials.encode())?))
}

/// An answer as it is stored.
#[derive(Debug)]
pub(crate) struct StoredAnswer {
    pub(crate) fields: Vec<u8>,
    pub(crate) body: StoredBody,
    pub(crate) created_location: Option<String>,
}

impl StoredAnswer {
    /// Of the operation in that row.
    pub(crate) fn of(answer: &KeptAnswer, seq: i64, sealer: &Sealer) -> Result<Self, LedgerError> {
        let place = |what| SealContext::in_row(what, seq);
        let created = answer.created_location.as_deref();
        let created = created.map(|created| sealer.text(place(SealedValue::Created), created));
        Ok(Self {
            fields: sealer.octets(place(SealedValue::AnswerFields), answer.fields.encode())?,
            body: StoredBody::of(&answer.body, place(SealedValue::AnswerBody), sealer)?,
            created_location: created.transpose()?,
        })
    }
}

/// What to go on from as it is stored, of the operation in that row.
pub(crate) fn stored_continuation(
    continuation: &Continuation,
    seq: i64,
    sealer: &Sealer,
) -> Result<Continuation, LedgerError> {
    let state =
        sealer.bytes(SealContext::in_row(SealedValue::Continuation, seq), &continuation.state)?;
    Ok(Continuation { version: continuation.version, state })
}

/// What a waiting row goes on from, as it is stored.
pub(crate) fn kept_continuation(row: &impl ReadRow) -> Result<Option<Continuation>, LedgerError> {
    let state = row.octets("continuation")?.map(<[u8]>::to_vec);
    let version = maybe_number::<u16>(row, "version")?;
    Ok(state.zip(version).map(|(state, version)| Continuation { version, state: state.into() }))
}

/// What a waiting row goes on from.
pub(crate) fn continuation(
    row: &impl ReadRow,
    sealer: &Sealer,
) -> Result<Option<Continuation>, LedgerError> {
    let Some(kept) = kept_continuation(row)? else { return Ok(None) };
    let place = SealContext::in_row(SealedValue::Continuation, number(row, "seq")?);
    Ok(Some(Continuation { state: sealer.opened(place, &kept.state)?.into(), ..kept }))
}

/// The octets of a piece as they are stored.
pub(crate) fn stored_piece(piece: &Piece, sealer: &Sealer) -> Result<Bytes, LedgerError> {
    let place = SealContext::in_part(SealedValue::Piece, piece.body.0, piece.number);
    Ok(sealer.bytes(place, &piece.octets)?)
}

/// The octets of a piece.
pub(crate) fn piece(
    row: &impl ReadRow,
    body: BodyKey,
    part: u32,
    sealer: &Sealer,
) -> Result<Bytes, LedgerError> {
    let place = SealContext::in_part(SealedValue::Piece, body.0, part);
    let stored = crate::rows::octets(row, "octets")?;
    Ok(sealer.opened(place, stored)?.into())
}

/// A stored body: in the row, or where its pieces are.
pub(super) fn body(
    row: &impl ReadRow,
    place: SealContext,
    sealer: &Sealer,
) -> Result<OperationBody, LedgerError> {
    match row.number("body_key")? {
        Some(key) => {
            let length = number::<i64>(row, "body_length")?.unsigned_abs();
            Ok(OperationBody::Chunked { key: BodyKey(key), length })
        }
        None => Ok(OperationBody::Inline(octets(row, "body", place, sealer)?.into())),
    }
}

/// Refuses a body of which the ledger keeps fewer pieces than its length takes: all of them but the
/// last have [`OperationBody::INLINE_LIMIT`] octets.
pub(crate) fn check_pieces(row: &impl ReadRow, body: &OperationBody) -> Result<(), LedgerError> {
    let OperationBody::Chunked { length, .. } = body else { return Ok(()) };
    let (kept, needed) =
        (number::<u64>(row, "pieces")?, length.div_ceil(OperationBody::INLINE_LIMIT as u64));
    if kept >= needed {
        return Ok(());
    }
    Err(crate::rows::damaged(format!(
        "{} of the {needed} pieces of its body are missing",
        needed - kept
    )))
}

/// Octets of a column, none where there are none.
pub(super) fn octets(
    row: &impl ReadRow,
    column: &str,
    place: SealContext,
    sealer: &Sealer,
) -> Result<Vec<u8>, LedgerError> {
    let stored = row.octets(column)?.unwrap_or_default();
    Ok(sealer.opened(place, stored)?)
}

/// The fields in a column.
pub(super) fn fields(
    row: &impl ReadRow,
    column: &str,
    place: SealContext,
    sealer: &Sealer,
) -> Result<Fields, LedgerError> {
    Fields::decode(octets(row, column, place, sealer)?).map_err(damaged)
}

/// The request target of an operation.
pub(super) fn target(row: &impl ReadRow, sealer: &Sealer) -> Result<String, LedgerError> {
    Ok(sealer.opened_target(id(row, "id")?, text(row, "target")?)?)
}

/// The text in a column.
pub(crate) fn maybe_sealed(
    row: &impl ReadRow,
    column: &str,
    place: SealContext,
    sealer: &Sealer,
) -> Result<Option<String>, LedgerError> {
    let text = row.text(column)?.map(|stored| sealer.opened_text(place, stored));
    Ok(text.transpose()?)
}

/// What a report says as it is stored, of the operation in that row.
pub(crate) fn stored_message(
    report: &ProgressReport,
    seq: i64,
    sealer: &Sealer,
) -> Result<Option<String>, LedgerError> {
    let place = SealContext::in_row(SealedValue::Progress, seq);
    let message = report.message.as_deref().map(|message| sealer.text(place, message));
    Ok(message.transpose()?)
}

/// Location and note of a verdict as they are stored, of the operation in that row.
pub(crate) fn stored_verdict(
    verdict: &Verdict,
    seq: i64,
    sealer: &Sealer,
) -> Result<[Option<String>; 2], LedgerError> {
    let place = SealContext::in_row(SealedValue::Verdict, seq);
    let stored =
        |text: &Option<String>| text.as_deref().map(|text| sealer.text(place, text)).transpose();
    Ok([stored(&verdict.location)?, stored(&verdict.note)?])
}
