//! A request and the head of its answer, over a connection that was used before or a new one.
//!
//! Owns when a request goes out anew at once: nothing of it was written, or it may be sent
//! twice and a used connection had ended. Its invariant: that happens onto a new connection, so
//! at most once.

use std::sync::atomic::{AtomicBool, Ordering};

use http::{Request, Response};
use hyper::body::Incoming;

use super::body::CallBody;
use super::broken::{Broken, SentMarker};
use super::client::Upstream;
use super::connection::{Connection, Unanswered};
use super::dial::Purpose;
use super::reply::Home;
use cloakroom_domain::operation::{Delivery, Sent};

/// The head of an answer, and the connection on which its body comes.
pub(super) struct Answered {
    pub(super) response: Response<Incoming>,
    pub(super) connection: Connection,
    /// Whether the request went out before, on a used connection that had ended.
    pub(super) is_repeated: bool,
}

impl Answered {
    const fn first(response: Response<Incoming>, connection: Connection) -> Self {
        Self { response, connection, is_repeated: false }
    }
}

/// Which connections a request may go onto.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// One that was used before, if one suits.
    Any,
    /// A new one.
    New,
}

/// There is no answer.
pub(super) enum Missed {
    /// Nothing was sent to a used connection, and the request is not at hand any more.
    Unsent(Broken),
    /// A used connection had ended, and the request may be sent anew, but is not at hand any more.
    Stale(Broken),
    /// What went wrong is for the caller to judge.
    Broken(Broken),
}

impl From<Broken> for Missed {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl From<Missed> for Broken {
    fn from(missed: Missed) -> Self {
        match missed {
            Missed::Unsent(broken) | Missed::Stale(broken) | Missed::Broken(broken) => broken,
        }
    }
}

impl Upstream {
    /// Sends a request and waits for the head of its answer.
    pub(super) async fn exchange(
        &self,
        request: Request<CallBody>,
        delivery: Delivery,
        which: Which,
        marker: &SentMarker,
    ) -> Result<Answered, Missed> {
        let request = match which {
            Which::Any => match self.on_used(request, delivery, marker).await? {
                Used::Answered(answered) => return Ok(self.looked_at(answered)),
                Used::None(request) => *request,
                Used::Stale(request) => {
                    // The upstream may have seen the first one, whatever becomes of this.
                    let sent = |broken: Broken| Broken { sent: Sent::Perhaps, ..broken };
                    let answered = self.on_new(*request, marker).await.map_err(sent)?;
                    return Ok(self.looked_at(Answered { is_repeated: true, ..answered }));
                }
            },
            Which::New => request,
        };
        Ok(self.looked_at(self.on_new(request, marker).await?))
    }

    /// Tries connections that were used before.
    async fn on_used(
        &self,
        mut request: Request<CallBody>,
        delivery: Delivery,
        marker: &SentMarker,
    ) -> Result<Used, Missed> {
        let Home { pool, clock } = &self.0.home;
        let may_repeat = delivery == Delivery::AtLeastOnce;
        while let Some(mut connection) = pool.take(clock.now(), delivery) {
            let spare = another(&request);
            if spare.is_none() {
                // Lets the runtime look at its sockets: where the end of this connection has come,
                // the request is given back.
                tokio::task::yield_now().await;
            }
            match connection.send(request, marker).await {
                Ok(response) => return Ok(Used::Answered(Answered::first(response, connection))),
                Err(Unanswered::Broken(broken)) => return Err(broken.into()),
                Err(Unanswered::Unsent(back)) => {
                    pool.saw_closed(clock.now());
                    request = *back;
                }
                Err(Unanswered::Untouched(broken)) => {
                    pool.saw_closed(clock.now());
                    request = spare.ok_or(Missed::Unsent(broken))?;
                }
                Err(Unanswered::Stale(broken)) => {
                    pool.saw_closed(clock.now());
                    return match spare {
                        _ if !may_repeat => Err(broken.into()),
                        Some(spare) => Ok(Used::Stale(Box::new(spare))),
                        None => Err(Missed::Stale(broken)),
                    };
                }
            }
        }
        Ok(Used::None(Box::new(request)))
    }

    async fn on_new(
        &self,
        request: Request<CallBody>,
        marker: &SentMarker,
    ) -> Result<Answered, Broken> {
        send_new(self.dial(Purpose::Exchanges).await?, request, marker).await
    }

    fn looked_at(&self, answered: Answered) -> Answered {
        self.0.oddities.tell(&self.0.settings.name, answered.connection.repairs());
        answered
    }
}

/// What came of trying connections that were used before.
enum Used {
    Answered(Answered),
    /// There is none that may be used; the request is untouched.
    None(Box<Request<CallBody>>),
    /// One had ended; this is the same request once more.
    Stale(Box<Request<CallBody>>),
}

/// Sends a request on a new connection.
pub(super) async fn send_new(
    mut connection: Connection,
    request: Request<CallBody>,
    marker: &SentMarker,
) -> Result<Answered, Broken> {
    match connection.send(request, marker).await {
        Ok(response) => Ok(Answered::first(response, connection)),
        Err(
            Unanswered::Broken(broken) | Unanswered::Stale(broken) | Unanswered::Untouched(broken),
        ) => Err(broken),
        Err(Unanswered::Unsent(_)) => Err(Broken::unreachable(match connection.fault() {
            Some(fault) => fault.to_string(),
            None => "the upstream closed the new connection at once".to_owned(),
        })),
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

/// Says once that an upstream's answers have odd lines, so that a log is not full of it.
#[derive(Debug, Default)]
pub(super) struct Oddities(AtomicBool);

impl Oddities {
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
