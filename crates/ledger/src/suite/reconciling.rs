//! Ledgers that do not add up, and what is made of them.

use sqlx::Connection;

use super::cluster::cluster;
use super::*;
use cloakroom_domain::reconcile::{Discrepancy, DiscrepancyReport};

/// Changes rows behind the ledger's back.
pub(super) async fn meddle(place: &Place, statements: &str) {
    match place {
        Place::File(folder) => {
            let path = format!("sqlite:{}/cloakroom.db", folder.path().display());
            let mut connection = sqlx::SqliteConnection::connect(&path).await.unwrap();
            let statements = sqlx::AssertSqlSafe(statements.to_owned());
            sqlx::raw_sql(statements).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
        Place::Database(url) => {
            let name = url.rsplit('/').next().unwrap();
            cluster().sql(name, statements);
        }
    }
}

fn keyed(number: u8, key: u8) -> NewOperation {
    let key = SerialKey { digest: [key; 16], text: format!("customer-{key}") };
    NewOperation { serial_key: Some(key), ..operation(number, START) }
}

/// What was found, apart from the depths of lanes that were meddled with.
fn found(report: &DiscrepancyReport) -> Vec<(Discrepancy, u64)> {
    let findings = report.findings.iter();
    let findings = findings.filter(|finding| finding.kind != Discrepancy::Miscounted);
    findings.map(|finding| (finding.kind, finding.count)).collect()
}

async fn what_adds_up_is_left_alone(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    for number in 1..=5 {
        ledger.accept(keyed(number, number % 2)).await.unwrap();
    }
    let leased = claim_one(&ledger, START).await;
    finish(&ledger, leased, START).await;
    claim_one(&ledger, START).await;
    let report = ledger.reconcile(true, START).await.unwrap();
    assert_eq!((found(&report), report.looked_at), (Vec::new(), 5));
    assert!(!report.needs_a_person());
    ledger.prune(9, START + HOUR).await.unwrap();
    assert_eq!(found(&ledger.reconcile(true, START).await.unwrap()), []);
    close(ledger, tasks).await;
}

async fn keys_that_nobody_lets_go_of_are_let_go_and_only_once(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    for number in 1..=4 {
        ledger.accept(keyed(number, number % 2)).await.unwrap();
    }
    // One key has lost its holder, and the holder of the other is not there.
    meddle(
        &place,
        "DELETE FROM serial_keys WHERE seq = 1; UPDATE serial_keys SET seq = 99 WHERE seq = 2;",
    )
    .await;
    let expected = [(Discrepancy::WithoutHolder, 1), (Discrepancy::WaitsForNothing, 1)];
    let looked = ledger.reconcile(false, START).await.unwrap();
    assert_eq!(found(&looked), expected);
    assert!(looked.needs_a_person());
    let waits = OperationState::Waiting { on: WaitingFor::SerialKey, due_at: None };
    assert_eq!(state(&ledger, keyed(3, 1).id).await, waits, "looking changes nothing");
    let repaired = ledger.reconcile(true, START).await.unwrap();
    assert_eq!(found(&repaired), expected);
    assert!(!repaired.needs_a_person());
    for number in [3, 4] {
        let queued = OperationState::Queued { due_at: START };
        assert_eq!(state(&ledger, keyed(number, number % 2).id).await, queued);
    }
    assert_eq!(found(&ledger.reconcile(true, START).await.unwrap()), []);
    close(ledger, tasks).await;
}

async fn rows_without_an_operation_and_ends_without_expiry_are_put_right(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    for number in 1..=3 {
        ledger.accept(operation(number, START)).await.unwrap();
    }
    let leased = claim_one(&ledger, START).await;
    let ended = leased.id;
    finish(&ledger, leased, START).await;
    meddle(
        &place,
        "DELETE FROM expiries; DELETE FROM operations WHERE seq = 2; \
         INSERT INTO ready (seq, lane, due_at, attempts, resumes, rescues, refusals, token, sequence) \
         SELECT seq, lane, 5, 0, 0, 0, 0, 0, 1 FROM operations WHERE seq = 1;",
    )
    .await;
    let report = ledger.reconcile(true, START).await.unwrap();
    let expected = [
        (Discrepancy::EndedAndLive, 1),
        // Request, credentials and place in the queue of the second.
        (Discrepancy::WithoutOperation, 3),
        (Discrepancy::NeverFreed, 1),
    ];
    assert_eq!(found(&report), expected);
    assert!(!report.needs_a_person());
    assert_eq!(found(&ledger.reconcile(true, START).await.unwrap()), []);
    if !ledger.is_shared() {
        // Where others count, too, beats tell it.
        assert_eq!(ledger.queue_depth("default"), 1);
    }
    assert_eq!(state(&ledger, ended).await, OperationState::Succeeded { at: START });
    assert_eq!(ledger.prune(9, START + HOUR).await.unwrap().results, 1);
    close(ledger, tasks).await;
}

async fn what_only_a_person_can_put_right_is_reported(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    for number in 1..=4 {
        let mut new = keyed(number, number);
        new.policy.delivery = DeliveryGuarantee::AtMostOnce;
        new.policy.on_failure = OnFailure::Block;
        ledger.accept(new).await.unwrap();
    }
    let leased = claim_one(&ledger, START).await;
    let broken = Outcome::Broken { sent: SendState::Perhaps, cause: ErrorCode::UpstreamProtocol };
    let unknown = leased.id.to_string();
    ledger.settle(outcome_of(leased, &broken, START)).await.unwrap().unwrap();
    let running = claim_one(&ledger, START).await;
    let second = running.id.to_string();
    meddle(&place, "UPDATE running SET node = 99; DELETE FROM ready WHERE seq = 3;").await;
    meddle(
        &place,
        "INSERT INTO ready (seq, lane, due_at, attempts, resumes, rescues, refusals, token, sequence) \
         SELECT seq, lane, 5, 0, 0, 0, 0, 0, 1 FROM operations WHERE seq = 2;",
    )
    .await;
    let report = ledger.reconcile(true, START).await.unwrap();
    let named: Vec<_> = report
        .findings
        .iter()
        .map(|finding| (finding.kind, finding.names[0].clone()))
        .filter(|(kind, _)| !matches!(kind, Discrepancy::Blocked | Discrepancy::Miscounted))
        .collect();
    let third = keyed(3, 3).id.to_string();
    let expected = [
        (Discrepancy::InNoState, third),
        (Discrepancy::InTwoStates, second.clone()),
        (Discrepancy::RunsNowhere, second),
        (Discrepancy::Unknown, unknown),
    ];
    assert_eq!(named, expected);
    assert!(report.findings.iter().any(|finding| finding.kind == Discrepancy::Blocked));
    assert!(report.needs_a_person());
    close(ledger, tasks).await;
}

async fn what_lies_in_no_lane_is_reported_and_put_where_its_lane_is_known(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    for number in 1..=4 {
        ledger.accept(operation(number, START)).await.unwrap();
    }
    meddle(
        &place,
        "UPDATE ready SET lane = 99 WHERE seq = 1; UPDATE ready SET lane = -99 WHERE seq = 2; \
         UPDATE ready SET lane = 99 WHERE seq = 3; UPDATE operations SET lane = 99 WHERE seq >= 3;",
    )
    .await;
    // No more is found, so nothing of the lane is looked for until something is said to be due.
    let claimed = async || {
        let wants = vec![Want { lane: lane(false), limit: 9 }];
        let leased = ledger.claim(wants, START).await.unwrap().remove(0).leased;
        leased.iter().map(|leased| leased.id).collect::<Vec<_>>()
    };
    let due = || {
        let known = ledger.lanes().into_iter().find(|known| known.lane == lane(false));
        known.and_then(|known| known.oldest_due)
    };
    assert_eq!(claimed().await, [operation(4, START).id]);
    assert_eq!(due(), None);
    let expected = [(Discrepancy::Mislaid, 3), (Discrepancy::InNoLane, 1)];
    let looked = ledger.reconcile(false, START).await.unwrap();
    assert_eq!(found(&looked), expected);
    assert!(looked.needs_a_person());
    assert_eq!(found(&ledger.reconcile(true, START).await.unwrap()), expected);
    assert_eq!(due(), Some(START));
    assert_eq!(claimed().await, [1, 2].map(|number| operation(number, START).id));
    assert!(ledger.find(operation(4, START).id).await.unwrap().is_some());
    let left = ledger.reconcile(true, START).await.unwrap();
    assert_eq!(found(&left), [(Discrepancy::InNoLane, 1)], "only a person can see to it");
    assert!(left.needs_a_person());
    close(ledger, tasks).await;
}

async fn what_is_put_into_its_lane_again_counts_in_it_once(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    for number in 1..=3 {
        ledger.accept(operation(number, START)).await.unwrap();
    }
    meddle(&place, "UPDATE ready SET lane = 99 WHERE seq <= 2;").await;
    let report = ledger.reconcile(true, START).await.unwrap();
    let counts: Vec<_> = report.findings.iter().map(|it| (it.kind, it.count)).collect();
    // A depth that was counted twice would be a finding.
    assert_eq!(counts, [(Discrepancy::Mislaid, 2)]);
    assert_eq!(ledger.queue_depth("default"), 3);
    close(ledger, tasks).await;
}

async fn an_operation_in_no_lane_is_readable_and_keeps_its_key(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let mut new = keyed(1, 1);
    new.policy.on_failure = OnFailure::Block;
    ledger.accept(new).await.unwrap();
    let leased = claim_one(&ledger, START).await;
    let id = leased.id;
    meddle(&place, "UPDATE operations SET lane = 99;").await;
    let found = ledger.find(id).await.unwrap().unwrap();
    assert_eq!((&*found.queue, &*found.upstream), ("unknown", "unknown"));
    let listed = ledger.list(&Listing { limit: 9, ..Listing::default() }).await.unwrap();
    assert_eq!(listed.operations.iter().map(|it| it.id).collect::<Vec<_>>(), [id]);
    ledger.settle(outcome_of(leased, &answered(400), START)).await.unwrap().unwrap();
    assert!(matches!(state(&ledger, id).await, OperationState::Failed { .. }));
    let listing = KeyListing { blocked: true, after: None, limit: 9 };
    let keys = ledger.keys(listing).await.unwrap();
    assert_eq!(keys.iter().map(|key| key.name).collect::<Vec<_>>(), [SerialName([1; 16])]);
    close(ledger, tasks).await;
}

async fn what_runs_or_waits_in_no_lane_holds_up_no_other(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    for new in [operation(1, START), operation(2, START), keyed(3, 1), keyed(4, 1), keyed(5, 1)] {
        ledger.accept(new).await.unwrap();
    }
    claim_one(&ledger, START).await;
    claim_one(&ledger, START).await;
    meddle(
        &place,
        "UPDATE running SET lane = 99 WHERE seq = 1; UPDATE waiting SET lane = 99 WHERE seq = 4;",
    )
    .await;
    let late = START + 25 * HOUR;
    let overdue = ledger.claim_overdue(9, late, late + HOUR).await.unwrap();
    assert_eq!(overdue.iter().map(|it| it.id).collect::<Vec<_>>(), [keyed(5, 1).id]);
    let dead = vec![Dead { incarnation: ledger.incarnation(), beat: None }];
    let orphans = ledger.claim_orphans(dead, 9, START).await.unwrap();
    assert_eq!(orphans.iter().map(|it| it.id).collect::<Vec<_>>(), [operation(2, START).id]);
    let report = ledger.reconcile(true, START).await.unwrap();
    assert!(found(&report).contains(&(Discrepancy::Mislaid, 2)), "{report:?}");
    let again = ledger.reconcile(true, START).await.unwrap();
    assert!(!found(&again).iter().any(|(kind, _)| *kind == Discrepancy::Mislaid), "{again:?}");
    close(ledger, tasks).await;
}

macro_rules! on {
    ($engine:ident) => {
        suite_of!($engine:
            what_adds_up_is_left_alone,
            keys_that_nobody_lets_go_of_are_let_go_and_only_once,
            rows_without_an_operation_and_ends_without_expiry_are_put_right,
            what_only_a_person_can_put_right_is_reported,
            what_lies_in_no_lane_is_reported_and_put_where_its_lane_is_known,
            what_runs_or_waits_in_no_lane_holds_up_no_other,
            what_is_put_into_its_lane_again_counts_in_it_once,
            an_operation_in_no_lane_is_readable_and_keeps_its_key,
        );
    };
}

on!(sqlite);
on!(postgres);
