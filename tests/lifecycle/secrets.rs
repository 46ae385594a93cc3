//! The readable parts of requests and answers in a ledger with a key, through a crash, a change of
//! key, and the end of the old one.

use serde_json::Value;

use crate::support::gateway::{Process, cloakroom};
use crate::support::postgres::cluster;
use crate::support::time::{until, within};
use crate::support::{Answer, Setup, Upstream, post};

const FIRST: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const SECOND: &str = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";
const CANARIES: [&str; 5] =
    ["canary-query", "canary-credentials", "canary-field", "canary-body", "canary-answer"];

/// Where the ledger of a test lies.
enum Place {
    File,
    /// At this address.
    Database(String),
}

impl Place {
    fn database() -> Self {
        Self::Database(cluster().database())
    }

    fn setup(&self, upstream: &Upstream, secrets: &str) -> Setup {
        let setup = Setup::before(upstream)
            .route("POST /orders", "delivery = \"at-least-once\"")
            .set("store", "lease = \"2s\"")
            .set("secrets", secrets);
        match self {
            Self::File => setup,
            Self::Database(url) => setup.on(url),
        }
    }

    /// Every octet that lies in the ledger.
    fn all(&self, process: &Process) -> Vec<u8> {
        match self {
            Self::File => {
                let path = process.store();
                let files = std::fs::read_dir(path.parent().unwrap()).unwrap();
                let paths = files.map(|file| file.unwrap().path());
                let ledger = |path: &std::path::PathBuf| {
                    path.file_name().unwrap().to_string_lossy().contains("cloakroom.db")
                };
                // The log may go while it is looked for.
                paths
                    .filter(ledger)
                    .flat_map(|path| std::fs::read(path).unwrap_or_default())
                    .collect()
            }
            Self::Database(url) => {
                let name = url.rsplit('/').next().unwrap();
                let tables = cluster()
                    .sql(name, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'");
                let rows = |table| {
                    cluster().sql(name, &format!("SELECT row_to_json(t)::text FROM {table} AS t"))
                };
                tables.lines().map(rows).collect::<Vec<_>>().join("\n").into_bytes()
            }
        }
    }

    fn readable(&self, process: &Process) -> Vec<&'static str> {
        let all = self.all(process);
        let hex = |text: &str| {
            let digits: Vec<_> = text.bytes().map(|octet| format!("{octet:02x}")).collect();
            digits.concat()
        };
        let lies = |text: &str| all.windows(text.len()).any(|window| window == text.as_bytes());
        CANARIES.into_iter().filter(|canary| lies(canary) || lies(&hex(canary))).collect()
    }
}

async fn reseal(process: &Process) -> Value {
    let admin = format!("http://{}", process.admin);
    let mut command = cloakroom();
    command.args(["secrets", "reseal", "--json", "--admin", &admin]);
    let output = within("the end of the command", command.output()).await.unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let report: Value = serde_json::from_str(&printed)
        .unwrap_or_else(|_| panic!("{printed}{}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(output.status.success(), report["previousCanGo"] == true, "{report}");
    report
}

async fn nothing_can_be_read_and_a_key_can_be_changed(place: Place) {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let first = format!("key = {FIRST:?}");
    let mut process = place.setup(&upstream, &first).spawn().await;
    // Too large for a row.
    let body = "canary-body ".repeat(30_000);
    let request = post("/orders?secret=canary-query").body("text/plain", body.clone());
    let request = request.field("Authorization", "Bearer canary-credentials");
    let ticket = process.accept(request.field("X-Secret", "canary-field")).await;
    upstream.until_received("/orders", 1).await;
    assert_eq!(place.readable(&process), Vec::<&str>::new());
    process.kill().await;
    assert_eq!(place.readable(&process), Vec::<&str>::new());

    let both = format!("key = {SECOND:?}\nprevious = [{FIRST:?}]");
    upstream.on("/orders", Answer::status(200).body("text/plain", "canary-answer"));
    upstream.release("/orders");
    let process = process.again_with(place.setup(&upstream, &both)).await;
    assert_eq!(process.settled(&ticket).await["status"], "succeeded");
    let again = upstream.received().pop().unwrap();
    assert_eq!(again.field("authorization"), Some("Bearer canary-credentials"));
    assert_eq!(again.field("x-secret"), Some("canary-field"));
    assert_eq!((&*again.target, again.body), ("/orders?secret=canary-query", body.into_bytes()));
    let result = process.get(&ticket.at("result")).await.expect(200);
    assert_eq!(result.text(), "canary-answer");
    assert_eq!(place.readable(&process), Vec::<&str>::new());
    // A node that was killed counts as alive for a while.
    let report = until("the end of the first key", || async {
        let report = reseal(&process).await;
        (report["previousCanGo"] == true).then_some(report)
    })
    .await;
    assert_eq!(report["unopened"], 0, "{report}");
    let mut process = process;
    process.kill().await;

    let second = format!("key = {SECOND:?}");
    let process = process.again_with(place.setup(&upstream, &second)).await;
    let result = process.get(&ticket.at("result")).await.expect(200);
    assert_eq!(result.text(), "canary-answer");
    assert_eq!(reseal(&process).await["resealed"], 0);
    assert!(!process.stderr().contains("secrets.key"), "{}", process.stderr());
    if let Place::Database(_) = &place {
        let (status, words) = place.setup(&upstream, &first).refused().await;
        assert!(!status.success());
        assert!(words.contains("secrets.previous"), "{words}");
    }
}

#[tokio::test]
async fn nothing_can_be_read_in_a_file_and_its_key_can_be_changed() {
    nothing_can_be_read_and_a_key_can_be_changed(Place::File).await;
}

#[tokio::test]
async fn nothing_can_be_read_in_a_database_and_its_key_can_be_changed() {
    nothing_can_be_read_and_a_key_can_be_changed(Place::database()).await;
}

#[tokio::test]
async fn without_a_key_the_start_says_what_lies_open_and_there_is_nothing_to_seal_with() {
    let upstream = Upstream::start().await;
    let process = Setup::before(&upstream).spawn().await;
    let said = process.stdout() + &process.stderr();
    for open in ["credentials", "bodies", "answers", "secrets.key"] {
        assert!(said.contains(open), "{open}: {said}");
    }
    let admin = format!("http://{}", process.admin);
    let mut command = cloakroom();
    command.args(["secrets", "reseal", "--admin", &admin]);
    let output = within("the end of the command", command.output()).await.unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && words.contains("set secrets.key"), "{words}");
}
