//! An upstream that answers 202 with a monitor of its own.

use serde_json::{Value, json};

use crate::support::gateway::{is_final, order};
use crate::support::{Answer, Gateway, Request, Setup, Ticket, Upstream, post};

fn accepted(field: &str, monitor: &str) -> Answer {
    Answer::status(202).field(field, monitor).field("Retry-After", "2")
}

/// An operation that waits for `/jobs/1` of its upstream.
async fn waiting(upstream: &Upstream) -> (Gateway, Ticket) {
    upstream.on("/orders", accepted("Location", "/jobs/1"));
    upstream.on("/jobs/1", accepted("Location", "/jobs/1"));
    let gateway = Gateway::before(upstream).await;
    let ticket = gateway.post_order().await;
    gateway.until_status(&ticket, "waiting").await;
    (gateway, ticket)
}

#[tokio::test]
async fn it_is_followed_until_it_is_done_and_nothing_is_resent() {
    for field in ["Location", "Operation-Location"] {
        let upstream = Upstream::start().await;
        upstream.on("/orders", accepted(field, "/jobs/1"));
        let done = Answer::status(200).json(&json!({"done": true}));
        upstream.script("/jobs/1", [accepted("Location", "/jobs/1"), done]);
        let gateway = Gateway::before(&upstream).await;
        let ticket = gateway.post_order().await;
        let document = gateway.until_status(&ticket, "waiting").await;
        assert_eq!(document["waitingFor"], "upstream");
        let document = gateway.settled_by_steps_of(1, &ticket).await;
        assert_eq!(document["status"], "succeeded", "{field}: {document}");
        let result = gateway.get(&ticket.at("result")).await.expect(200);
        assert_eq!(result.json(), json!({"done": true}));
        assert_eq!(upstream.received_at("/orders").len(), 1);
        let polls = upstream.received_at("/jobs/1");
        assert_eq!(polls.len(), 2);
        assert!(polls.iter().all(|poll| poll.method == "GET"), "{polls:?}");
    }
}

#[tokio::test]
async fn it_is_asked_as_often_as_its_retry_after_says() {
    let upstream = Upstream::start().await;
    upstream
        .on("/orders", Answer::status(202).field("Location", "/jobs/1").field("Retry-After", "20"));
    upstream.on("/jobs/1", Answer::status(200));
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    let document = gateway.until_status(&ticket, "waiting").await;
    let due = document["nextAttemptAt"].as_str().map(str::to_owned);
    gateway.advance(19);
    let after = gateway.accept(post("/after")).await;
    gateway.settled(&after).await;
    assert!(upstream.received_at("/jobs/1").is_empty(), "due at {due:?}");
    let document = gateway.settled_by_steps_of(1, &ticket).await;
    assert_eq!(document["status"], "succeeded");
}

#[tokio::test]
async fn its_retry_after_is_kept_between_1_and_60_seconds() {
    let upstream = Upstream::start().await;
    let slow = Answer::status(202).field("Location", "/jobs/1").field("Retry-After", "86400");
    upstream.on("/orders", slow);
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    gateway.until_status(&ticket, "waiting").await;
    gateway.advance(61);
    gateway.settled(&ticket).await;
    let eager = Answer::status(202).field("Location", "/jobs/1").field("Retry-After", "0");
    upstream.on("/orders", eager);
    let ticket = gateway.post_order().await;
    gateway.until_status(&ticket, "waiting").await;
    let after = gateway.accept(post("/after")).await;
    gateway.settled(&after).await;
    assert_eq!(gateway.document(&ticket).await["status"], "waiting", "without a pause");
    gateway.settled_by_steps_of(1, &ticket).await;
}

#[tokio::test]
async fn monitors_of_one_upstream_that_do_not_answer_keep_no_other_one_waiting() {
    let (silent, well) = (Upstream::start().await, Upstream::start().await);
    silent.on("/silent", accepted("Location", "/jobs/1"));
    silent.on("/jobs/1", Answer::Never);
    well.on("/orders", accepted("Location", "/jobs/2"));
    well.on("/jobs/2", Answer::status(200));
    let gateway = Setup::before(&well)
        .set("upstreams.other", &format!("url = {:?}", silent.url()))
        .route("POST /silent", "upstream = \"other\"")
        .route("POST /orders", "")
        .start()
        .await;
    // More than may be asked at once.
    for _ in 0..100 {
        let ticket = gateway.accept(post("/silent")).await;
        gateway.until_status(&ticket, "waiting").await;
    }
    let ticket = gateway.post_order().await;
    gateway.until_status(&ticket, "waiting").await;
    gateway.advance(3);
    silent.until_received("/jobs/1", 60).await;
    let document = gateway.until_status(&ticket, "succeeded").await;
    assert_eq!(document["responseStatus"], 200);
    assert!(silent.received_at("/jobs/1").len() < 100, "all at once");
}

#[tokio::test]
async fn while_it_waits_it_holds_no_slot() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", accepted("Location", "/jobs/1"));
    upstream.on("/jobs/1", accepted("Location", "/jobs/1"));
    let gateway =
        Setup::before(&upstream).set("upstreams.default", "max_in_flight = 1").start().await;
    for _ in 0..3 {
        let ticket = gateway.post_order().await;
        gateway.until_status(&ticket, "waiting").await;
    }
    let other = gateway.accept(post("/other")).await;
    assert_eq!(gateway.settled(&other).await["status"], "succeeded");
}

#[tokio::test]
async fn a_status_monitor_whose_document_cannot_be_read_is_asked_again() {
    for (document, coding) in [
        (&b"{\"status\":\"Fail"[..], None),
        (b"{\"eta\":NaN,\"status\":\"Running\"}", None),
        (b"not what it says", Some("gzip")),
        (b"", None),
        (b" \r\n", None),
        (b"{\"Status\":1}", None),
    ] {
        let upstream = Upstream::start().await;
        upstream.on("/orders", accepted("Operation-Location", "/jobs/1"));
        let answer = Answer::status(200).body("application/json", document.to_vec());
        upstream.on(
            "/jobs/1",
            match coding {
                Some(coding) => answer.field("Content-Encoding", coding),
                None => answer,
            },
        );
        let gateway = Gateway::before(&upstream).await;
        let ticket = gateway.post_order().await;
        let asked = || async { (upstream.received_at("/jobs/1").len() >= 3).then_some(()) };
        gateway.while_stepping(2, "three questions", asked).await;
        assert_eq!(gateway.until_status(&ticket, "waiting").await["status"], "waiting");
        let failed = Answer::status(200).json(&json!({"status": "Failed"}));
        upstream.on("/jobs/1", failed);
        let document = gateway.settled_by_steps_of(2, &ticket).await;
        assert_eq!(document["status"], "failed", "{document}");
    }
}

#[tokio::test]
async fn a_monitor_that_ends_in_an_error_is_a_failure() {
    let upstream = Upstream::start().await;
    let (gateway, ticket) = waiting(&upstream).await;
    upstream.on("/jobs/1", Answer::status(422).body("text/plain", "no"));
    let document = gateway.settled_by_steps_of(1, &ticket).await;
    assert_eq!(document["error"]["code"], "upstream-status", "{document}");
    assert_eq!(document["responseStatus"], 422);
    assert_eq!(upstream.received_at("/orders").len(), 1);
}

#[tokio::test]
async fn an_answer_of_a_monitor_is_not_taken_for_one_to_the_request() {
    for delivery in ["at-most-once", "at-least-once"] {
        for (status, code) in [
            (400, "upstream-status"),
            (405, "outcome-unknown"),
            (409, "upstream-status"),
            (410, "outcome-unknown"),
            (422, "upstream-status"),
        ] {
            let upstream = Upstream::start().await;
            upstream.on("/orders", accepted("Location", "/jobs/1"));
            upstream.on("/jobs/1", Answer::status(status).body("text/plain", "no"));
            let route = format!("delivery = {delivery:?}");
            let gateway = Setup::before(&upstream).route("POST /orders", &route).start().await;
            let ticket = gateway.post_order().await;
            let document = gateway.settled_by_steps_of(1, &ticket).await;
            let error = &document["error"];
            assert_eq!(error["code"], code, "{status}: {document}");
            assert_eq!(error["cause"], "monitor-status", "{status}: {document}");
            assert_eq!(document["responseStatus"], status, "{document}");
            let message = error["message"].as_str().unwrap();
            assert!(message.contains(&format!("its monitor answered {status}")), "{message}");
            assert!(!message.contains("anew") && !message.contains("retry"), "{message}");
            let result = gateway.get(&ticket.at("result")).await;
            let told = if code == "outcome-unknown" { 424 } else { status };
            assert_eq!(result.expect(told).text() == "no", told == status, "{status}");
            assert_eq!(upstream.received_at("/orders").len(), 1);
        }
    }
}

#[tokio::test]
async fn what_a_monitor_does_not_tell_of_is_asked_about_where_it_can_be() {
    for (says, status, sent) in [(200, "succeeded", 1), (404, "succeeded", 2), (500, "failed", 1)] {
        let upstream = Upstream::start().await;
        upstream.script("/orders", [accepted("Location", "/jobs/1")]);
        upstream.on("/jobs/1", Answer::status(410));
        upstream.on("/made", Answer::status(says));
        let route = "retry = { min = \"1s\", max = \"1s\" }\n\
                     recheck = \"GET /made?ref={operation_id}\"";
        let gateway = Setup::before(&upstream).route("POST /orders", route).start().await;
        let ticket = gateway.post_order().await;
        let document = gateway.settled_by_steps_of(1, &ticket).await;
        assert_eq!(document["status"], status, "{says}: {document}");
        assert_eq!(upstream.received_at("/orders").len(), sent, "{says}");
        if status == "failed" {
            assert_eq!(document["error"]["code"], "outcome-unknown", "{document}");
        }
    }
}

#[tokio::test]
async fn trouble_while_asking_is_no_answer() {
    for trouble in [Answer::Reset, Answer::status(503), Answer::Close, Answer::truncated()] {
        let upstream = Upstream::start().await;
        let (gateway, ticket) = waiting(&upstream).await;
        let asked = upstream.received_at("/jobs/1").len();
        upstream.script("/jobs/1", [trouble.clone(), trouble.clone()]);
        gateway
            .while_stepping(1, "two more questions", || async {
                (upstream.received_at("/jobs/1").len() >= asked + 2).then_some(())
            })
            .await;
        upstream.on("/jobs/1", Answer::status(200));
        let document = gateway.settled_by_steps_of(1, &ticket).await;
        assert_eq!(document["status"], "succeeded", "{trouble:?}: {document}");
        assert_eq!(upstream.received_at("/orders").len(), 1);
    }
}

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
            let document = gateway.settled_by_steps_of(5, &ticket).await;
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

#[tokio::test]
async fn after_a_restart_the_following_goes_on() {
    let upstream = Upstream::start().await;
    let (gateway, ticket) = waiting(&upstream).await;
    let gateway = gateway.restart().await;
    assert_eq!(gateway.document(&ticket).await["status"], "waiting");
    upstream.on("/jobs/1", Answer::status(200));
    assert_eq!(gateway.settled_by_steps_of(1, &ticket).await["status"], "succeeded");
    assert_eq!(upstream.received_at("/orders").len(), 1);
}

#[tokio::test]
async fn a_monitor_that_may_not_be_followed_leaves_the_outcome_unknown_and_is_not_sent_again() {
    let (upstream, other) = (Upstream::start().await, Upstream::start().await);
    for delivery in ["at-most-once", "at-least-once"] {
        for field in ["Location", "Operation-Location", "Azure-AsyncOperation", "Content-Location"]
        {
            upstream.on("/orders", accepted(field, &format!("{}/jobs/1", other.url())));
            let route = format!("delivery = {delivery:?}");
            let setup = Setup::before(&upstream).route("POST /orders", &route);
            let gateway = setup.route("POST /after", "").start().await;
            let before = upstream.received_at("/orders").len();
            let ticket = gateway.post_order().await;
            let document = gateway.settled_by_steps_of(1, &ticket).await;
            let error = &document["error"];
            assert_eq!(error["code"], "outcome-unknown", "{field}: {document}");
            assert_eq!(error["cause"], "monitor-not-followed", "{field}: {document}");
            let message = error["message"].as_str().unwrap();
            assert!(message.contains("follow") && message.contains("[upstreams."), "{message}");
            gateway.advance(3600);
            let after = gateway.accept(post("/after")).await;
            gateway.settled(&after).await;
            assert_eq!(upstream.received_at("/orders").len(), before + 1);
        }
    }
    assert!(other.received().is_empty());
}

#[tokio::test]
async fn before_a_monitor_that_may_not_be_followed_leaves_it_unknown_the_upstream_is_asked() {
    let (upstream, other) = (Upstream::start().await, Upstream::start().await);
    upstream.on("/orders", accepted("Operation-Location", &format!("{}/jobs/1", other.url())));
    for delivery in ["at-most-once", "at-least-once"] {
        // Behind a 404 it may be done later still, so it is not sent again.
        for (says, status) in [(200, "succeeded"), (404, "failed"), (500, "failed")] {
            upstream.on("/made", Answer::status(says).field("Content-Location", "/orders/7"));
            let route = format!(
                "delivery = {delivery:?}\nrecheck = \"GET /made?ref={{operation_id}}\"\n\
                 retry = {{ min = \"1s\", max = \"1s\" }}"
            );
            let setup = Setup::before(&upstream).route("POST /orders", &route);
            let gateway = setup.start().await;
            let received = |path| upstream.received_at(path).len();
            let before = (received("/orders"), received("/made"));
            let ticket = gateway.post_order().await;
            let document = gateway.settled_by_steps_of(1, &ticket).await;
            assert_eq!(document["status"], status, "{delivery} {says}: {document}");
            let after = (received("/orders"), received("/made"));
            assert_eq!(after, (before.0 + 1, before.1 + 1), "{delivery} {says}");
            if status == "failed" {
                assert_eq!(document["error"]["cause"], "monitor-not-followed", "{document}");
            } else {
                let created = document["createdLocation"].as_str().unwrap();
                assert!(created.ends_with("/orders/7"), "{created}");
            }
        }
    }
    assert!(other.received().is_empty());
}

#[tokio::test]
async fn a_202_is_the_end_where_it_names_no_monitor_or_its_route_follows_none() {
    let upstream = Upstream::start().await;
    for (answer, route) in [
        (Answer::status(202), ""),
        (Answer::status(202).field("Content-Location", "/orders"), ""),
        (accepted("Location", "/jobs/1"), "follow = false"),
        (accepted("Operation-Location", "https://elsewhere.example/"), "follow = false"),
    ] {
        upstream.on("/orders", answer.body("text/plain", "will do"));
        let gateway = Setup::before(&upstream).route("POST /orders", route).start().await;
        let ticket = gateway.post_order().await;
        let document = gateway.settled(&ticket).await;
        assert_eq!(document["status"], "succeeded", "{document}");
        assert_eq!(document["responseStatus"], 202);
        let result = gateway.get(&ticket.at("result")).await.expect(200);
        assert_eq!(result.text(), "will do");
    }
    assert!(upstream.received_at("/jobs/1").is_empty());
}

#[tokio::test]
async fn a_monitor_named_by_the_public_url_is_asked_at_the_upstream() {
    let upstream = Upstream::start().await;
    for (public_url, host, monitor) in [
        (Some("https://api.example.com"), "ignored.example", "https://api.example.com/jobs/1"),
        (
            Some("https://api.example.com/base"),
            "ignored.example",
            "https://api.example.com/base/jobs/1",
        ),
        (Some("https://api.example.com/base"), "ignored.example", "http://api.example.com/jobs/1"),
        // The upstream was told of the host that a trusted proxy named.
        (None, "two.example:8443", "http://two.example:8443/jobs/1"),
    ] {
        upstream.on("/orders", accepted("Location", monitor));
        upstream.script("/jobs/1", [Answer::status(303).field("Location", "/orders/7")]);
        let setup = Setup::before(&upstream).listen_everywhere();
        let gateway = match public_url {
            Some(url) => setup.set("server", &format!("public_url = {url:?}")).start().await,
            None => setup.set("server", "trusted_proxies = [\"127.0.0.0/8\"]").start().await,
        };
        let before = upstream.received_at("/jobs/1").len();
        let field = if public_url.is_some() { "Host" } else { "X-Forwarded-Host" };
        let answer = gateway.send(order().field(field, host)).await.expect(202);
        let location = answer.expect_field("location");
        let path = &location[location.find("/-/").unwrap()..];
        let ticket = Ticket { id: String::new(), monitor: path.to_owned() };
        let document = gateway.settled_by_steps_of(1, &ticket).await;
        assert_eq!(document["status"], "succeeded", "{monitor}: {document}");
        assert_eq!(upstream.received_at("/jobs/1").len(), before + 1, "{monitor}");
        let created = document["createdLocation"].as_str().unwrap();
        assert!(created.ends_with("/orders/7"), "{created}");
    }
}

#[tokio::test]
async fn the_status_monitor_is_asked_first_and_the_location_beside_it_once_at_the_end() {
    for field in ["Operation-Location", "Azure-AsyncOperation"] {
        let upstream = Upstream::start().await;
        let both = accepted("Location", "/orders/7").field(field, "/jobs/1");
        upstream.on("/orders", both);
        let said = |status: &str| Answer::status(200).json(&json!({"status": status}));
        upstream.script("/jobs/1", [Answer::status(404), said("Running"), said("Succeeded")]);
        upstream.on("/orders/7", Answer::status(200).body("text/plain", "the order"));
        let gateway = Gateway::before(&upstream).await;
        let ticket = gateway.post_order().await;
        let document = gateway.settled_by_steps_of(1, &ticket).await;
        assert_eq!(document["status"], "succeeded", "{field}: {document}");
        let created = format!("{}/orders/7", gateway.origin());
        assert_eq!(document["createdLocation"], created, "{field}");
        let end = gateway.get(&ticket.monitor).await.expect(303);
        assert_eq!(end.field("location"), Some(&*created));
        assert_eq!(gateway.get(&ticket.at("result")).await.expect(200).text(), "the order");
        assert_eq!(upstream.received_at("/jobs/1").len(), 3);
        assert_eq!(upstream.received_at("/orders/7").len(), 1);
    }
}

#[tokio::test]
async fn a_200_of_the_location_beside_a_status_monitor_is_what_was_created_though_it_came_late() {
    let upstream = Upstream::start().await;
    let both = accepted("Location", "/orders/7").field("Operation-Location", "/jobs/1");
    upstream.on("/orders", both);
    upstream.on("/jobs/1", Answer::status(200).json(&json!({"status": "succeeded"})));
    let ready = Answer::status(200).body("text/plain", "the order");
    upstream.script("/orders/7", [accepted("Location", "/orders/7"), Answer::status(503), ready]);
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    let document = gateway.settled_by_steps_of(1, &ticket).await;
    let created = format!("{}/orders/7", gateway.origin());
    assert_eq!(document["createdLocation"], created, "{document}");
    let end = gateway.get(&ticket.monitor).await.expect(303);
    assert_eq!(end.field("location"), Some(&*created));
    assert_eq!(gateway.get(&ticket.at("result")).await.expect(200).text(), "the order");
    assert_eq!(upstream.received_at("/jobs/1").len(), 1);
}

#[tokio::test]
async fn a_monitor_and_what_it_names_may_bear_the_host_that_the_upstream_was_sent() {
    let upstream = Upstream::start().await;
    let setup = Setup::before(&upstream).listen_everywhere();
    let gateway = setup.set("upstreams.default", "preserve_host = true").start().await;
    let host = "shop.example:8443";
    for scheme in ["http", "https"] {
        let named = |path: &str| format!("{scheme}://{host}{path}");
        upstream.on("/orders", accepted("Location", &named("/jobs/1")));
        upstream.on("/jobs/1", Answer::status(303).field("Location", &named("/orders/7")));
        let ticket = gateway.accept(order().field("Host", host)).await;
        let document = gateway.settled_by_steps_of(1, &ticket).await;
        assert_eq!(document["status"], "succeeded", "{scheme}: {document}");
        let sent = upstream.received_at("/jobs/1").pop().unwrap();
        assert_eq!(sent.expect_field("host"), host);
        let end = gateway.get(&ticket.monitor).await.expect(303);
        assert_eq!(end.field("location"), Some(&*format!("{}/orders/7", gateway.origin())));
    }
}

#[tokio::test]
async fn a_job_that_its_status_monitor_calls_failed_has_failed() {
    for word in ["Failed", "dismissed", "error", "canceled"] {
        let upstream = Upstream::start().await;
        let both = accepted("Location", "/orders/7").field("Operation-Location", "/jobs/1");
        upstream.on("/orders", both);
        upstream.on("/jobs/1", Answer::status(200).json(&json!({"status": word})));
        let gateway = Gateway::before(&upstream).await;
        let ticket = gateway.post_order().await;
        let document = gateway.settled_by_steps_of(1, &ticket).await;
        assert_eq!(document["status"], "failed", "{word}: {document}");
        assert!(upstream.received_at("/orders/7").is_empty(), "{word}");
    }
}

#[tokio::test]
async fn the_location_is_still_known_after_a_restart() {
    let upstream = Upstream::start().await;
    let both = accepted("Location", "/orders/7").field("Operation-Location", "/jobs/1");
    upstream.on("/orders", both);
    upstream.on("/jobs/1", Answer::status(200).json(&json!({"status": "running"})));
    upstream.on("/orders/7", Answer::status(303).field("Location", "/orders/8"));
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    gateway.until_status(&ticket, "waiting").await;
    let gateway = gateway.restart().await;
    upstream.on("/jobs/1", Answer::status(200).json(&json!({"status": "succeeded"})));
    let document = gateway.settled_by_steps_of(1, &ticket).await;
    assert_eq!(document["createdLocation"], format!("{}/orders/8", gateway.origin()));
    assert_eq!(upstream.received_at("/orders").len(), 1);
}

#[tokio::test]
async fn a_login_page_is_not_the_end_of_the_work() {
    let upstream = Upstream::start().await;
    let (gateway, ticket) = waiting(&upstream).await;
    let page = Answer::status(200).body("text/html", "<input type=password>");
    for trouble in [
        Answer::status(302).field("Location", "/login"),
        Answer::status(302).field("Location", "https://sso.example/"),
        page.clone(),
        Answer::status(401),
        Answer::status(403),
    ] {
        upstream.on("/login", page.clone());
        let asked = upstream.received_at("/jobs/1").len();
        upstream.script("/jobs/1", [trouble.clone()]);
        gateway
            .while_stepping(1, "a question behind the trouble", || async {
                (upstream.received_at("/jobs/1").len() >= asked + 2).then_some(())
            })
            .await;
        let document = gateway.until_status(&ticket, "waiting").await;
        assert_eq!(document["status"], "waiting", "{trouble:?}: {document}");
    }
    upstream.on("/jobs/1", Answer::status(302).field("Location", "/jobs/2"));
    upstream.on("/jobs/2", Answer::status(200).body("text/plain", "done"));
    let document = gateway.settled_by_steps_of(1, &ticket).await;
    assert_eq!(
        (&document["status"], &document["responseStatus"]),
        (&json!("succeeded"), &json!(200))
    );
    assert_eq!(document["createdLocation"], Value::Null);
    assert_eq!(gateway.get(&ticket.at("result")).await.expect(200).text(), "done");
}

#[tokio::test]
async fn a_monitor_that_is_not_there_in_its_first_minute_is_waited_for_and_then_is_the_end() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", accepted("Location", "/jobs/1"));
    upstream.on("/jobs/1", Answer::status(404));
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    let asked = || async { (upstream.received_at("/jobs/1").len() >= 5).then_some(()) };
    gateway.while_stepping(1, "five questions", asked).await;
    assert_eq!(gateway.until_status(&ticket, "waiting").await["status"], "waiting");
    let document = gateway.settled_by_steps_of(5, &ticket).await;
    // It tells nothing of the work, which the upstream accepted.
    assert_eq!(document["error"]["code"], "outcome-unknown", "{document}");
    assert_eq!(document["error"]["cause"], "monitor-status", "{document}");
    assert_eq!(document["responseStatus"], 404);
    assert_eq!(upstream.received_at("/orders").len(), 1);
}

#[tokio::test]
async fn a_303_of_the_monitor_of_a_put_names_what_came_of_it() {
    let upstream = Upstream::start().await;
    upstream.on("/things/7", accepted("Location", "/jobs/1"));
    upstream.on("/jobs/1", Answer::status(303).field("Location", "/things/7?v=2"));
    let gateway = Setup::before(&upstream).route("PUT /things/{id}", "").start().await;
    let ticket = gateway.accept(Request::new("PUT", "/things/7")).await;
    let document = gateway.settled_by_steps_of(1, &ticket).await;
    assert_eq!(document["status"], "succeeded", "{document}");
    assert_eq!(document["createdLocation"], format!("{}/things/7?v=2", gateway.origin()));
}

#[tokio::test]
async fn an_upstream_may_tell_of_its_work_in_words_and_places_of_its_own() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", accepted("Location", "/jobs/1"));
    let said = |state: &str| Answer::status(200).json(&json!({"job": {"state": state}}));
    for (ends, status) in [("fertig", "succeeded"), ("kaputt", "failed")] {
        upstream.script("/jobs/1", [said("running"), said("halb"), said(ends)]);
        let words = "monitor = { status = \"/job/state\", succeeded = [\"fertig\"], failed = [\"kaputt\"] }";
        let gateway = Setup::before(&upstream).set("upstreams.default", words).start().await;
        let ticket = gateway.post_order().await;
        let document = gateway.settled_by_steps_of(1, &ticket).await;
        assert_eq!(document["status"], status, "{document}");
    }
    assert_eq!(upstream.received_at("/jobs/1").len(), 6);
}

#[tokio::test]
async fn an_unknown_word_at_any_place_of_a_state_is_no_success() {
    for said in [
        json!({"state": "crashed"}),
        json!({"job": {"status": "exploding"}, "percent": 40}),
        json!({"job": {"status": "COMPLETED_WITH_ERRORS"}}),
        json!({"Phase": "Stuck"}),
    ] {
        let upstream = Upstream::start().await;
        upstream.on("/orders", accepted("Operation-Location", "/jobs/1"));
        upstream.on("/jobs/1", Answer::status(200).json(&said));
        let gateway = Gateway::before(&upstream).await;
        let ticket = gateway.post_order().await;
        let asked = || async { (upstream.received_at("/jobs/1").len() >= 3).then_some(()) };
        gateway.while_stepping(2, "three questions", asked).await;
        assert_eq!(gateway.until_status(&ticket, "waiting").await["status"], "waiting", "{said}");
        let failed = Answer::status(200).json(&json!({"job": {"status": "failed"}}));
        upstream.on("/jobs/1", failed);
        let document = gateway.settled_by_steps_of(2, &ticket).await;
        assert_eq!(document["status"], "failed", "{said}: {document}");
    }
}

#[tokio::test]
async fn an_unknown_word_is_logged_once_it_has_stood_for_long() {
    let (lines, written) = std::sync::mpsc::channel::<String>();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN);
    let _log = tracing::subscriber::set_default(
        subscriber.with_writer(move || Lines(lines.clone())).finish(),
    );
    let upstream = Upstream::start().await;
    upstream.on("/orders", accepted("Operation-Location", "/jobs/1"));
    upstream.on("/jobs/1", Answer::status(200).json(&json!({"status": "Brewing"})));
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    gateway.until_status(&ticket, "waiting").await;
    let told = || written.try_iter().any(|line| line.contains("Brewing"));
    let asked = || async { (upstream.received_at("/jobs/1").len() >= 3).then_some(()) };
    gateway.while_stepping(1, "three questions", asked).await;
    assert!(!told(), "at once");
    gateway.while_stepping(20, "a line in the log", || async { told().then_some(()) }).await;
    assert_eq!(gateway.document(&ticket).await["status"], "waiting");
}

/// Where the log goes.
struct Lines(std::sync::mpsc::Sender<String>);

impl std::io::Write for Lines {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        let _ = self.0.send(String::from_utf8_lossy(octets).into_owned());
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// One gateway before another one, which is before this upstream.
async fn two_gateways(upstream: &Upstream) -> (Gateway, Gateway) {
    let inner = Gateway::before(upstream).await;
    let outer = Setup::before_url(&inner.origin()).start().await;
    (outer, inner)
}

/// Moves both clocks until the outer operation is final.
async fn settled_by_both(outer: &Gateway, inner: &Gateway, ticket: &Ticket) -> Value {
    outer
        .while_stepping(1, "a final state", || async {
            inner.advance(1);
            Some(outer.document(ticket).await).filter(is_final)
        })
        .await
}

#[tokio::test]
async fn two_gateways_in_a_row_lead_to_what_was_created() {
    let upstream = Upstream::start().await;
    let (outer, inner) = two_gateways(&upstream).await;
    let ticket = outer.post_order().await;
    let document = settled_by_both(&outer, &inner, &ticket).await;
    assert_eq!(document["status"], "succeeded", "{document}");
    let created = format!("{}/orders/1", outer.origin());
    assert_eq!(document["createdLocation"], created);
    let end = outer.get(&ticket.monitor).await.expect(303);
    assert_eq!(end.field("location"), Some(&*created));
    assert_eq!(outer.get("/orders/1").await.expect(200).json(), json!({"shown": "/orders/1"}));
    assert_eq!(upstream.received_at("/orders").len(), 1);
}

#[tokio::test]
async fn two_gateways_in_a_row_lead_to_the_recorded_answer() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", Answer::status(200).field("X-Own", "a").body("text/plain", "done"));
    let (outer, inner) = two_gateways(&upstream).await;
    let ticket = outer.post_order().await;
    let document = settled_by_both(&outer, &inner, &ticket).await;
    assert_eq!(document["status"], "succeeded", "{document}");
    assert_eq!(document["createdLocation"], Value::Null);
    let result = outer.get(&ticket.at("result")).await.expect(200);
    assert_eq!((result.text(), result.field("x-own")), ("done".to_owned(), Some("a")));
}

#[tokio::test]
async fn two_gateways_in_a_row_agree_on_a_failure() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", Answer::status(422).body("text/plain", "no"));
    let (outer, inner) = two_gateways(&upstream).await;
    let ticket = outer.post_order().await;
    let document = settled_by_both(&outer, &inner, &ticket).await;
    assert_eq!(document["status"], "failed", "{document}");
    assert_eq!(document["error"]["code"], "upstream-status", "{document}");
    assert_eq!(document["responseStatus"], 422, "{document}");
    let result = outer.get(&ticket.at("result")).await.expect(422);
    assert_eq!((result.text(), result.field("upstream-status")), ("no".to_owned(), Some("422")));
    assert_eq!(upstream.received_at("/orders").len(), 1);
}

#[tokio::test]
async fn two_gateways_in_a_row_agree_on_an_unknown_outcome() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", Answer::Reset);
    let (outer, inner) = two_gateways(&upstream).await;
    let ticket = outer.post_order().await;
    let document = settled_by_both(&outer, &inner, &ticket).await;
    assert_eq!(document["status"], "failed", "{document}");
    assert_eq!(document["error"]["code"], "outcome-unknown", "{document}");
    let problem = outer.get(&ticket.at("result")).await.expect(424).json();
    // The inner gateway's answer, and not its document.
    assert_eq!(problem["type"], "urn:cloakroom:problem:no-answer", "{problem}");
    assert_eq!(problem["error"]["code"], "outcome-unknown", "{problem}");
    assert_eq!(upstream.received_at("/orders").len(), 1);
}

/// One gateway with such a route before another one that delivers at least once and waits for its
/// end by itself.
async fn before_a_repeating_one(upstream: &Upstream, lines: &str) -> (Gateway, Gateway) {
    let again = "delivery = \"at-least-once\"\n\
                 retry = { attempts = 3, min = \"1s\", max = \"1s\" }";
    let inner = Setup::before(upstream).route("POST /orders", again).max_response(1000);
    let inner = inner.start().await;
    let outer = Setup::before_url(&inner.origin()).route("POST /orders", lines).start().await;
    (outer, inner)
}

#[tokio::test]
async fn a_proxy_s_answer_that_a_gateway_behind_has_recorded_is_as_ambiguous_as_a_direct_one() {
    let (once, again) = ("", "delivery = \"at-least-once\"");
    let page = Answer::status(502).body("text/html", vec![b'x'; 2 << 10]);
    for (answer, lines, code) in [
        (Answer::status(502), once, "outcome-unknown"),
        (Answer::status(524), once, "outcome-unknown"),
        (page, once, "outcome-unknown"),
        (Answer::status(502), again, "upstream-status"),
        (Answer::status(521), once, "upstream-status"),
        (Answer::status(500), once, "upstream-status"),
    ] {
        let upstream = Upstream::start().await;
        upstream.on("/orders", answer.clone());
        let (outer, inner) = before_a_repeating_one(&upstream, lines).await;
        let ticket = outer.post_order().await;
        let document = settled_by_both(&outer, &inner, &ticket).await;
        assert_eq!(document["error"]["code"], code, "{lines}: {document}");
    }
}

#[tokio::test]
async fn what_a_gateway_behind_calls_unprocessed_is_no_unknown_outcome() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", Answer::status(502));
    let inner = Setup::before(&upstream)
        .route("POST /orders", "delivery = \"at-least-once\"\nretry = { attempts = 1 }")
        .start()
        .await;
    let outer = Setup::before_url(&inner.origin())
        .set("upstreams.default", "unprocessed = [502]")
        .start()
        .await;
    let ticket = outer.post_order().await;
    let document = settled_by_both(&outer, &inner, &ticket).await;
    assert_eq!(document["error"]["code"], "upstream-status", "{document}");
}

#[tokio::test]
async fn a_recheck_decides_about_what_a_gateway_behind_has_recorded() {
    for (says, status, code) in [
        (200, "succeeded", Value::Null),
        (500, "failed", json!("outcome-unknown")),
        (404, "failed", json!("attempts-exhausted")),
    ] {
        let upstream = Upstream::start().await;
        upstream.on("/orders", Answer::status(502));
        upstream.on("/made", Answer::status(says).body("text/plain", "made"));
        let recheck = "recheck = \"GET /made?ref={operation_id}\"\n\
                       retry = { attempts = 2, min = \"1s\", max = \"1s\" }";
        let (outer, inner) = before_a_repeating_one(&upstream, recheck).await;
        let ticket = outer.post_order().await;
        let document = settled_by_both(&outer, &inner, &ticket).await;
        assert_eq!(document["status"], status, "{says}: {document}");
        assert_eq!(document["error"].get("code").unwrap_or(&Value::Null), &code, "{document}");
        if says == 200 {
            assert_eq!(outer.get(&ticket.at("result")).await.expect(200).text(), "made");
        }
    }
}

/// One gateway before another one that answers synchronously.
async fn before_a_synchronous_one(upstream: &Upstream, lines: &str) -> (Gateway, Gateway) {
    let sync = "mode = \"sync\"\nallow = [\"sync\"]";
    let inner = Setup::before(upstream).route("POST /orders", sync).start().await;
    let outer = Setup::before_url(&inner.origin()).route("POST /orders", lines).start().await;
    (outer, inner)
}

#[tokio::test]
async fn what_a_synchronous_gateway_behind_does_not_know_is_unknown() {
    for delivery in ["at-most-once", "at-least-once"] {
        for trouble in [Answer::Reset, Answer::truncated(), Answer::Raw(b"<html>".to_vec())] {
            let upstream = Upstream::start().await;
            upstream.on("/orders", trouble.clone());
            let lines = format!("delivery = {delivery:?}");
            let (outer, _inner) = before_a_synchronous_one(&upstream, &lines).await;
            let ticket = outer.post_order().await;
            let document = outer.settled(&ticket).await;
            let error = &document["error"];
            assert_eq!(error["code"], "outcome-unknown", "{delivery} {trouble:?}: {document}");
            assert_eq!(error["cause"], "upstream-status", "{document}");
            let message = error["message"].as_str().unwrap();
            assert!(message.contains("another gateway"), "{message}");
            let result = outer.get(&ticket.at("result")).await.expect(424).json();
            assert_eq!(result["type"], "urn:cloakroom:problem:no-answer", "{result}");
            assert_eq!(upstream.received_at("/orders").len(), 1);
        }
    }
}

#[tokio::test]
async fn a_recheck_decides_about_what_a_gateway_behind_does_not_know() {
    for (says, status) in [(200, "succeeded"), (500, "failed")] {
        let upstream = Upstream::start().await;
        upstream.on("/orders", Answer::Reset);
        upstream.on("/made", Answer::status(says));
        let recheck = "recheck = \"GET /made?ref={idempotency_key}\"";
        let (outer, _inner) = before_a_synchronous_one(&upstream, recheck).await;
        let document = outer.settled(&outer.post_order().await).await;
        assert_eq!(document["status"], status, "{says}: {document}");
    }
}

#[tokio::test]
async fn a_424_of_a_service_means_what_it_says() {
    let told = json!({"type": "urn:cloakroom:problem:no-answer", "code": "outcome-unknown"});
    for answer in [
        Answer::status(424).body("application/xml", "<multistatus/>"),
        Answer::status(424).json(&told),
        Answer::status(424).field("Gateway-Origin", "upstream").json(&told),
    ] {
        let upstream = Upstream::start().await;
        upstream.on("/orders", answer.clone());
        let gateway = Gateway::before(&upstream).await;
        let document = gateway.settled(&gateway.post_order().await).await;
        assert_eq!(document["error"]["code"], "upstream-status", "{answer:?}: {document}");
    }
}

#[tokio::test]
async fn a_status_document_in_which_no_state_can_be_read_is_asked_for_again() {
    let long = json!({"log": "x".repeat(2 << 20), "status": "running"});
    for said in [
        json!([]),
        json!([{"status": "running"}]),
        json!({"job": {"status": "running"}}),
        json!({"status": {"state": "running"}}),
        json!({"status": null}),
        json!({"Status": "Running"}),
        json!({"Job": {"State": "InProgress"}}),
        long,
    ] {
        let upstream = Upstream::start().await;
        upstream.on("/orders", accepted("Operation-Location", "/jobs/1"));
        let done = json!({"job": {"status": "succeeded"}});
        let (said, done) = (Answer::status(200).json(&said), Answer::status(200).json(&done));
        upstream.script("/jobs/1", [said.clone(), said, done]);
        let gateway = Gateway::before(&upstream).await;
        let ticket = gateway.post_order().await;
        let document = gateway.settled_by_steps_of(1, &ticket).await;
        assert_eq!(document["status"], "succeeded", "{document}");
        assert_eq!(upstream.received_at("/jobs/1").len(), 3);
        let result = gateway.get(&ticket.at("result")).await.expect(200);
        assert_eq!(result.json(), json!({"job": {"status": "succeeded"}}));
    }
}

#[tokio::test]
async fn a_200_without_a_content_type_and_without_content_is_the_end_of_the_work() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", accepted("Operation-Location", "/jobs/1"));
    upstream.on("/jobs/1", Answer::status(200));
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    let document = gateway.settled_by_steps_of(1, &ticket).await;
    assert_eq!(document["status"], "succeeded", "{document}");
}

#[tokio::test]
async fn the_last_of_two_members_of_a_status_document_counts() {
    for (said, status) in [
        (r#"{"status":"running","status":"succeeded"}"#, "succeeded"),
        (r#"{"status":"succeeded","status":"failed"}"#, "failed"),
    ] {
        let upstream = Upstream::start().await;
        upstream.on("/orders", accepted("Operation-Location", "/jobs/1"));
        upstream.script("/jobs/1", [Answer::status(200).body("application/json", said)]);
        let gateway = Gateway::before(&upstream).await;
        let ticket = gateway.post_order().await;
        let document = gateway.settled_by_steps_of(1, &ticket).await;
        assert_eq!(document["status"], status, "{said}: {document}");
        assert_eq!(upstream.received_at("/jobs/1").len(), 1);
    }
}

#[tokio::test]
async fn a_failure_by_a_route_s_own_measure_is_none_of_a_gateway_in_front() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", Answer::status(200).body("text/plain", "a login page"));
    let inner = Setup::before(&upstream).route("POST /orders", "success = [201]").start().await;
    let outer = Setup::before_url(&inner.origin()).start().await;
    let ticket = outer.post_order().await;
    let document = settled_by_both(&outer, &inner, &ticket).await;
    assert_eq!(document["status"], "failed", "{document}");
    assert_eq!(outer.get(&ticket.at("result")).await.expect(424).text(), "a login page");
}

#[tokio::test]
async fn two_gateways_behind_an_upstream_that_is_asynchronous_itself_follow_one_another() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", accepted("Location", "/jobs/1"));
    let done = Answer::status(303).field("Location", "/orders/7");
    upstream.script("/jobs/1", [accepted("Location", "/jobs/1"), done]);
    let (outer, inner) = two_gateways(&upstream).await;
    let ticket = outer.post_order().await;
    let document = settled_by_both(&outer, &inner, &ticket).await;
    assert_eq!(document["createdLocation"], format!("{}/orders/7", outer.origin()), "{document}");
    assert_eq!(upstream.received_at("/orders").len(), 1);
}

#[tokio::test]
async fn other_origins_can_be_allowed() {
    let (upstream, other) = (Upstream::start().await, Upstream::start().await);
    upstream.on("/orders", accepted("Location", &format!("{}/jobs/1", other.url())));
    let gateway = Setup::before(&upstream)
        .set("upstreams.default", &format!("follow = [{:?}]", other.url()))
        .start()
        .await;
    let ticket = gateway.post_order().await;
    let document: Value = gateway.settled_by_steps_of(1, &ticket).await;
    assert_eq!(document["responseStatus"], 200, "{document}");
    assert_eq!(other.received_at("/jobs/1").len(), 1);
}

#[tokio::test]
async fn a_waiting_operation_can_be_canceled() {
    let upstream = Upstream::start().await;
    let (gateway, ticket) = waiting(&upstream).await;
    gateway.send(post(ticket.at("cancel"))).await.expect(200);
    let asked = upstream.received_at("/jobs/1").len();
    gateway.advance(600);
    let after = gateway.accept(post("/after")).await;
    gateway.settled(&after).await;
    assert_eq!(upstream.received_at("/jobs/1").len(), asked);
}

#[tokio::test]
async fn one_that_is_just_being_asked_about_can_be_canceled_and_what_it_says_then_counts_no_more() {
    let upstream = Upstream::start().await;
    let (gateway, ticket) = waiting(&upstream).await;
    upstream.on("/jobs/1", Answer::status(200).body("text/plain", vec![b'x'; 700_000]));
    upstream.hold("/jobs/1");
    let asked = upstream.received_at("/jobs/1").len();
    let being_asked = || async { (upstream.received_at("/jobs/1").len() > asked).then_some(()) };
    gateway.while_stepping(1, "a question", being_asked).await;
    let document = gateway.send(post(ticket.at("cancel"))).await.expect(200).json();
    assert_eq!(document["status"], "canceled");
    upstream.release("/jobs/1");
    // What comes behind it shows that the answer was dealt with.
    upstream.on("/orders", Answer::Orders);
    let after = gateway.post_order().await;
    gateway.settled(&after).await;
    assert_eq!(gateway.document(&ticket).await, document);
    gateway.advance(600);
    let later = gateway.post_order().await;
    gateway.settled(&later).await;
    assert_eq!(upstream.received_at("/jobs/1").len(), asked + 1);
}

#[tokio::test]
async fn a_waiting_operation_can_be_deleted() {
    let upstream = Upstream::start().await;
    let (gateway, ticket) = waiting(&upstream).await;
    gateway.send(Request::new("DELETE", &*ticket.monitor)).await.expect(204);
    gateway.get(&ticket.monitor).await.problem(410);
    assert_eq!(gateway.document(&ticket).await["status"], "canceled");
}
