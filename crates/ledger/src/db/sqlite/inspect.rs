//! The look at a file before it is opened: a ledger, empty, or another program's.
//!
//! Owns the look at a file before anything touches it. Its invariant: the look changes not an
//! octet of the file, and leaves nothing beside it.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::db::sqlite::open::{beside_as, unreadable};
use crate::db::sqlite::paths::check_place;
use crate::db::statements::statements;
use crate::error::OpenError;

statements! {
    /// What tells a ledger: the table that it is told apart by, and what only a ledger keeps in it.
    const IS_LEDGER: &str = r"SELECT count(*) FROM pragma_table_info('ledger') WHERE name = 'ticket_key'";

    /// A table or view of another program. The table of migrations is there before the first one.
    const OTHERS: &str = "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') \
     AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name <> '_sqlx_migrations' ORDER BY name LIMIT 1";

    /// The table of migrations, where it notes any: a ledger's own come together with its tables.
    const NOTES: &str = r"SELECT count(*) FROM sqlite_schema WHERE name = '_sqlx_migrations'";

    const NOTED: &str = r"SELECT EXISTS (SELECT 1 FROM _sqlx_migrations)";
}

/// What other programs mark a file with before they put tables into it; a ledger has neither.
const MARKS: [&str; 2] = ["application_id", "user_version"];

/// Refuses a place where no ledger can be kept, and a file that another program keeps its data in.
pub fn check_file(path: &Path) -> Result<(), OpenError> {
    check_place(path)?;
    match std::fs::metadata(path) {
        Ok(file) if file.len() > 0 => {}
        // What cannot be looked at is told of when it is opened.
        _ => return Ok(()),
    }
    let has_log = std::fs::metadata(beside_as(path, "-wal")).is_ok_and(|log| log.len() > 0);
    // With a log beside it, the file alone is not whole. Without one it is read as it lies there:
    // no lock, no log, nothing beside it.
    let found = sign_of_others(path, if has_log { "mode=ro" } else { "immutable=1" });
    match found {
        Ok(Some(sign)) => Err(OpenError::Foreign { path: path.display().to_string(), sign }),
        Err(rusqlite::Error::SqliteFailure(error, _))
            if error.code == rusqlite::ErrorCode::NotADatabase =>
        {
            Err(unreadable(path, "it is no database; name another file with store.url (--store)"))
        }
        // Another process may be writing it at this moment: its lock is looked at next.
        Ok(None) | Err(_) => Ok(()),
    }
}

/// What a file has that only another program puts there.
fn sign_of_others(path: &Path, how: &str) -> rusqlite::Result<Option<String>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(uri(path, how), flags)?;
    if connection.query_row(IS_LEDGER, [], |row| row.get::<_, i64>(0))? > 0 {
        return Ok(None);
    }
    let mut statement = connection.prepare(OTHERS)?;
    let mut rows = statement.query([])?;
    if let Some(row) = rows.next()? {
        return Ok(Some(format!("a table {}", row.get::<_, String>(0)?)));
    }
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    if count(NOTES)? > 0 && count(NOTED)? > 0 {
        return Ok(Some("a table _sqlx_migrations".to_owned()));
    }
    for mark in MARKS {
        let value = connection.pragma_query_value(None, mark, |row| row.get::<_, i64>(0))?;
        if value != 0 {
            return Ok(Some(format!("the {mark} {value}")));
        }
    }
    Ok(None)
}

/// The file as a URI: what would end its path or stand for something else is encoded.
fn uri(path: &Path, how: &str) -> String {
    let path = path.to_string_lossy();
    let octets = path.bytes().map(|octet| match octet {
        b'/' | b'.' | b'-' | b'_' => char::from(octet).to_string(),
        _ if octet.is_ascii_alphanumeric() => char::from(octet).to_string(),
        _ => format!("%{octet:02X}"),
    });
    let path: String = octets.collect();
    // Without it, a path that begins with two slashes would name a host.
    let root = if path.starts_with('/') { "//" } else { "" };
    format!("file:{root}{path}?{how}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, sql: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch(sql).unwrap();
        // Not closed in good order, which would write the log back.
        std::mem::forget(connection);
        (folder, path)
    }

    fn contents(folder: &Path) -> Vec<(std::ffi::OsString, Vec<u8>)> {
        let read = |entry: std::io::Result<std::fs::DirEntry>| {
            let entry = entry.unwrap();
            (entry.file_name(), std::fs::read(entry.path()).unwrap())
        };
        let mut contents: Vec<_> = std::fs::read_dir(folder).unwrap().map(read).collect();
        contents.sort();
        contents
    }

    #[test]
    fn a_file_of_another_program_is_refused_and_left_as_it_is() {
        for (name, sql) in [
            ("their.db", "CREATE TABLE customers (id)"),
            ("view.db", "CREATE VIEW customers AS SELECT 1 AS id"),
            ("their 100%? #1.db", "CREATE TABLE ledger (amount)"),
            ("marked.db", "PRAGMA application_id = 1196444487"),
            ("version.db", "PRAGMA user_version = 7"),
            (
                "noted.db",
                "CREATE TABLE _sqlx_migrations (version); INSERT INTO _sqlx_migrations VALUES (1)",
            ),
            ("sqlx.db", "CREATE TABLE _sqlx_migrations (version); CREATE TABLE sqliteish (id)"),
        ] {
            let (folder, path) = file(name, sql);
            let before = contents(folder.path());
            let refused = check_file(&path).unwrap_err();
            assert!(matches!(refused, OpenError::Foreign { .. }), "{name}: {refused}");
            assert!(contents(folder.path()) == before, "{name}");
        }
    }

    #[test]
    fn tables_that_stand_in_the_log_alone_are_found() {
        for sql in ["CREATE TABLE customers (id)", "PRAGMA user_version = 7"] {
            let (_folder, path) = file("their.db", &format!("PRAGMA journal_mode = wal; {sql}"));
            let before = std::fs::read(&path).unwrap();
            assert!(matches!(check_file(&path), Err(OpenError::Foreign { .. })), "{sql}");
            assert!(std::fs::read(&path).unwrap() == before, "{sql}");
        }
    }

    #[test]
    fn a_ledger_and_what_is_still_empty_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check_file(&folder.path().join("none.db")).is_ok());
        std::fs::write(folder.path().join("empty.db"), "").unwrap();
        assert!(check_file(&folder.path().join("empty.db")).is_ok());
        for sql in [
            "PRAGMA journal_mode = wal",
            "CREATE TABLE _sqlx_migrations (version)",
            "CREATE TABLE ledger (number, ticket_key); CREATE TABLE operations (id)",
        ] {
            let (_folder, path) = file("own.db", sql);
            assert!(check_file(&path).is_ok(), "{sql}");
        }
    }

    #[test]
    fn what_is_no_database_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("letter.txt");
        std::fs::write(&path, "a letter, ".repeat(1000)).unwrap();
        let says = check_file(&path).unwrap_err().to_string();
        assert!(says.contains("no database") && says.contains("--store"), "{says}");
    }
}
