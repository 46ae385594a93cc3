//! `POST /webhooks`: a new subscription, and its secret, shown this once.

use axum::response::Response;
use http::StatusCode;
use http::header::LOCATION;

use super::asking::{Asking, Wanting};
use super::document::NewSubscriptionDocument;
use super::draft::{self, Draft};
use super::signing::{self, Wish};
use super::standing;
use crate::api::members::Members;
use crate::api::{Problem, own};
use cloakroom_domain::delivery::keeping::Whose;
use cloakroom_ledger::{
    Change, Changed, Changing, KeyKind, NewSubscription, Subscribed, Subscription, SubscriptionId,
};

const KNOWN: [&str; 4] = ["signature", "secret", "verification", "principal"];

pub(super) async fn create(asking: Asking, mut members: Members) -> Result<Response, Problem> {
    members.only(&[&draft::KNOWN[..], &KNOWN].concat())?;
    let named = members.text("principal")?.this();
    let principal = asking.owner(named.as_deref()).map_err(Wanting::in_body)?;
    let public_base = asking.public_base()?;
    let wish = Wish::read(&mut members)?;
    let asks = verification(&mut members)?;
    let mut draft = Draft::default();
    draft.merge(&mut members, &asking, &principal).await?;
    let id = SubscriptionId::of_random(rand::random());
    let key = wish.key(KeyKind::V1)?;
    let settings = standing::settings(&asking, id, draft)?;
    let most = asking.settings().most;
    let new = NewSubscription {
        id,
        principal,
        settings,
        asks,
        key: signing::sealed(asking.settings(), Whose::Subscription(&id), &key)?,
        most,
        public_base,
        at: asking.now(),
    };
    let mut made = match asking.ledger().subscribe(new).await? {
        Subscribed::New(made) => *made,
        Subscribed::TooMany => return Err(Problem::too_many_subscriptions(most)),
    };
    if asks {
        made = verified(&asking, made).await?;
    }
    let subscription = standing::whole(&asking, &made).await?;
    let document = NewSubscriptionDocument { subscription, secret: signing::secret(&[key]) };
    let mut response = standing::answer(StatusCode::CREATED, &made, &document);
    own::set(response.headers_mut(), LOCATION, asking.url(id));
    Ok(response)
}

fn verification(members: &mut Members) -> Result<bool, Problem> {
    match members.text("verification")?.this().as_deref() {
        None | Some("none") => Ok(false),
        Some("cloudevents") => Ok(true),
        Some(_) => {
            let detail = "verification is none, or cloudevents: its receiver is asked with OPTIONS";
            Err(Problem::malformed_body(Some("verification"), detail))
        }
    }
}

/// The subscription, active if its receiver agrees right away.
async fn verified(asking: &Asking, made: Subscription) -> Result<Subscription, Problem> {
    let fields = standing::headers(asking, &made)?;
    let Ok(allows) = standing::agreed(asking, &made.settings.url, fields).await else {
        return Ok(made);
    };
    let changing = Changing {
        id: made.id,
        principal: None,
        unless_since: Some(made.edited),
        change: Change::Agreed(allows),
        at: asking.now(),
    };
    match asking.ledger().change_subscription(changing).await? {
        Changed::Done(active) => Ok(*active),
        // Somebody was quicker, and knows.
        Changed::Meanwhile | Changed::Unknown => Ok(made),
    }
}
