//! `cloakroom config`, `doctor` and `migrate`: commands for the time before a gateway runs.

use std::path::Path;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::{run, run_with, stdout, words};
use crate::support::gateway::{Process, cloakroom};
use crate::support::time::within;
use crate::support::{Setup, Upstream, post, upstream};

const GOOD: &str = "[upstreams.default]\nurl = \"http://localhost:9000\"\n";

fn written(folder: &Path, text: &str) -> String {
    let file = folder.join("cloakroom.toml");
    std::fs::write(&file, text).unwrap();
    file.display().to_string()
}

#[tokio::test]
async fn check_tells_every_fault_with_its_place_and_machines_the_same() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = written(folder.path(), "[server]\nlistne = \"x\"\n[engine]\nslots = \"many\"\n");
    let said = run(&["config", "check", "--config", &path], None).await;
    assert_eq!(said.status.code(), Some(2));
    for part in ["cloakroom.toml:2", "listen?", "cloakroom.toml:4", "engine.slots"] {
        assert!(words(&said).contains(part), "{part} in {}", words(&said));
    }
    let told = run(&["config", "check", "--json", "--config", &path], None).await;
    assert_eq!(told.status.code(), Some(2));
    let told: Value = serde_json::from_str(&stdout(&told)).expect("JSON");
    assert_eq!(told["usable"], false);
    assert!(told["faults"].as_array().unwrap().len() >= 2, "{told}");
    let path = written(folder.path(), GOOD);
    let told = run(&["config", "check", "--json", "--config", &path], None).await;
    let told: Value = serde_json::from_str(&stdout(&told)).expect("JSON");
    assert_eq!(told["usable"], true);
}

#[tokio::test]
async fn check_refuses_a_filter_of_the_log_that_would_silence_it() {
    let folder = tempfile::TempDir::new().unwrap();
    for (filter, word) in [
        ("warning", "warning"),
        ("loud", "loud"),
        ("cloakroom:debug", "cloakroom:debug"),
        ("info;cloakroom=debug", "info;cloakroom"),
        ("info,sqlx=", "sqlx"),
    ] {
        let path = written(folder.path(), &format!("{GOOD}[log]\nfilter = \"{filter}\"\n"));
        let said = run(&["config", "check", "--config", &path], None).await;
        assert_eq!(said.status.code(), Some(2), "{filter}");
        for part in ["log.filter", &*format!("`{word}`"), "error, warn, info, debug, trace, off"] {
            assert!(words(&said).contains(part), "{part} in {}", words(&said));
        }
    }
}

#[tokio::test]
async fn flags_win_over_the_environment_and_that_over_the_file() {
    let folder = tempfile::TempDir::new().unwrap();
    let text = format!("{GOOD}[server]\nlisten = \"127.0.0.1:1\"\n[engine]\nslots = 7\n");
    let path = written(folder.path(), &text);
    let environment =
        [("CLOAKROOM_SERVER_LISTEN", "127.0.0.1:2"), ("CLOAKROOM_ADMIN_LISTEN", "127.0.0.1:3")];
    let arguments = ["config", "print", "--json", "--config", &path, "--listen", "127.0.0.1:4"];
    let printed = run_with(&environment, &arguments).await;
    assert!(printed.status.success(), "{}", words(&printed));
    let printed: Value = serde_json::from_str(&stdout(&printed)).expect("JSON");
    for (setting, value, source) in [
        ("server.listen", "127.0.0.1:4", "--listen"),
        ("admin.listen", "127.0.0.1:3", "CLOAKROOM_ADMIN_LISTEN"),
        ("engine.slots", "7", "cloakroom.toml:6"),
        ("shutdown.grace", "30s", "default"),
    ] {
        let row = &printed[setting];
        assert_eq!(row["value"], value, "{setting}: {row}");
        assert!(row["source"].as_str().unwrap().ends_with(source), "{setting}: {row}");
    }
}

#[tokio::test]
async fn an_unknown_variable_is_refused_with_the_nearest_known_one() {
    let check = ["config", "check", "--upstream", "http://localhost:9000"];
    let said = run_with(&[("CLOAKROOM_SERVER_LISTNE", "x")], &check).await;
    assert_eq!(said.status.code(), Some(2));
    for part in ["CLOAKROOM_SERVER_LISTNE", "CLOAKROOM_SERVER_LISTEN"] {
        assert!(words(&said).contains(part), "{part} in {}", words(&said));
    }
}

#[tokio::test]
async fn without_an_upstream_it_says_how_to_name_one() {
    let folder = tempfile::TempDir::new().unwrap();
    for arguments in [&["serve"][..], &["config", "check"]] {
        let said = run(arguments, Some(folder.path())).await;
        assert_eq!(said.status.code(), Some(2));
        assert!(words(&said).contains("--upstream"), "{}", words(&said));
    }
}

#[tokio::test]
async fn a_configuration_that_is_not_there_is_named() {
    let said = run(&["serve", "--config", "/nowhere/cloakroom.toml"], None).await;
    assert_eq!(said.status.code(), Some(2));
    assert!(words(&said).contains("/nowhere/cloakroom.toml"), "{}", words(&said));
}

/// What the doctor finds, by the name of the check.
async fn examined(flags: &[&str]) -> (bool, Vec<(String, String, String)>) {
    let output = run(&[&["doctor", "--json"], flags].concat(), None).await;
    let found: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let checks = found["checks"].as_array().expect("checks").iter();
    let checks = checks.map(|it| (text(&it["check"]), text(&it["verdict"]), text(&it["says"])));
    (output.status.success(), checks.collect())
}

#[tokio::test]
async fn the_doctor_is_content_where_everything_is_fine() {
    let upstream = Upstream::start().await;
    let folder = tempfile::TempDir::new().unwrap();
    let store = format!("sqlite:{}/cloakroom.db", folder.path().display());
    let url = upstream.url();
    let flags = ["--upstream", &*url, "--store", &*store, "--listen", "127.0.0.1:0"];
    let flags = [&flags[..], &["--admin-listen", "127.0.0.1:0"]].concat();
    let (well, checks) = examined(&flags).await;
    assert!(well && checks.iter().all(|(_, verdict, _)| verdict != "fail"), "{checks:?}");
    let table = run(&[&["doctor"], &*flags].concat(), None).await;
    assert!(table.status.success());
    assert!(stdout(&table).lines().all(|line| line.starts_with("ok ") || line.starts_with("warn")));
    assert!(!folder.path().join("cloakroom.db").exists(), "it looks and leaves nothing behind");
}

#[tokio::test]
async fn the_doctor_names_what_fails_and_what_to_do() {
    let upstream = Upstream::start().await;
    let taken = upstream.address.to_string();
    let gone = format!("http://{}", upstream::closed_port().await);
    let flags = ["--upstream", &*gone, "--store", "sqlite:/nowhere/x.db", "--listen", &*taken];
    let (well, checks) = examined(&flags).await;
    assert!(!well);
    for (check, advice) in [
        ("upstream default", "--upstream"),
        ("ledger's folder /nowhere", "--store"),
        ("server.listen", "choose another"),
    ] {
        let found = checks.iter().find(|(name, ..)| name == check);
        let (_, verdict, says) = found.unwrap_or_else(|| panic!("{check} in {checks:?}"));
        assert_eq!(verdict, "fail", "{check}");
        assert!(says.contains(advice), "{says}");
    }
    let table = run(&[&["doctor"], &flags[..]].concat(), None).await;
    assert_eq!(table.status.code(), Some(1));
    assert!(stdout(&table).contains("fail  upstream default"), "{}", stdout(&table));
}

#[tokio::test]
async fn the_doctor_tells_a_configuration_that_cannot_be_used() {
    let (well, checks) = examined(&["--upstream", "ftp://localhost"]).await;
    assert!(!well);
    assert!(matches!(&*checks, [(name, ..)] if name == "configuration"), "{checks:?}");
}

#[tokio::test]
async fn serve_without_migrations_refuses_a_new_ledger_until_migrate_has_run() {
    let upstream = Upstream::start().await;
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("cloakroom.db").display().to_string();
    let store = format!("sqlite:{path}");
    let url = upstream.url();
    let serve = ["serve", "--no-migrate", "--upstream", &*url, "--store", &*store];
    let serve =
        [&serve[..], &["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]].concat();
    for _ in 0..2 {
        let refused = run(&serve, None).await;
        assert_eq!(refused.status.code(), Some(1));
        for part in [&*path, "cloakroom migrate"] {
            assert!(words(&refused).contains(part), "{part} in {}", words(&refused));
        }
    }
    for _ in 0..2 {
        let migrated = run(&["migrate", "--store", &store], None).await;
        assert!(migrated.status.success(), "{}", words(&migrated));
        assert!(stdout(&migrated).contains("up to date"), "{}", words(&migrated));
    }
    let mut gateway = cloakroom().args(&serve).spawn().unwrap();
    let mut said = BufReader::new(gateway.stdout.take().unwrap()).lines();
    let listening = async {
        while let Some(line) = said.next_line().await.unwrap() {
            if line.starts_with("listening on ") {
                return true;
            }
        }
        false
    };
    assert!(within("the start of the process", listening).await);
}

#[tokio::test]
async fn migrate_refuses_a_ledger_that_a_gateway_has() {
    let upstream = Upstream::start().await;
    let process = Setup::before(&upstream).spawn().await;
    let store = format!("sqlite:{}", process.store().display());
    let refused = run(&["migrate", "--store", &store], None).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(words(&refused).contains("in use by another gateway"), "{}", words(&refused));
}

/// Runs `config check` and `serve` with the same flags: both have to say the same.
async fn refused_by_both(flags: &[&str], says: &str) {
    let folder = tempfile::TempDir::new().unwrap();
    for command in [&["config", "check"][..], &["serve", "--listen", "127.0.0.1:0"]] {
        let arguments: Vec<_> = command.iter().chain(flags).copied().collect();
        let said = run(&arguments, Some(folder.path())).await;
        assert!(!said.status.success(), "{arguments:?}");
        assert!(words(&said).contains(says), "{arguments:?}: {}", words(&said));
    }
}

#[tokio::test]
async fn what_serve_refuses_check_refuses_too() {
    let upstream = ["--upstream", "http://localhost:9000"];
    for route in ["POST /orders/*", "POST /*rest", "POST /orders/:id", "* /:a/b"] {
        refused_by_both(&[&upstream[..], &["--async", route]].concat(), "{*rest}").await;
    }
    refused_by_both(&["--upstream", "http://localhost:9000/base"], "upstreams.default.url").await;
    refused_by_both(&[&upstream[..], &["--public-url", "api.example.com"]].concat(), "public_url")
        .await;
}

#[tokio::test]
async fn of_routes_that_overlap_both_say_which_goes_first() {
    let upstream = Upstream::start().await;
    let flags = ["--async", "POST /{*rest}", "--async", "POST /orders/{id}", "--async", "PUT /x"];
    let url = upstream.url();
    let check = [&["config", "check", "--upstream", &*url][..], &flags].concat();
    let said = stdout(&run(&check, None).await);
    let line = "note: POST /{*rest} also matches what POST /orders/{id} takes";
    assert!(said.contains(line), "{said}");
    assert_eq!(said.matches("also matches").count(), 1, "{said}");
    let process = Process::with_flags(&[&["--upstream", &*url][..], &flags].concat()).await;
    assert!(process.stdout().contains(line), "{}", process.stdout());
    // As it says.
    upstream.on("/orders/7", crate::support::Answer::status(204));
    process.send(post("/orders/7")).await.expect(202);
}

#[tokio::test]
async fn what_is_opened_too_wide_is_refused_or_told_by_check_serve_and_doctor() {
    let folder = tempfile::TempDir::new().unwrap();
    let trusts = |range: &str| {
        format!(
            "{GOOD}[server]\nlisten = \"127.0.0.1:0\"\ntrusted_proxies = [\"{range}\"]\n\
             [auth]\nprincipal = \"header:X-User\"\n"
        )
    };
    for (range, named) in [
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("::/0", "::/0"),
        ("128.0.0.0/1", "128.0.0.0/1"),
        ("::ffff:0.0.0.0/96", "0.0.0.0/0"),
        ("fc00::/7", "fc00::/7"),
        ("0.0.0.0/9\", \"0.128.0.0/9\", \"1.0.0.0/8", "0.0.0.0/7"),
    ] {
        let path = written(folder.path(), &trusts(range));
        for command in [&["config", "check"][..], &["serve"], &["doctor"]] {
            let arguments = [command, &["--config", &*path]].concat();
            let said = run(&arguments, Some(folder.path())).await;
            assert!(!said.status.success(), "{range}");
            let said = format!("{}{}", stdout(&said), words(&said));
            assert!(said.contains("server.trusted_proxies") && said.contains(named), "{said}");
        }
    }
    let path = written(folder.path(), &trusts("10.0.0.0/8"));
    let said = run(&["config", "check", "--config", &path], None).await;
    assert!(said.status.success() && !stdout(&said).contains("trusted_proxies"));
    let allows = format!("{GOOD}[webhooks]\nallow = [\"169.254.0.0/16\", \"10.0.0.0/8\"]\n");
    let path = written(folder.path(), &allows);
    for command in [&["config", "check"][..], &["doctor"]] {
        let said = run(&[command, &["--config", &*path]].concat(), Some(folder.path())).await;
        assert!(stdout(&said).contains("webhooks.allow holds 169.254.0.0/16"), "{}", stdout(&said));
    }
}

#[tokio::test]
async fn a_setting_of_another_section_is_named_where_it_is_looked_for() {
    let folder = tempfile::TempDir::new().unwrap();
    for (text, near) in [
        ("[server]\nadmin_listen = \"127.0.0.1:1\"", "did you mean listen in [admin]?"),
        ("[server]\nprincipal = \"none\"", "did you mean principal in [auth]?"),
        ("public_url = \"https://a.example\"", "did you mean public_url in [server]?"),
        ("[server]\nlistne = \"127.0.0.1:1\"", "did you mean listen?"),
    ] {
        // What stands before a section belongs to none.
        let path = written(folder.path(), &format!("{text}\n{GOOD}"));
        let said = run(&["config", "check", "--config", &path], None).await;
        assert!(words(&said).contains(near), "{near} in {}", words(&said));
    }
}

#[tokio::test]
async fn a_port_alone_listens_on_every_address() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream).listen_on(":0").start().await;
    gateway.get("/catalogue").await.expect(200);
    let process = Setup::before(&upstream).listen_on(":0").spawn().await;
    assert!(process.stdout().contains("listening on http://[::]:"), "{}", process.stdout());
    // It is not on loopback, so it says what follows from that.
    assert!(process.stdout().contains("server.public_url is not set"), "{}", process.stdout());
}

#[tokio::test]
async fn where_links_lead_is_said_at_start() {
    let upstream = Upstream::start().await;
    let process = Setup::before(&upstream).spawn().await;
    let said = process.stdout();
    assert!(
        said.contains("server.public_url is not set, so that links in answers lead to"),
        "{said}"
    );
    let public = "public_url = \"https://api.example.com\"";
    let process = Setup::before(&upstream).set("server", public).spawn().await;
    assert!(!process.stdout().contains("public_url"), "{}", process.stdout());
}

#[tokio::test]
async fn a_file_of_another_program_is_left_as_it_is() {
    let folder = tempfile::TempDir::new().unwrap();
    let theirs = folder.path().join("theirs.db");
    let database = rusqlite::Connection::open(&theirs).unwrap();
    database.execute_batch("CREATE TABLE customers (name TEXT)").unwrap();
    database.close().unwrap();
    let before = std::fs::read(&theirs).unwrap();
    let store = format!("sqlite:{}", theirs.display());
    let upstream = ["--upstream", "http://localhost:9000"];
    for command in [
        [&["serve", "--listen", "127.0.0.1:0", "--admin-listen", "off"][..], &upstream].concat(),
        [&["serve", "--no-migrate", "--listen", "127.0.0.1:0"][..], &upstream].concat(),
        vec!["migrate"],
        [&["doctor"][..], &upstream].concat(),
    ] {
        let arguments = [&command[..], &["--store", &*store]].concat();
        let said = run(&arguments, Some(folder.path())).await;
        assert!(!said.status.success(), "{arguments:?}");
        let said = format!("{}{}", stdout(&said), words(&said));
        assert!(
            said.contains("belongs to another program") && said.contains("customers"),
            "{said}"
        );
        assert!(std::fs::read(&theirs).unwrap() == before, "{arguments:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "{arguments:?}");
    }
}

#[tokio::test]
async fn an_upstream_that_is_the_gateway_itself_is_refused_by_check_serve_and_doctor() {
    let flags = ["--upstream", "http://localhost:8080", "--listen", "127.0.0.1:8080"];
    for command in [&["serve"][..], &["config", "check"]] {
        let said = run(&[command, &flags].concat(), None).await;
        assert_eq!(said.status.code(), Some(2), "{command:?}: {}", words(&said));
        assert!(words(&said).contains("the gateway itself listens there"), "{}", words(&said));
    }
    let (is_content, checks) = examined(&flags).await;
    let failed = |(_, verdict, says): &(String, String, String)| {
        verdict == "fail" && says.contains("upstreams.default.url") && says.contains("508")
    };
    assert!(!is_content && checks.iter().any(failed), "{checks:?}");
}

#[tokio::test]
async fn what_hardly_does_what_it_says_is_told_by_check_and_doctor() {
    let folder = tempfile::TempDir::new().unwrap();
    let text = format!(
        "{GOOD}[server]\npublic_url = \"http://localhost:9000\"\n[[routes]]\nmatch = \"POST /orders\"\n\
         timeout = \"2d\"\nretry = {{ statuses = [500] }}\n"
    );
    let path = written(folder.path(), &text);
    let said = run(&["config", "check", "--config", &path], None).await;
    assert!(said.status.success(), "{}", words(&said));
    let (_, checks) = examined(&["--config", &path]).await;
    for (setting, why) in [
        ("upstreams.default.url", "server.public_url"),
        ("routes[0].timeout", "the deadline (24h)"),
        ("routes[0].retry.statuses", "at most once"),
    ] {
        let told = |line: &str| line.contains(setting) && line.contains(why);
        assert!(words(&said).lines().any(told), "{setting}: {}", words(&said));
        let warned = checks.iter().any(|(_, verdict, says)| verdict == "warn" && told(says));
        assert!(warned, "{setting}: {checks:?}");
    }
}

#[tokio::test]
async fn a_start_prints_what_hardly_does_what_it_says_and_what_is_opened_too_wide() {
    let upstream = Upstream::start().await;
    let process = Setup::before(&upstream)
        .set("server", "trusted_proxies = [\"0.0.0.0/0\"]")
        .route("POST /orders", "timeout = \"2d\"\nretry = { statuses = [500] }")
        .spawn()
        .await;
    for (setting, why) in [
        ("secrets.key", "readable by"),
        ("server.public_url", "links in answers lead to"),
        ("server.trusted_proxies", "0.0.0.0/0"),
        ("routes[0].timeout", "the deadline (24h)"),
        ("routes[0].retry.statuses", "at most once"),
    ] {
        let told =
            |line: &str| line.starts_with("note: ") && line.contains(setting) && line.contains(why);
        assert!(process.stdout().lines().any(told), "{setting}: {}", process.stdout());
    }
}
