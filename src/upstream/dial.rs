//! New connections: name lookup, TCP and TLS within one time limit, without proxies.

use std::error::Error;
use std::time::Duration;

use http::Uri;
use hyper::client::conn::http1;
use hyper::rt::{Read, Write};
use hyper::service::Service;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::service::TowerToHyperService;

use super::body::BoxError;
use super::connection::UpstreamConnection;
use super::error::{UpstreamError, story};
use super::settings::{HeaderCase, UpstreamSettings};
use crate::open_files;
use crate::wire::{PeekUnread, Wire};
use cloakroom_runtime::LogThrottle;
use cloakroom_runtime::clock::Clock;
use cloakroom_runtime::lifecycle::Tasks;

/// How soon the kernel looks whether a silent peer still exists, how often, and how soon again.
const KEEPALIVE: Duration = Duration::from_mins(1);
const QUESTIONS: u32 = 4;
const BETWEEN: Duration = Duration::from_secs(15);
/// How long octets in a tunnel may go without a sign that they have arrived.
const UNCONFIRMED: Duration = Duration::from_mins(2);
/// The pause before another try where the gateway has no files left.
const AGAIN: Duration = Duration::from_millis(100);

/// The purpose of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DialPurpose {
    /// Requests and their answers, which have time limits of their own.
    Exchanges,
    /// A tunnel, which lasts as long as its ends are there.
    Tunnel,
}

/// Makes connections.
#[derive(Debug)]
pub(super) struct UpstreamDialer {
    exchanges: Connectors,
    tunnels: Connectors,
    timeout: Duration,
    longest_head: usize,
    header_case: HeaderCase,
    clock: Clock,
    tasks: Tasks,
    shortage: LogThrottle,
}

/// The connectors without TLS and with it.
#[derive(Debug)]
struct Connectors {
    plain: TowerToHyperService<HttpConnector>,
    tls: Option<TowerToHyperService<HttpsConnector<HttpConnector>>>,
}

impl Connectors {
    fn new(tcp: HttpConnector, wants_tls: bool) -> std::io::Result<Self> {
        let tls = if wants_tls {
            let builder = HttpsConnectorBuilder::new().with_native_roots()?;
            let connector = builder.https_only().enable_http1().wrap_connector(tcp.clone());
            Some(TowerToHyperService::new(connector))
        } else {
            None
        };
        Ok(Self { plain: TowerToHyperService::new(tcp), tls })
    }
}

impl UpstreamDialer {
    /// Looks for certificate authorities only where TLS is wanted.
    pub(super) fn new(
        settings: &UpstreamSettings,
        wants_tls: bool,
        clock: Clock,
        tasks: Tasks,
    ) -> std::io::Result<Self> {
        let timeout = settings.connect_timeout;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_keepalive_interval(Some(BETWEEN));
        tcp.set_keepalive_retries(Some(QUESTIONS));
        // UpstreamInner among the addresses of a name, so that a dead one leaves time for the
        // next; the whole is bounded by the gateway's own clock.
        tcp.set_connect_timeout(Some(timeout));
        let mut tunnels = tcp.clone();
        // An upstream that takes its time over a large request is no dead one; in a tunnel
        // nothing else would find that out.
        tunnels.set_tcp_user_timeout(Some(UNCONFIRMED));
        Ok(Self {
            exchanges: Connectors::new(tcp, wants_tls)?,
            tunnels: Connectors::new(tunnels, wants_tls)?,
            timeout,
            longest_head: settings.max_response_headers,
            header_case: settings.header_case,
            clock,
            tasks,
            shortage: LogThrottle::default(),
        })
    }

    /// A new connection to an origin. Where the gateway has no files left for it, it is tried
    /// again until the time is over.
    pub(super) async fn dial(
        &self,
        origin: Uri,
        purpose: DialPurpose,
    ) -> Result<UpstreamConnection, UpstreamError> {
        let mut is_short = false;
        let connecting = async {
            loop {
                match self.connect(origin.clone(), purpose).await {
                    Err(error) if open_files::are_short(error.as_ref()) => is_short = true,
                    connected => return connected,
                }
                self.tell_shortage();
                self.clock.sleep(AGAIN).await;
            }
        };
        let connected = self.clock.timeout(self.timeout, connecting).await;
        match connected {
            Ok(connected) => {
                connected.map_err(|error| UpstreamError::unreachable(told(error.as_ref())))
            }
            Err(_) if is_short => Err(UpstreamError::out_of_files("no open files are left")),
            Err(_) => {
                let limit = self.timeout.as_secs_f64();
                Err(UpstreamError::unreachable(format!("not connected within {limit} s")))
            }
        }
    }

    fn tell_shortage(&self) {
        if let Some(times) = self.shortage.due(&self.clock) {
            tracing::warn!(
                times,
                "no open files are left to connect to an upstream with; raise their limit, or lower \
                 server.max_connections and engine.slots"
            );
        }
    }

    async fn connect(
        &self,
        origin: Uri,
        purpose: DialPurpose,
    ) -> Result<UpstreamConnection, BoxError> {
        let by = match purpose {
            DialPurpose::Exchanges => &self.exchanges,
            DialPurpose::Tunnel => &self.tunnels,
        };
        if origin.scheme_str() == Some("https") {
            let Some(tls) = &by.tls else { return Err("tls is not set up".into()) };
            return self.shake_hands(tls.call(origin).await?).await;
        }
        self.shake_hands(by.plain.call(origin).await?).await
    }

    async fn shake_hands<T>(&self, io: T) -> Result<UpstreamConnection, BoxError>
    where
        T: Read + Write + PeekUnread + Unpin + Send + 'static,
    {
        let (wire, exchange) = Wire::new(io, self.longest_head);
        let mut builder = http1::Builder::new();
        builder.title_case_headers(self.header_case == HeaderCase::Title);
        let (sender, driver) = builder.handshake(wire).await?;
        // Ends with its connection; what goes wrong there is told to the caller in flight.
        let task = self.tasks.spawn(async move {
            let _ = driver.with_upgrades().await;
        });
        Ok(UpstreamConnection::new(sender, exchange, task.abort_handle()))
    }
}

/// What went wrong, and what to set where that follows from it.
fn told(error: &(dyn Error + 'static)) -> String {
    let mut line = story(error);
    if speaks_no_tls(error) {
        line.push_str("; it speaks no TLS: begin the upstream's url with http instead of https");
    }
    line
}

/// Whether what came in place of a handshake is none of TLS.
fn speaks_no_tls(error: &(dyn Error + 'static)) -> bool {
    use rustls::{Error::InvalidMessage, InvalidMessage::InvalidContentType};
    let mut behind = Some(error);
    while let Some(error) = behind {
        if let Some(InvalidMessage(InvalidContentType)) = error.downcast_ref() {
            return true;
        }
        // An error of input and output is asked for what is in it, and passes over it otherwise.
        behind = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}
