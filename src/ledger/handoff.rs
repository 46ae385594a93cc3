//! How a new operation gets straight into a free slot of the node that accepts it.
//!
//! The engine lends the ledger a [`Desk`]; the committer asks it for a slot before it
//! writes, inserts the operation already leased, and delivers it after the commit. So
//! the front never calls the engine.

use super::verbs::Leased;
use crate::domain::operation::Lane;

/// Where operations are handed to whoever carries them out.
pub trait Desk: Send + Sync + 'static {
    /// A slot for a first attempt of that lane, if one is free at once. Dropping the
    /// reservation gives the slot back.
    fn reserve(&self, lane: &Lane) -> Option<Box<dyn Reservation>>;
}

/// A slot that is kept free for one operation.
pub trait Reservation: Send {
    /// Starts the operation in the slot.
    fn start(self: Box<Self>, leased: Leased);
}
