use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::FutureExt;
use tempfile::TempDir;
use tokio::sync::watch;

use super::*;
use cloakroom_domain::operation::{
    DeliveryGuarantee as Promise, Lane, NewOperation, OnFailure, OperationBody, Policy, Request,
    RetryPolicy, Work,
};
use cloakroom_domain::sealing::Keyring;
use cloakroom_domain::webhooks::{DEADLINE, DeliveryError, ReceiverKey, Topic, Topics};
use cloakroom_domain::{Fields, OperationId, Principal};
use cloakroom_ledger::{
    DeliveriesOf, Delivery, DeliveryListing, DeliverySlots, DeliveryState, DeliveryWant,
    DisabledFor, Format, Freeing, KeyKind, KeyOwner, KeyRotation, Location, Message,
    MessageRenderer, NewKey, NewSubscription, Opening, Operation, Retention, RotationOutcome,
    SubscribeOutcome, Subscription, SubscriptionChange, SubscriptionId, SubscriptionSettings,
    SubscriptionUpdate, UpdateOutcome,
};

const START: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);
const MILLI: Duration = Duration::from_millis(1);
const TAKEN: ReceiverAnswer =
    ReceiverAnswer { status: Some(200), error: None, retry_after: None, is_cut: false };

/// What a sender of the tests does with a message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Does {
    Answer(u16),
    Hang,
    Panic,
}

/// Answers as it is told to, and remembers what it was given.
struct Pretender {
    does: watch::Receiver<Does>,
    sent: watch::Sender<Vec<(String, String)>>,
}

impl DeliveryTransport for Pretender {
    type Address = String;

    fn address(&self, receiver: &Receiver) -> Result<String, String> {
        Ok(receiver.url.clone())
    }

    async fn send(
        &self,
        url: &String,
        delivery: &LeasedDelivery,
        _: Timestamp,
    ) -> Option<ReceiverAnswer> {
        let does = *self.does.borrow();
        self.sent.send_modify(|sent| sent.push((url.clone(), delivery.message.to_string())));
        Some(match does {
            Does::Answer(200) => TAKEN,
            Does::Answer(status) => {
                let error = DeliveryError::of_status(status);
                ReceiverAnswer { status: Some(status), error, retry_after: None, is_cut: false }
            }
            Does::Hang => std::future::pending().await,
            Does::Panic => panic!("as it was told to"),
        })
    }
}

/// Gives messages names that count up.
#[derive(Default)]
struct Counting(AtomicU32);

impl MessageRenderer for Counting {
    fn about_operation(
        &self,
        _: Topic,
        _: &Operation,
        _: u32,
        _: Timestamp,
        _: Option<&str>,
    ) -> Message {
        self.about()
    }

    fn about_subscription(
        &self,
        _: Topic,
        _: &Subscription,
        _: Option<&str>,
        _: Timestamp,
    ) -> Message {
        self.about()
    }
}

impl Counting {
    fn about(&self) -> Message {
        let name = format!("msg_{}", self.0.fetch_add(1, Ordering::SeqCst));
        Message { name, body: "{}".into() }
    }
}

/// Webhooks of which a test takes every loop step by step, or runs all loops.
struct Office {
    _folder: TempDir,
    ledger: Ledger,
    ground: Tasks,
    tasks: Tasks,
    clock: Clock,
    does: watch::Sender<Does>,
    sent: watch::Receiver<Vec<(String, String)>>,
    sender: Option<Pretender>,
}

impl Office {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (ground, clock) = (Tasks::new(), Clock::manual(START));
        let opening = Opening {
            location: Location::Sqlite { path: folder.path().join("cloakroom.db"), readers: 2 },
            migrate: true,
            retention: Retention {
                result: Duration::from_hours(1),
                operation: Duration::from_hours(1),
            },
            lanes: vec![lane()],
            keyring: Keyring::default(),
        };
        let ledger = Ledger::open(opening, &clock, &ground).await.unwrap();
        ledger.lend_renderer(Arc::new(Counting::default()));
        let (does, told) = watch::channel(Does::Answer(200));
        let (sent, seen) = watch::channel(Vec::new());
        let sender = Some(Pretender { does: told, sent });
        Self {
            _folder: folder,
            ledger,
            ground,
            tasks: Tasks::new(),
            clock,
            does,
            sent: seen,
            sender,
        }
    }

    fn settings() -> Settings {
        Settings {
            limits: SlotLimits { slots: 64, first_attempts: 20, concurrency: 4, rate: None },
            timeout: Duration::from_secs(15),
            lease: Duration::from_secs(15),
            over: Duration::from_hours(1),
            may_begin: Arc::new(|| true),
        }
    }

    fn parts(
        &mut self,
    ) -> (Arc<WebhookState<Pretender>>, mpsc::UnboundedReceiver<PendingSettlement>) {
        let sender = self.sender.take().unwrap();
        let (clock, tasks) = (self.clock.clone(), self.tasks.clone());
        WebhookState::new(self.ledger.clone(), sender, Self::settings(), clock, tasks)
    }

    fn start(&mut self) -> Webhooks {
        let sender = self.sender.take().unwrap();
        let (clock, tasks) = (self.clock.clone(), self.tasks.clone());
        Webhooks::start(self.ledger.clone(), sender, Self::settings(), clock, tasks, ())
    }

    async fn subscribe(&self) -> Subscription {
        let new = NewSubscription {
            id: SubscriptionId::of_random(rand::random()),
            principal: Principal::everyone(),
            settings: settings_of("https://one.example/"),
            asks: false,
            key: NewKey { kind: KeyKind::V1, sealed: "key".into() },
            most: 100,
            public_base: "https://gw.example/-".to_owned(),
            at: self.clock.now(),
        };
        match self.ledger.subscribe(new).await.unwrap() {
            SubscribeOutcome::New(subscription) => *subscription,
            SubscribeOutcome::TooMany => panic!("too many"),
        }
    }

    async fn ping(&self, subscription: &Subscription, times: usize) {
        for _ in 0..times {
            self.ledger.ping(subscription.id, self.clock.now()).await.unwrap();
        }
    }

    /// An operation comes to its end: it is called off.
    async fn finish_one(&self) {
        let operation = operation(self.clock.now());
        let id = operation.id;
        self.ledger.accept(operation).await.unwrap();
        self.ledger.cancel(id, Freeing::Keep, self.clock.now()).await.unwrap();
    }

    async fn change(&self, subscription: &Subscription, change: SubscriptionChange) {
        let at = self.clock.now();
        let id = subscription.id;
        let changing = SubscriptionUpdate { id, principal: None, unless_since: None, change, at };
        let changed = self.ledger.change_subscription(changing).await.unwrap();
        assert!(matches!(changed, UpdateOutcome::Done(_)));
    }

    async fn deliveries(&self, receiver: ReceiverKey) -> Vec<Delivery> {
        let listing = DeliveryListing {
            of: DeliveriesOf::Receiver(receiver),
            only: None,
            before: None,
            limit: 1000,
        };
        self.ledger.deliveries(&listing).await.unwrap().deliveries
    }

    /// How many deliveries stand how, by the name of that.
    async fn standing(&self, receiver: ReceiverKey) -> HashMap<&'static str, usize> {
        let mut standing = HashMap::new();
        for delivery in self.deliveries(receiver).await {
            let name = match delivery.state {
                DeliveryState::Due { .. } => "due",
                DeliveryState::Sending { .. } => "sending",
                DeliveryState::Held { .. } => "held",
                DeliveryState::Ended { how, .. } => how.as_str(),
            };
            *standing.entry(name).or_default() += 1;
        }
        standing
    }

    async fn sent(&mut self, count: usize) {
        self.sent.wait_for(|sent| sent.len() >= count).await.unwrap();
    }

    /// Stops the webhooks as the gateway does; cuts it where `cut`.
    async fn stop(&self, cut: bool) {
        let patience = Duration::from_secs(20);
        match cut {
            true => self.tasks.cut(),
            false => self.tasks.drain(),
        }
        assert!(self.tasks.ended(&Clock::system(), patience, patience).await);
    }

    async fn close(self) {
        let patience = Duration::from_secs(20);
        drop(self.ledger);
        self.ground.drain();
        assert!(self.ground.ended(&Clock::system(), patience, patience).await);
    }
}

fn lane() -> Lane {
    let (queue, upstream) = ("default".into(), "orders".into());
    Lane { queue, upstream, express: false, quarantine: false }
}

fn operation(now: Timestamp) -> NewOperation {
    NewOperation {
        id: OperationId::new(now, 1, rand::random()),
        accepted_at: now,
        principal: Principal::everyone(),
        route: "orders".into(),
        lane: lane(),
        work: Work::Call(Request {
            method: http::Method::POST,
            target: "/orders".into(),
            fields: Fields::new(),
            credentials: Fields::new(),
            body: OperationBody::Inline(bytes::Bytes::new()),
        }),
        policy: Policy {
            delivery: Promise::AtLeastOnce,
            timeout: MILLI,
            deadline_at: now + Duration::from_hours(1),
            retry: RetryPolicy { attempts: 1, min: MILLI, max: MILLI, statuses: None },
            wait: None,
            success: None,
            on_failure: OnFailure::Skip,
            recheck: None,
        },
        due_at: now,
        upstream_key: None,
        idempotency: None,
        serial_key: None,
        parent: None,
        retry_of: None,
        client_reference: None,
        tags: Vec::new(),
        callback: None,
        max_depth: 100,
        max_stored: u64::MAX,
    }
}

fn settings_of(url: &str) -> SubscriptionSettings {
    SubscriptionSettings {
        url: url.to_owned(),
        topics: Topics::ENDS,
        routes: Vec::new(),
        tags: Vec::new(),
        headers: None,
        description: None,
        format: Format::Standard,
    }
}

/// Settles what has ended, as much as there is.
async fn settled<S: DeliveryTransport>(
    shared: &WebhookState<S>,
    ends: &mut mpsc::UnboundedReceiver<PendingSettlement>,
    count: usize,
) {
    let mut batch = Vec::new();
    while batch.len() < count {
        ends.recv_many(&mut batch, count).await;
    }
    settler::step(shared, batch).await;
}

#[tokio::test]
async fn what_is_due_is_sent_and_its_end_written_down() {
    let mut office = Office::open().await;
    let subscription = office.subscribe().await;
    office.ping(&subscription, 100).await;
    let webhooks = office.start();
    office.sent(100).await;
    // What comes to be due while it runs, too.
    office.ping(&subscription, 1).await;
    office.sent(101).await;
    office.stop(false).await;
    let standing = office.standing(subscription.receiver).await;
    assert_eq!(standing, HashMap::from([("delivered", 101)]));
    let last = &office.deliveries(subscription.receiver).await[0];
    assert_eq!((last.attempts, last.log[0].status), (1, Some(200)));
    assert_eq!(webhooks.stalled(office.clock.now()), None);
    assert_eq!(office.sent.borrow().len(), 101);
    office.close().await;
}

/// The webhooks of an office that has taken one message, so that it is known to be quick,
/// and its outbox.
async fn quick_office()
-> (Office, Subscription, Arc<WebhookState<Pretender>>, mpsc::UnboundedReceiver<PendingSettlement>)
{
    let mut office = Office::open().await;
    let subscription = office.subscribe().await;
    office.ping(&subscription, 1).await;
    let (shared, mut ends) = office.parts();
    office.ledger.lend_delivery_slots(Arc::new(handoff::WebhookSlots(Arc::downgrade(&shared))));
    maintenance::start(&shared).await;
    dispatcher::step(&shared, office.clock.now()).await.unwrap();
    settled(&shared, &mut ends, 1).await;
    (office, subscription, shared, ends)
}

#[tokio::test]
async fn an_event_goes_out_with_its_commit_and_nothing_is_asked_for() {
    let (office, subscription, shared, mut ends) = quick_office().await;
    for done in 1..=3 {
        office.finish_one().await;
        assert_eq!(office.ledger.due_deliveries(office.clock.now()), []);
        settled(&shared, &mut ends, 1).await;
        assert_eq!(office.sent.borrow().len(), done + 1);
    }
    let standing = office.standing(subscription.receiver).await;
    assert_eq!(standing, HashMap::from([("delivered", 4)]));
    assert_eq!(shared.traffic().held(), 0);
    drop((shared, ends));
    office.close().await;
}

#[tokio::test]
async fn what_is_handed_over_on_its_way_is_not_taken_for_lost() {
    let (office, subscription, shared, mut ends) = quick_office().await;
    office.does.send_replace(Does::Hang);
    for _ in 0..9 {
        office.finish_one().await;
    }
    maintenance::compare(&shared).await.unwrap();
    let standing = office.standing(subscription.receiver).await;
    assert_eq!(standing, HashMap::from([("delivered", 1), ("sending", 9)]));
    office.clock.advance(Duration::from_secs(17));
    // Four were sent, and what waited behind them goes back.
    settled(&shared, &mut ends, 9).await;
    assert_eq!(shared.traffic().held(), 0);
    drop((shared, ends));
    office.close().await;
}

#[tokio::test]
async fn nothing_is_handed_over_once_draining_has_begun() {
    let (office, subscription, shared, ends) = quick_office().await;
    let outbox = handoff::WebhookSlots(Arc::downgrade(&shared));
    let space = outbox.reserve(subscription.receiver).unwrap();
    office.tasks.drain();
    assert!(outbox.reserve(subscription.receiver).is_none());
    office.finish_one().await;
    let standing = office.standing(subscription.receiver).await;
    assert_eq!(standing, HashMap::from([("delivered", 1), ("due", 1)]));
    // Waiting for an empty set includes deliveries that are expected.
    let mut emptied = Box::pin(shared.in_flight.emptied());
    assert!((&mut emptied).now_or_never().is_none());
    drop(space);
    emptied.await;
    assert_eq!(shared.traffic().held(), 0);
    drop((shared, ends));
    office.close().await;
}

#[tokio::test]
async fn what_was_cut_off_or_only_claimed_at_the_end_goes_back_and_costs_no_attempt() {
    let mut office = Office::open().await;
    let subscription = office.subscribe().await;
    office.does.send_replace(Does::Hang);
    office.ping(&subscription, 50).await;
    office.start();
    office.sent(1).await;
    office.stop(true).await;
    let deliveries = office.deliveries(subscription.receiver).await;
    assert_eq!(deliveries.len(), 50);
    for delivery in deliveries {
        assert!(matches!(delivery.state, DeliveryState::Due { .. }), "{delivery:?}");
        assert_eq!((delivery.attempts, delivery.log.len()), (0, 0));
    }
    office.close().await;
}

#[tokio::test]
async fn a_failed_attempt_is_made_again_when_the_schedule_says() {
    let mut office = Office::open().await;
    let subscription = office.subscribe().await;
    office.does.send_replace(Does::Answer(500));
    office.ping(&subscription, 1).await;
    let (shared, mut ends) = office.parts();
    maintenance::start(&shared).await;
    dispatcher::step(&shared, office.clock.now()).await.unwrap();
    settled(&shared, &mut ends, 1).await;
    let failed = office.deliveries(subscription.receiver).await.remove(0);
    let DeliveryState::Due { at } = failed.state else { panic!("{failed:?}") };
    assert_eq!((failed.log[0].code.as_deref(), failed.log[0].next_at), (Some("status"), Some(at)));
    assert_eq!(dispatcher::step(&shared, at - MILLI).await.unwrap(), Some(at));
    office.does.send_replace(Does::Answer(200));
    office.clock.advance(at.since(office.clock.now()));
    dispatcher::step(&shared, at).await.unwrap();
    settled(&shared, &mut ends, 1).await;
    let delivered = office.deliveries(subscription.receiver).await.remove(0);
    assert_eq!((delivered.attempts, delivered.log.len()), (2, 2));
    drop((shared, ends));
    office.close().await;
}

#[tokio::test]
async fn a_receiver_that_cannot_be_reached_is_parked_and_burns_no_attempts() {
    let mut office = Office::open().await;
    let subscription = office.subscribe().await;
    office.does.send_replace(Does::Answer(502));
    office.ping(&subscription, 200).await;
    let (shared, mut ends) = office.parts();
    maintenance::start(&shared).await;
    for _ in 0..200 {
        if shared.traffic().parked() > 0 {
            break;
        }
        dispatcher::step(&shared, office.clock.now()).await.unwrap();
        settled(&shared, &mut ends, 1).await;
    }
    let made = office.sent.borrow().len();
    assert!((1..100).contains(&made) && shared.traffic().parked() == 1, "{made}");
    let until = dispatcher::step(&shared, office.clock.now()).await.unwrap().unwrap();
    assert!(until > office.clock.now() && ends.try_recv().is_err());
    let untouched = office.deliveries(subscription.receiver).await;
    assert_eq!(untouched.iter().filter(|delivery| delivery.attempts == 0).count(), 200 - made);
    // One finds out that it is there again, and all others follow.
    office.does.send_replace(Does::Answer(200));
    office.clock.advance(until.since(office.clock.now()));
    dispatcher::step(&shared, office.clock.now()).await.unwrap();
    settled(&shared, &mut ends, 1).await;
    assert_eq!((office.sent.borrow().len(), shared.traffic().parked()), (made + 1, 0));
    drop((shared, ends));
    office.close().await;
}

#[tokio::test]
async fn a_hand_out_whose_answer_was_lost_is_found_by_comparing() {
    let mut office = Office::open().await;
    let subscription = office.subscribe().await;
    office.ping(&subscription, 3).await;
    let want = DeliveryWant { receiver: subscription.receiver, again: false, limit: 2 };
    let lost = office.ledger.claim_deliveries(vec![want], START).await.unwrap();
    assert_eq!(lost[0].leased.len(), 2);
    let (shared, mut ends) = office.parts();
    dispatcher::step(&shared, office.clock.now()).await.unwrap();
    assert_eq!(office.standing(subscription.receiver).await, HashMap::from([("sending", 3)]));
    maintenance::compare(&shared).await.unwrap();
    // What is on its way is not taken for lost.
    let standing = office.standing(subscription.receiver).await;
    assert_eq!(standing, HashMap::from([("sending", 1), ("due", 2)]));
    settled(&shared, &mut ends, 1).await;
    dispatcher::step(&shared, office.clock.now()).await.unwrap();
    settled(&shared, &mut ends, 2).await;
    let standing = office.standing(subscription.receiver).await;
    assert_eq!(standing, HashMap::from([("delivered", 3)]));
    drop((shared, ends));
    office.close().await;
}

#[tokio::test]
async fn a_task_that_comes_to_a_bad_end_makes_room_and_its_delivery_goes_out_again() {
    let mut office = Office::open().await;
    let subscription = office.subscribe().await;
    office.does.send_replace(Does::Panic);
    office.ping(&subscription, 1).await;
    let (shared, mut ends) = office.parts();
    maintenance::start(&shared).await;
    dispatcher::step(&shared, office.clock.now()).await.unwrap();
    shared.in_flight.emptied().await;
    // Apart: each holds the lock.
    let sending = shared.traffic().sending();
    let held = shared.traffic().held();
    assert_eq!((sending, held), (0, 0));
    maintenance::compare(&shared).await.unwrap();
    office.does.send_replace(Does::Answer(200));
    dispatcher::step(&shared, office.clock.now()).await.unwrap();
    settled(&shared, &mut ends, 1).await;
    let standing = office.standing(subscription.receiver).await;
    assert_eq!(standing, HashMap::from([("delivered", 1)]));
    drop((shared, ends));
    office.close().await;
}

#[tokio::test]
async fn what_is_due_for_a_subscription_that_was_disabled_is_held() {
    let mut office = Office::open().await;
    let subscription = office.subscribe().await;
    office.ping(&subscription, 3).await;
    office.change(&subscription, SubscriptionChange::Disable(DisabledFor::Asked)).await;
    let (shared, ends) = office.parts();
    maintenance::start(&shared).await;
    dispatcher::step(&shared, office.clock.now()).await.unwrap();
    let standing = office.standing(subscription.receiver).await;
    assert_eq!((standing, office.sent.borrow().len()), (HashMap::from([("held", 3)]), 0));
    drop((shared, ends));
    office.close().await;
}

#[tokio::test]
async fn operators_see_what_is_under_way_and_what_waits_and_for_how_long() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let seen = recorder.handle();
    let _recording = ::metrics::set_default_local_recorder(&recorder);
    let mut office = Office::open().await;
    let (one, off) = (office.subscribe().await, office.subscribe().await);
    office.ping(&one, 5).await;
    office.ping(&off, 3).await;
    office.change(&off, SubscriptionChange::Disable(DisabledFor::Asked)).await;
    office.does.send_replace(Does::Hang);
    let (shared, mut ends) = office.parts();
    maintenance::start(&shared).await;
    dispatcher::step(&shared, office.clock.now()).await.unwrap();
    maintenance::step(&shared, 1).await.unwrap();
    let shows = |line: &str| {
        let text = seen.render();
        assert!(text.lines().any(|it| it == format!("cloakroom_{line}")), "{line} in {text}");
    };
    shows("deliveries_sending{place=\"slot\"} 1");
    shows("deliveries_sending{place=\"aside\"} 0");
    shows("deliveries_oldest_seconds{receivers=\"well\"} 0");
    // It does not answer, and leaves its slot.
    office.clock.advance(Duration::from_secs(2));
    dispatcher::step(&shared, office.clock.now()).await.unwrap();
    maintenance::step(&shared, 0).await.unwrap();
    for line in [
        "deliveries_sending{place=\"slot\"} 0",
        "deliveries_sending{place=\"aside\"} 1",
        "delivery_slots 64",
        "deliveries_in_hand 1",
        "deliveries_oldest_seconds{receivers=\"well\"} 0",
        "deliveries_oldest_seconds{receivers=\"failing\"} 2",
        "deliveries_waiting{state=\"due\"} 4",
        "deliveries_waiting{state=\"later\"} 0",
        "deliveries_waiting{state=\"held\"} 3",
        "receivers_holding 1",
    ] {
        shows(line);
    }
    office.clock.advance(Duration::from_secs(15));
    settled(&shared, &mut ends, 1).await;
    drop((shared, ends));
    office.close().await;
}

#[tokio::test]
async fn what_came_to_be_late_while_nobody_was_there_is_not_given_up_before_it_could_be_sent() {
    let mut office = Office::open().await;
    let subscription = office.subscribe().await;
    office.ping(&subscription, 2).await;
    office.clock.advance(DEADLINE + Duration::from_hours(2));
    let (shared, ends) = office.parts();
    maintenance::start(&shared).await;
    maintenance::step(&shared, 0).await.unwrap();
    let standing = office.standing(subscription.receiver).await;
    assert_eq!(standing, HashMap::from([("due", 2)]));
    maintenance::step(&shared, maintenance::CHANCE).await.unwrap();
    let standing = office.standing(subscription.receiver).await;
    assert_eq!(standing, HashMap::from([("exhausted", 2)]));
    drop((shared, ends));
    office.close().await;
}

#[tokio::test]
async fn what_is_handed_out_after_a_change_goes_to_where_it_points() {
    let mut office = Office::open().await;
    let subscription = office.subscribe().await;
    let (shared, mut ends) = office.parts();
    for url in ["https://one.example/", "https://two.example/"] {
        office
            .change(&subscription, SubscriptionChange::Settings(Box::new(settings_of(url))))
            .await;
        office.ping(&subscription, 1).await;
        dispatcher::step(&shared, office.clock.now()).await.unwrap();
        settled(&shared, &mut ends, 1).await;
        assert_eq!(office.sent.borrow().last().unwrap().0, url);
    }
    drop((shared, ends));
    office.close().await;
}

/// Remembers what each attempt is signed with; while the gate is shut, none comes to its end.
struct Witness {
    gate: watch::Receiver<bool>,
    signed: watch::Sender<Vec<Vec<bytes::Bytes>>>,
}

impl DeliveryTransport for Witness {
    type Address = Vec<bytes::Bytes>;

    fn address(&self, receiver: &Receiver) -> Result<Vec<bytes::Bytes>, String> {
        Ok(receiver.keys.iter().map(|key| key.sealed.clone()).collect())
    }

    async fn send(
        &self,
        keys: &Vec<bytes::Bytes>,
        _: &LeasedDelivery,
        _: Timestamp,
    ) -> Option<ReceiverAnswer> {
        self.signed.send_modify(|signed| signed.push(keys.clone()));
        let open = self.gate.clone().wait_for(|open| *open).await.is_ok();
        assert!(open, "the test is over");
        Some(TAKEN)
    }
}

/// Webhooks that have some deliveries to a quick receiver in hand, of which one is on its way.
struct InHand {
    office: Office,
    subscription: Subscription,
    shared: Arc<WebhookState<Witness>>,
    ends: mpsc::UnboundedReceiver<PendingSettlement>,
    gate: watch::Sender<bool>,
    signed: watch::Receiver<Vec<Vec<bytes::Bytes>>>,
}

impl InHand {
    async fn some() -> Self {
        let office = Office::open().await;
        let subscription = office.subscribe().await;
        let (gate, stands) = watch::channel(true);
        let (sent, signed) = watch::channel(Vec::new());
        let (clock, tasks) = (office.clock.clone(), office.tasks.clone());
        let sender = Witness { gate: stands, signed: sent };
        let mut settings = Office::settings();
        settings.limits.concurrency = 1;
        let (shared, mut ends) =
            WebhookState::new(office.ledger.clone(), sender, settings, clock, tasks);
        maintenance::start(&shared).await;
        for _ in 0..9 {
            office.ping(&subscription, 1).await;
            dispatcher::step(&shared, office.clock.now()).await.unwrap();
            settled(&shared, &mut ends, 1).await;
        }
        gate.send_replace(false);
        office.ping(&subscription, 5).await;
        dispatcher::step(&shared, office.clock.now()).await.unwrap();
        let mut in_hand = Self { office, subscription, shared, ends, gate, signed };
        in_hand.signed.wait_for(|signed| signed.len() == 10).await.unwrap();
        in_hand
    }

    fn held(&self) -> usize {
        self.shared.traffic().held()
    }

    async fn close(self) {
        drop((self.shared, self.ends));
        self.office.close().await;
    }
}

#[tokio::test]
async fn what_waits_in_hand_is_signed_with_no_key_that_was_cut_meanwhile() {
    let mut in_hand = InHand::some().await;
    let (held, now) = (in_hand.held(), in_hand.office.clock.now());
    assert!(held > 1, "nothing waits");
    let rotation = KeyRotation {
        owner: KeyOwner::Receiver(in_hand.subscription.receiver),
        keys: vec![NewKey { kind: KeyKind::V1, sealed: "other".into() }],
        beside: false,
        grace: Duration::ZERO,
        most: 5,
        at: now,
    };
    assert_eq!(in_hand.office.ledger.rotate_keys(rotation).await.unwrap(), RotationOutcome::Done);
    in_hand.gate.send_replace(true);
    settled(&in_hand.shared, &mut in_hand.ends, held).await;
    let signed = in_hand.signed.borrow().clone();
    let [before, after] = ["key", "other"].map(|key| vec![bytes::Bytes::from(key)]);
    let expected = [vec![before; 10], vec![after; held - 1]].concat();
    assert_eq!(signed, expected);
    in_hand.close().await;
}

#[tokio::test]
async fn what_waits_in_hand_for_one_that_is_disabled_meanwhile_is_not_sent() {
    let mut in_hand = InHand::some().await;
    let held = in_hand.held();
    assert!(held > 1, "nothing waits");
    let off = SubscriptionChange::Disable(DisabledFor::Asked);
    in_hand.office.change(&in_hand.subscription, off).await;
    in_hand.gate.send_replace(true);
    settled(&in_hand.shared, &mut in_hand.ends, held).await;
    assert_eq!(in_hand.signed.borrow().len(), 10);
    let standing = in_hand.office.standing(in_hand.subscription.receiver).await;
    assert_eq!(standing, HashMap::from([("delivered", 10), ("due", 4)]));
    in_hand.close().await;
}

#[tokio::test]
async fn an_attempt_that_never_ends_is_over_when_its_time_is() {
    let mut office = Office::open().await;
    let subscription = office.subscribe().await;
    office.does.send_replace(Does::Hang);
    office.ping(&subscription, 1).await;
    let (shared, mut ends) = office.parts();
    dispatcher::step(&shared, office.clock.now()).await.unwrap();
    office.sent(1).await;
    office.clock.advance(Duration::from_secs(17));
    settled(&shared, &mut ends, 1).await;
    let late = office.deliveries(subscription.receiver).await.remove(0);
    assert_eq!(late.log[0].code.as_deref(), Some("timeout"));
    drop((shared, ends));
    office.close().await;
}

#[tokio::test]
async fn a_node_that_may_begin_nothing_claims_nothing() {
    let mut office = Office::open().await;
    let subscription = office.subscribe().await;
    office.ping(&subscription, 1).await;
    let settings = Settings { may_begin: Arc::new(|| false), ..Office::settings() };
    let (clock, tasks) = (office.clock.clone(), office.tasks.clone());
    let sender = office.sender.take().unwrap();
    let (shared, ends) = WebhookState::new(office.ledger.clone(), sender, settings, clock, tasks);
    dispatcher::step(&shared, office.clock.now()).await.unwrap();
    let standing = office.standing(subscription.receiver).await;
    assert_eq!(standing, HashMap::from([("due", 1)]));
    drop((shared, ends));
    office.close().await;
}
