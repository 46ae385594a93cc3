//! Nodes whose machines' clocks are wrong.

use std::time::Duration;

use serde_json::Value;

use super::Fleet;
use crate::support::time::until_within;
use crate::support::{Upstream, get, post};

fn instant(document: &Value, member: &str) -> jiff::Timestamp {
    document[member].as_str().expect("an instant").parse().expect("an instant")
}

#[tokio::test]
async fn a_node_whose_clock_is_two_minutes_off_harms_nobody() {
    for offset in ["+120s", "-120s"] {
        let upstream = Upstream::start().await;
        let fleet = Fleet::before(&upstream);
        let right = fleet.front().await;
        let off = fleet.setup.clone().spawn_off_by(offset).await;
        // Both beat for a while, and neither takes the other for dead.
        upstream.hold("/once");
        let held = right.accept(post("/once")).await;
        upstream.until_received("/once", 1).await;
        let later = right.accept(post("/again").field("Operation-Delay", "3")).await;
        let document = until_within(Duration::from_secs(30), "the delayed one", || async {
            let document = off.document(&later).await;
            (document["status"] == "succeeded").then_some(document)
        })
        .await;
        let waited =
            instant(&document, "startedAt").duration_since(instant(&document, "createdAt"));
        let secs = waited.as_secs();
        assert!((3..30).contains(&secs), "{offset}: began after {secs} s");
        let there = off.accept(post("/again")).await;
        let there = instant(&off.document(&there).await, "createdAt");
        let here = right.accept(post("/again")).await;
        let here = instant(&right.document(&here).await, "createdAt");
        let apart = here.duration_since(there).as_secs();
        assert!((-1..30).contains(&apart), "{offset}: {apart} s apart");
        let nodes = right.admin(get("/-/nodes")).await.expect(200).json();
        let nodes = nodes["nodes"].as_array().unwrap();
        assert!(nodes.iter().all(|node| node["state"] == "alive"), "{offset}: {nodes:?}");
        upstream.release("/once");
        let document = right.settled(&held).await;
        assert_eq!((&document["status"], &document["rescues"]), (&"succeeded".into(), &0.into()));
    }
}
