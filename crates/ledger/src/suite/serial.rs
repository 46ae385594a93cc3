//! Serial keys whose operations fail.

use super::*;

fn blocking(number: u8) -> NewOperation {
    let mut new = operation(number, START);
    new.policy.on_failure = OnFailure::Block;
    new.serial_key = Some(SerialKey { digest: [7; 16], text: "customer-7".into() });
    new
}

async fn fail(ledger: &Ledger, id: OperationId) {
    let leased = claim_one(ledger, START).await;
    assert_eq!(leased.id, id);
    let ended = ledger.settle(outcome_of(leased, &answered(422), START)).await.unwrap();
    assert_eq!(ended, Ok(Status::Failed));
}

async fn keys(ledger: &Ledger, blocked: bool) -> Vec<KeyInUse> {
    ledger.keys(KeyListing { blocked, after: None, limit: 9 }).await.unwrap().to_vec()
}

async fn accept_all(ledger: &Ledger, numbers: impl IntoIterator<Item = u8>) {
    for number in numbers {
        ledger.accept(blocking(number)).await.unwrap();
    }
}

async fn status(ledger: &Ledger, number: u8) -> Status {
    state(ledger, blocking(number).id).await.status()
}

async fn a_failure_that_blocks_keeps_its_key_until_a_person_lets_the_next_go(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    accept_all(&ledger, [1, 2]).await;
    let first = blocking(1).id;
    fail(&ledger, first).await;
    accept_all(&ledger, [3]).await;
    let waits = OperationState::Waiting { on: WaitingFor::SerialKey, due_at: None };
    for number in [2, 3] {
        assert_eq!(state(&ledger, blocking(number).id).await, waits);
    }
    let blocked = keys(&ledger, true).await.remove(0);
    assert_eq!(blocked.blocked, Some(Blocked { by: first, since: START }));
    assert_eq!((blocked.key.as_deref(), blocked.waiting), (Some("customer-7"), 2));
    let next = Some(blocking(2).id);
    assert_eq!(ledger.unblock(blocked.name, START).await.unwrap(), Unblocked::Done(next));
    assert_eq!(ledger.unblock(blocked.name, START).await.unwrap(), Unblocked::NotBlocked);
    assert_eq!(keys(&ledger, true).await, []);
    assert_eq!(keys(&ledger, false).await[0].holder, next);
    // The next failure blocks it again, and no operation is left behind the last.
    fail(&ledger, blocking(2).id).await;
    ledger.unblock(blocked.name, START).await.unwrap();
    let last = claim_one(&ledger, START).await;
    finish(&ledger, last, START).await;
    assert_eq!(keys(&ledger, false).await, []);
    close(ledger, tasks).await;
}

async fn a_wait_for_a_retry_holds_the_key(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    accept_all(&ledger, [1, 2]).await;
    let broken = Outcome::Broken { sent: SendState::Perhaps, cause: ErrorCode::UpstreamProtocol };
    let first = claim_one(&ledger, START).await;
    ledger.settle(outcome_of(first, &broken, START)).await.unwrap().unwrap();
    let OperationState::Queued { due_at } = state(&ledger, blocking(1).id).await else {
        panic!("no retry")
    };
    accept_all(&ledger, [3]).await;
    for number in [2, 3] {
        assert_eq!(status(&ledger, number).await, Status::Waiting);
    }
    // It goes first, and only its end lets the next go.
    let again = claim_one(&ledger, due_at).await;
    assert_eq!((again.id, status(&ledger, 2).await), (blocking(1).id, Status::Waiting));
    finish(&ledger, again, due_at).await;
    assert_eq!(
        (status(&ledger, 2).await, status(&ledger, 3).await),
        (Status::Queued, Status::Waiting)
    );
    close(ledger, tasks).await;
}

async fn a_repeat_by_hand_takes_the_place_of_what_blocks_the_key(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    accept_all(&ledger, [1, 2]).await;
    fail(&ledger, blocking(1).id).await;
    let repeat =
        |number| NewOperation { retry_of: Some(again(blocking(1).id)), ..blocking(number) };
    let both = futures_util::future::join(ledger.accept(repeat(8)), ledger.accept(repeat(9))).await;
    assert!(matches!(both, (Ok(Accepted::New(_)), Ok(Accepted::New(_)))));
    // Only one of them is the first; the other one goes behind those that waited.
    let (first, second) = match status(&ledger, 8).await {
        Status::Queued => (8, 9),
        _ => (9, 8),
    };
    assert_eq!(status(&ledger, first).await, Status::Queued);
    assert_eq!(status(&ledger, second).await, Status::Waiting);
    assert_eq!(status(&ledger, 2).await, Status::Waiting);
    assert_eq!(keys(&ledger, true).await, []);
    for number in [first, 2, second] {
        let leased = claim_one(&ledger, START).await;
        assert_eq!(leased.id, blocking(number).id);
        finish(&ledger, leased, START).await;
    }
    close(ledger, tasks).await;
}

async fn what_is_canceled_or_succeeds_blocks_nothing(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    accept_all(&ledger, [1, 2, 3]).await;
    ledger.cancel(blocking(1).id, Freeing::Keep, START).await.unwrap();
    let second = claim_one(&ledger, START).await;
    assert_eq!(second.id, blocking(2).id);
    finish(&ledger, second, START).await;
    assert_eq!(claim_one(&ledger, START).await.id, blocking(3).id);
    assert_eq!(keys(&ledger, true).await, []);
    close(ledger, tasks).await;
}

async fn keys_are_listed_page_by_page_with_who_waits(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    for number in 1..=6 {
        let mut new = blocking(number);
        new.serial_key = Some(SerialKey { digest: [number % 3; 16], text: format!("{number}") });
        ledger.accept(new).await.unwrap();
    }
    let page = |after| ledger.keys(KeyListing { blocked: false, after, limit: 2 });
    let first = page(None).await.unwrap();
    assert_eq!(first.len(), 2);
    let rest = page(Some(first[1].name)).await.unwrap();
    assert_eq!(rest.len(), 1);
    for key in first.iter().chain(rest.iter()) {
        assert_eq!((key.waiting, key.upstream.as_deref()), (1, Some("orders")));
        assert_eq!(key.name.to_string().parse(), Ok(key.name));
    }
    close(ledger, tasks).await;
}

async fn what_blocks_a_key_may_be_pruned_and_the_key_stays_blocked(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    accept_all(&ledger, [1]).await;
    fail(&ledger, blocking(1).id).await;
    for _ in 0..2 {
        ledger.prune(9, START + 8 * HOUR).await.unwrap();
    }
    assert!(ledger.find(blocking(1).id).await.unwrap().is_none());
    accept_all(&ledger, [2]).await;
    assert_eq!(status(&ledger, 2).await, Status::Waiting);
    let blocked = keys(&ledger, true).await.remove(0);
    assert_eq!((blocked.holder, blocked.key.as_deref()), (None, Some("customer-7")));
    ledger.unblock(blocked.name, START).await.unwrap();
    assert_eq!(status(&ledger, 2).await, Status::Queued);
    close(ledger, tasks).await;
}

/// Also behind a key that a failure blocks.
async fn whoever_waits_for_a_key_counts_as_queued_and_ends_at_its_deadline(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let bounded = |number| NewOperation { max_depth: 3, ..blocking(number) };
    for number in 1..=3 {
        assert!(matches!(ledger.accept(bounded(number)).await.unwrap(), Accepted::New(_)));
    }
    assert_eq!(ledger.accept(bounded(4)).await.unwrap(), Accepted::QueueFull { depth: 3 });
    assert_eq!(ledger.queue_depth("default"), 3);
    fail(&ledger, blocking(1).id).await;
    assert_eq!(ledger.queue_depth("default"), 2);
    let deadline = START + 24 * HOUR;
    let overdue = async |now| ledger.claim_overdue(9, now, now + HOUR).await.unwrap();
    assert!(overdue(deadline - HOUR).await.is_empty());
    let leased = overdue(deadline).await;
    assert_eq!(leased.len(), 2);
    // They are not handed out twice at once.
    assert!(overdue(deadline).await.is_empty());
    for leased in leased {
        let expired =
            Settlement { answer: None, ..outcome_of(leased, &Outcome::Expired, deadline) };
        assert_eq!(ledger.settle(expired).await.unwrap(), Ok(Status::Failed));
    }
    assert_eq!(
        (status(&ledger, 2).await, status(&ledger, 3).await),
        (Status::Failed, Status::Failed)
    );
    assert_eq!(ledger.queue_depth("default"), 0);
    // The key stays with whom it was.
    assert_eq!(keys(&ledger, true).await.len(), 1);
    close(ledger, tasks).await;
}

/// What is counted of those who wait follows them as they go.
async fn who_is_released_or_canceled_waits_for_the_key_no_more(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    accept_all(&ledger, 1..=4).await;
    assert_eq!(ledger.queue_depth("default"), 4);
    ledger.cancel(blocking(3).id, Freeing::Keep, START).await.unwrap();
    assert_eq!(ledger.queue_depth("default"), 3);
    let first = claim_one(&ledger, START).await;
    assert_eq!(ledger.queue_depth("default"), 2);
    finish(&ledger, first, START).await;
    assert_eq!(ledger.queue_depth("default"), 2);
    let second = claim_one(&ledger, START).await;
    finish(&ledger, second, START).await;
    assert_eq!(ledger.queue_depth("default"), 1);
    close(ledger, tasks).await;
    let (ledger, tasks) = place.open(START).await;
    let depth = ledger.lanes().iter().map(|lane| lane.depth).sum::<u64>();
    assert_eq!(depth, 1);
    close(ledger, tasks).await;
}

/// A client with the same key, to begin so many seconds later.
fn delayed(number: u8, seconds: u64) -> NewOperation {
    NewOperation { due_at: START + Duration::from_secs(seconds), ..blocking(number) }
}

fn after(seconds: u64) -> Timestamp {
    START + Duration::from_secs(seconds)
}

/// Carries out whatever of the key is due, one after the other, as a look goes before each; the
/// numbers in the order in which they went.
async fn go(ledger: &Ledger, seconds: u64) -> Vec<u8> {
    let (mut went, now) = (Vec::new(), after(seconds));
    loop {
        ledger.release_delayed(9, now).await.unwrap();
        let wants = vec![Want { lane: lane(false), limit: 9 }];
        let mut leased = ledger.claim(wants, now).await.unwrap().remove(0).leased;
        assert!(leased.len() < 2, "two of a key at once");
        let Some(leased) = leased.pop() else { return went };
        went.extend((1..=9).filter(|number| operation(*number, START).id == leased.id));
        finish(ledger, leased, now).await;
    }
}

async fn a_delayed_operation_leaves_its_key_to_others_until_its_time(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    ledger.accept(delayed(1, 60)).await.unwrap();
    accept_all(&ledger, [2, 3]).await;
    assert_eq!(
        state(&ledger, delayed(1, 0).id).await,
        OperationState::Queued { due_at: after(60) }
    );
    assert_eq!(status(&ledger, 3).await, Status::Waiting);
    assert_eq!(ledger.queue_depth("default"), 3);
    assert_eq!(go(&ledger, 0).await, [2, 3]);
    assert!(go(&ledger, 59).await.is_empty());
    assert_eq!(ledger.queue_depth("default"), 1);
    assert_eq!(keys(&ledger, false).await, []);
    assert_eq!(go(&ledger, 60).await, [1]);
    assert_eq!(ledger.queue_depth("default"), 0);
    let kinds: Vec<_> = ledger.events(delayed(1, 0).id, 0, 9).await.unwrap().to_vec();
    let kinds: Vec<_> = kinds.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::Accepted, EventKind::Started, EventKind::Succeeded]);
    close(ledger, tasks).await;
}

/// Who was delayed until then comes before who was accepted later.
async fn operations_of_a_key_go_in_the_order_of_becoming_due(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    for new in [delayed(1, 30), delayed(2, 20), delayed(3, 20), blocking(4)] {
        ledger.accept(new).await.unwrap();
    }
    let first = claim_one(&ledger, START).await;
    let at = |number, seconds| NewOperation {
        accepted_at: after(seconds),
        due_at: after(seconds),
        ..blocking(number)
    };
    ledger.accept(at(5, 10)).await.unwrap();
    // Their time comes while another one has the key, and some are accepted then.
    assert_eq!(ledger.release_delayed(9, after(25)).await.unwrap(), 2);
    for number in [2, 3] {
        assert_eq!(status(&ledger, number).await, Status::Waiting);
    }
    assert_eq!(status(&ledger, 1).await, Status::Queued);
    ledger.accept(at(6, 25)).await.unwrap();
    ledger.accept(at(7, 40)).await.unwrap();
    assert_eq!(first.id, blocking(4).id);
    finish(&ledger, first, after(40)).await;
    assert_eq!(go(&ledger, 40).await, [5, 2, 3, 6, 1, 7]);
    close(ledger, tasks).await;
}

/// The look that lets it go comes a little later than its time.
async fn whoever_comes_when_a_delay_is_over_goes_behind(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    ledger.accept(delayed(1, 10)).await.unwrap();
    let late = NewOperation { accepted_at: after(11), due_at: after(11), ..blocking(2) };
    ledger.accept(late).await.unwrap();
    let due = ledger.claim(vec![Want { lane: lane(false), limit: 9 }], after(11)).await.unwrap();
    assert!(due[0].leased.is_empty());
    // Nothing is amiss meanwhile.
    let report = ledger.reconcile(true, after(11)).await.unwrap();
    assert!(report.findings.is_empty(), "{report:?}");
    assert_eq!(go(&ledger, 11).await, [1, 2]);
    close(ledger, tasks).await;
}

async fn a_delayed_operation_may_be_canceled_may_end_and_waits_behind_a_blocked_key(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    for new in [delayed(1, 10), delayed(2, 10), delayed(3, 10), blocking(4)] {
        ledger.accept(new).await.unwrap();
    }
    ledger.cancel(delayed(1, 0).id, Freeing::Keep, START).await.unwrap();
    fail(&ledger, blocking(4).id).await;
    assert!(go(&ledger, 10).await.is_empty());
    for number in [2, 3] {
        assert_eq!(status(&ledger, number).await, Status::Waiting);
    }
    let overdue = ledger.claim_overdue(1, START + 24 * HOUR, START + 25 * HOUR).await.unwrap();
    assert_eq!(overdue[0].id, delayed(2, 0).id);
    let blocked = keys(&ledger, true).await.remove(0);
    assert_eq!(blocked.waiting, 2);
    ledger.unblock(blocked.name, after(11)).await.unwrap();
    assert_eq!(ledger.queue_depth("default"), 2);
    assert_eq!(go(&ledger, 11).await, [2, 3]);
    close(ledger, tasks).await;
}

async fn delayed_and_waiting_ones_of_a_key_are_listed_by_their_status(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    for new in [delayed(1, 10), blocking(2), blocking(3)] {
        ledger.accept(new).await.unwrap();
    }
    let of = async |status| {
        let listing = Listing { status: Some(status), limit: 9, ..Listing::default() };
        let mut ids: Vec<_> =
            ledger.list(&listing).await.unwrap().operations.iter().map(|it| it.id).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(of(Status::Queued).await, [delayed(1, 0).id, blocking(2).id]);
    assert_eq!(of(Status::Waiting).await, [blocking(3).id]);
    close(ledger, tasks).await;
}

macro_rules! on {
    ($engine:ident) => {
        suite_of!($engine:
            a_failure_that_blocks_keeps_its_key_until_a_person_lets_the_next_go,
            a_wait_for_a_retry_holds_the_key,
            a_repeat_by_hand_takes_the_place_of_what_blocks_the_key,
            what_is_canceled_or_succeeds_blocks_nothing,
            keys_are_listed_page_by_page_with_who_waits,
            what_blocks_a_key_may_be_pruned_and_the_key_stays_blocked,
            whoever_waits_for_a_key_counts_as_queued_and_ends_at_its_deadline,
            who_is_released_or_canceled_waits_for_the_key_no_more,
            a_delayed_operation_leaves_its_key_to_others_until_its_time,
            operations_of_a_key_go_in_the_order_of_becoming_due,
            whoever_comes_when_a_delay_is_over_goes_behind,
            a_delayed_operation_may_be_canceled_may_end_and_waits_behind_a_blocked_key,
            delayed_and_waiting_ones_of_a_key_are_listed_by_their_status,
        );
    };
}

on!(sqlite);
on!(postgres);
