//! Repeats by hand: one at a time, unless another one is asked for.

use super::*;

fn retry(number: u8, of: u8) -> NewOperation {
    let retry = ManualRetry { of: operation(of, START).id, again: false };
    NewOperation { retry_of: Some(retry), ..operation(number, START) }
}

async fn end(ledger: &Ledger, status: u16) {
    let leased = claim_one(ledger, START).await;
    ledger.settle(outcome_of(leased, &answered(status), START)).await.unwrap().unwrap();
}

async fn retried_by(ledger: &Ledger, number: u8) -> Option<OperationId> {
    ledger.find(operation(number, START).id).await.unwrap().unwrap().retried_by
}

async fn one_that_has_not_failed_stands_in_the_way_of_another_one(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let id = |number| operation(number, START).id;
    let accept = |number, of| ledger.accept(retry(number, of));
    ledger.accept(operation(1, START)).await.unwrap();
    end(&ledger, 422).await;
    assert_eq!(retried_by(&ledger, 1).await, None);
    assert_eq!(accept(2, 1).await.unwrap(), Accepted::New(id(2)));
    assert_eq!(accept(3, 1).await.unwrap(), Accepted::Retried(id(2)));
    assert_eq!(retried_by(&ledger, 1).await, Some(id(2)));
    end(&ledger, 422).await;
    // It has failed, so it is repeated itself; a further repeat of the first one then names it.
    assert_eq!(accept(4, 2).await.unwrap(), Accepted::New(id(4)));
    assert_eq!(accept(5, 1).await.unwrap(), Accepted::Retried(id(4)));
    assert_eq!(accept(5, 2).await.unwrap(), Accepted::Retried(id(4)));
    end(&ledger, 201).await;
    assert_eq!(accept(5, 1).await.unwrap(), Accepted::Retried(id(4)));
    let mut again = retry(6, 1);
    again.retry_of = again.retry_of.map(|retry| ManualRetry { again: true, ..retry });
    assert_eq!(ledger.accept(again).await.unwrap(), Accepted::New(id(6)));
    assert_eq!(retried_by(&ledger, 1).await, Some(id(6)));
    assert_eq!(retried_by(&ledger, 2).await, Some(id(4)));
    // What has succeeded is repeated as long as nothing of its own is on its way.
    assert_eq!(accept(7, 4).await.unwrap(), Accepted::Retried(id(6)));
    close(ledger, tasks).await;
}

async fn of_those_in_one_batch_the_first_is_made(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    for number in [1, 2] {
        ledger.accept(operation(number, START)).await.unwrap();
        end(&ledger, 422).await;
    }
    let batch = [(3, 1), (4, 1), (5, 2), (6, 1), (7, 2)].map(|(number, of)| retry(number, of));
    let fates =
        futures_util::future::join_all(batch.map(|operation| ledger.accept(operation))).await;
    let fates: Vec<_> = fates.into_iter().map(Result::unwrap).collect();
    let made = fates.iter().filter(|fate| matches!(fate, Accepted::New(_))).count();
    assert_eq!(made, 2, "{fates:?}");
    let refused = fates.iter().filter(|fate| matches!(fate, Accepted::Retried(_))).count();
    assert_eq!(refused, 3, "{fates:?}");
    close(ledger, tasks).await;
}

macro_rules! on {
    ($engine:ident) => {
        suite_of!($engine:
            one_that_has_not_failed_stands_in_the_way_of_another_one,
            of_those_in_one_batch_the_first_is_made,
        );
    };
}

on!(sqlite);
on!(postgres);
