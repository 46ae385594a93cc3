//! First contacts: attempts to receivers whose responsiveness is unknown.
//!
//! Owns which of them hold a slot, how many wait aside without one, and which receiver is contacted
//! next. Its invariants: none holds its slot for more than a second, as long as there is room aside;
//! principals take turns, so the receivers of one do not shut out those of another; and within one
//! principal the newest and the longest waiting alternate, so neither waits behind all others.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::{DueKinds, QUICK, REMEMBERED};
use crate::webhooks::ReceiverKey;
use crate::{Principal, Timestamp};

/// A receiver and what is due for it.
pub(super) type ContactCandidate = (ReceiverKey, DueKinds);

/// The first contacts of a node.
#[derive(Debug, Default)]
pub(super) struct FirstContacts {
    /// Those that take up a slot, by the number of their turn.
    in_slots: BTreeMap<u64, FirstContact>,
    aside: usize,
    turn: u64,
    served: HashMap<Principal, LastTurn>,
}

/// An attempt under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct FirstContact {
    pub(super) receiver: ReceiverKey,
    pub(super) again: bool,
    pub(super) since: Timestamp,
}

/// When a principal had its last turn.
#[derive(Clone, Copy, Debug)]
struct LastTurn {
    turn: u64,
    at: Timestamp,
    /// Whether the newest comes next.
    newest: bool,
}

impl FirstContacts {
    /// How many take up a slot.
    pub(super) fn in_slots(&self) -> usize {
        self.in_slots.len()
    }

    /// How many take up none.
    pub(super) const fn aside(&self) -> usize {
        self.aside
    }

    /// An attempt begins.
    pub(super) fn began(&mut self, turn: u64, contact: FirstContact) {
        self.in_slots.insert(turn, contact);
    }

    /// An attempt has ended. Whether it took up a slot to its end.
    pub(super) fn ended(&mut self, turn: u64) -> bool {
        let in_slot = self.in_slots.remove(&turn).is_some();
        self.aside -= usize::from(!in_slot);
        in_slot
    }

    /// When the next one is to leave its slot, if any may: at most `most` wait aside.
    pub(super) fn leaves_at(&self, most: usize) -> Option<Timestamp> {
        let (_, oldest) = self.in_slots.first_key_value()?;
        (self.aside < most).then_some(oldest.since + QUICK)
    }

    /// The next one that has not been answered quickly leaves its slot.
    pub(super) fn leave(&mut self, most: usize, now: Timestamp) -> Option<FirstContact> {
        self.leaves_at(most).filter(|at| *at <= now)?;
        let (_, contact) = self.in_slots.pop_first()?;
        self.aside += 1;
        Some(contact)
    }

    /// The candidates with their principals, the longest due first, as a queue in which
    /// principals take turns.
    pub(super) fn row<'p>(
        &self,
        candidates: impl IntoIterator<Item = (&'p Principal, ContactCandidate)>,
    ) -> ContactQueue<'p> {
        let mut by_principal: HashMap<&Principal, VecDeque<ContactCandidate>> = HashMap::new();
        for (principal, candidate) in candidates {
            by_principal.entry(principal).or_default().push_back(candidate);
        }
        let mut row = ContactQueue { next: self.turn, queues: BTreeMap::new() };
        for (principal, candidates) in by_principal {
            let served = self.served.get(principal);
            let newest = served.is_none_or(|served| served.newest);
            // Principals that never had a turn come first, the longest waiting before the others.
            let turn = served.map_or(0, |served| served.turn);
            let first = candidates.front().map_or(0, |(receiver, _)| receiver.0);
            row.queues.insert((turn, first), PrincipalCandidates { principal, candidates, newest });
        }
        row
    }

    /// One of a principal's was contacted; whether the newest comes `next`.
    pub(super) fn served(&mut self, principal: &Principal, newest: bool, now: Timestamp) {
        self.turn += 1;
        let served = LastTurn { turn: self.turn, at: now, newest };
        if let Some(known) = self.served.get_mut(principal) {
            *known = served;
        } else {
            self.served.insert(principal.clone(), served);
        }
    }

    /// Forgets the turns of principals that had none for long.
    pub(super) fn sweep(&mut self, now: Timestamp) {
        self.served.retain(|_, served| now.since(served.at) <= REMEMBERED);
    }
}

/// The candidates in the order of their turns.
pub(super) struct ContactQueue<'p> {
    next: u64,
    queues: BTreeMap<(u64, i64), PrincipalCandidates<'p>>,
}

struct PrincipalCandidates<'p> {
    principal: &'p Principal,
    candidates: VecDeque<ContactCandidate>,
    newest: bool,
}

/// The receiver that is contacted next.
pub(super) struct NextContact<'p> {
    pub(super) principal: &'p Principal,
    pub(super) candidate: ContactCandidate,
    /// Whether the principal's newest comes after this one.
    pub(super) newest_next: bool,
}

impl<'p> Iterator for ContactQueue<'p> {
    type Item = NextContact<'p>;

    fn next(&mut self) -> Option<NextContact<'p>> {
        let ((_, first), mut queue) = self.queues.pop_first()?;
        let chosen = match queue.newest {
            true => queue.candidates.pop_back(),
            false => queue.candidates.pop_front(),
        };
        queue.newest = !queue.newest;
        let (principal, newest_next) = (queue.principal, queue.newest);
        if !queue.candidates.is_empty() {
            self.next += 1;
            self.queues.insert((self.next, first), queue);
        }
        chosen.map(|candidate| NextContact { principal, candidate, newest_next })
    }
}

#[cfg(test)]
#[path = "first_contacts_tests.rs"]
mod tests;
