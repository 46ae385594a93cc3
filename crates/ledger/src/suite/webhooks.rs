//! Webhooks in the ledger: receivers, events, deliveries.

mod callbacks;
mod fanning;
mod keeping;
mod sending;
mod subscriptions;
mod telling;

use super::*;
use cloakroom_domain::webhooks::cloud_event::Permission;
use cloakroom_domain::webhooks::{
    DEADLINE, DeliveryDecision, DeliveryProgress as Tried, HOPELESS, ReceiverKey, ScheduleEnd,
    SendResult, Topic, Topics, settle as schedule,
};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_hours(24);

/// Writes messages whose words say what they are about.
struct Words;

impl MessageRenderer for Words {
    fn about_operation(
        &self,
        topic: Topic,
        operation: &Operation,
        sequence: u32,
        _: Timestamp,
        base: Option<&str>,
    ) -> Message {
        let base = base.unwrap_or("nowhere");
        let status = operation.state.status();
        let body = format!("{topic} {} is {status} at {base}", operation.id).into();
        Message { name: format!("msg_{}_{sequence}", operation.id), body }
    }

    fn about_subscription(
        &self,
        topic: Topic,
        subscription: &Subscription,
        delivery: Option<&str>,
        at: Timestamp,
    ) -> Message {
        let about = delivery.unwrap_or("nothing");
        let body = format!("{topic} {} about {about}", subscription.settings.url).into();
        Message { name: format!("msg_{topic}_{}", at.as_micros()), body }
    }
}

async fn opened(place: &Place) -> (Ledger, Tasks) {
    let (ledger, tasks) = place.open(START).await;
    ledger.lend_renderer(Arc::new(Words));
    (ledger, tasks)
}

fn settings(topics: impl IntoIterator<Item = Topic>) -> SubscriptionSettings {
    SubscriptionSettings {
        url: "https://receiver.example/hooks".to_owned(),
        topics: topics.into_iter().collect(),
        routes: Vec::new(),
        tags: Vec::new(),
        headers: Some(Bytes::from_static(&[0, 1, 2])),
        description: None,
        format: Format::Standard,
    }
}

fn key(secret: &'static str) -> NewKey {
    NewKey { kind: KeyKind::V1, sealed: Bytes::from_static(secret.as_bytes()) }
}

fn subscription(number: u16, settings: SubscriptionSettings) -> NewSubscription {
    let mut bits = [7; 16];
    bits[0] = number.to_be_bytes()[0];
    bits[1] = number.to_be_bytes()[1];
    NewSubscription {
        id: SubscriptionId::of_random(bits),
        principal: Principal::everyone(),
        settings,
        asks: false,
        key: key("first"),
        most: u32::MAX,
        public_base: "https://api.example".to_owned(),
        at: START,
    }
}

async fn subscribed(ledger: &Ledger, new: NewSubscription) -> Subscription {
    match ledger.subscribe(new).await.unwrap() {
        SubscribeOutcome::New(subscription) => *subscription,
        SubscribeOutcome::TooMany => panic!("too many"),
    }
}

/// An operation that was carried out, and succeeded.
async fn done(ledger: &Ledger, new: NewOperation) -> OperationId {
    done_with(ledger, new, None).await
}

/// The same with a callback that may be the first.
async fn done_with(
    ledger: &Ledger,
    new: NewOperation,
    first: Option<FirstCallback>,
) -> OperationId {
    let at = new.accepted_at;
    ledger.accept_calling_back(new, first).await.unwrap();
    let leased = claim_one(ledger, at).await;
    let id = leased.id;
    ledger.settle(outcome_of(leased, &answered(201), at)).await.unwrap().unwrap();
    id
}

async fn claimed(ledger: &Ledger, now: Timestamp) -> Vec<LeasedDelivery> {
    let want = |lane: DeliveryLane| DeliveryWant {
        receiver: lane.receiver,
        again: lane.again,
        limit: 1000,
    };
    let wants: Vec<_> = ledger.due_deliveries(now).into_iter().map(want).collect();
    let mut leased = Vec::new();
    // No caller wants more at once than there are slots.
    for some in wants.chunks(500) {
        let claimed = ledger.claim_deliveries(some.to_vec(), now).await.unwrap();
        leased.extend(claimed.into_iter().flat_map(|claimed| claimed.leased));
    }
    leased
}

/// The end of an attempt, as the schedule has it.
fn end_of(leased: &LeasedDelivery, attempted: SendResult, at: Timestamp) -> DeliverySettlement {
    let standing = Tried {
        attempts: leased.attempts,
        refusals: leased.refusals,
        deadline_at: leased.deadline_at,
    };
    let next = schedule(standing, attempted, at, &mut StdRng::seed_from_u64(1));
    let next_at = match next {
        DeliveryDecision::Again { due_at, .. } => Some(due_at),
        DeliveryDecision::Over(_) => None,
    };
    let record = AttemptRecord {
        number: leased.attempts,
        at,
        took: Duration::from_micros(1234),
        status: Some(200),
        code: None,
        next_at,
    };
    DeliverySettlement::Attempted(AttemptSettlement {
        lease: leased.lease,
        receiver: leased.receiver,
        message: leased.message.clone(),
        topic: leased.topic,
        record,
        decision: next,
        at,
    })
}

const FAILED: SendResult = SendResult::Failed { status: Some(500), retry_after: None };

async fn settled(ledger: &Ledger, leased: &[LeasedDelivery], attempted: SendResult, at: Timestamp) {
    let batch: Vec<_> = leased.iter().map(|leased| end_of(leased, attempted, at)).collect();
    let fates = ledger.settle_deliveries(batch).await.unwrap();
    assert!(fates.iter().all(|fate| *fate == DeliverySettled::Done), "{fates:?}");
}

async fn shown(ledger: &Ledger, of: &Subscription) -> Vec<crate::webhooks::Delivery> {
    let listing = DeliveryListing {
        of: DeliveriesOf::Receiver(of.receiver),
        only: None,
        before: None,
        limit: 100,
    };
    ledger.deliveries(&listing).await.unwrap().deliveries
}

async fn topics_of(ledger: &Ledger, of: &Subscription) -> Vec<Topic> {
    let mut topics: Vec<_> = shown(ledger, of).await.iter().map(|shown| shown.topic).collect();
    topics.reverse();
    topics
}

/// A callback of that principal to what may be a new origin.
fn callback_to(url: &str, principal: &Principal, at: Timestamp) -> FirstCallback {
    let url: url::Url = url.parse().unwrap();
    let callbacks = NewCallbacks {
        principal: principal.clone(),
        origin: url.origin().ascii_serialization(),
        public_base: "https://api.example".to_owned(),
        keys: vec![key("own"), NewKey { kind: KeyKind::V1a, ..key("pair") }],
        at,
    };
    FirstCallback { callbacks, url: url.into(), topics: Topics::ENDS }
}

/// Two nodes on one database, which remember that no receiver wants to know of anything.
async fn two(place: &Place) -> [(Ledger, Tasks); 2] {
    let two = [opened(place).await, opened(place).await];
    for ((ledger, _), number) in two.iter().zip([101, 102]) {
        done(ledger, operation(number, START)).await;
    }
    two
}
