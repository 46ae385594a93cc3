//! The retention of operations while a receiver is still to be told of them.

use super::*;

async fn a_result_is_kept_while_its_deliveries_are_under_way_for_six_days_at_most(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    subscribed(&ledger, subscription(1, settings([Topic::Succeeded]))).await;
    let (told, untold) = (operation(1, START), operation(2, START));
    let eves = NewOperation { principal: Principal::named("eve"), ..untold };
    let (kept, freed) = (done(&ledger, told).await, done(&ledger, eves).await);
    ledger.prune(9, START + 2 * HOUR).await.unwrap();
    assert!(ledger.answer(kept).await.unwrap().is_some());
    assert!(ledger.answer(freed).await.unwrap().is_none());
    let later = START + 6 * DAY;
    ledger.prune(9, later - HOUR).await.unwrap();
    assert!(ledger.answer(kept).await.unwrap().is_some());
    ledger.prune(9, later).await.unwrap();
    assert!(ledger.answer(kept).await.unwrap().is_none());
    let body = &claimed(&ledger, START).await[0].body;
    assert!(body.starts_with(b"operation.succeeded"), "a delivery keeps its own");
    close(ledger, tasks).await;
}

async fn what_is_settled_lets_the_result_go(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    subscribed(&ledger, subscription(1, settings([Topic::Succeeded]))).await;
    let id = done(&ledger, operation(1, START)).await;
    let out = claimed(&ledger, START).await;
    ledger.prune(9, START + 2 * HOUR).await.unwrap();
    settled(&ledger, &out, SendResult::Taken, START + 2 * HOUR).await;
    ledger.prune(9, START + 2 * HOUR).await.unwrap();
    assert!(ledger.answer(id).await.unwrap().is_some(), "it is looked at again in an hour");
    ledger.prune(9, START + 3 * HOUR).await.unwrap();
    assert!(ledger.answer(id).await.unwrap().is_none());
    for _ in 0..2 {
        ledger.prune(9, START + 8 * DAY).await.unwrap();
    }
    assert!(ledger.find(id).await.unwrap().is_none());
    let pruned = |over| ledger.prune_deliveries(9, START, over, START + 9 * DAY);
    assert_eq!(pruned(START).await.unwrap().deliveries, 0);
    assert_eq!(pruned(START + DAY).await.unwrap().deliveries, 1);
    close(ledger, tasks).await;
}

async fn a_list_of_deliveries_goes_on_behind_one_that_cannot_be_read(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let wanted = subscribed(&ledger, subscription(1, settings([Topic::Succeeded]))).await;
    for number in 1..=3 {
        done(&ledger, operation(number, START)).await;
    }
    sql(
        &place,
        "UPDATE messages SET event = 'nonsense' WHERE message = (SELECT max(message) FROM messages \
         WHERE message < (SELECT max(message) FROM messages))",
    )
    .await;
    let all = DeliveryListing {
        of: DeliveriesOf::Receiver(wanted.receiver),
        only: None,
        before: None,
        limit: 2,
    };
    let first = ledger.deliveries(&all).await.unwrap();
    assert_eq!((first.deliveries.len(), first.next.is_some()), (1, true));
    let rest = ledger.deliveries(&DeliveryListing { before: first.next, ..all }).await.unwrap();
    assert_eq!((rest.deliveries.len(), rest.next), (1, None));
    assert!(first.deliveries[0].key > rest.deliveries[0].key);
    close(ledger, tasks).await;
}

macro_rules! on {
    ($engine:ident) => {
        suite_of!($engine:
            a_result_is_kept_while_its_deliveries_are_under_way_for_six_days_at_most,
            what_is_settled_lets_the_result_go,
            a_list_of_deliveries_goes_on_behind_one_that_cannot_be_read,
        );
    };
}

on!(sqlite);
on!(postgres);
