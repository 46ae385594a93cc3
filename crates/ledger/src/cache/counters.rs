//! The counters of lanes, which nodes that share a ledger keep together.

use cloakroom_domain::drift;
use cloakroom_domain::operation::Lane;

/// What of a lane is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// Operations that can be claimed, now or later.
    Ready,
    /// Operations that wait for a serial key.
    BehindKeys,
    /// Octets that are stored for operations that have not ended.
    Stored,
}

impl Part {
    pub(crate) const ALL: [Self; 3] = [Self::Ready, Self::BehindKeys, Self::Stored];
}

/// A part of a lane.
pub(crate) type Counter = (Lane, Part);

/// A place in a lane: when the operation there is due, and its number.
pub(crate) type Place = (i64, i64);

/// What others have counted in a part of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Elsewhere {
    pub(crate) depth: i64,
    /// Of that, the part that belongs to no node: it changes only as a node corrects it, or is gone.
    pub(crate) nobodys: i64,
}

/// A part of a lane at one moment, as one statement saw it.
#[derive(Clone, Debug)]
pub(crate) struct Glimpse {
    pub(crate) rows: i64,
    /// What those have counted who do not beat any more.
    pub(crate) settled: i64,
    pub(crate) nobodys: i64,
    pub(crate) told: Vec<drift::ReportedDepth>,
}

/// A correction of what is counted in a part of a lane.
#[derive(Debug)]
pub(crate) struct Recount {
    pub(crate) counter: Counter,
    pub(crate) by: i64,
    /// The part that belonged to no node when that was found.
    pub(crate) nobodys: i64,
}
