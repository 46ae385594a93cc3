//! The ledger's schema: its migrations, and whether a ledger was made by them.
//!
//! Owns how both engines bring a schema up to date. Its invariant: a ledger whose schema an
//! unreleased build made is refused and stays as it is.

use std::borrow::Cow;

use sqlx::SqlStr;
use sqlx::migrate::{AppliedMigration, Migrate, MigrateError, Migration, MigrationType, Migrator};

use super::error::OpenError;

/// A migration: its number, its name and its statements.
pub(super) type Text = (i64, &'static str, &'static str);

/// How a migration begins whose statements cannot run in a transaction.
const WITHOUT_TRANSACTION: &str = "-- no-transaction\n";

/// What runs these migrations.
fn migrator(texts: &[Text]) -> Migrator {
    let migration = |&(version, name, sql): &Text| {
        let alone = sql.starts_with(WITHOUT_TRANSACTION);
        let sql = SqlStr::from_static(sql);
        Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql, alone)
    };
    let mut migrator = Migrator::with_migrations(texts.iter().map(migration).collect());
    // A later release only adds to the schema: this one goes on working beside it.
    migrator.set_ignore_missing(true);
    migrator
}

/// Brings the schema of the ledger at `place` up to date. Without `run`, pending migrations are
/// an error.
pub(super) async fn bring_up_to_date(
    connection: &mut impl Migrate,
    texts: &[Text],
    place: &str,
    run: bool,
) -> Result<(), OpenError> {
    let migrator = migrator(texts);
    if run {
        let migrated = migrator.run_direct(None, connection, false).await;
        return migrated.map_err(|error| refusal(&error, place));
    }
    let pending = pending(connection, &migrator).await.map_err(|error| refusal(&error, place))?;
    if pending > 0 {
        return Err(OpenError::MigrationsPending { path: place.to_owned(), pending });
    }
    Ok(())
}

/// Counts the migrations that the ledger has not had.
async fn pending(
    connection: &mut impl Migrate,
    migrator: &Migrator,
) -> Result<usize, MigrateError> {
    connection.ensure_migrations_table(&migrator.table_name).await?;
    let applied = connection.list_applied_migrations(&migrator.table_name).await?;
    let mut pending = 0;
    for migration in migrator.iter() {
        let same = |applied: &&AppliedMigration| applied.version == migration.version;
        match applied.iter().find(same) {
            None => pending += 1,
            Some(applied) if applied.checksum == migration.checksum => {}
            Some(_) => return Err(MigrateError::VersionMismatch(migration.version)),
        }
    }
    Ok(pending)
}

/// Says why the schema could not be brought up to date, and what to do.
fn refusal(error: &MigrateError, place: &str) -> OpenError {
    let path = place.to_owned();
    match error {
        MigrateError::VersionMismatch(_) => OpenError::Unreleased { path },
        error => OpenError::Unreadable { path, reason: error.to_string() },
    }
}
