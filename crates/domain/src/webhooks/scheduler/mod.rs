//! Whose deliveries go out next from one node, and how many are taken on.
//!
//! Owns the turns of receivers, their shares of the node's slots, each one's concurrency,
//! rate and breaker, and how far ahead of sending something is taken on. Its invariants:
//! no more goes out at once than there are slots, to one receiver no more than its
//! concurrency; whoever has waited longest for a turn has the next one; receivers of which
//! nothing is known, that answer slowly, or not at all, have shares of their own, which
//! leave half of the slots to all others, so they delay nobody else; and what is taken on
//! for a receiver that turns bad is given back. It must not know what is sent, or from
//! where it is taken.

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

/// Taken on over all, for each slot.
const AHEAD: usize = 64;
/// What comes without being asked for may wait for so many times as long as what is asked for:
/// what is not taken in would have to be asked for, which is more work than to hand it over, so a
/// receiver that falls behind for a moment would fall behind further.
const UNASKED: usize = 4;
/// Whoever answers within this time is quick.
const QUICK: Duration = Duration::from_secs(1);
/// What is new may go ahead of what has been due for no longer than this. Whatever came to be
/// while something else was being taken on would have to be taken on, too, and so on: once a
/// receiver had fallen behind, nothing would ever go to it without being asked for.
const OVERTAKES: Duration = Duration::from_millis(100);
/// How long a receiver is remembered of which nothing is heard.
const REMEMBERED: Duration = Duration::from_mins(10);

/// What is known elsewhere of a receiver.
#[derive(Clone, Copy, Debug)]
pub struct ReceiverTerms<'p> {
    /// Whose it is.
    pub principal: &'p Principal,
    /// How many deliveries may begin in a time as it says itself, if it does.
    pub rate: Option<Rate>,
}

/// What is to be taken on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimPlan {
    /// By receiver and by whether it was tried before: how many at most.
    pub wants: BTreeMap<(ReceiverKey, bool), usize>,
    /// When more can be taken on though nothing has ended, where that is known.
    pub again_at: Option<Timestamp>,
}

impl ClaimPlan {
    fn look_again(&mut self, at: Timestamp) {
        self.again_at = Some(self.again_at.map_or(at, |known| known.min(at)));
    }
}

/// Something that goes out now. [`DeliveryScheduler::ended`] has to be told what came of it.
#[derive(Debug)]
pub struct Dispatch<T> {
    /// What.
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

/// What came of an attempt, as far as it matters for what goes out next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptReport {
    /// What it says about the receiver, if anything.
    pub sign: Option<HealthSignal>,
    /// How long it took.
    pub took: Duration,
}

/// The traffic of a node.
#[derive(Debug)]
pub struct DeliveryScheduler<T> {
    limits: SlotLimits,
    places: HashMap<ReceiverKey, ReceiverState<T>>,
    /// Receivers of whom something waits, by the turn in which something went out last.
    line: BTreeSet<(u64, ReceiverKey)>,
    turns: u64,
    /// What takes up slots: of all; of receivers that are slow or silent; of these, of
    /// silent ones; of what was tried before.
    sending: usize,
    sending_slow: usize,
    sending_silent: usize,
    sending_again: usize,
    contacts: FirstContacts,
    /// Taken on and not settled.
    held: usize,
}

impl<T> DeliveryScheduler<T> {
    /// Nothing is on its way.
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

    /// What was asked for has come, or as much as there was. What cannot go out after all
    /// comes back.
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

    /// Promises room for something that has just come to be for a receiver that keeps to this
    /// rate, so that it need not be asked for: one that answers quickly, of whom nothing has
    /// waited long enough not to be overtaken; `due_since` says since when something has been
    /// due for it that nobody has asked for. Half of what is taken on over all is left to
    /// those who ask.
    /// [`DeliveryScheduler::kept`] has to be told what came of it.
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
            && place.taken_on() < place.reach(&limits, now) * UNASKED;
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

    /// What room was promised for has come, or will not. What cannot go out after all comes
    /// back.
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

    /// The next that goes out now, if any may.
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

    /// First contacts that were not answered quickly go on without a slot.
    fn put_aside(&mut self, now: Timestamp) {
        while let Some(contact) = self.contacts.leave(self.limits.aside(), now) {
            self.frees(Responsiveness::Unknown, contact.again);
            if let Some(place) = self.places.get_mut(&contact.receiver) {
                place.keeps_waiting();
            }
        }
    }

    /// An attempt has ended. What was taken on for the receiver and is better left comes
    /// back.
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

    /// What was sent or given back has been settled.
    pub fn settled(&mut self, receiver: ReceiverKey) {
        self.held = self.held.saturating_sub(1);
        if let Some(place) = self.places.get_mut(&receiver) {
            place.unsettled = place.unsettled.saturating_sub(1);
        }
    }

    /// Nothing is asked for of that receiver until then.
    pub fn leave_alone(&mut self, receiver: ReceiverKey, until: Timestamp, now: Timestamp) {
        let limits = self.limits;
        let place = self.places.entry(receiver).or_insert_with(|| ReceiverState::new(&limits, now));
        place.not_before = until;
    }

    /// All that was taken on and has not gone out: it will not.
    pub fn clear(&mut self) -> Vec<T> {
        self.line.clear();
        let mut cleared = Vec::new();
        for place in self.places.values_mut() {
            place.unsettled += place.waiting.len();
            cleared.extend(place.waiting.drain(..).map(|(_, item)| item));
        }
        cleared
    }

    /// Forgets receivers of whom nothing has been heard for long.
    pub fn sweep(&mut self, now: Timestamp) {
        self.places.retain(|_, place| !place.is_forgotten(now));
        self.contacts.sweep(now);
    }

    /// How many go out now and take up a slot.
    pub const fn sending(&self) -> usize {
        self.sending
    }

    /// How many go out without one: first contacts that were not answered quickly.
    pub const fn aside(&self) -> usize {
        self.contacts.aside()
    }

    /// How many were taken on and are not settled.
    pub const fn held(&self) -> usize {
        self.held
    }

    /// Whether a receiver takes what it gets, as far as anything is known of it.
    pub fn takes_things(&self, receiver: ReceiverKey) -> bool {
        self.places.get(&receiver).is_none_or(|place| !place.fails())
    }

    /// How many receivers are left alone because they do not answer.
    pub fn parked(&self) -> usize {
        self.places.values().filter(|place| place.is_parked()).count()
    }
}

#[cfg(test)]
#[path = "scheduler_tests.rs"]
mod tests;
