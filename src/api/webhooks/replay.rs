//! `POST /webhooks/{id}/replay`: sends the messages of a time range again. Deliveries that wait for
//! their next attempt are sent at once instead. The replay is an operation, which can be watched and
//! canceled like any other.

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use serde_json::{Value, json};

use super::context::{NO_SUBSCRIPTION, SubscriptionPath, WebhookContext, id};
use super::subscription_view::{self, NOT_ACTIVE};
use crate::api::accepted::{AcceptedReply, MonitorPointer, accepted};
use crate::api::json_object::{JsonObject, NO_JSON, TOO_LARGE};
use crate::api::openapi::{Description, ResponseDoc, Tag};
use crate::api::{Document, Problem};
use cloakroom_domain::operation::{
    DeliveryGuarantee, Lane, NewOperation, OnFailure, Policy, RetryPolicy, Work,
};
use cloakroom_domain::{OperationId, Timestamp};
use cloakroom_ledger::{Accepted, DeliverySelection, Subscription};

/// The job's name, and that of its route.
const JOB: &str = "webhooks.replay";
/// Where the gateway's own jobs lie.
const QUEUE: &str = "default";
const UPSTREAM: &str = "cloakroom";
/// How long it may take as a whole, and one attempt at it.
const DEADLINE: Duration = Duration::from_hours(24);
const ATTEMPT: Duration = Duration::from_hours(1);
const ATTEMPTS: u32 = 10;

pub(super) async fn replay(
    path: SubscriptionPath,
    mut members: JsonObject,
) -> Result<Response, Problem> {
    members.only(&["since", "until", "select"])?;
    let SubscriptionPath { context, subscription } = path;
    let arguments = arguments(&mut members, &subscription, context.now())?;
    subscription_view::active(&subscription)?;
    subscription_view::may_be_changed(&context, &subscription)?;
    let operation = operation(&context, &subscription, &arguments);
    let document = Document::accepted(&operation, &context.request.links(operation.id));
    match context.ledger().accept(operation).await? {
        Accepted::QueueFull { depth } => Err(Problem::queue_full(QUEUE, depth, 1)),
        Accepted::StorageFull { stored } => Err(Problem::storage_full(QUEUE, stored, 1)),
        // It claims no key, so it is never taken for another one.
        Accepted::New(_)
        | Accepted::Replayed(_)
        | Accepted::KeyConflict { .. }
        | Accepted::Retried(_) => {
            let pointer = MonitorPointer { retry_after: 1, ..MonitorPointer::default() };
            Ok(accepted(&document, AcceptedReply { pointer, ..AcceptedReply::default() }))
        }
    }
}

fn arguments(
    members: &mut JsonObject,
    subscription: &Subscription,
    now: Timestamp,
) -> Result<Value, Problem> {
    let since = instant(members, "since")?;
    let since = since.ok_or_else(|| wrong("since", "say since when"))?;
    let until = instant(members, "until")?.unwrap_or(now);
    if until <= since {
        return Err(wrong("until", "until has to be later than since"));
    }
    let select = match members.text("select")?.present() {
        None => DeliverySelection::Failed,
        Some(name) => {
            let known = "select is failed, pending, held, delivered or all";
            DeliverySelection::named(&name).ok_or_else(|| wrong("select", known))?
        }
    };
    Ok(json!({
        "subscription": subscription.id.to_string(),
        "since": since.rfc3339(),
        "until": until.rfc3339(),
        "select": select.as_str(),
    }))
}

fn instant(members: &mut JsonObject, name: &str) -> Result<Option<Timestamp>, Problem> {
    let Some(text) = members.text(name)?.present() else { return Ok(None) };
    let instant: jiff::Timestamp =
        text.parse().map_err(|_| wrong(name, "write an instant as in 2026-11-21T08:30:00Z"))?;
    Ok(Some(Timestamp::from_micros(instant.as_microsecond())))
}

fn wrong(member: &str, detail: &str) -> Problem {
    Problem::malformed_body(Some(member), detail)
}

fn operation(
    context: &WebhookContext,
    subscription: &Subscription,
    arguments: &Value,
) -> NewOperation {
    let now = context.now();
    NewOperation {
        id: OperationId::new(now, context.ledger().number(), rand::random()),
        accepted_at: now,
        principal: subscription.principal.clone(),
        route: Arc::from(JOB),
        lane: Lane {
            queue: Arc::from(QUEUE),
            upstream: Arc::from(UPSTREAM),
            express: false,
            quarantine: false,
        },
        work: Work::Task { name: JOB.to_owned(), arguments: arguments.to_string().into() },
        policy: Policy {
            delivery: DeliveryGuarantee::AtLeastOnce,
            timeout: ATTEMPT,
            deadline_at: now + DEADLINE,
            retry: RetryPolicy {
                attempts: ATTEMPTS,
                min: Duration::from_secs(1),
                max: Duration::from_mins(5),
                statuses: None,
            },
            wait: None,
            success: None,
            on_failure: OnFailure::Skip,
            recheck: None,
        },
        due_at: now,
        upstream_key: None,
        idempotency: None,
        serial_key: None,
        parent: None,
        retry_of: None,
        client_reference: None,
        tags: Vec::new(),
        callback: None,
        max_depth: u64::MAX,
        max_stored: u64::MAX,
    }
}

pub(super) fn description() -> Description {
    Description::new(Tag::Webhooks, "replayDeliveries", "Send a range of time once more")
        .at([id()])
        .takes(true, "Replay", schema())
        .replies(202, ResponseDoc::accepted("An operation of its own."))
        .conditional()
        .refuses(&[NO_SUBSCRIPTION, NOT_ACTIVE, TOO_LARGE, NO_JSON])
}

/// A range of time, as a schema.
fn schema() -> Value {
    json!({
        "type": "object", "additionalProperties": false, "required": ["since"],
        "properties": {
            "since": {
                "type": "string", "format": "date-time", "description": "Made at or after.",
            },
            "until": {
                "type": ["string", "null"], "format": "date-time",
                "description": "Made before; now unless set. Later than since.",
            },
            "select": {
                "type": ["string", "null"],
                "enum": ["failed", "pending", "held", "delivered", "all", null],
                "default": "failed",
                "description": "How it stands. What is pending has its next attempt at once; of the \
                                rest a new delivery is made.",
            },
        },
    })
}
