//! The choice of monitors to follow, and their stored form.

use http::StatusCode;
use http::uri::PathAndQuery;

use super::*;
use crate::upstream::{Monitor, NamedBy, NamedMonitor, Upstreams};

const TARGET: PathAndQuery = PathAndQuery::from_static("/v1/orders?x=1");
const NOW: Timestamp = Timestamp::from_micros(7_000_000);

fn orders() -> Upstream {
    upstream(UpstreamSettings {
        follow: vec!["http://jobs.example:8080".into()],
        ..settings(Url::parse("http://orders.internal:9000").unwrap())
    })
}

fn named(lines: &[(&str, &str)]) -> NamedMonitor {
    let public = [Url::parse("https://api.example.com/base").unwrap()];
    orders().monitor_of((StatusCode::ACCEPTED, &fields(lines)), &TARGET, &public, NOW)
}

/// The monitor that these fields name.
#[track_caller]
fn monitor(lines: &[(&str, &str)]) -> Monitor {
    match named(lines) {
        NamedMonitor::Monitor(monitor) => *monitor,
        other => panic!("{lines:?}: {other:?}"),
    }
}

#[tokio::test]
async fn monitors_are_followed_on_the_own_origin_the_public_one_and_on_those_listed() {
    for (location, expected) in [
        ("jobs/7", "http://orders.internal:9000/v1/jobs/7"),
        ("/jobs/7?a=b#c", "http://orders.internal:9000/jobs/7?a=b"),
        ("http://ORDERS.internal:9000/j", "http://orders.internal:9000/j"),
        ("https://orders.internal:9000/j", "http://orders.internal:9000/j"),
        ("https://api.example.com/base/j?a", "http://orders.internal:9000/j?a"),
        ("http://api.example.com/j", "http://orders.internal:9000/j"),
        ("//api.example.com//j", "http://orders.internal:9000//j"),
        ("http://jobs.example:8080/7", "http://jobs.example:8080/7"),
        ("//jobs.example:8080/7", "http://jobs.example:8080/7"),
    ] {
        assert_eq!(monitor(&[("location", location)]).url.as_str(), expected);
    }
    let long = format!("/{}", "x".repeat(9000));
    for location in [
        "http://jobs.example/7",
        "https://jobs.example:8080/7",
        "http://orders.internal/7",
        "https://api.example.com:8443/7",
        "//evil.example/7",
        "http://user:secret@orders.internal:9000/7",
        "http://user@orders.internal:9000/7",
        "http://user@api.example.com/7",
        "http://orders.internal:9000@evil.example/",
        "javascript:alert(1)",
        "file:///etc/passwd",
        "http://[",
        &long,
    ] {
        let found = named(&[("location", location)]);
        assert!(matches!(found, NamedMonitor::NotFollowed(_)), "{location}: {found:?}");
    }
    assert_eq!(named(&[]), NamedMonitor::Nothing);
    assert_eq!(named(&[("location", " ")]), NamedMonitor::Nothing);
}

#[tokio::test]
async fn a_status_monitor_goes_before_a_location_which_is_kept_for_later() {
    let up = |path: &str| Url::parse("http://orders.internal:9000").unwrap().join(path).unwrap();
    for (lines, named_by, url, location) in [
        (
            &[("location", "/a"), ("operation-location", "/b")][..],
            "operation-location",
            "/b",
            Some("/a"),
        ),
        (
            &[("location", "/a"), ("azure-asyncoperation", "/b")],
            "azure-asyncoperation",
            "/b",
            Some("/a"),
        ),
        (
            &[("azure-asyncoperation", "/b"), ("operation-location", "/c")],
            "operation-location",
            "/c",
            None,
        ),
        (&[("content-location", "/c"), ("location", "/a")], "location", "/a", None),
        (&[("content-location", "/c")], "content-location", "/c", None),
        (&[("location", "/b"), ("operation-location", "/b")], "operation-location", "/b", None),
        // What may not be followed is passed over.
        (
            &[("location", "http://evil.example"), ("operation-location", "/b")],
            "operation-location",
            "/b",
            None,
        ),
        (
            &[("azure-asyncoperation", "/b"), ("operation-location", "http://evil.example")],
            "azure-asyncoperation",
            "/b",
            None,
        ),
        (&[("location", "http://evil.example"), ("location", "/a")], "location", "/a", None),
    ] {
        let monitor = monitor(lines);
        assert_eq!(monitor.url, up(url), "{lines:?}");
        assert_eq!(monitor.location, location.map(up), "{lines:?}");
        assert_eq!(monitor.since, NOW);
        let text = monitor.to_string();
        assert!(text.contains(&format!("\"namedBy\":\"{named_by}\"")), "{text}");
    }
}

#[tokio::test]
async fn a_place_does_not_stand_for_a_monitor_that_may_not_be_followed() {
    for lines in [
        [("location", "/a"), ("operation-location", "http://evil.example")],
        [("location", "/a"), ("azure-asyncoperation", "http://evil.example")],
        [("content-location", "/a"), ("location", "http://evil.example")],
    ] {
        let found = named(&lines);
        assert_eq!(found, NamedMonitor::NotFollowed("http://evil.example".to_owned()), "{lines:?}");
    }
}

#[tokio::test]
async fn a_content_location_that_is_the_target_itself_names_no_monitor() {
    for itself in ["", "/v1/orders?x=1", "http://orders.internal:9000/v1/orders?x=1"] {
        assert_eq!(named(&[("content-location", itself)]), NamedMonitor::Nothing, "{itself}");
    }
    assert_eq!(monitor(&[("content-location", "/v1/orders")]).named_by, NamedBy::ContentLocation);
}

#[tokio::test]
async fn only_a_202_names_a_monitor() {
    let named = fields(&[("location", "/jobs/7"), ("operation-location", "/b")]);
    for status in [StatusCode::OK, StatusCode::CREATED, StatusCode::SEE_OTHER] {
        let found = orders().monitor_of((status, &named), &TARGET, &[], NOW);
        assert_eq!(found, NamedMonitor::Nothing);
    }
}

#[tokio::test]
async fn a_target_with_two_slashes_is_no_host() {
    let target = PathAndQuery::from_static("//evil.example/orders");
    let named = fields(&[("location", "job")]);
    let found = orders().monitor_of((StatusCode::ACCEPTED, &named), &target, &[], NOW);
    let NamedMonitor::Monitor(monitor) = found else { panic!("{found:?}") };
    assert_eq!(monitor.url.as_str(), "http://orders.internal:9000//evil.example/job");
}

#[test]
fn a_monitor_is_read_back_as_it_was_written() {
    let url = |text: &str| Url::parse(text).unwrap();
    let plain = Monitor::new(NamedBy::ContentLocation, url("http://a/b?c"), NOW);
    let full = Monitor {
        location: Some(url("http://a/d")),
        succeeded_at: Some(Timestamp::from_micros(9)),
        ..Monitor::new(NamedBy::AzureAsyncOperation, url("https://a/b"), NOW)
    };
    for monitor in [plain, full] {
        assert_eq!(monitor.to_string().parse(), Ok(monitor));
    }
    // What a later release adds does not keep this one from going on.
    let later = "{\"namedBy\":\"location\",\"url\":\"http://a/\",\"since\":1,\"more\":[]}";
    assert_eq!(later.parse::<Monitor>().unwrap().url, url("http://a/"));
    for text in ["", "http://a/", "{}", "{\"namedBy\":\"link\",\"url\":\"http://a/\",\"since\":1}"]
    {
        assert!(text.parse::<Monitor>().is_err(), "{text}");
    }
}

#[tokio::test]
async fn an_upstream_is_found_by_its_name_and_the_only_one_without() {
    let named =
        |name: &str| upstream(UpstreamSettings { name: name.into(), ..settings(nowhere()) });
    let one: Upstreams = [named("orders")].into_iter().collect();
    assert_eq!(one.sole().map(|it| &**it.name()), Some("orders"));
    let two: Upstreams = [named("orders"), named("mail")].into_iter().collect();
    assert!(two.sole().is_none() && Upstreams::default().sole().is_none());
    assert_eq!(two.get("mail").map(|it| &**it.name()), Some("mail"));
    assert!(two.get("other").is_none());
    assert_eq!(two.iter().map(|it| &**it.name()).collect::<Vec<_>>(), ["mail", "orders"]);
}
