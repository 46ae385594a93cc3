//! The reads of receivers, keys and deliveries.

use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::page::{Listed, readable};
use crate::rows::{damaged, number, time};
use crate::store::Batch;
use crate::webhooks::due_index::DeliveryLane;
use crate::webhooks::model::{
    AttemptRecord, DeliveriesOf, Delivery, DeliveryCounts, DeliveryEnd, DeliveryKey, DeliveryLease,
    DeliveryListing, DeliveryPage, DeliverySelection, DeliveryState, KeyOwner, PublishedKey,
    Receiver, StoredKey, Subscription, SubscriptionId, SubscriptionListing,
};
use crate::webhooks::rows::{
    attempt, deliveries, delivery, published_key, receiver, receiver_columns, signing_key,
    subscription,
};
use crate::webhooks::sql::{Params, Sql, SqlReader};
use crate::webhooks::subscriptions::keys_statement;
use cloakroom_domain::webhooks::ReceiverKey;
use cloakroom_domain::{Principal, Timestamp};

statements! {
    const FOUND: &str = concat!(
        r"SELECT ",
        receiver_columns!(),
        r"
        FROM receivers
        WHERE id = $1 AND state <> 'deleted'"
    );

    const OF_PRINCIPAL: &str = concat!(
        r"SELECT ",
        receiver_columns!(),
        r"
        FROM receivers
        WHERE principal = $1 AND receiver > $2 AND kind = 'subscription' AND state <> 'deleted'
        ORDER BY receiver
        LIMIT $3"
    );

    const EVERYBODYS: &str = concat!(
        r"SELECT ",
        receiver_columns!(),
        r"
        FROM receivers
        WHERE receiver > $1 AND kind = 'subscription' AND state <> 'deleted'
        ORDER BY receiver
        LIMIT $2"
    );

    const RECEIVER: &str = concat!(
        r"SELECT ",
        receiver_columns!(),
        r"
        FROM receivers
        WHERE receiver = $1"
    );

    const PUBLISHED_KEYS: &str = r"
        SELECT k.key, k.kind, k.secret, k.made_at, k.retires_at,
            coalesce(k.principal, r.principal) AS principal, r.id
        FROM signing_keys k
        LEFT JOIN receivers r ON r.receiver = k.receiver
        WHERE k.kind = 'v1a' AND k.key > $1
        ORDER BY k.key
        LIMIT $2";

    const DELIVERIES: &str = concat!(
        deliveries!(),
        r"
        WHERE v.receiver = $1 AND v.delivery < $2
        ORDER BY v.delivery DESC
        LIMIT $3"
    );

    const OF_CALLBACK: &str = concat!(
        deliveries!(),
        r"
        WHERE o.id = $1 AND v.url IS NOT NULL AND v.delivery < $2
        ORDER BY v.delivery DESC
        LIMIT $3"
    );

    const DELIVERY: &str = concat!(
        deliveries!(),
        r"
        WHERE v.receiver = $1 AND v.delivery = $2"
    );

    /// The last attempt stands with the end of the delivery.
    const LOG: &str = r"
        SELECT number, at, took_us, status, code, next_at
        FROM delivery_attempts
        WHERE delivery = $1
        UNION ALL
        SELECT attempts, at, took_us, status, code, CAST(NULL AS BIGINT)
        FROM deliveries_ended
        WHERE delivery = $2 AND at IS NOT NULL
        ORDER BY number";

    /// Differs on PostgreSQL because it is asked again and again there: each lane is looked at
    /// once, however much lies in it.
    const DUE: Sql = Sql {
        sqlite: r"
            SELECT receiver, again, min(due_at) AS due_at
            FROM deliveries_due
            GROUP BY receiver, again",
        postgres: r"
            WITH RECURSIVE heads (receiver, again, due_at) AS ((SELECT receiver, again, due_at
                    FROM deliveries_due
                    ORDER BY receiver, again, due_at
                    LIMIT 1)
                UNION ALL
                SELECT n.receiver, n.again, n.due_at
                FROM heads h
                CROSS JOIN LATERAL (SELECT receiver, again, due_at
                    FROM deliveries_due
                    WHERE (receiver, again) > (h.receiver, h.again)
                    ORDER BY receiver, again, due_at
                    LIMIT 1) n)
            SELECT receiver, again, due_at
            FROM heads",
    };

    const COUNTED: &str = r"
        SELECT w.there, w.due, h.held
        FROM (SELECT count(*) AS there, count(CASE WHEN d.due_at <= $1 THEN 1 END) AS due
            FROM (SELECT due_at FROM deliveries_due LIMIT $2) AS d) AS w
        CROSS JOIN (SELECT count(*) AS held FROM (SELECT 1 AS one FROM deliveries_held LIMIT
            $3) AS x) AS h";

    const FANS: &str = r"SELECT message FROM fan_outs ORDER BY message LIMIT 1";

    const SENT_HERE: &str = r"SELECT delivery, token FROM deliveries_sending WHERE node = $1";

    const STRAYS: Sql = Sql {
        sqlite: r"
            SELECT DISTINCT node
            FROM deliveries_sending
            WHERE node <> $1",
        postgres: r"
            SELECT DISTINCT s.node
            FROM deliveries_sending s
            LEFT JOIN nodes n ON n.incarnation = s.node
            WHERE s.node <> $1 AND (n.incarnation IS NULL OR n.ended_at IS NOT NULL)",
    };
}

/// Deliveries that one page looks at, so that a filter that fits nothing does not walk them
/// all.
const LOOKED_AT: usize = 500;

pub(super) async fn find<A: SqlReader + ?Sized>(
    asking: &A,
    principal: Option<&Principal>,
    id: SubscriptionId,
) -> Result<Option<Subscription>, LedgerError> {
    let rows = asking.ask(FOUND.into(), Params::none().octets(id.as_bytes().to_vec())).await?;
    let found = rows.first().map(subscription).transpose()?;
    Ok(found.filter(|found| principal.is_none_or(|principal| *principal == found.principal)))
}

pub(super) async fn list<A: SqlReader + ?Sized>(
    asking: &A,
    listing: &SubscriptionListing,
) -> Result<Listed<Subscription, ReceiverKey>, LedgerError> {
    let (after, limit) = (listing.after.map_or(0, |after| after.0), listing.limit as i64);
    let rows = match &listing.principal {
        Some(principal) => {
            let given = Params::none().octets(principal.as_bytes().to_vec()).and(after).and(limit);
            asking.ask(OF_PRINCIPAL.into(), given).await?
        }
        None => asking.ask(EVERYBODYS.into(), Params::number(after).and(limit)).await?,
    };
    let place = |row: &_| Ok(ReceiverKey(number(row, "receiver")?));
    Listed::of(&rows, listing.limit, place, subscription)
}

pub(super) async fn keys<A: SqlReader + ?Sized>(asking: &A, owner: &KeyOwner) -> Batch<StoredKey> {
    let (sql, given) = keys_statement(owner);
    asking.ask(sql.into(), given).await?.iter().map(signing_key).collect()
}

pub(super) async fn published_keys<A: SqlReader + ?Sized>(
    asking: &A,
    after: i64,
    limit: usize,
) -> Result<Listed<PublishedKey, i64>, LedgerError> {
    let rows = asking.ask(PUBLISHED_KEYS.into(), Params::number(after).and(limit as i64)).await?;
    Listed::of(&rows, limit, |row| number(row, "key"), published_key)
}

pub(super) async fn whom<A: SqlReader + ?Sized>(
    asking: &A,
    key: ReceiverKey,
) -> Result<Option<Receiver>, LedgerError> {
    let rows = asking.ask(RECEIVER.into(), Params::number(key.0)).await?;
    let Some(mut found) = rows.first().map(receiver).transpose()? else { return Ok(None) };
    let owner = match found.subscription {
        Some(_) => KeyOwner::Receiver(key),
        None => KeyOwner::Callbacks(found.principal.clone()),
    };
    found.keys = keys(asking, &owner).await?;
    Ok(Some(found))
}

pub(super) async fn deliveries<A: SqlReader + ?Sized>(
    asking: &A,
    listing: &DeliveryListing,
) -> Result<DeliveryPage, LedgerError> {
    let before = listing.before.map_or(i64::MAX, |before| before.0);
    let looked_at = if listing.only.is_some() { LOOKED_AT } else { listing.limit };
    let (sql, given) = match listing.of {
        DeliveriesOf::Receiver(receiver) => (DELIVERIES, Params::number(receiver.0)),
        DeliveriesOf::Callback(id) => (OF_CALLBACK, Params::none().octets(id.as_bytes().to_vec())),
    };
    let rows = asking.ask(sql.into(), given.and(before).and(looked_at as i64)).await?;
    let (mut found, mut last, mut unread) = (Vec::new(), None, Vec::new());
    let mut full = rows.len() == looked_at;
    for row in &rows {
        if found.len() == listing.limit {
            full = true;
            break;
        }
        last = Some(DeliveryKey(number(row, "delivery")?));
        let (delivery, why) =
            readable(std::slice::from_ref(row), |row| delivery(row, asking.sealer()))?;
        unread.extend(why);
        let Some(delivery) = delivery.into_iter().next() else { continue };
        if listing.only.is_none_or(|only| stands(&delivery, only)) {
            found.push(delivery);
        }
    }
    for delivery in &mut found {
        let (log, why) = log(asking, delivery.key).await?;
        delivery.log = log;
        unread.extend(why);
    }
    Ok(DeliveryPage { deliveries: found, next: last.filter(|_| full), unread })
}

fn stands(delivery: &Delivery, select: DeliverySelection) -> bool {
    match delivery.state {
        DeliveryState::Due { .. } | DeliveryState::Sending { .. } => {
            matches!(select, DeliverySelection::Pending | DeliverySelection::All)
        }
        DeliveryState::Held { .. } => {
            matches!(select, DeliverySelection::Held | DeliverySelection::All)
        }
        DeliveryState::Ended { how, .. } => match select {
            DeliverySelection::All => true,
            DeliverySelection::Delivered => how == DeliveryEnd::Delivered,
            DeliverySelection::Failed => matches!(how, DeliveryEnd::Exhausted | DeliveryEnd::Gone),
            DeliverySelection::Pending | DeliverySelection::Held => false,
        },
    }
}

pub(super) async fn one_delivery<A: SqlReader + ?Sized>(
    asking: &A,
    receiver: ReceiverKey,
    key: DeliveryKey,
) -> Result<Option<Delivery>, LedgerError> {
    let rows = asking.ask(DELIVERY.into(), Params::number(receiver.0).and(key.0)).await?;
    let Some(mut found) = rows.first().map(|row| delivery(row, asking.sealer())).transpose()?
    else {
        return Ok(None);
    };
    (found.log, _) = log(asking, key).await?;
    Ok(Some(found))
}

/// The attempts of a delivery that can be read, and why each of the others cannot.
async fn log<A: SqlReader + ?Sized>(
    asking: &A,
    key: DeliveryKey,
) -> Result<(Vec<AttemptRecord>, Vec<String>), LedgerError> {
    let rows = asking.ask(LOG.into(), Params::number(key.0).and(key.0)).await?;
    readable(&rows, attempt)
}

/// When the next of each lane is due.
pub(crate) async fn due<A: SqlReader + ?Sized>(asking: &A) -> Batch<(DeliveryLane, Timestamp)> {
    let head = |row| {
        let receiver = ReceiverKey(number(row, "receiver")?);
        let again = number::<i64>(row, "again")? == 1;
        Ok((DeliveryLane { receiver, again }, time(row, "due_at")?))
    };
    asking.ask(DUE, Params::none()).await?.iter().map(head).collect()
}

/// How many wait, counted up to `most`.
pub(super) async fn count<A: SqlReader + ?Sized>(
    asking: &A,
    most: usize,
    now: Timestamp,
) -> Result<DeliveryCounts, LedgerError> {
    let given = Params::none().at(now).and(most as i64).and(most as i64);
    let rows = asking.ask(COUNTED.into(), given).await?;
    let row = rows.first().ok_or_else(|| damaged("nothing was counted"))?;
    let (there, due): (u64, u64) = (number(row, "there")?, number(row, "due")?);
    Ok(DeliveryCounts { due, later: there - due, held: number(row, "held")? })
}

/// Whether a fan-out is under way.
pub(super) async fn fans<A: SqlReader + ?Sized>(asking: &A) -> Result<bool, LedgerError> {
    Ok(!asking.ask(FANS.into(), Params::none()).await?.is_empty())
}

/// What this node was handed to send, as far as the ledger knows.
pub(super) async fn sent_here<A: SqlReader + ?Sized>(
    asking: &A,
    node: i64,
) -> Batch<DeliveryLease> {
    let lease = |row| {
        let delivery = DeliveryKey(number(row, "delivery")?);
        Ok(DeliveryLease { delivery, token: number(row, "token")? })
    };
    asking.ask(SENT_HERE.into(), Params::number(node)).await?.iter().map(lease).collect()
}

/// Nodes that are plainly gone and were sending something.
pub(super) async fn strays<A: SqlReader + ?Sized>(asking: &A, node: i64) -> Batch<i64> {
    let rows = asking.ask(STRAYS, Params::number(node)).await?;
    rows.iter().map(|row| number(row, "node")).collect()
}
