//! `cloakroom listen`, as the author of a receiver uses it.

use std::process::Stdio;
use std::time::Duration;

use cloakroom_domain::webhooks::{Secret, SigningKey};
use cloakroom_runtime::clock::Clock;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
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
        Self::start_with(arguments, None, &[]).await
    }

    /// The same with that on its standard input, and in its environment.
    async fn start_with(
        arguments: &str,
        input: Option<&str>,
        environment: &[(&str, &str)],
    ) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_cloakroom"))
            .args(["listen", "--port", "0", "--json"])
            .args(arguments.split_whitespace())
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdin = process.stdin.take().unwrap();
        stdin.write_all(input.unwrap_or_default().as_bytes()).await.unwrap();
        drop(stdin);
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
        to.signers.keys = vec![SigningKey::Secret(secret)];
        let message = message();
        let attempt = self.outward.sender.send(&message, &to, Clock::system().now());
        time::within("an answer", attempt).await.status
    }

    /// Delivers, and hangs up before an answer can have come. Where it was slow, it had not
    /// even read the delivery.
    async fn hang_up(&self) {
        let address = self.url.trim_start_matches("http://").trim_end_matches('/');
        // It may have ended meanwhile.
        let Ok(mut stream) = TcpStream::connect(address).await else { return };
        let head = format!("POST / HTTP/1.1\r\nhost: {address}\r\nwebhook-id: msg_1\r\n");
        let request = format!("{head}content-length: 2\r\n\r\n{{}}");
        if stream.write_all(request.as_bytes()).await.is_ok() {
            time::pause(Duration::from_millis(100)).await;
        }
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
async fn secrets_come_from_where_nobody_else_sees_them() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secrets");
    let other = Secret::new([1; 32]);
    std::fs::write(&file, format!("{}\n{SECRET}\n", *other.reveal())).unwrap();
    let of_file = format!("--max 2 --secret-file {}", file.display());
    let variable = [("CLOAKROOM_LISTEN_SECRET", SECRET)];
    for (arguments, input, environment, believes_other) in [
        (&*of_file, None, &[][..], 204),
        ("--max 2 --secret-file -", Some(SECRET), &[], 401),
        ("--max 2", None, &variable, 401),
        // What is said on the command line counts alone.
        (&of_file, None, &[("CLOAKROOM_LISTEN_SECRET", "whsec_nonsense")], 204),
    ] {
        let listening = Listening::start_with(arguments, input, environment).await;
        let answers = [listening.deliver(right()).await, listening.deliver(other.clone()).await];
        assert_eq!(answers, [Some(204), Some(believes_other)], "{arguments} {environment:?}");
        let (printed, _) = listening.ended().await;
        assert_eq!(printed[0]["verified"], true, "{arguments} {environment:?}");
    }
}

#[tokio::test]
async fn what_is_no_secret_is_told_without_repeating_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secrets");
    std::fs::write(&file, "hunter2").unwrap();
    let mut of_file = Command::new(env!("CARGO_BIN_EXE_cloakroom"));
    of_file.args(["listen", "--port", "0", "--secret-file"]).arg(&file);
    let mut of_environment = Command::new(env!("CARGO_BIN_EXE_cloakroom"));
    of_environment.args(["listen", "--port", "0"]).env("CLOAKROOM_LISTEN_SECRET", "hunter2");
    for (mut command, place) in
        [(of_file, "--secret-file"), (of_environment, "CLOAKROOM_LISTEN_SECRET")]
    {
        let ended = time::within("its end", command.output()).await.unwrap();
        let says = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(2), "{says}");
        assert!(says.contains(place) && !says.contains("hunter2"), "{says}");
    }
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
async fn whoever_hangs_up_before_the_answer_is_told_of_and_counts() {
    let mut listening = Listening::start("--slow 1h --max 2").await;
    let hanging_up = async {
        while listening.process.try_wait().unwrap().is_none() {
            listening.hang_up().await;
        }
    };
    time::within("its end", hanging_up).await;
    let (printed, code) = listening.ended().await;
    assert_eq!((printed.len(), code), (2, 0), "{printed:?}");
    for told in &printed {
        assert_eq!((&told["id"], &told["answered"]), (&"msg_1".into(), &Value::Null), "{told}");
        assert!(told["hungUpAfterSeconds"].as_f64().unwrap() < 10.0, "{told}");
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
