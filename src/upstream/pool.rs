//! Idle connections, the one used last on top.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::connection::Connection;
use crate::domain::Timestamp;
use crate::domain::operation::Delivery;

/// How often the pool is looked through.
pub(super) const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How long a connection may have been idle for a request that must not be sent twice.
const IDLE_AT_MOST_ONCE: Duration = Duration::from_secs(1);
/// How long for any other. Node closes after five seconds, and many do as Node does.
const IDLE_AT_LEAST_ONCE: Duration = Duration::from_secs(4);

/// How long a connection may have been idle to be used for such a delivery.
const fn idle_limit(delivery: Delivery) -> Duration {
    match delivery {
        Delivery::AtMostOnce => IDLE_AT_MOST_ONCE,
        Delivery::AtLeastOnce => IDLE_AT_LEAST_ONCE,
    }
}

/// The idle connections to one origin.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<Shelf>);

#[derive(Debug, Default)]
struct Shelf {
    // Since when each is idle; the last is the one used last.
    idle: Vec<(Timestamp, Connection)>,
    closed: bool,
}

impl Pool {
    /// A connection that may be used for such a delivery, if there is one.
    pub(super) fn take(&self, now: Timestamp, delivery: Delivery) -> Option<Connection> {
        let limit = idle_limit(delivery);
        let mut kept = self.lock();
        // One that is not ready is closed, has not noticed yet that its answer was read to
        // the end, or still writes a request that was answered early: never waited for.
        let chosen = kept.idle.iter().rposition(|(since, connection)| {
            connection.is_ready() && is_within(limit, *since, now)
        })?;
        Some(kept.idle.remove(chosen).1)
    }

    /// Keeps a connection whose answer was read to the end.
    pub(super) fn put(&self, connection: Connection, now: Timestamp) {
        let mut kept = self.lock();
        if !kept.closed && !connection.is_closed() {
            kept.idle.push((now, connection));
        }
    }

    /// Lets go of connections that nobody may use any more.
    pub(super) fn sweep(&self, now: Timestamp) {
        self.lock().idle.retain(|(since, connection)| {
            !connection.is_closed() && is_within(IDLE_AT_LEAST_ONCE, *since, now)
        });
    }

    /// Lets go of all, and keeps none from now on.
    pub(super) fn close(&self) {
        let mut kept = self.lock();
        kept.closed = true;
        kept.idle.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        // The lock guards plain values that are whole between statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether it is at most `limit` since an instant. One in the future says that the clock
/// was set back: then nobody knows, and the sweep drops the connection before its instant
/// comes around again.
fn is_within(limit: Duration, since: Timestamp, now: Timestamp) -> bool {
    since <= now && now.since(since) <= limit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_makes_no_connection_younger() {
        let (earlier, later) =
            (Timestamp::from_micros(5_000_000), Timestamp::from_micros(6_000_000));
        assert!(is_within(Duration::from_secs(1), earlier, later));
        assert!(!is_within(Duration::from_secs(1), later, earlier));
    }
}
