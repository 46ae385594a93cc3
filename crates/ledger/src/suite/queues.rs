//! Keys and queues: what is the same, who goes first, and what is full.

use super::*;

async fn the_same_key_is_the_same_operation_and_another_request_under_it_is_a_conflict(
    place: Place,
) {
    let (ledger, tasks) = place.open(START).await;
    let first = with_key(1, 9, 5, KeyScope::Retained);
    let id = first.id;
    let batch =
        [first, with_key(2, 9, 5, KeyScope::Retained), with_key(3, 9, 6, KeyScope::Retained)];
    let fates =
        futures_util::future::join_all(batch.map(|operation| ledger.accept(operation))).await;
    let fates: Vec<_> = fates.into_iter().map(Result::unwrap).collect();
    assert_eq!(fates, [Accepted::New(id), Accepted::Replayed(id), conflict(id)]);
    let leased = claim_one(&ledger, START).await;
    finish(&ledger, leased, START).await;
    let repeat = ledger.accept(with_key(4, 9, 5, KeyScope::Retained)).await.unwrap();
    assert_eq!(repeat, Accepted::Replayed(id));
    close(ledger, tasks).await;
}

async fn a_key_that_counts_while_pending_is_free_again_at_the_end(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let first = with_key(1, 9, 5, KeyScope::Pending);
    let (first_id, second) = (first.id, with_key(2, 9, 6, KeyScope::Pending));
    let second_id = second.id;
    ledger.accept(first).await.unwrap();
    assert_eq!(ledger.accept(second.clone()).await.unwrap(), conflict(first_id));
    let leased = claim_one(&ledger, START).await;
    finish(&ledger, leased, START).await;
    assert_eq!(ledger.accept(second).await.unwrap(), Accepted::New(second_id));
    close(ledger, tasks).await;
}

async fn operations_of_one_serial_key_go_one_at_a_time_in_the_order_accepted(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let serial = |number| {
        let key = SerialKey { digest: [7; 16], text: "customer-7".into() };
        NewOperation { serial_key: Some(key), ..operation(number, START) }
    };
    let ids: Vec<_> = [1, 2, 3].map(|number| serial(number).id).into();
    for number in [1, 2, 3] {
        ledger.accept(serial(number)).await.unwrap();
    }
    ledger.cancel(ids[1], Freeing::Keep, START).await.unwrap();
    for id in [ids[0], ids[2]] {
        let claimed =
            ledger.claim(vec![Want { lane: lane(false), limit: 9 }], START).await.unwrap();
        let mut leased = claimed.into_iter().next().unwrap().leased;
        assert_eq!(leased.iter().map(|leased| leased.id).collect::<Vec<_>>(), [id]);
        finish(&ledger, leased.remove(0), START).await;
    }
    assert_eq!(ledger.accept(serial(4)).await.unwrap(), Accepted::New(serial(4).id));
    assert_eq!(state(&ledger, serial(4).id).await, OperationState::Queued { due_at: START });
    close(ledger, tasks).await;
}

async fn a_full_queue_takes_no_more(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    for number in 1..=2 {
        ledger.accept(NewOperation { max_depth: 2, ..operation(number, START) }).await.unwrap();
    }
    let third = ledger.accept(NewOperation { max_depth: 2, ..operation(3, START) }).await.unwrap();
    assert_eq!(third, Accepted::QueueFull { depth: 2 });
    close(ledger, tasks).await;
}

async fn a_key_that_is_known_is_answered_however_full_its_queue_is(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let full = |number, key, fingerprint, scope| NewOperation {
        max_depth: 2,
        ..with_key(number, key, fingerprint, scope)
    };
    let first = full(1, 1, 5, KeyScope::Retained);
    let (id, pending) = (first.id, full(2, 2, 5, KeyScope::Pending));
    for new in [first, pending] {
        assert!(matches!(ledger.accept(new).await, Ok(Accepted::New(_))));
    }
    let asked = async |new| ledger.accept(new).await.unwrap();
    assert_eq!(asked(full(3, 1, 5, KeyScope::Retained)).await, Accepted::Replayed(id));
    assert_eq!(asked(full(4, 1, 6, KeyScope::Retained)).await, conflict(id));
    let refused = Accepted::QueueFull { depth: 2 };
    assert_eq!(asked(full(5, 9, 5, KeyScope::Retained)).await, refused);
    // Nothing is left of what a repeat had written down before.
    let body = BodyKey(77);
    let piece = Piece { body, number: 0, octets: Bytes::from_static(b"piece") };
    ledger.stash(vec![piece]).await.unwrap();
    let mut large = full(6, 1, 5, KeyScope::Retained);
    let Work::Call(request) = &mut large.work else { panic!("no call") };
    request.body = OperationBody::Chunked { key: body, length: 5 };
    assert_eq!(asked(large).await, Accepted::Replayed(id));
    assert!(ledger.piece(body, 0).await.unwrap().is_none());
    // One that counts while it is pending is free at its end.
    while let Some(leased) = claim_next(&ledger).await.pop() {
        finish(&ledger, leased, START).await;
    }
    for number in 7..=8 {
        ledger.accept(NewOperation { max_depth: 2, ..operation(number, START) }).await.unwrap();
    }
    assert_eq!(asked(full(9, 2, 5, KeyScope::Pending)).await, refused);
    assert_eq!(asked(full(10, 1, 5, KeyScope::Retained)).await, Accepted::Replayed(id));
    close(ledger, tasks).await;
}

async fn claim_next(ledger: &Ledger) -> Vec<Leased> {
    let wants = vec![Want { lane: lane(false), limit: 1 }];
    ledger.claim(wants, START).await.unwrap().remove(0).leased
}

async fn a_paused_queue_is_paused_until_it_is_resumed_also_over_a_restart(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let wish = |paused| Pausing { queue: "default".into(), paused, at: START };
    assert!(!ledger.is_paused("default"));
    assert!(ledger.pause(wish(true)).await.unwrap());
    assert!(!ledger.pause(wish(true)).await.unwrap(), "it was paused before");
    assert!(ledger.is_paused("default") && !ledger.is_paused("other"));
    close(ledger, tasks).await;
    let (ledger, tasks) = place.open(START).await;
    assert!(ledger.is_paused("default"));
    assert!(ledger.pause(wish(false)).await.unwrap());
    assert!(!ledger.is_paused("default"));
    assert!(!ledger.pause(wish(false)).await.unwrap(), "nothing was paused");
    close(ledger, tasks).await;
}

macro_rules! on {
    ($engine:ident) => {
        suite_of!($engine:
            the_same_key_is_the_same_operation_and_another_request_under_it_is_a_conflict,
            a_key_that_counts_while_pending_is_free_again_at_the_end,
            operations_of_one_serial_key_go_one_at_a_time_in_the_order_accepted,
            a_full_queue_takes_no_more,
            a_key_that_is_known_is_answered_however_full_its_queue_is,
            a_paused_queue_is_paused_until_it_is_resumed_also_over_a_restart,
        );
    };
}

on!(sqlite);
on!(postgres);
