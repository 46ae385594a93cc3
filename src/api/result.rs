//! `GET …/result`: the recorded response, with fields that could do harm removed, any number of
//! times.
//!
//! Owns which status a recorded one is told as: a replayed failure must not look like a
//! live one that clients and proxies in between would act on.

use axum::response::Response;
use http::header::{self, HeaderMap, HeaderName};
use http::{HeaderValue, Method, StatusCode};

use super::extract::{GONE, NO_OPERATION, OperationPath, ticket};
use super::openapi::{Description, ResponseDoc, Tag, header as field, text};
use super::range::{BodyRange, wanted};
use super::{Problem, accepted, recorded_response, response};
use cloakroom_domain::http::{hygiene, relocation};
use cloakroom_domain::operation::{ErrorCode, Failure, OperationState, Status};
use cloakroom_ledger::KeptAnswer;

pub(super) async fn show(
    found: OperationPath,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let answered = found.operation.response_status;
    let (id, links) = (found.operation.id, found.context.links(found.operation.id));
    told_now(found, &method, &headers).await.map_err(|problem| {
        let problem = problem
            .with_field(response::OPERATION_ID, id.to_string())
            .with_field(response::OPERATION_LOCATION, links.status());
        // Of a freed result, and of a range that is not there, the status is still known.
        match answered {
            Some(status) if !problem.has_field(&response::UPSTREAM_STATUS) => {
                problem.with_field(response::UPSTREAM_STATUS, status.to_string())
            }
            _ => problem,
        }
    })
}

async fn told_now(
    found: OperationPath,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    found.not_gone()?;
    match &found.operation.state {
        OperationState::Canceled { .. } => Err(Problem::canceled()),
        OperationState::Failed { failure, .. } if failure.code == ErrorCode::ResponseTooLarge => {
            Err(without_answer(&found, failure))
        }
        OperationState::Failed { failure, .. } => match answer_of(&found).await? {
            Some(answer) => replay(&found, answer, method, headers),
            None => Err(without_answer(&found, failure)),
        },
        OperationState::Succeeded { .. } => match answer_of(&found).await? {
            Some(answer) => replay(&found, answer, method, headers),
            // It was freed since it was looked up.
            None => Err(Problem::gone()),
        },
        OperationState::Queued { .. }
        | OperationState::Running { .. }
        | OperationState::Waiting { .. } => {
            found.context.preconditions.allow_reading(None)?;
            Ok(accepted::still(&found.document(), found.pointer()))
        }
    }
}

async fn answer_of(found: &OperationPath) -> Result<Option<KeptAnswer>, Problem> {
    Ok(found.context.api.ledger.answer(found.operation.id).await?)
}

fn without_answer(found: &OperationPath, failure: &Failure) -> Problem {
    let mut failure = failure.clone();
    failure.status = failure.status.or(found.operation.response_status);
    Problem::no_answer(&failure)
}

/// The status that shows a recorded status.
fn told(recorded: u16, succeeded: bool) -> StatusCode {
    match recorded {
        204 => StatusCode::NO_CONTENT,
        200..=299 => StatusCode::OK,
        300..=399 if succeeded => StatusCode::OK,
        // Stock clients and CDNs would sign in anew, retry, or go elsewhere.
        401 | 407 | 408 | 421 | 425 | 429 | 500 | 502 | 503 | 504 => StatusCode::FAILED_DEPENDENCY,
        400..=599 => StatusCode::from_u16(recorded).unwrap_or(StatusCode::FAILED_DEPENDENCY),
        _ => StatusCode::FAILED_DEPENDENCY,
    }
}

fn replay(
    found: &OperationPath,
    answer: KeptAnswer,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let status = told(answer.status, found.status() == Status::Succeeded);
    let length = answer.body.length();
    let etag = format!("\"{}\"", found.operation.id);
    // Only what is given as 200 has ranges and validators.
    let whole = status == StatusCode::OK;
    let preconditions = &found.context.preconditions;
    if status.is_success() {
        preconditions.allow_reading(whole.then_some(&*etag))?;
    }
    let fresh = whole && preconditions.has(&etag);
    let part = if whole && *method == Method::GET {
        wanted(headers, &etag, length)
    } else {
        BodyRange::Whole
    };
    let (status, range) = match part {
        _ if fresh => (StatusCode::NOT_MODIFIED, 0..0),
        BodyRange::Whole => (status, 0..length),
        BodyRange::Some(range) => (StatusCode::PARTIAL_CONTENT, range),
        BodyRange::Beyond => return Err(Problem::range_beyond(length)),
    };
    let mut fields = replayed_fields(found, &answer);
    if whole {
        response::set(&mut fields, header::ETAG, &etag);
        fields.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    }
    if status == StatusCode::PARTIAL_CONTENT {
        let shown = format!("bytes {}-{}/{length}", range.start, range.end - 1);
        response::set(&mut fields, header::CONTENT_RANGE, shown);
    }
    let size = range.end - range.start;
    let bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let range = if bodiless { 0..0 } else { range };
    let mut response =
        Response::new(recorded_response::body(&found.context.api.ledger, answer.body, range));
    *response.status_mut() = status;
    *response.headers_mut() = fields;
    recorded_response::set_length(&mut response, size);
    Ok(response)
}

fn replayed_fields(found: &OperationPath, answer: &KeptAnswer) -> HeaderMap {
    let mut fields = hygiene::for_replay(answer.fields.as_map());
    relocation::show(&mut fields, &found.context.base);
    fields.remove(header::CONTENT_RANGE);
    for (name, value) in hygiene::RESULT_FIELDS {
        fields.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    fields.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    fields.insert(response::GATEWAY_ORIGIN, HeaderValue::from_static("upstream"));
    fields.insert(response::UPSTREAM_STATUS, HeaderValue::from(answer.status));
    let id = found.operation.id;
    response::set(&mut fields, response::OPERATION_ID, id.to_string());
    response::set(&mut fields, response::OPERATION_LOCATION, found.context.links(id).status());
    fields
}

/// The recorded answer and its refusals. A recorded error has its own status, and may share it
/// with a refusal of the gateway's: `Gateway-Origin` and `Upstream-Status` tell them apart.
pub(super) fn description() -> Description {
    let recorded = |says: &str| {
        ResponseDoc::empty(says)
            .with(&["Upstream-Status", "Operation-Id", "Operation-Location"])
            .with(&["X-Content-Type-Options", "Content-Security-Policy"])
    };
    let whole = |says: &str| recorded(says).with(&["ETag", "Accept-Ranges"]);
    Description::new(Tag::Operations, "getResult", "The recorded answer")
        .at([ticket()])
        .asks([
            field("Range", "One range of octets; anything else is ignored.", text()),
            field("If-Range", "The ETag of what the client has in part.", text()),
            field("If-None-Match", "The ETag of what the client has.", text()),
        ])
        .conditional()
        .refuses(&[
            NO_OPERATION,
            (409, "The operation was canceled."),
            GONE,
            (416, "Beyond the end."),
            (424, "No answer of the upstream's, or one that clients would act on."),
        ])
        .each_refusal(|reply| reply.or_anything().with(&["Upstream-Status"]))
        .replies(200, whole("The recorded answer.").or_anything())
        .replies(202, ResponseDoc::pending("Still pending."))
        .replies(204, recorded("The recorded answer has no content."))
        .replies(
            206,
            whole("A range of the recorded answer.").with(&["Content-Range"]).or_anything(),
        )
        .replies(304, whole("The client has it."))
        .replies_in("4XX", recorded("The recorded error.").or_anything())
        .replies_in("5XX", recorded("The recorded error.").or_anything())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_success_is_200_and_204_stays() {
        for (recorded, status) in [(200, 200), (201, 200), (204, 204), (206, 200), (299, 200)] {
            assert_eq!(told(recorded, true), status);
        }
        assert_eq!(told(302, true), 200);
    }

    #[test]
    fn what_others_would_act_on_is_424() {
        for recorded in [401, 407, 408, 421, 425, 429, 500, 502, 503, 504, 302, 304, 101, 700] {
            assert_eq!(told(recorded, false), 424, "{recorded}");
        }
        for recorded in [400, 403, 404, 409, 410, 422, 451, 501, 505, 511] {
            assert_eq!(told(recorded, false), recorded);
        }
    }
}
