//! The databases: connections and transactions of both backends, which know no verb.

pub(crate) mod postgres;
pub(crate) mod schema;
pub(crate) mod sqlite;
pub(crate) mod statements;

use cloakroom_domain::TicketKey;
use cloakroom_domain::ticket::LedgerNumber;

/// What a ledger is told apart by, made when it was created.
pub(crate) struct Identity {
    pub(crate) number: LedgerNumber,
    pub(crate) ticket_key: TicketKey,
}
