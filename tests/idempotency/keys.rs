//! `Idempotency-Key` as clients send it.

use std::collections::BTreeSet;

use crate::support::gateway::order;
use crate::support::time::{spawn, within};
use crate::support::{
    Answer, Connection, Gateway, Request, Response, Setup, Ticket, Upstream, post,
};

fn keyed(key: &str) -> Request {
    order().field("Idempotency-Key", key)
}

#[tokio::test]
async fn the_same_request_with_the_same_key_is_the_same_operation_in_any_state() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let gateway = Gateway::before(&upstream).await;
    let first = gateway.send(keyed("\"k-1\"")).await.expect(202);
    assert_eq!(first.field("idempotency-replayed"), None);
    let ticket = Ticket::of(&first);
    for state in ["running", "succeeded"] {
        gateway.until_status(&ticket, state).await;
        let again = gateway.send(keyed("\"k-1\"")).await.expect(202);
        assert_eq!(again.field("idempotency-replayed"), Some("true"), "{state}");
        assert_eq!(Ticket::of(&again), ticket);
        upstream.release("/orders");
    }
    let gateway = gateway.restart().await;
    let again = gateway.send(keyed("\"k-1\"")).await.expect(202);
    assert_eq!(Ticket::of(&again), ticket, "after a restart");
    upstream.only();
    assert_eq!(gateway.listed().await, 1);
}

#[tokio::test]
async fn a_repeat_is_answered_also_while_its_queue_is_full_and_a_new_one_is_refused() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream)
        .set("queues.default", "max_depth = 1\npaused = true")
        .start()
        .await;
    let ticket = gateway.accept(keyed("k-1")).await;
    let again = gateway.send(keyed("k-1")).await.expect(202);
    assert_eq!(again.field("idempotency-replayed"), Some("true"));
    assert_eq!(Ticket::of(&again), ticket);
    let other = keyed("k-1").json(&serde_json::json!({ "sku": "B-2" }));
    gateway.send(other).await.expect(422);
    gateway.send(keyed("k-2")).await.expect(503);
    gateway.send(order()).await.expect(503);
    assert_eq!(gateway.listed().await, 1);
}

#[tokio::test]
async fn a_quoted_string_and_a_bare_token_are_the_same_key() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let quoted = gateway.accept(keyed("\"order-7\"")).await;
    let bare = gateway.accept(keyed("order-7")).await;
    assert_eq!(quoted, bare);
    assert_ne!(gateway.accept(keyed("order-8")).await, quoted);
}

#[tokio::test]
async fn a_synchronous_repeat_gets_the_answer_of_the_running_one() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.accept(keyed("k")).await;
    upstream.until_received("/orders", 1).await;
    let public = gateway.public;
    let repeat = spawn(async move { keyed("k").field("Expect", "201-created").send(public).await });
    gateway.get("/-/operations").await.expect(200);
    upstream.release("/orders");
    let answer = within("the answer", repeat).await.unwrap().expect(201);
    assert_eq!(answer.field("operation-id"), Some(&*ticket.id));
    assert_eq!(answer.field("idempotency-replayed"), Some("true"));
    assert_eq!(answer.json(), serde_json::json!({"order": 1}));
    upstream.only();
}

#[tokio::test]
async fn a_repeat_of_one_that_has_ended_is_to_be_asked_about_at_once() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.accept(keyed("k")).await;
    upstream.until_received("/orders", 1).await;
    gateway.advance(20);
    upstream.release("/orders");
    gateway.settled(&ticket).await;
    // From now on the gateway knows how long this route takes.
    gateway.get(&ticket.monitor).await.expect(303);
    let new = gateway.send(keyed("k2")).await.expect(202);
    assert_ne!(new.field("retry-after"), Some("1"), "{new:?}");
    let repeat = gateway.send(keyed("k")).await.expect(202);
    assert_eq!(repeat.field("retry-after"), Some("1"), "{repeat:?}");
}

#[tokio::test]
async fn a_repeat_is_answered_in_the_mode_that_it_asks_for() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let synchronous = keyed("k").field("Expect", "201-created");
    let first = gateway.send(synchronous.clone()).await.expect(201);
    let again = gateway.send(synchronous).await.expect(201);
    assert_eq!(again.body, first.body);
    assert_eq!(again.field("operation-id"), first.field("operation-id"));
    let later = gateway.send(keyed("k")).await.expect(202);
    assert_eq!(later.field("operation-id"), first.field("operation-id"));
    upstream.only();
}

#[tokio::test]
async fn the_same_key_with_another_request_is_422_and_stores_nothing() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.accept(keyed("k").field("X-Trace", "1")).await;
    let others = [
        post("/orders").json(&serde_json::json!({"sku": "B-2"})),
        post("/orders?a=1").json(&serde_json::json!({"sku": "A-1"})),
        post("/orders").body("text/json", r#"{"sku":"A-1"}"#),
    ];
    for other in others {
        let problem = gateway.send(other.field("Idempotency-Key", "k")).await.problem(422);
        assert!(problem.to_string().to_lowercase().contains("key"), "{problem}");
        // Where a ticket is all that protects an operation, it is not handed out.
        assert!(!problem.to_string().contains("/-/operations/"), "{problem}");
    }
    // Other fields are no part of the fingerprint.
    assert_eq!(gateway.accept(keyed("k").field("X-Trace", "2")).await, ticket);
    assert_eq!(gateway.listed().await, 1);
    gateway.settled(&ticket).await;
    upstream.only();
}

#[tokio::test]
async fn without_principals_another_credential_is_another_request() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    for field in ["Authorization", "Cookie"] {
        let of = |who: &str| keyed(field).field(field, who);
        gateway.send(of("ann")).await.expect(202);
        gateway.send(of("bob")).await.problem(422);
        gateway.send(keyed(field)).await.problem(422);
        gateway.send(of("ann")).await.expect(202);
    }
}

#[tokio::test]
async fn a_key_counts_within_its_principal_and_its_route() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream)
        .principal("header:X-User")
        .set("server", "trusted_proxies = [\"127.0.0.0/8\"]")
        .route("POST /orders", "")
        .route("POST /alarms", "")
        .start()
        .await;
    let mut ids = BTreeSet::new();
    for path in ["/orders", "/alarms"] {
        for user in ["ann", "bob"] {
            let request = post(path).field("Idempotency-Key", "k").field("X-User", user);
            ids.insert(gateway.accept(request).await.id);
        }
    }
    assert_eq!(ids.len(), 4);
}

#[tokio::test]
async fn keys_that_are_none_are_400_and_store_nothing() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let long = "k".repeat(256);
    for key in ["", "\"\"", "\"", "\"unfinished", "a b", &*long, &*format!("\"{long}\"")] {
        let problem = gateway.send(keyed(key)).await.problem(400);
        assert!(problem.to_string().contains("Idempotency-Key"), "{key}: {problem}");
    }
    gateway.send(keyed("one").field("Idempotency-Key", "two")).await.problem(400);
    let mut connection = Connection::open(gateway.public).await;
    let octets =
        "POST /orders HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nIdempotency-Key: é\r\n\r\n";
    connection.send_raw(octets).await;
    connection.response().await.problem(400);
    assert_eq!(gateway.listed().await, 0);
    assert!(upstream.received().is_empty());
}

#[tokio::test]
async fn a_key_has_from_1_to_255_characters() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    for key in ["k", &*"k".repeat(255), &*format!("\"{}\"", "q".repeat(255))] {
        gateway.send(keyed(key)).await.expect(202);
    }
    assert_eq!(gateway.listed().await, 3);
}

#[tokio::test]
async fn a_missing_key_is_400_where_the_route_requires_one() {
    let upstream = Upstream::start().await;
    let gateway =
        Setup::before(&upstream).route("POST /orders", "idempotency_required = true").start();
    let gateway = gateway.await;
    gateway.send(order()).await.problem(400);
    assert_eq!(gateway.listed().await, 0);
    gateway.send(keyed("k")).await.expect(202);
}

#[tokio::test]
async fn the_upstream_sees_the_clients_key_or_else_the_id() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let with = gateway.accept(keyed("\"order-7\"")).await;
    gateway.settled(&with).await;
    let without = gateway.post_order().await;
    gateway.settled(&without).await;
    let received = upstream.received();
    let key = |n: usize| received[n].expect_field("idempotency-key").trim_matches('"').to_owned();
    assert_eq!(key(0), "order-7");
    assert_eq!(key(1), without.id);
    assert_eq!(received[0].all("idempotency-key").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_identical_requests_on_twenty_connections_make_one_operation() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    for round in 0..5 {
        let request = keyed(&format!("round-{round}"));
        let mut connections = Vec::new();
        for _ in 0..20 {
            connections.push(Connection::open(gateway.public).await);
        }
        let answers: Vec<_> = connections
            .into_iter()
            .map(|mut connection| {
                let request = request.clone();
                spawn(async move { connection.send(&request).await })
            })
            .collect();
        let mut tickets = BTreeSet::new();
        let mut first_ones = 0;
        for answer in answers {
            let answer: Response = answer.await.unwrap().expect(202);
            first_ones += usize::from(answer.field("idempotency-replayed").is_none());
            tickets.insert(Ticket::of(&answer).monitor);
        }
        assert_eq!(tickets.len(), 1, "{tickets:?}");
        assert_eq!(first_ones, 1);
        upstream.until_received("/orders", round + 1).await;
    }
    assert_eq!(gateway.listed().await, 5);
    assert_eq!(upstream.received().len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_synchronous_repeats_get_one_and_the_same_answer() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let gateway = Gateway::before(&upstream).await;
    let public = gateway.public;
    let request = keyed("k").field("Expect", "201-created");
    let answers: Vec<_> = (0..20)
        .map(|_| {
            let request = request.clone();
            spawn(async move { request.send(public).await })
        })
        .collect();
    upstream.until_received("/orders", 1).await;
    upstream.release("/orders");
    for answer in answers {
        assert_eq!(answer.await.unwrap().expect(201).json(), serde_json::json!({"order": 1}));
    }
    upstream.only();
}

#[tokio::test]
async fn a_repeat_with_a_wait_gets_202_when_the_running_one_takes_longer() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.accept(keyed("k")).await;
    upstream.until_received("/orders", 1).await;
    let public = gateway.public;
    let repeat = spawn(async move { keyed("k").field("Prefer", "wait=5").send(public).await });
    gateway.while_stepping(1, "the 202", || async { repeat.is_finished().then_some(()) }).await;
    let answer = repeat.await.unwrap().expect(202);
    assert_eq!(answer.field("idempotency-replayed"), Some("true"));
    assert_eq!(Ticket::of(&answer), ticket);
    upstream.release("/orders");
    gateway.settled(&ticket).await;
    upstream.only();
}

#[tokio::test]
async fn a_synchronous_repeat_of_one_that_failed_or_was_canceled_is_answered_and_sends_nothing() {
    let upstream = Upstream::start().await;
    upstream.script("/orders", [Answer::Reset, Answer::Never]);
    let gateway = Gateway::before(&upstream).await;
    let failed = gateway.accept(keyed("failed")).await;
    gateway.settled(&failed).await;
    let canceled = gateway.accept(keyed("canceled")).await;
    upstream.until_received("/orders", 2).await;
    gateway.send(post(canceled.at("cancel"))).await.expect(202);
    gateway.settled(&canceled).await;
    for (key, ticket) in [("failed", &failed), ("canceled", &canceled)] {
        let answer = gateway.send(keyed(key).field("Expect", "201-created")).await;
        assert!(answer.status >= 400, "{key}: {answer:?}");
        assert_eq!(answer.field("operation-id"), Some(&*ticket.id), "{key}");
        assert_eq!(answer.field("idempotency-replayed"), Some("true"), "{key}");
    }
    assert_eq!(upstream.received().len(), 2);
}

#[tokio::test]
async fn a_synchronous_repeat_whose_result_was_freed_says_so_and_sends_nothing() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.accept(keyed("k")).await;
    gateway.settled(&ticket).await;
    gateway.send(Request::new("DELETE", &*ticket.monitor)).await.expect(204);
    let answer = gateway.send(keyed("k").field("Expect", "201-created")).await;
    assert_eq!(answer.field("operation-id"), Some(&*ticket.id));
    answer.problem(410);
    upstream.only();
}

#[tokio::test]
async fn a_refused_request_leaves_its_key_free() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    gateway.send(keyed("k").field("Expect", "tea")).await.problem(417);
    gateway.send(keyed("k").field("Operation-Timeout", "-1")).await.problem(400);
    let other = post("/orders").body("text/plain", "another request");
    let answer = gateway.send(other.field("Idempotency-Key", "k")).await.expect(202);
    assert_eq!(answer.field("idempotency-replayed"), None);
}

#[tokio::test]
async fn an_end_before_anything_was_sent_frees_the_key() {
    // No upstream listens there.
    let address = crate::support::upstream::closed_port().await;
    let lines = "retry = { attempts = 1 }";
    let setup = Setup::before_url(&format!("http://{address}"));
    let gateway = setup.route("POST /orders", lines).start().await;
    let first = gateway.accept(keyed("k")).await;
    assert_eq!(gateway.settled(&first).await["error"]["code"], "upstream-unreachable");
    let upstream = Upstream::start_on(address).await;
    let again = gateway.send(keyed("k")).await.expect(202);
    assert_eq!(again.field("idempotency-replayed"), None);
    gateway
        .while_stepping(1, "its arrival", || async { (upstream.requests() == 1).then_some(()) })
        .await;
    assert_ne!(Ticket::of(&again), first);

    // Canceled, or too late, before it began.
    for cancel in [true, false] {
        let upstream = Upstream::start().await;
        let lines = "deadline = \"20s\"";
        let setup = Setup::before(&upstream).set("queues.default", "paused = true");
        let gateway = setup.route("POST /orders", lines).start().await;
        let first = gateway.accept(keyed("k")).await;
        if cancel {
            gateway.send(post(first.at("cancel"))).await.expect(200);
        } else {
            gateway.settled_by_steps_of(5, &first).await;
        }
        let other = keyed("k").json(&serde_json::json!({ "sku": "B-2" }));
        let again = gateway.send(other).await.expect(202);
        assert_eq!(again.field("idempotency-replayed"), None, "canceled: {cancel}");
        assert_ne!(Ticket::of(&again), first);
        assert_eq!(gateway.listed().await, 2);
    }
}

#[tokio::test]
async fn an_end_after_something_was_sent_keeps_the_key() {
    for (answer, cancel) in
        [(Answer::Reset, false), (Answer::status(404), false), (Answer::Never, true)]
    {
        let upstream = Upstream::start().await;
        upstream.on("/orders", answer.clone());
        let gateway = Gateway::before(&upstream).await;
        let first = gateway.accept(keyed("k")).await;
        upstream.until_received("/orders", 1).await;
        if cancel {
            gateway.send(post(first.at("cancel"))).await.expect(202);
        }
        gateway.settled(&first).await;
        let again = gateway.send(keyed("k")).await.expect(202);
        assert_eq!(again.field("idempotency-replayed"), Some("true"), "{answer:?}");
        assert_eq!(Ticket::of(&again), first);
    }
}

fn differing(problem: &serde_json::Value) -> Vec<&str> {
    let names = problem["differs"].as_array().unwrap();
    let names: Vec<_> = names.iter().map(|name| name.as_str().unwrap()).collect();
    let detail = problem["detail"].as_str().unwrap();
    assert!(names.iter().all(|name| detail.contains(name)), "{problem}");
    names
}

#[tokio::test]
async fn the_422_says_what_differs() {
    let upstream = Upstream::start().await;
    let lines = "callbacks = \"any\"\nname = \"all\"";
    let gateway = Setup::before(&upstream).route("* /orders", lines).start().await;
    let sent = |method: &str, target: &str| {
        Request::new(method, target)
            .field("Idempotency-Key", "k")
            .field("Authorization", "ann")
            .field("Callback-Url", "https://hooks.example.com/7")
    };
    let json = r#"{"sku":"A-1"}"#;
    let usual = || sent("POST", "/orders").body("application/json", json);
    gateway.accept(usual()).await;
    for (other, parts) in [
        (sent("PUT", "/orders").body("application/json", json), &["method"][..]),
        (sent("POST", "/orders?a=1").body("application/json", json), &["target"]),
        (sent("POST", "/orders").body("text/json", json), &["media type"]),
        (sent("POST", "/orders").body("application/json", "{}"), &["body"]),
        (usual().field("Callback-Events", "operation.started"), &["callback"]),
        (usual().field("Cookie", "a=b"), &["credentials"]),
        (sent("PUT", "/orders?a=1"), &["method", "target", "media type", "body"]),
    ] {
        let problem = gateway.send(other).await.problem(422);
        assert_eq!(differing(&problem), parts, "{problem}");
        assert_eq!(problem["field"], "Idempotency-Key");
    }
}

#[tokio::test]
async fn a_full_queue_says_what_differs_too() {
    let upstream = Upstream::start().await;
    let setup = Setup::before(&upstream).set("queues.default", "max_depth = 1\npaused = true");
    let gateway = setup.start().await;
    gateway.accept(keyed("k")).await;
    let other = post("/orders").body("application/json", "{}").field("Idempotency-Key", "k");
    assert_eq!(differing(&gateway.send(other).await.problem(422)), ["body"]);
}

#[tokio::test]
async fn the_422_leads_a_principal_to_the_first_one() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream).principal("authorization").start().await;
    let of = |who: &str| keyed("k").field("Authorization", who);
    let ticket = gateway.accept(of("ann")).await;
    gateway.accept(of("bob")).await;
    let other = post("/orders?a=1").field("Idempotency-Key", "k").field("Authorization", "ann");
    let answer = gateway.send(other).await.expect(422);
    let monitor = format!("{}{}", gateway.origin(), ticket.monitor);
    assert_eq!(answer.field("location"), Some(&*monitor));
    assert_eq!(answer.field("operation-id"), Some(&*ticket.id));
    assert_eq!(answer.problem(422)["monitor"], monitor);
}

#[tokio::test]
async fn media_types_that_mean_the_same_are_the_same_request() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let of = |kind: &str| post("/orders").body(kind, "x").field("Idempotency-Key", "k");
    let first = gateway.accept(of("text/plain; charset=utf-8; x=A")).await;
    for same in [
        "TEXT/Plain;charset=utf-8;x=A",
        "text/plain ; Charset=\"UTF-8\"; X=\"A\"",
        "text/plain;x=A;charset=utf-8",
    ] {
        assert_eq!(gateway.accept(of(same)).await, first, "{same}");
    }
    for other in ["text/plain", "text/plain; charset=utf-8; x=a", "text/html; charset=utf-8; x=A"] {
        let problem = gateway.send(of(other)).await.problem(422);
        assert_eq!(differing(&problem), ["media type"], "{other}");
    }
}

#[tokio::test]
async fn the_host_counts_where_the_upstream_is_told_it() {
    let upstream = Upstream::start().await;
    for (keeps, status) in [(false, 202), (true, 422)] {
        let setting = format!("preserve_host = {keeps}");
        let gateway = Setup::before(&upstream).set("upstreams.default", &setting).start().await;
        let of = |host: &str| keyed("k").field("Host", host);
        gateway.send(of("one.example")).await.expect(202);
        let again = gateway.send(of("ONE.example")).await.expect(202);
        assert_eq!(again.field("idempotency-replayed"), Some("true"));
        let other = gateway.send(of("two.example")).await.expect(status);
        if keeps {
            assert_eq!(other.json()["differs"], serde_json::json!(["target"]));
            assert!(other.text().contains("the two differ in the target"), "{}", other.text());
        }
    }
}
