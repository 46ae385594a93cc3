//! The delivery scheduler of one node: decides which delivery is sent next, and how many are claimed.
//!
//! Owns the order of receivers, their shares of the node's slots, each receiver's concurrency, rate and
//! breaker, and how far ahead of sending deliveries are claimed. Its invariants: no more deliveries are
//! sent at once than there are slots, nor to one receiver than its concurrency; the receiver that has
//! waited longest is served first; unknown, slow and silent receivers have shares of their own, which
//! leave half of the slots to all others, so they delay no other receiver; and deliveries claimed for a
//! receiver that turns bad are given back. It must not know the content of a delivery, or where
//! deliveries are claimed from.

mod due_kinds;
mod first_contacts;
mod limits;
mod planning;
mod receiver_state;
#[cfg(test)]
mod simulation;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use rand::Rng;

use super::ReceiverKey;
use crate::Principal;
use crate::Timestamp;
use crate::breaker::{BreakerPass, HealthSignal};
use crate::limit::Rate;
use due_kinds::DueKinds;
use first_contacts::{FirstContact, FirstContacts};
pub use limits::SlotLimits;
use receiver_state::{ReceiverState, Responsiveness};

/// The claim-ahead limit of the node, for each slot.
const AHEAD: usize = 64;
/// How many times the claim-ahead limit may be queued by direct hand-off. It is generous because a
/// refused hand-off has to be claimed later, which costs more.
const HANDOFF_FACTOR: usize = 4;
/// A receiver that answers within this time is quick.
const QUICK: Duration = Duration::from_secs(1);
/// A new delivery may overtake deliveries that have been due for at most this long. Without this
/// margin a receiver that once fell behind would never get direct hand-offs again: each claim takes
/// long enough for the next delivery to become due.
const OVERTAKES: Duration = Duration::from_millis(100);
/// How long the state of an inactive receiver is kept.
const REMEMBERED: Duration = Duration::from_mins(10);

/// A receiver's owner and its own rate, which the scheduler does not store.
#[derive(Clone, Copy, Debug)]
pub struct ReceiverTerms<'p> {
    /// The owner.
    pub principal: &'p Principal,
    /// The rate that the receiver asked for, if it named one.
    pub rate: Option<Rate>,
}

/// The deliveries to claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimPlan {
    /// The most to claim, by receiver and by whether the delivery was tried before.
    pub wants: BTreeMap<(ReceiverKey, bool), usize>,
    /// When more can be claimed even if no attempt ends before, if known.
    pub again_at: Option<Timestamp>,
}

impl ClaimPlan {
    fn look_again(&mut self, at: Timestamp) {
        self.again_at = Some(self.again_at.map_or(at, |known| known.min(at)));
    }
}

/// A delivery to send now. Report its end to [`DeliveryScheduler::ended`].
#[derive(Debug)]
pub struct Dispatch<T> {
    /// The delivery.
    pub item: T,
    /// The right to send it.
    pub leave: SendPermit,
}

/// The right to send one delivery.
#[derive(Debug, PartialEq, Eq)]
pub struct SendPermit {
    receiver: ReceiverKey,
    again: bool,
    /// How the receiver counted when it began.
    manner: Responsiveness,
    pass: BreakerPass,
    /// The number of its turn.
    turn: u64,
}

/// The result of an attempt, as far as scheduling needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptReport {
    /// The receiver's health that it shows, if any.
    pub sign: Option<HealthSignal>,
    /// How long it took.
    pub took: Duration,
}

/// The delivery scheduler of a node.
#[derive(Debug)]
pub struct DeliveryScheduler<T> {
    limits: SlotLimits,
    places: HashMap<ReceiverKey, ReceiverState<T>>,
    /// Receivers with waiting deliveries, by the turn of their last dispatch.
    line: BTreeSet<(u64, ReceiverKey)>,
    turns: u64,
    /// Slots in use: by all; by slow and silent receivers; by silent ones; by retries.
    sending: usize,
    sending_slow: usize,
    sending_silent: usize,
    sending_again: usize,
    contacts: FirstContacts,
    /// Claimed and not settled.
    held: usize,
}

impl<T> DeliveryScheduler<T> {
    /// A scheduler without deliveries.
    pub fn new(limits: SlotLimits) -> Self {
        let (places, line) = (HashMap::new(), BTreeSet::new());
        Self {
            limits,
            places,
            line,
            turns: 0,
            sending: 0,
            sending_slow: 0,
            sending_silent: 0,
            sending_again: 0,
            contacts: FirstContacts::default(),
            held: 0,
        }
    }

    /// Takes in the result of a claim of `asked` deliveries. Returns the deliveries that cannot
    /// be sent after all.
    pub fn arrived(
        &mut self,
        (receiver, again): (ReceiverKey, bool),
        asked: usize,
        items: Vec<T>,
    ) -> Vec<T> {
        let Some(place) = self.places.get_mut(&receiver) else { return items };
        let missing = asked.saturating_sub(items.len());
        place.asked = place.asked.saturating_sub(asked);
        place.give_back(missing);
        self.held = self.held.saturating_sub(missing);
        place.waiting.extend(items.into_iter().map(|item| (again, item)));
        if place.probe && place.taken_on() == 0 {
            place.probe = false;
            place.breaker.abandoned();
        }
        let away = place.turned_away(&self.limits);
        self.stand_in_line(receiver);
        away
    }

    /// Reserves room for the hand-off of a new delivery, which then needs no claim. The receiver
    /// must be quick, with no delivery that has waited too long to be overtaken; `due_since` is
    /// the due time of its oldest unclaimed delivery. Half of the claim-ahead limit is left to
    /// claims. Report the result to [`DeliveryScheduler::kept`].
    pub fn promise(
        &mut self,
        receiver: ReceiverKey,
        rate: Option<Rate>,
        due_since: Option<Timestamp>,
        now: Timestamp,
    ) -> bool {
        let limits = self.limits;
        let Some(place) = self.places.get_mut(&receiver) else { return false };
        place.keep_to(rate, &limits, now);
        let waits_since = due_since.into_iter().chain(place.asked_since()).min();
        let may = place.manner == Responsiveness::Quick
            && !place.is_parked()
            && waits_since.is_none_or(|since| now.since(since) <= OVERTAKES)
            && place.not_before <= now
            && self.held < limits.slots * AHEAD / 2
            && place.taken_on() < place.reach(&limits, now) * HANDOFF_FACTOR;
        if !may {
            return false;
        }
        if let Some(bucket) = &mut place.bucket {
            if bucket.available(now) == 0 {
                return false;
            }
            bucket.take(now);
        }
        place.promised += 1;
        place.seen_at = now;
        self.held += 1;
        true
    }

    /// Takes in the handed-off delivery, or frees its room if there is none. Returns the deliveries
    /// that cannot be sent after all.
    pub fn kept(&mut self, receiver: ReceiverKey, item: Option<T>) -> Vec<T> {
        let Some(place) = self.places.get_mut(&receiver) else {
            return item.into_iter().collect();
        };
        place.promised = place.promised.saturating_sub(1);
        if let Some(item) = item {
            place.waiting.push_back((false, item));
        } else {
            place.give_back(1);
            self.held = self.held.saturating_sub(1);
        }
        let away = place.turned_away(&self.limits);
        self.stand_in_line(receiver);
        away
    }

    fn stand_in_line(&mut self, receiver: ReceiverKey) {
        let Some(place) = self.places.get(&receiver) else { return };
        if place.waiting.is_empty() {
            self.line.remove(&(place.begun_in, receiver));
        } else {
            self.line.insert((place.begun_in, receiver));
        }
    }

    /// The next delivery to send now, if any may be sent.
    pub fn begin(&mut self, now: Timestamp) -> Option<Dispatch<T>> {
        if self.sending >= self.limits.slots {
            return None;
        }
        let may_again = self.sending_again < self.limits.for_again();
        let (receiver, index) = self.line.iter().find_map(|(_, receiver)| {
            let place = self.places.get(receiver)?;
            let full = place.sending >= place.allowed(&self.limits);
            if full || !self.has_slot_for(place.counts_as()) {
                return None;
            }
            let index = place.waiting.iter().position(|(again, _)| !again || may_again)?;
            Some((*receiver, index))
        })?;
        let place = self.places.get_mut(&receiver)?;
        let (again, item) = place.waiting.remove(index)?;
        let manner = place.counts_as();
        let pass =
            if std::mem::take(&mut place.probe) { BreakerPass::Probe } else { BreakerPass::Free };
        self.line.remove(&(place.begun_in, receiver));
        self.turns += 1;
        let turn = self.turns;
        place.begun_in = turn;
        place.sending += 1;
        if manner == Responsiveness::Unknown {
            self.contacts.began(turn, FirstContact { receiver, again, since: now });
        }
        self.takes_up(manner, again);
        self.stand_in_line(receiver);
        Some(Dispatch { item, leave: SendPermit { receiver, again, manner, pass, turn } })
    }

    fn has_slot_for(&self, manner: Responsiveness) -> bool {
        let slow = self.sending_slow < self.limits.for_slow();
        match manner {
            Responsiveness::Quick => true,
            Responsiveness::Slow => slow,
            Responsiveness::Silent => slow && self.sending_silent < self.limits.for_silent(),
            Responsiveness::Unknown => self.contacts.in_slots() < self.limits.for_contacts(),
        }
    }

    fn takes_up(&mut self, manner: Responsiveness, again: bool) {
        self.sending += 1;
        self.sending_slow += usize::from(manner.is_slow());
        self.sending_silent += usize::from(manner == Responsiveness::Silent);
        self.sending_again += usize::from(again);
    }

    fn frees(&mut self, manner: Responsiveness, again: bool) {
        self.sending -= 1;
        self.sending_slow -= usize::from(manner.is_slow());
        self.sending_silent -= usize::from(manner == Responsiveness::Silent);
        self.sending_again -= usize::from(again);
    }

    /// Lets first contacts without a quick answer go on without a slot.
    fn put_aside(&mut self, now: Timestamp) {
        while let Some(contact) = self.contacts.leave(self.limits.aside(), now) {
            self.frees(Responsiveness::Unknown, contact.again);
            if let Some(place) = self.places.get_mut(&contact.receiver) {
                place.keeps_waiting();
            }
        }
    }

    /// Takes in the end of an attempt. Returns the claimed deliveries that are better not sent
    /// now.
    #[expect(clippy::needless_pass_by_value, reason = "it is used up: an attempt ends once")]
    pub fn ended(
        &mut self,
        leave: SendPermit,
        came: AttemptReport,
        now: Timestamp,
        rng: &mut impl Rng,
    ) -> Vec<T> {
        if leave.manner != Responsiveness::Unknown || self.contacts.ended(leave.turn) {
            self.frees(leave.manner, leave.again);
        }
        let Some(place) = self.places.get_mut(&leave.receiver) else { return Vec::new() };
        place.sending -= 1;
        place.unsettled += 1;
        place.seen_at = now;
        match came.sign {
            Some(sign) => {
                place.heard(sign, came.took, leave.turn, self.turns);
                place.breaker.ended(leave.pass, sign, now, rng);
            }
            None if leave.pass == BreakerPass::Probe => place.breaker.abandoned(),
            None => {}
        }
        if place.manner == Responsiveness::Quick {
            place.pace.count(now);
        }
        let away = place.turned_away(&self.limits);
        self.stand_in_line(leave.receiver);
        away
    }

    /// Notes that a sent or returned delivery was settled.
    pub fn settled(&mut self, receiver: ReceiverKey) {
        self.held = self.held.saturating_sub(1);
        if let Some(place) = self.places.get_mut(&receiver) {
            place.unsettled = place.unsettled.saturating_sub(1);
        }
    }

    /// Claims no deliveries of that receiver until then.
    pub fn leave_alone(&mut self, receiver: ReceiverKey, until: Timestamp, now: Timestamp) {
        let limits = self.limits;
        let place = self.places.entry(receiver).or_insert_with(|| ReceiverState::new(&limits, now));
        place.not_before = until;
    }

    /// Removes and returns all deliveries that were claimed and not sent.
    pub fn clear(&mut self) -> Vec<T> {
        self.line.clear();
        let mut cleared = Vec::new();
        for place in self.places.values_mut() {
            place.unsettled += place.waiting.len();
            cleared.extend(place.waiting.drain(..).map(|(_, item)| item));
        }
        cleared
    }

    /// Forgets receivers that have been inactive for long.
    pub fn sweep(&mut self, now: Timestamp) {
        self.places.retain(|_, place| !place.is_forgotten(now));
        self.contacts.sweep(now);
    }

    /// Attempts under way that hold a slot.
    pub const fn sending(&self) -> usize {
        self.sending
    }

    /// Attempts under way without a slot: first contacts without a quick answer.
    pub const fn aside(&self) -> usize {
        self.contacts.aside()
    }

    /// Deliveries claimed and not settled.
    pub const fn held(&self) -> usize {
        self.held
    }

    /// Whether a receiver accepts deliveries, as far as is known.
    pub fn takes_things(&self, receiver: ReceiverKey) -> bool {
        self.places.get(&receiver).is_none_or(|place| !place.fails())
    }

    /// Receivers that are parked because they do not answer.
    pub fn parked(&self) -> usize {
        self.places.values().filter(|place| place.is_parked()).count()
    }
}

#[cfg(test)]
#[path = "scheduler_tests.rs"]
mod tests;
