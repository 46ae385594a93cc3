//! Every resource and every status that it answers with.

use serde_json::{Map, Value, json};

use super::parts::{content, document, in_path, json_of, optional, problems, response};
use crate::domain::operation::Status;

type Statuses<'a> = &'a [(u16, &'a str)];

const UNKNOWN: (u16, &str) = (404, "No such operation, or somebody else's.");
const GONE: (u16, &str) = (410, "Request and result were freed.");

const PENDING_FIELDS: [&str; 4] = ["Location", "Operation-Location", "Operation-Id", "Retry-After"];

pub(super) fn all() -> Value {
    json!({
        "/{route}": { "parameters": [in_path("route", "A path that a route names.")], "post": submit() },
        "/-/operations": { "get": list() },
        "/-/operations/{ticket}": {
            "parameters": [ticket()],
            "get": monitor("showMonitor"), "head": monitor("headMonitor"), "delete": delete(),
        },
        "/-/operations/{ticket}/status": { "parameters": [ticket()], "get": status() },
        "/-/operations/{ticket}/result": { "parameters": [ticket()], "get": result() },
        "/-/operations/{ticket}/events": { "parameters": [ticket()], "get": events() },
        "/-/operations/{ticket}/cancel": { "parameters": [ticket()], "post": cancel() },
        "/-/operations/{ticket}/tree": { "parameters": [ticket()], "get": tree() },
        "/-/operations/{ticket}/progress/{token}": {
            "parameters": [ticket(), in_path("token", "Serves one attempt.")],
            "post": progress("reportProgress"),
        },
        "/-/operations/{ticket}/retry": { "parameters": [ticket()], "post": retry() },
        "/-/openapi.json": { "get": described() },
    })
}

fn ticket() -> Value {
    in_path("ticket", "The ticket, as it stands in the 202's Location; operators may use the id.")
}

/// An operation with its good responses and its problems.
fn resource(id: &str, summary: &str, good: Vec<(u16, Value)>, bad: Statuses<'_>) -> Value {
    let mut responses: Map<String, Value> = problems(bad);
    for (status, response) in good {
        responses.insert(status.to_string(), response);
    }
    responses.sort_keys();
    json!({ "operationId": id, "summary": summary, "responses": responses })
}

fn with(mut resource: Value, member: &str, value: Value) -> Value {
    resource[member] = value;
    resource
}

/// A 202, with links from its operation id on to the resources.
fn accepted(says: &str) -> Value {
    let to = |id: &str| {
        json!({
            "operationId": id,
            "parameters": { "ticket": "$response.body#/links/monitor" },
            "description": "The ticket is the last segment of this URL.",
        })
    };
    let response = response(says, &PENDING_FIELDS, document());
    let links = json!({
        "monitor": to("showMonitor"), "status": to("showStatus"), "result": to("showResult"),
        "events": to("showEvents"), "cancel": to("cancelOperation"),
    });
    with(response, "links", links)
}

fn submit() -> Value {
    let text = || json!({ "type": "string" });
    let resource = resource(
        "submit",
        "Hand in a request",
        vec![(202, accepted("Durably accepted."))],
        &[
            (413, "The body is too large."),
            (417, "The expectation cannot be met; nothing was stored or sent."),
            (422, "The idempotency key stands for another request."),
            (504, "The time for a synchronous answer is over; the operation goes on."),
        ],
    );
    let mut resource = with(
        resource,
        "parameters",
        json!([
            optional(
                "header",
                "Prefer",
                "respond-async, wait=N, return=minimal (RFC 7240).",
                text()
            ),
            optional("header", "Operation-Expect", "As Expect: 202-accepted, 200-ok, …", text()),
            optional("header", "Idempotency-Key", "1 to 255 visible characters.", text()),
            optional("header", "Operation-Tags", "What it can be found by.", text()),
            optional("header", "Client-Reference", "What the client calls it.", text()),
        ]),
    );
    resource["responses"]["default"] = json!({ "description": "The upstream's own answer, where a synchronous one was asked for." });
    let progress = json!({ "{$request.header.Operation-Progress-Url}": { "post": progress("upstreamProgress") } });
    with(resource, "callbacks", json!({ "progress": progress }))
}

fn monitor(id: &str) -> Value {
    let text = || json!({ "type": "string" });
    let mut pending = accepted("Still pending.");
    for field in ["X-Progress", "ETag"] {
        pending["headers"][field] = json!({ "$ref": format!("#/components/headers/{field}") });
    }
    let mut shown = document();
    shown["text/event-stream"] = json!({ "schema": { "type": "string" } });
    let resource = resource(
        id,
        "The monitor: 202 while pending, 303 when finished",
        vec![
            (200, response("The document or live events, where Accept names them.", &[], shown)),
            (202, pending),
            (204, response("The terminal event has been read.", &[], Value::Null)),
            (
                303,
                response(
                    "Finished.",
                    &["Location", "Operation-Location", "Operation-Id"],
                    Value::Null,
                ),
            ),
            (304, response("Still pending, and nothing has changed.", &["ETag"], Value::Null)),
        ],
        &[UNKNOWN, GONE],
    );
    with(
        resource,
        "parameters",
        json!([
            optional("header", "Prefer", "wait=N: held until it finishes, 50 s at most.", text()),
            optional("header", "If-None-Match", "The ETag of an earlier answer.", text()),
            optional(
                "header",
                "Last-Event-ID",
                "The id of the last live event that was read.",
                text()
            ),
        ]),
    )
}

fn delete() -> Value {
    resource(
        "deleteOperation",
        "Cancel, and free request and result",
        vec![
            (202, accepted("It runs; its upstream connection is being dropped.")),
            (204, response("Freed.", &[], Value::Null)),
        ],
        &[UNKNOWN, GONE],
    )
}

fn status() -> Value {
    let good = vec![(200, response("The document.", &[], document()))];
    resource("showStatus", "The operation document", good, &[UNKNOWN])
}

fn result() -> Value {
    let any = json!({ "*/*": {} });
    let fields = ["Upstream-Status", "Operation-Id", "Operation-Location", "ETag"];
    let mut resource = resource(
        "showResult",
        "The recorded answer",
        vec![
            (200, response("The recorded answer.", &fields, any.clone())),
            (202, accepted("Still pending.")),
            (204, response("The recorded answer has no content.", &fields, Value::Null)),
            (206, response("A range of the recorded answer.", &fields, any.clone())),
            (304, response("The client has it.", &fields, Value::Null)),
            (
                424,
                response(
                    "No answer of the upstream's, or one that clients would act on.",
                    &["Upstream-Status"],
                    any.clone(),
                ),
            ),
        ],
        &[UNKNOWN, (409, "The operation was canceled."), GONE, (416, "Beyond the end.")],
    );
    resource["responses"]["4XX"] = response("The recorded error.", &fields, any.clone());
    resource["responses"]["5XX"] = response("The recorded error.", &fields, any);
    with(
        resource,
        "parameters",
        json!([
            optional("header", "Range", "One range of octets.", json!({ "type": "string" })),
            optional("header", "If-None-Match", "The ETag.", json!({ "type": "string" })),
        ]),
    )
}

fn events() -> Value {
    let mut shown = json_of("Timeline");
    shown["text/event-stream"] = json!({ "schema": { "type": "string" } });
    let resource = resource(
        "showEvents",
        "The timeline, as JSON or live",
        vec![
            (200, response("What happened.", &[], shown)),
            (204, response("The terminal event has been read.", &[], Value::Null)),
        ],
        &[UNKNOWN],
    );
    let number = json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX });
    with(
        resource,
        "parameters",
        json!([
            optional("query", "after", "Only events behind this number.", number),
            optional(
                "header",
                "Last-Event-ID",
                "As after, for live events.",
                json!({ "type": "string" })
            ),
        ]),
    )
}

fn cancel() -> Value {
    resource(
        "cancelOperation",
        "Cancel, and keep the document",
        vec![
            (200, response("Canceled.", &[], document())),
            (202, accepted("It runs; its upstream connection is being dropped.")),
        ],
        &[UNKNOWN, (409, "It had already succeeded or failed."), GONE],
    )
}

fn tree() -> Value {
    let good = vec![(200, response("The operation and those below it.", &[], json_of("Tree")))];
    resource("showTree", "What an operation gave rise to", good, &[UNKNOWN])
}

fn progress(id: &str) -> Value {
    let good = vec![(204, response("Taken; at most one a second is kept.", &[], Value::Null))];
    let bad = [
        (404, "The token was not made for this operation."),
        (409, "The attempt is over."),
        (413, "The report is too large."),
    ];
    let resource = resource(id, "Report progress", good, &bad);
    let body = json!({ "required": true, "content": content("application/json", "Progress") });
    with(with(resource, "requestBody", body), "security", json!([]))
}

fn retry() -> Value {
    resource(
        "retryOperation",
        "Repeat a finished operation; on the admin listener only",
        vec![(202, accepted("The successor is accepted."))],
        &[UNKNOWN, (409, "It has not ended."), GONE],
    )
}

fn list() -> Value {
    let text = || json!({ "type": "string" });
    let instant = || json!({ "type": "string", "format": "date-time" });
    let statuses: Vec<&str> = Status::ALL.iter().map(|status| status.as_str()).collect();
    let limit = json!({ "type": "integer", "minimum": 1, "maximum": 200, "default": 50 });
    let resource = resource(
        "listOperations",
        "List and search one's own operations",
        vec![(200, response("A page, newest first.", &[], json_of("List")))],
        &[(404, "Not offered here: nothing tells callers apart.")],
    );
    with(
        resource,
        "parameters",
        json!([
            optional(
                "query",
                "status",
                "In this state.",
                json!({ "type": "string", "enum": statuses })
            ),
            optional("query", "route", "Of this route.", text()),
            optional("query", "queue", "In this queue.", text()),
            optional("query", "tag", "With this tag.", text()),
            optional("query", "since", "Accepted at or after.", instant()),
            optional("query", "until", "Accepted before.", instant()),
            optional(
                "query",
                "before",
                "Older than the operation with this id.",
                json!({ "type": "string", "format": "uuid" })
            ),
            optional("query", "limit", "How many at most.", limit),
        ]),
    )
}

fn described() -> Value {
    let shown = json!({ "application/json": { "schema": { "type": "object" } } });
    let good = vec![(200, response("This description.", &[], shown))];
    resource("showDescription", "This interface", good, &[])
}
