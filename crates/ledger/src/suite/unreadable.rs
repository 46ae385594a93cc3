//! Operations that cannot be read, and what becomes of them and of all others.

use super::*;

/// What damages the first operation that is ready; those of `ready` also when it is looked at.
const DAMAGES: [&str; 9] = [
    "UPDATE operations SET target = 'not a path' WHERE seq = (SELECT min(seq) FROM ready)",
    "UPDATE operations SET success = 'abc' WHERE seq = (SELECT min(seq) FROM ready)",
    "DELETE FROM requests WHERE seq = (SELECT min(seq) FROM ready)",
    "UPDATE operations SET recheck = '' WHERE seq = (SELECT min(seq) FROM ready)",
    "UPDATE ready SET percent = 999 WHERE seq = (SELECT min(seq) FROM ready)",
    "UPDATE ready SET sequence = 5000000000 WHERE seq = (SELECT min(seq) FROM ready)",
    "UPDATE ready SET sequence = 9223372036854775807 WHERE seq = (SELECT min(seq) FROM ready)",
    "UPDATE ready SET attempts = 9223372036854775807 WHERE seq = (SELECT min(seq) FROM ready)",
    "UPDATE ready SET attempts = 4294967295 WHERE seq = (SELECT min(seq) FROM ready)",
];

async fn code(ledger: &Ledger, id: OperationId) -> String {
    match state(ledger, id).await {
        OperationState::Failed { failure, .. } => failure.code.to_string(),
        other => panic!("{other:?}"),
    }
}

async fn claimed(ledger: &Ledger, now: Timestamp) -> Vec<Leased> {
    let wants = vec![Want { lane: lane(false), limit: 9 }];
    ledger.claim(wants, now).await.unwrap().remove(0).leased
}

fn depth(ledger: &Ledger) -> u64 {
    ledger.lanes().iter().map(|lane| lane.depth).sum()
}

/// Waits until the lanes are that deep: a look that was under way may have seen them as they were.
async fn until_depth(ledger: &Ledger, wanted: u64) {
    in_a_database::until("the depth of the lanes", async || depth(ledger) == wanted).await;
}

async fn a_damaged_row_ends_and_holds_up_no_other(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    for (number, damage) in (0..).step_by(2).zip(DAMAGES) {
        let (damaged, whole) = (operation(number, START).id, operation(number + 1, START).id);
        ledger.accept(operation(number, START)).await.unwrap();
        ledger.accept(operation(number + 1, START)).await.unwrap();
        sql(&place, damage).await;
        if damage.starts_with("UPDATE ready") {
            let (bad, good) = tokio::join!(ledger.find(damaged), ledger.find(whole));
            assert!(bad.is_err() && good.unwrap().is_some(), "{damage}");
        }
        let leased = claimed(&ledger, START).await;
        assert_eq!(leased.iter().map(|it| it.id).collect::<Vec<_>>(), [whole], "{damage}");
        assert_eq!(code(&ledger, damaged).await, "unreadable", "{damage}");
        let ended = ledger.find(damaged).await.unwrap().unwrap();
        assert_eq!((ended.counts.attempts, ended.started_at), (0, None), "{damage}");
        until_depth(&ledger, 0).await;
        for leased in leased {
            finish(&ledger, leased, START).await;
        }
    }
    close(ledger, tasks).await;
}

async fn a_token_that_has_no_next_one_holds_up_nothing(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    ledger.accept(operation(1, START)).await.unwrap();
    ledger.accept(operation(2, START)).await.unwrap();
    sql(
        &place,
        "UPDATE ready SET token = 9223372036854775807 WHERE seq = (SELECT min(seq) FROM ready)",
    )
    .await;
    let leased = claimed(&ledger, START).await;
    assert_eq!(leased.len(), 2);
    for leased in leased {
        finish(&ledger, leased, START).await;
    }
    until_depth(&ledger, 0).await;
    close(ledger, tasks).await;
}

async fn what_was_damaged_while_it_ran_is_unknown_where_it_may_not_be_repeated(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let once = |number| {
        let new = operation(number, START);
        let policy = Policy { delivery: DeliveryGuarantee::AtMostOnce, ..new.policy.clone() };
        NewOperation { policy, ..new }
    };
    for new in [once(1), operation(2, START), once(3)] {
        ledger.accept(new).await.unwrap();
        claim_one(&ledger, START).await;
    }
    sql(&place, "UPDATE operations SET success = 'abc' WHERE seq < (SELECT max(seq) FROM running)")
        .await;
    let dead = vec![Dead { incarnation: ledger.incarnation(), beat: None }];
    let orphans = ledger.claim_orphans(dead, 9, START).await.unwrap();
    assert_eq!(orphans.iter().map(|it| it.id).collect::<Vec<_>>(), [once(3).id]);
    assert_eq!(code(&ledger, once(1).id).await, "outcome-unknown");
    assert_eq!(code(&ledger, operation(2, START).id).await, "unreadable");
    // The same while an upstream is followed.
    ledger.accept(once(4)).await.unwrap();
    ledger.accept(once(5)).await.unwrap();
    for leased in claimed(&ledger, START).await {
        let monitor = cloakroom_domain::operation::Continuation::monitor("http://up/jobs/1");
        let answer = UpstreamAnswer { monitor: Some(monitor), ..UpstreamAnswer::plain(202) };
        let settlement = outcome_of(leased, &Outcome::Answered(answer), START);
        ledger.settle(settlement).await.unwrap().unwrap();
    }
    let later = START + Duration::from_mins(1);
    sql(&place, "UPDATE waiting SET version = 99999 WHERE seq = (SELECT min(seq) FROM waiting)")
        .await;
    let followed = ledger.claim_waiting(following(9), later, later + HOUR).await.unwrap();
    assert_eq!(followed.iter().map(|it| it.id).collect::<Vec<_>>(), [once(5).id]);
    assert_eq!(code(&ledger, once(4).id).await, "outcome-unknown");
    close(ledger, tasks).await;
}

/// An operation whose body lies in three pieces.
async fn in_pieces(ledger: &Ledger, number: u8, delivery: DeliveryGuarantee) -> NewOperation {
    let new = operation(number, START);
    let Work::Call(request) = &new.work else { panic!("no call") };
    let key = BodyKey(i64::from(number));
    let length = 2 * OperationBody::INLINE_LIMIT as u64 + 1;
    let octets = |length| Bytes::from(vec![number; length]);
    for (number, length) in (0..).zip([OperationBody::INLINE_LIMIT, OperationBody::INLINE_LIMIT, 1])
    {
        ledger.stash(vec![Piece { body: key, number, octets: octets(length) }]).await.unwrap();
    }
    let work =
        Work::Call(Request { body: OperationBody::Chunked { key, length }, ..request.clone() });
    let policy = Policy { delivery, ..new.policy.clone() };
    NewOperation { work, policy, ..new }
}

async fn a_body_whose_pieces_are_gone_is_noticed_before_anything_begins(place: Place) {
    const GONE: [&str; 4] = [
        "DELETE FROM pieces WHERE body = 1",
        "DELETE FROM pieces WHERE body = 2 AND number = 1",
        "DELETE FROM pieces WHERE body = 3 AND number = 2",
        "UPDATE requests SET body_key = 99 WHERE body_key = 4",
    ];
    let (ledger, tasks) = place.open(START).await;
    for (number, gone) in (1..).zip(GONE) {
        let (damaged, whole) = (
            in_pieces(&ledger, number, DeliveryGuarantee::AtMostOnce).await,
            in_pieces(&ledger, number + 10, DeliveryGuarantee::AtMostOnce).await,
        );
        let (damaged_id, whole_id) = (damaged.id, whole.id);
        ledger.accept(damaged).await.unwrap();
        ledger.accept(whole).await.unwrap();
        sql(&place, gone).await;
        let leased = claimed(&ledger, START).await;
        assert_eq!(leased.iter().map(|it| it.id).collect::<Vec<_>>(), [whole_id], "{gone}");
        assert_eq!(code(&ledger, damaged_id).await, "unreadable", "{gone}");
        let ended = ledger.find(damaged_id).await.unwrap().unwrap();
        assert_eq!((ended.counts.attempts, ended.started_at), (0, None), "{gone}");
        for leased in leased {
            finish(&ledger, leased, START).await;
        }
    }
    until_depth(&ledger, 0).await;
    close(ledger, tasks).await;
}

async fn a_body_that_is_gone_after_an_attempt_that_may_have_acted_is_unknown(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let mut ids = Vec::new();
    for (number, delivery) in
        [(1, DeliveryGuarantee::AtMostOnce), (2, DeliveryGuarantee::AtLeastOnce)]
    {
        let mut new = in_pieces(&ledger, number, delivery).await;
        new.policy.recheck = Some(
            cloakroom_domain::operation::Recheck::of_target("/jobs/{idempotency_key}").unwrap(),
        );
        ids.push(new.id);
        ledger.accept(new).await.unwrap();
        claim_one(&ledger, START).await;
    }
    let dead = vec![Dead { incarnation: ledger.incarnation(), beat: None }];
    for leased in ledger.claim_orphans(dead, 9, START).await.unwrap() {
        ledger.settle(outcome_of(leased, &Outcome::Lost, START)).await.unwrap().unwrap();
    }
    sql(&place, "DELETE FROM pieces").await;
    assert!(claimed(&ledger, START + HOUR).await.is_empty());
    assert_eq!(code(&ledger, ids[0]).await, "outcome-unknown");
    assert_eq!(code(&ledger, ids[1]).await, "unreadable");
    close(ledger, tasks).await;
}

async fn a_result_whose_pieces_are_gone_is_an_error_and_no_answer(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    for (number, whole) in [(1, true), (2, false)] {
        ledger.accept(operation(number, START)).await.unwrap();
        let leased = claim_one(&ledger, START).await;
        let (id, key) = (leased.id, BodyKey(i64::from(number)));
        for (number, length) in [(0, OperationBody::INLINE_LIMIT), (1, 9)] {
            let octets = Bytes::from(vec![7; length]);
            ledger.stash(vec![Piece { body: key, number, octets }]).await.unwrap();
        }
        let body = OperationBody::Chunked { key, length: OperationBody::INLINE_LIMIT as u64 + 9 };
        let settlement = Settlement {
            answer: Some(KeptAnswer { body, ..created() }),
            ..outcome_of(leased, &answered(201), START)
        };
        ledger.settle(settlement).await.unwrap().unwrap();
        if !whole {
            sql(&place, "DELETE FROM pieces WHERE body = 2 AND number = 1").await;
        }
        let answer = ledger.answer(id).await;
        assert_eq!(matches!(answer, Ok(Some(_))), whole, "{answer:?}");
        assert_eq!(matches!(answer, Err(LedgerError::Damaged(_))), !whole);
    }
    close(ledger, tasks).await;
}

async fn a_damaged_row_lets_its_serial_key_go(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let behind = |number| NewOperation {
        serial_key: Some(SerialKey { digest: [7; 16], text: "k".into() }),
        ..operation(number, START)
    };
    ledger.accept(behind(1)).await.unwrap();
    ledger.accept(behind(2)).await.unwrap();
    sql(&place, DAMAGES[0]).await;
    assert_eq!(claimed(&ledger, START).await.len(), 1, "the next of the key");
    assert_eq!(code(&ledger, behind(1).id).await, "unreadable");
    close(ledger, tasks).await;
}

async fn a_row_of_a_later_release_is_left_to_a_node_that_knows_its_form(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    ledger.accept(operation(1, START)).await.unwrap();
    ledger.accept(operation(2, START)).await.unwrap();
    sql(&place, "UPDATE operations SET form = 2 WHERE seq = (SELECT min(seq) FROM ready)").await;
    let leased = claimed(&ledger, START).await;
    assert_eq!(leased.iter().map(|it| it.id).collect::<Vec<_>>(), [operation(2, START).id]);
    let later = operation(1, START).id;
    let left = ledger.find(later).await.unwrap().unwrap();
    let OperationState::Queued { due_at } = left.state else { panic!("{left:?}") };
    assert!(due_at > START && due_at <= START + Duration::from_mins(1));
    assert_eq!((left.counts.attempts, left.started_at, left.sequence), (0, None, 1));
    assert_eq!(ledger.events(later, 0, 9).await.unwrap().len(), 1);
    until_depth(&ledger, 1).await;
    // A node that knows the form.
    sql(&place, "UPDATE operations SET form = 1").await;
    let found = claim_one(&ledger, due_at).await;
    assert_eq!((found.id, found.counts.attempts), (later, 1));
    close(ledger, tasks).await;
}

async fn a_task_is_left_to_a_node_that_knows_it(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    ledger.lend_tasks(["known".into()]);
    let task = |number, name: &str| NewOperation {
        work: Work::Task { name: name.into(), arguments: Bytes::new() },
        ..operation(number, START)
    };
    ledger.accept(task(1, "of a later release")).await.unwrap();
    ledger.accept(task(2, "known")).await.unwrap();
    let leased = claimed(&ledger, START).await;
    assert_eq!(leased.iter().map(|it| it.id).collect::<Vec<_>>(), [task(2, "").id]);
    let left = ledger.find(task(1, "").id).await.unwrap().unwrap();
    assert!(matches!(left.state, OperationState::Queued { .. }), "{left:?}");
    assert_eq!((left.counts.attempts, left.started_at), (0, None));
    close(ledger, tasks).await;
    let later = START + Duration::from_mins(1);
    let (ledger, tasks) = place.open(later).await;
    assert_eq!(claim_one(&ledger, later).await.id, task(1, "").id);
    close(ledger, tasks).await;
}

async fn what_is_past_its_deadline_when_its_turn_comes_does_not_begin(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let id = operation(1, START).id;
    ledger.accept(operation(1, START)).await.unwrap();
    let late = START + 24 * HOUR;
    let leased = claim_one(&ledger, late).await;
    assert_eq!(leased.counts.attempts, 0);
    ledger.settle(outcome_of(leased, &Outcome::Expired, late)).await.unwrap().unwrap();
    assert_eq!(code(&ledger, id).await, "deadline-exceeded");
    let ended = ledger.find(id).await.unwrap().unwrap();
    assert_eq!((ended.counts.attempts, ended.started_at), (0, None));
    let events = ledger.events(id, 0, 9).await.unwrap();
    let kinds: Vec<_> = events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::Accepted, EventKind::Failed]);
    close(ledger, tasks).await;
}

/// Damage of a restore: the first operation that is ready has a row in `running` too.
const TWIN: &str = "INSERT INTO running (seq, lane, node, since, attempts, resumes, rescues, refusals, token, sequence) \
     SELECT seq, lane, 1, due_at, 1, 0, 0, 0, 1, 2 FROM ready WHERE seq = (SELECT min(seq) FROM ready)";

async fn an_operation_that_runs_and_lies_in_its_lane_too_holds_up_no_other(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    for number in 1..=3 {
        ledger.accept(operation(number, START)).await.unwrap();
    }
    sql(&place, TWIN).await;
    // One place is asked for, and the first in line is none that may be had.
    let claimed = claim_one(&ledger, START).await;
    assert_eq!(claimed.id, operation(2, START).id);
    until_depth(&ledger, 1).await;
    let twin = ledger.find(operation(1, START).id).await.unwrap().unwrap();
    assert!(matches!(twin.state, OperationState::Running { .. }), "{twin:?}");
    assert_eq!(twin.counts.attempts, 1, "it began once");
    sql(&place, TWIN).await;
    let late = START + 25 * HOUR;
    let overdue = ledger.overdue(&lane(false), LanePlace::START, 9, late).await.unwrap();
    assert_eq!(overdue.seqs.len(), 1);
    assert!(ledger.claim_expired(lane(false), overdue, late).await.unwrap().is_empty());
    until_depth(&ledger, 0).await;
    let overdue = ledger.overdue(&lane(false), LanePlace::START, 9, late).await.unwrap();
    assert_eq!(overdue.seqs.len(), 0, "its row in the lane is gone");
    close(ledger, tasks).await;
}

async fn an_attempt_whose_operation_lies_in_its_lane_too_is_settled(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let policy = Policy { delivery: DeliveryGuarantee::AtLeastOnce, ..operation(1, START).policy };
    ledger.accept(NewOperation { policy, ..operation(1, START) }).await.unwrap();
    let leased = claim_one(&ledger, START).await;
    sql(
        &place,
        "INSERT INTO ready (seq, lane, due_at, attempts, resumes, rescues, refusals, token, sequence) \
         SELECT seq, lane, 5, 0, 0, 0, 0, 0, 1 FROM running",
    )
    .await;
    // It is to be tried again.
    let settled = ledger.settle(outcome_of(leased, &answered(503), START)).await.unwrap();
    assert!(settled.is_ok(), "{settled:?}");
    let again = ledger.find(operation(1, START).id).await.unwrap().unwrap();
    assert_eq!(again.counts.attempts, 1);
    let OperationState::Queued { due_at } = again.state else { panic!("{again:?}") };
    assert!(due_at > START);
    assert_eq!(claim_one(&ledger, due_at).await.counts.attempts, 2);
    close(ledger, tasks).await;
}

async fn those_of_a_dead_node_that_cannot_be_read_do_not_end_its_takeover(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    for number in 1..=4 {
        ledger.accept(operation(number, START)).await.unwrap();
        claim_one(&ledger, START).await;
    }
    sql(&place, "UPDATE operations SET success = 'abc' WHERE seq < (SELECT max(seq) FROM running)")
        .await;
    let (other, more_tasks) = match &place {
        Place::File(_) => (None, None),
        Place::Database(_) => {
            let (other, tasks) = place.open(START).await;
            (Some(other), Some(tasks))
        }
    };
    let taker = other.as_ref().unwrap_or(&ledger);
    let dead = vec![Dead { incarnation: ledger.incarnation(), beat: None }];
    let orphans = taker.claim_orphans(dead, 1, START).await.unwrap();
    assert_eq!(orphans.iter().map(|it| it.id).collect::<Vec<_>>(), [operation(4, START).id]);
    for number in 1..=3 {
        assert_eq!(code(&ledger, operation(number, START).id).await, "unreadable");
    }
    if let (Some(other), Some(tasks)) = (other, more_tasks) {
        close(other, tasks).await;
    }
    close(ledger, tasks).await;
}

/// A page of operations, a tree and a timeline.
async fn a_list_goes_on_behind_a_row_that_cannot_be_read(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let at = |number: u8| START + Duration::from_secs(number.into());
    let new = |number: u8| NewOperation {
        parent: (number > 1).then(|| operation(1, at(1)).id),
        due_at: START + HOUR,
        ..operation(number, at(number))
    };
    let ids: Vec<_> = (1..=4).map(|number| new(number).id).collect();
    for number in 1..=4 {
        ledger.accept(new(number)).await.unwrap();
    }
    sql(&place, "UPDATE ready SET percent = 999 WHERE seq = 3").await;
    let page = async |before| {
        let page = ledger.list(&Listing { before, limit: 2, ..Listing::default() }).await.unwrap();
        (page.operations.iter().map(|it| it.id).collect::<Vec<_>>(), page.next)
    };
    assert_eq!(page(None).await, (vec![ids[3]], Some(ids[2])));
    assert_eq!(page(Some(ids[2])).await, (vec![ids[1], ids[0]], Some(ids[0])));
    let tree = ledger.descendants(ids[0], 9).await.unwrap();
    assert_eq!(tree.iter().map(|it| it.id).collect::<Vec<_>>(), [ids[1], ids[3]]);
    let leased = claim_one(&ledger, START + HOUR).await;
    let id = leased.id;
    finish(&ledger, leased, START + HOUR).await;
    sql(&place, "UPDATE events SET kind = 'nonsense' WHERE sequence = 2").await;
    let timeline = async |after| {
        let events = ledger.events(id, after, 2).await.unwrap();
        (events.iter().map(|it| it.sequence).collect::<Vec<_>>(), events.next())
    };
    assert_eq!(timeline(0).await, (vec![1], Some(2)));
    assert_eq!(timeline(2).await, (vec![3], None));
    close(ledger, tasks).await;
}

/// Only SQLite stores in a column what is not of its type.
#[tokio::test]
async fn a_list_of_keys_goes_on_behind_one_that_cannot_be_read() {
    let place = Place::sqlite();
    let (ledger, tasks) = place.open(START).await;
    for number in 1..=3 {
        let key = SerialKey { digest: [number; 16], text: "customer".into() };
        let new = NewOperation { serial_key: Some(key), ..operation(number, START) };
        ledger.accept(new).await.unwrap();
    }
    sql(&place, "UPDATE operations SET serial_key = x'ff' WHERE seq = 2").await;
    let page = async |after| {
        let listing = KeyListing { blocked: false, after, limit: 2 };
        let keys = ledger.keys(listing).await.unwrap();
        (keys.iter().map(|it| it.name).collect::<Vec<_>>(), keys.next())
    };
    let name = |number| SerialName([number; 16]);
    assert_eq!(page(None).await, (vec![name(1)], Some(name(2))));
    assert_eq!(page(Some(name(2))).await, (vec![name(3)], None));
    close(ledger, tasks).await;
}

/// A claim that is alone has committed by the time that it is read.
#[tokio::test]
async fn a_damaged_row_whose_end_fails_is_not_claimed_again_and_ends_with_a_beat() {
    let place = Place::postgres();
    let (ledger, tasks) = place.open(START).await;
    for number in [1, 2] {
        ledger.accept(operation(number, START)).await.unwrap();
    }
    ledger.beat(vitals()).await.unwrap();
    sql(&place, DAMAGES[0]).await;
    sql(
        &place,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$; \
         CREATE TRIGGER refuse BEFORE INSERT ON outcomes FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    .await;
    let wants = vec![Want { lane: lane(false), limit: 9 }];
    assert!(ledger.claim(wants, START).await.is_err());
    for _ in 0..2 {
        assert!(claimed(&ledger, START).await.is_empty());
    }
    sql(&place, "DROP TRIGGER refuse ON outcomes").await;
    let held = ledger.beat(vitals()).await.unwrap().held;
    assert_eq!(held.len(), 2);
    let keys = held.iter().map(|it| it.key).collect();
    let leased = ledger.reclaim(keys, false, START).await.unwrap();
    assert_eq!(leased.iter().map(|it| it.id).collect::<Vec<_>>(), [operation(2, START).id]);
    assert_eq!(code(&ledger, operation(1, START).id).await, "unreadable");
    close(ledger, tasks).await;
}

macro_rules! on {
    ($engine:ident) => {
        suite_of!($engine:
            a_damaged_row_ends_and_holds_up_no_other,
            a_token_that_has_no_next_one_holds_up_nothing,
            what_was_damaged_while_it_ran_is_unknown_where_it_may_not_be_repeated,
            a_body_whose_pieces_are_gone_is_noticed_before_anything_begins,
            a_body_that_is_gone_after_an_attempt_that_may_have_acted_is_unknown,
            a_result_whose_pieces_are_gone_is_an_error_and_no_answer,
            a_damaged_row_lets_its_serial_key_go,
            a_list_goes_on_behind_a_row_that_cannot_be_read,
            a_row_of_a_later_release_is_left_to_a_node_that_knows_its_form,
            a_task_is_left_to_a_node_that_knows_it,
            what_is_past_its_deadline_when_its_turn_comes_does_not_begin,
            an_operation_that_runs_and_lies_in_its_lane_too_holds_up_no_other,
            an_attempt_whose_operation_lies_in_its_lane_too_is_settled,
            those_of_a_dead_node_that_cannot_be_read_do_not_end_its_takeover,
        );
    };
}

on!(sqlite);
on!(postgres);
