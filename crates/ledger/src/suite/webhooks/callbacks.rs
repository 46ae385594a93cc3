//! Callbacks of single operations, and the receivers that they make.

use super::*;

/// Whom the callbacks of an operation count as.
async fn called_back(ledger: &Ledger, id: OperationId) -> ReceiverKey {
    ledger.promised(id).await.unwrap().unwrap().callback.unwrap().receiver
}

async fn an_operation_calls_back_where_it_was_told_to(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let url = "https://client.example/hooks/7";
    let topics = Topics::ENDS.and([Topic::Accepted].into_iter().collect());
    let everyone = Principal::everyone();
    let first = FirstCallback { topics, ..callback_to(url, &everyone, START) };
    let id = done_with(&ledger, operation(1, START), Some(first)).await;
    let receiver = called_back(&ledger, id).await;
    let out = claimed(&ledger, START).await;
    let told: Vec<_> = out.iter().map(|out| (out.topic, out.url.as_deref())).collect();
    assert_eq!(told, [(Topic::Accepted, Some(url)), (Topic::Succeeded, Some(url))]);
    assert!(out[1].body.starts_with(format!("operation.succeeded {id}").as_bytes()));
    let again = callback_to("https://client.example/other", &everyone, START);
    let same = done_with(&ledger, operation(2, START), Some(again)).await;
    let eve = Principal::named("eve");
    let new = NewOperation { principal: eve.clone(), ..operation(3, START) };
    let eves = done_with(&ledger, new, Some(callback_to(url, &eve, START))).await;
    assert_eq!(called_back(&ledger, same).await, receiver);
    assert_ne!(called_back(&ledger, eves).await, receiver);
    let whom = ledger.receiver(receiver).await.unwrap().unwrap();
    assert_eq!((whom.keys.len(), whom.active, whom.subscription), (2, true, None));
    // A callback's receiver is no subscription: 410 ends the delivery and nothing else.
    settled(&ledger, &out, SendResult::Gone, START).await;
    assert!(ledger.receiver(receiver).await.unwrap().unwrap().active);
    close(ledger, tasks).await;
}

async fn callbacks_that_nothing_refers_to_are_retired_and_then_forgotten(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let url = "https://client.example/hooks/7";
    let everyone = Principal::everyone();
    // Calls back, and has been told.
    let calls = async |number, at| {
        let first = callback_to(url, &everyone, at);
        let id = done_with(&ledger, operation(number, at), Some(first)).await;
        settled(&ledger, &claimed(&ledger, at).await, SendResult::Taken, at).await;
        let callback = ledger.promised(id).await.unwrap().unwrap().callback.unwrap();
        assert_eq!((&*callback.url, callback.topics), (url, Topics::ENDS));
        (id, callback.receiver)
    };
    let forget_operations = async |now: Timestamp| {
        for _ in 0..2 {
            ledger.prune(99, now).await.unwrap();
        }
    };
    let (id, receiver) = calls(1, START).await;
    let of = DeliveryListing { of: DeliveriesOf::Callback(id), only: None, before: None, limit: 9 };
    let shown = ledger.deliveries(&of).await.unwrap().deliveries;
    assert_eq!((shown.len(), shown[0].url.as_deref()), (1, Some(url)));
    let forget = async |now: Timestamp| {
        ledger.prune_deliveries(99, now - 30 * DAY, now - 7 * DAY, now).await.unwrap();
    };
    // Those who remember it learn of what has changed since.
    let changed = async || ledger.receiver(receiver).await.unwrap().map(|found| found.changed);
    let before = changed().await;
    // The operation refers to it.
    forget(START + 31 * DAY).await;
    forget(START + 31 * DAY).await;
    assert_eq!(changed().await, before);
    forget_operations(START + 31 * DAY).await;
    assert!(ledger.find(id).await.unwrap().is_none());
    forget(START + 31 * DAY).await;
    assert!(changed().await > before, "every node learns that no operation needs it");
    // A request that asks again gets the same, as long as it is only retired.
    let again = START + 40 * DAY;
    assert_eq!(calls(2, again).await.1, receiver);
    forget_operations(again + 8 * DAY).await;
    let before = changed().await;
    forget(again + 29 * DAY).await;
    assert_eq!(changed().await, before, "it was asked for lately");
    forget(again + 31 * DAY).await;
    assert!(changed().await > before, "it is still there, for those who know it");
    forget(again + 62 * DAY).await;
    assert_eq!(changed().await, None);
    let (_, anew) = calls(3, again + 62 * DAY).await;
    assert_ne!(anew, receiver);
    assert_eq!(ledger.receiver(anew).await.unwrap().unwrap().keys.len(), 2, "the keys stay");
    close(ledger, tasks).await;
}

async fn whatever_is_refused_leaves_no_receiver_of_callbacks(place: Place) {
    let (ledger, tasks) = opened(&place).await;
    let everyone = Principal::everyone();
    let there = "https://client.example";
    let first = || Some(callback_to("https://client.example/hooks/7", &everyone, START));
    let accept = |new| ledger.accept_calling_back(new, first());
    let known = operation(1, START).id;
    ledger.accept(with_key(1, 7, 5, KeyScope::Retained)).await.unwrap();
    let refused = accept(with_key(2, 7, 6, KeyScope::Retained)).await.unwrap();
    assert_eq!(refused, conflict(known));
    let repeat = accept(with_key(3, 7, 5, KeyScope::Retained)).await.unwrap();
    assert_eq!(repeat, Accepted::Replayed(known));
    let full = accept(NewOperation { max_depth: 1, ..operation(4, START) }).await.unwrap();
    assert_eq!(full, Accepted::QueueFull { depth: 1 });
    assert_eq!(ledger.callbacks(&everyone, there, START).await.unwrap(), None);
    let owner = KeyOwner::Callbacks(everyone.clone());
    assert!(ledger.signing_keys(&owner).await.unwrap().is_empty());
    // Those that are not, share one, however many come at once.
    let (one, other) = tokio::join!(accept(operation(5, START)), accept(operation(6, START)));
    assert!(matches!((one, other), (Ok(Accepted::New(_)), Ok(Accepted::New(_)))));
    let receiver = ledger.callbacks(&everyone, there, START).await.unwrap().unwrap();
    for number in [5, 6] {
        assert_eq!(called_back(&ledger, operation(number, START).id).await, receiver);
    }
    assert_eq!(ledger.signing_keys(&owner).await.unwrap().len(), 2);
    close(ledger, tasks).await;
}

macro_rules! on {
    ($engine:ident) => {
        suite_of!($engine:
            an_operation_calls_back_where_it_was_told_to,
            callbacks_that_nothing_refers_to_are_retired_and_then_forgotten,
            whatever_is_refused_leaves_no_receiver_of_callbacks,
        );
    };
}

on!(sqlite);
on!(postgres);
