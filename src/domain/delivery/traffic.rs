//! Whose deliveries go out next from one node, and how many are taken on.
//!
//! Owns the turns of receivers, their shares of the node's slots, each one's concurrency,
//! rate and breaker, and how far ahead of sending something is taken on. Its invariants:
//! no more goes out at once than there are slots, to one receiver no more than its
//! concurrency; whoever has waited longest for a turn has the next one; receivers that do
//! not answer, or slowly, never have more than half of the slots, so they delay each other
//! and nobody else; and what is taken on for a receiver that turns bad is given back. It
//! must not know what is sent, or from where it is taken.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use rand::Rng;

use super::ReceiverKey;
use crate::domain::Timestamp;
use crate::domain::breaker::{Breaker, Pass, Sign, State};
use crate::domain::limit::{Bucket, Rate};

/// The most that is taken on for a receiver that answers quickly: with fewer, the time that
/// taking on takes would limit how much it gets.
const REACH: usize = 256;
/// More is taken on beside what is there only if it is at least this part of the reach: a
/// few at a time would cost nearly as much as many.
const WORTH_IT: usize = 4;
/// Taken on over all, for each slot.
const AHEAD: usize = 16;
/// Whoever answers within this time is quick.
const QUICK: Duration = Duration::from_secs(1);
/// Half of the stretch of time over which a receiver's pace is measured.
const HALF: Duration = Duration::from_millis(25);
/// The shortest wait for a token of a rate, so that several are used together.
const BREATH: Duration = Duration::from_millis(10);
/// How long a receiver is remembered of which nothing is heard.
const REMEMBERED: Duration = Duration::from_mins(10);

/// How much may go out at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Attempts of this node at once.
    pub slots: usize,
    /// The share of them that is kept for first attempts, in percent.
    pub first_attempts: u8,
    /// Attempts at once to one receiver.
    pub concurrency: usize,
    /// How many attempts may begin in a time to one receiver, if that is limited.
    pub rate: Option<Rate>,
}

impl Limits {
    /// Slots that receivers may have which do not answer, or slowly.
    fn for_slow(&self) -> usize {
        self.slots.div_ceil(2)
    }

    /// Slots that may be used for what was tried before.
    fn for_again(&self) -> usize {
        let kept = self.slots * usize::from(self.first_attempts.min(100)) / 100;
        self.slots.saturating_sub(kept).max(1)
    }
}

/// What is to be taken on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// By receiver and by whether it was tried before: how many at most.
    pub wants: BTreeMap<(ReceiverKey, bool), usize>,
    /// When more can be taken on though nothing has ended, where that is known.
    pub again_at: Option<Timestamp>,
}

/// Something that goes out now. [`Traffic::ended`] has to be told what came of it.
#[derive(Debug)]
pub struct Turn<T> {
    /// What.
    pub item: T,
    /// The right to send it.
    pub leave: Leave,
}

/// The right to send one delivery.
#[derive(Debug, PartialEq, Eq)]
pub struct Leave {
    receiver: ReceiverKey,
    again: bool,
    slow: bool,
    pass: Pass,
}

/// What came of an attempt, as far as it matters for what goes out next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Came {
    /// What it says about the receiver, if anything.
    pub sign: Option<Sign>,
    /// How long it took.
    pub took: Duration,
}

/// How a receiver has answered lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Manner {
    /// Not at all, or nothing is known: one at a time finds out.
    #[default]
    Silent,
    Slow,
    Quick,
}

/// How many attempts have ended within the last 25 to 50 ms.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    since: Timestamp,
    present: usize,
    before: usize,
}

impl Pace {
    fn turn_over(&mut self, now: Timestamp) {
        let age = now.since(self.since);
        if age >= HALF {
            let before = if age < HALF * 2 { self.present } else { 0 };
            *self = Self { since: now, present: 0, before };
        }
    }

    fn count(&mut self, now: Timestamp) {
        self.turn_over(now);
        self.present += 1;
    }

    fn lately(&mut self, now: Timestamp) -> usize {
        self.turn_over(now);
        self.present + self.before
    }
}

/// What is known of one receiver.
#[derive(Debug)]
struct Place<T> {
    waiting: VecDeque<(bool, T)>,
    /// Asked for, and not here yet.
    asked: usize,
    /// Room was promised for these, and they are not here yet.
    promised: usize,
    sending: usize,
    /// Sent or given back, and not settled yet.
    unsettled: usize,
    manner: Manner,
    breaker: Breaker,
    probe: bool,
    bucket: Option<Bucket>,
    pace: Pace,
    not_before: Timestamp,
    seen_at: Timestamp,
    /// The number of the round in which something was asked for last.
    asked_in: u64,
    /// The number of the turn in which something went out last.
    begun_in: u64,
    /// Whether a lone place goes to what was tried before.
    favours_again: bool,
}

impl<T> Place<T> {
    fn new(limits: &Limits, now: Timestamp) -> Self {
        Self {
            waiting: VecDeque::new(),
            asked: 0,
            promised: 0,
            sending: 0,
            unsettled: 0,
            manner: Manner::default(),
            breaker: Breaker::default(),
            probe: false,
            bucket: limits.rate.map(|rate| Bucket::full(rate, now)),
            pace: Pace::default(),
            not_before: now,
            seen_at: now,
            asked_in: 0,
            begun_in: 0,
            favours_again: false,
        }
    }

    fn taken_on(&self) -> usize {
        self.asked + self.promised + self.waiting.len() + self.sending
    }

    fn is_parked(&self) -> bool {
        !matches!(self.breaker.state(), State::Closed { .. })
    }

    /// Attempts at once.
    fn allowed(&self, limits: &Limits) -> usize {
        let one_by_one = self.manner == Manner::Silent || self.is_parked();
        if one_by_one { 1 } else { limits.concurrency }
    }

    /// How much may be taken on.
    fn reach(&mut self, limits: &Limits, now: Timestamp) -> usize {
        let allowed = self.allowed(limits);
        match self.manner {
            Manner::Quick if !self.is_parked() => {
                self.pace.lately(now).clamp(allowed, REACH.max(allowed))
            }
            _ => allowed,
        }
    }

    /// What is waiting and may not go out any time soon.
    fn turned_away(&mut self, limits: &Limits) -> Vec<T> {
        let keeps = match self.manner {
            _ if self.is_parked() => usize::from(self.probe).saturating_sub(self.sending),
            Manner::Quick => self.waiting.len(),
            _ => self.allowed(limits).saturating_sub(self.sending),
        };
        let keeps = keeps.min(self.waiting.len());
        let away: Vec<T> = self.waiting.drain(keeps..).map(|(_, item)| item).collect();
        self.unsettled += away.len();
        self.give_back(away.len());
        away
    }

    fn give_back(&mut self, tokens: usize) {
        if let Some(bucket) = &mut self.bucket {
            (0..tokens).for_each(|_| bucket.give_back());
        }
    }

    fn is_forgotten(&self, now: Timestamp) -> bool {
        let idle = self.taken_on() + self.unsettled == 0;
        idle && now.since(self.seen_at) > REMEMBERED
    }
}

/// What is left while it is being planned.
struct Room {
    all: usize,
    slow: usize,
    again: usize,
}

/// The traffic of a node.
#[derive(Debug)]
pub struct Traffic<T> {
    limits: Limits,
    places: HashMap<ReceiverKey, Place<T>>,
    /// Receivers of whom something waits, by the turn in which something went out last.
    line: BTreeSet<(u64, ReceiverKey)>,
    turns: u64,
    sending: usize,
    sending_slow: usize,
    sending_again: usize,
    /// Taken on and not settled.
    held: usize,
}

impl<T> Traffic<T> {
    /// Nothing is on its way.
    pub fn new(limits: Limits) -> Self {
        let (places, line) = (HashMap::new(), BTreeSet::new());
        Self {
            limits,
            places,
            line,
            turns: 0,
            sending: 0,
            sending_slow: 0,
            sending_again: 0,
            held: 0,
        }
    }

    /// What to take on of what is due, by receiver and by whether it was tried before.
    /// [`Traffic::arrived`] has to be told of each want what came of it.
    pub fn plan(
        &mut self,
        due: impl IntoIterator<Item = (ReceiverKey, bool)>,
        now: Timestamp,
    ) -> Plan {
        let mut plan = Plan::default();
        let mut room = self.room();
        let turns = self.by_turn(due);
        self.turns += 1;
        let mut quick = Vec::new();
        for (receiver, due) in turns {
            let limits = self.limits;
            let place = self.places.entry(receiver).or_insert_with(|| Place::new(&limits, now));
            place.seen_at = now;
            let most = place.allowed(&limits);
            if self.ask(receiver, due, most, &mut room, &mut plan, now) {
                quick.push((receiver, due));
            }
        }
        // What is left goes to those that would be idle while more is taken on.
        for (receiver, due) in quick {
            let limits = self.limits;
            let Some(place) = self.places.get_mut(&receiver) else { continue };
            let reach = place.reach(&limits, now);
            if reach.saturating_sub(place.taken_on()) >= reach / WORTH_IT {
                self.ask(receiver, due, reach, &mut room, &mut plan, now);
            }
        }
        plan
    }

    fn room(&self) -> Room {
        let waiting = |slow: bool| {
            let is = move |place: &&Place<T>| (place.manner != Manner::Quick) == slow;
            self.places
                .values()
                .filter(is)
                .map(|place| place.asked + place.promised + place.waiting.len())
        };
        let waiting_items = self.places.values().flat_map(|place| &place.waiting);
        let again = waiting_items.filter(|(again, _)| *again).count();
        Room {
            all: (self.limits.slots * AHEAD).saturating_sub(self.held),
            slow: self
                .limits
                .for_slow()
                .saturating_sub(self.sending_slow + waiting(true).sum::<usize>()),
            again: self.limits.for_again().saturating_sub(self.sending_again + again),
        }
    }

    /// Receivers with what is due for them, first those that were asked for longest ago.
    fn by_turn(
        &self,
        due: impl IntoIterator<Item = (ReceiverKey, bool)>,
    ) -> Vec<(ReceiverKey, Due)> {
        let mut order: Vec<(u64, ReceiverKey, Due)> = Vec::new();
        let mut at: HashMap<ReceiverKey, usize> = HashMap::new();
        for (receiver, again) in due {
            let index = *at.entry(receiver).or_insert_with(|| {
                let asked_in = self.places.get(&receiver).map_or(0, |place| place.asked_in);
                order.push((asked_in, receiver, Due::default()));
                order.len() - 1
            });
            match again {
                true => order[index].2.again = true,
                false => order[index].2.first = true,
            }
        }
        // Those that were asked for in the same round stay in the order of what is due.
        order.sort_by_key(|(asked_in, ..)| *asked_in);
        order.into_iter().map(|(_, receiver, due)| (receiver, due)).collect()
    }

    /// Asks for as many of a receiver's as make up `most`. Whether it may get more.
    fn ask(
        &mut self,
        receiver: ReceiverKey,
        due: Due,
        most: usize,
        room: &mut Room,
        plan: &mut Plan,
        now: Timestamp,
    ) -> bool {
        let turn = self.turns;
        let Some(place) = self.places.get_mut(&receiver) else { return false };
        let is_quick = place.manner == Manner::Quick;
        let mut later = |at: Timestamp| {
            plan.again_at = Some(plan.again_at.map_or(at, |known| known.min(at)));
        };
        if place.not_before > now {
            later(place.not_before);
            return false;
        }
        let room_here = if is_quick { room.all } else { room.all.min(room.slow) };
        let mut count = most.saturating_sub(place.taken_on()).min(room_here);
        if let Some(bucket) = place.bucket.as_mut().filter(|_| count > 0) {
            count = count.min(bucket.available(now) as usize);
            if count == 0 {
                later(bucket.next_at(now).max(now + BREATH));
            }
        }
        let (mut first, mut again) = due.share(count, room.again, place.favours_again);
        if first + again == 0 {
            return is_quick && !place.is_parked();
        }
        if place.is_parked() {
            match place.breaker.pass(now) {
                Ok(_) => place.probe = true,
                Err(at) => {
                    later(at);
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
        place.asked += first + again;
        place.asked_in = turn;
        self.held += first + again;
        room.all -= first + again;
        room.again -= again;
        if !is_quick {
            room.slow -= first + again;
        }
        for (is_again, count) in [(false, first), (true, again)] {
            if count > 0 {
                *plan.wants.entry((receiver, is_again)).or_default() += count;
            }
        }
        is_quick
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

    /// Promises room for something that has just come to be for a receiver, so that it need
    /// not be asked for: one that answers quickly, of whom nothing older is being asked for.
    /// Half of what is taken on over all is left to those who ask.
    /// [`Traffic::kept`] has to be told what came of it.
    pub fn promise(&mut self, receiver: ReceiverKey, now: Timestamp) -> bool {
        let limits = self.limits;
        let Some(place) = self.places.get_mut(&receiver) else { return false };
        let may = place.manner == Manner::Quick
            && !place.is_parked()
            && place.asked == 0
            && place.not_before <= now
            && self.held < limits.slots * AHEAD / 2
            && place.taken_on() < place.reach(&limits, now);
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
    pub fn begin(&mut self) -> Option<Turn<T>> {
        if self.sending >= self.limits.slots {
            return None;
        }
        let may_again = self.sending_again < self.limits.for_again();
        let may_slow = self.sending_slow < self.limits.for_slow();
        let (receiver, index) = self.line.iter().find_map(|(_, receiver)| {
            let place = self.places.get(receiver)?;
            let full = place.sending >= place.allowed(&self.limits);
            if full || (place.manner != Manner::Quick && !may_slow) {
                return None;
            }
            let index = place.waiting.iter().position(|(again, _)| !again || may_again)?;
            Some((*receiver, index))
        })?;
        let place = self.places.get_mut(&receiver)?;
        let (again, item) = place.waiting.remove(index)?;
        let slow = place.manner != Manner::Quick;
        let pass = if std::mem::take(&mut place.probe) { Pass::Probe } else { Pass::Free };
        self.line.remove(&(place.begun_in, receiver));
        self.turns += 1;
        place.begun_in = self.turns;
        place.sending += 1;
        self.sending += 1;
        self.sending_slow += usize::from(slow);
        self.sending_again += usize::from(again);
        self.stand_in_line(receiver);
        Some(Turn { item, leave: Leave { receiver, again, slow, pass } })
    }

    /// An attempt has ended. What was taken on for the receiver and is better left comes
    /// back.
    #[expect(clippy::needless_pass_by_value, reason = "it is used up: an attempt ends once")]
    pub fn ended(
        &mut self,
        leave: Leave,
        came: Came,
        now: Timestamp,
        rng: &mut impl Rng,
    ) -> Vec<T> {
        self.sending -= 1;
        self.sending_slow -= usize::from(leave.slow);
        self.sending_again -= usize::from(leave.again);
        let Some(place) = self.places.get_mut(&leave.receiver) else { return Vec::new() };
        place.sending -= 1;
        place.unsettled += 1;
        place.seen_at = now;
        match came.sign {
            Some(sign) => {
                place.manner = match sign {
                    Sign::Answers if came.took < QUICK => Manner::Quick,
                    Sign::Answers => Manner::Slow,
                    Sign::Unreached | Sign::Fails => Manner::Silent,
                };
                place.breaker.ended(leave.pass, sign, now, rng);
            }
            None if leave.pass == Pass::Probe => place.breaker.abandoned(),
            None => {}
        }
        if place.manner == Manner::Quick {
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
        let place = self.places.entry(receiver).or_insert_with(|| Place::new(&limits, now));
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
    }

    /// How many go out now.
    pub const fn sending(&self) -> usize {
        self.sending
    }

    /// How many were taken on and are not settled.
    pub const fn held(&self) -> usize {
        self.held
    }

    /// How many receivers are left alone because they do not answer.
    pub fn parked(&self) -> usize {
        self.places.values().filter(|place| place.is_parked()).count()
    }
}

/// What is due for a receiver.
#[derive(Clone, Copy, Debug, Default)]
struct Due {
    first: bool,
    again: bool,
}

impl Due {
    /// How many first attempts, and how many of what was tried before: half and half where
    /// both are due.
    fn share(self, count: usize, room_again: usize, favours_again: bool) -> (usize, usize) {
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

#[cfg(test)]
#[path = "traffic_tests.rs"]
mod tests;
