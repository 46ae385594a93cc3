//! The listener: sockets, connections and the time limits of a client.
//!
//! Owns everything between `bind` and a parsed request, for both listeners. Its invariant: no client
//! holds a connection for longer than the limits allow without sending or getting a response. It must
//! not know what is asked or answered.

mod bind;
mod body;
mod content_length;
mod deadline_timer;
mod disconnect;
mod exchange;
mod head_error;
mod keepalive;
mod panic;
mod socket;
mod trace;
mod write_timeout;

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use http::{Request, Response};
use http_body::Body;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::Service;

use crate::config::ServerConfig;
use crate::hyper_timer::HyperTimer;
pub use bind::{BindError, advice};
pub use body::{IncomingBody, ReceiveError};
use cloakroom_runtime::clock::Clock;
use cloakroom_runtime::lifecycle::Tasks;
use exchange::Exchanges;
pub use panic::PanicLayer;
pub use socket::ExchangeGuard;
use socket::{ActiveExchanges, Socket};
pub use trace::{TracedBody, request_trace};

/// How long to wait after the system refused to hand out a connection (no descriptors
/// left, as a rule): trying again at once would only burn time.
const BREATH: Duration = Duration::from_millis(100);

/// How much and how long a peer may take.
#[derive(Clone, Debug)]
pub struct ListenerLimits {
    /// The largest header section, in octets: 431 past it.
    pub max_headers: usize,
    /// The largest body that is accepted, in octets, for who announces more than can be counted.
    pub max_body: usize,
    /// How long a header section may take.
    pub header_timeout: Duration,
    /// How long a connection is kept without a request.
    pub idle_timeout: Duration,
    /// The longest pause between two pieces of a request's body.
    pub body_timeout: Duration,
    /// How long a request's body may take as a whole.
    pub body_deadline: Duration,
    /// How long a client may take nothing of an answer.
    pub write_timeout: Duration,
    /// How many connections are open at once; the next ones wait to be taken.
    pub max_connections: Option<usize>,
}

impl From<&ServerConfig> for ListenerLimits {
    fn from(server: &ServerConfig) -> Self {
        Self {
            max_headers: server.max_headers,
            max_body: server.max_body,
            header_timeout: server.header_timeout,
            idle_timeout: server.idle_timeout,
            body_timeout: server.body_timeout,
            body_deadline: server.body_deadline,
            write_timeout: server.write_timeout,
            max_connections: server.max_connections,
        }
    }
}

/// A socket that listens.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Listens. `setting` is what chooses the address, for the error.
    pub async fn bind(address: SocketAddr, setting: &'static str) -> Result<Self, BindError> {
        let refused = |why| BindError { address, setting, why };
        let socket = bind::bind(address).await.map_err(refused)?;
        let address = socket.local_addr().map_err(refused)?;
        Ok(Self { socket, address })
    }

    /// The address that is really listened on: the port is never 0.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Takes connections until `tasks` drain, and answers their requests with `service`.
    /// Connections then finish what they are at; cutting drops them.
    pub async fn serve<S, B>(self, service: S, limits: ListenerLimits, clock: Clock, tasks: Tasks)
    where
        S: Service<Request<IncomingBody>, Response = Response<B>, Error = Infallible>,
        S: Clone + Send + 'static,
        S::Future: Send,
        B: Body<Data: Send, Error: Into<BoxError> + Send> + Send + 'static,
    {
        let places = limits.max_connections.map(|most| Arc::new(Semaphore::new(most)));
        let limits = Arc::new(limits);
        let begin = |(stream, peer, place)| {
            let connection = ClientConnection {
                stream,
                peer,
                place,
                clock: clock.clone(),
                limits: limits.clone(),
            };
            tasks.spawn_until_cut(connection.serve(service.clone(), tasks.clone()));
        };
        loop {
            tokio::select! {
                () = tasks.draining() => break,
                taken = next(&self.socket, places.as_ref(), &clock) => taken.map_or((), begin),
            }
        }
        // Connections that arrived meanwhile are accepted: the system would reset them.
        for _ in 0..BACKLOG {
            match next(&self.socket, places.as_ref(), &clock).now_or_never() {
                Some(taken) => taken.map_or((), begin),
                None => return,
            }
        }
    }
}

/// The most connections that the system keeps until they are taken.
const BACKLOG: usize = 1024;

/// hyper's idea of an error.
type BoxError = Box<dyn Error + Send + Sync>;

type AcceptedConnection = (TcpStream, SocketAddr, Option<OwnedSemaphorePermit>);

/// The next connection, once there is a place for it.
async fn next(
    socket: &TcpListener,
    places: Option<&Arc<Semaphore>>,
    clock: &Clock,
) -> Option<AcceptedConnection> {
    let place = match places {
        Some(places) => places.clone().acquire_owned().await.ok(),
        None => None,
    };
    match socket.accept().await {
        Ok((stream, peer)) => Some((stream, peer, place)),
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted; raise the limit of open files if this repeats");
            clock.sleep(BREATH).await;
            None
        }
    }
}

struct ClientConnection {
    stream: TcpStream,
    peer: SocketAddr,
    place: Option<OwnedSemaphorePermit>,
    clock: Clock,
    limits: Arc<ListenerLimits>,
}

impl ClientConnection {
    async fn serve<S, B>(self, service: S, tasks: Tasks)
    where
        S: Service<Request<IncomingBody>, Response = Response<B>, Error = Infallible>,
        S: Clone + Send + 'static,
        S::Future: Send,
        B: Body<Data: Send, Error: Into<BoxError> + Send> + Send + 'static,
    {
        let Self { stream, peer, place, clock, limits } = self;
        // Answers are written whole; waiting for more to send would only delay them.
        let _ = stream.set_nodelay(true);
        keepalive::watch(&stream, limits.write_timeout);
        let active = Arc::new(ActiveExchanges::of(place));
        let socket = Socket::new(stream, active.clone(), clock.clone(), &limits);
        let max_headers = limits.max_headers;
        let exchanges = Exchanges { service, peer, active, clock: clock.clone(), limits };
        let connection = http1::Builder::new()
            .timer(HyperTimer(clock))
            // The socket keeps the times of heads and pauses: one limit for both would not do.
            .header_read_timeout(None)
            // A client that has said all may end its side and still wait for the answer; whether
            // it has left is the socket's to find out.
            .half_close(true)
            .max_header_size(max_headers)
            .max_buf_size(max_headers.max(SMALLEST_BUFFER))
            .serve_connection(TokioIo::new(socket), exchanges)
            .with_upgrades();
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = tasks.draining() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended early");
        }
    }
}

/// What a connection may buffer at least, so that bodies are read in large pieces.
const SMALLEST_BUFFER: usize = 256 * 1024;

#[cfg(test)]
mod tests;
