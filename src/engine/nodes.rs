//! The beats of this node, and what it learns from those of the others.
//!
//! Owns the pace of the beats and the way from what they bring to those who act on it: who
//! is dead, and what this node is said to hold and does not. Its invariant: nothing that is
//! done about it delays the next beat.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;

use super::Shared;
use super::beats::Loop;
use super::holdings::Amiss;
use cloakroom_domain::fleet::{BEATS_A_LEASE, Liveness, Sign};
use cloakroom_ledger::{Beaten, Dead, LedgerError, Vitals};

/// What is to be seen to.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings {
    /// Nodes that are dead and own what runs.
    pub(super) dead: Vec<Dead>,
    /// Every node that died, and did not stop of its own accord.
    pub(super) died: BTreeSet<i64>,
    /// What this node is said to hold.
    pub(super) amiss: Amiss,
    /// Whether other nodes are there.
    pub(super) company: bool,
}

/// Beats until nothing runs here any more, and then says so.
pub(super) async fn run(shared: Arc<Shared>, found: watch::Sender<Findings>) {
    let mut liveness = Liveness::new(shared.settings.node.lease);
    let interval = shared.settings.node.lease / BEATS_A_LEASE;
    loop {
        let begun = shared.clock.elapsed();
        match step(&shared, &mut liveness).await {
            Ok(findings) => {
                shared.beats.beat(Loop::Nodes, shared.clock.now());
                found.send_replace(findings);
            }
            Err(error) => tracing::warn!(%error, "a beat did not reach the ledger"),
        }
        metrics::gauge!("cloakroom_beat_age_seconds").set(shared.pulse.age());
        let took = shared.clock.elapsed().saturating_sub(begun);
        tokio::select! {
            () = over(&shared) => break,
            () = shared.clock.sleep(interval.saturating_sub(took)) => {}
        }
    }
    leave(&shared).await;
}

/// Completes when the gateway drains and all that ran here is settled.
pub(super) async fn over(shared: &Shared) {
    shared.tasks.draining().await;
    shared.holdings.emptied().await;
}

/// Says that nobody has to wait for this node. Where that fails, they find out.
async fn leave(shared: &Shared) {
    let now = shared.clock.now();
    let leaving = shared.ledger.leave(shared.permits.emptied(now), now);
    tokio::select! {
        left = leaving => {
            if let Err(error) = left {
                tracing::debug!(%error, "could not take leave");
            }
        }
        () = shared.tasks.cutting() => {}
    }
}

/// Beats once.
async fn step(shared: &Shared, liveness: &mut Liveness) -> Result<Findings, LedgerError> {
    let sent = shared.clock.elapsed();
    let beaten = shared.ledger.beat(vitals(shared)).await?;
    let had_stopped = !shared.pulse.may_begin();
    if had_stopped {
        // Others may have taken it for dead, and use what was granted to it.
        shared.permits.suspend(shared.clock.now());
    }
    shared.pulse.confirm(sent);
    if had_stopped {
        shared.ledger.look_for_work();
    }
    Ok(findings(shared, liveness, &beaten))
}

fn vitals(shared: &Shared) -> Vitals {
    let (settings, node) = (&shared.settings, &shared.settings.node);
    let slots = if node.role.works() { settings.slots } else { 0 };
    Vitals {
        name: node.name.clone(),
        role: node.role,
        queues: settings.works_on.iter().map(ToString::to_string).collect(),
        slots: u32::try_from(slots).unwrap_or(u32::MAX),
        running: u32::try_from(shared.holdings.len()).unwrap_or(u32::MAX),
        fingerprint: node.fingerprint.clone(),
        lease: node.lease,
    }
}

fn findings(shared: &Shared, liveness: &mut Liveness, beaten: &Beaten) -> Findings {
    let dead = liveness.look(shared.clock.elapsed(), &beaten.others);
    let company = count(&beaten.others, &dead);
    let last_seen = |sign: &Sign| Dead { incarnation: sign.incarnation, beat: Some(sign.beat) };
    shared.ledger.note_dead(dead.iter().map(last_seen).collect());
    let holds = dead.iter().filter(|sign| sign.holds);
    let died = dead.iter().filter(|sign| !sign.ended);
    Findings {
        dead: holds.map(last_seen).collect(),
        died: died.map(|sign| sign.incarnation).collect(),
        amiss: shared.holdings.compare(&beaten.held),
        company,
    }
}

/// Whether others are alive.
fn count(others: &[Sign], dead: &[Sign]) -> bool {
    let ended = others.iter().filter(|sign| sign.ended).count();
    let died = dead.iter().filter(|sign| !sign.ended).count();
    let alive = 1 + others.len().saturating_sub(ended + died);
    metrics::gauge!("cloakroom_nodes", "state" => "alive").set(alive as f64);
    metrics::gauge!("cloakroom_nodes", "state" => "dead").set(died as f64);
    alive > 1
}
