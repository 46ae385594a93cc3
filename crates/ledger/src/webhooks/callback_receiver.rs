//! The receiver of a new operation's callbacks.
//!
//! Owns that the receiver of callbacks is made in the transaction that accepts the first
//! operation with one: whatever is refused leaves none. Its invariant: what is remembered of
//! receivers is brought up to date before the first is made, and not again before all of it is
//! durable.

use std::borrow::Cow;

use crate::error::LedgerError;
use crate::model::Acceptance;
use crate::rows::number;
use crate::webhooks::publish::refresh;
use crate::webhooks::sql::{Params, SqlReader, SqlTransaction};
use crate::webhooks::subscriptions::{CALLBACKS, USED, callback_receiver};
use cloakroom_domain::webhooks::{Callback, ReceiverKey};
use cloakroom_domain::{Principal, Timestamp};

/// The receiver of a principal's callbacks to an origin that were asked for lately.
pub(super) async fn find<A: SqlReader + ?Sized>(
    asks: &A,
    principal: &Principal,
    origin: &str,
    now: Timestamp,
) -> Result<Option<ReceiverKey>, LedgerError> {
    let given = Params::none().octets(principal.as_bytes().to_vec()).text(origin.to_owned());
    let rows = asks.ask(CALLBACKS.into(), given.at(now - USED)).await?;
    rows.first().map(|row| number(row, "receiver").map(ReceiverKey)).transpose()
}

/// Where the callbacks of an operation go that is about to be written down.
pub(crate) async fn callback_of<'a, W: SqlTransaction + ?Sized>(
    writing: &mut W,
    acceptance: &'a Acceptance,
) -> Result<Option<Cow<'a, Callback>>, LedgerError> {
    let Some(first) = &acceptance.first else {
        return Ok(acceptance.operation.callback.as_ref().map(Cow::Borrowed));
    };
    if !writing.makes_callbacks() {
        refresh(writing).await?;
        writing.make_callbacks();
    }
    let receiver = callback_receiver(writing, &first.callbacks).await?;
    let (url, topics) = (first.url.clone(), first.topics);
    Ok(Some(Cow::Owned(Callback { receiver, url, topics })))
}
