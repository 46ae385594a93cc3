//! The fakes themselves, without a gateway: a test that leans on them has to be able to.

use serde_json::json;

use super::cutter::{Cutter, Moment, Session, Work};
use super::postgres::cluster;
use super::{Answer, Connection, Upstream, get, post};

#[tokio::test]
async fn the_order_service_creates_numbered_orders_and_keeps_connections() {
    let upstream = Upstream::start().await;
    let mut connection = Connection::open(upstream.address).await;
    let order = post("/orders").json(&json!({"sku": "A-1"}));
    connection.send(&order).await.expect(201);
    let second = connection.send(&order).await.expect(201);
    assert_eq!(second.field("location"), Some("/orders/2"));
    assert_eq!(second.json(), json!({"order": 2}));
    assert_eq!(upstream.connections(), 1);
    assert_eq!(upstream.received()[1].body, br#"{"sku":"A-1"}"#);
}

#[tokio::test]
async fn scripted_answers_come_first_then_the_standing_one() {
    let upstream = Upstream::start().await;
    upstream.on("/a", Answer::status(500));
    upstream.script("/a", [Answer::status(204)]);
    get("/a").send(upstream.address).await.expect(204);
    get("/a").send(upstream.address).await.expect(500);
}

#[tokio::test]
async fn a_held_request_is_recorded_and_answered_after_its_release() {
    let upstream = Upstream::start().await;
    upstream.hold("/slow");
    let address = upstream.address;
    let answer = super::time::spawn(async move { post("/slow").send(address).await });
    upstream.until_received("/slow", 1).await;
    assert!(!answer.is_finished());
    upstream.release("/slow");
    answer.await.unwrap().expect(201);
}

#[tokio::test]
async fn a_client_that_lets_go_of_a_held_request_is_noticed() {
    let upstream = Upstream::start().await;
    upstream.hold("/slow");
    let mut connection = Connection::open(upstream.address).await;
    connection.send_head(&get("/slow")).await;
    upstream.until_received("/slow", 1).await;
    drop(connection);
    super::time::until("the drop", || async { (upstream.dropped() == 1).then_some(()) }).await;
}

#[tokio::test]
async fn broken_answers_are_broken() {
    let upstream = Upstream::start().await;
    for answer in [Answer::Reset, Answer::Close, Answer::truncated(), Answer::Raw(vec![7; 9])] {
        upstream.on("/broken", answer.clone());
        let outcome = get("/broken").try_send(upstream.address).await;
        assert!(outcome.is_err(), "{answer:?}: {outcome:?}");
    }
    upstream.on("/interim", Answer::status(200).after_interim(103));
    let answer = get("/interim").send(upstream.address).await.expect(200);
    assert_eq!(answer.interim, [103]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_is_cut_before_its_commit_arrives_or_before_its_answer_does() {
    let direct = cluster().database();
    let name = direct.rsplit('/').next().unwrap();
    cluster().sql(name, "CREATE TABLE operations (number int)");
    let cutter = Cutter::before(cluster().port()).await;
    let url = cutter.url(&direct);
    let write = ["BEGIN", "INSERT INTO operations VALUES (1)", "COMMIT"];
    for (moment, rows) in [(Moment::Before, "0"), (Moment::After, "1")] {
        let url = url.clone();
        let written = tokio::task::spawn_blocking(move || {
            // What ends nothing is let through.
            cluster().takes(&url, &["BEGIN", "COMMIT"]) && cluster().takes(&url, &write)
        });
        cutter.cut_at_commit(moment, Work::Accepting).await;
        assert!(!written.await.unwrap(), "{moment:?}");
        super::time::until("the server's end of it", || async {
            let counted = "SELECT count(*) FROM operations";
            (cluster().sql(name, counted) == rows).then_some(())
        })
        .await;
    }
    assert!(cluster().takes(&url, &write));
    assert_eq!(cutter.cuts(), 2);
}

#[test]
fn a_commit_is_told_from_everything_else_in_whichever_message_it_comes() {
    let mut session = Session::default();
    let mut commits = |kind: u8, words: &[&str]| {
        let body: String = words.iter().flat_map(|word| [*word, "\0"]).collect();
        session.commits(&[&[kind, 0, 0, 0, 0], body.as_bytes()].concat())
    };
    assert!(!commits(b'Q', &["BEGIN ISOLATION LEVEL READ COMMITTED"]));
    assert!(!commits(b'Q', &["SET LOCAL synchronous_commit = on"]));
    assert!(commits(b'Q', &["INSERT INTO operations VALUES (1); commit"]));
    assert!(!commits(b'P', &["sqlx_s_1", "COMMIT"]));
    assert!(!commits(b'B', &["", "sqlx_s_2"]));
    assert!(commits(b'B', &["", "sqlx_s_1"]));
}

#[test]
fn a_statement_without_a_transaction_commits_at_its_end() {
    let mut session = Session::default();
    let mut commits = |kind: u8, words: &[&str]| {
        let body: String = words.iter().flat_map(|word| [*word, "\0"]).collect();
        session.commits(&[&[kind, 0, 0, 0, 0], body.as_bytes()].concat())
    };
    assert!(!commits(b'P', &["sqlx_s_1", "INSERT INTO operations VALUES ($1)"]));
    assert!(!commits(b'S', &[]));
    assert!(!commits(b'Q', &["BEGIN"]));
    assert!(!commits(b'B', &["", "sqlx_s_1"]));
    assert!(!commits(b'S', &[]));
    assert!(commits(b'Q', &["COMMIT"]));
    assert!(!commits(b'B', &["", "sqlx_s_1"]));
    assert!(commits(b'S', &[]));
}
