//! Answers that end when the connection closes.

use serde_json::{Value, json};

use crate::support::{Answer, Gateway, Request, Setup, Upstream, post};

/// Answers that say themselves where they end.
const TOLD: [&str; 5] = [
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
];
/// Answers that do not.
const UNTOLD: [&str; 5] = [
    "HTTP/1.1 200 OK\r\n\r\nok",
    "HTTP/1.0 200 OK\r\n\r\nok",
    "HTTP/1.1 201 Created\r\nConnection: close\r\nLocation: /orders/7\r\n\r\n",
    "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\n\r\nok",
    "HTTP/1.1 422 Unprocessable Content\r\n\r\nno",
];

fn raw(octets: impl Into<Vec<u8>>) -> Answer {
    Answer::Raw(octets.into())
}

async fn documents(gateway: &Gateway, upstream: &Upstream, answers: &[&str]) -> Vec<Value> {
    let mut documents = Vec::new();
    for answer in answers {
        upstream.script("/orders", [raw(*answer)]);
        let ticket = gateway.post_order().await;
        documents.push(gateway.settled(&ticket).await);
    }
    documents
}

#[tokio::test]
async fn a_document_says_so_where_only_the_closing_of_the_connection_ended_the_answer() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    for document in documents(&gateway, &upstream, &TOLD).await {
        assert_eq!(document.get("responseFraming"), None, "{document}");
    }
    for document in documents(&gateway, &upstream, &UNTOLD).await {
        assert_eq!(document["responseFraming"], "close", "{document}");
    }
}

#[tokio::test]
async fn it_says_so_after_a_restart_and_once_the_result_is_freed() {
    let upstream = Upstream::start().await;
    upstream.script("/orders", [raw(UNTOLD[0])]);
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    gateway.settled(&ticket).await;
    let gateway = gateway.restart().await;
    assert_eq!(gateway.document(&ticket).await["responseFraming"], "close");
    gateway.send(Request::new("DELETE", &*ticket.monitor)).await.expect(204);
    assert_eq!(gateway.document(&ticket).await["responseFraming"], "close");
}

#[tokio::test]
async fn of_an_answer_that_is_too_large_nothing_was_ended() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", raw(format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(5_000))));
    let gateway = Setup::before(&upstream).max_response(1_000).start().await;
    let ticket = gateway.post_order().await;
    let document = gateway.settled(&ticket).await;
    assert_eq!(document["error"]["code"], "response-too-large", "{document}");
    assert_eq!(document.get("responseFraming"), None, "{document}");
}

#[tokio::test]
async fn it_is_that_of_the_answer_which_is_kept() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream)
        .route("POST /orders", "recheck = \"GET /made?of={operation_id}\"")
        .route("POST /jobs", "")
        .start()
        .await;
    // What only a recheck found.
    upstream.on("/orders", Answer::Reset);
    upstream.on("/made", raw(UNTOLD[0]));
    let checked = gateway.post_order().await;
    let document = gateway.settled(&checked).await;
    assert_eq!(document["status"], "succeeded", "{document}");
    assert_eq!(document["responseFraming"], "close", "{document}");
    // What a monitor of the upstream's own ended with, and not its 202.
    let accepted = "HTTP/1.1 202 Accepted\r\nOperation-Location: /jobs/1\r\n";
    for (accepted, last, framing) in [
        (format!("{accepted}Content-Length: 0\r\n\r\n"), UNTOLD[0], json!("close")),
        (format!("{accepted}\r\n"), TOLD[0], Value::Null),
    ] {
        upstream.script("/jobs", [raw(accepted)]);
        upstream.script("/jobs/1", [raw(last)]);
        let ticket = gateway.accept(post("/jobs")).await;
        gateway.until_status(&ticket, "waiting").await;
        let document = gateway.settled_by_steps_of(1, &ticket).await;
        assert_eq!(document["responseStatus"], 200, "{document}");
        assert_eq!(document["responseFraming"], framing, "{document}");
    }
}
