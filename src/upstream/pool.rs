//! Idle connections, the one used last on top.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::connection::Connection;
use cloakroom_domain::Timestamp;
use cloakroom_domain::connections::{Habit, Idle, Reuse};
use cloakroom_domain::operation::Delivery;

/// How often the pool is looked through.
pub(super) const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The idle connections to one origin.
#[derive(Debug)]
pub(super) struct Pool {
    reuse: Reuse,
    shelf: Mutex<Shelf>,
}

#[derive(Debug, Default)]
struct Shelf {
    // The last is the one used last.
    idle: Vec<(Idle, Connection)>,
    habit: Habit,
    closed: bool,
}

impl Pool {
    pub(super) fn new(reuse: Reuse) -> Self {
        Self { reuse, shelf: Mutex::default() }
    }

    /// A connection that may be used for such a delivery, if there is one.
    pub(super) fn take(&self, now: Timestamp, delivery: Delivery) -> Option<Connection> {
        let mut shelf = self.lock();
        if delivery == Delivery::AtMostOnce {
            shelf.look(now);
        }
        let limit = shelf.habit.idle_limit(self.reuse, delivery, now)?;
        // One that is not ready is closed, has not noticed yet that its answer was read to
        // the end, or still writes a request that was answered early: never waited for.
        let chosen = shelf.idle.iter().rposition(|(idle, connection)| {
            connection.is_ready() && connection.may_repeat() && idle.suits(limit, now)
        })?;
        Some(shelf.idle.remove(chosen).1)
    }

    /// Keeps a connection whose answer was read to the end.
    pub(super) fn put(&self, connection: Connection, now: Timestamp) {
        let mut shelf = self.lock();
        if shelf.closed || self.reuse == Reuse::Never || !connection.may_repeat() {
            return;
        }
        if connection.is_closed() {
            return shelf.habit.saw_closed(now);
        }
        let idle = Idle { since: now, rests: connection.is_to_rest() };
        shelf.idle.push((idle, connection));
    }

    /// The upstream has closed a connection of which it had said that it stays open.
    pub(super) fn saw_closed(&self, now: Timestamp) {
        self.lock().habit.saw_closed(now);
    }

    /// Lets go of connections that are of no use any more.
    pub(super) fn sweep(&self, now: Timestamp) {
        let mut shelf = self.lock();
        shelf.look(now);
        shelf.idle.retain(|(idle, _)| idle.is_of_use(now));
    }

    /// Lets go of all, and keeps none from now on.
    pub(super) fn close(&self) {
        let mut shelf = self.lock();
        shelf.closed = true;
        shelf.idle.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        // The lock guards plain values that are whole between statements.
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    /// Learns from the idle connections, and lets go of those that are closed.
    fn look(&mut self, now: Timestamp) {
        let Self { idle, habit, .. } = self;
        let mut has_closed = false;
        idle.retain(|(idle, connection)| {
            let is_closed = connection.is_closed();
            // One that the gateway itself cut short says nothing of the upstream.
            has_closed |= is_closed && connection.may_repeat();
            if !is_closed {
                habit.saw_open(idle.since, now);
            }
            !is_closed
        });
        if has_closed {
            habit.saw_closed(now);
        }
    }
}
