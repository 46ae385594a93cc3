//! `GET|HEAD …/{ticket}`: 202 while pending, 303 when finished.
//!
//! Owns where a finished operation leads, and holding an answer back (`Prefer: wait`).
//! The invariants: a wait watches first and reads then, so that no end is slept through;
//! and no request waits on a gateway that stops, because the client can ask the next one.

use std::time::Duration;

use axum::response::Response;
use http::header::{ETAG, HeaderMap, LOCATION, VARY};
use http::{HeaderValue, StatusCode};

use super::extract::{GONE, NO_OPERATION, OperationPath, ticket};
use super::negotiation::ResponseForm;
use super::openapi::{Description, PENDING_FIELDS, ResponseDoc, Tag, header, text};
use super::{Problem, accepted, live, response};
use cloakroom_domain::http::expectation::monitor_wait;
use cloakroom_domain::http::location::{own_path, public};
use cloakroom_domain::http::prefer::applied_wait;
use cloakroom_domain::operation::Status;

pub(super) async fn show(found: OperationPath, headers: HeaderMap) -> Result<Response, Problem> {
    found.not_gone()?;
    let form = ResponseForm::of(&headers);
    if !found.status().is_final() {
        found.may_be_read()?;
    }
    let wait = monitor_wait(&headers);
    let mut response = match (form, wait) {
        (ResponseForm::Stream, _) => live::stream(&found, &headers),
        (_, Some(wait)) => {
            let found = until_final(found, wait).await?;
            found.not_gone()?;
            let mut response = answer(&found, form)?;
            response::set(response.headers_mut(), response::PREFERENCE_APPLIED, applied_wait(wait));
            response
        }
        (_, None) => answer(&found, form)?,
    };
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    Ok(response)
}

fn answer(found: &OperationPath, form: ResponseForm) -> Result<Response, Problem> {
    if !found.status().is_final() {
        return still_pending(found);
    }
    found.context.api.settings.pace.saw(&found.operation);
    let document = found.document();
    if form == ResponseForm::Document {
        found.may_be_read()?;
        return Ok(response::json(StatusCode::OK, response::DOCUMENT_TYPE, &document));
    }
    let mut response = response::empty(StatusCode::SEE_OTHER);
    let headers = response.headers_mut();
    response::set(headers, LOCATION, destination(found));
    response::set(headers, response::OPERATION_LOCATION, &document.links.status);
    response::set(headers, response::OPERATION_ID, &document.id);
    Ok(response)
}

fn still_pending(found: &OperationPath) -> Result<Response, Problem> {
    // What the operation was when the wait began may be over.
    found.may_be_read()?;
    let etag = found.etag();
    let document = found.document();
    let mut response = if found.context.preconditions.has(&etag) {
        let mut response = response::empty(StatusCode::NOT_MODIFIED);
        accepted::point_to_monitor(response.headers_mut(), &document, found.pointer());
        response
    } else {
        accepted::still(&document, found.pointer())
    };
    response::set(response.headers_mut(), ETAG, etag);
    Ok(response)
}

/// What was created, on the public origin or where the route allows it on another; else
/// the result.
fn destination(found: &OperationPath) -> String {
    let (operation, context) = (&found.operation, &found.context);
    let created = operation.created_location.as_deref();
    let foreign = context.api.settings.foreign_location.get(&operation.route);
    match created.filter(|_| found.status() == Status::Succeeded) {
        Some(place) if own_path(place, &context.base).is_some() => public(place, &context.base),
        Some(url) if foreign == Some(&true) => url.to_owned(),
        _ => context.links(operation.id).result(),
    }
}

/// Waits until the operation has ended, but no longer than `wait`, and not while the
/// gateway drains.
async fn until_final(found: OperationPath, wait: Duration) -> Result<OperationPath, Problem> {
    let api = found.context.api.clone();
    let id = found.operation.id;
    let ended = async {
        let mut watch = api.ledger.watch(id);
        while let Some(operation) = api.ledger.find(id).await?
            && !operation.state.status().is_final()
        {
            watch.changed().await;
        }
        Ok::<_, Problem>(())
    };
    tokio::select! {
        biased;
        ended = api.clock.timeout(wait, ended) => if let Ok(ended) = ended { ended? },
        () = api.tasks.draining() => {}
    }
    found.again().await
}

pub(super) fn description() -> Description {
    const SHOWN: [&str; 2] = ["Vary", "Preference-Applied"];
    let summary = "The monitor: 202 while pending, 303 when finished";
    Description::new(Tag::Operations, "getMonitor", summary)
        .with_head("checkMonitor")
        .at([ticket()])
        .asks([
            header("Prefer", "wait=N: held until it finishes, 45 s at most.", text()),
            header("If-None-Match", "The ETag of an earlier answer.", text()),
            header("Last-Event-ID", "The id of the last live event that was read.", text()),
        ])
        .replies(
            200,
            ResponseDoc::document("The document or live events, where Accept names them.")
                .or_live_events()
                .with(&SHOWN),
        )
        .replies(202, ResponseDoc::pending("Still pending.").with(&["ETag"]).with(&SHOWN))
        .replies(204, ResponseDoc::empty("The terminal event has been read."))
        .replies(
            303,
            ResponseDoc::empty(
                "Finished: Location names the result, or what the upstream created.",
            )
            .with(&["Location", "Operation-Location", "Operation-Id"])
            .with(&SHOWN),
        )
        .replies(
            304,
            ResponseDoc::empty("Still pending, and nothing has changed.")
                .with(&PENDING_FIELDS)
                .with(&["ETag"])
                .with(&SHOWN),
        )
        .conditional()
        .refuses(&[NO_OPERATION, GONE])
}
