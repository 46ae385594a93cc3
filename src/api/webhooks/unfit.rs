//! Why nothing is sent to a URL, for those who asked for it.
//!
//! Its invariant: who is no operator learns what kind of refusal it is, and neither what a
//! name stands for in this network nor how things are set here. Operators and the log get
//! the whole.

use super::asking::Asking;
use crate::api::Problem;
use crate::domain::delivery::BadDestination;

/// Why a URL takes no deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// The kind of refusal, for anybody.
    pub kind: String,
    /// The whole, with addresses and settings.
    pub whole: String,
}

impl From<BadDestination> for Unfit {
    fn from(bad: BadDestination) -> Self {
        Self { kind: bad.kind(), whole: bad.to_string() }
    }
}

impl Unfit {
    /// What whoever asks is told.
    pub(super) fn told(self, asking: &Asking) -> String {
        match asking.is_operator() {
            true => self.whole,
            false => self.told_a_client(),
        }
    }

    fn told_a_client(self) -> String {
        tracing::info!(why = %self.whole, "a client named a url that takes no deliveries");
        self.kind
    }

    /// The problem of a client that asked in a field of its request.
    pub fn refused(self, field: &str) -> Problem {
        Problem::destination_refused(field, &self.told_a_client())
    }
}
