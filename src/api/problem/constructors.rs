//! Constructors of problems: one for each refusal, so that its wording exists once.

use http::Method;
use http::header::{ALLOW, CONTENT_RANGE, LOCATION, WWW_AUTHENTICATE};
use serde_json::Value;

use super::{Problem, kinds};
use crate::api::response::UPSTREAM_STATUS;
use cloakroom_domain::http::request_override::OverridePart;
use cloakroom_domain::operation::{self, Failure, RequestParts, Status};

impl Problem {
    /// 400: the head of the request cannot be read.
    pub fn malformed_request() -> Self {
        let detail = "the request line or a header field is not well-formed HTTP/1.1, or the body's \
                      framing is ambiguous: see RFC 9112, and send it on a new connection";
        Self::new(&kinds::MALFORMED_REQUEST, detail)
    }

    /// 400: that header field, spelled as in its definition, cannot be used.
    pub fn malformed_field(field: &str, detail: impl Into<String>) -> Self {
        Self::new(&kinds::MALFORMED_FIELD, detail).with("field", field)
    }

    /// 400: that query parameter cannot be used.
    pub fn malformed_parameter(parameter: &str, detail: impl Into<String>) -> Self {
        Self::new(&kinds::MALFORMED_PARAMETER, detail).with("parameter", parameter)
    }

    /// 400: the path cannot be used.
    pub fn malformed_path(detail: impl Into<String>) -> Self {
        Self::new(&kinds::MALFORMED_PATH, detail)
    }

    /// 400: the body, or that member of it, cannot be used.
    pub fn malformed_body(member: Option<&str>, detail: impl Into<String>) -> Self {
        let problem = Self::new(&kinds::MALFORMED_BODY, detail);
        match member {
            Some(member) => problem.with("field", member),
            None => problem,
        }
    }

    /// 400: the route requires an idempotency key.
    pub fn key_missing() -> Self {
        let detail = "this route needs an Idempotency-Key field: send one that is new for each new \
                      request and the same for each repeat";
        Self::new(&kinds::KEY_MISSING, detail).with("field", "Idempotency-Key")
    }

    /// 400: the route takes its idempotency key from that place in the body.
    pub fn key_not_at(pointer: &str, why: &str) -> Self {
        let detail = format!(
            "this route takes its idempotency key from the JSON body at {pointer:?}, and {why}: put a value \
             there that is new for each new request and the same for each repeat, or send one as \
             Idempotency-Key"
        );
        Self::new(&kinds::KEY_MISSING, detail).with("field", "Idempotency-Key")
    }

    /// 400: the route takes its idempotency key from that field.
    pub fn key_not_in(name: &http::HeaderName) -> Self {
        let detail = format!(
            "this route takes its idempotency key from the field {name}, which is missing or empty: send one \
             that is new for each new request and the same for each repeat, there or as Idempotency-Key"
        );
        Self::new(&kinds::KEY_MISSING, detail).with("field", "Idempotency-Key")
    }

    /// 400: the route takes no callbacks, and that field asks for one.
    pub fn callbacks_off(field: &str) -> Self {
        let detail = "callbacks are off on this route: leave the callback out and ask the monitor, \
                      or have the operator allow it in the route's callbacks";
        Self::new(&kinds::CALLBACKS_OFF, detail).with("field", field)
    }

    /// 400: deliveries may not go to the URL in that member or field.
    pub fn destination_refused(field: &str, why: &str) -> Self {
        Self::new(&kinds::DESTINATION, why).with("field", field)
    }

    /// 401 with the challenge that would be met.
    pub fn unauthorized(challenge: &str, detail: impl Into<String>) -> Self {
        Self::new(&kinds::UNAUTHORIZED, detail).with_field(WWW_AUTHENTICATE, challenge)
    }

    /// 403: a page of another site sent it.
    pub fn cross_site() -> Self {
        let detail = "the browser says that a page of another origin has sent this: send it from \
                      this listener's own pages, or from a program";
        Self::new(&kinds::FORBIDDEN, detail)
    }

    /// 404: the gateway has no such resource.
    pub fn no_such_resource() -> Self {
        let detail = "the gateway has no resource of this name; see openapi.json beside it";
        Self::new(&kinds::NO_RESOURCE, detail)
    }

    /// 404: the gateway has no such resource, and the request is not passed to the upstream.
    pub fn no_such_resource_in_public() -> Self {
        let detail = "the gateway has no resource of this name; see openapi.json beside it. Where \
                      the upstream has one, server.prefix_pass = true passes the request on, and \
                      server.prefix moves the gateway's own";
        Self::new(&kinds::NO_RESOURCE, detail)
    }

    /// 400: the method that frameworks would read is not the one of the request line, and a
    /// route takes it.
    pub fn disguised_method(by: OverridePart, method: &Method) -> Self {
        let says = format!("makes this a {method} for some servers: send {method} itself");
        match by {
            OverridePart::Line => {
                let detail = format!("the request line {says}, in capitals");
                Self::new(&kinds::MALFORMED_REQUEST, detail)
            }
            OverridePart::Field(name) => Self::malformed_field(name, format!("{name} {says}")),
            OverridePart::Parameter(name) => {
                Self::malformed_parameter(name, format!("{name} {says}"))
            }
            OverridePart::Body(name) => {
                Self::malformed_body(None, format!("the parameter {name} in the body {says}"))
            }
        }
    }

    /// 404: it is there for operators only, as nothing tells callers apart.
    pub fn not_offered_here() -> Self {
        let detail = "this resource is on the admin listener only, because nothing tells callers \
                      of this one apart";
        Self::new(&kinds::NO_RESOURCE, detail)
    }

    /// 404: unknown, expired, of another principal, or a wrong ticket. The problem does not tell
    /// which.
    pub fn no_such_operation() -> Self {
        let detail = "the ticket names no operation: take the url from the 202's location as it is";
        Self::new(&kinds::NO_OPERATION, detail)
    }

    /// 404: unknown, deleted, or of another principal. The problem does not tell which.
    pub fn no_such_subscription() -> Self {
        let detail = "no subscription has this id: list the subscriptions at /webhooks";
        Self::new(&kinds::NO_SUBSCRIPTION, detail)
    }

    /// 404: the subscription has no such delivery.
    pub fn no_such_delivery() -> Self {
        let detail = "no delivery of this subscription has this number: it may have been pruned";
        Self::new(&kinds::NO_DELIVERY, detail)
    }

    /// 404: no queue has this name here.
    pub fn no_such_queue(name: &str) -> Self {
        let detail = format!(
            "no queue of this node is called `{name}`: `cloakroom queues` lists the queues"
        );
        Self::new(&kinds::NO_QUEUE, detail).with("queue", name)
    }

    /// 409: what the configuration pauses cannot be resumed through the ledger.
    pub fn paused_by_configuration(name: &str) -> Self {
        let detail = "the queue stays paused on this node, because its configuration says so: \
                      take `paused` out of it and start the node again";
        Self::new(&kinds::PAUSED, detail).with("queue", name)
    }

    /// 404: the progress token was not made for this operation.
    pub fn no_such_token() -> Self {
        let detail =
            "report to the Operation-Progress-Url of the attempt that is being carried out";
        Self::new(&kinds::NO_TOKEN, detail)
    }

    /// 405; `allow` lists what is offered, as in `GET, HEAD`.
    pub fn method_not_allowed(allow: &str) -> Self {
        Self::wrong_method().with_field(ALLOW, allow)
    }

    /// 405, whose `Allow` the router adds.
    pub fn wrong_method() -> Self {
        Self::new(&kinds::METHOD_NOT_ALLOWED, "use one of the methods in the allow field")
    }

    /// 408: head or body did not arrive in time.
    pub fn too_slow() -> Self {
        Self::new(&kinds::TOO_SLOW, "the request did not arrive in time: send it again")
    }

    /// 409: it cannot be canceled any more.
    pub fn ended(status: Status) -> Self {
        let detail = format!("the operation has {status} and cannot be canceled any more");
        Self::new(&kinds::ENDED, detail).with("operationStatus", status.as_str())
    }

    /// 409: only what has ended can be retried.
    pub fn not_ended(status: Status) -> Self {
        let detail = format!("the operation is {status}: wait for its end, or cancel it first");
        Self::new(&kinds::NOT_ENDED, detail).with("operationStatus", status.as_str())
    }

    /// 409: there is nothing to find out about the outcome.
    pub fn not_unknown() -> Self {
        let detail = "a verdict is about an operation that has failed with outcome-unknown";
        Self::new(&kinds::NOT_UNKNOWN, detail)
    }

    /// 409: the serial key is not blocked.
    pub fn not_blocked() -> Self {
        let detail =
            "no failure blocks this serial key: the operation that holds it continues by itself";
        Self::new(&kinds::NOT_BLOCKED, detail)
    }

    /// 409: a canceled operation has no result.
    pub fn canceled() -> Self {
        Self::new(&kinds::CANCELED, "the operation was canceled, so it has no result: send it anew")
    }

    /// 409: what goes into messages has no lasting URL to build on.
    pub fn no_public_url() -> Self {
        let detail = "webhooks and callbacks carry links, and the gateway does not know its public url: \
                      ask the operator to set server.public_url";
        Self::new(&kinds::NO_PUBLIC_URL, detail).with("setting", "server.public_url")
    }

    /// 409: the principal has `most` subscriptions.
    pub fn too_many_subscriptions(most: u32) -> Self {
        let detail = format!(
            "there are {most} subscriptions, which is the limit (webhooks.max_subscriptions): \
             delete one first"
        );
        Self::new(&kinds::TOO_MANY_SUBSCRIPTIONS, detail)
            .with("limit", most)
            .with("setting", "webhooks.max_subscriptions")
    }

    /// 409: `most` keys sign at once.
    pub fn too_many_keys(most: usize) -> Self {
        let detail = format!(
            "at most {most} keys may sign at once: wait until one has retired (retiresAt), or give a \
             shorter grace; with a grace of 0 the former keys end at once"
        );
        Self::new(&kinds::TOO_MANY_KEYS, detail).with("limit", most)
    }

    /// 409: the subscription stands so, and takes nothing.
    pub fn not_active(status: &str) -> Self {
        let detail = format!("the subscription is {status}: enable it first");
        Self::new(&kinds::NOT_ACTIVE, detail).with("subscriptionStatus", status)
    }

    /// 409: the receiver did not say that it wants deliveries.
    pub fn not_agreed(why: &str) -> Self {
        let detail = format!(
            "the receiver was asked with OPTIONS and has not allowed deliveries: {why}; see HTTP \
             1.1 Web Hooks for Event Delivery of CloudEvents"
        );
        Self::new(&kinds::NOT_AGREED, detail)
    }

    /// 409: there is no other delivery while this one is on its way.
    pub fn delivery_pending() -> Self {
        let detail = "the delivery is being sent: wait for its outcome";
        Self::new(&kinds::DELIVERY_PENDING, detail)
    }

    /// 409: others kept changing it.
    pub fn changed_meanwhile() -> Self {
        let detail =
            "another request has changed the subscription meanwhile: read it and try again";
        Self::new(&kinds::CHANGED_MEANWHILE, detail)
    }

    /// 412: the resource is not in a state that `If-Match` or `If-None-Match`, the field, allows.
    pub fn not_as_expected(field: &str) -> Self {
        let detail = match field {
            "If-None-Match" => {
                "If-None-Match names the state that the resource is in, and nothing was changed: leave \
                 the field out to change the resource all the same"
            }
            _ => {
                "If-Match does not name the state that the resource is in, and nothing was changed: \
                 read the resource anew, and send its current ETag, or * for every state"
            }
        };
        Self::new(&kinds::NOT_AS_EXPECTED, detail).with("field", field)
    }

    /// 415: no JSON was announced.
    pub fn not_json() -> Self {
        let detail = "send the body with content-type application/json";
        Self::new(&kinds::NOT_JSON, detail).with("field", "Content-Type")
    }

    /// 415: a form of any web page could have sent it to the admin listener.
    pub fn not_said_json() -> Self {
        let detail = "send content-type application/json with every request that changes something, also \
                      without a body: it shows that the form of a web page has not sent it";
        Self::new(&kinds::NOT_JSON, detail).with("field", "Content-Type")
    }

    /// 409: a progress report of an attempt that is over.
    pub fn attempt_over() -> Self {
        let detail = "the attempt that this token was made for is over: report no more";
        Self::new(&kinds::ATTEMPT_OVER, detail)
    }

    /// 410: request and result were freed.
    pub fn gone() -> Self {
        let detail = "the request and the result expired or were deleted; the document is still at \
                      status";
        Self::new(&kinds::GONE, detail)
    }

    /// 413: over `server.max_body` octets.
    pub fn body_too_large(limit: u64) -> Self {
        let detail = format!("the body is larger than {limit} octets (server.max_body)");
        Self::new(&kinds::BODY_TOO_LARGE, detail).with("limit", limit)
    }

    /// 413: no document that the gateway itself takes is as long as that.
    pub fn document_too_large(limit: u64) -> Self {
        let detail = format!("the body is larger than {limit} octets, and nothing here needs more");
        Self::new(&kinds::BODY_TOO_LARGE, detail).with("limit", limit)
    }

    /// 414.
    pub fn target_too_long() -> Self {
        Self::new(&kinds::URI_TOO_LONG, "shorten path and query")
    }

    /// 416: the body has `length` octets.
    pub fn range_beyond(length: u64) -> Self {
        let detail = format!("the result has {length} octets: ask for a range that begins in it");
        Self::new(&kinds::RANGE_BEYOND, detail)
            .with_field(CONTENT_RANGE, format!("bytes */{length}"))
    }

    /// 409: there is no key to seal with.
    pub fn not_sealing() -> Self {
        let detail = "this node has no key to seal with: set secrets.key and start it again";
        Self::new(&kinds::NOT_SEALING, detail)
    }

    /// 421: the admin listener does not answer to that host.
    pub fn misdirected() -> Self {
        let detail = "this listener answers to localhost, to ip addresses and to the names in \
                      admin.hosts: use one of these";
        Self::new(&kinds::MISDIRECTED, detail)
    }

    /// 409: it has been repeated by hand as `successor`, which has not failed.
    pub fn retried(successor: &str, monitor: &str) -> Self {
        let detail = "the operation has been retried already, and that retry has not failed: wait for \
                      its outcome, or ask for another one with \"again\": true (--again)";
        Self::new(&kinds::RETRIED, detail)
            .with("retriedBy", successor)
            .with("monitor", monitor)
            .with("field", "again")
    }

    /// 422: the idempotency key stands for another request. `sent` says whether the client
    /// has sent the key, or the route derives it.
    pub fn key_conflict(differs: RequestParts, sent: bool) -> Self {
        let names: Vec<_> = differs.iter().map(operation::RequestPart::as_str).collect();
        let key = if sent {
            "this Idempotency-Key"
        } else {
            "the key that this route takes from a request (idempotency_key)"
        };
        let differ = match &*names {
            [] => "it is not the same request".to_owned(),
            [one] => format!("the two differ in the {one}"),
            [rest @ .., last] => {
                format!("the two differ in the {} and the {last}", rest.join(", the "))
            }
        };
        let detail = format!(
            "{key} was used for another request: {differ}. Take a new key for a new request, or \
             send the first one again as it was"
        );
        let problem = Self::new(&kinds::KEY_CONFLICT, detail).with("differs", names);
        if sent { problem.with("field", "Idempotency-Key") } else { problem }
    }

    /// The same with the monitor of the operation that it is about.
    #[must_use]
    pub fn at_monitor(self, monitor: &str) -> Self {
        self.with("monitor", monitor).with_field(LOCATION, monitor)
    }

    /// 424: the operation failed without an answer that could be shown. Something may have been
    /// sent, so it is no 5xx: stock clients would send the request again by themselves.
    pub fn no_answer(failure: &Failure) -> Self {
        let cause = failure.cause.map_or(Value::Null, |cause| cause.as_str().into());
        let problem = Self::new(&kinds::NO_ANSWER, failure.message())
            .with("code", failure.code.as_str())
            .with("cause", cause);
        match failure.status {
            Some(status) => problem.with_field(UPSTREAM_STATUS, status.to_string()),
            None => problem,
        }
    }

    /// 431: over `server.max_headers` octets.
    pub fn headers_too_large(limit: u64) -> Self {
        let detail = format!(
            "the header section is larger than {limit} octets (server.max_headers), or has \
                     over 100 fields: send less"
        );
        Self::new(&kinds::HEADERS_TOO_LARGE, detail).with("limit", limit)
    }

    /// 500: nothing is told beyond that.
    pub fn internal() -> Self {
        Self::new(&kinds::INTERNAL, "the gateway could not answer; its log says why")
    }

    /// 502: the gateway could not connect to the upstream.
    pub fn upstream_unreachable() -> Self {
        Self::new(
            &kinds::UPSTREAM_UNREACHABLE,
            "check that the upstream is running, then try again",
        )
    }

    /// 502: the upstream's answer cannot be passed on.
    pub fn upstream_broken(detail: impl Into<String>) -> Self {
        Self::new(&kinds::UPSTREAM_BROKEN, detail)
    }

    /// 503: bodies being received take all the memory there is for them.
    pub fn memory_full() -> Self {
        Self::new(&kinds::MEMORY_FULL, "try again in a moment").retry_after(1)
    }

    /// 503: the name of a URL's host was not looked up in time, so it is not known whether
    /// webhooks may go there.
    pub fn not_looked_up(field: &str, why: &str, retry_after: u64) -> Self {
        let detail = format!("{why}; nothing was accepted or changed: try again");
        Self::new(&kinds::NOT_LOOKED_UP, detail).with("field", field).retry_after(retry_after)
    }

    /// 503: the queue has `depth` operations already.
    pub fn queue_full(queue: &str, depth: u64, retry_after: u64) -> Self {
        let detail = format!("the queue {queue} has no room (max_depth): try again later");
        Self::new(&kinds::QUEUE_FULL, detail)
            .with("queue", queue)
            .with("depth", depth)
            .retry_after(retry_after)
    }

    /// 503: what a queue stores for operations that have not ended leaves no room for another.
    pub fn storage_full(queue: &str, stored: u64, retry_after: u64) -> Self {
        let detail = format!(
            "the queue {queue} has reached its limit of stored octets (max_stored): try again later"
        );
        Self::new(&kinds::QUEUE_FULL, detail)
            .with("queue", queue)
            .with("stored", stored)
            .retry_after(retry_after)
    }

    /// 503: the limit of open files leaves none for a connection to the upstream.
    pub fn out_of_files() -> Self {
        let detail = "the gateway has reached its limit of open files; nothing was sent: try again";
        Self::new(&kinds::NO_FILES, detail).retry_after(1)
    }

    /// 503: the gateway takes on nothing new.
    pub fn stopping() -> Self {
        Self::new(&kinds::STOPPING, "try again in a moment").retry_after(1)
    }

    /// 504: an upstream that was only proxied to did not answer.
    pub fn upstream_silent(detail: impl Into<String>) -> Self {
        Self::new(&kinds::UPSTREAM_SILENT, detail)
    }

    /// 424: the time for a synchronous answer is over and the operation goes on. Without
    /// `Retry-After` and no 5xx, so that no stock client repeats the request by itself.
    pub fn answer_late(monitor: &str) -> Self {
        let detail = "the operation goes on: ask its monitor (location). To repeat the request \
                      safely, send it with an Idempotency-Key";
        Self::new(&kinds::ANSWER_LATE, detail)
            .with("field", "Idempotency-Key")
            .with("monitor", monitor)
            .with_field(LOCATION, monitor)
    }

    /// 508: the request has been here before.
    pub fn came_back() -> Self {
        let detail =
            "the request came back to the gateway that had sent it: correct the upstream's url";
        Self::new(&kinds::LOOP, detail)
    }
}
