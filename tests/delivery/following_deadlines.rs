//! Followed work without an end at its deadline.

use serde_json::json;

use super::following::accepted;
use crate::support::gateway::order;
use crate::support::{Answer, Request, Setup, Upstream};

/// What an upstream's monitor answers that never says how the work ended.
fn without_an_end() -> [(&'static str, Answer); 6] {
    let word = Answer::status(200).json(&json!({"status": "simmering"}));
    let login = Answer::status(302).field("Location", "http://login.invalid/sso");
    [
        ("Location", accepted("Location", "/jobs/1")),
        ("Operation-Location", word),
        ("Location", login),
        ("Location", Answer::status(401)),
        ("Location", Answer::status(503)),
        ("Location", Answer::Reset),
    ]
}

#[tokio::test]
async fn at_most_once_work_without_an_end_at_the_deadline_is_an_unknown_outcome() {
    for (field, monitor) in without_an_end() {
        let upstream = Upstream::start().await;
        upstream.on("/orders", accepted(field, "/jobs/1"));
        upstream.on("/jobs/1", monitor.clone());
        let route = "deadline = \"30s\"";
        let gateway = Setup::before(&upstream).route("POST /orders", route).start().await;
        let keyed = || order().field("Idempotency-Key", "\"k-1\"");
        let ticket = gateway.accept(keyed()).await;
        let document = gateway.settled_by_steps_of(5, &ticket).await;
        let error = &document["error"];
        assert_eq!(error["code"], "outcome-unknown", "{monitor:?}: {document}");
        assert_eq!(error["cause"], "deadline-exceeded", "{monitor:?}: {document}");
        let message = error["message"].as_str().unwrap();
        assert!(!message.to_lowercase().contains("retry"), "{message}");
        assert!(message.contains("Check with the upstream"), "{message}");
        let unknown =
            gateway.admin(Request::new("GET", "/-/operations?unknown=true")).await.expect(200);
        assert!(unknown.text().contains(&*ticket.id), "{}", unknown.text());
        gateway.get(&ticket.at("result")).await.expect(424);
        // The key stays with it: a repeat is not another execution.
        let again = gateway.send(keyed()).await;
        assert_eq!(again.field("idempotency-replayed"), Some("true"));
        assert_eq!(upstream.received_at("/orders").len(), 1);
    }
}

#[tokio::test]
async fn at_least_once_work_without_an_end_at_the_deadline_says_that_it_was_sent() {
    for (field, monitor) in without_an_end() {
        let upstream = Upstream::start().await;
        upstream.on("/orders", accepted(field, "/jobs/1"));
        upstream.on("/jobs/1", monitor.clone());
        let route = "deadline = \"30s\"\ndelivery = \"at-least-once\"";
        let gateway = Setup::before(&upstream).route("POST /orders", route).start().await;
        let ticket = gateway.post_order().await;
        let document = gateway.settled_by_steps_of(5, &ticket).await;
        let error = &document["error"];
        assert_eq!(error["code"], "deadline-exceeded", "{monitor:?}: {document}");
        assert_eq!(error["cause"], "outcome-unknown", "{monitor:?}: {document}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("after the request was sent"), "{message}");
        assert!(message.contains("Check with the upstream"), "{message}");
        assert_eq!(upstream.received_at("/orders").len(), 1);
    }
}

#[tokio::test]
async fn work_without_an_end_at_the_deadline_is_asked_about_where_it_can_be() {
    for delivery in ["at-most-once", "at-least-once"] {
        for (answer, status, code) in [
            (Answer::status(200), "succeeded", None),
            (Answer::status(404), "failed", Some("deadline-exceeded")),
            (Answer::status(500), "failed", None),
        ] {
            let upstream = Upstream::start().await;
            upstream.on("/orders", accepted("Location", "/jobs/1"));
            upstream.on("/jobs/1", accepted("Location", "/jobs/1"));
            upstream.on("/made", answer.clone());
            let route = format!(
                "deadline = \"30s\"\ndelivery = {delivery:?}\n\
                 recheck = \"GET /made?ref={{operation_id}}\""
            );
            let gateway = Setup::before(&upstream).route("POST /orders", &route).start().await;
            let ticket = gateway.post_order().await;
            // A step as long as a recheck may take would end one that is on its way.
            let document = gateway.settled_by_steps_of(1, &ticket).await;
            assert_eq!(document["status"], status, "{delivery} {answer:?}: {document}");
            let unknown = [&document["error"]["code"], &document["error"]["cause"]]
                .contains(&&"outcome-unknown".into());
            assert_eq!(unknown, status == "failed" && code.is_none(), "{document}");
            if let Some(code) = code {
                assert_eq!(document["error"]["code"], code, "{document}");
            }
            assert_eq!(upstream.received_at("/made").len(), 1, "{answer:?}");
            assert_eq!(upstream.received_at("/orders").len(), 1);
        }
    }
}

#[tokio::test]
async fn work_of_an_upstream_that_is_no_longer_configured_is_an_unknown_outcome() {
    for (delivery, code, cause) in [
        ("at-most-once", "outcome-unknown", "route-removed"),
        ("at-least-once", "route-removed", "outcome-unknown"),
    ] {
        let (one, two) = (Upstream::start().await, Upstream::start().await);
        two.on("/orders", accepted("Location", "/jobs/1"));
        let route = format!("upstream = \"other\"\ndelivery = {delivery:?}");
        let gateway = Setup::before(&one)
            .set("upstreams.other", &format!("url = {:?}", two.url()))
            .route("POST /orders", &route)
            .start()
            .await;
        let ticket = gateway.post_order().await;
        gateway.until_status(&ticket, "waiting").await;
        let gateway = gateway.restart_with(Setup::before(&one)).await;
        let document = gateway.settled_by_steps_of(5, &ticket).await;
        assert_eq!(document["error"]["code"], code, "{document}");
        assert_eq!(document["error"]["cause"], cause, "{document}");
        let message = document["error"]["message"].as_str().unwrap();
        assert!(!message.to_lowercase().contains("retry"), "{message}");
        assert_eq!(two.received_at("/orders").len(), 1);
    }
}
