//! Progress that an upstream reports during its work.

use serde_json::{Value, json};

use crate::support::gateway::path_of;
use crate::support::{Answer, Gateway, Request, Response, Setup, Ticket, Upstream, post, time};

async fn running() -> (Upstream, Gateway, Ticket, String) {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    let received = upstream.until_received("/orders", 1).await;
    let url = path_of(received[0].expect_field("operation-progress-url")).to_owned();
    (upstream, gateway, ticket, url)
}

async fn report(gateway: &Gateway, url: &str, percent: u32, message: &str) -> Response {
    let report = json!({"percentComplete": percent, "message": message});
    gateway.send(post(url).json(&report)).await
}

#[tokio::test]
async fn it_shows_in_the_document_and_at_the_monitor() {
    let (_upstream, gateway, ticket, url) = running().await;
    let answer = report(&gateway, &url, 40, "four of ten").await;
    assert!(matches!(answer.status, 200 | 202 | 204), "{answer:?}");
    let shown = |document: &Value| document["percentComplete"] == 40;
    let document = gateway.until_document("the progress", &ticket, shown).await;
    assert_eq!(document["message"], "four of ten");
    assert_eq!(document["status"], "running");
    let monitor = gateway.get(&ticket.monitor).await.expect(202);
    assert!(monitor.expect_field("x-progress").starts_with("40"), "{monitor:?}");
}

#[tokio::test]
async fn at_most_one_update_a_second_is_kept() {
    let (_upstream, gateway, ticket, url) = running().await;
    report(&gateway, &url, 10, "one").await;
    let shown = |document: &Value| document["percentComplete"] == 10;
    gateway.until_document("the first", &ticket, shown).await;
    let second = report(&gateway, &url, 20, "two").await;
    assert!(second.status < 500, "{second:?}");
    assert_eq!(gateway.document(&ticket).await["percentComplete"], 10);
    gateway.advance(1);
    report(&gateway, &url, 30, "three").await;
    let shown = |document: &Value| document["percentComplete"] == 30;
    gateway.until_document("the third", &ticket, shown).await;
}

#[tokio::test]
async fn a_message_has_at_most_200_characters() {
    let (_upstream, gateway, ticket, url) = running().await;
    let answer = report(&gateway, &url, 40, &"é".repeat(300)).await;
    assert!(answer.status < 500, "{answer:?}");
    if answer.status < 300 {
        let shown = |document: &Value| document["percentComplete"] == 40;
        let document = gateway.until_document("the progress", &ticket, shown).await;
        assert_eq!(document["message"].as_str().unwrap().chars().count(), 200);
    }
    let monitor = gateway.get(&ticket.monitor).await.expect(202);
    let progress = monitor.expect_field("x-progress");
    assert!(progress.is_ascii() && progress.len() < 100, "{progress}");
}

#[tokio::test]
async fn a_message_cannot_break_the_fields_of_an_answer() {
    let (_upstream, gateway, ticket, url) = running().await;
    report(&gateway, &url, 40, "a\r\nX-Forged: 1\u{0}").await;
    let monitor = gateway.get(&ticket.monitor).await.expect(202);
    assert_eq!(monitor.field("x-forged"), None);
}

#[tokio::test]
async fn malformed_reports_are_4xx_and_change_nothing() {
    let (_upstream, gateway, ticket, url) = running().await;
    for body in [
        "",
        "{",
        "[]",
        "null",
        r#"{"percentComplete":"x"}"#,
        r#"{"percentComplete":101}"#,
        r#"{"percentComplete":-1}"#,
        r#"{"percentComplete":1e99}"#,
    ] {
        let answer = gateway.send(post(&*url).body("application/json", body)).await;
        assert!((400..500).contains(&answer.status), "{body}: {answer:?}");
    }
    assert_eq!(gateway.document(&ticket).await["percentComplete"], Value::Null);
}

#[tokio::test]
async fn a_wrong_token_is_404() {
    let (_upstream, gateway, ticket, url) = running().await;
    let (before, token) = url.rsplit_once('/').unwrap();
    for token in ["1", "nonsense", &format!("{token}0"), &token.replace('a', "b")] {
        if url.ends_with(token) {
            continue;
        }
        report(&gateway, &format!("{before}/{token}"), 99, "forged").await.problem(404);
    }
    assert_ne!(gateway.document(&ticket).await["percentComplete"], 99);
}

#[tokio::test]
async fn a_token_serves_its_own_attempt_only() {
    let upstream = Upstream::start().await;
    upstream.script("/orders", [Answer::status(500), Answer::Never]);
    let gateway = Setup::before(&upstream)
        .route("POST /orders", "delivery = \"at-least-once\"")
        .start()
        .await;
    let ticket = gateway.post_order().await;
    let two = || async { (upstream.received().len() == 2).then_some(()) };
    gateway.while_stepping(1, "a second attempt", two).await;
    let received = upstream.received();
    let url = |n: usize| path_of(received[n].expect_field("operation-progress-url")).to_owned();
    let old = report(&gateway, &url(0), 99, "of the first").await;
    assert!((400..500).contains(&old.status), "{old:?}");
    assert!(report(&gateway, &url(1), 40, "of the second").await.status < 300);
    let shown = |document: &Value| document["percentComplete"] == 40;
    gateway.until_document("the progress", &ticket, shown).await;
}

#[tokio::test]
async fn after_the_end_a_report_changes_nothing() {
    let (upstream, gateway, ticket, url) = running().await;
    upstream.release("/orders");
    let document = gateway.settled(&ticket).await;
    let late = report(&gateway, &url, 99, "too late").await;
    assert!((400..500).contains(&late.status), "{late:?}");
    assert_eq!(gateway.document(&ticket).await, document);
}

#[tokio::test]
async fn it_goes_into_the_timeline_and_to_those_who_watch() {
    let (_upstream, gateway, ticket, url) = running().await;
    let watch = crate::support::get(ticket.at("events"));
    let mut stream = crate::support::client::EventStream::open(gateway.public, watch).await;
    report(&gateway, &url, 40, "four of ten").await;
    let seen = time::within("the event", async {
        loop {
            let event = stream.next().await.expect("a stream that goes on");
            if event.data.contains("40") {
                return event;
            }
        }
    });
    assert!(seen.await.event.unwrap().ends_with("progressed"));
}

#[tokio::test]
async fn only_a_post_reports() {
    let (_upstream, gateway, _ticket, url) = running().await;
    let answer = gateway.send(Request::new("GET", &*url)).await;
    assert!(matches!(answer.status, 404 | 405), "{answer:?}");
}

#[tokio::test]
async fn the_address_for_it_can_be_an_internal_one() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream)
        .set("server", "internal_url = \"http://gateway.internal:8080\"")
        .start()
        .await;
    let ticket = gateway.post_order().await;
    gateway.settled(&ticket).await;
    let received = upstream.only();
    let url = received.expect_field("operation-progress-url");
    assert!(url.starts_with("http://gateway.internal:8080/-/operations/"), "{url}");
}

#[tokio::test]
async fn without_an_internal_one_the_address_for_it_is_below_the_public_url() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream)
        .set("server", "public_url = \"https://api.example.com/shop\"")
        .start()
        .await;
    gateway.send(post("/orders")).await.expect(202);
    let received = upstream.until_received("/orders", 1).await;
    let url = received[0].expect_field("operation-progress-url");
    assert!(url.starts_with("https://api.example.com/shop/-/operations/"), "{url}");
}
