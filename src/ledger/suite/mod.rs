//! What every ledger has to do, whatever keeps it: one suite, run once per engine.

/// Tests on one engine: each of them gets a place of its own.
macro_rules! suite_of {
    ($engine:ident: $($name:ident,)*) => {
        mod $engine {
            use super::Place;
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name(Place::$engine()).await;
                }
            )*
        }
    };
}

mod asking;
mod behind_a_pooler;
#[path = "../../../tests/support/postgres.rs"]
#[allow(dead_code, unreachable_pub, reason = "it is shared with the tests outside")]
mod cluster;
mod in_a_database;
mod in_a_file;
mod migrating;
mod permits;
mod reconciling;
mod serial;
mod sources;
mod verdicts;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::mpsc;

use super::*;
use crate::domain::fleet::Role;
use crate::domain::operation::{
    Answer, Body, Delivery, ErrorCode, EventKind, IdempotencyClaim, KeyScope, OnFailure, Outcome,
    Policy, Request, RetryPolicy, Sent, SerialKey, Standing, State, Status, WaitingFor, Work,
    settle,
};
use crate::domain::{Fields, Principal};

const START: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);
const HOUR: Duration = Duration::from_hours(1);

fn lane(express: bool) -> Lane {
    Lane { queue: "default".into(), upstream: "orders".into(), express, quarantine: false }
}

/// Where a ledger of a test's own is.
pub(super) enum Place {
    /// In a folder.
    File(tempfile::TempDir),
    /// In a database, at this address.
    Database(String),
}

impl Place {
    pub(super) fn sqlite() -> Self {
        Self::File(tempfile::tempdir().unwrap())
    }

    pub(super) fn postgres() -> Self {
        Self::Database(cluster::cluster().database())
    }

    pub(super) fn location(&self) -> Location {
        match self {
            Self::File(folder) => {
                Location::Sqlite { path: folder.path().join("cloakroom.db"), readers: 2 }
            }
            Self::Database(url) => Location::Postgres(Server {
                url: url.parse().unwrap(),
                direct_url: None,
                pooler: Pooler::None,
                pool: 5,
                patience: Duration::ZERO,
            }),
        }
    }

    pub(super) fn opening(&self) -> Opening {
        Opening {
            location: self.location(),
            migrate: true,
            retention: Retention { result: HOUR, operation: 7 * HOUR },
            lanes: vec![lane(false), lane(true)],
        }
    }

    pub(super) async fn open(&self, now: Timestamp) -> (Ledger, Tasks) {
        let tasks = Tasks::new();
        (Ledger::open(self.opening(), &Clock::manual(now), &tasks).await.unwrap(), tasks)
    }
}

pub(super) async fn close(ledger: Ledger, tasks: Tasks) {
    drop(ledger);
    tasks.drain();
    let patience = Duration::from_secs(10);
    assert!(tasks.ended(&Clock::system(), patience, patience).await);
}

fn operation(number: u8, at: Timestamp) -> NewOperation {
    let mut fields = Fields::new();
    fields.as_map_mut().append("content-type", "application/json".parse().unwrap());
    let mut credentials = Fields::new();
    credentials.as_map_mut().append("authorization", "Bearer secret".parse().unwrap());
    NewOperation {
        id: OperationId::new(at, 1, [number; 10]),
        accepted_at: at,
        principal: Principal::everyone(),
        route: "orders".into(),
        lane: lane(false),
        work: Work::Call(Request {
            method: Method::POST,
            target: "/orders?x=%ff".into(),
            fields,
            credentials,
            body: Body::Inline(Bytes::from(vec![0, 159, 146, 150])),
        }),
        policy: Policy {
            delivery: Delivery::AtLeastOnce,
            timeout: Duration::from_secs(30),
            deadline_at: at + 24 * HOUR,
            retry: RetryPolicy {
                attempts: 3,
                min: Duration::from_secs(1),
                max: Duration::from_secs(1),
            },
            first_answer_is_final: false,
            on_failure: OnFailure::Skip,
            recheck: None,
        },
        due_at: at,
        upstream_key: None,
        idempotency: None,
        serial_key: None,
        parent: None,
        retry_of: None,
        client_reference: None,
        tags: Vec::new(),
        callback: None,
        max_depth: 100,
    }
}

fn with_key(number: u8, key: u8, fingerprint: u8, scope: KeyScope) -> NewOperation {
    let claim = IdempotencyClaim { digest: [key; 16], fingerprint: [fingerprint; 32], scope };
    NewOperation { idempotency: Some(claim), ..operation(number, START) }
}

async fn claim_one(ledger: &Ledger, now: Timestamp) -> Leased {
    let mut claimed = ledger.claim(vec![Want { lane: lane(false), limit: 1 }], now).await.unwrap();
    claimed.remove(0).leased.remove(0)
}

fn outcome_of(leased: Leased, outcome: &Outcome, at: Timestamp) -> Settlement {
    let standing = Standing { policy: &leased.policy, counts: leased.counts };
    let transition = settle(standing, outcome, at, &mut StdRng::seed_from_u64(1));
    Settlement { id: leased.id, lease: leased.lease, transition, answer: Some(created()), at }
}

fn created() -> KeptAnswer {
    let mut fields = Fields::new();
    fields.as_map_mut().append("x-odd", http::HeaderValue::from_bytes(&[0xff, 0x80]).unwrap());
    KeptAnswer {
        status: 201,
        fields,
        body: Body::Inline(Bytes::from_static(b"made")),
        created_location: Some("/orders/1".into()),
    }
}

fn answered(status: u16) -> Outcome {
    Outcome::Answered(Answer {
        status,
        redirect_is_success: true,
        retry_after: None,
        monitor: None,
    })
}

async fn finish(ledger: &Ledger, leased: Leased, at: Timestamp) -> Status {
    ledger.settle(outcome_of(leased, &answered(201), at)).await.unwrap().unwrap()
}

async fn state(ledger: &Ledger, id: OperationId) -> State {
    ledger.find(id).await.unwrap().unwrap().state
}

struct Hands(mpsc::UnboundedSender<Leased>);

impl Desk for Hands {
    fn reserve(&self, _: &Lane) -> Option<Box<dyn Reservation>> {
        Some(Box::new(Hands(self.0.clone())))
    }
}

impl Reservation for Hands {
    fn start(self: Box<Self>, leased: Leased) {
        self.0.send(leased).unwrap();
    }
}

async fn an_accepted_operation_comes_back_to_the_octet_and_is_there_after_a_restart(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let new = operation(1, START);
    let (id, work) = (new.id, new.work.clone());
    let ticket = ledger.ticket_key().ticket(id).to_string();
    assert_eq!(ledger.accept(new).await.unwrap(), Accepted::New(id));
    close(ledger, tasks).await;
    let (ledger, tasks) = place.open(START).await;
    assert_eq!(ledger.ticket_key().open(&ticket), Some(id));
    assert_eq!(ledger.lanes().iter().map(|lane| lane.depth).sum::<u64>(), 1);
    let leased = claim_one(&ledger, START).await;
    assert_eq!((leased.id, leased.work, leased.counts.attempts), (id, work, 1));
    close(ledger, tasks).await;
}

async fn an_operation_goes_from_queued_over_running_to_its_end_with_all_effects(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let new = operation(1, START);
    let id = new.id;
    ledger.accept(new).await.unwrap();
    assert_eq!(state(&ledger, id).await, State::Queued { due_at: START });
    let leased = claim_one(&ledger, START).await;
    assert_eq!(state(&ledger, id).await, State::Running { since: START });
    let later = START + Duration::from_secs(2);
    assert_eq!(finish(&ledger, leased, later).await, Status::Succeeded);
    let ended = ledger.find(id).await.unwrap().unwrap();
    assert_eq!(ended.state, State::Succeeded { at: later });
    assert_eq!(
        (ended.response_status, ended.created_location.as_deref()),
        (Some(201), Some("/orders/1"))
    );
    assert_eq!(ended.expires_at, Some(later + HOUR));
    assert_eq!(ledger.answer(id).await.unwrap(), Some(created()));
    let kinds: Vec<_> =
        ledger.events(id, 0, 9).await.unwrap().iter().map(|e| (e.sequence, e.kind)).collect();
    assert_eq!(
        kinds,
        [(1, EventKind::Accepted), (2, EventKind::Started), (3, EventKind::Succeeded)]
    );
    let kept = ledger.promised(id).await.unwrap().unwrap();
    let Work::Call(kept) = kept.work else { panic!("no request") };
    assert!(kept.credentials.is_empty());
    close(ledger, tasks).await;
}

async fn a_stale_lease_settles_nothing(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let new = operation(1, START);
    let id = new.id;
    ledger.accept(new).await.unwrap();
    let stale = claim_one(&ledger, START).await;
    let dead = vec![Dead { incarnation: ledger.incarnation(), beat: None }];
    close(ledger, tasks).await;
    let (ledger, tasks) = place.open(START).await;
    let mut orphans = ledger.claim_orphans(dead.clone(), 10, START).await.unwrap();
    let orphan = orphans.remove(0);
    assert!(orphans.is_empty() && orphan.id == id);
    assert_eq!(
        ledger.settle(outcome_of(stale, &answered(201), START)).await.unwrap(),
        Err(StaleLease)
    );
    assert_eq!(state(&ledger, id).await, State::Running { since: START });
    let settled = ledger.settle(outcome_of(orphan, &Outcome::Lost, START)).await.unwrap();
    assert_eq!(settled, Ok(Status::Queued));
    assert!(ledger.claim_orphans(dead, 10, START).await.unwrap().is_empty());
    close(ledger, tasks).await;
}

async fn the_same_key_is_the_same_operation_and_another_request_under_it_is_a_conflict(
    place: Place,
) {
    let (ledger, tasks) = place.open(START).await;
    let first = with_key(1, 9, 5, KeyScope::Retained);
    let id = first.id;
    let batch =
        [first, with_key(2, 9, 5, KeyScope::Retained), with_key(3, 9, 6, KeyScope::Retained)];
    let fates =
        futures_util::future::join_all(batch.map(|operation| ledger.accept(operation))).await;
    let fates: Vec<_> = fates.into_iter().map(Result::unwrap).collect();
    assert_eq!(fates, [Accepted::New(id), Accepted::Replayed(id), Accepted::KeyConflict(id)]);
    let leased = claim_one(&ledger, START).await;
    finish(&ledger, leased, START).await;
    let repeat = ledger.accept(with_key(4, 9, 5, KeyScope::Retained)).await.unwrap();
    assert_eq!(repeat, Accepted::Replayed(id));
    close(ledger, tasks).await;
}

async fn a_key_that_counts_while_pending_is_free_again_at_the_end(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let first = with_key(1, 9, 5, KeyScope::Pending);
    let (first_id, second) = (first.id, with_key(2, 9, 6, KeyScope::Pending));
    let second_id = second.id;
    ledger.accept(first).await.unwrap();
    assert_eq!(ledger.accept(second.clone()).await.unwrap(), Accepted::KeyConflict(first_id));
    let leased = claim_one(&ledger, START).await;
    finish(&ledger, leased, START).await;
    assert_eq!(ledger.accept(second).await.unwrap(), Accepted::New(second_id));
    close(ledger, tasks).await;
}

async fn a_free_slot_gets_a_new_operation_without_a_claim_unless_an_older_one_waits(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    ledger.accept(operation(1, START)).await.unwrap();
    let (hands, mut handed) = mpsc::unbounded_channel();
    ledger.lend_desk(Arc::new(Hands(hands)));
    ledger.accept(operation(2, START)).await.unwrap();
    assert!(handed.try_recv().is_err());
    let claimed = ledger.claim(vec![Want { lane: lane(false), limit: 9 }], START).await.unwrap();
    assert_eq!(claimed[0].leased.len(), 2);
    let third = operation(3, START);
    let id = third.id;
    ledger.accept(third).await.unwrap();
    let leased = handed.recv().await.unwrap();
    assert_eq!(state(&ledger, id).await, State::Running { since: START });
    assert_eq!(finish(&ledger, leased, START).await, Status::Succeeded);
    close(ledger, tasks).await;
}

async fn operations_of_one_serial_key_go_one_at_a_time_in_the_order_accepted(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let serial = |number| {
        let key = SerialKey { digest: [7; 16], text: "customer-7".into() };
        NewOperation { serial_key: Some(key), ..operation(number, START) }
    };
    let ids: Vec<_> = [1, 2, 3].map(|number| serial(number).id).into();
    for number in [1, 2, 3] {
        ledger.accept(serial(number)).await.unwrap();
    }
    ledger.cancel(ids[1], Freeing::Keep, START).await.unwrap();
    for id in [ids[0], ids[2]] {
        let claimed =
            ledger.claim(vec![Want { lane: lane(false), limit: 9 }], START).await.unwrap();
        let mut leased = claimed.into_iter().next().unwrap().leased;
        assert_eq!(leased.iter().map(|leased| leased.id).collect::<Vec<_>>(), [id]);
        finish(&ledger, leased.remove(0), START).await;
    }
    assert_eq!(ledger.accept(serial(4)).await.unwrap(), Accepted::New(serial(4).id));
    assert_eq!(state(&ledger, serial(4).id).await, State::Queued { due_at: START });
    close(ledger, tasks).await;
}

async fn a_retry_is_due_later_and_not_claimed_before(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    ledger.accept(operation(1, START)).await.unwrap();
    let leased = claim_one(&ledger, START).await;
    let broken = Outcome::Broken { sent: Sent::Perhaps, cause: ErrorCode::UpstreamProtocol };
    let id = leased.id;
    ledger.settle(outcome_of(leased, &broken, START)).await.unwrap().unwrap();
    let State::Queued { due_at } = state(&ledger, id).await else { panic!("not queued") };
    let early = ledger.claim(vec![Want { lane: lane(false), limit: 9 }], START).await.unwrap();
    assert!(early[0].leased.is_empty());
    assert_eq!(early[0].next_due, Some(due_at));
    assert_eq!(claim_one(&ledger, due_at).await.counts.attempts, 2);
    close(ledger, tasks).await;
}

async fn canceling_ends_what_has_not_begun_and_asks_what_runs(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let (queued, running) = (operation(1, START), operation(2, START));
    let (queued_id, running_id) = (queued.id, running.id);
    ledger.accept(running).await.unwrap();
    let leased = claim_one(&ledger, START).await;
    ledger.accept(queued).await.unwrap();
    assert_eq!(ledger.cancel(queued_id, Freeing::Keep, START).await.unwrap(), Canceled::Done);
    assert_eq!(ledger.cancel(queued_id, Freeing::Keep, START).await.unwrap(), Canceled::Already);
    assert_eq!(ledger.lanes().iter().map(|lane| lane.depth).sum::<u64>(), 0);
    let mut cancels = ledger.cancels();
    assert_eq!(ledger.cancel(running_id, Freeing::Free, START).await.unwrap(), Canceled::Asked);
    assert_eq!(cancels.recv().await.unwrap(), running_id);
    // It would be tried again, but somebody has called it off.
    let broken = Outcome::Broken { sent: Sent::Perhaps, cause: ErrorCode::UpstreamProtocol };
    assert_eq!(
        ledger.settle(outcome_of(leased, &broken, START)).await.unwrap(),
        Ok(Status::Canceled)
    );
    assert!(ledger.find(running_id).await.unwrap().unwrap().freed_at.is_some());
    assert!(ledger.promised(running_id).await.unwrap().is_none());
    close(ledger, tasks).await;
}

async fn an_upstream_that_is_followed_is_asked_again_after_a_restart(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    ledger.accept(operation(1, START)).await.unwrap();
    let leased = claim_one(&ledger, START).await;
    let id = leased.id;
    let accepted = Answer {
        status: 202,
        redirect_is_success: true,
        retry_after: Some(Duration::from_mins(1)),
        monitor: Some("http://up/jobs/1".into()),
    };
    ledger.settle(outcome_of(leased, &Outcome::Answered(accepted), START)).await.unwrap().unwrap();
    assert!(ledger.claim_waiting(9, START, START + HOUR).await.unwrap().is_empty());
    close(ledger, tasks).await;
    let later = START + Duration::from_mins(1);
    let (ledger, tasks) = place.open(later).await;
    let followed = ledger.claim_waiting(9, later, later + HOUR).await.unwrap().remove(0);
    let continuation = followed.continuation.clone().unwrap();
    assert_eq!((followed.id, continuation.as_monitor()), (id, Some("http://up/jobs/1")));
    let pending = Outcome::StillPending { retry_after: None };
    ledger.settle(outcome_of(followed, &pending, later)).await.unwrap().unwrap();
    let due = later + Duration::from_secs(5);
    let followed = ledger.claim_waiting(9, due, due + HOUR).await.unwrap().remove(0);
    assert_eq!(followed.continuation, Some(continuation));
    let message = Some("half".to_owned());
    let report = ProgressReport { id, attempt: 1, percent: Some(50), message, at: due };
    assert_eq!(ledger.progress(report.clone()).await.unwrap(), Progressed::Kept);
    assert_eq!(ledger.progress(report).await.unwrap(), Progressed::TooSoon);
    assert_eq!(finish(&ledger, followed, due).await, Status::Succeeded);
    close(ledger, tasks).await;
}

async fn results_are_freed_first_and_operations_later_with_their_keys_and_tags(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let new = NewOperation {
        tags: vec!["a:\"1".into(), "b".into()],
        ..with_key(1, 3, 3, KeyScope::Retained)
    };
    let id = new.id;
    let Work::Call(request) = &new.work else { panic!("no call") };
    let key = BodyKey(77);
    let chunked = Request { body: Body::Chunked { key, length: 4 }, ..request.clone() };
    let piece = Piece { body: key, number: 0, octets: Bytes::from_static(b"body") };
    ledger.stash(vec![piece]).await.unwrap();
    ledger.accept(NewOperation { work: Work::Call(chunked), ..new }).await.unwrap();
    let leased = claim_one(&ledger, START).await;
    finish(&ledger, leased, START).await;
    let tagged = Listing { tag: Some("a:\"1".into()), limit: 9, ..Listing::default() };
    assert_eq!(ledger.list(&tagged).await.unwrap().operations.len(), 1);
    assert_eq!(ledger.prune(9, START).await.unwrap(), Pruned::default());
    assert!(ledger.piece(key, 0).await.unwrap().is_some());
    let freed = ledger.prune(9, START + HOUR).await.unwrap();
    assert_eq!(freed, Pruned { results: 1, operations: 0 });
    assert!(ledger.answer(id).await.unwrap().is_none());
    assert!(ledger.piece(key, 0).await.unwrap().is_none());
    assert!(ledger.find(id).await.unwrap().unwrap().freed_at.is_some());
    let repeat = ledger.accept(with_key(2, 3, 3, KeyScope::Retained)).await.unwrap();
    assert_eq!(repeat, Accepted::Replayed(id));
    let gone = ledger.prune(9, START + 7 * HOUR).await.unwrap();
    assert_eq!(gone, Pruned { results: 0, operations: 1 });
    assert!(ledger.find(id).await.unwrap().is_none());
    assert!(ledger.list(&tagged).await.unwrap().operations.is_empty());
    let anew = with_key(3, 3, 4, KeyScope::Retained);
    assert_eq!(ledger.accept(anew.clone()).await.unwrap(), Accepted::New(anew.id));
    close(ledger, tasks).await;
}

async fn freeing_by_hand_is_for_what_has_ended_and_counts_as_the_expiry(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    ledger.accept(operation(1, START)).await.unwrap();
    let leased = claim_one(&ledger, START).await;
    let id = leased.id;
    assert!(!ledger.free(id, START).await.unwrap());
    finish(&ledger, leased, START).await;
    assert!(ledger.free(id, START).await.unwrap());
    assert!(ledger.free(id, START).await.unwrap());
    assert_eq!(ledger.prune(9, START + HOUR).await.unwrap(), Pruned::default());
    assert_eq!(
        ledger.prune(9, START + 7 * HOUR).await.unwrap(),
        Pruned { results: 0, operations: 1 }
    );
    close(ledger, tasks).await;
}

async fn progress_is_kept_once_a_second_and_only_for_the_present_attempt(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    ledger.accept(operation(1, START)).await.unwrap();
    let leased = claim_one(&ledger, START).await;
    let id = leased.id;
    let report = |attempt, percent, at| ProgressReport {
        id,
        attempt,
        percent: Some(percent),
        message: Some("packing".into()),
        at,
    };
    assert_eq!(ledger.progress(report(1, 10, START)).await.unwrap(), Progressed::Kept);
    assert_eq!(ledger.progress(report(1, 20, START)).await.unwrap(), Progressed::TooSoon);
    assert_eq!(ledger.progress(report(2, 20, START)).await.unwrap(), Progressed::Over);
    let later = START + Duration::from_secs(1);
    assert_eq!(ledger.progress(report(1, 30, later)).await.unwrap(), Progressed::Kept);
    finish(&ledger, leased, later).await;
    let ended = ledger.find(id).await.unwrap().unwrap();
    assert_eq!(
        (ended.percent, ended.message.as_deref(), ended.sequence),
        (Some(30), Some("packing"), 5)
    );
    close(ledger, tasks).await;
}

async fn a_tree_is_what_an_operation_gave_rise_to_and_stays_within_its_principal(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let child = |number, parent| NewOperation { parent: Some(parent), ..operation(number, START) };
    let root = operation(1, START);
    let second = child(2, root.id);
    let third = child(3, second.id);
    let stranger = NewOperation { principal: Principal::named("eve"), ..child(4, root.id) };
    let (root_id, second_id, third_id, stranger_id) = (root.id, second.id, third.id, stranger.id);
    for operation in [root, second, third, stranger] {
        ledger.accept(operation).await.unwrap();
    }
    let ids =
        |tree: Vec<Operation>| tree.into_iter().map(|operation| operation.id).collect::<Vec<_>>();
    assert_eq!(ids(ledger.descendants(root_id, 9).await.unwrap()), [second_id, third_id]);
    assert_eq!(ids(ledger.descendants(second_id, 9).await.unwrap()), [third_id]);
    assert_eq!(ledger.find(stranger_id).await.unwrap().unwrap().parent, None);
    close(ledger, tasks).await;
}

async fn a_list_goes_page_by_page_and_filters(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    for number in 1..=5u8 {
        let at = START + Duration::from_secs(u64::from(number));
        ledger.accept(operation(number, at)).await.unwrap();
    }
    let all = Listing { limit: 2, ..Listing::default() };
    let first = ledger.list(&all).await.unwrap();
    let second = ledger.list(&Listing { before: first.next, ..all.clone() }).await.unwrap();
    let third = ledger.list(&Listing { before: second.next, ..all.clone() }).await.unwrap();
    assert_eq!(
        [first.operations.len(), second.operations.len(), third.operations.len()],
        [2, 2, 1]
    );
    assert!(first.operations[0].accepted_at > first.operations[1].accepted_at);
    assert_eq!(third.next, None);
    let leased = claim_one(&ledger, START + HOUR).await;
    finish(&ledger, leased, START + HOUR).await;
    let of = |status| Listing { status: Some(status), limit: 9, ..Listing::default() };
    assert_eq!(ledger.list(&of(Status::Succeeded)).await.unwrap().operations.len(), 1);
    assert_eq!(ledger.list(&of(Status::Queued)).await.unwrap().operations.len(), 4);
    assert_eq!(ledger.list(&of(Status::Failed)).await.unwrap().operations.len(), 0);
    let since = Listing { since: Some(START + Duration::from_secs(4)), ..of(Status::Queued) };
    assert_eq!(ledger.list(&since).await.unwrap().operations.len(), 2);
    let queue = Listing { queue: Some("other".into()), limit: 9, ..Listing::default() };
    assert_eq!(ledger.list(&queue).await.unwrap().operations.len(), 0);
    close(ledger, tasks).await;
}

async fn what_lies_past_its_deadline_can_be_ended_without_an_attempt(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    ledger.accept(operation(1, START)).await.unwrap();
    assert!(ledger.claim_expired(lane(false), 9, START).await.unwrap().is_empty());
    let late = START + 24 * HOUR;
    let expired = ledger.claim_expired(lane(false), 9, late).await.unwrap().remove(0);
    let id = expired.id;
    ledger.settle(outcome_of(expired, &Outcome::Expired, late)).await.unwrap().unwrap();
    let ended = ledger.find(id).await.unwrap().unwrap();
    assert_eq!((ended.state.status(), ended.counts.attempts), (Status::Failed, 0));
    close(ledger, tasks).await;
}

async fn a_full_queue_takes_no_more(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    for number in 1..=2 {
        ledger.accept(NewOperation { max_depth: 2, ..operation(number, START) }).await.unwrap();
    }
    let third = ledger.accept(NewOperation { max_depth: 2, ..operation(3, START) }).await.unwrap();
    assert_eq!(third, Accepted::QueueFull { depth: 2 });
    close(ledger, tasks).await;
}

async fn a_key_that_is_known_is_answered_however_full_its_queue_is(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let full = |number, key, fingerprint, scope| NewOperation {
        max_depth: 2,
        ..with_key(number, key, fingerprint, scope)
    };
    let first = full(1, 1, 5, KeyScope::Retained);
    let (id, pending) = (first.id, full(2, 2, 5, KeyScope::Pending));
    for new in [first, pending] {
        assert!(matches!(ledger.accept(new).await, Ok(Accepted::New(_))));
    }
    let asked = async |new| ledger.accept(new).await.unwrap();
    assert_eq!(asked(full(3, 1, 5, KeyScope::Retained)).await, Accepted::Replayed(id));
    assert_eq!(asked(full(4, 1, 6, KeyScope::Retained)).await, Accepted::KeyConflict(id));
    let refused = Accepted::QueueFull { depth: 2 };
    assert_eq!(asked(full(5, 9, 5, KeyScope::Retained)).await, refused);
    // Nothing is left of what a repeat had written down before.
    let body = BodyKey(77);
    let piece = Piece { body, number: 0, octets: Bytes::from_static(b"piece") };
    ledger.stash(vec![piece]).await.unwrap();
    let mut large = full(6, 1, 5, KeyScope::Retained);
    let Work::Call(request) = &mut large.work else { panic!("no call") };
    request.body = Body::Chunked { key: body, length: 5 };
    assert_eq!(asked(large).await, Accepted::Replayed(id));
    assert!(ledger.piece(body, 0).await.unwrap().is_none());
    // One that counts while it is pending is free at its end.
    while let Some(leased) = claim_next(&ledger).await.pop() {
        finish(&ledger, leased, START).await;
    }
    for number in 7..=8 {
        ledger.accept(NewOperation { max_depth: 2, ..operation(number, START) }).await.unwrap();
    }
    assert_eq!(asked(full(9, 2, 5, KeyScope::Pending)).await, refused);
    assert_eq!(asked(full(10, 1, 5, KeyScope::Retained)).await, Accepted::Replayed(id));
    close(ledger, tasks).await;
}

async fn claim_next(ledger: &Ledger) -> Vec<Leased> {
    let wants = vec![Want { lane: lane(false), limit: 1 }];
    ledger.claim(wants, START).await.unwrap().remove(0).leased
}

async fn pieces_that_nothing_refers_to_go_when_discarded(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let piece =
        |body| Piece { body: BodyKey(body), number: 0, octets: Bytes::from_static(b"body") };
    ledger.stash(vec![piece(1), piece(2)]).await.unwrap();
    ledger.discard(BodyKey(1)).await.unwrap();
    assert!(ledger.piece(BodyKey(1), 0).await.unwrap().is_none());
    assert!(ledger.piece(BodyKey(2), 0).await.unwrap().is_some());
    close(ledger, tasks).await;
}

/// The odd octets and characters that fields, bodies and texts may have.
async fn what_is_odd_comes_back_as_it_was(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let mut fields = Fields::new();
    for odd in [&[0x80, 0xff, b'"', b'\\', b'{', b'}', b'\'', b','][..], b"", b"NULL", b"$1"] {
        fields.as_map_mut().append("x-odd", http::HeaderValue::from_bytes(odd).unwrap());
    }
    let every_octet: Vec<u8> = (0..=255).cycle().take(1000).collect();
    let mut ids = Vec::new();
    for (number, body) in [every_octet, Vec::new(), b"\\x00{NULL}".to_vec()].into_iter().enumerate()
    {
        let new = operation(number as u8 + 1, START);
        let Work::Call(request) = new.work.clone() else { panic!("no call") };
        let request = Request {
            target: "/o'rders/%00?x={\"a\",NULL}&y=\\".into(),
            fields: fields.clone(),
            body: Body::Inline(body.into()),
            ..request
        };
        let new = NewOperation {
            work: Work::Call(request),
            upstream_key: Some("k\"ey, {NULL} 'ü€😀".into()),
            tags: vec!["NULL".into(), "{a,b}".into(), "ü 'x' \\".into()],
            client_reference: Some(String::new()),
            ..new
        };
        ids.push((new.id, new.work.clone(), new.tags.clone(), new.upstream_key.clone()));
        ledger.accept(new).await.unwrap();
    }
    for (id, work, tags, key) in ids {
        let leased = claim_one(&ledger, START).await;
        assert_eq!((leased.id, &leased.work, &leased.upstream_key), (id, &work, &key));
        let found = ledger.find(id).await.unwrap().unwrap();
        assert_eq!((found.tags, found.client_reference.as_deref()), (tags, Some("")));
        let Work::Call(request) = work else { panic!("no call") };
        let answer = KeptAnswer {
            status: 200,
            fields: request.fields,
            body: request.body,
            created_location: Some("/ü?'".into()),
        };
        let settlement = Settlement {
            answer: Some(answer.clone()),
            ..outcome_of(leased, &answered(200), START)
        };
        ledger.settle(settlement).await.unwrap().unwrap();
        assert_eq!(ledger.answer(id).await.unwrap(), Some(answer));
    }
    close(ledger, tasks).await;
}

/// An operation whose body is one piece under that name.
async fn in_pieces(ledger: &Ledger, operation: NewOperation, key: BodyKey) -> NewOperation {
    let piece = Piece { body: key, number: 0, octets: Bytes::from_static(b"body") };
    ledger.stash(vec![piece]).await.unwrap();
    let Work::Call(request) = operation.work.clone() else { panic!("no call") };
    let work = Work::Call(Request { body: Body::Chunked { key, length: 4 }, ..request });
    NewOperation { work, ..operation }
}

async fn no_piece_of_a_body_outlives_what_it_was_for(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let (request, repeat, refused, answer) = (BodyKey(1), BodyKey(2), BodyKey(3), BodyKey(4));
    let first = in_pieces(&ledger, with_key(1, 9, 9, KeyScope::Retained), request).await;
    let id = first.id;
    ledger.accept(first).await.unwrap();
    let again = in_pieces(&ledger, with_key(2, 9, 9, KeyScope::Retained), repeat).await;
    assert_eq!(ledger.accept(again).await.unwrap(), Accepted::Replayed(id));
    let full =
        in_pieces(&ledger, NewOperation { max_depth: 1, ..operation(3, START) }, refused).await;
    assert_eq!(ledger.accept(full).await.unwrap(), Accepted::QueueFull { depth: 1 });
    let left = async |key| ledger.piece(key, 0).await.unwrap().is_some();
    assert_eq!(
        (left(request).await, left(repeat).await, left(refused).await),
        (true, false, false)
    );
    let leased = claim_one(&ledger, START).await;
    ledger.cancel(id, Freeing::Free, START).await.unwrap();
    let piece = Piece { body: answer, number: 0, octets: Bytes::from_static(b"made") };
    ledger.stash(vec![piece]).await.unwrap();
    let mut settlement = outcome_of(leased, &answered(201), START);
    settlement.answer =
        Some(KeptAnswer { body: Body::Chunked { key: answer, length: 4 }, ..created() });
    ledger.settle(settlement).await.unwrap().unwrap();
    assert_eq!((left(request).await, left(answer).await), (false, false));
    close(ledger, tasks).await;
}

async fn every_reading_brings_the_present_state_however_it_came_about(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let serial = |number| {
        let key = SerialKey { digest: [7; 16], text: "customer-7".into() };
        NewOperation { serial_key: Some(key), ..operation(number, START) }
    };
    let (first, second) = (serial(1).id, serial(2).id);
    ledger.accept(serial(1)).await.unwrap();
    ledger.accept(serial(2)).await.unwrap();
    let both = async || {
        let status = async |id| ledger.find(id).await.unwrap().map(|found| found.state.status());
        (status(first).await, status(second).await)
    };
    assert_eq!(both().await, (Some(Status::Queued), Some(Status::Waiting)));
    let leased = claim_one(&ledger, START).await;
    assert_eq!(both().await, (Some(Status::Running), Some(Status::Waiting)));
    finish(&ledger, leased, START).await;
    assert_eq!(both().await, (Some(Status::Succeeded), Some(Status::Queued)));
    ledger.free(first, START).await.unwrap();
    assert!(ledger.find(first).await.unwrap().unwrap().freed_at.is_some());
    ledger.cancel(second, Freeing::Keep, START).await.unwrap();
    assert_eq!(both().await, (Some(Status::Succeeded), Some(Status::Canceled)));
    ledger.prune(9, START + 7 * HOUR).await.unwrap();
    ledger.prune(9, START + 7 * HOUR).await.unwrap();
    assert_eq!(both().await, (None, None));
    close(ledger, tasks).await;
}

async fn a_reading_that_straddles_a_change_keeps_nothing(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    ledger.accept(operation(1, START)).await.unwrap();
    let id = operation(1, START).id;
    let before = ledger.find(id).await.unwrap().unwrap();
    let snapshots = snapshots::Snapshots::default();
    let Present::Unknown(reading) = snapshots.look(id) else { panic!("nothing was read yet") };
    snapshots.forget([id]);
    snapshots.read(id, reading, Some(&before));
    assert!(matches!(snapshots.look(id), Present::Unknown(_)));
    close(ledger, tasks).await;
}

async fn one_bad_row_fails_alone_and_not_the_batch_that_it_came_in(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let mut batch: Vec<_> = (1..=40).map(|number| operation(number, START)).collect();
    // The same id twice breaks a constraint of the schema.
    batch[17].id = batch[3].id;
    let fates =
        futures_util::future::join_all(batch.into_iter().map(|operation| ledger.accept(operation)))
            .await;
    let failed: Vec<_> =
        (0..).zip(&fates).filter(|(_, fate)| fate.is_err()).map(|(place, _)| place).collect();
    // Where several commit at once, either of the two may be the second.
    assert!(failed == [17] || failed == [3], "{failed:?}");
    assert_eq!(ledger.lanes().iter().map(|lane| lane.depth).sum::<u64>(), 39);
    close(ledger, tasks).await;
}

async fn whoever_watches_is_woken_by_the_end(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    ledger.accept(operation(1, START)).await.unwrap();
    let leased = claim_one(&ledger, START).await;
    let mut watch = ledger.watch(leased.id);
    finish(&ledger, leased, START).await;
    watch.changed().await;
    close(ledger, tasks).await;
}

async fn a_paused_queue_is_paused_until_it_is_resumed_also_over_a_restart(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let wish = |paused| Pausing { queue: "default".into(), paused, at: START };
    assert!(!ledger.is_paused("default"));
    assert!(ledger.pause(wish(true)).await.unwrap());
    assert!(!ledger.pause(wish(true)).await.unwrap(), "it was paused before");
    assert!(ledger.is_paused("default") && !ledger.is_paused("other"));
    close(ledger, tasks).await;
    let (ledger, tasks) = place.open(START).await;
    assert!(ledger.is_paused("default"));
    assert!(ledger.pause(wish(false)).await.unwrap());
    assert!(!ledger.is_paused("default"));
    assert!(!ledger.pause(wish(false)).await.unwrap(), "nothing was paused");
    close(ledger, tasks).await;
}

fn vitals() -> Vitals {
    Vitals {
        name: "one".to_owned(),
        role: Role::Worker,
        queues: vec!["reports".to_owned(), "default".to_owned()],
        slots: 7,
        running: 2,
        fingerprint: "f".to_owned(),
        lease: Duration::from_secs(15),
    }
}

async fn a_beat_tells_of_this_node_and_brings_what_it_owns(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let first = ledger.beat(vitals()).await.unwrap();
    assert!(first.held.is_empty() && first.others.is_empty(), "{first:?}");
    ledger.accept(operation(1, START)).await.unwrap();
    let leased = claim_one(&ledger, START).await;
    let second = ledger.beat(vitals()).await.unwrap();
    assert_eq!(second.beat, first.beat + 1);
    let key = leased.lease.key();
    assert_eq!(second.held, [Owned { key, taken_over: false, cancel_asked: false }]);
    let nodes = ledger.nodes().await.unwrap();
    assert_eq!(nodes.len(), 1);
    assert_eq!((nodes[0].vitals.clone(), nodes[0].ended_at), (vitals(), None));
    ledger.leave(Vec::new(), START).await.unwrap();
    assert_eq!(ledger.nodes().await.unwrap()[0].ended_at, Some(START));
    close(ledger, tasks).await;
}

async fn what_was_never_begun_is_handed_out_anew_and_its_former_lease_settles_nothing(
    place: Place,
) {
    let (ledger, tasks) = place.open(START).await;
    ledger.accept(operation(1, START)).await.unwrap();
    let lost = claim_one(&ledger, START).await;
    let again = ledger.reclaim(vec![lost.lease.key()], START).await.unwrap().remove(0);
    assert!(ledger.reclaim(vec![lost.lease.key()], START).await.unwrap().is_empty());
    assert_eq!(
        ledger.settle(outcome_of(lost, &answered(201), START)).await.unwrap(),
        Err(StaleLease)
    );
    let unsent = Outcome::Interrupted { sent: Sent::Nothing };
    let settled = ledger.settle(outcome_of(again, &unsent, START)).await.unwrap();
    assert_eq!(settled, Ok(Status::Queued));
    let counts = claim_one(&ledger, START).await.counts;
    assert_eq!((counts.attempts, counts.resumes, counts.spent()), (2, 1, 1));
    close(ledger, tasks).await;
}

async fn what_was_taken_over_says_so_until_it_is_settled(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    ledger.accept(operation(1, START)).await.unwrap();
    claim_one(&ledger, START).await;
    let dead = vec![Dead { incarnation: ledger.incarnation(), beat: None }];
    let orphan = ledger.claim_orphans(dead, 9, START).await.unwrap().remove(0);
    let held = ledger.beat(vitals()).await.unwrap().held;
    assert_eq!(held[0], Owned { key: orphan.lease.key(), taken_over: true, cancel_asked: false });
    ledger.settle(outcome_of(orphan, &Outcome::Lost, START)).await.unwrap().unwrap();
    claim_one(&ledger, START).await;
    assert!(!ledger.beat(vitals()).await.unwrap().held[0].taken_over);
    close(ledger, tasks).await;
}

/// The suite on one engine: each of its tests gets a place of its own.
macro_rules! ledger_suite {
    ($engine:ident) => {
        suite_of!($engine:
            an_accepted_operation_comes_back_to_the_octet_and_is_there_after_a_restart,
            an_operation_goes_from_queued_over_running_to_its_end_with_all_effects,
            a_stale_lease_settles_nothing,
            the_same_key_is_the_same_operation_and_another_request_under_it_is_a_conflict,
            a_key_that_counts_while_pending_is_free_again_at_the_end,
            a_free_slot_gets_a_new_operation_without_a_claim_unless_an_older_one_waits,
            operations_of_one_serial_key_go_one_at_a_time_in_the_order_accepted,
            a_retry_is_due_later_and_not_claimed_before,
            canceling_ends_what_has_not_begun_and_asks_what_runs,
            an_upstream_that_is_followed_is_asked_again_after_a_restart,
            results_are_freed_first_and_operations_later_with_their_keys_and_tags,
            freeing_by_hand_is_for_what_has_ended_and_counts_as_the_expiry,
            progress_is_kept_once_a_second_and_only_for_the_present_attempt,
            a_tree_is_what_an_operation_gave_rise_to_and_stays_within_its_principal,
            a_list_goes_page_by_page_and_filters,
            what_lies_past_its_deadline_can_be_ended_without_an_attempt,
            a_full_queue_takes_no_more,
            a_key_that_is_known_is_answered_however_full_its_queue_is,
            a_paused_queue_is_paused_until_it_is_resumed_also_over_a_restart,
            pieces_that_nothing_refers_to_go_when_discarded,
            what_is_odd_comes_back_as_it_was,
            no_piece_of_a_body_outlives_what_it_was_for,
            every_reading_brings_the_present_state_however_it_came_about,
            a_reading_that_straddles_a_change_keeps_nothing,
            one_bad_row_fails_alone_and_not_the_batch_that_it_came_in,
            whoever_watches_is_woken_by_the_end,
            a_beat_tells_of_this_node_and_brings_what_it_owns,
            what_was_never_begun_is_handed_out_anew_and_its_former_lease_settles_nothing,
            what_was_taken_over_says_so_until_it_is_settled,
        );
    };
}

ledger_suite!(sqlite);
ledger_suite!(postgres);
