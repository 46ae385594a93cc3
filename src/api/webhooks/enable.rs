//! `POST /webhooks/{id}/enable` and `…/disable`: starts and stops deliveries of a subscription.
//!
//! What came while it was not is held until it is replayed. Enabling one whose receiver has
//! not agreed asks it again.

use axum::response::Response;
use http::StatusCode;

use super::context::{NO_SUBSCRIPTION, SubscriptionPath, WebhookContext, id};
use super::document::SubscriptionDocument;
use super::subscription_view::{self, may_be_changed};
use crate::api::Problem;
use crate::api::json_object::{JsonObject, NO_JSON, TOO_LARGE};
use crate::api::openapi::{Description, ResponseDoc, Tag};
use cloakroom_ledger::{
    DisabledFor, Subscription, SubscriptionChange, SubscriptionState, SubscriptionUpdate,
    UpdateOutcome,
};

pub(super) async fn enable(
    path: SubscriptionPath,
    members: JsonObject,
) -> Result<Response, Problem> {
    members.only(&[])?;
    let SubscriptionPath { context, subscription } = path;
    may_be_changed(&context, &subscription)?;
    match subscription.state {
        SubscriptionState::Active => shown(&context, &subscription).await,
        SubscriptionState::Unverified => {
            let fields = subscription_view::headers(&context, &subscription)?;
            let agreed =
                subscription_view::agreed(&context, &subscription.settings.url, fields).await;
            let allows = agreed.map_err(|why| Problem::not_agreed(&why))?;
            changed(context, subscription, SubscriptionChange::Agreed(allows)).await
        }
        SubscriptionState::Disabled { .. } => {
            changed(context, subscription, SubscriptionChange::Enable).await
        }
    }
}

pub(super) async fn disable(
    path: SubscriptionPath,
    members: JsonObject,
) -> Result<Response, Problem> {
    members.only(&[])?;
    let SubscriptionPath { context, subscription } = path;
    match subscription.state {
        SubscriptionState::Active => {
            may_be_changed(&context, &subscription)?;
            changed(context, subscription, SubscriptionChange::Disable(DisabledFor::Asked)).await
        }
        SubscriptionState::Disabled { .. } => {
            may_be_changed(&context, &subscription)?;
            shown(&context, &subscription).await
        }
        // It would be enabled later without its receiver having agreed.
        SubscriptionState::Unverified => Err(Problem::not_active("unverified")),
    }
}

async fn changed(
    context: WebhookContext,
    subscription: Subscription,
    change: SubscriptionChange,
) -> Result<Response, Problem> {
    let changing = SubscriptionUpdate {
        id: subscription.id,
        principal: context.only().cloned(),
        // What was looked at decided.
        unless_since: Some(subscription.edited),
        change,
        at: context.now(),
    };
    match context.ledger().change_subscription(changing).await? {
        UpdateOutcome::Done(now) => shown(&context, &now).await,
        UpdateOutcome::Meanwhile => Err(Problem::changed_meanwhile()),
        UpdateOutcome::Unknown => Err(Problem::no_such_subscription()),
    }
}

async fn shown(context: &WebhookContext, subscription: &Subscription) -> Result<Response, Problem> {
    let document = subscription_view::whole(context, subscription).await?;
    Ok(subscription_view::answer(StatusCode::OK, subscription, &document))
}

pub(super) fn description() -> Description {
    let conflict =
        "The receiver has not agreed, or another request has just changed the subscription.";
    described("enableSubscription", "Let deliveries go on", "Active.", conflict)
}

pub(super) fn disable_description() -> Description {
    let conflict =
        "The receiver has not agreed yet, or another request has just changed the subscription.";
    let says = "Disabled; what comes meanwhile is held.";
    described("disableSubscription", "Send nothing more to it", says, conflict)
}

fn described(name: &str, summary: &str, says: &str, conflict: &'static str) -> Description {
    Description::new(Tag::Webhooks, name, summary)
        .at([id()])
        .replies(200, ResponseDoc::json::<SubscriptionDocument>(says).with(&["ETag"]))
        .conditional()
        .refuses(&[NO_SUBSCRIPTION, (409, conflict), TOO_LARGE, NO_JSON])
}
