//! Verdicts of people on unknown outcomes.

use super::*;

fn verdict(happened: bool, note: Option<&str>) -> Verdict {
    let location = happened.then(|| "/orders/7".to_owned());
    Verdict { happened, location, note: note.map(str::to_owned), at: START + HOUR }
}

/// An operation that has ended, delivered at most once.
async fn ended(ledger: &Ledger, number: u8, outcome: &Outcome) -> OperationId {
    let mut new = operation(number, START);
    new.policy.delivery = DeliveryGuarantee::AtMostOnce;
    ledger.accept(new).await.unwrap();
    let leased = claim_one(ledger, START).await;
    let id = leased.id;
    ledger.settle(outcome_of(leased, outcome, START)).await.unwrap().unwrap();
    id
}

fn broken() -> Outcome {
    Outcome::Broken { sent: SendState::Perhaps, cause: ErrorCode::UpstreamProtocol }
}

async fn unknown(ledger: &Ledger) -> Vec<OperationId> {
    let listing = Listing { unknown: true, limit: 9, ..Listing::default() };
    let page = ledger.list(&listing).await.unwrap();
    page.operations.iter().map(|operation| operation.id).collect()
}

async fn a_verdict_is_added_and_changes_nothing_else(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let id = ended(&ledger, 1, &broken()).await;
    ended(&ledger, 2, &answered(422)).await;
    assert_eq!(unknown(&ledger).await, [id]);
    let before = ledger.find(id).await.unwrap().unwrap();
    let given = verdict(true, Some("seen"));
    assert_eq!(ledger.judge(id, given.clone()).await.unwrap(), Judged::Given);
    let after = ledger.find(id).await.unwrap().unwrap();
    assert_eq!(after.verdict, Some(given));
    assert_eq!((&after.state, after.sequence), (&before.state, before.sequence + 1));
    let events = ledger.events(id, before.sequence, 9).await.unwrap();
    assert_eq!((events[0].kind, events.len()), (EventKind::Reconciled, 1));
    assert_eq!(events[0].message.as_deref(), Some("happened: seen"));
    assert_eq!(unknown(&ledger).await, []);
    for _ in 0..2 {
        ledger.prune(9, START + 8 * HOUR).await.unwrap();
    }
    assert!(ledger.find(id).await.unwrap().is_none());
    close(ledger, tasks).await;
}

async fn a_later_verdict_takes_the_place_of_an_earlier_one(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let id = ended(&ledger, 1, &broken()).await;
    let long = "x".repeat(1000);
    ledger.judge(id, verdict(true, None)).await.unwrap();
    ledger.judge(id, verdict(false, Some(&long))).await.unwrap();
    let found = ledger.find(id).await.unwrap().unwrap();
    assert_eq!(found.verdict, Some(verdict(false, Some(&long))));
    let events = ledger.events(id, 3, 9).await.unwrap();
    let told: Vec<_> = events.iter().filter_map(|event| event.message.as_deref()).collect();
    assert_eq!((told[0], told.len()), ("happened", 2));
    assert!(told[1].starts_with("did-not-happen: x") && told[1].len() == 200);
    close(ledger, tasks).await;
}

async fn only_an_unknown_outcome_takes_a_verdict(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let refused = ended(&ledger, 1, &answered(422)).await;
    ledger.accept(operation(2, START)).await.unwrap();
    for id in [refused, operation(2, START).id, operation(3, START).id] {
        let judged = ledger.judge(id, verdict(true, None)).await.unwrap();
        assert_eq!(judged, Judged::NotUnknown);
    }
    close(ledger, tasks).await;
}

macro_rules! on {
    ($engine:ident) => {
        suite_of!($engine:
            a_verdict_is_added_and_changes_nothing_else,
            a_later_verdict_takes_the_place_of_an_earlier_one,
            only_an_unknown_outcome_takes_a_verdict,
        );
    };
}

on!(sqlite);
on!(postgres);
