//! One writing transaction.
//!
//! Owns its order: what decides who goes first is locked before anything else, in one
//! sorted statement, and only then are places handed out; what brings no rows back is
//! kept until something has to see it, and travels together. Where one statement is all,
//! it is a transaction by itself.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{AssertSqlSafe, SqlSafeStr};

use crate::db::postgres::arrays::{Script, Values};
use crate::db::postgres::catalog::{Book, LANES};
use crate::db::postgres::pool::{Lent, Pool};
use crate::db::statements::statements;
#[cfg(test)]
use crate::db::statements::{Backend, Texts};
use crate::error::LedgerError;
use crate::rows::{damaged, exactly, maybe_number, number};
use crate::webhooks::sql::{OperationSnapshot, PendingEvent};
use cloakroom_domain::Timestamp;
use cloakroom_domain::operation::Lane;

statements! {
    /// Takes places in the order accepted, and brings the version of receivers.
    static PLACES: Counted = Counted(r"
        SELECT nextval('operations_order') AS seq, (SELECT version FROM webhooks) AS version
        FROM generate_series(1, ");

    /// Locks the row of each key, making it where there is none. Sorted, so that no two
    /// batches wait for each other.
    const LOCK: &str = r"
        INSERT INTO serial_keys (digest, seq)
        SELECT digest, 0
        FROM UNNEST($1::bytea[]) AS wanted (digest)
        ORDER BY digest
        ON CONFLICT (digest) DO UPDATE SET seq = serial_keys.seq
        RETURNING digest, seq, (
            SELECT w.turn_at
            FROM waiting w
            WHERE w.serial_digest = serial_keys.digest AND w.turn_at IS NOT NULL
            ORDER BY w.turn_at
            LIMIT 1
        ) AS next_turn";

    /// An operation whose delay is over and that waits for a look to let it go.
    const NEXT_DUE: &str = r"
        SELECT d.seq
        FROM (
            SELECT seq, turn_at, delayed_until
            FROM waiting
            WHERE serial_digest = $1 AND turn_at IS NOT NULL
            ORDER BY turn_at, seq
            LIMIT 1
        ) AS d
        WHERE d.turn_at <= $2 AND d.delayed_until IS NOT NULL";

    /// The rows are there, and locked; so each is found by its key, and joined with nothing.
    const HELD: &str = r"
        INSERT INTO serial_keys (digest, seq)
        SELECT digest, seq
        FROM UNNEST($1::bytea[], $2::bigint[]) AS h (digest, seq)
        ON CONFLICT (digest) DO UPDATE SET seq = EXCLUDED.seq";

    const FREED: &str = r"DELETE FROM serial_keys WHERE digest = ANY ($1::bytea[])";
    const VERSION: &str = r"SELECT NULL::bigint AS seq, version FROM webhooks";
}

/// One writing transaction. Dropping it undoes it.
pub(crate) struct PgTransaction {
    pool: Arc<Pool>,
    pub(crate) book: Arc<Book>,
    lent: Option<Lent>,
    /// What is still to be written.
    pub(crate) script: Script,
    places: VecDeque<i64>,
    /// Whether one statement is all that is written: that needs no transaction around it.
    pub(crate) alone: bool,
    /// The version of receivers that it goes by which is alone: where they have changed since,
    /// that statement writes nothing.
    relies_on: Option<i64>,
    keys: BTreeMap<[u8; 16], Holder>,
    /// Events of this transaction that a receiver may have to be told of.
    pub(crate) told: Vec<PendingEvent>,
    /// Operations that have ended in it, as they stood then, where a receiver may be told.
    pub(crate) ended: HashMap<i64, OperationSnapshot>,
    /// Whether it makes receivers of callbacks.
    pub(crate) makes_callbacks: bool,
    /// The version of receivers, once it was read.
    pub(crate) version: Option<i64>,
}

/// Who may run, of those with a serial key whose row is locked.
#[derive(Clone, Copy)]
struct Holder {
    /// As the row says; 0 where it was made to be locked.
    stored: i64,
    /// As it shall say; 0 where no operation is left.
    held: i64,
    /// When the turn comes of the first that was delayed, as the statement saw it that locked the
    /// row: it may have waited for the lock, so that this is no more than a reason to look.
    next_turn: Option<i64>,
}

/// A statement that ends with a count, because what is sent together with `BEGIN` has no parameters.
struct Counted(&'static str);

impl Counted {
    fn text(&self, count: usize) -> String {
        format!("{}{count})", self.0)
    }
}

#[cfg(test)]
impl Texts for Counted {
    fn texts(&self, _backend: Backend) -> Vec<String> {
        vec![self.text(3)]
    }
}

impl PgTransaction {
    pub(crate) fn new(pool: Arc<Pool>, book: Arc<Book>) -> Self {
        Self {
            pool,
            book,
            lent: None,
            script: Script::default(),
            places: VecDeque::new(),
            alone: false,
            relies_on: None,
            keys: BTreeMap::new(),
            told: Vec::new(),
            ended: HashMap::new(),
            makes_callbacks: false,
            version: None,
        }
    }

    /// One statement will be all that is written: it goes down by itself, where nothing
    /// else has to hold in its transaction. No receiver wants to know of it, as receivers stood at
    /// this version.
    pub(crate) fn go_alone(&mut self, version: i64) {
        self.alone = self.pool.commits_by_itself();
        self.relies_on = self.alone.then_some(version);
    }

    /// The version of receivers that the only statement goes by; none in a transaction, which
    /// looks for itself before it is committed.
    pub(crate) fn relies_on(&self) -> Option<i64> {
        self.relies_on
    }

    /// From here on it is a transaction, which looks for itself before it is committed.
    pub(crate) fn leave_alone(&mut self) {
        self.alone = false;
        self.relies_on = None;
        if let Some(lent) = self.lent.take() {
            lent.give_back();
        }
    }

    /// Begins, locks these serial keys, and takes that many places in the order accepted.
    pub(crate) async fn prepare(
        &mut self,
        mut digests: Vec<[u8; 16]>,
        places: usize,
    ) -> Result<(), LedgerError> {
        digests.sort_unstable();
        digests.dedup();
        let take = (places > 0).then(|| PLACES.text(places));
        let taken = if digests.is_empty() {
            let version = || VERSION.to_owned();
            self.begin(take.or_else(|| Some(version()))).await?
        } else {
            self.lock(digests).await?;
            match take {
                Some(take) => self.read(AssertSqlSafe(take), PgArguments::default()).await?,
                None => Vec::new(),
            }
        };
        for row in &taken {
            self.version = maybe_number(row, "version")?;
            self.places.extend(maybe_number::<i64>(row, "seq")?);
        }
        Ok(())
    }

    /// As many places in the order accepted as were taken, for a batch of that size.
    pub(crate) fn places(&mut self, count: usize) -> Vec<Option<i64>> {
        (0..count).map(|_| self.places.pop_front()).collect()
    }

    async fn begin(&mut self, and: Option<String>) -> Result<Vec<PgRow>, LedgerError> {
        let (lent, rows) = self.pool.begin(and).await?;
        self.lent = Some(lent);
        Ok(rows)
    }

    /// The rows that a statement brings, which sees all that was written before.
    pub(crate) async fn rows(
        &mut self,
        sql: impl SqlSafeStr,
        values: Values,
    ) -> Result<Vec<PgRow>, LedgerError> {
        self.flush().await?;
        self.read(sql, values.finish()?).await
    }

    /// The first row that a statement brings.
    pub(crate) async fn row(
        &mut self,
        sql: &'static str,
        values: Values,
    ) -> Result<Option<PgRow>, LedgerError> {
        Ok(self.rows(sql, values).await?.into_iter().next())
    }

    /// Runs a statement that brings nothing.
    pub(crate) async fn run(
        &mut self,
        sql: &'static str,
        values: Values,
    ) -> Result<(), LedgerError> {
        self.rows(sql, values).await.map(drop)
    }

    /// The rows that a statement brings, which need not see what is still to be written.
    pub(crate) async fn read(
        &mut self,
        sql: impl SqlSafeStr,
        arguments: PgArguments,
    ) -> Result<Vec<PgRow>, LedgerError> {
        if self.lent.is_none() {
            match self.alone {
                true => self.lent = Some(self.pool.lend().await?),
                false => drop(self.begin(None).await?),
            }
        }
        let Some(lent) = &mut self.lent else { return Err(damaged("no transaction")) };
        Ok(lent.rows(sql, arguments).await?)
    }

    /// Writes what is still to be written.
    pub(crate) async fn flush(&mut self) -> Result<(), LedgerError> {
        if self.script.is_empty() {
            return Ok(());
        }
        let (sql, arguments) = std::mem::take(&mut self.script).finish()?;
        self.read(AssertSqlSafe(sql), arguments).await.map(drop)
    }

    /// Locks the rows of serial keys that are not locked yet; these are sorted.
    pub(crate) async fn lock(&mut self, mut digests: Vec<[u8; 16]>) -> Result<(), LedgerError> {
        digests.retain(|digest| !self.keys.contains_key(digest));
        if digests.is_empty() {
            return Ok(());
        }
        let rows = self.rows(LOCK, Values::default().with(octets(&digests))).await?;
        for row in &rows {
            let digest = exactly(row, "digest")?.ok_or_else(|| damaged("a key without a name"))?;
            let stored = number(row, "seq")?;
            let next_turn = maybe_number(row, "next_turn")?;
            self.keys.insert(digest, Holder { stored, held: stored, next_turn });
        }
        Ok(())
    }

    /// Takes a locked key for an operation; false if another one has it.
    pub(crate) fn take(&mut self, digest: [u8; 16], seq: i64) -> bool {
        let holder =
            self.keys.entry(digest).or_insert(Holder { stored: 0, held: 0, next_turn: None });
        if holder.held == 0 {
            holder.held = seq;
        }
        holder.held == seq
    }

    /// Whether the operation has a locked key.
    pub(crate) fn holds(&self, digest: [u8; 16], seq: i64) -> bool {
        self.keys.get(&digest).is_some_and(|holder| holder.held == seq)
    }

    /// Hands a locked key from one operation to another; false if the first does not have it.
    pub(crate) fn pass_on(&mut self, digest: [u8; 16], from: i64, to: i64) -> bool {
        self.release(digest, from) && self.take(digest, to)
    }

    /// Whether the next holder of a free key was delayed until now, and a look is about to let it
    /// go: others go behind it.
    pub(crate) async fn is_next_due(
        &mut self,
        digest: [u8; 16],
        now: Timestamp,
    ) -> Result<bool, LedgerError> {
        let next_turn = self.keys.get(&digest).and_then(|holder| holder.next_turn);
        if next_turn.is_none_or(|at| at > now.as_micros()) {
            return Ok(false);
        }
        let values = Values::default().with(digest.to_vec()).with(now.as_micros());
        Ok(self.row(NEXT_DUE, values).await?.is_some())
    }

    /// Whether no operation has a locked key.
    pub(crate) fn is_free(&self, digest: [u8; 16]) -> bool {
        self.keys.get(&digest).is_some_and(|holder| holder.held == 0)
    }

    /// Lets a locked key go; false if the operation does not have it.
    pub(crate) fn release(&mut self, digest: [u8; 16], seq: i64) -> bool {
        match self.keys.get_mut(&digest) {
            Some(holder) if holder.held == seq => {
                holder.held = 0;
                true
            }
            _ => false,
        }
    }

    /// Writes down who has the locked keys.
    async fn keep_keys(&mut self) -> Result<(), LedgerError> {
        let keys = std::mem::take(&mut self.keys);
        let freed: Vec<_> =
            keys.iter().filter(|(_, key)| key.held == 0).map(|(digest, _)| *digest).collect();
        let (held, seqs): (Vec<_>, Vec<_>) = keys
            .iter()
            .filter(|(_, key)| key.held != 0 && key.held != key.stored)
            .map(|(digest, key)| (*digest, key.held))
            .unzip();
        if !held.is_empty() {
            self.run(HELD, Values::default().with(octets(&held)).with(seqs)).await?;
        }
        if !freed.is_empty() {
            self.run(FREED, Values::default().with(octets(&freed))).await?;
        }
        Ok(())
    }

    /// The lane of a number, which another node may have made a moment ago.
    pub(crate) async fn learn_lanes(
        &mut self,
        numbers: impl IntoIterator<Item = i64>,
    ) -> Result<(), LedgerError> {
        if numbers.into_iter().all(|number| self.book.knows(number)) {
            return Ok(());
        }
        let rows = self.rows(LANES, Values::default()).await?;
        self.book.learn(&rows)
    }

    /// The lane of a number that was learnt.
    pub(crate) fn lane(&self, number: i64) -> Result<Lane, LedgerError> {
        self.book.lane(number)
    }

    /// Makes all of it durable. An error leaves open whether it is.
    pub(crate) async fn commit(mut self) -> Result<(), LedgerError> {
        self.flush().await?;
        self.keep_keys().await?;
        let Some(mut lent) = self.lent.take() else { return Ok(()) };
        if !self.alone {
            lent.simple("COMMIT".to_owned()).await?;
        }
        lent.give_back();
        Ok(())
    }
}

/// Octets as the values of an array.
pub(crate) fn octets<const N: usize>(values: &[[u8; N]]) -> Vec<Vec<u8>> {
    values.iter().map(|value| value.to_vec()).collect()
}
