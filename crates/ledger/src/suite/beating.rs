//! Reads of a database while an old snapshot keeps every entry that has ended.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Row};

use super::in_a_database::until;
use super::*;

/// So many operations have ended while the snapshot was held.
const ENDED: u32 = 20_000;

/// A node on a database, and a transaction that sees it as it was.
struct Scene {
    old: PgConnection,
    beside: PgConnection,
    place: Place,
}

impl Scene {
    async fn new() -> Self {
        let place = Place::postgres();
        let Place::Database(url) = &place else { panic!("no database") };
        let url = url.clone();
        let (ledger, tasks) = place.open(START).await;
        close(ledger, tasks).await;
        let mut old = PgConnection::connect(&url).await.unwrap();
        let beside = PgConnection::connect(&url).await.unwrap();
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT txid_current()";
        sqlx::raw_sql(begin).execute(&mut old).await.unwrap();
        Self { old, beside, place }
    }

    async fn run(&mut self, sql: String) {
        // What it reads itself is counted before anything is measured.
        for sql in [sql, "SELECT pg_stat_force_next_flush()".to_owned()] {
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.beside).await.unwrap();
        }
    }

    /// Operations that this node began and ended within the hour before.
    async fn end_many(&mut self, node: i64) {
        let at = START.as_micros();
        self.run(format!(
            "INSERT INTO running (seq, lane, node, since, cancel, attempts, resumes, rescues, refusals, token, sequence) \
             SELECT 1000000 * {node} + n, 1, {node}, {at} - 3600000000 + n, 0, 1, 0, 0, 0, 1, 1 \
             FROM generate_series(1, {ENDED}) AS n; DELETE FROM running WHERE seq > 1000000"
        ))
        .await;
    }

    /// How many entries of indices were read on this table, and how many scans a statement of each
    /// round has begun on another one.
    async fn reads(&mut self, table: &str, (other, index): (&str, &str)) -> (i64, i64) {
        let sql = format!(
            "SELECT (SELECT coalesce(sum(idx_tup_read), 0) FROM pg_stat_user_indexes WHERE relname = '{table}')::bigint, \
             (SELECT idx_scan FROM pg_stat_user_indexes WHERE relname = '{other}' AND indexrelname = '{index}')"
        );
        let row = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_one(&mut self.beside).await.unwrap();
        (row.get(0), row.get(1))
    }

    /// Entries of indices of this table that one round reads. The server counts a moment later, and
    /// a statement of each round tells how many were counted.
    async fn reads_of_a_round(
        &mut self,
        table: &str,
        scanned: (&str, &str),
        mut round: impl AsyncFnMut(),
    ) -> i64 {
        let (tuples, rounds) = self.reads(table, scanned).await;
        let mut counted = (0, 0);
        until("counts of rounds", async || {
            round().await;
            let (now, by_now) = self.reads(table, scanned).await;
            counted = (now - tuples, by_now - rounds);
            counted.1 >= 20
        })
        .await;
        counted.0 / counted.1
    }

    async fn done(mut self) {
        sqlx::raw_sql("ROLLBACK").execute(&mut self.old).await.unwrap();
        drop(self.place);
    }
}

#[tokio::test]
async fn a_beat_does_not_walk_what_has_ended_while_an_old_snapshot_is_held() {
    let mut scene = Scene::new().await;
    let (one, tasks) = scene.place.open(START).await;
    let (other, more_tasks) = scene.place.open(START).await;
    one.accept(operation(1, START)).await.unwrap();
    let held = claim_one(&one, START).await;
    one.beat(vitals()).await.unwrap();
    other.beat(vitals()).await.unwrap();
    for node in [one.incarnation(), other.incarnation()] {
        scene.end_many(node).await;
    }
    other.beat(vitals()).await.unwrap();
    other.leave(Vec::new(), START).await.unwrap();
    // It is an owner until a takeover has found nothing.
    let seen = one.beat(vitals()).await.unwrap().others;
    let of_it = |it: &&cloakroom_domain::fleet::Heartbeat| it.incarnation == other.incarnation();
    let seen: Vec<_> = seen.iter().filter(of_it).copied().collect();
    assert_eq!(seen.iter().map(|it| (it.ended, it.holds)).collect::<Vec<_>>(), [(true, true)]);
    let dead = vec![Dead { incarnation: other.incarnation(), beat: Some(seen[0].beat) }];
    assert!(one.claim_orphans(dead, 9, START).await.unwrap().is_empty());
    let key = held.lease.key();
    let read = scene
        .reads_of_a_round("running", ("nodes", "nodes_pkey"), async || {
            let beaten = one.beat(vitals()).await.unwrap();
            assert_eq!(beaten.held.iter().map(|it| it.key).collect::<Vec<_>>(), [key]);
            assert_eq!(beaten.others.iter().find(of_it), None);
        })
        .await;
    assert!(read < 100, "a beat reads {read} entries");
    close(one, tasks).await;
    close(other, more_tasks).await;
    scene.done().await;
}

#[tokio::test]
async fn a_count_of_what_is_stored_does_not_walk_what_has_ended_while_an_old_snapshot_is_held() {
    let mut scene = Scene::new().await;
    let (ledger, tasks) = scene.place.open(START).await;
    ledger.accept(operation(1, START)).await.unwrap();
    let _held = claim_one(&ledger, START).await;
    for _ in 0..2 {
        ledger.beat(vitals()).await.unwrap();
    }
    scene.end_many(ledger.incarnation()).await;
    let read = scene
        .reads_of_a_round("running", ("counters", "counters_pkey"), async || {
            let report = ledger.recount_lanes().await.unwrap();
            assert!(report.findings.is_empty(), "{report:?}");
        })
        .await;
    assert!(read < 200, "a count reads {read} entries");
    close(ledger, tasks).await;
    scene.done().await;
}

#[tokio::test]
async fn a_prune_does_not_walk_bodies_that_were_deleted_while_an_old_snapshot_is_held() {
    let mut scene = Scene::new().await;
    let (ledger, tasks) = scene.place.open(START).await;
    scene
        .run(format!(
            "INSERT INTO erasures (body) SELECT n FROM generate_series(1, {ENDED}) AS n; DELETE FROM erasures"
        ))
        .await;
    ledger.prune(9, START).await.unwrap();
    let read = scene
        .reads_of_a_round("erasures", ("expiries", "expiries_pkey"), async || {
            assert_eq!(ledger.prune(9, START).await.unwrap(), Pruned::default());
        })
        .await;
    assert!(read < 2_000, "a prune reads {read} entries");
    // What comes in is found at once, also behind where a look begins.
    scene.run("INSERT INTO erasures (body) VALUES (77)".to_owned()).await;
    let one = Pruned { pieces: 1, ..Pruned::default() };
    assert_eq!(ledger.prune(9, START).await.unwrap(), one);
    assert_eq!(ledger.prune(9, START).await.unwrap(), Pruned::default());
    close(ledger, tasks).await;
    scene.done().await;
}

#[tokio::test]
async fn a_row_that_comes_late_of_a_node_that_was_cleared_is_found_and_taken_over() {
    let place = Place::postgres();
    let (one, tasks) = place.open(START).await;
    let (other, more_tasks) = place.open(START).await;
    one.accept(operation(1, START)).await.unwrap();
    other.beat(vitals()).await.unwrap();
    other.leave(Vec::new(), START).await.unwrap();
    let seen = one.beat(vitals()).await.unwrap().others;
    let dead = vec![Dead { incarnation: other.incarnation(), beat: Some(seen[0].beat) }];
    assert!(one.claim_orphans(dead.clone(), 9, START).await.unwrap().is_empty());
    assert!(one.beat(vitals()).await.unwrap().others.is_empty());
    // A claim of its was on its way all the time.
    let late = claim_one(&other, START).await;
    let found = one.beat(vitals()).await.unwrap().others;
    assert_eq!(found.iter().map(|it| it.holds).collect::<Vec<_>>(), [true]);
    let orphans = one.claim_orphans(dead, 9, START).await.unwrap();
    assert_eq!(orphans.iter().map(|it| it.id).collect::<Vec<_>>(), [late.id]);
    close(one, tasks).await;
    close(other, more_tasks).await;
}

#[tokio::test]
async fn what_another_transaction_holds_keeps_a_dead_node_from_being_cleared() {
    let place = Place::postgres();
    let Place::Database(url) = &place else { panic!("no database") };
    let (one, tasks) = place.open(START).await;
    let (other, more_tasks) = place.open(START).await;
    one.accept(operation(1, START)).await.unwrap();
    let running = claim_one(&other, START).await;
    other.leave(Vec::new(), START).await.unwrap();
    let dead = vec![Dead { incarnation: other.incarnation(), beat: None }];
    let mut holder = PgConnection::connect(url).await.unwrap();
    let lock = "BEGIN; SELECT seq FROM running FOR UPDATE";
    sqlx::raw_sql(lock).execute(&mut holder).await.unwrap();
    assert!(one.claim_orphans(dead.clone(), 9, START).await.unwrap().is_empty());
    sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.unwrap();
    // A beat of it would make void what had been written down too early.
    let holds = one.beat(vitals()).await.unwrap().others;
    assert_eq!(holds.iter().map(|it| it.holds).collect::<Vec<_>>(), [true]);
    let orphans = one.claim_orphans(dead, 9, START).await.unwrap();
    assert_eq!(orphans.iter().map(|it| it.id).collect::<Vec<_>>(), [running.id]);
    close(one, tasks).await;
    close(other, more_tasks).await;
}

#[tokio::test]
async fn a_node_that_beats_again_counts_as_an_owner_again() {
    let place = Place::postgres();
    let (one, tasks) = place.open(START).await;
    let (other, more_tasks) = place.open(START).await;
    let beat = other.beat(vitals()).await.unwrap().beat;
    let dead = vec![Dead { incarnation: other.incarnation(), beat: Some(beat) }];
    assert!(one.claim_orphans(dead, 9, START).await.unwrap().is_empty());
    let holds = async || one.beat(vitals()).await.unwrap().others[0].holds;
    assert!(!holds().await);
    other.beat(vitals()).await.unwrap();
    assert!(holds().await);
    close(one, tasks).await;
    close(other, more_tasks).await;
}
