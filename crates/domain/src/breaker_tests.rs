//! Tests of the breaker: the signals that open it, those that do not, and how it closes.

use super::*;
use crate::http::retry_after::RetryAfter;
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

const START: Timestamp = Timestamp::from_micros(1_000_000_000);

fn rng() -> StdRng {
    StdRng::seed_from_u64(7)
}

/// A breaker to which these have happened, one after the other at the same instant.
fn after(signs: impl IntoIterator<Item = HealthSignal>) -> Breaker {
    let mut breaker = Breaker::default();
    for sign in signs {
        breaker.ended(BreakerPass::Free, sign, START, &mut rng());
    }
    breaker
}

fn is_closed(breaker: &Breaker) -> bool {
    matches!(breaker.state(), BreakerPhase::Closed { .. })
}

fn open() -> Breaker {
    after([HealthSignal::Unreached; UNREACHED as usize])
}

/// When an open breaker lets an attempt through.
fn over(breaker: &Breaker) -> Timestamp {
    breaker.clone().pass(START).err().unwrap_or(START)
}

#[test]
fn a_few_failed_connections_in_a_row_open_it() {
    assert!(is_closed(&after([HealthSignal::Unreached; 4])));
    assert!(!is_closed(&open()));
}

#[test]
fn whatever_reaches_the_upstream_begins_the_row_anew() {
    for between in [HealthSignal::Answers, HealthSignal::Fails] {
        let signs =
            [[HealthSignal::Unreached; 4].as_slice(), &[between], &[HealthSignal::Unreached; 4]]
                .concat();
        assert!(is_closed(&after(signs)), "{between:?}");
    }
}

#[test]
fn it_takes_many_failures_and_few_answers_to_open_it_otherwise() {
    let mixed = |fails: usize, answers: usize| {
        after([vec![HealthSignal::Answers; answers], vec![HealthSignal::Fails; fails]].concat())
    };
    for (fails, answers, closed) in [
        (19, 0, true),
        (20, 0, false),
        (16, 4, false),
        (15, 5, true),
        (19, 5, true),
        (79, 20, true),
    ] {
        assert_eq!(is_closed(&mixed(fails, answers)), closed, "{fails} {answers}");
    }
}

#[test]
fn failures_of_long_ago_do_not_count() {
    let mut breaker = after([HealthSignal::Fails; 19]);
    breaker.ended(BreakerPass::Free, HealthSignal::Fails, START + HALF * 2, &mut rng());
    assert!(is_closed(&breaker));
    let mut breaker = after([HealthSignal::Fails; 19]);
    breaker.ended(BreakerPass::Free, HealthSignal::Fails, START + HALF, &mut rng());
    assert!(!is_closed(&breaker));
}

#[test]
fn open_it_lets_no_attempt_through_until_the_pause_is_over_and_then_one() {
    let mut breaker = open();
    let over = over(&breaker);
    assert_eq!(breaker.pass(START), Err(over));
    assert_eq!(breaker.pass(over), Ok(BreakerPass::Probe));
    assert!(breaker.pass(over).is_err());
}

#[test]
fn a_probe_that_is_answered_closes_it() {
    let mut breaker = open();
    let over = over(&breaker);
    breaker.pass(over).unwrap();
    breaker.ended(BreakerPass::Probe, HealthSignal::Answers, over, &mut rng());
    assert_eq!(breaker, Breaker::default());
}

#[test]
fn a_probe_that_fails_makes_the_pause_longer_up_to_a_minute() {
    let mut breaker = open();
    let mut now = START;
    for openings in 2..40 {
        now = now + PAUSES.1;
        breaker.pass(now).unwrap();
        breaker.ended(BreakerPass::Probe, HealthSignal::Fails, now, &mut rng());
        let BreakerPhase::Open { since, pause, openings: counted } = *breaker.state() else {
            panic!("{breaker:?}")
        };
        let ceiling = Duration::from_secs((1 << (openings - 1).min(6)).min(60));
        assert_eq!((since, counted), (now, openings));
        assert_eq!(pause, ceiling.mul_f64(rng().random::<f64>()));
    }
}

#[test]
fn who_began_before_it_opened_neither_closes_it_nor_opens_it_for_longer() {
    for sign in [HealthSignal::Answers, HealthSignal::Unreached, HealthSignal::Fails] {
        let (mut late, before) = (open(), open());
        late.ended(BreakerPass::Free, sign, START + PAUSES.1, &mut rng());
        assert_eq!(late, before, "{sign:?}");
    }
}

#[test]
fn a_probe_that_finds_nothing_out_makes_room_for_another_at_once() {
    let mut breaker = open();
    let over = over(&breaker);
    breaker.pass(over).unwrap();
    breaker.abandoned();
    assert_eq!(breaker.pass(over), Ok(BreakerPass::Probe));
}

#[test]
fn a_probe_that_hangs_is_joined_by_another_after_a_minute() {
    let mut breaker = open();
    let over = over(&breaker);
    breaker.pass(over).unwrap();
    assert_eq!(breaker.pass(over), Err(over + PAUSES.1));
    assert_eq!(breaker.pass(over + PAUSES.1), Ok(BreakerPass::Probe));
    breaker.abandoned();
    assert!(breaker.pass(over + PAUSES.1).is_err(), "the other one is still on its way");
}

#[test]
fn a_clock_that_is_set_back_does_not_keep_it_open() {
    let mut breaker = open();
    assert_eq!(breaker.pass(START - Duration::from_hours(1)), Ok(BreakerPass::Probe));
}

#[test]
fn only_signs_of_an_absent_server_count() {
    let answered = |status, retry_after: Option<u64>| {
        let wait = |seconds| RetryAfter::In(Duration::from_secs(seconds));
        let retry_after = retry_after.map_or(RetryAfter::Absent, wait);
        Outcome::Answered(UpstreamAnswer { retry_after, ..UpstreamAnswer::plain(status) })
    };
    let broken = |sent, cause| Outcome::Broken { sent, cause };
    let (unreachable, timeout) = (ErrorCode::UpstreamUnreachable, ErrorCode::UpstreamTimeout);
    for (outcome, sign) in [
        (answered(200, None), Some(HealthSignal::Answers)),
        (answered(404, None), Some(HealthSignal::Answers)),
        (answered(500, None), Some(HealthSignal::Answers)),
        (answered(429, Some(1)), Some(HealthSignal::Answers)),
        (answered(503, Some(1)), Some(HealthSignal::Answers)),
        (answered(503, None), Some(HealthSignal::Fails)),
        (answered(502, Some(1)), Some(HealthSignal::Fails)),
        (answered(504, None), Some(HealthSignal::Fails)),
        (broken(SendState::Nothing, unreachable), Some(HealthSignal::Unreached)),
        (broken(SendState::Nothing, timeout), Some(HealthSignal::Unreached)),
        (broken(SendState::Perhaps, timeout), Some(HealthSignal::Fails)),
        (broken(SendState::Perhaps, ErrorCode::UpstreamProtocol), Some(HealthSignal::Fails)),
        (broken(SendState::Nothing, ErrorCode::UpstreamProtocol), None),
        (broken(SendState::Nothing, ErrorCode::Unreadable), None),
        (broken(SendState::Perhaps, ErrorCode::Unreadable), None),
        (Outcome::Unreadable { status: Some(200) }, None),
        (Outcome::Canceled { sent: SendState::Perhaps }, None),
        (Outcome::Expired, None),
        (Outcome::Interrupted { sent: SendState::Perhaps }, None),
    ] {
        assert_eq!(HealthSignal::of(&outcome, PATIENT), sign, "{outcome:?}");
    }
}

#[test]
fn a_client_in_a_hurry_does_not_shut_the_door_for_others() {
    let late = Outcome::Broken { sent: SendState::Perhaps, cause: ErrorCode::UpstreamTimeout };
    assert_eq!(HealthSignal::of(&late, PATIENT / 2), None);
}

/// Something that happens to a breaker.
#[derive(Clone, Copy, Debug)]
enum Event {
    Ask,
    End(HealthSignal),
    Abandon,
}

fn events() -> impl Strategy<Value = Vec<(u64, Event)>> {
    let sign = prop_oneof![
        Just(HealthSignal::Answers),
        Just(HealthSignal::Unreached),
        Just(HealthSignal::Fails)
    ];
    let event = prop_oneof![
        3 => Just(Event::Ask),
        3 => sign.prop_map(Event::End),
        1 => Just(Event::Abandon),
    ];
    proptest::collection::vec((0u64..90_000, event), 1..200)
}

proptest! {
    #[test]
    fn it_never_stays_shut_for_more_than_a_minute_and_never_lets_two_probes_begin_at_once(
        events in events(), seed: u64,
    ) {
        let (mut breaker, mut rng) = (after([HealthSignal::Unreached; 5]), StdRng::seed_from_u64(seed));
        let (mut now, mut passes) = (START, Vec::new());
        for (pause, event) in events {
            now = now + Duration::from_millis(pause);
            match event {
                Event::Ask => match breaker.pass(now) {
                    Ok(pass) => {
                        passes.push(pass);
                        prop_assert!(pass == BreakerPass::Free || breaker.pass(now).is_err());
                    }
                    Err(again) => prop_assert!(again > now && again <= now + PAUSES.1),
                },
                Event::End(sign) => {
                    if let Some(pass) = passes.pop() {
                        breaker.ended(pass, sign, now, &mut rng);
                        prop_assert!(is_closed(&breaker) || sign != HealthSignal::Answers || pass == BreakerPass::Free);
                    }
                }
                Event::Abandon => {
                    if passes.pop() == Some(BreakerPass::Probe) {
                        breaker.abandoned();
                    }
                }
            }
        }
        prop_assert!(breaker.pass(now + PAUSES.1).is_ok());
    }
}
