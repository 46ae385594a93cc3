//! Exit codes, output streams and messages of every command.

use std::process::Stdio;

use tokio::process::Command;

use super::{run, run_with, stdout, words};
use crate::support::gateway::cloakroom;
use crate::support::time::{self, within};

#[tokio::test]
async fn every_command_has_help_with_examples() {
    for command in [
        "",
        "serve",
        "worker",
        "demo",
        "migrate",
        "config",
        "config check",
        "config print",
        "doctor",
        "openapi",
        "nodes",
        "ops",
        "ops list",
        "ops show",
        "ops result",
        "ops cancel",
        "ops retry",
        "queues",
    ] {
        let arguments: Vec<_> = command.split_whitespace().chain(["--help"]).collect();
        let help = run(&arguments, None).await;
        assert!(help.status.success(), "{command}: {}", words(&help));
        let example = format!("  cloakroom {command}");
        let said = stdout(&help);
        assert!(said.contains("Examples:") && said.contains(&example), "{command}: {said}");
    }
}

#[tokio::test]
async fn what_is_asked_wrongly_is_2_and_nothing_is_on_the_standard_output() {
    for arguments in [
        &["serv"][..],
        &["serve", "--upstrem", "http://localhost"],
        &["ops", "show"],
        &["ops", "list", "--limit", "many"],
        &[],
    ] {
        let refused = run(arguments, None).await;
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}");
        assert_eq!(stdout(&refused), "", "{arguments:?}");
    }
}

/// What the program prints on a terminal.
async fn on_a_terminal(environment: &[(&str, &str)]) -> String {
    let mut command = Command::new("script");
    let program = env!("CARGO_BIN_EXE_cloakroom");
    command.args(["-qec", &format!("'{program}' --help"), "/dev/null"]);
    command.env_remove("NO_COLOR").env("TERM", "xterm").envs(environment.iter().copied());
    let output = within("the end of the command", command.stdin(Stdio::null()).output()).await;
    String::from_utf8(output.expect("script, of util-linux").stdout).unwrap()
}

#[tokio::test]
async fn colour_is_for_terminals_whose_owner_wants_it() {
    assert!(on_a_terminal(&[]).await.contains("\x1b["));
    assert!(!on_a_terminal(&[("NO_COLOR", "1")]).await.contains("\x1b["));
    let piped = run_with(&[("TERM", "xterm")], &["--help"]).await;
    assert!(!words(&piped).contains("\x1b["), "{}", words(&piped));
}

#[tokio::test]
async fn a_demo_that_is_interrupted_before_the_created_order_fails() {
    let mut command = cloakroom();
    let mut demo = command.args(["demo", "--once"]).spawn().unwrap();
    let mut said = tokio::io::BufReader::new(demo.stdout.take().unwrap());
    // The order needs a second and a half from here.
    let accepted = async {
        let mut line = String::new();
        while !line.contains("202") {
            line.clear();
            let read = tokio::io::AsyncBufReadExt::read_line(&mut said, &mut line).await.unwrap();
            assert_ne!(read, 0, "it ended without a 202");
        }
    };
    within("the 202", accepted).await;
    let kill = format!("kill -TERM {}", demo.id().unwrap());
    assert!(Command::new("sh").args(["-c", &kill]).status().await.unwrap().success());
    let ended = within("the end of the demo", demo.wait()).await.unwrap();
    assert_eq!(ended.code(), Some(1));
}

#[tokio::test]
async fn a_demo_that_cannot_begin_fails_and_says_why() {
    let failed = run_with(&[("TMPDIR", "/nowhere")], &["demo", "--once"]).await;
    assert_eq!(failed.status.code(), Some(1));
    assert!(words(&failed).contains("temporary folder"), "{}", words(&failed));
}

#[tokio::test]
async fn a_reader_that_leaves_early_is_no_error() {
    let mut command = cloakroom();
    let mut openapi = command.arg("openapi").spawn().unwrap();
    drop(openapi.stdout.take());
    let ended = time::within("the end of the command", openapi.wait()).await.unwrap();
    assert!(ended.success(), "{ended}");
}

#[tokio::test]
async fn a_count_of_none_is_refused_with_its_bounds() {
    for arguments in [
        &["ops", "list", "--limit"][..],
        &["webhooks", "deliveries", "ID", "--limit"],
        &["listen", "--max"],
    ] {
        for given in ["0", "-1", "4294967296", "1.5", ""] {
            let output = run(&[arguments, &[given]].concat(), None).await;
            assert_eq!(output.status.code(), Some(2), "{arguments:?} {given}");
            assert!(words(&output).contains("from 1 to 4294967295"), "{}", words(&output));
        }
    }
}
