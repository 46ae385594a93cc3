//! Extractors: the caller of a request, and the operation that its path names.
//!
//! Owns the access rule: a client sees its own operations by ticket, an operator sees all
//! operations by id or ticket. An operation that the caller may not see is answered like one
//! that does not exist.

use std::net::{IpAddr, Ipv4Addr};

use axum::extract::{FromRequestParts, RawPathParams};
use http::request::Parts;

use super::accepted::MonitorPointer;
use super::openapi::{Refusal, in_path};
use super::{Api, Caller, Document, Peer, Problem, origin, principal_of};
use cloakroom_domain::http::links::Links;
use cloakroom_domain::http::preconditions::Preconditions;
use cloakroom_domain::operation::Status;
use cloakroom_domain::{OperationId, Timestamp};
use cloakroom_ledger::Operation;
use serde_json::Value;

/// The state that all resources of one listener share.
#[derive(Clone)]
pub(super) struct ApiState {
    pub(super) api: Api,
    pub(super) side: Side,
}

/// Which listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Public,
    Operators,
}

/// The caller of a request, its preconditions, and the base of the links in its answer.
pub(super) struct RequestContext {
    pub(super) api: Api,
    pub(super) caller: Caller,
    pub(super) base: String,
    /// What the request says about the state of the resource.
    pub(super) preconditions: Preconditions,
}

impl FromRequestParts<ApiState> for RequestContext {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        let peer = peer_of(parts);
        let settings = &state.api.settings;
        let caller = match state.side {
            Side::Operators => Caller::Operator,
            Side::Public => {
                let key = state.api.ledger.ticket_key();
                Caller::Client(principal_of(settings, key, &parts.headers, peer)?)
            }
        };
        let base = origin::base(settings, &parts.headers, peer)?;
        let preconditions = Preconditions::of(&parts.headers);
        Ok(Self { api: state.api.clone(), caller, base, preconditions })
    }
}

fn peer_of(parts: &Parts) -> IpAddr {
    // Without a peer nothing is believed.
    let unknown = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    parts.extensions.get::<Peer>().map_or(unknown, |peer| peer.0.ip())
}

/// The base of all links, for every caller.
pub(super) fn base_of(parts: &Parts, state: &ApiState) -> Result<String, Problem> {
    origin::base(&state.api.settings, &parts.headers, peer_of(parts))
}

impl RequestContext {
    /// The links of an operation.
    pub(super) fn links(&self, id: OperationId) -> Links {
        let ticket = self.api.ledger.ticket_key().ticket(id);
        origin::links(&self.api.settings, &self.base, ticket)
    }

    /// The document of an operation.
    pub(super) fn document(&self, operation: &Operation) -> Document {
        Document::of(operation, &self.links(operation.id), &self.base)
    }

    /// Whether the caller may see an operation.
    pub(super) fn may_see(&self, operation: &Operation) -> bool {
        match &self.caller {
            Caller::Operator => true,
            Caller::Client(principal) => *principal == operation.principal,
        }
    }

    /// Where and when to ask again about an operation.
    pub(super) fn pointer(&self, operation: &Operation) -> MonitorPointer {
        let settings = &self.api.settings;
        let depth = match operation.state.status() {
            Status::Queued => self.api.ledger.queue_depth(&operation.queue),
            _ => 0,
        };
        MonitorPointer {
            retry_after: settings.pace.estimate(&operation.route, depth),
            relative: settings.relative_location.contains(&operation.route),
        }
    }

    fn open(&self, name: &str) -> Option<OperationId> {
        let by_ticket = self.api.ledger.ticket_key().open(name);
        match self.caller {
            Caller::Operator => by_ticket.or_else(|| name.parse().ok()),
            Caller::Client(_) => by_ticket,
        }
    }

    async fn find(self, name: &str) -> Result<OperationPath, Problem> {
        let id = self.open(name).ok_or_else(Problem::no_such_operation)?;
        let operation = self.api.ledger.find(id).await?;
        let operation = operation.filter(|operation| self.may_see(operation));
        Ok(OperationPath {
            operation: operation.ok_or_else(Problem::no_such_operation)?,
            context: self,
        })
    }
}

/// The operation that the path names, which the caller may see.
pub(super) struct OperationPath {
    pub(super) context: RequestContext,
    pub(super) operation: Operation,
}

impl FromRequestParts<ApiState> for OperationPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        let context = RequestContext::from_request_parts(parts, state).await?;
        let name = path_parameter(parts, "ticket").await;
        context.find(&name.ok_or_else(Problem::no_such_operation)?).await
    }
}

impl OperationPath {
    /// Refuses with 410 once request and result are freed or have expired. Document,
    /// timeline and tree are shown as long as the row stands, because they are what is
    /// kept; the monitor and the result are about what is gone.
    pub(super) fn not_gone(&self) -> Result<(), Problem> {
        if is_gone(&self.operation, self.context.api.clock.now()) {
            return Err(Problem::gone());
        }
        Ok(())
    }

    /// The operation as it stands now.
    pub(super) async fn again(mut self) -> Result<Self, Problem> {
        let operation = self.context.api.ledger.find(self.operation.id).await?;
        self.operation = operation.ok_or_else(Problem::no_such_operation)?;
        Ok(self)
    }

    /// The tag of its monitor and its document. Each change of an operation has an event, and each
    /// event a number.
    pub(super) fn etag(&self) -> String {
        format!("\"{}-{}\"", self.status(), self.operation.sequence)
    }

    /// Refuses to show it where `If-Match` does not hold (412).
    pub(super) fn may_be_read(&self) -> Result<(), Problem> {
        Ok(self.context.preconditions.allow_reading(Some(&self.etag()))?)
    }

    /// Refuses to change it where a precondition does not hold (412). Whatever else refuses the
    /// request comes first (RFC 9110 section 13.2.1).
    pub(super) fn may_be_changed(&self) -> Result<(), Problem> {
        Ok(self.context.preconditions.allow_change(&self.etag())?)
    }

    pub(super) fn document(&self) -> Document {
        self.context.document(&self.operation)
    }

    pub(super) fn status(&self) -> Status {
        self.operation.state.status()
    }

    pub(super) fn pointer(&self) -> MonitorPointer {
        self.context.pointer(&self.operation)
    }
}

fn is_gone(operation: &Operation, now: Timestamp) -> bool {
    operation.freed_at.is_some() || operation.expires_at.is_some_and(|expires| expires <= now)
}

/// A parameter of the path, decoded; none where it is not there or no text.
pub(super) async fn path_parameter(parts: &mut Parts, name: &str) -> Option<String> {
    let parameters = RawPathParams::from_request_parts(parts, &()).await.ok()?;
    let mut found = parameters.iter().filter(|(own, _)| *own == name);
    found.next().map(|(_, value)| value.to_owned())
}

/// The ticket, as a parameter of the path.
pub(super) fn ticket() -> Value {
    let says = "The ticket, as it stands in the 202's Location; operators may use the id.";
    in_path("ticket", says, NAME)
}

/// A ticket, an id, a token or the name of a queue, as a pattern.
pub(super) const NAME: &str = "^[0-9A-Za-z-]+$";
/// How a request is refused whose path names no operation of the caller's.
pub(super) const NO_OPERATION: Refusal =
    (404, "No such operation, or it belongs to another principal.");
/// How it is refused once what it asks for was freed or has expired.
pub(super) const GONE: Refusal = (410, "Request and result were freed.");
