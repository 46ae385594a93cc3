//! The conformance suite of ledgers, run once for each backend.

/// Tests on one engine: each of them gets a place of its own.
macro_rules! suite_of {
    ($engine:ident: $($name:ident,)*) => {
        mod $engine {
            use super::Place;
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name(Place::$engine()).await;
                }
            )*
        }
    };
}

mod asking;
mod beating;
mod behind_a_pooler;
#[path = "../../../../tests/support/postgres.rs"]
#[allow(dead_code, unreachable_pub, reason = "it is shared with the tests outside")]
mod cluster;
mod in_a_database;
mod in_a_file;
mod keeping;
mod life;
mod migrating;
mod migration_texts;
mod owning;
mod permits;
mod queues;
mod reading;
mod reconciling;
mod retrying;
mod sealing;
mod serial;
mod statements;
mod stored;
mod unreadable;
mod verdicts;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use rand::SeedableRng;
use rand::rngs::StdRng;
use sqlx::Connection;
use tokio::sync::mpsc;

use bytes::Bytes;

use super::*;
use cloakroom_domain::fleet::Role;
use cloakroom_domain::operation::{BodyKey, Lane, NewOperation, Verdict};
use cloakroom_domain::operation::{
    DeliveryGuarantee, ErrorCode, EventKind, Fingerprint, IdempotencyClaim, KeyScope, ManualRetry,
    NextState, OnFailure, OperationBody, OperationState, Outcome, Policy, Request, RequestPurpose,
    ResponseFraming, RetryPolicy, SendState, SerialKey, SettleInput, Status, UpstreamAnswer,
    UpstreamContact, WaitingFor, Work, settle,
};
use cloakroom_domain::sealing::Keyring;
use cloakroom_domain::{Fields, Principal};
use cloakroom_domain::{OperationId, Timestamp};

const START: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);
const HOUR: Duration = Duration::from_hours(1);

fn lane(express: bool) -> Lane {
    Lane { queue: "default".into(), upstream: "orders".into(), express, quarantine: false }
}

/// Where a ledger of a test's own is.
pub(super) enum Place {
    /// In a folder.
    File(tempfile::TempDir),
    /// In a database, at this address.
    Database(String),
}

impl Place {
    pub(super) fn sqlite() -> Self {
        Self::File(tempfile::tempdir().unwrap())
    }

    pub(super) fn postgres() -> Self {
        Self::Database(cluster::cluster().database())
    }

    pub(super) fn location(&self) -> Location {
        match self {
            Self::File(folder) => {
                Location::Sqlite { path: folder.path().join("cloakroom.db"), readers: 2 }
            }
            Self::Database(url) => Location::Postgres(Server {
                url: url.parse().unwrap(),
                direct_url: None,
                pooler: Pooler::None,
                pool: 5,
                patience: Duration::ZERO,
            }),
        }
    }

    pub(super) fn opening(&self) -> Opening {
        Opening {
            location: self.location(),
            migrate: true,
            retention: Retention { result: HOUR, operation: 7 * HOUR },
            lanes: vec![lane(false), lane(true)],
            keyring: Keyring::default(),
        }
    }

    pub(super) async fn open(&self, now: Timestamp) -> (Ledger, Tasks) {
        let (clock, mut opened) = (Clock::manual(now), None);
        // A process that another test starts has the lock too until it has become another
        // program.
        in_a_database::until("a ledger that is free", async || {
            let tasks = Tasks::new();
            match Ledger::open(self.opening(), &clock, &tasks).await {
                Err(OpenError::InUse { .. }) => return false,
                ledger => opened = Some((ledger.unwrap(), tasks)),
            }
            true
        })
        .await;
        opened.unwrap()
    }
}

pub(super) async fn close(ledger: Ledger, tasks: Tasks) {
    drop(ledger);
    tasks.drain();
    let patience = Duration::from_secs(10);
    assert!(tasks.ended(&Clock::system(), patience, patience).await);
}

/// Runs a statement beside the ledger.
pub(super) async fn sql(place: &Place, sql: &'static str) {
    match place {
        Place::File(folder) => {
            let path = format!("sqlite:{}/cloakroom.db", folder.path().display());
            let mut file = sqlx::sqlite::SqliteConnection::connect(&path).await.unwrap();
            sqlx::raw_sql(sql).execute(&mut file).await.unwrap();
            file.close().await.unwrap();
        }
        Place::Database(url) => {
            let mut database = sqlx::postgres::PgConnection::connect(url).await.unwrap();
            sqlx::raw_sql(sql).execute(&mut database).await.unwrap();
        }
    }
}

fn operation(number: u8, at: Timestamp) -> NewOperation {
    let mut fields = Fields::new();
    fields.as_map_mut().append("content-type", "application/json".parse().unwrap());
    let mut credentials = Fields::new();
    credentials.as_map_mut().append("authorization", "Bearer secret".parse().unwrap());
    NewOperation {
        id: OperationId::new(at, 1, [number; 10]),
        accepted_at: at,
        principal: Principal::everyone(),
        route: "orders".into(),
        lane: lane(false),
        work: Work::Call(Request {
            method: Method::POST,
            target: "/orders?x=%ff".into(),
            fields,
            credentials,
            body: OperationBody::Inline(Bytes::from(vec![0, 159, 146, 150])),
        }),
        policy: Policy {
            delivery: DeliveryGuarantee::AtLeastOnce,
            timeout: Duration::from_secs(30),
            deadline_at: at + 24 * HOUR,
            retry: RetryPolicy {
                attempts: 3,
                min: Duration::from_secs(1),
                max: Duration::from_secs(1),
                statuses: None,
            },
            wait: None,
            success: None,
            on_failure: OnFailure::Skip,
            recheck: None,
        },
        due_at: at,
        upstream_key: None,
        idempotency: None,
        serial_key: None,
        parent: None,
        retry_of: None,
        client_reference: None,
        tags: Vec::new(),
        callback: None,
        max_depth: 100,
        max_stored: u64::MAX,
    }
}

fn print(number: u8) -> Fingerprint {
    Fingerprint::of([Some(b"POST"), Some(b"/orders"), None, Some(&[number]), None, None])
}

fn again(of: OperationId) -> ManualRetry {
    ManualRetry { of, again: true }
}

/// The verdict on a request with the key of an operation whose body was another one.
fn conflict(of: OperationId) -> Accepted {
    Accepted::KeyConflict { of, differs: print(1).differences(&print(2)) }
}

fn with_key(number: u8, key: u8, fingerprint: u8, scope: KeyScope) -> NewOperation {
    let claim = IdempotencyClaim { digest: [key; 16], fingerprint: print(fingerprint), scope };
    NewOperation { idempotency: Some(claim), ..operation(number, START) }
}

async fn claim_one(ledger: &Ledger, now: Timestamp) -> Leased {
    let mut claimed = ledger.claim(vec![Want { lane: lane(false), limit: 1 }], now).await.unwrap();
    claimed.remove(0).leased.remove(0)
}

/// So many of those that follow an upstream.
fn following(limit: usize) -> Vec<Want> {
    vec![Want { lane: lane(false), limit }]
}

fn outcome_of(leased: Leased, outcome: &Outcome, at: Timestamp) -> Settlement {
    let purpose = RequestPurpose::of(&leased.work);
    let standing = SettleInput {
        policy: &leased.policy,
        counts: leased.counts,
        purpose: &purpose,
        accepted_at: leased.accepted_at,
    };
    let transition = settle(standing, outcome, at, &mut StdRng::seed_from_u64(1));
    Settlement { id: leased.id, lease: leased.lease, transition, answer: Some(created()), at }
}

fn created() -> KeptAnswer {
    let mut fields = Fields::new();
    fields.as_map_mut().append("x-odd", http::HeaderValue::from_bytes(&[0xff, 0x80]).unwrap());
    KeptAnswer {
        status: 201,
        fields,
        body: OperationBody::Inline(Bytes::from_static(b"made")),
        framing: Some(ResponseFraming::Close),
        created_location: Some("/orders/1".into()),
    }
}

fn answered(status: u16) -> Outcome {
    Outcome::Answered(UpstreamAnswer::plain(status))
}

async fn finish(ledger: &Ledger, leased: Leased, at: Timestamp) -> Status {
    ledger.settle(outcome_of(leased, &answered(201), at)).await.unwrap().unwrap()
}

async fn state(ledger: &Ledger, id: OperationId) -> OperationState {
    ledger.find(id).await.unwrap().unwrap().state
}

/// Takes whatever is handed over, with whether that overtakes another one.
struct Hands(mpsc::UnboundedSender<(Leased, bool)>, bool);

impl Desk for Hands {
    fn reserve(&self, _: &Lane, overtakes: bool) -> Option<Box<dyn Reservation>> {
        Some(Box::new(Hands(self.0.clone(), overtakes)))
    }
}

impl Reservation for Hands {
    fn start(self: Box<Self>, leased: Leased) {
        self.0.send((leased, self.1)).unwrap();
    }
}

fn vitals() -> Vitals {
    Vitals {
        name: "one".to_owned(),
        role: Role::Worker,
        queues: vec!["reports".to_owned(), "default".to_owned()],
        slots: 7,
        running: 2,
        fingerprint: "f".to_owned(),
        lease: Duration::from_secs(15),
    }
}
