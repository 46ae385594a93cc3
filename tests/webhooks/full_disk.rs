//! The ledger's room for webhooks while the disk is full.

use super::scene::Scene;
use crate::support::gateway::order;
use crate::support::postgres::cluster;
use crate::support::time;

/// Refuses every operation as a server does whose disk is full.
const FILL: &str = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
     RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$; \
     CREATE TRIGGER refuse BEFORE INSERT ON operations FOR EACH ROW EXECUTE FUNCTION refuse()";

#[tokio::test]
async fn the_first_write_that_finds_the_disk_full_frees_deliveries_that_are_too_old() {
    let database = cluster().database();
    let name = database.rsplit('/').next().unwrap();
    let scene = Scene::set_with(|setup| setup.on(&database)).await;
    let subscription = scene.subscribe(&scene.wish("/told")).await;
    scene.gateway.accept(order()).await;
    let delivered = || async {
        let delivered = scene.deliveries(&subscription, "?state=delivered").await;
        (delivered.len() == 1).then_some(())
    };
    scene.gateway.while_stepping(1, "the delivery", delivered).await;
    cluster().sql(name, &format!("UPDATE deliveries_ended SET ended_at = 0; {FILL}"));
    scene.gateway.send(order()).await.problem(503);
    // The clock stands still, so the round that comes by itself does not.
    let left = || async { cluster().sql(name, "SELECT count(*) FROM deliveries_ended") };
    time::until("room", || async { (left().await == "0").then_some(()) }).await;
    assert_eq!(cluster().sql(name, "SELECT count(*) FROM messages"), "0");
}
