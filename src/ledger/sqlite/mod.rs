//! The ledger in a SQLite file.
use std::path::PathBuf;

use super::Identity;
use super::error::{LedgerError, OpenError};
use super::store::{Batch, Store, Transaction};
use super::verbs::{KeptAnswer, LaneDepth, Listing, Operation, Page, Retention};
use crate::domain::operation::{BodyKey, Event, Lane, Work};
use crate::domain::{OperationId, Timestamp};

/// How a ledger is opened.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The SQLite file.
    pub path: PathBuf,
    /// Connections that read; at least 1.
    pub readers: u32,
    /// Whether pending migrations are run; otherwise they are an error.
    pub migrate: bool,
    /// How long things last.
    pub retention: Retention,
    /// Every lane that operations may be accepted into.
    pub lanes: Vec<Lane>,
}

pub(super) struct Sqlite;

impl Sqlite {
    pub(super) fn unreadable(&self, error: &LedgerError) -> OpenError {
        OpenError::Unreadable { path: String::new(), reason: error.to_string() }
    }
}

pub(super) async fn open(
    opening: Opening,
    _now: Timestamp,
) -> Result<(Sqlite, Identity), OpenError> {
    Err(OpenError::BadUrl(opening.path.display().to_string()))
}

/// The version of the SQLite library, as in `3.51.3`.
pub fn sqlite_version() -> String {
    String::new()
}

#[async_trait::async_trait]
impl Store for Sqlite {
    async fn begin(&self) -> Result<Box<dyn Transaction>, LedgerError> {
        Err(LedgerError::Full)
    }
    async fn find(&self, _: &[OperationId]) -> Batch<Option<Operation>> {
        Err(LedgerError::Full)
    }
    async fn answer(&self, _: OperationId) -> Result<Option<KeptAnswer>, LedgerError> {
        Err(LedgerError::Full)
    }
    async fn work(&self, _: OperationId) -> Result<Option<Work>, LedgerError> {
        Err(LedgerError::Full)
    }
    async fn events(&self, _: OperationId, _: u32, _: u32) -> Batch<Event> {
        Err(LedgerError::Full)
    }
    async fn list(&self, _: &Listing) -> Result<Page, LedgerError> {
        Err(LedgerError::Full)
    }
    async fn descendants(&self, _: OperationId, _: u32) -> Batch<Operation> {
        Err(LedgerError::Full)
    }
    async fn piece(&self, _: BodyKey, _: u32) -> Result<Option<bytes::Bytes>, LedgerError> {
        Err(LedgerError::Full)
    }
    async fn depths(&self) -> Batch<LaneDepth> {
        Err(LedgerError::Full)
    }
    async fn oldest_due(&self, _: &[Lane]) -> Batch<Option<Timestamp>> {
        Err(LedgerError::Full)
    }
    async fn close(&self) {}
}
