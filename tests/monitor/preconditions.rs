//! Preconditions on operations: `If-Match` and `If-None-Match` (RFC 9110 section 13).

use crate::support::gateway::order;
use crate::support::{Answer, Gateway, Request, Ticket, Upstream, get, post};

const OTHER: &str = "\"queued-99999\"";

/// A gateway with an operation that waits for its time, and the entity tag of its monitor.
async fn waiting() -> (Upstream, Gateway, Ticket, String) {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.accept(order().field("Operation-Delay", "60")).await;
    let etag = gateway.get(&ticket.monitor).await.expect(202).expect_field("etag").to_owned();
    (upstream, gateway, ticket, etag)
}

#[tokio::test]
async fn cancel_and_delete_are_412_and_change_nothing_where_if_match_names_another_state() {
    let (_upstream, gateway, ticket, etag) = waiting().await;
    for request in [post(ticket.at("cancel")), Request::new("DELETE", &*ticket.monitor)] {
        for tags in [OTHER, &format!("W/{etag}"), &format!("\"a,{}\"", etag.trim_matches('"'))] {
            let problem = gateway.send(request.clone().field("If-Match", tags)).await.problem(412);
            assert_eq!(problem["field"], "If-Match", "{tags}");
        }
        let problem = gateway.send(request.field("If-None-Match", &*etag)).await.problem(412);
        assert_eq!(problem["field"], "If-None-Match");
    }
    let shown = gateway.get(&ticket.monitor).await.expect(202);
    assert_eq!(shown.expect_field("etag"), etag);
}

#[tokio::test]
async fn cancel_and_delete_take_place_where_one_of_several_tags_matches() {
    let (_upstream, gateway, ticket, etag) = waiting().await;
    let canceled =
        post(ticket.at("cancel")).field("If-Match", &*format!("{OTHER}, \"a,b\", {etag}"));
    gateway.send(canceled).await.expect(200);
    let stale = Request::new("DELETE", &*ticket.monitor).field("If-Match", &*etag);
    gateway.send(stale).await.problem(412);
    let deleted = Request::new("DELETE", &*ticket.monitor).field("If-Match", "*");
    gateway.send(deleted.clone()).await.expect(204);
    gateway.send(deleted.field("If-Match", OTHER)).await.problem(410);
}

#[tokio::test]
async fn a_request_that_would_be_refused_anyway_is_not_412() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    gateway.settled(&ticket).await;
    gateway.send(post(ticket.at("cancel")).field("If-Match", OTHER)).await.problem(409);
    gateway.send(get(&*ticket.monitor).field("If-Match", OTHER)).await.expect(303);
}

#[tokio::test]
async fn a_monitor_and_a_status_are_412_where_if_match_names_another_state() {
    let (_upstream, gateway, ticket, etag) = waiting().await;
    for path in [ticket.monitor.clone(), ticket.at("status")] {
        let status = gateway.get(&path).await.status;
        for tags in [&*etag, "*", &*format!("{OTHER},{etag}")] {
            gateway.send(get(&*path).field("If-Match", tags)).await.expect(status);
        }
        gateway.send(get(&*path).field("If-Match", OTHER)).await.problem(412);
        let head = Request::new("HEAD", &*path).field("If-Match", OTHER);
        assert_eq!(gateway.send(head).await.status, 412);
    }
}

#[tokio::test]
async fn a_result_and_a_range_of_it_are_412_where_if_match_names_another_one() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", Answer::status(200).body("text/plain", "0123456789"));
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    gateway.settled(&ticket).await;
    let whole = || get(ticket.at("result"));
    let etag = gateway.send(whole()).await.expect(200).expect_field("etag").to_owned();
    let part = || whole().field("Range", "bytes=0-1");
    gateway.send(whole().field("If-Match", &*etag)).await.expect(200);
    gateway.send(part().field("If-Match", &*etag)).await.expect(206);
    for request in [whole(), part()] {
        gateway.send(request.clone().field("If-Match", OTHER)).await.problem(412);
        gateway.send(request.field("If-Match", &*format!("W/{etag}"))).await.problem(412);
    }
}

#[tokio::test]
async fn tags_that_cannot_be_read_are_400_before_a_change_and_name_their_field() {
    let (_upstream, gateway, ticket, etag) = waiting().await;
    for name in ["If-Match", "If-None-Match"] {
        for tags in ["", "x", "\"x", &format!("{etag}, *"), &format!("{etag} {etag}")] {
            let request = post(ticket.at("cancel")).field(name, tags);
            let problem = gateway.send(request).await.problem(400);
            assert_eq!(problem["field"], name, "{tags}");
        }
    }
    // A reader gets the whole answer.
    gateway.send(get(&*ticket.monitor).field("If-None-Match", "x")).await.expect(202);
}
