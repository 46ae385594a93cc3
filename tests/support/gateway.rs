//! The gateway under test: inside the test with a clock that the test moves, or as a
//! process of its own that can be killed.
//!
//! The only file of the tests that names items of the program, its settings' keys that
//! every test needs, and the lines that the program prints at start.

use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cloakroom::app::{App, Options};
use cloakroom::config::Config;
use cloakroom_domain::Timestamp;
use cloakroom_runtime::clock::Clock;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

use super::certificates::Authority;
use super::client::{Request, Response, get, post};
use super::time;
use super::upstream::Upstream;

/// When a manual clock starts: 2026-11-21T08:00:00Z.
const START: Timestamp = Timestamp::from_micros(1_795_248_000_000_000);

/// Where a node listens that answers no client.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A configuration, put together from snippets.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// The ledger's database; a file of the gateway's own where there is none.
    database: Option<String>,
    sections: Vec<(String, String)>,
    routes: Vec<String>,
}

impl Setup {
    /// Everything at its default in front of this upstream, with the list of operations
    /// on the public listener.
    pub fn before(upstream: &Upstream) -> Self {
        Self::before_url(&upstream.url())
    }

    pub fn before_url(url: &str) -> Self {
        Self::default()
            .set("upstreams.default", &format!("url = {url:?}"))
            .set("server", "listen = \"127.0.0.1:0\"")
            .set("admin", "listen = \"127.0.0.1:0\"")
            .set("auth", "shared = true")
    }

    /// Adds lines to a section.
    pub fn set(mut self, section: &str, lines: &str) -> Self {
        match self.sections.iter_mut().find(|(name, _)| name == section) {
            Some((_, text)) => text.extend([lines, "\n"]),
            None => self.sections.push((section.into(), format!("{lines}\n"))),
        }
        self
    }

    /// Keeps the ledger in the database at this address.
    pub fn on(mut self, database: &str) -> Self {
        self.database = Some(database.to_owned());
        self
    }

    /// Adds a route: what it matches, and further lines.
    pub fn route(mut self, matches: &str, lines: &str) -> Self {
        self.routes.push(format!("match = {matches:?}\n{lines}\n"));
        self
    }

    /// Listens on every address, where URLs follow the request.
    pub fn listen_everywhere(self) -> Self {
        self.listen_on("0.0.0.0:0")
    }

    /// Listens on this address.
    pub fn listen_on(mut self, address: &str) -> Self {
        for (name, text) in &mut self.sections {
            if name == "server" {
                *text = text.replace("127.0.0.1:0", address);
            }
        }
        self
    }

    /// Whether what shows everybody's operations is on the public listener.
    pub fn shared(self, shared: bool) -> Self {
        self.auth(&format!("shared = {shared}"))
    }

    /// What tells callers apart.
    pub fn principal(self, rule: &str) -> Self {
        self.auth(&format!("principal = {rule:?}"))
    }

    fn auth(mut self, lines: &str) -> Self {
        self.sections.retain(|(name, _)| name != "auth");
        self.set("auth", lines)
    }

    /// The largest request body, in octets.
    pub fn max_body(self, octets: usize) -> Self {
        self.set("server", &format!("max_body = {octets}"))
    }

    /// The memory that bodies being received share, in octets.
    pub fn body_memory(self, octets: usize) -> Self {
        self.set("server", &format!("body_memory = {octets}"))
    }

    /// The largest answer of the upstream that is kept, in octets.
    pub fn max_response(self, octets: usize) -> Self {
        self.set("upstreams.default", &format!("max_response = {octets}"))
    }

    /// The configuration's text, with the ledger in `store`.
    pub fn text(&self, store: &Path) -> String {
        let file = format!("sqlite:{}", store.display());
        let mut text = format!("[store]\nurl = {:?}\n", self.database.as_ref().unwrap_or(&file));
        let (store, others): (Vec<_>, Vec<_>) =
            self.sections.iter().partition(|(name, _)| name == "store");
        store.iter().for_each(|(_, lines)| text.push_str(lines));
        for (name, lines) in others {
            text.extend(["[", name, "]\n", lines]);
        }
        for route in &self.routes {
            text.extend(["[[routes]]\n", route]);
        }
        text
    }

    /// A gateway inside this test.
    pub async fn start(self) -> Gateway {
        let folder = Arc::new(TempDir::new().unwrap());
        Gateway::start(self, folder, Clock::manual(START)).await
    }

    /// A gateway as a process of its own.
    pub async fn spawn(self) -> Process {
        Process::spawn(self, Arc::new(TempDir::new().unwrap())).await
    }

    /// A node as a process of its own, by this command and these flags.
    pub async fn spawn_as(self, arguments: &[&str]) -> Process {
        let folder = Arc::new(TempDir::new().unwrap());
        let mut command = cloakroom();
        command.args(arguments).arg("--config").arg(write_config(&self, folder.path()));
        Process::run(command, self, folder).await
    }

    /// A gateway as a process of its own whose system clock is off by that much, as in
    /// `+120s`.
    pub async fn spawn_off_by(self, offset: &str) -> Process {
        let folder = Arc::new(TempDir::new().unwrap());
        let mut command = serve(&write_config(&self, folder.path()));
        command.env("LD_PRELOAD", wrong_clock()).env("FAKETIME", offset);
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        Process::run(command, self, folder).await
    }

    /// A gateway as a process of its own that may open so many files, and may raise that to
    /// `most`.
    pub async fn spawn_with_files(self, files: u64, most: u64) -> Process {
        let folder = Arc::new(TempDir::new().unwrap());
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={files}:{most}")).arg(env!("CARGO_BIN_EXE_cloakroom"));
        command.arg("serve").arg("--config").arg(write_config(&self, folder.path()));
        Process::run(alone(command), self, folder).await
    }

    /// A gateway as a process of its own that trusts this authority and no other.
    pub async fn spawn_trusting(self, authority: &Authority) -> Process {
        let folder = Arc::new(TempDir::new().unwrap());
        let roots = folder.path().join("roots.pem");
        std::fs::write(&roots, authority.root_pem()).unwrap();
        let mut command = serve(&write_config(&self, folder.path()));
        command.env("SSL_CERT_FILE", roots);
        Process::run(command, self, folder).await
    }

    /// A gateway as a process of its own, with its ledger in this folder.
    pub async fn spawn_in(self, folder: &Path) -> Process {
        Process::spawn(self, Arc::new(TempDir::new_in(folder).unwrap())).await
    }

    /// A gateway inside this test, with its ledger in this folder.
    pub async fn start_in(self, folder: &Path) -> Gateway {
        let folder = Arc::new(TempDir::new_in(folder).unwrap());
        Gateway::start(self, folder, Clock::manual(START)).await
    }

    /// A gateway as a process of its own, of a user without rights, with its ledger in this folder.
    pub async fn spawn_without_rights(self, folder: Arc<TempDir>) -> Process {
        let mut command = without_rights();
        command.arg("serve").arg("--config").arg(write_config(&self, folder.path()));
        Process::run(command, self, folder).await
    }

    /// Runs `serve` as a process that is expected to refuse, and gives its exit and words.
    pub async fn refused(self) -> (ExitStatus, String) {
        let folder = TempDir::new().unwrap();
        let config = write_config(&self, folder.path());
        let output = time::within("a refusal", serve(&config).output()).await.unwrap();
        (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// What names an accepted operation: its path, without the authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The operation's id, as `Operation-Id` gave it.
    pub id: String,
    /// The path of its monitor.
    pub monitor: String,
}

impl Ticket {
    /// The ticket in an answer that carries a monitor's `Location`.
    #[track_caller]
    pub fn of(response: &Response) -> Self {
        let id = response.expect_field("operation-id").to_owned();
        Self { id, monitor: path_of(response.expect_field("location")).to_owned() }
    }

    /// A resource below the monitor.
    pub fn at(&self, resource: &str) -> String {
        format!("{}/{resource}", self.monitor)
    }
}

/// An absolute URL without scheme and authority.
#[track_caller]
pub fn path_of(url: &str) -> &str {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let rest = rest.unwrap_or_else(|| panic!("not absolute: {url:?}"));
    rest.find('/').map_or("/", |start| &rest[start..])
}

/// An order as most tests send it.
pub fn order() -> Request {
    post("/orders").json(&json!({ "sku": "A-1" }))
}

/// Whether a document shows a final state.
pub fn is_final(document: &Value) -> bool {
    matches!(document["status"].as_str(), Some("succeeded" | "failed" | "canceled"))
}

/// A gateway's listeners, and what tests do with them.
#[derive(Clone, Debug)]
pub struct Front {
    pub public: SocketAddr,
    pub admin: SocketAddr,
}

impl Front {
    /// The public origin, as it stands in the URLs of a gateway on loopback.
    pub fn origin(&self) -> String {
        format!("http://{}", self.public)
    }

    pub async fn send(&self, request: Request) -> Response {
        request.send(self.public).await
    }

    pub async fn get(&self, target: &str) -> Response {
        get(target).send(self.public).await
    }

    pub async fn admin(&self, request: Request) -> Response {
        request.send(self.admin).await
    }

    /// Sends a request that has to be accepted.
    pub async fn accept(&self, request: Request) -> Ticket {
        Ticket::of(&self.send(request).await.expect(202))
    }

    pub async fn post_order(&self) -> Ticket {
        self.accept(order()).await
    }

    pub async fn document(&self, ticket: &Ticket) -> Value {
        self.get(&ticket.at("status")).await.expect(200).json()
    }

    /// Looks until the document is as wanted.
    pub async fn until_document(
        &self,
        what: &str,
        ticket: &Ticket,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let wanted = &wanted;
        let probe = || async move { Some(self.document(ticket).await).filter(wanted) };
        time::until(what, probe).await
    }

    /// Looks until the operation has this status.
    pub async fn until_status(&self, ticket: &Ticket, status: &str) -> Value {
        self.until_document(status, ticket, |document| document["status"] == status).await
    }

    /// Looks until the operation is final, without moving any clock.
    pub async fn settled(&self, ticket: &Ticket) -> Value {
        self.until_document("a final state", ticket, is_final).await
    }

    /// Waits for the end as a client does, at the monitor, and gives the 303.
    pub async fn until_finished(&self, ticket: &Ticket) -> Response {
        let wait = get(&*ticket.monitor).field("Prefer", "wait=5");
        let probe = || async {
            let answer = self.send(wait.clone()).await;
            (answer.status != 202).then_some(answer)
        };
        time::until("the monitor's end", probe).await.expect(303)
    }

    /// How many operations the public list shows (no more than one page).
    pub async fn listed(&self) -> usize {
        let list = self.get("/-/operations").await.expect(200).json();
        operations_of(&list).len()
    }
}

/// The documents in an answer of the list.
#[track_caller]
pub fn operations_of(list: &Value) -> Vec<Value> {
    list["operations"].as_array().unwrap_or_else(|| panic!("no operations in {list}")).clone()
}

/// Where the list goes on, if it does.
pub fn next_page(list: &Value) -> Option<String> {
    list["links"]["next"].as_str().map(|url| path_of(url).to_owned())
}

/// A gateway inside the test.
pub struct Gateway {
    front: Front,
    pub clock: Clock,
    app: App,
    setup: Setup,
    folder: Arc<TempDir>,
}

impl Deref for Gateway {
    type Target = Front;

    fn deref(&self) -> &Front {
        &self.front
    }
}

impl Gateway {
    async fn start(setup: Setup, folder: Arc<TempDir>, clock: Clock) -> Self {
        match Box::pin(Self::try_start(&setup, &folder, &clock)).await {
            Ok(started) => started,
            Err(error) => panic!("{error}\n{}", setup.text(&folder.path().join("cloakroom.db"))),
        }
    }

    async fn try_start(
        setup: &Setup,
        folder: &Arc<TempDir>,
        clock: &Clock,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let config = Config::from_toml(&setup.text(&folder.path().join("cloakroom.db")))?;
        let starting = Box::pin(App::start(config, Options { migrate: true }, clock.clone()));
        let app = time::within("the start", starting).await?;
        let admin = app.admin_address().expect("an admin listener");
        // Bound to every address, it is reached by loopback.
        let public = SocketAddr::from((
            [127, 0, 0, 1],
            app.public_address().expect("a public listener").port(),
        ));
        let front = Front { public, admin };
        let (setup, folder, clock) = (setup.clone(), Arc::clone(folder), clock.clone());
        Ok(Self { front, clock, app, setup, folder })
    }

    /// In front of this upstream, with everything at its default.
    pub async fn before(upstream: &Upstream) -> Self {
        Setup::before(upstream).start().await
    }

    /// Moves the clock.
    pub fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// Moves the clock by steps until the operation is final, but not while an attempt is
    /// on its way: that one is not to run into its timeouts.
    pub async fn settled_by_steps_of(&self, seconds: u64, ticket: &Ticket) -> Value {
        let probe = || async {
            let document = self.document(ticket).await;
            if matches!(document["status"].as_str(), Some("queued" | "waiting")) {
                self.advance(seconds);
            }
            Some(document).filter(is_final)
        };
        time::until("a final state while the clock moves", probe).await
    }

    /// Moves the clock by steps until the operation is final, also during attempts.
    pub async fn timed_out_by_steps_of(&self, seconds: u64, ticket: &Ticket) -> Value {
        self.while_stepping(seconds, "a final state", || async {
            Some(self.document(ticket).await).filter(is_final)
        })
        .await
    }

    /// Moves the clock by steps until `probe` has an answer.
    pub async fn while_stepping<T, F: Future<Output = Option<T>>>(
        &self,
        seconds: u64,
        what: &str,
        mut probe: impl FnMut() -> F,
    ) -> T {
        time::until(what, || {
            let looked = probe();
            async {
                let answer = looked.await;
                if answer.is_none() {
                    self.advance(seconds);
                }
                answer
            }
        })
        .await
    }

    /// Stops it and starts it again on the same ledger, by the same clock.
    pub async fn restart(self) -> Self {
        let setup = self.setup.clone();
        self.restart_with(setup).await
    }

    /// The same with another configuration.
    pub async fn restart_with(self, setup: Setup) -> Self {
        let clock = self.clock.clone();
        Box::pin(self.restart_by(setup, clock)).await
    }

    /// Stops it and starts it again so many seconds later, by a clock that goes like this
    /// machine's. Where `stepped` says so, that clock has just come there in one step, because
    /// another clock said so.
    pub async fn restart_later(self, seconds: u64, stepped: bool) -> Self {
        let (setup, now) = (self.setup.clone(), self.clock.now());
        let later = now + Duration::from_secs(seconds);
        let clock = Clock::showing(if stepped { now } else { later });
        if stepped {
            clock.steer(later);
        }
        Box::pin(self.restart_by(setup, clock)).await
    }

    async fn restart_by(self, setup: Setup, clock: Clock) -> Self {
        let Self { app, folder, .. } = self;
        time::within("the stop", app.stop()).await;
        // A process that another test starts has the lock too until it has become another
        // program.
        time::until("a ledger that is free", || async {
            match Box::pin(Self::try_start(&setup, &folder, &clock)).await {
                Err(error) if error.to_string().contains("in use by another") => None,
                started => Some(started.unwrap()),
            }
        })
        .await
    }
}

/// A gateway in a process of its own. Dropping it kills it.
pub struct Process {
    front: Front,
    child: Child,
    setup: Setup,
    folder: Arc<TempDir>,
    out: Arc<Mutex<String>>,
    err: Arc<Mutex<String>>,
}

impl Deref for Process {
    type Target = Front;

    fn deref(&self) -> &Front {
        &self.front
    }
}

impl Process {
    async fn spawn(setup: Setup, folder: Arc<TempDir>) -> Self {
        let command = serve(&write_config(&setup, folder.path()));
        Self::run(command, setup, folder).await
    }

    /// One that is told everything by flags, these and where to listen and to store.
    pub async fn with_flags(flags: &[&str]) -> Self {
        let folder = Arc::new(TempDir::new().unwrap());
        let mut command = cloakroom();
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        command.arg("--store").arg(format!("sqlite:{}/cloakroom.db", folder.path().display()));
        command.args(flags).current_dir(folder.path());
        Self::run(command, Setup::default(), folder).await
    }

    async fn run(mut command: Command, setup: Setup, folder: Arc<TempDir>) -> Self {
        let mut child = command.spawn().expect("the gateway's binary");
        let out = capture(child.stdout.take());
        let err = capture(child.stderr.take());
        let probe = || async {
            let printed = text(&out);
            let nowhere = || printed.contains("no public listener").then_some(NOWHERE);
            let public = address_after("listening on http://", &printed).or_else(nowhere);
            let admin = address_after("admin on http://", &printed);
            public.zip(admin)
        };
        // It is to show what it said, so the looking goes on for longer than the waiting.
        let looking = time::until_within(time::PATIENCE * 2, "the start of the process", probe);
        let told = time::bounded(looking).await;
        let Some((public, admin)) = told else { panic!("{}{}", text(&out), text(&err)) };
        Self { front: Front { public, admin }, child, setup, folder, out, err }
    }

    /// What the system calls it while it runs.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("a process that still runs")
    }

    /// Sends a signal by its name.
    pub async fn signal(&self, name: &str) {
        let pid = self.pid();
        let kill = format!("kill -{name} {pid}");
        let sent = Command::new("sh").args(["-c", &kill]).status().await.unwrap();
        assert!(sent.success(), "{kill}");
    }

    /// Changes how many files it may have open while it runs.
    pub async fn may_open(&self, files: u64) {
        let (pid, limit) = (self.pid().to_string(), format!("--nofile={files}:"));
        let set = Command::new("prlimit").args(["--pid", &pid, &limit]).status().await.unwrap();
        assert!(set.success(), "prlimit {limit}");
    }

    /// `kill -9`, and waits until it is gone.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("a process that could be killed");
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        time::within("the end of the process", self.child.wait()).await.unwrap()
    }

    /// Starts it again on the same ledger and with the same configuration, once the former process has ended.
    pub async fn again(self) -> Self {
        Self::spawn(self.setup.clone(), Arc::clone(&self.folder)).await
    }

    /// The same with another configuration.
    pub async fn again_with(self, setup: Setup) -> Self {
        Self::spawn(setup, Arc::clone(&self.folder)).await
    }

    /// Starts a second one on the same ledger, which is expected to refuse.
    pub async fn second(&self) -> (ExitStatus, String) {
        let config = write_config(&self.setup, self.folder.path());
        let output = time::within("a refusal", serve(&config).output()).await.unwrap();
        (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// The file of its ledger.
    pub fn store(&self) -> PathBuf {
        self.folder.path().join("cloakroom.db")
    }

    /// What it has printed so far.
    pub fn stdout(&self) -> String {
        text(&self.out)
    }

    /// What it has logged so far.
    pub fn stderr(&self) -> String {
        text(&self.err)
    }
}

/// How many of its last lines a failing test shows of what a process logged.
const LAST_LINES: usize = 30;

impl Drop for Process {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let logged = self.stderr();
        let lines: Vec<_> = logged.lines().collect();
        let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
        eprintln!("the gateway at {} logged last:\n{}", self.front.public, last.join("\n"));
    }
}

fn write_config(setup: &Setup, folder: &Path) -> PathBuf {
    let file = folder.join("cloakroom.toml");
    std::fs::write(&file, setup.text(&folder.join("cloakroom.db"))).unwrap();
    file
}

fn serve(config: &Path) -> Command {
    let mut command = cloakroom();
    command.arg("serve").arg("--config").arg(config);
    command
}

/// The library that shows a program another time; on Debian, of the package `faketime`.
fn wrong_clock() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let mut libraries = folders.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    libraries.find(|library| library.exists()).expect("faketime is installed")
}

/// The program, without arguments.
pub fn cloakroom() -> Command {
    alone(Command::new(env!("CARGO_BIN_EXE_cloakroom")))
}

/// The program of a user for whom the rights of files count, without arguments.
pub fn without_rights() -> Command {
    if !rustix::process::geteuid().is_root() {
        return cloakroom();
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command.arg(env!("CARGO_BIN_EXE_cloakroom"));
    alone(command)
}

/// A program that has no input, whose words are kept, and that ends with the test.
fn alone(mut command: Command) -> Command {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true);
    // Settings of the environment that runs the tests are not to reach it.
    command.env_clear();
    command
}

fn capture(stream: Option<impl AsyncRead + Unpin + Send + 'static>) -> Arc<Mutex<String>> {
    let captured = Arc::new(Mutex::new(String::new()));
    let writer = Arc::clone(&captured);
    let mut lines = BufReader::new(stream.expect("a pipe")).lines();
    time::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            let mut text = writer.lock().unwrap_or_else(PoisonError::into_inner);
            *text += &line;
            text.push('\n');
        }
    });
    captured
}

fn text(captured: &Mutex<String>) -> String {
    captured.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn address_after(words: &str, printed: &str) -> Option<SocketAddr> {
    let start = printed.find(words)? + words.len();
    let rest = printed[start..].split_whitespace().next()?;
    rest.trim_end_matches('/').parse().ok()
}
