//! The callback target of one operation.

use std::fmt;

use super::Topics;

/// The number of whom deliveries go to: a subscription, or a principal's callbacks to one
/// origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReceiverKey(pub i64);

impl fmt::Display for ReceiverKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where callbacks of an operation go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callback {
    /// The receiver that they count as.
    pub receiver: ReceiverKey,
    /// The URL.
    pub url: String,
    /// The topics that it gets.
    pub topics: Topics,
}
