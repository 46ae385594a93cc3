//! The kinds of deliveries due for a receiver (first attempts, retries), and their shares.

/// What is due for a receiver.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DueKinds {
    pub(super) first: bool,
    pub(super) again: bool,
}

impl DueKinds {
    /// How many first attempts, and how many of what was tried before: half and half where
    /// both are due.
    pub(super) fn share(
        self,
        count: usize,
        room_again: usize,
        favours_again: bool,
    ) -> (usize, usize) {
        let again = match (self.first, self.again) {
            (_, false) => 0,
            (false, true) => count,
            (true, true) if favours_again => count.div_ceil(2),
            (true, true) => count / 2,
        };
        let again = again.min(room_again);
        (if self.first { count - again } else { 0 }, again)
    }
}
