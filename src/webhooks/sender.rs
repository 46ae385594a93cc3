//! The sender: one attempt to deliver a message to a receiver.
//!
//! Owns the timeout of an attempt: the lookup, connecting, sending and the head of the response
//! share [`SenderSettings::timeout`]; the beginning of the body is read within the same time, for
//! at most two seconds. The status decides, so a body
//! that drips or never ends does not turn a success into a failure.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue};
use http::{Method, Response};
use hyper::body::Incoming;

use super::connection::{DeliveryRequest, ReceiverConnection, ReceiverExchangeError};
use super::dial::{AttemptProgress, ReceiverDialer, SendError, Trust, code_of, story};
use super::pool::{ReceiverPool, SWEEP};
use super::response_excerpt::ResponseExcerpt;
use super::signer::{self, SigningKeys, WebhookMessage};
use super::ssrf_guard::SsrfGuard;
use cloakroom_domain::Timestamp;
use cloakroom_domain::http::retry_after::RetryAfter;
use cloakroom_domain::webhooks::cloud_event::{self, Permission, REQUEST_ORIGIN};
use cloakroom_domain::webhooks::{DeliveryError, Destination};
use cloakroom_runtime::clock::Clock;
use cloakroom_runtime::lifecycle::Tasks;

/// How long the body of an answer is read.
const BODY: Duration = Duration::from_secs(2);

/// How attempts are made.
#[derive(Clone, Debug)]
pub struct SenderSettings {
    /// How long an attempt may take as a whole.
    pub timeout: Duration,
    /// The mark of this gateway's requests: `CDN-Loop`.
    pub mark: HeaderValue,
    /// Which certificate authorities are trusted.
    pub trust: Trust,
}

/// Where a message goes, and how it is signed for it.
#[derive(Debug)]
pub struct Target {
    /// The URL as it was registered: it is judged anew on every attempt.
    pub url: String,
    /// The header fields that the subscriber adds.
    pub fields: HeaderMap,
    /// The keys that sign the message.
    pub signers: SigningKeys,
}

/// The result of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryAttemptResult {
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// The error; none if the status is a 2xx.
    pub error: Option<DeliveryError>,
    /// The story behind [`DeliveryAttemptResult::error`] where there was no answer: for people, without
    /// any octet of the message.
    pub detail: Option<String>,
    /// How long the receiver asks to be left alone, whatever its status.
    pub retry_after: Option<Duration>,
    /// How long it took.
    pub duration: Duration,
    /// How the body of the answer began: at most 1 KiB.
    pub excerpt: Bytes,
    /// Whether the answer was cut off, because it was long, slow or endless.
    pub is_cut: bool,
    /// Whether this process had no files left to connect with, which says nothing of the
    /// receiver.
    pub is_own: bool,
}

impl DeliveryAttemptResult {
    /// Whether the message was delivered.
    pub const fn is_success(&self) -> bool {
        self.error.is_none()
    }
}

/// The answer of a receiver to the question whether it wants deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermissionReply {
    /// The request and its answer.
    pub attempted: DeliveryAttemptResult,
    /// The permission that it gave, if any.
    pub permission: Option<Permission>,
}

/// Makes attempts. Clones share connections.
#[derive(Clone, Debug)]
pub struct WebhookSender(Arc<SenderState>);

#[derive(Debug)]
struct SenderState {
    guard: Arc<SsrfGuard>,
    dialer: ReceiverDialer,
    pool: Arc<ReceiverPool>,
    settings: SenderSettings,
    clock: Clock,
}

impl WebhookSender {
    /// A sender that goes only where the guard lets it. Its idle connections end when
    /// `tasks` drain.
    pub fn new(
        guard: Arc<SsrfGuard>,
        settings: SenderSettings,
        clock: Clock,
        tasks: &Tasks,
    ) -> Self {
        let trust = settings.trust.clone();
        let dialer = ReceiverDialer::new(Arc::clone(&guard), trust, clock.clone(), tasks.clone());
        let pool = Arc::new(ReceiverPool::default());
        tend(Arc::downgrade(&pool), clock.clone(), tasks);
        Self(Arc::new(SenderState { guard, dialer, pool, settings, clock }))
    }

    /// Delivers a message to one receiver, signed as of `now`.
    pub async fn send(
        &self,
        message: &WebhookMessage,
        target: &Target,
        now: Timestamp,
    ) -> DeliveryAttemptResult {
        let fields = message.fields(&target.fields, &target.signers, now);
        let outgoing = DeliveryRequest { method: Method::POST, fields, body: message.body() };
        Box::pin(self.attempt(target, outgoing, now)).await.0
    }

    /// Asks a receiver whether it wants deliveries from `origin`, the name by which this
    /// gateway is known: the handshake of `CloudEvents`.
    pub async fn ask_permission(
        &self,
        target: &Target,
        origin: &str,
        now: Timestamp,
    ) -> PermissionReply {
        let mut fields = signer::asking(&target.fields);
        if let Ok(origin) = HeaderValue::from_str(origin) {
            fields.insert(REQUEST_ORIGIN, origin);
        }
        let outgoing = DeliveryRequest { method: Method::OPTIONS, fields, body: Bytes::new() };
        let (attempted, fields) = Box::pin(self.attempt(target, outgoing, now)).await;
        let allowed = fields.filter(|_| attempted.is_success());
        let permission = allowed.and_then(|fields| cloud_event::permission(&fields, origin));
        PermissionReply { attempted, permission }
    }

    async fn attempt(
        &self,
        target: &Target,
        mut outgoing: DeliveryRequest,
        now: Timestamp,
    ) -> (DeliveryAttemptResult, Option<HeaderMap>) {
        let SenderState { guard, clock, settings, .. } = &*self.0;
        let began = clock.elapsed();
        let spent = || clock.elapsed().saturating_sub(began);
        let to = match guard.parse(&target.url) {
            Ok(to) => to,
            Err(bad) => {
                let refused = super::ssrf_guard::GuardRefusal::from(bad);
                let failed = SendError::new(refused.code(), refused.to_string());
                return (unanswered(failed, spent()), None);
            }
        };
        signer::mark(&mut outgoing.fields, &settings.mark);
        let progress = AttemptProgress::default();
        let exchange = self.exchange(&to, &outgoing, &progress);
        let answered = clock.timeout(settings.timeout, exchange).await.unwrap_or_else(|_| {
            let limit = settings.timeout.as_secs_f64();
            Err(SendError::new(progress.when_late(), format!("not within {limit} s")))
        });
        match answered {
            Err(failed) => {
                let is_own = progress.was_short();
                (DeliveryAttemptResult { is_own, ..unanswered(failed, spent()) }, None)
            }
            Ok((answer, connection)) => {
                let left = settings.timeout.saturating_sub(spent()).min(BODY);
                let (head, excerpt, is_cut) = self.read(&to, answer, connection, left).await;
                let attempted = DeliveryAttemptResult {
                    status: Some(head.status.as_u16()),
                    error: DeliveryError::of_status(head.status.as_u16()),
                    detail: None,
                    retry_after: RetryAfter::of(&head.headers, now).wait(),
                    duration: spent(),
                    excerpt,
                    is_cut,
                    is_own: false,
                };
                (attempted, Some(head.headers))
            }
        }
    }

    /// Reads how the body begins, and whether there was more; the connection is kept if that
    /// was all.
    async fn read(
        &self,
        to: &Destination,
        answer: Response<Incoming>,
        mut connection: ReceiverConnection,
        limit: Duration,
    ) -> (http::response::Parts, Bytes, bool) {
        let SenderState { clock, pool, .. } = &*self.0;
        let (head, body) = answer.into_parts();
        let mut beginning = ResponseExcerpt::default();
        let whole = async {
            beginning.read(body).await;
            if beginning.is_whole() {
                connection.finish().await;
            }
            beginning.is_whole()
        };
        let is_whole = clock.timeout(limit, whole).await.unwrap_or(false);
        // What is shared is in the pool already.
        if is_whole && connection.share().is_none() {
            pool.put(&to.origin(), connection, clock.now());
        }
        (head, beginning.into_excerpt(), !is_whole)
    }

    async fn exchange(
        &self,
        to: &Destination,
        outgoing: &DeliveryRequest,
        progress: &AttemptProgress,
    ) -> Result<(Response<Incoming>, ReceiverConnection), SendError> {
        let SenderState { pool, clock, dialer, .. } = &*self.0;
        let origin = to.origin();
        while let Some(mut connection) = pool.take(&origin, clock.now()) {
            progress.connected();
            match connection.send(to, outgoing).await {
                Ok(answer) => return accepted(answer, connection),
                // The receiver had closed it meanwhile.
                Err(ReceiverExchangeError::Unsent) => {}
                // It may have the message, which it knows by its id if it comes once more.
                Err(ReceiverExchangeError::Stale(_)) => break,
                Err(broken) => return Err(broken.into()),
            }
        }
        // Apart, so that the many exchanges on a connection that is there carry no room for it.
        let mut connection = Box::pin(dialer.dial(to, progress)).await?;
        if let Some(shared) = connection.share() {
            pool.put(&origin, shared, clock.now());
        }
        progress.connected();
        let answer = connection.send(to, outgoing).await?;
        accepted(answer, connection)
    }
}

/// An answer that switches protocols was not asked for.
fn accepted(
    answer: Response<Incoming>,
    connection: ReceiverConnection,
) -> Result<(Response<Incoming>, ReceiverConnection), SendError> {
    if answer.status().is_informational() {
        return Err(SendError::new(DeliveryError::Protocol, "it switched to another protocol"));
    }
    Ok((answer, connection))
}

impl From<ReceiverExchangeError> for SendError {
    fn from(unanswered: ReceiverExchangeError) -> Self {
        match unanswered {
            ReceiverExchangeError::Unsent => Self::new(DeliveryError::Reset, "closed at once"),
            ReceiverExchangeError::Broken(error) | ReceiverExchangeError::Stale(error) => {
                Self::new(code_of(&error), story(&error))
            }
            ReceiverExchangeError::Unreadable(fault) => {
                Self::new(DeliveryError::Protocol, fault.to_string())
            }
            ReceiverExchangeError::Unwritable => {
                Self::new(DeliveryError::RefusedUrl, "the URL cannot be requested")
            }
        }
    }
}

fn unanswered(failed: SendError, duration: Duration) -> DeliveryAttemptResult {
    DeliveryAttemptResult {
        status: None,
        error: Some(failed.code),
        detail: Some(failed.detail),
        retry_after: None,
        duration,
        excerpt: Bytes::new(),
        is_cut: false,
        is_own: false,
    }
}

/// Looks through the pool every second, and closes it when the gateway drains.
fn tend(pool: Weak<ReceiverPool>, clock: Clock, tasks: &Tasks) {
    let lifecycle = tasks.clone();
    tasks.spawn(async move {
        loop {
            let draining = tokio::select! {
                () = lifecycle.draining() => true,
                () = clock.sleep(SWEEP) => false,
            };
            match pool.upgrade() {
                Some(pool) if draining => return pool.close(),
                Some(pool) => pool.sweep(clock.now()),
                None => return,
            }
        }
    });
}
