//! The table of problem kinds: type, status and title.

use http::StatusCode;

/// A kind of problem: what programs tell problems apart by.
#[derive(Debug, PartialEq, Eq)]
pub struct ProblemKind {
    /// The last part of its `type`. Never changes.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    status: u16,
}

impl ProblemKind {
    /// Its `type`.
    pub fn uri(&self) -> String {
        format!("urn:cloakroom:problem:{}", self.name)
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

macro_rules! kinds {
    ($($constant:ident $status:literal $name:literal $title:literal;)*) => {
        $(#[doc = concat!("`", $name, "`, ", $status, ": ", $title, ".")]
        pub static $constant: ProblemKind = ProblemKind { name: $name, title: $title, status: $status };)*

        /// Every kind.
        pub static ALL: &[&ProblemKind] = &[$(&$constant),*];
    };
}

kinds! {
    MALFORMED_REQUEST 400 "malformed-request" "the request is not well-formed http";
    MALFORMED_FIELD 400 "malformed-field" "a header field cannot be used";
    MALFORMED_PARAMETER 400 "malformed-parameter" "a query parameter cannot be used";
    MALFORMED_PATH 400 "malformed-path" "the path cannot be used";
    MALFORMED_BODY 400 "malformed-body" "the body cannot be used";
    KEY_MISSING 400 "idempotency-key-missing" "an idempotency key is required here";
    DESTINATION 400 "destination-refused" "webhooks may not be sent to this url";
    CALLBACKS_OFF 400 "callbacks-off" "callbacks are off here";
    UNAUTHORIZED 401 "credential-missing" "a credential is required";
    FORBIDDEN 403 "cross-site" "this request may not come from another site";
    NO_RESOURCE 404 "no-such-resource" "there is no such resource";
    NO_OPERATION 404 "no-such-operation" "there is no such operation";
    NO_SUBSCRIPTION 404 "no-such-subscription" "there is no such subscription";
    NO_DELIVERY 404 "no-such-delivery" "there is no such delivery";
    NO_QUEUE 404 "no-such-queue" "there is no such queue";
    NO_TOKEN 404 "no-such-progress-token" "there is no such progress token";
    METHOD_NOT_ALLOWED 405 "method-not-allowed" "this method is not offered here";
    TOO_SLOW 408 "request-too-slow" "the request took too long to arrive";
    ENDED 409 "already-ended" "the operation has ended";
    NOT_ENDED 409 "not-ended" "the operation has not ended";
    RETRIED 409 "already-retried" "the operation has been retried";
    PAUSED 409 "paused-by-configuration" "the configuration pauses the queue";
    NOT_UNKNOWN 409 "outcome-known" "the outcome is not unknown";
    NOT_BLOCKED 409 "not-blocked" "nothing blocks the serial key";
    CANCELED 409 "canceled" "the operation was canceled";
    NO_PUBLIC_URL 409 "public-url-unset" "the gateway does not know its public url";
    NOT_SEALING 409 "secrets-key-unset" "no key for sealing secrets is set";
    TOO_MANY_SUBSCRIPTIONS 409 "too-many-subscriptions" "the limit on subscriptions is reached";
    TOO_MANY_KEYS 409 "too-many-keys" "the limit on signing keys is reached";
    NOT_ACTIVE 409 "subscription-not-active" "the subscription is not active";
    NOT_AGREED 409 "receiver-not-agreed" "the receiver has not agreed";
    DELIVERY_PENDING 409 "delivery-pending" "the delivery is on its way";
    CHANGED_MEANWHILE 409 "changed-meanwhile" "another request has just changed it";
    ATTEMPT_OVER 409 "attempt-over" "the attempt is over";
    GONE 410 "gone" "the result was freed";
    NOT_AS_EXPECTED 412 "not-as-expected" "the precondition does not hold";
    BODY_TOO_LARGE 413 "body-too-large" "the body is too large";
    URI_TOO_LONG 414 "target-too-long" "the target is too long";
    NOT_JSON 415 "unsupported-content-type" "the body has to be json";
    RANGE_BEYOND 416 "range-beyond-end" "the range lies beyond the end";
    EXPECTATION 417 "expectation-failed" "the expectation cannot be met";
    MISDIRECTED 421 "misdirected" "this listener does not answer to that host";
    KEY_CONFLICT 422 "idempotency-key-reused" "the idempotency key stands for another request";
    ANSWER_LATE 424 "answer-not-in-time" "the answer did not come in time";
    NO_ANSWER 424 "no-answer" "the upstream gave no answer";
    HEADERS_TOO_LARGE 431 "header-too-large" "the header section is too large";
    INTERNAL 500 "internal" "the gateway failed";
    TRANSFER_CODING 501 "transfer-coding-not-supported" "this transfer coding is not supported";
    UPSTREAM_BROKEN 502 "upstream-protocol" "the upstream gave no usable answer";
    UPSTREAM_UNREACHABLE 502 "upstream-unreachable" "the upstream cannot be reached";
    MEMORY_FULL 503 "memory-full" "too many bodies are being received";
    QUEUE_FULL 503 "queue-full" "the queue is full";
    LEDGER_AWAY 503 "ledger-unavailable" "the ledger is not available";
    NOT_LOOKED_UP 503 "name-not-looked-up" "a host's name was not looked up in time";
    NO_FILES 503 "open-files-exhausted" "the gateway cannot open another connection";
    STOPPING 503 "stopping" "the gateway is stopping";
    UPSTREAM_SILENT 504 "upstream-timeout" "the upstream did not answer in time";
    LOOP 508 "loop" "the request came back to its own gateway";
}
