//! The open of the database: it takes a server that answers and is new enough, room for this node, and
//! a schema that is up to date.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};

use crate::Identity;
use crate::cluster::limits::shares::stored;
use crate::cluster::nodes::postgres::TIME;
use crate::db::postgres::arrays::Values;
use crate::db::postgres::catalog::{Book, LANES};
use crate::db::postgres::committers;
use crate::db::postgres::inspect::check_owner;
use crate::db::postgres::map_error::{is_lost, trouble};
use crate::db::postgres::pool::{Away, PATIENCE, Pool};
use crate::db::postgres::refusals::{check_rights, explained};
use crate::db::schema::{Text, bring_up_to_date};
use crate::db::statements::statements;
use crate::error::{LedgerError, OpenError};
use crate::open::{Opening, Pooler, Server};
use crate::operations::sealing_keys;
use crate::rows::{damaged, exactly, number, text, time};
use crate::store::NODES_KEPT;
use cloakroom_domain::sealer::Sealer;
use cloakroom_domain::sealing::Keyring;
use cloakroom_domain::{DatabaseUrl, TicketKey, Timestamp};
use cloakroom_runtime::clock::Clock;

statements! {
    const LEFT_RUNNING: &str = r"
        SELECT DISTINCT u.node
        FROM running u
        JOIN nodes n ON n.incarnation = u.node
        WHERE n.name = $1";

    const IN_RECOVERY: &str = r"SELECT pg_is_in_recovery()";

    const DURABILITY: &str = r"
        SELECT current_setting('fsync') AS fsync,
            current_setting('synchronous_commit') AS commits";

    const CONNECTIONS: &str = r"
        SELECT current_setting('max_connections')::bigint -
            current_setting('superuser_reserved_connections')::bigint AS room,
            count(*) AS others, coalesce(sum(coalesce(n.pool + 1, $1)), 0)::bigint AS wanted
        FROM (
            SELECT DISTINCT application_name, substring(application_name
                FROM ' pool ([0-9]{1,9})$')::bigint AS pool
            FROM pg_stat_activity
            WHERE datname = current_database() AND application_name LIKE 'cloakroom node %'
        ) AS n";

    const IDENTITY_MADE: &str = r"
        INSERT INTO ledger (one, number, ticket_key, created_at)
        VALUES (1, $1, $2, $3)
        ON CONFLICT DO NOTHING";

    const IDENTITY: &str = r"SELECT number, ticket_key FROM ledger";

    const FORGOTTEN: &str = r"
        DELETE FROM nodes
        WHERE greatest(beat_at, started_at) < $1
            AND coalesce(ended_at, 0) < $1
            AND NOT EXISTS (SELECT 1 FROM running WHERE node = incarnation)";

    const REGISTERED: &str = r"
        INSERT INTO nodes (name, version, started_at, beat_at, sealing_key)
        VALUES ('local', $1, $2, $2, $3)
        RETURNING incarnation";

    const LANE_MADE: &str = r"
        INSERT INTO lanes (queue, upstream, express)
        VALUES ($1, $2, $3)
        ON CONFLICT DO NOTHING";
}

/// Every migration.
const MIGRATIONS: [Text; 1] =
    [(1, "ledger", include_str!("../../../../../migrations/postgres/0001_ledger.sql"))];
/// The oldest server that the statements are written for.
const OLDEST: u32 = 150_000;
/// How long between two tries to reach a server that is away.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a migration may take before its connection counts as lost.
const MIGRATING: Duration = Duration::from_hours(24);
/// A server that is starting, stopping, or has no connection left.
const NOT_NOW: [&str; 5] = ["57P01", "57P02", "57P03", "53300", "08006"];
/// What a pooler says that does not know what a session asks for.
const OF_A_POOLER: &str = "unsupported startup parameter";
/// A server that follows another one.
const STANDBY: &str = "it is a standby, which takes no writes";
/// By what a node's connections are known to the server, so that a later start can count
/// what all of them may want.
fn name(incarnation: i64, pool: u32) -> String {
    format!("cloakroom node {incarnation} pool {pool}")
}

/// What is known once a database is open.
pub(crate) struct Opened {
    pub(crate) pool: Arc<Pool>,
    pub(crate) writers: Arc<Pool>,
    pub(crate) book: Book,
    pub(crate) identity: Identity,
    pub(crate) dead: Vec<i64>,
}

/// What starts are called that were on a file: they live no more.
pub(crate) const MOVED: &str = "moved";

/// Says what went wrong with the database at that address.
pub(crate) fn unreadable(url: &DatabaseUrl, reason: impl std::fmt::Display) -> OpenError {
    OpenError::Unreadable { path: url.to_string(), reason: reason.to_string() }
}

/// How connections to that address are made.
pub(crate) fn options(url: &DatabaseUrl) -> Result<PgConnectOptions, OpenError> {
    let options = PgConnectOptions::from_str(url.secret());
    // What it says may repeat the address, and that has a password.
    options.map_err(|_| unreadable(url, "its address cannot be used"))
}

/// Opens the database, brings its schema up to date and registers this start.
pub(crate) async fn open(opening: &Opening, server: &Server) -> Result<Opened, OpenError> {
    let direct = server.direct_url.as_ref().unwrap_or(&server.url);
    let mut connection = reach(direct, server).await?;
    let opened = prepare(&mut connection, opening, server, direct).await;
    let _ = Clock::system().timeout(PATIENCE, connection.close()).await;
    let (incarnation, durable, identity) = opened?;
    let failed = |error: LedgerError| unreadable(&server.url, error);
    let options = options(&server.url)?.application_name(&name(incarnation, server.pool));
    // A connection is served by the thread that opened it, and committers have one of their own.
    let writing = committers(server.pool);
    let reading = server.pool.saturating_sub(writing).max(1);
    let away = Arc::<Away>::default();
    let writers = Pool::new(options.clone(), server.pooler, writing, durable, Arc::clone(&away));
    let pool = Pool::new(options, server.pooler, reading, durable, away);
    let lanes = Values::default().finish().map_err(failed)?;
    let rows = pool.read(LANES, lanes).await.map_err(|error| match error {
        LedgerError::Unavailable(reason) if reason.contains(OF_A_POOLER) => {
            OpenError::PoolerUnset { url: server.url.to_string(), reason }
        }
        error => failed(error),
    })?;
    let sealer = Sealer::new(opening.keyring.clone(), rand::random());
    let book = Book::new(incarnation, opening.retention, sealer, &rows).map_err(failed)?;
    let moved = Values::default().with(MOVED).finish().map_err(failed)?;
    let rows = pool.read(LEFT_RUNNING, moved).await.map_err(failed)?;
    let dead: Result<_, _> = rows.iter().map(|row| number(row, "node")).collect();
    Ok(Opened { pool, writers, book, identity, dead: dead.map_err(failed)? })
}

/// Reaches a database and brings its schema up to date, to copy a ledger into it.
pub(crate) async fn target(server: &Server) -> Result<PgConnection, OpenError> {
    let direct = server.direct_url.as_ref().unwrap_or(&server.url);
    let mut connection = reach(direct, server).await?;
    check_version(connection.server_version_num())?;
    check_rights(&mut connection, direct).await?;
    check_owner(&mut connection, direct).await?;
    bring_up_to_date(&mut connection, &MIGRATIONS, &direct.to_string(), true).await?;
    Ok(connection)
}

/// The version of the server at that address, as in `15.4`; an error if it cannot be
/// reached as a gateway would, is too old, may only be read, or is another program's.
pub async fn postgres_version(url: &DatabaseUrl, pooler: Pooler) -> Result<String, OpenError> {
    let options = session(options(url)?, pooler).disable_statement_logging();
    let connected = PgConnection::connect_with(&options).await;
    let mut connection = connected.map_err(|error| unusable(url, &error))?;
    let version = connection.server_version_num();
    check_version(version)?;
    let is_standby = is_standby(&mut connection).await.map_err(|error| unreadable(url, error))?;
    let usable = async {
        if is_standby {
            return Err(unreadable(url, STANDBY));
        }
        check_rights(&mut connection, url).await?;
        check_owner(&mut connection, url).await
    }
    .await;
    let _ = connection.close().await;
    usable?;
    let number = version.unwrap_or_default();
    Ok(format!("{}.{}", number / 10_000, number % 10_000))
}

/// How a session begins, behind such a pooler.
fn session(options: PgConnectOptions, pooler: Pooler) -> PgConnectOptions {
    match pooler {
        Pooler::None => options,
        Pooler::Transaction => options.extra_float_digits(None),
    }
}

/// Why a server that answers cannot be used.
fn unusable(url: &DatabaseUrl, error: &sqlx::Error) -> OpenError {
    let reason = error.to_string();
    match reason.contains(OF_A_POOLER) {
        true => OpenError::PoolerUnset { url: url.to_string(), reason },
        false => unreadable(url, explained(error)),
    }
}

/// Whether the server may only be read, because it follows another one.
async fn is_standby(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    // As text: behind a pooler nothing is prepared.
    let row = sqlx::raw_sql(IN_RECOVERY).fetch_one(connection).await?;
    sqlx::Row::try_get(&row, 0)
}

/// Connects, and waits for a server that is away as long as the opening has patience.
async fn reach(url: &DatabaseUrl, server: &Server) -> Result<PgConnection, OpenError> {
    let options = options(url)?.application_name("cloakroom start").disable_statement_logging();
    let options = session(options, server.pooler);
    let clock = Clock::system();
    let give_up_at = clock.now() + server.patience;
    let mut told = false;
    loop {
        let connecting = async {
            let mut connection = PgConnection::connect_with(&options).await?;
            let is_standby = is_standby(&mut connection).await?;
            Ok((connection, is_standby))
        };
        let why = match clock.timeout(PATIENCE, connecting).await {
            Ok(Ok((connection, false))) => return Ok(connection),
            // One that is being promoted takes a moment.
            Ok(Ok((_, true))) => STANDBY.to_owned(),
            Ok(Err(error)) if !is_away(&error) => return Err(unusable(url, &error)),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it does not answer".to_owned(),
        };
        if clock.now() >= give_up_at {
            let waited = server.patience.as_secs();
            return Err(OpenError::Away { url: url.to_string(), waited, reason: why });
        }
        if !std::mem::replace(&mut told, true) {
            tracing::warn!(database = %url, why, "the database is away; waiting for it");
        }
        clock.sleep(AGAIN).await;
    }
}

fn is_away(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(database) => {
            database.code().is_some_and(|code| NOT_NOW.contains(&&*code)) || is_lost(&**database)
        }
        sqlx::Error::Io(_) => true,
        _ => false,
    }
}

/// What is done by one connection that passes every pooler.
async fn prepare(
    connection: &mut PgConnection,
    opening: &Opening,
    server: &Server,
    url: &DatabaseUrl,
) -> Result<(i64, bool, Identity), OpenError> {
    let failed = |error: LedgerError| unreadable(url, error);
    check_version(connection.server_version_num())?;
    check_rights(connection, url).await?;
    check_owner(connection, url).await?;
    let place = url.to_string();
    let migrating = bring_up_to_date(connection, &MIGRATIONS, &place, opening.migrate);
    let migrated = Clock::system().timeout(MIGRATING, migrating).await;
    migrated.map_err(|_| unreadable(url, "its migrations do not end"))??;
    let work = async {
        let durable = is_durable(connection).await.map_err(failed)?;
        if server.pooler == Pooler::None {
            make_room(connection, server).await?;
        }
        let now = server_time(connection).await.map_err(failed)?;
        if let Some(keys) = missing_keys(connection, &opening.keyring).await.map_err(failed)? {
            return Err(OpenError::MissingKeys { path: url.to_string(), keys });
        }
        let identity = identity(connection, now).await.map_err(failed)?;
        forget(connection, now).await.map_err(failed)?;
        let incarnation = register(connection, opening, now).await.map_err(failed)?;
        Ok((incarnation, durable, identity))
    };
    let prepared = Clock::system().timeout(PATIENCE, work).await;
    prepared.map_err(|_| unreadable(url, "it does not answer"))?
}

fn check_version(version: Option<u32>) -> Result<(), OpenError> {
    match version {
        Some(found) if found < OLDEST => Err(OpenError::OldPostgres(found / 10_000)),
        _ => Ok(()),
    }
}

/// Whether a commit of this server is on its disk.
async fn is_durable(connection: &mut PgConnection) -> Result<bool, LedgerError> {
    let row = sqlx::query(DURABILITY).fetch_one(connection).await.map_err(trouble)?;
    if text(&row, "fsync")? == "off" {
        tracing::warn!(
            "the database has fsync = off: what was accepted may be lost with its machine"
        );
    }
    Ok(text(&row, "commits")? != "off")
}

/// Whether the connections of all nodes fit into the server.
async fn make_room(connection: &mut PgConnection, server: &Server) -> Result<(), OpenError> {
    let failed = |error| unreadable(&server.url, trouble(error));
    // One more listens for hints.
    let each = u64::from(server.pool) + 1;
    let row =
        sqlx::query(CONNECTIONS).bind(stored(each)).fetch_one(connection).await.map_err(failed)?;
    let damaged = |error: LedgerError| unreadable(&server.url, error);
    let room: u64 = number(&row, "room").map_err(damaged)?;
    let others: u64 = number(&row, "others").map_err(damaged)?;
    let theirs: u64 = number(&row, "wanted").map_err(damaged)?;
    if each > room {
        return Err(OpenError::NoRoom { each, room });
    }
    let (nodes, wanted) = (others + 1, theirs + each);
    if wanted > room {
        tracing::warn!(
            nodes,
            each,
            wanted,
            room,
            "the nodes may want more connections than the database has: lower store.pool, raise \
             its max_connections, or put a pooler between"
        );
    }
    Ok(())
}

/// Reads what the ledger is told apart by; makes it when the ledger is new.
async fn identity(connection: &mut PgConnection, now: Timestamp) -> Result<Identity, LedgerError> {
    let (number_of, key): (u8, [u8; 32]) = {
        let mut rng = rand::rng();
        (rng.random(), rng.random())
    };
    sqlx::query(IDENTITY_MADE)
        .bind(i64::from(number_of))
        .bind(key.to_vec())
        .bind(now.as_micros())
        .execute(&mut *connection)
        .await
        .map_err(trouble)?;
    let row = sqlx::query(IDENTITY).fetch_one(connection).await.map_err(trouble)?;
    let key = exactly(&row, "ticket_key")?.ok_or_else(|| damaged("a ledger without a key"))?;
    Ok(Identity { number: number(&row, "number")?, ticket_key: TicketKey::new(key) })
}

/// What all nodes go by, whatever this machine's clock shows.
async fn server_time(connection: &mut PgConnection) -> Result<Timestamp, LedgerError> {
    let row = sqlx::query(TIME).fetch_one(connection).await.map_err(trouble)?;
    time(&row, "sampled")
}

/// The ids of keys that values here are sealed with and that are missing.
async fn missing_keys(
    connection: &mut PgConnection,
    keyring: &Keyring,
) -> Result<Option<String>, LedgerError> {
    let rows = sqlx::query(sealing_keys::KEYS).fetch_all(connection).await.map_err(trouble)?;
    Ok(sealing_keys::missing(keyring, &sealing_keys::ids(&rows)?))
}

/// Forgets nodes that have been silent for long and own nothing.
async fn forget(connection: &mut PgConnection, now: Timestamp) -> Result<(), LedgerError> {
    sqlx::query(FORGOTTEN)
        .bind((now - NODES_KEPT).as_micros())
        .execute(connection)
        .await
        .map_err(trouble)?;
    Ok(())
}

/// Writes this start and the lanes down; gives its incarnation.
async fn register(
    connection: &mut PgConnection,
    opening: &Opening,
    now: Timestamp,
) -> Result<i64, LedgerError> {
    let key = opening.keyring.current().map(|key| key.as_octets().to_vec());
    if let Some(key) = key.clone() {
        let used = sqlx::query(sealing_keys::USED).bind(key).bind(now.as_micros());
        used.execute(&mut *connection).await.map_err(trouble)?;
    }
    let row = sqlx::query(REGISTERED)
        .bind(env!("CARGO_PKG_VERSION"))
        .bind(now.as_micros())
        .bind(key)
        .fetch_one(&mut *connection)
        .await
        .map_err(trouble)?;
    let mut lanes: Vec<_> = opening.lanes.iter().collect();
    // Two nodes that start at once must not wait for each other.
    lanes.sort_unstable();
    for lane in lanes {
        sqlx::query(LANE_MADE)
            .bind(lane.queue.to_string())
            .bind(lane.upstream.to_string())
            .bind(lane.express)
            .execute(&mut *connection)
            .await
            .map_err(trouble)?;
    }
    number(&row, "incarnation")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_before_the_fifteenth_is_refused() {
        assert!(check_version(Some(140_012)).is_err());
        assert!(check_version(Some(150_000)).is_ok());
    }
}
