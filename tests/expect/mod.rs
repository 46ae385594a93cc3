//! Contract section 3: `Expect` is a must, `Prefer` a may.

mod expect_continue;
mod expectations;
mod preferences;
mod synchronous;
mod unrouted;

use crate::support::{Setup, Upstream};

/// A gateway before `upstream` whose `POST /orders` has this mode and allows these.
fn with_mode(upstream: &Upstream, mode: &str, allow: &[&str]) -> Setup {
    let lines = format!("mode = {mode:?}\nallow = {allow:?}\nsync_wait = \"10s\"");
    Setup::before(upstream).route("POST /orders", &lines)
}

/// What may be asked for, in its usual extent.
const BOTH: &[&str] = &["async", "sync"];
