//! The dialer: new connections to receivers, resolved, checked, connected and secured.
//!
//! Owns the error codes of failures before the request is sent. Its invariant: it dials only
//! addresses that the guard has checked for this connection, and resolves no name itself. It
//! ignores proxy settings of the environment.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hyper::client::conn::{http1, http2};
use hyper_rustls::ConfigBuilderExt;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use super::connection::ReceiverConnection;
use super::response_excerpt::PIECE;
use super::ssrf_guard::SsrfGuard;
use crate::hyper_timer::HyperTimer;
use crate::open_files;
use crate::wire::{PeekUnread, Wire};
use cloakroom_domain::webhooks::{DeliveryError, Destination};
use cloakroom_runtime::LogThrottle;
use cloakroom_runtime::clock::Clock;
use cloakroom_runtime::lifecycle::Tasks;

/// The receive buffer of a connection, in bytes: a receiver that sends without end fills no more
/// than that.
const TAKEN_IN: u32 = 32 * 1024;

/// How long an address is tried alone before the next one is tried beside it.
const STAGGER: Duration = Duration::from_millis(250);
/// The most addresses of one name that are tried.
const MOST_ADDRESSES: usize = 8;

/// The most that the fields of an answer over HTTP/2 may take, in bytes. The library has no status
/// for an answer whose fields take more, so it is far above what receivers send.
const MOST_FIELDS: u32 = 256 * 1024;
/// The most that the head of an answer over HTTP/1 may take, in bytes.
const LONGEST_HEAD: usize = 64 * 1024;
/// How much of an HTTP/2 answer may come before it was asked for, in bytes.
const WINDOW: u32 = 16 * 1024;
/// How an HTTP/2 connection that has died without a word is found out.
const PING: Duration = Duration::from_secs(5);

/// Which certificate authorities are trusted.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Those of this machine.
    System,
    /// These alone.
    Only(Vec<CertificateDer<'static>>),
}

/// The reason why no response came: a code, and a detail for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SendError {
    pub(super) code: DeliveryError,
    pub(super) detail: String,
}

impl SendError {
    pub(super) fn new(code: DeliveryError, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

/// How far an attempt has come: when its time is up, that decides the code.
#[derive(Debug, Default)]
pub(super) struct AttemptProgress(AtomicU8, AtomicBool);

impl AttemptProgress {
    const CONNECTING: u8 = 1;
    const CONNECTED: u8 = 2;

    fn reached(&self, stage: u8) {
        self.0.store(stage, Ordering::Release);
    }

    /// Says that a request is being sent.
    pub(super) fn connected(&self) {
        self.1.store(false, Ordering::Release);
        self.reached(Self::CONNECTED);
    }

    /// Whether it came no further because this process had no files left.
    pub(super) fn was_short(&self) -> bool {
        self.1.load(Ordering::Acquire)
    }

    /// The error code if the time is up now.
    pub(super) fn when_late(&self) -> DeliveryError {
        match self.0.load(Ordering::Acquire) {
            0 => DeliveryError::Unresolvable,
            Self::CONNECTING => DeliveryError::ConnectTimeout,
            _ => DeliveryError::Timeout,
        }
    }
}

/// Makes connections.
pub(super) struct ReceiverDialer {
    guard: Arc<SsrfGuard>,
    // None: this machine has no certificate authorities.
    tls: Option<TlsConnector>,
    clock: Clock,
    tasks: Tasks,
    shortage: LogThrottle,
}

impl ReceiverDialer {
    pub(super) fn new(guard: Arc<SsrfGuard>, trust: Trust, clock: Clock, tasks: Tasks) -> Self {
        let tls = match tls(trust) {
            Ok(config) => Some(TlsConnector::from(Arc::new(config))),
            Err(error) => {
                tracing::warn!(%error, "no certificate authorities: webhooks over https will fail");
                None
            }
        };
        Self { guard, tls, clock, tasks, shortage: LogThrottle::default() }
    }

    /// A new connection to a destination.
    pub(super) async fn dial(
        &self,
        to: &Destination,
        progress: &AttemptProgress,
    ) -> Result<ReceiverConnection, SendError> {
        let refused = |refused: super::ssrf_guard::GuardRefusal| {
            SendError::new(refused.code(), refused.to_string())
        };
        let addresses = self.guard.addresses(to).await;
        let addresses =
            addresses.inspect_err(|error| self.look(error, progress)).map_err(refused)?;
        progress.reached(AttemptProgress::CONNECTING);
        let connected = self.connect(addresses).await;
        let stream =
            connected.inspect_err(|error| self.look(error, progress)).map_err(|error| {
                let code = match error.kind() {
                    io::ErrorKind::TimedOut => DeliveryError::ConnectTimeout,
                    _ => DeliveryError::ConnectFailed,
                };
                SendError::new(code, error.to_string())
            })?;
        // Small requests must not wait for one another's acknowledgement; where that cannot
        // be asked for, they do.
        let _ = stream.set_nodelay(true);
        if !to.is_tls() {
            return self.one(stream).await;
        }
        let stream = self.secure(to, stream).await?;
        match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => self.many(stream).await,
            _ => self.one(stream).await,
        }
    }

    /// Looks whether it was this process that had no files left.
    fn look(&self, error: &(dyn Error + 'static), progress: &AttemptProgress) {
        if !open_files::are_short(error) {
            return;
        }
        progress.1.store(true, Ordering::Release);
        if let Some(times) = self.shortage.due(&self.clock) {
            tracing::warn!(
                times,
                "no open files are left to connect to a receiver with; raise their limit, or lower \
                 server.max_connections and webhooks.slots"
            );
        }
    }

    /// The first of these that answers: each gets a moment alone.
    async fn connect(&self, addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
        let mut waiting = addresses.into_iter().take(MOST_ADDRESSES);
        let mut trying = FuturesUnordered::new();
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        trying.extend(waiting.next().map(open));
        loop {
            let has_more = waiting.len() > 0;
            tokio::select! {
                biased;
                tried = trying.next() => match tried {
                    Some(Ok(stream)) => return Ok(stream),
                    Some(Err(error)) => last = error,
                    None if has_more => {}
                    None => return Err(last),
                },
                () = self.clock.sleep(STAGGER), if has_more => {}
            }
            trying.extend(waiting.next().map(open));
        }
    }

    async fn secure(
        &self,
        to: &Destination,
        stream: TcpStream,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, SendError> {
        let failed = |detail: &str| SendError::new(DeliveryError::TlsFailed, detail);
        let tls =
            self.tls.as_ref().ok_or_else(|| failed("no certificate authorities are known"))?;
        let name = to.name().trim_end_matches('.').to_owned();
        let name = ServerName::try_from(name).map_err(|error| failed(&error.to_string()))?;
        tls.connect(name, stream)
            .await
            .map_err(|error| SendError::new(tls_code(&error), error.to_string()))
    }

    async fn one<T>(&self, stream: T) -> Result<ReceiverConnection, SendError>
    where
        T: AsyncRead + AsyncWrite + PeekUnread + Unpin + Send + 'static,
    {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(PIECE);
        let (wire, exchange) = Wire::new(TokioIo::new(stream), LONGEST_HEAD);
        let wire = wire.for_statuses();
        let (sender, driver) = builder.handshake(wire).await.map_err(|error| unspoken(&error))?;
        // Ends with its connection; what goes wrong there is told to the exchange on it.
        let task = self.tasks.spawn_here(async move {
            let _ = driver.await;
        });
        Ok(ReceiverConnection::one(sender, exchange, task.abort_handle()))
    }

    async fn many<T>(&self, stream: T) -> Result<ReceiverConnection, SendError>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = http2::Builder::new(OnTasks(self.tasks.clone()));
        builder
            .timer(HyperTimer(self.clock.clone()))
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(4 * WINDOW)
            .max_header_list_size(MOST_FIELDS)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .keep_alive_while_idle(true);
        let (sender, driver) =
            builder.handshake(TokioIo::new(stream)).await.map_err(|error| unspoken(&error))?;
        self.tasks.spawn_here(async move {
            let _ = driver.await;
        });
        Ok(ReceiverConnection::many(sender))
    }
}

/// Connects to one address.
async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Before it connects: the other side is told then how much it may send.
    socket.set_recv_buffer_size(TAKEN_IN)?;
    socket.connect(address).await
}

impl std::fmt::Debug for ReceiverDialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReceiverDialer").field("guard", &self.guard).finish_non_exhaustive()
    }
}

/// Runs what an HTTP/2 connection needs to run beside it.
#[derive(Clone)]
struct OnTasks(Tasks);

impl<F> hyper::rt::Executor<F> for OnTasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn_here(task);
    }
}

fn unspoken(error: &hyper::Error) -> SendError {
    SendError::new(code_of(error), story(error))
}

fn tls(trust: Trust) -> io::Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let builder = match trust {
        Trust::System => builder.with_native_roots()?,
        Trust::Only(certificates) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates);
            builder.with_root_certificates(roots)
        }
    };
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn tls_code(error: &io::Error) -> DeliveryError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_)) => DeliveryError::CertificateInvalid,
        _ => DeliveryError::TlsFailed,
    }
}

/// The code of an exchange that broke off before the head of an answer had come.
pub(super) fn code_of(error: &hyper::Error) -> DeliveryError {
    if error.is_parse() {
        return DeliveryError::Protocol;
    }
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return DeliveryError::Reset;
    }
    match source_of_kind::<io::Error>(error) {
        // A receiver that wants a certificate of ours says so only after the handshake.
        Some(io) if source_of_kind::<rustls::Error>(io).is_some() || has_tls(io) => {
            DeliveryError::TlsFailed
        }
        Some(_) => DeliveryError::Reset,
        None => DeliveryError::Protocol,
    }
}

fn has_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(<dyn Error + Send + Sync>::is::<rustls::Error>)
}

fn source_of_kind<'e, E: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e E> {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        source = error.source();
    }
    None
}

/// An error and all that lies behind it, in one line.
pub(super) fn story(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut behind = error.source();
    while let Some(error) = behind {
        line.push_str(": ");
        line.push_str(&error.to_string());
        behind = error.source();
    }
    line
}
