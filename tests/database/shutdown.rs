//! A shutdown while the ledger is checked.

use crate::support::postgres::cluster;
use crate::support::{Setup, Upstream, time};

/// Takes away what frees the results, which a look puts right; and has the commit that puts it
/// right miscount every lane. The same look finds that later, and waits for beats before it
/// believes it.
const MEDDLING: &str = "CREATE FUNCTION miscount() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
     INSERT INTO counters (lane, incarnation, depth, started) SELECT lane, 0, 9, 0 FROM lanes \
     ON CONFLICT (lane, incarnation) DO UPDATE SET depth = counters.depth + 9; RETURN NULL; END $$; \
     CREATE TRIGGER miscounts AFTER INSERT ON expiries EXECUTE FUNCTION miscount(); \
     DELETE FROM expiries";
const MISCOUNTED: &str = "SELECT count(*) > 0 FROM counters WHERE incarnation = 0 AND depth >= 9";

#[tokio::test]
async fn a_stop_does_not_wait_until_the_ledger_was_looked_through() {
    let upstream = Upstream::start().await;
    let database = cluster().database();
    let name = database.rsplit('/').next().unwrap();
    // Two beats take 48 s.
    let setup = Setup::before(&upstream)
        .on(&database)
        .set("store", "lease = \"2m\"")
        .set("shutdown", "grace = \"1h\"");
    let looking = |every: &str| setup.clone().set("engine", &format!("reconcile = {every:?}"));
    // While something moves in a lane, a look waits for beats as well.
    let mut process = looking("0s").spawn().await;
    let ticket = process.post_order().await;
    process.settled(&ticket).await;
    process.signal("TERM").await;
    process.ended().await;
    let mut process = process.again_with(looking("10ms")).await;
    cluster().sql(name, MEDDLING);
    time::until("a look that puts something right", || async {
        (cluster().sql(name, MISCOUNTED) == "t").then_some(())
    })
    .await;
    process.signal("TERM").await;
    assert!(process.ended().await.success());
}
