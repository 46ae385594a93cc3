//! Upstreams that are down: their operations wait, and no other upstream's do.

use crate::support::{Answer, Gateway, Setup, Ticket, Upstream, get, post, time, upstream};

const AGAIN: &str = "delivery = \"at-least-once\"";

/// How the breaker of an upstream stands.
async fn breaker(gateway: &Gateway, upstream: &str) -> String {
    let standing = gateway.admin(get("/-/queues")).await.expect(200).json();
    let upstreams = standing["upstreams"].as_array().expect("upstreams").iter();
    let mut named = upstreams.filter(|it| it["name"] == upstream);
    named.next().expect("the upstream")["breaker"]["state"].as_str().expect("a state").to_owned()
}

/// A gateway before an upstream that is down, and one that is up; with the breaker open,
/// and operations that wait.
async fn down(setup: Setup, waiting: usize) -> (Gateway, Vec<Ticket>) {
    let gateway = setup.route("POST /orders", AGAIN).start().await;
    let mut tickets = Vec::new();
    for _ in 0..6 {
        tickets.push(gateway.post_order().await);
    }
    gateway
        .while_stepping(1, "the breaker to open", || async {
            (breaker(&gateway, "default").await != "closed").then_some(())
        })
        .await;
    for _ in 0..waiting {
        tickets.push(gateway.post_order().await);
    }
    (gateway, tickets)
}

async fn attempts(gateway: &Gateway, tickets: &[Ticket]) -> u64 {
    let mut sum = 0;
    for ticket in tickets {
        sum += gateway.document(ticket).await["attempts"].as_u64().unwrap();
    }
    sum
}

#[tokio::test]
async fn while_an_upstream_is_down_its_operations_wait_and_go_on_by_themselves() {
    let address = upstream::closed_port().await;
    let setup = Setup::before_url(&format!("http://{address}"));
    let (gateway, tickets) = down(setup, 50).await;
    let before = attempts(&gateway, &tickets).await;
    for _ in 0..60 {
        gateway.advance(1);
        gateway.get("/-/operations?limit=1").await.expect(200);
    }
    // One at a time finds out, after pauses that grow: dozens would have tried otherwise.
    let grown = attempts(&gateway, &tickets).await - before;
    assert!(grown <= 20, "{grown}");
    let mut untouched = 0;
    for ticket in &tickets {
        let document = gateway.document(ticket).await;
        assert!(!crate::support::gateway::is_final(&document), "{document}");
        untouched += usize::from(document["attempts"] == 0);
    }
    assert!(untouched >= 30, "{untouched}");
    let upstream = Upstream::start_on(address).await;
    for ticket in &tickets {
        let document = gateway.settled_by_steps_of(5, ticket).await;
        assert_eq!(document["status"], "succeeded", "{document}");
    }
    assert_eq!(upstream.received().len(), tickets.len());
    assert_eq!(breaker(&gateway, "default").await, "closed");
}

#[tokio::test]
async fn nothing_is_tried_while_no_time_passes() {
    let address = upstream::closed_port().await;
    let (gateway, tickets) = down(Setup::before_url(&format!("http://{address}")), 0).await;
    let before = attempts(&gateway, &tickets).await;
    let mut further = Vec::new();
    for _ in 0..50 {
        further.push(gateway.post_order().await);
    }
    // A probe may have been on its way.
    assert!(attempts(&gateway, &further).await + attempts(&gateway, &tickets).await <= before + 1);
}

#[tokio::test]
async fn operations_for_another_upstream_are_not_held_up() {
    let up = Upstream::start().await;
    let address = upstream::closed_port().await;
    let setup = Setup::before_url(&format!("http://{address}"))
        .set("upstreams.other", &format!("url = {:?}", up.url()))
        .route("POST /alarms", "upstream = \"other\"");
    let (gateway, _) = down(setup, 300).await;
    for _ in 0..20 {
        let ticket = gateway.accept(post("/alarms")).await;
        assert_eq!(gateway.settled(&ticket).await["status"], "succeeded");
    }
    assert_eq!(breaker(&gateway, "other").await, "closed");
}

#[tokio::test]
async fn a_deadline_that_passes_while_an_upstream_is_down_ends_the_operation_on_time() {
    let address = upstream::closed_port().await;
    let (gateway, _) = down(Setup::before_url(&format!("http://{address}")), 60).await;
    let hurried = post("/orders").field("Operation-Deadline", "30");
    let ticket = gateway.accept(hurried).await;
    assert_eq!(gateway.document(&ticket).await["status"], "queued");
    gateway.advance(31);
    // Without further time passing.
    let document = gateway.settled(&ticket).await;
    assert_eq!(document["error"]["code"], "deadline-exceeded", "{document}");
    assert_eq!(document["attempts"], 0, "{document}");
}

#[tokio::test]
async fn an_upstream_that_only_answers_502_is_left_alone_and_one_that_answers_500_is_not() {
    for (status, expected) in [(502, "open"), (500, "closed")] {
        let upstream = Upstream::start().await;
        upstream.on("/orders", Answer::status(status));
        let gateway = Setup::before(&upstream).route("POST /orders", "").start().await;
        for _ in 0..20 {
            let ticket = gateway.post_order().await;
            assert_eq!(gateway.settled(&ticket).await["status"], "failed");
        }
        assert_eq!(breaker(&gateway, "default").await, expected, "{status}");
        let ticket = gateway.post_order().await;
        if status == 502 {
            let document = gateway.document(&ticket).await;
            assert!(document["status"] == "queued" || document["attempts"] == 1, "{document}");
        }
        upstream.on("/orders", Answer::Orders);
        gateway
            .while_stepping(1, "the breaker to close", || async {
                gateway.post_order().await;
                (breaker(&gateway, "default").await == "closed").then_some(())
            })
            .await;
    }
}

#[tokio::test]
async fn a_client_on_the_line_gets_a_ticket_for_what_waits() {
    let address = upstream::closed_port().await;
    let setup = Setup::before_url(&format!("http://{address}"))
        .route("POST /asked", "mode = \"sync\"\ntimeout = \"20s\"");
    let (gateway, _) = down(setup, 0).await;
    let public = gateway.public;
    let asking = time::spawn(async move { post("/asked").send(public).await });
    let answered = || async { asking.is_finished().then_some(()) };
    gateway.while_stepping(1, "an answer", answered).await;
    let answer = asking.await.unwrap();
    assert!(matches!(answer.status, 424 | 502), "{answer:?}");
    answer.expect_field("operation-id");
}
