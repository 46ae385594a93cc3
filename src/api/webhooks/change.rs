//! `PATCH /webhooks/{id}`: changes the members that the body names (RFC 7396).
//!
//! With `If-Match` it is changed only if no other request has changed it since (412), whatever became of
//! its deliveries; without it, the change is made to what there is. Where a subscription asks for verification, a new URL is
//! asked before it takes the place of the former one.

use axum::response::Response;
use http::StatusCode;

use super::context::{NO_SUBSCRIPTION, SubscriptionPath, id as id_parameter};
use super::document::SubscriptionDocument;
use super::settings_patch::{self, SettingsPatch, UNJUDGED};
use super::subscription_view::{self, may_be_changed};
use crate::api::Problem;
use crate::api::json_object::{JsonObject, NO_JSON, TOO_LARGE};
use crate::api::openapi::{Description, ResponseDoc, Tag};
use cloakroom_domain::webhooks::cloud_event::Permission;
use cloakroom_ledger::{
    Subscription, SubscriptionChange, SubscriptionState, SubscriptionUpdate, UpdateOutcome,
};

/// How often a change is repeated after another request has changed the subscription meanwhile.
const TRIES: usize = 5;

pub(super) async fn change(
    path: SubscriptionPath,
    members: JsonObject,
) -> Result<Response, Problem> {
    members.only(&settings_patch::KNOWN)?;
    let SubscriptionPath { context, mut subscription } = path;
    let mut agreed: Option<(String, Permission)> = None;
    for _ in 0..TRIES {
        may_be_changed(&context, &subscription)?;
        let id = subscription.id;
        let mut draft = subscription_view::draft(&context, &subscription)?;
        draft.merge(&mut members.clone(), &context, &subscription.principal).await?;
        let has_to_agree = has_to_agree(&subscription, &draft);
        if has_to_agree && agreed.as_ref().is_none_or(|(url, _)| *url != draft.url) {
            let asked =
                subscription_view::agreed(&context, &draft.url, draft.headers.clone()).await;
            let allows = asked.map_err(|why| Problem::not_agreed(&why).with("field", "url"))?;
            agreed = Some((draft.url.clone(), allows));
        }
        let settings = Box::new(subscription_view::settings(&context, id, draft)?);
        let change = match &agreed {
            Some((_, allows)) if has_to_agree => SubscriptionChange::Moved(settings, *allows),
            _ => SubscriptionChange::Settings(settings),
        };
        let changing = SubscriptionUpdate {
            id,
            principal: context.only().cloned(),
            unless_since: Some(subscription.edited),
            change,
            at: context.now(),
        };
        match context.ledger().change_subscription(changing).await? {
            UpdateOutcome::Done(now) => {
                let document = subscription_view::whole(&context, &now).await?;
                return Ok(subscription_view::answer(StatusCode::OK, &now, &document));
            }
            UpdateOutcome::Unknown => return Err(Problem::no_such_subscription()),
            UpdateOutcome::Meanwhile => {
                let found = context.ledger().subscription(context.only(), id).await?;
                subscription = found.ok_or_else(Problem::no_such_subscription)?;
            }
        }
    }
    Err(Problem::changed_meanwhile())
}

/// Whether messages are to go to a new receiver, which has to agree first. One that has not agreed
/// yet is asked when it is enabled.
fn has_to_agree(subscription: &Subscription, draft: &SettingsPatch) -> bool {
    let verified = subscription.state != SubscriptionState::Unverified;
    subscription.asks && verified && draft.url != subscription.settings.url
}

pub(super) fn description() -> Description {
    let reply = ResponseDoc::json::<SubscriptionDocument>("As it is now.");
    Description::new(Tag::Webhooks, "updateSubscription", "Set the members that the body names")
        .at([id_parameter()])
        .conditional()
        .takes(true, "SubscriptionChange", settings_patch::schema())
        .replies(200, reply.with(&["ETag"]))
        .refuses(&[
            NO_SUBSCRIPTION,
            (409, "Others kept changing it."),
            TOO_LARGE,
            NO_JSON,
            UNJUDGED,
        ])
}
