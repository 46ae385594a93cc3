//! Schemas that grow: a ledger that a later release or an unreleased build has changed.

use sqlx::postgres::PgConnection;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection};

use super::in_a_database::until;
use super::*;
use crate::db::schema::bring_up_to_date;

/// Runs a statement on the migrations that the ledger at a place has had. `@yes` stands for a
/// truth and `b(1)` for an octet.
async fn change(place: &Place, sql: &str) {
    match place {
        Place::File(folder) => {
            let path = format!("sqlite:{}/cloakroom.db", folder.path().display());
            let mut connection = SqliteConnection::connect(&path).await.unwrap();
            let sql = sql.replace("@yes", "1").replace("b(1)", "x'01'");
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
        Place::Database(url) => {
            let mut connection = PgConnection::connect(url).await.unwrap();
            let sql = sql.replace("@yes", "TRUE").replace("b(1)", "decode('01', 'hex')");
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        }
    }
}

/// A later release's migration is there, which this one does not know.
async fn a_schema_of_a_later_release_is_no_hindrance(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    close(ledger, tasks).await;
    change(
        &place,
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'later', @yes, b(1), 1)",
    )
    .await;
    let (ledger, tasks) = place.open(START).await;
    ledger.accept(operation(1, START)).await.unwrap();
    close(ledger, tasks).await;
}

/// The first migration was another one when an unreleased build made the ledger.
async fn a_ledger_of_an_unreleased_build_is_refused_with_what_to_do(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    close(ledger, tasks).await;
    change(&place, "UPDATE _sqlx_migrations SET checksum = b(1) WHERE version = 1").await;
    for migrate in [true, false] {
        let opening = Opening { migrate, ..place.opening() };
        let opened = Ledger::open(opening, &Clock::manual(START), &Tasks::new()).await;
        let refused = opened.err().unwrap();
        assert!(matches!(refused, OpenError::Unreleased { .. }), "{refused}");
        let said = refused.to_string();
        for part in ["never released", "--store", &place.location().to_string()] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
}

/// Other nodes work on the ledger: a long transaction of one holds a lock that a migration needs.
#[tokio::test]
async fn a_migration_that_does_not_get_a_lock_in_its_time_is_tried_again() {
    let place = Place::postgres();
    let Place::Database(url) = &place else { panic!("no database") };
    let mut connection = PgConnection::connect(url).await.unwrap();
    let mut holder = PgConnection::connect(url).await.unwrap();
    let first = (1, "first", "CREATE TABLE things (id BIGINT)");
    bring_up_to_date(&mut connection, &[first], "here", true).await.unwrap();
    let run = async |holder: &mut PgConnection, sql: &'static str| {
        sqlx::raw_sql(sql).execute(holder).await.unwrap();
    };
    run(&mut holder, "BEGIN; LOCK TABLE things IN ACCESS SHARE MODE").await;
    let added = "SET LOCAL lock_timeout = '50ms'; ALTER TABLE things ADD COLUMN later BIGINT";
    let all = [first, (2, "later", added)];
    let migrating = bring_up_to_date(&mut connection, &all, "here", true);
    // The lock is let go of once a try has waited for it in vain.
    let letting_go = async {
        for expected in [true, false] {
            until("a lock that is waited for, and then no more", async || {
                let sql = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)";
                let mut other = PgConnection::connect(url).await.unwrap();
                let waits: bool = sqlx::query_scalar(sql).fetch_one(&mut other).await.unwrap();
                waits == expected
            })
            .await;
        }
        run(&mut holder, "COMMIT").await;
    };
    let (migrated, ()) = tokio::join!(migrating, letting_go);
    migrated.unwrap();
    run(&mut holder, "SELECT later FROM things").await;
}

macro_rules! on {
    ($engine:ident) => {
        suite_of!($engine:
            a_schema_of_a_later_release_is_no_hindrance,
            a_ledger_of_an_unreleased_build_is_refused_with_what_to_do,
        );
    };
}

on!(sqlite);
on!(postgres);
