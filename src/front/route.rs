//! A route with everything that is the same for all of its requests.
//!
//! Owns the translation from the configuration's words to the domain's.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method, header};

use crate::config::{AcceptedForm, Config, KeyRule, RouteConfig, Selector};
use crate::upstream::{Upstream, Upstreams};
use cloakroom_domain::Timestamp;
use cloakroom_domain::http::expectation::{AnswerDecision, AnswerMode, Offer};
use cloakroom_domain::http::operation_headers::{HeaderGrants, OperationHeaders};
use cloakroom_domain::http::pattern::PathPattern;
use cloakroom_domain::http::route_table::{RoutePattern, RouteTable};
use cloakroom_domain::operation::{
    DeliveryGuarantee, KeyScope, Lane, OnFailure, Policy, Recheck, RetryPolicy, Statuses,
};
use cloakroom_domain::webhooks::CallbackAllowlist;
use cloakroom_runtime::LogThrottle;

use super::settings::UnknownRoute;

/// A route, ready for requests.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) name: Arc<str>,
    pub(super) offer: Offer,
    pub(super) granted: HeaderGrants,
    pub(super) serial_key: Option<Selector>,
    pub(super) parent: Option<Selector>,
    pub(super) client_reference: Option<Selector>,
    on_failure: OnFailure,
    recheck: Option<Recheck>,
    pub(super) key_rule: Option<KeyRule>,
    pub(super) key_required: bool,
    /// The body of a 202.
    pub(super) accepted: AcceptedForm,
    pub(super) key_scope: KeyScope,
    pub(super) tags: Vec<String>,
    /// Names of the fields whose stored values are erased when an operation ends.
    pub(super) erase: Vec<HeaderName>,
    pub(super) max_depth: u64,
    pub(super) max_stored: u64,
    /// Where callbacks may go.
    pub(super) callbacks: CallbackAllowlist,
    queue: Arc<str>,
    upstream: Upstream,
    delivery: Option<DeliveryGuarantee>,
    retry: RetryPolicy,
    success: Option<Statuses>,
    delay: Duration,
    implicit: bool,
    /// Spares the log where what the route names cannot be read.
    pub(super) unreadable: Arc<LogThrottle>,
}

/// Always erased, whatever a route names.
const CREDENTIALS: [HeaderName; 2] = [header::AUTHORIZATION, header::COOKIE];

/// The table of all routes of a configuration.
pub(super) fn table(
    config: &Config,
    upstreams: &Upstreams,
) -> Result<RouteTable<Route>, UnknownRoute> {
    let compile = |route| Ok((pattern(route)?, Route::of(route, config, upstreams)?));
    let routes: Vec<_> = config.routes.iter().map(compile).collect::<Result<_, _>>()?;
    Ok(RouteTable::new(routes))
}

/// Whether the routes of a configuration can be used; those that others go before, each with
/// those others.
pub(super) fn check(config: &Config) -> Result<Vec<Overlap>, UnknownRoute> {
    let explicit = config.routes.iter().filter(|route| !route.implicit);
    let patterns: Vec<_> = explicit.map(pattern).collect::<Result<_, _>>()?;
    let table = RouteTable::new(patterns.into_iter().map(|pattern| (pattern, ())));
    let told = |(route, earlier): (&RoutePattern, Vec<&RoutePattern>)| Overlap {
        route: route.to_string(),
        earlier: earlier.into_iter().map(ToString::to_string).collect(),
    };
    Ok(table.overlaps().into_iter().map(told).collect())
}

/// A route that takes less than it matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// Its method and path.
    pub route: String,
    /// Those that go before it where they match, too.
    pub earlier: Vec<String>,
}

fn pattern(route: &RouteConfig) -> Result<RoutePattern, UnknownRoute> {
    if route.implicit {
        return Ok(RoutePattern { method: Some(Method::POST), path: PathPattern::any() });
    }
    let text = format!("{} {}", route.method, route.path);
    RoutePattern::parse(&text)
        .map_err(|why| UnknownRoute { route: route.name.clone(), why: why.to_string() })
}

impl Route {
    fn of(
        route: &RouteConfig,
        config: &Config,
        upstreams: &Upstreams,
    ) -> Result<Self, UnknownRoute> {
        let unknown = |why: String| UnknownRoute { route: route.name.clone(), why };
        let upstream = upstreams.get(&route.upstream);
        let queue = config.queues.get(&route.queue);
        let queue = queue.ok_or_else(|| unknown(format!("there is no queue {}", route.queue)))?;
        Ok(Self {
            name: route.name.as_str().into(),
            offer: offer(route),
            granted: HeaderGrants { timeout: route.timeout, deadline: route.deadline },
            serial_key: route.serial_key.clone(),
            parent: route.parent.clone(),
            client_reference: route.client_reference.clone(),
            on_failure: route.serial_on_failure,
            recheck: route.recheck.clone(),
            key_rule: route.idempotency_key.clone(),
            key_required: route.idempotency_required,
            accepted: route.accepted,
            key_scope: if route.unique_pending { KeyScope::Pending } else { KeyScope::Retained },
            tags: route.tags.clone(),
            erase: CREDENTIALS.into_iter().chain(route.erase.iter().cloned()).collect(),
            max_depth: queue.max_depth.into(),
            max_stored: queue.max_stored as u64,
            callbacks: route.callbacks.clone(),
            queue: route.queue.as_str().into(),
            upstream: upstream
                .ok_or_else(|| unknown(format!("there is no upstream {}", route.upstream)))?
                .clone(),
            delivery: route.delivery,
            retry: RetryPolicy {
                attempts: route.retry.attempts,
                min: route.retry.min,
                max: route.retry.max,
                statuses: route.retry.statuses.clone(),
            },
            success: route.success.clone(),
            delay: route.delay,
            implicit: route.implicit,
            unreadable: Arc::default(),
        })
    }

    /// Whether it stands in because no route was named.
    pub(super) const fn is_implicit(&self) -> bool {
        self.implicit
    }

    /// Where its requests go.
    pub(super) const fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Where its operations lie; those that a client waits for lie apart.
    pub(super) fn lane(&self, answer: AnswerMode) -> Lane {
        let express = match answer {
            AnswerMode::Async => false,
            AnswerMode::Hybrid { wait } | AnswerMode::Sync { wait } => !wait.is_zero(),
        };
        Lane {
            queue: self.queue.clone(),
            upstream: self.upstream.name().clone(),
            express,
            quarantine: false,
        }
    }

    /// When an operation may begin that is accepted now.
    pub(super) fn due_at(&self, now: Timestamp, additions: &OperationHeaders) -> Timestamp {
        additions.not_before.unwrap_or(now + self.delay)
    }

    /// The delivery guarantee of a request.
    pub(super) fn policy(
        &self,
        method: &Method,
        additions: &OperationHeaders,
        due_at: Timestamp,
        decision: &AnswerDecision,
    ) -> Policy {
        Policy {
            delivery: self.delivery.unwrap_or_else(|| by_method(method)),
            timeout: additions.timeout.unwrap_or(self.granted.timeout),
            deadline_at: due_at + additions.deadline.unwrap_or(self.granted.deadline),
            retry: self.retry.clone(),
            success: self.success.clone(),
            wait: match decision.answer {
                AnswerMode::Sync { wait } => Some(wait),
                AnswerMode::Async | AnswerMode::Hybrid { .. } => None,
            },
            on_failure: self.on_failure,
            recheck: self.recheck.clone(),
        }
    }
}

/// RFC 9110 section 9.2.2: what is idempotent may be repeated.
fn by_method(method: &Method) -> DeliveryGuarantee {
    if method.is_idempotent() {
        DeliveryGuarantee::AtLeastOnce
    } else {
        DeliveryGuarantee::AtMostOnce
    }
}

fn offer(route: &RouteConfig) -> Offer {
    Offer {
        mode: route.mode,
        allow: route.allow,
        sync_wait: route.sync_wait,
        timeout: route.timeout,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_that_may_be_repeated_are_delivered_at_least_once() {
        for (method, expected) in [
            (Method::POST, DeliveryGuarantee::AtMostOnce),
            (Method::PATCH, DeliveryGuarantee::AtMostOnce),
            (Method::PUT, DeliveryGuarantee::AtLeastOnce),
            (Method::DELETE, DeliveryGuarantee::AtLeastOnce),
            (Method::GET, DeliveryGuarantee::AtLeastOnce),
        ] {
            assert_eq!(by_method(&method), expected, "{method}");
        }
    }
}
