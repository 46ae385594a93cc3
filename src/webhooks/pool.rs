//! The pool of idle connections to receivers, most recently used first.
//!
//! Owns the limits on idle connections: thousands of receivers must not cost thousands of sockets.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::connection::ReceiverConnection;
use cloakroom_domain::Timestamp;

/// How often the pool is looked through.
pub(super) const SWEEP: Duration = Duration::from_secs(1);
/// How long one is kept without use. Many receivers close after five seconds.
const IDLE: Duration = Duration::from_secs(4);
/// The most that are kept, for all receivers together.
const MOST: usize = 256;

/// The idle connections to all receivers.
#[derive(Debug, Default)]
pub(super) struct ReceiverPool(Mutex<ReceiverPoolState>);

#[derive(Debug, Default)]
struct ReceiverPoolState {
    idle: Vec<IdleReceiverConnection>,
    closed: bool,
}

#[derive(Debug)]
struct IdleReceiverConnection {
    origin: String,
    since: Timestamp,
    connection: ReceiverConnection,
}

impl IdleReceiverConnection {
    /// An instant in the future says that the clock was set back: its age is unknown then.
    fn is_fresh(&self, now: Timestamp) -> bool {
        self.since <= now && now.since(self.since) <= IDLE
    }
}

impl ReceiverPool {
    /// A connection to that origin that can be used at once, if there is one. What can be
    /// shared stays here, too.
    pub(super) fn take(&self, origin: &str, now: Timestamp) -> Option<ReceiverConnection> {
        let mut shelf = self.lock();
        let at = shelf.idle.iter().rposition(|idle| {
            idle.origin == origin && idle.connection.is_ready() && idle.is_fresh(now)
        })?;
        if let Some(shared) = shelf.idle[at].connection.share() {
            shelf.idle[at].since = now;
            return Some(shared);
        }
        Some(shelf.idle.remove(at).connection)
    }

    /// Keeps a connection on which no exchange goes on.
    pub(super) fn put(&self, origin: &str, connection: ReceiverConnection, now: Timestamp) {
        let mut shelf = self.lock();
        if shelf.closed || connection.is_closed() {
            return;
        }
        if shelf.idle.len() >= MOST {
            shelf.idle.remove(0);
        }
        shelf.idle.push(IdleReceiverConnection {
            origin: origin.to_owned(),
            since: now,
            connection,
        });
    }

    /// Closes connections that are closed by the other side or idle for too long.
    pub(super) fn sweep(&self, now: Timestamp) {
        self.lock().idle.retain(|idle| !idle.connection.is_closed() && idle.is_fresh(now));
    }

    /// Lets go of all, and keeps none from now on.
    pub(super) fn close(&self) {
        let mut shelf = self.lock();
        shelf.closed = true;
        shelf.idle.clear();
    }

    fn lock(&self) -> MutexGuard<'_, ReceiverPoolState> {
        // The lock guards plain values that are whole between statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
