//! The events that receivers are told of, and the commit that tells.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

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
    settled(&ledger, &out, SendResult::Taken, START + SECOND).await;
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

/// Panics at the first message.
#[derive(Default)]
struct Panicking(AtomicBool);

impl MessageRenderer for Panicking {
    fn about_operation(
        &self,
        topic: Topic,
        operation: &Operation,
        sequence: u32,
        at: Timestamp,
        base: Option<&str>,
    ) -> Message {
        assert!(self.0.swap(true, Ordering::SeqCst), "a panic on purpose");
        Words.about_operation(topic, operation, sequence, at, base)
    }

    fn about_subscription(
        &self,
        topic: Topic,
        subscription: &Subscription,
        delivery: Option<&str>,
        at: Timestamp,
    ) -> Message {
        Words.about_subscription(topic, subscription, delivery, at)
    }
}

async fn a_panic_in_a_commit_undoes_its_group_and_holds_up_no_later_write(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    ledger.lend_renderer(Arc::new(Panicking::default()));
    let whole = subscribed(&ledger, subscription(1, settings([Topic::Accepted]))).await;
    let given_up = ledger.accept(operation(1, START)).await;
    assert!(matches!(given_up, Err(LedgerError::Unavailable(_))), "{given_up:?}");
    assert!(ledger.find(operation(1, START).id).await.unwrap().is_none());
    ledger.accept(operation(1, START)).await.unwrap();
    assert!(ledger.find(operation(1, START).id).await.unwrap().is_some());
    assert_eq!(shown(&ledger, &whole).await.len(), 1);
    close(ledger, tasks).await;
}

async fn every_kind_of_event_is_told_whatever_wrote_it(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let all = Topic::ALL.into_iter().filter(|topic| topic.is_of_operation());
    let all = subscribed(&ledger, subscription(1, settings(all))).await;
    // Once more, so that the node need not find out that a receiver subscribes.
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
    new.policy.delivery = DeliveryGuarantee::AtMostOnce;
    ledger.accept(new).await.unwrap();
    let broken = Outcome::Broken { sent: SendState::Perhaps, cause: ErrorCode::UpstreamProtocol };
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
    one.lend_renderer(Arc::new(Words));
    let whole = subscribed(&one, subscription(1, settings([Topic::Succeeded]))).await;
    let lane = DeliveryLane { receiver: whole.receiver, again: false };
    for _ in 0..2000 {
        // Once more, because a node that has only just opened it may not listen yet.
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

/// Delivery slots with space for one delivery at a time, where it is open.
#[derive(Clone, Default)]
struct Outside {
    open: Arc<AtomicBool>,
    expected: Arc<Mutex<Vec<DeliveryLease>>>,
    taken: Arc<Mutex<Vec<LeasedDelivery>>>,
}

impl DeliverySlots for Outside {
    fn reserve(&self, _: ReceiverKey) -> Option<Box<dyn DeliverySlot>> {
        self.open
            .swap(false, Ordering::SeqCst)
            .then(|| Box::new(self.clone()) as Box<dyn DeliverySlot>)
    }
}

impl DeliverySlot for Outside {
    fn expect(&mut self, lease: DeliveryLease) {
        self.expected.lock().unwrap().push(lease);
    }

    fn take(self: Box<Self>, delivery: LeasedDelivery) {
        self.taken.lock().unwrap().push(delivery);
    }
}

async fn a_delivery_with_a_free_slot_is_handed_out_in_the_commit_of_its_event(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let outside = Outside::default();
    ledger.lend_delivery_slots(Arc::new(outside.clone()));
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
    settled(&ledger, &again, SendResult::Taken, due).await;
    assert_eq!(shown(&ledger, &one).await[0].log.len(), 2);
    close(ledger, tasks).await;
}

async fn what_outlives_an_operation_is_never_taken_to_be_about_a_later_one(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let whole = subscribed(&ledger, subscription(1, settings([Topic::Succeeded]))).await;
    let disable = SubscriptionUpdate {
        id: whole.id,
        principal: None,
        unless_since: None,
        change: SubscriptionChange::Disable(DisabledFor::Asked),
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
    assert!(ledger.answer(eves).await.unwrap().is_none(), "no receiver is to be told of it");
    close(ledger, tasks).await;
}

async fn a_test_event_that_is_held_is_replayed_and_one_that_is_over_is_not(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let whole = subscribed(&ledger, subscription(1, settings([Topic::Failed]))).await;
    assert!(matches!(ledger.ping(whole.id, START).await.unwrap(), RedeliveryOutcome::As(_)));
    let change = |change| {
        let id = whole.id;
        ledger.change_subscription(SubscriptionUpdate {
            id,
            principal: None,
            unless_since: None,
            change,
            at: START,
        })
    };
    change(SubscriptionChange::Disable(DisabledFor::Asked)).await.unwrap();
    assert_eq!(ledger.hold_deliveries(whole.receiver, 9, START).await.unwrap(), 1);
    change(SubscriptionChange::Enable).await.unwrap();
    let later = START + SECOND;
    let step = ReplayStep {
        receiver: whole.receiver,
        select: DeliverySelection::Held,
        since: START,
        until: later,
        after: None,
        limit: 9,
        at: later,
    };
    assert_eq!(ledger.replay(step).await.unwrap().count, 1);
    let out = claimed(&ledger, later).await;
    assert_eq!(out.iter().map(|leased| leased.topic).collect::<Vec<_>>(), [Topic::Ping]);
    settled(&ledger, &out, SendResult::Taken, later).await;
    let all = ReplayStep {
        select: DeliverySelection::All,
        until: START + HOUR,
        at: START + HOUR,
        ..step
    };
    assert_eq!(ledger.replay(all).await.unwrap().count, 0);
    close(ledger, tasks).await;
}

async fn a_test_event_goes_to_one_subscription_and_can_be_delivered_once_more(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let whole = subscribed(&ledger, subscription(1, settings([Topic::Failed]))).await;
    let RedeliveryOutcome::As(ping) = ledger.ping(whole.id, START).await.unwrap() else {
        panic!("no test event")
    };
    let due = ledger.redeliver(whole.receiver, ping, START).await.unwrap();
    assert_eq!(due, RedeliveryOutcome::As(ping), "it goes out as it is");
    let out = claimed(&ledger, START).await;
    let sent = ledger.redeliver(whole.receiver, ping, START).await.unwrap();
    assert_eq!(sent, RedeliveryOutcome::Pending);
    assert_eq!((out[0].topic, out[0].lease.delivery), (Topic::Ping, ping));
    settled(&ledger, &out, FAILED, START).await;
    let later = START + DAY;
    let out = claimed(&ledger, later).await;
    settled(&ledger, &out, SendResult::Taken, later).await;
    let RedeliveryOutcome::As(once_more) =
        ledger.redeliver(whole.receiver, ping, later).await.unwrap()
    else {
        panic!("not delivered once more")
    };
    let shown = ledger.delivery(whole.receiver, once_more).await.unwrap().unwrap();
    assert_eq!((shown.cause, shown.message), (Cause::Replay, out[0].message.to_string()));
    assert_eq!(
        ledger.redeliver(whole.receiver, DeliveryKey(999), later).await.unwrap(),
        RedeliveryOutcome::Unknown
    );
    close(ledger, tasks).await;
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
            a_panic_in_a_commit_undoes_its_group_and_holds_up_no_later_write,
            an_event_is_told_with_the_octets_that_were_written_with_it,
            only_those_are_told_who_want_to_know,
            every_kind_of_event_is_told_whatever_wrote_it,
            a_delivery_with_a_free_slot_is_handed_out_in_the_commit_of_its_event,
            what_outlives_an_operation_is_never_taken_to_be_about_a_later_one,
            a_test_event_goes_to_one_subscription_and_can_be_delivered_once_more,
            a_test_event_that_is_held_is_replayed_and_one_that_is_over_is_not,
        );
    };
}

on!(sqlite);
on!(postgres);
