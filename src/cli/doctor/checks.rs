//! The checks of `cloakroom doctor`, each independent of the others.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::statvfs;

use super::{Check, CheckVerdict};
use crate::app::{self, bind_advice};
use crate::cli::banner;
use crate::cli::reach::{self, REACHING};
use crate::config::{Config, StoreUrl, UpstreamConfig};
use cloakroom_domain::{DatabaseUrl, Timestamp};
use cloakroom_ledger::{Pooler, folder_of};
use cloakroom_runtime::clock::Clock;

const MIB: u64 = 1 << 20;
/// Below this the ledger is about to be full.
const HARDLY_ROOM: u64 = 64 * MIB;
/// Below this the operator should act soon.
const LITTLE_ROOM: u64 = 1024 * MIB;
/// 2025-01-01: this program is younger.
const BIRTH: Timestamp = Timestamp::from_micros(1_735_689_600_000_000);
/// How far ahead a file may lie before the clock is suspected.
const AHEAD: Duration = Duration::from_mins(5);
/// `SQLite` before this can corrupt its write-ahead log.
const SAFE_SQLITE: [u32; 3] = [3, 51, 3];

/// Looks at everything, with a configuration that has been loaded.
pub(super) async fn all(config: &Config, clock: &Clock) -> Vec<Check> {
    let mut checks = vec![match app::check(config) {
        Ok(_) => Check::new("configuration", CheckVerdict::Fine, "it can be used"),
        Err(error) => Check::new("configuration", CheckVerdict::Failed, error.to_string()),
    }];
    checks.extend(
        banner::doubts(config)
            .into_iter()
            .map(|says| Check::new("configuration", CheckVerdict::Warning, says)),
    );
    match &config.store.url {
        StoreUrl::Sqlite(path) => {
            let folder = folder_of(path);
            checks.push(writable(&folder));
            checks.push(room(&folder));
            checks.push(sqlite(&cloakroom_ledger::sqlite_version()));
            checks.push(own(path));
        }
        StoreUrl::Postgres(url) => {
            let pooler = app::pooler(&config.store);
            checks.push(database(url, pooler, clock).await);
            if let Some(direct) = &config.store.direct_url {
                checks.push(database(direct, pooler, clock).await);
            }
        }
    }
    for (name, upstream) in &config.upstreams {
        checks.push(reachable(name, upstream, clock).await);
    }
    checks.push(free("server.listen", config.server.listen));
    if let Some(address) = config.admin.listen {
        checks.push(free("admin.listen", address));
    }
    checks.push(public_url(config));
    checks.push(prefix(config));
    checks.push(time(clock.now(), config.store.url.path().and_then(written)));
    checks
}

fn writable(folder: &Path) -> Check {
    let name = format!("ledger's folder {}", folder.display());
    match cloakroom_ledger::check_folder(folder) {
        Ok(()) => Check::new(name, CheckVerdict::Fine, "it can be written to"),
        Err(says) => Check::new(name, CheckVerdict::Failed, format!("it {says}")),
    }
}

fn room(folder: &Path) -> Check {
    match statvfs(folder) {
        Ok(disk) => enough(disk.f_bavail.saturating_mul(disk.f_frsize)),
        Err(error) => Check::new(
            "room on the disk",
            CheckVerdict::Warning,
            format!("cannot be told: {error}"),
        ),
    }
}

fn enough(free: u64) -> Check {
    let mib = free / MIB;
    let (verdict, says) = match free {
        _ if free < HARDLY_ROOM => (
            CheckVerdict::Failed,
            format!("only {mib} MiB are left; make room, or requests are answered 503"),
        ),
        _ if free < LITTLE_ROOM => {
            (CheckVerdict::Warning, format!("{mib} MiB are left; make room before it is full"))
        }
        _ => (CheckVerdict::Fine, format!("{mib} MiB are left")),
    };
    Check::new("room on the disk", verdict, says)
}

/// Whether the file is a ledger, or can become one.
fn own(path: &Path) -> Check {
    match cloakroom_ledger::check_file(path) {
        Ok(()) => {
            Check::new("ledger's file", CheckVerdict::Fine, "it is a ledger, or can become one")
        }
        Err(error) => Check::new("ledger's file", CheckVerdict::Failed, error.to_string()),
    }
}

fn sqlite(version: &str) -> Check {
    let numbers: Vec<u32> = version.split('.').map_while(|number| number.parse().ok()).collect();
    if numbers.as_slice() >= SAFE_SQLITE.as_slice() {
        return Check::new("SQLite", CheckVerdict::Fine, version);
    }
    let says = format!("{version} can corrupt its write-ahead log; build with 3.51.3 or later");
    Check::new("SQLite", CheckVerdict::Failed, says)
}

/// Whether the database can be logged in to, and is new enough.
async fn database(url: &DatabaseUrl, pooler: Pooler, clock: &Clock) -> Check {
    let called = format!("database {url}");
    match clock.timeout(REACHING, cloakroom_ledger::postgres_version(url, pooler)).await {
        Ok(Ok(version)) => Check::new(called, CheckVerdict::Fine, format!("PostgreSQL {version}")),
        Ok(Err(error)) => Check::new(called, CheckVerdict::Failed, error.to_string()),
        Err(_) => {
            let says =
                format!("no answer within {} s; start it, or correct --store", REACHING.as_secs());
            Check::new(called, CheckVerdict::Failed, says)
        }
    }
}

async fn reachable(name: &str, upstream: &UpstreamConfig, clock: &Clock) -> Check {
    let called = format!("upstream {name}");
    let url = &upstream.url;
    match reach::upstream(upstream, clock).await {
        Ok(()) => Check::new(called, CheckVerdict::Fine, format!("{url} accepts connections")),
        Err(why) => {
            let says = format!(
                "{url} cannot be reached ({why}); start it, or correct upstreams.{name}.url (--upstream)"
            );
            Check::new(called, CheckVerdict::Failed, says)
        }
    }
}

fn free(setting: &str, address: SocketAddr) -> Check {
    match std::net::TcpListener::bind(address) {
        Ok(_) => Check::new(setting, CheckVerdict::Fine, format!("{address} is free")),
        Err(error) => {
            let advice = bind_advice(&address, &error, setting);
            let says = format!("{address} cannot be listened on ({error}); {advice}");
            Check::new(setting, CheckVerdict::Failed, says)
        }
    }
}

fn public_url(config: &Config) -> Check {
    let listen = config.server.listen;
    let (verdict, says) = match &config.server.public_url {
        Some(url) => (CheckVerdict::Fine, url.to_string()),
        None if listen.ip().is_loopback() => {
            (CheckVerdict::Fine, format!("not set; links lead to http://{listen}"))
        }
        None => (
            CheckVerdict::Warning,
            "not set, so that links follow each request's Host, and clients can neither subscribe to \
             webhooks nor name a callback; set it with --public-url https://…"
                .to_owned(),
        ),
    };
    Check::new("server.public_url", verdict, says)
}

/// What becomes of an upstream's own paths under the prefix.
fn prefix(config: &Config) -> Check {
    let prefix = &config.server.prefix;
    let says = if config.server.prefix_pass {
        format!("{prefix}, shared with what the upstream has there")
    } else {
        format!(
            "{prefix}; an upstream's own paths there are hidden (npm registries, GitLab and \
             Prometheus have some under /-): set server.prefix_pass = true to pass them on"
        )
    };
    Check::new("server.prefix", CheckVerdict::Fine, says)
}

/// When the ledger was last written, if there is one.
fn written(ledger: &Path) -> Option<Timestamp> {
    let modified = std::fs::metadata(ledger).ok()?.modified().ok()?;
    Some(Timestamp::EPOCH + modified.duration_since(UNIX_EPOCH).ok()?)
}

fn time(now: Timestamp, written: Option<Timestamp>) -> Check {
    if now < BIRTH {
        let says = format!("it shows {now}, which is long past; set it, and keep it set with NTP");
        return Check::new("clock", CheckVerdict::Failed, says);
    }
    match written {
        Some(written) if written.since(now) > AHEAD => {
            let says = format!(
                "it shows {now}, but the ledger was written at {written}; if it was set back, what \
                 is due waits until then"
            );
            Check::new("clock", CheckVerdict::Warning, says)
        }
        _ => Check::new("clock", CheckVerdict::Fine, now.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_runs_out_in_two_steps() {
        let verdict = |mib: u64| enough(mib * MIB).verdict;
        assert_eq!(verdict(1), CheckVerdict::Failed);
        assert_eq!(verdict(500), CheckVerdict::Warning);
        assert_eq!(verdict(5_000), CheckVerdict::Fine);
    }

    #[test]
    fn sqlite_has_to_be_a_safe_one() {
        for version in ["3.51.3", "3.51.10", "3.52.0", "4.0.0"] {
            assert_eq!(sqlite(version).verdict, CheckVerdict::Fine, "{version}");
        }
        for version in ["3.51.2", "3.40.1", ""] {
            assert_eq!(sqlite(version).verdict, CheckVerdict::Failed, "{version}");
        }
    }

    #[test]
    fn a_folder_has_to_exist() {
        let folder = tempfile::TempDir::new().unwrap();
        assert_eq!(writable(folder.path()).verdict, CheckVerdict::Fine);
        let check = writable(&folder.path().join("none"));
        assert_eq!(check.verdict, CheckVerdict::Failed);
        assert!(check.says.contains("--store"));
        assert_eq!(folder_of(Path::new("cloakroom.db")), Path::new("."));
    }

    #[test]
    fn a_port_has_to_be_free() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        assert_eq!(free("server.listen", address).verdict, CheckVerdict::Failed);
        drop(taken);
        assert_eq!(free("server.listen", address).verdict, CheckVerdict::Fine);
    }

    #[test]
    fn a_clock_that_went_back_is_noticed() {
        let now = BIRTH + Duration::from_hours(1);
        assert_eq!(time(now, None).verdict, CheckVerdict::Fine);
        assert_eq!(time(now, Some(now)).verdict, CheckVerdict::Fine);
        assert_eq!(time(now, Some(now + AHEAD + AHEAD)).verdict, CheckVerdict::Warning);
        assert_eq!(time(Timestamp::EPOCH, None).verdict, CheckVerdict::Failed);
    }
}
