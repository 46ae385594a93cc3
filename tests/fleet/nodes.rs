//! The list of nodes, on the command line, and what each of them sees to by itself.

use super::Fleet;
use super::roles::{named, nodes};
use crate::support::gateway::{Process, cloakroom};
use crate::support::postgres::cluster;
use crate::support::time::{until, until_within};
use crate::support::{Setup, Upstream, post};

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

/// The test's database, and what a statement answers there.
fn ask(database: &str, statement: &str) -> String {
    cluster().sql(database.rsplit('/').next().unwrap(), statement)
}

#[tokio::test]
async fn who_may_want_more_connections_than_there_are_with_the_others_is_told_at_the_start() {
    let upstream = Upstream::start().await;
    let setup = Setup::before(&upstream).on(&cluster().database());
    let wants = |pool: u32| setup.clone().set("store", &format!("pool = {pool}")).spawn();
    let says = "may want more connections than the database has";
    let large = wants(200).await;
    assert!(!large.stderr().contains(says), "{}", large.stderr());
    // Its own are few, but 201 are the other one's: of 297 in all.
    let fits = wants(90).await;
    assert!(!fits.stderr().contains(says), "{}", fits.stderr());
    let too_many = wants(20).await;
    until("the warning", || async { too_many.stderr().contains(says).then_some(()) }).await;
    let told = too_many.stderr();
    assert!(told.contains("\"nodes\":3") && told.contains("\"wanted\":313"), "{told}");
}

#[tokio::test]
async fn a_node_looks_through_the_ledger_from_time_to_time_and_repairs_what_is_safe() {
    let upstream = Upstream::start().await;
    let database = cluster().database();
    let node =
        Setup::before(&upstream).on(&database).set("engine", "reconcile = \"1s\"").spawn().await;
    let ticket = node.accept(post("/orders")).await;
    assert_eq!(node.settled(&ticket).await["status"], "succeeded");
    ask(&database, "DELETE FROM expiries");
    until("the repair", || async {
        (ask(&database, "SELECT count(*) FROM expiries") == "1").then_some(())
    })
    .await;
    until("a line about it", || async { node.stderr().contains("never-freed").then_some(()) })
        .await;
}

#[tokio::test]
async fn an_answer_that_the_ledger_cannot_write_down_holds_nothing_for_ever() {
    let upstream = Upstream::start().await;
    let database = cluster().database();
    let fleet = Fleet::on(&database, &upstream);
    let node = fleet.both().await;
    ask(
        &database,
        "CREATE FUNCTION refuse() RETURNS trigger AS $$ BEGIN \
         RAISE EXCEPTION USING ERRCODE = '23514', MESSAGE = 'no answers'; END $$ LANGUAGE plpgsql; \
         CREATE TRIGGER refuse BEFORE INSERT ON results FOR EACH ROW EXECUTE FUNCTION refuse()",
    );
    let ticket = node.accept(post("/once")).await;
    let document = node.settled(&ticket).await;
    assert_eq!(document["error"]["code"], "outcome-unknown", "{document}");
    assert_eq!(upstream.received().len(), 1);
    let lines = node.stderr();
    let told = lines.lines().filter(|line| line.contains("could not be written down")).count();
    assert_eq!(told, 1, "{lines}");
}
