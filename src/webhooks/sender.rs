//! One attempt: a message to a receiver, and what came of it.
//!
//! Owns the time that an attempt may take as a whole: looking up, connecting, sending and
//! the head of the answer within [`SenderSettings::timeout`]; then, within the same time
//! and at most two seconds of it, the beginning of the body. The status decides, so a body
//! that drips or never ends does not turn a success into a failure.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue};
use http::{Method, Response};
use hyper::body::Incoming;

use super::connection::{Connection, Outgoing, Unanswered};
use super::dial::{Dialer, Failed, Progress, Trust, code_of, story};
use super::pool::{Pool, SWEEP};
use super::response_excerpt::Beginning;
use super::signer::{self, Message, Signers};
use super::ssrf_guard::Guard;
use cloakroom_domain::Timestamp;
use cloakroom_domain::delivery::cloud_event::{self, Permission, REQUEST_ORIGIN};
use cloakroom_domain::delivery::{DeliveryError, Destination};
use cloakroom_domain::http::retry_after::RetryAfter;
use cloakroom_runtime::clock::Clock;
use cloakroom_runtime::lifecycle::Tasks;

/// How long the body of an answer is read.
const BODY: Duration = Duration::from_secs(2);

/// How attempts are made.
#[derive(Clone, Debug)]
pub struct SenderSettings {
    /// How long an attempt may take as a whole.
    pub timeout: Duration,
    /// What marks requests as this gateway's: `CDN-Loop`.
    pub mark: HeaderValue,
    /// Which certificate authorities are trusted.
    pub trust: Trust,
}

/// Where a message goes, and how it is signed for it.
#[derive(Debug)]
pub struct Target {
    /// The URL as it was registered: it is judged anew on every attempt.
    pub url: String,
    /// What the subscriber adds.
    pub fields: HeaderMap,
    /// What signs it.
    pub signers: Signers,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempted {
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// What went wrong; nothing if the status is a 2xx.
    pub error: Option<DeliveryError>,
    /// The story behind [`Attempted::error`] where there was no answer: for people, without
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

impl Attempted {
    /// Whether the message was delivered.
    pub const fn is_success(&self) -> bool {
        self.error.is_none()
    }
}

/// What came of asking a receiver whether it wants deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The request and its answer.
    pub attempted: Attempted,
    /// What it allows; none unless it said so.
    pub permission: Option<Permission>,
}

/// Makes attempts. Clones share connections.
#[derive(Clone, Debug)]
pub struct Sender(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    guard: Arc<Guard>,
    dialer: Dialer,
    pool: Arc<Pool>,
    settings: SenderSettings,
    clock: Clock,
}

impl Sender {
    /// A sender that goes only where the guard lets it. Its idle connections end when
    /// `tasks` drain.
    pub fn new(guard: Arc<Guard>, settings: SenderSettings, clock: Clock, tasks: &Tasks) -> Self {
        let trust = settings.trust.clone();
        let dialer = Dialer::new(Arc::clone(&guard), trust, clock.clone(), tasks.clone());
        let pool = Arc::new(Pool::default());
        tend(Arc::downgrade(&pool), clock.clone(), tasks);
        Self(Arc::new(Parts { guard, dialer, pool, settings, clock }))
    }

    /// Delivers a message to one receiver, signed as of `now`.
    pub async fn send(&self, message: &Message, target: &Target, now: Timestamp) -> Attempted {
        let fields = message.fields(&target.fields, &target.signers, now);
        let outgoing = Outgoing { method: Method::POST, fields, body: message.body() };
        Box::pin(self.attempt(target, outgoing, now)).await.0
    }

    /// Asks a receiver whether it wants deliveries from `origin`, the name by which this
    /// gateway is known: the handshake of `CloudEvents`.
    pub async fn ask_permission(&self, target: &Target, origin: &str, now: Timestamp) -> Asked {
        let mut fields = signer::asking(&target.fields);
        if let Ok(origin) = HeaderValue::from_str(origin) {
            fields.insert(REQUEST_ORIGIN, origin);
        }
        let outgoing = Outgoing { method: Method::OPTIONS, fields, body: Bytes::new() };
        let (attempted, fields) = Box::pin(self.attempt(target, outgoing, now)).await;
        let allowed = fields.filter(|_| attempted.is_success());
        let permission = allowed.and_then(|fields| cloud_event::permission(&fields, origin));
        Asked { attempted, permission }
    }

    async fn attempt(
        &self,
        target: &Target,
        mut outgoing: Outgoing,
        now: Timestamp,
    ) -> (Attempted, Option<HeaderMap>) {
        let Parts { guard, clock, settings, .. } = &*self.0;
        let began = clock.elapsed();
        let spent = || clock.elapsed().saturating_sub(began);
        let to = match guard.parse(&target.url) {
            Ok(to) => to,
            Err(bad) => {
                let refused = super::ssrf_guard::Refused::from(bad);
                let failed = Failed::new(refused.code(), refused.to_string());
                return (unanswered(failed, spent()), None);
            }
        };
        signer::mark(&mut outgoing.fields, &settings.mark);
        let progress = Progress::default();
        let exchange = self.exchange(&to, &outgoing, &progress);
        let answered = clock.timeout(settings.timeout, exchange).await.unwrap_or_else(|_| {
            let limit = settings.timeout.as_secs_f64();
            Err(Failed::new(progress.when_late(), format!("not within {limit} s")))
        });
        match answered {
            Err(failed) => {
                let is_own = progress.was_short();
                (Attempted { is_own, ..unanswered(failed, spent()) }, None)
            }
            Ok((answer, connection)) => {
                let left = settings.timeout.saturating_sub(spent()).min(BODY);
                let (head, excerpt, is_cut) = self.read(&to, answer, connection, left).await;
                let attempted = Attempted {
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
        mut connection: Connection,
        limit: Duration,
    ) -> (http::response::Parts, Bytes, bool) {
        let Parts { clock, pool, .. } = &*self.0;
        let (head, body) = answer.into_parts();
        let mut beginning = Beginning::default();
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
        outgoing: &Outgoing,
        progress: &Progress,
    ) -> Result<(Response<Incoming>, Connection), Failed> {
        let Parts { pool, clock, dialer, .. } = &*self.0;
        let origin = to.origin();
        while let Some(mut connection) = pool.take(&origin, clock.now()) {
            progress.connected();
            match connection.send(to, outgoing).await {
                Ok(answer) => return accepted(answer, connection),
                // The receiver had closed it meanwhile.
                Err(Unanswered::Unsent) => {}
                // It may have the message, which it knows by its id if it comes once more.
                Err(Unanswered::Stale(_)) => break,
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
    connection: Connection,
) -> Result<(Response<Incoming>, Connection), Failed> {
    if answer.status().is_informational() {
        return Err(Failed::new(DeliveryError::Protocol, "it switched to another protocol"));
    }
    Ok((answer, connection))
}

impl From<Unanswered> for Failed {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Unsent => Self::new(DeliveryError::Reset, "closed at once"),
            Unanswered::Broken(error) | Unanswered::Stale(error) => {
                Self::new(code_of(&error), story(&error))
            }
            Unanswered::Unreadable(fault) => Self::new(DeliveryError::Protocol, fault.to_string()),
            Unanswered::Unwritable => {
                Self::new(DeliveryError::RefusedUrl, "the URL cannot be requested")
            }
        }
    }
}

fn unanswered(failed: Failed, duration: Duration) -> Attempted {
    Attempted {
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
fn tend(pool: Weak<Pool>, clock: Clock, tasks: &Tasks) {
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
