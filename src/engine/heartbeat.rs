//! The heartbeat of this node, and what it learns from the heartbeats of others.
//!
//! Owns the interval of the heartbeat, and hands its findings on: which nodes are dead, and which
//! leases the ledger assigns to this node although it does not have them. Its invariant: work on
//! these findings never delays the next heartbeat.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;

use super::EngineContext;
use super::in_flight::LeaseMismatch;
use super::loops::EngineLoop;
use cloakroom_domain::fleet::{BEATS_A_LEASE, Heartbeat, Liveness};
use cloakroom_ledger::{Beaten, Dead, LedgerError, Vitals};

/// The findings of one heartbeat.
#[derive(Clone, Debug, Default)]
pub(super) struct HeartbeatReport {
    /// Nodes that are dead and own what runs.
    pub(super) dead: Vec<Dead>,
    /// Every node that died instead of stopping.
    pub(super) died: BTreeSet<i64>,
    /// Leases that this node does not have although the ledger says so.
    pub(super) mismatch: LeaseMismatch,
    /// Whether other nodes are there.
    pub(super) has_peers: bool,
}

/// Sends heartbeats until nothing runs here, and then leaves the cluster.
pub(super) async fn run(engine: Arc<EngineContext>, found: watch::Sender<HeartbeatReport>) {
    let mut liveness = Liveness::new(engine.settings.node.lease);
    let interval = engine.settings.node.lease / BEATS_A_LEASE;
    loop {
        let begun = engine.clock.elapsed();
        match step(&engine, &mut liveness).await {
            Ok(findings) => {
                engine.loop_health.succeeded(EngineLoop::Heartbeat, engine.clock.now());
                found.send_replace(findings);
            }
            Err(error) => {
                tracing::warn!(%error, "a heartbeat did not reach the ledger; trying again");
            }
        }
        metrics::gauge!("cloakroom_beat_age_seconds").set(engine.node_lease.age());
        let took = engine.clock.elapsed().saturating_sub(begun);
        tokio::select! {
            () = work_ended(&engine) => break,
            () = engine.clock.sleep(interval.saturating_sub(took)) => {}
        }
    }
    leave(&engine).await;
}

/// Completes when the gateway drains and all that ran here is settled.
pub(super) async fn work_ended(engine: &EngineContext) {
    engine.tasks.draining().await;
    engine.in_flight.emptied().await;
}

/// Tells the other nodes not to wait for this one. If that fails, its lease runs out.
async fn leave(engine: &EngineContext) {
    let now = engine.clock.now();
    let leaving = engine.ledger.leave(engine.permits.emptied(now), now);
    tokio::select! {
        left = leaving => {
            if let Err(error) = left {
                tracing::debug!(%error, "could not leave the cluster; other nodes wait for this node's lease");
            }
        }
        () = engine.tasks.cutting() => {}
    }
}

/// Beats once.
async fn step(
    engine: &EngineContext,
    liveness: &mut Liveness,
) -> Result<HeartbeatReport, LedgerError> {
    let sent = engine.clock.elapsed();
    let beaten = engine.ledger.beat(vitals(engine)).await?;
    let had_stopped = !engine.node_lease.may_begin();
    if had_stopped {
        // Other nodes may count it as dead, and use what was granted to it.
        engine.permits.suspend(engine.clock.now());
    }
    engine.node_lease.confirm(sent);
    if had_stopped {
        engine.ledger.look_for_work();
    }
    Ok(findings(engine, liveness, &beaten))
}

fn vitals(engine: &EngineContext) -> Vitals {
    let (settings, node) = (&engine.settings, &engine.settings.node);
    let slots = if node.role.works() { settings.slots } else { 0 };
    Vitals {
        name: node.name.clone(),
        role: node.role,
        queues: settings.works_on.iter().map(ToString::to_string).collect(),
        slots: u32::try_from(slots).unwrap_or(u32::MAX),
        running: u32::try_from(engine.in_flight.len()).unwrap_or(u32::MAX),
        fingerprint: node.fingerprint.clone(),
        lease: node.lease,
    }
}

fn findings(engine: &EngineContext, liveness: &mut Liveness, beaten: &Beaten) -> HeartbeatReport {
    let dead = liveness.look(engine.clock.elapsed(), &beaten.others);
    let has_peers = count(&beaten.others, &dead);
    let last_seen =
        |sign: &Heartbeat| Dead { incarnation: sign.incarnation, beat: Some(sign.beat) };
    engine.ledger.note_dead(dead.iter().map(last_seen).collect());
    let holds = dead.iter().filter(|sign| sign.holds);
    let died = dead.iter().filter(|sign| !sign.ended);
    HeartbeatReport {
        dead: holds.map(last_seen).collect(),
        died: died.map(|sign| sign.incarnation).collect(),
        mismatch: engine.in_flight.compare(&beaten.held),
        has_peers,
    }
}

/// Whether others are alive.
fn count(others: &[Heartbeat], dead: &[Heartbeat]) -> bool {
    let ended = others.iter().filter(|sign| sign.ended).count();
    let died = dead.iter().filter(|sign| !sign.ended).count();
    let alive = 1 + others.len().saturating_sub(ended + died);
    metrics::gauge!("cloakroom_nodes", "state" => "alive").set(alive as f64);
    metrics::gauge!("cloakroom_nodes", "state" => "dead").set(died as f64);
    alive > 1
}
