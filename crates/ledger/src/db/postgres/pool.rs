//! Connections to the server, lent one at a time.
//!
//! Owns how many there are and how long anything may take. Its invariant: only a
//! connection that is between two transactions and has just answered is lent again;
//! every other one is closed, so that nothing waits behind a server that is gone.

use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Postgres, SqlSafeStr};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::db::postgres::map_error::Fault;
use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::open::Pooler;
use cloakroom_domain::Timestamp;
use cloakroom_runtime::clock::Clock;

statements! {
    /// A commit that is answered is on the disk, whatever the server is told later; where it is
    /// to be on other machines too, that stays as it is.
    const DURABLE: &str = r"
        SELECT set_config('synchronous_commit', CASE current_setting('synchronous_commit')
            WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false)";
}

/// The longest that a statement may take, or the wait for a free connection.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// The longest that connecting may take.
const CONNECTING: Duration = Duration::from_secs(5);
/// How long a server that could not be reached counts as away, so that a caller that asks
/// meanwhile is told at once.
const AWAY: Duration = Duration::from_millis(200);
/// How long a connection may lie idle. The driver gives no way to keep it alive, and what
/// lies between forgets it after some minutes: then a statement on it waits for nothing.
const IDLE: Duration = Duration::from_mins(1);
/// Statements that each connection keeps prepared.
const PREPARED: usize = 256;

/// What holds in every session or, behind a pooler, in every transaction. Every table is
/// reached by an index: what is planned for a small table is wrong for a large one, and
/// plans are kept. Who holds locks and falls silent loses them.
const SETTINGS: [(&str, &str); 9] = [
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "off"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("jit", "off"),
    ("lock_timeout", "8000"),
    ("statement_timeout", "9000"),
    ("idle_in_transaction_session_timeout", "10000"),
];

/// Connections to the server.
pub(crate) struct Pool {
    options: PgConnectOptions,
    begin: String,
    pooler: Pooler,
    slots: Arc<Semaphore>,
    state: Mutex<ServerState>,
    away: Arc<Away>,
    /// The real one: a database is as slow as it is, whatever a test's clock says.
    clock: Clock,
}

#[derive(Default)]
struct ServerState {
    /// With when they were given back; the latest last.
    idle: Vec<(PgConnection, Timestamp)>,
    closed: bool,
}

/// Whether the server counts as away. All pools of a ledger share it: once one of them has
/// reached the server, the others try as well.
#[derive(Default)]
pub(crate) struct Away(Mutex<Outage>);

#[derive(Default)]
struct Outage {
    /// How often it has been reached.
    reached: u64,
    /// Until when it counts as away, and why.
    away: Option<(Timestamp, LedgerError)>,
}

impl Away {
    fn known(&self) -> MutexGuard<'_, Outage> {
        // Each change leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often it has been reached; why it is not tried at that time, if so.
    fn ask(&self, now: Timestamp) -> Result<u64, LedgerError> {
        let known = self.known();
        match &known.away {
            Some((until, error)) if now < *until => Err(error.clone()),
            _ => Ok(known.reached),
        }
    }

    fn reached(&self) {
        let mut known = self.known();
        known.reached += 1;
        known.away = None;
    }

    /// A caller that tried since it had been reached so often has not. If it was reached meanwhile,
    /// that is the newer word.
    fn missed(&self, reached: u64, until: Timestamp, error: LedgerError) {
        let mut known = self.known();
        if known.reached == reached {
            known.away = Some((until, error));
        }
    }
}

impl Pool {
    /// A pool of at most `size` connections; none is made before it is needed.
    pub(crate) fn new(
        options: PgConnectOptions,
        pooler: Pooler,
        size: u32,
        durable: bool,
        away: Arc<Away>,
    ) -> Arc<Self> {
        let mut begin = "BEGIN ISOLATION LEVEL READ COMMITTED".to_owned();
        let mut options = options.statement_cache_capacity(PREPARED).disable_statement_logging();
        match pooler {
            Pooler::None => options = options.options(SETTINGS),
            // Differs from a session's: the server behind a pooler may be another one for
            // each transaction, and the pooler refuses what it does not know.
            Pooler::Transaction => {
                options = options.extra_float_digits(None);
                for (name, value) in SETTINGS {
                    // A String takes everything.
                    let _ = write!(begin, "; SET LOCAL {name} = '{value}'");
                }
                if !durable {
                    begin.push_str("; SET LOCAL synchronous_commit = on");
                }
            }
        }
        Arc::new(Self {
            options,
            begin,
            pooler,
            slots: Arc::new(Semaphore::new(size as usize)),
            state: Mutex::default(),
            away,
            clock: Clock::system(),
        })
    }

    /// The result of `work`, unless that takes too long.
    async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, Fault> {
        let late = |_| Fault::silence(limit);
        self.clock.timeout(limit, work).await.map_err(late)?.map_err(Fault::from)
    }

    /// Whether one statement may go down without a transaction around it.
    pub(crate) fn commits_by_itself(&self) -> bool {
        self.pooler == Pooler::None
    }

    /// Lends a connection that no other caller uses.
    pub(crate) async fn lend(self: &Arc<Self>) -> Result<Lent, LedgerError> {
        self.lend_as(false).await
    }

    /// Lends a connection, one that was just made where it has to be `fresh`.
    async fn lend_as(self: &Arc<Self>, fresh: bool) -> Result<Lent, LedgerError> {
        let slot = self.clock.timeout(PATIENCE, Arc::clone(&self.slots).acquire_owned()).await;
        let slot = match slot {
            Ok(Ok(slot)) => slot,
            Ok(Err(_)) => return Err(closed()),
            Err(_) => {
                let says = "all connections are in use: raise store.pool";
                return Err(LedgerError::Unavailable(says.to_owned()));
            }
        };
        let idle = if fresh { None } else { self.idle() };
        let used = idle.is_some();
        let connection = match idle {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        Ok(Lent { connection, used, pool: Arc::clone(self), _slot: slot })
    }

    /// The connection that was given back last; those that have lain too long are closed.
    fn idle(&self) -> Option<PgConnection> {
        let now = self.clock.now();
        let mut state = self.state();
        state.idle.retain(|(_, since)| now.since(*since) < IDLE);
        state.idle.pop().map(|(connection, _)| connection)
    }

    async fn connect(&self) -> Result<PgConnection, LedgerError> {
        if self.state().closed {
            return Err(closed());
        }
        let reached = self.away.ask(self.clock.now())?;
        let connected = self.within(CONNECTING, async {
            let mut connection = PgConnection::connect_with(&self.options).await?;
            if self.pooler == Pooler::None {
                sqlx::raw_sql(DURABLE).execute(&mut connection).await?;
            }
            Ok(connection)
        });
        let connected = connected.await;
        match connected {
            Ok(connection) => {
                self.away.reached();
                Ok(connection)
            }
            Err(Fault { error, .. }) => {
                self.away.missed(reached, self.clock.now() + AWAY, error.clone());
                Err(error)
            }
        }
    }

    /// Lends a connection on which a transaction has begun; brings the rows of what is
    /// asked for in the same go.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        and: Option<String>,
    ) -> Result<(Lent, Vec<PgRow>), LedgerError> {
        let mut sql = self.begin.clone();
        if let Some(and) = and {
            sql.push_str("; ");
            sql.push_str(&and);
        }
        let mut again = false;
        loop {
            let mut lent = self.lend_as(again).await?;
            again = true;
            match lent.simple(sql.clone()).await {
                Ok(rows) => return Ok((lent, rows)),
                Err(fault) => self.retryable(&lent, fault)?,
            }
        }
    }

    /// Passes what failed on a connection that had lain idle: the server may have been
    /// started anew since, and then none of the idle ones is any good. It is tried once
    /// more, on a new one.
    fn retryable(&self, lent: &Lent, fault: Fault) -> Result<(), LedgerError> {
        if lent.used && fault.severed {
            self.distrust();
            return Ok(());
        }
        Err(fault.error)
    }

    /// Closes what is idle: the server may have gone since it was used.
    fn distrust(&self) {
        self.state().idle.clear();
    }

    /// The rows that a reading statement brings.
    pub(crate) async fn read(
        self: &Arc<Self>,
        sql: impl SqlSafeStr,
        arguments: PgArguments,
    ) -> Result<Vec<PgRow>, LedgerError> {
        let sql = sql.into_sql_str();
        let mut again = false;
        loop {
            let mut lent = match self.pooler {
                Pooler::None => self.lend_as(again).await?,
                Pooler::Transaction => self.begin(None).await?.0,
            };
            lent.used &= !again;
            again = true;
            match lent.rows(sql.clone(), arguments.clone()).await {
                Ok(rows) => {
                    if self.pooler == Pooler::Transaction {
                        lent.simple("COMMIT".to_owned()).await?;
                    }
                    lent.give_back();
                    return Ok(rows);
                }
                Err(fault) => self.retryable(&lent, fault)?,
            }
        }
    }

    /// Closes what is idle; nothing is lent from now on.
    pub(crate) async fn close(&self) {
        self.slots.close();
        let idle = {
            let mut state = self.state();
            state.closed = true;
            std::mem::take(&mut state.idle)
        };
        for (connection, _) in idle {
            // A server that does not hear the farewell sees the socket close.
            let _ = self.within(PATIENCE, connection.close()).await;
        }
    }

    fn state(&self) -> MutexGuard<'_, ServerState> {
        // Each change leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed() -> LedgerError {
    LedgerError::Unavailable("the ledger is closed".to_owned())
}

/// A connection that is lent. Dropping it closes it, and the server undoes what was open.
pub(crate) struct Lent {
    connection: PgConnection,
    used: bool,
    pool: Arc<Pool>,
    _slot: OwnedSemaphorePermit,
}

impl Lent {
    /// The rows that a statement brings.
    pub(crate) async fn rows(
        &mut self,
        sql: impl SqlSafeStr,
        arguments: PgArguments,
    ) -> Result<Vec<PgRow>, Fault> {
        metrics::counter!("cloakroom_ledger_statements_total").increment(1);
        let query = sqlx::query_with::<Postgres, _>(sql, arguments)
            .persistent(self.pool.pooler == Pooler::None);
        let rows = self.pool.within(PATIENCE, query.fetch_all(&mut self.connection)).await;
        rows.inspect_err(|fault| {
            if fault.severed {
                self.pool.distrust();
            }
        })
    }

    /// Runs statements without values together; the rows of the last that brings any.
    pub(crate) async fn simple(&mut self, sql: String) -> Result<Vec<PgRow>, Fault> {
        metrics::counter!("cloakroom_ledger_statements_total").increment(1);
        let query = sqlx::raw_sql(AssertSqlSafe(sql));
        self.pool.within(PATIENCE, query.fetch_all(&mut self.connection)).await
    }

    /// Gives a connection back on which no transaction is open.
    pub(crate) fn give_back(self) {
        let mut state = self.pool.state();
        if !state.closed {
            state.idle.push((self.connection, self.pool.clock.now()));
        }
    }
}
