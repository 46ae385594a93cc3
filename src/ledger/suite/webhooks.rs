//! Who is told of what, and how far each telling is.

mod fanning;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::domain::delivery::cloud_event::Permission;
use crate::domain::delivery::{
    Attempted, DEADLINE, Ended, HOPELESS, Next, ReceiverKey, Standing as Tried, Topic, Topics,
    settle as schedule,
};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_hours(24);

/// Writes messages whose words say what they are about.
struct Words;

impl Scribe for Words {
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
    ledger.lend_scribe(Arc::new(Words));
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
        Subscribed::New(subscription) => *subscription,
        Subscribed::TooMany => panic!("too many"),
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
    // Nobody wants more at once than there are slots.
    for some in wants.chunks(500) {
        let claimed = ledger.claim_deliveries(some.to_vec(), now).await.unwrap();
        leased.extend(claimed.into_iter().flat_map(|claimed| claimed.leased));
    }
    leased
}

/// The end of an attempt, as the schedule has it.
fn end_of(leased: &LeasedDelivery, attempted: Attempted, at: Timestamp) -> DeliverySettlement {
    let standing = Tried {
        attempts: leased.attempts,
        refusals: leased.refusals,
        deadline_at: leased.deadline_at,
    };
    let next = schedule(standing, attempted, at, &mut StdRng::seed_from_u64(1));
    let next_at = match next {
        Next::Again { due_at, .. } => Some(due_at),
        Next::Over(_) => None,
    };
    let record = AttemptRecord {
        number: leased.attempts,
        at,
        took: Duration::from_micros(1234),
        status: Some(200),
        code: None,
        next_at,
    };
    settled_as(leased, DeliveryNext::Settled(record, next), at)
}

fn settled_as(leased: &LeasedDelivery, next: DeliveryNext, at: Timestamp) -> DeliverySettlement {
    DeliverySettlement {
        lease: leased.lease,
        receiver: leased.receiver,
        message: leased.message.clone(),
        topic: leased.topic,
        next,
        at,
    }
}

const FAILED: Attempted = Attempted::Failed { status: Some(500), retry_after: None };

async fn settled(ledger: &Ledger, leased: &[LeasedDelivery], attempted: Attempted, at: Timestamp) {
    let batch: Vec<_> = leased.iter().map(|leased| end_of(leased, attempted, at)).collect();
    let fates = ledger.settle_deliveries(batch).await.unwrap();
    assert!(fates.iter().all(|fate| *fate == DeliverySettled::Done), "{fates:?}");
}

async fn shown(ledger: &Ledger, of: &Subscription) -> Vec<crate::ledger::webhooks::Delivery> {
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

async fn an_event_is_told_with_the_octets_that_were_written_with_it(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let whole = subscribed(&ledger, subscription(1, settings([Topic::Succeeded]))).await;
    assert_eq!(whole.settings, settings([Topic::Succeeded]));
    let id = done(&ledger, operation(1, START)).await;
    let out = claimed(&ledger, START).await;
    assert_eq!(out.len(), 1);
    assert_eq!(&*out[0].message, format!("msg_{id}_3"));
    let words = format!("operation.succeeded {id} is succeeded at https://api.example");
    assert_eq!(out[0].body, words);
    assert_eq!((out[0].attempts, out[0].deadline_at), (1, START + DEADLINE));
    assert!(matches!(shown(&ledger, &whole).await[0].state, DeliveryState::Sending { .. }));
    assert_eq!(claimed(&ledger, START).await.len(), 0);
    settled(&ledger, &out, Attempted::Taken, START + SECOND).await;
    let shown = shown(&ledger, &whole).await;
    let ended = DeliveryState::Ended { how: DeliveryEnd::Delivered, at: START + SECOND };
    assert_eq!((shown[0].state, shown[0].operation), (ended, Some(id)));
    assert_eq!((shown[0].log.len(), shown[0].log[0].took.as_micros()), (1, 1234));
    close(ledger, tasks).await;
}

async fn only_those_are_told_who_want_to_know(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let narrowed = |routes: &[&str], tags: &[&str]| SubscriptionSettings {
        routes: routes.iter().map(|route| (*route).to_owned()).collect(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        ..settings([Topic::Succeeded])
    };
    let eve = NewSubscription {
        principal: Principal::named("eve"),
        ..subscription(1, settings([Topic::Succeeded]))
    };
    let eve = subscribed(&ledger, eve).await;
    let failures = subscribed(&ledger, subscription(2, settings([Topic::Failed]))).await;
    let elsewhere = subscribed(&ledger, subscription(3, narrowed(&["refunds"], &[]))).await;
    let routed = subscribed(&ledger, subscription(4, narrowed(&["refunds", "orders"], &[]))).await;
    let tagged = subscribed(&ledger, subscription(5, narrowed(&[], &["a:2", "a:1"]))).await;
    let untagged = subscribed(&ledger, subscription(6, narrowed(&[], &["a:3"]))).await;
    let tags = vec!["a:0".to_owned(), "a:1".to_owned()];
    done(&ledger, NewOperation { tags, ..operation(1, START) }).await;
    for (subscription, count) in
        [(&eve, 0), (&failures, 0), (&elsewhere, 0), (&routed, 1), (&tagged, 1), (&untagged, 0)]
    {
        assert_eq!(shown(&ledger, subscription).await.len(), count, "{subscription:?}");
    }
    close(ledger, tasks).await;
}

async fn every_kind_of_event_is_told_whatever_wrote_it(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let all = Topic::ALL.into_iter().filter(|topic| topic.is_of_operation());
    let all = subscribed(&ledger, subscription(1, settings(all))).await;
    // Once more, so that nobody has to find out that somebody subscribes.
    done(&ledger, operation(1, START)).await;
    let began = [Topic::Accepted, Topic::Started];
    let first: Vec<_> = began.into_iter().chain([Topic::Succeeded]).collect();
    assert_eq!(topics_of(&ledger, &all).await, first);
    ledger.accept(operation(2, START)).await.unwrap();
    let second = claim_one(&ledger, START).await;
    let report = ProgressReport {
        id: second.id,
        attempt: 1,
        percent: Some(40),
        message: None,
        at: START + SECOND,
    };
    assert_eq!(ledger.progress(report).await.unwrap(), Progressed::Kept);
    ledger.settle(outcome_of(second, &answered(422), START)).await.unwrap().unwrap();
    ledger.accept(operation(3, START)).await.unwrap();
    ledger.cancel(operation(3, START).id, Freeing::Keep, START).await.unwrap();
    let mut new = operation(4, START);
    new.policy.delivery = Delivery::AtMostOnce;
    ledger.accept(new).await.unwrap();
    let broken = Outcome::Broken { sent: Sent::Perhaps, cause: ErrorCode::UpstreamProtocol };
    let lost = claim_one(&ledger, START).await;
    let id = lost.id;
    ledger.settle(outcome_of(lost, &broken, START)).await.unwrap().unwrap();
    let verdict = Verdict { happened: true, location: None, note: None, at: START };
    ledger.judge(id, verdict).await.unwrap();
    let told = topics_of(&ledger, &all).await;
    let after = [
        &began[..],
        &[Topic::Progressed, Topic::Failed, Topic::Accepted, Topic::Canceled],
        &began[..],
        &[Topic::Failed, Topic::Reconciled],
    ];
    assert_eq!(told[3..], after.concat());
    let names: std::collections::HashSet<_> =
        shown(&ledger, &all).await.into_iter().map(|delivery| delivery.message).collect();
    assert_eq!(names.len(), told.len(), "each has a name of its own");
    close(ledger, tasks).await;
}

#[tokio::test]
async fn what_one_node_makes_due_another_hears_of_before_it_looks() {
    let place = Place::postgres();
    // What is told is told by a clock that goes on.
    let (clock, tasks) = (Clock::system(), [Tasks::new(), Tasks::new()]);
    let one = Ledger::open(place.opening(), &clock, &tasks[0]).await.unwrap();
    let other = Ledger::open(place.opening(), &clock, &tasks[1]).await.unwrap();
    one.lend_scribe(Arc::new(Words));
    let whole = subscribed(&one, subscription(1, settings([Topic::Succeeded]))).await;
    let lane = DeliveryLane { receiver: whole.receiver, again: false };
    for _ in 0..2000 {
        // Once more, because whoever has only just opened it may not listen yet.
        one.ping(whole.id, clock.now()).await.unwrap();
        if other.due_deliveries(clock.now()) == [lane] {
            break;
        }
        clock.sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(other.due_deliveries(clock.now()), [lane]);
    let [first, second] = tasks;
    close(one, first).await;
    close(other, second).await;
}

/// An outbox with space for one delivery at a time, where it is open.
#[derive(Clone, Default)]
struct Outside {
    open: Arc<AtomicBool>,
    expected: Arc<Mutex<Vec<DeliveryLease>>>,
    taken: Arc<Mutex<Vec<LeasedDelivery>>>,
}

impl Outbox for Outside {
    fn reserve(&self, _: ReceiverKey) -> Option<Box<dyn Space>> {
        self.open.swap(false, Ordering::SeqCst).then(|| Box::new(self.clone()) as Box<dyn Space>)
    }
}

impl Space for Outside {
    fn expect(&mut self, lease: DeliveryLease) {
        self.expected.lock().unwrap().push(lease);
    }

    fn take(self: Box<Self>, delivery: LeasedDelivery) {
        self.taken.lock().unwrap().push(delivery);
    }
}

async fn what_the_courier_has_space_for_is_handed_out_in_the_commit_of_its_event(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let outside = Outside::default();
    ledger.lend_outbox(Arc::new(outside.clone()));
    let one = subscribed(&ledger, subscription(1, settings([Topic::Succeeded]))).await;
    let two = subscribed(&ledger, subscription(2, settings([Topic::Succeeded]))).await;
    outside.open.store(true, Ordering::SeqCst);
    done(&ledger, operation(1, START)).await;
    let handed: Vec<_> = outside.taken.lock().unwrap().drain(..).collect();
    assert_eq!(handed.len(), 1, "there was space for one");
    assert_eq!(*outside.expected.lock().unwrap(), [handed[0].lease]);
    assert!(matches!(shown(&ledger, &one).await[0].state, DeliveryState::Sending { .. }));
    assert_eq!(ledger.sent_here().await.unwrap(), [handed[0].lease]);
    // It is as one that is claimed.
    let asked = claimed(&ledger, START).await;
    assert_eq!((asked.len(), asked[0].receiver), (1, two.receiver));
    let both = [&handed[0], &asked[0]].map(|leased| {
        let LeasedDelivery { message, body, format, topic, at, deadline_at, .. } = leased;
        (message, body, format, topic, at, deadline_at, leased.attempts, leased.refusals)
    });
    assert_eq!(both[0], both[1]);
    let shown_of = async |of: &Subscription| ledger.receiver(of.receiver).await.unwrap().unwrap();
    assert_eq!(handed[0].receiver_changed, shown_of(&one).await.changed);
    settled(&ledger, &handed, FAILED, START).await;
    let due = ledger.next_delivery(START).unwrap();
    let again = claimed(&ledger, due).await;
    assert_eq!((again[0].attempts, again[0].lease.delivery), (2, handed[0].lease.delivery));
    settled(&ledger, &again, Attempted::Taken, due).await;
    assert_eq!(shown(&ledger, &one).await[0].log.len(), 2);
    close(ledger, tasks).await;
}

async fn what_failed_is_due_again_and_whoever_was_overtaken_changes_nothing(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let whole = subscribed(&ledger, subscription(1, settings([Topic::Succeeded]))).await;
    done(&ledger, operation(1, START)).await;
    let first = claimed(&ledger, START).await;
    settled(&ledger, &first, FAILED, START).await;
    let again = DeliveryLane { receiver: whole.receiver, again: true };
    let due = ledger.next_delivery(START).unwrap();
    assert!(due > START + SECOND * 3 && due < START + SECOND * 7);
    assert_eq!(ledger.due_deliveries(due), [again]);
    let second = claimed(&ledger, due).await;
    assert_eq!((second[0].attempts, &second[0].message), (2, &first[0].message));
    assert_eq!(second[0].body, first[0].body);
    let late = ledger.settle_deliveries(vec![end_of(&first[0], Attempted::Taken, due)]).await;
    assert_eq!(late.unwrap(), [DeliverySettled::Stale]);
    let back = settled_as(&second[0], DeliveryNext::Back(due), due);
    assert_eq!(ledger.settle_deliveries(vec![back]).await.unwrap(), [DeliverySettled::Done]);
    let third = claimed(&ledger, due).await;
    assert_eq!(third[0].attempts, 2, "what was not sent does not count");
    settled(&ledger, &third, Attempted::Taken, due).await;
    assert_eq!(shown(&ledger, &whole).await[0].log.len(), 2);
    close(ledger, tasks).await;
}

async fn more_than_sixteen_are_told_by_a_fan_out_that_can_be_interrupted(place: Place) {
    const MANY: u16 = 1100;
    let (ledger, tasks) = opened(&place).await;
    for number in 0..MANY {
        let topic = if number % 2 == 0 { Topic::Succeeded } else { Topic::Failed };
        subscribed(&ledger, subscription(number, settings([topic]))).await;
    }
    let id = done(&ledger, operation(1, START)).await;
    assert_eq!(ledger.due_deliveries(START).len(), 16);
    assert!(ledger.fan_out().await.unwrap());
    // Who comes later did not stand then.
    let later = subscribed(&ledger, subscription(MANY, settings([Topic::Succeeded]))).await;
    close(ledger, tasks).await;
    let (ledger, tasks) = opened(&place).await;
    while ledger.fan_out().await.unwrap() {}
    let out = claimed(&ledger, START).await;
    let receivers: std::collections::HashSet<_> =
        out.iter().map(|leased| leased.receiver).collect();
    assert_eq!((out.len(), receivers.len()), (usize::from(MANY) / 2, usize::from(MANY) / 2));
    assert!(!receivers.contains(&later.receiver));
    assert!(out.iter().all(|leased| *leased.message == format!("msg_{id}_3")));
    close(ledger, tasks).await;
}

/// Makes as many subscriptions like that one as there are to be in all. A later start finds
/// them; one after the other they would take minutes.
async fn multiplied(place: &Place, of: &Subscription, count: usize) {
    use sqlx::Connection;
    let columns =
        "kind, principal, url, created_at, changed_at, changed, state, events, headers, format";
    let id = match place {
        Place::File(_) => "randomblob(16)",
        Place::Database(_) => "decode(md5(n.number::text), 'hex')",
    };
    let sql = format!(
        "WITH RECURSIVE n (number) AS (SELECT 2 UNION ALL SELECT number + 1 FROM n WHERE number < {count}) \
         INSERT INTO receivers ({columns}, id) SELECT {columns}, {id} FROM receivers CROSS JOIN n \
         WHERE receiver = {}",
        of.receiver.0
    );
    match place {
        Place::File(folder) => {
            let path = format!("sqlite:{}/cloakroom.db", folder.path().display());
            let mut connection = sqlx::SqliteConnection::connect(&path).await.unwrap();
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
        Place::Database(url) => {
            let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
    }
}

async fn ten_thousand_are_told_of_one_event_once_each_though_it_is_interrupted(place: Place) {
    const ALL: usize = 10_000;
    let (ledger, tasks) = opened(&place).await;
    let first = subscribed(&ledger, subscription(1, settings([Topic::Succeeded]))).await;
    close(ledger, tasks).await;
    multiplied(&place, &first, ALL).await;
    let (ledger, tasks) = opened(&place).await;
    let id = done(&ledger, operation(1, START)).await;
    let at_once = ledger.due_deliveries(START).len();
    let mut steps = 0;
    while ledger.due_deliveries(START).len() < ALL / 2 {
        assert!(ledger.fan_out().await.unwrap(), "it ended before it was half done");
        steps += 1;
    }
    let half = claimed(&ledger, START).await;
    ledger.leave(Vec::new(), START).await.unwrap();
    close(ledger, tasks).await;
    let (ledger, tasks) = opened(&place).await;
    // What had been handed out is the same to whoever comes next.
    while ledger.take_back_deliveries(1000, START).await.unwrap() > 0 {}
    let mut more = 0;
    while ledger.fan_out().await.unwrap() {
        more += 1;
    }
    let out = claimed(&ledger, START).await;
    let receivers: std::collections::HashSet<_> = out.iter().map(|out| out.receiver).collect();
    let name = format!("msg_{id}_3");
    let body = &out[0].body;
    let same = out.iter().chain(&half).filter(|out| *out.message == *name && out.body == *body);
    let same = same.count();
    println!(
        "counts: {ALL} subscriptions, {at_once} deliveries with the event, {} after {steps} steps, \
         {} after {more} more to {} receivers",
        half.len(),
        out.len(),
        receivers.len()
    );
    assert_eq!((out.len(), receivers.len(), same), (ALL, ALL, ALL + half.len()));
    assert!((at_once, half.len() < ALL, more > 0) == (16, true, true));
    settled(&ledger, &out, Attempted::Taken, START).await;
    assert!(claimed(&ledger, START + DAY).await.is_empty(), "each of them was told once");
    close(ledger, tasks).await;
}

async fn what_comes_for_a_disabled_subscription_is_held_and_can_be_replayed(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let own = [Topic::Succeeded, Topic::Disabled, Topic::Recovered];
    let whole = subscribed(&ledger, subscription(1, settings(own))).await;
    let other = subscribed(&ledger, subscription(2, settings([Topic::Disabled]))).await;
    done(&ledger, operation(1, START)).await;
    let out = claimed(&ledger, START).await;
    settled(&ledger, &out, Attempted::Gone, START).await;
    let found = ledger.subscription(None, whole.id).await.unwrap().unwrap();
    let gone = SubscriptionState::Disabled { at: START, why: DisabledFor::Gone };
    assert_eq!(found.state, gone);
    assert_eq!(topics_of(&ledger, &other).await, [Topic::Disabled]);
    done(&ledger, operation(2, START)).await;
    let states: Vec<_> = shown(&ledger, &whole).await.iter().map(|shown| shown.state).collect();
    let held = DeliveryState::Held { since: START };
    let ended = DeliveryState::Ended { how: DeliveryEnd::Gone, at: START };
    assert_eq!(states, [held, held, ended]);
    let enable = Changing {
        id: whole.id,
        principal: None,
        unless_since: None,
        change: Change::Enable,
        at: START,
    };
    assert!(matches!(ledger.change_subscription(enable).await.unwrap(), Changed::Done(_)));
    let lanes = ledger.due_deliveries(START);
    assert!(lanes.iter().all(|lane| lane.receiver == other.receiver), "held until it is asked for");
    let step = ReplayStep {
        receiver: whole.receiver,
        select: Selected::All,
        since: START,
        until: START + HOUR,
        after: None,
        limit: 2,
        at: START + SECOND,
    };
    let first = ledger.replay(step).await.unwrap();
    assert_eq!(first.count, 2);
    let second = ledger.replay(ReplayStep { after: first.after, ..step }).await.unwrap();
    assert_eq!((second.count, second.after.is_some()), (1, true));
    // The step whose end nobody heard of.
    assert_eq!(ledger.replay(step).await.unwrap().count, 0);
    let again: Vec<_> = claimed(&ledger, START + SECOND).await;
    let again: Vec<_> =
        again.into_iter().filter(|leased| leased.receiver == whole.receiver).collect();
    assert_eq!(again.len(), 3);
    assert!(
        again.iter().any(|leased| leased.message == out[0].message && leased.body == out[0].body)
    );
    settled(&ledger, &again, Attempted::Taken, START + SECOND).await;
    assert!(topics_of(&ledger, &whole).await.contains(&Topic::Recovered));
    close(ledger, tasks).await;
}

async fn a_receiver_that_only_fails_for_days_is_disabled(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let all = [Topic::Succeeded, Topic::Exhausted, Topic::Disabled];
    let whole = subscribed(&ledger, subscription(1, settings([Topic::Succeeded]))).await;
    let watching = NewSubscription {
        settings: SubscriptionSettings { routes: vec!["none".to_owned()], ..settings(all) },
        ..subscription(2, settings([]))
    };
    let watching = subscribed(&ledger, watching).await;
    done(&ledger, operation(1, START)).await;
    let out = claimed(&ledger, START).await;
    settled(&ledger, &out, FAILED, START).await;
    let found = ledger.subscription(None, whole.id).await.unwrap().unwrap();
    assert_eq!(found.failing_since, Some(START));
    let late = START + HOPELESS;
    let out = claimed(&ledger, late).await;
    let exhausted = DeliverySettlement {
        next: DeliveryNext::Settled(
            AttemptRecord {
                number: 2,
                at: late,
                took: SECOND,
                status: None,
                code: Some("timeout".to_owned()),
                next_at: None,
            },
            Next::Over(Ended::Exhausted),
        ),
        ..end_of(&out[0], FAILED, late)
    };
    ledger.settle_deliveries(vec![exhausted]).await.unwrap();
    let found = ledger.subscription(None, whole.id).await.unwrap().unwrap();
    let failing = SubscriptionState::Disabled { at: late, why: DisabledFor::Failing };
    assert_eq!(found.state, failing);
    assert_eq!(topics_of(&ledger, &watching).await, [Topic::Exhausted, Topic::Disabled]);
    // What is about webhooks gives rise to nothing, however it ends.
    let about: Vec<_> = claimed(&ledger, late).await;
    settled(&ledger, &about, Attempted::Gone, late).await;
    let found = ledger.subscription(None, watching.id).await.unwrap().unwrap();
    let gone = SubscriptionState::Disabled { at: late, why: DisabledFor::Gone };
    assert_eq!((found.state, shown(&ledger, &watching).await.len()), (gone, 2));
    close(ledger, tasks).await;
}

async fn what_is_due_for_a_receiver_that_takes_nothing_is_put_aside(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let whole = subscribed(&ledger, subscription(1, settings([Topic::Succeeded]))).await;
    for number in 1..=3 {
        done(&ledger, operation(number, START)).await;
    }
    let changing = |change| Changing {
        id: whole.id,
        principal: Some(Principal::everyone()),
        unless_since: None,
        change,
        at: START,
    };
    assert_eq!(ledger.put_aside(whole.receiver, 2, START).await.unwrap(), 0);
    ledger.change_subscription(changing(Change::Disable(DisabledFor::Asked))).await.unwrap();
    assert!(claimed(&ledger, START).await.is_empty());
    assert_eq!(ledger.put_aside(whole.receiver, 2, START).await.unwrap(), 2);
    ledger.change_subscription(changing(Change::Delete)).await.unwrap();
    assert_eq!(ledger.put_aside(whole.receiver, 2, START).await.unwrap(), 1);
    assert!(ledger.subscription(None, whole.id).await.unwrap().is_none());
    // Nor is anything held for somebody who is gone.
    let pruned = ledger.prune_deliveries(1, START, START, START).await.unwrap();
    assert_eq!(pruned.dropped, 1);
    let pruned = ledger.prune_deliveries(9, START, START, START).await.unwrap();
    assert_eq!(pruned.dropped, 1);
    let strange = ledger.change_subscription(changing(Change::Enable)).await.unwrap();
    assert!(matches!(strange, Changed::Unknown));
    close(ledger, tasks).await;
}

/// Adds keys of that owner, of which three may sign; the others are left so long.
async fn rotated(
    ledger: &Ledger,
    owner: &KeyOwner,
    keys: Vec<NewKey>,
    (beside, grace): (bool, Duration),
    at: Timestamp,
) -> Rotated {
    let rotation = Rotation { owner: owner.clone(), keys, beside, grace, most: 3, at };
    ledger.rotate_keys(rotation).await.unwrap()
}

/// What that owner's messages are signed with, and until when; the newest first.
async fn signing(ledger: &Ledger, owner: &KeyOwner) -> Vec<(String, Option<Timestamp>)> {
    let keys = ledger.signing_keys(owner).await.unwrap();
    let text = |key: &SigningKey| String::from_utf8(key.sealed.to_vec()).unwrap();
    keys.iter().map(|key| (text(key), key.retires_at)).collect()
}

async fn keys_are_rotated_with_a_grace_and_only_so_many_sign(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let whole = subscribed(&ledger, subscription(1, settings([Topic::Succeeded]))).await;
    let owner = KeyOwner::Receiver(whole.receiver);
    let rotate =
        |secret, grace, at| rotated(&ledger, &owner, vec![key(secret)], (false, grace), at);
    assert_eq!(rotate("second", DAY, START).await, Rotated::Done);
    assert_eq!(rotate("third", DAY, START + HOUR).await, Rotated::Done);
    let before = signing(&ledger, &owner).await;
    let retires = [None, Some(START + HOUR + DAY), Some(START + DAY)];
    let secrets = ["third", "second", "first"].map(String::from);
    assert_eq!(before, secrets.into_iter().zip(retires).collect::<Vec<_>>());
    assert_eq!(rotate("fourth", HOUR, START + HOUR).await, Rotated::TooMany);
    assert_eq!(signing(&ledger, &owner).await, before, "as it was");
    assert_eq!(rotate("fourth", DAY, START + DAY).await, Rotated::Done);
    assert_eq!(signing(&ledger, &owner).await.len(), 3);
    let receiver = ledger.receiver(whole.receiver).await.unwrap().unwrap();
    assert_eq!(receiver.keys.len(), 3);
    close(ledger, tasks).await;
}

async fn whatever_changes_a_receiver_is_known_when_it_is_answered(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let whole = subscribed(&ledger, subscription(1, settings([Topic::Succeeded]))).await;
    let (receiver, changed) = (whole.receiver, whole.changed);
    assert!(!ledger.receiver_has_changed(receiver, changed));
    assert!(ledger.receiver_has_changed(receiver, changed - 1));
    // This one is behind all that is known here.
    assert!(!ledger.receiver_has_changed(ReceiverKey(receiver.0 + 1), changed + 1));
    let owner = KeyOwner::Receiver(receiver);
    rotated(&ledger, &owner, vec![key("second")], (false, Duration::ZERO), START).await;
    assert!(ledger.receiver_has_changed(receiver, changed));
    let stands = ledger.receiver(receiver).await.unwrap().unwrap().changed;
    assert!(!ledger.receiver_has_changed(receiver, stands));
    let change = Change::Delete;
    let gone = Changing { id: whole.id, principal: None, unless_since: None, change, at: START };
    ledger.change_subscription(gone).await.unwrap();
    assert!(ledger.receiver_has_changed(receiver, stands));
    close(ledger, tasks).await;
}

#[tokio::test]
async fn a_key_that_is_cut_on_one_node_is_known_on_another_that_writes_nothing() {
    let place = Place::postgres();
    let [(one, tasks), (other, more_tasks)] = two(&place).await;
    let whole = subscribed(&one, subscription(1, settings([Topic::Succeeded]))).await;
    let owner = KeyOwner::Receiver(whole.receiver);
    rotated(&one, &owner, vec![key("second")], (false, Duration::ZERO), START).await;
    let clock = Clock::system();
    for _ in 0..2000 {
        if other.receiver_has_changed(whole.receiver, whole.changed) {
            break;
        }
        clock.sleep(Duration::from_millis(5)).await;
    }
    assert!(other.receiver_has_changed(whole.receiver, whole.changed));
    close(one, tasks).await;
    close(other, more_tasks).await;
}

async fn a_grace_shortens_what_signs_and_lengthens_nothing(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let whole = subscribed(&ledger, subscription(1, settings([Topic::Succeeded]))).await;
    let owner = KeyOwner::Receiver(whole.receiver);
    let rotate = |secret, grace| rotated(&ledger, &owner, vec![key(secret)], (false, grace), START);
    rotate("second", DAY).await;
    rotate("third", HOUR).await;
    let soon = Some(START + HOUR);
    let secrets = ["third", "second", "first"].map(String::from);
    let expected: Vec<_> = secrets.into_iter().zip([None, soon, soon]).collect();
    assert_eq!(signing(&ledger, &owner).await, expected);
    // As many sign as may: none of them does any more, and so one more may.
    assert_eq!(rotate("fourth", Duration::ZERO).await, Rotated::Done);
    assert_eq!(signing(&ledger, &owner).await, [("fourth".to_owned(), None)]);
    rotate("fifth", HOUR).await;
    rotate("sixth", DAY).await;
    let ends: Vec<_> = signing(&ledger, &owner).await.into_iter().map(|(_, end)| end).collect();
    assert_eq!(ends, [None, Some(START + DAY), soon]);
    close(ledger, tasks).await;
}

async fn another_kind_takes_the_place_of_the_first_or_signs_beside_it(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let pair = |secret| NewKey { kind: KeyKind::V1a, ..key(secret) };
    let mut owners = Vec::new();
    for (number, beside) in [(1, false), (2, true)] {
        let new = subscription(number, settings([Topic::Succeeded]));
        let owner = KeyOwner::Receiver(subscribed(&ledger, new).await.receiver);
        rotated(&ledger, &owner, vec![pair("pair")], (beside, HOUR), START).await;
        let end = (!beside).then_some(START + HOUR);
        let signs = [("pair".to_owned(), None), ("first".to_owned(), end)];
        assert_eq!(signing(&ledger, &owner).await, signs);
        owners.push(owner);
    }
    // Both kinds are made anew at once.
    let both = vec![key("next"), pair("next pair")];
    rotated(&ledger, &owners[1], both, (false, Duration::ZERO), START).await;
    let signs = [("next pair".to_owned(), None), ("next".to_owned(), None)];
    assert_eq!(signing(&ledger, &owners[1]).await, signs);
    close(ledger, tasks).await;
}

async fn a_principal_has_no_more_subscriptions_than_it_may(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let new =
        |number| NewSubscription { most: 2, ..subscription(number, settings([Topic::Failed])) };
    let first = subscribed(&ledger, new(1)).await;
    subscribed(&ledger, new(2)).await;
    assert!(matches!(ledger.subscribe(new(3)).await.unwrap(), Subscribed::TooMany));
    let eve = NewSubscription { principal: Principal::named("eve"), ..new(4) };
    subscribed(&ledger, eve).await;
    let delete = Changing {
        id: first.id,
        principal: Some(Principal::named("eve")),
        unless_since: None,
        change: Change::Delete,
        at: START,
    };
    let strange = ledger.change_subscription(delete.clone()).await.unwrap();
    assert!(matches!(strange, Changed::Unknown));
    let own = Changing { principal: None, unless_since: Some(first.edited), ..delete };
    ledger.change_subscription(own).await.unwrap();
    let third = subscribed(&ledger, new(3)).await;
    let everyone = SubscriptionListing {
        principal: Some(Principal::everyone()),
        limit: 9,
        ..SubscriptionListing::default()
    };
    assert_eq!(ledger.subscriptions(&everyone).await.unwrap().len(), 2);
    let settings = Change::Settings(Box::new(settings([Topic::Canceled])));
    let changing = Changing {
        id: third.id,
        principal: None,
        unless_since: Some(third.edited),
        change: settings,
        at: START + SECOND,
    };
    let Changed::Done(now) = ledger.change_subscription(changing.clone()).await.unwrap() else {
        panic!("it was not changed")
    };
    assert_eq!(now.settings.topics, [Topic::Canceled].into_iter().collect());
    let meanwhile = ledger.change_subscription(changing).await.unwrap();
    assert!(matches!(meanwhile, Changed::Meanwhile));
    close(ledger, tasks).await;
}

async fn what_a_receiver_allows_is_kept_with_where_it_is_sent_to(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let made = subscribed(&ledger, subscription(1, settings([Topic::Succeeded]))).await;
    let allows = |per_minute| Permission { per_minute };
    let moved =
        |per_minute| Change::Moved(Box::new(settings([Topic::Succeeded])), allows(per_minute));
    for (change, rate) in [
        (Change::Agreed(allows(Some(60))), Some(60)),
        (Change::Settings(Box::new(settings([Topic::Failed]))), Some(60)),
        (Change::Disable(DisabledFor::Asked), Some(60)),
        (Change::Enable, Some(60)),
        (moved(Some(u32::MAX)), Some(u32::MAX)),
        (moved(None), None),
    ] {
        let said = format!("{change:?}");
        let before = shown_of(&made, &ledger).await.edited;
        let (id, principal, at) = (made.id, None, START);
        let changing = Changing { id, principal, unless_since: Some(before), change, at };
        let Changed::Done(now) = ledger.change_subscription(changing).await.unwrap() else {
            panic!("{said} was not done")
        };
        let shown = shown_of(&made, &ledger).await;
        assert_eq!((shown.allowed_rate, shown.edited), (rate, now.edited), "{said}");
        assert_eq!(now.allowed_rate, rate, "{said}");
        assert!(shown.edited > before, "{said}");
        let known = ledger.owners().allowed_rate(made.receiver).map(|rate| rate.to_string());
        assert_eq!(known, rate.map(|rate| format!("{rate}/m")), "{said}");
    }
    close(ledger, tasks).await;
}

async fn shown_of(subscription: &Subscription, ledger: &Ledger) -> Subscription {
    ledger.subscription(None, subscription.id).await.unwrap().unwrap()
}

async fn what_waits_is_counted_no_further_than_wanted(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let made = subscribed(&ledger, subscription(1, settings([Topic::Succeeded]))).await;
    let count = async |most| ledger.count_deliveries(most, START).await.unwrap();
    assert_eq!(count(9).await, DeliveryCounts::default());
    for second in [0, 0, 0, 60, 60] {
        ledger.ping(made.id, START + SECOND * second).await.unwrap();
    }
    assert_eq!(count(9).await, DeliveryCounts { due: 3, later: 2, held: 0 });
    let some = count(4).await;
    assert_eq!(some.due + some.later, 4, "{some:?}");
    let (id, change) = (made.id, Change::Disable(DisabledFor::Asked));
    let off = Changing { id, principal: None, unless_since: None, change, at: START };
    ledger.change_subscription(off).await.unwrap();
    assert_eq!(ledger.put_aside(made.receiver, 3, START).await.unwrap(), 3);
    assert_eq!(count(9).await, DeliveryCounts { due: 0, later: 2, held: 3 });
    assert_eq!(count(2).await.held, 2);
    assert_eq!(ledger.owners().holding(), 1);
    close(ledger, tasks).await;
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

/// Whom the callbacks of an operation count as.
async fn called_back(ledger: &Ledger, id: OperationId) -> ReceiverKey {
    ledger.promised(id).await.unwrap().unwrap().callback.unwrap().receiver
}

async fn an_operation_calls_back_where_it_was_told_to(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let url = "https://client.example/hooks/7";
    let topics = Topics::ENDS.and([Topic::Accepted].into_iter().collect());
    let everyone = Principal::everyone();
    let first = FirstCallback { topics, ..callback_to(url, &everyone, START) };
    let id = done_with(&ledger, operation(1, START), Some(first)).await;
    let receiver = called_back(&ledger, id).await;
    let out = claimed(&ledger, START).await;
    let told: Vec<_> = out.iter().map(|out| (out.topic, out.url.as_deref())).collect();
    assert_eq!(told, [(Topic::Accepted, Some(url)), (Topic::Succeeded, Some(url))]);
    assert!(out[1].body.starts_with(format!("operation.succeeded {id}").as_bytes()));
    let again = callback_to("https://client.example/other", &everyone, START);
    let same = done_with(&ledger, operation(2, START), Some(again)).await;
    let eve = Principal::named("eve");
    let new = NewOperation { principal: eve.clone(), ..operation(3, START) };
    let eves = done_with(&ledger, new, Some(callback_to(url, &eve, START))).await;
    assert_eq!(called_back(&ledger, same).await, receiver);
    assert_ne!(called_back(&ledger, eves).await, receiver);
    let whom = ledger.receiver(receiver).await.unwrap().unwrap();
    assert_eq!((whom.keys.len(), whom.active, whom.subscription), (2, true, None));
    // A callback's receiver is no subscription: 410 ends the delivery and nothing else.
    settled(&ledger, &out, Attempted::Gone, START).await;
    assert!(ledger.receiver(receiver).await.unwrap().unwrap().active);
    close(ledger, tasks).await;
}

async fn callbacks_that_nothing_refers_to_are_retired_and_then_forgotten(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let url = "https://client.example/hooks/7";
    let everyone = Principal::everyone();
    // Calls back, and has been told.
    let calls = async |number, at| {
        let first = callback_to(url, &everyone, at);
        let id = done_with(&ledger, operation(number, at), Some(first)).await;
        settled(&ledger, &claimed(&ledger, at).await, Attempted::Taken, at).await;
        let callback = ledger.promised(id).await.unwrap().unwrap().callback.unwrap();
        assert_eq!((&*callback.url, callback.topics), (url, Topics::ENDS));
        (id, callback.receiver)
    };
    let forget_operations = async |now: Timestamp| {
        for _ in 0..2 {
            ledger.prune(99, now).await.unwrap();
        }
    };
    let (id, receiver) = calls(1, START).await;
    let of = DeliveryListing { of: DeliveriesOf::Callback(id), only: None, before: None, limit: 9 };
    let shown = ledger.deliveries(&of).await.unwrap().deliveries;
    assert_eq!((shown.len(), shown[0].url.as_deref()), (1, Some(url)));
    let forget = async |now: Timestamp| {
        ledger.prune_deliveries(99, now - 30 * DAY, now - 7 * DAY, now).await.unwrap();
    };
    // Those who remember it learn of what has changed since.
    let changed = async || ledger.receiver(receiver).await.unwrap().map(|found| found.changed);
    let before = changed().await;
    // The operation refers to it.
    forget(START + 31 * DAY).await;
    forget(START + 31 * DAY).await;
    assert_eq!(changed().await, before);
    forget_operations(START + 31 * DAY).await;
    assert!(ledger.find(id).await.unwrap().is_none());
    forget(START + 31 * DAY).await;
    assert!(changed().await > before, "every node learns that nobody needs it");
    // Whoever asks again gets the same, as long as it is only retired.
    let again = START + 40 * DAY;
    assert_eq!(calls(2, again).await.1, receiver);
    forget_operations(again + 8 * DAY).await;
    let before = changed().await;
    forget(again + 29 * DAY).await;
    assert_eq!(changed().await, before, "it was asked for lately");
    forget(again + 31 * DAY).await;
    assert!(changed().await > before, "it is still there, for those who know it");
    forget(again + 62 * DAY).await;
    assert_eq!(changed().await, None);
    let (_, anew) = calls(3, again + 62 * DAY).await;
    assert_ne!(anew, receiver);
    assert_eq!(ledger.receiver(anew).await.unwrap().unwrap().keys.len(), 2, "the keys stay");
    close(ledger, tasks).await;
}

async fn whatever_is_refused_leaves_no_receiver_of_callbacks(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let everyone = Principal::everyone();
    let there = "https://client.example";
    let first = || Some(callback_to("https://client.example/hooks/7", &everyone, START));
    let accept = |new| ledger.accept_calling_back(new, first());
    let known = operation(1, START).id;
    ledger.accept(with_key(1, 7, 5, KeyScope::Retained)).await.unwrap();
    let conflict = accept(with_key(2, 7, 6, KeyScope::Retained)).await.unwrap();
    assert_eq!(conflict, Accepted::KeyConflict(known));
    let repeat = accept(with_key(3, 7, 5, KeyScope::Retained)).await.unwrap();
    assert_eq!(repeat, Accepted::Replayed(known));
    let full = accept(NewOperation { max_depth: 1, ..operation(4, START) }).await.unwrap();
    assert_eq!(full, Accepted::QueueFull { depth: 1 });
    assert_eq!(ledger.callbacks(&everyone, there, START).await.unwrap(), None);
    let owner = KeyOwner::Callbacks(everyone.clone());
    assert!(ledger.signing_keys(&owner).await.unwrap().is_empty());
    // Those that are not, share one, however many come at once.
    let (one, other) = tokio::join!(accept(operation(5, START)), accept(operation(6, START)));
    assert!(matches!((one, other), (Ok(Accepted::New(_)), Ok(Accepted::New(_)))));
    let receiver = ledger.callbacks(&everyone, there, START).await.unwrap().unwrap();
    for number in [5, 6] {
        assert_eq!(called_back(&ledger, operation(number, START).id).await, receiver);
    }
    assert_eq!(ledger.signing_keys(&owner).await.unwrap().len(), 2);
    close(ledger, tasks).await;
}

async fn a_result_is_kept_while_its_deliveries_are_under_way_for_six_days_at_most(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    subscribed(&ledger, subscription(1, settings([Topic::Succeeded]))).await;
    let (told, untold) = (operation(1, START), operation(2, START));
    let eves = NewOperation { principal: Principal::named("eve"), ..untold };
    let (kept, freed) = (done(&ledger, told).await, done(&ledger, eves).await);
    ledger.prune(9, START + 2 * HOUR).await.unwrap();
    assert!(ledger.answer(kept).await.unwrap().is_some());
    assert!(ledger.answer(freed).await.unwrap().is_none());
    let later = START + 6 * DAY;
    ledger.prune(9, later - HOUR).await.unwrap();
    assert!(ledger.answer(kept).await.unwrap().is_some());
    ledger.prune(9, later).await.unwrap();
    assert!(ledger.answer(kept).await.unwrap().is_none());
    let body = &claimed(&ledger, START).await[0].body;
    assert!(body.starts_with(b"operation.succeeded"), "a delivery keeps its own");
    close(ledger, tasks).await;
}

async fn what_is_settled_lets_the_result_go(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    subscribed(&ledger, subscription(1, settings([Topic::Succeeded]))).await;
    let id = done(&ledger, operation(1, START)).await;
    let out = claimed(&ledger, START).await;
    ledger.prune(9, START + 2 * HOUR).await.unwrap();
    settled(&ledger, &out, Attempted::Taken, START + 2 * HOUR).await;
    ledger.prune(9, START + 2 * HOUR).await.unwrap();
    assert!(ledger.answer(id).await.unwrap().is_some(), "it is looked at again in an hour");
    ledger.prune(9, START + 3 * HOUR).await.unwrap();
    assert!(ledger.answer(id).await.unwrap().is_none());
    for _ in 0..2 {
        ledger.prune(9, START + 8 * DAY).await.unwrap();
    }
    assert!(ledger.find(id).await.unwrap().is_none());
    let pruned = |over| ledger.prune_deliveries(9, START, over, START + 9 * DAY);
    assert_eq!(pruned(START).await.unwrap().deliveries, 0);
    assert_eq!(pruned(START + DAY).await.unwrap().deliveries, 1);
    close(ledger, tasks).await;
}

async fn what_outlives_an_operation_is_never_taken_to_be_about_a_later_one(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let whole = subscribed(&ledger, subscription(1, settings([Topic::Succeeded]))).await;
    let disable = Changing {
        id: whole.id,
        principal: None,
        unless_since: None,
        change: Change::Disable(DisabledFor::Asked),
        at: START,
    };
    ledger.change_subscription(disable).await.unwrap();
    let first = done(&ledger, operation(1, START)).await;
    let later = START + 9 * DAY;
    for _ in 0..2 {
        ledger.prune(9, later).await.unwrap();
    }
    assert!(ledger.find(first).await.unwrap().is_none());
    close(ledger, tasks).await;
    let (ledger, tasks) = opened(&place).await;
    let eves = NewOperation { principal: Principal::named("eve"), ..operation(2, later) };
    let eves = done(&ledger, eves).await;
    let held = shown(&ledger, &whole).await;
    assert_eq!((held.len(), held[0].operation), (1, None));
    assert!(matches!(held[0].state, DeliveryState::Held { .. }));
    ledger.prune(9, later + HOUR).await.unwrap();
    assert!(ledger.answer(eves).await.unwrap().is_none(), "nobody is to be told of it");
    close(ledger, tasks).await;
}

async fn the_number_of_a_delivery_that_is_gone_stays_its_own(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let whole = subscribed(&ledger, subscription(1, settings([Topic::Succeeded]))).await;
    let told = async |ledger: &Ledger, number| {
        done(ledger, operation(number, START)).await;
        settled(ledger, &claimed(ledger, START).await, Attempted::Taken, START).await;
        shown(ledger, &whole).await[0].key
    };
    let forget = async |ledger: &Ledger| {
        let later = START + DAY;
        let pruned = ledger.prune_deliveries(9, START, later, later).await.unwrap();
        assert_eq!(pruned.deliveries, 1);
    };
    let first = told(&ledger, 1).await;
    forget(&ledger).await;
    let second = told(&ledger, 2).await;
    forget(&ledger).await;
    close(ledger, tasks).await;
    let (ledger, tasks) = opened(&place).await;
    let third = told(&ledger, 3).await;
    assert!(first < second && second < third, "{first:?}, {second:?}, {third:?}");
    close(ledger, tasks).await;
}

async fn a_delivery_keeps_the_form_that_it_was_made_in(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let whole = subscribed(&ledger, subscription(1, settings([Topic::Succeeded]))).await;
    done(&ledger, operation(1, START)).await;
    let first = claimed(&ledger, START).await;
    assert_eq!(first[0].format, Format::Standard);
    settled(&ledger, &first, FAILED, START).await;
    let other = SubscriptionSettings { format: Format::CloudEvents, ..whole.settings.clone() };
    let changing = Changing {
        id: whole.id,
        principal: None,
        unless_since: None,
        change: Change::Settings(Box::new(other)),
        at: START,
    };
    ledger.change_subscription(changing).await.unwrap();
    let later = START + DAY;
    let second = claimed(&ledger, later).await;
    assert_eq!((second[0].attempts, second[0].format), (2, Format::Standard));
    settled(&ledger, &second, Attempted::Taken, later).await;
    let key = second[0].lease.delivery;
    let once_more = ledger.redeliver(whole.receiver, key, later).await.unwrap();
    assert!(matches!(once_more, Redelivered::As(_)));
    let again = claimed(&ledger, later).await;
    assert_eq!((&again[0].message, again[0].format), (&first[0].message, Format::Standard));
    done(&ledger, operation(2, later)).await;
    ledger.ping(whole.id, later).await.unwrap();
    let next: Vec<_> = claimed(&ledger, later).await.iter().map(|next| next.format).collect();
    assert_eq!(next, [Format::CloudEvents; 2]);
    close(ledger, tasks).await;
}

async fn what_is_held_too_long_is_dropped_and_what_is_late_is_given_up(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let whole = subscribed(&ledger, subscription(1, settings([Topic::Succeeded]))).await;
    let watching = subscribed(&ledger, subscription(2, settings([Topic::Exhausted]))).await;
    let id = done(&ledger, operation(1, START)).await;
    let lane = DeliveryLane { receiver: whole.receiver, again: false };
    let nothing: [&str; 0] = [];
    assert_eq!(ledger.give_up_late(lane, 9, START + DAY).await.unwrap(), nothing);
    let late = ledger.give_up_late(lane, 9, START + DEADLINE).await.unwrap();
    assert_eq!(late, [format!("msg_{id}_3")]);
    assert_eq!(topics_of(&ledger, &watching).await, [Topic::Exhausted]);
    let failing = ledger.subscription(None, whole.id).await.unwrap().unwrap().failing_since;
    assert_eq!(failing, Some(START + DEADLINE));
    let disable = Changing {
        id: whole.id,
        principal: None,
        unless_since: None,
        change: Change::Disable(DisabledFor::Asked),
        at: START,
    };
    ledger.change_subscription(disable).await.unwrap();
    done(&ledger, operation(2, START)).await;
    let pruned = ledger.prune_deliveries(9, START + SECOND, START, START + 31 * DAY).await.unwrap();
    assert_eq!((pruned.dropped, pruned.deliveries), (1, 0));
    let ends: Vec<_> = shown(&ledger, &whole).await.iter().map(|shown| shown.state).collect();
    let ended = |how, at| DeliveryState::Ended { how, at };
    let dropped = ended(DeliveryEnd::Dropped, START + 31 * DAY);
    assert_eq!(ends, [dropped, ended(DeliveryEnd::Exhausted, START + DEADLINE)]);
    close(ledger, tasks).await;
}

async fn what_a_gateway_was_sending_when_it_ended_is_sent_by_the_next(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let whole = subscribed(&ledger, subscription(1, settings([Topic::Succeeded]))).await;
    done(&ledger, operation(1, START)).await;
    let cut_off = claimed(&ledger, START).await;
    assert_eq!(ledger.sent_here().await.unwrap(), [cut_off[0].lease]);
    assert_eq!(ledger.take_back_deliveries(9, START).await.unwrap(), 0);
    ledger.leave(Vec::new(), START).await.unwrap();
    close(ledger, tasks).await;
    let (ledger, tasks) = opened(&place).await;
    assert_eq!(ledger.take_back_deliveries(9, START + SECOND).await.unwrap(), 1);
    let out = claimed(&ledger, START + SECOND).await;
    assert_eq!((&out[0].message, &out[0].body), (&cut_off[0].message, &cut_off[0].body));
    assert_eq!((out[0].attempts, out[0].refusals), (2, 1), "what was cut off does not count");
    let late = ledger.settle_deliveries(vec![end_of(&cut_off[0], Attempted::Taken, START)]).await;
    assert_eq!(late.unwrap(), [DeliverySettled::Stale]);
    settled(&ledger, &out, Attempted::Taken, START + SECOND).await;
    assert_eq!(shown(&ledger, &whole).await[0].log.len(), 1);
    done(&ledger, operation(2, START)).await;
    close(ledger, tasks).await;
    // What is due is known from the start.
    let (ledger, tasks) = opened(&place).await;
    assert_eq!(claimed(&ledger, START).await.len(), 1);
    close(ledger, tasks).await;
}

async fn a_test_event_goes_to_one_subscription_and_can_be_delivered_once_more(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let whole = subscribed(&ledger, subscription(1, settings([Topic::Failed]))).await;
    let Redelivered::As(ping) = ledger.ping(whole.id, START).await.unwrap() else {
        panic!("no test event")
    };
    let pending = ledger.redeliver(whole.receiver, ping, START).await.unwrap();
    assert_eq!(pending, Redelivered::Pending);
    let out = claimed(&ledger, START).await;
    assert_eq!((out[0].topic, out[0].lease.delivery), (Topic::Ping, ping));
    settled(&ledger, &out, FAILED, START).await;
    let later = START + DAY;
    let out = claimed(&ledger, later).await;
    settled(&ledger, &out, Attempted::Taken, later).await;
    let Redelivered::As(once_more) = ledger.redeliver(whole.receiver, ping, later).await.unwrap()
    else {
        panic!("not delivered once more")
    };
    let shown = ledger.delivery(whole.receiver, once_more).await.unwrap().unwrap();
    assert_eq!((shown.cause, shown.message), (Cause::Replay, out[0].message.to_string()));
    assert_eq!(
        ledger.redeliver(whole.receiver, DeliveryKey(999), later).await.unwrap(),
        Redelivered::Unknown
    );
    close(ledger, tasks).await;
}

/// Two nodes on one database, which remember that nobody wants to know of anything.
async fn two(place: &Place) -> [(Ledger, Tasks); 2] {
    let two = [opened(place).await, opened(place).await];
    for ((ledger, _), number) in two.iter().zip([101, 102]) {
        done(ledger, operation(number, START)).await;
    }
    two
}

#[tokio::test]
async fn whoever_subscribes_on_one_node_is_told_of_what_another_accepts_and_starts_next() {
    let place = Place::postgres();
    let [(one, tasks), (other, more_tasks)] = two(&place).await;
    let began = [Topic::Accepted, Topic::Started];
    let whole = subscribed(&one, subscription(1, settings(began))).await;
    other.accept(operation(1, START)).await.unwrap();
    claim_one(&other, START).await;
    assert_eq!(topics_of(&one, &whole).await, began);
    close(one, tasks).await;
    close(other, more_tasks).await;
}

#[tokio::test]
async fn whoever_subscribes_on_one_node_is_told_of_what_another_starts_that_waited() {
    let place = Place::postgres();
    let [(one, tasks), (other, more_tasks)] = two(&place).await;
    other.accept(operation(1, START)).await.unwrap();
    let whole = subscribed(&one, subscription(1, settings([Topic::Started]))).await;
    claim_one(&other, START).await;
    assert_eq!(topics_of(&one, &whole).await, [Topic::Started]);
    close(one, tasks).await;
    close(other, more_tasks).await;
}

#[tokio::test]
async fn the_first_callback_on_one_node_is_told_of_what_another_starts() {
    let place = Place::postgres();
    let [(one, tasks), (other, more_tasks)] = two(&place).await;
    let first = callback_to("https://client.example/hooks/7", &Principal::everyone(), START);
    let first = FirstCallback { topics: [Topic::Started].into_iter().collect(), ..first };
    one.accept_calling_back(operation(1, START), Some(first)).await.unwrap();
    let id = claim_one(&other, START).await.id;
    let of = DeliveryListing { of: DeliveriesOf::Callback(id), only: None, before: None, limit: 9 };
    let told = one.deliveries(&of).await.unwrap().deliveries;
    assert_eq!(told.iter().map(|told| told.topic).collect::<Vec<_>>(), [Topic::Started]);
    close(one, tasks).await;
    close(other, more_tasks).await;
}

macro_rules! on {
    ($engine:ident) => {
        suite_of!($engine:
            an_event_is_told_with_the_octets_that_were_written_with_it,
            what_the_courier_has_space_for_is_handed_out_in_the_commit_of_its_event,
            only_those_are_told_who_want_to_know,
            every_kind_of_event_is_told_whatever_wrote_it,
            what_failed_is_due_again_and_whoever_was_overtaken_changes_nothing,
            more_than_sixteen_are_told_by_a_fan_out_that_can_be_interrupted,
            ten_thousand_are_told_of_one_event_once_each_though_it_is_interrupted,
            what_comes_for_a_disabled_subscription_is_held_and_can_be_replayed,
            a_receiver_that_only_fails_for_days_is_disabled,
            what_is_due_for_a_receiver_that_takes_nothing_is_put_aside,
            keys_are_rotated_with_a_grace_and_only_so_many_sign,
            whatever_changes_a_receiver_is_known_when_it_is_answered,
            a_grace_shortens_what_signs_and_lengthens_nothing,
            another_kind_takes_the_place_of_the_first_or_signs_beside_it,
            a_principal_has_no_more_subscriptions_than_it_may,
            what_a_receiver_allows_is_kept_with_where_it_is_sent_to,
            what_waits_is_counted_no_further_than_wanted,
            an_operation_calls_back_where_it_was_told_to,
            callbacks_that_nothing_refers_to_are_retired_and_then_forgotten,
            whatever_is_refused_leaves_no_receiver_of_callbacks,
            a_result_is_kept_while_its_deliveries_are_under_way_for_six_days_at_most,
            what_is_settled_lets_the_result_go,
            what_outlives_an_operation_is_never_taken_to_be_about_a_later_one,
            the_number_of_a_delivery_that_is_gone_stays_its_own,
            a_delivery_keeps_the_form_that_it_was_made_in,
            what_is_held_too_long_is_dropped_and_what_is_late_is_given_up,
            what_a_gateway_was_sending_when_it_ended_is_sent_by_the_next,
            a_test_event_goes_to_one_subscription_and_can_be_delivered_once_more,
        );
    };
}

on!(sqlite);
on!(postgres);
