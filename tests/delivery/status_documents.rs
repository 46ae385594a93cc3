//! The status documents of upstreams' own monitors.

use serde_json::json;

use super::following::accepted;
use crate::support::{Answer, Gateway, Setup, Upstream};

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
