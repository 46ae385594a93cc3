//! Serial keys: releasing the operations that wait for one.

pub(crate) mod postgres;
pub(crate) mod sqlite;

use async_trait::async_trait;

use cloakroom_domain::Timestamp;

use crate::commit::transaction::{Transaction, by_backend};
use crate::commit::verb::{Grouping, Surroundings, Verb};
use crate::error::LedgerError;
use crate::verbs::{SerialName, Unblocked};

/// Releases operations whose delay is over: each to `ready` where its serial key is free and its
/// turn has come, and behind the key's holder otherwise. Its output is how many delays were over.
pub(crate) struct ReleaseDelayed {
    /// How many at most.
    pub(crate) limit: usize,
    /// Now.
    pub(crate) now: Timestamp,
}

#[async_trait]
impl Verb for ReleaseDelayed {
    type Output = usize;

    fn grouping(&self, _is_shared: bool) -> Grouping {
        Grouping::Last
    }

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        around: &mut Surroundings<'_>,
    ) -> Result<Self::Output, LedgerError> {
        by_backend!(transaction, release_delayed(self.limit, self.now, around.effects))
    }
}

/// Releases the next operation of a serial key that a failure blocks.
pub(crate) struct Release {
    /// The key.
    pub(crate) name: SerialName,
    /// Now.
    pub(crate) now: Timestamp,
}

#[async_trait]
impl Verb for Release {
    type Output = Unblocked;

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        around: &mut Surroundings<'_>,
    ) -> Result<Self::Output, LedgerError> {
        by_backend!(transaction, unblock(self.name, self.now, around.effects))
    }
}
