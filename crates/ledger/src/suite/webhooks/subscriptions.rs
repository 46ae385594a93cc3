//! Subscriptions as they are changed, and the keys that sign for them.

use super::*;

/// Adds keys of that owner, of which three may sign; the others are left so long.
async fn rotated(
    ledger: &Ledger,
    owner: &KeyOwner,
    keys: Vec<NewKey>,
    (beside, grace): (bool, Duration),
    at: Timestamp,
) -> RotationOutcome {
    let rotation = KeyRotation { owner: owner.clone(), keys, beside, grace, most: 3, at };
    ledger.rotate_keys(rotation).await.unwrap()
}

/// What that owner's messages are signed with, and until when; the newest first.
async fn signing(ledger: &Ledger, owner: &KeyOwner) -> Vec<(String, Option<Timestamp>)> {
    let keys = ledger.signing_keys(owner).await.unwrap();
    let text = |key: &StoredKey| String::from_utf8(key.sealed.to_vec()).unwrap();
    keys.iter().map(|key| (text(key), key.retires_at)).collect()
}

async fn keys_are_rotated_with_a_grace_and_only_so_many_sign(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let whole = subscribed(&ledger, subscription(1, settings([Topic::Succeeded]))).await;
    let owner = KeyOwner::Receiver(whole.receiver);
    let rotate =
        |secret, grace, at| rotated(&ledger, &owner, vec![key(secret)], (false, grace), at);
    assert_eq!(rotate("second", DAY, START).await, RotationOutcome::Done);
    assert_eq!(rotate("third", DAY, START + HOUR).await, RotationOutcome::Done);
    let before = signing(&ledger, &owner).await;
    let retires = [None, Some(START + HOUR + DAY), Some(START + DAY)];
    let secrets = ["third", "second", "first"].map(String::from);
    assert_eq!(before, secrets.into_iter().zip(retires).collect::<Vec<_>>());
    assert_eq!(rotate("fourth", HOUR, START + HOUR).await, RotationOutcome::TooMany);
    assert_eq!(signing(&ledger, &owner).await, before, "as it was");
    assert_eq!(rotate("fourth", DAY, START + DAY).await, RotationOutcome::Done);
    assert_eq!(signing(&ledger, &owner).await.len(), 3);
    let receiver = ledger.receiver(whole.receiver).await.unwrap().unwrap();
    assert_eq!(receiver.keys.len(), 3);
    close(ledger, tasks).await;
}

async fn whatever_changes_a_receiver_is_known_when_it_is_answered(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let whole = subscribed(&ledger, subscription(1, settings([Topic::Succeeded]))).await;
    let (receiver, changed) = (whole.receiver, whole.changed);
    assert!(!ledger.receiver_has_changed(receiver, changed));
    assert!(ledger.receiver_has_changed(receiver, changed - 1));
    // This one is behind all that is known here.
    assert!(!ledger.receiver_has_changed(ReceiverKey(receiver.0 + 1), changed + 1));
    let owner = KeyOwner::Receiver(receiver);
    rotated(&ledger, &owner, vec![key("second")], (false, Duration::ZERO), START).await;
    assert!(ledger.receiver_has_changed(receiver, changed));
    let stands = ledger.receiver(receiver).await.unwrap().unwrap().changed;
    assert!(!ledger.receiver_has_changed(receiver, stands));
    let change = SubscriptionChange::Delete;
    let gone =
        SubscriptionUpdate { id: whole.id, principal: None, unless_since: None, change, at: START };
    ledger.change_subscription(gone).await.unwrap();
    assert!(ledger.receiver_has_changed(receiver, stands));
    close(ledger, tasks).await;
}

#[tokio::test]
async fn a_key_that_is_cut_on_one_node_is_known_on_another_that_writes_nothing() {
    let place = Place::postgres();
    let [(one, tasks), (other, more_tasks)] = two(&place).await;
    let whole = subscribed(&one, subscription(1, settings([Topic::Succeeded]))).await;
    let owner = KeyOwner::Receiver(whole.receiver);
    rotated(&one, &owner, vec![key("second")], (false, Duration::ZERO), START).await;
    let clock = Clock::system();
    for _ in 0..2000 {
        if other.receiver_has_changed(whole.receiver, whole.changed) {
            break;
        }
        clock.sleep(Duration::from_millis(5)).await;
    }
    assert!(other.receiver_has_changed(whole.receiver, whole.changed));
    close(one, tasks).await;
    close(other, more_tasks).await;
}

async fn a_grace_shortens_what_signs_and_lengthens_nothing(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let whole = subscribed(&ledger, subscription(1, settings([Topic::Succeeded]))).await;
    let owner = KeyOwner::Receiver(whole.receiver);
    let rotate = |secret, grace| rotated(&ledger, &owner, vec![key(secret)], (false, grace), START);
    rotate("second", DAY).await;
    rotate("third", HOUR).await;
    let soon = Some(START + HOUR);
    let secrets = ["third", "second", "first"].map(String::from);
    let expected: Vec<_> = secrets.into_iter().zip([None, soon, soon]).collect();
    assert_eq!(signing(&ledger, &owner).await, expected);
    // As many sign as may: none of them does any more, and so one more may.
    assert_eq!(rotate("fourth", Duration::ZERO).await, RotationOutcome::Done);
    assert_eq!(signing(&ledger, &owner).await, [("fourth".to_owned(), None)]);
    rotate("fifth", HOUR).await;
    rotate("sixth", DAY).await;
    let ends: Vec<_> = signing(&ledger, &owner).await.into_iter().map(|(_, end)| end).collect();
    assert_eq!(ends, [None, Some(START + DAY), soon]);
    close(ledger, tasks).await;
}

async fn another_kind_takes_the_place_of_the_first_or_signs_beside_it(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let pair = |secret| NewKey { kind: KeyKind::V1a, ..key(secret) };
    let mut owners = Vec::new();
    for (number, beside) in [(1, false), (2, true)] {
        let new = subscription(number, settings([Topic::Succeeded]));
        let owner = KeyOwner::Receiver(subscribed(&ledger, new).await.receiver);
        rotated(&ledger, &owner, vec![pair("pair")], (beside, HOUR), START).await;
        let end = (!beside).then_some(START + HOUR);
        let signs = [("pair".to_owned(), None), ("first".to_owned(), end)];
        assert_eq!(signing(&ledger, &owner).await, signs);
        owners.push(owner);
    }
    // Both kinds are made anew at once.
    let both = vec![key("next"), pair("next pair")];
    rotated(&ledger, &owners[1], both, (false, Duration::ZERO), START).await;
    let signs = [("next pair".to_owned(), None), ("next".to_owned(), None)];
    assert_eq!(signing(&ledger, &owners[1]).await, signs);
    close(ledger, tasks).await;
}

async fn a_principal_has_no_more_subscriptions_than_it_may(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let new =
        |number| NewSubscription { most: 2, ..subscription(number, settings([Topic::Failed])) };
    let first = subscribed(&ledger, new(1)).await;
    subscribed(&ledger, new(2)).await;
    assert!(matches!(ledger.subscribe(new(3)).await.unwrap(), SubscribeOutcome::TooMany));
    let eve = NewSubscription { principal: Principal::named("eve"), ..new(4) };
    subscribed(&ledger, eve).await;
    let delete = SubscriptionUpdate {
        id: first.id,
        principal: Some(Principal::named("eve")),
        unless_since: None,
        change: SubscriptionChange::Delete,
        at: START,
    };
    let strange = ledger.change_subscription(delete.clone()).await.unwrap();
    assert!(matches!(strange, UpdateOutcome::Unknown));
    let own = SubscriptionUpdate { principal: None, unless_since: Some(first.edited), ..delete };
    ledger.change_subscription(own).await.unwrap();
    let third = subscribed(&ledger, new(3)).await;
    let everyone = SubscriptionListing {
        principal: Some(Principal::everyone()),
        limit: 9,
        ..SubscriptionListing::default()
    };
    assert_eq!(ledger.subscriptions(&everyone).await.unwrap().len(), 2);
    let settings = SubscriptionChange::Settings(Box::new(settings([Topic::Canceled])));
    let changing = SubscriptionUpdate {
        id: third.id,
        principal: None,
        unless_since: Some(third.edited),
        change: settings,
        at: START + SECOND,
    };
    let UpdateOutcome::Done(now) = ledger.change_subscription(changing.clone()).await.unwrap()
    else {
        panic!("it was not changed")
    };
    assert_eq!(now.settings.topics, [Topic::Canceled].into_iter().collect());
    let meanwhile = ledger.change_subscription(changing).await.unwrap();
    assert!(matches!(meanwhile, UpdateOutcome::Meanwhile));
    close(ledger, tasks).await;
}

async fn what_a_receiver_allows_is_kept_with_where_it_is_sent_to(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let made = subscribed(&ledger, subscription(1, settings([Topic::Succeeded]))).await;
    let allows = |per_minute| Permission { per_minute };
    let effects = |per_minute| {
        SubscriptionChange::Moved(Box::new(settings([Topic::Succeeded])), allows(per_minute))
    };
    for (change, rate) in [
        (SubscriptionChange::Agreed(allows(Some(60))), Some(60)),
        (SubscriptionChange::Settings(Box::new(settings([Topic::Failed]))), Some(60)),
        (SubscriptionChange::Disable(DisabledFor::Asked), Some(60)),
        (SubscriptionChange::Enable, Some(60)),
        (effects(Some(u32::MAX)), Some(u32::MAX)),
        (effects(None), None),
    ] {
        let said = format!("{change:?}");
        let before = shown_of(&made, &ledger).await.edited;
        let (id, principal, at) = (made.id, None, START);
        let changing = SubscriptionUpdate { id, principal, unless_since: Some(before), change, at };
        let UpdateOutcome::Done(now) = ledger.change_subscription(changing).await.unwrap() else {
            panic!("{said} was not done")
        };
        let shown = shown_of(&made, &ledger).await;
        assert_eq!((shown.allowed_rate, shown.edited), (rate, now.edited), "{said}");
        assert_eq!(now.allowed_rate, rate, "{said}");
        assert!(shown.edited > before, "{said}");
        let known = ledger.owners().allowed_rate(made.receiver).map(|rate| rate.to_string());
        assert_eq!(known, rate.map(|rate| format!("{rate}/m")), "{said}");
    }
    close(ledger, tasks).await;
}

async fn shown_of(subscription: &Subscription, ledger: &Ledger) -> Subscription {
    ledger.subscription(None, subscription.id).await.unwrap().unwrap()
}

macro_rules! on {
    ($engine:ident) => {
        suite_of!($engine:
            keys_are_rotated_with_a_grace_and_only_so_many_sign,
            whatever_changes_a_receiver_is_known_when_it_is_answered,
            a_grace_shortens_what_signs_and_lengthens_nothing,
            another_kind_takes_the_place_of_the_first_or_signs_beside_it,
            a_principal_has_no_more_subscriptions_than_it_may,
            what_a_receiver_allows_is_kept_with_where_it_is_sent_to,
        );
    };
}

on!(sqlite);
on!(postgres);
