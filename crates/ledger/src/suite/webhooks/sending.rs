//! Deliveries on their way: leases, failures, holds and ends.

use super::*;

async fn what_failed_is_due_again_and_whoever_was_overtaken_changes_nothing(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let whole = subscribed(&ledger, subscription(1, settings([Topic::Succeeded]))).await;
    done(&ledger, operation(1, START)).await;
    let first = claimed(&ledger, START).await;
    settled(&ledger, &first, FAILED, START).await;
    let again = DeliveryLane { receiver: whole.receiver, again: true };
    let due = ledger.next_delivery(START).unwrap();
    assert!(due > START + SECOND * 3 && due < START + SECOND * 7);
    assert_eq!(ledger.due_deliveries(due), [again]);
    let second = claimed(&ledger, due).await;
    assert_eq!((second[0].attempts, &second[0].message), (2, &first[0].message));
    assert_eq!(second[0].body, first[0].body);
    let late = ledger.settle_deliveries(vec![end_of(&first[0], SendResult::Taken, due)]).await;
    assert_eq!(late.unwrap(), [DeliverySettled::Stale]);
    let back = DeliverySettlement::Returned { lease: second[0].lease, due_at: due };
    assert_eq!(ledger.settle_deliveries(vec![back]).await.unwrap(), [DeliverySettled::Done]);
    let third = claimed(&ledger, due).await;
    assert_eq!(third[0].attempts, 2, "what was not sent does not count");
    settled(&ledger, &third, SendResult::Taken, due).await;
    assert_eq!(shown(&ledger, &whole).await[0].log.len(), 2);
    close(ledger, tasks).await;
}

async fn what_waits_for_another_attempt_has_it_at_once_when_that_is_asked_for(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let whole = subscribed(&ledger, subscription(1, settings([Topic::Succeeded]))).await;
    for number in 1..=3 {
        done(&ledger, operation(number, START)).await;
    }
    let first = claimed(&ledger, START).await;
    settled(&ledger, &first, FAILED, START).await;
    let soon = START + SECOND;
    assert!(ledger.next_delivery(START).unwrap() > soon, "later than it is asked for");
    let key = first[0].lease.delivery;
    let asked = ledger.redeliver(whole.receiver, key, soon).await.unwrap();
    assert_eq!(asked, RedeliveryOutcome::As(key), "the same delivery");
    assert_eq!(
        ledger.due_deliveries(soon),
        [DeliveryLane { receiver: whole.receiver, again: true }]
    );
    let out = claimed(&ledger, soon).await;
    assert_eq!((out.len(), out[0].lease.delivery, out[0].attempts), (1, key, 2));
    let step = ReplayStep {
        receiver: whole.receiver,
        select: DeliverySelection::Pending,
        since: START,
        until: START + HOUR,
        after: None,
        limit: 9,
        at: soon,
    };
    assert_eq!(ledger.replay(step).await.unwrap().count, 2, "one of the three is being sent");
    // The step whose end no caller heard of.
    assert_eq!(ledger.replay(step).await.unwrap().count, 0);
    let rest = claimed(&ledger, soon).await;
    assert_eq!(rest.iter().map(|leased| leased.attempts).collect::<Vec<_>>(), [2, 2]);
    assert_eq!(shown(&ledger, &whole).await.len(), 3, "no delivery was made for it");
    settled(&ledger, &rest, FAILED, soon).await;
    let later = START + SECOND * 2;
    let all = ReplayStep { select: DeliverySelection::All, at: later, ..step };
    assert_eq!(ledger.replay(all).await.unwrap().count, 2);
    close(ledger, tasks).await;
}

async fn what_comes_for_a_disabled_subscription_is_held_and_can_be_replayed(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let own = [Topic::Succeeded, Topic::Disabled, Topic::Recovered];
    let whole = subscribed(&ledger, subscription(1, settings(own))).await;
    let other = subscribed(&ledger, subscription(2, settings([Topic::Disabled]))).await;
    done(&ledger, operation(1, START)).await;
    let out = claimed(&ledger, START).await;
    settled(&ledger, &out, SendResult::Gone, START).await;
    let found = ledger.subscription(None, whole.id).await.unwrap().unwrap();
    let gone = SubscriptionState::Disabled { at: START, why: DisabledFor::Gone };
    assert_eq!(found.state, gone);
    assert_eq!(topics_of(&ledger, &other).await, [Topic::Disabled]);
    done(&ledger, operation(2, START)).await;
    let states: Vec<_> = shown(&ledger, &whole).await.iter().map(|shown| shown.state).collect();
    let held = DeliveryState::Held { since: START };
    let ended = DeliveryState::Ended { how: DeliveryEnd::Gone, at: START };
    assert_eq!(states, [held, held, ended]);
    let enable = SubscriptionUpdate {
        id: whole.id,
        principal: None,
        unless_since: None,
        change: SubscriptionChange::Enable,
        at: START,
    };
    assert!(matches!(ledger.change_subscription(enable).await.unwrap(), UpdateOutcome::Done(_)));
    let lanes = ledger.due_deliveries(START);
    assert!(lanes.iter().all(|lane| lane.receiver == other.receiver), "held until it is asked for");
    let step = ReplayStep {
        receiver: whole.receiver,
        select: DeliverySelection::All,
        since: START,
        until: START + HOUR,
        after: None,
        limit: 2,
        at: START + SECOND,
    };
    let first = ledger.replay(step).await.unwrap();
    assert_eq!(first.count, 2);
    let second = ledger.replay(ReplayStep { after: first.after, ..step }).await.unwrap();
    assert_eq!((second.count, second.after.is_some()), (1, true));
    // The step whose end no caller heard of.
    assert_eq!(ledger.replay(step).await.unwrap().count, 0);
    let again: Vec<_> = claimed(&ledger, START + SECOND).await;
    let again: Vec<_> =
        again.into_iter().filter(|leased| leased.receiver == whole.receiver).collect();
    assert_eq!(again.len(), 3);
    assert!(
        again.iter().any(|leased| leased.message == out[0].message && leased.body == out[0].body)
    );
    settled(&ledger, &again, SendResult::Taken, START + SECOND).await;
    assert!(topics_of(&ledger, &whole).await.contains(&Topic::Recovered));
    close(ledger, tasks).await;
}

async fn a_receiver_that_only_fails_for_days_is_disabled(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let all = [Topic::Succeeded, Topic::Exhausted, Topic::Disabled];
    let whole = subscribed(&ledger, subscription(1, settings([Topic::Succeeded]))).await;
    let watching = NewSubscription {
        settings: SubscriptionSettings { routes: vec!["none".to_owned()], ..settings(all) },
        ..subscription(2, settings([]))
    };
    let watching = subscribed(&ledger, watching).await;
    done(&ledger, operation(1, START)).await;
    let out = claimed(&ledger, START).await;
    settled(&ledger, &out, FAILED, START).await;
    let found = ledger.subscription(None, whole.id).await.unwrap().unwrap();
    assert_eq!(found.failing_since, Some(START));
    let late = START + HOPELESS;
    let out = claimed(&ledger, late).await;
    let DeliverySettlement::Attempted(failed) = end_of(&out[0], FAILED, late) else {
        panic!("it was attempted");
    };
    let exhausted = DeliverySettlement::Attempted(AttemptSettlement {
        record: AttemptRecord {
            number: 2,
            at: late,
            took: SECOND,
            status: None,
            code: Some("timeout".to_owned()),
            next_at: None,
        },
        decision: DeliveryDecision::Over(ScheduleEnd::Exhausted),
        ..failed
    });
    ledger.settle_deliveries(vec![exhausted]).await.unwrap();
    let found = ledger.subscription(None, whole.id).await.unwrap().unwrap();
    let failing = SubscriptionState::Disabled { at: late, why: DisabledFor::Failing };
    assert_eq!(found.state, failing);
    assert_eq!(topics_of(&ledger, &watching).await, [Topic::Exhausted, Topic::Disabled]);
    // What is about webhooks gives rise to nothing, however it ends.
    let about: Vec<_> = claimed(&ledger, late).await;
    settled(&ledger, &about, SendResult::Gone, late).await;
    let found = ledger.subscription(None, watching.id).await.unwrap().unwrap();
    let gone = SubscriptionState::Disabled { at: late, why: DisabledFor::Gone };
    assert_eq!((found.state, shown(&ledger, &watching).await.len()), (gone, 2));
    close(ledger, tasks).await;
}

async fn what_is_due_for_a_receiver_that_takes_nothing_is_put_aside(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let whole = subscribed(&ledger, subscription(1, settings([Topic::Succeeded]))).await;
    for number in 1..=3 {
        done(&ledger, operation(number, START)).await;
    }
    let changing = |change| SubscriptionUpdate {
        id: whole.id,
        principal: Some(Principal::everyone()),
        unless_since: None,
        change,
        at: START,
    };
    assert_eq!(ledger.hold_deliveries(whole.receiver, 2, START).await.unwrap(), 0);
    ledger
        .change_subscription(changing(SubscriptionChange::Disable(DisabledFor::Asked)))
        .await
        .unwrap();
    assert!(claimed(&ledger, START).await.is_empty());
    assert_eq!(ledger.hold_deliveries(whole.receiver, 2, START).await.unwrap(), 2);
    ledger.change_subscription(changing(SubscriptionChange::Delete)).await.unwrap();
    assert_eq!(ledger.hold_deliveries(whole.receiver, 2, START).await.unwrap(), 1);
    assert!(ledger.subscription(None, whole.id).await.unwrap().is_none());
    // Nor is anything held for a receiver that is gone.
    let pruned = ledger.prune_deliveries(1, START, START, START).await.unwrap();
    assert_eq!(pruned.dropped, 1);
    let pruned = ledger.prune_deliveries(9, START, START, START).await.unwrap();
    assert_eq!(pruned.dropped, 1);
    let strange = ledger.change_subscription(changing(SubscriptionChange::Enable)).await.unwrap();
    assert!(matches!(strange, UpdateOutcome::Unknown));
    close(ledger, tasks).await;
}

async fn what_waits_is_counted_no_further_than_wanted(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let made = subscribed(&ledger, subscription(1, settings([Topic::Succeeded]))).await;
    let count = async |most| ledger.count_deliveries(most, START).await.unwrap();
    assert_eq!(count(9).await, DeliveryCounts::default());
    for second in [0, 0, 0, 60, 60] {
        ledger.ping(made.id, START + SECOND * second).await.unwrap();
    }
    assert_eq!(count(9).await, DeliveryCounts { due: 3, later: 2, held: 0 });
    let some = count(4).await;
    assert_eq!(some.due + some.later, 4, "{some:?}");
    let (id, change) = (made.id, SubscriptionChange::Disable(DisabledFor::Asked));
    let off = SubscriptionUpdate { id, principal: None, unless_since: None, change, at: START };
    ledger.change_subscription(off).await.unwrap();
    assert_eq!(ledger.hold_deliveries(made.receiver, 3, START).await.unwrap(), 3);
    assert_eq!(count(9).await, DeliveryCounts { due: 0, later: 2, held: 3 });
    assert_eq!(count(2).await.held, 2);
    assert_eq!(ledger.owners().holding(), 1);
    close(ledger, tasks).await;
}

async fn the_number_of_a_delivery_that_is_gone_stays_its_own(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let whole = subscribed(&ledger, subscription(1, settings([Topic::Succeeded]))).await;
    let told = async |ledger: &Ledger, number| {
        done(ledger, operation(number, START)).await;
        settled(ledger, &claimed(ledger, START).await, SendResult::Taken, START).await;
        shown(ledger, &whole).await[0].key
    };
    let forget = async |ledger: &Ledger| {
        let later = START + DAY;
        let pruned = ledger.prune_deliveries(9, START, later, later).await.unwrap();
        assert_eq!(pruned.deliveries, 1);
    };
    let first = told(&ledger, 1).await;
    forget(&ledger).await;
    let second = told(&ledger, 2).await;
    forget(&ledger).await;
    close(ledger, tasks).await;
    let (ledger, tasks) = opened(&place).await;
    let third = told(&ledger, 3).await;
    assert!(first < second && second < third, "{first:?}, {second:?}, {third:?}");
    close(ledger, tasks).await;
}

async fn a_delivery_keeps_the_form_that_it_was_made_in(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let whole = subscribed(&ledger, subscription(1, settings([Topic::Succeeded]))).await;
    done(&ledger, operation(1, START)).await;
    let first = claimed(&ledger, START).await;
    assert_eq!(first[0].format, Format::Standard);
    settled(&ledger, &first, FAILED, START).await;
    let other = SubscriptionSettings { format: Format::CloudEvents, ..whole.settings.clone() };
    let changing = SubscriptionUpdate {
        id: whole.id,
        principal: None,
        unless_since: None,
        change: SubscriptionChange::Settings(Box::new(other)),
        at: START,
    };
    ledger.change_subscription(changing).await.unwrap();
    let later = START + DAY;
    let second = claimed(&ledger, later).await;
    assert_eq!((second[0].attempts, second[0].format), (2, Format::Standard));
    settled(&ledger, &second, SendResult::Taken, later).await;
    let key = second[0].lease.delivery;
    let once_more = ledger.redeliver(whole.receiver, key, later).await.unwrap();
    assert!(matches!(once_more, RedeliveryOutcome::As(_)));
    let again = claimed(&ledger, later).await;
    assert_eq!((&again[0].message, again[0].format), (&first[0].message, Format::Standard));
    done(&ledger, operation(2, later)).await;
    ledger.ping(whole.id, later).await.unwrap();
    let next: Vec<_> = claimed(&ledger, later).await.iter().map(|next| next.format).collect();
    assert_eq!(next, [Format::CloudEvents; 2]);
    close(ledger, tasks).await;
}

async fn what_is_held_too_long_is_dropped_and_what_is_late_is_given_up(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let whole = subscribed(&ledger, subscription(1, settings([Topic::Succeeded]))).await;
    let watching = subscribed(&ledger, subscription(2, settings([Topic::Exhausted]))).await;
    let id = done(&ledger, operation(1, START)).await;
    let lane = DeliveryLane { receiver: whole.receiver, again: false };
    let nothing: [&str; 0] = [];
    assert_eq!(ledger.expire_deliveries(lane, 9, START + DAY).await.unwrap(), nothing);
    let late = ledger.expire_deliveries(lane, 9, START + DEADLINE).await.unwrap();
    assert_eq!(late, [format!("msg_{id}_3")]);
    assert_eq!(topics_of(&ledger, &watching).await, [Topic::Exhausted]);
    let failing = ledger.subscription(None, whole.id).await.unwrap().unwrap().failing_since;
    assert_eq!(failing, Some(START + DEADLINE));
    let disable = SubscriptionUpdate {
        id: whole.id,
        principal: None,
        unless_since: None,
        change: SubscriptionChange::Disable(DisabledFor::Asked),
        at: START,
    };
    ledger.change_subscription(disable).await.unwrap();
    done(&ledger, operation(2, START)).await;
    let pruned = ledger.prune_deliveries(9, START + SECOND, START, START + 31 * DAY).await.unwrap();
    assert_eq!((pruned.dropped, pruned.deliveries), (1, 0));
    let ends: Vec<_> = shown(&ledger, &whole).await.iter().map(|shown| shown.state).collect();
    let ended = |how, at| DeliveryState::Ended { how, at };
    let dropped = ended(DeliveryEnd::Dropped, START + 31 * DAY);
    assert_eq!(ends, [dropped, ended(DeliveryEnd::Exhausted, START + DEADLINE)]);
    close(ledger, tasks).await;
}

async fn what_a_gateway_was_sending_when_it_ended_is_sent_by_the_next(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let whole = subscribed(&ledger, subscription(1, settings([Topic::Succeeded]))).await;
    done(&ledger, operation(1, START)).await;
    let cut_off = claimed(&ledger, START).await;
    assert_eq!(ledger.sent_here().await.unwrap(), [cut_off[0].lease]);
    assert_eq!(ledger.reclaim_deliveries(9, START).await.unwrap(), 0);
    ledger.leave(Vec::new(), START).await.unwrap();
    close(ledger, tasks).await;
    let (ledger, tasks) = opened(&place).await;
    assert_eq!(ledger.reclaim_deliveries(9, START + SECOND).await.unwrap(), 1);
    let out = claimed(&ledger, START + SECOND).await;
    assert_eq!((&out[0].message, &out[0].body), (&cut_off[0].message, &cut_off[0].body));
    assert_eq!((out[0].attempts, out[0].refusals), (2, 1), "what was cut off does not count");
    let late = ledger.settle_deliveries(vec![end_of(&cut_off[0], SendResult::Taken, START)]).await;
    assert_eq!(late.unwrap(), [DeliverySettled::Stale]);
    settled(&ledger, &out, SendResult::Taken, START + SECOND).await;
    assert_eq!(shown(&ledger, &whole).await[0].log.len(), 1);
    done(&ledger, operation(2, START)).await;
    close(ledger, tasks).await;
    // What is due is known from the start.
    let (ledger, tasks) = opened(&place).await;
    assert_eq!(claimed(&ledger, START).await.len(), 1);
    close(ledger, tasks).await;
}

/// What damages the first delivery that is due.
const DAMAGES: [&str; 7] = [
    "UPDATE deliveries_due SET attempts = 4294967295 WHERE delivery = (SELECT min(delivery) FROM deliveries_due)",
    "UPDATE deliveries_due SET attempts = 9223372036854775807 WHERE delivery = (SELECT min(delivery) FROM deliveries_due)",
    "UPDATE deliveries_due SET attempts = 9223372036854775807, refusals = 9223372036854775807 \
     WHERE delivery = (SELECT min(delivery) FROM deliveries_due)",
    "UPDATE messages SET event = 'nonsense' WHERE message = (SELECT min(message) FROM deliveries d \
     JOIN deliveries_due u ON u.delivery = d.delivery)",
    "UPDATE messages SET packing = 1, body = substr(body, 1, 3) WHERE message = (SELECT min(message) FROM deliveries d \
     JOIN deliveries_due u ON u.delivery = d.delivery)",
    "DELETE FROM messages WHERE message = (SELECT min(message) FROM deliveries d \
     JOIN deliveries_due u ON u.delivery = d.delivery)",
    "DELETE FROM deliveries WHERE delivery = (SELECT min(delivery) FROM deliveries_due)",
];

async fn a_damaged_delivery_is_dropped_and_holds_up_no_other(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let whole = subscribed(&ledger, subscription(1, settings([Topic::Succeeded]))).await;
    for (number, damage) in (0..).step_by(2).zip(DAMAGES) {
        done(&ledger, operation(number, START)).await;
        let good = done(&ledger, operation(number + 1, START)).await;
        sql(&place, damage).await;
        let out = claimed(&ledger, START).await;
        assert_eq!(out.len(), 1, "{damage}");
        assert!(
            out[0].body.windows(36).any(|part| part == good.to_string().as_bytes()),
            "{damage}"
        );
        settled(&ledger, &out, SendResult::Taken, START).await;
        assert_eq!(ledger.next_delivery(START), None, "{damage}");
        assert!(ledger.sent_here().await.unwrap().is_empty(), "{damage}");
    }
    let dropped = DeliveryState::Ended { how: DeliveryEnd::Dropped, at: START };
    let states: Vec<_> = shown(&ledger, &whole).await.iter().map(|it| it.state).collect();
    // Of the last two there is nothing left to show; the one whose event is nonsense is not shown.
    assert_eq!(states.iter().filter(|state| **state == dropped).count(), 4, "{states:?}");
    close(ledger, tasks).await;
}

async fn a_delivery_whose_token_has_no_next_one_is_sent_all_the_same(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    subscribed(&ledger, subscription(1, settings([Topic::Succeeded]))).await;
    done(&ledger, operation(1, START)).await;
    sql(&place, "UPDATE deliveries_due SET token = 9223372036854775807").await;
    let out = claimed(&ledger, START).await;
    assert_eq!(out.len(), 1);
    settled(&ledger, &out, SendResult::Taken, START).await;
    assert!(ledger.sent_here().await.unwrap().is_empty());
    assert_eq!(ledger.next_delivery(START), None);
    close(ledger, tasks).await;
}

async fn a_delivery_of_a_later_release_is_left_to_a_node_that_can_read_it(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    subscribed(&ledger, subscription(1, settings([Topic::Succeeded]))).await;
    done(&ledger, operation(1, START)).await;
    sql(&place, "UPDATE messages SET packing = coalesce(packing, 0) + 1000").await;
    assert!(claimed(&ledger, START).await.is_empty());
    let due_at = ledger.next_delivery(START).unwrap();
    assert!(due_at > START && due_at <= START + HOUR, "{due_at}");
    sql(&place, "UPDATE messages SET packing = nullif(packing - 1000, 0)").await;
    let out = claimed(&ledger, due_at).await;
    assert_eq!((out.len(), out[0].attempts), (1, 1), "what was not sent does not count");
    close(ledger, tasks).await;
}

async fn a_late_delivery_whose_message_is_gone_is_given_up(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let whole = subscribed(&ledger, subscription(1, settings([Topic::Succeeded]))).await;
    for number in [1, 2] {
        done(&ledger, operation(number, START)).await;
    }
    sql(&place, "DELETE FROM messages WHERE message = (SELECT min(message) FROM messages)").await;
    let lane = DeliveryLane { receiver: whole.receiver, again: false };
    let given_up = ledger.expire_deliveries(lane, 9, START + 24 * 30 * HOUR).await.unwrap();
    assert_eq!(given_up.len(), 2);
    close(ledger, tasks).await;
}

macro_rules! on {
    ($engine:ident) => {
        suite_of!($engine:
            what_failed_is_due_again_and_whoever_was_overtaken_changes_nothing,
            what_waits_for_another_attempt_has_it_at_once_when_that_is_asked_for,
            what_comes_for_a_disabled_subscription_is_held_and_can_be_replayed,
            a_receiver_that_only_fails_for_days_is_disabled,
            what_is_due_for_a_receiver_that_takes_nothing_is_put_aside,
            what_waits_is_counted_no_further_than_wanted,
            the_number_of_a_delivery_that_is_gone_stays_its_own,
            a_delivery_keeps_the_form_that_it_was_made_in,
            what_is_held_too_long_is_dropped_and_what_is_late_is_given_up,
            what_a_gateway_was_sending_when_it_ended_is_sent_by_the_next,
            a_damaged_delivery_is_dropped_and_holds_up_no_other,
            a_delivery_whose_token_has_no_next_one_is_sent_all_the_same,
            a_delivery_of_a_later_release_is_left_to_a_node_that_can_read_it,
            a_late_delivery_whose_message_is_gone_is_given_up,
        );
    };
}

on!(sqlite);
on!(postgres);
