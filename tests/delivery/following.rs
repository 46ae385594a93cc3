//! An upstream that answers 202 with a monitor of its own.

use serde_json::{Value, json};

use crate::support::gateway::order;
use crate::support::{Answer, Gateway, Request, Setup, Ticket, Upstream, post};

pub(super) fn accepted(field: &str, monitor: &str) -> Answer {
    Answer::status(202).field(field, monitor).field("Retry-After", "2")
}

/// An operation that waits for `/jobs/1` of its upstream.
pub(super) async fn waiting(upstream: &Upstream) -> (Gateway, Ticket) {
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
