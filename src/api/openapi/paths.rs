//! The paths of the `OpenAPI` document: every resource with its statuses.

use serde_json::{Map, Value, json};

use super::parts::{content, document, in_path, json_of, optional, problems, response};
use super::webhooks;
use cloakroom_domain::operation::Status;

type Statuses<'a> = &'a [(u16, &'a str)];

const UNKNOWN: (u16, &str) = (404, "No such operation, or it belongs to another principal.");
const GONE: (u16, &str) = (410, "Request and result were freed.");

/// The name of a serial key.
const SERIAL: &str = "^[0-9a-f]{32}$";

/// A ticket, an id or a token.
const NAME: &str = "^[0-9A-Za-z-]+$";

const PENDING_FIELDS: [&str; 4] = ["Location", "Operation-Location", "Operation-Id", "Retry-After"];

pub(super) fn all() -> Value {
    json!({
        "/{route}": { "parameters": [route()], "post": submit() },
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
        "/-/operations/{ticket}/deliveries": {
            "parameters": [ticket()], "get": webhooks::callback_deliveries(),
        },
        "/-/operations/{ticket}/progress/{token}": {
            "parameters": [ticket(), in_path("token", "Serves one attempt.", NAME)],
            "post": progress("reportProgress"),
        },
        "/-/operations/{ticket}/retry": { "parameters": [ticket()], "post": retry() },
        "/-/queues": { "get": queues() },
        "/-/queues/{queue}/pause": { "parameters": [queue()], "post": pause() },
        "/-/queues/{queue}/resume": { "parameters": [queue()], "post": resume() },
        "/-/nodes": { "get": nodes() },
        "/-/operations/{ticket}/verdict": { "parameters": [ticket()], "post": verdict() },
        "/-/reconcile": { "post": reconcile() },
        "/-/secrets/reseal": { "post": reseal() },
        "/-/serial": { "get": serial_keys() },
        "/-/serial/{name}/release": {
            "parameters": [in_path("name", "A serial key's name, as the list has it.", SERIAL)],
            "post": release(),
        },
        "/-/openapi.json": { "get": described() },
    })
}

fn ticket() -> Value {
    let says = "The ticket, as it stands in the 202's Location; operators may use the id.";
    in_path("ticket", says, NAME)
}

fn queue() -> Value {
    in_path("queue", "The queue's name.", NAME)
}

const NO_QUEUE: (u16, &str) = (404, "There is no such queue, or this is the public listener.");

/// One segment; what servers disagree on, and dots that lead elsewhere, are refused.
fn route() -> Value {
    let says = "A path that a route names, without its first slash. It may have several \
                segments, which this notation cannot say; any method that a route names may \
                stand in for POST.";
    in_path("route", says, r"^(?!\.{1,2}$|-$)[^/\\\u0000]+$")
}

/// An operation with its good responses and its problems.
pub(super) fn resource(
    id: &str,
    summary: &str,
    good: Vec<(u16, Value)>,
    bad: Statuses<'_>,
) -> Value {
    let mut responses: Map<String, Value> = problems(bad);
    for (status, response) in good {
        responses.insert(status.to_string(), response);
    }
    responses.sort_keys();
    json!({ "operationId": id, "summary": summary, "responses": responses })
}

pub(super) fn with(mut resource: Value, member: &str, value: Value) -> Value {
    resource[member] = value;
    resource
}

/// Where the links of an answer find the ticket.
#[derive(Clone, Copy)]
enum TicketIn {
    /// In the request's path, where it was asked with.
    Path,
    /// At the end of `Location`. OpenAPI's runtime expressions take whole values only; what
    /// stands behind `#` is a notation of schemathesis, which other readers may not know:
    /// they are told by the description.
    Location,
}

/// A response with links to the resources of its operation.
fn linked(response: Value, ticket: TicketIn) -> Value {
    let (expression, says) = match ticket {
        TicketIn::Path => ("$request.path.ticket", "With the same ticket."),
        TicketIn::Location => (
            r"$response.header.Location#regex:/operations/([^/?#]+)$",
            "The ticket is the last segment of Location.",
        ),
    };
    let to = |id: &str| json!({ "operationId": id, "parameters": { "ticket": expression }, "description": says });
    let links = json!({
        "monitor": to("showMonitor"), "status": to("showStatus"), "result": to("showResult"),
        "events": to("showEvents"), "tree": to("showTree"), "cancel": to("cancelOperation"),
        "delete": to("deleteOperation"),
    });
    with(response, "links", links)
}

/// The 202 of a new operation.
pub(super) fn accepted(says: &str) -> Value {
    let fields = [&PENDING_FIELDS[..], &["Content-Location", "Preference-Applied"]].concat();
    linked(response(says, &fields, document()), TicketIn::Location)
}

/// The 202 of one that is still pending.
fn pending(says: &str, further: &[&str]) -> Value {
    let fields = [&PENDING_FIELDS[..], &["X-Progress"], further].concat();
    linked(response(says, &fields, document()), TicketIn::Path)
}

fn submit() -> Value {
    let mut taken = accepted("Durably accepted.");
    taken["headers"]["Idempotency-Replayed"] =
        json!({ "$ref": "#/components/headers/Idempotency-Replayed" });
    let mut resource = resource(
        "submit",
        "Hand in a request",
        vec![(202, taken)],
        &[
            (409, "A synchronous one was canceled."),
            (410, "The key's operation was freed; a synchronous answer is not there any more."),
            (413, "The body is too large."),
            (417, "The expectation cannot be met; nothing was stored or sent."),
            (422, "The idempotency key stands for another request; differs says in what."),
            (
                424,
                "A synchronous one has no answer that could be passed on, and may have been \
                   carried out; or the time for its answer is over, and the operation goes on.",
            ),
            (502, "A synchronous one could not be sent."),
            (504, "A synchronous one was not sent before its deadline."),
            (508, "The request came back to the gateway that had sent it."),
        ],
    );
    resource["responses"]["503"]["description"] = json!(
        "The queue is full, too many bodies are being received, the host of a callback was not \
         looked up in time, the ledger cannot be written, or the gateway is stopping."
    );
    for field in ["Location", "Operation-Location", "Operation-Id"] {
        resource["responses"]["424"]["headers"][field] =
            json!({ "$ref": format!("#/components/headers/{field}") });
    }
    resource["responses"]["default"] = json!({ "description": "The upstream's own answer, where a synchronous one was asked for." });
    resource["parameters"] = additions();
    resource["requestBody"] = json!({
        "description": "Whatever the upstream takes, up to server.max_body.",
        "content": { "*/*": { "schema": {} } },
    });
    let progress = json!({ "{$request.header.Operation-Progress-Url}": { "post": progress("upstreamProgress") } });
    let callbacks = json!({ "progress": progress, "callback": super::webhooks::callback() });
    with(resource, "callbacks", callbacks)
}

/// The header fields that a client may add to a request.
fn additions() -> Value {
    let text = |pattern: &str| json!({ "type": "string", "pattern": pattern });
    let header = |name: &str, says: &str, schema: Value| optional("header", name, says, schema);
    let whole =
        |least: u32, most: u64| json!({ "type": "integer", "minimum": least, "maximum": most });
    let expected = "^(202-accepted|200-ok|201-created|204-no-content)\
                    ([,/] ?(202-accepted|200-ok|201-created|204-no-content))*$";
    // A bare token, or a quoted string.
    let key = r#"^([!#-+\--:<-\[\]-~]{1,255}|"[!#-\[\]-~]{1,255}")$"#;
    let tag = r"[!#-+\--\[\]-~]{1,100}";
    json!([
        header(
            "Prefer",
            "respond-async, wait=N, return=minimal, callback; url=\"…\" (RFC 7240); what cannot be \
             read is ignored.",
            json!({ "type": "string" })
        ),
        header(
            "Operation-Expect",
            "What Expect would say, which some proxies swallow.",
            text(expected)
        ),
        header("Idempotency-Key", "1 to 255 visible characters, in quotes or bare.", text(key)),
        header(
            "Operation-Tags",
            "What it can be found by: up to 16, separated by commas.",
            text(&format!("^{tag}(, ?{tag}){{0,15}}$"))
        ),
        header("Operation-Delay", "Seconds before it begins.", whole(0, 31_536_000)),
        header(
            "Operation-Timeout",
            "Seconds for one attempt; lowers the route's.",
            whole(1, 86_400)
        ),
        header(
            "Operation-Deadline",
            "Seconds for the whole; lowers the route's.",
            whole(1, 86_400)
        ),
        header(
            "Operation-Serial-Key",
            "One at a time of those that share it.",
            text("^[!-~]{1,255}$")
        ),
        header(
            "Operation-Parent",
            "The operation that gave rise to it.",
            json!({ "type": "string", "format": "uuid" })
        ),
        header(
            "Callback-Url",
            "Where the operation's events go; refused unless the route takes callbacks to there.",
            json!({ "type": "string", "format": "uri" })
        ),
        header(
            "Callback-Events",
            "What is told there, separated by commas; the ends unless set.",
            json!({ "type": "string" })
        ),
        header(
            "Client-Reference",
            "What the client calls it.",
            text("^[!-~]([ -~]{0,254}[!-~])?$")
        ),
    ])
}

fn monitor(id: &str) -> Value {
    let text = || json!({ "type": "string" });
    let mut shown = document();
    shown["text/event-stream"] = json!({ "schema": { "type": "string" } });
    let resource = resource(
        id,
        "The monitor: 202 while pending, 303 when finished",
        vec![
            (
                200,
                response(
                    "The document or live events, where Accept names them.",
                    &["Vary", "Preference-Applied"],
                    shown,
                ),
            ),
            (202, pending("Still pending.", &["ETag", "Vary", "Preference-Applied"])),
            (204, response("The terminal event has been read.", &[], Value::Null)),
            (
                303,
                response(
                    "Finished.",
                    &[
                        "Location",
                        "Operation-Location",
                        "Operation-Id",
                        "Vary",
                        "Preference-Applied",
                    ],
                    Value::Null,
                ),
            ),
            (
                304,
                response(
                    "Still pending, and nothing has changed.",
                    &[&PENDING_FIELDS[..], &["ETag", "Vary", "Preference-Applied"]].concat(),
                    Value::Null,
                ),
            ),
        ],
        &[UNKNOWN, GONE],
    );
    with(
        resource,
        "parameters",
        json!([
            optional("header", "Prefer", "wait=N: held until it finishes, 45 s at most.", text()),
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
            (202, pending("It runs; its upstream connection is being dropped.", &[])),
            (204, response("Freed.", &[], Value::Null)),
        ],
        &[UNKNOWN, GONE],
    )
}

fn status() -> Value {
    let good = vec![(
        200,
        linked(
            response(
                "The document; while pending with when to ask again.",
                &["Retry-After"],
                document(),
            ),
            TicketIn::Path,
        ),
    )];
    resource("showStatus", "The operation document", good, &[UNKNOWN])
}

fn result() -> Value {
    let any = json!({ "*/*": {} });
    let fields = [
        "Upstream-Status",
        "Operation-Id",
        "Operation-Location",
        "X-Content-Type-Options",
        "Content-Security-Policy",
    ];
    let ranged = [&fields[..], &["ETag", "Accept-Ranges"]].concat();
    let part = [&ranged[..], &["Content-Range"]].concat();
    let mut resource = resource(
        "showResult",
        "The recorded answer",
        vec![
            (200, response("The recorded answer.", &ranged, any.clone())),
            (202, pending("Still pending.", &[])),
            (204, response("The recorded answer has no content.", &fields, Value::Null)),
            (206, response("A range of the recorded answer.", &part, any.clone())),
            (304, response("The client has it.", &ranged, Value::Null)),
        ],
        &[
            UNKNOWN,
            (409, "The operation was canceled."),
            GONE,
            (416, "Beyond the end."),
            (424, "No answer of the upstream's, or one that clients would act on."),
        ],
    );
    // A recorded error has its own status, and may share it with a refusal of the
    // gateway's: Gateway-Origin and Upstream-Status tell them apart.
    let recorded = |status: &str| status.starts_with(['4', '5']);
    if let Some(responses) = resource["responses"].as_object_mut() {
        for (_, response) in responses.iter_mut().filter(|(status, _)| recorded(status)) {
            response["content"]["*/*"] = json!({});
            response["headers"]["Upstream-Status"] =
                json!({ "$ref": "#/components/headers/Upstream-Status" });
        }
    }
    resource["responses"]["4XX"] = response("The recorded error.", &fields, any.clone());
    resource["responses"]["5XX"] = response("The recorded error.", &fields, any);
    let text = || json!({ "type": "string" });
    let parameters = json!([
        optional("header", "Range", "One range of octets; anything else is ignored.", text()),
        optional("header", "If-Range", "The ETag of what the client has in part.", text()),
        optional("header", "If-None-Match", "The ETag of what the client has.", text()),
    ]);
    with(resource, "parameters", parameters)
}

fn events() -> Value {
    let mut shown = json_of("Timeline");
    shown["text/event-stream"] = json!({ "schema": { "type": "string" } });
    let resource = resource(
        "showEvents",
        "The timeline, as JSON or live",
        vec![
            (200, response("What happened.", &["Vary"], shown)),
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
            (202, pending("It runs; its upstream connection is being dropped.", &[])),
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
    let resource = resource(
        "retryOperation",
        "Repeat a finished operation; on the admin listener only",
        vec![(202, accepted("The successor is accepted."))],
        &[
            UNKNOWN,
            (409, "It has not ended, or an earlier retry of it has not failed."),
            GONE,
            (413, "The body is too large."),
            (415, "The body is no JSON."),
        ],
    );
    let says = "Retry it although an earlier retry waits, runs or has succeeded.";
    let body = json!({
        "type": "object", "additionalProperties": false,
        "properties": { "again": { "type": "boolean", "default": false, "description": says } },
    });
    let body = json!({ "content": { "application/json": { "schema": body } } });
    with(resource, "requestBody", body)
}

fn queues() -> Value {
    resource(
        "listQueues",
        "How queues and upstreams stand on this node; on the admin listener only",
        vec![(200, response("Queues and upstreams, by name.", &[], json_of("QueueList")))],
        &[(404, "On the public listener.")],
    )
}

fn pause() -> Value {
    resource(
        "pauseQueue",
        "Begin nothing of a queue, on any node of the ledger; on the admin listener only",
        vec![(200, response("The queue as it stands now.", &[], json_of("QueueDocument")))],
        &[NO_QUEUE],
    )
}

fn resume() -> Value {
    resource(
        "resumeQueue",
        "Go on with a queue where it was; on the admin listener only",
        vec![(200, response("The queue as it stands now.", &[], json_of("QueueDocument")))],
        &[NO_QUEUE, (409, "This node's configuration pauses it.")],
    )
}

fn verdict() -> Value {
    let resource = resource(
        "giveVerdict",
        "Say what was found out about an unknown outcome; on the admin listener only",
        vec![(200, response("Written down; a former one is replaced.", &[], document()))],
        &[UNKNOWN, (409, "The outcome is not unknown."), (413, "The body is too large.")],
    );
    let note = json!({ "type": ["string", "null"], "maxLength": 1000 });
    let location = json!({
        "type": ["string", "null"],
        "maxLength": 2048,
        "pattern": r"^(https?://[!-~]*|/([!-.0-~][!-~]*)?)$",
        "description": "What the upstream created: an absolute URL or a path.",
    });
    let form = |outcome: &str, location: Value| {
        json!({
            "type": "object",
            "required": ["outcome"],
            "additionalProperties": false,
            "properties": { "outcome": { "const": outcome }, "location": location, "note": note },
        })
    };
    let nowhere = json!({ "type": "null" });
    let schema = json!({ "oneOf": [form("happened", location), form("did-not-happen", nowhere)] });
    let content = json!({ "application/json": { "schema": schema } });
    with(resource, "requestBody", json!({ "required": true, "content": content }))
}

fn serial_keys() -> Value {
    let limit = json!({ "type": "integer", "minimum": 1, "maximum": 1000, "default": 100 });
    let resource = resource(
        "listSerialKeys",
        "List serial keys that operations hold; on the admin listener only",
        vec![(200, response("A page, by name.", &[], json_of("SerialKeys")))],
        &[(404, "On the public listener.")],
    );
    let name = json!({ "type": "string", "pattern": SERIAL });
    with(
        resource,
        "parameters",
        json!([
            optional("query", "blocked", "Only blocked ones.", json!({ "type": "boolean" })),
            optional("query", "after", "Behind the key of this name.", name),
            optional("query", "limit", "How many at most.", limit),
        ]),
    )
}

fn reconcile() -> Value {
    let resource = resource(
        "reconcile",
        "Look for what does not add up and repair what is safe; on the admin listener only",
        vec![(200, response("What was found.", &[], json_of("ReconcileReport")))],
        &[(404, "On the public listener.")],
    );
    let says = "Only look.";
    let dry_run = optional("query", "dry-run", says, json!({ "type": "boolean" }));
    with(resource, "parameters", json!([dry_run]))
}

fn reseal() -> Value {
    let resource = resource(
        "reseal",
        "Seal anew what lies open or under an earlier key, a part of the ledger at a time; on the \
         admin listener only",
        vec![(200, response("What the part came to.", &[], json_of("ResealReport")))],
        &[
            (400, "This is no place to go on."),
            (404, "On the public listener."),
            (409, "No key is set."),
        ],
    );
    let says = "Go on where the answer before ended: its `next`.";
    let after = optional("query", "after", says, json!({ "type": "string" }));
    with(resource, "parameters", json!([after]))
}

fn release() -> Value {
    resource(
        "releaseSerialKey",
        "Let the next one go of a blocked serial key; on the admin listener only",
        vec![(200, response("Released.", &[], json_of("Release")))],
        &[(404, "This is no key's name."), (409, "Nothing blocks the key.")],
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
            optional(
                "query",
                "unknown",
                "Whose outcome is unknown, without a verdict.",
                json!({ "type": "string", "enum": ["true"] })
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

fn nodes() -> Value {
    let says = "List the nodes that share the ledger; on the admin listener only";
    let good = vec![(200, response("The nodes, the latest start first.", &[], json_of("Nodes")))];
    resource("listNodes", says, good, &[(404, "Only the admin listener has it.")])
}

fn described() -> Value {
    let shown = json!({ "application/json": { "schema": { "type": "object" } } });
    let good = vec![(200, response("This description.", &[], shown))];
    resource("showDescription", "This interface", good, &[])
}
