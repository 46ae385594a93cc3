use std::time::Duration;

use crate::Principal;
use crate::breaker::HealthSignal;
use crate::webhooks::ReceiverKey;
use crate::webhooks::scheduler::simulation::{MILLI, ReceiverModel, Simulation, TIMEOUT, limits};
use crate::webhooks::scheduler::{AttemptReport, REMEMBERED};

/// The one that answers in 20 ms.
const FRESH: i64 = 1000;
/// The longest that a first contact keeps its slot, and what taking on takes.
const SOON: Duration = Duration::from_millis(1010);

/// A town with that many receivers that never answer, of which each has something due.
fn beside_dead(count: i64) -> Simulation {
    let mut town = Simulation::of(limits(64))
        .with(1..count + 1, ReceiverModel::Never)
        .with(FRESH..FRESH + 1, ReceiverModel::AnswersIn(20 * MILLI));
    (1..=count).for_each(|receiver| town.put(receiver, false, 5));
    town
}

/// How long the next delivery to a receiver waits.
fn wait(town: &mut Simulation, receiver: i64) -> Duration {
    let before = town.went_out(receiver);
    town.put(receiver, false, 1);
    let since = town.now;
    while town.went_out(receiver) == before {
        town.pass();
        assert!(town.now.since(since) < Duration::from_mins(5), "it never goes out");
    }
    town.now.since(since)
}

#[test]
fn a_receiver_never_heard_of_does_not_wait_for_three_hundred_that_do_not_answer() {
    for after in [10, 1500, 4000] {
        let mut town = beside_dead(300);
        (0..after).for_each(|_| town.pass());
        let waited = wait(&mut town, FRESH);
        println!("after {after} ms: {waited:?}");
        assert!(waited <= SOON, "{waited:?} after {after} ms");
    }
}

#[test]
fn the_one_that_has_waited_longest_has_its_turn_however_many_newer_ones_come() {
    let mut town = beside_dead(20);
    town = town.with(2000..4000, ReceiverModel::Never);
    town.put(FRESH, false, 1);
    for milli in 0..9_000 {
        if milli % 10 == 0 {
            town.put(2000 + milli / 10, false, 1);
        }
        town.pass();
    }
    // The dead ones before it had half of the turns.
    assert_eq!(town.went_out(FRESH), 1);
}

#[test]
fn one_principals_dead_receivers_do_not_shut_out_another_principals_first() {
    let mut town = beside_dead(300);
    town.owners.insert(ReceiverKey(FRESH), Principal::named("victim"));
    town = town.with(2000..4000, ReceiverModel::Never);
    for milli in 0..6_000 {
        // A hundred new ones a second.
        if milli % 10 == 0 {
            town.put(2000 + milli / 10, false, 1);
        }
        if milli == 5_000 {
            town.put(FRESH, false, 1);
        }
        if milli == 5_001 {
            // Newer than the victim's.
            (3000..3500).for_each(|receiver| town.put(receiver, false, 1));
        }
        town.pass();
    }
    assert_eq!(town.went_out(FRESH), 1);
    assert!(town.waited[&ReceiverKey(FRESH)][0] <= SOON);
}

#[test]
fn one_that_was_quick_and_then_quiet_or_timed_out_once_waits_no_longer() {
    let mut town = beside_dead(100);
    (0..2000).for_each(|_| town.pass());
    assert!(wait(&mut town, FRESH) <= SOON);
    (0..1000).for_each(|_| town.pass());
    assert!(wait(&mut town, FRESH) <= MILLI, "it is known to be quick");
    (0..1000).for_each(|_| town.pass());
    // One attempt runs out of time.
    town.behaves.insert(ReceiverKey(FRESH), ReceiverModel::Never);
    assert!(wait(&mut town, FRESH) <= MILLI);
    (0..16_000).for_each(|_| town.pass());
    town.behaves.insert(ReceiverKey(FRESH), ReceiverModel::AnswersIn(20 * MILLI));
    assert!(wait(&mut town, FRESH) <= SOON, "it had one hiccup");
    (0..1000).for_each(|_| town.pass());
    town.now = town.now + REMEMBERED + Duration::from_secs(1);
    town.traffic.sweep(town.now);
    assert!(wait(&mut town, FRESH) <= SOON, "it was quiet");
}

#[test]
fn one_that_breaks_off_gets_one_at_a_time_until_it_answers() {
    let mut town = Simulation::of(limits(64)).with(1..2, ReceiverModel::AnswersIn(20 * MILLI));
    town.put(1, false, 1);
    (0..100).for_each(|_| town.pass());
    for round in 1..=5 {
        town.put(1, false, 4);
        town.step();
        let together = town.under_way.len();
        assert_eq!(together, if round == 1 { 4 } else { 1 }, "round {round}");
        let under_way: Vec<_> = std::mem::take(&mut town.under_way).into_values().collect();
        for (leave, _) in under_way {
            let came = AttemptReport { sign: Some(HealthSignal::Fails), took: MILLI };
            town.traffic.ended(leave, came, town.now, &mut town.rng);
            town.traffic.settled(ReceiverKey(1));
        }
    }
    (0..500).for_each(|_| town.pass());
    town.put(1, false, 4);
    town.step();
    assert_eq!(town.under_way.len(), 4, "it has answered");
}

#[test]
fn one_that_answers_slowly_is_not_among_those_that_do_not_answer() {
    let mut town = beside_dead(100).with(2000..2001, ReceiverModel::AnswersIn(2000 * MILLI));
    (0..2000).for_each(|_| town.pass());
    assert!(wait(&mut town, 2000) <= SOON);
    (0..3000).for_each(|_| town.pass());
    (0..4).for_each(|_| {
        assert!(wait(&mut town, 2000) <= MILLI, "it is known to be slow");
        (0..2500).for_each(|_| town.pass());
    });
}

#[test]
fn the_first_of_a_dead_ones_attempts_takes_a_slot_for_a_second_and_goes_on_without() {
    let mut town = Simulation::of(limits(8)).with(1..2, ReceiverModel::Never);
    town.put(1, false, 1);
    town.step();
    assert_eq!((town.traffic.sending(), town.traffic.aside()), (1, 0));
    (0..1001).for_each(|_| town.pass());
    town.put(2, false, 1);
    town = town.with(2..3, ReceiverModel::Never);
    town.pass();
    assert_eq!((town.traffic.sending(), town.traffic.aside()), (1, 1));
    (0..2 * TIMEOUT.as_millis()).for_each(|_| town.pass());
    assert_eq!((town.traffic.sending(), town.traffic.aside(), town.traffic.held()), (0, 0, 0));
}

#[test]
fn no_more_wait_aside_than_may_and_sixty_dead_ones_are_all_contacted() {
    let mut town = Simulation::of(limits(16)).with(1..61, ReceiverModel::Never);
    (1..=60).for_each(|receiver| town.put(receiver, false, 1));
    for _ in 0..40_000 {
        town.pass();
        assert!(town.traffic.aside() <= 32);
    }
    assert!((1..=60).all(|receiver| town.went_out(receiver) > 0));
}
