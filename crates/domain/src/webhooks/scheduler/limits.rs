//! The slots of a node, and the shares of them that each class of receiver may use.
//!
//! Its invariant: from four slots on, half of them are left to receivers that answer quickly, and no
//! share is empty.

use crate::limit::Rate;

/// Attempts that wait aside, for each slot.
const ASIDE: usize = 2;

/// How much may go out at once.
#[derive(Clone, Copy, Debug)]
pub struct SlotLimits {
    /// Attempts of this node at once, without those that have been waiting for more than a
    /// second for a receiver of which nothing is known: of them up to twice as many.
    pub slots: usize,
    /// The share of them that is kept for first attempts, in percent.
    pub first_attempts: u8,
    /// Attempts at once to one receiver.
    pub concurrency: usize,
    /// How many attempts may begin in a time to one receiver, if that is limited; fewer where
    /// the receiver says so.
    pub rate: Option<Rate>,
}

impl SlotLimits {
    /// Slots for receivers of which nothing is known.
    pub(super) fn for_contacts(&self) -> usize {
        (self.slots / 8).max(1)
    }

    /// Slots for receivers that answer slowly or not at all.
    pub(super) fn for_slow(&self) -> usize {
        (self.slots * 3 / 8).max(1)
    }

    /// Those of [`SlotLimits::for_slow`] that receivers may have which do not answer.
    pub(super) fn for_silent(&self) -> usize {
        (self.slots / 4).max(1)
    }

    /// Attempts without a slot, to receivers of which nothing is known.
    pub(super) const fn aside(&self) -> usize {
        self.slots * ASIDE
    }

    /// Slots that may be used for what was tried before.
    pub(super) fn for_again(&self) -> usize {
        let kept = self.slots * usize::from(self.first_attempts.min(100)) / 100;
        self.slots.saturating_sub(kept).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_slots_are_left_to_quick_receivers_and_no_share_is_empty() {
        for slots in 1..=4096 {
            let limits = SlotLimits { slots, first_attempts: 20, concurrency: 4, rate: None };
            let (contacts, slow) = (limits.for_contacts(), limits.for_slow());
            assert!(contacts > 0 && slow > 0 && limits.for_silent() > 0);
            assert!(slots < 4 || contacts + slow <= slots / 2, "{slots}");
            assert!(limits.for_silent() <= slow, "{slots}");
            assert!(slots < 8 || limits.for_silent() < slow, "{slots}");
        }
    }
}
