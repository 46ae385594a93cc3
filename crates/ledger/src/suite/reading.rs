//! Reads, and the callers that a change wakes.

use super::cluster::cluster;
use super::*;

async fn a_tree_is_what_an_operation_gave_rise_to_and_stays_within_its_principal(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let child = |number, parent| NewOperation { parent: Some(parent), ..operation(number, START) };
    let root = operation(1, START);
    let second = child(2, root.id);
    let third = child(3, second.id);
    let stranger = NewOperation { principal: Principal::named("eve"), ..child(4, root.id) };
    let (root_id, second_id, third_id, stranger_id) = (root.id, second.id, third.id, stranger.id);
    for operation in [root, second, third, stranger] {
        ledger.accept(operation).await.unwrap();
    }
    let ids =
        |tree: Listed<Operation, OperationId>| tree.iter().map(|it| it.id).collect::<Vec<_>>();
    assert_eq!(ids(ledger.descendants(root_id, 9).await.unwrap()), [second_id, third_id]);
    assert_eq!(ids(ledger.descendants(second_id, 9).await.unwrap()), [third_id]);
    assert_eq!(ledger.find(stranger_id).await.unwrap().unwrap().parent, None);
    close(ledger, tasks).await;
}

/// How many rows or steps the tree of an operation costs that has this many children.
async fn cost_of_a_tree(place: &Place, parent: OperationId, children: i64) -> i64 {
    const LIMIT: i64 = 1_000;
    const CHILD: &str = "SELECT 1000 + n, ID, 1, 'x', 'r', 1, 'POST', '/', 'at-least-once', 1, 1, 1, 0, 0, 1, 1, PARENT, PARENT";
    const INTO: &str = "INSERT INTO operations (seq, id, accepted_at, principal, route, lane, method, target, delivery, \
         timeout_us, deadline_at, retry_attempts, retry_min_us, retry_max_us, due_at, octets, parent, root)";
    let hex = parent.to_string().replace('-', "");
    match place {
        Place::File(folder) => {
            let file = rusqlite::Connection::open(folder.path().join("cloakroom.db")).unwrap();
            let child =
                CHILD.replace("ID", "randomblob(16)").replace("PARENT", &format!("x'{hex}'"));
            let from = format!(
                "WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {children})"
            );
            file.execute("DELETE FROM operations WHERE seq > 1000", []).unwrap();
            file.execute(&format!("{INTO} {from} {child} FROM s"), []).unwrap();
            let mut asked =
                file.prepare(crate::operations::read::descendants::DESCENDANTS.sqlite).unwrap();
            let found = asked.query_map((parent.as_bytes(), LIMIT), |_| Ok(())).unwrap().count();
            assert_eq!(found as i64, LIMIT);
            i64::from(asked.get_status(rusqlite::StatementStatus::VmStep))
        }
        Place::Database(url) => {
            use sqlx::{Connection, Executor};
            let child = CHILD.replace("ID", "decode(md5(n::text), 'hex')");
            let child = child.replace("PARENT", &format!("'\\x{hex}'::bytea"));
            let name = url.rsplit('/').next().unwrap();
            cluster().sql(name, &format!(
                "DELETE FROM operations WHERE seq > 1000; {INTO} {child} FROM generate_series(1, {children}) AS n; ANALYZE operations"
            ));
            let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
            for setting in ["seqscan", "hashjoin", "mergejoin"] {
                let off = sqlx::AssertSqlSafe(format!("SET enable_{setting} = off"));
                connection.execute(sqlx::raw_sql(off)).await.unwrap();
            }
            let sql = crate::operations::read::descendants::DESCENDANTS.postgres;
            let explain = sqlx::AssertSqlSafe(format!("EXPLAIN (ANALYZE, FORMAT JSON) {sql}"));
            let plan = sqlx::query(explain)
                .bind(parent.as_bytes().to_vec())
                .bind(LIMIT)
                .fetch_one(&mut connection)
                .await
                .unwrap();
            let plan: &str = sqlx::Row::try_get_unchecked(&plan, 0).unwrap();
            let plan: serde_json::Value = serde_json::from_str(plan).unwrap();
            rows_of_scans(&plan[0]["Plan"])
        }
    }
}

/// How many rows were read of tables.
fn rows_of_scans(plan: &serde_json::Value) -> i64 {
    let number = |name: &str| plan[name].as_f64().unwrap_or_default();
    let removed = number("Rows Removed by Filter");
    let own = match plan["Relation Name"].is_string() {
        true => ((number("Actual Rows") + removed) * number("Actual Loops")) as i64,
        false => 0,
    };
    let below = plan["Plans"].as_array().into_iter().flatten();
    own + below.map(rows_of_scans).sum::<i64>()
}

async fn a_tree_costs_what_is_shown_of_it_however_large_it_is(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let root = operation(1, START);
    let id = root.id;
    ledger.accept(root).await.unwrap();
    let few = cost_of_a_tree(&place, id, 2_000).await;
    let many = cost_of_a_tree(&place, id, 20_000).await;
    assert!(many <= few + few / 10, "{few} for 2,000 and {many} for 20,000");
    assert!(few <= 50_000, "{few}");
    close(ledger, tasks).await;
}

async fn a_list_goes_page_by_page_and_filters(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    for number in 1..=5u8 {
        let at = START + Duration::from_secs(u64::from(number));
        ledger.accept(operation(number, at)).await.unwrap();
    }
    let all = Listing { limit: 2, ..Listing::default() };
    let first = ledger.list(&all).await.unwrap();
    let second = ledger.list(&Listing { before: first.next, ..all.clone() }).await.unwrap();
    let third = ledger.list(&Listing { before: second.next, ..all.clone() }).await.unwrap();
    assert_eq!(
        [first.operations.len(), second.operations.len(), third.operations.len()],
        [2, 2, 1]
    );
    assert!(first.operations[0].accepted_at > first.operations[1].accepted_at);
    assert_eq!(third.next, None);
    let leased = claim_one(&ledger, START + HOUR).await;
    finish(&ledger, leased, START + HOUR).await;
    let of = |status| Listing { status: Some(status), limit: 9, ..Listing::default() };
    assert_eq!(ledger.list(&of(Status::Succeeded)).await.unwrap().operations.len(), 1);
    assert_eq!(ledger.list(&of(Status::Queued)).await.unwrap().operations.len(), 4);
    assert_eq!(ledger.list(&of(Status::Failed)).await.unwrap().operations.len(), 0);
    let since = Listing { since: Some(START + Duration::from_secs(4)), ..of(Status::Queued) };
    assert_eq!(ledger.list(&since).await.unwrap().operations.len(), 2);
    let queue = Listing { queue: Some("other".into()), limit: 9, ..Listing::default() };
    assert_eq!(ledger.list(&queue).await.unwrap().operations.len(), 0);
    close(ledger, tasks).await;
}

async fn every_reading_brings_the_present_state_however_it_came_about(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let serial = |number| {
        let key = SerialKey { digest: [7; 16], text: "customer-7".into() };
        NewOperation { serial_key: Some(key), ..operation(number, START) }
    };
    let (first, second) = (serial(1).id, serial(2).id);
    ledger.accept(serial(1)).await.unwrap();
    ledger.accept(serial(2)).await.unwrap();
    let both = async || {
        let status = async |id| ledger.find(id).await.unwrap().map(|found| found.state.status());
        (status(first).await, status(second).await)
    };
    assert_eq!(both().await, (Some(Status::Queued), Some(Status::Waiting)));
    let leased = claim_one(&ledger, START).await;
    assert_eq!(both().await, (Some(Status::Running), Some(Status::Waiting)));
    finish(&ledger, leased, START).await;
    assert_eq!(both().await, (Some(Status::Succeeded), Some(Status::Queued)));
    ledger.free(first, START).await.unwrap();
    assert!(ledger.find(first).await.unwrap().unwrap().freed_at.is_some());
    ledger.cancel(second, Freeing::Keep, START).await.unwrap();
    assert_eq!(both().await, (Some(Status::Succeeded), Some(Status::Canceled)));
    ledger.prune(9, START + 7 * HOUR).await.unwrap();
    ledger.prune(9, START + 7 * HOUR).await.unwrap();
    assert_eq!(both().await, (None, None));
    close(ledger, tasks).await;
}

async fn a_reading_that_straddles_a_change_keeps_nothing(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    ledger.accept(operation(1, START)).await.unwrap();
    let id = operation(1, START).id;
    let before = ledger.find(id).await.unwrap().unwrap();
    let snapshots = crate::cache::read_cache::Snapshots::default();
    let crate::cache::read_cache::Present::Unknown(reading) = snapshots.look(id) else {
        panic!("nothing was read yet")
    };
    snapshots.forget([id]);
    snapshots.read(id, reading, Some(&before));
    assert!(matches!(snapshots.look(id), crate::cache::read_cache::Present::Unknown(_)));
    close(ledger, tasks).await;
}

async fn whoever_watches_is_woken_by_the_end(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    ledger.accept(operation(1, START)).await.unwrap();
    let leased = claim_one(&ledger, START).await;
    let mut watch = ledger.watch(leased.id);
    finish(&ledger, leased, START).await;
    watch.changed().await;
    close(ledger, tasks).await;
}

macro_rules! on {
    ($engine:ident) => {
        suite_of!($engine:
            a_tree_is_what_an_operation_gave_rise_to_and_stays_within_its_principal,
            a_tree_costs_what_is_shown_of_it_however_large_it_is,
            a_list_goes_page_by_page_and_filters,
            every_reading_brings_the_present_state_however_it_came_about,
            a_reading_that_straddles_a_change_keeps_nothing,
            whoever_watches_is_woken_by_the_end,
        );
    };
}

on!(sqlite);
on!(postgres);
