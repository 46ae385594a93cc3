//! The start of the program.

use serde_json::Value;

use crate::support::gateway::{Process, cloakroom, order};
use crate::support::{Answer, Request, Setup, Upstream, get, post, time, upstream};

#[tokio::test]
async fn it_says_where_it_listens_and_what_is_asynchronous() {
    let upstream = Upstream::start().await;
    let process = Setup::before(&upstream).spawn().await;
    let said = format!("{}{}", process.stdout(), process.stderr());
    assert!(said.contains(&process.public.to_string()), "{said}");
    assert!(said.contains(&process.admin.to_string()), "{said}");
    assert!(said.contains("POST"), "what is accepted asynchronously: {said}");
}

#[cfg(unix)]
#[tokio::test]
async fn the_ledger_can_be_read_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;

    let upstream = Upstream::start().await;
    let process = Setup::before(&upstream).spawn().await;
    let ticket = process.accept(order()).await;
    process.settled(&ticket).await;
    let mode = std::fs::metadata(process.store()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{mode:o}");
}

#[tokio::test]
async fn it_works_from_end_to_end_as_a_process() {
    let upstream = Upstream::start().await;
    let process = Setup::before(&upstream).spawn().await;
    process.admin(get("/readyz")).await.expect(200);
    let ticket = process.accept(order()).await;
    let end = process.until_finished(&ticket).await;
    let created = format!("{}/orders/1", process.origin());
    assert_eq!(end.field("location"), Some(&*created));
}

#[tokio::test]
async fn tickets_bodies_and_credentials_are_not_logged() {
    let upstream = Upstream::start().await;
    let process = Setup::before(&upstream).spawn().await;
    let request = order()
        .field("Authorization", "Bearer very-secret-credential")
        .field("Idempotency-Key", "very-secret-key");
    let ticket = process.accept(request).await;
    process.settled(&ticket).await;
    process.get("/catalogue?very-secret-query").await.expect(200);
    let logged = process.stderr();
    let tail = &ticket.monitor[ticket.monitor.len() - 32..];
    for secret in ["very-secret-credential", "very-secret-query", "A-1", tail] {
        assert!(!logged.contains(secret), "{secret} in {logged}");
    }
}

/// Every line that it has logged: JSON, because no terminal is there.
fn logged(process: &Process) -> Vec<Value> {
    let lines = process.stderr();
    lines.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// The lines that name this operation.
fn about(process: &Process, id: &str) -> Vec<Value> {
    logged(process).into_iter().filter(|line| line["operation"] == id).collect()
}

#[tokio::test]
async fn what_goes_well_is_not_logged_request_by_request() {
    let upstream = Upstream::start().await;
    let process = Setup::before(&upstream).spawn().await;
    for _ in 0..5 {
        let ticket = process.accept(order()).await;
        process.settled(&ticket).await;
        process.get("/catalogue").await.expect(200);
    }
    assert_eq!(logged(&process), [] as [Value; 0]);
}

#[tokio::test]
async fn a_failure_is_one_line_at_the_level_that_it_deserves() {
    let upstream = Upstream::start().await;
    upstream.script("/gone", [Answer::Reset]);
    upstream.on("/wrong", Answer::status(422));
    upstream.on("/broken", Answer::status(500));
    let process = Setup::before(&upstream).spawn().await;
    for (path, level, code) in [
        ("/gone?secret=1", "WARN", "outcome-unknown"),
        ("/wrong?secret=1", "INFO", "upstream-status"),
        ("/broken?secret=1", "WARN", "upstream-status"),
    ] {
        let ticket = process.accept(post(path)).await;
        process.settled(&ticket).await;
        let lines = time::until("its line", || async {
            Some(about(&process, &ticket.id)).filter(|lines| !lines.is_empty())
        })
        .await;
        let [line] = &lines[..] else { panic!("{path}: {lines:?}") };
        assert_eq!((&line["level"], &line["code"]), (&level.into(), &code.into()), "{line}");
        assert_eq!(line["upstream"], "default", "{line}");
        let message = line["message"].as_str().unwrap();
        assert!(message.starts_with(char::is_lowercase), "{message}");
    }
    assert!(!process.stderr().contains("secret"), "{}", process.stderr());
}

#[tokio::test]
async fn an_upstream_that_is_away_is_told_by_its_name_and_not_by_the_request() {
    let process = Setup::before_url(&format!("http://{}", upstream::closed_port().await));
    let process = process.spawn().await;
    process.get("/catalogue?secret=1").await.problem(502);
    let ticket = process.accept(order()).await;
    process
        .until_document("a second attempt", &ticket, |it| it["attempts"].as_u64() >= Some(2))
        .await;
    let lines = about(&process, &ticket.id);
    assert!(lines.iter().all(|line| line["level"] == "INFO"), "{lines:?}");
    assert!(lines[0]["message"].as_str().unwrap().contains("made again"), "{lines:?}");
    let passing = logged(&process).into_iter().find(|line| line["method"] == "GET").unwrap();
    assert_eq!((&passing["upstream"], &passing["level"]), (&"default".into(), &"WARN".into()));
    assert!(!process.stderr().contains("secret"), "{}", process.stderr());
}

#[tokio::test]
async fn after_a_crash_it_says_how_many_it_rescued_and_how_many_are_unknown() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    upstream.hold("/reports");
    let mut process =
        Setup::before(&upstream).route("POST /orders", "").route("PUT /reports", "").spawn().await;
    process.accept(order()).await;
    for _ in 0..2 {
        process.accept(Request::new("PUT", "/reports").body("text/plain", "x")).await;
    }
    upstream.until_received("/orders", 1).await;
    upstream.until_received("/reports", 2).await;
    process.kill().await;
    upstream.release("/orders");
    upstream.release("/reports");
    let process = process.again().await;
    let line = time::until("the line about it", || async {
        let took =
            |line: &Value| line["message"].as_str().is_some_and(|it| it.contains("took over"));
        logged(&process).into_iter().find(took)
    })
    .await;
    assert_eq!((&line["rescued"], &line["unknown"]), (&2.into(), &1.into()), "{line}");
    assert!(line["message"].as_str().unwrap().contains("ops list --status failed"), "{line}");
}

#[tokio::test]
async fn what_was_accepted_is_finished_running_waiting_or_in_a_queue() {
    let upstream = Upstream::start().await;
    upstream.on("/wrong", Answer::status(400));
    upstream.hold("/held");
    let process = Setup::before(&upstream).spawn().await;
    for path in ["/orders", "/orders", "/wrong"] {
        let ticket = process.accept(post(path)).await;
        process.settled(&ticket).await;
    }
    process.accept(post("/held").field("Operation-Serial-Key", "a")).await;
    upstream.until_received("/held", 1).await;
    for _ in 0..3 {
        process.accept(order().field("Operation-Serial-Key", "a")).await;
    }
    let waiting = process.accept(order().field("Operation-Serial-Key", "a")).await;
    process.send(post(waiting.at("cancel"))).await.expect(200);
    for _ in 0..2 {
        process.accept(order().field("Operation-Delay", "3600")).await;
    }
    let canceled = process.accept(order().field("Operation-Delay", "3600")).await;
    process.send(post(canceled.at("cancel"))).await.expect(200);
    let deleted = process.accept(order().field("Operation-Delay", "3600")).await;
    process.send(Request::new("DELETE", &*deleted.monitor)).await.expect(204);
    let metrics = process.admin(get("/metrics")).await.expect(200).text();
    for (name, wanted) in [
        ("cloakroom_operations_accepted_total{", 12),
        ("cloakroom_operations_finished_total{", 6),
        ("cloakroom_operations_finished_total{outcome=\"canceled\"", 3),
        ("cloakroom_operations_waiting ", 3),
        ("cloakroom_operations_running ", 1),
        // Those that wait for the key count as queued, too.
        ("cloakroom_queue_depth{", 5),
    ] {
        let samples = metrics.lines().filter(|line| line.starts_with(name));
        let sum: u64 =
            samples.map(|it| it.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum();
        assert_eq!(sum, wanted, "{name} in {metrics}");
    }
}

#[tokio::test]
async fn metrics_are_named_and_described_by_the_conventions() {
    let upstream = Upstream::start().await;
    let process = Setup::before(&upstream).spawn().await;
    let ticket = process.accept(order()).await;
    process.settled(&ticket).await;
    let metrics = process.admin(get("/metrics")).await.expect(200).text();
    let types = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let types: Vec<_> = types.map(|line| line.split_once(' ').unwrap()).collect();
    assert!(types.len() >= 9, "{metrics}");
    for (name, kind) in types {
        assert!(name.starts_with("cloakroom_"), "{name}");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
        assert!(metrics.contains(&format!("# HELP {name} ")), "{name} is not described");
    }
}

#[tokio::test]
async fn an_upstream_that_is_down_at_start_is_told_of_and_holds_nothing_up() {
    let away = upstream::closed_port().await;
    let process = Setup::before_url(&format!("http://{away}")).spawn().await;
    let told = || async {
        let said = process.stderr();
        (said.contains("an upstream cannot be reached") && said.contains(&away.to_string()))
            .then_some(())
    };
    time::until("a warning", told).await;
    process.admin(get("/readyz")).await.expect(200);
    let upstream = Upstream::start().await;
    let process = Setup::before(&upstream).spawn().await;
    process.accept(order()).await;
    upstream.until_received("/orders", 1).await;
    assert!(!process.stderr().contains("cannot be reached"), "{}", process.stderr());
}

#[tokio::test]
async fn a_migration_leaves_no_node_behind_that_lives() {
    let upstream = Upstream::start().await;
    let cluster = crate::support::postgres::cluster();
    let folder = tempfile::TempDir::new().unwrap();
    let file = format!("sqlite:{}/cloakroom.db", folder.path().display());
    for store in [cluster.database(), file] {
        let mut migrate = cloakroom();
        let migrated = migrate.args(["migrate", "--store", &store]).output().await.unwrap();
        assert!(migrated.status.success(), "{migrated:?}");
        let process = Setup::before(&upstream).on(&store).spawn().await;
        let nodes = process.admin(get("/-/nodes")).await.expect(200).json();
        let states: Vec<_> =
            nodes["nodes"].as_array().unwrap().iter().map(|n| &n["state"]).collect();
        let lives = states.iter().filter(|state| **state == "alive" || **state == "silent").count();
        assert_eq!((lives, states.len()), (1, 2), "{nodes}");
    }
}
