//! Every statement of the present is one that its engine understands, and says which
//! columns it brings.

use std::collections::BTreeSet;

use sqlx::postgres::PgConnection;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection, Executor, Row, SqlSafeStr};

use super::statements::asked_of;
use super::*;
use crate::db::statements::Backend;

/// A statement without the layout that it has in its file.
fn on_one_line(sql: &str) -> String {
    sql.split_whitespace().collect::<Vec<_>>().join(" ").replace("( ", "(")
}

/// Columns that are not named: a later migration may add to them.
fn is_vague(sql: &str) -> bool {
    let plain =
        ["count(*)", "SELECT * FROM UNNEST", "u.* FROM UNNEST", " * 1000000", " * 256", "4 * n."];
    plain.iter().fold(on_one_line(sql), |sql, fine| sql.replace(fine, "")).contains('*')
}

/// All that PostgreSQL is asked.
fn asked_of_postgres() -> BTreeSet<String> {
    let all = asked_of(Backend::Postgres);
    assert!(all.len() > 130, "only {} were found", all.len());
    all
}

/// A database with its schema.
async fn database() -> (Place, PgConnection) {
    let place = Place::postgres();
    let (ledger, tasks) = place.open(START).await;
    close(ledger, tasks).await;
    let Place::Database(url) = &place else { panic!("no database") };
    let connection = PgConnection::connect(url).await.unwrap();
    (place, connection)
}

#[tokio::test]
async fn every_statement_is_understood_by_postgres_and_names_its_columns() {
    let (_place, mut connection) = database().await;
    for sql in asked_of_postgres() {
        assert!(!is_vague(&sql), "names no columns: {sql}");
        let prepared = connection.prepare(AssertSqlSafe(sql.clone()).into_sql_str()).await;
        assert!(prepared.is_ok(), "{sql}: {}", prepared.unwrap_err());
    }
}

/// Tables whose rows come and go, so that they may look empty, and a row of each.
const COMING_AND_GOING: [(&str, &str); 7] = [
    (
        "ready",
        "(seq, lane, due_at, attempts, resumes, rescues, refusals, token, sequence) SELECT n, 1, 1, 1, 0, 0, 0, 1, 1",
    ),
    (
        "running",
        "(seq, lane, node, since, attempts, resumes, rescues, refusals, token, sequence) SELECT n, 1, 1, 1, 1, 0, 0, 0, 1, 1",
    ),
    (
        "waiting",
        "(seq, lane, waiting_for, due_at, version, continuation, attempts, resumes, rescues, refusals, token, sequence) \
         SELECT n, 1, 'upstream', 1, 1, 'x', 1, 0, 0, 0, 1, 1",
    ),
    ("credentials", "(seq, fields) SELECT n, 'x'"),
    ("serial_keys", "(digest, seq) SELECT decode(lpad(to_hex(n), 32, '0'), 'hex'), n"),
    (
        "deliveries_due",
        "(delivery, receiver, again, due_at, attempts, refusals, token) SELECT n, 1, 0, 1, 0, 0, 0",
    ),
    (
        "deliveries_sending",
        "(delivery, receiver, node, since, attempts, refusals, token) SELECT n, 1, 1, 1, 1, 0, 1",
    ),
];

/// What is asked now and then, and of more than it can name: what a node has, how much there is,
/// what a person wants to see, and what is looked after in the background.
const NOW_AND_THEN: [&str; 12] = [
    "node = $1",
    "node <> $1",
    "node = ANY",
    "node = incarnation",
    "n.incarnation = u.node",
    "count(*)",
    "sum(o.octets)",
    "FROM deliveries v",
    "DELETE FROM deliveries_due WHERE delivery IN (SELECT",
    "WITH RECURSIVE heads",
    "FROM waiting w JOIN operations o ON o.seq = w.seq LEFT JOIN serial_keys",
    "SELECT s.seq, s.id, s.live",
];

/// What walks one of these from end to end, in the words of the server's plan.
fn walks(plan: &serde_json::Value) -> Vec<String> {
    let word = |name: &str| plan[name].as_str().unwrap_or_default();
    let whole = match word("Node Type") {
        "Seq Scan" => true,
        "Index Scan" | "Index Only Scan" => plan["Index Cond"].is_null(),
        _ => false,
    };
    let is_one = COMING_AND_GOING.iter().any(|(table, _)| *table == word("Relation Name"));
    let mut found = Vec::new();
    if whole && is_one {
        found.push(format!("{} of {}", word("Node Type"), word("Relation Name")));
    }
    let below = plan["Plans"].as_array().into_iter().flatten();
    found.extend(below.flat_map(walks));
    found
}

#[tokio::test]
async fn no_table_is_walked_because_it_was_empty_when_the_server_looked() {
    let (place, mut connection) = database().await;
    let Place::Database(url) = &place else { panic!("no database") };
    let mut old = PgConnection::connect(url).await.unwrap();
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT txid_current()";
    sqlx::raw_sql(begin.into_sql_str()).execute(&mut old).await.unwrap();
    for (table, row) in COMING_AND_GOING {
        let sql = format!(
            "INSERT INTO {table} {row} FROM generate_series(1, 30000) AS n; DELETE FROM {table}; ANALYZE {table}"
        );
        for sql in sql.split("; ") {
            sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
        }
    }
    let generic = "SET plan_cache_mode = force_generic_plan";
    sqlx::raw_sql(generic.into_sql_str()).execute(&mut connection).await.unwrap();
    let mut found = Vec::new();
    let often = |sql: &String| {
        let sql = on_one_line(sql);
        !NOW_AND_THEN.iter().any(|words| sql.contains(words))
    };
    for sql in asked_of_postgres().into_iter().filter(often) {
        let prepare = AssertSqlSafe(format!("PREPARE asked AS {sql}"));
        sqlx::raw_sql(prepare).execute(&mut connection).await.unwrap();
        let count = "SELECT cardinality(parameter_types)::bigint FROM pg_prepared_statements WHERE name = 'asked'";
        let count: i64 = sqlx::query_scalar(count).fetch_one(&mut connection).await.unwrap();
        let given = match count {
            0 => String::new(),
            _ => format!("({})", vec!["NULL"; count as usize].join(", ")),
        };
        let explain = AssertSqlSafe(format!("EXPLAIN (FORMAT JSON) EXECUTE asked{given}"));
        let plan = sqlx::raw_sql(explain).fetch_one(&mut connection).await.unwrap();
        let plan: serde_json::Value = serde_json::from_str(plan.get_unchecked(0)).unwrap();
        found.extend(walks(&plan[0]["Plan"]).into_iter().map(|walk| format!("{walk}: {sql}")));
        let forget = "DEALLOCATE asked".into_sql_str();
        sqlx::raw_sql(forget).execute(&mut connection).await.unwrap();
    }
    assert_eq!(found, Vec::<String>::new());
}

#[tokio::test]
async fn every_statement_is_understood_by_sqlite_and_names_its_columns() {
    let place = Place::sqlite();
    let (ledger, tasks) = place.open(START).await;
    close(ledger, tasks).await;
    let Place::File(folder) = &place else { panic!("no file") };
    let path = format!("sqlite:{}/cloakroom.db", folder.path().display());
    let mut connection = SqliteConnection::connect(&path).await.unwrap();
    let all = asked_of(Backend::Sqlite);
    assert!(all.len() > 90, "only {} were found", all.len());
    for sql in all {
        assert!(!is_vague(&sql), "names no columns: {sql}");
        let prepared = connection.prepare(AssertSqlSafe(sql.clone()).into_sql_str()).await;
        assert!(prepared.is_ok(), "{sql}: {}", prepared.unwrap_err());
    }
}

#[test]
fn a_statement_that_brings_whatever_there_is_is_found_out() {
    for vague in ["SELECT * FROM nodes", "DELETE FROM ready RETURNING *", "SELECT r.* FROM ready r"]
    {
        assert!(is_vague(vague), "{vague}");
    }
    assert!(!is_vague("SELECT count(*) AS all FROM nodes"));
}
