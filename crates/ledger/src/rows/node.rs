//! Nodes and what they own, from the rows that tell of them.

use crate::cluster::fleet::{LeaseKey, NodeRow, Owned, Vitals};
use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::rows::{BindRow, ReadRow, as_micros, damaged, maybe_time, micros, number, text, time};
use cloakroom_domain::fleet::Heartbeat;

statements! {
    /// Every node, the latest start first.
    pub(crate) const NODES: &str = r"
        SELECT incarnation, name, role, queues, slots, running, fingerprint, lease_us,
            version, started_at, beat_at, ended_at
        FROM nodes
        ORDER BY incarnation DESC
        LIMIT 1000";
}

/// Puts what a beat tells, in the order of the statements.
pub(crate) fn put_vitals(vitals: &Vitals, cells: &mut impl BindRow) {
    cells
        .text(vitals.name.clone())
        .text(vitals.role.as_str().to_owned())
        .text(vitals.queues.join(","))
        .number(i64::from(vitals.slots))
        .number(i64::from(vitals.running))
        .text(vitals.fingerprint.clone())
        .number(as_micros(vitals.lease));
}

/// What another node shows.
pub(crate) fn sign(row: &impl ReadRow) -> Result<Heartbeat, LedgerError> {
    Ok(Heartbeat {
        incarnation: number(row, "incarnation")?,
        beat: number(row, "beat")?,
        lease: micros(row, "lease_us")?,
        ended: maybe_time(row, "ended_at")?.is_some(),
        holds: number::<i64>(row, "holds")? > 0,
    })
}

/// A hand-out that names this node.
pub(crate) fn owned(row: &impl ReadRow) -> Result<Owned, LedgerError> {
    Ok(Owned {
        key: LeaseKey { seq: number(row, "seq")?, token: number(row, "token")? },
        taken_over: number::<i64>(row, "taken_over")? > 0,
        cancel_asked: number::<i64>(row, "cancel")? > 0,
    })
}

/// A node as it stands.
pub(crate) fn node(row: &impl ReadRow) -> Result<NodeRow, LedgerError> {
    let queues = text(row, "queues")?.split(',').filter(|name| !name.is_empty());
    Ok(NodeRow {
        incarnation: number(row, "incarnation")?,
        vitals: Vitals {
            name: text(row, "name")?.to_owned(),
            role: text(row, "role")?.parse().map_err(damaged)?,
            queues: queues.map(str::to_owned).collect(),
            slots: number(row, "slots")?,
            running: number(row, "running")?,
            fingerprint: text(row, "fingerprint")?.to_owned(),
            lease: micros(row, "lease_us")?,
        },
        version: text(row, "version")?.to_owned(),
        started_at: time(row, "started_at")?,
        beat_at: time(row, "beat_at")?,
        ended_at: maybe_time(row, "ended_at")?,
    })
}
