//! One exchange with an upstream: a request and the head of its response.
//!
//! Owns when a request is sent again at once: nothing of it was written, or it may be sent twice and
//! the reused connection had ended. Its invariant: the second one uses a new connection, so it happens
//! at most once.

use std::sync::atomic::{AtomicBool, Ordering};

use http::{Request, Response};
use hyper::body::Incoming;

use super::body::CallBody;
use super::client::Upstream;
use super::connection::{UpstreamConnection, UpstreamSendError};
use super::dial::DialPurpose;
use super::error::{SentMarker, UpstreamError};
use super::reply::PoolHandle;
use cloakroom_domain::operation::{DeliveryGuarantee, SendState};

/// The head of an answer, and the connection on which its body comes.
pub(super) struct ResponseHead {
    pub(super) response: Response<Incoming>,
    pub(super) connection: UpstreamConnection,
    /// Whether the request went out before, on a used connection that had ended.
    pub(super) is_repeated: bool,
}

impl ResponseHead {
    const fn first(response: Response<Incoming>, connection: UpstreamConnection) -> Self {
        Self { response, connection, is_repeated: false }
    }
}

/// The connections that a request may use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionChoice {
    /// One that was used before, if one suits.
    Any,
    /// A new one.
    New,
}

/// The reason why there is no response.
pub(super) enum ExchangeError {
    /// Nothing was sent to a used connection, and the request is not at hand any more.
    Unsent(UpstreamError),
    /// A used connection had ended, and the request may be sent anew, but is not at hand any more.
    Stale(UpstreamError),
    /// The call failed.
    Failed(UpstreamError),
}

impl From<UpstreamError> for ExchangeError {
    fn from(broken: UpstreamError) -> Self {
        Self::Failed(broken)
    }
}

impl From<ExchangeError> for UpstreamError {
    fn from(missed: ExchangeError) -> Self {
        match missed {
            ExchangeError::Unsent(broken)
            | ExchangeError::Stale(broken)
            | ExchangeError::Failed(broken) => broken,
        }
    }
}

impl Upstream {
    /// Sends a request and waits for the head of its answer.
    pub(super) async fn exchange(
        &self,
        request: Request<CallBody>,
        delivery: DeliveryGuarantee,
        which: ConnectionChoice,
        marker: &SentMarker,
    ) -> Result<ResponseHead, ExchangeError> {
        let request = match which {
            ConnectionChoice::Any => match self.on_used(request, delivery, marker).await? {
                ReuseResult::Response(answered) => return Ok(self.looked_at(answered)),
                ReuseResult::None(request) => *request,
                ReuseResult::Stale(request) => {
                    // The upstream may have seen the first one, whatever becomes of this.
                    let sent = |broken: UpstreamError| UpstreamError {
                        sent: SendState::Perhaps,
                        ..broken
                    };
                    let answered = self.on_new(*request, marker).await.map_err(sent)?;
                    return Ok(self.looked_at(ResponseHead { is_repeated: true, ..answered }));
                }
            },
            ConnectionChoice::New => request,
        };
        Ok(self.looked_at(self.on_new(request, marker).await?))
    }

    /// Tries connections that were used before.
    async fn on_used(
        &self,
        mut request: Request<CallBody>,
        delivery: DeliveryGuarantee,
        marker: &SentMarker,
    ) -> Result<ReuseResult, ExchangeError> {
        let PoolHandle { pool, clock } = &self.0.home;
        let may_repeat = delivery == DeliveryGuarantee::AtLeastOnce;
        while let Some(mut connection) = pool.take(clock.now(), delivery) {
            let spare = another(&request);
            if spare.is_none() {
                // Lets the runtime look at its sockets: where the end of this connection has come,
                // the request is given back.
                tokio::task::yield_now().await;
            }
            match connection.send(request, marker).await {
                Ok(response) => {
                    return Ok(ReuseResult::Response(ResponseHead::first(response, connection)));
                }
                Err(UpstreamSendError::Failed(broken)) => return Err(broken.into()),
                Err(UpstreamSendError::Unsent(back)) => {
                    pool.saw_closed(clock.now());
                    request = *back;
                }
                Err(UpstreamSendError::Untouched(broken)) => {
                    pool.saw_closed(clock.now());
                    request = spare.ok_or(ExchangeError::Unsent(broken))?;
                }
                Err(UpstreamSendError::Stale(broken)) => {
                    pool.saw_closed(clock.now());
                    return match spare {
                        _ if !may_repeat => Err(broken.into()),
                        Some(spare) => Ok(ReuseResult::Stale(Box::new(spare))),
                        None => Err(ExchangeError::Stale(broken)),
                    };
                }
            }
        }
        Ok(ReuseResult::None(Box::new(request)))
    }

    async fn on_new(
        &self,
        request: Request<CallBody>,
        marker: &SentMarker,
    ) -> Result<ResponseHead, UpstreamError> {
        send_new(self.dial(DialPurpose::Exchanges).await?, request, marker).await
    }

    fn looked_at(&self, answered: ResponseHead) -> ResponseHead {
        self.0.oddities.tell(&self.0.settings.name, answered.connection.repairs());
        answered
    }
}

/// The result of trying idle connections.
enum ReuseResult {
    Response(ResponseHead),
    /// There is none that may be used; the request is untouched.
    None(Box<Request<CallBody>>),
    /// One had ended; this is the same request once more.
    Stale(Box<Request<CallBody>>),
}

/// Sends a request on a new connection.
pub(super) async fn send_new(
    mut connection: UpstreamConnection,
    request: Request<CallBody>,
    marker: &SentMarker,
) -> Result<ResponseHead, UpstreamError> {
    match connection.send(request, marker).await {
        Ok(response) => Ok(ResponseHead::first(response, connection)),
        Err(
            UpstreamSendError::Failed(broken)
            | UpstreamSendError::Stale(broken)
            | UpstreamSendError::Untouched(broken),
        ) => Err(broken),
        Err(UpstreamSendError::Unsent(_)) => {
            Err(UpstreamError::unreachable(match connection.fault() {
                Some(fault) => fault.to_string(),
                None => "the upstream closed the new connection at once".to_owned(),
            }))
        }
    }
}

/// The same request once more, where its body is at hand.
fn another(request: &Request<CallBody>) -> Option<Request<CallBody>> {
    let mut another = Request::new(request.body().at_hand()?);
    *another.method_mut() = request.method().clone();
    *another.uri_mut() = request.uri().clone();
    *another.headers_mut() = request.headers().clone();
    Some(another)
}

/// Warns once that an upstream's responses have malformed field lines, so that the log is not
/// full of it.
#[derive(Debug, Default)]
pub(super) struct HeadRepairLog(AtomicBool);

impl HeadRepairLog {
    fn tell(&self, upstream: &str, lines: usize) {
        if lines == 0 {
            return;
        }
        if self.0.swap(true, Ordering::Relaxed) {
            tracing::debug!(upstream, lines, "field lines of an answer were put right or left out");
        } else {
            tracing::warn!(
                upstream,
                lines,
                "field lines of an answer were put right or left out, and its connection is not \
                 used again: see what the upstream writes into the head of its answers; further \
                 ones are told at the level debug"
            );
        }
    }
}
