//! The repair of lane depths, where several nodes keep count.
//!
//! A node that was killed had counted what it had not told, and a COMMIT whose answer was lost
//! was counted by no node. Rows say what is true, and are counted in two ways. A lane
//! that rests is counted in batches, however deep it is: what seems to be wrong has to seem
//! so twice, with beats of all in between. One that never rests, if it is not too deep, is
//! seen whole at many moments, over some beats, and [`drift`] says what they have in common.
//! Its invariant: one drift is corrected once, however many nodes have found it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cache::counters::{Counter, Elsewhere, Part, Recount};
use crate::cluster::{RepairDepth, sweep};
use crate::error::LedgerError;
use crate::{Ledger, NodeRow};
use cloakroom_domain::drift::{self, drift};
use cloakroom_domain::fleet::BEATS_A_LEASE;
use cloakroom_domain::operation::Lane;
use cloakroom_domain::reconcile::{Discrepancy, DiscrepancyReport, OrphanRow};
use cloakroom_runtime::clock::Clock;

/// The longest pause between two counts.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// How often a lane that does not rest is looked at, and over how many beats. No whole
/// number of looks fits into a beat, so that they see all parts of it.
const GLIMPSES: u32 = 18;
const BEATS: u32 = 4;
/// How often that is done for a lane of which nothing could be said: a node had not beaten,
/// or another node corrected it at that time.
const TRIES: u32 = 3;
/// The most rows that are counted at one moment.
const DEEPEST: u64 = 250_000;

/// What lanes are found to be.
#[derive(Default)]
struct DriftedCounters {
    /// They rest, and there are more operations in them than was counted.
    wrong: BTreeMap<Counter, (i64, Elsewhere)>,
    /// Something came or went while they were counted.
    restless: Vec<Counter>,
}

impl Ledger {
    /// Puts right how deep lanes are, where a node did not tell what it had counted: after
    /// one has died. Takes some beats.
    pub async fn recount_lanes(&self) -> Result<DiscrepancyReport, LedgerError> {
        let mut report = DiscrepancyReport { repaired: true, ..DiscrepancyReport::default() };
        self.recount(&mut report).await?;
        Ok(report)
    }

    /// Compares how deep each lane is with what was counted.
    pub(crate) async fn recount(&self, report: &mut DiscrepancyReport) -> Result<(), LedgerError> {
        let DriftedCounters { wrong: first, mut restless } = self.compared(self.counters()).await?;
        if !first.is_empty() {
            let all_have_beaten = self.longest_beat().await? * 2;
            Clock::system().sleep(all_have_beaten.min(LONGEST_PAUSE)).await;
            let mut again = self.compared(first.keys().cloned().collect()).await?;
            restless.append(&mut again.restless);
            for (counter, (by, seen)) in again.wrong {
                match first.get(&counter) {
                    Some((before, _)) if *before == by => {
                        self.correct(report, counter, by, seen.nobodys).await?;
                    }
                    _ => restless.push(counter),
                }
            }
        }
        for _ in 0..TRIES {
            restless = self.watch_restless(report, restless).await?;
        }
        Ok(())
    }

    /// Every part of every lane.
    fn counters(&self) -> Vec<Counter> {
        let parts = |lane: Lane| Part::ALL.map(|part| (lane.clone(), part));
        let all = self.shared.lanes.all().into_iter().flat_map(parts);
        // Octets of what runs alone count in its own lane.
        all.filter(|(lane, part)| *part != Part::Stored || !lane.quarantine).collect()
    }

    async fn correct(
        &self,
        report: &mut DiscrepancyReport,
        counter: Counter,
        by: i64,
        nobodys: i64,
    ) -> Result<(), LedgerError> {
        let name = format!("{}/{}", counter.0.queue, counter.0.upstream);
        report.add([OrphanRow { kind: Discrepancy::Miscounted, name }]);
        if report.repaired {
            let recount = Recount { counter, by, nobodys };
            self.submit(RepairDepth { recount }).await?;
        }
        Ok(())
    }

    /// Counts parts of lanes while nothing comes and goes in them.
    async fn compared(&self, counters: Vec<Counter>) -> Result<DriftedCounters, LedgerError> {
        let mut found = DriftedCounters::default();
        for counter in counters {
            let Some(seen) = sweep::counted_elsewhere(&self.shared.store, &counter).await? else {
                return Ok(found);
            };
            let before = self.shared.lanes.own_depth(&counter);
            let depth = self.count(&counter).await?;
            let after = sweep::counted_elsewhere(&self.shared.store, &counter).await?;
            let own = self.shared.lanes.own_depth(&counter);
            let by = depth - own - seen.depth;
            if before != own || after != Some(seen) {
                found.restless.push(counter);
            } else if by != 0 {
                found.wrong.insert(counter, (by, seen));
            }
        }
        Ok(found)
    }

    async fn count(&self, counter: &Counter) -> Result<i64, LedgerError> {
        let (mut depth, mut behind) = (0, (i64::MIN, i64::MIN));
        loop {
            let (count, next) = sweep::count_some(&self.shared.store, counter, behind).await?;
            depth += count;
            match next {
                Some(next) => behind = next,
                None => return Ok(depth),
            }
        }
    }

    /// Looks at parts of lanes that do not rest over some beats, and corrects what all looks say.
    /// Those of which they say nothing are left.
    async fn watch_restless(
        &self,
        report: &mut DiscrepancyReport,
        mut counters: Vec<Counter>,
    ) -> Result<Vec<Counter>, LedgerError> {
        let mut seen: BTreeMap<Counter, (i64, Vec<drift::DepthSample>)> = BTreeMap::new();
        for round in 0..GLIMPSES {
            if counters.is_empty() {
                return Ok(counters);
            }
            if round > 0 {
                let pause = self.longest_beat().await? * BEATS / GLIMPSES;
                Clock::system().sleep(pause.min(LONGEST_PAUSE)).await;
            }
            let mut kept = Vec::with_capacity(counters.len());
            for counter in counters {
                if let Some((nobodys, glimpse)) = self.glimpse(&counter).await? {
                    let (first, glimpses) = seen.entry(counter.clone()).or_default();
                    *first = if glimpses.is_empty() { nobodys } else { *first };
                    glimpses.push(glimpse);
                    kept.push(counter);
                }
            }
            counters = kept;
        }
        let mut left = Vec::new();
        for counter in counters {
            let (nobodys, glimpses) = seen.remove(&counter).unwrap_or_default();
            match drift(&glimpses) {
                Some(0) => {}
                Some(by) => self.correct(report, counter, by, nobodys).await?,
                None => left.push(counter),
            }
        }
        Ok(left)
    }

    /// A part of a lane at this moment, and its counts that belong to no node; none of one that is
    /// too deep.
    async fn glimpse(
        &self,
        counter: &Counter,
    ) -> Result<Option<(i64, drift::DepthSample)>, LedgerError> {
        if counter.1 == Part::Stored && self.shared.lanes.depth(&counter.0) >= DEEPEST {
            return Ok(None);
        }
        let (at, own) = (self.shared.clock.now(), self.shared.lanes.own_depth(counter));
        let Some(seen) = sweep::glimpse(&self.shared.store, counter, DEEPEST).await? else {
            return Ok(None);
        };
        let dead = self.shared.dead().clone();
        let is_dead = |told: &drift::ReportedDepth| {
            dead.iter()
                .any(|it| it.incarnation == told.node && it.beat.is_none_or(|b| b == told.beat))
        };
        let (gone, told): (Vec<_>, Vec<_>) = seen.told.into_iter().partition(is_dead);
        let settled = seen.settled + gone.iter().map(|told| told.depth).sum::<i64>();
        Ok(Some((seen.nobodys, drift::DepthSample { at, rows: seen.rows, settled, own, told })))
    }

    /// How long the others take at most from one beat to the next.
    async fn longest_beat(&self) -> Result<Duration, LedgerError> {
        let nodes = self.nodes().await?;
        let there = |node: &&NodeRow| node.ended_at.is_none();
        let lease = nodes.iter().filter(there).map(|node| node.vitals.lease).max();
        Ok(lease.unwrap_or_default() / BEATS_A_LEASE)
    }
}
