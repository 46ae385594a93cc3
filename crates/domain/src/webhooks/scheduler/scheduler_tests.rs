use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::receiver_state::REACH;
use super::simulation::{MILLI, ReceiverModel, Simulation, TIMEOUT, limits};
use super::*;

/// What is taken on where all receivers are everybody's.
fn planned<T>(
    traffic: &mut DeliveryScheduler<T>,
    due: impl IntoIterator<Item = (ReceiverKey, bool)>,
    now: Timestamp,
) -> ClaimPlan {
    planned_at(traffic, due, None, now)
}

/// The same where each of them says how fast it may be sent to.
fn planned_at<T>(
    traffic: &mut DeliveryScheduler<T>,
    due: impl IntoIterator<Item = (ReceiverKey, bool)>,
    rate: Option<Rate>,
    now: Timestamp,
) -> ClaimPlan {
    let principal = &Principal::everyone();
    traffic.plan(due, |_| ReceiverTerms { principal, rate }, now)
}

/// Fifty receivers that answer in 20 ms and get something every 50 ms; how long things
/// waited for them.
fn fifty_healthy(mut town: Simulation) -> Duration {
    town = town.with(1..51, ReceiverModel::AnswersIn(20 * MILLI));
    for milli in 0..20_000 {
        for receiver in 1..51 {
            if (milli + receiver) % 50 == 0 {
                town.put(receiver, false, 1);
            }
        }
        town.pass();
    }
    for receiver in 1..51 {
        assert!(town.went_out(receiver) > 390, "{receiver}: {}", town.went_out(receiver));
    }
    town.p99(1..51)
}

#[test]
fn a_receiver_that_never_answers_with_ten_thousand_due_delays_no_other() {
    let without = fifty_healthy(Simulation::of(limits(64)));
    let mut town = Simulation::of(limits(64)).with(100..101, ReceiverModel::Never);
    town.put(100, false, 10_000);
    let beside = fifty_healthy(town);
    println!(
        "p99 of the wait for 50 healthy receivers: {without:?}, beside a silent one: {beside:?}"
    );
    assert!(beside <= without * 2 + MILLI, "{without:?} became {beside:?}");
}

#[test]
fn a_hundred_that_never_answer_leave_half_of_the_slots_to_those_that_do() {
    let without = fifty_healthy(Simulation::of(limits(64)));
    let mut town = Simulation::of(limits(64)).with(100..200, ReceiverModel::Never);
    town = town.with(1..51, ReceiverModel::AnswersIn(20 * MILLI));
    // Until each has answered once, they are not told from those that never will.
    (1..51).for_each(|receiver| town.put(receiver, false, 1));
    (0..100).for_each(|_| town.pass());
    (100..200).for_each(|receiver| town.put(receiver, false, 100));
    let beside = fifty_healthy(town);
    println!(
        "p99 of the wait for 50 healthy receivers: {without:?}, beside 100 silent: {beside:?}"
    );
    assert!(beside <= without * 2 + MILLI, "{without:?} became {beside:?}");
}

#[test]
fn a_slow_receiver_gets_its_concurrency_and_no_more_is_claimed() {
    let mut town =
        Simulation::of(limits(64)).with(1..2, ReceiverModel::AnswersIn(Duration::from_secs(2)));
    town.put(1, false, 1000);
    for _ in 0..10_000 {
        town.pass();
        assert!(town.traffic.held() <= 4, "{}", town.traffic.held());
    }
    assert_eq!(town.most_at_once[&ReceiverKey(1)], 4);
}

#[test]
fn for_a_quick_receiver_more_is_taken_on_than_is_sent_at_once() {
    let mut town = Simulation::of(limits(64)).with(1..2, ReceiverModel::AnswersIn(MILLI));
    town.put(1, false, 100_000);
    (0..200).for_each(|_| town.pass());
    assert_eq!(town.most_at_once[&ReceiverKey(1)], 4);
    let held = town.traffic.held();
    assert!((64..=REACH).contains(&held), "{held}");
    // It hangs: what it was taken on for goes back.
    town.behaves.insert(ReceiverKey(1), ReceiverModel::Never);
    (0..16_000).for_each(|_| town.pass());
    assert!(town.traffic.held() <= 1, "{}", town.traffic.held());
}

#[test]
fn first_attempts_keep_their_share_of_the_slots() {
    let mut town = Simulation::of(limits(10)).with(1..21, ReceiverModel::AnswersIn(900 * MILLI));
    // So that each is known to answer.
    (1..21).for_each(|receiver| town.put(receiver, false, 1));
    (0..20_000).for_each(|_| town.pass());
    (1..21).for_each(|receiver| town.put(receiver, true, 100));
    (0..1000).for_each(|_| town.pass());
    assert_eq!(town.traffic.sending_again, 8);
    let before = town.went_out(7);
    town.put(7, false, 1);
    town.pass();
    assert_eq!((town.traffic.sending(), town.traffic.sending_again), (9, 8));
    assert!(town.went_out(7) > before);
}

#[test]
fn turns_go_round_however_much_is_due() {
    let mut town = Simulation::of(limits(2)).with(1..5, ReceiverModel::AnswersIn(10 * MILLI));
    town.put(1, false, 10_000);
    (2..5).for_each(|receiver| town.put(receiver, false, 100));
    (0..1200).for_each(|_| town.pass());
    let shares: Vec<_> = (1..5).map(|receiver| town.went_out(receiver)).collect();
    let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
    assert!(most - least <= 8, "{shares:?}");
}

#[test]
fn a_receiver_that_cannot_be_reached_is_parked_and_probed_one_at_a_time() {
    let lane = (ReceiverKey(1), false);
    let mut traffic = DeliveryScheduler::new(limits(64));
    let (mut now, mut rng) = (Timestamp::EPOCH + TIMEOUT, StdRng::seed_from_u64(3));
    let fails = AttemptReport { sign: Some(HealthSignal::Unreached), took: MILLI };
    for _ in 0..5 {
        assert_eq!(planned(&mut traffic, [lane], now).wants[&lane], 1);
        assert!(traffic.arrived(lane, 1, vec![1]).is_empty());
        let turn = traffic.begin(now).unwrap();
        traffic.ended(turn.leave, fails, now, &mut rng);
        traffic.settled(lane.0);
    }
    assert_eq!(traffic.parked(), 1);
    let plan = planned(&mut traffic, [lane], now);
    assert!(plan.wants.is_empty(), "{plan:?}");
    now = plan.again_at.unwrap();
    // A probe that finds nothing to be sent makes room for the next.
    assert_eq!(planned(&mut traffic, [lane], now).wants[&lane], 1);
    assert!(planned(&mut traffic, [lane], now).wants.is_empty());
    assert!(traffic.arrived(lane, 1, Vec::<i32>::new()).is_empty());
    assert_eq!(planned(&mut traffic, [lane], now).wants[&lane], 1);
    traffic.arrived(lane, 1, vec![1]);
    let turn = traffic.begin(now).unwrap();
    let answers = AttemptReport { sign: Some(HealthSignal::Answers), took: MILLI };
    traffic.ended(turn.leave, answers, now, &mut rng);
    assert_eq!((traffic.parked(), planned(&mut traffic, [lane], now).wants[&lane]), (0, 4));
}

#[test]
fn what_comes_for_a_receiver_that_was_parked_meanwhile_goes_back() {
    let lane = (ReceiverKey(1), false);
    let mut traffic = DeliveryScheduler::new(limits(64));
    let (now, mut rng) = (Timestamp::EPOCH + TIMEOUT, StdRng::seed_from_u64(3));
    let answers = AttemptReport { sign: Some(HealthSignal::Answers), took: MILLI };
    planned(&mut traffic, [lane], now);
    traffic.arrived(lane, 1, vec![0]);
    let turn = traffic.begin(now).unwrap();
    traffic.ended(turn.leave, answers, now, &mut rng);
    let count = planned(&mut traffic, [lane], now).wants[&lane];
    traffic.arrived(lane, count, (0..count).collect());
    let turns: Vec<_> = std::iter::from_fn(|| traffic.begin(now)).collect();
    let more = planned(&mut traffic, [(lane.0, true)], now).wants;
    assert!(turns.len() == 4 && more.is_empty());
    let fails = AttemptReport { sign: Some(HealthSignal::Unreached), took: MILLI };
    let mut back = Vec::new();
    for turn in turns {
        back.extend(traffic.ended(turn.leave, fails, now, &mut rng));
    }
    let count = planned(&mut traffic, [lane], now).wants[&lane];
    traffic.arrived(lane, count, vec![9; count]);
    let turn = traffic.begin(now).unwrap();
    let away = traffic.ended(turn.leave, fails, now, &mut rng);
    assert_eq!((back.len(), away.len()), (0, count - 1));
    assert_eq!(traffic.parked(), 1);
    assert_eq!(traffic.arrived(lane, 0, vec![5]), [5]);
}

#[test]
fn a_rate_is_kept_and_what_was_not_sent_does_not_count() {
    let lane = (ReceiverKey(1), false);
    let mut traffic =
        DeliveryScheduler::new(SlotLimits { rate: Some("2/s".parse().unwrap()), ..limits(64) });
    let (now, mut rng) = (Timestamp::EPOCH + TIMEOUT, StdRng::seed_from_u64(3));
    let answers = AttemptReport { sign: Some(HealthSignal::Answers), took: MILLI };
    for _ in 0..2 {
        let count = planned(&mut traffic, [lane], now).wants[&lane];
        assert_eq!(count, 1);
        traffic.arrived(lane, count, vec![1]);
        let turn = traffic.begin(now).unwrap();
        traffic.ended(turn.leave, answers, now, &mut rng);
    }
    let plan = planned(&mut traffic, [lane], now);
    let half = now + Duration::from_millis(500);
    assert_eq!((plan.wants.len(), plan.again_at), (0, Some(half)));
    assert_eq!(planned(&mut traffic, [lane], half).wants[&lane], 1);
    traffic.arrived(lane, 1, Vec::new());
    assert_eq!(planned(&mut traffic, [lane], half).wants[&lane], 1);
}

#[test]
fn a_receiver_is_sent_to_no_faster_than_it_says_itself_nor_than_is_configured() {
    let lane = (ReceiverKey(1), false);
    let rate = |text: &str| Some(text.parse::<Rate>().unwrap());
    for (configured, own, pause) in [
        (None, rate("30/m"), 2000),
        (rate("5/s"), rate("30/m"), 2000),
        (rate("2/s"), rate("600/m"), 500),
        (rate("2/s"), None, 500),
    ] {
        let mut traffic = DeliveryScheduler::new(SlotLimits { rate: configured, ..limits(64) });
        let now = Timestamp::EPOCH + TIMEOUT;
        while let Some(count) = planned_at(&mut traffic, [lane], own, now).wants.get(&lane) {
            traffic.arrived(lane, *count, vec![1; *count]);
            let turn = traffic.begin(now).unwrap();
            let answers = AttemptReport { sign: Some(HealthSignal::Answers), took: MILLI };
            traffic.ended(turn.leave, answers, now, &mut StdRng::seed_from_u64(3));
            traffic.settled(lane.0);
            assert!(!traffic.promise(lane.0, own, None, now) || configured.is_some());
        }
        let plan = planned_at(&mut traffic, [lane], own, now);
        assert_eq!(plan.again_at, Some(now + Duration::from_millis(pause)), "{own:?}");
    }
}

#[test]
fn a_receiver_that_says_another_rate_is_sent_to_at_that_one_from_then_on() {
    let (one, now) = (ReceiverKey(1), Timestamp::EPOCH + Duration::from_hours(1));
    let mut traffic = DeliveryScheduler::new(limits(64));
    quick(&mut traffic, one, now);
    let slow = Some("30/m".parse().unwrap());
    assert!(traffic.promise(one, slow, None, now) && !traffic.promise(one, slow, None, now));
    assert!(traffic.promise(one, None, None, now), "it has named none any more");
}

#[test]
fn who_is_left_alone_is_not_asked_for() {
    let lane = (ReceiverKey(1), false);
    let mut traffic: DeliveryScheduler<()> = DeliveryScheduler::new(limits(64));
    let now = Timestamp::EPOCH + TIMEOUT;
    traffic.leave_alone(lane.0, now + TIMEOUT, now);
    let plan = planned(&mut traffic, [lane], now);
    assert_eq!((plan.wants.len(), plan.again_at), (0, Some(now + TIMEOUT)));
    assert_eq!(planned(&mut traffic, [lane], now + TIMEOUT).wants[&lane], 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn however_receivers_behave_the_limits_hold_and_nothing_is_lost(
        slots in 1usize..12,
        manners in prop::collection::vec((0u64..3000, any::<bool>(), 0usize..40, 0usize..40), 1..12),
        seed in any::<u64>(),
    ) {
        let mut town = Simulation::of(limits(slots));
        town.rng = StdRng::seed_from_u64(seed);
        let mut all = 0;
        for (receiver, (millis, answers, first, again)) in (1..).zip(&manners) {
            let time = Duration::from_millis(*millis);
            let behaves = if *answers { ReceiverModel::AnswersIn(time) } else { ReceiverModel::Never };
            town = town.with(receiver..receiver + 1, behaves);
            town.put(receiver, false, *first);
            town.put(receiver, true, *again);
            all += first + again;
        }
        for _ in 0..4000 {
            town.pass();
            prop_assert!(town.traffic.sending() <= slots);
            prop_assert!(town.traffic.sending_slow <= town.traffic.limits.for_slow());
            prop_assert!(town.traffic.sending_silent <= town.traffic.limits.for_silent());
            prop_assert!(town.traffic.contacts.in_slots() <= town.traffic.limits.for_contacts());
            prop_assert!(town.traffic.aside() <= slots * 2);
            let under_way = town.traffic.sending() + town.traffic.aside();
            prop_assert_eq!(under_way, town.under_way.len());
            let due: usize = town.due.values().map(VecDeque::len).sum();
            let ended = town.began as usize - town.under_way.len();
            prop_assert_eq!(due + town.traffic.held() + ended, all);
        }
        prop_assert!(town.most_at_once.values().all(|most| *most <= 4));
        let waiting = town.traffic.held() - town.under_way.len();
        prop_assert_eq!(town.traffic.clear().len(), waiting);
    }
}

/// A receiver that has just answered quickly.
fn quick(traffic: &mut DeliveryScheduler<u8>, receiver: ReceiverKey, now: Timestamp) {
    planned(traffic, [(receiver, false)], now);
    traffic.arrived((receiver, false), 1, vec![0]);
    let leave = traffic.begin(now).unwrap().leave;
    let came = AttemptReport { sign: Some(HealthSignal::Answers), took: MILLI };
    traffic.ended(leave, came, now, &mut StdRng::seed_from_u64(7));
    traffic.settled(receiver);
}

#[test]
fn room_is_promised_for_a_quick_receiver_without_older_unclaimed_deliveries() {
    let (one, now) = (ReceiverKey(1), Timestamp::EPOCH + Duration::from_hours(1));
    let mut traffic = DeliveryScheduler::new(limits(64));
    assert!(!traffic.promise(one, None, None, now), "nothing is known of it");
    quick(&mut traffic, one, now);
    assert!((0..4).all(|_| traffic.promise(one, None, None, now)));
    assert!(
        planned(&mut traffic, [(one, false)], now).wants.is_empty(),
        "what is promised is taken"
    );
    assert_eq!(traffic.kept(one, None), Vec::<u8>::new());
    assert_eq!(traffic.kept(one, Some(1)), Vec::<u8>::new());
    assert_eq!((traffic.held(), traffic.begin(now).unwrap().item), (3, 1));
    assert_eq!(
        planned(&mut traffic, [(one, false)], now).wants,
        BTreeMap::from([((one, false), 1)])
    );
    let much_later = now + OVERTAKES * 2;
    assert!(!traffic.promise(one, None, None, much_later), "something older is being asked for");
}

#[test]
fn what_comes_unasked_may_wait_for_longer_than_what_is_asked_for_but_not_without_end() {
    let (one, now) = (ReceiverKey(1), Timestamp::EPOCH + Duration::from_hours(1));
    let mut traffic = DeliveryScheduler::new(limits(64));
    quick(&mut traffic, one, now);
    let promised = (0..100).filter(|_| traffic.promise(one, None, None, now)).count();
    assert_eq!(promised, 4 * HANDOFF_FACTOR, "it takes four at once");
    assert_eq!(planned(&mut traffic, [(one, false)], now).wants, BTreeMap::new());
}

#[test]
fn what_has_been_due_for_long_is_not_overtaken() {
    let (one, now) = (ReceiverKey(1), Timestamp::EPOCH + Duration::from_hours(1));
    let mut traffic = DeliveryScheduler::new(limits(64));
    quick(&mut traffic, one, now);
    let due_for = |age| Some(now + OVERTAKES - age);
    let later = now + OVERTAKES;
    assert!(
        traffic.promise(one, None, due_for(OVERTAKES), later),
        "it has only just come to be due"
    );
    assert!(
        !traffic.promise(one, None, due_for(OVERTAKES + MILLI), later),
        "it has been due for longer"
    );
    planned(&mut traffic, [(one, false)], later);
    traffic.arrived((one, false), 3, vec![1]);
    assert!(
        traffic.promise(one, None, None, later + OVERTAKES * 2),
        "nothing is asked for any more"
    );
}

#[test]
fn promises_leave_half_of_the_room_to_what_is_asked_for_and_keep_to_the_rate() {
    let now = Timestamp::EPOCH + Duration::from_hours(1);
    let rate = Some("2/s".parse().unwrap());
    let mut traffic = DeliveryScheduler::new(SlotLimits { rate, ..limits(1) });
    let promised = (1..100).filter(|receiver| {
        quick(&mut traffic, ReceiverKey(*receiver), now);
        let kept = traffic.promise(ReceiverKey(*receiver), None, None, now);
        assert!(
            !traffic.promise(ReceiverKey(*receiver), None, None, now),
            "two in a second are enough"
        );
        kept
    });
    assert_eq!(promised.count(), AHEAD / 2);
    assert_eq!(traffic.held(), AHEAD / 2);
}

#[test]
fn a_promise_to_a_receiver_that_has_turned_bad_gives_back_what_comes() {
    let (one, now) = (ReceiverKey(1), Timestamp::EPOCH + Duration::from_hours(1));
    let mut traffic = DeliveryScheduler::new(limits(64));
    quick(&mut traffic, one, now);
    assert!((0..4).all(|_| traffic.promise(one, None, None, now)));
    assert_eq!(traffic.kept(one, Some(1)), Vec::<u8>::new());
    let leave = traffic.begin(now).unwrap().leave;
    let came = AttemptReport { sign: Some(HealthSignal::Unreached), took: TIMEOUT };
    traffic.ended(leave, came, now, &mut StdRng::seed_from_u64(7));
    let back: Vec<_> = [2, 3, 4].iter().flat_map(|item| traffic.kept(one, Some(*item))).collect();
    assert_eq!(back, [3, 4], "one finds out whether it is back");
}
