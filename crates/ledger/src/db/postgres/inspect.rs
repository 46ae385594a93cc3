//! The look at a database before anything is created: a ledger, empty, or another program's.
//!
//! Owns the look at the one schema that a ledger would lie in. Its invariant: the look changes
//! nothing. Other schemas are not looked at: a ledger never touches them.

use sqlx::Row;
use sqlx::postgres::PgConnection;

use crate::db::postgres::open::unreadable;
use crate::db::statements::statements;
use crate::error::OpenError;
use cloakroom_domain::DatabaseUrl;

statements! {
    /// What another program has put into the schema that holds no ledger: tables first, and the
    /// table of migrations last, because a ledger's own first step may have been cut off behind it.
    /// What an extension has brought says nothing. As text: behind a pooler nothing is prepared.
    const OTHERS: &str = r"
        WITH here AS (SELECT oid FROM pg_namespace WHERE nspname = current_schema()),
            relations AS (
            SELECT 'pg_class'::regclass AS catalog, c.oid, c.relname AS name, CASE c.relkind
                WHEN 'v' THEN 'view' WHEN 'm' THEN 'view' WHEN 'S' THEN 'sequence' WHEN 'c'
                THEN 'type' ELSE 'table' END AS kind
            FROM pg_class c
            JOIN here ON c.relnamespace = here.oid
            WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S', 'c')
        ), types AS (
            SELECT 'pg_type'::regclass AS catalog, t.oid, t.typname AS name, 'type' AS kind
            FROM pg_type t
            JOIN here ON t.typnamespace = here.oid
            WHERE t.typtype IN ('b', 'd', 'e', 'r') AND t.typcategory <> 'A'
        ), found AS (
            SELECT catalog, oid, name, kind
            FROM relations
            UNION ALL
            SELECT catalog, oid, name, kind
            FROM types
        )
        SELECT kind, name::text AS name
        FROM found f
        WHERE NOT EXISTS (
            SELECT
            FROM pg_depend d
            WHERE d.classid = f.catalog AND d.objid = f.oid AND d.deptype = 'e'
        ) AND NOT EXISTS (
            SELECT
            FROM pg_attribute a
            JOIN relations l ON l.oid = a.attrelid
            WHERE l.name = 'ledger' AND l.kind = 'table' AND a.attname = 'ticket_key'
        )
        ORDER BY name = '_sqlx_migrations', array_position(ARRAY['table', 'view', 'type',
            'sequence'], kind), name
        LIMIT 1";

    const NOTED: &str = r"SELECT FROM _sqlx_migrations LIMIT 1";
}

const NOTES: &str = "_sqlx_migrations";

/// Refuses a schema in which a ledger would lie among what another program keeps there.
pub(crate) async fn check_owner(
    connection: &mut PgConnection,
    url: &DatabaseUrl,
) -> Result<(), OpenError> {
    let failed = |error| unreadable(url, error);
    let mut found = other(connection).await.map_err(failed)?;
    if found.as_ref().is_some_and(|(_, name)| name == NOTES) {
        let noted = sqlx::raw_sql(NOTED);
        if noted.fetch_optional(&mut *connection).await.map_err(failed)?.is_none() {
            return Ok(());
        }
        // Another node may have made the ledger between the two looks.
        found = other(connection).await.map_err(failed)?;
    }
    let Some((kind, name)) = found else { return Ok(()) };
    Err(OpenError::Foreign { path: url.to_string(), sign: format!("a {kind} {name}") })
}

/// The kind and the name of what another program has put there.
async fn other(connection: &mut PgConnection) -> Result<Option<(String, String)>, sqlx::Error> {
    let row = sqlx::raw_sql(OTHERS).fetch_optional(connection).await?;
    row.map(|row| Ok((row.try_get("kind")?, row.try_get("name")?))).transpose()
}
