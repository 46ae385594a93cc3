//! Fan-outs: each receiver is told once, also of events before its subscription changed.

use sqlx::Connection;

use super::*;

/// So many are told in the commit of the event.
const FIRST: u16 = 16;

/// As many as are told at once, and then these.
async fn behind_the_first<const N: usize>(
    ledger: &Ledger,
    those: [SubscriptionSettings; N],
) -> [Subscription; N] {
    for number in 0..FIRST {
        let told = settings([Topic::Succeeded, Topic::Disabled]);
        subscribed(ledger, subscription(number, told)).await;
    }
    let mut made = Vec::new();
    for (number, settings) in (FIRST..).zip(those) {
        made.push(subscribed(ledger, subscription(number, settings)).await);
    }
    made.try_into().unwrap()
}

async fn changed(ledger: &Ledger, of: &Subscription, change: SubscriptionChange) {
    let changing =
        SubscriptionUpdate { id: of.id, principal: None, unless_since: None, change, at: START };
    let changed = ledger.change_subscription(changing).await.unwrap();
    assert!(matches!(changed, UpdateOutcome::Done(_)), "{changed:?}");
}

async fn set(ledger: &Ledger, of: &Subscription, settings: SubscriptionSettings) {
    changed(ledger, of, SubscriptionChange::Settings(Box::new(settings))).await;
}

fn tagged(tag: &str) -> SubscriptionSettings {
    SubscriptionSettings { tags: vec![tag.to_owned()], ..settings([Topic::Succeeded]) }
}

fn routed(route: &str) -> SubscriptionSettings {
    SubscriptionSettings { routes: vec![route.to_owned()], ..settings([Topic::Succeeded]) }
}

/// Takes every step of what is under way.
async fn fanned_out(ledger: &Ledger) {
    assert!(ledger.fan_out().await.unwrap(), "there was nothing to fan out");
    while ledger.fan_out().await.unwrap() {}
}

/// Where what one of them was told stands.
async fn stands(ledger: &Ledger, of: &Subscription) -> Vec<DeliveryState> {
    shown(ledger, of).await.iter().map(|shown| shown.state).collect()
}

const DUE: DeliveryState = DeliveryState::Due { at: START };
const HELD: DeliveryState = DeliveryState::Held { since: START };

async fn a_fan_out_goes_by_what_each_wanted_when_it_happened(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let (yes, no) = (settings([Topic::Succeeded]), settings([Topic::Failed]));
    let those = [
        yes.clone(),
        no.clone(),
        routed("refunds"),
        tagged("a:1"),
        yes.clone(),
        no.clone(),
        yes.clone(),
        yes.clone(),
    ];
    let made = behind_the_first(&ledger, those).await;
    let [wanted, unwanted, elsewhere, other_tag, twice, before, form, moved] = &made;
    set(&ledger, before, tagged("a:2")).await;
    set(&ledger, before, yes.clone()).await;
    let tags = vec!["a:1".to_owned()];
    done(&ledger, NewOperation { tags, ..operation(1, START) }).await;
    set(&ledger, wanted, no.clone()).await;
    set(&ledger, unwanted, yes.clone()).await;
    set(&ledger, elsewhere, routed("orders")).await;
    set(&ledger, other_tag, tagged("a:2")).await;
    set(&ledger, twice, no.clone()).await;
    set(&ledger, twice, tagged("a:2")).await;
    set(&ledger, before, no.clone()).await;
    let other_form = SubscriptionSettings { format: Format::CloudEvents, ..yes.clone() };
    set(&ledger, form, other_form).await;
    let other_url = "https://other.example/hooks".to_owned();
    set(&ledger, moved, SubscriptionSettings { url: other_url, ..yes }).await;
    fanned_out(&ledger).await;
    let mut told = Vec::new();
    for subscription in &made {
        told.push(shown(&ledger, subscription).await.len());
    }
    assert_eq!(told, [1, 0, 0, 1, 1, 1, 1, 1]);
    let out = claimed(&ledger, START).await;
    assert_eq!(out.len(), usize::from(FIRST) + 6);
    assert!(out.iter().all(|out| out.format == Format::Standard), "as was wished then");
    // What happens from now on goes by what they want now.
    let tags = vec!["a:1".to_owned()];
    done(&ledger, NewOperation { tags, ..operation(2, START) }).await;
    fanned_out(&ledger).await;
    let mut told = Vec::new();
    for subscription in &made {
        told.push(shown(&ledger, subscription).await.len());
    }
    assert_eq!(told, [1, 1, 1, 1, 1, 1, 2, 2]);
    close(ledger, tasks).await;
}

async fn what_comes_by_a_fan_out_for_one_that_stood_disabled_is_held(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let yes = settings([Topic::Succeeded]);
    let those = std::array::from_fn(|_| yes.clone());
    let made: [_; 5] = behind_the_first(&ledger, those).await;
    let [enabled, disabled, both, gone, still] = &made;
    let asking = NewSubscription { asks: true, ..subscription(100, yes.clone()) };
    let agreed = subscribed(&ledger, asking).await;
    let off = || SubscriptionChange::Disable(DisabledFor::Asked);
    changed(&ledger, enabled, off()).await;
    changed(&ledger, still, off()).await;
    done(&ledger, operation(1, START)).await;
    changed(&ledger, enabled, SubscriptionChange::Enable).await;
    changed(&ledger, disabled, off()).await;
    changed(&ledger, both, off()).await;
    changed(&ledger, both, SubscriptionChange::Enable).await;
    changed(&ledger, gone, SubscriptionChange::Delete).await;
    changed(&ledger, &agreed, SubscriptionChange::Enable).await;
    let again = subscribed(&ledger, subscription(101, yes)).await;
    fanned_out(&ledger).await;
    for (of, expected) in [
        (enabled, vec![HELD]),
        (disabled, vec![HELD]),
        (both, vec![DUE]),
        (gone, vec![]),
        (still, vec![HELD]),
        (&agreed, vec![HELD]),
        (&again, vec![]),
    ] {
        assert_eq!(stands(&ledger, of).await, expected, "{:?}", of.receiver);
    }
    close(ledger, tasks).await;
}

async fn who_is_told_of_webhooks_by_a_fan_out_is_found_as_they_stood_too(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let those = [settings([Topic::Disabled]), settings([Topic::Failed])];
    let [wanted, unwanted] = behind_the_first(&ledger, those).await;
    let first = ledger.subscriptions(&SubscriptionListing { limit: 1, ..Default::default() }).await;
    changed(&ledger, &first.unwrap()[0], SubscriptionChange::Disable(DisabledFor::Asked)).await;
    set(&ledger, &wanted, settings([])).await;
    set(&ledger, &unwanted, settings([Topic::Disabled])).await;
    fanned_out(&ledger).await;
    assert_eq!(topics_of(&ledger, &wanted).await, [Topic::Disabled]);
    assert_eq!(topics_of(&ledger, &unwanted).await, []);
    close(ledger, tasks).await;
}

async fn how_a_subscription_stood_is_forgotten_when_no_fan_out_can_be_older(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let (yes, no) = (settings([Topic::Succeeded]), settings([Topic::Failed]));
    let [one, other] = behind_the_first(&ledger, [yes.clone(), yes.clone()]).await;
    let forgotten = async |limit, now| {
        ledger.prune_deliveries(limit, START - DAY, START - DAY, now).await.unwrap().former
    };
    set(&ledger, &one, no.clone()).await;
    done(&ledger, operation(1, START)).await;
    set(&ledger, &one, yes.clone()).await;
    set(&ledger, &other, no).await;
    // A transaction that began before may yet come with a fan-out.
    assert_eq!(forgotten(9, START + HOUR / 2).await, 0);
    assert_eq!(forgotten(9, START + 2 * HOUR).await, 1, "this one is older than the event");
    assert_eq!(forgotten(9, START + 2 * HOUR).await, 0);
    fanned_out(&ledger).await;
    let told = [shown(&ledger, &one).await.len(), shown(&ledger, &other).await.len()];
    assert_eq!(told, [0, 1]);
    for _ in 0..2 {
        assert_eq!(forgotten(1, START + 2 * HOUR).await, 1);
    }
    assert_eq!(forgotten(9, START + 2 * HOUR).await, 0);
    // One that changes nothing of what it is told leaves nothing behind.
    let headers = Some(Bytes::from_static(&[3]));
    set(&ledger, &one, SubscriptionSettings { headers, ..yes }).await;
    changed(&ledger, &one, SubscriptionChange::Enable).await;
    assert_eq!(forgotten(9, START + 2 * HOUR).await, 0);
    close(ledger, tasks).await;
}

async fn a_fan_out_of_an_earlier_release_goes_by_how_subscriptions_stand(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let (yes, no) = (settings([Topic::Succeeded]), settings([Topic::Failed]));
    let [wanted, unwanted] = behind_the_first(&ledger, [yes.clone(), yes.clone()]).await;
    done(&ledger, operation(1, START)).await;
    set(&ledger, &unwanted, no).await;
    close(ledger, tasks).await;
    let earlier = "UPDATE fan_outs SET version = NULL";
    match &place {
        Place::File(folder) => {
            let path = format!("sqlite:{}/cloakroom.db", folder.path().display());
            let mut connection = sqlx::SqliteConnection::connect(&path).await.unwrap();
            sqlx::raw_sql(earlier).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
        Place::Database(url) => {
            let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
            sqlx::raw_sql(earlier).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
    }
    let (ledger, tasks) = opened(&place).await;
    fanned_out(&ledger).await;
    let told = [shown(&ledger, &wanted).await.len(), shown(&ledger, &unwanted).await.len()];
    assert_eq!(told, [1, 0]);
    close(ledger, tasks).await;
}

#[tokio::test]
async fn a_fan_out_on_one_node_goes_by_what_was_wanted_when_another_committed_the_event() {
    let place = Place::postgres();
    let [(one, tasks), (other, more_tasks)] = two(&place).await;
    let (yes, no) = (settings([Topic::Succeeded]), settings([Topic::Failed]));
    let [wanted, unwanted] = behind_the_first(&one, [no.clone(), yes.clone()]).await;
    // The other one has heard of none of this.
    set(&one, &wanted, yes.clone()).await;
    set(&one, &unwanted, no.clone()).await;
    done(&other, operation(1, START)).await;
    set(&one, &wanted, no).await;
    set(&one, &unwanted, yes).await;
    fanned_out(&one).await;
    let told = [shown(&one, &wanted).await.len(), shown(&one, &unwanted).await.len()];
    assert_eq!(told, [1, 0]);
    close(one, tasks).await;
    close(other, more_tasks).await;
}

async fn more_than_sixteen_are_told_by_a_fan_out_that_can_be_interrupted(place: Place) {
    const MANY: u16 = 1100;
    let (ledger, tasks) = opened(&place).await;
    for number in 0..MANY {
        let topic = if number % 2 == 0 { Topic::Succeeded } else { Topic::Failed };
        subscribed(&ledger, subscription(number, settings([topic]))).await;
    }
    let id = done(&ledger, operation(1, START)).await;
    assert_eq!(ledger.due_deliveries(START).len(), 16);
    assert!(ledger.fan_out().await.unwrap());
    // Who comes later did not stand then.
    let later = subscribed(&ledger, subscription(MANY, settings([Topic::Succeeded]))).await;
    close(ledger, tasks).await;
    let (ledger, tasks) = opened(&place).await;
    while ledger.fan_out().await.unwrap() {}
    let out = claimed(&ledger, START).await;
    let receivers: std::collections::HashSet<_> =
        out.iter().map(|leased| leased.receiver).collect();
    assert_eq!((out.len(), receivers.len()), (usize::from(MANY) / 2, usize::from(MANY) / 2));
    assert!(!receivers.contains(&later.receiver));
    assert!(out.iter().all(|leased| *leased.message == format!("msg_{id}_3")));
    close(ledger, tasks).await;
}

/// Makes as many subscriptions like that one as there are to be in all. A later start finds
/// them; one after the other they would take minutes.
async fn multiplied(place: &Place, of: &Subscription, count: usize) {
    use sqlx::Connection;
    let columns =
        "kind, principal, url, created_at, changed_at, changed, state, events, headers, format";
    let id = match place {
        Place::File(_) => "randomblob(16)",
        Place::Database(_) => "decode(md5(n.number::text), 'hex')",
    };
    let sql = format!(
        "WITH RECURSIVE n (number) AS (SELECT 2 UNION ALL SELECT number + 1 FROM n WHERE number < {count}) \
         INSERT INTO receivers ({columns}, id) SELECT {columns}, {id} FROM receivers CROSS JOIN n \
         WHERE receiver = {}",
        of.receiver.0
    );
    match place {
        Place::File(folder) => {
            let path = format!("sqlite:{}/cloakroom.db", folder.path().display());
            let mut connection = sqlx::SqliteConnection::connect(&path).await.unwrap();
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
        Place::Database(url) => {
            let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
    }
}

async fn ten_thousand_are_told_of_one_event_once_each_though_it_is_interrupted(place: Place) {
    const ALL: usize = 10_000;
    let (ledger, tasks) = opened(&place).await;
    let first = subscribed(&ledger, subscription(1, settings([Topic::Succeeded]))).await;
    close(ledger, tasks).await;
    multiplied(&place, &first, ALL).await;
    let (ledger, tasks) = opened(&place).await;
    let id = done(&ledger, operation(1, START)).await;
    let at_once = ledger.due_deliveries(START).len();
    let mut steps = 0;
    while ledger.due_deliveries(START).len() < ALL / 2 {
        assert!(ledger.fan_out().await.unwrap(), "it ended before it was half done");
        steps += 1;
    }
    let half = claimed(&ledger, START).await;
    ledger.leave(Vec::new(), START).await.unwrap();
    close(ledger, tasks).await;
    let (ledger, tasks) = opened(&place).await;
    // What had been handed out is the same to the next node.
    while ledger.reclaim_deliveries(1000, START).await.unwrap() > 0 {}
    let mut more = 0;
    while ledger.fan_out().await.unwrap() {
        more += 1;
    }
    let out = claimed(&ledger, START).await;
    let receivers: std::collections::HashSet<_> = out.iter().map(|out| out.receiver).collect();
    let name = format!("msg_{id}_3");
    let body = &out[0].body;
    let same = out.iter().chain(&half).filter(|out| *out.message == *name && out.body == *body);
    let same = same.count();
    println!(
        "counts: {ALL} subscriptions, {at_once} deliveries with the event, {} after {steps} steps, \
         {} after {more} more to {} receivers",
        half.len(),
        out.len(),
        receivers.len()
    );
    assert_eq!((out.len(), receivers.len(), same), (ALL, ALL, ALL + half.len()));
    assert!((at_once, half.len() < ALL, more > 0) == (16, true, true));
    settled(&ledger, &out, SendResult::Taken, START).await;
    assert!(claimed(&ledger, START + DAY).await.is_empty(), "each of them was told once");
    close(ledger, tasks).await;
}

macro_rules! on {
    ($engine:ident) => {
        suite_of!($engine:
            more_than_sixteen_are_told_by_a_fan_out_that_can_be_interrupted,
            ten_thousand_are_told_of_one_event_once_each_though_it_is_interrupted,
            a_fan_out_goes_by_what_each_wanted_when_it_happened,
            what_comes_by_a_fan_out_for_one_that_stood_disabled_is_held,
            who_is_told_of_webhooks_by_a_fan_out_is_found_as_they_stood_too,
            how_a_subscription_stood_is_forgotten_when_no_fan_out_can_be_older,
            a_fan_out_of_an_earlier_release_goes_by_how_subscriptions_stand,
        );
    };
}

on!(sqlite);
on!(postgres);
