//! The lookup of the rows of operations that have not ended.
//!
//! Owns how it is put to the server, which takes a table for empty that was when it last
//! looked, however many rows have come and gone since. A join with one of these would then walk
//! all that the table has ever held, for each batch anew, where an old snapshot keeps that from
//! being cleaned away. So each row is looked up by its key, by a part of the statement that
//! cannot be taken for anything else: `LIMIT 1` keeps it from being made a join.

/// What `operations` leaves to each engine.
macro_rules! places {
    () => {
        concat!(
            " LEFT JOIN LATERAL (SELECT seq, since, ",
            carried!(""),
            r"
            FROM running
            WHERE seq = o.seq
            LIMIT 1) AS u ON true LEFT JOIN LATERAL (SELECT seq, due_at, ",
            carried!(""),
            r"
            FROM ready
            WHERE seq = o.seq
            LIMIT 1) AS r ON true LEFT JOIN LATERAL (SELECT seq, due_at, waiting_for,
                delayed_until, ",
            carried!(""),
            " FROM waiting WHERE seq = o.seq LIMIT 1) AS w ON true"
        )
    };
}

/// The numbers of those of the leases `$1` and `$2` that are the latest, locked in their order.
macro_rules! latest {
    ($table:literal) => {
        concat!(
            r"
            SELECT held.seq
            FROM UNNEST($1::bigint[], $2::bigint[]) AS lease (seq, token)
            CROSS JOIN LATERAL (SELECT seq FROM ",
            $table,
            " WHERE seq = lease.seq AND token = lease.token LIMIT 1 FOR UPDATE) AS held"
        )
    };
}

pub(crate) use {latest, places};
