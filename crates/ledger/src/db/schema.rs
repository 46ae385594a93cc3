//! The ledger's schema: its migrations, and whether a ledger was made by them.
//!
//! Owns how both engines bring a schema up to date. Its invariant: a ledger whose schema an
//! unreleased build made is refused and stays as it is.

use std::borrow::Cow;
use std::time::Duration;

use sqlx::SqlStr;
use sqlx::migrate::{AppliedMigration, Migrate, MigrateError, Migration, MigrationType, Migrator};

use crate::error::OpenError;
use cloakroom_runtime::clock::Clock;

/// A migration: its number, its name and its statements.
pub(crate) type Text = (i64, &'static str, &'static str);

/// How a migration begins whose statements cannot run in a transaction.
const WITHOUT_TRANSACTION: &str = "-- no-transaction\n";

/// What a server says of a lock that a statement did not get in its time (SQLSTATE).
const LOCK_NOT_AVAILABLE: &str = "55P03";
/// How often a migration is tried that did not get a lock.
const LOCK_TRIES: u32 = 60;
/// The pause before it is tried again, in which others that wait behind it get their turn.
const LOCK_PAUSE: Duration = Duration::from_secs(1);

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
pub(crate) async fn bring_up_to_date(
    connection: &mut impl Migrate,
    texts: &[Text],
    place: &str,
    run: bool,
) -> Result<(), OpenError> {
    let migrator = migrator(texts);
    if run {
        return carried_out(connection, &migrator, place).await;
    }
    let pending = pending(connection, &migrator).await.map_err(|error| refusal(&error, place))?;
    if pending > 0 {
        return Err(OpenError::MigrationsPending { path: place.to_owned(), pending });
    }
    Ok(())
}

/// Runs the migrations that are pending. One that waits too long for a lock lets go of all that it
/// has, because everything else waits behind it, and is tried again.
async fn carried_out(
    connection: &mut impl Migrate,
    migrator: &Migrator,
    place: &str,
) -> Result<(), OpenError> {
    let mut tries = 1;
    loop {
        match migrator.run_direct(None, connection, false).await {
            Err(error) if tries < LOCK_TRIES && lacks_lock(&error) => {
                tracing::warn!(place, %error, tries, "a migration waits for a lock; trying again");
                Clock::system().sleep(LOCK_PAUSE).await;
                tries += 1;
            }
            done => return done.map_err(|error| refusal(&error, place)),
        }
    }
}

fn lacks_lock(error: &MigrateError) -> bool {
    let (MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) = error else {
        return false;
    };
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code == LOCK_NOT_AVAILABLE)
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
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            let said = error.as_database_error().map(|error| error.message().to_owned());
            OpenError::Unreadable { path, reason: said.unwrap_or_else(|| error.to_string()) }
        }
        error => OpenError::Unreadable { path, reason: error.to_string() },
    }
}
