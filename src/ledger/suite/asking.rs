//! Every statement of the present is one that its engine understands, and says which
//! columns it brings.

use std::collections::BTreeSet;

use sqlx::postgres::PgConnection;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection, Executor, SqlSafeStr};

use super::sources::{Found, statements};
use super::*;
use crate::ledger::postgres::texts;

/// Both engines ask these.
const BOTH: [&str; 5] = ["reconcile.rs", "room.rs", "permits.rs", "rows", "webhooks"];

/// What may stand in a format at run time.
const FILLED: [(&str, &str); 2] = [("{places}", "3"), ("{filter}", "")];

fn of(engine: &'static str) -> Vec<Found> {
    let found = statements(&[&[engine], &BOTH[..]].concat());
    // What it puts together is gathered where that is known.
    found.into_iter().filter(|found| found.file != "given.rs").collect()
}

fn filled(found: &Found) -> String {
    let mut text = found.texts[0].clone();
    for (name, by) in FILLED {
        text = text.replace(name, by);
    }
    let is_open = |(at, _): (usize, _)| !text[at + 1..].starts_with(|it: char| it.is_ascii_digit());
    assert!(!text.match_indices('{').any(is_open), "what may stand there? {found:?}");
    text
}

/// Columns that are not named: a later migration may add to them.
fn is_vague(sql: &str) -> bool {
    let plain = ["count(*)", "SELECT * FROM UNNEST", "u.* FROM UNNEST", " * 1000000"];
    plain.iter().fold(sql.to_owned(), |sql, fine| sql.replace(fine, "")).contains('*')
}

#[tokio::test]
async fn every_statement_is_understood_by_postgres_and_names_its_columns() {
    let place = Place::postgres();
    let (ledger, tasks) = place.open(START).await;
    close(ledger, tasks).await;
    let Place::Database(url) = &place else { panic!("no database") };
    let mut connection = PgConnection::connect(url).await.unwrap();
    let mut all: BTreeSet<String> = texts::of_given().into_iter().collect();
    for found in of("postgres") {
        match &*found.call {
            "" | "format" => _ = all.insert(filled(&found)),
            "locking" => _ = all.insert(format!("{} FOR UPDATE SKIP LOCKED", found.texts[0])),
            "Sql" => _ = all.insert(found.texts[1].clone()),
            "table" => {
                let head = format!("INSERT INTO {}", found.texts[0]);
                let texts = [&[head], &found.texts[1..3]].concat();
                all.extend(texts::of_statement("Statement::insert", &texts));
            }
            _ => all.extend(texts::of_statement(&found.call, &found.texts)),
        }
    }
    assert!(all.len() > 130, "only {} were found", all.len());
    for sql in all {
        assert!(!is_vague(&sql), "names no columns: {sql}");
        let prepared = connection.prepare(AssertSqlSafe(sql.clone()).into_sql_str()).await;
        assert!(prepared.is_ok(), "{sql}: {}", prepared.unwrap_err());
    }
}

#[tokio::test]
async fn every_statement_is_understood_by_sqlite_and_names_its_columns() {
    let place = Place::sqlite();
    let (ledger, tasks) = place.open(START).await;
    close(ledger, tasks).await;
    let Place::File(folder) = &place else { panic!("no file") };
    let path = format!("sqlite:{}/cloakroom.db", folder.path().display());
    let mut connection = SqliteConnection::connect(&path).await.unwrap();
    let all: BTreeSet<String> = of("sqlite")
        .iter()
        .map(|found| match &*found.call {
            "Among::new" => format!("{} (?, ?)", found.texts[0]),
            "locking" | "Sql" => found.texts[0].clone(),
            "table" => {
                let [name, columns, _, marks] = &*found.texts else { panic!("{found:?}") };
                format!("INSERT INTO {name} ({columns}) VALUES ({marks})")
            }
            _ => filled(found),
        })
        .collect();
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
