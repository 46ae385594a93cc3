//! `POST /webhooks/{id}/rotate`: a new key, which signs at once; the former ones sign beside
//! it for a while.

use std::time::Duration;

use axum::response::Response;
use http::StatusCode;

use super::asking::{Asking, Chosen};
use super::document::RotationDocument;
use super::members::Members;
use super::signing::{self, MOST, Wish};
use crate::api::{Problem, own};
use crate::domain::delivery::SigningKey;
use crate::domain::delivery::keeping::Whose;
use crate::ledger::{KeyKind, KeyOwner, Rotated, Rotation};

/// How long former keys sign on unless told, in seconds; and how long they may at most.
const USUAL_GRACE: u64 = 24 * 3600;
const LONGEST_GRACE: u64 = 30 * 24 * 3600;

pub(super) const KNOWN: [&str; 3] = ["grace", "signature", "secret"];

pub(super) async fn rotate(chosen: Chosen, mut members: Members) -> Result<Response, Problem> {
    members.only(&KNOWN)?;
    let Chosen { asking, subscription } = chosen;
    let wish = Wish::read(&mut members)?;
    let grace = grace(&mut members)?;
    let owner = KeyOwner::Receiver(subscription.receiver);
    let there = asking.ledger().signing_keys(&owner).await?;
    // The newest comes first.
    let usual = there.first().map_or(KeyKind::V1, |key| key.kind);
    let key = wish.key(usual)?;
    add(&asking, owner.clone(), Whose::Subscription(&subscription.id), &key, grace).await?;
    let document = document(&asking, &owner, Whose::Subscription(&subscription.id), &key).await?;
    Ok(own::json(StatusCode::OK, own::JSON_TYPE, &document))
}

/// Reads `grace`, in seconds.
pub(super) fn grace(members: &mut Members) -> Result<Duration, Problem> {
    let seconds = members.whole("grace", 0..=LONGEST_GRACE)?;
    Ok(Duration::from_secs(seconds.unwrap_or(USUAL_GRACE)))
}

/// Adds a key.
pub(super) async fn add(
    asking: &Asking,
    owner: KeyOwner,
    whose: Whose<'_>,
    key: &SigningKey,
    grace: Duration,
) -> Result<(), Problem> {
    let key = signing::sealed(asking.settings(), whose, key)?;
    let rotation = Rotation { owner, key, grace, most: MOST, at: asking.now() };
    match asking.ledger().rotate_key(rotation).await? {
        Rotated::Done => Ok(()),
        Rotated::TooMany => Err(Problem::too_many_keys(MOST)),
    }
}

/// The new key, this once, and all that sign now.
pub(super) async fn document(
    asking: &Asking,
    owner: &KeyOwner,
    whose: Whose<'_>,
    key: &SigningKey,
) -> Result<RotationDocument, Problem> {
    let keys = asking.ledger().signing_keys(owner).await?;
    let keys = signing::live(keys, asking.now());
    let keys = signing::shown(asking.settings(), whose, &keys)?;
    Ok(RotationDocument { secret: signing::secret(key), keys })
}
