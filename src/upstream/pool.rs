//! The idle connections to one origin, the last used first.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::connection::UpstreamConnection;
use cloakroom_domain::Timestamp;
use cloakroom_domain::connections::{ConnectionHabit, IdleConnection, Reuse};
use cloakroom_domain::operation::DeliveryGuarantee;

/// How often the pool is swept.
pub(super) const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The idle connections to one origin.
#[derive(Debug)]
pub(super) struct UpstreamPool {
    reuse: Reuse,
    connections: Mutex<IdleConnections>,
}

#[derive(Debug, Default)]
struct IdleConnections {
    // The last is the one used last.
    idle: Vec<(IdleConnection, UpstreamConnection)>,
    habit: ConnectionHabit,
    closed: bool,
}

impl UpstreamPool {
    pub(super) fn new(reuse: Reuse) -> Self {
        Self { reuse, connections: Mutex::default() }
    }

    /// A connection that may be used for such a delivery, if there is one.
    pub(super) fn take(
        &self,
        now: Timestamp,
        delivery: DeliveryGuarantee,
    ) -> Option<UpstreamConnection> {
        let mut connections = self.lock();
        if delivery == DeliveryGuarantee::AtMostOnce {
            connections.look(now);
        }
        let limit = connections.habit.idle_limit(self.reuse, delivery, now)?;
        // One that is not ready is closed, has not noticed yet that its answer was read to
        // the end, or still writes a request that was answered early: never waited for.
        let chosen = connections.idle.iter().rposition(|(idle, connection)| {
            connection.is_ready() && connection.may_repeat() && idle.suits(limit, now)
        })?;
        Some(connections.idle.remove(chosen).1)
    }

    /// Keeps a connection whose answer was read to the end.
    pub(super) fn put(&self, connection: UpstreamConnection, now: Timestamp) {
        let mut connections = self.lock();
        if connections.closed || self.reuse == Reuse::Never || !connection.may_repeat() {
            return;
        }
        if connection.is_closed() {
            return connections.habit.saw_closed(now);
        }
        let idle = IdleConnection { since: now, rests: connection.is_to_rest() };
        connections.idle.push((idle, connection));
    }

    /// The upstream has closed a connection of which it had said that it stays open.
    pub(super) fn saw_closed(&self, now: Timestamp) {
        self.lock().habit.saw_closed(now);
    }

    /// Lets go of connections that are of no use any more.
    pub(super) fn sweep(&self, now: Timestamp) {
        let mut connections = self.lock();
        connections.look(now);
        connections.idle.retain(|(idle, _)| idle.is_of_use(now));
    }

    /// Lets go of all, and keeps none from now on.
    pub(super) fn close(&self) {
        let mut connections = self.lock();
        connections.closed = true;
        connections.idle.clear();
    }

    fn lock(&self) -> MutexGuard<'_, IdleConnections> {
        // The lock guards plain values that are whole between statements.
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IdleConnections {
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
