//! Operations by their ids on SQLite.

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;

use crate::db::sqlite::Sqlite;
use crate::db::sqlite::by_id::Among;
use crate::db::sqlite::rows::places;
use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::operations::read::find::OperationReader;
use crate::rows::{operations, origins};
use cloakroom_domain::OperationId;

statements! {
    /// Differs from PostgreSQL because SQLite has no arrays.
    static FIND: Among = Among::new(concat!(operations!(), places!(), " WHERE o.id IN"));
}

#[async_trait]
impl OperationReader for Sqlite {
    async fn rows_of(&self, ids: &[OperationId]) -> Result<Vec<SqliteRow>, LedgerError> {
        FIND.fetch(&mut *self.readers.acquire().await?, ids).await
    }
}
