//! A ledger behind a pooler that lends another session for each transaction.

use futures_util::future::join_all;

use super::cluster::{PgBouncer, cluster};
use super::*;

/// How many use the ledger at once, and how often each.
const TASKS: u32 = 16;
const ROUNDS: u32 = 12;

fn behind(bouncer: &PgBouncer, place: &Place, with_direct_url: bool) -> Opening {
    let Location::Postgres(direct) = place.location() else { panic!("no database") };
    let url = bouncer.url(direct.url.secret()).parse().unwrap();
    let server = Server {
        url,
        direct_url: with_direct_url.then_some(direct.url),
        pooler: Pooler::Transaction,
        pool: TASKS,
        patience: Duration::ZERO,
    };
    Opening { location: Location::Postgres(server), ..place.opening() }
}

/// An operation that differs from every other one in all that can be read of it.
fn different(number: u32) -> NewOperation {
    let mut octets = [0; 10];
    octets[6..].copy_from_slice(&number.to_be_bytes());
    let new = operation(1, START);
    let Work::Call(request) = new.work.clone() else { panic!("no call") };
    let request = Request {
        target: format!("/orders/{number}"),
        body: OperationBody::Inline(Bytes::from(format!("body {number}"))),
        ..request
    };
    NewOperation {
        id: OperationId::new(START, 1, octets),
        work: Work::Call(request),
        upstream_key: Some(format!("key {number}")),
        tags: vec![format!("tag {number}")],
        client_reference: Some(format!("reference {number}")),
        callback: None,
        max_depth: 100_000,
        ..new
    }
}

/// Whatever a client and a worker may do with one operation, every value checked.
async fn live(ledger: &Ledger, number: u32) {
    let new = different(number);
    let (id, work) = (new.id, new.work.clone());
    let key = BodyKey(i64::from(number));
    let octets = Bytes::from(format!("piece {number}"));
    ledger.stash(vec![Piece { body: key, number: 0, octets: octets.clone() }]).await.unwrap();
    assert_eq!(ledger.accept(new.clone()).await.unwrap(), Accepted::New(id));
    let found = ledger.find(id).await.unwrap().unwrap();
    assert_eq!((found.id, found.client_reference), (id, new.client_reference.clone()));
    assert_eq!(found.tags, new.tags);
    let promised = ledger.promised(id).await.unwrap().unwrap();
    let (Work::Call(kept), Work::Call(sent)) = (promised.work, work) else { panic!("no call") };
    assert_eq!((kept.body, kept.target), (sent.body.clone(), sent.target.clone()));
    assert_eq!(promised.upstream_key, new.upstream_key);
    assert_eq!(ledger.piece(key, 0).await.unwrap(), Some(octets));
    let tagged = Listing { tag: Some(new.tags[0].clone()), limit: 9, ..Listing::default() };
    let listed = ledger.list(&tagged).await.unwrap().operations;
    assert_eq!(listed.iter().map(|it| it.id).collect::<Vec<_>>(), [id]);
    let leased = claim_one(ledger, START).await;
    let of = leased.id;
    let Work::Call(call) = &leased.work else { panic!("no call") };
    let OperationBody::Inline(body) = &call.body else { panic!("in pieces") };
    let told = call.target.rsplit('/').next().unwrap().to_owned();
    assert_eq!(body, &Bytes::from(format!("body {told}")));
    let made = KeptAnswer { body: OperationBody::Inline(body.clone()), ..created() };
    let settlement =
        Settlement { answer: Some(made.clone()), ..outcome_of(leased, &answered(201), START) };
    assert_eq!(ledger.settle(settlement).await.unwrap(), Ok(Status::Succeeded));
    assert_eq!(ledger.answer(of).await.unwrap(), Some(made));
    let kinds: Vec<_> = ledger.events(of, 0, 9).await.unwrap().iter().map(|it| it.kind).collect();
    assert_eq!(kinds, [EventKind::Accepted, EventKind::Started, EventKind::Succeeded]);
    ledger.discard(key).await.unwrap();
    assert_eq!(ledger.piece(key, 0).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_tasks_on_three_sessions_each_get_their_own_values() {
    let (bouncer, place) = (PgBouncer::before(cluster(), 3), Place::postgres());
    let tasks = Tasks::new();
    let opening = behind(&bouncer, &place, true);
    let ledger = Ledger::open(opening, &Clock::manual(START), &tasks).await.unwrap();
    let all = (0..TASKS).map(|task| {
        let ledger = ledger.clone();
        tasks.spawn(async move {
            for round in 0..ROUNDS {
                live(&ledger, task * ROUNDS + round + 1).await;
            }
        })
    });
    for ended in join_all(all).await {
        ended.unwrap();
    }
    close(ledger, tasks).await;
}

#[tokio::test]
async fn without_a_way_past_the_pooler_nodes_find_out_by_looking() {
    let (bouncer, place) = (PgBouncer::before(cluster(), 3), Place::postgres());
    // Migrations go past the pooler; who serves need not.
    let (direct, direct_tasks) = place.open(START).await;
    let tasks = Tasks::new();
    let opening = Opening { migrate: false, ..behind(&bouncer, &place, false) };
    let ledger = Ledger::open(opening, &Clock::manual(START), &tasks).await.unwrap();
    let id = operation(1, START).id;
    ledger.accept(operation(1, START)).await.unwrap();
    let mut watch = ledger.watch(id);
    let leased = claim_one(&direct, START).await;
    finish(&direct, leased, START).await;
    while state(&ledger, id).await != (OperationState::Succeeded { at: START }) {
        watch.changed().await;
    }
    direct.accept(operation(2, START)).await.unwrap();
    while ledger.lanes().iter().all(|lane| lane.oldest_due.is_none()) {
        ledger.work_came().await;
    }
    close(direct, direct_tasks).await;
    close(ledger, tasks).await;
}
