//! The start of a gateway in the file: the rows that it writes, and the facts that it reads.
//!
//! Owns the order in which a file becomes this process's: who the ledger is, the number of
//! this start, the lanes, and what former starts were in the middle of.

use std::collections::HashMap;

use rand::RngExt;
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use crate::Identity;
use crate::cluster::limits::sqlite as permits;
use crate::db::sqlite::open::trouble;
use crate::db::sqlite::{Book, Opening, rows};
use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::operations::sealing_keys;
use crate::store::{Batch, NODES_KEPT};
use cloakroom_domain::operation::Lane;
use cloakroom_domain::sealer::Sealer;
use cloakroom_domain::sealing::Keyring;
use cloakroom_domain::{TicketKey, Timestamp};

statements! {
    /// The last place that was handed out, wherever it is still named: what a former release removed
    /// is written down nowhere else.
    const LAST_PLACE: &str = r"
        SELECT max(last_operation, coalesce((SELECT max(seq) FROM operations), 0),
            coalesce((SELECT max(seq) FROM messages), 0), coalesce((SELECT max(seq)
            FROM serial_keys), 0))
        FROM ledger";

    /// Has the pieces deleted little by little that no row refers to, however many there are: no start
    /// waits for that.
    const ABANDONED: &str = r"
        INSERT INTO erasures (body)
        SELECT DISTINCT p.body
        FROM pieces p
        WHERE NOT EXISTS (SELECT 1 FROM requests WHERE body_key = p.body)
            AND NOT EXISTS (SELECT 1 FROM results WHERE body_key = p.body)
            AND p.body NOT IN (SELECT body FROM erasures)";

    const IDENTITY_MADE: &str = r"
        INSERT OR IGNORE INTO ledger (one, number, ticket_key, created_at)
        VALUES (1, ?, ?, ?)";

    const IDENTITY: &str = r"SELECT number, ticket_key FROM ledger";

    const REGISTERED: &str = r"
        INSERT INTO nodes (name, version, started_at, beat_at, sealing_key)
        VALUES ('local', ?, ?, ?, ?)";

    const LANE_MADE: &str = r"INSERT OR IGNORE INTO lanes (queue, upstream, express) VALUES (?, ?, ?)";
    const LANES: &str = r"SELECT lane, queue, upstream, express FROM lanes";

    const ENDED: &str = r"
        UPDATE nodes
        SET ended_at = ?, running = 0
        WHERE incarnation <> ? AND ended_at IS NULL";

    const FORGOTTEN: &str = r"
        DELETE FROM nodes
        WHERE incarnation <> ?
            AND ended_at < ?
            AND NOT EXISTS (SELECT 1 FROM running WHERE node = incarnation)";

    const DUE_BY_NOW: &str = r"UPDATE waiting SET due_at = ? WHERE due_at > ?";

    /// Rows that would hold up others: of an operation that has a row of another state, which is told
    /// from the running one, or that says no time; and a second row of one that has ended.
    const HINDRANCES: [&str; 4] = [
        r"
        DELETE FROM running
        WHERE seq IN (SELECT u.seq FROM running u JOIN outcomes x ON x.seq = u.seq)",
        r"DELETE FROM ready WHERE seq IN (SELECT seq FROM running)",
        r"DELETE FROM waiting WHERE seq IN (SELECT seq FROM running)",
        // Each lane by itself, so that its index leads there. A text is greater than every number.
        r"
        UPDATE ready
        SET due_at = coalesce((
            SELECT o.due_at
            FROM operations o
            WHERE o.seq = ready.seq AND typeof(o.due_at) = 'integer'
        ), 0)
        WHERE seq IN (
            SELECT r.seq
            FROM lanes l
            JOIN ready r ON r.lane IN (l.lane, -l.lane) AND r.due_at > 9223372036854775807
        )",
    ];

    const OWNERS: &str = r"SELECT DISTINCT node FROM running";
}

/// Reads what the ledger is told apart by; makes it when the ledger is new.
pub(crate) async fn identity(
    connection: &mut SqliteConnection,
    now: Timestamp,
) -> Result<Identity, LedgerError> {
    let mut rng = rand::rng();
    sqlx::query(IDENTITY_MADE)
        .bind(i64::from(rng.random::<u8>()))
        .bind(rng.random::<[u8; 32]>().to_vec())
        .bind(now.as_micros())
        .execute(&mut *connection)
        .await
        .map_err(trouble)?;
    let row = sqlx::query(IDENTITY).fetch_one(connection).await.map_err(trouble)?;
    let key = rows::get::<&[u8]>(&row, "ticket_key")?.try_into().map_err(rows::damaged)?;
    Ok(Identity { number: rows::get(&row, "number")?, ticket_key: TicketKey::new(key) })
}

/// The ids of keys that values in the file are sealed with and that are missing.
pub(crate) async fn missing_keys(
    connection: &mut SqliteConnection,
    keyring: &Keyring,
) -> Result<Option<String>, LedgerError> {
    let rows = sqlx::query(sealing_keys::KEYS).fetch_all(connection).await.map_err(trouble)?;
    Ok(sealing_keys::missing(keyring, &sealing_keys::ids(&rows)?))
}

/// Writes this start down and learns the lanes.
pub(crate) async fn register(
    connection: &mut SqliteConnection,
    opening: &Opening,
    now: Timestamp,
) -> Result<Book, LedgerError> {
    let key = opening.keyring.current().map(|key| key.as_octets().to_vec());
    if let Some(key) = key.clone() {
        let used = sqlx::query(sealing_keys::USED).bind(key).bind(now.as_micros());
        used.execute(&mut *connection).await.map_err(trouble)?;
    }
    let started = sqlx::query(REGISTERED)
        .bind(env!("CARGO_PKG_VERSION"))
        .bind(now.as_micros())
        .bind(now.as_micros())
        .bind(key)
        .execute(&mut *connection)
        .await
        .map_err(trouble)?;
    forget(connection, started.last_insert_rowid(), now).await?;
    for lane in &opening.lanes {
        sqlx::query(LANE_MADE)
            .bind(lane.queue.to_string())
            .bind(lane.upstream.to_string())
            .bind(lane.express)
            .execute(&mut *connection)
            .await
            .map_err(trouble)?;
    }
    let known = sqlx::query(LANES).fetch_all(connection).await.map_err(trouble)?;
    let mut lanes = HashMap::new();
    for row in &known {
        let lane = Lane {
            queue: rows::get::<&str>(row, "queue")?.into(),
            upstream: rows::get::<&str>(row, "upstream")?.into(),
            express: rows::get(row, "express")?,
            quarantine: false,
        };
        lanes.insert(rows::get(row, "lane")?, lane);
    }
    let numbers = lanes.iter().map(|(number, lane)| (lane.clone(), *number)).collect();
    Ok(Book {
        tasks: crate::operations::unreadable::Tasks::default(),
        subscribers: std::sync::Arc::default(),
        sealer: Sealer::new(opening.keyring.clone(), rand::random()),
        incarnation: started.last_insert_rowid(),
        retention: opening.retention,
        numbers,
        lanes,
    })
}

/// Holding the file, all former starts have ended; the old ones are forgotten.
async fn forget(
    connection: &mut SqliteConnection,
    incarnation: i64,
    now: Timestamp,
) -> Result<(), LedgerError> {
    sqlx::query(permits::USED_UP)
        .bind(now.as_micros())
        .bind(incarnation)
        .execute(&mut *connection)
        .await
        .map_err(trouble)?;
    sqlx::query(ENDED)
        .bind(now.as_micros())
        .bind(incarnation)
        .execute(&mut *connection)
        .await
        .map_err(trouble)?;
    sqlx::query(FORGOTTEN)
        .bind(incarnation)
        .bind((now - NODES_KEPT).as_micros())
        .execute(&mut *connection)
        .await
        .map_err(trouble)?;
    Ok(())
}

/// Holding the file, what former starts were in the middle of is void: upstreams that
/// were followed are asked at once, and pieces that no row refers to go, with the prunes that
/// follow the start. Returns the next operation's place.
pub(crate) async fn tidy(
    connection: &mut SqliteConnection,
    now: Timestamp,
) -> Result<i64, LedgerError> {
    mend(connection).await?;
    sqlx::query(DUE_BY_NOW)
        .bind(now.as_micros())
        .bind(now.as_micros())
        .execute(&mut *connection)
        .await
        .map_err(trouble)?;
    sqlx::query(ABANDONED).execute(&mut *connection).await.map_err(trouble)?;
    let row = sqlx::query(LAST_PLACE).fetch_one(connection).await.map_err(trouble)?;
    row.try_get::<i64, _>(0).map(|last| last + 1).map_err(rows::damaged)
}

/// Puts right what would keep other operations from being claimed, followed or ended.
async fn mend(connection: &mut SqliteConnection) -> Result<(), LedgerError> {
    for sql in HINDRANCES {
        let mended = sqlx::query(sql).execute(&mut *connection).await.map_err(trouble)?;
        if mended.rows_affected() > 0 {
            let rows = mended.rows_affected();
            tracing::error!(rows, "damaged rows of the ledger were put right at the start");
        }
    }
    Ok(())
}

/// The incarnations that own what runs.
pub(crate) async fn owners(connection: &mut SqliteConnection) -> Batch<i64> {
    let rows = sqlx::query(OWNERS).fetch_all(connection).await.map_err(trouble)?;
    rows.iter().map(|row| rows::get(row, "node")).collect()
}
