use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::super::{Recheck, RetryPolicy};
use super::*;

const NOW: Timestamp = Timestamp::from_micros(1_000_000_000);
const HOUR: Duration = Duration::from_hours(1);

fn policy(delivery: Delivery) -> Policy {
    Policy {
        delivery,
        timeout: Duration::from_secs(30),
        deadline_at: NOW + HOUR,
        retry: RetryPolicy {
            attempts: 3,
            min: Duration::from_secs(1),
            max: Duration::from_mins(5),
        },
        first_answer_is_final: false,
        on_failure: OnFailure::Skip,
        recheck: None,
    }
}

fn counts(attempts: u32) -> Counts {
    Counts { attempts, ..Counts::default() }
}

fn answer(status: u16) -> Answer {
    Answer { status, redirect_is_success: true, retry_after: None, monitor: None }
}

fn decide(policy: &Policy, counts: Counts, outcome: &Outcome) -> Transition {
    settle(Standing { policy, counts }, outcome, NOW, &mut StdRng::seed_from_u64(7))
}

/// The first attempt's answer decides to: success, another attempt, or this code.
fn after_status(
    delivery: Delivery,
    attempts: u32,
    status: u16,
    retry_after: Option<u64>,
) -> String {
    let answer = Answer { retry_after: retry_after.map(Duration::from_secs), ..answer(status) };
    match decide(&policy(delivery), counts(attempts), &Outcome::Answered(answer)).next {
        Next::Succeeded => "succeeded".to_owned(),
        Next::Queued { .. } => "again".to_owned(),
        Next::Failed(failure) => failure.code.to_string(),
        other => format!("{other:?}"),
    }
}

#[test]
fn at_least_once_repeats_what_may_pass_and_nothing_else() {
    use Delivery::AtLeastOnce;
    for status in [408, 425, 429, 500, 502, 503, 504] {
        assert_eq!(after_status(AtLeastOnce, 1, status, None), "again", "{status}");
    }
    for status in [200, 201, 202, 204, 301, 302, 303] {
        assert_eq!(after_status(AtLeastOnce, 1, status, None), "succeeded", "{status}");
    }
    for status in [400, 401, 404, 409, 422, 501, 505] {
        assert_eq!(after_status(AtLeastOnce, 1, status, None), "upstream-status", "{status}");
    }
    for status in [300, 304, 307, 308] {
        assert_eq!(after_status(AtLeastOnce, 1, status, None), "upstream-redirect", "{status}");
    }
    assert_eq!(after_status(AtLeastOnce, 2, 409, None), "again");
}

#[test]
fn at_most_once_repeats_only_what_was_refused() {
    use Delivery::AtMostOnce;
    for (status, retry_after) in [(425, None), (429, None), (429, Some(9)), (503, Some(9))] {
        assert_eq!(after_status(AtMostOnce, 1, status, retry_after), "again", "{status}");
    }
    for status in [408, 409, 500, 502, 503, 504] {
        assert_eq!(after_status(AtMostOnce, 2, status, None), "upstream-status", "{status}");
    }
    assert_eq!(after_status(AtMostOnce, 1, 500, Some(9)), "upstream-status");
}

#[test]
fn at_most_once_never_repeats_what_may_have_been_seen() {
    let policy = policy(Delivery::AtMostOnce);
    let cause = ErrorCode::UpstreamTimeout;
    let seen = [
        (Outcome::Broken { sent: Sent::Perhaps, cause }, cause),
        (Outcome::Interrupted { sent: Sent::Perhaps }, ErrorCode::Shutdown),
        (Outcome::Lost, ErrorCode::OwnerLost),
    ];
    for (outcome, cause) in seen {
        let expected = Next::Failed(Failure::caused(ErrorCode::OutcomeUnknown, cause));
        assert_eq!(decide(&policy, counts(1), &outcome).next, expected);
    }
    let unseen = Outcome::Broken { sent: Sent::Nothing, cause: ErrorCode::UpstreamUnreachable };
    assert!(matches!(decide(&policy, counts(1), &unseen).next, Next::Queued { .. }));
}

#[test]
fn a_refusal_that_names_a_time_waits_for_it_and_spends_no_attempt() {
    for status in [429, 503] {
        let answer = Answer { retry_after: Some(Duration::from_mins(10)), ..answer(status) };
        let transition =
            decide(&policy(Delivery::AtLeastOnce), counts(3), &Outcome::Answered(answer));
        assert_eq!(transition.counts.spent(), 2);
        assert_eq!(transition.next, Next::Queued { due_at: NOW + Duration::from_mins(10) });
    }
}

#[test]
fn pauses_grow_also_while_an_upstream_only_refuses() {
    let policy = policy(Delivery::AtLeastOnce);
    let counts = Counts { refusals: 19, ..counts(20) };
    let at_once = Answer { retry_after: Some(Duration::ZERO), ..answer(503) };
    let outcome = Outcome::Answered(at_once);
    let longest = (0..100).map(|seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        match settle(Standing { policy: &policy, counts }, &outcome, NOW, &mut rng).next {
            Next::Queued { due_at } => due_at.since(NOW),
            next => panic!("{next:?}"),
        }
    });
    assert!(longest.max() > Some(policy.retry.max / 2));
}

#[test]
fn a_resume_and_a_rescue_are_at_once_and_spend_no_attempt() {
    let policy = policy(Delivery::AtLeastOnce);
    for outcome in [Outcome::Interrupted { sent: Sent::Perhaps }, Outcome::Lost] {
        let transition = decide(&policy, counts(3), &outcome);
        assert_eq!(transition.next, Next::Queued { due_at: NOW });
        assert_eq!(transition.counts.spent(), 2);
    }
}

#[test]
fn the_last_attempt_says_why_all_of_them_failed() {
    let cause = ErrorCode::UpstreamUnreachable;
    let outcome = Outcome::Broken { sent: Sent::Nothing, cause };
    let several = policy(Delivery::AtLeastOnce);
    let exhausted = Failure::caused(ErrorCode::AttemptsExhausted, cause);
    assert_eq!(decide(&several, counts(3), &outcome).next, Next::Failed(exhausted));
    let single = Policy { retry: RetryPolicy { attempts: 1, ..several.retry }, ..several };
    assert_eq!(decide(&single, counts(1), &outcome).next, Next::Failed(Failure::of(cause)));
}

#[test]
fn after_its_second_rescue_an_operation_runs_alone_and_after_three_crashes_alone_it_fails() {
    let at_least_once = policy(Delivery::AtLeastOnce);
    for (rescues, quarantined, pause) in [(0, false, 0), (1, true, 2), (2, true, 6), (3, true, 18)]
    {
        let before = Counts { rescues, ..counts(rescues + 1) };
        let transition = decide(&at_least_once, before, &Outcome::Lost);
        let due_at = NOW + Duration::from_secs(pause);
        assert_eq!(transition.next, Next::Queued { due_at }, "{rescues}");
        assert_eq!(transition.counts.rescues, rescues + 1);
        assert_eq!(transition.counts.is_quarantined(), quarantined, "{rescues}");
        assert_eq!(transition.counts.spent(), 0);
    }
    let last = decide(&at_least_once, Counts { rescues: 4, ..counts(5) }, &Outcome::Lost);
    let Next::Failed(failure) = last.next else { panic!("{last:?}") };
    assert_eq!(failure.code, ErrorCode::RescuesExhausted);
    assert!(failure.message().contains("alone"), "{}", failure.message());
}

#[test]
fn what_is_delivered_at_most_once_is_never_rescued() {
    let lost = decide(&policy(Delivery::AtMostOnce), counts(1), &Outcome::Lost);
    let unknown = Failure::caused(ErrorCode::OutcomeUnknown, ErrorCode::OwnerLost);
    assert_eq!((lost.next, lost.counts.rescues), (Next::Failed(unknown), 0));
}

#[test]
fn no_attempt_is_planned_at_or_behind_the_deadline() {
    let answer = Answer { retry_after: Some(HOUR), ..answer(503) };
    let transition = decide(&policy(Delivery::AtLeastOnce), counts(1), &Outcome::Answered(answer));
    let Next::Failed(failure) = transition.next else { panic!("{transition:?}") };
    assert_eq!(failure.code, ErrorCode::DeadlineExceeded);
    assert_eq!(failure.cause, Some(ErrorCode::UpstreamStatus));
    assert!(transition.effects.contains(&Effect::KeepAnswer));
}

#[test]
fn a_synchronous_request_takes_its_first_complete_answer_and_repeats_only_the_unsent() {
    let policy = Policy { first_answer_is_final: true, ..policy(Delivery::AtLeastOnce) };
    let unavailable = decide(&policy, counts(1), &Outcome::Answered(answer(503)));
    assert!(matches!(unavailable.next, Next::Failed(_)));
    let accepted = Answer { monitor: Some(Continuation::monitor("http://up/m")), ..answer(202) };
    assert_eq!(decide(&policy, counts(1), &Outcome::Answered(accepted)).next, Next::Succeeded);
    let cause = ErrorCode::UpstreamProtocol;
    let cut = decide(&policy, counts(1), &Outcome::Broken { sent: Sent::Perhaps, cause });
    assert_eq!(cut.next, Next::Failed(Failure::of(cause)));
    let unsent = decide(&policy, counts(1), &Outcome::Broken { sent: Sent::Nothing, cause });
    assert!(matches!(unsent.next, Next::Queued { .. }));
}

#[test]
fn an_upstream_that_answers_202_is_followed_by_its_own_pace_within_bounds() {
    for (asked, pause) in [(None, 5), (Some(0), 1), (Some(20), 20), (Some(900), 60)] {
        let answer = Answer {
            monitor: Some(Continuation::monitor("http://up/jobs/1")),
            retry_after: asked.map(Duration::from_secs),
            ..answer(202)
        };
        let transition =
            decide(&policy(Delivery::AtMostOnce), counts(1), &Outcome::Answered(answer));
        let due_at = NOW + Duration::from_secs(pause);
        assert_eq!(transition.next, Next::Waiting { on: WaitingFor::Upstream, due_at });
        let saved = Effect::SaveContinuation(Continuation::monitor("http://up/jobs/1"));
        assert!(transition.effects.contains(&saved));
    }
}

#[test]
fn a_monitor_that_may_not_be_followed_ends_as_unknown_and_is_never_sent_again() {
    for delivery in [Delivery::AtMostOnce, Delivery::AtLeastOnce] {
        let transition = decide(&policy(delivery), counts(1), &Outcome::NotFollowed);
        let (code, cause) = (ErrorCode::OutcomeUnknown, ErrorCode::MonitorNotFollowed);
        let failure = Failure::caused(code, cause);
        assert!(failure.message().contains("follow = false"), "{}", failure.message());
        assert_eq!(transition.next, Next::Failed(failure));
    }
}

#[test]
fn another_monitor_of_the_same_work_is_kept_and_asked_at_its_own_pace() {
    let continuation = Continuation::monitor("http://up/jobs/2");
    for (asked, pause) in [(None, 1), (Some(20), 20), (Some(900), 60)] {
        let retry_after = asked.map(Duration::from_secs);
        let outcome = Outcome::Unfinished { continuation: continuation.clone(), retry_after };
        let transition = decide(&policy(Delivery::AtMostOnce), counts(1), &outcome);
        let due_at = NOW + Duration::from_secs(pause);
        assert_eq!(transition.next, Next::Waiting { on: WaitingFor::Upstream, due_at });
        assert_eq!(transition.effects, [Effect::SaveContinuation(continuation.clone())]);
    }
}

#[test]
fn following_ends_with_the_monitors_answer_or_with_the_deadline() {
    let policy = policy(Delivery::AtMostOnce);
    assert_eq!(decide(&policy, counts(1), &Outcome::Followed(answer(200))).next, Next::Succeeded);
    assert!(matches!(
        decide(&policy, counts(1), &Outcome::Followed(answer(404))).next,
        Next::Failed(_)
    ));
    let late = Policy { deadline_at: NOW, ..policy };
    let transition = decide(&late, counts(1), &Outcome::StillPending { retry_after: None });
    assert_eq!(transition.next, Next::Failed(Failure::of(ErrorCode::DeadlineExceeded)));
}

#[test]
fn too_large_an_answer_is_final_and_keeps_its_status() {
    let transition =
        decide(&policy(Delivery::AtLeastOnce), counts(1), &Outcome::TooLarge(answer(201)));
    let failure = Failure::of(ErrorCode::ResponseTooLarge).with_status(201);
    assert_eq!(transition.next, Next::Failed(failure));
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    let sent = prop_oneof![Just(Sent::Nothing), Just(Sent::Perhaps)];
    let any_answer = (100u16..600, any::<bool>(), prop::option::of(0u64..100_000), any::<bool>())
        .prop_map(|(status, post, seconds, follow)| Answer {
            status,
            redirect_is_success: post,
            retry_after: seconds.map(Duration::from_secs),
            monitor: (follow && status == 202).then(|| Continuation::monitor("http://up/jobs/1")),
        });
    prop_oneof![
        any_answer.clone().prop_map(Outcome::Answered),
        any_answer.clone().prop_map(Outcome::TooLarge),
        any_answer.prop_map(Outcome::Followed),
        sent.clone().prop_map(|sent| Outcome::Broken { sent, cause: ErrorCode::UpstreamProtocol }),
        sent.prop_map(|sent| Outcome::Interrupted { sent }),
        prop::option::of(0u64..100_000)
            .prop_map(|s| Outcome::StillPending { retry_after: s.map(Duration::from_secs) }),
        Just(Outcome::Lost),
        Just(Outcome::Canceled),
        Just(Outcome::Expired),
        Just(Outcome::Unroutable),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_there_is_a_next_step_within_the_promises(
        outcome in any_outcome(), once: bool, sync: bool, attempts in 1u32..20, seed: u64,
    ) {
        let delivery = if once { Delivery::AtMostOnce } else { Delivery::AtLeastOnce };
        let policy = Policy { first_answer_is_final: sync, ..policy(delivery) };
        let standing = Standing { policy: &policy, counts: counts(attempts) };
        let transition = settle(standing, &outcome, NOW, &mut StdRng::seed_from_u64(seed));
        if let Next::Queued { due_at } | Next::Waiting { due_at, .. } = transition.next {
            prop_assert!(due_at >= NOW && due_at <= policy.deadline_at);
        }
        // Every end says so once, erases the credentials and lets the next of its key go.
        let says_final = transition.effects.iter().any(
            |e| matches!(e, Effect::Announce { kind, .. } if kind.is_final()));
        prop_assert_eq!(says_final, transition.next.is_final());
        prop_assert_eq!(transition.effects.contains(&Effect::EraseCredentials), transition.next.is_final());
        prop_assert_eq!(transition.effects.contains(&Effect::PromoteSerialKey), transition.next.is_final());
        let seen = matches!(outcome, Outcome::Lost
            | Outcome::Broken { sent: Sent::Perhaps, .. } | Outcome::Interrupted { sent: Sent::Perhaps });
        if once && seen {
            let repeated = matches!(transition.next, Next::Queued { .. });
            prop_assert!(!repeated);
        }
    }
}

fn rechecking(delivery: Delivery) -> Policy {
    let recheck = Recheck::parse("GET /orders?ref={operation_id}").unwrap();
    Policy { recheck: Some(recheck), ..policy(delivery) }
}

fn rescued() -> Counts {
    Counts { attempts: 2, rescues: 1, ..Counts::default() }
}

#[test]
fn only_what_would_end_as_unknown_is_asked_about_at_once() {
    use Delivery::{AtLeastOnce, AtMostOnce};
    let broken = |sent| Outcome::Broken { sent, cause: ErrorCode::UpstreamTimeout };
    for (delivery, outcome, asked) in [
        (AtMostOnce, broken(Sent::Perhaps), true),
        (AtMostOnce, broken(Sent::Nothing), false),
        (AtLeastOnce, broken(Sent::Perhaps), false),
        (AtMostOnce, Outcome::Answered(answer(500)), false),
        (AtMostOnce, Outcome::Lost, false),
    ] {
        assert_eq!(is_asked_about(&rechecking(delivery), &outcome), asked, "{outcome:?}");
        assert!(!is_asked_about(&policy(delivery), &outcome));
    }
}

#[test]
fn what_took_effect_succeeds_and_what_did_not_is_sent_again() {
    for delivery in [Delivery::AtMostOnce, Delivery::AtLeastOnce] {
        let policy = rechecking(delivery);
        let did = decide(&policy, counts(1), &Outcome::TookEffect { status: 200 });
        assert_eq!(did.next, Next::Succeeded);
        assert!(did.effects.contains(&Effect::KeepAnswer));
        let told = |status| Effect::Announce { kind: EventKind::Rechecked, code: None, status };
        assert_eq!(did.effects[0], told(Some(200)));
        let did_not = Outcome::Refuted { cause: ErrorCode::UpstreamTimeout };
        let again = decide(&policy, counts(1), &did_not);
        assert!(matches!(again.next, Next::Queued { .. }), "{:?}", again.next);
        assert_eq!(again.effects[0], told(Some(404)));
        let Next::Failed(failure) = decide(&policy, counts(3), &did_not).next else { panic!() };
        assert_eq!(failure.code, ErrorCode::AttemptsExhausted);
    }
}

#[test]
fn what_was_lost_is_asked_about_before_anything_is_sent_again_and_ends_unknown_otherwise() {
    let policy = rechecking(Delivery::AtMostOnce);
    for lost in [Outcome::Lost, Outcome::Interrupted { sent: Sent::Perhaps }] {
        let taken_over = decide(&policy, counts(1), &lost);
        assert_eq!(taken_over.next, Next::Queued { due_at: NOW });
        assert_eq!(taken_over.counts.rescues, 1);
    }
    assert!(is_in_doubt(&policy, rescued()) && !is_in_doubt(&policy, counts(2)));
    assert!(!is_in_doubt(&rechecking(Delivery::AtLeastOnce), rescued()));
    let nobody_knows = [
        Outcome::Unclear { status: Some(500) },
        Outcome::Unclear { status: None },
        Outcome::Expired,
        Outcome::Unroutable,
    ];
    for outcome in nobody_knows {
        let Next::Failed(failure) = decide(&policy, rescued(), &outcome).next else { panic!() };
        let unknown = Failure::caused(ErrorCode::OutcomeUnknown, ErrorCode::OwnerLost);
        assert_eq!(failure, unknown, "{outcome:?}");
    }
    let Next::Failed(failure) = decide(&policy, counts(2), &Outcome::Expired).next else {
        panic!()
    };
    assert_eq!(failure.code, ErrorCode::DeadlineExceeded);
}

#[test]
fn only_a_failure_blocks_a_serial_key_and_only_where_that_was_promised() {
    for on_failure in [OnFailure::Skip, OnFailure::Block] {
        let policy = Policy { on_failure, ..policy(Delivery::AtMostOnce) };
        for (outcome, fails) in [
            (Outcome::Answered(answer(201)), false),
            (Outcome::Answered(answer(422)), true),
            (Outcome::Lost, true),
            (Outcome::Canceled, false),
        ] {
            let effects = decide(&policy, counts(1), &outcome).effects;
            let blocks = fails && on_failure == OnFailure::Block;
            assert_eq!(effects.contains(&Effect::BlockSerialKey), blocks, "{outcome:?}");
            assert_eq!(effects.contains(&Effect::PromoteSerialKey), !blocks, "{outcome:?}");
        }
    }
}
