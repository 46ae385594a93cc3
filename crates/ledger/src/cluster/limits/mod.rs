//! Limits that nodes share: how they are divided.

pub(crate) mod postgres;
pub(crate) mod sqlite;

use async_trait::async_trait;

use cloakroom_domain::Timestamp;

use crate::commit::transaction::{Transaction, by_backend};
use crate::commit::verb::{Grouping, Surroundings, Verb};
use crate::commit::write_queue::Class;
use crate::error::LedgerError;
use crate::permits::{Asking, Divided};
use crate::shared::Shared;

/// Divides limits between this node and those that are there beside it.
pub(crate) struct Divide {
    /// What this node asks for.
    pub(crate) asking: Asking,
    /// Now.
    pub(crate) now: Timestamp,
}

#[async_trait]
impl Verb for Divide {
    type Output = Vec<Divided>;

    fn class(&self) -> Class {
        Class::Liveness
    }

    fn grouping(&self, _is_shared: bool) -> Grouping {
        Grouping::First
    }

    fn announce(&self, divided: &Self::Output, shared: &Shared) {
        if divided.iter().any(|divided| divided.share.stirs) {
            shared.hints.stirred();
        }
    }

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        _around: &mut Surroundings<'_>,
    ) -> Result<Self::Output, LedgerError> {
        by_backend!(transaction, divide(&self.asking, self.now))
    }
}
