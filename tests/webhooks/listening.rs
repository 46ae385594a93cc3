//! `cloakroom listen`, as somebody uses it who writes a receiver.

use std::process::Stdio;

use cloakroom::clock::Clock;
use cloakroom::domain::delivery::{Secret, SigningKey};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};

use super::outward::{Names, Outward, SECRET, message, open_to, target};
use crate::support::time;

struct Listening {
    process: Child,
    /// Kept, so that it can go on telling.
    _told: BufReader<ChildStderr>,
    url: String,
    outward: Outward,
}

impl Listening {
    async fn start(arguments: &str) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_cloakroom"))
            .args(["listen", "--port", "0", "--json"])
            .args(arguments.split_whitespace())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut told = BufReader::new(process.stderr.take().unwrap());
        time::within("it listens", told.read_line(&mut line)).await.unwrap();
        let url = line.trim().strip_prefix("listening on ").expect(&line).to_owned();
        let address = url.trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
        let outward = Outward::new(open_to(&[address]), &[], Names::loopback(), Vec::new());
        Self { process, _told: told, url, outward }
    }

    /// The status that a delivery gets which is signed now, with that secret.
    async fn deliver(&self, secret: Secret) -> Option<u16> {
        let mut to = target(&self.url);
        to.keys = vec![SigningKey::Secret(secret)];
        let message = message();
        let attempt = self.outward.sender.send(&message, &to, Clock::system().now());
        time::within("an answer", attempt).await.status
    }

    /// What it printed, and its exit code.
    async fn ended(mut self) -> (Vec<Value>, i32) {
        let mut printed = String::new();
        let mut output = self.process.stdout.take().unwrap();
        time::within("its output", output.read_to_string(&mut printed)).await.unwrap();
        let code = time::within("its end", self.process.wait()).await.unwrap().code().unwrap();
        (printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), code)
    }
}

fn right() -> Secret {
    Secret::parse(SECRET).unwrap()
}

#[tokio::test]
async fn it_verifies_and_tells_and_ends_with_1_where_something_was_not_to_be_believed() {
    let listening = Listening::start(&format!("--secret {SECRET} --fail 1 --max 3")).await;
    assert_eq!(listening.deliver(right()).await, Some(500));
    assert_eq!(listening.deliver(right()).await, Some(204));
    assert_eq!(listening.deliver(Secret::new([1; 32])).await, Some(401));
    let (printed, code) = listening.ended().await;
    assert_eq!(code, 1);
    let times: Vec<_> = printed.iter().map(|seen| seen["times"].as_u64().unwrap()).collect();
    assert_eq!(times, [1, 2, 3]);
    assert_eq!((&printed[0]["verified"], &printed[0]["id"]), (&true.into(), &"msg_1".into()));
    assert!(printed[2]["why"].as_str().unwrap().contains("another secret"), "{printed:?}");
}

#[tokio::test]
async fn it_misbehaves_as_told() {
    for (arguments, status) in [
        ("--gone --max 1", Some(410)),
        ("--status 302 --max 1", Some(302)),
        ("--drop --max 1", None),
    ] {
        let listening = Listening::start(arguments).await;
        assert_eq!(listening.deliver(right()).await, status, "{arguments}");
        assert_eq!(listening.ended().await.1, 0, "{arguments}");
    }
}

#[tokio::test]
async fn it_allows_who_asks_first() {
    let listening = Listening::start("").await;
    let to = target(&listening.url);
    let asked =
        listening.outward.sender.ask_permission(&to, "gw.example.com", Clock::system().now());
    assert!(time::within("permission", asked).await.permission.is_some());
}
