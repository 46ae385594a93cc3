//! A PostgreSQL of the tests' own: started from the installed binaries, on a free port, in
//! a temporary folder, and gone with the process that started it, however that ends.
//!
//! Owns the cluster and its databases. It names nothing of the program, so that the tests
//! inside the program use it too.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

/// How long a server may take to start or to stop.
const PATIENCE: Duration = Duration::from_mins(1);
/// The pause between two looks at a condition.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Who runs the server where the tests run as root, which it refuses to be.
const USER: &str = "postgres";

/// Runs the server, as told line by line, and removes it when its parent is gone.
const WATCHDOG: &str = r#"
trap '' INT TERM HUP
folder=$1 signal=$2; shift 2
run() { "$@" >>"$folder/log" 2>&1 </dev/null & pid=$!; }
halt() { kill -$signal $pid 2>/dev/null; wait $pid 2>/dev/null; }
run "$@"
while read -r word; do
  case $word in stop) halt; echo stopped ;; start) run "$@" ;; esac
done
halt
rm -rf "$folder"
"#;

/// A server that ends with the last who holds it.
pub struct Cluster {
    port: u16,
    bin: PathBuf,
    folder: PathBuf,
    databases: AtomicU32,
    watchdog: Mutex<Watchdog>,
}

struct Watchdog {
    _child: Child,
    orders: ChildStdin,
}

/// The cluster that all tests of this process share.
pub fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(Cluster::start)
}

impl Cluster {
    /// Starts a server of its own.
    pub fn start() -> Self {
        let bin = binaries();
        let folder = folder_of_its_own();
        let data = folder.join("data");
        let made = as_user(&bin.join("initdb"))
            .args(["--auth=trust", "--username=postgres", "--locale=C", "--encoding=UTF8"])
            .args(["--no-sync", "-D"])
            .arg(&data)
            .current_dir("/")
            .output()
            .expect("initdb runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = free_port();
        let mut server = as_user(&bin.join("postgres"));
        server.arg("-D").arg(&data).arg("-k").arg(&folder).args(["-p", &port.to_string()]);
        for setting in
            ["listen_addresses=127.0.0.1", "fsync=on", "max_connections=300", "shared_buffers=64MB"]
        {
            server.args(["-c", setting]);
        }
        let watchdog = watched(&folder, &server, "QUIT");
        let databases = AtomicU32::new(0);
        let cluster = Self { port, bin, folder, databases, watchdog: Mutex::new(watchdog) };
        cluster.until_ready();
        cluster
    }

    /// The port that it listens on, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address of a new, empty database.
    pub fn database(&self) -> String {
        let name = format!("test{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    /// The address of a database.
    pub fn url(&self, name: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{name}", self.port)
    }

    /// What a statement answers, as text, a line a row.
    pub fn sql(&self, database: &str, statement: &str) -> String {
        let asked = self.psql(database, statement).output().expect("psql runs");
        assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
        String::from_utf8_lossy(&asked.stdout).trim_end().to_owned()
    }

    /// Whether all these statements went well, one after the other on one connection to
    /// this address.
    pub fn takes(&self, url: &str, statements: &[&str]) -> bool {
        let mut psql = self.psql_at(url);
        statements.iter().for_each(|statement| _ = psql.args(["-c", statement]));
        psql.output().is_ok_and(|asked| asked.status.success())
    }

    fn psql(&self, database: &str, statement: &str) -> Command {
        let mut psql = self.psql_at(&self.url(database));
        psql.args(["-c", statement]);
        psql
    }

    fn psql_at(&self, url: &str) -> Command {
        let mut psql = Command::new(self.bin.join("psql"));
        psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-d", url]);
        psql.stdin(Stdio::null());
        psql
    }

    /// Stops it at once, as a power cut would.
    pub fn stop(&self) {
        self.order("stop");
        until("the server to stop", || !self.answers());
    }

    /// Starts it again.
    pub fn start_again(&self) {
        self.order("start");
        self.until_ready();
    }

    fn order(&self, word: &str) {
        let mut watchdog = self.watchdog.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(watchdog.orders, "{word}").expect("the watchdog listens");
    }

    fn answers(&self) -> bool {
        self.psql("postgres", "SELECT 1").output().is_ok_and(|asked| asked.status.success())
    }

    fn until_ready(&self) {
        until("the server to start", || self.answers());
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Runs a server under a watchdog that outlives its parent, and ends it by the
/// signal that it takes for an immediate end.
fn watched(folder: &Path, server: &Command, signal: &str) -> Watchdog {
    let mut shell = Command::new("sh");
    shell.args(["-c", WATCHDOG, "watchdog"]).arg(folder).arg(signal).arg(server.get_program());
    shell.args(server.get_args()).current_dir("/").process_group(0);
    shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = shell.spawn().expect("sh runs");
    let orders = child.stdin.take().expect("a pipe");
    Watchdog { _child: child, orders }
}

/// Looks until it is so.
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..PATIENCE.as_millis() / LOOK_AGAIN.as_millis() {
        if so() {
            return;
        }
        thread::sleep(LOOK_AGAIN);
    }
    panic!("waited for {what} for {PATIENCE:?}");
}

/// A port without a listener.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// Where the server's programs are; without them the tests fail.
fn binaries() -> PathBuf {
    let mut folders: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .collect();
    folders.sort();
    let on_path = Command::new("initdb").arg("--version").output().is_ok();
    if on_path {
        return PathBuf::new();
    }
    let found = folders.into_iter().rev().find(|folder| folder.join("initdb").exists());
    found.expect("PostgreSQL is installed (on Debian: apt-get install postgresql)")
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("id runs");
    id.stdout.trim_ascii() == b"0"
}

/// A program as a user that is not root.
pub fn as_user(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", USER, "--regid", USER, "--clear-groups", "--"]).arg(program);
    command
}

/// A folder that the server's user may write to.
pub fn folder_of_its_own() -> PathBuf {
    let folder = tempfile::Builder::new().prefix("cloakroom-postgres-").tempdir();
    let folder = folder.expect("a temporary folder").keep();
    if is_root() {
        let given = Command::new("chown").arg(USER).arg(&folder).status().expect("chown runs");
        assert!(given.success(), "the folder could not be given to {USER}");
    }
    folder
}

/// A PgBouncer that lends its few connections to a cluster for a transaction each.
pub struct PgBouncer {
    port: u16,
    _watchdog: Watchdog,
}

impl PgBouncer {
    /// Starts one with so many connections to each database of the cluster.
    pub fn before(cluster: &Cluster, connections: u32) -> Self {
        let (folder, port) = (folder_of_its_own(), free_port());
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={} user={USER}\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = transaction\ndefault_pool_size = {connections}\nmax_client_conn = 500\n",
            cluster.port
        );
        let file = folder.join("pgbouncer.ini");
        std::fs::write(&file, settings).expect("a file");
        let mut server = as_user(&pgbouncer());
        server.arg(&file);
        let bouncer = Self { port, _watchdog: watched(&folder, &server, "TERM") };
        let listens = || std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        until("PgBouncer to start", listens);
        bouncer
    }

    /// The address of a database of the cluster, by way of this one.
    pub fn url(&self, direct: &str) -> String {
        let name = direct.rsplit('/').next().unwrap_or_default();
        format!("postgres://postgres@127.0.0.1:{}/{name}", self.port)
    }
}

/// Debian puts it where only root looks.
fn pgbouncer() -> PathBuf {
    let there = Path::new("/usr/sbin/pgbouncer");
    if there.exists() { there.to_owned() } else { PathBuf::from("pgbouncer") }
}
