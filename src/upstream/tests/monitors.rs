//! Which monitors are followed, and how they are kept.

use http::StatusCode;
use http::uri::PathAndQuery;

use super::*;
use crate::upstream::{Monitor, Upstreams};

const TARGET: PathAndQuery = PathAndQuery::from_static("/v1/orders?x=1");

fn orders() -> Upstream {
    upstream(Settings {
        follow: vec!["http://jobs.example:8080".into()],
        ..settings(Url::parse("http://orders.internal:9000").unwrap())
    })
}

fn kept(lines: &[(&str, &str)]) -> Option<String> {
    let monitor = orders().monitor_of(StatusCode::ACCEPTED, &fields(lines), &TARGET)?;
    Some(monitor.to_string())
}

#[tokio::test]
async fn monitors_are_followed_on_the_own_origin_and_on_those_listed() {
    for (location, expected) in [
        ("jobs/7", "http://orders.internal:9000/v1/jobs/7"),
        ("/jobs/7?a=b#c", "http://orders.internal:9000/jobs/7?a=b"),
        ("http://ORDERS.internal:9000/j", "http://orders.internal:9000/j"),
        ("http://jobs.example:8080/7", "http://jobs.example:8080/7"),
        ("//jobs.example:8080/7", "http://jobs.example:8080/7"),
    ] {
        assert_eq!(kept(&[("location", location)]).as_deref(), Some(expected));
    }
    for location in [
        "http://jobs.example/7",
        "https://jobs.example:8080/7",
        "https://orders.internal:9000/7",
        "http://orders.internal/7",
        "//evil.example/7",
        "http://user:secret@orders.internal:9000/7",
        "http://user@orders.internal:9000/7",
        "http://orders.internal:9000@evil.example/7",
        "javascript:alert(1)",
        "file:///etc/passwd",
        "http://[",
    ] {
        assert_eq!(kept(&[("location", location)]), None, "{location}");
    }
    let long = format!("/{}", "x".repeat(9000));
    assert_eq!(kept(&[("location", &long)]), None);
}

#[tokio::test]
async fn location_goes_before_operation_location_where_it_may_be_followed() {
    let both = [("location", "/a"), ("operation-location", "/b")];
    assert_eq!(kept(&both).as_deref(), Some("http://orders.internal:9000/a"));
    let foreign = [("location", "http://evil.example"), ("operation-location", "/b")];
    let expected = Some("operation-location http://orders.internal:9000/b");
    assert_eq!(kept(&foreign).as_deref(), expected);
    assert_eq!(kept(&both[1..]).as_deref(), expected);
    assert_eq!(kept(&[]), None);
}

#[tokio::test]
async fn only_a_202_names_a_monitor() {
    let named = fields(&[("location", "/jobs/7")]);
    for status in [StatusCode::OK, StatusCode::CREATED, StatusCode::SEE_OTHER] {
        assert_eq!(orders().monitor_of(status, &named, &TARGET), None);
    }
}

#[tokio::test]
async fn a_target_with_two_slashes_is_no_host() {
    let target = PathAndQuery::from_static("//evil.example/orders");
    let named = fields(&[("location", "job")]);
    let monitor = orders().monitor_of(StatusCode::ACCEPTED, &named, &target).unwrap();
    assert_eq!(monitor.url.as_str(), "http://orders.internal:9000//evil.example/job");
}

#[test]
fn a_monitor_is_read_back_as_it_was_written() {
    for text in ["http://a/b?c", "operation-location https://a/b"] {
        assert_eq!(text.parse::<Monitor>().unwrap().to_string(), text);
    }
    for text in ["", "operation-location ", "location http://a/", "/jobs/7"] {
        assert!(text.parse::<Monitor>().is_err(), "{text}");
    }
}

#[tokio::test]
async fn an_upstream_is_found_by_its_name_and_the_only_one_without() {
    let named = |name: &str| upstream(Settings { name: name.into(), ..settings(nowhere()) });
    let one: Upstreams = [named("orders")].into_iter().collect();
    assert_eq!(one.sole().map(|it| &**it.name()), Some("orders"));
    let two: Upstreams = [named("orders"), named("mail")].into_iter().collect();
    assert!(two.sole().is_none() && Upstreams::default().sole().is_none());
    assert_eq!(two.get("mail").map(|it| &**it.name()), Some("mail"));
    assert!(two.get("other").is_none());
    assert_eq!(two.iter().map(|it| &**it.name()).collect::<Vec<_>>(), ["mail", "orders"]);
}
