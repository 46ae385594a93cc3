//! The discrepancies that reconciling looks for in a ledger.
//!
//! Owns the kinds of discrepancy, which of them are repaired without asking, and the report. Pure: it
//! must not know how they are found.

/// How many of a kind are named in a report.
const NAMED: usize = 10;

/// Something that does not add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Discrepancy {
    /// An operation that is in no state.
    InNoState,
    /// An operation that has ended and is in another state too.
    EndedAndLive,
    /// An operation that is in two states and has not ended.
    InTwoStates,
    /// Rows of an operation that is not there.
    WithoutOperation,
    /// An operation that has ended and is not going to be freed.
    NeverFreed,
    /// An operation that runs on a node that does not exist.
    RunsNowhere,
    /// An operation whose row names a lane that does not exist, though another row names its lane.
    Mislaid,
    /// An operation whose lane does not exist.
    InNoLane,
    /// A serial key without a holder.
    WithoutHolder,
    /// An operation that waits for a serial key that is free.
    WaitsForNothing,
    /// An operation whose node is dead.
    HeldByDead,
    /// Pieces of a large body that nothing refers to, of a node that is long gone.
    UnusedPieces,
    /// A lane whose depth is not what the nodes have counted.
    Miscounted,
    /// A serial key that a failure blocks.
    Blocked,
    /// An unknown outcome without a verdict.
    Unknown,
}

impl Discrepancy {
    /// The name in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InNoState => "in-no-state",
            Self::EndedAndLive => "ended-and-live",
            Self::InTwoStates => "in-two-states",
            Self::WithoutOperation => "without-operation",
            Self::NeverFreed => "never-freed",
            Self::RunsNowhere => "runs-nowhere",
            Self::Mislaid => "mislaid",
            Self::InNoLane => "in-no-lane",
            Self::WithoutHolder => "key-held-by-nobody",
            Self::WaitsForNothing => "waits-for-free-key",
            Self::HeldByDead => "held-by-dead-node",
            Self::UnusedPieces => "unused-pieces",
            Self::Miscounted => "miscounted-depth",
            Self::Blocked => "key-blocked",
            Self::Unknown => "outcome-unknown",
        }
    }

    /// What it means and what to do, for people.
    pub const fn says(self) -> &'static str {
        match self {
            Self::InNoState => {
                "operations that are in no state: no node runs them; send their requests anew"
            }
            Self::EndedAndLive => {
                "operations that had ended and were queued, running or waiting too"
            }
            Self::InTwoStates => "operations in two states: report this with the ledger's log",
            Self::WithoutOperation => "rows of operations that are not there",
            Self::NeverFreed => "operations that had ended and would never have been freed",
            Self::RunsNowhere => {
                "operations that run on a node that does not exist: a start takes them over"
            }
            Self::Mislaid => {
                "operations that lay in a lane that does not exist: no node began them"
            }
            Self::InNoLane => {
                "operations whose queue and upstream are not known, because their lane does not exist: no \
                 node begins or shows them; send their requests anew"
            }
            Self::WithoutHolder => "serial keys that had no holder",
            Self::WaitsForNothing => "operations that waited for a serial key that was free",
            Self::HeldByDead => "operations whose node is dead: the others take them over",
            Self::UnusedPieces => {
                "large bodies that nothing refers to: their nodes are long gone, or their uploads \
                 broke off"
            }
            Self::Miscounted => {
                "queues that were not as deep as their nodes had counted: a node died before it told"
            }
            Self::Blocked => {
                "serial keys that a failure blocks: `cloakroom serial list --blocked`, then release \
                 them, or retry what failed"
            }
            Self::Unknown => {
                "unknown outcomes without a verdict: `cloakroom ops list --unknown`, then \
                 `cloakroom ops verdict`"
            }
        }
    }

    /// Whether it is put right without asking: whatever was promised stays, and doing it
    /// twice does nothing more.
    pub const fn is_safe_to_repair(self) -> bool {
        matches!(
            self,
            Self::EndedAndLive
                | Self::WithoutOperation
                | Self::NeverFreed
                | Self::Mislaid
                | Self::WithoutHolder
                | Self::WaitsForNothing
                | Self::HeldByDead
                | Self::UnusedPieces
                | Self::Miscounted
        )
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrphanRow {
    /// What it is.
    pub kind: Discrepancy,
    /// An operation's id, a key's name, or what else it is known by.
    pub name: String,
}

/// All of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReconcileFinding {
    /// What it is.
    pub kind: Discrepancy,
    /// How many.
    pub count: u64,
    /// Some of them.
    pub names: Vec<String>,
}

/// What a look through a ledger came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiscrepancyReport {
    /// What was found, by kind.
    pub findings: Vec<ReconcileFinding>,
    /// How many operations were looked at.
    pub looked_at: u64,
    /// Whether what is safe to repair was repaired.
    pub repaired: bool,
}

impl DiscrepancyReport {
    /// Adds what was found.
    pub fn add(&mut self, strays: impl IntoIterator<Item = OrphanRow>) {
        for OrphanRow { kind, name } in strays {
            let place = self.findings.partition_point(|finding| finding.kind < kind);
            if self.findings.get(place).is_none_or(|finding| finding.kind != kind) {
                self.findings.insert(place, ReconcileFinding { kind, count: 0, names: Vec::new() });
            }
            if let Some(finding) = self.findings.get_mut(place) {
                finding.count += 1;
                if finding.names.len() < NAMED {
                    finding.names.push(name);
                }
            }
        }
    }

    /// Whether something is left that only a person can put right.
    pub fn needs_a_person(&self) -> bool {
        let left =
            |finding: &ReconcileFinding| !(self.repaired && finding.kind.is_safe_to_repair());
        self.findings.iter().any(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stray(kind: Discrepancy, number: u32) -> OrphanRow {
        OrphanRow { kind, name: number.to_string() }
    }

    #[test]
    fn a_report_counts_all_and_names_some() {
        let mut report = DiscrepancyReport { repaired: true, ..DiscrepancyReport::default() };
        assert!(!report.needs_a_person());
        report.add((0..25).map(|number| stray(Discrepancy::NeverFreed, number)));
        assert!(!report.needs_a_person());
        assert_eq!((report.findings[0].count, report.findings[0].names.len()), (25, 10));
        report.add([stray(Discrepancy::InNoState, 1), stray(Discrepancy::Unknown, 2)]);
        let kinds: Vec<_> = report.findings.iter().map(|finding| finding.kind).collect();
        assert_eq!(kinds, [Discrepancy::InNoState, Discrepancy::NeverFreed, Discrepancy::Unknown]);
        assert!(report.needs_a_person());
    }

    #[test]
    fn what_was_only_looked_at_needs_a_person_too() {
        let mut report = DiscrepancyReport::default();
        report.add([stray(Discrepancy::WithoutHolder, 1)]);
        assert!(report.needs_a_person());
    }
}
