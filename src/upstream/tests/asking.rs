//! What a monitor's answers mean.

use super::*;
use crate::upstream::{Asked, Monitor, NamedBy};

fn answer(status: u16, more: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} Any\r\nContent-Length: {length}\r\n{more}\r\n{body}")
}

async fn ask(named_by: NamedBy, answer: &str) -> Asked {
    let (url, _arrived) = serve_always(answer);
    let monitor = Monitor { named_by, url: url.join("/jobs/7").unwrap() };
    at(&url).ask(&monitor, &HeaderMap::new(), &SentMarker::new()).await
}

#[tokio::test]
async fn answers_that_tell_of_no_end_leave_it_pending_and_keep_retry_after() {
    for status in [202, 408, 425, 429, 500, 503, 504] {
        let asked = ask(NamedBy::Location, &answer(status, "Retry-After: 7\r\n", "")).await;
        let Asked::StillPending { retry_after: Some(retry_after), trouble: None } = asked else {
            panic!("{status}: {asked:?}");
        };
        assert_eq!(retry_after, "7");
    }
}

#[tokio::test]
async fn a_monitor_that_cannot_be_asked_leaves_it_pending() {
    let url = nowhere();
    let monitor = Monitor { named_by: NamedBy::Location, url: url.clone() };
    let asked = at(&url).ask(&monitor, &HeaderMap::new(), &SentMarker::new()).await;
    assert!(matches!(asked, Asked::StillPending { trouble: Some(_), .. }), "{asked:?}");
    let asked = ask(NamedBy::Location, "garbage").await;
    assert!(matches!(asked, Asked::StillPending { trouble: Some(_), .. }), "{asked:?}");
}

#[tokio::test]
async fn other_answers_are_the_end_with_their_own_status() {
    for status in [200, 201, 204, 400, 403, 404, 410, 304] {
        let answer = answer(status, "", "").replace("Content-Length: 0\r\n", "");
        let asked = ask(NamedBy::Location, &answer).await;
        let Asked::Finished { status: told, created: None, .. } = asked else {
            panic!("{status}: {asked:?}");
        };
        assert_eq!(told, status);
    }
}

#[tokio::test]
async fn a_see_other_names_what_was_created_seen_from_the_monitor() {
    let (url, _arrived) = serve_always(&answer(303, "Location: ../orders/9\r\n", ""));
    let monitor = Monitor { named_by: NamedBy::Location, url: url.join("/jobs/7").unwrap() };
    let asked = at(&url).ask(&monitor, &HeaderMap::new(), &SentMarker::new()).await;
    let Asked::Finished { status: 303, created: Some(created), .. } = asked else {
        panic!("{asked:?}");
    };
    assert_eq!(created, url.join("/orders/9").unwrap().as_str());
    for location in ["javascript:alert(1)", "data:,x", "http://u:p@a/"] {
        let answer = answer(303, &format!("Location: {location}\r\n"), "");
        let asked = ask(NamedBy::Location, &answer).await;
        assert!(matches!(asked, Asked::Finished { status: 303, created: None, .. }), "{asked:?}");
    }
}

#[tokio::test]
async fn an_operation_document_says_by_its_status_how_it_stands() {
    for status in ["running", "NotStarted", "inProgress", "queued", "accepted", "pending", "new"] {
        let document = format!("{{\"id\":1,\"status\":\"{status}\"}}");
        let asked =
            ask(NamedBy::OperationLocation, &answer(200, "Retry-After: 3\r\n", &document)).await;
        assert!(
            matches!(&asked, Asked::StillPending { retry_after: Some(it), .. } if it == "3"),
            "{status}: {asked:?}"
        );
    }
    for (document, expected) in [
        ("{\"status\":\"Succeeded\",\"result\":{}}", 200),
        ("{\"status\":\"completed\"}", 200),
        ("{\"status\":\"Failed\"}", 424),
        ("{\"status\":\"canceled\"}", 424),
        ("{\"status\":\"CANCELLED\"}", 424),
        ("{\"status\":5}", 200),
        ("{}", 200),
        ("[\"running\"]", 200),
        ("not json", 200),
        ("", 200),
    ] {
        let asked = ask(NamedBy::OperationLocation, &answer(200, "", document)).await;
        let Asked::Finished { status, mut reply, .. } = asked else {
            panic!("{document}: {asked:?}");
        };
        assert_eq!((status, reply.status.as_u16()), (expected, 200), "{document}");
        assert_eq!(read(&mut reply.body).await.unwrap(), document);
    }
}

#[tokio::test]
async fn a_document_of_a_location_monitor_is_a_result_like_any_other() {
    let asked = ask(NamedBy::Location, &answer(200, "", "{\"status\":\"running\"}")).await;
    assert!(matches!(asked, Asked::Finished { status: 200, .. }), "{asked:?}");
}

#[tokio::test]
async fn a_large_answer_is_not_read_for_its_status_and_none_of_it_is_lost() {
    let large = format!("{{\"status\":\"running\",\"x\":\"{}\"}}", "x".repeat(200_000));
    let asked = ask(NamedBy::OperationLocation, &answer(200, "", &large)).await;
    let Asked::Finished { status: 200, mut reply, .. } = asked else { panic!("{asked:?}") };
    assert_eq!(reply.body.length(), Some(large.len() as u64));
    assert_eq!(read(&mut reply.body).await.unwrap(), large);
}

#[tokio::test]
async fn a_document_that_breaks_off_leaves_it_pending() {
    let (url, _arrived) = serve(|listener, _| {
        let mut peer = listener.accept();
        peer.request();
        peer.answer("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"status\":\"succeeded\"}");
    });
    let monitor = Monitor { named_by: NamedBy::OperationLocation, url: url.clone() };
    let asked = at(&url).ask(&monitor, &HeaderMap::new(), &SentMarker::new()).await;
    assert!(matches!(asked, Asked::StillPending { trouble: Some(_), .. }), "{asked:?}");
}

#[tokio::test]
async fn credentials_go_to_the_own_origin_and_to_no_other() {
    let (own, mut seen_at_home) = serve_always(OK);
    let (foreign, mut seen_abroad) = serve_always(OK);
    let mut configured = settings(own.clone());
    configured.headers = fields(&[("x-key", "gateway-secret")]).into();
    configured.follow = vec![foreign.origin().ascii_serialization()];
    let upstream = upstream(configured);
    let sent = fields(&[("authorization", "client-secret"), ("accept", "a/b")]);
    let asking = async |url: &Url| {
        let url = url.join("/jobs/7?x=%20").unwrap();
        let monitor = Monitor { named_by: NamedBy::Location, url };
        upstream.ask(&monitor, &sent, &SentMarker::new()).await
    };
    asking(&own).await;
    let request = seen_at_home.recv().await.unwrap();
    assert!(request.contains("GET /jobs/7?x=%20 HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("client-secret") && request.contains("gateway-secret"), "{request}");
    let Asked::Finished { status: 200, mut reply, .. } = asking(&foreign).await else {
        panic!("not finished");
    };
    assert_eq!(read(&mut reply.body).await.unwrap(), "ok");
    let request = seen_abroad.recv().await.unwrap();
    assert!(request.contains("GET /jobs/7?x=%20 HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("accept: a/b\r\n") && !request.contains("secret"), "{request}");
    let host = format!("host: {}\r\n", foreign.authority());
    assert!(request.contains(&host), "{request}");
}

#[tokio::test]
async fn a_monitor_whose_origin_is_followed_no_longer_is_not_asked() {
    let (foreign, mut arrived) = serve_always(OK);
    let monitor = Monitor { named_by: NamedBy::Location, url: foreign };
    let asked = at(&nowhere()).ask(&monitor, &HeaderMap::new(), &SentMarker::new()).await;
    let Asked::StillPending { trouble: Some(trouble), .. } = asked else { panic!("{asked:?}") };
    assert!(trouble.contains("list it in follow"), "{trouble}");
    assert!(arrived.try_recv().is_err());
}

#[tokio::test]
async fn a_monitor_that_moved_is_followed_where_it_may_be() {
    let (url, _arrived) = serve(|listener, _| {
        let mut peer = listener.accept();
        peer.request();
        peer.answer(&answer(307, "Location: /jobs/8\r\nConnection: close\r\n", ""));
        let mut peer = listener.accept();
        let request = peer.request().unwrap();
        let target = request.split(' ').nth(1).unwrap();
        peer.answer(&answer(200, "Connection: close\r\n", target));
    });
    let monitor = Monitor { named_by: NamedBy::Location, url: url.join("/jobs/7").unwrap() };
    let asked = at(&url).ask(&monitor, &HeaderMap::new(), &SentMarker::new()).await;
    let Asked::Finished { status: 200, mut reply, .. } = asked else { panic!("{asked:?}") };
    assert_eq!(read(&mut reply.body).await.unwrap(), "/jobs/8");
    let asked = ask(NamedBy::Location, &answer(307, "Location: http://a.example/\r\n", "")).await;
    assert!(matches!(asked, Asked::Finished { status: 307, .. }), "{asked:?}");
    let asked = ask(NamedBy::Location, &answer(308, "Location: /again\r\n", "")).await;
    assert!(matches!(asked, Asked::Finished { status: 308, .. }), "{asked:?}");
}
