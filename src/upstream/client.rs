//! The client of one upstream.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body::Body;
use url::{Origin, Url};

use super::body::{BoxError, CallBody};
use super::connection::UpstreamConnection;
use super::dial::{DialPurpose, UpstreamDialer};
use super::error::{SentMarker, UpstreamError};
use super::exchange::{ConnectionChoice, ExchangeError, HeadRepairLog, ResponseHead, send_new};
use super::pool::{SWEEP_INTERVAL, UpstreamPool};
use super::reply::{PoolHandle, ResponseBody, UpstreamResponse};
use super::request_template::{RequestTemplate, foreign_get, origin_uri, parse_target, target_of};
use super::settings::{UpstreamSettings, UpstreamSettingsError, is_web, wants_tls};
use cloakroom_domain::http::{location, redirect};
use cloakroom_domain::operation::{DeliveryGuarantee, Doubt, SendState};
use cloakroom_runtime::clock::Clock;
use cloakroom_runtime::lifecycle::Tasks;

/// How many 307 and 308 are followed in a row.
pub(super) const REDIRECTS: usize = 5;

/// A request to an upstream.
#[derive(Debug)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// Path and query; these octets go onto the wire.
    pub target: String,
    /// The end-to-end fields, complete. `Host` and `Content-Length` are set for it.
    pub fields: HeaderMap,
    /// The body.
    pub body: CallBody,
    /// Decides how long the connection may have been idle.
    pub delivery: DeliveryGuarantee,
    /// Whether the upstream can be asked if this took effect. It is then asked before anything is
    /// sent anew, so once an octet was written this call does not repeat it, whatever its delivery.
    pub is_rechecked: bool,
    /// Says afterwards whether anything was sent.
    pub marker: SentMarker,
}

/// One upstream. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Upstream(pub(super) Arc<UpstreamInner>);

#[derive(Debug)]
pub(super) struct UpstreamInner {
    pub(super) settings: UpstreamSettings,
    origin: Origin,
    follow: Vec<Origin>,
    pub(super) dial_to: Uri,
    template: RequestTemplate,
    pub(super) dialer: UpstreamDialer,
    pub(super) home: PoolHandle,
    pub(super) oddities: HeadRepairLog,
}

impl Upstream {
    /// An upstream to which nothing is connected yet. Must be called on the runtime; its
    /// idle connections are closed when `tasks` drain.
    pub fn new(
        settings: UpstreamSettings,
        clock: Clock,
        tasks: &Tasks,
    ) -> Result<Self, UpstreamSettingsError> {
        let follow = settings.check()?;
        let name = || settings.name.clone();
        let not_an_origin = || UpstreamSettingsError::NotAnOrigin { name: name() };
        let dial_to = origin_uri(&settings.origin).ok_or_else(not_an_origin)?;
        let template = RequestTemplate::new(&settings).ok_or_else(not_an_origin)?;
        let origin = settings.origin.origin();
        let by_tls = wants_tls(follow.iter().chain([&origin]));
        let dialer = UpstreamDialer::new(&settings, by_tls, clock.clone(), tasks.clone())
            .map_err(|cause| UpstreamSettingsError::NoRoots { name: name(), cause })?;
        let pool = Arc::new(UpstreamPool::new(settings.reuse));
        tend(Arc::downgrade(&pool), clock.clone(), tasks);
        let home = PoolHandle { pool, clock };
        let oddities = HeadRepairLog::default();
        let shared =
            UpstreamInner { settings, origin, follow, dial_to, template, dialer, home, oddities };
        Ok(Self(Arc::new(shared)))
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &Arc<str> {
        &self.0.settings.name
    }

    /// What it was told to be.
    pub fn settings(&self) -> &UpstreamSettings {
        &self.0.settings
    }

    /// Sends a request once and waits for the head of the answer.
    ///
    /// An idle connection that turns out to be closed before anything was written is
    /// replaced by another; that is not a second sending. One that has ended without an octet of
    /// an answer is replaced by a new one where the call may be sent twice, has no recheck, and its body
    /// is at hand. Dropping the future cuts the connection. There is no time limit beyond that of
    /// connecting.
    pub async fn call(&self, call: Call) -> Result<UpstreamResponse, UpstreamError> {
        self.try_call(call, ConnectionChoice::Any).await.map_err(UpstreamError::from)
    }

    async fn try_call(
        &self,
        call: Call,
        which: ConnectionChoice,
    ) -> Result<UpstreamResponse, ExchangeError> {
        let Call { method, target, fields, body, delivery, is_rechecked, marker } = call;
        let delivery = if is_rechecked { DeliveryGuarantee::AtMostOnce } else { delivery };
        let target = parse_target(target)?;
        refuse_connect(&method)?;
        let request = self.0.template.request((method, target.clone()), fields, body, None);
        let answered = self.exchange(request, delivery, which, &marker).await?;
        Ok(self.reply(answered, target, true)?)
    }

    /// As [`Upstream::call`], and calls once more where nothing was sent to a used connection, or
    /// one was stale and the call may be sent twice, also where its body is read while it is sent.
    async fn call_again(
        &self,
        again: impl Fn() -> Call,
    ) -> Result<UpstreamResponse, UpstreamError> {
        match self.try_call(again(), ConnectionChoice::Any).await {
            Err(ExchangeError::Unsent(_)) => {
                self.try_call(again(), ConnectionChoice::New).await.map_err(UpstreamError::from)
            }
            Err(ExchangeError::Stale(_)) => {
                let once_more = self.try_call(again(), ConnectionChoice::New).await;
                once_more
                    .map(|reply| UpstreamResponse { is_repeated: true, ..reply })
                    .map_err(|missed| UpstreamError { sent: SendState::Perhaps, ..missed.into() })
            }
            called => called.map_err(UpstreamError::from),
        }
    }

    /// As [`Upstream::call`], and follows redirects that ask for the same request at another
    /// path of the upstream, five at most, with method and body, to its target as URLs are
    /// normalized and on the configured origin; any other is returned. `again` makes the call
    /// anew for each, always with the same marker; `public` is what the upstream may call the
    /// gateway, and so itself.
    ///
    /// An upstream that answers so has told that it did nothing (RFC 9110 section
    /// 15.4.8), so the marker then says again that nothing was sent: failing to connect
    /// for the next hop is no unknown outcome.
    pub async fn call_following(
        &self,
        public: &[Url],
        again: impl Fn() -> Call,
    ) -> Result<UpstreamResponse, UpstreamError> {
        let delivery = again().delivery;
        let mut reply = self.call_again(&again).await?;
        for _ in 0..REDIRECTS {
            let Some(target) = self.redirect_of(&reply, delivery, public) else { break };
            drop(reply);
            let there = || Call { target: target.clone(), ..again() };
            there().marker.clear();
            reply = self.call_again(there).await?;
        }
        Ok(reply)
    }

    /// Passes a request on as it comes and the answer back as it comes.
    ///
    /// The request's `Upgrade`, if it still has one, is asked for; the answer is a 101
    /// only if the upstream switches to that very protocol, and then
    /// `hyper::upgrade::on` has the tunnel. The authority of its URI is ignored.
    pub async fn forward<B>(
        &self,
        request: Request<B>,
    ) -> Result<Response<ResponseBody>, UpstreamError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (parts, body) = request.into_parts();
        refuse_connect(&parts.method)?;
        let target = match parts.uri.path_and_query() {
            Some(target) => target.clone(),
            None => PathAndQuery::from_static("/"),
        };
        let delivery = if parts.method.is_idempotent() {
            DeliveryGuarantee::AtLeastOnce
        } else {
            DeliveryGuarantee::AtMostOnce
        };
        let upgrade = parts.headers.get(header::UPGRADE).cloned();
        let head = (parts.method, target);
        let body = CallBody::proxied(body);
        let request = self.0.template.request(head, parts.headers, body, upgrade.clone());
        let marker = SentMarker::new();
        let ResponseHead { response, connection, .. } = if upgrade.is_some() {
            send_new(self.dial(DialPurpose::Tunnel).await?, request, &marker).await?
        } else {
            self.exchange(request, delivery, ConnectionChoice::Any, &marker).await?
        };
        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if switches && !is_same_protocol(upgrade.as_ref(), response.headers()) {
            return Err(UpstreamError::protocol(
                "the upstream switched to a protocol not asked for",
            ));
        }
        let home = Some(self.0.home.clone());
        let (parts, incoming) = response.into_parts();
        let body = if switches {
            ResponseBody::of_tunnel(incoming, connection)
        } else {
            ResponseBody::new(parts.status, incoming, connection, home)
        };
        Ok(Response::from_parts(parts, body))
    }

    /// Gets a URL on the upstream's own origin, or with nothing secret in it on another.
    pub(super) async fn get(
        &self,
        url: &Url,
        fields: &HeaderMap,
        marker: &SentMarker,
    ) -> Result<UpstreamResponse, UpstreamError> {
        let unusable = || UpstreamError::unsendable("the url cannot be requested");
        let target = target_of(url).ok_or_else(unusable)?;
        let own = self.is_own(url);
        let answered = if own {
            let head = (Method::GET, target.clone());
            let request = self.0.template.request(head, fields.clone(), CallBody::empty(), None);
            self.exchange(request, DeliveryGuarantee::AtLeastOnce, ConnectionChoice::Any, marker)
                .await?
        } else {
            let request = foreign_get(url, fields).ok_or_else(unusable)?;
            let origin = origin_uri(url).ok_or_else(unusable)?;
            let connection = self.0.dialer.dial(origin, DialPurpose::Exchanges).await?;
            send_new(connection, request, marker).await?
        };
        self.reply(answered, target, own)
    }

    /// Whether a URL is one that may be called: http or https, naming no user, on its own
    /// origin or one that is followed.
    pub(super) fn is_followed(&self, url: &Url) -> bool {
        is_web(url) && (self.is_own(url) || self.0.follow.contains(&url.origin()))
    }

    /// The URL of a target on the upstream.
    pub(super) fn url_of(&self, target: &PathAndQuery) -> Url {
        let mut url = self.0.settings.origin.clone();
        // Not joined: a target that begins with two slashes would name another host.
        url.set_path(target.path());
        url.set_query(target.query());
        url
    }

    pub(super) fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.0.origin
    }

    fn redirect_of(
        &self,
        reply: &UpstreamResponse,
        delivery: DeliveryGuarantee,
        public: &[Url],
    ) -> Option<String> {
        if !redirect::repeats_request(reply.status.as_u16(), delivery) {
            return None;
        }
        let location = reply.fields.get(header::LOCATION)?;
        let home = location::OwnOrigins { upstream: &self.0.settings.origin, public };
        redirect::path_again(location, &self.url_of(&reply.target), home)
    }

    pub(super) async fn dial(
        &self,
        purpose: DialPurpose,
    ) -> Result<UpstreamConnection, UpstreamError> {
        self.0.dialer.dial(self.0.dial_to.clone(), purpose).await
    }

    fn reply(
        &self,
        answered: ResponseHead,
        target: PathAndQuery,
        own: bool,
    ) -> Result<UpstreamResponse, UpstreamError> {
        let ResponseHead { response, connection, is_repeated } = answered;
        let (parts, incoming) = response.into_parts();
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            let unasked = "the upstream switched protocols without being asked";
            return Err(UpstreamError::unreadable(Some(101), unasked));
        }
        let home = own.then(|| self.0.home.clone());
        let body = ResponseBody::new(parts.status, incoming, connection, home);
        let (status, fields, doubt) = (parts.status, parts.headers, Doubt::None);
        Ok(UpstreamResponse { status, fields, body, target, is_repeated, doubt })
    }
}

/// Looks through the pool every second, and closes it when the gateway drains.
fn tend(pool: Weak<UpstreamPool>, clock: Clock, tasks: &Tasks) {
    let lifecycle = tasks.clone();
    tasks.spawn(async move {
        loop {
            let draining = tokio::select! {
                () = lifecycle.draining() => true,
                () = clock.sleep(SWEEP_INTERVAL) => false,
            };
            match pool.upgrade() {
                Some(pool) if draining => return pool.close(),
                Some(pool) => pool.sweep(clock.now()),
                None => return,
            }
        }
    });
}

/// What a field that holds a URI reference means, as answer to a request for `base`.
pub(super) fn resolve(base: &Url, reference: &HeaderValue) -> Option<Url> {
    let mut url = location::joined(base, reference)?;
    url.set_fragment(None);
    Some(url)
}

fn refuse_connect(method: &Method) -> Result<(), UpstreamError> {
    if *method == Method::CONNECT {
        return Err(UpstreamError::unsendable("connect is not passed on"));
    }
    Ok(())
}

fn is_same_protocol(asked: Option<&HeaderValue>, answer: &HeaderMap) -> bool {
    let mut answered = answer.get_all(header::UPGRADE).iter();
    match (asked, answered.next(), answered.next()) {
        (Some(asked), Some(only), None) => asked.as_bytes().eq_ignore_ascii_case(only.as_bytes()),
        _ => false,
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
