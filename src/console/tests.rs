//! Tests of the whole admin listener, without a socket.

use http::header::CACHE_CONTROL;
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::*;
use crate::api::queue_status::{
    Backlog, LaneStatus, PermitsInUse, QueueStatus, QueueStatusReport, UpstreamStatus,
};
use cloakroom_domain::Timestamp;
use cloakroom_domain::breaker::BreakerPhase;
use cloakroom_domain::urgency::QueueTarget;
use std::time::Duration;

fn standing() -> QueueStatusReport {
    let lane = |depth, oldest| LaneStatus {
        queue: "default".to_owned(),
        upstream: "console-test".to_owned(),
        backlog: Backlog { depth, oldest, stored: depth * 10 },
    };
    let upstream = |name: &str, breaker| UpstreamStatus {
        name: name.to_owned(),
        permits: PermitsInUse { running: 2, limit: 8 },
        elsewhere: 1,
        max_in_flight: 8,
        rate: None,
        breaker,
    };
    let open = BreakerPhase::HalfOpen { since: Timestamp::EPOCH, probes: 1, openings: 1 };
    let queue = QueueStatus {
        name: "console-test".to_owned(),
        expected: QueueTarget { priority: 0, target_wait: Duration::from_millis(2500) },
        permits: PermitsInUse { running: 3, limit: 4 },
        elsewhere: 1,
        started_per_second: 0.5,
        max_in_flight: Some(4),
        rate: None,
        max_depth: 9,
        max_stored: 900,
        paused: false,
    };
    QueueStatusReport {
        lanes: vec![lane(2, Some(Duration::from_millis(1500))), lane(1, None)],
        queues: vec![queue],
        upstreams: vec![
            upstream("console-up", BreakerPhase::default()),
            upstream("console-down", open),
        ],
    }
}

fn console(ready: Result<(), String>) -> ConsoleSettings {
    ConsoleSettings {
        hosts: Vec::new(),
        prefix: "/-".to_owned(),
        operators: Router::new().route("/operations", get(|| async { "all of them" })),
        ready: Arc::new(move || ready.clone()),
        look: Arc::new(|| Box::pin(async { Ok(standing()) })),
        metrics: crate::telemetry::metrics(),
    }
}

async fn asked(console: ConsoleSettings, host: &str, target: &str) -> (StatusCode, String) {
    let request = Request::get(target).header("host", host).body(axum::body::Body::empty());
    let response = stack::layered(console).oneshot(request.unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    assert_eq!(head.headers["gateway-origin"], "cloakroom");
    assert_eq!(head.headers[CACHE_CONTROL], "no-store");
    let body = body.collect().await.unwrap().to_bytes();
    (head.status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn ready_until_told_otherwise_and_alive_all_along() {
    assert_eq!(asked(console(Ok(())), "localhost", "/readyz").await.0, 200);
    let draining = console(Err("it is draining".to_owned()));
    let (status, said) = asked(draining.clone(), "localhost", "/readyz").await;
    assert_eq!(status, 503);
    assert!(said.contains("it is draining"), "{said}");
    assert_eq!(asked(draining, "localhost", "/livez").await.0, 200);
}

#[tokio::test]
async fn a_scrape_looks_at_what_waits() {
    let (status, said) = asked(console(Ok(())), "127.0.0.1:8081", "/metrics").await;
    assert_eq!(status, 200);
    let labels = "{queue=\"default\",upstream=\"console-test\"}";
    assert!(said.contains(&format!("cloakroom_queue_depth{labels} 3")), "{said}");
    assert!(said.contains(&format!("cloakroom_queue_oldest_seconds{labels} 1.5")), "{said}");
    assert!(said.contains(&format!("cloakroom_queue_stored_bytes{labels} 30")), "{said}");
    for line in [
        "cloakroom_queue_target_wait_seconds{queue=\"console-test\"} 2.5",
        "cloakroom_upstream_breaker_open{upstream=\"console-up\"} 0",
        "cloakroom_upstream_breaker_open{upstream=\"console-down\"} 1",
        "cloakroom_permits_in_use{of=\"queue\",name=\"console-test\"} 3",
        "cloakroom_permits_limit{of=\"queue\",name=\"console-test\"} 4",
        "cloakroom_permits_limit{of=\"upstream\",name=\"console-up\"} 8",
    ] {
        assert!(said.contains(line), "{line} in {said}");
    }
}

#[tokio::test]
async fn everything_lies_behind_the_guard() {
    for target in ["/", "/livez", "/metrics", "/-/operations", "/nowhere"] {
        assert_eq!(asked(console(Ok(())), "evil.example", target).await.0, 421, "{target}");
    }
    assert_eq!(asked(console(Ok(())), "localhost", "/-/operations").await.1, "all of them");
    assert_eq!(asked(console(Ok(())), "localhost", "/nowhere").await.0, 404);
    assert!(asked(console(Ok(())), "localhost", "/").await.1.contains("/-/operations"));
}
