use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::subsequence;

use super::*;
use crate::webhooks::Format;
use cloakroom_domain::Timestamp;
use cloakroom_domain::webhooks::Topics;

const TOPICS: [Topic; 3] = [Topic::Succeeded, Topic::Failed, Topic::Started];
const ROUTES: [&str; 3] = ["orders", "refunds", "reports"];
const TAGS: [&str; 2] = ["a:1", "a:2"];
const PRINCIPALS: [&str; 2] = ["ann", "eve"];

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn filter(topics: &[Topic], routes: &[&str], tags: &[&str]) -> Filter {
    Filter { topics: topics.iter().copied().collect(), routes: texts(routes), tags: texts(tags) }
}

fn known(receiver: i64, standing: ReceiverStanding, filter: Option<Filter>) -> KnownReceiver {
    KnownReceiver {
        receiver: ReceiverKey(receiver),
        changed: 1,
        principal: Principal::named(PRINCIPALS[receiver as usize % 2]),
        filter,
        standing,
        failing_since: None,
        complained: false,
        format: Format::Standard,
        allowed_rate: None,
    }
}

fn index(all: impl IntoIterator<Item = KnownReceiver>) -> SubscriptionIndex {
    let mut index = SubscriptionIndex::default();
    all.into_iter().for_each(|known| index.put(known));
    index
}

fn receivers(matching: &Recipients) -> Vec<i64> {
    matching.first.iter().map(|found| found.receiver.0).collect()
}

#[test]
fn the_first_are_told_at_once_and_the_others_up_to_the_last_that_may_want_it() {
    let wants = |receiver, routes: &[&str], tags: &[&str]| {
        known(receiver, ReceiverStanding::Active, Some(filter(&[Topic::Failed], routes, tags)))
    };
    let elsewhere = known(99, ReceiverStanding::Active, Some(filter(&[Topic::Started], &[], &[])));
    let index = index([
        wants(9, &[], &["a:2"]),
        wants(5, &["refunds", "orders"], &[]),
        wants(7, &["refunds"], &[]),
        wants(3, &[], &[]),
        wants(1, &["orders"], &["a:1", "a:2"]),
        wants(2, &[], &[]),
        elsewhere,
    ]);
    let eve = Principal::named("eve");
    let told = |most| index.matching(&eve, most, Topic::Failed, "orders", &texts(&["a:1"]));
    assert_eq!((receivers(&told(9)), told(9).more_up_to), (vec![1, 3, 5], None));
    assert_eq!((receivers(&told(3)), told(3).more_up_to), (vec![1, 3, 5], None));
    let first = told(2);
    assert_eq!((receivers(&first), first.more_up_to), (vec![1, 3], Some(ReceiverKey(9))));
    assert!(receivers(&index.matching(&eve, 9, Topic::Canceled, "orders", &[])).is_empty());
    assert!(!index.wants(Topic::Canceled) && index.wants_begins());
}

#[test]
fn only_those_are_looked_at_that_want_the_topic_and_take_the_route() {
    let one = |receiver: i64| {
        let (topic, route) = match receiver % 3 {
            0 => (Topic::Started, "orders"),
            _ => (Topic::Failed, "refunds"),
        };
        known(receiver * 2, ReceiverStanding::Active, Some(filter(&[topic], &[route], &[])))
    };
    let mut index = index((0..9_000).map(one));
    index.put(known(7_000, ReceiverStanding::Active, Some(filter(&[Topic::Failed], &[], &[]))));
    let ann = index.by_principal.get(&Principal::named("ann")).unwrap();
    assert_eq!(
        ann.told(Topic::Failed, "orders").merged().collect::<Vec<_>>(),
        [ReceiverKey(7_000)]
    );
    assert_eq!(ann.told(Topic::Started, "reports").merged().count(), 0);
}

#[test]
fn what_has_not_changed_is_shared_with_what_somebody_looks_at() {
    let one = |receiver: i64, topic| {
        known(receiver * 2, ReceiverStanding::Active, Some(filter(&[topic], &[], &[])))
    };
    let mut index = index((0..10_000).map(|receiver| one(receiver, Topic::Failed)));
    let seen = index.clone();
    index.put(one(77, Topic::Started));
    let told = |index: &SubscriptionIndex, topic| {
        let ann = Principal::named("ann");
        index.matching(&ann, 20_000, topic, "orders", &[]).first.len()
    };
    assert_eq!((told(&seen, Topic::Failed), told(&seen, Topic::Started)), (10_000, 0));
    assert_eq!((told(&index, Topic::Failed), told(&index, Topic::Started)), (9_999, 1));
    let shared = index.known.0.iter().zip(&seen.known.0);
    assert_eq!(shared.filter(|(one, other)| !Arc::ptr_eq(one, other)).count(), 1);
    // What is no change of a wish touches no order.
    let failing = KnownReceiver { failing_since: Some(Timestamp::EPOCH), ..one(78, Topic::Failed) };
    let seen = index.clone();
    index.put(failing);
    let ann = Principal::named("ann");
    let wishes = [&index, &seen].map(|index| index.by_principal.get(&ann).unwrap());
    assert!(Arc::ptr_eq(wishes[0], wishes[1]));
}

/// Their numbers do not follow each other.
const fn apart(receiver: i64) -> i64 {
    receiver * 37
}

/// Everything of a receiver that decides whom an event goes to.
fn changes() -> impl Strategy<Value = Vec<KnownReceiver>> {
    let filter = (
        subsequence(&TOPICS[..], 0..=3),
        subsequence(&ROUTES[..], 0..=3),
        subsequence(&TAGS[..], 0..=2),
    )
        .prop_map(|(topics, routes, tags)| filter(&topics, &routes, &tags));
    let standing = prop_oneof![
        Just(ReceiverStanding::Active),
        Just(ReceiverStanding::Holds),
        Just(ReceiverStanding::Deleted)
    ];
    let one = (0..24_i64, standing, filter).prop_map(|(receiver, standing, filter)| {
        // A few are those of callbacks.
        known(apart(receiver), standing, (receiver % 8 != 7).then_some(filter))
    });
    vec(one, 0..60)
}

/// The same by walking all of them.
struct LinearSearch(BTreeMap<ReceiverKey, KnownReceiver>);

impl LinearSearch {
    fn of(changes: &[KnownReceiver]) -> Self {
        let mut all = BTreeMap::new();
        for known in changes {
            all.insert(known.receiver, known.clone());
        }
        all.retain(|_, known| known.standing != ReceiverStanding::Deleted);
        Self(all)
    }

    fn matching(&self, principal: &Principal, most: usize, event: &Event<'_>) -> Recipients {
        let filters = || {
            let own = self.0.values().filter(|known| known.principal == *principal);
            own.filter_map(|known| Some((known, known.filter.as_ref()?)))
        };
        let takes = |filter: &Filter| filter.takes(event.topic, event.route, &event.tags);
        let told =
            filters().filter(|(_, filter)| takes(filter)).map(|(known, _)| Recipient::of(known));
        let mut first: Vec<_> = told.collect();
        let untagged = |filter: &Filter| {
            let filter = Filter { tags: Vec::new(), ..filter.clone() };
            takes(&filter)
        };
        let mut last = filters().filter(|(_, filter)| untagged(filter)).map(|it| it.0.receiver);
        let more_up_to = (first.len() > most).then(|| last.next_back()).flatten();
        first.truncate(most);
        Recipients { first, more_up_to }
    }
}

struct Event<'a> {
    topic: Topic,
    route: &'a str,
    tags: Vec<String>,
}

fn agree(index: &SubscriptionIndex, walked: &LinearSearch) -> Result<(), TestCaseError> {
    for topic in TOPICS {
        let wanted = walked.0.values().filter_map(|known| known.filter.as_ref());
        let wanted = wanted.fold(Topics::default(), |all, filter| all.and(filter.topics));
        let callbacks = walked.0.values().any(|known| known.filter.is_none());
        prop_assert_eq!(index.has_callbacks(), callbacks);
        prop_assert_eq!(index.wants(topic), callbacks || wanted.has(topic));
        prop_assert_eq!(index.wants_begins(), wanted.has(Topic::Started));
        for (route, tags) in [("orders", &TAGS[..1]), ("refunds", &[]), ("other", &TAGS[..])] {
            let event = Event { topic, route, tags: texts(tags) };
            for (principal, most) in [("ann", 3), ("eve", 15), ("ann", 0), ("bob", 9)] {
                let principal = Principal::named(principal);
                let found = index.matching(&principal, most, topic, route, &event.tags);
                prop_assert_eq!(found, walked.matching(&principal, most, &event));
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn whom_an_event_goes_to_is_found_as_by_walking_all(
        (before, after) in (changes(), changes())
    ) {
        let mut index = index(before.iter().cloned());
        let seen = index.clone();
        after.iter().cloned().for_each(|known| index.put(known));
        agree(&seen, &LinearSearch::of(&before))?;
        agree(&index, &LinearSearch::of(&[before, after].concat()))?;
        // Nothing is left of those that are gone.
        for receiver in 0..24 {
            index.put(known(apart(receiver), ReceiverStanding::Deleted, Some(Filter::default())));
        }
        prop_assert!(index.by_principal.0.iter().all(|shard| shard.is_empty()));
    }
}
