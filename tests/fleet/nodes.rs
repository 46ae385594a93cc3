//! The list of nodes, on the command line.

use super::Fleet;
use super::roles::{named, nodes};
use crate::support::Upstream;
use crate::support::gateway::{Process, cloakroom};
use crate::support::time::{until, until_within};

async fn listed(node: &Process, flags: &[&str]) -> (String, String) {
    let mut command = cloakroom();
    command.args(["nodes", "--admin", &format!("http://{}", node.admin)]).args(flags);
    let output = command.output().await.unwrap();
    let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{out}{err}");
    (out, err)
}

#[tokio::test]
async fn every_node_is_listed_with_what_it_is_and_how_it_is() {
    let upstream = Upstream::start().await;
    let fleet = Fleet::before(&upstream);
    let front = fleet.front().await;
    let mut dies = fleet.worker(&["--name", "dies", "--queues", "reports"]).await;
    let mut ends = fleet.worker(&["--name", "ends"]).await;
    until("beats", || async {
        let rows = nodes(&front).await;
        (rows.len() == 3 && rows.iter().all(|row| row["state"] == "alive")).then_some(())
    })
    .await;
    let (table, warning) = listed(&front, &[]).await;
    assert!(table.contains("worker") && table.contains("reports"), "{table}");
    assert_eq!(warning, "");
    ends.signal("TERM").await;
    ends.ended().await;
    dies.kill().await;
    until("the states", || async {
        let state = async |name| named(&front, name).await.unwrap()["state"].clone();
        (state("ends").await == "ended" && state("dies").await == "dead").then_some(())
    })
    .await;
    let (json, _) = listed(&front, &["--json"]).await;
    let told: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(told["nodes"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn configurations_that_differ_are_warned_of() {
    let upstream = Upstream::start().await;
    let fleet = Fleet::before(&upstream);
    let front = fleet.front().await;
    let other = Fleet { setup: fleet.setup.clone().set("retention", "result = \"1h\"") };
    let _other = other.worker(&[]).await;
    until("both", || async { (nodes(&front).await.len() == 2).then_some(()) }).await;
    let limit = std::time::Duration::from_secs(10);
    until_within(limit, "the warning", || async {
        let (_, warning) = listed(&front, &[]).await;
        warning.contains("2 different configurations").then_some(())
    })
    .await;
}
