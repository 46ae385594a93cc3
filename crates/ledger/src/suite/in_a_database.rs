//! A ledger in a database, which many processes write to.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use sqlx::{Connection, Row};

use super::cluster::{Cluster, cluster};
use super::*;

/// Two nodes on one database.
struct Two {
    place: Place,
    one: Ledger,
    other: Ledger,
    tasks: [Tasks; 2],
}

impl Two {
    async fn open() -> Self {
        let place = Place::postgres();
        let (one, tasks) = place.open(START).await;
        let (other, more_tasks) = place.open(START).await;
        Self { place, one, other, tasks: [tasks, more_tasks] }
    }

    async fn close(self) {
        let [tasks, more_tasks] = self.tasks;
        close(self.one, tasks).await;
        close(self.other, more_tasks).await;
        drop(self.place);
    }
}

fn serial(number: u8, key: u8) -> NewOperation {
    let key = SerialKey { digest: [key; 16], text: format!("customer-{key}") };
    NewOperation { serial_key: Some(key), max_depth: 10_000, ..operation(number, START) }
}

/// Claims what there is, up to so many.
async fn claim(ledger: &Ledger, limit: usize) -> Vec<Leased> {
    let wants = vec![Want { lane: lane(false), limit }];
    ledger.claim(wants, START).await.unwrap().remove(0).leased
}

/// Waits until it is so; what is waited for happens on another node.
pub(super) async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let clock = Clock::system();
    for _ in 0..2_000 {
        if so().await {
            return;
        }
        clock.sleep(Duration::from_millis(5)).await;
    }
    panic!("waited in vain for {what}");
}

#[tokio::test]
async fn twenty_identical_requests_on_two_nodes_make_one_operation() {
    let two = Two::open().await;
    for (key, scope) in [(1, KeyScope::Retained), (2, KeyScope::Pending)] {
        let accepts = (0..20).map(|number| {
            let ledger = if number % 2 == 0 { &two.one } else { &two.other };
            ledger.accept(with_key(key * 20 + number, key, 5, scope))
        });
        let fates: Vec<_> = join_all(accepts).await.into_iter().map(|fate| fate.unwrap()).collect();
        let new: Vec<_> = fates
            .iter()
            .filter_map(|fate| match fate {
                Accepted::New(id) => Some(*id),
                _ => None,
            })
            .collect();
        assert_eq!(new.len(), 1, "{fates:?}");
        let replays = fates.iter().filter(|fate| **fate == Accepted::Replayed(new[0])).count();
        assert_eq!(replays, 19, "{fates:?}");
        let other = two.other.accept(with_key(200 + key, key, 6, scope)).await.unwrap();
        assert_eq!(other, conflict(new[0]));
    }
    two.close().await;
}

#[tokio::test]
async fn of_retries_on_two_nodes_one_is_made() {
    let two = Two::open().await;
    for round in 0..5u8 {
        let first = operation(round * 20, START);
        let retry = ManualRetry { of: first.id, again: false };
        two.one.accept(first).await.unwrap();
        let leased = claim(&two.one, 1).await.remove(0);
        two.one.settle(outcome_of(leased, &answered(422), START)).await.unwrap().unwrap();
        let accepts = (1..11).map(|number| {
            let ledger = if number % 2 == 0 { &two.one } else { &two.other };
            let new = operation(round * 20 + number, START);
            ledger.accept(NewOperation { retry_of: Some(retry), max_depth: 1000, ..new })
        });
        let fates: Vec<_> = join_all(accepts).await.into_iter().map(|fate| fate.unwrap()).collect();
        let made = fates.iter().filter(|fate| matches!(fate, Accepted::New(_))).count();
        assert_eq!(made, 1, "{fates:?}");
        let leased = claim(&two.one, 9).await.remove(0);
        finish(&two.one, leased, START).await;
    }
    two.close().await;
}

#[tokio::test]
async fn what_one_node_accepts_another_finishes_and_the_first_one_s_client_is_woken() {
    let two = Two::open().await;
    let new = operation(1, START);
    let id = new.id;
    two.one.accept(new).await.unwrap();
    let mut watch = two.one.watch(id);
    assert_eq!(state(&two.one, id).await, OperationState::Queued { due_at: START });
    two.other.work_came().await;
    let leased = claim(&two.other, 9).await.remove(0);
    assert_eq!(finish(&two.other, leased, START).await, Status::Succeeded);
    while state(&two.one, id).await != (OperationState::Succeeded { at: START }) {
        watch.changed().await;
    }
    // What it knew of the lane was another one's to take.
    until("an empty lane", async || two.one.queue_depth("default") == 0).await;
    two.close().await;
}

#[tokio::test]
async fn what_a_node_with_a_slow_clock_accepts_is_found_behind_what_was_claimed_before() {
    let two = Two::open().await;
    let late = START + HOUR;
    for number in [1, 2] {
        two.one.accept(operation(number, late)).await.unwrap();
    }
    claim_one(&two.one, late).await;
    two.other.accept(operation(3, START)).await.unwrap();
    let behind = operation(3, START).id;
    let mut found = Vec::new();
    until("what lies behind", async || {
        let wants = vec![Want { lane: lane(false), limit: 9 }];
        let leased = two.one.claim(wants, late).await.unwrap().remove(0).leased;
        found.extend(leased.into_iter().map(|leased| leased.id));
        found.contains(&behind)
    })
    .await;
    assert_eq!(found.len(), 2);
    two.close().await;
}

/// A look from the very beginning has found nothing but what is due in an hour.
#[tokio::test]
async fn what_is_due_later_hides_nothing_that_another_node_puts_in_now() {
    let two = Two::open().await;
    two.one.accept(operation(1, START)).await.unwrap();
    claim_one(&two.one, START).await;
    two.one.accept(NewOperation { due_at: START + HOUR, ..operation(2, START) }).await.unwrap();
    let looked = async || two.one.oldest_due(&[lane(false)]).await.unwrap()[0];
    // Every look for a second is at what was seen by the slow one.
    let clock = Clock::system();
    until("a slow look", async || {
        clock.sleep(Duration::from_millis(1_001)).await;
        looked().await == Some(START + HOUR)
    })
    .await;
    two.other.accept(operation(3, START)).await.unwrap();
    assert_eq!(looked().await, Some(START));
    two.close().await;
}

#[tokio::test]
async fn no_operation_is_handed_out_twice_however_many_ask() {
    let two = Two::open().await;
    let ids: BTreeSet<_> = (0..200).map(|number| operation(number, START).id).collect();
    let accepts = (0..200).map(|number| {
        two.one.accept(NewOperation { max_depth: 1_000, ..operation(number, START) })
    });
    join_all(accepts).await;
    let claims =
        (0..40).map(|number| claim(if number % 2 == 0 { &two.one } else { &two.other }, 7));
    let leased: Vec<_> = join_all(claims).await.into_iter().flatten().collect();
    let handed: Vec<_> = leased.iter().map(|leased| leased.id).collect();
    let distinct: BTreeSet<_> = handed.iter().copied().collect();
    assert_eq!(handed.len(), distinct.len());
    let rest = claim(&two.one, 200).await;
    let all: BTreeSet<_> = distinct.into_iter().chain(rest.iter().map(|it| it.id)).collect();
    assert_eq!(all, ids);
    let ends = leased.into_iter().chain(rest).map(|leased| finish(&two.other, leased, START));
    assert!(join_all(ends).await.iter().all(|status| *status == Status::Succeeded));
    two.close().await;
}

/// Finishes what this node can claim until all are done; tells in which order.
async fn work(ledger: &Ledger, done: &Mutex<Vec<OperationId>>, all: usize) {
    let clock = Clock::system();
    while done.lock().unwrap().len() < all {
        let leased = claim(ledger, 4).await;
        if leased.is_empty() {
            clock.sleep(Duration::from_millis(1)).await;
        }
        for leased in leased {
            done.lock().unwrap().push(leased.id);
            finish(ledger, leased, START).await;
        }
    }
}

#[tokio::test]
async fn operations_of_a_serial_key_go_in_the_order_accepted_also_while_nodes_race() {
    let two = Two::open().await;
    let done = Mutex::default();
    let numbers: Vec<u8> = (0..120).collect();
    let key = |number: u8| number % 4;
    let accepting = async {
        for pair in numbers.chunks(2) {
            let accepts = pair.iter().zip([&two.one, &two.other]);
            let accepts =
                accepts.map(|(number, ledger)| ledger.accept(serial(*number, key(*number))));
            for fate in join_all(accepts).await {
                assert!(matches!(fate.unwrap(), Accepted::New(_)));
            }
        }
    };
    let all = numbers.len();
    tokio::join!(accepting, work(&two.one, &done, all), work(&two.other, &done, all));
    let mut by_key: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
    let by_id: BTreeMap<_, _> =
        numbers.iter().map(|number| (serial(*number, 0).id, *number)).collect();
    for id in done.into_inner().unwrap() {
        by_key.entry(key(by_id[&id])).or_default().push(by_id[&id]);
    }
    for (key, done) in by_key {
        assert!(done.is_sorted(), "key {key}: {done:?}");
        assert_eq!(done.len(), 30);
    }
    let Place::Database(url) = &two.place else { panic!("no database") };
    let name = url.rsplit('/').next().unwrap();
    let left = cluster().sql(name, "SELECT count(*) FROM serial_keys");
    assert_eq!(left, "0");
    two.close().await;
}

#[tokio::test]
async fn a_release_and_a_repeat_on_one_node_race_with_accepts_on_another_and_nobody_is_left() {
    let two = Two::open().await;
    for round in 0..10 {
        let blocking = |number: u8| {
            let mut new = serial(round * 16 + number, 7);
            new.policy.on_failure = OnFailure::Block;
            new
        };
        two.one.accept(blocking(0)).await.unwrap();
        let failing = claim(&two.one, 1).await.remove(0);
        two.one.settle(outcome_of(failing, &answered(422), START)).await.unwrap().unwrap();
        let listing = KeyListing { blocked: true, after: None, limit: 9 };
        let name = two.other.keys(listing).await.unwrap()[0].name;
        let repeat = NewOperation { retry_of: Some(again(blocking(0).id)), ..blocking(1) };
        let accepts = join_all((2..8).map(|number| two.other.accept(blocking(number))));
        let (released, repeated, accepted) =
            tokio::join!(two.one.unblock(name, START), two.one.accept(repeat), accepts);
        assert!(released.is_ok() && repeated.is_ok() && accepted.iter().all(Result::is_ok));
        let mut ended = 0;
        while let Some(leased) = claim(&two.one, 9).await.pop() {
            finish(&two.one, leased, START).await;
            ended += 1;
        }
        assert_eq!(ended, 7, "round {round}");
        for ledger in [&two.one, &two.other] {
            ledger.beat(vitals()).await.unwrap();
        }
        assert!(two.one.reconcile(false, START).await.unwrap().findings.is_empty());
    }
    two.close().await;
}

#[tokio::test]
async fn canceling_one_that_waits_for_its_key_and_one_that_runs_reaches_the_other_node() {
    let two = Two::open().await;
    for number in 0..3 {
        two.one.accept(serial(number, 7)).await.unwrap();
    }
    let [first, second, third] = [0, 1, 2].map(|number| serial(number, 7).id);
    assert_eq!(two.other.cancel(second, Freeing::Keep, START).await.unwrap(), Canceled::Done);
    let leased = claim(&two.one, 9).await.remove(0);
    assert_eq!(leased.id, first);
    let mut cancels = two.one.cancels();
    assert_eq!(two.other.cancel(first, Freeing::Keep, START).await.unwrap(), Canceled::Asked);
    assert_eq!(cancels.recv().await.unwrap(), first);
    let broken = Outcome::Broken { sent: SendState::Perhaps, cause: ErrorCode::UpstreamProtocol };
    let ended = two.one.settle(outcome_of(leased, &broken, START)).await.unwrap();
    assert_eq!(ended, Ok(Status::Canceled));
    assert_eq!(state(&two.other, third).await, OperationState::Queued { due_at: START });
    two.close().await;
}

#[tokio::test]
async fn batches_that_touch_the_same_keys_in_any_order_all_succeed() {
    let two = Two::open().await;
    let accepts = (0..160u8).map(|number| {
        let ledger = if number % 2 == 0 { &two.one } else { &two.other };
        let (key, serial_key) = (number.wrapping_mul(37) % 16, number.wrapping_mul(91) % 8);
        let claim =
            IdempotencyClaim { digest: [key; 16], fingerprint: print(1), scope: KeyScope::Pending };
        ledger.accept(NewOperation { idempotency: Some(claim), ..serial(number, serial_key) })
    });
    let fates: Vec<_> = join_all(accepts).await.into_iter().map(|fate| fate.unwrap()).collect();
    let new = fates.iter().filter(|fate| matches!(fate, Accepted::New(_))).count();
    assert_eq!(new, 16, "{fates:?}");
    let Place::Database(url) = &two.place else { panic!("no database") };
    let name = url.rsplit('/').next().unwrap().to_owned();
    two.close().await;
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(cluster().sql(&name, deadlocks), "0");
}

#[tokio::test]
async fn whoever_has_beaten_since_keeps_what_it_holds_and_who_left_is_not_waited_for() {
    let two = Two::open().await;
    let of = |ledger: &Ledger, beat| vec![Dead { incarnation: ledger.incarnation(), beat }];
    two.one.accept(operation(1, START)).await.unwrap();
    let leased = claim(&two.one, 1).await.remove(0);
    let beat = two.one.beat(vitals()).await.unwrap().beat;
    let seen = two.other.beat(vitals()).await.unwrap().others;
    assert_eq!((seen.len(), seen[0].beat, seen[0].holds, seen[0].ended), (1, beat, true, false));
    two.one.beat(vitals()).await.unwrap();
    let orphans = two.other.claim_orphans(of(&two.one, Some(beat)), 9, START).await.unwrap();
    assert!(orphans.is_empty());
    two.one.leave(Vec::new(), START).await.unwrap();
    assert!(two.other.beat(vitals()).await.unwrap().others[0].ended);
    let orphans = two.other.claim_orphans(of(&two.one, Some(beat + 1)), 9, START).await.unwrap();
    assert_eq!(orphans.len(), 1);
    let stale = two.one.settle(outcome_of(leased, &answered(201), START)).await.unwrap();
    assert_eq!(stale, Err(StaleLease));
    two.close().await;
}

#[tokio::test]
async fn a_node_whose_clock_is_off_goes_by_the_database_s_time() {
    let place = Place::postgres();
    let right = Clock::system();
    for off in [right.now() - Duration::from_mins(2), right.now() + Duration::from_mins(2)] {
        let (clock, tasks) = (Clock::showing(off), Tasks::new());
        let ledger = Ledger::open(place.opening(), &clock, &tasks).await.unwrap();
        let time = ledger.beat(vitals()).await.unwrap().time.unwrap();
        let near = |one: Timestamp, other: Timestamp| one.since(other) < Duration::from_secs(30);
        assert!(near(time, right.now()) && near(right.now(), time));
        assert!(near(right.now(), clock.now()) && near(clock.now(), right.now()));
        close(ledger, tasks).await;
    }
}

#[tokio::test]
async fn while_the_database_is_away_writes_are_refused_and_afterwards_they_work_again() {
    let cluster = Cluster::start();
    let place = Place::Database(cluster.database());
    let (ledger, tasks) = place.open(START).await;
    ledger.accept(operation(1, START)).await.unwrap();
    let leased = claim_one(&ledger, START).await;
    let settlement = outcome_of(leased, &answered(201), START);
    cluster.stop();
    let refused = ledger.accept(operation(2, START)).await;
    assert!(matches!(refused, Err(LedgerError::Unavailable(_))), "{refused:?}");
    let unread = ledger.find(operation(1, START).id).await;
    assert!(matches!(unread, Err(LedgerError::Unavailable(_))), "{unread:?}");
    assert!(ledger.settle(settlement.clone()).await.is_err());
    cluster.start_again();
    until("the database", async || ledger.accept(operation(3, START)).await.is_ok()).await;
    assert_eq!(ledger.settle(settlement).await.unwrap(), Ok(Status::Succeeded));
    assert!(ledger.find(operation(2, START).id).await.unwrap().is_none());
    close(ledger, tasks).await;
}

#[tokio::test]
async fn a_database_that_starts_late_is_waited_for() {
    let cluster = Cluster::start();
    let place = Place::Database(cluster.database());
    cluster.stop();
    let Location::Postgres(server) = place.location() else { panic!("no database") };
    let location = Location::Postgres(Server { patience: Duration::from_mins(1), ..server });
    let opening = Opening { location, ..place.opening() };
    let (clock, tasks) = (Clock::manual(START), Tasks::new());
    let starting = std::thread::spawn(move || {
        cluster.start_again();
        cluster
    });
    let ledger = Ledger::open(opening, &clock, &tasks).await.unwrap();
    ledger.accept(operation(1, START)).await.unwrap();
    close(ledger, tasks).await;
    drop(starting.join().unwrap());
}

#[tokio::test]
async fn a_database_that_is_not_there_is_named_without_its_password() {
    let place = Place::Database("postgres://u:hunter2@127.0.0.1:1/x".to_owned());
    let refused = Ledger::open(place.opening(), &Clock::manual(START), &Tasks::new()).await;
    let refused = refused.err().unwrap();
    assert!(matches!(refused, OpenError::Away { .. }), "{refused}");
    let shown = format!("{refused} {refused:?} {:?}", place.opening());
    assert!(shown.contains("127.0.0.1") && !shown.contains("hunter2"), "{shown}");
}

#[tokio::test]
async fn pending_migrations_are_named_and_a_pool_that_does_not_fit_is_refused() {
    let place = Place::postgres();
    let open = async |opening| {
        let opened = Ledger::open(opening, &Clock::manual(START), &Tasks::new()).await;
        opened.err().unwrap()
    };
    let pending = open(Opening { migrate: false, ..place.opening() }).await;
    assert!(matches!(pending, OpenError::MigrationsPending { pending: 1.., .. }), "{pending}");
    let Location::Postgres(server) = place.location() else { panic!("no database") };
    let location = Location::Postgres(Server { pool: 900, ..server });
    let large = open(Opening { location, ..place.opening() }).await;
    assert!(matches!(large, OpenError::NoRoom { each: 901, room: 297 }), "{large}");
}

#[tokio::test]
async fn beats_and_claims_wait_for_nothing_that_clients_or_maintenance_write() {
    let place = Place::postgres();
    let Location::Postgres(server) = place.location() else { panic!("no database") };
    let url = server.url.secret().to_owned();
    let opening =
        Opening { location: Location::Postgres(Server { pool: 10, ..server }), ..place.opening() };
    let tasks = Tasks::new();
    let ledger = Ledger::open(opening, &Clock::manual(START), &tasks).await.unwrap();
    for number in 1..=4 {
        ledger.accept(operation(number, START)).await.unwrap();
    }
    // Another session has what pruning and cancelling write to.
    let mut holder = sqlx::PgConnection::connect(&url).await.unwrap();
    let lock = "BEGIN; LOCK TABLE expiries IN ACCESS EXCLUSIVE MODE";
    sqlx::raw_sql(lock).execute(&mut holder).await.unwrap();
    let blocked = async {
        let cancels = (1..=3).map(|number| {
            let id = operation(number, START).id;
            ledger.cancel(id, Freeing::Keep, START)
        });
        let (canceled, pruned) = tokio::join!(join_all(cancels), ledger.prune(9, START + HOUR));
        assert!(canceled.into_iter().all(|canceled| canceled.is_ok()) && pruned.is_ok());
    };
    let mut blocked = Box::pin(blocked);
    let waiting = "SELECT count(*) AS waiting FROM pg_locks l JOIN pg_database d ON d.oid = l.database \
                   WHERE NOT l.granted AND d.datname = current_database()";
    let unblocked = async {
        while sqlx::query(waiting).fetch_one(&mut holder).await.unwrap().get::<i64, _>(0) < 2 {}
        let (clock, soon) = (Clock::system(), Duration::from_millis(500));
        let beaten = clock.timeout(soon, ledger.beat(vitals())).await;
        assert_eq!(beaten.expect("a beat").unwrap().beat, 1);
        let wants = vec![Want { lane: lane(false), limit: 9 }];
        let claimed = clock.timeout(soon, ledger.claim(wants, START)).await;
        assert!(!claimed.expect("a claim").unwrap().is_empty());
        sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.unwrap();
    };
    tokio::select! {
        () = &mut blocked => panic!("nothing was blocked"),
        () = unblocked => {}
    }
    (&mut blocked).await;
    drop(blocked);
    close(ledger, tasks).await;
}

#[tokio::test]
async fn both_engines_have_the_same_migrations_tables_columns_and_indices() {
    let names = |engine: &str| -> BTreeSet<_> {
        let folder = format!("{}/../../migrations/{engine}", env!("CARGO_MANIFEST_DIR"));
        let files = std::fs::read_dir(folder).unwrap();
        files.map(|file| file.unwrap().file_name()).collect()
    };
    assert_eq!(names("sqlite"), names("postgres"));
    let (file, database) = (Place::sqlite(), Place::postgres());
    for place in [&file, &database] {
        let (ledger, tasks) = place.open(START).await;
        close(ledger, tasks).await;
    }
    let (Place::File(folder), Place::Database(url)) = (&file, &database) else { panic!() };
    let url = url.rsplit('/').next().unwrap();
    let told = cluster().sql(
        url,
        "SELECT table_name || '.' || column_name FROM information_schema.columns \
         WHERE table_schema = 'public' AND table_name <> '_sqlx_migrations' UNION \
         SELECT indexname FROM pg_indexes WHERE schemaname = 'public' \
         AND indexname !~ '_(pkey|id_key|express_key)$'",
    );
    // Only there does an old snapshot keep entries that beats would have to walk past.
    let only_there = ["running_by_node", "running_called_off"].map(str::to_owned);
    let mut in_database: BTreeSet<_> = told.lines().map(str::to_owned).collect();
    assert!(only_there.iter().all(|name| in_database.remove(name)));
    let path = format!("sqlite:{}/cloakroom.db", folder.path().display());
    let mut connection = sqlx::SqliteConnection::connect(&path).await.unwrap();
    let rows = sqlx::query(
        "SELECT m.name || '.' || c.name FROM sqlite_schema m JOIN pragma_table_info(m.name) c \
         WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' AND m.name <> '_sqlx_migrations' UNION \
         SELECT name FROM sqlite_schema WHERE type = 'index' AND name NOT LIKE 'sqlite_%'",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let in_file: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(in_file, in_database);
}
