//! A start whose database is not ready, or is not for a ledger.

use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use crate::support::gateway::cloakroom;
use crate::support::postgres::{Cluster, PgBouncer, as_user, cluster};
use crate::support::{Setup, Upstream, get, time, upstream};

/// `serve` with this ledger, once it has said that it waits for it.
async fn waiting(store: &str) -> Waiting {
    let mut serve = cloakroom();
    serve.args(["serve", "--upstream", "http://127.0.0.1:1", "--admin-listen", "off"]);
    serve.args(["--listen", "127.0.0.1:0", "--store", store]);
    let mut child = serve.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let says = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("the database is away") {
                return;
            }
        }
        panic!("it never waited");
    };
    time::within("a word about the database", says).await;
    Waiting { child, _lines: lines }
}

/// A start that waits. What it says has to go on being read.
struct Waiting {
    child: Child,
    _lines: Lines<BufReader<ChildStderr>>,
}

#[tokio::test]
async fn a_signal_ends_a_start_that_waits_for_its_database() {
    let away = upstream::closed_port().await;
    for signal in ["TERM", "INT"] {
        let mut waiting = waiting(&format!("postgres://gw@{away}/gw")).await;
        let pid = waiting.child.id().unwrap().to_string();
        let kill = ["-s", signal, &pid];
        assert!(Command::new("kill").args(kill).status().await.unwrap().success());
        let ended = time::within("the end", waiting.child.wait()).await.unwrap();
        assert!(ended.success(), "{signal}: {ended}");
    }
}

#[tokio::test]
async fn a_start_waits_for_a_standby_until_it_is_promoted() {
    let upstream = Upstream::start().await;
    let cluster = Cluster::start();
    let database = cluster.database();
    cluster.stop();
    let signal = cluster.folder().join("data/standby.signal");
    let made = as_user(Path::new("touch")).arg(&signal).status().unwrap();
    assert!(made.success());
    cluster.start_again();
    drop(waiting(&database).await);
    let setup = Setup::before(&upstream).on(&database);
    let (process, ()) = tokio::join!(setup.spawn(), async {
        // It takes no writes before that.
        cluster.sql("postgres", "SELECT pg_promote()");
    });
    process.admin(get("/readyz")).await.expect(200);
    let ticket = process.post_order().await;
    assert_eq!(process.settled(&ticket).await["status"], "succeeded");
}

#[tokio::test]
async fn whoever_forgets_the_pooler_is_told_of_its_setting() {
    let upstream = Upstream::start().await;
    let direct = cluster().database();
    let bouncer = PgBouncer::before(cluster(), 5);
    let url = bouncer.url(&direct);
    for setup in [
        Setup::before(&upstream).on(&url),
        Setup::before(&upstream).on(&url).set("store", &format!("direct_url = {direct:?}")),
    ] {
        let (status, said) = setup.refused().await;
        assert!(!status.success());
        assert!(said.contains("store.pooler = \"transaction\""), "{said}");
    }
    let doctor = ["doctor", "--upstream", "http://127.0.0.1:1", "--store", &url];
    let said = cloakroom().args(doctor).output().await.unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("store.pooler"), "{said}");
}

#[tokio::test]
async fn a_database_of_another_program_is_left_as_it_is() {
    let upstream = Upstream::start().await;
    for (tables, sign) in [
        ("CREATE TABLE ledger (amount numeric)", "a table ledger"),
        ("CREATE TABLE users (id bigint); INSERT INTO users VALUES (1)", "a table users"),
        ("CREATE VIEW operations AS SELECT 1 AS id", "a view operations"),
        ("CREATE MATERIALIZED VIEW totals AS SELECT 1 AS id", "a view totals"),
        ("CREATE TYPE lanes AS ENUM ('left')", "a type lanes"),
        ("CREATE TYPE pair AS (one int, other int)", "a type pair"),
        ("CREATE DOMAIN amount AS int", "a type amount"),
        ("CREATE SEQUENCE numbers", "a sequence numbers"),
        (
            "CREATE TABLE _sqlx_migrations (version bigint); INSERT INTO _sqlx_migrations VALUES (1)",
            "a table _sqlx_migrations",
        ),
    ] {
        let database = cluster().database();
        let name = database.rsplit('/').next().unwrap();
        cluster().sql(name, tables);
        let count = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace";
        let before = cluster().sql(name, count);
        let (status, said) = Setup::before(&upstream).on(&database).refused().await;
        assert!(!status.success());
        assert!(said.contains("belongs to another program") && said.contains(sign), "{said}");
        let doctor = ["doctor", "--upstream", "http://127.0.0.1:1", "--store", &database];
        let said = cloakroom().args(doctor).output().await.unwrap();
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.contains("belongs to another program") && said.contains(sign), "{said}");
        assert_eq!(cluster().sql(name, count), before, "{tables}");
    }
}

#[tokio::test]
async fn tables_in_other_schemas_and_beside_a_ledger_do_no_harm() {
    let upstream = Upstream::start().await;
    let database = cluster().database();
    let name = database.rsplit('/').next().unwrap().to_owned();
    cluster().sql(&name, "CREATE SCHEMA theirs; CREATE TABLE theirs.customers (id bigint)");
    let process = Setup::before(&upstream).on(&database).spawn().await;
    process.post_order().await;
    cluster().sql(&name, "CREATE VIEW beside AS SELECT 1 AS id");
    let process = process.again().await;
    process.post_order().await;
}

/// The roles, databases and addresses in which no ledger can work, and the next step for each.
fn unusable() -> Vec<(String, &'static [&'static str])> {
    let named = |url: &str| url.rsplit('/').next().unwrap().to_owned();
    let [closed, frozen, lost] = [(); 3].map(|()| cluster().database());
    let role = format!("{}_reader", named(&closed));
    cluster().sql("postgres", &format!("CREATE ROLE {role} LOGIN"));
    let frozen_for_good =
        format!("ALTER DATABASE {} SET default_transaction_read_only = on", named(&frozen));
    cluster().sql("postgres", &frozen_for_good);
    let elsewhere = format!("ALTER DATABASE {} SET search_path = nowhere", named(&lost));
    cluster().sql("postgres", &elsewhere);
    let no_database = cluster().url("not_there");
    vec![
        (closed.replace("postgres@", &format!("{role}@")), &["GRANT CREATE ON SCHEMA public TO"]),
        (frozen, &["read-only", "default_transaction_read_only = off"]),
        (lost, &["nowhere", "CREATE SCHEMA", "search_path"]),
        (no_database.replace("postgres@", "nobody_here@"), &["nobody_here", "createuser"]),
        (no_database, &["not_there", "createdb"]),
    ]
}

#[tokio::test]
async fn a_database_in_which_no_ledger_can_work_is_refused_with_the_next_step_by_doctor_too() {
    let upstream = Upstream::start().await;
    for (database, words) in unusable() {
        let (status, said) = Setup::before(&upstream).on(&database).refused().await;
        assert!(!status.success());
        let reason = said.split_once("could not be opened: ").map(|(_, reason)| reason);
        let reason = reason.unwrap_or_else(|| panic!("{said}")).trim_end();
        assert!(words.iter().all(|word| reason.contains(word)), "{words:?} in {said}");
        assert!(!said.contains("at line") && !said.contains("migrations"), "{said}");
        let doctor = ["doctor", "--upstream", "http://127.0.0.1:1", "--store", &database];
        let told = cloakroom().args(doctor).output().await.unwrap();
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        assert!(told.contains(reason), "{reason} in {told}");
    }
}
