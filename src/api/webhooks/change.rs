//! `PATCH /webhooks/{id}`: changes the members that the body names (RFC 7396).
//!
//! With `If-Match` it is changed only if no other request has changed it since (412), whatever became of
//! its deliveries; without it, the change is made to what there is. Where a subscription asks for verification, a new URL is
//! asked before it takes the place of the former one.

use axum::response::Response;
use http::header::IF_MATCH;
use http::{HeaderMap, StatusCode};

use super::context::{NO_SUBSCRIPTION, SubscriptionPath, id as id_parameter};
use super::document::SubscriptionDocument;
use super::settings_patch::{self, SettingsPatch, UNJUDGED};
use super::subscription_view::{self, etag};
use crate::api::Problem;
use crate::api::json_object::{JsonObject, NO_JSON, TOO_LARGE};
use crate::api::openapi::{Description, Reply, Tag, header};
use cloakroom_domain::webhooks::cloud_event::Permission;
use cloakroom_ledger::{Change, Changed, Changing, Subscription, SubscriptionState};
use serde_json::json;

/// How often a change is repeated after another request has changed the subscription meanwhile.
const TRIES: usize = 5;

pub(super) async fn change(
    path: SubscriptionPath,
    headers: HeaderMap,
    members: JsonObject,
) -> Result<Response, Problem> {
    members.only(&settings_patch::KNOWN)?;
    let SubscriptionPath { context, mut subscription } = path;
    let expected = wanted(&headers)?;
    let mut agreed: Option<(String, Permission)> = None;
    for _ in 0..TRIES {
        if !expected.is_empty() && !expected.contains(&etag(&subscription)) {
            return Err(Problem::not_as_expected());
        }
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
            Some((_, allows)) if has_to_agree => Change::Moved(settings, *allows),
            _ => Change::Settings(settings),
        };
        let changing = Changing {
            id,
            principal: context.only().cloned(),
            unless_since: Some(subscription.edited),
            change,
            at: context.now(),
        };
        match context.ledger().change_subscription(changing).await? {
            Changed::Done(now) => {
                let document = subscription_view::whole(&context, &now).await?;
                return Ok(subscription_view::answer(StatusCode::OK, &now, &document));
            }
            Changed::Unknown => return Err(Problem::no_such_subscription()),
            Changed::Meanwhile => {
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

/// The tags in `If-Match`; none where there is none, or where any will do.
fn wanted(headers: &HeaderMap) -> Result<Vec<String>, Problem> {
    let mut wanted = Vec::new();
    for line in headers.get_all(IF_MATCH) {
        let text = line.to_str().unwrap_or_default();
        if text.trim() == "*" {
            return Ok(Vec::new());
        }
        for tag in text.split(',').map(str::trim) {
            if !is_tag(tag) {
                return Err(Problem::malformed_field("If-Match", "If-Match is an ETag in quotes"));
            }
            wanted.push(tag.to_owned());
        }
    }
    Ok(wanted)
}

/// Whether a text is a tag as this gateway makes them, or a weak one, which none of them is.
fn is_tag(text: &str) -> bool {
    let quoted = text.strip_prefix("W/").unwrap_or(text);
    let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.is_some_and(|inner| inner.bytes().all(|octet| octet.is_ascii_graphic() && octet != b'"'))
}

pub(super) fn description() -> Description {
    let says = "The ETag of what is to be changed. It changes with settings, keys and status, and \
                not with how deliveries fare.";
    let tags = json!({ "type": "string", "pattern": TAGS });
    let reply = Reply::json::<SubscriptionDocument>("As it is now.");
    Description::new(Tag::Webhooks, "updateSubscription", "Set the members that the body names")
        .at([id_parameter()])
        .asks([header("If-Match", says, tags)])
        .takes(true, "SubscriptionChange", settings_patch::schema())
        .replies(200, reply.with(&["ETag"]))
        .refuses(&[
            NO_SUBSCRIPTION,
            (409, "Others kept changing it."),
            (412, "It is not what If-Match names."),
            TOO_LARGE,
            NO_JSON,
            UNJUDGED,
        ])
}

/// `If-Match` (RFC 9110 section 13.1.1), as a pattern.
const TAGS: &str = r#"^(\*|(W/)?"[!#-~]*"([ \t]*,[ \t]*(W/)?"[!#-~]*")*)$"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_tags_is_read_and_nothing_else() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(IF_MATCH, text.parse().unwrap());
            wanted(&headers).map_err(|problem| problem.status().as_u16())
        };
        assert_eq!(read("\"7\""), Ok(vec!["\"7\"".to_owned()]));
        assert_eq!(read("W/\"7\" , \"8\"").map(|tags| tags.len()), Ok(2));
        assert_eq!((read("*"), read(" * ")), (Ok(vec![]), Ok(vec![])));
        for text in ["", "7", "\"7", "\"7\"\"8\"", "\"7\", *", ","] {
            assert_eq!(read(text), Err(400), "{text}");
        }
    }
}
