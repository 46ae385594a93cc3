//! The texts of migrations: each one behind the first only adds, and is safe while other nodes
//! work on the ledger.
//!
//! The reader knows the few forms that are safe and refuses every other one, so an
//! unforeseen form is not let through. A file of SQLite has one process, which runs the
//! migrations before it serves: there, a statement only has to add.

use std::fs;

/// Each statement of a text, without its comments and with single spaces.
fn statements(text: &str) -> Vec<String> {
    let plain: Vec<_> = text.lines().map(|line| line.split("--").next().unwrap_or("")).collect();
    let plain = plain.join(" ");
    let words = |statement: &str| statement.split_whitespace().collect::<Vec<_>>().join(" ");
    plain.split(';').map(words).filter(|statement| !statement.is_empty()).collect()
}

/// The word behind a beginning, if a statement has that beginning.
fn behind<'a>(statement: &'a str, beginning: &str) -> Option<&'a str> {
    statement.strip_prefix(beginning)?.split([' ', '(']).find(|word| !word.is_empty())
}

fn made_here(statements: &[String]) -> Vec<&str> {
    statements.iter().filter_map(|statement| behind(statement, "CREATE TABLE ")).collect()
}

/// The table that an index is for.
fn indexed(statement: &str) -> Option<&str> {
    behind(statement.split_once(" ON ")?.1, "")
}

/// Why a statement on a table with rows is not safe, if it is not.
fn hazard_of_adding(statement: &str, shared: bool) -> Option<&'static str> {
    let (_, action) = statement.strip_prefix("ALTER TABLE ")?.split_once(' ')?;
    if action.starts_with("ADD CONSTRAINT ") && shared {
        return (!action.ends_with(" NOT VALID"))
            .then_some("a constraint on a table with rows needs NOT VALID");
    }
    if action.starts_with("VALIDATE CONSTRAINT ") && shared {
        return None;
    }
    if !action.starts_with("ADD COLUMN ") || action.contains(", ") {
        return Some("only ADD COLUMN, one at a time, is known to be safe");
    }
    if action.contains("NOT NULL") && !action.contains("DEFAULT") {
        return Some("a column that is NOT NULL needs a DEFAULT");
    }
    let scans = ["CHECK", "REFERENCES", "UNIQUE", "PRIMARY KEY"];
    (shared && scans.iter().any(|word| action.contains(word)))
        .then_some("the server reads every row for this column: add a constraint NOT VALID")
}

/// What is not safe in the text of a migration, statement by statement. `shared` says that other
/// nodes work on the ledger meanwhile, as they do in a database.
fn hazards(text: &str, shared: bool) -> Vec<String> {
    let all = statements(text);
    let made = made_here(&all);
    let mut found = Vec::new();
    let mut patient = false;
    for statement in &all {
        let is_new = |table: Option<&str>| table.is_some_and(|table| made.contains(&table));
        let concurrently = statement.contains(" INDEX CONCURRENTLY ");
        let reason = if statement.starts_with("SET LOCAL lock_timeout = ") {
            patient = true;
            None
        } else if statement.starts_with("CREATE TABLE ")
            || statement.starts_with("CREATE SEQUENCE ")
        {
            None
        } else if statement.starts_with("INSERT INTO ") {
            (!is_new(behind(statement, "INSERT INTO ")))
                .then_some("rows go only into a table that the migration makes")
        } else if statement.starts_with("CREATE INDEX ")
            || statement.starts_with("CREATE UNIQUE INDEX ")
        {
            let alone = all.len() == 1 && text.starts_with("-- no-transaction\n");
            match (shared && !is_new(indexed(statement)), concurrently, alone) {
                (true, false, _) => Some("an index on a table with rows is made CONCURRENTLY"),
                (_, true, false) => {
                    Some("CONCURRENTLY needs a file of its own that begins with -- no-transaction")
                }
                _ => None,
            }
        } else if statement.starts_with("ALTER TABLE ") {
            let unsafe_action = hazard_of_adding(statement, shared);
            let waits = (shared && !patient).then_some("it has to follow SET LOCAL lock_timeout");
            unsafe_action.or(waits)
        } else {
            Some("it is not known to be safe: a migration only adds")
        };
        found.extend(reason.map(|reason| format!("{statement}: {reason}")));
    }
    found
}

#[test]
fn what_is_not_safe_under_load_is_found_and_what_is_safe_is_not() {
    let with_patience = |text: &str| format!("SET LOCAL lock_timeout = '2s';\n{text}");
    let safe = [
        "CREATE TABLE a (b BIGINT); CREATE INDEX c ON a (b); INSERT INTO a (b) VALUES (1);",
        "-- no-transaction\nCREATE INDEX CONCURRENTLY a ON ready (lane);",
        "-- ALTER TABLE ready DROP COLUMN lane;\nCREATE SEQUENCE a AS BIGINT;",
    ];
    for text in safe {
        assert_eq!(hazards(text, true), [""; 0], "{text}");
    }
    let patient = [
        "ALTER TABLE ready ADD COLUMN a BIGINT NOT NULL DEFAULT 0;",
        "ALTER TABLE ready ADD CONSTRAINT a CHECK (lane > 0) NOT VALID;",
        "ALTER TABLE ready VALIDATE CONSTRAINT a;",
    ];
    for text in patient {
        assert_eq!(hazards(&with_patience(text), true), [""; 0], "{text}");
        assert_eq!(hazards(text, true).len(), 1, "without a lock_timeout: {text}");
    }
    let hazardous = [
        "CREATE INDEX a ON ready (lane);",
        "CREATE UNIQUE INDEX a ON ready (lane);",
        "CREATE INDEX CONCURRENTLY a ON ready (lane);",
        "-- no-transaction\nCREATE INDEX CONCURRENTLY a ON ready (lane); CREATE SEQUENCE b;",
        "ALTER TABLE ready ADD CONSTRAINT a CHECK (lane > 0);",
        "ALTER TABLE ready ADD COLUMN a BIGINT CHECK (a > 0);",
        "ALTER TABLE ready ADD COLUMN a BIGINT NOT NULL;",
        "ALTER TABLE ready ADD COLUMN a BIGINT UNIQUE;",
        "ALTER TABLE ready ALTER COLUMN lane TYPE TEXT;",
        "ALTER TABLE ready ALTER COLUMN lane SET NOT NULL;",
        "ALTER TABLE ready ADD COLUMN a BIGINT, DROP COLUMN lane;",
        "ALTER TABLE ready RENAME TO b;",
        "UPDATE ready SET lane = 1;",
        "INSERT INTO ready (lane) VALUES (1);",
        "DROP TABLE ready;",
        "VACUUM FULL ready;",
    ];
    for text in hazardous {
        assert_eq!(hazards(&with_patience(text), true).len(), 1, "{text}");
    }
}

#[test]
fn a_file_needs_no_patience_and_its_migrations_only_add_too() {
    let safe = [
        "ALTER TABLE ready ADD COLUMN a INTEGER NOT NULL DEFAULT 0 CHECK (a >= 0);",
        "CREATE INDEX a ON ready (lane);",
    ];
    for text in safe {
        assert_eq!(hazards(text, false), [""; 0], "{text}");
    }
    let hazardous = [
        "ALTER TABLE ready DROP COLUMN lane;",
        "ALTER TABLE ready ADD COLUMN a INTEGER NOT NULL;",
        "DELETE FROM ready;",
    ];
    for text in hazardous {
        assert_eq!(hazards(text, false).len(), 1, "{text}");
    }
}

#[test]
fn every_migration_behind_the_first_only_adds_and_is_safe_under_load() {
    for (engine, shared) in [("sqlite", false), ("postgres", true)] {
        let folder = format!("{}/../../migrations/{engine}", env!("CARGO_MANIFEST_DIR"));
        let mut first = false;
        for file in fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            if path.ends_with("0001_ledger.sql") {
                first = true;
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            assert_eq!(hazards(&text, shared), [""; 0], "{}", path.display());
        }
        assert!(first, "{engine} has no first migration");
    }
}
