//! Queues as operators see them: the list, the metrics, the command line.

use std::process::Output;

use serde_json::{Value, json};

use crate::support::gateway::cloakroom;
use crate::support::{Gateway, Setup, Upstream, get, post, time};

fn setup(upstream: &Upstream) -> Setup {
    Setup::before(upstream)
        .set("upstreams.default", "rate = \"500/s\"")
        .set(
            "queues.seen",
            "priority = 7\ntarget_wait = \"10s\"\nmax_in_flight = 2\nrate = \"90/m\"",
        )
        .set("queues.asleep", "paused = true\nmax_depth = 9")
        .route("POST /seen", "queue = \"seen\"")
        .route("POST /asleep", "queue = \"asleep\"")
}

fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let mut rows = list.as_array().expect("a list").iter();
    rows.find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name} in {list}"))
}

/// One that runs, and three behind it, for a minute.
async fn with_some(upstream: &Upstream) -> Gateway {
    upstream.hold("/seen");
    let gateway = setup(upstream).start().await;
    for _ in 0..4 {
        gateway.accept(post("/seen")).await;
    }
    gateway.accept(post("/asleep")).await;
    upstream.until_received("/seen", 1).await;
    gateway.advance(60);
    upstream.until_received("/seen", 2).await;
    gateway
}

#[tokio::test]
async fn operators_see_what_waits_and_how_long_and_what_holds_it_up() {
    let upstream = Upstream::start().await;
    let gateway = with_some(&upstream).await;
    let standing = gateway.admin(get("/-/queues")).await.expect(200).json();
    let mut seen = named(&standing["queues"], "seen").clone();
    let started = seen.as_object_mut().unwrap().remove("startedPerSecond").unwrap();
    assert!(started.as_f64().unwrap() >= 0.0, "{started}");
    // Those that run count as those that wait.
    let stored = seen.as_object_mut().unwrap().remove("stored").unwrap();
    assert!(stored.as_u64().unwrap() > 4 * "/seen".len() as u64, "{stored}");
    assert_eq!(
        seen,
        json!({
            "name": "seen", "priority": 7, "targetWaitSeconds": 10.0, "depth": 2,
            "maxDepth": 100_000, "maxStored": 10_737_418_240_u64, "oldestAgeSeconds": 60.0, "late": true, "running": 2,
            "maxInFlight": 2, "rate": "90/m", "paused": false,
        })
    );
    let asleep = named(&standing["queues"], "asleep");
    assert_eq!((&asleep["paused"], &asleep["depth"]), (&json!(true), &json!(1)));
    assert_eq!(named(&standing["queues"], "default")["oldestAgeSeconds"], Value::Null);
    let upstream = named(&standing["upstreams"], "default");
    assert_eq!((&upstream["depth"], &upstream["running"]), (&json!(3), &json!(2)));
    assert_eq!((&upstream["maxInFlight"], &upstream["rate"]), (&json!(64), &json!("500/s")));
    assert_eq!(
        upstream["breaker"],
        json!({ "state": "closed", "since": null, "nextProbeAt": null })
    );
}

#[tokio::test]
async fn clients_do_not() {
    let upstream = Upstream::start().await;
    let gateway = setup(&upstream).start().await;
    gateway.get("/-/queues").await.problem(404);
}

#[tokio::test]
async fn metrics_show_it_too() {
    let upstream = Upstream::start().await;
    let gateway = with_some(&upstream).await;
    let metrics = gateway.admin(get("/metrics")).await.expect(200).text();
    for line in [
        "cloakroom_queue_target_wait_seconds{queue=\"seen\"} 10",
        "cloakroom_permits_in_use{of=\"queue\",name=\"seen\"} 2",
        "cloakroom_permits_limit{of=\"queue\",name=\"seen\"} 2",
        "cloakroom_queue_depth{queue=\"seen\",upstream=\"default\"} 2",
        "cloakroom_queue_oldest_seconds{queue=\"seen\",upstream=\"default\"} 60",
        "cloakroom_upstream_breaker_open{upstream=\"default\"} ",
        "cloakroom_queue_started_total{queue=\"seen\"} ",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

async fn queues(admin: &str, arguments: &[&str]) -> Output {
    let mut command = cloakroom();
    command.args(["queues", "--admin", admin]).args(arguments);
    time::within("the end of the command", command.output()).await.unwrap()
}

#[tokio::test]
async fn the_command_line_has_a_table_for_people_and_json_for_machines() {
    let upstream = Upstream::start().await;
    let gateway = with_some(&upstream).await;
    let admin = format!("http://{}", gateway.admin);
    let printed = queues(&admin, &[]).await;
    assert!(printed.status.success(), "{printed:?}");
    let table = String::from_utf8(printed.stdout).unwrap();
    let row = |name: &str| -> Vec<String> {
        let mut lines = table.lines().map(|line| line.split_whitespace().map(str::to_owned));
        lines.find_map(|mut words| (words.next()? == name).then(|| words.collect())).unwrap()
    };
    let mut seen = row("seen");
    assert!(seen.remove(7).ends_with("/s"), "{table}");
    assert_eq!(seen, ["7", "2", "1m00s", "10s", "2", "2", "90/m", "late"], "{table}");
    assert_eq!(row("asleep").last().unwrap(), "paused", "{table}");
    assert!(table.contains("UPSTREAM"), "{table}");
    let printed = queues(&admin, &["--json"]).await;
    let json: Value = serde_json::from_slice(&printed.stdout).unwrap();
    assert_eq!(named(&json["queues"], "seen")["depth"], 2);
}

#[tokio::test]
async fn where_no_gateway_answers_it_says_so() {
    let unused = format!("http://{}", crate::support::upstream::closed_port().await);
    let printed = queues(&unused, &[]).await;
    assert_eq!(printed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&printed.stderr).contains("no gateway answers"));
}
