use http::Method;
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::super::{Recheck, RetryPolicy};
use super::*;

const NOW: Timestamp = Timestamp::from_micros(1_000_000_000);
const HOUR: Duration = Duration::from_hours(1);

fn policy(delivery: DeliveryGuarantee) -> Policy {
    Policy {
        delivery,
        timeout: Duration::from_secs(30),
        deadline_at: NOW + HOUR,
        retry: RetryPolicy {
            attempts: 3,
            min: Duration::from_secs(1),
            max: Duration::from_mins(5),
            statuses: None,
        },
        wait: None,
        success: None,
        on_failure: OnFailure::Skip,
        recheck: None,
    }
}

fn counts(attempts: u32) -> Counts {
    Counts { attempts, ..Counts::default() }
}

const A_POST: RequestPurpose = RequestPurpose { method: Method::POST, conditional: false };

fn answer(status: u16) -> UpstreamAnswer {
    UpstreamAnswer { doubt: Doubt::of_status(status), ..UpstreamAnswer::plain(status) }
}

fn seconds(wait: u64) -> RetryAfter {
    RetryAfter::In(Duration::from_secs(wait))
}

fn decide(policy: &Policy, counts: Counts, outcome: &Outcome) -> Transition {
    decide_for(&A_POST, policy, counts, outcome)
}

fn decide_for(
    purpose: &RequestPurpose,
    policy: &Policy,
    counts: Counts,
    outcome: &Outcome,
) -> Transition {
    let standing = SettleInput { policy, counts, purpose, accepted_at: NOW };
    settle(standing, outcome, NOW, &mut StdRng::seed_from_u64(7))
}

/// The first attempt's answer decides to: success, another attempt, or this code.
fn after_status(
    delivery: DeliveryGuarantee,
    attempts: u32,
    status: u16,
    retry_after: RetryAfter,
) -> String {
    let answer = UpstreamAnswer { retry_after, ..answer(status) };
    match decide(&policy(delivery), counts(attempts), &Outcome::Answered(answer)).next {
        NextState::Succeeded => "succeeded".to_owned(),
        NextState::Queued { .. } => "again".to_owned(),
        NextState::Failed(failure) => failure.code.to_string(),
        other => format!("{other:?}"),
    }
}

#[test]
fn an_answer_that_cannot_be_read_ends_it_however_it_is_delivered_and_is_asked_about() {
    let outcome = Outcome::Unreadable { status: Some(201) };
    let failure = Failure::caused(ErrorCode::OutcomeUnknown, ErrorCode::UpstreamProtocol);
    for delivery in [DeliveryGuarantee::AtMostOnce, DeliveryGuarantee::AtLeastOnce] {
        for wait in [None, Some(HOUR)] {
            let policy = Policy { wait, ..policy(delivery) };
            let decided = decide(&policy, counts(1), &outcome);
            assert_eq!(decided.next, NextState::Failed(failure.clone().with_status(201)));
            assert!(!decided.effects.contains(&Effect::KeepAnswer));
            assert!(!is_asked_about(&policy, counts(1), &outcome), "there is no way to ask");
            let recheck = Recheck::parse("GET /made/{operation_id}").ok();
            assert!(is_asked_about(&Policy { recheck, ..policy }, counts(1), &outcome));
        }
    }
}

#[test]
fn at_least_once_repeats_what_may_pass_and_nothing_else() {
    use DeliveryGuarantee::AtLeastOnce;
    use RetryAfter::Absent;
    for status in [408, 425, 429, 500, 502, 503, 504, 520, 521, 524, 530] {
        assert_eq!(after_status(AtLeastOnce, 1, status, Absent), "again", "{status}");
    }
    for status in [200, 201, 202, 204, 302, 303] {
        assert_eq!(after_status(AtLeastOnce, 1, status, Absent), "succeeded", "{status}");
    }
    for status in [400, 401, 404, 409, 422, 501, 505] {
        assert_eq!(after_status(AtLeastOnce, 1, status, Absent), "upstream-status", "{status}");
    }
    for status in [300, 301, 304, 307, 308] {
        assert_eq!(after_status(AtLeastOnce, 1, status, Absent), "upstream-redirect", "{status}");
    }
    assert_eq!(after_status(AtLeastOnce, 2, 409, Absent), "again");
}

#[test]
fn at_most_once_repeats_only_what_was_refused() {
    use DeliveryGuarantee::AtMostOnce;
    use RetryAfter::{Absent, Unreadable};
    for (status, retry_after) in [
        (425, Absent),
        (429, Absent),
        (429, seconds(9)),
        (429, Unreadable),
        (503, seconds(9)),
        (503, Unreadable),
    ] {
        assert_eq!(after_status(AtMostOnce, 1, status, retry_after), "again", "{status}");
    }
    for status in [408, 409, 500, 503, 521, 523, 525, 526, 530] {
        assert_eq!(after_status(AtMostOnce, 2, status, Absent), "upstream-status", "{status}");
    }
    assert_eq!(after_status(AtMostOnce, 1, 500, seconds(9)), "upstream-status");
}

#[test]
fn at_most_once_an_answer_of_a_proxy_in_between_leaves_the_outcome_unknown() {
    for status in [502, 504, 520, 522, 524] {
        for (policy, doubt, code, cause) in [
            (
                policy(DeliveryGuarantee::AtMostOnce),
                Doubt::Passing,
                ErrorCode::OutcomeUnknown,
                true,
            ),
            (
                rechecking(DeliveryGuarantee::AtMostOnce),
                Doubt::Passing,
                ErrorCode::OutcomeUnknown,
                true,
            ),
            (policy(DeliveryGuarantee::AtMostOnce), Doubt::None, ErrorCode::UpstreamStatus, false),
        ] {
            for wait in [None, Some(HOUR)] {
                let policy = Policy { wait, ..policy.clone() };
                let outcome = Outcome::Answered(UpstreamAnswer { doubt, ..answer(status) });
                let transition = decide(&policy, counts(1), &outcome);
                let cause = cause.then_some(ErrorCode::UpstreamStatus);
                let failure = Failure { code, cause, status: Some(status) };
                assert_eq!(transition.next, NextState::Failed(failure));
                assert!(transition.effects.contains(&Effect::KeepAnswer));
            }
        }
    }
}

#[test]
fn what_another_gateway_does_not_know_is_unknown_here_and_what_it_works_on_is_asked_for_again() {
    use DeliveryGuarantee::{AtLeastOnce, AtMostOnce};
    let decided = |delivery, doubt| {
        let outcome = Outcome::Answered(UpstreamAnswer { doubt, ..answer(424) });
        let transition = decide(&policy(delivery), counts(1), &outcome);
        assert_eq!(transition.counts.contact == UpstreamContact::Lost, doubt != Doubt::None);
        match transition.next {
            NextState::Failed(failure) => failure.code.as_str(),
            _ => "again",
        }
    };
    for (delivery, doubt, ends) in [
        (AtMostOnce, Doubt::None, "upstream-status"),
        (AtMostOnce, Doubt::Passing, "outcome-unknown"),
        (AtMostOnce, Doubt::Lasting, "outcome-unknown"),
        (AtLeastOnce, Doubt::None, "upstream-status"),
        (AtLeastOnce, Doubt::Passing, "again"),
        (AtLeastOnce, Doubt::Lasting, "outcome-unknown"),
    ] {
        assert_eq!(decided(delivery, doubt), ends, "{delivery:?} {doubt:?}");
    }
}

#[test]
fn at_most_once_never_repeats_what_may_have_been_seen() {
    let policy = policy(DeliveryGuarantee::AtMostOnce);
    let cause = ErrorCode::UpstreamTimeout;
    let seen = [
        (Outcome::Broken { sent: SendState::Perhaps, cause }, cause),
        (Outcome::Interrupted { sent: SendState::Perhaps }, ErrorCode::Shutdown),
        (Outcome::Lost, ErrorCode::OwnerLost),
    ];
    for (outcome, cause) in seen {
        let expected = NextState::Failed(Failure::caused(ErrorCode::OutcomeUnknown, cause));
        assert_eq!(decide(&policy, counts(1), &outcome).next, expected);
    }
    let unseen =
        Outcome::Broken { sent: SendState::Nothing, cause: ErrorCode::UpstreamUnreachable };
    assert!(matches!(decide(&policy, counts(1), &unseen).next, NextState::Queued { .. }));
}

#[test]
fn a_refusal_that_names_a_time_waits_for_it_and_spends_no_attempt() {
    for status in [429, 503] {
        let answer = UpstreamAnswer {
            retry_after: RetryAfter::In(Duration::from_mins(10)),
            ..answer(status)
        };
        let transition =
            decide(&policy(DeliveryGuarantee::AtLeastOnce), counts(3), &Outcome::Answered(answer));
        assert_eq!(transition.counts.spent(), 2);
        assert_eq!(transition.next, NextState::Queued { due_at: NOW + Duration::from_mins(10) });
    }
}

#[test]
fn pauses_grow_also_while_an_upstream_only_refuses() {
    let policy = policy(DeliveryGuarantee::AtLeastOnce);
    let counts = Counts { refusals: 19, ..counts(20) };
    let at_once = UpstreamAnswer { retry_after: seconds(0), ..answer(503) };
    let outcome = Outcome::Answered(at_once);
    let standing = SettleInput { policy: &policy, counts, purpose: &A_POST, accepted_at: NOW };
    let longest = (0..100).map(|seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        match settle(standing, &outcome, NOW, &mut rng).next {
            NextState::Queued { due_at } => due_at.since(NOW),
            next => panic!("{next:?}"),
        }
    });
    assert!(longest.max() > Some(policy.retry.max / 2));
}

#[test]
fn a_resume_and_a_rescue_are_at_once_and_spend_no_attempt() {
    let policy = policy(DeliveryGuarantee::AtLeastOnce);
    for outcome in [Outcome::Interrupted { sent: SendState::Perhaps }, Outcome::Lost] {
        let transition = decide(&policy, counts(3), &outcome);
        assert_eq!(transition.next, NextState::Queued { due_at: NOW });
        assert_eq!(transition.counts.spent(), 2);
    }
}

#[test]
fn the_last_attempt_says_why_all_of_them_failed() {
    let cause = ErrorCode::UpstreamUnreachable;
    let outcome = Outcome::Broken { sent: SendState::Nothing, cause };
    let several = policy(DeliveryGuarantee::AtLeastOnce);
    let exhausted = Failure::caused(ErrorCode::AttemptsExhausted, cause);
    assert_eq!(decide(&several, counts(3), &outcome).next, NextState::Failed(exhausted));
    let retry = RetryPolicy { attempts: 1, ..several.retry.clone() };
    let single = Policy { retry, ..several };
    assert_eq!(decide(&single, counts(1), &outcome).next, NextState::Failed(Failure::of(cause)));
}

#[test]
fn after_its_second_rescue_an_operation_runs_alone_and_after_three_crashes_alone_it_fails() {
    let at_least_once = policy(DeliveryGuarantee::AtLeastOnce);
    for (rescues, quarantined, pause) in [(0, false, 0), (1, true, 2), (2, true, 6), (3, true, 18)]
    {
        let before = Counts { rescues, ..counts(rescues + 1) };
        let transition = decide(&at_least_once, before, &Outcome::Lost);
        let due_at = NOW + Duration::from_secs(pause);
        assert_eq!(transition.next, NextState::Queued { due_at }, "{rescues}");
        assert_eq!(transition.counts.rescues, rescues + 1);
        assert_eq!(transition.counts.is_quarantined(), quarantined, "{rescues}");
        assert_eq!(transition.counts.spent(), 0);
    }
    let last = decide(&at_least_once, Counts { rescues: 4, ..counts(5) }, &Outcome::Lost);
    let NextState::Failed(failure) = last.next else { panic!("{last:?}") };
    assert_eq!(failure.code, ErrorCode::RescuesExhausted);
    assert!(failure.message().contains("alone"), "{}", failure.message());
}

#[test]
fn what_is_delivered_at_most_once_is_never_rescued() {
    let lost = decide(&policy(DeliveryGuarantee::AtMostOnce), counts(1), &Outcome::Lost);
    let unknown = Failure::caused(ErrorCode::OutcomeUnknown, ErrorCode::OwnerLost);
    assert_eq!((lost.next, lost.counts.rescues), (NextState::Failed(unknown), 0));
}

#[test]
fn what_asks_for_a_time_beyond_the_deadline_gets_one_last_try_before_it() {
    for (delivery, wait) in
        [(DeliveryGuarantee::AtLeastOnce, HOUR), (DeliveryGuarantee::AtMostOnce, HOUR * 99)]
    {
        let policy = policy(delivery);
        let refused =
            Outcome::Answered(UpstreamAnswer { retry_after: RetryAfter::In(wait), ..answer(503) });
        let first = decide(&policy, counts(1), &refused);
        let due_at = NOW + HOUR - policy.timeout;
        assert_eq!(first.next, NextState::Queued { due_at });
        assert!(first.counts.last_try);
        let last = Counts { attempts: 2, ..first.counts };
        let NextState::Failed(failure) = decide(&policy, last, &refused).next else { panic!() };
        assert_eq!(failure.code, ErrorCode::DeadlineExceeded);
        assert_eq!(failure.cause, Some(ErrorCode::UpstreamStatus));
    }
}

#[test]
fn a_last_try_has_half_of_what_is_left_where_an_attempt_may_take_longer() {
    let policy = Policy { timeout: HOUR * 2, ..policy(DeliveryGuarantee::AtMostOnce) };
    let refused =
        Outcome::Answered(UpstreamAnswer { retry_after: RetryAfter::In(HOUR), ..answer(429) });
    let due_at = NOW + HOUR / 2;
    assert_eq!(decide(&policy, counts(1), &refused).next, NextState::Queued { due_at });
    let over = Policy { deadline_at: NOW, ..policy };
    let end = decide(&over, counts(1), &refused);
    assert!(matches!(end.next, NextState::Failed(_)));
    assert!(end.effects.contains(&Effect::KeepAnswer));
}

#[test]
fn no_pause_of_ones_own_reaches_beyond_the_deadline() {
    let policy = Policy { deadline_at: NOW, ..policy(DeliveryGuarantee::AtLeastOnce) };
    let end = decide(&policy, counts(1), &Outcome::Answered(answer(503)));
    let NextState::Failed(failure) = end.next else { panic!("{end:?}") };
    assert_eq!(failure.code, ErrorCode::DeadlineExceeded);
    assert!(end.effects.contains(&Effect::KeepAnswer));
}

#[test]
fn which_statuses_are_tried_again_and_which_succeed_can_be_said() {
    use DeliveryGuarantee::{AtLeastOnce, AtMostOnce};
    let listed = |statuses: &[u16]| Some(statuses.iter().copied().collect());
    let retry = |delivery, statuses| {
        let policy = policy(delivery);
        Policy { retry: RetryPolicy { statuses, ..policy.retry.clone() }, ..policy }
    };
    let success = Policy { success: listed(&[201, 303, 404]), ..policy(AtLeastOnce) };
    let again = |wait| matches!(wait, NextState::Queued { .. });
    for (policy, status, repeated) in [
        (retry(AtLeastOnce, listed(&[418])), 418, true),
        (retry(AtLeastOnce, listed(&[418])), 500, false),
        (retry(AtLeastOnce, listed(&[])), 503, false),
        (retry(AtMostOnce, listed(&[418])), 418, false),
        (success.clone(), 500, true),
    ] {
        let next = decide(&policy, counts(1), &Outcome::Answered(answer(status))).next;
        assert_eq!(again(next), repeated, "{policy:?} {status}");
    }
    let refused =
        Outcome::Answered(UpstreamAnswer { retry_after: RetryAfter::Unreadable, ..answer(503) });
    assert!(again(decide(&retry(AtLeastOnce, listed(&[])), counts(1), &refused).next));
    for (status, code) in [
        (201, None),
        (303, None),
        (404, None),
        (200, Some(ErrorCode::UpstreamStatus)),
        (302, Some(ErrorCode::UpstreamRedirect)),
    ] {
        let found = match decide(&success, counts(1), &Outcome::Answered(answer(status))).next {
            NextState::Failed(failure) => Some(failure.code),
            NextState::Succeeded => None,
            next => panic!("{next:?}"),
        };
        assert_eq!(found, code, "{status}");
    }
    // What a monitor tells in the end is no answer to the request.
    assert_eq!(
        decide(&success, counts(1), &Outcome::Followed(answer(200))).next,
        NextState::Succeeded
    );
}

#[test]
fn a_refusal_of_what_may_have_been_done_before_may_mean_success() {
    let (delete, put, if_match) = (
        RequestPurpose { method: Method::DELETE, conditional: false },
        RequestPurpose { method: Method::PUT, conditional: false },
        RequestPurpose { method: Method::PUT, conditional: true },
    );
    let at_least_once = policy(DeliveryGuarantee::AtLeastOnce);
    for (purpose, status, attempts, told) in [
        (&delete, 404, 2, true),
        (&delete, 410, 2, true),
        (&delete, 403, 2, false),
        (&if_match, 412, 2, true),
        (&put, 412, 2, false),
        (&put, 404, 2, false),
        // One that lasts: the last attempt brings it still.
        (&A_POST, 409, 3, true),
        (&put, 409, 3, true),
        (&delete, 409, 3, false),
    ] {
        for contact in [UpstreamContact::Nothing, UpstreamContact::Answered, UpstreamContact::Lost]
        {
            let counts = Counts { contact, ..counts(attempts) };
            let outcome = Outcome::Answered(answer(status));
            let next = decide_for(purpose, &at_least_once, counts, &outcome).next;
            let NextState::Failed(failure) = next else { panic!("{next:?}") };
            let may = failure.code == ErrorCode::MayHaveSucceeded;
            assert_eq!(
                may,
                told && contact == UpstreamContact::Lost,
                "{purpose:?} {status} {contact:?}"
            );
            assert_eq!(failure.status, Some(status));
        }
    }
    let first = Counts { contact: UpstreamContact::Lost, ..counts(2) };
    let still = decide(&at_least_once, first, &Outcome::Answered(answer(409))).next;
    assert!(matches!(still, NextState::Queued { .. }), "{still:?}");
}

#[test]
fn what_the_upstream_has_had_is_remembered() {
    use UpstreamContact::{Answered, Lost, Nothing};
    let cause = ErrorCode::UpstreamProtocol;
    let (nothing, perhaps) = (SendState::Nothing, SendState::Perhaps);
    for (outcome, this) in [
        (Outcome::Answered(answer(503)), Answered),
        (Outcome::Answered(answer(502)), Lost),
        (Outcome::Answered(UpstreamAnswer::plain(502)), Answered),
        (Outcome::TooLarge(answer(200)), Answered),
        (Outcome::TooLarge(answer(504)), Lost),
        (Outcome::Answered(UpstreamAnswer { repeated: true, ..answer(404) }), Lost),
        (Outcome::Broken { sent: nothing, cause }, Nothing),
        (Outcome::Broken { sent: perhaps, cause }, Lost),
        (Outcome::Interrupted { sent: nothing }, Nothing),
        (Outcome::Interrupted { sent: perhaps }, Lost),
        (Outcome::Canceled { sent: nothing }, Nothing),
        (Outcome::Canceled { sent: perhaps }, Lost),
        (Outcome::Lost, Lost),
        (Outcome::Expired, Nothing),
        (Outcome::Unroutable, Nothing),
        (Outcome::NoEnd { cause }, Lost),
    ] {
        for before in [Nothing, Answered, Lost] {
            assert_eq!(outcome.contact_after(before), before.max(this), "{outcome:?}");
        }
    }
    let refuted = Outcome::Refuted { cause, status: 404, answered: None };
    assert_eq!(refuted.contact_after(Lost), Answered);
}

#[test]
fn an_end_before_anything_was_sent_lets_go_of_the_key() {
    let cause = ErrorCode::UpstreamUnreachable;
    let unsent = Outcome::Broken { sent: SendState::Nothing, cause };
    let policy = policy(DeliveryGuarantee::AtLeastOnce);
    for (outcome, attempts) in [
        (unsent, 3),
        (Outcome::Expired, 1),
        (Outcome::Unroutable, 1),
        (Outcome::Canceled { sent: SendState::Nothing }, 1),
    ] {
        for contact in [UpstreamContact::Nothing, UpstreamContact::Answered, UpstreamContact::Lost]
        {
            let counts = Counts { contact, ..counts(attempts) };
            let transition = decide(&policy, counts, &outcome);
            assert!(transition.next.is_final(), "{outcome:?}");
            let freed = transition.effects.contains(&Effect::FreeKey);
            assert_eq!(freed, contact == UpstreamContact::Nothing, "{outcome:?} {contact:?}");
        }
    }
    for outcome in [
        Outcome::Answered(answer(201)),
        Outcome::Answered(answer(400)),
        Outcome::Canceled { sent: SendState::Perhaps },
        Outcome::TookEffect { status: 200 },
    ] {
        let effects = decide(&policy, counts(1), &outcome).effects;
        assert!(!effects.contains(&Effect::FreeKey), "{outcome:?}");
    }
}

#[test]
fn a_synchronous_end_that_asks_to_come_again_lets_go_of_the_key() {
    use RetryAfter::{Absent, Unreadable};
    for (status, retry_after, freed) in [
        (425, Absent, true),
        (429, Absent, true),
        (429, seconds(9), true),
        (503, seconds(9), true),
        (503, Unreadable, true),
        (503, Absent, false),
        (500, seconds(9), false),
        (201, seconds(9), false),
    ] {
        for delivery in [DeliveryGuarantee::AtMostOnce, DeliveryGuarantee::AtLeastOnce] {
            let policy = Policy { wait: Some(HOUR), ..policy(delivery) };
            let outcome = Outcome::Answered(UpstreamAnswer { retry_after, ..answer(status) });
            let transition = decide(&policy, counts(1), &outcome);
            assert!(transition.next.is_final());
            let freed_key = transition.effects.contains(&Effect::FreeKey);
            assert_eq!(freed_key, freed, "{status} {retry_after:?}");
        }
    }
}

#[test]
fn what_was_not_sent_is_tried_again_while_its_client_waits() {
    let cause = ErrorCode::UpstreamUnreachable;
    let unsent = Outcome::Broken { sent: SendState::Nothing, cause };
    let waiting = |wait| Policy { wait: Some(wait), ..policy(DeliveryGuarantee::AtMostOnce) };
    let again = decide(&waiting(HOUR), counts(1), &unsent);
    assert!(matches!(again.next, NextState::Queued { .. }));
    let end = decide(&waiting(Duration::ZERO), counts(1), &unsent);
    assert_eq!(end.next, NextState::Failed(Failure::of(cause)));
    assert!(end.effects.contains(&Effect::FreeKey));
}

#[test]
fn a_synchronous_request_takes_its_first_complete_answer_and_repeats_only_the_unsent() {
    let policy = Policy { wait: Some(HOUR), ..policy(DeliveryGuarantee::AtLeastOnce) };
    let unavailable = decide(&policy, counts(1), &Outcome::Answered(answer(503)));
    assert!(matches!(unavailable.next, NextState::Failed(_)));
    let accepted =
        UpstreamAnswer { monitor: Some(Continuation::monitor("http://up/m")), ..answer(202) };
    assert_eq!(decide(&policy, counts(1), &Outcome::Answered(accepted)).next, NextState::Succeeded);
    let cause = ErrorCode::UpstreamProtocol;
    let cut = decide(&policy, counts(1), &Outcome::Broken { sent: SendState::Perhaps, cause });
    assert_eq!(cut.next, NextState::Failed(Failure::of(cause)));
    let unsent = decide(&policy, counts(1), &Outcome::Broken { sent: SendState::Nothing, cause });
    assert!(matches!(unsent.next, NextState::Queued { .. }));
}

#[test]
fn an_upstream_that_answers_202_is_followed_by_its_own_pace_within_bounds() {
    for (asked, pause) in [(None, 5), (Some(0), 1), (Some(20), 20), (Some(900), 60)] {
        let answer = UpstreamAnswer {
            monitor: Some(Continuation::monitor("http://up/jobs/1")),
            retry_after: asked.map_or(RetryAfter::Absent, seconds),
            ..answer(202)
        };
        let transition =
            decide(&policy(DeliveryGuarantee::AtMostOnce), counts(1), &Outcome::Answered(answer));
        let due_at = NOW + Duration::from_secs(pause);
        assert_eq!(transition.next, NextState::Waiting { on: WaitingFor::Upstream, due_at });
        let saved = Effect::SaveContinuation(Continuation::monitor("http://up/jobs/1"));
        assert!(transition.effects.contains(&saved));
    }
}

#[test]
fn a_monitor_that_may_not_be_followed_ends_as_unknown_and_is_never_sent_again() {
    for delivery in [DeliveryGuarantee::AtMostOnce, DeliveryGuarantee::AtLeastOnce] {
        let transition = decide(&policy(delivery), counts(1), &Outcome::NotFollowed);
        let (code, cause) = (ErrorCode::OutcomeUnknown, ErrorCode::MonitorNotFollowed);
        let failure = Failure::caused(code, cause);
        assert!(failure.message().contains("follow = false"), "{}", failure.message());
        let (asked, not) = (rechecking(delivery), policy(delivery));
        assert!(is_asked_about(&asked, counts(1), &Outcome::NotFollowed));
        assert!(!is_asked_about(&not, counts(1), &Outcome::NotFollowed));
        assert_eq!(transition.next, NextState::Failed(failure));
    }
}

#[test]
fn another_monitor_of_the_same_work_is_kept_and_asked_at_its_own_pace() {
    let continuation = Continuation::monitor("http://up/jobs/2");
    for (asked, pause) in [(None, 1), (Some(20), 20), (Some(900), 60)] {
        let retry_after = asked.map(Duration::from_secs);
        let outcome = Outcome::Unfinished { continuation: continuation.clone(), retry_after };
        let transition = decide(&policy(DeliveryGuarantee::AtMostOnce), counts(1), &outcome);
        let due_at = NOW + Duration::from_secs(pause);
        assert_eq!(transition.next, NextState::Waiting { on: WaitingFor::Upstream, due_at });
        assert_eq!(transition.effects, [Effect::SaveContinuation(continuation.clone())]);
    }
}

#[test]
fn following_ends_with_the_monitors_answer_or_after_a_last_question_at_the_deadline() {
    let policy = policy(DeliveryGuarantee::AtMostOnce);
    assert_eq!(
        decide(&policy, counts(1), &Outcome::Followed(answer(200))).next,
        NextState::Succeeded
    );
    assert!(matches!(
        decide(&policy, counts(1), &Outcome::Followed(answer(404))).next,
        NextState::Failed(_)
    ));
    let late = Policy { deadline_at: NOW, ..policy };
    let transition = decide(&late, counts(1), &Outcome::StillPending { retry_after: None });
    let again = NextState::Waiting { on: WaitingFor::Upstream, due_at: NOW };
    assert_eq!(transition.next, again);
}

#[test]
fn what_a_monitor_refuses_is_no_answer_to_the_request() {
    use DeliveryGuarantee::{AtLeastOnce, AtMostOnce};
    for delivery in [AtMostOnce, AtLeastOnce] {
        for (status, code, asked) in [
            (400, ErrorCode::UpstreamStatus, false),
            (409, ErrorCode::UpstreamStatus, false),
            (422, ErrorCode::UpstreamStatus, false),
            (404, ErrorCode::OutcomeUnknown, true),
            (405, ErrorCode::OutcomeUnknown, true),
            (410, ErrorCode::OutcomeUnknown, true),
        ] {
            let answer = UpstreamAnswer::plain(status).from_monitor();
            let outcome = Outcome::Followed(answer.clone());
            let end = decide(&policy(delivery), counts(1), &outcome);
            let failure = Failure::caused(code, ErrorCode::MonitorStatus).with_status(status);
            assert_eq!(end.next, NextState::Failed(failure), "{status} {delivery:?}");
            assert_eq!(end.effects.contains(&Effect::KeepAnswer), !asked, "{status}");
            assert_eq!(end.counts.contact == UpstreamContact::Lost, asked, "{status}");
            for outcome in [outcome, Outcome::TooLarge(answer)] {
                let is_asked = is_asked_about(&rechecking(delivery), counts(1), &outcome);
                assert_eq!(is_asked, asked, "{status} {outcome:?}");
            }
        }
    }
    let told = Outcome::Followed(UpstreamAnswer::plain(424).from_monitor());
    let failure = Failure::of(ErrorCode::UpstreamStatus).with_status(424);
    let next = decide(&policy(AtMostOnce), counts(1), &told).next;
    assert_eq!(next, NextState::Failed(failure), "a document tells of a failure");
    let recorded = Outcome::Followed(UpstreamAnswer::plain(422));
    let failure = Failure::of(ErrorCode::UpstreamStatus).with_status(422);
    let next = decide(&policy(AtMostOnce), counts(1), &recorded).next;
    assert_eq!(next, NextState::Failed(failure), "another gateway recorded it");
}

#[test]
fn an_answer_that_cannot_be_read_is_told_also_where_a_recheck_says_that_nothing_happened() {
    let cause = ErrorCode::UpstreamProtocol;
    let refuted = Outcome::Refuted { cause, status: 404, answered: Some(201) };
    for (attempts, failure) in
        [(3, Failure::caused(ErrorCode::AttemptsExhausted, cause)), (1, Failure::of(cause))]
    {
        let policy = rechecking(DeliveryGuarantee::AtMostOnce);
        let retry = RetryPolicy { attempts, ..policy.retry.clone() };
        let end = decide(&Policy { retry, ..policy }, counts(attempts), &refuted);
        assert_eq!(end.next, NextState::Failed(failure.with_status(201)));
        assert!(!end.effects.contains(&Effect::KeepAnswer), "there is none");
    }
}

#[test]
fn what_a_monitor_refused_and_a_recheck_refuted_keeps_its_cause() {
    let cause = ErrorCode::MonitorStatus;
    let refuted = Outcome::Refuted { cause, status: 404, answered: Some(410) };
    let policy = rechecking(DeliveryGuarantee::AtMostOnce);
    let retry = RetryPolicy { attempts: 1, ..policy.retry.clone() };
    let end = decide(&Policy { retry, ..policy }, counts(1), &refuted);
    let failure = Failure::caused(ErrorCode::UpstreamStatus, cause).with_status(410);
    assert_eq!(end.next, NextState::Failed(failure));
}

#[test]
fn work_of_the_upstreams_without_a_known_end_is_unknown_at_most_once() {
    use ErrorCode::{DeadlineExceeded, OutcomeUnknown, RouteRemoved};
    for cause in [DeadlineExceeded, RouteRemoved] {
        for (delivery, code, cause) in [
            (DeliveryGuarantee::AtMostOnce, OutcomeUnknown, cause),
            (DeliveryGuarantee::AtLeastOnce, cause, OutcomeUnknown),
        ] {
            let outcome =
                Outcome::NoEnd { cause: if code == OutcomeUnknown { cause } else { code } };
            let transition = decide(&policy(delivery), counts(1), &outcome);
            let failure = Failure::caused(code, cause);
            let message = failure.message().to_lowercase();
            assert!(message.contains("check with the upstream"), "{message}");
            assert!(!message.contains("retry") && !message.contains("carried out"), "{message}");
            assert_eq!(transition.next, NextState::Failed(failure));
            assert_eq!(transition.counts.contact, UpstreamContact::Lost);
            assert!(is_asked_about(&rechecking(delivery), counts(1), &outcome));
        }
    }
}

#[test]
fn a_deadline_behind_a_lost_attempt_says_that_the_request_was_sent() {
    for (contact, cause) in [
        (UpstreamContact::Nothing, None),
        (UpstreamContact::Answered, None),
        (UpstreamContact::Lost, Some(ErrorCode::OutcomeUnknown)),
    ] {
        let counts = Counts { contact, ..counts(2) };
        for (outcome, code) in [
            (Outcome::Expired, ErrorCode::DeadlineExceeded),
            (Outcome::Unroutable, ErrorCode::RouteRemoved),
        ] {
            let next = decide(&policy(DeliveryGuarantee::AtLeastOnce), counts, &outcome).next;
            let failure = Failure { code, cause, status: None };
            let says_retry = failure.message().to_lowercase().contains("retry");
            assert_eq!(says_retry, cause.is_none(), "{}", failure.message());
            assert_eq!(next, NextState::Failed(failure));
        }
    }
}

#[test]
fn too_large_an_answer_is_final_and_keeps_its_status() {
    let transition =
        decide(&policy(DeliveryGuarantee::AtLeastOnce), counts(1), &Outcome::TooLarge(answer(201)));
    let failure = Failure::of(ErrorCode::ResponseTooLarge).with_status(201);
    assert_eq!(transition.next, NextState::Failed(failure));
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    let sent = prop_oneof![Just(SendState::Nothing), Just(SendState::Perhaps)];
    let retry_after = prop_oneof![
        Just(RetryAfter::Absent),
        Just(RetryAfter::Unreadable),
        (0u64..100_000).prop_map(seconds),
    ];
    let doubt = prop_oneof![Just(Doubt::None), Just(Doubt::Passing), Just(Doubt::Lasting)];
    let told = (doubt, any::<bool>(), any::<bool>(), any::<bool>());
    let any_answer = (100u16..600, told, retry_after, any::<bool>()).prop_map(
        |(status, (doubt, repeated, by_scheme, of_monitor), retry_after, follow)| UpstreamAnswer {
            status,
            repeated,
            by_scheme,
            of_monitor,
            doubt,
            retry_after,
            monitor: (follow && status == 202).then(|| Continuation::monitor("http://up/jobs/1")),
        },
    );
    prop_oneof![
        any_answer.clone().prop_map(Outcome::Answered),
        any_answer.clone().prop_map(Outcome::TooLarge),
        any_answer.prop_map(Outcome::Followed),
        sent.clone().prop_map(|sent| Outcome::Broken { sent, cause: ErrorCode::UpstreamProtocol }),
        sent.prop_map(|sent| Outcome::Interrupted { sent }),
        prop::option::of(0u64..100_000)
            .prop_map(|s| Outcome::StillPending { retry_after: s.map(Duration::from_secs) }),
        Just(Outcome::Lost),
        Just(Outcome::Canceled { sent: SendState::Perhaps }),
        Just(Outcome::Expired),
        Just(Outcome::Unroutable),
        Just(Outcome::NoEnd { cause: ErrorCode::DeadlineExceeded }),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_there_is_a_next_step_within_the_promises(
        outcome in any_outcome(), once: bool, sync: bool, attempts in 1u32..20, seed: u64,
    ) {
        let delivery = if once { DeliveryGuarantee::AtMostOnce } else { DeliveryGuarantee::AtLeastOnce };
        let policy = Policy { wait: sync.then_some(HOUR), ..policy(delivery) };
        let standing = SettleInput {
            policy: &policy,
            counts: counts(attempts),
            purpose: &A_POST,
            accepted_at: NOW,
        };
        let transition = settle(standing, &outcome, NOW, &mut StdRng::seed_from_u64(seed));
        if let NextState::Queued { due_at } | NextState::Waiting { due_at, .. } = transition.next {
            prop_assert!(due_at >= NOW && due_at <= policy.deadline_at);
        }
        // Every end says so once, erases the credentials and lets the next of its key go.
        let says_final = transition.effects.iter().any(
            |e| matches!(e, Effect::Announce { kind, .. } if kind.is_final()));
        prop_assert_eq!(says_final, transition.next.is_final());
        prop_assert_eq!(transition.effects.contains(&Effect::EraseCredentials), transition.next.is_final());
        prop_assert_eq!(transition.effects.contains(&Effect::PromoteSerialKey), transition.next.is_final());
        let seen = matches!(outcome, Outcome::Lost
            | Outcome::Broken { sent: SendState::Perhaps, .. } | Outcome::Interrupted { sent: SendState::Perhaps });
        if once && seen {
            let repeated = matches!(transition.next, NextState::Queued { .. });
            prop_assert!(!repeated);
        }
    }
}

fn rechecking(delivery: DeliveryGuarantee) -> Policy {
    let recheck = Recheck::parse("GET /orders?ref={operation_id}").unwrap();
    Policy { recheck: Some(recheck), ..policy(delivery) }
}

fn rescued() -> Counts {
    Counts { attempts: 2, rescues: 1, ..Counts::default() }
}

#[test]
fn only_what_would_end_as_unknown_is_asked_about_at_once() {
    use DeliveryGuarantee::{AtLeastOnce, AtMostOnce};
    let broken = |sent| Outcome::Broken { sent, cause: ErrorCode::UpstreamTimeout };
    let doubtful = |status, doubt| Outcome::Answered(UpstreamAnswer { doubt, ..answer(status) });
    for (delivery, outcome, asked) in [
        (AtMostOnce, doubtful(502, Doubt::Passing), true),
        (AtMostOnce, doubtful(424, Doubt::Lasting), true),
        (AtLeastOnce, doubtful(424, Doubt::Lasting), true),
        (AtMostOnce, doubtful(502, Doubt::None), false),
        (AtLeastOnce, doubtful(502, Doubt::Passing), false),
        (AtMostOnce, Outcome::Followed(answer(502)), true),
        (AtLeastOnce, Outcome::Followed(answer(502)), false),
        (AtMostOnce, Outcome::Followed(answer(500)), false),
        (AtMostOnce, Outcome::TooLarge(answer(502)), true),
        (AtMostOnce, Outcome::TooLarge(answer(200)), false),
        (AtMostOnce, broken(SendState::Perhaps), true),
        (AtMostOnce, broken(SendState::Nothing), false),
        (AtLeastOnce, broken(SendState::Perhaps), false),
        (AtMostOnce, Outcome::Answered(answer(500)), false),
        (AtMostOnce, Outcome::Lost, false),
    ] {
        let is_asked = is_asked_about(&rechecking(delivery), counts(1), &outcome);
        assert_eq!(is_asked, asked, "{outcome:?}");
        assert!(!is_asked_about(&policy(delivery), counts(1), &outcome));
        let passed_on =
            matches!(outcome, Outcome::Answered(_) | Outcome::TooLarge(_) | Outcome::Followed(_));
        let synchronous = Policy { wait: Some(HOUR), ..rechecking(delivery) };
        let is_asked = is_asked_about(&synchronous, counts(1), &outcome);
        let broke_off = matches!(outcome, Outcome::Broken { sent: SendState::Perhaps, .. });
        assert_eq!(is_asked, (asked || broke_off) && !passed_on, "{outcome:?}");
        // The last attempt is asked about whatever the delivery is.
        let is_asked = is_asked_about(&rechecking(delivery), counts(3), &outcome);
        assert_eq!(is_asked, asked || broke_off, "{outcome:?}");
    }
}

#[test]
fn what_took_effect_succeeds_and_what_did_not_is_sent_again() {
    for delivery in [DeliveryGuarantee::AtMostOnce, DeliveryGuarantee::AtLeastOnce] {
        let policy = rechecking(delivery);
        let did = decide(&policy, counts(1), &Outcome::TookEffect { status: 200 });
        assert_eq!(did.next, NextState::Succeeded);
        assert!(did.effects.contains(&Effect::KeepAnswer));
        let told = |status| Effect::Announce { kind: EventKind::Rechecked, code: None, status };
        assert_eq!(did.effects[0], told(Some(200)));
        let cause = ErrorCode::UpstreamTimeout;
        let did_not = Outcome::Refuted { cause, status: 404, answered: None };
        let again = decide(&policy, counts(1), &did_not);
        assert!(matches!(again.next, NextState::Queued { .. }), "{:?}", again.next);
        assert_eq!(again.effects[0], told(Some(404)));
        let NextState::Failed(failure) = decide(&policy, counts(3), &did_not).next else {
            panic!()
        };
        assert_eq!(failure.code, ErrorCode::AttemptsExhausted);
        let cause = ErrorCode::UpstreamStatus;
        let answered = Outcome::Refuted { cause, status: 404, answered: Some(504) };
        let end = decide(&policy, counts(3), &answered);
        let failure = Failure::caused(ErrorCode::AttemptsExhausted, cause).with_status(504);
        assert_eq!(end.next, NextState::Failed(failure));
        assert!(end.effects.contains(&Effect::KeepAnswer));
    }
}

#[test]
fn what_was_lost_is_asked_about_before_anything_is_sent_again_and_ends_unknown_otherwise() {
    let policy = rechecking(DeliveryGuarantee::AtMostOnce);
    for lost in [Outcome::Lost, Outcome::Interrupted { sent: SendState::Perhaps }] {
        let taken_over = decide(&policy, counts(1), &lost);
        assert_eq!(taken_over.next, NextState::Queued { due_at: NOW });
        assert_eq!(taken_over.counts.rescues, 1);
    }
    assert!(is_in_doubt(&policy, rescued()) && !is_in_doubt(&policy, counts(2)));
    assert!(!is_in_doubt(&rechecking(DeliveryGuarantee::AtLeastOnce), rescued()));
    let unknown_outcomes = [
        Outcome::Unclear { status: Some(500) },
        Outcome::Unclear { status: None },
        Outcome::Expired,
        Outcome::Unroutable,
    ];
    for outcome in unknown_outcomes {
        let NextState::Failed(failure) = decide(&policy, rescued(), &outcome).next else {
            panic!()
        };
        let unknown = Failure::caused(ErrorCode::OutcomeUnknown, ErrorCode::OwnerLost);
        assert_eq!(failure, unknown, "{outcome:?}");
    }
    let NextState::Failed(failure) = decide(&policy, counts(2), &Outcome::Expired).next else {
        panic!()
    };
    assert_eq!(failure.code, ErrorCode::DeadlineExceeded);
}

#[test]
fn only_a_failure_blocks_a_serial_key_and_only_where_that_was_promised() {
    for on_failure in [OnFailure::Skip, OnFailure::Block] {
        let policy = Policy { on_failure, ..policy(DeliveryGuarantee::AtMostOnce) };
        for (outcome, fails) in [
            (Outcome::Answered(answer(201)), false),
            (Outcome::Answered(answer(422)), true),
            (Outcome::Lost, true),
            (Outcome::Canceled { sent: SendState::Perhaps }, false),
        ] {
            let effects = decide(&policy, counts(1), &outcome).effects;
            let blocks = fails && on_failure == OnFailure::Block;
            assert_eq!(effects.contains(&Effect::BlockSerialKey), blocks, "{outcome:?}");
            assert_eq!(effects.contains(&Effect::PromoteSerialKey), !blocks, "{outcome:?}");
        }
    }
}

#[test]
fn an_answer_to_a_request_that_went_out_twice_in_one_attempt_may_tell_of_the_first() {
    let purpose = |method, conditional| RequestPurpose { method, conditional };
    for (purpose, status, attempts) in [
        (purpose(Method::DELETE, false), 404, 1),
        (purpose(Method::DELETE, false), 410, 1),
        (purpose(Method::PUT, true), 412, 1),
        (purpose(Method::POST, false), 409, 3),
        (purpose(Method::PUT, false), 409, 3),
        (purpose(Method::PATCH, false), 409, 3),
    ] {
        for (repeated, code) in [(true, "may-have-succeeded"), (false, "upstream-status")] {
            let outcome = Outcome::Answered(UpstreamAnswer { repeated, ..answer(status) });
            let policy = policy(DeliveryGuarantee::AtLeastOnce);
            let next = decide_for(&purpose, &policy, counts(attempts), &outcome).next;
            let NextState::Failed(failure) = next else { panic!("{next:?}") };
            let code = if attempts > 1 && !repeated { "attempts-exhausted" } else { code };
            assert_eq!(failure.code.as_str(), code, "{purpose:?} {status}");
        }
    }
    let conflict = Outcome::Answered(UpstreamAnswer { repeated: true, ..answer(409) });
    let first = decide(&policy(DeliveryGuarantee::AtLeastOnce), counts(1), &conflict);
    assert!(matches!(first.next, NextState::Queued { .. }), "the first may still be at work on it");
}

#[test]
fn what_is_too_large_of_a_proxy_in_between_leaves_the_outcome_unknown() {
    for (delivery, status, code, kept) in [
        (DeliveryGuarantee::AtMostOnce, 502, ErrorCode::OutcomeUnknown, false),
        (DeliveryGuarantee::AtMostOnce, 504, ErrorCode::OutcomeUnknown, false),
        (DeliveryGuarantee::AtMostOnce, 500, ErrorCode::ResponseTooLarge, true),
        (DeliveryGuarantee::AtMostOnce, 200, ErrorCode::ResponseTooLarge, true),
        (DeliveryGuarantee::AtLeastOnce, 502, ErrorCode::ResponseTooLarge, true),
    ] {
        let end = decide(&policy(delivery), counts(1), &Outcome::TooLarge(answer(status)));
        let NextState::Failed(failure) = &end.next else { panic!("{end:?}") };
        assert_eq!((failure.code, failure.status), (code, Some(status)), "{delivery:?}");
        assert_eq!(end.effects.contains(&Effect::KeepAnswer), kept, "{delivery:?} {status}");
    }
}

#[test]
fn a_redirect_that_only_asks_for_tls_carried_nothing_out() {
    for status in [302, 303] {
        for (by_scheme, success, met) in [
            (false, None, true),
            (true, None, false),
            (true, Some([302, 303].into_iter().collect()), true),
        ] {
            let policy = Policy { success, ..policy(DeliveryGuarantee::AtMostOnce) };
            let answer = UpstreamAnswer { by_scheme, ..answer(status) };
            assert_eq!(policy.creates_by(&A_POST, &answer), met);
            let next = decide(&policy, counts(1), &Outcome::Answered(answer)).next;
            let failure = Failure::of(ErrorCode::UpstreamRedirect).with_status(status);
            let expected = if met { NextState::Succeeded } else { NextState::Failed(failure) };
            assert_eq!(next, expected, "{status} {by_scheme}");
        }
    }
}

#[test]
fn a_lasting_409_to_what_creates_nothing_tells_nothing_of_a_former_success() {
    let deletion = RequestPurpose { method: Method::DELETE, conditional: false };
    let counts = Counts { contact: UpstreamContact::Lost, ..counts(3) };
    let policy = policy(DeliveryGuarantee::AtLeastOnce);
    let next = decide_for(&deletion, &policy, counts, &Outcome::Answered(answer(409))).next;
    let exhausted = Failure::caused(ErrorCode::AttemptsExhausted, ErrorCode::UpstreamStatus);
    assert_eq!(next, NextState::Failed(exhausted.with_status(409)));
}
