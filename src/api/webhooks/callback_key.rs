//! `GET` and `POST /webhooks/callback-key`: the keys that sign a principal's callbacks.
//!
//! The first callback, or the first request here, makes a key of each kind. Both sign, and the
//! receiver verifies with the kind that it knows. So both are replaced, unless the request names
//! one kind.

use axum::extract::RawQuery;
use axum::response::Response;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};

use super::context::{NOT_OFFERED, PrincipalError, WebhookContext};
use super::create::principal_schema;
use super::document::{CallbackKeys, RotationDocument};
use super::list::principal_parameter;
use super::rotate::{self, FormerKeys, add};
use super::signing::{self, KeyRequest, kind_of};
use crate::api::json_object::{JsonObject, NO_JSON, TOO_LARGE};
use crate::api::openapi::{Description, ResponseDoc, Tag};
use crate::api::{Problem, response};
use cloakroom_domain::webhooks::secret_storage::SecretOwner;
use cloakroom_ledger::{KeyKind, KeyOwner};

pub(super) async fn show(
    context: WebhookContext,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut named = None;
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        if name != "principal" {
            let detail = "known is, for operators, principal";
            return Err(Problem::malformed_parameter(&name, detail));
        }
        named = Some(value.into_owned());
    }
    let principal = context.owner(named.as_deref()).map_err(PrincipalError::in_query)?;
    let keys = context.ledger().signing_keys(&KeyOwner::Callbacks(principal.clone())).await?;
    let keys = signing::live(keys, context.now());
    let keys = signing::shown(context.settings(), SecretOwner::Callbacks(&principal), &keys)?;
    Ok(response::json(StatusCode::OK, response::JSON_TYPE, &CallbackKeys { keys }))
}

pub(super) async fn rotate(
    context: WebhookContext,
    headers: HeaderMap,
    mut members: JsonObject,
) -> Result<Response, Problem> {
    // The path is the same for everybody, so a page of another site could send a form here.
    if !headers.contains_key(CONTENT_TYPE) {
        return Err(Problem::not_json());
    }
    members.only(&[&rotate::KNOWN[..], &["principal"]].concat())?;
    let named = members.text("principal")?.present();
    let principal = context.owner(named.as_deref()).map_err(PrincipalError::in_body)?;
    let wish = KeyRequest::read(&mut members)?;
    let grace = rotate::grace(&mut members)?;
    let (owner, whose) =
        (KeyOwner::Callbacks(principal.clone()), SecretOwner::Callbacks(&principal));
    let is_first = context.ledger().signing_keys(&owner).await?.is_empty();
    let mut keys = wish.keys(&KeyKind::BOTH)?;
    if is_first {
        let lacks = |kind: &KeyKind| keys.iter().all(|key| kind_of(key) != *kind);
        let other = KeyKind::BOTH.into_iter().find(lacks);
        keys.extend(other.map(signing::made).transpose()?);
    }
    let status = if is_first { StatusCode::CREATED } else { StatusCode::OK };
    let former = FormerKeys { grace, beside: true };
    let document = add(&context, owner, whose, &keys, former).await?;
    Ok(response::json(status, response::JSON_TYPE, &document))
}

pub(super) fn description() -> Description {
    let summary = "What one's callbacks are signed with";
    Description::new(Tag::Webhooks, "getCallbackKey", summary)
        .asks([principal_parameter()])
        .replies(200, ResponseDoc::json::<CallbackKeys>("What there is."))
        .refuses(&[NOT_OFFERED])
}

pub(super) fn rotate_description() -> Description {
    let mut body = rotate::schema();
    body["properties"]["principal"] = principal_schema();
    Description::new(Tag::Webhooks, "rotateCallbackKey", "Make new keys for callbacks")
        .takes(true, "CallbackRotation", body)
        .replies(200, ResponseDoc::json::<RotationDocument>("The new keys, this once."))
        .replies(201, ResponseDoc::json::<RotationDocument>("The first, this once."))
        .refuses(&[NOT_OFFERED, (409, "More keys would sign than may."), TOO_LARGE, NO_JSON])
}
