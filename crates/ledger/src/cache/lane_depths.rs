//! The depth of each lane and its next due time, as this process knows them.
//!
//! Owns the counts that acceptance and dispatch consult on every request, so that
//! neither has to count rows. What this process has put in and taken out it counts itself;
//! what others have, they tell with their beats. Its invariants: where no other process writes,
//! after each commit the depth of a lane is the number of its ready rows; and what was
//! looked up before an operation was added never hides that operation.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::cache::counters::{Counter, Part};
use crate::cluster::fleet::Counted;
use crate::commit::effects::Recounted;
use crate::model::LaneDepth;
use cloakroom_domain::Timestamp;
use cloakroom_domain::operation::Lane;

/// The lanes of the ledger.
#[derive(Debug)]
pub(crate) struct Lanes {
    /// Whether others put in and take out too.
    shared: bool,
    table: Mutex<LaneTable>,
}

#[derive(Debug, Default)]
struct LaneTable {
    lanes: BTreeMap<Lane, KnownLane>,
    // Octets that are about to be stored, by queue.
    coming: BTreeMap<Arc<str>, u64>,
    additions: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct KnownLane {
    // What this process has put in, less what it took out.
    own: LaneTally,
    // As the others were told of it last.
    told: LaneTally,
    // What it left to the others when it took leave.
    left: LaneTally,
    // What lies in it by the doing of others, now and before this start.
    elsewhere: LaneTally,
    // Something was found in it, and nothing taken out since.
    found: bool,
    // How many it is worth to ask for, where others know of more.
    reach: u64,
    // Nothing of the lane is due before this; none where nothing lies in it.
    next_due: Option<Timestamp>,
    // The number of the last addition.
    added: u64,
}

/// What was done in a lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct LaneTally {
    depth: i64,
    // Operations that wait for a serial key.
    behind: i64,
    started: u64,
    // Octets that are stored for operations that have not ended.
    stored: i64,
}

impl LaneTally {
    const fn less(self, other: Self) -> Self {
        Self {
            depth: self.depth - other.depth,
            behind: self.behind - other.behind,
            started: self.started.saturating_sub(other.started),
            stored: self.stored - other.stored,
        }
    }
}

impl KnownLane {
    /// How many lie in it, as far as is known; `shared` where others put in and take out.
    fn depth(&self, shared: bool) -> u64 {
        self.claimable(shared).saturating_add(self.behind())
    }

    /// How many of those wait for no serial key.
    fn claimable(&self, shared: bool) -> u64 {
        let counted = u64::try_from(self.own.depth + self.elsewhere.depth).unwrap_or(0);
        match self.next_due {
            _ if !shared => counted,
            None => 0,
            Some(_) => counted.max(u64::from(self.found)),
        }
    }

    fn behind(&self) -> u64 {
        u64::try_from(self.own.behind + self.elsewhere.behind).unwrap_or(0)
    }
}

impl LaneTable {
    /// Octets that are stored for operations of a queue that have not ended.
    fn stored(&self, queue: &str) -> u64 {
        let of_queue = self.lanes.iter().filter(|(lane, _)| &*lane.queue == queue);
        let sum: i64 = of_queue.map(|(_, known)| known.own.stored + known.elsewhere.stored).sum();
        u64::try_from(sum).unwrap_or(0)
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A moment between additions. What a look finds is as old as the moment before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment(u64);

impl Lanes {
    pub(crate) fn new(shared: bool) -> Self {
        Self { shared, table: Mutex::default() }
    }

    /// Starts from what the ledger holds.
    pub(crate) fn load(&self, depths: Vec<LaneDepth>) {
        let mut table = self.lock();
        for LaneDepth { lane, depth, oldest_due, claimable, stored } in depths {
            let behind = signed(depth.saturating_sub(claimable));
            let (depth, stored) = (signed(claimable), signed(stored));
            let elsewhere = LaneTally { depth, behind, started: 0, stored };
            let (reach, next_due) = (claimable, oldest_due);
            table
                .lanes
                .insert(lane, KnownLane { elsewhere, reach, next_due, ..KnownLane::default() });
        }
    }

    /// Takes in lanes that may be new. Whether one is.
    pub(crate) fn learn(&self, lanes: Vec<Lane>) -> bool {
        let mut table = self.lock();
        let before = table.lanes.len();
        for lane in lanes {
            table.lanes.entry(lane).or_default();
        }
        table.lanes.len() > before
    }

    /// So many more operations of the lane wait for a serial key than before.
    pub(crate) fn wait(&self, lane: &Lane, more: i64) {
        self.lock().lanes.entry(lane.clone()).or_default().own.behind += more;
    }

    /// A lane was counted in the transaction that is durable now, and no other process writes.
    pub(crate) fn recounted(&self, found: &Recounted) {
        let Recounted { lane, depth, behind, stored } = found;
        let mut table = self.lock();
        let known = table.lanes.entry(lane.clone()).or_default();
        known.own.depth = depth - known.elsewhere.depth;
        known.own.behind = behind - known.elsewhere.behind;
        // Where an operation runs alone does not matter: its octets count in its lane.
        let plain = Lane { quarantine: false, ..lane.clone() };
        let known = table.lanes.entry(plain).or_default();
        known.own.stored = stored - known.elsewhere.stored;
    }

    /// An attempt began without its operation having been put into the lane.
    pub(crate) fn started(&self, lane: &Lane) {
        self.lock().lanes.entry(lane.clone()).or_default().own.started += 1;
    }

    /// What this process has counted since it last took leave, lane by lane.
    pub(crate) fn unleft(&self) -> Vec<Counted> {
        self.tallies(|known| (known.own != known.left).then(|| known.own.less(known.left)))
    }

    /// This was left to the others for good.
    pub(crate) fn left(&self, counted: &[Counted]) {
        let mut table = self.lock();
        for Counted { lane, depth, behind, started, stored } in counted {
            let left = &mut table.lanes.entry(lane.clone()).or_default().left;
            left.stored += stored;
            left.depth += depth;
            left.behind += behind;
            left.started += started;
        }
    }

    /// What this process has counted in lanes where that has changed since the others were
    /// told.
    pub(crate) fn untold(&self) -> Vec<Counted> {
        self.tallies(|known| (known.own != known.told).then_some(known.own))
    }

    fn tallies(&self, of: impl Fn(&KnownLane) -> Option<LaneTally>) -> Vec<Counted> {
        let table = self.lock();
        let row = |(lane, known): (&Lane, &KnownLane)| {
            let LaneTally { depth, behind, started, stored } = of(known)?;
            Some(Counted { lane: lane.clone(), depth, behind, started, stored })
        };
        table.lanes.iter().filter_map(row).collect()
    }

    /// The others have been told this, and have told that; nothing of a lane that is not
    /// in it.
    pub(crate) fn told(&self, told: &[Counted], elsewhere: &[Counted]) {
        let mut table = self.lock();
        let tally = |counted: &Counted| {
            let Counted { depth, behind, started, stored, .. } = *counted;
            LaneTally { depth, behind, started, stored }
        };
        for counted in told {
            table.lanes.entry(counted.lane.clone()).or_default().told = tally(counted);
        }
        if self.shared {
            table.lanes.values_mut().for_each(|known| known.elsewhere = LaneTally::default());
        }
        for counted in elsewhere {
            table.lanes.entry(counted.lane.clone()).or_default().elsewhere = tally(counted);
        }
    }

    /// How many this process has put into a part of a lane, less those it took out.
    pub(crate) fn own_depth(&self, (lane, part): &Counter) -> i64 {
        let table = self.lock();
        let own = table.lanes.get(lane).map_or_else(LaneTally::default, |known| known.own);
        match part {
            Part::Ready => own.depth,
            Part::BehindKeys => own.behind,
            Part::Stored => own.stored,
        }
    }

    /// How many lie in a lane, as far as is known.
    pub(crate) fn depth(&self, lane: &Lane) -> u64 {
        self.lock().lanes.get(lane).map_or(0, |known| known.depth(self.shared))
    }

    /// How many attempts have begun in each queue, ever, as far as is counted.
    pub(crate) fn started_by_queue(&self) -> BTreeMap<Arc<str>, u64> {
        let mut sums = BTreeMap::new();
        for (lane, known) in &self.lock().lanes {
            *sums.entry(Arc::clone(&lane.queue)).or_default() +=
                known.own.started + known.elsewhere.started;
        }
        sums
    }

    /// The present moment, to be taken before a look.
    pub(crate) fn moment(&self) -> Moment {
        Moment(self.lock().additions)
    }

    /// An operation was put into the lane.
    pub(crate) fn added(&self, lane: &Lane, due_at: Timestamp) {
        self.lock().lanes.entry(lane.clone()).or_default().own.depth += 1;
        self.due(lane, due_at);
    }

    /// An operation that counts in the lane is due in it.
    pub(crate) fn due(&self, lane: &Lane, due_at: Timestamp) {
        let mut table = self.lock();
        table.additions += 1;
        let added = table.additions;
        let known = table.lanes.entry(lane.clone()).or_default();
        known.reach += 1;
        known.added = added;
        known.next_due = Some(known.next_due.map_or(due_at, |due| due.min(due_at)));
    }

    /// So many operations left the lane.
    pub(crate) fn removed(&self, lane: &Lane, count: u64) {
        let mut table = self.lock();
        let known = table.lanes.entry(lane.clone()).or_default();
        known.own.depth -= i64::try_from(count).unwrap_or(i64::MAX);
        known.reach = known.reach.saturating_sub(count);
        known.found = false;
    }

    /// A claim that was begun after `since` took so many, and saw when the next is due.
    pub(crate) fn claimed(
        &self,
        lane: &Lane,
        count: u64,
        next_due: Option<Timestamp>,
        since: Moment,
    ) {
        self.removed(lane, count);
        self.looked(lane, next_due, since);
        if let Some(known) = self.lock().lanes.get_mut(lane) {
            known.own.started += count;
            if next_due.is_some() {
                // Others put in what is not counted here: there may be twice as many again.
                known.reach = known.reach.max(2 * count);
            }
        }
    }

    /// A look that was begun after `since` saw when the next of the lane is due. Whether
    /// that is news.
    pub(crate) fn looked(&self, lane: &Lane, next_due: Option<Timestamp>, since: Moment) -> bool {
        let shared = self.shared;
        let mut table = self.lock();
        let Some(known) = table.lanes.get_mut(lane) else { return false };
        let before = known.next_due;
        if known.added > since.0 {
            known.next_due = before.into_iter().chain(next_due).min();
        } else {
            known.next_due = next_due;
            if shared && next_due.is_none() {
                known.reach = 0;
            }
        }
        if known.next_due.is_some() {
            known.reach = known.reach.max(1);
            known.found = true;
        }
        match (before, known.next_due) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(before), Some(now)) => now < before,
        }
    }

    /// How many are queued in a queue, over all of its lanes.
    pub(crate) fn queue_depth(&self, queue: &str) -> u64 {
        let table = self.lock();
        let of_queue = table.lanes.iter().filter(|(lane, _)| &*lane.queue == queue);
        of_queue.map(|(_, known)| known.depth(self.shared)).sum()
    }

    /// Octets are stored for an operation of the lane.
    pub(crate) fn keep(&self, lane: &Lane, octets: u64) {
        let mut table = self.lock();
        table.lanes.entry(lane.clone()).or_default().own.stored += signed(octets);
    }

    /// An operation of the lane has ended, for which so many octets were stored.
    pub(crate) fn let_go(&self, lane: &Lane, octets: u64) {
        // Where it ran alone does not matter: it was counted in its lane.
        let lane = Lane { quarantine: false, ..lane.clone() };
        self.lock().lanes.entry(lane).or_default().own.stored -= signed(octets);
    }

    /// Octets that are stored for operations of a queue that have not ended.
    pub(crate) fn queue_stored(&self, queue: &str) -> u64 {
        self.lock().stored(queue)
    }

    /// Keeps room for so many octets of a queue if that leaves it within `most`; what is counted is
    /// `off` by so many. One operation has room where nothing else is stored.
    pub(crate) fn make_room(&self, queue: &Arc<str>, octets: u64, most: u64, off: i64) -> bool {
        let mut table = self.lock();
        let coming = table.coming.get(queue).copied().unwrap_or(0);
        let taken = table.stored(queue).saturating_add_signed(off).saturating_add(coming);
        let has_room = taken == 0 || taken.saturating_add(octets) <= most;
        if has_room {
            *table.coming.entry(Arc::clone(queue)).or_default() += octets;
        }
        has_room
    }

    /// Room that was kept is needed no more.
    pub(crate) fn leave_room(&self, queue: &Arc<str>, octets: u64) {
        if let Some(coming) = self.lock().coming.get_mut(queue) {
            *coming = coming.saturating_sub(octets);
        }
    }

    /// Whether no operation in the lane is due at that time.
    pub(crate) fn nobody_due(&self, lane: &Lane, now: Timestamp) -> bool {
        let table = self.lock();
        table.lanes.get(lane).is_none_or(|known| known.next_due.is_none_or(|due| due > now))
    }

    /// Every lane with its depth and the time before which nothing of it is due.
    pub(crate) fn snapshot(&self) -> Vec<LaneDepth> {
        let table = self.lock();
        let row = |(lane, known): (&Lane, &KnownLane)| LaneDepth {
            lane: lane.clone(),
            depth: known.depth(self.shared),
            claimable: if self.shared { known.reach } else { known.claimable(false) },
            oldest_due: known.next_due,
            stored: u64::try_from(known.own.stored + known.elsewhere.stored).unwrap_or(0),
        };
        table.lanes.iter().map(row).collect()
    }

    /// Every lane of a queue.
    pub(crate) fn of_queue(&self, queue: &str) -> Vec<Lane> {
        let table = self.lock();
        table.lanes.keys().filter(|lane| &*lane.queue == queue).cloned().collect()
    }

    /// Every lane.
    pub(crate) fn all(&self) -> Vec<Lane> {
        self.lock().lanes.keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, LaneTable> {
        // Each change leaves the table whole.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane() -> Lane {
        Lane { queue: "q".into(), upstream: "u".into(), express: false, quarantine: false }
    }

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    #[test]
    fn what_is_added_while_somebody_looks_is_not_hidden_by_what_the_look_saw() {
        let lanes = Lanes::new(true);
        let before = lanes.moment();
        lanes.added(&lane(), at(5));
        lanes.looked(&lane(), None, before);
        assert_eq!(lanes.snapshot()[0].oldest_due, Some(at(5)));
        lanes.looked(&lane(), None, lanes.moment());
        assert_eq!(lanes.snapshot()[0].oldest_due, None);
    }

    #[test]
    fn where_others_take_too_an_empty_lane_has_no_depth_left() {
        let lanes = Lanes::new(true);
        lanes.added(&lane(), at(5));
        lanes.looked(&lane(), None, lanes.moment());
        assert_eq!(lanes.queue_depth("q"), 0);
    }

    fn counted(depth: i64, started: u64) -> Counted {
        Counted { lane: lane(), depth, behind: 0, started, stored: 0 }
    }

    #[test]
    fn a_depth_is_what_this_process_counted_and_what_the_others_told() {
        let lanes = Lanes::new(true);
        lanes.added(&lane(), at(5));
        lanes.added(&lane(), at(6));
        assert_eq!(lanes.untold(), [counted(2, 0)]);
        lanes.told(&lanes.untold(), &[counted(40, 7)]);
        assert_eq!((lanes.queue_depth("q"), lanes.untold()), (42, vec![]));
        // It takes out what others put in.
        lanes.claimed(&lane(), 12, Some(at(7)), lanes.moment());
        assert_eq!((lanes.queue_depth("q"), lanes.untold()), (30, vec![counted(-10, 12)]));
        assert_eq!(lanes.started_by_queue()["q"], 19);
        lanes.looked(&lane(), None, lanes.moment());
        assert_eq!((lanes.queue_depth("q"), lanes.unleft()), (0, vec![counted(-10, 12)]));
    }

    #[test]
    fn whoever_waits_for_a_key_is_deep_and_not_claimable_also_where_nothing_else_lies() {
        for shared in [true, false] {
            let lanes = Lanes::new(shared);
            lanes.wait(&lane(), 3);
            lanes.wait(&lane(), -1);
            let depth = lanes.snapshot()[0].clone();
            assert_eq!((depth.depth, depth.claimable, depth.oldest_due), (2, 0, None));
            assert_eq!((lanes.queue_depth("q"), lanes.untold()[0].behind), (2, 2));
        }
    }

    #[test]
    fn what_is_counted_after_taking_leave_is_left_by_itself() {
        let lanes = Lanes::new(true);
        lanes.added(&lane(), at(1));
        lanes.added(&lane(), at(1));
        lanes.left(&lanes.unleft());
        assert_eq!(lanes.unleft(), []);
        lanes.claimed(&lane(), 1, Some(at(1)), lanes.moment());
        assert_eq!(lanes.unleft(), [counted(-1, 1)]);
        lanes.left(&lanes.unleft());
        assert_eq!(lanes.unleft(), []);
    }

    #[test]
    fn a_lane_that_others_made_is_new_once() {
        let lanes = Lanes::new(true);
        assert!(lanes.learn(vec![lane()]) && !lanes.learn(vec![lane()]));
        assert!(lanes.looked(&lane(), Some(at(1)), lanes.moment()));
    }

    #[test]
    fn whoever_finds_more_than_it_knew_of_asks_for_more_each_time() {
        let lanes = Lanes::new(true);
        lanes.load(vec![LaneDepth {
            lane: lane(),
            depth: 0,
            claimable: 0,
            oldest_due: None,
            stored: 0,
        }]);
        assert!(lanes.looked(&lane(), Some(at(1)), lanes.moment()));
        let mut asked = Vec::new();
        for _ in 0..4 {
            let claimable = lanes.snapshot()[0].claimable;
            asked.push(claimable);
            lanes.claimed(&lane(), claimable, Some(at(1)), lanes.moment());
        }
        assert_eq!(asked, [1, 2, 4, 8]);
    }
}
