//! The admin listener: who may speak to it, and what it says.

use crate::support::gateway::order;
use crate::support::{Gateway, Request, Setup, Upstream, get, post, time};

#[tokio::test]
async fn it_answers_only_to_localhost_ip_literals_and_listed_hosts() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream).set("admin", "hosts = [\"ops.example\"]").start().await;
    for target in ["/metrics", "/livez", "/-/operations"] {
        for host in ["localhost", "localhost:8081", "127.0.0.1", "[::1]:9", "ops.example"] {
            gateway.admin(get(target).field("Host", host)).await.expect(200);
        }
        for host in ["evil.example", "localhost.evil.example", "ops.example.evil", "127.0.0.1.evil"]
        {
            gateway.admin(get(target).field("Host", host)).await.problem(421);
        }
    }
}

#[tokio::test]
async fn a_page_on_another_origin_can_change_nothing() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.accept(order().field("Operation-Delay", "60")).await;
    let cancel = || post(format!("/-/operations/{}/cancel", ticket.id));
    for attempt in [
        cancel().field("Sec-Fetch-Site", "cross-site"),
        cancel().field("Sec-Fetch-Site", "same-site"),
        cancel().field("Origin", "https://evil.example"),
        cancel().field("Origin", "null"),
        cancel().field("Origin", "https://evil.example").field("Content-Type", "application/json"),
        cancel().body("application/x-www-form-urlencoded", "a=b"),
        cancel().body("text/plain", "{}"),
        cancel(),
    ] {
        let answer = gateway.admin(attempt.clone()).await;
        assert!((400..500).contains(&answer.status), "{attempt:?}: {answer:?}");
        assert_eq!(gateway.document(&ticket).await["status"], "queued", "{attempt:?}");
    }
}

#[tokio::test]
async fn its_own_pages_and_programs_can() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let own = format!("http://{}", gateway.admin);
    for marks in [
        vec![("Sec-Fetch-Site", "same-origin")],
        vec![("Sec-Fetch-Site", "none")],
        vec![("Origin", &*own)],
        vec![("Content-Type", "application/json")],
    ] {
        let ticket = gateway.accept(order().field("Operation-Delay", "60")).await;
        let mut cancel = post(format!("/-/operations/{}/cancel", ticket.id));
        for (name, value) in marks {
            cancel = cancel.field(name, value);
        }
        gateway.admin(cancel).await.expect(200);
    }
}

#[tokio::test]
async fn no_origin_ever_gets_leave_to_read_it() {
    let upstream = Upstream::start().await;
    let gateway =
        Setup::before(&upstream).set("cors", "origins = [\"https://app.example\"]").start().await;
    let request = get("/-/operations").field("Origin", "https://app.example");
    let answer = gateway.admin(request).await;
    assert_eq!(answer.field("access-control-allow-origin"), None);
    let preflight = Request::new("OPTIONS", "/-/operations")
        .field("Origin", "https://app.example")
        .field("Access-Control-Request-Method", "POST");
    assert_eq!(gateway.admin(preflight).await.field("access-control-allow-origin"), None);
}

#[tokio::test]
async fn livez_and_readyz_need_no_credential() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream).principal("authorization").start().await;
    for target in ["/livez", "/readyz"] {
        gateway.admin(get(target)).await.expect(200);
        gateway.admin(Request::new("HEAD", target)).await.expect(200);
    }
}

#[tokio::test]
async fn metrics_count_what_was_accepted_and_how_it_ended() {
    let upstream = Upstream::start().await;
    upstream.on("/failing", crate::support::Answer::status(400));
    let gateway = Gateway::before(&upstream).await;
    for path in ["/orders", "/orders", "/failing"] {
        let ticket = gateway.accept(post(path)).await;
        gateway.settled(&ticket).await;
    }
    let metrics = gateway.admin(get("/metrics")).await.expect(200).text();
    assert!(sum(&metrics, "cloakroom_operations_accepted_total", "") >= 3.0, "{metrics}");
    let finished = "cloakroom_operations_finished_total";
    assert!(sum(&metrics, finished, "outcome=\"succeeded\"") >= 2.0, "{metrics}");
    assert!(sum(&metrics, finished, "outcome=\"failed\"") >= 1.0, "{metrics}");
}

/// The sum of a metric's samples whose labels contain `label`.
fn sum(metrics: &str, name: &str, label: &str) -> f64 {
    let samples = metrics.lines().filter(|line| line.starts_with(name) && line.contains(label));
    samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[tokio::test]
async fn metrics_are_not_on_the_public_listener() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    for target in ["/metrics", "/livez", "/readyz"] {
        let answer = gateway.get(target).await.expect(200);
        assert_eq!(answer.field("gateway-origin"), Some("upstream"), "{target}");
    }
}

#[tokio::test]
async fn an_operator_sees_everybodys_operations() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream).principal("authorization").start().await;
    for who in ["ann", "bob"] {
        gateway.accept(order().field("Authorization", who)).await;
    }
    let list = gateway.admin(get("/-/operations")).await.expect(200).json();
    assert_eq!(crate::support::gateway::operations_of(&list).len(), 2);
}

#[tokio::test]
async fn a_retry_by_hand_is_a_new_operation_with_the_same_key_to_the_upstream() {
    let upstream = Upstream::start().await;
    upstream.script("/orders", [crate::support::Answer::Reset]);
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    let failed = gateway.settled(&ticket).await;
    assert_eq!(failed["error"]["code"], "outcome-unknown");
    let retry = post(format!("/-/operations/{}/retry", ticket.id)).body("application/json", "{}");
    let answer = gateway.admin(retry).await;
    assert!(matches!(answer.status, 201 | 202), "{answer:?}");
    let successor = answer.expect_field("operation-id").to_owned();
    assert_ne!(successor, ticket.id);
    let status = get(format!("/-/operations/{successor}/status"));
    let document = time::until("its success", || async {
        let document = gateway.admin(status.clone()).await.expect(200).json();
        (document["status"] == "succeeded").then_some(document)
    })
    .await;
    assert_eq!(document["retryOf"], &*ticket.id);
    let mut former = gateway.document(&ticket).await;
    assert_eq!(former["retriedBy"], *successor);
    former["retriedBy"] = serde_json::json!(null);
    assert_eq!(former, failed, "the first one stays as it is");
    let received = upstream.received();
    assert_eq!(received.len(), 2);
    let key = |n: usize| received[n].expect_field("idempotency-key");
    assert_eq!(key(0), key(1));
    assert_eq!(received[0].body, received[1].body);
}

#[tokio::test]
async fn what_a_program_sent_wrongly_is_told_by_what_is_wrong_with_it() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.accept(order().field("Operation-Delay", "60")).await;
    let cancel = || post(format!("/-/operations/{}/cancel", ticket.id));
    for unsaid in [cancel(), cancel().body("text/plain", "{}"), post("/-/webhooks")] {
        let problem = gateway.admin(unsaid).await.problem(415);
        assert_eq!(problem["field"], "Content-Type");
        assert!(problem["detail"].as_str().unwrap().contains("application/json"), "{problem}");
    }
    assert_eq!(gateway.document(&ticket).await["status"], "queued");
    for method in ["PUT", "PATCH", "OPTIONS"] {
        for (target, allowed) in [("/-/webhooks", "POST"), ("/-/queues", "GET"), ("/livez", "GET")]
        {
            let answer = gateway.admin(Request::new(method, target)).await;
            assert!(
                answer.expect_field("allow").contains(allowed),
                "{method} {target}: {answer:?}"
            );
            answer.problem(405);
        }
        gateway.admin(Request::new(method, "/-/nothing")).await.problem(404);
        gateway.admin(Request::new(method, "/nothing")).await.problem(404);
    }
    gateway.admin(post("/-/nothing").json(&serde_json::json!({}))).await.problem(404);
    let foreign = Request::new("PUT", "/-/webhooks").field("Origin", "https://evil.example");
    gateway.admin(foreign).await.problem(403);
}

#[tokio::test]
async fn a_member_that_is_there_twice_is_refused_by_its_name() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", crate::support::Answer::Reset);
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    gateway.settled(&ticket).await;
    let operation = format!("/-/operations/{}", ticket.id);
    for (target, body, member) in [
        (
            format!("{operation}/verdict"),
            r#"{"outcome":"happened","outcome":"did-not-happen"}"#,
            "outcome",
        ),
        (format!("{operation}/verdict"), r#"{"outcome":"happened","note":"a","note":"a"}"#, "note"),
        (
            "/-/webhooks".to_owned(),
            r#"{"url":"https://a.example","url":"https://b.example"}"#,
            "url",
        ),
        ("/-/webhooks/callback-key".to_owned(), r#"{"grace":0,"grace":9}"#, "grace"),
    ] {
        let request = post(target).body("application/json", body);
        assert_eq!(gateway.admin(request).await.problem(400)["field"], member, "{body}");
    }
    assert_eq!(gateway.document(&ticket).await["verdict"], serde_json::json!(null));
}

async fn retried(gateway: &Gateway, id: &str, body: &str) -> crate::support::Response {
    let retry = post(format!("/-/operations/{id}/retry")).body("application/json", body);
    gateway.admin(retry).await
}

/// The id of a retry that is accepted.
async fn successor(gateway: &Gateway, id: &str, body: &str) -> String {
    retried(gateway, id, body).await.expect(202).expect_field("operation-id").to_owned()
}

/// Looks until an operation has ended like that.
async fn until_ended(gateway: &Gateway, id: &str, status: &str) -> serde_json::Value {
    time::until(status, || async {
        let shown = gateway.admin(get(format!("/-/operations/{id}/status"))).await.expect(200);
        Some(shown.json()).filter(|document| document["status"] == status)
    })
    .await
}

#[tokio::test]
async fn a_second_retry_is_refused_while_one_stands_that_has_not_failed() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", crate::support::Answer::status(400));
    let gateway = Gateway::before(&upstream).await;
    let first = gateway.post_order().await;
    gateway.settled(&first).await;
    let failed = successor(&gateway, &first.id, "{}").await;
    until_ended(&gateway, &failed, "failed").await;
    upstream.on("/orders", crate::support::Answer::Orders);
    upstream.hold("/orders");
    // One that failed stands in the way of no other.
    let running = successor(&gateway, &first.id, "{}").await;
    for of in [&*first.id, &failed] {
        let answer = retried(&gateway, of, "{}").await;
        let problem = answer.problem(409);
        assert_eq!(problem["type"], "urn:cloakroom:problem:already-retried");
        assert_eq!(
            (&problem["retriedBy"], &problem["field"]),
            (&running.clone().into(), &"again".into())
        );
        assert!(problem["monitor"].as_str().unwrap().contains(&running), "{problem}");
    }
    assert_eq!(gateway.document(&first).await["retriedBy"], *running);
    upstream.release("/orders");
    until_ended(&gateway, &running, "succeeded").await;
    retried(&gateway, &first.id, "{\"again\":false}").await.problem(409);
    let again = successor(&gateway, &first.id, "{\"again\":true}").await;
    assert_eq!(gateway.document(&first).await["retriedBy"], *again);
    until_ended(&gateway, &again, "succeeded").await;
    retried(&gateway, &again, "{}").await.problem(409);
    for wrong in ["{\"again\":1}", "{\"agin\":true}", "[]", "{\"again\":true,\"again\":true}"] {
        retried(&gateway, &first.id, wrong).await.problem(400);
    }
}

#[tokio::test]
async fn a_retry_that_was_canceled_stands_in_nobodys_way() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", crate::support::Answer::status(400));
    let gateway = Gateway::before(&upstream).await;
    let first = gateway.post_order().await;
    gateway.settled(&first).await;
    gateway.admin(post("/-/queues/default/pause").json(&serde_json::json!({}))).await.expect(200);
    let waiting = successor(&gateway, &first.id, "{}").await;
    retried(&gateway, &first.id, "{}").await.problem(409);
    let cancel = post(format!("/-/operations/{waiting}/cancel")).json(&serde_json::json!({}));
    gateway.admin(cancel).await.expect(200);
    retried(&gateway, &first.id, "{}").await.expect(202);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_retries_that_are_asked_for_at_once_one_is_made() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", crate::support::Answer::status(400));
    let gateway = Gateway::before(&upstream).await;
    let first = gateway.post_order().await;
    gateway.settled(&first).await;
    upstream.hold("/orders");
    let asked = (0..10).map(|_| retried(&gateway, &first.id, "{}"));
    let statuses: Vec<u16> =
        futures_util::future::join_all(asked).await.iter().map(|answer| answer.status).collect();
    let of = |wanted: u16| statuses.iter().filter(|status| **status == wanted).count();
    assert_eq!((of(202), of(409)), (1, 9), "{statuses:?}");
}
