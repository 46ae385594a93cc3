//! `/webhooks`: subscriptions, their deliveries and their keys.
//!
//! Owns the resources, one in a file, and how a subscription and a delivery look from
//! outside. Its invariants: another principal's are as good as none; a secret is shown once,
//! in the answer to the request that made it; a URL is judged before it is kept. It must not
//! know how messages are worded or sent: what it needs of that is lent to it ([`ReceiverProbe`]).

mod callback_key;
mod callbacks;
mod change;
mod context;
mod create;
mod delete;
mod deliveries;
pub(super) mod document;
mod enable;
mod keys;
mod list;
mod ping;
mod redeliver;
mod replay;
mod rotate;
mod settings_patch;
mod show;
mod signing;
mod subscription_view;
mod url_rejection;

use std::sync::Arc;

use async_trait::async_trait;
use http::HeaderMap;

use super::endpoint::{self, Endpoint, get, patch, post};
use cloakroom_domain::Principal;
use cloakroom_domain::sealing::Keyring;
use cloakroom_domain::webhooks::cloud_event::Permission;
use cloakroom_domain::webhooks::{Destination, DestinationRules};

pub use signing::callback_keys;
pub use url_rejection::{UrlCheckError, UrlRejection};

/// Looks at a receiver before anything is kept or sent.
#[async_trait]
pub trait ReceiverProbe: Send + Sync + 'static {
    /// Judges where a URL leads that a principal names, with what its name stands for now; the
    /// error says what is wrong with it. A name that cannot be looked up now is no fault of the
    /// URL's.
    async fn judge(&self, url: &str, whose: &Principal) -> Result<Destination, UrlCheckError>;

    /// Asks a receiver whether it wants deliveries, with a subscriber's fields, and what it
    /// allows; the error says why it seems not to.
    async fn ask(&self, url: &str, fields: HeaderMap) -> Result<Permission, UrlRejection>;
}

/// The settings and functions of the webhook resources.
#[derive(Clone)]
pub struct WebhookSettings {
    /// Where deliveries may go, as far as a URL tells.
    pub rules: DestinationRules,
    /// Looks at receivers.
    pub probe: Arc<dyn ReceiverProbe>,
    /// The keys that seal secrets.
    pub keyring: Keyring,
    /// How many subscriptions a principal may have.
    pub most: u32,
}

impl std::fmt::Debug for WebhookSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookSettings").field("most", &self.most).finish_non_exhaustive()
    }
}

/// The endpoints of webhooks.
pub(super) fn rows() -> Vec<Endpoint> {
    let redeliver = "/webhooks/{id}/deliveries/{number}/redeliver";
    vec![
        get("/operations/{ticket}/deliveries", callbacks::list, callbacks::description()),
        get("/webhooks", list::list, list::description()),
        post("/webhooks", create::create, create::description()),
        get("/webhooks/keys", keys::keys, keys::description()),
        get("/webhooks/callback-key", callback_key::show, callback_key::description()),
        post("/webhooks/callback-key", callback_key::rotate, callback_key::rotate_description()),
        get("/webhooks/{id}", show::show, show::description()),
        patch("/webhooks/{id}", change::change, change::description()),
        endpoint::delete("/webhooks/{id}", delete::delete, delete::description()),
        post("/webhooks/{id}/enable", enable::enable, enable::description()),
        post("/webhooks/{id}/disable", enable::disable, enable::disable_description()),
        post("/webhooks/{id}/rotate", rotate::rotate, rotate::description()),
        post("/webhooks/{id}/ping", ping::ping, ping::description()),
        post("/webhooks/{id}/replay", replay::replay, replay::description()),
        get("/webhooks/{id}/deliveries", deliveries::list, deliveries::description()),
        get("/webhooks/{id}/deliveries/{number}", deliveries::show, deliveries::show_description()),
        post(redeliver, redeliver::redeliver, redeliver::description()),
    ]
}
