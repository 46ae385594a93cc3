//! Schemas that grow: what an earlier release wrote is read by this one, and what it asks
//! still works.

use std::borrow::Cow;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::PgConnection;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection, Executor, SqlSafeStr, SqlStr};

use super::*;

/// A ledger of the first schema with a row of every kind. `b(N)` stands for 16 octets, `k(N)`
/// for 32, `t(TEXT)` for a text as octets, `yes` and `no` for a truth.
const FIRST: &str = include_str!("statements/0001.rows.sql");

/// Puts the engine's own notation into [`FIRST`].
fn rows(octets: impl Fn(&str) -> String, truth: [&str; 2]) -> String {
    let mut sql = FIRST.to_owned();
    for number in 0..10 {
        let pair = format!("0{number}");
        sql = sql.replace(&format!("b({number})"), &octets(&pair.repeat(16)));
        sql = sql.replace(&format!("k({number})"), &octets(&pair.repeat(32)));
    }
    while let Some((before, behind)) = sql.split_once("t(") {
        let (text, behind) = behind.split_once(')').unwrap();
        let hex: Vec<_> = text.bytes().map(|octet| format!("{octet:02x}")).collect();
        let hex = hex.concat();
        sql = format!("{before}{}{behind}", octets(&hex));
    }
    sql.replace("@no", truth[0]).replace("@yes", truth[1])
}

fn first(sql: &'static str) -> Migrator {
    let name = Cow::Borrowed("ledger");
    let sql = SqlStr::from_static(sql);
    Migrator::with_migrations(vec![Migration::new(1, name, MigrationType::Simple, sql, false)])
}

/// What the server would have counted while these rows came about.
const COUNTED: &str = "SELECT setval('operations_order', 100), \
     setval(pg_get_serial_sequence('nodes', 'incarnation'), 9), \
     setval(pg_get_serial_sequence('lanes', 'lane'), 9);";

/// Makes a ledger as the first release did.
async fn made_by_the_first_release(place: &Place) {
    match place {
        Place::File(folder) => {
            let path = format!("sqlite:{}/cloakroom.db?mode=rwc", folder.path().display());
            let mut connection = SqliteConnection::connect(&path).await.unwrap();
            let schema = include_str!("../../../migrations/sqlite/0001_ledger.sql");
            first(schema).run_direct(None, &mut connection, false).await.unwrap();
            let rows = rows(|hex| format!("x'{hex}'"), ["0", "1"]);
            sqlx::raw_sql(AssertSqlSafe(rows)).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
        Place::Database(url) => {
            let mut connection = PgConnection::connect(url).await.unwrap();
            let schema = include_str!("../../../migrations/postgres/0001_ledger.sql");
            first(schema).run_direct(None, &mut connection, false).await.unwrap();
            let rows = rows(|hex| format!("decode('{hex}', 'hex')"), ["FALSE", "TRUE"]);
            let rows = format!("{rows} {COUNTED}");
            sqlx::raw_sql(AssertSqlSafe(rows)).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
    }
}

fn id(number: u8) -> OperationId {
    OperationId::from_bytes([number; 16])
}

async fn what_the_first_release_wrote_is_read_and_goes_on(place: Place) {
    made_by_the_first_release(&place).await;
    let now = Timestamp::from_micros(10_000_000);
    let (ledger, tasks) = place.open(now).await;
    assert_eq!(ledger.number(), 7);
    let mut statuses = Vec::new();
    for number in 1..=7 {
        let found = ledger.find(id(number)).await.unwrap().unwrap();
        assert_eq!(found.verdict, None);
        statuses.push(found.state.status());
    }
    let names: Vec<_> = statuses.into_iter().map(Status::as_str).collect();
    let expected = ["queued", "running", "waiting", "waiting", "succeeded", "failed", "canceled"];
    assert_eq!(names, expected);
    let answer = ledger.answer(id(5)).await.unwrap().unwrap();
    assert_eq!((answer.status, answer.body), (201, Body::Inline(Bytes::from_static(b"made"))));
    assert_eq!(ledger.piece(BodyKey(77), 0).await.unwrap().unwrap(), &b"piece"[..]);
    assert_eq!(ledger.events(id(5), 0, 9).await.unwrap().len(), 3);
    let promised = ledger.promised(id(1)).await.unwrap().unwrap();
    assert_eq!((promised.policy.on_failure, promised.policy.recheck), (OnFailure::Skip, None));
    let tagged = Listing { tag: Some("account:7".into()), limit: 9, ..Listing::default() };
    assert_eq!(ledger.list(&tagged).await.unwrap().operations[0].id, id(1));
    let claim =
        IdempotencyClaim { digest: [1; 16], fingerprint: [1; 32], scope: KeyScope::Retained };
    let repeat = NewOperation { idempotency: Some(claim), ..operation(1, now) };
    assert_eq!(ledger.accept(repeat).await.unwrap(), Accepted::Replayed(id(1)));
    let lost = ledger
        .claim_orphans(vec![Dead { incarnation: 1, beat: None }], 9, now)
        .await
        .unwrap()
        .remove(0);
    assert_eq!(lost.id, id(2));
    ledger.settle(outcome_of(lost, &answered(422), now)).await.unwrap().unwrap();
    // It held the key that the fourth waited for.
    assert_eq!(state(&ledger, id(4)).await.status(), Status::Queued);
    let claimed = ledger.claim(vec![Want { lane: lane(false), limit: 9 }], now).await.unwrap();
    for leased in claimed.into_iter().flat_map(|claimed| claimed.leased) {
        assert_eq!(finish(&ledger, leased, now).await, Status::Succeeded);
    }
    assert_eq!(ledger.claim_waiting(9, now, now + HOUR).await.unwrap()[0].id, id(3));
    let report = ledger.reconcile(true, now).await.unwrap();
    let kinds: Vec<_> = report.findings.iter().map(|finding| finding.kind.as_str()).collect();
    assert_eq!(kinds, ["outcome-unknown"]);
    ledger.prune(99, now + 100 * HOUR).await.unwrap();
    ledger.prune(99, now + 100 * HOUR).await.unwrap();
    assert!(ledger.find(id(5)).await.unwrap().is_none());
    close(ledger, tasks).await;
}

/// What the first release asks on the newest schema, so that it goes on working beside
/// this one. The list was taken from its source, with what it puts together at run time
/// filled in.
async fn what_the_first_release_asks_is_understood(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    match &place {
        Place::File(folder) => {
            let path = format!("sqlite:{}/cloakroom.db", folder.path().display());
            let mut connection = SqliteConnection::connect(&path).await.unwrap();
            for sql in include_str!("statements/0001.sqlite.sql").lines() {
                let prepared = connection.prepare(SqlStr::from_static(sql)).await;
                assert!(prepared.is_ok(), "{sql}: {}", prepared.unwrap_err());
            }
        }
        Place::Database(url) => {
            let mut connection = PgConnection::connect(url).await.unwrap();
            for sql in include_str!("statements/0001.postgres.sql").lines() {
                let prepared = connection.prepare(sql.into_sql_str()).await;
                assert!(prepared.is_ok(), "{sql}: {}", prepared.unwrap_err());
            }
        }
    }
    close(ledger, tasks).await;
}

/// A later release's migration is there, which this one does not know.
async fn a_schema_of_a_later_release_is_no_hindrance(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    close(ledger, tasks).await;
    let later = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (9999, 'later', @yes, b(1), 1)";
    match &place {
        Place::File(folder) => {
            let path = format!("sqlite:{}/cloakroom.db", folder.path().display());
            let mut connection = SqliteConnection::connect(&path).await.unwrap();
            let later = later.replace("@yes", "1").replace("b(1)", "x'01'");
            sqlx::raw_sql(AssertSqlSafe(later)).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
        Place::Database(url) => {
            let mut connection = PgConnection::connect(url).await.unwrap();
            let later = later.replace("@yes", "TRUE").replace("b(1)", "decode('01', 'hex')");
            sqlx::raw_sql(AssertSqlSafe(later)).execute(&mut connection).await.unwrap();
        }
    }
    let (ledger, tasks) = place.open(START).await;
    ledger.accept(operation(1, START)).await.unwrap();
    close(ledger, tasks).await;
}

macro_rules! on {
    ($engine:ident) => {
        suite_of!($engine:
            what_the_first_release_wrote_is_read_and_goes_on,
            what_the_first_release_asks_is_understood,
            a_schema_of_a_later_release_is_no_hindrance,
        );
    };
}

on!(sqlite);
on!(postgres);
