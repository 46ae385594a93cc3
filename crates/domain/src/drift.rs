//! The drift between the operations that nodes have counted in a lane and the rows in it.
//!
//! Owns the estimate for a lane that is never idle. Rows are read at one moment, but each node's count
//! is as old as its last heartbeat, so the two always differ by what nodes have not reported yet. The
//! count between two heartbeats is interpolated. The interpolation error changes from sample to
//! sample; the part that a dead node never reported stays. So the drift is the part that all samples
//! share. Its invariant: samples that disagree about the sign give no drift. Pure.

use super::Timestamp;

/// The fewest moments that are believed.
pub const FEWEST: usize = 6;

/// One sample of a lane's depth.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DepthSample {
    /// When.
    pub at: Timestamp,
    /// How many operations lay in it.
    pub rows: i64,
    /// The counts of nodes that no longer change.
    pub settled: i64,
    /// The sampling node's own count at that moment.
    pub own: i64,
    /// The counts that the other nodes had reported.
    pub told: Vec<ReportedDepth>,
}

/// The depth that a node reported with its last beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportedDepth {
    /// The number of its start.
    pub node: i64,
    /// The number of the beat.
    pub beat: i64,
    /// When it was.
    pub at: Timestamp,
    /// What the node had put into the lane then, less what it had taken out.
    pub depth: i64,
}

/// How many more operations lie in a lane than are counted, by samples in order of time; none if
/// the samples are too few, or if a node's counts were settled in between.
pub fn drift(glimpses: &[DepthSample]) -> Option<i64> {
    let first = glimpses.first()?;
    if glimpses.iter().any(|glimpse| glimpse.settled != first.settled) {
        return None;
    }
    let moments = (0..glimpses.len()).filter_map(|place| excess(glimpses, place));
    let excesses: Vec<_> = moments.collect();
    let (least, most) = (*excesses.iter().min()?, *excesses.iter().max()?);
    match excesses.len() {
        ..FEWEST => None,
        _ if least > 0 => Some(least),
        _ if most < 0 => Some(most),
        _ => Some(0),
    }
}

/// The rows minus the counts at one sample; none if a node has not beaten since.
fn excess(glimpses: &[DepthSample], place: usize) -> Option<i64> {
    let (glimpse, later) = (glimpses.get(place)?, glimpses.get(place + 1..)?);
    let counted = glimpse.told.iter().map(|told| at(*told, glimpse.at, later));
    let counted: i64 = counted.sum::<Option<i64>>()?;
    Some(glimpse.rows - glimpse.settled - glimpse.own - counted)
}

/// What a node had counted at that time.
fn at(before: ReportedDepth, time: Timestamp, later: &[DepthSample]) -> Option<i64> {
    let mut beats = later.iter().flat_map(|glimpse| &glimpse.told);
    let behind = beats.find(|told| told.node == before.node && told.beat > before.beat)?;
    let all = micros(behind.at.since(before.at));
    let part = micros(time.since(before.at)).min(all);
    let counted = i128::from(behind.depth - before.depth);
    let share = if all == 0 { counted } else { (counted * part * 2 + all).div_euclid(all * 2) };
    Some(before.depth + i64::try_from(share).ok()?)
}

fn micros(duration: std::time::Duration) -> i128 {
    i128::try_from(duration.as_micros()).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const BEAT: u64 = 1_000;

    fn time(millis: u64) -> Timestamp {
        Timestamp::EPOCH + Duration::from_millis(millis)
    }

    /// A fleet: one puts in and another takes out, so much in each millisecond.
    struct Fleet {
        put: Vec<i64>,
        taken: Vec<i64>,
        drift: i64,
    }

    impl Fleet {
        fn done(of: &[i64], millis: u64) -> i64 {
            of.iter().take(millis as usize).sum()
        }

        fn told(node: i64, of: &[i64], late: u64, millis: u64) -> ReportedDepth {
            let beat = (millis + BEAT - late) / BEAT;
            let when = (beat * BEAT + late).saturating_sub(BEAT);
            let depth = Self::done(of, when);
            ReportedDepth { node, beat: beat as i64, at: time(when), depth }
        }

        fn glimpse(&self, millis: u64) -> DepthSample {
            let [put, taken] = [&self.put, &self.taken].map(|of| Self::done(of, millis));
            let told =
                vec![Self::told(1, &self.put, 0, millis), Self::told(2, &self.taken, 300, millis)];
            let rows = 5_000 + put + taken + self.drift;
            DepthSample { at: time(millis), rows, settled: 4_000, own: 1_000, told }
        }

        fn seen(&self) -> Option<i64> {
            let glimpses: Vec<_> = (0..18).map(|it| self.glimpse(2_000 + it * 222)).collect();
            drift(&glimpses)
        }
    }

    #[test]
    fn under_a_steady_load_the_whole_drift_is_seen_though_much_is_untold() {
        for drift in [-700, -1, 0, 1, 40] {
            let fleet = Fleet { put: vec![3; 9_000], taken: vec![-2; 9_000], drift };
            assert_eq!(fleet.seen(), Some(drift));
        }
    }

    #[test]
    fn moments_that_disagree_about_its_sign_make_no_drift() {
        // What was put in comes all at once, in the middle between two beats: before that less lies
        // in the lane than even counting makes of it, and behind it more.
        let put = (0..9_000).map(|millis| if millis % 1_000 == 500 { 3_000 } else { 0 });
        let put: Vec<_> = put.collect();
        let seen = |drift| Fleet { put: put.clone(), taken: vec![-2; 9_000], drift }.seen();
        assert_eq!(seen(0), Some(0));
        assert_eq!((seen(100), seen(-100)), (Some(0), Some(0)));
        // Beyond what counting leaves open it is seen, and less is corrected than there is.
        let (more, less) = (seen(3_000).unwrap(), seen(-3_000).unwrap());
        assert!((1..=3_000).contains(&more) && (-3_000..=-1).contains(&less), "{more} {less}");
    }

    #[test]
    fn a_node_that_does_not_beat_any_more_leaves_it_open() {
        let fleet = Fleet { put: vec![3; 9_000], taken: vec![0; 9_000], drift: 7 };
        let mut glimpses: Vec<_> = (0..18).map(|it| fleet.glimpse(2_000 + it * 222)).collect();
        let silent = ReportedDepth { node: 3, beat: 5, at: time(1_000), depth: 9 };
        glimpses.iter_mut().for_each(|glimpse| glimpse.told.push(silent));
        assert_eq!(drift(&glimpses), None);
    }

    #[test]
    fn who_settles_counts_meanwhile_leaves_it_open() {
        let fleet = Fleet { put: vec![3; 9_000], taken: vec![0; 9_000], drift: 7 };
        let mut glimpses: Vec<_> = (0..18).map(|it| fleet.glimpse(2_000 + it * 222)).collect();
        glimpses[9].settled += 1;
        assert_eq!(drift(&glimpses), None);
        assert_eq!(drift(&glimpses[..3]), None);
    }

    proptest! {
        #[test]
        fn whatever_comes_and_goes_a_correction_is_off_by_no_more_than_a_beat_s_worth(
            put in proptest::collection::vec(0i64..6, 9_000),
            taken in proptest::collection::vec(-6i64..=0, 9_000),
            drift in -3_000i64..3_000,
        ) {
            let worth = |of: &[i64]| of.chunks(BEAT as usize).map(|it| it.iter().sum::<i64>().abs()).max().unwrap();
            let most = worth(&put) + worth(&taken);
            let seen = Fleet { put, taken, drift }.seen().unwrap();
            prop_assert!((drift - seen).abs() <= most, "{seen} of {drift}");
        }
    }
}
