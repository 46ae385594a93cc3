//! The command line.

mod config_doctor_migrate;
mod exit_codes_and_output;
mod health;
mod ops;
mod serial;

use std::process::Output;

use crate::support::gateway::{Process, cloakroom, order};
use crate::support::time::within;
use crate::support::{Upstream, get};

/// Runs the program to its end.
async fn run(arguments: &[&str], folder: Option<&std::path::Path>) -> Output {
    let mut command = cloakroom();
    command.args(arguments);
    if let Some(folder) = folder {
        command.current_dir(folder);
    }
    within("the end of the command", command.output()).await.unwrap()
}

/// Runs the program to its end in an environment of just these variables.
async fn run_with(environment: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = cloakroom();
    command.args(arguments).envs(environment.iter().copied());
    within("the end of the command", command.output()).await.unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn words(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[tokio::test]
async fn an_upstream_is_all_that_it_needs_to_be_told() {
    let upstream = Upstream::start().await;
    let process = Process::with_flags(&["--upstream", &upstream.url()]).await;
    let ticket = process.accept(order()).await;
    let end = process.until_finished(&ticket).await;
    assert_eq!(end.field("location"), Some(&*format!("{}/orders/1", process.origin())));
    process.get("/-/operations").await.problem(404);
}

#[tokio::test]
async fn flags_name_what_is_asynchronous_and_what_is_shared() {
    let upstream = Upstream::start().await;
    let url = upstream.url();
    let flags = ["--upstream", &*url, "--async", "POST /orders", "--shared"];
    let process = Process::with_flags(&flags).await;
    process.send(order()).await.expect(202);
    process.send(crate::support::post("/alarms")).await.expect(201);
    assert_eq!(process.listed().await, 1);
}

#[tokio::test]
async fn a_flag_gives_the_public_url() {
    let upstream = Upstream::start().await;
    let url = upstream.url();
    let flags = ["--upstream", &*url, "--public-url", "https://api.example.com"];
    let process = Process::with_flags(&flags).await;
    let answer = process.send(order()).await.expect(202);
    let location = answer.expect_field("location");
    assert!(location.starts_with("https://api.example.com/-/operations/"), "{location}");
}

#[tokio::test]
async fn config_check_says_whether_a_configuration_can_be_used() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("cloakroom.toml");
    let path = file.display().to_string();
    std::fs::write(&file, "[upstreams.default]\nurl = \"http://localhost:9000\"\n").unwrap();
    let good = run(&["config", "check", "--config", &path], None).await;
    assert!(good.status.success(), "{}", words(&good));
    std::fs::write(&file, "[upstreams.default]\nurll = \"http://localhost:9000\"\n").unwrap();
    let bad = run(&["config", "check", "--config", &path], None).await;
    assert!(!bad.status.success());
    assert!(
        words(&bad).contains("urll") && words(&bad).contains("did you mean url?"),
        "{}",
        words(&bad)
    );
}

#[tokio::test]
async fn config_print_shows_each_value_and_where_it_came_from() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("cloakroom.toml");
    let text = "[upstreams.default]\nurl = \"http://localhost:9000\"\n[engine]\nslots = 7\n";
    std::fs::write(&file, text).unwrap();
    let path = file.display().to_string();
    let printed = run(&["config", "print", "--config", &path], None).await;
    let said = words(&printed);
    assert!(printed.status.success(), "{said}");
    let slots = said.lines().find(|line| line.contains("slots")).unwrap();
    assert!(slots.contains('7') && slots.contains("cloakroom.toml"), "{slots}");
    let grace = said.lines().find(|line| line.contains("grace")).unwrap();
    assert!(grace.contains("30s") && grace.contains("default"), "{grace}");
}

#[tokio::test]
async fn the_committed_description_of_the_api_is_what_the_program_prints_and_serves() {
    let printed = run(&["openapi"], None).await;
    assert!(printed.status.success(), "{}", words(&printed));
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/cloakroom.json");
    let committed = std::fs::read_to_string(file).expect(file);
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert_eq!(printed.trim_end(), committed.trim_end(), "run `cloakroom openapi` again");
    let upstream = Upstream::start().await;
    let process = Process::with_flags(&["--upstream", &upstream.url()]).await;
    let served = process.send(get("/-/openapi.json")).await.expect(200).json();
    let printed: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(served["paths"], printed["paths"]);
}

#[tokio::test]
async fn openapi_describes_the_routes_of_a_configuration_and_they_are_taken() {
    let upstream = Upstream::start().await;
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("cloakroom.toml");
    let path = file.display().to_string();
    let text = format!(
        "[upstreams.default]\nurl = \"{}\"\n[[routes]]\nmatch = \"POST /orders/{{id}}/lines\"\n\
         allow = [\"async\"]\n[[routes]]\nmatch = \"POST /files/{{*rest}}\"\n",
        upstream.url()
    );
    std::fs::write(&file, text).unwrap();
    let printed = run(&["openapi", "--config", &path], None).await;
    assert!(printed.status.success(), "{}", words(&printed));
    let description: serde_json::Value = serde_json::from_slice(&printed.stdout).unwrap();
    let paths = description["paths"].as_object().unwrap();
    assert!(!paths.contains_key("/{route}"), "one path stands for all routes");
    assert!(paths.contains_key("/-/operations/{ticket}/result"));
    let lines = &paths["/orders/{id}/lines"]["post"];
    assert_eq!(lines["operationId"], "postOrdersIdLines");
    assert!(lines["responses"].get("202").is_some() && lines["responses"].get("504").is_none());
    let deep = &paths["/files/{rest}/{rest2}"]["post"];
    assert_eq!(deep["operationId"], "postFilesRestAtDepth2");
    let process = Process::with_flags(&["--config", &path]).await;
    process.send(crate::support::post("/orders/7/lines")).await.expect(202);
    process.send(crate::support::post("/files/a/b")).await.expect(202);
}

#[tokio::test]
async fn openapi_tells_every_fault_of_a_configuration_as_config_check_does() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("cloakroom.toml");
    let path = file.display().to_string();
    for text in [
        "[upstreams.default]\nurll = \"http://localhost:9000\"\n",
        "[upstreams.default]\nurl = \"http://localhost:9000\"\n[[routes]]\nmatch = \"post\"\n",
    ] {
        std::fs::write(&file, text).unwrap();
        let checked = run(&["config", "check", "--config", &path], None).await;
        let described = run(&["openapi", "--config", &path], None).await;
        assert!(described.stdout.is_empty(), "{}", words(&described));
        assert_eq!(described.status.code(), checked.status.code());
        assert_eq!(described.stderr, checked.stderr);
    }
}

#[tokio::test]
async fn the_demo_ends_in_the_created_order_and_its_webhook() {
    let folder = tempfile::TempDir::new().unwrap();
    let demo = run(&["demo", "--once"], Some(folder.path())).await;
    let said = words(&demo);
    assert!(demo.status.success(), "{said}");
    for part in ["202", "303", "Location", "at-least-once", "allow_http = true"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    for topic in ["operation.succeeded", "operation.failed"] {
        let told = said.lines().skip_while(|line| !line.contains("~~> webhook"));
        let mut told = told.skip_while(|line| !line.contains(&format!("Z {topic} msg_")));
        assert!(told.next().is_some(), "{topic} in {said}");
        let judged = told.next().unwrap();
        assert!(judged.contains("verified") && judged.contains("204"), "{judged}");
    }
}

#[tokio::test]
async fn what_is_no_command_is_refused_with_what_there_is() {
    let refused = run(&["serv"], None).await;
    assert!(!refused.status.success());
    assert!(words(&refused).contains("serve"), "{}", words(&refused));
}
