//! The operation document.

use serde_json::{Value, json};

use crate::support::gateway::order;
use crate::support::{Answer, Gateway, Setup, Ticket, Upstream, get, post};

/// Every member that a client may rely on.
const MEMBERS: &[&str] = &[
    "id",
    "status",
    "createdAt",
    "startedAt",
    "finishedAt",
    "expiresAt",
    "request",
    "route",
    "queue",
    "attempts",
    "resumes",
    "rescues",
    "nextAttemptAt",
    "waitingFor",
    "percentComplete",
    "message",
    "responseStatus",
    "resourceLocation",
    "createdLocation",
    "error",
    "verdict",
    "tags",
    "clientReference",
    "parent",
    "retryOf",
    "retriedBy",
    "links",
];

fn is_rfc_3339_in_utc(value: &Value) -> bool {
    let Some(text) = value.as_str() else { return false };
    text.len() >= 20 && text.ends_with('Z') && &text[10..11] == "T" && text.starts_with("2026-11-2")
}

#[tokio::test]
async fn it_is_always_200_and_never_a_redirect() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    gateway.get(&ticket.at("status")).await.expect(200);
    upstream.release("/orders");
    gateway.settled(&ticket).await;
    let answer = gateway.get(&ticket.at("status")).await.expect(200);
    assert_eq!(answer.field("cache-control"), Some("no-store"));
    assert_eq!(answer.field("gateway-origin"), Some("cloakroom"));
}

#[tokio::test]
async fn it_has_every_member_in_every_state() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let done = gateway.post_order().await;
    let finished = gateway.settled(&done).await;
    let later = gateway.accept(order().field("Operation-Delay", "60")).await;
    let queued = gateway.document(&later).await;
    for document in [&finished, &queued] {
        for member in MEMBERS {
            assert!(document.get(member).is_some(), "{member} in {document}");
        }
        assert!(is_rfc_3339_in_utc(&document["createdAt"]), "{document}");
    }
}

#[tokio::test]
async fn a_finished_one_says_when_and_how_it_ended_and_when_it_expires() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    let document = gateway.settled(&ticket).await;
    for member in ["startedAt", "finishedAt", "expiresAt"] {
        assert!(is_rfc_3339_in_utc(&document[member]), "{member}: {document}");
    }
    let here = format!("{}{}", gateway.origin(), ticket.monitor);
    assert_eq!(document["status"], "succeeded");
    assert_eq!(document["attempts"], 1);
    assert_eq!(document["resumes"], 0);
    assert_eq!(document["rescues"], 0);
    assert_eq!(document["responseStatus"], 201);
    assert_eq!(document["resourceLocation"], format!("{here}/result"));
    assert_eq!(document["createdLocation"], format!("{}/orders/1", gateway.origin()));
    assert_eq!(document["error"], Value::Null);
    assert_eq!(document["links"]["monitor"], here);
    assert_eq!(document["links"]["result"], format!("{here}/result"));
    assert_eq!(document["links"]["events"], format!("{here}/events"));
}

#[tokio::test]
async fn while_it_runs_it_says_since_when_and_nothing_of_an_end() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    upstream.until_received("/orders", 1).await;
    let document = gateway.document(&ticket).await;
    assert_eq!((&document["status"], &document["attempts"]), (&json!("running"), &json!(1)));
    assert!(is_rfc_3339_in_utc(&document["startedAt"]), "{document}");
    for member in [
        "finishedAt",
        "expiresAt",
        "nextAttemptAt",
        "waitingFor",
        "responseStatus",
        "resourceLocation",
        "createdLocation",
        "error",
    ] {
        assert_eq!(document[member], Value::Null, "{member}");
    }
}

#[tokio::test]
async fn it_is_200_also_of_what_failed_was_canceled_freed_or_has_expired() {
    let upstream = Upstream::start().await;
    upstream.on("/failing", Answer::status(400));
    let gateway = Gateway::before(&upstream).await;
    let failed = gateway.accept(post("/failing")).await;
    gateway.settled(&failed).await;
    let canceled = gateway.accept(order().field("Operation-Delay", "60")).await;
    gateway.send(post(canceled.at("cancel"))).await.expect(200);
    let freed = gateway.post_order().await;
    gateway.settled(&freed).await;
    let free = crate::support::Request::new("DELETE", &*freed.monitor);
    gateway.send(free).await.expect(204);
    let all = [(&failed, "failed"), (&canceled, "canceled"), (&freed, "succeeded")];
    for (ticket, status) in all {
        assert_eq!(gateway.document(ticket).await["status"], status);
    }
    gateway.advance(25 * 3600);
    gateway
        .while_stepping(60, "the 410", || async {
            (gateway.get(&failed.monitor).await.status == 410).then_some(())
        })
        .await;
    for (ticket, status) in all {
        assert_eq!(gateway.document(ticket).await["status"], status);
    }
}

#[tokio::test]
async fn one_that_is_due_later_is_queued_and_says_when() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.accept(order().field("Operation-Delay", "60")).await;
    let document = gateway.document(&ticket).await;
    assert_eq!(document["status"], "queued");
    let due = document["nextAttemptAt"].as_str().unwrap();
    assert!(due.starts_with("2026-11-21T08:01:00"), "{due}");
    assert_eq!(document["startedAt"], Value::Null);
    assert_eq!(document["attempts"], 0);
}

#[tokio::test]
async fn it_names_its_route_and_its_queue() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream)
        .set("queues.urgent", "max_depth = 100")
        .route("POST /orders", "name = \"orders\"\nqueue = \"urgent\"")
        .start()
        .await;
    let ticket = gateway.accept(post("/orders?secret=1").body("text/plain", "x")).await;
    let document = gateway.document(&ticket).await;
    assert_eq!(document["queue"], "urgent");
    assert_eq!(document["route"], "orders");
    assert_eq!(document["request"]["method"], "POST");
    assert!(document["request"]["url"].as_str().unwrap().starts_with("/orders"));
}

#[tokio::test]
async fn without_a_name_for_it_the_queue_is_the_default_one() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    assert_eq!(gateway.document(&ticket).await["queue"], "default");
}

/// The document of an order that the upstream answers like this.
async fn after(answer: Answer) -> (Upstream, Gateway, Ticket, Value) {
    let upstream = Upstream::start().await;
    upstream.on("/orders", answer);
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    let document = gateway.settled(&ticket).await;
    (upstream, gateway, ticket, document)
}

#[tokio::test]
async fn a_2xx_of_the_upstream_is_success() {
    for status in [200, 201, 203, 204, 206, 299] {
        let (_upstream, _gateway, _ticket, document) = after(Answer::status(status)).await;
        assert_eq!(document["status"], "succeeded", "{status}");
        assert_eq!(document["responseStatus"], status);
    }
}

#[tokio::test]
async fn any_other_status_is_failure_with_a_code_and_what_to_do() {
    for status in [400, 401, 404, 409, 422, 500, 501] {
        let (_upstream, _gateway, _ticket, document) = after(Answer::status(status)).await;
        assert_eq!(document["status"], "failed", "{status}");
        assert_eq!(document["error"]["code"], "upstream-status");
        assert_eq!(document["responseStatus"], status);
        assert!(document["error"]["message"].as_str().unwrap().len() > 20);
        assert!(document["error"].get("cause").is_some());
    }
}

#[tokio::test]
async fn other_redirects_are_a_failure() {
    for status in [300, 301, 304, 305] {
        let answer = Answer::status(status).field("Location", "/elsewhere");
        let (upstream, _gateway, _ticket, document) = after(answer).await;
        assert_eq!(document["error"]["code"], "upstream-redirect", "{status}: {document}");
        upstream.only();
    }
}

#[tokio::test]
async fn a_307_or_308_on_the_upstreams_own_origin_is_followed_with_method_and_body() {
    for status in [307, 308] {
        let answer = Answer::status(status).field("Location", "/orders/");
        let (upstream, _gateway, _ticket, document) = after(answer).await;
        assert_eq!(document["status"], "succeeded", "{status}: {document}");
        let received = upstream.received();
        assert_eq!(received.len(), 2);
        assert_eq!(received[1].target, "/orders/");
        assert_eq!(received[1].method, "POST");
        assert_eq!(received[1].body, received[0].body);
    }
}

#[tokio::test]
async fn at_most_five_redirects_are_followed() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", Answer::status(307).field("Location", "/again"));
    upstream.on("/again", Answer::status(307).field("Location", "/orders"));
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    let document = gateway.settled(&ticket).await;
    assert_eq!(document["error"]["code"], "upstream-redirect");
    assert_eq!(upstream.received().len(), 6, "the first and five followed");
}

#[tokio::test]
async fn a_307_to_another_origin_is_not_followed() {
    let other = Upstream::start().await;
    let answer = Answer::status(307).field("Location", &format!("{}/orders", other.url()));
    let (_upstream, _gateway, _ticket, document) = after(answer).await;
    assert_eq!(document["error"]["code"], "upstream-redirect");
    assert!(other.received().is_empty());
}

#[tokio::test]
async fn a_final_document_never_changes() {
    let (_upstream, gateway, ticket, document) = after(Answer::Orders).await;
    gateway.advance(3600);
    gateway.send(post(ticket.at("cancel"))).await.problem(409);
    assert_eq!(gateway.document(&ticket).await, document);
    let gateway = gateway.restart().await;
    let mut after = gateway.document(&ticket).await;
    // A restart on another port changes what the links begin with, and nothing else.
    let mut before = document;
    for volatile in ["links", "resourceLocation", "createdLocation"] {
        for document in [&mut after, &mut before] {
            document[volatile] = json!(null);
        }
    }
    assert_eq!(after, before);
}

#[tokio::test]
async fn head_and_unknown_resources_are_answered_too() {
    let (_upstream, gateway, ticket, _) = after(Answer::Orders).await;
    let head = crate::support::Request::new("HEAD", ticket.at("status"));
    assert_eq!(gateway.send(head).await.expect(200).body, b"");
    gateway.send(get(ticket.at("nothing"))).await.problem(404);
    let answer = gateway.send(post(ticket.at("status"))).await;
    answer.expect_field("allow");
    answer.problem(405);
}

#[tokio::test]
async fn while_pending_it_says_when_to_ask_again_and_once_ended_no_more() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    let later = gateway.accept(post("/later").field("Operation-Delay", "60")).await;
    upstream.until_received("/orders", 1).await;
    for pending in [&ticket, &later] {
        let answer = gateway.get(&pending.at("status")).await.expect(200);
        assert_eq!(answer.all("retry-after"), ["1"]);
    }
    upstream.release("/orders");
    gateway.settled(&ticket).await;
    let answer = gateway.get(&ticket.at("status")).await.expect(200);
    assert_eq!(answer.field("retry-after"), None);
}

#[tokio::test]
async fn the_time_to_ask_again_follows_what_the_document_has_shown() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    upstream.until_received("/orders", 1).await;
    gateway.advance(7);
    upstream.release("/orders");
    gateway.settled(&ticket).await;
    upstream.hold("/orders");
    let next = gateway.post_order().await;
    let answer = gateway.get(&next.at("status")).await.expect(200);
    assert_eq!(answer.all("retry-after"), ["7"]);
}

#[tokio::test]
async fn after_success_it_is_complete_whatever_was_reported() {
    let (_upstream, _gateway, _ticket, document) = after(Answer::Orders).await;
    assert_eq!(document["percentComplete"], 100);
    let (_upstream, _gateway, _ticket, document) = after(Answer::status(400)).await;
    assert_eq!(document["percentComplete"], json!(null));
}

#[tokio::test]
async fn a_canceled_one_has_an_error_too() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.accept(order().field("Operation-Delay", "60")).await;
    let canceled = gateway.send(post(ticket.at("cancel"))).await.expect(200).json();
    assert_eq!(canceled["error"]["code"], "canceled");
    assert!(canceled["error"]["message"].as_str().unwrap().contains("send it anew"));
    assert_eq!(gateway.document(&ticket).await, canceled);
    let problem = gateway.get(&ticket.at("result")).await.problem(409);
    assert_eq!(problem["error"]["code"], "canceled");
}
