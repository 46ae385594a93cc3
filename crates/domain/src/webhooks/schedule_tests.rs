use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;

const FAILED: SendResult = SendResult::Failed { status: Some(500), retry_after: None };

fn standing(attempts: u32) -> DeliveryProgress {
    DeliveryProgress { attempts, refusals: 0, deadline_at: Timestamp::EPOCH + DEADLINE }
}

fn after(attempts: u32, attempted: SendResult) -> DeliveryDecision {
    let mut rng = SmallRng::seed_from_u64(7);
    settle(standing(attempts), attempted, Timestamp::EPOCH, &mut rng)
}

#[test]
fn ten_attempts_are_made_after_the_pauses_of_the_contract() {
    let hours = |hours: u64| hours * 3600;
    let pauses = [5, 300, 1800, hours(2), hours(5), hours(10), hours(14), hours(20), hours(24)];
    for (attempts, pause) in (1..).zip(pauses) {
        let DeliveryDecision::Again { due_at, refusals: 0 } = after(attempts, FAILED) else {
            panic!("attempt {attempts} was the last one");
        };
        let waited = due_at.since(Timestamp::EPOCH).as_secs_f64();
        let part = waited / pause as f64;
        assert!((0.799..=1.201).contains(&part), "{waited} s after attempt {attempts}");
    }
    assert_eq!(after(10, FAILED), DeliveryDecision::Over(ScheduleEnd::Exhausted));
}

#[test]
fn a_success_and_a_410_end_it_at_once() {
    assert_eq!(after(1, SendResult::Taken), DeliveryDecision::Over(ScheduleEnd::Delivered));
    assert_eq!(after(1, SendResult::Gone), DeliveryDecision::Over(ScheduleEnd::Gone));
}

#[test]
fn retry_after_lengthens_a_pause_up_to_a_day_and_never_shortens_it() {
    let waited = |status, wish| {
        let attempted = SendResult::Failed { status: Some(status), retry_after: Some(wish) };
        match after(2, attempted) {
            DeliveryDecision::Again { due_at, refusals } => {
                (due_at.since(Timestamp::EPOCH), refusals)
            }
            over @ DeliveryDecision::Over(_) => panic!("{over:?}"),
        }
    };
    assert_eq!(waited(500, Duration::from_hours(3)), (Duration::from_hours(3), 0));
    assert_eq!(waited(500, Duration::from_hours(100)), (Duration::from_hours(24), 0));
    assert!(waited(500, Duration::ZERO).0 >= Duration::from_mins(4));
    assert_eq!(waited(429, Duration::from_hours(3)), (Duration::from_hours(3), 1));
    assert_eq!(waited(503, Duration::from_hours(3)), (Duration::from_hours(3), 1));
}

#[test]
fn refusals_cost_no_attempt() {
    let mut rng = SmallRng::seed_from_u64(7);
    let refused =
        SendResult::Failed { status: Some(503), retry_after: Some(Duration::from_secs(1)) };
    let mut at = DeliveryProgress { attempts: 1, ..standing(1) };
    for _ in 0..30 {
        let DeliveryDecision::Again { refusals, .. } =
            settle(at, refused, Timestamp::EPOCH, &mut rng)
        else {
            panic!("it was given up after {} refusals", at.refusals);
        };
        at = DeliveryProgress { attempts: at.attempts + 1, refusals, ..at };
    }
    let DeliveryDecision::Again { due_at, .. } = settle(at, FAILED, Timestamp::EPOCH, &mut rng)
    else {
        panic!("the first failure ended it");
    };
    assert!(due_at.since(Timestamp::EPOCH) <= Duration::from_secs(6), "the first pause");
}

#[test]
fn a_receiver_that_never_asks_for_more_than_a_moment_gets_some_hundreds_of_attempts() {
    let mut rng = SmallRng::seed_from_u64(7);
    for wish in [0, 1, 30] {
        let retry_after = Some(Duration::from_secs(wish));
        let refused = SendResult::Failed { status: Some(429), retry_after };
        let (mut at, mut now) = (standing(1), Timestamp::EPOCH);
        while let DeliveryDecision::Again { due_at, refusals } = settle(at, refused, now, &mut rng)
        {
            assert_eq!(refusals, at.attempts, "none of them counts");
            now = due_at;
            at = DeliveryProgress { attempts: at.attempts + 1, refusals, ..at };
        }
        assert!((150..350).contains(&at.attempts), "{} attempts", at.attempts);
    }
}

fn attempted() -> impl Strategy<Value = SendResult> {
    let wish = proptest::option::of((0_u64..200_000).prop_map(Duration::from_secs));
    let status = proptest::option::of(prop_oneof![Just(429), Just(503), 300_u16..600]);
    (status, wish).prop_map(|(status, retry_after)| SendResult::Failed { status, retry_after })
}

proptest! {
    /// Whatever the receiver answers, whenever the clock says that the attempt ended, also
    /// after jumps back and forth: a delivery that is not over has a next time in the
    /// future and before its deadline, and it is over after so many attempts that counted.
    #[test]
    fn every_unfinished_delivery_has_a_next_time_before_its_deadline(
        seed: u64,
        rounds in proptest::collection::vec((attempted(), -400_000_i64..400_000), 1..200),
    ) {
        let mut rng = SmallRng::seed_from_u64(seed);
        let deadline_at = Timestamp::from_micros(0) + DEADLINE;
        let (mut refusals, mut counted) = (0, 0);
        let mut now = Timestamp::from_micros(0);
        for (attempts, (attempted, jump)) in (1..).zip(rounds) {
            now = Timestamp::from_micros(now.as_micros() + jump * 1_000_000);
            let standing = DeliveryProgress { attempts, refusals, deadline_at };
            match settle(standing, attempted, now, &mut rng) {
                DeliveryDecision::Again { due_at, refusals: then } => {
                    prop_assert!(due_at > now, "{due_at:?} is not behind {now:?}");
                    prop_assert!(due_at < deadline_at);
                    counted += u32::from(then == refusals);
                    prop_assert!(counted < 10, "{counted} attempts counted");
                    refusals = then;
                    now = due_at;
                }
                DeliveryDecision::Over(ended) => {
                    prop_assert_eq!(ended, ScheduleEnd::Exhausted);
                    // Time or attempts had run out.
                    prop_assert!(counted == 9 || now + LONGEST_WISH.mul_f64(1.2) >= deadline_at);
                    return Ok(());
                }
            }
        }
    }
}
