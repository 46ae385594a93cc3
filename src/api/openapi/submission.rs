//! The description of requests that routes accept as operations.
//!
//! One description stands for every route of every gateway; with a configuration, each route has
//! its own, with what it allows. Owns what clients may add to a request.

use serde_json::{Value, json};

use super::description::Description;
use super::messages::{self, capitalized};
use super::parts::header;
use super::response_doc::{ResponseDoc, anything};
use super::tags::Tag;
use crate::api::progress;
use crate::config::{
    AcceptedForm, CallbackAllowlist, DeliveryGuarantee, KeyRule, Mode, RouteConfig, Selector,
};

/// The expectation of a 202.
const ACCEPTED: &str = "202-accepted";
/// The expectations of an upstream's own answer.
const SYNCHRONOUS: [&str; 3] = ["200-ok", "201-created", "204-no-content"];

/// How requests of a route can be answered.
#[derive(Clone, Copy)]
struct AnswerForms {
    /// With a 202.
    accepted: bool,
    /// With the upstream's own answer.
    synchronous: bool,
}

impl AnswerForms {
    const ALL: Self = Self { accepted: true, synchronous: true };

    fn of(route: &RouteConfig) -> Self {
        Self {
            accepted: route.mode != Mode::Sync || route.allow.asynchronous,
            synchronous: route.mode != Mode::Async || route.allow.synchronous,
        }
    }
}

/// A request to any route of any gateway.
pub(super) fn of_any_route() -> Description {
    let expectations: Vec<&str> = [ACCEPTED].into_iter().chain(SYNCHRONOUS).collect();
    let description = Description::new(Tag::Requests, "submitRequest", "Hand in a request")
        .asks([prefer(), expect(&expectations), key(false)])
        .asks(additions())
        .asks(callback_fields());
    let accepted = ResponseDoc::accepted("Durably accepted.");
    let description = answered(description, AnswerForms::ALL, accepted);
    called_back(reporting(description, "reportUpstreamProgress"), "receiveCallback")
}

/// A request to this route.
pub(super) fn of_route(route: &RouteConfig, id: &str) -> Description {
    let forms = AnswerForms::of(route);
    let (method, path) = (&route.method, &route.path);
    let mut accepted =
        ResponseDoc::accepted("Durably accepted; the monitor leads to the result by 303.");
    if route.accepted == AcceptedForm::Minimal {
        accepted = accepted.without_content();
    }
    let needs_key = route.idempotency_required && route.idempotency_key.is_none();
    let description = Description::new(Tag::Requests, id, format!("{method} {path}"))
        .explained(explanation(route))
        .asks([prefer()])
        .asks(expected(route).map(|words| expect(&words)))
        .asks([key(needs_key)])
        .asks(additions())
        .asks(places(route));
    // Each route has its own: ids are unique.
    let called = |verb: &str| format!("{verb}Of{}", capitalized(id));
    let mut description =
        reporting(answered(description, forms, accepted), &called("reportProgress"));
    // Where a 202 is what a request usually gets, it is the one type that generated clients return.
    if route.mode != Mode::Async {
        for status in successes(route) {
            description = description.replies(status, upstreams_answer(status));
        }
    }
    match route.callbacks {
        CallbackAllowlist::Off => description,
        CallbackAllowlist::Any | CallbackAllowlist::Only(_) => {
            called_back(description.asks(callback_fields()), &called("receiveCallback"))
        }
    }
}

fn answered(description: Description, forms: AnswerForms, accepted: ResponseDoc) -> Description {
    let mut description = description
        .takes_body(json!({
            "description": "Whatever the upstream takes, up to server.max_body.",
            "content": anything(),
        }))
        .refuses(&[
            (410, "The key's operation was freed; a synchronous answer is not there any more."),
            (413, "The body is too large."),
            (417, "The expectation cannot be met; nothing was stored or sent."),
            (422, "The idempotency key stands for another request; differs says in what."),
            (
                503,
                "The queue is full, too many bodies are being received, the host of a callback was \
                 not looked up in time, the ledger cannot be written, or the gateway is stopping.",
            ),
            (508, "The request came back to the gateway that had sent it."),
        ]);
    if forms.accepted {
        description = description.replies(202, accepted.with(&["Idempotency-Replayed"]));
    }
    if forms.synchronous {
        description = synchronous(description);
    }
    description
}

/// What can come of waiting for an upstream's own answer.
fn synchronous(description: Description) -> Description {
    let in_part = "A synchronous one has no answer that could be passed on, and may have been \
                   carried out; or the time for its answer is over, and the operation goes on.";
    let in_part = ResponseDoc::problem(in_part);
    let says = "The upstream's own answer, where a synchronous one was asked for.";
    description
        .refuses(&[
            (409, "A synchronous one was canceled."),
            (502, "A synchronous one could not be sent."),
            (504, "A synchronous one was not sent before its deadline."),
        ])
        .replies(424, in_part.with(&["Location", "Operation-Location", "Operation-Id"]))
        .replies_in("default", ResponseDoc::foreign(says))
}

/// With the progress reports that the upstream may send, under this id.
fn reporting(description: Description, id: &str) -> Description {
    let url = "{$request.header.Operation-Progress-Url}";
    description.calls_back("progress", url, &progress::described(id))
}

/// With the message to the URL that a client names, under this id.
fn called_back(description: Description, id: &str) -> Description {
    description.callback("callback", messages::callback(id))
}

/// The upstream's statuses that mean success, as far as clients are told of them.
fn successes(route: &RouteConfig) -> Vec<u16> {
    let listed = |status: &u16| {
        let own = route.success.as_ref().is_some_and(|listed| listed.contains(*status));
        if route.success.is_some() { own } else { *status == 200 }
    };
    (200..300).filter(|status| *status != 202).filter(listed).collect()
}

fn upstreams_answer(status: u16) -> ResponseDoc {
    let reply = ResponseDoc::foreign("The upstream's own answer.").with(&[
        "Gateway-Origin",
        "Operation-Id",
        "Operation-Location",
    ]);
    if matches!(status, 204 | 205) { reply } else { reply.or_anything() }
}

/// What the route does with a request, in words.
fn explanation(route: &RouteConfig) -> String {
    let allow = route.allow;
    let mode = match route.mode {
        Mode::Async => "Answered with 202 at once".to_owned(),
        Mode::Hybrid => format!(
            "Answered as the upstream answers within {}, else with 202",
            time(route.sync_wait)
        ),
        Mode::Sync => "Answered as the upstream answers".to_owned(),
    };
    let asked = match (allow.asynchronous, allow.synchronous) {
        (true, true) => "unless Prefer or Operation-Expect asks for the other way",
        (true, false) => "and no synchronous answer can be expected (417)",
        (false, _) => "and no 202 can be expected (417)",
    };
    let delivery = match route.promise() {
        Some(DeliveryGuarantee::AtLeastOnce) => "Carried out at least once",
        Some(DeliveryGuarantee::AtMostOnce) => "Carried out at most once",
        None => "Carried out at least once where the method is idempotent, else at most once",
    };
    let (timeout, deadline) = (time(route.timeout), time(route.deadline));
    let key = match (&route.idempotency_key, route.idempotency_required) {
        (Some(KeyRule::Fingerprint), _) => " Without an Idempotency-Key, equal requests are one.",
        (Some(KeyRule::Header(_) | KeyRule::Pointer(_)), true) => " An idempotency key is needed.",
        _ => "",
    };
    format!(
        "{mode}, {asked}. {delivery}, within {deadline}; one attempt may take {timeout}. Clients may \
         lower both.{key}"
    )
}

fn time(duration: std::time::Duration) -> String {
    match duration.as_secs() {
        whole if whole >= 3600 && whole % 3600 == 0 => format!("{} h", whole / 3600),
        whole if whole >= 60 && whole % 60 == 0 => format!("{} min", whole / 60),
        _ => format!("{} s", duration.as_secs_f64()),
    }
}

/// The expectations that the route meets; none where there are none.
fn expected(route: &RouteConfig) -> Option<Vec<&'static str>> {
    let allow = route.allow;
    let accepted = [ACCEPTED].into_iter().filter(|_| allow.asynchronous);
    let words: Vec<_> =
        accepted.chain(SYNCHRONOUS.into_iter().filter(|_| allow.synchronous)).collect();
    (!words.is_empty()).then_some(words)
}

/// The fields and parameters that the route looks into.
fn places(route: &RouteConfig) -> Vec<Value> {
    let field = |name: &http::HeaderName, says: &str| header(name.as_str(), says, text());
    let place = |selector: &Option<Selector>, says: &str| match selector {
        Some(Selector::Header(name)) => Some(field(name, says)),
        Some(Selector::Query(name)) => Some(super::parts::query(name, says, text())),
        Some(Selector::Pointer(_) | Selector::Path(_)) | None => None,
    };
    let key = match &route.idempotency_key {
        Some(KeyRule::Header(name)) => Some(field(name, "Stands in for Idempotency-Key.")),
        _ => None,
    };
    let serial = place(&route.serial_key, "One at a time of those that share it.");
    let parent = place(&route.parent, "The operation that gave rise to it.");
    let reference = place(&route.client_reference, "What the client calls it.");
    let mut places: Vec<Value> = Vec::new();
    for found in [key, serial, parent, reference].into_iter().flatten() {
        let same = |other: &Value| other["name"] == found["name"] && other["in"] == found["in"];
        if !places.iter().any(same) && !is_known(&found) {
            places.push(found);
        }
    }
    places
}

/// Whether every route has that parameter.
fn is_known(parameter: &Value) -> bool {
    let name = parameter["name"].as_str().unwrap_or_default();
    let known = additions().into_iter().chain(callback_fields()).chain([prefer(), key(false)]);
    parameter["in"] == "header"
        && known
            .into_iter()
            .any(|own| own["name"].as_str().is_some_and(|own| own.eq_ignore_ascii_case(name)))
}

fn prefer() -> Value {
    let says = "respond-async, wait=N, return=minimal, callback; url=\"…\" (RFC 7240); what cannot \
                be read is ignored.";
    header("Prefer", says, text())
}

fn expect(words: &[&str]) -> Value {
    let any = words.join("|");
    let says = "What Expect would say, which some proxies swallow.";
    header("Operation-Expect", says, matching(&format!("^({any})([,/] ?({any}))*$")))
}

fn key(required: bool) -> Value {
    // A bare token, or a quoted string.
    let pattern = r#"^([!#-+\--:<-\[\]-~]{1,255}|"[!#-\[\]-~]{1,255}")$"#;
    let says = "1 to 255 visible characters, in quotes or bare.";
    let mut key = header("Idempotency-Key", says, matching(pattern));
    if required {
        key["required"] = json!(true);
    }
    key
}

/// The fields with which clients give a callback.
fn callback_fields() -> [Value; 2] {
    let says =
        "Where the operation's events go; refused unless the route takes callbacks to there.";
    let url = json!({ "type": "string", "format": "uri" });
    let events = "What is told there, separated by commas; the ends unless set.";
    [header("Callback-Url", says, url), header("Callback-Events", events, text())]
}

/// The other fields that a client may add to a request.
fn additions() -> Vec<Value> {
    let tag = r"[!#-+\--\[\]-~]{1,100}";
    let whole =
        |least: u32, most: u64| json!({ "type": "integer", "minimum": least, "maximum": most });
    vec![
        header(
            "Operation-Tags",
            "What it can be found by: up to 16, separated by commas.",
            matching(&format!("^{tag}(, ?{tag}){{0,15}}$")),
        ),
        header("Operation-Delay", "Seconds before it begins.", whole(0, 31_536_000)),
        header(
            "Operation-Timeout",
            "Seconds for one attempt; lowers the route's.",
            whole(1, 86_400),
        ),
        header(
            "Operation-Deadline",
            "Seconds for the whole; lowers the route's.",
            whole(1, 86_400),
        ),
        header(
            "Operation-Serial-Key",
            "One at a time of those that share it.",
            matching("^[!-~]{1,255}$"),
        ),
        header(
            "Operation-Parent",
            "The operation that gave rise to it.",
            json!({ "type": "string", "format": "uuid" }),
        ),
        header(
            "Client-Reference",
            "What the client calls it.",
            matching("^[!-~]([ -~]{0,254}[!-~])?$"),
        ),
    ]
}

fn text() -> Value {
    super::parts::text()
}

fn matching(pattern: &str) -> Value {
    json!({ "type": "string", "pattern": pattern })
}
