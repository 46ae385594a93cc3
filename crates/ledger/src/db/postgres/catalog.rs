//! The facts that a node knows of an open ledger: its own number, and the lanes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use sqlx::postgres::PgRow;

use crate::db::postgres::owned_rows::Property;
use crate::db::postgres::watermarks::Marks;
use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::model::Retention;
use crate::operations::unreadable::Tasks;
use crate::rows::{ReadRow, damaged, named, number, numbered, text, with_quarantines};
use crate::webhooks::sql::IdSequence;
use crate::webhooks::subscribers::Subscribers;
use cloakroom_domain::operation::Lane;
use cloakroom_domain::sealer::Sealer;

statements! {
    /// Every lane there is; another node may have made some since they were read.
    pub(crate) const LANES: &str = r"SELECT lane, queue, upstream, express FROM lanes";
}

/// What a node knows while the ledger is open.
pub(crate) struct Book {
    pub(crate) incarnation: i64,
    pub(crate) retention: Retention,
    pub(crate) marks: Marks,
    pub(crate) property: Property,
    pub(crate) subscribers: Arc<Subscribers>,
    pub(crate) sealer: Sealer,
    pub(crate) tasks: Tasks,
    /// Numbers that were taken and not used, with the first that is not ours.
    pub(crate) blocks: Mutex<HashMap<IdSequence, (i64, i64)>>,
    lanes: RwLock<Arc<KnownLanes>>,
}

#[derive(Default)]
struct KnownLanes {
    numbers: HashMap<Lane, i64>,
    lanes: HashMap<i64, Lane>,
}

impl Book {
    pub(crate) fn new(
        incarnation: i64,
        retention: Retention,
        sealer: Sealer,
        lanes: &[PgRow],
    ) -> Result<Self, LedgerError> {
        let book = Self {
            incarnation,
            retention,
            marks: Marks::default(),
            property: Property::default(),
            subscribers: Arc::default(),
            sealer,
            tasks: Tasks::default(),
            blocks: Mutex::default(),
            lanes: RwLock::default(),
        };
        book.learn(lanes)?;
        Ok(book)
    }

    /// Takes in all the lanes that there are.
    pub(crate) fn learn(&self, rows: &[PgRow]) -> Result<(), LedgerError> {
        let mut known = KnownLanes::default();
        for row in rows {
            let lane = Lane {
                queue: text(row, "queue")?.into(),
                upstream: text(row, "upstream")?.into(),
                express: row.flag("express")?,
                quarantine: false,
            };
            let place = number(row, "lane")?;
            known.numbers.insert(lane.clone(), place);
            known.lanes.insert(place, lane);
        }
        *self.lanes.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(known);
        Ok(())
    }

    fn known(&self) -> Arc<KnownLanes> {
        // It is replaced as a whole.
        Arc::clone(&self.lanes.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The number of a lane.
    pub(crate) fn number(&self, lane: &Lane) -> Result<i64, LedgerError> {
        let unknown = || damaged(format!("{}/{} is no lane", lane.queue, lane.upstream));
        numbered(lane, |lane| self.known().numbers.get(lane).copied()).ok_or_else(unknown)
    }

    /// The lane of a number.
    pub(crate) fn lane(&self, number: i64) -> Result<Lane, LedgerError> {
        let unknown = || damaged(format!("lane {number} is unknown"));
        named(number, |number| self.known().lanes.get(&number).cloned()).ok_or_else(unknown)
    }

    /// Whether the lane of a number is known.
    pub(crate) fn knows(&self, number: i64) -> bool {
        self.known().lanes.contains_key(&number.abs())
    }

    /// Every lane with its number.
    pub(crate) fn all(&self) -> Vec<(i64, Lane)> {
        with_quarantines(self.known().lanes.iter())
    }
}
