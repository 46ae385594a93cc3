//! `POST /webhooks/{id}/enable` and `…/disable`: whether a subscription is told.
//!
//! What came while it was not is held until it is replayed. Enabling one whose receiver has
//! not agreed asks it again.

use axum::response::Response;
use http::StatusCode;

use super::asking::{Asking, Chosen};
use super::standing;
use crate::api::Problem;
use crate::api::members::Members;
use cloakroom_ledger::{Change, Changed, Changing, DisabledFor, Subscription, SubscriptionState};

pub(super) async fn enable(chosen: Chosen, members: Members) -> Result<Response, Problem> {
    members.only(&[])?;
    let Chosen { asking, subscription } = chosen;
    match subscription.state {
        SubscriptionState::Active => shown(&asking, &subscription).await,
        SubscriptionState::Unverified => {
            let fields = standing::headers(&asking, &subscription)?;
            let agreed = standing::agreed(&asking, &subscription.settings.url, fields).await;
            let allows = agreed.map_err(|why| Problem::not_agreed(&why))?;
            changed(asking, subscription, Change::Agreed(allows)).await
        }
        SubscriptionState::Disabled { .. } => changed(asking, subscription, Change::Enable).await,
    }
}

pub(super) async fn disable(chosen: Chosen, members: Members) -> Result<Response, Problem> {
    members.only(&[])?;
    let Chosen { asking, subscription } = chosen;
    match subscription.state {
        SubscriptionState::Active => {
            changed(asking, subscription, Change::Disable(DisabledFor::Asked)).await
        }
        SubscriptionState::Disabled { .. } => shown(&asking, &subscription).await,
        // It would be enabled later without its receiver having agreed.
        SubscriptionState::Unverified => Err(Problem::not_active("unverified")),
    }
}

async fn changed(
    asking: Asking,
    subscription: Subscription,
    change: Change,
) -> Result<Response, Problem> {
    let changing = Changing {
        id: subscription.id,
        principal: asking.only().cloned(),
        // What was looked at decided.
        unless_since: Some(subscription.edited),
        change,
        at: asking.now(),
    };
    match asking.ledger().change_subscription(changing).await? {
        Changed::Done(now) => shown(&asking, &now).await,
        Changed::Meanwhile => Err(Problem::changed_meanwhile()),
        Changed::Unknown => Err(Problem::no_such_subscription()),
    }
}

async fn shown(asking: &Asking, subscription: &Subscription) -> Result<Response, Problem> {
    let document = standing::whole(asking, subscription).await?;
    Ok(standing::answer(StatusCode::OK, subscription, &document))
}
