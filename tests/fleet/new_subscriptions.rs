//! Subscriptions that one node creates before another node has read them.

use std::collections::BTreeSet;

use serde_json::json;

use super::Fleet;
use crate::support::gateway::path_of;
use crate::support::{Arrival, Receiver, Request, Upstream, post, time};
use crate::webhooks::delivery_listing::open_to;

const EVENTS: [&str; 3] = ["operation.accepted", "operation.started", "operation.succeeded"];

fn about(arrival: &Arrival) -> (String, String) {
    let body: serde_json::Value = serde_json::from_slice(&arrival.body).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    (text(&body["data"]["id"]), text(&body["type"]))
}

#[tokio::test]
async fn whoever_subscribes_on_one_node_is_told_of_all_that_another_accepts_at_once() {
    let (upstream, receiver) = (Upstream::start().await, Receiver::start().await);
    let Fleet { setup } = Fleet::before(&upstream);
    let fleet = Fleet { setup: setup.set("webhooks", &open_to(&receiver)) };
    let (one, other) = (fleet.both().await, fleet.both().await);
    let mut expected = BTreeSet::new();
    for _ in 0..4 {
        let wish = json!({ "url": receiver.url("/hooks"), "events": EVENTS });
        let made = one.send(post("/-/webhooks").json(&wish)).await.expect(201);
        let subscription = path_of(made.expect_field("location")).to_owned();
        let ticket = other.accept(post("/again")).await;
        expected.extend(EVENTS.map(|event| (ticket.id.clone(), event.to_owned())));
        let told = || async {
            let told: BTreeSet<_> = receiver.arrivals().iter().map(about).collect();
            (told == expected).then_some(())
        };
        time::until("every event has been told", told).await;
        // No receiver wants to know of beginnings any more, and all nodes hear of that.
        one.send(Request::new("DELETE", &*subscription)).await.expect(204);
        other.settled(&other.accept(post("/again")).await).await;
    }
}
