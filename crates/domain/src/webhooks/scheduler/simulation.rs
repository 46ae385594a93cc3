//! A simulated node with receivers, for tests: time advances a millisecond at a time.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::{AttemptReport, DeliveryScheduler, Dispatch, ReceiverTerms, SendPermit, SlotLimits};
use crate::breaker::HealthSignal;
use crate::webhooks::ReceiverKey;
use crate::{Principal, Timestamp};

pub(super) const MILLI: Duration = Duration::from_millis(1);
pub(super) const TIMEOUT: Duration = Duration::from_secs(15);

pub(super) const fn limits(slots: usize) -> SlotLimits {
    SlotLimits { slots, first_attempts: 20, concurrency: 4, rate: None }
}

/// How a receiver of the simulation behaves.
#[derive(Clone, Copy)]
pub(super) enum ReceiverModel {
    AnswersIn(Duration),
    Never,
}

/// A node with receivers whose answers come by a clock that the simulation moves.
pub(super) struct Simulation {
    pub(super) now: Timestamp,
    pub(super) traffic: DeliveryScheduler<Timestamp>,
    /// What is due, by receiver and by whether it was tried before: since when.
    pub(super) due: BTreeMap<(ReceiverKey, bool), VecDeque<Timestamp>>,
    pub(super) behaves: HashMap<ReceiverKey, ReceiverModel>,
    /// What is on its way, by when it ends.
    pub(super) under_way: BTreeMap<(Timestamp, u64), (SendPermit, AttemptReport)>,
    pub(super) began: u64,
    /// How long what went out had been due, by receiver.
    pub(super) waited: HashMap<ReceiverKey, Vec<Duration>>,
    at_once: HashMap<ReceiverKey, usize>,
    pub(super) most_at_once: HashMap<ReceiverKey, usize>,
    /// Whose receivers are that are not everybody's.
    pub(super) owners: HashMap<ReceiverKey, Principal>,
    everyone: Principal,
    pub(super) rng: StdRng,
}

impl Simulation {
    pub(super) fn of(limits: SlotLimits) -> Self {
        Self {
            now: Timestamp::EPOCH + Duration::from_hours(1),
            traffic: DeliveryScheduler::new(limits),
            due: BTreeMap::new(),
            behaves: HashMap::new(),
            under_way: BTreeMap::new(),
            began: 0,
            waited: HashMap::new(),
            at_once: HashMap::new(),
            most_at_once: HashMap::new(),
            owners: HashMap::new(),
            everyone: Principal::everyone(),
            rng: StdRng::seed_from_u64(7),
        }
    }

    pub(super) fn with(mut self, receivers: std::ops::Range<i64>, behaves: ReceiverModel) -> Self {
        self.behaves.extend(receivers.map(|receiver| (ReceiverKey(receiver), behaves)));
        self
    }

    pub(super) fn put(&mut self, receiver: i64, again: bool, count: usize) {
        let due = self.due.entry((ReceiverKey(receiver), again)).or_default();
        due.extend(std::iter::repeat_n(self.now, count));
    }

    /// Takes on what the plan says, and lets go out what may.
    pub(super) fn step(&mut self) {
        let due = self.due.iter().filter(|(_, due)| !due.is_empty()).map(|(lane, _)| *lane);
        let mut due: Vec<_> = due.collect();
        due.sort_by_key(|lane| self.due[lane].front().copied());
        let (owners, everyone) = (&self.owners, &self.everyone);
        let whose = |receiver: ReceiverKey| {
            let principal = owners.get(&receiver).unwrap_or(everyone);
            ReceiverTerms { principal, rate: None }
        };
        let plan = self.traffic.plan(due, whose, self.now);
        for (lane, count) in plan.wants {
            let due = self.due.get_mut(&lane).unwrap();
            let taken: Vec<_> = due.drain(..count.min(due.len())).collect();
            let back = self.traffic.arrived(lane, count, taken);
            self.take_back(lane.0, back);
        }
        while let Some(Dispatch { item, leave }) = self.traffic.begin(self.now) {
            let receiver = leave.receiver;
            self.waited.entry(receiver).or_default().push(self.now.since(item));
            let (sign, took) = match self.behaves[&receiver] {
                ReceiverModel::AnswersIn(time) => (HealthSignal::Answers, time),
                ReceiverModel::Never => (HealthSignal::Unreached, TIMEOUT),
            };
            let at_once = self.at_once.entry(receiver).or_default();
            *at_once += 1;
            let most = self.most_at_once.entry(receiver).or_default();
            *most = (*most).max(*at_once);
            self.began += 1;
            let came = AttemptReport { sign: Some(sign), took };
            self.under_way.insert((self.now + took, self.began), (leave, came));
        }
    }

    fn take_back(&mut self, receiver: ReceiverKey, items: Vec<Timestamp>) {
        for item in items {
            self.traffic.settled(receiver);
            self.due.entry((receiver, false)).or_default().push_front(item);
        }
    }

    /// Moves the clock a millisecond on.
    pub(super) fn pass(&mut self) {
        self.now = self.now + MILLI;
        while let Some(first) = self.under_way.first_entry() {
            if first.key().0 > self.now {
                break;
            }
            let (leave, came) = first.remove();
            let receiver = leave.receiver;
            *self.at_once.entry(receiver).or_default() -= 1;
            let back = self.traffic.ended(leave, came, self.now, &mut self.rng);
            self.traffic.settled(receiver);
            self.take_back(receiver, back);
        }
        self.step();
    }

    pub(super) fn p99(&self, receivers: std::ops::Range<i64>) -> Duration {
        let mut waited: Vec<_> = receivers
            .flat_map(|receiver| {
                self.waited.get(&ReceiverKey(receiver)).cloned().unwrap_or_default()
            })
            .collect();
        waited.sort_unstable();
        waited[(waited.len() * 99 / 100).min(waited.len() - 1)]
    }

    pub(super) fn went_out(&self, receiver: i64) -> usize {
        self.waited.get(&ReceiverKey(receiver)).map_or(0, Vec::len)
    }
}
