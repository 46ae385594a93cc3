//! At-least-once requests: repeated until the upstream answers.

use serde_json::Value;

use crate::support::gateway::order;
use crate::support::upstream::closed_port;
use crate::support::{Answer, Gateway, Request, Setup, Ticket, Upstream};

async fn at_least_once(upstream: &Upstream, lines: &str) -> Gateway {
    let lines = format!("delivery = \"at-least-once\"\n{lines}");
    Setup::before(upstream).route("POST /orders", &lines).start().await
}

#[tokio::test]
async fn everything_that_may_pass_is_tried_again_with_the_same_key_and_a_rising_attempt() {
    let statuses = [408, 425, 429, 500, 502, 503, 504, 520, 521, 524];
    let mut troubles: Vec<Answer> = statuses.map(Answer::status).into();
    troubles.extend([Answer::Reset, Answer::Close, Answer::truncated()]);
    for trouble in troubles {
        let upstream = Upstream::start().await;
        upstream.script("/orders", [trouble.clone(), trouble.clone()]);
        let gateway = at_least_once(&upstream, "").await;
        let ticket = gateway.post_order().await;
        let document = gateway.settled_by_steps_of(1, &ticket).await;
        assert_eq!(document["status"], "succeeded", "{trouble:?}: {document}");
        let received = upstream.received();
        let attempts: Vec<_> =
            received.iter().map(|r| r.expect_field("operation-attempt")).collect();
        assert_eq!(attempts, ["1", "2", "3"], "{trouble:?}");
        for request in &received {
            assert_eq!(request.field("operation-id"), Some(&*ticket.id));
            assert_eq!(request.field("idempotency-key"), received[0].field("idempotency-key"));
            assert_eq!(request.body, received[0].body);
        }
    }
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_is_tried_again() {
    let upstream = Upstream::start().await;
    upstream.script("/orders", [Answer::Never, Answer::Drip]);
    let gateway = at_least_once(&upstream, "timeout = \"30s\"").await;
    let ticket = gateway.post_order().await;
    let document = gateway.timed_out_by_steps_of(2, &ticket).await;
    assert_eq!(document["status"], "succeeded", "{document}");
    assert_eq!(upstream.received().len(), 3);
}

#[tokio::test]
async fn an_unreachable_upstream_is_tried_again() {
    let address = closed_port().await;
    let gateway = Setup::before_url(&format!("http://{address}"))
        .route("POST /orders", "delivery = \"at-least-once\"")
        .start()
        .await;
    let ticket = gateway.post_order().await;
    let tried = |document: &Value| document["attempts"].as_u64() >= Some(1);
    gateway.until_document("an attempt", &ticket, tried).await;
    let _upstream = Upstream::start_on(address).await;
    assert_eq!(gateway.settled_by_steps_of(1, &ticket).await["status"], "succeeded");
}

#[tokio::test]
async fn other_answers_are_final() {
    for status in [400, 401, 403, 404, 409, 410, 422, 501, 505] {
        let upstream = Upstream::start().await;
        upstream.on("/orders", Answer::status(status));
        let gateway = at_least_once(&upstream, "").await;
        let ticket = gateway.post_order().await;
        let document = gateway.settled_by_steps_of(60, &ticket).await;
        assert_eq!(document["error"]["code"], "upstream-status", "{status}");
        assert_eq!(upstream.received().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_409_to_a_later_attempt_is_tried_again() {
    let upstream = Upstream::start().await;
    upstream.script("/orders", [Answer::status(500), Answer::status(409)]);
    let gateway = at_least_once(&upstream, "").await;
    let ticket = gateway.post_order().await;
    assert_eq!(gateway.settled_by_steps_of(1, &ticket).await["status"], "succeeded");
    assert_eq!(upstream.received().len(), 3);
}

#[tokio::test]
async fn ten_attempts_are_made() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", Answer::status(500).body("text/plain", "the last words"));
    let gateway = at_least_once(&upstream, "").await;
    let ticket = gateway.post_order().await;
    let document = gateway.settled_by_steps_of(60, &ticket).await;
    assert_eq!(document["error"]["code"], "attempts-exhausted", "{document}");
    assert_eq!(document["responseStatus"], 500);
    assert_eq!(document["attempts"], 10);
    assert_eq!(upstream.received().len(), 10);
    let result = gateway.get(&ticket.at("result")).await.expect(424);
    assert_eq!(result.field("upstream-status"), Some("500"));
    assert_eq!(result.text(), "the last words");
}

#[tokio::test]
async fn the_number_of_attempts_is_settable() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", Answer::status(500));
    let gateway = at_least_once(&upstream, "retry = { attempts = 3, min = \"1s\", max = \"2s\" }");
    let gateway = gateway.await;
    let ticket = gateway.post_order().await;
    assert_eq!(gateway.settled_by_steps_of(1, &ticket).await["attempts"], 3);
    assert_eq!(upstream.received().len(), 3);
}

/// Waits for the pause after that many attempts and gives when the next one is due.
async fn next_due(gateway: &Gateway, ticket: &Ticket, attempts: u64) -> String {
    let pausing = |document: &Value| {
        document["attempts"] == attempts && document["nextAttemptAt"].is_string()
    };
    let document = gateway.until_document("a pause", ticket, pausing).await;
    assert_eq!(document["status"], "queued");
    document["nextAttemptAt"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn retry_after_in_seconds_or_as_a_date_is_a_floor() {
    for after in ["100", "Sat, 21 Nov 2026 08:01:40 GMT"] {
        for status in [429, 503, 500] {
            let upstream = Upstream::start().await;
            upstream.script("/orders", [Answer::status(status).field("Retry-After", after)]);
            let gateway = at_least_once(&upstream, "").await;
            let ticket = gateway.post_order().await;
            let due = next_due(&gateway, &ticket, 1).await;
            assert!(&*due >= "2026-11-21T08:01:40", "{status} {after}: {due}");
            assert!(&*due < "2026-11-21T08:01:50", "{status} {after}: {due}");
            gateway.advance(99);
            gateway.get(&ticket.monitor).await.expect(202);
            assert_eq!(upstream.received().len(), 1, "before its time");
            let document = gateway.settled_by_steps_of(1, &ticket).await;
            assert_eq!(document["status"], "succeeded");
        }
    }
}

#[tokio::test]
async fn the_first_pause_is_at_most_a_second_and_later_ones_at_most_five_minutes() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", Answer::status(500));
    let gateway = at_least_once(&upstream, "").await;
    let ticket = gateway.post_order().await;
    let due = next_due(&gateway, &ticket, 1).await;
    assert!(&*due <= "2026-11-21T08:00:01.000000Z", "{due}");
    let document = gateway.settled_by_steps_of(300, &ticket).await;
    assert_eq!(document["attempts"], 10);
}

#[tokio::test]
async fn a_429_or_503_with_retry_after_costs_no_attempt() {
    let upstream = Upstream::start().await;
    let busy = [429, 503].map(|status| Answer::status(status).field("Retry-After", "1"));
    for _ in 0..6 {
        upstream.script("/orders", busy.clone());
    }
    let gateway = at_least_once(&upstream, "retry = { attempts = 2 }").await;
    let ticket = gateway.post_order().await;
    let document = gateway.settled_by_steps_of(60, &ticket).await;
    assert_eq!(document["status"], "succeeded", "{document}");
    assert_eq!(upstream.received().len(), 13);
}

#[tokio::test]
async fn refusals_consume_the_deadline() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", Answer::status(503).field("Retry-After", "10"));
    let gateway = at_least_once(&upstream, "deadline = \"60s\"").await;
    let ticket = gateway.post_order().await;
    let document = gateway.settled_by_steps_of(5, &ticket).await;
    assert_eq!(document["error"]["code"], "deadline-exceeded", "{document}");
    assert!((2..=7).contains(&upstream.received().len()));
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_not_tried_again_and_keeps_what_is_known() {
    let upstream = Upstream::start().await;
    let answer =
        Answer::status(201).field("Location", "/orders/7").body("text/plain", [b'x'; 5000]);
    upstream.on("/orders", answer);
    let gateway = Setup::before(&upstream)
        .max_response(4096)
        .route("POST /orders", "delivery = \"at-least-once\"")
        .start()
        .await;
    let ticket = gateway.accept(order()).await;
    let document = gateway.settled_by_steps_of(60, &ticket).await;
    assert_eq!(document["error"]["code"], "response-too-large", "{document}");
    assert_eq!(document["responseStatus"], 201);
    assert_eq!(document["createdLocation"], format!("{}/orders/7", gateway.origin()));
    upstream.only();
}

#[tokio::test]
async fn a_time_beyond_the_deadline_gets_one_last_try_before_it() {
    for named in ["3600", "99999999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"] {
        for (then, status, sent) in [
            (Answer::status(201), "succeeded", 2),
            (Answer::status(503).field("Retry-After", named), "failed", 2),
        ] {
            let upstream = Upstream::start().await;
            upstream.script("/orders", [Answer::status(503).field("Retry-After", named)]);
            upstream.on("/orders", then);
            let gateway = at_least_once(&upstream, "deadline = \"60s\"").await;
            let ticket = gateway.post_order().await;
            let refused = |it: &Value| it["status"] == "queued" && it["attempts"] == 1;
            gateway.until_document("the refusal", &ticket, refused).await;
            // It is due after half of what was left, which is well before the deadline.
            gateway.advance(31);
            let document = gateway.settled(&ticket).await;
            assert_eq!(document["status"], status, "{named}: {document}");
            assert_eq!(upstream.received().len(), sent, "{named}");
            if status == "failed" {
                assert_eq!(document["error"]["code"], "deadline-exceeded", "{document}");
            }
        }
    }
}

#[tokio::test]
async fn which_statuses_are_tried_again_can_be_said() {
    let retry = "retry = { min = \"1s\", max = \"1s\", statuses = [418] }";
    for (status, sent) in [(418, 2), (500, 1), (502, 1)] {
        let upstream = Upstream::start().await;
        upstream.script("/orders", [Answer::status(status)]);
        let gateway = at_least_once(&upstream, retry).await;
        gateway.settled_by_steps_of(1, &gateway.post_order().await).await;
        assert_eq!(upstream.received().len(), sent, "{status}");
    }
}

/// A request that is repeated after its answer was lost, and then refused for good.
async fn refused_after(
    first: Answer,
    method: &str,
    field: Option<(&str, &str)>,
    then: u16,
) -> Value {
    let upstream = Upstream::start().await;
    upstream.script("/things/7", [first]);
    upstream.on("/things/7", Answer::status(then).body("text/plain", "refused"));
    let lines =
        "delivery = \"at-least-once\"\nretry = { attempts = 3, min = \"1s\", max = \"1s\" }";
    let gateway = Setup::before(&upstream).route("* /things/{id}", lines).start().await;
    let request = Request::new(method, "/things/7");
    let request = field.into_iter().fold(request, |it, (name, value)| it.field(name, value));
    let ticket = gateway.accept(request).await;
    let document = gateway.settled_by_steps_of(1, &ticket).await;
    assert_eq!(document["responseStatus"], then);
    document["error"].clone()
}

#[tokio::test]
async fn a_refusal_of_what_an_attempt_whose_answer_was_lost_may_have_done_says_so() {
    let if_match = Some(("If-Match", "\"a\""));
    for lost in [Answer::Reset, Answer::truncated(), Answer::status(502), Answer::status(504)] {
        for (method, field, then) in [
            ("DELETE", None, 404),
            ("DELETE", None, 410),
            ("PUT", if_match, 412),
            ("PUT", Some(("If-None-Match", "*")), 412),
            ("POST", None, 409),
        ] {
            let error = refused_after(lost.clone(), method, field, then).await;
            assert_eq!(error["code"], "may-have-succeeded", "{lost:?} {method} {then}: {error}");
            let message = error["message"].as_str().unwrap();
            assert!(message.contains("Check with the upstream"), "{message}");
        }
    }
    for (first, method, field, then) in [
        (Answer::status(503), "DELETE", None, 404),
        (Answer::status(500), "PUT", if_match, 412),
        (Answer::Reset, "PUT", None, 412),
        (Answer::Reset, "PUT", None, 404),
        (Answer::Reset, "DELETE", None, 403),
    ] {
        let error = refused_after(first.clone(), method, field, then).await;
        assert_eq!(error["code"], "upstream-status", "{first:?} {method} {then}: {error}");
    }
    let error = refused_after(Answer::status(503), "POST", None, 409).await;
    assert_eq!(error["code"], "attempts-exhausted", "{error}");
}

#[tokio::test]
async fn that_an_answer_was_lost_is_not_forgotten_over_a_restart() {
    for first in [Answer::Reset, Answer::Never] {
        let upstream = Upstream::start().await;
        upstream.script("/things/7", [first.clone()]);
        upstream.on("/things/7", Answer::status(404));
        let lines = "retry = { min = \"1s\", max = \"1s\" }";
        let setup = Setup::before(&upstream).route("DELETE /things/{id}", lines);
        let mut process = setup.spawn().await;
        let ticket = process.accept(Request::new("DELETE", "/things/7")).await;
        upstream.until_received("/things/7", 1).await;
        process.kill().await;
        let process = process.again().await;
        let document = process.settled(&ticket).await;
        assert_eq!(document["error"]["code"], "may-have-succeeded", "{first:?}: {document}");
    }
}

#[tokio::test]
async fn what_went_out_twice_in_one_attempt_may_have_succeeded_at_the_first() {
    for (method, field, then) in
        [("DELETE", None, 404), ("PUT", Some(("If-Match", "\"a\"")), 412), ("POST", None, 409)]
    {
        let upstream = Upstream::start().await;
        // It reads the request on a connection that was used before, and closes without a word.
        upstream.script("/things/7", [Answer::Close]);
        upstream.on("/things/7", Answer::status(then));
        let lines =
            "delivery = \"at-least-once\"\nretry = { attempts = 3, min = \"1s\", max = \"1s\" }";
        let gateway = Setup::before(&upstream).route("* /things/{id}", lines).start().await;
        gateway.get("/warm").await.expect(200);
        let request = Request::new(method, "/things/7");
        let request = field.into_iter().fold(request, |it, (name, value)| it.field(name, value));
        let document = gateway.settled_by_steps_of(1, &gateway.accept(request).await).await;
        assert_eq!(document["error"]["code"], "may-have-succeeded", "{method}: {document}");
        let attempts = if then == 409 { 3 } else { 1 };
        assert_eq!(document["attempts"], attempts, "{method}: {document}");
        assert_eq!(upstream.received_at("/things/7").len(), attempts + 1);
    }
}
