//! From the acceptance to the end.

use super::*;
use cloakroom_domain::http::retry_after::RetryAfter;

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
    assert_eq!(state(&ledger, id).await, OperationState::Queued { due_at: START });
    let leased = claim_one(&ledger, START).await;
    assert_eq!(state(&ledger, id).await, OperationState::Running { since: START });
    let later = START + Duration::from_secs(2);
    assert_eq!(finish(&ledger, leased, later).await, Status::Succeeded);
    let ended = ledger.find(id).await.unwrap().unwrap();
    assert_eq!(ended.state, OperationState::Succeeded { at: later });
    assert_eq!(
        (ended.response_status, ended.created_location.as_deref()),
        (Some(201), Some("/orders/1"))
    );
    assert_eq!(ended.response_framing, Some(ResponseFraming::Close));
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
    assert_eq!(state(&ledger, id).await, OperationState::Running { since: START });
    let settled = ledger.settle(outcome_of(orphan, &Outcome::Lost, START)).await.unwrap();
    assert_eq!(settled, Ok(Status::Queued));
    assert!(ledger.claim_orphans(dead, 10, START).await.unwrap().is_empty());
    close(ledger, tasks).await;
}

/// Waits until no lane has anything left. Where others write too, a look at the lanes that began
/// before a claim may end after it: the next look corrects it.
async fn emptied(ledger: &Ledger) {
    in_a_database::until("lanes that are empty", async || {
        ledger.lanes().iter().all(|lane| lane.depth == 0)
    })
    .await;
}

async fn a_free_slot_gets_a_new_operation_without_a_claim_unless_an_older_one_has_waited(
    place: Place,
) {
    let (ledger, tasks) = place.open(START).await;
    ledger.accept(operation(1, START)).await.unwrap();
    let (hands, mut handed) = mpsc::unbounded_channel();
    ledger.lend_desk(Arc::new(Hands(hands, false)));
    ledger.accept(operation(2, START + Duration::from_millis(50))).await.unwrap();
    assert!(handed.try_recv().is_err());
    // What has only just come to be due is overtaken.
    let third = operation(3, START + Duration::from_millis(49));
    let id = third.id;
    ledger.accept(third).await.unwrap();
    let (leased, overtakes) = handed.try_recv().unwrap();
    assert_eq!((leased.id, overtakes), (id, true));
    let later = START + Duration::from_secs(1);
    let claimed = ledger.claim(vec![Want { lane: lane(false), limit: 9 }], later).await.unwrap();
    assert_eq!(claimed[0].leased.len(), 2);
    emptied(&ledger).await;
    let fourth = operation(4, later);
    let id = fourth.id;
    ledger.accept(fourth).await.unwrap();
    let (leased, overtakes) = handed.try_recv().unwrap();
    assert!(!overtakes);
    assert_eq!(state(&ledger, id).await, OperationState::Running { since: later });
    assert_eq!(finish(&ledger, leased, later).await, Status::Succeeded);
    close(ledger, tasks).await;
}

async fn a_retry_is_due_later_and_not_claimed_before(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    ledger.accept(operation(1, START)).await.unwrap();
    let leased = claim_one(&ledger, START).await;
    let broken = Outcome::Broken { sent: SendState::Perhaps, cause: ErrorCode::UpstreamProtocol };
    let id = leased.id;
    ledger.settle(outcome_of(leased, &broken, START)).await.unwrap().unwrap();
    let OperationState::Queued { due_at } = state(&ledger, id).await else { panic!("not queued") };
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
    emptied(&ledger).await;
    let mut cancels = ledger.cancels();
    assert_eq!(ledger.cancel(running_id, Freeing::Free, START).await.unwrap(), Canceled::Asked);
    assert_eq!(cancels.recv().await.unwrap(), running_id);
    // It would be tried again, but it has been called off.
    let broken = Outcome::Broken { sent: SendState::Perhaps, cause: ErrorCode::UpstreamProtocol };
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
    let accepted = UpstreamAnswer {
        retry_after: RetryAfter::In(Duration::from_mins(1)),
        monitor: Some(cloakroom_domain::operation::Continuation::monitor("http://up/jobs/1")),
        ..UpstreamAnswer::plain(202)
    };
    ledger.settle(outcome_of(leased, &Outcome::Answered(accepted), START)).await.unwrap().unwrap();
    assert!(ledger.claim_waiting(following(9), START, START + HOUR).await.unwrap().is_empty());
    close(ledger, tasks).await;
    let later = START + Duration::from_mins(1);
    let (ledger, tasks) = place.open(later).await;
    let followed = ledger.claim_waiting(following(9), later, later + HOUR).await.unwrap().remove(0);
    let continuation = followed.continuation.clone().unwrap();
    assert_eq!((followed.id, continuation.as_monitor()), (id, Some("http://up/jobs/1")));
    let pending = Outcome::StillPending { retry_after: None };
    ledger.settle(outcome_of(followed, &pending, later)).await.unwrap().unwrap();
    let due = later + Duration::from_secs(5);
    let followed = ledger.claim_waiting(following(9), due, due + HOUR).await.unwrap().remove(0);
    assert_eq!(followed.continuation, Some(continuation));
    let message = Some("half".to_owned());
    let report = ProgressReport { id, attempt: 1, percent: Some(50), message, at: due };
    assert_eq!(ledger.progress(report.clone()).await.unwrap(), Progressed::Kept);
    assert_eq!(ledger.progress(report).await.unwrap(), Progressed::TooSoon);
    assert_eq!(finish(&ledger, followed, due).await, Status::Succeeded);
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

async fn what_lies_past_its_deadline_can_be_ended_without_an_attempt(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    ledger.accept(operation(1, START)).await.unwrap();
    let looked = async |now| ledger.overdue(&lane(false), LanePlace::START, 9, now).await.unwrap();
    assert!(looked(START).await.is_empty());
    let late = START + 24 * HOUR;
    let overdue = looked(late).await;
    let mut expired = ledger.claim_expired(lane(false), overdue.clone(), late).await.unwrap();
    // Who looked at the same time finds it taken.
    assert!(ledger.claim_expired(lane(false), overdue, late).await.unwrap().is_empty());
    let expired = expired.remove(0);
    let id = expired.id;
    ledger.settle(outcome_of(expired, &Outcome::Expired, late)).await.unwrap().unwrap();
    let ended = ledger.find(id).await.unwrap().unwrap();
    assert_eq!((ended.state.status(), ended.counts.attempts), (Status::Failed, 0));
    close(ledger, tasks).await;
}

/// Whatever their deadlines are, each operation is looked at once.
async fn a_lane_of_mixed_deadlines_is_walked_once_in_small_steps(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    for number in 1..=40 {
        let mut new = operation(number, START + Duration::from_secs(u64::from(number % 7)));
        new.policy.deadline_at = START + u32::from(1 + number % 2) * HOUR;
        ledger.accept(NewOperation { max_depth: 100, ..new }).await.unwrap();
    }
    let (mut from, mut looks, mut ended) = (Some(LanePlace::START), 0, Vec::new());
    while let Some(place) = from {
        let overdue = ledger.overdue(&lane(false), place, 10, START + HOUR).await.unwrap();
        from = overdue.next;
        looks += 1;
        let leased = ledger.claim_expired(lane(false), overdue, START + HOUR).await.unwrap();
        assert!(leased.len() <= 10);
        ended.extend(leased.into_iter().map(|leased| leased.id));
    }
    assert_eq!((ended.len(), looks), (20, 5));
    assert_eq!(ledger.queue_depth("default"), 20);
    // A look tells of the deadlines that come before the next one.
    let look = async |now| ledger.overdue(&lane(false), LanePlace::START, 40, now).await.unwrap();
    assert!(look(START + HOUR).await.soon.is_empty());
    let soon = look(START + 2 * HOUR - Duration::from_mins(1)).await;
    assert!(soon.is_empty());
    assert_eq!((soon.soon.len(), soon.soon[0].at), (20, START + 2 * HOUR));
    let passed = Overdue::of(&soon.soon[..7]);
    let leased = ledger.claim_expired(lane(false), passed, START + 2 * HOUR).await.unwrap();
    assert_eq!(leased.len(), 7);
    close(ledger, tasks).await;
}

async fn an_end_before_anything_was_sent_frees_the_key_and_any_other_keeps_it(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let with_key = |number| {
        let claim =
            IdempotencyClaim { digest: [7; 16], fingerprint: print(7), scope: KeyScope::Retained };
        NewOperation { idempotency: Some(claim), ..operation(number, START) }
    };
    let cause = ErrorCode::UpstreamUnreachable;
    // Settled, with nothing sent.
    for (number, outcome) in
        [(1, Outcome::Expired), (2, Outcome::Canceled { sent: SendState::Nothing })]
    {
        let accepted = ledger.accept(with_key(number)).await.unwrap();
        assert!(matches!(accepted, Accepted::New(_)), "{number}: {accepted:?}");
        let leased = claim_one(&ledger, START).await;
        ledger.settle(outcome_of(leased, &outcome, START)).await.unwrap().unwrap();
    }
    // Canceled, before it began and after an attempt in which nothing was sent.
    let Accepted::New(queued) = ledger.accept(with_key(3)).await.unwrap() else { panic!() };
    assert_eq!(ledger.cancel(queued, Freeing::Free, START).await.unwrap(), Canceled::Done);
    let Accepted::New(tried) = ledger.accept(with_key(4)).await.unwrap() else { panic!() };
    let leased = claim_one(&ledger, START).await;
    let unsent = Outcome::Broken { sent: SendState::Nothing, cause };
    ledger.settle(outcome_of(leased, &unsent, START)).await.unwrap().unwrap();
    assert_eq!(ledger.cancel(tried, Freeing::Keep, START).await.unwrap(), Canceled::Done);
    // Canceled, after one in which something was: that is known after a restart, too.
    let Accepted::New(refused) = ledger.accept(with_key(5)).await.unwrap() else { panic!() };
    let leased = claim_one(&ledger, START).await;
    ledger.settle(outcome_of(leased, &answered(429), START)).await.unwrap().unwrap();
    close(ledger, tasks).await;
    let (ledger, tasks) = place.open(START).await;
    assert_eq!(ledger.cancel(refused, Freeing::Keep, START).await.unwrap(), Canceled::Done);
    let found = ledger.find(refused).await.unwrap().unwrap();
    assert_eq!(found.counts.contact, UpstreamContact::Answered);
    assert_eq!(ledger.accept(with_key(6)).await.unwrap(), Accepted::Replayed(refused));
    close(ledger, tasks).await;
}

async fn what_was_promised_of_statuses_comes_back_with_what_past_attempts_tell(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let policy = |number| {
        let new = operation(number, START);
        let retry = RetryPolicy {
            statuses: Some([500, 418].into_iter().collect()),
            ..new.policy.retry.clone()
        };
        let (wait, success) = (Some(HOUR), Some([201, 303].into_iter().collect()));
        let policy = Policy { retry, wait, success, ..new.policy.clone() };
        NewOperation { policy, ..new }
    };
    let promised = policy(1).policy;
    let id = policy(1).id;
    ledger.accept(policy(1)).await.unwrap();
    assert_eq!(ledger.promised(id).await.unwrap().unwrap().due_at, START);
    let mut leased = claim_one(&ledger, START).await;
    assert_eq!(leased.policy, promised);
    for (contact, last_try) in [(UpstreamContact::Answered, true), (UpstreamContact::Lost, false)] {
        let mut settlement = outcome_of(leased, &answered(429), START);
        let due_at = START;
        settlement.transition.next = NextState::Queued { due_at };
        settlement.transition.effects.clear();
        settlement.transition.counts.contact = contact;
        settlement.transition.counts.last_try = last_try;
        settlement.answer = None;
        ledger.settle(settlement).await.unwrap().unwrap();
        leased = claim_one(&ledger, START).await;
        assert_eq!((leased.counts.contact, leased.counts.last_try), (contact, last_try));
    }
    close(ledger, tasks).await;
}

async fn once_a_cancel_was_accepted_a_key_of_the_pending_is_free(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let asked =
        |number, max_depth| NewOperation { max_depth, ..with_key(number, 1, 1, KeyScope::Pending) };
    let first = asked(1, 100).id;
    ledger.accept(asked(1, 100)).await.unwrap();
    let leased = claim_one(&ledger, START).await;
    assert_eq!(ledger.accept(asked(2, 100)).await.unwrap(), Accepted::Replayed(first));
    assert_eq!(ledger.accept(asked(2, 0)).await.unwrap(), Accepted::Replayed(first));
    assert_eq!(ledger.cancel(first, Freeing::Keep, START).await.unwrap(), Canceled::Asked);
    let full = ledger.accept(asked(2, 0)).await.unwrap();
    assert!(matches!(full, Accepted::QueueFull { .. }), "{full:?}");
    let second = asked(2, 100).id;
    assert_eq!(ledger.accept(asked(2, 100)).await.unwrap(), Accepted::New(second));
    // The end of the first leaves the key to the second.
    let unsent = Outcome::Canceled { sent: SendState::Nothing };
    ledger.settle(outcome_of(leased, &unsent, START)).await.unwrap().unwrap();
    assert_eq!(ledger.accept(asked(3, 100)).await.unwrap(), Accepted::Replayed(second));
    // A key that stays for as long as its operation is there stands for that.
    let kept = with_key(4, 2, 1, KeyScope::Retained);
    let id = kept.id;
    ledger.accept(kept).await.unwrap();
    ledger.claim(vec![Want { lane: lane(false), limit: 9 }], START).await.unwrap();
    assert_eq!(ledger.cancel(id, Freeing::Keep, START).await.unwrap(), Canceled::Asked);
    let again = with_key(5, 2, 1, KeyScope::Retained);
    assert_eq!(ledger.accept(again).await.unwrap(), Accepted::Replayed(id));
    close(ledger, tasks).await;
}

async fn a_timeline_keeps_its_beginning_and_its_end(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    ledger.accept(operation(1, START)).await.unwrap();
    let id = claim_one(&ledger, START).await.id;
    let mut at = START;
    for next in [3, 101, 1001] {
        let sql = match next {
            3 => "UPDATE running SET sequence = 2",
            101 => "UPDATE running SET sequence = 100",
            _ => "UPDATE running SET sequence = 1000",
        };
        super::sql(&place, sql).await;
        for _ in 0..20 {
            at = at + Duration::from_secs(1);
            let report = ProgressReport { id, attempt: 1, percent: Some(1), message: None, at };
            assert_eq!(ledger.progress(report).await.unwrap(), Progressed::Kept);
        }
    }
    let events = ledger.events(id, 0, 10_000).await.unwrap();
    let numbers: Vec<_> = events.iter().map(|event| event.sequence).collect();
    let expected: Vec<_> = (1..=22).chain(1001..=1020).collect();
    assert_eq!(numbers, expected);
    close(ledger, tasks).await;
}

macro_rules! on {
    ($engine:ident) => {
        suite_of!($engine:
            an_accepted_operation_comes_back_to_the_octet_and_is_there_after_a_restart,
            an_operation_goes_from_queued_over_running_to_its_end_with_all_effects,
            a_stale_lease_settles_nothing,
            a_free_slot_gets_a_new_operation_without_a_claim_unless_an_older_one_has_waited,
            a_retry_is_due_later_and_not_claimed_before,
            canceling_ends_what_has_not_begun_and_asks_what_runs,
            an_upstream_that_is_followed_is_asked_again_after_a_restart,
            progress_is_kept_once_a_second_and_only_for_the_present_attempt,
            what_lies_past_its_deadline_can_be_ended_without_an_attempt,
            a_lane_of_mixed_deadlines_is_walked_once_in_small_steps,
            an_end_before_anything_was_sent_frees_the_key_and_any_other_keeps_it,
            once_a_cancel_was_accepted_a_key_of_the_pending_is_free,
            a_timeline_keeps_its_beginning_and_its_end,
            what_was_promised_of_statuses_comes_back_with_what_past_attempts_tell,
        );
    };
}

on!(sqlite);
on!(postgres);
