//! Receivers by what they want to know, in memory.
//!
//! Owns the order in which those who want to know of an event are found: by receiver, and without
//! a look at those who want something else. Its invariants: each subscription that stands is
//! under all its topics, with all its routes or with none, and nowhere else; and one moment's
//! index never changes, but shares with the next all that has not.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, BuildHasherDefault, Hash};
use std::sync::Arc;

use crate::webhooks::subscribers::{
    Filter, KnownReceiver, ReceiverStanding, Recipient, Recipients,
};
use cloakroom_domain::Principal;
use cloakroom_domain::webhooks::{ReceiverKey, Topic};

/// The receivers that were remembered at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct SubscriptionIndex {
    pub(crate) version: i64,
    pub(crate) public_base: Option<String>,
    /// How many subscriptions want each.
    wanted: HashMap<Topic, usize>,
    /// How many receivers are those of callbacks.
    callbacks: usize,
    /// How many receivers there are whose deliveries are held.
    pub(super) holding: usize,
    known: Shards<ReceiverKey, Arc<KnownReceiver>>,
    by_principal: Shards<Principal, Arc<PrincipalTopics>>,
}

impl SubscriptionIndex {
    /// Takes in how a receiver stands now.
    pub(super) fn put(&mut self, known: KnownReceiver) {
        let receiver = known.receiver;
        let former = self.known.get(&receiver).cloned();
        let was = former.as_deref().and_then(KnownReceiver::subscribes);
        let is = known.subscribes();
        if was != is {
            if let Some(was) = was {
                self.count(was, |count| count.saturating_sub(1));
                self.change(&known.principal, |wishes| wishes.remove(receiver, was));
            }
            if let Some(is) = is {
                self.count(is, |count| count + 1);
                self.change(&known.principal, |wishes| wishes.add(receiver, is));
            }
        }
        let calls_back = |known: &KnownReceiver| usize::from(known.filter.is_none());
        let holds = |known: &KnownReceiver| usize::from(known.standing == ReceiverStanding::Holds);
        self.callbacks -= former.as_deref().map_or(0, calls_back);
        self.holding -= former.as_deref().map_or(0, holds);
        if known.standing == ReceiverStanding::Deleted {
            self.known.remove(&receiver);
        } else {
            self.callbacks += calls_back(&known);
            self.holding += holds(&known);
            self.known.insert(receiver, Arc::new(known));
        }
    }

    fn count(&mut self, filter: &Filter, by: impl Fn(usize) -> usize) {
        for topic in filter.topics.iter() {
            let count = self.wanted.entry(topic).or_default();
            *count = by(*count);
        }
    }

    fn change(&mut self, principal: &Principal, how: impl FnOnce(&mut PrincipalTopics)) {
        let mut wishes = self.by_principal.remove(principal).unwrap_or_default();
        how(Arc::make_mut(&mut wishes));
        if !wishes.is_empty() {
            self.by_principal.insert(principal.clone(), wishes);
        }
    }

    fn wanted(&self, topic: Topic) -> bool {
        self.wanted.get(&topic).is_some_and(|count| *count > 0)
    }

    /// Whether a receiver may want such events; callbacks are known only by their operations.
    pub(crate) fn wants(&self, topic: Topic) -> bool {
        self.wanted(topic) || self.has_callbacks()
    }

    /// Whether any subscription wants one of these.
    pub(crate) fn wants_begins(&self) -> bool {
        self.wanted(Topic::Accepted) || self.wanted(Topic::Started)
    }

    /// Whether a receiver may want the ends of operations.
    pub(crate) fn wants_ends(&self) -> bool {
        [Topic::Succeeded, Topic::Failed, Topic::Canceled]
            .into_iter()
            .any(|topic| self.wants(topic))
    }

    /// Whether any receiver of callbacks is known.
    pub(crate) const fn has_callbacks(&self) -> bool {
        self.callbacks > 0
    }

    /// One receiver.
    pub(crate) fn known(&self, receiver: ReceiverKey) -> Option<&KnownReceiver> {
        self.known.get(&receiver).map(|known| &**known)
    }

    /// Whether a receiver has changed after that version, as far as is known here.
    pub(super) fn has_changed(&self, receiver: ReceiverKey, since: i64) -> bool {
        match self.known(receiver) {
            Some(known) => known.changed > since,
            // It is gone, or newer than all that is known.
            None => since <= self.version,
        }
    }

    /// Who of a principal's is to be told of an operation's event, by receiver; `most` at once.
    pub(crate) fn matching(
        &self,
        principal: &Principal,
        most: usize,
        topic: Topic,
        route: &str,
        tags: &[String],
    ) -> Recipients {
        let mut matching = Recipients::default();
        let Some(wishes) = self.by_principal.get(principal) else { return matching };
        let told = wishes.told(topic, route);
        let known = told.merged().filter_map(|receiver| self.known(receiver));
        let takes = |known: &&KnownReceiver| {
            known.filter.as_ref().is_some_and(|filter| filter.takes(topic, route, tags))
        };
        for known in known.filter(takes) {
            if matching.first.len() == most {
                matching.more_up_to = told.last();
                break;
            }
            matching.first.push(Recipient::of(known));
        }
        matching
    }
}

/// The subscriptions of a principal, by what they want to know.
#[derive(Clone, Debug, Default)]
struct PrincipalTopics(HashMap<Topic, TopicReceivers>);

/// Those of one topic.
#[derive(Clone, Debug, Default)]
struct TopicReceivers {
    everywhere: Arc<ReceiverSet>,
    by_route: HashMap<Arc<str>, Arc<ReceiverSet>>,
}

impl PrincipalTopics {
    fn add(&mut self, receiver: ReceiverKey, filter: &Filter) {
        for topic in filter.topics.iter() {
            let of = self.0.entry(topic).or_default();
            if filter.routes.is_empty() {
                Arc::make_mut(&mut of.everywhere).insert(receiver);
            }
            for route in &filter.routes {
                let set = of.by_route.entry(route.as_str().into()).or_default();
                Arc::make_mut(set).insert(receiver);
            }
        }
    }

    fn remove(&mut self, receiver: ReceiverKey, filter: &Filter) {
        for topic in filter.topics.iter() {
            let Some(of) = self.0.get_mut(&topic) else { continue };
            if filter.routes.is_empty() {
                Arc::make_mut(&mut of.everywhere).remove(receiver);
            }
            for route in &filter.routes {
                let Some(set) = of.by_route.get_mut(route.as_str()) else { continue };
                Arc::make_mut(set).remove(receiver);
                if set.is_empty() {
                    of.by_route.remove(route.as_str());
                }
            }
            if of.everywhere.is_empty() && of.by_route.is_empty() {
                self.0.remove(&topic);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those to look at when something happened on a route.
    fn told(&self, topic: Topic, route: &str) -> MergedReceivers<'_> {
        let of = self.0.get(&topic);
        let of_route = of.and_then(|of| of.by_route.get(route));
        MergedReceivers([of.map(|of| &*of.everywhere), of_route.map(|set| &**set)])
    }
}

/// Those of a topic that name no route, and those that name this one; none are both.
struct MergedReceivers<'a>([Option<&'a ReceiverSet>; 2]);

impl MergedReceivers<'_> {
    fn merged(&self) -> impl Iterator<Item = ReceiverKey> {
        let [one, other] = self.0.map(|set| set.into_iter().flat_map(ReceiverSet::iter).peekable());
        let (mut one, mut other) = (one, other);
        std::iter::from_fn(move || match (one.peek(), other.peek()) {
            (Some(first), Some(second)) if second < first => other.next(),
            (Some(_), _) => one.next(),
            (None, _) => other.next(),
        })
    }

    fn last(&self) -> Option<ReceiverKey> {
        self.0.iter().filter_map(|set| set.and_then(ReceiverSet::last)).max()
    }
}

/// Receivers in their order: a bit for each, in blocks of so many, so that copying thousands is
/// copying little.
#[derive(Clone, Debug, Default)]
struct ReceiverSet(BTreeMap<i64, u64>);

impl ReceiverSet {
    const BLOCK: i64 = u64::BITS as i64;

    const fn place(ReceiverKey(receiver): ReceiverKey) -> (i64, u64) {
        (receiver.div_euclid(Self::BLOCK), 1 << receiver.rem_euclid(Self::BLOCK))
    }

    fn insert(&mut self, receiver: ReceiverKey) {
        let (block, bit) = Self::place(receiver);
        *self.0.entry(block).or_default() |= bit;
    }

    fn remove(&mut self, receiver: ReceiverKey) {
        let (block, bit) = Self::place(receiver);
        let Some(bits) = self.0.get_mut(&block) else { return };
        *bits &= !bit;
        if *bits == 0 {
            self.0.remove(&block);
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn iter(&self) -> impl DoubleEndedIterator<Item = ReceiverKey> {
        self.0.iter().flat_map(|(block, bits)| {
            let there = (0..Self::BLOCK).filter(move |bit| bits & (1 << bit) != 0);
            there.map(move |bit| ReceiverKey(block * Self::BLOCK + bit))
        })
    }

    fn last(&self) -> Option<ReceiverKey> {
        self.iter().next_back()
    }
}

/// How many parts a map has.
const SHARDS: usize = 256;

/// A map in parts, of which a copy copies only those that are changed then.
#[derive(Clone, Debug)]
struct Shards<K, V>(Vec<Arc<HashMap<K, V>>>);

impl<K, V> Default for Shards<K, V> {
    fn default() -> Self {
        Self(std::iter::repeat_with(Arc::default).take(SHARDS).collect())
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Shards<K, V> {
    fn place(key: &K) -> usize {
        BuildHasherDefault::<DefaultHasher>::new().hash_one(key) as usize % SHARDS
    }

    fn get(&self, key: &K) -> Option<&V> {
        self.0.get(Self::place(key))?.get(key)
    }

    fn insert(&mut self, key: K, value: V) {
        if let Some(shard) = self.0.get_mut(Self::place(&key)) {
            Arc::make_mut(shard).insert(key, value);
        }
    }

    fn remove(&mut self, key: &K) -> Option<V> {
        let shard = self.0.get_mut(Self::place(key)).filter(|shard| shard.contains_key(key))?;
        Arc::make_mut(shard).remove(key)
    }
}

#[cfg(test)]
#[path = "subscription_index_tests.rs"]
mod tests;
