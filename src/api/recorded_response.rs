//! Recorded responses of upstreams: given to a client at once, for a synchronous request, or
//! later as the result.
//!
//! Owns what becomes of the recorded fields, and the streaming of recorded bodies: never
//! more than one piece of a large one is in memory. It must not know who asks.

use std::ops::Range;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, StatusCode};

use super::response;
use cloakroom_domain::http::links::Links;
use cloakroom_domain::http::{hygiene, relocation};
use cloakroom_domain::operation::OperationBody as Kept;
use cloakroom_domain::{OperationId, operation};
use cloakroom_ledger::{KeptAnswer, Ledger, LedgerError};

/// The parts of a synchronous request that its passed-on answer needs.
#[derive(Clone, Copy, Debug)]
pub struct PassThroughContext<'a> {
    /// The operation.
    pub id: OperationId,
    /// Its links.
    pub links: &'a Links,
    /// The public origin.
    pub base: &'a str,
    /// The value of `Preference-Applied`.
    pub applied: Option<&'a str>,
    /// Whether the request was a HEAD: its answer tells the length that a GET's would have.
    pub is_head: bool,
}

/// The upstream's real answer: its status, its end-to-end fields, its body.
pub fn passed_on(ledger: &Ledger, answer: KeptAnswer, passage: PassThroughContext<'_>) -> Response {
    let mut headers = answer.fields.into_map();
    hygiene::operation_fields_from_upstream(&mut headers);
    relocation::show(&mut headers, passage.base);
    headers.insert(response::GATEWAY_ORIGIN, HeaderValue::from_static("upstream"));
    response::set(&mut headers, response::OPERATION_ID, passage.id.to_string());
    response::set(&mut headers, response::OPERATION_LOCATION, passage.links.status());
    // Beside what the upstream says that it has honoured of the others.
    if let Some(applied) = passage.applied.and_then(|applied| HeaderValue::from_str(applied).ok()) {
        headers.append(response::PREFERENCE_APPLIED, applied);
    }
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let length = answer.body.length();
    let mut response = Response::new(body(ledger, answer.body, 0..length));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    if !passage.is_head || is_bodiless(status) {
        set_length(&mut response, length);
    }
    response
}

/// Whether an answer of this status has neither a body nor a length.
fn is_bodiless(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// States a body's length, where an answer of that status has one.
pub fn set_length(response: &mut Response, length: u64) {
    if is_bodiless(response.status()) {
        response.headers_mut().remove(CONTENT_LENGTH);
    } else {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

/// A range of a recorded body's octets, streamed from its pieces where it is large.
pub fn body(ledger: &Ledger, kept: Kept, range: Range<u64>) -> Body {
    match kept {
        Kept::Inline(octets) => {
            let (start, end) = (range.start as usize, range.end as usize);
            let within = start <= end && end <= octets.len();
            Body::from(if within { octets.slice(start..end) } else { Bytes::new() })
        }
        Kept::Chunked { key, .. } => {
            let ledger = ledger.clone();
            Body::from_stream(stream::try_unfold(range, move |rest| {
                let ledger = ledger.clone();
                async move { next_part(&ledger, key, rest).await }
            }))
        }
    }
}

/// The first part of what is left, and what is left after it.
async fn next_part(
    ledger: &Ledger,
    key: operation::BodyKey,
    rest: Range<u64>,
) -> Result<Option<(Bytes, Range<u64>)>, LedgerError> {
    const PIECE: u64 = Kept::INLINE_LIMIT as u64;
    if rest.is_empty() {
        return Ok(None);
    }
    let (number, skip) = (rest.start / PIECE, rest.start % PIECE);
    let piece = ledger.piece(key, number as u32).await?;
    let end = (rest.end - number * PIECE).min(PIECE);
    match piece {
        // Every piece but the last is whole, so a short one would shift all that follow.
        Some(octets) if octets.len() as u64 >= end => {
            let part = octets.slice(skip as usize..end as usize);
            Ok(Some((part, number * PIECE + end..rest.end)))
        }
        _ => Err(LedgerError::Damaged(format!("piece {number} of a body is missing or short"))),
    }
}
