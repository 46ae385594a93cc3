//! The claim plan: the receivers to claim deliveries for, and how many.

use std::collections::HashMap;
use std::time::Duration;

use super::first_contacts::{ContactCandidate, NextContact};
use super::receiver_state::{ReceiverState, Responsiveness};
use super::{AHEAD, ClaimPlan, DeliveryScheduler, DueKinds, ReceiverTerms};
use crate::Timestamp;
use crate::webhooks::ReceiverKey;

/// More is claimed only if it is at least this part of the limit: small claims cost nearly as much
/// as large ones.
const WORTH_IT: usize = 4;
/// The shortest wait for a token of a rate, so that several are used together.
const BREATH: Duration = Duration::from_millis(10);

/// The budget that is left while a plan is made.
struct SlotBudget {
    all: usize,
    slow: usize,
    silent: usize,
    contacts: usize,
    again: usize,
}

impl SlotBudget {
    fn left(&self, manner: Responsiveness) -> usize {
        let own = match manner {
            Responsiveness::Quick => self.all,
            Responsiveness::Slow => self.slow,
            Responsiveness::Silent => self.slow.min(self.silent),
            Responsiveness::Unknown => self.contacts,
        };
        own.min(self.all)
    }

    fn take(&mut self, manner: Responsiveness, first: usize, again: usize) {
        let count = first + again;
        let from = |room: &mut usize, is: bool| {
            *room = room.saturating_sub(if is { count } else { 0 });
        };
        from(&mut self.all, true);
        from(&mut self.slow, manner.is_slow());
        from(&mut self.silent, manner == Responsiveness::Silent);
        from(&mut self.contacts, manner == Responsiveness::Unknown);
        self.again = self.again.saturating_sub(again);
    }
}

impl<T> DeliveryScheduler<T> {
    /// Plans the next claim from the due deliveries, the longest due first. `whose` tells a
    /// receiver's owner and rate. Report the result of each want to
    /// [`DeliveryScheduler::arrived`].
    pub fn plan<'p>(
        &mut self,
        due: impl IntoIterator<Item = (ReceiverKey, bool)>,
        whose: impl Fn(ReceiverKey) -> ReceiverTerms<'p>,
        now: Timestamp,
    ) -> ClaimPlan {
        let mut plan = ClaimPlan::default();
        self.put_aside(now);
        let mut room = self.room();
        let mut turns = Self::merged(due);
        self.turns += 1;
        let limits = self.limits;
        for (receiver, _) in &turns {
            self.place(*receiver, now).keep_to(whose(*receiver).rate, &limits, now);
        }
        self.contact(&turns, whose, &mut room, &mut plan, now);
        // Those that were asked for in the same round stay in the order of what is due.
        turns.sort_by_key(|(receiver, _)| self.asked_in(*receiver));
        let mut quick = Vec::new();
        for (receiver, due) in turns {
            let place = self.place(receiver, now);
            place.seen_at = now;
            if place.counts_as() == Responsiveness::Unknown {
                continue;
            }
            let most = place.allowed(&limits);
            if self.ask(receiver, due, most, &mut room, &mut plan, now) {
                quick.push((receiver, due));
            }
        }
        // The rest goes to receivers that would be idle during the next claim.
        for (receiver, due) in quick {
            let Some(place) = self.places.get_mut(&receiver) else { continue };
            let reach = place.reach(&limits, now);
            if reach.saturating_sub(place.taken_on()) >= reach / WORTH_IT {
                self.ask(receiver, due, reach, &mut room, &mut plan, now);
            }
        }
        plan
    }

    /// Adds the first contacts to the plan.
    fn contact<'p>(
        &mut self,
        due: &[ContactCandidate],
        whose: impl Fn(ReceiverKey) -> ReceiverTerms<'p>,
        room: &mut SlotBudget,
        plan: &mut ClaimPlan,
        now: Timestamp,
    ) {
        let is_one = |(receiver, _): &&ContactCandidate| {
            let place = self.places.get(receiver);
            place.is_none_or(|place| {
                place.counts_as() == Responsiveness::Unknown && place.taken_on() == 0
            })
        };
        let mut waiting = due.iter().filter(is_one).peekable();
        if waiting.peek().is_none() {
            return;
        }
        if room.left(Responsiveness::Unknown) > 0 {
            let row = waiting.map(|candidate| (whose(candidate.0).principal, *candidate));
            let row = self.contacts.row(row);
            for NextContact { principal, candidate: (receiver, due), newest_next } in row {
                let before = room.contacts;
                self.ask(receiver, due, 1, room, plan, now);
                if room.contacts < before {
                    self.contacts.served(principal, newest_next, now);
                }
                if room.left(Responsiveness::Unknown) == 0 {
                    break;
                }
            }
        }
        if let Some(at) = self.contacts.leaves_at(self.limits.aside()) {
            plan.look_again(at);
        }
    }

    fn room(&self) -> SlotBudget {
        let (mut slow, mut silent, mut contacts, mut again) = (0, 0, 0, 0);
        for place in self.places.values() {
            let manner = place.counts_as();
            let count = place.asked + place.promised + place.waiting.len();
            slow += if manner.is_slow() { count } else { 0 };
            silent += if manner == Responsiveness::Silent { count } else { 0 };
            contacts += if manner == Responsiveness::Unknown { count } else { 0 };
            again += place.waiting.iter().filter(|(again, _)| *again).count();
        }
        let limits = &self.limits;
        SlotBudget {
            all: (limits.slots * AHEAD).saturating_sub(self.held),
            slow: limits.for_slow().saturating_sub(self.sending_slow + slow),
            silent: limits.for_silent().saturating_sub(self.sending_silent + silent),
            contacts: limits.for_contacts().saturating_sub(self.contacts.in_slots() + contacts),
            again: limits.for_again().saturating_sub(self.sending_again + again),
        }
    }

    fn place(&mut self, receiver: ReceiverKey, now: Timestamp) -> &mut ReceiverState<T> {
        let limits = self.limits;
        self.places.entry(receiver).or_insert_with(|| ReceiverState::new(&limits, now))
    }

    fn asked_in(&self, receiver: ReceiverKey) -> u64 {
        self.places.get(&receiver).map_or(0, |place| place.asked_in)
    }

    /// Receivers with their due kinds, in the order of due times.
    fn merged(due: impl IntoIterator<Item = (ReceiverKey, bool)>) -> Vec<ContactCandidate> {
        let mut order: Vec<ContactCandidate> = Vec::new();
        let mut at: HashMap<ReceiverKey, usize> = HashMap::new();
        for (receiver, again) in due {
            let index = *at.entry(receiver).or_insert_with(|| {
                order.push((receiver, DueKinds::default()));
                order.len() - 1
            });
            match again {
                true => order[index].1.again = true,
                false => order[index].1.first = true,
            }
        }
        order
    }

    /// Adds a receiver's deliveries to the plan, up to `most` in all. Whether it may get more.
    fn ask(
        &mut self,
        receiver: ReceiverKey,
        due: DueKinds,
        most: usize,
        room: &mut SlotBudget,
        plan: &mut ClaimPlan,
        now: Timestamp,
    ) -> bool {
        let turn = self.turns;
        let Some(place) = self.places.get_mut(&receiver) else { return false };
        let manner = place.counts_as();
        let is_quick = manner == Responsiveness::Quick;
        if place.not_before > now {
            plan.look_again(place.not_before);
            return false;
        }
        let mut count = most.saturating_sub(place.taken_on()).min(room.left(manner));
        if let Some(bucket) = place.bucket.as_mut().filter(|_| count > 0) {
            count = count.min(bucket.available(now) as usize);
            if count == 0 {
                plan.look_again(bucket.next_at(now).max(now + BREATH));
            }
        }
        let (mut first, mut again) = due.share(count, room.again, place.favours_again);
        if first + again == 0 {
            return is_quick;
        }
        if place.is_parked() {
            match place.breaker.pass(now) {
                Ok(_) => place.probe = true,
                Err(at) => {
                    plan.look_again(at);
                    return false;
                }
            }
            (first, again) = if first > 0 { (1, 0) } else { (0, 1) };
        }
        if let Some(bucket) = &mut place.bucket {
            for _ in 0..first + again {
                bucket.take(now);
            }
        }
        place.favours_again = again == 0;
        place.asks(first + again, now);
        place.asked_in = turn;
        self.held += first + again;
        room.take(manner, first, again);
        for (is_again, count) in [(false, first), (true, again)] {
            if count > 0 {
                *plan.wants.entry((receiver, is_again)).or_default() += count;
            }
        }
        is_quick
    }
}
