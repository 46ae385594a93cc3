//! The answers of monitors and their meaning.

use super::*;
use crate::upstream::{Monitor, MonitorAnswer, MonitorQuery, NamedBy};

fn answer(status: u16, more: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} Any\r\nContent-Length: {length}\r\n{more}\r\n{body}")
}

const NAMED_AT: Timestamp = Timestamp::from_micros(5_000_000);

fn monitor(named_by: NamedBy, url: &Url) -> Monitor {
    Monitor::new(named_by, url.join("/jobs/7").unwrap(), NAMED_AT)
}

/// Asks a monitor that many seconds after it was named.
async fn ask_after(seconds: u64, monitor: &Monitor, upstream: &Upstream) -> MonitorAnswer {
    let question = MonitorQuery {
        fields: &HeaderMap::new(),
        marker: &SentMarker::new(),
        public: &[Url::parse("https://api.example.com").unwrap()],
        prefix: "/-",
        now: NAMED_AT + Duration::from_secs(seconds),
    };
    upstream.ask(monitor, question).await
}

async fn ask_by(named_by: NamedBy, seconds: u64, answer: &str) -> MonitorAnswer {
    let (url, _arrived) = serve_always(answer);
    ask_after(seconds, &monitor(named_by, &url), &at(&url)).await
}

async fn ask(named_by: NamedBy, answer: &str) -> MonitorAnswer {
    ask_by(named_by, 60, answer).await
}

/// An upstream that answers each path as it is told, and any other with 410.
fn serve_paths(answers: &'static [(&'static str, &'static str)]) -> Url {
    let (url, _) = serve(move |listener, _| {
        loop {
            let mut peer = listener.accept();
            let request = peer.request().unwrap_or_default();
            let target = request.split(' ').nth(1).unwrap_or_default().to_owned();
            let found = answers.iter().find(|(path, _)| *path == target);
            let (status, rest) =
                found.map_or(("410", ""), |(_, it)| it.split_once(' ').unwrap_or((it, "")));
            let (more, body) = rest.split_once('|').unwrap_or((rest, ""));
            let more = match more {
                "" => "UpstreamConnection: close\r\n".to_owned(),
                line => format!("{line}\r\nConnection: close\r\n"),
            };
            peer.answer(&answer(status.parse().unwrap(), &more, body));
        }
    });
    url
}

#[track_caller]
fn end_of(asked: MonitorAnswer) -> (u16, Option<Url>, ResponseBody) {
    match asked {
        MonitorAnswer::Finished { status, created, reply } => (status, created, reply.body),
        pending @ MonitorAnswer::StillPending { .. } => panic!("{pending:?}"),
    }
}

#[track_caller]
fn trouble_of(asked: MonitorAnswer) -> String {
    match asked {
        MonitorAnswer::StillPending { trouble: Some(trouble), .. } => trouble,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_tells_of_no_end_leaves_it_pending_and_keeps_retry_after() {
    for (status, is_trouble) in [
        (202, false),
        (300, true),
        (304, true),
        (401, true),
        (403, true),
        (407, true),
        (408, true),
        (425, true),
        (429, true),
        (500, true),
        (501, true),
        (503, true),
        (504, true),
    ] {
        let answer = answer(status, "Retry-After: 7\r\n", "");
        let answer =
            if status == 304 { answer.replace("Content-Length: 0\r\n", "") } else { answer };
        let asked = ask(NamedBy::Location, &answer).await;
        let MonitorAnswer::StillPending { retry_after: Some(retry_after), trouble, next: None } =
            asked
        else {
            panic!("{status}: {asked:?}");
        };
        assert_eq!(
            (retry_after.as_bytes(), trouble.is_some()),
            (&b"7"[..], is_trouble),
            "{status}"
        );
    }
}

#[tokio::test]
async fn a_monitor_that_cannot_be_asked_leaves_it_pending() {
    let url = nowhere();
    trouble_of(ask_after(60, &monitor(NamedBy::Location, &url), &at(&url)).await);
    trouble_of(ask(NamedBy::Location, "garbage").await);
}

#[tokio::test]
async fn other_answers_are_the_end_with_their_own_status() {
    for status in [200, 201, 204, 206, 400, 404, 405, 409, 410, 422] {
        let answer = answer(status, "", "")
            .replace("Content-Length: 0\r\n", "UpstreamConnection: close\r\n");
        let (url, _arrived) = serve(move |listener, _| {
            let mut peer = listener.accept();
            peer.request();
            peer.answer(&answer);
        });
        let asked = ask_after(60, &monitor(NamedBy::Location, &url), &at(&url)).await;
        let (told, created, _) = end_of(asked);
        assert_eq!((told, created), (status, None));
    }
}

#[tokio::test]
async fn in_its_first_minute_a_monitor_that_is_not_there_is_not_there_yet() {
    for named_by in [NamedBy::Location, NamedBy::OperationLocation, NamedBy::ContentLocation] {
        let missing = answer(404, "Retry-After: 2\r\n", "");
        let asked = ask_by(named_by, 59, &missing).await;
        assert!(matches!(asked, MonitorAnswer::StillPending { trouble: None, .. }), "{asked:?}");
        assert_eq!(end_of(ask_by(named_by, 60, &missing).await).0, 404);
        assert_eq!(end_of(ask_by(named_by, 1, &answer(410, "", "")).await).0, 410);
    }
}

#[tokio::test]
async fn a_see_other_and_a_201_name_what_was_created_seen_from_the_monitor() {
    for status in [201, 303] {
        let (url, _arrived) = serve_always(&answer(status, "Location: ../orders/9\r\n", ""));
        let asked = ask_after(60, &monitor(NamedBy::Location, &url), &at(&url)).await;
        let (told, created, _) = end_of(asked);
        assert_eq!((told, created), (status, Some(url.join("/orders/9").unwrap())));
        for location in ["javascript:alert(1)", "data:,x", "http://u:p@a/"] {
            let answer = answer(status, &format!("Location: {location}\r\n"), "");
            let (told, created, _) = end_of(ask(NamedBy::Location, &answer).await);
            assert_eq!((told, created), (status, None));
        }
    }
}

#[tokio::test]
async fn an_operation_document_says_by_its_status_how_it_stands() {
    for status in ["running", "NotStarted", "inProgress", "queued", "accepted", "pending", "new"] {
        let document = format!("{{\"id\":1,\"status\":\"{status}\"}}");
        let asked =
            ask(NamedBy::OperationLocation, &answer(200, "Retry-After: 3\r\n", &document)).await;
        assert!(
            matches!(&asked, MonitorAnswer::StillPending { retry_after: Some(it), .. } if it == "3"),
            "{status}: {asked:?}"
        );
    }
    for (document, expected) in [
        ("{\"status\":\"Succeeded\",\"result\":{}}", 200),
        ("{\"status\":\"successful\"}", 200),
        ("{\"status\":\"finished\"}", 200),
        ("{\"status\":\"Failed\"}", 424),
        ("{\"status\":\"dismissed\"}", 424),
        ("{\"status\":\"error\"}", 424),
        ("{}", 200),
        ("not json", 200),
        ("", 200),
    ] {
        for named_by in [NamedBy::OperationLocation, NamedBy::AzureAsyncOperation] {
            let asked = ask(named_by, &answer(200, "", document)).await;
            let (status, _, mut body) = end_of(asked);
            assert_eq!(status, expected, "{document}");
            assert_eq!(read(&mut body).await.unwrap(), document);
        }
    }
}

#[tokio::test]
async fn a_document_in_which_no_state_can_be_read_is_no_success() {
    for document in ["[]", "{\"status\":5}", "{\"status\":null}", "{\"status\":{\"a\":1}}"] {
        let asked = ask(NamedBy::OperationLocation, &answer(200, "", document)).await;
        assert!(trouble_of(asked).contains("upstreams.*.monitor"), "{document}");
        assert_eq!(end_of(ask(NamedBy::Location, &answer(200, "", document)).await).0, 200);
    }
    for document in ["{\"job\":{\"status\":\"running\"}}", "{\"status\":{\"state\":\"running\"}}"] {
        let asked = ask(NamedBy::OperationLocation, &answer(200, "", document)).await;
        assert!(
            matches!(asked, MonitorAnswer::StillPending { trouble: None, .. }),
            "{document}: {asked:?}"
        );
    }
}

#[tokio::test]
async fn a_word_that_is_not_known_is_pending_and_named() {
    let brewing = answer(200, "", "{\"status\":\"Brewing\"}");
    let trouble = trouble_of(ask(NamedBy::OperationLocation, &brewing).await);
    assert!(
        trouble.contains("\"Brewing\"") && trouble.contains("upstreams.*.monitor"),
        "{trouble}"
    );
}

#[tokio::test]
async fn a_document_of_a_location_monitor_is_a_result_unless_it_is_a_redfish_task_or_said_otherwise()
 {
    for named_by in [NamedBy::Location, NamedBy::ContentLocation] {
        let running = answer(200, "", "{\"status\":\"running\"}");
        assert_eq!(end_of(ask(named_by, &running).await).0, 200);
        let task = "{\"@odata.type\":\"#Task.v1_4_3.Task\",\"TaskState\":\"Exception\"}";
        assert_eq!(end_of(ask(named_by, &answer(200, "", task)).await).0, 424);
        let (url, _arrived) = serve_always(&answer(200, "", "{\"job\":{\"state\":\"KO\"}}"));
        let mut configured = settings(url.clone());
        configured.job_words = JobWords {
            status: Some("/job/state".to_owned()),
            succeeded: Vec::new(),
            failed: vec!["KO".to_owned()],
        };
        let asked = ask_after(60, &monitor(named_by, &url), &upstream(configured)).await;
        assert_eq!(end_of(asked).0, 424);
    }
}

#[tokio::test]
async fn a_status_is_found_in_a_large_document_and_none_of_a_large_answer_is_lost() {
    let running = format!("{{\"status\":\"running\",\"x\":\"{}\"}}", "x".repeat(2_000_000));
    let asked = ask(NamedBy::OperationLocation, &answer(200, "", &running)).await;
    assert!(matches!(asked, MonitorAnswer::StillPending { trouble: None, .. }), "{asked:?}");
    let result = format!("{{\"x\":\"{}\",\"status\":\"running\"}}", "x".repeat(2_000_000));
    let asked = ask(NamedBy::OperationLocation, &answer(200, "", &result)).await;
    assert!(trouble_of(asked).contains("first MiB"));
    let asked = ask(NamedBy::Location, &answer(200, "", &result)).await;
    let (status, _, mut body) = end_of(asked);
    assert_eq!((status, body.length()), (200, Some(result.len() as u64)));
    assert_eq!(read(&mut body).await.unwrap(), result);
}

#[tokio::test]
async fn a_login_page_is_trouble_with_asking() {
    for answers in [
        &[
            ("/jobs/7", "302 Location: /login?next=/jobs/7"),
            ("/login?next=/jobs/7", "200 Content-Type: text/html|<form>"),
        ][..],
        &[
            ("/jobs/7", "301 Location: /accounts/login/"),
            ("/accounts/login/", "200 |please sign in"),
        ],
        &[
            ("/jobs/7", "302 Location: /start?rd=%2Fjobs"),
            ("/start?rd=%2Fjobs", "200 Content-Type: text/html; charset=utf-8|<p>"),
        ],
        &[("/jobs/7", "200 Content-Type: TEXT/HTML|<input type='password'>")],
        &[("/jobs/7", "302 Location: https://sso.example/")],
        &[("/jobs/7", "303 Location: /signin")],
    ] {
        let url = serve_paths(answers);
        let asked = ask_after(60, &monitor(NamedBy::Location, &url), &at(&url)).await;
        assert!(trouble_of(asked).contains("login page"), "{answers:?}");
    }
    let page = answer(200, "Content-Type: text/html\r\n", "<p>one moment");
    trouble_of(ask(NamedBy::OperationLocation, &page).await);
    // A page may be what came of the work.
    assert_eq!(end_of(ask(NamedBy::Location, &page).await).0, 200);
}

fn with_location(url: &Url) -> Monitor {
    let location = Some(url.join("/orders/7").unwrap());
    Monitor { location, ..monitor(NamedBy::OperationLocation, url) }
}

const DONE: (&str, &str) = ("/jobs/7", "200 |{\"status\":\"succeeded\"}");

#[tokio::test]
async fn a_location_beside_a_status_monitor_is_asked_once_that_has_succeeded() {
    for (answer, status, created, body) in [
        ("200 |order", 200, Some("/orders/7"), "order"),
        ("201 Location: /orders/8", 201, Some("/orders/8"), ""),
        ("303 Location: 9", 303, Some("/orders/9"), ""),
        ("204", 204, None, ""),
        // What the status monitor said stands.
        ("410 |gone", 200, None, "{\"status\":\"succeeded\"}"),
        ("405", 200, None, "{\"status\":\"succeeded\"}"),
    ] {
        let answers = Box::leak(Box::new([DONE, ("/orders/7", answer)]));
        let url = serve_paths(answers);
        let asked = ask_after(60, &with_location(&url), &at(&url)).await;
        let (told, named, mut reply) = end_of(asked);
        assert_eq!(told, status, "{answer}");
        assert_eq!(named, created.map(|it| url.join(it).unwrap()), "{answer}");
        if status != 204 {
            assert_eq!(read(&mut reply).await.unwrap(), body, "{answer}");
        }
    }
    for status in ["200 |{\"status\":\"running\"}", "200 |{\"status\":\"failed\"}", "503", "202"] {
        let answers = Box::leak(Box::new([("/jobs/7", status), ("/orders/7", "200 |order")]));
        let url = serve_paths(answers);
        match ask_after(60, &with_location(&url), &at(&url)).await {
            MonitorAnswer::Finished { status: 424, created: None, .. }
                if status.contains("failed") => {}
            MonitorAnswer::StillPending { next: None, .. } => {}
            other => panic!("{status}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_location_that_answers_202_is_the_monitor_from_then_on() {
    let url = serve_paths(&[DONE, ("/orders/7", "202 Retry-After: 9")]);
    let asked = ask_after(60, &with_location(&url), &at(&url)).await;
    let MonitorAnswer::StillPending { retry_after, trouble: None, next: Some(next) } = asked else {
        panic!("{asked:?}");
    };
    assert_eq!(retry_after.unwrap(), "9");
    let now = NAMED_AT + Duration::from_mins(1);
    let location = Monitor::new(NamedBy::Location, url.join("/orders/7").unwrap(), now);
    assert_eq!(*next, Monitor { is_creation: true, ..location });
    // Kept in between, and asked alone: a 200 there is what was created.
    let kept: Monitor = next.to_string().parse().unwrap();
    assert_eq!(kept, *next);
}

#[tokio::test]
async fn trouble_at_a_location_is_waited_out_for_a_while_and_is_not_the_end() {
    for answer in ["503", "401", "302 Location: /login", "404"] {
        let answers = Box::leak(Box::new([DONE, ("/orders/7", answer), ("/login", "200 |x")]));
        let url = serve_paths(answers);
        let mut monitor = with_location(&url);
        let asked = ask_after(60, &monitor, &at(&url)).await;
        let MonitorAnswer::StillPending { trouble: Some(_), next: Some(next), .. } = asked else {
            panic!("{answer}: {asked:?}");
        };
        let since = NAMED_AT + Duration::from_mins(1);
        assert_eq!(next.succeeded_at, Some(since));
        monitor = *next;
        let asked = ask_after(70, &monitor, &at(&url)).await;
        assert!(
            matches!(asked, MonitorAnswer::StillPending { next: None, .. }),
            "{answer}: {asked:?}"
        );
        let (status, created, _) = end_of(ask_after(660, &monitor, &at(&url)).await);
        assert_eq!((status, created), (200, None), "{answer}");
    }
}

#[tokio::test]
async fn what_only_another_gateway_can_show_is_got_from_there() {
    let elsewhere = [("/jobs/7", "303 Location: /-/things/7"), ("/-/things/7", "200")];
    let url = serve_paths(Box::leak(Box::new(elsewhere)));
    let asked = ask_after(60, &monitor(NamedBy::Location, &url), &at(&url)).await;
    assert_eq!(end_of(asked).1, Some(url.join("/-/things/7").unwrap()));
    let moved = ("/jobs/7", "303 Location: https://api.example.com/-/operations/t/result");
    for (answer, status, created) in [
        ("200 Upstream-Status: 201|made", 201, None),
        ("422 Upstream-Status: 422|no", 422, None),
        ("424 Gateway-Origin: cloakroom|{}", 424, None),
        // No gateway at all.
        ("404 |", 303, Some("https://api.example.com/-/operations/t/result")),
    ] {
        let answers = Box::leak(Box::new([moved, ("/-/operations/t/result", answer)]));
        let url = serve_paths(answers);
        let asked = ask_after(60, &monitor(NamedBy::Location, &url), &at(&url)).await;
        let (told, named, _) = end_of(asked);
        assert_eq!((told, named), (status, created.map(|it| url.join(it).unwrap())), "{answer}");
    }
    let url = serve_paths(&[
        ("/jobs/7", "303 Location: /-/operations/t/result"),
        ("/-/operations/t/result", "503"),
    ]);
    trouble_of(ask_after(60, &monitor(NamedBy::Location, &url), &at(&url)).await);
}

#[tokio::test]
async fn a_document_that_breaks_off_leaves_it_pending() {
    let (url, _arrived) = serve(|listener, _| {
        let mut peer = listener.accept();
        peer.request();
        peer.answer("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"status\":\"succeeded\"}");
    });
    let monitor = monitor(NamedBy::OperationLocation, &url);
    trouble_of(ask_after(60, &monitor, &at(&url)).await);
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
        let monitor = Monitor::new(NamedBy::Location, url, NAMED_AT);
        let (fields, marker) = (&sent, &SentMarker::new());
        upstream
            .ask(
                &monitor,
                MonitorQuery { fields, marker, public: &[], prefix: "/-", now: NAMED_AT },
            )
            .await
    };
    asking(&own).await;
    let request = seen_at_home.recv().await.unwrap();
    assert!(request.contains("GET /jobs/7?x=%20 HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("client-secret") && request.contains("gateway-secret"), "{request}");
    let MonitorAnswer::Finished { status: 200, mut reply, .. } = asking(&foreign).await else {
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
    let monitor = monitor(NamedBy::Location, &foreign);
    let trouble = trouble_of(ask_after(60, &monitor, &at(&nowhere())).await);
    assert!(trouble.contains("list it in follow"), "{trouble}");
    assert!(arrived.try_recv().is_err());
}

#[tokio::test]
async fn a_monitor_that_moved_is_asked_further_where_it_may_be() {
    for status in ["301", "302", "307", "308"] {
        for location in ["/jobs/8", "https://api.example.com/jobs/8"] {
            let moved = Box::leak(format!("{status} Location: {location}").into_boxed_str());
            let answers = Box::leak(Box::new([("/jobs/7", &*moved), ("/jobs/8", "200 |done")]));
            let url = serve_paths(answers);
            let asked = ask_after(60, &monitor(NamedBy::Location, &url), &at(&url)).await;
            let (told, created, mut body) = end_of(asked);
            assert_eq!((told, created), (200, None), "{moved}");
            assert_eq!(read(&mut body).await.unwrap(), "done");
        }
        for elsewhere in ["Location: http://a.example/", "Location: /jobs/7", "A: b"] {
            let moved = Box::leak(format!("{status} {elsewhere}").into_boxed_str());
            let url = serve_paths(Box::leak(Box::new([("/jobs/7", &*moved)])));
            trouble_of(ask_after(60, &monitor(NamedBy::Location, &url), &at(&url)).await);
        }
    }
}
