//! Reads of many rows by key, in statements of a few fixed sizes.
//!
//! A statement of a reader costs a hop to its connection's thread, which is dearer than
//! what it does. So a batch is one statement, padded with NULLs to the next fixed size so
//! that each is prepared once.

use std::sync::{Arc, OnceLock};

use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe, Sqlite};

use crate::db::sqlite::open::trouble;
use crate::db::sqlite::rows::damaged;
#[cfg(test)]
use crate::db::statements::{Backend, Texts};
use crate::error::LedgerError;
use cloakroom_domain::OperationId;

/// The sizes that statements come in; a larger batch takes several of the largest.
const SIZES: [usize; 8] = [1, 2, 4, 8, 16, 32, 64, 128];
const LARGEST: usize = SIZES[SIZES.len() - 1];

/// A statement about rows whose id is one of many.
pub(crate) struct Among {
    head: &'static str,
    prepared: [OnceLock<Arc<str>>; SIZES.len()],
}

#[cfg(test)]
impl Texts for Among {
    fn texts(&self, backend: Backend) -> Vec<String> {
        if backend == Backend::Sqlite { vec![self.sql(1).to_string()] } else { Vec::new() }
    }
}

impl Among {
    /// `head` goes up to and with IN.
    pub(crate) const fn new(head: &'static str) -> Self {
        Self { head, prepared: [const { OnceLock::new() }; SIZES.len()] }
    }

    fn sql(&self, index: usize) -> Arc<str> {
        let text = || format!("{} ({})", self.head, vec!["?"; SIZES[index]].join(",")).into();
        Arc::clone(self.prepared[index].get_or_init(text))
    }

    /// The rows that the statement brings for these, in no particular order.
    pub(crate) async fn fetch(
        &self,
        connection: &mut SqliteConnection,
        ids: &[OperationId],
    ) -> Result<Vec<SqliteRow>, LedgerError> {
        let mut found = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(LARGEST) {
            let fits = |size: &usize| *size >= chunk.len();
            let index = SIZES.iter().position(fits).unwrap_or(SIZES.len() - 1);
            let padding = std::iter::repeat_n(None, SIZES[index] - chunk.len());
            let mut values = SqliteArguments::default();
            for octets in chunk.iter().map(|id| Some(id.as_bytes().to_vec())).chain(padding) {
                let refused = |error| damaged(format!("an id cannot be asked for: {error}"));
                values.add(octets).map_err(refused)?;
            }
            let query = sqlx::query_with::<Sqlite, _>(AssertSqlSafe(self.sql(index)), values);
            found.extend(query.fetch_all(&mut *connection).await.map_err(trouble)?);
        }
        Ok(found)
    }
}
