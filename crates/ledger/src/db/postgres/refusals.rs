//! Refusals of a database in which no ledger can work, each with its cause and the next step.
//!
//! Owns the look at rights that a start and `doctor` share. Its invariant: the look changes nothing.

use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};

use super::open::unreadable;
use crate::db::statements::statements;
use crate::error::OpenError;
use cloakroom_domain::DatabaseUrl;

statements! {
    /// As text: behind a pooler nothing is prepared.
    const RIGHTS: &str = r"
        SELECT current_setting('transaction_read_only') = 'on' AS read_only,
            current_setting('search_path') AS search_path,
            quote_ident(current_user) AS role,
            coalesce(quote_ident(current_schema()), '') AS here,
            coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS may_create";
}

/// Refuses a session that cannot create a ledger's tables: migrations need that right even where
/// all of them have run.
pub(super) async fn check_rights(
    connection: &mut PgConnection,
    url: &DatabaseUrl,
) -> Result<(), OpenError> {
    let row = sqlx::raw_sql(RIGHTS).fetch_one(connection).await;
    let refused = row.and_then(|row| refusal(&row)).map_err(|error| unreadable(url, error))?;
    refused.map_or(Ok(()), |reason| Err(unreadable(url, reason)))
}

fn refusal(row: &PgRow) -> Result<Option<String>, sqlx::Error> {
    let [path, role, here]: [String; 3] =
        [row.try_get("search_path")?, row.try_get("role")?, row.try_get("here")?];
    if row.try_get("read_only")? {
        return Ok(Some(format!("its sessions are read-only; {WRITABLE}")));
    }
    if here.is_empty() {
        return Ok(Some(format!(
            "no schema is selected, because the role {role} can use none of its search_path ({path}); \
             run CREATE SCHEMA or GRANT USAGE, CREATE ON SCHEMA … TO {role}, or correct the search_path \
             of the role, the database or store.url (--store)"
        )));
    }
    if !row.try_get::<bool, _>("may_create")? {
        return Ok(Some(format!(
            "the role {role} may create no tables in the schema {here}; as the schema's owner, run \
             GRANT CREATE ON SCHEMA {here} TO {role}, or name another role in store.url (--store)"
        )));
    }
    Ok(None)
}

const WRITABLE: &str = "set default_transaction_read_only = off for the role and the database, or \
                        name a server that takes writes in store.url (--store)";

/// The server's own words about an error, and what to do about it.
pub(super) fn explained(error: &sqlx::Error) -> String {
    let Some(database) = error.as_database_error() else { return error.to_string() };
    let said = database.message();
    let next = match database.code().as_deref() {
        Some("3D000") => "create it (createdb), or correct the name in store.url (--store)",
        Some("28000" | "28P01") => {
            "correct the role and the password in store.url (--store), create the role (createuser), \
             or let it in (pg_hba.conf)"
        }
        Some("42501") => "grant the role in store.url (--store) that right, or name another role",
        Some("25006") => WRITABLE,
        _ => return said.to_owned(),
    };
    format!("{said}; {next}")
}
