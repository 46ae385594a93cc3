//! The test receiver: verifies each delivery, reports it, and answers as configured.
//!
//! It must not know who asked for it: `listen` prints what comes, `demo` waits for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::received_deliveries::{ReceivedDeliveries, ReceivedDelivery};
use crate::hyper_timer::HyperTimer;
use cloakroom_domain::webhooks::signature::VerificationKey;
use cloakroom_runtime::clock::Clock;
use cloakroom_runtime::lifecycle::Tasks;

/// The largest delivery that is read, in bytes.
const LARGEST: usize = 32 << 20;

/// How deliveries are answered.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct ResponseBehavior {
    /// 500 to so many attempts of each delivery, and only then as the rest says.
    pub(in crate::cli) fail: Option<u32>,
    /// The status of an answer.
    pub(in crate::cli) status: StatusCode,
    /// How long each answer takes.
    pub(in crate::cli) slow: Option<Duration>,
    /// The connection is closed instead.
    pub(in crate::cli) drop: bool,
}

impl Default for ResponseBehavior {
    fn default() -> Self {
        Self { fail: None, status: StatusCode::NO_CONTENT, slow: None, drop: false }
    }
}

/// What a delivery got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum DeliveryResponse {
    /// This status.
    Status(StatusCode),
    /// The end of its connection.
    Dropped,
    /// Nothing: its sender hung up, so long after the delivery was read.
    HungUp(Duration),
    /// Nothing: the receiver ended before.
    Ended,
}

/// Is told of each delivery with its answer, and says whether more is wanted.
pub(in crate::cli) type DeliveryObserver =
    Box<dyn Fn(&ReceivedDelivery, DeliveryResponse) -> bool + Send + Sync>;

/// The connection ends without an answer.
#[derive(Debug, thiserror::Error)]
#[error("dropped")]
struct ConnectionDropped;

/// A receiver of webhooks.
pub(in crate::cli) struct TestReceiver {
    manner: ResponseBehavior,
    keys: Vec<VerificationKey>,
    clock: Clock,
    tell: DeliveryObserver,
    book: Mutex<ReceivedDeliveries>,
    /// The last delivery that was wanted has been told.
    last: AtomicBool,
    enough: CancellationToken,
}

impl TestReceiver {
    /// One that believes what any of these keys has signed; everything where there is none.
    pub(in crate::cli) fn new(
        manner: ResponseBehavior,
        keys: Vec<VerificationKey>,
        clock: Clock,
        tell: DeliveryObserver,
    ) -> Self {
        Self {
            manner,
            keys,
            clock,
            tell,
            book: Mutex::default(),
            last: AtomicBool::new(false),
            enough: CancellationToken::new(),
        }
    }

    /// Takes what comes until `tasks` drain.
    pub(in crate::cli) async fn accept(self: Arc<Self>, listener: TcpListener, tasks: Tasks) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = tasks.draining() => return,
            };
            if let Ok((stream, _)) = accepted {
                tasks.spawn_until_cut(Arc::clone(&self).serve(stream, tasks.clone()));
            }
        }
    }

    /// Returns once the last delivery that was wanted has been answered.
    pub(in crate::cli) async fn has_had_enough(&self) {
        self.enough.cancelled().await;
    }

    /// Waits until what is being answered has gone out, for a second or two.
    pub(in crate::cli) async fn until_answered(&self, tasks: &Tasks) {
        tasks.ended(&self.clock, Duration::from_secs(1), Duration::from_secs(1)).await;
    }

    /// How many deliveries were not to be believed.
    pub(in crate::cli) fn unbelieved(&self) -> u64 {
        self.book.lock().unwrap_or_else(PoisonError::into_inner).unbelieved()
    }

    async fn serve(self: Arc<Self>, stream: TcpStream, tasks: Tasks) {
        self.converse(stream, &tasks).await;
        // Only now: the last answer has gone out, or the sender that hung up has been reported.
        if self.last.load(Ordering::SeqCst) {
            self.enough.cancel();
        }
    }

    /// Takes what comes on a connection until it ends, or `tasks` drain.
    async fn converse(&self, stream: TcpStream, tasks: &Tasks) {
        let mut server = hyper::server::conn::http1::Builder::new();
        server.timer(HyperTimer(self.clock.clone()));
        let answer = service_fn(|request| self.answer(request, tasks));
        let connection = server.serve_connection(TokioIo::new(stream), answer);
        tokio::pin!(connection);
        // The sender sees for itself how a connection ended.
        let ended = tokio::select! {
            _ = connection.as_mut() => true,
            () = tasks.draining() => false,
        };
        if !ended {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        tasks: &Tasks,
    ) -> Result<Response<Full<Bytes>>, ConnectionDropped> {
        if request.method() == Method::OPTIONS {
            return Ok(allowing());
        }
        let (head, body) = request.into_parts();
        let body =
            Limited::new(body, LARGEST).collect().await.map_err(|_| ConnectionDropped)?.to_bytes();
        let seen = {
            let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
            book.enter(&head.headers, &body, &self.keys, self.clock.now())
        };
        let answer = self.answer_to(&seen);
        let read = self.clock.elapsed();
        let mut arrival = UnansweredDelivery { receiver: self, tasks, seen, read, told: false };
        if let Some(slow) = self.manner.slow {
            tokio::select! {
                () = self.clock.sleep(slow) => {}
                // The end of the program does not wait for an answer that is delayed on purpose.
                () = tasks.draining() => return Err(ConnectionDropped),
            }
        }
        let mut response = Response::new(Full::new(Bytes::new()));
        if !arrival.tell(answer.map_or(DeliveryResponse::Dropped, DeliveryResponse::Status)) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        *response.status_mut() = answer.ok_or(ConnectionDropped)?;
        Ok(response)
    }

    /// The status that a delivery is answered with; none where it is dropped.
    fn answer_to(&self, seen: &ReceivedDelivery) -> Option<StatusCode> {
        let ResponseBehavior { fail, status, drop, .. } = self.manner;
        if drop {
            return None;
        }
        Some(match fail {
            _ if status == StatusCode::GONE => status,
            _ if seen.trust.is_err() => StatusCode::UNAUTHORIZED,
            Some(times) if seen.times <= times => StatusCode::INTERNAL_SERVER_ERROR,
            _ => status,
        })
    }
}

/// A delivery without its answer yet. Dropping it reports it: when the sender hangs up, the
/// connection takes the answer with it.
struct UnansweredDelivery<'a> {
    receiver: &'a TestReceiver,
    tasks: &'a Tasks,
    seen: ReceivedDelivery,
    /// When it was read, on the receiver's clock.
    read: Duration,
    told: bool,
}

impl UnansweredDelivery<'_> {
    /// Tells of it; whether more is wanted.
    fn tell(&mut self, answer: DeliveryResponse) -> bool {
        self.told = true;
        let more = (self.receiver.tell)(&self.seen, answer);
        if !more {
            self.receiver.last.store(true, Ordering::SeqCst);
        }
        more
    }
}

impl Drop for UnansweredDelivery<'_> {
    fn drop(&mut self) {
        if self.told {
            return;
        }
        let waited = self.receiver.clock.elapsed().saturating_sub(self.read);
        let ending = self.tasks.is_draining();
        self.tell(if ending { DeliveryResponse::Ended } else { DeliveryResponse::HungUp(waited) });
    }
}

/// What `CloudEvents` asks for before it sends anything.
fn allowing() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    for name in ["webhook-allowed-origin", "webhook-allowed-rate"] {
        response.headers_mut().insert(name, HeaderValue::from_static("*"));
    }
    response
}
