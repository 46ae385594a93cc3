//! The readable parts of requests, answers and messages in a ledger.

use std::collections::BTreeSet;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};

use super::*;
use cloakroom_domain::operation::{Continuation, ResponseFraming};
use cloakroom_domain::sealing::SealingKey;
use cloakroom_domain::webhooks::{Topic, Topics};

/// What is put into every value that is to be sealed.
const CANARIES: [&str; 15] = [
    "canary-query",
    "canary-field",
    "canary-credentials",
    "canary-body",
    "canary-key",
    "canary-callback",
    "canary-piece",
    "canary-progress",
    "canary-monitor",
    "canary-answer-field",
    "canary-answer-body",
    "canary-created",
    "canary-message",
    "canary-location",
    "canary-note",
];

/// Words each message with its canary.
struct Words;

impl MessageRenderer for Words {
    fn about_operation(
        &self,
        _: Topic,
        operation: &Operation,
        sequence: u32,
        _: Timestamp,
        _: Option<&str>,
    ) -> Message {
        let name = format!("msg_{}_{sequence}", operation.id);
        Message { name, body: Bytes::from_static(b"{\"says\":\"canary-message\"}") }
    }

    fn about_subscription(
        &self,
        topic: Topic,
        _: &Subscription,
        _: Option<&str>,
        at: Timestamp,
    ) -> Message {
        Message { name: format!("msg_{topic}_{}", at.as_micros()), body: Bytes::new() }
    }
}

fn key(octet: u8) -> SealingKey {
    SealingKey::new([octet; 32])
}

fn keys(current: Option<u8>, previous: &[u8]) -> Keyring {
    Keyring::new(current.map(key), previous.iter().map(|octet| key(*octet)).collect())
}

async fn opened(place: &Place, keyring: Keyring) -> (Ledger, Tasks) {
    let tasks = Tasks::new();
    let opening = Opening { keyring, ..place.opening() };
    let ledger = Ledger::open(opening, &Clock::manual(START), &tasks).await.unwrap();
    ledger.lend_renderer(Arc::new(Words));
    (ledger, tasks)
}

/// Every octet that lies in the ledger.
async fn all(place: &Place) -> Vec<u8> {
    match place {
        Place::File(folder) => {
            let files = std::fs::read_dir(folder.path()).unwrap();
            files.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
        }
        Place::Database(url) => {
            let mut database = PgConnection::connect(url).await.unwrap();
            let tables: Vec<String> = sqlx::query_scalar(
                "SELECT table_name::text FROM information_schema.tables \
                 WHERE table_schema = current_schema() AND table_type = 'BASE TABLE'",
            )
            .fetch_all(&mut database)
            .await
            .unwrap();
            let mut all = Vec::new();
            for table in tables {
                // Octets appear in it as they are, but for those that no text has.
                let rows = format!("SELECT row_to_json(t)::text FROM {table} AS t");
                let rows: Vec<String> =
                    sqlx::query_scalar(AssertSqlSafe(rows)).fetch_all(&mut database).await.unwrap();
                rows.iter().for_each(|row| all.extend_from_slice(row.as_bytes()));
            }
            all
        }
    }
}

/// The canaries that can be read in the ledger.
async fn readable(place: &Place) -> BTreeSet<&'static str> {
    let all = all(place).await;
    let hex = |text: &str| {
        let digits: Vec<_> = text.bytes().map(|octet| format!("{octet:02x}")).collect();
        digits.concat()
    };
    let lies = |text: &str| all.windows(text.len()).any(|window| window == text.as_bytes());
    CANARIES.into_iter().filter(|canary| lies(canary) || lies(&hex(canary))).collect()
}

fn fields(name: &'static str, value: &'static str) -> Fields {
    let mut fields = Fields::new();
    fields.as_map_mut().append(name, value.parse().unwrap());
    fields
}

const PIECES: BodyKey = BodyKey(77);
const CALLED_BACK: &str = "https://client.example/canary-callback";

fn told(number: u8) -> NewOperation {
    let work = Work::Call(Request {
        method: Method::POST,
        target: "/orders/7?token=canary-query".into(),
        fields: fields("x-secret", "canary-field"),
        credentials: fields("authorization", "Bearer canary-credentials"),
        body: OperationBody::Inline(Bytes::from_static(b"canary-body")),
    });
    let policy =
        Policy { delivery: DeliveryGuarantee::AtMostOnce, ..operation(number, START).policy };
    NewOperation {
        work,
        policy,
        upstream_key: Some("canary-key".into()),
        tags: vec!["readable-tag".into()],
        client_reference: Some("readable-reference".into()),
        ..operation(number, START)
    }
}

fn calls_back() -> FirstCallback {
    let sealed = |kind| NewKey { kind, sealed: Bytes::from_static(b"\0secret") };
    FirstCallback {
        callbacks: NewCallbacks {
            principal: Principal::everyone(),
            origin: "https://client.example".to_owned(),
            public_base: "https://api.example".to_owned(),
            keys: vec![sealed(KeyKind::V1)],
            at: START,
        },
        url: CALLED_BACK.to_owned(),
        topics: Topics::ENDS,
    }
}

fn answer() -> KeptAnswer {
    KeptAnswer {
        status: 201,
        fields: fields("x-secret", "canary-answer-field"),
        body: OperationBody::Inline(Bytes::from_static(b"canary-answer-body")),
        framing: Some(ResponseFraming::Close),
        created_location: Some("/orders/canary-created".into()),
    }
}

fn judged() -> Verdict {
    Verdict {
        happened: true,
        location: Some("/orders/canary-location".to_owned()),
        note: Some("canary-note".to_owned()),
        at: START,
    }
}

/// The first half of a story, up to where its operation follows an upstream.
async fn begun(ledger: &Ledger) -> OperationId {
    let octets = Bytes::from_static(b"canary-piece");
    ledger.stash(vec![Piece { body: PIECES, number: 0, octets }]).await.unwrap();
    assert_eq!(&*ledger.piece(PIECES, 0).await.unwrap().unwrap(), b"canary-piece");
    ledger.accept_calling_back(told(1), Some(calls_back())).await.unwrap();
    let leased = claim_one(ledger, START).await;
    let id = leased.id;
    assert_eq!(leased.work, told(1).work);
    assert_eq!(leased.upstream_key.as_deref(), Some("canary-key"));
    let message = Some("canary-progress".to_owned());
    let report = ProgressReport { id, attempt: 1, percent: Some(5), message, at: START };
    assert_eq!(ledger.progress(report).await.unwrap(), Progressed::Kept);
    let followed = Outcome::Answered(UpstreamAnswer {
        monitor: Some(Continuation::monitor("http://up/jobs/canary-monitor")),
        ..UpstreamAnswer::plain(202)
    });
    ledger.settle(outcome_of(leased, &followed, START)).await.unwrap().unwrap();
    id
}

/// The second half, up to a message that is about to be sent.
async fn ended(ledger: &Ledger, id: OperationId) {
    let now = START + HOUR;
    let leased = ledger.claim_waiting(following(9), now, now + HOUR).await.unwrap().remove(0);
    assert_eq!((leased.id, &leased.work), (id, &told(1).work));
    let continuation = leased.continuation.clone().unwrap();
    assert!(String::from_utf8_lossy(&continuation.state).contains("canary-monitor"));
    let settlement = outcome_of(leased, &answered(201), now);
    let settlement = Settlement { answer: Some(answer()), ..settlement };
    ledger.settle(settlement).await.unwrap().unwrap();
}

/// Reads whatever the story has left.
async fn reads_back(ledger: &Ledger, id: OperationId) {
    let found = ledger.find(id).await.unwrap().unwrap();
    let target = "/orders/7?token=canary-query".to_owned();
    assert_eq!(found.subject, Subject::Call { method: "POST".to_owned(), target });
    assert_eq!(found.message.as_deref(), Some("canary-progress"));
    assert_eq!(found.created_location.as_deref(), Some("/orders/canary-created"));
    assert_eq!(ledger.answer(id).await.unwrap(), Some(answer()));
    let promised = ledger.promised(id).await.unwrap().unwrap();
    assert_eq!(promised.upstream_key.as_deref(), Some("canary-key"));
    assert_eq!(promised.callback.unwrap().url, CALLED_BACK);
    let events = ledger.events(id, 0, 99).await.unwrap();
    assert!(events.iter().any(|event| event.message.as_deref() == Some("canary-progress")));
    let tagged = Listing { tag: Some("readable-tag".into()), limit: 9, ..Listing::default() };
    let page = ledger.list(&tagged).await.unwrap();
    assert!(page.operations.iter().any(|operation| operation.id == id));
    let of = DeliveryListing { of: DeliveriesOf::Callback(id), only: None, before: None, limit: 9 };
    let deliveries = ledger.deliveries(&of).await.unwrap().deliveries;
    assert_eq!(deliveries[0].url.as_deref(), Some(CALLED_BACK));
}

/// Sends the message of the story.
async fn sent(ledger: &Ledger) {
    let lane = ledger.due_deliveries(START + HOUR).remove(0);
    let want = DeliveryWant { receiver: lane.receiver, again: lane.again, limit: 9 };
    let mut claimed = ledger.claim_deliveries(vec![want], START + HOUR).await.unwrap();
    let out = claimed.remove(0).leased.remove(0);
    assert_eq!(&*out.body, b"{\"says\":\"canary-message\"}");
    assert_eq!(out.url.as_deref(), Some(CALLED_BACK));
}

/// An unknown outcome, and what a person found out about it.
async fn unknown(ledger: &Ledger) -> OperationId {
    ledger.accept(told(2)).await.unwrap();
    let leased = claim_one(ledger, START).await;
    let id = leased.id;
    let broken = Outcome::Broken { sent: SendState::Perhaps, cause: ErrorCode::UpstreamProtocol };
    ledger.settle(outcome_of(leased, &broken, START)).await.unwrap().unwrap();
    assert_eq!(ledger.judge(id, judged()).await.unwrap(), Judged::Given);
    assert_eq!(ledger.find(id).await.unwrap().unwrap().verdict, Some(judged()));
    id
}

async fn with_a_key_nothing_of_a_request_and_its_fate_can_be_read(place: Place) {
    let (ledger, tasks) = opened(&place, keys(Some(1), &[])).await;
    let id = begun(&ledger).await;
    assert_eq!(readable(&place).await, BTreeSet::new());
    ended(&ledger, id).await;
    assert_eq!(readable(&place).await, BTreeSet::new());
    unknown(&ledger).await;
    reads_back(&ledger, id).await;
    sent(&ledger).await;
    assert_eq!(readable(&place).await, BTreeSet::new());
    let all = String::from_utf8_lossy(&all(&place).await).into_owned();
    for readable in ["/orders/7?", "readable-tag", "readable-reference"] {
        assert!(all.contains(readable), "{readable}");
    }
    close(ledger, tasks).await;
    assert_eq!(readable(&place).await, BTreeSet::new());
}

async fn without_a_key_it_can_and_stays_so_under_a_key_until_it_is_sealed(place: Place) {
    let (ledger, tasks) = opened(&place, keys(None, &[])).await;
    let id = begun(&ledger).await;
    let begun = readable(&place).await;
    close(ledger, tasks).await;
    // The key comes while the operation is on its way.
    let (ledger, tasks) = opened(&place, keys(Some(1), &[])).await;
    ended(&ledger, id).await;
    close(ledger, tasks).await;
    let (ledger, tasks) = opened(&place, keys(None, &[1])).await;
    unknown(&ledger).await;
    reads_back(&ledger, id).await;
    sent(&ledger).await;
    let sealed = ["canary-answer-body", "canary-answer-field", "canary-created", "canary-message"];
    let open = readable(&place).await;
    let all: BTreeSet<_> = begun.union(&open).copied().collect();
    let expected = CANARIES.into_iter().filter(|canary| !sealed.contains(canary));
    assert_eq!(all, expected.collect());
    close(ledger, tasks).await;
}

/// Walks until nothing is left; how many values were sealed anew.
async fn resealed(ledger: &Ledger) -> u64 {
    let mut sealed = 0;
    loop {
        let (mut walk, mut next) = (Resealed::default(), Some(ResealCursor::START));
        while let Some(cursor) = next {
            walk.add(ledger.reseal(cursor).await.unwrap());
            next = walk.next;
        }
        assert_eq!((walk.unopened, walk.missed), (0, 0), "{:?}", walk.reasons);
        assert!(walk.looked_at > 0);
        sealed += walk.resealed;
        if walk.found_nothing() {
            return sealed;
        }
    }
}

async fn what_lies_open_is_sealed_and_sealed_anew_after_a_change_of_key(place: Place) {
    let (ledger, tasks) = opened(&place, keys(None, &[])).await;
    let id = begun(&ledger).await;
    assert_eq!(ledger.reseal(ResealCursor::START).await.unwrap(), Resealed::default());
    // A body in pieces, which the next start keeps because an operation refers to it.
    let due_at = START + 9 * HOUR;
    let mut large = NewOperation { due_at, lane: lane(true), tags: Vec::new(), ..told(91) };
    if let Work::Call(request) = &mut large.work {
        request.body = OperationBody::Chunked { key: PIECES, length: 12 };
    }
    ledger.accept(large).await.unwrap();
    // More than are looked at together.
    for number in 10..90 {
        let later = NewOperation {
            due_at: START + 9 * HOUR,
            lane: lane(true),
            tags: Vec::new(),
            ..told(number)
        };
        ledger.accept(later).await.unwrap();
    }
    close(ledger, tasks).await;
    // What is under way is sealed too, and goes on.
    let (ledger, tasks) = opened(&place, keys(Some(1), &[])).await;
    assert!(resealed(&ledger).await >= 8 + 80 * 5);
    close(ledger, tasks).await;
    assert_eq!(readable(&place).await, BTreeSet::new());
    let (ledger, tasks) = opened(&place, keys(Some(1), &[])).await;
    ended(&ledger, id).await;
    unknown(&ledger).await;
    close(ledger, tasks).await;
    let (ledger, tasks) = opened(&place, keys(Some(2), &[1])).await;
    // The operation that has ended: target, key, callback, fields, body, credentials are gone,
    // its answer's three, what was said twice; the other's six and its verdict's three; one
    // message, one delivery, and the key of callbacks.
    assert!(resealed(&ledger).await >= 20);
    reads_back(&ledger, id).await;
    close(ledger, tasks).await;
    // The first key is gone.
    let (ledger, tasks) = opened(&place, keys(Some(2), &[1])).await;
    // A node that began to seal after a walk had begun may have written behind it.
    assert_eq!(ledger.forget_keys(START - HOUR).await.unwrap(), [key(1).id()]);
    // The former nodes have been silent for long then, also by a server's clock.
    let far = Timestamp::from_micros(4_102_444_800_000_000);
    assert_eq!(ledger.forget_keys(far).await.unwrap(), []);
    close(ledger, tasks).await;
    let (ledger, tasks) = opened(&place, keys(Some(2), &[])).await;
    reads_back(&ledger, id).await;
    assert_eq!(&*ledger.piece(PIECES, 0).await.unwrap().unwrap(), b"canary-piece");
    sent(&ledger).await;
    assert_eq!(readable(&place).await, BTreeSet::new());
    assert_eq!(resealed(&ledger).await, 0);
    close(ledger, tasks).await;
}

async fn what_no_key_opens_is_named_and_keeps_nobody_else_waiting(place: Place) {
    let (ledger, tasks) = opened(&place, keys(Some(1), &[])).await;
    ledger.accept(told(1)).await.unwrap();
    close(ledger, tasks).await;
    let opening = Opening { keyring: keys(Some(2), &[]), ..place.opening() };
    let opened_without = Ledger::open(opening, &Clock::manual(START), &Tasks::new()).await;
    let refused = opened_without.err().unwrap().to_string();
    assert!(refused.contains(&key(1).id().to_string()), "{refused}");
    assert!(refused.contains("secrets.previous"), "{refused}");
    // As in a fleet where another node's key is not there yet.
    sql(&place, "DELETE FROM sealing_keys").await;
    let (ledger, tasks) = opened(&place, keys(Some(2), &[])).await;
    let missing = ledger.find(told(1).id).await.unwrap_err();
    let LedgerError::Sealed(why) = missing else { panic!("{missing}") };
    assert!(why.contains(&key(1).id().to_string()) && why.contains("secrets.previous"), "{why}");
    let walk = ledger.reseal(ResealCursor::START).await.unwrap();
    assert_eq!((walk.unopened > 0, walk.resealed), (true, 0));
    assert!(walk.reasons[0].contains(&told(1).id.to_string()), "{:?}", walk.reasons);
    // What this node can open goes on, and the rest is left to a node with the key.
    ledger.accept(told(2)).await.unwrap();
    let wants = || vec![Want { lane: lane(false), limit: 9 }];
    let leased = ledger.claim(wants(), START).await.unwrap().remove(0).leased;
    assert_eq!(leased.iter().map(|it| it.id).collect::<Vec<_>>(), [told(2).id]);
    let mut owners = vec![ledger.incarnation()];
    close(ledger, tasks).await;
    let later = START + Duration::from_mins(1);
    let (ledger, tasks) = opened(&place, keys(Some(2), &[1])).await;
    assert_eq!(claim_one(&ledger, later).await.work, told(1).work);
    owners.push(ledger.incarnation());
    close(ledger, tasks).await;
    // Its node is gone: what decides what comes of that is never sealed.
    sql(&place, "DELETE FROM sealing_keys").await;
    let (ledger, tasks) = opened(&place, keys(Some(3), &[])).await;
    let dead = owners.into_iter().map(|incarnation| Dead { incarnation, beat: None }).collect();
    assert!(ledger.claim_orphans(dead, 9, START).await.unwrap().is_empty());
    close(ledger, tasks).await;
    let (ledger, tasks) = opened(&place, keys(Some(3), &[1, 2])).await;
    for number in [1, 2] {
        let OperationState::Failed { failure, .. } = state(&ledger, told(number).id).await else {
            panic!()
        };
        assert_eq!(
            failure,
            cloakroom_domain::operation::Failure::caused(
                ErrorCode::OutcomeUnknown,
                ErrorCode::OwnerLost
            )
        );
    }
    close(ledger, tasks).await;
}

macro_rules! on {
    ($engine:ident) => {
        suite_of!($engine:
            with_a_key_nothing_of_a_request_and_its_fate_can_be_read,
            without_a_key_it_can_and_stays_so_under_a_key_until_it_is_sealed,
            what_lies_open_is_sealed_and_sealed_anew_after_a_change_of_key,
            what_no_key_opens_is_named_and_keeps_nobody_else_waiting,
        );
    };
}

on!(sqlite);
on!(postgres);
