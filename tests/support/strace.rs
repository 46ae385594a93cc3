//! A process whose writes become durable late, or never: `strace`, where it may be used.
//!
//! Owns how it is attached and what it has noted. It must not know what is being tested.

use std::process::Stdio;

use tempfile::NamedTempFile;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::gateway::Process;
use super::time;

/// The calls with which a ledger makes a write durable.
const SYNCS: &str = "fdatasync,fsync";

/// Follows a process until it is dropped.
pub struct Strace {
    _child: Child,
    log: NamedTempFile,
}

impl Strace {
    /// From its return on every `fsync` of the process is tampered with so
    /// (`error=EIO`, `delay_exit=…` in microseconds). `None` where this machine
    /// forbids that; in CI that is a failure.
    pub async fn on_syncs(process: &Process, tampering: &str) -> Option<Self> {
        let log = NamedTempFile::new().unwrap();
        let mut command = Command::new("strace");
        command.arg("-f").arg("-o").arg(log.path()).args(["-e", &format!("trace={SYNCS}")]);
        command.args(["-e", &format!("inject={SYNCS}:{tampering}")]);
        command.args(["-p", &process.pid().to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        let said = match command.spawn() {
            Ok(mut child) => {
                let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
                let first = time::within("strace", lines.next_line()).await.unwrap();
                let first = first.unwrap_or_default();
                if first.contains("attached") {
                    // Whatever else it says is read, so that it never waits for a reader.
                    time::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                    return Some(Self { _child: child, log });
                }
                first
            }
            Err(error) => error.to_string(),
        };
        assert!(!in_ci(), "strace has to work in CI: {said}");
        eprintln!("not run: it needs strace, and leave to trace: {said}");
        None
    }

    /// Looks until it has noted these words.
    pub async fn until_noted(&self, words: &str) {
        time::until(words, || async {
            let log = std::fs::read_to_string(self.log.path()).unwrap_or_default();
            log.contains(words).then_some(())
        })
        .await;
    }
}

/// Whether nothing may be left out.
#[expect(clippy::disallowed_methods, reason = "it is about where the tests run")]
fn in_ci() -> bool {
    std::env::var_os("CI").is_some()
}
