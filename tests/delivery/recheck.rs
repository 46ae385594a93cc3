//! Rechecks: the question to the upstream whether an earlier attempt took effect.

use serde_json::Value;

use crate::support::gateway::{Front, Gateway, order};
use crate::support::{Answer, Request, Setup, Ticket, Upstream, post};

/// Before an upstream whose orders can be looked up, delivered like that.
fn setup(upstream: &Upstream, delivery: &str) -> Setup {
    let lines = format!(
        "delivery = {delivery:?}\nretry = {{ min = \"1s\", max = \"1s\" }}\n\
         recheck = \"GET /made?ref={{client_reference}}&key={{idempotency_key}}\""
    );
    Setup::before(upstream).route("POST /orders", &lines)
}

async fn accept(front: &Front) -> Ticket {
    let request = order().field("Client-Reference", "a b/7").field("Idempotency-Key", "\"k-1\"");
    front.accept(request).await
}

async fn kinds(gateway: &Gateway, ticket: &Ticket) -> Vec<String> {
    let timeline = gateway.get(&ticket.at("events")).await.expect(200).json();
    let events = timeline["events"].as_array().unwrap().iter();
    let kind = |event: &Value| event["type"].as_str().unwrap().replace("operation.", "");
    events.map(kind).collect()
}

#[tokio::test]
async fn a_lost_answer_is_no_unknown_outcome_where_the_upstream_has_what_was_made() {
    for (field, location) in [("content-location", "/orders/7"), ("location", "/orders/7")] {
        let upstream = Upstream::start().await;
        upstream.on("/orders", Answer::Reset);
        upstream.on("/made", Answer::status(200).field(field, location).body("text/plain", "it"));
        let gateway = setup(&upstream, "at-most-once").start().await;
        let ticket = accept(&gateway).await;
        let document = gateway.settled(&ticket).await;
        assert_eq!((&document["status"], &document["attempts"]), (&"succeeded".into(), &1.into()));
        let created = document["createdLocation"].as_str().unwrap();
        assert!(created.ends_with(location), "{created}");
        let asked = upstream.received_at("/made").remove(0);
        assert_eq!(asked.target, "/made?ref=a%20b%2F7&key=%22k-1%22");
        assert_eq!((asked.method.as_str(), asked.body.len()), ("GET", 0));
        assert_eq!(gateway.get(&ticket.at("result")).await.expect(200).body, b"it");
        let told = kinds(&gateway, &ticket).await;
        assert_eq!(told, ["accepted", "started", "rechecked", "succeeded"]);
        assert_eq!(upstream.received_at("/orders").len(), 1);
    }
}

#[tokio::test]
async fn what_certainly_did_not_happen_is_sent_again_even_at_most_once() {
    let upstream = Upstream::start().await;
    upstream.script("/orders", [Answer::Reset]);
    upstream.on("/made", Answer::status(404));
    let gateway = setup(&upstream, "at-most-once").start().await;
    let ticket = accept(&gateway).await;
    let document = gateway.settled_by_steps_of(1, &ticket).await;
    assert_eq!((&document["status"], &document["attempts"]), (&"succeeded".into(), &2.into()));
    assert_eq!(upstream.received_at("/orders").len(), 2);
    // Once behind the first attempt, and once more before the second.
    assert_eq!(upstream.received_at("/made").len(), 2);
}

#[tokio::test]
async fn where_the_upstream_does_not_know_either_the_outcome_is_unknown() {
    for answer in [Answer::status(500), Answer::status(302), Answer::status(410), Answer::Reset] {
        let upstream = Upstream::start().await;
        upstream.on("/orders", Answer::Reset);
        upstream.on("/made", answer.clone());
        let gateway = setup(&upstream, "at-most-once").start().await;
        let ticket = accept(&gateway).await;
        let document = gateway.settled(&ticket).await;
        assert_eq!(document["error"]["code"], "outcome-unknown", "{answer:?}: {document}");
        assert_eq!(document["error"]["cause"], "upstream-protocol");
        assert_eq!(upstream.received_at("/orders").len(), 1);
    }
}

#[tokio::test]
async fn before_another_attempt_the_upstream_is_asked_and_one_that_took_effect_is_not_repeated() {
    for (answer, attempts) in
        [(Answer::status(200), 1), (Answer::status(404), 2), (Answer::status(500), 2)]
    {
        let upstream = Upstream::start().await;
        upstream.script("/orders", [Answer::Reset]);
        upstream.on("/made", answer.clone());
        let gateway = setup(&upstream, "at-least-once").start().await;
        let ticket = accept(&gateway).await;
        let document = gateway.settled_by_steps_of(1, &ticket).await;
        assert_eq!(document["status"], "succeeded", "{answer:?}: {document}");
        assert_eq!(upstream.received_at("/orders").len(), attempts, "{answer:?}");
        assert_eq!(upstream.received_at("/made").len(), 1);
    }
}

#[tokio::test]
async fn an_answer_that_names_nothing_created_leads_to_the_result() {
    for delivery in ["at-most-once", "at-least-once"] {
        let upstream = Upstream::start().await;
        upstream.on("/orders", Answer::Reset);
        upstream.on("/made", Answer::status(200).body("text/plain", "found"));
        let gateway = setup(&upstream, delivery).start().await;
        let ticket = accept(&gateway).await;
        let document = gateway.settled_by_steps_of(1, &ticket).await;
        assert_eq!(document["status"], "succeeded", "{document}");
        assert_eq!(document["createdLocation"], Value::Null, "{document}");
        let monitor = gateway.get(&ticket.monitor).await.expect(303);
        let location = monitor.field("location").unwrap();
        assert!(location.ends_with("/result"), "{location}");
        assert_eq!(gateway.get(&ticket.at("result")).await.expect(200).text(), "found");
    }
}

/// A gateway that has a connection of a former request at hand, and always uses it.
async fn with_a_used_connection(upstream: &Upstream, lines: &str) -> Gateway {
    let gateway = Setup::before(upstream)
        .set("upstreams.default", "reuse = \"always\"")
        .route("POST /orders", lines)
        .route("POST /warm", "")
        .start()
        .await;
    let warm = gateway.accept(post("/warm")).await;
    gateway.settled(&warm).await;
    gateway
}

#[tokio::test]
async fn what_can_be_asked_about_is_not_sent_anew_where_a_used_connection_had_ended() {
    for (attempts, answer, sent, asked) in [
        (3, Answer::status(200), 1, 1),
        (3, Answer::status(404), 2, 1),
        (1, Answer::status(200), 1, 1),
    ] {
        let upstream = Upstream::start().await;
        upstream.script("/orders", [Answer::Close]);
        upstream.on("/made", answer.clone());
        let lines = format!(
            "delivery = \"at-least-once\"\nretry = {{ attempts = {attempts}, min = \"1s\", max = \"1s\" }}\n\
             recheck = \"GET /made?ref={{operation_id}}\""
        );
        let gateway = with_a_used_connection(&upstream, &lines).await;
        let ticket = gateway.post_order().await;
        let document = gateway.settled_by_steps_of(1, &ticket).await;
        assert_eq!(document["status"], "succeeded", "{document}");
        let orders = upstream.received_at("/orders");
        assert_eq!(orders[0].connection, upstream.received_at("/warm")[0].connection);
        assert_eq!(
            (orders.len(), upstream.received_at("/made").len()),
            (sent, asked),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn what_nobody_can_be_asked_about_is_sent_anew_at_once() {
    let upstream = Upstream::start().await;
    upstream.script("/orders", [Answer::Close]);
    let gateway = with_a_used_connection(&upstream, "delivery = \"at-least-once\"").await;
    let ticket = gateway.post_order().await;
    let document = gateway.settled(&ticket).await;
    assert_eq!((&document["status"], &document["attempts"]), (&"succeeded".into(), &1.into()));
    assert_eq!(upstream.received_at("/orders").len(), 2);
}

#[tokio::test]
async fn while_the_upstream_cannot_tell_yet_it_is_asked_again() {
    let later = Answer::status(503).field("Retry-After", "4");
    for (answer, status, sent) in
        [(Answer::status(200), "succeeded", 1), (Answer::status(404), "succeeded", 2)]
    {
        let upstream = Upstream::start().await;
        upstream.script("/orders", [Answer::Reset]);
        upstream.script("/made", [later.clone(), Answer::status(429), Answer::status(503)]);
        upstream.on("/made", answer.clone());
        let gateway = setup(&upstream, "at-most-once").start().await;
        let ticket = accept(&gateway).await;
        let document = gateway.timed_out_by_steps_of(1, &ticket).await;
        assert_eq!(document["status"], status, "{answer:?}: {document}");
        assert_eq!(upstream.received_at("/orders").len(), sent, "{answer:?}");
        let asked = upstream.received_at("/made").len();
        assert_eq!(asked, 3 + sent, "{answer:?}");
    }
}

#[tokio::test]
async fn while_it_waits_to_ask_again_its_slot_is_free_for_others() {
    let upstream = Upstream::start().await;
    upstream.script("/orders", [Answer::Reset]);
    upstream.script("/made", [Answer::status(503).field("Retry-After", "20")]);
    upstream.on("/made", Answer::status(200));
    let setup = setup(&upstream, "at-most-once").set("engine", "slots = 1");
    let gateway = setup.route("POST /others", "").start().await;
    let asked_about = accept(&gateway).await;
    upstream.until_received("/made", 1).await;
    // The clock stands still, so the pause does not end.
    let other = gateway.accept(post("/others")).await;
    assert_eq!(gateway.settled(&other).await["status"], "succeeded");
    assert_eq!(upstream.received_at("/made").len(), 1);
    let document = gateway.timed_out_by_steps_of(1, &asked_about).await;
    assert_eq!(document["status"], "succeeded", "{document}");
    assert_eq!(upstream.received_at("/orders").len(), 1);
}

#[tokio::test]
async fn an_upstream_that_never_can_tell_is_not_asked_for_ever() {
    for (retry_after, least, most) in [("2", 3, 10), ("60", 1, 1)] {
        let upstream = Upstream::start().await;
        upstream.on("/orders", Answer::Reset);
        upstream.on("/made", Answer::status(503).field("Retry-After", retry_after));
        let lines = "timeout = \"20s\"\nrecheck = \"GET /made?ref={operation_id}\"";
        let gateway = Setup::before(&upstream).route("POST /orders", lines).start().await;
        let ticket = gateway.post_order().await;
        let document = gateway.timed_out_by_steps_of(1, &ticket).await;
        assert_eq!(document["error"]["code"], "outcome-unknown", "{document}");
        assert_eq!(document["error"]["cause"], "upstream-protocol", "{document}");
        let asked = upstream.received_at("/made").len();
        assert!((least..=most).contains(&asked), "{retry_after}: {asked}");
        assert_eq!(upstream.received_at("/orders").len(), 1);
    }
}

#[tokio::test]
async fn the_last_answer_is_kept_where_the_upstream_says_that_nothing_happened() {
    for delivery in ["at-most-once", "at-least-once"] {
        let upstream = Upstream::start().await;
        upstream.on("/orders", Answer::status(504).body("text/plain", "proxy"));
        upstream.on("/made", Answer::status(404));
        let lines = format!(
            "delivery = {delivery:?}\nretry = {{ attempts = 3, min = \"1s\", max = \"1s\" }}\n\
             recheck = \"GET /made?ref={{operation_id}}\""
        );
        let gateway = Setup::before(&upstream).route("POST /orders", &lines).start().await;
        let ticket = gateway.post_order().await;
        let document = gateway.settled_by_steps_of(1, &ticket).await;
        assert_eq!(document["error"]["code"], "attempts-exhausted", "{delivery}: {document}");
        assert_eq!(document["responseStatus"], 504, "{delivery}: {document}");
        assert_eq!(upstream.received_at("/orders").len(), 3);
        let result = gateway.get(&ticket.at("result")).await.expect(424);
        assert_eq!(result.text(), "proxy");
        assert_eq!(result.field("upstream-status"), Some("504"));
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_told_as_it_is_without_a_recheck() {
    let odd = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!";
    for (attempts, code) in [(3, "attempts-exhausted"), (1, "upstream-protocol")] {
        let upstream = Upstream::start().await;
        upstream.on("/orders", Answer::Raw(odd.to_vec()));
        upstream.on("/made", Answer::status(404));
        let lines = format!(
            "retry = {{ attempts = {attempts}, min = \"1s\", max = \"1s\" }}\n\
             recheck = \"GET /made?ref={{operation_id}}\""
        );
        let gateway = Setup::before(&upstream).route("POST /orders", &lines).start().await;
        let ticket = gateway.post_order().await;
        let document = gateway.settled_by_steps_of(1, &ticket).await;
        let error = &document["error"];
        assert_eq!(error["code"], code, "{document}");
        assert_eq!(document["responseStatus"], 201, "{document}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("answered 201, but the answer cannot be read"), "{message}");
        assert!(message.contains("in the log what is wrong with"), "{message}");
        assert_eq!(upstream.received_at("/orders").len(), attempts);
        gateway.get(&ticket.at("result")).await.expect(424);
    }
}

#[tokio::test]
async fn after_a_crash_the_upstream_is_asked_before_anything_is_sent_again() {
    for (answer, status, code, sent) in [
        (Answer::status(200), "succeeded", None, 1),
        (Answer::status(404), "succeeded", None, 2),
        (Answer::status(500), "failed", Some("outcome-unknown"), 1),
    ] {
        let upstream = Upstream::start().await;
        upstream.script("/orders", [Answer::Never]);
        upstream.on("/made", answer.clone());
        let mut process = setup(&upstream, "at-most-once").spawn().await;
        let ticket = accept(&process).await;
        upstream.until_received("/orders", 1).await;
        process.kill().await;
        let process = process.again().await;
        let document = process.settled(&ticket).await;
        assert_eq!(document["status"], status, "{answer:?}: {document}");
        assert_eq!(document["error"]["code"].as_str(), code);
        assert_eq!(upstream.received_at("/orders").len(), sent, "{answer:?}");
        assert_eq!(document["rescues"], 1);
    }
}

/// What the upstream is asked about an order with these fields, whose answer was lost.
async fn asked(template: &str, fields: &[(&str, &str)]) -> (Vec<String>, Value, Upstream) {
    let upstream = Upstream::start().await;
    upstream.on("/orders", Answer::Reset);
    let lines = format!("recheck = \"GET {template}\"");
    let gateway = Setup::before(&upstream).route("POST /orders", &lines).start().await;
    let with = fields.iter().fold(order(), |order, (name, value)| order.field(name, *value));
    let ticket = gateway.accept(with).await;
    let document = gateway.settled(&ticket).await;
    let got = upstream.received().into_iter().filter(|request| request.method == "GET");
    (got.map(|request| request.target).collect(), document, upstream)
}

#[tokio::test]
async fn the_key_is_asked_for_in_the_octets_that_the_upstream_got() {
    let both = "/made/{idempotency_key}?value={idempotency_key_value}";
    for (came, octets, value) in [
        ("zz1", "zz1", "zz1"),
        ("\"zz1\"", "%22zz1%22", "zz1"),
        (r#""a\"b/""#, "%22a%5C%22b%2F%22", "a%22b%2F"),
    ] {
        let (targets, document, upstream) = asked(both, &[("Idempotency-Key", came)]).await;
        assert_eq!(targets, [format!("/made/{octets}?value={value}")]);
        assert_eq!(document["status"], "succeeded", "{document}");
        assert_eq!(upstream.received_at("/orders")[0].all("idempotency-key"), [came]);
    }
    let (targets, document, upstream) = asked(both, &[]).await;
    let id = document["id"].as_str().unwrap();
    assert_eq!(targets, [format!("/made/%22{id}%22?value={id}")]);
    assert_eq!(upstream.received_at("/orders")[0].all("idempotency-key"), [format!("\"{id}\"")]);
}

#[tokio::test]
async fn a_question_that_would_be_about_something_else_is_not_asked() {
    for (template, fields) in [
        ("/made/{client_reference}", &[][..]),
        ("/made?ref={client_reference}", &[]),
        ("/made/{client_reference}", &[("Client-Reference", "..")]),
        ("/made/{client_reference}/x", &[("Client-Reference", ".")]),
        ("/made/.{client_reference}", &[("Client-Reference", ".")]),
        ("/made/{idempotency_key_value}", &[("Idempotency-Key", "\"..\"")]),
        ("/made/{idempotency_key}", &[("Idempotency-Key", "..")]),
        // Some servers decode slashes before they take such segments out.
        ("/made/{idempotency_key_value}", &[("Idempotency-Key", "\"../other\"")]),
        ("/made/{client_reference}/x", &[("Client-Reference", "a/..")]),
        ("/made/{client_reference}", &[("Client-Reference", r"..\a")]),
        ("/made/{client_reference}", &[("Client-Reference", "/")]),
        ("/made?ref={client_reference}", &[("Client-Reference", "//")]),
    ] {
        let (targets, document, _upstream) = asked(template, fields).await;
        assert_eq!(targets, [] as [String; 0], "{template} {fields:?}");
        assert_eq!(document["error"]["code"], "outcome-unknown", "{template}: {document}");
    }
}

#[tokio::test]
async fn what_a_proxy_in_between_leaves_open_is_asked_about_before_it_is_called_unknown() {
    for (answer, status, sent) in [
        (Answer::status(200), "succeeded", 1),
        (Answer::status(404), "succeeded", 2),
        (Answer::status(500), "failed", 1),
    ] {
        for ambiguous in [502, 504, 520, 522, 524] {
            let upstream = Upstream::start().await;
            upstream.script("/orders", [Answer::status(ambiguous).body("text/plain", "proxy")]);
            upstream.on("/made", answer.clone());
            let gateway = setup(&upstream, "at-most-once").start().await;
            let ticket = accept(&gateway).await;
            let document = gateway.settled_by_steps_of(1, &ticket).await;
            assert_eq!(document["status"], status, "{ambiguous} {answer:?}: {document}");
            assert_eq!(upstream.received_at("/orders").len(), sent);
            if status == "failed" {
                assert_eq!(document["error"]["code"], "outcome-unknown");
                let told = if ambiguous < 520 { 424 } else { ambiguous };
                let result = gateway.get(&ticket.at("result")).await.expect(told);
                assert_eq!(result.text(), "proxy");
            }
        }
    }
}

#[tokio::test]
async fn a_delete_took_effect_where_nothing_is_found_and_is_sent_again_where_it_is() {
    for (answer, status, sent) in [
        (Answer::status(404), "succeeded", 1),
        (Answer::status(410), "succeeded", 1),
        (Answer::status(200), "succeeded", 2),
        (Answer::status(500), "failed", 1),
    ] {
        let upstream = Upstream::start().await;
        // It is asked about once behind the first attempt, and once more before the second.
        let asked =
            if sent == 2 { vec![answer.clone(), answer.clone()] } else { vec![answer.clone()] };
        let script = [Answer::Reset].into_iter().chain(asked).chain([Answer::status(204)]);
        upstream.script("/things/7", script);
        let lines = "delivery = \"at-most-once\"\nretry = { min = \"1s\", max = \"1s\" }\n\
                     recheck = \"GET /things/7?by={operation_id}\"";
        let gateway = Setup::before(&upstream).route("DELETE /things/{id}", lines).start().await;
        let ticket = gateway.accept(Request::new("DELETE", "/things/7")).await;
        let document = gateway.settled_by_steps_of(1, &ticket).await;
        assert_eq!(document["status"], status, "{answer:?}: {document}");
        let of_method = |method: &str| {
            upstream.received().iter().filter(|request| request.method == method).count()
        };
        assert_eq!(of_method("DELETE"), sent, "{answer:?}");
        if status == "succeeded" {
            assert_eq!(document["responseStatus"], 204, "{answer:?}");
            gateway.get(&ticket.at("result")).await.expect(204);
        } else {
            assert_eq!(document["error"]["code"], "outcome-unknown");
        }
    }
}

#[tokio::test]
async fn after_a_crash_it_waits_for_a_word_too() {
    let upstream = Upstream::start().await;
    upstream.script("/orders", [Answer::Never]);
    upstream.script("/made", [Answer::status(503), Answer::status(503)]);
    upstream.on("/made", Answer::status(200));
    let mut process = setup(&upstream, "at-most-once").spawn().await;
    let ticket = accept(&process).await;
    upstream.until_received("/orders", 1).await;
    process.kill().await;
    let process = process.again().await;
    let document = process.settled(&ticket).await;
    assert_eq!(document["status"], "succeeded", "{document}");
    assert_eq!(upstream.received_at("/made").len(), 3);
    assert_eq!(upstream.received_at("/orders").len(), 1);
}

#[tokio::test]
async fn after_a_crash_what_cannot_be_asked_about_is_not_sent_again() {
    let upstream = Upstream::start().await;
    upstream.script("/orders", [Answer::Never]);
    let mut process = setup(&upstream, "at-most-once").spawn().await;
    // Without the reference that the question is about.
    let ticket = process.accept(order()).await;
    upstream.until_received("/orders", 1).await;
    process.kill().await;
    let process = process.again().await;
    let document = process.settled(&ticket).await;
    assert_eq!(document["error"]["code"], "outcome-unknown", "{document}");
    assert_eq!(upstream.received().len(), 1);
}
