//! New connections: name lookup, TCP and TLS within one limit, no proxies.

use std::time::Duration;

use http::Uri;
use hyper::client::conn::http1;
use hyper::rt::{Read, Write};
use hyper::service::Service;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::service::TowerToHyperService;

use super::body::BoxError;
use super::broken::{Broken, story};
use super::connection::Connection;
use crate::clock::Clock;
use crate::lifecycle::Tasks;

/// How soon the kernel looks whether a silent peer still exists.
const KEEPALIVE: Duration = Duration::from_mins(1);

/// Makes connections.
#[derive(Debug)]
pub(super) struct Dialer {
    plain: TowerToHyperService<HttpConnector>,
    tls: Option<TowerToHyperService<HttpsConnector<HttpConnector>>>,
    timeout: Duration,
    clock: Clock,
    tasks: Tasks,
}

impl Dialer {
    /// `timeout` is for everything up to the end of the TLS handshake. Looks for
    /// certificate authorities only where TLS is wanted.
    pub(super) fn new(
        timeout: Duration,
        wants_tls: bool,
        clock: Clock,
        tasks: Tasks,
    ) -> std::io::Result<Self> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEPALIVE));
        // Shared among the addresses of a name, so that a dead one leaves time for the
        // next; the whole is bounded by the gateway's own clock.
        tcp.set_connect_timeout(Some(timeout));
        let tls = if wants_tls {
            let builder = HttpsConnectorBuilder::new().with_native_roots()?;
            let connector = builder.https_only().enable_http1().wrap_connector(tcp.clone());
            Some(TowerToHyperService::new(connector))
        } else {
            None
        };
        Ok(Self { plain: TowerToHyperService::new(tcp), tls, timeout, clock, tasks })
    }

    /// A new connection to an origin.
    pub(super) async fn dial(&self, origin: Uri) -> Result<Connection, Broken> {
        let Ok(connected) = self.clock.timeout(self.timeout, self.connect(origin)).await else {
            let limit = self.timeout.as_secs_f64();
            return Err(Broken::unreachable(format!("not connected within {limit} s")));
        };
        connected.map_err(|error| Broken::unreachable(story(error.as_ref())))
    }

    async fn connect(&self, origin: Uri) -> Result<Connection, BoxError> {
        if origin.scheme_str() == Some("https") {
            let Some(tls) = &self.tls else { return Err("tls is not set up".into()) };
            return self.shake_hands(tls.call(origin).await?).await;
        }
        self.shake_hands(self.plain.call(origin).await?).await
    }

    async fn shake_hands<T>(&self, io: T) -> Result<Connection, BoxError>
    where
        T: Read + Write + Unpin + Send + 'static,
    {
        let (sender, driver) = http1::handshake(io).await?;
        // Ends with its connection; what goes wrong there is told to the caller in flight.
        let task = self.tasks.spawn(async move {
            let _ = driver.with_upgrades().await;
        });
        Ok(Connection::new(sender, task.abort_handle()))
    }
}
