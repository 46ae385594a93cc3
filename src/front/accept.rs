//! Accepting: from a routed request to an operation in the ledger.
//!
//! Owns the order of the checks and what is stored of a request. The invariant: the body
//! is first asked for when everything else has passed, because that is when hyper sends
//! the 100 that a client may be waiting for.

use std::borrow::Cow;

use axum::response::Response;
use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HeaderMap, HeaderName,
    HeaderValue,
};
use http::{Method, Request as HttpRequest};

use super::answer::PendingAccept;
use super::body_scan;
use super::callback::CallbackRequest;
use super::route::Route;
use super::selector::{RequestView, SelectedValue};
use super::upload::Upload;
use super::{FrontState, Lifespan, RequestSource};
use crate::api::Problem;
use crate::config::{KeyRule, Selector};
use crate::listener::IncomingBody;
use cloakroom_domain::http::expectation::{self, AnswerDecision, AnswerMode};
use cloakroom_domain::http::idempotency::{self, SentKey};
use cloakroom_domain::http::operation_headers::{
    LONGEST_SERIAL_KEY, OperationHeaders, is_reference, parent_named,
};
use cloakroom_domain::http::pattern::Captures;
use cloakroom_domain::http::prefer;
use cloakroom_domain::http::trace;
use cloakroom_domain::operation::{
    BodyKey, IdempotencyClaim, NewOperation, OperationBody, Request, SerialKey, Work,
};
use cloakroom_domain::pointer::Pointers;
use cloakroom_domain::{Fields, OperationId, Principal};
use cloakroom_ledger::Piece;

/// Counts places named by routes that could not be read.
const UNREADABLE: &str = "cloakroom_unreadable_places_total";

/// How many pieces of a large body are written at once: 4 MiB.
const PIECES_AT_ONCE: usize = 16;

/// The values that the head of a request carries.
struct AcceptHead {
    principal: Principal,
    decision: AnswerDecision,
    additions: OperationHeaders,
    key: Option<SentKey>,
    callback: Option<CallbackRequest>,
    base: String,
}

impl FrontState {
    /// Accepts a request that a route takes, and answers it as it asks to be.
    pub(super) async fn accept(
        &self,
        request: HttpRequest<IncomingBody>,
        route: &Route,
        captures: &Captures,
        caller: &RequestSource,
    ) -> Result<Response, Problem> {
        let head = self.check_head(request.headers(), route, caller)?;
        if let Some(asked) = &head.callback {
            Box::pin(self.callbacks.judge(asked, &head.principal, &self.api)).await?;
        }
        let (parts, body) = request.into_parts();
        let collected = self.budget.collect(body, self.max_body).await?;
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        let pointers = wanted(route, &head);
        let scalars = Box::pin(body_scan::scalars(&pointers, &collected.octets)).await;
        let seen = RequestView {
            headers: &parts.headers,
            query: parts.uri.query(),
            captures,
            scalars: &scalars,
        };
        let now = self.api.clock.now();
        let id = OperationId::new(now, self.api.ledger.number(), rand::random());
        let whole = self.whole_target(route, caller, target);
        let body = &collected.octets;
        let idempotency = self.claim(route, &head, seen, (&parts.method, &whole), body)?;
        let serial_key = self.serial_key(route, &head, seen);
        let OperationHeaders { client_reference: given, .. } = &head.additions;
        let reference = given.clone().or_else(|| self.reference(route, seen));
        let parent = match head.additions.parent.or_else(|| self.parent_at(route, seen)) {
            None => None,
            Some(named) => Box::pin(self.parent(named, &head.principal)).await?,
        };
        let (body, upload) = if collected.octets.len() <= OperationBody::INLINE_LIMIT {
            (OperationBody::Inline(collected.octets), None)
        } else {
            let (body, upload) = Box::pin(self.keep(collected.octets)).await?;
            (body, Some(upload))
        };
        let AcceptHead { principal, decision, additions, key, callback, base } = head;
        let (callback, first) = match callback {
            None => (None, None),
            Some(asked) => Box::pin(self.callbacks.callback(asked, &principal, &self.api)).await?,
        };
        let due_at = route.due_at(now, &additions);
        let policy = route.policy(&parts.method, &additions, due_at, &decision);
        let mut fields = parts.headers;
        let stored = (route.upstream(), Lifespan::Stored);
        self.dress(&mut fields, (caller, parts.version), stored);
        trim(&mut fields, &parts.method);
        prefer::take_out(&mut fields, |name| decision.meets(name));
        let credentials = take(&mut fields, &route.erase);
        let target = target.to_owned();
        let operation = NewOperation {
            id,
            accepted_at: now,
            principal,
            route: route.name.clone(),
            lane: route.lane(decision.answer),
            work: Work::Call(Request {
                target,
                method: parts.method,
                fields: Fields::from(fields),
                credentials: Fields::from(credentials),
                body,
            }),
            policy,
            due_at,
            upstream_key: key.map(|sent| sent.octets),
            idempotency,
            serial_key,
            parent,
            retry_of: None,
            client_reference: reference,
            tags: tags(&route.tags, additions.tags),
            callback,
            max_depth: route.max_depth,
            max_stored: route.max_stored,
        };
        let own = &self.lifecycles.own;
        let pending =
            PendingAccept { api: &self.api, route, decision: &decision, base: &base, own };
        pending.answer(operation, first, upload, collected.memory).await
    }

    /// Everything that can be checked without the body.
    fn check_head(
        &self,
        headers: &HeaderMap,
        route: &Route,
        caller: &RequestSource,
    ) -> Result<AcceptHead, Problem> {
        let principal = self.identify(headers, caller)?;
        let mut decision = expectation::decide(headers, &route.offer)?;
        if self.lifecycles.engine.is_draining() {
            decision = without_waiting(decision)?;
        }
        let additions = OperationHeaders::parse(headers, self.api.clock.now(), route.granted)?;
        let callback = CallbackRequest::read(headers, route, &self.api)?;
        if callback.as_ref().is_some_and(|asked| asked.preferred) {
            decision.applied.push(expectation::CALLBACK.to_owned());
        }
        let key = idempotency::key(headers)?;
        if key.is_none() && route.key_required && !may_have_key(route, headers) {
            return Err(no_key(route));
        }
        let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        // Digits alone have come this far; those that do not fit announce too much.
        let announced = announced.map(|length| length.parse().unwrap_or(u64::MAX));
        if announced.is_some_and(|length| length > self.max_body as u64) {
            return Err(Problem::body_too_large(self.max_body as u64));
        }
        let base = self.base(headers, caller)?;
        Ok(AcceptHead { principal, decision, additions, key, callback, base })
    }

    /// The target of a request, with its host where the upstream gets that.
    fn whole_target<'t>(
        &self,
        route: &Route,
        caller: &RequestSource,
        target: &'t str,
    ) -> Cow<'t, str> {
        if !route.upstream().settings().preserve_host {
            return target.into();
        }
        match self.host_for(caller) {
            Some(host) => format!("//{host}{target}").into(),
            None => target.into(),
        }
    }

    /// The key that makes a repeat of the request the same operation: the client's key, else the
    /// one that the route derives.
    fn claim(
        &self,
        route: &Route,
        head: &AcceptHead,
        seen: RequestView<'_>,
        (method, target): (&Method, &str),
        body: &[u8],
    ) -> Result<Option<IdempotencyClaim>, Problem> {
        let is_sent = head.key.is_some();
        let rule = route.key_rule.as_ref().filter(|_| !is_sent);
        if head.key.is_none() && rule.is_none() {
            return Ok(None);
        }
        let types: Vec<_> =
            seen.headers.get_all(CONTENT_TYPE).iter().map(HeaderValue::as_bytes).collect();
        let content_type = (!types.is_empty()).then(|| types.join(&b", "[..]));
        let credentials = self.credentials(&head.principal, seen.headers);
        let callback = head.callback.as_ref().map(CallbackRequest::fingerprint);
        let fingerprint = idempotency::fingerprint(
            method,
            target,
            content_type.as_deref(),
            body,
            callback.as_deref(),
            credentials,
        );
        let derived = rule.map(|rule| match rule {
            KeyRule::Header(name) => seen.field(name).ok_or_else(|| Problem::key_not_in(name)),
            KeyRule::Pointer(pointer) => {
                let found = self.readable(route, "idempotency_key", seen.pointer(pointer));
                found.ok_or_else(|| key_not_at(pointer, seen))
            }
            KeyRule::Fingerprint => Ok(fingerprint.as_bytes().to_vec()),
        });
        let sent = head.key.as_ref().map(|sent| Ok(sent.key.as_bytes().to_vec()));
        let key = match sent.or(derived) {
            Some(Ok(key)) => key,
            Some(Err(missing)) if route.key_required => return Err(missing),
            Some(Err(_)) | None => return Ok(None),
        };
        let kind: &[u8] = if is_sent { b"sent" } else { b"derived" };
        let scope = [head.principal.as_bytes(), route.name.as_bytes(), kind, &key];
        let digest = self.api.ledger.ticket_key().digest("idempotency", &scope);
        Ok(Some(IdempotencyClaim {
            digest: first_half(&digest),
            fingerprint,
            scope: route.key_scope,
        }))
    }

    /// Where callers are not told apart otherwise, another credential is another request.
    fn credentials(&self, principal: &Principal, headers: &HeaderMap) -> Option<[u8; 32]> {
        if *principal != Principal::everyone() {
            return None;
        }
        let mut parts: Vec<&[u8]> = Vec::new();
        for name in [AUTHORIZATION, COOKIE] {
            let lines = headers.get_all(&name).iter().map(HeaderValue::as_bytes);
            let before = parts.len();
            parts.extend(lines);
            if parts.len() > before {
                // The name behind its lines keeps the two fields apart.
                parts.push(if name == AUTHORIZATION { b"authorization" } else { b"cookie" });
            }
        }
        let key = self.api.ledger.ticket_key();
        (!parts.is_empty()).then(|| key.digest("credentials", &parts))
    }

    fn serial_key(
        &self,
        route: &Route,
        head: &AcceptHead,
        seen: RequestView<'_>,
    ) -> Option<SerialKey> {
        let derived = || {
            let place = route.serial_key.as_ref()?;
            self.readable(route, "serial_key", seen.at(place))
        };
        let key = head.additions.serial_key.clone().map(String::into_bytes).or_else(derived)?;
        let upstream = route.upstream().name().as_bytes();
        let scope = [upstream, head.principal.as_bytes(), &key];
        let digest = self.api.ledger.ticket_key().digest("serial-key", &scope);
        let text = String::from_utf8_lossy(&key).chars().take(LONGEST_SERIAL_KEY).collect();
        Some(SerialKey { digest: first_half(&digest), text })
    }

    /// The parent that was named, if it is of the same principal.
    async fn parent(
        &self,
        named: OperationId,
        principal: &Principal,
    ) -> Result<Option<OperationId>, Problem> {
        let found = self.api.ledger.find(named).await?;
        Ok(found.filter(|parent| parent.principal == *principal).map(|parent| parent.id))
    }

    /// What the client calls it, where the route finds that. What could not be sent as a
    /// reference is none.
    fn reference(&self, route: &Route, seen: RequestView<'_>) -> Option<String> {
        let found = seen.at(route.client_reference.as_ref()?);
        let text = String::from_utf8(self.readable(route, "client_reference", found)?);
        let reference = text.ok().filter(|text| is_reference(text));
        if reference.is_none() {
            let why = "the value is no reference: at most 256 characters, all of them ASCII without controls";
            self.left_out(route, "client_reference", &why);
        }
        reference
    }

    /// The parent that the route finds named.
    fn parent_at(&self, route: &Route, seen: RequestView<'_>) -> Option<OperationId> {
        let found = seen.at(route.parent.as_ref()?);
        let text = String::from_utf8(self.readable(route, "parent", found)?);
        let parent = text.ok().and_then(|text| parent_named(&text));
        if parent.is_none() {
            self.left_out(
                route,
                "parent",
                &"the value is neither an operation's id nor its ticket",
            );
        }
        parent
    }

    /// What was found at a place. Where that cannot be read, the request goes on without it,
    /// and the operator hears of it: not every body that a route takes need be JSON.
    fn readable(
        &self,
        route: &Route,
        place: &'static str,
        looked: SelectedValue,
    ) -> Option<Vec<u8>> {
        looked.unwrap_or_else(|why| {
            self.left_out(route, place, &why);
            None
        })
    }

    /// The operator hears of a value that a request goes on without.
    fn left_out(&self, route: &Route, place: &'static str, why: &dyn std::fmt::Display) {
        let name = route.name.to_string();
        metrics::counter!(UNREADABLE, "route" => name, "place" => place).increment(1);
        if let Some(count) = route.unreadable.due(&self.api.clock) {
            tracing::warn!(route = %route.name, place, count, "what a route names cannot be read: {why}");
        }
    }

    /// A large body as the ledger keeps it: written down in pieces first.
    async fn keep(&self, octets: Bytes) -> Result<(OperationBody, Upload), Problem> {
        let (key, length) = (BodyKey(rand::random()), octets.len() as u64);
        let upload = Upload::under(key, &self.api.ledger, &self.lifecycles.own);
        let mut pieces = Vec::with_capacity(PIECES_AT_ONCE);
        for (number, start) in (0..octets.len()).step_by(OperationBody::INLINE_LIMIT).enumerate() {
            let end = (start + OperationBody::INLINE_LIMIT).min(octets.len());
            let number = number as u32;
            pieces.push(Piece { body: key, number, octets: octets.slice(start..end) });
            if pieces.len() == PIECES_AT_ONCE || end == octets.len() {
                self.api.ledger.stash(std::mem::take(&mut pieces)).await?;
            }
        }
        Ok((OperationBody::Chunked { key, length }, upload))
    }
}

/// 400: the head of a request shows that it has no key.
fn no_key(route: &Route) -> Problem {
    match &route.key_rule {
        Some(KeyRule::Header(name)) => Problem::key_not_in(name),
        Some(KeyRule::Pointer(pointer)) => Problem::key_not_at(pointer, "there is no body"),
        Some(KeyRule::Fingerprint) | None => Problem::key_missing(),
    }
}

/// 400: no key is at the place in the body from which the route takes it.
fn key_not_at(pointer: &str, seen: RequestView<'_>) -> Problem {
    match (seen.pointer(pointer), seen.scalars.broken_at()) {
        (Err(why), Some(octet)) => {
            Problem::key_not_at(pointer, &format!("{why} from octet {octet} on, counted from 0"))
        }
        (Err(why), None) => Problem::key_not_at(pointer, &why.to_string()),
        (Ok(_), _) => Problem::key_not_at(pointer, "there is no value, or an empty one"),
    }
}

/// While the gateway stops, accepted operations stay in the ledger until the next start, so no
/// request waits for its answer: a request that allows a 202 gets it at once, every other request
/// is refused before anything is stored.
fn without_waiting(decision: AnswerDecision) -> Result<AnswerDecision, Problem> {
    match decision.answer {
        AnswerMode::Async => Ok(decision),
        _ if decision.may_fall_back_to_202 => Ok(decision.at_once()),
        _ => Err(Problem::stopping()),
    }
}

/// Whether a key may yet be derived; a pointer is followed when the body is there.
fn may_have_key(route: &Route, headers: &HeaderMap) -> bool {
    match &route.key_rule {
        None => false,
        Some(KeyRule::Header(name)) => headers.contains_key(name),
        Some(KeyRule::Pointer(_) | KeyRule::Fingerprint) => true,
    }
}

/// The pointers that are to be followed into the body of a request: those of places whose value
/// it does not name by a field.
fn wanted(route: &Route, head: &AcceptHead) -> Pointers {
    let added = &head.additions;
    let places = [
        (&route.serial_key, added.serial_key.is_some()),
        (&route.client_reference, added.client_reference.is_some()),
        (&route.parent, added.parent.is_some()),
    ];
    let named = places.into_iter().filter_map(|(place, is_given)| match place {
        Some(Selector::Pointer(pointer)) if !is_given => Some(pointer.as_str()),
        _ => None,
    });
    let key = match &route.key_rule {
        Some(KeyRule::Pointer(pointer)) if head.key.is_none() => Some(pointer.as_str()),
        _ => None,
    };
    Pointers::new(named.chain(key))
}

/// Fits the fields to being stored: what each attempt sets anew, and what the stored body
/// says better, is left out.
fn trim(fields: &mut HeaderMap, method: &Method) {
    fields.remove(idempotency::IDEMPOTENCY_KEY);
    fields.remove(ACCEPT_ENCODING);
    fields.remove(CONTENT_LENGTH);
    if method == Method::GET || method == Method::HEAD {
        let conditions = ["if-match", "if-none-match", "if-modified-since", "if-unmodified-since"];
        for name in conditions.into_iter().chain(["if-range", "range"]) {
            fields.remove(name);
        }
    }
    trace::screen(fields);
}

/// Takes these fields out.
fn take(fields: &mut HeaderMap, names: &[HeaderName]) -> HeaderMap {
    let mut taken = HeaderMap::new();
    for name in names {
        for value in fields.get_all(name) {
            taken.append(name.clone(), value.clone());
        }
        fields.remove(name);
    }
    taken
}

fn tags(of_route: &[String], mut of_request: Vec<String>) -> Vec<String> {
    for tag in of_route {
        if !of_request.contains(tag) {
            of_request.push(tag.clone());
        }
    }
    of_request
}

fn first_half(digest: &[u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&digest[..16]);
    half
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_taken_out_with_all_their_lines() {
        let mut fields = HeaderMap::new();
        for (name, value) in [("cookie", "a=b"), ("cookie", "c=d"), ("x-own", "1")] {
            fields.append(name, HeaderValue::from_static(value));
        }
        let taken = take(&mut fields, &[AUTHORIZATION, COOKIE]);
        assert_eq!(taken.get_all(COOKIE).iter().count(), 2);
        assert_eq!(fields.len(), 1);
    }
}
