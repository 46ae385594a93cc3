//! Extractors for webhooks: the caller, and the subscription that the path names.
//!
//! Owns the access rule: a client sees its own subscriptions, where clients have principals or
//! share one on purpose; an operator sees all subscriptions and names the principal where that
//! matters. A subscription that the caller may not see is answered like one that does not exist.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::WebhookSettings;
use crate::api::extract::{ApiState, RequestContext, Side, path_parameter};
use crate::api::openapi::{Refusal, in_path};
use crate::api::{Caller, Problem, origin};
use crate::config::PrincipalRule;
use cloakroom_domain::http::preconditions::Preconditions;
use cloakroom_domain::{Principal, Timestamp};
use cloakroom_ledger::{Ledger, Subscription};
use serde_json::Value;

/// Marks octets of a principal that are no text.
const HEX: &str = "hex:";

/// A request about webhooks.
pub(super) struct WebhookContext {
    pub(super) request: RequestContext,
    side: Side,
    /// Where the resources are, as this one reached them.
    base: String,
}

impl FromRequestParts<ApiState> for WebhookContext {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        let request = RequestContext::from_request_parts(parts, state).await?;
        let settings = &state.api.settings;
        let shared = settings.shared || settings.principal != PrincipalRule::None;
        if state.side == Side::Public && !shared {
            return Err(Problem::not_offered_here());
        }
        let base = match state.side {
            Side::Public => request.base.clone(),
            Side::Operators => origin::of_host(&parts.headers)?,
        };
        let base = format!("{base}{}/webhooks", settings.prefix);
        Ok(Self { request, side: state.side, base })
    }
}

impl WebhookContext {
    pub(super) fn ledger(&self) -> &Ledger {
        &self.request.api.ledger
    }

    /// What the request says about the state of the resource.
    pub(super) fn preconditions(&self) -> &Preconditions {
        &self.request.preconditions
    }

    pub(super) fn now(&self) -> Timestamp {
        self.request.api.clock.now()
    }

    pub(super) fn settings(&self) -> &WebhookSettings {
        &self.request.api.webhooks
    }

    /// The URL of a resource beneath `/webhooks`.
    pub(super) fn url(&self, resource: impl std::fmt::Display) -> String {
        format!("{}/{resource}", self.base)
    }

    /// The URL of the list, with a query.
    pub(super) fn list(&self, query: &str) -> String {
        format!("{}?{query}", self.base)
    }

    /// Whether an operator asks.
    pub(super) fn is_operator(&self) -> bool {
        self.request.caller == Caller::Operator
    }

    /// Only this principal's; everybody's where there is none.
    pub(super) fn only(&self) -> Option<&Principal> {
        match &self.request.caller {
            Caller::Client(principal) => Some(principal),
            Caller::Operator => None,
        }
    }

    /// The principal of a new subscription or key; operators name it where there are several.
    pub(super) fn owner(&self, named: Option<&str>) -> Result<Principal, PrincipalError> {
        let rule = &self.request.api.settings.principal;
        match (&self.request.caller, named, rule) {
            (Caller::Client(principal), None, _) => Ok(principal.clone()),
            (Caller::Client(_), Some(_), _) => {
                Err(PrincipalError("only operators say whose it is"))
            }
            (Caller::Operator, None, PrincipalRule::None) => Ok(Principal::everyone()),
            (Caller::Operator, Some(_), PrincipalRule::None) => Err(PrincipalError(
                "nothing tells callers apart here (auth.principal): leave it out",
            )),
            (Caller::Operator, None, _) => {
                Err(PrincipalError("say whose it is: the principal, as subscriptions here show it"))
            }
            (Caller::Operator, Some(named), _) => {
                read(named).ok_or(PrincipalError("what follows hex: is not hexadecimal"))
            }
        }
    }

    /// A principal as operators are shown it; none for anybody else.
    pub(super) fn shown(&self, principal: &Principal) -> Option<String> {
        (self.side == Side::Operators).then(|| shown(principal))
    }

    /// The base of links in messages, which outlive every answer.
    pub(super) fn public_base(&self) -> Result<String, Problem> {
        let lasting = self.request.api.settings.public.lasting();
        lasting.map(str::to_owned).ok_or_else(Problem::no_public_url)
    }
}

/// The error about a principal that is wrong or missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PrincipalError(pub(super) &'static str);

impl PrincipalError {
    /// It stood in the body, or would have.
    pub(super) fn in_body(self) -> Problem {
        Problem::malformed_body(Some("principal"), self.0)
    }

    /// It stood in the query, or would have.
    pub(super) fn in_query(self) -> Problem {
        Problem::malformed_parameter("principal", self.0)
    }
}

fn shown(principal: &Principal) -> String {
    let octets = principal.as_bytes();
    match std::str::from_utf8(octets) {
        Ok(text) if !text.starts_with(HEX) && !text.contains(char::is_control) => text.to_owned(),
        _ => octets.iter().fold(HEX.to_owned(), |text, octet| format!("{text}{octet:02x}")),
    }
}

fn read(text: &str) -> Option<Principal> {
    let Some(digits) = text.strip_prefix(HEX) else {
        return Some(Principal::named(text.as_bytes()));
    };
    let octets: Option<Vec<u8>> = digits
        .as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [one, other] => {
                let digit = |octet: &u8| char::from(*octet).to_digit(16);
                u8::try_from(digit(one)? << 4 | digit(other)?).ok()
            }
            _ => None,
        })
        .collect();
    octets.map(Principal::named)
}

/// Whether a text is a number as links have them: nothing but digits, the first of them no 0.
pub(super) fn is_number(text: &str) -> bool {
    !text.starts_with('0') && text.len() <= 18 && text.bytes().all(|octet| octet.is_ascii_digit())
}

/// The subscription that the path names, which the caller may see.
pub(super) struct SubscriptionPath {
    pub(super) context: WebhookContext,
    pub(super) subscription: Subscription,
}

impl FromRequestParts<ApiState> for SubscriptionPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        let context = WebhookContext::from_request_parts(parts, state).await?;
        let name = path_parameter(parts, "id").await.unwrap_or_default();
        let id = name.parse().map_err(|_| Problem::no_such_subscription())?;
        let found = context.ledger().subscription(context.only(), id).await?;
        Ok(Self { subscription: found.ok_or_else(Problem::no_such_subscription)?, context })
    }
}

/// The id of a subscription, as a parameter of the path.
pub(super) fn id() -> Value {
    let pattern = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$";
    in_path("id", "The subscription's id.", pattern)
}

/// A number as links have them, as a pattern.
pub(super) const NUMBER: &str = "^[1-9][0-9]{0,17}$";

/// How a request is refused whose path names no subscription of the caller's.
pub(super) const NO_SUBSCRIPTION: Refusal =
    (404, "No such subscription, or it belongs to another principal; or not offered here.");
/// How callers are refused where nothing tells them apart.
pub(super) const NOT_OFFERED: Refusal = (404, "Not offered here: nothing tells callers apart.");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_is_read_as_it_is_shown() {
        for octets in [&b""[..], b"ann", b"hex:00", &[0, 255], "é".as_bytes(), b"a\nb"] {
            let principal = Principal::named(octets);
            assert_eq!(read(&shown(&principal)), Some(principal));
        }
        assert_eq!(shown(&Principal::named("ann")), "ann");
        assert_eq!(shown(&Principal::named([0, 255])), "hex:00ff");
        assert_eq!((read("hex:0"), read("hex:zz")), (None, None));
    }
}
