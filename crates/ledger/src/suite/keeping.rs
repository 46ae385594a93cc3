//! The retention of operations, their results and bodies.

use super::reconciling::meddle;
use super::*;
use cloakroom_domain::pruning::Portion;
use cloakroom_domain::reconcile::Discrepancy;

async fn results_are_freed_first_and_operations_later_with_their_keys_and_tags(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let new = NewOperation {
        tags: vec!["a:\"1".into(), "b".into()],
        ..with_key(1, 3, 3, KeyScope::Retained)
    };
    let id = new.id;
    let Work::Call(request) = &new.work else { panic!("no call") };
    let key = BodyKey(77);
    let chunked = Request { body: OperationBody::Chunked { key, length: 4 }, ..request.clone() };
    let piece = Piece { body: key, number: 0, octets: Bytes::from_static(b"body") };
    ledger.stash(vec![piece]).await.unwrap();
    ledger.accept(NewOperation { work: Work::Call(chunked), ..new }).await.unwrap();
    let leased = claim_one(&ledger, START).await;
    finish(&ledger, leased, START).await;
    let tagged = Listing { tag: Some("a:\"1".into()), limit: 9, ..Listing::default() };
    assert_eq!(ledger.list(&tagged).await.unwrap().operations.len(), 1);
    assert_eq!(ledger.prune(9, START).await.unwrap(), Pruned::default());
    assert!(ledger.piece(key, 0).await.unwrap().is_some());
    let freed = ledger.prune(9, START + HOUR).await.unwrap();
    assert_eq!(freed, Pruned { results: 1, ..Pruned::default() });
    assert!(ledger.answer(id).await.unwrap().is_none());
    assert!(ledger.piece(key, 0).await.unwrap().is_none());
    assert!(ledger.find(id).await.unwrap().unwrap().freed_at.is_some());
    let repeat = ledger.accept(with_key(2, 3, 3, KeyScope::Retained)).await.unwrap();
    assert_eq!(repeat, Accepted::Replayed(id));
    let gone = ledger.prune(9, START + 7 * HOUR).await.unwrap();
    assert_eq!(gone, Pruned { operations: 1, ..Pruned::default() });
    assert!(ledger.find(id).await.unwrap().is_none());
    assert!(ledger.list(&tagged).await.unwrap().operations.is_empty());
    let anew = with_key(3, 3, 4, KeyScope::Retained);
    assert_eq!(ledger.accept(anew.clone()).await.unwrap(), Accepted::New(anew.id));
    close(ledger, tasks).await;
}

async fn operations_whose_own_time_has_come_go_with_their_results(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let new = |number: u8| NewOperation {
        tags: vec!["a".into()],
        ..with_key(number, number, number, KeyScope::Retained)
    };
    let mut ids = Vec::new();
    for number in 1..=5 {
        let new = new(number);
        ids.push(new.id);
        ledger.accept(new).await.unwrap();
        let leased = claim_one(&ledger, START).await;
        // The third is at work for as long as the others are over.
        if number != 3 {
            finish(&ledger, leased, START).await;
        }
    }
    let gone = ledger.prune(9, START + 7 * HOUR).await.unwrap();
    assert_eq!(gone, Pruned { operations: 4, ..Pruned::default() });
    assert_eq!(ledger.prune(9, START + 7 * HOUR).await.unwrap(), Pruned::default());
    for (index, id) in ids.iter().enumerate() {
        let found = ledger.find(*id).await.unwrap();
        assert_eq!(found.is_some(), index == 2, "{index}");
        assert!(ledger.answer(*id).await.unwrap().is_none());
    }
    let tagged = Listing { tag: Some("a".into()), limit: 9, ..Listing::default() };
    assert_eq!(ledger.list(&tagged).await.unwrap().operations.len(), 1);
    for number in 1..=5 {
        let again = with_key(number + 10, number, number, KeyScope::Retained);
        let accepted = ledger.accept(again.clone()).await.unwrap();
        let expected =
            if number == 3 { Accepted::Replayed(ids[2]) } else { Accepted::New(again.id) };
        assert_eq!(accepted, expected);
    }
    close(ledger, tasks).await;
}

async fn freeing_by_hand_is_for_what_has_ended_and_counts_as_the_expiry(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    ledger.accept(operation(1, START)).await.unwrap();
    let leased = claim_one(&ledger, START).await;
    let id = leased.id;
    assert!(!ledger.free(id, START).await.unwrap());
    finish(&ledger, leased, START).await;
    assert!(ledger.free(id, START).await.unwrap());
    assert!(ledger.free(id, START).await.unwrap());
    assert_eq!(ledger.prune(9, START + HOUR).await.unwrap(), Pruned::default());
    assert_eq!(
        ledger.prune(9, START + 7 * HOUR).await.unwrap(),
        Pruned { operations: 1, ..Pruned::default() }
    );
    close(ledger, tasks).await;
}

/// One of an operation that runs, one of an operation that is not there.
async fn a_stray_expiry_frees_nothing_and_stops_no_pruning(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    for number in [1, 2] {
        ledger.accept(operation(number, START)).await.unwrap();
    }
    let (ended, runs) = (claim_one(&ledger, START).await, claim_one(&ledger, START).await);
    let early = START.as_micros();
    for (kind, seq) in [("result", runs.lease.key().seq), ("operation", 99_999)] {
        let stray =
            format!("INSERT INTO expiries (due_at, seq, kind) VALUES ({early}, {seq}, '{kind}')");
        meddle(&place, &stray).await;
    }
    finish(&ledger, ended, START).await;
    let pruned = ledger.prune(9, START + HOUR).await.unwrap();
    assert_eq!(pruned, Pruned { results: 1, kept: 2, ..Pruned::default() });
    assert_eq!(ledger.prune(9, START + HOUR).await.unwrap(), Pruned::default());
    // Its request is still there.
    assert!(ledger.promised(runs.id).await.unwrap().is_some());
    finish(&ledger, runs, START).await;
    close(ledger, tasks).await;
}

async fn a_key_that_stands_for_no_operation_is_free(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    ledger.accept(with_key(1, 9, 5, KeyScope::Retained)).await.unwrap();
    meddle(&place, "UPDATE idempotency_keys SET seq = 99999").await;
    let again = with_key(2, 9, 6, KeyScope::Retained);
    assert_eq!(ledger.accept(again.clone()).await.unwrap(), Accepted::New(again.id));
    let repeat = ledger.accept(with_key(3, 9, 6, KeyScope::Retained)).await.unwrap();
    assert_eq!(repeat, Accepted::Replayed(again.id));
    close(ledger, tasks).await;
}

async fn pieces_that_nothing_refers_to_go_when_discarded(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let piece =
        |body| Piece { body: BodyKey(body), number: 0, octets: Bytes::from_static(b"body") };
    ledger.stash(vec![piece(1), piece(2)]).await.unwrap();
    ledger.discard(BodyKey(1)).await.unwrap();
    assert!(ledger.piece(BodyKey(1), 0).await.unwrap().is_none());
    assert!(ledger.piece(BodyKey(2), 0).await.unwrap().is_some());
    close(ledger, tasks).await;
}

/// A caller that was told an error at a COMMIT takes the body for one that nothing needs.
async fn pieces_that_a_row_refers_to_survive_a_discard(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let (request, answer) = (BodyKey(1), BodyKey(2));
    ledger.accept(in_pieces(&ledger, operation(1, START), request).await).await.unwrap();
    let leased = claim_one(&ledger, START).await;
    let piece = Piece { body: answer, number: 0, octets: Bytes::from_static(b"made") };
    ledger.stash(vec![piece]).await.unwrap();
    let mut settlement = outcome_of(leased, &answered(201), START);
    settlement.answer =
        Some(KeptAnswer { body: OperationBody::Chunked { key: answer, length: 4 }, ..created() });
    ledger.settle(settlement.clone()).await.unwrap().unwrap();
    assert!(ledger.settle(settlement).await.unwrap().is_err());
    for key in [request, answer] {
        ledger.discard(key).await.unwrap();
        assert!(ledger.piece(key, 0).await.unwrap().is_some(), "{key:?}");
    }
    close(ledger, tasks).await;
}

/// What is too large to go at once is left to later prunes only where nothing refers to it.
async fn a_large_body_that_a_row_refers_to_survives_a_discard(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let (request, answer) = (BodyKey(7), BodyKey(1));
    end_with_pieces(&ledger, 1, 20).await;
    let piece =
        |number| Piece { body: request, number, octets: Bytes::from_static(b"more of the body") };
    ledger.stash((1..20).map(piece).collect()).await.unwrap();
    ledger.accept(in_pieces(&ledger, operation(2, START), request).await).await.unwrap();
    for key in [request, answer] {
        ledger.discard(key).await.unwrap();
        assert_eq!(ledger.prune(9, START).await.unwrap(), Pruned::default(), "{key:?}");
        for number in [0, 16, 19] {
            assert!(ledger.piece(key, number).await.unwrap().is_some(), "{key:?} {number}");
        }
    }
    close(ledger, tasks).await;
}

/// Clients hang up between the pieces of an upload and the acceptance.
async fn pieces_that_this_node_abandoned_are_found_and_go(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let (used, abandoned) = (BodyKey(1), BodyKey(-2));
    ledger.accept(in_pieces(&ledger, operation(1, START), used).await).await.unwrap();
    let leased = claim_one(&ledger, START).await;
    in_pieces(&ledger, operation(2, START), abandoned).await;
    let unused = async |now| {
        let report = ledger.reconcile(true, now).await.unwrap();
        let kinds = report.findings.iter().map(|finding| (finding.kind, finding.count));
        kinds.filter(|(kind, _)| *kind == Discrepancy::UnusedPieces).collect::<Vec<_>>()
    };
    assert_eq!(unused(START).await, []);
    // An attempt runs that began before: they may be of its answer.
    assert_eq!(unused(START + 2 * HOUR).await, []);
    finish(&ledger, leased, START).await;
    assert_eq!(unused(START + 2 * HOUR).await, [(Discrepancy::UnusedPieces, 1)]);
    assert!(ledger.piece(abandoned, 0).await.unwrap().is_none());
    assert!(ledger.piece(used, 0).await.unwrap().is_some());
    close(ledger, tasks).await;
}

/// Ends an operation with an answer of so many pieces.
async fn end_with_pieces(ledger: &Ledger, number: u8, pieces: u32) -> OperationId {
    let id = ledger.accept(operation(number, START)).await.unwrap();
    let Accepted::New(id) = id else { panic!("{id:?}") };
    let key = BodyKey(i64::from(number));
    let octets = Bytes::from_static(b"piece");
    let piece = |number| Piece { body: key, number, octets: octets.clone() };
    ledger.stash((0..pieces).map(piece).collect()).await.unwrap();
    let mut settlement = outcome_of(claim_one(ledger, START).await, &answered(201), START);
    let length = u64::from(pieces) * OperationBody::INLINE_LIMIT as u64;
    settlement.answer =
        Some(KeptAnswer { body: OperationBody::Chunked { key, length }, ..created() });
    ledger.settle(settlement).await.unwrap().unwrap();
    id
}

async fn a_prune_has_an_end_in_octets_and_large_bodies_go_piece_by_piece(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let large = end_with_pieces(&ledger, 1, 20).await;
    for number in [2, 3] {
        end_with_pieces(&ledger, number, 12).await;
    }
    let left = async |body, number| ledger.piece(BodyKey(body), number).await.unwrap().is_some();
    let freed = async |portion: Portion| ledger.prune(portion, START + HOUR).await.unwrap();
    let one = Pruned { results: 1, ..Pruned::default() };
    assert_eq!(freed(Portion::default()).await, one);
    assert_eq!(ledger.answer(large).await.unwrap(), None);
    assert_eq!((left(1, 15).await, left(1, 16).await, left(1, 19).await), (false, true, true));
    let tiny = Portion { rows: 1, octets: 1 };
    assert_eq!(freed(tiny).await, Pruned { pieces: 1, ..Pruned::default() });
    assert_eq!(freed(Portion::default()).await, Pruned { pieces: 3, ..Pruned::default() });
    assert!(!left(1, 16).await && !left(1, 19).await && left(2, 0).await);
    // Both together would be more than goes at once, and one goes however little may.
    assert_eq!(freed(Portion::default()).await, one);
    assert_eq!(freed(tiny).await, one);
    assert!(!left(2, 0).await && !left(3, 11).await);
    assert_eq!(freed(Portion::default()).await, Pruned::default());
    close(ledger, tasks).await;
}

async fn a_prune_has_an_end_in_operations(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    for number in 1..=3 {
        ledger.accept(operation(number, START)).await.unwrap();
        let leased = claim_one(&ledger, START).await;
        finish(&ledger, leased, START).await;
    }
    for results in [2, 1, 0] {
        let pruned = ledger.prune(2, START + 2 * HOUR).await.unwrap();
        assert_eq!(pruned, Pruned { results, ..Pruned::default() });
    }
    close(ledger, tasks).await;
}

async fn a_timeline_counts_for_the_octets_of_a_prune(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    for number in 1..=2 {
        ledger.accept(operation(number, START)).await.unwrap();
        let leased = claim_one(&ledger, START).await;
        finish(&ledger, leased, START).await;
    }
    ledger.prune(9, START + HOUR).await.unwrap();
    let one = Portion { rows: 9, octets: 256 };
    for operations in [1, 1, 0] {
        let pruned = ledger.prune(one, START + 7 * HOUR).await.unwrap();
        assert_eq!(pruned, Pruned { operations, ..Pruned::default() });
    }
    close(ledger, tasks).await;
}

/// How many rows these tables have together.
async fn rows_in(place: &Place, tables: &[&str]) -> i64 {
    let counts = tables.iter().map(|table| format!("(SELECT count(*) FROM {table})"));
    let sql = format!("SELECT {}", counts.collect::<Vec<_>>().join(" + "));
    let query = sqlx::AssertSqlSafe(sql);
    match place {
        Place::File(folder) => {
            let path = format!("sqlite:{}/cloakroom.db", folder.path().display());
            let mut file = sqlx::sqlite::SqliteConnection::connect(&path).await.unwrap();
            let rows = sqlx::query_scalar(query).fetch_one(&mut file).await.unwrap();
            file.close().await.unwrap();
            rows
        }
        Place::Database(url) => {
            let mut database = sqlx::postgres::PgConnection::connect(url).await.unwrap();
            sqlx::query_scalar(query).fetch_one(&mut database).await.unwrap()
        }
    }
}

async fn nothing_is_left_of_an_operation_that_is_over(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let new = with_key(1, 1, 1, KeyScope::Retained);
    let new = NewOperation { tags: vec!["a".into(), "b".into()], ..new };
    ledger.accept(in_pieces(&ledger, new, BodyKey(7)).await).await.unwrap();
    let leased = claim_one(&ledger, START).await;
    finish(&ledger, leased, START).await;
    let own = ["tags", "idempotency_keys", "requests", "results", "pieces"];
    let others = ["credentials", "events", "verdicts", "expiries", "outcomes", "operations"];
    let all = [&own[..], &others[..]].concat();
    assert!(rows_in(&place, &own).await >= 6);
    ledger.prune(9, START + 7 * HOUR).await.unwrap();
    assert_eq!(rows_in(&place, &all).await, 0);
    close(ledger, tasks).await;
}

async fn a_place_is_not_handed_out_again_when_all_that_named_it_is_gone(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    ledger.accept(operation(1, START)).await.unwrap();
    let first = claim_one(&ledger, START).await;
    let before = first.lease.seq;
    finish(&ledger, first, START).await;
    ledger.prune(9, START + 7 * HOUR).await.unwrap();
    assert_eq!(rows_in(&place, &["operations"]).await, 0);
    close(ledger, tasks).await;
    let (ledger, tasks) = place.open(START).await;
    ledger.accept(operation(2, START)).await.unwrap();
    assert!(claim_one(&ledger, START).await.lease.seq > before);
    close(ledger, tasks).await;
}

/// The odd octets and characters that fields, bodies and texts may have.
async fn what_is_odd_comes_back_as_it_was(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let mut fields = Fields::new();
    for odd in [&[0x80, 0xff, b'"', b'\\', b'{', b'}', b'\'', b','][..], b"", b"NULL", b"$1"] {
        fields.as_map_mut().append("x-odd", http::HeaderValue::from_bytes(odd).unwrap());
    }
    let every_octet: Vec<u8> = (0..=255).cycle().take(1000).collect();
    let mut ids = Vec::new();
    for (number, body) in [every_octet, Vec::new(), b"\\x00{NULL}".to_vec()].into_iter().enumerate()
    {
        let new = operation(number as u8 + 1, START);
        let Work::Call(request) = new.work.clone() else { panic!("no call") };
        let request = Request {
            target: "/o'rders/%00?x={\"a\",NULL}&y=\\".into(),
            fields: fields.clone(),
            body: OperationBody::Inline(body.into()),
            ..request
        };
        let new = NewOperation {
            work: Work::Call(request),
            upstream_key: Some("k\"ey, {NULL} 'ü€😀".into()),
            tags: vec!["NULL".into(), "{a,b}".into(), "ü 'x' \\".into()],
            client_reference: Some(String::new()),
            ..new
        };
        ids.push((new.id, new.work.clone(), new.tags.clone(), new.upstream_key.clone()));
        ledger.accept(new).await.unwrap();
    }
    for (id, work, tags, key) in ids {
        let leased = claim_one(&ledger, START).await;
        assert_eq!((leased.id, &leased.work, &leased.upstream_key), (id, &work, &key));
        let found = ledger.find(id).await.unwrap().unwrap();
        assert_eq!((found.tags, found.client_reference.as_deref()), (tags, Some("")));
        let Work::Call(request) = work else { panic!("no call") };
        let answer = KeptAnswer {
            status: 200,
            fields: request.fields,
            body: request.body,
            framing: None,
            created_location: Some("/ü?'".into()),
        };
        let settlement = Settlement {
            answer: Some(answer.clone()),
            ..outcome_of(leased, &answered(200), START)
        };
        ledger.settle(settlement).await.unwrap().unwrap();
        assert_eq!(ledger.answer(id).await.unwrap(), Some(answer));
    }
    close(ledger, tasks).await;
}

/// An operation whose body is one piece under that name.
async fn in_pieces(ledger: &Ledger, operation: NewOperation, key: BodyKey) -> NewOperation {
    let piece = Piece { body: key, number: 0, octets: Bytes::from_static(b"body") };
    ledger.stash(vec![piece]).await.unwrap();
    let Work::Call(request) = operation.work.clone() else { panic!("no call") };
    let work = Work::Call(Request { body: OperationBody::Chunked { key, length: 4 }, ..request });
    NewOperation { work, ..operation }
}

async fn no_piece_of_a_body_outlives_what_it_was_for(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let (request, repeat, refused, answer) = (BodyKey(1), BodyKey(2), BodyKey(3), BodyKey(4));
    let first = in_pieces(&ledger, with_key(1, 9, 9, KeyScope::Retained), request).await;
    let id = first.id;
    ledger.accept(first).await.unwrap();
    let again = in_pieces(&ledger, with_key(2, 9, 9, KeyScope::Retained), repeat).await;
    assert_eq!(ledger.accept(again).await.unwrap(), Accepted::Replayed(id));
    let full =
        in_pieces(&ledger, NewOperation { max_depth: 1, ..operation(3, START) }, refused).await;
    assert_eq!(ledger.accept(full).await.unwrap(), Accepted::QueueFull { depth: 1 });
    let left = async |key| ledger.piece(key, 0).await.unwrap().is_some();
    assert_eq!(
        (left(request).await, left(repeat).await, left(refused).await),
        (true, false, false)
    );
    let leased = claim_one(&ledger, START).await;
    ledger.cancel(id, Freeing::Free, START).await.unwrap();
    let piece = Piece { body: answer, number: 0, octets: Bytes::from_static(b"made") };
    ledger.stash(vec![piece]).await.unwrap();
    let mut settlement = outcome_of(leased, &answered(201), START);
    settlement.answer =
        Some(KeptAnswer { body: OperationBody::Chunked { key: answer, length: 4 }, ..created() });
    ledger.settle(settlement).await.unwrap().unwrap();
    assert_eq!((left(request).await, left(answer).await), (false, false));
    close(ledger, tasks).await;
}

async fn one_bad_row_fails_alone_and_not_the_batch_that_it_came_in(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let mut batch: Vec<_> = (1..=40).map(|number| operation(number, START)).collect();
    // The same id twice breaks a constraint of the schema.
    batch[17].id = batch[3].id;
    let fates =
        futures_util::future::join_all(batch.into_iter().map(|operation| ledger.accept(operation)))
            .await;
    let failed: Vec<_> =
        (0..).zip(&fates).filter(|(_, fate)| fate.is_err()).map(|(place, _)| place).collect();
    // Where several commit at once, either of the two may be the second.
    assert!(failed == [17] || failed == [3], "{failed:?}");
    assert_eq!(ledger.lanes().iter().map(|lane| lane.depth).sum::<u64>(), 39);
    close(ledger, tasks).await;
}

macro_rules! on {
    ($engine:ident) => {
        suite_of!($engine:
            results_are_freed_first_and_operations_later_with_their_keys_and_tags,
            operations_whose_own_time_has_come_go_with_their_results,
            freeing_by_hand_is_for_what_has_ended_and_counts_as_the_expiry,
            pieces_that_nothing_refers_to_go_when_discarded,
            a_stray_expiry_frees_nothing_and_stops_no_pruning,
            a_key_that_stands_for_no_operation_is_free,
            pieces_that_a_row_refers_to_survive_a_discard,
            a_large_body_that_a_row_refers_to_survives_a_discard,
            a_prune_has_an_end_in_operations,
            a_timeline_counts_for_the_octets_of_a_prune,
            nothing_is_left_of_an_operation_that_is_over,
            a_place_is_not_handed_out_again_when_all_that_named_it_is_gone,
            a_prune_has_an_end_in_octets_and_large_bodies_go_piece_by_piece,
            pieces_that_this_node_abandoned_are_found_and_go,
            what_is_odd_comes_back_as_it_was,
            no_piece_of_a_body_outlives_what_it_was_for,
            one_bad_row_fails_alone_and_not_the_batch_that_it_came_in,
        );
    };
}

on!(sqlite);
on!(postgres);
